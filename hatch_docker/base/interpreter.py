"""Which Python a base image has, and of which system it is: read from its config and its layers, never by running it.

The interpreter is the first `python3` on the image's own PATH. Its version is the string in its own binary or shared
library, its ABI and CPU the suffix of the extension modules beside it, the C library the one that is there. What other
shared libraries there are follows from where the dynamic loader looks (ld.so(8); musl's dynlink.c).
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.base.target import MACHINES, Libc, TargetPython
from hatch_docker.errors import BaseError, ImageError
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.spec import Platform

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INTERPRETER = re.compile(r"python(3\.([0-9]{1,3}))(t?)")
_READ = re.compile(
    r"(?:.*/)?bin/python3\.\d+t?"
    r"|(?:.*/)?libpython3\.\d+t?\.so[\d.]*"
    r"|(?:usr/)?lib(?:64)?/(?:[^/]+-linux-gnu[^/]*/)?libc(?:-2\.\d+\.so|\.so\.6)"
    r"|(?:usr/)?lib/ld-musl-[^/]+\.so\.1"
    r"|(?:.*/)?bin/python3?"
    r"|etc/ld\.so\.conf(?:\.d/[^/]+\.conf)?"
    r"|etc/ld-musl-[^/]+\.path"
    r"|(?:etc|usr/lib)/os-release"
)
_RELEASE = re.compile(r"""^(ID|VERSION_CODENAME)=["']?([A-Za-z0-9._-]+)["']?$""", re.MULTILINE)
# Debian's name of a CPU in a multiarch triplet, where it is not the kernel's.
_TRIPLET = {"i686": "i386", "armv7l": "arm", "ppc64le": "powerpc64le"}
_GLIBC = re.compile(rb"GNU C Library [^\n\0]{0,200}?version (\d{1,3})\.(\d{1,3})")
_MUSL = re.compile(rb"\0(1)\.(\d{1,3})\.\d+(?:-git-[^\0]*)?\0")
# Where the loaders look without being told, and what tells them of other places.
_SEARCHED = {
    "glibc": ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"),
    "musl": ("/lib", "/usr/local/lib", "/usr/lib"),
}
_SEARCH_FILES = re.compile(r"etc/ld\.so\.conf(?:\.d/[^/]+\.conf)?")
_SEARCH_BYTES = 1 << 16
_LIBCS = (("musl", re.compile(r"lib/ld-musl-[^/]+$"), _MUSL), ("glibc", re.compile(r"lib.*/libc\.so\.6$"), _GLIBC))


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """What the build needs to know of a base's contents, small enough to be remembered by the base's digest.

    `links` are its symbolic links to directories and `directories` its directories, so that nothing is written over
    one; `occupied` is whether something is already where the venv goes. `libraries` are the names of the shared
    libraries that its dynamic loader finds. `suite` is the release of Debian that it is of, as `trixie`, or empty.
    """

    python: TargetPython
    links: Mapping[str, str]
    directories: frozenset[str]
    occupied: bool
    libraries: frozenset[str] = frozenset()
    suite: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        python = self.python
        return {
            "version": python.version,
            "interpreter": python.interpreter,
            "platform": str(python.platform),
            "libc": [python.libc.kind, *python.libc.version],
            "free_threaded": python.free_threaded,
            "links": dict(self.links),
            "directories": sorted(self.directories),
            "occupied": self.occupied,
            "libraries": sorted(self.libraries),
            "suite": self.suite,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BaseFacts:
        """The inverse of `to_json`; raises KeyError, TypeError or ValueError on anything else."""
        kind, major, minor = document["libc"]
        python = TargetPython(
            version=document["version"],
            interpreter=document["interpreter"],
            platform=Platform.parse(document["platform"]),
            libc=Libc(kind=kind, version=(major, minor)),
            free_threaded=document["free_threaded"],
        )
        return cls(
            python=python,
            links=dict(document["links"]),
            directories=frozenset(document["directories"]),
            occupied=bool(document["occupied"]),
            libraries=frozenset(document["libraries"]),
            suite=str(document["suite"]),
        )


def wanted(path: str) -> bool:
    """Whether a file's content is needed to tell which Python an image has."""
    return _READ.fullmatch(path) is not None


def read_facts(files: Filesystem, config: ImageConfig, *, venv: str) -> BaseFacts:
    """Find the image's Python; raises BaseError where there is none that can carry a venv."""
    path, minor, threads = _interpreter(files, config)
    prefix = posixpath.dirname(posixpath.dirname(path))
    python = TargetPython(
        version=_version(files, path, minor),
        interpreter=path,
        platform=config.platform,
        libc=_libc(files),
        free_threaded=bool(threads),
    )
    _check_machine(files, prefix, python)
    links = {name: node.link for name, node in files.nodes.items() if node.kind == "link" and _is_a_way(files, name)}
    directories = frozenset(name for name, node in files.nodes.items() if node.kind == "dir")
    return BaseFacts(
        python=python,
        links=links,
        directories=directories,
        occupied=files.get(venv) is not None,
        libraries=_libraries(files, python, config),
        suite=_suite(files),
    )


def _interpreter(files: Filesystem, config: ImageConfig) -> tuple[str, str, str]:
    search = [each for each in config.env.get("PATH", _DEFAULT_PATH).split(":") if each.startswith("/")]
    names = [(directory, name) for directory in search for name in ("python3", "python")]
    names += [(directory, name) for directory in search for name in _versioned(files.below(directory))]
    for directory, name in names:
        resolved = files.resolve(f"{directory}/{name}")
        match = _INTERPRETER.fullmatch(posixpath.basename(resolved))
        if match and files.nodes.get(resolved, Node(kind="other")).kind == "file":
            return f"/{resolved}", match[1], match[3]
    raise BaseError(
        f"the base image has no Python: no python3 in {', '.join(search) or 'its empty PATH'}",
        hint='take a base with CPython, such as "slim", "alpine", "debian" or "python:3.13-slim"',
    )


def _versioned(names: Iterable[str]) -> list[str]:
    """The interpreters among `names`, the newest first, those with the GIL before those without."""
    found = [match for name in names if (match := _INTERPRETER.fullmatch(name))]
    return [match[0] for match in sorted(found, key=lambda match: (-int(match[2]), match[3]))]


def _version(files: Filesystem, path: str, minor: str) -> str:
    """The full version, by the version string that every CPython binary or its shared library carries."""
    pattern = re.compile(rb"\0(" + re.escape(minor).encode() + rb"\.\d+(?:(?:a|b|rc)\d+)?)\+?\0")
    prefix = posixpath.dirname(posixpath.dirname(path)).strip("/")
    folders = (f"{prefix}/lib".lstrip("/"), "usr/lib")
    libraries = [name for name in files.nodes if f"libpython{minor}" in name and name.startswith(folders)]
    for name in [path, *sorted(libraries)]:
        node = files.get(name)
        if node is not None and node.data and (match := pattern.search(node.data)):
            return match[1].decode()
    raise BaseError(f"the version of {path} in the base image cannot be told", hint="is it CPython?")


def _libc(files: Filesystem) -> Libc:
    for kind, library, pattern in _LIBCS:
        for name in files.nodes:
            # Before glibc 2.34 libc.so.6 was a link to the library, libc-2.31.so.
            node = files.get(name) if library.search(name) else None
            if node is not None and node.data and (match := pattern.search(node.data)):
                return Libc(kind=kind, version=(int(match[1]), int(match[2])))
    raise BaseError(
        "the base image has no C library that wheels are built for: neither glibc nor musl was found",
        hint='take a base such as "slim" (glibc) or "alpine" (musl)',
    )


def _check_machine(files: Filesystem, prefix: str, python: TargetPython) -> None:
    """Compare with the suffix of the interpreter's own extension modules (PEP 3149): `cpython-313-x86_64-linux-gnu`."""
    cpu = re.escape(_TRIPLET.get(python.machine, python.machine))
    suffix = re.compile(rf".*\.cpython-\d+[a-z]*-{cpu}-linux-(gnu|musl)[^.]*\.so")
    modules = [n for n in files.below(f"{prefix}/lib/{python.lib_name}/lib-dynload") if ".cpython-" in n]
    odd = next((name for name in modules if not suffix.fullmatch(name)), "")
    if odd:
        raise BaseError(
            f"the base image says it is {python.platform}, but its Python has modules for another machine: {odd}",
            hint="the image's platform is wrong: take another base, or a corrected one",
        )
    platform = python.platform
    # Of the 32-bit ARMs, the index takes wheels for armv7l alone.
    other_arm = platform.architecture == "arm" and platform.variant != "v7"
    if platform.os != "linux" or platform.architecture not in MACHINES or other_arm:
        raise BaseError(f"{python.platform} is not a platform that wheels exist for", hint='take "linux/amd64"')


def _is_a_way(files: Filesystem, name: str) -> bool:
    """Whether a link leads to a directory, or stands where an image's own files may go."""
    if name.count("/") <= 1:
        return True
    try:
        target = files.get(name)
    except ImageError:
        # A circle leads nowhere, and is nobody's business while nobody follows it.
        return False
    return target is not None and target.kind == "dir"


def _libraries(files: Filesystem, python: TargetPython, config: ImageConfig) -> frozenset[str]:
    directories = set(_resolved(files, _searched(files, python, config)))
    return frozenset(
        posixpath.basename(name)
        for name in files.nodes
        if ".so" in name and posixpath.dirname(name) in directories and _is_a_file(files, name)
    )


def _searched(files: Filesystem, python: TargetPython, config: ImageConfig) -> Iterator[str]:
    """Where the dynamic loader looks, in no order."""
    yield from re.split("[:;]", config.env.get("LD_LIBRARY_PATH", ""))
    # The interpreter knows the way to its own library, which is loaded before any module.
    yield f"{posixpath.dirname(posixpath.dirname(python.interpreter))}/lib"
    if python.libc.kind == "musl":
        told = [name for name in files.below("etc") if name.startswith("ld-musl-") and name.endswith(".path")]
        for name in told:
            yield from re.split("[:\n]", _text(files, f"etc/{name}"))
        yield from () if told else _SEARCHED["musl"]
        return
    yield from _SEARCHED["glibc"]
    triplet = f"{_TRIPLET.get(python.machine, python.machine)}-linux-gnu"
    for parent in ("/lib", "/usr/lib"):
        yield from (f"{parent}/{name}" for name in files.below(parent) if name.startswith(triplet))
    for name in filter(_SEARCH_FILES.fullmatch, files.nodes):
        yield from (line.partition("#")[0].strip() for line in _text(files, name).splitlines())


def _suite(files: Filesystem) -> str:
    """The codename of an image of Debian's (os-release(5))."""
    try:
        told = dict(_RELEASE.findall(_text(files, "etc/os-release") or _text(files, "usr/lib/os-release")))
    except ImageError:
        return ""
    return told.get("VERSION_CODENAME", "") if told.get("ID") == "debian" else ""


def _text(files: Filesystem, path: str) -> str:
    node = files.get(path)
    return (node.data or b"")[:_SEARCH_BYTES].decode("utf-8", "replace") if node else ""


def _resolved(files: Filesystem, paths: Iterable[str]) -> Iterator[str]:
    """Where absolute paths lead; what is none is passed over, as a line of a file that says something else."""
    for path in paths:
        # A circle leads nowhere.
        with contextlib.suppress(ImageError):
            if path.startswith("/"):
                yield files.resolve(path)


def _is_a_file(files: Filesystem, name: str) -> bool:
    try:
        node = files.get(name)
    except ImageError:
        return False
    return node is not None and node.kind == "file"
