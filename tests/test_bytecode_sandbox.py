"""The base's own interpreter in a sandbox: what it reaches, and what bases that are hostile cause."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from test_bytecode_ways import ARCHITECTURE, corpus, here, this_python

from hatch_docker.engine.probe import program
from hatch_docker.errors import BytecodeUnavailableError, HatchDockerError
from hatch_docker.image.bytecode import process
from hatch_docker.image.bytecode.chunks import Ended, compiler_of, identify
from hatch_docker.image.bytecode.frames import joined
from hatch_docker.image.bytecode.known import compiling_command, sandboxed
from hatch_docker.image.bytecode.process import talk
from hatch_docker.image.bytecode.unpacked import archive
from hatch_docker.oci import spec
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.spec import Descriptor, Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.elf import program_interpreter
from hatch_docker.support.streams import digest_of

REAL = os.path.realpath(sys.executable)
NAME = this_python().lib_name
PYTHON = f"/usr/local/bin/{NAME}"
LIB = f"usr/local/lib/{NAME}"
# Bytes are the content of a file, text is the target of a link, and a type of tar is a special file.
Files = Mapping[str, bytes | str]
FIFO = b"a FIFO"


def image_of(files: Files) -> Image:
    """An image with one layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for path, what in files.items():
            info = tarfile.TarInfo(path)
            info.mode = 0o4755
            if isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
            elif what is FIFO:
                info.type = tarfile.FIFOTYPE
            else:
                info.size = len(what)
            made.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    plain = buffer.getvalue()
    descriptor = Descriptor(media_type=spec.LAYER_TAR, digest=digest_of(plain), size=len(plain))
    layer = Layer(descriptor=descriptor, diff_id=descriptor.digest, open=lambda: io.BytesIO(plain))
    config = ImageConfig(platform=Platform(architecture=ARCHITECTURE))
    return Image(config=config, layers=(layer,), history=(History(created_by="x"),))


@functools.cache
def files_of_this_python() -> dict[str, bytes | str]:
    """The files of the Python that runs the tests, as those of an image."""
    lib = Path(sysconfig.get_path("stdlib"))
    paths = [*lib.glob("*.py"), *lib.glob("encodings/*.py"), *lib.glob("collections/*.py")]
    paths += [*lib.glob("lib-dynload/unicodedata*"), *lib.glob("lib-dynload/_multibyte*")]
    files: dict[str, bytes | str] = {f"{LIB}/{path.relative_to(lib)}": path.read_bytes() for path in paths}
    files[PYTHON[1:]] = Path(REAL).read_bytes()
    loader = program_interpreter(Path(REAL).read_bytes()[:4096])
    files[loader[1:]] = "/usr/lib/loader"
    files["usr/lib/loader"] = Path(loader).read_bytes()
    printed = subprocess.run(["ldd", REAL], capture_output=True, check=True, text=True).stdout
    for name, path in re.findall(r"^\s*([^/\s]+) => (/\S+)", printed, re.MULTILINE):
        files[f"usr/local/lib/{name}"] = f"real/{name}"
        files[f"usr/local/lib/real/{name}"] = Path(path).read_bytes()
    return files


@functools.cache
def packed() -> bytes:
    return archive_of(files_of_this_python())


def archive_of(files: Files) -> bytes:
    """The archive of an image's interpreter, where nothing is cached."""
    with tempfile.TemporaryDirectory() as folder:
        return archive(image_of(files), this_python(PYTHON), Cache(Path(folder)), threads=1)


@functools.cache
def refusal() -> str:
    """Why there is no sandbox on this machine; empty if there is one."""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return "it is not Linux with glibc"
    # What the kernel allows, asked without our code.
    asked = subprocess.run(["unshare", "-Urmpfn", "true"], capture_output=True, text=True, check=False)
    return asked.stderr


pytestmark = pytest.mark.skipif(bool(refusal()), reason=f"no namespaces here: {refusal()}")


class Box:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "files"

    def run(self, text: str, *, more: Mapping[str, bytes] = {}, patience: float = 20) -> Ended:
        """Run a script by the Python of the sandbox."""
        files = {**more, "usr/script.py": text.encode()}
        self.path.write_bytes(packed() + joined(part for path, data in files.items() for part in (path.encode(), data)))
        command = sandboxed(self.path, PYTHON, "-S", "-s", "-B", "/usr/script.py")
        return talk(b"", command=command, environ=os.environ, patience=patience)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


