"""Credentials for registries, from the files of `docker login` and `podman login` and from credential helpers.

The files follow containers-auth.json(5) and Docker's config.json, helpers the docker-credential-helpers protocol.
The docker SDK could run the helpers too, but without a time limit for one that waits for input.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hatch_docker.oci.reference import DOCKER_HUB
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.patterns import regex

_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = ("index.docker.io", "registry-1.docker.io")
_HELPER_NAME = regex(r"[A-Za-z0-9._-]+")
_HELPER_SECONDS = 30
# The user name that a helper returns if the secret is an OAuth2 refresh token.
_TOKEN_USER = "<token>"  # noqa: S105 (the protocol's word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A password or token for one registry; anonymous if there is neither.

    `identity_token` is an OAuth2 refresh token, `registry_token` a bearer token that is sent as it is. `source` is
    where the credential comes from. `problems` are files and helpers that could not be read. Neither holds a secret.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    source: str = ""
    problems: tuple[str, ...] = ()

    @property
    def anonymous(self) -> bool:
        """Whether it holds no password and no token."""
        return not (self.username or self.identity_token or self.registry_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The places of credentials: `files` in order of precedence, `environ` for the helpers that they name."""

    files: tuple[Path, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], home: Path) -> Credentials:
        """The files that Podman and Docker read for a user with the home directory `home`, Podman's first."""
        docker = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
        config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        files = [config / "containers/auth.json", docker / "config.json"]
        if runtime := environ.get("XDG_RUNTIME_DIR"):
            files.insert(0, Path(runtime) / "containers/auth.json")
        if chosen := environ.get("REGISTRY_AUTH_FILE"):
            files.insert(0, Path(chosen))
        return cls(files=tuple(files), environ=environ)

    def for_registry(self, registry: str, repository: str = "") -> Credential:
        """The first credential for `registry` (a host, with its port) or a namespace of `repository`.

        It never raises: unreadable files and failed helpers are among the `problems` of the result.
        """
        problems: list[str] = []
        for path in self.files:
            for candidate in self._in_file(path, _keys(registry, repository), problems):
                if not candidate.anonymous:
                    return replace(candidate, problems=tuple(problems))
        return Credential(problems=tuple(problems))

    def _in_file(self, path: Path, keys: list[str], problems: list[str]) -> Iterator[Credential]:
        """A file's candidates in Docker's order: the registry's own helper, the file's helper, the file itself."""
        config = _read(path, problems)
        helpers, entries = _by_name(config.get("credHelpers")), _by_name(config.get("auths"))
        queries = [(helpers[key], key) for key in keys if key in helpers][:1]
        if config.get("credsStore"):
            queries.append((config["credsStore"], keys[-1]))
        for helper, key in queries:
            yield self._ask(helper, _HUB_KEY if key == DOCKER_HUB else key, path, problems)
        for key in keys:
            if isinstance(entry := entries.get(key), dict):
                yield _credential(entry, path, key, problems)

    def _ask(self, helper: object, server: str, path: Path, problems: list[str]) -> Credential:
        if not isinstance(helper, str) or not _HELPER_NAME.fullmatch(helper):
            problems.append(f"{path} names an invalid credential helper")
            return Credential()
        source = f"docker-credential-{helper} (named by {path})"
        program = shutil.which(f"docker-credential-{helper}", path=self.environ.get("PATH", ""))
        if program is None:
            problems.append(f"{source} is not on PATH")
            return Credential()
        try:
            answer = self._run(program, server)
        except (OSError, subprocess.SubprocessError) as error:
            problems.append(f"{source} failed: {type(error).__name__}")
            return Credential()
        if answer.returncode and b"credentials not found" in answer.stdout:
            return Credential()
        # The output is not reported, since it may hold a secret.
        document = {} if answer.returncode else _object(answer.stdout)
        username, secret = document.get("Username"), document.get("Secret")
        if not isinstance(username, str) or not isinstance(secret, str):
            problems.append(f"{source} failed: exit code {answer.returncode}, no credentials for {server}")
            return Credential()
        if username == _TOKEN_USER:
            return Credential(identity_token=secret, source=source)
        return Credential(username=username, password=secret, source=source)

    def _run(self, program: str, server: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603 (the user's own configuration names it)
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            env=dict(self.environ),
            check=False,
        )


def _keys(registry: str, repository: str) -> list[str]:
    """The keys of an image's credential, the longest namespace first, the registry last."""
    parts = repository.split("/") if repository else []
    registry = _normalized(registry)
    return ["/".join([registry, *parts[:length]]) for length in range(len(parts), -1, -1)]


def _normalized(key: str) -> str:
    """A key with the registry's name as in references: old keys are URLs, and Docker Hub has several hosts."""
    scheme, is_url, rest = key.partition("://")
    host, slash, namespace = (rest if is_url else scheme).rstrip("/").partition("/")
    host = host.lower()
    if host in _HUB_HOSTS:
        host = DOCKER_HUB
    return host if is_url or namespace in ("v1", "v2") else f"{host}{slash}{namespace}"


def _by_name(table: object) -> dict[str, Any]:
    return {_normalized(str(key)): value for key, value in table.items()} if isinstance(table, dict) else {}


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror or error}")
        return {}
    document = _object(data)
    if not document and data.strip() not in (b"", b"{}"):
        problems.append(f"{path} is not a JSON object")
    return document


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _credential(entry: Mapping[str, Any], path: Path, key: str, problems: list[str]) -> Credential:
    """The credential of an entry of `auths`; `auth` is base64 of `user:password`."""
    texts = {name: value for name, value in entry.items() if isinstance(value, str)}
    username, password = texts.get("username", ""), texts.get("password", "")
    if encoded := texts.get("auth"):
        try:
            username, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            problems.append(f"{path} has a malformed 'auth' for {key}")
    return Credential(
        username=username,
        password=password.strip("\0"),
        identity_token=texts.get("identitytoken", ""),
        registry_token=texts.get("registrytoken", ""),
        source=str(path),
    )
