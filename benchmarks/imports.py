"""Measure what importing the package costs, beside the same with the standard library's dataclasses and re.compile.

`hatch run imports` runs processes in turns, and prints medians of their CPU time. README.md has a result.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

# What a build imports, and what one after an edit does.
MODULES = {
    "a build": ("hatch_docker.frontends.cli.program", "hatch_docker.session"),
    "after an edit": ("hatch_docker.frontends.cli.main", "hatch_docker.edits.run", "hatch_docker.edits.finish"),
}
_OURS = ""
_STANDARD = """\
import dataclasses, re
from hatch_docker.support import dataclasses as classes, patterns
for name in classes.__all__:
    setattr(classes, name, getattr(dataclasses, name))
patterns.regex = re.compile
"""
_TIMED = """\
import gc, time
gc.disable()
begun = time.process_time()
{first}
import {modules}
print(time.process_time() - begun)
"""


def seconds(first: str, modules: tuple[str, ...]) -> float:
    """The CPU time of importing modules after `first` has run, in a process of its own."""
    program = _TIMED.format(first=first, modules=", ".join(modules))
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print("| CPU time, ms | hatch-docker | standard library | ratio |\n|---|---|---|---|")
    for name, modules in MODULES.items():
        pairs = [(seconds(_OURS, modules), seconds(_STANDARD, modules)) for _ in range(rounds + 1)][1:]
        ours, standard = (1000 * statistics.median(each) for each in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"| {name} | {ours:.0f} | {standard:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
