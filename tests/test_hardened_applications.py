"""Applications in hardened containers: user 65532, a read-only root, no capabilities, and no new privileges.

Each project has the settings that docs/configuration.md names for it ("Read-only containers"), and no others. Only
/tmp is writable.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import address, answer, built, environment, inside, output, running
from docker import DockerClient
from docker.models.containers import Container
from project_maker import make_project

from hatch_docker.support import dataclasses
from hatch_docker.support.dataclasses import dataclass

pytestmark = [pytest.mark.engine, pytest.mark.network]

HARDENED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
STATUS = """
import os
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(os.getuid(), os.getgid(), int(lines["CapEff"], 16), int(lines["CapBnd"], 16), int(lines["NoNewPrivs"]))
print(os.access("/app", os.W_OK), os.access(os.path.expanduser("~"), os.W_OK))
"""
_COMPLAINT = re.compile("read-only|denied|no writable|cannot|error|traceback", re.IGNORECASE)
HOME = 'env = {HOME = "/tmp"}'


@dataclass(frozen=True)
class Application:
    """What a project requires, its only module, and TOML for its table."""

    dependency: str
    code: str
    settings: str


GUNICORN = Application(
    "gunicorn",
    """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'"hello"']
""",
    'entrypoint = ["gunicorn", "--bind=0.0.0.0:8000", "--no-control-socket", "shop:app"]',
)
# The second process reads what the first compiled.
NUMBA = Application(
    "numba",
    """
import subprocess, sys
from numba import njit

@njit(cache=True)
def total(number):
    found = 0
    for each in range(number):
        found += each
    return found

def main():
    for _ in range(2):
        subprocess.run([sys.executable, "-c", "import shop; shop.show()"], check=True)

def show():
    print(total(10), sum(total.stats.cache_hits.values()))
""",
    HOME,
)
MATPLOTLIB = Application(
    "matplotlib",
    """
from matplotlib import pyplot

def main():
    pyplot.plot([1, 3, 2])
    pyplot.title("plot")
    pyplot.savefig("/tmp/plot.png")
    picture = pyplot.imread("/tmp/plot.png")
    print(picture.shape, picture.min() < picture.max())
""",
    HOME,
)
WEASYPRINT = Application(
    "weasyprint",
    """
from weasyprint import HTML

def main():
    document = HTML(string="<h1>h\\u00e9llo</h1>").write_pdf(uncompressed_pdf=True)
    print(document[:5].decode(), b"DejaVu" in document)
""",
    f'{HOME}\nruntime-packages = ["libpango-1.0-0", "libpangoft2-1.0-0"]',
)
CELERY = Application(
    "celery",
    """
import os
from celery import Celery

app = Celery("shop", broker="filesystem://localhost", backend="file:///tmp")
app.conf.broker_transport_options = {
    "data_folder_in": "/tmp/queue", "data_folder_out": "/tmp/queue", "control_folder": "/tmp/control"
}
os.makedirs("/tmp/queue", exist_ok=True)

@app.task
def add(first, second):
    return first + second
""",
    'entrypoint = ["celery", "--app=shop", "worker", "--beat", "--schedule=/tmp/schedule"]',
)
JUPYTER = Application(
    "jupyter-server",
    "",
    f'{HOME}\nentrypoint = ["jupyter-server", "--ip=0.0.0.0", "--port=8000", "--IdentityProvider.token="]',
)
DJANGO = Application(
    "django",
    """
import django, filecmp
from django.contrib.staticfiles import finders
from django.core.management import call_command

SECRET_KEY = "secret"
INSTALLED_APPS = ["django.contrib.staticfiles", "django.contrib.admin", "django.contrib.auth"]
INSTALLED_APPS += ["django.contrib.contenttypes", "django.contrib.messages"]
STATIC_URL, STATIC_ROOT = "static/", "/tmp/static"

def main():
    django.setup()
    call_command("collectstatic", interactive=False)
    name = "admin/css/base.css"
    print(filecmp.cmp(finders.find(name), f"{STATIC_ROOT}/{name}", shallow=False))
