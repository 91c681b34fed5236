"""Sources of packages: uv's, Poetry's and PDM's, read into one model."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatch_docker.errors import ConfigError
from hatch_docker.index.foreign_sources import poetry_specifiers, python_marker
from hatch_docker.index.sources import NO_SOURCES, Source, Sources, read_sources

LINUX = {"sys_platform": "linux", "python_version": "3.13", "python_full_version": "3.13.1"}
HEAD = '[project]\nname = "app"\nversion = "1"\n'


def read(root: Path, text: str, **environ: str) -> Sources:
    (root / "pyproject.toml").write_text(HEAD + text)
    return read_sources(root, environ, project="app", home=root / "home")


def problem(root: Path, text: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as raised:
        read(root, text)
    return raised.value.problems


def member(root: Path, name: str, text: str = "") -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "1"\n{text}')
    return folder


def test_each_kind_of_uv(tmp_path: Path) -> None:
    member(tmp_path, "lib")
    member(tmp_path, "sub")
    found = read(
        tmp_path,
        """
        [tool.uv.workspace]
        members = ["sub"]
        [tool.uv.sources]
        Lib = { path = "lib", editable = true }
        sub = { workspace = true }
        repo = { git = "https://git.example/repo", tag = "v1", subdirectory = "python" }
        wheel = { url = "https://files.example/wheel-1-py3-none-any.whl" }
        torch = [
            { index = "cpu", marker = "sys_platform == 'linux'" },
            { index = "gpu", extra = "Gpu_X", marker = "sys_platform == 'win32'" },
        ]
        [[tool.uv.index]]
        name = "cpu"
        url = "https://cpu.example/simple"
        explicit = true
        [[tool.uv.index]]
        name = "gpu"
        url = "../gpu"
        format = "flat"
        """,
    )
    assert found.tool == "tool.uv"
    assert found.of("lib") == (
        Source(name="lib", kind="path", value=str(tmp_path / "lib"), place="tool.uv.sources.Lib", editable=True),
    )
    assert (found.of("sub")[0].kind, found.of("sub")[0].value) == ("workspace", str(tmp_path / "sub"))
    repo = found.of("repo")[0]
    assert (repo.value, repo.reference, repo.subdirectory) == ("https://git.example/repo", "tag=v1", "python")
    assert found.of("wheel")[0].value == "https://files.example/wheel-1-py3-none-any.whl"
    cpu, gpu = found.of("torch")
    assert (cpu.value, cpu.index_name, cpu.marker) == ("https://cpu.example/simple", "cpu", 'sys_platform == "linux"')
    assert (gpu.value, gpu.extra) == ((tmp_path.parent / "gpu").as_uri(), "gpu-x")
    assert [(each.name, each.explicit, each.flat) for each in found.indexes] == [
        ("cpu", True, False),
        ("gpu", False, True),
    ]
    assert found.of("other") == ()


def test_a_member_has_the_sources_of_its_workspace_and_its_own_first(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        """
        [tool.uv.workspace]
        members = ["app", "lib"]
        [tool.uv.sources]
        lib = { workspace = true }
        local = { path = "vendor" }
        other = { git = "https://git.example/root" }
        [[tool.uv.index]]
        name = "corp"
        url = "https://corp.example/simple"
        """
    )
    member(tmp_path, "lib")
    (tmp_path / "vendor").mkdir()
    app = member(
        tmp_path,
        "app",
        '[tool.uv.sources]\nother = { git = "https://git.example/app" }\nprivate = { index = "corp" }\n',
    )
    found = read_sources(app, {}, project="app", home=tmp_path / "home")
    assert found.of("lib")[0].value == str(tmp_path / "lib")
    assert found.of("local")[0].value == str(tmp_path / "vendor")
    assert found.of("local")[0].place == f"{tmp_path / 'pyproject.toml'}: tool.uv.sources.local"
    assert found.of("other")[0].value == "https://git.example/app"
    assert found.of("private")[0].value == "https://corp.example/simple"


def test_a_named_index_of_the_environment_goes_first(tmp_path: Path) -> None:
    text = (
        '[tool.uv.sources]\nx = { index = "corp" }\n[[tool.uv.index]]\nname = "corp"\nurl = "https://file.example/"\n'
    )
    assert read(tmp_path, text).of("x")[0].value == "https://file.example/"
    assert read(tmp_path, text, UV_INDEX="corp=https://env.example/").of("x")[0].value == "https://env.example/"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('{ path = "lib", git = "https://git.example/" }', "path and git: keep one"),
        ("{ editable = true }", "names no source"),
        ("{ workspace = false }", "workspace must be true"),
        ('{ git = "https://git.example/", tag = "1", branch = "main" }', "more than one of rev, tag and branch"),
        ('{ git = "https://git.example/", revision = "1" }', "remove revision"),
        ("[{ path = '.' }, { index = 'b', marker = 'os_name == \"nt\"' }]", "two sources"),
        ('{ index = "a", marker = "no marker" }', "marker is not valid"),
        ('{ index = "a", extra = "x", group = "y" }', "an extra and a group"),
        ("{ index = 1 }", "index must be a string"),
        ("[]", "it is empty"),
        ('"lib"', "not a table"),
        ('[{ index = "a" }, { index = "b" }]', "two sources apply at once"),
        (
            '[{ index = "a", marker = "os_name==\'nt\'" }, { index = "b", marker = \'os_name == "nt"\' }]',
            "two sources",
        ),
    ],
)
def test_an_entry_that_uv_refuses(tmp_path: Path, entry: str, message: str) -> None:
    ((place, text),) = problem(tmp_path, f"[tool.uv.sources]\nidna = {entry}\n")
    assert place == "tool.uv.sources.idna"
    assert message in text


def test_all_refused_entries_are_one_error(tmp_path: Path) -> None:
    found = problem(tmp_path, "[tool.uv.sources]\none = {}\ntwo = {}\n")
    assert [place for place, _ in found] == ["tool.uv.sources.one", "tool.uv.sources.two"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('{ path = "../gone" }', "does not exist: correct path"),
        ('{ index = "corp" }', "no index is named corp: add it to tool.uv.index"),
        ("{ workspace = true }", "the project is not in a workspace"),
        ('{ path = "pyproject.toml" }', "is neither a directory nor a wheel or sdist"),
        ('{ url = "https://ann:s3cret@files.example/x?y" }', "https://files.example/x is neither a wheel nor an sdist"),
    ],
)
def test_a_source_that_cannot_be_used_is_an_error_for_those_who_need_it(
    tmp_path: Path, entry: str, message: str
) -> None:
    found = read(tmp_path, f"[tool.uv.sources]\nidna = {entry}\n")
    found.check(["other"])
    with pytest.raises(ConfigError) as raised:
        found.check(["other", "idna"])
    ((place, text),) = raised.value.problems
    assert place == "tool.uv.sources.idna"
    assert message in text


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    text = "[tool.uv.workspace]\nmembers = []\n[tool.uv.sources]\nidna = { workspace = true }\n"
    assert "the workspace has no member idna" in read(tmp_path, text).of("idna")[0].problem


def test_sources_can_be_switched_off(tmp_path: Path) -> None:
    text = '[tool.uv.sources]\none = { git = "https://a/" }\ntwo = { git = "https://b/" }\n'
    assert read(tmp_path, text, UV_NO_SOURCES="1") == NO_SOURCES
    assert read(tmp_path, text, UV_NO_SOURCES="0").of("one")
    assert read(tmp_path, f"[tool.uv]\nno-sources = true\n{text}") == NO_SOURCES
    only = read(tmp_path, f'[tool.uv]\nno-sources-package = ["Two"]\n{text}')
    assert only.of("one")
    assert not only.of("two")
    assert not read(tmp_path, text, UV_NO_SOURCES_PACKAGE="one").of("one")


def test_what_applies_depends_on_the_target_and_the_chosen_parts(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        [tool.uv.sources]
        a = { git = "https://a/", marker = "sys_platform == 'win32'" }
        b = [{ git = "https://b1/", extra = "one" }, { git = "https://b2/", extra = "two" }]
        c = { git = "https://c/", group = "dev" }
        """,
    )
    assert found.applying(LINUX) == Sources(by_name={}, tool="tool.uv")
    chosen = found.applying(LINUX, extras=frozenset(("two",)), groups=frozenset(("dev",)))
    assert [each.value for each in chosen.of("b")] == ["https://b2/"]
    assert chosen.of("c")
    with pytest.raises(ConfigError, match=r"tool\.uv\.sources\.b: two sources apply at once.*extra = 'one'"):
        found.applying(LINUX, extras=frozenset(("one", "two")))


