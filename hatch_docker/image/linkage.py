"""Check that the shared libraries of an image's wheels would load in it.

A needed library is searched by name, as the dynamic loader does (ld.so(8)), in the base and in all wheels. Packages
also load each other's libraries at run time, which only running them would show. So a library of any wheel counts as
present. A missing library is a warning for a ready-made wheel, and an error for one that was compiled for the image. It
is a note if only modules need it that their package works without: all its imports of them may fail.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence, Set

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from hatch_docker.base.facts import BaseFacts
from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LinkageError, join_hints
from hatch_docker.os_packages.knowledge import MANAGERS, package_of
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.elf import Library
from hatch_docker.support.patterns import regex
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.findings import test_directory
from hatch_docker.wheels.prepare import PreparedWheel
from hatch_docker.wheels.wheelfile import WheelFile
from hatch_docker.wheels.zipmembers import READ_LIMIT

# The libraries of the C library itself. musl reserves every name with these prefixes (ldso/dynlink.c).
_LIBC = {
    "glibc": regex(r"ld-linux.*|ld64\.so\..*|lib(?:c|m|mvec|dl|pthread|rt|util|resolv|anl)\.so\.\d+(?:\.\d+)?"),
    "musl": regex(r"ld-musl-.*|lib(?:c|pthread|rt|m|dl|util|xnet)\..*"),
}
# Mounted into the container by the host's GPU driver, since its version must match the kernel: never in an image.
_DRIVERS = regex(r"lib(?:cuda|nvcuvid|nvoptix|cudadebugger|nvidia-[\w-]+)\.so(?:\.\d+)*")
_SEARCHED = regex(r"/(?:usr/|usr/local/)?lib(?:64)?(?:/[^/]+-linux-[^/]+)?")
_KIND, _OWN_KIND = "optional", "own-optional"
# Part of the cache key of optional modules: raise it if the way to find them changes.
_FORMAT = 1
# How many missing libraries and suggested packages a warning names.
_MAX_NAMES, _MAX_PACKAGES = 3, 8
_MANY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A shared library that would not load: the one at `path` in the wheel of `distribution`.

    `library` is the missing library that it needs; empty if it is for another CPU or C library, as `message` says.
    `mixed` is true if it is for another system but others in its wheel are for this one.
    """

    distribution: str
    path: str
    message: str
    library: str = ""
    mixed: bool = False

    def __str__(self) -> str:
        return f"{self.distribution}: {self.path} {self.message}"


def check_linkage(
    wheels: Sequence[PreparedWheel], base: BaseFacts, *, compiled: Set[str], cache: Cache, progress: Progress
) -> None:
    """Check that the shared libraries of all wheels would load in an image of `base`.

    `compiled` has the normalized names of the wheels that were compiled for this image. Raises LinkageError with all
    problems of these; warns about the problems of other wheels, in one line for each.
    """
    manager = manager_of(base)
    problems: dict[str, list[Problem]] = {}
    for problem in problems_of(wheels, base):
        problems.setdefault(problem.distribution, []).append(problem)
    for wheel in wheels:
        found = problems.get(wheel.facts.key, [])
        lacking = {each.path for each in found if each.library}
        unneeded = _optional(wheel, lacking, cache) if lacking else set()
        if optional := [each for each in found if each.path in unneeded]:
            problems[wheel.facts.key] = [each for each in found if each.path not in unneeded]
            progress.note(_summary(optional, manager, "has optional modules that need"))
    errors: list[Problem] = []
    for name, found in problems.items():
        # Ready-made wheels may have libraries for several systems. A compiled wheel should not.
        fatal = [each for each in found if not each.mixed] if name in compiled else []
        errors += fatal
        if warnings := [each for each in found if each.mixed == (name in compiled)]:
            progress.warn(_summary(warnings, manager))
    if errors:
        raise LinkageError(
            "extension modules would not load in the image:" + "".join(f"\n  {each}" for each in errors),
            hint=_hint(errors, manager),
        )


def problems_of(wheels: Sequence[PreparedWheel], base: BaseFacts) -> list[Problem]:
    """Every library that would not load, in the order of the wheels."""
    provided = provided_by(wheels, base)
    return [problem for wheel in wheels for problem in _problems(wheel, base, provided)]


def provided_by(wheels: Sequence[PreparedWheel], base: BaseFacts) -> set[str]:
    """The names of the libraries that wheels bring for the image's CPU and C library."""
    return {
        name
        for wheel in wheels
        for path, library in _libraries(wheel)
        if not _mismatch(library, base.python)
        for name in (posixpath.basename(path), library.soname)
    }


def is_of_system(name: str, base: BaseFacts) -> bool:
    """Whether a library is the C library's own, or one that the host's GPU driver brings."""
    return bool(_LIBC[base.python.libc.kind].fullmatch(name) or _DRIVERS.fullmatch(name))


def _libraries(wheel: PreparedWheel) -> Iterator[tuple[str, Library]]:
    """The paths and libraries of a wheel that go into the image."""
    return ((path, library) for path, library in wheel.facts.libraries.items() if path not in wheel.pruned)


