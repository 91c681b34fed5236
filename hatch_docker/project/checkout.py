"""Where an unpacked sdist comes from, and whether the wheel of it is the one that the project's own build would make.

`python -m build` and `uv build` unpack the sdist into a temporary directory, and build the wheel there. An sdist has no
commit, and usually no lock: an image of it would be another one than that of the project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from hatch_docker.errors import SourceError
from hatch_docker.index.workspace import members
from hatch_docker.wheels.wheelfile import WheelFile

_SHOWN = 5
_FROM_PROJECT = "build the wheel from the project itself: 'python -m build --wheel', 'uv build --wheel', 'hatch build'"


def project_root(root: Path, directory: Path) -> Path:
    """The root of the project that is built at `root`, for a build that writes to `directory`.

    An sdist that was unpacked to `root` comes from the nearest directory above `directory` that has the same
    pyproject.toml, or is a workspace of uv with a member that has. Raises SourceError if there is none.
    """
    # Every sdist has this file, and nothing else needs it (PyPA: source distribution format).
    if not (root / "PKG-INFO").is_file() or (root / ".git").exists():
        return root
    expected = _pyproject(root)
    for folder in (directory.absolute(), *directory.absolute().parents):
        if _pyproject(folder):
            for candidate in _projects(folder):
                if candidate != root and _pyproject(candidate) == expected:
                    return candidate
    raise SourceError(
        f"the wheel is built from an unpacked sdist, and no directory above {directory} has the project that it comes "
        "from: the image would lack what only the project has, such as its commit and its lock, and would have another "
        "digest than that of 'hatch build -t docker'",
        place=str(root),
        hint=f"{_FROM_PROJECT}; or write the wheel to a directory of the project, such as dist",
    )


def check_same(wheel: Path, checkout: Path) -> None:
    """Compare a wheel that was built from an sdist with the files that the project at `checkout` has for it.

    If other build hooks make files, only missing ones are a difference. Raises SourceError with all differences.
    """
    expected, hooks = _expected(checkout)
    with WheelFile(wheel) as opened:
        found = {path: opened.checksum(path) for path in opened.members if opened.split(path)[0] == "purelib"}
        own = f"{opened.dist_info}/"
    found = {path: checksum for path, checksum in found.items() if not path.startswith(own)}
    lines = [f"without {_listed(sorted(expected.keys() - found.keys()))}"] if expected.keys() - found.keys() else []
    if not hooks:
        if more := sorted(found.keys() - expected.keys()):
            lines.append(f"with {_listed(more)}")
        if changed := sorted(path for path in expected.keys() & found.keys() if _other(expected[path], found[path])):
            lines.append(f"with another content of {_listed(changed)}")
    if lines:
        raise SourceError(
            f"the wheel is built from the sdist, and differs from the one that 'hatch build -t docker' builds of "
            f"{checkout}: it is {'; '.join(lines)}. Its image would have another digest",
            place=wheel.name,
            hint=f"let [tool.hatch.build.targets.sdist] include the same files; or {_FROM_PROJECT}",
        )


def _expected(checkout: Path) -> tuple[dict[str, Path], bool]:
    """The files that hatchling selects for the wheel by their paths in it, and whether hooks may make others."""
    builder = WheelBuilder(str(checkout))
    try:
        selected = {
            Path(each.distribution_path).as_posix(): Path(each.path) for each in builder.recurse_included_files()
        }
        return selected, bool(builder.config.hook_config.keys() - {"docker"})
    except (TypeError, ValueError, OSError) as error:
        raise SourceError(str(error), place=str(checkout / "pyproject.toml")) from None


def _projects(folder: Path) -> Iterator[Path]:
    """The project in a directory, and the members of the workspace whose root it is."""
    yield folder
    yield from members(folder).values()


def _pyproject(folder: Path) -> bytes:
    try:
        return (folder / "pyproject.toml").read_bytes()
    except OSError:
        return b""


def _other(path: Path, checksum: tuple[str, bytes] | None) -> bool:
    if checksum is None:
        return False
    algorithm, digest = checksum
    return hashlib.new(algorithm, path.read_bytes()).digest() != digest


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{', '.join(paths[:_SHOWN])}{more}"
