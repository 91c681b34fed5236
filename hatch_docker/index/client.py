"""A client of the simple repository API: which files an index has of a package.

JSON (PEP 691) where the index speaks it, else HTML (PEP 503), over HTTP or in a local folder.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import url2pathname

import urllib3
from packaging.utils import canonicalize_name
from urllib3.exceptions import HTTPError

from hatch_docker.errors import ArtifactError, HatchDockerError
from hatch_docker.index.credentials import split_login
from hatch_docker.index.settings import IndexSettings
from hatch_docker.support.http import Http, final_url, redact, translate
from hatch_docker.support.progress import Progress

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
_LARGEST_PAGE = 1 << 28
_ATTEMPTS = 3
_WHICH_INDEX = "set index-url, or HATCH_DOCKER_INDEX_URL, if another index has it"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """One file that an index offers. `url` is absolute; `hashes` are hexadecimal digests by algorithm, `size` bytes.

    `requires_python` is empty, and `size` None, where the index does not say. `reason` says why it
    is `yanked` (PEP 592).
    """

    filename: str
    url: str
    hashes: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    requires_python: str = ""
    yanked: bool = False
    reason: str = ""


class Index:
    """The indexes of some settings, all searched for each name. Thread-safe."""

    def __init__(self, settings: IndexSettings, http: Http, *, progress: Progress | None = None) -> None:
        self._settings = settings
        self._http = http
        self._progress = progress or Progress()
        self._failed: dict[str, HatchDockerError] = {}
        self._lock = threading.Lock()

    @property
    def urls(self) -> tuple[str, ...]:
        """The indexes that are searched, without logins. Raises ArtifactError where none is named and pip is absent."""
        with self._lock:
            return self._settings.urls()

    def files(self, name: str) -> list[IndexFile]:
        """Every file of a package, those of the main index first.

        An index that fails is passed over with a note as long as another one has the package, and is not asked again.
        Raises ArtifactError where no index has it, or where one refuses; NetworkError where one does not answer.
        """
        with self._progress.task("look up", name):
            pages = [page for url in self.urls if (page := self._ask(url, name)) is not None]
        if pages:
            return [file for page in pages for file in page]
        for url in self.urls:
            if url in self._failed:
                raise self._failed[url]
        raise ArtifactError(
            f"no package index has {name}",
            place=", ".join(map(redact, self.urls)),
            hint=f"check how its name is written; {_WHICH_INDEX}",
        )

    def _ask(self, url: str, name: str) -> list[IndexFile] | None:
        if url in self._failed:
            return None
        try:
            return _files_at(f"{url.rstrip('/')}/{quote(canonicalize_name(name))}/", self._get)
        except HatchDockerError as error:
            with self._lock:
                if url not in self._failed and len(self._settings.urls()) > 1:
                    self._progress.note(f"passed over the package index {redact(url)}: {error.message}")
                self._failed[url] = error
            return None

    def _get(self, url: str) -> _Page | None:
        """A page; None where the index has no such. A body that breaks off is asked for again."""
        headers = {"Accept": _ACCEPT, "Accept-Encoding": "gzip", **self._settings.credentials.headers(url)}
        for attempt in range(_ATTEMPTS):
            response = self._http.request("GET", url, headers=headers)
            try:
                if response.status in (404, 410):
                    # To its end, or the connection cannot be used again.
                    response.read(1 << 16)
                    return None
                if response.status != 200:
                    raise refusal(response.status, "the package index", url)
                return _read(response, url)
            except HTTPError as error:
                if attempt == _ATTEMPTS - 1:
                    raise translate(error, url) from None
            finally:
                response.close()
        return None


def refusal(status: int, who: str, url: str) -> ArtifactError:
    """The error for an HTTP status that is no success; `who` is the subject of its message."""
    host = urlsplit(redact(url)).hostname or ""
    login = (
        f"put a line 'machine {host} login … password …' into ~/.netrc, or the login into the URL of "
        f"HATCH_DOCKER_INDEX_URL"
    )
    message, hint = {
        401: ("wants a login, or does not know the one it got", login),
        403: ("does not allow this", login),
        404: ("does not have it", "the lock may be out of date: lock again"),
        410: ("does not have it any more", "the lock may be out of date: lock again"),
        429: ("was asked too often", "wait a little, and try again"),
    }.get(status, ("fails" if status >= 500 else "gives an unexpected answer", "try again later"))
    return ArtifactError(f"{who} {message} (HTTP {status})", place=redact(url), hint=hint)


def local_path(url: str) -> Path:
    """The path that a file URL names (RFC 8089). Raises ArtifactError for what cannot be a path."""
    try:
        parts = urlsplit(url)
        host = "" if parts.netloc == "localhost" else parts.netloc
        path = url2pathname(f"//{host}{parts.path}" if host else parts.path)
    except (OSError, ValueError):
        path = ""
    if not path or "\0" in path:
        raise ArtifactError("that URL names no file on this machine", place=redact(url))
    return Path(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    url: str
    media_type: str
    body: bytes


def _read(response: urllib3.BaseHTTPResponse, url: str) -> _Page:
    body = response.read(_LARGEST_PAGE + 1)
    if len(body) > _LARGEST_PAGE:
        raise ArtifactError("the page is larger than any index's should be", place=redact(url))
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return _Page(url=final_url(response, url), media_type=media_type, body=body)


def _files_at(url: str, get: Callable[[str], _Page | None]) -> list[IndexFile] | None:
    """The files on a package's page; None where there is no such page."""
    page = _local(url) if url.startswith("file:") else get(url)
    if page is None:
        return None
    kind = next((kind for kind in _PARSERS if kind in page.media_type), None)
    if kind is None:
        raise ArtifactError(
            f"that is no package index: it answers {page.media_type or 'something without a type'}",
            place=redact(url),
            hint="an index follows PEP 503 or PEP 691; its URL often ends in /simple/",
        )
    try:
        return list(filter(None, _PARSERS[kind](page)))
    except (ValueError, AssertionError, RecursionError):
        raise ArtifactError("the package index gives a page that cannot be read", place=redact(url)) from None


