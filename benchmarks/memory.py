"""Measure the peak memory of builds, pushes and loads of a project whose wheels have 5 GB.

The wheels are made here, and served from here: members of more than 2 GB, stored and deflated, one of more than 4 GB
unpacked (zip64), and a hundred smaller ones. It needs about five times their size on the disk, in FOLDER, and removes
everything afterwards, also the image in the engine. README.md has a result.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from peers.processes import family, proportional

from hatch_docker.support.streams import file_digest

MB = 1_000_000
GB = 1000 * MB
NAME = "hatch-docker-memory"
PERIOD = 0.02
REGISTRY_CONFIG = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: 127.0.0.1:{port}}}
"""


def noise(size: int, seed: int) -> Iterator[bytes]:
    """Bytes that cannot be compressed."""
    generator = random.Random(seed)
    while size > 0:
        chunk = generator.randbytes(min(size, 1 << 20))
        size -= len(chunk)
        yield chunk


def text(size: int, seed: int) -> Iterator[bytes]:
    """Bytes that are compressed to about three quarters."""
    return (base64.b64encode(chunk) for chunk in noise(size // 4 * 3, seed))


def zeros(size: int, _seed: int) -> Iterator[bytes]:
    """Bytes that are compressed to a thousandth."""
    return itertools.chain.from_iterable([itertools.repeat(bytes(1 << 20), size >> 20), [bytes(size % (1 << 20))]])


def make_wheel(folder: Path, name: str, files: Iterable[tuple[str, Iterable[bytes], int]]) -> Path:
    """Write a wheel of files, each with its content and its compression, in bounded memory."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    wheel = b"Wheel-Version: 1.0\nGenerator: memory\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    small = [(f"{info}/METADATA", [metadata], zipfile.ZIP_STORED), (f"{info}/WHEEL", [wheel], zipfile.ZIP_STORED)]
    rows = []
    with zipfile.ZipFile(path, "w", compresslevel=1) as file:
        for member, chunks, method in [*files, *small]:
            place = zipfile.ZipInfo(member, (1980, 1, 2, 0, 0, 0))
            place.compress_type = method
            hasher, size = hashlib.sha256(), 0
            with file.open(place, "w", force_zip64=True) as out:
                for chunk in chunks:
                    hasher.update(chunk)
                    size += out.write(chunk)
            digest = base64.urlsafe_b64encode(hasher.digest()).rstrip(b"=").decode()
            rows.append(f"{member},sha256={digest},{size}\n")
        file.writestr(f"{info}/RECORD", "".join([*rows, f"{info}/RECORD,,\n"]))
    return path


def make_wheels(folder: Path, size: int) -> list[Path]:
    """Wheels of about `size` bytes: two of them with one large file each, the others with files of 10 MB."""
    stored, deflated = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    large = size * 45 // 100
    wheels = [
        make_wheel(
            folder, "stored", [("stored/data.bin", noise(large, 1), stored), ("stored/__init__.py", [], stored)]
        ),
        make_wheel(folder, "deflated", [("deflated/data.bin", text(large * 4 // 3, 2), deflated)]),
        make_wheel(folder, "zeros", [("zeros/data.bin", zeros(size * 9 // 10, 0), deflated)]),
    ]
    members = [(f"many/{number}.so", noise(5 * MB, number + 3), deflated) for number in range(size // 10 // (5 * MB))]
    return [*wheels, make_wheel(folder, "many", members)]


def make_project(folder: Path, wheels: Sequence[Path], address: str) -> None:
    """A project with a lock that names the wheels at an address."""
    folder.mkdir()
    (folder / "main.py").write_text("import stored\n")
    names = [wheel.name.partition("-")[0] for wheel in wheels]
    lines = ["[project]", f'name = "{NAME}"', 'version = "1"', f"dependencies = {names}", 'requires-python = ">=3.10"']
    lines += ["[tool.hatch-docker]", 'cmd = ["python", "/app/main.py"]']
    (folder / "pyproject.toml").write_text("\n".join(lines))
    lock = ['lock-version = "1.0"', f'created-by = "{NAME}"']
    for name, wheel in zip(names, wheels, strict=True):
        with wheel.open("rb") as file:
            digest = file_digest(file).removeprefix("sha256:")
        lock += ["[[packages]]", f'name = "{name}"', 'version = "1.0"', "[[packages.wheels]]"]
        lock += [f'url = "http://{address}/{wheel.name}"', f'hashes = {{sha256 = "{digest}"}}']
    (folder / "pylock.toml").write_text("\n".join(lock))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A server of the files of a folder; gives its address."""
    handler = type("Handler", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextmanager
def registry(folder: Path, port: int) -> Iterator[str]:
    """A registry with its data in a folder, in a process of its own."""
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text(REGISTRY_CONFIG.format(folder=folder / "data", port=port))
    program = shutil.which("docker-registry") or shutil.which("registry") or sys.exit("no registry on PATH")
    process = subprocess.Popen([program, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def run(environ: dict[str, str], folder: Path, *arguments: str) -> tuple[float, int, int]:
    """Run hatch-docker in a folder; its seconds, and the peak memory in bytes: its own, and with all it started."""
    command = [str(Path(sys.executable).with_name("hatch-docker")), *arguments]
    start, own, peak = time.perf_counter(), 0, 0
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            sizes = [proportional(each) for each in family(process.pid)]
            own, peak = max(own, sizes[0]), max(peak, sum(sizes))
            time.sleep(PERIOD)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, own, peak


def measure(options: argparse.Namespace, scratch: Path) -> None:
    wheels, project, cache = scratch / "wheels", scratch / "project", scratch / "cache"
    environ = {**os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache), "TMPDIR": str(scratch)}
    wheels.mkdir()
    made = make_wheels(wheels, options.size)
    archive = f"{scratch}/image.tar"
    build = ("build", "--quiet", "--set", f"base={options.base}", "--tag")
    print(f"{sum(wheel.stat().st_size for wheel in made) / GB:.1f} GB of wheels\n")
    print("| | seconds | peak, MB | with the base's Pythons |\n|---|---|---|---|", flush=True)

    def show(name: str, work: Callable[[], tuple[float, int, int]]) -> None:
        seconds, own, peak = work()
        print(f"| {name} | {seconds:.0f} | {own / MB:.0f} | {peak / MB:.0f} |", flush=True)

    with served(wheels) as address:
        make_project(project, made, address)
        show(
            "build, cold, to an archive", partial(run, environ, project, *build, NAME, "-o", f"type=oci,dest={archive}")
        )
    shutil.rmtree(wheels)
    with registry(scratch / "registry", options.port) as host:
        show("push of the archive", partial(run, environ, project, "push", "-q", archive, f"{host}/{NAME}:archive"))
        Path(archive).unlink()
    with registry(scratch / "registry", options.port) as host:
        show("build to a registry, layers cached", partial(run, environ, project, *build, f"{host}/{NAME}", "--push"))
    show("the same to an archive", partial(run, environ, project, *build, NAME, "-o", f"type=oci,dest={archive}"))
    Path(archive).unlink()
    try:
        show("the same to the engine", partial(run, environ, project, *build, NAME, "--load"))
    finally:
        subprocess.run(["docker", "rmi", "--force", NAME], check=False, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where there is room for five times the size")
    parser.add_argument("--size", type=int, default=5 * GB, help="bytes of wheels")
    parser.add_argument("--base", default="python:3.13-slim")
    parser.add_argument("--port", type=int, default=5977, help="of the registry")
    options = parser.parse_args()
    with ExitStack() as stack:
        measure(options, Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))))


if __name__ == "__main__":
    main()
