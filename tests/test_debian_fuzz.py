"""Fuzzing of mirrors, packages and images: each input gives signed data or one of our errors, in bounded time.

By default there are a few thousand inputs. HATCH_DOCKER_TEST_FUZZ=100 tries a hundred times as many, and
HATCH_DOCKER_TEST_SEED=2 tries others.
"""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from random import Random

import pytest
from deb_maker import PACK, ar_of
from debian_maker import NOW, clearsigned, detached, keyring, release_text, signer
from dpkg_maker import listing
from elf_maker import make_library
from mutations import mutated, rounds
from packages_maker import paragraph_of

from hatch_docker.debian.deb import open_deb
from hatch_docker.debian.packages import PackageIndex, read_index
from hatch_docker.debian.release import check_release, parse_release
from hatch_docker.debian.resolve import resolve
from hatch_docker.debian.signature import detached_text, shipped_keyring, signed_text
from hatch_docker.dpkg import database
from hatch_docker.dpkg.assemble import Assembled, added_files, root_files
from hatch_docker.dpkg.ldcache import FLAGS, CacheEntry, ld_so_cache
from hatch_docker.errors import DebianError, ImageError, PackageError
from hatch_docker.oci.layer import write_layer

REAL = lzma.decompress((Path(__file__).parent / "data" / "trixie-updates.InRelease.xz").read_bytes())
REAL_TIME = datetime(2026, 11, 24, tzinfo=timezone.utc)
TEXT = release_text(
    {f"main/binary-{name}/Packages{suffix}": b"x" * 99 for name in ("amd64", "arm64") for suffix in ("", ".xz")},
    Description="a Release\n - with lines\n From here to there",
)
OURS = clearsigned(TEXT, signer("another"), signer())
BESIDE = detached(TEXT, signer("another"), signer())
PIECES = (b"-----", b"-----BEGIN PGP SIGNATURE-----\n", b"- ", b"Hash: SHA1\n", b"Valid-Until: x\n", b"\n ", b"=AAAA\n")


class TestRelease:
    """Only the signed text is accepted, byte for byte."""

    def check(self, data: bytes, signed: bytes, keys: tuple[bytes, ...], now: datetime) -> None:
        try:
            found = signed_text(data, keyring=keys, now=now, place="InRelease")
        except DebianError:
            return
        assert found == signed

    def test_our_own(self) -> None:
        signed = signed_text(OURS, keyring=keyring(), now=NOW, place="")
        for random in rounds(400, "InRelease"):
            self.check(mutated(OURS, random, PIECES), signed, keyring(), NOW)

    def test_real_inrelease(self) -> None:
        keys = shipped_keyring()
        signed = signed_text(REAL, keyring=keys, now=REAL_TIME, place="")
        assert parse_release(signed, place="").codename == "trixie-updates"
        for random in rounds(200, "Debian"):
            self.check(mutated(REAL, random, PIECES), signed, keys, REAL_TIME)

    def test_signature_of_another_text(self) -> None:
        other = clearsigned(TEXT.replace(b"stable", b"newest"), signer())
        at = OURS.index(b"-----BEGIN PGP SIGNATURE"), other.index(b"-----BEGIN PGP SIGNATURE")
        with pytest.raises(DebianError):
            signed_text(other[: at[1]] + OURS[at[0] :], keyring=keyring(), now=NOW, place="")

    def test_detached_signature(self) -> None:
        for random in rounds(400, "Release.gpg"):
            text = mutated(TEXT, random, PIECES) if random.random() < 0.7 else TEXT
            signature = mutated(BESIDE, random, PIECES) if random.random() < 0.5 else BESIDE
            try:
                found = detached_text(text, signature, keyring=keyring(), now=NOW, place="Release")
            except DebianError:
                continue
            assert found == TEXT

    def test_signed_garbage(self) -> None:
        for random in rounds(600, "Release"):
            try:
                release = parse_release(mutated(TEXT, random, (b"Date: x\n", b"SHA256:\n")), place="Release")
                check_release(release, "trixie", now=NOW, place="Release")
            except DebianError:
                continue
            assert "trixie" in (release.suite, release.codename)
            assert not any({"", ".", ".."} & {*path.split("/")} for path in release.files)


