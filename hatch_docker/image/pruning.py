"""What is pruned of an image's wheels: what its other files use of them, and the report."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hatch_docker.config import ExtraFiles, Packages, Runtime
from hatch_docker.project.model import SourceFiles
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.terminal import human
from hatch_docker.wheels.findings import NO_USES, Uses
from hatch_docker.wheels.prepare import PreparedWheel
from hatch_docker.wheels.prune import Pruning

_SHOWN = 2
# Folders that no image gets, which may be large.
_SKIPPED = {".git", ".hg", ".svn", "__pycache__", "node_modules"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedWheel:
    """A wheel of which files are pruned, with their size in bytes by rule."""

    name: str
    version: str
    sizes: dict[str, int]

    @property
    def size(self) -> int:
        """The size of all files that are pruned."""
        return sum(self.sizes.values())


def pruned_of(wheels: Iterable[PreparedWheel]) -> tuple[PrunedWheel, ...]:
    """The wheels that are pruned, sorted by name."""
    pruned = [
        PrunedWheel(name=wheel.facts.key, version=wheel.facts.version, sizes=wheel.pruned_bytes)
        for wheel in wheels
        if wheel.pruned
    ]
    return tuple(sorted(pruned, key=lambda each: each.name))


def pruned_files(wheel: PreparedWheel) -> list[dict[str, Any]]:
    """The files of a wheel that are pruned, with their rules and their sizes in bytes, by path."""
    sizes = dict(zip(wheel.facts.files, wheel.facts.sizes, strict=True))
    return [{"path": path, "rule": rule, "size": sizes[path]} for path, rule in sorted(wheel.pruned.items())]


def summary(pruned: Sequence[PrunedWheel]) -> str:
    """What is pruned, in a line: of the wheels that lose most, and of all."""
    largest = sorted(pruned, key=lambda each: (-each.size, each.name))
    shown = [f"{each.name} {human(each.size)}" for each in largest[:_SHOWN]]
    others = len(largest) - len(shown)
    more = [f"{others} other{'s' if others != 1 else ''}"] if others else []
    return f"pruned {human(sum(each.size for each in largest))}: {', '.join([*shown, *more])}"


def pruning_of(
    packages: Packages, runtime: Runtime, extra: Sequence[ExtraFiles], root: Path, sources: SourceFiles | None
) -> Pruning:
    """What to prune of wheels, with what the other files of the image use of them.

    `extra` are files below `root`, `sources` those of a project without a backend.
    """
    paths = [(f"app/{path}", sources.root / path) for path in sources.paths] if sources else []
    paths += [file for each in extra for file in _files(root / each.source)]
    return Pruning(prune=packages.prune, keep=packages.keep, used=_used(paths, _commands(runtime)))


def _used(paths: Sequence[tuple[str, Path]], commands: str) -> Uses:
    """What files and commands use of wheels."""
    if not paths and not commands:
        return NO_USES
    from hatch_docker.wheels.scan import uses_of_script

    read = [_uses(name, path) for name, path in paths]
    return Uses.joined([*read, uses_of_script(commands.encode("utf-8", "replace"))])


def _commands(runtime: Runtime) -> str:
    """The commands and variables of an image, a word in a line."""
    commands = (each for each in (runtime.entrypoint, runtime.cmd) if each and not isinstance(each, str))
    healthcheck = runtime.healthcheck.test if runtime.healthcheck else ()
    return "\n".join([*(word for each in commands for word in each), *healthcheck, *runtime.env.values()])


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    """The files at or below a path that can be listed; those that an image leaves out may be among them."""
    from hatch_docker.project.unwanted import is_virtual_environment

    if not source.is_dir():
        yield source.name, source
    for parent, folders, names in os.walk(source):
        folders[:] = [
            name for name in folders if name not in _SKIPPED and not is_virtual_environment(Path(parent, name))
        ]
        yield from ((f"{Path(parent).name}/{name}", Path(parent, name)) for name in names)


def _uses(name: str, path: Path) -> Uses:
    """What a file uses. Nothing if it cannot be read: that is an error where it is added to the image."""
    from hatch_docker.wheels.texts import TEXT_BYTES, is_text, uses_of_file

    try:
        status = path.stat()
        if not (is_text(name) and stat.S_ISREG(status.st_mode) and status.st_size <= TEXT_BYTES):
            return NO_USES
        return uses_of_file(name, path.read_bytes())
    except OSError:
        return NO_USES
