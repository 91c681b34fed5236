from __future__ import annotations

from pathlib import Path

import pytest
from prepared_maker import TARGET, make_prepared

from hatch_docker.base.facts import BaseFacts
from hatch_docker.image.opened import check_opened
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.facts import WheelFacts
from hatch_docker.wheels.findings import Opened
from hatch_docker.wheels.opened import opened_libraries

BASE = BaseFacts(
    python=TARGET,
    links={},
    directories=frozenset({"etc/apt"}),
    occupied=False,
    libraries=frozenset({"libssl.so.3"}),
    suite="trixie",
)
WEASYPRINT = """\
def _dlopen(ffi, *names, allow_fail=False):
    for name in names: ...

gobject = _dlopen(
    ffi, 'libgobject-2.0-0', 'gobject-2.0', 'libgobject-2.0.so.0',  # comment
    'libgobject-2.0.dylib')
subset = _dlopen(ffi, 'libharfbuzz-subset.so.0', allow_fail=True)
"""


def found(source: str) -> list[tuple[tuple[str, ...], bool]]:
    return [(each.names, each.imported) for each in opened_libraries(source.encode(), "m.py")]


class TestScan:
    def test_wrapper_with_alternatives(self) -> None:
        assert found(WEASYPRINT) == [(("libgobject-2.0.so.0",), True)]

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("x = ctypes.CDLL('libmagic.so.1')", [(("libmagic.so.1",), True)]),
            ('x = cdll.LoadLibrary(\n    "libmagic.so.1"\n)', [(("libmagic.so.1",), True)]),
            ("with lock:\n    x = ffi.dlopen('liba.so.1')", [(("liba.so.1",), True)]),
            ("def f():\n    return CDLL('liba.so.1')", [(("liba.so.1",), False)]),
            ("x = find_library('a') or find_library('b')", [(("liba.so", "libb.so"), False)]),
            ("x = CDLL(find_library('a') or 'liba.so.1')", [(("liba.so.1", "liba.so"), True)]),
        ],
    )
    def test_calls(self, source: str, expected: object) -> None:
        assert found(source) == expected

    @pytest.mark.parametrize(
        "source",
        [
            "'''\n>>> CDLL('liba.so.1')\n'''",
            "# CDLL('liba.so.1')",
            "x = 1  # CDLL('liba.so.1')",
            "x = '''CDLL('liba.so.1')'''",
            "try:\n    x = CDLL('liba.so.1')\nexcept OSError:\n    pass",
            "if sys.platform == 'linux':\n    x = CDLL('liba.so.1')",
            "for name in names:\n    def f():\n        CDLL('liba.so.1')",
            "x = CDLL(name)",
            "x = CDLL(f'lib{name}.so')",
            "x = CDLL('/opt/liba.so.1')",
            "x = CDLL('a.dll')",
            "x = CDLL('liba.dylib')",
            "x = CDLL('liba.so.1'",
            "x = WinDLL('liba.so.1')",
        ],
    )
    def test_what_is_not_certain_is_left_out(self, source: str) -> None:
        assert found(source) in ([], [(("liba.so.1",), True)] if source.endswith("so.1'") else [])

    def test_time_is_limited(self) -> None:
        assert len(found("x = CDLL('liba.so.1')\n" * 1000)) <= 50
        found("CDLL(" * 20_000)
        found("x = CDLL('" + "a" * 100_000)


def warnings(tmp_path: Path, source: str, base: BaseFacts = BASE, name: str = "demo.py") -> list[str]:
    class Recorder(Progress):
        def warn(self, text: str) -> None:
            lines.append(text)

    lines: list[str] = []
    check_opened([make_prepared(tmp_path, files={name: source})], base, Recorder())
    return lines


class TestCheck:
    def test_names_the_os_packages(self, tmp_path: Path) -> None:
        (line,) = warnings(tmp_path, WEASYPRINT + "p = _dlopen(ffi, 'libpango-1.0.so.0')\n")
        assert line == (
            "demo opens libgobject-2.0.so.0, libpango-1.0.so.0 by name, which the image lacks: "
            'runtime-packages = ["libglib2.0-0t64", "libpango-1.0-0"]'
        )
        alpine = replace(BASE, directories=frozenset({"etc/apk"}), suite="")
        assert 'runtime-packages = ["glib"]' in warnings(tmp_path, WEASYPRINT, alpine)[0]

    def test_any_version_of_a_known_library(self, tmp_path: Path) -> None:
        (line,) = warnings(tmp_path, "def load():\n    return CDLL(find_library('magic'))")
        assert 'runtime-packages = ["libmagic1t64"]' in line

    @pytest.mark.parametrize(
        "source",
        [
            "x = CDLL('libssl.so.1.1')",
            "x = CDLL('libc.so.6')",
            "x = CDLL('libcuda.so.1')",
            "x = CDLL(find_library('objc'))",
            "x = CDLL(find_library('m'))",
            "def f():\n    CDLL('libunknown.so.4')",
        ],
    )
    def test_present_or_not_certain(self, tmp_path: Path, source: str) -> None:
        assert warnings(tmp_path, source) == []

    def test_unknown_library_that_an_import_opens(self, tmp_path: Path) -> None:
        assert warnings(tmp_path, "x = CDLL('libunknown.so.4')") == [
            "demo opens libunknown.so.4 by name, which the image lacks"
        ]

    @pytest.mark.parametrize("name", ["demo/_macos.py", "demo/darwin/x.py", "demo/win32.py", "demo/tests/x.py"])
    def test_modules_for_other_systems_and_tests(self, tmp_path: Path, name: str) -> None:
        assert warnings(tmp_path, "x = CDLL('libmagic.so.1')", name=name) == []

    def test_library_of_a_wheel(self, tmp_path: Path) -> None:
        assert (
            warnings(tmp_path, "x = CDLL('libmagic.so.1')", replace(BASE, libraries=frozenset({"libmagic.so.2"}))) == []
        )


def test_facts_are_read_back(tmp_path: Path) -> None:
    facts = make_prepared(tmp_path, files={"demo.py": "x = CDLL('libmagic.so.1')"}).facts
    assert facts.opens == (Opened("demo.py", ("libmagic.so.1",), True),)
    assert WheelFacts.from_json(facts.to_json()) == facts
