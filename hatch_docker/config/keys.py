"""The table of keys, and the parser of a TOML table and an environment into a Config and Settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

from hatch_docker.config import environment as env
from hatch_docker.config.base import base, debian_mirror
from hatch_docker.config.compiling import cpus, disk_size, distributions, memory, os_package, timeout
from hatch_docker.config.files import extra_files, glob, pruned
from hatch_docker.config.model import (
    CACHE_MODES,
    HATCH_FILE_TABLE,
    HATCH_TABLE,
    INSTALLERS,
    ISOLATIONS,
    LEFTOVERS,
    PREFIX,
    TABLE,
    BaseOptions,
    Caching,
    Compiling,
    Config,
    Naming,
    OSPackages,
    Output,
    Packages,
    Runtime,
    Settings,
    variable,
)
from hatch_docker.config.naming import (
    cache_key,
    caches,
    created,
    host,
    image,
    index_url,
    mirror,
    normalized,
    platforms,
    python,
    tag,
    whole_reference,
)
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
    boolean,
    choice,
    expected,
    fail,
    integer,
    list_of,
    nearest,
    nonempty,
    shown,
    table_of,
    text,
)
from hatch_docker.errors import ConfigError
from hatch_docker.oci.compression import COMPRESSIONS
from hatch_docker.support.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """A key: the attribute for its value (`group.attribute` of a Config), and the parsers of TOML and variables."""

    attribute: str
    parser: Parser[Any]
    form: env.Form


KEYS: dict[str, Key] = {
    "image": Key("naming.image", image, env.TEXT),
    "tags": Key("naming.tags", list_of(tag, empty=False), env.LIST),
    "base": Key("base.spec", base, env.TEXT),
    "python": Key("base.python", python, env.TEXT),
    "platforms": Key("base.platforms", platforms, env.LIST),
    "prune-base": Key("base.prune", list_of(choice(*LEFTOVERS)), env.LIST),
    "lock": Key("packages.lock", nonempty, env.TEXT),
    "extras": Key("packages.extras", list_of(normalized), env.LIST),
    "dependency-groups": Key("packages.dependency_groups", list_of(normalized), env.LIST),
    "index-url": Key("packages.index_url", index_url, env.TEXT),
    "prune": Key("packages.prune", list_of(pruned), env.LIST),
    "keep": Key("packages.keep", list_of(glob), env.LIST),
    "bytecode": Key("packages.bytecode", boolean, env.BOOLEAN),
    "no-binary": Key("compiling.no_binary", distributions, env.LIST),
    "builder": Key("compiling.builder", base, env.TEXT),
    "build-packages": Key("compiling.build_packages", list_of(os_package), env.LIST),
    "build-constraints": Key("compiling.build_constraints", nonempty, env.TEXT),
    "build-network": Key("compiling.build_network", distributions, env.LIST),
    "isolate": Key("compiling.isolate", choice(*ISOLATIONS), env.TEXT),
    "runtime-packages": Key("os_packages.runtime_packages", list_of(os_package), env.LIST),
    "runtime-installer": Key("os_packages.runtime_installer", choice(*INSTALLERS), env.TEXT),
    "debian-mirror": Key("os_packages.debian_mirror", debian_mirror, env.TEXT),
    "debian-keyring": Key("os_packages.debian_keyring", nonempty, env.TEXT),
    "ca-certificates": Key("os_packages.ca_certificates", nonempty, env.TEXT),
    "entrypoint": Key("runtime.entrypoint", command, env.COMMAND),
    "cmd": Key("runtime.cmd", command, env.COMMAND),
    "env": Key("runtime.env", table_of(variable_name, variable_value), env.TABLE),
    "ports": Key("runtime.ports", list_of(port, "ports"), env.LIST),
    "volumes": Key("runtime.volumes", list_of(volume), env.LIST),
    "user": Key("runtime.user", user, env.TEXT),
    "working-dir": Key("runtime.working_dir", absolute, env.TEXT),
    "labels": Key("runtime.labels", table_of(label, text), env.TABLE),
    "annotations": Key("runtime.annotations", table_of(label, text), env.TABLE),
    "stop-signal": Key("runtime.stop_signal", stop_signal, env.TEXT),
    "init": Key("runtime.init", boolean, env.BOOLEAN),
    "healthcheck": Key("runtime.healthcheck", healthcheck, env.HEALTHCHECK),
    "extra-files": Key("output.extra_files", list_of(extra_files, "tables"), env.EXTRA_FILES),
    "compression": Key("output.compression", choice(*COMPRESSIONS), env.TEXT),
    "max-layers": Key("output.max_layers", integer(3, 100), env.INTEGER),
    "created": Key("output.created", created, env.TEXT),
    "outputs": Key("output.outputs", list_of(nonempty, empty=False), env.LIST),
    "cache": Key("caching.repositories", caches, env.LIST),
    "cache-mode": Key("caching.mode", choice(*CACHE_MODES), env.TEXT),
}

SETTINGS: dict[str, Key] = {
    "registry-mirrors": Key("registry_mirrors", table_of(host, mirror), env.TABLE),
    "insecure-registries": Key("insecure_registries", list_of(host), env.LIST),
    "cache-key": Key("cache_key", cache_key, env.TEXT),
    "cache-dir": Key("cache_dir", nonempty, env.TEXT),
    "cache-size": Key("cache_size", disk_size, env.TEXT),
    "verify": Key("verify", boolean, env.BOOLEAN),
    "threads": Key("threads", integer(1, 1024), env.INTEGER),
    "build-memory": Key("build_memory", memory, env.TEXT),
    "build-cpus": Key("build_cpus", cpus, env.TEXT),
    "build-timeout": Key("build_timeout", timeout, env.TEXT),
}

GROUPS: Mapping[str, Callable[..., Any]] = {
    "naming": Naming,
    "base": BaseOptions,
    "packages": Packages,
    "compiling": Compiling,
    "os_packages": OSPackages,
    "runtime": Runtime,
    "output": Output,
    "caching": Caching,
}

# The keys that hatchling reads in the table of any target (hatchling.builders.config.BuilderConfig).
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

# The problems of each key or unknown variable: places and messages, as in ConfigError.
Mistakes: TypeAlias = Mapping[str, list[tuple[str, str]]]

_TEST_PREFIX = f"{PREFIX}TEST_"
_VARIABLES = {variable(key): key for key in (*KEYS, *SETTINGS)}


# Only options have these: they are about one build.
OPTIONS: dict[str, Key] = {
    "references": Key("naming.references", list_of(whole_reference), env.LIST),
    "manifest-annotations": Key("runtime.manifest_annotations", table_of(label, text), env.TABLE),
    "index-annotations": Key("runtime.index_annotations", table_of(label, text), env.TABLE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A key's value from the command line: a `text`, as a variable has it, or else a `value`, as TOML has it.

    `place` is the option, for messages. With `adds`, a table is added to that of the project's table or the variable.
    """

    place: str
    text: str | None = None
    value: object = None
    adds: bool = False


