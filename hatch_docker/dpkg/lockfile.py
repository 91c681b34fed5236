"""debian.lock: the packages that were chosen out of Debian's archive, written down beside the lock of Python's.

It is a file of its own, since those who write Python's locks (uv, pip-tools) write the whole file. With it a build asks
for no index of the archive, and makes the same image for as long as a mirror has the packages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hatch_docker.debian.control import NAME
from hatch_docker.debian.packages import Package, file_of
from hatch_docker.debian.version import key
from hatch_docker.errors import DebianError, LockError
from hatch_docker.support import toml
from hatch_docker.support.atomic import replacing

FILE = "debian.lock"
PURPOSES = ("base", "runtime-packages", "builder")
UPGRADE = "hatch-docker lock --upgrade base"
_VERSION = 1
_WORD = re.compile(r"[a-z0-9][a-z0-9./-]*")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}:\d{2}Z)?|")
_HEAD = f"""\
# The packages out of Debian's archive that the image is made of. Made by hatch-docker: do not edit.
# Newer ones: {UPGRADE}
version = {_VERSION}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Packages of one suite and architecture, in the order that they are installed in.

    `purpose` is one of PURPOSES. `requested` are the sorted names (`roots` in the file);
    `snapshot` the day of the archive that was asked for, empty for the newest; `dated` when the archive was made.
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
    """The selections of a project; `path` is the file that has them, None where there is none."""

    selections: tuple[Selection, ...] = ()
    path: Path | None = None

    def find(self, purpose: str, architecture: str) -> Selection | None:
        """What is pinned for a purpose, whatever was asked for then."""
        found = (each for each in self.selections if (each.purpose, each.architecture) == (purpose, architecture))
        return next(found, None)

    def of(
        self, purpose: str, suite: str, architecture: str, requested: Iterable[str], snapshot: str
    ) -> Selection | None:
        """What is pinned for a purpose; None where there are no pins at all, or none of a builder.

        Raises LockError for pins of something else than what is asked for now.
        """
        found = self.find(purpose, architecture)
        if self.path is None or (found is None and purpose == "builder"):
            return None
        wanted, pinned = set(requested), set(found.requested) if found else set()
        if found is None:
            problem = f"it has no packages of {architecture} for the purpose {purpose!r}"
        elif (found.suite, found.snapshot) != (suite, snapshot):
            problem = f"it is of {_named(found.suite, found.snapshot)}, and {_named(suite, snapshot)} is asked for"
        elif wanted != pinned:
            changes = [f"+{name}" for name in sorted(wanted - pinned)] + [
                f"-{name}" for name in sorted(pinned - wanted)
            ]
            problem = f"other packages are asked for now: {' '.join(changes)}"
        else:
            return found
        raise stale(self, problem)


def stale(pins: Pins, problem: str) -> LockError:
    """The error for pins that do not fit."""
    return LockError(f"the lock is stale, {problem}", place=str(pins.path), hint="refresh it: hatch-docker lock")


def _named(suite: str, snapshot: str) -> str:
    return f"{suite}@{snapshot}" if snapshot else suite


def find_pins(root: Path) -> Pins:
    """The pins of the project at `root`. Raises LockError for a file that is not as `write_pins` writes it."""
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
            f"it is of version {document.get('version')!r}, and {_VERSION} is known",
            place=str(path),
            hint="update hatch-docker, or make the lock again: delete it, then hatch-docker lock",
        )
    try:
        selections = tuple(_selection(each) for each in _tables(document.get("selection", []), "selection"))
        if len({(each.purpose, each.architecture) for each in selections}) != len(selections):
            raise ValueError("it has two selections for one purpose and architecture")
    except (KeyError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise _broken(path, what) from None
    except DebianError as error:
        raise _broken(path, ": ".join(filter(None, (error.place, error.message)))) from None
    return Pins(selections=selections, path=path)


def write_pins(path: Path, selections: Iterable[Selection]) -> None:
    """Write a file of pins, whole or not at all; the same selections give the same bytes. Raises OutputError."""
    ordered = sorted(selections, key=lambda each: (PURPOSES.index(each.purpose), each.architecture))
    with replacing(path) as partial:
        partial.write_text(_HEAD + "".join(line for each in ordered for line in _lines(each)), encoding="utf-8")


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
    """Printable texts as TOML has them: as JSON does, but for characters that take two escapes there."""
    return json.dumps(value, ensure_ascii=False)


def _selection(found: Mapping[str, Any]) -> Selection:
    purpose = _text(found, "purpose")
    if purpose not in PURPOSES:
        raise ValueError(f"{purpose[:80]!r} is no purpose that is known: {', '.join(PURPOSES)}")
    roots = found["roots"]
    if not isinstance(roots, list) or not all(isinstance(each, str) for each in roots):
        raise ValueError("roots is no list of names")
    packages = tuple(_package(each) for each in _tables(found["packages"], "packages"))
    if len({each.name for each in packages}) != len(packages):
        raise ValueError(f"a package is twice in the selection for {purpose!r}")
    return Selection(
        purpose=purpose,
        suite=_text(found, "suite", _WORD),
        architecture=_text(found, "architecture", _WORD),
        requested=tuple(roots),
        packages=packages,
        snapshot=_date(found, "snapshot"),
        dated=_date(found, "dated"),
    )


def _package(found: Mapping[str, Any]) -> Package:
    name, version = _text(found, "name", NAME), _text(found, "version")
    key(version)
    fields = {"Filename": _text(found, "path"), "Size": str(found["size"]), "SHA256": _text(found, "sha256")}
    filename, size, sha256 = file_of(fields, name)
    return Package(
        name=name,
        version=version,
        architecture="",
        suite=_text(found, "suite", _WORD),
        filename=filename,
        size=size,
        sha256=sha256,
    )


def _tables(value: object, name: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"{name} is no list of tables")
    return value


def _date(found: Mapping[str, Any], name: str) -> str:
    """A day or a time, or nothing."""
    text = str(found.get(name, ""))
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        if text:
            datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        raise ValueError(f"{name} is no date: {text[:80]!r}") from None
    return text


def _text(found: Mapping[str, Any], name: str, pattern: re.Pattern[str] = re.compile(".+")) -> str:
    value = found[name]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{name} is {str(value)[:80]!r}")
    return value


def _broken(path: Path, why: str) -> LockError:
    return LockError(f"the lock cannot be read: {why}", place=str(path), hint="delete it, then: hatch-docker lock")