class TestSandbox:
    def test_the_bytes_are_those_of_the_same_python_outside(self, box: Box) -> None:
        box.path.write_bytes(packed())
        run = partial(talk, command=compiling_command(box.path, PYTHON), environ=os.environ)
        python = this_python(PYTHON)
        compiler = compiler_of("sandbox", run, identify(run, python), optimization=0, threads=2)
        sources = corpus(20)
        chunks = [sources[:9], sources[9:]]
        assert compiler.compile(chunks, checked=True) == here().compile(chunks, checked=True)

    def test_it_sees_only_its_files_and_environment(self, box: Box) -> None:
        ended = box.run("import posix; print(sorted(posix.listdir('/')), sorted(posix.environ), posix.getpid() < 9)")
        assert ended.status == 0, ended.messages
        loader = program_interpreter(Path(REAL).read_bytes()[:4096]).split("/")[1]
        expected = sorted({"hatch-docker", "usr", loader})
        assert ended.output.decode().strip() == f"{expected} [b'LD_LIBRARY_PATH', b'PYTHONHASHSEED'] True"

    def test_files_are_plain_and_cannot_change(self, box: Box) -> None:
        ended = box.run(
            "import posix, sys\n"
            f"for path in ({PYTHON!r}, '/new', '/usr/new'):\n"
            "    try:\n        posix.open(path, posix.O_WRONLY | posix.O_CREAT)\n"
            "    except OSError as error:\n        print(error.errno)\n"
            f"print(oct(posix.stat({PYTHON!r}).st_mode), posix.getuid(), posix.geteuid())\n"
        )
        assert ended.output.decode().split() == ["30", "30", "30", "0o100755", "65534", "65534"]

    def test_it_gains_no_privileges(self, box: Box) -> None:
        ended = box.run(
            "import posix\n"
            "for call in (lambda: posix.setuid(0), lambda: posix.chroot('/usr'), lambda: posix.nice(-5),\n"
            "             lambda: posix.mknod('/x', 0o20666, 0x103)):\n"
            "    try:\n        call()\n        print('done')\n"
            "    except OSError as error:\n        print('refused')\n"
        )
        assert ended.output.decode().split() == ["refused"] * 4

    def test_it_has_no_network(self, box: Box) -> None:
        import _socket

        more = {}
        if file := getattr(_socket, "__file__", ""):
            more[f"{LIB}/lib-dynload/{Path(file).name}"] = Path(file).read_bytes()
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            connect = f"import _socket; _socket.socket().connect(('127.0.0.1', {port})); print('connected')"
            outside = subprocess.run([sys.executable, "-c", connect], capture_output=True, check=False)
            assert outside.stdout == b"connected\n"
            ended = box.run(connect, more=more)
        assert b"connected" not in ended.output
        assert "unreachable" in ended.messages

    def test_it_starts_a_limited_number_of_processes(self, box: Box) -> None:
        if tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) < (5, 14):
            pytest.skip("this kernel counts processes for each user")
        ended = box.run(
            "import posix, time\ncount = 0\n"
            "try:\n    while posix.fork():\n        count += 1\n        assert count < 100\n"
            "    time.sleep(1)\n    posix._exit(0)\n"
            "except BlockingIOError:\n    print(count < 16)\n"
        )
        assert b"True" in ended.output

    def test_memory_is_limited(self, box: Box) -> None:
        assert "MemoryError" in box.run("b = bytearray(5 << 30)").messages

    @pytest.mark.parametrize(
        ("text", "status"),
        [("import posix; posix._exit(7)", 7), ("import posix; posix.abort()", 128 + signal.SIGABRT)],
    )
    def test_the_status_is_that_of_the_program(self, box: Box, text: str, status: int) -> None:
        assert box.run(text).status == status

    def test_a_time_limit_of_the_script_ends_it(self, box: Box) -> None:
        text = "import _signal\n_signal.setitimer(_signal.ITIMER_PROF, 0.1)\nwhile True: pass"
        assert box.run(text).status == 128 + signal.SIGPROF

    def test_it_ends_when_it_never_would(self, box: Box) -> None:
        with pytest.raises(BytecodeUnavailableError, match="does not end"):
            box.run("while True: pass", patience=0.5)
        _wait_until_gone(str(box.path))

    def test_it_ends_with_its_parent(self, box: Box) -> None:
        text = b"print('started', flush=True)\nwhile True: pass"
        box.path.write_bytes(packed() + joined([b"usr/script.py", text]))
        command = sandboxed(box.path, PYTHON, "-S", "/usr/script.py", str(box.path))
        with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
            assert started.stdout is not None
            assert started.stdout.readline() == b"started\n"
            assert len(_processes(str(box.path))) == 3
            started.kill()
            started.stdout.close()
        _wait_until_gone(str(box.path))

    def test_output_without_end(self, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process, "LARGEST_OUTPUT", 1 << 20)
        with pytest.raises(BytecodeUnavailableError, match="writes without end"):
            box.run("while True: print('x' * 99999)")

    def test_messages_without_end(self, box: Box) -> None:
        ended = box.run("import sys\nfor _ in range(200): sys.stderr.write('x' * 9999)")
        assert len(ended.messages) <= 1 << 16

    def test_a_missing_archive_is_named(self, tmp_path: Path) -> None:
        ended = talk(b"", command=sandboxed(tmp_path / "none", PYTHON), environ=os.environ)
        assert (ended.status, ended.messages) == (125, f"{tmp_path / 'none'}: No such file or directory")

    def test_a_path_in_the_archive_leads_nowhere_else(self, tmp_path: Path) -> None:
        target = tmp_path / "written"
        (tmp_path / "files").write_bytes(joined([f"../../../../..{target}".encode(), b"x"]))
        ended = talk(b"", command=sandboxed(tmp_path / "files", "/x"), environ=os.environ)
        assert ended.status == 125
        assert not target.exists()

    def test_a_program_of_another_cpu(self, tmp_path: Path) -> None:
        (tmp_path / "files").write_bytes(joined([b"bin/x", program("s390x")]))
        ended = talk(b"", command=sandboxed(tmp_path / "files", "/bin/x"), environ=os.environ)
        # Unless the kernel has an emulation for it.
        assert ended.status in (0, 125)


