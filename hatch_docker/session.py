"""One run of the tool: configuration and project read, services opened, results and errors shown.

Frontends share it. It knows the environment and the clock, and neither Hatch nor the command line.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from hatch_docker.base.families import family_pythons
from hatch_docker.build import build
from hatch_docker.config import (
    EVERY,
    Config,
    Mistakes,
    Option,
    as_mistake,
    check_annotations,
    check_names,
    check_outputs,
    check_push,
    gather,
    parse,
    refuse,
)
from hatch_docker.dependence import project_inputs
from hatch_docker.errors import ConfigError, HatchDockerError, RemoteCacheError
from hatch_docker.image.extra_files import check_sources
from hatch_docker.image.files import shown_path
from hatch_docker.image.outputs import (
    OUTPUTS,
    Destination,
    check_loadable,
    how_to_start,
    remove_outputs,
    write_records,
)
from hatch_docker.image.report import Built, again, tables
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks import find_lock
from hatch_docker.locks.locked import read_artifacts
from hatch_docker.oci.reference import Reference
from hatch_docker.plan import (
    ImagePlan,
    Lock,
    Plan,
    created_of,
    entrypoint_of,
    image_of,
    lock_path,
    make_metadata,
    plan,
    plan_images,
    references_of,
)
from hatch_docker.project.commit import Commit, head_of
from hatch_docker.project.model import Project, ProjectSource
from hatch_docker.services import Services, open_services, this_host
from hatch_docker.stamping import Ended, leave_stamp
from hatch_docker.stamps.stamp import Stamp
from hatch_docker.stamps.values import Inputs
from hatch_docker.support.atomic import is_writable, replace_text
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.directories import home_directory
from hatch_docker.support.terminal import Console, ProgressMode, Terminal, live_stream

if TYPE_CHECKING:
    from hatch_docker.compiling.dist_info import BuiltMetadata

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of one run: values for `keys`, and how progress is shown.

    With `no_cache`, results of earlier runs are not used; with `pull`, files that are cached for a time are requested
    again.
    """

    keys: Mapping[str, Option] = field(default_factory=dict)
    progress: ProgressMode = "auto"
    no_cache: bool = False
    pull: bool = False


def _nowhere(_digest: str) -> None:
    return None


