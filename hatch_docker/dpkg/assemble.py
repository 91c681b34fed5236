"""Entry point: .deb files to layer entries, for a new root file system or on top of an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO

from hatch_docker.debian.deb import Deb
from hatch_docker.dpkg import database, generated
from hatch_docker.dpkg.check import Problem, dispensable, missing_interpreters, missing_libraries, refuse
from hatch_docker.dpkg.database import Database
from hatch_docker.dpkg.ldcache import ld_so_cache
from hatch_docker.dpkg.loader import CACHE, libraries_of, loader_of, read_cache, with_entries
from hatch_docker.dpkg.scripts import alternatives_of, check_scripts, copies_of
from hatch_docker.dpkg.unpack import SymlinkResolver, Unpacked, unpack
from hatch_docker.errors import PackageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry
from hatch_docker.support.dataclasses import dataclass, field

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The entries of a layer, whose contents are in the spool, and `notes` for the user."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def needs_content(path: str) -> bool:
    """Whether `added_files` needs the content of an image's file (oci.merging.merge)."""
    return path.startswith("etc/") or bool(database.FILES.fullmatch(path) or generated.OWN_CERTIFICATES.fullmatch(path))


def root_files(debs: Sequence[Deb], spool: BinaryIO, *, architecture: str, threads: int = 1) -> Assembled:
    """Make a new root file system of packages, which are in the order of installation.

    `spool` is an empty file, and `architecture` Debian's name of one. Scripts whose interpreter is not among the
    packages are left out. Raises PackageError for packages that conflict, would not work, or need their maintainer
    scripts to run; DebianError for damaged packages.
    """
    check_scripts(debs)
    files = unpack(debs, spool, generated.ROOT_LINKS, threads=threads)
    assembly = _Assembly(unpacked=files, debs=debs, architecture=architecture)
    assembly.add(generated.skeleton(files.entries))
    assembly.leave_out([each.path for each in assembly.broken_scripts()])
    return assembly.finish(None)


def added_files(
    parent: Filesystem, debs: Sequence[Deb], spool: BinaryIO, *, architecture: str, threads: int = 1
) -> Assembled:
    """Make a layer of packages on top of a parent image, of which the files that `needs_content` have content.

    Installed packages are replaced by the new version. Otherwise like `root_files`, but scripts without an interpreter
    are left out only if they are dispensable (check.py), and raise PackageError otherwise. Also raises PackageError if
    the image has no database of Debian packages.
    """
    installed = database.read(parent)
    check_scripts(debs)
    links = {
        path: node.link for path, node in parent.nodes.items() if node.kind == "link" and parent.is_directory(path)
    }
    directories = {path for path, node in parent.nodes.items() if node.kind == "dir"}
    files = unpack(debs, spool, links, present=directories, threads=threads)
    assembly = _Assembly(unpacked=files, debs=debs, architecture=architecture, parent=parent)
    assembly.omit(database.changed_conffiles(files, debs, installed))
    assembly.add(database.obsolete_files(files, debs, installed, SymlinkResolver(links)))
    problems = assembly.broken_scripts()
    omitted = dispensable(problems, assembly.entries, files.owners)
    refuse((each for each in problems if each.path not in omitted), files.owners)
    assembly.leave_out(sorted(omitted))
    return assembly.finish(installed)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@dataclass(kw_only=True)
class _Assembly:
    """The entries of a layer while more are added; `files` is the image with them."""

    unpacked: Unpacked
    debs: Sequence[Deb]
    architecture: str
    parent: Filesystem | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entries: dict[str, Entry] = dict(self.unpacked.entries)
        self.conffiles = database.conffile_checksums(self.unpacked, self.debs)
        for path, entry in self.entries.items():
            node = self.parent.nodes.get(path) if self.parent else None
            if node is not None and node.kind == "dir" and not entry.is_directory:
                raise PackageError(f"/{path} of {self.unpacked.owners[path]} is a directory in the image")
        self.files = with_entries(self.parent, self.entries.values())

    def add(self, entries: Iterable[Entry]) -> None:
        """Add entries at paths that have none yet."""
        new: dict[str, Entry] = {}
        for entry in entries:
            if entry.path not in self.entries:
                new.setdefault(entry.path, entry)
        self.entries |= new
        self.files = with_entries(self.files, new.values())

    def omit(self, paths: Sequence[str]) -> None:
        """Remove entries, so that the parent image's files stay."""
        for path in paths:
            del self.entries[path]
        self.files = with_entries(self.parent, self.entries.values())

    def broken_scripts(self) -> list[Problem]:
        """The scripts whose interpreter is missing."""
        return missing_interpreters(self.files, self.entries)

    def leave_out(self, scripts: Sequence[str]) -> None:
        """Remove scripts, also from the lists of their packages."""
        self.unpacked = self.unpacked.without(set(scripts))
        self.omit(scripts)
        if scripts:
            names = _some([f"/{path}" for path in scripts])
            self.notes.append(f"scripts without an interpreter are left out: {names}")

    def finish(self, installed: Database | None) -> Assembled:
        """Add generated files and the database; check that programs find their libraries."""
        alternatives, unparsed = alternatives_of(self.debs)
        links, notes = generated.alternative_links(self.files, alternatives, parent=self.parent)
        self.add(links)
        if unparsed:
            notes.append(f"some links of update-alternatives are missing for {_some(unparsed)}")
        self.add(generated.copies(self.files, self.entries, copies_of(self.debs)))
        self.add(generated.certificates(self.files, self.entries))
        self.add(generated.pam_settings(self.files, self.entries))
        self.add(generated.font_maps(self.files, self.entries))
        self.add(generated.file_types(self.files, self.entries))
        self.add(generated.timezone(self.files, self.entries))
        self._load()
        self.add(database.database_files(self.unpacked, self.debs, self.conffiles, installed))
        return Assembled(entries=tuple(self.entries.values()), notes=(*self.notes, *notes))

    def _load(self) -> None:
        """Add the loader's cache, and check that new programs and libraries find what they need."""
        libraries = libraries_of(self.entries.values())
        loader = loader_of(self.files, self.entries, libraries, self.architecture)
        new, links = loader.new_entries()
        self.add(links)
        loader = loader_of(self.files, self.entries, libraries, self.architecture)
        cache = loader.merged(read_cache(self.parent) if self.parent else [], new)
        problems = missing_libraries(loader, cache)
        refuse((each for each in problems if not each.is_plugin), self.unpacked.owners)
        if plugins := [str(each) for each in problems if each.is_plugin]:
            self.notes.append(f"plugins that cannot be loaded: {_some(plugins)}")
        if new or not self.parent:
            self.entries[CACHE] = Entry(path=CACHE, content=ld_so_cache(cache, machine=loader.machine))
