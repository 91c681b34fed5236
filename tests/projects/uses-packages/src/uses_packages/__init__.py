"""Has each OS package do what it is for, and says in JSON what came of it."""

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
    """The script. Memory is all that it writes to."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        found = {
            "curl": run("curl", "--silent", "--show-error", "https://127.0.0.1:1/"),
            "ffmpeg": sound(Path(folder, "a.mp3")),
            "git": history(Path(folder)),
            "libgomp1": library("gomp").omp_get_max_threads() > 0,
            "libpq5": [psycopg2.__libpq_version__, psycopg2.extensions.libpq_version(), connecting(), *loaded("libpq")],
            "libxml2": root_element(b"<a><b/></a>"),
            "uid": os.getuid(),
        }
    print(json.dumps(found))


def run(*command: str) -> str:
    """What a program prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.stdout.strip()


def sound(path: Path) -> str:
    """What kind of file ffmpeg writes."""
    said = run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "libmp3lame", str(path))
    return said or run("ffprobe", "-v", "error", "-show_entries", "format=format_name", "-of", "csv=p=0", str(path))


def history(folder: Path) -> list[str]:
    """What git says of two commits in a repository, and of a clone of it; some of its parts are scripts."""
    # Without the latter it waits for a while, so that its warning is read.
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
    # What is said before and meanwhile has a number of seconds in it.
    changed = changed.splitlines()[-1] if changed else ""
    return [cloned, submodules, changed, *run("git", "-C", other, "log", "--format=%s").split()]


def library(name: str) -> ctypes.CDLL:
    """A library, found as Python finds it."""
    return ctypes.CDLL(ctypes.util.find_library(name))


def root_element(document: bytes) -> str:
    """What libxml2 makes of a document's outermost element."""
    xml = library("xml2")
    for function in (xml.xmlReadMemory, xml.xmlDocGetRootElement, xml.xmlGetNodePath):
        function.restype = ctypes.c_void_p
    tree = ctypes.c_void_p(xml.xmlReadMemory(document, len(document), b"", None, 0))
    return ctypes.string_at(xml.xmlGetNodePath(ctypes.c_void_p(xml.xmlDocGetRootElement(tree)))).decode()


def connecting() -> str:
    """What a connection that nobody answers ends with."""
    try:
        psycopg2.connect("host=127.0.0.1 port=1 user=nobody sslmode=require")
    except psycopg2.OperationalError as error:
        return str(error).splitlines()[0]
    return ""


def loaded(name: str) -> list[str]:
    """The files of a library that this process has in its memory."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return sorted({line.split()[-1] for line in maps if name in line.rpartition("/")[2]})
