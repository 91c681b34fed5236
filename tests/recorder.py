"""A registry's door that writes down who comes in: a reverse proxy on loopback."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from loopback import Loopback, QuietHandler


@dataclass(frozen=True)
class Passed:
    """A request and how it was answered; `size` is that of its body, in bytes."""

    method: str
    path: str
    query: dict[str, list[str]]
    size: int
    status: int

    @property
    def digest(self) -> str:
        """The blob that an upload ends with."""
        return self.query.get("digest", [""])[0]


@dataclass
class Recorder(Loopback):
    """Passes everything on to the registry at `target` (host:port) for as long as its `with` block lasts."""

    target: str
    passed: list[Passed] = field(default_factory=list)

    def of(self, method: str, path: str = "") -> list[Passed]:
        """What passed by a method, with `path` in its path."""
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
