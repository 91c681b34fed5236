"""Containers: one contract for the fake engine, Docker and Podman; behaviour of real engines; errors."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine
from podman import podman
from relay import Relay

from hatch_docker.engine import container as container_module
from hatch_docker.engine.client import Engine, sweep
from hatch_docker.engine.container import LABEL, LIMIT, Change, Container
from hatch_docker.engine.files import packed
from hatch_docker.engine.limits import Limits
from hatch_docker.engine.stream import Stream, parts_of
from hatch_docker.errors import EngineError
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Entry, Layer, write_layer
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.progress import Progress

ALPINE = "alpine:3.23"
WHAT = "testing containers"
MB = 1 << 20
AMD64, ARM64 = Platform(architecture="amd64"), Platform(architecture="arm64")
# Not a program of any CPU.
NO_PROGRAM = bytes(range(1, 64))


@dataclass(frozen=True, kw_only=True)
class Box:
    """An engine, its address, and an image that it has."""

    engine: Engine
    host: str
    kind: str
    image: str = ALPINE

    @contextlib.contextmanager
    def container(self, image: str = "", what: str = WHAT, **options: Any) -> Iterator[Container]:
        """A container without a network."""
        options = {"network": False, "limits": Limits(), **options}
        with self.engine.container(image or self.image, what=what, **options) as container:
            yield container

    def names(self, what: str) -> list[str]:
        """The existing containers of a purpose."""
        containers = self.engine._api.containers(all=True, filters={"label": f"{container_module.LABEL}={what}"})
        return [each["Names"][0].lstrip("/") for each in containers]

    def wait_until_gone(self, what: str) -> None:
        """Fail if a container is not removed."""
        for _ in range(600):
            if not self.names(what):
                return
            time.sleep(0.1)
        pytest.fail(f"the container for {what} is still there")


def printed(container: Container, *command: str, **options: Any) -> str:
    """The output of a successful command."""
    out: list[bytes] = []
    status = container.run(command, write=out.append, **options)
    text = b"".join(out).decode()
    assert status == 0, text
    return text


@contextlib.contextmanager
def docker_box() -> Iterator[Box]:
    engine = Engine.connect(os.environ)
    if not engine.image_id(ALPINE):
        engine._api.pull(ALPINE)
    yield Box(engine=engine, host=os.environ.get("DOCKER_HOST", ""), kind="docker")


@contextlib.contextmanager
def podman_box() -> Iterator[Box]:
    """Podman with Docker's image; skipped if it cannot run containers, as its runtime may not support the cgroups."""
    with (
        docker_box() as docker,
        tempfile.TemporaryDirectory(prefix="podman-") as folder,
        podman(Path(folder)) as environ,
    ):
        engine = Engine.connect(environ)
        for _ in engine._api.load_image(docker.engine.save(ALPINE)):  # type: ignore[no-untyped-call]
            pass
        box = Box(engine=engine, host=environ["DOCKER_HOST"], kind="podman")
        try:
            with box.container():
                pass
        except EngineError as error:
            pytest.skip(f"podman cannot run containers here: {error}")
        yield box


@contextlib.contextmanager
def fake_box() -> Iterator[Box]:
    with FakeEngine() as fake:
        yield Box(engine=Engine.connect({"DOCKER_HOST": fake.address}), host=fake.address, kind="fake")


