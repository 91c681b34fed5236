"""Makes small Debian packages, and file systems of images."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from deb_maker import deb_of, entry

from hatch_docker.debian.deb import Deb, open_deb
from hatch_docker.oci.content import plain_chunks
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.layer import Entry
from hatch_docker.support.dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Item:
    """A member of a package: a file by default; a directory without content and link; a hard link to `same`."""

    data: bytes | None = None
    link: str = ""
    same: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


def directory(mode: int = 0o755) -> Item:
    return Item(mode=mode)


def file(data: bytes = b"x", mode: int = 0o644, uid: int = 0, gid: int = 0) -> Item:
    return Item(data=data, mode=mode, uid=uid, gid=gid)


def link(target: str) -> Item:
    return Item(link=target, mode=0o777)


def make_deb(
    folder: Path,
    name: str,
    items: Mapping[str, Item],
    *,
    version: str = "1.0-1",
    scripts: Mapping[str, str] | None = None,
    conffiles: Iterable[str] = (),
    **fields: str,
) -> Deb:
    """Make and open a package; `_` in the names of `fields` stands for a hyphen."""
    usual = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "M <m@example.org>"}
    usual |= {key.replace("_", "-"): value for key, value in fields.items()}
    usual["Description"] = f"{name} for a test"
    sums = (
        f"{hashlib.md5(item.data).hexdigest()}  {path}\n"
        for path, item in items.items()
        if item.data is not None and path not in conffiles
    )
    control = {
        "control": "".join(f"{key}: {value}\n" for key, value in usual.items()),
        "md5sums": "".join(sums),
        "conffiles": "".join(f"/{path}\n" for path in conffiles),
        **(scripts or {}),
    }
    path = folder / f"{name}_{version.replace(':', '%3a')}.deb"
    files = {name: text.encode() for name, text in control.items() if text}
    path.write_bytes(deb_of(*(_member(*item) for item in items.items()), control=files, suffix=".gz"))
    return open_deb(path, place=name)


def _member(path: str, item: Item) -> tuple[tarfile.TarInfo, bytes]:
    kind = tarfile.LNKTYPE if item.same else tarfile.SYMTYPE if item.link else tarfile.REGTYPE
    target = f"./{item.same}" if item.same else item.link
    return entry(f"./{path}", item.data, kind=kind, linkname=target, mode=item.mode, uid=item.uid, gid=item.gid)


def data_of(entry: Entry) -> bytes:
    """An entry's content."""
    assert entry.content is not None, entry.path
    return b"".join(plain_chunks(entry.path, entry.content))


def listing(files: Mapping[str, bytes | str | None]) -> Filesystem:
    """An image's files: bytes are contents, text is the target of a link, None is a directory."""
    nodes: dict[str, Node] = {}
    for path, what in files.items():
        parent = path.rpartition("/")[0]
        while parent:
            nodes.setdefault(parent, Node(kind="dir"))
            parent = parent.rpartition("/")[0]
        if isinstance(what, bytes):
            nodes[path] = Node(kind="file", data=what)
        else:
            nodes[path] = Node(kind="dir") if what is None else Node(kind="link", link=what)
    return Filesystem(nodes)
