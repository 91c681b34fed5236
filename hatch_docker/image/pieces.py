"""Pieces of wheels that are too large for one layer: which files each has. No I/O.

Registries limit the size of a blob and the time of an upload. Engines fetch several blobs at once, and unpack the
lowest as soon as it is complete. A broken transfer costs the blob that it carried.
"""

from __future__ import annotations

import hashlib

from hatch_docker.support.dataclasses import dataclass
from hatch_docker.wheels.prepare import PreparedWheel

# In bytes, zipped: a wheel has as many pieces as it fills of these. In the wheels of such sizes (torch, cuDNN, cuBLAS)
# one library has half of the bytes or more, and no layer can have less than a file: others would gain nothing.
_PIECE = 500_000_000
# A file of this size (bytes, unpacked) has a piece of its own, if the wheel has enough pieces.
_LARGE = 200_000_000
_SITE = "/site-packages/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some files of a wheel: those of piece `number`, from 0, of `count`. `alone` have a piece each.

    The piece of a file follows from its own path, and from `alone`, paths in site-packages. So a piece without changed
    files is the same layer in another version of the wheel. The last one has the metadata and what is installed
    elsewhere.
    """

    number: int
    count: int
    alone: tuple[str, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether it is the highest."""
        return self.number == self.count - 1

    def has(self, path: str) -> bool:
        """Whether it has the file that is installed at `path`."""
        return self.has_module(path.partition(_SITE)[2])

    def has_module(self, place: str) -> bool:
        """Whether it has the file at `place` in site-packages; empty for one that is installed elsewhere."""
        if place in self.alone:
            return self.alone.index(place) == self.number
        if not place or place.partition("/")[0].endswith(".dist-info"):
            return self.is_last
        digest = hashlib.sha256(place.encode("utf-8", "surrogateescape")).digest()
        others = self.count - len(self.alone)
        return len(self.alone) + int.from_bytes(digest[:4], "big") % others == self.number


def number_of_pieces(size: int) -> int:
    """The largest number of pieces that a wheel of `size` bytes, zipped, has."""
    return max(1, -(-size // _PIECE))


def pieces_of(wheel: PreparedWheel, count: int) -> list[Piece]:
    """Those of `count` pieces of a wheel that have files, the lowest first."""
    facts = wheel.facts
    places = {path: facts.site_path(path) for path in facts.files}
    sizes = zip(places.values(), facts.sizes, strict=True)
    large = sorted(((-size, place) for place, size in sizes if place and size >= _LARGE))[: count - 1]
    alone = tuple(sorted(place for _, place in large))
    pieces = [Piece(number=number, count=count, alone=alone) for number in range(count)]
    kept = [place for path, place in places.items() if path not in wheel.pruned]
    return [piece for piece in pieces if any(map(piece.has_module, kept))]
