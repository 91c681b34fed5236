"""The live area of a terminal, drawn by `rich`: what runs, with bars, rates and times.

`rich` takes a tenth of a second to import: `terminal` imports this module when there is something to draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hatch_docker.support.steps import Row

_MOST_LINES = 8
# What the terminal echoes for Ctrl-C must not wrap into another line, which would not be cleared.
_ECHO = 3
_GAP = 2
_NESTED = " " * 6
# In columns. On a terminal of 80, the widest text leaves room for all of them.
_BAR = 24
_SHORTEST_BAR = 8
_SIZE, _TIME, _RATE = len("99.9/99.9 MB"), len("00:00 left"), len("99.9 MB/s")


class LiveArea:
    """The area below the last line that was printed. Nothing else may be printed until it is closed.

    Its methods raise OSError and ValueError if the terminal was closed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._rows = _Rows()
        self._live = Live(
            self._rows,
            console=_Console(file=stream, force_jupyter=False),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def show(self, rows: Sequence[Row]) -> None:
        """Draw rows instead of the earlier ones, in the terminal's present size."""
        self._rows.rows = rows
        self._live.start()
        self._live.refresh()

    def close(self) -> None:
        """Clear the area."""
        self._live.stop()


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:
        """Never hide it: who kills or suspends the process would not get it back."""
        return super().show_cursor() if show else False


class _Rows:
    """Rows as lines that fit the terminal."""

    def __init__(self) -> None:
        self.rows: Sequence[Row] = ()
        self._spinners = {False: Spinner("dots", style="cyan"), True: Spinner("line", style="cyan")}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width - _ECHO, 1)
        shown = _fitting(self.rows, max(min(_MOST_LINES, options.size.height - 1), 1))
        spinner = self._spinners[options.ascii_only].render(console.get_time())
        texts = [Text.assemble(*((_NESTED,) if row.nested else ("  ", spinner, " ")), row.text) for row in shown]
        share = 2 if any(row.output or row.portion is not None for row in shown) else 4
        column = min(max((text.cell_len for text in texts), default=0), width * share // 5)
        room = max(width - column - _GAP, 1)
        details = (_counts(row, room) if row.portion is not None else _output(row) for row in shown)
        yield _grid((column, room), zip(texts, details, strict=True))
        if rest := len(self.rows) - len(shown):
            yield Text(f"{_NESTED}and {rest} more", style="dim", no_wrap=True, overflow="crop")


def _fitting(rows: Sequence[Row], most: int) -> list[Row]:
    """The first rows of each step, so that each step is seen, and one line less than `most` if that is not all."""
    groups: list[list[Row]] = []
    for row in rows:
        if row.nested and groups:
            groups[-1].append(row)
        else:
            groups.append([row])
    rest = len(rows)
    while rest > most - (rest < len(rows)):
        longest = max(reversed(groups), key=len)
        longest.pop()
        rest -= 1
    return [row for group in groups for row in group]


def _grid(widths: Sequence[int], rows: Iterable[Sequence[RenderableType]]) -> Table:
    """Columns of fixed widths, and gaps as columns: releases of `rich` differ about the padding of the last one."""
    table = Table.grid()
    for number, width in enumerate(widths):
        if number:
            table.add_column(width=_GAP)
        table.add_column(width=width, no_wrap=True)
    for first, *others in rows:
        table.add_row(first, *chain.from_iterable(("", cell) for cell in others))
    return table


def _output(row: Row) -> Text:
    parts = [(row.time, ""), (row.size, ""), (row.rate, "dim"), (row.output, "dim")]
    return Text(" " * _GAP).join(Text(text, style=style) for text, style in parts if text)


def _counts(row: Row, room: int) -> Table:
    """Bar, size, rate and time left; on a narrow terminal, as many of them as there is room for."""
    cells: dict[str, tuple[int, RenderableType]] = {}
    for name, width, cell in (
        ("size", _SIZE, Text(row.size, justify="right")),
        ("time", _TIME, Text(row.time)),
        ("rate", _RATE, Text(row.rate, style="dim", justify="right")),
        ("bar", _SHORTEST_BAR, ProgressBar(total=1.0, completed=row.portion or 0.0, complete_style="cyan")),
    ):
        if room < width:
            break
        cells[name] = (min(room, _BAR) if name == "bar" else width, cell)
        room -= width + _GAP
    ordered = [cells[name] for name in ("bar", "size", "rate", "time") if name in cells]
    return _grid([width for width, _ in ordered], [[cell for _, cell in ordered]])
