"""Parsers of plain values, and what combines them.

A parser takes a value as TOML gives it and the place where it was written, and returns what it means or raises a
ConfigError. Combinators run every parser they hold before they raise, so that all mistakes come at once.
"""

from __future__ import annotations

import datetime
import difflib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn, TypeVar

from hatch_docker.errors import ConfigError

T = TypeVar("T")
Parser = Callable[[object, str], T]

# In this order: a boolean is an integer to Python, a date with a time is a date.
_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a float"),
    (str, "a string"),
    (list, "a list"),
    (dict, "a table"),
    (datetime.datetime, "a date and time"),
    (datetime.date, "a date"),
    (datetime.time, "a time"),
)


def fail(place: str, message: str) -> NoReturn:
    """Raise the ConfigError of one mistake."""
    raise ConfigError([(place, message)])


def expected(what: str, value: object, place: str) -> NoReturn:
    """Raise the ConfigError of a value of the wrong type."""
    found = next((name for kind, name in _TYPES if isinstance(value, kind)), type(value).__name__)
    fail(place, f"expected {what}, got {found}")


def gather(calls: Iterable[Callable[[], T]]) -> list[T]:
    """The results of all calls; raise one ConfigError with the mistakes of all of them."""
    results, problems = [], []
    for call in calls:
        try:
            results.append(call())
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return results


def text(value: object, place: str, *, what: str = "a string") -> str:
    """A string that can stand in a JSON document and a process's environment."""
    if not isinstance(value, str):
        expected(what, value, place)
    if "\0" in value:
        fail(place, "a NUL character cannot be part of it")
    try:
        value.encode()
    except UnicodeEncodeError:
        fail(place, "it is not valid UTF-8")
    return value


def word(value: object, place: str) -> str:
    """A string that is not empty."""
    found = text(value, place)
    if not found.strip():
        fail(place, "an empty string says nothing here")
    return found


def integer(lowest: int, highest: int) -> Parser[int]:
    """An integer of a range, both ends included."""

    def parse(value: object, place: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            expected("an integer", value, place)
        if not lowest <= value <= highest:
            fail(place, f"expected an integer from {lowest} to {highest}, got {shown(value)}")
        return value

    return parse


def choice(*names: str) -> Parser[str]:
    """One of a few strings."""

    def parse(value: object, place: str) -> str:
        found = text(value, place)
        if found not in names:
            known = ", ".join(repr(name) for name in names)
            fail(place, f"{shown(found)} is none of {known}{nearest(found, names)}")
        return found

    return parse


def list_of(
    item: Parser[T], what: str = "strings", *, empty: bool = True, unique: bool = True
) -> Parser[tuple[T, ...]]:
    """A list; `what` names its items, `empty` says whether it may have none, `unique` drops what it repeats."""

    def parse(value: object, place: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            expected(f"a list of {what}", value, place)
        if not value and not empty:
            fail(place, "an empty list says nothing here; leave the key out for the default")
        items = gather(partial(item, each, f"{place}[{position}]") for position, each in enumerate(value))
        return tuple(each for position, each in enumerate(items) if not unique or each not in items[:position])

    return parse


def table_of(name: Parser[str], item: Parser[str], what: str = "strings") -> Parser[dict[str, str]]:
    """A table whose keys are the user's; `name` checks each of them."""

    def one(key: str, value: object, place: str) -> tuple[str, str]:
        found, meant = gather((partial(name, key, place), partial(item, value, place)))
        return found, meant

    def parse(value: object, place: str) -> dict[str, str]:
        if not isinstance(value, Mapping):
            expected(f"a table of {what}", value, place)
        return dict(gather(partial(one, key, each, below(place, key)) for key, each in value.items()))

    return parse


def record(
    parsers: Mapping[str, Parser[Any]], required: Collection[str] = (), what: str = "a table"
) -> Parser[dict[str, Any]]:
    """A table whose keys are known; the result has what was written, by the same keys."""

    def one(key: str, value: object, place: str) -> tuple[str, Any]:
        if key not in parsers:
            fail(below(place, key), f"unknown key{nearest(key, parsers)}")
        return key, parsers[key](value, below(place, key))

    def lacking(key: str, place: str) -> NoReturn:
        fail(place, f"lacks the key {key!r}")

    def parse(value: object, place: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            expected(what, value, place)
        calls: list[Callable[[], tuple[str, Any]]] = [partial(one, key, each, place) for key, each in value.items()]
        calls += [partial(lacking, key, place) for key in required if key not in value]
        return dict(gather(calls))

    return parse


def below(place: str, key: str) -> str:
    """The TOML path of a table's key, quoted where TOML would have it so, and printable whatever is in it."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
        key = json.dumps(key, ensure_ascii=False).encode(errors="backslashreplace").decode()
    return f"{place}.{key}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A question after the known name that was probably meant; nothing where none is near."""
    close = difflib.get_close_matches(name[:80], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """A value in a message: short, on one line, printable everywhere."""
    try:
        whole = repr(value)
    except ValueError:  # more digits than Python converts (sys.set_int_max_str_digits)
        return "an enormous number"
    return whole if len(whole) <= 80 else f"{whole[:80]}…"
