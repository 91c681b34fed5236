"""Compiling bytecode: the protocol, hostile sources, the same bytes in any order and process, and the sandbox."""

from __future__ import annotations

import functools
import importlib.util
import marshal
import os
import platform
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import pytest
from conftest import pythons
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.errors import BytecodeUnavailableError
from hatch_docker.image.bytecode import process, ways
from hatch_docker.image.bytecode.chunks import Ended, Talk, compiler_of, identify
from hatch_docker.image.bytecode.compiler import Code, Compiler, Source, optimization_of
from hatch_docker.image.bytecode.frames import LARGEST_SOURCE, Identity, answers, joined, request
from hatch_docker.image.bytecode.host import open_host
from hatch_docker.image.bytecode.process import Programs, script, talk
from hatch_docker.image.bytecode.stdlib import _has_bytecode, _is_importable
from hatch_docker.image.bytecode.ways import open_compiler
from hatch_docker.oci.filesystem import Node
from hatch_docker.oci.spec import Platform
from hatch_docker.support.progress import Progress

# Options of a Python that compile nothing differently.
OPTIONS = st.sampled_from((("-s",), ("-B",), ("-S", "-s", "-B", "-u")))
ARCHITECTURE = Platform.of("linux", platform.machine()).architecture
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
FOLDER = Path(ways.__file__).parent
# Two equal sets in different functions, sets of strings and None, one-character strings, and names used elsewhere: the
# bytes would depend on the order, the seed or the machine.
SETS = b"""
def f(x): return x in {"225", "226", "zebra_%d", None, 7, ...}
def g(x): return x in {"226", "zebra_%d", "225", None, 7, ...}
def h(x): return x in {"stdin", "posix"}, "\\xe9", {"lt;": "<", "eacute": "\\xe9"}, f.__name__, x.plock, b"\\xe9"
class A:
    def __init__(self): self.a, self.stdin, self.posix, self.zebra = 1, 2, 3, (None, (1.5, 1j, 10**40))
"""


def this_python(interpreter: str = sys.executable, version: str = platform.python_version()) -> TargetPython:
    return TargetPython(
        version=version,
        interpreter=interpreter,
        platform=Platform(architecture=ARCHITECTURE),
        libc=Libc(kind="glibc", version=(2, 28)),
        free_threaded=FREE_THREADED,
    )


def here(
    seed: str = "0",
    *arguments: str,
    optimization: int = 0,
    threads: int = 2,
    interpreter: str = sys.executable,
    version: str = platform.python_version(),
) -> Compiler:
    """A compiler by a Python of this machine, the one that runs the tests by default, with any hash seed."""
    command = (interpreter, *(arguments or ("-S", "-s", "-B")), "-c", script())
    run = partial(talk, command=command, environ={**os.environ, "PYTHONHASHSEED": seed})
    about = identify(run, this_python(interpreter, version))
    return compiler_of("here", run, about, optimization=optimization, threads=threads)


def sources_of(**texts: bytes) -> list[Source]:
    return [Source(f"/app/{name}.py", text) for name, text in texts.items()]


def corpus(most: int) -> list[Source]:
    """Modules of the standard library, and SETS."""
    folder = Path(sysconfig.get_path("stdlib"))
    paths = [*sorted(folder.glob("*.py"))[:most], folder / "html/entities.py", folder / "ftplib.py"]
    texts = [Source(f"/usr/lib/{path.name}", path.read_bytes()) for path in paths if path.is_file()]
    return [*texts, Source("/app/sets.py", SETS)]


