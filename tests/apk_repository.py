"""Makes repositories of Alpine packages with Alpine's tools, and images that install from them without a mirror."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial

from hatch_docker.engine.client import Engine
from hatch_docker.engine.container import Container
from hatch_docker.engine.limits import Limits
from hatch_docker.oci.config import History
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layer import Entry, Layer, write_layer
from hatch_docker.support.dataclasses import dataclass, field, replace

ALPINE = "python:3.13-alpine"
BUILDER = "python:3.13-alpine-build"
ARCHITECTURE = "x86_64"
FOLDER = "srv/apk"


@dataclass(frozen=True, kw_only=True)
class Apk:
    """A package. `files` are contents, or text for the target of a symbolic link; files in bin are executable.

    `scripts` are shell scripts by their names in apk (post-install); `provides` are names such as `so:libmini.so.1=1`.
    """

    version: str = "1.0-r0"
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    depends: Sequence[str] = ()
    provides: Sequence[str] = ()
    scripts: Mapping[str, str] = field(default_factory=dict)


def repository(engine: Engine, packages: Mapping[str, Apk]) -> dict[str, bytes]:
    """The files of an unsigned repository of `packages`, by path."""
    with engine.container(ALPINE, what="making packages", network=False, limits=Limits()) as container:
        made = {}
        for name, package in packages.items():
            path = f"/made/{name}-{package.version}.apk"
            _package(container, name, package, path)
            made[path] = _get(container, path)
        index = "/made/APKINDEX.tar.gz"
        run(container, "apk", "mkndx", "--allow-untrusted", "--output", index, *made)
        made[index] = _get(container, index)
    return {f"{ARCHITECTURE}/{path.removeprefix('/made/')}": data for path, data in made.items()}


def installable(engine: Engine, image: Image, packages: Mapping[str, Apk]) -> Image:
    """`image` with `packages` as its only repository, which needs no signature."""
    files = repository(engine, packages) if packages else {}
    return derived(
        image,
        Entry(path="etc/apk/repositories", content=f"/{FOLDER}\n".encode()),
        Entry(path="etc/apk/config", content=b"allow-untrusted\n"),
        *(Entry(path=f"{FOLDER}/{path}", content=data) for path, data in files.items()),
    )


def derived(image: Image, *entries: Entry, env: Mapping[str, str] | None = None) -> Image:
    """`image` with a layer of `entries`."""
    out = io.BytesIO()
    written = write_layer(entries, out)
    opener = partial(io.BytesIO, out.getvalue())
    layer = Layer(descriptor=written.descriptor, diff_id=written.diff_id, open=opener)
    config = replace(image.config, env={**image.config.env, **(env or {})})
    return append(image, (layer,), (History(created_by="test"),), config)


def shared_library(engine: Engine, source: str, soname: str, *, builder: str = BUILDER) -> bytes:
    """Compile a shared library from C, for musl."""
    with engine.container(builder, what="compiling a library", network=False, limits=Limits()) as container:
        container.put({"/source.c": source.encode()})
        run(container, "cc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", "/library.so", "/source.c")
        return _get(container, "/library.so")


def run(container: Container, *command: str) -> str:
    """The output of a command, which must succeed."""
    printed = bytearray()
    status = container.run(command, write=printed.extend)
    assert status == 0, printed.decode()
    return printed.decode()


def _package(container: Container, name: str, package: Apk, path: str) -> None:
    root = f"/packages/{name}"
    container.put({f"{root}/{file}": data for file, data in package.files.items() if isinstance(data, bytes)})
    container.put({f"/scripts/{name}.{kind}": text.encode() for kind, text in package.scripts.items()})
    run(container, "mkdir", "-p", root, "/made")
    for file, target in package.files.items():
        if isinstance(target, str):
            run(container, "mkdir", "-p", f"{root}/{file}".rpartition("/")[0])
            run(container, "ln", "-s", target, f"{root}/{file}")
        elif "/bin/" in f"/{file}":
            run(container, "chmod", "755", f"{root}/{file}")
    facts = {
        "name": name,
        "version": package.version,
        "arch": ARCHITECTURE,
        "description": "a test's",
        "license": "MIT",
        "depends": " ".join(package.depends),
        "provides": " ".join(package.provides),
    }
    info = [word for key, value in facts.items() if value for word in ("--info", f"{key}:{value}")]
    scripts = [word for kind in package.scripts for word in ("--script", f"{kind}:/scripts/{name}.{kind}")]
    run(container, "apk", "mkpkg", *info, *scripts, "--files", root, "--output", path)


def _get(container: Container, path: str) -> bytes:
    out = io.BytesIO()
    container.get(path, out)
    return out.getvalue()
