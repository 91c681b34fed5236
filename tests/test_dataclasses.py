"""The package's `dataclasses` and the standard library's: the same behaviour."""

from __future__ import annotations

import copy
import dataclasses as standard
import inspect
import pickle
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.support import dataclasses as ours

BOTH = pytest.mark.parametrize("module", [standard, ours], ids=["standard", "ours"])


def made(module: Any) -> dict[str, Any]:
    """Data classes of every kind that the package has."""

    @module.dataclass(frozen=True, slots=True, kw_only=True)
    class Point:
        """A point."""

        x: int
        y: int = 2
        names: list[str] = module.field(default_factory=list, compare=False)
        secret: str = module.field(default="s", repr=False)

        def moved(self, x: int) -> Any:
            return module.replace(self, x=self.x + x)

    @module.dataclass(frozen=True, slots=True)
    class Pair:
        """Two values by position."""

        first: Any
        second: Any = None

    @module.dataclass(frozen=True, slots=True, kw_only=True)
    class Solid(Point):
        """A subclass with another field, and another default."""

        y: int = 3
        z: int = 4

    @module.dataclass(slots=True)
    class Counter:
        """An instance that changes."""

        count: int = 0
        seen: dict[str, int] = module.field(default_factory=dict)
        total: int = module.field(init=False)
        _hidden: set[str] = module.field(default_factory=set, init=False, repr=False)

        def __post_init__(self) -> None:
            self.total = self.count * 2

    @module.dataclass(kw_only=True)
    class Open:
        """Without slots."""

        size: int = 1
        rest: list[int] = module.field(default_factory=list)

    @module.dataclass(kw_only=True)
    class Opener(Open):
        """A subclass that calls a method of its base."""

        size: int = module.field(default=7)

        def __str__(self) -> str:
            return f"<{super().__str__()}>"

    @module.dataclass(frozen=True, slots=True)
    class Empty:
        """Without fields."""

    return {each.__name__: each for each in (Point, Pair, Solid, Counter, Open, Opener, Empty)}


@BOTH
def test_instances_have_the_values_that_were_given_and_defaults(module: Any) -> None:
    classes = made(module)
    solid = classes["Solid"](x=1, names=["a"])
    assert (solid.x, solid.y, solid.z, solid.names, solid.secret) == (1, 3, 4, ["a"], "s")
    assert classes["Point"](x=1).y == 2
    assert classes["Pair"](1).second is None
    counter = classes["Counter"](4)
    assert (counter.total, counter.seen, counter._hidden) == (8, {}, set())
    counter.count = 5
    assert (counter.count, classes["Counter"]().count) == (5, 0)
    assert classes["Counter"]().seen is not classes["Counter"]().seen
    opened = classes["Open"]()
    opened.other = 1
    assert (opened.size, opened.rest, opened.other) == (1, [], 1)
    assert str(classes["Opener"]()).endswith("Opener(size=7, rest=[])>")
    assert (classes["Opener"].size, hasattr(classes["Open"], "rest")) == (7, False)


@BOTH
def test_wrong_arguments_raise_type_error(module: Any) -> None:
    classes = made(module)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required keyword-only argument: 'x'"):
            classes["Point"]()
        with pytest.raises(TypeError, match="takes 1 positional argument but 2"):
            classes["Point"](1)
        with pytest.raises(TypeError, match="unexpected keyword argument 'w'"):
            classes["Point"](x=1, w=2)
        with pytest.raises(TypeError, match="unexpected keyword argument 'total'"):
            classes["Counter"](total=1)


@BOTH
def test_frozen_instances_do_not_change(module: Any) -> None:
    point = made(module)["Point"](x=1)
    with pytest.raises(module.FrozenInstanceError, match="cannot assign to field 'x'"):
        point.x = 2
    with pytest.raises(module.FrozenInstanceError, match="cannot delete field 'x'"):
        del point.x
    with pytest.raises((AttributeError, TypeError)):
        point.other = 1
    assert point.x == 1
    assert issubclass(module.FrozenInstanceError, AttributeError)


@BOTH
def test_slots_take_no_dictionary(module: Any) -> None:
    classes = made(module)
    assert not hasattr(classes["Solid"](x=1), "__dict__")
    assert hasattr(classes["Open"](), "__dict__")


@BOTH
def test_representations_leave_out_what_is_secret(module: Any) -> None:
    classes = made(module)
    assert repr(classes["Solid"](x=1)).endswith("Solid(x=1, y=3, names=[], z=4)")
    assert repr(classes["Counter"](1)).endswith("Counter(count=1, seen={}, total=2)")
    assert repr(classes["Empty"]()).endswith("<locals>.Empty()")


