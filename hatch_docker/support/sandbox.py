"""The script that starts a program in namespaces of its own (namespaces(7)), run by this machine's Python.

With an archive of files, one more file, its path there, the variables of an environment and a command, whose program is
one of the files, that sees nothing but these files, on a read-only file system in memory, has no network and no
privileges, and cannot gain any.

With HIDE and a command of this machine, that sees no process but those that it starts, has the rights of the user who
starts it, and cannot gain others. What the system does not allow of this is left out.

The command ends when this process ends. The exit status is the command's, 128 + n after signal n, or FAILED if it
cannot be started. Builds wait for it, so the script imports little at first: neither signal nor functools.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import FileIO

FAILED = 125
HIDE = "--hide-processes"
_NOBODY = 65534
_SIGKILL = 9
# sched.h: CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NAMESPACES = 0x20000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000
# CLONE_NEWUSER: the memory and the environment of processes in other user namespaces cannot be read (ptrace(2)). With
# CLONE_NEWNS, NEWIPC and NEWPID, they are not there at all.
_USER = 0x10000000
_HIDING = (_USER | 0x20000 | 0x8000000 | 0x20000000, _USER)
# mount.h: MS_RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, REC, PRIVATE.
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _NO_PROGRAMS, _REMOUNT, _RECURSIVE, _PRIVATE = 1, 2, 4, 8, 32, 1 << 14, 1 << 18
# prctl.h: PR_SET_PDEATHSIG, SET_DUMPABLE, SET_NO_NEW_PRIVS.
_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38
# Bytes of the file system beyond twice the files.
_ROOM = 1 << 24
_LIMITS = {
    resource.RLIMIT_AS: 4 << 30,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_CPU: 3600,
    # Standard error is a file.
    resource.RLIMIT_FSIZE: 1 << 16,
    resource.RLIMIT_NOFILE: 64,
    resource.RLIMIT_STACK: 8 << 20,
}
_PROCESSES = 16
# Since then, processes are counted for each user namespace, not for the user.
_COUNTED_SINCE = (5, 14)

# The number of keyctl(2) by CPU, and KEYCTL_JOIN_SESSION_KEYRING.
_KEYCTL = {"x86_64": 250, "aarch64": 219, "i686": 288, "armv7l": 311, "ppc64le": 271, "s390x": 280, "riscv64": 219}
_JOIN_SESSION = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError with its name."""
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


def _control(option: int, value: int) -> None:
    _call("prctl", option, value, 0, 0, 0)


def _enter() -> None:
    """Enter new namespaces, as a user without privileges outside of them.

    That user may not be able to read this machine's Python: no module can be imported from here on.
    """
    if os.geteuid() == 0:
        # Some containers have no such user.
        try:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except OSError:
            pass
        # Else the files in /proc/self belong to root.
        _control(_DUMPABLE, 1)
    _leave_keyring()
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _NAMESPACES)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{_NOBODY} {user} 1"), ("gid_map", f"{_NOBODY} {group} 1")):
        _write(f"/proc/self/{name}", text.encode())
    # A change of the user resets it.
    _control(_DEATH_SIGNAL, _SIGKILL)


def _leave_keyring() -> None:
    """Join a new session keyring: child processes inherit the old one, and may read the keys in it (keyrings(7)).

    Where that is not allowed, as in containers, no keys can be read either.
    """
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        _libc.syscall(number, _JOIN_SESSION, None)


def _fill(archive: FileIO, path: str, content: bytes) -> None:
    """Write the archive's files and another one to a file system in memory, which becomes the root, read-only then."""
    _call("mount", b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
    options = _NO_SETUID | _NO_DEVICES
    # Any directory will do, and this one is there.
    size = 2 * os.fstat(archive.fileno()).st_size + _ROOM
    _call("mount", b"hatch-docker", b"/proc", b"tmpfs", options, f"mode=755,size={size}".encode())
    os.chroot("/proc")
    os.chdir("/")
    os.umask(0o022)
    made = {"", "/"}
    while length := archive.read(4):
        _copy(os.fsdecode(archive.read(int.from_bytes(length, "little"))), archive, made)
    with _opened(path, made) as file:
        file.write(content)
    _call("mount", b"hatch-docker", b"/", b"tmpfs", options | _REMOUNT | _READ_ONLY, None)


def _opened(path: str, made: set[str]) -> FileIO:
    """A new file; `made` are the directories that are there."""
    folder = os.path.dirname(path)
    if folder not in made:
        os.makedirs(folder, exist_ok=True)
        made.add(folder)
    return open(path, "wb", buffering=0, opener=_executable)


def _executable(path: str, flags: int) -> int:
    return os.open(path, flags, 0o755)


def _copy(path: str, archive: FileIO, made: set[str]) -> None:
    """Write a file of an archive, by the kernel alone."""
    left = int.from_bytes(archive.read(4), "little")
    with _opened(path, made) as file:
        while left:
            sent = os.sendfile(file.fileno(), archive.fileno(), None, left)
            if not sent:
                raise OSError(0, "its archive is not complete", path)
            left -= sent


def _write(path: str, content: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(content)


def _in_child(work: Callable[[], int]) -> int:
    """The exit status of `work` in a child process, which ends with this one."""
    alive, _held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(_held)
        os._exit(_reported(lambda: _bound(alive, work)))
    os.close(alive)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


def _bound(alive: int, work: Callable[[], int]) -> int:
    _control(_DEATH_SIGNAL, _SIGKILL)
    # The other end is closed if the parent ended before that.
    return FAILED if select.select([alive], [], [], 0)[0] else work()


def _reported(work: Callable[[], int]) -> int:
    """The result of `work`; an error is written to standard error, as `function: reason`."""
    try:
        return work()
    except OSError as error:
        os.write(2, f"{error.filename or 'it'}: {error.strerror}".encode())
        return FAILED


def _run(command: list[str], environ: dict[str, str]) -> int:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2] if part.isdecimal())
    processes = {resource.RLIMIT_NPROC: _PROCESSES} if release >= _COUNTED_SINCE else {}
    for kind, most in {**_LIMITS, **processes}.items():
        hard = resource.getrlimit(kind)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (value, value))
    _control(_NO_NEW_PRIVILEGES, 1)
    os.closerange(3, 1 << 10)
    os.execve(command[0], command, environ)  # noqa: S606


