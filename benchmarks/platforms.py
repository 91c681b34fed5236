"""Measure what another platform costs: the CPU time of a build for several, beside that of a build for one.

Both build the same project with the same warm caches, in turns, each in a process of its own: a build without changes,
and one after a change of the project. README.md has a result.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parent.parent / "example_project"
CASES = ("nothing changed", "line changed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One build: seconds on the clock, and of the CPU in user and kernel mode, with those of its child processes."""

    seconds: float
    cpu: float


def build(project: Path, platforms: str, base: str, archive: Path) -> Run:
    """Build the project's image into an archive."""
    command = [sys.executable, "-c", "from hatch_docker.frontends.cli.main import main; main()", "build", "-q"]
    options = ["--platform", platforms, "--output", f"type=oci,dest={archive}"]
    environ = {**os.environ, "HATCH_DOCKER_BASE": base}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [*command, *options], cwd=project, env=environ, check=False, capture_output=True, encoding="utf-8"
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds=time.monotonic() - start, cpu=cpu)


def measure(project: Path, one: str, several: str, base: str, rounds: int) -> dict[str, dict[str, Any]]:
    """The medians of the runs for each case, and of the ratios of each round."""
    archive = project / "image.tar"
    for platforms in (one, several):
        build(project, platforms, base, archive)
    source = next((project / "src").rglob("*.py"))
    runs: dict[str, list[tuple[Run, Run]]] = {case: [] for case in CASES}
    for number in range(rounds):
        pair = (build(project, one, base, archive), build(project, several, base, archive))
        runs["nothing changed"].append(pair)
        text, changed = source.read_text(encoding="utf-8"), []
        for platforms in (one, several):
            source.write_text(f"{text}# {platforms} {number}\n", encoding="utf-8")
            changed.append(build(project, platforms, base, archive))
        runs["line changed"].append((changed[0], changed[1]))
        source.write_text(text, encoding="utf-8")
    return {
        case: {
            "one": statistics.median(each.cpu for each, _ in pairs),
            "several": statistics.median(each.cpu for _, each in pairs),
            "ratio": statistics.median(b.cpu / a.cpu for a, b in pairs),
            "clock-ratio": statistics.median(b.seconds / a.seconds for a, b in pairs),
        }
        for case, pairs in runs.items()
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=EXAMPLE, help="a project with its code in src/")
    parser.add_argument("--base", default="debian")
    parser.add_argument("--one", default="linux/amd64", metavar="PLATFORM")
    parser.add_argument("--several", default="linux/amd64,linux/arm64", metavar="PLATFORMS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=float, help="exit with status 1 if a ratio is higher")
    parser.add_argument("--json", action="store_true", help="print the document of the results")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(shutil.copytree(chosen.project, Path(folder) / "project", ignore=shutil.ignore_patterns("dist")))
        found = measure(project, chosen.one, chosen.several, chosen.base, chosen.rounds)
    if chosen.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"| CPU time, s | {chosen.one} | {chosen.several} | ratio | ratio of the clock |\n|---|---|---|---|---|")
        for case, each in found.items():
            print(
                f"| {case} | {each['one']:.2f} | {each['several']:.2f} | {each['ratio']:.2f} "
                f"| {each['clock-ratio']:.2f} |"
            )
    if chosen.most is not None and any(each["ratio"] > chosen.most for each in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
