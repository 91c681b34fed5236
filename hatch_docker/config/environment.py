"""Parse the text of a `HATCH_DOCKER_<KEY>` variable to the value that the key has in TOML."""

from __future__ import annotations

import re
from collections.abc import Callable

from hatch_docker.config.values import fail
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A syntax of values: TOML if the text starts with one of the characters in `opening`, else parsed by `plain`."""

    opening: str
    plain: Callable[[str, str], object]

    def read(self, text: str, place: str) -> object:
        """The value; raises ConfigError at `place`."""
        text = text.strip()
        return _toml(text, place) if text.startswith(tuple(self.opening)) else self.plain(text, place)


def _toml(text: str, place: str) -> object:
    try:
        document = toml.loads(f"value = {text}")
    except (ValueError, RecursionError):
        # The parser's message may quote the value, which may be a secret.
        fail(place, f"it starts with {text[0]!r} but is not a TOML value")
    if len(document) != 1:
        fail(place, "it holds more than one TOML value")
    return document["value"]


def _text(text: str, _place: str) -> object:
    return text


def _integer(text: str, _place: str) -> object:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text


def _boolean(text: str, _place: str) -> object:
    return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)


def _list(text: str, _place: str) -> object:
    return [item.strip() for item in text.split(",") if item.strip()]


def _table(text: str, place: str) -> object:
    items = [item.strip() for item in text.split(",") if item.strip()]
    for position, item in enumerate(items, 1):
        if "=" not in item:
            fail(place, f"item {position} is not of the form name=value (a value with commas is written as TOML)")
    return {name.strip(): value.strip() for name, _, value in (item.partition("=") for item in items)}


def _only(example: str) -> Callable[[str, str], object]:
    def plain(_text: str, place: str) -> object:
        fail(place, f"write it as TOML, like {example}")

    return plain


TEXT = Form(opening="\"'", plain=_text)
INTEGER = Form(opening="\"'", plain=_integer)
BOOLEAN = Form(opening="\"'", plain=_boolean)
LIST = Form(opening="[\"'", plain=_list)
TABLE = Form(opening="{", plain=_table)
COMMAND = Form(opening="[\"'", plain=_text)
HEALTHCHECK = Form(opening="{", plain=_only('{cmd = ["my-app", "--check"], interval = "30s"}'))
EXTRA_FILES = Form(opening="[", plain=_only('[{from = "settings.toml", into = "/etc/my-app/settings.toml"}]'))
