"""The requirements of tests, such as an engine: checked once; tests without theirs are skipped, with a summary.

`HATCH_DOCKER_TEST_REQUIRE=engine,registry,base,network,debian,tools,pythons,seeds,trials` makes a missing one an error,
so that nothing is skipped unnoticed.
"""

from __future__ import annotations

import compileall
import functools
import gc
import os
import secrets
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib.metadata import Distribution, EntryPoints, PathDistribution
from pathlib import Path
from types import SimpleNamespace

import docker
import hypothesis
import pytest
from containers import remove
from docker import DockerClient
from mutations import many

import hatch_docker
from hatch_docker.engine.client import answers
from hatch_docker.errors import HatchDockerError
from hatch_docker.index import pip_config
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.stamps import host
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http

# Background processes of a shell ignore Ctrl-C, and those of nohup hang-ups. So would the builds that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests compare what builds leave in projects, whose modules some of them import. Only the modules of the tests are
# compiled, see pytest_collection; the bytecode of child processes is in a directory of its own, see pytest_configure.
_WRITES_NO_BYTECODE, sys.dont_write_bytecode = sys.dont_write_bytecode, True
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" not in os.environ:
    # Child processes would compile it again, each for itself.
    compileall.compile_dir(Path(hatch_docker.__file__).parent, quiet=2)

# Half of the time of builds with small files is the disk's: the tests' files are in memory if there is much of it.
_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 12 * 10**9


def _is_large(folder: Path) -> bool:
    """Whether a file system has room for the files of all tests, and runs programs."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize > _ENOUGH_BYTES and not found.f_flag & getattr(os, "ST_NOEXEC", 8)


if "TMPDIR" not in os.environ and _is_large(_MEMORY):
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

# Slow machines are no failure, and the examples of a test overwrite what they leave in its fixtures.
_CHECKS = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
_PROPERTIES = hypothesis.settings(deadline=None, max_examples=many(20), suppress_health_check=_CHECKS)
# CI needs the same examples in every run.
hypothesis.settings.register_profile("ci", _PROPERTIES, derandomize=True)
hypothesis.settings.register_profile("local", _PROPERTIES)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

BASES = ("python:3.13-slim", "python:3.13-alpine")
TOOLS = ("skopeo", "umoci")


def mirrors() -> dict[str, str]:
    """HATCH_DOCKER_REGISTRY_MIRRORS as a mapping."""
    pairs = os.environ.get("HATCH_DOCKER_REGISTRY_MIRRORS", "").split(",")
    return dict(pair.strip().split("=", 1) for pair in pairs if "=" in pair)


def _engine() -> bool:
    with warnings.catch_warnings():
        # If nothing listens, the SDK does not close its socket.
        warnings.simplefilter("ignore", ResourceWarning)
        available = answers(os.environ)
        gc.collect()
    return available


def _registry() -> bool:
    names = ("HATCH_DOCKER_TEST_REGISTRY", "HATCH_DOCKER_TEST_AUTH_REGISTRY")
    return all(os.environ.get(name) for name in names)


def _base() -> bool:
    registry = Registry(Http(), credentials=Credentials(), mirrors=mirrors())
    try:
        for base in BASES:
            registry.resolve(Reference.parse(base))
    except HatchDockerError:
        return False
    return True


def _online() -> bool:
    """Whether tests may use servers of others. By default they are fast, and work offline."""
    return bool(os.environ.get("HATCH_DOCKER_TEST_ONLINE"))


def _network() -> bool:
    from hatch_docker.index.client import Index
    from hatch_docker.index.settings import discover
    from hatch_docker.support.http import Network

    if not _online():
        return False
    try:
        settings = discover(root=Path.cwd(), environ=os.environ, home=Path.home())
        return bool(Index(settings, Http(Network(ca_file=settings.ca_file))).files("packaging"))
    except HatchDockerError:
        return False


def _debian() -> bool:
    from hatch_docker.debian.archive import Archive, Trust
    from hatch_docker.debian.sources import find_mirrors

    if not _online():
        return False
    try:
        debian_mirrors = find_mirrors(
            os.environ.get("HATCH_DOCKER_DEBIAN_MIRROR", ""), suite="trixie", architecture="amd64"
        )
        with tempfile.TemporaryDirectory() as folder:
            trust = Trust(now=datetime.now(timezone.utc))
            Archive(debian_mirrors, trust, http=Http(), cache=Cache(Path(folder))).release("trixie")
    except HatchDockerError:
        return False
    return True


def pythons() -> list[str]:
    """Several Pythons that have this hatch-docker installed (HATCH_DOCKER_TEST_PYTHONS)."""
    return [each for each in os.environ.get("HATCH_DOCKER_TEST_PYTHONS", "").split(os.pathsep) if each]


def _tools() -> bool:
    return all(shutil.which(tool) for tool in TOOLS)


def _seeds() -> bool:
    return bool(os.environ.get("HATCH_DOCKER_TEST_SEEDS")) and shutil.which("docker") is not None


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "engine": (functools.cache(_engine), "a container engine (DOCKER_HOST, or the local socket)"),
    "registry": (
        functools.cache(_registry),
        "two registries (HATCH_DOCKER_TEST_REGISTRY, and HATCH_DOCKER_TEST_AUTH_REGISTRY, …_USER, …_PASSWORD)",
    ),
    "base": (functools.cache(_base), f"a registry with {' and '.join(BASES)} (HATCH_DOCKER_REGISTRY_MIRRORS)"),
    "network": (functools.cache(_network), "a Python package index (HATCH_DOCKER_TEST_ONLINE=1; pip's configuration)"),
    "debian": (
        functools.cache(_debian),
        "a mirror of Debian (HATCH_DOCKER_TEST_ONLINE=1; apt's sources, or HATCH_DOCKER_DEBIAN_MIRROR)",
    ),
    "tools": (functools.cache(_tools), f"the programs {' and '.join(TOOLS)}"),
    "pythons": (
        lambda: len(pythons()) > 1,
        "several Pythons with hatch-docker (HATCH_DOCKER_TEST_PYTHONS, programs as in PATH)",
    ),
    "trials": (
        lambda: bool(os.environ.get("HATCH_DOCKER_TEST_TRIALS")),
        "a number of builds to try (HATCH_DOCKER_TEST_TRIALS)",
    ),
    "seeds": (_seeds, "the program docker, and Dockerfiles to compare with (HATCH_DOCKER_TEST_SEEDS)"),
}


# Where programs are and keep their files, and whom they trust.
_NO_INDEX_SETTINGS = ("PIP_CACHE_DIR", "PIP_CERT", "UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR")
# Those need the package index that this machine is configured with.
_ON_THE_INDEX = ("network", "pythons", "seeds")


@pytest.fixture(autouse=True)
def isolated_from_pip_and_uv(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave this machine's configuration of pip and uv out of tests, also of those with an environment of their own."""
    if any(request.node.get_closest_marker(each) for each in _ON_THE_INDEX):
        return
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_")) and name not in _NO_INDEX_SETTINGS]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(pip_config, "system_files", lambda _environ: ())


