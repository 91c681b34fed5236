"""What a text of a wheel or an image uses: a module, a script, or a configuration. No I/O."""

from __future__ import annotations

import posixpath

from hatch_docker.support.dataclasses import replace
from hatch_docker.wheels.findings import NO_USES, Uses, test_directory
from hatch_docker.wheels.opened import opened_libraries
from hatch_docker.wheels.scan import packages_of, uses, uses_of_script, uses_of_text
from hatch_docker.wheels.sources import quoted

# Files that may name a module or a path, though they are no modules; larger ones are data, or compiled programs.
TEXTS = (".cfg", ".conf", ".ini", ".json", ".properties", ".pth", ".toml", ".txt", ".xml", ".yaml", ".yml")
_SHELL = (".bash", ".env", ".ksh", ".service", ".sh", ".zsh")
TEXT_BYTES = 1 << 20


def is_text(name: str) -> bool:
    """Whether a file of this name may name a module or a path, be it a module, a script, or a configuration."""
    suffix = posixpath.splitext(name)[1]
    return suffix in {"", ".py", *TEXTS, *_SHELL}


def uses_of_file(name: str, data: bytes) -> Uses:
    """What a file uses; nothing if it is no text."""
    if b"\0" in data:
        return NO_USES
    if name.endswith(".py"):
        return uses_of_module(data, name)
    if name.endswith(_SHELL) or data.startswith(b"#!"):
        return Uses.joined([uses_of_script(data), uses_of_module(data, name)])
    return uses_of_text(data)


def uses_of_module(source: bytes, path: str) -> Uses:
    """What the module at `path` uses."""
    return replace(uses(source, path), sources=quoted(source, packages_of))


def say_the_same(path: str, before: bytes, after: bytes) -> bool:
    """Whether two contents of the file at `path`, relative to site-packages, use the same.

    True only if nothing that `content.read_content` finds differs: not for tests, which it reads in another way.
    """
    if test_directory(path) or posixpath.basename(path) == "conftest.py":
        return False
    if path.endswith(".py"):
        return uses_of_module(before, path) == uses_of_module(after, path) and opened_libraries(
            before, path
        ) == opened_libraries(after, path)
    return not is_text(path) or uses_of_file(path, before) == uses_of_file(path, after)
