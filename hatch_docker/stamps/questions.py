"""The questions of a build to registries and the engine, which are asked again: what tags name, what an engine has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hatch_docker.support.threads import together

if TYPE_CHECKING:
    from hatch_docker.oci.registry.client import Registry

_THREADS = 8
# For the engine's answer.
_SECONDS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The answers to a build's questions.

    `tags` are digests by reference, empty for a tag that did not exist, and `pushed` those that the build pushed, of
    which no mirror is asked. `images` are the IDs and names of images in the
    engine at `engine` (`plain_address`), by the name that they were asked for. `network` has the settings for
    registries.
    """

    tags: Mapping[str, str]
    pushed: Mapping[str, str]
    images: Mapping[str, Any]
    engine: str
    network: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The document for a stamp, which holds no credentials."""
        return {
            "tags": dict(self.tags),
            "pushed": dict(self.pushed),
            "images": dict(self.images),
            "engine": self.engine,
            "network": dict(self.network),
        }


def still_answered(document: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether registries and the engine answer as they did. Any failure is another answer."""
    asked = Asked(**document)
    if images_in_engine(asked.images, asked.engine, environ) != asked.images:
        return False
    expected = [*((tag, digest, True) for tag, digest in asked.tags.items())]
    expected += [(tag, digest, False) for tag, digest in asked.pushed.items()]
    if not expected:
        return True
    registries = {mirrored: _registry(asked.network, environ, mirrored=mirrored) for mirrored in (True, False)}
    return all(together(lambda each: _digest(registries[each[2]], each[0]) == each[1], expected, threads=_THREADS))


def images_in_engine(names: Iterable[str], engine: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The IDs and names of images in the engine, by the names that are asked for. Raises EngineError.

    `engine` is its `plain_address`; without one, the SDK finds it.
    """
    found = {name: _inspect(name, engine, environ) for name in names}
    return {name: [image.get("Id", ""), sorted(image.get("RepoTags") or ())] for name, image in found.items()}


def _inspect(name: str, engine: str, environ: Mapping[str, str]) -> Mapping[str, Any]:
    if engine:
        from http.client import HTTPException

        from hatch_docker.engine.plain import PlainApi, RefusedError

        try:
            return PlainApi(engine, timeout=_SECONDS).inspect_image(name)
        except (RefusedError, HTTPException, OSError, ValueError):
            return {}
    from hatch_docker.engine.client import Engine

    return Engine.connect(environ).inspect(name)


def _registry(network: Mapping[str, Any], environ: Mapping[str, str], *, mirrored: bool) -> Registry:
    from urllib.request import getproxies

    from hatch_docker.oci.registry.auth import Credentials
    from hatch_docker.oci.registry.client import Registry
    from hatch_docker.support.directories import home_directory
    from hatch_docker.support.http import Http, Network

    return Registry(
        Http(Network(ca_file=network["ca-file"], proxies=getproxies())),
        credentials=Credentials.from_environment(environ, home_directory()),
        mirrors=network["mirrors"] if mirrored else {},
        insecure=frozenset(network["insecure"]),
    )


def _digest(registry: Registry, tag: str) -> str:
    from hatch_docker.errors import HatchDockerError, RegistryError
    from hatch_docker.oci.reference import Reference

    try:
        return registry.resolve(Reference.parse(tag)).digest
    except RegistryError as error:
        return "" if error.status == 404 else "unknown"
    except HatchDockerError:
        return "unknown"
