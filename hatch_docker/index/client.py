"""A client of the simple repository API, which lists the files of a package.

JSON (PEP 691) if the index supports it, else HTML (PEP 503), over HTTP or in a local directory.
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
    """One file of an index. `url` is absolute; `hashes` are hexadecimal digests by algorithm, `size` is in bytes.

    `requires_python` is empty, and `size` None, if the index does not say. `reason` says why the file is `yanked`
    (PEP 592).
    """

    filename: str
    url: str
    hashes: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    requires_python: str = ""
    yanked: bool = False
    reason: str = ""


class Index:
    """The indexes of an IndexSettings, which are all searched for each name. Thread-safe."""

    def __init__(self, settings: IndexSettings, http: Http, *, progress: Progress | None = None) -> None:
        self._settings = settings
        self._http = http
        self._progress = progress or Progress()
        self._failed: dict[str, HatchDockerError] = {}
        self._lock = threading.Lock()

    @property
    def urls(self) -> tuple[str, ...]:
        """The indexes, without logins. Raises ArtifactError if none is configured and pip is not installed."""
        with self._lock:
            return self._settings.urls()

    def files(self, name: str) -> list[IndexFile]:
        """The files of a package in all indexes, those of the main index first.

        An index that fails is skipped with a note if another one has the package, and is not used again. Raises
        ArtifactError if no index has the package, or if one refuses; NetworkError if one does not answer.
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
            hint=f"check the spelling of its name; {_WHICH_INDEX}",
        )

    def _ask(self, url: str, name: str) -> list[IndexFile] | None:
        if url in self._failed:
            return None
        try:
            return _files_at(f"{url.rstrip('/')}/{quote(canonicalize_name(name))}/", self._get)
        except HatchDockerError as error:
            with self._lock:
                if url not in self._failed and len(self._settings.urls()) > 1:
                    self._progress.note(f"skipped the package index {redact(url)}: {error.message}")
                self._failed[url] = error
            return None

    def _get(self, url: str) -> _Page | None:
        """A page; None if the index does not have it. A body that is cut off is requested again."""
        headers = {"Accept": _ACCEPT, "Accept-Encoding": "gzip", **self._settings.credentials.headers(url)}
        for attempt in range(_ATTEMPTS):
            response = self._http.request("GET", url, headers=headers)
            try:
                if response.status in (404, 410):
                    # Read to the end, so that the connection can be used again.
                    response.read(1 << 16)
                    return None
                if response.status != 200:
                    raise status_error(response.status, "the package index", url)
                return _read(response, url)
            except HTTPError as error:
                if attempt == _ATTEMPTS - 1:
                    raise translate(error, url) from None
            finally:
                response.close()
        return None


def status_error(status: int, subject: str, url: str) -> ArtifactError:
    """The error for an HTTP status other than success; `subject` is that of its message."""
    host = urlsplit(redact(url)).hostname or ""
    login = (
        f"put a line 'machine {host} login … password …' into ~/.netrc, or the login into the URL of "
        f"HATCH_DOCKER_INDEX_URL"
    )
    message, hint = {
        401: ("requires a login, or rejects the one that was sent", login),
        403: ("forbids access", login),
        404: ("does not have it", "the lock may be out of date: lock again"),
        410: ("no longer has it", "the lock may be out of date: lock again"),
        429: ("got too many requests", "wait a little, and try again"),
    }.get(status, ("failed" if status >= 500 else "gave an unexpected answer", "try again later"))
    return ArtifactError(f"{subject} {message} (HTTP {status})", place=redact(url), hint=hint)


