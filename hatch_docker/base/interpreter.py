"""Read facts about a base image, such as its Python and C library, from its config and layers. Nothing is run.

The interpreter is the first `python3` on the image's PATH. Its version is a string in its binary or shared library; its
ABI and CPU are in the suffix of its extension modules. Shared libraries are those in the directories that the dynamic
loader searches, and in its cache (ld.so(8); musl's dynlink.c).
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Iterable, Iterator
from functools import partial

from hatch_docker.base.facts import BaseFacts, directories_of, links_of
from hatch_docker.base.leftovers import leftovers_of, needed_leftovers, needs_record
from hatch_docker.base.target import Libc, TargetPython, is_supported
from hatch_docker.dpkg.ldcache import FLAGS
from hatch_docker.dpkg.ldconfig import configured_directories
from hatch_docker.dpkg.loader import read_cache
from hatch_docker.errors import BaseError, ImageError
from hatch_docker.oci.config import DEFAULT_PATH, ImageConfig
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.support.patterns import regex

_INTERPRETER = regex(r"python(3\.([0-9]{1,3}))(t?)")
_CONTENT = regex(
    r"(?:.*/)?bin/python3\.\d+t?"
    r"|(?:.*/)?libpython3\.\d+t?\.so[\d.]*"
    r"|(?:usr/)?lib(?:64)?/(?:[^/]+-linux-gnu[^/]*/)?libc(?:-2\.\d+\.so|\.so\.6)"
    r"|(?:usr/)?lib/ld-musl-[^/]+\.so\.1"
    r"|(?:.*/)?bin/python3?"
    r"|etc/ld\.so\.(?:cache|conf(?:\.d/[^/]+)?)"
    r"|etc/ld-musl-[^/]+\.path"
    r"|(?:etc|usr/lib)/os-release"
)
_RELEASE = regex(r"""^(ID|VERSION_CODENAME)=["']?([A-Za-z0-9._-]+)["']?$""", re.MULTILINE)
# Debian's names of CPUs in multiarch triplets, if they differ from the kernel's.
_TRIPLET = {"i686": "i386", "armv7l": "arm", "ppc64le": "powerpc64le"}
_GLIBC = regex(rb"GNU C Library [^\n\0]{0,200}?version (\d{1,3})\.(\d{1,3})")
_MUSL = regex(rb"\0(1)\.(\d{1,3})\.\d+(?:-git-[^\0]*)?\0")
# The built-in directories of dynamic loaders, over all distributions.
_BUILT_IN = {
    "glibc": ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"),
    "musl": ("/lib", "/usr/local/lib", "/usr/lib"),
}
_MAX_TEXT = 1 << 16
_LIBCS = (("musl", regex(r"lib/ld-musl-[^/]+$"), _MUSL), ("glibc", regex(r"lib.*/libc\.so\.6$"), _GLIBC))


def needs_content(path: str) -> bool:
    """Whether `read_facts` needs the content of a file (oci.merging.merge)."""
    return _CONTENT.fullmatch(path) is not None or needs_record(path)


def read_facts(files: Filesystem, config: ImageConfig, *, venv: str) -> BaseFacts:
    """Read the facts of an image. Raises BaseError if it has no Python, or one that is not supported."""
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
    return BaseFacts(
        python=python,
        links=links_of(files),
        directories=directories_of(files),
        occupied=files.get(venv) is not None,
        libraries=_libraries(files, python, config),
        suite=_suite(files),
        leftovers=leftovers_of(files, python),
        leftovers_needed=needed_leftovers(files, python),
    )


def library_directories(files: Filesystem, python: TargetPython, config: ImageConfig) -> list[str]:
    """The directories that the dynamic loader searches, with links followed."""
    cached = (posixpath.dirname(entry.path) for entry in read_cache(files)) if python.libc.kind == "glibc" else ()
    return list(dict.fromkeys(_resolved(files, [*_searched(files, python, config), *cached])))


def _interpreter(files: Filesystem, config: ImageConfig) -> tuple[str, str, str]:
    path = [each for each in config.env.get("PATH", DEFAULT_PATH).split(":") if each.startswith("/")]
    names = [(directory, name) for directory in path for name in ("python3", "python")]
    names += [(directory, name) for directory in path for name in _versioned(files.below(directory))]
    for directory, name in names:
        resolved = files.resolve(f"{directory}/{name}")
        match = _INTERPRETER.fullmatch(posixpath.basename(resolved))
        if match and files.nodes.get(resolved, Node(kind="other")).kind == "file":
            return f"/{resolved}", match[1], match[3]
    raise BaseError(
        f"the base image has no Python: no python3 in {', '.join(path) or 'its empty PATH'}",
        hint='use a base with CPython, such as "slim", "alpine", "debian" or "python:3.13-slim"',
    )


def _versioned(names: Iterable[str]) -> list[str]:
    """The interpreters among `names`, newest first, those with the GIL before those without."""
    matches = [match for name in names if (match := _INTERPRETER.fullmatch(name))]
    return [match[0] for match in sorted(matches, key=lambda match: (-int(match[2]), match[3]))]


def _version(files: Filesystem, path: str, minor: str) -> str:
    """The full version, from the string in the CPython binary or its shared library."""
    pattern = re.compile(rb"\0(" + re.escape(minor).encode() + rb"\.\d+(?:(?:a|b|rc)\d+)?)\+?\0")
    prefix = posixpath.dirname(posixpath.dirname(path)).strip("/")
    folders = (f"{prefix}/lib".lstrip("/"), "usr/lib")
    libraries = [name for name in files.nodes if f"libpython{minor}" in name and name.startswith(folders)]
    for name in [path, *sorted(libraries)]:
        node = files.get(name)
        if node is not None and node.data and (match := pattern.search(node.data)):
            return match[1].decode()
    raise BaseError(f"the version of {path} in the base image is unknown", hint="is it CPython?")


def _libc(files: Filesystem) -> Libc:
    for kind, library, pattern in _LIBCS:
        for name in files.nodes:
            # Before glibc 2.34, libc.so.6 is a link to a file such as libc-2.31.so.
            node = files.get(name) if library.search(name) else None
            if node is not None and node.data and (match := pattern.search(node.data)):
                return Libc(kind=kind, version=(int(match[1]), int(match[2])))
    raise BaseError(
        "the base image has neither glibc nor musl, for which wheels are built",
        hint='use a base such as "slim" (glibc) or "alpine" (musl)',
    )


def _check_machine(files: Filesystem, prefix: str, python: TargetPython) -> None:
    """Check the suffix of the interpreter's extension modules (PEP 3149): `cpython-313-x86_64-linux-gnu`."""
    cpu = re.escape(_TRIPLET.get(python.machine, python.machine))
    suffix = re.compile(rf".*\.cpython-\d+[a-z]*-{cpu}-linux-(gnu|musl)[^.]*\.so")
    modules = [n for n in files.below(f"{prefix}/lib/{python.lib_name}/lib-dynload") if ".cpython-" in n]
    foreign = next((name for name in modules if not suffix.fullmatch(name)), "")
    if foreign:
        raise BaseError(
            f"the base image is labelled {python.platform}, but its Python has modules for another machine: {foreign}",
            hint="the platform in its config is wrong: use another base, or correct it",
        )
    if not is_supported(python.platform):
        raise BaseError(f"wheels do not exist for the platform {python.platform}", hint='use "linux/amd64"')


def _libraries(files: Filesystem, python: TargetPython, config: ImageConfig) -> frozenset[str]:
    """The names of the libraries that the dynamic loader finds by itself."""
    directories = set(_resolved(files, _searched(files, python, config)))
    in_directories = (
        posixpath.basename(name)
        for name in files.nodes
        if ".so" in name and posixpath.dirname(name) in directories and files.is_file(name)
    )
    return frozenset((*in_directories, *(_in_cache(files, python) if python.libc.kind == "glibc" else ())))


def _in_cache(files: Filesystem, python: TargetPython) -> Iterator[str]:
    """The names of the libraries in ld.so.cache that exist, and are for the image's CPU."""
    for entry in read_cache(files):
        if entry.flags == FLAGS.get(python.machine, entry.flags) and files.is_file(entry.path):
            yield entry.name


def _searched(files: Filesystem, python: TargetPython, config: ImageConfig) -> Iterator[str]:
    """The directories that the dynamic loader searches, in no order."""
    yield from re.split("[:;]", config.env.get("LD_LIBRARY_PATH", ""))
    # The interpreter finds its own library by DT_RUNPATH, and loads it before any module.
    yield f"{posixpath.dirname(posixpath.dirname(python.interpreter))}/lib"
    if python.libc.kind == "musl":
        yield from _searched_by_musl(files)
        return
    yield from _BUILT_IN["glibc"]
    triplet = f"{_TRIPLET.get(python.machine, python.machine)}-linux-gnu"
    for parent in ("/lib", "/usr/lib"):
        yield from (f"{parent}/{name}" for name in files.below(parent) if name.startswith(triplet))
    yield from configured_directories(files, partial(_text, files))


def _searched_by_musl(files: Filesystem) -> Iterator[str]:
    configurations = [name for name in files.below("etc") if name.startswith("ld-musl-") and name.endswith(".path")]
    for name in configurations:
        yield from re.split("[:\n]", _text(files, f"etc/{name}"))
    yield from () if configurations else _BUILT_IN["musl"]


def _suite(files: Filesystem) -> str:
    """The codename of the image's release of Debian, or empty (os-release(5))."""
    release = dict(_RELEASE.findall(_text(files, "etc/os-release") or _text(files, "usr/lib/os-release")))
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""


def _text(files: Filesystem, path: str) -> str:
    """The start of a file's text; empty if it is missing or a loop of links."""
    with contextlib.suppress(ImageError):
        if node := files.get(path):
            return (node.data or b"")[:_MAX_TEXT].decode("utf-8", "replace")
    return ""


def _resolved(files: Filesystem, paths: Iterable[str]) -> Iterator[str]:
    """Follow links in absolute paths; skip relative paths and loops."""
    for path in paths:
        with contextlib.suppress(ImageError):
            if path.startswith("/"):
                yield files.resolve(path)
