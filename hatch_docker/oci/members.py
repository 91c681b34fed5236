"""Tars that others made, read in one pass and in bounded memory, by the standard library.

A few hundred kilobytes of a hostile archive are gigabytes of headers or members when they are inflated.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

_LARGEST_HEADER = 1 << 20
_UNKNOWN = b"?"
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Member(tarfile.TarInfo):
    """A member whose extended header is of a size that can be read whole, as tarfile does.

    A global header is a member of its own, as engines take it: they pass it over, where tarfile would obey it.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Read what follows a header, before tarfile does. This is private to tarfile (checked with 3.10 to 3.13).

        A tarfile without it would read headers of any size, and obey global ones.
        """
        kind = self.type
        if kind in _EXTENDED and self.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"it has a header of {self.size} bytes")
        if kind == tarfile.XGLTYPE:
            # The content of a member of unknown type is skipped.
            self.type = _UNKNOWN
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        if kind == tarfile.XGLTYPE:
            member.type = kind
        return member


def members(tar: tarfile.TarFile, *, most: int) -> Iterator[tarfile.TarInfo]:
    """The members of a tar that was opened for `Member`s, without global headers; ReadError for more than `most`."""
    for number, member in enumerate(tar):
        # tarfile remembers them all.
        tar.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it
        if number >= most:
            raise tarfile.ReadError("it has too many files")
        if member.type != tarfile.XGLTYPE:
            yield member
