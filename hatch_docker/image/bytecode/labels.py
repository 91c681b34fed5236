"""What layers of bytecode are called in reports."""

from __future__ import annotations

from collections.abc import Sequence

# The label of the only layer of bytecode.
LABEL = "bytecode"
_NAMED = 2


def code_label(names: Sequence[str]) -> str:
    """What a layer of bytecode is called in reports: `bytecode of numpy, pandas and 3 others`."""
    shown = [*names] if len(names) <= _NAMED + 1 else [*names[:_NAMED], f"{len(names) - _NAMED} others"]
    return f"{LABEL} of {' and '.join(filter(None, (', '.join(shown[:-1]), shown[-1])))}"


def is_code(contents: Sequence[str]) -> bool:
    """Whether a layer with these contents is one of bytecode."""
    return len(contents) == 1 and (contents[0] == LABEL or contents[0].startswith(f"{LABEL} of "))
