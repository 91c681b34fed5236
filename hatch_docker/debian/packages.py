"""Packages: what an index of Debian's archive offers, and what an image has installed.

An index is tens of megabytes of text, of which a resolution looks at some hundred paragraphs. So it is kept as text,
with a table of where each package's paragraph is, and a paragraph is parsed when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hatch_docker.debian.compression import CHUNK, SUFFIXES, decompressed
from hatch_docker.debian.control import NAME, Alternatives, Paragraph, paragraph, paragraphs, relations
from hatch_docker.debian.version import key
from hatch_docker.errors import DebianError

# Trixie's has 57 MB.
_TEXT_LIMIT = 256 << 20
# The largest has some hundred kilobytes, of what it provides.
_PARAGRAPH_LIMIT = 4 << 20
_ENTRY = re.compile(rb"\n(?:Package:[ \t]*(\S+)|Provides:(.*(?:\n[ \t].*)*))")
_PROVIDED = re.compile(rb"(?:\A|,)\s*([^\s,:(]+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[0-9]{1,12}")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*")
_PRIORITIES = ("required", "important", "standard", "optional", "extra")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A binary package, as an index or a status file describes it.

    `suite` is the index that it is of, `filename` its path below the root of that index's archive, `size` in bytes.
    What is installed has neither of these nor a hash. `source` is the source package's name, without its version.
    `names` are its own and those that it provides, `refused` those that it breaks or conflicts with in some version.
    """

    name: str
    version: str
    architecture: str
    suite: str = ""
    filename: str = ""
    size: int = 0
    sha256: str = ""
    source: str = ""
    priority: str = "optional"
    essential: bool = False
    multi_arch: str = "no"
    pre_depends: tuple[Alternatives, ...] = ()
    depends: tuple[Alternatives, ...] = ()
    provides: tuple[Alternatives, ...] = ()
    breaks: tuple[Alternatives, ...] = ()
    conflicts: tuple[Alternatives, ...] = ()
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    refused: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        provided = (relation.name for relation, *_ in self.provides)
        refused = (relation.name for relation, *_ in (*self.breaks, *self.conflicts))
        object.__setattr__(self, "names", frozenset((self.name, *provided)))
        object.__setattr__(self, "refused", frozenset(refused))

    @property
    def rank(self) -> tuple[bool, int, str]:
        """What sorts first is to be preferred where several packages provide the same."""
        return not self.essential, _PRIORITIES.index(self.priority), self.name

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class PackageIndex:
    """The packages of one index, `Packages`; `suite` is what messages call it. Made by `read_index`.

    `chunks` are its text. Raises DebianError where that is too large, and for a paragraph that is asked for and is not
    as Debian policy says.
    """

    def __init__(self, chunks: Iterable[bytes], *, suite: str) -> None:
        self.suite = suite
        self._place = f"{suite}: Packages"
        # So that the first paragraph begins as the others do, after a line's end.
        self._text = bytearray(b"\n")
        for chunk in chunks:
            self._text += chunk
            if len(self._text) > _TEXT_LIMIT:
                raise DebianError(f"is larger than {_TEXT_LIMIT >> 20} MiB", place=self._place)
        self._places: dict[bytes, Sequence[int]] = {}
        self._providers: dict[bytes, Sequence[int]] = {}
        for found in _ENTRY.finditer(self._text):
            name, provides = found.groups()
            if name is not None:
                _add(self._places, name, found.start())
                continue
            for each in _PROVIDED.findall(provides):
                _add(self._providers, each, found.start())

    def __len__(self) -> int:
        """How many names of packages there are."""
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name.encode() in self._places

    def names(self) -> Iterator[str]:
        """The names of all packages."""
        return (name.decode(errors="replace") for name in self._places)

    def packages(self, name: str) -> list[Package]:
        """The packages of that name: one in Debian's own archive, of several versions in some others."""
        return [self._package(at) for at in self._places.get(name.encode(), ())]

    def providers(self, name: str) -> list[Package]:
        """The packages that provide that name, which is not their own."""
        return [self._package(at) for at in self._providers.get(name.encode(), ())]

    def _package(self, at: int) -> Package:
        """The package of the paragraph that the line after `at` is in."""
        start = self._text.rfind(b"\n\n", max(at - _PARAGRAPH_LIMIT, 0), at + 1) + 1
        end = self._text.find(b"\n\n", at, at + _PARAGRAPH_LIMIT)
        end = end if end >= 0 else len(self._text)
        if end - start > _PARAGRAPH_LIMIT:
            raise DebianError("has a paragraph that is larger than any", place=self._place)
        try:
            text = self._text[start:end].decode()
        except UnicodeDecodeError:
            raise DebianError("has a paragraph that is not UTF-8", place=self._place) from None
        fields = paragraph(text.strip("\n"), place=self._place)
        package = _described(fields, self._place)
        filename, size, sha256 = file_of(fields, f"{self._place}: {package.name}")
        return replace(package, suite=self.suite, filename=filename, size=size, sha256=sha256)


