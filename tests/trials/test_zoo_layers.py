"""A zoo of layers: each is refused, or listed as the engine unpacks it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tars import END, GNU, block, file, layer_of, numbers, pax, record
from zoo import Record, visit

from hatch_docker.oci.merging import merge

_AFTER = file(b"after") + END


def _members() -> Mapping[str, bytes]:
    made = {
        "nothing": b"",
        "one zero block": bytes(512),
        "a file without an end": file(),
        "half a header": file() + block()[:100],
        "half a padding": file() + bytes(700),
        "a wrong checksum at the start": block(checksum=b"0000000\0") + _AFTER,
        "a wrong checksum later": file() + block(checksum=b"0000000\0") + _AFTER,
        "a checksum of letters": file() + block(checksum=b"letters\0") + _AFTER,
        "random bytes later": file() + b"\1\2\3" * 1000,
        "files after a lone zero block": file() + bytes(512) + _AFTER,
        "files after the end": file() + END + _AFTER,
        "half of the content": file(b"x", b"a" * 5000)[:3000],
        "no padding": file(b"x", b"a" * 600)[:1112],
        "a magic of another format": block(magic=b"pax  \0\0\0") + _AFTER,
        "no magic": block(magic=b"") + _AFTER,
    }
    made |= {f"kind {bytes([kind])!r}": file(b"x", b"", bytes([kind])) + _AFTER for kind in b"\0347ASVMDNXEZ\xff"}
    made |= {f"content of a {what}": file(b"x", b"a" * 600, kind, link=b"a") + _AFTER for what, kind in _KINDS.items()}
    return made


_KINDS = {"link": b"2", "device": b"3", "block device": b"4", "directory": b"5", "pipe": b"6", "hard link": b"1"}
_PAX = {
    "path": (b"", b"..", b"/", b"a/../../b", b"a\0b", b"\xff", b"a//b/", b"a\nb", b"b" * 300, b".", b"/etc/x"),
    "linkpath": (b"", b"a\0b", b"\xff", b"b" * 5000),
    "size": (b"", b"-1", b"+1", b"0x1", b"1.5", b"1e3", b" 1", b"1_0", b"9" * 19, b"9" * 25, b"\xd9\xa3"),
    "uid": (b"", b"x", b"-1", b"1.5", b"9" * 12, b"9" * 30, b"9" * 5000),
    "gid": (b"", b"x", b"-1", b"9" * 30),
    "mtime": (b"", b"x", b"-1", b"1.5", b"1e9", b"nan", b"inf", b"1.", b".5", b"1.5.5", b"9" * 30, b"1_0"),
    "atime": (b"x", b"1.5", b"nan"),
    "ctime": (b"x", b"1.5"),
    "uname": (b"a\0b", b"\xff"),
    "gname": (b"a\0b",),
    "hdrcharset": (b"BINARY", b"x"),
    "SCHILY.xattr.user.x": (b"a\0b", b"y" * 5000),
    "SCHILY.xattr.security.capability": (b"", b"x"),
    "GNU.sparse.major": (b"1", b"x", b"9" * 5000),
    "GNU.sparse.size": (b"-5", b"x", b"9" * 18),
    "GNU.sparse.realsize": (b"-5", b"x", b"9" * 18),
    "GNU.sparse.name": (b"../x", b"a\0b"),
    "GNU.sparse.map": (b"", b"1", b"0,1,2", b"9,9", b"-1,2", b"x"),
    "comment": (b"x", b"\xff", b"a\0b"),
}


def _extended() -> Mapping[str, bytes]:
    made = {
        f"pax {key}={value[:12]!r}{'…' * (len(value) > 12)}": pax(**{key: value}) + _AFTER
        for key, values in _PAX.items()
        for value in values
    }
    bodies = {
        "a length with a sign": b"+9 a=bcd\n",
        "a length of zeros": b"000008 a=b\n",
        "a length too small": b"5 a=bc\n",
        "no equals sign": b"6 abc\n",
        "no keyword": b"6 =bc\n",
        "no newline": b"6 a=bc",
        "no space": b"999999",
        "a NUL at the end": record("a", b"b") + b"\0",
        "two of one keyword": record("path", b"one") + record("path", b"two"),
        "a million bytes": record("comment", b"x" * (1 << 20)),
        "nothing": b"",
    }
    made |= {f"pax with {name}": file(b"pax", body, b"x") + _AFTER for name, body in bodies.items()}
    made |= {f"global pax with {name}": file(b"pax", body, b"g") + _AFTER for name, body in bodies.items()}
    made |= {
        "pax at the end": file() + pax(path=b"a"),
        "pax before the end": pax(path=b"a") + END,
        "pax twice": pax(path=b"a") + pax(path=b"b") + _AFTER,
        "pax of Solaris": file(b"pax", record("path", b"a"), b"X") + _AFTER,
    }
    for kind, what in ((b"L", "name"), (b"K", "target")):
        made |= {
            f"a long {what} without a NUL": file(b"long", b"abc", kind) + _AFTER,
            f"a long {what} of nothing": file(b"long", b"", kind) + _AFTER,
            f"a long {what} with a NUL inside": file(b"long", b"a\0b\0", kind) + _AFTER,
            f"a long {what} not in UTF-8": file(b"long", b"\xff\xfe\0", kind) + _AFTER,
            f"a long {what} twice": file(b"long", b"a\0", kind) * 2 + _AFTER,
            f"a long {what} at the end": file() + file(b"long", b"a\0", kind),
            f"a long {what} before the end": file(b"long", b"a\0", kind) + END,
            f"a long {what} before a wrong header": file(b"long", b"a\0", kind) + b"\1" * 512 + END,
            f"a long {what} of 5000 bytes": file(b"long", b"a/" * 2500 + b"\0", kind) + _AFTER,
        }
    sparse = {
        "a map": b"%011o\0%011o\0" % (0, 3),
        "a map beyond its size": b"%011o\0%011o\0" % (100, 3),
        "a map of letters": b"x" * 24,
        "a map that overlaps": b"%011o\0%011o\0" % (0, 3) * 2,
        "no map": bytes(24),
    }
    for name, entries in sparse.items():
        made[f"an old sparse file with {name}"] = old_sparse(entries, b"%011o\0" % 3) + _AFTER
    made["an old sparse file of negative size"] = old_sparse(sparse["a map"], b"\xff" * 12) + _AFTER
    return made


def old_sparse(entries: bytes, real: bytes, name: bytes = b"x") -> bytes:
    """A sparse file of three bytes in GNU's old format."""
    head = bytearray(block(name, b"S", magic=GNU, size=b"%011o\0" % 3, checksum=b" " * 8))
    head[386 : 386 + len(entries)] = entries
    head[483 : 483 + len(real)] = real
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + b"abc".ljust(512, b"\0")


