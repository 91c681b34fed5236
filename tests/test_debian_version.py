from __future__ import annotations

import contextlib
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.debian.version import compare, key
from hatch_docker.errors import DebianError

# Short, and of few characters, so that two of them often differ in one respect only.
PARTS = st.text("019aZ.+~", min_size=1, max_size=6)
EPOCHS = st.sampled_from(["", "0:", "1:", "10:"])
REVISIONS = st.one_of(st.just(""), st.text("019a.+~", min_size=1, max_size=4).map(lambda text: f"-{text}"))
VERSIONS = st.builds(
    lambda epoch, part, hyphen, revision: f"{epoch}0{part}{hyphen if revision else ''}{revision}",
    EPOCHS,
    PARTS,
    st.sampled_from(["", "-", "-1"]),
    REVISIONS,
)


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        # Policy 5.6.12 has this row.
        ("1.0~~", "1.0~~a"),
        ("1.0~~a", "1.0~"),
        ("1.0~", "1.0"),
        ("1.0", "1.0a"),
        ("1.0~beta1~svc1245", "1.0~beta1"),
        ("1.0~rc1", "1.0"),
        # dpkg's own tests (lib/dpkg/t/t-version.c).
        ("0:0-0", "0:0-1"),
        ("0:a-b", "0:b-a"),
        ("0.0-0", "0.0-0a"),
        ("0:0foo-0", "0:1-0"),
        ("0:0a-0", "0:0.-0"),
        ("0:0a-0", "0:0+-0"),
        ("2:1-1", "10:0-0"),
        ("9", "10"),
        ("1.2.3", "1.2.10"),
        ("1.2-9", "1.2-10"),
        ("1:0", "2:0"),
        ("99", "1:0"),
        ("1.2-1~bpo12+1", "1.2-1"),
        ("1.2-1", "1.2-1+b1"),
        ("1.2-1+b1", "1.2-1+deb13u1"),
        ("3.5.4-1~deb13u1", "3.5.4-1~deb13u2"),
        ("1.0", "1.0-1"),
        ("1.2a", "1.2+"),
        ("1.2Z", "1.2a"),
        ("1:1.3.dfsg+really1.3.1-1", "1:1.3.dfsg+really1.3.1-1+b1"),
    ],
)
def test_an_earlier_version_sorts_before_a_later_one(earlier: str, later: str) -> None:
    assert compare(earlier, later) < 0 < compare(later, earlier)
    assert sorted([later, earlier], key=key) == [earlier, later]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0:1.0-1", "1.0-1"),
        ("1.0", "1.0-0"),
        ("1.0", "1.00"),
        ("1.", "1.0"),
        ("1.0-00", "1.0"),
        ("1a", "1a0"),
        ("00:0-0", "0"),
    ],
)
def test_versions_that_are_equal_in_another_spelling(one: str, other: str) -> None:
    assert compare(one, other) == 0
    assert key(one) == key(other)


@pytest.mark.parametrize(
    "text",
    ["", " ", "1 0", "1.0 ", "a:1", ":1", "1:", "1.0-", "-1", "1:-1", "1_0", "1.0-1_1", "٣", "1.0\n", "-1:1",
     "4294967296:1", "1" * 501, "1.0-é"],
)  # fmt: skip
def test_rejects_invalid_versions(text: str) -> None:
    with pytest.raises(DebianError, match="is not a version"):
        key(text)


def test_compares_many_digits_as_a_number() -> None:
    assert compare("1." + "9" * 400, "1.1" + "0" * 400) < 0


@given(VERSIONS, VERSIONS, VERSIONS)
def test_versions_have_a_total_order(a: str, b: str, c: str) -> None:
    assert compare(a, a) == 0
    assert sign(compare(a, b)) == -sign(compare(b, a))
    if compare(a, b) <= 0 and compare(b, c) <= 0:
        assert compare(a, c) <= 0


@given(VERSIONS)
def test_only_a_tilde_sorts_before_the_end(version: str) -> None:
    assert compare(f"{version}~", version) < 0 <= compare(f"{version}+", version)


@given(st.text(max_size=12))
def test_reads_or_rejects_any_text(text: str) -> None:
    with contextlib.suppress(DebianError):
        assert compare(text, text) == 0


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not installed")
@settings(max_examples=12)
@given(st.lists(st.tuples(VERSIONS, VERSIONS), min_size=20, max_size=20))
def test_compares_versions_as_dpkg_does(pairs: list[tuple[str, str]]) -> None:
    question = 'while read a b; do dpkg --compare-versions "$a" lt "$b" && echo -1 && continue;'
    question += ' dpkg --compare-versions "$a" eq "$b" && echo 0 || echo 1; done'
    lines = "".join(f"{a} {b}\n" for a, b in pairs)
    answer = subprocess.run(["sh", "-c", question], input=lines, capture_output=True, text=True, check=True)
    assert {pair: int(line) for pair, line in zip(pairs, answer.stdout.split(), strict=True)} == {
        pair: sign(compare(*pair)) for pair in pairs
    }
