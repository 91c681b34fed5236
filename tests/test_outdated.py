"""`hatch-docker outdated`: what it lists, in which order, and what it reports about packages that it cannot check."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import builds
import pytest
from base_maker import FakeBase
from builds import Outcome
from command_bench import NOWHERE, CommandBench, whole_debian
from containers import environment
from debian_bench import FakeDebian
from dpkg_maker import file
from fake_index import serving
from project_maker import make_project

pytestmark = pytest.mark.usefixtures("no_waiting")

RELEASE = b"ID=debian\nVERSION_CODENAME=trixie\n"
STANZA = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {}\n\n"
HEAD = ["package", "has", "newest", "from"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeDebian:
    return whole_debian(tmp_path_factory.mktemp("debian"))


@pytest.fixture
def bench(made: FakeDebian, tmp_path: Path) -> Iterator[CommandBench]:
    with made.copy() as archive, serving() as index:
        yield CommandBench(tmp_path, archive, index)


def rows(outcome: Outcome, code: int = 0) -> list[list[str]]:
    """The rows of the table without its heading: the first three cells, and the rest of the line as one."""
    assert outcome.code == code, outcome.err
    lines = [line.split(maxsplit=3) for line in outcome.out.splitlines()]
    assert not lines or lines[0] == HEAD
    return lines[1:]


def refused(outcome: Outcome, *said: str) -> None:
    assert (outcome.code, outcome.out) == (1, ""), outcome.err
    for each in said:
        assert each in outcome.err
    assert "Traceback" not in outcome.err


def locked(bench: CommandBench, **options: str) -> Path:
    """A project on a base from the archive, whose packages are pinned."""
    project = bench.project(**options)
    outcome = bench.hatch("lock", project=project)
    assert outcome.code == 0, outcome.err
    return project


def slim(bench: CommandBench, **packages: str) -> str:
    """A base whose dpkg database has these packages."""
    status = "".join(STANZA.format(name, version) for name, version in packages.items())
    return f"oci:{bench.base(FakeBase(files={'var/lib/dpkg/status': status.encode(), 'etc/os-release': RELEASE}))}"


class TestDebianPackages:
    def test_lists_security_updates_first(self, bench: CommandBench) -> None:
        project = locked(bench, docker='runtime-packages = ["libpq5"]')
        assert rows(bench.hatch("outdated", project=project)) == []
        bench.archive.put("libpq5", {}, version="17.7-1", suite="trixie-updates")
        bench.archive.put("base-files", {}, version="2")
        bench.archive.put("netbase", {}, version="1.0-1+deb13u1", suite="trixie-security")
        bench.archive.put("gcc", {}, version="99")
        bench.archive.release()
        outcome = bench.hatch("outdated", project=project)
        assert rows(outcome) == [
            ["netbase", "1.0-1", "1.0-1+deb13u1", "trixie-security, security"],
            ["base-files", "1.0-1", "2", "trixie"],
            ["libpq5", "17.6-1", "17.7-1", "trixie-updates"],
        ]
        assert "to upgrade Debian packages: hatch-docker lock --upgrade base\n" in outcome.err
        assert bench.hatch("lock", "--upgrade", "base", project=project).code == 0
        outcome = bench.hatch("outdated", project=project)
        assert rows(outcome) == []
        assert "everything is up to date (debian:trixie, 0 Python packages)\n" in outcome.err

    def test_lists_nothing_if_packages_are_not_pinned(self, bench: CommandBench) -> None:
        project = bench.project()
        assert bench.digest(project)
        bench.archive.put("netbase", {"etc/services": file()}, version="99")
        bench.archive.release()
        assert rows(bench.hatch("outdated", project=project)) == []

    def test_marks_a_security_fix_below_a_newer_version(self, bench: CommandBench) -> None:
        project = locked(bench)
        bench.archive.put("netbase", {}, version="1.0-1+deb13u1", suite="trixie-security")
        bench.archive.put("netbase", {}, version="1.0-2", suite="trixie-updates")
        bench.archive.release()
        assert rows(bench.hatch("outdated", project=project)) == [
            ["netbase", "1.0-1", "1.0-2", "trixie-updates, security"]
        ]

    def test_checks_any_debian_image(self, bench: CommandBench) -> None:
        # Versions are in Debian's order. Packages that the archive lacks are not listed.
        base = slim(bench, netbase="1.0~rc1-1", libc6="2.41-12", tzdata="9:1", locally="1")
        outcome = bench.hatch("outdated", project=bench.project(base=base))
        assert rows(outcome) == [["netbase", "1.0~rc1-1", "1.0-1", "trixie"]]
        assert f"a newer image of {base}, or name them in runtime-packages\n" in outcome.err

    def test_does_not_list_packages_that_the_build_upgrades(self, bench: CommandBench) -> None:
        project = bench.project(base=slim(bench, netbase="0.9-1", libc6="2.41-12"))
        env = {"HATCH_DOCKER_RUNTIME_PACKAGES": "netbase"}
        assert rows(bench.hatch("outdated", project=project)) == [["netbase", "0.9-1", "1.0-1", "trixie"]]
        assert rows(bench.hatch("outdated", project=project, **env)) == []

    def test_does_not_check_other_images(self, bench: CommandBench) -> None:
        base = f"oci:{bench.base(FakeBase(libc='musl'))}"
        outcome = bench.hatch("outdated", project=bench.project(base=base))
        assert rows(outcome) == []
        assert f"{base} is not a Debian image: its OS packages are not checked\n" in outcome.err
        assert bench.archive.requests == []

    def test_check_fails_for_security_updates(self, bench: CommandBench) -> None:
        project = locked(bench)
        bench.archive.put("base-files", {}, version="2")
        bench.archive.release()
        assert len(rows(bench.hatch("outdated", "--check", project=project))) == 1
        bench.archive.put("netbase", {}, version="2", suite="trixie-security")
        bench.archive.release()
        assert len(rows(bench.hatch("outdated", project=project))) == 2
        assert len(rows(bench.hatch("outdated", "--check", project=project), code=1)) == 2

    def test_archive_is_expired(self, bench: CommandBench) -> None:
        project = locked(bench)
        bench.archive.put("netbase", {}, version="2")
        bench.archive.release(Date="Mon, 01 Jan 2001 00:00:00 UTC")
        refused(bench.hatch("outdated", project=project), "trixie", "hint: ")


class TestPythonPackages:
    @pytest.fixture
    def project(self, bench: CommandBench) -> Path:
        """A project whose dependencies are locked in the only versions on the index."""
        for name in ("apple", "banana", "cherry"):
            bench.offer(name, "1.0", requires=["cherry<2"] if name == "banana" else ())
        project = bench.project(base=f"oci:{bench.base()}", dependencies=["apple", "banana>=1,<3"])
        assert bench.hatch("lock", project=project).code == 0
        return project

    def test_lists_newer_versions_with_what_excludes_them(self, bench: CommandBench, project: Path) -> None:
        assert rows(bench.hatch("outdated", project=project)) == []
        bench.offer("apple", "1.10")
        bench.offer("apple", "1.9")
        bench.offer("banana", "3.0")
        bench.offer("banana", "2.0")
        bench.offer("cherry", "2.0")
        outcome = bench.hatch("outdated", project=project)
        assert rows(outcome) == [
            ["apple", "1.0", "1.10", "Python"],
            ["banana", "1.0", "3.0", "Python, the project requires banana<3,>=1, as 2.0 is"],
            ["cherry", "1.0", "2.0", "Python"],
        ]
        assert "to upgrade Python packages: hatch-docker lock --upgrade python\n" in outcome.err

    def test_lists_yanked_versions_first(self, bench: CommandBench, project: Path) -> None:
        bench.offer("apple", "1.1")
        name = "banana-1.0-py3-none-any.whl"
        assert bench.index.json
        media_type, body = bench.index.page("banana") or ("", b"")
        page = json.loads(body)
        page["files"][0]["yanked"] = "leaks \x1b[31mmemory"
        bench.index.pages["/simple/banana/"] = (media_type, json.dumps(page).encode())
        outcome = bench.hatch("outdated", "--check", project=project)
        assert rows(outcome, code=1) == [
            ["banana", "1.0", "none", "Python, yanked: leaks \\x1b[31mmemory"],
            ["apple", "1.0", "1.1", "Python"],
        ]
        page = f'<a href="../../files/{name}" data-yanked>{name}</a>'
        bench.index.pages["/simple/banana/"] = ("text/html", page.encode())
        assert rows(bench.hatch("outdated", project=project))[0] == ["banana", "1.0", "none", "Python, yanked"]

    @pytest.mark.parametrize(
        "filename",
        [
            "apple-2.0-1yanked-py3-none-any.whl",
            "apple-2.0-cp312-cp312-manylinux_2_17_x86_64.whl",
            "apple-2.0-cp313-cp313-musllinux_1_2_x86_64.whl",
            "apple-2.0-cp313-cp313-win_amd64.whl",
            "apple-2.0rc1-py3-none-any.whl",
            "apple-two-py3-none-any.whl",
            "pear-2.0-py3-none-any.whl",
        ],
    )
    def test_ignores_files_that_do_not_fit_the_image(self, bench: CommandBench, project: Path, filename: str) -> None:
        bench.index.add("apple", filename, b"")
        assert rows(bench.hatch("outdated", project=project)) == []

    @pytest.mark.parametrize("filename", ["apple-2.0.tar.gz", "apple-2.0-cp313-cp313-manylinux_2_17_x86_64.whl"])
    def test_lists_sdists_and_wheels_that_fit(self, bench: CommandBench, project: Path, filename: str) -> None:
        bench.index.add("apple", filename, b"")
        assert rows(bench.hatch("outdated", project=project)) == [["apple", "1.0", "2.0", "Python"]]

    def test_ignores_files_for_another_python(self, bench: CommandBench, project: Path) -> None:
        bench.offer("apple", "2.0")
        media_type, body = bench.index.page("apple") or ("", b"")
        for requires, count in ((">=3.14", 0), (">=3.13", 1), (">=3.x", 1)):
            page = json.loads(body)
            page["files"][-1]["requires-python"] = requires
            bench.index.pages["/simple/apple/"] = (media_type, json.dumps(page).encode())
            assert len(rows(bench.hatch("outdated", project=project))) == count

    def test_lists_prereleases_for_a_prerelease(self, bench: CommandBench) -> None:
        bench.offer("apple", "2.0a1")
        project = bench.project(base=f"oci:{bench.base()}", dependencies=["apple>=2.0a1"])
        assert bench.hatch("lock", project=project).code == 0
        bench.offer("apple", "2.0b1")
        assert rows(bench.hatch("outdated", project=project)) == [["apple", "2.0a1", "2.0b1", "Python"]]

    def test_compares_with_the_last_build_without_a_lock(self, bench: CommandBench) -> None:
        bench.offer("apple")
        project = bench.project(base=f"oci:{bench.base()}", dependencies=["apple"])
        assert bench.digest(project)
        bench.offer("apple", "2.0")
        outcome = bench.hatch("outdated", project=project)
        assert rows(outcome) == [["apple", "1.0", "2.0", "Python"]]
        assert "to upgrade Python packages: delete " in outcome.err
        assert "pylock.shop.toml" in outcome.err

    def test_compares_with_the_lock_of_another_tool(self, bench: CommandBench) -> None:
        bench.offer("apple")
        bench.offer("apple", "2.0")
        project = bench.project(base=f"oci:{bench.base()}", wheels=[bench.wheel("apple")])
        outcome = bench.hatch("outdated", project=project)
        assert rows(outcome) == [["apple", "1.0", "2.0", "Python"]]
        assert "-o pylock.toml --upgrade\n" in outcome.err

    def test_compares_with_the_index_that_a_package_came_from(self, bench: CommandBench) -> None:
        bench.offer("apple", "9.0")
        bench.offer("banana", "9.0")
        with serving() as corp:
            path = bench.wheel("apple", "1.0")
            digest = corp.add("apple", path.name, path.read_bytes())
            project = bench.project(base=f"oci:{bench.base()}", dependencies=["apple"])
            (project / "pylock.toml").write_text(
                f"""lock-version = "1.0"
                created-by = "test"
                [[packages]]
                name = "apple"
                version = "1.0"
                index = "{corp.url}"
                wheels = [{{ url = "{corp.file_url(path.name)}", hashes = {{ sha256 = "{digest}" }} }}]
                [[packages]]
                name = "banana"
                archive = {{ url = "https://files.example/banana-1.0-py3-none-any.whl", hashes.sha256 = "{"0" * 64}" }}
                """
            )
            outcome = bench.hatch("outdated", project=project)
            assert rows(outcome) == []
            assert "not compared with an index: banana (from a directory, Git or a URL)\n" in outcome.err
            assert bench.index.paths() == []
            path = bench.wheel("apple", "1.1")
            corp.add("apple", path.name, path.read_bytes())
            assert rows(bench.hatch("outdated", project=project)) == [["apple", "1.0", "1.1", "Python"]]

    def test_explicit_index_is_asked_only_for_its_packages(self, bench: CommandBench) -> None:
        bench.offer("banana", "2.0")
        with serving() as corp:
            path = bench.wheel("apple", "1.1")
            corp.add("apple", path.name, path.read_bytes())
            bench.offer("apple", "9.0")
            wheels = [bench.wheel("apple", "1.0"), bench.wheel("banana", "1.0")]
            project = bench.project(base=f"oci:{bench.base()}", wheels=wheels, dependencies=["apple", "banana"])
            with (project / "pyproject.toml").open("a") as file:
                file.write(
                    f"""
