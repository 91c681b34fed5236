"""Failures of compilations, and what an sdist's code can see in a container, on a real engine."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import builds
import pytest
from compilations import lock_of_sdists, variables
from containers import environment
from docker import DockerClient
from fake_index import serving
from project_maker import make_project
from relay import Relay
from sdist_maker import EXTENSION, SETUP_C, make_compiled_sdist, make_sdist
from wheel_maker import make_wheel

from hatch_docker.engine.container import LABEL

BUILDER = "python:3.13"

pytestmark = [pytest.mark.base, pytest.mark.engine, pytest.mark.network]

# A build backend in the sdist itself, so that nothing needs to be installed.
BACKEND = """
import base64, hashlib, json, os, socket, subprocess, sys, time, zipfile

def get_requires_for_build_wheel(settings=None):
    {requires}
    return []

def build_wheel(folder, settings=None, metadata=None):
    {build}
    return wheel(folder, {name!r})

def wheel(folder, name, text=""):
    info = name + "-1.0.dist-info/"
    files = {{
        name + ".json": text,
        info + "METADATA": "Metadata-Version: 2.1\\nName: " + name + "\\nVersion: 1.0\\n",
        info + "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    digests = [base64.urlsafe_b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in files.values()]
    rows = [path + ",sha256=" + digest.rstrip("=") + "," for path, digest in zip(files, digests)]
    files[info + "RECORD"] = "\\n".join([*rows, info + "RECORD,,"])
    with zipfile.ZipFile(os.path.join(folder, name + "-1.0-py3-none-any.whl"), "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return name + "-1.0-py3-none-any.whl"
"""
IN_TREE = '[build-system]\nrequires = {requires}\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def sdist(folder: Path, name: str, build: str = "", *, requires: str = "", needs: list[str] | None = None) -> Path:
    """An sdist whose hooks run the statements `requires` and `build`; `needs` are its build requirements.

    Its C source keeps it from looking pure.
    """
    code = BACKEND.format(name=name, requires=requires or "pass", build=build or "pass")
    files = {"backend.py": code, "source.c": ""}
    return make_sdist(folder, name, files=files, pyproject=IN_TREE.format(requires=json.dumps(needs or [])))


Refused = Callable[..., str]


@pytest.fixture
def app(tmp_path: Path) -> Callable[..., Path]:
    """Makes a project that locks sdists."""

    def app(*sdists: Path, base: str = "slim", docker: str = "") -> Path:
        names = [path.name.partition("-")[0] for path in sdists]
        lines = f'base = "{base}"\npython = "3.13"\n{docker}'
        project = make_project(tmp_path / "app", name="app", dependencies=names, docker=lines)
        (project / "pylock.toml").write_text(lock_of_sdists(*sdists))
        return project

    return app


@pytest.fixture
def refused(app: Callable[..., Path], shared_cache: Path, client: DockerClient) -> Refused:
    """Run a build that fails; returns its message. Checks that no container and no file remain."""

    def refused(
        *sdists: Path, base: str = "slim", docker: str = "", more: Mapping[str, str] = {}, **settings: str
    ) -> str:
        project = app(*sdists, base=base, docker=docker)
        environ = environment(shared_cache, **variables(settings), **more)
        outcome = builds.build(project, env=environ)
        assert outcome.code == 1
        assert outcome.out == ""
        assert "Traceback" not in message_of(outcome.err)
        assert not list((project / "dist").glob("*"))
        for path in sdists:
            assert is_removed(client, path)
        return message_of(outcome.err)

    return refused


def message_of(err: str) -> str:
    """The error message: the first line that is not indented, and all after it."""
    lines = err.splitlines()
    return "\n".join(lines[next(number for number, line in enumerate(lines) if line and not line.startswith("  ")) :])


def is_removed(client: DockerClient, path: Path) -> bool:
    """Whether the container for an sdist is removed within a minute."""
    what = f"compiling {path.name.removesuffix('.tar.gz').replace('-', ' ')}"
    for _ in range(600):
        if not client.api.containers(all=True, filters={"label": f"{LABEL}={what}"}):
            return True
        time.sleep(0.1)
    return False


def log_of(cache: Path, path: Path) -> Path:
    return cache / "logs" / f"{path.name.removesuffix('.tar.gz')}.log"


class TestCompiler:
    def test_missing_header_gets_a_hint(self, tmp_path: Path, refused: Refused, shared_cache: Path) -> None:
        files = {"setup.py": SETUP_C.format(name="lacks", version="1.0", module="lacks")}
        source = "#include <libpq-fe.h>\n" + EXTENSION.format(module="lacks")
        path = make_sdist(tmp_path, "lacks", files={**files, "lacks.py": "", "src/_lacks.c": source})
        message = refused(path)
        assert message.startswith(f"lacks 1.0 cannot be compiled in {BUILDER}:\n  ")
        assert "fatal error: libpq-fe.h: No such file or directory" in message
        assert 'hint: add build-packages = ["libpq-dev"]: libpq-fe.h is missing' in message
        log = log_of(shared_cache, path)
        assert f"hint: the whole log is {log}" in message
        assert "building '_lacks' extension" in log.read_text()

    def test_missing_header_gets_a_hint_on_alpine(self, tmp_path: Path, refused: Refused) -> None:
        command = "subprocess.run(['cc', '-c', 'x.c'], check=True)"
        path = sdist(tmp_path, "lackstoo", f"open('x.c', 'w').write('#include <ffi.h>'); {command}")
        message = refused(path, base="alpine", builder="python:3.13-alpine-build")
        assert "lackstoo 1.0 cannot be compiled in python:3.13-alpine-build:" in message
        assert 'hint: add build-packages = ["libffi-dev"]: ffi.h is missing' in message


class TestBuilder:
    @pytest.mark.parametrize(
        ("base", "builder", "expected"),
        [
            ("slim", "python:3.13-alpine-build", "the builder image python:3.13-alpine-build has musl; the image has"),
            ("alpine", "python:3.13", "the builder image python:3.13 has glibc"),
            ("slim", "python:3.13-slim", "the builder image python:3.13-slim has no compiler"),
            ("slim", "debian:trixie-slim", "the builder image debian:trixie-slim has no Python"),
            ("slim", "docker-daemon:hatch-docker-test:nowhere", "the engine has no image hatch-docker-test:nowhere"),
            ("slim", "python:hatch-docker-test-nowhere", "python:hatch-docker-test-nowhere"),
        ],
    )
    def test_unsuitable_builder_is_an_error(
        self, tmp_path: Path, refused: Refused, base: str, builder: str, expected: str
    ) -> None:
        message = refused(sdist(tmp_path, "elsewhere"), base=base, builder=builder)
        assert expected in message
        assert "\n  hint: " in message


class TestContainer:
    def test_lost_engine_is_an_error(self, tmp_path: Path, refused: Refused, shared_cache: Path) -> None:
        path = sdist(tmp_path, "halfway", "print('half of it', flush=True); time.sleep(120)")
        with Relay() as relay, when("half of it", log_of(shared_cache, path), relay.cut):
            message = refused(path, more={"DOCKER_HOST": relay.address})
        assert message.startswith("the engine went away while compiling halfway 1.0: ")

    def test_full_disk_gets_a_hint(self, tmp_path: Path, refused: Refused) -> None:
        message = refused(sdist(tmp_path, "large", "open('/dev/shm/x', 'wb').write(bytes(100 << 20))"))
        assert "No space left on device" in message
        assert "hint: free some space where the engine keeps its containers" in message

    def test_time_limit_is_an_error(self, tmp_path: Path, refused: Refused) -> None:
        message = refused(sdist(tmp_path, "slow", "time.sleep(120)"), build_timeout="5s")
        assert message.startswith("compiling slow 1.0 took longer than 5s\n")
        assert "hint: set HATCH_DOCKER_BUILD_TIMEOUT to more" in message

    def test_memory_limit_is_an_error(self, tmp_path: Path, refused: Refused) -> None:
        message = refused(sdist(tmp_path, "greedy", "x = b'x' * (1 << 30)"), build_memory="300m")
        assert re.match(r"compiling greedy 1\.0 needs more memory than its limit of 31[45]", message)
        assert "hint: set HATCH_DOCKER_BUILD_MEMORY to more" in message

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
    def test_container_is_removed_when_the_build_is_ended(
        self,
        tmp_path: Path,
        app: Callable[..., Path],
        shared_cache: Path,
        client: DockerClient,
        number: signal.Signals,
        code: int,
    ) -> None:
        path = sdist(tmp_path, f"ended{number.value}", "print('it runs', flush=True); time.sleep(120)")
        process = builds.start(app(path), env=environment(shared_cache))
        with when("it runs", log_of(shared_cache, path), lambda: process.send_signal(number)):
            outcome = builds.wait_for(process)
        assert outcome.code == code
        assert "Traceback" not in outcome.err
        assert number == signal.SIGKILL or message_of(outcome.err) == "interrupted"
        assert is_removed(client, path)


@contextlib.contextmanager
def when(text: str, log: Path, act: Callable[[], object]) -> Iterator[None]:
    """Call `act` once a log contains a text, during the block."""
    log.unlink(missing_ok=True)
    ended = threading.Event()

    def wait() -> None:
        while not ended.wait(0.1):
            with contextlib.suppress(OSError):
                if text in log.read_text():
                    act()
                    return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class TestSdist:
    def test_wheel_of_another_package_is_an_error(self, tmp_path: Path, refused: Refused) -> None:
        message = refused(sdist(tmp_path, "pretends", "return wheel(folder, 'requests')"))
        assert message.startswith(
            "pretends-1.0.tar.gz: pretends 1.0 was built into requests-1.0-py3-none-any.whl, a wheel of another package"
        )

    def test_unreadable_result_is_an_error(self, tmp_path: Path, refused: Refused) -> None:
        # The function by which container_main.py writes its result.
        code = "dumps_ = dumps; dumps = lambda it, **more: 'x' * (2 << 20) if 'wheel' in it else dumps_(it, **more)"
        module = f"open(json.__file__, 'a').write({code!r})"
        leave = "subprocess.Popen(['sleep', '1000'], start_new_session=True)"
        message = refused(sdist(tmp_path, "hostile", requires=f"{module}; {leave}"))
        assert message.startswith("hostile 1.0 left no readable result\n")

    def test_unsatisfiable_build_requirement_is_an_error(self, tmp_path: Path, refused: Refused) -> None:
        message = refused(sdist(tmp_path, "hopeless", needs=["setuptools>=99999"]))
        assert message.startswith(
            "hopeless 1.0 is built with setuptools>=99999: the dependencies cannot be resolved for"
        )
        assert "\n  hint: choose a version that has a wheel" in message


SECRET = "s3cret-of-the-index"
# Searches for the secret in the files that the image does not contain, and in the environment of processes.
SPY = """
secret = {backwards!r}[::-1].encode()
places = ["/hatch-docker", "/root", "/tmp", "/etc", "/run", "/proc/self/environ", "/proc/1/environ", "/proc/1/cmdline"]
paths = [os.path.join(folder, name) for place in places for folder, _, names in os.walk(place) for name in names]
found = [path for path in paths + places[-3:] if os.path.isfile(path) and secret in open(path, "rb").read()]
interfaces = [name for _, name in socket.if_nameindex()]
text = json.dumps(dict(environ=dict(os.environ), found=found, looked=len(paths), interfaces=interfaces))
return wheel(folder, {name!r}, text)
"""


class TestIsolation:
    """What an sdist's code can see in its container."""

    def build(self, project: Path, cache: Path, **settings: str) -> builds.Outcome:
        outcome = builds.build(project, env=environment(cache, **settings))
        assert outcome.code == 0, outcome.err
        builds.check_archive(builds.archive_of(project), cache.with_name("checked"))
        return outcome

    def test_code_of_an_sdist_gets_neither_logins_nor_a_network(
        self, tmp_path: Path, app: Callable[..., Path], shared_cache: Path, client: DockerClient
    ) -> None:
        lines = textwrap.indent(SPY.format(backwards=SECRET[::-1], name="spied"), "    ").strip()
        backend = BACKEND.format(name="spied", requires="pass", build=lines)
        wheel = make_wheel(tmp_path, "spyingbackend", "1.0", {"spyingbackend.py": backend})
        files = {"source.c": "", "x.py": ""}
        pyproject = '[build-system]\nrequires = ["spyingbackend"]\nbuild-backend = "spyingbackend"\n'
        project = app(make_sdist(tmp_path, "spied", files=files, pyproject=pyproject))
        with serving(login=("me", SECRET)) as index:
            index.add("spyingbackend", wheel.name, wheel.read_bytes())
            settings = {"PIP_EXTRA_INDEX_URL": index.url_with("me", SECRET)}
            outcome = self.build(project, shared_cache, **settings)
            seen = spy_result(project)
            assert seen["found"] == []
            assert seen["looked"] > 100
            assert seen["interfaces"] == ["lo"]
            assert not [text for text in (*seen["environ"], *seen["environ"].values()) if "PIP_" in text]
            texts = [outcome.err, *(path.read_text() for path in (project / "dist").glob("*.[jt][sx][ot]*"))]
            texts += [path.read_text() for path in (shared_cache / "logs").glob("*.log")]
            assert not [text for text in texts if SECRET in text]
            archive = builds.archive_of(project)
            assert SECRET.encode() not in b"".join([archive.read_bytes(), *builds.read(archive).contents.values()])
            assert "spyingbackend==1.0 --hash=sha256:" in json.dumps(builds.result_of(project))

            self.build(project, shared_cache, HATCH_DOCKER_BUILD_NETWORK="spied", **settings)
            assert len(spy_result(project)["interfaces"]) > 1

    def test_message_has_no_login(self, tmp_path: Path, refused: Refused) -> None:
        with serving(login=("me", SECRET)) as index:
            index.add("spyingbackend", "spyingbackend-1.0-py3-none-any.whl", b"no wheel")
            address = index.url_with("me", SECRET)
            message = refused(
                sdist(tmp_path, "unlucky", needs=["spyingbackend"]), more={"PIP_EXTRA_INDEX_URL": address}
            )
        assert "unlucky" in message
        assert SECRET not in message


def spy_result(project: Path) -> Any:
    contents = builds.read(builds.archive_of(project)).contents
    return json.loads(contents["app/.venv/lib/python3.13/site-packages/spied.json"])


class TestConstraints:
    def test_constraints_apply_to_build_requirements(
        self, tmp_path: Path, app: Callable[..., Path], shared_cache: Path
    ) -> None:
        project = app(make_compiled_sdist(tmp_path, "pinned"), docker='build-constraints = "old.txt"')
        (project / "old.txt").write_text("setuptools==75.8.0\n")
        outcome = builds.build(project, env=environment(shared_cache))
        assert outcome.code == 0, outcome.err
        (compiled,) = builds.result_of(project)["compiled"]
        lines = compiled["build-requirements"]
        assert [line.partition(" ")[0] for line in lines if line.startswith("setuptools")] == ["setuptools==75.8.0"]
        assert (project / "dist" / "build-constraints.app.txt").read_text().splitlines() == lines
        # The constraints that a build writes reproduce it.
        again = {"HATCH_DOCKER_BUILD_CONSTRAINTS": "dist/build-constraints.app.txt"}
        outcome = builds.build(project, env=environment(shared_cache, **again))
        assert outcome.code == 0, outcome.err
        assert builds.result_of(project)["compiled"] == [compiled]

    def test_unsatisfiable_constraints_are_an_error(self, tmp_path: Path, refused: Refused) -> None:
        constraints = tmp_path / "none.txt"
        constraints.write_text("setuptools<1\n")
        message = refused(make_compiled_sdist(tmp_path, "narrow"), docker=f'build-constraints = "{constraints}"')
        assert message.startswith("narrow 1.0 is built with setuptools>=61: the dependencies cannot be resolved for")
        assert "build-constraints" in message
