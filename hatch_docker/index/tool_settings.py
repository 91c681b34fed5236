"""The settings of package indexes in each tool: uv, Poetry, PDM, pip, and the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hatch_docker.index.credentials import Login, split_login, with_login
from hatch_docker.index.source import Sources
from hatch_docker.index.uv_config import UvFile
from hatch_docker.index.uv_sources import absolute_url, list_of
from hatch_docker.support.dataclasses import dataclass, field, replace

_SUBPROCESS = "subprocess"
_BEST = "unsafe-best-match"
_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSettings:
    """The settings of one tool: URLs, with their logins; the main one is empty if the tool has none.

    `flat_urls` are directories or pages of files (find-links), `explicit_urls` indexes for single packages. `no_index`
    says to use flat URLs alone. `ca_file` is a file of certificate authorities, `keyring` the way to ask keyring, and
    `strategy` how uv chooses among indexes. `order` has all indexes in the order in which the tool asks them, if that
    is not the main one last; in it, the default index is empty.
    """

    url: str = field(default="", repr=False)
    extra_urls: tuple[str, ...] = field(default=(), repr=False)
    flat_urls: tuple[str, ...] = field(default=(), repr=False)
    explicit_urls: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    ca_file: str = ""
    keyring: str = ""
    strategy: str = ""
    order: tuple[str, ...] = field(default=(), repr=False)

    @property
    def all_urls(self) -> tuple[str, ...]:
        """All URLs that are set."""
        return tuple(filter(None, (self.url, *self.extra_urls, *self.flat_urls, *self.explicit_urls)))

    def clean(self) -> ToolSettings:
        """The same without logins."""
        return self._with_urls(clean_url)

    def absolute(self, root: Path) -> ToolSettings:
        """The same with paths, which are relative to `root`, as file URLs."""
        return self._with_urls(lambda url: absolute_url(url, root))

    def _with_urls(self, change: Callable[[str], str]) -> ToolSettings:
        return replace(
            self,
            url=change(self.url),
            extra_urls=tuple(map(change, self.extra_urls)),
            flat_urls=tuple(map(change, self.flat_urls)),
            explicit_urls=tuple(map(change, self.explicit_urls)),
        )


def uv_settings(environ: Mapping[str, str], files: Sequence[UvFile], root: Path) -> ToolSettings:
    """The settings of uv, as `uv pip` has them by its documentation.

    The table `pip` goes before the others, and lists of several files are joined.
    """
    variables = {
        name: [_uv_url(each, root, environ) for each in environ.get(name, "").split()]
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
    }
    entries: dict[str, list[str]] = {"flat": [], "explicit": [], "default": [], "": []}
    for file in files:
        for entry in list_of(file.table.get("index")):
            if isinstance(entry, dict) and isinstance(entry.get("url"), str):
                entries[_kind(entry)].append(_entry_url(entry, file.folder, environ))
    mains = (*variables["UV_DEFAULT_INDEX"], *variables["UV_INDEX_URL"], *entries["default"])
    strategies = (value for value, _ in _values(files, "index-strategy") if isinstance(value, str))
    return ToolSettings(
        url=next(iter((*mains, *_urls(files, "index-url"))), ""),
        extra_urls=(
            *variables["UV_INDEX"],
            *variables["UV_EXTRA_INDEX_URL"],
            *entries[""],
            *_urls(files, "extra-index-url"),
        ),
        flat_urls=(*entries["flat"], *_urls(files, "find-links")),
        explicit_urls=tuple(entries["explicit"]),
        no_index=next((value for value, _ in _values(files, "no-index") if isinstance(value, bool)), False),
        keyring=_keyring(*(value for value, _ in _values(files, "keyring-provider"))),
        strategy=environ.get("UV_INDEX_STRATEGY") or next(strategies, ""),
    )


def _kind(entry: Mapping[str, Any]) -> str:
    """Which kind of index an entry of `[[tool.uv.index]]` is; empty for an ordinary one."""
    if entry.get("format") == "flat":
        return "flat"
    return next((key for key in ("explicit", "default") if entry.get(key) is True), "")


def _values(files: Sequence[UvFile], key: str) -> Iterator[tuple[Any, Path]]:
    """The values of a setting, the strongest first, each with the directory that its paths are relative to."""
    for file in files:
        table = file.table.get("pip")
        if isinstance(table, dict) and key in table:
            yield table[key], file.folder
    for file in files:
        if key in file.table:
            yield file.table[key], file.folder


def _urls(files: Sequence[UvFile], key: str) -> Iterator[str]:
    for value, folder in _values(files, key):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and each:
                yield absolute_url(each, folder)


def _entry_url(entry: Mapping[str, Any], folder: Path, environ: Mapping[str, str]) -> str:
    """The URL of an entry of `[[tool.uv.index]]`, with the login that the environment has for its name."""
    name = entry.get("name")
    return _uv_url(f"{name}={entry['url']}" if isinstance(name, str) else entry["url"], folder, environ)


def _uv_url(entry: str, folder: Path, environ: Mapping[str, str]) -> str:
    """The URL of an entry `url` or `name=url`, with the login that the environment has for the name."""
    match = re.match(r"([A-Za-z0-9][\w.-]*)=(.+)", entry)
    if not match:
        return absolute_url(entry, folder)
    name, url = re.sub(r"[^A-Z0-9]", "_", match[1].upper()), absolute_url(match[2], folder)
    username, password = (environ.get(f"UV_INDEX_{name}_{key}", "") for key in ("USERNAME", "PASSWORD"))
    if not username and not password:
        return url
    return with_login(url, Login(username=username, password=password))


def _keyring(*providers: object) -> str:
    """`subprocess` if the first provider that is set is that."""
    first = next((each for each in providers if isinstance(each, str) and each), "")
    return first if first == _SUBPROCESS else ""


def foreign_settings(sources: Sources) -> ToolSettings:
    """The indexes of Poetry or PDM. Both ask their default index, too, unless an index of theirs replaces it."""
    if sources.tool not in ("tool.poetry", "tool.pdm"):
        return ToolSettings()
    named = [each for each in sources.indexes if not each.explicit and not each.flat]
    order = [each.url for each in named]
    if not any(each.default for each in named):
        order.insert(0, "")
    # The main index is that of pip if the default one is among them.
    main = "" if "" in order else order[0]
    return ToolSettings(
        url=main,
        extra_urls=tuple(url for url in order if url and url != main),
        flat_urls=tuple(each.url for each in sources.indexes if each.flat),
        explicit_urls=tuple(each.url for each in sources.indexes if each.explicit and each.url),
        strategy=_BEST if sources.tool == "tool.pdm" else "",
        order=tuple(order),
    )


def pip_settings(settings: Mapping[str, str], root: Path) -> ToolSettings:
    """The settings of pip, given by the names of its options, without its built-in default."""
    return ToolSettings(
        url=absolute_url(settings.get("index-url", ""), root),
        extra_urls=tuple(absolute_url(each, root) for each in settings.get("extra-index-url", "").split()),
        flat_urls=tuple(absolute_url(each, root) for each in settings.get("find-links", "").split()),
        no_index=settings.get("no-index", "").lower() in _TRUE,
        ca_file=settings.get("cert", ""),
        keyring=_keyring(settings.get("keyring-provider")),
        strategy=_BEST,
    )


def environment_settings(environ: Mapping[str, str], root: Path) -> ToolSettings:
    """The flat indexes of the environment, which apply whatever the main index is."""
    flat = [*environ.get("UV_FIND_LINKS", "").split(","), *environ.get("PIP_FIND_LINKS", "").split()]
    return ToolSettings(
        flat_urls=tuple(absolute_url(each.strip(), root) for each in flat if each.strip()),
        no_index=environ.get("PIP_NO_INDEX", "").lower() in _TRUE,
        keyring=_keyring(environ.get("UV_KEYRING_PROVIDER"), environ.get("PIP_KEYRING_PROVIDER")),
    )


def clean_url(url: str) -> str:
    """The URL without its login."""
    return split_login(url)[0]


def ca_file_of(environ: Mapping[str, str]) -> str:
    """The file of certificate authorities that the environment names for Python's tools; empty if it names none."""
    names = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    return next((environ[name] for name in names if environ.get(name)), "")
