"""Resolve requirements for a target with uv, into the text of a pylock.toml.

uv is the one resolver that can resolve for another platform's markers and tags. It runs in the project's directory, so
that the project's configuration of uv applies. The text records a digest of what it was resolved from.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import ResolveError
from hatch_docker.index.access import ResolverSettings
from hatch_docker.index.uv_config import UvTable
from hatch_docker.locks.commands import uv_platform
from hatch_docker.support import toml
from hatch_docker.support.http import redact

# The uv package reads sysconfig, whose variables are incomplete for a second thread (before Python 3.12).
_FINDING = threading.Lock()
_TABLE = "hatch-docker"
UPGRADE = "hatch-docker lock --upgrade python"
_USER = re.compile(r"(?<=://)[^/@\s\"'`<>]+@")
# The query of a URL, which may hold a token.
_QUERY = re.compile(r"(?<=://)([^?\s\"'`<>]+)\?[^\s\"'`<>]*")
_LINES_SHOWN = 24
# Texts of uv's error messages, and the hint for each; the first that matches counts.
_HINTS = (
    (
        "authentication credentials",
        "set the index's login: in netrc, in its URL, or as UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD",
    ),
    ("error sending request", "check the network, and the package index that pip and uv are configured with"),
    (
        "build `",
        "uv builds it here to read its requirements: install what it lacks, or set tool.uv.dependency-metadata",
    ),
    ("no solution found", "loosen the requirements, or choose another Python or base"),
    ("failed to fetch", "check the network, and the package index that pip and uv are configured with"),
    ("invalid value", "update uv: it does not know this platform"),
    ("unexpected argument", "update uv: pip install -U uv"),
)


def find_uv(environ: Mapping[str, str]) -> str:
    """The path of uv: Hatch's own ($HATCH_UV), the one on PATH, or the one installed with this Python.

    Raises ResolveError if uv is not installed.
    """
    hatch_uv = environ.get("HATCH_UV", "")
    if hatch_uv and Path(hatch_uv).is_file():
        return hatch_uv
    if on_path := shutil.which("uv", path=environ.get("PATH", "")):
        return on_path
    try:
        import uv

        with _FINDING:
            return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise ResolveError(
            "dependencies cannot be resolved without uv",
            hint="install uv (pip install uv), or add a lock (pylock.toml, uv.lock or hashed requirements.txt): with a "
            "lock, uv is needed only to compile",
        ) from None


def resolve(
    requirements: Sequence[str],
    resolver: ResolverSettings,
    *,
    target: TargetPython,
    root: Path,
    constraints: Path | None = None,
    build: bool = True,
) -> str:
    """Resolve requirements for the target: the text of a pylock.toml whose `tool.hatch-docker` has an inputs digest.

    uv runs in the directory `root`, and keeps to the versions in the file `constraints`, which is not an input. Logins
    reach uv only through its environment. Without `build` uv rejects sdists: to read one's requirements it may run the
    sdist's code, on this machine and with all logins. Raises ResolveError with uv's explanation.
    """
    platform = uv_platform(target)
    if not platform:
        raise ResolveError(f"uv cannot resolve for {target}", hint="add a lock that was made on that platform")
    output = _run(
        [
            *(find_uv(resolver.environ), "pip", "compile", "-"),
            *("--python-platform", platform, "--python-version", target.minor, "--python", sys.executable),
            *("--format", "pylock.toml", "--no-header", "--no-annotate", "--color", "never", "--no-progress"),
            *(("--constraints", str(constraints)) if constraints else ()),
            *(() if build else ("--no-build",)),
        ],
        "\n".join(sorted(requirements)) + "\n",
        root=root,
        environ=_environment(resolver.environ, [resolver.embed(url) for url in resolver.indexes()]),
        target=target,
    )
    body = "\n".join(line for line in output.splitlines() if not line.startswith("#")).strip()
    inputs = inputs_digest(requirements, target, resolver.configured)
    return f'{_USER.sub("", body)}\n\n[tool.{_TABLE}]\ninputs = "{inputs}"\n'


def resolution_scope(resolver: ResolverSettings, constraints: str) -> str:
    """A digest of the settings that decide what requirements resolve to, except the indexes' contents.

    `constraints` is the text of a constraints file. Compiled wheels have it in their cache keys, so that projects share
    them only if they resolve build requirements alike.
    """
    variables = {
        name: redact(value)
        for name, value in resolver.environ.items()
        if name.startswith("UV_") and not name.endswith(("_USERNAME", "_PASSWORD", "_TOKEN", "_DIR"))
    }
    tables: list[UvTable | None] = [*resolver.uv_tables()]
    nearest, *others = tables or [None]
    values = [constraints, [redact(url) for url in resolver.configured], variables, others, nearest]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def inputs_digest(requirements: Iterable[str], target: TargetPython, indexes: Iterable[str]) -> str:
    """The digest of a resolution's inputs, except the indexes' contents and uv's own configuration."""
    values = {
        "requirements": sorted(set(requirements)),
        "python": target.minor,
        "platform": uv_platform(target),
        "indexes": [redact(url) for url in indexes],
    }
    return f"sha256:{hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}"


