from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.debian.control import Relation, paragraph, paragraphs, relations
from hatch_docker.errors import DebianError

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True)
# One line without leading or trailing spaces.
LINES = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=12).map(
    lambda line: line.strip(" \t\r")
)
FIELDS = st.dictionaries(NAMES, st.tuples(LINES, st.lists(LINES.filter(bool), max_size=2)), min_size=1, max_size=4)


def one(text: str) -> Relation:
    ((relation,),) = relations(text)
    return relation


def test_empty_lines_separate_paragraphs() -> None:
    text = "\n\nPackage: a\nVersion: 1\n\n \t\n# what follows is b\nPackage: b\n"
    assert [dict(each) for each in paragraphs(text)] == [{"Package": "a", "Version": "1"}, {"Package": "b"}]


def test_field_names_are_case_insensitive() -> None:
    found = paragraph("Multi-Arch: same\nSHA256: 00")
    assert found["multi-arch"] == "same"
    assert "sha256" in found
    assert list(found) == ["Multi-Arch", "SHA256"]
    assert found.get("Depends", "-") == "-"


def test_values_continue_in_lines_that_start_with_a_space() -> None:
    found = paragraph("Description: short\n long\n .\n\tlast  \nTag: \n a,\n# a comment\n b\n")
    assert found["Description"] == "short\nlong\n.\nlast"
    assert found["Tag"] == "\na,\nb"


def test_values_may_have_colons_and_any_character() -> None:
    assert paragraph("Homepage:https://example.org:1/\x0b\x85ö\r\n")["Homepage"] == "https://example.org:1/\x0b\x85ö"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" continued: 1", "line 1 is not a field"),
        ("Package: a\n\n continued", "line 3 is not a field"),
        ("Package: a\nnonsense", "line 2 is not a field of a control file: 'nonsense'"),
        ("-Package: a", "line 1 is not a field"),
        ("Pack age: a", "line 1 is not a field"),
        (": a", "line 1 is not a field"),
        ("Päckage: a", "line 1 is not a field"),
        ("Package: a\nVersion: 1\npackage: b", "line 3 has the field 'package' a second time"),
    ],
)
def test_rejects_invalid_paragraphs_with_the_line(text: str, message: str) -> None:
    with pytest.raises(DebianError, match=message) as error:
        list(paragraphs(text, place="status"))
    assert error.value.place == "status"


@pytest.mark.parametrize("text", ["", "\n \n", "a: 1\n\nb: 2"])
def test_paragraph_expects_exactly_one(text: str) -> None:
    with pytest.raises(DebianError, match="paragraphs instead of one"):
        paragraph(text)


@given(st.lists(FIELDS, max_size=3))
def test_reads_what_was_written(written: list[dict[str, tuple[str, list[str]]]]) -> None:
    distinct = [{name.lower(): each[name] for name in each} for each in written]
    text = "\n".join(
        "".join(f"{name}: {first}\n" + "".join(f" {line}\n" for line in more) for name, (first, more) in each.items())
        for each in distinct
    )
    read = [dict(each) for each in paragraphs(text)]
    assert read == [{name: "\n".join([first, *more]) for name, (first, more) in each.items()} for each in distinct]


@given(st.text(max_size=40))
def test_reads_or_rejects_any_text(text: str) -> None:
    for read in (paragraphs, relations):
        with contextlib.suppress(DebianError):
            list(read(text))


def test_dependency_field() -> None:
    assert relations(
        "libc6 (>= 2.38), debconf (>= 0.5) | debconf-2.0 , python3:any(<<4)\n ,perl:amd64 ( = 5.40.1-6 ),"
    ) == (
        (Relation(name="libc6", operator=">=", version="2.38"),),
        (Relation(name="debconf", operator=">=", version="0.5"), Relation(name="debconf-2.0")),
        (Relation(name="python3", architecture="any", operator="<<", version="4"),),
        (Relation(name="perl", architecture="amd64", operator="=", version="5.40.1-6"),),
    )
    assert relations("") == relations(" , ") == ()


@pytest.mark.parametrize("text", ["libc6 (>= 2.38)", "a", "a:any", "g++-14:amd64 (= 1:2~rc1-1+b1)"])
def test_relation_as_text(text: str) -> None:
    assert str(one(text)) == text


@pytest.mark.parametrize(
    ("relation", "versions"),
    [
        ("a", "1 2~rc1 2 2-1 3"),
        ("a (<< 2)", "1 2~rc1"),
        ("a (<= 2)", "1 2~rc1 2"),
        ("a (= 2)", "2"),
        ("a (>= 2)", "2 2-1 3"),
        ("a (>> 2)", "2-1 3"),
        ("a (< 2)", "1 2~rc1 2"),
        ("a (> 2)", "2 2-1 3"),
    ],
)
def test_relation_allows_versions(relation: str, versions: str) -> None:
    allowed = [version for version in ("1", "2~rc1", "2", "2-1", "3") if one(relation).allows(version)]
    assert allowed == versions.split()


@pytest.mark.parametrize(
    "text", ["a b", "a (2)", "a (=> 2)", "a (>= )", "a (>= 2", "a >= 2", "a [amd64]", "a <!nocheck>", "a | ", "a:", "ä",
             "(>= 2)", "a (>= 2) (<< 3)", "a (>= 2_0)", "a (= 1:)", "a:ANY"],
)  # fmt: skip
def test_rejects_invalid_relations(text: str) -> None:
    with pytest.raises(DebianError, match="is not a"):
        relations(text)
