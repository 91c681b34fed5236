"""A pure sdist becomes a wheel on this machine, by uv, out of files that are here already.

uv takes nothing from an index, its own cache or its configuration: build requirements come from a folder of verified
wheels, and it checks their hashes again. Compared with `pip wheel` it is twice as fast, checks these hashes at all, and
refuses archives that unpack outside of their folder.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from hatch_docker.compiling.sdist import Sdist
from hatch_docker.errors import CompileError
from hatch_docker.index.download import FetchedFile
from hatch_docker.oci.tar import MTIME
from hatch_docker.support.atomic import writing
from hatch_docker.wheels.wheelfile import WheelFile

# All that a build sees of the environment: what a system needs to run programs. No index, login, proxy or PYTHONPATH.
_KEPT = (
    "PATH",
    "LD_LIBRARY_PATH",
    # Windows
    "COMSPEC",
    "NUMBER_OF_PROCESSORS",
    "PATHEXT",
    "PROCESSOR_ARCHITECTURE",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "WINDIR",
)
# What would make two builds of the same sources differ.
_SETTINGS = {
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "SOURCE_DATE_EPOCH": str(MTIME),
    "TZ": "UTC",
}
_OPTIONS = (
    *("--no-config", "--no-sources", "--force-pep517", "--python", sys.executable),
    *("--offline", "--no-index", "--no-cache", "--require-hashes", "--no-progress", "--color", "never"),
)
_CHUNK = 1 << 16
# A program that a signal ended has a status of more, where a shell or uv tells of it.
_SIGNALS = 128
# Extension modules and shared libraries, whatever the wheel is called.
_BINARY = re.compile(r".+\.(?:so|dylib|pyd)(?:\.[\d.]+)?")


def build_here(
    sdist: Sdist,
    path: Path,
    *,
    wheels: Sequence[FetchedFile],
    uv: str,
    environ: Mapping[str, str],
    folder: Path,
    write: Callable[[bytes], object],
) -> Path | None:
    """Build the sdist at `path` in the empty `folder`, with nothing but `wheels`; the path of the wheel there.

    What uv and the backend say goes to `write`. None where they fail. An interrupt ends uv. Raises CompileError where
    uv cannot be run or is ended, OutputError where the file system refuses.
    """
    with writing(folder):
        files, built = folder / "wheels", folder / "built"
        for each in (files, built, folder / "home", folder / "tmp"):
            each.mkdir()
        source, constraints = folder / sdist.filename, folder / "constraints.txt"
        # uv wants them by their names, which are their hashes in a cache, and takes no links.
        shutil.copyfile(path, source)
        for wheel in wheels:
            shutil.copyfile(wheel.path, files / wheel.artifact.filename)
        constraints.write_text("".join(map(_line, wheels)), encoding="utf-8")
    command = [uv, "build", "--wheel", str(source), "--out-dir", str(built), *_OPTIONS]
    command += ["--find-links", str(files), "--build-constraints", str(constraints)]
    status = _run(command, folder, _environment(environ, folder), write)
    if status < 0 or status > _SIGNALS:
        # That says nothing of the sdist.
        raise CompileError(f"the build of {sdist.name} {sdist.version} on this machine was ended", hint="build again")
    made = sorted(built.glob("*.whl"))
    return made[0] if status == 0 and made else None


def _line(wheel: FetchedFile) -> str:
    """A wheel as requirements files have it, with its hash."""
    return f"{wheel.artifact.name}=={wheel.artifact.version} --hash={wheel.digest}\n"


def _environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What uv and the backend run with: what they leave behind is in `folder`."""
    kept = {name: environ[name] for name in _KEPT if name in environ}
    home, temporary = str(folder / "home"), str(folder / "tmp")
    places = {"HOME": home, "USERPROFILE": home, "TMPDIR": temporary, "TEMP": temporary, "TMP": temporary}
    return {**kept, **_SETTINGS, **places}


def _run(command: Sequence[str], folder: Path, environ: Mapping[str, str], write: Callable[[bytes], object]) -> int:
    """The exit status; whatever ends us ends it too."""
    try:
        running = subprocess.Popen(  # noqa: S603 (no shell; the program is the user's own uv)
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        hint = "install uv (pip install uv), or choose versions that have a wheel"
        raise CompileError(f"uv cannot be run: {error.strerror or error}", place=command[0], hint=hint) from None
    with running:
        try:
            for chunk in iter(lambda: running.stdout.read1(_CHUNK), b""):  # type: ignore[union-attr]
                write(chunk)
        except BaseException:
            running.kill()
            raise
    return running.returncode


def is_pure(wheel: Path, sdist: Sdist) -> bool:
    """Whether a wheel is the sdist's, and for every platform and Python 3; raises WheelError for a broken one."""
    try:
        name, version, _, tags = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:
        return False
    if (name, version) != (sdist.name, Version(sdist.version)):
        return False
    if not any((tag.interpreter, tag.abi, tag.platform) == ("py3", "none", "any") for tag in tags):
        return False
    with WheelFile(wheel) as opened:
        return not any(_BINARY.fullmatch(path) for path in opened.members)
