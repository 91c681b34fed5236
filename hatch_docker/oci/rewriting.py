"""Write a layer of ours again with other contents of some files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping

from hatch_docker.errors import ImageError
from hatch_docker.oci.image import plain_tar
from hatch_docker.oci.layer import Entry, Layer
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.paths import parents
from hatch_docker.support.streams import chunks_of


def read_entries(layer: Layer) -> dict[str, Entry]:
    """The entries of a layer that `write_layer` wrote, by path, with their contents in memory.

    Raises ImageError for a damaged layer, and for one of another writer.
    """
    with layer.open() as file:
        data = b"".join(plain_tar(chunks_of(file), layer.descriptor.media_type, layer.diff_id))
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            return {member.name: _entry(archive, member) for member in archive}
    except tarfile.TarError as error:
        raise ImageError(f"a layer cannot be read: {error}") from None


def with_contents(entries: Mapping[str, Entry], contents: Mapping[str, bytes]) -> list[Entry]:
    """The entries with other contents of files that are among them. Raises ImageError for others."""
    for path in contents:
        if path not in entries or not isinstance(entries[path].content, bytes):
            raise ImageError(f"a layer has no file {path!r}")
    return [replace(each, content=contents.get(path, each.content)) for path, each in entries.items()]


def absent_parents(entries: Iterable[Entry]) -> frozenset[str]:
    """The directories that the entries are in, and that their layer does not write: layers below have them."""
    paths = {entry.path for entry in entries}
    return frozenset(parent for path in paths for parent in parents(path)) - paths


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    entry = Entry(path=member.name, mode=member.mode, uid=member.uid, gid=member.gid)
    if member.isdir():
        return entry
    if member.issym():
        return replace(entry, link=member.linkname)
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise ImageError(f"a layer has {member.name!r}, which is no file, directory or symbolic link")
    return replace(entry, content=content.read())
