"""Where packages come from, in comparable form: what sources and URLs of a project say, and what a lock has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from packaging.markers import InvalidMarker, Marker

from hatch_docker.base.target import TargetPython
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.sources import Source
from hatch_docker.locks.model import MARKER_ERRORS, evaluate
from hatch_docker.support.patterns import regex

# The kind (`url`, `git`, `path` or `index`), the place without a login, and which part of it; None for any index.
Origin = tuple[str, str, str] | None

_SCP = regex(r"[\w.-]+@([\w.-]+):(?!//)(.+)")


def allowed_origins(sources: Iterable[Source], target: TargetPython, extras: Set[str], groups: Set[str]) -> set[Origin]:
    """The places that the sources of one package allow for a requirement; which of its extras asks is not known."""
    found: set[Origin] = set()
    fixed = False
    for source in sources:
        limited = (source.extra and source.extra not in extras) or (source.group and source.group not in groups)
        if not limited and _holds(source.marker, target):
            found.add(_of_source(source))
            fixed = fixed or not (source.extra or source.group)
    return found if fixed else {*found, None}


def _holds(marker: str, target: TargetPython) -> bool:
    try:
        return not marker or evaluate(Marker(marker), target)
    except (InvalidMarker, *MARKER_ERRORS):
        return True


def origin_of_url(url: str) -> Origin:
    """The origin of a requirement by URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ("url", url, "")
    subdirectory = parse_qs(parts.fragment).get("subdirectory", [""])[0]
    if parts.scheme.startswith("git+"):
        path, _, revision = parts.path.rpartition("@") if "@" in parts.path else (parts.path, "", "")
        found = [f"subdirectory={subdirectory}" if subdirectory else "", f"rev={revision}" if revision else ""]
        return ("git", plain(urlunsplit(parts._replace(path=path))), "&".join(filter(None, found)))
    if parts.scheme == "file":
        return ("path", real_path(Path(url2pathname(parts.path))), "")
    return ("url", plain(url), subdirectory)


def is_from(artifact: Artifact, origin: Origin) -> bool:
    """Whether a lock's artifact comes from an origin, as far as the lock says. Any commit can be from a repository."""
    if origin is None:
        return True
    kind, place, part = origin
    tree = artifact.tree
    if kind == "index":
        return tree is None and plain(artifact.index or place) == place
    if kind == "git":
        subdirectory = parse_qs(part).get("subdirectory", [""])[0]
        return bool(tree and tree.commit and plain(tree.url) == place and tree.subdirectory == subdirectory)
    if tree and tree.commit:
        return False
    return origin_of_url(tree.url if tree else artifact.url)[:2] == (kind, place)  # type: ignore[index]


def shown_origin(origin: Origin) -> str:
    """An origin in messages."""
    if origin is None:
        return "the index"
    kind, value, part = origin
    text = f"index {value}" if kind == "index" else value
    return f"{text} ({part})" if part else text


def _of_source(source: Source) -> Origin:
    if source.kind in ("path", "workspace"):
        return ("path", real_path(Path(source.value)), "")
    if source.kind == "index":
        return ("index", plain(source.value), "") if source.value else None
    if source.kind == "git":
        parts = [f"subdirectory={source.subdirectory}" if source.subdirectory else "", source.reference]
        return ("git", plain(source.value), "&".join(filter(None, parts)))
    return ("url", plain(source.value), source.subdirectory)


def plain(url: str) -> str:
    """A URL to compare: without login, query, fragment, and the endings that repositories and indexes may have."""
    url = url.removeprefix("git+")
    if scp := _SCP.fullmatch(url):
        url = f"ssh://{scp[1]}/{scp[2]}"
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    path = unquote(parts.path).rstrip("/").removesuffix(".git")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2].lower(), path, "", ""))


def real_path(path: Path) -> str:
    """A path to compare."""
    return os.path.realpath(path)
