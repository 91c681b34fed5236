"""Makes small wheels, valid ones and ones that are broken in one place."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Rows = list[tuple[str, str, str]]

WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def row(path: str, content: bytes, algorithm: str = "sha256") -> tuple[str, str, str]:
    """A file's row in RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, content).digest()).rstrip(b"=").decode()
    return path, f"{algorithm}={digest}", str(len(content))


def make_wheel(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    files: Mapping[str, str | bytes] = {},
    *,
    filename: str = "",
    requires: Iterable[str] = (),
    entry_points: str = "",
    wheel: str = WHEEL,
    metadata: str | None = None,
    executable: Iterable[str] = (),
    members: Iterable[tuple[zipfile.ZipInfo, bytes]] = (),
    without: Iterable[str] = (),
    record: Callable[[Rows], Rows] = lambda rows: rows,
    method: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write a wheel into `folder`. `members` are added unchanged and not recorded; `record` changes RECORD's rows.

    `without` are files of .dist-info to omit.
    """
    info = f"{name}-{version}.dist-info"
    if metadata is None:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    content = {path: _bytes(text) for path, text in files.items()}
    content |= {f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": wheel.encode()}
    if entry_points:
        content[f"{info}/entry_points.txt"] = entry_points.encode()
    content = {path: data for path, data in content.items() if path.removeprefix(f"{info}/") not in set(without)}
    rows = record([*(row(path, data) for path, data in content.items()), (f"{info}/RECORD", "", "")])
    if "RECORD" not in set(without):
        text = io.StringIO()
        # Python 3.10 needs the escape character to write a NUL.
        csv.writer(text, lineterminator="\n", escapechar="\\").writerows(rows)
        content[f"{info}/RECORD"] = text.getvalue().encode()
    path = folder / (filename or f"{name}-{version}-py3-none-any.whl")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of duplicate names, which some tests need
        for member, data in content.items():
            archive.writestr(member_info(member, 0o755 if member in set(executable) else 0o644, method), data)
        for member_info_, data in members:
            archive.writestr(member_info_, data)
    return path


def member_info(path: str, mode: int = 0o644, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    """A regular file's entry in a zip."""
    info = zipfile.ZipInfo()
    info.filename = path  # the constructor would cut it at a NUL
    info.external_attr = (0o100000 | mode) << 16
    info.compress_type = method
    return info


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
