from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from packaging.pylock import PackageVcs
from packaging.requirements import Requirement
from tool_locks import changes_of

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.errors import HatchDockerError, LockError, NoWheelError, ResolveError
from hatch_docker.index.access import FileFinder, NamedIndexes
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.index.client import Index, IndexFile
from hatch_docker.index.settings import discover
from hatch_docker.index.sources import Source, Sources
from hatch_docker.locks import (
    InstallRequest,
    check_complete,
    check_fresh,
    find_lock,
    named_indexes,
    overridden,
    read_lock,
    select,
)
from hatch_docker.locks.commands import uv_platform
from hatch_docker.locks.formats import lock_format
from hatch_docker.locks.model import Overrides, read_toml, recorded
from hatch_docker.locks.readers.pylock import validated
from hatch_docker.locks.uv import find_uv
from hatch_docker.oci.spec import Platform
from hatch_docker.project.model import Project
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.http import Http

HASH = "0" * 64
HOST = "https://files.example"


def target(version: str = "3.13.5", platform: str = "linux/amd64", libc: str = "glibc 2.36") -> TargetPython:
    kind, _, number = libc.partition(" ")
    major, minor = (int(part) for part in number.split("."))
    return TargetPython(
        version=version,
        interpreter="/usr/local/bin/python3",
        platform=Platform.parse(platform),
        libc=Libc(kind=kind, version=(major, minor)),
    )


SLIM = target()
ALPINE = target(libc="musl 1.2")
ALPINE_ARM = target(platform="linux/arm64", libc="musl 1.2")


def wheel(filename: str, **changes: Any) -> dict[str, Any]:
    return {"url": f"{HOST}/{filename}", "hashes": {"sha256": HASH}, "size": 7} | changes


def package(name: str, version: str = "1", tags: Sequence[str] = ("py3-none-any",), **more: Any) -> dict[str, Any]:
    """A package of a pylock with a wheel for each of `tags`."""
    wheels = [wheel(f"{name.replace('-', '_')}-{version}-{tag}.whl") for tag in tags]
    return {"name": name, "version": version} | ({"wheels": wheels} if wheels else {}) | more


def sdist(name: str, version: str = "1") -> dict[str, Any]:
    return {"url": f"{HOST}/{name}-{version}.tar.gz", "hashes": {"sha256": HASH}}


def pylock(*packages: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"lock-version": "1.0", "created-by": "test", "packages": list(packages)} | more


def request_for(to: TargetPython, **more: Any) -> InstallRequest:
    return InstallRequest(project="demo", target=to, **more)


def selected(
    document: Mapping[str, Any],
    to: TargetPython = SLIM,
    *,
    extras: frozenset[str] = frozenset(),
    groups: frozenset[str] = frozenset(),
    **more: Any,
) -> list[Artifact]:
    lock = Path("/src/pylock.toml")
    arguments: dict[str, Any] = {"lock": lock, "refresh": "uv pip compile …"} | more
    return select(validated(document, place=str(lock)), request_for(to, extras=extras, groups=groups), **arguments)


