"""The recorded inputs of a pylock.toml of ours: what is noticed, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.index.sources import Source, Sources
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.inputs import Inputs, changed_inputs, inputs_of, is_ours, recorded_inputs, versions_of
from hatch_docker.oci.spec import Platform
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import replace

TARGET = TargetPython(
    version="3.13.5",
    interpreter="/usr/local/bin/python3.13",
    platform=Platform.parse("linux/amd64"),
    libc=Libc(kind="glibc", version=(2, 41)),
)
LIBRARY = '[project]\nname = "lib"\nversion = "1"\ndependencies = ["idna"]\n'

lines = st.lists(st.text(), unique=True).map(tuple)


@pytest.fixture
def request_(tmp_path: Path) -> InstallRequest:
    """A project `app` beside a directory `lib`."""
    for name in ("app", "lib"):
        (tmp_path / name).mkdir()
    (tmp_path / "lib" / "pyproject.toml").write_text(LIBRARY)
    (tmp_path / "app" / "requirements.txt").write_text("six\n# a comment\n")
    source = Source(name="lib", kind="path", value=str(tmp_path / "lib"), place="tool.uv.sources.lib")
    return InstallRequest(
        project="app",
        target=TARGET,
        root=tmp_path / "app",
        requires_python=">=3.10",
        requirements=(Requirement("idna>=3"), Requirement("lib")),
        sources=Sources(by_name={"lib": (source,)}, tool="tool.uv"),
        index_url="https://index.example/simple",
        requirement_files=(tmp_path / "app" / "requirements.txt",),
    )


def recorded(request: InstallRequest) -> str:
    return inputs_of(request, [request.root.parent / "lib"]).to_toml()


@given(
    st.builds(
        Inputs,
        python=st.text(),
        requires_python=st.text(),
        requirements=lines,
        files=lines,
        sources=lines,
        indexes=lines,
        environment_index=st.text(),
        settings=st.text(),
        directories=st.dictionaries(st.text(), st.text()),
    )
)
def test_a_record_is_read_as_it_was_written(inputs: Inputs) -> None:
    assert recorded_inputs(inputs.to_toml()) == inputs


@given(
    st.text()
    | st.sampled_from(
        ["tool = 1", "[tool]\nhatch-docker = []", "[tool.hatch-docker]\npython = 1", "tool.hatch-docker.x = 1"]
    )
)
def test_texts_of_others_have_no_record(text: str) -> None:
    assert recorded_inputs(text) is None or recorded_inputs(text) == Inputs(python=1)  # type: ignore[arg-type]
    assert versions_of(text) == {} or "packages" in text


def test_nothing_has_changed(request_: InstallRequest) -> None:
    text = recorded(request_)
    assert is_ours(text)
    assert changed_inputs(text, request_) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"requirements": (Requirement("lib"), Requirement("idna>=4"))},
            ["the project requires idna>=4, which is not locked", "the project no longer requires idna>=3"],
        ),
        ({"requires_python": ">=3.12"}, ["requires-python is >=3.12, and was >=3.10"]),
        (
            {"index_url": "https://other.example/simple"},
            ["the indexes are https://other.example/simple, and were https://index.example/simple"],
        ),
        ({"sources": Sources()}, ["the source lib path ../lib is gone"]),
        ({"requirement_files": ()}, ["the project no longer requires six"]),
        ({"target": replace(TARGET, version="3.12.1")}, ["it is for Python 3.13, the image has 3.12"]),
    ],
)
def test_a_change_is_named(request_: InstallRequest, change: dict[str, object], expected: list[str]) -> None:
    assert changed_inputs(recorded(request_), replace(request_, **change)) == expected  # type: ignore[arg-type]


def test_earlier_release_of_python_is_named(request_: InstallRequest) -> None:
    text = 'requires-python = ">=3.13.5"\n' + recorded(request_)
    assert changed_inputs(text, request_) == []
    target = replace(TARGET, version="3.13.2")
    assert changed_inputs(text, replace(request_, target=target)) == ["it is for Python >=3.13.5, the image has 3.13.2"]


def test_index_of_the_environment_is_not_the_projects(request_: InstallRequest) -> None:
    """CI may use a mirror, and name it with a login; a resolution of this machine is made again."""
    mirror = replace(request_, index_url="", environment_index="https://mirror.example/simple")
    for before, after in ((request_, mirror), (mirror, request_)):
        assert changed_inputs(recorded(before), after) == []
        assert changed_inputs(recorded(before), after, here=True) == ["the environment names another index"]
    assert changed_inputs(recorded(mirror), mirror, here=True) == []


def test_slash_after_an_index_makes_no_difference(request_: InstallRequest) -> None:
    assert changed_inputs(recorded(request_), replace(request_, index_url=f"{request_.index_url}/")) == []


def test_included_requirements_files(request_: InstallRequest) -> None:
    included = request_.root / "base.in"
    included.write_text("idna==3.7")
    request = replace(request_, included_files=(included,))
    text = recorded(request)
    included.write_text("idna==3.8")
    assert changed_inputs(text, request) == [
        "the project requires idna==3.8, which is not locked",
        "the project no longer requires idna==3.7",
    ]


def test_another_patch_release_or_platform_changes_nothing(request_: InstallRequest) -> None:
    target = replace(TARGET, version="3.13.9", platform=Platform.parse("linux/arm64"))
    assert changed_inputs(recorded(request_), replace(request_, target=target)) == []


def test_changed_source_and_url(request_: InstallRequest) -> None:
    text = recorded(request_)
    source = Source(name="lib", kind="git", value="https://git.example/lib", reference="tag=v1")
    assert changed_inputs(text, replace(request_, sources=Sources(by_name={"lib": (source,)}))) == [
        "the source lib git https://git.example/lib tag=v1 is new",
        "the source lib path ../lib is gone",
    ]


@pytest.mark.parametrize(
    ("before", "after", "noticed"),
    [
        ("[tool.uv]\noverride-dependencies = ['six<1']", "[tool.uv]\noverride-dependencies = ['six<2']", True),
        ("[tool.uv]\n", "[tool.uv]\nconstraint-dependencies = ['six<2']", True),
        ("[tool.uv.pip]\nindex-url = 'https://a.example'", "[tool.uv.pip]\nindex-url = 'https://b.example'", True),
        ("[tool.uv]\ncache-dir = 'a'", "[tool.uv]\ncache-dir = 'b'\npackage = true", False),
        ("[tool.uv]\nindex-url = 'https://me:old@a.example/'", "[tool.uv]\nindex-url = 'https://a.example/'", False),
    ],
)
def test_settings_of_uv(request_: InstallRequest, before: str, after: str, noticed: bool) -> None:
    file = request_.root / "pyproject.toml"
    file.write_text(before)
    text = recorded(request_)
    file.write_text(after)
    assert changed_inputs(text, request_) == (["the project's settings for uv have changed"] if noticed else [])


def test_requirements_of_a_directory(request_: InstallRequest) -> None:
    file = request_.root.parent / "lib" / "pyproject.toml"
    text = recorded(request_)
    file.write_text(LIBRARY.replace('"1"', '"2"'))
    assert changed_inputs(text, request_) == []
    file.write_text(LIBRARY.replace("idna", "six"))
    assert changed_inputs(text, request_) == ["the requirements of ../lib have changed"]
    file.unlink()
    file.parent.rmdir()
    assert changed_inputs(text, request_) == ["../lib is gone"]


def test_a_requirement_by_path_is_the_same_in_another_checkout(request_: InstallRequest, tmp_path: Path) -> None:
    def in_checkout(root: Path) -> InstallRequest:
        return replace(request_, root=root / "app", requirements=(Requirement(f"lib[x] @ {(root / 'lib').as_uri()}"),))

    other = tmp_path / "other" / "place"
    (other / "app").mkdir(parents=True)
    first, second = (inputs_of(in_checkout(root)).requirements for root in (tmp_path, other))
    assert first == second == ("lib[x] @ ../lib",)


def test_no_login_is_recorded(request_: InstallRequest) -> None:
    source = Source(name="lib", kind="url", value="https://me:hunter2@files.example/lib.whl?token=hunter2")
    request = replace(
        request_,
        requirements=(Requirement("lib @ https://me:hunter2@files.example/lib-1.tar.gz"),),
        sources=Sources(by_name={"lib": (source,)}),
    )
    (request.root / "requirements.txt").write_text("--index-url https://me:hunter2@index.example/\n")
    assert "hunter2" not in recorded(request)
    assert "files.example/lib-1.tar.gz" in recorded(request)


@given(
    st.recursive(st.text() | st.booleans() | st.integers(-(2**53), 2**53), lambda each: st.lists(each), max_leaves=9)
)
def test_inline_values_are_read_as_they_were_written(value: object) -> None:
    assert toml.loads(f"key = {toml.inline(value)}") == {"key": value}
    assert toml.loads(f"key = {toml.inline({'a b': value, 'none': None})}") == {"key": {"a b": value}}
