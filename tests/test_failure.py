from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.compiling.failure import guess, last_lines

LOGS = Path(__file__).parent / "data" / "logs"
MANAGERS = {"alpine": "apk", "slim": "apt"}

# The ends of the logs of real builds in the bases' builders: the hint (its beginning), and a line that must be shown.
REAL = {
    "cffi-alpine": (
        'add build-packages = ["libffi-dev"]: ffi.h is missing',
        "src/c/_cffi_backend.c:15:10: fatal error: ffi.h: No such file or directory",
    ),
    "lxml-alpine": (
        'add build-packages = ["libxml2-dev", "libxslt-dev"]: libxml2 and libxslt are missing',
        "Error: Please make sure the libxml2 and libxslt development packages are installed.",
    ),
    "psycopg2-slim": (
        'add build-packages = ["libpq-dev"]: pg_config is missing',
        "Error: pg_config executable not found.",
    ),
    "mysqlclient-slim": (
        'add build-packages = ["default-libmysqlclient-dev"]: libmariadb is missing',
        "Exception: Can not find valid pkg-config name.",
    ),
    "pillow-slim": ('add build-packages = ["zlib1g-dev"]: zlib is missing', "RequiredDependencyException:"),
    # Its build tries to download Rust; the hint is to install it.
    "cryptography-slim": (
        'add build-packages = ["cargo"]: cargo is missing',
        "Rust not found, installing into a temporary directory",
    ),
    "greenlet-alpine": (
        'add build-packages = ["build-base"]: g++ is missing',
        "error: [Errno 2] No such file or directory: 'g++'",
    ),
    "psutil-alpine": (
        'add build-packages = ["build-base"]: gcc is missing',
        "error: [Errno 2] No such file or directory: 'gcc'",
    ),
    "scipy-slim": (
        'add build-packages = ["gfortran"]: gfortran is missing',
        "../meson.build:84:0: ERROR: Unknown compiler(s): [['gfortran'], ['flang-new'],",
    ),
    "contourpy-alpine": (
        'add build-packages = ["build-base"]: c++ is missing',
        "../meson.build:1:0: ERROR: Unknown compiler(s): [['c++'], ['g++'],",
    ),
    "pycairo-slim": (
        'add build-packages = ["libcairo2-dev"]: cairo is missing',
        '../cairo/meson.build:31:12: ERROR: Dependency "cairo" not found (tried pkg-config)',
    ),
    "python-ldap-slim": (
        'add build-packages = ["libldap-dev"]: lber.h is missing',
        "Modules/common.h:15:10: fatal error: lber.h: No such file or directory",
    ),
    "pyfftw-slim": (
        'add build-packages = ["libfftw3-dev"]: fftw3.h is missing',
        "error: Could not find the FFTW header 'fftw3.h'",
    ),
    "xmlsec-slim": (
        'add build-packages = ["libxmlsec1-dev"]: xmlsec1 is missing',
        "error: xmlsec1 is not installed or not in path.",
    ),
    "linking-alpine": (
        'add build-packages = ["libpq-dev"]: -lpq is missing',
        "/usr/bin/ld: cannot find -lpq: No such file or directory",
    ),
    "numpy-slim": (
        "its build needs numpy, which its build-system.requires does not list: use a version that has a wheel",
        "ModuleNotFoundError: No module named 'numpy'",
    ),
    "cargo-slim": (
        "its build needs the network, which builds do not have: add it to build-network to allow that",
        "[6] Could not resolve hostname (Could not resolve host: host.example)",
    ),
    "urllib-slim": (
        "its build needs the network, which builds do not have: add it to build-network to allow that",
        "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>",
    ),
    "wget-alpine": (
        "its build needs the network, which builds do not have: add it to build-network to allow that",
        "wget: bad address 'host.invalid'",
    ),
    "memory-slim": (
        "the compiler ran out of memory: raise HATCH_DOCKER_BUILD_MEMORY, or the engine's limit",
        "g++: fatal error: Killed signal terminated program cc1plus",
    ),
    "disk-slim": (
        "free some space where the engine keeps its containers",
        "/t/cc8fNn2P.s: Fatal error: can't fill 256 bytes in section .data of a.o: 'No space left on device'",
    ),
}


