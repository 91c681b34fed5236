"""What packages' scripts would make of their files, and what belongs to any image: written here instead.

Each function gives entries that are made of what is there; none of them is written over what a package or the image
brings, unless that is what it is about.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from hatch_docker.dpkg.loader import content
from hatch_docker.dpkg.unpack import USRMERGE
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry

# The links to directories that an image of its own has.
ROOT_LINKS: Mapping[str, str] = {**USRMERGE, "var/lock": "/run/lock", "var/run": "/run"}
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
NONROOT = 65532
_CERTIFICATES = re.compile(r"usr/share/ca-certificates/(.+\.crt)")
OWN_CERTIFICATES = re.compile(r"usr/local/share/ca-certificates/.+\.crt")
_FONT_MAPS = "var/lib/ghostscript/fonts"
_PYTHON = re.compile(r"usr/bin/python3\.\d+")

# Accounts of Debian's base-passwd, with what containers without a root are known to run as.
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
    """The files of an image that no package has: accounts, name services, directories, links of usrmerge."""
    yield _text("etc/passwd", _given(entries, f"{_MASTER}/passwd.master", _USERS).replace(":*:", ":x:") + _NONROOT)
    yield _text("etc/group", _given(entries, f"{_MASTER}/group.master", _GROUPS).replace(":*:", ":x:") + _NONROOT_GROUP)
    yield _text("etc/nsswitch.conf", _given(entries, "usr/share/libc-bin/nsswitch.conf", _NSSWITCH))
    yield _text("etc/networks", _NETWORKS)
    for path, mode in _DIRECTORIES.items():
        yield Entry(path=path, mode=mode)
    yield Entry(path="home/nonroot", mode=0o700, uid=NONROOT, gid=NONROOT)
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
    """UTC, where time zones came in, and the image has set none."""
    if "usr/share/zoneinfo/Etc/UTC" in entries and "etc/localtime" not in files.nodes:
        yield Entry(path="etc/localtime", link="/usr/share/zoneinfo/Etc/UTC")


def certificates(files: Filesystem, entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """The authorities of ca-certificates, and those of the image's own, in one file; and the ways that OpenSSL takes.

    As update-ca-certificates makes it, but for the links by hashes, whose place the link to the one file takes.
    """
    found = {match[1]: path for path in entries if (match := _CERTIFICATES.fullmatch(path))}
    if found:
        own = [
            node.data for path, node in sorted(files.nodes.items()) if OWN_CERTIFICATES.fullmatch(path) and node.data
        ]
        parts = [*(content(entries[found[name]]) for name in sorted(found)), *own]
        yield Entry(path=BUNDLE, content=b"".join(part.rstrip(b"\n") + b"\n" for part in parts))
        yield _text("etc/ca-certificates.conf", "".join(f"{name}\n" for name in sorted(found)))
    if found or BUNDLE in files.nodes:
        links = {"certs": "/etc/ssl/certs", "cert.pem": f"/{BUNDLE}", "private": "/etc/ssl/private"}
        for name, link in links.items():
            path = f"usr/lib/ssl/{name}"
            # A base's own OpenSSL has its own ways.
            if path not in files.nodes and any("/libssl.so." in each for each in entries):
                yield Entry(path=path, link=link)


def font_maps(files: Filesystem, entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """Which fonts Ghostscript has, as update-gsfontmap makes it: what packages and the image say of it, together."""
    if _FONT_MAPS not in files.nodes:
        return
    for name, folder in (("cidfmap", "cidfmap.d"), ("Fontmap", "fontmap.d")):
        parts = sorted(fnmatch.filter(files.nodes, f"etc/ghostscript/{folder}/*.conf"))
        if not entries.keys().isdisjoint([*parts, _FONT_MAPS]):
            places = [files.resolve(path) for path in parts]
            texts = [content(entries[path]) if path in entries else files.nodes[path].data or b"" for path in places]
            yield Entry(path=f"{_FONT_MAPS}/{name}", content=b"".join(texts))


def alternative_links(
    files: Filesystem, asked: Iterable[tuple[str, str, str, int]], *, below: Filesystem | None
) -> tuple[list[Entry], list[str]]:
    """The links that update-alternatives would make for what is new: both of them, and notes on those not made.

    `asked` is link, name, path and priority. Of several the highest priority is taken; where two have it, none is. A
    link that is there `below` stays.
    """
    found: dict[str, list[tuple[int, str, str]]] = {}
    for link, name, path, priority in asked:
        # Manual pages were left out, and their links with them.
        if files.get(path) is not None:
            found.setdefault(name, []).append((priority, path, link))
    entries, notes = [], []
    for name, each in sorted(found.items()):
        best = sorted({(path, link) for priority, path, link in each if priority == max(each)[0]})
        if len(best) > 1:
            notes.append(f"{name} may be any of {', '.join(path for path, _ in best)}: no link is made")
            continue
        path, link = best[0]
        link = _place(files, link)
        if below is not None and (link in below.nodes or f"etc/alternatives/{name}" in below.nodes):
            continue
        if link not in files.nodes:
            entries += [
                Entry(path=link, link=f"/etc/alternatives/{name}"),
                Entry(path=f"etc/alternatives/{name}", link=path),
            ]
    return entries, notes


def _place(files: Filesystem, path: str) -> str:
    """A path with the links of its directory followed."""
    parent, name = posixpath.split(path)
    return f"{files.resolve(parent)}/{name}".lstrip("/")


def _given(entries: Mapping[str, Entry], path: str, otherwise: str) -> str:
    return content(entries[path]).decode("utf-8", "replace") if path in entries else otherwise


def _text(path: str, text: str) -> Entry:
    return Entry(path=path, content=text.encode())
