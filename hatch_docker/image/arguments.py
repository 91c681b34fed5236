"""What a command's arguments tell about it: what Python runs, the text of a shell."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from hatch_docker.image.environment import references
from hatch_docker.image.merged import READ, UnreachableError, described
from hatch_docker.image.programs import SHELLS, Process, Program, StartError
from hatch_docker.support.patterns import regex

_PYTHON = regex(r"python(?:3(?:\.\d+t?)?)?")
# Python's options with a value, and those after which no script or module follows (Python: Command line).
_WITH_VALUE, _LAST = "XW", "cVh?"
# Options of shells: in letters, of which `o` and bash's `O` have a value, and bash's long ones without a value.
_SHELL_OPTION = regex(r"[-+][a-zA-Z]+|--(?:login|noprofile|norc|posix)")
_PROFILE = regex(r"--login|-[a-zA-Z]*[il][a-zA-Z]*")
_FIRST_COMMAND = regex(r"\s*(?:exec\s+)?((?!-)[\w./+-]+)(?=[\s;&|]|\Z)", re.ASCII)
# A text of one command, whose words are not made by others; it may redirect its streams.
_SINGLE_COMMAND = regex(r"(?:[^;&|()`\n]|[<>]&|&>)*")
# Reserved words and utilities of POSIX's shell, and of its most used kin: they are no programs.
_BUILT_IN = frozenset(
    (
        *(".", ":", "alias", "bg", "break", "builtin", "case", "cd", "command", "continue", "declare", "do", "done"),
        *("echo", "elif", "else", "esac", "eval", "exec", "exit", "export", "false", "fg", "fi", "for", "function"),
        *("getopts", "hash", "if", "in", "jobs", "kill", "let", "local", "printf", "pwd", "read", "readonly"),
        *("return", "select", "set", "shift", "source", "test", "then", "time", "times", "trap", "true", "type"),
        *("typeset", "ulimit", "umask", "unalias", "unset", "until", "wait", "while"),
    )
)
_OPERATORS = frozenset(("&&", "||", ";", "|", ">", ">>", "2>&1", "&"))


def unexpanded(program: Program) -> Iterator[str]:
    """Variables and operators in the arguments of a program other than a shell, which gets them as they are written."""
    arguments = program.arguments
    code = next((number for number, each in enumerate(arguments) if each == "-c"), len(arguments))
    names = [name for each in arguments[:code] for name in references(each)]
    operators = [each for each in arguments[:code] if each in _OPERATORS]
    if names or operators:
        found = ", ".join(dict.fromkeys([*names, *operators]))
        yield f"no shell runs it, and the program gets {found} as it is written"


def shell_argument(program: Program) -> tuple[str, str]:
    """The kind and value of what a shell runs: `text` or `file`; both empty if that is not certain (POSIX: sh)."""
    words, name, kind = list(program.arguments), posixpath.basename(program.called), "file"
    if name == "busybox":
        name = words.pop(0) if words else ""
    if name not in SHELLS:
        return "", ""
    while words and words[0][:1] in ("-", "+"):
        word = words.pop(0)
        if word in ("-", "--"):
            break
        letters = "" if word.startswith("--") else word[1:]
        # With `s`, it reads its standard input. fish has other options.
        if not _SHELL_OPTION.fullmatch(word) or "s" in letters or (name == "fish" and word != "-c"):
            return "", ""
        kind = "text" if word[0] == "-" and "c" in letters else kind
        del words[: letters.count("o") + letters.count("O")]
    return (kind, words[0]) if words else ("", "")


def is_single(text: str, program: Program) -> bool:
    """Whether the text of a shell is one command, which nothing comes before, such as a profile."""
    return not any(map(_PROFILE.fullmatch, program.arguments)) and _SINGLE_COMMAND.fullmatch(text.strip()) is not None


def first_command(text: str) -> str:
    """The program that a shell starts first, if that is certain; else empty."""
    match = _FIRST_COMMAND.match(text)
    return match[1] if match and match[1] not in _BUILT_IN and match[1].strip("-.") else ""


def is_python(program: Program) -> bool:
    """Whether a program is a Python, by its name."""
    return _PYTHON.fullmatch(posixpath.basename(program.called)) is not None


class PythonCommand(NamedTuple):
    """What a Python runs.

    `safe`: not what is beside that, or in the working directory, is imported first. `environment`: variables such as
    PYTHONPATH count.
    """

    kind: Literal["module", "file", "text", ""]
    value: str = ""
    safe: bool = False
    environment: bool = True


def python_command(program: Program) -> PythonCommand:
    """What a Python runs, of no kind if it is nothing of these (Python: Command line and environment)."""
    words, options = list(program.arguments), ""
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            return _python_command("file", word, options)
        if word in ("-", "--") or word.startswith("--"):
            break
        for number, letter in enumerate(word[1:], 2):
            options += letter
            if letter == "m":
                return _python_command("module", word[number:] or "".join(words[:1]), options)
            if letter in _LAST:
                return _python_command("text" if letter == "c" else "", "", options)
            if letter in _WITH_VALUE:
                del words[: not word[number:]]
                break
    return _python_command("", "", options)


def _python_command(kind: Literal["module", "file", "text", ""], value: str, options: str) -> PythonCommand:
    return PythonCommand(kind, value, safe=not {*"IP"}.isdisjoint(options), environment={*"IE"}.isdisjoint(options))


def check_file(name: str, process: Process) -> str:
    """Why a file that an interpreter runs is missing in the image; empty if it is there.

    Raises StartError if the user cannot read it.
    """
    path = process.absolute(name)
    try:
        resolved, node = process.merged.reach(path, process.identity)
    except UnreachableError as error:
        if error.missing:
            return "" if process.in_volume(path) else f"{path} is not in the image"
        raise StartError(f"{path} cannot be run: {error}", file=error.denied) from None
    if resolved in process.merged.wheels or node.kind != "file" or process.identity.may(node, READ):
        return ""
    raise StartError(f"{described(resolved, node)} cannot be read by {process.user}", file=resolved)
