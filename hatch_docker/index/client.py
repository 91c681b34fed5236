"""A client of package indexes: it finds the files of a package where the project's sources allow it.

By the simple repository API, JSON (PEP 691) or HTML (PEP 503), over HTTP or in a local directory; or in flat indexes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from urllib.parse import quote, urlsplit

from packaging.utils import canonicalize_name

from hatch_docker.errors import ArtifactError, HatchDockerError, LockError, NetworkError
from hatch_docker.index.credentials import split_login
from hatch_docker.index.flat import FlatIndexes, hashed
from hatch_docker.index.pages import IndexFile, Page, files_of, local_path, read_page
from hatch_docker.index.settings import IndexSettings
from hatch_docker.index.sources import NO_SOURCES, Sources
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.redaction import redact

__all__ = ["Index", "IndexFile", "local_path", "status_error"]

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
_ATTEMPTS = 3
_WHICH_INDEX = "set index-url, or HATCH_DOCKER_INDEX_URL, if another index has it"


class Index:
    """The indexes of an IndexSettings. A package with a source is looked up there alone. Thread-safe."""

    def __init__(
        self,
        settings: IndexSettings,
        http: Http,
        *,
        sources: Sources = NO_SOURCES,
        progress: Progress | None = None,
    ) -> None:
        self._settings = settings
        self._http = http
        self._sources = sources
        self._progress = progress or Progress()
        self._flat = FlatIndexes(self._get)
        self._failed: dict[str, HatchDockerError] = {}
        self._lock = threading.Lock()

    @property
    def urls(self) -> tuple[str, ...]:
        """The indexes that are not explicit, without logins.

        Raises ArtifactError if none is configured and pip is not installed.
        """
        with self._lock:
            return (*self._settings.urls(), *self._settings.flat_urls)

    def files(self, name: str, sources: Sources | None = None) -> list[IndexFile]:
        """The files of a package in the indexes of its source, else in all that are not explicit, the main one first.

        `sources` are those that apply to a target; without them, all do. Raises ConfigError for a source that cannot be
        used, LockError for one that is not an index, and what `files_at` raises.
        """
        name = canonicalize_name(name)
        sources = self._sources if sources is None else sources
        sources.check([name])
        found = sources.of(name)
        mapped = [each.value for each in found if each.kind == "index"]
        if found and not mapped:
            raise LockError(
                f"{name} is not looked up in a package index: its source is {found[0].kind}",
                place=found[0].place,
                hint="lock with the project's own tool, which names that source in its lock, or remove the source",
            )
        return self.files_at(name, mapped or self.urls)

    def files_at(self, name: str, urls: Sequence[str]) -> list[IndexFile]:
        """The files of a package in these indexes alone; an empty URL is the main index.

        An index that fails is skipped with a note if another one has the package, and is not used again. Raises
        ArtifactError if no index has the package, or if one refuses; NetworkError if one does not answer.
        """
        name = canonicalize_name(name)
        asked = [url or self._settings.default_url for url in urls]
        self._http.share(*(url for url in asked if not url.startswith("file:")))
        with self._progress.task("look up", name):
            pages = [page for url in asked if (page := self._ask(url, name, alone=len(asked) == 1)) is not None]
        if pages:
            return [file for page in pages for file in page]
        for url in asked:
            if url in self._failed:
                raise self._failed[url]
        raise ArtifactError(
            f"no package index has {name}",
            place=", ".join(map(redact, asked)),
            hint=f"check the spelling of its name; {_WHICH_INDEX}",
        )

    def _ask(self, url: str, name: str, *, alone: bool) -> list[IndexFile] | None:
        """The files in one index; None if it does not have the package, or has failed."""
        if url in self._failed:
            return None
        self._settings.credentials.remember(url)
        clean, _ = split_login(url)
        try:
            if clean in self._flat_urls():
                return self._flat.files(clean, name) or None
            files = files_of(f"{clean.rstrip('/')}/{quote(name)}/", self._get)
            return files and [hashed(file) for file in files]
        except HatchDockerError as error:
            with self._lock:
                if url not in self._failed and not alone:
                    self._progress.note(f"skipped the package index {redact(url)}: {error.message}")
                self._failed[url] = error
            return None

    def _flat_urls(self) -> Iterable[str]:
        return {*self._settings.flat_urls, *(split_login(each.url)[0] for each in self._sources.indexes if each.flat)}

    def _get(self, url: str) -> Page | None:
        """A page; None if the index does not have it. A body that is cut off is requested again.

        So is HTML without an end, as a proxy may have cut it with the right length, until the same page comes twice.
        """
        credentials = self._settings.credentials
        login = credentials.headers(url)
        page = None
        for attempt in range(_ATTEMPTS):
            response = self._http.request("GET", url, headers={"Accept": _ACCEPT, "Accept-Encoding": "gzip", **login})
            try:
                if response.status in (401, 403) and attempt < _ATTEMPTS - 1:
                    other = credentials.headers(url, refused=True)
                    if other not in ({}, login):
                        login = other
                        continue
                if response.status in (404, 410):
                    # Read to the end, so that the connection can be used again.
                    self._http.body(response, url, limit=1 << 16)
                    return None
                if response.status != 200:
                    raise status_error(response.status, "the package index", url)
                earlier, page = page, read_page(response, url, self._http)
                if not page.seems_cut or page == earlier:
                    return page
            except NetworkError as error:
                if attempt == _ATTEMPTS - 1 or (error.silence and not self._http.may_wait(url, 0)):
                    raise
            finally:
                response.close()
        return page


def status_error(status: int, subject: str, url: str) -> ArtifactError:
    """The error for an HTTP status other than success; `subject` is that of its message."""
    host = urlsplit(redact(url)).hostname or ""
    login = (
        f"put a line 'machine {host} login … password …' into ~/.netrc, run 'uv auth login {host}', or put the login "
        f"into the URL of HATCH_DOCKER_INDEX_URL"
    )
    message, hint = {
        401: ("requires a login, or rejects the one that was sent", login),
        403: ("forbids access", login),
        404: ("does not have it", "the lock may be out of date: lock again"),
        410: ("no longer has it", "the lock may be out of date: lock again"),
        429: ("got too many requests", "wait a little, and try again"),
    }.get(status, ("failed" if status >= 500 else "gave an unexpected answer", "try again later"))
    return ArtifactError(f"{subject} {message} (HTTP {status})", place=redact(url), hint=hint)
