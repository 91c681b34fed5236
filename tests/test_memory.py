from __future__ import annotations

import platform
import subprocess
import sys

import pytest

KEEPING = """
import os
from pathlib import Path
from hatch_docker.support.memory import return_large_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if {call}:
    return_large_blocks()
b"x" * (30 << 20)
start = resident()
blocks = [b"x" * (1 << 20) for _ in range(40)]
del blocks[::2]
print((resident() - start) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries need no setting")
def test_freed_blocks_go_back_to_the_system_though_others_are_in_use() -> None:
    kept = {}
    for call in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", KEEPING.format(call=call)], capture_output=True, check=True, encoding="utf-8"
        )
        kept[call] = int(done.stdout)
    assert kept[True] < 25
    assert kept[False] > 35
