"""Parse `--output`, in the syntax of buildx: `type=oci,dest=FILE`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hatch_docker.config.values import fail, nearest
from hatch_docker.support.dataclasses import dataclass

STANDARD_OUTPUT = "-"
# Opened by its name, a file that standard output goes to would be written from its beginning twice.
_STREAMS = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One output of a build: its name in OUTPUTS, and the file or folder to write, empty for the default one.

    `dest` may be STANDARD_OUTPUT. `names` are further names of the image.
    """

    output: str
    dest: str = ""
    names: tuple[str, ...] = ()

    @property
    def path(self) -> Path | None:
        """The file or folder to write; None for the default one, or standard output."""
        return Path(self.dest) if self.dest and self.dest != STANDARD_OUTPUT else None


def parse_export(text: str, place: str) -> Export:
    """Parse the value of one option. Raises ConfigError."""
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        fail(place, f"{text!r} is not of the form type=TYPE,KEY=VALUE")
    if "=" not in text:
        fail(place, f"{text!r}: {_NO_FILES}")
    values = {}
    for each in fields:
        key, equals, value = each.partition("=")
        if not equals or not key.strip():
            fail(place, f"{each!r} is not of the form KEY=VALUE")
        values[key.strip().lower()] = value.strip()
    kind = values.pop("type", "")
    if kind in ("local", "tar"):
        fail(place, f"type={kind}: {_NO_FILES}")
    if kind not in _TYPES:
        problem = f"type={kind}" if kind else f"{text!r} has no type"
        fail(place, f"{problem}: the types are {', '.join(_TYPES)}{nearest(kind, _TYPES)}")
    if values.get("dest") in _STREAMS:
        values["dest"] = STANDARD_OUTPUT
    export, known = _TYPES[kind]
    for key in values:
        if key not in known:
            hint = " (set it by --set compression=…)" if key == "compression" else nearest(key, known)
            fail(place, f"type={kind} has no {key}{hint}; it has {', '.join(known)}")
    return export(values, place)


def _oci(values: Mapping[str, str], place: str) -> Export:
    if _flag(values, "tar", place, default=True):
        return Export(output="archive", dest=_dest(values, "type=oci", place), names=_names(values))
    return _layout(values, place, what="type=oci,tar=false")


def _layout(values: Mapping[str, str], place: str, what: str = "type=oci-layout") -> Export:
    dest = _dest(values, what, place, kind="FOLDER")
    if dest == STANDARD_OUTPUT:
        fail(place, f"{what} makes a folder, which cannot be written to standard output")
    return Export(output="oci", dest=dest, names=_names(values))


def _docker(values: Mapping[str, str], _place: str) -> Export:
    dest = values.get("dest", "")
    return Export(output="archive" if dest else "load", dest=dest, names=_names(values))


def _registry(values: Mapping[str, str], _place: str) -> Export:
    return Export(output="push", names=_names(values))


def _image(values: Mapping[str, str], place: str) -> Export:
    if not _flag(values, "push", place, default=False):
        fail(place, "type=image keeps the image nowhere: add push=true, or use type=docker to load it")
    return _registry(values, place)


_NO_FILES = (
    "the files of the image cannot be written to a folder: write the image by type=oci-layout,dest=FOLDER or "
    "type=oci,dest=FILE"
)
_TYPES: Mapping[str, tuple[Callable[[Mapping[str, str], str], Export], Sequence[str]]] = {
    "oci": (_oci, ("dest", "tar", "name")),
    "docker": (_docker, ("dest", "name")),
    "oci-layout": (_layout, ("dest", "name")),
    "registry": (_registry, ("name",)),
    "image": (_image, ("push", "name")),
}


def _dest(values: Mapping[str, str], what: str, place: str, kind: str = "FILE") -> str:
    return values.get("dest") or fail(place, f"{what} needs dest={kind}")


def _flag(values: Mapping[str, str], key: str, place: str, *, default: bool) -> bool:
    text = values.get(key, str(default)).lower()
    if text not in (*_TRUE, *_FALSE):
        fail(place, f"{key}={text}: write true or false")
    return text in _TRUE


def _names(values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in values.get("name", "").split(","))))