[tool.uv.sources]
apple = {{ index = "corp" }}
[[tool.uv.index]]
name = "corp"
url = "{corp.url}"
explicit = true
"""
                )
            assert rows(bench.hatch("outdated", project=project)) == [
                ["apple", "1.0", "1.1", "Python"],
                ["banana", "1.0", "2.0", "Python"],
            ]
            assert corp.paths() == ["/simple/apple/"]
            assert bench.index.paths() == ["/simple/banana/"]

    def test_skips_packages_that_the_index_lacks(self, bench: CommandBench, project: Path) -> None:
        bench.offer("apple", "2.0")
        bench.index.files = {key: data for key, data in bench.index.files.items() if key[0] != "cherry"}
        outcome = bench.hatch("outdated", project=project)
        assert rows(outcome) == [["apple", "1.0", "2.0", "Python"]]
        assert "cherry is not checked: no package index has cherry\n" in outcome.err

    def test_index_has_no_package(self, bench: CommandBench, project: Path) -> None:
        bench.index.files.clear()
        refused(bench.hatch("outdated", project=project), "no package index has apple", "hint: ")
        bench.index.login = ("me", "s3cret")
        refused(bench.hatch("outdated", project=project), "requires a login", "hint: ")
        nowhere = f"http://me:s3cret@{NOWHERE}/simple/"
        outcome = bench.hatch("outdated", project=project, HATCH_DOCKER_INDEX_URL=nowhere)
        refused(outcome, f"{NOWHERE}/simple/")
        assert "s3cret" not in outcome.err

    def test_lock_is_stale(self, bench: CommandBench, project: Path) -> None:
        text = (project / "pyproject.toml").read_text()
        (project / "pyproject.toml").write_text(text.replace("'apple'", "'apple>=2'"))
        refused(bench.hatch("outdated", project=project), "the lock is stale: the project requires apple>=2")


@pytest.mark.base
@pytest.mark.network
@pytest.mark.debian
class TestRealArchive:
    def test_compares_slim_with_the_archive(self, tmp_path: Path, shared_cache: Path) -> None:
        docker = 'base = "slim"\npython = "3.13"'
        project = make_project(tmp_path / "project", dependencies=["six==1.15.0"], docker=docker)
        mirror = {name: value for name, value in os.environ.items() if name.startswith("HATCH_DOCKER_DEBIAN_")}
        outcome = builds.command("outdated", env=environment(shared_cache, **mirror), folder=project)
        listed = {name: rest for name, *rest in rows(outcome)}
        version, newest, origin = listed.pop("six")
        assert version == "1.15.0"
        assert tuple(map(int, newest.split("."))) > (1, 15)
        assert origin == "Python, the project requires six==1.15.0"
        assert all(origin.startswith("trixie") for _, _, origin in listed.values())
