"""Entries of a registry cache: documents of the local cache with the blobs that they name, sealed, and in lines.

A line is `RECIPE SEAL PAYLOAD`. RECIPE is the hash of the kind and the cache key, which cover all that shapes the
document; SEAL an HMAC over both others, or `-`; PAYLOAD a JSON object. So one line is an entry, and many are a set.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from hatch_docker.caching.kinds import KINDS, fits
from hatch_docker.errors import ImageError
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.dataclasses import dataclass, field

# Part of what is sealed and of every tag: raise it if lines or artifacts change.
FORMAT = "1"
# In bytes. What a stranger's set or entry may inflate to.
LARGEST_TEXT = 64 << 20
_UNSEALED = b"-"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is stored. Nothing of the payload is checked yet."""

    recipe: str
    payload: bytes
    seal: str = ""

    @property
    def line(self) -> bytes:
        """The entry as a line, without its end."""
        return b" ".join((self.recipe.encode(), self.seal.encode() or _UNSEALED, self.payload))


@dataclass(frozen=True, slots=True)
class Found:
    """What an entry holds: a document of the local cache, and the blobs that it names."""

    value: dict[str, Any]
    blobs: tuple[Descriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class Sealer:
    """Signs entries with a secret key, and recognizes those that it signed. Without a key, any entry will do."""

    key: bytes = field(default=b"", repr=False)

    def sealed(self, recipe: str, found: Found) -> Entry:
        """The entry of a recipe."""
        document = {"value": found.value, "blobs": [each.to_json() for each in found.blobs]}
        payload = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        return Entry(recipe, payload, self._seal(recipe, payload) if self.key else "")

    def accepts(self, entry: Entry) -> bool:
        """Whether the entry has our seal."""
        return not self.key or hmac.compare_digest(
            entry.seal.encode(), self._seal(entry.recipe, entry.payload).encode()
        )

    def _seal(self, recipe: str, payload: bytes) -> str:
        # The recipe has no line end, so no two pairs give one message.
        message = b"\n".join((b"hatch-docker cache", FORMAT.encode(), recipe.encode(), payload))
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()


def recipe_of(kind: str, key: str) -> str:
    """The recipe of a document, under which every cache has it."""
    return hashlib.sha256(f"{kind}\0{key}".encode()).hexdigest()


def open_entry(entry: Entry, kind: str) -> Found | None:
    """What an entry holds; None if that contradicts itself: no JSON, or a document that names other blobs."""
    try:
        document = json.loads(entry.payload)
        value, listed = document["value"], document["blobs"]
        if not fits(value, KINDS[kind].shape):
            return None
        blobs = tuple(map(Descriptor.from_json, listed))
        named = KINDS[kind].blobs(value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ImageError):
        return None
    return Found(value, blobs) if _agree(named, blobs) else None


def _agree(named: Mapping[str, int | None], blobs: tuple[Descriptor, ...]) -> bool:
    """Whether the blobs are those that a document names, with the sizes that it says."""
    sizes = {blob.digest: blob.size for blob in blobs}
    return sizes.keys() == named.keys() and all(size in (None, sizes[digest]) for digest, size in named.items())


def pack(entries: Iterable[Entry]) -> bytes:
    """Entries as compressed lines, in the order of their recipes."""
    return zlib.compress(b"\n".join(entry.line for entry in sorted(entries, key=lambda each: each.recipe)))


def unpack(data: bytes) -> dict[str, Entry]:
    """The entries in compressed lines, by recipe; damaged lines are left out. Raises ImageError for other data."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, LARGEST_TEXT)
    except zlib.error as error:
        raise ImageError(f"its entries cannot be decompressed: {error}") from None
    if not inflater.eof:
        raise ImageError("its entries are cut off, or larger than any can be")
    entries = {}
    for line in text.split(b"\n"):
        recipe, _, rest = line.partition(b" ")
        seal, space, payload = rest.partition(b" ")
        if space and recipe.isascii() and seal.isascii():
            name = recipe.decode()
            entries[name] = Entry(name, payload, "" if seal == _UNSEALED else seal.decode())
    return entries
