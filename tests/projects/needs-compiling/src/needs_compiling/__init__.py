"""Use the extension module of each package, and print the results as JSON."""

from __future__ import annotations

import json
import os

import _cffi_backend
import cffi
import markupsafe._speedups
import psutil
import yaml


def main() -> None:
    """Run the script."""
    results = {
        "cffi": [length_of("four"), _cffi_backend.__file__],
        "markupsafe": [str(markupsafe.escape("<b>")), markupsafe._speedups.__file__],
        "psutil": [
            psutil.Process().pid == os.getpid() and psutil.virtual_memory().total > 0,
            psutil._psplatform.cext.__file__,
        ],
        "pyyaml": [yaml.safe_load("{a: [1, 2]}"), yaml.__file__],
        "uid": os.getuid(),
    }
    print(json.dumps(results))


def length_of(text: str) -> int:
    """The length of a text by C's strlen, called through libffi in both directions."""
    ffi = cffi.FFI()
    ffi.cdef("size_t strlen(const char *); typedef size_t (*counter)(const char *);")
    library = ffi.dlopen(None)
    # A Python function that C can call needs executable memory from libffi.
    counter = ffi.callback("size_t(const char *)", library.strlen)
    return int(ffi.cast("counter", counter)(text.encode()))
