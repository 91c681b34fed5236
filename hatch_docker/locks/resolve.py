"""Resolve requirements with uv, into the text of a pylock.toml.

uv is the one resolver that resolves for other platforms' markers and tags. It runs in the project's directory, so that
it finds the project's configuration as always. It reads the requirements and their sources, whichever tool's table has
them, from a pyproject.toml that is made for the purpose: no code of the project runs a second time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hatch_docker.config import ALL
from hatch_docker.errors import ResolveError, join_hints
from hatch_docker.index.access import ResolverSettings
from hatch_docker.index.uv_config import UvFile, UvTable
from hatch_docker.index.uv_sources import absolute_url
from hatch_docker.locks.commands import uv_platform
from hatch_docker.locks.inputs import inputs_of, is_virtual, versions_of
from hatch_docker.locks.model import InstallRequest
from hatch_docker.locks.pyproject import whole_project, write_pyproject
from hatch_docker.locks.uv import run_uv
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.foreign import NEEDED, PROXIES, VERSIONS
from hatch_docker.support.patterns import regex
from hatch_docker.support.redaction import redact_text
from hatch_docker.support.scratch import temporary_directory

# Keys of [tool.uv] that uv does not accept in uv.toml, and the one that keeps it from running.
_NOT_IN_FILES = (
    *("build-backend", "conflicts", "default-groups", "dependency-groups", "dev-dependencies", "managed", "package"),
    *("required-version", "sources", "workspace"),
)
_WITH_URLS = ("extra-index-url", "find-links", "index", "index-url")
# A login in the URL of a file. The user of an SSH URL is not secret, and part of it.
_LOGIN = regex(r"(?<=\bhttp)(s?://)[^/@\s\"']+@")
_WILDCARD = regex(r"[*?\[]")
_PATTERNS = "lock with PDM (pdm lock): without its lock, patterns for the packages of a source need wheels of them all"
_NO_BUILD = "--no-build"
# The variables that uv, Git and SSH read, besides those of proxies, and the prefixes of more.
_NEEDED = frozenset(
    (
        *(*NEEDED, "ALLUSERSPROFILE", "APPDATA", "HATCH_UV", "HOME", "LANG", "LOCALAPPDATA", "NETRC", "PROGRAMDATA"),
        *("REQUESTS_CA_BUNDLE", "TEMP", "TMP", "TMPDIR", "USERPROFILE", "UV"),
    )
)
# Variables of uv about how it works and what it shows: what it resolves does not depend on them.
_WITHOUT_EFFECT = (
    *("UV_COMPILE_BYTECODE", "UV_CONCURRENT_", "UV_HTTP_", "UV_INSTALL", "UV_LINK_MODE", "UV_LOCK_TIMEOUT", "UV_LOG_"),
    *("UV_NATIVE_TLS", "UV_NO_CACHE", "UV_NO_PROGRESS", "UV_NO_WRAP", "UV_PYTHON_", "UV_REQUEST_TIMEOUT", "UV_RUN_"),
    *("UV_STACK_SIZE", "UV_SYSTEM_", "UV_TOOL_", "UV_VENV_"),
)
_PREFIXES = ("UV_", "GIT_", "SSH_", "SSL_", "XDG_", "LC_", *VERSIONS)
_PATH = regex(r'(?<=\bpath = )"(?:[^"\\]|\\.)*"')


def resolve(
    request: InstallRequest,
    resolver: ResolverSettings,
    *,
    directory: Path,
    before: str = "",
    upgrade: Collection[str] = (),
) -> str:
    """Resolve a request for all platforms: the text of a pylock.toml in `directory`, with a record of its inputs.

    The packages of `before`, the text of an earlier one, keep their versions if possible, except those in `upgrade`
    (normalized names, or `:all:`). To read the requirements of an sdist or a directory, uv may run its code on this
    machine. Raises ResolveError with uv's explanation.
    """
    with temporary_directory() as folder:
        output = folder / "pylock.toml"
        run = partial(_run, request, resolver, folder)
        universal = ("--universal", "--python-version", request.target.version, "--output-file", str(output))
        if before and ALL not in upgrade:
            output.write_text(before, encoding="utf-8")
        elif everything := whole_project(request):
            # The project's own tool locks all extras, groups and members together: their versions are preferred.
            with contextlib.suppress(ResolveError):
                run((*everything, *universal, _NO_BUILD))
        upgrades = [option for name in sorted(set(upgrade) - {ALL}) for option in ("--upgrade-package", name)]
        options = (*map(str, request.requirement_files), *universal, *upgrades)
        _compile(request, resolver, folder, options)
        text = output.read_text(encoding="utf-8")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()
    body = moved(_LOGIN.sub(r"\1", body), folder, directory)
    inputs = inputs_of(request, [directory / path for path in _paths(body)])
    body, virtual = _without_virtual(body, request, directory)
    return f"{body}\n\n{replace(inputs, overridden=(*inputs.overridden, *virtual)).to_toml()}"


def resolve_for_target(
    request: InstallRequest, resolver: ResolverSettings, *, constraints: Path | None = None, build: bool = True
) -> str:
    """Resolve the requirements of a request for its target alone: the text of a pylock.toml.

    uv keeps to the versions in the file `constraints`. Without `build` it rejects sdists, whose code it may otherwise
    run to read their requirements. Raises ResolveError.
    """
    target = request.target
    platform = uv_platform(target)
    if not platform:
        raise ResolveError(f"uv cannot resolve for {target}", hint="lock versions that have a wheel for it")
    with temporary_directory() as folder:
        output = folder / "pylock.toml"
        options = ["--python-platform", platform, "--python-version", target.minor, "--output-file", str(output)]
        options += ["--constraints", str(constraints)] if constraints else []
        options += [] if build else [_NO_BUILD]
        _compile(request, resolver, folder, options)
        return moved(_LOGIN.sub(r"\1", output.read_text(encoding="utf-8")), folder)


def _compile(request: InstallRequest, resolver: ResolverSettings, folder: Path, options: Sequence[str]) -> None:
    """Let uv resolve the request to the file `pylock.toml` in `folder`.

    uv cannot choose indexes by patterns. So the names that match one must be known: a pattern without a wildcard is a
    name, and others are those of a resolution without sdists, so that no code of a stranger's package is run.
    """
    sources, output = request.sources, folder / "pylock.toml"
    preferred = output.read_bytes() if output.exists() else None

    def run(names: Collection[str], *more: str) -> frozenset[str]:
        if preferred:
            output.write_bytes(preferred)
        else:
            output.unlink(missing_ok=True)
        _run(request, resolver, folder, (*write_pyproject(request, resolver, folder, names), *options, *more))
        return sources.matching(versions_of(output.read_text(encoding="utf-8")))

    names = frozenset(each for each in sources.patterns if not _WILDCARD.search(each))
    if names != sources.patterns:
        try:
            while new := run(names, _NO_BUILD) - names:
                names |= new
        except ResolveError as error:
            error.hint = error.hint if error.place else join_hints(_PATTERNS, error.hint)
            raise
    run(names)


def resolution_scope(resolver: ResolverSettings, constraints: str) -> str:
    """A digest of the settings that decide what requirements resolve to, except the indexes' contents.

    `constraints` is the text of a constraints file. Compiled wheels have it in their cache keys, so that projects share
    them only if they resolve build requirements alike.
    """
    variables = {
        name: redact_text(value)
        for name, value in resolver.environ.items()
        if name.startswith("UV_")
        and not name.startswith(_WITHOUT_EFFECT)
        and not name.endswith(("_USERNAME", "_PASSWORD", "_TOKEN", "_DIR"))
    }
    tables: list[UvTable | None] = [each.table for each in resolver.uv_files()]
    nearest, *others = tables or [None]
    values = [constraints, [redact_text(url) for url in resolver.configured], variables, others, nearest]
    values += [] if resolver.builds else [_NO_BUILD]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _run(request: InstallRequest, resolver: ResolverSettings, folder: Path, arguments: Sequence[str]) -> None:
    """Run `uv pip compile`. Logins reach uv only through its environment.

    A project's `required-version` is for its developers' uv: if ours does not fit, uv gets the configuration without.
    """
    command = ("pip", "compile", *arguments, *resolver.arguments(), "--python", sys.executable)
    command += () if resolver.builds or _NO_BUILD in arguments else (_NO_BUILD,)
    command += ("--format", "pylock.toml", "--no-header", "--no-annotate", "--quiet")
    run: Callable[[Sequence[str]], object] = partial(
        run_uv,
        directory=request.root,
        environ={**_environment(resolver.environ), **resolver.variables()},
        purpose=f"the dependencies cannot be resolved for {request.target}",
    )
    try:
        run(command)
    except ResolveError as error:
        if "required uv version" not in error.message.lower():
            raise
        configuration = folder / "uv.toml"
        configuration.write_text(_configuration(resolver), encoding="utf-8")
        run((*command, "--config-file", str(configuration)))


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of uv, and of the programs that it runs: it may build an sdist to read its requirements."""
    return {
        name: value
        for name, value in environ.items()
        if name in _NEEDED or name.startswith(_PREFIXES) or name.upper() in PROXIES
    }


