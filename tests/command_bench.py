"""A bench for the commands `lock`, `outdated` and `plan`, with a Debian archive and a package index on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builds
from builds import Outcome
from debian_bench import DebianBench, FakeDebian, fake_debian
from fake_index import FakeIndex

from hatch_docker.support.dataclasses import dataclass

NOWHERE = "127.0.0.1:1"


def whole_debian(folder: Path) -> FakeDebian:
    """An archive with the packages of bases, debug bases and toolchains, for two architectures."""
    return fake_debian(folder, architectures=("amd64", "arm64"), debug=True)


@dataclass(frozen=True)
class CommandBench(DebianBench):
    """Projects, the archive, and the `index` of their dependencies."""

    index: FakeIndex

    def offer(self, name: str, version: str = "1.0", *, filename: str = "", **options: Any) -> None:
        """Make a wheel and add it to the index."""
        path = self.wheel(name, version, filename=filename, **options)
        self.index.add(name, path.name, path.read_bytes())

    def environ(self, **env: str) -> dict[str, str]:
        """The variables for the archive and the index, and `env`. Empty variables are left out."""
        variables = {
            "HATCH_DOCKER_REGISTRY_MIRRORS": f"docker.io={NOWHERE}",
            "HATCH_DOCKER_INDEX_URL": self.index.url,
            # uv caches the pages of an index for minutes.
            "UV_NO_CACHE": "1",
            **self.archive.settings(),
            **env,
        }
        return {name: value for name, value in variables.items() if value}

    def hatch(self, *arguments: str | Path, project: Path, **env: str) -> Outcome:
        """Run `hatch-docker …` in a project's directory."""
        environ = builds.environment(self.cache, **self.environ(**env))
        return builds.command(*arguments, env=environ, folder=project)

    def build(self, project: Path, *arguments: str, target: str = "docker:archive", **env: str) -> Outcome:
        """Build with the archive and the index."""
        return super().build(project, *arguments, target=target, **self.environ(**env))

    def digest(self, project: Path, **env: str) -> str:
        """Build, and return the image's digest."""
        outcome = self.build(project, **env)
        assert outcome.code == 0, outcome.err
        return str(builds.result_of(project)["digest"])
