"""Parsers of plain values, and combinators of parsers.

A parser takes a value from TOML and the place where it is written, and returns the parsed value or raises ConfigError.
A combinator calls all of its parsers before it raises, so that all mistakes are reported at once.
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

# In this order, since bool is a subclass of int, and datetime of date.
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
    """Raise a ConfigError of one mistake."""
    raise ConfigError([(place, message)])


def expected(what: str, value: object, place: str) -> NoReturn:
    """Raise a ConfigError for a value of the wrong type."""
    actual = next((name for kind, name in _TYPES if isinstance(value, kind)), type(value).__name__)
    fail(place, f"expected {what}, got {actual}")


def gather(calls: Iterable[Callable[[], T]]) -> list[T]:
    """The results of all calls. Raises one ConfigError with all mistakes."""
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
    """A string that is valid in a JSON document and a process's environment."""
    if not isinstance(value, str):
        expected(what, value, place)
    if "\0" in value:
        fail(place, "it contains a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        fail(place, "it is not valid UTF-8")
    return value


def nonempty(value: object, place: str) -> str:
    """A string that is not empty."""
    string = text(value, place)
    if not string.strip():
        fail(place, "an empty string is not allowed")
    return string


def boolean(value: object, place: str) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        expected("true or false", value, place)
    return value


def integer(lowest: int, highest: int) -> Parser[int]:
    """An integer from `lowest` to `highest`."""

    def parse(value: object, place: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            expected("an integer", value, place)
        if not lowest <= value <= highest:
            fail(place, f"expected an integer from {lowest} to {highest}, got {shown(value)}")
        return value

    return parse


def choice(*names: str) -> Parser[str]:
    """One of `names`."""

    def parse(value: object, place: str) -> str:
        string = text(value, place)
        if string not in names:
            choices = ", ".join(map(repr, names))
            fail(place, f"{shown(string)} is not one of {choices}{nearest(string, names)}")
        return string

    return parse


def list_of(
    item: Parser[T], what: str = "strings", *, empty: bool = True, unique: bool = True
) -> Parser[tuple[T, ...]]:
    """A list; `what` describes its items. `empty` permits an empty list, `unique` drops duplicates."""

    def parse(value: object, place: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            expected(f"a list of {what}", value, place)
        if not value and not empty:
            fail(place, "an empty list is not allowed; leave it out for the default")
        items = gather(partial(item, each, f"{place}[{position}]") for position, each in enumerate(value))
        return tuple(each for position, each in enumerate(items) if not unique or each not in items[:position])

    return parse


def table_of(name: Parser[str], item: Parser[str], what: str = "strings") -> Parser[dict[str, str]]:
    """A table with any keys that the parser `name` accepts."""

    def one(key: str, value: object, place: str) -> tuple[str, str]:
        parsed_key, parsed_value = gather((partial(name, key, place), partial(item, value, place)))
        return parsed_key, parsed_value

    def parse(value: object, place: str) -> dict[str, str]:
        if not isinstance(value, Mapping):
            expected(f"a table of {what}", value, place)
        return dict(gather(partial(one, key, each, below(place, key)) for key, each in value.items()))

    return parse


def record(
    parsers: Mapping[str, Parser[Any]], required: Collection[str] = (), what: str = "a table"
) -> Parser[dict[str, Any]]:
    """A table with the keys of `parsers`; the result has the parsed values of those that are present."""

    def one(key: str, value: object, place: str) -> tuple[str, Any]:
        if key not in parsers:
            fail(below(place, key), f"unknown key{nearest(key, parsers)}")
        return key, parsers[key](value, below(place, key))

    def missing(key: str, place: str) -> NoReturn:
        fail(place, f"lacks the key {key!r}")

    def parse(value: object, place: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            expected(what, value, place)
        calls: list[Callable[[], tuple[str, Any]]] = [partial(one, key, each, place) for key, each in value.items()]
        calls += [partial(missing, key, place) for key in required if key not in value]
        return dict(gather(calls))

    return parse


def below(place: str, key: str) -> str:
    """The TOML path of a key of a table. The key is quoted if TOML requires it, and always printable."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
        key = json.dumps(key, ensure_ascii=False).encode(errors="backslashreplace").decode()
    return f"{place}.{key}"


def nearest(name: str, choices: Iterable[str]) -> str:
    """`; did you mean …?` with the choice that is most similar to `name`; empty if none is."""
    close = difflib.get_close_matches(name[:80], list(choices), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """A value for a message, shortened and printable on one line."""
    try:
        whole = repr(value)
    except ValueError:  # more digits than Python converts (sys.set_int_max_str_digits)
        return "a huge number"
    return whole if len(whole) <= 80 else f"{whole[:80]}…"
