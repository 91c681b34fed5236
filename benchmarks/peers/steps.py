"""A profile of `hatch-docker build` by step, of a build without changes and after one changed line.

The process is observed from outside its code: every millisecond, the stack of its main thread says which part of
hatch_docker is at work or waits. The start of Python and the end of the process are measured by the clock.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .applications import APPLICATIONS, Projects, change_line
from .processes import Command

# The innermost function on the stack that belongs to one of these packages decides.
STEPS = {
    "hatch_docker.stamps": "stamp and its questions",
    "hatch_docker.engine": "engine",
    "hatch_docker.oci.registry": "registry",
    "hatch_docker.base": "base",
    "hatch_docker.locks": "lock",
    "hatch_docker.index": "lock",
    "hatch_docker.project": "project and its wheel",
    "hatch_docker.config": "configuration",
    "hatch_docker.wheels": "layers",
    "hatch_docker.image": "layers",
    "hatch_docker.oci": "layers",
}
START, IMPORTS, OTHER, END = "start of Python", "imports", "other", "end of the process"
ROWS = (START, IMPORTS, *dict.fromkeys(STEPS.values()), OTHER, END)

# Runs hatch-docker with the arguments after the first two, which are the file for the result and the steps.
_OBSERVER = """
import sys, time
begun = time.monotonic()
import json, threading
result, steps = sys.argv[1], json.loads(sys.argv[2])
sys.argv[:] = ["hatch-docker", *sys.argv[3:]]
# The observer waits this long for the interpreter lock.
sys.setswitchinterval(0.0005)
main, found, ended = threading.get_ident(), {}, threading.Event()

def step(frame):
    while frame:
        name = frame.f_globals.get("__name__") or ""
        if name.startswith("importlib") or frame.f_code.co_name == "<module>" and name != "__main__":
            return "imports"
        while name:
            if name in steps:
                return steps[name]
            name = name.rpartition(".")[0]
        frame = frame.f_back
    return "other"

def observe():
    last = time.monotonic()
    while not ended.wait(0.001):
        now = time.monotonic()
        where = step(sys._current_frames().get(main))
        found[where] = found.get(where, 0) + now - last
        last = now

observer = threading.Thread(target=observe, daemon=True)
observer.start()
try:
    from hatch_docker.frontends.cli.main import main as hatch_docker
    hatch_docker()
finally:
    ended.set()
    observer.join()
    with open(result, "w") as file:
        json.dump({"begun": begun, "ended": time.monotonic(), "found": found}, file)
"""


def observed(project: Path, tag: str, environ: Mapping[str, str]) -> dict[str, float]:
    """The seconds of each step of a build."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        build = ("build", "--load", "--tag", tag)
        command = Command.of(
            sys.executable, "-c", _OBSERVER, result, json.dumps(STEPS), *build, cwd=project, environ=environ
        )
        start = time.monotonic()
        command.run()
        end = time.monotonic()
        values = json.loads(result.read_text(encoding="utf-8"))
    return {START: values["begun"] - start, **values["found"], END: end - values["ended"]}


def profile(project: Path, rounds: int, environ: Mapping[str, str]) -> dict[str, dict[str, list[float]]]:
    """The seconds of each step in each round, and of unobserved builds as "whole", by what changed."""
    tag = f"hatch-docker-steps-{secrets.token_hex(4)}"
    program = Path(sys.executable).with_name("hatch-docker")
    plain = Command.of(program, "build", "--load", "--tag", tag, cwd=project, environ=environ)
    found: dict[str, dict[str, list[float]]] = {"nothing changed": defaultdict(list), "one line": defaultdict(list)}
    try:
        for number in range(rounds + 1):
            for changed, steps in found.items():
                for whole in (True, False):
                    if changed == "one line":
                        change_line(project)
                    else:
                        plain.run()
                        time.sleep(2.5)
                        plain.run()
                    values = {"whole": plain.seconds()} if whole else observed(project, tag, environ)
                    # The first round fills caches.
                    for name, seconds in values.items() if number else ():
                        steps[name].append(seconds)
    finally:
        subprocess.run(["docker", "rmi", "--force", tag], check=False, capture_output=True)
    return found


def table(found: Mapping[str, Mapping[str, Sequence[float]]], rounds: int) -> Iterator[str]:
    """A Markdown table of means, in milliseconds: these add up. A step that a round does not reach counts as none."""
    yield f"| ms | {' | '.join(found)} |"
    yield f"|---|{'---|' * len(found)}"
    for row in ROWS:
        yield f"| {row} | {' | '.join(f'{1000 * sum(steps.get(row, ())) / rounds:.0f}' for steps in found.values())} |"
    sums = [1000 * sum(sum(steps.get(row, ())) for row in ROWS) / rounds for steps in found.values()]
    yield f"| all of these | {' | '.join(f'{each:.0f}' for each in sums)} |"
    whole = (f"{1000 * statistics.fmean(steps['whole']):.0f}" for steps in found.values())
    yield f"| whole process, not observed | {' | '.join(whole)} |"


def main() -> None:
    """Build an application again and again, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", default="M", choices=sorted(APPLICATIONS), help="of the benchmark beside Dockerfiles")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hatch-docker-steps-") as folder:
        scratch = Path(folder)
        project = Projects(scratch, Path(__file__).parents[2], scratch / "uv").base(APPLICATIONS[options.app])
        environ = {"HATCH_DOCKER_CACHE_DIR": str(scratch / "cache"), "UV_CACHE_DIR": str(scratch / "uv")}
        print("\n".join(table(profile(project, options.rounds, environ), options.rounds)))


if __name__ == "__main__":
    main()
