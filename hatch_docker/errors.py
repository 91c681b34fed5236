"""The errors that users, files or networks can cause. It imports nothing.

```
HatchDockerError
├── ConfigError            the configuration or pyproject.toml: all mistakes at once
├── InvalidReferenceError  a malformed image reference, tag or digest
├── ImageError             an image, layout or archive that breaks the OCI specification
│   ├── BaseError          the base image cannot carry this project (family, platform, Python, libc)
│   └── BuilderError       the builder image cannot compile for the base (Python, libc, CPU, no compiler)
├── LockError              a lock that is missing, stale, unreadable or without hashes
│   └── ResolveError       the resolver found no solution, or there is no resolver
├── ArtifactError          a file of a package index that is not found or cannot be downloaded
│   ├── NoWheelError       a package without a wheel for the target
│   └── DigestMismatchError     content with another digest than expected; nothing of it is kept
├── SourceError            a local directory or Git commit that is gone, or has nothing to build
├── WheelError             a wheel that breaks its specification (paths, RECORD, metadata)
├── ContentError           a file whose content has another size or CRC than recorded
├── CompileError           an sdist that cannot be compiled: the last output of the compiler, and the path of the log
├── PackageError           OS packages that cannot be installed: unknown names, no package manager
├── LinkageError           an extension module whose shared libraries, libc or CPU do not match the image
├── BytecodeUnavailableError    no interpreter that compiles for the base's Python, and why
├── NetworkError           a host that does not answer, or breaks HTTP
│   └── RegistryError      a registry that refuses: 401, 403, 404, 429, 5xx
├── DebianError            Debian's archive: unreachable, not signed as expected, or breaks Debian policy
│   └── DependencyError    packages that are unknown, or whose dependencies cannot be satisfied
├── RemoteCacheError       a registry cache that does not have what it says; the build goes on without it
├── EngineError            no container engine answers, or it refuses a request
└── OutputError            the result cannot be written (disk full, permissions)
```

Each has a `message`, a `place` and a `hint`. Exceptions of other libraries are translated where they occur. No part
of an error holds credentials.
"""

from __future__ import annotations

_HINT = "\n  hint: "


class HatchDockerError(Exception):
    """An error that a user can fix.

    `message` is what happened, `place` is where (a TOML path, a file, a URL without credentials), `hint` what to do.
    """

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        what = f"{self.place}: {self.message}" if self.place else self.message
        return readable(f"{what}{_HINT}{self.hint}" if self.hint else what)

    def add_hint(self, text: str) -> None:
        """Add another hint; an empty one adds nothing."""
        self.hint = join_hints(self.hint, text)


def join_hints(*hints: str) -> str:
    """Several hints as one text, each on its own line; empty ones are left out."""
    return _HINT.join(filter(None, hints))


def readable(text: str) -> str:
    """`text` with control characters escaped except newlines: messages quote untrusted text."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


class ConfigError(HatchDockerError):
    """All mistakes of a configuration at once; `problems` has one `(place, message)` for each."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{place}: {message}" for place, message in problems))


class InvalidReferenceError(HatchDockerError):
    """An image reference, tag or digest that does not follow the grammar."""


class ImageError(HatchDockerError):
    """An image, image layout or archive that breaks the OCI image specification."""


class BaseError(ImageError):
    """The base image cannot carry this project: unknown family, platform, Python or libc."""


class BuilderError(ImageError):
    """The builder image cannot compile for the base: another Python, libc or CPU, or no compiler."""


class LockError(HatchDockerError):
    """A lock file that is missing, stale, unreadable, or lacks hashes."""


class ResolveError(LockError):
    """Dependencies that cannot be resolved for the target, or no resolver to do it."""


class ArtifactError(HatchDockerError):
    """A file of a package index that is not found or cannot be downloaded."""


class NoWheelError(ArtifactError):
    """A package without a wheel for the target."""


class DigestMismatchError(ArtifactError):
    """Content with another digest than expected. Nothing of it is kept."""


class SourceError(HatchDockerError):
    """A source tree that is gone or has nothing to build: a local directory, a Git repository, a commit of one."""


class WheelError(HatchDockerError):
    """A wheel that breaks the binary distribution format: its paths, its RECORD, its metadata."""


class ContentError(HatchDockerError):
    """A file whose content has another size or CRC than recorded."""


class CompileError(HatchDockerError):
    """An sdist that cannot be compiled for the target. The message has the path of the whole log."""


class PackageError(HatchDockerError):
    """OS packages that cannot be installed into an image."""


class LinkageError(HatchDockerError):
    """An extension module that cannot be loaded in the image: a missing shared library, another libc or CPU."""


class BytecodeUnavailableError(HatchDockerError):
    """No interpreter compiles modules for the base's Python; the message says for each way why."""


class NetworkError(HatchDockerError):
    """A host that does not answer, or whose answer breaks HTTP or the API.

    `silence` is for how many seconds it was waited for in vain, 0 if that is not the reason.
    """

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(message, place=place, hint=hint)
        self.silence: float = 0


class RegistryError(NetworkError):
    """A registry that refuses; `status` is the HTTP status, 0 if there is none, `codes` are the registry's own.

    `retry_after` is how many seconds it asks to wait, 0 if it does not.
    """

    def __init__(self, message: str, *, status: int = 0, place: str = "", hint: str = "") -> None:
        super().__init__(message, place=place, hint=hint)
        self.status = status
        self.codes: frozenset[str] = frozenset()
        self.retry_after: float = 0


class DebianError(HatchDockerError):
    """Debian's archive or a file of it that is unreachable, not signed as expected, or breaks Debian policy."""


class DependencyError(DebianError):
    """Packages that are unknown, or whose dependencies cannot be satisfied. The message shows the dependency chain."""


class RemoteCacheError(HatchDockerError):
    """A registry cache whose content is gone or is not what the cache says. A build without the cache is right."""


class EngineError(HatchDockerError):
    """No container engine answers, or it refuses a request."""


class OutputError(HatchDockerError):
    """A result that cannot be written: no space, no permission."""
