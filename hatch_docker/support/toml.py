"""TOML: reading on every supported Python, and writing single values."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from hatch_docker.support.numbers import has_long_number
from hatch_docker.support.patterns import regex

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# In a line, and in a key. tomllib takes quadratic time for the parts of a dotted key.
_MOST_PARTS = 200
_DOTTED = regex(r"[\w\"'. \t-]+")


def loads(text: str) -> dict[str, Any]:
    """The document that `text` is, in time that is linear in it. Raises ValueError, or RecursionError for deep ones."""
    for number, line in enumerate(text.split("\n") if text.count(".") > _MOST_PARTS else (), 1):
        if line.count(".") > _MOST_PARTS and any(map(_is_long, _DOTTED.findall(line))):
            raise ValueError(f"a key has too many parts (at line {number})")
    if has_long_number(text):
        raise ValueError("a number has too many digits")
    return tomllib.loads(text)


def _is_long(key: str) -> bool:
    return sum(map(bool, key.split("."))) > _MOST_PARTS


def inline(value: Any) -> str:
    """A value as TOML on one line: a table, array, string, number or boolean. Keys with the value None are left out.

    TOML's basic strings are those of JSON, except that DEL must be escaped.
    """
    if isinstance(value, Mapping):
        pairs = [f"{inline(str(key))} = {inline(each)}" for key, each in value.items() if each is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, (str, bool, int, float)):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)  # dates and times
