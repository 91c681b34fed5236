"""What of the machine can shape a build: the environment, and the code that runs."""

from __future__ import annotations

import hashlib
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Variables that differ from terminal to terminal, and shape only how text is shown.
_VOLATILE = frozenset(
    ("_", "COLORTERM", "COLUMNS", "DISPLAY", "FORCE_COLOR", "LINES", "LS_COLORS", "NO_COLOR", "OLDPWD", "PWD", "SHLVL",
     "STY", "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TERM_SESSION_ID", "TMUX", "TMUX_PANE", "VTE_VERSION",
     "WAYLAND_DISPLAY", "WINDOWID", "XDG_SESSION_ID")
)  # fmt: skip


def environment_digest(environ: Mapping[str, str]) -> str:
    """A digest of the environment; it is the whole of it, since a build backend may read any variable."""
    digest = hashlib.sha256()
    for name, value in sorted(environ.items()):
        if name not in _VOLATILE:
            digest.update(f"{name}={value}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def code_digest() -> str:
    """A digest of the Python that runs, its packages, and this one's files, also of an editable installation.

    An installer that adds or removes a package changes the time of the directory that has the packages.
    """
    digest = hashlib.sha256(f"{sys.version}\0{sys.executable}\0{sys.flags}".encode())
    for folder in sys.path:
        digest.update(f"{folder}\0{_time(folder)}\0".encode(errors="surrogateescape"))
    for path in _modules(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))):
        digest.update(f"{path}\0{_time(path)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def process_age() -> int | None:
    """For how many nanoseconds this process runs, or a clock tick more; None if the system does not say (proc(5))."""
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            # The name, in parentheses, may contain anything; the 22nd field is in ticks since the system started.
            began = int(file.read().rpartition(")")[2].split()[19])
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began * 10**9 // os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def cache_folder(environ: Mapping[str, str]) -> str:
    """The same as `support.directories.usual_cache`, in most cases without importing platformdirs.

    It is in XDG_CACHE_HOME, else in ~/.cache (XDG Base Directory Specification), except on macOS, Windows and Android.
    """
    usual = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME") or "~", ".cache")
    if sys.platform != "linux" or "ANDROID_DATA" in environ or not os.path.isabs(usual) or usual != usual.strip():
        from hatch_docker.support.directories import usual_cache

        return str(usual_cache())
    return os.path.join(usual, "hatch-docker")


def _modules(directory: str) -> Iterator[str]:
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.endswith(".py"):
            yield entry.path
        elif entry.name != "__pycache__" and entry.is_dir():
            yield from _modules(entry.path)


def _time(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
