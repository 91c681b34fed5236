"""Hatch's build target `docker`.

Hatch imports the plugins of all targets, also for plain wheels: everything heavy is imported when an image is built.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.config import BuilderConfig, env_var_enabled
from hatchling.builders.constants import BuildEnvVars
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.plugin import hookimpl
from hatchling.plugin.manager import PluginManager

from hatch_docker.errors import ConfigError, HatchDockerError

if TYPE_CHECKING:
    from hatch_docker.frontends.hook import DockerHook
    from hatch_docker.session import Session
    from hatch_docker.stamps.stamp import Stamp

# Nanoseconds for hatchling to read the project before it calls a builder, unless its process is younger.
_LATE = 10**9


@hookimpl
def hatch_register_builder() -> type[DockerBuilder]:
    """Hatch's entry point."""
    return DockerBuilder


@hookimpl
def hatch_register_build_hook() -> type[DockerHook]:
    """Hatch's entry point for the build hook, whose module is imported for projects that have hooks."""
    from hatch_docker.frontends.hook import DockerHook

    return DockerHook


class DockerBuilder(BuilderInterface[BuilderConfig, PluginManager]):
    """The target `docker`. Its versions are the outputs, which share one image."""

    PLUGIN_NAME = "docker"
    _hooks_only = False
    _stamp: Stamp | None = None

    def build(self, **options: Any) -> Generator[str, None, None]:
        """Build as Hatch does; then show the report, and print the image's name by digest to standard output."""
        self._stamp = self._open_stamp(options)
        if self._stamp and (text := self._replay(self._stamp)) is not None:
            *paths, name = text.splitlines()
            yield from paths
            self.app.display(name)
            return
        with self.session.reporting():
            self.session.begin()
            outputs = self._check(options.get("versions") or [])
            self._hooks_only = bool(options.get("hooks_only") or env_var_enabled(BuildEnvVars.HOOKS_ONLY))
            if not options.get("clean_only") and not options.get("hooks_only"):
                self.session.check(outputs)
            made = super().build(**options) if self._is_hatchlings else self._build(outputs, **options)
            paths = []
            for path in made:
                paths.append(path)
                yield path
            self.session.show()
            if paths:
                text = "\n".join([*paths, self.session.built.digest_reference])
                self.session.leave_stamp(text, chosen=bool(options.get("versions")))

    def _replay(self, stamp: Stamp) -> str | None:
        """The standard output of a build that has nothing to do, or little; None if a whole one has to run."""
        text = stamp.replay(self.app)
        if text is None and stamp.edits:
            from hatch_docker.edits.run import run

            try:
                return run(stamp, self.app)
            except KeyboardInterrupt:
                self.app.abort("interrupted", code=130)
                raise
        return text

    def _open_stamp(self, options: Mapping[str, Any]) -> Stamp | None:
        """The stamp of a build that does nothing but build."""
        if any(options.get(name) for name in ("clean", "clean_only", "hooks_only")):
            return None
        if any(env_var_enabled(name) for name in (BuildEnvVars.CLEAN, BuildEnvVars.HOOKS_ONLY)):
            return None
        from hatch_docker.stamps.host import process_age
        from hatch_docker.stamps.stamp import Stamp, stamp_folder

        words = ["hatch", self.root, options.get("directory"), options.get("versions")]
        late = min(process_age() or _LATE, _LATE)
        return Stamp(stamp_folder(os.environ), words, os.environ, late=late)

    def _build(self, outputs: list[str], **options: Any) -> Generator[str, None, None]:
        """Build a project of another build backend, whose metadata hatchling need not be able to read."""
        clean_only, hooks_only = options.get("clean_only"), self._hooks_only
        location = os.environ.get(BuildEnvVars.LOCATION)
        configured = self.config.normalize_build_directory(location) if location else self.config.directory
        directory = options.get("directory") or configured
        if (clean_only or options.get("clean") or env_var_enabled(BuildEnvVars.CLEAN)) and not hooks_only:
            self.clean(directory, outputs)
        if not clean_only and not hooks_only:
            Path(directory).mkdir(parents=True, exist_ok=True)
            yield from (self._output(name, directory) for name in outputs)

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
            from hatch_docker.project.open import project_of_builder
            from hatch_docker.session import Session

            return Session(project_of_builder(self), self.app, stamp=self._stamp)
        except KeyboardInterrupt:
            self.app.abort("interrupted", code=130)
            raise
        except HatchDockerError as error:
            self.app.abort(str(error))
            raise
        except (TypeError, ValueError, OSError) as error:
            self.app.abort(f"pyproject.toml: {error}")
            raise

    @property
    def _is_hatchlings(self) -> bool:
        """Whether hatchling builds the project, which may name another build backend."""
        from hatch_docker.project.open import of_hatchling

        return of_hatchling(self.metadata.config)

    def _check(self, versions: list[str]) -> list[str]:
        """Report what hatchling would raise without a message; returns the outputs."""
        try:
            if self._is_hatchlings:
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
