"""What an image does not need of its base's Python: pip, setuptools, wheel and ensurepip, as `prune-base` removes them.

Of a distribution, only what an installation of it may own is ever removed: in the site directories of the base's
Python, the names in _NAMES and its metadata; in its directories of programs, the names in _PROGRAMS, and links to
what is removed. If it has a RECORD, files that are not in it stay, and so do those that another distribution's RECORD
has, or that a package of dpkg or apk owns. So RECORD can only narrow what is removed, whatever is written in it.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator

from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import ImageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.paths import parents
from hatch_docker.support.patterns import regex

_SITES = (
    *("lib/{}/site-packages", "lib64/{}/site-packages", "lib/{}/dist-packages", "lib/python3/dist-packages"),
    *("local/lib/{}/site-packages", "local/lib64/{}/site-packages", "local/lib/{}/dist-packages"),
)
_STDLIBS = ("lib/{}", "lib64/{}")
_PROGRAM_FOLDERS = ("bin", "local/bin")
_NAMES = {
    "pip": ("pip",),
    "setuptools": ("setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth", "easy_install.py"),
    "wheel": ("wheel",),
}
_PROGRAMS = {
    "pip": regex(r"pip(?:-?3(?:\.\d+t?)?)?"),
    "setuptools": regex(r"easy_install(?:-?3(?:\.\d+t?)?)?"),
    "wheel": regex(r"wheel(?:-?3(?:\.\d+t?)?)?"),
}
_ENSUREPIP = "ensurepip"
# The installers whose files no package manager of the image owns.
_INSTALLERS = ("", "pip", "uv")
_METADATA = regex(r"([^/-]+)(?:-[^/]*)?\.(?:dist-info|egg-info)")
_RECORDS = regex(r".*/(?:site|dist)-packages/[^/]+\.(?:dist|egg)-info(?:/(?:RECORD|INSTALLER|METADATA|PKG-INFO))?")
_DPKG = regex(r"var/lib/dpkg/(?:info/[^/]+\.list|status\.d/[^/]+\.md5sums)")
_APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_REQUIRES = regex(r"^Requires-Dist:[ \t]*([A-Za-z0-9][A-Za-z0-9._-]*)([^\n]*)", re.MULTILINE)


def needs_record(path: str) -> bool:
    """Whether the functions here need the content of a file (oci.merging.merge)."""
    return path in _APK or _RECORDS.fullmatch(path) is not None or _DPKG.fullmatch(path) is not None


def leftovers_of(files: Filesystem, python: TargetPython) -> dict[str, tuple[str, ...]]:
    """The paths to remove, sorted, for each member of LEFTOVERS that the base has. A directory stands for all in it."""
    base = _Python(files, python)
    owned = _owned(files)
    found = {name: base.removable(name, owned) for name in _NAMES}
    found[_ENSUREPIP] = base.ensurepip(owned)
    return {name: paths for name, paths in found.items() if paths}


def needed_leftovers(files: Filesystem, python: TargetPython) -> frozenset[str]:
    """The members that another distribution in the base's site directories requires."""
    needed: set[str] = set()
    for each in _Python(files, python).distributions:
        if each.name not in _NAMES:
            text = _text(files, f"{each.path}/METADATA") or _text(files, f"{each.path}/PKG-INFO")
            headers = text.partition("\n\n")[0]
            needed |= {canonicalize_name(name) for name, rest in _REQUIRES.findall(headers) if "extra" not in rest}
    return frozenset(needed & _NAMES.keys())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Distribution:
    """A distribution in a site directory, by its canonical name and the path of its metadata.

    `record` has the paths that it owns, resolved; it is empty without a RECORD. `managed` is whether a package manager
    of the image installed it.
    """

    name: str
    path: str
    record: frozenset[str]
    managed: bool