def toml(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'"{key}" = {toml(each)}' for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\u{ord(each):04x}" if not each.isalnum() else each for each in value) + '"'
    return str(value)


def write(path: Path, document: Mapping[str, Any]) -> Path:
    path.write_text("".join(f'"{key}" = {toml(value)}\n' for key, value in document.items()), encoding="utf-8")
    return path


# ---------------------------------------------------------------- find_lock


HASHED = f"six==1.16.0 \\\n    --hash=sha256:{HASH}\n"


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({}, None),
        ({"pylock.docker.toml": "", "pylock.toml": "", "uv.lock": ""}, "pylock.docker.toml"),
        ({"pylock.toml": "", "uv.lock": ""}, "pylock.toml"),
        ({"uv.lock": "", "requirements.txt": HASHED}, "uv.lock"),
        ({"requirements.txt": HASHED, "requirements-docker.txt": HASHED}, "requirements.txt"),
        ({"requirements-docker.txt": HASHED, "requirements-dev.txt": HASHED}, "requirements-docker.txt"),
        ({"requirements_test.txt": HASHED, "requirements.docs.txt": HASHED, "requirements-lint.txt": HASHED}, None),
        ({"requirements.txt": "six==1.16.0\n"}, None),
    ],
)
def test_first_lock_in_order_of_the_formats_is_found(
    tmp_path: Path, present: Mapping[str, str], expected: str | None
) -> None:
    for name, text in present.items():
        (tmp_path / name).write_text(text)
    found = find_lock(tmp_path)
    assert (found.name if found else None) == expected


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("gone.lock")])
def test_lock_that_is_no_file_is_not_passed_over(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """A link into a directory that was not checked out is one."""
    make(tmp_path / "uv.lock")
    with pytest.raises(LockError, match=r"uv\.lock: the lock is (not a file|a link to a file that does not exist)"):
        find_lock(tmp_path)


def test_several_requirements_files_are_an_error(tmp_path: Path) -> None:
    for name in ("requirements-a.txt", "requirements-b.txt"):
        (tmp_path / name).write_text(HASHED)
    with pytest.raises(LockError, match=r"requirements-a.txt, requirements-b.txt(.|\n)*set the key `lock`"):
        find_lock(tmp_path)


def test_configured_lock_must_exist_and_have_a_known_format(tmp_path: Path) -> None:
    (tmp_path / "conda.yml").write_text("")
    with pytest.raises(LockError, match="there is no such lock"):
        find_lock(tmp_path, "pylock.toml")
    with pytest.raises(LockError, match="kind of lock is not known"):
        read_lock(tmp_path / "conda.yml", request_for(SLIM), nothing())


# ---------------------------------------------------------------- selecting


def test_best_wheel_of_each_package_is_selected() -> None:
    tags = (
        "cp313-cp313-manylinux_2_28_x86_64",
        "cp313-cp313-manylinux_2_39_x86_64",
        "cp313-cp313-musllinux_1_2_aarch64",
    )
    document = pylock(package("zed"), package("fast", tags=(*tags, "py3-none-any")))
    assert [artifact.filename for artifact in selected(document)] == [
        "fast-1-cp313-cp313-manylinux_2_28_x86_64.whl",
        "zed-1-py3-none-any.whl",
    ]
    assert [artifact.filename for artifact in selected(document, ALPINE_ARM)] == [
        "fast-1-cp313-cp313-musllinux_1_2_aarch64.whl",
        "zed-1-py3-none-any.whl",
    ]


def test_artifact_has_url_hashes_and_size() -> None:
    (artifact,) = selected(pylock(package("a-b", "1.0")))
    assert artifact == Artifact(
        name="a-b",
        version="1.0",
        filename="a_b-1.0-py3-none-any.whl",
        url=f"{HOST}/a_b-1.0-py3-none-any.whl",
        hashes={"sha256": HASH},
        size=7,
    )
    assert artifact.is_wheel


def test_lock_of_uv_without_packages() -> None:
    # uv before 0.12 writes this for a project without requirements.
    assert selected({"lock-version": "1.0", "created-by": "uv"}) == []
    with pytest.raises(LockError, match="packages"):
        selected({"lock-version": "1.0", "created-by": "pip", "package": [package("a")]})


def test_names_of_groups_are_normalized() -> None:
    document = pylock(*GROUPED, **{"dependency-groups": ["Test"], "default-groups": ["Default"]})
    assert [each.name for each in selected(document, groups=frozenset({"test"}))] == ["always", "own", "tests"]


GROUPED = (
    package("always"),
    package("windows", marker="sys_platform == 'win32'"),
    package("postgres", marker="'pg' in extras"),
    package("tests", marker="'test' in dependency_groups"),
    package("own", marker="'default' in dependency_groups"),
    package("demo"),
)


@pytest.mark.parametrize("listed", [["test"], ["test", "default"]])
def test_markers_extras_groups_and_default_groups_select_packages(listed: list[str]) -> None:
    # The specification recommends the first, PDM writes the second.
    document = pylock(*GROUPED, extras=["pg"], **{"dependency-groups": listed, "default-groups": ["default"]})
    assert [each.name for each in selected(document)] == ["always", "own"]
    more = selected(document, extras=frozenset({"pg"}), groups=frozenset({"test"}))
    assert [each.name for each in more] == ["always", "own", "postgres", "tests"]
    assert selected(document, groups=frozenset({"default"})) == selected(document)
    with pytest.raises(LockError, match="no extra mysql; it has pg"):
        selected(document, extras=frozenset({"mysql"}))
    with pytest.raises(LockError, match="no dependency group lint; it has test, default"):
        selected(document, groups=frozenset({"lint"}))


def test_lock_without_declared_extras_accepts_any() -> None:
    # `uv export --extra pg` writes such a lock, and the readers of uv.lock and requirements.txt return one.
    document = pylock(package("always"))
    assert [each.name for each in selected(document, extras=frozenset({"pg"}), groups=frozenset({"test"}))] == [
        "always"
    ]


def test_lock_that_does_not_cover_the_target_is_an_error() -> None:
    with pytest.raises(LockError, match=r"for Python <3\.13, the image has 3\.13\.5"):
        selected(pylock(package("a"), **{"requires-python": "<3.13"}))
    with pytest.raises(LockError, match=r"it is for sys_platform == .win32."):
        selected(pylock(package("a"), environments=["sys_platform == 'win32'"]))
    with pytest.raises(LockError, match=r"several packages have the same name for CPython 3\.13\.5.*: a \(1 and 2\)"):
        selected(pylock(package("a"), package("a", "2")))


def test_all_packages_without_a_wheel_are_named_with_their_wheels() -> None:
    document = pylock(
        package("fine"),
        package("windows-only", "2", ("cp39-abi3-win_amd64", "cp313-cp313-macosx_11_0_arm64")),
        package("older", "3", ("cp311-cp311-manylinux_2_17_x86_64",)),
        package("source", "3", (), sdist=sdist("source", "3")),
    )
    with pytest.raises(NoWheelError) as caught:
        selected(document, refresh="uv pip compile --python-platform x86_64-manylinux_2_36")
    text = str(caught.value)
    assert "CPython 3.13.5 on linux/amd64 (glibc 2.36)" in text
    assert "windows-only 2 has wheels for cp39-abi3, cp313-cp313 on macosx_11_0_arm64, win_amd64\n" in text
    assert "older 3 has wheels for cp311-cp311 on manylinux_2_17_x86_64\n" in text
    assert "lock for this one: uv pip compile --python-platform x86_64-manylinux_2_36" in text
    assert "fine" not in text.splitlines()[0]
    assert "source" not in text


def test_hint_for_musl_suggests_glibc_if_it_has_wheels() -> None:
    document = pylock(package("fast", tags=("cp313-cp313-manylinux_2_17_aarch64.manylinux2014_aarch64",)))
    with pytest.raises(NoWheelError, match='base = "slim"'):
        selected(document, ALPINE_ARM)


# ---------------------------------------------------------------- selecting sdists


WINDOWS = package("of-windows", tags=("cp313-cp313-win_amd64", "py3-none-any"))


def compiled(*packages: Mapping[str, Any], to: TargetPython = SLIM, **more: Any) -> dict[str, str]:
    """The reasons for compiling, by name."""
    return {each.name: each.reason for each in selected(pylock(*packages), to, **more) if not each.is_wheel}


@pytest.mark.parametrize(
    ("tags", "to", "reason"),
    [
        ([], SLIM, "the lock has only an sdist"),
        (["cp36-abi3-manylinux_2_12_aarch64", "cp37-abi3-win_amd64"], ALPINE_ARM, "no musllinux wheel"),
        (["cp313-cp313-win32", "cp313-cp313-macosx_10_9_universal2"], SLIM, "no manylinux wheel"),
        (["cp313-cp313-musllinux_1_2_x86_64"], ALPINE_ARM, "no musllinux wheel for aarch64"),
        (["cp313-cp313-manylinux2014_i686", "cp313-cp313-musllinux_1_1_x86_64"], SLIM, "no manylinux wheel for x86_64"),
        (["cp313-cp313-manylinux_2_39_x86_64", "cp313-cp313-win32"], SLIM, "no manylinux wheel for glibc 2.36"),
        (["cp312-cp312-manylinux_2_17_x86_64", "cp39-cp39-win32"], SLIM, "no wheel for cp313"),
        (["py2-none-any"], SLIM, "no wheel for cp313"),
        (["cp313-cp313t-manylinux_2_17_x86_64"], SLIM, "no wheel for cp313"),
        (["cp312-cp312-musllinux_1_2_aarch64", "cp313-cp313-win32"], ALPINE_ARM, "no musllinux wheel for cp313"),
        (["cp311-cp311-manylinux_2_17_x86_64"], ALPINE_ARM, "no wheel for cp313 on musllinux aarch64"),
    ],
)
def test_reasons_for_compiling(tags: Sequence[str], to: TargetPython, reason: str) -> None:
    assert compiled(package("ext", tags=tags, sdist=sdist("ext")), WINDOWS, MAC, to=to) == {"ext": reason}


MAC = package("of-mac", tags=("cp313-cp313-macosx_11_0_arm64", "py3-none-any"))
ELSEWHERE = package("ext", tags=("cp313-cp313-manylinux_2_17_x86_64", "cp313-cp313-manylinux1_x86_64"))
EXT = ELSEWHERE | {"sdist": sdist("ext")}


def test_lock_for_another_platform_is_an_error_even_with_sdists() -> None:
    for others in ([], [package("pure")], [package("two", tags=("cp313-cp313-linux_x86_64", "py3-none-any"))]):
        with pytest.raises(NoWheelError) as caught:
            selected(pylock(EXT, *others), ALPINE_ARM, refresh="uv pip compile …")
        assert "ext 1 has wheels for cp313-cp313 on manylinux" in caught.value.message
        assert caught.value.message.endswith(", and an sdist")
        assert caught.value.hint == (
            "the lock may have been made for another platform; lock for this one: uv pip compile …; "
            'or compile it anyway: no-binary = ["ext"]'
        )
    with pytest.raises(
        NoWheelError, match=r"for this one; or use base = \"slim\", for which there are wheels; or compile"
    ):
        selected(pylock(EXT), target(libc="musl 1.2"), refresh="")


def test_wheel_with_two_tags_does_not_make_a_lock_universal() -> None:
    both = package("both", tags=("cp39-abi3-manylinux_2_17_x86_64.musllinux_1_1_x86_64", "py3-none-any"))
    with pytest.raises(NoWheelError):
        selected(pylock(EXT, both), ALPINE_ARM)


def test_exhaustive_lock_allows_compiling() -> None:
    reason = {"ext": "no musllinux wheel"}
    assert compiled(EXT, WINDOWS, to=ALPINE_ARM) == reason
    assert compiled(EXT, to=ALPINE_ARM, complete=True) == reason
    universal = pylock(EXT, tool={"hatch-docker": {"universal": True}})
    assert [each.reason for each in selected(universal, ALPINE_ARM)] == ["no musllinux wheel"]
    source = package("source", tags=(), sdist=sdist("source"))
    assert compiled(source, complete=True) == {"source": "no wheel for cp313 on manylinux x86_64"}
    with pytest.raises(NoWheelError, match="choose versions that have a wheel for this target"):
        selected(pylock(ELSEWHERE), ALPINE_ARM, complete=True)


def test_no_binary_selects_the_sdist() -> None:
    fast, slow = (package(name, sdist=sdist(name)) for name in ("fast", "slow"))
    assert compiled(fast, slow) == {}
    assert compiled(fast, slow, no_binary={"fast", "absent"}) == {"fast": "named in no-binary"}
    assert compiled(fast, slow, no_binary={":all:"}) == dict.fromkeys(("fast", "slow"), "named in no-binary")
    assert compiled(EXT, to=ALPINE_ARM, no_binary={"ext"}) == {"ext": "named in no-binary"}
    (artifact,) = selected(pylock(fast), no_binary={"fast"})
    assert (artifact.filename, artifact.url) == ("fast-1.tar.gz", f"{HOST}/fast-1.tar.gz")


def test_no_binary_without_an_sdist_is_an_error_for_all() -> None:
    by_url = {"name": "by-url", "archive": {"url": f"{HOST}/by_url-1-py3-none-any.whl", "hashes": {"sha256": HASH}}}
    packages = (package("bare", "7.0"), by_url, package("fine", sdist=sdist("fine")), package("demo"))
    with pytest.raises(LockError) as caught:
        selected(pylock(*packages), no_binary={":all:"})
    assert caught.value.message == (
        "bare 7.0 is named in no-binary, and the lock has no sdist of it; "
        "by-url is named in no-binary, and the lock has no sdist of it"
    )
    assert caught.value.place == str(Path("/src/pylock.toml"))
    assert "remove it from no-binary" in caught.value.hint


def archive(name: str, filename: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "archive": {"url": f"{HOST}/{filename}", "hashes": {"sha256": HASH}} | more}


@pytest.mark.parametrize("filename", ["My_App-1.0.tar.gz", "my-app-1.0.zip"])
def test_source_archive_by_url_is_an_sdist(filename: str) -> None:
    (artifact,) = selected(pylock(archive("my-app", filename)))
    assert (artifact.version, artifact.filename) == ("1.0", filename)
    assert artifact.reason == "it is a source archive"


@pytest.mark.parametrize(
    ("filename", "more", "problem"),
    [
        ("v1.0.tar.gz", {}, r"my-app is an archive that is not named as its sdist \(v1\.0\.tar\.gz\)"),
        ("my_app-1.0.tar.bz2", {}, "is an archive that is not named as its sdist"),
        ("my_app-1.0.exe", {}, "is an archive that is not named as its sdist"),
        ("other-1.0.tar.gz", {}, "is an archive that is not named as its sdist"),
        ("mono-1.0.tar.gz", {"subdirectory": "my/app"}, r"is in a subdirectory of an archive \(my/app of mono-1"),
        ("my_app-1.0.tar.gz", {"hashes": {"md5": "0" * 32}}, "has no SHA-2 hash"),
    ],
)
def test_archive_that_is_not_a_hashed_sdist_is_refused(filename: str, more: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(LockError, match=problem):
        selected(pylock(archive("my-app", filename, **more)))


TAGS = ["py3-none-any", "cp313-cp313-manylinux_2_17_x86_64", "cp313-cp313-musllinux_1_2_aarch64", "cp312-cp312-win32"]
HASHES = [
    {"sha256": HASH},
    {"sha512": "F" * 128},
    {"md5": "0" * 32},
    {"sha256": "../x"},
    {"sha256": "0", "sha384": "1" * 96},
]


@given(data=st.data(), to=st.sampled_from([SLIM, ALPINE_ARM]))
@settings(max_examples=many(40))
def test_every_artifact_has_a_hash_and_every_sdist_a_reason(data: st.DataObject, to: TargetPython) -> None:
    def files(name: str) -> dict[str, Any]:
        hashes = st.sampled_from(HASHES)
        wheels = [wheel(f"{name}-1-{tag}.whl", hashes=data.draw(hashes)) for tag in TAGS if data.draw(st.booleans())]
        source = sdist(name) | {"hashes": data.draw(hashes)}
        return {"name": name, "version": "1", "wheels": wheels} | (
            {"sdist": source} if data.draw(st.booleans()) else {}
        )

    packages = [each for each in map(files, ("a", "b", "c")) if each["wheels"] or "sdist" in each]
    no_binary = data.draw(st.frozensets(st.sampled_from(["a", "b", ":all:"])))
    try:
        found = selected(pylock(*packages), to, no_binary=no_binary, complete=data.draw(st.booleans()))
    except HatchDockerError:
        return
    assert [each.name for each in found] == [each["name"] for each in packages]
    for each in found:
        assert each.hashes
        assert all(len(value) >= 64 and value == value.lower() for value in each.hashes.values())
        assert bool(each.reason) == (not each.is_wheel)
        assert not (each.is_wheel and (each.name in no_binary or ":all:" in no_binary))


# ---------------------------------------------------------------- what may be selected


def test_selected_files_need_a_hash() -> None:
    """Some indexes have hashes of some files: only the selected ones need them."""
    bare, other = {"url": f"{HOST}/a-1-py3-none-any.whl"}, {"url": f"{HOST}/b-1-cp313-cp313-win_amd64.whl"}
    b = package("b")
    document = pylock(
        {"name": "a", "version": "1", "wheels": [bare]},
        b | {"wheels": [other, *b["wheels"]], "sdist": {"url": f"{HOST}/b-1.tar.gz"}},
        {"name": "c", "version": "1", "sdist": {"url": f"{HOST}/c-1.tar.gz"}},
    )
    with pytest.raises(LockError) as caught:
        selected(document)
    assert caught.value.message == (
        "a 1 has no SHA-2 hash of a-1-py3-none-any.whl; c 1 has no SHA-2 hash of c-1.tar.gz"
    )
    assert [each.name for each in selected(pylock(*document["packages"][1:2]))] == ["b"]
    weak = package("a") | {"wheels": [wheel("a-1-py3-none-any.whl", hashes={"md5": "0" * 32, "sha256": "../../x"})]}
    with pytest.raises(LockError, match="a 1 has no SHA-2 hash"):
        selected(pylock(weak))


def test_best_wheel_without_a_hash_is_not_replaced_by_another() -> None:
    best = wheel("a-1-cp313-cp313-manylinux_2_17_x86_64.whl")
    del best["hashes"]
    with pytest.raises(LockError, match="no SHA-2 hash of a-1-cp313"):
        selected(pylock({"name": "a", "version": "1", "wheels": [best, wheel("a-1-py3-none-any.whl")]}))


def test_all_strong_hashes_are_kept() -> None:
    hashes = {"sha256": HASH, "sha512": "A" * 128, "md5": "0" * 32}
    (artifact,) = selected(pylock(package("a") | {"wheels": [wheel("a-1-py3-none-any.whl", hashes=hashes)]}))
    assert artifact.hashes == {"sha256": HASH, "sha512": "a" * 128}


def test_files_of_this_machine_are_hashed(tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"content")
    document = pylock({"name": "a", "version": "1", "archive": {"path": "a-1-py3-none-any.whl"}})
    (artifact,) = selected(document, lock=tmp_path / "pylock.toml")
    assert artifact.hashes == {"sha256": hashlib.sha256(b"content").hexdigest()}
    assert artifact.url == (tmp_path / "a-1-py3-none-any.whl").as_uri()
    with pytest.raises(LockError, match=r"a 1 cannot be read from .*gone.*: No such file"):
        selected(document, lock=tmp_path / "gone" / "pylock.toml")


def test_directories_and_commits_are_selected(tmp_path: Path) -> None:
    commit = "0123456789ABCDEF0123456789abcdef01234567"
    vcs = {"type": "git", "commit-id": commit}
    document = pylock(
        {"name": "one", "vcs": vcs | {"url": "https://user:secret@git.example/x", "subdirectory": "lib"}},
        {"name": "two", "version": "1", "vcs": vcs | {"url": "ssh://git@git.example/x"}},
        {"name": "folder", "directory": {"path": "../folder", "editable": True}},
        {"name": "demo", "directory": {"path": "."}},
    )
    found = {each.name: each for each in selected(document, lock=tmp_path / "locks" / "pylock.toml")}
    assert {name: each.tree for name, each in found.items()} == {
        "folder": SourceTree(url=(tmp_path / "folder").as_uri()),
        "one": SourceTree(url="https://git.example/x", commit=commit.lower(), subdirectory="lib"),
        "two": SourceTree(url="ssh://git@git.example/x", commit=commit.lower()),
    }
    assert (found["folder"].version, found["two"].version, found["folder"].filename) == ("", "1", "")


def test_directory_may_be_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    document = pylock({"name": "a", "directory": {"path": "loop"}})
    (artifact,) = selected(document, lock=tmp_path / "pylock.toml")
    assert artifact.tree == SourceTree(url=(tmp_path / "loop").as_uri())


def test_all_sources_that_cannot_be_used_are_refused_together() -> None:
    document = pylock(
        {"name": "git", "vcs": {"type": "git", "url": "https://git.example/x", "commit-id": "main"}},
        {"name": "outside", "vcs": {"type": "git", "url": "x:", "commit-id": COMMIT, "subdirectory": "a/../../b"}},
        {"name": "mercurial", "vcs": {"type": "hg", "url": "https://hg.example/x", "commit-id": "abc"}},
        archive("tar", "tar-1.tar.bz2"),
    )
    with pytest.raises(LockError) as caught:
        selected(document)
    assert caught.value.message == (
        "git comes from Git, without the full hash of a commit ('main'); "
        "outside has a subdirectory that leaves its repository (a/../../b); mercurial comes from a repository of hg; "
        "tar is an archive that is not named as its sdist (tar-1.tar.bz2)"
    )


def test_archive_of_a_repository_is_named_as_an_sdist() -> None:
    (artifact,) = selected(pylock(archive("my-app", "v1.0.zip") | {"version": "1.0"}))
    assert (artifact.filename, artifact.url) == ("my_app-1.0.zip", f"{HOST}/v1.0.zip")


@pytest.mark.parametrize("name", ["uv.lock", "pylock.toml"])
def test_merge_conflicts_are_an_error(tmp_path: Path, name: str) -> None:
    text = "version = 1\n<<<<<<< HEAD\nrevision = 2\n=======\nrevision = 3\n>>>>>>> other\n"
    (tmp_path / name).write_text(text)
    with pytest.raises(LockError, match=r"unresolved merge conflicts, the first in line 2\n  hint: resolve them"):
        read_lock(tmp_path / name, request_for(SLIM), nothing())


def test_wheels_by_url_or_path_are_selected() -> None:
    by_url = {"name": "a", "archive": {"url": f"{HOST}/a-1%2Blocal-py3-none-any.whl", "hashes": {"sha512": "A" * 128}}}
    by_path = package("b") | {"wheels": [{"path": "wheels/b-1-py3-none-any.whl", "hashes": {"sha256": HASH}}]}
    first, second = selected(pylock(by_url, by_path))
    assert (first.version, first.filename, first.hashes) == (
        "1+local",
        "a-1+local-py3-none-any.whl",
        {"sha512": "a" * 128},
    )
    assert second.url == Path("/src/wheels/b-1-py3-none-any.whl").absolute().as_uri()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lock-version = ", "not valid TOML"),
        ('lock-version = "1.0"', "created-by"),
        ('lock-version = "9.0"\ncreated-by = "x"\npackages = []', "9.0 is not supported"),
        ('lock-version = "1.0"\ncreated-by = "x"\npackages = [{name = "A_B"}]', r"packages\[0\]\.name"),
    ],
)
def test_error_for_a_broken_pylock_names_the_key(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "pylock.toml").write_text(text)
    with pytest.raises(LockError, match=problem) as caught:
        read_lock(tmp_path / "pylock.toml", InstallRequest(project="demo", target=SLIM), nothing())
    assert caught.value.place.endswith("pylock.toml")


