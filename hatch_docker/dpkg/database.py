"""Read and update dpkg's database of an image, or `status.d`, which images without dpkg have for scanners."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from hatch_docker.debian.control import relations
from hatch_docker.debian.deb import Deb
from hatch_docker.debian.packages import Package, read_status
from hatch_docker.dpkg.unpack import SymlinkResolver, Unpacked
from hatch_docker.errors import ImageError, PackageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

STATUS, STATUS_D, _INFO = "var/lib/dpkg/status", "var/lib/dpkg/status.d", "var/lib/dpkg/info"
_DIVERSIONS = "var/lib/dpkg/diversions"
# The native architecture, and foreign ones, if there are any (dpkg --add-architecture).
_ARCHITECTURES = "var/lib/dpkg/arch"
# The files whose content `read` needs.
FILES = regex(rf"{STATUS}|{_DIVERSIONS}|{_ARCHITECTURES}|{STATUS_D}/.+|{_INFO}/.+\.list")
_NAME = regex(r"^Package:[ \t]*(\S+)", re.MULTILINE)
_ARCHITECTURE = regex(r"^Architecture:[ \t]*(\S+)", re.MULTILINE)
_ALL = "all"
_SUMS = ".md5sums"
_CONFFILE = regex(r"^ (/\S+) ([0-9a-f]{32})(?: |$)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The installed packages of an image.

    `stanzas` are their unparsed paragraphs by name, `has_dpkg` whether they are from `status`. `lists` has the absolute
    paths of each package, `conffiles` MD5 checksums of configuration files by path, and `diverted` the package that
    diverts a path. `files` are the files of the image. The names of packages of a foreign architecture have that at
    their end, as in `libc6:i386`.
    """

    has_dpkg: bool
    stanzas: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]
    conffiles: Mapping[str, str]
    diverted: Mapping[str, str]
    files: Filesystem

    def packages(self) -> list[Package]:
        """The installed packages that others may depend on: of a foreign architecture, only those that say so.

        Raises DebianError for an invalid stanza.
        """
        place = f"/{STATUS if self.has_dpkg else STATUS_D}"
        native = read_status("\n\n".join(text for name, text in self.stanzas.items() if ":" not in name), place=place)
        names = {package.name for package in native}
        foreign = read_status("\n\n".join(text for name, text in self.stanzas.items() if ":" in name), place=place)
        return [*native, *(each for each in foreign if each.multi_arch == "foreign" and each.name not in names)]

    def foreign(self, name: str) -> list[str]:
        """The stanzas of a package of foreign architectures."""
        return [text for each, text in self.stanzas.items() if each.startswith(f"{name}:")]


def read(files: Filesystem) -> Database:
    """Read the database of an image, of which the content of `FILES` is needed. Raises PackageError if it has none."""
    text = _text(files, STATUS)
    folder = {
        path.rpartition("/")[2]: _text(files, path)
        for path in sorted(files.nodes)
        if path.startswith(f"{STATUS_D}/") and files.nodes[path].kind == "file"
    }
    if not text.strip() and not folder:
        raise PackageError(
            "the image has no Debian packages: neither dpkg's status nor status.d",
            hint='use a Debian base, or runtime-installer = "engine"',
        )
    texts = text.split("\n\n") if text.strip() else [folder[name] for name in folder if not name.endswith(_SUMS)]
    native = _native(_text(files, _ARCHITECTURES), texts)
    stanzas = {
        _qualified(match[1], _architecture(each), native): each.strip("\n")
        for each in texts
        if (match := _NAME.search(each))
    }
    return Database(
        has_dpkg=bool(text.strip()),
        stanzas=stanzas,
        lists=_lists(files, folder, stanzas, native),
        conffiles=dict(_CONFFILE.findall(text)),
        diverted=_diverted(_text(files, _DIVERSIONS)),
        files=files,
    )


def _native(architectures: str, stanzas: Sequence[str]) -> str:
    """The native architecture: dpkg's, else that of most packages."""
    if words := architectures.split():
        return words[0]
    of_dpkg = [each for each in stanzas if (match := _NAME.search(each)) and match[1] == "dpkg"]
    counts = Counter(map(_architecture, of_dpkg if len(of_dpkg) == 1 else stanzas))
    return next((name for name, _ in counts.most_common() if name not in ("", _ALL)), "")


def _architecture(stanza: str) -> str:
    match = _ARCHITECTURE.search(stanza)
    return match[1] if match else ""


def _qualified(name: str, architecture: str, native: str) -> str:
    return name if architecture in ("", _ALL, native) else f"{name}:{architecture}"


