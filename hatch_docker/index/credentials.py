"""The logins of package indexes and of the hosts that hold their files."""

from __future__ import annotations

import base64
import netrc
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.progress import Progress

_SILENT = Progress()
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user name and password. Either may be a token, so repr shows neither."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The logins of index and file hosts. Each is sent only to the host and port that it belongs to.

    `by_url` has those of index URLs, `by_host` those of netrc, `stored` those of a store, by URL. `keyring` looks one
    up, given a URL and a user name, which may be empty; it is asked only after a host has refused. repr shows none.
    """

    by_url: tuple[tuple[str, Login], ...] = field(default=(), repr=False)
    by_host: Mapping[str, Login] = field(default_factory=dict, repr=False)
    stored: tuple[tuple[str, Login], ...] = field(default=(), repr=False)
    keyring: Callable[[str, str], Login | None] | None = field(default=None, repr=False, compare=False)
    indexes: tuple[str, ...] = field(default=(), repr=False)
    _looked_up: dict[str, Login] = field(default_factory=dict, init=False, repr=False, compare=False)

    def login(self, url: str) -> Login | None:
        """The login for a URL: its own, else that of the nearest index on the same host, netrc's, or a stored one.

        A user name alone is completed by the first of the others that has a password for it.
        """
        clean, own = split_login(url)
        if (known := self._looked_up.get(_host(clean))) is not None:
            return known
        origin, _ = _place(clean)
        candidates = [own, _nearest(clean, self.by_url), self.by_host.get(origin[1]), _nearest(clean, self.stored)]
        found = [each for each in candidates if each is not None]
        if not found or found[0].password:
            return found[0] if found else None
        return next((each for each in found if each.password and each.username == found[0].username), found[0])

    def headers(self, url: str, *, refused: bool = False) -> dict[str, str]:
        """The Authorization header for a URL (RFC 7617); empty without a login.

        If a host has `refused` the request, the keyring is asked, and the result is empty if it has no login.
        """
        login = self._from_keyring(url) if refused else self.login(url)
        if login is None:
            return {}
        pair = f"{login.username}:{login.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def _from_keyring(self, url: str) -> Login | None:
        """The keyring's login for the nearest index on the same host, else for the host."""
        if self.keyring is None:
            return None
        clean, _ = split_login(url)
        login = self.login(url)
        if (known := self._looked_up.get(_host(clean))) is not None:
            return known
        if login and login.password:
            return None
        near = _nearest(clean, tuple((index, index) for index in self.indexes)) or clean
        found = self.keyring(near, login.username if login else "")
        if found is not None:
            self._looked_up[_host(clean)] = found
        return found

    def remember(self, url: str) -> None:
        """Use the login of an index URL for its host, too, if that has no other."""
        clean, own = split_login(url)
        if own is not None and self.login(clean) is None:
            self._looked_up[_host(clean)] = own

    def embed(self, url: str) -> str:
        """The URL with its login as userinfo. Pass it in the environment of a child process, never as an argument."""
        login = self.login(url)
        return with_login(url, login) if login else split_login(url)[0]


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


def with_login(url: str, login: Login) -> str:
    """The URL with a login as userinfo, in place of its own."""
    user = f"{quote(login.username, safe='')}:{quote(login.password, safe='')}"
    return split_login(url)[0].replace("://", f"://{user}@", 1)


def expand_login(url: str, expand: Callable[[str], str]) -> str:
    """The URL with `expand` applied to its text, and to the user name and password of its login, which are then quoted.

    A login that becomes empty is left out.
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/@]*)@(.*)", url, re.DOTALL)
    if not match:
        return expand(url)
    # What does not change is quoted already.
    words = [(word, expand(word)) for word in re.split(r"(\$\{\w+\}|\$\w+|:)", match[2])]
    login = "".join(word if word == changed else quote(changed, safe="") for word, changed in words)
    return match[1] + (f"{login}@" if login.strip(":") else "") + expand(match[3])


def split_login(url: str) -> tuple[str, Login | None]:
    """A URL without its userinfo, and the login in that. Malformed URLs are split, too."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)@(.*)", url, re.DOTALL)
    if not match:
        return url, None
    username, _, password = match[2].partition(":")
    return match[1] + match[3], Login(username=unquote(username), password=unquote(password))


def _host(url: str) -> str:
    """The origin of a URL, as a key."""
    return repr(_place(url)[0])


def _nearest(url: str, entries: Sequence[tuple[str, _T]]) -> _T | None:
    """The value of the entry whose URL has the same origin, and the longest path in common."""
    origin, path = _place(url)
    near = [(_place(each)[1], value) for each, value in entries if _place(each)[0] == origin]
    return max(near, key=lambda entry: len(posixpath.commonpath([entry[0], path])))[1] if near else None


def _place(url: str) -> tuple[tuple[str, str, int | None], str]:
    """Origin (scheme, host, port: RFC 6454) and path; each malformed URL has its own origin."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", url, None), "/"
    return (parts.scheme, parts.hostname or "", port), f"/{parts.path}"
