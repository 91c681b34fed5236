"""What a build leaves in its stamp. Only builds that were run import this: `stamp` reads the documents as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatch_docker.stamps.files import State, States, paths_of, states_of
from hatch_docker.support.dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The files that a build depends on: the sources below `directories`, all files below `folders`, and those at
    `paths`, which need not exist.

    What builds write is not among them: the usual files in the directory `output`, and the paths `besides`. All paths
    are absolute.
    """

    directories: Sequence[str] = ()
    folders: Sequence[str] = ()
    paths: Sequence[str] = ()
    besides: Sequence[str] = ()
    output: str = ""

    def states(self, known: States, taken: int) -> dict[str, State]:
        """Their states; see `states_of`. Raises OSError, TooLargeError."""
        return states_of(paths_of(self.to_json()), known, taken)

    def to_json(self) -> dict[str, Any]:
        """The document for a stamp, which `paths_of` reads."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The answers to a build's questions.

    `tags` are digests by reference, empty for a tag that did not exist, and `pushed` those that the build pushed, of
    which no mirror is asked. `images` are the IDs and names of images in the engine at `engine` (`plain_address`), by
    the name that they were asked for. `network` has the settings for registries.
    """

    tags: Mapping[str, str]
    pushed: Mapping[str, str]
    images: Mapping[str, Any]
    engine: str
    network: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The document for a stamp, which holds no credentials."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a build made and said.

    `files` are those that it wrote, which must still be as they are, and `texts` small ones by path, which are written
    again. `messages` are pairs of a kind, "info" or "warning", and a line; `output` is for standard output. `entries`
    are the paths of what it used in the cache, relative to that.
    """

    files: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    messages: Sequence[tuple[str, str]] = ()
    output: str = ""
    entries: Sequence[str] = ()
