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
# What cannot be imported, or not used, without the library of Tk, which most images lack; and that library, or its
# directory of scripts.
_FOR_TK = regex(r"(?:tkinter|idlelib|turtledemo)/.*|turtle\.py")
_TK = regex(r"(?:.*/)?(?:lib(?:tcl\d)?tk\d[\d.]*\.so[\d.]*|tk\d+\.\d+)")
_HASH_BASED = 0b1
_MASK = 0xFFFFFFFF


def standard_library(base: Base, services: Services, *, optimization: int) -> list[Source]:
    """The modules of the base's standard library that its Python has no valid bytecode for, by path.

    Those for Tk are among them if the base has its library. Links are followed in their paths. Raises ImageError for
    layers that cannot be read.
    """
    from hatch_docker.base.contents import read_files
    from hatch_docker.image.bytecode.unpacked import stdlib_of

    python = base.facts.python
    files = read_files(base.merged, services.kept, services.cache, services.threads)
    directory = stdlib_of(files, python)
    if not directory:
        return []
    prefix, tag = f"{directory}/", f"cpython-{python.minor.replace('.', '')}"
    level = f".opt-{optimization}" if optimization else ""
    suffix = f".{tag}{level}.pyc"
    has_tk = any(map(_TK.fullmatch, files.nodes))
    library = {
        path: node
        for path, node in sorted(files.nodes.items())
        if path.startswith(prefix) and is_library_file(path, python) and _is_importable(path[len(prefix) :])
    }
    return [
        Source(f"/{path}", node.data)
        for path, node in library.items()
        if node.data is not None and (has_tk or not _FOR_TK.fullmatch(path[len(prefix) :]))
        if not _has_bytecode(files.nodes, path, node, suffix)
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
