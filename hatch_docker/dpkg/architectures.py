"""Debian's architectures, and what other standards call their CPUs (Debian wiki, Multiarch/Tuples)."""

from __future__ import annotations

from collections.abc import Mapping

from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A CPU and its ABI.

    `machine` is the kernel's name, `cpu` and `abi` are the ends of the multiarch triplet.
    """

    platform: Platform
    machine: str
    cpu: str
    abi: str = "gnu"

    @property
    def triplet(self) -> str:
        """The multiarch triplet, the name of a directory of libraries: `x86_64-linux-gnu`."""
        return f"{self.cpu}-linux-{self.abi}"


def _of(architecture: str, machine: str, cpu: str = "", abi: str = "gnu") -> Architecture:
    return Architecture(platform=Platform.parse(architecture), machine=machine, cpu=cpu or machine, abi=abi)


# By Debian's name. armel, whose CPUs no wheels exist for, is missing.
ARCHITECTURES: Mapping[str, Architecture] = {
    "amd64": _of("amd64", "x86_64"),
    "arm64": _of("arm64", "aarch64"),
    "armhf": _of("linux/arm/v7", "armv7l", "arm", "gnueabihf"),
    "i386": _of("386", "i686", "i386"),
    "loong64": _of("loong64", "loongarch64"),
    "ppc64el": _of("ppc64le", "ppc64le", "powerpc64le"),
    "riscv64": _of("riscv64", "riscv64"),
    "s390x": _of("s390x", "s390x"),
}