def _lists(
    files: Filesystem, folder: Mapping[str, str], stanzas: Mapping[str, str], native: str
) -> dict[str, tuple[str, ...]]:
    lists = {}
    # The files of a foreign package that cannot be there for several architectures do not name its own.
    foreign = {name.partition(":")[0]: name for name in stanzas if ":" in name}
    for path in files.nodes:
        if path.startswith(f"{_INFO}/") and path.endswith(".list"):
            name, _, architecture = path.rpartition("/")[2].removesuffix(".list").partition(":")
            qualified = _qualified(name, architecture, native)
            if not architecture and name not in stanzas:
                qualified = foreign.get(name, name)
            lists[qualified] = tuple(_text(files, path).splitlines())
    for name, text in folder.items():
        if name.endswith(_SUMS):
            lines = (line.partition("  ")[2] for line in text.splitlines())
            lists[name.removesuffix(_SUMS)] = tuple(f"/{line.removeprefix('./')}" for line in lines if line)
    return lists


def _diverted(text: str) -> dict[str, str]:
    """Parse the diversions, three lines each: the package that diverts a path, by path."""
    lines = text.splitlines()
    return dict(zip(lines[::3], lines[2::3], strict=False))


def changed_conffiles(unpacked: Unpacked, debs: Sequence[Deb], installed: Database) -> list[str]:
    """The paths of configuration files that the image has changed or removed, which stay that way.

    Raises PackageError for a file that another package of the image has or diverts.
    """
    for package, names in unpacked.names.items():
        for name in names:
            if installed.diverted.get(f"/{name}", package) != package:
                raise PackageError(f"/{name} of {package} is diverted in the image by {installed.diverted[f'/{name}']}")
    _check_architectures(debs, installed)
    _check_owners(unpacked, debs, installed)
    kept = []
    for path in sorted({path for deb in debs for path in deb.conffiles} & unpacked.entries.keys()):
        node, checksum = installed.files.nodes.get(path), installed.conffiles.get(f"/{path}")
        if node is None and checksum is None:
            continue
        if node is None or hashlib.md5(node.data or b"", usedforsecurity=False).hexdigest() != checksum:
            kept.append(path)
    return kept


def _check_architectures(debs: Sequence[Deb], installed: Database) -> None:
    """Raise PackageError for packages that are there for a foreign architecture, unless both may be (Multi-Arch)."""
    for deb in debs:
        for foreign in installed.foreign(name := deb.control["Package"]):
            version = f"\nVersion: {deb.control['Version']}\n"
            if deb.control.get("Multi-Arch") != "same" or version not in f"{foreign}\n":
                raise PackageError(
                    f"{name} {deb.control['Version']} does not fit {name} for {_architecture(foreign)} of the image",
                    hint='remove that from the base, or use runtime-installer = "engine"',
                )


def _check_owners(unpacked: Unpacked, debs: Sequence[Deb], installed: Database) -> None:
    """Raise PackageError for files of other packages, unless the new package Replaces these (policy 7.6.1)."""
    nodes = installed.files.nodes
    written = {path for path, each in unpacked.entries.items() if path in nodes and each.content is not None}
    names = {path.rpartition("/")[2] for path in written}
    new = {deb.control["Package"]: deb for deb in debs}
    for owner, paths in installed.lists.items():
        # Packages for several architectures share files.
        if owner.partition(":")[0] in new:
            continue
        for path in paths:
            if path.rpartition("/")[2] not in names or (resolved := _resolved(installed.files, path)) not in written:
                continue
            deb = new[unpacked.owners[resolved]]
            if not _replaces(deb, owner, installed):
                raise PackageError(
                    f"/{resolved} of {deb.control['Package']} is in the image already, as part of {owner}",
                    hint="these packages cannot be installed together: leave one of them out",
                )


def _resolved(files: Filesystem, path: str) -> str:
    """A path in dpkg's lists with the links of its directory followed."""
    try:
        return files.resolve_parent(path)
    except ImageError:
        return path.lstrip("/")


def _replaces(deb: Deb, name: str, installed: Database) -> bool:
    name = name.partition(":")[0]
    versions = [package.version for package in installed.packages() if package.name == name]
    replaced = (each for alternatives in relations(deb.control.get("Replaces", "")) for each in alternatives)
    return any(each.name == name and all(map(each.allows, versions)) for each in replaced)


