"""Find the program that a command starts, as container runtimes and the kernel do, and say why it cannot start.

Runtimes search PATH as execvpe(3) does; a name with a slash is relative to the working directory. The kernel reads the
first line of a script (execve(2)), and the loader that an ELF file names. Only what is certain is an error.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hatch_docker.base.files import interpreter_of, shebang_of
from hatch_docker.base.target import VENV
from hatch_docker.image.merged import READ, SEARCH, Identity, Merged, UnreachableError, described
from hatch_docker.oci.filesystem import Node
from hatch_docker.support.elf import MAGIC, machine_of

SHELLS = frozenset(("sh", "bash", "ash", "dash", "zsh", "ksh", "mksh", "fish", "busybox"))
_LOADER = re.compile(r"/.*/ld(?:64)?[-.][^/]*")
# The kernel starts the interpreter of an interpreter, up to this depth (exec_binprm).
_DEEPEST = 4
# CPUs that run programs for another one, too.
_COMPATIBLE = {("x86_64", "i686"), ("x86_64", "x32"), ("aarch64", "armv7l")}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
# Programs that start the rest of their command, with their options that have no value and do not change how.
_TINI = frozenset(("-g", "-s", "-v", "-w"))
_WRAPPERS: dict[str, frozenset[str]] = {
    "env": frozenset(),
    "tini": _TINI,
    "tini-static": _TINI,
    "docker-init": _TINI,
    "catatonit": frozenset(("-g",)),
    "dumb-init": frozenset(("-c", "--single-child", "-v", "--verbose")),
    "nohup": frozenset(),
    "setsid": frozenset(("-c", "--ctty", "-f", "--fork", "-w", "--wait")),
}


class StartError(Exception):
    """A command that cannot start: `program` was not found, or `file` lacks a right or a first line."""

    def __init__(self, message: str, *, program: str = "", file: str = "") -> None:
        super().__init__(message)
        self.message, self.program, self.file = message, program, file


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a process of the image starts with.

    `path` are the directories of PATH, `python_path` those of PYTHONPATH; `volumes` are absolute paths.
    """

    merged: Merged
    identity: Identity
    user: str
    path: tuple[str, ...]
    directory: str
    volumes: tuple[str, ...] = ()
    python_path: tuple[str, ...] = ()

    def absolute(self, path: str) -> str:
        """A path as the process sees it."""
        return posixpath.normpath(posixpath.join(self.directory, path))

    def in_volume(self, path: str) -> bool:
        """Whether a path is in a volume, which may have other content at run time."""
        return any(f"{self.absolute(path)}/".startswith(f"{each.rstrip('/')}/") for each in self.volumes)

    def programs(self) -> Iterator[str]:
        """The names of the files in PATH, to find what was meant."""
        for directory in dict.fromkeys(self.path):
            if self.merged.files.is_directory(directory):
                yield from self.merged.files.below(directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that can be started, with its `arguments`.

    `called` is its path before links are followed, `interpreter` what runs it if it is a script.
    """

    called: str
    resolved: str
    interpreter: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def is_shell(self) -> bool:
        """Whether it is a shell, or a script for one: what that starts is not known."""
        return bool({posixpath.basename(self.called), posixpath.basename(self.interpreter)} & SHELLS)


def find(arguments: Sequence[str], process: Process, *, depth: int = 0) -> list[Program]:
    """The program of a command, and those that it starts if it is a wrapper such as `env`. Raises StartError."""
    program = replace(_program(located(arguments[0], process), process, depth), arguments=tuple(arguments[1:]))
    rest = _wrapped(posixpath.basename(program.called), arguments[1:])
    return [program, *(find(rest, process, depth=depth + 1) if rest and depth < _DEEPEST else [])]


def _wrapped(name: str, arguments: Sequence[str]) -> Sequence[str]:
    """The command in the arguments of a wrapper; empty if there is none, or if that is not certain."""
    if name not in _WRAPPERS:
        return ()
    rest = list(arguments)
    while rest and (rest[0] in _WRAPPERS[name] or (name == "env" and _ASSIGNMENT.fullmatch(rest[0]))):
        if rest.pop(0).startswith("PATH="):
            return ()
    if rest[:1] == ["--"]:
        return rest[1:]
    return () if rest and rest[0].startswith("-") else rest


def located(name: str, process: Process) -> str:
    """The path of a program before links are followed. Raises StartError if PATH does not have it."""
    if "/" in name:
        return process.absolute(name)
    refused = file = ""
    for directory in process.path:
        candidate = process.absolute(posixpath.join(directory, name))
        try:
            resolved, node = process.merged.reach(candidate, process.identity)
        except UnreachableError as error:
            refused = refused or (str(error) if error.denied else "")
            continue
        if node.kind == "file":
            node, _ = process.merged.examined(resolved)
            if process.identity.may(node, SEARCH):
                return candidate
            refused, file = refused or _not_executable(candidate, resolved, node, process), file or resolved
    if refused:
        raise StartError(f"{name!r} cannot be started: {refused}", file=file)
    raise StartError(f"the image has no program {name!r} on its PATH", program=name)


def _program(called: str, process: Process, depth: int) -> Program:
    """The program at a path. Raises StartError if it cannot be started."""
    resolved, node, head = _executable(called, process)
    if head is None or node.kind == "other":
        return Program(called=called, resolved=resolved)
    interpreter = interpreter_of(head)
    if head.startswith(MAGIC):
        _check_machine(called, head, process)
    elif head.startswith(b"#!") and not _LOADER.fullmatch(interpreter):
        if not process.identity.may(node, READ):
            raise StartError(
                f"{called} is a script, and {described(resolved, node)} cannot be read by {process.user}", file=resolved
            )
        return _script(Program(called=called, resolved=resolved), head, process, depth)
    elif not head.startswith(b"#!"):
        raise StartError(_no_program(called, head), file=resolved)
    if interpreter:
        _check_loader(called, interpreter, process)
    return Program(called=called, resolved=resolved)


def _executable(called: str, process: Process) -> tuple[str, Node, bytes | None]:
    """The resolved path, node and head of a file that the user may execute. Raises StartError."""
    try:
        resolved, node = process.merged.reach(called, process.identity)
    except UnreachableError as error:
        missing = called if error.missing else ""
        raise StartError(f"{called} cannot be started: {error}", program=missing) from None
    if node.kind == "dir":
        raise StartError(f"{called} is a directory, not a program")
    node, head = process.merged.examined(resolved)
    if node.kind == "file" and not process.identity.may(node, SEARCH):
        raise StartError(_not_executable(called, resolved, node, process), file=resolved)
    return resolved, node, head


def _script(program: Program, head: bytes, process: Process, depth: int) -> Program:
    """Check what runs a script. Raises StartError."""
    called, (interpreter, argument) = program.called, shebang_of(head)
    if interpreter.endswith("\r") or argument.endswith("\r"):
        raise StartError(f"the first line of {called} ends with CR LF, as Windows writes it: save it with LF")
    if not interpreter:
        raise StartError(f"the first line of {called} names no interpreter, or is longer than the 255 bytes of Linux")
    if depth >= _DEEPEST:
        raise StartError(f"{called} has too many interpreters of interpreters")
    try:
        _program(process.absolute(interpreter), process, depth + 1)
        rest = _of_env(argument) if posixpath.basename(interpreter) == "env" else ()
        found = find(rest, process, depth=depth + 1) if rest else []
    except StartError as error:
        raise StartError(
            f"{called} has the first line #!{f'{interpreter} {argument}'.strip()}, and {error.message}",
            program=posixpath.basename(error.program),
            file=error.file,
        ) from None
    return Program(called=called, resolved=program.resolved, interpreter=found[0].called if found else interpreter)


def _of_env(argument: str) -> Sequence[str]:
    """The program that `env` in a first line starts: all of its one argument, unless it is split by -S."""
    if argument.startswith("-"):
        words = argument.removeprefix("-S").split() if argument.startswith("-S") else []
        return () if not words or words[0].startswith("-") else _wrapped("env", words)[:1]
    return () if _ASSIGNMENT.fullmatch(argument) or not argument else (argument,)


def _check_machine(called: str, head: bytes, process: Process) -> None:
    machine, expected = machine_of(head), process.merged.target.machine
    if machine and machine != expected and (expected, machine) not in _COMPATIBLE:
        raise StartError(f"{called} is a program for {machine}, and the image is for {expected}")


def _check_loader(called: str, loader: str, process: Process) -> None:
    """Check the loader of an ELF file. Raises StartError if the image lacks it."""
    try:
        process.merged.reach(process.absolute(loader), process.identity)
    except UnreachableError:
        libc = process.merged.target.libc.kind
        other = "musl" if "musl" in loader else "glibc"
        why = f": it is linked to {other}, and the image has {libc}" if other != libc else ""
        raise StartError(f"{called} needs the loader {loader}, which the image lacks{why}") from None


def _not_executable(called: str, resolved: str, node: Node, process: Process) -> str:
    link = f"{called} leads to " if called != f"/{resolved}" else ""
    return f"{link}{described(resolved, node)}{', which' if link else ''} is not executable for {process.user}"


def _no_program(called: str, head: bytes) -> str:
    if not head:
        return f"{called} is empty"
    if head.startswith(b"\xef\xbb\xbf#!"):
        return f"{called} begins with a byte order mark, and the kernel expects #!: save it as UTF-8 without BOM"
    if head.startswith(b"MZ"):
        return f"{called} is a program for Windows"
    if head[:4] in (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xce\xfa\xed\xfe"):
        return f"{called} is a program for macOS"
    return f"{called} is neither a program nor a script whose first line names its interpreter, such as #!/bin/sh"


def is_in_venv(path: str) -> bool:
    """Whether an absolute path is in the virtual environment."""
    return path.startswith(f"/{VENV}/")
