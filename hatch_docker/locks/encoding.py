"""The text of requirements files in any encoding that pip reads."""

from __future__ import annotations

import codecs
from pathlib import Path

from hatch_docker.errors import LockError
from hatch_docker.support.numbers import has_long_number
from hatch_docker.support.patterns import regex
from hatch_docker.support.regular import read_regular

_CODING = regex(rb"coding[:=]\s*([-\w.]+)")
# UTF-32 before UTF-16, whose little-endian mark it begins with.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
)


def decoded(path: Path) -> str:
    """The text of a requirements file, in the encoding that it names, as pip reads it. Raises LockError."""
    try:
        data = read_regular(path)
    except (OSError, ValueError) as error:
        raise LockError(f"cannot read the lock: {getattr(error, 'strerror', None) or error}", place=str(path)) from None
    encoding, data = _encoding(data)
    try:
        text = data.decode(encoding)
    except (LookupError, ValueError):
        hint = "save it as UTF-8, or name its encoding in the first line: # -*- coding: latin-1 -*-"
        raise LockError(f"the file is not {encoding} text", place=str(path), hint=hint) from None
    if has_long_number(text):
        raise LockError("the file has a number with too many digits", place=str(path))
    return text


def _encoding(data: bytes) -> tuple[str, bytes]:
    """The encoding that a byte order mark or one of the first two lines names (PEP 263), and the data without mark."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding, data[len(mark) :]
    for line in data.split(b"\n")[:2]:
        if line.startswith(b"#") and (found := _CODING.search(line)):
            return found[1].decode("ascii"), data
    return "utf-8", data
