"""The keys of the image config (config.md): what a container runs, and as what."""

from __future__ import annotations

import re
import shlex

from hatch_docker.config.times import nanoseconds
from hatch_docker.config.values import expected, fail, integer, list_of, nearest, record, shown, text, word
from hatch_docker.oci.config import Healthcheck

MOST_ID = 2**32 - 2  # 2**32 - 1 is (uid_t) -1, which chown takes for "leave it"
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?")
# signal(7) on Linux: the image's signals, whatever the host has.
# fmt: off
_SIGNALS = (
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO",
    "SIGKILL", "SIGPIPE", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM",
    "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH",
    "SIGXCPU", "SIGXFSZ",
)
# fmt: on
_REAL_TIME = re.compile(r"SIGRTMIN(\+([1-9]|[12][0-9]|30))?|SIGRTMAX(-([1-9]|[12][0-9]|30))?")


def command(value: object, place: str) -> tuple[str, ...] | str:
    """A command as a list, or a script's name as a string."""
    if isinstance(value, list):
        found = list_of(text, unique=False)(value, place)
        if found and not found[0]:
            fail(f"{place}[0]", "a command starts with the program's name")
        return found
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
    """An environment variable's name that shells can use too."""
    found = text(value, place)
    if not _VARIABLE.fullmatch(found):
        fail(place, f"{shown(found)} is not a variable's name: letters, digits and '_', not starting with a digit")
    return found


def variable_value(value: object, place: str) -> str:
    """A string or an integer. True and false are written in too many ways to choose one."""
    if isinstance(value, bool):
        fail(place, 'expected a string, got a boolean: write what the program reads, like "1" or "true"')
    if isinstance(value, int):
        return str(integer(-(2**63), 2**63 - 1)(value, place))
    return text(value, place, what="a string or an integer")


def port(value: object, place: str) -> str:
    """A port, as `8080/tcp`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{integer(1, 65535)(value, place)}/tcp"
    found = text(value, place, what='a port like 8080 or "8080/udp"')
    parts = _PORT.fullmatch(found)
    if not parts or not 1 <= int(parts[1]) <= 65535:
        fail(place, f"{shown(found)} is not a port: write 1 to 65535, or with its protocol like '53/udp'")
    return f"{int(parts[1])}/{parts[2] or 'tcp'}"


def absolute(value: object, place: str) -> str:
    """An absolute path in the image, normalized."""
    found = word(value, place)
    if not found.startswith("/"):
        fail(place, f"{shown(found)} is not absolute: a path in the image starts with '/'")
    parts = [part for part in found.split("/") if part not in ("", ".")]
    if ".." in parts:
        fail(place, f"{shown(found)} has '..' in it: write the path itself")
    return "/" + "/".join(parts)


def volume(value: object, place: str) -> str:
    """A mount point."""
    found = absolute(value, place)
    if found == "/":
        fail(place, "the whole image cannot be a volume")
    return found


def user(value: object, place: str) -> str:
    """A user ID or name, with or without a group's, as in the image config."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(integer(0, MOST_ID)(value, place))
    found = text(value, place, what='a user like 1000, "1000:1000" or "www-data"')
    parts = found.split(":")
    if len(parts) > 2 or not all(_ACCOUNT.fullmatch(part) or identity(part) is not None for part in parts):
        fail(place, f"{shown(found)} is not a user: write 'uid', 'uid:gid' or a name that the base has")
    return found


def label(value: object, place: str) -> str:
    """The key of a label or annotation."""
    return word(value, place)


def stop_signal(value: object, place: str) -> str:
    """A signal's name or number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(integer(1, 64)(value, place))
    found = text(value, place, what='a signal like "SIGTERM" or 15').upper()
    if found.isdecimal() and found.isascii():
        return str(integer(1, 64)(int(found[:4]), place))
    name = found if found.startswith("SIG") else f"SIG{found}"
    if name not in _SIGNALS and not _REAL_TIME.fullmatch(name):
        fail(place, f"{shown(value)} is not a signal{nearest(name, _SIGNALS)}")
    return name


def duration(value: object, place: str) -> int:
    """A duration in nanoseconds, written as Docker and Go write it: `30s`, `1m30s`, `500ms`."""
    found = text(value, place, what='a duration like "30s" or "1m30s"')
    try:
        length = nanoseconds(found)
    except ValueError:
        fail(place, f"{shown(found)} is not a duration: write it like '30s', '1m30s' or '500ms'")
    if not 10**6 <= length < 2**63:
        fail(place, f"{shown(found)} is out of range: engines take 1ms and more")
    return length


def healthcheck(value: object, place: str) -> Healthcheck:
    """Docker's HEALTHCHECK: `cmd` as a list is executed, as a string it is given to the image's shell."""
    keys = {
        "cmd": _test,
        "interval": duration,
        "timeout": duration,
        "start-period": duration,
        "retries": integer(1, 10**6),
    }
    found = record(keys, required=("cmd",), what="a table like {cmd = […], interval = …}")(value, place)
    return Healthcheck(test=found.pop("cmd"), **{key.replace("-", "_"): each for key, each in found.items()})


def _test(value: object, place: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return ("CMD-SHELL", word(value, place))
    if not isinstance(value, list):
        expected("a list of strings or a string", value, place)
    return ("CMD", *list_of(text, empty=False, unique=False)(value, place))


def identity(found: str) -> int | None:
    """The number of a user or group; None for anything else."""
    if not re.fullmatch(r"[0-9]{1,10}", found) or int(found) > MOST_ID:
        return None
    return int(found)
