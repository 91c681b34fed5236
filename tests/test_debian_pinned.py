"""Builds with debian.lock: the same image without an index, and one clean message if it does not match."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from base_maker import FakeBase
from builds import result_of
from debian_bench import DebianBench, FakeDebian, fake_debian
from debian_maker import NOW
from dpkg_maker import file

from hatch_docker.dpkg.lockfile import find_pins, write_pins
from hatch_docker.support.dataclasses import replace

pytestmark = pytest.mark.usefixtures("no_waiting")

PACKAGES = 'runtime-packages = ["libpq5"]'
STATUS = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-12\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeDebian:
    return fake_debian(tmp_path_factory.mktemp("debian"))


@pytest.fixture
def bench(made: FakeDebian, tmp_path: Path) -> Iterator[DebianBench]:
    with made.copy() as archive:
        yield DebianBench(tmp_path, archive)


@pytest.fixture(scope="module")
def locked_before(made: FakeDebian, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The cache of a build with PACKAGES, and its lock."""
    with made.copy() as archive:
        bench = DebianBench(tmp_path_factory.mktemp("locked"), archive)
        return bench.cache, locked(bench, bench.project(docker=PACKAGES)).read_text()


@pytest.fixture
def lock(locked_before: tuple[Path, str], bench: DebianBench) -> str:
    """A lock of PACKAGES, which were built on this machine before."""
    cache, text = locked_before
    shutil.copytree(cache, bench.cache)
    return text


def locked(bench: DebianBench, project: Path, **env: str) -> Path:
    """Build a project, and make the selections of the build its lock."""
    outcome = bench.build(project, **env)
    assert outcome.code == 0, outcome.err
    shutil.copy(project / "dist" / "debian.shop.lock", project / "debian.lock")
    return project / "debian.lock"


def another_machine(bench: DebianBench) -> DebianBench:
    """A bench with an empty cache, and the same archive."""
    bench.archive.requests.clear()
    return DebianBench(bench.root / "other", bench.archive)


def without_indexes(archive: FakeDebian) -> None:
    archive.files = {path: data for path, data in archive.files.items() if "/dists/" not in path}


