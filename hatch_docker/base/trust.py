"""Add certificate authorities to those that the programs of an image trust, as update-ca-certificates(8) would.

Programs read a bundle: that of the distribution, or `cert.pem` in the directory that OpenSSL was built with. Files
that the distributions' own tools make bundles from are written too, so that the next run of such a tool keeps them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from hatch_docker.errors import ImageError
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.merging import merge
from hatch_docker.oci.source import fetch
from hatch_docker.support.certificates import Certificates, normalized

# OpenSSL's directories: of Alpine and of Python's portable builds, of Debian, of Red Hat, and of OpenSSL's own build.
_OPENSSL = ("etc/ssl", "usr/lib/ssl", "etc/pki/tls", "usr/local/ssl")
# The first that an image has is that of its distribution; the first of all is made if there is none.
_BUNDLES = (
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/pki/tls/certs/ca-bundle.crt",
    "var/lib/ca-certificates/ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",
    *(f"{folder}/cert.pem" for folder in _OPENSSL),
)
# Directories for an administrator's own certificates, with the suffix that files there need, and what must exist.
_ANCHORS = (
    ("usr/local/share/ca-certificates", ".crt", ""),
    ("etc/pki/ca-trust/source/anchors", ".pem", "etc/pki/ca-trust"),
    ("etc/pki/trust/anchors", ".pem", "etc/pki/trust"),
)


def trust_entries(image: Image, files: Filesystem, certificates: Certificates) -> list[Entry]:
    """The files that make programs of `image` trust `certificates`; those that a bundle has are not added to it.

    `files` are what `trusted_files` returns. Raises ImageError for an image that is invalid, or has a bundle that is
    too large.
    """
    bundles = dict(_bundles(files))
    if any(node.data is None for node in bundles.values()):
        # What a link leads to.
        files = merge(image.layers, bundles.__contains__)
        bundles = dict(_bundles(files))
    main = next(iter(bundles), files.resolve(_BUNDLES[0]))
    bundles.setdefault(main, Node(kind="file", data=b"", mode=0o644))
    entries = {path: entry for path, node in bundles.items() if (entry := _extended(path, node, certificates))}
    for path in _openssl_paths(files):
        if path not in files.nodes and path not in entries:
            entries[path] = Entry(path=path, link=f"/{main}")
    return [*entries.values(), *_anchors(files, certificates)]


def trusted_files(image: Image, *, threads: int) -> Filesystem:
    """An image's files, with the content of its bundles. Raises ImageError."""
    fetch(image, threads=threads)
    return merge(image.layers, _BUNDLES.__contains__)


def _bundles(files: Filesystem) -> Iterator[tuple[str, Node]]:
    """The bundles, with links followed; a link that leads nowhere gives an empty one where it leads to."""
    for path in _BUNDLES:
        with contextlib.suppress(ImageError):
            if files.resolve_parent(path) not in files.nodes:
                continue
            resolved = files.resolve(path)
            node = files.nodes.get(resolved, Node(kind="file", data=b"", mode=0o644))
            if node.kind == "file":
                yield resolved, node


def _extended(path: str, node: Node, certificates: Certificates) -> Entry | None:
    """A bundle with the certificates that it lacks; None if it has all of them."""
    if node.data is None:
        raise ImageError(
            f"/{path} is too large for a bundle of certificates",
            hint="use another base, or one that has the certificates already, without the key ca-certificates",
        )
    present = normalized(node.data)
    added = "".join(text for text in certificates.texts if text not in present).encode()
    if not added:
        return None
    before = node.data if not node.data or node.data.endswith(b"\n") else node.data + b"\n"
    return Entry(path=path, content=before + added, mode=node.mode, uid=node.uid, gid=node.gid)


def _openssl_paths(files: Filesystem) -> Iterator[str]:
    """Where OpenSSL may look for a bundle, with the links of directories followed."""
    for folder in _OPENSSL:
        if folder == _OPENSSL[0] or files.is_directory(folder):
            with contextlib.suppress(ImageError):
                yield files.resolve_parent(f"{folder}/cert.pem")


def _anchors(files: Filesystem, certificates: Certificates) -> Iterator[Entry]:
    """One file for each certificate, which is what the tools expect."""
    count = len(certificates.texts)
    for folder, suffix, needed in _ANCHORS:
        if needed and not files.is_directory(needed):
            continue
        names = [f"{certificates.name}-{number}" if count > 1 else certificates.name for number in range(1, count + 1)]
        for path, text in zip(_free(files, folder, names, suffix), certificates.texts, strict=True):
            yield Entry(path=path, content=text.encode())


def _free(files: Filesystem, folder: str, names: Iterable[str], suffix: str) -> Iterator[str]:
    """Paths for `names`; the image's own files of these names stay."""
    for name in names:
        path = files.resolve_parent(f"{folder}/{name}{suffix}")
        while path in files.nodes:
            path = f"{path.removesuffix(suffix)}-added{suffix}"
        yield path