@pytest.mark.parametrize(
    "package",
    [
        'directory = {path = "a\\u0000b"}',
        'vcs = {type = "git", path = "a\\u0000b", commit-id = "0000"}',
        'archive = {url = "https://[", hashes = {sha256 = "00"}}',
        'archive = {path = "a\\u0000b", hashes = {sha256 = "00"}}',
        'index = "https://["\nsdist = {name = "demo-1.tar.gz", path = "demo-1.tar.gz", hashes = {sha256 = "00"}}',
        'wheels = [{name = "demo-1-py3-none-any.whl", url = "https://[", hashes = {sha256 = "00"}}]',
    ],
)
def test_paths_and_urls_of_a_pylock_are_checked(tmp_path: Path, package: str) -> None:
    lock = tmp_path / "pylock.toml"
    lock.write_text(f'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "demo"\n{package}\n')
    with pytest.raises(
        LockError, match=r"demo has a path or URL that is not valid \('(https://\[|a\\x00b)'\)"
    ) as caught:
        read_lock(lock, InstallRequest(project="x", target=SLIM), nothing())
    assert caught.value.place == str(lock)


def nothing(cache: Path | None = None) -> FileFinder:
    def files(name: str) -> Sequence[IndexFile]:
        raise AssertionError(f"searched the index for {name}")

    return FileFinder(files=files, cache=Cache(cache) if cache else None)


