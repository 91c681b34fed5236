"""Check the configuration of an image against its files, before its layers are made. Nothing is run.

What certainly cannot start is an error, if the project configured it; what the base's own config asks for is a warning,
since the project may never use it. What cannot be decided, such as the text of shell scripts, is accepted with a note.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence

from hatch_docker.base.target import VENV
from hatch_docker.errors import ConfigError
from hatch_docker.image.commands import Chosen, Finding, findings
from hatch_docker.image.environment import environment
from hatch_docker.image.merged import READ, SEARCH, WRITE, Identity, Merged, UnreachableError, described, node_of, reach
from hatch_docker.image.programs import Process
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.support.progress import Progress

# How many extra files that the user cannot read a warning names.
_MAX_PATHS = 3
_SHELL = ("/bin/sh", "-c")
_ROOT = Identity(uid=0, groups=frozenset((0,)))


def check_runtime(
    config: ImageConfig,
    merged: Merged,
    identity: Identity,
    chosen: Chosen,
    place: Callable[[str], str],
    progress: Progress,
) -> None:
    """Check how an image of these files would run, with this config and as this user.

    Raises ConfigError with all that cannot work. Reports what is likely wrong, and what is not checked.
    """
    found = list(dict.fromkeys(_findings(config, merged, identity, chosen)))
    for kind, key, text in found:
        line = f"{place(key)}: {text}"
        if kind != "error":
            (progress.warn if kind == "warning" else progress.note)(line)
    if errors := [(place(each.key), each.text) for each in found if each.kind == "error"]:
        raise ConfigError(errors)


def check_directories(base: Filesystem, working_dir: str, volumes: Sequence[str], place: Callable[[str], str]) -> None:
    """Raise ConfigError if the working directory or a volume is a file of the base, or below one."""
    problems = []
    for key, path in (("working-dir", working_dir), *(("volumes", each) for each in volumes)):
        try:
            if reach(base, path, _ROOT)[1].kind != "dir":
                problems.append((place(key), f"{path} is a file of the base image: name a directory"))
        except UnreachableError as error:
            if not error.missing:
                problems.append((place(key), f"{path} cannot be a directory: {error}"))
    if problems:
        raise ConfigError(problems)


def _findings(config: ImageConfig, merged: Merged, identity: Identity, chosen: Chosen) -> Iterator[Finding]:
    for key, text in environment(chosen.base_env, chosen.env).literal:
        advice = f"write its value, or \\{text} to have it literally"
        yield Finding("warning", "env", f"in {key}, {text} stays as it is, since engines expand nothing: {advice}")
    yield from _volumes(config, merged, identity, chosen)
    yield from _unreadable(identity, chosen)
    if unreachable := _unreachable_python(merged, identity):
        yield Finding("error", "user", unreachable)
        return
    process = Process(
        merged=merged,
        identity=identity,
        user=f"the user {config.user}",
        path=tuple(config.env["PATH"].split(":")),
        directory=config.working_dir or "/",
        volumes=config.volumes,
        python_path=tuple(each for each in config.env.get("PYTHONPATH", "").split(":") if each),
        safe_path=bool(config.env.get("PYTHONSAFEPATH")),
    )
    for key, arguments in _commands(config):
        yield from findings(key, arguments, process, chosen)


def _commands(config: ImageConfig) -> Iterator[tuple[str, Sequence[str]]]:
    """The commands of an image, with the keys that their programs come from."""
    start = (*(config.entrypoint or ()), *(config.cmd or ()))
    if start:
        yield "entrypoint" if config.entrypoint else "cmd", start
    test = config.healthcheck.test if config.healthcheck else ()
    if test[:1] == ("CMD",) and test[1:]:
        yield "healthcheck", test[1:]
    elif test[:1] == ("CMD-SHELL",):
        yield "healthcheck", (*(config.shell or _SHELL), *test[1:])


def _volumes(config: ImageConfig, merged: Merged, identity: Identity, chosen: Chosen) -> Iterator[Finding]:
    """Volumes in which the image has its packages or the project's files, or in which its user cannot write.

    Engines copy the image's files, with their owners, into a new volume, and leave any other as it is.
    """
    for volume in config.volumes:
        inherited = "it is the base's, and cannot be removed" if volume not in chosen.volumes else ""
        try:
            path, node = merged.reach(volume, _ROOT)
        except UnreachableError:
            continue
        if node.kind != "dir" and not inherited:
            yield Finding("error", "volumes", f"{volume} is a file of the image: name a directory")
        elif held := _held(path, merged, chosen):
            advice = inherited or "name the directory that the program writes to"
            yield Finding(
                "warning",
                "volumes",
                f"{volume} holds {held}: a new volume gets a copy of them, but an existing one keeps its old copy when "
                f"the image changes, and a mounted directory hides them: {advice}",
            )
        if not identity.may(node, WRITE | SEARCH):
            advice = inherited or "change that in the base, or name a directory that the base lacks"
            yield Finding(
                "note", "volumes", f"{described(path, node)} cannot be written to by the image's user: {advice}"
            )


def _held(directory: str, merged: Merged, chosen: Chosen) -> str:
    """What the image has of its packages or the project in a directory; empty if nothing. Extra files may start it."""
    extra = {each.path for each in chosen.extra}
    files = (path for path, each in merged.entries.items() if each.content is not None and path not in extra)
    found = next((each for each in (*merged.wheels, *files) if each.startswith(f"{directory}/")), "")
    if not found.startswith("app/"):
        return ""
    return f"packages in /{VENV}" if found.startswith(f"{VENV}/") else f"files of the project, such as /{found}"


def _unreadable(identity: Identity, chosen: Chosen) -> Iterator[Finding]:
    names = [
        described(each.path, node_of(each))
        for each in chosen.extra
        if each.content is not None and not identity.may(node_of(each), READ)
    ]
    if names:
        more = f" and {len(names) - _MAX_PATHS} more" if len(names) > _MAX_PATHS else ""
        text = f"{', '.join(names[:_MAX_PATHS])}{more} cannot be read by the image's user"
        yield Finding("warning", "extra-files", f"{text}: set owner, or another mode")


def _unreachable_python(merged: Merged, identity: Identity) -> str:
    """Why the user cannot start the base's Python, or import its standard library; empty if nothing is known."""
    target = merged.target
    prefix = posixpath.dirname(posixpath.dirname(target.interpreter))
    wanted = [(target.interpreter, SEARCH)]
    for folder in (f"{prefix}/lib/{target.lib_name}", f"{prefix}/lib64/{target.lib_name}"):
        wanted += [(f"{folder}/{name}", READ) for name in ("os.py", "encodings/__init__.py")]
    for path, right in wanted:
        try:
            resolved, node = merged.reach(path, identity)
        except UnreachableError as error:
            reason = "" if error.missing else str(error)
        else:
            reason = "" if identity.may(node, right) else f"{described(resolved, node)} does not admit it"
        if reason:
            return (
                f"it cannot use the base's Python, {target.interpreter}: {reason}; in the base, install Python where "
                "all can read it (uv: UV_PYTHON_INSTALL_DIR=/opt/python), or chmod 755 the directory; or set user = 0"
            )
    return ""
