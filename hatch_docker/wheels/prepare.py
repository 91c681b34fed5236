"""Wheels prepared for layers: their facts, and the members to prune."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from hatch_docker.index.artifact import SourceTree
from hatch_docker.index.download import FetchedFile, Get, fetch_all, fetch_files
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.threads import at_most
from hatch_docker.wheels.facts import FORMAT, WheelFacts, read_facts
from hatch_docker.wheels.prune import Pruning, members_to_prune
from hatch_docker.wheels.wheelfile import WheelFile

# The kinds of cached facts: of wheels of packages, and of the project's and local directories', which machines need not
# share since these change with each version.
_KIND, _OWN = "wheels", "own-facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedWheel:
    """A wheel: its facts, and the members that are `pruned`, each with its rule.

    `get` fetches its file, which has this `digest`, if something needs more than facts. `tree` is what it was built
    from, if that was a source tree. `locked_name` is the name that the lock has for it. `own` says that
    it changes with the project: its own wheel, or one of a local directory.
    """

    facts: WheelFacts
    filename: str
    digest: str
    get: Get = field(repr=False, compare=False)
    pruned: Mapping[str, str] = field(default_factory=dict)
    tree: SourceTree | None = None
    locked_name: str = ""
    own: bool = False

    @property
    def path(self) -> Path:
        """The wheel's file. Raises as `FetchedFile.path`."""
        return self.get(None)

    @property
    def is_local(self) -> bool:
        """Whether it was built from a local directory, which may change as often as the project."""
        return self.tree is not None and self.tree.is_local

    @property
    def pruned_bytes(self) -> dict[str, int]:
        """The size of what is pruned, by rule."""
        sizes = dict.fromkeys(sorted(set(self.pruned.values())), 0)
        for path, size in zip(self.facts.files, self.facts.sizes, strict=True):
            if rule := self.pruned.get(path):
                sizes[rule] += size
        return sizes


def prepare_wheels(
    files: Sequence[FetchedFile],
    cache: Cache,
    pruning: Pruning,
    *,
    own: bool = False,
    threads: int,
    before: Callable[[], object] = lambda: None,
) -> list[PreparedWheel]:
    """The wheels in `files`, in their order; the members to prune are chosen for all of them together.

    Files are fetched if their facts are not cached. `own` says that the last is the project's. `before` is called when
    one was fetched, before it is read. Raises WheelError for an invalid wheel, and as `fetch_files`.
    """
    kinds = {file.identity: _OWN if file.artifact.tree and file.artifact.tree.is_local else _KIND for file in files}
    kinds |= {file.identity: _OWN for file in files[-1:] if own}
    cache.expect(_KIND, [_key(file) for file in files if kinds[file.identity] == _KIND])
    facts = {file.identity: known for file in files if (known := _known(file, kinds[file.identity], cache))}
    read = at_most(threads, _facts)

    def add(file: FetchedFile) -> None:
        before()
        facts[file.identity] = read(file, kinds[file.identity], cache)

    unknown = {file.identity: file for file in files if file.identity not in facts}
    # While some are read, others are fetched.
    fetch_files(unknown.values(), then=add)
    wheels = [_prepared(file, facts[file.identity], own=kinds[file.identity] == _OWN) for file in files]
    theirs = {wheel.facts.key for wheel in wheels if wheel.is_local} | {wheel.facts.key for wheel in wheels[-1:] if own}
    pruned = members_to_prune([wheel.facts for wheel in wheels], pruning, own=theirs)
    return [replace(wheel, pruned=members) for wheel, members in zip(wheels, pruned, strict=True)]


def scripts_of(wheels: Sequence[PreparedWheel]) -> list[str]:
    """The names of all scripts in the venv's bin directory."""
    names = {name for wheel in wheels for name in wheel.facts.scripts}
    prefixes = [(wheel, f"{wheel.facts.data}/scripts/") for wheel in wheels]
    names |= {
        path[len(prefix) :] for wheel, prefix in prefixes for path in wheel.facts.files if path.startswith(prefix)
    }
    return sorted(names)


def main_of(wheel: PreparedWheel) -> str:
    """The module that `python -m` starts: the only package with a `__main__`; empty unless there is just one."""
    places = [wheel.facts.site_path(path) for path in wheel.facts.files]
    packages = [place.removesuffix("/__main__.py") for place in places if place.endswith("/__main__.py")]
    return packages[0].replace("/", ".") if len(packages) == 1 else ""


def fetch_wheels(wheels: Iterable[PreparedWheel]) -> None:
    """Fetch the files of wheels that are missing, all at once; raises as `fetch_files`."""
    fetch_all([wheel.get for wheel in sorted(wheels, key=lambda wheel: (-wheel.facts.zipped, wheel.digest))])


def _key(file: FetchedFile) -> str:
    return f"{FORMAT} {file.identity}"


def _known(file: FetchedFile, kind: str, cache: Cache) -> WheelFacts | None:
    known = cache.get(kind, _key(file))
    return WheelFacts.from_json(known) if known else None


def _facts(file: FetchedFile, kind: str, cache: Cache) -> WheelFacts:
    key = f"{kind} {_key(file)}"
    return cache.once(key, partial(_known, file, kind, cache), partial(_read, file, kind, cache))


def _read(file: FetchedFile, kind: str, cache: Cache) -> WheelFacts:
    with WheelFile(file.path, file.artifact.filename) as wheel:
        facts = read_facts(wheel)
    cache.put(kind, _key(file), facts.to_json())
    return facts


def _prepared(file: FetchedFile, facts: WheelFacts, *, own: bool) -> PreparedWheel:
    artifact = file.artifact
    return PreparedWheel(
        facts=facts,
        filename=artifact.filename,
        digest=file.digest,
        get=file.get,
        tree=artifact.tree,
        locked_name=artifact.name,
        own=own,
    )
