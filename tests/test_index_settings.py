import importlib.util
import json
import os
import random
import subprocess
import sys
import textwrap
import venv
from pathlib import Path
from typing import Any

import pytest
from fake_index import Notes
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.errors import ArtifactError
from hatch_docker.index import pip_config
from hatch_docker.index.credentials import Credentials, Login, read_netrc, split_login
from hatch_docker.index.pip_config import Pip, read_pip_configuration
from hatch_docker.index.settings import IndexSettings, discover
from hatch_docker.index.tool_settings import ToolSettings, ca_file_of, uv_settings
from hatch_docker.index.uv_config import UvFile, project_table
from hatch_docker.support.progress import Progress

# Before a fixture leaves them out.
SYSTEM_FILES = pip_config.system_files
MAIN = "https://main.example/simple"


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if pip is run."""

    def run(self: Pip) -> str:
        raise AssertionError

    monkeypatch.setattr(Pip, "_help", run)


def discovered(
    tmp_path: Path, *, configured: str = "", progress: Progress | None = None, **environ: str
) -> IndexSettings:
    root = tmp_path / "project"
    root.mkdir(exist_ok=True)
    own = ToolSettings(url=configured)
    return discover(own=own, root=root, environ=environ, home=tmp_path, progress=progress or Progress())


@pytest.mark.usefixtures("no_pip")
def test_configured_index_replaces_all_others(tmp_path: Path) -> None:
    settings = discovered(
        tmp_path, configured="https://mine.example/simple", UV_DEFAULT_INDEX="https://uv.example/simple"
    )
    assert settings.urls() == ("https://mine.example/simple",)


@pytest.mark.usefixtures("no_pip")
def test_environment_of_uv_goes_before_its_files(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text('index-url = "https://file.example/simple"\n')
    settings = discovered(
        tmp_path, UV_DEFAULT_INDEX="https://env.example/simple", UV_EXTRA_INDEX_URL="https://a/ https://b/"
    )
    assert settings.urls() == ("https://env.example/simple", "https://a/", "https://b/")


@pytest.mark.usefixtures("no_pip")
def test_indexes_in_the_project_table_of_uv(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        """
        [[tool.uv.index]]
        name = "corp-tools"
        url = "https://corp.example/simple"
        [[tool.uv.index]]
        url = "https://main.example/simple"
        default = true
        """
    )
    settings = discovered(tmp_path, UV_INDEX_CORP_TOOLS_USERNAME="ann", UV_INDEX_CORP_TOOLS_PASSWORD="p@ss/w")
    assert settings.urls() == ("https://main.example/simple", "https://corp.example/simple")
    assert settings.credentials.login("https://corp.example/files/x.whl") == Login(username="ann", password="p@ss/w")
    assert settings.credentials.login("https://main.example/files/x.whl") is None


@pytest.mark.usefixtures("no_pip")
def test_indexes_of_the_lock_use_the_logins_of_others(tmp_path: Path) -> None:
    settings = discover(
        own=ToolSettings(extra_urls=("https://uv.example/simple", "https://lock.example/simple")),
        root=tmp_path,
        environ={"UV_DEFAULT_INDEX": "https://ann:x@uv.example/simple"},
        home=tmp_path,
    )
    assert settings.urls() == ("https://uv.example/simple", "https://lock.example/simple")
    assert settings.credentials.login("https://uv.example/simple") == Login(username="ann", password="x")


@pytest.mark.usefixtures("no_pip")
def test_path_as_index_in_the_user_file_of_uv(tmp_path: Path) -> None:
    (tmp_path / "config" / "uv").mkdir(parents=True)
    (tmp_path / "config" / "uv" / "uv.toml").write_text('index-url = "../mirror"\n')
    settings = discovered(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "config"), APPDATA=str(tmp_path / "config"))
    assert settings.urls() == ((tmp_path / "config" / "mirror").as_uri(),)


def test_broken_file_is_skipped_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pip, "_help", lambda _: f"-i, --index-url <url>  Base URL of the index (default {MAIN})")
    (tmp_path / "uv.toml").write_text("index-url = [")
    write_pip(tmp_path / ".config/pip", "index-url = https://ann:secret@x.example/simple\n[global]\n")
    progress = Notes()
    assert discovered(tmp_path, progress=progress).urls() == (MAIN,)
    assert ["uv.toml" in progress.notes[0], "pip." in progress.notes[1], len(progress.notes)] == [True, True, 2]
    assert "secret" not in progress.notes[1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "uv.toml")
    assert project_table(tmp_path) == {}


def write_pip(folder: Path, text: str) -> Path:
    """Write a configuration file of pip, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("pip.ini" if os.name == "nt" else "pip.conf")
    path.write_text(textwrap.dedent(text))
    return path