def _problems(wheel: PreparedWheel, base: BaseFacts, provided: Set[str]) -> Iterator[Problem]:
    libraries = dict(_libraries(wheel))
    mismatches = {path: reason for path, library in libraries.items() if (reason := _mismatch(library, base.python))}
    # A wheel for any platform may have libraries for several.
    for_any, mixed = _for_any(wheel), len(mismatches) < len(libraries)
    for path, library in libraries.items():
        if path not in mismatches:
            yield from (
                Problem(
                    distribution=wheel.facts.key,
                    path=path,
                    message=f"needs {name}, which the image lacks",
                    library=name,
                )
                for name in library.needed
                if not _is_present(name, library, base, provided)
            )
        elif not for_any:
            yield Problem(distribution=wheel.facts.key, path=path, message=mismatches[path], mixed=mixed)


def _optional(wheel: PreparedWheel, paths: Set[str], cache: Cache) -> set[str]:
    """The extension modules among `paths` that modules of their wheel import, and only where that may fail."""
    key = json.dumps([_FORMAT, wheel.digest, sorted(paths)])
    kind = _OWN_KIND if wheel.own else _KIND
    known = cache.get(kind, key)
    if known is None:
        known = {"paths": sorted(_guarded(wheel, paths))}
        cache.put(kind, key, known)
    return {*known["paths"]}


def _guarded(wheel: PreparedWheel, paths: Set[str]) -> set[str]:
    names = {_module(wheel.facts.site_path(path)): path for path in paths}
    ends = [name.rpartition(".")[2].encode() for name in names]
    imports: dict[str, list[bool]] = {}
    from hatch_docker.wheels.guards import guarded_imports

    with WheelFile(wheel.path, wheel.filename) as file:
        for path, info in file.members.items():
            place = wheel.facts.site_path(path)
            if not place.endswith(".py") or test_directory(place) or info.file_size > READ_LIMIT:
                continue
            source = file.read(path)
            # To look for each in turn is fast for a few only.
            if len(ends) > _MANY or any(end in source for end in ends):
                for name, may_fail in guarded_imports(source, place, names):
                    imports.setdefault(name, []).append(may_fail)
    return {names[name] for name, found in imports.items() if all(found)}


def _module(place: str) -> str:
    """The dotted name of the extension module at a path relative to site-packages."""
    folder, name = posixpath.split(place)
    return posixpath.join(folder, name.partition(".")[0]).replace("/", ".")


def _mismatch(library: Library, target: TargetPython) -> str:
    """How the CPU or C library of a shared library differs from the target's; empty if it does not."""
    if library.machine != target.machine:
        return f"is for {library.machine}, and the image for {target.machine}"
    if library.libc not in ("", target.libc.kind):
        return f"is linked to {library.libc}, and the image has {target.libc.kind}"
    return ""


def _is_present(name: str, library: Library, base: BaseFacts, provided: Set[str]) -> bool:
    file = posixpath.basename(name)
    if file in base.libraries or file in provided:
        return True
    if is_of_system(file, base):
        return True
    # The base's libraries are read from the loader's directories only: any other that exists may have the library.
    directories = [
        posixpath.normpath(each) for each in (posixpath.dirname(name), *library.search) if each.startswith("/")
    ]
    return any(each[1:] in base.directories and not _SEARCHED.fullmatch(each) for each in directories)


def _for_any(wheel: PreparedWheel) -> bool:
    try:
        _, _, _, tags = parse_wheel_filename(wheel.filename)
    except InvalidWheelFilename:
        return False
    return any(tag.platform == "any" for tag in tags)


def manager_of(base: BaseFacts) -> str:
    """The package manager whose packages the base can have: `apk` or `apt`, or empty.

    A Debian need not have apt: its archive's packages can be unpacked without.
    """
    configured = (name for name in MANAGERS if f"etc/{name}" in base.directories)
    return next(configured, "apt" if base.suite else "")


def _summary(problems: Sequence[Problem], manager: str, verb: str = "needs") -> str:
    """One line about the problems of one wheel."""
    missing = _missing(problems)
    if not missing:
        others = len(problems) - 1
        return f"{problems[0]}" + (f" (and {others} more)" if others else "")
    names, packages = missing[:_MAX_NAMES], _packages(missing, manager)
    advice = f": {setting(packages[:_MAX_PACKAGES])}{_more(len(packages) - _MAX_PACKAGES)}" if packages else ""
    more = _more(len(missing) - len(names))
    return f"{problems[0].distribution} {verb} {', '.join(names)}{more}, which the image lacks{advice}"


def _hint(problems: Sequence[Problem], manager: str) -> str:
    missing = _missing(problems)
    hints = []
    if packages := _packages(missing, manager):
        hints.append(setting(packages))
    if unknown := [name for name in missing if not package_of(name, manager)]:
        hints.append(f"find the OS package that has {', '.join(unknown)} and add it to runtime-packages")
    if any(not each.library for each in problems):
        hints.append("compile in a builder with the image's libc and CPU, or prune the files that are never loaded")
    return join_hints(*hints)


def _missing(problems: Sequence[Problem]) -> list[str]:
    """The missing libraries, those that the most files need first: libraries of unused plugins come last."""
    return [name for name, _ in Counter(each.library for each in problems if each.library).most_common()]


def _packages(missing: Sequence[str], manager: str) -> list[str]:
    return [*dict.fromkeys(package for name in missing if (package := package_of(name, manager)))]


def setting(packages: Sequence[str]) -> str:
    """The line of configuration that adds OS packages."""
    # A list of strings is written the same in TOML and JSON.
    return f"runtime-packages = {json.dumps([*packages])}"


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
