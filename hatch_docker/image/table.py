"""The tables of the terminal. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import groupby

from hatch_docker.image.bytecode.labels import is_code
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.terminal import human

_SHOWN = 3
_WIDTH = 58


@dataclass(frozen=True, slots=True, kw_only=True)
class Beneath:
    """The base of an image: its display name, the number of its layers, and their compressed size in bytes."""

    name: str
    layers: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A layer above the base, with its sizes in bytes; `reused` says that it was not made."""

    contents: tuple[str, ...]
    size: int
    unpacked: int
    reused: bool


def layer_table(
    base: Beneath, rows: Sequence[Row], *, pruned: str = "", shared: Sequence[tuple[str, Sequence[Row]]] = ()
) -> list[str]:
    """The lines of a table of layers; `shared` are those that each of other platforms has, too, which are one row.

    `pruned` says which files of wheels are left out.
    """
    name = re.sub(r"(?<=@sha256:[0-9a-f]{12})[0-9a-f]{52}", "…", base.name)
    above = _size([*rows, *(each for _, group in shared for each in group)])
    cells = [
        (f"{name} (base, {_layers(base.layers)})", human(base.size), "", ""),
        *((f"{_layers(len(group))} of {platform}", *_sizes(group), "shared") for platform, group in shared),
        *(_cells(list(group)) for _, group in groupby(rows, key=_group)),
        (f"total, {human(above)} above the base", human(base.size + above), "", ""),
    ]
    head, *lines = aligned([("layer", "size", "unpacked", ""), *cells], right=(1, 2))
    return [head, "  " + "─" * (max(map(len, [head, *lines])) - 2), *lines, *([f"  {pruned}"] if pruned else [])]


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count != 1 else ''}"


def _group(row: Row) -> object:
    """What the layers of one row have in common: consecutive layers of bytecode are one row."""
    return "bytecode" if is_code(row.contents) else id(row)


def _cells(group: Sequence[Row]) -> tuple[str, ...]:
    contents = group[0].contents if len(group) == 1 else (f"bytecode of the above ({_layers(len(group))})",)
    reused = sum(row.reused for row in group)
    state = {0: "made", len(group): "reused"}.get(reused, f"{len(group) - reused} made, {reused} reused")
    return shortened(contents), *_sizes(group), state


def _sizes(rows: Sequence[Row]) -> tuple[str, str]:
    return human(_size(rows)), human(sum(row.unpacked for row in rows))


def _size(rows: Sequence[Row]) -> int:
    return sum(row.size for row in rows)


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """The lines of a table, indented; the columns `right` are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def shortened(names: Sequence[str]) -> str:
    """The first of some names, in a width that fits a terminal, and the number of the others."""
    shown = " · ".join(names[:_SHOWN])
    while len(shown) > _WIDTH and "·" in shown:
        shown = shown.rpartition(" · ")[0]
    more = len(names) - shown.count(" · ") - 1
    shown = shown if len(shown) <= _WIDTH else shown[: _WIDTH - 1] + "…"
    return f"{shown} · {more} more" if more else shown
