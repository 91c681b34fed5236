"""Hatch's build hook `docker`: the image of exactly the wheel, or of the sdist, that has just been built.

```toml
[tool.hatch.build.targets.wheel.hooks.docker]
dependencies = ["hatch-docker"]
enable-by-default = false
```

It works under every build frontend: `hatch build`, `python -m build`, `uv build`. Everything heavy is imported when an
image is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.config import BuilderConfig, env_var_enabled
from hatchling.builders.constants import BuildEnvVars
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

from hatch_docker.errors import HatchDockerError

if TYPE_CHECKING:
    from hatch_docker.project.hatchling import HatchlingProject
    from hatch_docker.project.model import ProjectSource
    from hatch_docker.session import Session

# Options of every build hook, which hatchling reads.
_HATCHLING = frozenset(
    {"dependencies", "enable-by-default", "require-runtime-dependencies", "require-runtime-features"}
)
_KEYS = _HATCHLING | {"outputs"}
# It may also disable a hook that is enabled by default, as our own builds of wheels do.
_VARIABLE = f"{BuildEnvVars.HOOK_ENABLE_PREFIX}DOCKER"
# pip sets it for builds, and hatchling looks at it, too.
_PIP = "PIP_BUILD_TRACKER"
_TARGETS = ("sdist", "wheel")


class DockerHook(BuildHookInterface[BuilderConfig]):
    """The build hook `docker` of the targets wheel and sdist. It is off unless the project or a variable enables it."""

    PLUGIN_NAME = "docker"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Check the hook's table, and what can be checked before the wheel is built if its image will be made."""
        if self._applies(version):
            self._check_table()
            if self._enabled():
                self._run(self._check)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Make the image of the wheel or sdist at `artifact_path`, and write its result file beside that."""
        if self._applies(version) and self._enabled():
            self._run(partial(self._make, Path(artifact_path)))

    def clean(self, versions: list[str]) -> None:
        """Remove what earlier builds left in the directory, for Hatch's --clean."""
        if any(map(self._applies, versions)) and self._enabled():
            self._run(lambda: self._session(self._project).clean(Path(self.directory)))

    def _applies(self, version: str) -> bool:
        """Whether the target and its version make something to release, not an editable wheel."""
        return self.target_name in _TARGETS and version == "standard"

    def _enabled(self) -> bool:
        """Whether an image is made. hatchling enables hooks by default; this one must be enabled.

        pip builds wheels to install them, in a temporary directory: what is beside them is lost.
        """
        if _PIP in os.environ:
            return False
        if value := os.environ.get(_VARIABLE, ""):
            return value in ("1", "true")
        return env_var_enabled(BuildEnvVars.HOOKS_ENABLE) or self.config.get("enable-by-default", False)

    def _check_table(self) -> None:
        """Report mistakes in the hook's table, also if it is off: a misspelled key may be the reason."""
        problems = []
        if unknown := sorted(self.config.keys() - _KEYS):
            problems.append(
                f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(_KEYS))}: what the image is made of is "
                "configured in [tool.hatch.build.targets.docker], or [tool.hatch-docker]"
            )
        if not isinstance(self.config.get("enable-by-default", False), bool):
            problems.append("enable-by-default must be true or false")
        outputs = self.config.get("outputs", [])
        if not isinstance(outputs, list) or not all(isinstance(each, str) for each in outputs):
            problems.append("outputs must be a list of strings")
        if problems:
            self.app.abort("\n  ".join(f"{self._place}: {each}" for each in problems))

    @property
    def _place(self) -> str:
        own = self.PLUGIN_NAME in self.build_config.target_config.get("hooks", {})
        return f"tool.hatch.build.{f'targets.{self.target_name}.' if own else ''}hooks.docker"

    def _run(self, make: Callable[[], None]) -> None:
        """Call `make`, and show errors that a user or a network can cause as messages, without a traceback."""
        try:
            make()
        except HatchDockerError as error:
            self.app.abort(str(error))
        except KeyboardInterrupt:
            self.app.abort("interrupted", code=130)
        except OSError as error:
            self.app.abort(f"{error.filename or self.root}: {error.strerror or error}")

    @cached_property
    def _project(self) -> HatchlingProject:
        """The project: that of the checkout if its sdist was unpacked to be built."""
        from hatch_docker.project.checkout import project_root
        from hatch_docker.project.hatchling import HatchlingProject, Target

        return HatchlingProject(Target(str(project_root(Path(self.root), Path(self.directory)))))

    def _session(self, source: ProjectSource) -> Session:
        from hatch_docker.session import Session

        return Session(source, self.app)

    def _check(self) -> None:
        session = self._session(self._project)
        with session.reporting():
            self._project.check()
            session.check(self._outputs(session))

    def _make(self, path: Path) -> None:
        # An earlier result would be that of another wheel if this image cannot be made.
        stem = "-".join(path.name.removesuffix(".tar.gz").split("-")[:2])
        path.with_name(f"{stem}.docker.json").unlink(missing_ok=True)
        session = self._session(self._given(path))
        with session.reporting():
            outputs = self._outputs(session)
            session.check(outputs)
            for name in outputs:
                session.output(name, path.parent)
            session.show()

    def _given(self, path: Path) -> ProjectSource:
        """The project with the wheel or sdist at `path` as what the image installs of it."""
        from hatch_docker.project.checkout import check_same
        from hatch_docker.project.sdist import SdistProject
        from hatch_docker.project.wheel import WheelProject

        if self.target_name == "sdist":
            return SdistProject(path, self._project)
        if self._project.root != Path(self.root):
            check_same(path, self._project.root)
        source = WheelProject(path, self._project)
        source.check()
        return source

    def _outputs(self, session: Session) -> list[str]:
        """The outputs: those of the environment, else of the hook's table, else those of `hatch build -t docker`."""
        from hatch_docker.config import check_outputs
        from hatch_docker.image.outputs import OUTPUTS

        outputs = self.config.get("outputs", [])
        if not outputs or "outputs" in session.config.overridden:
            return session.default_outputs()
        check_outputs(outputs, OUTPUTS, place=f"{self._place}.outputs")
        return list(dict.fromkeys(outputs))
