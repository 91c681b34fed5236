"""A wheel written again, so that its bytes follow from its content alone: two machines that compile alike make one.

PyPA: Binary distribution format.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import BinaryIO

from hatch_docker.errors import DigestMismatchError
from hatch_docker.oci.content import plain_chunks
from hatch_docker.wheels.distinfo import BROKEN, write_record
from hatch_docker.wheels.wheelfile import WheelFile

_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
# It came out of a container, where code that nobody vouches for may have made it.
_LARGEST = 4 << 30
# Where the wheel lay when pip built it, and signatures of a RECORD that may be another now.
_LEFT_OUT = ("direct_url.json", "RECORD.jws", "RECORD.p7s")


def repack(wheel: Path, out: BinaryIO, filename: str) -> None:
    """Write the wheel at `wheel`, which is called `filename`, to `out`, a file that can be sought in.

    Its members are sorted, .dist-info behind the others and RECORD at the end, stored, with one date and one of two
    modes. RECORD has the same hashes, sorted. What pip leaves of the place where it found it is left out. Raises
    WheelError for a wheel that breaks its specification or whose content is not what RECORD says; what is in `out` then
    is worth nothing. Memory: a chunk, and the wheel's directory.
    """
    with WheelFile(wheel, filename) as opened, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        if sum(info.file_size for info in opened.members.values()) > _LARGEST:
            raise opened.error(f"unpacks to more than {_LARGEST >> 30} GiB")
        record = f"{opened.dist_info}/RECORD"
        paths = _order(opened)
        for path in paths:
            _copy(opened, path, archive)
        archive.writestr(_info(record, executable=False), _record(opened, sorted(paths), record))


def _order(wheel: WheelFile) -> list[str]:
    """The members but for RECORD and what is left out, those of .dist-info last."""
    left_out = {f"{wheel.dist_info}/{name}" for name in ("RECORD", *_LEFT_OUT)}
    paths = [path for path in wheel.members if path not in left_out]
    return sorted(paths, key=lambda path: (path.startswith(f"{wheel.dist_info}/"), path))


def _record(wheel: WheelFile, paths: list[str], record: str) -> bytes:
    rows = [(path, wheel.records[path].hash, str(wheel.members[path].file_size)) for path in paths]
    return write_record([*rows, (record, "", "")])


def _copy(wheel: WheelFile, path: str, archive: zipfile.ZipFile) -> None:
    info = _info(path, executable=wheel.executable(path))
    # zipfile chooses the form of the header by it.
    info.file_size = wheel.members[path].file_size
    try:
        with archive.open(info, "w") as member:
            for chunk in plain_chunks(path, wheel.content(path), wheel.checksum(path)):
                member.write(chunk)
    except DigestMismatchError as error:
        raise wheel.error(error.message, hint=BROKEN) from None


def _info(path: str, *, executable: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _DATE)
    info.create_system = _UNIX
    info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    return info
