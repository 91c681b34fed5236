from __future__ import annotations

import zlib
from datetime import timedelta
from pathlib import Path

import pytest
from debian_maker import NOW, clearsigned, damaged, detached, keyring, release_text, signer
from hypothesis import given, settings
from mutations import many
from pysequoia import ArmorKind, Cert, armor, sign
from pysequoia.packet import PacketPile

from hatch_docker.debian import signature
from hatch_docker.debian.signature import detached_text, read_keyring, shipped_keyring, signed_text
from hatch_docker.errors import DebianError

TEXT = release_text(
    {"main/binary-amd64/Packages": b"x" * 99}, Description="- dashes and From lines\n From here\n - there"
)
SIGNED = clearsigned(TEXT)
MALLORY = signer("mallory")
BRIEF = signer("brief", 3600)


def verified(data: bytes, *, keys: tuple[bytes, ...] | None = None, later: timedelta = timedelta(0)) -> bytes:
    return signed_text(data, keyring=keyring() if keys is None else keys, now=NOW + later, place="InRelease")


def verified_detached(text: bytes, signature: bytes, *, later: timedelta = timedelta(0)) -> bytes:
    return detached_text(text, signature, keyring=keyring(signer(), BRIEF), now=NOW + later, place="Release")


def lines(text: bytes) -> list[bytes]:
    """The lines of a signed text without trailing spaces, which are not signed (RFC 9580, 7.2)."""
    return [line.rstrip() for line in text.rstrip().split(b"\n")]


class TestInRelease:
    def test_returns_the_signed_text(self) -> None:
        assert lines(verified(clearsigned(TEXT))) == lines(TEXT)

    def test_one_good_signature_is_enough(self) -> None:
        assert lines(verified(clearsigned(TEXT, MALLORY, signer()))) == lines(TEXT)
        assert lines(verified(clearsigned(TEXT, signer(), MALLORY))) == lines(TEXT)

    def test_names_an_unknown_key(self) -> None:
        with pytest.raises(DebianError, match=r"signed by unknown keys: [0-9A-F]{16}\n") as caught:
            verified(clearsigned(TEXT, MALLORY))
        assert "debian-keyring" in caught.value.hint

    def test_empty_keyring(self) -> None:
        with pytest.raises(DebianError, match="signed by unknown keys"):
            verified(clearsigned(TEXT), keys=())

    def test_changed_text(self) -> None:
        with pytest.raises(DebianError, match="does not match its signature") as caught:
            verified(clearsigned(TEXT).replace(b"Suite: stable", b"Suite: stabla"))
        assert caught.value.place == "InRelease"

    @pytest.mark.parametrize(
        "data", [b"", b"<html>Sign in to this network</html>", TEXT], ids=["empty", "page", "text"]
    )
    def test_unsigned(self, data: bytes) -> None:
        with pytest.raises(DebianError, match="is not signed"):
            verified(data)

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: b"Suite: evil\n" + data,
            lambda data: b"\n" + data,
            lambda data: data + b"Suite: evil\n",
            lambda data: data + data,
            lambda data: data.replace(b"\n\n", b"\nSuite: evil\n\n", 1),
            lambda data: data.replace(b"\n\n", b"\nHash: SHA512\nNotDashEscaped: yes\n\n", 1),
            lambda data: clearsigned(TEXT, MALLORY) + data,
            lambda data: data[: data.index(b"-----END")],
            lambda data: data[: data.index(b"-----BEGIN PGP SIGNATURE")],
        ],
    )
    def test_text_outside_of_the_signed_part(self, change: object) -> None:
        assert callable(change)
        with pytest.raises(DebianError):
            verified(change(clearsigned(TEXT)))

    @pytest.mark.parametrize("end", [b"\r", b"\r\n"])
    def test_carriage_returns(self, end: bytes) -> None:
        # Both end lines when a signature is computed; parsers would take the first for part of a line.
        data = clearsigned(TEXT).replace(b"\nValid-Until", end + b"Valid-Until")
        with pytest.raises(DebianError, match="has carriage returns"):
            verified(data)

    @pytest.mark.parametrize("times", [33, 20_000])
    def test_too_many_signatures(self, times: int) -> None:
        whole = clearsigned(TEXT)
        at = whole.index(b"-----BEGIN PGP SIGNATURE")
        signature = b"".join(bytes(packet) for packet in PacketPile.from_bytes(whole[at:]))
        with pytest.raises(DebianError, match="is not an OpenPGP signature"):
            verified(whole[:at] + armor(signature * times, ArmorKind.Signature).encode())

    def test_other_kinds_of_messages(self) -> None:
        with pytest.raises(DebianError, match="not one signed message"):
            verified(sign(signer().signer(), TEXT))

    def test_expired_key_does_not_count(self) -> None:
        data = clearsigned(TEXT, BRIEF)
        assert lines(verified(data, keys=keyring(BRIEF))) == lines(TEXT)
        with pytest.raises(DebianError, match="only by keys that have expired") as caught:
            verified(data, keys=keyring(BRIEF), later=timedelta(hours=2))
        assert "clock" in caught.value.hint

    def test_another_key_beside_an_expired_one(self) -> None:
        both = keyring(BRIEF, signer())
        assert lines(verified(clearsigned(TEXT, BRIEF, signer()), keys=both, later=timedelta(hours=2))) == lines(TEXT)

    def test_shows_no_backtrace_of_the_library(self) -> None:
        broken = clearsigned(TEXT)
        broken = broken[: broken.index(b"-----END") - 20] + b"\n-----END PGP SIGNATURE-----\n"
        with pytest.raises(DebianError) as caught:
            verified(broken)
        assert len(str(caught.value).splitlines()) == 2
        assert "0:" not in str(caught.value)

    @settings(max_examples=many(100))
    @given(damaged(SIGNED, (b"\n", b"\n\n", b"-----", b"Hash: MD5\n", b"- ", b" ")))
    def test_damage_never_changes_the_returned_text(self, data: bytes) -> None:
        try:
            found = verified(data)
        except DebianError:
            return
        assert lines(found) == lines(TEXT)