def is_current(text: str, requirements: Iterable[str], target: TargetPython, indexes: Iterable[str]) -> bool:
    """Whether a text is what `resolve` returned for these inputs."""
    try:
        document = toml.loads(text)
        return bool(document["tool"][_TABLE]["inputs"] == inputs_digest(requirements, target, indexes))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def is_ours(text: str) -> bool:
    """Whether a text is what `resolve` returned, for any inputs."""
    try:
        return isinstance(toml.loads(text)["tool"][_TABLE]["inputs"], str)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def versions_of(text: str) -> dict[str, str]:
    """The versions in a text that `resolve` returned, by name, empty for a package without one; {} for other texts."""
    try:
        return {each["name"]: each.get("version", "") for each in toml.loads(text).get("packages", ())}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _environment(environ: Mapping[str, str], indexes: Sequence[str]) -> dict[str, str]:
    settings = {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    if indexes:
        # Keep the indexes of UV_INDEX: uv looks up their logins by the names that they have there.
        named = [*environ.get("UV_INDEX", "").split(), *indexes[1:]]
        settings |= {"UV_DEFAULT_INDEX": indexes[0], "UV_INDEX": " ".join(named)}
    if len(indexes) > 1:
        # pip takes the best version of all indexes; uv would stop at the first index that has the package.
        settings["UV_INDEX_STRATEGY"] = environ.get("UV_INDEX_STRATEGY") or "unsafe-best-match"
    return {**environ, **settings}


def _run(
    command: Sequence[str], requirements: str, *, root: Path, environ: Mapping[str, str], target: TargetPython
) -> str:
    """The standard output of uv; an interrupt ends uv, too."""
    try:
        done = subprocess.run(  # noqa: S603 (no shell; the program is the user's own uv)
            command,
            input=requirements,
            cwd=root,
            env=environ,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ResolveError(f"uv cannot be run: {error.strerror or error}", place=command[0]) from None
    if done.returncode != 0:
        raise _failure(done.stderr, target)
    return done.stdout


def _failure(stderr: str, target: TargetPython) -> ResolveError:
    """The error message of uv as a ResolveError: without its warnings, shortened, without logins."""
    text = _QUERY.sub(r"\1", _USER.sub("", stderr))
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith("warning:")]
    shown = [line for line in lines if line.strip()]
    if (more := len(shown) - _LINES_SHOWN) > 0:
        # A failed build has its reason at the end, a failed resolution at the beginning.
        shown = [*shown[: _LINES_SHOWN // 2], f"… {more} more lines …", *shown[-(_LINES_SHOWN // 2) :]]
    explanation = "\n  ".join(shown) or "uv gave no reason"
    hint = next((hint for words, hint in _HINTS if words in explanation.lower()), "")
    return ResolveError(f"the dependencies cannot be resolved for {target}\n  {explanation}", hint=hint)
