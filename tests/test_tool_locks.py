from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from tool_locks import chosen, digest, request_for, serving, target

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.index.client import IndexFile
from hatch_docker.locks import find_lock, named_indexes, read_lock, select
from hatch_docker.locks.formats import LOCK_FORMATS, lock_format
from hatch_docker.locks.model import read_toml
from hatch_docker.locks.readers.by_hash import Hashed, find_by_hash
from hatch_docker.locks.readers.pipfile_lock import pipfile_hash
from hatch_docker.locks.readers.poetry_graph import allows, allows_python
from hatch_docker.support import toml

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def wheel(name: str, version: str) -> dict[str, str]:
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return {"file": filename, "hash": f"sha256:{digest(filename)}"}


def package(name: str, version: str = "1.0", **more: Any) -> dict[str, Any]:
    return {"name": name, "version": version, "files": [wheel(name, version)]} | more


def poetry_package(name: str, version: str = "1.0", **more: Any) -> dict[str, Any]:
    return package(name, version, **({"optional": False, "python-versions": ">=3.8"} | more))


def dump(path: Path, document: Any) -> Path:
    text = json.dumps(document) if path.name == "Pipfile.lock" else as_toml(document)
    path.write_text(text, encoding="utf-8")
    return path


def as_toml(document: dict[str, Any]) -> str:
    return "".join(f"{toml.inline(key)} = {toml.inline(value)}\n" for key, value in document.items())


def poetry_lock(root: Path, *packages: dict[str, Any], version: str = "2.1", **more: Any) -> Path:
    metadata = {"lock-version": version, "python-versions": ">=3.10", "content-hash": ""}
    return dump(root / "poetry.lock", {"package": list(packages), "metadata": metadata} | more)


def pdm_lock(root: Path, *packages: dict[str, Any], **metadata: Any) -> Path:
    common = {"lock_version": "4.5.0", "strategy": ["inherit_metadata"]}
    return dump(root / "pdm.lock", {"metadata": common | metadata, "package": list(packages)})


def pipfile_lock(root: Path, **categories: Any) -> Path:
    meta = {
        "pipfile-spec": 6,
        "requires": {},
        "sources": [
            {"name": "main", "url": "https://${INDEX_USER}@index.example/simple"},
            {"name": "private", "url": "https://private.example/simple"},
        ],
    }
    return dump(root / "Pipfile.lock", {"_meta": meta, "default": {}, "develop": {}} | categories)


def pinned(name: str, version: str = "1.0", **more: Any) -> dict[str, Any]:
    return {"version": f"=={version}", "hashes": [wheel(name, version)["hash"]]} | more


def project(root: Path, text: str) -> None:
    (root / "pyproject.toml").write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- poetry.lock


def test_groups_and_markers_of_poetry_choose(tmp_path: Path) -> None:
    lock = poetry_lock(
        tmp_path,
        poetry_package("a", groups=["main"]),
        poetry_package("b", groups=["main", "dev"], markers={"main": "extra == 'fast'", "dev": "python_version > '3'"}),
        poetry_package("c", groups=["dev"], markers="sys_platform == 'win32'"),
        poetry_package("d", groups=["main"], markers="extra == 'fast' and python_version >= '3.11'"),
        poetry_package("e", groups=["Test_It"]),
        poetry_package("f", "1.0", groups=["main"], markers="python_version < '3.11'"),
        poetry_package("f", "2.0", groups=["main"], markers="python_version >= '3.11'"),
        extras={"fast": ["b", "d"]},
    )
    project(tmp_path, '[tool.poetry.group.dev.dependencies]\nb = "*"\n[tool.poetry.group.empty]\n')
    assert chosen(lock, request_for(tmp_path)) == ["a 1.0", "f 2.0"]
    assert chosen(lock, request_for(tmp_path, ["fast"])) == ["a 1.0", "b 1.0", "d 1.0", "f 2.0"]
    assert chosen(lock, request_for(tmp_path, [], ["dev"])) == ["a 1.0", "b 1.0", "f 2.0"]
    assert chosen(lock, request_for(tmp_path, [], ["test-it", "empty"])) == ["a 1.0", "e 1.0", "f 2.0"]
    with pytest.raises(LockError, match="no dependency group nope; it has dev, empty, test-it"):
        chosen(lock, request_for(tmp_path, [], ["nope"]))


