"""Seals: records of how a file looked when its content was verified. It imports nothing of ours.

A file that looks as its seal says need not be hashed again. As in Git's index, a file that changed in the instant in
which it was sealed is not trusted: it could change once more without a new timestamp.
"""

from __future__ import annotations

import os
from pathlib import Path


def is_sealed(seal: Path, status: os.stat_result) -> bool:
    """Whether the file with this status looks as it did when `seal` was made."""
    try:
        return seal.read_text(encoding="ascii") == _text(status) + "\n"
    except (OSError, ValueError):
        return False


def make_seal(seal: Path, status: os.stat_result) -> None:
    """Record how a file looked before its content was read and found right. Raises OSError."""
    with seal.open("w", encoding="ascii") as file:
        file.write(_text(status))
        file.flush()
        # Both timestamps are the file system's. The last character makes the seal valid.
        if os.fstat(file.fileno()).st_mtime_ns > status.st_mtime_ns:
            file.write("\n")


def _text(status: os.stat_result) -> str:
    """What changes with a file: on Windows, `st_ctime_ns` is when it was made."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
