"""What the package uses of the standard library's `dataclasses`, with classes that are made sooner.

The standard library writes and compiles six methods for each of the 300 classes of this package, which takes a build
longer than Python takes to start (benchmarks/imports.py). Here, classes share what can be shared, and `__init__` is
compiled for the first instance. Type checkers see the standard library's, and tests hold both to the same behaviour.
"""

from __future__ import annotations

from operator import attrgetter

__all__ = ["FrozenInstanceError", "asdict", "dataclass", "field", "fields", "replace"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
    from typing import Any
else:

    class FrozenInstanceError(AttributeError):
        """A field of a frozen instance was set or deleted."""

    def dataclass(cls=None, /, *, frozen=False, slots=False, kw_only=False):
        """Make a data class of a class with annotations."""
        return _made(cls, frozen, slots, kw_only) if cls else lambda cls: _made(cls, frozen, slots, kw_only)

    def field(*, default=..., default_factory=..., init=True, repr=True, compare=True):  # noqa: A002
        """A field that is more than a type and a default value."""
        return _Field(default, default_factory, init, repr, compare)

    def fields(instance):
        """The fields of an instance or a class, in order."""
        return tuple(instance.__fields__.values())

    def replace(instance, /, **changes):
        """A copy with other values. Raises TypeError for an unknown field, and for one with `init=False`."""
        for name, each in instance.__fields__.items():
            if each.init:
                changes.setdefault(name, getattr(instance, name))
            elif name in changes:
                raise TypeError(f"field {name} is declared with init=False")
        return instance.__class__(**changes)

    def asdict(instance):
        """The fields as a dictionary, also of instances among the values, and in lists, tuples and dictionaries."""
        return {name: _plain(getattr(instance, name)) for name in instance.__fields__}


class _Field:
    """`default` and `default_factory` are `...` without one; `name` and `kw_only` are set when the class is made."""

    __slots__ = ("compare", "default", "default_factory", "init", "kw_only", "name", "repr")
    name: str
    kw_only: bool

    def __init__(self, default: Any, default_factory: Any, init: bool, repr: bool, compare: bool) -> None:  # noqa: A002
        if default.__class__.__hash__ is None:
            raise ValueError(f"all instances would share this default value: {default}; use default_factory")
        self.default, self.default_factory = default, default_factory
        self.init, self.repr, self.compare = init, repr, compare


def _made(cls: Any, frozen: bool, slots: bool, kw_only: bool) -> Any:
    own = _own_fields(cls, kw_only)
    found: dict[str, _Field] = {}
    for base in cls.__mro__[:0:-1]:
        found.update(base.__dict__.get("__fields__", ()))
    found.update(own)
    compared = [name for name, each in found.items() if each.compare]
    added = {
        "__fields__": found,
        "__compared__": staticmethod(attrgetter(*compared) if compared else type),
        "__match_args__": tuple(name for name, each in found.items() if each.init and not each.kw_only),
        "__repr__": _repr,
        "__eq__": _eq,
        **(_FROZEN if frozen else {"__hash__": None}),
    }
    added = {name: value for name, value in added.items() if name not in cls.__dict__}
    if slots:
        kept = {name: value for name, value in cls.__dict__.items() if name not in {"__dict__", "__weakref__", *own}}
        inherited = {name for base in cls.__mro__[1:] for name in base.__dict__.get("__slots__", ())}
        added["__slots__"] = tuple(name for name in own if name not in inherited)
        cls = type(cls)(cls.__name__, cls.__bases__, {**kept, **added, "__qualname__": cls.__qualname__})
    else:
        for name, value in {**added, **{name: each.default for name, each in own.items()}}.items():
            if value is not ...:
                setattr(cls, name, value)
            elif name in cls.__dict__:
                delattr(cls, name)
    if "__init__" not in cls.__dict__:
        _compile_later(cls)
    return cls


def _own_fields(cls: Any, kw_only: bool) -> dict[str, _Field]:
    found = {}
    for name in cls.__annotations__:
        value = cls.__dict__.get(name, ...)
        found[name] = each = value if isinstance(value, _Field) else field(default=value)
        each.name, each.kw_only = name, kw_only
    return found


def _compile_later(cls: Any) -> None:
    """Give a class an `__init__` that puts another in its place, and calls it."""

    def __init__(self: Any, /, *arguments: Any, **named: Any) -> None:  # noqa: N807
        cls.__init__ = made = _compiled(cls)
        made(self, *arguments, **named)

    cls.__init__ = __init__


def _compiled(cls: Any) -> Any:
    """The `__init__` of a class."""
    values: dict[str, Any] = {"set_field": object.__setattr__}
    positional, named, body = ["self"], ["*"], []
    for name, each in cls.__fields__.items():
        value, parameter = name, name
        if each.default is not ...:
            values[f"default_{name}"] = each.default
            parameter += f"=default_{name}"
        elif each.default_factory is not ...:
            values[f"make_{name}"] = each.default_factory
            parameter += "=..."
            value = f"make_{name}() if {name} is ... else {name}" if each.init else f"make_{name}()"
        if each.init:
            (named if each.kw_only else positional).append(parameter)
        if each.init or each.default_factory is not ...:
            body.append(f" set_field(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    parameters = ", ".join([*positional, *(named if len(named) > 1 else ())])
    exec("\n".join([f"def __init__({parameters}):", *body, " return"]), values)  # noqa: S102 (only names of fields)
    values["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
    return values["__init__"]


def _repr(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, each in self.__fields__.items() if each.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self.__compared__(self) == self.__compared__(other)


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


def _refuse_to_set(_self: Any, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> Sequence[Any]:
    return [getattr(self, name) for name in self.__fields__]


def _set_state(self: Any, state: Sequence[Any]) -> None:
    for name, value in zip(self.__fields__, state, strict=True):
        object.__setattr__(self, name, value)


# Of instances that do not change. The last two are for copies.
_FROZEN = {
    "__hash__": _hash,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__getstate__": _state,
    "__setstate__": _set_state,
}


def _plain(value: Any) -> Any:
    if hasattr(value, "__fields__"):
        return asdict(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(each) for each in value)
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    return value
