"""The package indexes that a project uses on this machine, and the logins for them.

In this order: the configured `index-url`, uv's settings (environment, then configuration files), pip's settings. No
index is built in: the last resort is the default of the installed pip.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hatch_docker.errors import ArtifactError
from hatch_docker.index.credentials import Credentials, Login, read_netrc, split_login
from hatch_docker.index.uv_config import uv_tables
from hatch_docker.support.progress import Progress

_SILENT = Progress()


class Pip:
    """The settings of this interpreter's pip, read through its command line (0.5 s), each once."""

    def __init__(self, environ: Mapping[str, str], *, executable: str = sys.executable) -> None:
        self._executable = executable
        # Without a wide terminal, the help text wraps within the URL.
        self._environ = {
            **environ,
            "COLUMNS": "1000",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONIOENCODING": "utf-8",
        }

    @cached_property
    def configuration(self) -> dict[str, str]:
        """The settings of pip by name, by precedence: environment, `install`, `download`, `global`."""
        found: dict[str, str] = {}
        lines = (self._run("config", "list") or "").splitlines()
        for section in ("global", "download", "install", ":env:"):
            for line in lines:
                key, _, value = line.partition("=")
                if key.startswith(f"{section}."):
                    found[key[len(section) + 1 :]] = _literal(value)
        return found

    @cached_property
    def default_index(self) -> str:
        """The index that pip uses by default. Raises ArtifactError if pip is not installed."""
        text = self._run("download", "--help") or ""
        match = re.search(r"--index-url\b[^()]*\(default:?\s+(\S+?)\)", text)
        if not match:
            raise ArtifactError(
                "no package index is configured, and pip, whose default would be used, is not installed",
                hint="set index-url in [tool.hatch.build.targets.docker], or HATCH_DOCKER_INDEX_URL",
            )
        return match[1]

    def _run(self, *arguments: str) -> str | None:
        """The output of pip; None if pip is not installed, or fails."""
        try:
            done = subprocess.run(  # noqa: S603 (our own interpreter)
                [self._executable, "-m", "pip", *arguments],
                env=self._environ,
                # `-m` puts the working directory on the path, so it must not be the project's.
                cwd=sys.prefix,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=False,
            )
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """The package indexes (PEP 503 roots) and how to reach them. No URL in it has a login.

    `url` is the main index, empty if none is configured: then `urls()` uses pip's default. `by_uv` are the indexes of
    uv's own configuration. `ca_file` is the environment's, else pip's `cert` if pip was run.
    """

    url: str = ""
    by_uv: frozenset[str] = frozenset()
    extra_urls: tuple[str, ...] = ()
    credentials: Credentials = field(default_factory=Credentials)
    ca_file: str = ""
    pip: Pip = field(default_factory=lambda: Pip({}), repr=False, compare=False)

    def urls(self) -> tuple[str, ...]:
        """All indexes, the main one first. Raises ArtifactError if none is configured and pip is not installed."""
        main, _ = split_login(self.url or self.pip.default_index)
        return tuple(dict.fromkeys((main, *self.extra_urls)))

    def urls_for_uv(self) -> tuple[str, ...]:
        """The indexes to pass to uv: those that its own configuration lacks, none if that has the main index.

        uv's explicit indexes are among those of its configuration: they are for single packages.
        """
        if self.url in self.by_uv:
            return ()
        return tuple(url for url in self.urls() if url not in self.by_uv)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The settings of one tool: URLs, with their logins, and the file of certificate authorities."""

    url: str = field(default="", repr=False)
    extra_urls: tuple[str, ...] = field(default=(), repr=False)
    ca_file: str = ""
    is_uv: bool = False


def discover(
    *,
    configured: str = "",
    extra_urls: Sequence[str] = (),
    root: Path,
    environ: Mapping[str, str],
    home: Path,
    progress: Progress = _SILENT,
) -> IndexSettings:
    """The indexes of the project in `root`; `configured` is its own `index-url`, `extra_urls` are its lock's.

    The first of configuration, uv and pip that has a main index ends the search. The extra indexes of those before it
    count, too. Files that cannot be read are skipped with a note. pip is run only if nothing else has a main index, so
    call this only when an index is needed.
    """
    pip = Pip(environ)
    url, ca_file = "", ca_file_of(environ)
    by_uv: list[str] = []
    extra = list(filter(None, extra_urls))
    for source in _sources(configured, pip, root=root, environ=environ, home=home, progress=progress):
        extra += source.extra_urls
        ca_file = ca_file or source.ca_file
        by_uv += [source.url, *source.extra_urls] if source.is_uv else []
        url = source.url
        if url:
            break
    clean, logins = _without_logins([url, *extra], root)
    return IndexSettings(
        url=clean[0],
        by_uv=frozenset(split_login(each)[0] for each in by_uv if each),
        extra_urls=tuple(clean[1:]),
        credentials=Credentials(by_url=logins, by_host=read_netrc(environ, home=home, progress=progress)),
        ca_file=ca_file,
        pip=pip,
    )


def ca_file_of(environ: Mapping[str, str]) -> str:
    """The file of certificate authorities that the environment names for Python's tools; empty if it names none."""
    names = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    return next((environ[name] for name in names if environ.get(name)), "")


