"""Read package metadata: the indexes of the archive, and the status file of an image.

An index is tens of megabytes of text, and resolving reads a few hundred of its paragraphs. So the index stays text with
a table of offsets, and paragraphs are parsed on demand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hatch_docker.debian.compression import SUFFIXES, decompressed
from hatch_docker.debian.control import NAME, Alternatives, Paragraph, paragraph, paragraphs, relations
from hatch_docker.debian.version import key
from hatch_docker.errors import DebianError
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.patterns import regex
from hatch_docker.support.streams import chunks_of

# The index of trixie has 57 MB.
_TEXT_LIMIT = 256 << 20
# The largest have a few hundred kilobytes, in Provides.
_PARAGRAPH_LIMIT = 4 << 20
_ENTRY = regex(rb"\n(?:Package:[ \t]*(\S+)|Provides:(.*(?:\n[ \t].*)*))")
_PROVIDED = regex(rb"(?:\A|,)\s*([^\s,:(]+)")
_SHA256 = regex(r"[0-9a-f]{64}")
_SIZE = regex(r"[0-9]{1,12}")
_ARCHITECTURE = regex(r"[a-z0-9][a-z0-9-]*")
_PRIORITIES = ("required", "important", "standard", "optional", "extra")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A binary package, as an index or a status file describes it.

    `suite` is the index, `filename` its path below the archive's root, `size` its size in bytes; installed packages
    have none of these, nor a hash. `source` is the name of the source package. `names` are its own name and those in
    Provides; `conflict_names` are the names in Breaks and Conflicts, regardless of versions.
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
    conflict_names: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        provided = (relation.name for relation, *_ in self.provides)
        conflicting = (relation.name for relation, *_ in (*self.breaks, *self.conflicts))
        object.__setattr__(self, "names", frozenset((self.name, *provided)))
        object.__setattr__(self, "conflict_names", frozenset(conflicting))

    @property
    def rank(self) -> tuple[bool, int, str]:
        """Sort key of packages that provide the same name: the preferred one first."""
        return not self.essential, _PRIORITIES.index(self.priority), self.name

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class PackageIndex:
    """The packages of one index (`Packages`), whose text is `chunks`; `suite` names it in messages.

    Raises DebianError if the text is too large; methods that return packages raise it for invalid paragraphs.
    """

    def __init__(self, chunks: Iterable[bytes], *, suite: str) -> None:
        self.suite = suite
        self._place = f"{suite}: Packages"
        # Paragraphs start after a newline, the first one too.
        self._text = bytearray(b"\n")
        for chunk in chunks:
            self._text += chunk
            if len(self._text) > _TEXT_LIMIT:
                raise DebianError(f"is larger than {_TEXT_LIMIT >> 20} MiB", place=self._place)
        self._offsets: dict[bytes, Sequence[int]] = {}
        self._providers: dict[bytes, Sequence[int]] = {}
        for match in _ENTRY.finditer(self._text):
            name, provides = match.groups()
            if name is not None:
                _add(self._offsets, name, match.start())
                continue
            for provided in _PROVIDED.findall(provides):
                _add(self._providers, provided, match.start())

    def __len__(self) -> int:
        """The number of package names."""
        return len(self._offsets)

    def __contains__(self, name: str) -> bool:
        return name.encode() in self._offsets

    def names(self) -> Iterator[str]:
        """The names of all packages."""
        return (name.decode(errors="replace") for name in self._offsets)

    def packages(self, name: str) -> list[Package]:
        """The packages of that name: one in Debian's own archive, several versions in some others."""
        return [self._package(at) for at in self._offsets.get(name.encode(), ())]

    def providers(self, name: str) -> list[Package]:
        """The packages that have that name in Provides."""
        return [self._package(at) for at in self._providers.get(name.encode(), ())]

    def _package(self, at: int) -> Package:
        """Parse the paragraph that contains the line after offset `at`."""
        start = self._text.rfind(b"\n\n", max(at - _PARAGRAPH_LIMIT, 0), at + 1) + 1
        end = self._text.find(b"\n\n", at, at + _PARAGRAPH_LIMIT)
        end = end if end >= 0 else len(self._text)
        if end - start > _PARAGRAPH_LIMIT:
            raise DebianError("has too large a paragraph", place=self._place)
        try:
            text = self._text[start:end].decode()
        except UnicodeDecodeError:
            raise DebianError("has a paragraph that is not UTF-8", place=self._place) from None
        fields = paragraph(text.strip("\n"), place=self._place)
        package = _described(fields, self._place)
        filename, size, sha256 = file_of(fields, f"{self._place}: {package.name}")
        return replace(package, suite=self.suite, filename=filename, size=size, sha256=sha256)


def _add(table: dict[bytes, Sequence[int]], name: bytes, offset: int) -> None:
    """Add an offset of a name. Almost all names have one, and tuples take less memory than lists."""
    offsets = table.get(name, ())
    if isinstance(offsets, list):
        offsets.append(offset)
    else:
        table[name] = [*offsets, offset] if offsets else (offset,)


def read_index(path: Path, *, suite: str, suffix: str | None = None) -> PackageIndex:
    """Read an index file, compressed according to `suffix`, or to the suffix of its name.

    Raises DebianError if it cannot be decompressed, or is too large.
    """
    if suffix is None:
        suffix = path.suffix if path.suffix in SUFFIXES else ""
    try:
        with path.open("rb") as file:
            return PackageIndex(decompressed(chunks_of(file), suffix, place=f"{suite}: Packages"), suite=suite)
    except OSError as error:
        raise DebianError(f"cannot be read: {error.strerror or error}", place=str(path)) from None


def read_status(text: str, *, place: str) -> list[Package]:
    """The installed packages in dpkg's `status`, or in files of `status.d`, whose paragraphs have no Status field.

    Raises DebianError for an invalid control file.
    """
    parsed = paragraphs(text, place=place)
    return [_described(each, place) for each in parsed if each.get("Status", "installed").split()[-1:] == ["installed"]]


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
    """The path, size and SHA-256 of a package's file. Raises DebianError if one is missing or invalid."""
    filename = fields.get("Filename", "")
    if not filename.isprintable() or any(part in {"", ".", ".."} for part in filename.split("/")):
        raise DebianError(f"has a Filename outside of the archive: {filename[:80]!r}", place=place)
    size = int(_field(fields, "Size", _SIZE, place))
    return filename, size, _field(fields, "SHA256", _SHA256, place)


def _field(fields: Mapping[str, str], name: str, pattern: re.Pattern[str], place: str) -> str:
    value = fields.get(name, "")
    if not pattern.fullmatch(value):
        raise DebianError(f"has an invalid {name}: {value[:80]!r}" if value else f"has no {name}", place=place)
    return value
