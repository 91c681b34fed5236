"""Requirements by path or URL, as requirements files have them → packages of a pylock document.

They are PEP 508's `name @ URL`, and what pip and uv read beside it: paths, URLs and `-e`, whose names are in a fragment
(`#egg=name`), in a file name, or in the project's own files.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit, urlunsplit
from urllib.request import url2pathname

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from hatch_docker.errors import LockError
from hatch_docker.locks.model import parse_filename
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.patterns import regex
from hatch_docker.support.redaction import redact
from hatch_docker.support.regular import open_regular, read_regular
from hatch_docker.support.streams import file_digest

_NAMED = regex(r"([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9])\s*(?:\[[^\]]*\])?\s*@\s*(\S.*)", re.DOTALL)
_URL = regex(r"(?:(git|hg|svn|bzr)(?:\+[a-z]+)?|https?|ftp|file):", re.IGNORECASE)
_EXTRAS = regex(r"\s*\[[^\]]*\]$")
_ARCHIVE = regex(r"\.(whl|zip|tar|t?gz|tbz|txz|tlz|tar\.(bz2|xz|lz|lzma))$", re.IGNORECASE)
_COMMIT = regex(r"[0-9a-f]{40}|[0-9a-f]{64}", re.IGNORECASE)
_STRONG = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A requirement by path or URL; `place` is its line.

    `target` is the path or URL as written, without its `fragment`. `name` is normalized, and empty if the text has
    none. `hashes` are the digests (`sha256:…`) that the file may have.
    """

    place: str
    target: str = field(repr=False)
    fragment: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    marker: Marker | None = None
    hashes: frozenset[str] = frozenset()
    editable: bool = False

    @property
    def label(self) -> str:
        """The name, or the target without a login, for messages."""
        return self.name or redact(self.target)

    @property
    def vcs(self) -> str:
        """The kind of repository (`git`); empty if it is none."""
        found = _URL.match(self.target)
        return (found[1] or "").lower() if found else ""

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return not _URL.match(self.target) or self.target.lower().startswith("file:")

    @property
    def needs_hash(self) -> bool:
        """Whether nothing tells which content it is: a file of the network, without a hash."""
        return not (self.vcs or self.is_local or self.hashes)


def parse_reference(text: str, *, place: str, editable: bool, hashes: frozenset[str]) -> Reference | None:
    """The reference that the text of a requirement is; None if it is a name with a version. Raises LockError."""
    named = _NAMED.match(text)
    url = named is not None or _URL.match(text) is not None
    body, *rest = re.split(r"\s;|;\s" if url else ";", text, maxsplit=1)
    if not (url or editable or _is_path(body.strip())):
        return None
    target, _, fragment = (named[2][: len(body) - named.start(2)] if named else body).strip().partition("#")
    if not _URL.match(target) or target.lower().startswith("file:"):
        target = _EXTRAS.sub("", target)
    pairs = dict(pair.split("=", 1) for pair in unquote(fragment).split("&") if "=" in pair)
    name = named[1] if named else re.split(r"[^A-Za-z0-9._-]", pairs.get("egg", ""), maxsplit=1)[0]
    strong = {f"{algorithm}:{pairs[algorithm]}".lower() for algorithm in _STRONG if algorithm in pairs}
    return Reference(
        place=place,
        target=target,
        fragment=pairs,
        name=canonicalize_name(name),
        marker=_marker("".join(rest).strip(), place),
        hashes=hashes | strong,
        editable=editable,
    )


def _is_path(text: str) -> bool:
    text = _EXTRAS.sub("", text)
    return text.startswith(".") or "/" in text or os.sep in text or _ARCHIVE.search(text) is not None


def _marker(text: str, place: str) -> Marker | None:
    try:
        return Marker(text) if text else None
    except (InvalidMarker, RecursionError):
        raise LockError("the marker is not valid", place=place) from None


def package_of(reference: Reference, bases: Sequence[Path], *, own: Path) -> dict[str, Any] | None:
    """The package of a pylock document for a reference; None for the project's own directory `own`.

    A relative path belongs to the first of `bases` where it exists. Files of this machine are hashed here. Raises
    LockError for what is not there, has no name, or is not a commit of Git.
    """
    if reference.vcs:
        return _vcs(reference)
    if not reference.is_local:
        return _archive(
            reference, url=urldefrag(reference.target)[0], filename=_filename(reference.target, reference.place)
        )
    path = _existing(reference, bases)
    if path.is_file():
        return _archive(_hashed(reference, path), path=str(path), filename=path.name)
    folder = path / reference.fragment.get("subdirectory", "")
    if folder.resolve() == own.resolve():
        return None
    name = reference.name or _name_in(folder)
    if not name:
        raise _nameless(reference, "its own files do not name it statically")
    return {"name": name, "directory": {"path": str(folder), "editable": reference.editable}}


