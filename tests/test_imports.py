"""A build imports only what it runs: without changes, nothing that downloads, resolves, compiles or pushes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import builds
import pytest
from base_maker import serve
from builds import Bench
from fake_engine import FakeEngine
from fake_registry import FakeRegistry

import hatch_docker

_PROGRAM = """
import sys, time
now = time.time_ns
# The files of this test are older than any build.
time.time_ns = lambda: now() + 3600 * 10**9
from hatch_docker.frontends.cli.main import main
main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
"""
# Modules and packages, each with the work that needs it.
_DOWNLOADS = {
    "urllib3",
    "html.parser",
    "hatch_docker.support.connections",
    "hatch_docker.index.client",
    "hatch_docker.index.settings",
}
_PULLS = {"hatch_docker.oci.merging", "hatch_docker.base.interpreter"}
_PUSHES = {"hatch_docker.oci.registry.push", "hatch_docker.oci.registry.joining"}
_ENGINE = {"docker", "requests", "hatch_docker.engine.client", "hatch_docker.os_packages.install"}
_DEBIAN = {"hatch_docker.debian.archive", "hatch_docker.debian.sources", "hatch_docker.dpkg.provide", "pysequoia"}
_COMPILES = {
    "hatch_docker.compiling.compile",
    "hatch_docker.compiling.trees",
    "hatch_docker.compiling.local",
    "hatch_docker.image.bytecode.ways",
}
_LOCKS = {
    "hatch_docker.locks.resolve",
    "hatch_docker.locks.readers.uv_lock",
    "hatch_docker.locks.readers.poetry_lock",
    "hatch_docker.locks.readers.requirements",
}
_WHEELS = {"hatch_docker.wheels.content", "hatch_docker.wheels.scan", "hatch_docker.wheels.lexer"}
_PROJECTS = {
    "hatch_docker.project.backend",
    "hatch_docker.project.files",
    "hatch_docker.project.gitignore",
    "hatch_docker.project.unwanted",
}
_CACHES = {"hatch_docker.caching", "hatch_docker.support.lanes"}
_SHOWS = {"rich", "hatch_docker.frontends.cli.plan", "hatch_docker.frontends.cli.lock"}
_UNUSED = {
    *_DOWNLOADS,
    *_PULLS,
    *_PUSHES,
    *_ENGINE,
    *_DEBIAN,
    *_COMPILES,
    *_LOCKS,
    *_WHEELS,
    *_PROJECTS,
    *_CACHES,
    *_SHOWS,
}
# A replay compares files and asks two questions: it imports next to nothing.
_NOT_REPLAYED = {
    "argparse",
    "dataclasses",
    "email",
    "hatchling",
    "http.client",
    "inspect",
    "packaging",
    "pathlib",
    "platformdirs",
    "shutil",
    "ssl",
    "subprocess",
    "tempfile",
    "typing",
    "urllib.parse",
    "urllib.request",
    "hatch_docker.frontends.cli.program",
    "hatch_docker.oci.reference",
    "hatch_docker.session",
    "hatch_docker.stamps.values",
    "hatch_docker.support.cache",
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_of_a_build_without_news(bench: Bench) -> None:
    with FakeRegistry() as registry:
        digest = serve(bench.base(), registry, "team/base", "1")
        wheels = [bench.wheel(name) for name in ("alpha", "beta")]
        project = bench.project(base="", wheels=wheels, docker=f'base = "{registry.host}/team/base@{digest}"')
        arguments = ["build", "-q", "-o", f"type=oci,dest={bench.root / 'image.tar'}", str(project)]
        first = builds.command(*arguments, env=builds.environment(bench.cache), folder=bench.root)
        assert first.code == 0, first.err
    loaded = _modules_of(arguments, builds.environment(bench.cache), bench.root)
    assert "hatch_docker.image.report" in loaded
    assert not _UNUSED & loaded


def test_of_a_replay(bench: Bench) -> None:
    with FakeRegistry() as registry, FakeEngine() as engine:
        serve(bench.base(), registry, "team/base", "1")
        project = bench.project(
            base="", wheels=[bench.wheel("alpha")], docker=f'base = "{registry.host}/team/base:1"', folder="project"
        )
        environ = builds.environment(bench.cache, DOCKER_HOST=engine.address)
        del environ["HATCH_DOCKER_CACHE_DIR"]
        assert "hatch_docker.session" in _modules_of(["build", "-q"], environ, project)
        # The first replay writes the result file, in which nothing is new any more.
        _modules_of(["build", "-q"], environ, project)
        registry.requests.clear()
        engine.requests.clear()
        loaded = _modules_of(["build", "-q"], environ, project)
        assert ([request.method for request in registry.requests], len(engine.requests)) == (["HEAD"], 1)
    assert (_UNUSED | _NOT_REPLAYED) & loaded == set()


def _modules_of(arguments: list[str], environ: Mapping[str, str], folder: Path) -> set[str]:
    """The modules that a command imported, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(Path(hatch_docker.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def test_named_modules_exist() -> None:
    # A module that was renamed would no longer be looked for.
    names = [name for name in _UNUSED | _NOT_REPLAYED if name.startswith("hatch_docker.")]
    program = "import sys, importlib.util\nfor name in sys.argv[1:]: assert importlib.util.find_spec(name), name"
    subprocess.run([sys.executable, "-c", program, *names], check=True)
