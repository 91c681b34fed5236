"""A zoo of hostile locks and requirements files: each is refused, and says where; none blocks or fills the memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hatch_docker.errors import HatchDockerError, LockError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import _local
from hatch_docker.locks.model import read_text, read_toml
from hatch_docker.locks.readers import requirements_lines
from hatch_docker.locks.readers.requirements_file import read_hashed
from hatch_docker.locks.readers.requirements_lines import read_lines
from hatch_docker.support.regular import open_regular, read_regular

HASH = "--hash=sha256:" + "a" * 64


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "directory": (Path.mkdir, "Is a directory"),
    "link": (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file"),
    "terabyte": (huge, "it is larger than 64 MiB"),
}
if hasattr(os, "mkfifo"):
    SPECIAL["pipe"] = (os.mkfifo, "it is not a regular file")


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("read", [read_text, read_toml, read_hashed])
def test_a_lock_is_a_regular_file(name: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    make, reason = SPECIAL[name]
    make(tmp_path / "lock.txt")
    with pytest.raises(LockError, match=reason) as caught:
        read(tmp_path / "lock.txt")
    assert caught.value.place == str(tmp_path / "lock.txt")


@pytest.mark.parametrize("name", SPECIAL)
def test_an_included_file_is_a_regular_file(name: str, tmp_path: Path) -> None:
    make, reason = SPECIAL[name]
    make(tmp_path / "other.txt")
    (tmp_path / "lock.txt").write_text("-r other.txt\n")
    with pytest.raises(LockError, match=reason) as caught:
        read_hashed(tmp_path / "lock.txt")
    assert caught.value.place == str(tmp_path / "other.txt")


@pytest.mark.parametrize("name", sorted(SPECIAL.keys() - {"terabyte"}))
def test_a_locked_file_is_a_regular_file(name: str, tmp_path: Path) -> None:
    make, reason = SPECIAL[name]
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    make(path)
    wheel = Artifact(name="demo", version="1.0", filename=path.name, url=path.as_uri(), hashes={"sha256": "a" * 64})
    with pytest.raises(HatchDockerError, match=reason):
        list(_local(wheel))


def test_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\r\n")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "link", 3) == b"x\r\n"
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"x\r\n"
    with pytest.raises(OSError, match="larger than"):
        read_regular(tmp_path / "a", 2)
    assert read_text(tmp_path / "a") == "x\n"


def chain(folder: Path, count: int, line: str = "-r {}.txt\n") -> Path:
    for number in range(count):
        (folder / f"{number}.txt").write_text(line.format(number + 1))
    (folder / f"{count}.txt").write_text(f"six==1.17.0 {HASH}\n")
    return folder / "0.txt"


def test_files_include_one_another_up_to_a_limit(tmp_path: Path) -> None:
    assert [pin.name for pin in read_hashed(chain(tmp_path, 99)).pins] == ["six"]
    with pytest.raises(LockError, match="more than 100 files include one another") as caught:
        read_hashed(chain(tmp_path, 10_000 if os.environ.get("HATCH_DOCKER_TEST_FUZZ") else 200))
    assert caught.value.place == f"{tmp_path / '99.txt'}:1"


def test_files_that_include_the_next_twice_do_not_double_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements_lines, "_MOST_FILES", 100)
    with pytest.raises(LockError, match="files are included more than 100 times"):
        read_hashed(chain(tmp_path, 60, "-r {0}.txt\n-r {0}.txt\n"))


def test_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r b.txt\n")
    (tmp_path / "b.txt").write_text("-c a.txt\n")
    with pytest.raises(LockError, match="the file includes itself"):
        read_hashed(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "line",
    [
        "six==1.17.0 " + "a " * 20_000,
        "six==1.17.0 " + f"{HASH} " * 20_000,
        "six==1.17.0 '" + "a" * 100_000,
        "-e '" + "a" * 100_000 + "'",
        "six==1.17.0 ; " + "(" * 1_100_000,
    ],
)
def test_lines_for_which_parsers_take_quadratic_time_are_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(f"# first\n{line}\n")
    with pytest.raises(LockError, match="the line is too long") as caught:
        read_hashed(tmp_path / "lock.txt")
    assert caught.value.place == f"{tmp_path / 'lock.txt'}:2"


def test_long_lines_that_need_not_be_parsed_are_read(tmp_path: Path) -> None:
    # Each would take minutes in quadratic time.
    spaces, variables = " " * 500_000, "${NONE}" * 50_000
    (tmp_path / "lock.txt").write_text(f"six{spaces}# {variables}\n#{spaces}x\nidna  # {spaces}\n{'#' * 500_000}\n")
    assert [line.text for line in read_lines(tmp_path / "lock.txt", {"NONE": "x"})] == ["six", "idna"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a # b # c", ["a"]),
        ("a#b", ["a#b"]),
        ("a #b\\\nc", ["a"]),
        ("a \\\n# b\nc", ["a", "c"]),
        (" # a", []),
        ("a\t#b", ["a"]),
    ],
)
def test_comments_end_at_the_line_as_in_pip(text: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(text)
    assert [line.text for line in read_lines(tmp_path / "lock.txt")] == expected


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "{b=" * 100_000,
        "[" + "a." * 100_000,
        "a" + ".a" * 5000 + " = 1\n" + "[" * 9,
    ],
)
def test_deep_toml_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "pylock.toml").write_text(text)
    with pytest.raises(LockError, match="not valid TOML"):
        read_toml(tmp_path / "pylock.toml")
