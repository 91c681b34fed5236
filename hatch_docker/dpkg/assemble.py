"""The door: packages of Debian → the entries of a layer, of an image of its own or on one that is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from hatch_docker.debian.deb import Deb
from hatch_docker.dpkg import database
from hatch_docker.dpkg import generated as files
from hatch_docker.dpkg.check import Problem, dispensable, missing_interpreters, missing_libraries, refuse
from hatch_docker.dpkg.database import Database
from hatch_docker.dpkg.ldcache import ld_so_cache
from hatch_docker.dpkg.loader import CACHE, cached, laid, libraries_of, loader_of
from hatch_docker.dpkg.scripts import alternatives, check_scripts
from hatch_docker.dpkg.unpack import SymlinkResolver, Unpacked, unpacked
from hatch_docker.errors import ImageError, PackageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The entries of a layer, whose contents are read from the spool; `notes` are what people should be told."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def needs_content(path: str) -> bool:
    """Whether `added_files` needs the content of an image's file (oci.filesystem.merge)."""
    return path.startswith("etc/") or bool(database.FILES.fullmatch(path) or files.OWN_CERTIFICATES.fullmatch(path))


def root_files(debs: Sequence[Deb], spool: BinaryIO, *, architecture: str, threads: int = 1) -> Assembled:
    """A root file system of its own, of packages in the order that they would be installed in.

    `spool` is an empty file, and `architecture` Debian's name of it. Scripts whose interpreter is not among the
    packages are left out. Raises PackageError for packages that do not go together, would not work, or cannot do
    without their scripts; DebianError for what is damaged.
    """
    check_scripts(debs)
    found = unpacked(debs, spool, files.ROOT_LINKS, threads=threads)
    made = _Making(found=found, debs=debs, architecture=architecture)
    made.add(files.skeleton(found.entries))
    made.leave_out([each.path for each in made.broken_scripts()])
    return made.finish(None)


def added_files(
    below: Filesystem, debs: Sequence[Deb], spool: BinaryIO, *, architecture: str, threads: int = 1
) -> Assembled:
    """A layer of packages on an image, whose merged layers `below` have the content of what `needs_content`.

    A package that is there already in another version is replaced. Otherwise as `root_files`, but scripts without their
    interpreter are a reason to refuse where a package's own programs may call them, or are all that it has. Raises
    PackageError where the image is not Debian's, too.
    """
    before = database.read(below)
    check_scripts(debs)
    links = {path: node.link for path, node in below.nodes.items() if node.kind == "link" and _is_way(below, path)}
    directories = {path for path, node in below.nodes.items() if node.kind == "dir"}
    found = unpacked(debs, spool, links, present=directories, threads=threads)
    made = _Making(found=found, debs=debs, architecture=architecture, below=below)
    made.keep(database.changed(found, debs, before))
    made.add(database.outdated(found, debs, before, SymlinkResolver(links)))
    problems = made.broken_scripts()
    spared = dispensable(problems, made.entries, found.owners)
    refuse((each for each in problems if each.path not in spared), found.owners)
    made.leave_out(sorted(spared))
    return made.finish(before)


def _is_way(below: Filesystem, path: str) -> bool:
    try:
        node = below.get(path)
    except ImageError:
        # A circle leads nowhere.
        return False
    return node is not None and node.kind == "dir"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@dataclass(kw_only=True)
class _Making:
    """The entries while they become more; `files` is the whole image with them."""

    found: Unpacked
    debs: Sequence[Deb]
    architecture: str
    below: Filesystem | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entries: dict[str, Entry] = dict(self.found.entries)
        self.conffiles = database.configuration(self.found, self.debs)
        for path, entry in self.entries.items():
            node = self.below.nodes.get(path) if self.below else None
            if node is not None and node.kind == "dir" and not entry.is_directory:
                raise PackageError(f"/{path} of {self.found.owners[path]} is a directory in the image")
        self.files = laid(self.below, self.entries.values())

    def add(self, entries: Iterable[Entry]) -> None:
        """Add what is not there yet."""
        new: dict[str, Entry] = {}
        for entry in entries:
            if entry.path not in self.entries:
                new.setdefault(entry.path, entry)
        self.entries |= new
        self.files = laid(self.files, new.values())

    def keep(self, paths: Sequence[str]) -> None:
        """Leave those files to the image."""
        for path in paths:
            del self.entries[path]
        self.files = laid(self.below, self.entries.values())

    def broken_scripts(self) -> list[Problem]:
        """What nothing could run."""
        return missing_interpreters(self.files, self.entries)

    def leave_out(self, scripts: Sequence[str]) -> None:
        """Do without those files, as if their packages had none of them."""
        self.found = self.found.without(set(scripts))
        self.keep(scripts)
        if scripts:
            names = _some([f"/{path}" for path in scripts])
            self.notes.append(f"scripts without an interpreter are left out: {names}")

    def finish(self, before: Database | None) -> Assembled:
        """Add what follows from the packages' files; check that all would work."""
        asked, unknown = alternatives(self.debs)
        links, notes = files.alternative_links(self.files, asked, below=self.below)
        self.add(links)
        if unknown:
            notes.append(f"links that update-alternatives would make are not all made for {_some(unknown)}")
        self.add(files.certificates(self.files, self.entries))
        self.add(files.font_maps(self.files, self.entries))
        self.add(files.timezone(self.files, self.entries))
        self._load()
        self.add(database.described(self.found, self.debs, self.conffiles, before))
        return Assembled(entries=tuple(self.entries.values()), notes=(*self.notes, *notes))

    def _load(self) -> None:
        """Write the loader's cache, and check that what is new finds its libraries."""
        libraries = libraries_of(self.entries.values())
        loader = loader_of(self.files, self.entries, libraries, self.architecture)
        found, links = loader.found()
        self.add(links)
        loader = loader_of(self.files, self.entries, libraries, self.architecture)
        cache = loader.merged(cached(self.below) if self.below else [], found)
        problems = missing_libraries(loader, cache)
        refuse((each for each in problems if not each.is_plugin), self.found.owners)
        if plugins := [str(each) for each in problems if each.is_plugin]:
            self.notes.append(f"plugins that would not load: {_some(plugins)}")
        if found or not self.below:
            self.entries[CACHE] = Entry(path=CACHE, content=ld_so_cache(cache))
