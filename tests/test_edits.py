"""Edits: after a change of files of the project alone, the image is that of a whole build, without a plan."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import platform
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import builds
import pytest
from base_maker import FakeBase, serve
from builds import Bench, Outcome
from fake_engine import FakeEngine
from fake_registry import FakeRegistry
from hatchling.builders.wheel import WheelBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.base.image import Base
from hatch_docker.errors import ImageError
from hatch_docker.image.bytecode.chunks import identify
from hatch_docker.image.bytecode.known import KnownPython
from hatch_docker.image.bytecode.process import script, talk
from hatch_docker.oci.layer import Entry, Layer, WriteOptions, write_layer
from hatch_docker.oci.rewriting import absent_parents, read_entries, with_contents
from hatch_docker.plan import plan as decide
from hatch_docker.services import Services
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.wheels.patch import PatchedWheel, UnlikeError

HOUR = 3600 * 10**9
VERSION = platform.python_version()
MINOR = ".".join(VERSION.split(".")[:2])
BASE = FakeBase(python=VERSION)
FILES = {
    "src/shop/cart.py": "import json\n\n\ndef total() -> int:\n    return 1\n",
    "src/shop/data.json": '{"a": 1}\n',
    "src/shop/page.html": "<p>hello</p>\n",
    "src/shop/empty.py": "",
    "src/shop/README.md": "# Shop\n",
    "src/shop/NOTICE": "(c)\n",
    "src/shop/tests/__init__.py": "",
    "src/shop/tests/test_cart.py": "import shop\n",
    "src/shop/conftest.py": "",
    "src/shop/settings.ini": "[shop]\n",
    "src/shop/common.py": "A = 1\n",
}
PROJECT = 'readme = "src/shop/README.md"\nlicense-files = ["src/shop/NOTICE"]\n'


@dataclass
class Runs:
    """Runs of `hatch-docker build` in a project, whose base and engine are fakes; `plans` counts those that planned."""

    bench: Bench
    project: Path
    registry: FakeRegistry
    engine: FakeEngine
    arguments: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    plans: list[int] = field(default_factory=list)

    def __call__(self, *arguments: str, cache: str = "cache") -> Outcome:
        cached = self.bench.root / cache
        environ = builds.environment(cached, DOCKER_HOST=self.engine.address, BUILD="0", **self.env)
        now = time.time_ns

        def plan(*given: Any, **options: Any) -> Any:
            self.plans.append(1)
            return decide(*given, **options)

        # The files of this test are older than any build.
        with (
            mock.patch("hatch_docker.session.plan", plan),
            mock.patch("hatch_docker.edits.recording.known_python", known_here(cached)),
            mock.patch("hatch_docker.image.bytecode.known.compiling_command", return_value=(*HERE, script())),
            mock.patch("time.time_ns", side_effect=lambda: now() + HOUR),
        ):
            outcome = builds.command("build", *self.arguments, *arguments, env=environ, folder=self.project)
        assert outcome.code == 0, outcome.err
        return outcome

    def edit(self, path: str, change: Callable[[bytes], bytes]) -> None:
        file = self.project / path
        file.write_bytes(change(file.read_bytes()))

    def planned(self) -> tuple[bool, Said]:
        """Run it; whether a plan was made, and what the build made and said."""
        before = len(self.plans)
        said = self.said()
        return len(self.plans) > before, said

    def said(self, cache: str = "cache") -> Said:
        outcome = self(cache=cache)
        result = builds.result_of(self.project)
        lines = [re.sub(r" (made|reused)$", "", line) for line in outcome.err.splitlines() if not _VARIES.search(line)]
        return Said(result=without(result, "reused"), out=outcome.out, lines=lines)

    def whole(self) -> Said:
        """What a whole build with an empty cache makes and says of the same sources."""
        return self.said(f"fresh-{len(self.plans)}")


@dataclass(frozen=True)
class Said:
    """The result file, standard output, and the lines of standard error that do not vary."""

    result: Any
    out: str
    lines: list[str]


# Times, downloads, and the line below the head of a table, which is as long as the longest row.
_VARIES = re.compile(r" in \d+\.\d s$|^  pulling |^  ─+$")


def without(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: without(each, key) for name, each in value.items() if name != key}
    return [without(each, key) for each in value] if isinstance(value, list) else value


# The command of this test's Python.
HERE = ("/usr/bin/env", "PYTHONHASHSEED=0", sys.executable, "-S", "-s", "-B", "-c")


def known_here(cache: Path) -> Callable[..., KnownPython]:
    """The Python of this test in the place of the base's, which has no program."""

    def known(base: Base, services: Services, *, optimization: int) -> KnownPython:
        identity = identify(lambda given: talk(given, command=(*HERE, script()), environ={}), base.facts.python)
        digest = f"sha256:{hashlib.sha256(b'').hexdigest()}"
        services.cache.add([b""], digest, what="nothing")
        ending = f".cpython-{MINOR.replace('.', '')}{f'.opt-{optimization}' if optimization else ''}.pyc"
        return KnownPython(
            archive=digest,
            interpreter="/python",
            answer=identity.answer.decode(),
            optimization=optimization,
            ending=ending,
        )

    return known


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def run(bench: Bench) -> Iterator[Runs]:
    with FakeRegistry() as registry, FakeEngine() as engine:
        serve(bench.base(BASE), registry, "team/base", "1")
        yield runs(bench, registry, engine)


