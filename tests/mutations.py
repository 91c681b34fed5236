"""Repeatable random damage to bytes and texts, accidental and malicious."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from random import Random

# HATCH_DOCKER_TEST_FUZZ multiplies the number of examples; HATCH_DOCKER_TEST_SEED selects others.
_TIMES = float(os.environ.get("HATCH_DOCKER_TEST_FUZZ", "1"))
_SEED = os.environ.get("HATCH_DOCKER_TEST_SEED", "0")
_NUMBERS = (b"0", b"-1", b"1", b"9" * 12, b"9" * 5000, b"18446744073709551616", b"0x10", "٣".encode())
_ODD = (b"\0", b"\xff", b"\xed\xa0\x80", b"\r", b"\n", b"\n\n", b" ", b"\t", b"../", b"/", b"\x1b[2J", b"%s", b"\x80")


def many(count: int) -> int:
    """The number of examples for a property that has `count` by default."""
    return max(int(count * _TIMES), 1)


def rounds(count: int, what: str) -> Iterator[Random]:
    """`many(count)` random generators, always the same ones for `what` and a seed."""
    for number in range(many(count)):
        yield Random(f"{_SEED} {what} {number}")


def mutated(data: bytes, random: Random, pieces: Sequence[bytes] = ()) -> bytes:
    """`data` after one to four changes; `pieces` are inserted, as are bytes that are odd in any format."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(_CHANGES)(data, random, (*_ODD, *pieces))
    return data


def _flip(data: bytes, random: Random, _pieces: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _insert(data: bytes, random: Random, pieces: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(pieces) + data[at:]


def _replace(data: bytes, random: Random, pieces: Sequence[bytes]) -> bytes:
    at, piece = random.randint(0, len(data)), random.choice(pieces)
    return data[:at] + piece + data[at + len(piece) :]


def _cut(data: bytes, random: Random, _pieces: Sequence[bytes]) -> bytes:
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    return random.choice((data[:start], data[start:], data[:start] + data[end:]))


def _double(data: bytes, random: Random, _pieces: Sequence[bytes]) -> bytes:
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    return data[:end] + data[start:end] + data[end:]


def _lines(data: bytes, random: Random, _pieces: Sequence[bytes]) -> bytes:
    """Delete, repeat, swap or change a line, or give it the end of another one."""
    lines = data.split(b"\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            del lines[one]
        case 1:
            lines.insert(other, lines[one])
        case 2:
            lines[one], lines[other] = lines[other], lines[one]
        case 3:
            first, second = lines[one].partition(b":"), lines[other].partition(b":")
            lines[one] = first[0] + first[1] + second[2]
        case _:
            lines[one] += random.choice((b"\r", b" ", b"\t", b"\0", b"\n ", b"\n.", b"\\"))
    return b"\n".join(lines)


def _number(data: bytes, random: Random, _pieces: Sequence[bytes]) -> bytes:
    digits = [at for at, each in enumerate(data) if 48 <= each <= 57]
    if not digits:
        return data
    start = end = random.choice(digits)
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    return data[:start] + random.choice(_NUMBERS) + data[end:]


_CHANGES: Sequence[Callable[[bytes, Random, Sequence[bytes]], bytes]] = (
    _flip,
    _flip,
    _insert,
    _replace,
    _cut,
    _double,
    _lines,
    _lines,
    _number,
)
