"""A zoo of images: layouts, archives of `docker save`, and answers of registries. Each is refused, or a valid image."""

from __future__ import annotations

import copy
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from base_maker import MANIFEST
from fake_registry import Failure, FakeRegistry
from tars import END, GNU, block, file, numbers, pax
from test_zoo_layers import old_sparse
from zoo import Record, visit

from hatch_docker.oci import spec
from hatch_docker.oci.image import Image, append, validate
from hatch_docker.oci.layout import Files, open_files
from hatch_docker.oci.merging import merge
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import layout_source, pull, pull_saved, registry_source
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of

AMD64 = Platform(architecture="amd64")
LAYER = file(b"etc/x", b"text") + END
_BLOB = gzip.compress(LAYER, mtime=0)
_MISSING = object()

# The places of all that is read, and what else may be there.
_FIELDS = {
    "index": [
        "schemaVersion", "mediaType", "manifests", "manifests.0", "manifests.0.mediaType", "manifests.0.digest",
        "manifests.0.size", "manifests.0.platform", "manifests.0.platform.os", "manifests.0.platform.architecture",
        "manifests.0.platform.variant", "manifests.0.annotations", "annotations",
    ],
    "manifest": [
        "schemaVersion", "mediaType", "config", "config.mediaType", "config.digest", "config.size", "layers",
        "layers.0",
        "layers.0.mediaType", "layers.0.digest", "layers.0.size", "layers.0.urls", "annotations",
    ],
    "config": [
        "architecture", "os", "variant", "created", "author", "config", "config.Env", "config.Env.0",
        "config.Entrypoint",
        "config.Cmd", "config.User", "config.WorkingDir", "config.ExposedPorts", "config.Volumes", "config.Labels",
        "config.StopSignal", "config.Healthcheck", "config.Healthcheck.Test", "config.Healthcheck.Interval",
        "config.Shell", "config.ArgsEscaped", "rootfs", "rootfs.type", "rootfs.diff_ids", "rootfs.diff_ids.0",
        "history", "history.0", "history.0.created", "history.0.created_by", "history.0.empty_layer",
    ],
}  # fmt: skip
_VALUES: Mapping[str, Any] = {
    "missing": _MISSING,
    "null": None,
    "-1": -1,
    "2**63": 2**63,
    "a text": "x\0\x1b[2J\u202e",
    "an array": [["x"]],
    "an object": {"x\0": {"y": 1}},
}
_DIGESTS = {
    "without an algorithm": "a" * 64,
    "of md5": "md5:" + "a" * 32,
    "of sha512": "sha512:" + "a" * 128,
    "in upper case": "sha256:" + "A" * 64,
    "too short": "sha256:" + "a" * 63,
    "too long": "sha256:" + "a" * 65,
    "of a path": "sha256:../../../etc/passwd",
    "with a newline": "sha256:" + "a" * 64 + "\n",
    "of other content": "sha256:" + "a" * 64,
    "of 1 MB": "sha256:" + "a" * 1_000_000,
}
_SIZES = {"0": 0, "1": 1, "a fraction": 1.5, "true": True, "2**62": 2**62, "10**400": 10**400}
_SPECIAL: Mapping[str, Any] = {
    "a lone surrogate": lambda: "\ud800",
    "an empty text": lambda: "",
    "a text of 1 MB": lambda: "x" * 1_000_000,
}

Change = Callable[[dict[str, Any]], None]


