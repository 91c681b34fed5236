"""Which shared libraries an image has, and where its dynamic loader finds them: what ldconfig(8) would do in it."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hatch_docker.dpkg.ldcache import FLAGS, CacheEntry, read_ld_so_cache, version_key
from hatch_docker.errors import ImageError, PackageError
from hatch_docker.oci.content import plain_chunks
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.layer import Entry
from hatch_docker.support.elf import MAGIC, Library, read_library_at

CACHE = "etc/ld.so.cache"
CONFIGURATION = "etc/ld.so.conf"
# Debian's names of CPUs, the kernel's, and that in its triplets.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_BUILT_IN = ("/lib/{}-linux-gnu", "/usr/lib/{}-linux-gnu", "/lib", "/usr/lib")
_LIBRARY = re.compile(r"(?:lib|ld-|ld\.so\.|ld64\.so\.).*\.so.*|ld(?:64)?\.so\..*", re.DOTALL)
_WILDCARDS = re.compile(r"[*?[]")
_HWCAPS = "glibc-hwcaps"
# Of files that say where libraries are, of what these include, and of directories that they name.
_MOST_FILES = 100
_MOST_PATTERNS = 100
_MOST_DIRECTORIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """`files` is the whole image; `libraries` are the ELF files that are new in it, by path.

    `named` has the paths of all files that are called as libraries are, by their directories.
    """

    files: Filesystem
    libraries: Mapping[str, Library]
    named: Mapping[str, Sequence[str]]
    machine: str
    directories: tuple[tuple[str, str], ...]

    def found(self) -> tuple[list[CacheEntry], list[Entry]]:
        """The new libraries as the cache has them, and the links that ldconfig would make for those that lack one."""
        entries: list[CacheEntry] = []
        links: list[Entry] = []
        for spelled, directory in self.directories:
            for name, (file, _) in self._chosen(directory).items():
                path = f"{directory}/{name}"
                if path not in self.files.nodes:
                    links.append(Entry(path=path, link=file))
                entries.append(self._entry(name, f"{spelled}/{name}"))
            for hwcaps in self._hwcaps(directory):
                folder = f"{_HWCAPS}/{hwcaps}"
                for name, (file, _) in self._chosen(f"{directory}/{folder}").items():
                    entries.append(self._entry(name, f"{spelled}/{folder}/{file}", hwcaps))
        return entries, links

    def merged(self, before: Iterable[CacheEntry], new: Iterable[CacheEntry]) -> list[CacheEntry]:
        """The entries of an image's cache and new ones, where what is no longer there is left out."""
        found = {entry.path: entry for entry in before if self._is_there(entry.path)}
        for entry in new:
            found[entry.path] = entry
        order = {spelled: number for number, (spelled, _) in enumerate(self.directories)}

        def rank(entry: CacheEntry) -> int:
            directory = posixpath.dirname(entry.path).partition(f"/{_HWCAPS}/")[0]
            return order.get(directory, len(order))

        return sorted(found.values(), key=rank)

    def _entry(self, name: str, path: str, hwcaps: str = "") -> CacheEntry:
        return CacheEntry(name=name, path=path, flags=FLAGS[self.machine], hwcaps=hwcaps)

    def _is_there(self, path: str) -> bool:
        try:
            return self.files.get(path) is not None
        except ImageError:
            return False

    def _hwcaps(self, directory: str) -> list[str]:
        prefix = f"{directory}/{_HWCAPS}/"
        return sorted({path[len(prefix) :].partition("/")[0] for path in self.libraries if path.startswith(prefix)})

    def _chosen(self, directory: str) -> dict[str, tuple[str, bool]]:
        """By the name that programs ask for: the file in that directory, and whether that is a link (search_dir)."""
        chosen: dict[str, tuple[str, bool]] = {}
        for file, library, is_link in self._candidates(directory):
            name = library.soname or file
            # Other links are taken for files: a development package's is for the linker alone.
            as_link = is_link and (file == name or (file.endswith(".so") and name.startswith(file)))
            name = file if as_link else name
            other = chosen.get(name)
            if other is None or (not as_link, version_key(file)) > (not other[1], version_key(other[0])):
                chosen[name] = file, as_link
        return chosen

    def _candidates(self, directory: str) -> Iterator[tuple[str, Library, bool]]:
        for path in self.named.get(directory, ()):
            is_link = self.files.nodes[path].kind == "link"
            library = self.libraries.get(_resolved(self.files, path) if is_link else path)
            if library is not None and library.machine == self.machine:
                yield posixpath.basename(path), library, is_link


