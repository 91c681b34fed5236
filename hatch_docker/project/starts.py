"""What an image may start: the one main module of a project without a build backend, and lines to copy for the rest.

Nothing is guessed. Suggestions name only programs that the image has, for what a light scan of the sources finds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from packaging.utils import canonicalize_name

from hatch_docker.base.target import VENV
from hatch_docker.config import default_script
from hatch_docker.errors import ConfigError
from hatch_docker.project.model import Project
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import dataclass, field, fields, replace
from hatch_docker.support.patterns import regex

Command: TypeAlias = tuple[str, ...] | str | None
Place: TypeAlias = Callable[[str], str]

_PYTHON = f"/{VENV}/bin/python"
_APP = regex(
    r"^(\w+)[ \t]*(?::[^=\n]+)?=[ \t]*(?:\w+\.)*(FastAPI|Starlette|Litestar|Quart|Flask|Celery)\(", re.MULTILINE
)
_FACTORY = regex(r"^def (create_app|make_app|get_app)\(", re.MULTILINE)
_STREAMLIT = regex(r"^(?:import streamlit\b|from streamlit\b)", re.MULTILINE)
_RUNS = regex(r"__name__|\brun\(|\bserve\(|\bmain\(")
# Inline script metadata (PyPA).
_INLINE = regex(r"^# /// script[ \t]*$", re.MULTILINE)
_GUARD = regex(r"^if __name__ == ['\"]__main__['\"]", re.MULTILINE)
_SQLITE = "django.db.backends.sqlite3"
_ASGI = frozenset(("FastAPI", "Starlette", "Litestar", "Quart"))
# Directories whose modules are not what an image starts.
_ASIDE = frozenset(("tests", "test", "docs", "examples", "benchmarks", "node_modules", "build", "dist", "migrations"))
_MOST_FILES, _LARGEST, _MOST_SHOWN = 1000, 256 << 10, 5
_PORT = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """Lines of configuration that start something; `what` says what that is. A string names a script."""

    what: str
    entrypoint: tuple[str, ...] | str
    ports: tuple[int, ...] = ()
    working_dir: str = ""
    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The lines, with a comment above them."""
        named = {field.name.replace("_", "-"): getattr(self, field.name) for field in fields(self)}
        del named["what"]
        return [f"# {self.what}", *(f"{key} = {toml.inline(value)}" for key, value in named.items() if value)]


