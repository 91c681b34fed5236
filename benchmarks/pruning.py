"""Show what pruning removes from real wheels, and check that what stays can be imported as before.

The wheels are the newest of most-downloaded.txt and scientific.txt for CPython 3.13 on Linux, with what they require,
pruned together as in one image without a program that runs tests. README.md has a result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hatch_docker.wheels.facts import WheelFacts, read_facts
from hatch_docker.wheels.prune import RULES, Pruning, members_to_prune
from hatch_docker.wheels.unused import RUNNERS
from hatch_docker.wheels.wheelfile import WheelFile

LISTS = [Path(__file__).parent / name for name in ("most-downloaded.txt", "scientific.txt")]
TAGS = ("2_31", "2_28", "2_27", "2_24", "2014", "1")
# fmt: off
ENVIRONMENT = {
    "python_version": "3.13", "python_full_version": "3.13.0", "implementation_name": "cpython",
    "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix",
    "platform_python_implementation": "CPython", "extra": "",
}
# fmt: on
# A module that takes longer than these seconds to import counts as one that cannot be imported.
PATIENCE = 120

# Imports the modules of a list in turn, from the one at a position, and prints the position of each that succeeds.
IMPORTER = """
import importlib, json, os, sys
site, names, start = sys.argv[1], json.loads(sys.stdin.read()), int(sys.argv[2])
sys.path[:0] = [site]
out = os.dup(1)
os.dup2(2, 1)
for position in range(start, len(names)):
    os.write(out, b"?%d\\n" % position)
    try:
        importlib.import_module(names[position])
    except BaseException:
        continue
    os.write(out, b"!%d\\n" % position)
os.write(out, b".\\n")
os._exit(0)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel, its facts, and the members that pruning removes, each with its rule."""

    path: Path
    facts: WheelFacts
    pruned: Mapping[str, str]

    def sizes(self) -> Counter[str]:
        """The bytes that each rule removes."""
        sizes = dict(zip(self.facts.files, self.facts.sizes, strict=True))
        counter: Counter[str] = Counter()
        for member, rule in self.pruned.items():
            counter[rule] += sizes[member]
        return counter

    def modules(self) -> Iterator[str]:
        """The names of the modules that stay."""
        for member in self.facts.files:
            place = self.facts.site_path(member)
            stem, dot, suffix = place.partition(".")
            parts = stem.split("/")
            is_module = bool(dot) and (suffix == "py" or suffix.endswith("so")) and parts[-1] != "__main__"
            if is_module and member not in self.pruned and all(part.isidentifier() for part in parts):
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def download(folder: Path, names: Sequence[str]) -> None:
    """Download the wheels that `folder` lacks. A name without a wheel for the platform is skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    present = {canonicalize_name(path.name.partition("-")[0]) for path in folder.glob("*.whl")}
    platforms = [f"--platform=manylinux{'_' if '_' in tag else ''}{tag}_x86_64" for tag in TAGS]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms]
    for name in names:
        if canonicalize_name(name) not in present:
            subprocess.run([*command, "--python-version=3.13", f"--dest={folder}", name], check=False)


def required(facts: Sequence[WheelFacts]) -> list[str]:
    """The distributions that wheels require and that are not among them."""
    requirements = (Requirement(text) for each in facts for text in each.requires_dist)
    wanted = (each for each in requirements if not each.marker or each.marker.evaluate(ENVIRONMENT))
    return sorted({canonicalize_name(each.name) for each in wanted} - {each.key for each in facts})


def read(folder: Path) -> list[tuple[Path, WheelFacts]]:
    """The wheels in a folder, with their facts."""
    found = []
    for path in sorted(folder.glob("*.whl")):
        with WheelFile(path) as wheel:
            found.append((path, read_facts(wheel)))
    return found


def prune(found: Sequence[tuple[Path, WheelFacts]]) -> list[Wheel]:
    """The wheels as pruning leaves them; programs that run tests do not count, with which all tests would stay."""
    counted = [each for each in found if each[1].key not in RUNNERS]
    members = members_to_prune([facts for _, facts in counted], Pruning())
    pruned = {path: each for (path, _), each in zip(counted, members, strict=True)}
    return [Wheel(path=path, facts=facts, pruned=pruned.get(path, {})) for path, facts in found]


