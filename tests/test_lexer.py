from __future__ import annotations

import ast
import functools
import re
import sysconfig
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import many

from hatch_docker.wheels.lexer import read_module

PLAIN = re.compile(r"[a-zA-Z_/.:-]+")


def found(source: str | bytes) -> tuple[list[str], list[str]]:
    """The imports and string literals of a module."""
    read = list(read_module(source.encode() if isinstance(source, str) else source))
    imports, texts = ([each.value.decode() for each in read if each.kind == kind] for kind in ("import", "text"))
    return imports, texts


@pytest.mark.parametrize(
    ("source", "imports"),
    [
        ("import a", ["a"]),
        ("import a.b as c, d . e, f", ["a.b", "d.e", "f"]),
        ("import a, \\\n  b\nimport c", ["a", "b", "c"]),
        ("from a import b as c, d", ["a.b", "a.d"]),
        ("from . import a; from .. b import c", [".a", "..b.c"]),
        ("from .a.b import (  # noqa\n    c,  # ) no end\n    d,\n)\nimport e", [".a.b.c", ".a.b.d", "e"]),
        ("from .import a", [".a"]),
        ("from a import *", ["a.*"]),
        ("try: import a\nexcept ImportError: import b", ["a", "b"]),
        ("def f():\n\tif x:\n\t\tfrom a import b", ["a.b"]),
        ("x = 1; import a", ["a"]),
        ("from a import \\\n  (b, c)", ["a.b", "a.c"]),
        ("import a\r\nimport b\rimport c", ["a", "b", "c"]),
        ("\ufeffimport a", ["a"]),
        ("import ünï.çödé", ["ünï.çödé"]),
        ("lazy import a\nlazy from b import c\nlazy = 1", ["a", "b.c"]),
        ("yield from a\nraise E from b\nimportant = fromage", []),
        ("# import a\nx = 'import a'\n'''\nimport b\n'''", []),
        ("print 'python 2'; import a\nexec 'import b'", ["a"]),
        ("type X = int\nmatch x:\n  case [*_]: import a", ["a"]),
        ("{% if cookiecutter.x %}\nimport a\n{% endif %}", ["a"]),
    ],
)
def test_imports(source: str, imports: list[str]) -> None:
    assert found(source)[0] == imports


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("x = 'a'", ["a"]),
        ("x = ''", [""]),
        ('x = """a\n"b" """', ['a\n"b" ']),
        (r"x = 'it\'s', r'\'', b'b', Rb'\n'", [r"it\'s", r"\'", "b", r"\n"]),
        ("x = 'a' \"b\" \\\n  'c'\ny = 'd'", ["abc", "d"]),
        ("x = [\n  'a'  # one\n  'b',\n  'c'\n]", ["ab", "c"]),
        ("x = 'a\\\nb'", ["ab"]),
        ("x = 'open\ny = 'b'", ["open", "b"]),
        ("x = '''open\ny = 'b'", ["open\ny = 'b'"]),
        ("x = 'a' + y\n# 'b'\n# c\n'd'\nz = 'e'", ["a", "e"]),
        ("# 'a'\nx = '#'  # 'b'", ["#"]),
        # literals that are statements
        ("'doc'\nx = 'a'", ["a"]),
        ("# comment\n\n'doc'  # comment\n", []),
        ("class A:\n    '''doc\n    '''\n    x = '''a'''\n", ["a"]),
        ("'one' 'two'", []),
        ("'one'; 'two'", []),
        ("'a'.join(x)", ["a"]),
        ("x = \\\n'a'", ["a"]),
        ("f(\n'a'\n)", ["a"]),
        ("x: 'a'", ["a"]),
        ("{'k':\n'v'\n}", ["k", "v"]),
        # f-strings
        ("f'a{b}c'", ["a", "c"]),
        ("x = f'{{a}}{b!r:>{w}}c' 'd'", ["", "a", "", "", ">", "", "cd"]),
        ("f'{x[\"a\"]}'", ["", "a", ""]),
        ('f"{x["a"]}b" # "c"', ["", "a", "b"]),
        ('f"{x["it\'s"]}b"', ["", "it's", "b"]),
        ('f"{f"{f"a"}"}b"', ["", "", "a", "", "b"]),
        ("f'''{\n  g('a')  # 'b'\n}c'''", ["", "a", "c"]),
        ("f'{x:\"^10}' 'a'", ["", '"^10', "a"]),
        ("f'{(lambda: \"a\")()}{d[1:2]}b'", ["", "a", "", "b"]),
        ("t'{a}b', rt'\\{c}'", ["", "b", "\\", ""]),
        ("f'open {\n\nimport_ = 'a'", ["open ", "a"]),
        ("if'a'in x: pass", ["a"]),
    ],
)
def test_string_literals(source: str, texts: list[str]) -> None:
    assert [each for each in found(source)[1] if each] == [each for each in texts if each]


