"""Read and write debian.lock, the lock file of Debian packages.

It is separate from the lock of Python packages, because tools such as uv overwrite that file. A build with debian.lock
downloads no index, and makes the same image as long as a mirror has the packages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hatch_docker.debian.control import NAME
from hatch_docker.debian.packages import Package, file_of
from hatch_docker.debian.version import key
from hatch_docker.errors import DebianError, LockError
from hatch_docker.support import toml
from hatch_docker.support.atomic import replace_text
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

FILE = "debian.lock"
PURPOSES = ("base", "runtime-packages", "init", "builder")
UPGRADE = "hatch-docker lock --upgrade base"
_VERSION = 1
_ANY = regex(".+")
_WORD = regex(r"[a-z0-9][a-z0-9./-]*")
_DATE = regex(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}:\d{2}Z)?|")
_HEAD = f"""\
# The Debian packages in the image. Made by hatch-docker: do not edit.
# Newer ones: {UPGRADE}
version = {_VERSION}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The packages for a purpose (one of PURPOSES), of one suite and architecture, in the order of installation.

    `requested` are the requested names, sorted (`roots` in the file), `snapshot` is the requested day of the archive,
    empty for the newest, and `dated` the date of the archive's Release.
    """

    purpose: str
    suite: str
    architecture: str
    requested: tuple[str, ...]
    packages: tuple[Package, ...]
    snapshot: str = ""
    dated: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """The selections of a project's lock file at `path`; None if it has none."""

    selections: tuple[Selection, ...] = ()
    path: Path | None = None

    def find(self, purpose: str, architecture: str) -> Selection | None:
        """The selection for a purpose, regardless of its suite and requested packages."""
        matching = (each for each in self.selections if (each.purpose, each.architecture) == (purpose, architecture))
        return next(matching, None)

    def of(
        self, purpose: str, suite: str, architecture: str, requested: Iterable[str], snapshot: str
    ) -> Selection | None:
        """The selection for a purpose; None without a lock file, and for a builder that is pinned for no architecture.

        Raises LockError if the selection is missing, or is for another request.
        """
        selection = self.find(purpose, architecture)
        if self.path is None or (purpose == "builder" and not any(each.purpose == purpose for each in self.selections)):
            return None
        names, pinned = set(requested), set(selection.requested) if selection else set()
        if selection is None:
            problem = f"it has no packages of {architecture} for {purpose!r}"
        elif (selection.suite, selection.snapshot) != (suite, snapshot):
            problem = f"it is for {_named(selection.suite, selection.snapshot)}, not for {_named(suite, snapshot)}"
        elif names != pinned:
            changes = [f"+{name}" for name in sorted(names - pinned)] + [f"-{name}" for name in sorted(pinned - names)]
            problem = f"other packages are requested now: {' '.join(changes)}"
        else:
            return selection
        raise stale(self, problem)


def check_dates(selections: Iterable[Selection], pins: Pins) -> None:
    """Raise an error if selections for one purpose, of several architectures, are from Release files of several dates.

    It is a LockError if they are pinned, else a DebianError: mirrors are then at different times.
    """
    for purpose in PURPOSES:
        chosen = {each.architecture: each for each in selections if each.purpose == purpose}
        if len({(each.dated, each.snapshot) for each in chosen.values()}) > 1:
            dates = ", ".join(f"{each.architecture} of {each.dated}" for each in chosen.values())
            problem = f"the packages for {purpose!r} are of several dates: {dates}"
            if set(chosen.values()) & set(pins.selections):
                raise stale(pins, problem)
            raise DebianError(problem, hint="the mirrors are not at the same time: use one for all architectures")


def stale(pins: Pins, problem: str) -> LockError:
    """The error for pins that do not match the project."""
    return LockError(f"the lock is stale, {problem}", place=str(pins.path), hint="refresh it: hatch-docker lock")


def _named(suite: str, snapshot: str) -> str:
    return f"{suite}@{snapshot}" if snapshot else suite