def parse(
    table: object,
    environ: Mapping[str, str],
    *,
    name: str = TABLE,
    options: Mapping[str, Option] = MappingProxyType({}),
) -> tuple[Config, Settings, Mistakes]:
    """Read a project's table, which is called `name`, the `HATCH_DOCKER_*` variables of `environ`, and `options`.

    A variable replaces the whole value of its key, and an option that of both unless it adds to them; an empty variable
    counts as unset. A key with a mistake counts as unset, too, so that the other keys can be checked against the
    project before `refuse` reports all mistakes. Raises ConfigError if `table` is not a table.
    """
    if not isinstance(table, Mapping):
        expected("a table", table, name)
    variables = {
        variable: value
        for variable, value in environ.items()
        if variable.startswith(PREFIX) and not variable.startswith(_TEST_PREFIX) and value.strip()
    }
    overrides = {_VARIABLES.get(each, each): Option(place=each, text=variables[each]) for each in sorted(variables)}
    added = {key: option for key, option in options.items() if option.adds}
    overrides |= {key: option for key, option in options.items() if not option.adds}
    foreign = HATCHLING if name in (HATCH_TABLE, HATCH_FILE_TABLE) else frozenset[str]()
    calls = {key: partial(_from_table, key, table[key], name) for key in table if key not in foreign | overrides.keys()}
    calls |= {key: partial(_from_override, key, each) for key, each in overrides.items()}
    values, mistakes = _outcomes(calls)
    more, others = _outcomes({key: partial(_from_override, key, each) for key, each in added.items()})
    values |= {key: {**values.get(key, {}), **value} for key, value in more.items()}
    settings = {key: values.pop(key) for key in SETTINGS if key in values}
    overridden = {key: each.place for key, each in overrides.items() if key in KEYS}
    overridden |= {key: each.place for key, each in options.items() if key in OPTIONS}
    return _config(values, overridden, name), _settings(settings), _all_of(mistakes, others)


