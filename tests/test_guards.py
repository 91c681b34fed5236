"""Imports that may fail."""

from __future__ import annotations

import time

import pytest

from hatch_docker.wheels.guards import guarded_imports


def guards(source: str, place: str = "a/b/c.py") -> list[tuple[str, bool]]:
    return list(guarded_imports(source.encode(), place, {"a.b.ext", "a.top"}))


@pytest.mark.parametrize(
    ("source", "place", "name"),
    [
        ("import a.b.ext", "x.py", "a.b.ext"),
        ("from a.b import ext as lib", "x.py", "a.b.ext"),
        ("from a.b.ext import *", "x.py", "a.b.ext"),
        ("from . import (\n    other,\n    ext,\n)", "a/b/c.py", "a.b.ext"),
        ("from .ext import x", "a/b/__init__.py", "a.b.ext"),
        ("from ..top import x", "a/b/c.py", "a.top"),
        ("    import os, a.top", "x.py", "a.top"),
    ],
)
def test_names(source: str, place: str, name: str) -> None:
    assert guards(source, place) == [(name, False)]


@pytest.mark.parametrize("source", ["import ext", "from . import top", "from .c.ext import x", "x = 'import a.top'"])
def test_others(source: str) -> None:
    assert guards(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import a.top\nexcept ImportError:\n    pass\n",
        "try:\n    import a.top\nexcept:\n    top = None\nimport os\n",
        "try :\n\timport a.top\nexcept Exception as error: top = None",
        "def f():\n  try:\n    if x:\n      import a.top\n\n  # y\n  except ImportError:\n    return\n  raise Error\n",
        "try:\n    import a.top\nexcept OSError:\n    raise\nexcept (ImportError, KeyError):\n    pass\n",
        "try:\n    try:\n        import a.top\n    finally:\n        x()\nexcept ImportError:\n    pass\n",
        "with contextlib.suppress(ImportError):\n    import a.top\n",
        "try:\n    x()\nexcept ImportError:\n    try:\n        import a.top\n    except ImportError:\n        pass\n",
    ],
)
def test_may_fail(source: str) -> None:
    assert guards(source) == [("a.top", True)]


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import a.top\nexcept ImportError as error:\n    raise RuntimeError from error\n",
        "try:\n    import a.top\nexcept ImportError: raise\n",
        # A module that exists, but cannot be loaded, is no ModuleNotFoundError.
        "try:\n    import a.top\nexcept ModuleNotFoundError:\n    pass\n",
        "try:\n    import a.top\nfinally:\n    pass\n",
        "try:\n    x()\nexcept ImportError:\n    import a.top\n",
        "try:\n    x()\nexcept ImportError:\n    pass\nelse:\n    import a.top\n",
        "try:\n    x()\nexcept ImportError:\n    pass\nimport a.top\n",
        "try:\n    import a.top",
        "if x:\n    import a.top\nelse:\n    pass\n",
    ],
)
def test_must_not_fail(source: str) -> None:
    assert guards(source) == [("a.top", False)]


def test_time_is_bounded() -> None:
    started = time.process_time()
    guards("try:\n" + "    import a.top\n" * 50_000)
    guards("from a import (\n" * 50_000)
    assert time.process_time() - started < 5