def loader_of(
    files: Filesystem, entries: Mapping[str, Entry], libraries: Mapping[str, Library], architecture: str
) -> Loader:
    """The loader of an image of all `files`, where `entries` are new, and `libraries` the ELF files among them.

    Raises PackageError for an architecture that is not known.
    """
    if architecture not in MACHINES:
        known = ", ".join(MACHINES)
        raise PackageError(f"packages for {architecture!r} cannot be unpacked here", hint=f"only those for {known} can")

    def read(path: str) -> str:
        path = _resolved(files, path)
        node = files.nodes.get(path, Node(kind="file"))
        data = content(entries[path]) if path in entries else node.data or b""
        return data.decode("utf-8", "replace")

    machine = MACHINES[architecture]
    places = (*_configured(files, read), *(each.format(machine) for each in _BUILT_IN))
    found: dict[str, str] = {}
    for place in places:
        resolved = _resolved(files, place)
        # One directory by two names is looked at once, by the first.
        if (node := files.nodes.get(resolved)) and node.kind == "dir":
            found.setdefault(resolved, place)
    directories = tuple((spelled, resolved) for resolved, spelled in found.items())
    return Loader(files=files, libraries=libraries, named=_named(files), machine=machine, directories=directories)


def _resolved(files: Filesystem, path: str) -> str:
    """Where a path leads; empty where its links go round in a circle, which leads nowhere."""
    try:
        return files.resolve(path)
    except ImageError:
        return ""


def _named(files: Filesystem) -> dict[str, list[str]]:
    """All files that are called as libraries are, by their directories."""
    named: dict[str, list[str]] = {}
    for path, node in files.nodes.items():
        directory, _, file = path.rpartition("/")
        if ".so" in file and node.kind != "dir" and _LIBRARY.fullmatch(file):
            named.setdefault(directory, []).append(path)
    return named


def _configured(files: Filesystem, read: Callable[[str], str]) -> Iterator[str]:
    """The directories of ld.so.conf and what that includes, in its order, each once."""
    waiting, known = [CONFIGURATION], {CONFIGURATION}
    patterns: set[str] = set()
    directories: set[str] = set()
    while waiting:
        included: list[str] = []
        for line in read(waiting.pop(0)).splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    if pattern not in patterns and len(patterns) < _MOST_PATTERNS:
                        patterns.add(pattern)
                        included += (each for each in _matching(files, pattern) if each not in known)
            elif words and words[0].startswith("/") and len(directories) < _MOST_DIRECTORIES:
                directories.add(words[0])
                yield posixpath.normpath(words[0])
        waiting = (included + waiting)[:_MOST_FILES]
        known |= set(included)


def _matching(files: Filesystem, pattern: str) -> list[str]:
    """The files that a pattern of ld.so.conf means, sorted."""
    wanted = pattern.lstrip("/") if pattern.startswith("/") else f"etc/{pattern}"
    # What has no wildcard is looked up, as most images have it for some thousand files.
    if not _WILDCARDS.search(wanted):
        return [wanted] if wanted in files.nodes else []
    try:
        return sorted(fnmatch.filter(files.nodes, wanted))
    except re.error:
        return []


def cached(files: Filesystem) -> list[CacheEntry]:
    """What an image's cache has; nothing where it has none, or one that cannot be read."""
    node = files.nodes.get(CACHE)
    try:
        return read_ld_so_cache(node.data) if node and node.data else []
    except ImageError:
        return []


def libraries_of(entries: Iterable[Entry]) -> dict[str, Library]:
    """The entries that are ELF files with a dynamic section: shared libraries, and programs that need some."""
    found = {}
    for entry in entries:
        if entry.size < 64 or _part(entry, 0, 4) != MAGIC:
            continue
        library = read_library_at(partial(_part, entry))
        if library is not None:
            found[entry.path] = library
    return found


def start_of(entry: Entry, length: int) -> bytes:
    """The first bytes of an entry that came out of a package."""
    return _part(entry, 0, length)


def _part(entry: Entry, start: int, length: int) -> bytes:
    """Some bytes of an entry that came out of a package; fewer where it ends."""
    if entry.content is None or isinstance(entry.content, bytes):
        return (entry.content or b"")[start : start + length]
    # A damaged file may say that something is at a place that no file has.
    return entry.content.read(start, min(length, entry.size - start)) if start < entry.size else b""


def content(entry: Entry) -> bytes:
    """The whole content of an entry; nothing where it has none."""
    return b"".join(plain_chunks(entry.path, entry.content or b""))


def laid(base: Filesystem | None, entries: Iterable[Entry]) -> Filesystem:
    """The image that has `base` below, and a layer of `entries` on it, without the content of these."""
    nodes = dict(base.nodes) if base else {}
    for entry in entries:
        if entry.removed:
            nodes.pop(entry.path, None)
            continue
        kind = "link" if entry.link else "dir" if entry.is_directory else "file"
        nodes[entry.path] = Node(kind=kind, link=entry.link)
        parent = entry.path.rpartition("/")[0]
        while parent and parent not in nodes:
            nodes[parent] = Node(kind="dir")
            parent = parent.rpartition("/")[0]
    return Filesystem(nodes)
