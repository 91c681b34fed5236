"""What pruning removes from real wheels, and what another version of the code removed. README.md has a result.

Wheels of most-downloaded.txt for CPython 3.13 on Linux, as they are on the index now, planned together as of one image.
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
    """The wheels, fetched once; a name without one for the platform is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    have = {path.name.partition("-")[0].lower() for path in folder.glob("*.whl")}
    platforms = [f"--platform={tag}" for tag in TAGS]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms]
    for name in NAMES.read_text().split():
        if name.replace("-", "_") not in have:
            subprocess.run([*command, "--python-version=3.13", f"--dest={folder}", name], check=False)
    return sorted(folder.glob("*.whl"))


def pruned(wheels: list[Path]) -> Iterator[tuple[str, WheelFacts, dict[str, int]]]:
    """The name of each wheel, its facts, and the size of each member that pruning removes."""
    facts, sizes = [], []
    for path in wheels:
        with WheelFile(path) as wheel:
            facts.append(read_facts(wheel))
            sizes.append({path: info.file_size for path, info in wheel.members.items()})
    for path, its_facts, its_sizes, left_out in zip(wheels, facts, sizes, members_to_prune(facts), strict=True):
        yield path.name, its_facts, {member: its_sizes[member] for member in sorted(left_out)}


def compare(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> None:
    """Print what stays now that went before, and the reverse, by folder."""
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            print(f"{name}: in one result only")
            continue
        went, goes = set(before[name]), set(after[name])
        for verb, paths in (("stays", went - goes), ("goes", goes - went)):
            folders = sorted({path.rpartition("/")[0] for path in paths})
            if folders:
                print(f"{name}: now {verb}: {len(paths)} files in {', '.join(folders)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kept_in = Path(tempfile.gettempdir()) / "hatch-docker-benchmark-most-downloaded"
    parser.add_argument("--cache", type=Path, default=kept_in, help="where wheels are kept")
    parser.add_argument("--out", type=Path, help="write what is removed to this file, as JSON")
    parser.add_argument("--compare", type=Path, help="such a file of another version of the code")
    arguments = parser.parse_args()
    wheels = download(arguments.cache)
    started = time.process_time()
    found = list(pruned(wheels))
    seconds = time.process_time() - started
    removed = {name: list(members) for name, _, members in found}
    tests = {path.partition("tests/")[0] for members in removed.values() for path in members if "tests/" in path}
    kept = sorted({each for _, facts, _ in found for each in facts.reaches.get("", ())})
    size = sum(sum(members.values()) for *_, members in found)
    print(f"{len(wheels)} wheels, read in {seconds:.1f} s of CPU time by CPython {sys.version.split()[0]}")
    print(f"removed: {sum(map(len, removed.values()))} files, {size / 1e6:.1f} MB, {len(tests)} folders of tests")
    print(f"kept, since something reaches for them: {', '.join(kept)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(removed, indent=1))
    if arguments.compare:
        compare(json.loads(arguments.compare.read_text()), removed)


if __name__ == "__main__":
    main()
