"""Which modules of an image get bytecode, and under which names. No I/O."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from hatch_docker.base.target import TargetPython
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.prepare import PreparedWheel

# A module that the import system finds below a directory of sys.path: no part of its path has a dot or a hyphen. Parts
# may begin with a digit, as those of Django's migrations, which are imported by name. Characters beyond ASCII are not
# examined: what is an identifier depends on the version of Unicode. The set names what is not in a part: a range up
# to the last character of Unicode takes milliseconds to compile.
_PART = r"[^\x00-/:-@\[-^`{-\x7f]+"
_MODULE = regex(rf"(?:{_PART}/)*{_PART}\.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """The modules of a wheel that get bytecode: its members by their paths in site-packages, in the order of these.

    `skipped` are the other modules that could have it: another wheel has a different file at the same path, or one of
    the wheels brings the bytecode itself.
    """

    wheel: PreparedWheel
    members: Mapping[str, str]
    skipped: tuple[str, ...] = ()
    checked: bool = False


def cache_name(path: str, python: TargetPython, optimization: int) -> str:
    """Where Python looks for the bytecode of a module (PEP 3147, PEP 488). The GIL does not matter to the name."""
    folder, name = posixpath.split(path)
    level = f".opt-{optimization}" if optimization else ""
    return posixpath.join(folder, "__pycache__", f"{name.removesuffix('.py')}{_tag(python)}{level}.pyc")


def is_module(path: str) -> bool:
    """Whether a path relative to a directory of sys.path is that of a module which an import finds."""
    return _MODULE.fullmatch(path) is not None


def modules_of(
    wheels: Sequence[PreparedWheel], python: TargetPython, optimization: int, checked: Iterable[str]
) -> dict[str, Modules]:
    """The modules of each wheel by its key; `wheels` are in the order of their layers, the lowest first.

    The highest layer's file is the one that the image has, so that no other wheel compiles a different one for its
    path. `checked` are the keys of the wheels whose bytecode Python compares with the source.
    """
    ending = f"{_tag(python)}{f'.opt-{optimization}' if optimization else ''}.pyc"
    brought = {
        wheel.facts.site_path(member)
        for wheel in wheels
        for member in wheel.facts.files
        if member.endswith(ending) and member not in wheel.pruned
    }
    checked = frozenset(checked)
    highest: dict[str, str] = {}
    found: dict[str, Modules] = {}
    for wheel in reversed(wheels):
        members, skipped = {}, []
        for path, member in sorted(_candidates(wheel)):
            digest = wheel.facts.files[member]
            above = highest.setdefault(path, digest)
            if above != digest or (path in members) or cache_name(path, python, optimization) in brought:
                skipped.append(path)
            else:
                members[path] = member
        key = wheel.facts.key
        found[key] = Modules(
            wheel=wheel, members=MappingProxyType(members), skipped=tuple(skipped), checked=key in checked
        )
    return found


def _candidates(wheel: PreparedWheel) -> list[tuple[str, str]]:
    facts, pruned = wheel.facts, wheel.pruned
    members = [member for member in facts.files if member.endswith(".py") and member not in pruned]
    return [(path, member) for member in members if is_module(path := facts.site_path(member))]


def _tag(python: TargetPython) -> str:
    return f".cpython-{python.minor.replace('.', '')}"
