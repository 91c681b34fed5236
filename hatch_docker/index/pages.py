"""The pages of package indexes, and the files that they list (PEP 503, PEP 691); local ones, too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import urllib3

from hatch_docker.errors import ArtifactError
from hatch_docker.index.credentials import split_login
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.http import Http, final_url
from hatch_docker.support.numbers import has_long_number
from hatch_docker.support.patterns import regex
from hatch_docker.support.redaction import redact
from hatch_docker.support.regular import read_regular

LARGEST_PAGE = 1 << 28
# Of HTML that begins, and does not end. Real pages have none.
_MOST_OPEN = 500
# In bytes: how much of a page's beginning and end may have its outermost tag.
_EDGE = 1 << 12


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
class Page:
    """The answer of an index, with its URL after redirects."""

    url: str
    media_type: str
    body: bytes

    @property
    def seems_cut(self) -> bool:
        """Whether it is HTML that begins and does not end. Some pages do not, since HTML allows that."""
        begins, ends = self.body[:_EDGE].lower(), self.body[-_EDGE:].lower()
        return "html" in self.media_type and b"<html" in begins and b"</html" not in ends


def read_page(response: urllib3.BaseHTTPResponse, url: str, http: Http) -> Page:
    """The page of a response. Raises ArtifactError if it is too large, NetworkError if it breaks off."""
    body = http.body(response, url, limit=LARGEST_PAGE)
    if len(body) > LARGEST_PAGE:
        raise ArtifactError("the page is too large for a package index", place=redact(url))
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return Page(url=final_url(response, url), media_type=media_type, body=body)


def files_of(url: str, get: Callable[[str], Page | None]) -> list[IndexFile] | None:
    """The files on a package's page; None if the page does not exist."""
    page = _local(url) if url.startswith("file:") else get(url)
    return None if page is None else parse_page(page)


def parse_page(page: Page) -> list[IndexFile]:
    """The files on a page. Raises ArtifactError for a page that no index has."""
    kind = next((kind for kind in _PARSERS if kind in page.media_type), None)
    if kind is None:
        raise ArtifactError(
            f"this is not a package index: it answers {page.media_type or 'without a media type'}",
            place=redact(page.url),
            hint="an index follows PEP 503 or PEP 691; its URL often ends in /simple/",
        )
    try:
        return list(filter(None, _PARSERS[kind](page)))
    except (ValueError, AssertionError, RecursionError):
        raise ArtifactError("the page of the package index cannot be parsed", place=redact(page.url)) from None


def _local(url: str) -> Page | None:
    page = urljoin(url, "index.html")
    try:
        return Page(url=page, media_type="text/html", body=read_regular(local_path(page), LARGEST_PAGE))
    except (FileNotFoundError, NotADirectoryError):
        if local_path(url).parent.is_dir():
            return None
        raise ArtifactError("this package index does not exist", place=str(local_path(url).parent)) from None
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror or error}", place=str(local_path(page))) from None


def _parse_json(page: Page) -> Iterator[IndexFile | None]:
    """PEP 691, with the `size` of PEP 700."""
    document = json.loads(page.body)
    if not isinstance(document, dict) or not isinstance(document.get("files"), list):
        raise ValueError
    meta = document.get("meta")
    _check_version(meta.get("api-version") if isinstance(meta, dict) else None, page.url)
    for entry in document["files"]:
        if isinstance(entry, dict):
            yield _index_file(page.url, entry)


def _parse_html(page: Page) -> Iterator[IndexFile | None]:
    """PEP 503, with the version of PEP 629."""
    anchors = _Anchors()
    text = page.body.decode("utf-8", errors="replace")
    _check_closed(text)
    anchors.feed(text)
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


def _check_closed(text: str) -> None:
    """Raise ValueError for many tags, comments or sections without end: html.parser takes quadratic time for them."""
    comments = text.count("<!--") - text.count("-->")
    if max(comments, text.count("<!["), *(each.count("<") for each in text.split(">"))) > _MOST_OPEN:
        raise ValueError


# By a part of the media type.
_PARSERS: dict[str, Callable[[Page], Iterable[IndexFile | None]]] = {"json": _parse_json, "html": _parse_html}


# An absolute URL without a login, as nearly all are: it skips parsing, on pages of ten thousand files.
_ABSOLUTE = regex(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,4})?/[!-~]*")


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
    if not filename.isprintable() or not url.isprintable() or "/" in filename or has_long_number(filename):
        return None
    try:
        absolute = url if _ABSOLUTE.fullmatch(url) else _resolved(base, url)
    except ValueError:
        return None
    requires_python, yanked = entry.get("requires-python"), entry.get("yanked")
    if isinstance(requires_python, str) and has_long_number(requires_python):
        return None
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
