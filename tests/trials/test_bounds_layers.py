"""A zoo of hostile layers: each is refused with a reason, or read in steps that are linear in its bytes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from hatch_docker.base.facts import links_of
from hatch_docker.errors import ImageError
from hatch_docker.oci import merging, spec
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.layout import open_files
from hatch_docker.oci.members import members, open_stream
from hatch_docker.oci.merging import merge
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.paths import parents
from hatch_docker.support.streams import digest_of

END = bytes(1024)


def header(size: int, kind: bytes = tarfile.REGTYPE, name: str = "x", *, more: bool = False) -> bytes:
    """A header that claims a size of any sign; `more` says that a sparse file's map goes on in the next block."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (b"\x80" if size >= 0 else b"\xff") + (size % 256**11).to_bytes(11, "big")
    block[482] = more
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(body: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header(len(body), kind) + body + bytes(-len(body) % 512)


def record(key: str, value: bytes) -> bytes:
    text = b" " + key.encode() + b"=" + value + b"\n"
    size = len(text) + len(str(len(text)))
    size = len(text) + len(str(size))
    return str(size).encode() + text


def tar_of(*entries: tuple[str, str]) -> bytes:
    """Empty files, or links to a target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, target in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.REGTYPE, "")
            archive.addfile(info)
    return out.getvalue()


def layer_of(data: bytes) -> Layer:
    digest = digest_of(data)
    descriptor = Descriptor(media_type=spec.LAYER_TAR, digest=digest, size=len(data))
    return Layer(descriptor=descriptor, diff_id=digest, open=lambda: io.BytesIO(data))


def read(*layers: bytes) -> Filesystem:
    return merge(map(layer_of, layers), lambda _path: True)


AFTER = header(0) + END
LIES = {
    "2**40 bytes": (header(2**40) + END, "unexpected end of data"),
    "nearly 2**63 bytes": (header(2**63 - 600) + END, "unexpected end of data"),
    "2**80 bytes": (header(2**80) + END, "too large a number"),
    "-1 byte": (header(-1) + END, "negative size"),
    "-512 bytes": (header(-512) + END, "negative size"),
    "a long name of 2**62 bytes": (header(2**62, tarfile.GNUTYPE_LONGNAME) + END, "a header of"),
    "a negative long name": (header(-(2**20), tarfile.GNUTYPE_LONGNAME) + END, "negative size"),
    "a record of 2**62 bytes": (extended(record("size", b"%d" % 2**62)) + AFTER, "unexpected end of data"),
    "a record of -512 bytes": (extended(record("size", b"-512")) + AFTER, "malformed size"),
    "a record of many digits": (extended(record("size", b"9" * 10_000)) + AFTER, "malformed size"),
    "a record longer than its header": (extended(b"99 path=a\n") + AFTER, "invalid extended header"),
    "a record without a length": (extended(b"1" * (1 << 20)) + AFTER, "invalid extended header"),
    "a record of length 0": (extended(b"0 path=a\n") + AFTER, "invalid extended header"),
    "a NUL in a name": (extended(record("path", b"a\0b")) + AFTER, "a NUL"),
    "many headers for one file": (extended(record("a", b"b")) * 2000 + AFTER, "recursion"),
    "an endless old map": (header(0, tarfile.GNUTYPE_SPARSE, more=True), "the unknown kind b'S'"),
    "a name of 256 bytes": (tar_of(("b" * 256, "")), "a name of more than 255 bytes"),
    "a name of 256 bytes, not ASCII": (tar_of(("ü" * 128, "")), "a name of more than 255 bytes"),
    "a path of 4096 bytes": (tar_of(("a/" * 2048, "")), "too long a path"),
    "a target of 4096 bytes": (tar_of(("a", "b" * 4096)), "too long a path"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_layer_that_lies_is_refused(name: str) -> None:
    data, reason = LIES[name]
    with pytest.raises(ImageError, match=reason) as caught:
        read(data)
    assert f"layer {digest_of(data)} cannot be read" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in LIES if "bytes" in name])
def test_an_archive_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(LIES[name][0])
    with pytest.raises(ImageError) as caught:
        open_files(path).read("index.json")
    assert caught.value.place == str(path)


def test_the_longest_names_are_read() -> None:
    path = "/".join(["a" * 255] * 15)
    assert {path, "l"} <= read(tar_of((path, ""), ("l", "b" * 4095))).nodes.keys()


@pytest.mark.parametrize(
    "records",
    [
        record("GNU.sparse.major", b"1") + record("GNU.sparse.minor", b"0"),
        record("GNU.sparse.map", b"0,1") + record("GNU.sparse.realsize", b"9" * 18),
        record("GNU.sparse.size", b"9" * 18) + record("GNU.sparse.numblocks", b"1"),
    ],
)
def test_nothing_is_allocated_for_sparse_files(records: bytes) -> None:
    with pytest.raises(ImageError, match="it has a sparse file"):
        read(extended(records) + header(8) + b"9999999\n".ljust(512, b"\0") + END)


class Counting(io.RawIOBase):
    """A file of some bytes that counts the reads."""

    def __init__(self, data: bytes) -> None:
        self.file, self.reads = io.BytesIO(data), 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        return self.file.read(size)


@pytest.mark.parametrize("size", [2**33, 2**63 - 600])
def test_no_claimed_byte_is_waited_for(size: int) -> None:
    file = Counting(header(size) + END)
    with open_stream(file) as tar, pytest.raises(tarfile.ReadError):
        list(members(tar, most=9))
    assert file.reads < 10


def steps_of(monkeypatch: pytest.MonkeyPatch, *layers: bytes) -> int:
    """How many directories are looked at to merge layers."""
    count = 0

    def counted(path: str) -> Iterable[str]:
        nonlocal count
        for each in parents(path):
            count += 1
            yield each

    monkeypatch.setattr(merging, "parents", counted)
    read(*layers)
    return count


def test_a_deep_directory_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "/".join("a" * 300)
    few, many = (tar_of(*((f"{deep}/{number}", "") for number in range(count))) for count in (10, 40))
    assert steps_of(monkeypatch, few) <= 320
    assert steps_of(monkeypatch, many) <= 350
    assert steps_of(monkeypatch, many, tar_of((f"{deep}/.wh.1", ""))) <= 350


def test_the_paths_of_an_image_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "_MAX_PATHS", 100_000)
    deep = ["/".join([each] * 300) for each in "abc"]
    assert read(tar_of((deep[0], ""))).nodes
    for layers in ([tar_of(*((path, "") for path in deep))], [tar_of((path, "")) for path in deep]):
        with pytest.raises(ImageError, match="too many files"):
            read(*layers)


@pytest.mark.parametrize(
    "target", ["l{}", "../usr/lib/l{}", "/usr/lib/l{}", "../lib/" * 500 + "l{}", "/" + "a/" * 2000]
)
def test_a_link_takes_a_limited_number_of_steps(target: str) -> None:
    class Nodes(dict):  # type: ignore[type-arg]
        asked = 0

        def get(self, key: object, default: object = None) -> object:
            self.asked += 1
            return super().get(key, default)

    links = [(f"usr/lib/l{number}", target.format(number + 1)) for number in range(100)]
    nodes = Nodes(read(tar_of(*links)).nodes)
    assert links_of(Filesystem(nodes)) == {}
    assert nodes.asked <= 100 * 301


def test_a_link_of_a_lower_layer_to_a_deep_directory_is_followed_in_linear_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deep = "/".join("a" * 200)
    links, files = (
        tar_of(*((f"l{each}", f"/{deep}{each}") for each in range(9))),
        tar_of(*((f"l{each}/f", "") for each in range(9))),
    )
    assert f"{deep}8/f" in read(links, files).nodes
    assert steps_of(monkeypatch, links, files) < 10 * 200 * 2
