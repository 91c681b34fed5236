"""Regular expressions that are compiled when they are first used."""

from __future__ import annotations

import ast
import gc
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hatch_docker
from hatch_docker.support.patterns import regex

TEXTS = st.text(alphabet="ab1 ", max_size=6)


@given(expression=st.sampled_from(["a+", "(a)|(?P<n>b)", r"\d", "", "^b"]), text=TEXTS)
def test_methods_are_those_of_a_compiled_pattern(expression: str, text: str) -> None:
    lazy, compiled = regex(expression, re.ASCII), re.compile(expression, re.ASCII)
    for _ in range(2):
        assert lazy.findall(text) == compiled.findall(text)
        assert lazy.sub("<>", text) == compiled.sub("<>", text)
        assert bool(lazy.fullmatch(text)) == bool(compiled.fullmatch(text))
    assert (lazy.pattern, lazy.flags, lazy.groupindex) == (compiled.pattern, compiled.flags, compiled.groupindex)


def test_nothing_is_compiled_before_the_first_use() -> None:
    wrong = regex("(")
    with pytest.raises(re.error, match="unterminated subpattern"):
        wrong.match("")


def compiled_at_import(node: ast.AST) -> Iterator[int]:
    """The lines that compile a regular expression when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            if isinstance(child, ast.Call) and ast.unparse(child.func) == "re.compile":
                yield child.lineno
            yield from compiled_at_import(child)


@pytest.mark.parametrize("path", sorted(Path(hatch_docker.__path__[0]).rglob("*.py")), ids=lambda path: path.stem)
def test_an_import_compiles_no_pattern(path: Path) -> None:
    assert not [*compiled_at_import(ast.parse(path.read_text(encoding="utf-8")))]


def test_every_pattern_can_be_compiled() -> None:
    for each in pkgutil.walk_packages(hatch_docker.__path__, "hatch_docker."):
        importlib.import_module(each.name)
    # Also those in tables.
    found = [each for each in gc.get_objects() if type(each) is regex]
    assert len(found) > 300
    for each in found:
        assert isinstance(each.flags, int), each.pattern
