"""Make an image again after an edit, without a plan: its wheel, the layer of that, and its bytecode are patched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from hatch_docker.edits.begin import LARGEST, Begun, UnsafeError
from hatch_docker.edits.image import recorded, restored, with_layers
from hatch_docker.edits.record import EditRecord
from hatch_docker.image.bytecode.known import KnownPython
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Entry, WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer
from hatch_docker.oci.rewriting import absent_parents, read_entries, with_contents
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.streams import digest_of
from hatch_docker.wheels.patch import PatchedWheel, with_row
from hatch_docker.wheels.texts import say_the_same


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A member of the project's wheel before and after an edit; `path` is relative to site-packages."""

    path: str
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The image after an edit, the layers of it that were made, by number, and the digest of the wheel."""

    image: Image
    layers: Mapping[int, MadeLayer]
    wheel: str

    def record(self, earlier: EditRecord, document: str) -> EditRecord:
        """What the stamp records for the next edit; `document` is the text of the result file."""
        return replace(
            earlier,
            wheel=replace(earlier.wheel, digest=self.wheel),
            image=recorded(earlier.image, self.image),
            output=replace(earlier.output, document=document),
        )


def make(record: EditRecord, begun: Begun, cache: Cache) -> Made:
    """Make the image again.

    Raises UnsafeError, HatchDockerError, OSError, ValueError, KeyError and TypeError if a whole build has to be run.
    """
    path = cache.blob(record.wheel.digest)
    if path is None:
        raise UnsafeError
    wheel = PatchedWheel(path.read_bytes(), record.wheel.record)
    changes = [_changed(wheel, member, begun) for member in begun.contents]
    if not all(say_the_same(each.path, each.before, each.after) for each in changes):
        raise UnsafeError
    image = restored(record.image, cache)
    layers = {record.image.own: _own_layer(record, image, changes, cache)}
    data = wheel.replaced(begun.contents)
    digest = digest_of(data)
    cache.add([data], digest, what="the project's wheel")
    if record.image.python is not None:
        layers[record.image.code] = _code_layer(record, image, changes, begun.compiled(), cache)
    if not begun.answered():
        raise UnsafeError
    made = {number: each.layer for number, each in layers.items()}
    return Made(image=with_layers(image, made), layers=layers, wheel=digest)


def _changed(wheel: PatchedWheel, member: str, begun: Begun) -> Changed:
    """A member before and after. Raises UnsafeError if it was not what the file was, or too large to be looked at."""
    before = wheel.read(member)
    if len(before) > LARGEST or hashlib.sha256(before).hexdigest() != begun.earlier[member]:
        raise UnsafeError
    return Changed(path=member, before=before, after=begun.contents[member])


def _own_layer(record: EditRecord, image: Image, changes: list[Changed], cache: Cache) -> MadeLayer:
    """The layer of the wheel."""
    site = record.wheel.site
    entries = read_entries(image.layers[record.image.own])
    contents = {f"{site}/{each.path}": each.after for each in changes}
    for each in changes:
        if entries[f"{site}/{each.path}"].content != each.before:
            raise UnsafeError
    written = with_contents(entries, {**contents, **_record_file(record, entries, changes, {})})
    return _written(record, written, cache, splice=False)


def _code_layer(
    record: EditRecord, image: Image, changes: list[Changed], compiled: Mapping[str, bytes | None], cache: Cache
) -> MadeLayer:
    """The layer of the wheel's bytecode, in which each changed module has some before and after."""
    python = KnownPython.from_json(record.image.python or {})
    site, ending = record.wheel.site, python.ending
    if cache.blob(python.archive) is None:
        # What compiled may have been something else.
        raise UnsafeError
    entries = read_entries(image.layers[record.image.code])
    codes: dict[str, tuple[bytes, bytes]] = {}
    for module, code in compiled.items():
        folder, slash, name = module.rpartition("/")
        path = f"{folder}{slash}__pycache__/{name.removesuffix('.py')}{ending}"
        earlier = entries[f"{site}/{path}"].content
        if code is None or not isinstance(earlier, bytes):
            raise UnsafeError
        codes[path] = (earlier, code)
    contents = {f"{site}/{path}": code for path, (_, code) in codes.items()}
    written = with_contents(entries, {**contents, **_record_file(record, entries, changes, codes)})
    return _written(record, written, cache, splice=True)


def _record_file(
    record: EditRecord, entries: Mapping[str, Entry], changes: list[Changed], codes: Mapping[str, tuple[bytes, bytes]]
) -> dict[str, bytes]:
    """RECORD in a layer, with the rows of what changed."""
    path = f"{record.wheel.site}/{record.wheel.record}"
    text = entries[path].read()
    for each in changes:
        text = with_row(text, each.path, each.before, each.after)
    for name, (before, after) in codes.items():
        text = with_row(text, name, before, after)
    return {path: text}


def _written(record: EditRecord, entries: list[Entry], cache: Cache, *, splice: bool) -> MadeLayer:
    options = WriteOptions(compression=record.image.compression, splice=splice)
    return make_layer(entries, cache, options, contents=(), present=absent_parents(entries))
