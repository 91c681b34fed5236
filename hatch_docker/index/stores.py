"""Logins that other programs keep: `uv auth`, and keyring by its command."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from hatch_docker.index.credentials import Login, split_login
from hatch_docker.support import toml
from hatch_docker.support.progress import Progress

_SECONDS = 20.0


def read_uv_store(environ: Mapping[str, str], *, home: Path, progress: Progress) -> tuple[tuple[str, Login], ...]:
    """The logins that `uv auth login` stored, by URL; those with a bearer token are left out."""
    path = _uv_directory(environ, home) / "credentials.toml"
    try:
        entries = toml.loads(path.read_text(encoding="utf-8")).get("credential", [])
        return tuple(_stored(entries))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        progress.note(f"{path} cannot be read: the logins of uv auth are ignored")
        return ()


def _stored(entries: list[Mapping[str, object]]) -> Iterator[tuple[str, Login]]:
    for entry in entries:
        service, username, password = (entry.get(key) for key in ("service", "username", "password"))
        if isinstance(service, str) and isinstance(password, str):
            url = service if "://" in service else f"https://{service}"
            yield split_login(url)[0], Login(username=username if isinstance(username, str) else "", password=password)


def _uv_directory(environ: Mapping[str, str], home: Path) -> Path:
    if environ.get("UV_CREDENTIALS_DIR"):
        return Path(environ["UV_CREDENTIALS_DIR"])
    if os.name == "nt":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming") / "uv" / "data" / "credentials"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "uv" / "credentials"


class Keyring:
    """The logins of the program `keyring`, each looked up once. Thread-safe.

    A keyring that fails or hangs has no logins, which a note says.
    """

    def __init__(self, environ: Mapping[str, str], progress: Progress, *, seconds: float = _SECONDS) -> None:
        self._environ = environ
        self._progress = progress
        self._seconds = seconds
        self._found: dict[tuple[str, str], Login | None] = {}
        self._failed = False
        self._lock = threading.Lock()

    def __call__(self, url: str, username: str) -> Login | None:
        """The login for a URL, with this user name unless it is empty: that of the URL, else that of its host."""
        with self._lock:
            for service in (url, urlsplit(url).netloc):
                if (login := self._login(service, username)) is not None:
                    return login
        return None

    def _login(self, service: str, username: str) -> Login | None:
        key = (service, username)
        if key not in self._found:
            self._found[key] = self._ask(service, username)
        return self._found[key]

    def _ask(self, service: str, username: str) -> Login | None:
        lines = (self._run(service, *([username] if username else ["--mode", "creds"])) or "").splitlines()
        if username:
            return Login(username=username, password=lines[0]) if lines else None
        return Login(username=lines[0], password=lines[1]) if len(lines) > 1 else None

    def _run(self, *arguments: str) -> str | None:
        """The output of `keyring get`; None if it has no such login, or cannot be used."""
        if self._failed:
            return None
        program = shutil.which("keyring", path=self._environ.get("PATH", ""))
        if program is None:
            self._fail("it is not installed")
            return None
        try:
            done = subprocess.run(  # noqa: S603 (the user configured it)
                [program, "get", *arguments],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._fail(f"it did not answer within {self._seconds:g} seconds")
            return None
        except (OSError, ValueError) as error:
            self._fail(getattr(error, "strerror", "") or "it cannot be run")
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None

    def _fail(self, reason: str) -> None:
        """Do not use the keyring again. Its own output may hold secrets, and is not shown."""
        self._progress.note(f"keyring is not used for logins: {reason}")
        self._failed = True