# ---------------------------------------------------------------- freshness


def fresh(*requirements: str, **more: Any) -> None:
    check_fresh(
        selected(pylock(package("six", "1.16.0"), package("pre", "2.0rc1"))),
        request_for(SLIM, requirements=[Requirement(each) for each in requirements]),
        lock=Path("pylock.toml"),
        refresh="uv lock",
        **more,
    )


def test_lock_that_satisfies_the_requirements_is_fresh() -> None:
    fresh("six>=1", "Pre>=2.0b1", "demo[all]", "colorama; sys_platform == 'win32'")
    fresh(f"six @ {HOST}/six-1.16.0-py3-none-any.whl#sha256=0")
    fresh("six>=2", overridden=Overrides(names=frozenset({"six"})))


def test_all_unsatisfied_requirements_are_named() -> None:
    with pytest.raises(LockError) as caught:
        fresh("six>=2", "new-thing", "pre")
    assert "six>=2 (the lock has 1.16.0); new-thing (it is not in the lock)" in caught.value.message
    assert caught.value.hint == "refresh it: uv lock"


def test_login_of_an_unsatisfied_requirement_is_not_shown() -> None:
    with pytest.raises(LockError, match=r"six @ https://files\.example/six-2\.zip") as caught:
        fresh("six @ https://me:s3cret@files.example/six-2.zip?token=s3cret")
    assert "s3cret" not in str(caught.value)


HERE = Path.cwd()
COMMIT = "0" * 40
INDEX = "https://me:s3cret@index.example/simple"


@pytest.mark.parametrize(
    ("package", "source", "requirement", "fits"),
    [
        (package("six"), {}, f"six @ {HOST}/six-1-py3-none-any.whl", True),
        (package("six"), {}, "six @ https://other.example/six-1-py3-none-any.whl", False),
        (package("six"), {}, "six @ git+https://git.example/six", False),
        (package("six"), {}, f"six @ {HERE.as_uri()}", False),
        (package("six"), {"kind": "path", "value": str(HERE)}, "six", False),
        (package("six"), {"kind": "workspace", "value": str(HERE)}, "six>=1", False),
        (package("six"), {"kind": "path", "value": str(HERE), "marker": "sys_platform == 'win32'"}, "six", True),
        (package("six"), {"kind": "path", "value": str(HERE), "extra": "more"}, "six", True),
        (package("six"), {"kind": "index", "value": INDEX}, "six", True),
        (package("six") | {"index": f"{INDEX}/"}, {"kind": "index", "value": INDEX}, "six", True),
        (package("six") | {"index": "https://other.example"}, {"kind": "index", "value": INDEX}, "six", False),
        ({"directory": {"path": str(HERE)}}, {"kind": "index", "value": INDEX}, "six", False),
        ({"directory": {"path": str(HERE)}}, {"kind": "path", "value": f"{HERE}/."}, "six", True),
        ({"directory": {"path": str(HERE / "other")}}, {"kind": "path", "value": str(HERE)}, "six", False),
        ({"directory": {"path": str(HERE)}}, {}, f"six @ {HERE.as_uri()}", True),
        ({"vcs": "https://git.example/six"}, {}, "six @ git+https://me@git.example/six.git@main", True),
        ({"vcs": "https://git.example/six"}, {}, "six @ git+https://git.example/six#subdirectory=a", False),
        ({"vcs": "ssh://git@git.example/six"}, {"kind": "git", "value": "git@git.example:six.git"}, "six", True),
        ({"vcs": "https://git.example/fork"}, {"kind": "git", "value": "https://git.example/six"}, "six", False),
        (package("six"), {"kind": "url", "value": f"{HOST}/six-1-py3-none-any.whl"}, "six", True),
        (package("six"), {"kind": "url", "value": f"{HOST}/six-2-py3-none-any.whl"}, "six", False),
    ],
)
def test_locked_package_must_come_from_where_the_project_says(
    package: Mapping[str, Any], source: Mapping[str, Any], requirement: str, fits: bool
) -> None:
    if "vcs" in package:
        package = {"vcs": {"type": "git", "url": package["vcs"], "commit-id": COMMIT}}
    sources = Sources(by_name={"six": (Source(name="six", **source),)} if source else {})
    request = request_for(SLIM, requirements=[Requirement(requirement)], sources=sources)
    artifacts = selected(pylock({"name": "six"} | dict(package)))
    if fits:
        check_fresh(artifacts, request, lock=Path("pylock.toml"), refresh="")
        return
    with pytest.raises(
        LockError, match=r"the lock is stale, the project requires six.* \(it comes from .*, and the lock"
    ):
        check_fresh(artifacts, request, lock=Path("pylock.toml"), refresh="")


def test_requirements_of_wheels_are_checked() -> None:
    artifacts = selected(pylock(package("web"), package("loop"), package("old", "1"), package("demo")))
    requires = {
        "web": [
            "old>=2",
            "loop; extra == 'standard'",
            "gone; extra == 'standard'",
            "never; extra == 'other'",
            "demo",
            "~",
        ],
        "loop": ["web", "windows; sys_platform == 'win32'"],
    }
    wants = [Requirement("web[Standard]"), Requirement("absent")]
    assert check_complete(artifacts, requires, request_for(SLIM, requirements=wants)) == [
        "the project requires absent: it is not in the lock",
        "web 1 requires old>=2: the lock has 1",
        'web 1 requires gone; extra == "standard": it is not in the lock',
    ]


# ---------------------------------------------------------------- requirements files


def index_file(filename: str, digest: str = HASH, **more: Any) -> IndexFile:
    return IndexFile(filename=filename, url=f"{HOST}/{filename}", hashes={"sha256": digest}, **more)


def serving(**by_name: Sequence[IndexFile]) -> Callable[[str], Sequence[IndexFile]]:
    return lambda name: by_name.get(name, [])


