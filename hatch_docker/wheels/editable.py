"""Which members of the project's wheel may change without a change of anything but themselves. No I/O."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

from hatch_docker.wheels.facts import WheelFacts
from hatch_docker.wheels.findings import test_directory

# A module that is compiled is not there as its source; pytest's file is read in another way.
_UNSUITED = (".a", ".pyc", ".pyd", ".so")
_CONFTEST = "conftest.py"


def editable_members(own: WheelFacts, others: Iterable[WheelFacts], places: Iterable[str]) -> frozenset[str]:
    """The members of the wheel `own` in site-packages of which no other wheel has one at the same path.

    `places` are the paths in site-packages of other files. Tests are not among the members, and none is if the wheel
    has libraries, about which its modules are asked.
    """
    if own.libraries:
        return frozenset()
    metadata, data = f"{own.data.removesuffix('.data')}.dist-info/", f"{own.data}/"
    found = {path for path in own.files if not path.startswith((metadata, data)) and _is_suited(path)}
    for facts in others:
        found.difference_update(facts.files.keys() & found, _moved(facts))
    return frozenset(found.difference(places))


def _is_suited(path: str) -> bool:
    return not (path.endswith(_UNSUITED) or posixpath.basename(path) == _CONFTEST or test_directory(path))


def _moved(facts: WheelFacts) -> Iterator[str]:
    """The paths in site-packages of the members in a `.data` directory."""
    data = f"{facts.data}/"
    return (facts.site_path(path) for path in facts.files if path.startswith(data))
