"""The script that starts a base's interpreter in namespaces of its own (namespaces(7)), run by this machine's Python.

Arguments: an archive of files, the path of one more file, which is `main`, the variables of an environment, and a
command, whose program is one of the files. It sees nothing but these files, on a read-only file system in memory, has
no network and no privileges, and cannot gain any. It ends when this process ends. The exit status is the command's, 128
+ n after signal n, or FAILED if it cannot be started. Builds wait for it, so it imports little: no signal or functools.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

FAILED = 125
_NOBODY = 65534
_SIGKILL = 9
# sched.h: CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NAMESPACES = 0x20000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000
# mount.h: MS_RDONLY, NOSUID, NODEV, REMOUNT, REC, PRIVATE.
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT, _RECURSIVE, _PRIVATE = 1, 2, 4, 32, 1 << 14, 1 << 18
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


def _fill(archive: FileIO, path: str, script: bytes) -> None:
    """Write the archive's files and a script to a file system in memory, which becomes the root, read-only then."""
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
        file.write(script)
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


def main(archive: str, path: str, arguments: list[str]) -> int:
    """Run a command on the files of an archive and `main` at a path; return its exit status."""
    count = next(number for number, each in enumerate(arguments) if "=" not in each)
    environ = dict(each.split("=", 1) for each in arguments[:count])

    def start(files: FileIO, script: bytes) -> int:
        _fill(files, path, script)
        # The first process of a namespace ignores signals, such as that of a time limit: so it only waits.
        return _in_child(lambda: _run(arguments[count:], environ))

    def enter() -> int:
        # The user that this becomes may not be able to open them.
        with open(os.path.join(os.path.dirname(__file__), "main.py"), "rb", buffering=0) as file:
            script = file.read()
        with open(archive, "rb", buffering=0) as files:
            _enter()
            return _in_child(lambda: start(files, script))

    return _reported(enter)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