PACKAGES = "\n".join(
    [
        paragraph_of(
            "git", "1:2.47-1", Depends="libc6 (>= 2.28), perl:any | perl-base, curl", Pre_Depends="dpkg (>= 1)"
        ),
        paragraph_of("curl", Depends="libcurl4t64 (= 8.14), zlib1g", Breaks="old-curl (<< 1)", Multi_Arch="foreign"),
        paragraph_of("libcurl4t64", "8.14", Provides="libcurl4 (= 8.14)", Depends="libc6, ssl-certs | curl"),
        paragraph_of("libc6", "2.41-12", Breaks="libx", Multi_Arch="same"),
        paragraph_of("libc6", "2.40", Recommends="x"),
        paragraph_of("zlib1g", Conflicts="zlib1 (<= 1:1.0)", Depends="libc6"),
        paragraph_of("perl-base", Essential="yes", Provides="perl:any (= 5.40)", Priority="required"),
        paragraph_of("dpkg", "1.22", Depends="tar"),
        paragraph_of("tar", Description="it is\n a text\n .\n of lines"),
    ]
).encode()


class TestPackages:
    """Any index is read and searched, or rejected."""

    def test_indexes(self) -> None:
        for random in rounds(300, "Packages"):
            pieces = (
                b"Package: git\n",
                b"Provides: libc6, git\n",
                b", git (>> 1)",
                b" | curl",
                b"Depends: ",
                b"~",
                b":",
            )
            data = mutated(PACKAGES, random, pieces)
            try:
                index = PackageIndex([data], suite="trixie")
                for package in resolve(["git", "tar"], [index], architecture="amd64"):
                    assert package.size < 10**12
                    assert not {"", ".", ".."} & {*package.filename.split("/")}
            except DebianError:
                continue

    def test_index_files(self, tmp_path: Path) -> None:
        for random in rounds(120, "Packages.xz"):
            suffix = random.choice([*PACK])
            path = tmp_path / f"Packages{suffix}"
            path.write_bytes(mutated(PACK[suffix](PACKAGES), random))
            try:
                index = read_index(path, suite="trixie", suffix=suffix)
            except DebianError:
                continue
            assert suffix not in (".gz", ".xz") or sorted(index.names()) == sorted(
                PackageIndex([PACKAGES], suite="").names()
            )


def tar_member(
    name: bytes,
    content: bytes = b"",
    *,
    kind: bytes = b"0",
    link: bytes = b"",
    size: bytes = b"",
    mode: bytes = b"0000755",
    owner: bytes = b"0000000",
    magic: bytes = b"ustar  \0",
    prefix: bytes = b"",
) -> bytes:
    """A tar member with arbitrary fields and a correct checksum."""
    size = size or b"%011o" % len(content)
    fields = (name, mode, owner, b"0000000", size, b"00000000000", b" " * 8, kind, link, magic, b"", b"", prefix)
    block = bytearray(struct.pack("100s8s8s8s12s12s8sc100s8s64s16s155s12x", *fields))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content + bytes(-len(content) % 512)