class TestALock:
    def test_makes_the_same_image_without_an_index(self, bench: DebianBench) -> None:
        project = bench.project(docker=PACKAGES)
        lock = locked(bench, project)
        manifest = bench.made(project).manifest
        bench.archive.put("libpq5", {}, version="99", Depends="nowhere")
        bench.archive.put("netbase", {"etc/new": file()}, version="99")
        bench.archive.release()
        other = another_machine(bench)
        assert other.made(project).manifest == manifest
        assert not [path for path in bench.archive.requests if "/dists/" in path]
        assert len(bench.archive.requests) == len(result_of(project)["os-packages"]) == 14
        # The build used exactly the pinned packages.
        assert (project / "dist/debian.shop.lock").read_bytes() == lock.read_bytes()
        # The second build sends no request.
        bench.archive.requests.clear()
        assert other.made(project).manifest == manifest
        assert bench.archive.requests == []

    def test_needs_no_index_on_the_mirror(self, bench: DebianBench) -> None:
        lock = locked(bench, project := bench.project(docker=PACKAGES))
        without_indexes(bench.archive)
        another_machine(bench).made(project)
        lock.unlink()
        DebianBench(bench.root / "third", bench.archive).refused(project, "the mirror has no suite 'trixie'")

    def test_needs_no_mirror_if_the_cache_has_everything(
        self, bench: DebianBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        locked(bench, project := bench.project(docker=PACKAGES))
        manifest = bench.made(project).manifest
        gone = {"HATCH_DOCKER_DEBIAN_MIRROR": "http://127.0.0.1:1/debian"}
        assert bench.made(project, **gone).manifest == manifest
        # Nor if only the layers are missing from the cache.
        shutil.rmtree(bench.cache / "debian-layers")
        assert bench.made(project, **gone).manifest == manifest
        monkeypatch.setattr("hatch_docker.debian.sources.read_sources", lambda _folder: [])
        assert bench.made(project, HATCH_DOCKER_DEBIAN_MIRROR="").manifest == manifest

    def test_is_reported_in_the_result(self, bench: DebianBench) -> None:
        locked(bench, project := bench.project(docker=PACKAGES))
        bench.made(project)
        found = {each["name"]: each for each in result_of(project)["os-packages"]}
        assert found["libpq5"].keys() == {"name", "version", "suite", "sha256"}
        assert found["libpq5"]["version"] == "17.6-1"
        pinned = {each.name: each.sha256 for selection in find_pins(project).selections for each in selection.packages}
        assert {name: each["sha256"] for name, each in found.items()} == pinned

    def test_is_not_read_without_debian_packages(self, bench: DebianBench) -> None:
        project = bench.project(base=f"oci:{bench.base()}", files={"debian.lock": "not a lock"})
        bench.made(project)
        assert not (project / "dist/debian.shop.lock").exists()

    def test_requests_the_snapshot_that_has_the_packages(
        self, bench: DebianBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The tests may have begun before midnight.
        monkeypatch.setattr("hatch_docker.services.datetime", SimpleNamespace(now=lambda _zone: NOW))
        bench.archive.snapshot(NOW.replace(hour=0, minute=0, second=0))
        dated = bench.archive.settings(dated=True)
        locked(bench, project := bench.project(), **dated)
        manifest = bench.made(project, **dated).manifest
        assert find_pins(project).selections[0].dated == f"{NOW:%Y-%m-%d}T00:00:00Z"
        # The snapshot made after that has them; today's does not.
        stamps = f"{NOW:%Y%m%d}T000000Z", f"{NOW:%Y%m%d}T060000Z"
        bench.archive.files = {path.replace(*stamps): data for path, data in bench.archive.files.items()}
        assert another_machine(bench).made(project, **dated).manifest == manifest

    def test_of_a_snapshot(self, bench: DebianBench) -> None:
        day = NOW - timedelta(days=1)
        bench.archive.snapshot(day)
        dated = bench.archive.settings(dated=True)
        locked(bench, project := bench.project(base=f"debian:trixie@{day:%Y-%m-%d}"), **dated)
        assert find_pins(project).selections[0].snapshot == f"{day:%Y-%m-%d}"
        without_indexes(bench.archive)
        another_machine(bench).made(project, **dated)
        other = bench.project("other", files={"debian.lock": (project / "debian.lock").read_text()})
        bench.refused(other, f"it is for trixie@{day:%Y-%m-%d}, not for trixie", **dated)

    def test_matches_the_build_that_wrote_it(self, bench: DebianBench) -> None:
        project = bench.project()
        bench.made(project)
        assert (project / "dist/debian.shop.lock").exists()
        assert bench.build(project, "--clean-only").code == 0
        assert not (project / "dist/debian.shop.lock").exists()


class TestAStaleLock:
    """A stale lock is rejected before any request to a mirror."""

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"base": "debian:bookworm"}, "it is for trixie, not for bookworm"),
            ({"base": "debian:trixie@2026-01-02"}, "it is for trixie, not for trixie@2026-01-02"),
            ({"base": "debian:trixie-debug"}, "other packages are requested now: +bash +coreutils"),
            ({"docker": PACKAGES.replace("libpq5", "libldap2")}, "other packages are requested now: +libldap2 -libpq5"),
            ({"docker": PACKAGES.replace("libpq5", "libpq5=17.6-1")}, "requested now: +libpq5=17.6-1 -libpq5"),
            ({"docker": f'python = "3.12"\n{PACKAGES}'}, "the lock is stale, "),
            ({"docker": PACKAGES, "project": 'requires-python = ">=3.14"'}, "the lock is stale, "),
        ],
    )
    def test_is_rejected(self, bench: DebianBench, lock: str, changes: dict[str, str], expected: str) -> None:
        project = bench.project(files={"debian.lock": lock}, **changes)
        bench.refused(
            project, f"{project / 'debian.lock'}: the lock is stale, ", expected, "hint: refresh it: hatch-docker"
        )
        assert bench.archive.requests == []

    def test_of_another_platform(self, bench: DebianBench) -> None:
        locked(bench, project := bench.project())
        bench.archive.requests.clear()
        expected = "it has no packages of arm64 for 'base'"
        bench.refused(project, expected, "hint: refresh it: hatch-docker lock", HATCH_DOCKER_PLATFORMS="linux/arm64")
        assert bench.archive.requests == []

    def test_that_lacks_new_requests(self, bench: DebianBench) -> None:
        lock = locked(bench, bench.project("before"))
        project = bench.project(docker=PACKAGES, files={"debian.lock": lock.read_text()})
        bench.refused(project, "it has no packages of amd64 for 'runtime-packages'")

    def test_may_have_selections_that_are_not_requested_any_more(self, bench: DebianBench, lock: str) -> None:
        bench.made(bench.project(files={"debian.lock": lock}))