@pytest.mark.usefixtures("no_pip")
def test_configuration_of_pip(tmp_path: Path) -> None:
    named = write_pip(
        tmp_path / "named",
        """
        [global]
        index-url = https://global.example/simple
        cert = /corp.pem
        extra_index_url =
            https://a.example/simple
            https://b.example/simple
        [install]
        index-url = https://ann:secret@install.example/simple
        [freeze]
        find-links = /nowhere
        """,
    )
    settings = discovered(tmp_path, PIP_CONFIG_FILE=str(named))
    assert settings.urls() == (
        "https://install.example/simple",
        "https://a.example/simple",
        "https://b.example/simple",
    )
    assert settings.ca_file == "/corp.pem"
    assert "secret" not in repr(settings)
    assert settings.credentials.headers("https://install.example/x.whl") == {"Authorization": "Basic YW5uOnNlY3JldA=="}
    assert settings.credentials.headers("https://install.example:8443/x.whl") == {}


@pytest.mark.usefixtures("no_pip")
def test_no_program_is_run_for_the_login_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(subprocess, "Popen")
    named = write_pip(tmp_path / "named", "[global]\nindex-url = https://ann:x@pip.example/simple\n")
    settings = discovered(tmp_path, PIP_CONFIG_FILE=str(named))
    assert settings.credentials.headers("https://pip.example/x.whl")
    assert settings.credentials.headers("https://files.example/x.whl") == {}


@pytest.mark.usefixtures("no_pip")
def test_extra_indexes_of_uv_add_to_the_main_one_of_pip(tmp_path: Path) -> None:
    settings = discovered(
        tmp_path, PIP_INDEX_URL="https://pip.example/simple", UV_INDEX="corp=https://corp.example/simple"
    )
    assert settings.urls() == ("https://pip.example/simple", "https://corp.example/simple")


def test_settings_of_the_real_pip(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_EXTRA_INDEX_URL": "https://u:p@long-extra.example/simple",
    }
    environ = {name: value for name, value in environ.items() if not name.startswith("UV_") and name != "PIP_INDEX_URL"}
    settings = discover(root=tmp_path, environ=environ, home=tmp_path)
    assert settings.url == ""
    assert settings.extra_urls == ("https://long-extra.example/simple",)
    assert settings.urls()[0].startswith("https://")


# Options in all spellings that pip reads.
SPELLINGS = (("index-url", "INDEX_URL"), ("--extra-index-url", "extra_index_url"), ("find-links", "--Find-Links"))
# Prints the settings of `pip install`, since `pip config list` does not say which of several counts.
REAL = """
import json
from pip._internal.commands import create_command
from pip._internal.models.index import PyPI
found = vars(create_command("install").parser.get_default_values())
names = ("index_url", "extra_index_urls", "find_links", "no_index")
print(json.dumps({name: found[name] for name in names} | {"default": PyPI.simple_url}))
"""