def test_poetry(tmp_path: Path) -> None:
    member(tmp_path, "lib")
    found = read(
        tmp_path,
        """
        [tool.poetry.dependencies]
        python = "^3.9"
        plain = "^1"
        lib = { path = "lib", develop = true }
        repo = { git = "https://git.example/repo", branch = "main", subdirectory = "python" }
        wheel = { url = "https://files.example/wheel-1-py3-none-any.whl" }
        private = { version = "1", source = "corp" }
        public = { version = "1", source = "PyPI" }
        many = [
            { version = "1", source = "corp", python = "<3.10" },
            { git = "https://git.example/many", python = "^3.10" },
        ]
        [tool.poetry.group.dev.dependencies]
        tool = { path = "gone" }
        [[tool.poetry.source]]
        name = "corp"
        url = "https://corp.example/simple"
        priority = "explicit"
        [[tool.poetry.source]]
        name = "extra"
        url = "https://extra.example/simple"
        priority = "supplemental"
        [[tool.poetry.source]]
        name = "main"
        url = "https://main.example/simple"
        """,
    )
    assert found.tool == "tool.poetry"
    assert [(each.name, each.default, each.explicit) for each in found.indexes] == [
        ("main", True, False),
        ("corp", False, True),
        ("extra", False, False),
    ]
    assert not found.of("plain")
    assert found.of("lib")[0].editable
    assert found.of("repo")[0].reference == "branch=main"
    assert found.of("wheel")[0].kind == "url"
    assert found.of("private")[0].value == "https://corp.example/simple"
    assert (found.of("public")[0].value, found.of("public")[0].problem) == ("", "")
    assert [each.kind for each in found.applying(LINUX).of("many")] == ["git"]
    assert found.of("tool")[0].group == "dev"
    assert found.of("tool")[0].place == "tool.poetry.group.dev.dependencies.tool"
    with pytest.raises(ConfigError, match="does not exist"):
        found.check(["tool"])