def _configuration(resolver: ResolverSettings) -> str:
    """The configuration of uv as one file: lists are joined, as uv joins those of its files."""
    merged: dict[str, Any] = {}
    for file in resolver.uv_files():
        for key, value in _absolute(file).items():
            joined = isinstance(value, list) and isinstance(merged.get(key), list)
            merged[key] = [*merged[key], *value] if joined else merged.get(key, value)
    merged = {key: value for key, value in merged.items() if key not in _NOT_IN_FILES}
    return "".join(f"{key} = {toml.inline(value)}\n" for key, value in merged.items())


def _absolute(file: UvFile) -> dict[str, Any]:
    """The settings of a file, whose paths are relative to its directory."""

    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(absolute, value))
        if isinstance(value, dict):
            return {key: absolute(each) if key == "url" else each for key, each in value.items()}
        return absolute_url(value, file.folder) if isinstance(value, str) else value

    return {key: absolute(value) if key in _WITH_URLS else value for key, value in file.table.items()}


def moved(text: str, before: Path, after: Path | None = None) -> str:
    """The text of a pylock.toml that moves to another directory: its paths are relative to that, else absolute."""

    def rewritten(match: re.Match[str]) -> str:
        path = (before.resolve() / json.loads(match[0])).resolve()
        with contextlib.suppress(ValueError):  # another drive on Windows
            path = Path(os.path.relpath(path, after.resolve())) if after else path
        return toml.inline(path.as_posix())

    return _PATH.sub(rewritten, text)


def _paths(text: str) -> list[str]:
    """The paths of the local directories in the text of a pylock.toml."""
    packages: Iterable[Mapping[str, Any]] = toml.loads(text).get("packages", ())
    return [each["directory"]["path"] for each in packages if "directory" in each]


def _without_virtual(text: str, request: InstallRequest, directory: Path) -> tuple[str, list[str]]:
    """The text of a pylock.toml without the directories that contribute only their dependencies, and their names.

    uv lists them, as it lists packages. Other directories are not touched: `uv pip install` builds them, too.
    """
    head, *packages = re.split(r"(?m)^(?=\[\[packages\]\]$)", text)
    sources = {os.path.realpath(each.value): each for each in request.chosen_sources() if each.kind == "path"}

    def is_left_out(package: Mapping[str, Any]) -> bool:
        if "directory" not in package:
            return False
        path = os.path.realpath(directory / package["directory"]["path"])
        if path in sources and not sources[path].package:
            return True
        return is_virtual(Path(path))

    parsed = [toml.loads(each)["packages"][0] for each in packages]
    kept = [text for text, each in zip(packages, parsed, strict=True) if not is_left_out(each)]
    return "".join([head, *kept]).rstrip(), [each["name"] for each in parsed if is_left_out(each)]
