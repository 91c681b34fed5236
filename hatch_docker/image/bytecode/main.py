"""The script that an interpreter compiles modules with: frames on its standard input, frames on its standard output.

Nothing but `compile` sees a text. The same text gives the same bytes in any process of the same Python: hash seed,
loaded modules, and what was compiled before leave no trace. Variables such as PYTHONNODEBUGRANGES would, so none of
Python's but PYTHONHASHSEED may be set. It imports only what every interpreter has loaded before it runs a script, so it
works with `-S` and next to no standard library. Python 3.10 and newer.
"""

# No future annotations, and no import of typing: modules would be loaded from files, with strings of theirs.

import _imp
import _io
import _signal  # type: ignore[import-not-found]
import _thread
import _warnings
import gc
import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, BinaryIO

# `types` is not loaded.
CODE = type((lambda: None).__code__)
# Seconds of CPU time for one module, bytes of its code, and bytes of stack: none depends on the machine's own limits.
SECONDS = 60
LARGEST = 64 << 20
STACK = 64 << 20
# Stands for the head of a frozenset, and occurs in no module.
MARK = b"\xf8\x9d\x0e\x86\x1c\xb3\x5fhatch-docker"


def strings_of(code: "CodeType") -> "tuple[list[str], bool]":
    """All strings in a code object, and whether it is to be compiled again, now that they are interned.

    `marshal` marks an object for later references if it has more than one owner. Strings are interned, so that other
    modules may be owners, too. While this list exists, each string has two owners in any process.

    Two equal frozensets are one object unless their strings were interned before. A constant that equals a name of
    another object, such as the qualified name of a class, is that name's object unless the name was interned before.
    The latter matters only beside a frozenset: without any, all modules are compiled once.
    """
    names: list[str] = []
    constants: list[str] = []
    sets: list[frozenset[Any]] = []
    waiting: list[object] = [code]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            constants.append(value)
        elif isinstance(value, CODE):
            names += [value.co_name, value.co_filename, getattr(value, "co_qualname", "")]
            for each in (value.co_names, value.co_varnames, value.co_cellvars, value.co_freevars):
                names += each
            waiting += value.co_consts
        elif isinstance(value, frozenset):
            sets.append(value)
            waiting += value
        elif isinstance(value, tuple):
            waiting += value
    again = len(set(sets)) < len(sets)
    if sets and not again:
        again = not set(names).isdisjoint([each for each in constants if not each.isidentifier()])
    return names + constants, again


def has_sets(code: "CodeType") -> bool:
    """Whether a code object has a frozenset anywhere among its constants."""
    return any(isinstance(each, frozenset) or (isinstance(each, CODE) and has_sets(each)) for each in code.co_consts)


def ordered(value: "Any") -> "Any":
    """Code with a tuple in place of each frozenset, in an order that depends on neither hashes nor addresses.

    Python 3.11 and newer order the members alike when they marshal a frozenset.
    """
    if isinstance(value, CODE):
        return value.replace(co_consts=tuple([ordered(each) for each in value.co_consts]))
    if isinstance(value, frozenset):
        # A copy of the mark, since a second owner of it would make `marshal` write references.
        return (bytes(bytearray(MARK)), *sorted(value, key=lambda each: marshal.dumps(each, 2)))
    return value


def with_sets(data: bytes) -> bytes:
    """Marshalled code of `ordered`, with its tuples turned into frozensets.

    A tuple's head is `)` and one byte of length, or `(` and four; a frozenset's is `>` and four. The highest bit of the
    first byte says that references to it may follow.
    """
    *parts, last = data.split(b"s" + len(MARK).to_bytes(4, "little") + MARK)
    joined: list[bytes] = []
    for part in parts:
        size = 1 if part[-2] & 0x7F == 0x29 else 4
        flag, length = part[-size - 1] & 0x80, int.from_bytes(part[-size:], "little") - 1
        joined += [part[: -size - 1], bytes([0x3E | flag]), length.to_bytes(4, "little")]
    return b"".join([*joined, last])


