"""Read the checked-out commit of a project with the host's Git."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

_COMMIT = regex(r"^([0-9]+) ([0-9a-f]{40,64})$", re.MULTILINE)
# Git's messages about a directory without a repository, and a repository without commits.
_NO_COMMIT = ("not a git repository", "unknown revision", "bad revision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit: its full hash and its time, in seconds since the epoch; empty and None without a commit.

    `refusal` is why Git did not read the repository, with its advice on how to allow it, if any.
    """

    revision: str = ""
    time: int | None = None
    refusal: str = ""


def head_of(root: Path, environ: Mapping[str, str]) -> Commit:
    """The checked-out commit of the Git repository that contains `root`.

    Git checks the owner of the repository before it uses its configuration, which can run programs. This check is not
    overridden (git-config, `safe.directory`).
    """
    # rev-list is plumbing: settings of `git log` do not change its output.
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
        match = _COMMIT.search(done.stdout)
        return Commit(revision=match[2], time=int(match[1])) if match else Commit()
    lines = [line.strip() for line in done.stderr.splitlines()]
    fatal = next((line for line in lines if line.startswith("fatal: ")), "")
    if not fatal or any(message in fatal for message in _NO_COMMIT):
        return Commit()
    advice = next((f" (if you trust it: {line})" for line in lines if line.startswith("git config ")), "")
    return Commit(refusal=fatal.removeprefix("fatal: ") + advice)
