"""Build a pure sdist or directory on this machine with uv, from files that are already here.

uv uses no index, no cache and no configuration: build requirements come from a directory of verified wheels, whose
hashes it checks again. Compared with `pip wheel` it is twice as fast, checks these hashes, and refuses archives that
unpack outside their directory.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from hatch_docker.compiling.build_system import BuildSystem
from hatch_docker.compiling.directory import BINARY
from hatch_docker.compiling.jobs import Job
from hatch_docker.compiling.sdist import Sdist
from hatch_docker.errors import CompileError
from hatch_docker.index.download import FetchedFile
from hatch_docker.oci.tar import MTIME
from hatch_docker.support.atomic import writing
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.foreign import NEEDED, PROXIES, VERSIONS, hiding
from hatch_docker.support.threads import ended_by_interrupt
from hatch_docker.wheels.wheelfile import WheelFile

# Settings without which two builds of the same sources would differ.
_SETTINGS = {
    # The project's own build hook would make the image of this wheel, too.
    "HATCH_BUILD_HOOK_ENABLE_DOCKER": "false",
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "SOURCE_DATE_EPOCH": str(MTIME),
    "TZ": "UTC",
}
_OPTIONS = ("--no-config", "--no-cache", "--no-progress", "--color", "never")
# Calls get_requires_for_build_wheel or _sdist, and prepare_metadata_for_build_wheel (PEP 517): a backend need not have
# them. What it requires is written first, since without that the other may fail. The working directory is not on the
# module path (PEP 517); Python's option -I would ignore the settings of the environment, too.
_HOOKS = """
import sys
del sys.path[0]
import importlib, json, os
backend, paths, kind, result, folder = json.loads(sys.argv[1])
sys.path[:0] = paths
module, _, names = backend.partition(":")
found = importlib.import_module(module)
for name in filter(None, names.split(".")):
    found = getattr(found, name)
def write(**values):
    with open(result, "w", encoding="utf-8") as file:
        json.dump(values, file)
hook = getattr(found, f"get_requires_for_build_{kind}", None)
requires = list(hook({})) if hook else []
write(requires=requires)
if folder:
    hook = getattr(found, "prepare_metadata_for_build_wheel", None)
    write(requires=requires, metadata=os.path.join(folder, hook(folder, {})) if hook else "")