@functools.cache
def version_of(interpreter: str) -> str:
    command = [interpreter, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


@functools.cache
def compiled_at_once(interpreter: str, version: str) -> list[bytes | None]:
    (codes,) = here(interpreter=interpreter, version=version).compile([corpus(25)], checked=False)
    # The modules are those of the Python that runs the tests: others may not know its syntax.
    assert len([code for code in codes if code]) > len(codes) / 2
    assert interpreter != sys.executable or None not in codes
    return codes


def compile_in_any_way(data: st.DataObject, interpreter: str, version: str) -> None:
    """Compile modules in another order, with another seed, in other chunks and processes; compare their bytecode."""
    sources, expected = corpus(25), compiled_at_once(interpreter, version)
    order = data.draw(st.permutations(range(len(sources))))[: data.draw(st.integers(1, len(sources)))]
    size, threads = data.draw(st.integers(1, 30)), data.draw(st.sampled_from((1, 3)))
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    seed = str(data.draw(st.integers(0, 2**32 - 1)))
    compiler = here(seed, *data.draw(OPTIONS), threads=threads, interpreter=interpreter, version=version)
    made = compiler.compile([[sources[number] for number in chunk] for chunk in chunks], checked=False)
    for chunk, codes in zip(chunks, made, strict=True):
        different = [
            sources[number].path for number, code in zip(chunk, codes, strict=True) if code != expected[number]
        ]
        assert not different


class TestOptimization:
    @pytest.mark.parametrize(
        ("text", "level"),
        [("", 0), ("0", 0), ("1", 1), ("2", 2), ("3", 3), ("x", 1), ("-1", 1), ("1x", 1), (" 2", 2), ("9" * 99, 1)],
    )
    def test_is_read_as_cpython_does(self, text: str, level: int) -> None:
        assert optimization_of({"PYTHONOPTIMIZE": text}) == level
        if len(text) < 50:
            command = [sys.executable, "-S", "-c", "import sys; print(sys.flags.optimize)"]
            environ = {**os.environ, "PYTHONOPTIMIZE": text}
            printed = subprocess.run(command, env=environ, capture_output=True, check=True).stdout
            assert int(printed) == level

    def test_is_none_without_the_variable(self) -> None:
        assert optimization_of({}) == 0


class TestCompiling:
    def test_files_are_those_that_python_imports(self, tmp_path: Path) -> None:
        text = b'"""Doc."""\n\nNAME = "caf\\xe9"\nassert NAME\n'
        for checked in (False, True):
            ((made,),) = here().compile([sources_of(a=text)], checked=checked)
            assert made is not None
            assert made[:4] == importlib.util.MAGIC_NUMBER
            assert int.from_bytes(made[4:8], "little") == (0b11 if checked else 0b01)
            assert made[8:16] == importlib.util.source_hash(text)
            code = marshal.loads(made[16:])
            assert isinstance(code, CodeType)
            assert code.co_filename == "/app/a.py"
            (tmp_path / "a.pyc").write_bytes(made)
            command = [sys.executable, "-c", "import a; print(ascii(a.NAME), a.__doc__)"]
            printed = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True)
            assert printed.stdout == "'caf\\xe9' Doc.\n"

    @pytest.mark.parametrize(("level", "names"), [(0, ["doc", "assert"]), (1, ["doc"]), (2, []), (3, [])])
    def test_optimization(self, level: int, names: list[str]) -> None:
        text = b'"""the doc"""\nassert x, "the assert"\n'
        ((made,),) = here(optimization=level).compile([sources_of(a=text)], checked=False)
        assert made is not None
        assert [name for name in ("doc", "assert") if f"the {name}".encode() in made] == names

    def test_sources_that_do_not_compile_stay_sources(self) -> None:
        bad = sources_of(
            syntax=b"def",
            null=b"a = 1\0",
            cookie=b"# coding: nonsense\n",
            other=b"# coding: ascii\n'\xe9'\n",
            latin=b"'\xe9'\n",
            rot=b"# coding: rot13\n",
            deep=b"(" * 90_000 + b")" * 90_000,
            unary=b"-" * 90_000 + b"1",
            calls=b"f" + b"()" * 200_000,
            lists=b"[" * 199 + b"]" * 199,
            large=b"#" * (LARGEST_SOURCE + 1),
        )
        good = sources_of(a=SETS, b=b"import os\n", c=b"# coding: latin-1\nx = '\xe9 \\N{BULLET}'\n")
        ((alone,),) = here().compile([good[:1]], checked=False)
        mixed = [good[0], *bad, *good[1:]]
        (made,) = here().compile([mixed], checked=False)
        assert made[0] == alone
        assert None not in made[-2:]
        answered = {source.path: code for source, code in zip(mixed, made, strict=True)}
        for name in ("syntax", "null", "cookie", "other", "latin", "rot", "deep", "unary", "large"):
            assert answered[f"/app/{name}.py"] is None, name
        (again,) = here("5").compile([mixed[::-1]], checked=False)
        assert again[::-1] == made

    def test_a_name_that_is_not_utf_8_stays_a_source(self) -> None:
        sources = [Source("/app/a.py", b"1"), Source("/app/caf\udce9.py", b"2"), Source("/app/b.py", b"3")]
        ((first, second, third),) = here().compile([sources], checked=True)
        assert second is None
        assert first is not None
        assert third is not None

    @settings(max_examples=many(8))
    @given(data=st.data())
    def test_any_order_seed_and_process_gives_the_same_bytes(self, data: st.DataObject) -> None:
        compile_in_any_way(data, sys.executable, platform.python_version())

    @pytest.mark.pythons
    @settings(max_examples=many(4))
    @given(data=st.data())
    @pytest.mark.parametrize("number", range(5))
    def test_with_every_python(self, number: int, data: st.DataObject) -> None:
        interpreter = (pythons() * 5)[number]
        compile_in_any_way(data, interpreter, version_of(interpreter))

    def test_nothing_of_the_project_is_imported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("linecache", "unicodedata", "sitecustomize", "marshal"):
            (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        monkeypatch.chdir(tmp_path)
        ((made,),) = here().compile([sources_of(a=b"'\\N{BULLET}'\nimport linecache\n1 is 1\n")], checked=False)
        assert made is not None
        assert not (tmp_path / "ran").exists()


def fake(*ended: Ended) -> tuple[Talk, list[list[str]]]:
    """A process that ends in these ways, one after another, and the names of the sources that it was given."""
    waiting, given = [*ended], []

    def run(text: bytes) -> Ended:
        given.append([bytes(each).decode() for each in answers(text)[2::2]])
        return waiting.pop(0)

    return run, given


HELLO = f"{platform.python_version()}\ncpython\n{FREE_THREADED}\na70d0d0a".encode()
CODE = b"12345678\xe3code"


def output(*frames: bytes) -> bytes:
    return joined([HELLO, *frames])


class TestProcesses:
    def compile(self, *ended: Ended) -> tuple[list[bytes | None], list[list[str]]]:
        run, given = fake(Ended(output(CODE), 0), *ended)
        compiler = compiler_of("fake", run, identify(run, this_python()), optimization=0, threads=1)
        (codes,) = compiler.compile([sources_of(a=b"1", b=b"2", c=b"3")], checked=False)
        return codes, given[1:]

    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, getattr(signal, "SIGPROF", signal.SIGABRT)])
    def test_a_module_that_ends_the_interpreter_stays_a_source(self, number: int) -> None:
        codes, given = self.compile(Ended(output(CODE), 128 + number), Ended(output(CODE), 0))
        assert [code is None for code in codes] == [False, True, False]
        assert given == [["/app/a.py", "/app/b.py", "/app/c.py"], ["/app/c.py"]]

    @pytest.mark.parametrize(
        ("ended", "reason"),
        [
            (Ended(output(CODE), 137), "signal 9"),
            (Ended(output(CODE), 0), "status 0"),
            (Ended(output(CODE, b""), 1, "no memory\n"), "no memory"),
            (Ended(output(CODE, CODE, b"junk"), 0), "not as Python would"),
            (Ended(output(CODE, CODE, CODE, CODE), 0), "differently"),
            (Ended(joined([HELLO.replace(b"a7", b"a8"), CODE, CODE, CODE]), 0), "differently"),
            (Ended(output(CODE, CODE, CODE)[:-1], 0), "status 0"),
            (Ended(b"", 0), "status 0"),
            (Ended(b"\xff" * 100, 0), "status 0"),
        ],
    )
    def test_an_interpreter_that_fails(self, ended: Ended, reason: str) -> None:
        with pytest.raises(BytecodeUnavailableError, match=reason):
            self.compile(ended)

    @pytest.mark.parametrize(
        ("first", "reason"),
        [
            (HELLO.replace(platform.python_version().encode(), b"3.13.99"), "it is cpython 3.13.99"),
            (HELLO.replace(b"cpython", b"pypy"), "it is pypy"),
            (
                HELLO.replace(b"False", b"True") if not FREE_THREADED else HELLO.replace(b"True", b"False"),
                "it is cpython",
            ),
            (HELLO.replace(b"0d0a", b"0000"), "not as Python would"),
            (b"hello", "not as Python would"),
            (b"\xff\n\n\n", "not as Python would"),
        ],
    )
    def test_another_python(self, first: bytes, reason: str) -> None:
        run, _ = fake(Ended(joined([first, CODE]), 0))
        with pytest.raises(BytecodeUnavailableError, match=reason):
            identify(run, this_python())

    def test_messages_of_a_program_are_quoted(self) -> None:
        run, _ = fake(Ended(b"", 1, "\x1b[2J" + "x" * 9999 + "\x07\n"))
        with pytest.raises(BytecodeUnavailableError) as raised:
            identify(run, this_python())
        assert "\x1b" not in str(raised.value)
        assert len(str(raised.value)) < 500

    def test_a_program_that_never_ends(self) -> None:
        command = (sys.executable, "-c", "import time; time.sleep(100)")
        with pytest.raises(BytecodeUnavailableError, match="does not end"):
            talk(b"", command=command, environ=os.environ, patience=0.2)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_program_ends_with_those_that_it_started(self, tmp_path: Path) -> None:
        late = tmp_path / "late"
        text = f"import os, pathlib, time; os.fork() or (time.sleep(3), pathlib.Path({str(late)!r}).touch()); os.wait()"
        with pytest.raises(BytecodeUnavailableError, match="does not end"):
            talk(b"", command=(sys.executable, "-S", "-c", text), environ=os.environ, patience=0.1)
        assert not late.exists()

    def test_a_program_that_writes_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process, "LARGEST_OUTPUT", 1 << 20)
        command = (sys.executable, "-c", "import sys\nwhile True: sys.stdout.write('x' * 65536)")
        with pytest.raises(BytecodeUnavailableError, match="writes without end"):
            talk(b"", command=command, environ=os.environ)

    def test_a_program_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BytecodeUnavailableError, match="does not start"):
            talk(b"", command=(str(tmp_path / "none"),), environ={})

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer of CPU time")
    def test_a_module_has_limited_time(self) -> None:
        # The body of `finally` is compiled twice.
        nested = "".join("  " * n + "try: pass\n" + "  " * n + "finally:\n" for n in range(18)) + "  " * 18 + "pass\n"
        slow = nested.replace("pass\n", "x\n", 1).encode() * 40
        command = (sys.executable, "-S", "-s", "-B", "-c", script().replace("SECONDS = 60", "SECONDS = 0.2"))
        run = partial(talk, command=command, environ={**os.environ, "PYTHONHASHSEED": "0"})
        compiler = compiler_of("x", run, identify(run, this_python()), optimization=0, threads=1)
        ((first, second, third),) = compiler.compile([sources_of(a=b"1", b=slow, c=b"2")], checked=False)
        assert second is None
        assert first is not None
        assert third is not None


