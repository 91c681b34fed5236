"""The table of keys, and the way through it: a TOML table and an environment become a Config and Settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from packaging.utils import canonicalize_name

from hatch_docker.config import environment as env
from hatch_docker.config.base import base, debian_mirror, reference
from hatch_docker.config.compiling import cpus, distributions, memory, os_package, timeout
from hatch_docker.config.files import extra_files, glob, pruned
from hatch_docker.config.model import COMPRESSIONS, INSTALLERS, OUTPUTS, PREFIX, TABLE, Config, Settings, variable
from hatch_docker.config.naming import created, host, image, index_url, mirror, normalized, platforms, python, tag
from hatch_docker.config.runtime import (
    absolute,
    command,
    healthcheck,
    label,
    port,
    stop_signal,
    user,
    variable_name,
    variable_value,
    volume,
)
from hatch_docker.config.values import (
    Parser,
    below,
    choice,
    expected,
    fail,
    integer,
    list_of,
    nearest,
    table_of,
    text,
    word,
)
from hatch_docker.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Key:
    """How a key's value is read, and how its environment variable is."""

    parser: Parser[Any]
    form: env.Form


KEYS: dict[str, Key] = {
    "image": Key(image, env.TEXT),
    "tags": Key(list_of(tag, empty=False), env.LIST),
    "base": Key(base, env.TEXT),
    "python": Key(python, env.TEXT),
    "platforms": Key(platforms, env.LIST),
    "lock": Key(word, env.TEXT),
    "extras": Key(list_of(normalized), env.LIST),
    "dependency-groups": Key(list_of(normalized), env.LIST),
    "index-url": Key(index_url, env.TEXT),
    "prune": Key(list_of(pruned), env.LIST),
    "keep": Key(list_of(glob), env.LIST),
    "no-binary": Key(distributions, env.LIST),
    "builder": Key(base, env.TEXT),
    "build-packages": Key(list_of(os_package), env.LIST),
    "build-constraints": Key(word, env.TEXT),
    "build-network": Key(distributions, env.LIST),
    "runtime-packages": Key(list_of(os_package), env.LIST),
    "runtime-installer": Key(choice(*INSTALLERS), env.TEXT),
    "debian-mirror": Key(debian_mirror, env.TEXT),
    "debian-keyring": Key(word, env.TEXT),
    "entrypoint": Key(command, env.COMMAND),
    "cmd": Key(command, env.COMMAND),
    "env": Key(table_of(variable_name, variable_value), env.TABLE),
    "ports": Key(list_of(port, "ports"), env.LIST),
    "volumes": Key(list_of(volume), env.LIST),
    "user": Key(user, env.TEXT),
    "working-dir": Key(absolute, env.TEXT),
    "labels": Key(table_of(label, text), env.TABLE),
    "annotations": Key(table_of(label, text), env.TABLE),
    "stop-signal": Key(stop_signal, env.TEXT),
    "healthcheck": Key(healthcheck, env.HEALTHCHECK),
    "extra-files": Key(list_of(extra_files, "tables"), env.EXTRA_FILES),
    "compression": Key(choice(*COMPRESSIONS), env.TEXT),
    "max-layers": Key(integer(3, 100), env.INTEGER),
    "created": Key(created, env.TEXT),
    "outputs": Key(list_of(choice(*OUTPUTS), empty=False), env.LIST),
}

SETTINGS: dict[str, Key] = {
    "registry-mirrors": Key(table_of(host, mirror), env.TABLE),
    "insecure-registries": Key(list_of(host), env.LIST),
    "cache-dir": Key(word, env.TEXT),
    "threads": Key(integer(1, 1024), env.INTEGER),
    "build-memory": Key(memory, env.TEXT),
    "build-cpus": Key(cpus, env.TEXT),
    "build-timeout": Key(timeout, env.TEXT),
}

# What hatchling itself reads in any target's table (hatchling.builders.config.BuilderConfig).
HATCHLING = frozenset(
    {
        "artifacts",
        "dependencies",
        "dev-mode-dirs",
        "dev-mode-exact",
        "directory",
        "exclude",
        "force-include",
        "hooks",
        "ignore-vcs",
        "include",
        "only-include",
        "only-packages",
        "packages",
        "reproducible",
        "require-runtime-dependencies",
        "require-runtime-features",
        "skip-excluded-dirs",
        "sources",
        "versions",
    }
)

# What is wrong with each key, or with a variable that is none of ours: places and messages, as ConfigError has them.
Mistakes: TypeAlias = Mapping[str, list[tuple[str, str]]]

_TEST_PREFIX = f"{PREFIX}TEST_"
_VARIABLES = {variable(key): key for key in (*KEYS, *SETTINGS)}


def parse(table: object, environ: Mapping[str, str], *, project: str) -> tuple[Config, Settings, Mistakes]:
    """Read `[tool.hatch.build.targets.docker]` under the variables of `environ` that are ours.

    A variable replaces its key's whole value; an empty one is as if unset. `project` is the project's name, by which
    the image is called unless it has one. A key with a mistake is as if unset too, so that the others can be compared
    with the project before `refuse` tells all. Raises ConfigError for a table that is none.
    """
    if not isinstance(table, Mapping):
        expected("a table", table, TABLE)
    ours = {
        name: value
        for name, value in environ.items()
        if name.startswith(PREFIX) and not name.startswith(_TEST_PREFIX) and value.strip()
    }
    overridden = frozenset(_VARIABLES[name] for name in ours if name in _VARIABLES)
    calls = {key: partial(_written, key, table[key]) for key in table if key not in HATCHLING | overridden}
    calls |= {_VARIABLES.get(name, name): partial(_override, name, ours[name]) for name in sorted(ours)}
    found, mistakes = _outcomes(calls)
    settings = {key: found.pop(key) for key in SETTINGS if key in found}
    if "image" not in found:
        found["image"] = reference(canonicalize_name(project), "project.name")
    config = Config(**_attributes(found), overridden=overridden & KEYS.keys())
    return config, Settings(**_settings(settings)), mistakes


def refuse(mistakes: Mistakes) -> None:
    """Raise one ConfigError with every mistake that `parse` found, if it found any."""
    if mistakes:
        raise ConfigError([problem for problems in mistakes.values() for problem in problems])


def _outcomes(calls: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], Mistakes]:
    found: dict[str, Any] = {}
    mistakes: dict[str, list[tuple[str, str]]] = {}
    for key, call in calls.items():
        try:
            found[key] = call()
        except ConfigError as error:
            mistakes[key] = error.problems
    return found, mistakes


def _written(key: str, value: object) -> Any:
    place = below(TABLE, key)
    if key not in KEYS:
        fail(place, _unknown(key))
    return KEYS[key].parser(value, place)


def _override(name: str, value: str) -> Any:
    if name not in _VARIABLES:
        fail(name, f"unknown variable{nearest(name, _VARIABLES)}")
    key = _VARIABLES[name]
    known = KEYS.get(key) or SETTINGS[key]
    return known.parser(known.form.read(value, name), name)


def _unknown(key: str) -> str:
    if key in SETTINGS:
        return f"it is a setting of the machine, not of the image: set {variable(key)}"
    return f"unknown key{nearest(key, KEYS)}"


def _attributes(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in found.items()}


def _settings(found: Mapping[str, Any]) -> dict[str, Any]:
    attributes = _attributes(found)
    if "insecure_registries" in attributes:
        attributes["insecure_registries"] = frozenset(attributes["insecure_registries"])
    return attributes