def test_poetry_names_a_source_that_does_not_exist(tmp_path: Path) -> None:
    found = read(tmp_path, '[tool.poetry.dependencies]\nidna = { version = "1", source = "corp" }\n')
    with pytest.raises(ConfigError, match=r"tool\.poetry\.dependencies\.idna: no source is named corp"):
        found.check(["idna"])


@pytest.mark.parametrize(
    ("constraint", "specifiers"),
    [
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^0", ">=0,<1"),
        ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1", ">=1,<2"),
        ("~=1.2", "~=1.2"),
        (">= 3.9 <4", ">=3.9,<4"),
        ("3.9.*", "==3.9.*"),
        ("1.0", "==1.0"),
        ("*", ""),
    ],
)
def test_constraints_of_poetry(constraint: str, specifiers: str) -> None:
    assert {str(each) for each in poetry_specifiers(constraint)} == set(filter(None, specifiers.split(",")))


def test_a_constraint_on_python_is_a_marker() -> None:
    assert python_marker("*") == ""
    assert python_marker("~3.9 || 3.11.*").count(" or ") == 1
    with pytest.raises(ValueError, match="not valid"):
        python_marker("^a")


def test_pdm(tmp_path: Path) -> None:
    member(tmp_path, "my lib")
    found = read(
        tmp_path,
        """
        [tool.pdm.dev-dependencies]
        dev = ["-e file:///${PROJECT_ROOT}/my%20lib#egg=Lib", "pytest"]
        [[tool.pdm.source]]
        name = "private"
        url = "https://${USER}@private.example/simple"
        include_packages = ["corp-*"]
        exclude_packages = ["idna"]
        """,
        USER="ann",
    )
    assert found.tool == "tool.pdm"
    (lib,) = found.of("lib")
    assert (lib.kind, lib.value, lib.group, lib.problem) == ("path", str(tmp_path / "my lib"), "dev", "")
    assert [each.value for each in found.of("corp-x")] == ["https://ann@private.example/simple"]
    # Excluded there, so only the default index has it.
    assert [(each.kind, each.value) for each in found.of("idna")] == [("index", "")]
    assert not found.of("numpy")
    assert "ann" not in repr(found)


def test_login_of_poetry(tmp_path: Path) -> None:
    """The name of a source in variables is in capitals, without hyphens."""
    text = '[[tool.poetry.source]]\nname = "my-corp"\nurl = "https://corp.example/simple"\n'
    login = {"POETRY_HTTP_BASIC_MY_CORP_USERNAME": "ann", "POETRY_HTTP_BASIC_MY_CORP_PASSWORD": "a/@b"}
    assert read(tmp_path, text, **login).indexes[0].url == "https://ann:a%2F%40b@corp.example/simple"
    assert read(tmp_path, text).indexes[0].url == "https://corp.example/simple"
    # An index says later what is wrong with its URL.
    (malformed,) = read(tmp_path, text.replace("corp.example", "[corp"), **login).indexes
    assert malformed.url == "https://ann:a%2F%40b@[corp/simple"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://${NAME}:${PASSWORD}@corp.example/simple", "https://ann:a%2F%40b@corp.example/simple"),
        ("https://${UNSET}:${UNSET}@corp.example/simple", "https://corp.example/simple"),
        ("https://a%40b:${PASSWORD}@corp.example/${NAME}/", "https://a%40b:a%2F%40b@corp.example/ann/"),
        ("https://corp.example/${NAME}/", "https://corp.example/ann/"),
    ],
)
def test_variables_in_a_login_of_pdm(tmp_path: Path, url: str, expected: str) -> None:
    text = f'[[tool.pdm.source]]\nname = "corp"\nurl = "{url}"\n'
    assert read(tmp_path, text, NAME="ann", PASSWORD="a/@b").indexes[0].url == expected


def test_only_uv_s_table_applies_if_there_is_one(tmp_path: Path) -> None:
    text = '[tool.poetry.dependencies]\nx = { git = "https://poetry.example/" }\n'
    assert read(tmp_path, text, UV_INDEX="a=https://a.example/").tool == "tool.poetry"
    both = read(tmp_path, f'{text}[tool.uv.sources]\ny = {{ git = "https://uv.example/" }}\n')
    assert not both.of("x")
    assert both.of("y")


def test_the_project_itself_has_no_source(tmp_path: Path) -> None:
    assert not read(tmp_path, '[tool.uv.sources]\napp = { path = "." }\n').of("app")
