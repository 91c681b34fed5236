"""Requirements in comparable form: those in the metadata of a uv.lock, and those of a project."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.index.sources import Source
from hatch_docker.locks.model import evaluate

Table = Mapping[str, Any]

# Where a requirement comes from: its kind (`url`, `git`, `path` or `index`), where, and which part; None for any index.
Origin = tuple[str, str, str] | None

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
        return ("url", _plain(entry["url"]), entry.get("subdirectory", ""))
    for key in _DIRECTORIES:
        if key in entry:
            return ("path", _path(folder / entry[key]), "")
    return ("index", _plain(entry["index"]).rstrip("/"), "") if "index" in entry else None


def project_requirements(requirements: Iterable[Requirement], target: TargetPython) -> Iterator[Required]:
    """The requirements of a project that apply to the target. They come from their URLs, or from any index."""
    for each in requirements:
        if not each.marker or evaluate(each.marker, target):
            yield Required(
                name=canonicalize_name(each.name),
                extras=tuple(sorted(canonicalize_name(extra) for extra in each.extras)),
                specifier=each.specifier,
                origin=_of_url(each.url) if each.url else None,
            )


def allowed_origins(sources: Iterable[Source], target: TargetPython, extras: Set[str], groups: Set[str]) -> set[Origin]:
    """The places that the sources of one package allow for a requirement; which of its extras asks is not known."""
    found: set[Origin] = set()
    fixed = False
    for source in sources:
        limited = (source.extra and source.extra not in extras) or (source.group and source.group not in groups)
        if not limited and (not source.marker or evaluate(Marker(source.marker), target)):
            found.add(_of_source(source))
            fixed = fixed or not (source.extra or source.group)
    return found if fixed else {*found, None}


def shown_origin(origin: Origin) -> str:
    """An origin in messages, without a login."""
    if origin is None:
        return "the index"
    kind, value, part = origin
    text = f"index {value}" if kind == "index" else value
    return f"{text} ({part})" if part else text


def _of_source(source: Source) -> Origin:
    if source.kind in ("path", "workspace"):
        return ("path", _path(Path(source.value)), "")
    if source.kind == "index":
        return ("index", _plain(source.value).rstrip("/"), "") if source.value else None
    if source.kind == "git":
        parts = [f"subdirectory={source.subdirectory}" if source.subdirectory else "", source.reference]
        return ("git", _plain(source.value.removeprefix("git+")), "&".join(filter(None, parts)))
    return ("url", _plain(source.value), source.subdirectory)


def _of_url(url: str) -> Origin:
    parts = urlsplit(url)
    subdirectory = parse_qs(parts.fragment).get("subdirectory", [""])[0]
    if parts.scheme.startswith("git+"):
        path, _, revision = parts.path.rpartition("@") if "@" in parts.path else (parts.path, "", "")
        found = [f"subdirectory={subdirectory}" if subdirectory else "", f"rev={revision}" if revision else ""]
        plain = urlunsplit(parts._replace(path=path)).removeprefix("git+")
        return ("git", _plain(plain), "&".join(filter(None, found)))
    if parts.scheme == "file":
        return ("path", _path(Path(url2pathname(parts.path))), "")
    return ("url", _plain(url), subdirectory)


def _git(text: str) -> Origin:
    """Uv's encoding: `URL?subdirectory=DIRECTORY&rev=REVISION`."""
    query = {key: values[0] for key, values in parse_qs(urlsplit(text).query).items()}
    parts = [f"{key}={query[key]}" for key in ("subdirectory", "rev", "tag", "branch") if key in query]
    return ("git", _plain(text), "&".join(parts))


def _plain(url: str) -> str:
    """A URL without login, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], unquote(parts.path), "", ""))


def _path(path: Path) -> str:
    return os.path.realpath(path)