def _set(path: str, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        inner: Any = document
        for each in parents:
            inner = inner[int(each) if isinstance(inner, list) else each]
        if value is _MISSING:
            del inner[int(last) if isinstance(inner, list) else last]
        else:
            inner[int(last) if isinstance(inner, list) else last] = copy.deepcopy(value)

    return change


def _changes() -> Iterator[tuple[str, str, Change]]:
    for kind, paths in _FIELDS.items():
        for path in paths:
            for name, value in _VALUES.items():
                yield f"{path} is {name}", kind, _set(path, value)
            if path.endswith("digest") or path == "rootfs.diff_ids.0":
                for name, value in _DIGESTS.items():
                    yield f"{path} is {name}", kind, _set(path, value)
            if path.endswith("size"):
                for name, value in _SIZES.items():
                    yield f"{path} is {name}", kind, _set(path, value)
    for path in ("config.Labels", "author", "config.User", "os"):
        for name, make in _SPECIAL.items():
            yield f"{path} is {name}", "config", _set(path, make())


def _raw() -> Iterator[tuple[str, str, bytes]]:
    texts = {
        "nothing": b"",
        "not UTF-8": b'{"a": "\xff"}',
        "half of it": b'{"schemaVersion": 2',
        "NaN": b'{"size": NaN}',
        "a number of 5000 digits": b'{"size": ' + b"9" * 5000 + b"}",
        "deep": b'{"a":' * 100_000,
        "text after it": b"{} x",
        "a BOM": b"\xef\xbb\xbf{}",
        "UTF-16": "{}".encode("utf-16"),
        "an array": b"[]",
        "a key twice": b'{"manifests": [], "manifests": 1, "layers": [], "rootfs": {}}',
        "8 MB": b'{"a": "' + b"x" * (8 << 20) + b'"}',
    }
    for kind in _FIELDS:
        for name, text in texts.items():
            yield name, kind, text


IMAGES: dict[str, tuple[str, Change | bytes]] = {
    **{f"{kind}: {name}": (kind, change) for name, kind, change in _changes()},
    **{f"{kind}: {name}": (kind, text) for name, kind, text in _raw()},
}


def documents() -> dict[str, Any]:
    """The documents of an image of one layer; their descriptors are filled in by `written`."""
    return {
        "index": {
            "schemaVersion": 2,
            "mediaType": spec.INDEX,
            "manifests": [
                {
                    "mediaType": MANIFEST,
                    "platform": {"os": "linux", "architecture": "amd64", "variant": "v1"},
                    "annotations": {"a": "b"},
                }
            ],
            "annotations": {"a": "b"},
        },
        "manifest": {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": spec.CONFIG},
            "layers": [{"mediaType": spec.LAYER_GZIP, "digest": digest_of(_BLOB), "size": len(_BLOB), "urls": []}],
            "annotations": {"a": "b"},
        },
        "config": {
            "architecture": "amd64",
            "os": "linux",
            "variant": "v1",
            "created": "2024-01-01T00:00:00Z",
            "author": "x",
            "config": {
                "Env": ["A=b"], "Entrypoint": ["/x"], "Cmd": ["y"], "User": "1:2", "WorkingDir": "/",
                "ArgsEscaped": True,
                "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "Labels": {"a": "b"}, "StopSignal": "SIGINT",
                "Healthcheck": {"Test": ["CMD", "x"], "Interval": 10**9}, "Shell": ["/bin/sh", "-c"],
            },
            "rootfs": {"type": "layers", "diff_ids": [digest_of(LAYER)]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "x", "empty_layer": False}],
        },
    }  # fmt: skip


def written(kind: str, change: Change | bytes) -> dict[str, bytes]:
    """The files of a layout whose document of a kind is changed, or has other bytes; what names it is right."""
    made: dict[str, Any] = documents()
    holders: dict[str, dict[str, Any]] = {
        "config": made["manifest"]["config"],
        "manifest": made["index"]["manifests"][0],
        "index": {},
    }
    files = {f"blobs/sha256/{digest_of(_BLOB)[7:]}": _BLOB, "oci-layout": b"{}"}
    for name, holder in holders.items():
        if name == kind and not isinstance(change, bytes):
            change(made[name])
        data = change if name == kind and isinstance(change, bytes) else json.dumps(made[name]).encode()
        holder |= {"digest": digest_of(data), "size": len(data)}
        files["index.json" if name == "index" else f"blobs/sha256/{digest_of(data)[7:]}"] = data
    return files


def in_memory(files: Mapping[str, bytes]) -> Files:
    return Files(place="base", open=lambda name: io.BytesIO(files[name]))


def pulled(files: Files, cache: Path) -> Image:
    """The image of a layout, whose layers are all read."""
    image = pull(layout_source(files, ""), AMD64, Cache(cache), progress=Progress()).image
    merge(image.layers, lambda _: True)
    return append(image, (), (), image.config)


@pytest.mark.parametrize("name", IMAGES)
def test_image(name: str, tmp_path: Path, record_property: Record) -> None:
    files = written(*IMAGES[name])
    image = visit("images", name, lambda: pulled(in_memory(files), tmp_path), record_property)
    assert image is None or validate(image) == []


def _archive(*members: bytes) -> bytes:
    return b"".join(members) + END


