"""Paths inside an image or archive: relative, with `/`. It imports nothing of ours."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator

# Linux follows this many symbolic links in one path (path_resolution(7)). No path and no target of a real image has
# as many components; without the limit, one link of some kilobytes would take as many steps as 80 000 short paths.
_MAX_LINKS = 40
_MAX_COMPONENTS = 300


class SymlinkLoopError(ValueError):
    """Symbolic links form a loop, or there are too many of them."""


def parents(path: str) -> Iterator[str]:
    """The directories that contain `path`, innermost first, without the root: `a/b` and `a` of `a/b/c`."""
    while path := path.rpartition("/")[0]:
        yield path


def rooted(name: str) -> str:
    """`name` as a path from the root, in normal form; no `..` leaves the root."""
    return posixpath.normpath(f"/{name}").lstrip("/")


def resolve(path: str, target_of: Callable[[str], str | None]) -> str:
    """Follow all symbolic links in `path`; components that do not exist stay as they are.

    `target_of` returns the target of the link at a resolved path, None if there is no link. `..` does not leave the
    root. Raises SymlinkLoopError.
    """
    resolved = ""
    remaining = path.split("/")[::-1]
    links = 0
    for _ in range(_MAX_COMPONENTS):
        if not remaining:
            return resolved
        name = remaining.pop()
        if name in ("", "."):
            continue
        if name == "..":
            resolved = resolved.rpartition("/")[0]
            continue
        candidate = f"{resolved}/{name}" if resolved else name
        target = target_of(candidate)
        if target is None:
            resolved = candidate
            continue
        links += 1
        if links > _MAX_LINKS:
            break
        resolved = "" if target.startswith("/") else resolved
        remaining += target.split("/")[::-1]
    raise SymlinkLoopError(f"too many levels of symbolic links in /{path.lstrip('/')}")
