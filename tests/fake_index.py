"""A package index inside the test process, with the faults that real ones have."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from loopback import QuietServer

from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.progress import Progress, Task


class Notes(Progress):
    """Records notes and tasks."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.tasks: list[tuple[str, str, int]] = []

    @contextlib.contextmanager
    def task(self, step: str, name: str, total: int = 0) -> Iterator[Task]:
        self.tasks.append((step, name, total))
        yield Task()

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(kw_only=True)
class FakeIndex:
    """`files` are `(project, filename) → bytes`. Each fault applies to the paths that it lists.

    If `login` is set, every request needs it. Requests for a path first get its `statuses`, one each. `broken` paths
    lose their connection after half of the bytes, once; `stalled` ones wait there for `release`. `pages` replace the
    answers for paths.
    """

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    json: bool = True
    ranges: bool = True
    login: tuple[str, str] | None = None
    statuses: dict[str, list[int]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    redirects: dict[str, str] = field(default_factory=dict)
    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    stalled: set[str] = field(default_factory=set)
    release: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    host: str = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}/simple/"

    def url_with(self, username: str, password: str) -> str:
        return f"http://{username}:{password}@{self.host}/simple/"

    def file_url(self, filename: str) -> str:
        return f"http://{self.host}/files/{filename}"

    def add(self, project: str, filename: str, content: bytes) -> str:
        self.files[project, filename] = content
        return hashlib.sha256(content).hexdigest()

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def page(self, project: str) -> tuple[str, bytes] | None:
        found = {name: content for (owner, name), content in self.files.items() if owner == project}
        if not found:
            return None
        return _json_page(project, found) if self.json else _html_page(found)

    def content(self, filename: str) -> bytes | None:
        return next((content for (_, name), content in self.files.items() if name == filename), None)


def _json_page(project: str, found: dict[str, bytes]) -> tuple[str, bytes]:
    files = [
        {
            "filename": name,
            "url": f"../../files/{name}",
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "size": len(content),
            "requires-python": ">=3.8",
            "yanked": "broken" if "yanked" in name else False,
        }
        for name, content in found.items()
    ]
    page = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
    return "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()


def _html_page(found: dict[str, bytes]) -> tuple[str, bytes]:
    links = [
        f'<a href="../../files/{name}#sha256={hashlib.sha256(content).hexdigest()}"'
        f' data-requires-python="{html.escape(">=3.8")}"{" data-yanked" if "yanked" in name else ""}>{name}</a><br/>'
        for name, content in found.items()
    ]
    head = '<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.0"></head><body>'
    return "text/html; charset=utf-8", "\n".join([head, *links, "</body></html>"]).encode()


@contextlib.contextmanager
def serving(**faults: object) -> Iterator[FakeIndex]:
    """A FakeIndex on a free port of the loopback interface."""
    index = FakeIndex(**faults)  # type: ignore[arg-type]

    class Handler(_Handler):
        fake = index

    with QuietServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        index.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield index
        finally:
            index.release.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeIndex
    protocol_version = "HTTP/1.1"
    # Head and body are written apart: the body would wait 40 ms until the client acknowledges the head.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        fake, path = self.fake, urlsplit(self.path).path
        fake.requests.append((path, dict(self.headers)))
        if fake.login and self.headers.get("Authorization") != _basic(*fake.login):
            self._send(401, b"", {"WWW-Authenticate": 'Basic realm="index"'})
        elif fake.statuses.get(path):
            self._send(fake.statuses[path].pop(0), b"not now")
        elif path in fake.redirects:
            self._send(302, b"", {"Location": fake.redirects[path]})
        elif path in fake.pages:
            media_type, body = fake.pages[path]
            self._send(200, body, {"Content-Type": media_type})
        elif path.startswith("/simple/") and (page := fake.page(path.split("/")[2])):
            self._send(200, page[1], {"Content-Type": page[0]})
        elif path.startswith("/files/") and (content := fake.content(path.rsplit("/", 1)[1])) is not None:
            self._send_file(path, content)
        else:
            self._send(404, b"no such page")

    do_HEAD = do_GET  # noqa: N815

    def _send_file(self, path: str, content: bytes) -> None:
        start = 0
        asked = self.headers.get("Range", "")
        if asked and self.fake.ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        body = content[start:]
        if path in self.fake.broken or path in self.fake.stalled:
            self.fake.broken.discard(path)
            self._send(206 if start else 200, body, headers, half=True)
            if path in self.fake.stalled:
                self.fake.release.wait()
            self.close_connection = True
        else:
            self._send(206 if start else 200, body, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, half: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: len(body) // 2] if half else body)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        pass


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
