"""The stamp of a build that ended: what it depended on, made and said."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hatch_docker.dependence import all_inputs, asked, editable_files, has_stamp, valid_until
from hatch_docker.edits.record import MessageRecord, OutputRecord
from hatch_docker.edits.recording import record_of
from hatch_docker.engine.plain import plain_address
from hatch_docker.errors import HatchDockerError
from hatch_docker.image.outputs import OUTPUTS, how_to_start, record_paths, result_path, result_text
from hatch_docker.image.report import Built, pruned_line
from hatch_docker.plan import Plan
from hatch_docker.project.model import Reads
from hatch_docker.services import Services
from hatch_docker.stamps.stamp import Stamp
from hatch_docker.stamps.values import Inputs, Result
from hatch_docker.support.atomic import is_writable
from hatch_docker.support.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A build that ended. `built` is its result as the next build would have it: with all layers reused.

    `outputs` are those that it wrote below `directory`, as the result file has them, `texts` the other files that it
    wrote, by path, and `text` what it printed to standard output. `notes` are its messages before any output was
    written, `messages` all of them, as `Result` has them. `reads` is what it read of the project.
    """

    plan: Plan
    built: Built
    reads: Reads | None
    outputs: Mapping[str, Sequence[str]]
    directory: Path
    notes: Sequence[tuple[str, str]]
    messages: Sequence[tuple[str, str]]
    text: str
    texts: Mapping[Path, str]

    def files(self, kinds: Collection[str] = OUTPUTS) -> list[Path]:
        """The files that outputs of these kinds wrote."""
        made = [names for kind, names in self.outputs.items() if OUTPUTS[kind].is_file and kind in kinds]
        return [self.directory / name for names in made for name in names]


def leave_stamp(stamp: Stamp, inputs: Inputs, ended: Ended, services: Services) -> None:
    """Leave the stamp of a build, unless something that it depended on is not known.

    `inputs` are those of `Stamp.begin`.
    """
    plan, built, texts = ended.plan, ended.built, ended.texts
    if not has_stamp(plan, built, services, ended.outputs):
        return
    if not all(path.is_file() for path in texts):
        # What is written to a pipe cannot be compared.
        return
    engine = plain_address(services.host.environ)
    with contextlib.suppress(HatchDockerError, OSError, ValueError):
        if not stamp.compares(ended.reads.files() if ended.reads else ()):
            return
        inputs = all_inputs(inputs, plan, services, written=[*ended.files(), *texts])
        stamp.leave(
            inputs,
            asked(plan, built, services, ended.outputs, engine),
            _result(ended, services),
            until=valid_until(services),
            edits=None if texts else _edits(ended, inputs, services),
        )


def _result(ended: Ended, services: Services) -> Result:
    built, directory = ended.built, ended.directory
    records = {path: path.read_text("utf-8") for path in record_paths(built, directory) if path.is_file()}
    if is_writable(directory):
        records[result_path(built, directory)] = result_text(built, ended.outputs)
    return Result(
        files=tuple(str(path.absolute()) for path in ended.files()),
        texts={str(path.absolute()): content for path, content in (records | dict(ended.texts)).items()},
        messages=ended.messages,
        output=ended.text,
        entries=services.cache.used(),
    )


def _edits(ended: Ended, inputs: Inputs, services: Services) -> dict[str, Any] | None:
    """What the stamp records for builds before which only contents of the project's files change."""
    built, outputs = ended.built, ended.outputs
    with contextlib.suppress(HatchDockerError, TypeError, ValueError, OSError):
        files = editable_files(ended.reads, built, inputs) if ended.reads else {}
        paths = {kind: [str(path.absolute()) for path in ended.files([kind])] for kind in outputs}
        output = OutputRecord(
            outputs=[(kind, path) for kind in outputs for path in paths[kind] or [""]],
            references=list(map(str, built.references)),
            result=str(result_path(built, ended.directory).absolute()),
            document=result_text(built, outputs),
        )
        run = how_to_start(built, outputs, ended.directory)
        message = MessageRecord(notes=ended.notes, pruned=pruned_line(built.images[0]), run=run)
        record = record_of(ended.plan, built, services, files, output, message)
        return record.to_json() if record else None
    return None
