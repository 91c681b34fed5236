"""A reverse proxy on loopback that records requests to a registry."""

from __future__ import annotations

import http.client
from urllib.parse import parse_qs, urlsplit

from loopback import Loopback, QuietHandler

from hatch_docker.support.dataclasses import dataclass, field


@dataclass(frozen=True)
class Passed:
    """A request and the status of its answer; `size` of the body in bytes."""

    method: str
    path: str
    query: dict[str, list[str]]
    size: int
    status: int

    @property
    def digest(self) -> str:
        """The digest of an upload's last request."""
        return self.query.get("digest", [""])[0]


@dataclass
class Recorder(Loopback):
    """Forwards requests to the registry at `target` (host:port), for the duration of its `with` block."""

    target: str
    passed: list[Passed] = field(default_factory=list)

    def of(self, method: str, path: str = "") -> list[Passed]:
        """The requests with a method, and with `path` in their paths."""
        return [each for each in self.passed if each.method == method and path in each.path]


class _Handler(QuietHandler):
    fake: Recorder

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        connection = http.client.HTTPConnection(self.fake.target)
        connection.request(self.command, self.path, body or None, dict(self.headers.items()))
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        parts = urlsplit(self.path)
        self.fake.passed.append(Passed(self.command, parts.path, parse_qs(parts.query), len(body), answer.status))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.headers.get("Content-Length", str(len(data))))
        self.end_headers()
        self.wfile.write(data)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815 (http.server's names)


Recorder.handler = _Handler
