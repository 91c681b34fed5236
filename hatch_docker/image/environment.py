"""The environment of an image: the base's, ours and `env`, with references expanded where engines would not do it.

An engine takes the values as they are. In a Dockerfile the builder expands references in all of them, which `env`
cannot follow, since passwords contain `$`. So references to `PATH` are expanded everywhere, and any others in lists of
directories only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hatch_docker.base.target import VENV
from hatch_docker.oci.config import DEFAULT_PATH
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

BIN = f"/{VENV}/bin"
_OURS = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
# A reference as in a Dockerfile: `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME:+word}`; `\$` is a dollar.
_REFERENCE = regex(
    r"(?P<escaped>\\\$(?=[A-Za-z_{]))"
    r"|\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<operator>:?[-+])(?P<word>[^{}$:]*))?\})",
    re.ASCII,
)
# What people expect an engine or a shell to set.
_EXPECTED = frozenset(("HOME", "USER", "PWD", "HOSTNAME", "PORT", "PATH"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The variables of an image, and the references in `env` that stay as they are: pairs of a key and the text."""

    variables: Mapping[str, str]
    literal: tuple[tuple[str, str], ...] = ()


def environment(base: Mapping[str, str], configured: Mapping[str, str]) -> Environment:
    """The variables of `base`, ours, and those of `configured` over them. The venv's bin directory is first on PATH.

    A PATH that names that directory itself keeps its order.
    """
    known = {**base, **_OURS, "PATH": base.get("PATH") or DEFAULT_PATH}
    literal: list[tuple[str, str]] = []
    values = {}
    for key, text in configured.items():
        seen = known if key == "PATH" else {**known, "PATH": f"{BIN}:{known['PATH']}"}
        values[key], kept = _expanded(text, seen) if key.endswith("PATH") else _with_path(text, seen)
        literal += ((key, each) for each in kept)
    path = values.get("PATH") or known["PATH"]
    values["PATH"] = path if BIN in (each.rstrip("/") for each in path.split(":")) else f"{BIN}:{path}"
    return Environment(variables={**base, "PATH": "", **_OURS, **values}, literal=tuple(dict.fromkeys(literal)))


def references(text: str) -> list[str]:
    """The references in a text that look as if a shell should expand them: `${NAME}`, and `$NAME` in capitals."""
    return [
        match[0]
        for match in _REFERENCE.finditer(text)
        if (name := _name(match)) and name.isupper() and (match["braced"] or len(name) > 1)
    ]


def _expanded(text: str, known: Mapping[str, str]) -> tuple[str, list[str]]:
    """A list of directories with its references expanded, and those that stay.

    An element that is an unset variable is left out: an empty one would mean the working directory.
    """
    kept: list[str] = []

    def value(match: re.Match[str]) -> str:
        name, operator, word = _name(match), match["operator"] or "", match["word"] or ""
        if not name:
            return "$"
        is_set = bool(known.get(name)) if operator.startswith(":") else name in known
        if operator.endswith("+"):
            return word if is_set else ""
        if is_set or operator:
            return known[name] if is_set else word
        if text[: match.start()][-1:] in ("", ":") and text[match.end() :][:1] in ("", ":"):
            return ""
        kept.append(match[0])
        return match[0]

    expanded = _REFERENCE.sub(value, text)
    return (expanded if expanded == text else ":".join(each for each in expanded.split(":") if each)), kept


def _with_path(text: str, known: Mapping[str, str]) -> tuple[str, list[str]]:
    """A value with its references to PATH expanded, and the others that look as if they should be, too.

    A password may contain `$`: a name counts if it is one that exists, or is written in braces and capitals.
    """
    kept: list[str] = []

    def value(match: re.Match[str]) -> str:
        name = _name(match)
        if not name:
            return "$"
        if name == "PATH":
            return known["PATH"]
        if name in known or name in _EXPECTED or (match["braced"] and name.isupper()):
            kept.append(match[0])
        return match[0]

    return _REFERENCE.sub(value, text), kept


def _name(match: re.Match[str]) -> str:
    """The variable of a reference; empty for an escaped dollar."""
    return match["plain"] or match["braced"] or ""
