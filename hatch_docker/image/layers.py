"""Wheels become layers: distributed over a budget of layers, each made once for all projects.

The layer of wheels depends on the wheels, the target's library directory, the pruned files and the format of layers,
but on nothing of the project. These are its cache key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from hatch_docker.base.target import VENV, TargetPython
from hatch_docker.errors import ConfigError, ContentError, DigestMismatchError
from hatch_docker.image.pieces import Piece, number_of_pieces, pieces_of
from hatch_docker.oci.layer import Entry, Plain, WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, make_once, recall
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import together
from hatch_docker.wheels.install import correct_records, lay_out
from hatch_docker.wheels.prepare import PreparedWheel, fetch_wheels
from hatch_docker.wheels.wheelfile import WheelFile

# Part of the cache key: raise it when the layout of a wheel in a layer changes.
LAYOUT = 2
# A wheel of this size (bytes, zipped) gets its own layer, and a group has at least this size if there are several. From
# about there, one more request to a registry, and one more layer in an engine, cost less than to upload the wheel again
# because another one in its group has changed.
_BIG = 1_000_000
_GROUPS = 8
# The kinds of cached layers: of packages, and of what changes with each version of the project.
SHARED, OWN = "layers", "own-layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The content of one layer: wheels, and other entries; `contents` describes it in reports.

    Of a wheel that is too large for a layer, it has one `piece`. `present` are the base's directories, which the layer
    does not write. `splice` copies compressed members unchanged; it is off for wheels that were built on this machine,
    since another machine's zlib compresses to other bytes.
    """

    contents: tuple[str, ...]
    wheels: tuple[PreparedWheel, ...] = ()
    entries: tuple[Entry, ...] = ()
    present: frozenset[str] = frozenset()
    splice: bool = True
    piece: Piece | None = None

    @property
    def completes(self) -> bool:
        """Whether its wheels are complete with the layers up to it."""
        return self.piece is None or self.piece.is_last


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The names of wheels that share a layer; or of one that is too large, and has several layers."""

    names: tuple[str, ...]
    pieces: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What an image needs layers for, besides its project.

    `below` counts those of the base's OS packages and removed files; `wheels` and `local` say whether there are wheels
    of packages and of local directories, `extra` whether there are extra files.
    """

    below: int = 0
    wheels: bool = True
    local: bool = False
    extra: bool = False
    bytecode: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many layers the wheels of packages may have; 0 if they share that of local wheels.

    `joint` says that all bytecode shares one layer, because there are too few for one above each layer of modules.
    """

    wheels: int
    joint: bool = False


def budget_of(most: int, demand: Demand, place: str) -> Budget:
    """Divide `most` layers. Raises ConfigError, for `place`, with the smallest number that is enough."""
    fixed = demand.below + demand.extra + demand.local + 1
    # Local wheels take the others into their layer if there is no other.
    groups = int(demand.wheels and not demand.local)
    least = fixed + groups + demand.bytecode
    if most < least:
        without = ", or set bytecode = false, which needs one less" if demand.bytecode else ""
        raise ConfigError(
            [(place, f"this image needs {least} layers above its base, not {most}: set {least}{without}")]
        )
    if not demand.bytecode:
        return Budget(wheels=most - fixed)
    # One above each layer of modules: those of local wheels, of the project, and of the standard library in the base.
    separate = (most - fixed - demand.local - 2) // 2
    if separate >= int(demand.wheels):
        return Budget(wheels=separate)
    return Budget(wheels=most - fixed - 1, joint=True)


def distribute(sizes: Mapping[str, int], budget: int) -> list[Group]:
    """Distribute wheels, given their names and sizes, over at most `budget` layers, the lowest first.

    Big wheels get a layer of their own, the biggest first if the budget is small; the others share groups, as many as
    have the size of a big wheel each, by powers of two. Among these, a group follows from the name alone, so that a new
    dependency changes one group; twice as many groups are halves of the former. If there are layers left, the largest
    wheels get several.

    An engine unpacks a layer again if one below it has changed. So big wheels are lower, by powers of two: another
    version, a little larger, stays where it is. The groups, of which each has many wheels that may change, are on top.
    """
    most = max(1, min(_GROUPS, budget - 1))
    by_size = sorted(sizes, key=lambda name: (-sizes[name], name))
    alone = [name for name in by_size[: max(0, budget - most)] if sizes[name] >= _BIG]
    small = sizes.keys() - set(alone)
    groups = _power_of_two(min(most, sum(sizes[name] for name in small) // _BIG))
    pieces = _pieces({name: sizes[name] for name in alone}, budget - groups - len(alone))
    shared: dict[int, list[str]] = {}
    for name in sorted(small):
        shared.setdefault(hashlib.sha256(name.encode()).digest()[0] % groups, []).append(name)
    return [
        *(Group(names=(name,), pieces=pieces[name]) for name in sorted(alone, key=lambda name: _place(sizes, name))),
        *(Group(names=tuple(shared[number])) for number in sorted(shared)),
    ]


def _power_of_two(number: int) -> int:
    """The largest power of two that is not more than a number, at least 1."""
    return 1 << max(0, number.bit_length() - 1)


def _pieces(sizes: Mapping[str, int], left: int) -> dict[str, int]:
    """The number of layers of each wheel, with `left` more layers than wheels; each has all its pieces, or one."""
    pieces = {}
    for name, size in sizes.items():
        wanted = number_of_pieces(size)
        pieces[name] = wanted if wanted - 1 <= left else 1
        left -= pieces[name] - 1
    return pieces


def _place(sizes: Mapping[str, int], name: str) -> tuple[int, str]:
    """Sorts wheels with layers of their own, the lowest first."""
    return -sizes[name].bit_length(), name


def group(wheels: Sequence[PreparedWheel], budget: int) -> list[Part]:
    """The parts that `distribute` makes of wheels."""
    by_name = {wheel.facts.key: wheel for wheel in wheels}
    sizes = {name: wheel.facts.zipped for name, wheel in by_name.items()}
    groups = distribute(sizes, budget)
    return [part for each in groups for part in parts_of([by_name[name] for name in each.names], each.pieces)]


def parts_of(wheels: Sequence[PreparedWheel], pieces: int = 1) -> list[Part]:
    """The part of some wheels; or, the lowest first, those of one wheel that has several pieces."""
    part = Part(wheels=tuple(wheels), contents=tuple(f"{wheel.facts.name} {wheel.facts.version}" for wheel in wheels))
    if pieces == 1:
        return [part]
    found = pieces_of(part.wheels[0], pieces)
    return [
        replace(part, piece=piece, contents=(f"{part.contents[0]} ({number} of {len(found)})",))
        for number, piece in enumerate(found, 1)
    ]


def arrange(wheels: Sequence[PreparedWheel], project: Part, *, extra: Sequence[Entry], budget: int) -> list[Part]:
    """The parts of the layers, lowest first: wheels in at most `budget` layers, extra files, local wheels, the project.

    Local wheels were built from directories, which change as often as the project. They share a layer, with all others
    if the budget is 0.
    """
    local = names_below_project({wheel.facts.key: wheel.is_local for wheel in wheels}, budget)
    below = sorted((wheel for wheel in wheels if wheel.facts.key in local), key=lambda wheel: wheel.facts.key)
    files = replace(project, contents=("extra files",), wheels=(), entries=tuple(extra))
    others = [wheel for wheel in wheels if wheel.facts.key not in local]
    return [*group(others, budget), *([files] if extra else []), *(parts_of(below) if below else []), project]


def names_below_project(local: Mapping[str, bool], budget: int) -> frozenset[str]:
    """The names of the wheels in the layer below the project's, given for all whether they are local."""
    if budget < 1 and any(local.values()):
        return frozenset(local)
    return frozenset(name for name, is_local in local.items() if is_local)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMaker:
    """Makes layers of wheels for a target, `threads` at once. `then` is called with each part whose layer is there."""

    target: TargetPython
    compression: str
    cache: Cache
    threads: int
    progress: Progress
    then: Callable[[Part], object] = lambda _part: None

    def layers(self, parts: Sequence[Part]) -> list[MadeLayer]:
        """The layers of `parts`, in their order: from the cache, or made. Only those that are made need their wheels.

        Raises ContentError or DigestMismatchError for a damaged wheel, OutputError if the cache cannot be written, and
        as `fetch_wheels`.
        """
        cache, threads = self.cache, self.threads
        keys = [_cache_key(part, self.target, self.compression) for part in parts if _kind(part) == SHARED]
        cache.expect(SHARED, keys)
        recalled = together(self._recalled, parts, threads=threads)
        missing = [part for part, (known,) in zip(parts, recalled, strict=True) if known is None]
        fetch_wheels(wheel for part in missing for wheel in part.wheels)
        # RECORD is in the last piece of a wheel. Whether it is right is seen when the others are written: here before
        # it, or by an earlier build, whose note may be gone.
        last = [part for part in missing if part.piece and part.completes]
        unseen = {
            wheel.digest for part, (known,) in zip(parts, recalled, strict=True) if known for wheel in part.wheels
        }
        for wheel in (wheel for part in last for wheel in part.wheels if wheel.digest in unseen):
            cache.put(_records(wheel), wheel.digest, {"wrong": True})
        made = iter(together(self._make, [part for part in missing if part not in last], threads=threads))
        highest = iter(together(self._make, last, threads=threads))
        return [
            known or next(highest if part in last else made) for part, (known,) in zip(parts, recalled, strict=True)
        ]

    def _recalled(self, part: Part) -> tuple[MadeLayer | None]:
        known = cached_layer(part, self.target, self.compression, self.cache)
        if known:
            self.then(part)
        return (known,)

    def _make(self, part: Part) -> MadeLayer:
        made = partial(_made, part, target=self.target, compression=self.compression)
        make = partial(made, cache=self.cache, progress=self.progress)
        key = _cache_key(part, self.target, self.compression)
        layer = make_once(self.cache, _kind(part), key, make) if key else make()
        self.then(part)
        return layer