def obsolete_files(
    unpacked: Unpacked, debs: Sequence[Deb], installed: Database, links: SymlinkResolver
) -> Iterator[Entry]:
    """Removals of files that only the replaced versions of packages have."""
    new = {deb.control["Package"] for deb in debs}
    replaced = new & installed.lists.keys()
    if not replaced:
        return
    others = {links.file(path[1:]) for name, paths in installed.lists.items() if name not in new for path in paths}
    earlier = {links.file(path[1:]) for name in replaced for path in installed.lists[name]}
    nodes = installed.files.nodes
    for path in sorted(earlier - others - unpacked.entries.keys()):
        node = nodes.get(links.directory(path))
        # Configuration files stay until a package is purged. Directories, and links to them, may have other files.
        if path in nodes and (node is None or node.kind != "dir") and not path.startswith("etc/"):
            yield Entry(path=path, removed=True)


def conffile_checksums(unpacked: Unpacked, debs: Sequence[Deb]) -> dict[str, str]:
    """The MD5 checksums of the packages' configuration files by path."""
    paths = {path for deb in debs for path in deb.conffiles if path in unpacked.entries}
    return {
        path: hashlib.md5(unpacked.entries[path].read(), usedforsecurity=False).hexdigest() for path in sorted(paths)
    }


def database_files(
    unpacked: Unpacked, debs: Sequence[Deb], conffiles: Mapping[str, str], installed: Database | None
) -> Iterator[Entry]:
    """The database with these packages added: dpkg's own if the image has it, else `status.d`.

    `conffiles` is the result of `conffile_checksums` for all unpacked files.
    """
    if installed is None or not installed.has_dpkg:
        for deb in debs:
            name = deb.control["Package"]
            yield Entry(path=f"{STATUS_D}/{name}", content=deb.files["control"].rstrip(b"\n") + b"\n")
            yield Entry(path=f"{STATUS_D}/{name}{_SUMS}", content=_md5sums(unpacked, deb))
        return
    stanzas = {**installed.stanzas, **{deb.control["Package"]: _stanza(deb, conffiles) for deb in debs}}
    yield Entry(path=STATUS, content="".join(f"{stanzas[name]}\n\n" for name in sorted(stanzas)).encode())
    written = {entry.path: entry for deb in debs for entry in _info(unpacked, deb, conffiles)}
    yield from written.values()
    stems = {deb.control["Package"] for deb in debs}
    stems |= {f"{deb.control['Package']}:{deb.control['Architecture']}" for deb in debs}
    for path in sorted(installed.files.nodes.keys() - written.keys()):
        # Files of the replaced version, such as scripts.
        folder, _, name = path.rpartition("/")
        if folder == _INFO and name.rpartition(".")[0] in stems:
            yield Entry(path=path, removed=True)


def _stanza(deb: Deb, conffiles: Mapping[str, str]) -> str:
    """A package's paragraph in `status`."""
    first, _, rest = deb.files["control"].decode().strip("\n").partition("\n")
    lines = [first, "Status: install ok installed", rest]
    if sums := [f" /{path} {conffiles[path]}" for path in deb.conffiles if path in conffiles]:
        lines += ["Conffiles:", *sums]
    return "\n".join(lines)


def _info(unpacked: Unpacked, deb: Deb, conffiles: Mapping[str, str]) -> Iterator[Entry]:
    control = deb.control
    same = control.get("Multi-Arch", "no") == "same"
    stem = f"{_INFO}/{control['Package']}" + (f":{control['Architecture']}" if same else "")
    names = "".join(f"/{name}\n" for name in unpacked.names[control["Package"]])
    yield Entry(path=f"{stem}.list", content=f"/.\n{names}".encode())
    yield Entry(path=f"{stem}{_SUMS}", content=_md5sums(unpacked, deb))
    if sums := [f"/{path}\n" for path in deb.conffiles if path in conffiles]:
        yield Entry(path=f"{stem}.conffiles", content="".join(sums).encode())
    # dpkg has another file for packages that are interested in triggers.
    if (triggers := deb.files.get("triggers")) and b"interest" not in triggers:
        yield Entry(path=f"{stem}.triggers", content=triggers)
    for name, script in deb.scripts.items():
        yield Entry(path=f"{stem}.{name}", mode=0o755, content=script)


def _md5sums(unpacked: Unpacked, deb: Deb) -> bytes:
    """The checksums of the files that were unpacked."""
    names = unpacked.names[deb.control["Package"]]
    return "".join(f"{digest}  {path}\n" for path, digest in deb.md5sums.items() if path in names).encode()


def _text(files: Filesystem, path: str) -> str:
    node = files.nodes.get(path)
    return (node.data or b"").decode("utf-8", "replace") if node else ""
