"""Find the shared libraries that the dynamic loader of an image uses, as ldconfig(8) does."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from hatch_docker.dpkg.architectures import ARCHITECTURES
from hatch_docker.dpkg.ldcache import FLAGS, CacheEntry, read_ld_so_cache, version_key
from hatch_docker.dpkg.ldconfig import configured_directories
from hatch_docker.errors import ImageError, PackageError
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.layer import Entry
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.elf import MAGIC, Library, read_library_at
from hatch_docker.support.paths import parents
from hatch_docker.support.patterns import regex

CACHE = "etc/ld.so.cache"
_BUILT_IN = ("/lib/{}", "/usr/lib/{}", "/lib", "/usr/lib")
_LIBRARY = regex(r"(?:lib|ld-|ld\.so\.|ld64\.so\.).*\.so.*|ld(?:64)?\.so\..*", re.DOTALL)
_HWCAPS = "glibc-hwcaps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """The dynamic loader of the image with `files`; `libraries` are its new ELF files, by path.

    `candidates` maps directories to the paths in them with the name of a library. `directories` are those that the
    loader searches, as configured and resolved.
    """

    files: Filesystem
    libraries: Mapping[str, Library]
    candidates: Mapping[str, Sequence[str]]
    machine: str
    directories: tuple[tuple[str, str], ...]

    def new_entries(self) -> tuple[list[CacheEntry], list[Entry]]:
        """Cache entries of the new libraries, and the links that ldconfig would create for them."""
        entries: list[CacheEntry] = []
        links: list[Entry] = []
        for configured, directory in self.directories:
            for name, (file, _) in self._chosen(directory).items():
                path = f"{directory}/{name}"
                if path not in self.files.nodes:
                    links.append(Entry(path=path, link=file))
                entries.append(self._entry(name, f"{configured}/{name}"))
            for hwcaps in self._hwcaps(directory):
                folder = f"{_HWCAPS}/{hwcaps}"
                for name, (file, _) in self._chosen(f"{directory}/{folder}").items():
                    entries.append(self._entry(name, f"{configured}/{folder}/{file}", hwcaps))
        return entries, links

    def merged(self, before: Iterable[CacheEntry], new: Iterable[CacheEntry]) -> list[CacheEntry]:
        """The entries of an earlier cache that still exist, and the new ones."""
        merged = {entry.path: entry for entry in before if self._exists(entry.path)}
        for entry in new:
            merged[entry.path] = entry
        order = {configured: number for number, (configured, _) in enumerate(self.directories)}

        def rank(entry: CacheEntry) -> int:
            directory = posixpath.dirname(entry.path).partition(f"/{_HWCAPS}/")[0]
            return order.get(directory, len(order))

        return sorted(merged.values(), key=rank)

    def _entry(self, name: str, path: str, hwcaps: str = "") -> CacheEntry:
        return CacheEntry(name=name, path=path, flags=FLAGS[self.machine], hwcaps=hwcaps)

    def _exists(self, path: str) -> bool:
        try:
            return self.files.get(path) is not None
        except ImageError:
            return False

    def _hwcaps(self, directory: str) -> list[str]:
        prefix = f"{directory}/{_HWCAPS}/"
        return sorted({path[len(prefix) :].partition("/")[0] for path in self.libraries if path.startswith(prefix)})

    def _chosen(self, directory: str) -> dict[str, tuple[str, bool]]:
        """Map sonames to a file in the directory and whether it is a link, as search_dir in ldconfig.c."""
        chosen: dict[str, tuple[str, bool]] = {}
        for file, library, is_link in self._candidates(directory):
            name = library.soname or file
            # Other links count as files: those of development packages are for the linker only.
            as_link = is_link and (file == name or (file.endswith(".so") and name.startswith(file)))
            name = file if as_link else name
            other = chosen.get(name)
            if other is None or (not as_link, version_key(file)) > (not other[1], version_key(other[0])):
                chosen[name] = file, as_link
        return chosen

    def _candidates(self, directory: str) -> Iterator[tuple[str, Library, bool]]:
        for path in self.candidates.get(directory, ()):
            is_link = self.files.nodes[path].kind == "link"
            library = self.libraries.get(_resolved(self.files, path) if is_link else path)
            if library is not None and library.machine == self.machine:
                yield posixpath.basename(path), library, is_link


def loader_of(
    files: Filesystem, entries: Mapping[str, Entry], libraries: Mapping[str, Library], architecture: str
) -> Loader:
    """The loader of an image with `files`, of which `entries` are new, and `libraries` the ELF files among those.

    Raises PackageError for an unsupported architecture.
    """
    if architecture not in ARCHITECTURES:
        supported = ", ".join(ARCHITECTURES)
        raise PackageError(f"packages for {architecture!r} are not supported", hint=f"supported are {supported}")

    def read(path: str) -> str:
        path = _resolved(files, path)
        node = files.nodes.get(path, Node(kind="file"))
        data = entries[path].read() if path in entries else node.data or b""
        return data.decode("utf-8", "replace")

    found = ARCHITECTURES[architecture]
    configured = (*configured_directories(files, read), *(each.format(found.triplet) for each in _BUILT_IN))
    names: dict[str, str] = {}
    for directory in configured:
        resolved = _resolved(files, directory)
        # A directory with two names is searched once, by the first name.
        if (node := files.nodes.get(resolved)) and node.kind == "dir":
            names.setdefault(resolved, directory)
    directories = tuple((name, resolved) for resolved, name in names.items())
    return Loader(
        files=files, libraries=libraries, candidates=_candidates(files), machine=found.machine, directories=directories
    )


def _resolved(files: Filesystem, path: str) -> str:
    """Follow all links in `path`; empty for a loop."""
    try:
        return files.resolve(path)
    except ImageError:
        return ""


def _candidates(files: Filesystem) -> dict[str, list[str]]:
    """All files with the name of a library, by directory."""
    candidates: dict[str, list[str]] = {}
    for path, node in files.nodes.items():
        directory, _, file = path.rpartition("/")
        if ".so" in file and node.kind != "dir" and _LIBRARY.fullmatch(file):
            candidates.setdefault(directory, []).append(path)
    return candidates


def read_cache(files: Filesystem) -> list[CacheEntry]:
    """The entries of an image's ld.so.cache; empty if it is missing or invalid."""
    node = files.nodes.get(CACHE)
    try:
        return read_ld_so_cache(node.data) if node and node.data else []
    except ImageError:
        return []


