"""Names of OS packages as users write them: `NAME` or `NAME=VERSION`."""

from __future__ import annotations

from collections.abc import Iterable

from hatch_docker.support.patterns import regex

# Excludes what apt and apk take for something else: options, wildcards, files (apk: .apk), and a minus at the end, with
# which apt removes a package.
OS_PACKAGE = regex(r"(?!.*\.apk)[A-Za-z0-9][A-Za-z0-9_.+-]*(?<!-)(=[A-Za-z0-9][A-Za-z0-9_.+:~-]*)?")


def requested_first(packages: Iterable[str], requested: Iterable[str]) -> tuple[str, ...]:
    """Sort packages (`NAME VERSION`), the requested ones first: reports label a layer by its first packages."""
    names = {name.partition("=")[0] for name in requested}
    return tuple(sorted(packages, key=lambda each: (each.partition(" ")[0] not in names, each)))