def test_old_locks_of_poetry_are_walked_from_the_project(tmp_path: Path) -> None:
    project(
        tmp_path,
        """
[tool.poetry.dependencies]
python = "^3.10"
Web_App = {version = "^1.0", extras = ["tls"]}
gone = {version = "*", python = "<3.11"}
mac = {version = "*", platform = "darwin"}
fast = {version = "*", optional = true}
forked = [{version = "<2", python = "<3.11"}, {version = ">=2", python = "^3.11"}]
[tool.poetry.extras]
speed = ["fast"]
[tool.poetry.group.docs]
include-groups = ["base"]
[tool.poetry.group.docs.dependencies]
[tool.poetry.group.base.dependencies]
docs = "~1.0"
[tool.poetry.dev-dependencies]
checker = "*"
""",
    )
    lock = poetry_lock(
        tmp_path,
        poetry_package(
            "web-app",
            dependencies={
                "demo": "*",
                "core": ">=1,<3 || >=4",
                "ssl": {"version": "*", "optional": True, "markers": "extra == 'tls'"},
                "old-ssl": {"version": "*", "optional": True},
                "never": {"version": "*", "optional": True, "markers": "extra == 'other'"},
            },
            extras={"tls": ["ssl (>=1)", "Old_ssl"], "other": ["never"]},
        ),
        *(poetry_package(each) for each in ("gone", "mac", "fast", "ssl", "old-ssl", "never", "docs", "checker")),
        poetry_package("core", "3.0"),
        poetry_package("core", "4.0", dependencies={"web-app": "*"}),
        poetry_package("forked", "1.0"),
        poetry_package("forked", "2.0"),
        version="2.0",
        extras={"speed": ["fast"]},
    )
    base = ["core 4.0", "forked 2.0", "old-ssl 1.0", "ssl 1.0", "web-app 1.0"]
    assert chosen(lock, request_for(tmp_path)) == base
    assert chosen(lock, request_for(tmp_path, ["speed"])) == sorted([*base, "fast 1.0"])
    assert chosen(lock, request_for(tmp_path, [], ["docs"])) == sorted([*base, "docs 1.0"])
    assert chosen(lock, request_for(tmp_path, [], ["dev"])) == sorted([*base, "checker 1.0"])
    older = chosen(lock, request_for(tmp_path, to=target("3.10.4")))
    assert {"forked 1.0", "gone 1.0"} <= {*older}
    assert "forked 2.0" not in older


def test_files_of_the_oldest_locks_of_poetry_are_in_one_table(tmp_path: Path) -> None:
    project(tmp_path, '[project]\nname = "demo"\ndependencies = ["a>=1"]\n')
    plain = {"name": "a", "version": "1.0", "category": "main", "optional": False, "python-versions": "*"}
    metadata = {"lock-version": "1.1", "files": {"a": [wheel("a", "1.0"), wheel("a", "2.0")]}}
    lock = poetry_lock(tmp_path, plain, metadata=metadata)
    assert chosen(lock, request_for(tmp_path)) == ["a 1.0"]


