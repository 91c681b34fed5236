"""Check a Config against the project and the outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from packaging.utils import canonicalize_name

from hatch_docker.config.model import EVERY, BaseOptions, Runtime
from hatch_docker.config.naming import checked_tag, fill
from hatch_docker.config.values import choice, fail, gather, nearest
from hatch_docker.errors import ConfigError, HatchDockerError
from hatch_docker.oci.reference import DOCKER_HUB, Reference


def expand_tags(tags: Iterable[str], *, version: str, name: str, git_sha: str, place: str) -> tuple[str, ...]:
    """Expand tag templates, without duplicates. Raises ConfigError at `place`.

    `version` and `name` are normalized (PEP 440, PEP 503); `git_sha` is empty without a commit. A tag cannot contain
    the `+` of a local version or the `!` of an epoch: they become `_`, as in Helm's tags, and `-`. A normalized version
    has neither, so two versions never share a tag.
    """
    values = {"version": version.replace("+", "_").replace("!", "-"), "name": name, "git-sha": git_sha}

    def expand(template: str, where: str) -> str:
        if "{git-sha}" in template and not git_sha:
            fail(where, "{git-sha} needs a commit, and the project is not in a Git repository that has one")
        return checked_tag(fill(template, values), where)

    expanded = gather(partial(expand, each, f"{place}[{position}]") for position, each in enumerate(tags))
    return tuple(dict.fromkeys(expanded))


def check_names(names: Iterable[str], available: Collection[str], *, place: str, what: str) -> None:
    """Raise ConfigError for each extra or dependency group (`what`) that is not in `available`, the project's.

    `names` are normalized, `available` may not be (PEP 685, PEP 735).
    """
    normalized = sorted({canonicalize_name(name) for name in available})
    gather(
        partial(fail, f"{place}[{position}]", _unknown(name, normalized, what))
        for position, name in enumerate(names)
        if name not in normalized
    )


def check_outputs(names: Iterable[str], available: Collection[str], *, place: str) -> None:
    """Raise ConfigError for each output that is not in `available`."""
    gather(partial(choice(*available), name, f"{place}[{position}]") for position, name in enumerate(names))


def default_script(scripts: Collection[str], *, project: str, place: str) -> str:
    """The script that the image starts if `entrypoint` is not set: the only one, or the one with the project's name.

    Empty if the project has no scripts. Raises ConfigError at `place` if it has several and none has the project's
    name.
    """
    if len(scripts) == 1:
        return next(iter(scripts))
    named = [script for script in scripts if canonicalize_name(script) == canonicalize_name(project)]
    if scripts and len(named) != 1:
        choices = ", ".join(map(repr, sorted(scripts)))
        fail(place, f"the project has several scripts, set the one to start: {choices}")
    return "".join(named)


def check_push(image: Reference, place: str) -> None:
    """Raise ConfigError for a name without a registry, which would name an official image of Docker Hub."""
    if image.registry == DOCKER_HUB and image.repository.startswith("library/"):
        fail(
            place,
            f"{image.familiar!r} cannot be pushed, since it names no registry: "
            f"write it like 'registry.example/team/{image.familiar}'",
        )


def check_annotations(runtime: Runtime, base: BaseOptions, place: str) -> None:
    """Raise ConfigError for annotations of an index if the build is for one platform, whose image has none."""
    if runtime.index_annotations and base.platforms != EVERY and len(base.platforms) < 2:
        fail(place, "the image of one platform has no index: leave out 'index:'")


def as_mistake(place: str, call: Callable[[], object]) -> None:
    """Raise the error of `call`, if any, as a ConfigError, which is reported with all other mistakes."""
    try:
        call()
    except HatchDockerError as error:
        message = f"{error.place}: {error.message}" if error.place else error.message
        raise ConfigError([(place, "; ".join(filter(None, (message, error.hint))))]) from None


def _unknown(name: str, available: Collection[str], what: str) -> str:
    if not available:
        return f"the project has no {what}s: remove {name!r}"
    choices = nearest(name, available) or ", only " + ", ".join(map(repr, available))
    return f"the project has no {what} {name!r}{choices}"
