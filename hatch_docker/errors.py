"""The tree of errors that a user, a file or a network can cause. It imports nothing.

```
HatchDockerError
├── ConfigError            [tool.hatch.build.targets.docker]: every mistake at once
├── InvalidReferenceError  a malformed image reference, tag or digest
├── ImageError             an image, layout or archive that is not what the OCI specification says
│   ├── BaseError          the base image cannot carry this project (family, platform, Python, libc)
│   └── BuilderError       the builder image cannot compile for the base (Python, libc, CPU, no compiler)
├── LockError              a lock that is missing, stale, unreadable or without hashes
│   └── ResolveError       the resolver found no solution, or there is no resolver
├── ArtifactError          a file of the index: not found, not fetched
│   ├── NoWheelError       a package without a wheel for the target
│   └── DigestMismatchError     bytes that are not the ones that were named; nothing of them is kept
├── WheelError             a wheel that breaks its specification (paths, RECORD, metadata)
├── ContentError           a file whose content is not of the size or CRC that is recorded for it
├── CompileError           an sdist that does not become a wheel: what its compiler said last, and where the log is
├── PackageError           OS packages that cannot be installed: unknown names, no package manager
├── LinkageError           an extension module whose shared libraries, libc or CPU are not the image's
├── NetworkError           a host that does not answer, or not as HTTP says
│   └── RegistryError      a registry that refuses: 401, 403, 404, 429, 5xx
├── DebianError            Debian's archive: not what was signed, not as Debian policy says, not reachable
│   └── DependencyError    packages whose dependencies the archive cannot meet, or unknown ones
├── EngineError            no container engine, or one that refuses
└── OutputError            the result cannot be written (disk full, permissions)
```

Each carries what happened, where (`place`) and what to do (`hint`). Foreign errors are translated once, at the edge
they come in by. Credentials are never part of any of the three.
"""

from __future__ import annotations

_HINT = "\n  hint: "


class HatchDockerError(Exception):
    """Something went wrong that a person can mend.

    `message` says what happened, `place` where (a TOML path, a file, a URL without credentials), `hint` what to do.
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
    """A text of several lines, without what a terminal would obey: what others wrote is quoted in it."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


class ConfigError(HatchDockerError):
    """All mistakes of a configuration at once; `problems` holds one `(place, message)` for each."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{place}: {message}" for place, message in problems))


class InvalidReferenceError(HatchDockerError):
    """An image reference, tag or digest that does not follow the grammar."""


class ImageError(HatchDockerError):
    """An image, image layout or archive that is not what the OCI image specification says."""


class BaseError(ImageError):
    """The base image cannot carry this project: unknown family, platform, Python or libc."""


class BuilderError(ImageError):
    """The builder image cannot compile for the base: another Python, libc or CPU, or no compiler."""


class LockError(HatchDockerError):
    """A lock file that is missing, stale, unreadable, or lacks hashes."""


class ResolveError(LockError):
    """Dependencies that cannot be resolved for the target, or no resolver to do it."""


class ArtifactError(HatchDockerError):
    """A file of a package index that cannot be found or fetched."""


class NoWheelError(ArtifactError):
    """A package that offers no wheel for the target."""


class DigestMismatchError(ArtifactError):
    """Bytes that are not the ones that were named. Nothing of them is kept."""


class WheelError(HatchDockerError):
    """A wheel that breaks the binary distribution format: its paths, its RECORD, its metadata."""


class ContentError(HatchDockerError):
    """A file whose content is not of the size or CRC that is recorded for it."""


class CompileError(HatchDockerError):
    """An sdist that does not become a wheel for the target. Its whole log is kept where the message says."""


class PackageError(HatchDockerError):
    """OS packages that cannot be installed into an image."""


class LinkageError(HatchDockerError):
    """An extension module that would not load in the image: a missing shared library, another libc or CPU."""


class NetworkError(HatchDockerError):
    """A host that does not answer, or answers something that is not what HTTP or the API says."""


class RegistryError(NetworkError):
    """A registry that refuses; `status` is the HTTP status (0 where there was none)."""

    def __init__(self, message: str, *, status: int = 0, place: str = "", hint: str = "") -> None:
        super().__init__(message, place=place, hint=hint)
        self.status = status


class DebianError(HatchDockerError):
    """Debian's archive, or a file of it, that is not reachable, not what was signed, or not as Debian policy says."""


class DependencyError(DebianError):
    """Debian packages that are unknown, or whose dependencies cannot be met. The message has the chain to them."""


class EngineError(HatchDockerError):
    """No container engine answers, or it refuses what was asked."""


class OutputError(HatchDockerError):
    """A result that cannot be written: no space, no permission."""