LIB = b"usr/lib/x86_64-linux-gnu"
LIBRARY = make_library(("libc.so.6",), soname="liba.so.1", runpath="$ORIGIN/../x")
NAMES = (
    *(b"./usr/bin/tool", b"./bin/tool", b"./usr/bin/other", b"./usr/lib/a/b", b"./usr/lib/a", b"./lib/a/b/c"),
    *(b"./" + LIB + b"/liba.so.1", b"./lib/x86_64-linux-gnu/libc.so.6", b"./etc/ld.so.conf", b"./etc/passwd", b"./etc"),
    *(b"./etc/alternatives", b"./etc/alternatives/a", b"./var/lib/dpkg", b"./home", b"./usr/bin", b"./etc/ld.so.cache"),
    *(b"./", b".", b"", b"/", b"/etc/passwd", b"../../escaped", b"./a/../../escaped", b"./a/..", b"a//b", b"./.wh.tmp"),
    *(b"./.wh..wh..opq", b"./usr/.wh.bin/x", b"./tmp", b"./opt/x", b"./opt", b"./srv/x", b"./loop/x", b"./var/run/x"),
    *(b"./var/lib/dpkg/status", b"./var/lib/dpkg/info/tool.list", b"./usr/lib64/x", b"./a\\b", b"./\xff", b"./a\0b"),
    *(b"./usr/share/doc/tool/copyright", b"./usr/share/man/x", b"./" + b"d/" * 45 + b"x", b"./proc/self/x", b"./a\nb"),
    *(b"./usr/share/ca-certificates/a.crt", b"./usr/share/zoneinfo/Etc/UTC", b"./usr/lib", b"./usr/bin/python3.13"),
)
LINKS = (
    b"/",
    b"",
    b"..",
    b"../../..",
    b"tool",
    b"/etc",
    b"/usr/bin/tool",
    b"loop",
    b"./usr/bin/tool",
    b"a\0b",
    b"b\nc",
)
SIZES = (b"77777777777", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\x80" + bytes(10) + b"\1", b"-1", b"8", b" ")
NUMBERS = (b"0004755", b"0007777", b"7777777", b"\x80\xff\xff\xff\xff\xff\xff\xff", b"\xff" * 8, b"x", b"")
KINDS = (
    *[b"0"] * 30,
    *[b"5"] * 16,
    *[b"2"] * 16,
    *[b"1"] * 6,
    *(b"\0", b"7", b"3", b"4", b"6", b"S", b"x", b"g", b"L", b"K"),
)
CONTENTS = (
    b"",
    b"x",
    b"#!/bin/sh\n",
    b"#!",
    b"#!/usr/bin/env -S a=b\n",
    LIBRARY,
    LIBRARY[:200],
    b"\x7fELF" + b"\xff" * 99,
)
WHOLE = [
    tar_member(b"./", kind=b"5"),
    *(tar_member(name, kind=b"5") for name in (b"./usr/", b"./usr/bin/", b"./usr/lib/", b"./" + LIB + b"/", b"./opt/")),
    tar_member(b"./usr/bin/tool", LIBRARY),
    tar_member(b"./" + LIB + b"/liba.so.1.2", LIBRARY),
    tar_member(b"./" + LIB + b"/libc.so.6", make_library((), soname="libc.so.6")),
    tar_member(b"./etc/tool.conf", b"a = 1\n"),
    tar_member(b"./usr/bin/again", kind=b"1", link=b"./usr/bin/tool"),
]
SCRIPT = b"""#!/bin/sh
# Automatically added by dh_installdebconf
. /usr/share/debconf/confmodule
# End automatically added section
if [ "$1" = configure ]; then
  for each in a b; do update-alternatives --install /usr/bin/$each $each /usr/bin/tool 50 --slave /usr/x x /usr/y; done
  update-alternatives --install /usr/bin/t t /usr/bin/tool 10
fi
case "$1" in configure) ldconfig ;; *) cat <<EOF
text
EOF
;; esac
"""


def control_of(name: str) -> dict[str, bytes]:
    """The control files of a package."""
    fields = {
        "Package": name,
        "Version": "1:2.0-1",
        "Architecture": "amd64",
        "Depends": "libc6",
        "Replaces": "other (<< 3)",
    }
    return {
        "control": "".join(f"{field}: {value}\n" for field, value in fields.items()).encode(),
        "conffiles": b"/etc/tool.conf\nremove-on-upgrade /etc/x\n",
        "md5sums": b"0" * 32 + b"  usr/bin/tool\n",
        "postinst": SCRIPT,
        "triggers": b"activate-noawait ldconfig\n",
    }


def _rarely(random: Random, unusual: Sequence[bytes], usual: bytes) -> bytes:
    return random.choice(unusual) if random.random() < 0.05 else usual


def unusual_deb(random: Random, path: Path, name: str = "tool") -> Path:
    """A package with unusual or invalid members."""
    members = list(WHOLE)
    for _ in range(random.choice((0, 1, 2, 3, 6))):
        kind = random.choice(KINDS)
        unusual = tar_member(
            random.choice(NAMES[:17] if random.random() < 0.7 else NAMES),
            random.choice(CONTENTS) if kind in (b"0", b"\0", b"7") or random.random() < 0.1 else b"",
            kind=kind,
            link=random.choice(LINKS),
            size=_rarely(random, SIZES, b""),
            mode=_rarely(random, NUMBERS, b"0000755"),
            owner=_rarely(random, NUMBERS, b"0000000"),
            prefix=_rarely(random, (b"..", b"usr"), b""),
        )
        members.insert(random.randint(0, len(members)), unusual)
    files = control_of(name)
    for each in random.sample([*files], random.choice((0, 0, 1, 2))):
        files[each] = mutated(
            files[each], random, (b"$(", b"<<EOF\n", b"/etc/../x\n", b"update-alternatives --install ")
        )
    control, data = b"".join([*(tar_member(b"./" + each.encode(), files[each]) for each in files), bytes(1024)]), b""
    data = b"".join([*members, bytes(1024)])
    if random.random() < 0.15:
        data = mutated(data, random)
    pack = [random.choice([*PACK]) for _ in range(2)]
    parts = [("debian-binary", b"2.0\n"), (f"control.tar{pack[0]}", PACK[pack[0]](control))]
    accepted = ar_of([*parts, (f"data.tar{pack[1]}", PACK[pack[1]](data))])
    path.write_bytes(mutated(accepted, random, (b"`\n", b"!<arch>\n")) if random.random() < 0.1 else accepted)
    return path


IMAGE: Mapping[str, bytes | str | None] = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "usr/bin/sh": b"",
    "usr/lib/x86_64-linux-gnu/libc.so.6": b"",
    "tmp": None,
    "opt": "/",
    "srv": "../../..",
    "loop": "pool",
    "pool": "/loop/x",
    "var/run": "/run",
    "run": None,
    "usr/lib64": "lib/../lib64",
    "etc/alternatives/x": "/usr/y",
    "etc/tool.conf": b"a = 2\n",
    "etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n/opt/lib\n",
    "etc/ld.so.conf.d/a.conf": b"/lib/x86_64-linux-gnu\n/usr/local/lib\n",
    "etc/ld.so.cache": ld_so_cache(
        [CacheEntry(name=f"lib{name}.so.1", path=f"/lib/lib{name}.so.1", flags=FLAGS["x86_64"]) for name in "abc"]
    ),
    "var/lib/dpkg/status": b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41

Package: tool
Status: install ok installed
Architecture: amd64
Version: 1.0-1
Conffiles:
 /etc/tool.conf 95006c68ab3ee6f4d7acf53c8e681af3
""",
    "var/lib/dpkg/diversions": b"/usr/bin/x\n/usr/bin/x.real\ndash\n",
    "var/lib/dpkg/info/libc6:amd64.list": b"/.\n/lib\n/usr/bin/other\n/lib/x86_64-linux-gnu/libold.so.1\n",
    "var/lib/dpkg/info/tool.list": b"/.\n/usr/bin/tool\n/usr/bin/sh\n/etc/tool.conf\n",
    "var/lib/dpkg/info/tool.postinst": b"",
}
SCANNED = {path: data for path, data in IMAGE.items() if "dpkg" not in path} | {
    "var/lib/dpkg/status.d/libc6": b"Package: libc6\nArchitecture: amd64\nVersion: 2.41\n",
    "var/lib/dpkg/status.d/tool": b"Package: tool\nArchitecture: amd64\nVersion: 1.0\n",
    "var/lib/dpkg/status.d/tool.md5sums": b"0" * 32 + b"  usr/bin/tool\n",
}


def unusual_image(random: Random) -> dict[str, bytes | str | None]:
    """An image with unusual or invalid files."""
    image = dict(random.choice((IMAGE, SCANNED)))
    paths = [path for path, data in image.items() if data and isinstance(data, bytes)]
    for path in random.sample(paths, random.choice((1, 1, 2, 3))):
        data = image[path]
        assert isinstance(data, bytes)
        image[path] = mutated(
            data, random, (b"/..\n", b"include *\n", b"Package: x\n", b"/loop/x\n", b"/opt\n", b"//\n")
        )
    for path in random.sample([*image], random.choice((0, 0, 1, 2))):
        image[path] = random.choice((b"", None, *(each.decode() for each in LINKS if each)))
    return image


def check(made: Assembled) -> None:
    """Assert that the entries are a valid layer, whose paths are all below the root, or are rejected on writing."""
    out = io.BytesIO()
    try:
        write_layer(made.entries, out)
    except ImageError:
        return
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        names = [member.name for member in archive]
        assert all(member.isfile() or member.isdir() or member.issym() for member in archive)
    assert len(names) == len({*names})
    assert not any(name.startswith("/") or {"", ".", ".."} & {*name.split("/")} for name in names)
    whiteouts = {entry.path for entry in made.entries if entry.removed}
    assert sum("/.wh." in f"/{name}" for name in names) == len(whiteouts)


CONTROL = {"Package": "tool", "Version": "2", "Architecture": "amd64"}
MANY: Sequence[Sequence[str]] = (("tool",), ("tool",), ("tool", "other"), ("other", "third", "tool"))


class TestDebs:
    """Any package becomes a layer or is rejected, and no file is written elsewhere.

    Some must become a layer: otherwise the tests would not get beyond the first checks.
    """

    def test_new_root(self, tmp_path: Path) -> None:
        accepted = 0
        for random in rounds(120, "root"):
            try:
                debs = [open_deb(unusual_deb(random, tmp_path / f"{each}.deb", each)) for each in random.choice(MANY)]
                with tempfile.TemporaryFile() as spool:
                    check(root_files(debs, spool, architecture="amd64", threads=random.choice((1, 2))))
                accepted += 1
            except (DebianError, PackageError):
                continue
        assert accepted
        assert {path.suffix for path in tmp_path.iterdir()} == {".deb"}
        assert not list(tmp_path.parent.rglob("*escaped*"))

    def test_on_an_image(self, tmp_path: Path) -> None:
        accepted = 0
        for random in rounds(120, "added"):
            try:
                debs = [open_deb(unusual_deb(random, tmp_path / f"{each}.deb", each)) for each in random.choice(MANY)]
                image = unusual_image(random) if random.random() < 0.3 else IMAGE
                check(added_files(listing(image), debs, io.BytesIO(), architecture="amd64"))
                accepted += 1
            except (DebianError, PackageError):
                continue
        assert accepted

    def test_on_an_unusual_image(self, tmp_path: Path) -> None:
        control = "".join(f"{name}: {value}\n" for name, value in CONTROL.items()).encode()
        path = tmp_path / "tool.deb"
        files = [tar_member(b"./control", control), tar_member(b"./conffiles", b"/etc/tool.conf\n"), bytes(1024)]
        data = b"".join([*WHOLE, bytes(1024)])
        path.write_bytes(ar_of([("debian-binary", b"2.0\n"), ("control.tar", b"".join(files)), ("data.tar", data)]))
        deb = open_deb(path)
        accepted = 0
        for random in rounds(120, "image"):
            try:
                image = listing(unusual_image(random))
                check(added_files(image, [deb], io.BytesIO(), architecture="amd64"))
                accepted += 1
                assert all(package.version for package in database.read(image).packages())
            except (DebianError, PackageError):
                continue
        assert accepted