def _made(part: Part, *, target: TargetPython, compression: str, cache: Cache, progress: Progress) -> MadeLayer:
    with ExitStack() as stack:
        files = [stack.enter_context(WheelFile(wheel.path, wheel.filename)) for wheel in part.wheels]
        wrong = any(part.piece and cache.get(_records(wheel), wheel.digest) for wheel in part.wheels)
        # A warning for a wheel, not for each of its pieces.
        told = progress if part.completes else Progress()
        correct_records(files, told, every=wrong)
        write = partial(_write, part, files, target=target, compression=compression, cache=cache, progress=progress)
        with _named(part):
            try:
                made = write()
            except DigestMismatchError:
                # RECORD is wrong. That is seen only now, since nothing else reads all files.
                if not correct_records(files, told, every=True):
                    raise
                for wheel in part.wheels:
                    cache.put(_records(wheel), wheel.digest, {"wrong": True})
                made = write()
    return made


def _write(
    part: Part, files: Sequence[WheelFile], *, target: TargetPython, compression: str, cache: Cache, progress: Progress
) -> MadeLayer:
    entries = [*part.entries]
    for wheel, file in zip(part.wheels, files, strict=True):
        entries += lay_out(file, target, prefix=VENV, pruned=wheel.pruned)
    entries = [entry for entry in _last_of_each(entries) if part.piece is None or part.piece.has(entry.path)]
    size = sum(entry.unpacked for entry in entries)
    with progress.task("layer", ", ".join(part.contents), size) as advance:
        return make_layer(
            entries,
            cache,
            WriteOptions(compression=compression, splice=part.splice),
            contents=part.contents,
            present=part.present,
            advance=advance,
        )


