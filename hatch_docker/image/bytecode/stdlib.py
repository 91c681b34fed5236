"""The modules of the standard library in a base image."""

from __future__ import annotations

from collections.abc import Mapping

from hatch_docker.base.image import Base
from hatch_docker.base.target import TargetPython
from hatch_docker.image.bytecode.compiler import Source
from hatch_docker.oci.filesystem import Node
from hatch_docker.services import Services
from hatch_docker.support.patterns import regex

_SITE = regex(r"(?:site|dist)-packages/")
_MODULE = regex(r"(?:[0-9A-Za-z_-]+/)*[0-9A-Za-z_-]+\.py")
_HASH_BASED = 0b1
_MASK = 0xFFFFFFFF


def standard_library(base: Base, services: Services, *, optimization: int) -> list[Source]:
    """The modules of the base's standard library that its Python has no valid bytecode for, by path.

    Links are followed in their paths. Raises ImageError for layers that cannot be read.
    """
    from hatch_docker.base.contents import read_files
    from hatch_docker.image.bytecode.unpacked import stdlib_of

    python = base.facts.python
    files = read_files(base.merged, services.kept, services.threads)
    directory = stdlib_of(files, python)
    if not directory:
        return []
    prefix, tag = f"{directory}/", f"cpython-{python.minor.replace('.', '')}"
    level = f".opt-{optimization}" if optimization else ""
    suffix = f".{tag}{level}.pyc"
    return [
        Source(f"/{path}", node.data)
        for path, node in sorted(files.nodes.items())
        if path.startswith(prefix) and node.data is not None and is_library_file(path, python)
        if _is_importable(path[len(prefix) :]) and not _has_bytecode(files.nodes, path, node, suffix)
    ]


def is_library_file(path: str, python: TargetPython) -> bool:
    """Whether a path is that of a source or of bytecode of the standard library, in whichever directory that is."""
    folder, name = f"/{python.lib_name}/", f"/{path}"
    return folder in name and name.endswith((".py", ".pyc")) and not _SITE.search(name)


def _is_importable(path: str) -> bool:
    """Whether a path below the library's directory is that of a module which can be imported by its name.

    That of sysconfig's data has hyphens.
    """
    return _MODULE.fullmatch(path) is not None


def _has_bytecode(nodes: Mapping[str, Node], path: str, source: Node, suffix: str) -> bool:
    """Whether Python would use the .pyc file that is there: as PEP 552 says, by time and size or by a hash."""
    parent, _, name = path.rpartition("/")
    node = nodes.get(f"{parent}/__pycache__/{name[: -len('.py')]}{suffix}")
    data = node.data if node else None
    if data is None or len(data) <= 16 or data[2:4] != b"\r\n":
        return False
    flags, mtime, size = (int.from_bytes(data[start : start + 4], "little") for start in (4, 8, 12))
    return bool(flags & _HASH_BASED) or (mtime, size) == (source.mtime & _MASK, len(source.data or b""))
