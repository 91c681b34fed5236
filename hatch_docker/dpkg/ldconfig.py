"""The directories in ld.so.conf, where ldconfig(8) and so glibc's dynamic loader look for libraries."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterator

from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.support.patterns import regex

CONFIGURATION = "etc/ld.so.conf"
_WILDCARDS = regex(r"[*?[]")
_MAX_FILES = 100
_MAX_PATTERNS = 100
_MAX_DIRECTORIES = 1000


def configured_directories(files: Filesystem, read: Callable[[str], str]) -> Iterator[str]:
    """The directories in ld.so.conf and the files that it includes, in their order; some may not exist.

    `read` returns the text of a file in `files`.
    """
    waiting, seen = [CONFIGURATION], {CONFIGURATION}
    patterns: set[str] = set()
    directories: set[str] = set()
    while waiting:
        included: list[str] = []
        for line in read(waiting.pop(0)).splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    if pattern not in patterns and len(patterns) < _MAX_PATTERNS:
                        patterns.add(pattern)
                        included += (each for each in _matching(files, pattern) if each not in seen)
            elif words and words[0].startswith("/") and len(directories) < _MAX_DIRECTORIES:
                directories.add(words[0])
                yield posixpath.normpath(words[0])
        waiting = (included + waiting)[:_MAX_FILES]
        seen |= set(included)


def _matching(files: Filesystem, pattern: str) -> list[str]:
    """The files that match a pattern of ld.so.conf, sorted."""
    path = pattern.lstrip("/") if pattern.startswith("/") else f"etc/{pattern}"
    # Most patterns have no wildcard, and searching thousands of files is slow.
    if not _WILDCARDS.search(path):
        return [path] if path in files.nodes else []
    try:
        return sorted(fnmatch.filter(files.nodes, path))
    except re.error:
        return []
