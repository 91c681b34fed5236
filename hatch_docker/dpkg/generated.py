"""Files that maintainer scripts would generate, and the skeleton of a root file system.

Each function yields entries derived from existing files. They do not replace files of packages or of the image, unless
that is their purpose.
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterable, Iterator, Mapping

from hatch_docker.dpkg.mime import DEFINITIONS, mime_database
from hatch_docker.dpkg.scripts import Alternative, Copy
from hatch_docker.dpkg.unpack import USRMERGE
from hatch_docker.errors import PackageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry
from hatch_docker.support.patterns import regex

# The links to directories in a new root file system.
ROOT_LINKS: Mapping[str, str] = {**USRMERGE, "var/lock": "/run/lock", "var/run": "/run"}
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
NONROOT = 65532
_CERTIFICATES = regex(r"usr/share/ca-certificates/(.+\.crt)")
OWN_CERTIFICATES = regex(r"usr/local/share/ca-certificates/.+\.crt")
_FONT_MAPS = "var/lib/ghostscript/fonts"
_PYTHON = regex(r"usr/bin/python3\.\d+")

# The accounts of the package base-passwd, and `nonroot` of distroless images.
_USERS = """\
root:x:0:0:root:/root:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUPS = """\
root:x:0:
tty:x:5:
mail:x:8:
staff:x:50:
nogroup:x:65534:
"""
_NONROOT = f"nonroot:x:{NONROOT}:{NONROOT}:nonroot:/home/nonroot:/usr/sbin/nologin\n"
_NONROOT_GROUP = f"nonroot:x:{NONROOT}:\n"
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
_NETWORKS = "default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n"
_MASTER = "usr/share/base-passwd"


def skeleton(entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """The files of a root file system that no package has: accounts, name services, directories, links of usrmerge."""
    yield _text("etc/passwd", _packaged(entries, f"{_MASTER}/passwd.master", _USERS).replace(":*:", ":x:") + _NONROOT)
    yield _text(
        "etc/group", _packaged(entries, f"{_MASTER}/group.master", _GROUPS).replace(":*:", ":x:") + _NONROOT_GROUP
    )
    yield _text("etc/nsswitch.conf", _packaged(entries, "usr/share/libc-bin/nsswitch.conf", _NSSWITCH))
    yield _text("etc/networks", _NETWORKS)
    for path, mode in _DIRECTORIES.items():
        yield Entry(path=path, mode=mode)
    # Group 0 may write, too: containers with arbitrary user IDs run in it.
    yield Entry(path="home/nonroot", mode=0o775, uid=NONROOT)
    for path, link in {**_LINKS, **ROOT_LINKS}.items():
        target = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), link)).lstrip("/")
        if target in entries or target in _DIRECTORIES:
            yield Entry(path=path, link=link)
    pythons = sorted(path for path in entries if _PYTHON.fullmatch(path))
    if len(pythons) == 1:
        yield Entry(path="usr/bin/python3", link=posixpath.basename(pythons[0]))


_DIRECTORIES: Mapping[str, int] = {
    "dev": 0o755,
    "proc": 0o755,
    "sys": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "root": 0o700,
    "run": 0o755,
    "run/lock": 0o1777,
    "srv": 0o755,
    "tmp": 0o1777,
    "usr/bin": 0o755,
    "usr/lib": 0o755,
    "usr/sbin": 0o755,
    "usr/local/bin": 0o755,
    "usr/local/lib": 0o755,
    "usr/local/sbin": 0o755,
    "usr/local/share": 0o755,
    "var/mail": 0o755,
    "var/opt": 0o755,
    "var/tmp": 0o1777,
}
_LINKS: Mapping[str, str] = {
    "var/spool/mail": "../mail",
    "etc/os-release": "../usr/lib/os-release",
    "etc/dpkg/origins/default": "debian",
}


