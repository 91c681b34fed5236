"""MANAGERS: the package managers that an image may have, as values: their commands, database and complaints."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hatch_docker.oci.tar import MTIME

# For what a package's scripts write with a date: the time that all files of a layer have.
_ENVIRON = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "SOURCE_DATE_EPOCH": str(MTIME)}
# Neither options nor wildcards, virtual names, files (apk: .apk), or what apt would remove for (a minus at the end).
NAME = re.compile(r"(?!.*\.apk)[A-Za-z0-9][A-Za-z0-9_.+-]*(?<!-)(=[A-Za-z0-9][A-Za-z0-9_.+:~-]*)?")

_NO_ROOM = re.compile(r"No space left on device|enough free space")
_UNREACHABLE = re.compile(
    r"Temporary failure resolving|Could not resolve|Could not connect|Cannot initiate the connection|Failed to fetch"
    r"|^(?:WARNING|ERROR): .*https?://\S+: (?!UNTRUSTED)",
    re.MULTILINE,
)
_NOT_ALLOWED = re.compile(r"are you root|Permission denied|Operation not permitted")
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """A package manager. `program` tells that it is there; `commands` are run in turn, the last with names at its end.

    `toolchain` is what compiles C and C++ with it, `headers` those of the distribution's Python. `databases` are where
    its database may be, which `installed` reads: versions by name. `owned` are the files that packages brought which
    otherwise are made by running them. `listing` is the command for all names that can be installed; `unknown` finds
    those that cannot in what it printed, `versions` those that have no such version.
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
        """What its commands run with."""
        return _ENVIRON

    def commands_for(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The commands that install `names`."""
        return [*self.commands[:-1], (*self.commands[-1], *names)]

    def missing(self, output: str) -> list[str]:
        """The names that it says it does not know."""
        return list(dict.fromkeys(self.unknown.findall(output)))


def hint(manager: Manager, output: str, known: Callable[[], Iterable[str]]) -> str:
    """What to do about a failed installation that printed `output`; empty where that cannot be told.

    `known` gives all names that there are.
    """
    if _NO_ROOM.search(output):
        return "the engine's disk is full: 'docker system prune'"
    if _UNREACHABLE.search(output):
        return (
            "the package archive does not answer in a container: is there a network, do the engine's containers need a "
            "proxy? An image that has the packages already needs none"
        )
    if missing := manager.missing(output):
        return "; ".join(_nearest(name, known()) for name in missing[:_SHOWN])
    if found := manager.versions.search(output):
        return f"the archive has no such version of {found[1]}: leave the version out, or name one that it has"
    if _NOT_ALLOWED.search(output):
        return "the engine's containers are not allowed to do this: is it one that runs without root?"
    return ""


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(set(known)), n=_SHOWN, cutoff=0.6)
    return f"there is no package {name!r}" + (f"; similar are {', '.join(near)}" if near else "")


def arrived(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """What is new, or has another version, as "name version", sorted."""
    return tuple(f"{name} {version}" for name, version in sorted(after.items()) if before.get(name) != version)


def _apt_installed(database: str) -> dict[str, str]:
    """deb822 stanzas of /var/lib/dpkg/status; a package of another architecture than the first has it in its name."""
    found: dict[str, str] = {}
    for stanza in database.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version|Architecture): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            name = fields["Package"]
            found[f"{name}:{fields.get('Architecture', '')}" if name in found else name] = fields.get("Version", "")
    return found


def _apk_installed(database: str) -> dict[str, str]:
    """The stanzas of apk's database: a letter, a colon, a value; P is the name, V the version."""
    found: dict[str, str] = {}
    for stanza in database.split("\n\n"):
        fields = dict(re.findall(r"^([PV]):(.*)$", stanza, re.MULTILINE))
        # Those that begin with a dot are names for sets of others, made in an image.
        if not fields.get("P", ".").startswith("."):
            found[fields["P"]] = fields.get("V", "")
    return found


def _apk_owned(database: str) -> frozenset[str]:
    """Bytecode that came in packages: F is a directory, R a file in it."""
    found: set[str] = set()
    folder = ""
    for letter, value in re.findall(r"^([FR]):(.*)$", database, re.MULTILINE):
        if letter == "F":
            folder = value
        elif value.endswith(".pyc"):
            found.add(f"{folder}/{value}")
    return frozenset(found)


_APT_OPTIONS = (
    *("-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3"),
    # A name with a dot or plus that is not there would be taken for a regular expression otherwise.
    *("-o", "APT::Cmd::Pattern-Only=true"),
    # Nobody can be asked about a configuration file that the image has changed.
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
        # Debian's packages have none: their scripts compile.
        owned=lambda _database: frozenset(),
        listing=("apt-cache", "pkgnames"),
        unknown=re.compile(
            r"^E: (?:Unable to locate package |Package ')([^\s']+)(?:$|' has no installation candidate)", re.MULTILINE
        ),
        versions=re.compile(r"^E: Version '[^']*' for '([^']+)' was not found", re.MULTILINE),
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
        unknown=re.compile(r"^  (\S+) \(no such package\)", re.MULTILINE),
        versions=re.compile(r"^ +breaks: world\[([^\]=]+)=[^\]]+\]", re.MULTILINE),
    ),
)
