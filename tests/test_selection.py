"""The files that are selected for a target, compared with those that pip's own finder picks there."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Package, Pylock
from packaging.version import Version
from selection_matrix import MATRIX, OTHER_CPUS, File, Picks, PipFinder, pages, parsed_once, pip_tags, pip_target, target

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import NoWheelError
from hatch_docker.locks import InstallRequest, select
from hatch_docker.locks.readers.pylock import validated

LOCK = Path("/src/pylock.toml")
# A package and the version of it to select.
Pinned = tuple[str, Version]


@pytest.fixture(autouse=True, scope="module")
def _parsed_once() -> Iterator[None]:
    with parsed_once():
        yield


@cache
def files_of(name: str) -> dict[Version, list[File]]:
    versions: dict[Version, list[File]] = {}
    for file in pages()[name]:
        versions.setdefault(file.version, []).append(file)
    return versions


@cache
def locked(name: str, version: Version) -> Package:
    """A package of a lock with all files of a version."""
    files = files_of(name)[version]
    wheels = [entry(file.name) for file in files if file.is_wheel]
    sdists = [entry(file.name) for file in files if not file.is_wheel]
    found = {"wheels": wheels} if wheels else {}
    return package(name, str(version), **found, **({"sdist": sdists[0]} if sdists else {}))


def package(name: str, version: str, **more: Any) -> Package:
    document = {"lock-version": "1.0", "created-by": "test", "packages": [{"name": name, "version": version, **more}]}
    return validated(document, place=str(LOCK)).packages[0]


def entry(filename: str) -> dict[str, Any]:
    digest = hashlib.sha256(filename.encode()).hexdigest()
    return {"name": filename, "url": f"https://files.example/{filename}", "hashes": {"sha256": digest}}


def selected(packages: Sequence[Package], python: TargetPython) -> dict[str, str]:
    """The file that is selected of each package of a lock."""
    pylock = Pylock(lock_version=Version("1.0"), created_by="test", packages=packages)
    artifacts = select(pylock, InstallRequest(project="demo", target=python), lock=LOCK)
    return {artifact.name: artifact.filename for artifact in artifacts}


def pick_all(python: TargetPython) -> dict[str, Picks]:
    """The files that pip picks of each package."""
    finder = PipFinder(python)
    return {name: finder.pick(name, files) for name, files in pages().items()}


def version_of(name: str, filename: str) -> Version:
    return next(file.version for file in pages()[name] if file.name == filename)


def differences(python: TargetPython, picks: Mapping[str, str]) -> list[str]:
    """The packages of which another file is selected than pip picks, within the version that it picks."""
    ours = selected([locked(name, version_of(name, pick)) for name, pick in picks.items()], python)
    assert ours.keys() == picks.keys()
    return [f"{name}: pip picks {pick}, we {ours[name]}" for name, pick in picks.items() if ours[name] != pick]


def newest(name: str) -> Package:
    return locked(name, max(files_of(name)))


def compare(python: TargetPython) -> list[str]:
    """Compare what pip picks of all packages, also of older versions that have wheels; the files that it picks."""
    picks = pick_all(python)
    files = {name: pick.file for name, pick in picks.items() if pick.file}
    older = {name: pick.wheel for name, pick in picks.items() if pick.wheel not in ("", pick.file)}
    assert not differences(python, files)
    assert not differences(python, older)
    # Of some packages there is no file for the target: one error names all of them.
    if nothing := sorted(picks.keys() - files.keys()):
        with pytest.raises(NoWheelError) as caught:
            selected([newest(name) for name in nothing], python)
        assert set(re.findall(r"([a-z0-9-]+) \S+ has wheels for", str(caught.value))) == set(nothing)
    return [*files.values(), *older.values()]


@pytest.mark.parametrize("python", MATRIX, ids=str)
def test_selects_what_pip_picks(python: TargetPython) -> None:
    assert len(compare(python)) >= 80
