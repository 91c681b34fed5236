"""Flat indexes (find-links): a directory of files, or one page of links to files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from packaging.utils import parse_sdist_filename, parse_wheel_filename

from hatch_docker.errors import ArtifactError
from hatch_docker.index.pages import LARGEST_PAGE, IndexFile, Page, local_path, parse_page
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.redaction import redact
from hatch_docker.support.regular import open_regular, read_regular
from hatch_docker.support.streams import file_digest
from hatch_docker.support.threads import once


class FlatIndexes:
    """Directories and pages of files, each listed once. Thread-safe."""

    def __init__(self, get: Callable[[str], Page | None]) -> None:
        self._get = get
        self._lists: dict[str, Callable[[], list[IndexFile]]] = {}
        self._lock = threading.Lock()

    def files(self, url: str, name: str) -> list[IndexFile]:
        """The files of a package (normalized name). A local file without a hash is hashed.

        Raises ArtifactError if the directory or the page does not exist, and NetworkError.
        """
        with self._lock:
            # A slow page holds up nobody who needs another one.
            listed = self._lists.setdefault(url, once(partial(_listed, url, self._get)))
        return [hashed(file) for file in listed() if name_of(file.filename) == name]


def _listed(url: str, get: Callable[[str], Page | None]) -> list[IndexFile]:
    """All files of a flat index."""
    if url.startswith("file:"):
        path = local_path(url)
        try:
            if path.is_dir():
                files = (each for each in sorted(path.iterdir()) if name_of(each.name))
                return [IndexFile(filename=each.name, url=each.resolve().as_uri()) for each in files]
            return parse_page(Page(url=path.as_uri(), media_type="text/html", body=read_regular(path, LARGEST_PAGE)))
        except OSError as error:
            raise _missing(str(path), error.strerror or str(error)) from None
    page = get(url)
    if page is None:
        raise _missing(redact(url), "the host does not have it")
    return parse_page(page)


def _missing(place: str, reason: str) -> ArtifactError:
    return ArtifactError(
        f"the files of find-links cannot be listed: {reason}", place=place, hint="correct find-links, or remove it"
    )


def hashed(file: IndexFile) -> IndexFile:
    """The file with its hash, which is computed here for a local file if its page has none."""
    if file.hashes or not file.url.startswith("file:"):
        return file
    path = local_path(file.url)
    try:
        with open_regular(path) as content:
            algorithm, _, digest = file_digest(content).partition(":")
        return replace(file, hashes={algorithm: digest}, size=path.stat().st_size)
    except OSError:
        return file


def name_of(filename: str) -> str:
    """The normalized name of the package that a wheel or sdist is of; empty for other files."""
    try:
        parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
        return str(parse(filename)[0])
    except ValueError:
        return ""