class TestADamagedLock:
    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("", "", "the lock file is invalid: "),
            ("version = 1", "version = 2", "it has version 2; this version of hatch-docker reads 1"),
            ('path = "pool/', 'path = "../pool/', "a Filename outside of the archive"),
            ('purpose = "base"', 'purpose = "runtime-packages"', "two selections for one purpose and architecture"),
            ("roots = [", "roots = 5 # [", "roots is not a list of names"),
            ('sha256 = "', 'sha256 = "0', "has an invalid SHA256"),
            ('"amd64"', "5", "invalid architecture: '5'"),
        ],
    )
    def test_is_rejected(self, bench: DebianBench, lock: str, old: str, new: str, expected: str) -> None:
        damaged = lock.replace(old, new, 1) if old else lock[: len(lock) // 2]
        project = bench.project(docker=PACKAGES, files={"debian.lock": damaged})
        bench.refused(project, f"{project / 'debian.lock'}: ", expected, "hint: ", "hatch-docker lock")
        assert bench.archive.requests == []

    def test_with_the_hash_of_another_file(self, bench: DebianBench) -> None:
        lock = locked(bench, project := bench.project())
        lock.write_text(re.sub(r'sha256 = "[0-9a-f]{64}"', f'sha256 = "{"0" * 64}"', lock.read_text(), count=1))
        bench.refused(project, "/pool/main/b/base-files/", "is not the right file", "signed or locked")

    def test_with_a_wrong_size(self, bench: DebianBench) -> None:
        lock = locked(bench, project := bench.project())
        lock.write_text(re.sub(r"size = \d+", "size = 9", lock.read_text(), count=1))
        shutil.rmtree(bench.cache)
        bench.refused(project, "/pool/main/b/base-files/", "is larger than its 9 bytes")

    def test_with_a_package_that_changed_on_the_mirror(self, bench: DebianBench) -> None:
        locked(bench, project := bench.project())
        bench.archive.alter(deb := bench.archive.deb("libc6"))
        another_machine(bench).refused(project, f"{deb.path}: is not the right file", "nothing was kept")

    def test_with_a_package_removed_from_the_mirror(self, bench: DebianBench, lock: str) -> None:
        project = bench.project(docker=PACKAGES, files={"debian.lock": lock})
        del bench.archive.files[bench.archive.deb("libldap2").path]
        another_machine(bench).refused(project, "the mirror no longer has libldap2 1.0-1", "hint: ", "lock again")

    @pytest.mark.parametrize("name", ["libldap2", "libc6"])
    def test_that_lacks_a_package(self, bench: DebianBench, lock: str, name: str) -> None:
        without = re.sub(rf" *{{ name = \"{name}\".*\n", "", lock)
        project = bench.project(docker=PACKAGES, files={"debian.lock": without})
        expected = "the packages pinned for '{}' do not fit each other or the base: "
        purpose = "base" if name == "libc6" else "runtime-packages"
        message = bench.refused(project, expected.format(purpose), "hint: refresh it: hatch-docker lock --upgrade base")
        assert name in message

    def test_with_a_wrong_version(self, bench: DebianBench) -> None:
        lock = locked(bench, project := bench.project(docker=PACKAGES))
        lock.write_text(lock.read_text().replace('version = "17.6-1"', 'version = "17.7-1"'))
        bench.refused(project, "libpq5 17.7-1 is libpq5 17.6-1", "hint: refresh it")


class TestALockAndAnotherBase:
    """The lock has the packages on top of an image, but not those in the image itself, which may change."""

    def project(self, bench: DebianBench, folder: str, status: str, lock: str = "") -> Path:
        base = bench.base(
            FakeBase(
                files={
                    "var/lib/dpkg/status": status.encode(),
                    "usr/lib/os-release": b"ID=debian\nVERSION_CODENAME=trixie\n",
                }
            )
        )
        files = {"debian.lock": lock} if lock else {}
        return bench.project(folder, base=f"oci:{base}", docker=PACKAGES, files=files)

    def has(self, name: str, version: str) -> str:
        return f"{STATUS}\nPackage: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"

    def test_matches(self, bench: DebianBench) -> None:
        lock = locked(bench, self.project(bench, "before", STATUS))
        project = self.project(bench, "after", self.has("hello", "1"), lock.read_text())
        without_indexes(bench.archive)
        made = bench.made(project)
        assert "usr/lib/x86_64-linux-gnu/libpq.so.5" in made.members

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (STATUS.replace("2.41-12", "2.31-1"), "libpq5 → libc6 (>= 2.38): "),
            ("", "libldap2 1.0-1 is older than the base's 1.5-1"),
        ],
    )
    def test_does_not_match(self, bench: DebianBench, status: str, expected: str) -> None:
        lock = locked(bench, self.project(bench, "before", STATUS))
        project = self.project(bench, "after", status or self.has("libldap2", "1.5-1"), lock.read_text())
        bench.refused(project, "do not fit each other or the base: ", expected, "hint: refresh it")

    def test_lacks_packages_of_the_other_base(self, bench: DebianBench) -> None:
        had = self.has("libpq5", "18")
        lock = locked(bench, self.project(bench, "before", had))
        assert find_pins(lock.parent).selections[0].packages == ()
        bench.made(lock.parent)
        project = self.project(bench, "after", STATUS, lock.read_text())
        bench.refused(project, "do not fit each other or the base: ", "'libpq5'", "hint: refresh it")


def test_base_without_packages(bench: DebianBench) -> None:
    locked(bench, project := bench.project())
    (selection,) = find_pins(project).selections
    write_pins(project / "debian.lock", [replace(selection, packages=())])
    bench.refused(project, "the packages pinned for 'base' do not fit each other or the base", "hint: refresh it")
