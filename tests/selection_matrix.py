"""Index pages of popular packages, the targets to select for, and pip's own finder as if it ran on a target.

The pages are in data/selection.json.xz: names of files, `Requires-Python`, and what is yanked. selection_data.py makes
them. pip's finder has no public interface in Python: what is used here is the same in pip 23.1 and 26.3.
"""

from __future__ import annotations

import json
import lzma
import platform
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from packaging import pylock
from packaging.version import Version
from pip._internal.index import package_finder
from pip._internal.models.link import Link
from pip._internal.models.target_python import TargetPython as PipTarget
from pip._internal.models.wheel import Wheel
from pip._vendor.packaging import _manylinux, _musllinux

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.locks import explain
from hatch_docker.locks.model import parse_filename
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass

DATA = Path(__file__).parent / "data/selection.json.xz"

# The versions' patch releases matter to `Requires-Python`. `t` is a free-threaded Python.
PYTHONS = ("3.10.13", "3.11.9", "3.12.8", "3.13.5", "3.14.0", "3.13.5t")
LIBCS = ("glibc 2.17", "glibc 2.31", "glibc 2.36", "glibc 2.41", "musl 1.1", "musl 1.2")
# The kernel's names of CPUs (uname -m), which pip asks for.
MACHINES = {
    "linux/amd64": "x86_64",
    "linux/arm64": "aarch64",
    "linux/386": "i686",
    "linux/arm/v7": "armv7l",
    "linux/ppc64le": "ppc64le",
    "linux/s390x": "s390x",
    "linux/riscv64": "riscv64",
}


def target(python: str, libc: str, on: str) -> TargetPython:
    kind, _, version = libc.partition(" ")
    major, minor = (int(part) for part in version.split("."))
    return TargetPython(
        version=python.rstrip("t"),
        interpreter="/usr/local/bin/python3",
        platform=Platform.parse(on),
        libc=Libc(kind=kind, version=(major, minor)),
        free_threaded=python.endswith("t"),
    )


MATRIX = [target(*each) for each in product(PYTHONS, LIBCS, ("linux/amd64", "linux/arm64"))]
# The other CPUs, with the libraries of the bases that there are: Debian's and Alpine's.
OTHER_CPUS = [
    target(*each)
    for each in product(
        ("3.13.5",),
        ("glibc 2.41", "musl 1.2"),
        [each for each in MACHINES if each not in ("linux/amd64", "linux/arm64")],
    )
]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of an index page; `requires_python` is empty if the page does not say."""

    name: str
    requires_python: str = ""
    yanked: bool = False

    @property
    def version(self) -> Version:
        found = parse_filename(self.name)
        assert found, self.name
        return found[1]

    @property
    def is_wheel(self) -> bool:
        return self.name.endswith(".whl")


@cache
def pages() -> dict[str, list[File]]:
    """The files of each package, in the order of the index."""
    document = json.loads(lzma.decompress(DATA.read_bytes()))
    return {
        name: [
            File(name=file, requires_python=requires_python, yanked=yanked)
            for requires_python, yanked, files in groups
            for file in files
        ]
        for name, groups in document.items()
    }


def machine(python: TargetPython) -> str:
    return MACHINES[str(python.platform)]


@contextmanager
def _host(python: TargetPython) -> Iterator[None]:
    """Let pip see a host with the C library and CPU of a target. Its own list of platforms follows from them."""
    glibc = python.libc.version if python.libc.kind == "glibc" else (-1, -1)
    musl = _musllinux._MuslVersion(*python.libc.version) if python.libc.kind == "musl" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "system", lambda: "Linux")
        patch.setattr(sysconfig, "get_platform", lambda: f"linux-{machine(python)}")
        patch.setattr(_manylinux, "_get_glibc_version", lambda: glibc)
        patch.setattr(_musllinux, "_get_musl_version", lambda _executable: musl)
        # It reads the running interpreter's ELF header on some CPUs, and older pips do not know all of these.
        patch.setattr(_manylinux, "_have_compatible_abi", lambda *_: True)
        yield


def pip_target(python: TargetPython) -> PipTarget:
    """The target as pip sees it when it runs there, with its tags."""
    short = "".join(python.version.split(".")[:2])
    found = PipTarget(
        py_version_info=tuple(map(int, python.version.split("."))),
        abis=[f"cp{short}{'t' if python.free_threaded else ''}"],
        implementation="cp",
    )
    with _host(python):
        supported = pip_tags(found)
    if python.free_threaded:
        # Older versions of pip know no free-threaded Pythons, which cannot load modules of the stable ABI.
        supported[:] = [tag for tag in supported if tag.abi != "abi3"]
    return found


def pip_tags(found: PipTarget) -> list[Any]:
    """pip's own list of tags, most preferred first, which it computes once."""
    name = "get_sorted_tags" if hasattr(found, "get_sorted_tags") else "get_tags"
    return cast("list[Any]", getattr(found, name)())


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """The files that pip installs of a package: in general, and with `--only-binary`. Empty if there is none."""

    file: str
    wheel: str