def _processes(word: str) -> list[int]:
    """The processes that have a word in their command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (folder / "cmdline").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def _wait_until_gone(word: str) -> None:
    deadline = time.monotonic() + 10
    while _processes(word):
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestHostileBases:
    def refused(self, **changed: bytes | str | None) -> str:
        """Why a base is refused that differs from a good one in these files."""
        files = {**files_of_this_python()}
        for path, what in changed.items():
            files.pop(path, None)
            if what is not None:
                files[path] = what
        with pytest.raises(HatchDockerError) as raised:
            archive_of(files)
        assert len(raised.value.message) < 300
        return raised.value.message

    @pytest.mark.parametrize(
        ("what", "reason"),
        [
            (b"#!/bin/sh\nexit\n", "is not an ELF file"),
            (b"\x7fELF" + b"\xff" * 5000, "is not an ELF file"),
            (program("amd64"), "is not an ELF file with dynamic linking"),
            (b"", "is not an ELF file"),
            ("../../../../../../../etc/passwd", "is not a file"),
            ("/proc/self/exe", "is not a file"),
            (PYTHON, "too many levels of symbolic links"),
            ("/usr", "is not a file"),
            (FIFO, "is not a file"),
            (None, "is not a file"),
        ],
    )
    def test_an_interpreter_that_is_none(self, what: bytes | str | None, reason: str) -> None:
        assert reason in self.refused(**{PYTHON[1:]: what})

    def test_a_loader_that_is_none(self) -> None:
        assert "is not a file" in self.refused(**{"usr/lib/loader": FIFO})

    def test_a_library_that_is_missing(self) -> None:
        assert re.search(r"has no libc\.so\.6", self.refused(**{"usr/local/lib/libc.so.6": None}))

    def test_a_library_for_another_machine(self) -> None:
        libc = bytearray(files_of_this_python()["usr/local/lib/real/libc.so.6"])  # type: ignore[arg-type]
        libc[18:20] = b"\xb7\x00"
        assert "is for aarch64" in self.refused(**{"usr/local/lib/real/libc.so.6": bytes(libc)})

    def test_no_standard_library(self) -> None:
        assert "no standard library" in self.refused(**{f"{LIB}/os.py": None})

    def test_a_path_that_is_too_long(self) -> None:
        assert "too long a path" in self.refused(**{"x" * 65_000: b""})

    @pytest.mark.parametrize("name", [b"../evil", b"/etc/x", b"..", b"a" * 7])
    def test_a_library_with_a_path(self, name: bytes) -> None:
        content = files_of_this_python()[PYTHON[1:]]
        assert isinstance(content, bytes)
        changed = content.replace(b"libc.so.6\0", name.ljust(9, b"\0")[:9] + b"\0")
        reason = self.refused(**{PYTHON[1:]: changed})
        assert "with a path" in reason or "the base image has no" in reason

    def test_a_loader_with_a_path_that_leads_out(self) -> None:
        content = files_of_this_python()[PYTHON[1:]]
        assert isinstance(content, bytes)
        loader = program_interpreter(content[:4096]).encode()
        changed = content.replace(loader, b"/../../x".ljust(len(loader), b"\0"), 1)
        assert "is not a file" in self.refused(**{PYTHON[1:]: changed, "x": None})
        assert "no path for a file" in self.refused(**{PYTHON[1:]: changed, "x": b"loader"})


# add_key(2) to a session keyring of this process's own, then keyctl(2) to search it: before and after.
_KEYS = """
import ctypes
from hatch_docker.support import sandbox
libc = ctypes.CDLL(None)
sandbox._leave_keyring()
assert libc.syscall(248, b"user", b"hatch-docker-test", b"secret", 6, -3) > 0
for change in (lambda: None, sandbox._leave_keyring):
    change()
    print(libc.syscall(250, 10, -3, b"user", b"hatch-docker-test", 0) > 0)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="has the numbers of x86-64's system calls")
def test_no_keys_are_inherited() -> None:
    done = subprocess.run([sys.executable, "-c", _KEYS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
