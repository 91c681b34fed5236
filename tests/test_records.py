"""Wheels whose RECORD is wrong about their files: they are installed as they are, with a warning."""

from __future__ import annotations

import posixpath
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_index import Notes
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from prepared_maker import TARGET, make_prepared
from test_install import COMPLEX, SCRIPTS, SITE
from wheel_maker import Rows, make_wheel, member_info, row

from hatch_docker.errors import WheelError
from hatch_docker.image.layers import LayerMaker, group
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.support.cache import Cache
from hatch_docker.wheels.install import correct_records, installed, lay_out
from hatch_docker.wheels.wheelfile import WheelFile

FILES: dict[str, str | bytes] = {
    "a.py": "one",
    "b.bin": b"\0" * 50_000,
    "demo-1.0.data/scripts/run": "#!python\nx",
    "c.txt": "three",
}


def changed(path: str, **columns: str) -> Callable[[Rows], Rows]:
    """Change columns of one row."""
    return lambda rows: [
        (p, columns.get("hash", h), columns.get("size", s)) if p == path else (p, h, s) for p, h, s in rows
    ]


def layer(folder: Path, notes: Notes, **options: Any) -> MadeLayer:
    """The layer of a wheel."""
    (part,) = group([make_prepared(folder, files=FILES, **options)], 1)
    cache = Cache(folder / "cache")
    (made,) = LayerMaker(target=TARGET, compression="gzip", cache=cache, threads=1, progress=notes).layers([part])
    return made


OTHER = row("x", b"other")[1]
WRONG: dict[str, tuple[Callable[[Rows], Rows], Sequence[str]]] = {
    "another hash": (changed("a.py", hash=OTHER), ["a.py"]),
    "another hash of a file that is not read before": (changed("b.bin", hash=OTHER), ["b.bin"]),
    "another size": (changed("b.bin", size="7"), ["b.bin"]),
    "no hash": (changed("c.txt", hash=""), ["c.txt"]),
    "a weak hash": (changed("c.txt", hash=row("", b"three", "md5")[1]), ["c.txt"]),
    "a size that is no number": (changed("c.txt", size="big"), ["c.txt"]),
    "no row": (lambda rows: [each for each in rows if each[0] != "a.py"], ["a.py"]),
    "two rows that differ": (lambda rows: [*rows, row("a.py", b"x")], ["a.py"]),
    "absolute paths": (lambda rows: [(f"/{path}", *rest) for path, *rest in rows], list(FILES)),  # type: ignore[misc]
    "several": (lambda rows: [*changed("a.py", hash=OTHER)(changed("b.bin", hash=OTHER)(rows))], ["a.py", "b.bin"]),
}
RIGHT: dict[str, Callable[[Rows], Rows]] = {
    "a row without a file": lambda rows: [*rows, row("/etc/passwd", b"")],
    "a row of a directory": lambda rows: [("a/", "", ""), *rows],
    "rows twice": lambda rows: [*rows, *rows],
    "another hash of a script that is rewritten": changed("demo-1.0.data/scripts/run", hash=OTHER),
    "no sizes": lambda rows: [(path, digest, "") for path, digest, _ in rows],
    "a row that is too short": lambda rows: [*rows, ("x", "y")],  # type: ignore[list-item]
    "a row that is too long": lambda rows: [(*each, "") for each in rows],  # type: ignore[misc]
}


@pytest.mark.parametrize(("record", "paths"), WRONG.values(), ids=list(WRONG))
def test_files_are_installed_as_they_are(tmp_path: Path, record: Callable[[Rows], Rows], paths: Sequence[str]) -> None:
    notes = Notes()
    right, wrong = layer(tmp_path / "right", notes), layer(tmp_path / "wrong", notes, record=record)
    assert wrong.layer.diff_id == right.layer.diff_id
    (warning,) = notes.notes
    assert warning.startswith("warning: demo-1.0-py3-none-any.whl has a wrong RECORD for ")
    assert all(path in warning for path in paths)


@pytest.mark.parametrize("record", RIGHT.values(), ids=list(RIGHT))
def test_rows_without_consequence_are_no_news(tmp_path: Path, record: Callable[[Rows], Rows]) -> None:
    notes = Notes()
    right, other = layer(tmp_path / "right", notes), layer(tmp_path / "other", notes, record=record)
    assert other.layer.diff_id == right.layer.diff_id
    assert notes.notes == []


