"""Memory that was freed goes back to the system."""

from __future__ import annotations

import contextlib
import sys

# malloc.h: M_MMAP_THRESHOLD.
_THRESHOLD = -3
_BYTES = 1 << 17


def return_large_blocks() -> None:
    """Let glibc return freed blocks of 128 KiB and more to the system at once, as it does when a process starts.

    It raises that limit to the largest block that was ever freed (mallopt(3)), up to 32 MiB, and then keeps what lies
    between small blocks that are still in use. Other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    # musl has no such function.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_THRESHOLD, _BYTES)
