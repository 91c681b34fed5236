"""What a project starts, and the lines that are suggested where nothing does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from builds import Bench
from test_files_project import written

from hatch_docker.config import Config, parse
from hatch_docker.errors import ConfigError
from hatch_docker.project.model import Project
from hatch_docker.project.starts import check_start, main_of, mains_of, script_of, suggestions
from hatch_docker.support import toml

PYTHON = "/app/.venv/bin/python"
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
FLASK = "import flask\napp: flask.Flask = flask.Flask(__name__)\n"
PLACE = Config().place


def project(root: Path, **values: object) -> Project:
    return Project(root=root, name="shop", version="1", **values)  # type: ignore[arg-type]


class TestMain:
    @pytest.mark.parametrize(
        ("paths", "command"),
        [
            (["main.py", "shop/__init__.py"], (PYTHON, "/app/main.py")),
            (["__main__.py"], (PYTHON, "/app/__main__.py")),
            (["shop/__main__.py", "shop/main.py"], (PYTHON, "-m", "shop")),
            (["main.py", "tests/__main__.py", "my-data/__main__.py"], (PYTHON, "/app/main.py")),
            ([], None),
            (["app.py", "src/main.py"], None),
            (["main.py", "__main__.py"], None),
            (["main.py", "shop/__main__.py"], None),
            (["a/__main__.py", "b/__main__.py"], None),
        ],
    )
    def test_starts_if_it_is_the_only_one(self, paths: list[str], command: tuple[str, ...] | None) -> None:
        assert main_of(paths) == command

    def test_each_has_a_command(self) -> None:
        assert [*mains_of(["b/__main__.py", "main.py", "a/__main__.py"])] == [
            "main.py",
            "a/__main__.py",
            "b/__main__.py",
        ]


def first(root: Path, files: Mapping[str, str], packages: str) -> list[list[str]]:
    """The commands that are suggested for a project."""
    found = suggestions(project(written(root, files), has_backend=False), frozenset(packages.split()))
    return [[each.entrypoint] if isinstance(each.entrypoint, str) else [*each.entrypoint] for each in found]


class TestSuggestions:
    @pytest.mark.parametrize(
        ("files", "packages", "command"),
        [
            ({"main.py": FASTAPI}, "fastapi uvicorn gunicorn", "uvicorn main:app --host 0.0.0.0 --port 8000"),
            ({"shop/api.py": FASTAPI}, "fastapi hypercorn", "hypercorn shop.api:app --bind 0.0.0.0:8000"),
            ({"src/shop/__init__.py": FASTAPI}, "fastapi uvicorn", "uvicorn shop:app --host 0.0.0.0 --port 8000"),
            ({"main.py": FLASK}, "flask gunicorn uvicorn", "gunicorn main:app --bind 0.0.0.0:8000"),
            ({"main.py": FLASK}, "flask waitress", "waitress-serve --listen 0.0.0.0:8000 main:app"),
            ({"main.py": FLASK}, "flask", "flask --app main:app run --host 0.0.0.0 --port 8000"),
            (
                {"shop/__init__.py": "def create_app():\n    app = Flask(__name__)\n    return app\n"},
                "flask gunicorn",
                "gunicorn shop:create_app() --bind 0.0.0.0:8000",
            ),
            (
                {"web.py": "def create_app():\n    return FastAPI()\n"},
                "uvicorn fastapi",
                "uvicorn --factory web:create_app --host 0.0.0.0 --port 8000",
            ),
            (
                {"tasks.py": "from celery import Celery\nworker = Celery('x')\n"},
                "celery",
                "celery --app tasks:worker worker",
            ),
            (
                {"home.py": "import streamlit as st\n"},
                "streamlit",
                "streamlit run home.py --server.headless true --server.address 0.0.0.0 --server.port 8501",
            ),
            (
                {"manage.py": "", "site1/wsgi.py": "", "site1/asgi.py": ""},
                "django gunicorn uvicorn",
                "gunicorn site1.wsgi:application --bind 0.0.0.0:8000",
            ),
            (
                {"manage.py": "", "site1/wsgi.py": "", "site1/asgi.py": ""},
                "django uvicorn",
                "uvicorn site1.asgi:application --host 0.0.0.0 --port 8000",
            ),
            ({"manage.py": "", "site1/wsgi.py": ""}, "django", "python manage.py runserver 0.0.0.0:8000"),
            ({"main.py": "", "shop/__main__.py": ""}, "", "python main.py"),
            ({"run.py": "if __name__ == '__main__':\n    go()\n"}, "", "python run.py"),
        ],
    )
    def test_are_for_what_is_found_and_installed(
        self, tmp_path: Path, files: Mapping[str, str], packages: str, command: str
    ) -> None:
        assert first(tmp_path, files, packages)[0] == command.split()

    def test_django_s_own_server_may_write_a_database_file(self, tmp_path: Path) -> None:
        settings = "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'db.sqlite3'}}\n"
        root = written(tmp_path, {"manage.py": "", "site1/settings.py": settings, "site1/wsgi.py": ""})
        (own,) = suggestions(project(root, has_backend=False), {"django"})
        assert own.entrypoint == ("python", "manage.py", "runserver", "0.0.0.0:8000")
        assert 'user = "0:0"' in own.lines()
        (served,) = suggestions(project(root, has_backend=False), {"django", "gunicorn"})
        assert not served.user

    @pytest.mark.parametrize(
        ("files", "packages"),
        [
            ({"app.py": FASTAPI}, "fastapi"),
            ({"app.py": "app = 1\n"}, "uvicorn gunicorn"),
            ({"tests/app.py": FASTAPI, ".hidden/app.py": FASTAPI, "v/pyvenv.cfg": "", "v/app.py": FASTAPI}, "uvicorn"),
            ({"my-app.py": FASTAPI}, "uvicorn"),
            ({"app.py": FASTAPI + "#" * (1 << 18)}, "uvicorn"),
            ({}, "uvicorn django celery streamlit"),
        ],
    )
    def test_name_nothing_that_is_not_there(self, tmp_path: Path, files: Mapping[str, str], packages: str) -> None:
        assert first(tmp_path, files, packages) == []

    def test_have_the_working_directory_and_variables_that_they_need(self, tmp_path: Path) -> None:
        written(tmp_path, {"backend/manage.py": "", "backend/x/wsgi.py": "", "src/shop/web.py": FASTAPI})
        django, fastapi = suggestions(project(tmp_path, has_backend=False), {"django", "gunicorn", "uvicorn"})
        assert django.lines()[1:] == [
            'entrypoint = ["gunicorn", "x.wsgi:application", "--bind", "0.0.0.0:8000"]',
            "ports = [8000]",
            'working-dir = "/app/backend"',
        ]
        assert fastapi.lines()[-1] == 'env = { "PYTHONPATH" = "/app/src" }'

    def test_are_valid_configuration(self, tmp_path: Path) -> None:
        written(tmp_path, {"backend/manage.py": "", "src/shop/web.py": FASTAPI, "home.py": "import streamlit\n"})
        source = project(tmp_path, has_backend=False, scripts={"shop": "shop:main"})
        found = suggestions(source, {"django", "uvicorn", "streamlit"})
        assert len(found) == 4
        for each in found:
            config, _, mistakes = parse(toml.loads("\n".join(each.lines())), {})
            assert not mistakes
            assert config.runtime.entrypoint == each.entrypoint

    def test_files_that_are_no_text_do_not_matter(self, tmp_path: Path) -> None:
        (tmp_path / "data.py").write_bytes(b"\xff\xfe\0")
        (tmp_path / "folder.py").mkdir()
        (tmp_path / "gone.py").symlink_to("nothing")
        assert suggestions(project(tmp_path, has_backend=False), {"uvicorn"}) == []

    def test_of_a_wheel_are_for_modules_of_its_packages(self, tmp_path: Path) -> None:
        written(tmp_path, {"main.py": FASTAPI, "home.py": "import streamlit\n", "src/shop/web.py": FASTAPI})
        (found,) = suggestions(project(tmp_path), {"uvicorn", "streamlit"})
        assert found.lines()[1:] == [
            'entrypoint = ["uvicorn", "shop.web:app", "--host", "0.0.0.0", "--port", "8000"]',
            "ports = [8000]",
        ]


class TestCheck:
    def test_a_project_with_files_needs_a_start(self, tmp_path: Path) -> None:
        written(tmp_path, {"app.py": FASTAPI})
        with pytest.raises(ConfigError) as caught:
            check_start(project(tmp_path, has_backend=False), None, {"uvicorn"}, PLACE)
        ((place, message),) = caught.value.problems
        assert place == "tool.hatch-docker.entrypoint"
        what, table, comment, entrypoint, ports = [line.strip() for line in message.splitlines()]
        assert what.startswith("the project's files have no main.py or __main__.py to start; copy these lines")
        assert (table, comment, ports) == ("[tool.hatch-docker]", "# FastAPI, app.py", "ports = [8000]")
        assert json.loads(entrypoint.partition(" = ")[2])[:2] == ["uvicorn", "app:app"]

    def test_a_main_that_is_left_out_is_named(self, tmp_path: Path) -> None:
        source = project(written(tmp_path, {"main.py": ""}), has_backend=False)
        with pytest.raises(
            ConfigError, match=r"\.gitignore leaves out main\.py, which would start: add the line !main"
        ):
            check_start(source, None, (), PLACE)

    def test_without_a_suggestion_it_shows_the_key(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r'such as entrypoint = \["python", "app.py"\], or entrypoint = \[\]'):
            check_start(project(tmp_path, has_backend=False), None, (), PLACE)

    def test_a_project_with_a_backend_or_a_command_does_not(self, tmp_path: Path) -> None:
        assert check_start(project(tmp_path), None, (), PLACE) == []
        assert check_start(project(tmp_path, has_backend=False), (), (), PLACE) == []
        assert check_start(project(tmp_path, has_backend=False), "shop", (), PLACE) == []

    @pytest.mark.parametrize(
        ("text", "warns"),
        [
            (FASTAPI, True),
            (FASTAPI + "if __name__ == '__main__':\n    uvicorn.run(app)\n", False),
            ("print()\n", False),
        ],
    )
    def test_an_app_that_nothing_serves_is_a_warning(self, tmp_path: Path, text: str, warns: bool) -> None:
        start = (PYTHON, "/app/main.py")
        found = check_start(
            project(written(tmp_path, {"main.py": text}), has_backend=False, start=start), start, {"uvicorn"}, PLACE
        )
        assert bool(found) is warns

    @pytest.mark.parametrize(
        ("files", "warning"),
        [
            (
                {"requirements.in": "", "requirements/prod.txt": ""},
                "of requirements.in, requirements/prod.txt, name the",
            ),
            ({"main.py": "# /// script\n# dependencies = ['idna']\n# ///\n"}, "move the dependencies in main.py to"),
        ],
    )
    def test_requirements_that_nothing_reads_are_a_warning(
        self, tmp_path: Path, files: Mapping[str, str], warning: str
    ) -> None:
        source = project(written(tmp_path, files), has_backend=False)
        (found,) = check_start(source, ("sh",), (), PLACE)
        assert warning in found
        assert check_start(source, ("sh",), {"idna"}, PLACE) == []
        assert (
            check_start(
                project(written(tmp_path / "x", {"requirements.txt": ""}), has_backend=False), ("sh",), (), PLACE
            )
            == []
        )

    def test_several_scripts_are_an_error_with_lines_for_what_is_required(self, tmp_path: Path) -> None:
        written(tmp_path, {"src/shop/web.py": FASTAPI})
        two = {"buy": "shop:buy", "sell": "shop:sell"}
        with pytest.raises(ConfigError) as caught:
            script_of(project(tmp_path, scripts=two, dependencies=("uvicorn[standard]>=0.3",)), PLACE)
        message = str(caught.value)
        assert "the project has several scripts, set the one to start: 'buy', 'sell'; copy one of these" in message
        assert 'entrypoint = "buy"' in message
        assert 'entrypoint = ["uvicorn", "shop.web:app"' in message
        assert script_of(project(tmp_path, scripts={"buy": "shop:buy"}), PLACE) == "buy"


def test_a_wheel_without_a_start_is_noted_with_lines_to_copy(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    root = bench.project(scripts={}, files={"src/shop/web.py": FASTAPI}, wheels=[bench.wheel("uvicorn")])
    outcome = bench.build(root)
    assert outcome.code == 0, outcome.err
    assert "no entrypoint: the project has no script or __main__, so the base's command is kept; copy" in outcome.err
    assert "[tool.hatch.build.targets.docker]\n" in outcome.err
    assert 'entrypoint = ["uvicorn", "shop.web:app", "--host", "0.0.0.0", "--port", "8000"]\n' in outcome.err