def requirements(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    return path


def test_files_are_found_by_hash(tmp_path: Path) -> None:
    other = "1" * 64
    path = requirements(
        tmp_path,
        f"""#
# This file is autogenerated by pip-compile
--index-url https://index.example/simple
--no-binary=:none:

Six[extra]==1.16.0 ; python_version >= "3" \\
    --hash=sha256:{HASH.upper()} \\
    --hash sha256:{other}
    # via demo
colorama==0.4.6 ; sys_platform == "win32" --hash=sha256:{HASH}
""",
    )
    files = serving(
        six=[
            index_file("six-1.16.0-py2.py3-none-any.whl", size=11),
            index_file("six-1.16.0.tar.gz", other),
            index_file("six-1.16.0-py3-none-any.whl", "2" * 64),
            index_file("other-1.16.0-py3-none-any.whl"),
        ]
    )
    found = read_lock(path, InstallRequest(project="demo", target=SLIM), FileFinder(files=files))
    (only,) = found.packages
    assert [each.filename for each in only.wheels or ()] == ["six-1.16.0-py2.py3-none-any.whl"]
    assert only.sdist
    (artifact,) = select(found, request_for(SLIM), lock=path)
    assert (artifact.url, artifact.size) == (f"{HOST}/six-1.16.0-py2.py3-none-any.whl", 11)
    assert named_indexes(path) == NamedIndexes("https://index.example/simple")


@pytest.mark.parametrize(("late", "compiled"), [((), True), (("ext-1-cp313-cp313-musllinux_1_2_aarch64.whl",), False)])
def test_lock_with_the_hashes_of_all_files_is_universal(tmp_path: Path, late: Sequence[str], compiled: bool) -> None:
    path = requirements(tmp_path, f"ext==1 --hash=sha256:{HASH}\n")
    known = [index_file(name) for name in ("ext-1-cp313-cp313-manylinux_2_17_x86_64.whl", "ext-1.tar.gz")]
    other = [index_file("ext-2.tar.gz", "2" * 64), *(index_file(name, "2" * 64) for name in late)]
    request = InstallRequest(project="demo", target=ALPINE_ARM)
    for finder in (
        FileFinder(files=serving(ext=[*known, *other]), cache=Cache(tmp_path / "c")),
        nothing(cache=tmp_path / "c"),
    ):
        found = read_lock(path, request, finder)
        if compiled:
            assert [each.reason for each in select(found, request_for(ALPINE_ARM), lock=path)] == ["no musllinux wheel"]
        else:
            with pytest.raises(NoWheelError, match="lock for this one: uv pip compile"):
                select(found, request_for(ALPINE_ARM), lock=path, refresh="uv pip compile")


def test_paths_of_included_files_are_relative(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.txt").write_text(f"{HASHED}-r more.txt\n--extra-index-url=https://more.example\n")
    (tmp_path / "sub" / "more.txt").write_text("-c limits.txt\n")
    (tmp_path / "sub" / "limits.txt").write_text("other<3\n")
    path = requirements(tmp_path, "-r sub/base.txt\n")
    files = serving(six=[index_file("six-1.16.0-py3-none-any.whl")])
    assert len(read_lock(path, InstallRequest(project="demo", target=SLIM), FileFinder(files=files)).packages) == 1
    assert named_indexes(path) == NamedIndexes(extra_urls=("https://more.example",))


def test_markers_choose_among_versions_of_a_name(tmp_path: Path) -> None:
    path = requirements(
        tmp_path,
        f"a==1 ; python_version < '3.13' --hash=sha256:{HASH}\na==2 ; python_version >= '3.13' --hash=sha256:{HASH}\n",
    )
    files = serving(a=[index_file("a-1-py3-none-any.whl"), index_file("a-2-py3-none-any.whl")])
    found = read_lock(path, InstallRequest(project="demo", target=SLIM), FileFinder(files=files))
    assert [str(each.version) for each in found.packages] == ["2"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"a>=1 --hash=sha256:{HASH}\nb==1\nc\nd==1\n", r"not pinned with ==: a>=1, c; missing hashes for b, d"),
        (f"{HASHED}six~1\n", "requirements.txt:3: this is not a requirement"),
        ("--frobnicate\n", "no such option: --frobnicate"),
        (f"a==1 --hash=sha256:{HASH}\na==2 --hash=sha256:{HASH}\n", "a is pinned to several versions: 1, 2"),
        (f"{HASHED}a==1 --hash=sha256:{HASH}\n", r"no file with a locked hash of a 1, six 1\.16\.0"),
        ("-r missing.txt\n", "missing.txt: cannot read the lock"),
    ],
)
def test_errors_for_requirements_files(tmp_path: Path, text: str, problem: str) -> None:
    path = requirements(tmp_path, text)
    with pytest.raises(LockError, match=problem):
        read_lock(path, InstallRequest(project="demo", target=SLIM), FileFinder(files=serving()))


def test_error_for_a_missing_file_names_the_indexes(tmp_path: Path) -> None:
    finder = FileFinder(files=serving(six=[]), indexes=lambda: ("https://me:hunter2@index.example/simple",))
    with pytest.raises(LockError, match=r"another index than https://index\.example/simple"):
        read_lock(requirements(tmp_path, HASHED), InstallRequest(project="demo", target=SLIM), finder)


def test_cached_result_needs_no_index_and_has_no_login(tmp_path: Path) -> None:
    path = requirements(tmp_path, HASHED)
    cache = Cache(tmp_path / "cache")
    secret = "https://me:hunter2@index.example/simple"
    file = IndexFile(
        filename="six-1.16.0-py3-none-any.whl",
        url="https://me:hunter2@index.example/six-1.16.0-py3-none-any.whl",
        hashes={"sha256": HASH},
    )
    request = InstallRequest(project="demo", target=SLIM)
    first = read_lock(path, request, FileFinder(files=serving(six=[file]), indexes=lambda: (secret,), cache=cache))
    again = read_lock(path, request, FileFinder(files=nothing().files, indexes=lambda: (secret,), cache=cache))
    assert first == again
    stored = [each.read_text() for each in cache.root.rglob("*") if each.is_file()]
    assert stored
    assert not any("hunter2" in each for each in stored)


# ---------------------------------------------------------------- uv.lock


def uv_package(name: str, version: str, *edges: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "source": {"registry": "https://index.example/simple"},
        "dependencies": list(edges),
        "wheels": [{"url": f"{HOST}/{name}-{version}-py3-none-any.whl", "hash": f"sha256:{HASH}", "size": 5}],
    } | more


def uv_lock(*packages: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "revision": 3, "requires-python": ">=3.10", "package": list(packages)} | more


FORK = [
    uv_package("numpy", "1", **{"resolution-markers": ["python_full_version < '3.12'"]}),
    uv_package("numpy", "2", **{"resolution-markers": ["python_full_version >= '3.12'"]}),
]
ROOT: dict[str, Any] = {"name": "demo", "source": {"editable": "."}}


def uv_selected(path: Path, document: Mapping[str, Any], to: TargetPython = SLIM, **request: Any) -> dict[str, str]:
    write(path / "uv.lock", document)
    found = read_lock(path / "uv.lock", InstallRequest(project="demo", target=to, **request), nothing())
    return {each.name: each.version for each in select(found, request_for(to), lock=path / "uv.lock")}


def test_fork_is_chosen_by_edge_or_resolution_marker(tmp_path: Path) -> None:
    named = ROOT | {
        "dependencies": [
            {"name": "numpy", "version": "1", "marker": "python_full_version < '3.12'"},
            {"name": "numpy", "version": "2", "marker": "python_full_version >= '3.12'"},
        ]
    }
    unnamed = ROOT | {"dependencies": [{"name": "numpy"}]}
    for root in (named, unnamed):
        assert uv_selected(tmp_path, uv_lock(root, *FORK)) == {"numpy": "2"}
        assert uv_selected(tmp_path, uv_lock(root, *FORK), target("3.11.2")) == {"numpy": "1"}


def test_extras_of_dependencies_and_groups_of_the_project_are_followed(tmp_path: Path) -> None:
    root = ROOT | {
        "dependencies": [{"name": "web", "extra": ["fast"]}],
        "optional-dependencies": {"pg": [{"name": "psycopg"}]},
        "dev-dependencies": {"dev": [{"name": "demo", "extra": ["pg"]}, {"name": "ruff"}]},
    }
    web = uv_package("web", "1", {"name": "web", "extra": ["more"]})
    web["optional-dependencies"] = {"fast": [{"name": "loop"}], "more": [{"name": "plus"}], "other": [{"name": "ruff"}]}
    rest = [uv_package(name, "1") for name in ("loop", "plus", "psycopg", "ruff")]
    document = uv_lock(root, web, *rest)
    assert sorted(uv_selected(tmp_path, document)) == ["loop", "plus", "web"]
    assert "psycopg" in uv_selected(tmp_path, document, extras=frozenset({"pg"}))
    assert sorted(uv_selected(tmp_path, document, groups=frozenset({"dev"}))) == [
        "loop",
        "plus",
        "psycopg",
        "ruff",
        "web",
    ]


