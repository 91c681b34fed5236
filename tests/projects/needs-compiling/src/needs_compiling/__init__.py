"""Makes each package do what its extension module is for, and says in JSON what came of it."""

from __future__ import annotations

import json
import os

import _cffi_backend
import cffi
import markupsafe._speedups
import psutil
import yaml


def main() -> None:
    """The script."""
    found = {
        "cffi": [length_of("four"), _cffi_backend.__file__],
        "markupsafe": [str(markupsafe.escape("<b>")), markupsafe._speedups.__file__],
        "psutil": [
            psutil.Process().pid == os.getpid() and psutil.virtual_memory().total > 0,
            psutil._psplatform.cext.__file__,
        ],
        "pyyaml": [yaml.safe_load("{a: [1, 2]}"), yaml.__file__],
        "uid": os.getuid(),
    }
    print(json.dumps(found))


def length_of(text: str) -> int:
    """The length of a text, as C counts it, called both ways through libffi."""
    ffi = cffi.FFI()
    ffi.cdef("size_t strlen(const char *); typedef size_t (*counter)(const char *);")
    library = ffi.dlopen(None)
    # A function of Python's that C could call: memory that can be run, which libffi makes.
    counter = ffi.callback("size_t(const char *)", library.strlen)
    return int(ffi.cast("counter", counter)(text.encode()))
