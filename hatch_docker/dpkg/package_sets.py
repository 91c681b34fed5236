"""Names of the Debian packages that bases and builders request; their dependencies follow."""

from __future__ import annotations

from hatch_docker.support.patterns import regex

# The packages with the interpreter of one Python version.
PYTHON = regex(r"python(3\.\d+)-minimal")

# Dependencies that no image needs: configuration dialogs and line editing.
ASSUME_INSTALLED = ("debconf", "readline-common")
# A base's packages depend on these only for maintainer scripts and signing.
_BASE_ASSUME_INSTALLED = (*ASSUME_INSTALLED, "awk", "mawk", "openssl")
# Python's REPL and curses need the terminal descriptions of ncurses-base.
_SYSTEM = (
    *("base-files", "ca-certificates", "libc-bin", "libgcc-s1", "libstdc++6"),
    *("ncurses-base", "netbase", "tzdata"),
)
_SHELL = ("bash", "coreutils", "dash", "findutils", "grep", "mawk", "sed")
_DEBUG = (*_SHELL, "hostname", "less", "procps")
# What `configure` scripts call and bundled archives need.
_TOOLCHAIN = (
    *(*_SHELL, "diffutils", "gzip", "patch", "perl-base", "tar", "xz-utils"),
    *("g++", "gcc", "libc6-dev", "make", "pkgconf"),
)


def base_packages(python: str, *, debug: bool = False) -> tuple[str, ...]:
    """What to request for a base with a Python version such as `3.13`; `debug` adds a shell and small tools."""
    return (*_SYSTEM, f"libpython{python}-stdlib", f"python{python}-minimal", *(_DEBUG if debug else ()))


def base_assume_installed(*, debug: bool = False) -> tuple[str, ...]:
    """Packages that a base leaves out although others depend on them."""
    # procps depends on init-system-helpers, but no init system runs in an image.
    omitted = {*_BASE_ASSUME_INSTALLED, "init-system-helpers"} - {"awk", "mawk"}
    return tuple(sorted(omitted)) if debug else _BASE_ASSUME_INSTALLED


def toolchain(python: str) -> tuple[str, ...]:
    """What to request on top of a base to compile for its Python."""
    return (*_TOOLCHAIN, f"python{python}-dev")
