"""`hatch-docker push`: push an image that an earlier step of a pipeline has written, whatever its tool."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from hatch_docker.config import as_mistake, check_push, fail, gather
from hatch_docker.oci.foreign import open_graph
from hatch_docker.oci.layout import open_files
from hatch_docker.oci.reference import Reference
from hatch_docker.session import Session


def command(chosen: argparse.Namespace) -> Callable[[Session], tuple[str, int]]:
    """The command. Raises ConfigError with all mistakes of the command line."""
    references = gather(partial(_reference, text) for text in chosen.references)
    if not chosen.file:
        fail("FILE", "it is empty: name a file or folder")
    return partial(push, chosen.file, references)


def push(source: str, references: Sequence[Reference], session: Session) -> tuple[str, int]:
    """Push what `source` names, FILE or FILE:NAME, under all references; returns the lines to print, and 0.

    Raises ImageError, RegistryError.
    """
    session.check_settings()
    services = session.services
    path, name = _split(source)
    root = open_graph(open_files(path), name, services.cache, progress=services.progress)
    digest = services.registry.push(root, references, threads=services.threads, progress=services.progress)
    return "\n".join(str(reference.with_digest(digest)) for reference in references), 0


def _reference(text: str) -> Reference:
    """Parse a name to push to. Raises ConfigError."""
    parsed: list[Reference] = []
    as_mistake(text, lambda: parsed.append(Reference.parse(text)))
    (reference,) = parsed
    if reference.digest:
        fail(text, "an image is pushed to a tag, not to a digest: leave out what follows the '@'")
    check_push(reference, text)
    return reference.with_tag(reference.tag or "latest")


def _split(source: str) -> tuple[Path, str]:
    """The path and the name of FILE:NAME. Names have colons, too: the path is the shortest that exists."""
    parts = source.split(":")
    for count in range(1, len(parts) + 1):
        path = ":".join(parts[:count])
        if path and Path(path).exists():
            return Path(path), ":".join(parts[count:])
    return Path(source), ""
