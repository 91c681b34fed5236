"""What the options of a command line say about a run: values of keys, and how it runs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from hatch_docker.config import Option, check_options, fail, gather, set_option
from hatch_docker.session import RunOptions
from hatch_docker.support.patterns import regex

# A prefix of an annotation's key, as in buildx: a list of types, which may have a platform.
_TYPED = regex(r"((?:[a-z-]+(?:\[[^\]]*\])?,?)+):(.*)", re.DOTALL)
_ANNOTATED = {"manifest": "manifest-annotations", "index": "index-annotations"}


def run_options(chosen: argparse.Namespace, *, names: Sequence[str] = ()) -> RunOptions:
    """The options of a run. `names` are names of the image besides those of `--tag`.

    Raises ConfigError with all mistakes that can be seen without the project.
    """
    given: Mapping[str, Any] = vars(chosen)
    keys: dict[str, Option] = {}

    def add(make: Callable[[Sequence[str]], Iterable[tuple[str, Option]]], option: str) -> None:
        keys.update(make(given.get(option, ())))

    calls: list[Callable[[], None]] = [
        partial(add, _sets, "set"),
        lambda: keys.update(_names([*given.get("tag", ()), *names])),
        partial(add, _platforms, "platform"),
        partial(add, _labels, "label"),
        partial(add, _annotations, "annotation"),
        partial(add, _caches, "cache"),
        partial(add, _cache_mode, "cache_mode"),
        # The last one, with the others' options.
        lambda: check_options(keys),
    ]
    gather(calls)
    return RunOptions(
        keys=keys,
        progress=given.get("progress", "auto"),
        no_cache=given.get("no_cache", False),
        pull=given.get("pull", False),
    )


def _sets(texts: Sequence[str]) -> Iterable[tuple[str, Option]]:
    return gather(partial(set_option, each, "--set") for each in texts)


def _names(names: Sequence[str]) -> Iterator[tuple[str, Option]]:
    if names:
        yield "references", Option(place="--tag", value=list(names))


def _caches(names: Sequence[str]) -> Iterator[tuple[str, Option]]:
    if names:
        yield "cache", Option(place="--cache", value=list(names))


def _cache_mode(mode: Sequence[str]) -> Iterator[tuple[str, Option]]:
    if mode:
        yield "cache-mode", Option(place="--cache-mode", value=mode)


def _platforms(lists: Sequence[str]) -> Iterator[tuple[str, Option]]:
    names = [name.strip() for each in lists for name in each.split(",") if name.strip()]
    if lists:
        yield "platforms", Option(place="--platform", value=names)


def _labels(texts: Sequence[str]) -> Iterator[tuple[str, Option]]:
    labels = dict(gather(partial(_pair, each, "--label") for each in texts))
    if labels:
        yield "labels", Option(place="--label", value=labels, adds=True)


def _annotations(texts: Sequence[str]) -> Iterator[tuple[str, Option]]:
    values: dict[str, dict[str, str]] = {}
    for keys, name, text in gather(partial(_annotation, each) for each in texts):
        for key in keys:
            values.setdefault(key, {})[name] = text
    for key, value in values.items():
        yield key, Option(place="--annotation", value=value, adds=True)


def _annotation(argument: str) -> tuple[list[str], str, str]:
    """The keys of the configuration that an annotation belongs to, its name and its value."""
    name, text = _pair(argument, "--annotation")
    typed = _TYPED.fullmatch(name)
    if not typed:
        return ["annotations"], name, text
    kinds = typed[1].split(",")
    for kind in kinds:
        if kind not in _ANNOTATED:
            what = "for one platform alone" if "[" in kind else "of this type"
            fail("--annotation", f"{kind + ':'!r}: annotations {what} are not supported, only 'manifest:' and 'index:'")
    return [_ANNOTATED[kind] for kind in kinds], typed[2], text


def _pair(argument: str, place: str) -> tuple[str, str]:
    name, equals, text = argument.partition("=")
    if not equals or not name:
        fail(place, f"{argument!r} is not of the form KEY=VALUE")
    return name, text