@pytest.fixture(scope="session", autouse=True)
def not_waiting_for_the_disk() -> Iterator[None]:
    """Do not wait until files survive a power cut, which no test can see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def looking_once_what_is_installed() -> Iterator[None]:
    """Each command looks at all packages and at the times of our modules: one in many here, where nothing changes."""
    seen: dict[str, EntryPoints] = {}
    read: Callable[[PathDistribution], EntryPoints] = Distribution.entry_points.fget  # type: ignore[attr-defined]

    def entry_points(found: PathDistribution) -> EntryPoints:
        path = str(found._path)
        if not path.startswith(sys.prefix):
            return read(found)
        if path not in seen:
            seen[path] = read(found)
        return seen[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PathDistribution, "entry_points", property(entry_points))
        patch.setattr("hatch_docker.stamps.stamp.code_digest", functools.cache(host.code_digest))
        yield


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all builds of real projects, so that common files are downloaded and made once by all workers."""
    run = tmp_path_factory.getbasetemp()
    cache = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "shared-cache"
    cache.mkdir(mode=0o700, exist_ok=True)
    return cache


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without waiting. Only HTTP's clock is replaced, since other threads sleep."""
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda _retry, _response=None: None)
    monkeypatch.setattr("hatch_docker.support.http.time", SimpleNamespace(sleep=lambda _seconds: None))
    monkeypatch.setattr("hatch_docker.oci.registry.pace.sleep", lambda _seconds: None)


@pytest.fixture(scope="session")
def client() -> Iterator[DockerClient]:
    """A client of the engine, independent of ours."""
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def image(client: DockerClient) -> Iterator[str]:
    """A name for an image in the engine, which is removed at the end."""
    name = f"hatch-docker-test-{secrets.token_hex(6)}"
    yield name
    remove(client, name)


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ["HATCH_DOCKER_TEST_BYTECODE"] = tempfile.mkdtemp(prefix="bytecode")
        config.add_cleanup(lambda: shutil.rmtree(os.environ["HATCH_DOCKER_TEST_BYTECODE"], ignore_errors=True))
    # The workers themselves use what is beside their modules.
    if not getattr(config.option, "numprocesses", None):
        os.environ["PYTHONPYCACHEPREFIX"] = os.environ["HATCH_DOCKER_TEST_BYTECODE"]


# The thousands of tests are all needed until the end: looking for garbage among them doubles the time to collect them.
# (gc.freeze would hide them from Hypothesis, which asks for the referrers of random generators.)
# pytest rewrites the assertions of all modules in each worker and run, unless it may write the result beside them.
def pytest_collection() -> None:
    gc.disable()
    sys.dont_write_bytecode = _WRITES_NO_BYTECODE


def pytest_collection_finish() -> None:
    sys.dont_write_bytecode = True
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with files with tests of real parts, of which few take long, so that no long one is left at the end."""
    counts = Counter(item.path for item in items)
    first = {item.path: counts[item.path] for item in items if any(item.get_closest_marker(need) for need in NEEDS)}
    items.sort(key=lambda item: (item.path not in first, first.get(item.path, -counts[item.path]), item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = os.environ.get("HATCH_DOCKER_TEST_REQUIRE", "").split(",")
    for need, (is_available, what) in NEEDS.items():
        if item.get_closest_marker(need) is None or is_available():
            continue
        if need in required:
            pytest.fail(f"HATCH_DOCKER_TEST_REQUIRE names {need}, but the test needs {what}", pytrace=False)
        pytest.skip(f"needs {what}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing = Counter(
        need
        for report in terminalreporter.stats.get("skipped", [])
        for need, (_, what) in NEEDS.items()
        if f"needs {what}" in str(report.longrepr)
    )
    if missing:
        terminalreporter.section("skipped tests")
    for need, count in missing.items():
        terminalreporter.line(f"{count} tests need {NEEDS[need][1]}")
