"""The sources of Poetry (`[tool.poetry]`) and PDM (`[tool.pdm]`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from hatch_docker.errors import ConfigError
from hatch_docker.index.credentials import Login, expand_login, split_login, with_login
from hatch_docker.index.source import NamedIndex, Source
from hatch_docker.index.uv_sources import absolute_url, list_of, path_value, read_document, table_of
from hatch_docker.support.dataclasses import replace

Table = Mapping[str, Any]

_DEFAULT_OF_POETRY = "pypi"
_REFERENCES = ("rev", "tag", "branch")
_FORMS = {"path": "path", "file": "path", "git": "git", "url": "url", "source": "index"}


def poetry_indexes(poetry: Table, root: Path, environ: Mapping[str, str]) -> tuple[NamedIndex, ...]:
    """The indexes of `[[tool.poetry.source]]`, the primary ones first, with the logins of the environment."""
    found = []
    for number, entry in enumerate(list_of(poetry.get("source"))):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise ConfigError([(f"tool.poetry.source[{number}]", "it has no name")])
        name, url = entry["name"], entry.get("url", "")
        if not isinstance(url, str) or (not url and name.lower() != _DEFAULT_OF_POETRY):
            raise ConfigError([(f"tool.poetry.source[{number}]", f"the source {name} has no url")])
        priority = str(entry.get("priority") or ("supplemental" if entry.get("secondary") is True else "primary"))
        index = NamedIndex(
            name=_index_name(name),
            url=absolute_url(_login_of_poetry(url, name, environ), root) if url else "",
            default=priority.lower() in ("primary", "default"),
            explicit=priority.lower() == "explicit",
            place=f"tool.poetry.source[{number}]",
        )
        found.append(index)
    return tuple(sorted(found, key=lambda each: not each.default))


def _login_of_poetry(url: str, name: str, environ: Mapping[str, str]) -> str:
    """The URL with the login that Poetry finds in the environment for the name of its source."""
    prefix = f"POETRY_HTTP_BASIC_{name.upper().replace('-', '_')}"
    username, password = (environ.get(f"{prefix}_{key}", "") for key in ("USERNAME", "PASSWORD"))
    return with_login(url, Login(username=username, password=password)) if username or password else url


def _index_name(name: str) -> str:
    """The name of an index in the characters that uv allows."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)


def poetry_sources(poetry: Table, root: Path, indexes: Sequence[NamedIndex]) -> dict[str, tuple[Source, ...]]:
    """The sources that Poetry's dependencies name, with those of its groups. Raises ConfigError for invalid ones."""
    found: dict[str, list[Source]] = {}
    problems: list[tuple[str, str]] = []
    for group, place, dependencies in _tables_of_poetry(poetry):
        for key, value in dependencies.items():
            name = str(canonicalize_name(key))
            for entry in value if isinstance(value, list) else [value]:
                if not isinstance(entry, Mapping) or not entry.keys() & _FORMS.keys():
                    continue
                try:
                    source = _source_of_poetry(name, entry, root, indexes)
                except ValueError as error:
                    problems.append((f"{place}.{key}", str(error)))
                else:
                    limited = replace(source, place=f"{place}.{key}", group=group)
                    found.setdefault(name, []).append(limited)
    if problems:
        raise ConfigError(problems)
    return {name: tuple(sources) for name, sources in found.items()}


def _tables_of_poetry(poetry: Table) -> Iterator[tuple[str, str, Table]]:
    """Group, place and table of Poetry's dependencies; the main group has no name."""
    yield "", "tool.poetry.dependencies", table_of(poetry, "dependencies")
    yield "dev", "tool.poetry.dev-dependencies", table_of(poetry, "dev-dependencies")
    for group in table_of(poetry, "group"):
        yield (
            str(canonicalize_name(group)),
            f"tool.poetry.group.{group}.dependencies",
            table_of(poetry, "group", group, "dependencies"),
        )


