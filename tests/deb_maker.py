"""Makes .deb files, ar archives of tar archives, including invalid ones."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}
CONTROL = b"Package: hello\nVersion: 1.0-1\nArchitecture: amd64\nDescription: says hello\n"


def entry(
    path: str, content: bytes | None = None, *, kind: bytes = tarfile.REGTYPE, **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tar archive: by default a directory if it has no content."""
    info = tarfile.TarInfo(path)
    info.type = tarfile.DIRTYPE if content is None and kind == tarfile.REGTYPE else kind
    info.size = len(content or b"")
    info.mode = 0o755 if info.isdir() else 0o644
    for name, value in fields.items():
        setattr(info, name, value)
    return info, content or b""


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar archive as dpkg-deb writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def ar_of(members: Sequence[tuple[str, bytes]]) -> bytes:
    """An ar archive."""
    parts = [b"!<arch>\n"]
    for name, content in members:
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        parts += [header, content, b"\n" * (len(content) % 2)]
    return b"".join(parts)


def deb_of(
    *entries: tuple[tarfile.TarInfo, bytes],
    control: Mapping[str, bytes] | None = None,
    suffix: str = ".xz",
    control_suffix: str = ".xz",
) -> bytes:
    """A .deb with these members and control files, compressed as by dpkg-deb."""
    files = {"control": CONTROL} | dict(control or {})
    controls = [entry("./"), *(entry(f"./{name}", content) for name, content in files.items())]
    return ar_of(
        [
            ("debian-binary", b"2.0\n"),
            (f"control.tar{control_suffix}", PACK[control_suffix](tar_of(*controls))),
            (f"data.tar{suffix}", PACK[suffix](tar_of(entry("./"), *entries))),
        ]
    )


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
