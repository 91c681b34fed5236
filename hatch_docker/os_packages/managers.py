"""MANAGERS: the supported package managers, with their commands, databases and error messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from hatch_docker.oci.tar import MTIME
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

# Scripts of packages write the same date as the files of a layer have.
_ENVIRON = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "SOURCE_DATE_EPOCH": str(MTIME)}

_NO_ROOM = regex(r"No space left on device|enough free space")
_UNREACHABLE = regex(
    r"Temporary failure resolving|Could not resolve|Could not connect|Cannot initiate the connection|Failed to fetch"
    r"|^(?:WARNING|ERROR): .*https?://\S+: (?!UNTRUSTED)",
    re.MULTILINE,
)
_NOT_ALLOWED = regex(r"are you root|Permission denied|Operation not permitted")
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """A package manager, which an image has if it has `program`.

    To install, `commands` run in turn, the last one with the names appended. `toolchain` are the packages that compile
    C and C++, and `headers` has those of the distribution's Python. `databases` are possible paths of its database;
    `installed` parses versions by name from it, and `owned` the bytecode that packages contain. `listing` is the
    command that prints all available names. `unknown` and `versions` match messages about missing names and versions.
    """

    name: str
    program: str
    commands: tuple[tuple[str, ...], ...]
    toolchain: tuple[str, ...]
    headers: str
    databases: tuple[str, ...]
    installed: Callable[[str], dict[str, str]]
    owned: Callable[[str], frozenset[str]]
    listing: tuple[str, ...]
    unknown: re.Pattern[str]
    versions: re.Pattern[str]

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of its commands."""
        return _ENVIRON

    def commands_for(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The commands that install `names`."""
        return [*self.commands[:-1], (*self.commands[-1], *names)]

    def missing(self, output: str) -> list[str]:
        """The names in its messages about unknown packages."""
        return list(dict.fromkeys(self.unknown.findall(output)))


def hint(manager: Manager, output: str, available: Callable[[], Iterable[str]]) -> str:
    """What to do about a failed installation that printed `output`; empty if that is unclear.

    `available` lists the names of all packages.
    """
    if _NO_ROOM.search(output):
        return "the engine's disk is full: 'docker system prune'"
    if _UNREACHABLE.search(output):
        return (
            "the package archive is unreachable from a container: check the network, and whether containers need a "
            "proxy; or use an image that has the packages already"
        )
    if missing := manager.missing(output):
        return "; ".join(_nearest(name, available()) for name in missing[:_SHOWN])
    if match := manager.versions.search(output):
        return f"the archive does not have this version of {match[1]}: omit the version, or set an available one"
    if _NOT_ALLOWED.search(output):
        return "the engine's containers lack permission: does it run without root?"
    return ""


def _nearest(name: str, available: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(set(available)), n=_SHOWN, cutoff=0.6)
    return f"there is no package {name!r}" + (f"; similar are {', '.join(near)}" if near else "")


def arrived(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """The packages that are new or have another version, as `NAME VERSION`, sorted."""
    return tuple(f"{name} {version}" for name, version in sorted(after.items()) if before.get(name) != version)


def _apt_installed(database: str) -> dict[str, str]:
    """Parse /var/lib/dpkg/status; packages of further architectures have them in their names."""
    versions: dict[str, str] = {}
    for stanza in database.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version|Architecture): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            name = fields["Package"]
            versions[f"{name}:{fields.get('Architecture', '')}" if name in versions else name] = fields.get(
                "Version", ""
            )
    return versions


def _apk_installed(database: str) -> dict[str, str]:
    """Parse apk's database: fields are a letter, a colon and a value; P is the name, V the version."""
    versions: dict[str, str] = {}
    for stanza in database.split("\n\n"):
        fields = dict(re.findall(r"^([PV]):(.*)$", stanza, re.MULTILINE))
        # Names that start with a dot are virtual packages of `apk add --virtual`.
        if not fields.get("P", ".").startswith("."):
            versions[fields["P"]] = fields.get("V", "")
    return versions


def _apk_owned(database: str) -> frozenset[str]:
    """The bytecode in packages, from apk's database: F is a directory, R a file in it."""
    paths: set[str] = set()
    folder = ""
    for letter, value in re.findall(r"^([FR]):(.*)$", database, re.MULTILINE):
        if letter == "F":
            folder = value
        elif value.endswith(".pyc"):
            paths.add(f"{folder}/{value}")
    return frozenset(paths)


_APT_OPTIONS = (
    *("-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3"),
    # Without it, an unknown name with a dot or plus is a regular expression.
    *("-o", "APT::Cmd::Pattern-Only=true"),
    # Keep configuration files that the image has changed, without a prompt.
    *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
)

MANAGERS: tuple[Manager, ...] = (
    Manager(
        name="apt",
        program="apt-get",
        commands=(
            ("apt-get", "update", *_APT_OPTIONS),
            ("apt-get", "install", "-y", "--no-install-recommends", *_APT_OPTIONS, "--"),
        ),
        toolchain=("gcc", "g++", "make", "libc6-dev", "pkg-config"),
        headers="python3-dev",
        databases=("var/lib/dpkg/status",),
        installed=_apt_installed,
        # Debian's packages contain no bytecode: their scripts compile it.
        owned=lambda _database: frozenset(),
        listing=("apt-cache", "pkgnames"),
        unknown=regex(
            r"^E: (?:Unable to locate package |Package ')([^\s']+)(?:$|' has no installation candidate)", re.MULTILINE
        ),
        versions=regex(r"^E: Version '[^']*' for '([^']+)' was not found", re.MULTILINE),
    ),
    Manager(
        name="apk",
        program="apk",
        commands=(("apk", "add", "--no-cache", "--"),),
        toolchain=("build-base", "linux-headers"),
        headers="python3-dev",
        databases=("lib/apk/db/installed", "usr/lib/apk/db/installed"),
        installed=_apk_installed,
        owned=_apk_owned,
        listing=("apk", "search", "--quiet", "--no-cache"),
        unknown=regex(r"^  (\S+) \(no such package\)", re.MULTILINE),
        versions=regex(r"^ +breaks: world\[([^\]=]+)=[^\]]+\]", re.MULTILINE),
    ),
)
