"""Find the OS package that has a header, program or shared library, in tables of well-known ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hatch_docker.os_packages.headers import TO_BUILD
from hatch_docker.os_packages.libraries import TO_RUN

MANAGERS = ("apk", "apt")


class Packages(NamedTuple):
    """The name of a package for each manager, empty if it has none."""

    apk: str
    apt: str


HEADERS: Mapping[str, Packages] = {name: Packages(apk, apt) for apk, apt, names in TO_BUILD for name in names.split()}
LIBRARIES: Mapping[str, Packages] = {soname: Packages(apk, apt) for soname, apk, apt in TO_RUN}


def package_of(name: str, manager: str) -> str:
    """The package of `manager` (`apk`, `apt`) that has a header, program, pkg-config module or shared library.

    `name` is a header as in #include (`openssl/ssl.h`), a library for the linker (`-lpq`) or for the loader
    (`libpq.so.5`), or a program or module. The result is empty if the tables do not have it.
    """
    if manager not in MANAGERS:
        return ""
    matches = (table[each] for each in _names(name) for table in (LIBRARIES, HEADERS) if each in table)
    return next((package for packages in matches if (package := getattr(packages, manager))), "")


def _names(name: str) -> Iterator[str]:
    """The keys under which the tables may have a name: itself, and its directories, innermost first."""
    yield name
    while parent := name.rstrip("/").rpartition("/")[0]:
        name = f"{parent}/"
        yield name