def _sources(
    configured: str, pip: Pip, *, root: Path, environ: Mapping[str, str], home: Path, progress: Progress
) -> Iterator[_Source]:
    yield _Source(url=configured)
    yield _uv_source(environ, uv_tables(root, environ, home=home, progress=progress))
    settings = pip.configuration
    yield _Source(
        url=settings.get("index-url", ""),
        extra_urls=tuple(settings.get("extra-index-url", "").split()),
        ca_file=settings.get("cert", ""),
    )


def _uv_source(environ: Mapping[str, str], tables: Sequence[Mapping[str, Any]]) -> _Source:
    """The indexes of uv, by its documentation of indexes and of environment variables."""
    mains = [environ.get("UV_DEFAULT_INDEX", ""), environ.get("UV_INDEX_URL", "")]
    extras = [*environ.get("UV_INDEX", "").split(), *environ.get("UV_EXTRA_INDEX_URL", "").split()]
    for table in tables:
        for entry in _list(table.get("index")):
            if isinstance(entry, dict) and isinstance(entry.get("url"), str):
                name = entry.get("name")
                (mains if entry.get("default") is True else extras).append(
                    f"{name}={entry['url']}" if isinstance(name, str) else entry["url"]
                )
        mains += [url for url in [table.get("index-url")] if isinstance(url, str)]
        extras += [url for url in _list(table.get("extra-index-url")) if isinstance(url, str)]
    main = next(filter(None, mains), "")
    return _Source(
        url=_uv_url(main, environ), extra_urls=tuple(_uv_url(entry, environ) for entry in extras), is_uv=True
    )


def _uv_url(entry: str, environ: Mapping[str, str]) -> str:
    """The URL of an entry `url` or `name=url`, with the login that the environment has for the name."""
    match = re.match(r"([A-Za-z0-9][\w.-]*)=(.+)", entry)
    if not match:
        return entry
    name, url = re.sub(r"[^A-Z0-9]", "_", match[1].upper()), match[2]
    username, password = (environ.get(f"UV_INDEX_{name}_{key}", "") for key in ("USERNAME", "PASSWORD"))
    if not username and not password:
        return url
    return Credentials(by_url=((url, Login(username=username, password=password)),)).embed(split_login(url)[0])


def _without_logins(urls: list[str], root: Path) -> tuple[list[str], tuple[tuple[str, Login], ...]]:
    """The URLs without logins, and these. A path becomes a file URL."""
    split = [split_login(url if not url or "://" in url else _file_url(root, url)) for url in urls]
    return [url for url, _ in split], tuple((url, login) for url, login in split if login)


def _file_url(root: Path, path: str) -> str:
    try:
        return (root / path).resolve().as_uri()
    except (OSError, ValueError, RuntimeError):
        return path


def _literal(text: str) -> str:
    """A value of `pip config list`, which prints values as Python strings; empty for anything else."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
