"""Use each OS package, and print the results as JSON."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import subprocess
import tempfile
from pathlib import Path

import psycopg2
import psycopg2.extensions


def main() -> None:
    """Run the script. It writes to memory only."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        results = {
            "curl": run("curl", "--silent", "--show-error", "https://127.0.0.1:1/"),
            "ffmpeg": sound(Path(folder, "a.mp3")),
            "git": history(Path(folder)),
            "libgomp1": library("gomp").omp_get_max_threads() > 0,
            "libpq5": [psycopg2.__libpq_version__, psycopg2.extensions.libpq_version(), connecting(), *loaded("libpq")],
            "libxml2": root_element(b"<a><b/></a>"),
            "uid": os.getuid(),
        }
    print(json.dumps(results))


def run(*command: str) -> str:
    """Run a program and return its output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.stdout.strip()


def sound(path: Path) -> str:
    """Encode a sound with ffmpeg; return the format of the file."""
    errors = run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "libmp3lame", str(path))
    return errors or run("ffprobe", "-v", "error", "-show_entries", "format=format_name", "-of", "csv=p=0", str(path))


def history(folder: Path) -> list[str]:
    """Make two commits, a clone and a rewritten history; return the output of git, which runs some of its scripts."""
    # Without the second variable, filter-branch waits for some seconds after its warning.
    os.environ |= {"HOME": str(folder), "FILTER_BRANCH_SQUELCH_WARNING": "1"}
    one, other = str(folder / "one"), str(folder / "other")
    run("git", "init", "-q", one)
    run("git", "config", "--global", "user.name", "nobody")
    run("git", "config", "--global", "user.email", "nobody@example.org")
    for text in ("first", "second"):
        Path(one, "file").write_text(text)
        run("git", "-C", one, "add", "file")
        run("git", "-C", one, "commit", "-qm", text)
    cloned = run("git", "clone", "-q", one, other)
    submodules = run("git", "-C", other, "submodule", "status")
    changed = run("git", "-C", other, "filter-branch", "-f", "--msg-filter", "sed s/first/changed/")
    # The lines before the last contain a number of seconds.
    changed = changed.splitlines()[-1] if changed else ""
    return [cloned, submodules, changed, *run("git", "-C", other, "log", "--format=%s").split()]


def library(name: str) -> ctypes.CDLL:
    """Load a library that ctypes finds by name."""
    return ctypes.CDLL(ctypes.util.find_library(name))


def root_element(document: bytes) -> str:
    """The path of a document's root element, parsed by libxml2."""
    xml = library("xml2")
    for function in (xml.xmlReadMemory, xml.xmlDocGetRootElement, xml.xmlGetNodePath):
        function.restype = ctypes.c_void_p
    tree = ctypes.c_void_p(xml.xmlReadMemory(document, len(document), b"", None, 0))
    return ctypes.string_at(xml.xmlGetNodePath(ctypes.c_void_p(xml.xmlDocGetRootElement(tree)))).decode()


def connecting() -> str:
    """The error of a connection to a port without a server."""
    try:
        psycopg2.connect("host=127.0.0.1 port=1 user=nobody sslmode=require")
    except psycopg2.OperationalError as error:
        return str(error).splitlines()[0]
    return ""


def loaded(name: str) -> list[str]:
    """The paths of a library that this process has loaded."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return sorted({line.split()[-1] for line in maps if name in line.rpartition("/")[2]})
