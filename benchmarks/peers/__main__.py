"""Measure hatch-docker beside Dockerfiles: the same locks, engine and registry, in turns. ../README.md describes it."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

from . import results
from .applications import MOST_ROUNDS
from .methods import BY_HATCH, METHODS
from .processes import CommandError
from .rendering import render
from .running import Run, measure
from .scenarios import SCENARIOS


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(prog="hatch run peers", description=__doc__)
    parser.add_argument("--apps", nargs="+", default=list("SML"), choices=list("SML"), metavar="APP", help="of S M L")
    names = ", ".join(SCENARIOS)
    parser.add_argument(
        "--scenarios", nargs="+", default=list(SCENARIOS), choices=list(SCENARIOS), metavar="NAME", help=f"of {names}"
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    limit = range(1, MOST_ROUNDS + 1)
    parser.add_argument("--rounds", type=int, default=5, choices=limit, metavar="NUMBER", help=f"at most {MOST_ROUNDS}")
    parser.add_argument("--no-counting", action="store_true", help="measure neither bytes nor memory")
    parser.add_argument("--store", choices=("classic", "containerd"), default="classic", help="of the engine")
    parser.add_argument("--no-bytecode", action="store_true", help="make all images without bytecode")
    parser.add_argument("--out", type=Path, default=Path("peers.jsonl"), help="results are added to this file")
    parser.add_argument(
        "--render",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing; write the tables and the plot of results",
    )
    options = parser.parse_args()
    if options.render:
        render(results.read(options.render))
        return
    methods = [name for name in options.methods if name != BY_HATCH or shutil.which("hatch")]
    run = Run(
        applications=options.apps,
        scenarios=options.scenarios,
        methods=methods,
        rounds=options.rounds,
        counted=not options.no_counting,
        containerd_store=options.store == "containerd",
        bytecode=not options.no_bytecode,
        record=partial(results.append, options.out),
    )
    # The engine and the registries end with this process, however it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="hatch-docker-peers-") as scratch:
            measure(run, Path(scratch))
    except CommandError as error:
        sys.exit(str(error))
    if run.failed:
        sys.exit("\n".join(["failed:", *run.failed]))


if __name__ == "__main__":
    main()
