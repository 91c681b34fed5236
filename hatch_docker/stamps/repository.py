"""The files of a Git repository that say which commit is checked out, without running Git (gitrepository-layout)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from hatch_docker.support.patterns import regex

# The settings whose values are paths of files that matter here, and how many files of settings are read.
_NAMED = regex(
    r"""^[ \t]*(?:\[[^\]\n]*\][ \t]*)?(path|excludesfile)[ \t]*=[ \t]*"?([^"\n;#]*[^"\s;#])""",
    re.IGNORECASE | re.MULTILINE,
)
_MOST_SETTINGS = 100


def commit_files(root: str) -> Iterator[str]:
    """The paths of the files by which the commit in `root` is known; they need not exist.

    Those of each directory above are among them: a repository may be made there.
    """
    for place in _places(root):
        yield place
        if os.path.exists(place):
            repository = _repository(place)
            head, common = os.path.join(repository, "HEAD"), _common(repository)
            yield head
            yield os.path.join(common, "packed-refs")
            yield os.path.join(repository, "reftable", "tables.list")
            kind, _, reference = _line(head).partition(": ")
            if kind == "ref":
                yield os.path.join(common, *reference.split("/"))


def tracking_files(root: str, home: str, environ: Mapping[str, str]) -> Iterator[str]:
    """The paths of the files besides, by which Git knows which files it tracks, and which it ignores (git-config)."""
    folder = os.path.join(environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "git")
    settings = [os.path.join(folder, "config"), os.path.join(home, ".gitconfig"), "/etc/gitconfig"]
    settings += [environ[name] for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM") if environ.get(name)]
    yield os.path.join(folder, "ignore")
    for place in filter(os.path.exists, _places(root)):
        repository = _repository(place)
        common = _common(repository)
        yield from (os.path.join(repository, name) for name in ("index", "shallow"))
        yield os.path.join(common, "info", "exclude")
        settings += [os.path.join(common, "config"), os.path.join(repository, "config.worktree")]
    yield from _named_files(settings, home)


def tag_folders(root: str) -> Iterator[str]:
    """The directories with the tags that Git did not pack."""
    for place in filter(os.path.exists, _places(root)):
        folder = os.path.join(_common(_repository(place)), "refs", "tags")
        if os.path.isdir(folder):
            yield folder


def _named_files(settings: list[str], home: str) -> Iterator[str]:
    """Files of settings, and those that they name: others that they include, and ignore files."""
    waiting, seen = settings[::-1], set[str]()
    while waiting and len(seen) < _MOST_SETTINGS:
        path = os.path.abspath(waiting.pop())
        if path in seen:
            continue
        seen.add(path)
        yield path
        for key, value in _NAMED.findall(_text(path)):
            named = os.path.join(home, value[2:]) if value.startswith("~/") else value
            named = os.path.join(os.path.dirname(path), named)
            if key.lower() == "path":
                waiting.append(named)
            else:
                yield named


def has_commit(root: str) -> bool:
    """Whether a commit seems to be checked out in `root`, be Git able to read it or not."""
    *_, place = _places(root)
    repository = _repository(place)
    kind, _, reference = _line(os.path.join(repository, "HEAD")).partition(": ")
    if kind != "ref":
        return bool(kind)
    names = (reference.split("/"), ["packed-refs"], ["reftable", "tables.list"])
    return any(os.path.exists(os.path.join(_common(repository), *each)) for each in names)


def is_top(root: str) -> bool:
    """Whether a directory is the top of a Git repository."""
    return os.path.exists(os.path.join(root, ".git"))


def _places(root: str) -> Iterator[str]:
    """Where the repository of `root` may be, up to the first that exists."""
    directory = os.path.realpath(root)
    while True:
        place = os.path.join(directory, ".git")
        yield place
        above = os.path.dirname(directory)
        if above == directory or os.path.exists(place):
            return
        directory = above


def _repository(place: str) -> str:
    """The directory of a repository; that of a worktree is named in a file."""
    if os.path.isdir(place):
        return place
    named = _line(place).partition("gitdir:")[2].strip()
    return os.path.join(os.path.dirname(place), named)


def _common(repository: str) -> str:
    """The directory that a worktree shares with the others."""
    return os.path.normpath(os.path.join(repository, _line(os.path.join(repository, "commondir")) or "."))


def _line(path: str) -> str:
    """The first line of a file; empty if it cannot be read."""
    return _text(path, 4096).partition("\n")[0].strip()


def _text(path: str, most: int = 1 << 20) -> str:
    """The beginning of a file; empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(most)
    except OSError:
        return ""
