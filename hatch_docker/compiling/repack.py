"""Rewrite a wheel so that its bytes depend only on its content: equal compilations on two machines give equal wheels.

PyPA: Binary distribution format.
"""

from __future__ import annotations

import hashlib
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from hatch_docker.errors import ContentError
from hatch_docker.oci.content import plain_chunks
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.distinfo import BROKEN, hash_text, write_record
from hatch_docker.wheels.wheelfile import WheelFile

_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
# The wheel comes from a container, in which unverified code ran.
_LARGEST = 4 << 30
# pip's record of the wheel's path, and signatures of a RECORD that may change.
_LEFT_OUT = ("direct_url.json", "RECORD.jws", "RECORD.p7s")

_LOCAL_URL = regex(
    rb"^(Requires-Dist:[ \t]*[A-Za-z0-9][A-Za-z0-9._-]*(?:[ \t]*\[[^\]\n]*\])?)[ \t]*@[ \t]*file:[^ ;\r\n]*"
    rb"([ \t]*(?:;[^\r\n]*)?)",
    re.MULTILINE | re.IGNORECASE,
)


def repack(wheel: Path, out: BinaryIO, filename: str) -> None:
    """Write the wheel at `wheel`, whose file name is `filename`, to the seekable file `out`.

    The members are stored in sorted order, .dist-info after the others and RECORD at the end, with one date and one of
    two modes. RECORD has the same hashes, sorted; where they are wrong, those of the files. pip's direct_url.json is
    omitted, and METADATA names local directories without their URLs, which are those of this machine. Memory: a chunk,
    and the zip's directory. Raises WheelError if the wheel breaks its specification; the content of `out` is then
    invalid.
    """
    with WheelFile(wheel, filename) as opened, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        opened.correct()
        if sum(info.file_size for info in opened.members.values()) > _LARGEST:
            raise opened.error(f"unpacks to more than {_LARGEST >> 30} GiB")
        record, metadata = f"{opened.dist_info}/RECORD", f"{opened.dist_info}/METADATA"
        text = opened.read(metadata)
        replaced = {metadata: changed} if (changed := without_local_urls(text)) != text else {}
        paths = _order(opened)
        for path in paths:
            if path in replaced:
                archive.writestr(_info(path, executable=False), replaced[path])
            else:
                _copy(opened, path, archive)
        archive.writestr(_info(record, executable=False), _record(opened, sorted(paths), replaced))


def portable(wheel: Path) -> Path:
    """The wheel itself, or a repacked one of the same name if its metadata has URLs of local directories."""
    with WheelFile(wheel) as opened:
        text = opened.read(f"{opened.dist_info}/METADATA")
    if without_local_urls(text) == text:
        return wheel
    path = wheel.parent / "portable" / wheel.name
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as out:
        repack(wheel, out, wheel.name)
    return path


def without_local_urls(metadata: bytes) -> bytes:
    """Core metadata whose `Requires-Dist` have no file URLs (PEP 508: `name @ file:///…`)."""
    head, separator, description = metadata.partition(b"\n\n")
    return _LOCAL_URL.sub(rb"\1\2", head) + separator + description


def _order(wheel: WheelFile) -> list[str]:
    """The members without RECORD and the omitted ones, those of .dist-info last."""
    left_out = {f"{wheel.dist_info}/{name}" for name in ("RECORD", *_LEFT_OUT)}
    paths = [path for path in wheel.members if path not in left_out]
    return sorted(paths, key=lambda path: (path.startswith(f"{wheel.dist_info}/"), path))


def _record(wheel: WheelFile, paths: list[str], replaced: Mapping[str, bytes]) -> bytes:
    rows = []
    for path in paths:
        if path in replaced:
            content = replaced[path]
            rows.append((path, hash_text("sha256", hashlib.sha256(content).digest()), str(len(content))))
        else:
            rows.append((path, wheel.records[path].hash, str(wheel.members[path].file_size)))
    return write_record([*rows, (f"{wheel.dist_info}/RECORD", "", "")])


def _copy(wheel: WheelFile, path: str, archive: zipfile.ZipFile) -> None:
    info = _info(path, executable=wheel.executable(path))
    # By the size, zipfile chooses the form of the header.
    info.file_size = wheel.members[path].file_size
    try:
        with archive.open(info, "w") as member:
            for chunk in plain_chunks(path, wheel.content(path)):
                member.write(chunk)
    except ContentError as error:
        raise wheel.error(error.message, hint=BROKEN) from None


def _info(path: str, *, executable: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _DATE)
    info.create_system = _UNIX
    info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    return info