def test_a_requirement_that_an_old_lock_lacks_is_stale(tmp_path: Path) -> None:
    project(tmp_path, '[tool.poetry.dependencies]\na = "^2.0"\nnew = "*"\nb = "*"\n')
    lock = poetry_lock(tmp_path, poetry_package("a", "1.0"), poetry_package("b"), version="2.0")
    with pytest.raises(LockError, match=r"stale, the project requires a \^2\.0; new \*, which is not locked") as caught:
        chosen(lock, request_for(tmp_path))
    assert (caught.value.place, caught.value.hint) == (str(lock), "make it again: poetry lock")
    lock = poetry_lock(
        tmp_path,
        poetry_package("a", "2.0"),
        poetry_package("new", dependencies={"gone": "*"}),
        poetry_package("b"),
        version="2.0",
    )
    with pytest.raises(LockError, match=r"lacks packages: gone \*, required by new"):
        chosen(lock, request_for(tmp_path))


def test_versions_that_contradict_each_other_end(tmp_path: Path) -> None:
    """Version 2 of `a` is chosen only if version 1 is, and the other way around."""
    project(tmp_path, '[tool.poetry.dependencies]\na = "*"\n')
    lock = poetry_lock(
        tmp_path,
        poetry_package("a", "1.0"),
        poetry_package("a", "2.0", dependencies={"b": "*"}),
        poetry_package("b", dependencies={"a": "<2"}),
        version="2.0",
    )
    with pytest.raises(LockError, match="contradict each other"):
        chosen(lock, request_for(tmp_path))


