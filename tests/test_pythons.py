"""A project has the same digest with every Python that builds it, and every Python that filled the cache."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from builds import Bench, archive_of, environment, read, start, wait_for
from conftest import pythons

pytestmark = pytest.mark.pythons

# Syntax that older Pythons cannot parse, in modules whose docstrings mention tests.
NEWER_SYNTAX = {
    "3.11": "try: pass\nexcept* ValueError: pass",
    "3.12": "type Name = int | str\ndef f[T](x: T) -> T: return f'{x['a']}{'other.tests.b'}'",
    "3.14": "try: pass\nexcept ValueError, KeyError: pass\nx = t'{f}'",
    "3.15": "lazy import a\nx = [*y for y in z]",
    "2.7": "print 'old'",
}
TESTS = "import {}\n\ndef test_it():\n    assert {}\n".replace("{}", "{0}")
FILES = {
    **{
        f"demo{number}/new.py": f'"""Run them: from demo{number}.tests import everything"""\n{code}\n'
        for number, code in enumerate(NEWER_SYNTAX.values())
    },
    **{f"demo{number}/__init__.py": "" for number in range(len(NEWER_SYNTAX))},
    **{f"demo{number}/tests/test_it.py": TESTS.format(f"demo{number}") for number in range(len(NEWER_SYNTAX))},
    "large/__init__.py": '"""from large.tests import x"""\ntype Name = int\n' + "x = 'tests', 1\n" * 20_000,
    "large/tests/test_it.py": TESTS.format("large"),
    "kept/__init__.py": "type Name = int\nlazy from .tests import data\n",
    "kept/tests/test_it.py": TESTS.format("kept"),
    "kept/tests/data.py": "",
    "kept/ünï.py": "",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("pythons"))


@pytest.fixture(scope="module")
def project(bench: Bench) -> Path:
    entry_points = "[console_scripts]\ndemo-tool = demo0.new:main\n"
    return bench.project(wheels=[bench.wheel("demo", files=FILES, entry_points=entry_points), bench.wheel("other")])


def built(project: Path, cache: Path, python: str) -> tuple[str, str]:
    """The output of a build, and the hash of its archive."""
    outcome = wait_for(start(project, env=environment(cache, HATCH_QUIET="1"), python=python))
    assert outcome.code == 0, outcome.err
    return outcome.out, hashlib.sha256(archive_of(project).read_bytes()).hexdigest()


def test_all_supported_pythons_are_installed() -> None:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    versions = {subprocess.check_output([python, "-c", program], text=True).strip() for python in pythons()}
    assert {"3.10", "3.11", "3.12", "3.13", "3.14"} <= versions


@pytest.mark.parametrize("cache", ["cold", "shared"])
def test_digest_is_the_same_with_every_python(bench: Bench, project: Path, cache: str) -> None:
    results = {}
    for number, python in enumerate(pythons()):
        folder = bench.root / (cache if cache == "shared" else f"{cache}-{number}")
        results[python] = built(project, folder, python)
    assert len(results) > 1
    assert len(set(results.values())) == 1, results
    kept = {path for path in read(archive_of(project)).members if "/tests/" in path}
    assert kept == {
        f"app/.venv/lib/python3.13/site-packages/{each}" for each in ("kept/tests/data.py", "kept/tests/test_it.py")
    }


def test_facts_are_the_same_with_every_python(bench: Bench, project: Path) -> None:
    """The facts of wheels, which a shared cache keeps from the first Python."""
    facts = []
    for number, python in enumerate(pythons()):
        cache = bench.root / f"facts-{number}"
        built(project, cache, python)
        facts.append({path.name: path.read_bytes() for path in (cache / "wheels").iterdir()})
    assert facts[0]
    assert all(each == facts[0] for each in facts)
