"""What to do about a program that an image lacks: tables of well-known programs, and lines to copy."""

from __future__ import annotations

import difflib
import json
import posixpath
import shlex
from collections.abc import Sequence

from hatch_docker.base.facts import BaseFacts
from hatch_docker.base.target import VENV
from hatch_docker.config import BaseSpec
from hatch_docker.image.linkage import manager_of
from hatch_docker.image.programs import SHELLS, Process
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

# Programs of Python packages: the package, if it has another name.
_PYTHON_PROGRAMS = {
    **dict.fromkeys(
        (
            *("uvicorn", "gunicorn", "hypercorn", "daphne", "granian", "flask", "celery", "alembic", "streamlit"),
            *("dramatiq", "rq", "sanic", "litestar", "airflow", "mlflow", "dagster", "prefect", "chainlit", "gradio"),
            *("arq", "taskiq", "faststream", "locust", "scrapy", "honcho", "circusd", "pytest", "black", "ruff"),
            *("ipython", "kedro", "luigi", "robot", "voila", "panel", "bokeh", "marimo", "solara", "mkdocs", "behave"),
        ),
        "",
    ),
    "waitress-serve": "waitress",
    "uwsgi": "uwsgi",
    "django-admin": "django",
    "fastapi": '"fastapi[standard]"',
    "supervisord": "supervisor",
    "jupyter": "jupyter-server",
    "jupyter-lab": "jupyterlab",
    "huey_consumer": "huey",
    "opentelemetry-instrument": "opentelemetry-distro",
    "ddtrace-run": "ddtrace",
    "newrelic-admin": "newrelic",
    "aws": "awscli",
    "nameko": "nameko",
    "dbt": "dbt-core",
}
# Programs of OS packages, for Alpine's apk and Debian's apt.
_OS_PROGRAMS = {
    "curl": ("curl", "curl"),
    "wget": ("wget", "wget"),
    "nc": ("netcat-openbsd", "netcat-openbsd"),
    "git": ("git", "git"),
    "tini": ("tini", "tini"),
    "dumb-init": ("dumb-init", "dumb-init"),
    "gosu": ("", "gosu"),
    "su-exec": ("su-exec", ""),
    "nginx": ("nginx", "nginx"),
    "psql": ("postgresql-client", "postgresql-client"),
    "pg_isready": ("postgresql-client", "postgresql-client"),
    "pg_dump": ("postgresql-client", "postgresql-client"),
    "mysql": ("mariadb-client", "mariadb-client"),
    "redis-cli": ("redis", "redis-tools"),
    "ffmpeg": ("ffmpeg", "ffmpeg"),
    "node": ("nodejs", "nodejs"),
    "npm": ("npm", "npm"),
    "java": ("openjdk21-jre-headless", "default-jre-headless"),
    "openssl": ("openssl", "openssl"),
    "ps": ("procps", "procps"),
    "pgrep": ("procps", "procps"),
    "pidof": ("procps", "sysvinit-utils"),
    "jq": ("jq", "jq"),
    "ssh": ("openssh-client", "openssh-client"),
    "cron": ("", "cron"),
    "xvfb-run": ("xvfb-run", "xvfb"),
    "tesseract": ("tesseract-ocr", "tesseract-ocr"),
    "pandoc": ("pandoc", "pandoc"),
    "busybox": ("busybox", "busybox-static"),
    "bash": ("bash", ""),
}
# Tools that make an environment and run commands in it: an image has one, and needs none.
_RUNNERS = frozenset(("uv", "poetry", "pdm", "pipenv", "hatch", "rye", "pixi", "uvx", "pipx"))
_PYTHON = regex(r"python(?:[23](?:\.\d+)?)?")
_URL = regex(r"https?://[^\s'\"]+")
_INSTRUCTIONS = frozenset(("CMD", "CMD-SHELL", "NONE", "ENTRYPOINT", "RUN"))
_FETCHERS = frozenset(("curl", "wget", "http", "httpie", "nc"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisor:
    """What advice depends on: the base's package `manager`, how to get a base with a shell, and a port of the image."""

    manager: str = ""
    shell_base: str = ""
    port: str = ""


def advisor_of(base: BaseFacts, spec: BaseSpec, ports: Sequence[str]) -> Advisor:
    """The advisor for an image on a base that is requested by `spec`; `ports` are like `8080/tcp`."""
    is_made = spec.transport == "debian"
    return Advisor(
        manager=manager_of(base),
        shell_base=f'base = "debian:{spec.value}-debug" has a shell' if is_made else "set a base that has it",
        port=next((each.partition("/")[0] for each in ports if each.endswith("/tcp")), ""),
    )


def remedy(name: str, arguments: Sequence[str], process: Process, advisor: Advisor, key: str) -> str:
    """What to do about a program `name` that the image lacks, in the command of a key with these arguments."""
    base = posixpath.basename(name)
    if mistake := _mistaken(name, arguments, process, key):
        return mistake
    if base in SHELLS:
        return _other_shell(base, process, advisor)
    if base == "env":
        return f"name the program itself, such as #!/{VENV}/bin/python or its path"
    if base in _FETCHERS and key == "healthcheck":
        package = _os_package(base, advisor.manager)
        return f"{_runtime_packages(package)}{', or ' if package else ''}do without: {python_check(arguments, advisor)}"
    if package := _os_package(base, advisor.manager):
        return _runtime_packages(package)
    if base in _PYTHON_PROGRAMS:
        return f"no package installs it: add {_PYTHON_PROGRAMS[base] or base} to the dependencies"
    if close := difflib.get_close_matches(base, sorted({*process.programs()}), n=1, cutoff=0.75):
        return f"did you mean {close[0]!r}?"
    if "/" in name:
        return "extra-files adds files of the project, or declare the directory in volumes if it is mounted"
    return "no package installs it: add the one that does to the dependencies, or to runtime-packages"


def python_check(arguments: Sequence[str], advisor: Advisor) -> str:
    """A healthcheck by the image's Python instead of curl or wget."""
    urls = [match[0] for each in arguments if (match := _URL.search(each))]
    url = urls[0] if urls else f"http://localhost:{advisor.port or '8000'}/"
    code = f"import urllib.request as r; r.urlopen({url!r}, timeout=3)"
    return f"healthcheck = {{ cmd = {toml.inline(('python', '-c', code))} }}"


def _mistaken(name: str, arguments: Sequence[str], process: Process, key: str) -> str:
    """What is wrong with the way in which a command is written; empty if nothing is known to be."""
    if name in _INSTRUCTIONS:
        return f"it is a list of a program and its arguments, without {name}"
    if name.startswith("~") or "$" in name:
        return "nothing expands it there: write the path"
    try:
        words = shlex.split(name)
    except ValueError:
        words = []
    if len(words) > 1:
        return f"write each argument as a string of its own: {toml.inline((*words, *arguments))}"
    if "/" not in name and process.merged.files.is_file(process.absolute(name)):
        return f"it is in {process.directory}, which is not on PATH: write {process.absolute(name)}"
    if _PYTHON.fullmatch(posixpath.basename(name)):
        return f"the image has Python {process.merged.target.minor}: write python"
    if name in _RUNNERS:
        return f"the image's environment is on PATH: write the command without {name} run"
    if key != "healthcheck" and ":" in name and "/" not in name:
        return "it is an application, which a server such as uvicorn or gunicorn runs"
    return ""


def _other_shell(name: str, process: Process, advisor: Advisor) -> str:
    """What to do about a shell that the image lacks: it may have another one."""
    if name != "sh" and process.merged.files.is_file("bin/sh"):
        package = _runtime_packages(_os_package(name, advisor.manager))
        return f"write sh, which it has{f', or {package}' if package else ''}"
    return f"{advisor.shell_base or 'set a base with a shell'}, or write the command as a list without a shell"


def _os_package(program: str, manager: str) -> str:
    apk, apt = _OS_PROGRAMS.get(program, ("", ""))
    return {"apk": apk, "apt": apt}.get(manager, "")


def _runtime_packages(package: str) -> str:
    return f"runtime-packages = {json.dumps([package])} adds it" if package else ""
