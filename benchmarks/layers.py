"""Measure how fast wheels become layers, beside other compressions and beside the work that no tool can avoid.

Each of the real wheels becomes one layer, several in parallel. Every run of a method is a process of its own, for its
peak memory, and the methods take turns, so that other load on the machine affects them all. README.md has a result.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import deflate
from isal import isal_zlib

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.oci.layer import Deflated, Entry, WriteOptions, write_layer
from hatch_docker.oci.spec import Platform
from hatch_docker.wheels.install import lay_out
from hatch_docker.wheels.wheelfile import WheelFile

WHEELS = Path(__file__).parent / "wheels.txt"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64")
TARGET = TargetPython(
    version="3.13.5",
    interpreter="/usr/local/bin/python3.13",
    platform=Platform(architecture="amd64"),
    libc=Libc(kind="glibc", version=(2, 41)),
)
CHUNK = 1 << 18
OURS, USUAL = "hatch-docker", "zlib-6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run: seconds on the clock and of the CPU, and bytes of tar (or content), of blobs and of peak memory."""

    seconds: float
    cpu: float
    unpacked: int
    size: int
    peak: int


@contextmanager
def opened(path: Path) -> Iterator[list[Entry]]:
    """The layer entries of a wheel, as in a build."""
    with WheelFile(path) as wheel:
        yield lay_out(wheel, TARGET)


def write(path: Path, *, compression: str, splice: bool) -> tuple[int, int]:
    """Write the layer of a wheel to a file; return the sizes of its tar and its blob."""
    with opened(path) as entries, tempfile.TemporaryFile() as out:
        written = write_layer(entries, out, WriteOptions(compression=compression, splice=splice))
    return written.unpacked, written.descriptor.size


def inflate_and_hash(path: Path, *, codec: Any, hashes: int) -> tuple[int, int]:
    """Inflate the wheel's members and hash them `hashes` times, which no tool can avoid; return their size and 0."""
    hashers, unpacked = [hashlib.sha256() for _ in range(hashes)], 0
    with opened(path) as entries:
        for entry in entries:
            for chunk in inflated(entry, codec):
                unpacked += len(chunk)
                for hasher in hashers:
                    hasher.update(chunk)
    return unpacked, 0


def inflated(entry: Entry, codec: Any) -> Iterator[bytes | bytearray]:
    """The uncompressed content of an entry, by the fastest function of `codec`, without checks."""
    content = entry.content
    if not isinstance(content, Deflated):
        assert content is not None
        yield content if isinstance(content, bytes) else content.read(0, content.size)
    elif codec is deflate and content.size < 1 << 22:
        yield deflate.deflate_decompress(content.read(0, content.compressed_size), content.size)
    else:
        inflater = (isal_zlib if codec is deflate else codec).decompressobj(-15)
        for offset in range(0, content.compressed_size, CHUNK):
            raw = content.read(offset, min(CHUNK, content.compressed_size - offset))
            while chunk := inflater.decompress(raw, CHUNK):
                yield chunk
                raw = inflater.unconsumed_tail


METHODS: dict[str, Callable[[Path], tuple[int, int]]] = {
    OURS: partial(write, compression="gzip", splice=True),
    USUAL: partial(write, compression="gzip-single", splice=False),
    "libdeflate-6": partial(write, compression="gzip", splice=False),
    "zstd-3": partial(write, compression="zstd", splice=False),
    "floor: fastest inflate, sha256": partial(inflate_and_hash, codec=deflate, hashes=1),
    "floor: fastest inflate, sha256 twice": partial(inflate_and_hash, codec=deflate, hashes=2),
    "floor: zlib's inflate, sha256": partial(inflate_and_hash, codec=zlib, hashes=1),
}


def run(method: str, wheels: list[Path], threads: int) -> Result:
    """Run a method over all wheels, the biggest first, in this process."""
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        sizes = list(pool.map(METHODS[method], wheels))
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Result(
        seconds=seconds,
        cpu=used.ru_utime + used.ru_stime,
        unpacked=sum(unpacked for unpacked, _ in sizes),
        size=sum(size for _, size in sizes),
        peak=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    )


