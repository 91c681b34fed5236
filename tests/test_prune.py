from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from wheel_maker import make_wheel

from hatch_docker.errors import ConfigError
from hatch_docker.wheels.facts import WheelFacts, read_facts
from hatch_docker.wheels.prune import RULES, members_to_prune
from hatch_docker.wheels.wheelfile import WheelFile

Files = Mapping[str, str | bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def facts(folder: Path, files: Files, name: str = "demo", entry_points: str = "") -> WheelFacts:
    with WheelFile(make_wheel(folder, name, files=files, entry_points=entry_points)) as wheel:
        return read_facts(wheel)


def pruned(
    folder: Path, files: Files, *, prune: Sequence[str] = tuple(RULES), keep: Sequence[str] = (), entry_points: str = ""
) -> set[str]:
    (pruned_paths,) = members_to_prune([facts(folder, files, entry_points=entry_points)], prune=prune, keep=keep)
    return set(pruned_paths)


TESTED = {"demo/__init__.py": "", "demo/tests/__init__.py": "", "demo/tests/data/x.json": "{}"}
TESTS = {"demo/tests/__init__.py", "demo/tests/data/x.json"}


def test_each_rule_prunes_only_its_files(folder: Path) -> None:
    pruned_by = {
        "tests": ["demo/tests/__init__.py", "demo/sub/tests/test_x.py", "tests/test_top.py",
                  "demo-1.0.data/platlib/demo/tests/a.py"],
        "caches": ["demo/__pycache__/a.cpython-313.pyc", "demo/both.pyc"],
        "c-sources": ["demo/fast.c", "demo/include/demo.h", "demo/fast.pyx", "demo/old.f90",
                      "demo-1.0.data/headers/demo.h"],
        "static-libraries": ["demo/libdemo.a"],
    }  # fmt: skip
    kept = ["demo/__init__.py", "demo/both.py", "demo/sourceless.pyc", "demo/test/x.py", "demo/testing/x.py",
             "demo/tests.py", "demo/fast.so", "demo/kernel.cu", "demo/cells.lib", "demo/typed.pyi", "demo/py.typed",
             "demo-1.0.data/data/share/tests/x", "demo-1.0.data/scripts/run.c",
             "demo-1.0.dist-info/licenses/tests/LICENSE", "demo-1.0.dist-info/sboms/a.c"]  # fmt: skip
    files = dict.fromkeys([*kept, *(path for paths in pruned_by.values() for path in paths)], "")
    for rule, paths in pruned_by.items():
        assert pruned(folder, files, prune=[rule]) == set(paths)
    assert pruned(folder, files) == {path for paths in pruned_by.values() for path in paths}
    assert pruned(folder, files, prune=[]) == set()


USING = [
    "from .tests import helper",
    "from . import tests",
    "from . import (\n    other,\n    tests,\n)",
    "import demo.tests",
    "import os, demo.tests.helper as helper",
    "def run():\n    from demo.tests.helper import main",
    "from demo import tests as t",
    "import_module('demo.tests.helper')",
    "import_module('.tests', __package__)",
    "PLUGIN = 'demo.tests.helper:main'",
    "get_data(__name__, 'tests/data/x.json')",
    "f'{folder}/demo/tests/data/'",
    "from .tests import helper\nmatch x:\n case = broken syntax",
    "type Newer = int\nfrom .tests import helper",
    "f'{import_module(f'demo.tests.{name}')}'",
    "print 'older'; import demo.tests",
    "# -*- coding: latin-1 -*-\nname = '\xe9'\nfrom .tests import helper".encode("latin-1"),
]


@pytest.mark.parametrize("source", USING)
def test_tests_that_a_module_uses_are_kept(folder: Path, source: str | bytes) -> None:
    assert pruned(folder, {**TESTED, "demo/main.py": source}) == set()
    assert pruned(folder, {**TESTED, "demo-1.0.data/purelib/demo/main.py": source}) == set()


@pytest.mark.parametrize("source", [each for each in USING if isinstance(each, str)])
def test_tests_that_a_large_module_uses_are_kept(folder: Path, source: str) -> None:
    assert pruned(folder, {**TESTED, "demo/main.py": f"{source}\n{'x = 1' * 50_000}"}) == set()


def test_mentions_in_a_large_module_do_not_keep_tests(folder: Path) -> None:
    for source in ("# from demo.tests import x", "x = 1  # see demo/tests/", "WORDS = 'tests', 'tests-x', 'contests'"):
        assert pruned(folder, {**TESTED, "demo/main.py": f"{source}\n{'x = 1' * 50_000}"}) == TESTS


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_scanning_large_modules_takes_little_memory() -> None:
    program = """
import threading
from hatch_docker.wheels.scan import Surroundings, reach
def scan():
    for size in (10_000, 12_500, 80_000):
        reach(b"from .tests import x\\n" + b"x=a+b*c-d[1]\\n" * size, "demo/main.py", Surroundings())
threads = [threading.Thread(target=scan) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert int(output) < 140_000


@pytest.mark.parametrize(
    "source",
    [
        '"""from .tests import helper"""',
        '"""from .tests import helper"""\ntype Newer = int | str',
        '"""from .tests import helper"""\nprint "older"',
        "# from .tests import helper",
        "import unittest, os.tests",
        "from .contests import tests_of",
        "EXCLUDED = ['tests', 'demo/tests']",
        "folder = join(here, 'tests')",
        "'tests/data/absent.json'",
        "import demo.test, demo.testing",
        "from other.tests import x",
    ],
)
def test_mere_mentions_do_not_keep_tests(folder: Path, source: str) -> None:
    assert pruned(folder, {**TESTED, "demo/main.py": source}) == TESTS


def test_relative_imports_are_resolved(folder: Path) -> None:
    files = {
        "demo/a/b/__init__.py": "from ..tests import x",
        "demo/a/b/mod.py": "from ...c.tests import y",
        "demo/a/tests/x.py": "",
        "demo/a/b/tests/x.py": "",
        "demo/c/tests/y.py": "",
        "demo/tests/z.py": "",
    }
    assert pruned(folder, files) == {"demo/a/b/tests/x.py", "demo/tests/z.py"}


def test_too_many_mentions_keep_tests(folder: Path) -> None:
    many = "x = [" + "".join(f"'tests/{number}'," for number in range(10_001)) + "]"
    assert pruned(folder, {**TESTED, "demo/main.py": many}) == set()
    assert pruned(folder, {**TESTED, "demo/main.py": many.replace("'tests/0',", "")}) == TESTS


def test_conftest_does_not_keep_tests(folder: Path) -> None:
    assert pruned(folder, {**TESTED, "demo/conftest.py": "from demo.tests import helper"}) == TESTS


def test_scripts_and_entry_points_keep_tests(folder: Path) -> None:
    assert pruned(folder, {**TESTED, "demo-1.0.data/scripts/run": "#!python\nimport demo.tests"}) == set()
    assert pruned(folder, TESTED, entry_points="[pytest11]\ndemo = demo.tests.plugin") == set()


def test_other_wheels_and_kept_tests_keep_tests(folder: Path) -> None:
    numbers = facts(folder, {
        "numbers/__init__.py": "",
        "numbers/tests/__init__.py": "from numbers.sub.tests import helper",
        "numbers/sub/tests/helper.py": "from ...deep.tests import more",
        "numbers/deep/tests/more.py": "",
        "numbers/alone/tests/x.py": "from numbers.never.tests import y",
        "numbers/never/tests/y.py": "",
    }, "numbers")  # fmt: skip
    user = facts(folder, {"user.py": "import numbers.tests"}, "user")
    assert members_to_prune([user, numbers])[1] == {"numbers/alone/tests/x.py", "numbers/never/tests/y.py"}
    assert len(members_to_prune([numbers])[0]) == 5
    assert members_to_prune([numbers, user]) == members_to_prune([user, numbers])[::-1]


def test_wheel_with_only_tests_is_kept(folder: Path) -> None:
    files = {"demo/tests/__init__.py": "", "demo/tests/x.py": "", "demo/tests/__pycache__/x.pyc": ""}
    assert pruned(folder, files) == {"demo/tests/__pycache__/x.pyc"}


def test_sources_that_a_module_compiles_are_kept_with_their_headers(folder: Path) -> None:
    files = {
        "triton/backends/driver.py": "compile('driver.c')",
        "triton/backends/driver.c": '#include "cuda.h"',
        "triton/backends/include/cuda.h": "",
        "triton/backends/lib/libdevice.a": "",
        "triton/other/unused.c": "",
        "triton/output.py": "'''See unused.c'''\n# unused.c",
    }
    assert pruned(folder, files) == {"triton/other/unused.c"}


def test_globs_prune_and_keep(folder: Path) -> None:
    files = {**TESTED, "demo/locale/de.mo": "", "demo/locale/en.mo": "", "demo/a.c": ""}
    assert pruned(folder, files, prune=["locale/*.mo"], keep=["demo/locale/en.mo"]) == set()
    assert pruned(folder, files, prune=["demo/locale/*.mo"], keep=["demo/locale/en.mo"]) == {"demo/locale/de.mo"}
    assert pruned(folder, files, prune=["tests"], keep=["demo/tests/data"]) == {"demo/tests/__init__.py"}
    assert pruned(folder, files, prune=["*"]) == set(files)
    assert pruned(folder, files, keep=["Demo"]) == set()
    assert pruned(folder, files, keep=["other"]) == {*TESTS, "demo/a.c"}


def test_globs_prune_even_needed_files(folder: Path) -> None:
    files = {**TESTED, "demo/main.py": "import demo.tests"}
    assert pruned(folder, files, prune=["demo/tests/"]) == TESTS


def test_kept_tests_keep_what_they_import(folder: Path) -> None:
    files = {**TESTED, "demo/sub/tests/x.py": "from demo.tests import helper"}
    assert pruned(folder, files, keep=["demo/sub/tests/"]) == set()


def test_malformed_glob_is_a_config_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match="keep"):
        pruned(folder, TESTED, keep=["!"])
    with pytest.raises(ConfigError, match="prune"):
        pruned(folder, TESTED, prune=["!"])


def test_pruning_of_a_wheel_does_not_depend_on_unrelated_wheels(folder: Path) -> None:
    """A layer's cache key has the pruned paths, which other dependencies should change only if they must."""
    third = facts(folder, TESTED)
    user = facts(folder, {"user.py": "import numbers.tests"}, "user")
    assert members_to_prune([third])[0] == members_to_prune([user, third], keep=["user", "numbers/**"])[1]


@pytest.mark.network
def test_pruned_real_packages_work(tmp_path: Path) -> None:
    """Import real packages, and use them, without the files that are pruned."""
    names = ["h5py", "numpy", "jsonschema", "attrs", "referencing", "rpds-py", "jsonschema-specifications", "networkx",
             "typing_extensions"]  # fmt: skip
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(tmp_path)]
    subprocess.run([*command, *names], check=True)
    all_facts = []
    for path in sorted(tmp_path.glob("*.whl")):
        with WheelFile(path) as wheel:
            all_facts.append(read_facts(wheel))
    pruned_paths = {each.key: paths for each, paths in zip(all_facts, members_to_prune(all_facts), strict=True)}
    assert any(path.startswith("numpy/linalg/tests/") for path in pruned_paths["numpy"])
    assert not any(path.startswith("h5py/tests/") for path in pruned_paths["h5py"])
    site = tmp_path / "site"
    for path, each in zip(sorted(tmp_path.glob("*.whl")), all_facts, strict=True):
        with WheelFile(path) as wheel:
            for member in each.files:
                if member not in pruned_paths[each.key]:
                    place = site / member
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(wheel.read(member, limit=1 << 30))
    use = "import numpy.testing, numpy.f2py, h5py, jsonschema, networkx; jsonschema.validate(1, {'type': 'integer'})"
    subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {use}"], check=True)
