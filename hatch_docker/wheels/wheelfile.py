"""Open a wheel, and check that its metadata agrees with its content (PyPA: Binary distribution format)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from zipfile import ZipInfo

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from hatch_docker.errors import ContentError, WheelError
from hatch_docker.oci.content import plain_chunks
from hatch_docker.oci.layer import Deflated, Plain
from hatch_docker.wheels.distinfo import (
    BROKEN,
    EntryPoint,
    Metadata,
    Record,
    Script,
    check_wheel,
    checksum_of,
    hash_text,
    parse_entry_points,
    parse_metadata,
    parse_record,
    script_of,
)
from hatch_docker.wheels.zipmembers import READ_LIMIT, ZipMembers

SCHEMES = ("purelib", "platlib", "scripts", "headers", "data")
# The limit in bytes of entry_points.txt: configparser takes some hundred times as long as for other files.
_ENTRY_POINTS = 1 << 20
# Files whose hash RECORD cannot have: itself and its signatures.
_UNRECORDED = ("RECORD", "RECORD.jws", "RECORD.p7s")


class WheelFile:
    """An open wheel, closed by `close` or at the end of a `with` block.

    `members` are its files by path, every path safe and relative, `records` their rows in RECORD; `dist_info` and
    `data` are the names of its two directories. `filename` is the wheel's name if the file's own name is another, as in
    a cache. Raises WheelError if the wheel breaks the specification.

    RECORD is no reason to refuse a wheel, as in pip and uv: the lock's hash vouches for all its files. `doubtful` says
    that RECORD lacks hashes or has wrong sizes; whether its hashes are right is seen when content is read.
    """

    def __init__(self, path: Path, filename: str = "") -> None:
        self.filename = filename or path.name
        name, version = _parse_filename(self.filename)
        self._zip = ZipMembers(path, self.filename)
        try:
            self._check(name, version)
        except BaseException:
            self.close()
            raise

    def _check(self, name: str, version: Version) -> None:
        self.members: Mapping[str, ZipInfo] = self._zip.members
        self.dist_info = self._find_dist_info(name, version)
        self.data = self.dist_info.removesuffix(".dist-info") + ".data"
        self.records: Mapping[str, Record] = parse_record(self._required("RECORD"), self.filename)
        self.doubtful = any(map(self._is_doubtful, self._recorded()))
        self._check_schemes()
        check_wheel(self._required("WHEEL"), self.filename)
        self.metadata: Metadata = parse_metadata(self._required("METADATA"), self.filename)
        if canonicalize_name(self.metadata.name) != name or not _same_version(self.metadata.version, version):
            label = f"{self.metadata.name} {self.metadata.version}"
            raise self.error(f"METADATA names {label}, which does not match the file name")

    def error(self, message: str, *, hint: str = BROKEN) -> WheelError:
        """A WheelError about this wheel."""
        return WheelError(message, place=self.filename, hint=hint)

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self._zip.size

    def close(self) -> None:
        """Close the file. Content that was returned before cannot be read any longer."""
        self._zip.close()

    def __enter__(self) -> WheelFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def split(self, path: str) -> tuple[str, str]:
        """A member's scheme, and its path in that."""
        return split_scheme(path, self.data)

    def content(self, path: str) -> Deflated | Plain:
        """A member's content, as compressed in the wheel. It is read lazily, and is thread-safe."""
        return self._zip.content(path)

    def checksum(self, path: str) -> tuple[str, bytes] | None:
        """The algorithm and digest of a member in RECORD; None for RECORD itself and its signatures."""
        record = self.records.get(path)
        return checksum_of(record.hash) if record is not None and record.hash else None

    def correct(self) -> list[str]:
        """Replace the rows of RECORD that do not match their files, and return the paths of these files, sorted.

        Reads all content. Raises WheelError for a damaged file.
        """
        try:
            records = {path: self._true_record(path) for path in self._recorded()}
        except ContentError as error:
            raise self.error(error.message, hint=error.hint) from None
        wrong = {path: record for path, record in records.items() if record != self.records.get(path)}
        self.records = {**self.records, **wrong}
        self.doubtful = False
        return sorted(wrong)

    def _recorded(self) -> Iterator[str]:
        """The members whose rows RECORD should have."""
        unrecorded = {f"{self.dist_info}/{name}" for name in _UNRECORDED}
        return (path for path in self.members if path not in unrecorded)

    def _is_doubtful(self, path: str) -> bool:
        record = self.records.get(path)
        return record is None or not record.hash or bool(record.size and int(record.size) != self._size(path))

    def _true_record(self, path: str) -> Record:
        """The row of a member: RECORD's own if it is right."""
        record = self.records.get(path, Record("", ""))
        algorithm, expected = checksum_of(record.hash) if record.hash else ("sha256", b"")
        hashers = {each: hashlib.new(each) for each in ("sha256", algorithm)}
        for chunk in plain_chunks(path, self.content(path)):
            for hasher in hashers.values():
                hasher.update(chunk)
        size = self._size(path)
        if hashers[algorithm].digest() == expected and record.size in ("", str(size)):
            return record
        return Record(hash_text("sha256", hashers["sha256"].digest()), str(size))

    def _size(self, path: str) -> int:
        return self.members[path].file_size

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """A member's whole content, checked against the zip's CRC. Raises WheelError beyond `limit` bytes."""
        return self._zip.read(path, limit)

    def head(self, path: str, length: int) -> bytes:
        """The first bytes of a member, not verified. Any size is allowed."""
        return self._zip.head(path, length)

    def executable(self, path: str) -> bool:
        """Whether the wheel marks a member as executable."""
        return self._zip.executable(path)

    def _required(self, name: str) -> bytes:
        path = f"{self.dist_info}/{name}"
        if path not in self.members:
            raise self.error(f"has no {name}")
        return self._zip.read(path)

    def _find_dist_info(self, name: str, version: Version) -> str:
        roots = {path.partition("/")[0] for path in self.members if "/" in path}
        found = sorted(root for root in roots if root.endswith(".dist-info"))
        if len(found) != 1:
            raise self.error(f"has {len(found)} .dist-info directories, not one: {', '.join(found) or 'none'}")
        its_name, _, its_version = found[0].removesuffix(".dist-info").rpartition("-")
        if canonicalize_name(its_name) != name or not _same_version(its_version, version):
            raise self.error(f"has {found[0]!r}, which does not match its file name")
        return found[0]

    def _check_schemes(self) -> None:
        for path in self.members:
            if path.startswith(f"{self.data}/"):
                _, scheme, *rest = path.split("/", 2)
                if scheme not in SCHEMES or not rest:
                    raise self.error(f"{path!r} is not in a scheme of the specification: {', '.join(SCHEMES)}")


