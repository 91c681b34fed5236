from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from elf_maker import make_library
from wheel_maker import make_wheel

from hatch_docker.compiling import container_main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it runs only in Linux containers")
LIBPYTHON = "libpython3.13.so.1.0"


class Backend:
    """A build backend that copies an existing wheel."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel

    def build_wheel(self, directory: str, _config: dict[str, Any]) -> str:
        (Path(directory) / self.wheel.name).write_bytes(self.wheel.read_bytes())
        return self.wheel.name


def excluded(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, bytes]) -> list[str] | None:
    """The libraries that auditwheel must not bundle into a wheel of these files; None if it does not run."""
    calls: list[list[str]] = []

    def repair(wheel: Path, exclude: list[str]) -> None:
        calls.append(exclude)
        (container_main.REPAIRED / wheel.name).write_bytes(b"")

    wheel = make_wheel(folder, files=files)
    monkeypatch.setattr(container_main, "BUILT", folder / "built")
    monkeypatch.setattr(container_main, "REPAIRED", folder / "repaired")
    monkeypatch.setattr(container_main, "_hooks", lambda _: Backend(wheel))
    monkeypatch.setattr(container_main, "_repair", repair)
    container_main.build({"config": {}, "exclude": ["libpq.so.5"]})
    return calls[0] if calls else None


def program(needed: str) -> bytes:
    """A program: a library whose first segment names a loader."""
    data = bytearray(make_library([needed]))
    data[64:68] = (3).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"demo/_fast.so": make_library([LIBPYTHON])}, ["libpq.so.5"]),
        ({"demo-1.0.data/scripts/demo": program(LIBPYTHON)}, ["libpq.so.5", "libpython*"]),
        ({"demo/_fast.so": make_library(), "demo/bin/demo": program(LIBPYTHON)}, ["libpq.so.5", "libpython*"]),
        ({"demo/data.bin": b"\x7fELF, or not"}, None),
        ({"demo/__init__.py": b""}, None),
    ],
    ids=["module", "program", "both", "no ELF", "pure"],
)
def test_only_programs_exclude_libpython(
    files: dict[str, bytes], expected: list[str] | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert excluded(monkeypatch, tmp_path, files) == expected


def test_headers_are_installed_where_pip_installs_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo.py": "", "demo-1.0.data/headers/demo.h": "int demo;\n"})
    monkeypatch.setattr(container_main, "WHEELS", tmp_path)
    container_main._environment(tmp_path / "env", [wheel.name])
    folder = tmp_path / "env" / "include" / "site" / f"python{sysconfig.get_python_version()}"
    assert (folder / "demo" / "demo.h").read_text() == "int demo;\n"
