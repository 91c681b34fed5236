"""Show what pruning removes from real wheels, and compare it with another version of the code.

The wheels are the newest of most-downloaded.txt for CPython 3.13 on Linux, pruned together as in one image. README.md
has a result.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from hatch_docker.wheels.facts import WheelFacts, read_facts
from hatch_docker.wheels.prune import members_to_prune
from hatch_docker.wheels.wheelfile import WheelFile

NAMES = Path(__file__).parent / "most-downloaded.txt"
TAGS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64")


def download(folder: Path) -> list[Path]:
    """Download the wheels that `folder` lacks; return all. A name without a wheel for the platform is skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    present = {path.name.partition("-")[0].lower() for path in folder.glob("*.whl")}
    platforms = [f"--platform={tag}" for tag in TAGS]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms]
    for name in NAMES.read_text().split():
        if name.replace("-", "_") not in present:
            subprocess.run([*command, "--python-version=3.13", f"--dest={folder}", name], check=False)
    return sorted(folder.glob("*.whl"))


def pruned(wheels: list[Path]) -> Iterator[tuple[str, WheelFacts, dict[str, int]]]:
    """The name of each wheel, its facts, and the size of each member that pruning removes."""
    facts, sizes = [], []
    for path in wheels:
        with WheelFile(path) as wheel:
            facts.append(read_facts(wheel))
            sizes.append({path: info.file_size for path, info in wheel.members.items()})
    for path, wheel_facts, members, removed in zip(wheels, facts, sizes, members_to_prune(facts), strict=True):
        yield path.name, wheel_facts, {member: members[member] for member in sorted(removed)}


def compare(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> None:
    """Print the differences of two results, by wheel and directory."""
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            print(f"{name}: in one result only")
            continue
        old, new = set(before[name]), set(after[name])
        for verb, paths in (("kept", old - new), ("removed", new - old)):
            folders = sorted({path.rpartition("/")[0] for path in paths})
            if folders:
                print(f"{name}: now {verb}: {len(paths)} files in {', '.join(folders)}")


def main() -> None:
    """Download the wheels, prune them, and print the results and their differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    cache = Path(tempfile.gettempdir()) / "hatch-docker-benchmark-most-downloaded"
    parser.add_argument("--cache", type=Path, default=cache, help="the directory for wheels")
    parser.add_argument("--out", type=Path, help="write the paths of removed files to this file, as JSON")
    parser.add_argument("--compare", type=Path, help="such a file of another version of the code")
    arguments = parser.parse_args()
    wheels = download(arguments.cache)
    start = time.process_time()
    results = list(pruned(wheels))
    seconds = time.process_time() - start
    removed = {name: list(members) for name, _, members in results}
    tests = {path.partition("tests/")[0] for members in removed.values() for path in members if "tests/" in path}
    used = sorted({each for _, facts, _ in results for each in facts.reaches.get("", ())})
    size = sum(sum(members.values()) for *_, members in results)
    print(f"{len(wheels)} wheels, read in {seconds:.1f} s of CPU time by CPython {sys.version.split()[0]}")
    print(f"removed: {sum(map(len, removed.values()))} files, {size / 1e6:.1f} MB, {len(tests)} folders of tests")
    print(f"kept, because something uses them: {', '.join(used)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(removed, indent=1))
    if arguments.compare:
        compare(json.loads(arguments.compare.read_text()), removed)


if __name__ == "__main__":
    main()