QUOTES = st.sampled_from(["'", '"', "'''", '"""'])
TEXTS = st.text(st.sampled_from("ab./ #({[:;=\n"), max_size=8)
NAMES = st.lists(st.sampled_from(["a", "b1", "tests", "_c", "ä"]), min_size=1, max_size=3).map(".".join)


@st.composite
def literal(draw: st.DrawFn) -> tuple[str, list[str]]:
    text, quote = draw(TEXTS), draw(QUOTES)
    if len(quote) == 1:
        text = text.replace("\n", "")
    prefix = draw(st.sampled_from(["", "r", "b", "Rb", "u", "f", "rf", "t"]))
    if not set(prefix) & set("ft"):
        return f"{prefix}{quote}{text}{quote}", [text]
    inner, nested = draw(literal()) if draw(st.booleans()) else ("x", [])
    around = draw(st.sampled_from(["{%s}", "{(%s)!r}", "{[%s, 1]:>9}", "{ %s = }"]))
    text = text.replace("{", "")
    return f"{prefix}{quote}{text}{around % inner}{text}{quote}", [text, *nested, text]


@st.composite
def statement(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """A statement, its imports, and its string literals."""
    kind = draw(st.sampled_from(["import", "from", "assign", "call", "docstring", "comment"]))
    name, other = draw(NAMES), draw(NAMES).partition(".")[0]
    if kind == "import":
        return f"import {name} as q, {other}", [name, other], []
    if kind == "from":
        return f"from .{name} import (  # )\n  {other},\n)", [f".{name}.{other}"], []
    if kind == "docstring":
        return "'''from tests import x\n'''", [], []
    if kind == "comment":
        return "# 'a' import tests (", [], []
    code, texts = draw(literal())
    return (f"x = {code}" if kind == "assign" else f"f(\n{code}\n)  # x"), [], texts


@given(st.lists(statement()), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_generated_statements(statements: list[tuple[str, list[str], list[str]]], newline: str) -> None:
    imports, texts = found(newline.join(code for code, _, _ in statements))
    assert imports == [name for _, names, _ in statements for name in names]
    # A format specifier is a literal, too.
    assert [each for each in texts if each not in {"", ">9"}] == [
        each for _, _, each_texts in statements for each in each_texts if each not in {"", ">9"}
    ]


@functools.cache
def modules() -> Sequence[Path]:
    """Some modules of the standard library and of installed packages."""
    folders = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return paths[:: max(1, len(paths) // many(70))]


def parsed(source: bytes) -> tuple[list[str], list[str]] | None:
    """The imports and string literals of a module by the parser of this Python; None if that fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            nodes = list(ast.walk(ast.parse(source)))
        except (SyntaxError, ValueError):
            return None
    imports = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (f"{node.module}." if node.module else "")
            imports += [base + alias.name for alias in node.names]
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    pieces = {id(piece) for node in nodes if isinstance(node, ast.JoinedStr) for piece in node.values}
    constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in alone | pieces]
    return imports, [node.value for node in constants if isinstance(node.value, str)]


def test_real_modules_agree_with_the_parser() -> None:
    compared = 0
    for path in modules():
        source = path.read_bytes()
        expected = parsed(source)
        if expected is None:
            continue
        imports, texts = found(source.decode("utf-8", "replace"))
        assert sorted(imports) == sorted(expected[0]), path
        # The lexer does not decode escapes, nor other encodings than UTF-8.
        missing = {each for each in expected[1] if PLAIN.fullmatch(each)} - set(texts)
        assert not missing or re.search(rb"\\[xuUN0-7]", source), path
        compared += 1
    assert compared > many(70) * 0.7


@pytest.mark.parametrize(
    "source",
    [
        b"'a'" * 100_000,
        b"f'{" * 100_000,
        b"f'" + b"{" * 200_001,
        b"f'{x:" + b"{y}" * 100_000,
        b"x = '" + b"\\n" * 80_000,
        b"\nfrom " + b"from " * 80_000,
        b"\nimport a" + b" " * 400_000,
        b"\nimport " + b". " * 80_000,
        b"\nimport (" + b"#\n" * 80_000,
        b"(" * 150_000,
        b"'a'" + b" \\\n" * 80_000,
        b" " * 400_000 + b"'a'",
        b"x = 'a' + y\n" + b"#\n" * 100_000,
        b"\nfrom\\" * 20_000,
    ],
    ids=lambda source: repr(source[:12])[2:-1],
)
def test_hostile_modules_take_linear_time(source: bytes) -> None:
    # Quadratic time, or recursion, would not get through these.
    assert sum(len(each.value) for each in read_module(source)) <= len(source)