def _source_of_poetry(name: str, entry: Table, root: Path, indexes: Sequence[NamedIndex]) -> Source:
    """The source of a dependency. Raises ValueError for an invalid one."""
    forms = [form for form in _FORMS if form in entry]
    if len(forms) > 1:
        raise ValueError(f"it names {' and '.join(forms)}: keep one of them")
    form = forms[0]
    if not isinstance(entry[form], str):
        raise ValueError(f"{form} must be a string")
    value, problem, index_name = str(entry[form]), "", ""
    if _FORMS[form] == "path":
        value, problem = path_value(root / value)
    elif form == "source":
        index_name = value
        index = next((each for each in indexes if each.name.lower() == _index_name(value).lower()), None)
        value, index_name = (index.url, index.name) if index else ("", index_name)
        if index is None and index_name.lower() != _DEFAULT_OF_POETRY:
            problem = f"no source is named {index_name}: add it to tool.poetry.source, with its URL"
    return Source(
        name=name,
        kind=_FORMS[form],
        value=value,
        marker=poetry_marker(entry),
        reference=next((f"{key}={entry[key]}" for key in _REFERENCES if isinstance(entry.get(key), str)), ""),
        subdirectory=str(entry.get("subdirectory") or ""),
        index_name=index_name,
        editable=entry.get("develop") is True,
        problem=problem,
    )


def poetry_marker(entry: Table) -> str:
    """The marker of a Poetry dependency: its `markers`, `python` and `platform`. Raises ValueError."""
    parts = [f"({entry['markers']})"] if isinstance(entry.get("markers"), str) else []
    if isinstance(entry.get("python"), str):
        parts += [f"({text})"] if (text := python_marker(entry["python"])) else []
    if isinstance(entry.get("platform"), str):
        parts.append(f"sys_platform == '{entry['platform']}'")
    try:
        return str(Marker(" and ".join(parts))) if parts else ""
    except InvalidMarker:
        raise ValueError("its markers are not valid (PEP 508)") from None


def python_marker(constraint: str) -> str:
    """Poetry's constraint on Python (`^3.9`, `~3.9 || 3.11.*`) as a marker, empty for any. Raises ValueError."""
    alternatives = []
    for text in re.split(r"\s*\|\|?\s*", constraint.strip()):
        specifiers = poetry_specifiers(text)
        if not specifiers:
            return ""
        alternatives.append(
            " and ".join(f"{_variable(each.version)} {each.operator} '{each.version}'" for each in specifiers)
        )
    return " or ".join(f"({each})" for each in alternatives)


def _variable(version: str) -> str:
    return "python_version" if version.endswith(".*") else "python_full_version"


def poetry_specifiers(text: str) -> SpecifierSet:
    """Poetry's constraint on a version, without `||`, as specifiers (PEP 440). Raises ValueError for an invalid one."""
    # A comparison may be followed by spaces; other spaces separate, as commas do.
    joined = re.sub(r"(?<=[<>=~^!])\s+", "", text.strip())
    try:
        return SpecifierSet(",".join(filter(None, map(_specifier, re.split(r"[,\s]+", joined)))))
    except (InvalidSpecifier, InvalidVersion):
        raise ValueError(f"the constraint is not valid: {text!r}") from None


def _specifier(text: str) -> str:
    if text in ("", "*"):
        return ""
    if text[0] == "^":
        return _below(text[1:], _caret)
    if text[0] == "~" and text[1:2] != "=":
        return _below(text[1:], lambda release: min(2, len(release)))
    return text if text[0] in "<>=!~" else f"=={text}"


def _caret(release: Sequence[int]) -> int:
    """How many parts of a release `^` keeps: up to the first that is not zero."""
    return next((number + 1 for number, part in enumerate(release) if part), len(release))


def _below(text: str, kept: Callable[[Sequence[int]], int]) -> str:
    version = Version(text)
    parts = list(version.release[: kept(version.release)])
    parts[-1] += 1
    return f">={version},<{'.'.join(map(str, parts))}"


