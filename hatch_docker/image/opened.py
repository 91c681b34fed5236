"""Check the shared libraries that Python modules open by name, which no ELF file names (ctypes, cffi).

A package may work without, so that nothing here is an error. It is a warning if nothing that a call names is there, and
either an OS package is known to have it, or importing the module opens it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from hatch_docker.base.facts import BaseFacts
from hatch_docker.image.linkage import is_of_system, manager_of, provided_by, setting
from hatch_docker.os_packages.knowledge import LIBRARIES, package_of
from hatch_docker.support.patterns import regex
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.findings import Opened
from hatch_docker.wheels.prepare import PreparedWheel

# Modules for other systems.
_FOREIGN = regex(r"(?:^|[/_.])(?:darwin|mac|macos|macosx|osx|cocoa\w*|win|win32|windows|nt|bsd|ios|android)(?:[/_.]|$)")
_VERSION = regex(r"\.so(?:\.\d+)*$")
_MAX_NAMES = 4


def check_opened(wheels: Sequence[PreparedWheel], base: BaseFacts, progress: Progress) -> None:
    """Warn, in one line for each wheel, about libraries that its modules open and the image lacks."""
    present = {_stem(each) for each in (*base.libraries, *provided_by(wheels, base))}
    manager = manager_of(base)
    for wheel in wheels:
        missing = dict(_missing(wheel, base, present, manager))
        if missing:
            names, packages = list(missing), list(dict.fromkeys(each for each in missing.values() if each))
            more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            advice = f": {setting(packages)}" if packages else ""
            what = f"{wheel.facts.key} opens {', '.join(names[:_MAX_NAMES])}{more} by name"
            progress.warn(f"{what}, which the image lacks{advice}")


def _missing(wheel: PreparedWheel, base: BaseFacts, present: Set[str], manager: str) -> Iterator[tuple[str, str]]:
    """The libraries that are missing, with their OS packages, empty if these are not known."""
    for each in wheel.facts.opens:
        if _FOREIGN.search(each.place) or any(
            _stem(name) in present or is_of_system(name, base) or is_of_system(f"{name}.1", base) for name in each.names
        ):
            continue
        package = next((found for name in each.names if (found := _package(name, manager))), "")
        if package or _is_certain(each):
            yield each.names[0], package


def _is_certain(opened: Opened) -> bool:
    """Whether importing the module opens a library of one version: another would not do."""
    return opened.imported and not opened.names[0].endswith(".so")


def _package(name: str, manager: str) -> str:
    """The OS package that has a library in any version."""
    known = (each for each in LIBRARIES if _stem(each) == _stem(name))
    return next((package for each in (name, *known) if (package := package_of(each, manager))), "")


def _stem(name: str) -> str:
    return _VERSION.sub("", name)
