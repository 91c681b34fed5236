"""The modules that a Python of an image finds: the one that it is to run, and those that extra files shadow."""

from __future__ import annotations

import posixpath
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple

from hatch_docker.image.arguments import is_python, python_command
from hatch_docker.image.extra_files import PATH_FILE
from hatch_docker.image.merged import Identity, UnreachableError
from hatch_docker.image.programs import Process, Program, is_in_venv
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.install import installed
from hatch_docker.wheels.prepare import PreparedWheel

# Path files of site-packages that add no directories.
_HARMLESS = {"distutils-precedence.pth"}
# The endings of modules (importlib.machinery: SOURCE_SUFFIXES, BYTECODE_SUFFIXES, EXTENSION_SUFFIXES).
_ENDING = r"(?:\.pyc?|(?:\.(?:abi3|cpython-[\w-]+))?\.so)"
_MODULE = regex(rf"(\w+){_ENDING}")
_PACKAGE = regex(rf"(\w+)/__init__{_ENDING}")
_ARCHIVES = (".pyz", ".zip", ".whl", ".egg")
# How many modules a warning names.
_MOST = 3
_ROOT = Identity(uid=0, groups=frozenset((0,)))


def check_module(program: Program, process: Process) -> str:
    """Why `python -m` cannot run a module, and what to do; empty if it can, or if that is not certain."""
    name, directories = python_command(program).value, _searched(program, process)
    parts = name.split(".")
    if not directories or not all(map(str.isidentifier, parts)):
        return ""
    found, package = _Found("package", directories), ""
    for part in parts:
        if found.kind == "module":
            return f"{package!r} is a module, not a package, and python -m is to run {name!r}"
        found = _find(part, found.directories, process)
        if not found.kind and package:
            return f"the package {package!r} has no module {part!r}, which python -m is to run: name another"
        if not found.kind:
            advice = "add it to the project's wheel, or the package that has it to the dependencies"
            return f"the image has no module {part!r}, which python -m is to run: {advice}"
        if found.kind == "unknown":
            return ""
        package = f"{package}.{part}".lstrip(".")
    if found.kind == "package" and not _find("__main__", found.directories, process).kind:
        return f"the package {name!r} has no __main__, which python -m is to run: add it, or name one of its modules"
    return ""


class Shadows(NamedTuple):
    """Extra files that a program imports in place of modules of wheels.

    `certain`: it looks at them first, for all that is known. `own`: a module is the project's. `text` names both.
    """

    text: str
    own: bool
    certain: bool


def shadows(program: Program, process: Process, extra: Sequence[Entry]) -> Iterator[Shadows]:
    """Extra files that shadow modules of wheels. Copies of what a wheel has do not count.

    Python looks in the directory of its script, or in the working directory, and in those of PYTHONPATH before it looks
    in the virtual environment (Python: sys.path). Its scripts, such as gunicorn, may add the working directory.
    """
    certain = _first(program, process)
    possible = [process.directory] if _may_add(program, process) else []
    for directory in dict.fromkeys((*certain, *possible)):
        try:
            place = process.merged.reach(directory, _ROOT)[0]
        except UnreachableError:
            continue
        if not process.in_volume(directory):
            yield from _shadows_in(place, extra, process, certain=directory in certain)


def _first(program: Program, process: Process) -> list[str]:
    """The directories that a Python of the virtual environment certainly looks in before that."""
    command = python_command(program)
    if not (is_python(program) and is_in_venv(program.called) and command.kind):
        return []
    added = [process.absolute(each) for each in process.python_path] if command.environment else []
    if command.safe or (process.safe_path and command.environment):
        return added
    return [*(_beside(command.value, process) if command.kind == "file" else [process.directory]), *added]


def _beside(script: str, process: Process) -> list[str]:
    """The directory that a Python finds modules in beside its script, or in it, if it is a directory."""
    try:
        resolved, node = process.merged.reach(process.absolute(script), _ROOT)
    except UnreachableError:
        return []
    if node.kind == "dir":
        return [f"/{resolved}"]
    return [] if resolved.endswith(_ARCHIVES) else [posixpath.dirname(f"/{resolved}")]


def _may_add(program: Program, process: Process) -> bool:
    """Whether it is a script of the virtual environment, which may import what is in the working directory."""
    return is_in_venv(program.called) and not is_python(program) and not process.safe_path


def _shadows_in(place: str, extra: Sequence[Entry], process: Process, *, certain: bool) -> Iterator[Shadows]:
    """Those in one directory, a resolved path."""
    start = f"{place}/" if place else ""
    beside = {each.path[len(start) :]: each for each in extra if each.path.startswith(start)}
    named = {name: path for path in beside if (name := _top(path))}
    texts, own = [], False
    for name, (wheel, files) in (_owners(named, process) if named else {}).items():
        if not all(path in beside and checksum == _checksum(beside[path]) for path, checksum in files.items()):
            of = "the project" if wheel.own else wheel.facts.name
            texts.append(f"/{start}{named[name]} shadows the module {name} of {of}")
            own = own or wheel.own
    if texts:
        more = f" (and {len(texts) - _MOST} more)" if len(texts) > _MOST else ""
        yield Shadows(", ".join(texts[:_MOST]) + more, own=own, certain=certain)


def _top(path: str) -> str:
    """The name of the module that a file makes importable from a directory; empty if it makes none."""
    match = _PACKAGE.fullmatch(path) or _MODULE.fullmatch(path)
    return match[1] if match else ""


def _owners(names: Collection[str], process: Process) -> Mapping[str, tuple[PreparedWheel, Mapping[str, str]]]:
    """The wheels that install modules of these names, by name, with the module's files and their checksums."""
    target = process.merged.target
    site = f"{target.site_packages}/"
    found: dict[str, tuple[PreparedWheel, dict[str, str]]] = {}
    for wheel in {each.digest: each for each in process.merged.wheels.values()}.values():
        for path, checksum in installed(wheel.facts, target, pruned=wheel.pruned).items():
            within = path.removeprefix(site)
            top, slash, _ = within.partition("/")
            name = top if slash else _top(top)
            if within != path and name in names and (slash or name):
                found.setdefault(name, (wheel, {}))[1][within] = checksum
    return dict(sorted(found.items()))


def _checksum(entry: Entry) -> str:
    """The hash of a file as RECORD has it (Recording installed projects)."""
    return f"sha256={urlsafe_b64encode(sha256(entry.read()).digest()).rstrip(b'=').decode()}"


class _Found(NamedTuple):
    """What a name is, and the directories of a package."""

    kind: Literal["module", "package", "unknown", ""]
    directories: Sequence[str] = ()


def _searched(program: Program, process: Process) -> list[str]:
    """The directories that `python -m` looks in, in their order; empty if they are not certain."""
    files, target, command = process.merged.files, process.merged.target, python_command(program)
    prefix = posixpath.dirname(posixpath.dirname(target.interpreter))
    library = [f"{prefix}/{each}/{target.lib_name}" for each in ("lib", "lib64")]
    site = f"/{target.site_packages}"
    path_files = {each for each in files.below(site) if each.endswith(".pth")} - _HARMLESS
    added = [process.absolute(each) for each in process.python_path] if command.environment else []
    safe = command.safe or (process.safe_path and command.environment)
    first = [*([] if safe else [process.directory]), *added]
    if (
        # The base's own Python has other packages.
        not is_in_venv(program.called)
        or not any(files.is_file(f"{each}/os.py") for each in library)
        or path_files - {PATH_FILE}
        or any(map(process.in_volume, first))
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