BOXES = {"docker": docker_box, "podman": podman_box, "fake": fake_box}
REAL = [
    pytest.param("docker", marks=pytest.mark.engine),
    pytest.param(
        "podman", marks=[pytest.mark.engine, pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")]
    ),
]


@pytest.fixture(scope="module")
def any_box(request: pytest.FixtureRequest) -> Iterator[Box]:
    with BOXES[request.param]() as box:
        yield box


@pytest.fixture
def what() -> str:
    """A unique purpose."""
    return f"testing {secrets.token_hex(6)}"


@pytest.mark.parametrize("any_box", ["fake", *REAL], indirect=True)
class TestContract:
    def test_copies_files_in_and_out(self, any_box: Box, tmp_path: Path) -> None:
        (tmp_path / "host").write_bytes(b"from a file")
        with any_box.container() as container:
            container.put({"/new/folder/a": b"content", "/new/b": tmp_path / "host", "/new/empty": b""})
            for path, content in (("/new/folder/a", b"content"), ("/new/b", b"from a file"), ("/new/empty", b"")):
                out = io.BytesIO()
                container.get(path, out)
                assert out.getvalue() == content
            assert printed(container, "cat", "/new/b") == "from a file"

    def test_returns_the_exit_status(self, any_box: Box) -> None:
        with any_box.container() as container:
            assert container.run(["true"], write=lambda _: None) == 0
            assert container.run(["false"], write=lambda _: None) == 1
            assert container.run(["no-such-command"], write=lambda _: None) in (126, 127)

    def test_lists_changes(self, any_box: Box) -> None:
        with any_box.container() as container:
            assert container.changes() == []
            container.put({"/new": b"content"})
            assert container.changes() == [Change(path="new", kind="added")]

    def test_exports_the_file_system(self, any_box: Box) -> None:
        with any_box.container() as container:
            container.put({"/new": b"content"})
            exported = io.BytesIO(b"".join(container.export()))
        with tarfile.open(fileobj=exported) as tar:
            member = tar.extractfile("new")
            assert member is not None
            assert member.read() == b"content"

    def test_get_refuses_directories_and_missing_files(self, any_box: Box) -> None:
        with any_box.container() as container:
            container.put({"/new/folder/a": b"content"})
            with pytest.raises(EngineError, match=r"^/new/folder: it is not a regular file"):
                container.get("/new/folder", io.BytesIO())
            with pytest.raises(EngineError, match=WHAT) as caught:
                container.get("/missing", io.BytesIO())
            assert caught.value.place == "/missing"

    def test_put_of_a_missing_file(self, any_box: Box, tmp_path: Path) -> None:
        with any_box.container() as container:
            with pytest.raises(EngineError, match="cannot read the file") as caught:
                container.put({"/new": tmp_path / "missing"})
            assert caught.value.place == str(tmp_path / "missing")

    def test_exceptions_of_write_are_not_translated(self, any_box: Box) -> None:
        def full(_: bytes) -> None:
            raise OSError("no space left on this machine")

        with any_box.container() as container:
            container.put({"/new": b"content"})
            with pytest.raises(OSError, match="this machine"):
                container.run(["cat", "/new"], write=full)
            assert printed(container, "cat", "/new") == "content"

    @pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
    def test_is_removed_at_the_end(self, any_box: Box, error: type[BaseException] | None) -> None:
        with contextlib.suppress(ValueError, KeyboardInterrupt), any_box.container() as container:
            if error:
                raise error
        with pytest.raises(EngineError, match=WHAT):
            container.changes()


@pytest.mark.parametrize("any_box", REAL, indirect=True)
class TestReal:
    def test_passes_on_both_output_streams_at_once(self, any_box: Box) -> None:
        with any_box.container() as container:
            out: list[bytes] = []

            def write(chunk: bytes) -> None:
                out.append(chunk)
                # The command continues only now.
                container.put({"/go": b""})

            script = "echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two >&2"
            assert container.run(["sh", "-c", script], write=write) == 0
            assert b"".join(out) == b"one\ntwo\n"

    def test_long_output_is_complete(self, any_box: Box) -> None:
        with any_box.container() as container:
            assert printed(container, "seq", "200000") == "".join(f"{number}\n" for number in range(1, 200001))

    def test_sets_variables_and_directory(self, any_box: Box) -> None:
        with any_box.container() as container:
            script = 'pwd; printf %s "$ONE"'
            text = printed(container, "sh", "-c", script, environ={"ONE": "a b=c\nd"}, directory="/tmp")
            assert text == "/tmp\na b=c\nd"

    def test_ignores_the_images_user_entrypoint_and_directory(self, any_box: Box) -> None:
        api = any_box.engine._api
        made = api.create_container(ALPINE)["Id"]
        changes = ["USER nobody", 'ENTRYPOINT ["false"]', "WORKDIR /tmp"]
        image = api.commit(made, changes=changes)["Id"]
        api.remove_container(made)
        try:
            with any_box.container(image) as container:
                assert printed(container, "sh", "-c", "id -u; pwd") == "0\n/\n"
        finally:
            api.remove_image(image, force=True)

    def test_owners_and_modes_of_copied_files(self, any_box: Box) -> None:
        with any_box.container() as container:
            container.put({"/new/folder/a": b"", "/tmp/b": b""})
            paths = ("/new", "/new/folder", "/new/folder/a", "/tmp/b", "/tmp")
            modes = printed(container, "stat", "-c", "%a %u:%g", *paths).split("\n")
            assert modes[:-1] == ["755 0:0", "755 0:0", "644 0:0", "644 0:0", "1777 0:0"]

    def test_lists_every_kind_of_change(self, any_box: Box) -> None:
        with any_box.container() as container:
            printed(container, "sh", "-c", "rm /etc/motd; echo x >> /etc/passwd; mkdir /new")
            changes = {change.path: change.kind for change in container.changes()}
        assert changes == {"etc": "modified", "etc/motd": "removed", "etc/passwd": "modified", "new": "added"}

    def test_copies_large_files_in_bounded_memory(self, any_box: Box, tmp_path: Path) -> None:
        block = secrets.token_bytes(MB)
        with (tmp_path / "in").open("wb") as file:
            file.writelines(block for _ in range(100))
        with any_box.container() as container, (tmp_path / "out").open("wb") as out:
            tracemalloc.start()
            container.put({"/large": tmp_path / "in"})
            container.get("/large", out)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        digests = [hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("in", "out")]
        assert digests[0] == digests[1]
        assert peak < 20 * MB

    def test_has_no_network_without_network(self, any_box: Box) -> None:
        with any_box.container() as container:
            assert printed(container, "ls", "/sys/class/net").split() == ["lo"]

    def test_does_not_wait_for_background_processes(self, any_box: Box) -> None:
        with any_box.container(limits=Limits(seconds=60)) as container:
            assert printed(container, "sh", "-c", "sleep 600 & echo done") == "done\n"

    def test_waits_for_a_command_that_closed_its_output(self, any_box: Box) -> None:
        with any_box.container() as container:
            assert container.run(["sh", "-c", "exec >&- 2>&-; sleep 0.5; exit 7"], write=lambda _: None) == 7

    def test_time_limit(self, any_box: Box, what: str) -> None:
        with (
            pytest.raises(EngineError, match=f"^{what} took longer than 1s") as caught,
            any_box.container(what=what, limits=Limits(seconds=1)) as container,
        ):
            container.run(["sleep", "600"], write=lambda _: None)
        assert "HATCH_DOCKER_BUILD_TIMEOUT" in caught.value.hint
        assert any_box.names(what) == []

    def test_memory_limit(self, any_box: Box, what: str) -> None:
        with any_box.container(what=what, limits=Limits(memory=32 * MB)) as container:
            with pytest.raises(EngineError, match=rf"^{what} .*more memory than its limit of 33\.6 MB") as caught:
                container.run(["tail", "-c", "300m", "/dev/zero"], write=lambda _: None)
            assert "HATCH_DOCKER_BUILD_MEMORY" in caught.value.hint

    def test_cpu_limit(self, any_box: Box, what: str) -> None:
        with any_box.container(what=what, limits=Limits(cpus=0.5)):
            (name,) = any_box.names(what)
            assert any_box.engine._api.inspect_container(name)["HostConfig"]["NanoCpus"] == 500_000_000

    def test_commands_have_few_privileges(self, any_box: Box, what: str) -> None:
        with any_box.container(what=what) as container:
            script = (
                "touch a; chown 7:7 a; chmod 600 a; echo b > a; cat a; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status"
            )
            lines = printed(container, "sh", "-c", script, directory="/tmp").split()
            (name,) = any_box.names(what)
            made = any_box.engine._api.inspect_container(name)["HostConfig"]
        # Capabilities 0, 1, 3 and 4: to change owners, and to read and write all files.
        assert lines == ["b", "CapEff:", f"{0b11011:016x}", "NoNewPrivs:", "1"]
        assert 0 < made["PidsLimit"] <= 1 << 14
        assert made["LogConfig"]["Type"] == "none"

    def test_container_that_somebody_removes(self, any_box: Box, what: str) -> None:
        api = any_box.engine._api
        with any_box.container(what=what) as container:
            (name,) = any_box.names(what)
            with pytest.raises(EngineError, match=f"^the container went away while {what}"):
                container.run(
                    ["sh", "-c", "echo ready; sleep 600"], write=lambda _: api.remove_container(name, force=True)
                )
            with pytest.raises(EngineError, match=f"^the container went away while {what}"):
                container.put({"/a": b"a"})

    def test_image_without_a_shell(self, any_box: Box, odd: Callable[..., str], what: str) -> None:
        image = odd(Entry(path="a", content=b"a"))
        with pytest.raises(EngineError, match="has no /bin/sh") as caught, any_box.container(image, what):
            pass
        assert caught.value.place == image
        assert any_box.names(what) == []

    def test_image_for_another_cpu(self, any_box: Box, odd: Callable[..., str], what: str) -> None:
        image = odd(Entry(path="bin/sh", content=NO_PROGRAM, mode=0o755), platform=ARM64)
        with (
            pytest.raises(EngineError, match="exec format error") as caught,
            any_box.container(image, what, platform=ARM64),
        ):
            pass
        # Another hint with an emulator than without one.
        assert "CPU" in caught.value.hint
        assert any_box.names(what) == []

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
    def test_is_removed_if_the_process_is_killed(self, any_box: Box, what: str, number: signal.Signals) -> None:
        command = [sys.executable, "-c", VICTIM, any_box.image, what]
        environ = {**os.environ, "DOCKER_HOST": any_box.host}
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert len(any_box.names(what)) == 1
            process.send_signal(number)
            assert process.wait(timeout=60) != 0
        any_box.wait_until_gone(what)


VICTIM = """
import os, signal, sys
from hatch_docker.engine.client import Engine
from hatch_docker.engine.limits import Limits
signal.signal(signal.SIGINT, signal.default_int_handler)
def write(chunk):
    sys.stdout.buffer.write(chunk)
    sys.stdout.flush()
engine = Engine.connect(os.environ)
with engine.container(sys.argv[1], what=sys.argv[2], network=False, limits=Limits()) as container:
    container.run(["sh", "-c", "echo ready; sleep 600"], write=write)
"""


@pytest.fixture
def odd(any_box: Box) -> Iterator[Callable[..., str]]:
    """Makes images of one layer in the engine. They are removed at the end."""
    made: list[str] = []

    def make(*entries: Entry, platform: Platform = AMD64) -> str:
        out = io.BytesIO()
        written = write_layer([*entries, Entry(path=secrets.token_hex(8), content=b"")], out)
        layer = Layer(descriptor=written.descriptor, diff_id=written.diff_id, open=lambda: io.BytesIO(out.getvalue()))
        image = Image(config=ImageConfig(platform=platform), layers=(layer,), history=(History(created_by="test"),))
        reference = Reference.parse(f"hatch-docker-test-{secrets.token_hex(6)}:1")
        made.append(any_box.engine.provide(image, reference, progress=Progress()))
        return made[-1]

    yield make
    for identity in made:
        any_box.engine._api.remove_image(identity, force=True)


@pytest.mark.engine
class TestDocker:
    @pytest.fixture
    def box(self) -> Iterator[Box]:
        with docker_box() as box:
            yield box

    def test_reports_that_memory_of_a_child_process_ran_out(self, box: Box) -> None:
        with (
            box.container(limits=Limits(memory=32 * MB)) as container,
            pytest.raises(EngineError, match="needs more memory than its limit"),
        ):
            container.run(["sh", "-c", "tail -c 300m /dev/zero; exit 1"], write=lambda _: None)

    def test_has_a_network_with_network(self, box: Box) -> None:
        with box.container(network=True) as container:
            assert "eth0" in printed(container, "ls", "/sys/class/net").split()

    def test_image_for_another_platform_is_an_error(self, box: Box) -> None:
        with pytest.raises(EngineError, match="platform"), box.container(platform=ARM64):
            pass

    def test_missing_image_is_an_error(self, box: Box) -> None:
        with pytest.raises(EngineError, match="No such image"), box.container("hatch-docker-test-none:1"):
            pass

    def test_more_cpus_than_the_engine_has(self, box: Box) -> None:
        with pytest.raises(EngineError, match="CPUs") as caught, box.container(limits=Limits(cpus=10_000)):
            pass
        assert "HATCH_DOCKER_BUILD_CPUS" in caught.value.hint

    def test_engine_that_disappears(self, box: Box, what: str) -> None:
        with Relay() as relay:
            cut = replace(box, engine=Engine.connect({"DOCKER_HOST": relay.address}))
            with (
                pytest.raises(EngineError, match=f"^the engine went away while {what}"),
                cut.container(what=what) as container,
            ):
                container.run(["sh", "-c", "echo ready; sleep 600"], write=lambda _: relay.cut())
        box.wait_until_gone(what)

    @pytest.mark.parametrize(
        "step", [lambda container: list(container.export()), lambda container: container.put({"/a": b"a"})]
    )
    def test_engine_that_disappears_while_files_are_copied(
        self, box: Box, what: str, step: Callable[[Container], object]
    ) -> None:
        with Relay() as relay:
            cut = replace(box, engine=Engine.connect({"DOCKER_HOST": relay.address}))

            def work(container: Container) -> None:
                container.changes()
                relay.cut()
                step(container)

            with (
                pytest.raises(EngineError, match=f"^the engine went away while {what}: [a-zA-Z ]+$"),
                cut.container(what=what) as container,
            ):
                work(container)
        box.wait_until_gone(what)

    def test_does_not_wait_for_an_engine_that_hangs(self, box: Box, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(container_module, "_REMOVE_SECONDS", 0.5)
        with Relay() as relay:
            still = replace(box, engine=Engine.connect({"DOCKER_HOST": relay.address}))
            with (
                pytest.raises(EngineError, match=f"^{what} took longer than 2s"),
                still.container(what=what, limits=Limits(seconds=2)) as container,
            ):
                container.run(["sh", "-c", "echo ready; sleep 600"], write=lambda _: relay.stand_still())
        box.wait_until_gone(what)


FULL = b'{"message": "write /x: no space left on device"}'


def test_removes_abandoned_containers() -> None:
    removed = []

    def one(name: str, state: str, created: int, seconds: str) -> dict[str, Any]:
        return {"Id": name, "State": state, "Created": created, "Labels": {LABEL: "x", LIMIT: seconds}}

    class Api:
        def containers(self, **options: Any) -> list[dict[str, Any]]:
            assert options == {"all": True, "filters": {"label": LABEL}}
            return [
                one("never started", "created", 100, "0"),
                one("not started yet", "created", 2100, "0"),
                one("too late", "running", 100, "1800"),
                one("in time", "running", 300, "1800"),
                one("without a limit", "running", 100, "0"),
                one("of another version", "running", 100, "?"),
                {"Id": "older", "State": "running", "Created": 100, "Labels": None},
            ]

        def remove_container(self, name: str, **_options: Any) -> None:
            removed.append(name)

    sweep(Api(), before=2000)  # type: ignore[arg-type]
    assert removed == ["never started", "too late"]


def ends_with(status: int, *, oom_killed: bool = False) -> list[tuple[int, bytes]]:
    """The fake engine's answers about a command that ended, and then about its container."""
    command = {"Running": False, "ExitCode": status}
    return [(200, json.dumps(document).encode()) for document in (command, {"State": {"OOMKilled": oom_killed}})]


class TestTrouble:
    @pytest.fixture
    def fake(self) -> Iterator[FakeEngine]:
        with FakeEngine() as fake:
            yield fake

    @pytest.fixture
    def box(self, fake: FakeEngine) -> Box:
        return Box(engine=Engine.connect({"DOCKER_HOST": fake.address}), host=fake.address, kind="fake")

    @pytest.mark.parametrize(
        ("request_line", "step"),
        [
            ("PUT archive", lambda container: container.put({"/a": b"a" * MB})),
            ("GET archive", lambda container: container.get("/a", io.BytesIO())),
            ("POST exec", lambda container: container.run(["true"], write=lambda _: None)),
            ("POST start", lambda container: container.run(["true"], write=lambda _: None)),
            ("GET changes", lambda container: container.changes()),
        ],
    )
    def test_reports_a_full_disk(
        self, fake: FakeEngine, box: Box, request_line: str, step: Callable[[Container], object]
    ) -> None:
        with box.container() as container:
            fake.containers.refusals[request_line] = [(500, FULL)]
            with pytest.raises(EngineError, match=f"{WHAT} failed in the engine: .*no space left") as caught:
                step(container)
            assert "docker system prune" in caught.value.hint
        assert not fake.containers.running

    @pytest.mark.parametrize("request_line", ["POST create", "POST attach", "POST start"])
    def test_removes_a_container_that_does_not_start(self, fake: FakeEngine, box: Box, request_line: str) -> None:
        fake.containers.refusals[request_line] = [(500, b'{"message": "no"}')]
        with pytest.raises(EngineError, match=f"{WHAT} failed in the engine: no"), box.container():
            pass
        assert not fake.containers.running

    @pytest.mark.parametrize("status", [404, 409, 500])
    def test_engine_that_is_already_removing_the_container(self, fake: FakeEngine, box: Box, status: int) -> None:
        with box.container():
            fake.containers.refusals["DELETE"] = [(status, b'{"message": "removal is already in progress"}')]

    def test_reports_a_container_that_is_not_removed(
        self, fake: FakeEngine, box: Box, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(container_module, "_REMOVE_SECONDS", 0.2)
        fake.containers.refusals["DELETE"] = [(500, b'{"message": "busy"}')] * 1000
        with (
            pytest.raises(EngineError, match=r"does not remove the container hatch-docker-.*: busy") as caught,
            box.container(),
        ):
            pass
        assert "docker rm --force hatch-docker-" in caught.value.hint

    def test_reports_the_first_error(self, fake: FakeEngine, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(container_module, "_REMOVE_SECONDS", 0.2)
        fake.containers.refusals["DELETE"] = [(500, b'{"message": "busy"}')] * 1000
        with pytest.raises(ValueError, match="first"), box.container():
            raise ValueError("first")

    @pytest.mark.parametrize("kept", [0, 100, 700])
    def test_truncated_file_is_an_error(self, fake: FakeEngine, box: Box, kept: int) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            member = tarfile.TarInfo("a")
            member.size = 1000
            tar.addfile(member, io.BytesIO(bytes(1000)))
        with box.container() as container:
            fake.containers.refusals["GET archive"] = [(200, out.getvalue()[:kept])]
            with pytest.raises(EngineError, match=r"^/a: "):
                container.get("/a", io.BytesIO())

    def test_refuses_huge_files(self, fake: FakeEngine, box: Box) -> None:
        member = tarfile.TarInfo("a")
        member.size = 1 << 40
        with box.container() as container:
            fake.containers.refusals["GET archive"] = [(200, member.tobuf(format=tarfile.GNU_FORMAT))]
            out = io.BytesIO()
            with pytest.raises(EngineError, match="larger than 4 GiB"):
                container.get("/a", out)
        assert not out.getvalue()

    def test_keeps_output_that_arrives_with_the_headers(self, box: Box) -> None:
        with box.container() as container:
            container.put({"/a": b"content"})
            assert printed(container, "cat", "/a") == "content"

    def test_private_attributes_that_streams_need_exist(self, box: Box) -> None:
        with box.container() as container:
            command = box.engine._api.exec_create(container._name, ["true"])["Id"]
            made: Any = box.engine._api.exec_start(command, socket=True)
            problem = "docker, urllib3 or http.client renamed a private attribute: see engine/stream.py"
            connection, file, response = parts_of(made)
            assert isinstance(connection, socket.socket), problem
            assert response is not None, problem
            assert file is response.raw._fp.fp, problem
            Stream(made).close()

    def test_without_the_private_attributes_the_socket_is_read(self) -> None:
        engine, ours = socket.socketpair()
        with engine, ours:
            engine.sendall(struct.pack(">BxxxL", 1, 7) + b"content")
            engine.shutdown(socket.SHUT_WR)
            stream = Stream(ours)
            assert list(stream) == [b"content"]
            stream.close()

    def test_waits_for_the_command_after_its_output(self, fake: FakeEngine, box: Box) -> None:
        with box.container() as container:
            running = b'{"Running": true, "ExitCode": null}'
            fake.containers.refusals["GET json"] = [(200, running), (200, running)]
            assert container.run(["false"], write=lambda _: None) == 1

    @pytest.mark.parametrize(
        ("memory", "limit", "advice"),
        [(32 * MB, "its limit of 33.6 MB", "set HATCH_DOCKER_BUILD_MEMORY"), (0, "the engine has", "give the engine")],
    )
    def test_reports_that_memory_ran_out(
        self, fake: FakeEngine, box: Box, memory: int, limit: str, advice: str
    ) -> None:
        for status, oom_killed, problem in (
            (137, False, "was killed: it may need more memory than"),
            (137, True, "needs more memory than"),
            (1, True, "needs more memory than"),
        ):
            with box.container(limits=Limits(memory=memory)) as container:
                fake.containers.refusals["GET json"] = ends_with(status, oom_killed=oom_killed)
                with pytest.raises(EngineError) as caught:
                    container.run(["true"], write=lambda _: None)
            assert caught.value.message == f"{WHAT} {problem} {limit}"
            assert caught.value.hint.startswith(advice)

    @pytest.mark.parametrize(("status", "oom_killed"), [(1, False), (9, False), (136, False), (138, False), (0, True)])
    def test_returns_other_statuses(self, fake: FakeEngine, box: Box, status: int, oom_killed: bool) -> None:
        with box.container() as container:
            fake.containers.refusals["GET json"] = ends_with(status, oom_killed=oom_killed)
            assert container.run(["true"], write=lambda _: None) == status

    @pytest.mark.parametrize("content", [b"line\nline\n", b"li"])
    def test_file_that_changes_while_it_is_sent(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "log"
        path.write_bytes(b"line\n")
        chunks = packed({"/log": path})
        next(chunks)
        path.write_bytes(content)
        with pytest.raises(EngineError, match="changed while it was read") as caught:
            list(chunks)
        assert caught.value.place == str(path)

    def test_limits_and_options_of_containers(self, fake: FakeEngine, box: Box) -> None:
        with box.container(limits=Limits(memory=64 * MB, cpus=1.5, seconds=60), what="compiling psutil"):
            (made,) = fake.containers.made
        host = made["HostConfig"]
        assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 * MB, 64 * MB, 1_500_000_000)
        assert (host["NetworkMode"], host["AutoRemove"]) == ("none", True)
        assert made["Labels"] == {"hatch-docker.what": "compiling psutil", "hatch-docker.seconds": "60"}
        assert made["Hostname"] == "hatch-docker"
        assert (made["User"], made["OpenStdin"], made["StdinOnce"]) == ("0:0", True, True)

    @pytest.mark.parametrize("network", [True, False])
    def test_proxies_are_set_with_the_network_only(
        self, fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: bool
    ) -> None:
        proxies = '{"proxies": {"default": {"httpProxy": "http://proxy.example:3128"}}}'
        (tmp_path / "config.json").write_text(proxies)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        box = Box(engine=Engine.connect({"DOCKER_HOST": fake.address}), host=fake.address, kind="fake")
        with box.container(network=network):
            (made,) = fake.containers.made
        assert ("HTTP_PROXY=http://proxy.example:3128" in made.get("Env", [])) is network
        assert made["HostConfig"].get("NetworkMode", "default") == ("default" if network else "none")

    def test_errors_have_no_password(self, fake: FakeEngine, box: Box) -> None:
        with box.container() as container:
            fake.containers.refusals["GET changes"] = [(500, b'{"message": "http://me:secret@proxy.example: no"}')]
            with pytest.raises(EngineError) as caught:
                container.changes()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1s"), (90, "1m30s"), (1800, "30m"), (5400, "1h30m"), (3601, "1h1s")]
)
def test_shows_a_duration_as_it_is_configured(seconds: int, text: str) -> None:
    assert Limits(seconds=seconds).duration == text
