"""Explain which wheels of a lock fit a target, and what the lock has instead. No I/O."""

from __future__ import annotations

import re
from collections.abc import Set

from packaging.pylock import Package, Pylock
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.support.patterns import regex

_SHOWN = 6
# Platform tags of Linux (PEP 600, PEP 656): the C library and the machine.
_LINUX = regex(r"(manylinux|musllinux|linux)[0-9]*(?:_[0-9]+_[0-9]+)?_(.+)")


def fits(package: Package, tags: Set[Tag]) -> bool:
    """Whether a package has a wheel with one of the tags."""
    return any(not tags.isdisjoint(tags_of(wheel.filename)) for wheel in package.wheels or ())


def tags_of(filename: str) -> frozenset[Tag]:
    """The tags of a wheel's file name. Raises LockError."""
    try:
        return parse_wheel_filename(filename)[-1]
    except InvalidWheelFilename as error:
        raise LockError(str(error)) from None


def for_one_platform(pylock: Pylock) -> bool:
    """Whether all wheels of a lock that are for a platform are for the same one.

    Such a lock was probably made for that platform, and lacks the wheels for others.
    """
    kinds = [_kinds(wheel.filename) for package in pylock.packages for wheel in package.wheels or ()]
    bound = [each for each in kinds if each]
    return bool(bound) and bool(frozenset.intersection(*bound))


def describe_files(package: Package) -> str:
    """The Pythons and platforms of a package's wheels, and whether it has an sdist: `wheels for … on …`."""
    tags = _all_tags(package)
    pythons = _shortened({tag.interpreter if tag.abi == "none" else f"{tag.interpreter}-{tag.abi}" for tag in tags})
    platforms = _shortened({tag.platform for tag in tags})
    return f"wheels for {pythons} on {platforms}" + (", and an sdist" if package.sdist else "")


def missing_wheel(package: Package, target: TargetPython, *, complete: bool) -> str:
    """Why a package has no fitting wheel, in short: `no musllinux wheel for cp313`.

    `complete` says that the lock lists every file that fits the target.
    """
    python, kind = target.tags[0].abi, _wheel_kind(target)
    if not package.wheels:
        return f"no wheel for {python} on {kind} {target.machine}" if complete else "the lock has only an sdist"
    pythons = {(tag.interpreter, tag.abi) for tag in target.tags}
    platforms = {tag.platform for tag in target.tags}
    tags = _all_tags(package)
    elsewhere = {tag.platform for tag in tags if (tag.interpreter, tag.abi) in pythons}
    if any(tag.platform in platforms for tag in tags):
        return f"no {kind} wheel for {python}" if elsewhere else f"no wheel for {python}"
    if not elsewhere:
        return f"no wheel for {python} on {kind} {target.machine}"
    alike = [platform for platform in elsewhere if platform.startswith(kind)]
    if any(platform.endswith(f"_{target.machine}") for platform in alike):
        return f"no {kind} wheel for {target.libc}"
    return f"no {kind} wheel for {target.machine}" if alike else f"no {kind} wheel"


def has_glibc_wheel(package: Package, target: TargetPython) -> bool:
    """Whether a package has a wheel for the target's Python and machine with glibc."""
    pythons = {(tag.interpreter, tag.abi) for tag in target.tags}
    return any(
        (tag.interpreter, tag.abi) in pythons
        and tag.platform.startswith("manylinux")
        and tag.platform.endswith(f"_{target.machine}")
        for tag in _all_tags(package)
    )


def _all_tags(package: Package) -> frozenset[Tag]:
    return frozenset[Tag]().union(*(tags_of(wheel.filename) for wheel in package.wheels or ()))


def _wheel_kind(target: TargetPython) -> str:
    return "musllinux" if target.libc.kind == "musl" else "manylinux"


def _kinds(filename: str) -> frozenset[str]:
    """The platforms of a wheel, without versions: `linux x86_64`, `macosx`; none for a wheel of all platforms."""
    return frozenset(_kind(tag.platform) for tag in tags_of(filename) if tag.platform != "any")


def _kind(platform: str) -> str:
    if linux := _LINUX.fullmatch(platform):
        return f"{linux[1].replace('manylinux', 'linux')} {linux[2]}"
    return re.split("[^a-z]", platform, maxsplit=1)[0]


def _shortened(names: Set[str]) -> str:
    shown = sorted(names, key=_natural)
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts cp39 before cp313."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", text)]
