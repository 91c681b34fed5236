"""The logins of package indexes and of the hosts that hold their files."""

from __future__ import annotations

import base64
import netrc
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from hatch_docker.support.progress import Progress

_SILENT = Progress()


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user name and password. Either may be a token, so repr shows neither."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The logins of index and file hosts. Each is sent only to the host and port that it belongs to.

    `by_url` has those of index URLs, `by_host` those of netrc. repr shows none of them.
    """

    by_url: tuple[tuple[str, Login], ...] = field(default=(), repr=False)
    by_host: Mapping[str, Login] = field(default_factory=dict, repr=False)

    def login(self, url: str) -> Login | None:
        """The login for a URL: its own, else that of the nearest index on the same host, else netrc's."""
        clean, own = split_login(url)
        if own:
            return own
        origin, path = _place(clean)
        near = [(_place(index)[1], login) for index, login in self.by_url if _place(index)[0] == origin]
        if near:
            return max(near, key=lambda entry: len(posixpath.commonpath([entry[0], path])))[1]
        return self.by_host.get(origin[1])

    def headers(self, url: str) -> dict[str, str]:
        """The Authorization header for a URL (RFC 7617); empty without a login."""
        login = self.login(url)
        if login is None:
            return {}
        pair = f"{login.username}:{login.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def embed(self, url: str) -> str:
        """The URL with its login as userinfo. Pass it in the environment of a child process, never as an argument."""
        login = self.login(url)
        clean, _ = split_login(url)
        if login is None:
            return clean
        user = f"{quote(login.username, safe='')}:{quote(login.password, safe='')}"
        parts = urlsplit(clean)
        return urlunsplit((parts.scheme, f"{user}@{parts.netloc}", parts.path, parts.query, parts.fragment))


def read_netrc(environ: Mapping[str, str], *, home: Path, progress: Progress = _SILENT) -> dict[str, Login]:
    """The logins of $NETRC or the user's netrc file, by host, without its `default`, which applies to any host."""
    named = environ.get("NETRC")
    for path in [Path(named)] if named else [home / ".netrc", home / "_netrc"]:
        try:
            hosts = netrc.netrc(str(path)).hosts
        except FileNotFoundError:
            continue
        except (OSError, ValueError, netrc.NetrcParseError):
            progress.note(f"{path} cannot be read as netrc: its logins are ignored")
            return {}
        return {
            host: Login(username=login or account or "", password=password or "")
            for host, (login, account, password) in hosts.items()
            if host != "default"
        }
    return {}


def split_login(url: str) -> tuple[str, Login | None]:
    """A URL without its userinfo, and the login in that. Malformed URLs are split, too."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)@(.*)", url, re.DOTALL)
    if not match:
        return url, None
    username, _, password = match[2].partition(":")
    return match[1] + match[3], Login(username=unquote(username), password=unquote(password))


def _place(url: str) -> tuple[tuple[str, str, int | None], str]:
    """Origin (scheme, host, port: RFC 6454) and path; each malformed URL has its own origin."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", url, None), "/"
    return (parts.scheme, parts.hostname or "", port), f"/{parts.path}"
