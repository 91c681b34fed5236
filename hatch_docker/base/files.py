"""The files of a base image as a build checks its configuration against them: kinds, modes, owners, programs.

Contents are kept of a few small files only, such as etc/passwd. The listing is cached by the image's config digest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from hatch_docker.errors import ImageError
from hatch_docker.oci.filesystem import HEAD, Filesystem, Node
from hatch_docker.support.elf import MAGIC, program_interpreter
from hatch_docker.support.patterns import regex

# Files whose content is part of the listing.
_ACCOUNTS = ("etc/passwd", "etc/group")
_TEXT = regex(r"etc/(?:passwd|group|shadow|gshadow)|(?:etc|usr/lib)/os-release")
_MAX_TEXT = 1 << 20
_SHEBANG = b"#!"
# The kernel reads this much of a script (BINPRM_BUF_SIZE).
_SHEBANG_LIMIT = 256


def needs_text(path: str) -> bool:
    """Whether the listing has the content of a file (oci.merging.merge)."""
    return _TEXT.fullmatch(path) is not None


def linked_accounts(files: Filesystem) -> frozenset[str]:
    """The files that links at etc/passwd and etc/group lead to, whose content `needs_text` does not cover."""
    found = set()
    for path in _ACCOUNTS:
        with contextlib.suppress(ImageError):
            found.add(files.resolve(path))
    return frozenset(path for path in found.difference(_ACCOUNTS) if files.is_file(path))


def interpreter_of(head: bytes) -> str:
    """The program that the kernel starts to run a file with this head: a script's, or the loader of an ELF file.

    Empty if there is none: the file is linked statically, or is neither script nor ELF file.
    """
    if head.startswith(_SHEBANG):
        return shebang_of(head)[0]
    return program_interpreter(head) if head.startswith(MAGIC) else ""


def shebang_of(head: bytes) -> tuple[str, str]:
    """The interpreter and the one argument in a script's first line, as the kernel reads them (fs/binfmt_script.c).

    Both are empty if the line has none, or if the kernel would cut the interpreter's path.
    """
    line, end, _ = head[:_SHEBANG_LIMIT].partition(b"\n")
    interpreter, _, argument = line[len(_SHEBANG) :].strip(b" \t\0").replace(b"\t", b" ").partition(b" ")
    if not end and not argument and len(head) >= _SHEBANG_LIMIT:
        return "", ""
    return interpreter.decode("utf-8", "replace"), argument.strip(b" ").decode("utf-8", "replace")


def listing(files: Filesystem) -> Filesystem:
    """The listing of a merged file system, without the contents that it does not keep."""
    texts = linked_accounts(files)
    return Filesystem({path: _reduced(node, needs_text(path) or path in texts) for path, node in files.nodes.items()})


def to_json(files: Filesystem) -> dict[str, Any]:
    """Encode a listing for the cache."""
    return {path: _encoded(node) for path, node in files.nodes.items()}


def from_json(document: Mapping[str, Any]) -> Filesystem:
    """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for other documents."""
    return Filesystem({path: _decoded(fields) for path, fields in document.items()})


def _reduced(node: Node, with_text: bool) -> Node:
    data = node.data if node.data is not None and with_text and len(node.data) <= _MAX_TEXT else None
    return Node(
        kind=node.kind, link=node.link, data=data, mode=node.mode, uid=node.uid, gid=node.gid, head=_reduced_head(node)
    )


def _reduced_head(node: Node) -> bytes:
    """A script's first line, the loader of an ELF file as in a shebang, or four bytes."""
    if node.head.startswith(_SHEBANG):
        return node.head[:_SHEBANG_LIMIT].partition(b"\n")[0] + b"\n" * (b"\n" in node.head[:_SHEBANG_LIMIT])
    interpreter = interpreter_of(node.head)
    return _SHEBANG + interpreter.encode() + b"\n" if interpreter else node.head[:4]


def _encoded(node: Node) -> list[Any]:
    data = None if node.data is None else node.data.decode("latin-1")
    return [node.kind, node.mode, node.uid, node.gid, node.link, node.head.decode("latin-1"), data]


def _decoded(fields: list[Any]) -> Node:
    kind, mode, uid, gid, link, head, data = fields
    content = None if data is None else data.encode("latin-1")
    return Node(kind=kind, link=link, data=content, mode=mode, uid=uid, gid=gid, head=head.encode("latin-1")[:HEAD])
