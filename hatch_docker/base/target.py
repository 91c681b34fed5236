"""The image's Python with its environment markers and wheel tags, independent of the host. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from packaging.markers import Environment
from packaging.tags import Tag, compatible_tags, cpython_tags

from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass

# CPU names of the kernel, as in wheel tags and markers, by GOARCH.
MACHINES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "386": "i686",
    "arm": "armv7l",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loong64": "loongarch64",
}
# PyPI accepts wheels for armv7l only, of all 32-bit ARM CPUs.
_VARIANTS = {"arm": "v7"}
# Legacy manylinux tags by glibc version (PEP 600).
_LEGACY_MANYLINUX = {(2, 5): "manylinux1", (2, 12): "manylinux2010", (2, 17): "manylinux2014"}
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}

# The virtual environment of an image, without the leading slash. Layers of wheels are the same for all projects, so it
# is not configurable.
VENV = "app/.venv"


def is_supported(platform: Platform) -> bool:
    """Whether wheels may exist for a platform."""
    variant = _VARIANTS.get(platform.architecture, platform.variant)
    return platform.os == "linux" and platform.architecture in MACHINES and platform.variant == variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Libc:
    """The C library that extension modules link to: `glibc` or `musl`, and its version (major, minor)."""

    kind: str
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.kind} {self.version[0]}.{self.version[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPython:
    """A CPython in an image. `version` is like `3.13.5`, `interpreter` its absolute path in the image."""

    version: str
    interpreter: str
    platform: Platform
    libc: Libc
    free_threaded: bool = False

    @property
    def minor(self) -> str:
        """The version without the patch release: `3.13`."""
        return ".".join(self.version.split(".")[:2])

    @property
    def lib_name(self) -> str:
        """The name of the directory below lib/: `python3.13`, `python3.13t`."""
        return f"python{self.minor}{'t' if self.free_threaded else ''}"

    @property
    def site_packages(self) -> str:
        """The directory of packages in the image's virtual environment, relative to the root."""
        return f"{VENV}/lib/{self.lib_name}/site-packages"

    @property
    def machine(self) -> str:
        """The CPU as the kernel names it: `x86_64`, `aarch64`."""
        return MACHINES.get(self.platform.architecture, self.platform.architecture)

    @property
    def environment(self) -> Environment:
        """The values of all environment markers (PyPA: Dependency specifiers)."""
        return Environment(
            implementation_name="cpython",
            implementation_version=self.version,
            os_name="posix",
            platform_machine=self.machine,
            platform_release="",
            platform_system="Linux",
            platform_version="",
            python_full_version=self.version,
            platform_python_implementation="CPython",
            python_version=self.minor,
            sys_platform="linux",
        )

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The wheel tags that this Python supports, most preferred first (PyPA: Platform compatibility tags)."""
        return _tags(self)

    def platforms(self) -> Iterator[str]:
        """The platforms of these tags, in packaging's order: the most specific one first."""
        yield f"linux_{self.machine}"
        major, minor = self.libc.version
        if self.libc.kind == "musl":
            for each in range(minor, -1, -1):
                yield f"musllinux_{major}_{each}_{self.machine}"
        else:
            for each in range(minor, _OLDEST_GLIBC.get(self.machine, 17) - 1, -1):
                yield f"manylinux_{major}_{each}_{self.machine}"
                if legacy := _LEGACY_MANYLINUX.get((major, each)):
                    yield f"{legacy}_{self.machine}"

    def __str__(self) -> str:
        threads = " free-threaded" if self.free_threaded else ""
        return f"CPython {self.version}{threads} on {self.platform} ({self.libc})"


@cache
def _tags(python: TargetPython) -> tuple[Tag, ...]:
    # Explanations of missing wheels ask for these hundreds of tags again for each package.
    major, minor = (int(part) for part in python.minor.split("."))
    abi = f"cp{major}{minor}{'t' if python.free_threaded else ''}"
    platforms = list(python.platforms())
    return (
        *cpython_tags((major, minor), [abi], platforms),
        *compatible_tags((major, minor), f"cp{major}{minor}", platforms),
    )