class Session:
    """One run for one project."""

    def __init__(
        self,
        source: ProjectSource,
        console: Console,
        options: RunOptions | None = None,
        *,
        stamp: Stamp | None = None,
    ) -> None:
        self._source = source
        self._console = console
        self._options = options or RunOptions()
        self._stamp = stamp
        self._planned: Plan | None = None
        self._outputs: dict[str, list[str]] = {}
        self._joined = self._pushes = False
        self._built: Built | None = None
        self._directory = Path()
        # The notes and warnings before anything was written.
        self._notes: list[tuple[str, str]] = []

    @cached_property
    def _configuration(self) -> tuple[Config, Mistakes, Services]:
        source, host = self._source, this_host()
        name, table = source.table
        config, settings, mistakes = parse(table, host.environ, name=name, options=self._options.keys)
        options = self._options
        settings = replace(
            settings,
            caching=config.caching,
            no_cache=options.no_cache,
            pull=options.pull,
            resolver_builds=not config.compiling.only_in_builder,
        )
        services = open_services(
            settings,
            host,
            root=source.root,
            index_url=config.packages.index_url,
            debian=config.os_packages,
            progress=self.terminal,
        )
        return config, mistakes, services

    @property
    def config(self) -> Config:
        """The configuration, in which keys with mistakes have their defaults."""
        return self._configuration[0]

    @property
    def services(self) -> Services:
        """The services of this run."""
        return self._configuration[2]

    @property
    def directory(self) -> Path:
        """The directory that builds write to."""
        return self._source.directory

    @cached_property
    def terminal(self) -> Terminal:
        """Shows progress, notes and warnings."""
        console = self._console
        mode = self._options.progress if console.verbosity >= 0 else "quiet"
        live = live_stream(mode, sys.stderr, os.environ)
        return Terminal(console.display_info, live, warning=console.display_warning)

    @cached_property
    def metadata(self) -> Project:
        """The project without its commit and its version, which may need a plugin or run the project's own code."""
        self._source.prepare(self._make_metadata)
        return self._source.read("")

    def _make_metadata(self, artifact: Artifact, requires_python: str) -> BuiltMetadata:
        config, mistakes, services = self._configuration
        refuse(mistakes)
        return make_metadata(config, services, artifact, requires_python)

    @cached_property
    def project(self) -> Project:
        """The project as builds and plans need it. The version is empty if it is not known."""
        compiled = self.metadata.normalized_name in self.config.compiling.no_binary
        return replace(
            self._source.read(self._source.version()),
            revision=self._commit.revision,
            commit_time=self._commit.time,
            distribution=partial(self._source.distribution, compiled, self.services.cache, self.services.progress),
        )

    @cached_property
    def _commit(self) -> Commit:
        return head_of(self._source.root, self.services.host.environ)

    def default_outputs(self) -> list[str]:
        """The outputs of a plain build: those of the key `outputs`, or the default ones."""
        # `check` reports the others.
        if outputs := [name for name in self.config.output.outputs if name in OUTPUTS]:
            return outputs
        return [name for name, output in OUTPUTS.items() if output.is_default(self.services.host.environ)]

    def check(self, outputs: Collection[str] = (), more: Sequence[Callable[[], object]] = ()) -> None:
        """Compare the configuration with the project and the outputs; raises one ConfigError with all mistakes.

        `more` are other checks, which raise ConfigError. Raises EngineError if one of the outputs needs an engine and
        none answers.
        """
        config, mistakes, services = self._configuration
        project, place = self.project, config.place
        checks: list[Callable[[], object]] = [
            *self._basic_checks(),
            partial(check_outputs, config.output.outputs, OUTPUTS, place=place("outputs")),
            partial(check_sources, config.output.extra_files, project.root, place("extra-files")),
            partial(as_mistake, place("lock"), partial(find_lock, project.root, config.packages.lock)),
            partial(created_of, project, config.output.created, services.host),
            partial(check_annotations, config.runtime, config.base, place("index-annotations")),
            *more,
        ]
        checks += [partial(self._check_names, outputs)] if project.version else []
        if config.base.spec.transport == "family":
            admits = partial(family_pythons, project.requires_python, config.base.python)
            checks.append(partial(as_mistake, place("python"), admits))
        if "entrypoint" not in mistakes:
            checks.append(partial(entrypoint_of, project, config))
        chosen = [OUTPUTS[name] for name in outputs]
        self._joined = any(output.joins for output in chosen)
        self._pushes = any(output.needs_registry for output in chosen)
        if any(output.needs_registry for output in chosen) and "image" not in mistakes:
            checks += [partial(check_push, image, where) for image, where in self._names()]
        gather(checks)
        if any(output.needs_engine for output in chosen):
            engine, platforms = services.engine(), config.base.platforms
            if platforms != EVERY and len(platforms) > 1:
                check_loadable(platforms, engine.platform)
        if refusal := self._commit.refusal:
            self.terminal.note(f"the image records no commit, since Git did not read the repository: {refusal}")

    def _check_names(self, outputs: Collection[str]) -> None:
        references, config = references_of(self.project, self.config), self.config
        place = config.place("references" if config.naming.references else "tags")
        for name in outputs:
            as_mistake(place, partial(OUTPUTS[name].check_names, references))

    def _names(self) -> list[tuple[Reference, str]]:
        """The names of the image, without tags unless options give them, and the place of each."""
        naming, place = self.config.naming, self.config.place
        if naming.references:
            return [(reference, place("references")) for reference in naming.references]
        return [(image_of(self.project, naming), place("image"))]

    def check_settings(self) -> None:
        """Check what the environment and options say: enough for a command without a project. Raises ConfigError."""
        refuse(self._configuration[1])

    def check_configuration(self) -> None:
        """Check the configuration's syntax, extras and dependency groups: enough for a command that never builds."""
        gather(self._basic_checks())

    def _basic_checks(self) -> list[Callable[[], object]]:
        config, mistakes, _ = self._configuration
        project, packages = self.metadata, config.packages
        extras, groups = project.optional_dependencies, project.dependency_groups
        return [
            partial(refuse, mistakes),
            partial(check_names, packages.extras, extras, place=config.place("extras"), what="extra"),
            partial(
                check_names,
                packages.dependency_groups,
                groups,
                place=config.place("dependency-groups"),
                what="dependency group",
            ),
        ]

    def plan(self) -> Plan:
        """The plan of a build; nothing is written but the cache."""
        self._begin_caches()
        return self._trusting(lambda: plan(self.project, self.config, self.services, directory=self.directory))

    def plan_images(self, *, services: Services | None = None, lock: Lock = read_artifacts) -> tuple[ImagePlan, ...]:
        """The plans of the images alone, without the project's version and names; see `plan.plan_images`."""
        chosen = services or self.services
        return plan_images(self.metadata, self.config, chosen, directory=self.directory, lock=lock)

    def output(self, name: str, directory: Path, *, path: Path | None = None, stream: BinaryIO | None = None) -> Path:
        """Make one output, of images that are built once for all outputs; returns the path of its file.

        `path` and `stream` are as in Destination.
        """
        services, self._directory = self.services, directory
        destination = Destination(
            directory=directory,
            engine=services.engine,
            registry=services.registry,
            threads=services.threads,
            progress=services.progress,
            path=path,
            stream=stream,
            place=services.caches.place if services.caches else _nowhere,
        )
        built, made = self._trusting(partial(self._made, name, destination))
        known = self._outputs.get(name, [])
        self._outputs[name] = known + [each for each in made if each not in known]
        if services.caches:
            from hatch_docker.caching.writing import write

            pushed = built.references if OUTPUTS[name].needs_registry else ()
            write(services.caches, services.cache, pushed, services.host.now, services.progress)
        self.terminal.close()
        result = write_records(built, self._outputs, directory)
        return directory / made[0] if OUTPUTS[name].is_file and not stream else result or directory

    def _made(self, name: str, destination: Destination) -> tuple[Built, list[str]]:
        """The build, and what an output makes of it."""
        built = self._build(destination.directory)
        self._notes = self._notes if self._outputs else [*self.terminal.messages]
        return built, OUTPUTS[name].write(built, destination)

    def _trusting(self, work: Callable[[], _T]) -> _T:
        """What work returns; if a registry cache turns out to be wrong meanwhile, it is done again without it."""
        caches = self.services.caches
        if caches is None:
            return work()
        try:
            return work()
        except RemoteCacheError as error:
            caches.distrust(error.message)
            self._built = None
        return work()

    def _expect(self, planned: Plan) -> None:
        """If the image will be pushed, ask the registries already which layers they have."""
        if self._pushes and planned.references:
            blobs = [layer.descriptor for image in planned.images for layer in image.base.image.layers]
            caches = self.services.caches
            self.services.registry.expect(planned.references, [*blobs, *(caches.layers() if caches else ())])

    def _begin_caches(self) -> None:
        """Ask the registry caches for what the project used last; the answer comes while other things are done."""
        if self.services.caches:
            base = self.config.base
            scope = repr((self.metadata.normalized_name, base.spec, base.python, base.platforms))
            self.services.caches.begin(hashlib.sha256(scope.encode()).hexdigest())

    def _build(self, directory: Path) -> Built:
        if self._built is None:
            self._begin_caches()
            # The project's own wheel comes first: if that fails, nothing has been downloaded yet.
            with self.project.distribution() as own:
                project = replace(self.project, distribution=lambda: contextlib.nullcontext(own))
                keep = replace_text if is_writable(directory) else None
                if keep is None:
                    self.terminal.note(f"{shown_path(directory)} cannot be written to: it gets no result file")
                lock = partial(read_artifacts, keep=keep, renew=self._options.no_cache)
                config = replace(self.config, output=replace(self.config.output, joined=self._joined))
                planned = plan(project, config, self.services, directory=directory, lock=lock)
                self._expect(planned)
                self._planned, self._built = planned, build(planned, self.services)
        return self._built

    def begin(self) -> None:
        """Take the states of the project's files before anything reads them, for the stamp."""
        _ = self._inputs

    @cached_property
    def _inputs(self) -> Inputs | None:
        """The files that are known before the project is read, taken for the stamp; None if there will be none."""
        stamp, root = self._stamp, self._source.root
        reads = self._source.reads if stamp else None
        if stamp is None or reads is None:
            return None
        try:
            directory = self.directory
        except (HatchDockerError, TypeError, ValueError, OSError):
            # The project's own check says what is wrong.
            return None
        inputs = project_inputs(
            root, reads, home=home_directory(), output=directory, cache=Path(stamp.folder), environ=os.environ
        )
        stamp.begin(inputs)
        return inputs

    def leave_stamp(self, text: str, texts: Mapping[Path, str] = MappingProxyType({}), *, chosen: bool) -> None:
        """Leave a stamp of this build, which printed `text` to standard output and wrote `texts` by path.

        `chosen` says that the command line names the outputs. No stamp is left if an input of the build is unknown, or
        if the stamp cannot be written.
        """
        inputs, plan, outputs = self._inputs, self._planned, self._outputs
        if self._stamp is None or inputs is None or plan is None:
            return
        if not (chosen or self.config.output.outputs or "load" in outputs):
            # An engine may answer next time.
            return
        built = again(self.built)
        ended = Ended(
            plan=plan,
            built=built,
            reads=self._source.reads,
            outputs=outputs,
            directory=self._directory,
            notes=self._notes,
            messages=[*self.terminal.messages, *(("info", line) for line in self._lines(built))],
            text=text,
            texts=texts,
        )
        leave_stamp(self._stamp, inputs, ended, self.services)

    def clean(self, directory: Path) -> None:
        """Remove the files that builds left in `directory`."""
        name = self.metadata.normalized_name
        remove_outputs(name, directory)
        lock_path(name, directory).unlink(missing_ok=True)

    @property
    def outputs(self) -> Mapping[str, Sequence[str]]:
        """What each output made: the names or paths that the result file records."""
        return self._outputs

    @property
    def built(self) -> Built:
        """The result of the build. Raises HatchDockerError before there is one."""
        if self._built is None:
            raise HatchDockerError("nothing was built")
        return self._built

    def show(self) -> None:
        """Show the report of a build, and print the image's name by digest to standard output."""
        if self._built:
            self.report()
            self._console.display(self._built.digest_reference)

    def report(self) -> None:
        """Show the report of a build."""
        self.terminal.show(self._lines(self.built))

    def _lines(self, built: Built) -> list[str]:
        run = how_to_start(built, self._outputs, self._directory)
        return ["", *tables(built), *(["", f"  {run}"] if run else [])]

    def run(self, command: Callable[[Session], tuple[str, int]]) -> int:
        """Run a command that does not build, after its own checks; it returns a text to print and the exit status."""
        status = 0
        with self.reporting():
            self.begin()
            self._source.check()
            text, status = command(self)
            self.terminal.close()
            if text:
                self._console.display(text)
        return status

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Show errors that a user or a network can cause as messages, without a traceback, and exit."""
        try:
            yield
        except ConfigError as error:
            head = f"{len(error.problems)} mistakes in the configuration:\n  " if len(error.problems) > 1 else ""
            self._abort(head + "\n  ".join(f"{place}: {message}" for place, message in error.problems))
        except HatchDockerError as error:
            self._abort(str(error))
        except KeyboardInterrupt:
            self._abort("interrupted", code=130)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            self._abort(f"{place}{error.strerror or error}")
        finally:
            if "_configuration" in self.__dict__:
                self.services.cache.close()

    def _abort(self, message: str, code: int = 1) -> None:
        # The error may be that nothing can be drawn.
        if "terminal" in self.__dict__:
            self.terminal.close()
        self._console.abort(message, code=code)
