"""The commit that a project is checked out at, read by the machine's own Git."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_COMMIT = re.compile(r"^([0-9]+) ([0-9a-f]{40,64})$", re.MULTILINE)
# What Git says if there is no repository, or one without commits.
_NONE = ("not a git repository", "unknown revision", "bad revision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit: its full hash and its time, in seconds since the epoch.

    Without one the hash is empty and the time None. `refusal` is why Git did not read the repository, and how to allow
    it if Git says so.
    """

    revision: str = ""
    time: int | None = None
    refusal: str = ""


def head_of(root: Path, environ: Mapping[str, str]) -> Commit:
    """The commit that the repository of a folder, or of a parent of it, is at.

    Git checks who owns the repository before it obeys its configuration, which can name programs to run; nothing here
    overrides that (git-config, `safe.directory`).
    """
    # rev-list is plumbing: no one's `git log` settings change its output.
    command = ["git", "-C", str(root), "rev-list", "-1", "--timestamp", "HEAD", "--"]
    try:
        done = subprocess.run(  # noqa: S603 (no shell; the program is the user's own git)
            command,
            env={**environ, "LC_ALL": "C"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError:
        return Commit()
    if done.returncode == 0:
        found = _COMMIT.search(done.stdout)
        return Commit(revision=found[2], time=int(found[1])) if found else Commit()
    lines = [line.strip() for line in done.stderr.splitlines()]
    fatal = next((line for line in lines if line.startswith("fatal: ")), "")
    if not fatal or any(words in fatal for words in _NONE):
        return Commit()
    exception = next((f" (if you trust it: {line})" for line in lines if line.startswith("git config ")), "")
    return Commit(refusal=fatal.removeprefix("fatal: ") + exception)
