"""The ways to make an image: each is a function from a workplace and a build to the command that does it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .machine import Engine
from .processes import Command

OURS = "hatch-docker"
BY_HATCH = "hatch build"
_HERE = Path(__file__).parent
# What the index is, where the tools do not take their own default.
_INDEX = ("UV_DEFAULT_INDEX", "PIP_INDEX_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What a build is asked for. `cache` is how the registry is used as a cache: "", "read" or "write".

    `library`: F compiles the standard library, too, as ours does once for a base.
    `base` replaces the default base, and is looked up again. `anew` makes all layers again, from what was downloaded.
    `other` names another repository than the application's. Unless `kept`, a push from a Dockerfile leaves no image in
    the engine.
    """

    push: bool = False
    anew: bool = False
    library: bool = False
    base: str = ""
    cache: str = ""
    platforms: str = ""
    other: str = ""
    kept: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where a method builds: a directory with the project and its caches, an engine, and the names of a registry.

    `mount` identifies the cache mounts of Dockerfiles, `mirror` is that of Docker Hub, `proxy` that of the index.
    """

    folder: Path
    application: str
    engine: Engine
    registry: str
    mirror: str
    proxy: str
    mount: str
    uv: str
    bytecode: bool

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def image(self, build: Build) -> str:
        return f"{self.registry}/{build.other or self.application}:latest"

    @property
    def shared(self) -> str:
        """The repository of the registry's cache."""
        return f"{self.registry}/cache"


def ours(work: Workplace, build: Build) -> Command:
    """`hatch-docker build`, as its users start it: the script of an installation."""
    arguments = ["build", "--tag", work.image(build), "--push" if build.push else "--load"]
    arguments += ["--set", f"bytecode={str(work.bytecode).lower()}"]
    arguments += ["--set", f"base={build.base}"] if build.base else []
    arguments += ["--no-cache"] if build.anew else []
    arguments += ["--platform", build.platforms] if build.platforms else []
    return hatch_docker(work, *arguments, cache=build.cache)


def hatch_docker(work: Workplace, *arguments: str, cache: str = "") -> Command:
    """The command hatch-docker in the project, with the caches of the workplace."""
    program = Path(sys.executable).with_name("hatch-docker")
    modes = {"read": "read", "write": "read-write"}
    shared = {"HATCH_DOCKER_CACHE": work.shared, "HATCH_DOCKER_CACHE_MODE": modes[cache]} if cache else {}
    return Command.of(program, *arguments, cwd=work.project, environ=_environment(work) | shared)


def by_hatch(work: Workplace, build: Build) -> Command:
    """`hatch build -t docker`, with the plugin in the environment that Hatch makes for the build."""
    environ = _environment(work) | {
        "HATCH_DATA_DIR": str(work.folder / "hatch"),
        "HATCH_DOCKER_IMAGE": work.image(build).rpartition(":")[0],
        "HATCH_DOCKER_TAGS": "latest",
        "HATCH_DOCKER_BYTECODE": str(work.bytecode).lower(),
    }
    output = f"docker:{'push' if build.push else 'load'}"
    return Command.of("hatch", "build", "-t", output, cwd=work.project, environ=environ)


def _environment(work: Workplace) -> dict[str, str]:
    proxy = {"HTTPS_PROXY": f"http://{work.proxy}"} if work.proxy else {}
    return {
        **work.engine.environ,
        **proxy,
        "HATCH_DOCKER_CACHE_DIR": str(work.folder / "cache"),
        "HATCH_DOCKER_REGISTRY_MIRRORS": f"docker.io={work.mirror}" if work.mirror else "",
        "UV_CACHE_DIR": str(work.folder / "uv"),
    }


def dockerfile(name: str) -> Callable[[Workplace, Build], Command]:
    """`docker build` with one of the Dockerfiles here."""
    text = (_HERE / f"{name}.Dockerfile").read_text(encoding="utf-8")

    def command(work: Workplace, build: Build) -> Command:
        file = work.folder / "Dockerfile"
        file.write_text(_adapted(text, work, build), encoding="utf-8")
        arguments = ["build", "--network=host", f"--file={file}", f"--tag={work.image(build)}"]
        arguments += [f"--build-arg={name}={value}" for name, value in _arguments(work, build).items()]
        arguments += _outputs(work, build)
        arguments += ["--pull"] if build.base else []
        arguments += ["--no-cache"] if build.anew else []
        return work.engine.docker(*arguments, work.project)

    return command


def _adapted(text: str, work: Workplace, build: Build) -> str:
    """The Dockerfile with the workplace's cache mounts; if a registry is the cache, `COPY --link` in the last stage."""
    text = text.replace("--mount=type=cache,", f"--mount=type=cache,id={work.mount},")
    if not build.cache:
        return text
    earlier, stage, last = text.rpartition("\nFROM ")
    return f"{earlier}{stage}{re.sub('^COPY ', 'COPY --link ', last, flags=re.MULTILINE)}"


def _arguments(work: Workplace, build: Build) -> Mapping[str, str]:
    index = {name: os.environ[name] for name in _INDEX if name in os.environ}
    proxy = {"HTTPS_PROXY": f"http://{work.proxy}"} if work.proxy else {}
    base = {"BASE": build.base} if build.base else {}
    base |= {"LAST": "compiled"} if build.library else {}
    return {"BYTECODE": str(int(work.bytecode)), "UV": work.uv, **base, **index, **proxy}


def _outputs(work: Workplace, build: Build) -> list[str]:
    if not build.cache:
        return ["--push"] if build.push else []
    reference = f"type=registry,ref={work.shared}"
    options = [f"--cache-from={reference}"]
    options += [f"--cache-to={reference},mode=max"] if build.cache == "write" else []
    # To BuildKit, an empty `push` is true, so it pushes, as it does in a docker-container builder. To buildx it is not:
    # otherwise, it would make the engine push an image, too.
    alone = f"--output=type=image,name={work.image(build)},push=,store=false"
    return [*options, "--push" if build.kept else alone]


# The order is that of the tables.
METHODS: Mapping[str, Callable[[Workplace, Build], Command]] = {
    OURS: ours,
    BY_HATCH: by_hatch,
    "F": dockerfile("F"),
    "G": dockerfile("G"),
    "T": dockerfile("T"),
}