def pdm_indexes(pdm: Table, root: Path, environ: Mapping[str, str]) -> tuple[NamedIndex, ...]:
    """The indexes of `[[tool.pdm.source]]`. The one named `pypi` replaces the default one."""
    found = []
    expand_ = partial(expand, root=root, environ=environ)
    for number, entry in enumerate(list_of(pdm.get("source"))):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("url"), str):
            raise ConfigError([(f"tool.pdm.source[{number}]", "it has no url")])
        name = str(entry.get("name") or f"source-{number}")
        index = NamedIndex(
            name=_index_name(name),
            url=absolute_url(_with_login(expand_login(entry["url"], expand_), entry, expand_), root),
            default=name == "pypi",
            flat=entry.get("type") == "find_links",
            include=_globs(entry, "include_packages"),
            exclude=_globs(entry, "exclude_packages"),
            place=f"tool.pdm.source[{number}]",
        )
        found.append(index)
    return tuple(found)


def _globs(entry: Table, key: str) -> tuple[str, ...]:
    return tuple(each.lower().replace("_", "-") for each in list_of(entry.get(key)) if isinstance(each, str))


def _with_login(url: str, entry: Table, expand: Callable[[str], str]) -> str:
    """The URL with the `username` and `password` of its entry."""
    username, password = (expand(str(entry.get(key) or "")) for key in ("username", "password"))
    if not username or split_login(url)[1]:
        return url
    return with_login(url, Login(username=username, password=password))


def expand(text: str, root: Path, environ: Mapping[str, str]) -> str:
    """`text` with `${NAME}` replaced by variables, as PDM does: unset ones are empty, and PROJECT_ROOT is `root`."""
    variables = {**environ, "PROJECT_ROOT": root.absolute().as_posix().lstrip("/")}
    return re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match[1], ""), text)


def pdm_sources(pdm: Table, root: Path, _indexes: Sequence[NamedIndex]) -> dict[str, tuple[Source, ...]]:
    """The sources of the editable packages in PDM's groups for development (`-e file:///…`)."""
    found: dict[str, list[Source]] = {}
    for group, lines in table_of(pdm, "dev-dependencies").items():
        for line in list_of(lines):
            match = re.match(r"-e\s+(\S+)", line) if isinstance(line, str) else None
            if match is None:
                continue
            source = _editable(expand(match[1], root, {}), root)
            place = f"tool.pdm.dev-dependencies.{group}"
            if source is None:
                raise ConfigError([(place, f"{line!r} has no name: add #egg=NAME")])
            limited = replace(source, place=place, group=str(canonicalize_name(group)))
            found.setdefault(source.name, []).append(limited)
    return {name: tuple(sources) for name, sources in found.items()}


def _editable(url: str, root: Path) -> Source | None:
    """The source of an editable requirement; None without a name."""
    address, _, fragment = url.partition("#")
    options = dict(part.partition("=")[::2] for part in fragment.split("&"))
    name = str(canonicalize_name(options.get("egg", "").partition("[")[0]))
    subdirectory = options.get("subdirectory", "")
    if address.startswith("git+"):
        repository, at, revision = address[4:].rpartition("@")
        split = at and "/" not in revision
        value = repository if split else address[4:]
        reference = f"rev={revision}" if split else ""
        source = Source(name=name, kind="git", value=value, reference=reference, subdirectory=subdirectory)
    else:
        path = Path(url2pathname(urlsplit(address).path)) if address.startswith("file:") else root / address
        value, problem = path_value(path)
        name = name or _name_of(Path(value))
        source = Source(name=name, kind="path", value=value, subdirectory=subdirectory, editable=True, problem=problem)
    return source if source.name else None


def _name_of(folder: Path) -> str:
    name = table_of(read_document(folder), "project").get("name")
    return str(canonicalize_name(name if isinstance(name, str) else folder.name))
