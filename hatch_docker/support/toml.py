"""TOML: reading on every supported Python, and writing single values."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

if sys.version_info >= (3, 11):
    from tomllib import loads
else:
    from tomli import loads

__all__ = ["inline", "loads"]


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
