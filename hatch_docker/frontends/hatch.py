"""Hatch's build target `docker`.

Hatch imports the plugins of all targets, also for plain wheels: everything heavy is imported when an image is built.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.config import BuilderConfig, env_var_enabled
from hatchling.builders.constants import BuildEnvVars
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.plugin import hookimpl
from hatchling.plugin.manager import PluginManager

from hatch_docker.errors import ConfigError

if TYPE_CHECKING:
    from hatch_docker.session import Session


@hookimpl
def hatch_register_builder() -> type[DockerBuilder]:
    """Hatch's entry point."""
    return DockerBuilder


class DockerBuilder(BuilderInterface[BuilderConfig, PluginManager]):
    """The target `docker`. Its versions are the outputs, which share one image."""

    PLUGIN_NAME = "docker"
    _hooks_only = False

    def build(self, **options: Any) -> Generator[str, None, None]:
        """Build as Hatch does; then show the report, and print the image's name by digest to standard output."""
        with self.session.reporting():
            outputs = self._check(options.get("versions") or [])
            self._hooks_only = bool(options.get("hooks_only") or env_var_enabled(BuildEnvVars.HOOKS_ONLY))
            if not options.get("clean_only") and not options.get("hooks_only"):
                self.session.check(outputs)
            yield from super().build(**options)
            self.session.show()

    def get_build_hooks(self, directory: str) -> dict[str, BuildHookInterface[Any]]:
        """The hooks, of which those of this target run once for all outputs, and those of all targets for the wheel."""
        hooks = super().get_build_hooks(directory)
        if not self._hooks_only:
            for name, hook in hooks.items():
                _limit(hook, int(name in self.target_config.get("hooks", {})))
        return hooks

    def get_version_api(self) -> dict[str, Callable[..., str]]:
        """One function for each output, as Hatch calls them."""
        from hatch_docker.image.outputs import OUTPUTS

        return {name: partial(self._output, name) for name in OUTPUTS}

    def get_default_versions(self) -> list[str]:
        """The outputs that `-t docker` makes."""
        return self.session.default_outputs()

    def clean(self, directory: str, versions: list[str]) -> None:  # noqa: ARG002
        """Remove the files that builds left in `directory`, for Hatch's --clean."""
        self.session.clean(Path(directory))

    @cached_property
    def session(self) -> Session:
        """The run that this builder is for."""
        try:
            from hatch_docker.project.hatchling import HatchlingProject
            from hatch_docker.session import Session
        except KeyboardInterrupt:
            self.app.abort("interrupted", code=130)
            raise

        return Session(HatchlingProject(self), self.app)

    def _check(self, versions: list[str]) -> list[str]:
        """Report what hatchling would raise without a message; returns the outputs."""
        try:
            self.metadata.validate_fields()
            outputs = versions or self.config.versions
            self.get_build_hooks(self.config.directory)
        except (TypeError, ValueError, OSError) as error:
            raise ConfigError([("pyproject.toml", str(error))]) from None
        known = self.get_version_api()
        if unknown := sorted(set(outputs) - known.keys()):
            raise ConfigError([("-t docker", f"unknown output {', '.join(unknown)}; known are {', '.join(known)}")])
        return outputs

    def _output(self, name: str, directory: str, **_build_data: Any) -> str:
        return str(self.session.output(name, Path(directory)))


def _limit(hook: BuildHookInterface[Any], most: int) -> None:
    """Let a hook run at most so many times: hatchling calls it for each output. It may clean up at any time."""

    def limited(method: Callable[..., None]) -> Callable[..., None]:
        calls = itertools.count()

        def call(*arguments: Any) -> None:
            if next(calls) < most:
                method(*arguments)

        return call

    for name in ("initialize", "finalize"):
        setattr(hook, name, limited(getattr(hook, name)))
