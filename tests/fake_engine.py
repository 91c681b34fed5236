"""A container engine in this process, with the part of Docker's API that we use."""

from __future__ import annotations

import io
import json
import re
import tarfile
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fake_containers import Containers, ContainersHandler
from loopback import Loopback

from hatch_docker.support.dataclasses import dataclass, field

CUT = "cut"


@dataclass
class FakeEngine(Loopback):
    """An engine on a loopback port, for the duration of its `with` block.

    `answers` are given to the next loads instead of the right ones: a status and a body, or CUT to close the connection
    in the middle of the request. `images` has what `docker inspect` returns, under each name and ID of an image.
    """

    answers: list[tuple[int, bytes] | str] = field(default_factory=list)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    loads: list[set[str]] = field(default_factory=list)
    sent: dict[str, bytes] = field(default_factory=dict)  # by the last load
    driver: str = "overlay2"
    containerd: bool = False  # an image's ID is its manifest's digest, as in containerd's store
    requests: list[str] = field(default_factory=list)
    saved: bytes = b""
    cut_saves: bool = False
    containers: Containers = field(default_factory=Containers)

    @property
    def address(self) -> str:
        """The value for DOCKER_HOST."""
        return f"tcp://{self.host}"

    def load(self, data: bytes) -> tuple[int, bytes]:
        """Load an archive as Docker does: layers of images that the engine has may be missing in it."""
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        self.loads.append(set(members))
        self.sent = members
        (entry,) = json.loads(members["manifest.json"])
        rootfs = json.loads(members[entry["Config"]])["rootfs"]["diff_ids"]
        present = {layer for image in self.images.values() for layer in image["RootFS"]["Layers"]}
        for name, diff_id in zip(entry["Layers"], rootfs, strict=True):
            if name not in members and diff_id not in present:
                return 200, json.dumps({"error": f"open {name}: no such file or directory"}).encode()
        identity = "sha256:" + entry["Config"].rpartition("/")[2]
        if self.containerd:
            identity = json.loads(members["index.json"])["manifests"][0]["digest"]
        image = {"Id": identity, "RootFS": {"Layers": rootfs}, "RepoTags": entry["RepoTags"]}
        self.images |= dict.fromkeys([identity, *entry["RepoTags"]], image)
        return 200, b'{"stream":"Loaded image"}'


class _Handler(ContainersHandler):
    fake: FakeEngine

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.fake.requests.append(path)
        if self.answer_container_request():
            return
        if re.fullmatch(r"(?:/v[\d.]+)?/info", path):
            status = [["driver-type", "io.containerd.snapshotter.v1"]] if self.fake.containerd else []
            driver = "overlayfs" if self.fake.containerd else self.fake.driver
            self.answer(200, json.dumps({"Driver": driver, "DriverStatus": status}).encode())
        elif path == "/version":
            self.answer(200, b'{"ApiVersion": "1.45", "Os": "linux", "Arch": "amd64"}')
        elif match := re.fullmatch(r"(?:/v[\d.]+)?/images/(.+)/json", path):
            image = self.fake.images.get(unquote(match[1]))
            self.answer(200 if image else 404, json.dumps(image or {"message": "No such image"}).encode())
        elif re.fullmatch(r"(?:/v[\d.]+)?/images/(.+)/get", path):
            self._save()

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        self.fake.requests.append(parts.path)
        if self.answer_container_request():
            return
        if parts.path.endswith("/images/load"):
            self._load()
        elif match := re.fullmatch(r"(?:/v[\d.]+)?/images/(.+)/tag", parts.path):
            query = parse_qs(parts.query)
            self.fake.images[f"{query['repo'][0]}:{query['tag'][0]}"] = self.fake.images[unquote(match[1])]
            self.answer(201)

    def _load(self) -> None:
        answer = self.fake.answers.pop(0) if self.fake.answers else None
        if isinstance(answer, str):
            self.rfile.read(1 << 10)
            self.close_connection = True
            return
        data = b"".join(self._chunks())
        self.answer(*(answer or self.fake.load(data)))

    def _save(self) -> None:
        data = self.fake.saved
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if self.fake.cut_saves else data)
        self.close_connection = self.fake.cut_saves

    def do_DELETE(self) -> None:
        if self.answer_container_request():
            return
        if match := re.fullmatch(r"(?:/v[\d.]+)?/images/(.+)", urlsplit(self.path).path):
            self.fake.images.pop(unquote(match[1]), None)
            self.answer(200, b"[]")

    do_PUT = do_DELETE  # noqa: N815 (http.server's name)


FakeEngine.handler = _Handler
