"""What the image says of itself: how it runs (config.md) and what it is (annotations.md). Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from hatch_docker.errors import ConfigError
from hatch_docker.oci.config import Healthcheck, ImageConfig
from hatch_docker.project.model import Project

_OCI = "org.opencontainers.image."
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Keys of [project.urls] that mean what an annotation of the specification means (PyPA: well-known labels).
_WELL_KNOWN = {
    "source": ("source", "sourcecode", "repository", "github"),
    "documentation": ("documentation", "docs"),
    "url": ("homepage", "home"),
}


def command(wanted: tuple[str, ...] | str | None, scripts: Sequence[str], venv: str, place: str) -> list[str] | None:
    """An exec-form command: a list as it is, a script's name as its path in the venv, None as it is.

    `scripts` are the names that the venv has; raises ConfigError, with the nearest of them, for one that it has not.
    """
    if not isinstance(wanted, str):
        return None if wanted is None else list(wanted)
    if wanted not in scripts:
        near = difflib.get_close_matches(wanted, scripts, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(scripts)[:20]) or 'none'}"
        raise ConfigError([(place, f"no package of the image installs a script {wanted!r}; {hint}")])
    return [f"/{venv}/bin/{wanted}"]


def configure(
    base: ImageConfig,
    *,
    venv: str,
    created: str,
    entrypoint: Sequence[str] | None,
    cmd: Sequence[str] | None,
    env: Mapping[str, str],
    ports: Sequence[str],
    volumes: Sequence[str],
    user: str,
    working_dir: str,
    labels: Mapping[str, str],
    stop_signal: str,
    healthcheck: Healthcheck | None,
) -> ImageConfig:
    """The image's config on that of its base. A new entrypoint drops the base's command, as in a Dockerfile.

    Of the base's labels, those that describe the base are dropped, since this is another image.
    """
    path = base.env.get("PATH") or _DEFAULT_PATH
    inherited = {name: text for name, text in base.labels.items() if not name.startswith(_OCI)}
    replaced = entrypoint is not None
    return ImageConfig(
        platform=base.platform,
        created=created,
        env={
            **base.env,
            "PATH": f"/{venv}/bin:{path}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **env,
        },
        entrypoint=tuple(entrypoint) if entrypoint is not None else base.entrypoint,
        cmd=tuple(cmd) if cmd is not None else (None if replaced else base.cmd),
        user=user,
        working_dir=working_dir,
        exposed_ports=tuple(sorted({*base.exposed_ports, *ports})),
        volumes=tuple(sorted({*base.volumes, *volumes})),
        labels={**inherited, **labels},
        stop_signal=stop_signal or base.stop_signal,
        healthcheck=healthcheck or base.healthcheck,
    )


def describe(project: Project, *, created: str, base_name: str, base_digest: str) -> dict[str, str]:
    """The pre-defined annotation keys (annotations.md) that the project's metadata answers, sorted."""
    urls = {re.sub(r"[^a-z]", "", label.lower()): url for label, url in project.urls.items()}
    found = {
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
        found[key] = next((urls[label] for label in labels if label in urls), "")
    return {_OCI + key: text for key, text in sorted(found.items()) if text}