def mains_of(paths: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The main modules among a project's files, with the command that starts each.

    They are main.py, `__main__.py`, and the `__main__.py` of packages whose names can be imported.
    """
    found: dict[str, tuple[str, ...]]
    found = {name: (_PYTHON, f"/app/{name}") for name in ("main.py", "__main__.py") if name in paths}
    for path in sorted(paths):
        package, _, rest = path.partition("/")
        if rest == "__main__.py" and package.isidentifier() and package not in _ASIDE:
            found[path] = (_PYTHON, "-m", package)
    return found


def main_of(paths: Collection[str]) -> tuple[str, ...] | None:
    """The command that starts the only main module among a project's files; None if there is not exactly one."""
    mains = mains_of(paths)
    return next(iter(mains.values())) if len(mains) == 1 else None


def check_start(project: Project, command: Command, packages: Collection[str], place: Place) -> list[str]:
    """Raise ConfigError for a project without a build backend that has no `command`, with lines to copy.

    Returns warnings: the command runs a module that defines an app and does not serve it; nothing is installed although
    the project lists requirements. `packages` are the normalized names of what the image installs, `place` gives the
    place of a key.
    """
    if project.has_backend:
        return []
    where = place("entrypoint")
    if command is None:
        mains = mains_of([path.as_posix() for path in _python_files(project.root)])
        found = suggestions(project, packages)
        what = "the project's files have no main.py or __main__.py to start"
        if len(mains) > 1:
            what = f"several modules could start: {', '.join(mains)}"
        elif mains:
            # It would have started if it were among the files.
            found = [each for each in found if each.what not in mains]
            ignore = ".dockerignore" if (project.root / ".dockerignore").exists() else ".gitignore"
            line = f"add the line !{next(iter(mains))} to that, or start something else"
            what = f"{ignore} leaves out {', '.join(mains)}, which would start: {line}"
        raise ConfigError([(where, f"{what}; {advice(found, where)}")])
    warnings = [] if packages else list(_unread(project.root, place("lock")))
    if command == project.start and (app := _unserved(project.root, command, packages)):
        warnings.append(f"{app.what}: it defines an app, and running it does not serve that; {advice([app], where)}")
    return warnings


def _unread(root: Path, place: str) -> Iterator[str]:
    """Why nothing is installed although the project lists requirements."""
    names = sorted(
        path.relative_to(root).as_posix()
        for pattern in ("requirements*.in", "requirements*.txt", "requirements/*.in", "requirements/*.txt")
        for path in root.glob(pattern)
        if path.name != "requirements.txt" or path.parent != root
    )
    if names:
        yield f"no packages are installed: of {', '.join(names)}, name the one for the image in {place}"
    elif _INLINE.search(_text(root / "main.py")):
        yield "no packages are installed: move the dependencies in main.py to a requirements.txt"


def script_of(project: Project, place: Place) -> str:
    """The script that the image starts if `entrypoint` is not set; empty if the project has none.

    Raises ConfigError with lines to copy if it has several, and none has the project's name.
    """
    where = place("entrypoint")
    try:
        return default_script(project.scripts, project=project.name, place=where)
    except ConfigError as error:
        ((_, message),) = error.problems
        required = {str(canonicalize_name(each.name)) for each in project.requirements((), ())}
        raise ConfigError([(where, f"{message}; {advice(suggestions(project, required), where)}")]) from None


def advice(found: Sequence[Suggestion], place: str) -> str:
    """What to do without a start: the lines of suggestions for the table of `place`."""
    if not found:
        return 'set the command, such as entrypoint = ["python", "app.py"], or entrypoint = [] to start nothing'
    table, dot, _ = place.rpartition(".")
    lines = [line for each in found[:_MOST_SHOWN] for line in each.lines()]
    head = f"copy {'these lines' if len(found) == 1 else 'one of these'} to pyproject.toml:"
    return "\n      ".join([head, *([f"[{table}]"] if dot else []), *lines])


def _unserved(root: Path, command: Command, packages: Collection[str]) -> Suggestion | None:
    """How to serve the app that main.py defines and does not run; None if it has none."""
    text = _text(root / "main.py")
    if not command or command[-1] != "/app/main.py" or _RUNS.search(text):
        return None
    return next(_apps(PurePosixPath("main.py"), text, packages, True), None)


def suggestions(project: Project, packages: Collection[str]) -> list[Suggestion]:
    """What an image of the project may start, the most likely first.

    `packages` are the normalized names of what it installs. Of a project with a build backend, only what is in its
    packages is in the image, as far as directories tell that.
    """
    root, copied = project.root, not project.has_backend
    files = [path for path in _python_files(root) if copied or len(path.parts) > 1]
    texts = {path: _text(root / path) for path in files}
    found = [Suggestion(what=f"the script {name}", entrypoint=name) for name in sorted(project.scripts)]
    found += _django(texts, packages, copied)
    for path, text in texts.items():
        found += _apps(path, text, packages, copied)
    return [*found, *_modules(texts, {each.what.rpartition(" ")[2] for each in found})] if copied else found


def _modules(texts: Mapping[PurePosixPath, str], served: Collection[str]) -> Iterator[Suggestion]:
    """The modules that run by themselves, except those that are `served`: mains, and others in the root."""
    mains = mains_of([path.as_posix() for path in texts])
    for name, command in mains.items():
        yield Suggestion(what=name, entrypoint=("python", *(each.removeprefix("/app/") for each in command[1:])))
    for path, text in texts.items():
        is_other = len(path.parts) == 1 and path.name not in {*mains, *served, "manage.py"}
        if is_other and _GUARD.search(text):
            yield Suggestion(what=path.name, entrypoint=("python", path.name))


def _apps(path: PurePosixPath, text: str, packages: Collection[str], copied: bool) -> Iterator[Suggestion]:
    """The suggestions for one module; `copied` says that it is at its own path in /app."""
    inside = PurePosixPath(*path.parts[1:]) if path.parts[0] == "src" else path
    parts = inside.with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        return
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    env = {"PYTHONPATH": "/app/src"} if copied and inside != path else {}
    if copied and "streamlit" in packages and _STREAMLIT.search(text):
        options = ("--server.headless", "true", "--server.address", "0.0.0.0", "--server.port", "8501")  # noqa: S104
        entrypoint = ("streamlit", "run", path.as_posix(), *options)
        yield Suggestion(what=f"Streamlit, {path}", entrypoint=entrypoint, ports=(8501,))
    for name, kind in _APP.findall(text):
        if kind == "Celery":
            if "celery" in packages:
                worker = ("celery", "--app", f"{module}:{name}", "worker")
                yield Suggestion(what=f"Celery, {path}", entrypoint=worker, env=env)
        else:
            yield from _served(kind, path, f"{module}:{name}", packages, env)
    kinds = [kind for kind in (*sorted(_ASGI), "Flask") if re.search(rf"\b{kind}\(", text)]
    if kinds and not _APP.search(text) and (factory := _FACTORY.search(text)):
        yield from _served(kinds[0], path, f"{module}:{factory[1]}()", packages, env)


_Server = Callable[[str], tuple[str, ...]]
_ADDRESS = ("--host", "0.0.0.0", "--port", str(_PORT))  # noqa: S104
_BIND = ("--bind", f"0.0.0.0:{_PORT}")


def _uvicorn(app: str) -> tuple[str, ...]:
    factory = ("--factory",) if app.endswith("()") else ()
    return ("uvicorn", *factory, app.removesuffix("()"), *_ADDRESS)


# The servers of each interface by their packages, the preferred ones first.
_ASGI_SERVERS: Mapping[str, _Server] = {
    "uvicorn": _uvicorn,
    "hypercorn": lambda app: ("hypercorn", app, *_BIND),
    "granian": lambda app: ("granian", "--interface", "asgi", *_ADDRESS, app),
    "daphne": lambda app: ("daphne", "--bind", "0.0.0.0", "--port", str(_PORT), app),  # noqa: S104
}
_WSGI_SERVERS: Mapping[str, _Server] = {
    "gunicorn": lambda app: ("gunicorn", app, *_BIND),
    "waitress": lambda app: (
        *("waitress-serve", "--listen", f"0.0.0.0:{_PORT}"),
        *(("--call", app.removesuffix("()")) if app.endswith("()") else (app,)),
    ),
    "granian": lambda app: ("granian", "--interface", "wsgi", *_ADDRESS, app),
    "flask": lambda app: ("flask", "--app", app, "run", *_ADDRESS),
}


def _served(
    kind: str, path: PurePosixPath, app: str, packages: Collection[str], env: Mapping[str, str]
) -> Iterator[Suggestion]:
    """How the first of the servers that are installed serves an app."""
    servers = _ASGI_SERVERS if kind in _ASGI else _WSGI_SERVERS
    server = next((each for each in servers if each in packages), "")
    if server:
        what = f"{kind}, {path}" + (" (Flask's server is for development: add gunicorn)" if server == "flask" else "")
        yield Suggestion(what=what, entrypoint=servers[server](app), ports=(_PORT,), env=env)


def _django(texts: Mapping[PurePosixPath, str], packages: Collection[str], copied: bool) -> Iterator[Suggestion]:
    if "django" not in packages:
        return
    for manage in (path for path in texts if path.name == "manage.py"):
        folder = f"/app/{manage.parent}" if copied and len(manage.parts) > 1 else ""
        served = False
        for name, servers in (("wsgi", _WSGI_SERVERS), ("asgi", _ASGI_SERVERS)):
            server = next((each for each in servers if each in packages and each != "flask"), "")
            for path in (each for each in texts if each.name == f"{name}.py" and each.parent.parent == manage.parent):
                if server and not served:
                    entrypoint = servers[server](f"{path.parent.name}.{name}:application")
                    served = True
                    yield Suggestion(what=f"Django, {path}", entrypoint=entrypoint, ports=(_PORT,), working_dir=folder)
        if copied and not served:
            entrypoint = ("python", "manage.py", "runserver", f"0.0.0.0:{_PORT}")
            what = f"Django, {manage} (its server is for development: add gunicorn or uvicorn)"
            start = Suggestion(what=what, entrypoint=entrypoint, ports=(_PORT,), working_dir=folder)
            # That server opens the database before it listens, and SQLite's is a new file beside manage.py.
            yield replace(start, user="0:0") if any(_SQLITE in text for text in texts.values()) else start


def _python_files(root: Path) -> list[PurePosixPath]:
    """The modules of a project, the nearest to its root first; not all of a very large one."""
    from hatch_docker.project.unwanted import is_unwanted_directory

    found: list[PurePosixPath] = []
    for parent, folders, names in os.walk(root):
        folder = Path(parent)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _ASIDE and not name.startswith(".") and not is_unwanted_directory(folder / name)
        )
        found += [PurePosixPath((folder / name).relative_to(root).as_posix()) for name in names if name.endswith(".py")]
        if len(found) > _MOST_FILES:
            break
    return sorted(found, key=lambda path: (len(path.parts), path.as_posix()))


def _text(path: Path) -> str:
    """The text of a module; empty if it cannot be read, or is too large to be written by hand."""
    try:
        if path.is_file() and path.stat().st_size <= _LARGEST:
            return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        pass
    return ""
