"""Parse the keys that select files: `prune`, `keep`, `extra-files`."""

from __future__ import annotations

import re
import warnings

from pathspec import GitIgnoreSpec

from hatch_docker.config.model import PRUNED, ExtraFiles
from hatch_docker.config.runtime import MAX_ID, absolute, parse_id
from hatch_docker.config.values import fail, integer, list_of, nearest, nonempty, record, shown, text


def glob(value: object, place: str) -> str:
    """A pattern in the syntax of .gitignore."""
    string = nonempty(value, place)
    try:
        with warnings.catch_warnings():
            # FutureWarning: a character class whose meaning will change in Python's `re`.
            warnings.simplefilter("error")
            GitIgnoreSpec.from_lines([string])
    except (ValueError, re.error, Warning):
        fail(place, f"{shown(string)} is not a valid .gitignore pattern")
    return string


def pruned(value: object, place: str) -> str:
    """A kind of files, or a glob. A plain word is not accepted as a glob: it may be a misspelled kind."""
    string = nonempty(value, place)
    if string not in PRUNED and not re.search(r"[/.*?\[]", string):
        kinds = ", ".join(map(repr, PRUNED))
        fail(place, f"{shown(string)} is not one of {kinds}{nearest(string, PRUNED)} (write a directory as 'name/')")
    return glob(string, place)


def extra_files(value: object, place: str) -> ExtraFiles:
    """One entry of `extra-files`."""
    keys = {
        "from": nonempty,
        "into": _into,
        "include": list_of(glob),
        "exclude": list_of(glob),
        "mode": _mode,
        "owner": _owner,
    }
    values = record(keys, required=("from", "into"), what="a table like {from = …, into = …}")(value, place)
    uid, gid = values.pop("owner", (0, 0))
    return ExtraFiles(source=values.pop("from"), uid=uid, gid=gid, **values)


def _into(value: object, place: str) -> str:
    path = absolute(value, place)
    if str(value).endswith("/") and path != "/":
        fail(place, f"{shown(value)} ends with '/': write the path that the file or directory has in the image")
    return path


def _mode(value: object, place: str) -> int:
    # TOML's 755 is decimal, and its 0o755 arrives as 493: only strings are unambiguous.
    string = text(value, place, what='an octal mode in quotes, like "0755"')
    if not re.fullmatch(r"(0o?)?[0-7]{3,4}", string):
        fail(place, f"{shown(string)} is not an octal mode like '0644' or '0755'")
    return int(string.removeprefix("0o"), 8)


def _owner(value: object, place: str) -> tuple[int, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        number = integer(0, MAX_ID)(value, place)
        return number, number
    string = text(value, place, what='an owner like 1000 or "1000:1000"')
    first, colon, second = string.partition(":")
    # As in COPY --chown: without a group, the group has the number of the user.
    uid, gid = parse_id(first), parse_id(second if colon else first)
    if uid is None or gid is None:
        fail(place, f"{shown(string)} is not an owner: write numbers, 'uid' or 'uid:gid'")
    return uid, gid
