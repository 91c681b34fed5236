"""The files that are selected for a target, compared with those that pip's own finder picks there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.pylock import Package, PackageWheel, Pylock
from packaging.utils import canonicalize_name
from packaging.version import Version
from selection_matrix import (
    LIBCS,
    MACHINES,
    MATRIX,
    OTHER_CPUS,
    File,
    Picks,
    PipFinder,
    machine,
    pages,
    parsed_once,
    pip_tags,
    pip_target,
    target,
)

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import NoWheelError
from hatch_docker.locks import InstallRequest, select
from hatch_docker.locks.readers.pylock import validated

LOCK = Path("/src/pylock.toml")
PACKAGES = 60
# Patterns of file names, and the packages that have such files.
KINDS = {
    r"-cp313-cp313-manylinux_2_17_x86_64\.manylinux2014_x86_64\.whl": 10,
    r"-manylinux_2_(2[0-9]|3[0-9])_aarch64\.whl": 10,
    r"-manylinux1_x86_64": 5,
    r"-manylinux2010_x86_64": 2,
    r"manylinux_2_5_x86_64": 5,
    r"-musllinux_1_1_": 10,
    r"-musllinux_1_2_": 20,
    r"-cp3[0-9]+-abi3-manylinux": 5,
    r"-cp313-cp313t-": 10,
    r"-py3-none-manylinux": 3,
    r"-py3-none-any": 20,
    r"-py2\.py3-none-any": 3,
    r"_armv7l": 5,
    r"_ppc64le": 5,
    r"_s390x": 5,
    r"_riscv64": 5,
    r"-macosx_": 20,
    r"-win_amd64": 20,
    r"\.(tar\.gz|zip)$": 60,
}


@pytest.fixture(autouse=True, scope="module")
def _parsed_once() -> Iterator[None]:
    with parsed_once():
        yield


finder = cache(PipFinder)


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
    return {name: finder(python).pick(name, files) for name, files in pages().items()}


def version_of(name: str, filename: str) -> Version:
    return next(file.version for file in pages()[name] if file.name == filename)


def differences(python: TargetPython, picks: Mapping[str, str]) -> list[str]:
    """The packages of which another file is selected than pip picks, within the version that it picks."""
    ours = selected([locked(name, version_of(name, pick)) for name, pick in picks.items()], python)
    assert ours.keys() == picks.keys()
    return [f"{name}: pip picks {pick}, we {ours[name]}" for name, pick in picks.items() if ours[name] != pick]


def newest(name: str) -> Package:
    return locked(name, max(files_of(name)))


def compare(python: TargetPython) -> dict[str, str]:
    """Compare what pip picks of all packages, also of older versions that have wheels; the file of each package."""
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
    return files


# Each Python with each C library on one of the two CPUs, and each of these on both.
HALF = [each for at, each in enumerate(MATRIX) if (at + at // 2 + at // (2 * len(LIBCS))) % 2 == 0]


@pytest.mark.parametrize("python", HALF, ids=str)
def test_selects_what_pip_picks(python: TargetPython) -> None:
    assert len(compare(python)) >= PACKAGES


@pytest.mark.network
@pytest.mark.parametrize("python", [each for each in MATRIX if each not in HALF], ids=str)
def test_selects_what_pip_picks_on_the_other_cpu(python: TargetPython) -> None:
    """No index is needed, but it takes a while."""
    assert len(compare(python)) >= PACKAGES


@pytest.mark.parametrize("python", OTHER_CPUS, ids=str)
def test_selects_what_pip_picks_for_other_cpus(python: TargetPython) -> None:
    picks = compare(python)
    assert len(picks) >= PACKAGES
    assert any(pick.endswith(f"_{machine(python)}.whl") for pick in picks.values())


@pytest.mark.parametrize("python", [*MATRIX, *OTHER_CPUS], ids=str)
def test_has_the_tags_of_pip_in_their_order(python: TargetPython) -> None:
    ours, pips = list(map(str, python.tags)), list(map(str, pip_tags(pip_target(python))))
    if not any("-abi3t-" in each for each in pips):
        # Older versions of pip do not know this ABI, which Python 3.15 introduces.
        ours = [each for each in ours if "-abi3t-" not in each]
    assert set(ours) == set(pips)
    # packaging 26.3 moved the tags of `linux_*` platforms, which no public index accepts, to the front.
    assert [each for each in ours if "-linux_" not in each] == [each for each in pips if "-linux_" not in each]


def test_the_matrix_is_complete() -> None:
    pythons, platforms = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.13t"), ("linux/amd64", "linux/arm64")
    libcs = ("glibc 2.17", "glibc 2.31", "glibc 2.36", "glibc 2.41", "musl 1.1", "musl 1.2")
    shown = [(f"{each.minor}{'t' * each.free_threaded}", str(each.libc), str(each.platform)) for each in MATRIX]
    assert sorted(shown) == sorted(product(pythons, libcs, platforms))
    half = [row for row, each in zip(shown, MATRIX, strict=True) if each in HALF]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        pairs = product(*((pythons, libcs, platforms)[at] for at in (one, other)))
        assert {(row[one], row[other]) for row in half} == {*pairs}
    assert len(pages()) >= PACKAGES


@pytest.mark.parametrize(("kind", "least"), KINDS.items())
def test_the_pages_have_wheels_of_many_kinds(kind: str, least: int) -> None:
    names = {name for name, files in pages().items() for file in files if re.search(kind, file.name)}
    assert len(names) >= least


# Markers like those of popular packages, and the CPUs that they hold for.
MARKERS = {
    'platform_machine == "x86_64" or platform_machine == "aarch64"': {"x86_64", "aarch64"},
    'platform_system == "Linux" and platform_machine == "x86_64"': {"x86_64"},
    'platform_machine == "aarch64" or (platform_machine == "ppc64le" or (platform_machine == "x86_64" or '
    '(platform_machine == "amd64" or platform_machine == "AMD64")))': {"x86_64", "aarch64", "ppc64le"},
    'platform_machine not in "armv7l i686 s390x" and platform_python_implementation == "CPython"': {
        "x86_64",
        "aarch64",
        "ppc64le",
        "riscv64",
    },
    'sys_platform == "linux" and platform_machine == "armv7l"': {"armv7l"},
    'sys_platform == "win32" or platform_machine == "arm64"': set(),
}


ANY = PackageWheel(
    name="some-1-py3-none-any.whl", url="https://files.example/some-1-py3-none-any.whl", hashes={"sha256": "0" * 64}
)


@pytest.mark.parametrize("marker", MARKERS)
def test_markers_of_all_cpus(marker: str) -> None:
    targets = [target("3.13.5", "glibc 2.41", each) for each in MACHINES]
    packages = [Package(name=canonicalize_name("some"), version=Version("1"), marker=Marker(marker), wheels=[ANY])]
    assert {machine(each) for each in targets if selected(packages, each)} == MARKERS[marker]


# Wheels as an index of one's own may have them: with odd tags, and several builds of the same tags.
_PLATFORMS = (
    "any",
    "manylinux1_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_12_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux_2_31_x86_64",
    "manylinux_2_31_aarch64",
    "musllinux_1_1_x86_64",
    "musllinux_1_2_x86_64",
    "macosx_11_0_arm64",
    "win_amd64",
)
_TAGS = st.tuples(
    st.sampled_from(["cp313", "cp312", "cp39", "py3", "py2.py3", "cp313.cp312", "py313", "pp310"]),
    st.sampled_from(["cp313", "cp313t", "abi3", "none", "abi3.none", "cp312.cp313"]),
    st.lists(st.sampled_from(_PLATFORMS), min_size=1, max_size=3, unique=True).map(".".join),
).map("-".join)
_BUILDS = st.sampled_from(["", "", "1-", "2-", "10-", "1_other-", "1a-"])


@given(
    st.lists(_TAGS, min_size=1, max_size=3).flatmap(
        lambda tags: st.lists(st.tuples(_BUILDS, st.sampled_from(tags)), min_size=1, max_size=8, unique=True)
    ),
    st.sampled_from(["3.13.5", "3.13.5t"]),
    st.sampled_from(["glibc 2.17", "glibc 2.36", "musl 1.1", "musl 1.2"]),
)
def test_selects_what_pip_picks_of_any_wheels(wheels: list[tuple[str, str]], python: str, libc: str) -> None:
    files = [File(name=f"some-1.0-{build}{tags}.whl") for build, tags in wheels]
    to = target(python, libc, "linux/amd64")
    pick = finder(to).pick("some", files).file
    found = package("some", "1.0", wheels=[entry(file.name) for file in files])
    if pick:
        assert selected([found], to) == {"some": pick}
    else:
        with pytest.raises(NoWheelError):
            selected([found], to)
