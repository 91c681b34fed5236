"""Wheels prepared for layers: their facts, and the members to prune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hatch_docker.index.artifact import SourceTree
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.cache import Cache
from hatch_docker.support.threads import together
from hatch_docker.wheels.facts import FORMAT, WheelFacts, read_facts
from hatch_docker.wheels.prune import Pruning, members_to_prune
from hatch_docker.wheels.wheelfile import WheelFile


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedWheel:
    """A wheel: its facts, the file at `path` with its `digest`, and the members that are `pruned`, each with its rule.

    `tree` is what it was built from, if that was a source tree. `locked_name` is the name that the lock has for it.
    """

    facts: WheelFacts
    filename: str
    path: Path
    digest: str
    pruned: Mapping[str, str] = field(default_factory=dict)
    tree: SourceTree | None = None
    locked_name: str = ""

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
    files: Sequence[FetchedFile], cache: Cache, pruning: Pruning, *, own: bool = False, threads: int
) -> list[PreparedWheel]:
    """The wheels in `files`, in their order; the members to prune are chosen for all of them together.

    `own` says that the last is the project's. Raises WheelError for an invalid wheel.
    """
    named = [(file.artifact.filename, file.path, file.digest) for file in files]
    wheels = together(lambda each: _prepared(*each, cache), named, threads=threads)
    wheels = [
        replace(wheel, tree=file.artifact.tree, locked_name=file.artifact.name)
        for wheel, file in zip(wheels, files, strict=True)
    ]
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


def _prepared(filename: str, path: Path, digest: str, cache: Cache) -> PreparedWheel:
    key = f"{FORMAT} {digest}"
    known = cache.get("wheels", key)
    facts = WheelFacts.from_json(known) if known else None
    if facts is None:
        with WheelFile(path, filename) as wheel:
            facts = read_facts(wheel)
        cache.put("wheels", key, facts.to_json())
    return PreparedWheel(facts=facts, filename=filename, path=path, digest=digest)
