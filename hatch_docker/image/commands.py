"""Check one command of an image: its program, what an interpreter is to run, and what people expect a shell to do."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from hatch_docker.image.arguments import (
    check_file,
    first_command,
    is_python,
    is_single,
    python_command,
    shell_argument,
    unexpanded,
)
from hatch_docker.image.modules import check_module, shadows
from hatch_docker.image.programs import Process, Program, StartError, find, is_in_venv
from hatch_docker.image.remedies import Advisor, remedy
from hatch_docker.oci.layer import Entry
from hatch_docker.support.dataclasses import dataclass


class Finding(NamedTuple):
    """Something about a key, and how bad it is."""

    kind: Literal["error", "warning", "note"]
    key: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What the project configured of an image, beside what its base has.

    `keys` are those of its commands that are not the base's, `volumes` likewise. `env` is the project's and `base_env`
    the base's; `extra` are the files of `extra-files`. `advisor` knows what depends on the base.
    """

    keys: frozenset[str]
    env: Mapping[str, str]
    base_env: Mapping[str, str]
    volumes: frozenset[str] = frozenset()
    extra: Sequence[Entry] = ()
    advisor: Advisor


def findings(key: str, arguments: Sequence[str], process: Process, chosen: Chosen) -> Iterator[Finding]:
    """What is wrong, or not known, about the command of a key."""
    configured = key in chosen.keys
    for found in _findings(key, arguments, process, chosen):
        if configured:
            yield found
        elif found.kind != "note":
            setting = "healthcheck" if key == "healthcheck" else "entrypoint"
            yield Finding("warning", key, f"{found.text}; that is the base's: set {setting}")


def _findings(key: str, arguments: Sequence[str], process: Process, chosen: Chosen) -> Iterator[Finding]:
    try:
        *_, program = find(arguments, process)
    except StartError as error:
        yield _failure(key, error, arguments, process, chosen)
        return
    if key in chosen.keys or key == "healthcheck":
        yield from _start(key, program, process, chosen)
    if key in chosen.keys and key != "healthcheck":
        yield from _shadows(program, process, chosen)


def _failure(key: str, error: StartError, arguments: Sequence[str], process: Process, chosen: Chosen) -> Finding:
    """That a command cannot start, and what to do; a note if a volume may have what it needs."""
    if any(map(process.in_volume, _looked_at(error, arguments[0], process))):
        return Finding("note", key, f"{error.message}; it may be in a volume")
    text = error.message
    if error.program:
        advice = remedy(error.program, arguments[1:], process, chosen.advisor, key)
        text = f"{text}: {advice}"
    elif error.file:
        text = f"{text}: {_rights(error.file, process)}" if "executable" in text or "read" in text else text
    return Finding("error", key, text)


def _looked_at(error: StartError, command: str, process: Process) -> Sequence[str]:
    """Where the program of a command was searched, or the file that it needs, if it cannot start."""
    if error.file:
        return [f"/{error.file.lstrip('/')}"]
    name = error.program or command
    return [name] if "/" in name else process.path


def _rights(path: str, process: Process) -> str:
    """What to do about a file that the user may not execute or read."""
    if path in process.merged.entries:
        return 'set mode = "0755" for it in extra-files, or chmod +x the file'
    if path in process.merged.wheels:
        return "its wheel does not mark it as executable"
    return "change that in the base, or set another user"


def _start(key: str, program: Program, process: Process, chosen: Chosen) -> Iterator[Finding]:
    """What follows from the arguments of a program that can be started."""
    if (
        is_python(program)
        and not is_in_venv(program.called)
        and f"/{program.resolved}" == process.merged.target.interpreter
    ):
        what = f"{program.called} is the base's Python, which does not find the packages of the image"
        yield Finding("warning", key, f"{what}: write python")
    if program.is_shell:
        yield from _shell(key, program, process, chosen)
        return
    yield from (
        Finding("warning", key, f'{each}: write ["sh", "-c", "…"], or the value') for each in unexpanded(program)
    )
    if is_python(program):
        yield from _python(key, program, process)
    if program.is_wrapper and program.arguments:
        yield Finding("note", key, f"what {program.called} starts is not checked, since its options may change that")


def _shell(key: str, program: Program, process: Process, chosen: Chosen) -> Iterator[Finding]:
    """What a shell starts: its first command may be known, its file must be there."""
    kind, value = shell_argument(program) if not program.interpreter else ("", "")
    if kind == "text" and (name := first_command(value)):
        command = [name, *value.split()[1:]]
        try:
            find([name], process, shell=program.called)
        except StartError as error:
            error.message = f"{error.message}, which its shell is to run"
            found = _failure(key, error, command, process, chosen)
            # A name without a slash may be a command that is built in.
            likely = found.kind == "error" and not ("/" in name and is_single(value, program))
            yield found._replace(kind="warning") if likely else found
            return
    if kind == "file" and not _is_on_path(value, process):
        yield from _file(key, value, program, process)
    yield Finding("note", key, "a shell runs it, so what it starts is not checked")


def _is_on_path(name: str, process: Process) -> bool:
    """Whether PATH has a file, where shells look for one that the working directory lacks."""
    return "/" not in name and any(process.merged.files.is_file(f"{each}/{name}") for each in process.path)


def _python(key: str, program: Program, process: Process) -> Iterator[Finding]:
    command = python_command(program)
    if command.kind == "module" and (problem := check_module(program, process)):
        yield Finding("warning", key, problem)
    elif command.kind == "file":
        yield from _file(key, command.value, program, process)


def _shadows(program: Program, process: Process, chosen: Chosen) -> Iterator[Finding]:
    """Extra files that a program imports in place of modules of wheels, or may import."""
    advice = 'put it elsewhere, or set PYTHONSAFEPATH = "1" in env'
    for each in shadows(program, process, chosen.extra):
        text = each.text if each.certain else f"{each.text} if a program looks in {process.directory} first"
        yield Finding("error" if each.own and each.certain else "warning", "extra-files", f"{text}: {advice}")


def _file(key: str, name: str, program: Program, process: Process) -> Iterator[Finding]:
    """The file that an interpreter is to run."""
    try:
        problem = check_file(name, process)
    except StartError as error:
        yield Finding("error", key, f"{error.message}: {_rights(error.file, process)}")
        return
    if problem:
        what = f"{problem}, and {posixpath.basename(program.called)} is to run it"
        yield Finding("warning", key, f"{what}: extra-files adds files, and volumes declares what is mounted")
