"""Requirements in comparable form: those in the metadata of a uv.lock, and those of a project."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.locks.model import evaluate
from hatch_docker.locks.origins import Origin, origin_of_url, plain, real_path
from hatch_docker.support.dataclasses import dataclass, field

Table = Mapping[str, Any]

_DIRECTORIES = ("path", "directory", "editable", "virtual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """A requirement that applies: `extras` are sorted, and names are normalized."""

    name: str
    extras: tuple[str, ...] = ()
    specifier: SpecifierSet = field(default_factory=SpecifierSet)
    origin: Origin = None

    @property
    def is_direct(self) -> bool:
        """Whether it comes from one place, so that its specifier does not choose a version."""
        return self.origin is not None and self.origin[0] != "index"


def locked_requirements(
    entries: Sequence[Table], project: str, extras: Set[str], target: TargetPython, folder: Path
) -> tuple[list[Required], frozenset[str]]:
    """The locked requirements of a project that apply, without those of itself; and its extras, with implied ones.

    Paths are relative to the lock's directory `folder`.
    """
    extras = _with_own(entries, project, extras, target)
    found = [
        Required(
            name=canonicalize_name(entry["name"]),
            extras=tuple(sorted(entry.get("extras", []))),
            specifier=SpecifierSet(entry.get("specifier", "")),
            origin=_locked_origin(entry, folder),
        )
        for entry in entries
        if canonicalize_name(entry["name"]) != project and _holds(entry, extras, target)
    ]
    return found, extras


def _with_own(entries: Sequence[Table], project: str, extras: Set[str], target: TargetPython) -> frozenset[str]:
    """The chosen extras, and those of the project itself that these or groups require (`demo[postgres]`)."""
    found = frozenset(extras)
    while True:
        own = [each for each in entries if each["name"] == project and _holds(each, found, target)]
        more = found.union(*(each.get("extras", []) for each in own))
        if more == found:
            return found
        found = more


def _holds(entry: Table, extras: Set[str], target: TargetPython) -> bool:
    marker = entry.get("marker")
    return not marker or any(evaluate(Marker(marker), target, extra=extra) for extra in ("", *extras))


def _locked_origin(entry: Table, folder: Path) -> Origin:
    if "git" in entry:
        return _git(entry["git"])
    if "url" in entry:
        return ("url", plain(entry["url"]), entry.get("subdirectory", ""))
    for key in _DIRECTORIES:
        if key in entry:
            return ("path", real_path(folder / entry[key]), "")
    return ("index", plain(entry["index"]), "") if "index" in entry else None


def project_requirements(requirements: Iterable[Requirement], target: TargetPython) -> Iterator[Required]:
    """The requirements of a project that apply to the target. They come from their URLs, or from any index."""
    for each in requirements:
        if not each.marker or evaluate(each.marker, target):
            yield Required(
                name=canonicalize_name(each.name),
                extras=tuple(sorted(canonicalize_name(extra) for extra in each.extras)),
                specifier=each.specifier,
                origin=origin_of_url(each.url) if each.url else None,
            )


def _git(text: str) -> Origin:
    """Uv's encoding: `URL?subdirectory=DIRECTORY&rev=REVISION`."""
    query = {key: values[0] for key, values in parse_qs(urlsplit(text).query).items()}
    parts = [f"{key}={query[key]}" for key in ("subdirectory", "rev", "tag", "branch") if key in query]
    return ("git", plain(text), "&".join(parts))
