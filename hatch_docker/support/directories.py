"""The directories of the user who builds, also of one without a name, a home, or a home that can be written to.

Such users run jobs in containers (a random uid), and builds in the sandboxes of Nix and Bazel.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hatch_docker.errors import OutputError
from hatch_docker.support.atomic import is_writable, writing
from hatch_docker.support.progress import Progress

# What Debian's passwd has for users without a home: nothing is found in it.
NO_HOME = Path("/nonexistent")
CACHE_ELSEWHERE = "name another directory in HATCH_DOCKER_CACHE_DIR"
_UV_CACHES = ("UV_CACHE_DIR", "UV_NO_CACHE")


def home_directory() -> Path:
    """The user's home; NO_HOME if HOME is not set and the user is not in passwd."""
    try:
        return Path.home()
    except RuntimeError:
        return NO_HOME


def usual_cache() -> Path:
    """Our directory in the user's directory of caches, which may not be one that can be made."""
    import platformdirs

    try:
        return platformdirs.user_cache_path("hatch-docker", appauthor=False)
    except RuntimeError:
        # Earlier versions of platformdirs leave a "~" in the path.
        return NO_HOME / ".cache" / "hatch-docker"


def cache_directory(usual: Path, progress: Progress) -> Path:
    """The directory of our cache: `usual`, or a temporary one if `usual` cannot be made, which a warning says.

    Raises OutputError if there is neither.
    """
    if os.path.isdir(usual) or _can_be_made(usual):  # noqa: PTH112 (it may not be visible)
        return usual
    path = private_directory() / "cache"
    progress.warn(f"{usual} cannot be made: the cache is in {path}; {CACHE_ELSEWHERE} to keep it")
    return path


def uv_environment(environ: Mapping[str, str], home: Path) -> Mapping[str, str]:
    """The environment for uv, which fails where it cannot make its cache: then with a temporary one."""
    if os.name == "nt" or any(environ.get(name) for name in _UV_CACHES):
        return environ
    usual = Path(environ.get("XDG_CACHE_HOME") or home / ".cache", "uv")
    if _can_be_made(usual):
        return environ
    return {**environ, "UV_CACHE_DIR": str(private_directory() / "uv")}


def _can_be_made(path: Path) -> bool:
    """Whether files can be written there. Root could make NO_HOME, too, and a "~" in the current directory."""
    return path.is_absolute() and NO_HOME not in path.parents and is_writable(path)


def private_directory() -> Path:
    """A directory for temporary files of this user, which no other can read, and which later runs find again.

    Raises OutputError if it cannot be made, or another user made it.
    """
    uid = "" if os.name == "nt" else f"-{os.getuid()}"
    with writing(Path("the directory for temporary files"), otherwise=CACHE_ELSEWHERE):
        path = Path(tempfile.gettempdir(), f"hatch-docker{uid}")
    with writing(path, otherwise=CACHE_ELSEWHERE):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    # On Windows, the directory for temporary files is the user's.
    own = not uid or (status.st_uid == os.getuid() and not status.st_mode & 0o077)
    if not (stat.S_ISDIR(status.st_mode) and own):
        raise OutputError(
            "this is not a directory of this user alone", place=str(path), hint=f"remove it, or {CACHE_ELSEWHERE}"
        )
    return path