def _add(places: dict[bytes, Sequence[int]], name: bytes, place: int) -> None:
    """Add to the places of a name, nearly all of which have one."""
    known = places.get(name, ())
    if isinstance(known, list):
        known.append(place)
    else:
        places[name] = [*known, place] if known else (place,)


def read_index(path: Path, *, suite: str, suffix: str | None = None) -> PackageIndex:
    """The index that a file holds, compressed as its name says, or `suffix` where it does not say so.

    Raises DebianError for what cannot be decompressed, or is too large.
    """
    if suffix is None:
        suffix = path.suffix if path.suffix in SUFFIXES else ""
    try:
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(CHUNK), b"")
            return PackageIndex(decompressed(chunks, suffix, place=f"{suite}: Packages"), suite=suite)
    except OSError as error:
        raise DebianError(f"cannot be read: {error.strerror or error}", place=str(path)) from None


def read_status(text: str, *, place: str) -> list[Package]:
    """What is installed, by dpkg's `status`, or by a file of `status.d`, whose paragraphs have no Status.

    Raises DebianError for what is not a control file.
    """
    found = paragraphs(text, place=place)
    return [_described(each, place) for each in found if each.get("Status", "installed").split()[-1:] == ["installed"]]


def _described(fields: Paragraph, place: str) -> Package:
    name = _field(fields, "Package", NAME, place)
    place = f"{place}: {name}"
    version = fields.get("Version", "")
    priority = fields.get("Priority", "").lower()
    try:
        key(version)
        return Package(
            name=name,
            version=version,
            architecture=_field(fields, "Architecture", _ARCHITECTURE, place),
            source=fields.get("Source", name).partition(" ")[0],
            priority=priority if priority in _PRIORITIES else "extra",
            essential=fields.get("Essential", "no") == "yes",
            multi_arch=fields.get("Multi-Arch", "no"),
            pre_depends=relations(fields.get("Pre-Depends", "")),
            depends=relations(fields.get("Depends", "")),
            provides=relations(fields.get("Provides", "")),
            breaks=relations(fields.get("Breaks", "")),
            conflicts=relations(fields.get("Conflicts", "")),
        )
    except DebianError as error:
        raise error if error.place else DebianError(error.message, place=place) from None


def file_of(fields: Mapping[str, str], place: str) -> tuple[str, int, str]:
    """Where a package's file is, its size and SHA-256. Raises DebianError for a paragraph that does not say so."""
    filename = fields.get("Filename", "")
    if not filename.isprintable() or any(part in {"", ".", ".."} for part in filename.split("/")):
        raise DebianError(f"has a Filename that is no path below the archive: {filename[:80]!r}", place=place)
    size = int(_field(fields, "Size", _SIZE, place))
    return filename, size, _field(fields, "SHA256", _SHA256, place)


def _field(fields: Mapping[str, str], name: str, pattern: re.Pattern[str], place: str) -> str:
    value = fields.get(name, "")
    if not pattern.fullmatch(value):
        raise DebianError(f"has a {name} that is none: {value[:80]!r}" if value else f"has no {name}", place=place)
    return value