def test_sources_of_poetry_become_trees_files_and_indexes(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    local = tmp_path / "local-1.0-py3-none-any.whl"
    local.write_bytes(b"local")
    lock = poetry_lock(
        tmp_path,
        poetry_package("mine", groups=["main"], files=[], source={"type": "directory", "url": "own"}),
        poetry_package(
            "repo",
            groups=["main"],
            files=[],
            source={
                "type": "git",
                "url": "https://git.example/x.git",
                "reference": "main",
                "resolved_reference": COMMIT,
                "subdirectory": "sub",
            },
        ),
        poetry_package(
            "web", groups=["main"], source={"type": "url", "url": "https://files.example/web-1.0-py3-none-any.whl"}
        ),
        poetry_package("local", groups=["main"], files=[], source={"type": "file", "url": local.name}),
        poetry_package(
            "private",
            groups=["main"],
            source={"type": "legacy", "url": "https://private.example/simple", "reference": "private"},
        ),
        poetry_package("public", groups=["main"]),
    )
    asked: list[tuple[str, tuple[str, ...]]] = []
    request = request_for(tmp_path)
    artifacts = {each.name: each for each in select(read_lock(lock, request, serving(lock, asked)), request, lock=lock)}
    assert sorted(asked) == [("private", ("https://private.example/simple",)), ("public", ())]
    assert artifacts["private"].index == "https://private.example/simple"
    assert artifacts["local"].hashes == {"sha256": hashlib.sha256(b"local").hexdigest()}
    assert artifacts["web"].url == "https://files.example/web-1.0-py3-none-any.whl"
    mine, repo = artifacts["mine"].tree, artifacts["repo"].tree
    assert mine is not None
    assert mine.url == (tmp_path / "own").as_uri()
    assert repo is not None
    assert (repo.url, repo.commit, repo.subdirectory) == ("https://git.example/x.git", COMMIT, "sub")


@pytest.mark.parametrize(
    ("constraint", "allowed", "refused"),
    [
        ("*", "0.1 9", ""),
        ("^1.2", "1.2 1.9", "1.1 2.0 2.0a1"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3 0.2.2"),
        ("~1.2", "1.2 1.2.9", "1.3"),
        ("~1", "1.9", "2"),
        (">=1,<2 || >=3", "1 1.9 3", "2"),
        (">= 1, < 2", "1.5", "2"),
        ("1.*", "1.9", "2"),
        ("2.1", "2.1 2.1+cpu 2.1.0", "2.1.1"),
        ("=2.1", "2.1", "2.2"),
        ("!=1.5", "1.4", "1.5"),
    ],
)
def test_constraints_of_poetry(constraint: str, allowed: str, refused: str) -> None:
    assert all(allows(constraint, Version(each)) for each in allowed.split())
    assert not any(allows(constraint, Version(each)) for each in refused.split())


@pytest.mark.parametrize(
    ("constraint", "version", "expected"),
    [("3.11", "3.11.7", True), ("!=3.11", "3.11.7", False), ("^3.10", "3.11.7", True), ("<3.11", "3.11.0rc1", False)],
)
def test_constraints_on_python(constraint: str, version: str, expected: bool) -> None:
    assert allows_python(constraint, version) is expected


# ---------------------------------------------------------------- pdm.lock


PDM_PACKAGES = (
    package("a", groups=["default"], dependencies=["b>=1", "win; sys_platform == 'win32'", "c[x]"]),
    package("b", groups=["default", "dev"]),
    package("c", groups=["default"]),
    package("c", groups=["default"], extras=["x"], dependencies=["c==1.0", "d"]),
    package("d", groups=["default"]),
    package("e", groups=["fast"], marker="python_version < '3.12'"),
    package("win", groups=["default"], marker="sys_platform == 'win32'"),
)


@pytest.mark.parametrize("strategy", [["inherit_metadata"], []])
def test_pdm_chooses_by_groups_or_by_a_walk(tmp_path: Path, strategy: list[str]) -> None:
    project(
        tmp_path,
        '[project]\nname = "demo"\ndependencies = ["a"]\noptional-dependencies = {fast = ["e"]}\n'
        '[dependency-groups]\ndev = ["b"]\n',
    )
    lock = pdm_lock(tmp_path, *PDM_PACKAGES, strategy=strategy, groups=["default", "dev", "fast"])
    assert chosen(lock, request_for(tmp_path)) == ["a 1.0", "b 1.0", "c 1.0", "d 1.0"]
    assert "e 1.0" in chosen(lock, request_for(tmp_path, ["fast"], ["dev"]))
    with pytest.raises(LockError, match="no dependency group docs; it has dev, fast"):
        chosen(lock, request_for(tmp_path, [], ["docs"]))


def test_overrides_and_excludes_of_pdm_count_in_a_walk(tmp_path: Path) -> None:
    project(
        tmp_path,
        '[project]\nname = "demo"\ndependencies = ["a", "b<1"]\n'
        '[tool.pdm.resolution]\nexcludes = ["c"]\noverrides = {b = "1.0"}\n',
    )
    lock = pdm_lock(tmp_path, package("a", dependencies=["b<1", "c"]), package("b"), strategy=[])
    assert chosen(lock, request_for(tmp_path)) == ["a 1.0", "b 1.0"]


def test_sources_of_pdm(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    file = wheel("static", "1.0")
    static = {"url": f"https://files.example/{file['file']}", "hash": file["hash"]}
    lock = pdm_lock(
        tmp_path,
        package("repo", groups=["default"], files=[], git="https://git.example/x.git", ref="main", revision=COMMIT),
        package("mine", groups=["default"], files=[], path="./own", editable=True),
        package("web", groups=["default"], url="https://files.example/web-1.0-py3-none-any.whl"),
        {"name": "static", "version": "1.0", "groups": ["default"], "files": [static]},
    )
    request = request_for(tmp_path)
    artifacts = {each.name: each for each in select(read_lock(lock, request, serving(lock)), request, lock=lock)}
    assert artifacts["static"].url == static["url"]
    assert artifacts["web"].hashes == {"sha256": digest("web-1.0-py3-none-any.whl")}
    repo, mine = artifacts["repo"].tree, artifacts["mine"].tree
    assert repo is not None
    assert mine is not None
    assert (repo.commit, mine.url) == (COMMIT, (tmp_path / "own").as_uri())


@pytest.mark.parametrize(
    ("targets", "covered"),
    [
        ([{"requires_python": ">=3.10"}], True),
        ([{"requires_python": ">=3.12"}], False),
        (
            [{"requires_python": ">=3.10", "platform": "windows"}, {"requires_python": ">=3.10", "platform": "linux"}],
            True,
        ),
        ([{"requires_python": ">=3.10", "platform": "manylinux_2_17_x86_64", "implementation": "cpython"}], True),
        ([{"requires_python": ">=3.10", "platform": "manylinux_2_17_aarch64"}], False),
        ([{"requires_python": ">=3.10", "platform": "alpine"}], False),
        ([{"requires_python": ">=3.10", "platform": "macos_arm64"}], False),
    ],
)
def test_targets_of_pdm_must_cover_the_image(tmp_path: Path, targets: list[dict[str, str]], covered: bool) -> None:
    lock = pdm_lock(tmp_path, package("a", groups=["default"]), targets=targets)
    if covered:
        assert chosen(lock, request_for(tmp_path)) == ["a 1.0"]
    else:
        with pytest.raises(LockError, match="the lock does not cover"):
            chosen(lock, request_for(tmp_path))


def test_files_of_old_locks_of_pdm_are_in_one_table(tmp_path: Path) -> None:
    project(tmp_path, '[project]\nname = "demo"\ndependencies = ["a"]\n')
    plain = {"name": "a", "version": "1.0"}
    lock = dump(
        tmp_path / "pdm.lock",
        {"package": [plain], "metadata": {"lock_version": "4.2", "files": {"a 1.0": [wheel("a", "1.0")]}}},
    )
    assert chosen(lock, request_for(tmp_path)) == ["a 1.0"]


# ---------------------------------------------------------------- Pipfile.lock


def test_categories_of_pipenv_are_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = pipfile_lock(
        tmp_path,
        default={
            "a": pinned("a"),
            "B_x": pinned("b-x", index="private"),
            "win": pinned("win", markers="sys_platform == 'win32'"),
            "demo": {"path": ".", "editable": True},
            "other-name": {"path": "."},
        },
        develop={"a": pinned("a"), "c": pinned("c")},
        docs={"d": pinned("d", index="main")},
        wheels={name: {"file": wheel(name, "1.0")["file"]} for name in ("a", "b-x", "c", "d")},
    )
    asked: list[tuple[str, tuple[str, ...]]] = []
    assert chosen(lock, request_for(tmp_path), serving(lock, asked)) == ["a 1.0", "b-x 1.0"]
    assert sorted(asked) == [("a", ()), ("b-x", ("https://private.example/simple",))]
    for group in ("dev", "develop", "dev-packages"):
        assert chosen(lock, request_for(tmp_path, [], [group])) == ["a 1.0", "b-x 1.0", "c 1.0"]
    assert chosen(lock, request_for(tmp_path, [], ["docs"])) == ["a 1.0", "b-x 1.0", "d 1.0"]
    assert named_indexes(lock).url == "https://${INDEX_USER}@index.example/simple"
    monkeypatch.setenv("INDEX_USER", "me")
    assert named_indexes(lock).url == "https://me@index.example/simple"
    monkeypatch.setenv("INDEX_USER", "a/@b")
    assert named_indexes(lock).url == "https://a%2F%40b@index.example/simple"


def test_index_with_a_malformed_url(tmp_path: Path) -> None:
    """What cannot be parsed has no login to remove."""
    hashed = Hashed(name="a", version=Version("1"), hashes=frozenset(("sha256:0",)), indexes=("https://[index/",))
    name = "a-1-py3-none-any.whl"
    file = IndexFile(filename=name, url=f"https://files.example/{name}", hashes={"sha256": "0"})
    found = find_by_hash([hashed], FileFinder(files_at=lambda _name, _urls: [file], files=lambda _: ()), place="")
    assert found.packages[0]["index"] == "https://[index/"


def test_sources_of_pipenv(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "local-1.0-py3-none-any.whl").write_bytes(b"local")
    known = f"sha256:{hashlib.sha256(b'local').hexdigest()}"
    lock = pipfile_lock(
        tmp_path,
        default={
            "repo": {"git": "https://git.example/x.git", "ref": COMMIT, "subdirectory": "sub"},
            "mine": {"path": "./own", "editable": True},
            "web": {
                "file": "https://files.example/web-1.0-py3-none-any.whl",
                "hashes": [wheel("web", "1.0")["hash"]],
            },
            "local": {"path": "local-1.0-py3-none-any.whl", "hashes": [f"sha256:{'0' * 64}", known]},
        },
    )
    request = request_for(tmp_path)
    artifacts = {each.name: each for each in select(read_lock(lock, request, serving(lock)), request, lock=lock)}
    assert artifacts["local"].hashes == {"sha256": known.removeprefix("sha256:")}
    assert artifacts["web"].version == "1.0"
    repo = artifacts["repo"].tree
    assert repo is not None
    assert (repo.commit, repo.subdirectory) == (COMMIT, "sub")
    (tmp_path / "local-1.0-py3-none-any.whl").write_bytes(b"changed")
    with pytest.raises(LockError, match="not the file that was locked"):
        chosen(lock, request)


def test_packages_that_pipenv_did_not_resolve_must_not_apply(tmp_path: Path) -> None:
    (tmp_path / "Pipfile").write_text('[packages]\nWin = { version = "*", sys_platform = "== \'win32\'" }\n')
    lock = pipfile_lock(tmp_path, default={"a": pinned("a"), "win": {"version": "*"}})
    request = request_for(tmp_path)
    finder = serving(dump(tmp_path / "files.json", {"files": [wheel("a", "1.0")]}))
    assert chosen(lock, request, finder) == ["a 1.0"]
    document = json.loads(lock.read_text())
    document["_meta"]["hash"] = {"sha256": pipfile_hash(read_toml(tmp_path / "Pipfile"), canonical=True)}
    lock.write_text(json.dumps(document))
    assert lock_format(lock).changes(lock, request, {}) == []
    (tmp_path / "Pipfile").unlink()
    with pytest.raises(LockError, match="not pinned: win") as caught:
        chosen(lock, request, finder)
    assert "lock on Linux" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"default": {"a": pinned("a", index="gone")}}, "a comes from the source gone, which the lock does not define"),
        ({"docs": {"a": pinned("a", "2.0")}, "default": {"a": pinned("a")}}, "a is locked differently in two"),
        ({"default": {"a": {"git": "https://git.example/a", "ref": "main"}}}, "the lock has no commit of it"),
        ({"default": {"a": {"version": "==x", "hashes": []}}}, "a: the version '==x' is not valid"),
        ({"default": {"b": {"version": "*"}, "a": {"markers": "python_version > '3'"}}}, "not pinned: a, b"),
        ({"default": {"a": {"version": "==1.0"}, "b": {"version": "==1.0"}}}, "missing hashes for a, b"),
        ({"_meta": {"pipfile-spec": 7}}, "version 7 of Pipfile.lock is not supported, only 6"),
        ({"_meta": {"pipfile-spec": 6, "requires": {"python_version": "3.9"}}}, r"for Python ==3\.9\.\*"),
    ],
)
def test_errors_for_pipfile_locks(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    lock = pipfile_lock(tmp_path, **changes)
    with pytest.raises(LockError, match=problem) as caught:
        chosen(lock, request_for(tmp_path, [], ["docs"]))
    assert caught.value.place == str(lock)


# ---------------------------------------------------------------- freshness


def test_changes_name_the_requirements_that_are_not_locked(tmp_path: Path) -> None:
    project(
        tmp_path,
        '[project]\nname = "demo"\ndependencies = ["a>=2", "b", "x @ https://me:secret@files.example/x.zip"]\n'
        '[dependency-groups]\ndev = ["c", { include-group = "d" }]\n'
        '[tool.poetry.group.lint.dependencies]\nlinter = "^3"\n',
    )
    (tmp_path / "Pipfile").write_text('[[source]]\nurl = "https://index.example"\n[packages]\na = ">=2"\nb = "*"\n')
    differs = "the content hash of {} differs: it requires {}, which is not locked"
    metadata = {"lock-version": "2.1", "content-hash": "0"}
    poetry = poetry_lock(tmp_path, poetry_package("a"), poetry_package("b"), metadata=metadata)
    request = request_for(tmp_path)
    assert lock_format(poetry).changes(poetry, request, {}) == [differs.format("pyproject.toml", "a>=2; c; linter ^3")]
    pdm = pdm_lock(tmp_path, package("a"), package("b"), content_hash="sha256:0")
    assert lock_format(pdm).changes(pdm, request, {}) == [differs.format("pyproject.toml", "a>=2; c")]
    meta = {"pipfile-spec": 6, "hash": {"sha256": "0"}}
    pipfile = pipfile_lock(tmp_path, _meta=meta, default={"a": pinned("a"), "b": pinned("b")})
    assert lock_format(pipfile).changes(pipfile, request, {}) == [differs.format("Pipfile", "a>=2")]
    (tmp_path / "Pipfile").write_text('[packages]\na = "*"\n')
    assert lock_format(pipfile).changes(pipfile, request, {}) == []


def test_each_tool_has_its_command(tmp_path: Path) -> None:
    commands = {"poetry.lock": "poetry lock", "pdm.lock": "pdm lock", "Pipfile.lock": "pipenv lock"}
    request = request_for(tmp_path)
    assert {name: lock_format(tmp_path / name).refresh(tmp_path / name, request) for name in commands} == commands


def test_command_of_pdm_adds_the_groups_that_the_lock_lacks(tmp_path: Path) -> None:
    lock = pdm_lock(tmp_path, groups=["default", "dev", "A_b"])
    kind = lock_format(lock)
    # PDM keeps the groups of the lock. If some are named, it keeps no others.
    assert kind.refresh(lock, request_for(tmp_path, ["a-b"])) == "pdm lock"
    assert kind.refresh(lock, request_for(tmp_path, ["slow"], ["lint"])) == "pdm lock -G a-b,dev,lint,slow"
    lock.write_text("[")
    assert kind.refresh(lock, request_for(tmp_path, ["slow"])) == "pdm lock"


# ---------------------------------------------------------------- all of them


def locks(root: Path) -> dict[str, Callable[[], Path]]:
    return {
        "poetry.lock": lambda: poetry_lock(root, poetry_package("a", groups=["main"])),
        "pdm.lock": lambda: pdm_lock(root, package("a", groups=["default"])),
        "Pipfile.lock": lambda: pipfile_lock(root, default={"a": pinned("a")}),
    }


def test_locks_are_found_after_uvs_and_before_requirements(tmp_path: Path) -> None:
    names = [each.name for each in LOCK_FORMATS]
    assert names.index("uv.lock") < names.index("poetry.lock") < names.index("requirements.txt")
    for name, make in locks(tmp_path).items():
        lock = make()
        assert find_lock(tmp_path) == lock
        assert lock_format(lock).name == name
        lock.unlink()


@pytest.mark.parametrize(
    ("name", "version", "hint"),
    [
        ("poetry.lock", {"metadata": {"lock-version": "3.0"}}, "poetry export"),
        ("pdm.lock", {"metadata": {"lock_version": "5.0"}}, "pdm export -f pylock"),
        ("Pipfile.lock", {"_meta": {"pipfile-spec": "x"}}, "pipenv requirements --hash"),
    ],
)
def test_unknown_versions_name_the_way_to_export(tmp_path: Path, name: str, version: dict[str, Any], hint: str) -> None:
    lock = dump(tmp_path / name, version)
    with pytest.raises(LockError, match=f"of {name} is not supported") as caught:
        chosen(lock, request_for(tmp_path))
    assert hint in caught.value.hint
    assert caught.value.place == str(lock)


@pytest.mark.parametrize("name", ["poetry.lock", "pdm.lock", "Pipfile.lock"])
@pytest.mark.parametrize("text", ["<<<<<<< ours\na = 1\n=======\n", "", "[]", "\ud800"])
def test_text_that_is_no_lock_is_an_error_with_the_command(tmp_path: Path, name: str, text: str) -> None:
    lock = tmp_path / name
    lock.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(LockError) as caught:
        chosen(lock, request_for(tmp_path))
    assert caught.value.place == str(lock)


def everything(root: Path) -> Iterator[Path]:
    """Locks that have each key that is read."""
    project(root, '[project]\nname = "demo"\ndependencies = ["a", "p[x]"]\n[tool.poetry.dependencies]\na = "^1"\n')
    sources = [
        {"type": "legacy", "url": "https://private.example/simple", "reference": "x"},
        {"type": "git", "url": "https://git.example/x", "resolved_reference": COMMIT, "subdirectory": "s"},
        {"type": "url", "url": "https://files.example/a-1.0-py3-none-any.whl"},
        {"type": "directory", "url": "own"},
    ]
    optional = {"version": "*", "optional": True, "markers": "extra == 'x'"}
    for version in ("2.1", "2.0"):
        yield poetry_lock(
            root,
            *(poetry_package(f"a{number}", groups=["main"], source=each) for number, each in enumerate(sources)),
            poetry_package("a", groups=["main"], markers={"main": "python_version > '3'"}, dependencies={"b": "^1"}),
            poetry_package("b", groups=["main"], dependencies={"p": [optional]}),
            poetry_package("p", groups=["main"], extras={"x": ["a0 (>=1)"]}, dependencies={"a0": optional}),
            version=version,
            extras={"fast": ["a"]},
        )
    for strategy in (["inherit_metadata"], []):
        yield pdm_lock(
            root,
            package("a", groups=["default"], marker="python_version > '3'", dependencies=["r", "m", "u"]),
            package("p", groups=["default"], extras=["x"], dependencies=["a"]),
            package("p", groups=["default"]),
            package("r", groups=["default"], files=[], git="https://git.example/x", revision=COMMIT, subdirectory="s"),
            package("m", groups=["default"], files=[], path="./own"),
            package("u", groups=["default"], url="https://files.example/u-1.0-py3-none-any.whl"),
            strategy=strategy,
            groups=["default"],
            targets=[{"requires_python": ">=3.10", "platform": "linux"}],
            content_hash="sha256:0",
        )
    yield pipfile_lock(
        root,
        default={
            "a": pinned("a", index="private", markers="python_version > '3'", extras=["x"]),
            "r": {"git": "https://git.example/x", "ref": COMMIT, "subdirectory": "s"},
            "m": {"path": "./own"},
            "u": {"file": "https://files.example/u-1.0-py3-none-any.whl", "hashes": [wheel("u", "1.0")["hash"]]},
        },
    )


def loaded(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".lock" and path.name == "Pipfile.lock" else toml.loads(text)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of each value in a document."""
    if path:
        yield path
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(each, (*path, key))


def replaced(document: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(document)
    inner: Any = result
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return result


ODD: tuple[Any, ...] = (
    *(None, 0, -1, 1.5, True, "", " ", "\0", "\x7f", "a", "1.0", "==", ">=", "[", "${", "a;b", "https://[", "x" * 300),
    *([], [1], [[]], [{}], ["a"], {}, {"a": 1}, {"a": {}}),
)


@given(seed=st.integers(0, 1 << 32))
def test_damaged_locks_are_errors_of_locks(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    random, root = Random(seed), tmp_path_factory.mktemp("damaged")
    for lock in everything(root):
        request, document, finder = request_for(root), loaded(lock), serving(lock)
        dump(lock, replaced(document, random.choice(list(places(document))), random.choice(ODD)))
        for attempt in (
            partial(chosen, lock, request, finder),
            partial(lock_format(lock).changes, lock, request, {}),
            partial(named_indexes, lock),
        ):
            with contextlib.suppress(LockError):
                attempt()
