"""Whether the extension modules of an image would load: what their shared libraries need is there, or it is said.

A library is looked for by its name, as the dynamic loader does (ld.so(8)), in the base and in all wheels. Packages load
one another's libraries by hand, in ways that only running them would tell: so one that any wheel brings is taken for
found, and what a ready-made wheel lacks is a warning. What we compiled ourselves has to be right.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from hatch_docker.base.interpreter import BaseFacts
from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LinkageError, join_hints
from hatch_docker.os_packages.knowledge import package_of
from hatch_docker.support.elf import Library
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.prepare import PreparedWheel

# What the C library itself brings. musl takes every name that begins so for its own (ldso/dynlink.c).
_OWN = {
    "glibc": re.compile(r"ld-linux.*|ld64\.so\..*|lib(?:c|m|mvec|dl|pthread|rt|util|resolv|anl)\.so\.\d+(?:\.\d+)?"),
    "musl": re.compile(r"ld-musl-.*|lib(?:c|pthread|rt|m|dl|util|xnet)\..*"),
}
# What the host's driver brings into a container, whose version has to be its kernel's: never in an image.
_DRIVERS = re.compile(r"lib(?:cuda|nvcuvid|nvoptix|cudadebugger|nvidia-[\w-]+)\.so(?:\.\d+)*")
_KNOWN_DIRECTORIES = re.compile(r"/(?:usr/|usr/local/)?lib(?:64)?(?:/[^/]+-linux-[^/]+)?")
# How much of what a wheel lacks is shown in a warning.
_NAMES, _PACKAGES = 3, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A shared library that would not load: the one at `path` in the wheel of `distribution`.

    `library` is what it needs and nothing has; empty where it is for another CPU or C library, which `message` says.
    `mixed` is one of these in a wheel that has others for this system.
    """

    distribution: str
    path: str
    message: str
    library: str = ""
    mixed: bool = False

    def __str__(self) -> str:
        return f"{self.distribution}: {self.path} {self.message}"


def check_linkage(units: Sequence[PreparedWheel], base: BaseFacts, *, compiled: Set[str], progress: Progress) -> None:
    """Check that the shared libraries of all wheels would load in an image of `base`.

    `compiled` are the normalized names of what was compiled for this image, the project included if it was. Raises
    LinkageError for all that is wrong with these; notes, in one line for each wheel, what the others lack.
    """
    problems = problems_of(units, base)
    manager = _manager(base)
    wrong = [each for each in problems if each.distribution in compiled and not each.mixed]
    for name in dict.fromkeys(each.distribution for each in problems):
        doubtful = [each for each in problems if each.distribution == name and each not in wrong]
        # Of wheels that carry something for several systems, the rest is nobody's business, unless we made them.
        if doubtful := [each for each in doubtful if not each.mixed or name in compiled]:
            progress.warn(_summary(doubtful, manager))
    if wrong:
        raise LinkageError(
            "extension modules would not load in the image:" + "".join(f"\n  {each}" for each in wrong),
            hint=_hint(wrong, manager),
        )


def problems_of(units: Sequence[PreparedWheel], base: BaseFacts) -> list[Problem]:
    """Everything that speaks against a library's being loaded, in the order of the wheels."""
    target = base.python
    brought = {
        name
        for unit in units
        for path, library in _libraries(unit)
        if _foreign(library, target) == ""
        for name in (posixpath.basename(path), library.soname)
    }
    return [problem for unit in units for problem in _problems(unit, base, brought)]


def _libraries(unit: PreparedWheel) -> Iterator[tuple[str, Library]]:
    """The libraries of a wheel that get into the image."""
    return ((path, library) for path, library in unit.facts.libraries.items() if path not in unit.pruned)


def _problems(unit: PreparedWheel, base: BaseFacts, brought: Set[str]) -> Iterator[Problem]:
    target = base.python
    foreign = {path: why for path, library in _libraries(unit) if (why := _foreign(library, target))}
    for path, library in _libraries(unit):
        if path not in foreign:
            yield from (
                Problem(
                    distribution=unit.facts.key,
                    path=path,
                    message=f"needs {name}, which the image lacks",
                    library=name,
                )
                for name in library.needed
                if not _found(name, library, base, brought)
            )
        # A wheel for any platform carries libraries for several.
        elif not _for_any(unit):
            mixed = len(foreign) < sum(1 for _ in _libraries(unit))
            yield Problem(distribution=unit.facts.key, path=path, message=foreign[path], mixed=mixed)


def _foreign(library: Library, target: TargetPython) -> str:
    """What makes a library one for another system; empty where nothing does."""
    if library.machine != target.machine:
        return f"is for {library.machine}, and the image for {target.machine}"
    if library.libc not in ("", target.libc.kind):
        return f"is linked to {library.libc}, and the image has {target.libc.kind}"
    return ""


def _found(name: str, library: Library, base: BaseFacts, brought: Set[str]) -> bool:
    file = posixpath.basename(name)
    if file in base.libraries or file in brought:
        return True
    if _OWN[base.python.libc.kind].fullmatch(file) or _DRIVERS.fullmatch(file):
        return True
    # Of other directories of the base it is only known that they are there.
    places = [
        posixpath.normpath(place) for place in (posixpath.dirname(name), *library.search) if place.startswith("/")
    ]
    return any(place[1:] in base.directories and not _KNOWN_DIRECTORIES.fullmatch(place) for place in places)


def _for_any(unit: PreparedWheel) -> bool:
    try:
        _, _, _, tags = parse_wheel_filename(unit.filename)
    except InvalidWheelFilename:
        return False
    return any(tag.platform == "any" for tag in tags)


def _manager(base: BaseFacts) -> str:
    """The package manager that a base has, by its configuration; empty for none that we know."""
    return next((name for name in ("apk", "apt") if f"etc/{name}" in base.directories), "")


def _summary(problems: Sequence[Problem], manager: str) -> str:
    """One line about one wheel."""
    missing = _missing(problems)
    if not missing:
        others = len(problems) - 1
        return f"{problems[0]}" + (f" (and {others} more)" if others else "")
    names, packages = missing[:_NAMES], _packages(missing, manager)
    line = f": {_line(packages[:_PACKAGES])}{_more(len(packages) - _PACKAGES)}" if packages else ""
    more = _more(len(missing) - len(names))
    return f"{problems[0].distribution} needs {', '.join(names)}{more}, which the image lacks{line}"


def _hint(problems: Sequence[Problem], manager: str) -> str:
    missing = _missing(problems)
    hints = []
    if packages := _packages(missing, manager):
        hints.append(_line(packages))
    if unknown := [name for name in missing if not package_of(name, manager)]:
        hints.append(f"find the OS package that has {', '.join(unknown)}, and name it in runtime-packages")
    if any(not each.library for each in problems):
        hints.append("compile in a builder of the image's kind; leave out with prune what is not to be loaded")
    return join_hints(*hints)


def _missing(problems: Sequence[Problem]) -> list[str]:
    """The libraries that are missing, first those that most depends on: plugins that nobody uses come last."""
    return [name for name, _ in Counter(each.library for each in problems if each.library).most_common()]


def _packages(missing: Sequence[str], manager: str) -> list[str]:
    return [*dict.fromkeys(package for name in missing if (package := package_of(name, manager)))]


def _line(packages: Sequence[str]) -> str:
    # A list of strings is the same in TOML as in JSON.
    return f"runtime-packages = {json.dumps([*packages])}"


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
