"""Layers of bytecode: one above each layer of modules, or one for all, and the cache key of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from hatch_docker.base.image import Base
from hatch_docker.base.target import VENV, TargetPython
from hatch_docker.config import Runtime
from hatch_docker.image.bytecode.compiler import optimization_of
from hatch_docker.image.bytecode.labels import LABEL, code_label
from hatch_docker.image.bytecode.select import Modules, is_module, modules_of
from hatch_docker.image.bytecode.stdlib import is_library_file
from hatch_docker.image.environment import environment
from hatch_docker.image.extra_files import directories_of
from hatch_docker.image.layers import LAYOUT, OWN, SHARED, Budget, Part, digest_of
from hatch_docker.oci.layer import Entry, WriteOptions
from hatch_docker.oci.layercache import MadeLayer, recall
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace

# Part of the cache key: raise it if other modules are compiled, or to other bytes.
FORMAT = 2
_APP = "app/"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePart:
    """The modules whose bytecode one layer has: those of wheels, of a project's own files, of the standard library.

    `replaced` are files that other layers have in place of the standard library's, whose bytecode would hide them.
    `present` are directories of the layers below, which the layer does not write, except those of `directories` that
    its files are in: engines that unpack each layer by itself would give them to root. Those that only the standard
    library is in are the base's, and known when the layer is made.
    """

    contents: tuple[str, ...]
    modules: tuple[Modules, ...] = ()
    files: tuple[Entry, ...] = ()
    library: bool = False
    replaced: frozenset[str] = frozenset()
    present: frozenset[str] = frozenset()
    directories: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeOptions:
    """What shapes bytecode besides the modules.

    `optimization` is the level of PYTHONOPTIMIZE in the image, `library` identifies the base's standard library.
    """

    target: TargetPython
    optimization: int
    compression: str
    library: str


def code_options(base: Base, runtime: Runtime, target: TargetPython, compression: str) -> CodeOptions:
    """The options for an image on a base that has its additions."""
    variables = environment(base.image.config.env, runtime.env).variables
    return CodeOptions(
        target=target,
        optimization=optimization_of(variables),
        compression=compression,
        library=base.merged.config_descriptor.digest,
    )


def with_bytecode(parts: Sequence[Part], budget: Budget, options: CodeOptions) -> list[Part | CodePart]:
    """The parts that `image.layers.arrange` made, with those of their bytecode, lowest first.

    The project's part is the last one.
    """
    project = parts[-1]
    wheels = [wheel for part in parts if part.completes for wheel in part.wheels]
    checked = [*(wheel.facts.key for wheel in project.wheels), *(wheel.facts.key for wheel in wheels if wheel.is_local)]
    modules = modules_of(wheels, options.target, options.optimization, checked)
    files = tuple(entry for entry in project.entries if _is_project_module(entry))
    # The project's layer may have given them another owner.
    below = project.present | directories_of(project.entries)
    owned = tuple(entry for entry in project.entries if entry.is_directory)
    library = library_code(
        entry.path
        for part in parts
        for entry in part.entries
        if not entry.is_directory and is_library_file(entry.path, options.target)
    )

    def code(part: Part) -> list[CodePart]:
        if not part.completes:
            return []
        found = wheels_code([modules[wheel.facts.key] for wheel in part.wheels])
        if part is not project:
            return [found] if found else []
        label = code_label([part.contents[0].partition(" ")[0]])
        of_wheel = found.modules if found else ()
        made = CodePart(contents=(label,), modules=of_wheel, files=files, present=below, directories=owned)
        return [made] if found or files else []

    if budget.joint:
        everything = tuple(each for wheel in wheels if (each := modules[wheel.facts.key]).members)
        joint = joint_code(everything, files)
        return [*parts, replace(joint, replaced=library.replaced, present=below, directories=owned)]
    # Each as low as it can be: an engine unpacks the bytecode of a wheel again if something below it has changed.
    stack: list[Part | CodePart] = [library]
    for part in parts:
        stack += [part, *code(part)]
    return stack


def wheels_code(modules: Sequence[Modules]) -> CodePart | None:
    """The part of some wheels; None if they have no modules."""
    found = tuple(each for each in modules if each.members)
    return CodePart(contents=(code_label([each.wheel.facts.key for each in found]),), modules=found) if found else None


def library_code(replaced: Iterable[str] = ()) -> CodePart:
    """The standard library's part."""
    return CodePart(contents=(code_label(["the standard library"]),), library=True, replaced=frozenset(replaced))


def joint_code(modules: tuple[Modules, ...] = (), files: tuple[Entry, ...] = ()) -> CodePart:
    """The only part of bytecode in an image with few layers."""
    return CodePart(contents=(LABEL,), modules=modules, files=files, library=True)


def stacked(
    parts: Sequence[Part | CodePart], made: Iterable[MadeLayer], code: Iterable[MadeLayer] | None
) -> list[MadeLayer]:
    """The layers in the order of their parts: `made` are those of modules, `code` those of bytecode, None without."""
    others, compiled = iter(made), iter(code or ())
    wanted = [part for part in parts if code is not None or isinstance(part, Part)]
    return [next(others if isinstance(part, Part) else compiled) for part in wanted]


def code_key(part: CodePart, options: CodeOptions, *, library: str = "", texts: str = "") -> str:
    """The cache key of a layer of bytecode. CPU, C library and the way to compile do not shape it.

    `library` identifies the standard library, with the directories that it is in, and `texts` the project's files,
    where the part has them.
    """
    target = options.target
    shape = [
        [FORMAT, LAYOUT, WriteOptions(compression=options.compression).fingerprint],
        [VENV, target.lib_name, target.version, target.free_threaded, options.optimization],
        [
            [each.wheel.digest, digest_of(sorted(each.wheel.pruned)), each.skipped, each.checked]
            for each in part.modules
        ],
        [library, sorted(part.replaced), texts, digest_of([*sorted(part.present), *map(repr, part.directories)])],
    ]
    return json.dumps(shape, separators=(",", ":"))


def wheel_key(modules: Modules, options: CodeOptions) -> str:
    """The cache key of a wheel's bytecode, whichever layer it is in."""
    target, wheel = options.target, modules.wheel
    shape = [
        [FORMAT, VENV, target.lib_name, target.version, target.free_threaded, options.optimization],
        [wheel.digest, digest_of(sorted(wheel.pruned)), modules.skipped, modules.checked],
    ]
    return json.dumps(shape, separators=(",", ":"))


def code_kind(part: CodePart) -> str:
    """The kind of the layer's document: bytecode that is checked is the project's, or that of local directories."""
    return OWN if part.files or any(each.checked for each in part.modules) else SHARED


def cached_code(part: CodePart, options: CodeOptions, cache: Cache) -> MadeLayer | None:
    """The layer of bytecode that the cache has for wheels, or for the standard library."""
    library = options.library if part.library else ""
    return recall(cache, code_kind(part), code_key(part, options, library=library))


def _is_project_module(entry: Entry) -> bool:
    """Whether an entry of the project's layer is a module that a program of the venv can import from /app."""
    in_app = entry.path.startswith(_APP) and not entry.path.startswith(f"{VENV}/")
    return in_app and entry.content is not None and is_module(entry.path.removeprefix(_APP))
