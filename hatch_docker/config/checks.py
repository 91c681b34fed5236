"""What a Config can only be asked once the project, or the wanted output, is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import NoReturn

from packaging.utils import canonicalize_name

from hatch_docker.config.model import TABLE, Config
from hatch_docker.config.naming import checked_tag, fill
from hatch_docker.config.values import fail, gather, nearest
from hatch_docker.errors import ConfigError, HatchDockerError
from hatch_docker.oci.reference import DOCKER_HUB, Reference


def expand_tags(
    tags: Iterable[str], *, version: str, name: str, git_sha: str, place: str = f"{TABLE}.tags"
) -> tuple[str, ...]:
    """The tags that templates stand for, without repetitions; raises ConfigError at `place`.

    `version` is normalized (PEP 440), `name` too; `git_sha` is empty where there is no commit. A tag cannot hold the
    `+` of a local version nor the `!` of an epoch: they become `_`, as in Helm's tags, and `-`. A normalized version
    has neither of these, so that two versions never share a tag.
    """
    values = {"version": version.replace("+", "_").replace("!", "-"), "name": name, "git-sha": git_sha}

    def expand(template: str, where: str) -> str:
        if "{git-sha}" in template and not git_sha:
            fail(where, "{git-sha} stands for the commit, and the project is not in a Git repository that has one")
        return checked_tag(fill(template, values), where)

    expanded = gather(partial(expand, each, f"{place}[{position}]") for position, each in enumerate(tags))
    return tuple(dict.fromkeys(expanded))


def check_names(config: Config, *, extras: Collection[str], groups: Collection[str]) -> None:
    """Raise ConfigError for each extra and dependency group, in any spelling (PEP 685, PEP 735), that is none."""
    known_extras = sorted({canonicalize_name(extra) for extra in extras})
    known_groups = sorted({canonicalize_name(group) for group in groups})
    gather(
        [
            *_absent(config.extras, known_extras, config.place("extras"), "extra"),
            *_absent(config.dependency_groups, known_groups, config.place("dependency-groups"), "dependency group"),
        ]
    )


def default_script(scripts: Collection[str], *, project: str) -> str:
    """The script that the image starts where `entrypoint` says nothing: the only one, or the one named as the project.

    Empty where the project has none; raises ConfigError where it has several and none of them stands out.
    """
    if len(scripts) == 1:
        return next(iter(scripts))
    named = [script for script in scripts if canonicalize_name(script) == canonicalize_name(project)]
    if scripts and len(named) != 1:
        known = ", ".join(repr(script) for script in sorted(scripts))
        fail(f"{TABLE}.entrypoint", f"the project has several scripts, name the one to start: {known}")
    return "".join(named)


def check_push(image: Reference, place: str) -> None:
    """Raise ConfigError when an image is named as Docker Hub's own: a name without a registry is meant for no push."""
    if image.registry == DOCKER_HUB and image.repository.startswith("library/"):
        fail(
            place,
            f"{image.familiar!r} cannot be pushed, for it names no registry: "
            f"write it like 'registry.example/team/{image.familiar}'",
        )


def as_mistake(place: str, call: Callable[[], object]) -> None:
    """Make what a step would raise later a mistake of the configuration, so that it is told with all others."""
    try:
        call()
    except HatchDockerError as error:
        what = f"{error.place}: {error.message}" if error.place else error.message
        raise ConfigError([(place, "; ".join(filter(None, (what, error.hint))))]) from None


def _absent(names: Iterable[str], known: Collection[str], place: str, what: str) -> list[Callable[[], NoReturn]]:
    return [
        partial(fail, f"{place}[{position}]", _choices(name, known, what))
        for position, name in enumerate(names)
        if name not in known
    ]


def _choices(name: str, known: Collection[str], what: str) -> str:
    if not known:
        return f"the project has no {what}s, so not {name!r} either"
    return f"the project has no {what} {name!r}{nearest(name, known) or ', only ' + ', '.join(map(repr, known))}"
