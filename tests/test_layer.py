"""Layers: other tools read back what is written, and invalid entries are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many

from hatch_docker.errors import ContentError, DigestMismatchError, HatchDockerError, ImageError
from hatch_docker.oci import tar
from hatch_docker.oci.compression import COMPRESSIONS
from hatch_docker.oci.image import decompressed
from hatch_docker.oci.layer import Deflated, Entry, Layer, Plain, WriteOptions, Written, arrange, write_layer
from hatch_docker.oci.merging import merge
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.streams import CHUNK

TEXT = b"".join(b"line %d of a file that compresses\n" % number for number in range(20_000))
NOISE = random.Random(1).randbytes(700_000)


def deflated(data: bytes, **claims: int) -> Deflated:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return raw(compressor.compress(data) + compressor.flush(), data, **claims)


def raw(stream: bytes, data: bytes, **claims: int) -> Deflated:
    content = Deflated(
        size=len(data),
        compressed_size=len(stream),
        crc32=zlib.crc32(data),
        read=lambda offset, length: stream[offset : offset + length],
    )
    return replace(content, **claims)  # type: ignore[arg-type]


def plain(data: bytes) -> Plain:
    return Plain(size=len(data), read=lambda offset, length: data[offset : offset + length])


def sha256(data: bytes) -> tuple[str, bytes]:
    return "sha256", hashlib.sha256(data).digest()


SAMPLE = (
    Entry(path="app/text.txt", content=deflated(TEXT), checksum=sha256(TEXT)),
    Entry(path="app/noise.bin", content=deflated(NOISE), checksum=("sha512", hashlib.sha512(NOISE).digest())),
    Entry(path="app/small.py", content=deflated(b"import this\n"), mode=0o755),
    Entry(path="app/stored", content=plain(TEXT[:300_001]), checksum=sha256(TEXT[:300_001])),
    Entry(path="app/memory", content=b"m" * 3_000_000, checksum=sha256(b"m" * 3_000_000)),
    Entry(path="app/empty", content=b"", checksum=sha256(b"")),
    Entry(path="app/empty-stream", content=deflated(b"")),
    Entry(path="app/nothing", mode=0o1777),
    Entry(path="bin/python", link="/usr/local/bin/python3.13"),
    Entry(path="home/user/.profile", content=b"umask 022\n", uid=1000, gid=100),
    Entry(path=f"{'d' * 90}/{'e' * 90}/{'f' * 90}", content=b"prefix"),
    Entry(path=f"{'n' * 200}/{'m' * 200}.py", content=deflated(TEXT)),
    Entry(path="naïve/日本語.txt", content=b"pax", uid=3_000_000),
    Entry(path="long-link", link="../" * 60 + "ü"),
)


@dataclass(frozen=True)
class Member:
    path: str
    type: bytes
    mode: int
    owner: tuple[int, int]
    link: str
    data: bytes


def expected(entries: Sequence[Entry], contents: Callable[[Entry], bytes]) -> list[Member]:
    members = []
    for entry in arrange(entries):
        kind = tarfile.SYMTYPE if entry.link else tarfile.DIRTYPE if entry.content is None else tarfile.REGTYPE
        mode = 0o777 if entry.link else entry.mode
        owner = (entry.uid, entry.gid)
        members.append(Member(entry.path, kind, mode, owner, entry.link, contents(entry)))
    return members


def sample_content(entry: Entry) -> bytes:
    if isinstance(entry.content, Plain):
        return entry.content.read(0, entry.content.size)
    if isinstance(entry.content, Deflated):
        return zlib.decompress(entry.content.read(0, entry.content.compressed_size), -15)
    return entry.content or b""


def read_back(archive: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as file:
        read = []
        for info in file:
            assert info.mtime == tar.MTIME
            assert (info.uname, info.gname) == ("", "")
            content = file.extractfile(info) if info.isreg() else None
            data = content.read() if content else b""
            read.append(Member(info.name, info.type, info.mode, (info.uid, info.gid), info.linkname, data))
    return read


def write(
    entries: Sequence[Entry], compression: str = "gzip", *, splice: bool = True, threads: int = 1
) -> tuple[bytes, Written]:
    out = io.BytesIO()
    written = write_layer(entries, out, WriteOptions(compression=compression, splice=splice, threads=threads))
    return out.getvalue(), written


def unpack(blob: bytes, written: Written) -> bytes:
    return b"".join(decompressed(iter([blob]), written.descriptor.media_type))


class TestWriting:
    @pytest.mark.parametrize("splice", [True, False])
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_tarfile_reads_the_entries_back(self, compression: str, splice: bool) -> None:
        blob, written = write(SAMPLE, compression, splice=splice)
        archive = unpack(blob, written)
        assert read_back(archive) == expected(SAMPLE, sample_content)
        assert written.descriptor.digest == "sha256:" + hashlib.sha256(blob).hexdigest()
        assert written.descriptor.size == len(blob)
        assert written.diff_id == "sha256:" + hashlib.sha256(archive).hexdigest()
        assert written.unpacked == len(archive)

    def test_diff_id_does_not_depend_on_compression(self) -> None:
        assert (
            len({write(SAMPLE, name, splice=splice)[1].diff_id for name in COMPRESSIONS for splice in (True, False)})
            == 1
        )

    def test_copies_large_streams_unchanged(self) -> None:
        content = deflated(TEXT)
        blob, _ = write([Entry(path="text", content=content)])
        stream = content.read(0, content.compressed_size)
        assert stream in blob
        assert stream not in write([Entry(path="text", content=content)], splice=False)[0]
        assert stream not in write([Entry(path="text", content=content)], "zstd")[0]

    def test_compresses_small_files_together(self) -> None:
        files = [(f"{number:04}.py", TEXT[number : number + 900]) for number in range(500)]
        blob, _ = write([Entry(path=path, content=deflated(data)) for path, data in files])
        assert len(blob) < sum(deflated(data).compressed_size for _, data in files) / 2

    def test_gzip_single_is_a_single_member(self) -> None:
        blob, written = write(SAMPLE, "gzip-single")
        inflater = zlib.decompressobj(31)
        assert len(inflater.decompress(blob)) == written.unpacked
        assert inflater.eof
        assert not inflater.unused_data

    def test_empty_layer_is_a_valid_archive(self) -> None:
        blob, written = write([])
        assert read_back(gzip.decompress(blob)) == []
        assert written.unpacked == 1024

    def test_progress_counts_every_plain_byte(self) -> None:
        counts: list[int] = []
        written = write_layer(SAMPLE, io.BytesIO(), advance=counts.append)
        assert sum(counts) == written.unpacked

    def test_unknown_compression_is_an_error_with_all_names(self) -> None:
        with pytest.raises(ImageError, match="gzip-single"):
            write(SAMPLE, "lzma")


class TestOtherReaders:
    def test_gzip_and_gnu_tar(self, tmp_path: Path) -> None:
        if not (shutil.which("gzip") and shutil.which("tar")):
            pytest.skip("no gzip or tar")
        blob, _ = write(SAMPLE)
        file = tmp_path / "layer.tar.gz"
        file.write_bytes(blob)
        subprocess.run(["gzip", "-t", file], check=True)
        assert subprocess.run(["gzip", "-dc", file], check=True, capture_output=True).stdout == gzip.decompress(blob)
        listing = subprocess.run(
            ["tar", "--quoting-style=literal", "-tzf", file],
            check=True,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert not listing.stderr
        names = [name.removesuffix("/") for name in listing.stdout.decode().splitlines()]
        assert names == [entry.path for entry in arrange(SAMPLE)]


class TestDeterminism:
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_order_does_not_matter(self, compression: str) -> None:
        shuffled = random.Random(2).sample(SAMPLE, len(SAMPLE))
        assert write(shuffled, compression)[0] == write(SAMPLE, compression)[0]

    def test_chunk_sizes_do_not_matter(self) -> None:
        whole = Entry(path="file", content=NOISE * 4)
        pieces = replace(whole, content=plain(NOISE * 4))
        stream = replace(whole, content=deflated(NOISE * 4))
        assert write([whole])[0] == write([pieces])[0] == write([stream], splice=False)[0]

    def test_concurrent_writers_do_not_matter(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            blobs = set(pool.map(lambda _: write(SAMPLE)[0], range(8)))
        assert blobs == {write(SAMPLE)[0]}

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("splice", [True, False])
    def test_number_of_threads_does_not_matter(self, compression: str, splice: bool) -> None:
        # Many batches, some slower than the following ones, with streams between them.
        mixed = [Entry(path=f"{number}", content=(NOISE, bytes(NOISE))[number % 2] * 2) for number in range(6)]
        entries = [*SAMPLE, *mixed]
        one = write(entries, compression, splice=splice)
        for threads in (2, 5):
            assert write(entries, compression, splice=splice, threads=threads) == one

    def test_process_does_not_matter(self) -> None:
        program = "import sys, test_layer; sys.stdout.write(test_layer.write(test_layer.SAMPLE)[1].descriptor.digest)"
        digests = {
            subprocess.run(
                [sys.executable, "-W", "error", "-c", program],
                cwd=Path(__file__).parent,
                env={
                    **os.environ,
                    "PYTHONHASHSEED": seed,
                    "TZ": zone,
                    "LC_ALL": locale,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                },
                check=True,
                capture_output=True,
            ).stdout.decode()
            for seed, zone, locale in (("1", "Asia/Tokyo", "C"), ("2", "Etc/GMT+12", "C.UTF-8"))
        }
        assert digests == {write(SAMPLE)[1].descriptor.digest}

    def test_fingerprint_differs_for_options_that_shape_bytes(self) -> None:
        shapes = [WriteOptions(compression=name, splice=splice) for name in COMPRESSIONS for splice in (True, False)]
        assert len({options.fingerprint for options in shapes}) == len(shapes)
        assert WriteOptions(threads=1).fingerprint == WriteOptions(threads=2).fingerprint


class TestDirectories:
    def test_parents_are_written_once_before_their_entries(self) -> None:
        entries = arrange(
            [Entry(path="a/b/c", content=b""), Entry(path="a/b/d", content=b""), Entry(path="a-b", content=b"")]
        )
        assert [entry.path for entry in entries] == ["a", "a-b", "a/b", "a/b/c", "a/b/d"]
        assert {entry.mode for entry in entries if entry.is_directory} == {0o755}

    def test_directory_with_an_entry_keeps_its_mode(self) -> None:
        private = Entry(path="a/b", mode=0o700, uid=7)
        entries = arrange([Entry(path="a/b/c", content=b""), private, private])
        assert [(entry.path, entry.mode, entry.uid) for entry in entries[:2]] == [("a", 0o755, 0), ("a/b", 0o700, 7)]


class TestRefusedPaths:
    @pytest.mark.parametrize(
        "path",
        ["", "/", "/etc/passwd", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "./a", "a/..", "a\0b", "\udc80"],
    )
    def test_paths_that_are_not_in_normal_form(self, path: str) -> None:
        with pytest.raises(ImageError):
            write([Entry(path=path, content=b"")])

    @pytest.mark.parametrize("path", [".wh.passwd", "etc/.wh..wh..opq", ".wh.d/file"])
    def test_whiteout_names(self, path: str) -> None:
        with pytest.raises(ImageError, match="delete"):
            write([Entry(path=path, content=b"")])

    @pytest.mark.parametrize(
        "pair",
        [
            (Entry(path="a", content=b"1"), Entry(path="a", content=b"2")),
            (Entry(path="a", content=b"1"), Entry(path="a")),
            (Entry(path="a", link="b"), Entry(path="a", content=b"")),
            (Entry(path="a", mode=0o755), Entry(path="a", mode=0o700)),
            (Entry(path="a", content=b"1"), Entry(path="a/b", content=b"2")),
            (Entry(path="a", link="/etc"), Entry(path="a/b/c", content=b"2")),
        ],
    )
    def test_clashes(self, pair: tuple[Entry, Entry]) -> None:
        for entries in (pair, pair[::-1]):
            with pytest.raises(ImageError, match="'a'"):
                write(entries)

    def test_links_that_archives_cannot_hold(self) -> None:
        with pytest.raises(ImageError, match="NUL"):
            write([Entry(path="a", link="b\0c")])

    def test_negative_owner(self) -> None:
        with pytest.raises(ImageError, match="negative"):
            write([Entry(path="a", content=b"", uid=-1)])


def merged(*layers: Sequence[Entry]) -> dict[str, str]:
    """The merged layers, lowest first: each path and its kind."""
    stack = []
    for entries in layers:
        blob, written = write(entries)
        opener = partial(io.BytesIO, blob)
        stack.append(Layer(descriptor=written.descriptor, diff_id=written.diff_id, open=opener))
    return {path: node.kind for path, node in merge(stack, lambda _: False).nodes.items()}


class TestRemoval:
    BELOW = (
        Entry(path="etc/a", content=b"1"),
        Entry(path="etc/b", content=b"2"),
        Entry(path="opt/lib/x", content=b"3"),
    )

    def test_removes_the_path_and_nothing_else(self) -> None:
        above = [Entry(path="etc/a", removed=True), Entry(path="opt/lib", removed=True)]
        assert merged(self.BELOW, above) == {"etc": "dir", "etc/b": "file", "opt": "dir"}

    def test_whiteout_is_an_empty_file_with_the_specified_name(self) -> None:
        blob, written = write([Entry(path="etc/a", removed=True), Entry(path="top", removed=True)])
        members = read_back(unpack(blob, written))
        assert [(each.path, each.type, each.data) for each in members] == [
            (".wh.top", tarfile.REGTYPE, b""),
            ("etc", tarfile.DIRTYPE, b""),
            ("etc/.wh.a", tarfile.REGTYPE, b""),
        ]

    def test_members_are_sorted(self) -> None:
        entries = [Entry(path="d/b", removed=True), Entry(path="d/a", content=b""), Entry(path="d/-", content=b"")]
        assert [entry.path for entry in arrange(entries)] == ["d", "d/-", "d/.wh.b", "d/a"]

    @pytest.mark.parametrize("path", ["", "/etc/a", "../a", "etc/.wh.a", ".wh..wh..opq"])
    def test_paths_that_cannot_be_removed(self, path: str) -> None:
        with pytest.raises(ImageError):
            write([Entry(path=path, removed=True)])

    @pytest.mark.parametrize("other", [Entry(path="a", content=b""), Entry(path="a"), Entry(path="a/b", content=b"")])
    def test_path_is_not_both_removed_and_added(self, other: Entry) -> None:
        for entries in ([Entry(path="a", removed=True), other], [other, Entry(path="a", removed=True)]):
            with pytest.raises(ImageError, match="'a' would be in one layer"):
                write(entries)


def damaged(data: bytes) -> dict[str, Deflated]:
    stream = deflated(data).read(0, 1 << 30)
    trailer = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    return {
        "lying CRC": deflated(data, crc32=1),
        "smaller than it says": deflated(data, size=len(data) + 1),
        "larger than it says": deflated(data, size=len(data) - 1),
        "truncated": raw(stream[:-1], data),
        "nothing": raw(b"", data),
        "shorter than it says": raw(stream, data, compressed_size=len(stream) + 10),
        "one byte after its end": raw(stream + b"\0", data),
        "a gzip trailer after its end": raw(stream + trailer, data),
        "a gzip trailer and more after its end": raw(stream + trailer + trailer[:4], data),
        "a chunk after its end": raw(stream + bytes(1 << 20), data),
        "not DEFLATE": raw(b"\xff" * len(stream), data),
        "a bit is wrong": raw(stream[:9] + bytes([stream[9] ^ 4]) + stream[10:], data),
    }


SIZES = {"stream": TEXT, "spliced": TEXT[:100_000], "batched": TEXT[:5000]}
DAMAGED = {f"{size}, {what}": content for size, data in SIZES.items() for what, content in damaged(data).items()}


class TestDamage:
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
    def test_damaged_streams(self, content: Deflated, compression: str) -> None:
        with pytest.raises(ContentError, match=r"'app/module\.so' is damaged"):
            write([Entry(path="app/module.so", content=content)], compression)

    def test_error_ends_the_threads(self) -> None:
        before = threading.active_count()
        damaged = Entry(path="z", content=replace(plain(TEXT), size=len(TEXT) + 1))
        with pytest.raises(ContentError, match="ends early"):
            write([Entry(path="a", content=NOISE * 9), damaged], threads=3)
        assert threading.active_count() == before

    def test_bytes_after_a_stream_that_ends_with_a_chunk(self) -> None:
        def stored(size: int) -> bytes:
            compressor = zlib.compressobj(0, zlib.DEFLATED, -15)
            return compressor.compress(NOISE[:size]) + compressor.flush()

        size = next(size for size in range(CHUNK, 0, -1) if len(stored(size)) == CHUNK)
        write([Entry(path="a", content=raw(stored(size), NOISE[:size]))])
        with pytest.raises(ContentError, match="other bytes after"):
            write([Entry(path="a", content=raw(stored(size) + b"more", NOISE[:size]))])

    def test_bombs_are_inflated_to_their_claimed_size_only(self) -> None:
        counts: list[int] = []
        bomb = deflated(bytes(50_000_000), size=1_000_000)
        with pytest.raises(ContentError, match="more than its 1000000 bytes"):
            write_layer([Entry(path="bomb", content=bomb)], io.BytesIO(), advance=counts.append)
        assert sum(counts) <= 1_000_000 + 1024

    def test_truncated_plain_content(self) -> None:
        with pytest.raises(ContentError, match="ends early"):
            write([Entry(path="a", content=replace(plain(TEXT), size=len(TEXT) + 1))])

    @pytest.mark.parametrize(
        "content", [TEXT, plain(TEXT), deflated(TEXT), deflated(b"small")], ids=["memory", "plain", "large", "small"]
    )
    def test_wrong_checksums(self, content: bytes | Plain | Deflated) -> None:
        with pytest.raises(DigestMismatchError, match="'a/b' has the wrong content"):
            write([Entry(path="a/b", content=content, checksum=sha256(b"something else"))])

    @given(data=st.data())
    def test_mutated_stream_gives_the_same_layer_or_an_error(self, data: st.DataObject) -> None:
        text = data.draw(st.sampled_from(list(SIZES.values())))
        stream = bytearray(deflated(text).read(0, 1 << 30))
        for _ in range(data.draw(st.integers(1, 3))):
            stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
        entry = Entry(path="a", content=raw(bytes(stream), text), checksum=sha256(text))
        try:
            blob, written = write([entry])
        except HatchDockerError:
            return
        assert written.diff_id == write([Entry(path="a", content=text)])[1].diff_id
        assert gzip.decompress(blob)[512 : 512 + len(text)] == text


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=120).filter(
    lambda name: name not in {".", ".."} and not name.startswith(".wh.")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
SHAPES = st.sampled_from([deflated, plain, bytes])
FILES = st.builds(
    lambda path, data, shape, mode, uid, gid: (
        Entry(path=path, content=shape(data), mode=mode, uid=uid, gid=gid),
        data,
    ),
    PATHS,
    st.binary(max_size=2000) | st.binary(min_size=1, max_size=5).map(lambda seed: seed * 20_000),
    SHAPES,
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
LINKS = st.builds(lambda path, link: (Entry(path=path, link=link), b""), PATHS, NAMES | PATHS)
FOLDERS = st.builds(lambda path: (Entry(path=path, mode=0o750), b""), PATHS)


@settings(max_examples=many(24))
@given(
    pairs=st.lists(FILES | LINKS | FOLDERS, max_size=8, unique_by=lambda pair: pair[0].path),
    compression=st.sampled_from(list(COMPRESSIONS)),
)
def test_entries_round_trip(pairs: list[tuple[Entry, bytes]], compression: str) -> None:
    contents = {entry.path: data for entry, data in pairs}
    entries = [entry for entry, _ in pairs]
    try:
        blob, written = write(entries, compression)
    except ImageError:
        files = {entry.path for entry in entries if not entry.is_directory}
        assert any(other.path.startswith(f"{path}/") for path in files for other in entries)
        return
    assert read_back(unpack(blob, written)) == expected(entries, lambda entry: contents.get(entry.path, b""))
    assert write(entries[::-1], compression)[0] == blob


class TestHeaders:
    @pytest.mark.parametrize("size", [0, 2**32 - 1, 2**32, 8 * 2**30 - 1, 8 * 2**30, 2**50])
    def test_sizes_of_any_magnitude(self, size: int) -> None:
        blocks = tar.Header("big", tar.FILE, 0o644, size).to_bytes()
        with tarfile.open(fileobj=io.BytesIO(blocks), mode="r:") as file:
            info = file.next()
        assert info is not None
        assert (info.name, info.size) == ("big", size)
        assert len(blocks) == (512 if size < 8 * 2**30 else 3 * 512)

    @pytest.mark.parametrize("length", [1, 99, 100, 101, 155, 156, 255, 256, 257, 300, 1000])
    @pytest.mark.parametrize("step", [1, 7, 50, 100, 120, 2000])
    def test_paths_of_any_length(self, length: int, step: int) -> None:
        path = "".join("/" if at % step == step - 1 else "x" for at in range(length)).strip("/") or "x"
        for kind in (tar.FILE, tar.DIRECTORY):
            with tarfile.open(fileobj=io.BytesIO(tar.Header(path, kind, 0o755).to_bytes()), mode="r:") as file:
                assert file.getnames() == [path]

    def test_path_that_ustar_can_split_needs_no_extended_header(self) -> None:
        assert len(tar.Header(f"{'a' * 155}/{'b' * 100}", tar.FILE, 0o644).to_bytes()) == 512
        assert len(tar.Header(f"{'a' * 156}/{'b' * 100}", tar.FILE, 0o644).to_bytes()) > 512

    def test_zipfile_accepts_the_time_in_every_time_zone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import time

        monkeypatch.setenv("TZ", "Etc/GMT+12")
        time.tzset()
        try:
            assert time.localtime(tar.MTIME)[:3] == (1980, 1, 1)
        finally:
            monkeypatch.undo()
            time.tzset()


class Sink(io.RawIOBase):
    """Discards everything."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return len(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1, 4])
def test_memory_does_not_depend_on_the_content(threads: int) -> None:
    import tracemalloc

    size = 64 << 20
    data = bytes(1 << 18)
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    stream = b"".join([compressor.compress(data) for _ in range(size // len(data))]) + compressor.flush()
    content = replace(raw(stream, b""), size=size, crc32=zlib.crc32(bytes(size)))
    entries = [
        Entry(path="spliced", content=content),
        Entry(path="plain", content=Plain(size=size, read=lambda offset, length: data[:length])),
    ]
    tracemalloc.start()
    try:
        write_layer(entries, Sink(), WriteOptions(threads=threads))  # type: ignore[arg-type]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
