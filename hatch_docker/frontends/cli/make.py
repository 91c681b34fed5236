"""Run `hatch-docker build`: make the image of a project, load it, push it, or write it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from hatch_docker.config import fail, gather
from hatch_docker.errors import EngineError, OutputError
from hatch_docker.frontends.cli.console import abandon
from hatch_docker.frontends.cli.exports import STANDARD_OUTPUT, Export, parse_export
from hatch_docker.frontends.cli.options import run_options
from hatch_docker.image.files import check_folder, check_writable, shown_path, write_text
from hatch_docker.image.outputs import OUTPUTS, result_text
from hatch_docker.image.report import Built, again
from hatch_docker.session import RunOptions, Session
from hatch_docker.support.dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a build writes. `exports` is empty for the default outputs; None for files that are not written."""

    exports: tuple[Export, ...] = ()
    metadata_file: Path | None = None
    iid_file: Path | None = None


def prepare(chosen: argparse.Namespace) -> tuple[RunOptions, Callable[[Session], tuple[str, int]]]:
    """The options of the run, and the command. Raises ConfigError with all mistakes of the command line."""
    parsed: list[Export] = []
    run: list[RunOptions] = []

    def outputs() -> None:
        parsed.extend(gather(partial(parse_export, each, "--output") for each in chosen.output))
        _check_streams(parsed)

    def options() -> None:
        run.append(run_options(chosen, names=[name for export in parsed for name in export.names]))

    gather([outputs, options])
    exports = tuple(_ordered(parsed, chosen))
    return run[0], partial(build, Request(exports=exports, metadata_file=chosen.metadata_file, iid_file=chosen.iidfile))


def _check_streams(exports: Sequence[Export]) -> None:
    streams = [export for export in exports if export.dest == STANDARD_OUTPUT]
    if len(streams) > 1:
        fail("--output", "only one output can be written to standard output")
    if streams and sys.stdout is None:
        fail("--output", "standard output is closed: name a file")
    if streams and sys.stdout.isatty():
        fail("--output", "an archive is not written to a terminal: redirect standard output, or name a file")


def _ordered(parsed: Sequence[Export], chosen: argparse.Namespace) -> list[Export]:
    """All outputs, each once, in the order of OUTPUTS: what is pushed is pushed last."""
    shorthands = {"load": chosen.load, "push": chosen.push, "update-index": chosen.update_index}
    exports = [replace(export, names=()) for export in parsed]
    exports += [Export(output=name) for name, is_chosen in shorthands.items() if is_chosen]
    if chosen.update_index:
        # It pushes.
        exports = [export for export in exports if export.output != "push"]
    order = list(OUTPUTS)
    return sorted(dict.fromkeys(exports), key=lambda export: order.index(export.output))


def build(request: Request, session: Session) -> tuple[str, int]:
    """Build the image and write it; returns the lines for standard output, and 0.

    That is what was pushed, by digest; else the name in the engine; else the paths of the files. Nothing is built if a
    file cannot be written. Raises HatchDockerError.
    """
    exports = request.exports or _default_exports(session)
    session.check([export.output for export in exports], [partial(_check_files, request, exports, session.directory)])
    files = []
    for export in exports:
        made = _write(export, session)
        if OUTPUTS[export.output].is_file:
            files.append(export.dest or shown_path(made))
    session.report()
    for path, content in _texts(request, session, session.built).items():
        write_text(path, content)
    if any(export.dest == STANDARD_OUTPUT for export in exports):
        return "", 0
    text = "\n".join(_pushed(session) or [*session.outputs.get("load", ())] or files)
    session.leave_stamp(text, _texts(request, session, again(session.built)), chosen=bool(request.exports))
    return text, 0


def _write(export: Export, session: Session) -> Path:
    if export.dest != STANDARD_OUTPUT:
        return session.output(export.output, session.directory, path=export.path)
    try:
        return session.output(export.output, session.directory, stream=sys.stdout.buffer)
    except OutputError:
        abandon(sys.stdout)
        raise


def _pushed(session: Session) -> list[str]:
    """The names by digest of what was pushed: one for each `--tag`, else the one that the configuration gives."""
    built, named, outputs = session.built, session.config.naming.references, session.outputs
    if joined := outputs.get("update-index"):
        return [*joined] if named else [*joined[:1]]
    pushed = "push" in outputs
    return [str(reference.with_digest(built.digest)) for reference in named or built.references[:1] if pushed]


def _default_exports(session: Session) -> list[Export]:
    """The outputs of the key `outputs`; else a load, or an archive if no engine answers."""
    configured = session.config.output.outputs
    if configured:
        return [Export(output=name) for name in configured if name in OUTPUTS]
    try:
        session.services.engine()
    except EngineError:
        session.terminal.note("no container engine answers, so the image is written to an archive")
        return [Export(output="archive")]
    return [Export(output="load")]


def _check_files(request: Request, exports: Sequence[Export], directory: Path) -> None:
    """Raise ConfigError for all files that cannot be written; `directory` has those of `exports` without a name."""
    named = [
        *(("--output", each.path, each.output == "oci") for each in request.exports if each.path),
        *(("--metadata-file", path, False) for path in [request.metadata_file] if path),
        *(("--iidfile", path, False) for path in [request.iid_file] if path),
    ]
    unnamed = any(OUTPUTS[each.output].is_file and not each.dest for each in exports)
    calls: list[Callable[[], None]] = [partial(check_folder, directory)] if unnamed else []
    calls += [partial(check_writable, path, place, is_folder=is_folder) for place, path, is_folder in named]
    gather([*calls, *_twice(named)])


def _twice(named: Sequence[tuple[str, Path, bool]]) -> Iterator[Callable[[], None]]:
    """A check that fails for each file that would be written twice."""
    seen: set[str] = set()
    for place, path, _ in named:
        whole = os.path.realpath(path)
        if whole in seen and (path.is_file() or not path.exists()):
            yield partial(fail, place, f"{path} is written by another option, too: name another file")
        seen.add(whole)


def _texts(request: Request, session: Session, built: Built) -> dict[Path, str]:
    """The contents of the files that options ask for."""
    outputs = session.outputs
    texts = {}
    if request.metadata_file:
        texts[request.metadata_file] = result_text(built, outputs)
    if request.iid_file:
        # In a containerd store, an image has another ID.
        loaded = session.services.engine().image_id(outputs["load"][0]) if "load" in outputs else ""
        # Without a newline, as buildx writes it.
        texts[request.iid_file] = loaded or built.image_id
    return texts
