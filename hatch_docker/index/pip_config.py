"""pip's own settings, read through its command line."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property

from hatch_docker.errors import ArtifactError


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
                hint="set the key index-url, or HATCH_DOCKER_INDEX_URL",
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


def _literal(text: str) -> str:
    """A value of `pip config list`, which prints values as Python strings; empty for anything else."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""
