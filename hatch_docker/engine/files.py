"""Tar archives of the files that are copied into and out of containers, written and read as streams."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from hatch_docker.errors import EngineError
from hatch_docker.oci import tar
from hatch_docker.support.streams import ChunkReader

CHUNK = 1 << 20
_MODE = 0o644
# In bytes, far beyond any wheel. A sparse file in a container can claim any size.
_LARGEST = 4 << 30


def packed(files: Mapping[str, bytes | Path]) -> Iterator[bytes]:
    """A tar of `files`, by absolute paths. It has no directories, so that existing ones do not change.

    Raises EngineError for a file of the host that cannot be read, or changes meanwhile.
    """
    for path, content in files.items():
        if isinstance(content, bytes):
            yield tar.Header(path.lstrip("/"), tar.FILE, _MODE, len(content)).to_bytes() + content
            yield tar.padding(len(content))
        else:
            yield from _file(path.lstrip("/"), content)
    yield tar.END


def _file(path: str, source: Path) -> Iterator[bytes]:
    # The HTTP library reads this generator. It would report an OSError as a problem with the engine.
    try:
        with source.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            yield tar.Header(path, tar.FILE, _MODE, size).to_bytes()
            left = size
            while chunk := file.read(min(left, CHUNK)):
                left -= len(chunk)
                yield chunk
            if left or file.read(1):
                raise EngineError("the file changed while it was read", place=str(source))
            yield tar.padding(size)
    except OSError as error:
        raise EngineError(f"cannot read the file: {error.strerror or error}", place=str(source)) from None


def unpack(chunks: Iterator[bytes], out: BinaryIO) -> None:
    """Copy the content of the only file of a tar to `out`.

    Raises EngineError if it is not a regular file, or larger than 4 GiB.
    """
    try:
        with tarfile.open(fileobj=ChunkReader(chunks), mode="r|", bufsize=CHUNK) as archive:
            member = archive.next()
            content = archive.extractfile(member) if member is not None and member.isreg() else None
            if member is None or content is None:
                raise EngineError("it is not a regular file")
            if member.size > _LARGEST:
                raise EngineError(f"it is larger than {_LARGEST >> 30} GiB")
            shutil.copyfileobj(content, out, CHUNK)
    except tarfile.TarError as error:
        raise EngineError(f"the engine did not send the whole file: {error}") from None
