"""The applications that are packaged, their changes, and the locks that all methods share.

They are written and locked while the benchmark runs, since locks name the index that they were made with.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from .processes import Command

LOCKED = ("pyproject.toml", "uv.lock", "requirements.txt")

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0.0"
requires-python = ">=3.11"
dependencies = [
{dependencies}
]

[project.scripts]
{name} = "{module}.main:main"

[tool.hatch.build.targets.wheel]
packages = ["src/{module}"]

[tool.hatch.build.targets.docker]
dependencies = ["hatch-docker @ {checkout}"]
python = "3.13"
"""

_MAIN = """\
{imports}

def main():
    print("started")


if __name__ == "__main__":
    main()
"""

# Pure packages of at most 100 kB without dependencies, which none of the applications has.
SMALL = (
    "toolz",
    "tabulate",
    "cachetools",
    "pluggy",
    "iniconfig",
    "zipp",
    "tomlkit",
    "parse",
    "inflection",
    "backoff",
    "blinker",
    "filelock",
    "mergedeep",
    "pyperclip",
    "semver",
    "sortedcontainers",
    "schema",
    "termcolor",
    "text-unidecode",
    "texttable",
    "unidiff",
    "uritemplate",
    "xmltodict",
    "pathspec",
)
# Packages of 10 to 100 MB, with few dependencies that are not in L.
BIG = (
    "polars",
    "duckdb",
    "llvmlite",
    "opencv-python-headless",
    "onnxruntime",
    "pymupdf",
    "statsmodels",
    "playwright",
    "scikit-image",
    "botocore",
    "faiss-cpu",
    "plotly",
    "jaxlib",
    "tensorstore",
    "rasterio",
    "ray",
)
# Each round adds two of a kind, one for each output, and round 0 does, too: what was built before is not new.
MOST_ROUNDS = min(len(SMALL), len(BIG)) // 2 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A project: its name, what it requires, the imports of its module, and what a second project also requires.

    The `second` requirements are such that about 80 % of the locked packages of that project are those of this one.
    """

    name: str
    dependencies: tuple[str, ...]
    imports: str
    second: tuple[str, ...]

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")


APPLICATIONS = {
    "S": Application(
        name="app-s",
        dependencies=("requests", "cryptography"),
        imports="import requests\nfrom cryptography.fernet import Fernet\n",
        second=("attrs", "six"),
    ),
    "M": Application(
        name="app-m",
        dependencies=(
            "fastapi[standard]",
            "sqlalchemy",
            "alembic",
            "pydantic-settings",
            "httpx",
            "redis",
            "celery",
            "structlog",
            "boto3",
            "psycopg[binary]",
            "prometheus-client",
            "orjson",
            "python-jose",
        ),
        imports="import alembic.command, boto3.session, fastapi, httpx, psycopg, redis, sqlalchemy.orm, structlog\n"
        "from celery import Celery\n",
        second=("sphinx", "aiohttp"),
    ),
    "L": Application(
        name="app-l",
        dependencies=(
            "numpy",
            "pandas",
            "scipy",
            "scikit-learn",
            "pyarrow",
            "matplotlib",
            "fastapi",
            "uvicorn",
        ),
        imports="import fastapi, matplotlib.pyplot, numpy, pandas, pyarrow.parquet\n"
        "import scipy.stats, sklearn.linear_model\n",
        second=("flask", "httpx"),
    ),
}


@dataclass(frozen=True, slots=True)
class Projects:
    """Directories of an application and its changes below `folder`, each locked once, with `cache` as uv's cache."""

    folder: Path
    checkout: Path
    cache: Path

    def base(self, app: Application) -> Path:
        """The application as it is at first."""
        return self._locked(app, "base")

    def small(self, app: Application, number: int) -> Path:
        """The application with another small dependency for each number."""
        return self._with(app, SMALL[number])

    def big(self, app: Application, number: int) -> Path:
        """The application with another big dependency for each number."""
        return self._with(app, BIG[number])

    def second(self, app: Application) -> Path:
        """Another project, which requires the same and some more."""
        other = replace(app, name=f"{app.name}-second", dependencies=(*app.dependencies, *app.second))
        return self._locked(other, "base", start=self.base(app))

    def _with(self, app: Application, dependency: str) -> Path:
        more = replace(app, dependencies=(*app.dependencies, dependency))
        return self._locked(more, dependency, start=self.base(app))

    def _locked(self, app: Application, variant: str, start: Path | None = None) -> Path:
        folder = self.folder / app.name / variant
        if (folder / LOCKED[-1]).exists():
            return folder
        write(folder, app, self.checkout)
        if start:
            # The packages that both have keep their versions.
            shutil.copy(start / "uv.lock", folder)
        environ = {"UV_CACHE_DIR": str(self.cache)}
        Command.of("uv", "lock", "--quiet", cwd=folder, environ=environ).run()
        export = ("--quiet", "--frozen", "--no-dev", "--no-emit-project", "--output-file", LOCKED[-1])
        Command.of("uv", "export", *export, cwd=folder, environ=environ).run()
        return folder


def write(folder: Path, app: Application, checkout: Path) -> None:
    """Write the application's files, without a lock."""
    source = folder / "src" / app.module
    source.mkdir(parents=True)
    values = {"name": app.name, "module": app.module, "checkout": checkout.as_uri()}
    dependencies = "\n".join(f'  "{each}",' for each in app.dependencies)
    (folder / "pyproject.toml").write_text(_PYPROJECT.format(dependencies=dependencies, **values), encoding="utf-8")
    (source / "__init__.py").touch()
    (source / "main.py").write_text(_MAIN.format(imports=app.imports), encoding="utf-8")


def change_line(project: Path) -> None:
    """Change one line of the module to one that no cache has seen."""
    (main,) = project.glob("src/*/main.py")
    with main.open("a", encoding="utf-8") as file:
        file.write(f"# {secrets.token_hex(8)}\n")


def packages(project: Path) -> set[str]:
    """The packages with versions that the lock of a project names, without the project."""
    lines = (project / LOCKED[-1]).read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if line[:1].isalnum()}
