"""debian.lock: reading, writing, and error messages."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many

from hatch_docker.debian.packages import Package
from hatch_docker.dpkg.lockfile import FILE, PURPOSES, Pins, Selection, find_pins, write_pins
from hatch_docker.errors import LockError
from hatch_docker.support.dataclasses import replace

PACKAGE = Package(
    name="libpq5",
    version="17.6-1",
    architecture="",
    suite="trixie",
    filename="pool/main/p/postgresql-17/libpq5_17.6-1_amd64.deb",
    size=231,
    sha256="ab" * 32,
)
SELECTION = Selection(
    purpose="runtime-packages",
    suite="trixie",
    architecture="amd64",
    requested=("libpq5",),
    packages=(PACKAGE,),
    dated="2026-11-01T08:00:00Z",
)

_names = st.text("abz09+.-", max_size=8).map("x{}".format)
_words = st.text("abz09-", max_size=8).map("x{}".format)
# Printable characters of all kinds, including those that take two escapes in JSON.
_parts = st.text(st.characters(categories=("L", "N", "S"), include_characters=" \"'\\#=~+."), min_size=2, max_size=8)
_packages = st.builds(
    Package,
    name=_names,
    version=st.builds("{}1{}-{}".format, st.sampled_from(["", "2:"]), st.text("a0.+~", max_size=6), st.integers(0, 9)),
    architecture=st.just(""),
    suite=_words,
    filename=st.lists(_parts.filter(lambda part: part != ".."), min_size=1, max_size=3).map("/".join),
    size=st.integers(0, 10**12 - 1),
    sha256=st.integers(0, 2**256 - 1).map("{:064x}".format),
)
_selections = st.builds(
    Selection,
    purpose=st.sampled_from(PURPOSES),
    suite=_words,
    architecture=st.sampled_from(["amd64", "arm64"]),
    requested=st.lists(_names, max_size=3).map(tuple),
    packages=st.lists(_packages, unique_by=lambda each: each.name, max_size=3).map(tuple),
    snapshot=st.just("") | st.dates().map(str),
    dated=st.just("") | st.datetimes().map(lambda time: f"{time.replace(microsecond=0).isoformat()}Z"),
)


def lock(folder: Path, text: str | None = None) -> Path:
    """Write a valid lock file, or one with this text."""
    write_pins(path := folder / FILE, [SELECTION])
    if text is not None:
        path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path) -> LockError:
    with pytest.raises(LockError) as caught:
        find_pins(folder)
    assert caught.value.place == str(folder / FILE)
    assert "hatch-docker lock" in caught.value.hint
    return caught.value


class TestTheFile:
    @settings(max_examples=many(20))
    @given(selections=st.lists(_selections, unique_by=lambda each: (each.purpose, each.architecture), max_size=3))
    def test_round_trip(self, tmp_path_factory: pytest.TempPathFactory, selections: list[Selection]) -> None:
        folder = tmp_path_factory.getbasetemp()
        write_pins(folder / FILE, selections)
        text = (folder / FILE).read_bytes()
        found = find_pins(folder)
        assert found.path == folder / FILE
        assert set(found.selections) == set(selections)
        write_pins(folder / FILE, reversed(found.selections))
        assert (folder / FILE).read_bytes() == text

    def test_is_readable_in_a_diff(self, tmp_path: Path) -> None:
        text = lock(tmp_path).read_text()
        assert text.startswith("# The Debian packages in the image.")
        (line,) = (each for each in text.splitlines() if "libpq5_17" in each)
        assert 'name = "libpq5", version = "17.6-1", suite = "trixie", path = "pool/main/p/' in line

    def test_may_be_missing(self, tmp_path: Path) -> None:
        assert find_pins(tmp_path) == Pins()

    def test_is_unreadable(self, tmp_path: Path) -> None:
        (tmp_path / FILE).mkdir()
        assert "Is a directory" in refusal(tmp_path).message

    def test_is_not_text(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_bytes(b"\xff\xfe")
        assert "it is not UTF-8 text" in refusal(tmp_path).message

    def test_has_a_later_version(self, tmp_path: Path) -> None:
        lock(tmp_path, 'version = 2\nselection = "new"\n')
        error = refusal(tmp_path)
        assert error.message == "it has version 2; this version of hatch-docker reads 1"
        assert error.hint.startswith("update hatch-docker")

    @pytest.mark.parametrize("text", ["", "selection = []", 'version = "1"', "version = [1]"])
    def test_has_no_valid_version(self, tmp_path: Path, text: str) -> None:
        lock(tmp_path, text)
        assert "it has version" in refusal(tmp_path).message

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("]\n", "", "the lock file is invalid: "),
            ('purpose = "runtime-packages"', 'purpose = "fun"', "unknown purpose 'fun'"),
            ('purpose = "runtime-packages"\n', "", "it lacks 'purpose'"),
            ('suite = "trixie"\n', "", "it lacks 'suite'"),
            ('suite = "trixie"\n', 'suite = "../x y"\n', "invalid suite: '../x y'"),
            ('architecture = "amd64"', "architecture = 64", "invalid architecture: '64'"),
            ('roots = ["libpq5"]', 'roots = "libpq5"', "roots is not a list of names"),
            ('roots = ["libpq5"]', "roots = [5]", "roots is not a list of names"),
            ('roots = ["libpq5"]', "", "it lacks 'roots'"),
            ("packages = [", "packages = [5, ", "packages is not a list of tables"),
            ('name = "libpq5"', 'name = "lib/pq5"', "invalid name: 'lib/pq5'"),
            ('name = "libpq5"', "name = {}", "invalid name: '{}'"),
            ('version = "17.6-1"', 'version = "a b"', "'a b'"),
            ("pool/main/", "/pool/main/", "outside of the archive"),
            ("pool/main/", "pool/../../", "outside of the archive"),
            ("pool/main/", "pool\\u0007/", "outside of the archive"),
            ("size = 231", "size = -1", "has an invalid Size: '-1'"),
            ("size = 231", 'size = "many"', "has an invalid Size: 'many'"),
            ("size = 231", "size = 1.5", "has an invalid Size: '1.5'"),
            ("ab" * 32, "ab" * 31, "has an invalid SHA256"),
            ("ab" * 32, "AB" * 32, "has an invalid SHA256"),
            ('dated = "2026-11-01T08:00:00Z"', 'dated = "today"', "dated is not a date: 'today'"),
            ('dated = "2026-11-01T08:00:00Z"', 'dated = "2026-13-01"', "dated is not a date: '2026-13-01'"),
            ('dated = "2026-11-01T08:00:00Z"', "snapshot = 5", "snapshot is not a date: '5'"),
            ("[[selection]]", "[selection]", "selection is not a list of tables"),
        ],
    )
    def test_is_invalid(self, tmp_path: Path, old: str, new: str, expected: str) -> None:
        text = lock(tmp_path).read_text()
        assert old in text
        lock(tmp_path, text.replace(old, new, 1))
        assert expected in refusal(tmp_path).message

    def test_has_duplicates(self, tmp_path: Path) -> None:
        text = lock(tmp_path).read_text()
        lock(tmp_path, text + text[text.index("[[selection]]") :])
        assert "two selections for one purpose and architecture" in refusal(tmp_path).message
        package = re.search(r" *\{ name.*\n", text)
        assert package
        lock(tmp_path, text.replace(package[0], package[0] * 2))
        assert "the selection for 'runtime-packages' has a package twice" in refusal(tmp_path).message

    @settings(max_examples=many(20))
    @given(end=st.integers(0, 700), junk=st.binary(max_size=6))
    def test_reads_or_rejects_damaged_files(
        self, tmp_path_factory: pytest.TempPathFactory, end: int, junk: bytes
    ) -> None:
        folder = tmp_path_factory.getbasetemp()
        data = lock(folder).read_bytes()
        for damaged in (data[:end], data[:end] + junk + data[end + len(junk) :], data[:end] + junk + data[end:]):
            (folder / FILE).write_bytes(damaged)
            with contextlib.suppress(LockError):
                assert all(each.sha256 for selection in find_pins(folder).selections for each in selection.packages)


class TestRequests:
    PINS = Pins(selections=(SELECTION, replace(SELECTION, purpose="base", requested=("a",))), path=Path(FILE))

    def test_match_the_pins(self) -> None:
        assert self.PINS.of("runtime-packages", "trixie", "amd64", ["libpq5"], "") == SELECTION
        assert self.PINS.find("runtime-packages", "amd64") == SELECTION
        assert self.PINS.find("runtime-packages", "arm64") is None

    def test_have_no_pins_without_a_lock(self) -> None:
        assert Pins().of("base", "trixie", "amd64", ["a"], "") is None

    def test_of_a_builder_may_lack_pins(self) -> None:
        assert self.PINS.of("builder", "trixie", "amd64", ["gcc"], "") is None

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            (("runtime-packages", "trixie", "arm64", ["libpq5"], ""), "no packages of arm64 for 'runtime"),
            (("base", "bookworm", "amd64", ["a"], ""), "it is for trixie, not for bookworm"),
            (("base", "trixie", "amd64", ["a"], "2026-11-01"), "for trixie, not for trixie@2026-11-01"),
            (("base", "trixie", "amd64", ["b", "c"], ""), "other packages are requested now: +b +c -a"),
        ],
    )
    def test_do_not_match_the_pins(self, asked: tuple[str, str, str, list[str], str], expected: str) -> None:
        with pytest.raises(LockError, match="the lock is stale, ") as caught:
            self.PINS.of(*asked)
        assert expected in caught.value.message
        assert (caught.value.place, caught.value.hint) == (FILE, "refresh it: hatch-docker lock")
