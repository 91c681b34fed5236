"""Run builds through Hatch, and read their archives independently of the package's code."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from unittest import mock

import hatchling.cli
from base_maker import FakeBase, make_base
from fake_registry import PASSWORD
from project_maker import make_project
from wheel_maker import make_wheel

from hatch_docker.build import build as _build
from hatch_docker.frontends.cli.main import main
from hatch_docker.image.report import Built
from hatch_docker.oci.image import decompressed, validate
from hatch_docker.oci.layout import open_files
from hatch_docker.oci.source import layout_source, pull, pull_saved
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.progress import Progress

NOWHERE = "tcp://127.0.0.1:1"


@dataclass(frozen=True)
class Outcome:
    """The exit status and output of a build."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Made:
    """The image in an archive: its documents, and the files of all layers as a container sees them."""

    manifest: Mapping[str, Any]
    document: Mapping[str, Any]
    members: Mapping[str, tarfile.TarInfo]
    contents: Mapping[str, bytes]
    layers: tuple[tuple[str, ...], ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """The part of the image config that says how to run it."""
        config: dict[str, Any] = self.document["config"]
        return config

    @property
    def env(self) -> dict[str, str]:
        """The environment."""
        return dict(each.partition("=")[::2] for each in self.config["Env"])

    def text(self, path: str) -> str:
        """The text of a file."""
        return self.contents[path].decode()


# The variables that name the directory of temporary files.
TEMPORARY = ("TEMP", "TMP", "TMPDIR")
_NUMBERS = itertools.count()


def environment(cache: Path, **changes: str) -> dict[str, str]:
    """The environment of a build: a cache, no engine, and no configuration of the user who runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", *TEMPORARY) if name in os.environ}
    home = str(cache.parent / "home")
    return {
        **kept,
        "HOME": home,
        "USERPROFILE": home,
        "HATCH_DOCKER_CACHE_DIR": str(cache),
        "DOCKER_HOST": NOWHERE,
        # The bases of tests have no Python that could compile.
        "HATCH_DOCKER_BYTECODE": "false",
        "PIP_CONFIG_FILE": os.devnull,
        # A build is not replayed only because the machine was slow since the files were written.
        "BUILD": str(next(_NUMBERS)),
        **changes,
    }


def build(project: Path, *arguments: str, env: Mapping[str, str], target: str = "docker:archive") -> Outcome:
    """Run `python -m hatchling build` in `project`, in this process, and check that the image is valid."""
    out, err = io.StringIO(), io.StringIO()
    before = Path.cwd()
    os.chdir(project)
    try:
        with (
            mock.patch.dict(os.environ, env, clear=True),
            mock.patch.object(sys, "argv", ["hatchling", "build", "-t", target, *arguments]),
            mock.patch("hatch_docker.session.build", _validated),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = hatchling.cli.hatchling()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        os.chdir(before)
    return Outcome(code, out.getvalue(), err.getvalue())


def command(*arguments: str | Path, env: Mapping[str, str], folder: Path) -> Outcome:
    """Run `hatch-docker …` in `folder`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    before, code = Path.cwd(), 0
    os.chdir(folder)
    try:
        with (
            mock.patch.dict(os.environ, env, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        os.chdir(before)
    return Outcome(code, out.getvalue(), err.getvalue())


def _validated(*arguments: Any, **options: Any) -> Built:
    built = _build(*arguments, **options)
    for each in built.images:
        assert validate(each.image) == []
    return built


def start(
    project: Path,
    *arguments: str,
    env: Mapping[str, str],
    target: str = "docker:archive",
    python: str = sys.executable,
    **options: Any,
) -> subprocess.Popen[str]:
    """Start `python -m hatchling build` in `project`, in a process of its own."""
    return subprocess.Popen(
        [python, "-m", "hatchling", "build", "-t", target, *arguments],
        cwd=project,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        **options,
    )


def wait_for(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process; return its outcome."""
    out, err = process.communicate(timeout=300)
    return Outcome(process.returncode, out, err)


def check_clean(outcome: Outcome, code: int = 1) -> str:
    """Check that a build printed one message and no secrets; return it. Lines of progress before it are indented."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    lines = outcome.err.splitlines()
    heads = [number for number, line in enumerate(lines) if line and not line.startswith("  ")]
    assert len(heads) == 1, outcome.err
    assert not any(secret in outcome.err for secret in (PASSWORD, "s3cret"))
    return "\n".join(lines[heads[0] :])


def check_blobs(cache: Path) -> None:
    """Check that a cache has no partial files and that every blob has the digest in its name."""
    assert list((cache / "tmp").glob("*")) == []
    for path in files_below(cache / "blobs"):
        assert hashlib.new(path.parent.name, path.read_bytes()).hexdigest() == path.name


def files_below(folder: Path) -> set[Path]:
    """The files in a directory and its subdirectories, without CACHEDIR.TAG."""
    return {path for path in folder.rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG"}


def entries_below(cache: Path) -> set[Path]:
    """The blobs and documents in a cache's directory, and partial ones, without what it notes about them."""
    others = {"verified", "running", "locks", "size"}
    return {path for path in files_below(cache) if path.relative_to(cache).parts[0] not in others}


def archive_of(project: Path) -> Path:
    """The only archive in the project's dist."""
    (path,) = (project / "dist").glob("*.docker.tar")
    return path


def result_of(project: Path) -> dict[str, Any]:
    """The only result file in the project's dist, with the facts of its image beside them if it is the only one."""
    (path,) = (project / "dist").glob("*.docker.json")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    images = document["images"]
    return {**document, **images[0]} if len(images) == 1 else document


def check_archive(archive: Path, scratch: Path) -> None:
    """Read an archive as an OCI layout and as a `docker save` archive, and validate both images."""
    cache, platform, progress = Cache(scratch), platform_of(archive), Progress()
    files = open_files(archive)
    layout = pull(layout_source(files, ""), platform, cache, progress=progress).image
    assert validate(layout) == []
    saved = pull_saved(files, "", platform, cache, progress=progress).image
    assert validate(saved) == []
    assert saved.config_bytes == layout.config_bytes


def platform_of(archive: Path) -> Platform:
    """The platform of the image in an archive, whose layers are not read."""
    with tarfile.open(archive) as tar:

        def document(path: str) -> dict[str, Any]:
            found: dict[str, Any] = json.load(tar.extractfile(path))  # type: ignore[arg-type]
            return found

        def described(descriptor: Mapping[str, Any]) -> dict[str, Any]:
            return document("blobs/" + descriptor["digest"].replace(":", "/"))

        (entry,) = document("index.json")["manifests"]
        config = described(described(entry)["config"])
    return Platform.of(config["os"], config["architecture"])


def read(archive: Path) -> Made:
    """Read the image in an archive."""
    with tarfile.open(archive) as tar:
        blobs = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]

    def blob(descriptor: Mapping[str, Any]) -> bytes:
        return blobs["blobs/" + descriptor["digest"].replace(":", "/")]

    (entry,) = json.loads(blobs["index.json"])["manifests"]
    manifest = json.loads(blob(entry))
    members: dict[str, tarfile.TarInfo] = {}
    contents: dict[str, bytes] = {}
    layers = []
    for descriptor in manifest["layers"]:
        with tarfile.open(fileobj=io.BytesIO(_plain(descriptor, blob(descriptor)))) as tar:
            added = {member.name: member for member in tar}
            removed = {name.replace(".wh.", "") for name in added if "/.wh." in name}
            for each in [name for name in members if removed & {name, *map(str, PurePosixPath(name).parents)}]:
                del members[each]
                contents.pop(each, None)
            kept = {name: member for name, member in added.items() if "/.wh." not in name}
            members |= kept
            contents |= {name: tar.extractfile(each).read() for name, each in kept.items() if each.isreg()}  # type: ignore[union-attr]
            layers.append(tuple(added))
    return Made(manifest, json.loads(blob(manifest["config"])), members, contents, tuple(layers))


def _plain(descriptor: Mapping[str, Any], data: bytes) -> bytes:
    if descriptor["mediaType"].endswith("zstd"):
        return b"".join(decompressed(iter([data]), descriptor["mediaType"]))
    return gzip.decompress(data)


@dataclass(frozen=True)
class Bench:
    """A directory with wheels, base images, projects, and the cache that their builds share."""

    root: Path

    @property
    def cache(self) -> Path:
        """The cache of all builds."""
        return self.root / "cache"

    def base(self, *bases: FakeBase) -> Path:
        """The path of an OCI layout with these images, made at the first call."""
        folder = self.root / f"base-{hashlib.sha256(repr(bases).encode()).hexdigest()[:8]}"
        return folder if folder.exists() else make_base(folder, *bases)

    def wheel(self, name: str, version: str = "1.0", files: Mapping[str, str | bytes] = {}, **options: Any) -> Path:
        """Make a wheel with one module besides `files`."""
        folder = self.root / "wheels"
        folder.mkdir(exist_ok=True)
        return make_wheel(folder, name, version, {f"{name}.py": f"VERSION = {version!r}\n", **files}, **options)

    def project(self, folder: str = "project", **options: Any) -> Path:
        """Make a project with `make_project`, on a small glibc base by default."""
        return make_project(self.root / folder, **{"base": self.base(), **options})

    def build(self, project: Path, *arguments: str, target: str = "docker:archive", **env: str) -> Outcome:
        """Build in this process, with `env` added to a clean environment."""
        return build(project, *arguments, env=environment(self.cache, **env), target=target)

    def made(self, project: Path, *arguments: str, target: str = "docker:archive", **env: str) -> Made:
        """Build an archive, check it, and read it."""
        outcome = self.build(project, *arguments, target=target, **env)
        assert outcome.code == 0, outcome.err
        check_archive(archive_of(project), self.root / "scratch")
        return read(archive_of(project))
