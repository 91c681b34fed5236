from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.errors import ImageError
from hatch_docker.oci.compression import BATCH, batches_of
from hatch_docker.support.paths import parents, rooted
from hatch_docker.support.streams import CHUNK, Digester, chunks_of, digest_of, file_digest, reader, verified

PIECES = st.lists(st.binary(max_size=40), max_size=8)


def check(chunks: list[bytes], digest: str, size: int | None = None) -> Iterator[bytes]:
    return verified(chunks, digest, lambda actual: ImageError(f"not that but {actual}"), size=size)


@given(PIECES, st.sampled_from(["sha256", "sha512", "md5"]))
def test_every_digest_is_that_of_the_bytes(pieces: list[bytes], algorithm: str) -> None:
    data = b"".join(pieces)
    digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    digester = Digester(algorithm)
    assert list(digester.passing(pieces)) == pieces
    assert (digester.digest, digester.size) == (digest, len(data))
    assert digest_of(data, algorithm) == file_digest(io.BytesIO(data), algorithm) == digest
    assert list(check(pieces, digest)) == list(check(pieces, digest, len(data))) == pieces


@given(PIECES)
def test_another_digest_raises_after_the_last_chunk(pieces: list[bytes]) -> None:
    chunks = check(pieces, digest_of(b"".join(pieces) + b"more"))
    assert [next(chunks) for _ in pieces] == pieces
    with pytest.raises(ImageError, match=f"not that but {digest_of(b''.join(pieces))}"):
        next(chunks)


@pytest.mark.parametrize(("size", "yielded"), [(7, [b"abc"]), (3, [b"abc"]), (2, []), (9, [b"abc", b"efghi"])])
def test_another_size_raises_and_nothing_beyond_it_is_yielded(size: int, yielded: list[bytes]) -> None:
    chunks = check([b"abc", b"efghi"], digest_of(b"abcefghi"), size)
    assert [next(chunks) for _ in yielded] == yielded
    with pytest.raises(ImageError):
        next(chunks)


@given(PIECES, st.integers(1, 50))
def test_a_reader_gives_the_same_bytes_and_short_reads_only_at_the_end(pieces: list[bytes], size: int) -> None:
    file = reader(iter(pieces))
    reads = list(iter(lambda: file.read(size), b""))
    assert b"".join(reads) == b"".join(pieces)
    assert all(len(read) == size for read in reads[:-1])


def test_a_file_is_read_in_chunks() -> None:
    data = bytes(2 * CHUNK + 1)
    assert [len(chunk) for chunk in chunks_of(io.BytesIO(data))] == [CHUNK, CHUNK, 1]


@given(st.lists(st.sampled_from([0, 1, 1000, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH]), max_size=4))
def test_batches_do_not_depend_on_the_chunks(sizes: list[int]) -> None:
    lengths = [len(batch) for batch in batches_of(bytes(size) for size in sizes)]
    full, rest = divmod(sum(sizes), BATCH)
    assert lengths == [BATCH] * full + [rest] * bool(rest)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("", []), ("a", []), ("a/b", ["a"]), ("a b/.c/d", ["a b/.c", "a b"])],
)
def test_parents_come_innermost_first_without_the_root(path: str, expected: list[str]) -> None:
    assert list(parents(path)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/b", "a/b"), ("/a", "a"), ("//a", "a"), ("./a/", "a"), ("a/../b", "b"), ("../../a", "a"), ("..", ""), ("", "")],
)
def test_rooted_names_stay_below_the_root(name: str, expected: str) -> None:
    assert rooted(name) == expected