def local_path(url: str) -> Path:
    """The path of a file URL (RFC 8089). Raises ArtifactError if it is not a valid path."""
    try:
        parts = urlsplit(url)
        host = "" if parts.netloc == "localhost" else parts.netloc
        path = url2pathname(f"//{host}{parts.path}" if host else parts.path)
    except (OSError, ValueError):
        path = ""
    if not path or "\0" in path:
        raise ArtifactError("the URL is not that of a file on this machine", place=redact(url))
    return Path(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    url: str
    media_type: str
    body: bytes


def _read(response: urllib3.BaseHTTPResponse, url: str) -> _Page:
    body = response.read(_LARGEST_PAGE + 1)
    if len(body) > _LARGEST_PAGE:
        raise ArtifactError("the page is too large for a package index", place=redact(url))
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return _Page(url=final_url(response, url), media_type=media_type, body=body)


def _files_at(url: str, get: Callable[[str], _Page | None]) -> list[IndexFile] | None:
    """The files on a package's page; None if the page does not exist."""
    page = _local(url) if url.startswith("file:") else get(url)
    if page is None:
        return None
    kind = next((kind for kind in _PARSERS if kind in page.media_type), None)
    if kind is None:
        raise ArtifactError(
            f"this is not a package index: it answers {page.media_type or 'without a media type'}",
            place=redact(url),
            hint="an index follows PEP 503 or PEP 691; its URL often ends in /simple/",
        )
    try:
        return list(filter(None, _PARSERS[kind](page)))
    except (ValueError, AssertionError, RecursionError):
        raise ArtifactError("the page of the package index cannot be parsed", place=redact(url)) from None


def _local(url: str) -> _Page | None:
    page = urljoin(url, "index.html")
    try:
        return _Page(url=page, media_type="text/html", body=local_path(page).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if local_path(url).parent.is_dir():
            return None
        raise ArtifactError("this package index does not exist", place=str(local_path(url).parent)) from None
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
    for attributes in anchors.links:
        href, _, fragment = (attributes["href"] or "").strip().partition("#")
        algorithm, _, digest = fragment.partition("=")
        yield _index_file(
            base,
            {
                "filename": unquote(href.partition("?")[0].rsplit("/", 1)[-1]),
                "url": href,
                "hashes": {algorithm: digest} if digest else {},
                "requires-python": attributes.get("data-requires-python"),
                # An attribute without a value gives no reason.
                "yanked": "data-yanked" in attributes and (attributes["data-yanked"] or True),
            },
        )


# By a part of the media type.
_PARSERS: dict[str, Callable[[_Page], Iterable[IndexFile | None]]] = {"json": _parse_json, "html": _parse_html}


# An absolute URL without a login, as nearly all are: it skips parsing, on pages of ten thousand files.
_ABSOLUTE = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,4})?/[!-~]*")


def _resolved(base: str, url: str) -> str:
    """A URL of a page, made absolute, without a login. Raises ValueError for a malformed one."""
    absolute, _ = split_login(urljoin(base, url))
    urlsplit(absolute)
    return absolute


def _index_file(base: str, entry: Mapping[str, Any]) -> IndexFile | None:
    """The file of an entry of a page; None for an invalid entry."""
    filename, url, hashes, size = (entry.get(key) for key in ("filename", "url", "hashes", "size"))
    if not isinstance(filename, str) or not isinstance(url, str) or not filename or not url:
        return None
    # Lone surrogates and control characters can be neither printed nor sent.
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
    """Check the version of the API (PEP 629): a newer major version is not compatible, a newer minor one is."""
    major = str(version or "1.0").partition(".")[0]
    if not major.isdecimal():
        raise ValueError
    if int(major) > 1:
        raise ArtifactError(
            f"the package index has version {major} of the API, and only version 1 is supported",
            place=redact(url),
            hint="a newer hatch-docker may support it",
        )


class _Anchors(HTMLParser):
    """Collects the links of a page, its base URL, and its version of the API."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[dict[str, str | None]] = []
        self.base = ""
        self.version = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Handle one tag; called by the parser."""
        attributes = dict(attrs)
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes)
        elif tag == "base" and attributes.get("href") and not self.base:
            self.base = attributes["href"] or ""
        elif tag == "meta" and attributes.get("name") == "pypi:repository-version":
            self.version = attributes.get("content") or ""
