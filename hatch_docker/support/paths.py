"""Paths inside an image or archive: relative, with `/`. It imports nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator


def parents(path: str) -> Iterator[str]:
    """The directories that contain `path`, innermost first, without the root: `a/b` and `a` of `a/b/c`."""
    while path := path.rpartition("/")[0]:
        yield path
