"""The commands that make and refresh locks, for hints."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hatch_docker.base.target import TargetPython
from hatch_docker.locks.environments import admitting
from hatch_docker.locks.inputs import is_ours
from hatch_docker.locks.model import InstallRequest, read_text

OWN_COMMAND = "hatch-docker lock"
UPGRADE = f"{OWN_COMMAND} --upgrade python"

# The glibc minor versions and machines of uv's --python-platform.
_UV_GLIBC_MINORS = (40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17)
_UV_MACHINES = ("x86_64", "aarch64")


def uv_platform(target: TargetPython) -> str:
    """The value of `uv pip compile --python-platform` for the target; empty if uv has none.

    For glibc it is the newest version of uv's that is not newer than the target's.
    """
    machine = target.machine
    if machine == "riscv64" and target.libc.kind == "glibc":
        return "riscv64-unknown-linux"
    if machine not in _UV_MACHINES:
        return ""
    if target.libc.kind == "musl":
        return f"{machine}-unknown-linux-musl"
    for minor in _UV_GLIBC_MINORS:
        if (2, minor) <= target.libc.version:
            return f"{machine}-manylinux_2_{minor}"
    return ""


def refresh_pylock(path: Path, request: InstallRequest) -> str:
    """The command that makes a pylock file: ours, or uv's for what is requested."""
    if path.is_file() and is_ours(read_text(path)):
        return OWN_COMMAND
    return f"uv pip compile pyproject.toml{_parts(request)}{_for(request)} -o {shown(path, request.root)}"


def refresh_uv(path: Path, request: InstallRequest) -> str:  # noqa: ARG001
    """The command that refreshes a uv.lock, which is for all extras and groups, and the project's environments."""
    change = admitting(request)
    return f"{change}; then run uv lock" if change else "uv lock"


def refresh_requirements(path: Path, request: InstallRequest) -> str:
    """The command that makes a hashed requirements file for what is requested."""
    source = path.with_suffix(".in")
    made_of, parts = (shown(source, request.root), "") if source.is_file() else ("pyproject.toml", _parts(request))
    options = f"--generate-hashes{parts}{_for(request)}"
    return f"uv pip compile {made_of} {options} -o {shown(path, request.root)}"


def shown(path: Path, root: Path) -> str:
    """A path for messages: as seen from the project, unless it is elsewhere."""
    with contextlib.suppress(ValueError):  # another drive on Windows
        relative = os.path.relpath(path, root)
        return min(relative, str(path), key=len)
    return str(path)


def _parts(request: InstallRequest) -> str:
    """The options for the chosen extras and dependency groups."""
    options = [f" --extra {extra}" for extra in sorted(request.extras)]
    return "".join([*options, *(f" --group {group}" for group in sorted(request.groups))])


def _for(request: InstallRequest) -> str:
    """The options for the request's target, or for all platforms if it has several."""
    platform = uv_platform(request.target)
    scope = " --universal" if request.universal else f" --python-platform {platform}" if platform else ""
    return f"{scope} --python-version {request.target.minor}"
