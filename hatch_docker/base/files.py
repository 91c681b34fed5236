"""The files of a base image as a build checks its configuration against them: kinds, modes, owners, programs.

Contents are kept of a few small files only, such as etc/passwd. The listing is cached by the image's config digest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hatch_docker.oci.filesystem import HEAD, Filesystem, Node
from hatch_docker.support.elf import MAGIC, program_interpreter

# Files whose content is part of the listing.
_TEXT = re.compile(r"etc/(?:passwd|group|shadow|gshadow)|(?:etc|usr/lib)/os-release")
_MAX_TEXT = 1 << 20
_SHEBANG = b"#!"


def needs_text(path: str) -> bool:
    """Whether the listing has the content of a file (oci.filesystem.merge)."""
    return _TEXT.fullmatch(path) is not None


def interpreter_of(head: bytes) -> str:
    """The program that the kernel starts to run a file with this head: a script's, or the loader of an ELF file.

    Empty if there is none: the file is linked statically, or is neither script nor ELF file.
    """
    if head.startswith(_SHEBANG):
        line = head[len(_SHEBANG) : 256].partition(b"\n")[0]
        return b"".join(line.split()[:1]).decode("utf-8", "replace")
    return program_interpreter(head) if head.startswith(MAGIC) else ""


def listing(files: Filesystem) -> Filesystem:
    """The listing of a merged file system, without the contents that it does not keep."""
    return Filesystem({path: _reduced(path, node) for path, node in files.nodes.items()})


def to_json(files: Filesystem) -> dict[str, Any]:
    """Encode a listing for the cache."""
    return {path: _encoded(node) for path, node in files.nodes.items()}


def from_json(document: Mapping[str, Any]) -> Filesystem:
    """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for other documents."""
    return Filesystem({path: _decoded(*fields) for path, fields in document.items()})


def _reduced(path: str, node: Node) -> Node:
    data = node.data if node.data is not None and needs_text(path) and len(node.data) <= _MAX_TEXT else None
    return Node(
        kind=node.kind, link=node.link, data=data, mode=node.mode, uid=node.uid, gid=node.gid, head=_reduced_head(node)
    )


def _reduced_head(node: Node) -> bytes:
    """A shebang, or the magic number of an ELF file and its loader as in a shebang; else two bytes."""
    if not node.head:
        return b""
    interpreter = interpreter_of(node.head)
    return b"#!" + interpreter.encode() if interpreter else node.head[:4]


def _encoded(node: Node) -> list[Any]:
    data = None if node.data is None else node.data.decode("latin-1")
    return [node.kind, node.mode, node.uid, node.gid, node.link, node.head.decode("latin-1"), data]


def _decoded(kind: str, mode: int, uid: int, gid: int, link: str, head: str, data: str | None) -> Node:
    content = None if data is None else data.encode("latin-1")
    return Node(kind=kind, link=link, data=content, mode=mode, uid=uid, gid=gid, head=head.encode("latin-1")[:HEAD])