class _Python:
    """The directories of a base's Python, with links followed, and what is in them."""

    def __init__(self, files: Filesystem, python: TargetPython) -> None:
        self._files = files
        self._prefix = posixpath.dirname(posixpath.dirname(python.interpreter)).strip("/")
        self._lib = python.lib_name
        self._sites = self._existing(_SITES)
        self._programs = self._existing(_PROGRAM_FOLDERS)
        self._children = _children(files, (*self._sites, *self._programs))
        self.distributions = tuple(self._read(self._sites))

    def removable(self, member: str, owned: frozenset[str]) -> tuple[str, ...]:
        """What can be removed of a distribution; `owned` are the paths of the image's packages."""
        own = [each for each in self.distributions if each.name == member and not each.managed]
        others = (each.record for each in self.distributions if each not in own)
        sites = {posixpath.dirname(each.path) for each in own}
        sites -= {posixpath.dirname(each.path) for each in self.distributions if each.name == member and each.managed}
        own = [each for each in own if posixpath.dirname(each.path) in sites]
        if not own:
            return ()
        kept = owned.union(*others)
        record = frozenset[str]().union(*(each.record for each in own))
        metadata = {each.path for each in own}

        def goes(path: str) -> bool:
            return path not in kept and (
                not record or path in record or _source(path) in record or _below(path, metadata)
            )

        tops = {f"{site}/{name}" for site in sites for name in _NAMES[member]} | metadata
        inside = self._inside(tops)
        gone = {path for path in inside if self._is_top_link(path, tops, kept) or goes(path)}
        programs = [path for folder in self._programs for path in self._children.get(folder, ())]
        pattern = _PROGRAMS[member]
        gone |= {path for path in programs if pattern.fullmatch(posixpath.basename(path)) and goes(path)}
        gone |= {path for path in programs if path not in kept and self._leads_to(path, gone)}
        return self._outermost(gone, inside)

    def ensurepip(self, owned: frozenset[str]) -> tuple[str, ...]:
        """The directory of ensurepip, or the files in it that no package of the image owns."""
        inside = self._inside({f"{folder}/{_ENSUREPIP}" for folder in self._existing(_STDLIBS)})
        return self._outermost({path for path in inside if path not in owned}, inside)

    def _existing(self, templates: Iterable[str]) -> tuple[str, ...]:
        """The directories below the prefix that exist, resolved, each once."""
        found = {}
        for template in templates:
            with contextlib.suppress(ImageError):
                path = self._files.resolve(f"{self._prefix}/{template.format(self._lib)}")
                if self._files.is_directory(path) and path.startswith(f"{self._prefix}/".lstrip("/")):
                    found[path] = True
        return tuple(found)

    def _read(self, sites: Iterable[str]) -> Iterator[_Distribution]:
        for site in sites:
            for path in self._children.get(site, ()):
                if match := _METADATA.fullmatch(posixpath.basename(path)):
                    yield _Distribution(
                        name=canonicalize_name(match[1]),
                        path=path,
                        record=frozenset(self._recorded(site, _text(self._files, f"{path}/RECORD"))),
                        managed=_text(self._files, f"{path}/INSTALLER").strip() not in _INSTALLERS,
                    )

    def _recorded(self, site: str, text: str) -> Iterator[str]:
        resolved = _resolver(self._files)
        for line in text.splitlines():
            # Line by line: an unmatched quote hides nothing of the others.
            with contextlib.suppress(csv.Error):
                row = next(csv.reader([line]), [])
                if row and row[0]:
                    yield resolved(posixpath.normpath(posixpath.join(f"/{site}", row[0])))

    def _inside(self, tops: Iterable[str]) -> set[str]:
        """The paths that exist at and below `tops`."""
        found = {path for path in tops if path in self._files.nodes}
        below = tuple(f"{path}/" for path in found)
        return found | {path for path in self._files.nodes if path.startswith(below)}

    def _is_top_link(self, path: str, tops: set[str], kept: frozenset[str]) -> bool:
        """Whether a name of the distribution is a link: what it leads to stays, but cannot be imported any more."""
        return path in tops and path not in kept and self._files.nodes[path].kind == "link"

    def _leads_to(self, path: str, gone: set[str]) -> bool:
        try:
            return self._files.nodes[path].kind == "link" and self._files.resolve(path) in gone
        except ImageError:
            return False

    def _outermost(self, gone: set[str], inside: set[str]) -> tuple[str, ...]:
        """The same as few paths: directories in which nothing stays instead of what is in them."""
        directories = {path for path in inside if self._files.nodes[path].kind == "dir"}
        staying = {parent for path in inside - directories - gone for parent in parents(path)}
        removed = (gone - directories) | (directories - staying)
        return tuple(sorted(path for path in removed if removed.isdisjoint(parents(path))))


def _children(files: Filesystem, folders: Iterable[str]) -> dict[str, list[str]]:
    """The paths directly in each of `folders`."""
    found: dict[str, list[str]] = {folder: [] for folder in folders}
    for path in files.nodes:
        parent = posixpath.dirname(path)
        if parent in found:
            found[parent].append(path)
    return found


def _source(path: str) -> str:
    """The source of a .pyc file below `__pycache__` (PEP 3147), which RECORD may not have; else `path` itself."""
    folder, _, name = path.rpartition("/")
    if not (folder.endswith("/__pycache__") and name.endswith(".pyc")):
        return path
    return f"{folder.removesuffix('/__pycache__')}/{name.partition('.')[0]}.py"


def _below(path: str, tops: set[str]) -> bool:
    return path in tops or not tops.isdisjoint(parents(path))


def _owned(files: Filesystem) -> frozenset[str]:
    """The paths of the packages of dpkg and apk, with the links of their directories followed."""
    resolved = _resolver(files)
    return frozenset(resolved(path) for path in (*_owned_by_dpkg(files), *_owned_by_apk(files)))


def _owned_by_dpkg(files: Filesystem) -> Iterator[str]:
    for path in files.nodes:
        if _DPKG.fullmatch(path):
            sums = path.endswith(".md5sums")
            for line in _text(files, path).splitlines():
                yield f"/{line.partition('  ')[2].removeprefix('./')}" if sums else line


def _owned_by_apk(files: Filesystem) -> Iterator[str]:
    """The files of apk's database (apk-installed(5)): `F:` is a directory, `R:` a file in it."""
    for path in _APK:
        folder = ""
        for line in _text(files, path).splitlines():
            if line.startswith("F:"):
                folder = line[2:]
            elif line.startswith("R:"):
                yield f"/{folder}/{line[2:]}"


def _resolver(files: Filesystem) -> Callable[[str], str]:
    """A function that follows the links of a path's directory; loops stay as they are."""

    @functools.cache
    def directory(path: str) -> str:
        try:
            return files.resolve(path)
        except ImageError:
            return path.lstrip("/")

    def resolved(path: str) -> str:
        folder, _, name = path.rpartition("/")
        return f"{directory(folder)}/{name}".lstrip("/")

    return resolved


def _text(files: Filesystem, path: str) -> str:
    with contextlib.suppress(ImageError):
        if node := files.get(path):
            return (node.data or b"").decode("utf-8", "replace")
    return ""