""",
    'env = {DJANGO_SETTINGS_MODULE = "shop"}',
)


DEBIAN = pytest.param("debian", marks=pytest.mark.debian)
BASES = [DEBIAN, *(pytest.param(each, marks=pytest.mark.base) for each in ("slim", "alpine"))]
# Its OS packages come from Debian's archive, and numba has no wheels for musl.
GLIBC = [DEBIAN, pytest.param("slim", marks=[pytest.mark.base, pytest.mark.debian])]


@pytest.fixture
def make(tmp_path: Path, shared_cache: Path, image: str) -> Callable[[str, Application], str]:
    """Build a project on a base, load it, and return its image's name."""

    def build(base: str, application: Application) -> str:
        project = make_project(
            tmp_path / "project",
            dependencies=[application.dependency],
            scripts={"shop": "shop:main"} if "def main" in application.code else {},
            docker=f'base = "{base}"\nimage = "{image}"\npython = "3.13"\n{application.settings}',
            files={"src/shop/__init__.py": application.code},
        )
        made = built(project, environment(shared_cache), target="docker:load")
        # Its optional thread pools need libraries (OpenMP, TBB). It has another one without them.
        warnings = [line for line in made.err.splitlines() if "warning: " in line and "numba needs" not in line]
        assert warnings == []
        return f"{image}:1.0"

    return build


@contextlib.contextmanager
def service(client: DockerClient, image: str) -> Iterator[Container]:
    """A hardened container of a service, which has not complained at the end."""
    with running(client, image, **HARDENED) as container:
        yield container
        assert not _COMPLAINT.search(said := container.logs().decode()), said


def printed(client: DockerClient, image: str) -> str:
    """What a hardened container prints, without complaints."""
    said = output(client, image, stderr=True, **HARDENED)
    assert not _COMPLAINT.search(said), said
    return said


@pytest.mark.parametrize("base", BASES)
def test_gunicorn_answers(base: str, client: DockerClient, make: Callable[[str, Application], str]) -> None:
    with service(client, make(base, GUNICORN)) as container:
        assert answer(address(container)) == "hello"
        status = inside(container, "python", "-c", STATUS)
        assert status.splitlines() == ["65532 65532 0 0 1", "False False"]


@pytest.mark.parametrize("base", GLIBC)
def test_numba_caches_compiled_functions(
    base: str, client: DockerClient, make: Callable[[str, Application], str]
) -> None:
    assert printed(client, make(base, NUMBA)).splitlines() == ["45 0", "45 1"]


@pytest.mark.parametrize("base", BASES)
def test_matplotlib_plots(base: str, client: DockerClient, make: Callable[[str, Application], str]) -> None:
    # A note may say that it makes its list of fonts.
    assert printed(client, make(base, MATPLOTLIB)).splitlines()[-1] == "(480, 640, 4) True"


@pytest.mark.parametrize("base", GLIBC)
def test_weasyprint_writes_text_in_a_font(
    base: str, client: DockerClient, make: Callable[[str, Application], str]
) -> None:
    assert printed(client, make(base, WEASYPRINT)) == "%PDF- True\n"


@pytest.mark.parametrize("base", BASES)
def test_celery_runs_tasks(base: str, client: DockerClient, make: Callable[[str, Application], str]) -> None:
    with service(client, make(base, CELERY)) as container:
        said = inside(container, "python", "-c", "import shop; print(shop.add.delay(2, 3).get(timeout=60))")
        assert said.splitlines()[-1] == "5"


@pytest.mark.parametrize("base", BASES)
def test_jupyter_server_lists_contents(
    base: str, client: DockerClient, make: Callable[[str, Application], str]
) -> None:
    with service(client, make(base, JUPYTER)) as container:
        url = address(container, "/api")
        assert answer(f"{url}/api/contents")["type"] == "directory"


@pytest.mark.parametrize("base", BASES)
def test_django_collects_static_files(base: str, client: DockerClient, make: Callable[[str, Application], str]) -> None:
    said = printed(client, make(base, DJANGO))
    assert re.search(r"\d{2,} static files copied to '/tmp/static'\.\n", said)
    assert said.endswith("\nTrue\n")


@pytest.mark.parametrize("base", BASES)
def test_home_may_be_a_tmpfs_instead(base: str, client: DockerClient, make: Callable[[str, Application], str]) -> None:
    image = make(base, dataclasses.replace(MATPLOTLIB, settings=""))
    tmpfs = {"/tmp": "", "/home/nonroot": "uid=65532"}
    said = output(client, image, stderr=True, **{**HARDENED, "tmpfs": tmpfs})
    assert not _COMPLAINT.search(said), said
