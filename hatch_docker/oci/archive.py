"""Write images as files: OCI image layouts, as a directory or as a tar, which `docker load` reads, too.

A tar has `oci-layout`, `index.json` and `blobs/` (image-layout.md), and the `manifest.json` of `docker save`.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hatch_docker.errors import ImageError, OutputError
from hatch_docker.oci import spec
from hatch_docker.oci.graph import Node
from hatch_docker.oci.layout import CONTAINERD_NAME, REF_NAME, blob_name, digests_of, open_files
from hatch_docker.oci.reference import Reference
from hatch_docker.support.atomic import replacing, writing
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.flocks import locked
from hatch_docker.support.progress import Advance
from hatch_docker.support.streams import chunks_of, file_digest, verified

# In seconds: how long others wait for one that writes a layout and seems to be stuck.
_PATIENCE = 3600
_MARKER = "oci-layout", spec.dump({"imageLayoutVersion": "1.0.0"})


def archive(root: Node, references: Sequence[Reference], *, without: frozenset[str] = frozenset()) -> Iterator[bytes]:
    """The tar of an image or index in chunks, for `docker load`, `podman load` and skopeo's `oci-archive:`.

    `references` are its names with tags. index.json has one entry, with the first of them: skopeo requires a choice
    among several. In manifest.json, which engines read that have no indexes, the first image has these names, and each
    other one has them with its platform: `app:1.0-linux-arm64`. `without` are digests of layers that the reader has
    already; they are omitted. Raises ImageError if content does not match its descriptor.
    """
    nodes = list(root.walk())
    index = spec.dump(_index([_entry(root, references)]))
    for name, data in (_MARKER, ("index.json", index), ("manifest.json", _saved(nodes, references))):
        yield from _member(name, len(data), iter([data]))
    # Documents first, so that a reader of the stream knows what comes.
    for node in sorted(nodes, key=lambda node: not node.is_document):
        if node.descriptor.digest not in without:
            yield from _member(blob_name(node.descriptor.digest), node.descriptor.size, _verified(node))
    yield bytes(2 * 512)


def write_layout(path: Path, root: Node, references: Sequence[Reference], *, advance: Advance = lambda _: None) -> None:
    """Write an image or index into the image layout at `path`, a directory, which is made if it is missing.

    In an existing layout, other images stay. The one with the same tag is replaced, and its blobs are removed unless
    another image has them. index.json is written last, and nothing in place, so that the layout is complete whenever
    this stops; several processes take turns. Raises OutputError, also if the directory has something else; ImageError
    as `archive`.
    """
    with writing(path):
        if not path.exists():
            path.mkdir(parents=True, exist_ok=True)
    with locked(path, patience=_PATIENCE):
        _write_layout(path, root, references, advance)


def _write_layout(path: Path, root: Node, references: Sequence[Reference], advance: Advance) -> None:
    kept, replaced = _entries(path, _entry(root, references))
    for node in root.walk():
        _write_blob(path / blob_name(node.descriptor.digest), node, advance)
    for name, data in (_MARKER, ("index.json", spec.dump(_index([*kept, _entry(root, references)])))):
        with replacing(path / name) as file:
            file.write(data)
    files = open_files(path)
    with writing(path):
        for digest in digests_of(files, replaced) - digests_of(files, [*kept, _entry(root, references)]):
            (path / blob_name(digest)).unlink(missing_ok=True)


def _index(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": spec.INDEX, "manifests": entries}


def _entry(root: Node, references: Sequence[Reference]) -> dict[str, Any]:
    names = {REF_NAME: references[0].tag, CONTAINERD_NAME: str(references[0])} if references else {}
    return replace(root.descriptor, annotations=names).to_json()


def layout_entries(path: Path) -> list[dict[str, Any]]:
    """The entries of the index of a layout that is or will be at `path`. Raises OutputError if it is something else."""
    with writing(path):
        names = {each.name for each in path.iterdir()} if path.is_dir() else {""}
    if all(name in ("blobs", _MARKER[0]) or name.startswith((f".{_MARKER[0]}.", ".index.json.")) for name in names):
        # It is empty, or was never completed.
        return []
    try:
        entries = spec.load(open_files(path).read("index.json"), "index.json").get("manifests")
    except ImageError:
        entries = None
    if _MARKER[0] not in names or not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise OutputError(
            "it exists, and is not an image layout", place=str(path), hint="name another directory, or remove this one"
        )
    return entries


def _entries(path: Path, entry: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The entries of the layout at `path` that stay, and those that `entry` replaces. Raises OutputError."""
    entries, name = layout_entries(path), _name(entry)
    return [each for each in entries if _name(each) != name], [each for each in entries if _name(each) == name]


def _name(entry: dict[str, Any]) -> object:
    annotations = entry.get("annotations")
    return annotations.get(REF_NAME) if isinstance(annotations, dict) else None


def _write_blob(path: Path, node: Node, advance: Advance) -> None:
    try:
        with path.open("rb") as file:
            if file_digest(file, node.descriptor.digest.partition(":")[0]) == node.descriptor.digest:
                advance(node.descriptor.size)
                return
    except OSError:
        # It is not there, or cannot be read: it is written.
        pass
    with replacing(path) as out:
        for chunk in _verified(node):
            out.write(chunk)
            advance(len(chunk))


def _saved(nodes: Sequence[Node], references: Sequence[Reference]) -> bytes:
    """manifest.json, as `docker save` writes it."""
    images = [node for node in nodes if node.descriptor.media_type in spec.MANIFESTS]
    saved = []
    for number, image in enumerate(images):
        platform = image.descriptor.platform
        names = [each.for_platform(platform) if number and platform else each for each in references]
        config, *layers = [blob_name(child.descriptor.digest) for child in image.children]
        saved.append({"Config": config, "RepoTags": [name.familiar for name in names], "Layers": layers})
    return json.dumps(saved, sort_keys=True).encode()


def _member(name: str, size: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o644
    yield header.tobuf(tarfile.PAX_FORMAT)
    yield from chunks
    yield bytes(-size % 512)


def _verified(node: Node) -> Iterator[bytes]:
    """A node's bytes; raises ImageError at their end if they do not match the descriptor."""
    digest, size = node.descriptor.digest, node.descriptor.size

    def mismatch(_actual: str) -> ImageError:
        return ImageError(
            f"the blob {digest} changed while it was read", hint="build again: it is then made or pulled again"
        )

    with node.open() as file:
        yield from verified(chunks_of(file), digest, mismatch, size=size)