def timezone(files: Filesystem, entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """Set the time zone to UTC if time zones are among the entries and the image has set none."""
    if "usr/share/zoneinfo/Etc/UTC" in entries and "etc/localtime" not in files.nodes:
        yield Entry(path="etc/localtime", link="/usr/share/zoneinfo/Etc/UTC")


def certificates(files: Filesystem, entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """The bundle of ca-certificates and of the image's own certificates, and OpenSSL's links to it.

    This is the output of update-ca-certificates except links by hash, which the link to the bundle replaces.
    """
    packaged = {match[1]: path for path in entries if (match := _CERTIFICATES.fullmatch(path))}
    if packaged:
        own = [
            node.data for path, node in sorted(files.nodes.items()) if OWN_CERTIFICATES.fullmatch(path) and node.data
        ]
        parts = [*(entries[packaged[name]].read() for name in sorted(packaged)), *own]
        yield Entry(path=BUNDLE, content=b"".join(part.rstrip(b"\n") + b"\n" for part in parts))
        yield _text("etc/ca-certificates.conf", "".join(f"{name}\n" for name in sorted(packaged)))
    if packaged or BUNDLE in files.nodes:
        links = {"certs": "/etc/ssl/certs", "cert.pem": f"/{BUNDLE}", "private": "/etc/ssl/private"}
        for name, link in links.items():
            path = f"usr/lib/ssl/{name}"
            # A base's own OpenSSL has its own links.
            if path not in files.nodes and any("/libssl.so." in each for each in entries):
                yield Entry(path=path, link=link)


def font_maps(files: Filesystem, entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """Ghostscript's font maps, as update-gsfontmap joins them from files of packages and of the image."""
    if _FONT_MAPS not in files.nodes:
        return
    for name, folder in (("cidfmap", "cidfmap.d"), ("Fontmap", "fontmap.d")):
        parts = sorted(fnmatch.filter(files.nodes, f"etc/ghostscript/{folder}/*.conf"))
        if not entries.keys().isdisjoint([*parts, _FONT_MAPS]):
            texts = [_content(files, entries, files.resolve(path)) for path in parts]
            yield Entry(path=f"{_FONT_MAPS}/{name}", content=b"".join(texts))


def copies(files: Filesystem, entries: Mapping[str, Entry], calls: Iterable[Copy]) -> Iterator[Entry]:
    """Copies of packages' files as ucf makes them, and odbcinst.ini with the packages' drivers of unixODBC."""
    drivers: dict[str, list[bytes]] = {}
    for call in calls:
        source, target = files.resolve(call.source), files.resolve(call.target)
        entry = entries.get(source)
        if entry is None or entry.is_directory or entry.link:
            continue
        if call.is_driver:
            parts = drivers.setdefault(target, [_content(files, entries, target)])
            # Another version of the package may have been registered in the image.
            if entry.read().partition(b"\n")[0] not in parts[0]:
                parts.append(entry.read())
        elif target not in files.nodes:
            yield Entry(path=target, mode=entry.mode, content=entry.content)
    for target, parts in drivers.items():
        yield Entry(path=target, content=b"\n".join(part.rstrip(b"\n") + b"\n" for part in parts if part))


def pam_settings(files: Filesystem, entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """The settings that services include, as pam-auth-update makes them if only pam_unix is installed.

    pam_unix denies accounts without a line in `etc/shadow`, of which there is one here for each, without a password.
    """
    if "usr/share/pam/common-auth" in entries:
        if "etc/shadow" not in files.nodes:
            users = _content(files, entries, "etc/passwd").decode("utf-8", "replace").splitlines()
            lines = "".join(f"{line.partition(':')[0]}:*:::::::\n" for line in users if ":" in line)
            yield Entry(path="etc/shadow", mode=0o600, content=lines.encode())
        for name, text in _PAM.items():
            if f"etc/pam.d/{name}" not in files.nodes:
                yield _text(f"etc/pam.d/{name}", text)


def _pam(kind: str, first: str, *more: str) -> str:
    """A stack of modules in which the first one decides."""
    lines = (first, "requisite pam_deny.so", "required pam_permit.so", *more)
    return "".join(f"{kind} {line}\n" for line in lines)


_SESSION = _pam("session", "[default=1] pam_permit.so", "required pam_unix.so")
_PAM: Mapping[str, str] = {
    "common-account": _pam("account", "[success=1 new_authtok_reqd=done default=ignore] pam_unix.so"),
    "common-auth": _pam("auth", "[success=1 default=ignore] pam_unix.so nullok"),
    "common-password": _pam("password", "[success=1 default=ignore] pam_unix.so obscure yescrypt"),
    "common-session": _SESSION,
    "common-session-noninteractive": _SESSION,
}


def file_types(files: Filesystem, entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """The database of file types, as update-mime-database makes it; an image that has one keeps it.

    Raises PackageError if definitions are not valid.
    """
    names = sorted(path for path in entries if posixpath.dirname(path) == DEFINITIONS and path.endswith(".xml"))
    if not names:
        return
    try:
        made = mime_database(entries[path].read() for path in names)
    except ValueError as error:
        raise PackageError(f"the file types that packages define in /{DEFINITIONS} are not valid: {error}") from None
    yield from (Entry(path=path, content=data) for path, data in made.items() if path not in files.nodes)


def alternative_links(
    files: Filesystem, alternatives: Iterable[Alternative], *, parent: Filesystem | None
) -> tuple[list[Entry], list[str]]:
    """The links that update-alternatives would create, and notes on ambiguous ones, which are not created.

    The alternative with the highest priority is chosen, unless several have it. A link in the parent image stays.
    """
    by_name: dict[str, list[Alternative]] = {}
    for each in alternatives:
        # Paths that do not exist are manual pages, which are left out.
        if files.get(each.path) is not None:
            by_name.setdefault(each.name, []).append(each)
    entries, notes = [], []
    for name, choices in sorted(by_name.items()):
        highest = max(each.priority for each in choices)
        best = sorted({(each.path, each.link) for each in choices if each.priority == highest})
        if len(best) > 1:
            paths = ", ".join(path for path, _ in best)
            notes.append(f"no link for {name}, as several packages provide it with the same priority: {paths}")
            continue
        path, link = best[0]
        link = files.resolve_parent(link)
        if parent is not None and (link in parent.nodes or f"etc/alternatives/{name}" in parent.nodes):
            continue
        if link not in files.nodes:
            entries += [
                Entry(path=link, link=f"/etc/alternatives/{name}"),
                Entry(path=f"etc/alternatives/{name}", link=path),
            ]
    return entries, notes


def _content(files: Filesystem, entries: Mapping[str, Entry], path: str) -> bytes:
    node = files.nodes.get(path)
    return entries[path].read() if path in entries else (node.data if node else None) or b""


def _packaged(entries: Mapping[str, Entry], path: str, default: str) -> str:
    return entries[path].read().decode("utf-8", "replace") if path in entries else default


def _text(path: str, text: str) -> Entry:
    return Entry(path=path, content=text.encode())