def _archives() -> dict[str, bytes]:
    good = written("index", lambda _: None)
    rest = b"".join(file(name.encode(), data) for name, data in good.items() if name != "index.json")
    index = good["index.json"]
    return {
        **{f"number {name}": file(b"index.json", index) + rest + data for name, data in numbers().items()},
        "no index": _archive(rest),
        "an index that is a directory": _archive(file(b"index.json", kind=b"5"), rest),
        "an index that is a link to itself": _archive(file(b"index.json", kind=b"2", link=b"index.json"), rest),
        "an index that is a link out": _archive(file(b"index.json", kind=b"2", link=b"../../etc/passwd"), rest),
        "an index that is a link to it": _archive(file(b"i", index), file(b"index.json", kind=b"2", link=b"i"), rest),
        "an index that is a hard link": _archive(file(b"i", index), file(b"index.json", kind=b"1", link=b"i"), rest),
        "an index that is a hard link to nothing": _archive(file(b"index.json", kind=b"1", link=b"i"), rest),
        "an index that is a pipe": _archive(file(b"index.json", kind=b"6"), rest),
        "an index that is a device": _archive(file(b"index.json", kind=b"3"), rest),
        "a sparse index": _archive(old_sparse(b"%011o\0%011o\0" % (0, 3), b"%011o\0" % 3, b"index.json"), rest),
        "a sparse index of negative size": _archive(old_sparse(b"", b"\xff" * 12, b"index.json"), rest),
        "a sparse index of negative size in a record": _archive(
            pax(GNU__sparse__size=b"-5"), file(b"index.json", index), rest
        ),
        "an index twice": _archive(file(b"index.json", b"[]"), file(b"index.json", index), rest),
        "names with dots": _archive(*(file(b"./" + name.encode(), data) for name, data in good.items())),
        "absolute names": _archive(*(file(b"/" + name.encode(), data) for name, data in good.items())),
        "names that leave it": _archive(*(file(b"../" + name.encode(), data) for name, data in good.items())),
        "an index without an end": rest + block(b"index.json", size=b"%011o\0" % 9999) + index,
        "an index of another size": _archive(file(b"index.json", index, size=b"%011o\0" % 5), rest),
        "a wrong checksum": _archive(file(b"index.json", index), block(checksum=b"0000000\0"), rest),
        "gzip": gzip.compress(_archive(file(b"index.json", index), rest)),
        "half of gzip": gzip.compress(b"x" * 1000)[:50],
        "zeros": bytes(10_000),
        "text": b"FROM scratch\n" * 100,
        "nothing": b"",
        "GNU's format": _archive(file(b"index.json", index, magic=GNU), rest),
    }


ARCHIVES = _archives()


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive(name: str, tmp_path: Path, record_property: Record) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(ARCHIVES[name])
    image = visit("archives", name, lambda: pulled(open_files(path), tmp_path / "cache"), record_property)
    assert image is None or validate(image) == []


def _saved() -> dict[str, Any]:
    good = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}
    made: dict[str, Any] = {
        f"{key} is {name}": [{k: v for k, v in {**good, key: value}.items() if v is not _MISSING}]
        for key in good
        for name, value in _VALUES.items()
    }
    return {
        **made,
        "no image": [],
        "two images": [good, good],
        "an object": good,
        "a text": "x",
        "a number": 1,
        "an array in it": [[good]],
        "a path out of it": [{**good, "Config": "../../etc/passwd"}],
        "an absolute path": [{**good, "Layers": ["/etc/passwd"]}],
        "a layer twice": [{**good, "Layers": ["l.tar", "l.tar"]}],
        "a directory as layer": [{**good, "Layers": ["."]}],
        "no layers": [{**good, "Layers": []}],
        "an image of a wrong name": [{**good, "RepoTags": ["A B"]}],
        "a config that is a layer": [{**good, "Config": "l.tar"}],
    }


SAVED = _saved()


@pytest.mark.parametrize("name", SAVED)
def test_saved(name: str, tmp_path: Path, record_property: Record) -> None:
    config = json.dumps(documents()["config"]).encode()
    files = {"c.json": config, "l.tar": LAYER, "manifest.json": json.dumps(SAVED[name]).encode()}

    def read() -> Image:
        return pull_saved(in_memory(files), "", AMD64, Cache(tmp_path), progress=Progress()).image

    image = visit("saved", name, read, record_property)
    assert image is None or validate(image) == []


