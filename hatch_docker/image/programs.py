"""Find the program that a command starts, as container runtimes and the kernel do, and say why it cannot start.

Runtimes search PATH as execvpe(3) does; a name with a slash is relative to the working directory. The kernel reads the
first line of a script (execve(2)), and the loader that an ELF file names. Programs that start others use execvp(3): in
glibc, that gives any other file to /bin/sh, and in musl not. Only what is certain is an error.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hatch_docker.base.files import interpreter_of, shebang_of
from hatch_docker.base.target import VENV
from hatch_docker.image.merged import READ, SEARCH, Identity, Merged, UnreachableError, described
from hatch_docker.oci.filesystem import Node
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.elf import MAGIC, machine_of
from hatch_docker.support.patterns import regex

SHELLS = frozenset(("sh", "bash", "ash", "dash", "zsh", "ksh", "mksh", "fish", "busybox"))
_LOADER = regex(r"/.*/ld(?:64)?[-.][^/]*")
# Programs that start each other, and interpreters of interpreters (Linux follows four): more are a loop.
_DEEPEST = 20
# CPUs that run programs for another one, too.
_COMPATIBLE = {("x86_64", "i686"), ("x86_64", "x32"), ("aarch64", "armv7l")}
_ASSIGNMENT = regex(r"[A-Za-z_]\w*=")
# Assignments that change what a command finds.
_DECISIVE = ("PATH=", "PYTHONPATH=", "PYTHONSAFEPATH=", "PYTHONHOME=")
# GNU env splits the value of this option into words; it replaces variables and escapes in it, which is not followed.
_SPLIT = regex(r"(?:-v*S|--split-string(?:=|\Z))(.*)", re.DOTALL)
_SPECIAL = regex(r"[$\\#]")
# Executables of Windows and macOS. MZqF begins one that is a shell script, too (Actually Portable Executable).
_FOREIGN = (
    (regex(rb"MZ(?!qF)"), "Windows"),
    (regex(rb"\xcf\xfa\xed\xfe|\xca\xfe\xba\xbe|\xce\xfa\xed\xfe"), "macOS"),
)


class _Wrapper(NamedTuple):
    """A program that starts the rest of its command: its options without a value, and with one, and its operands.

    Options that change how the rest is started are not among them. With `assignments`, variables may precede the rest.
    """

    flags: frozenset[str] = frozenset()
    valued: tuple[str, ...] = ()
    operands: int = 0
    assignments: bool = False


_TINI = _Wrapper(frozenset(("-g", "-s", "-v", "-w")))
_WRAPPERS = {
    "env": _Wrapper(assignments=True),
    "tini": _TINI,
    "tini-static": _TINI,
    "docker-init": _TINI,
    "catatonit": _Wrapper(frozenset(("-g",))),
    "dumb-init": _Wrapper(frozenset(("-c", "--single-child", "-v", "--verbose"))),
    "nohup": _Wrapper(),
    "setsid": _Wrapper(frozenset(("-c", "--ctty", "-f", "--fork", "-w", "--wait"))),
    "nice": _Wrapper(valued=("-n", "--adjustment")),
    "ionice": _Wrapper(frozenset(("-t", "--ignore")), ("-c", "-n", "--class", "--classdata")),
    "stdbuf": _Wrapper(valued=("-i", "-o", "-e", "--input", "--output", "--error")),
    "timeout": _Wrapper(
        frozenset(("--foreground", "--preserve-status", "-v", "--verbose")),
        ("-k", "-s", "--kill-after", "--signal"),
        operands=1,
    ),
}


class StartError(Exception):
    """A command that cannot start: `program` was not found, or `file` lacks a right or a first line."""

    def __init__(self, message: str, *, program: str = "", file: str = "") -> None:
        super().__init__(message)
        self.message, self.program, self.file = message, program, file


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a process of the image starts with.

    `path` are the directories of PATH, `python_path` those of PYTHONPATH; `volumes` are absolute paths. `safe_path` is
    whether PYTHONSAFEPATH is set.
    """

    merged: Merged
    identity: Identity
    user: str
    path: tuple[str, ...]
    directory: str
    volumes: tuple[str, ...] = ()
    python_path: tuple[str, ...] = ()
    safe_path: bool = False

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

    `called` is its path before links are followed, `interpreter` what runs it if it is a script. `loader` is that of an
    ELF file, empty if it has none or if that is not known.
    """

    called: str
    resolved: str
    interpreter: str = ""
    loader: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def is_shell(self) -> bool:
        """Whether it is a shell, or a script for one: what that starts is not known."""
        return bool({posixpath.basename(self.called), posixpath.basename(self.interpreter)} & SHELLS)

    @property
    def is_wrapper(self) -> bool:
        """Whether it starts the rest of its command."""
        return posixpath.basename(self.called) in _WRAPPERS and not self.interpreter


def find(arguments: Sequence[str], process: Process, *, shell: str = "", depth: int = 0) -> list[Program]:
    """The program of a command, and those that it starts if it is a wrapper such as `env`. Raises StartError.

    `shell` runs a file that is neither a program nor a script with a first line for the kernel, if anything does.
    """
    found = _program(located(arguments[0], process), process, shell, depth)
    program = replace(found, arguments=tuple(arguments[1:]))
    rest = _wrapped(program) if depth < _DEEPEST else ()
    own_shell = "" if "musl" in program.loader else "/bin/sh"
    return [program, *(find(rest, process, shell=own_shell, depth=depth + 1) if rest else [])]


def _wrapped(program: Program) -> Sequence[str]:
    """The command in the arguments of a wrapper; empty if there is none, or if that is not certain.

    Raises StartError for an option that it does not know.
    """
    name, rest = posixpath.basename(program.called), list(program.arguments)
    # Scripts of these names are something else.
    if name not in _WRAPPERS or program.interpreter:
        return ()
    if name == "env" and rest and (split := _SPLIT.fullmatch(rest[0])):
        if posixpath.basename(program.resolved) == "busybox":
            advice = "name the program without env, or add coreutils to runtime-packages"
            raise StartError(f"{program.called} is busybox, whose env has no option -S: {advice}")
        rest = [*_words(split[1] or "".join(rest[1:2])), *rest[1 if split[1] else 2 :]]
    wrapper = _WRAPPERS[name]
    while rest and (length := _option(rest[0], wrapper)):
        if rest[0].startswith(_DECISIVE):
            return ()
        del rest[:length]
    if rest[:1] == ["--"]:
        del rest[:1]
    elif rest and rest[0].startswith("-"):
        return ()
    return rest[wrapper.operands :]


def _option(word: str, wrapper: _Wrapper) -> int:
    """How many words an option of a wrapper takes, or a variable; 0 for anything else (POSIX: Utility Conventions)."""
    if word in wrapper.flags or (wrapper.assignments and _ASSIGNMENT.match(word)):
        return 1
    if word in wrapper.valued:
        return 2
    attached = tuple(f"{each}=" if each.startswith("--") else each for each in wrapper.valued)
    return 1 if attached and word.startswith(attached) else 0


def _words(text: str) -> list[str]:
    """The words that `env -S` makes of a text; an option, if that is not certain."""
    try:
        return ["-"] if _SPECIAL.search(text) else shlex.split(text)
    except ValueError:
        return ["-"]


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


def _program(called: str, process: Process, shell: str, depth: int) -> Program:
    """The program at a path, or a file that `shell` runs. Raises StartError if it cannot be started."""
    resolved, node, head = _executable(called, process)
    if head is None or node.kind == "other":
        return Program(called=called, resolved=resolved)
    program, interpreter = Program(called=called, resolved=resolved), interpreter_of(head)
    if head.startswith(MAGIC) or _LOADER.fullmatch(interpreter):
        _check_machine(called, head, process)
        if interpreter:
            _check_loader(called, interpreter, process)
        return replace(program, loader=interpreter)
    if not head.startswith(b"#!") and (not shell or _system_of(head)):
        raise StartError(_no_program(called, head), file=resolved)
    if not process.identity.may(node, READ):
        raise StartError(
            f"{called} is a script, and {described(resolved, node)} cannot be read by {process.user}", file=resolved
        )
    return _script(program, head, process, shell, depth)


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


def _script(program: Program, head: bytes, process: Process, shell: str, depth: int) -> Program:
    """Check what runs a script: the interpreter in its first line, or else `shell`. Raises StartError."""
    called, (interpreter, argument) = program.called, shebang_of(head) if head.startswith(b"#!") else (shell, "")
    if interpreter.endswith("\r") or argument.endswith("\r"):
        raise StartError(f"the first line of {called} ends with CR LF, as Windows writes it: save it with LF")
    if not interpreter:
        raise StartError(f"the first line of {called} names no interpreter, or is longer than the 255 bytes of Linux")
    if depth >= _DEEPEST:
        raise StartError(f"{called} has too many interpreters of interpreters")
    command = [process.absolute(interpreter), *([argument] if argument else []), called]
    try:
        *_, found = find(command, process, depth=depth + 1)
    except StartError as error:
        line = f"#!{f'{interpreter} {argument}'.strip()}"
        what = f"has the first line {line}" if head.startswith(b"#!") else f"has no first line such as {line}"
        raise StartError(f"{called} {what}, and {error.message}", program=error.program, file=error.file) from None
    return replace(program, interpreter=found.called)


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


def _system_of(head: bytes) -> str:
    """The other system that an executable is for; empty if it is none of these."""
    return next((system for pattern, system in _FOREIGN if pattern.match(head)), "")


def _no_program(called: str, head: bytes) -> str:
    if not head:
        return f"{called} is empty"
    if head.startswith(b"\xef\xbb\xbf#!"):
        return f"{called} begins with a byte order mark, and the kernel expects #!: save it as UTF-8 without BOM"
    if system := _system_of(head):
        return f"{called} is a program for {system}"
    return f"{called} is neither a program nor a script whose first line names its interpreter, such as #!/bin/sh"


def is_in_venv(path: str) -> bool:
    """Whether an absolute path is in the virtual environment."""
    return path.startswith(f"/{VENV}/")