"""
# Without it, setuptools builds in the directory `build` of the sources, and packs what an earlier build left there. All
# versions read this file in the home directory, and let the project's own setup.cfg prevail.
_DISTUTILS = ".pydistutils.cfg" if os.name == "posix" else "pydistutils.cfg"
_CHUNK = 1 << 16
# A shell or uv reports a program that a signal ended by a status above this.
_SIGNALS = 128


def build_locally(
    job: Job,
    wheels: Sequence[FetchedFile],
    *,
    folder: Path,
    uv: str,
    environ: Mapping[str, str],
    write: Callable[[bytes], object],
) -> Path | None:
    """Build an sdist in the empty `folder`, with `wheels` as build requirements: the wheel's path; None if that fails.

    Raises as `LocalBuild.build`.
    """
    source = folder / job.sdist.filename
    with writing(folder):
        # In the cache, files are named by their hashes; uv needs their real names, and ignores links.
        shutil.copyfile(job.file.path, source)
    return LocalBuild(label=job.label, folder=folder, uv=uv, environ=environ, write=write).build(source, wheels)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookResult:
    """What hooks of a build backend returned; None for one that failed.

    `metadata` is the path of a `.dist-info` directory, empty if the backend makes none without a build.
    """

    requires: list[str] | None = None
    metadata: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBuild:
    """A build on this machine by the program `uv`, whose files are in `folder`.

    The output of uv and the build backend goes to `write`. `label` names the package in errors. `versions` says that
    the environment may tell the backend the version.
    """

    label: str
    folder: Path
    uv: str
    environ: Mapping[str, str]
    write: Callable[[bytes], object]
    versions: bool = False

    def build(self, source: Path, wheels: Sequence[FetchedFile], *, kind: str = "wheel") -> Path | None:
        """Build a `wheel` or `sdist` from an sdist or a directory, with `wheels` as build requirements.

        Returns its path; None if that fails. An interrupt ends uv, too. Raises CompileError if uv cannot be run or is
        killed, OutputError if the file system refuses.
        """
        built = self.folder / f"built-{kind}"
        constraints = self._constraints(wheels)
        with writing(self.folder):
            shutil.rmtree(built, ignore_errors=True)
            built.mkdir()
        command = ["build", f"--{kind}", str(source), "--out-dir", str(built), "--no-sources", "--force-pep517"]
        status = self._uv(*command, "--require-hashes", "--build-constraints", str(constraints), *self._links)
        made = sorted(built.glob("*.whl" if kind == "wheel" else "*.tar.gz"))
        return made[0] if status == 0 and made else None

    def requires(
        self, source: Path, system: BuildSystem, wheels: Sequence[FetchedFile], *, kind: str = "wheel"
    ) -> list[str] | None:
        """What the build backend of a directory requires besides `build-system.requires`; None if it cannot tell.

        Raises as `build`.
        """
        return self._call(source, system, wheels, kind).requires

    def metadata(self, source: Path, system: BuildSystem, wheels: Sequence[FetchedFile]) -> HookResult:
        """What the build backend requires, and the `.dist-info` directory that it makes without a build.

        Raises as `build`.
        """
        folder = self.folder / "metadata"
        with writing(self.folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        return self._call(source, system, wheels, "wheel", folder=str(folder))

    def _call(
        self, source: Path, system: BuildSystem, wheels: Sequence[FetchedFile], kind: str, folder: str = ""
    ) -> HookResult:
        """Call hooks of a build backend in a new environment."""
        environment, result = self.folder / "environment", self.folder / "hooks.json"
        constraints = self._constraints(wheels)
        with writing(self.folder):
            result.unlink(missing_ok=True)
        scripts = environment / ("Scripts" if os.name == "nt" else "bin")
        install = ("pip", "install", "--quiet", "--require-hashes", "--no-deps", "--requirements", str(constraints))
        if self._uv("venv", "--quiet", "--clear", str(environment)) or self._uv(
            *install, *self._links, python=scripts / "python"
        ):
            return HookResult()
        paths = [str(source / path) for path in system.backend_path]
        hook = json.dumps([system.backend, paths, kind, str(result), folder])
        path = os.pathsep.join(filter(None, (str(scripts), self.environ.get("PATH", ""))))
        environ = {**self._environment, "PATH": path, "VIRTUAL_ENV": str(environment)}
        self._check(_run([str(scripts / "python"), "-c", _HOOKS, hook], source, environ, self.write))
        return _result(result)

    @property
    def _links(self) -> tuple[str, ...]:
        return "--offline", "--no-index", "--find-links", str(self.folder / "wheels")

    def _constraints(self, wheels: Sequence[FetchedFile]) -> Path:
        """Put `wheels` where uv finds them; returns a requirements file with their hashes."""
        files, constraints = self.folder / "wheels", self.folder / "constraints.txt"
        with writing(self.folder):
            shutil.rmtree(files, ignore_errors=True)
            for each in (files, self.folder / "home", self.folder / "tmp"):
                each.mkdir(exist_ok=True)
            distutils = f"[build]\nbuild_base = {self.folder / 'build'}\n"
            (self.folder / "home" / _DISTUTILS).write_text(distutils, encoding="utf-8")
            shutil.rmtree(self.folder / "build", ignore_errors=True)
            for wheel in wheels:
                shutil.copyfile(wheel.path, files / wheel.artifact.filename)
            constraints.write_text("".join(map(_line, wheels)), encoding="utf-8")
        return constraints

    def _uv(self, *arguments: str, python: Path = Path(sys.executable)) -> int:
        command = [self.uv, *arguments, "--python", str(python), *_OPTIONS]
        return self._check(_run(command, self.folder, self._environment, self.write))

    @property
    def _environment(self) -> dict[str, str]:
        """The environment of uv and the build backend, whose home and temporary directories are in `folder`.

        No index, login or PYTHONPATH is in it.
        """
        prefixes = VERSIONS if self.versions else ()
        kept = {
            name: value
            for name, value in self.environ.items()
            if name in NEEDED or name.startswith(prefixes) or (name.upper() in PROXIES and "@" not in value)
        }
        home, temporary = str(self.folder / "home"), str(self.folder / "tmp")
        places = {"HOME": home, "USERPROFILE": home, "TMPDIR": temporary, "TEMP": temporary, "TMP": temporary}
        return {**kept, **_SETTINGS, **places}

    def _check(self, status: int) -> int:
        if status < 0 or status > _SIGNALS:
            # The sources are not at fault.
            raise CompileError(f"the build of {self.label} on this machine was killed", hint="build again")
        return status


def _result(path: Path) -> HookResult:
    """What hooks wrote; nothing if that is not what they should write."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        requires, metadata = document["requires"], document.get("metadata")
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return HookResult()
    if not isinstance(requires, list) or not all(isinstance(each, str) for each in requires):
        return HookResult()
    return HookResult(requires=requires, metadata=metadata if isinstance(metadata, str) else None)


def _line(wheel: FetchedFile) -> str:
    """A wheel as a line of a requirements file, with its hash."""
    return f"{wheel.artifact.name}=={wheel.artifact.version} --hash={wheel.digest}\n"


def _run(command: Sequence[str], folder: Path, environ: Mapping[str, str], write: Callable[[bytes], object]) -> int:
    """Run a command; its exit status. Any exception here kills it and the programs that it has started."""
    try:
        running = subprocess.Popen(  # noqa: S603 (no shell; the program is the user's own uv)
            hiding(command),
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        hint = "install uv (pip install uv, or 'hatch-docker[uv]'), or lock versions that have a wheel"
        raise CompileError(f"uv cannot be run: {error.strerror or error}", place=command[0], hint=hint) from None
    with running, ended_by_interrupt(partial(_kill, running)):
        for chunk in iter(lambda: running.stdout.read1(_CHUNK), b""):  # type: ignore[union-attr]
            write(chunk)
    return running.returncode


def _kill(running: subprocess.Popen[bytes]) -> None:
    """Kill a program that leads a session, with all others of it."""
    if sys.platform == "win32":
        running.kill()
    elif running.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)


def is_pure(wheel: Path, sdist: Sdist) -> bool:
    """Whether a wheel is the sdist's, and fits every platform and Python 3. Raises WheelError for a broken one."""
    try:
        name, version, _, _ = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:
        return False
    expected = Version(sdist.version) if sdist.version else version
    return (name, version) == (sdist.name, expected) and not compiled_sign(wheel)


def compiled_sign(wheel: Path) -> str:
    """The first sign that a wheel does not fit every platform and Python 3: its tag, or a file; empty if it does.

    Raises InvalidWheelFilename, and WheelError for a broken wheel.
    """
    _, _, _, tags = parse_wheel_filename(wheel.name)
    if not any((tag.interpreter, tag.abi, tag.platform) == ("py3", "none", "any") for tag in tags):
        return ", ".join(sorted(map(str, tags)))
    with WheelFile(wheel) as opened:
        return next((path for path in sorted(opened.members) if BINARY.fullmatch(path)), "")
