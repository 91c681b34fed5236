"""Parse the keys of the image config (config.md)."""

from __future__ import annotations

import re
import shlex

from hatch_docker.config.times import nanoseconds
from hatch_docker.config.values import expected, fail, integer, list_of, nearest, nonempty, record, shown, text
from hatch_docker.oci.config import Healthcheck
from hatch_docker.support.patterns import regex

MAX_ID = 2**32 - 2  # 2**32 - 1 is (uid_t) -1, with which chown changes nothing
_ACCOUNT = regex(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_VARIABLE = regex(r"[A-Za-z_][A-Za-z0-9_]*")
_PORT = regex(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?")
# The signals of Linux (signal(7)), which the host may not have.
# fmt: off
_SIGNALS = (
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO",
    "SIGKILL", "SIGPIPE", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM",
    "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH",
    "SIGXCPU", "SIGXFSZ",
)
# fmt: on
_REAL_TIME = regex(r"SIGRTMIN(\+([1-9]|[12][0-9]|30))?|SIGRTMAX(-([1-9]|[12][0-9]|30))?")


def command(value: object, place: str) -> tuple[str, ...] | str:
    """A command as a list, or the name of a script."""
    if isinstance(value, list):
        arguments = list_of(text, unique=False)(value, place)
        if arguments and not arguments[0]:
            fail(f"{place}[0]", "a command starts with the program's name")
        return arguments
    name = text(value, place, what="a list of strings or the name of a script")
    if not re.fullmatch(r"[\w.-]+", name):
        try:
            words = shlex.split(name) or [""]
        except ValueError:
            words = ["…"]
        advice = f", like {shown(words)}" if words != [""] else ""
        fail(place, f"{shown(name)} is not the name of a script; write a command as a list{advice}")
    return name


def variable_name(value: object, place: str) -> str:
    """The name of an environment variable, as POSIX shells accept it."""
    string = text(value, place)
    if not _VARIABLE.fullmatch(string):
        fail(place, f"{shown(string)} is not a variable name: write letters, digits and '_', not starting with a digit")
    return string


def variable_value(value: object, place: str) -> str:
    """A string or an integer. Booleans are refused, since programs spell them differently."""
    if isinstance(value, bool):
        fail(place, 'expected a string, got a boolean: write what the program reads, like "1" or "true"')
    if isinstance(value, int):
        return str(integer(-(2**63), 2**63 - 1)(value, place))
    return text(value, place, what="a string or an integer")


def port(value: object, place: str) -> str:
    """A port with its protocol: `8080/tcp`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{integer(1, 65535)(value, place)}/tcp"
    string = text(value, place, what='a port like 8080 or "8080/udp"')
    parts = _PORT.fullmatch(string)
    if not parts or not 1 <= int(parts[1]) <= 65535:
        fail(place, f"{shown(string)} is not a port: write 1 to 65535, or with its protocol like '53/udp'")
    return f"{int(parts[1])}/{parts[2] or 'tcp'}"


def absolute(value: object, place: str) -> str:
    """An absolute path in the image, normalized."""
    string = nonempty(value, place)
    if not string.startswith("/"):
        fail(place, f"{shown(string)} is not absolute: a path in the image starts with '/'")
    parts = [part for part in string.split("/") if part not in ("", ".")]
    if ".." in parts:
        fail(place, f"{shown(string)} contains '..': write the path without it")
    return "/" + "/".join(parts)


def volume(value: object, place: str) -> str:
    """The path of a volume."""
    path = absolute(value, place)
    if path == "/":
        fail(place, "the whole image cannot be a volume")
    return path


def user(value: object, place: str) -> str:
    """A user, with or without a group, by ID or name, as in the image config."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(integer(0, MAX_ID)(value, place))
    string = text(value, place, what='a user like 1000, "1000:1000" or "www-data"')
    parts = string.split(":")
    if len(parts) > 2 or not all(_ACCOUNT.fullmatch(part) or parse_id(part) is not None for part in parts):
        fail(place, f"{shown(string)} is not a user: write 'uid', 'uid:gid' or a name that the base has")
    return string


def label(value: object, place: str) -> str:
    """The key of a label or annotation."""
    return nonempty(value, place)


def stop_signal(value: object, place: str) -> str:
    """The name or number of a signal."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(integer(1, 64)(value, place))
    string = text(value, place, what='a signal like "SIGTERM" or 15').upper()
    if string.isdecimal() and string.isascii():
        return str(integer(1, 64)(int(string[:4]), place))
    name = string if string.startswith("SIG") else f"SIG{string}"
    if name not in _SIGNALS and not _REAL_TIME.fullmatch(name):
        fail(place, f"{shown(value)} is not a signal{nearest(name, _SIGNALS)}")
    return name


def duration(value: object, place: str) -> int:
    """A duration in nanoseconds, in the syntax of Docker and Go: `30s`, `1m30s`, `500ms`."""
    string = text(value, place, what='a duration like "30s" or "1m30s"')
    try:
        length = nanoseconds(string)
    except ValueError:
        fail(place, f"{shown(string)} is not a duration: write it like '30s', '1m30s' or '500ms'")
    if not 10**6 <= length < 2**63:
        fail(place, f"{shown(string)} is out of range: engines take 1ms and more")
    return length


def healthcheck(value: object, place: str) -> Healthcheck:
    """Docker's HEALTHCHECK: a `cmd` that is a list is executed, a string is run by the image's shell."""
    keys = {
        "cmd": _test,
        "interval": duration,
        "timeout": duration,
        "start-period": duration,
        "start-interval": duration,
        "retries": integer(1, 10**6),
    }
    values = record(keys, required=("cmd",), what="a table like {cmd = […], interval = …}")(value, place)
    return Healthcheck(test=values.pop("cmd"), **{key.replace("-", "_"): each for key, each in values.items()})


def _test(value: object, place: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return ("CMD-SHELL", nonempty(value, place))
    if not isinstance(value, list):
        expected("a list of strings or a string", value, place)
    return ("CMD", *list_of(text, empty=False, unique=False)(value, place))


def parse_id(string: str) -> int | None:
    """The ID of a user or group; None if `string` is not a valid one."""
    if not re.fullmatch(r"[0-9]{1,10}", string) or int(string) > MAX_ID:
        return None
    return int(string)
