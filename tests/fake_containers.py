"""The containers of the fake engine: files in memory, and a few commands."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loopback import QuietHandler

from hatch_docker.support.dataclasses import dataclass, field


@dataclass
class FakeContainer:
    """A container: `made` has its options, `files` what was copied into it."""

    made: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    started: threading.Event = field(default_factory=threading.Event)
    attached: socket.socket | None = None

    def run(self, command: list[str]) -> tuple[bytes, int]:
        """The output and exit status of a command."""
        if command[0] == "cat":
            return self.files[command[1].lstrip("/")], 0
        return b"", {"true": 0, "false": 1}.get(command[0], 127)


@dataclass
class Containers:
    """The engine's containers. `refusals` replace the right answers to "METHOD last-part-of-path".

    The main process of a container that is waited for ends with `status` and has `printed`.
    """

    running: dict[str, FakeContainer] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    execs: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    refusals: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    status: int = 0
    printed: bytes = b""
    # Requests are concurrent, so the length of `execs` is not unique.
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def remove(self, name: str) -> bool:
        """End a container; return whether it was there."""
        container = self.running.pop(name, None)
        if container is not None and container.attached is not None:
            container.attached.shutdown(socket.SHUT_RDWR)
        return container is not None


class ContainersHandler(QuietHandler):
    """Answers requests about containers."""

    def answer_container_request(self) -> bool:
        """Answer the request if it is about containers; return whether it is."""
        path = urlsplit(self.path).path
        found = re.fullmatch(r"/v[\d.]+/(containers|exec)/([^/]+)(?:/(\w+))?", path)
        if not found:
            return False
        kind, name, action = found[1], found[2], found[3] or ""
        containers: Containers = self.fake.containers
        refusals = containers.refusals.get(f"{self.command} {action or ('create' if name == 'create' else '')}".strip())
        if refusals:
            self._chunks() if self.headers.get("Transfer-Encoding") else self._json()
            self.answer(*refusals.pop(0))
        elif name == "create":
            self._create(containers)
        elif kind == "exec":
            self._exec(containers.execs[name], action)
        elif name not in containers.running:
            self.answer(404, json.dumps({"message": f"No such container: {name}"}).encode())
        else:
            getattr(self, f"_{self.command.lower()}_{action}")(containers, name, containers.running[name])
        return True

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _create(self, containers: Containers) -> None:
        made = self._json()
        containers.made.append(made)
        name = parse_qs(urlsplit(self.path).query)["name"][0]
        containers.running[name] = FakeContainer(made)
        self.answer(201, json.dumps({"Id": name, "Warnings": []}).encode())

    def _post_attach(self, containers: Containers, name: str, container: FakeContainer) -> None:
        """The main process: it prints a line, and ends when its input ends."""
        container.attached = self.connection
        self._hijack()
        container.started.wait()
        self.wfile.write(struct.pack(">BxxxL", 1, 1) + b"\n")
        self.rfile.read(1)
        containers.running.pop(name, None)

    def _post_start(self, _containers: Containers, _name: str, container: FakeContainer) -> None:
        container.started.set()
        self.answer(204)

    def _post_wait(self, containers: Containers, _name: str, _container: FakeContainer) -> None:
        self.answer(200, json.dumps({"StatusCode": containers.status}).encode())

    def _get_logs(self, containers: Containers, _name: str, _container: FakeContainer) -> None:
        self.answer(200, struct.pack(">BxxxL", 2, len(containers.printed)) + containers.printed)

    def _post_kill(self, containers: Containers, name: str, _container: FakeContainer) -> None:
        containers.remove(name)
        self.answer(204)

    def _delete_(self, containers: Containers, name: str, _container: FakeContainer) -> None:
        containers.remove(name)
        self.answer(204)

    def _post_exec(self, containers: Containers, _name: str, container: FakeContainer) -> None:
        identity = f"exec{next(containers.numbers)}"
        containers.execs[identity] = container.run(self._json()["Cmd"])
        self.answer(201, json.dumps({"Id": identity}).encode())

    def _exec(self, done: tuple[bytes, int], action: str) -> None:
        if action == "json":
            self.answer(200, json.dumps({"Running": False, "ExitCode": done[1]}).encode())
            return
        self._json()
        self._hijack(done[0])

    def _get_json(self, _containers: Containers, _name: str, _container: FakeContainer) -> None:
        self.answer(200, b'{"State": {"OOMKilled": false}, "Config": {"Tty": false}}')

    def _get_changes(self, _containers: Containers, _name: str, container: FakeContainer) -> None:
        changes = [{"Path": f"/{path}", "Kind": 1} for path in container.files]
        self.answer(200, json.dumps(changes or None).encode())

    def _get_export(self, _containers: Containers, _name: str, container: FakeContainer) -> None:
        self.answer(200, _tar(container.files))

    def _get_archive(self, _containers: Containers, _name: str, container: FakeContainer) -> None:
        path = parse_qs(urlsplit(self.path).query)["path"][0].lstrip("/")
        inside = {each: data for each, data in container.files.items() if f"{each}/".startswith(f"{path}/")}
        if inside:
            stat = base64.b64encode(json.dumps({"name": path}).encode()).decode()
            folders = [] if path in inside else [path]
            self.answer(200, _tar(inside, folders), X_Docker_Container_Path_Stat=stat)
        else:
            self.answer(404, json.dumps({"message": f"Could not find the file {path}"}).encode())

    def _put_archive(self, _containers: Containers, _name: str, container: FakeContainer) -> None:
        with tarfile.open(fileobj=io.BytesIO(b"".join(self._chunks()))) as tar:
            container.files |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        self.answer(200)

    def _hijack(self, first: bytes = b"") -> None:
        """Answer, and keep the connection; the first output is sent together with the headers."""
        frame = struct.pack(">BxxxL", 1, len(first)) + first if first else b""
        self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + frame)
        self.close_connection = True

    def _json(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")

    def _chunks(self) -> list[bytes]:
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return chunks


def _tar(files: dict[str, bytes], folders: list[str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in folders or ():
            member = tarfile.TarInfo(path)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()