class TestDetached:
    def test_returns_the_text(self) -> None:
        assert verified_detached(TEXT, detached(TEXT)) == TEXT

    def test_one_good_signature_is_enough(self) -> None:
        assert verified_detached(TEXT, detached(TEXT, MALLORY, signer())) == TEXT
        assert verified_detached(TEXT, detached(TEXT, signer(), MALLORY)) == TEXT

    def test_signature_of_another_text(self) -> None:
        with pytest.raises(DebianError, match="does not match its signature"):
            verified_detached(TEXT + b"x", detached(TEXT))

    def test_unknown_key(self) -> None:
        with pytest.raises(DebianError, match="signed by unknown keys"):
            verified_detached(TEXT, detached(TEXT, MALLORY))

    def test_expired_key(self) -> None:
        with pytest.raises(DebianError, match="have expired"):
            verified_detached(TEXT, detached(TEXT, BRIEF), later=timedelta(hours=2))

    @pytest.mark.parametrize(
        "data", [b"", b"<html>", b"-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"]
    )
    def test_invalid_signature(self, data: bytes) -> None:
        with pytest.raises(DebianError):
            verified_detached(TEXT, data)

    def test_carriage_returns(self) -> None:
        with pytest.raises(DebianError, match="has carriage returns"):
            verified_detached(TEXT.replace(b"\n", b"\r\n"), detached(TEXT))

    def test_binary_signatures(self) -> None:
        binary = b"".join(bytes(packet) for packet in PacketPile.from_bytes(detached(TEXT, MALLORY, signer())))
        assert verified_detached(TEXT, binary) == TEXT

    def test_rejects_compressed_packets(self) -> None:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        content = b"\x01" + packer.compress(b"\xcd\x00" * (1 << 20)) + packer.flush()
        bomb = b"\xc8\xff" + len(content).to_bytes(4, "big") + content
        good = b"".join(bytes(packet) for packet in PacketPile.from_bytes(detached(TEXT)))
        for data in (bomb, armor(bomb, ArmorKind.Signature).encode(), good + bomb):
            with pytest.raises(DebianError, match="is not an OpenPGP signature"):
                verified_detached(TEXT + b"x", data)

    @settings(max_examples=many(100))
    @given(damaged(detached(TEXT)))
    def test_damaged_signature_never_verifies_another_text(self, changed: bytes) -> None:
        with pytest.raises(DebianError):
            verified_detached(TEXT + b"evil", changed)


class TestKeyrings:
    def test_bundled_keys_of_debian(self) -> None:
        found = {each.fingerprint.upper() for data in shipped_keyring() for each in Cert.split_bytes(data)}
        readme = (Path(signature.__file__).parent / "keys" / "README.md").read_text("utf-8")
        assert len(found) == 6
        assert all(fingerprint in readme for fingerprint in found)

    def test_file_with_several_armored_keys(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.asc"
        path.write_bytes(b"\n".join(keyring(MALLORY, signer())))
        assert lines(verified(clearsigned(TEXT), keys=read_keyring(path))) == lines(TEXT)

    def test_binary_file(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.gpg"
        path.write_bytes(bytes(MALLORY.extract_certificate()) + bytes(signer().extract_certificate()))
        assert lines(verified(clearsigned(TEXT), keys=read_keyring(path))) == lines(TEXT)

    @pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00\x00\x00\x20KBXf"])
    def test_invalid_keyring(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "keys"
        path.write_bytes(content)
        with pytest.raises(DebianError, match="no OpenPGP key") as caught:
            read_keyring(path)
        assert caught.value.place == str(path)

    def test_unreadable_file(self, tmp_path: Path) -> None:
        with pytest.raises(DebianError, match="cannot be read"):
            read_keyring(tmp_path / "none")