def test_every_log_has_an_expectation() -> None:
    assert {path.stem for path in LOGS.iterdir()} == REAL.keys()


@pytest.mark.parametrize("name", REAL)
def test_hints_and_lines_of_real_failures(name: str) -> None:
    log = (LOGS / f"{name}.log").read_text(encoding="utf-8")
    expected, important = REAL[name]
    assert guess(log, MANAGERS[name.rpartition("-")[2]]).startswith(expected)
    shown = last_lines(log)
    assert any(line.strip().startswith(important) for line in shown)
    assert len(shown) <= 15
    text = "\n".join(shown)
    for boilerplate in (
        "originates from a subprocess",
        "Failed building",
        "[end of output]",
        "╰─>",
        "copying ",
        "  File ",
    ):
        assert boilerplate not in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.c:1:10: fatal error: 'openssl/ssl.h' file not found", '["libssl-dev"]: openssl/ssl.h is missing'),
        ("/bin/sh: 1: mysql_config: not found", '["default-libmysqlclient-dev"]: mysql_config is missing'),
        ("bash: line 1: cmake: command not found", '["cmake"]: cmake is missing'),
        ("error: command 'gcc' failed: No such file or directory", '["build-essential"]: gcc is missing'),
        ("unable to execute 'x86_64-linux-gnu-gcc': No such file or directory", '["build-essential"]'),
        ("gcc: fatal error: cannot execute 'cc1plus': execvp: No such file or directory", '["build-essential"]'),
        ("configure: error: no acceptable C compiler found in $PATH", '["build-essential"]: cc is missing'),
        ("error: linker `cc` not found", '["build-essential"]: cc is missing'),
        ("error: can't find Rust compiler", '["cargo"]: cargo is missing'),
        ("/bin/sh: cargo: not found", '["cargo"]: cargo is missing'),
        ("Could not find cmake", '["cmake"]: cmake is missing'),
        ('CMake was unable to find a build program corresponding to "Ninja".', '["ninja-build"]: ninja is missing'),
        ("CMake Error: Could NOT find ZLIB (missing: ZLIB_LIBRARY)", '["zlib1g-dev"]: ZLIB is missing'),
        ("Could NOT find PNG (missing: PNG_LIBRARY)", '["libpng-dev"]: PNG is missing'),
        ("No package 'libxml-2.0' found", '["libxml2-dev"]: libxml-2.0 is missing'),
        ("Package 'libffi', required by 'virtual:world', not found", '["libffi-dev"]: libffi is missing'),
        ("Package libffi was not found in the pkg-config search path.", '["libffi-dev"]: libffi is missing'),
        ('meson.build:3:0: ERROR: Dependency "openblas" not found, tried pkgconfig', '["libopenblas-dev"]'),
        ("The system library `openssl` required by crate `openssl-sys` was not found.", '["libssl-dev"]'),
        ("ERROR: Program 'swig' not found or not executable", '["swig"]: swig is missing'),
        ("A GDAL API version must be specified.", '["libgdal-dev"]: gdal-config is missing'),
        ("fatal error: Python.h: No such file or directory", '["python3-dev"]: Python.h is missing'),
        (
            "fatal error: own/made_up.h: No such file or directory",
            "own/made_up.h is missing: add the OS package that has it",
        ),
        ("fatal error: numpy/arrayobject.h: No such file or directory", "its build needs numpy"),
        ("ModuleNotFoundError: No module named 'distutils.core'", "distutils, which newer Pythons lack"),
        ("error: package `cfg v1` cannot be built because it requires rustc 1.99.0 or newer", "1.99.0 or newer"),
        ("  (signal: 9, SIGKILL: kill)", "HATCH_DOCKER_BUILD_MEMORY"),
        ("fatal: unable to access 'https://host.invalid/': Could not resolve host: host.invalid", "build-network"),
    ],
)
def test_hints_for_lines_of_other_tools(line: str, expected: str) -> None:
    assert expected in guess(f"running build\n    {line}\nerror: it failed\n", "apt")


