"""The places of files in a cache, and its documents: JSON by key, with a checksum. It imports nothing of ours.

The first line of a file is the checksum of the rest.
"""

from __future__ import annotations

import hashlib
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

BLOBS = "blobs"


def document_path(folder: str, kind: str, key: str) -> str:
    """The place of a document in a cache."""
    return os.path.join(folder, kind, hashlib.sha256(key.encode()).hexdigest())


def blob_path(folder: str, digest: str) -> str:
    """The place of a blob in a cache."""
    algorithm, _, value = digest.partition(":")
    return os.path.join(folder, BLOBS, algorithm, value)


def encoded(key: str, value: Mapping[str, Any]) -> bytes:
    """The content of a document's file."""
    data = json.dumps({"key": key, "value": value}, sort_keys=True).encode()
    return _checksum(data) + b"\n" + data


def decoded(content: bytes, key: str) -> dict[str, Any] | None:
    """The document in the content of its file; None if that is damaged, or of another key."""
    checksum, _, data = content.partition(b"\n")
    if checksum != _checksum(data):
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("key") != key or not isinstance(document.get("value"), dict):
        return None
    value: dict[str, Any] = document["value"]
    return value


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
