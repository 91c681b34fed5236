"""Measure how long it takes to get a base: one made from Debian's archive, and images pulled from a registry.

Each run is a process of its own. The bases take turns in three stages: with an empty cache (cold), with all downloads
but without the layer of a Debian base (warm), and with everything cached. README.md has a result.
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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from hatch_docker.base.transports import BaseRequest, pull
from hatch_docker.config import parse
from hatch_docker.oci import source
from hatch_docker.oci.spec import Platform
from hatch_docker.services import Host, Services, open_services
from hatch_docker.support.progress import Progress

STAGES = ("cold", "warm", "cached")
REFERENCE = "slim"
BASES = ("debian", REFERENCE, "alpine")
AMD64 = Platform(architecture="amd64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run: seconds on the clock, and bytes of the base's compressed layers and of peak memory."""

    seconds: float
    size: int
    peak: int


def get(base: str, cache: Path) -> Result:
    """Get a base with its layers, in this process. Imports are not counted."""
    config, settings, _ = parse({"base": base}, os.environ)
    request = BaseRequest(spec=config.base.spec, platform=AMD64, python="3.13")
    host = Host(
        environ=os.environ,
        proxies={},
        home=Path.cwd(),
        cache_dir=cache,
        now=datetime.now(timezone.utc),
        platform=AMD64,
        processors=os.cpu_count() or 1,
    )
    services = open_services(
        settings, host, root=Path.cwd(), index_url="", debian=config.os_packages, progress=Progress()
    )
    start = time.perf_counter()
    size = fetch(request, services)
    return Result(
        seconds=time.perf_counter() - start,
        size=size,
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def fetch(request: BaseRequest, services: Services) -> int:
    """Pull a base and its layers into the cache; return their size."""
    image = pull(request, services).pulled.image
    source.fetch(image, threads=services.threads)
    return sum(layer.descriptor.size for layer in image.layers)


def run(base: str, cache: Path) -> Result:
    """Get a base in a process of its own."""
    environ = {name: value for name, value in os.environ.items() if name != "HATCH_DOCKER_CACHE_DIR"}
    command = [sys.executable, __file__, "--get", base, "--cache", str(cache)]
    done = subprocess.run(command, env=environ, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        sys.exit(f"{base}: {done.stderr}")
    return Result(**json.loads(done.stdout))


def measure(rounds: int) -> dict[str, dict[str, list[Result]]]:
    """The results of all rounds, by base and stage."""
    results: dict[str, dict[str, list[Result]]] = {base: {stage: [] for stage in STAGES} for base in BASES}
    for number in range(rounds):
        for base, stages in results.items():
            print(f"round {number + 1} of {rounds}: {base}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="hatch-docker-") as name:
                cache = Path(name)
                stages["cold"].append(run(base, cache))
                shutil.rmtree(cache / "debian-layers", ignore_errors=True)
                stages["warm"].append(run(base, cache))
                stages["cached"].append(run(base, cache))
    return results


def table(results: dict[str, dict[str, list[Result]]]) -> Iterator[str]:
    """A Markdown table of medians, and of the medians of the ratios to `slim` in the same round."""
    yield f"| base | MB | {' | '.join(f'{stage}, s | beside {REFERENCE}' for stage in STAGES)} | peak, MB |"
    yield "|---|---|" + "---|" * (2 * len(STAGES) + 1)
    for base, stages in results.items():
        cells = [base, f"{stages['cold'][0].size / 1e6:.1f}"]
        for stage in STAGES:
            pairs = list(zip(stages[stage], results[REFERENCE][stage], strict=True))
            seconds = statistics.median(own.seconds for own, _ in pairs)
            ratio = statistics.median(own.seconds / reference.seconds for own, reference in pairs)
            cells += [f"{seconds:.2f}", f"{ratio:.2f}"]
        cells.append(f"{max(each.peak for each in stages['cold']) / 1e6:.0f}")
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print a table; or measure one base in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--get", metavar="BASE", help="get one base in this process, and print JSON")
    parser.add_argument("--cache", type=Path, help="the cache for --get")
    options = parser.parse_args()
    if options.get:
        print(json.dumps(asdict(get(options.get, options.cache))))
        return
    print("\n".join(table(measure(options.rounds))))
    print(f"\nMedians of {options.rounds} rounds.")


if __name__ == "__main__":
    main()
