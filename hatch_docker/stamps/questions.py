"""The questions of a build to registries and the engine, which are asked again: what tags name, what an engine has."""

from __future__ import annotations

import math
import os
import re
import sys
from functools import partial

from hatch_docker.support.patterns import regex
from hatch_docker.support.plain_http import UnusualAnswerError, ask
from hatch_docker.support.threads import once, together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from hatch_docker.oci.registry.client import Registry

_THREADS = 8
# For the answer of the engine, and for that of a registry: a whole build has the patience for slow ones.
_SECONDS = 15
# A name that has all parts: a host, which may have a port, a repository and a tag.
_TAG = regex(r"([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?/([a-z0-9._/-]+):([\w.-]+)", re.ASCII)
_DIGEST = regex(r"sha256:[0-9a-f]{64}")
_LENGTH = regex(r"[0-9]{1,9}")
_UNKNOWN = "unknown"
_LOOPBACK = frozenset(("127.0.0.1", "localhost"))


def still_answered(asked: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether registries and the engine answer as the document of a `values.Asked` has it, all asked at once.

    Any failure is another answer. Raises EngineError.
    """
    engine, network = asked["engine"], asked["network"]
    if asked["images"] and not _is_engine(engine, environ):
        return False
    mirrored = once(lambda: registry_of(network, environ, network["mirrors"], patience=_SECONDS))
    direct = once(lambda: registry_of(network, environ, {}, patience=_SECONDS))
    checks: list[tuple[Callable[[], object], object]] = [
        (partial(_identity, name, engine, environ), identity) for name, identity in asked["images"].items()
    ]
    for tags, mirrors, registry in ((asked["tags"], network["mirrors"], mirrored), (asked["pushed"], {}, direct)):
        checks += [(partial(_named, tag, network, mirrors, registry), digest) for tag, digest in tags.items()]
    return all(together(lambda check: bool(check[0]() == check[1]), checks, threads=_THREADS))


def images_in_engine(names: Iterable[str], engine: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The ID and names of each image that the engine has under one of `names`, by that name. Raises EngineError.

    `engine` is its `plain_address`; without one, the SDK finds it.
    """
    return {name: _identity(name, engine, environ) for name in names}


def _is_engine(engine: str, environ: Mapping[str, str]) -> bool:
    """Whether a build would have the engine at this address: the context may be another one now."""
    from hatch_docker.engine.plain import plain_address

    return plain_address(environ) == engine


def _identity(name: str, engine: str, environ: Mapping[str, str]) -> list[Any]:
    image = _inspect(name, engine, environ)
    return [image.get("Id", ""), sorted(image.get("RepoTags") or ())]


def _inspect(name: str, engine: str, environ: Mapping[str, str]) -> Mapping[str, Any]:
    if not engine:
        from hatch_docker.engine.client import Engine

        return Engine.connect(environ).inspect(name)
    from hatch_docker.engine.plain import PlainApi, RefusedError

    try:
        return PlainApi(engine, timeout=_SECONDS).inspect_image(name)
    except (RefusedError, OSError, ValueError):
        return {}


def _named(tag: str, network: Mapping[str, Any], mirrors: Mapping[str, str], registry: Callable[[], Registry]) -> str:
    """The digest that a tag names: empty if there is no such tag, and "unknown" if that is not known."""
    return _found(tag, network, mirrors) or _resolved(registry(), tag)


def _found(tag: str, network: Mapping[str, Any], mirrors: Mapping[str, str]) -> str:
    """The digest that a tag names, if a registry with plain HTTP says so at once; empty for a `Registry` to find out.

    As there, a mirror is asked in place of the registry, credentials are sent only if the answer is that they are
    needed, and loopback hosts have plain HTTP and no proxy.
    """
    host, _, rest = tag.partition("/")
    mirror = mirrors.get(host, "").rstrip("/")
    parts = _TAG.fullmatch(f"{mirror or host}/{rest}")
    if parts is None or not _is_plain(parts[1], parts[2], network["insecure"]):
        return ""
    name = f"{parts[1]}:{parts[2]}" if parts[2] else parts[1]
    headers = {"Host": name, "Accept": network["accept"], "User-Agent": "hatch-docker"}
    try:
        status, found, _ = ask(
            (parts[1], int(parts[2] or 80)), "HEAD", f"/v2/{parts[3]}/manifests/{parts[4]}", headers, seconds=_SECONDS
        )
    except TimeoutError:
        return _UNKNOWN
    except (UnusualAnswerError, OSError):
        return ""
    digest, kind = found.get("docker-content-digest", ""), found.get("content-type", "").partition(";")[0]
    is_image = kind.strip().lower() in network["accept"].split(", ")
    is_usual = _DIGEST.fullmatch(digest) and _LENGTH.fullmatch(found.get("content-length", ""))
    return digest if status == 200 and is_image and is_usual else ""


def _is_plain(host: str, port: str | None, insecure: Iterable[str]) -> bool:
    """Whether a host is reached by plain HTTP, and without a proxy."""
    if host in _LOOPBACK:
        return True
    # Elsewhere, the system's settings may name a proxy.
    proxied = sys.platform in ("darwin", "win32") or any(name.lower().endswith("_proxy") for name in os.environ)
    return not proxied and not {host, f"{host}:{port}"}.isdisjoint(insecure)


def registry_of(
    network: Mapping[str, Any],
    environ: Mapping[str, str],
    mirrors: Mapping[str, str],
    *,
    patience: float = math.inf,
    uploads: Path | None = None,
) -> Registry:
    """The client for registries with the settings of a `values.Asked`, and these mirrors; `patience` is as in Http.

    Uploads are noted in the directory `uploads`.
    """
    from urllib.request import getproxies

    from hatch_docker.oci.registry.auth import Credentials
    from hatch_docker.oci.registry.client import Registry
    from hatch_docker.support.directories import home_directory
    from hatch_docker.support.http import Http, Network
    from hatch_docker.support.unfinished import Unfinished

    return Registry(
        Http(Network(ca_file=network["ca-file"], proxies=getproxies()), patience=patience),
        credentials=Credentials.from_environment(environ, home_directory()),
        mirrors=mirrors,
        insecure=frozenset(network["insecure"]),
        unfinished=Unfinished(uploads),
    )


def _resolved(registry: Registry, tag: str) -> str:
    from hatch_docker.errors import HatchDockerError, RegistryError
    from hatch_docker.oci.reference import Reference

    try:
        return registry.resolve(Reference.parse(tag)).digest
    except RegistryError as error:
        return "" if error.status == 404 else _UNKNOWN
    except HatchDockerError:
        return _UNKNOWN