class PipFinder:
    """pip's finder on a target."""

    def __init__(self, python: TargetPython) -> None:
        self._finder = package_finder.PackageFinder(
            link_collector=cast("Any", None),  # It fetches pages.
            target_python=pip_target(python),
            allow_yanked=True,
            ignore_requires_python=False,
        )

    def pick(self, name: str, files: Sequence[File]) -> Picks:
        """The files that pip installs, of those of a page."""
        # As in PackageFinder.find_best_candidate, whose first step is to fetch the page.
        candidates = self._finder.evaluate_links(self._finder.make_link_evaluator(name), _links(name, tuple(files)))
        evaluator = self._finder.make_candidate_evaluator(name)
        best, wheel = (
            evaluator.compute_best_candidate(each).best_candidate
            for each in (candidates, [each for each in candidates if each.link.is_wheel])
        )
        return Picks(file=best.link.filename if best else "", wheel=wheel.link.filename if wheel else "")


@cache
def _links(name: str, files: tuple[File, ...]) -> list[Link]:
    return [
        Link(
            f"https://index.example/{name}/{file.name}",
            requires_python=file.requires_python or None,
            yanked_reason="" if file.yanked else None,
        )
        for file in files
    ]


class _Wheel(Wheel):
    """pip's wheel, which older versions of pip compare with a list of tags, as slow as that is."""

    known: tuple[object, frozenset[Any]] = (None, frozenset())

    def supported(self, tags: Iterable[Any]) -> bool:
        if _Wheel.known[0] is not tags:
            _Wheel.known = (tags, frozenset(tags))
        return not self.file_tags.isdisjoint(_Wheel.known[1])


@contextmanager
def parsed_once() -> Iterator[None]:
    """Parse each file name and `Requires-Python` once, which pip and packaging do for every target."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package_finder, "Wheel", cache(_Wheel))
        patch.setattr(package_finder.PackageFinder, "_log_skipped_link", lambda *_, **__: None)
        for owner, name in (
            (package_finder, "check_requires_python"),
            (Link, "splitext"),
            (_Wheel, "get_formatted_file_tags"),
            (pylock, "parse_wheel_filename"),
            (explain, "parse_wheel_filename"),
        ):
            patch.setattr(owner, name, cache(getattr(owner, name)))
        patch.setattr(Link, "filename", property(cache(cast("Any", Link.filename).fget)))
        yield


def dump(listed: Mapping[str, Sequence[File]]) -> bytes:
    """The content of the data file."""
    document: dict[str, list[list[Any]]] = {}
    for name, files in sorted(listed.items()):
        groups = document.setdefault(name, [])
        for file in files:
            if not groups or groups[-1][:2] != [file.requires_python, file.yanked]:
                groups.append([file.requires_python, file.yanked, []])
            groups[-1][2].append(file.name)
    return lzma.compress(json.dumps(document, separators=(",", ":")).encode(), preset=9 | lzma.PRESET_EXTREME)