def runs(bench: Bench, registry: FakeRegistry, engine: FakeEngine, docker: str = "", **options: Any) -> Runs:
    shared = bench.wheel("alpha", files={"shop/common.py": "A = 1\n"})
    table = f'base = "{registry.host}/team/base:1"\n{docker}'
    given = {"wheels": [shared], "files": FILES, "project": PROJECT, "docker": table, **options}
    return Runs(bench, bench.project(base="", **given), registry, engine)


def appended(text: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data + text


SAFE: Mapping[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a comment": ("src/shop/cart.py", appended(b"# more\n")),
    "another body": ("src/shop/cart.py", lambda data: data.replace(b"return 1", b"return 2")),
    "an import": ("src/shop/cart.py", appended(b"import asyncio, os.path\n")),
    "nothing left": ("src/shop/cart.py", lambda _: b""),
    "an empty module": ("src/shop/empty.py", appended(b"x = 'm\xc3\xb6re'\n")),
    "the module that starts": ("src/shop/__init__.py", appended(b"X = {'a', 'b'}\n")),
    "many lines": ("src/shop/cart.py", appended(b"".join(b"x%d = %d\n" % (n, n * n) for n in range(5000)))),
    "data": ("src/shop/data.json", lambda _: b'{"b": 2}'),
    "text that nothing reads": ("src/shop/page.html", appended(b"\xff\x00 tests/\n")),
}
# Compiling takes most of the time of these tests.
COMPILED = ("a comment", "an empty module", "the module that starts", "data")
UNSAFE: Mapping[str, tuple[str, Callable[[bytes], bytes]]] = {
    "the readme": ("src/shop/README.md", appended(b"more\n")),
    "a licence": ("src/shop/NOTICE", appended(b"more\n")),
    "a test": ("src/shop/tests/test_cart.py", appended(b"# more\n")),
    "pytest's file": ("src/shop/conftest.py", appended(b"# more\n")),
    "a use of tests": ("src/shop/cart.py", appended(b"import alpha.tests\n")),
    "a library to open": ("src/shop/cart.py", appended(b"import ctypes\nctypes.CDLL('libfoo.so.1')\n")),
    "a mistake in the syntax": ("src/shop/cart.py", appended(b"def\n")),
    "a file that a dependency has, too": ("src/shop/common.py", appended(b"# more\n")),
    "the metadata": ("pyproject.toml", appended(b"# more\n")),
}


class TestAnEdit:
    @pytest.mark.parametrize("name", SAFE)
    def test_gives_the_image_of_a_whole_build_without_a_plan(self, run: Runs, name: str) -> None:
        run.env["HATCH_DOCKER_BYTECODE"] = "true" if name in COMPILED else "false"
        run()
        run.edit(*SAFE[name])
        planned, said = run.planned()
        assert not planned
        assert said == run.whole()

    @pytest.mark.parametrize("name", UNSAFE)
    def test_of_what_more_depends_on_needs_a_plan(self, run: Runs, name: str) -> None:
        run.env["HATCH_DOCKER_BYTECODE"] = "true" if "syntax" in name else "false"
        run()
        run.edit(*UNSAFE[name])
        assert run.planned()[0]

    @pytest.mark.parametrize(
        ("env", "docker"),
        [
            ({"HATCH_DOCKER_COMPRESSION": "zstd"}, ""),
            ({"SOURCE_DATE_EPOCH": "1600000000"}, ""),
            ({}, 'env = { PYTHONOPTIMIZE = "2" }'),
            ({}, 'user = "nobody"\nvolumes = ["/data"]\nworking-dir = "/app/data"'),
            ({"HATCH_DOCKER_MAX_LAYERS": "6"}, ""),
        ],
    )
    def test_gives_it_in_any_configuration(self, bench: Bench, env: dict[str, str], docker: str) -> None:
        with FakeRegistry() as registry, FakeEngine(containerd=bool(env)) as engine:
            serve(bench.base(BASE), registry, "team/base", "1")
            run = runs(bench, registry, engine, docker)
            run.env |= {"HATCH_DOCKER_BYTECODE": "true", **env}
            run()
            run.edit("src/shop/cart.py", appended(b"# more\n"))
            planned, said = run.planned()
            assert not planned
            assert said == run.whole()

    def test_of_a_build_of_hatch(self, bench: Bench) -> None:
        with FakeRegistry() as registry, FakeEngine() as engine:
            serve(bench.base(BASE), registry, "team/base", "1")
            run = runs(bench, registry, engine)
            now, plans = time.time_ns, []

            def plan(*given: Any, **options: Any) -> Any:
                plans.append(1)
                return decide(*given, **options)

            def build() -> Outcome:
                with (
                    mock.patch("hatch_docker.session.plan", plan),
                    mock.patch("time.time_ns", side_effect=lambda: now() + HOUR),
                ):
                    return bench.build(run.project, target="docker:load", DOCKER_HOST=engine.address, BUILD="0")

            first = build()
            run.edit("src/shop/cart.py", appended(b"# more\n"))
            second = build()
            assert (first.code, second.code, len(plans)) == (0, 0, 1)
            result = builds.result_of(run.project)
            assert second.out.splitlines()[-1].endswith(result["digest"])
            assert second.out.splitlines()[:-1] == first.out.splitlines()[:-1]
            assert result["images"][0]["image-id"] == engine.images["shop:latest"]["Id"]

    def test_may_be_followed_by_others_and_by_none(self, run: Runs) -> None:
        run()
        for number in range(3):
            run.edit("src/shop/cart.py", appended(b"# %d\n" % number))
            run.edit("src/shop/page.html", appended(b"%d" % number))
            planned, said = run.planned()
            assert not planned
        loads = len(run.engine.loads)
        assert run.planned() == (False, said)
        assert len(run.engine.loads) == loads
        assert said == run.whole()

    def test_says_which_layers_were_made(self, run: Runs) -> None:
        run.env["HATCH_DOCKER_BYTECODE"] = "true"
        run()
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        after = run()
        made = [line.split()[:3] for line in after.err.splitlines() if line.endswith(" made")]
        assert [each[:2] for each in made] == [["shop", "1.0"], ["bytecode", "of"]]
        assert all(layer["reused"] for layer in builds.result_of(run.project)["images"][0]["layers"][:-2])

    def test_is_loaded(self, run: Runs) -> None:
        run()
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        run()
        identity = builds.result_of(run.project)["images"][0]["image-id"]
        assert run.engine.images["shop:latest"]["Id"] == identity
        # The layers below are in the engine.
        assert len([name for name in run.engine.loads[-1] if name.startswith("blobs/")]) == 3

    def test_is_pushed(self, run: Runs) -> None:
        run.arguments = ("-t", f"{run.registry.host}/team/shop:1", "--push")
        run()
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        run.registry.requests.clear()
        planned, said = run.planned()
        # The tag that is there vouches for the other blobs.
        assert len(run.registry.sent("HEAD", "/blobs/")) == 2
        assert not planned
        digest = said.result["digest"]
        assert said.out.strip().endswith(digest)
        assert ("team/shop", digest) in run.registry.manifests
        assert run.registry.manifests["team/shop", "1"] == run.registry.manifests["team/shop", digest]
        assert run.planned() == (False, said)
        assert said.result == run.whole().result

    @pytest.mark.parametrize("gone", [("manifests", "blobs"), ("blobs",)])
    def test_is_pushed_whole_if_the_registry_lost_it(self, run: Runs, gone: tuple[str, ...]) -> None:
        run.arguments = ("-t", f"{run.registry.host}/team/shop:1", "--push")
        run()
        for name in gone:
            found = getattr(run.registry, name)
            for key in [key for key in found if key[0] == "team/shop"]:
                del found[key]
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        run()
        manifest = json.loads(run.registry.manifests["team/shop", "1"][1])
        for each in (manifest["config"], *manifest["layers"]):
            assert ("team/shop", each["digest"]) in run.registry.blobs

    def test_is_written_to_an_archive(self, run: Runs) -> None:
        run.arguments = ("-o", "type=oci,dest=shop.tar")
        run()
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        planned, said = run.planned()
        assert not planned
        builds.check_archive(run.project / "shop.tar", run.bench.root / "scratch")
        archive = (run.project / "shop.tar").read_bytes()
        assert run.planned() == (False, said)
        assert said == run.whole()
        assert (run.project / "shop.tar").read_bytes() == archive

    def test_of_a_project_with_a_version_in_a_module(self, bench: Bench) -> None:
        with FakeRegistry() as registry, FakeEngine() as engine:
            serve(bench.base(BASE), registry, "team/base", "1")
            more = '\n[tool.hatch.version]\npath = "src/shop/about.py"\n'
            files = {**FILES, "src/shop/about.py": '__version__ = "2.0"\n'}
            run = runs(bench, registry, engine, files=files, more=more)
            text = (run.project / "pyproject.toml").read_text()
            (run.project / "pyproject.toml").write_text(text.replace('version = "1.0"', 'dynamic = ["version"]', 1))
            run()
            run.edit("src/shop/cart.py", appended(b"# more\n"))
            planned, said = run.planned()
            assert not planned
            assert said == run.whole()
            run.edit("src/shop/about.py", appended(b"# more\n"))
            assert run.planned()[0]


class TestAWholeBuild:
    @pytest.mark.parametrize(
        "change",
        [
            lambda project: (project / "src/shop/new.py").write_text("x = 1\n"),
            lambda project: (project / "src/shop/page.html").unlink(),
            lambda project: (project / "src/shop/cart.py").chmod(0o755),
            lambda project: _linked(project / "src/shop/page.html"),
            lambda project: (project / "pylock.toml").write_text((project / "pylock.toml").read_text() + "\n"),
        ],
    )
    def test_follows_any_other_change_beside_an_edit(self, run: Runs, change: Callable[[Path], object]) -> None:
        run()
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        change(run.project)
        assert run.planned()[0]

    def test_is_asked_for(self, run: Runs) -> None:
        run()
        for arguments in (["--no-cache"], ["--pull"]):
            run.edit("src/shop/cart.py", appended(b"# more\n"))
            before = len(run.plans)
            run(*arguments)
            assert len(run.plans) > before
        run.env["HATCH_DOCKER_VERIFY"] = "1"
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        assert run.planned()[0]

    @pytest.mark.parametrize("lost", ["blobs", "verified"])
    def test_follows_if_the_cache_was_emptied(self, run: Runs, lost: str) -> None:
        run()
        for path in builds.files_below(run.bench.cache / "blobs"):
            path.unlink() if lost == "blobs" else path.write_bytes(b"damaged")
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        assert run.planned()[0]

    def test_follows_another_base_under_the_tag(self, run: Runs) -> None:
        run()
        serve(run.bench.base(FakeBase(python=VERSION, files={"srv/new": b"1"})), run.registry, "team/base", "1")
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        planned, said = run.planned()
        assert planned
        assert said == run.whole()

    @pytest.mark.parametrize(
        ("docker", "wheel"),
        [
            ('extra-files = [{ from = "src/shop/cart.py", into = "/srv/cart.py" }]', ""),
            ('extra-files = [{ from = "src", into = "/srv" }]', ""),
            ("", "reproducible = false"),
            ("", '[tool.hatch.build.targets.wheel.force-include]\n"src/shop/cart.py" = "other/cart.py"'),
        ],
        ids=["an extra file", "a folder of extra files", "times in the wheel", "a file twice"],
    )
    def test_follows_where_more_depends_on_files(self, bench: Bench, docker: str, wheel: str) -> None:
        base = FakeBase(python=VERSION)
        with FakeRegistry() as registry, FakeEngine() as engine:
            serve(bench.base(base), registry, "team/base", "1")
            run = runs(bench, registry, engine, docker, wheel=wheel)
            run()
            run.edit("src/shop/cart.py", appended(b"# more\n"))
            assert run.planned()[0]

    def test_follows_if_nothing_says_what_to_start(self, bench: Bench) -> None:
        with FakeRegistry() as registry, FakeEngine() as engine:
            serve(bench.base(BASE), registry, "team/base", "1")
            run = runs(bench, registry, engine, scripts={})
            assert "no entrypoint" in run().err
            run.edit("src/shop/cart.py", appended(b"from flask import Flask\napp = Flask()\n"))
            assert run.planned()[0]

    def test_follows_if_a_file_is_two_members(self, run: Runs) -> None:
        (run.project / "src/shop/again").symlink_to("parts", target_is_directory=True)
        (run.project / "src/shop/parts").mkdir()
        (run.project / "src/shop/parts/one.py").write_text("x = 1\n")
        run()
        run.edit("src/shop/parts/one.py", appended(b"# more\n"))
        assert run.planned()[0]

    @pytest.mark.parametrize("name", ["hatch.toml", ".gitignore", "uv.toml"])
    def test_follows_if_the_wheel_has_a_file_of_settings(self, bench: Bench, name: str) -> None:
        with FakeRegistry() as registry, FakeEngine() as engine:
            serve(bench.base(BASE), registry, "team/base", "1")
            run = runs(bench, registry, engine, files={**FILES, name: "#\n"})
            text = (run.project / "pyproject.toml").read_text()
            chosen = text.replace(
                'packages = ["src/shop"]', f'only-include = ["src/shop", "{name}"]\nsources = ["src"]'
            )
            (run.project / "pyproject.toml").write_text(chosen)
            run()
            run.edit("src/shop/cart.py", appended(b"# more\n"))
            assert not run.planned()[0]
            run.edit(name, appended(b"# more\n"))
            assert run.planned()[0]

    def test_follows_if_the_metadata_quotes_a_file(self, bench: Bench) -> None:
        with FakeRegistry() as registry, FakeEngine() as engine:
            serve(bench.base(BASE), registry, "team/base", "1")
            run = runs(bench, registry, engine, project='license.file = "src/shop/page.html"\n')
            run()
            run.edit("src/shop/page.html", appended(b"more"))
            assert run.planned()[0]

    def test_follows_if_a_file_was_too_large_to_be_looked_at(self, run: Runs) -> None:
        text = b'"alpha/tests/data"\n'
        (run.project / "src/shop/data.json").write_bytes(text + b" " * (1 << 20))
        run()
        run.edit("src/shop/data.json", lambda _: text)
        assert run.planned()[0]

    def test_follows_if_the_engine_refuses(self, run: Runs) -> None:
        run()
        run.edit("src/shop/cart.py", appended(b"# more\n"))
        run.engine.answers += [(500, b'{"message":"no"}'), (500, b'{"message":"no"}')]
        assert run.planned()[0]


def _linked(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.symlink_to(path.with_suffix(".old").name)


def test_an_edit_imports_neither_hatchling_nor_what_plans(run: Runs) -> None:
    program = """
import sys
from hatch_docker.frontends.cli.main import main
main(["build", "-q"])
print(*sys.modules)
"""
    env = builds.environment(run.bench.cache, DOCKER_HOST=run.engine.address, BUILD="0")

    def modules() -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, cwd=run.project, capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    for path in [*run.project.rglob("*"), run.project]:
        _age(path)
    assert "hatchling" in modules()
    run.edit("src/shop/cart.py", appended(b"# more\n"))
    found = modules()
    assert "hatch_docker.edits.run" in found
    assert not {
        "hatchling", "packaging", "pathspec", "docker", "hatch_docker.session", "hatch_docker.config",
        "hatch_docker.plan", "hatch_docker.build", "hatch_docker.locks", "hatch_docker.wheels.content",
        "hatch_docker.image.report", "hatch_docker.image.bytecode.ways",
    } & found  # fmt: skip


def _age(path: Path) -> None:
    """Nothing: a file's time of change cannot be set, so the build waits until its files are older."""
    while time.time() - path.lstat().st_ctime < 0.05:
        time.sleep(0.01)


TEXTS = (
    st.binary(max_size=300)
    | st.text(max_size=300).map(str.encode)
    | st.binary(max_size=9).map(lambda each: each * 9000)
)


class TestPatchedWheels:
    @given(before=TEXTS, after=TEXTS, other=TEXTS)
    @settings(max_examples=20)
    def test_are_those_that_hatchling_builds(
        self, tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes, other: bytes
    ) -> None:
        root = tmp_path_factory.mktemp("wheel")
        (root / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1"\n')
        (root / "shop").mkdir()
        for name, content in (("__init__.py", b""), ("a.py", before), ("b.bin", other)):
            (root / "shop" / name).write_bytes(content)
        wheel = PatchedWheel(built(root), "shop-1.dist-info/RECORD")
        assert wheel.read("shop/a.py") == before
        (root / "shop" / "a.py").write_bytes(after)
        assert wheel.replaced({"shop/a.py": after}) == built(root)

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_LZMA])
    def test_of_other_writers_are_refused(self, method: int) -> None:
        with pytest.raises(UnlikeError):
            PatchedWheel(zipped(method), "x-1.dist-info/RECORD")

    def test_of_another_level_are_refused(self) -> None:
        wheel = PatchedWheel(zipped(zipfile.ZIP_DEFLATED, level=1), "x-1.dist-info/RECORD")
        with pytest.raises(UnlikeError):
            wheel.replaced({"a.py": b"1"})

    @given(st.integers(0, 400), st.integers(1, 255))
    def test_that_are_damaged_are_refused_or_read(self, at: int, bits: int) -> None:
        data = bytearray(zipped(zipfile.ZIP_DEFLATED))
        data[at % len(data)] ^= bits
        with contextlib.suppress(UnlikeError):
            PatchedWheel(bytes(data), "x-1.dist-info/RECORD").read("a.py")


def built(root: Path) -> bytes:
    (path,) = WheelBuilder(str(root)).build(directory=str(root / "dist"), versions=["standard"])
    return Path(path).read_bytes()


def zipped(method: int, level: int | None = None) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method, compresslevel=level) as archive:
        archive.writestr("a.py", "".join(f"x{n} = {n % 7}\n" for n in range(200)))
        archive.writestr("x-1.dist-info/RECORD", "")
    return data.getvalue()


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=60
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh."))
ENTRIES = st.dictionaries(
    NAMES,
    st.builds(
        Entry, path=st.just(""), mode=st.sampled_from([0o644, 0o755]), content=st.binary(max_size=2000),
        uid=st.integers(0, 70000), gid=st.integers(0, 70000),
    ) | st.builds(Entry, path=st.just(""), mode=st.just(0o777), link=NAMES),
    min_size=1, max_size=6,
)  # fmt: skip


