"""Which OS package has a header, a program or a shared library.

What is not in the tables has no answer, which is better than a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hatch_docker.os_packages.headers import TO_BUILD
from hatch_docker.os_packages.libraries import TO_RUN

MANAGERS = ("apk", "apt")


class Packages(NamedTuple):
    """A package's name for each manager; empty where it has none."""

    apk: str
    apt: str


HEADERS: Mapping[str, Packages] = {name: Packages(apk, apt) for apk, apt, names in TO_BUILD for name in names.split()}
LIBRARIES: Mapping[str, Packages] = {soname: Packages(apk, apt) for soname, apk, apt in TO_RUN}


def package_of(name: str, manager: str) -> str:
    """The package of `manager` (`apk`, `apt`) that has a header, program, module of pkg-config, or shared library.

    A header is named as it is included (`openssl/ssl.h`), a library that is to be linked as for the linker (`-lpq`),
    one that is to be loaded by its file name (`libpq.so.5`). Empty where that is not known.
    """
    if manager not in MANAGERS:
        return ""
    found = (table[each] for each in _names(name) for table in (LIBRARIES, HEADERS) if each in table)
    return next((package for packages in found if (package := getattr(packages, manager))), "")


def _names(name: str) -> Iterator[str]:
    """What the tables may have of a name: itself, and the directories that it is in, the nearest first."""
    yield name
    while parent := name.rstrip("/").rpartition("/")[0]:
        name = f"{parent}/"
        yield name