def find_pins(root: Path) -> Pins:
    """Read the pins of the project at `root`. Raises LockError for an invalid file."""
    path = root / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Pins()
    except (OSError, ValueError) as error:
        raise _broken(path, getattr(error, "strerror", "") or "it is not UTF-8 text") from None
    try:
        document = toml.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from None
    if document.get("version") != _VERSION:
        raise LockError(
            f"it has version {document.get('version')!r}; this version of hatch-docker reads {_VERSION}",
            place=str(path),
            hint="update hatch-docker, or delete the file and run: hatch-docker lock",
        )
    try:
        selections = tuple(_selection(each) for each in _tables(document.get("selection", []), "selection"))
        if len({(each.purpose, each.architecture) for each in selections}) != len(selections):
            raise ValueError("it has two selections for one purpose and architecture")
    except (KeyError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise _broken(path, reason) from None
    except DebianError as error:
        raise _broken(path, ": ".join(filter(None, (error.place, error.message)))) from None
    return Pins(selections=selections, path=path)


def write_pins(path: Path, selections: Iterable[Selection]) -> None:
    """Write a lock file atomically; the same selections give the same bytes. Raises OutputError."""
    ordered = sorted(selections, key=lambda each: (PURPOSES.index(each.purpose), each.architecture))
    replace_text(path, _HEAD + "".join(line for each in ordered for line in _lines(each)))


def _lines(selection: Selection) -> Iterator[str]:
    yield "\n[[selection]]\n"
    for name in ("purpose", "suite", "architecture", "snapshot", "dated"):
        if value := getattr(selection, name):
            yield f"{name} = {_quoted(value)}\n"
    yield f"roots = {_quoted(list(selection.requested))}\n"
    yield "packages = [\n"
    for package in selection.packages:
        texts = {"name": package.name, "version": package.version, "suite": package.suite, "path": package.filename}
        inline = ", ".join(f"{name} = {_quoted(value)}" for name, value in texts.items())
        yield f'    {{ {inline}, size = {package.size}, sha256 = "{package.sha256}" }},\n'
    yield "]\n"


def _quoted(value: object) -> str:
    """Encode a value in TOML: like JSON, but non-ASCII characters are not escaped."""
    return json.dumps(value, ensure_ascii=False)


def _selection(table: Mapping[str, Any]) -> Selection:
    purpose = _text(table, "purpose")
    if purpose not in PURPOSES:
        raise ValueError(f"unknown purpose {purpose[:80]!r}; expected one of {', '.join(PURPOSES)}")
    roots = table["roots"]
    if not isinstance(roots, list) or not all(isinstance(each, str) for each in roots):
        raise ValueError("roots is not a list of names")
    packages = tuple(_package(each) for each in _tables(table["packages"], "packages"))
    if len({each.name for each in packages}) != len(packages):
        raise ValueError(f"the selection for {purpose!r} has a package twice")
    return Selection(
        purpose=purpose,
        suite=_text(table, "suite", _WORD),
        architecture=_text(table, "architecture", _WORD),
        requested=tuple(roots),
        packages=packages,
        snapshot=_date(table, "snapshot"),
        dated=_date(table, "dated"),
    )


def _package(table: Mapping[str, Any]) -> Package:
    name, version = _text(table, "name", NAME), _text(table, "version")
    key(version)
    fields = {"Filename": _text(table, "path"), "Size": str(table["size"]), "SHA256": _text(table, "sha256")}
    filename, size, sha256 = file_of(fields, name)
    return Package(
        name=name,
        version=version,
        architecture="",
        suite=_text(table, "suite", _WORD),
        filename=filename,
        size=size,
        sha256=sha256,
    )


def _tables(value: object, name: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"{name} is not a list of tables")
    return value


def _date(table: Mapping[str, Any], name: str) -> str:
    """A day, a time, or an empty string."""
    text = str(table.get(name, ""))
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        if text:
            datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        raise ValueError(f"{name} is not a date: {text[:80]!r}") from None
    return text


def _text(table: Mapping[str, Any], name: str, pattern: re.Pattern[str] = _ANY) -> str:
    value = table[name]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"invalid {name}: {str(value)[:80]!r}")
    return value


def _broken(path: Path, reason: str) -> LockError:
    return LockError(
        f"the lock file is invalid: {reason}", place=str(path), hint="delete it and run: hatch-docker lock"
    )