class Started:
    """Programs that note their process IDs before they run a script."""

    def __init__(self, folder: Path, text: str = "", most: int = 1) -> None:
        self.path = folder / "pids"
        note = f"import os; open({str(self.path)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        command = (sys.executable, "-S", "-s", "-B", "-c", note + (text or script()))
        self.programs = Programs(command, {**os.environ, "PYTHONHASHSEED": "0"}, most)

    @property
    def pids(self) -> list[int]:
        return [int(each) for each in self.path.read_text().split()]


# Says hello, and what is `said` for each source.
_PARROT = """
import sys
def read():
    return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "little"))
def write(data):
    sys.stdout.buffer.write(len(data).to_bytes(4, "little") + data)
    sys.stdout.buffer.flush()
read(), write(b"hello")
while left := int(read() or 0):
    for _ in range(left):
        read(), read(), {said}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process for each chunk")
class TestChunks:
    def test_each_has_a_process_of_its_own(self) -> None:
        # The answer to a text that does not compile is the number of the process.
        text = script().replace(
            'data = b""\n    limit(0)', "data = str(sys.modules['posix'].getpid()).encode()\n    limit(0)"
        )
        command = (sys.executable, "-S", "-s", "-B", "-c", text)
        chunks = [request(sources_of(a=b"def", b=b"def"), 0), request(sources_of(a=b"def"), 0)[5:]]
        ended = talk(b"".join(chunks), command=command, environ=os.environ)
        _, first, second, third = map(bytes, answers(ended.output))
        assert first == second != third


class TestPrograms:
    def test_one_goes_on_with_the_next_chunk(self, tmp_path: Path) -> None:
        started, chunks = Started(tmp_path), [corpus(3), sources_of(a=b"def"), corpus(1), []]
        run = started.programs.talk
        compiler = compiler_of("x", run, identify(run, this_python()), optimization=0, threads=3)
        assert compiler.compile(chunks, checked=False) == here().compile(chunks, checked=False)
        assert len(started.pids) == 1

    def test_at_most_so_many_are_started(self, tmp_path: Path) -> None:
        started = Started(tmp_path, most=2)
        compiler = compiler_of("x", started.programs.talk, here_identity(), optimization=0, threads=5)
        compiler.compile([corpus(2)] * 6, checked=False)
        assert len(started.pids) <= 2

    def test_one_starts_before_it_is_asked_and_others_when_it_is_busy(self, tmp_path: Path) -> None:
        started = Started(tmp_path, most=3)
        while not started.path.exists() or not started.pids:
            time.sleep(0.01)
        for _ in range(3):
            started.programs.talk(request(sources_of(a=b"1"), 0))
        assert len(started.pids) == 1

    def test_one_that_does_not_start_is_an_error_of_the_question(self, tmp_path: Path) -> None:
        programs = Programs([str(tmp_path / "none")], {}, 2)
        for _ in range(2):
            with pytest.raises(BytecodeUnavailableError, match="it does not start"):
                programs.talk(request(sources_of(a=b"1"), 0))

    def test_another_level_of_optimization_has_another_one(self, tmp_path: Path) -> None:
        started, sources = Started(tmp_path), sources_of(a=b"assert x, 'the assert'\n")
        outputs = [started.programs.talk(request(sources, level)).output for level in (0, 1, 1, 0)]
        assert [b"the assert" in each for each in outputs] == [True, False, False, True]
        assert outputs[0] == outputs[3]
        assert len(started.pids) == 3

    def test_one_that_ended_is_replaced(self, tmp_path: Path) -> None:
        started = Started(tmp_path, _PARROT.format(said="write(b'1'), os._exit(7)"))
        sources = sources_of(a=b"1", b=b"2")
        for _ in range(2):
            ended = started.programs.talk(request(sources, 0))
            assert (ended.status, [bytes(each) for each in answers(ended.output)]) == (7, [b"hello", b"1"])
        assert len(started.pids) == 2

    def test_one_that_answers_too_much_is_refused(self, tmp_path: Path) -> None:
        # The frame `1`, and some bytes in the same write.
        text = _PARROT.format(said="sys.stdout.buffer.write(bytes([1, 0, 0, 0, 49, 50, 51])), sys.stdout.flush()")
        started = Started(tmp_path, text)
        with pytest.raises(BytecodeUnavailableError, match="answers more than"):
            started.programs.talk(request(sources_of(a=b"1"), 0), patience=9)

    def test_one_that_is_silent_is_ended(self, tmp_path: Path) -> None:
        started = Started(tmp_path, "import time; time.sleep(100)")
        with pytest.raises(BytecodeUnavailableError, match="does not end"):
            started.programs.talk(request([], 0), patience=0.1)
        _wait_for_end(started.pids)

    def test_they_end_when_nothing_needs_them(self, tmp_path: Path) -> None:
        started = Started(tmp_path, most=2)
        started.programs.talk(request(sources_of(a=b"1"), 0))
        del started.programs
        _wait_for_end(started.pids)


def here_identity() -> Identity:
    return identify(partial(talk, command=(sys.executable, "-c", script()), environ=os.environ), this_python())


def _wait_for_end(pids: Sequence[int]) -> None:
    deadline = time.monotonic() + 10
    for pid in pids:
        while _is_there(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Warnings(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


class TestSeveralWays:
    """Each compiler answers with its own name."""

    def open(
        self, monkeypatch: pytest.MonkeyPatch, failing: Collection[str] = (), magic: bytes = b"\xa7\r\r\n"
    ) -> tuple[Compiler, list[str]]:
        """A compiler of three ways, of which some fail once they are open, and its warnings."""

        def way(name: str) -> Compiler:
            def run(chunks: Sequence[Sequence[Source]]) -> list[list[Code | None]]:
                if name in failing:
                    raise BytecodeUnavailableError("it ended by signal 9")
                return [[Code(b"12345678", name.encode()) for _ in chunk] for chunk in chunks]

            return Compiler(way=name, magic=magic if name == "two" else b"\xa7\r\r\n", optimization=0, run=run)

        monkeypatch.setattr(ways, "WAYS", {name: lambda _, name=name: way(name) for name in ("one", "two", "three")})
        progress = Warnings()
        base: Any = SimpleNamespace(name="a base", facts=SimpleNamespace(python=this_python()))
        services: Any = SimpleNamespace(progress=progress)
        request: Any = None
        return open_compiler(base, request, services, optimization=0), progress.texts

    def compile(self, compiler: Compiler) -> bytes | None:
        ((code,),) = compiler.compile([sources_of(a=b"1")], checked=False)
        return code

    def test_the_next_one_goes_on_when_one_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compiler, warned = self.open(monkeypatch, ["one", "two"])
        for _ in range(2):
            assert (self.compile(compiler) or b"")[16:] == b"three"
        assert warned == [
            "one: it ended by signal 9; modules are compiled by two instead",
            "two: it ended by signal 9; modules are compiled by three instead",
        ]

    def test_is_left_out_if_its_bytecode_has_another_format(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compiler, _ = self.open(monkeypatch, ["one"], magic=b"\xa8\r\r\n")
        assert (self.compile(compiler) or b"")[16:] == b"three"

    def test_all_reasons_are_named_when_all_fail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compiler, _ = self.open(monkeypatch, ["one", "two", "three"])
        for _ in range(2):
            with pytest.raises(BytecodeUnavailableError) as raised:
                self.compile(compiler)
            lines = [f"  {name}: it ended by signal 9" for name in ("one", "two", "three")]
            assert raised.value.message.splitlines()[1:] == lines


class TestThisMachine:
    def test_a_python_on_the_path(self) -> None:
        environ = {**os.environ, "PATH": str(Path(sys.executable).parent)}
        compiler = open_host(this_python(), environ, script(), optimization=0, threads=1)
        sources = corpus(3)
        assert compiler.compile([sources], checked=False) == here().compile([sources], checked=False)

    def test_none_of_that_version(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # uv would find the Python that runs this test.
        monkeypatch.setattr("hatch_docker.image.bytecode.host.find_uv", lambda _environ: "")
        program = tmp_path / f"python{this_python().minor}"
        program.write_text("#!/bin/sh\necho it does not work >&2\nexit 3\n")
        program.chmod(0o755)
        with pytest.raises(BytecodeUnavailableError, match=r"neither PATH nor uv.*status 3: it does not work"):
            open_host(this_python(), {"PATH": str(tmp_path)}, script(), optimization=0, threads=1)


class TestStandardLibrary:
    @pytest.mark.parametrize(
        ("path", "importable"),
        [
            ("os.py", True),
            ("json/tool.py", True),
            ("config-3.13-x86_64-linux-gnu/python-config.py", False),
            ("_sysconfigdata__linux_x86_64-linux-gnu.py", True),
            ("__phello__/spam.py", True),
            ("x.pyc", False),
            ("__pycache__/os.cpython-313.pyc", False),
        ],
    )
    def test_modules_that_can_be_imported(self, path: str, importable: bool) -> None:
        assert _is_importable(path) is importable

    @pytest.mark.parametrize(
        ("head", "valid"),
        [
            ((0, 1000, 3), True),
            ((0, 1000, 4), False),
            ((0, 1001, 3), False),
            ((1, 0, 0), True),
            ((3, 0, 0), True),
        ],
    )
    def test_bytecode_that_the_base_has(self, head: Sequence[int], valid: bool) -> None:
        data = b"\xf3\x0d\r\n" + b"".join(each.to_bytes(4, "little") for each in head) + b"code"
        nodes = {"lib/__pycache__/os.cpython-313.pyc": Node(kind="file", data=data)}
        source = Node(kind="file", data=b"abc", mtime=1000)
        assert _has_bytecode(nodes, "lib/os.py", source, ".cpython-313.pyc") is valid
        assert not _has_bytecode(nodes, "lib/os.py", source, ".cpython-313.opt-1.pyc")
