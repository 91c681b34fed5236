"""Projects without a build backend: what is read of them, which files are copied, and their images."""

from __future__ import annotations

import codecs
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from builds import Bench, Made, Outcome, archive_of, check_archive, command, environment, read, result_of
from project_maker import lock_of

from hatch_docker.errors import ConfigError
from hatch_docker.project.files import FilesProject, directory_name
from hatch_docker.project.selection import Selection, select_files

UV = """\
[project]
name = "Shop.App"
version = "1.0rc1"
description = "Sells."
requires-python = ">=3.11"
dependencies = ["idna>=3"]
"""
POETRY = """\
[tool.poetry]
package-mode = false
name = "shop"
version = "2.0"
authors = ["Ann <ann@example.org>", "Bob"]
repository = "https://git.example/shop"

[tool.poetry.dependencies]
python = "^3.11"
idna = "^3.4"
attrs = {version = "*", optional = true}
rich = [{version = "<14", python = "<3.12"}, {version = ">=14", python = ">=3.12"}]

[tool.poetry.extras]
fast = ["Attrs"]

[tool.poetry.group.dev.dependencies]
pytest = "*"
"""


def written(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


class TestMetadata:
    def test_is_that_of_the_table_project(self, tmp_path: Path) -> None:
        source = FilesProject(written(tmp_path, {"pyproject.toml": UV, "main.py": ""}))
        source.check()
        project = source.read(source.version())
        assert (project.name, project.normalized_name, project.version) == ("Shop.App", "shop-app", "1.0rc1")
        assert (project.requires_python, project.dependencies) == (">=3.11", ("idna>=3",))
        assert (project.has_version, project.has_backend) == (True, False)
        assert project.description == "Sells."
        assert project.start == ("/app/.venv/bin/python", "/app/main.py")

    def test_is_that_of_poetry_s_table(self, tmp_path: Path) -> None:
        source = FilesProject(written(tmp_path, {"pyproject.toml": POETRY}))
        project = source.read(source.version())
        assert (project.name, project.version, project.requires_python) == ("shop", "2.0", "<4,>=3.11")
        idna, *rich = sorted(project.dependencies)
        assert idna == "idna<4,>=3.4"
        assert [each.partition(";")[0].strip() for each in rich] == ["rich<14", "rich>=14"]
        assert project.optional_dependencies == {"fast": ("attrs",)}
        assert project.dependency_groups == {"dev": ["pytest"]}
        assert project.authors == ("Bob", "Ann <ann@example.org>")
        assert project.urls == {"Repository": "https://git.example/shop"}

    def test_poetry_s_requirements_count_if_project_has_none(self, tmp_path: Path) -> None:
        text = POETRY + '[project]\nname = "other"\nversion = "3"\ndynamic = ["dependencies"]\n'
        project = FilesProject(written(tmp_path, {"pyproject.toml": text})).read("")
        assert project.name == "other"
        assert len(project.dependencies) == 3
        text = POETRY + '[project]\nname = "other"\nversion = "3"\ndependencies = ["six"]\n'
        project = FilesProject(written(tmp_path, {"pyproject.toml": text})).read("")
        assert project.dependencies == ("six",)

    def test_a_directory_without_pyproject_has_its_own_name_and_no_version(self, tmp_path: Path) -> None:
        root = written(tmp_path / "My Project!", {"requirements.txt": "idna\n"})
        source = FilesProject(root)
        source.check()
        project = source.read(source.version())
        assert (project.name, project.version, project.has_version) == ("my-project", "", False)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("shop", "shop"),
            ("My.App_2", "my-app-2"),
            ("--x--", "x"),
            ("Café", "cafe"),
            ("日本", "app"),
            ("v1.2", "v1-2"),
        ],
    )
    def test_the_name_of_a_directory_becomes_one_of_a_project(self, tmp_path: Path, name: str, expected: str) -> None:
        assert directory_name(tmp_path / name) == expected

    def test_a_link_to_the_project_names_it(self, tmp_path: Path) -> None:
        written(tmp_path / "releases" / "2026-11", {"main.py": ""})
        (tmp_path / "shop").symlink_to("releases/2026-11")
        source = FilesProject(tmp_path / "shop")
        assert source.read("").name == "shop"
        assert select_files(source.root, source.directory, {}).paths == ("main.py",)

    def test_a_link_to_the_project_is_in_its_repository(self, tmp_path: Path) -> None:
        git(written(tmp_path / "all", {".gitignore": "*.log\n"}), "init", "-q")
        written(tmp_path / "all" / "shop", {"main.py": "", "a.log": ""})
        (tmp_path / "shop").symlink_to("all/shop")
        assert selected(tmp_path / "shop").paths == ("main.py",)
        assert selected(tmp_path / "shop", NO_GIT).paths == ("main.py",)

    def test_a_pyproject_with_settings_of_tools_only_is_enough(self, tmp_path: Path) -> None:
        text = '[tool.hatch-docker]\nentrypoint = ["sh"]\n'
        source = FilesProject(written(tmp_path / "shop", {"pyproject.toml": text}))
        source.check()
        assert source.read("").name == "shop"
        assert source.table == ("tool.hatch-docker", {"entrypoint": ["sh"]})

    @pytest.mark.parametrize(
        ("text", "place", "message"),
        [
            ("[", "pyproject.toml", ""),
            ('[project]\nname = "a b"', "pyproject.toml", "name"),
            ('[project]\nname = "a"\ndependencies = ["=="]', "pyproject.toml", "dependencies"),
            ('[project]\nname = "a"\ndynamic = ["dependencies"]', "project.dynamic", "no build backend computes them"),
            ('[tool.poetry.dependencies]\nidna = "~~1"', "tool.poetry.dependencies.idna", "not valid"),
            ('[tool.poetry.dependencies]\npython = "~~1"', "tool.poetry.dependencies.python", "not valid"),
        ],
    )
    def test_a_mistake_is_reported_with_its_place(self, tmp_path: Path, text: str, place: str, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            FilesProject(written(tmp_path, {"pyproject.toml": text})).check()
        ((where, what),) = caught.value.problems
        assert where.endswith(place)
        assert message in what

    def test_a_version_that_is_not_valid_is_reported(self, tmp_path: Path) -> None:
        text = '[project]\nname = "a"\nversion = "one"\n'
        with pytest.raises(ConfigError, match=r"project\.version: 'one' is not a version"):
            FilesProject(written(tmp_path, {"pyproject.toml": text})).version()

    def test_a_pipfile_must_be_locked(self, tmp_path: Path) -> None:
        root = written(tmp_path, {"Pipfile": '[packages]\nidna = "*"\n', "main.py": ""})
        with pytest.raises(ConfigError, match=r"Pipfile: it is not locked: lock it with Pipenv \(pipenv lock\)"):
            FilesProject(root).check()
        FilesProject(written(root, {"Pipfile.lock": "{}"})).check()

    def test_a_directory_without_a_project_is_an_error(self, tmp_path: Path) -> None:
        written(tmp_path, {"notes.txt": ""})
        with pytest.raises(ConfigError, match="there is no Python project: no pyproject"):
            FilesProject(tmp_path).check()


def selected(root: Path, environ: Mapping[str, str] | None = None) -> Selection:
    return select_files(root, root / "dist", os.environ if environ is None else environ)


NO_GIT = {"PATH": ""}


class TestSelection:
    def test_dockerignore_replaces_gitignore(self, tmp_path: Path) -> None:
        root = written(tmp_path, {"a": "", "b": "", ".gitignore": "a\n"})
        assert selected(root).paths == (".gitignore", "b")
        written(root, {".dockerignore": "b\n.*\n"})
        assert selected(root).paths == ("a",)

    @pytest.mark.parametrize("environ", [None, NO_GIT], ids=["by Git", "without Git"])
    def test_gitignore_is_that_of_the_repository(self, tmp_path: Path, environ: Mapping[str, str] | None) -> None:
        git(tmp_path, "init", "-q")
        root = tmp_path / "services" / "shop"
        written(tmp_path, {".gitignore": "*.log\n", "other": "", "services/.gitignore": "/shop/data\n"})
        written(root, {"a.log": "", "data/x": "", "main.py": "", "sub/.gitignore": "*\n!keep\n", "sub/x": ""})
        written(root, {"sub/keep": "", "secret": ""})
        written(tmp_path, {".git/info/exclude": "secret\n"})
        assert selected(root, environ).paths == ("main.py", "sub/keep")

    def test_what_git_tracks_is_copied_although_it_is_ignored(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "-q")
        root = written(tmp_path, {".gitignore": "*.json\n", "a.json": "", "b.json": "", "gone": ""})
        git(root, "add", "-f", "a.json", ".gitignore", "gone")
        (root / "gone").unlink()
        assert selected(root).paths == (".gitignore", "a.json")

    def test_a_hook_s_variables_do_not_name_the_repository(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "-q")
        root = written(tmp_path, {".gitignore": "a\n", "a": "", "b": ""})
        elsewhere = {**os.environ, "GIT_DIR": str(tmp_path / "nowhere"), "GIT_INDEX_FILE": "x"}
        assert selected(root, elsewhere).paths == (".gitignore", "b")

    @pytest.mark.parametrize("environ", [None, NO_GIT], ids=["by Git", "without Git"])
    def test_a_project_that_its_repository_ignores_is_copied(
        self, tmp_path: Path, environ: Mapping[str, str] | None
    ) -> None:
        git(tmp_path, "init", "-q")
        written(tmp_path, {".gitignore": "scratch\n"})
        root = written(tmp_path / "scratch", {"main.py": ""})
        assert selected(root, environ).paths == ("main.py",)

    def test_repositories_inside_have_rules_of_their_own(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "-q")
        inner = written(tmp_path / "vendor" / "lib", {"x.py": "", "x.log": "", ".gitignore": "*.log\n"})
        git(inner, "init", "-q")
        git(inner, "add", ".")
        git(inner, "commit", "-qm", "x")
        assert selected(tmp_path).paths == ("vendor/lib/.gitignore", "vendor/lib/x.py")
        git(tmp_path, "add", "vendor/lib")
        assert selected(tmp_path).paths == ("vendor/lib/.gitignore", "vendor/lib/x.py")

    def test_a_submodule_that_is_not_checked_out_is_noted(self, tmp_path: Path) -> None:
        inner = written(tmp_path / "lib", {"x.py": ""})
        for root in (inner, written(tmp_path / "shop", {"main.py": ""})):
            git(root, "init", "-q")
            git(root, "add", ".")
            git(root, "commit", "-qm", "x")
        git(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "vendor/lib")
        git(root, "commit", "-qm", "x")
        git(tmp_path, "clone", "-q", "shop", "clone")
        found = selected(tmp_path / "clone")
        assert found.paths == (".gitmodules", "main.py")
        (note,) = found.notes
        assert note == "submodules are not checked out (git submodule update --init --recursive): vendor/lib"
        written(tmp_path / "clone" / "vendor" / "lib", {"unpacked.py": "", ".env": ""})
        assert selected(tmp_path / "clone").paths == (".gitmodules", "main.py", "vendor/lib/unpacked.py")
        assert selected(tmp_path / "clone" / "vendor" / "lib").paths == ("unpacked.py",)

    @pytest.mark.parametrize("environ", [None, NO_GIT], ids=["by Git", "without Git"])
    @pytest.mark.parametrize(
        "unwanted",
        [
            *(
                ".env",
                "deploy/.env.production",
                ".envrc",
                ".env-prod",
                ".env_local",
                ".env~",
                ".env.example.local",
                ".venv/bin/python",
                "env/pyvenv.cfg",
                "x/conda-meta/history",
            ),
            *("pkg/__pycache__/a.cpython-313.pyc", "a.pyc", ".tox/log", ".hg/store", ".svn/entries", ".DS_Store"),
            *("dist/shop-1.0.docker.tar", "dist/shop-1.0.docker.json", "dist/pylock.shop.toml", "dist/shop-1.0.tar.gz"),
            *("out/oci-layout", "out/blobs/sha256/00"),
        ],
    )
    def test_some_files_are_never_copied(
        self, tmp_path: Path, unwanted: str, environ: Mapping[str, str] | None
    ) -> None:
        root = written(tmp_path, {"main.py": "", unwanted: "x"})
        if unwanted.startswith("out/"):
            written(root, {"out/oci-layout": "{}"})
        if environ is None:
            git(root, "init", "-q")
            git(root, "add", "-f", ".")
        assert selected(root, environ).paths == ("main.py",)
        written(root, {".dockerignore": f".dockerignore\n!{unwanted}\n"})
        assert selected(root, environ).paths == ("main.py",)

    def test_caches_are_told_by_their_tag(self, tmp_path: Path) -> None:
        tag = "Signature: 8a477f597d28d172789f06886806bc55\n"
        root = written(tmp_path, {"main.py": "", ".any/CACHEDIR.TAG": tag, ".any/x": "", "other/CACHEDIR.TAG": ""})
        assert selected(root).paths == ("main.py", "other/CACHEDIR.TAG")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("image.tar", b"oci-layout".ljust(512, b"\0")),
            ("image.tar", b"blobs/".ljust(512, b"\0")),
            ("id", f"sha256:{'0' * 64}".encode()),
            ("metadata.json", b'{"containerimage.digest": "sha256:00"}'),
        ],
    )
    def test_results_of_builds_are_told_by_their_content(self, tmp_path: Path, name: str, content: bytes) -> None:
        root = written(tmp_path, {"main.py": "", name: content})
        assert selected(root).paths == ("main.py",)
        written(root, {name: b"data of the project"})
        assert selected(root).paths == tuple(sorted(("main.py", name)))

    def test_templates_and_a_frontend_s_output_are_copied(self, tmp_path: Path) -> None:
        root = written(
            tmp_path, {".env.example": "", "dist/index.html": "", "dist/assets/x.js": "", "pkg/.env.dist": ""}
        )
        assert selected(root).paths == (".env.example", "dist/assets/x.js", "dist/index.html", "pkg/.env.dist")
        others = (".env-Sample", ".env.local.example", ".envelope", ".environment.py", ".envrc.template")
        assert selected(written(tmp_path / "more", dict.fromkeys(others, ""))).paths == others

    def test_a_file_of_variables_is_noted(self, tmp_path: Path) -> None:
        (note,) = selected(written(tmp_path, {"main.py": "", ".env": ""})).notes
        assert "docker run --env-file" in note
        assert note.endswith(": .env")
        assert not selected(written(tmp_path, {".dockerignore": ".env"})).notes

    @pytest.mark.parametrize("environ", [None, NO_GIT], ids=["by Git", "without Git"])
    def test_links_are_followed(self, tmp_path: Path, environ: Mapping[str, str] | None) -> None:
        written(tmp_path, {"common/util.py": "", "common/.env": "", "license": ""})
        root = written(tmp_path / "shop", {"main.py": ""})
        (root / "common").symlink_to("../common")
        (root / "LICENSE").symlink_to(tmp_path / "license")
        (root / "start.py").symlink_to("main.py")
        if environ is None:
            git(tmp_path, "init", "-q")
        assert selected(root, environ).paths == ("LICENSE", "common/util.py", "main.py", "start.py")

    def test_links_that_lead_nowhere_or_in_circles_are_noted(self, tmp_path: Path) -> None:
        root = written(tmp_path / "shop", {"a/x": "", "b/y": ""})
        (root / "a" / "b").symlink_to("../b")
        (root / "b" / "a").symlink_to("../a")
        (root / "up").symlink_to("..")
        (root / "self").symlink_to("self")
        (root / "gone").symlink_to("nothing")
        found = selected(root)
        assert found.paths == ("a/b/y", "a/x", "b/a/x", "b/y")
        broken, cycles = found.notes
        assert broken == "links without a target are not copied: gone"
        assert cycles == "links to a directory around them are not copied: a/b/a, b/a/b, self, up"

    def test_pipes_and_sockets_are_noted(self, tmp_path: Path) -> None:
        root = written(tmp_path / "shop", {"main.py": ""})
        os.mkfifo(root / "pipe.tar")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(root / "socket"))
            found = selected(root)
        assert found.paths == ("main.py",)
        assert found.notes == ("pipes, sockets and devices are not copied: pipe.tar, socket",)

    @pytest.mark.parametrize(
        "name",
        [
            *("id_rsa", "deploy/.netrc", ".pypirc", ".git-credentials", "prod.env", ".streamlit/secrets.toml"),
            *("secrets.yaml", ".secrets.toml", ".aws/config", ".envs/.production/.django", "x/terraform.tfstate"),
            *("service_account.json", ".config/gcloud/access.db", ".ssh/known_hosts", "kubeconfig"),
        ],
    )
    def test_what_may_be_secret_is_a_warning(self, tmp_path: Path, name: str) -> None:
        found = selected(written(tmp_path, {"main.py": "", name: "", ".dockerignore": ".dockerignore"}))
        assert name in found.paths
        (warning,) = found.warnings
        assert f"files that may be secret are copied into the image: {name};" in warning
        assert "list them in .dockerignore" in warning

    def test_a_private_key_is_told_from_a_certificate(self, tmp_path: Path) -> None:
        key, certificate = "-----BEGIN RSA PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\n"
        found = selected(written(tmp_path, {"tls.key": key, "ca.pem": certificate, "id_rsa.pub": ""}))
        (warning,) = found.warnings
        assert ": tls.key;" in warning

    def test_a_private_key_is_found_in_a_file_of_any_name(self, tmp_path: Path) -> None:
        key = "-----BEGIN PRIVATE KEY-----\\nMII"
        account = f'{{"type": "service_account", "private_key": "{key}"}}'
        files = {"shop-firebase.json": account, "deploy_key": key, "test_tls.py": key, "README.md": key}
        (warning,) = selected(written(tmp_path, files)).warnings
        assert ": deploy_key, shop-firebase.json;" in warning

    @pytest.mark.parametrize(
        ("line", "warns"),
        [
            ("--index-url https://ann:s3cret@index.example/simple", True),
            ('url = "https://ann:s3cret@index.example/simple"', True),
            ("--index-url https://${USER}:${PASSWORD}@index.example/simple", False),
            ("pkg @ git+ssh://git@git.example/a.git@v1", False),
            ("--index-url https://index.example:8080/simple", False),
        ],
    )
    def test_so_is_a_file_with_a_password(self, tmp_path: Path, line: str, warns: bool) -> None:
        found = selected(written(tmp_path, {"requirements.txt": f"idna\n{line}\n"}))
        assert bool(found.warnings) is warns
        assert "s3cret" not in "".join(found.warnings)

    def test_names_that_are_not_unicode_are_an_error(self, tmp_path: Path) -> None:
        written(tmp_path, {"main.py": "", "data/x": ""})
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/data/caf\xe9")).touch()
        with pytest.raises(ConfigError, match=r"data/caf\\xe9: its name is not valid Unicode: rename the file, or"):
            selected(tmp_path)
        written(tmp_path, {".dockerignore": "data\n.dockerignore\n"})
        assert selected(tmp_path).paths == ("main.py",)

    def test_much_data_is_noted(self, tmp_path: Path) -> None:
        written(tmp_path, {"main.py": "", "data/x": ""})
        os.truncate(tmp_path / "data" / "x", 101 << 20)
        (note,) = selected(tmp_path).notes
        assert note.startswith("the project's files have 101 MiB (data 101 MiB")
        assert "list in .gitignore what" in note


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def app(bench: Bench, files: Mapping[str, str] = {}, *, table: str = "", folder: str = "shop") -> Path:
    """An application without a build backend, which requires one wheel."""
    wheel = bench.wheel("numbers_one")
    text = f"""\
[project]
name = "shop"
version = "1.0"
dependencies = ["numbers-one"]
[project.scripts]
shop = "shop:main"
[tool.hatch-docker]
base = "oci:{bench.base()}"
platforms = ["linux/amd64"]
{table}
"""
    return written(
        bench.root / folder,
        {"pyproject.toml": text, "pylock.toml": lock_of(wheel), "main.py": "import shop\n", **files},
    )


