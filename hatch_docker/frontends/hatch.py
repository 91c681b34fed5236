"""Hatch's door: the only module that knows Hatch, reads the environment and the clock, and prints.

Hatch asks for its builders whenever it lists them, also for plain wheels: whatever is heavy is imported when an image
is built.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable, Generator, Iterator
from datetime import datetime, timezone
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from hatchling.builders.config import BuilderConfig
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.plugin import hookimpl
from hatchling.plugin.manager import PluginManager

from hatch_docker.errors import ConfigError, HatchDockerError

if TYPE_CHECKING:
    from hatch_docker.config import Config, Mistakes, Settings
    from hatch_docker.image.report import Built
    from hatch_docker.project.commit import Commit
    from hatch_docker.project.model import Project
    from hatch_docker.services import Machine
    from hatch_docker.support.terminal import Terminal

VERSIONS = ("archive", "load", "push")
# With what a killed build left half-written.
_HALF = "hatch-docker-" + "[0-9a-f]" * 32
_LEFT_BEHIND = ("*.docker.tar", "*.docker.json", f".*.docker.tar.{_HALF}", f".*.docker.json.{_HALF}")


@hookimpl
def hatch_register_builder() -> type[DockerBuilder]:
    """Hatch's entry point."""
    return DockerBuilder