def _local(url: str) -> _Page | None:
    page = urljoin(url, "index.html")
    try:
        return _Page(url=page, media_type="text/html", body=local_path(page).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if local_path(url).parent.is_dir():
            return None
        raise ArtifactError("there is no such package index", place=str(local_path(url).parent)) from None
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror or error}", place=str(local_path(page))) from None


def _parse_json(page: _Page) -> Iterator[IndexFile | None]:
    """PEP 691, with the `size` of PEP 700."""
    document = json.loads(page.body)
    if not isinstance(document, dict) or not isinstance(document.get("files"), list):
        raise ValueError
    meta = document.get("meta")
    _check_version(meta.get("api-version") if isinstance(meta, dict) else None, page.url)
    for entry in document["files"]:
        if isinstance(entry, dict):
            yield _index_file(page.url, entry)


def _parse_html(page: _Page) -> Iterator[IndexFile | None]:
    """PEP 503, with the version of PEP 629."""
    anchors = _Anchors()
    anchors.feed(page.body.decode("utf-8", errors="replace"))
    anchors.close()
    _check_version(anchors.version, page.url)
    base = urljoin(page.url, anchors.base)
    for attributes in anchors.found:
        href, _, fragment = (attributes["href"] or "").strip().partition("#")
        algorithm, _, digest = fragment.partition("=")
        yield _index_file(
            base,
            {
                "filename": unquote(href.partition("?")[0].rsplit("/", 1)[-1]),
                "url": href,
                "hashes": {algorithm: digest} if digest else {},
                "requires-python": attributes.get("data-requires-python"),
                # An attribute without a value is a file without a reason.
                "yanked": "data-yanked" in attributes and (attributes["data-yanked"] or True),
            },
        )


# By what their media type contains.
_PARSERS: dict[str, Callable[[_Page], Iterable[IndexFile | None]]] = {"json": _parse_json, "html": _parse_html}


# Nothing to resolve and no login: what nearly every URL is, on pages of ten thousand files.
_ABSOLUTE = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,4})?/[!-~]*")


def _resolved(base: str, url: str) -> str:
    """A URL of a page as an absolute one without login; raises ValueError where it is malformed."""
    absolute, _ = split_login(urljoin(base, url))
    urlsplit(absolute)
    return absolute


def _index_file(base: str, entry: Mapping[str, Any]) -> IndexFile | None:
    """A file of a page; None for an entry that names none."""
    filename, url, hashes, size = (entry.get(key) for key in ("filename", "url", "hashes", "size"))
    if not isinstance(filename, str) or not isinstance(url, str) or not filename or not url:
        return None
    # Lone surrogates and control characters fail wherever they are shown or sent.
    if not filename.isprintable() or not url.isprintable() or "/" in filename:
        return None
    try:
        absolute = url if _ABSOLUTE.fullmatch(url) else _resolved(base, url)
    except ValueError:
        return None
    requires_python, yanked = entry.get("requires-python"), entry.get("yanked")
    pairs = hashes.items() if isinstance(hashes, dict) else ()
    return IndexFile(
        filename=filename,
        url=absolute,
        hashes={key: value for key, value in pairs if isinstance(value, str)},
        size=size if type(size) is int and 0 <= size < 1 << 63 else None,
        requires_python=requires_python if isinstance(requires_python, str) else "",
        yanked=bool(yanked),
        reason=yanked if isinstance(yanked, str) else "",
    )


def _check_version(version: object, url: str) -> None:
    """PEP 629: a newer major version may mean something else; a newer minor one does not."""
    major = str(version or "1.0").partition(".")[0]
    if not major.isdecimal():
        raise ValueError
    if int(major) > 1:
        raise ArtifactError(
            f"the package index speaks version {major} of its API, and only version 1 is known here",
            place=redact(url),
            hint="a newer hatch-docker may know it",
        )


class _Anchors(HTMLParser):
    """The links of a page, its base, and the version of the API."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.base = ""
        self.version = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser for each tag."""
        attributes = dict(attrs)
        if tag == "a" and attributes.get("href"):
            self.found.append(attributes)
        elif tag == "base" and attributes.get("href") and not self.base:
            self.base = attributes["href"] or ""
        elif tag == "meta" and attributes.get("name") == "pypi:repository-version":
            self.version = attributes.get("content") or ""
