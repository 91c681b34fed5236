"""A build that its stamp replays, and its usual command lines, read without argparse."""

from __future__ import annotations

import os

from hatch_docker.errors import HatchDockerError
from hatch_docker.frontends.cli.console import CommandConsole
from hatch_docker.stamps.stamp import Stamp, stamp_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# Options that decide how a build is made and shown, and not what it makes.
_WITHOUT_INFLUENCE = frozenset(("no_cache", "progress", "pull", "quiet"))
# The options of `build`, by what argparse stores them as.
_REPEATED = ("tag", "output", "platform", "label", "annotation", "cache", "set")
_VALUES = {"cache_mode": "", "metadata_file": None, "iidfile": None, "wheel": None, "package": "", "progress": "auto"}
_SWITCHES = ("push", "load", "update_index", "no_cache", "pull", "no_sources", "quiet")
_SHORT = {"-t": "--tag", "-o": "--output", "-q": "--quiet"}
_PROGRESS = ("auto", "plain", "tty", "quiet")


def read_build(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What argparse reads from the command line of a build, with texts for paths; None if only argparse can tell."""
    if list(arguments[:1]) != ["build"]:
        return None
    chosen: dict[str, Any] = {**{name: [] for name in _REPEATED}, **_VALUES, **dict.fromkeys(_SWITCHES, False)}
    words = iter(arguments[1:])
    for word in words:
        option, is_joined, value = _SHORT.get(word, word).partition("=")
        name = option[2:].replace("-", "_") if option.startswith("--") and "_" not in option else ""
        if name in _SWITCHES and not is_joined:
            chosen[name] = True
        elif name in _REPEATED or name in _VALUES:
            value = value if is_joined else next(words, "")
            # Some words that begin with a dash are values, and some empty ones mistakes.
            if not value or (value.startswith("-") and not is_joined):
                return None
            chosen[name] = [*chosen[name], value] if name in _REPEATED else value
        elif "project" not in chosen and word and not word.startswith("-"):
            chosen["project"] = word
        else:
            return None
    chosen.setdefault("project", ".")
    return chosen if chosen["progress"] in _PROGRESS else None


def console_of(chosen: Mapping[str, Any]) -> CommandConsole:
    """The terminal, as quiet as the options of a command say."""
    return CommandConsole(verbosity=-1 if chosen["quiet"] or chosen["progress"] == "quiet" else 0)


def stamp_of(chosen: Mapping[str, Any]) -> Stamp:
    """The stamp of a build; options without influence on its result are not among its words."""
    words = {name: value for name, value in chosen.items() if name not in _WITHOUT_INFLUENCE}
    return Stamp(stamp_folder(os.environ), ["hatch-docker", words], os.environ)


def is_replayed(stamp: Stamp, chosen: Mapping[str, Any]) -> bool:
    """Say what the build said, if it would make the same again, or make what an edit changes: whether that was done.

    Exits if nothing can be said.
    """
    if chosen["no_cache"] or chosen["pull"]:
        return False
    console = console_of(chosen)
    text = stamp.replay(console)
    if text is None and stamp.edits:
        from hatch_docker.edits.run import run

        text = run(stamp, console, chosen["progress"])
    if text is None:
        return False
    try:
        console.display(text)
    except HatchDockerError as error:
        console.abort(str(error))
    return True
