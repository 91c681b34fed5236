"""Remove what may be secret from URLs in messages: the user part and the query."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from hatch_docker.support.patterns import regex

# In a text: the user part and the query of a URL, which may hold secrets.
_USER = regex(
    r"""(?<=://)(?:
        [^/@:\[\s]*:(?!\d+(?![^/?\#\s"'`<>]))[^\s"'`<>]*@  # a password that is not quoted, instead of a port
        | [^/\s"'`<>]+@)""",
    re.VERBOSE,
)
_QUERY = regex(r"(?<=://)([^?\s\"'`<>]+)\?[^#\s\"'`<>]*")


def redact(url: str) -> str:
    """The URL without user part, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(url)
        # A password that is not quoted may be taken for a port and a path.
        _ = parts.port
    except ValueError:
        return "(a malformed URL)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redact_text(text: str) -> str:
    """A text in which no URL has a user part or a query."""
    return _QUERY.sub(r"\1", _USER.sub("", text))