def main(archive: str, file: str, path: str, arguments: list[str]) -> int:
    """Run a command on the files of an archive, and a file at a path; return its exit status."""
    count = next(number for number, each in enumerate(arguments) if "=" not in each)
    environ = dict(each.split("=", 1) for each in arguments[:count])

    def start(files: FileIO, content: bytes) -> int:
        _fill(files, path, content)
        # The first process of a namespace ignores signals, such as that of a time limit: so it only waits.
        return _in_child(lambda: _run(arguments[count:], environ))

    def enter() -> int:
        # The user that this becomes may not be able to open them.
        with open(file, "rb", buffering=0) as opened:
            content = opened.read()
        with open(archive, "rb", buffering=0) as files:
            _enter()
            return _in_child(lambda: start(files, content))

    return _reported(enter)


def hide(command: list[str]) -> int:
    """Run a command of this machine where it does not see other processes; return its exit status."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    namespaces = next(filter(_are_allowed, _HIDING), 0)

    def enter() -> int:
        _leave_keyring()
        if not namespaces:
            _replace(command)
        _unshare(namespaces)
        # A change of the user resets it.
        _control(_DEATH_SIGNAL, _SIGKILL)
        return _in_child(start)

    def start() -> int:
        if namespaces != _USER:
            _show_own_processes()
        return _in_child(lambda: _replace(command))

    return _reported(enter)


def _are_allowed(namespaces: int) -> bool:
    def enter() -> int:
        try:
            _unshare(namespaces)
        except OSError:
            return FAILED
        return 0

    return _in_child(enter) == 0


def _unshare(namespaces: int) -> None:
    """Enter new namespaces with the same user and group, or for root with all users, whose files it may read."""
    mapped, entered = os.pipe()
    process, own = os.getpid(), {"uid_map": os.geteuid(), "gid_map": os.getegid()}
    maps = {name: f"{each} {each} 1" if os.geteuid() else _all_ids(name) for name, each in own.items()}
    # Only a process of the old namespace may map other users than its own.
    helper = os.fork()
    if helper == 0:
        os.close(entered)
        os._exit(_reported(lambda: _map(process, maps, mapped)))
    os.close(mapped)
    try:
        _call("unshare", namespaces)
        os.write(entered, b"1")
    finally:
        os.close(entered)
        status = os.waitpid(helper, 0)[1]
    if status:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), "uid_map")


def _all_ids(name: str) -> str:
    """A map of all users or groups that this namespace has, to themselves."""
    with open(f"/proc/self/{name}", encoding="ascii") as file:
        rows = [line.split() for line in file]
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in rows)


def _map(process: int, maps: Mapping[str, str], entered: int) -> int:
    """Write the maps of a process once it is in a new namespace."""
    if not os.read(entered, 1):
        return 0
    try:
        if os.geteuid():
            _write(f"/proc/{process}/setgroups", b"deny")
        for name, text in maps.items():
            _write(f"/proc/{process}/{name}", text.encode())
    except OSError:
        return FAILED
    return 0


def _show_own_processes() -> None:
    """Put a /proc of this namespace's processes in place of the old one, if the system allows it."""
    # Containers may not mount it. Then processes are listed there, but it cannot be read what they have.
    try:
        _call("mount", b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
        _call("mount", b"proc", b"/proc", b"proc", _NO_SETUID | _NO_DEVICES | _NO_PROGRAMS, None)
    except OSError:
        pass


def _replace(command: list[str]) -> int:
    _control(_NO_NEW_PRIVILEGES, 1)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(hide(given[1:]) if given[0] == HIDE else main(given[0], given[1], given[2], given[3:]))
