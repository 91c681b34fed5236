"""How long it takes to have a base: out of Debian's archive, beside images pulled from a registry.

Each is had in a process of its own, in turns: with nothing in the cache (cold), with all that was fetched and not the
layer (warm: for an image from a registry the same as cached), and with everything (cached). README.md has a result.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

STAGES = ("cold", "warm", "cached")
BESIDE = "slim"
# Prints seconds, peak memory in bytes, and the size in bytes; importing is not counted.
PROGRAM = """
import json, os, resource, sys, time
from datetime import datetime, timezone
from pathlib import Path
from hatch_docker.config import parse
from hatch_docker.machine import services_of
from hatch_docker.oci import source
from hatch_docker.oci.spec import Platform
from hatch_docker.progress import Progress
from hatch_docker.transports import pull

config, settings, _ = parse({"base": sys.argv[1]}, os.environ, project="bench")
machine = services_of(
    settings, os.environ, proxies={}, root=Path.cwd(), home=Path.cwd(), cache_dir=Path(sys.argv[2]), index_url="",
    debian_mirror=config.debian_mirror, debian_keyring=None, now=datetime.now(timezone.utc),
    platform=Platform(architecture="amd64"), processors=os.cpu_count() or 1, progress=Progress(),
)
start = time.perf_counter()
found = pull(
    config.base, python="3.13", requires_python="", platform=Platform(architecture="amd64"), places=machine.places,
    progress=Progress(),
)
source.fetch(found.pulled.image, threads=machine.threads)
seconds = time.perf_counter() - start
size = sum(layer.descriptor.size for layer in found.pulled.image.layers)
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, size]))
"""


def have(base: str, cache: Path) -> list[float]:
    """Seconds, peak memory and size of having a base."""
    environ = {name: value for name, value in os.environ.items() if name != "HATCH_DOCKER_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, base, cache], env=environ, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode != 0:
        sys.exit(f"{base}: {done.stderr}")
    found: list[float] = json.loads(done.stdout)
    return found


def measure(bases: list[str], rounds: int) -> dict[str, dict[str, list[list[float]]]]:
    """What `have` says, by base and stage."""
    found: dict[str, dict[str, list[list[float]]]] = {base: {stage: [] for stage in STAGES} for base in bases}
    for number in range(rounds):
        for base in bases:
            print(f"round {number + 1} of {rounds}: {base}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="hatch-docker-") as name:
                cache = Path(name)
                found[base]["cold"].append(have(base, cache))
                shutil.rmtree(cache / "debian-layers", ignore_errors=True)
                found[base]["warm"].append(have(base, cache))
                found[base]["cached"].append(have(base, cache))
    return found


def table(found: dict[str, dict[str, list[list[float]]]]) -> Iterator[str]:
    """A Markdown table of medians; each stage beside the same of `slim` in the same round."""
    yield f"| base | MB | {' | '.join(f'{stage}, s | beside {BESIDE}' for stage in STAGES)} | peak, MB |"
    yield "|---|---|" + "---|" * (2 * len(STAGES) + 1)
    for base, stages in found.items():
        cells = [base, f"{stages['cold'][0][2] / 1e6:.1f}"]
        for stage in STAGES:
            seconds = [each[0] for each in stages[stage]]
            beside = [each[0] for each in found[BESIDE][stage]]
            ratio = statistics.median(a / b for a, b in zip(seconds, beside, strict=True))
            cells += [f"{statistics.median(seconds):.2f}", f"{ratio:.2f}"]
        cells.append(f"{max(each[1] for each in stages['cold']) / 1e6:.0f}")
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Fetch, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("\n".join(table(measure(["debian", BESIDE, "alpine"], options.rounds))))
    print(f"\nMedians of {options.rounds} rounds.")


if __name__ == "__main__":
    main()