def corrected(file: WheelFile, wheel: PreparedWheel, cache: Cache) -> None:
    """Correct the RECORD of an open wheel as its layer has it, without a warning: making the layer gave that."""
    correct_records([file], Progress(), every=cache.get(_records(wheel), wheel.digest) is not None)


def _records(wheel: PreparedWheel) -> str:
    """The kind of cached documents that say of a wheel, by its digest, that the hashes in its RECORD may be wrong."""
    return "own-records" if wheel.own else "records"


@contextmanager
def _named(part: Part) -> Iterator[None]:
    """Add the wheels' file names to an error about a file's content: the layer writer does not know them."""
    try:
        yield
    except (ContentError, DigestMismatchError) as error:
        error.place = error.place or ", ".join(wheel.filename for wheel in part.wheels)
        raise


def cached_layer(part: Part, target: TargetPython, compression: str, cache: Cache) -> MadeLayer | None:
    """The layer of a part, if the cache has it."""
    key = _cache_key(part, target, compression)
    return recall(cache, _kind(part), key) if key else None


def _kind(part: Part) -> str:
    """The kind of a layer's document: machines need not share layers that change with each version of the project."""
    return SHARED if part.splice and not any(wheel.own for wheel in part.wheels) else OWN


def _cache_key(part: Part, target: TargetPython, compression: str) -> str:
    """The cache key of a layer; empty for a layer with files of the host, whose content is not known by a digest."""
    if any(isinstance(entry.content, Plain) for entry in part.entries):
        return ""
    wheels = [[wheel.digest, digest_of(sorted(wheel.pruned))] for wheel in part.wheels]
    others = digest_of([*map(repr, part.entries), *sorted(part.present)]) if part.entries else ""
    options = WriteOptions(compression=compression, splice=part.splice)
    piece = [[part.piece.number, part.piece.count, part.piece.alone]] if part.piece else []
    shape = [LAYOUT, options.fingerprint, VENV, target.lib_name, wheels, others, *piece]
    return json.dumps(shape, separators=(",", ":"))


def digest_of(texts: Iterable[str]) -> str:
    """One digest for several texts, which may be names that are not UTF-8."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()


def _last_of_each(entries: Iterable[Entry]) -> list[Entry]:
    """If two wheels of a layer write the same path, keep the later one, as if it were in a layer above."""
    return list({entry.path: entry for entry in entries}.values())