def _nameless(reference: Reference, why: str) -> LockError:
    shown = redact(reference.target)
    return LockError(f"{shown} has no name: {why}", place=reference.place, hint=f"write `name @ {shown}`")


def _vcs(reference: Reference) -> dict[str, Any]:
    if reference.vcs != "git":
        raise LockError(
            f"{reference.label} comes from {reference.vcs}, and only Git is supported", place=reference.place
        )
    if not reference.name:
        raise _nameless(reference, "nothing in the URL does")
    parts = urlsplit(re.sub(r"^git\+", "", reference.target, flags=re.IGNORECASE))
    path, _, revision = parts.path.rpartition("@") if "@" in parts.path else (parts.path, "", "")
    if not _COMMIT.fullmatch(revision):
        at = f"at {revision!r}" if revision else "without a revision"
        raise LockError(
            f"{reference.name} comes from Git {at}, which may be another commit tomorrow",
            place=reference.place,
            hint="a lock needs the full hash of the commit: git+URL@0123456789…",
        )
    vcs = {"type": "git", "url": urlunsplit(parts._replace(path=path)), "commit-id": revision.lower()}
    return {"name": reference.name, "vcs": vcs | _subdirectory(reference)}


def _subdirectory(reference: Reference) -> dict[str, str]:
    found = reference.fragment.get("subdirectory")
    return {"subdirectory": found} if found else {}


def _archive(reference: Reference, *, filename: str, **place: str) -> dict[str, Any]:
    found = parse_filename(filename)
    name = reference.name or (found[0] if found else "")
    if not name:
        raise _nameless(reference, f"{filename!r} is not the name of a wheel or sdist")
    version = {"version": str(found[1])} if found and found[0] == name else {}
    hashes: dict[str, str] = {}
    for each in sorted(reference.hashes):
        algorithm, _, digest = each.partition(":")
        if hashes.setdefault(algorithm, digest) != digest:
            raise LockError(
                f"{name} has several {algorithm} hashes, and is one file",
                place=reference.place,
                hint="keep the hash of the file",
            )
    return {"name": name, **version, "archive": {**place, "hashes": hashes} | _subdirectory(reference)}


def _filename(url: str, place: str) -> str:
    try:
        return unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:
        raise LockError("the URL is malformed", place=place) from None


def _existing(reference: Reference, bases: Sequence[Path]) -> Path:
    target = reference.target
    text = url2pathname(urlsplit(target).path) if target.lower().startswith("file:") else target
    try:
        for base in bases:
            if (path := Path(os.path.abspath(base / text))).exists():  # noqa: PTH100  (links are kept)
                return path
    except (OSError, ValueError):
        pass
    if Path(text).is_absolute():
        hint = "if it was locked in another directory, lock it again here, or with a relative path"
        raise LockError(f"there is no {text!r}", place=reference.place, hint=hint)
    looked = " or ".join(dict.fromkeys(map(str, bases)))
    hint = "restore it, or lock again without it"
    raise LockError(f"there is no {text!r} in {looked}", place=reference.place, hint=hint)


def _hashed(reference: Reference, path: Path) -> Reference:
    """The reference with the hashes of its file, if they are among the locked ones. Raises LockError."""
    locked: dict[str, set[str]] = {"sha256": set()}
    for each in reference.hashes:
        locked.setdefault(each.partition(":")[0], set()).add(each)
    try:
        found = {algorithm: _digest(path, algorithm) for algorithm in locked}
    except OSError as error:
        raise LockError(f"cannot read {path}: {error.strerror or error}", place=reference.place) from None
    for algorithm, digest in found.items():
        if locked[algorithm] and digest not in locked[algorithm]:
            raise LockError(f"{path} has another hash than the locked one: {digest}", place=reference.place)
    return replace(reference, hashes=frozenset(found.values()))


def _digest(path: Path, algorithm: str) -> str:
    with open_regular(path) as file:
        return file_digest(file, algorithm)


def _name_in(folder: Path) -> str:
    """The normalized name of the project in a directory, from pyproject.toml or setup.cfg; empty if they have none."""
    try:
        document = toml.loads(read_regular(folder / "pyproject.toml").decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        document = {}
    tool = document.get("tool")
    for table in (document.get("project"), tool.get("poetry") if isinstance(tool, dict) else None):
        if isinstance(table, dict) and isinstance(name := table.get("name"), str):
            return canonicalize_name(name)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_regular(folder / "setup.cfg").decode("utf-8-sig"))
    except (OSError, ValueError, configparser.Error):
        return ""
    name = parser.get("metadata", "name", fallback="")
    return "" if name.startswith(("file:", "attr:")) else canonicalize_name(name)
