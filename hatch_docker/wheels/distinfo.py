"""Parse the files of a wheel's `.dist-info`: WHEEL, METADATA, RECORD, entry_points.txt. No I/O.

`place` is the wheel's name in errors.

PyPA specifications: Binary distribution format, Recording installed projects, Core metadata, Entry points.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import re
from collections.abc import Iterable
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from email.parser import HeaderParser
from typing import NamedTuple

from packaging.metadata import parse_email
from packaging.utils import InvalidName, canonicalize_name

from hatch_docker.errors import WheelError
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.numbers import has_long_number
from hatch_docker.support.patterns import regex

BROKEN = "the wheel is broken: lock another version, or report it to its authors"

# RECORD's hashes are "sha256 or better"; 43, 64 and 86 digits are their sizes in base64 without padding.
_HASH = regex(r"sha256=[A-Za-z0-9_-]{43}|sha384=[A-Za-z0-9_-]{64}|sha512=[A-Za-z0-9_-]{86}")
_STANDARD_BASE64 = str.maketrans("-_", "+/")
_SIZE = regex(r"[0-9]{0,19}")
_REFERENCE = regex(r"(?P<module>[\w.]+)\s*:\s*(?P<attribute>[\w.]+)\s*(?:\[.*\])?\s*")
# It must not be a whiteout either (image-spec, layer.md).
_FILE_NAME = regex(r"(?!\.{1,2}$|\.wh\.)[^/\\]+")
_END_OF_HEADERS = regex(rb"\r?\n\r?\n")
# The fields that nothing here needs, with their folded lines. packaging takes quadratic time for many of them.
_OTHER_FIELDS = regex(
    rb"^(?!(?:name|version|requires-dist|requires-python):)[!-9;-~]+:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*(?:\r?\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
# In bytes: no file system of Linux has a longer name (NAME_MAX).
LONGEST_NAME = 255


class Record(NamedTuple):
    """A file's row in RECORD: `hash` as written there (`sha256=…`), `size` in bytes or empty."""

    hash: str
    size: str


_UNKNOWN = Record("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The fields of METADATA that an installation needs; `requires_dist` as written there."""

    name: str
    version: str
    requires_dist: tuple[str, ...]
    requires_python: str


class EntryPoint(NamedTuple):
    """One line of entry_points.txt."""

    group: str
    name: str
    value: str


class Script(NamedTuple):
    """A console or gui script: the file `name`, and the object that it calls."""

    name: str
    module: str
    attribute: str


def check_wheel(data: bytes, place: str) -> None:
    """Raise WheelError unless WHEEL has a supported version and a root scheme."""
    fields = HeaderParser().parsestr(_text(data, "WHEEL", place))
    version = str(fields.get("Wheel-Version", "")).strip()
    if not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", version):
        raise WheelError(f"WHEEL has no valid Wheel-Version: {version[:80]!r}", place=place, hint=BROKEN)
    if version.split(".")[0] != "1":
        raise WheelError(
            f"Wheel-Version {version} is not supported, only 1.x", place=place, hint="lock an older version of it"
        )
    root = str(fields.get("Root-Is-Purelib", "")).strip().lower()
    if root not in {"true", "false"}:
        raise WheelError(f"WHEEL's Root-Is-Purelib is {root!r}, not true or false", place=place, hint=BROKEN)


def parse_metadata(data: bytes, place: str) -> Metadata:
    """Parse METADATA. Raises WheelError if it has no valid name, or no version."""
    fields = _OTHER_FIELDS.sub(b"", _END_OF_HEADERS.split(data, maxsplit=1)[0])
    if has_long_number(fields):
        raise WheelError("METADATA has a number with too many digits", place=place, hint=BROKEN)
    raw, _ = parse_email(fields + b"\n\n")
    name, version = raw.get("name", ""), raw.get("version", "")
    try:
        canonicalize_name(name, validate=True)
    except InvalidName:
        raise WheelError(f"METADATA has no valid Name: {name!r}", place=place, hint=BROKEN) from None
    if not version:
        raise WheelError("METADATA has no Version", place=place, hint=BROKEN)
    return Metadata(
        name=name,
        version=version,
        requires_dist=tuple(raw.get("requires_dist", ())),
        requires_python=raw.get("requires_python", ""),
    )


def parse_record(data: bytes, place: str) -> dict[str, Record]:
    """The rows of RECORD by path. Raises WheelError if it is not CSV.

    As in pip, a row may be wrong: hashes and sizes that are malformed, or of rows that contradict each other, become
    empty.
    """
    records: dict[str, Record] = {}
    text = _text(data, "RECORD", place)
    if "\0" in text:
        # Since Python 3.11, csv takes it.
        raise WheelError("RECORD is not CSV: line contains NUL", place=place, hint=BROKEN)
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise WheelError(f"RECORD is not CSV: {error}", place=place, hint=BROKEN) from None
    for row in filter(None, rows):
        path, digest, size, *_ = [*row, "", ""]
        valid = _HASH.fullmatch(digest) and _SIZE.fullmatch(size)
        path, record = path.replace("\\", "/"), Record(digest, size) if valid else _UNKNOWN
        records[path] = record if records.get(path, record) == record else _UNKNOWN
    return records


def write_record(rows: Iterable[tuple[str, str, str]]) -> bytes:
    """The content of RECORD for rows of `(path, hash, size)`, in their order."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def hash_text(algorithm: str, digest: bytes) -> str:
    """A digest as RECORD writes it."""
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def checksum_of(text: str) -> tuple[str, bytes]:
    """The algorithm and digest of a hash as RECORD writes it."""
    algorithm, _, value = text.partition("=")
    return algorithm, binascii.a2b_base64(value.translate(_STANDARD_BASE64) + "==")


def parse_entry_points(data: bytes, place: str) -> tuple[EntryPoint, ...]:
    """Parse entry_points.txt. If a group has a name twice, the last one counts."""
    parser = ConfigParser(delimiters="=", interpolation=None, strict=False, default_section="")
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    try:
        parser.read_string(_text(data, "entry_points.txt", place))
    except ConfigParserError as error:
        reason = " ".join(error.message.split())[:200]
        raise WheelError(f"entry_points.txt cannot be read: {reason}", place=place, hint=BROKEN) from None
    return tuple(EntryPoint(group, name, value) for group in parser.sections() for name, value in parser.items(group))


def script_of(entry: EntryPoint, place: str) -> Script:
    """The script of an entry point in `console_scripts` or `gui_scripts`. Raises WheelError for an invalid one."""
    match = _REFERENCE.fullmatch(entry.value)
    if match is None:
        raise WheelError(f"the script {entry.name!r} names no function: {entry.value!r}", place=place, hint=BROKEN)
    if not entry.name.isprintable() or not _FILE_NAME.fullmatch(entry.name):
        raise WheelError(f"the script's name {entry.name!r} is not a file name", place=place, hint=BROKEN)
    if len(entry.name.encode()) > LONGEST_NAME:
        text = f"the name of the script {entry.name[:80]!r}… has more than {LONGEST_NAME} bytes"
        raise WheelError(text, place=place, hint=BROKEN)
    return Script(entry.name, match["module"], match["attribute"])


def _text(data: bytes, name: str, place: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise WheelError(f"{name} is not UTF-8", place=place, hint=BROKEN) from None