@pytest.fixture(scope="module")
def environment_with_pip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A virtual environment, for a configuration file of its own, and the directory that has pip."""
    folder = tmp_path_factory.mktemp("pip") / "venv"
    venv.create(folder)
    found = importlib.util.find_spec("pip")
    assert found
    assert found.origin
    return folder, str(Path(found.origin).parent.parent)


@pytest.mark.parametrize(
    ("files", "variables"),
    [
        ("global global2 legacy user site named", {}),
        ("global global2 legacy user site", {"PIP_EXTRA_INDEX_URL": "https://e.example/a https://e.example/b"}),
        ("global2 user", {"PIP_INDEX_URL": "", "PIP_CONFIG_FILE": "missing"}),
        ("global legacy named", {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "wheels", "PIP_FORMAT": "x"}),
        ("global user site", {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "https://e.example/simple"}),
    ],
)
def test_configuration_is_that_of_the_real_pip(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment_with_pip: tuple[Path, str],
    files: str,
    variables: dict[str, str],
) -> None:
    """Each file has some of the options in some of the sections: which of them count depends on all the others."""
    folder, path = environment_with_pip
    write_pip(folder, "")
    folders = {
        "global": tmp_path / "xdg1/pip",
        "global2": tmp_path / "xdg2/pip",
        "legacy": tmp_path / ("pip" if os.name == "nt" else ".pip"),
        "user": tmp_path / ("config/pip" if sys.platform != "darwin" else ".config/pip"),
        "site": folder,
        "named": tmp_path / "named",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "XDG_"))}
    system = "" if os.name == "nt" else f"{tmp_path / 'xdg1'}:{tmp_path / 'xdg2'}"
    places = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "APPDATA": str(tmp_path / "config")}
    environ = {**kept, **places, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "XDG_CONFIG_DIRS": system}
    environ |= {"PYTHONPATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables}
    chosen = random.Random(files)
    for name in files.split():
        lines = []
        for section in ("install", "global", "wheel"):
            lines.append(f"[{section}]")
            for spellings in SPELLINGS:
                if chosen.random() < 0.4:
                    # The value says which one it is.
                    value = chosen.choice(["", f"https://{name}.example/{section}", f"\n  {name}\n  {section}"])
                    lines.append(f"{chosen.choice(spellings)} = {value}")
        written = write_pip(folders[name], "\n".join(lines) + "\n")
        if name == "named":
            environ["PIP_CONFIG_FILE"] = str(written)
    monkeypatch.setattr(pip_config, "system_files", SYSTEM_FILES)
    monkeypatch.setattr(sys, "prefix", str(folder))
    ours = read_pip_configuration(environ, home=tmp_path)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = subprocess.run([python, "-c", REAL], env=environ, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert ours.get("index-url", theirs["default"]) == theirs["index_url"]
    assert ours.get("extra-index-url", "").split() == theirs["extra_index_urls"]
    assert ours.get("find-links", "").split() == theirs["find_links"]
    assert (ours.get("no-index", "0") == "1") == theirs["no_index"]


def test_long_default_index_of_pip_is_read_completely(tmp_path: Path) -> None:
    url = "https://a-very-long-host-name-with-hyphens.example/" + "some-folder/" * 20 + "simple"
    assert Pip({**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": url}).default_index == url


def test_pip_module_of_the_project_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert Pip(os.environ).default_index


@pytest.mark.parametrize("executable", ["", "/nowhere/python", sys.executable])
def test_without_pip_the_hint_names_the_settings(executable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip({**os.environ, "PIP_NO_SUCH_THING": "1"}, executable=executable)
    if executable == sys.executable:
        monkeypatch.setattr(Pip, "_help", lambda _: "pip changed how its help looks")
    with pytest.raises(ArtifactError, match="HATCH_DOCKER_INDEX_URL"):
        _ = pip.default_index


def test_ca_file_of_the_environment() -> None:
    assert ca_file_of({}) == ""
    assert ca_file_of({"SSL_CERT_FILE": "/c", "PIP_CERT": "", "REQUESTS_CA_BUNDLE": "/b"}) == "/b"


def test_netrc_applies_only_to_its_hosts(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine a.example login ann password x\ndefault login any password secret\n")
    credentials = Credentials(by_host=read_netrc({}, home=tmp_path))
    assert credentials.login("https://a.example:8443/simple/x/") == Login(username="ann", password="x")
    assert credentials.login("https://b.example/simple/x/") is None


def test_netrc_variable_replaces_the_file_of_the_user(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine a.example login home password x\n")
    (tmp_path / "other").write_text("machine a.example login named password x\n")
    login = read_netrc({"NETRC": str(tmp_path / "other")}, home=tmp_path)["a.example"]
    assert login.username == "named"


@pytest.mark.parametrize("content", [b"machine", b"\xff\xfe", b"nonsense here\n"])
def test_malformed_netrc_is_skipped_with_a_note(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".netrc").write_bytes(content)
    progress = Notes()
    assert read_netrc({}, home=tmp_path, progress=progress) == {}
    assert ".netrc" in progress.notes[0]


def test_login_is_that_of_the_nearest_index_on_the_host() -> None:
    credentials = Credentials(
        by_url=(
            ("https://h.example/one/simple", Login(username="1", password="")),
            ("https://h.example/other/simple", Login(username="2", password="")),
        )
    )
    for url in ("https://h.example:443/other/files/x.whl", "https://h.example/other/simple"):
        assert credentials.login(url) == Login(username="2", password="")


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://ann:p%40ss@h.example/simple", "https://h.example/simple"),
        ("https://token@h.example", "https://h.example"),
        ("https://h.example/@scope/x", "https://h.example/@scope/x"),
        ("https://h.example?q=a@b", "https://h.example?q=a@b"),
        ("http://u:p@[broken", "http://[broken"),
        ("", ""),
    ],
)
def test_logins_are_removed_from_urls(url: str, clean: str) -> None:
    assert split_login(url)[0] == clean


@given(username=st.text(min_size=1), password=st.text())
def test_embedded_login_is_the_one_that_is_split_off(username: str, password: str) -> None:
    login = Login(username=username, password=password)
    url = "https://h.example:8443/simple/"
    try:
        embedded = Credentials(by_url=((url, login),)).embed(url)
    except UnicodeEncodeError:  # lone surrogates are no text
        return
    assert split_login(embedded) == (url, login)


TOML = st.recursive(
    st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["index", "url", "name", "default"]), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["index", "index-url", "extra-index-url", "find-links", "pip", "no-index"]), TOML),
    st.text(),
)
def test_any_settings_of_uv_are_accepted(table: dict[str, Any], text: str) -> None:
    file = UvFile(folder=Path.cwd(), table=table)
    found = uv_settings({"UV_INDEX": text, "UV_DEFAULT_INDEX": text}, [file], Path.cwd())
    assert all(isinstance(each, str) for each in found.clean().all_urls)


@given(st.text())
def test_any_text_as_url_is_accepted(text: str) -> None:
    credentials = Credentials(by_url=((text, Login(username="a", password="b")),))
    credentials.login(text)
    credentials.headers(f"http://{text}")
