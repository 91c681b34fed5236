"""`hatch-docker lock`: what it writes, what it leaves as it is, and that builds take it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import builds
import pytest
from base_maker import FakeBase, serve
from builds import Outcome, result_of
from command_bench import NOWHERE, CommandBench, whole_debian
from containers import built, environment
from debian_bench import FakeDebian
from fake_index import serving
from fake_registry import FakeRegistry
from system_maker import file

from hatch_docker.dpkg.lockfile import Selection, find_pins

pytestmark = pytest.mark.usefixtures("no_waiting")

EXAMPLE = Path(__file__).parent.parent / "example_project"
PACKAGES = 'runtime-packages = ["libpq5"]'
STATUS = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-12\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeDebian:
    return whole_debian(tmp_path_factory.mktemp("debian"))


@pytest.fixture
def bench(made: FakeDebian, tmp_path: Path) -> Iterator[CommandBench]:
    with made.copy() as archive, serving() as index:
        yield CommandBench(tmp_path, archive, index)


def done(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def refused(outcome: Outcome, *said: str, code: int = 1) -> None:
    """It ended with a message, and nothing on standard output."""
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    for each in said:
        assert each in outcome.err
    assert "Traceback" not in outcome.err


def pins(project: Path) -> dict[str, Selection]:
    """What is pinned for the platform of projects, by purpose."""
    return {each.purpose: each for each in find_pins(project).selections if each.architecture == "amd64"}


def versions(selection: Selection) -> dict[str, str]:
    return {each.name: each.version for each in selection.packages}


def dependent(bench: CommandBench, *requirements: str, folder: str = "project", docker: str = "") -> Path:
    """A project that requires something, on a base that is a file."""
    base = f"oci:{bench.base()}"
    return bench.project(folder, base=base, dependencies=requirements, docker=docker)


class TestPackagesOfDebian:
    def test_are_pinned_for_all_purposes(self, bench: CommandBench) -> None:
        project = bench.project(docker=f'{PACKAGES}\nbuild-packages = ["libpq5-tools"]')
        outcome = done(bench.hatch("lock", project=project))
        assert outcome.out == "debian.lock\n"
        found = pins(project)
        assert list(found) == ["base", "runtime-packages", "builder"]
        assert "python3.13-minimal" in versions(found["base"])
        assert sorted(versions(found["runtime-packages"])) == ["libldap2", "libpq5"]
        assert {"gcc", "libpq5-tools", "python3.13-dev"} <= versions(found["builder"]).keys()
        assert "netbase" not in versions(found["builder"])
        assert "  base: 12 packages of Debian trixie (amd64)\n" in outcome.err
        assert "  runtime-packages: 2 packages of Debian trixie (amd64)\n" in outcome.err

    def test_make_the_same_image_with_no_index_in_reach(self, bench: CommandBench) -> None:
        project = bench.project(docker=PACKAGES)
        digest = bench.digest(project)
        done(bench.hatch("lock", project=project))
        bench.archive.put("netbase", {"etc/new": file()}, version="99")
        bench.archive.put("libpq5", {}, version="99")
        bench.archive.release()
        bench.archive.requests.clear()
        elsewhere = CommandBench(bench.root / "other", bench.archive, bench.index)
        assert elsewhere.digest(project) == digest
        assert not [path for path in bench.archive.requests if "/dists/" in path]
        # With all in the cache, there need not be an archive at all.
        assert elsewhere.digest(project, HATCH_DOCKER_DEBIAN_MIRROR=f"http://{NOWHERE}/debian") == digest

    def test_of_a_base_alone_take_only_indexes(self, bench: CommandBench) -> None:
        project = bench.project(docker='builder = "docker-daemon:acme/builder:1"')
        done(bench.hatch("lock", project=project))
        assert list(pins(project)) == ["base"]
        assert not [path for path in bench.archive.requests if "/pool/" in path]

    def test_stay_where_they_fit(self, bench: CommandBench) -> None:
        project = bench.project(docker=PACKAGES)
        done(bench.hatch("lock", project=project))
        before = (project / "debian.lock").read_bytes()
        bench.archive.put("netbase", {}, version="99")
        bench.archive.release()
        bench.archive.requests.clear()
        outcome = done(bench.hatch("lock", project=project))
        assert outcome.out == ""
        assert "base: 12 packages of Debian trixie (amd64), as before\n" in outcome.err
        assert "nothing to do" in outcome.err
        assert (project / "debian.lock").read_bytes() == before
        assert bench.archive.requests == []

    def test_that_are_not_asked_for_any_more_go_and_the_others_stay(self, bench: CommandBench) -> None:
        project = bench.project(docker=PACKAGES)
        done(bench.hatch("lock", project=project))
        before = pins(project)
        bench.archive.put("netbase", {}, version="99")
        bench.archive.release()
        outcome = done(bench.hatch("lock", project=project, HATCH_DOCKER_RUNTIME_PACKAGES="libldap2"))
        assert outcome.out == "debian.lock\n"
        assert "runtime-packages: 1 package of Debian trixie (amd64)\n    libpq5 17.6-1 (removed)\n" in outcome.err
        assert list(versions(pins(project)["runtime-packages"])) == ["libldap2"]
        (project / "pyproject.toml").write_text((project / "pyproject.toml").read_text().replace(PACKAGES, ""))
        outcome = done(bench.hatch("lock", project=project))
        assert "runtime-packages: not needed any more\n" in outcome.err
        assert pins(project) == {purpose: before[purpose] for purpose in ("base", "builder")}

    @pytest.mark.parametrize(
        ("env", "name"),
        [
            ({"HATCH_DOCKER_BASE": "debian:trixie-debug"}, "bash"),
            ({"HATCH_DOCKER_PYTHON": "3.12"}, "python3.12-minimal"),
        ],
    )
    def test_are_chosen_anew_for_another_base(self, bench: CommandBench, env: dict[str, str], name: str) -> None:
        bench.archive.base("3.12.4")
        bench.archive.toolchain("3.12.4")
        bench.archive.release()
        project = bench.project(docker=PACKAGES)
        done(bench.hatch("lock", project=project))
        assert name not in versions(pins(project)["base"])
        bench.refused(project, "the lock is stale", "hint: refresh it: hatch-docker lock", **env)
        outcome = done(bench.hatch("lock", project=project, **env))
        assert f"    {name} " in outcome.err
        assert name in versions(pins(project)["base"])
        assert bench.digest(project, **env)

    def test_on_another_base_are_chosen_anew_too(self, bench: CommandBench) -> None:
        bench.archive.put("named", {}, Depends="hostname")
        bench.archive.release()
        project = bench.project(docker='runtime-packages = ["named"]')
        done(bench.hatch("lock", project=project, HATCH_DOCKER_BASE="debian:trixie-debug"))
        assert list(versions(pins(project)["runtime-packages"])) == ["named"]
        done(bench.hatch("lock", project=project))
        assert sorted(versions(pins(project)["runtime-packages"])) == ["hostname", "named"]
        assert bench.digest(project)

    def test_are_chosen_anew_where_that_is_asked_for(self, bench: CommandBench) -> None:
        project = bench.project(docker=PACKAGES)
        done(bench.hatch("lock", project=project))
        outcome = done(bench.hatch("lock", "--upgrade", "base", project=project))
        assert outcome.out == ""
        assert "everything is up to date" in outcome.err
        bench.archive.put("netbase", {"etc/services": file()}, version="1.0-1+deb13u1", suite="trixie-security")
        bench.archive.put("libldap2", {}, version="2", Depends="libsasl2")
        bench.archive.put("libsasl2", {})
        bench.archive.release()
        outcome = done(
            bench.hatch("lock", "--upgrade", "base", project=project, HATCH_DOCKER_RUNTIME_PACKAGES="libldap2")
        )
        assert "    netbase 1.0-1 → 1.0-1+deb13u1\n" in outcome.err
        assert "    libldap2 1.0-1 → 2\n    libpq5 17.6-1 (removed)\n    libsasl2 1.0-1 (added)\n" in outcome.err
        (netbase,) = (each for each in pins(project)["base"].packages if each.name == "netbase")
        assert netbase.suite == "trixie-security"

    def test_of_other_platforms_stay(self, bench: CommandBench) -> None:
        project = bench.project()
        done(bench.hatch("lock", project=project, HATCH_DOCKER_PLATFORMS="linux/arm64"))
        done(bench.hatch("lock", project=project))
        before = [each for each in find_pins(project).selections if each.architecture == "arm64"]
        assert {each.purpose for each in before} == {"base", "builder"}
        for architecture in ("amd64", "arm64"):
            bench.archive.put("netbase", {}, version="99", architecture=architecture)
        bench.archive.release()
        done(bench.hatch("lock", "--upgrade", "base", project=project))
        assert versions(pins(project)["base"])["netbase"] == "99"
        assert [each for each in find_pins(project).selections if each.architecture == "arm64"] == before

    def test_on_an_image_of_debians_are_pinned_alone(self, bench: CommandBench) -> None:
        release = b"ID=debian\nVERSION_CODENAME=trixie\n"
        base = bench.base(FakeBase(files={"var/lib/dpkg/status": STATUS.encode(), "etc/os-release": release}))
        project = bench.project(base=f"oci:{base}", docker=PACKAGES)
        done(bench.hatch("lock", project=project))
        assert list(pins(project)) == ["runtime-packages"]
        assert "libc6" not in versions(pins(project)["runtime-packages"])

    def test_of_a_builder_alone_are_pinned(self, bench: CommandBench) -> None:
        project = bench.project(base=f"oci:{bench.base()}", docker='builder = "debian"')
        done(bench.hatch("lock", project=project))
        assert list(pins(project)) == ["base", "builder"]

    def test_of_a_builder_that_is_another_debian_are_not(self, bench: CommandBench) -> None:
        project = bench.project(docker='builder = "debian:trixie-debug"')
        done(bench.hatch("lock", project=project))
        assert list(pins(project)) == ["base"]
        assert bench.digest(project)

    def test_that_are_none_any_more_are_left_to_people(self, bench: CommandBench) -> None:
        project = bench.project()
        done(bench.hatch("lock", project=project))
        outcome = done(bench.hatch("lock", project=project, HATCH_DOCKER_BASE=f"oci:{bench.base()}"))
        assert outcome.out == ""
        assert "nothing of the image comes out of Debian's archive; debian.lock is not needed any more" in outcome.err
        assert (project / "debian.lock").exists()


class TestMistakes:
    def test_leave_nothing_written(self, bench: CommandBench) -> None:
        project = bench.project(docker='runtime-packages = ["libpq6"]')
        refused(bench.hatch("lock", project=project), "there is no package 'libpq6'", "similar are libpq5")
        project = bench.project("adrift", docker='runtime-packages = ["adrift"]')
        refused(bench.hatch("lock", project=project), "anchor (>= 2)")
        assert not (project / "debian.lock").exists()

    def test_keep_what_was_pinned(self, bench: CommandBench) -> None:
        bench.offer("demo")
        project = bench.project(dependencies=["demo"])
        done(bench.hatch("lock", project=project))
        before = {name: (project / name).read_bytes() for name in ("debian.lock", "pylock.docker.toml")}
        bench.archive.put("netbase", {}, version="99")
        bench.archive.release()
        bench.index.files.clear()
        outcome = bench.hatch("lock", "--upgrade", "python", "--upgrade", "base", project=project)
        refused(outcome, "the dependencies cannot be resolved", "demo")
        assert {name: (project / name).read_bytes() for name in before} == before

    def test_of_a_lock_that_is_damaged(self, bench: CommandBench) -> None:
        project = bench.project()
        (project / "debian.lock").write_text("version = 1\n[[selection]]\n")
        refused(
            bench.hatch("lock", project=project), "debian.lock: the lock file is invalid", "hint: delete it and run"
        )
        (project / "debian.lock").write_text("version = 99\n")
        refused(bench.hatch("lock", project=project), "it has version 99; this version of hatch-docker reads 1")

    def test_of_an_archive_that_is_not_there(self, bench: CommandBench) -> None:
        nowhere = f"http://{NOWHERE}/debian"
        refused(bench.hatch("lock", project=bench.project(), HATCH_DOCKER_DEBIAN_MIRROR=nowhere), nowhere, "hint: ")

    def test_of_a_folder_that_cannot_be_written_to(self, bench: CommandBench) -> None:
        project = bench.project()
        (project / "debian.lock").mkdir()
        refused(bench.hatch("lock", project=project), "debian.lock")

    def test_of_the_command_line(self, bench: CommandBench) -> None:
        refused(bench.hatch("lock", "--upgrade", "bse", project=bench.root), "invalid choice: 'bse'", code=2)


class TestPackagesOfPython:
    def test_are_locked_as_a_build_resolves_them(self, bench: CommandBench) -> None:
        bench.offer("demo", requires=["needed"])
        bench.offer("needed")
        project = dependent(bench, "demo>=1")
        digest = bench.digest(project)
        # What is new since is not what was built.
        bench.offer("needed", "2.0")
        outcome = done(bench.hatch("lock", project=project))
        assert outcome.out == "pylock.docker.toml\n"
        assert "python: 2 packages for CPython 3.13.5 on linux/amd64 (glibc " in outcome.err
        shutil.rmtree(project / "dist")
        assert bench.digest(project) == digest
        assert result_of(project)["lock"] == "pylock.docker.toml"
        outcome = done(bench.hatch("lock", project=project))
        assert outcome.out == ""
        assert ", as before\n" in outcome.err

    def test_are_the_newest_where_that_is_asked_for(self, bench: CommandBench) -> None:
        bench.offer("demo", requires=["needed"])
        bench.offer("needed")
        project = dependent(bench, "demo")
        done(bench.hatch("lock", project=project))
        bench.offer("demo", "2.0")
        outcome = done(bench.hatch("lock", "--upgrade", "python", project=project))
        assert outcome.out == "pylock.docker.toml\n"
        assert "    demo 1.0 → 2.0\n    needed 1.0 (removed)\n" in outcome.err
        outcome = done(bench.hatch("lock", "--upgrade", "python", project=project))
        assert outcome.out == ""
        assert "everything is up to date" in outcome.err

    def test_stay_where_they_can_when_something_else_is_asked_for(self, bench: CommandBench) -> None:
        bench.offer("demo")
        project = dependent(bench, "demo")
        done(bench.hatch("lock", project=project))
        bench.offer("demo", "2.0")
        bench.offer("other")
        text = (project / "pyproject.toml").read_text()
        (project / "pyproject.toml").write_text(text.replace("['demo']", "['demo', 'other']"))
        outcome = done(bench.hatch("lock", project=project))
        assert "pylock.docker.toml is stale" in outcome.err
        assert "python: 2 packages for " in outcome.err
        assert "    other 1.0 (added)\n" in outcome.err
        assert "demo" not in outcome.err.partition("python: ")[2]
        (project / "pyproject.toml").write_text(text.replace("['demo']", "['demo>=2', 'other']"))
        outcome = done(bench.hatch("lock", project=project))
        assert "    demo 1.0 → 2.0\n" in outcome.err

    def test_of_another_tools_lock_are_left_to_it(self, bench: CommandBench) -> None:
        project = bench.project(base=f"oci:{bench.base()}", wheels=[bench.wheel("demo")])
        before = (project / "pylock.toml").read_bytes()
        outcome = done(bench.hatch("lock", project=project))
        assert outcome.out == ""
        assert "nothing to do; pylock.toml, which another tool makes, has Python's packages; " in outcome.err
        outcome = bench.hatch("lock", "--upgrade", "python", project=project)
        refused(
            outcome, "pylock.toml: another tool makes this lock", "hint: ", "uv pip compile", "-o pylock.toml --upgrade"
        )
        assert (project / "pylock.toml").read_bytes() == before

    def test_go_where_the_project_wants_its_lock(self, bench: CommandBench) -> None:
        bench.offer("demo")
        project = dependent(bench, "demo", docker='lock = "pylock.image.toml"')
        assert done(bench.hatch("lock", project=project)).out == "pylock.image.toml\n"
        assert bench.digest(project)
        assert result_of(project)["lock"] == "pylock.image.toml"
        project = dependent(bench, "demo", folder="other", docker='lock = "uv.lock"')
        refused(bench.hatch("lock", project=project), "there is no such lock")

    def test_that_are_none_need_no_lock(self, bench: CommandBench) -> None:
        outcome = done(bench.hatch("lock", project=dependent(bench)))
        assert outcome.out == ""
        assert "nothing to do; the project requires nothing; nothing of the image comes out" in outcome.err


class TestABaseOfARegistry:
    @pytest.fixture
    def registry(self) -> Iterator[FakeRegistry]:
        with FakeRegistry() as registry:
            yield registry

    def test_is_to_be_named_by_its_digest(self, bench: CommandBench, registry: FakeRegistry) -> None:
        digest = serve(bench.base(), registry, "team/base", "1")
        name = f"{registry.host}/team/base:1"
        outcome = done(bench.hatch("lock", project=bench.project(base=name)))
        assert outcome.out == ""
        assert f'"{name}@{digest}"\n' in outcome.err
        outcome = done(bench.hatch("lock", project=bench.project("other", base=f"{name}@{digest}")))
        assert "digest" not in outcome.err
        assert "named by a tag" not in outcome.err


@pytest.mark.network
@pytest.mark.debian
class TestForReal:
    def test_the_example_is_made_again_with_nothing_in_reach(self, tmp_path: Path, shared_cache: Path) -> None:
        project = Path(shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("dist", ".*")))
        mirror = {name: value for name, value in os.environ.items() if name.startswith("HATCH_DOCKER_DEBIAN_")}
        environ = environment(shared_cache, **mirror, HATCH_DOCKER_CREATED="epoch")
        built(project, environ, "docker:archive")
        digest = result_of(project)["digest"]
        assert done(builds.command("lock", env=environ, folder=project)).out == "debian.lock\n"
        shutil.rmtree(project / "dist")
        dead = f"http://{NOWHERE}"
        away = {"HTTP_PROXY": dead, "HTTPS_PROXY": dead, "http_proxy": dead, "https_proxy": dead, "no_proxy": ""}
        built(project, {**environ, **away}, "docker:archive")
        assert result_of(project)["digest"] == digest
