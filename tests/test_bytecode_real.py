"""The same bytecode of real bases by all ways, in any order, and for another CPU."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import mirrors
from services_maker import make_services
from test_bytecode_sandbox import refusal

from hatch_docker.base.image import Base, open_base
from hatch_docker.base.target import TargetPython
from hatch_docker.base.transports import BaseRequest
from hatch_docker.config import BaseSpec, Settings
from hatch_docker.errors import BytecodeUnavailableError
from hatch_docker.image.bytecode import known, start, ways
from hatch_docker.image.bytecode.compiler import Compiler, Source
from hatch_docker.image.bytecode.frames import answers
from hatch_docker.image.bytecode.known import LIBRARIES
from hatch_docker.image.bytecode.stdlib import standard_library
from hatch_docker.image.bytecode.unpacked import archive
from hatch_docker.image.bytecode.ways import WAYS, open_compiler
from hatch_docker.oci.spec import Platform
from hatch_docker.services import Services
from hatch_docker.support import foreign
from hatch_docker.support.dataclasses import replace

pytestmark = pytest.mark.skipif(bool(refusal()), reason=f"no namespaces here: {refusal()}")
SANDBOX, CONTAINER, HOST = WAYS
BASES = [
    pytest.param("slim", marks=[pytest.mark.base, pytest.mark.engine]),
    pytest.param("alpine", marks=[pytest.mark.base, pytest.mark.engine]),
    pytest.param("debian", marks=[pytest.mark.debian, pytest.mark.engine]),
]


class Bench:
    """A base, and the ways that are tried for it."""

    def __init__(self, folder: Path, cache: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        transport, value = ("debian", "trixie") if name == "debian" else ("family", name)
        platform = Platform(architecture="amd64")
        self.request = BaseRequest(spec=BaseSpec(transport=transport, value=value), platform=platform)
        insecure = frozenset(each.partition("/")[0] for each in mirrors().values())
        settings = Settings(cache_dir=str(cache), registry_mirrors=mirrors(), insecure_registries=insecure)
        # The machine's own engine.
        environ = {key: value for key, value in os.environ.items() if key.startswith("DOCKER_")}
        self.services = make_services(folder, settings, {"DOCKER_HOST": "", **environ, "PATH": str(folder)})

    def base(self, architecture: str = "amd64") -> Base:
        return open_base(replace(self.request, platform=Platform(architecture=architecture)), self.services)

    def open(self, base: Base, *names: str) -> Compiler:
        self.monkeypatch.setattr(ways, "WAYS", {name: WAYS[name] for name in names})
        return open_compiler(base, self.request, self.services, optimization=0)

    def library(self, base: Base) -> list[Source]:
        return standard_library(base, self.services, optimization=0)


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, shared_cache, request.param, monkeypatch)


def parts_of(sources: Sequence[Source], size: int = 100) -> list[Sequence[Source]]:
    return [sources[start : start + size] for start in range(0, len(sources), size)]


def flat(codes: list[list[bytes | None]]) -> list[bytes | None]:
    return [code for chunk in codes for code in chunk]


def install(base: Base, services: Services, folder: Path) -> TargetPython:
    """Make the base's Python a program on the PATH of this machine, started by its own loader."""
    python = base.facts.python
    frames = answers(archive(base.merged, python, services.cache, threads=2))
    root = folder / "python"
    loader = ""
    for name, content in zip(frames[::2], frames[1::2], strict=True):
        path = root / bytes(name).decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
        loader = str(path) if path.name.startswith("ld-") else loader
    # Python 3.13 imports it for `-c`, and the archive has no module that compiling does not need.
    library = root / posixpath.dirname(posixpath.dirname(python.interpreter)).strip("/") / "lib" / python.lib_name
    (library / "linecache.py").write_text("def _register_code(*_): pass\n")
    program = folder / f"python{python.minor}"
    script = f'exec {loader} --library-path {root / LIBRARIES} {root}{python.interpreter} "$@"'
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return python


@pytest.mark.parametrize("bench", BASES, indirect=True)
def test_all_ways_give_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    base = bench.base()
    install(base, bench.services, tmp_path)
    sources = bench.library(base)
    assert len(sources) > 500
    expected = bench.open(base, SANDBOX).compile(parts_of(sources), checked=False)
    assert None not in flat(expected)
    for name in (CONTAINER, HOST):
        assert bench.open(base, name).compile(parts_of(sources), checked=False) == expected, name
    backwards = bench.open(base, SANDBOX).compile(parts_of(sources[::-1], 70), checked=False)
    assert flat(backwards)[::-1] == flat(expected)


@pytest.mark.debian
@pytest.mark.parametrize("bench", ["debian"], indirect=True)
def test_another_cpu_has_the_bytes_of_this_one(bench: Bench) -> None:
    base, other = bench.base(), bench.base("arm64")
    assert base.facts.python.version == other.facts.python.version
    sources = [each for each in bench.library(other) if "_sysconfigdata" not in each.path]
    assert [each for each in bench.library(base) if "_sysconfigdata" not in each.path] == sources
    compiler = bench.open(other, SANDBOX)
    assert compiler.way == "the base's Python for linux/amd64"
    expected = bench.open(base, SANDBOX).compile(parts_of(sources), checked=False)
    assert compiler.compile(parts_of(sources), checked=False) == expected


@pytest.mark.base
@pytest.mark.parametrize("bench", ["slim"], indirect=True)
def test_no_way_is_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    base = bench.base()
    # What the seccomp profile of containers does.
    script = bench.services.root / "sandbox.py"
    script.write_text(foreign.SANDBOX.read_text().replace("unshare", "acct"))
    monkeypatch.setattr(start, "SANDBOX", script)
    monkeypatch.setattr(known, "SANDBOX", script)
    bench.services = make_services(bench.services.root, Settings(cache_dir=str(bench.services.cache.root)))
    with pytest.raises(BytecodeUnavailableError) as raised:
        bench.open(base, *WAYS)
    assert [line.strip().partition(":")[0] for line in raised.value.message.splitlines()[1:]] == list(WAYS)
    assert "no container engine answers" in raised.value.message
    assert "neither PATH nor uv has this Python" in raised.value.message
    assert raised.value.place == "python:3.13-slim"