def compiled(path: str, text: bytes, optimize: int, magic: bytes) -> bytes:
    """The hash of a module's source, as importlib makes it, and its marshalled code."""
    code = compile(text, path, "exec", dont_inherit=True, optimize=optimize)
    strings, again = strings_of(code)
    if again:
        code = compile(text, path, "exec", dont_inherit=True, optimize=optimize)
        strings += strings_of(code)[0]
    by_hash = sys.version_info < (3, 11) and has_sets(code)
    data = marshal.dumps(ordered(code) if by_hash else code)
    del strings
    return _imp.source_hash(int.from_bytes(magic, "little"), text) + (with_sets(data) if by_hash else data)


def read(file: "BinaryIO") -> bytes:
    """The content of the next frame: four bytes of length precede it. Raises EOFError at the end."""
    head = file.read(4)
    if len(head) < 4:
        raise EOFError
    return file.read(int.from_bytes(head, "little"))


def write(file: "BinaryIO", content: bytes) -> None:
    """Write a frame, at once: what was not sent is lost if a module ends this process."""
    file.write(len(content).to_bytes(4, "little") + content)
    file.flush()


def limit(seconds: float) -> None:
    """End this process after so many seconds of CPU time; 0 is no limit."""
    if hasattr(_signal, "setitimer"):
        _signal.setitimer(_signal.ITIMER_PROF, seconds)


def answer(out: "BinaryIO", path: bytes, text: bytes, optimize: int, magic: bytes) -> None:
    """Answer with a frame, which is empty if the text does not compile, or its path is not UTF-8."""
    limit(SECONDS)
    try:
        data = compiled(path.decode(), text, optimize, magic)
    # SyntaxError, ValueError, MemoryError or RecursionError: each version of Python has its own limits.
    except Exception:
        data = b""
    limit(0)
    write(out, data if len(data) <= LARGEST else b"")


def apart(do: "Callable[[], None]") -> None:
    """Call a function in a process of its own, if the system can: a text that takes over Python reaches no other chunk.

    If that process fails, this one ends in the same way.
    """
    posix: Any = sys.modules.get("posix")
    if posix is None:
        do()
        return
    child = posix.fork()
    if child:
        status = posix.waitpid(child, 0)[1]
        if status:
            signal = status & 0x7F
            posix._exit(128 + signal if signal else status >> 8)
        return
    status = 1
    try:
        do()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        posix._exit(status)


def work(given: "BinaryIO", out: "BinaryIO", magic: bytes) -> None:
    """Answer each path and text of each chunk, which its number of texts precedes."""
    optimize = int(read(given))
    while True:
        try:
            chunk = [(read(given), read(given)) for _ in range(int(read(given)))]
        except EOFError:
            return

        def do(chunk: "list[tuple[bytes, bytes]]" = chunk) -> None:
            for path, text in chunk:
                answer(out, path, text, optimize, magic)

        if chunk:
            apart(do)


def main() -> None:
    """Say which Python this is, then compile in a thread, whose stack has the same size on every machine."""
    # No module is imported from the current directory.
    sys.path[:] = [each for each in sys.path if each]
    given: BinaryIO = _io.open(0, "rb", closefd=False)
    out: BinaryIO = _io.open(1, "wb", closefd=False)
    magic: bytes = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
    free_threaded = "t" in getattr(sys, "abiflags", "")
    about = (sys.version.split()[0], sys.implementation.name, str(free_threaded), magic.hex())
    write(out, "\n".join(about).encode())
    # Which object stands for a character depends on which was there first.
    characters = [sys.intern(chr(each)) for each in range(256)]
    _warnings.filters.insert(0, ("ignore", None, Warning, None, 0))
    # Compiling leaves no cycles, and looking for them takes a twentieth of the time.
    gc.disable()
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            work(given, out, magic)
        finally:
            done.release()

    _thread.stack_size(STACK)
    _thread.start_new_thread(run, ())
    done.acquire()
    del characters


if __name__ == "__main__":
    main()