def _d(name: bytes) -> bytes:
    return file(name, kind=b"5")


def _hard(name: bytes, to: bytes) -> bytes:
    return file(name, kind=b"1", link=to)


def _soft(name: bytes, to: bytes) -> bytes:
    return file(name, kind=b"2", link=to)


_TREES: Mapping[str, bytes] = {
    "a name of nothing": file(b""),
    "a name of a dot": file(b"."),
    "a directory of a dot": _d(b"./"),
    "a name of two dots": file(b".."),
    "a name that leaves the root": file(b"../x"),
    "a name that leaves it later": file(b"a/../../x"),
    "a name that comes back": file(b"a/../b"),
    "an absolute name": file(b"/etc/x"),
    "a name not in UTF-8": file(b"\xff\xfe"),
    "a surrogate in UTF-8": file(b"\xed\xa0\x80"),
    "a newline in a name": file(b"a\nb"),
    "control characters in a name": file(b"\x1b[2J\x7f"),
    "a backslash in a name": file(b"a\\b"),
    "a colon in a name": file(b"c:x"),
    "an empty component": file(b"a//b"),
    "a slash after a file": file(b"a/"),
    "an old file with a slash": file(b"a/", kind=b"\0"),
    "a file twice": file(b"a", b"1") + file(b"a", b"2"),
    "a directory twice": _d(b"a") + _d(b"a"),
    "a file, then a directory": file(b"a") + _d(b"a"),
    "a directory, then a file": _d(b"a") + file(b"a"),
    "a full directory, then a file": file(b"a/b") + file(b"a"),
    "a file below a file": file(b"a") + file(b"a/b"),
    "a directory below a file": file(b"a") + _d(b"a/b"),
    "a file below a link to it": _soft(b"a", b"b") + file(b"b") + file(b"a/c"),
    "a file below a link to a directory": _d(b"b") + _soft(b"a", b"b") + file(b"a/c"),
    "a file below a link that dangles": _soft(b"a", b"b") + file(b"a/c"),
    "a file below a loop": _soft(b"a", b"b") + _soft(b"b", b"a") + file(b"a/c"),
    "a file below a link to itself": _soft(b"a", b"a") + file(b"a/c"),
    "a file below a pipe": file(b"a", kind=b"6") + file(b"a/b"),
    "a file below a device": file(b"a", kind=b"3") + file(b"a/b"),
    "a link to nothing": _soft(b"a", b""),
    "a link out of the root": _soft(b"a", b"../../../etc"),
    "a link out of the root from below": _soft(b"a/b/c", b"../../../../etc"),
    "an absolute link out of the root": _soft(b"a", b"/../../etc"),
    "a file below a link out of the root": _soft(b"a", b"/../..") + file(b"a/zoo"),
    "a link to itself": _soft(b"a", b"a"),
    "a loop": _soft(b"a", b"b") + _soft(b"b", b"a"),
    "a link not in UTF-8": _soft(b"a", b"\xff"),
    "a chain of 41 links": b"".join(_soft(b"l%d" % each, b"l%d" % (each + 1)) for each in range(41)),
    "a file below 41 links": b"".join(_soft(b"l%d" % each, b"l%d" % (each + 1)) for each in range(41)) + file(b"l0/a"),
    "a hard link to nothing": _hard(b"a", b""),
    "a hard link to a missing file": _hard(b"a", b"b"),
    "a hard link to a later file": _hard(b"a", b"b") + file(b"b"),
    "a hard link to itself": _hard(b"a", b"a"),
    "a hard link that replaces its target": file(b"a") + _hard(b"a", b"a"),
    "a loop of hard links": _hard(b"a", b"b") + _hard(b"b", b"a"),
    "a hard link to a directory": _d(b"b") + _hard(b"a", b"b"),
    "a hard link to the root": _hard(b"a", b"."),
    "a hard link to a link": _soft(b"b", b"c") + _hard(b"a", b"b"),
    "a hard link to a pipe": file(b"b", kind=b"6") + _hard(b"a", b"b"),
    "a hard link through a link": file(b"d/b") + _soft(b"l", b"d") + _hard(b"a", b"l/b"),
    "a hard link out of the root": file(b"b") + _hard(b"a", b"../b"),
    "an absolute hard link": file(b"b") + _hard(b"a", b"/b"),
    "a hard link to a removed file": file(b"b") + file(b".wh.b") + _hard(b"a", b"b"),
    "a hard link to a replaced file": file(b"b") + _d(b"b") + _hard(b"a", b"b"),
    "a hard link to a hard link": file(b"b", b"1") + _hard(b"a", b"b") + _hard(b"c", b"a"),
    "a hard link below a file": file(b"b") + _hard(b"b/a", b"b"),
    "a whiteout": file(b".wh.a"),
    "a whiteout of nothing": file(b".wh."),
    "a whiteout of a dot": file(b".wh.."),
    "a whiteout of two dots": file(b"a/.wh..."),
    "a whiteout of a whiteout": file(b".wh..wh.a"),
    "an opaque root": file(b".wh..wh..opq"),
    "an opaque directory": file(b"a/.wh..wh..opq"),
    "an opaque directory after its files": file(b"a/b") + file(b"a/.wh..wh..opq"),
    "an opaque file": file(b"a") + file(b"a/.wh..wh..opq"),
    "a whiteout that is a directory": _d(b".wh.a"),
    "a whiteout that is a link": _soft(b".wh.a", b"b"),
    "a whiteout with content": file(b".wh.a", b"x" * 600),
    "a directory below a whiteout": file(b".wh.a/b"),
    "a whiteout of a file of its layer": file(b"a") + file(b".wh.a"),
    "a file after its whiteout": file(b".wh.a") + file(b"a"),
    "a whiteout twice": file(b".wh.a") * 2,
    "a whiteout below a file": file(b"a") + file(b"a/.wh.b"),
    "a whiteout below a link": _soft(b"a", b"b") + file(b"a/.wh.c"),
    "a whiteout below a loop": _soft(b"a", b"a") + file(b"a/.wh.c"),
    "a whiteout out of the root": file(b"../.wh.a"),
    "AUFS's own files": file(b".wh..wh.plnk/1.2") + file(b".wh..wh.aufs"),
}


def _trees() -> Mapping[str, bytes]:
    return {name: data + END for name, data in _TREES.items()}


ZOO: Mapping[str, bytes] = {**{f"number {k}": v for k, v in numbers().items()}, **_members(), **_extended(), **_trees()}


@pytest.mark.parametrize("name", ZOO)
def test_layer(name: str, record_property: Record) -> None:
    visit("layers", name, lambda: merge([layer_of(ZOO[name])], lambda _: True), record_property)
