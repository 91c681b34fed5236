"""Makes tiny base images as OCI layouts, with the files that identify a Python; nothing in them runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fake_registry import FakeRegistry

from hatch_docker.support.dataclasses import dataclass, field

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_CPUS = {"amd64": "x86_64", "arm64": "aarch64", "s390x": "s390x", "mips64le": "mips64el"}


@dataclass(frozen=True, kw_only=True)
class FakeBase:
    """A base image. `python` is its full version, empty for none; `libc` is `glibc` or `musl`, empty for none.

    `links`, `folders` (with modes) and `files` are added to those of every base, `config` to its image config.
    """

    python: str = "3.13.5"
    libc: str = "glibc"
    architecture: str = "amd64"
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def layer(base: FakeBase) -> bytes:
    """The base's only layer, a plain tar with usrmerge as in Debian: /lib is a link to usr/lib."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path, mode in {"tmp": 0o1777, "usr": 0o755, "usr/lib": 0o755, "srv": 0o750, **base.folders}.items():
            _add(tar, path, tarfile.DIRTYPE, mode=mode)
        for path, target in {**({"lib": "usr/lib"} if base.libc != "musl" else {}), **base.links}.items():
            _add(tar, path, tarfile.SYMTYPE, link=target)
        for path, content in {**_python(base), **_libc(base), **base.files}.items():
            _add(tar, path, tarfile.REGTYPE, content=content, mode=0o755)
        if base.python:
            _add(tar, "usr/local/bin/python3", tarfile.SYMTYPE, link=f"python{_minor(base)}")
    return data.getvalue()


def make_base(folder: Path, *bases: FakeBase) -> Path:
    """Write a layout of one image, or of an index of several, and return `folder`."""
    blobs: dict[str, bytes] = {}
    descriptors = [_image(base, blobs) for base in bases or (FakeBase(),)]
    (folder / "blobs" / "sha256").mkdir(parents=True)
    for digest, data in blobs.items():
        blob_path(folder, digest).write_bytes(data)
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def blob_path(layout: Path, digest: str) -> Path:
    """The path of a blob in a layout."""
    return layout / "blobs" / digest.replace(":", "/")


def manifest_of(layout: Path) -> dict[str, Any]:
    """The manifest of a layout's only image."""
    index = json.loads((layout / "index.json").read_text())
    document: dict[str, Any] = json.loads(blob_path(layout, index["manifests"][0]["digest"]).read_bytes())
    return document


def _image(base: FakeBase, blobs: dict[str, bytes]) -> dict[str, Any]:
    plain = layer(base)
    platform = {"os": "linux", "architecture": base.architecture}
    config: dict[str, Any] = {
        **platform,
        "config": {"Env": [f"PATH={PATH}", "LANG=C.UTF-8"], "Cmd": ["python3"], **base.config},
        "rootfs": {"type": "layers", "diff_ids": [_digest(plain)]},
        "history": [{"created_by": "a test"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json", blobs),
        "layers": [_blob(gzip.compress(plain, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip", blobs)],
    }
    return _blob(json.dumps(manifest).encode(), MANIFEST, blobs) | {"platform": platform}


def _blob(data: bytes, media_type: str, blobs: dict[str, bytes]) -> dict[str, Any]:
    blobs[_digest(data)] = data
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _python(base: FakeBase) -> dict[str, bytes]:
    if not base.python:
        return {}
    minor, kind = _minor(base), "musl" if base.libc == "musl" else "gnu"
    suffix = f"cpython-{minor.replace('.', '')}-{_CPUS[base.architecture]}-linux-{kind}"
    return {
        f"usr/local/bin/python{minor}": b"\x7fELF\0" + base.python.encode() + b"\0",
        f"usr/local/lib/python{minor}/lib-dynload/_json.{suffix}.so": b"\x7fELF",
    }


def _libc(base: FakeBase) -> dict[str, bytes]:
    cpu = _CPUS[base.architecture]
    version = b"GNU C Library (Debian GLIBC 2.41-12) stable release version 2.41.\n"
    return {
        "glibc": {f"usr/lib/{cpu}-linux-gnu/libc.so.6": b"\x7fELF" + version},
        "musl": {f"lib/ld-musl-{cpu}.so.1": b"\x7fELF\0" + b"1.2.5\0"},
    }.get(base.libc, {})


def _minor(base: FakeBase) -> str:
    return ".".join(base.python.split(".")[:2])


def _add(
    tar: tarfile.TarFile, path: str, kind: bytes, *, mode: int = 0o777, link: str = "", content: bytes = b""
) -> None:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.linkname, member.size = kind, mode, link, len(content)
    tar.addfile(member, io.BytesIO(content))


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def serve(layout: Path, registry: FakeRegistry, name: str, tag: str) -> str:
    """Add a layout's only image to a registry; return its digest."""
    manifest = manifest_of(layout)
    for descriptor in (manifest["config"], *manifest["layers"]):
        registry.add_blob(name, blob_path(layout, descriptor["digest"]).read_bytes())
    return registry.add_manifest(name, tag, json.dumps(manifest).encode(), MANIFEST)
