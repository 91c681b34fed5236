"""A registry in this process: the distribution specification, and peculiarities of real registries."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import socket
import struct
import threading
import time
from collections.abc import Mapping
from urllib.parse import parse_qs, parse_qsl, urlsplit

from loopback import Loopback, QuietHandler

from hatch_docker.support.dataclasses import dataclass, field

USER, PASSWORD = "rosa", "correct horse"
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<rest>.+|uploads/.*)")
_REASONS = {
    401: "UNAUTHORIZED",
    404: "MANIFEST_UNKNOWN",
    413: "SIZE_INVALID",
    416: "RANGE_INVALID",
    429: "TOOMANYREQUESTS",
}


@dataclass(frozen=True)
class Request:
    """A request to the registry."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]


@dataclass
class Failure:
    """An answer to the next `times` requests with this method and path, instead of the right one."""

    method: str
    path: str
    status: int
    times: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class FakeRegistry(Loopback):
    """A registry on a loopback port for as long as its `with` block lasts; its fields may be changed at any time."""

    auth: str = ""  # "", "basic" or "bearer"
    anonymous_pull: bool = False
    realm: str = ""  # of the token service, by default its own
    identity_token: str = ""
    token_uses: int = 1 << 30
    mounts: bool = True
    unmountable: frozenset[str] = frozenset()  # repositories that no token service gives access to
    largest_put: int = 1 << 30
    smallest_chunk: int = 0
    largest_chunk: int = 1 << 30
    resets: bool = False  # the connection instead of refusing what is too large
    chunk_status: int = 202
    drops_chunks: bool = False  # all but the first of each blob, as ECR does
    blob_status: int = 201  # of a complete upload
    blob_digest: str = ""  # in the header then, if any
    storing: float = 0.0  # how long it takes to store a blob, in seconds
    manifest_status: int = 201
    manifest_digest: str | None = None  # in the header then, instead of the right one
    immutable: bool = False  # tags, as in ECR
    indexes: bool = True
    loses_tags: bool = False
    outdated_blobs: set[str] = field(default_factory=set)  # that a HEAD finds, though they are gone
    absolute_location: bool = False
    location: str = ""  # of uploads, instead of the right one
    uploads_at: str = ""  # the host that the beginning of an upload is redirected to; its locations are relative
    storage: str = ""  # the host that blobs are redirected to
    digest_header: str | None = None
    cut_uploads: int = 0
    cut_downloads: int = 0
    breaks_at: int | None = None  # the byte that no download gets to
    stalled: str = ""  # requests for paths that contain it wait for `release`
    reached: threading.Event = field(default_factory=threading.Event)  # when one waits
    halting: bool = False  # all answers stop in their bodies until `release`
    release: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event | None = None  # downloads of blobs pause after a byte until it is set
    failures: list[Failure] = field(default_factory=list)

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    tokens: dict[str, list[str]] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    everything: tuple[int, bytes] | None = None  # the answer to any request
    fault: tuple[int, str] = (
        0,
        "",
    )  # the number of a request, and what happens to it, once: a status, "hang up", "cut", "short"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, method: str, path: str = "") -> list[Request]:
        """The requests of `method` whose path contains `path`."""
        return [request for request in self.requests if request.method == method and path in request.path]

    def add_manifest(self, name: str, reference: str, data: bytes, media_type: str) -> str:
        """Store a manifest by tag and by digest; return its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.manifests[name, reference] = self.manifests[name, digest] = (media_type, data)
        return digest

    def add_blob(self, name: str, data: bytes) -> str:
        """Store a blob; return its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[name, digest] = data
        return digest


