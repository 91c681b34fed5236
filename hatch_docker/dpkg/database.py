"""What dpkg knows of an image: its `status` and `info`, or `status.d`, which images without dpkg have for scanners."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hatch_docker.debian.control import relations
from hatch_docker.debian.deb import Deb
from hatch_docker.debian.packages import Package, read_status
from hatch_docker.dpkg.loader import content
from hatch_docker.dpkg.unpack import SymlinkResolver, Unpacked
from hatch_docker.errors import ImageError, PackageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry

STATUS, STATUS_D, _INFO = "var/lib/dpkg/status", "var/lib/dpkg/status.d", "var/lib/dpkg/info"
_DIVERSIONS = "var/lib/dpkg/diversions"
# What `read` needs the content of.
FILES = re.compile(rf"{STATUS}|{_DIVERSIONS}|{STATUS_D}/.+|{_INFO}/.+\.list")
_NAME = re.compile(r"^Package:[ \t]*(\S+)", re.MULTILINE)
_SUMS = ".md5sums"
_CONFFILE = re.compile(r"^ (/\S+) ([0-9a-f]{32})(?: |$)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The packages of an image. `stanzas` are their paragraphs by name, as they are written; `has_dpkg` whether in
    `status`. `lists` are the paths of each package, absolute, and `conffiles` MD5 sums of configuration files by path.
    """

    has_dpkg: bool
    stanzas: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]
    conffiles: Mapping[str, str]
    diverted: Mapping[str, str]
    files: Filesystem

    def packages(self) -> list[Package]:
        """What is installed, for a resolver. Raises DebianError for what is no control file."""
        return read_status("\n\n".join(self.stanzas.values()), place=f"/{STATUS if self.has_dpkg else STATUS_D}")


def read(files: Filesystem) -> Database:
    """The database of an image, whose `FILES` have their content. Raises PackageError where it is not Debian's."""
    text = _text(files, STATUS)
    folder = {
        path.rpartition("/")[2]: _text(files, path)
        for path in sorted(files.nodes)
        if path.startswith(f"{STATUS_D}/") and files.nodes[path].kind == "file"
    }
    if not text.strip() and not folder:
        raise PackageError(
            "the image has no packages of Debian: neither dpkg's status nor a status.d",
            hint="take a base of Debian's, or install packages through an engine",
        )
    texts = text.split("\n\n") if text.strip() else [folder[name] for name in folder if not name.endswith(_SUMS)]
    stanzas = {found[1]: each.strip("\n") for each in texts if (found := _NAME.search(each))}
    return Database(
        has_dpkg=bool(text.strip()),
        stanzas=stanzas,
        lists=_lists(files, folder),
        conffiles=dict(_CONFFILE.findall(text)),
        diverted=_diverted(_text(files, _DIVERSIONS)),
        files=files,
    )