class DockerBuilder(BuilderInterface[BuilderConfig, PluginManager]):
    """The target `docker`. Its versions are the outputs, and all that are asked for share one image."""

    PLUGIN_NAME = "docker"

    def build(self, **options: Any) -> Generator[str, None, None]:
        """Build as Hatch does; then tell what was built, and print the image's name by digest to standard output."""
        self._made: dict[str, str] = {}
        with self._reporting():
            wanted = self._check(options.get("versions") or [])
            if not options.get("clean_only") and not options.get("hooks_only"):
                self._check_project(wanted)
            yield from super().build(**options)
            self._tell()

    def run(self, work: Callable[[Project, Config, Machine, Path], tuple[str, int]]) -> int:
        """Do other `work` for a project, which gives what to print, if anything, and the exit status that this returns.

        The last that it gets is the folder that builds write to. The project has neither a version, which only a plugin
        may know, nor a commit: only builds use them.
        """
        from hatch_docker.config import check_names, gather, refuse

        code = 0
        with self._reporting():
            self._check_file()
            config, _, mistakes = self._configuration
            project = self._project_of()
            names = partial(check_names, config, extras=project.optional_dependencies, groups=project.dependency_groups)
            gather([partial(refuse, mistakes), names])
            answer, code = work(project, config, self._machine, Path(self.config.directory))
            self._terminal.close()
            if answer:
                self.app.display(answer)
        return code

    def get_version_api(self) -> dict[str, Callable[..., str]]:
        """One function for each output, as Hatch calls them."""
        return {name: partial(self._output, name) for name in VERSIONS}

    def get_default_versions(self) -> list[str]:
        """What `-t docker` alone makes: the key `outputs`; else an archive, and a load where an engine answers."""
        from hatch_docker.engine import answers

        if outputs := self._configuration[0].outputs:
            return list(outputs)
        return ["archive", "load"] if answers(os.environ) else ["archive"]

    def clean(self, directory: str, versions: list[str]) -> None:  # noqa: ARG002
        """Remove what builds left in `directory`, as Hatch's --clean asks."""
        from hatch_docker.image.outputs import constraints_path, lock_path, selections_path

        for pattern in _LEFT_BEHIND:
            for path in Path(directory).glob(pattern):
                path.unlink()
        for path_of in (constraints_path, lock_path, selections_path):
            path_of(self._project.normalized_name, Path(directory)).unlink(missing_ok=True)

    def _check(self, versions: list[str]) -> list[str]:
        """Find what hatchling will not take before it does anything; the outputs that are wanted."""
        try:
            self.metadata.validate_fields()
            wanted = versions or self.config.versions
            self.get_build_hooks(self.config.directory)
        except (TypeError, ValueError, OSError) as error:
            raise ConfigError([("pyproject.toml", str(error))]) from None
        if unknown := sorted(set(wanted) - set(VERSIONS)):
            raise ConfigError([("-t docker", f"unknown output {', '.join(unknown)}; known are {', '.join(VERSIONS)}")])
        return wanted

    def _check_file(self) -> None:
        """Find what hatchling stumbles over in pyproject.toml."""
        file = Path(self.root, "pyproject.toml")
        if not file.is_file():
            raise ConfigError([(str(file), "there is no such file: name the project's folder, or go there")])
        try:
            # Read here for the first time.
            self._configuration  # noqa: B018
            self._project_of()
            _ = self.config.directory
        except (TypeError, ValueError, OSError) as error:
            raise ConfigError([(str(file), str(error))]) from None

    def _check_project(self, wanted: list[str]) -> None:
        """Compare the configuration with the project and the outputs, all mistakes at once; then find the engine."""
        from hatch_docker.base.families import admitted
        from hatch_docker.build import tags_of
        from hatch_docker.config import as_mistake, check_names, check_push, default_script, gather, refuse
        from hatch_docker.image.extra_files import check_sources
        from hatch_docker.locks import find_lock

        config, _, mistakes = self._configuration
        project = self._project
        checks: list[Callable[[], object]] = [
            partial(refuse, mistakes),
            partial(check_names, config, extras=project.optional_dependencies, groups=project.dependency_groups),
            partial(tags_of, project, config),
            partial(check_sources, config.extra_files, project.root, config.place("extra-files")),
            partial(as_mistake, config.place("lock"), partial(find_lock, project.root, config.lock)),
            self._created,
        ]
        if config.base.transport == "family":
            python = partial(admitted, project.requires_python, config.python)
            checks.append(partial(as_mistake, config.place("python"), python))
        if config.entrypoint is None and "entrypoint" not in mistakes:
            checks.append(partial(default_script, project.scripts, project=project.name))
        if "push" in wanted and "image" not in mistakes:
            checks.append(partial(check_push, config.image, config.place("image")))
        gather(checks)
        if "load" in wanted:
            self._machine.places.engine()

    def _output(self, name: str, directory: str, **_build_data: Any) -> str:
        """Make one output of the image; the path of what it left in `directory`."""
        from hatch_docker.image.outputs import OUTPUTS, Destination, write_constraints, write_result, write_selections

        machine = self._machine
        destination = Destination(
            directory=Path(directory),
            engine=machine.places.engine,
            registry=machine.places.registry,
            threads=machine.threads,
            progress=machine.progress,
        )
        built = self._image(Path(directory))
        self._directory = Path(directory)
        self._made[name] = OUTPUTS[name](built, destination)
        self._terminal.close()
        write_constraints(built, Path(directory))
        write_selections(built, Path(directory))
        result = write_result(built, self._made, Path(directory))
        return str(result.with_name(self._made[name]) if name == "archive" else result)

    def _image(self, directory: Path) -> Built:
        """The image, built once for all outputs."""
        from hatch_docker.build import build
        from hatch_docker.image.outputs import lock_path
        from hatch_docker.project.hatchling import distribution

        if self._built is None:
            config, project = self._configuration[0], self._project
            written = lock_path(project.normalized_name, directory)
            compiled = project.normalized_name in config.no_binary
            with distribution(self.root, self.plugin_manager, self.metadata, self.app, compiled=compiled) as own:
                self._built = build(project, own, config, self._machine, created=self._created(), written=written)
        return self._built

    _built: Built | None = None

    @cached_property
    def _configuration(self) -> tuple[Config, Settings, Mistakes]:
        from hatch_docker.config import parse

        return parse(self.target_config, os.environ, project=self.metadata.core.raw_name)

    @cached_property
    def _project(self) -> Project:
        return self._project_of(self.metadata.version, self._commit.revision)

    def _project_of(self, version: str = "", revision: str = "") -> Project:
        from hatch_docker.project.hatchling import project_of

        return project_of(Path(self.root), self.metadata, version=version, revision=revision)

    @cached_property
    def _machine(self) -> Machine:
        import platformdirs

        from hatch_docker.oci.spec import Platform
        from hatch_docker.services import services_of

        config, settings, _ = self._configuration
        return services_of(
            settings,
            os.environ,
            proxies=getproxies(),
            root=Path(self.root),
            home=Path.home(),
            cache_dir=platformdirs.user_cache_path("hatch-docker", appauthor=False),
            index_url=config.index_url,
            debian_mirror=config.debian_mirror,
            debian_keyring=Path(self.root, config.debian_keyring) if config.debian_keyring else None,
            now=datetime.now(timezone.utc),
            platform=Platform.of("linux", platform.machine()),
            processors=os.cpu_count() or 1,
            progress=self._terminal,
        )

    @cached_property
    def _terminal(self) -> Terminal:
        from hatch_docker.support.terminal import Terminal

        live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and self.app.verbosity >= 0
        return Terminal(self.app.display_info, sys.stderr if live else None, warning=self.app.display_warning)

    @cached_property
    def _commit(self) -> Commit:
        from hatch_docker.project.commit import head_of

        commit = head_of(Path(self.root), os.environ)
        if commit.refusal:
            self._terminal.note(f"the image records no commit, since Git did not read the repository: {commit.refusal}")
        return commit

    def _created(self) -> str:
        from hatch_docker.config import created_time

        return created_time(
            self._configuration[0].created,
            source_date_epoch=os.environ.get("SOURCE_DATE_EPOCH"),
            commit_time=self._commit.time,
            now=time.time(),
        )

    def _tell(self) -> None:
        from hatch_docker.image.report import how_to_run, table

        self._terminal.close()
        if self._built is None:
            return
        for line in ["", *table(self._built), ""]:
            self.app.display_info(line)
        run = how_to_run(self._built)
        if set(self._made) == {"archive"}:
            run = f"docker load -i {os.path.relpath(self._directory / self._made['archive'])} && {run}"
        self.app.display_info(f"  {run}")
        self.app.display(self._built.digest_reference)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Show what a person can mend as a message, without a traceback."""
        try:
            yield
        except ConfigError as error:
            self._terminal.close()
            head = f"{len(error.problems)} mistakes in the configuration:\n  " if len(error.problems) > 1 else ""
            self.app.abort(head + "\n  ".join(f"{place}: {message}" for place, message in error.problems))
        except HatchDockerError as error:
            self._terminal.close()
            self.app.abort(str(error))
        except KeyboardInterrupt:
            self._terminal.close()
            self.app.abort("interrupted", code=130)
        except OSError as error:
            self._terminal.close()
            place = f"{error.filename}: " if error.filename else ""
            self.app.abort(f"{place}{error.strerror or error}")
        finally:
            if "_machine" in self.__dict__:
                self._machine.places.cache.abandon()