def test_conflicting_extras(tmp_path: Path) -> None:
    root = ROOT | {
        "dependencies": [{"name": "torch", "version": "1", "marker": "extra != 'extra-4-demo-gpu'"}, {"name": "lib"}],
        "optional-dependencies": {"cpu": [], "gpu": [{"name": "torch", "version": "2"}]},
    }
    lib = uv_package(
        "lib",
        "1",
        {"name": "torch", "version": "1", "marker": "extra == 'extra-4-demo-cpu' or extra != 'extra-4-demo-gpu'"},
        {"name": "torch", "version": "2", "marker": "extra == 'extra-4-demo-gpu'"},
    )
    conflicts = [[{"package": "demo", "extra": "cpu"}, {"package": "demo", "extra": "gpu"}]]
    document = uv_lock(root, lib, uv_package("torch", "1"), uv_package("torch", "2"), conflicts=conflicts)
    assert uv_selected(tmp_path, document) == {"lib": "1", "torch": "1"}
    assert uv_selected(tmp_path, document, extras=frozenset({"gpu"})) == {"lib": "1", "torch": "2"}
    with pytest.raises(LockError, match="extra cpu of demo and extra gpu of demo conflict"):
        uv_selected(tmp_path, document, extras=frozenset({"cpu", "gpu"}))


def test_changes_since_a_uv_lock_was_made(tmp_path: Path) -> None:
    root = ROOT | {
        "dependencies": [{"name": "six"}],
        "metadata": {
            "requires-dist": [
                {"name": "six", "specifier": ">=1.10"},
                {"name": "windows", "marker": "sys_platform == 'win32'"},
                {"name": "extra", "marker": "extra == 'more'"},
            ]
        },
    }
    document = uv_lock(root, uv_package("six", "1.16"))
    assert uv_selected(tmp_path, document, requirements=[Requirement("six >= 1.10")]) == {"six": "1.16"}
    request = request_for(SLIM, root=tmp_path, requirements=[Requirement("six>=1.11"), Requirement("new[a]")])
    assert changes_of(tmp_path / "uv.lock", request) == [
        "requires new[a], which is not locked",
        "requires six>=1.11 instead of six>=1.10",
    ]
    request = replace(request, requirements=[])
    assert changes_of(tmp_path / "uv.lock", request) == ["no longer requires six>=1.10"]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (uv_lock(ROOT) | {"version": 2}, r"version 2 of uv\.lock can be read only by uv, which cannot export it"),
        (uv_lock(), "the lock has no project demo"),
        (uv_lock(ROOT | {"dependencies": [{"name": "gone"}]}), "no package gone"),
        (
            uv_lock(
                ROOT | {"dependencies": [{"name": "six"}]},
                uv_package("six", "1", wheels=[{"url": f"{HOST}/six-1-py3-none-any.whl"}]),
            ),
            r"six 1 has no SHA-2 hash of six-1-py3-none-any\.whl",
        ),
        (
            uv_lock(
                ROOT | {"dependencies": [{"name": "g"}]},
                {"name": "g", "source": {"git": "https://g.example/g?rev=1#abc"}},
            ),
            "g comes from Git, without the full hash of a commit",
        ),
        (uv_lock(ROOT) | {"requires-python": ">=3.14"}, r"for Python >=3\.14"),
        (uv_lock(ROOT | {"dependencies": [{"name": 3}]}), "no package 3"),
        (uv_lock(ROOT | {"dependencies": 3}), "damaged"),
    ],
)
def test_errors_for_uv_locks(tmp_path: Path, document: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(LockError, match=problem):
        uv_selected(tmp_path, document)


def test_lock_of_another_version_needs_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Mapping[str, str]) -> str:
        raise ResolveError("no uv")

    monkeypatch.setattr("hatch_docker.locks.readers.uv_lock.find_uv", missing)
    with pytest.raises(
        LockError, match=r"version 2 of uv\.lock can be read only by uv, which is not installed"
    ) as caught:
        uv_selected(tmp_path, uv_lock(ROOT) | {"version": 2})
    assert caught.value.place == str(tmp_path / "uv.lock")
    assert "uv export" in caught.value.hint


def test_group_for_other_pythons_is_an_error(tmp_path: Path) -> None:
    root = ROOT | {"dev-dependencies": {"dev": [{"name": "six"}]}, "group-requires-python": {"dev": ">=3.13"}}
    document = uv_lock(root, uv_package("six", "1"))
    assert uv_selected(tmp_path, document, groups=frozenset({"dev"})) == {"six": "1"}
    assert uv_selected(tmp_path, document, target("3.12.1")) == {}
    with pytest.raises(LockError, match=r"group dev requires Python >=3\.13, and the image has 3\.12\.1"):
        uv_selected(tmp_path, document, target("3.12.1"), groups=frozenset({"dev"}))


def test_virtual_packages_contribute_their_dependencies(tmp_path: Path) -> None:
    virtual = {"name": "group", "version": "1", "source": {"virtual": "group"}, "dependencies": [{"name": "six"}]}
    document = uv_lock(ROOT | {"dependencies": [{"name": "group"}]}, virtual, uv_package("six", "1"))
    assert uv_selected(tmp_path, document) == {"six": "1"}


def test_commit_of_uv_lock(tmp_path: Path) -> None:
    commit = "0" * 40
    source = f"https://git.example/g.git?subdirectory=a%2Fb&rev=v1#{commit}"
    write(
        tmp_path / "uv.lock",
        uv_lock(ROOT | {"dependencies": [{"name": "g"}]}, {"name": "g", "source": {"git": source}}),
    )
    (package_,) = read_lock(tmp_path / "uv.lock", request_for(SLIM), nothing()).packages
    assert package_.vcs == PackageVcs(
        type="git", url="https://git.example/g.git", requested_revision="v1", commit_id=commit, subdirectory="a/b"
    )
    source = source.replace("rev=v1", "rev=v1&lfs=true")
    with pytest.raises(LockError, match="g comes from Git with lfs = true"):
        uv_selected(
            tmp_path, uv_lock(ROOT | {"dependencies": [{"name": "g"}]}, {"name": "g", "source": {"git": source}})
        )


def test_excluded_names_and_replaced_metadata_are_read(tmp_path: Path) -> None:
    manifest = {"excludes": ["zipp"], "dependency-metadata": [{"name": "six", "version": "1", "requires-dist": []}]}
    document = uv_lock(ROOT | {"dependencies": [{"name": "six"}]}, uv_package("six", "1"), manifest=manifest)
    found = read_lock(write(tmp_path / "uv.lock", document), request_for(SLIM), nothing())
    excepted = overridden(recorded(found))
    assert excepted == Overrides(names=frozenset({"zipp"}), packages=frozenset({"six"}))
    artifacts = select(found, request_for(SLIM), lock=tmp_path / "uv.lock")
    wants = request_for(SLIM, requirements=[Requirement("zipp"), Requirement("six")])
    check_fresh(artifacts, wants, lock=tmp_path / "uv.lock", refresh="", overridden=excepted)
    assert check_complete(artifacts, {"six": ["gone"]}, wants, overridden=excepted) == []
    assert check_complete(artifacts, {"six": ["gone"]}, wants) == [
        "the project requires zipp: it is not in the lock",
        "six 1 requires gone: it is not in the lock",
    ]


def test_own_extras_of_the_project_are_resolved(tmp_path: Path) -> None:
    root = ROOT | {
        "optional-dependencies": {"all": [{"name": "demo", "extra": ["pg"]}], "pg": [{"name": "psycopg"}]},
        "metadata": {
            "requires-dist": [
                {"name": "demo", "extras": ["pg"], "marker": "extra == 'all'"},
                {"name": "psycopg", "marker": "extra == 'pg'"},
            ]
        },
    }
    document = uv_lock(root, uv_package("psycopg", "1"))
    assert uv_selected(tmp_path, document) == {}
    required = [Requirement("psycopg")]
    assert uv_selected(tmp_path, document, requirements=required, extras=frozenset({"all"})) == {"psycopg": "1"}


def test_overridden_names_are_read(tmp_path: Path) -> None:
    document = uv_lock(ROOT, manifest={"overrides": [{"name": "zipp", "specifier": "<4"}]})
    found = read_lock(write(tmp_path / "uv.lock", document), InstallRequest(project="demo", target=SLIM), nothing())
    assert overridden(recorded(found)) == Overrides(names=frozenset({"zipp"}))
    wants = [Requirement("zipp>=99")]
    assert check_complete([], {}, request_for(SLIM, requirements=wants), overridden=overridden(recorded(found))) == []


def test_missing_wheel_in_a_universal_lock_does_not_suggest_to_lock_again(tmp_path: Path) -> None:
    windows = uv_package("w", "1") | {"wheels": [{"url": f"{HOST}/w-1-py3-none-win32.whl", "hash": f"sha256:{HASH}"}]}
    write(tmp_path / "uv.lock", uv_lock(ROOT | {"dependencies": [{"name": "w"}]}, windows))
    found = read_lock(tmp_path / "uv.lock", InstallRequest(project="demo", target=SLIM), nothing())
    with pytest.raises(NoWheelError, match=r"on win32\n  hint: choose versions that have a wheel for this target"):
        select(found, request_for(SLIM), lock=tmp_path / "uv.lock", refresh="uv lock")


