"""A zoo of locks, and of answers of package indexes: each is refused with a message, or read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import test_locks
from packaging.requirements import Requirement
from zoo import Record, visit

from hatch_docker.index.access import FileFinder
from hatch_docker.index.pages import IndexFile, Page, parse_page
from hatch_docker.locks import read_lock, select
from hatch_docker.locks.formats import lock_format
from hatch_docker.locks.model import recorded

_LONG = "1" * 5000
_POETRY = {
    "package": [
        {
            "name": "web",
            "version": "1",
            "optional": False,
            "groups": ["main"],
            "markers": "python_version >= '3.8'",
            "python-versions": ">=3.8",
            "files": [{"file": "web-1-py3-none-any.whl", "hash": f"sha256:{test_locks.HASH}"}],
            "dependencies": {"numpy": ">=1"},
            "source": {"type": "legacy", "url": "https://index.example/simple", "reference": "x"},
        }
    ],
    "metadata": {"lock-version": "2.1", "python-versions": ">=3.8", "content-hash": "a" * 64},
}
_PDM = {
    "metadata": {
        "groups": ["default"], "strategy": ["inherit_metadata"], "lock_version": "4.5.0", "content_hash": "sha256:a",
        "targets": [{"requires_python": ">=3.8"}],
    },
    "package": [
        {
            "name": "web", "version": "1", "requires_python": ">=3.8", "summary": "x", "groups": ["default"],
            "marker": "python_version >= '3.8'", "dependencies": ["numpy>=1"],
            "files": [{"file": "web-1-py3-none-any.whl", "hash": f"sha256:{test_locks.HASH}"}],
        }
    ],
}  # fmt: skip
_PIPFILE = {
    "_meta": {
        "hash": {"sha256": "a"}, "pipfile-spec": 6, "requires": {"python_version": "3.13"},
        "sources": [{"name": "pypi", "url": "https://index.example/simple", "verify_ssl": True}],
    },
    "default": {"web": {"hashes": [f"sha256:{test_locks.HASH}"], "version": "==1", "index": "pypi", "markers": "x"}},
    "develop": {},
}  # fmt: skip
LOCKS: Mapping[str, Mapping[str, Any]] = {
    "uv.lock": test_locks.VALID_UV,
    "pylock.toml": test_locks.VALID_PYLOCK,
    "poetry.lock": _POETRY,
    "pdm.lock": _PDM,
    "Pipfile.lock": _PIPFILE,
}
_MISSING = object()
_VALUES: Mapping[str, Any] = {"missing": _MISSING, "a number": -1, "a text": "\x1b[2J"}
_MORE: Mapping[str, Any] = {"empty": [], "a table": {"x": 1}, "a long number": _LONG, "10**30": 10**30}


def _places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """All places in a document: of arrays, the first element."""
    if path:
        yield path
    pairs = (
        value.items() if isinstance(value, Mapping) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    )
    for key, inner in pairs:
        yield from _places(inner, *path, key)


def _with(document: Mapping[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made: Any = copy.deepcopy(document)
    inner = made
    for each in path[:-1]:
        inner = inner[each]
    if value is _MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return made  # type: ignore[no-any-return]


def _damaged() -> dict[str, tuple[str, Mapping[str, Any]]]:
    return {
        f"{name}: {'.'.join(map(str, path))} is {what}": (name, _with(valid, path, value))
        for name, valid in LOCKS.items()
        for path in _places(valid)
        for what, value in _VALUES.items()
    }


_LONG_ONES = {
    f"{name}: {'.'.join(map(str, path))} is a long number": (name, _with(valid, path, _LONG))
    for name, valid in LOCKS.items()
    for path in _places(valid)
    if path[-1] in ("version", "marker", "markers", "requires_python", "requires-python", "file", "url", "lock-version")
}
DOCUMENTS = {**_damaged(), **_LONG_ONES}
_HASH = f"--hash=sha256:{test_locks.HASH}"
LINES = {
    "nothing": "",
    "only a hash": _HASH,
    "only an option": "--pre",
    "an unknown option": "--unknown x",
    "no version": f"six {_HASH}",
    "a range": f"six>=1 {_HASH}",
    "a wildcard": f"six==1.* {_HASH}",
    "three equals signs": f"six===x {_HASH}",
    "two versions": f"six==1,==2 {_HASH}",
    "a long version": f"six=={_LONG} {_HASH}",
    "a version of Arabic digits": f"six==١ {_HASH}",
    "a name with a path": f"../six==1 {_HASH}",
    "md5": "six==1 --hash=md5:" + "a" * 32,
    "an unknown hash": "six==1 --hash=crc32:aaaaaaaa",
    "a short hash": "six==1 --hash=sha256:aa",
    "a hash that is none": "six==1 --hash=sha256:" + "z" * 64,
    "no hash": "six==1 --hash=",
    "a hash in upper case": "six==1 --hash=SHA256:" + "A" * 64,
    "two packages": f"six==1 idna==2 {_HASH}",
    "a package twice": f"six==1 {_HASH}\nsix==1 {_HASH}",
    "a package twice, contradicting": f"six==1 {_HASH}\nsix==2 {_HASH}",
    "a package without a hash": f"six==1 {_HASH}\nidna==2",
    "an extra": f"six[x]==1 {_HASH}",
    "an endless extra": f"six[{'x,' * 5000}]==1 {_HASH}",
    "an open extra": f"six[x==1 {_HASH}",
    "a URL of a file": f"six @ file:///etc/passwd {_HASH}",
    "a URL of another scheme": f"six @ gopher://a/six-1.zip {_HASH}",
    "a URL without a host": f"six @ https:///six-1-py3-none-any.whl {_HASH}",
    "a URL with a bad port": f"six @ https://a:99999/six-1-py3-none-any.whl {_HASH}",
    "a URL with a bad address": f"six @ https://[::/six-1-py3-none-any.whl {_HASH}",
    "a URL with a NUL": f"six @ https://a/%00/six-1-py3-none-any.whl {_HASH}",
    "a URL of another package": f"six @ https://a/idna-1-py3-none-any.whl {_HASH}",
    "a commit": "six @ git+https://a/b@main",
    "a commit by an option": "six @ git+https://a/b@--upload-pack=x",
    "an editable": "-e .",
    "an editable out of it": "-e ../../..",
    "a path": "./six-1-py3-none-any.whl",
    "a directory": "/etc",
    "a marker": f"six==1 ; python_version > '3' {_HASH}",
    "a marker of nothing": f"six==1 ; {_HASH}",
    "a marker that is none": f"six==1 ; x {_HASH}",
    "a marker without an end": f"six==1 ; python_version > '3 {_HASH}",
    "a marker of numbers": f"six==1 ; '1' > '2' {_HASH}",
    "a marker with a long number": f"six==1 ; python_version > '{_LONG}' {_HASH}",
    "a deep marker": f"six==1 ; {'(' * 500}python_version > '3'{')' * 500} {_HASH}",
    "a long marker": f"six==1 ; {' or '.join(['os_name == $x$'.replace('$', chr(39))] * 500)} {_HASH}",
    "a NUL": f"six==1\0 {_HASH}",
    "an escape": f"six==1 \x1b[2J {_HASH}",
    "a BOM": f"\ufeffsix==1 {_HASH}",
    "a backslash at the end": f"six==1 {_HASH} \\",
    "many backslashes": f"six==1 {chr(92) * 999} {_HASH}",
    "an open quotation mark": f"six==1 '{_HASH}",
    "a variable": f"six==${{X}} {_HASH}",
    "a variable of itself": f"${{${{X}}}}==1 {_HASH}",
    "itself": "-r requirements.txt",
    "a missing file": "-r missing.txt",
    "a file of an index": "-r https://a/b.txt",
    "a directory as a file": "-r .",
    "an index that is none": f"--index-url x\nsix==1 {_HASH}",
    "an index with a bad address": f"--index-url https://[::\nsix==1 {_HASH}",
    "an index twice": f"-i https://a\n-i https://b\nsix==1 {_HASH}",
    "no index": f"--no-index\nsix==1 {_HASH}",
    "links that are none": f"-f \0\nsix==1 {_HASH}",
    "an encoding that is none": f"# -*- coding: none -*-\nsix==1 {_HASH}",
    "an encoding that runs code": f"# -*- coding: zlib_codec -*-\nsix==1 {_HASH}",
    "UTF-7": f"# -*- coding: utf-7 -*-\nsix+AD0APQ-1 {_HASH}",
    "a conflict": f"<<<<<<< HEAD\nsix==1 {_HASH}\n=======\n",
    "lines of CR": f"six==1 {_HASH}\ridna==1 {_HASH}",
    "form feeds": f"six==1 {_HASH}\fidna==1 {_HASH}",
    "line separators": f"six==1 {_HASH}\u2028idna==1 {_HASH}",
}


def _finder() -> FileFinder:
    return FileFinder(files=test_locks.serving(six=[test_locks.index_file("six-1-py3-none-any.whl")]))


def taken(path: Path) -> object:
    """Read a lock, compare it with the project, and choose its files, as a build does."""
    required = [Requirement("web[fast]>=0"), Requirement("numpy"), Requirement("url")]
    request = test_locks.request_for(
        test_locks.SLIM,
        root=path.parent,
        requirements=required,
        groups=frozenset({"dev"} if path.name == "uv.lock" else ()),
    )
    pylock = read_lock(path, request, _finder())
    lock_format(path).changes(path, request, recorded(pylock))
    return select(pylock, test_locks.request_for(test_locks.SLIM), lock=path)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_lock(name: str, tmp_path: Path, record_property: Record) -> None:
    kind, document = DOCUMENTS[name]
    path = tmp_path / kind
    if kind == "Pipfile.lock":
        path.write_text(json.dumps(document))
    else:
        test_locks.write(path, document)
    visit("locks", name, lambda: taken(path), record_property)


@pytest.mark.parametrize("name", LINES)
def test_requirements(name: str, tmp_path: Path, record_property: Record) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes(LINES[name].encode() + b"\n")
    visit("requirements", name, lambda: taken(path), record_property)


_FILE: Mapping[str, Any] = {
    "filename": "six-1-py3-none-any.whl", "url": "../six-1-py3-none-any.whl", "hashes": {"sha256": test_locks.HASH},
    "size": 7, "requires-python": ">=3", "yanked": False,
}  # fmt: skip
_PAGE: Mapping[str, Any] = {"meta": {"api-version": "1.1"}, "name": "six", "versions": ["1"], "files": [_FILE]}
_HTML = {
    "nothing": "",
    "no link": "<html></html>",
    "an open tag": '<a href="six-1-py3-none-any.whl',
    "an open comment": '<!-- <a href="six-1-py3-none-any.whl">',
    "a declaration": "<![if x]><![CDATA[ <a href=x>",
    "a broken declaration": "<!DOCTYPE [<!x",
    "deep": "<a><b>" * 50_000,
    "open tags": "<a " * 100_000,
    "open attributes": "<a href='" * 100_000,
    "open comments": "<!--" * 100_000,
    "open comments with ends of tags": "<!--x>" * 100_000,
    "open sections": "<![CDATA[x>" * 100_000,
    "many attributes": f"<a {' '.join(f'a{number}=x' for number in range(20_000))}>",
    "entities": "&#99999999999;&#x110000;&lt" * 1000 + '<a href="&#0;x.whl">x</a>',
    "a base that is none": '<base href="https://[::"><a href="x.whl">x</a>',
    "a base of a file": '<base href="file:///etc/"><a href="passwd">x</a>',
    "a link to a script": '<a href="javascript:x">x</a>',
    "a link with a login": '<a href="https://u:p@a/six-1-py3-none-any.whl">x</a>',
    "a link with a bad port": '<a href="https://a:x/six-1-py3-none-any.whl">x</a>',
    "a link with a bad address": '<a href="https://[::/six-1-py3-none-any.whl">x</a>',
    "a link that leaves it": '<a href="../../../six-1-py3-none-any.whl">x</a>',
    "a link with a slash in its name": '<a href="a%2Fsix-1-py3-none-any.whl">x</a>',
    "a link with a NUL": '<a href="%00.whl">x</a>',
    "a hash that is none": '<a href="six-1-py3-none-any.whl#sha256=z">x</a>',
    "many fragments": '<a href="six-1-py3-none-any.whl#a#b#sha256=c">x</a>',
    "a version of letters": '<meta name="pypi:repository-version" content="x">',
    "a long version": f'<meta name="pypi:repository-version" content="{_LONG}">',
    "version 2": '<meta name="pypi:repository-version" content="2.0">',
    "a long file name": f'<a href="six-{_LONG}-py3-none-any.whl">x</a>',
}


def _pages() -> dict[str, tuple[str, bytes]]:
    places = {
        f"{'.'.join(map(str, path))} is {what}": json.dumps(_with(_PAGE, path, value))
        for path in _places(_PAGE)
        for what, value in {**_VALUES, **_MORE}.items()
    }
    return {
        **{f"json: {name}": ("application/vnd.pypi.simple.v1+json", text.encode()) for name, text in places.items()},
        **{f"html: {name}": ("text/html", text.encode()) for name, text in _HTML.items()},
        "json: deep": ("application/json", b"[" * 100_000),
        "json: a long integer": ("application/json", b'{"files": [{"size": ' + b"9" * 5000 + b"}]}"),
        "json: not UTF-8": ("application/json", b'{"files": "\xff"}'),
        "json: NaN": ("application/json", b'{"files": [{"size": NaN}]}'),
        "html: not UTF-8": ("text/html", b'<a href="\xff.whl">'),
        "no type": ("", b"{}"),
        "text": ("text/plain", b"x"),
    }


PAGES = _pages()


@pytest.mark.parametrize("name", PAGES)
def test_page(name: str, record_property: Record) -> None:
    media_type, body = PAGES[name]

    def read() -> list[IndexFile]:
        from hatch_docker.index.flat import name_of

        found = parse_page(Page(url="https://index.example/simple/six/", media_type=media_type, body=body))
        for each in found:
            name_of(each.filename)
            lock_of(each)
        return found

    def lock_of(file: IndexFile) -> None:
        hashes: Callable[..., Any] = test_locks.serving
        hashes(six=[file])

    for each in visit("pages", name, read, record_property) or ():
        assert each.url.isprintable()
        assert "p@" not in each.url
