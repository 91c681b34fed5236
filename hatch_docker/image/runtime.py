"""Make the image's config (config.md) and annotations (annotations.md). No I/O."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Mapping, Sequence

from hatch_docker.base.target import VENV
from hatch_docker.config import Runtime
from hatch_docker.errors import ConfigError
from hatch_docker.image.environment import environment
from hatch_docker.oci import spec
from hatch_docker.oci.config import ImageConfig
from hatch_docker.project.model import Project
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.patterns import regex

_OCI = "org.opencontainers.image."
# Line breaks, and characters that a terminal or a log should not get from a label. Not all that Unicode calls not
# printable: its versions differ, and digests would with them.
_NOT_IN_LINES = regex(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Programs that are an init process, and would run another, by name.
_INITS = frozenset({"tini", "tini-static", "docker-init", "dumb-init", "catatonit"})
# That of a summary on PyPI.
_LONGEST_DESCRIPTION = 512
# Labels of [project.urls] for annotations of the specification (PyPA: well-known labels).
_WELL_KNOWN = {
    "source": ("source", "sourcecode", "repository", "github"),
    "documentation": ("documentation", "docs"),
    "url": ("homepage", "home"),
}


def command(configured: tuple[str, ...] | str | None, scripts: Sequence[str], place: str) -> list[str] | None:
    """The exec form of a configured command: the path of a script in the venv, or the list or None itself.

    `scripts` are the names of the venv's scripts. Raises ConfigError for any other name, with the nearest of them.
    """
    if not isinstance(configured, str):
        return None if configured is None else list(configured)
    if configured not in scripts:
        close = difflib.get_close_matches(configured, scripts, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(scripts)[:20]) or 'none'}"
        raise ConfigError([(place, f"no package of the image installs a script {configured!r}; {hint}")])
    return [f"/{VENV}/bin/{configured}"]


def configure(
    base: ImageConfig,
    runtime: Runtime,
    *,
    created: str,
    entrypoint: Sequence[str] | None,
    cmd: Sequence[str] | None,
    labels: Mapping[str, str],
) -> ImageConfig:
    """The image's config, made from its base's. A new entrypoint drops the base's command, as in a Dockerfile.

    `labels` are made from the project's metadata. They replace the base's pre-defined labels, which describe the base.
    The base's HOME is that of its own user: for another one, engines read passwd.
    """
    is_same_user = base.user.partition(":")[0] == runtime.user.partition(":")[0]
    variables = {name: text for name, text in base.env.items() if name != "HOME" or is_same_user}
    inherited = {name: text for name, text in base.labels.items() if not name.startswith(_OCI)}
    return ImageConfig(
        platform=base.platform,
        created=created,
        env=environment(variables, runtime.env).variables,
        entrypoint=tuple(entrypoint) if entrypoint is not None else base.entrypoint,
        cmd=tuple(cmd) if cmd is not None else (base.cmd if entrypoint is None else None),
        user=runtime.user,
        working_dir=runtime.working_dir,
        exposed_ports=tuple(sorted({*base.exposed_ports, *runtime.ports})),
        volumes=tuple(sorted({*base.volumes, *runtime.volumes})),
        labels={**inherited, **labels, **runtime.labels},
        stop_signal=runtime.stop_signal or base.stop_signal,
        healthcheck=runtime.healthcheck or base.healthcheck,
        shell=base.shell,
        args_escaped=base.args_escaped and entrypoint is None and cmd is None,
    )


def with_init(config: ImageConfig) -> ImageConfig:
    """The same command, started by the init process; unchanged if an init process starts it already."""
    from hatch_docker.dpkg.tini import PROGRAM

    command, *_ = (*(config.entrypoint or ()), *(config.cmd or ()), "")
    if posixpath.basename(command) in _INITS:
        return config
    return replace(config, entrypoint=(f"/{PROGRAM}", "--", *(config.entrypoint or ())))


def with_lock(runtime: Runtime, digest: str) -> Runtime:
    """Annotate images with the digest of their lock, if there is one."""
    added = {spec.LOCK: digest} if digest else {}
    return replace(runtime, annotations={**added, **runtime.annotations})


def index_annotations(project: Project, runtime: Runtime, *, created: str) -> dict[str, str]:
    """The annotations of an index, whose images may have different bases."""
    described = describe(project, created=created, base_name="", base_digest="")
    return {**described, **runtime.annotations, **runtime.index_annotations}


def describe(project: Project, *, created: str, base_name: str, base_digest: str) -> dict[str, str]:
    """The pre-defined annotations (annotations.md) that the project's metadata has values for, sorted.

    They are single lines. A long description is cut: a registry limits the size of a manifest.
    """
    urls = {re.sub(r"[^a-z]", "", label.lower()): url for label, url in project.urls.items()}
    values = {
        "title": project.name,
        "version": project.version,
        "description": project.description,
        "licenses": project.license,
        "authors": ", ".join(project.authors),
        "revision": project.revision,
        "created": created,
        "base.name": base_name,
        "base.digest": base_digest if base_name else "",
    }
    for key, labels in _WELL_KNOWN.items():
        values[key] = next((urls[label] for label in labels if label in urls), "")
    lines = {key: " ".join(_NOT_IN_LINES.sub(" ", text).split()) for key, text in values.items()}
    if len(lines["description"]) > _LONGEST_DESCRIPTION:
        lines["description"] = f"{lines['description'][: _LONGEST_DESCRIPTION - 1].rstrip()}…"
    return {_OCI + key: line for key, line in sorted(lines.items()) if line}