def check_options(options: Mapping[str, Option]) -> None:
    """Raise one ConfigError with the mistakes of the options that can be seen without the project."""
    refuse(parse({}, {}, options=options)[2])


def refuse(mistakes: Mistakes) -> None:
    """Raise one ConfigError with all mistakes that `parse` returned, if any."""
    if mistakes:
        raise ConfigError([problem for problems in mistakes.values() for problem in problems])


def _outcomes(calls: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], Mistakes]:
    """The results of the calls that succeed, and the problems of the others."""
    values: dict[str, Any] = {}
    mistakes: dict[str, list[tuple[str, str]]] = {}
    for key, call in calls.items():
        try:
            values[key] = call()
        except ConfigError as error:
            mistakes[key] = error.problems
    return values, mistakes


def _from_table(key: str, value: object, table: str) -> Any:
    place = below(table, key)
    if key not in KEYS:
        fail(place, _unknown(key))
    return KEYS[key].parser(value, place)


def _all_of(mistakes: Mistakes, others: Mistakes) -> Mistakes:
    return {key: [*mistakes.get(key, ()), *others.get(key, ())] for key in (*mistakes, *others)}


def _from_override(name: str, option: Option) -> Any:
    key = (KEYS | SETTINGS | OPTIONS).get(name)
    if key is None:
        fail(option.place, _unknown_variable(name) if name == option.place else _unknown(name))
    value = option.value if option.text is None else key.form.read(option.text, option.place)
    return key.parser(value, option.place)


def _unknown_variable(name: str) -> str:
    close = nearest(name.removeprefix(PREFIX), (each.removeprefix(PREFIX) for each in _VARIABLES))
    return "unknown variable" + close.replace("'", f"'{PREFIX}", 1)


def set_option(text: str, place: str) -> tuple[str, Option]:
    """The key and the value of `KEY=VALUE`, which a user may set for one build. Raises ConfigError."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals:
        fail(place, f"{shown(text)} is not of the form KEY=VALUE")
    if key not in KEYS:
        fail(place, f"{key or shown(text)}: {_unknown(key)}")
    return key, Option(place=f"{place} {key}", text=value)


def _unknown(key: str) -> str:
    if key in SETTINGS:
        return f"this is a setting of the host, not of the image: set {variable(key)}"
    return f"unknown key{nearest(key, KEYS)}"


def _config(values: Mapping[str, Any], overridden: Mapping[str, str], table: str) -> Config:
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for key, value in values.items():
        group, _, attribute = (KEYS | OPTIONS)[key].attribute.partition(".")
        groups[group][attribute] = value
    made = {name: GROUPS[name](**attributes) for name, attributes in groups.items()}
    return Config(**made, overridden=overridden, table=table)


def _settings(values: Mapping[str, Any]) -> Settings:
    attributes = {SETTINGS[key].attribute: value for key, value in values.items()}
    if "insecure_registries" in attributes:
        attributes["insecure_registries"] = frozenset(attributes["insecure_registries"])
    return Settings(**attributes)
