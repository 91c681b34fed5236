"""What the methods run on: a container engine and registries that are the benchmark's own.

An engine that has a layer unpacks nothing, and a registry that has a blob in any repository takes less: so each can be
emptied without touching what else is on the machine. That needs root, and `dockerd` and `docker-registry` on PATH.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .processes import Command, CommandError

_CHUNK = 1 << 18
# Of cached steps; those of one state of L take a third of it.
_STEPS = "15GB"
_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


@contextmanager
def _serving(arguments: list[str], log: Path, answers: Callable[[], bool]) -> Iterator[int]:
    """Run a program until the block ends, from when it `answers`; yields its process ID."""
    with log.open("ab") as output:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        end = time.monotonic() + 60
        while not answers():
            if process.poll() is not None or time.monotonic() > end:
                raise CommandError(f"{arguments[0]} does not answer:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class Engine:
    """A running dockerd: its client's environment, and the process ID."""

    environ: Mapping[str, str]
    process: int

    def docker(self, *arguments: str | Path) -> Command:
        return Command.of("docker", *arguments, environ=self.environ)

    def images(self) -> list[str]:
        """The names of all images."""
        listed = self.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").run().splitlines()
        return [image if "<none>" not in image else identifier for image, identifier in map(str.split, listed)]

    def forget(self, *keep: str, keep_downloads: bool) -> None:
        """Remove all images but `keep`, and the build cache; `keep_downloads` keeps the cache mounts."""
        if names := [name for name in self.images() if name not in keep]:
            self.docker("image", "rm", "--force", *names).run()
        self.docker(
            "builder", "prune", "--all", "--force", *(["--filter=type=regular"] if keep_downloads else [])
        ).run()

    def tidy(self) -> None:
        """Remove images without a name, and the steps that were used least recently, beyond what one state takes.

        Each new dependency leaves a gigabyte for each Dockerfile.
        """
        self.docker("image", "prune", "--force").run()
        self.docker("builder", "prune", "--all", "--force", "--filter=type=regular", f"--keep-storage={_STEPS}").run()


# For builds that need none: an address where nothing answers, and no process.
NO_ENGINE = Engine({"DOCKER_HOST": "tcp://127.0.0.1:1"}, -1)


@contextmanager
def engine(folder: Path, *, containerd_store: bool, mirror: str) -> Iterator[Engine]:
    """Run an engine without images below `folder`, and remove all that it had.

    `mirror` is the mirror of Docker Hub, if any. There is no bridge: containers use the host's network or none.
    """
    folder.mkdir(parents=True)
    config = {
        "features": {"containerd-snapshotter": containerd_store},
        "registry-mirrors": [f"http://{mirror}"] if mirror else [],
    }
    (folder / "daemon.json").write_text(json.dumps(config), encoding="utf-8")
    address = f"unix://{folder}/docker.sock"
    arguments = ["dockerd", f"--config-file={folder}/daemon.json", f"--host={address}", f"--data-root={folder}/data"]
    arguments += [f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    arguments += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    environ = {"DOCKER_HOST": address, "DOCKER_BUILDKIT": "1"}

    def answers() -> bool:
        with contextlib.suppress(CommandError):
            Command.of("docker", "version", environ=environ).run()
            return True
        return False

    try:
        with _serving(arguments, folder / "log", answers) as process:
            yield Engine(environ, process)
    finally:
        _unmount(folder)
        shutil.rmtree(folder)


def _unmount(folder: Path) -> None:
    """Unmount what an engine leaves mounted below its directory, such as network namespaces."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", mount], check=False, capture_output=True)


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run an empty registry, which keeps its content in `folder`; yields its address."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{_free_port()}"
    config = (
        f"version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/content}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{address}', secret: peers}}\n"
    )
    (folder / "config.yml").write_text(config, encoding="utf-8")

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return int(urllib.request.urlopen(f"http://{address}/v2/").status) == 200
        return False

    with _serving(["docker-registry", "serve", f"{folder}/config.yml"], folder / "log", answers):
        yield address


def move_tag(address: str, repository: str, source: str, tag: str) -> None:
    """Give the manifest with the tag `source` another `tag`."""
    url = f"http://{address}/v2/{repository}/manifests"
    with urllib.request.urlopen(urllib.request.Request(f"{url}/{source}", headers={"Accept": _MANIFESTS})) as answer:
        headers, manifest = {"Content-Type": answer.headers["Content-Type"]}, answer.read()
    urllib.request.urlopen(urllib.request.Request(f"{url}/{tag}", manifest, headers, method="PUT")).close()


def pushed_size(address: str, repository: str, tag: str) -> int:
    """The bytes of the layers of an image in a registry, as they are pulled."""
    url = f"http://{address}/v2/{repository}/manifests/{tag}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": _MANIFESTS})) as answer:
        return sum(int(layer["size"]) for layer in json.load(answer)["layers"])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Meter:
    """Forwards connections to `target`, and counts the bytes that clients send (`up`) and receive (`down`).

    Without a target, it is an HTTP proxy for TLS connections (CONNECT), which only forwards what is encrypted.
    """

    def __init__(self, target: str = "") -> None:
        self.target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.up = self.down = 0
        self._stack = ExitStack()

    def __enter__(self) -> Meter:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._connect, args=(self._server.accept()[0],), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            target = self.target or _connect_request(client)
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                if not self.target:
                    client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                back = threading.Thread(target=self._copy, args=(server, client, "down"), daemon=True)
                back.start()
                self._copy(client, server, "up")
                back.join()

    def _copy(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                setattr(self, direction, getattr(self, direction) + len(chunk))
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)


def _connect_request(client: socket.socket) -> str:
    """The host and port of a CONNECT request."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += client.recv(1)
    return request.split()[1].decode()


def upstream_proxy() -> str:
    """Host and port of the proxy that this machine reaches package indexes through, if any."""
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""
    return proxy.rpartition("@")[2].removeprefix("http://").rstrip("/")
