"""Layers of bytecode are begun when the layer of their wheels is there, and few at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from prepared_maker import TARGET

from hatch_docker.errors import BytecodeUnavailableError
from hatch_docker.image.bytecode.make import CodeMaker
from hatch_docker.image.bytecode.parts import CodeOptions, CodePart, library_code
from hatch_docker.image.layers import Part
from hatch_docker.oci.filesystem import KeptFiles

WHEELS = [Part(contents=(name,)) for name in "abc"]
CODE = [CodePart(contents=(f"bytecode of {name}",)) for name in "abc"]
PARTS: list[Part | CodePart] = [library_code(), *(part for pair in zip(WHEELS, CODE, strict=True) for part in pair)]


class Bench:
    """A maker whose layers are the names of parts, which are noted when they are made."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, make: Callable[[CodePart], object] = lambda _part: None
    ) -> None:
        self.noted: list[str] = []
        services: Any = SimpleNamespace(threads=1, kept=KeptFiles(), cache=SimpleNamespace(expect=lambda *_: None))
        options = CodeOptions(target=TARGET, optimization=0, compression="gzip", library="")
        nothing: Any = None

        def made(_maker: CodeMaker, part: CodePart) -> str:
            self.noted.append(part.contents[0])
            make(part)
            return part.contents[0]

        monkeypatch.setattr(CodeMaker, "_made_or_cached", made)
        self.opened = threading.Event()
        compiler: Any = self.opened.set
        self.maker = CodeMaker.of(nothing, options, compiler, services)

    def layers(self) -> list[object]:
        return [*self.maker.layers([part for part in PARTS if isinstance(part, CodePart)])]


def test_are_begun_after_those_of_their_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = threading.Event()
    bench = Bench(monkeypatch, lambda part: made.set() if part == CODE[1] else None)
    bench.maker.begin_library()
    then = bench.maker.following(PARTS)
    then(WHEELS[1])
    assert made.wait(9)
    assert not {"bytecode of a", "bytecode of c"} & set(bench.noted)
    # Whatever was begun, the order is that of the parts, and each is made once.
    assert bench.layers() == [each.contents[0] for each in PARTS if isinstance(each, CodePart)]
    assert sorted(bench.noted) == sorted({*bench.noted})


def test_are_not_begun_unless_that_of_the_standard_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    then = bench.maker.following(PARTS)
    for part in WHEELS:
        then(part)
    assert bench.maker.ahead == []
    assert bench.noted == []
    assert len(bench.layers()) == 4


def test_the_compiler_is_opened_ahead_after_the_library_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.maker.expect()
    assert not bench.opened.wait(0.05)
    bench.maker.begin_library()
    bench.maker.read.clear()
    waiting = threading.Thread(target=bench.maker.expect)
    waiting.start()
    assert not bench.opened.wait(0.05)
    bench.maker.read.set()
    assert bench.opened.wait(9)
    waiting.join()


def test_no_more_than_threads_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[CodePart] = []
    most: list[int] = []
    full, go_on = threading.Event(), threading.Event()

    def make(part: CodePart) -> None:
        running.append(part)
        most.append(len(running))
        full.set()
        assert go_on.wait(9)
        running.remove(part)

    bench = Bench(monkeypatch, make)
    bench.maker.begin_library()
    then = bench.maker.following(PARTS)
    for part in WHEELS:
        then(part)
    assert full.wait(9)
    go_on.set()
    bench.layers()
    assert max(most) == 1


def test_after_an_error_the_others_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(part: CodePart) -> None:
        if part in CODE:
            raise BytecodeUnavailableError("nothing compiles")

    bench = Bench(monkeypatch, fail)
    bench.maker.begin_library()
    then = bench.maker.following(PARTS)
    for part in WHEELS:
        then(part)
    with pytest.raises(BytecodeUnavailableError, match="nothing compiles"):
        bench.layers()
    for _, result in bench.maker.ahead[1:]:
        with pytest.raises(BytecodeUnavailableError):
            result()
    assert len([name for name in bench.noted if name != library_code().contents[0]]) == 1
