"""Which packages images out of Debian's archive are made of: what is asked for, of which the rest follows."""

from __future__ import annotations

import re

# The packages that are a Python of a suite.
PYTHON = re.compile(r"python(3\.\d+)-minimal")

# What other packages depend on and no image needs: to ask, and to type.
WITHOUT = ("debconf", "readline-common")
# Nor does a base, for what its own packages would do with them: to sign, and to set up.
_BASE_WITHOUT = (*WITHOUT, "awk", "mawk", "openssl")
# Terminals are what Python's own prompt, and curses, have to know.
_SYSTEM = (
    *("base-files", "ca-certificates", "libc-bin", "libgcc-s1", "libstdc++6"),
    *("ncurses-base", "netbase", "tzdata"),
)
_SHELL = ("bash", "coreutils", "dash", "findutils", "grep", "mawk", "sed")
_DEBUG = (*_SHELL, "hostname", "less", "procps")
# What `configure` scripts call, and what sdists unpack of their own.
_TOOLCHAIN = (
    *(*_SHELL, "diffutils", "gzip", "patch", "perl-base", "tar", "xz-utils"),
    *("g++", "gcc", "libc6-dev", "make", "pkgconf"),
)


def base_roots(python: str, *, debug: bool = False) -> tuple[str, ...]:
    """What is asked for so that `python`, as `3.13`, runs; `debug` adds a shell and the small tools."""
    return (*_SYSTEM, f"libpython{python}-stdlib", f"python{python}-minimal", *(_DEBUG if debug else ()))


def base_without(*, debug: bool = False) -> tuple[str, ...]:
    """What is left out of it."""
    # Nothing of an init system runs in an image, though procps brings what talks to one.
    return tuple(sorted({*_BASE_WITHOUT, "init-system-helpers"} - {"awk", "mawk"})) if debug else _BASE_WITHOUT


def toolchain(python: str) -> tuple[str, ...]:
    """What is put on such a base so that it can compile for it."""
    return (*_TOOLCHAIN, f"python{python}-dev")