def run(bench: Bench, project: Path, *arguments: str) -> Outcome:
    return command("build", *arguments, env=environment(bench.cache), folder=project)


def made(bench: Bench, project: Path, *arguments: str) -> Made:
    outcome = run(bench, project, *arguments)
    assert outcome.code == 0, outcome.err
    check_archive(archive_of(project), bench.root / "scratch")
    return read(archive_of(project))


class TestImage:
    def test_has_the_files_and_the_packages(self, bench: Bench) -> None:
        image = made(bench, app(bench, {"shop/__init__.py": "", "shop/data.txt": "ä", ".env": "", "pkg/x.pyc": ""}))
        assert image.config["Entrypoint"] == ["/app/.venv/bin/python", "/app/main.py"]
        assert image.config["WorkingDir"] == "/app"
        assert image.text("app/main.py") == "import shop\n"
        assert image.text("app/shop/data.txt") == "ä"
        assert "app/.venv/lib/python3.13/site-packages/numbers_one.py" in image.contents
        assert image.text("app/.venv/lib/python3.13/site-packages/hatch-docker-project.pth") == "/app\n"
        assert not {"app/.env", "app/pkg/x.pyc", "app/.venv/bin/shop"} & image.members.keys()
        own = image.layers[-1]
        assert "app/main.py" in own
        assert "app/.venv/lib/python3.13/site-packages/numbers_one.py" not in own

    def test_names_the_scripts_that_are_not_installed(self, bench: Bench) -> None:
        assert "the scripts of the project are not installed, since it has no build backend: shop" in (
            run(bench, app(bench)).err
        )

    def test_is_the_same_from_any_checkout(self, bench: Bench) -> None:
        first = app(bench, {"run.sh": "", "b/c": ""}, folder="one/shop")
        (first / "run.sh").chmod(0o755)
        digest = result_of(first)["digest"] if made(bench, first) else ""
        second = bench.root / "two" / "shop"
        shutil.copytree(first, second, ignore=shutil.ignore_patterns("dist"))
        for path in second.rglob("*"):
            os.utime(path, (1, 1))
            path.chmod(0o700 if path.is_dir() or path.name == "run.sh" else 0o600)
        image = made(bench, second)
        assert result_of(second)["digest"] == digest
        assert (image.members["app/run.sh"].mode, image.members["app/b/c"].mode) == (0o755, 0o644)
        # What a build writes is not part of the next one.
        made(bench, first, "--metadata-file", "meta.json", "--iidfile", "iid", "-o", "type=oci,dest=image.tar")
        made(bench, first)
        assert result_of(first)["digest"] == digest

    def test_without_a_version_it_is_tagged_latest(self, bench: Bench) -> None:
        root = written(bench.root / "My Project!", {"requirements.txt": "", "main.py": ""})
        settings = ("--set", f"base=oci:{bench.base()}", "--platform", "linux/amd64")
        image = made(bench, root, *settings)
        assert [reference.rpartition("/")[2] for reference in result_of(root)["references"]] == ["my-project:latest"]
        assert result_of(root)["version"] == ""
        assert "org.opencontainers.image.version" not in image.config["Labels"]
        planned = command("plan", env={**environment(bench.cache), "HATCH_DOCKER_BASE": settings[1][5:]}, folder=root)
        assert planned.out.splitlines()[0] == "my-project for linux/amd64", planned.err

    @pytest.mark.parametrize("table", ["", "[tool.poetry]\npackage-mode = false\n"])
    def test_a_directory_may_have_the_name_of_a_package(self, bench: Bench, table: str) -> None:
        lock = lock_of(bench.wheel("numbers_one"))
        tables = f"{table}[tool.poetry.dependencies]\nnumbers-one = '*'\n" if table else ""
        root = written(bench.root / "numbers_one", {"pyproject.toml": tables, "pylock.toml": lock, "main.py": ""})
        image = made(bench, root, "--set", f"base=oci:{bench.base()}", "--platform", "linux/amd64")
        assert "app/.venv/lib/python3.13/site-packages/numbers_one.py" in image.contents
        assert [reference.rpartition("/")[2] for reference in result_of(root)["references"]] == ["numbers-one:latest"]
        assert len(image.layers) == 3

    def test_a_requirements_file_of_powershell_is_read(self, bench: Bench) -> None:
        text = codecs.BOM_UTF16_LE + "# pip freeze\r\n".encode("utf-16-le")
        root = written(bench.root / "shop", {"requirements.txt": text, "main.py": ""})
        made(bench, root, "--set", f"base=oci:{bench.base()}", "--platform", "linux/amd64")

    def test_a_file_that_cannot_be_read_is_an_error(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        project = app(bench, {"a.txt": ""})
        stat = Path.stat

        def refuse(path: Path, **options: bool) -> os.stat_result:
            if path.name == "a.txt":
                raise PermissionError(13, "Permission denied", str(path))
            return stat(path, **options)

        monkeypatch.setattr(Path, "stat", refuse)
        outcome = run(bench, project)
        assert outcome.code == 1
        assert "a.txt" in outcome.err
        assert "Permission denied" in outcome.err
        assert "Traceback" not in outcome.err

    def test_a_mistake_in_dockerignore_is_an_error(self, bench: Bench) -> None:
        outcome = run(bench, app(bench, {".dockerignore": "ok\n["}))
        assert outcome.code != 0
        assert ".dockerignore:2: '[' is not a valid pattern, and Docker refuses it" in outcome.err


class TestStart:
    def test_several_mains_are_an_error_with_lines_to_copy(self, bench: Bench) -> None:
        outcome = run(bench, app(bench, {"shop/__main__.py": ""}))
        assert outcome.code != 0
        assert "tool.hatch-docker.entrypoint: several modules could start: main.py, shop/__main__.py" in outcome.err
        assert "[tool.hatch-docker]\n" in outcome.err
        assert 'entrypoint = ["python", "-m", "shop"]\n' in outcome.err
        assert "Traceback" not in outcome.err

    def test_a_command_settles_it(self, bench: Bench) -> None:
        project = app(bench, {"shop/__main__.py": ""}, table='entrypoint = ["python", "-m", "shop"]')
        assert made(bench, project).config["Entrypoint"] == ["python", "-m", "shop"]

    def test_the_only_main_does_not_start_if_something_else_is_configured(self, bench: Bench) -> None:
        image = made(bench, app(bench, table='cmd = ["python", "-m", "shop"]'))
        assert (image.config.get("Entrypoint"), image.config["Cmd"]) == (None, ["python", "-m", "shop"])

    @pytest.mark.parametrize("table", ["entrypoint = []", 'cmd = ["python", "-m", "shop"]', "cmd = []"])
    def test_so_does_any_choice(self, bench: Bench, table: str) -> None:
        project = app(bench, {"shop/__main__.py": ""}, table=table)
        assert made(bench, project).config.get("Entrypoint", []) == []

    def test_an_app_that_is_not_served_is_a_warning(self, bench: Bench) -> None:
        wheel = bench.wheel("uvicorn")
        project = app(bench, {"main.py": "app = FastAPI()\n", "pylock.toml": lock_of(wheel)})
        text = (project / "pyproject.toml").read_text()
        (project / "pyproject.toml").write_text(text.replace("numbers-one", "uvicorn"))
        outcome = run(bench, project)
        assert outcome.code == 0, outcome.err
        assert "warning: FastAPI, main.py: it defines an app, and running it does not serve that" in outcome.err
        assert 'entrypoint = ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000"]\n' in outcome.err
        assert "ports = [8000]\n" in outcome.err
