"""Stamps: a digest and a time, signed with Ed25519."""

from __future__ import annotations

import base64
import re
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Signer:
    """Holds a key for as long as the process lives."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    @property
    def public_key(self) -> str:
        """The public key, in base64."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def stamp(self, digest: str) -> dict[str, str]:
        """Sign a SHA-256 digest with the present time; ValueError for what is none."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError("a digest is 64 lower-case hexadecimal digits")
        signed = f"{digest} {int(time.time())}"
        return {"stamp": signed, "signature": base64.b64encode(self._key.sign(signed.encode())).decode()}


def verify(public_key: str, stamp: str, signature: str) -> bool:
    """Whether `signature` is the key's on `stamp`."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key))
    try:
        key.verify(base64.b64decode(signature), stamp.encode())
    except InvalidSignature:
        return False
    return True