class TestRewrittenLayers:
    @given(ENTRIES, st.sampled_from(["gzip", "zstd"]), st.booleans(), st.binary(max_size=500))
    def test_are_those_that_are_written_of_the_new_contents(
        self, found: Mapping[str, Entry], compression: str, present: bool, content: bytes
    ) -> None:
        entries = {f"app/{name}": renamed(entry, f"app/{name}") for name, entry in found.items()}
        folders = {"app"} if present else set()
        read = read_entries(written([*entries.values()], compression, folders))
        files = [path for path, entry in entries.items() if entry.content is not None][:1]
        changed = [Entry(path=each.path, mode=each.mode, content=content, uid=each.uid, gid=each.gid)
                   if each.path in files else each for each in entries.values()]  # fmt: skip
        again = with_contents(read, dict.fromkeys(files, content))
        expected = written(changed, compression, folders)
        assert written(again, compression, absent_parents(again)).descriptor == expected.descriptor

    def test_have_only_files_that_they_had(self) -> None:
        with pytest.raises(ImageError):
            with_contents({"a": Entry(path="a", link="b")}, {"a": b""})


def renamed(entry: Entry, path: str) -> Entry:
    return Entry(path=path, mode=entry.mode, content=entry.content, link=entry.link, uid=entry.uid, gid=entry.gid)


def written(entries: list[Entry], compression: str, present: set[str] | frozenset[str]) -> Layer:
    out = io.BytesIO()
    made = write_layer(entries, out, WriteOptions(compression=compression), present=present)
    data = out.getvalue()
    return Layer(descriptor=made.descriptor, diff_id=made.diff_id, open=lambda: io.BytesIO(data))
