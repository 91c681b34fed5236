"""Who signed a Release: OpenPGP signatures (RFC 9580), inside of it (InRelease) or beside it (Release.gpg).

Only what is signed comes out of here. As apt decides: one good signature is enough whatever others there are, a key
that has expired is as good as none, and no text stands outside of what is signed.
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

if TYPE_CHECKING:
    from pysequoia import Cert, Sig
    from pysequoia.packet import Packet

_BEGIN, _SIGNATURE, _END = (
    b"-----BEGIN PGP SIGNED MESSAGE-----",
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----END PGP SIGNATURE-----",
)
_MARK = re.compile(rb"^-----[^\n]*", re.MULTILINE)
_HEADERS = re.compile(rb"(?:Hash: [A-Za-z0-9, -]+\n)*[ \t]*\n")
_ARMOR = re.compile(
    rb"-----BEGIN PGP SIGNATURE-----[ \t]*\n(?:[A-Za-z]+: [^\n]*\n)*[ \t]*\n"
    rb"([A-Za-z0-9+/=\s]*?)(?:\n=[A-Za-z0-9+/]{4}\s*)?\n-----END PGP SIGNATURE-----"
)
_LARGEST_KEYRING = 1 << 24
_LARGEST_SIGNATURE = 1 << 16
_MOST_SIGNATURES = 32
_TAG_SIGNATURE = 2
_KEY_HINT = "the keyring of another archive is named with debian-keyring"
_CHANGED = "it was changed on its way, or the mirror is damaged; nothing of it was kept"


@functools.cache
def shipped_keyring() -> tuple[bytes, ...]:
    """The keys of Debian's archive that come with us: bookworm's and trixie's, which sign all suites of their time."""
    folder = resources.files("hatch_docker.debian") / "keys"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".asc")), key=lambda file: file.name)
    return tuple(file.read_bytes() for file in files)


def read_keyring(path: Path) -> tuple[bytes, ...]:
    """The keys in a file, armored or not. Raises DebianError where it cannot be read or holds none."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_KEYRING)
    except OSError as error:
        raise DebianError(f"the keyring cannot be read: {error.strerror or error}", place=str(path)) from None
    if not _certificates((data,)):
        raise DebianError(
            "that is no keyring: there is no OpenPGP key in it",
            place=str(path),
            hint="it is a file as `gpg --export` writes it, not GnuPG's own keybox",
        )
    return (data,)


def signed_text(data: bytes, *, keyring: Sequence[bytes], now: datetime, place: str) -> bytes:
    """What is signed in an InRelease file.

    `now` is the time that keys must not have expired by. Raises DebianError for a file that is not signed by a key of
    `keyring`, that was changed, or that has anything outside of its signed part.
    """
    from pysequoia import verify

    _signatures(_framed(data, place), place)
    asked = _Asked(keyring, now)
    try:
        verified = verify(data, asked.certificates)
    except Exception as error:
        raise asked.refusal(error, place) from None
    asked.check(verified.valid_sigs, place)
    return bytes(verified.bytes or b"")


def detached_text(data: bytes, signature: bytes, *, keyring: Sequence[bytes], now: datetime, place: str) -> bytes:
    """`data`, a Release file, where `signature` (Release.gpg) is one of a key of `keyring`; else as `signed_text`."""
    from pysequoia import verify

    asked = _Asked(keyring, now)
    failure: Exception = ValueError()
    _check_lines(data, place)
    for each in _signatures(signature, f"{place}.gpg"):
        try:
            verified = verify(data, asked.certificates, signature=each)
            asked.check(verified.valid_sigs, place)
        except Exception as error:
            failure = error
        else:
            return data
    raise failure if isinstance(failure, DebianError) else asked.refusal(failure, place)


class _Asked:
    """The keys that a message may be signed by, and which ones it says that it is."""

    def __init__(self, keyring: Sequence[bytes], now: datetime) -> None:
        self._certificates = _certificates(tuple(keyring))
        self._now = now
        self._wanted: set[str] = set()

    def certificates(self, wanted: Sequence[str]) -> list[Cert]:
        self._wanted |= {each.lower()[-16:] for each in wanted}
        return list(self._certificates)

    def check(self, signatures: Sequence[object], place: str) -> None:
        """Raise DebianError unless a signature is by a key that has not expired by now.

        What signs is judged by the time of its signature, which a stolen key can put into the past.
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
        """What is wrong with a message that has no good signature."""
        known = {name[-16:] for each in self._certificates for name in _ends(each)}
        if not self._wanted:
            # A library's first line, without its backtrace.
            reason = str(error).strip().partition("\n")[0][:200]
            return DebianError(f"has a signature that cannot be read: {reason}", place=place, hint=_CHANGED)
        if not self._wanted & known:
            names = ", ".join(sorted(self._wanted)).upper()
            return DebianError(
                f"is signed by keys that are not known here: {names}",
                place=place,
                hint=f"that is no mirror of Debian, or of a release that is not known yet; {_KEY_HINT}",
            )
        return DebianError("is not what was signed: its signature does not match", place=place, hint=_CHANGED)