def test_hint_for_a_module_that_is_missing_depends_on_whose_sources_these_are() -> None:
    log = "ModuleNotFoundError: No module named 'helper.parts'\n"
    assert "report it to its authors" in guess(log, "apt")
    assert guess(log, "apt", own=True) == "add the package that has the module helper to build-system.requires"


def test_hint_for_a_process_that_was_killed() -> None:
    assert guess("gcc -c a.c\n", "apt") == ""
    assert "HATCH_DOCKER_BUILD_MEMORY" in guess("gcc -c a.c\n", "apt", status=137)


def test_last_missing_name_counts() -> None:
    probes = "conftest.c:1:10: fatal error: zstd.h: No such file or directory\n" * 3
    assert "libffi-dev" in guess(probes + "x.c:1:10: fatal error: ffi.h: No such file or directory\n", "apk")


def test_loose_matches_without_a_package_give_no_hint() -> None:
    assert guess("note: the thing is not installed\nCould not find a version\nCould NOT find Nonsense\n", "apt") == ""
    assert guess("", "apt") == guess("everything went well\n", "apk") == ""


def test_hint_for_an_unknown_package_manager() -> None:
    assert guess("x.c:1: fatal error: ffi.h: No such file or directory", "").startswith(
        "ffi.h is missing: add the OS package that has it"
    )


class TestLines:
    def test_last_ones_without_colours_and_overwritten_progress(self) -> None:
        log = (
            "".join(f"line {number}\n" for number in range(40))
            + "\x1b[1;31mboom\x1b[0m \x1b]8;;x\x07\r\n 10%\r100%\n\n"
        )
        assert last_lines(log, 3) == ["line 39", "boom", "100%"]

    def test_error_before_the_last_lines_is_shown(self) -> None:
        log = "start\n" * 50 + "x.c:5: error: bad\n" + "cleaning up\n" * 50
        assert "x.c:5: error: bad" in last_lines(log)
        assert len(last_lines(log)) == 15

    def test_frames_of_a_traceback_are_omitted_but_not_its_end(self) -> None:
        log = (
            "Traceback (most recent call last):\n"
            '  File "/x/setuptools/build_meta.py", line 1, in run\n    exec(code)\n    ~~~~^^^^^^\n'
            '  File "<string>", line 3, in <module>\nValueError: no\n  more of it\n'
        )
        assert last_lines(log) == ["ValueError: no", "  more of it"]

    def test_long_lines_are_cut(self) -> None:
        (line,) = last_lines("gcc " + "-Ifolder " * 1000)
        assert len(line) == 200
        assert line.endswith("…")

    def test_control_characters_are_removed(self) -> None:
        assert last_lines("a\x07b\x1b[2Jc\u202ed\x00e") == ["abcde"]


@given(st.lists(st.one_of(st.text(max_size=60), st.sampled_from([line for _, line in REAL.values()])), max_size=30))
def test_any_log_is_accepted(lines: list[str]) -> None:
    log = "\n".join(lines)
    shown = last_lines(log, 5)
    assert len(shown) <= 5
    assert all(line.isprintable() and len(line) <= 200 for line in shown)
    assert isinstance(guess(log, "apk"), str)


@pytest.mark.parametrize(
    "unit", ["a", "a ", "Could not find ", "\x1b[", "Warning: \n!!\n", "'", "sh: 1: ", "fatal error: x/"]
)
def test_hostile_logs_take_bounded_time(unit: str) -> None:
    log = unit * (200_000 // len(unit))
    assert len(last_lines(log)) <= 15
    guess(log, "apt")