class _Handler(QuietHandler):
    fake: FakeRegistry

    def setup(self) -> None:
        super().setup()
        with self.fake.lock:
            self.fake.connections += 1

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 (http.server's names)

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        self.read = False
        self.is_cut = self.is_short = False
        fake = self.fake
        with fake.lock:
            fake.requests.append(Request(self.command, parts.path, self.query, dict(self.headers.items())))
            failure = next(
                (f for f in fake.failures if f.method == self.command and f.path in parts.path and f.times), None
            )
            if failure:
                failure.times -= 1
            number, kind = fake.fault
            faulty = len(fake.requests) == number
        if fake.stalled and fake.stalled in parts.path:
            fake.reached.set()
            fake.release.wait(60)
        self.is_cut = faulty and kind == "cut"
        self.is_short = faulty and kind == "short"
        if faulty and kind.isdigit():
            self._answer(int(kind))
        elif faulty and kind == "hang up":
            self._body()
            self.close_connection = True
        elif fake.everything:
            self._body()
            self._answer(*fake.everything, headers={"Content-Type": "text/html"})
        elif failure:
            self._body()
            self._answer(failure.status, failure.body, dict(failure.headers))
        elif parts.path == "/token":
            self._token()
        elif match := _PATH.fullmatch(parts.path):
            self.name, rest = match["name"], match["rest"]
            if self._authorized():
                getattr(self, f"_{match['kind']}")(rest)
        else:
            self._answer(404)

    def _body(self) -> bytes:
        if self.read:
            return b""
        self.read = True
        if self.headers.get("Transfer-Encoding"):
            raise AssertionError("registries need a Content-Length")
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        if not self.read:
            self._body()
        if status >= 400 and not body:
            code = _REASONS.get(status, "UNKNOWN")
            body = json.dumps({"errors": [{"code": code, "message": f"no luck with {status}"}]}).encode()
        if self.is_cut:
            # The request has been obeyed, but nobody hears of it.
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 20")
            return
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.is_short:
            # The body lacks its end.
            self.close_connection = True
            body = body[: len(body) // 2]
        if self.command != "HEAD" and self.fake.halting:
            self.wfile.write(body[:1])
            self.close_connection = self.fake.release.wait(60)
        elif self.command != "HEAD":
            self.wfile.write(body)

    # authentication

    def _authorized(self) -> bool:
        fake = self.fake
        sent = self.headers.get("Authorization", "")
        needed = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(self.command, "push")
        if not fake.auth:
            return True
        if fake.auth == "basic":
            if sent == _basic() or (fake.anonymous_pull and needed == "pull" and not sent):
                return True
            self._answer(401, headers={"WWW-Authenticate": 'Basic realm="the fake, \\"really\\""'})
            return False
        token = sent.removeprefix("Bearer ")
        with fake.lock:
            fake.uses[token] = fake.uses.get(token, 0) + 1
            granted = fake.tokens.get(token, []) if fake.uses[token] <= fake.token_uses else []
        if any(_grants(scope, self.name, needed) for scope in granted):
            return True
        scope = f"repository:{self.name}:{'pull,push' if needed == 'push' else needed}"
        realm = fake.realm or f"http://{fake.host}/token"
        bearer = f'Bearer realm="{realm}",service="fake",scope="{scope}",error="invalid_token"'
        self._answer(401, headers={"WWW-Authenticate": f"Negotiate YII=, {bearer}"})
        return False

    def _token(self) -> None:
        fake = self.fake
        if self.command == "POST":
            form = dict(parse_qsl(self._body().decode()))
            scopes = form["scope"].split()
            valid = form["grant_type"] == "refresh_token" and form["refresh_token"] == fake.identity_token != ""
        else:
            scopes = self.query.get("scope", [])
            valid = self.headers.get("Authorization", "") == _basic()
            if not valid and (not fake.anonymous_pull or "Authorization" in self.headers):
                self._answer(401, b'{"details": "incorrect username or password"}')
                return
        if (self.command == "POST" and not valid) or any(scope.split(":")[1] in fake.unmountable for scope in scopes):
            self._answer(403)
            return
        token = secrets.token_hex(8)
        with fake.lock:
            fake.tokens[token] = scopes if valid else [scope.replace("push", "") for scope in scopes]
        name = "access_token" if self.command == "POST" else "token"
        self._answer(200, json.dumps({name: token, "expires_in": 60}).encode())

    # content

    def _manifests(self, reference: str) -> None:
        fake = self.fake
        if self.command == "PUT":
            self._put_manifest(reference, self._body())
            return
        if (self.name, reference) not in fake.manifests:
            self._answer(404)
            return
        media_type, data = fake.manifests[self.name, reference]
        digest = "sha256:" + hashlib.sha256(data).hexdigest() if fake.digest_header is None else fake.digest_header
        headers = {"Docker-Content-Digest": digest, "Content-Length": str(len(data))}
        self._answer(200, data, headers | ({"Content-Type": media_type} if media_type else {}))

    def _put_manifest(self, reference: str, data: bytes) -> None:
        fake, document, media_type = self.fake, json.loads(data), self.headers["Content-Type"]
        is_index = "manifests" in document
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs = [] if is_index else [document["config"], *document["layers"]]
        wanted = [blob["digest"] for blob in blobs if not blob.get("urls")]
        if reference != digest and ":" in reference:
            self._error(400, "DIGEST_INVALID")
        elif fake.immutable and ":" not in reference and (self.name, reference) in fake.manifests:
            self._error(400, "TAG_INVALID", f"The image tag '{reference}' already exists and cannot be overwritten")
        elif is_index and not fake.indexes:
            self._error(400, "MANIFEST_INVALID", "manifest invalid")
        elif document.get("mediaType", media_type) != media_type:
            self._error(400, "MANIFEST_INVALID", "the media type of the request is not the manifest's")
        elif not all((self.name, each) in fake.blobs for each in wanted):
            self._error(404, "MANIFEST_BLOB_UNKNOWN")
        elif is_index and not all((self.name, each["digest"]) in fake.manifests for each in document["manifests"]):
            self._error(404, "MANIFEST_UNKNOWN")
        else:
            fake.manifests[self.name, digest] = (media_type, data)
            if not fake.loses_tags:
                fake.add_manifest(self.name, reference, data, media_type)
            header = digest if fake.manifest_digest is None else fake.manifest_digest
            self._answer(fake.manifest_status, headers={"Docker-Content-Digest": header} if header else {})

    def _error(self, status: int, code: str, message: str = "") -> None:
        self._answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode())

    def _blobs(self, rest: str) -> None:
        if rest.startswith("uploads/"):
            self._upload(rest.removeprefix("uploads/"))
            return
        data = self.fake.blobs.get((self.name, rest))
        if self.command == "HEAD" and rest in self.fake.outdated_blobs:
            self._answer(200, headers={"Docker-Content-Digest": rest})
        elif data is None:
            self._answer(404)
        elif self.command == "HEAD":
            self._answer(200, headers={"Content-Length": str(len(data))})
        elif self.fake.storage:
            self._answer(
                307, headers={"Location": f"http://{self.fake.storage}/v2/{self.name}/blobs/{rest}?signature=s"}
            )
        else:
            self._download(data)

    def _download(self, data: bytes) -> None:
        if gate := self.fake.gate:
            self._answer(200, data[:1], {"Content-Length": str(len(data))})
            gate.wait(60)
            self.close_connection = True
            return
        start = int((re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) or ["", "0"])[1])
        whole, data = data, data[start:]
        if (end := self.fake.breaks_at) is not None:
            self._answer(206 if start else 200, whole[start:end], {"Content-Length": str(len(data))})
            self.close_connection = True
            return
        if self.fake.cut_downloads:
            self.fake.cut_downloads -= 1
            self._answer(206 if start else 200, data[: len(data) // 2], {"Content-Length": str(len(data))})
            self.close_connection = True
            return
        self._answer(206 if start else 200, data)

    def _upload(self, upload: str) -> None:
        fake = self.fake
        if self.command == "POST":
            self._begin()
        elif upload not in fake.uploads:
            self._answer(404, b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}')
        elif "state" not in self.query:
            self._answer(400)
        elif self.command == "GET":
            self._answer(204)
        elif self.command == "DELETE":
            del fake.uploads[upload]
            self._answer(204)
        elif self.command == "PATCH":
            self._chunk(upload)
        elif int(self.headers.get("Content-Length", "0")) > fake.largest_put:
            self._too_large(413)
        elif fake.cut_uploads and self.headers.get("Content-Length") != "0":
            fake.cut_uploads -= 1
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            self.close_connection = True
        else:
            self._finish(upload)

    def _begin(self) -> None:
        fake = self.fake
        if fake.uploads_at:
            self._answer(307, headers={"Location": f"http://{fake.uploads_at}{self.path}"})
            return
        digest, source = (self.query.get(name, [""])[0] for name in ("mount", "from"))
        if digest and fake.mounts and (source, digest) in fake.blobs:
            fake.blobs[self.name, digest] = fake.blobs[source, digest]
            self._answer(201, headers={"Location": f"/v2/{self.name}/blobs/{digest}"})
            return
        upload = secrets.token_hex(8)
        fake.uploads[upload] = bytearray()
        self._answer(202, headers={**self._location(upload), "OCI-Chunk-Min-Length": str(fake.smallest_chunk)})

    def _location(self, upload: str) -> dict[str, str]:
        path = f"/v2/{self.name}/blobs/uploads/{upload}?state=a%2Fb%3D"
        return {
            "Location": self.fake.location
            or (f"http://{self.fake.host}{path}" if self.fake.absolute_location else path)
        }

    def _chunk(self, upload: str) -> None:
        received = self.fake.uploads[upload]
        if int(self.headers["Content-Length"]) > self.fake.largest_chunk:
            self._too_large(416)
            return
        data = self._body()
        if self.fake.drops_chunks and received:
            self._answer(201, headers={**self._location(upload), "Range": f"0-{len(received) - 1}"})
            return
        if self.headers["Content-Range"] != f"{len(received)}-{len(received) + len(data) - 1}":
            self._answer(416)
            return
        received += data
        headers = {**self._location(upload), "Range": f"0-{len(received) - 1}"}
        self._answer(self.fake.chunk_status, headers=headers)

    def _too_large(self, status: int) -> None:
        if not self.fake.resets:
            self._error(status, "UNSUPPORTED", "the request body is too large")
            return
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _finish(self, upload: str) -> None:
        body = self._body()
        if len(body) < int(self.headers.get("Content-Length", "0")):
            # The client went away.
            return
        data = bytes(self.fake.uploads.pop(upload)) + body
        if "sha256:" + hashlib.sha256(data).hexdigest() != self.query["digest"][0]:
            self._answer(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
            return
        digest = self.fake.add_blob(self.name, data)
        self.fake.outdated_blobs.discard(digest)
        time.sleep(self.fake.storing)
        header = {"Docker-Content-Digest": self.fake.blob_digest} if self.fake.blob_digest else {}
        self._answer(self.fake.blob_status, headers=header)


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def _grants(scope: str, name: str, action: str) -> bool:
    _, granted, actions = scope.split(":")
    return granted == name and action in actions.split(",")


FakeRegistry.handler = _Handler