def _lists(files: Filesystem, folder: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found = {}
    for path in files.nodes:
        if path.startswith(f"{_INFO}/") and path.endswith(".list"):
            name = path.rpartition("/")[2].removesuffix(".list").partition(":")[0]
            found[name] = tuple(_text(files, path).splitlines())
    for name, text in folder.items():
        if name.endswith(_SUMS):
            lines = (line.partition("  ")[2] for line in text.splitlines())
            found[name.removesuffix(_SUMS)] = tuple(f"/{line.removeprefix('./')}" for line in lines if line)
    return found


def _diverted(text: str) -> dict[str, str]:
    """By path, the package that diverts all others' files from there: three lines each."""
    lines = text.splitlines()
    return dict(zip(lines[::3], lines[2::3], strict=False))


def changed(found: Unpacked, debs: Sequence[Deb], below: Database) -> list[str]:
    """The configuration files that the image has changed or taken away: it keeps its own.

    Raises PackageError for a file that another package of the image has, or diverts.
    """
    for package, names in found.names.items():
        for name in names:
            if below.diverted.get(f"/{name}", package) != package:
                raise PackageError(f"/{name} of {package} is diverted in the image by {below.diverted[f'/{name}']}")
    _check_owners(found, debs, below)
    kept = []
    for path in sorted({path for deb in debs for path in deb.conffiles} & found.entries.keys()):
        node, known = below.files.nodes.get(path), below.conffiles.get(f"/{path}")
        if node is None and known is None:
            continue
        if node is None or hashlib.md5(node.data or b"", usedforsecurity=False).hexdigest() != known:
            kept.append(path)
    return kept


def _check_owners(found: Unpacked, debs: Sequence[Deb], below: Database) -> None:
    """Refuse what dpkg would not overwrite: another package's file, unless a new one Replaces that (policy 7.6.1)."""
    nodes = below.files.nodes
    written = {path for path, each in found.entries.items() if path in nodes and each.content is not None}
    names = {path.rpartition("/")[2] for path in written}
    ours = {deb.control["Package"]: deb for deb in debs}
    for owner, paths in below.lists.items():
        if owner in ours:
            continue
        for path in paths:
            if path.rpartition("/")[2] not in names or (place := _place(below.files, path)) not in written:
                continue
            deb = ours[found.owners[place]]
            if not _replaces(deb, owner, below):
                raise PackageError(
                    f"/{place} of {deb.control['Package']} is in the image already, of {owner}",
                    hint="these packages cannot be installed together: leave one of them out",
                )


def _place(files: Filesystem, path: str) -> str:
    """Where a file is that dpkg lists by that path: the links of its directory are followed."""
    folder, _, name = path.rpartition("/")
    try:
        return f"{files.resolve(folder)}/{name}".lstrip("/")
    except ImageError:
        return path.lstrip("/")


def _replaces(deb: Deb, name: str, below: Database) -> bool:
    versions = [package.version for package in below.packages() if package.name == name]
    wanted = (each for alternatives in relations(deb.control.get("Replaces", "")) for each in alternatives)
    return any(each.name == name and all(map(each.allows, versions)) for each in wanted)


def outdated(found: Unpacked, debs: Sequence[Deb], below: Database, ways: SymlinkResolver) -> Iterator[Entry]:
    """What goes with the versions of packages that newer ones take the place of, and no package has any more."""
    ours = {deb.control["Package"] for deb in debs}
    replaced = ours & below.lists.keys()
    if not replaced:
        return
    others = {ways.file(path[1:]) for name, paths in below.lists.items() if name not in ours for path in paths}
    before = {ways.file(path[1:]) for name in replaced for path in below.lists[name]}
    nodes = below.files.nodes
    for path in sorted(before - others - found.entries.keys()):
        node = nodes.get(ways.directory(path))
        # Configuration files stay until a package is purged; a directory, and a link to one, are others' too.
        if path in nodes and (node is None or node.kind != "dir") and not path.startswith("etc/"):
            yield Entry(path=path, removed=True)


def configuration(found: Unpacked, debs: Sequence[Deb]) -> dict[str, str]:
    """The MD5 sums of the packages' configuration files as they bring them, by path."""
    paths = {path for deb in debs for path in deb.conffiles if path in found.entries}
    return {
        path: hashlib.md5(content(found.entries[path]), usedforsecurity=False).hexdigest() for path in sorted(paths)
    }


def described(
    found: Unpacked, debs: Sequence[Deb], conffiles: Mapping[str, str], below: Database | None
) -> Iterator[Entry]:
    """The database with these packages installed: as dpkg keeps it where `below` has that, else as scanners read it.

    `conffiles` is what `configuration` gives of all that was unpacked.
    """
    if below is None or not below.has_dpkg:
        for deb in debs:
            name = deb.control["Package"]
            yield Entry(path=f"{STATUS_D}/{name}", content=deb.files["control"].rstrip(b"\n") + b"\n")
            yield Entry(path=f"{STATUS_D}/{name}{_SUMS}", content=_md5sums(found, deb))
        return
    stanzas = {**below.stanzas, **{deb.control["Package"]: _stanza(deb, conffiles) for deb in debs}}
    yield Entry(path=STATUS, content="".join(f"{stanzas[name]}\n\n" for name in sorted(stanzas)).encode())
    written = {entry.path: entry for deb in debs for entry in _info(found, deb, conffiles)}
    yield from written.values()
    names = {deb.control["Package"] for deb in debs}
    for path in sorted(below.files.nodes.keys() - written.keys()):
        # What the older version had, such as its scripts.
        folder, _, name = path.rpartition("/")
        if folder == _INFO and name.rpartition(".")[0].partition(":")[0] in names:
            yield Entry(path=path, removed=True)


def _stanza(deb: Deb, conffiles: Mapping[str, str]) -> str:
    """A package's paragraph of `status`."""
    first, _, rest = deb.files["control"].decode().strip("\n").partition("\n")
    lines = [first, "Status: install ok installed", rest]
    if sums := [f" /{path} {conffiles[path]}" for path in deb.conffiles if path in conffiles]:
        lines += ["Conffiles:", *sums]
    return "\n".join(lines)


def _info(found: Unpacked, deb: Deb, conffiles: Mapping[str, str]) -> Iterator[Entry]:
    control = deb.control
    same = control.get("Multi-Arch", "no") == "same"
    stem = f"{_INFO}/{control['Package']}" + (f":{control['Architecture']}" if same else "")
    names = "".join(f"/{name}\n" for name in found.names[control["Package"]])
    yield Entry(path=f"{stem}.list", content=f"/.\n{names}".encode())
    yield Entry(path=f"{stem}{_SUMS}", content=_md5sums(found, deb))
    if sums := [f"/{path}\n" for path in deb.conffiles if path in conffiles]:
        yield Entry(path=f"{stem}.conffiles", content="".join(sums).encode())
    # One that waits for other packages would have to be known to dpkg besides.
    if (triggers := deb.files.get("triggers")) and b"interest" not in triggers:
        yield Entry(path=f"{stem}.triggers", content=triggers)
    for name, script in deb.scripts.items():
        yield Entry(path=f"{stem}.{name}", mode=0o755, content=script)


def _md5sums(found: Unpacked, deb: Deb) -> bytes:
    """The sums of those files that are there."""
    there = found.names[deb.control["Package"]]
    return "".join(f"{digest}  {path}\n" for path, digest in deb.md5sums.items() if path in there).encode()


def _text(files: Filesystem, path: str) -> str:
    node = files.nodes.get(path)
    return (node.data or b"").decode("utf-8", "replace") if node else ""