def libraries_of(entries: Iterable[Entry]) -> dict[str, Library]:
    """The entries that are ELF files with a dynamic section: shared libraries, and programs that use some."""
    libraries = {}
    for entry in entries:
        if entry.size < 64 or _part(entry, 0, 4) != MAGIC:
            continue
        library = read_library_at(partial(_part, entry))
        if library is not None:
            libraries[entry.path] = library
    return libraries


def start_of(entry: Entry, length: int) -> bytes:
    """The first bytes of an entry's content."""
    return _part(entry, 0, length)


def _part(entry: Entry, start: int, length: int) -> bytes:
    """Part of an entry's content, which is not Deflated; shorter at its end."""
    if entry.content is None or isinstance(entry.content, bytes):
        return (entry.content or b"")[start : start + length]
    # Damaged files may have offsets beyond their end.
    return entry.content.read(start, min(length, entry.size - start)) if start < entry.size else b""


def with_entries(parent: Filesystem | None, entries: Iterable[Entry]) -> Filesystem:
    """The files of a parent image with a layer of `entries` on top, without the content of these."""
    nodes = dict(parent.nodes) if parent else {}
    for entry in entries:
        if entry.removed:
            nodes.pop(entry.path, None)
            continue
        kind = "link" if entry.link else "dir" if entry.is_directory else "file"
        nodes[entry.path] = Node(kind=kind, link=entry.link)
        for directory in parents(entry.path):
            nodes.setdefault(directory, Node(kind="dir"))
    return Filesystem(nodes)
