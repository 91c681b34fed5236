"""Certificates of a PEM file (RFC 7468), checked and in one normal form."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.errors import ConfigError
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

# In bytes; all certificate authorities of Mozilla take a quarter of a megabyte.
_LIMIT = 4 << 20
_KEY = regex(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
# A block without an end takes the rest of the text. Looking for an end behind each BEGIN would take quadratic time.
_BLOCK = regex(rb"-----BEGIN (?:X509 )?CERTIFICATE-----\s(.*?)(?:(-----END (?:X509 )?CERTIFICATE-----)|\Z)", re.DOTALL)
_LABEL = regex(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
# Commands that convert what is not a certificate in PEM, by the label in PEM.
_CONVERSIONS = {
    b"PKCS7": "openssl pkcs7 -print_certs -in {file} -out company.pem",
    b"CMS": "openssl pkcs7 -print_certs -in {file} -out company.pem",
    b"TRUSTED CERTIFICATE": "openssl x509 -in {file} -out company.pem",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Certificates as PEM texts, and a `name` for files with them: letters, digits, `-`, `_` and dots within."""

    name: str
    texts: tuple[str, ...]

    @property
    def digest(self) -> str:
        """What decides the files that are made of them, for cache keys."""
        return hashlib.sha256("\0".join((self.name, *self.texts)).encode()).hexdigest()


def read_certificates(path: Path, place: str) -> Certificates:
    """The certificates in a PEM file, each once, in their order, as `normalized` writes them.

    Raises ConfigError at `place` for a file that is missing or has no certificate, a damaged one, or a private key.
    """
    try:
        if path.is_dir():
            raise ConfigError([(place, f"{path} is a directory: name a file of certificates in PEM")])
        if path.exists() and not path.is_file():
            raise ConfigError([(place, f"{path} is not a regular file: name a file of certificates in PEM")])
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", "") or str(error)
        raise ConfigError([(place, f"{path} cannot be read: {problem}; the path is relative to the project")]) from None
    if problem := _problem(data, path.name):
        raise ConfigError([(place, f"{path} {problem}")])
    found = [_certificate(each) for each in _blocks(data)]
    for number, each in enumerate(found, 1):
        if not each:
            raise ConfigError([(place, f"{path}: certificate {number} is damaged; export it again, in PEM")])
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.stem).strip(".") or "certificates"
    return Certificates(name=name, texts=tuple(dict.fromkeys(found)))


def normalized(data: bytes) -> frozenset[str]:
    """The certificates of a bundle, unchecked: in PEM with lines of 64 characters."""
    return frozenset(ssl.DER_cert_to_PEM_cert(der) for each in _blocks(data) if (der := _decoded(each)))


def _blocks(data: bytes) -> Iterator[bytes]:
    """What is between the first and the last line of each certificate: base64, unless it is damaged."""
    return (match[1] for match in _BLOCK.finditer(data) if match[2])


def _problem(data: bytes, name: str) -> str:
    """Why a file cannot be used; empty if it has certificates only."""
    if len(data) > _LIMIT:
        return f"is larger than {_LIMIT >> 20} MiB: name a file with only the certificates to add"
    if not data.strip():
        return "is empty: it must have at least one certificate in PEM"
    if _KEY.search(data):
        return "has a private key, which must not get into an image: name a file with certificates only"
    if next(_blocks(data), None) is not None:
        return ""
    label = _LABEL.search(data)
    if label is None and data[:1] == b"\x30":
        return f"is DER, not PEM; convert it: {_conversion(data).format(file=name)}"
    if label and label[1] in _CONVERSIONS:
        found = label[1].decode()
        return f"has a {found} block, not a certificate; convert it: {_CONVERSIONS[label[1]].format(file=name)}"
    return "has no certificate in PEM, which starts with '-----BEGIN CERTIFICATE-----' and ends with such a line"


def _conversion(der: bytes) -> str:
    """The command that converts a file in DER: a certificate; or a container of several, by what it starts with."""
    if _is_certificate(der):
        return "openssl x509 -inform der -in {file} -out company.pem"
    # PKCS #7 starts with an object identifier, PKCS #12 with version 3.
    if b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" in der[:32]:
        return "openssl pkcs7 -inform der -print_certs -in {file} -out company.pem"
    return "openssl pkcs12 -nokeys -in {file} -out company.pem"


def _certificate(encoded: bytes) -> str:
    """A certificate in PEM, given its base64; empty if it is damaged."""
    der = _decoded(encoded)
    return ssl.DER_cert_to_PEM_cert(der) if _is_certificate(der) else ""


def _decoded(encoded: bytes) -> bytes:
    """The content of a block; empty if it is not base64."""
    try:
        return base64.b64decode(b"".join(encoded.split()), validate=True)
    except binascii.Error:
        return b""


def _is_certificate(der: bytes) -> bool:
    """Whether OpenSSL reads it as an X.509 certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (ssl.SSLError, ValueError):
        return False
    return True
