"""The image config (image-spec, config.md): how an image runs, and its history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatch_docker.errors import ImageError
from hatch_docker.oci.spec import DIGEST, Platform, strings
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.patterns import regex

# The PATH that engines give to an image without one.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# RFC 3339. Engines refuse an image with another time.
_TIME = regex(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[-+](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One step of an image's history (config.md)."""

    created_by: str = ""
    created: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False

    @classmethod
    def of_layer(cls, content: str, *, created: str = "") -> History:
        """The step that made a layer of ours with this content."""
        return cls(created_by=f"hatch-docker: {content}"[:200], created=created)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> History:
        """Read one entry; missing fields are empty."""
        return cls(
            created_by=str(document.get("created_by") or ""),
            created=_time(document.get("created")),
            comment=str(document.get("comment") or ""),
            author=str(document.get("author") or ""),
            empty_layer=bool(document.get("empty_layer")),
        )

    def to_json(self) -> dict[str, Any]:
        """The entry without its empty fields."""
        fields = ("created_by", "created", "comment", "author", "empty_layer")
        return {name: getattr(self, name) for name in fields if getattr(self, name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """Docker's HEALTHCHECK; times in nanoseconds. It is not part of OCI, so Podman drops it from OCI images."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the image config."""
        fields = {
            "Interval": self.interval,
            "Timeout": self.timeout,
            "StartPeriod": self.start_period,
            "StartInterval": self.start_interval,
            "Retries": self.retries,
        }
        return {"Test": list(self.test)} | {key: value for key, value in fields.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """An image's configuration (config.md) without rootfs and history, which belong to the layers.

    `created` is RFC 3339. `entrypoint` and `cmd` are None if the image has none. These are all fields that containers
    take from their image, with those of Docker alone: `healthcheck`, `shell`, which runs its strings, and
    `args_escaped`, which belongs to `entrypoint` and `cmd`. The triggers of OnBuild are for one build on the image.
    """

    platform: Platform
    created: str = ""
    author: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    args_escaped: bool = False

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ImageConfig:
        """Read an OCI or Docker image config; unknown fields are ignored. Raises ImageError."""
        config = document.get("config") or {}
        if not isinstance(config, dict):
            raise ImageError("the image config's 'config' is not a JSON object")
        found = cls(
            platform=Platform.of(
                str(document.get("os") or "linux"),
                str(document.get("architecture") or ""),
                str(document.get("variant") or ""),
            ),
            created=_time(document.get("created")),
            author=str(document.get("author") or ""),
            env=dict(item.partition("=")[::2] for item in _list(config.get("Env")) if isinstance(item, str)),
            entrypoint=_words(config.get("Entrypoint")),
            cmd=_words(config.get("Cmd")),
            user=str(config.get("User") or ""),
            working_dir=str(config.get("WorkingDir") or ""),
            exposed_ports=_keys(config.get("ExposedPorts")),
            volumes=_keys(config.get("Volumes")),
            labels=strings(config.get("Labels")),
            stop_signal=str(config.get("StopSignal") or ""),
            healthcheck=_healthcheck(config.get("Healthcheck")),
            shell=tuple(str(word) for word in _list(config.get("Shell"))),
            args_escaped=config.get("ArgsEscaped") is True,
        )
        words = [*found.env, *found.env.values(), *(found.entrypoint or ()), *(found.cmd or ()), *found.shell]
        if any("\0" in each for each in (*words, found.user, found.working_dir, *found.volumes, *found.exposed_ports)):
            raise ImageError("the image config has a NUL character, which no process and no path can have")
        return found

    def to_json(self, diff_ids: tuple[str, ...], history: tuple[History, ...]) -> dict[str, Any]:
        """The whole document, with the rootfs and history of the layers."""
        config: dict[str, Any] = {
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "Cmd": None if self.cmd is None else list(self.cmd),
            "User": self.user,
            "WorkingDir": self.working_dir,
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Volumes": {volume: {} for volume in self.volumes},
            "Labels": dict(self.labels),
            "StopSignal": self.stop_signal,
            "Healthcheck": None if self.healthcheck is None else self.healthcheck.to_json(),
            "Shell": list(self.shell),
            "ArgsEscaped": self.args_escaped,
        }
        document = {
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "variant": self.platform.variant,
            "created": self.created,
            "author": self.author,
            "config": {key: value for key, value in config.items() if value},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [step.to_json() for step in history],
        }
        required = {"architecture", "os", "rootfs", "config"}
        return {key: value for key, value in document.items() if value or key in required}


def diff_ids_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The diff IDs of an image config document; raises ImageError if they are missing or malformed."""
    rootfs = document.get("rootfs")
    ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(ids, list) or not all(isinstance(i, str) and DIGEST.fullmatch(i) for i in ids):
        raise ImageError("the image config has no valid rootfs.diff_ids")
    return tuple(ids)


def history_of(document: Mapping[str, Any]) -> tuple[History, ...]:
    """The history of an image config document, empty if it has none."""
    return tuple(History.from_json(step) for step in _list(document.get("history")) if isinstance(step, dict))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _keys(value: object) -> tuple[str, ...]:
    return tuple(sorted(str(key) for key in value)) if isinstance(value, dict) else ()


def _integer(value: object) -> int:
    # isinstance would accept true. Engines read an int64.
    return value if type(value) is int and -(1 << 63) <= value < 1 << 63 else 0


def _time(value: object) -> str:
    """A time as engines read it; empty for anything else."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return ""
    from datetime import datetime

    try:
        datetime.fromisoformat(value[:19])
    except ValueError:
        return ""
    return value


def _words(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return ("/bin/sh", "-c", value)
    return tuple(str(word) for word in value) if isinstance(value, list) and value else None


def _healthcheck(value: object) -> Healthcheck | None:
    if not isinstance(value, dict) or not _list(value.get("Test")):
        return None
    return Healthcheck(
        test=tuple(str(word) for word in value["Test"]),
        interval=_integer(value.get("Interval")),
        timeout=_integer(value.get("Timeout")),
        start_period=_integer(value.get("StartPeriod")),
        start_interval=_integer(value.get("StartInterval")),
        retries=_integer(value.get("Retries")),
    )
