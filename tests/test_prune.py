from __future__ import annotations

import marshal
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import pytest
from mutations import many
from wheel_maker import make_wheel

from hatch_docker.errors import ConfigError
from hatch_docker.wheels.facts import WheelFacts, read_facts
from hatch_docker.wheels.prune import RULES, Pruning, members_to_prune
from hatch_docker.wheels.scan import imported_names, uses, uses_of_text
from hatch_docker.wheels.texts import uses_of_file
from hatch_docker.wheels.wheelfile import WheelFile

Files = Mapping[str, str | bytes]

TEST = "from demo import x\n\ndef test_x():\n    assert x\n"
SUITE: Files = {
    "demo/__init__.py": "x = 1",
    "demo/tests/__init__.py": '"""Tests of demo."""\n\n__all__ = []\n',
    "demo/tests/conftest.py": "import pytest",
    "demo/tests/test_x.py": f"from .helper import data\nfrom demo.tests import base\n{TEST}",
    "demo/tests/helper.py": "from pathlib import Path\ndata = Path(__file__).with_name('x.json')",
    "demo/tests/base/__init__.py": "class Base: pass",
    "demo/tests/data/x.json": "{}",
    "demo/tests/data/test_read.py": "syntax error",
}
WHOLE = {path for path in SUITE if "/tests/" in path}
TESTS = {"demo/tests/conftest.py", "demo/tests/test_x.py"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def facts(folder: Path, files: Files, name: str = "demo", **more: Any) -> WheelFacts:
    with WheelFile(make_wheel(folder, name, files=files, **more)) as wheel:
        return read_facts(wheel)


def pruned(
    folder: Path, files: Files, *, prune: Sequence[str] = tuple(RULES), keep: Sequence[str] = (), **more: Any
) -> set[str]:
    (members,) = members_to_prune([facts(folder, files, **more)], Pruning(prune=prune, keep=keep))
    return set(members)


class TestUsesThatAreHardToSee:
    """Suites that another wheel, a compiled module or a path uses stay."""

    @pytest.mark.parametrize(
        "other",
        [
            {"ns/other/__init__.py": "from ns.demo.tests.helper import data"},
            {"other.py": "from ns.demo.tests import helper"},
        ],
    )
    def test_import_across_wheels_of_a_namespace(self, folder: Path, other: Files) -> None:
        suite: Files = {f"ns/{path}": str(text).replace("demo", "ns.demo") for path, text in SUITE.items()}
        wheels = [facts(folder, suite), facts(folder, other, name="other")]
        assert members_to_prune([wheels[0]], Pruning())[0]
        assert members_to_prune(wheels, Pruning()) == [{}, {}]

    @pytest.mark.parametrize("source", ["from demo.tests import helper", "from .tests import helper"])
    def test_module_without_source(self, folder: Path, source: str) -> None:
        code = marshal.dumps(compile(source, "demo/mod.py", "exec"))
        assert pruned(folder, {**SUITE, "demo/mod.pyc": bytes(16) + code}) == set()

    @pytest.mark.parametrize("text", [b"\0tests\0data\0", b"\0demo.tests\0", b"\0demo.testsr\0"])
    def test_extension_module(self, folder: Path, text: bytes) -> None:
        assert pruned(folder, {**SUITE, "demo/fast.cpython-313-x86_64-linux-gnu.so": text}) == set()

    @pytest.mark.parametrize(
        "path", ["/app/x/site-packages/demo/tests", "demo/tests/", "DIR=demo/tests x", "demo\\tests"]
    )
    def test_path_of_the_folder(self, folder: Path, path: str) -> None:
        assert pruned(folder, {**SUITE, "demo/settings.ini": path}) == set()
        used = uses_of_text(path.encode())
        assert members_to_prune([facts(folder, SUITE)], Pruning(used=used)) == [{}]


class TestSuites:
    def test_suite_with_its_helpers_and_data(self, folder: Path) -> None:
        assert pruned(folder, SUITE) == WHOLE
        moved = {f"demo-1.0.data/platlib/{path}": text for path, text in SUITE.items()}
        assert pruned(folder, moved) == {f"demo-1.0.data/platlib/{path}" for path in WHOLE}
        assert pruned(folder, SUITE, prune=["caches"]) == set()

    def test_suite_with_an_interface_loses_its_tests_only(self, folder: Path) -> None:
        interfaces: list[Files] = [
            {"demo/tests/__init__.py": "NAME = 'tests'"},
            {"demo/tests/__init__.py": "from .helper import data"},
            {"demo/tests/models.py": "class Model: pass"},
            {"demo/tests/migrations/__init__.py": "", "demo/tests/migrations/a.py": "x = 1"},
            {"demo/tests/plugin/__init__.py": "NAME = 'plugin'"},
            {"demo/tests/fast.cpython-313-x86_64-linux-gnu.so": b""},
            {"demo/tests/test_data.py": "VALUES = [1]"},
        ]
        for files in interfaces:
            assert pruned(folder, {**SUITE, **files}) == TESTS, files

    def test_what_stays_keeps_the_tests_that_it_imports(self, folder: Path) -> None:
        files = {**SUITE, "demo/tests/plugin.py": "from .test_x import test_x"}
        assert pruned(folder, files) == {"demo/tests/conftest.py"}

    @pytest.mark.parametrize(
        "files",
        [
            {"demo/templates/tests/detail.html": "<p>", "demo/templates/tests/list.html": ""},
            {"demo/plugins/__init__.py": "", "demo/plugins/tests/__init__.py": "NAME = 'tests'"},
            {"demo/tests/__init__.py": "", "demo/tests/checks.py": "def check(): assert x"},
            {"demo/tests/data/x.json": "{}"},
            {"demo/tests/__init__.pyi": "", "demo/tests/test_x.pyi": TEST},
            # Named like tests, but these test nothing, or something else.
            {
                "demo/rules/__init__.py": "",
                "demo/rules/tests/test_even.py": "from demo import x\ndef test_even(n): ...",
            },
            {"demo/tests/test_x.py": "def test_x(): assert True"},
            # What a generator of projects copies.
            {"demo/templates/app/__init__.py": "", "demo/templates/app/tests/test_x.py": TEST},
            {"demo/{{ name }}/tests/test_x.py": TEST},
            {"demo/test/test_x.py": TEST, "demo/testing/test_x.py": TEST, "demo/tests.py": TEST},
            {"demo-1.0.data/data/demo/tests/test_x.py": TEST, "demo-1.0.dist-info/tests/test_x.py": TEST},
        ],
        ids=str,
    )
    def test_folder_that_is_no_suite(self, folder: Path, files: Files) -> None:
        assert pruned(folder, {"demo/__init__.py": "x = 1", **files}) == set()

    def test_wheel_whose_purpose_are_tests(self, folder: Path) -> None:
        files = {"tests/__init__.py": "", "tests/test_x.py": TEST}
        assert pruned(folder, files) == set()
        assert pruned(folder, {**files, "demo/__init__.py": "x = 1"}) == set(files)

    def test_folder_of_several_wheels(self, folder: Path) -> None:
        files = {"tests/__init__.py": "", "tests/test_x.py": TEST, "demo.py": "x = 1"}
        other = facts(folder, {"tests/plugin.py": "", "other.py": ""}, "other")
        assert members_to_prune([facts(folder, files), other], Pruning()) == [{}, {}]

    def test_runner_keeps_suites(self, folder: Path) -> None:
        demo, runner = facts(folder, SUITE), facts(folder, {"pytest/__init__.py": ""}, "pytest")
        assert members_to_prune([demo, runner], Pruning()) == [{}, {}]


class TestUses:
    @pytest.mark.parametrize(
        "source",
        [
            "from .tests import helper",
            "from . import tests",
            "from . import (\n    other,\n    tests,\n)",
            "import demo.tests",
            "import os, demo.tests.helper as helper",
            "lazy from demo import tests as t",
            "import_module('demo.tests.helper')",
            "import_module('.tests', __package__)",
            "import_module(f'{name}.tests')",
            "import_module(f'demo.tests.{name}')",
            "PLUGIN = 'demo.tests.helper:main'",
            "exec('from demo.tests import helper')",
            "get_data(__name__, 'tests/data/x.json')",
            "open(f'{folder}/demo/tests/data/{name}')",
            "open(f'{here}/tests/data/x{number}.json')",
            r"open(here + '\\tests\\data\\x.json')",
            "def test(): unittest.TestLoader().discover(dirname(__file__))\nimport unittest",
            "for path in Path(__file__).parent.rglob('test_*.py'): run(path)",
            "from .tests import helper\nmatch x:\n case = broken syntax",
            "print 'older'; import demo.tests",
            "# -*- coding: latin-1 -*-\nname = '\xe9'\nfrom .tests import helper".encode("latin-1"),
        ],
    )
    def test_use_of_a_suite_keeps_all_of_it(self, folder: Path, source: str | bytes) -> None:
        assert pruned(folder, {**SUITE, "demo/main.py": source}) == set()
        filler = b"\n" + b"x = 1\n" * 50_000
        large = (source if isinstance(source, bytes) else source.encode()) + filler
        assert pruned(folder, {**SUITE, "demo/main.py": large}) == set()

    @pytest.mark.parametrize(
        "source",
        [
            "DATA = Path(__file__).parent / 'tests' / 'data'",
            "DATA = os.path.join(os.path.dirname(__file__), 'tests')",
            "open('tests/' + name)",
            "for each in pkgutil.iter_modules(__path__): print(each.name)",
            "for path in resources.files('demo').rglob('*.json'): path.read_text()",
            "for folder in os.listdir(os.path.dirname(__file__)): load(folder)",
            "IGNORED = {'tests', 'docs'}",
        ],
    )
    def test_doubtful_use_keeps_all_but_tests(self, folder: Path, source: str) -> None:
        assert pruned(folder, {**SUITE, "demo/main.py": source}) == TESTS

    @pytest.mark.parametrize(
        "source",
        [
            '"""from .tests import helper"""',
            '"""from .tests import helper"""\ntype Newer = int | str',
            "# from .tests import helper",
            "import unittest, os.tests",
            "from .contests import tests_of",
            "'tests/data/absent.json'",
            "help = 'run the tests'",
            "import demo.test, demo.testing",
            "from other.tests import x",
            "for path in sorted(folder.glob('*.json')): path.read_text()",
        ],
    )
    def test_mere_mention_keeps_nothing(self, folder: Path, source: str) -> None:
        assert pruned(folder, {**SUITE, "demo/main.py": source}) == WHOLE

    @pytest.mark.parametrize("path", ["demo/main.py", "demo/sub/deep/x.py"])
    def test_hint_skips_no_module_that_uses_tests(self, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
        assert [
            source for source in MENTIONS if not uses(source.encode(), path).holds | uses(source.encode(), path).names
        ] == []
        folders = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
        paths = sorted(each for folder in folders for each in folder.rglob("*.py"))
        sources = [each.read_bytes() for each in paths[:: max(1, len(paths) // many(50))]]
        with_hint = [uses(source, path) for source in sources]
        monkeypatch.setattr("hatch_docker.wheels.scan._HINT", re.compile(b""))
        assert [uses(source, path) for source in sources] == with_hint

    def test_use_by_other_files(self, folder: Path) -> None:
        others: Files = {
            "demo/plugins.toml": 'plugins = ["demo.tests.helper"]',
            "demo/settings.json": '{"schema": "tests/data/x.json"}',
            "demo.pth": "import demo.tests",
            "demo-1.0.data/scripts/run": "#!python\nimport demo.tests",
            "demo/fast.cpython-313-x86_64-linux-gnu.so": b"\x7fELF\0\0demo.tests.helper\0",
            "demo/old.pyc": b"\0demo.tests\0",
            "single.pyc": b"\0demo.tests\0",
        }
        for path, text in others.items():
            assert pruned(folder, {**SUITE, path: text}, prune=["tests"]) == set(), path
        assert pruned(folder, SUITE, entry_points="[pytest11]\ndemo = demo.tests.helper") == set()
        # Tools for development read these.
        assert pruned(folder, {**SUITE, "demo/pyproject.toml": "testpaths = ['demo.tests']"}) == WHOLE
        # It searches for tests, too, but anyone may import it.
        assert pruned(folder, {**SUITE, "demo/conftest.py": "collect_ignore = ['tests', 'tests/test_x.py']"}) == WHOLE
        assert pruned(folder, {**SUITE, "demo/conftest.py": "from demo.tests import helper"}) == TESTS
        assert pruned(folder, {**SUITE, "demo/conftest.py": "from demo.tests.test_x import f"}) == set()

    def test_sources_of_projects_that_are_copied(self, folder: Path) -> None:
        generator = "shutil.copytree(os.path.join(os.path.dirname(__file__), 'sample'), target)"
        files = {
            "demo/__init__.py": "x = 1",
            "demo/new/__init__.py": generator,
            "demo/new/sample/__init__.py": "",
            "demo/new/sample/tests/test_x.py": TEST,
        }
        assert pruned(folder, files) == set()

    def test_relative_imports_are_resolved(self, folder: Path) -> None:
        packages = dict.fromkeys(["demo/__init__.py", "demo/a/__init__.py", "demo/a/b/__init__.py"], "x = 1")
        files = packages | {
            "demo/a/b/mod.py": "from ..tests import x",
            "demo/a/tests/test_x.py": TEST,
            "demo/a/b/tests/test_x.py": TEST,
            "demo/tests/test_x.py": TEST,
        }
        assert pruned(folder, files) == {"demo/a/b/tests/test_x.py", "demo/tests/test_x.py"}

    def test_other_wheels_and_suites_that_are_used(self, folder: Path) -> None:
        def tests(name: str, source: str = "") -> Files:
            top = {f"numbers/{name}/__init__.py": "", f"numbers/{name}/tests/test_x.py": ""}
            return top | {f"numbers/{name}/tests/test_x.py": f"from numbers import x\n{source}\ndef test(): assert x"}

        numbers = facts(folder, {
            "numbers/__init__.py": "",
            **tests("first", "from numbers.second.tests import test_x"),
            **tests("second", "from ...third.tests import test_x"),
            **tests("third"),
            **tests("alone", "from numbers.never.tests import y"),
            **tests("never"),
        }, "numbers")  # fmt: skip
        user = facts(folder, {"user.py": "import numbers.first.tests"}, "user")
        left = {"numbers/alone/tests/test_x.py", "numbers/never/tests/test_x.py"}
        assert set(members_to_prune([user, numbers], Pruning())[1]) == left
        assert len(members_to_prune([numbers], Pruning())[0]) == 5
        both = members_to_prune([numbers, user], Pruning())
        assert both == members_to_prune([user, numbers], Pruning())[::-1]

    def test_folders_of_packages_that_other_wheels_look_into(self, folder: Path) -> None:
        for source in (
            "DATA = importlib.resources.files('demo') / 'tests' / 'data'",
            "import demo\nfor path in Path(demo.__file__).parent.rglob('*.json'): read(path)",
            "import demo as d\nfor each in pkgutil.iter_modules(d.__path__): load(each)",
            "import demo\nDATA = Path(demo.__file__).parent / 'tests'",
        ):
            user = facts(folder, {"user.py": source}, "user")
            assert set(members_to_prune([facts(folder, SUITE), user], Pruning())[0]) == TESTS, source

    def test_uses_of_the_image_by_files_outside_of_wheels(self, folder: Path) -> None:
        demo = facts(folder, SUITE)
        for used in (uses(b"import demo.tests", "app/main.py"), uses_of_text(b"PLUGIN=demo.tests.helper")):
            assert members_to_prune([demo], Pruning(used=used)) == [{}]
        used = uses(b"open(DEMO / 'tests/data/x.json')", "app/main.py")
        assert members_to_prune([demo], Pruning(used=used)) == [{}]

    def test_wheel_is_pruned_alike_beside_unrelated_wheels(self, folder: Path) -> None:
        """A layer's cache key has the pruned paths, which other dependencies should change only if they must."""
        demo = facts(folder, SUITE)
        user = facts(folder, {"user.py": "import numbers.tests\nopen('tests/data/x.json')"}, "user")
        keep = Pruning(keep=["user", "numbers/**"])
        assert members_to_prune([demo], Pruning())[0] == members_to_prune([user, demo], keep)[1]


class TestUsesInPieces:
    """A module may put together the name of a folder of tests, of its own package or of one that it imports."""

    @pytest.mark.parametrize(
        "source",
        [
            "import demo\nDATA = files(demo) / 'tests' / 'data.json'",
            "from demo import x\nDATA = os.path.join(os.path.dirname(inspect.getfile(x)), 'tests')",
            "import demo\nfrom .paths import data\ndata('tests')",
            "DATA = resource('demo', 'tests')",
            "DATA = os.path.join(SITE, 'demo', 'tests')",
        ],
    )
    def test_package_of_another_wheel(self, folder: Path, source: str) -> None:
        demo, user = facts(folder, SUITE), facts(folder, {"user.py": source}, "user")
        assert set(members_to_prune([demo, user], Pruning())[0]) == TESTS
        assert set(members_to_prune([demo], Pruning(used=uses(source.encode(), "app/main.py")))[0]) == TESTS
        other = facts(folder, {"user.py": source.replace("demo", "other")}, "user")
        assert set(members_to_prune([demo, other], Pruning())[0]) == WHOLE

    @pytest.mark.parametrize(
        "text",
        [
            "'docs tests data'.split()",
            "NAMES = '''\ndocs\ntests\n'''\nfor each in NAMES.splitlines(): pass",
            "'docs,tests'.split(',')",
            "'docs|tests|data'",
            "'docs\\ntests\\ndata'",
            "'tests\\ndata'",
            "'{}/tests{}'.format(a, b)",
            "'{}tests'.format(a)",
            "'%stests' % a",
            "'%(a)stests%(b)s' % names",
            "'tests%s' % a",
            "'%s/tests%s' % (a, b)",
            "f'{a}tests'",
            "f'tests{a}'",
            "f'{a}/tests{b}/{c}'",
            "'$a/tests$b'",
            "folder.glob('tests*')",
        ],
    )
    def test_part_of_a_string(self, folder: Path, text: str) -> None:
        assert pruned(folder, {**SUITE, "demo/main.py": f"x = {text}"}) == TESTS
        large = f"x = {text}\n" + "x = 1\n" * 50_000
        assert pruned(folder, {**SUITE, "demo/main.py": large}) == TESTS

    @pytest.mark.parametrize(
        "text", ["'%d tests passed'", "'unit-tests'", "f'{n} tests'", "'contests'", "'Run the tests.'", "'demo_tests'"]
    )
    def test_other_words(self, folder: Path, text: str) -> None:
        assert pruned(folder, {**SUITE, "demo/main.py": f"x = {text}\nx.split()"}) == WHOLE

    @pytest.mark.parametrize(
        "source",
        [
            "import_module('%stests.test_x' % a)",
            "import_module('.'.join([__package__, 'tests', name]))",
            "FILE = Path(demo.__file__).parent / 'tests' / 'test_x.py'",
        ],
    )
    def test_modules_of_tests(self, folder: Path, source: str) -> None:
        assert pruned(folder, {**SUITE, "demo/main.py": source}) == set()


class TestUsesByScriptsAndCompiledModules:
    def test_shell_script_of_a_wheel(self, folder: Path) -> None:
        for command in ("python -m demo.tests.helper", "exec python $SITE/demo/tests/helper.py"):
            script = {"demo-1.0.data/scripts/smoke": f"#!/bin/sh\n{command}\n"}
            assert pruned(folder, {**SUITE, **script}) == set(), command
            user = facts(folder, {"user-1.0.data/scripts/smoke": f"#!/bin/sh\n{command}\n"}, "user")
            assert members_to_prune([facts(folder, SUITE), user], Pruning(), own={"user"}) == [{}, {}], command
        assert pruned(folder, {**SUITE, "demo/entry": "#!/bin/sh\npython -m demo.tests.helper"}) == set()
        assert pruned(folder, {**SUITE, "demo-1.0.data/data/etc/run.sh": "python -m demo.tests.helper"}) == set()

    @pytest.mark.parametrize("command", ["python -m unittest discover demo", "pytest --pyargs demo"])
    def test_script_of_the_user_that_runs_tests(self, folder: Path, command: str) -> None:
        user = facts(folder, {"user-1.0.data/scripts/smoke": f"#!/bin/sh\n{command}\n"}, "user")
        assert members_to_prune([facts(folder, SUITE), user], Pruning(), own={"user"}) == [{}, {}]
        assert members_to_prune([facts(folder, SUITE), user], Pruning())[0].keys() == WHOLE
        used = uses_of_file("run/smoke", f"#!/bin/sh\n{command}\n".encode())
        assert members_to_prune([facts(folder, SUITE)], Pruning(used=used)) == [{}]

    @pytest.mark.parametrize(
        "path", ["user/fast.cpython-313-x86_64-linux-gnu.so", "user/mod.pyc", "user-1.0.data/platlib/user/fast.abi3.so"]
    )
    def test_compiled_module_of_another_wheel(self, folder: Path, path: str) -> None:
        user = facts(folder, {path: b"\0demo.tests\0"}, "user")
        assert members_to_prune([facts(folder, SUITE), user], Pruning()) == [{}, {}]

    @pytest.mark.parametrize("text", [b"unit tests\0", b"\n    tests of x\0", b"\0tests failed\0", b"src/tests.c\0"])
    def test_prose_in_a_compiled_module(self, folder: Path, text: bytes) -> None:
        assert pruned(folder, {**SUITE, "demo/fast.so": text}, prune=["tests"]) == WHOLE


class TestPlugins:
    """Modules named like tests stay if a module lists folders and imports what it finds."""

    @pytest.mark.parametrize(
        "source",
        [
            "for each in pkgutil.iter_modules(__path__): import_module(each.name)",
            "for each in pkgutil.walk_packages(__path__, 'demo.'): import_module(each.name)",
            "for path in Path(__file__).parent.rglob('*.py'): exec(path.read_text())",
            "for name in os.listdir(os.path.dirname(__file__)): __import__('demo.' + name[:-3])",
            "for root, folders, names in FOLDER.walk():\n    for each in names: import_module(each)",
            "for path in FOLDER.iterdir():\n    spec_from_file_location(path.stem, path).loader.load_module()",
        ],
    )
    def test_of_the_same_wheel(self, folder: Path, source: str) -> None:
        assert pruned(folder, {**SUITE, "demo/load/plugins.py": source}) == set()

    def test_of_another_wheel(self, folder: Path) -> None:
        source = "import demo\nfor each in iter_modules(demo.__path__): import_module(each.name)"
        user = facts(folder, {"user.py": source}, "user")
        assert members_to_prune([facts(folder, SUITE), user], Pruning()) == [{}, {}]

    def test_of_what_the_users_own_imports(self, folder: Path) -> None:
        source = "from demo import x\nfor each in iter_modules(x.where()): import_module(each.name)"
        demo, user = facts(folder, SUITE), facts(folder, {"user.py": source}, "user")
        assert members_to_prune([demo, user], Pruning(), own={"user"}) == [{}, {}]
        assert members_to_prune([demo], Pruning(used=uses(source.encode(), "app/main.py"))) == [{}]

    def test_what_imports_no_such_names(self, folder: Path) -> None:
        source = "for path in glob(os.path.dirname(__file__) + '/*.so.*'): import_module('demo.' + x)"
        assert pruned(folder, {**SUITE, "demo/load.py": source}) == TESTS
        source = "for node in ast.walk(tree): import_module(node.name)\nfor node in model.walk(): use(node)"
        assert pruned(folder, {**SUITE, "demo/load.py": source}) == WHOLE

    def test_that_the_folder_itself_loads(self, folder: Path) -> None:
        loading = {"demo/tests/load.py": "for each in iter_modules(HERE): import_module(each.name)"}
        assert pruned(folder, {**SUITE, **loading, "demo/main.py": "x = 'tests'"}) == set()
        # Nothing reaches it, though it is more than tests.
        assert pruned(folder, {**SUITE, **loading}) == set()


MENTIONS = [
    "import tests",
    "lazy import tests",
    "lazy from . import tests",
    "import_('demo.tests.%s' % x)",
    "import_('tests.{}'.format(x))",
    "import\ttests as t",
    "import tests; x",
    "import a, tests",
    "import a,tests,b",
    "from tests import a",
    "from tests . a import b",
    "from . tests import a",
    "from a import tests",
    "from a import (tests)",
    "from a import (\n\ttests\n)",
    "from a import b, \\\n    tests",
    "import a . tests",
    "import_('a.tests')",
    "import_('tests.a')",
    "import_('tests:a')",
    "import_('demo.' 'tests')",
    "import_('demo.'\n\t'tests.a')",
    "import_(f'{x}.tests')",
    "import_(f'demo.tests.{x}')",
    "import_('tests.' + x)",
    "open('tests/data/x.json')",
    "open('./demo/tests/')",
    "open(here + '\\\\tests\\\\x.json')",
    "here / 'tests'",
    "here / f'{x}/tests'",
    'here / "tests" / "x"',
]


class TestOwn:
    FILES: ClassVar[Files] = {
        **SUITE,
        "demo/a.c": "",
        "demo/a.so": b"",
        "demo/__pycache__/a.pyc": b"",
        "demo/note.txt": "",
    }

    def test_nothing_of_the_users_own_is_pruned(self, folder: Path) -> None:
        own = facts(folder, self.FILES)
        assert members_to_prune([own], Pruning(prune=[*RULES, "*.txt"]), own={"demo"}) == [{}]
        assert len(members_to_prune([own], Pruning(prune=[*RULES, "*.txt"]))[0]) == len(WHOLE) + 3

    def test_its_tests_keep_what_they_use(self, folder: Path) -> None:
        other = {path.replace("demo", "app"): str(text).replace("demo", "app") for path, text in SUITE.items()}
        own = facts(folder, {**other, "app/tests/test_y.py": "import demo.tests.helper"}, "app")
        assert members_to_prune([facts(folder, SUITE), own], Pruning(), own={"app"}) == [{}, {}]


class TestOtherRules:
    def test_caches(self, folder: Path) -> None:
        files = ["demo/__init__.py", "demo/both.py", "demo/sourceless.pyc", "demo/old.pyo"]
        caches = ["demo/__pycache__/a.cpython-313.pyc", "demo/both.pyc"]
        assert pruned(folder, dict.fromkeys([*files, *caches], "")) == set(caches)

    def test_sources_of_compiled_modules(self, folder: Path) -> None:
        built = ["demo/fast.c", "demo/fast.pyx", "demo/abi.cpp", "demo/old.f90"]
        modules = ["demo/fast.cpython-313-x86_64-linux-gnu.so", "demo/abi.abi3.so", "demo/old.so"]
        kept = [
            *("demo/fast.h", "demo/fast.pxd", "demo/fast.pxi", "demo/include/demo.hpp", "demo/kernel.cuh"),
            *("demo/driver.c", "demo/sub/fast.c", "demo/fast.cu", "demo/__init__.py", "demo/fast_more.c"),
            *("demo-1.0.data/headers/demo.h", "demo-1.0.dist-info/sboms/fast.c", "demo-1.0.data/data/fast.c"),
        ]
        files = dict.fromkeys([*built, *modules, *kept], "")
        assert pruned(folder, files) == set(built)
        for source in ("compile('fast.c')", "# See fast.c", "glob('*.c')", "path.endswith('.c')", "f'{name}.c'"):
            assert pruned(folder, {**files, "demo/main.py": source}) == {*built} - {"demo/fast.c"}, source
        assert pruned(folder, {**files, "demo/main.py": "self.c = x.f90"}) == set(built)

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("demo/fast.h", '#include "fast.c"'),
            ("demo/driver.c", '#include "fast.c"'),
            ("demo/kernels.json", '{"sources": ["fast.c"]}'),
            ("demo/fast.yaml", "source: fast.c\n"),
            ("demo/CMakeLists.txt", "add_library(fast fast.c)"),
            ("demo-1.0.data/headers/demo.h", '#include "demo/fast.c"'),
            ("demo-1.0.data/data/share/build.cfg", "fast.c"),
            ("demo/kernel.cu", '#include "fast.c"'),
        ],
    )
    def test_sources_that_other_files_name(self, folder: Path, path: str, text: str) -> None:
        files: Files = {"demo/__init__.py": "", "demo/fast.c": "/* fast.c */", "demo/fast.pyx": "", "demo/fast.so": b""}
        assert pruned(folder, files) == {"demo/fast.c", "demo/fast.pyx"}
        assert pruned(folder, {**files, path: text}) == {"demo/fast.pyx"}

    def test_sources_that_sources_name(self, folder: Path) -> None:
        files: Files = {"demo/__init__.py": "", "demo/fast.h": '#include "a.c"', "demo/a.so": b"", "demo/b.so": b""}
        assert pruned(folder, {**files, "demo/a.c": '#include "b.c"', "demo/b.c": ""}) == set()
        assert pruned(folder, {**files, "demo/a.c": "", "demo/b.c": "/* a.c, b.c */"}) == {"demo/b.c"}

    @pytest.mark.parametrize(
        "source",
        [
            "SOURCE = files('demo') / 'fast.c'",
            "ffi.set_source('_x', '#include \\'fast.c\\'')",
            "Extension('x', sources=[os.path.join(get_include(), \"demo/fast.c\")])",
            "import demo\nfor path in files(demo).glob('*.c'): build(path)",
            "for path in files('demo').iterdir():\n    if path.suffix == '.c': build(path)",
        ],
    )
    def test_sources_that_other_wheels_name(self, folder: Path, source: str) -> None:
        demo = facts(folder, {"demo/__init__.py": "", "demo/fast.c": "", "demo/old.pyx": "", "demo/fast.so": b""})
        for path in ("user.py", "user-1.0.data/scripts/build"):
            user = facts(folder, {path: f"#!python\n{source}"}, "user")
            assert members_to_prune([demo, user], Pruning()) == [{}, {}], path
        used = uses_of_file("app/main.py", source.encode())
        assert members_to_prune([demo], Pruning(used=used)) == [{}]
        unrelated = facts(folder, {"user.py": "import other\nx.endswith('.c')\nx.c"}, "user")
        assert set(members_to_prune([demo, unrelated], Pruning())[0]) == {"demo/fast.c"}
        assert members_to_prune([demo, unrelated], Pruning(), own={"user"}) == [{}, {}]

    def test_static_libraries_beside_shared_ones(self, folder: Path) -> None:
        files = ["demo/liba.a", "demo/liba.so.1.2", "demo/libb.a", "demo/lib/liba.a", "demo/libc.a", "demo/libc.so"]
        assert pruned(folder, dict.fromkeys(files, "")) == {"demo/liba.a", "demo/libc.a"}
        linking = {**dict.fromkeys(files, ""), "demo/link.py": "cc('libc.a')"}
        assert pruned(folder, linking) == {"demo/liba.a"}

    def test_every_file_has_its_rule(self, folder: Path) -> None:
        files = {
            **SUITE,
            "demo/a.c": "",
            "demo/a.so": b"",
            "demo/a.a": "",
            "demo/__pycache__/a.pyc": b"",
            "demo/x.md": "",
        }
        (members,) = members_to_prune([facts(folder, files)], Pruning(prune=[*RULES, "*.md", "*.c"]))
        others = {path: rule for path, rule in members.items() if path not in WHOLE}
        assert others == {
            "demo/a.c": "c-sources",
            "demo/a.a": "static-libraries",
            "demo/__pycache__/a.pyc": "caches",
            "demo/x.md": "globs",
        }


class TestExceptions:
    def test_globs_prune_and_keep(self, folder: Path) -> None:
        files = {**SUITE, "demo/locale/de.mo": "", "demo/locale/en.mo": "", "demo/a.c": "", "demo/a.so": ""}
        locale = ["demo/locale/*.mo"]
        assert pruned(folder, files, prune=["locale/*.mo"], keep=["demo/locale/en.mo"]) == set()
        assert pruned(folder, files, prune=locale, keep=["demo/locale/en.mo"]) == {"demo/locale/de.mo"}
        assert pruned(folder, files, prune=["tests"], keep=["demo/tests/data/*.json"]) == WHOLE - {
            "demo/tests/data/x.json"
        }
        assert pruned(folder, files, prune=["*"]) == set(files)
        assert pruned(folder, files, keep=["Demo"]) == set()
        assert pruned(folder, files, keep=["other"]) == {*WHOLE, "demo/a.c"}
        assert pruned(folder, files, keep=["*.c", "demo/tests/helper.py"]) == set()
        headers = {"demo.py": "", "demo-1.0.data/headers/demo.h": ""}
        assert pruned(folder, headers, prune=["headers/"]) == {"demo-1.0.data/headers/demo.h"}

    def test_globs_prune_even_used_files(self, folder: Path) -> None:
        assert pruned(folder, {**SUITE, "demo/main.py": "import demo.tests"}, prune=["demo/tests/"]) == WHOLE

    def test_kept_tests_keep_what_they_import(self, folder: Path) -> None:
        sub = {"demo/sub/__init__.py": "", "demo/sub/tests/test_y.py": f"from demo.tests import helper\n{TEST}"}
        assert pruned(folder, {**SUITE, **sub}) == {*WHOLE, "demo/sub/tests/test_y.py"}
        assert pruned(folder, {**SUITE, **sub}, keep=["demo/sub/tests/"]) == TESTS

    def test_malformed_glob_is_a_config_error(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match="keep"):
            pruned(folder, SUITE, keep=["!"])
        with pytest.raises(ConfigError, match="prune"):
            pruned(folder, SUITE, prune=["!"])


def steps(work: Callable[[], object]) -> int:
    """The number of lines of this project that some work runs: independent of the machine's speed."""
    count = 0

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal count
        if "hatch_docker" not in frame.f_code.co_filename:
            return None
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def many_folders(size: int) -> Files:
    folders = {f"demo/a{number}/__init__.py": "" for number in range(size)}
    return {"demo/__init__.py": ""} | folders | {f"demo/a{number}/tests/test_x.py": TEST for number in range(size)}


def one_deep_folder(size: int) -> Files:
    return {"demo/__init__.py": ""} | {f"demo/{'d/' * 100}tests/a{number}/x.json": "" for number in range(size)}


def many_uses(size: int) -> Files:
    users = {f"demo/u{number}.py": f"open('tests/a{number}')\nhere = 'tests'" for number in range(size)}
    return {**many_folders(size), **users}


def chain_of_helpers(size: int) -> Files:
    helpers = {f"demo/tests/h{number}.py": f"from .h{number + 1} import x" for number in range(size)}
    return {**SUITE, **helpers, "demo/tests/test_x.py": f"from .h0 import x\n{TEST}"}


class TestWork:
    @pytest.mark.parametrize("files", [many_folders, one_deep_folder, many_uses, chain_of_helpers])
    def test_grows_with_the_wheel(self, folder: Path, files: Callable[[int], Files]) -> None:
        counts = []
        for size in (20, 200):
            with WheelFile(make_wheel(folder, files=files(size))) as wheel:
                counts.append(steps(lambda wheel=wheel: members_to_prune([read_facts(wheel)], Pruning())))  # type: ignore[misc]
        assert counts[1] < 12 * counts[0]

    @pytest.mark.parametrize(
        "line",
        [
            "tests",
            "tests.",
            "tests/",
            ".tests",
            "'tests',",
            "from .tests import tests,",
            "a.tests.b ",
            "f(.c *.c",
            "tests a ",
            "%stests",
        ],
    )
    def test_grows_with_a_line(self, line: str) -> None:
        counts = [steps(lambda size=size: uses(b"x = '" + line.encode() * size, "demo/x.py")) for size in (50, 500)]  # type: ignore[misc]
        assert counts[1] < 12 * max(counts[0], 10)

    def test_hostile_modules(self, folder: Path) -> None:
        """Quadratic time, which counting lines does not show in patterns, would not get through these."""
        for line in (
            "from x import (",
            "import a, ",
            "#",
            "def test_",
            "class " + "a" * 80,
            "'''",
            "assert ",
            "..",
            "*",
            "'tests split ",
            "iter_modules import_module",
            "glob(import_module ",
            "x.c' ",
        ):
            source = f"from demo import x\n{line * 10_000}\n" + f"{line}\n" * 2_500
            facts(
                folder, {**SUITE, "demo/tests/test_y.py": source, "demo/tests/__init__.py": source, "demo/y.py": source}
            )

    @pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
    def test_scanning_large_modules_takes_little_memory(self) -> None:
        program = """
import threading
from hatch_docker.wheels.scan import uses
def scan():
    for size in (10_000, 12_500, 80_000):
        uses(b"from .tests import x\\n" + b"x=a+b*c-d[1]\\n" * size, "demo/main.py")
threads = [threading.Thread(target=scan) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""
        output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        assert int(output) < 140_000


@pytest.mark.parametrize("source", [b"from " + b"." * 200_000, b"from " + b" " * 200_000, b"import (" * 50_000])
def test_hostile_imports_take_linear_time(source: bytes) -> None:
    # Quadratic time would not get through these.
    assert sum(map(len, imported_names(source))) <= 2 * len(source)