@functools.lru_cache(maxsize=8)
def _certificates(keyring: tuple[bytes, ...]) -> tuple[Cert, ...]:
    """All keys of a keyring; what cannot be read is left out, as a key of a kind that is not known any more."""
    from pysequoia import Cert

    found: list[Cert] = []
    for data in keyring:
        try:
            found += Cert.split_bytes(data)
        except Exception:  # noqa: S112 (it has no error of its own)
            continue
    return tuple(found)


@functools.lru_cache(maxsize=128)
def _ends(certificate: Cert) -> dict[str, datetime | None]:
    """When each key of a certificate expires, by its fingerprint; None where it never does.

    A key whose own signatures are none, or too weak, is left out.
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
        # What a packet says is read when it is asked for, and may be of a kind that is not known.
        with contextlib.suppress(Exception):
            if packet.fingerprint is not None:
                key, newest = packet, datetime.min.replace(tzinfo=timezone.utc)
            elif key is not None and (bound := _binding(key, packet)) is not None and bound[0] >= newest:
                newest, own = bound
                ends[str(key.fingerprint).lower()] = min((end for end in (own, whole) if end is not None), default=None)
    return ends


def _binding(key: Packet, packet: Packet) -> tuple[datetime, datetime | None] | None:
    """When a packet bound a subkey to its certificate, and until when; None where it does no such thing."""
    from pysequoia.packet import SignatureType

    made, period = packet.signature_created, packet.key_validity_period
    if packet.signature_type != SignatureType.SubkeyBinding or made is None:
        return None
    created = key.key_created
    return made, created + period if period and created else None


def _signatures(data: bytes, place: str) -> list[Sig]:
    """The signatures of a Release.gpg, or at the end of an InRelease, of which there may be several in one.

    A library that is given something else than signatures here, such as what is compressed, would unpack it first: a
    few hundred bytes could take all memory.
    """
    from pysequoia import Sig

    try:
        if len(data) > _LARGEST_SIGNATURE:
            raise ValueError
        armored = _ARMOR.findall(data) if data.lstrip().startswith(b"-----") else None
        binary = data if armored is None else b"".join(map(binascii.a2b_base64, armored))
        packets = list(_packets(binary))
        if not 0 < len(packets) <= _MOST_SIGNATURES:
            raise ValueError
        return [Sig.from_bytes(packet) for packet in packets]
    except Exception:
        raise DebianError("is no OpenPGP signature", place=place, hint=_CHANGED) from None


def _packets(data: bytes) -> Iterator[bytes]:
    """The packets of signatures, each with its header. Raises ValueError or IndexError for others."""
    at = 0
    while at < len(data):
        start, size = _header(data[at : at + 6])
        end = at + start + size
        if end > len(data):
            raise ValueError
        yield data[at:end]
        at = end


def _header(data: bytes) -> tuple[int, int]:
    """How many bytes a signature's header has, and its body (RFC 9580, 4.2), which does not come in parts."""
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
    """The signature of a file that is one message with its signature (RFC 9580, 7), and nothing else.

    Raises DebianError for any other. A carriage return alone ends a line where a signature is made, but not for those
    who read the text: with it two fields could be made one.
    """
    marks = [found for found, _ in zip(_MARK.finditer(data), range(4), strict=False)]
    if not marks:
        raise DebianError(
            "is not signed", place=place, hint="that is no mirror of Debian, or a page that is shown instead"
        )
    if [found[0].rstrip() for found in marks] != [_BEGIN, _SIGNATURE, _END]:
        raise DebianError("is not one signed message", place=place, hint=_CHANGED)
    begin, signature, end = marks
    headers = _HEADERS.match(data, begin.end() + 1)
    if begin.start() or not headers or headers.end() > signature.start() or data[end.end() :].strip():
        raise DebianError("has text that is not part of what is signed", place=place, hint=_CHANGED)
    _check_lines(data, place)
    return data[signature.start() : end.end()]


def _check_lines(data: bytes, place: str) -> None:
    if b"\r" in data:
        raise DebianError("has lines that do not end as Debian's do", place=place, hint=_CHANGED)
