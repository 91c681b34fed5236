"""The subcommands and their arguments, without what runs them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from hatch_docker.frontends.cli import build
from hatch_docker.support.dataclasses import dataclass

_PLAN = """\
Show what a build of the project's image would do: the base, its Python and C library, the OS packages, the Python
packages with their sources and the reasons to compile them, the layers and which of them are cached, and what the
image starts. Manifests, indexes and the base's layers are downloaded unless they are cached, wheels are not: what only
wheels can tell is "unknown" until they are cached.
"""

_LOCK = """\
Lock the packages of the project's image: packages from Debian's archive in debian.lock, and Python packages in
pylock.docker.toml unless another tool locks them. Packages that are locked and fit stay as they are, except those
that --upgrade and --upgrade-package name. Python packages are locked for all platforms.

Standard output has the paths of the files that were written, one per line; with --check, of those that are missing or
do not fit.
"""

_OUTDATED = """\
List the packages of the project's image, as it would be built now, that have newer versions: first security updates
of Debian and versions that were yanked from the package index. Standard output is a table, empty if nothing is
outdated. As with pip, versions that another package of the image excludes are listed, too; versions that the project
itself excludes are marked. Nothing is installed or written.
"""

_BUILDER = """\
Make the image that the project is compiled in: its builder, with its build-packages. The image is loaded into the
container engine under each NAME, and with --push pushed to the registry that NAME begins with.

Standard output has one line: the value for the key `builder`, in any project on the same base, in place of
build-packages. Their builds install nothing in the builder then.
"""

_PUSH = """\
Push an image from a file or folder: an OCI image layout, a tar of one, or an archive of 'docker save'. Nothing of it
is changed, so it keeps its digest. Archives of Docker before version 25 have no manifest, and get one.

If there are several images in it, FILE:NAME chooses one, by its name, tag or digest.

Standard output has one line for each REF: its name by digest.
"""

_CACHE = """\
Show or clean the cache, which all projects share: info (the default) shows its sizes, and dir its path alone. prune
removes what was not used for some time, and what is more than its limit (HATCH_DOCKER_CACHE_SIZE), the least recently
used first. clear removes everything, or some kinds. What a running build uses stays.
"""

# The kinds of what is in the cache, and what they are.
CACHE_KINDS: Mapping[str, str] = {
    "downloads": "wheels, source distributions, Debian packages and indexes",
    "bases": "layers of bases, their documents and interpreters",
    "layers": "layers that were made",
    "built": "compiled wheels, and what is built from directories and commits",
    "facts": "what is known of the others: small documents",
    "logs": "logs of containers and builds",
}
# What `lock --upgrade` chooses anew; without a kind, everything.
_UPGRADES = ("base", "python")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A subcommand. `help` is its whole help text, or else `description` a part of it.

    `module` of this package has `command`, a function from the arguments to what `Session.run` runs, or `prepare`, one
    that returns the run's options, too. Without a project, the session has no configuration but the host's. With a
    stamp (`stamps`), it is not run again without changes.
    """

    summary: str
    module: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    help: str = ""
    description: str = ""
    needs_project: bool = True
    has_stamp: bool = False


def _add_push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the file or folder, or FILE:NAME")
    parser.add_argument("references", nargs="+", metavar="REF", help="a name to push to, with a registry")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of text")
    parser.add_argument(
        "--platform", action="append", default=[], metavar="LIST", help="platforms, like linux/arm64; may be repeated"
    )
    parser.add_argument(
        "--pruned", action="store_true", help="list the files that are pruned, of the wheels in the cache"
    )


def _add_lock(parser: argparse.ArgumentParser) -> None:
    everything = ":all:"
    parser.add_argument(
        "--upgrade",
        action="append",
        nargs="?",
        const=everything,
        default=[],
        choices=(everything, *_UPGRADES),
        metavar="|".join(_UPGRADES),
        help="choose the newest of everything, or of one kind; may be repeated",
    )
    parser.add_argument(
        "--upgrade-package", action="append", default=[], metavar="NAME", help="choose the newest; may be repeated"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if a lock does not fit")


def _add_outdated(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="exit with status 1 if a security update or a yanked version is listed"
    )


def _add_cache(parser: argparse.ArgumentParser) -> None:
    actions = ("info", "dir", "prune", "clear")
    parser.add_argument("action", nargs="?", default="info", choices=actions, metavar="ACTION", help="|".join(actions))
    parser.add_argument(
        "--kind",
        action="append",
        choices=CACHE_KINDS,
        metavar="KIND",
        help=f"{', '.join(CACHE_KINDS)}; may be repeated",
    )
    parser.add_argument(
        "--unused-for", type=int, metavar="DAYS", help="prune: what was not used for so long (default: 30)"
    )
    parser.add_argument("--size", metavar="SIZE", help="prune: another limit, like 5GB")
    parser.add_argument("--dry-run", action="store_true", help="prune, clear: show what would be removed")
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of text")


def _add_builder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t", "--tag", action="append", default=[], metavar="NAME", help="a name of the image; may be repeated"
    )
    parser.add_argument("--push", action="store_true", help="push it to the registry that NAME begins with")


COMMANDS: Mapping[str, Command] = {
    "build": Command(
        summary="build the image of a project, and load, push or write it",
        module="make",
        add_arguments=build.add_arguments,
        help=build.HELP,
        has_stamp=True,
    ),
    "push": Command(
        summary="push the image of an archive or layout, as it is",
        module="push",
        add_arguments=_add_push,
        description=_PUSH,
        needs_project=False,
    ),
    "plan": Command(summary="show what a build would do", module="plan", add_arguments=_add_plan, description=_PLAN),
    "lock": Command(
        summary="lock the packages of the image", module="lock", add_arguments=_add_lock, description=_LOCK
    ),
    "outdated": Command(
        summary="list packages of the image with newer versions",
        module="outdated",
        add_arguments=_add_outdated,
        description=_OUTDATED,
    ),
    "builder": Command(
        summary="make the image that the project is compiled in",
        module="builder",
        add_arguments=_add_builder,
        description=_BUILDER,
    ),
    "cache": Command(
        summary="show or clean the cache",
        module="cache",
        add_arguments=_add_cache,
        description=_CACHE,
        needs_project=False,
    ),
}
