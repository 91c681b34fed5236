from __future__ import annotations

import platform
import subprocess
import sys

import pytest

KEEPING = """
import os
from pathlib import Path
from hatch_docker.support.memory import return_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if {call}:
    return_memory()
b"x" * (30 << 20)
start = resident()
blocks = [b"x" * (1 << 20) for _ in range(40)]
del blocks[::2]
print((resident() - start) >> 20)
"""

# Eight threads, one after another, but all alive: each takes 10 MiB in small blocks, and keeps the last one.
SPREAD = """
import os, threading
from pathlib import Path
from hatch_docker.support.memory import return_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if {call}:
    return_memory()
turns = [threading.Event() for _ in range(9)]
kept = []

def work(number):
    turns[number].wait()
    blocks = [b"x" * 20_000 for _ in range(500)]
    kept.append(blocks.pop())
    del blocks
    turns[number + 1].set()
    turns[8].wait()

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for each in threads:
    each.start()
start = resident()
turns[0].set()
turns[8].wait()
print((resident() - start) >> 20)
"""


def kept_with(program: str, *, call: bool) -> int:
    """The MiB that a program keeps, with and without the call."""
    done = subprocess.run(
        [sys.executable, "-c", program.format(call=call)], capture_output=True, check=True, encoding="utf-8"
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries need no setting")
def test_freed_blocks_go_back_to_the_system_though_others_are_in_use() -> None:
    assert kept_with(KEEPING, call=True) < 25
    assert kept_with(KEEPING, call=False) > 35


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries need no setting")
def test_threads_use_the_same_freed_blocks() -> None:
    assert kept_with(SPREAD, call=True) < 20
    assert kept_with(SPREAD, call=False) > 60
