"""Wheels → layers: which wheels share a layer, and each layer made once for all projects.

A wheel's layer depends on the wheel, the target's library folder, what is pruned, and how layers are written; on
nothing of the project. That is its recipe, and the key of its place in the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import DigestMismatchError, WheelError
from hatch_docker.oci.layer import Entry, Plain, WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, recall, remember
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import together
from hatch_docker.wheels.install import lay_out
from hatch_docker.wheels.prepare import PreparedWheel
from hatch_docker.wheels.wheelfile import WheelFile

# Another layout of the same wheel has another number: a part of the recipe.
LAYOUT = 1
# A wheel of this size (bytes, zipped) has a layer of its own: about where a request to a registry costs less than
# sending the wheel again because another one in its group has changed.
_BIG = 1_000_000
_GROUPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one layer is made of: wheels, and other entries; `contents` says it to people.

    `present` are the base's directories, which are left as they are. `splice` copies compressed members as they are:
    not for what this machine compressed, since another one's zlib gives other bytes.
    """

    contents: tuple[str, ...]
    units: tuple[PreparedWheel, ...] = ()
    entries: tuple[Entry, ...] = ()
    present: frozenset[str] = frozenset()
    splice: bool = True


def group(units: Sequence[PreparedWheel], budget: int) -> list[Part]:
    """Distribute wheels over at most `budget` layers: each big one has its own, the others share stable groups.

    The group follows from the name alone, so that a new dependency changes one group. Where the budget is too small
    for all big wheels, the biggest have a layer of their own. The order is the same in all projects: engines share
    layers from the lowest up.
    """
    groups = max(1, min(_GROUPS, budget - 1))
    by_size = sorted(units, key=lambda unit: (-unit.path.stat().st_size, unit.facts.key))
    alone = {unit.facts.key for unit in by_size[: max(0, budget - groups)] if unit.path.stat().st_size >= _BIG}
    shared: dict[int, list[PreparedWheel]] = {}
    parts = []
    for unit in sorted(units, key=lambda unit: unit.facts.key):
        if unit.facts.key in alone:
            parts.append(_part([unit]))
        else:
            number = hashlib.sha256(unit.facts.key.encode()).digest()[0] % groups
            shared.setdefault(number, []).append(unit)
    return parts + [_part(shared[number]) for number in sorted(shared)]


def own_part(own: PreparedWheel, entries: Sequence[Entry], present: frozenset[str]) -> Part:
    """The last layer: the project's own wheel, and the entries that make a venv of what lies below."""
    label = f"{own.facts.name} {own.facts.version}"
    return Part(contents=(label,), units=(own,), entries=tuple(entries), present=present, splice=False)


def files_part(entries: Sequence[Entry], present: frozenset[str]) -> list[Part]:
    """The layer of the files that are no wheel's; none where there are none."""
    return [Part(contents=("extra files",), entries=tuple(entries), present=present, splice=False)] if entries else []


def make_layers(
    parts: Sequence[Part],
    *,
    target: TargetPython,
    venv: str,
    compression: str,
    cache: Cache,
    threads: int,
    progress: Progress,
) -> list[MadeLayer]:
    """The layers of `parts`, in their order: from the cache, else made, several at once.

    Raises WheelError for a wheel whose content is not what it says, OutputError where the cache cannot be written.
    """
    make = partial(_make, target=target, venv=venv, compression=compression, cache=cache, progress=progress)
    return together(make, parts, threads=threads)


def _part(units: Sequence[PreparedWheel]) -> Part:
    return Part(units=tuple(units), contents=tuple(f"{unit.facts.name} {unit.facts.version}" for unit in units))


def _make(
    part: Part, *, target: TargetPython, venv: str, compression: str, cache: Cache, progress: Progress
) -> MadeLayer:
    recipe = _recipe(part, target, venv, compression)
    if recipe and (known := recall(cache, "layers", recipe)):
        return known
    with ExitStack() as stack:
        entries = [*part.entries]
        for unit in part.units:
            wheel = stack.enter_context(WheelFile(unit.path, unit.filename))
            entries += lay_out(wheel, target, prefix=venv, pruned=unit.pruned)
        entries = _last_of_each(entries)
        size = sum(entry.unpacked for entry in entries)
        advance = stack.enter_context(progress.task("layer", ", ".join(part.contents), size))
        with _named(part):
            made = make_layer(
                entries,
                cache,
                WriteOptions(compression=compression, splice=part.splice),
                contents=part.contents,
                present=part.present,
                advance=advance,
            )
    if recipe:
        remember(cache, "layers", recipe, made)
    return made


@contextmanager
def _named(part: Part) -> Iterator[None]:
    """Say of a file that is not what its wheel says which wheel that may be: a layer knows none."""
    try:
        yield
    except (WheelError, DigestMismatchError) as error:
        error.place = error.place or ", ".join(unit.filename for unit in part.units)
        raise


def _recipe(part: Part, target: TargetPython, venv: str, compression: str) -> str:
    """All that shapes a layer, as a key; empty for a layer with files of the host, whose content has no name."""
    if any(isinstance(entry.content, Plain) for entry in part.entries):
        return ""
    wheels = [[unit.digest, _digest(sorted(unit.pruned))] for unit in part.units]
    others = _digest([*map(repr, part.entries), *sorted(part.present)]) if part.entries else ""
    options = WriteOptions(compression=compression, splice=part.splice)
    shape = [LAYOUT, options.fingerprint, venv, target.lib_name, wheels, others]
    return json.dumps(shape, separators=(",", ":"))


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _last_of_each(entries: Iterable[Entry]) -> list[Entry]:
    """Where two wheels of a layer write one path, the later one has it, as it would in a layer above."""
    return list({entry.path: entry for entry in entries}.values())
