"""A build imports only what it runs: without changes, nothing that downloads, resolves, compiles or pushes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import builds
import pytest
from base_maker import serve
from builds import Bench
from fake_registry import FakeRegistry

import hatch_docker

_PROGRAM = """
import sys
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
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env=builds.environment(bench.cache, PYTHONPATH=str(Path(hatch_docker.__file__).parents[1])),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert "hatch_docker.image.report" in loaded
    assert not _UNUSED & loaded


def test_named_modules_exist() -> None:
    # A module that was renamed would no longer be looked for.
    names = [name for name in _UNUSED if name.startswith("hatch_docker.")]
    program = "import sys, importlib.util\nfor name in sys.argv[1:]: assert importlib.util.find_spec(name), name"
    subprocess.run([sys.executable, "-c", program, *names], check=True)