_COMPRESSED: Mapping[str, bytes] = {
    "nothing": b"",
    "half": _BLOB[: len(_BLOB) // 2],
    "no trailer": _BLOB[:-8],
    "another CRC": _BLOB[:-8] + bytes(4) + _BLOB[-4:],
    "another size": _BLOB[:-4] + b"\xff" * 4,
    "bytes after it": _BLOB + b"x" * 100,
    "zeros after it": _BLOB + bytes(100),
    "two members": gzip.compress(LAYER[:100], mtime=0) + gzip.compress(LAYER[100:], mtime=0),
    "an empty member": gzip.compress(b"", mtime=0) + _BLOB,
    "half a second member": _BLOB + _BLOB[:15],
    "another method": _BLOB[:2] + b"\7" + _BLOB[3:],
    "reserved flags": _BLOB[:3] + b"\xe0" + _BLOB[4:],
    "a name without an end": _BLOB[:3] + b"\x08" + _BLOB[4:10] + b"x" * 100,
    "an extra field without an end": _BLOB[:3] + b"\x04" + _BLOB[4:10] + b"\xff\xff",
    "a block of the reserved type": _BLOB[:10] + b"\7" + _BLOB[11:],
    "plain": LAYER,
    "zstd": bytes.fromhex("28b52ffd2000010000"),
    "a bomb": gzip.compress(bytes(200 << 20), 9, mtime=0),
}


@pytest.mark.parametrize("name", _COMPRESSED)
@pytest.mark.parametrize("kind", ["gzip", "zstd", "tar"])
def test_compressed(name: str, kind: str, tmp_path: Path, record_property: Record) -> None:
    blob, media_type = (
        _COMPRESSED[name],
        {"gzip": spec.LAYER_GZIP, "zstd": spec.LAYER_ZSTD, "tar": spec.LAYER_TAR}[kind],
    )

    def change(document: dict[str, Any]) -> None:
        document["layers"][0].update(digest=digest_of(blob), size=len(blob), mediaType=media_type)

    files = {**written("manifest", change), f"blobs/sha256/{digest_of(blob)[7:]}": blob}

    def read() -> Image:
        return pulled(in_memory(files), tmp_path)

    image = visit("compressed", f"{kind}: {name}", read, record_property)
    assert image is None or validate(image) == []


_HEADERS = {
    "no digest": {"Docker-Content-Digest": ""},
    "another digest": {"Docker-Content-Digest": "sha256:" + "a" * 64},
    "no valid digest": {"Docker-Content-Digest": "x" * 1000},
    "HTML": {"Content-Type": "text/html"},
    "no type": {"Content-Type": ""},
    "schema 1": {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"},
    "a type of 8 kB": {"Content-Type": "a/" + "b" * 8000},
}
_STATUSES = (201, 204, 206, 302, 304, 400, 401, 403, 404, 410, 418, 451)
_BODIES: Mapping[str, bytes] = {
    "nothing": b"",
    "HTML": b"<html>\x1b[2J" + b"x" * 10_000,
    "errors": b'{"errors": [{"code": "X", "message": "no\\u001b[2J"}]}',
    "errors that are none": b'{"errors": {"code": 1}}',
    "errors of numbers": b'{"errors": [1, null, {"code": [], "message": {}, "detail": 1}]}',
    "deep": b"[" * 100_000,
}


def _registry_answers() -> dict[str, tuple[int, Mapping[str, str], bytes]]:
    manifest = json.dumps({"schemaVersion": 2}).encode()
    made: dict[str, tuple[int, Mapping[str, str], bytes]] = {
        f"manifest with {name}": (200, {"Content-Type": MANIFEST, **headers}, manifest)
        for name, headers in _HEADERS.items()
    }
    for status in _STATUSES:
        made[f"status {status}"] = (status, {}, b"")
    for name, body in _BODIES.items():
        made[f"403 with {name}"] = (403, {"Content-Type": "application/json"}, body)
        made[f"200 with {name}"] = (200, {"Content-Type": MANIFEST}, body)
    challenges = (
        'Bearer realm="x"', "Bearer", 'Bearer realm="file:///etc/passwd"', "Digest x=y", "Basic", "," * 5000,
        "Negotiate",
        'Bearer realm="http://127.0.0.1:1/t",scope="\x7f"', 'Bearer realm=""',
    )  # fmt: skip
    for challenge in challenges:
        made[f"401 with {challenge[:40]!r}"] = (401, {"WWW-Authenticate": challenge}, b"")
    for location in ("", "x", "//", "file:///etc/passwd", "gopher://x", "http://", "http://["):
        made[f"307 to {location!r}"] = (307, {"Location": location}, b"")
    for after in ("-1", "x", "1e9", "Fri, 99 Zzz 2020", "nan"):
        made[f"404 after {after}"] = (404, {"Retry-After": after}, b"")
    return made


ANSWERS = _registry_answers()


@pytest.mark.parametrize("name", ANSWERS)
def test_registry(name: str, tmp_path: Path, record_property: Record) -> None:
    status, headers, body = ANSWERS[name]
    with FakeRegistry() as fake:
        fake.failures = [Failure(method, "/manifests/", status, 99, headers, body) for method in ("HEAD", "GET")]
        registry = Registry(Http(), credentials=Credentials(), insecure=frozenset({fake.host}))
        cache = Cache(tmp_path)

        def read() -> Image:
            reference = Reference.parse(f"{fake.host}/app:1")
            return pull(registry_source(registry, reference, cache), AMD64, cache, progress=Progress()).image

        visit("registries", name, read, record_property)
