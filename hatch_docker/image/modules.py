"""The modules that a Python of an image finds: the one that it is to run, and those that extra files hide."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from hatch_docker.image.arguments import PythonCommand, is_python, python_command
from hatch_docker.image.extra_files import PATH_FILE
from hatch_docker.image.merged import Identity, UnreachableError
from hatch_docker.image.programs import Process, Program
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.prepare import PreparedWheel

# Path files of site-packages that add no directories.
_HARMLESS = {"distutils-precedence.pth"}
_MODULE = regex(r"(\w+)(?:\.[\w-]+)*\.(?:py|pyc|so)")
_PACKAGE = regex(r"(\w+)/__init__(?:\.[\w-]+)*\.(?:py|pyc|so)")
_ROOT = Identity(uid=0, groups=frozenset((0,)))


def check_module(command: PythonCommand, process: Process) -> str:
    """Why `python -m` cannot run a module, and what to do; empty if it can, or if that is not certain."""
    name, directories = command.value, _searched(command, process)
    parts = name.split(".")
    if not directories or not all(map(str.isidentifier, parts)):
        return ""
    found, package = _Found("package", directories), ""
    for part in parts:
        if found.kind == "module":
            return f"{package!r} is a module, and python -m is to run {name!r} in it: name another"
        found = _find(part, found.directories, process)
        if not found.kind and package:
            return f"the package {package!r} has no module {part!r}, which python -m is to run: name another"
        if not found.kind:
            advice = f"add the package that has {part} to the dependencies"
            return f"the image has no module {part!r}, which python -m is to run: {advice}"
        if found.kind == "unknown":
            return ""
        package = f"{package}.{part}".lstrip(".")
    if found.kind == "package" and not _find("__main__", found.directories, process).kind:
        return f"the package {name!r} has no __main__, which python -m is to run: add it, or name one of its modules"
    return ""


class Hidden(NamedTuple):
    """Modules of wheels that extra files hide, for the program that starts. `certain`: it looks at these files first.

    `own`: one of them is the project's. `text` names the files and modules.
    """

    text: str
    own: bool
    certain: bool


def hidden_modules(program: Program, process: Process, extra: Sequence[Entry]) -> Iterator[Hidden]:
    """The modules that extra files hide.

    Python looks in the directory of its script, or in the working directory, and in those of PYTHONPATH before it looks
    in the virtual environment (Python: sys.path).
    """
    certain = _first(program, process)
    for directory in dict.fromkeys((*certain, process.directory)):
        try:
            place = process.merged.reach(directory, _ROOT)[0]
        except UnreachableError:
            continue
        start = f"{place}/" if place else ""
        names = {_top(each.path[len(start) :]) for each in extra if each.path.startswith(start)} - {""}
        owners = _owners(names, process) if names else {}
        if owners:
            of = {name: "the project" if wheel.own else wheel.facts.name for name, wheel in owners.items()}
            text = ", ".join(f"{posixpath.join(directory, name)} hides {name!r} of {of[name]}" for name in of)
            own = any(wheel.own for wheel in owners.values())
            yield Hidden(text, own=own, certain=directory in certain)


def _first(program: Program, process: Process) -> list[str]:
    """The directories that a Python certainly looks in before the virtual environment."""
    command = python_command(program)
    if not is_python(program) or command.isolated or process.safe_path:
        return []
    added = [process.absolute(each) for each in process.python_path]
    if command.kind == "file":
        return [posixpath.dirname(process.absolute(command.value)), *added]
    return [process.directory, *added] if command.kind else []


def _top(path: str) -> str:
    """The name of the module that a file makes importable from a directory; empty if it makes none."""
    match = _PACKAGE.fullmatch(path) or _MODULE.fullmatch(path)
    return match[1] if match else ""


def _owners(names: set[str], process: Process) -> Mapping[str, PreparedWheel]:
    """The wheels that install modules of these names, by name."""
    site = f"{process.merged.target.site_packages}/"
    found: dict[str, PreparedWheel] = {}
    for path, wheel in process.merged.wheels.items():
        if path.startswith(site):
            top, slash, _ = path[len(site) :].partition("/")
            name = top if slash else _top(top)
            if name in names:
                found.setdefault(name, wheel)
    return dict(sorted(found.items()))


class _Found(NamedTuple):
    """What a name is, and the directories of a package."""

    kind: Literal["module", "package", "unknown", ""]
    directories: Sequence[str] = ()


def _searched(command: PythonCommand, process: Process) -> list[str]:
    """The directories that `python -m` looks in, in their order; empty if they are not certain."""
    files, target = process.merged.files, process.merged.target
    prefix = posixpath.dirname(posixpath.dirname(target.interpreter))
    library = [f"{prefix}/{each}/{target.lib_name}" for each in ("lib", "lib64")]
    site = f"/{target.site_packages}"
    path_files = {each for each in files.below(site) if each.endswith(".pth")} - _HARMLESS
    first = [] if command.isolated else [process.directory, *map(process.absolute, process.python_path)]
    if (
        not any(files.is_file(f"{each}/os.py") for each in library)
        or path_files - {PATH_FILE}
        or any(map(process.in_volume, first[:1]))
        or not all(map(files.is_directory, first))
    ):
        return []
    return list(dict.fromkeys((*first, *library, site, *(["/app"] if path_files else []))))


def _find(name: str, directories: Sequence[str], process: Process) -> _Found:
    """What a module's name is in these directories (PEP 420, "Specification")."""
    files, portions = process.merged.files, []
    for directory in filter(files.is_directory, directories):
        package = f"{directory}/{name}"
        if process.in_volume(package):
            return _Found("unknown")
        if files.is_directory(package):
            if _has_module("__init__", package, files):
                return _Found("package", [package])
            portions.append(package)
        if _has_module(name, directory, files):
            return _Found("module")
    return _Found("package", portions) if portions else _Found("")


def _has_module(name: str, directory: str, files: Filesystem) -> bool:
    """Whether a directory has a module that is no package: its source, or compiled."""
    return files.is_file(f"{directory}/{name}.py") or any(_top(each) == name for each in files.below(directory))
