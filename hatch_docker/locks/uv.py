"""Find and run uv, and show its errors."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from hatch_docker.errors import ResolveError
from hatch_docker.support.foreign import hiding
from hatch_docker.support.redaction import redact_text

# The uv package reads sysconfig, whose variables are incomplete for a second thread (before Python 3.12).
_FINDING = threading.Lock()
_LINES_SHOWN = 24
# Texts of uv's error messages, and the hint for each; the first that matches counts.
_HINTS = (
    ("git operation failed", "check the repository's URL, the branch, tag or commit, and the logins of Git"),
    ("does not match given name", "correct the name in the requirement or its source: the directory has another"),
    (
        "authentication credentials",
        "set the index's login: in netrc, in its URL, or as UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD",
    ),
    ("error sending request", "check the network, and the package index that pip and uv are configured with"),
    (
        "does not appear to be a python project",
        "remove the requirement: it needs a pyproject.toml or setup.py (the project's files are copied without '-e .')",
    ),
    (
        "build `",
        "uv builds it here to read its requirements: install what it lacks, or set tool.uv.dependency-metadata",
    ),
    (
        "building from source is disabled",
        "nothing may be built here to read its requirements: choose versions with wheels, or lock elsewhere (uv lock)",
    ),
    (
        "building source distributions for",
        "nothing may be built here to read its requirements: make its metadata static, or lock elsewhere (uv lock)",
    ),
    ("no solution found", "loosen the requirements, or choose another Python or base"),
    ("failed to fetch", "check the network, and the package index that pip and uv are configured with"),
    ("for '--python-platform", "update uv: it does not know this platform"),
    (
        "invalid value",
        "correct the URL of the index; special characters of its login need escapes, such as %40",
    ),
    ("unexpected argument", "update uv: pip install -U uv"),
)


def find_uv(environ: Mapping[str, str]) -> str:
    """The path of uv: of what runs us, the one on PATH, or the one installed with this Python.

    Hatch names its uv in $HATCH_UV, and uv names itself in $UV (uvx, uv run). $UV counts if it is the absolute path of
    a program: it may be inherited from a uv that is gone. Raises ResolveError if uv is not installed.
    """
    hatch_uv, running = environ.get("HATCH_UV", ""), environ.get("UV", "")
    if hatch_uv and Path(hatch_uv).is_file():
        return hatch_uv
    if Path(running).is_absolute() and shutil.which(running):
        return running
    if on_path := shutil.which("uv", path=environ.get("PATH", "")):
        return on_path
    try:
        import uv

        with _FINDING:
            return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise ResolveError(
            "dependencies cannot be resolved, and projects cannot be built, without uv",
            hint="install uv (pip install uv), or hatch-docker with it: pip install 'hatch-docker[uv]', or pipx run "
            "--spec 'hatch-docker[uv]' hatch-docker build; with a lock (pylock.toml, uv.lock or hashed "
            "requirements.txt), uv is needed only to build",
        ) from None


def run_uv(
    arguments: Sequence[str], *, directory: Path, environ: Mapping[str, str], purpose: str, stdin: str = ""
) -> str:
    """Run uv in a directory; returns its standard output. An interrupt ends uv, too.

    No Python is downloaded. Raises ResolveError with uv's explanation; `purpose` is what cannot be done.
    """
    command = [find_uv(environ), *arguments, "--color", "never", "--no-progress"]
    try:
        done = subprocess.run(  # noqa: S603 (no shell; the program is the user's own uv)
            hiding(command),
            input=stdin,
            cwd=directory,
            env={**environ, "UV_PYTHON_DOWNLOADS": "never"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ResolveError(f"uv cannot be run: {error.strerror or error}", place=command[0]) from None
    if done.returncode != 0:
        raise _failure(done.stderr, purpose)
    return done.stdout


def _failure(stderr: str, purpose: str) -> ResolveError:
    """The error message of uv as a ResolveError: without its warnings, shortened, without logins."""
    lines = [line.rstrip() for line in redact_text(stderr).splitlines() if not line.startswith("warning:")]
    shown = [line for line in lines if line.strip()]
    if (more := len(shown) - _LINES_SHOWN) > 0:
        # A failed build has its reason at the end, a failed resolution at the beginning.
        shown = [*shown[: _LINES_SHOWN // 2], f"… {more} more lines …", *shown[-(_LINES_SHOWN // 2) :]]
    explanation = "\n  ".join(shown) or "uv gave no reason"
    # uv wraps its messages.
    text = " ".join(explanation.lower().split())
    hint = next((hint for words, hint in _HINTS if words in text), "")
    return ResolveError(f"{purpose}\n  {explanation}", hint=hint)
