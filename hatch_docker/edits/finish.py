"""Finish a build after an edit: make the image, write it, say what a whole build says, and leave a stamp."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.edits.make import Made, make
from hatch_docker.edits.outputs import open_outputs
from hatch_docker.edits.record import EditRecord
from hatch_docker.edits.report import lines_of, result_document, text_of, with_made
from hatch_docker.stamps.questions import images_in_engine
from hatch_docker.stamps.values import Asked, Result
from hatch_docker.support.atomic import replace_text
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.room import UPLOADS
from hatch_docker.support.terminal import Terminal, live_stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hatch_docker.edits.begin import Begun
    from hatch_docker.stamps.stamp import Stamp
    from hatch_docker.support.terminal import Console, ProgressMode


def finish(stamp: Stamp, begun: Begun, console: Console, mode: ProgressMode) -> str:
    """Build after an edit; returns the standard output of the build. Raises as `make` does."""
    record = EditRecord.from_json(stamp.document["edits"])
    cache, terminal = Cache(Path(stamp.folder), most=record.most), _terminal(console, mode)
    try:
        return _finish(stamp, record, begun, cache, terminal)
    finally:
        terminal.close()
        cache.close()


def _terminal(console: Console, mode: ProgressMode) -> Terminal:
    live = live_stream(mode if console.verbosity >= 0 else "quiet", sys.stderr, os.environ)
    return Terminal(console.display_info, live, warning=console.display_warning)


def _finish(stamp: Stamp, record: EditRecord, begun: Begun, cache: Cache, terminal: Terminal) -> str:
    asked = stamp.document["asked"]
    outputs = open_outputs(record, asked, begun.pushed, os.environ, terminal, cache.root / UPLOADS)
    made = make(record, begun, cache)
    terminal.repeat(record.message.notes)
    for write in outputs:
        write(made.image)
    document, path = result_document(record, made), record.output.result
    shown, texts = with_made(document, made.layers), {**stamp.document["texts"]}
    if path in texts:
        for each, text in {**texts, path: text_of(shown)}.items():
            replace_text(Path(each), text)
        texts[path] = text_of(document)
    terminal.show(lines_of(record, shown))
    # Only digests of the image are in it.
    output = str(stamp.document["output"]).replace(json.loads(record.output.document)["digest"], made.image.digest)
    after = made.record(record, text_of(document))
    result = Result(
        files=tuple(path for _, path in record.output.outputs if path),
        texts=texts,
        messages=[*terminal.messages, *(("info", line) for line in lines_of(record, document))],
        output=output,
        entries=_entries(stamp, cache, record, after),
    )
    stamp.renew(_asked(asked, record, made), result, after.to_json())
    return output


def _asked(asked: Mapping[str, Any], record: EditRecord, made: Made) -> Asked:
    """The questions of the build, with the answers about the new image. Raises EngineError."""
    outputs = {name for name, _ in record.output.outputs}
    loaded = list(asked["images"]) if "load" in outputs else []
    return replace(
        Asked(**asked),
        pushed=dict.fromkeys(record.output.references, made.image.digest) if "push" in outputs else {},
        images=images_in_engine(loaded, asked["engine"], os.environ),
    )


def _entries(stamp: Stamp, cache: Cache, before: EditRecord, after: EditRecord) -> list[str]:
    """What the image is made of in the cache, without what the edit replaced."""
    replaced = before.digests - after.digests
    used = {*stamp.entries, *cache.used()}
    return sorted(each for each in used if f"sha256:{Path(each).name}" not in replaced)