@BOTH
def test_copies_have_other_values(module: Any) -> None:
    classes = made(module)
    point = classes["Point"](x=1, names=["a"])
    assert point.moved(2) == classes["Point"](x=3, names=["b"])
    assert point.moved(2).names is point.names
    with pytest.raises(TypeError, match="unexpected keyword argument 'w'"):
        module.replace(point, w=1)
    with pytest.raises((TypeError, ValueError), match="init=False"):
        module.replace(classes["Counter"](1), total=1)
    assert module.replace(classes["Counter"](1), count=3).total == 6
    assert copy.copy(point) == copy.deepcopy(point) == point
    assert copy.deepcopy(point).names is not point.names


@BOTH
def test_dictionaries_hold_dictionaries(module: Any) -> None:
    classes = made(module)
    pair = classes["Pair"]([classes["Pair"](1, (2, "a"))], {"k": classes["Empty"]()})
    assert module.asdict(pair) == {"first": [{"first": 1, "second": (2, "a")}], "second": {"k": {}}}
    assert [each.name for each in module.fields(classes["Solid"])] == ["x", "y", "names", "secret", "z"]


@BOTH
def test_patterns_match_by_position(module: Any) -> None:
    classes = made(module)
    assert classes["Pair"].__match_args__ == ("first", "second")
    assert classes["Point"].__match_args__ == ()


@BOTH
def test_a_default_that_all_instances_would_share_is_refused(module: Any) -> None:
    with pytest.raises(ValueError, match="use default_factory"):

        @module.dataclass(frozen=True)
        class _Shared:
            items: list[str] = []  # noqa: RUF012


@BOTH
def test_methods_of_a_class_stay(module: Any) -> None:
    @module.dataclass(frozen=True, slots=True)
    class Named:
        name: str

        def __repr__(self) -> str:
            return f"<{self.name}>"

        @property
        def upper(self) -> str:
            return self.name.upper()

        @classmethod
        def of(cls, name: str) -> Any:
            make: Any = cls
            return make(name)

    assert repr(Named.of("a")) == "<a>"
    assert Named.of("a").upper == "A"
    assert (Named.__name__, Named.__qualname__.split(".")[-1], Named.__module__) == ("Named", "Named", __name__)


def test_what_a_class_says_of_itself_stays() -> None:
    cls = made(ours)["Point"]
    assert inspect.getdoc(cls) == "A point."
    cls(x=1)
    assert str(inspect.signature(cls)) == "(*, x, y=2, names=Ellipsis, secret='s')"


@ours.dataclass(frozen=True, slots=True)
class Kept:
    """A class that pickle finds."""

    value: int


def test_instances_are_pickled() -> None:
    assert pickle.loads(pickle.dumps(Kept(3))) == Kept(3)


@BOTH
@given(one=st.tuples(st.integers(0, 2), st.integers(0, 2)), other=st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_instances_compare_as_their_values(module: Any, one: tuple[int, int], other: tuple[int, int]) -> None:
    classes = made(module)
    a, b = classes["Pair"](*one), classes["Pair"](*other)
    assert (a == b) == (one == other)
    assert (a != b) == (one != other)
    assert hash(a) == hash(classes["Pair"](*one))
    assert a != one
    assert len({a, b}) == len({one, other})


@BOTH
def test_classes_differ_and_what_changes_has_no_hash(module: Any) -> None:
    classes = made(module)
    assert classes["Point"](x=1, y=3) != classes["Solid"](x=1)
    assert classes["Point"](x=1, names=["a"]) == classes["Point"](x=1)
    assert classes["Counter"](1) == classes["Counter"](1) != classes["Counter"](2)
    assert classes["Empty"]() == classes["Empty"]()
    assert hash(classes["Empty"]()) == hash(classes["Empty"]())
    with pytest.raises(TypeError, match="unhashable"):
        hash(classes["Counter"](1))
    with pytest.raises(TypeError, match="unhashable"):
        hash(classes["Pair"]([]))


def test_first_instances_in_many_threads() -> None:
    previous = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            cls = made(ours)["Solid"]
            found: list[Any] = []
            start = threading.Barrier(4)

            def run(cls: Any = cls, found: list[Any] = found, start: threading.Barrier = start) -> None:
                start.wait()
                found.append(cls(x=1))

            threads = [threading.Thread(target=run) for _ in range(4)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            assert found == [cls(x=1)] * 4
    finally:
        sys.setswitchinterval(previous)