def install(wheels: Sequence[Wheel], site: Path) -> None:
    """Unpack the parts of wheels that belong in site-packages."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel.path) as archive:
            for member in wheel.facts.files:
                if place := wheel.facts.site_path(member):
                    (site / place).parent.mkdir(parents=True, exist_ok=True)
                    (site / place).write_bytes(archive.read(member))


def importable(python: str, site: Path, names: Sequence[str], scratch: Path) -> set[str]:
    """Those of some modules that can be imported, all in one process, or in several if one ends or waits for long."""
    found: set[str] = set()
    start = 0
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "MPLBACKEND": "agg",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    while start < len(names):
        command = [python, "-I", "-W", "ignore", "-c", IMPORTER, str(site), str(start)]
        try:
            output = subprocess.run(
                command,
                input=json.dumps(names).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE,
                cwd=scratch,
                env=environment,
                check=False,
            ).stdout
        except subprocess.TimeoutExpired as error:
            output = error.stdout or b""
        lines = output.decode().split()
        found.update(names[int(line[1:])] for line in lines if line.startswith("!"))
        if "." in lines:
            break
        start = max([start, *(int(line[1:]) for line in lines if line.startswith("?"))]) + 1
    return found


def check(wheels: Sequence[Wheel], python: str, scratch: Path) -> int:
    """Print the modules that can be imported before pruning but not after it; returns their number."""
    site, home = scratch / "site", scratch / "home"
    home.mkdir()
    install(wheels, site)
    before = {wheel.path: importable(python, site, list(wheel.modules()), home) for wheel in wheels}
    remove(wheels, site)
    # The modules are the same, since what is imported first decides about some of the others.
    doubtful = {
        wheel.path: before[wheel.path] - importable(python, site, list(wheel.modules()), home) for wheel in wheels
    }
    lost = sorted(name for names in doubtful.values() for name in names if not importable(python, site, [name], home))
    install(wheels, site)
    lost = [name for name in lost if importable(python, site, [name], home)]
    print(f"{sum(map(len, before.values()))} modules can be imported before pruning")
    print(f"after it, {len(lost)} of them cannot: {', '.join(lost)}")
    return len(lost)


def remove(wheels: Sequence[Wheel], site: Path) -> None:
    """Remove what is pruned."""
    for wheel in wheels:
        for member in wheel.pruned:
            (site / wheel.facts.site_path(member)).unlink(missing_ok=True)


def compare(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> None:
    """Print the differences of two results, by wheel and directory."""
    for name in sorted(before.keys() & after.keys()):
        old, new = set(before[name]), set(after[name])
        for verb, paths in (("kept", old - new), ("removed", new - old)):
            folders = sorted({path.rpartition("/")[0] for path in paths})
            if folders:
                print(f"{name}: now {verb}: {len(paths)} files in {', '.join(folders)}")


def table(wheels: Sequence[Wheel]) -> Iterator[str]:
    """The bytes by rule, and of the wheels that lose most."""
    yield "| MB | " + " | ".join(RULES) + " | all |"
    yield "|---|" + "---|" * (len(RULES) + 1)
    by_size = sorted(wheels, key=lambda each: -each.sizes().total())[:12]
    for label, sizes in [
        *((each.facts.key, each.sizes()) for each in by_size),
        ("all", sum((w.sizes() for w in wheels), Counter())),
    ]:
        cells = [sizes[rule] for rule in RULES] + [sizes.total()]
        yield f"| {label} | " + " | ".join(f"{each / 1e6:.1f}" if each else "" for each in cells) + " |"


def main() -> int:
    """Download the wheels, prune them, and print the results and their differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    cache = Path(tempfile.gettempdir()) / "hatch-docker-benchmark-most-downloaded"
    parser.add_argument("--cache", type=Path, default=cache, help="the directory for wheels")
    parser.add_argument("--out", type=Path, help="write the paths of removed files, with their rules, as JSON")
    parser.add_argument("--compare", type=Path, help="such a file of another version of the code")
    parser.add_argument("--python", help="a CPython 3.13 for Linux on x86_64: import all modules with it")
    arguments = parser.parse_args()
    download(arguments.cache, [name for path in LISTS for name in path.read_text().split()])
    start = time.process_time()
    found = read(arguments.cache)
    seconds = time.process_time() - start
    while arguments.python and (missing := required([facts for _, facts in found])):
        download(arguments.cache, missing)
        count, found = len(found), read(arguments.cache)
        if len(found) == count:
            break
    wheels = prune(found)
    print(f"{len(wheels)} wheels; facts read in {seconds:.1f} s of CPU time by CPython {sys.version.split()[0]}\n")
    print("\n".join(table(wheels)), end="\n\n")
    removed = {wheel.path.name: dict(wheel.pruned) for wheel in wheels}
    if arguments.out:
        arguments.out.write_text(json.dumps(removed, indent=1))
    if arguments.compare:
        compare(json.loads(arguments.compare.read_text()), removed)
    if not arguments.python:
        return 0
    with tempfile.TemporaryDirectory(prefix="pruning-", dir=arguments.cache) as scratch:
        return min(check(wheels, arguments.python, Path(scratch)), 1)


if __name__ == "__main__":
    sys.exit(main())