def test_universal_lock_gives_the_reason_for_compiling(tmp_path: Path) -> None:
    files = {
        "wheels": [{"url": f"{HOST}/w-1-cp313-cp313-win32.whl", "hash": f"sha256:{HASH}"}],
        "sdist": {"url": f"{HOST}/w-1.tar.gz", "hash": f"sha256:{HASH}"},
    }
    url = f"{HOST}/mono-1.tar.gz?x#y"
    by_url = {
        "name": "u",
        "version": "1",
        "source": {"url": url, "subdirectory": "u"},
        "sdist": {"hash": f"sha256:{HASH}"},
    }
    root = ROOT | {"dependencies": [{"name": "w"}]}
    path = write(tmp_path / "uv.lock", uv_lock(root, uv_package("w", "1") | files))
    found = read_lock(path, InstallRequest(project="demo", target=SLIM), nothing())
    (artifact,) = select(found, request_for(SLIM), lock=path)
    assert (artifact.filename, artifact.reason) == ("w-1.tar.gz", "no manylinux wheel")
    with pytest.raises(LockError, match=r"u 1 is in a subdirectory of an archive \(u of mono-1\.tar\.gz\)"):
        uv_selected(tmp_path, uv_lock(ROOT | {"dependencies": [{"name": "u"}]}, by_url))


def test_wheel_by_url_and_directory_of_wheels(tmp_path: Path) -> None:
    root = ROOT | {"dependencies": [{"name": "a"}, {"name": "b"}]}
    url = f"{HOST}/a-1-py3-none-any.whl"
    by_url = uv_package("a", "1") | {"source": {"url": url}}
    flat = uv_package("b", "1") | {
        "source": {"registry": "wheels"},
        "wheels": [{"path": "b-1-py3-none-any.whl", "hash": f"sha256:{HASH}"}],
    }
    write(tmp_path / "uv.lock", uv_lock(root, by_url, flat))
    found = read_lock(tmp_path / "uv.lock", InstallRequest(project="demo", target=SLIM), nothing())
    first, second = select(found, request_for(SLIM), lock=tmp_path / "uv.lock")
    assert first.url == url
    assert second.url == (tmp_path / "wheels" / "b-1-py3-none-any.whl").as_uri()


# ---------------------------------------------------------------- damaged locks


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def damaged(value: Any, data: st.DataObject) -> Any:
    """The value with one part of it replaced or removed."""
    choice = data.draw(st.integers(0, 9))
    if choice == 0:
        return data.draw(JUNK.filter(lambda junk: "None" not in repr(junk)))
    if isinstance(value, Mapping) and value:
        key = data.draw(st.sampled_from(sorted(value)))
        rest = {each: value[each] for each in value if each != key}
        return rest if choice == 1 else {**value, key: damaged(value[key], data)}
    if isinstance(value, list) and value:
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], damaged(value[place], data), *value[place + 1 :]]
    return data.draw(JUNK.filter(lambda junk: "None" not in repr(junk)))


FUZZ = settings(max_examples=many(30))
VALID_UV = uv_lock(
    ROOT
    | {
        "dependencies": [{"name": "web", "extra": ["fast"], "marker": "sys_platform == 'linux'"}, {"name": "numpy"}],
        "dev-dependencies": {"dev": [{"name": "url"}, {"name": "folder"}, {"name": "commit"}]},
        "metadata": {
            "requires-dist": [{"name": "web", "specifier": ">=0", "extras": ["fast"]}, {"name": "numpy"}],
            "requires-dev": {"dev": [{"name": "url", "url": f"{HOST}/url-1.zip"}]},
        },
    },
    uv_package("web", "1", **{"optional-dependencies": {"fast": [{"name": "numpy"}]}}),
    *FORK,
    {
        "name": "url",
        "version": "1",
        "source": {"url": f"{HOST}/url-1-py3-none-any.whl"},
        "wheels": [{"url": f"{HOST}/url-1-py3-none-any.whl", "hash": f"sha256:{HASH}"}],
    },
    {"name": "folder", "source": {"editable": "folder"}, "metadata": {"requires-dist": [{"name": "six"}]}},
    {"name": "commit", "version": "1", "source": {"git": f"https://git.example/x?rev=v1#{'0' * 40}"}},
    conflicts=[[{"package": "demo", "extra": "a"}]],
    manifest={
        "overrides": [{"name": "six"}],
        "excludes": ["zipp"],
        "dependency-metadata": [{"name": "web", "requires-dist": ["six"]}],
    },
)
VALID_PYLOCK = pylock(
    package("a", marker="sys_platform == 'linux' or 'x' in extras", sdist=sdist("a")),
    {"name": "b", "archive": {"url": f"{HOST}/b-1-py3-none-any.whl", "hashes": {"sha256": HASH}}},
    environments=["sys_platform == 'linux'"],
    **{"requires-python": ">=3.8", "default-groups": ["default"]},
)


def attempt(path: Path, finder: FileFinder) -> None:
    """Read and select; only HatchDockerErrors may be raised."""
    required = [Requirement("web[fast]>=0"), Requirement("numpy"), Requirement("url")]
    request = InstallRequest(project="demo", target=SLIM, requirements=required, groups=frozenset({"dev"}))
    try:
        pylock = read_lock(path, request, finder)
        lock_format(path).changes(path, request, recorded(pylock))
        select(pylock, request_for(SLIM), lock=path)
    except HatchDockerError as error:
        assert str(path) in str(error) or error.place  # noqa: PT017


def test_fuzzed_locks_are_valid_at_first(tmp_path: Path) -> None:
    required = [Requirement("web[fast]>=0"), Requirement("numpy"), Requirement("url")]
    dev = frozenset({"dev"})
    assert uv_selected(tmp_path, VALID_UV, requirements=required, groups=dev) == {
        "commit": "1",
        "folder": "",
        "numpy": "2",
        "url": "1",
        "web": "1",
    }
    assert [each.name for each in selected(VALID_PYLOCK)] == ["a", "b"]


@pytest.mark.parametrize(("name", "valid"), [("uv.lock", VALID_UV), ("pylock.toml", VALID_PYLOCK)])
@given(data=st.data())
@FUZZ
def test_damaged_locks_raise_only_our_errors(
    tmp_path: Path, name: str, valid: Mapping[str, Any], data: st.DataObject
) -> None:
    broken = damaged(valid, data)
    attempt(write(tmp_path / name, broken if isinstance(broken, Mapping) else {"x": broken}), nothing())


LINES = st.lists(
    st.sampled_from(
        [
            "six==1",
            "a",
            ";",
            "python_version<'3'",
            "--hash=sha256:" + HASH,
            "--hash",
            "\\\n",
            "\n",
            "#",
            "-r",
            "-",
            "--",
            "'",
            '"',
            " ",
            "@",
            "[",
            "]",
            "(" * 300,
            "==*",
            "\x00",
            "é",
            "requirements.txt",
            "-c",
            "--index-url=x",
        ]
    ),
    max_size=12,
).map("".join)