def download(cache: Path) -> None:
    """Download the pinned wheels for CPython 3.13 on x86-64, from pip's configured index."""
    options = ["--no-deps", "--only-binary=:all:", "--implementation=cp", "--python-version=3.13"]
    for platform in PLATFORMS:
        options += ["--platform", platform]
    command = [sys.executable, "-m", "pip", "-qq", "download", *options]
    command += ["--dest", str(cache), "--requirement", str(WHEELS)]
    subprocess.run(command, check=True)


def measure(cache: Path, rounds: int, threads: int) -> dict[str, list[Result]]:
    """Run all methods in turns, each in a process of its own."""
    results: dict[str, list[Result]] = {method: [] for method in METHODS}
    for number in range(rounds):
        for method, runs in results.items():
            print(f"round {number + 1} of {rounds}: {method}", file=sys.stderr)
            command = [sys.executable, __file__, "--cache", str(cache), "--threads", str(threads), "--method", method]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            runs.append(Result(**json.loads(output)))
    return results


def table(results: dict[str, list[Result]]) -> Iterator[str]:
    """A Markdown table of medians, and of the medians of the ratios to zlib-6 in the same round."""
    yield "| | seconds | CPU seconds | MB/s unpacked | size, MB | beside zlib-6: time | CPU time | size | peak, MB |"
    yield "|---|---|---|---|---|---|---|---|---|"
    usual = results[USUAL]
    for method, runs in results.items():
        seconds, size = median(runs, "seconds"), runs[0].size
        cells = (
            method,
            f"{seconds:.1f}",
            f"{median(runs, 'cpu'):.1f}",
            f"{runs[0].unpacked / seconds / 1e6:.0f}",
            f"{size / 1e6:.1f}" if size else "",
            f"÷ {ratio(usual, runs, 'seconds'):.1f}",
            f"÷ {ratio(usual, runs, 'cpu'):.1f}",
            f"{100 * size / usual[0].size - 100:+.1f} %" if size else "",
            f"{max(result.peak for result in runs) / 1e6:.0f}",
        )
        yield f"| {' | '.join(cells)} |"


def floors(results: dict[str, list[Result]]) -> Iterator[str]:
    """The ratios of our times, on the clock and of the CPU, to those of each floor."""
    for method, runs in results.items():
        if method.startswith("floor"):
            seconds, cpu = (ratio(results[OURS], runs, field) for field in ("seconds", "cpu"))
            yield f"- {method}: {seconds:.2f} times the time, {cpu:.2f} times the CPU time"


def median(results: list[Result], field: str) -> float:
    """The median of a field."""
    values: list[float] = [getattr(result, field) for result in results]
    return statistics.median(values)


def ratio(one: list[Result], other: list[Result], field: str) -> float:
    """The median over the rounds of a field of one method, divided by that of the other in the same round."""
    values: list[float] = [getattr(a, field) / getattr(b, field) for a, b in zip(one, other, strict=True)]
    return statistics.median(values)


def main() -> None:
    """Download the wheels, measure all methods, and print a table; or run one method in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "hatch-docker-benchmark-wheels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--method", choices=METHODS, help="run one method in this process, and print JSON")
    options = parser.parse_args()
    if not options.method:
        download(options.cache)
    wheels = sorted(options.cache.glob("*.whl"), key=lambda path: (-path.stat().st_size, path.name))
    if options.method:
        print(json.dumps(asdict(run(options.method, wheels, options.threads))))
        return
    results = measure(options.cache, options.rounds, options.threads)
    zipped = sum(path.stat().st_size for path in wheels)
    print(f"{len(wheels)} wheels, {zipped / 1e6:.0f} MB, {results[OURS][0].unpacked / 1e6:.0f} MB as tar;", end=" ")
    print(f"{options.threads} threads, medians of {options.rounds} rounds\n")
    print("\n".join(table(results)))
    print(f"\n{OURS} compared with the floors:\n")
    print("\n".join(floors(results)))


if __name__ == "__main__":
    main()
