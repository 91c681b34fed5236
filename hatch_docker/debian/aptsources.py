"""Read apt's package sources (sources.list(5)), of this machine or of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from hatch_docker.debian.control import paragraphs
from hatch_docker.errors import DebianError
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.patterns import regex

_PLACES = regex(r"etc/apt/sources\.list(?:\.d/[^/]+\.(?:list|sources))?")
_ONE_LINE = regex(r"deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+\S+)*)\s*")
_SCHEMES = ("http://", "https://")
_LISTS = ("mirror+file:", "mirror:file:")
_LARGEST = 1 << 22
_NO = ("no", "false", "without", "off", "disable", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One suite at one URI, which has no trailing slash.

    `architectures` is empty for all. `keyring` are the keys in Signed-By: paths, or a key itself.
    """

    url: str
    suite: str
    components: tuple[str, ...]
    architectures: tuple[str, ...] = ()
    keyring: tuple[Path | bytes, ...] = ()


def read_sources(folder: Path) -> list[Source]:
    """Read `sources.list` and `sources.list.d` in `folder`; skip unreadable files and unsupported entries."""
    sources: list[Source] = []
    for path in (folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))):
        if path.suffix not in _READERS or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                parsed = _parsed(path.suffix, file.read(_LARGEST))
            sources += [each for source in parsed for each in _expanded(source)]
        except (OSError, ValueError):
            # apt reports what is wrong with the file; the other files may suffice.
            continue
    return sources


def image_sources(files: Mapping[str, bytes]) -> list[Source]:
    """Read the sources of an image. `files` maps paths to contents; only files below `etc/apt` are read."""
    sources: list[Source] = []
    for name in sorted(files):
        if _PLACES.fullmatch(name):
            sources += _parsed(PurePosixPath(name).suffix, files[name][:_LARGEST])
    return [source for source in sources if source.url.startswith(_SCHEMES)]


def _parsed(suffix: str, data: bytes) -> list[Source]:
    try:
        return list(_READERS[suffix](data.decode("utf-8", errors="replace")))
    except (DebianError, ValueError):
        return []


def _one_line(text: str) -> Iterator[Source]:
    """Parse lines such as `deb [arch=amd64 signed-by=/a/keyring] URI SUITE COMPONENT…`."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match is None:
            continue
        options, uri, suite, components = match.groups("")
        values = {name.lower(): value for name, _, value in (each.partition("=") for each in options.split())}
        yield from _sources(
            [uri],
            [suite],
            components=components.split(),
            architectures=values.get("arch", "").replace(",", " ").split(),
            keys=values.get("signed-by", "").split(","),
        )


def _deb822(text: str) -> Iterator[Source]:
    """Parse paragraphs with the fields `Types`, `URIs`, `Suites` and `Components`."""
    for each in paragraphs(text):
        if "deb" not in each.get("Types", "").split() or each.get("Enabled", "yes").strip().lower() in _NO:
            continue
        signed = each.get("Signed-By", "")
        keys: Sequence[str | bytes] = signed.split()
        if "BEGIN PGP" in signed:
            # A dot stands for an empty line of the key.
            keys = ["\n".join("" if line.strip() == "." else line for line in signed.strip().split("\n")).encode()]
        yield from _sources(
            each.get("URIs", "").split(),
            each.get("Suites", "").split(),
            components=each.get("Components", "").split(),
            architectures=each.get("Architectures", "").split(),
            keys=keys,
        )


_READERS: Mapping[str, Callable[[str], Iterator[Source]]] = {".list": _one_line, ".sources": _deb822}


def _sources(
    uris: Iterable[str],
    suites: Sequence[str],
    *,
    components: Sequence[str],
    architectures: Sequence[str],
    keys: Sequence[str | bytes],
) -> Iterator[Source]:
    keyring = tuple(each if isinstance(each, bytes) else Path(each) for each in keys if each)
    keyring = tuple(each for each in keyring if isinstance(each, bytes) or each.is_absolute())
    for uri in uris:
        for suite in suites:
            # A trailing slash marks a flat repository, which has no suites.
            if not suite.endswith("/") and uri.startswith((*_SCHEMES, *_LISTS)):
                yield Source(
                    url=uri.rstrip("/"),
                    suite=suite,
                    components=tuple(components),
                    architectures=tuple(architectures),
                    keyring=keyring,
                )


def _expanded(source: Source) -> Iterator[Source]:
    """Expand `mirror+file:/etc/apt/mirrors/debian.list`, which cloud images use, to the URLs in that file."""
    uri = source.url
    if not uri.startswith(_LISTS):
        yield source
        return
    path = Path(urlsplit(uri.partition(":")[2] if uri.startswith("mirror:") else uri).path)
    for line in path.read_text("utf-8", errors="replace").splitlines():
        for each in line.partition("#")[0].split()[:1]:
            if each.startswith(_SCHEMES):
                yield replace(source, url=each.rstrip("/"))
