"""Untrusted tars, read by the standard library in one pass and in bounded memory.

A few hundred kilobytes of a hostile archive can inflate to gigabytes of headers or members.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

_LARGEST_HEADER = 1 << 20
_UNKNOWN = b"?"
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Member(tarfile.TarInfo):
    """A member. Large extended headers are refused, since tarfile reads them whole.

    A global header is a member of its own: engines skip it, while tarfile would apply it to the members after it.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Check a header before tarfile reads what follows. This hook is private to tarfile (checked: 3.10 to 3.13).

        If tarfile did not call it, headers of any size would be read, and global ones applied.
        """
        kind = self.type
        if kind in _EXTENDED and self.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"it has a header of {self.size} bytes")
        if kind == tarfile.XGLTYPE:
            # tarfile skips the content of members of unknown type.
            self.type = _UNKNOWN
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        if kind == tarfile.XGLTYPE:
            member.type = kind
        return member


def members(tar: tarfile.TarFile, *, most: int) -> Iterator[tarfile.TarInfo]:
    """The members of a tar opened with `tarinfo=Member`, without global headers; ReadError for more than `most`."""
    for number, member in enumerate(tar):
        # tarfile keeps them all in memory.
        tar.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it
        if number >= most:
            raise tarfile.ReadError("it has too many files")
        if member.type != tarfile.XGLTYPE:
            yield member
