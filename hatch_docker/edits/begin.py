"""Begin what takes longest after an edit, before what makes the image is imported."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.image.bytecode.known import KnownPython
from hatch_docker.stamps.questions import still_answered
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.documents import blob_path
from hatch_docker.support.threads import begun

if TYPE_CHECKING:
    from hatch_docker.stamps.stamp import Stamp

# In bytes: larger files are read in another way, or not compiled.
LARGEST = 1 << 20


class UnsafeError(Exception):
    """More than the recorded files may have to change: a whole build has to be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An edit: the new `contents` of members of the project's wheel, and the SHA-256 of the earlier ones.

    `compiled` waits for the .pyc files of modules, by member, `answered` for whether registries answer as they did, and
    `pushed` for whether they still have the earlier image.
    """

    contents: Mapping[str, bytes]
    earlier: Mapping[str, str]
    compiled: Callable[[], Mapping[str, bytes | None]]
    answered: Callable[[], bool]
    pushed: Callable[[], bool]


def begin(stamp: Stamp) -> Begun:
    """Begin in other threads. Raises UnsafeError, OSError, KeyError and TypeError."""
    edits = stamp.document["edits"]
    members = edits["wheel"]["files"]
    if not members.keys() >= stamp.changes.keys():
        raise UnsafeError
    contents = {members[path]: _read(path, now) for path, (_, now) in stamp.changes.items()}
    # The engine's answer is about the earlier image.
    asked = {**stamp.document["asked"], "images": {}}
    return Begun(
        contents=contents,
        earlier={members[path]: before for path, (before, _) in stamp.changes.items()},
        compiled=begun(partial(_compiled, edits, contents, stamp.folder)),
        answered=begun(partial(still_answered, {**asked, "pushed": {}}, os.environ)),
        pushed=begun(partial(still_answered, {**asked, "tags": {}}, os.environ)),
    )


def _read(path: str, digest: str) -> bytes:
    """A file that changed. Raises UnsafeError if it did so again, or is unusually large."""
    with Path(path).open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST or hashlib.sha256(data).hexdigest() != digest:
        raise UnsafeError
    return data


def _compiled(edits: Mapping[str, Any], contents: Mapping[str, bytes], cache: str) -> dict[str, bytes | None]:
    """The .pyc file of each module, by its path in the wheel. Raises BytecodeUnavailableError and TypeError."""
    python, site = edits["image"]["python"], edits["wheel"]["site"]
    modules = sorted(path for path in contents if path.endswith(".py"))
    if python is None or not modules:
        return {}
    known = KnownPython.from_json(python)
    files = Path(blob_path(cache, known.archive))
    found = known.compile(files, [(f"/{site}/{path}", contents[path]) for path in modules])
    return dict(zip(modules, found, strict=True))
