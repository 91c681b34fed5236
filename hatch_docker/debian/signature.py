"""Verify the OpenPGP signature (RFC 9580) of a Release, inside of it (InRelease) or beside it (Release.gpg).

The functions return signed text only. The rules are apt's: one good signature is enough, expired keys do not count, and
a file must not have text outside of its signed part.
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.errors import DebianError
from hatch_docker.support.patterns import regex

if TYPE_CHECKING:
    from pysequoia import Cert, Sig
    from pysequoia.packet import Packet

_BEGIN, _SIGNATURE, _END = (
    b"-----BEGIN PGP SIGNED MESSAGE-----",
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----END PGP SIGNATURE-----",
)
_MARK = regex(rb"^-----[^\n]*", re.MULTILINE)
_HEADERS = regex(rb"(?:Hash: [A-Za-z0-9, -]+\n)*[ \t]*\n")
_ARMOR = regex(
    rb"-----BEGIN PGP SIGNATURE-----[ \t]*\n(?:[A-Za-z]+: [^\n]*\n)*[ \t]*\n"
    rb"([A-Za-z0-9+/=\s]*?)(?:\n=[A-Za-z0-9+/]{4}\s*)?\n-----END PGP SIGNATURE-----"
)
_MAX_KEYRING = 1 << 24
_MAX_SIGNATURE = 1 << 16
_MAX_SIGNATURES = 32
_TAG_SIGNATURE = 2
_KEY_HINT = "set debian-keyring to the keys of another archive"
_CHANGED = "it was changed in transit, or the mirror is damaged; nothing was kept"


@functools.cache
def shipped_keyring() -> tuple[bytes, ...]:
    """The bundled keys of the Debian archive: those of bookworm and trixie, which sign all suites of their time."""
    folder = resources.files("hatch_docker.debian") / "keys"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".asc")), key=lambda file: file.name)
    return tuple(file.read_bytes() for file in files)


def read_keyring(path: Path) -> tuple[bytes, ...]:
    """Read the keys in a file, armored or not. Raises DebianError if it is unreadable or has no key."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEYRING)
    except OSError as error:
        raise DebianError(f"the keyring cannot be read: {error.strerror or error}", place=str(path)) from None
    if not _certificates((data,)):
        raise DebianError(
            "the keyring has no OpenPGP key",
            place=str(path),
            hint="use the output of `gpg --export`, not GnuPG's own keybox",
        )
    return (data,)


def signed_text(data: bytes, *, keyring: Sequence[bytes], now: datetime, place: str) -> bytes:
    """The signed text of an InRelease file.

    Raises DebianError if no key of `keyring` that is valid at `now` signed it, if it was changed, or if it has text
    outside of the signed part.
    """
    from pysequoia import verify

    _signatures(_framed(data, place), place)
    verifier = _Verifier(keyring, now)
    try:
        verified = verify(data, verifier.certificates)
    except Exception as error:
        raise verifier.refusal(error, place) from None
    verifier.check(verified.valid_sigs, place)
    return bytes(verified.bytes or b"")


def detached_text(data: bytes, signature: bytes, *, keyring: Sequence[bytes], now: datetime, place: str) -> bytes:
    """Return `data`, a Release file, after verifying `signature` (Release.gpg). Raises as `signed_text` does."""
    from pysequoia import verify

    verifier = _Verifier(keyring, now)
    failure: Exception = ValueError()
    _check_lines(data, place)
    for each in _signatures(signature, f"{place}.gpg"):
        try:
            verified = verify(data, verifier.certificates, signature=each)
            verifier.check(verified.valid_sigs, place)
        except Exception as error:
            failure = error
        else:
            return data
    raise failure if isinstance(failure, DebianError) else verifier.refusal(failure, place)


class _Verifier:
    """The trusted keys, and the IDs of the keys that a message claims to be signed by."""

    def __init__(self, keyring: Sequence[bytes], now: datetime) -> None:
        self._certificates = _certificates(tuple(keyring))
        self._now = now
        self._claimed: set[str] = set()

    def certificates(self, key_ids: Sequence[str]) -> list[Cert]:
        """The callback of pysequoia.verify."""
        self._claimed |= {each.lower()[-16:] for each in key_ids}
        return list(self._certificates)

    def check(self, signatures: Sequence[object], place: str) -> None:
        """Raise DebianError unless a key that is valid now made one of the signatures.

        The library judges keys by the time of the signature, which the owner of a stolen key can backdate.
        """
        expired: list[str] = []
        ends = {name: end for each in self._certificates for name, end in _ends(each).items()}
        for signature in signatures:
            key = str(getattr(signature, "signing_key", "")).lower()
            end = ends.get(key, datetime.min.replace(tzinfo=self._now.tzinfo))
            if end is None or end > self._now:
                return
            expired.append(f"{key[-16:].upper()} (until {end:%Y-%m-%d})")
        raise DebianError(
            f"is signed only by keys that have expired: {', '.join(expired) or 'none'}",
            place=place,
            hint=f"check this machine's clock; a newer hatch-docker has newer keys; {_KEY_HINT}",
        )

    def refusal(self, error: Exception, place: str) -> DebianError:
        """The error for a message without a good signature."""
        trusted = {name[-16:] for each in self._certificates for name in _ends(each)}
        if not self._claimed:
            # The first line of the library's message; a backtrace follows.
            reason = str(error).strip().partition("\n")[0][:200]
            return DebianError(f"has an unreadable signature: {reason}", place=place, hint=_CHANGED)
        if not self._claimed & trusted:
            names = ", ".join(sorted(self._claimed)).upper()
            return DebianError(
                f"is signed by unknown keys: {names}",
                place=place,
                hint=f"this is not a mirror of Debian, or a release after this version of hatch-docker; {_KEY_HINT}",
            )
        return DebianError("does not match its signature", place=place, hint=_CHANGED)


