"""The kinds of documents that a registry cache shares: what a document of each looks like, and the blobs that it names.

A kind is here if its cache key covers all that shapes it, wherever it is made, if it is dear to make, and if neither
its key nor its content is about one machine. What changes with each version of the project is not here: its layers are
made faster than a registry takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from hatch_docker.support.dataclasses import dataclass

# The digests that a document names, with the sizes that it says, None if it does not.
_Blobs: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, "int | None"]]


def _none(_document: Mapping[str, Any]) -> Mapping[str, int | None]:
    return {}


def _layer(document: Mapping[str, Any]) -> Mapping[str, int | None]:
    return {str(document["descriptor"].get("digest")): document["descriptor"].get("size")}


def _named(field: str) -> _Blobs:
    return lambda document: {document[field]: None}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of documents. `shape` is a pattern for `fits`: `dict` if who reads the document checks it."""

    shape: object = dict
    blobs: _Blobs = _none


_LAYER = Kind({"descriptor": dict, "diff_id": str, "unpacked": int, "contents": [str]}, _layer)
_PACKAGE = {
    **dict.fromkeys(("name", "version", "architecture", "suite", "filename", "sha256"), str),
    "size": int,
}
_SDIST = {
    **dict.fromkeys(("filename", "name", "version", "root", "backend", "compiled"), str),
    "requires": [str],
    "backend_path": [str],
}
_FILE = {
    **dict.fromkeys(("name", "version", "filename", "url", "reason"), str),
    "hashes": {str: str},
    "size": (int, type(None)),
}
_ARTIFACT = {**_FILE, "index": str, "others": str, "tree": (dict, type(None))}

KINDS: Mapping[str, Kind] = {
    # What is chosen from a lock.
    "choices": Kind({"artifacts": [_ARTIFACT], "record": dict}),
    # Wheels: facts, what is read of their modules and programs, layers of them and of their bytecode.
    "wheels": Kind(),
    "records": Kind(),
    "optional": Kind({"paths": [str]}),
    "programs": Kind({"mode": int, "head": (str, type(None))}),
    "layers": _LAYER,
    # Bases: facts, listings, the interpreter that compiles bytecode, what is removed and added.
    "bases": Kind(),
    "base-files": Kind(),
    "interpreters": Kind({"archive": str}, _named("archive")),
    "pruned-bases": _LAYER,
    "system-layers": _LAYER,
    # Debian's packages, and what was chosen from indexes whose hashes are in the key.
    "debian-selections": Kind({"packages": [_PACKAGE]}),
    "debian-pythons": Kind({"names": [str]}),
    "debian-layers": _LAYER,
    # Compiled wheels: the requirements that they were built with, the wheels, the builder's OS packages.
    "sdists": Kind(_SDIST),
    "plans": Kind({"requirements": [_FILE], "tools": [_FILE]}),
    "compiled": Kind({"filename": str, "digest": str, "packages": [str]}, _named("digest")),
    "impure": Kind(),
    "packages": _LAYER,
}


def fits(value: object, shape: object) -> bool:
    """Whether a JSON value has a shape: a type or several, a list of one shape, a table of types or with these keys."""
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(each, shape[0]) for each in value)
    if not isinstance(shape, Mapping):
        # isinstance takes a boolean for an integer.
        return isinstance(value, shape) and not isinstance(value, bool)  # type: ignore[arg-type]
    if not isinstance(value, dict):
        return False
    if str in shape:
        return all(fits(each, shape[str]) for each in value.values())
    return value.keys() == shape.keys() and all(fits(value[name], each) for name, each in shape.items())
