"""Resolve a project's requirements for a target with uv, into the text of a pylock.toml.

uv is the one resolver that takes a foreign target's markers and tags. It runs in the project's folder, so that its own
configuration there holds. The result is kept beside the image, and says what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import ResolveError
from hatch_docker.locks.commands import uv_platform
from hatch_docker.support.http import redact

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# uv asks sysconfig where it is, which tells a second thread half of what it knows (before Python 3.12).
_FINDING = threading.Lock()
_TABLE = "hatch-docker"
UPGRADE = "hatch-docker lock --upgrade python"
_USER = re.compile(r"(?<=://)[^/@\s\"'`<>]+@")
_LINES_SHOWN = 24
# Words of uv's explanation, and what to do about it: the first that it has.
_HINTS = (
    (
        "authentication credentials",
        "give the index's login: in netrc, in its URL, or as UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD",
    ),
    ("error sending request", "check the network, and the package index that pip and uv are configured with"),
    (
        "build `",
        "uv builds it here to learn what it requires: give it what it misses, or tell in tool.uv.dependency-metadata",
    ),
    ("no solution found", "loosen the requirements, or choose another Python or base"),
    ("failed to fetch", "check the network, and the package index that pip and uv are configured with"),
    ("invalid value", "update uv: it does not know this platform"),
    ("unexpected argument", "update uv: pip install -U uv"),
)


def find_uv(environ: Mapping[str, str]) -> str:
    """The path of uv: Hatch's own ($HATCH_UV), the one on PATH, or the one installed with this Python.

    Raises ResolveError when there is none.
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
            "there is no uv to resolve dependencies with",
            hint="install uv (pip install uv); where nothing is compiled, a lock makes it needless: pylock.toml, "
            "uv.lock or hashed requirements.txt",
        ) from None


def resolve(
    requirements: Sequence[str],
    *,
    target: TargetPython,
    uv: str,
    root: Path,
    environ: Mapping[str, str],
    indexes: Sequence[str] = (),
    configured: Sequence[str] = (),
    embed: Callable[[str], str] = str,
    constraints: Path | None = None,
    build: bool = True,
) -> str:
    """Resolve requirements for the target; the text of a pylock.toml whose `tool.hatch-docker` says its inputs.

    `indexes` are package indexes without logins, the main one first; none leaves them to uv's own configuration.
    `configured` are those that the project itself names: only they are inputs, since the machine's own may differ from
    one to the next. `embed` puts the login into an index's URL: that reaches uv through its environment and nothing
    else. `constraints` is a file of versions to keep to, no input either. Without `build` no sdist is looked at: its
    own code may have to be run, here and with all logins, to learn what it requires. Raises ResolveError with uv's
    explanation.
    """
    platform = uv_platform(target)
    if not platform:
        raise ResolveError(f"uv cannot resolve for {target}", hint="add a lock that was made on that platform")
    output = _run(
        [
            *(uv, "pip", "compile", "-", "--python-platform", platform, "--python-version", target.minor),
            *("--python", sys.executable, "--format", "pylock.toml", "--no-header", "--no-annotate"),
            *("--color", "never", "--no-progress"),
            *(("--constraints", str(constraints)) if constraints else ()),
            *(() if build else ("--no-build",)),
        ],
        "\n".join(sorted(requirements)) + "\n",
        root=root,
        environ=_environment(environ, [embed(url) for url in indexes]),
        target=target,
    )
    body = "\n".join(line for line in output.splitlines() if not line.startswith("#")).strip()
    inputs = inputs_digest(requirements, target, configured)
    return f'{_USER.sub("", body)}\n\n[tool.{_TABLE}]\ninputs = "{inputs}"\n'


def inputs_digest(requirements: Iterable[str], target: TargetPython, indexes: Iterable[str]) -> str:
    """The digest of all that shapes a resolution, but for the index's contents and uv's own configuration."""
    values = {
        "requirements": sorted(set(requirements)),
        "python": target.minor,
        "platform": uv_platform(target),
        "indexes": [redact(url) for url in indexes],
    }
    return f"sha256:{hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}"


def is_current(text: str, requirements: Iterable[str], target: TargetPython, indexes: Iterable[str]) -> bool:
    """Whether a pylock's text is what `resolve` wrote for these inputs. False for any other text."""
    try:
        document = tomllib.loads(text)
        return bool(document["tool"][_TABLE]["inputs"] == inputs_digest(requirements, target, indexes))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def is_ours(text: str) -> bool:
    """Whether a pylock's text is what `resolve` wrote, for whatever inputs."""
    try:
        return isinstance(tomllib.loads(text)["tool"][_TABLE]["inputs"], str)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def versions_of(text: str) -> dict[str, str]:
    """The versions in what `resolve` wrote, by name; empty for a package without one, and for any other text."""
    try:
        return {each["name"]: each.get("version", "") for each in tomllib.loads(text).get("packages", ())}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _environment(environ: Mapping[str, str], indexes: Sequence[str]) -> dict[str, str]:
    settings = {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    if indexes:
        # What uv is told already stays: an index that is named there has its login by that name.
        named = [*environ.get("UV_INDEX", "").split(), *indexes[1:]]
        settings |= {"UV_DEFAULT_INDEX": indexes[0], "UV_INDEX": " ".join(named)}
    if len(indexes) > 1:
        # They are pip's, to which all of its indexes are equal; uv would stop at the first that has the package.
        settings["UV_INDEX_STRATEGY"] = environ.get("UV_INDEX_STRATEGY") or "unsafe-best-match"
    return {**environ, **settings}


def _run(
    command: Sequence[str], requirements: str, *, root: Path, environ: Mapping[str, str], target: TargetPython
) -> str:
    """The standard output of uv; an interrupt ends it too."""
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
        raise _refusal(done.stderr, target)
    return done.stdout


def _refusal(stderr: str, target: TargetPython) -> ResolveError:
    """What uv explains as our error: without its warnings, shortened, without logins."""
    lines = [line.rstrip() for line in _USER.sub("", stderr).splitlines() if not line.startswith("warning:")]
    shown = [line for line in lines if line.strip()]
    if (more := len(shown) - _LINES_SHOWN) > 0:
        # A build says at its end why it failed, a resolution at its beginning.
        shown = [*shown[: _LINES_SHOWN // 2], f"… {more} more lines …", *shown[-(_LINES_SHOWN // 2) :]]
    explanation = "\n  ".join(shown) or "uv did not say why"
    hint = next((hint for words, hint in _HINTS if words in explanation.lower()), "")
    return ResolveError(f"the dependencies cannot be resolved for {target}\n  {explanation}", hint=hint)