@functools.lru_cache(maxsize=8)
def _certificates(keyring: tuple[bytes, ...]) -> tuple[Cert, ...]:
    """All keys of a keyring except unreadable ones, such as keys of obsolete kinds."""
    from pysequoia import Cert

    certificates: list[Cert] = []
    for data in keyring:
        try:
            certificates += Cert.split_bytes(data)
        except Exception:  # noqa: S112 (the library has no exception class)
            continue
    return tuple(certificates)


@functools.lru_cache(maxsize=128)
def _ends(certificate: Cert) -> dict[str, datetime | None]:
    """The expiry of each key of a certificate by fingerprint, None if it never expires.

    Keys without a valid binding signature are left out.
    """
    from pysequoia.packet import PacketPile

    try:
        whole = certificate.expiration
        packets = list(PacketPile.from_bytes(bytes(certificate)))
    except Exception:
        return {}
    ends: dict[str, datetime | None] = {certificate.fingerprint.lower(): whole}
    key: Packet | None = None
    for packet in packets:
        # Packets are parsed lazily, and may be of unknown kinds.
        with contextlib.suppress(Exception):
            if packet.fingerprint is not None:
                key, newest = packet, datetime.min.replace(tzinfo=timezone.utc)
            elif key is not None and (bound := _binding(key, packet)) is not None and bound[0] >= newest:
                newest, own = bound
                ends[str(key.fingerprint).lower()] = min((end for end in (own, whole) if end is not None), default=None)
    return ends


def _binding(key: Packet, packet: Packet) -> tuple[datetime, datetime | None] | None:
    """The creation and expiry of a subkey binding; None if the packet is of another type."""
    from pysequoia.packet import SignatureType

    made, period = packet.signature_created, packet.key_validity_period
    if packet.signature_type != SignatureType.SubkeyBinding or made is None:
        return None
    created = key.key_created
    return made, created + period if period and created else None


def _signatures(data: bytes, place: str) -> list[Sig]:
    """Parse the signatures of a Release.gpg, or at the end of an InRelease, of which there may be several.

    Other packets are rejected: the library would inflate compressed ones, so a few hundred bytes could take all memory.
    """
    from pysequoia import Sig

    try:
        if len(data) > _MAX_SIGNATURE:
            raise ValueError
        armored = _ARMOR.findall(data) if data.lstrip().startswith(b"-----") else None
        binary = data if armored is None else b"".join(map(binascii.a2b_base64, armored))
        packets = list(_packets(binary))
        if not 0 < len(packets) <= _MAX_SIGNATURES:
            raise ValueError
        return [Sig.from_bytes(packet) for packet in packets]
    except Exception:
        raise DebianError("is not an OpenPGP signature", place=place, hint=_CHANGED) from None


def _packets(data: bytes) -> Iterator[bytes]:
    """Split signature packets, with their headers. Raises ValueError or IndexError for other packets."""
    at = 0
    while at < len(data):
        start, size = _header(data[at : at + 6])
        end = at + start + size
        if end > len(data):
            raise ValueError
        yield data[at:end]
        at = end


def _header(data: bytes) -> tuple[int, int]:
    """The sizes of a signature packet's header and body in bytes (RFC 9580, 4.2); partial lengths are invalid."""
    first, second = data[0], data[1]
    if first >> 6 == 3:
        tag = first & 0x3F
        if second < 192:
            start, size = 2, second
        elif second < 224:
            start, size = 3, (second - 192 << 8) + data[2] + 192
        else:
            start, size = 6, int.from_bytes(data[2:6], "big")
            tag = tag if second == 255 else 0
    else:
        tag, start = first >> 2 & 15, (2, 3, 5)[first & 3]
        size = int.from_bytes(data[1:start], "big")
    if tag != _TAG_SIGNATURE or not first & 0x80:
        raise ValueError
    return start, size


def _framed(data: bytes, place: str) -> bytes:
    """The armored signature of a file that is exactly one signed message (RFC 9580, 7).

    Raises DebianError for other files, and for carriage returns: they end lines when a signature is computed, but not
    for parsers, so two fields could become one.
    """
    marks = [mark for mark, _ in zip(_MARK.finditer(data), range(4), strict=False)]
    if not marks:
        raise DebianError(
            "is not signed", place=place, hint="the URL is not a mirror of Debian, or a network portal answers instead"
        )
    if [mark[0].rstrip() for mark in marks] != [_BEGIN, _SIGNATURE, _END]:
        raise DebianError("is not one signed message", place=place, hint=_CHANGED)
    begin, signature, end = marks
    headers = _HEADERS.match(data, begin.end() + 1)
    if begin.start() or not headers or headers.end() > signature.start() or data[end.end() :].strip():
        raise DebianError("has text outside of its signed part", place=place, hint=_CHANGED)
    _check_lines(data, place)
    return data[signature.start() : end.end()]


def _check_lines(data: bytes, place: str) -> None:
    if b"\r" in data:
        raise DebianError("has carriage returns", place=place, hint=_CHANGED)