def test_long_lists_are_shortened(tmp_path: Path) -> None:
    notes = Notes()
    files = {f"{number}.py": "" for number in range(9)}
    (part,) = group([make_prepared(tmp_path, files=files, record=lambda rows: rows[-1:])], 1)
    LayerMaker(target=TARGET, compression="gzip", cache=Cache(tmp_path / "c"), threads=1, progress=notes).layers([part])
    assert "for 0.py, 1.py, 2.py, 3.py, 4.py and 6 more:" in notes.notes[0]


def test_damaged_file_is_still_an_error(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files=FILES, record=changed("a.py", hash=OTHER))
    data = bytearray(path.read_bytes())
    place = data.index(b"b.bin") + 20
    data[place] ^= 0xFF
    path.write_bytes(data)
    with WheelFile(path) as wheel, pytest.raises(WheelError, match=r"'b\.bin' is damaged") as caught:
        wheel.correct()
    assert caught.value.place == path.name


def test_conflicts_compare_the_real_content(tmp_path: Path) -> None:
    member = [(member_info("shared.py"), b"x")]
    one, two = (make_prepared(tmp_path / name, name, members=member) for name in ("one", "two"))
    three = make_prepared(tmp_path / "three", "three", members=[(member_info("shared.py"), b"y")])
    path = "app/.venv/lib/python3.13/site-packages/shared.py"
    hashes = [installed(each.facts, TARGET)[path] for each in (one, two, three)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_hashes_of_a_right_record_are_kept(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files=FILES, record=lambda rows: [row("a.py", b"one", "sha512"), *rows[1:]])
    with WheelFile(path) as wheel:
        assert not wheel.doubtful
        assert wheel.correct() == []
        entries = {entry.path: entry for entry in lay_out(wheel, TARGET)}
        record = entries["app/.venv/lib/python3.13/site-packages/demo-1.0.dist-info/RECORD"].read().decode()
    assert ",".join(row("a.py", b"one", "sha512")) in record


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["drop", "hash", "size", "twice", "path"]),
        st.sampled_from([*COMPLEX, "demo-1.0.dist-info/METADATA", "demo-1.0.dist-info/RECORD"]),
    ),
    max_size=6,
)


def broken(rows: Rows, changes: Sequence[tuple[str, str]]) -> Rows:
    for what, path in changes:
        columns = {"hash": {"hash": OTHER}, "size": {"size": "7"}}.get(what, {})
        rows = changed(path, **columns)(rows)
        rows = [each for each in rows if what != "drop" or each[0] != path]
        rows += [row(path, b"other")] if what == "twice" else []
        rows = [(f"./{name}" if what == "path" and name == path else name, *rest) for name, *rest in rows]  # type: ignore[misc]
    return rows


@given(changes=ROWS)
@settings(max_examples=many(60))
def test_layout_does_not_depend_on_mistakes_in_record(tmp_path: Path, changes: Sequence[tuple[str, str]]) -> None:
    laid_out = []
    for record in (lambda rows: rows, lambda rows: broken(rows, changes)):
        with WheelFile(make_wheel(tmp_path, files=COMPLEX, entry_points=SCRIPTS, record=record)) as wheel:
            wheel.correct()
            laid_out.append(
                [(entry.path, entry.mode, entry.checksum, entry.read()) for entry in lay_out(wheel, TARGET)]
            )
    assert laid_out[0] == laid_out[1]


@pytest.mark.network
def test_selenium_4_1_0_is_installed(tmp_path: Path) -> None:
    """Its RECORD has absolute paths."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path), "selenium==4.1.0"]
    subprocess.run(command, check=True)
    (path,) = tmp_path.glob("*.whl")
    notes = Notes()
    with WheelFile(path) as wheel:
        assert correct_records([wheel], notes)
        entries = {entry.path: entry for entry in lay_out(wheel, TARGET)}
    record = f"{SITE}/selenium-4.1.0.dist-info/RECORD"
    rows = [each.split(",") for each in entries.pop(record).read().decode().splitlines()]
    assert {posixpath.normpath(f"{SITE}/{name}") for name, *_ in rows} == {record, *entries}
    assert all(digest for name, digest, _ in rows if not name.endswith("/RECORD"))
    assert "selenium/__init__.py, " in notes.notes[0]