def split_scheme(path: str, data: str) -> tuple[str, str]:
    """The scheme of a path in a wheel, and its path in that; `data` is the wheel's `.data` directory.

    Paths outside `data` are in `purelib`: in an environment, `platlib` is the same directory.
    """
    if not path.startswith(data) or path[len(data) : len(data) + 1] != "/":
        return "purelib", path
    scheme, _, rest = path[len(data) + 1 :].partition("/")
    return scheme, rest


def _parse_filename(filename: str) -> tuple[str, Version]:
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        hint = "the name of a wheel is name-version-python-abi-platform.whl"
        raise WheelError(str(error), place=filename, hint=hint) from None
    return name, version


def _same_version(text: str, version: Version) -> bool:
    try:
        return Version(text) == version
    except InvalidVersion:
        return False


def entry_points_of(wheel: WheelFile) -> tuple[EntryPoint, ...]:
    """The entry points of a wheel. Raises WheelError if they cannot be parsed."""
    path = f"{wheel.dist_info}/entry_points.txt"
    return parse_entry_points(wheel.read(path, _ENTRY_POINTS), wheel.filename) if path in wheel.members else ()


def scripts_of(wheel: WheelFile) -> list[Script]:
    """The scripts that an installer generates. Raises WheelError if one is malformed or declared twice."""
    scripts: dict[str, Script] = {}
    for entry in entry_points_of(wheel):
        if entry.group in {"console_scripts", "gui_scripts"}:
            if entry.name in scripts:
                raise wheel.error(f"declares the script {entry.name!r} twice")
            scripts[entry.name] = script_of(entry, wheel.filename)
    return list(scripts.values())
