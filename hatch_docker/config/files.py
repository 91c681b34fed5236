"""The keys that choose files: `prune`, `keep`, `extra-files`."""

from __future__ import annotations

import re
import warnings

from pathspec import GitIgnoreSpec

from hatch_docker.config.model import PRUNED, ExtraFiles
from hatch_docker.config.runtime import MOST_ID, absolute, identity
from hatch_docker.config.values import fail, integer, list_of, nearest, record, shown, text, word


def glob(value: object, place: str) -> str:
    """A pattern as .gitignore has them."""
    found = word(value, place)
    try:
        with warnings.catch_warnings():
            # A character class that Python's expressions will read otherwise one day.
            warnings.simplefilter("error")
            GitIgnoreSpec.from_lines([found])
    except (ValueError, re.error, Warning):
        fail(place, f"{shown(found)} is not a pattern as .gitignore has them")
    return found


def pruned(value: object, place: str) -> str:
    """A kind of files, or a glob; a bare word is no glob, so that a misspelt kind is a mistake."""
    found = word(value, place)
    if found not in PRUNED and not re.search(r"[/.*?\[]", found):
        known = ", ".join(repr(name) for name in PRUNED)
        fail(place, f"{shown(found)} is none of {known}{nearest(found, PRUNED)} (a folder is written 'name/')")
    return glob(found, place)


def extra_files(value: object, place: str) -> ExtraFiles:
    """One entry of `extra-files`."""
    keys = {
        "from": word,
        "into": _into,
        "include": list_of(glob),
        "exclude": list_of(glob),
        "mode": _mode,
        "owner": _owner,
    }
    found = record(keys, required=("from", "into"), what="a table like {from = …, into = …}")(value, place)
    uid, gid = found.pop("owner", (0, 0))
    return ExtraFiles(source=found.pop("from"), uid=uid, gid=gid, **found)


def _into(value: object, place: str) -> str:
    found = absolute(value, place)
    if str(value).endswith("/") and found != "/":
        fail(place, f"{shown(value)} ends with '/': name the file or folder itself, as it is to be called in the image")
    return found


def _mode(value: object, place: str) -> int:
    # TOML's 755 is not octal and its 0o755 cannot be told from 493, so that only strings are clear.
    found = text(value, place, what='an octal mode in quotes, like "0755"')
    if not re.fullmatch(r"(0o?)?[0-7]{3,4}", found):
        fail(place, f"{shown(found)} is not an octal mode like '0644' or '0755'")
    return int(found.removeprefix("0o"), 8)


def _owner(value: object, place: str) -> tuple[int, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        found = integer(0, MOST_ID)(value, place)
        return found, found
    words = text(value, place, what='an owner like 1000 or "1000:1000"')
    uid, _, gid = words.partition(":")
    # As in COPY --chown: a user without a group has the group of the same number.
    both = identity(uid), identity(gid if ":" in words else uid)
    if both[0] is None or both[1] is None:
        fail(place, f"{shown(words)} is not an owner: write numbers, 'uid' or 'uid:gid'")
    return both[0], both[1]