@given(text=LINES | st.text(max_size=40))
@FUZZ
def test_any_requirements_file_raises_only_our_errors(tmp_path: Path, text: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    attempt(path, FileFinder(files=serving(six=[index_file("six-1-py3-none-any.whl")])))


# ---------------------------------------------------------------- compared with the real tools


PROJECT = """
[project]
name = "demo"
version = "1"
requires-python = ">=3.11"
dependencies = [
    "uvicorn[standard]>=0.20",
    "requests[socks]; sys_platform == 'linux'",
    "colorama; sys_platform == 'win32'",
    "numpy",
    "numpy<2; python_version < '3.12'",
    "jsonschema",
    "zipp>=99",
]
[project.optional-dependencies]
pg = ["psycopg[binary]"]
all = ["demo[pg]", "rich"]
old = ["attrs==23.1.0"]
new = ["attrs==24.2.0"]
[dependency-groups]
dev = ["iniconfig", {include-group = "lint"}]
lint = ["ruff"]
[tool.uv]
conflicts = [[{extra = "old"}, {extra = "new"}]]
override-dependencies = ["zipp<4"]
"""
TARGETS = (target("3.11.9"), target("3.13.5", libc="glibc 2.41"), ALPINE_ARM, target("3.13.1", libc="musl 1.2"))


def uv(*arguments: str, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        [find_uv(os.environ), *arguments],
        cwd=cwd,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never", **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("locked")
    (root / "pyproject.toml").write_text(PROJECT)
    uv("lock", "-q", cwd=root)
    return root


@pytest.mark.network
@pytest.mark.parametrize(
    ("extras", "groups"), [((), ()), (("pg",), ()), (("all",), ("dev",)), (("old",), ()), (("new",), ("lint",))]
)
def test_uv_lock_selects_what_uv_exports(locked: Path, extras: Sequence[str], groups: Sequence[str]) -> None:
    options = [*(f"--extra={each}" for each in extras), *(f"--group={each}" for each in groups)]
    exported = locked / f"pylock.{'-'.join((*extras, *groups, 'x'))}.toml"
    uv(
        "export",
        "-q",
        "--frozen",
        "--no-emit-project",
        "--no-default-groups",
        "--format=pylock.toml",
        f"-o={exported.name}",
        *options,
        cwd=locked,
    )
    for to in TARGETS:
        request = request_of(locked, to, extras, groups)
        ours = select(read_lock(locked / "uv.lock", request, nothing()), request_for(to), lock=locked)
        theirs = select(read_lock(exported, request, nothing()), request_for(to), lock=locked)
        assert [each.url for each in ours] == [each.url for each in theirs]
        assert [(each.version, each.hashes, each.size) for each in ours] == [
            (each.version, each.hashes, each.size) for each in theirs
        ]
        assert len(ours) > 15


def request_of(root: Path, to: TargetPython, extras: Sequence[str], groups: Sequence[str]) -> InstallRequest:
    """The request for the project at `root` with these extras and groups."""
    document = read_toml(root / "pyproject.toml")
    project = Project(
        root=root,
        name="demo",
        version="1",
        dependencies=document["project"]["dependencies"],
        optional_dependencies=document["project"]["optional-dependencies"],
        dependency_groups=document["dependency-groups"],
    )
    return InstallRequest(
        project="demo",
        target=to,
        requirements=project.requirements(extras, groups),
        extras=frozenset(extras),
        groups=frozenset(groups),
    )


@pytest.mark.network
@pytest.mark.parametrize("to", [SLIM, ALPINE_ARM], ids=str)
def test_hashed_requirements_select_the_wheels_that_uv_locks(tmp_path: Path, to: TargetPython) -> None:
    (tmp_path / "requirements.in").write_text("markupsafe\nhttptools\nclick; python_version > '3'\n")
    options = ("-q", f"--python-platform={uv_platform(to)}", f"--python-version={to.minor}", "--no-emit-index-url")
    compile_ = ("pip", "compile", "requirements.in", *options)
    uv(*compile_, "--generate-hashes", "-o", "requirements.txt", cwd=tmp_path)
    uv(*compile_, "-c", "requirements.txt", "-o", "pylock.toml", cwd=tmp_path)
    index = Index(discover(root=tmp_path, environ=os.environ, home=Path.home()), Http())
    finder = FileFinder(files=index.files, indexes=lambda: index.urls)
    request = InstallRequest(project="demo", target=to)
    ours, theirs = (
        select(read_lock(tmp_path / name, request, finder), request_for(to), lock=tmp_path / name)
        for name in ("requirements.txt", "pylock.toml")
    )
    assert [(each.name, each.version, each.hashes) for each in ours] == [
        (each.name, each.version, each.hashes) for each in theirs
    ]


COMPILED = ("psutil==5.9.8", "pyyaml", "six")


@pytest.mark.network
def test_real_locks_give_the_reason_for_compiling_on_alpine(tmp_path: Path) -> None:
    (tmp_path / "requirements.in").write_text("\n".join(COMPILED))
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "demo"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = {list(COMPILED)}\n'
    )
    platform = f"--python-platform={uv_platform(ALPINE)}"
    glibc = f"--python-platform={uv_platform(SLIM)}"
    compile_ = ("pip", "compile", "-q", "requirements.in", "--python-version=3.13")
    uv(*compile_, platform, "--generate-hashes", "-o", "requirements.txt", cwd=tmp_path)
    uv(*compile_, platform, "-o", "pylock.musl.toml", cwd=tmp_path)
    uv(*compile_, glibc, "-o", "pylock.glibc.toml", cwd=tmp_path)
    uv(*compile_, "--universal", "-o", "pylock.universal.toml", cwd=tmp_path)
    uv("lock", "-q", cwd=tmp_path)
    index = Index(discover(root=tmp_path, environ=os.environ, home=Path.home()), Http())
    finder = FileFinder(files=index.files)
    # Some versions of uv list only the wheels of the platform that they resolve for.
    for name, *reasons in (
        ("requirements.txt", "no musllinux wheel"),
        ("pylock.musl.toml", "the lock has only an sdist", "no musllinux wheel"),
        ("pylock.universal.toml", "no musllinux wheel"),
        ("uv.lock", "no musllinux wheel"),
    ):
        request = InstallRequest(project="demo", target=ALPINE, requirements=[Requirement(each) for each in COMPILED])
        found = select(read_lock(tmp_path / name, request, finder), request_for(ALPINE), lock=tmp_path / name)
        assert [each.name for each in found] == ["psutil", "pyyaml", "six"]
        assert [each.filename for each in found if not each.is_wheel] == ["psutil-5.9.8.tar.gz"]
        assert found[0].reason in reasons
    foreign = tmp_path / "pylock.glibc.toml"
    read = read_lock(foreign, InstallRequest(project="demo", target=ALPINE), finder)
    if "win_amd64" not in foreign.read_text():
        with pytest.raises(NoWheelError, match=r"psutil 5\.9\.8 has wheels for cp36-abi3 on manylinux") as caught:
            select(read, request_for(ALPINE), lock=foreign, refresh="uv lock again")
        assert "lock for this one: uv lock again" in caught.value.hint
    selected = select(read, request_for(ALPINE), lock=foreign, no_binary={"psutil", "pyyaml"})
    assert [each.name for each in selected if not each.is_wheel] == ["psutil", "pyyaml"]


@pytest.mark.network
def test_output_of_pip_compile_is_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.in").write_text("six\nidna==3.10\n")
    subprocess.run(
        [sys.executable, "-m", "piptools", "compile", "-q", "--generate-hashes", "requirements.in"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    found = find_lock(tmp_path)
    assert found is not None
    index = Index(discover(root=tmp_path, environ=os.environ, home=Path.home()), Http())
    read = read_lock(found, InstallRequest(project="demo", target=SLIM), FileFinder(files=index.files))
    artifacts = select(read, request_for(SLIM), lock=found)
    assert [each.name for each in artifacts] == ["idna", "six"]
    request = request_for(SLIM, requirements=[Requirement("idna<4"), Requirement("six")])
    check_fresh(artifacts, request, lock=found, refresh="")


SCOPED = """\
[project]
name = "demo"
version = "1"
requires-python = ">=3.10"
dependencies = ["six"]

[project.optional-dependencies]
fast = ["idna"]

[dependency-groups]
server = ["click"]

[tool.pdm]
distribution = true
"""
# PDM as of a date: it does not always work with its newest dependencies.
PDM = ("tool", "run", "--exclude-newer", "2026-09-01", "pdm")


def uv_locks(root: Path, *_scope: str) -> str:
    uv("lock", "-q", cwd=root)
    return "uv.lock"


def uv_exports(root: Path, *scope: str) -> str:
    uv("export", "-q", "--no-default-groups", "--no-emit-project", "-o=pylock.toml", *scope, cwd=root)
    return "pylock.toml"


def pdm_locks(root: Path, *_scope: str) -> str:
    environ = {"PDM_LOCK_FORMAT": "pylock", "PDM_CHECK_UPDATE": "0"}
    uv(*PDM, "lock", "-q", "-G", ":all", cwd=root, **environ)
    return "pylock.toml"


def uv_compiles(root: Path, *scope: str) -> str:
    uv("pip", "compile", "-q", "--generate-hashes", "-o=requirements.txt", *scope, "pyproject.toml", cwd=root)
    return "requirements.txt"


@pytest.mark.network
@pytest.mark.parametrize("locks", [uv_locks, uv_exports, uv_compiles, pdm_locks])
@pytest.mark.parametrize(
    ("extras", "groups", "expected"),
    [
        ((), (), ["six"]),
        (("fast",), (), ["idna", "six"]),
        ((), ("server",), ["click", "six"]),
        (("fast",), ("server",), ["click", "idna", "six"]),
    ],
)
def test_extras_and_groups_select_from_locks_of_all_tools(
    tmp_path: Path,
    locks: Callable[..., str],
    extras: Sequence[str],
    groups: Sequence[str],
    expected: Sequence[str],
) -> None:
    (tmp_path / "pyproject.toml").write_text(SCOPED)
    lock = tmp_path / locks(tmp_path, *(f"--extra={each}" for each in extras), *(f"--group={each}" for each in groups))
    request = request_of(tmp_path, SLIM, extras, groups)
    index = Index(discover(root=tmp_path, environ=os.environ, home=Path.home()), Http())
    read = read_lock(lock, request, FileFinder(files=index.files))
    selected = select(read, request, lock=lock)
    assert [each.name for each in selected] == expected
