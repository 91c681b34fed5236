"""`hatch-docker lock`: what it writes, what it keeps, and that builds use it."""

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
from dpkg_maker import file
from fake_index import serving
from fake_registry import FakeRegistry

from hatch_docker.dpkg.lockfile import Selection, find_pins

pytestmark = pytest.mark.usefixtures("no_waiting")

EXAMPLE = Path(__file__).parent.parent / "example_project"
PACKAGES = 'runtime-packages = ["libpq5"]'
STATUS = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-12\n"


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> FakeDebian:
    return whole_debian(tmp_path_factory.mktemp("debian"))


@pytest.fixture
def bench(debian: FakeDebian, tmp_path: Path) -> Iterator[CommandBench]:
    with debian.copy() as archive, serving() as index:
        yield CommandBench(tmp_path, archive, index)


def succeeded(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def refused(outcome: Outcome, *expected: str, code: int = 1) -> None:
    """Check that the command failed with a message, and printed nothing on standard output."""
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    for each in expected:
        assert each in outcome.err
    assert "Traceback" not in outcome.err


def pins(project: Path) -> dict[str, Selection]:
    """The selections for linux/amd64, by purpose."""
    return {each.purpose: each for each in find_pins(project).selections if each.architecture == "amd64"}


def versions(selection: Selection) -> dict[str, str]:
    return {each.name: each.version for each in selection.packages}


def requiring(bench: CommandBench, *requirements: str, folder: str = "project", docker: str = "") -> Path:
    """A project with requirements, on a base that is a file."""
    base = f"oci:{bench.base()}"
    return bench.project(folder, base=base, dependencies=requirements, docker=docker)


class TestDebianPackages:
    def test_all_purposes_are_pinned(self, bench: CommandBench) -> None:
        project = bench.project(docker=f'{PACKAGES}\nbuild-packages = ["libpq5-tools"]')
        outcome = succeeded(bench.hatch("lock", project=project))
        assert outcome.out == "debian.lock\n"
        found = pins(project)
        assert list(found) == ["base", "runtime-packages", "builder"]
        assert "python3.13-minimal" in versions(found["base"])
        assert sorted(versions(found["runtime-packages"])) == ["libldap2", "libpq5"]
        assert {"gcc", "libpq5-tools", "python3.13-dev"} <= versions(found["builder"]).keys()
        assert "netbase" not in versions(found["builder"])
        assert "  base: 12 packages of Debian trixie (amd64)\n" in outcome.err
        assert "  runtime-packages: 2 packages of Debian trixie (amd64)\n" in outcome.err

    def test_pinned_packages_need_no_index(self, bench: CommandBench) -> None:
        project = bench.project(docker=PACKAGES)
        digest = bench.digest(project)
        succeeded(bench.hatch("lock", project=project))
        bench.archive.put("netbase", {"etc/new": file()}, version="99")
        bench.archive.put("libpq5", {}, version="99")
        bench.archive.release()
        bench.archive.requests.clear()
        elsewhere = CommandBench(bench.root / "other", bench.archive, bench.index)
        assert elsewhere.digest(project) == digest
        assert not [path for path in bench.archive.requests if "/dists/" in path]
        # With everything in the cache, no archive is needed.
        assert elsewhere.digest(project, HATCH_DOCKER_DEBIAN_MIRROR=f"http://{NOWHERE}/debian") == digest

    def test_pinning_a_base_downloads_only_indexes(self, bench: CommandBench) -> None:
        project = bench.project(docker='builder = "docker-daemon:acme/builder:1"')
        succeeded(bench.hatch("lock", project=project))
        assert list(pins(project)) == ["base"]
        assert not [path for path in bench.archive.requests if "/pool/" in path]

    def test_fitting_pins_are_kept(self, bench: CommandBench) -> None:
        project = bench.project(docker=PACKAGES)
        succeeded(bench.hatch("lock", project=project))
        before = (project / "debian.lock").read_bytes()
        bench.archive.put("netbase", {}, version="99")
        bench.archive.release()
        bench.archive.requests.clear()
        outcome = succeeded(bench.hatch("lock", project=project))
        assert outcome.out == ""
        assert "base: 12 packages of Debian trixie (amd64), as before\n" in outcome.err
        assert "nothing to do" in outcome.err
        assert (project / "debian.lock").read_bytes() == before
        assert bench.archive.requests == []

    def test_unused_pins_are_removed_and_others_kept(self, bench: CommandBench) -> None:
        project = bench.project(docker=PACKAGES)
        succeeded(bench.hatch("lock", project=project))
        before = pins(project)
        bench.archive.put("netbase", {}, version="99")
        bench.archive.release()
        outcome = succeeded(bench.hatch("lock", project=project, HATCH_DOCKER_RUNTIME_PACKAGES="libldap2"))
        assert outcome.out == "debian.lock\n"
        assert "runtime-packages: 1 package of Debian trixie (amd64)\n    libpq5 17.6-1 (removed)\n" in outcome.err
        assert list(versions(pins(project)["runtime-packages"])) == ["libldap2"]
        (project / "pyproject.toml").write_text((project / "pyproject.toml").read_text().replace(PACKAGES, ""))
        outcome = succeeded(bench.hatch("lock", project=project))
        assert "runtime-packages: not needed any more\n" in outcome.err
        assert pins(project) == {purpose: before[purpose] for purpose in ("base", "builder")}

    @pytest.mark.parametrize(
        ("env", "name"),
        [
            ({"HATCH_DOCKER_BASE": "debian:trixie-debug"}, "bash"),
            ({"HATCH_DOCKER_PYTHON": "3.12"}, "python3.12-minimal"),
        ],
    )
    def test_another_base_is_pinned_again(self, bench: CommandBench, env: dict[str, str], name: str) -> None:
        bench.archive.base("3.12.4")
        bench.archive.toolchain("3.12.4")
        bench.archive.release()
        project = bench.project(docker=PACKAGES)
        succeeded(bench.hatch("lock", project=project))
        assert name not in versions(pins(project)["base"])
        bench.refused(project, "the lock is stale", "hint: refresh it: hatch-docker lock", **env)
        outcome = succeeded(bench.hatch("lock", project=project, **env))
        assert f"    {name} " in outcome.err
        assert name in versions(pins(project)["base"])
        assert bench.digest(project, **env)

    def test_packages_on_another_base_are_pinned_again(self, bench: CommandBench) -> None:
        bench.archive.put("named", {}, Depends="hostname")
        bench.archive.release()
        project = bench.project(docker='runtime-packages = ["named"]')
        succeeded(bench.hatch("lock", project=project, HATCH_DOCKER_BASE="debian:trixie-debug"))
        assert list(versions(pins(project)["runtime-packages"])) == ["named"]
        succeeded(bench.hatch("lock", project=project))
        assert sorted(versions(pins(project)["runtime-packages"])) == ["hostname", "named"]
        assert bench.digest(project)

    def test_upgrade_pins_the_newest(self, bench: CommandBench) -> None:
        project = bench.project(docker=PACKAGES)
        succeeded(bench.hatch("lock", project=project))
        outcome = succeeded(bench.hatch("lock", "--upgrade", "base", project=project))
        assert outcome.out == ""
        assert "everything is up to date" in outcome.err
        bench.archive.put("netbase", {"etc/services": file()}, version="1.0-1+deb13u1", suite="trixie-security")
        bench.archive.put("libldap2", {}, version="2", Depends="libsasl2")
        bench.archive.put("libsasl2", {})
        bench.archive.release()
        outcome = succeeded(
            bench.hatch("lock", "--upgrade", "base", project=project, HATCH_DOCKER_RUNTIME_PACKAGES="libldap2")
        )
        assert "    netbase 1.0-1 → 1.0-1+deb13u1\n" in outcome.err
        assert "    libldap2 1.0-1 → 2\n    libpq5 17.6-1 (removed)\n    libsasl2 1.0-1 (added)\n" in outcome.err
        (netbase,) = (each for each in pins(project)["base"].packages if each.name == "netbase")
        assert netbase.suite == "trixie-security"

    def test_pins_of_other_platforms_are_kept(self, bench: CommandBench) -> None:
        project = bench.project()
        succeeded(bench.hatch("lock", project=project, HATCH_DOCKER_PLATFORMS="linux/arm64"))
        succeeded(bench.hatch("lock", project=project))
        before = [each for each in find_pins(project).selections if each.architecture == "arm64"]
        assert {each.purpose for each in before} == {"base", "builder"}
        for architecture in ("amd64", "arm64"):
            bench.archive.put("netbase", {}, version="99", architecture=architecture)
        bench.archive.release()
        succeeded(bench.hatch("lock", "--upgrade", "base", project=project))
        assert versions(pins(project)["base"])["netbase"] == "99"
        assert [each for each in find_pins(project).selections if each.architecture == "arm64"] == before

    def test_only_added_packages_of_a_debian_image_are_pinned(self, bench: CommandBench) -> None:
        release = b"ID=debian\nVERSION_CODENAME=trixie\n"
        base = bench.base(FakeBase(files={"var/lib/dpkg/status": STATUS.encode(), "etc/os-release": release}))
        project = bench.project(base=f"oci:{base}", docker=PACKAGES)
        succeeded(bench.hatch("lock", project=project))
        assert list(pins(project)) == ["runtime-packages"]
        assert "libc6" not in versions(pins(project)["runtime-packages"])

    def test_builder_is_pinned_without_a_debian_base(self, bench: CommandBench) -> None:
        project = bench.project(base=f"oci:{bench.base()}", docker='builder = "debian"')
        succeeded(bench.hatch("lock", project=project))
        assert list(pins(project)) == ["base", "builder"]

    def test_builder_with_another_suite_is_not_pinned(self, bench: CommandBench) -> None:
        project = bench.project(docker='builder = "debian:trixie-debug"')
        succeeded(bench.hatch("lock", project=project))
        assert list(pins(project)) == ["base"]
        assert bench.digest(project)

    def test_unneeded_lock_file_is_reported_and_kept(self, bench: CommandBench) -> None:
        project = bench.project()
        succeeded(bench.hatch("lock", project=project))
        outcome = succeeded(bench.hatch("lock", project=project, HATCH_DOCKER_BASE=f"oci:{bench.base()}"))
        assert outcome.out == ""
        assert "the image has no packages from Debian's archive; debian.lock is not needed any more" in outcome.err
        assert (project / "debian.lock").exists()


class TestErrors:
    def test_unknown_packages_write_nothing(self, bench: CommandBench) -> None:
        project = bench.project(docker='runtime-packages = ["libpq6"]')
        refused(bench.hatch("lock", project=project), "there is no package 'libpq6'", "similar are libpq5")
        project = bench.project("adrift", docker='runtime-packages = ["adrift"]')
        refused(bench.hatch("lock", project=project), "anchor (>= 2)")
        assert not (project / "debian.lock").exists()

    def test_failed_upgrade_keeps_the_locks(self, bench: CommandBench) -> None:
        bench.offer("demo")
        project = bench.project(dependencies=["demo"])
        succeeded(bench.hatch("lock", project=project))
        before = {name: (project / name).read_bytes() for name in ("debian.lock", "pylock.docker.toml")}
        bench.archive.put("netbase", {}, version="99")
        bench.archive.release()
        bench.index.files.clear()
        outcome = bench.hatch("lock", "--upgrade", "python", "--upgrade", "base", project=project)
        refused(outcome, "the dependencies cannot be resolved", "demo")
        assert {name: (project / name).read_bytes() for name in before} == before

    def test_damaged_lock(self, bench: CommandBench) -> None:
        project = bench.project()
        (project / "debian.lock").write_text("version = 1\n[[selection]]\n")
        refused(
            bench.hatch("lock", project=project), "debian.lock: the lock file is invalid", "hint: delete it and run"
        )
        (project / "debian.lock").write_text("version = 99\n")
        refused(bench.hatch("lock", project=project), "it has version 99; this version of hatch-docker reads 1")

    def test_unreachable_archive(self, bench: CommandBench) -> None:
        nowhere = f"http://{NOWHERE}/debian"
        refused(bench.hatch("lock", project=bench.project(), HATCH_DOCKER_DEBIAN_MIRROR=nowhere), nowhere, "hint: ")

    def test_unwritable_lock(self, bench: CommandBench) -> None:
        project = bench.project()
        (project / "debian.lock").mkdir()
        refused(bench.hatch("lock", project=project), "debian.lock")

    def test_invalid_argument(self, bench: CommandBench) -> None:
        refused(bench.hatch("lock", "--upgrade", "bse", project=bench.root), "invalid choice: 'bse'", code=2)


class TestPythonPackages:
    def test_lock_contains_what_a_build_resolved(self, bench: CommandBench) -> None:
        bench.offer("demo", requires=["needed"])
        bench.offer("needed")
        project = requiring(bench, "demo>=1")
        digest = bench.digest(project)
        # A newer version does not change what was resolved.
        bench.offer("needed", "2.0")
        outcome = succeeded(bench.hatch("lock", project=project))
        assert outcome.out == "pylock.docker.toml\n"
        assert "python: 2 packages for Python 3.13.5\n" in outcome.err
        shutil.rmtree(project / "dist")
        assert bench.digest(project) == digest
        assert result_of(project)["lock"] == "pylock.docker.toml"
        outcome = succeeded(bench.hatch("lock", project=project))
        assert outcome.out == ""
        assert ", as before\n" in outcome.err

    def test_upgrade_resolves_again(self, bench: CommandBench) -> None:
        bench.offer("demo", requires=["needed"])
        bench.offer("needed")
        project = requiring(bench, "demo")
        succeeded(bench.hatch("lock", project=project))
        bench.offer("demo", "2.0")
        outcome = succeeded(bench.hatch("lock", "--upgrade", "python", project=project))
        assert outcome.out == "pylock.docker.toml\n"
        assert "    demo 1.0 → 2.0\n    needed 1.0 (removed)\n" in outcome.err
        outcome = succeeded(bench.hatch("lock", "--upgrade", "python", project=project))
        assert outcome.out == ""
        assert "everything is up to date" in outcome.err

    @pytest.mark.parametrize("committed", [False, True])
    def test_login_of_a_requirements_file_is_that_of_its_downloads(self, bench: CommandBench, committed: bool) -> None:
        bench.offer("demo")
        bench.index.login = ("ann", "s3cret")
        project = requiring(bench)
        (project / "requirements.txt").write_text(f"--index-url {bench.index.url_with('ann', 's3cret')}\ndemo\n")
        if committed:
            succeeded(bench.hatch("lock", project=project, HATCH_DOCKER_INDEX_URL=""))
        succeeded(bench.build(project, HATCH_DOCKER_INDEX_URL=""))
        assert not [path for path in project.rglob("*.toml") if "s3cret" in path.read_text()]

    def test_versions_are_kept_if_requirements_change(self, bench: CommandBench) -> None:
        bench.offer("demo")
        project = requiring(bench, "demo")
        succeeded(bench.hatch("lock", project=project))
        bench.offer("demo", "2.0")
        bench.offer("other")
        text = (project / "pyproject.toml").read_text()
        (project / "pyproject.toml").write_text(text.replace("['demo']", "['demo', 'other']"))
        outcome = succeeded(bench.hatch("lock", project=project))
        assert "pylock.docker.toml is stale" in outcome.err
        assert "python: 2 packages for " in outcome.err
        assert "    other 1.0 (added)\n" in outcome.err
        assert "demo" not in outcome.err.partition("python: ")[2]
        (project / "pyproject.toml").write_text(text.replace("['demo']", "['demo>=2', 'other']"))
        outcome = succeeded(bench.hatch("lock", project=project))
        assert "    demo 1.0 → 2.0\n" in outcome.err

    def test_lock_of_another_tool_is_not_changed(self, bench: CommandBench) -> None:
        project = bench.project(base=f"oci:{bench.base()}", wheels=[bench.wheel("demo")])
        before = (project / "pylock.toml").read_bytes()
        outcome = succeeded(bench.hatch("lock", project=project))
        assert outcome.out == ""
        assert "nothing to do; pylock.toml, which another tool makes, has the Python packages; " in outcome.err
        outcome = bench.hatch("lock", "--upgrade", "python", project=project)
        refused(
            outcome, "pylock.toml: another tool makes this lock", "hint: ", "uv pip compile", "-o pylock.toml --upgrade"
        )
        outcome = succeeded(bench.hatch("lock", "--upgrade", project=project))
        assert "pylock.toml, which another tool makes, has the Python packages" in outcome.err
        assert (project / "pylock.toml").read_bytes() == before

    def test_check_writes_nothing(self, bench: CommandBench) -> None:
        bench.offer("demo")
        project = requiring(bench, "demo")
        outcome = bench.hatch("lock", "--check", project=project)
        assert (outcome.code, outcome.out) == (1, "pylock.docker.toml\n")
        assert "to write it: hatch-docker lock" in outcome.err
        assert not (project / "pylock.docker.toml").exists()
        succeeded(bench.hatch("lock", project=project))
        outcome = succeeded(bench.hatch("lock", "--check", project=project))
        assert outcome.out == ""

    def test_one_package_is_upgraded(self, bench: CommandBench) -> None:
        for name in ("one", "two"):
            bench.offer(name)
        project = requiring(bench, "one", "two")
        succeeded(bench.hatch("lock", project=project))
        for name in ("one", "two"):
            bench.offer(name, "2.0")
        outcome = succeeded(bench.hatch("lock", "--upgrade-package", "Two", project=project))
        assert "    two 1.0 → 2.0\n" in outcome.err
        assert "one" not in outcome.err.partition("python: ")[2]

    def test_configured_lock_is_written(self, bench: CommandBench) -> None:
        bench.offer("demo")
        project = requiring(bench, "demo", docker='lock = "pylock.image.toml"')
        assert succeeded(bench.hatch("lock", project=project)).out == "pylock.image.toml\n"
        assert bench.digest(project)
        assert result_of(project)["lock"] == "pylock.image.toml"
        project = requiring(bench, "demo", folder="other", docker='lock = "uv.lock"')
        refused(bench.hatch("lock", project=project), "there is no such lock")

    def test_no_requirements_need_no_lock(self, bench: CommandBench) -> None:
        outcome = succeeded(bench.hatch("lock", project=requiring(bench)))
        assert outcome.out == ""
        assert (
            "nothing to do; the project requires nothing; the image has no packages from Debian's archive"
            in outcome.err
        )


class TestRegistryBase:
    @pytest.fixture
    def registry(self) -> Iterator[FakeRegistry]:
        with FakeRegistry() as registry:
            yield registry

    def test_tag_is_reported_with_its_digest(self, bench: CommandBench, registry: FakeRegistry) -> None:
        digest = serve(bench.base(), registry, "team/base", "1")
        name = f"{registry.host}/team/base:1"
        outcome = succeeded(bench.hatch("lock", project=bench.project(base=name)))
        assert outcome.out == ""
        assert f'"{name}@{digest}"\n' in outcome.err
        outcome = succeeded(bench.hatch("lock", project=bench.project("other", base=f"{name}@{digest}")))
        assert "digest" not in outcome.err
        assert "named by a tag" not in outcome.err


@pytest.mark.network
@pytest.mark.debian
class TestReal:
    def test_example_is_rebuilt_without_a_network(self, tmp_path: Path, shared_cache: Path) -> None:
        project = Path(shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("dist", ".*")))
        mirror = {name: value for name, value in os.environ.items() if name.startswith("HATCH_DOCKER_DEBIAN_")}
        environ = environment(shared_cache, **mirror, HATCH_DOCKER_CREATED="epoch")
        built(project, environ, "docker:archive")
        digest = result_of(project)["digest"]
        assert succeeded(builds.command("lock", env=environ, folder=project)).out == "debian.lock\n"
        shutil.rmtree(project / "dist")
        dead = f"http://{NOWHERE}"
        away = {"HTTP_PROXY": dead, "HTTPS_PROXY": dead, "http_proxy": dead, "https_proxy": dead, "no_proxy": ""}
        built(project, {**environ, **away}, "docker:archive")
        assert result_of(project)["digest"] == digest


class TestEnvironmentsOfUv:
    DARWIN = "\n[tool.uv]\nenvironments = [\"sys_platform == 'darwin'\"]\n"
    ADVICE = (
        "tool.uv.environments that holds for sys_platform == 'linux' and platform_machine == 'x86_64' and Python 3.13"
    )

    def restrict(self, project: Path) -> None:
        with (project / "pyproject.toml").open("a") as file:
            file.write(self.DARWIN)

    def test_that_exclude_the_image(self, bench: CommandBench) -> None:
        project = requiring(bench, "alpha")
        self.restrict(project)
        said = f"{project / 'pyproject.toml'}: tool.uv.environments excludes CPython 3.13", self.ADVICE
        for command in ("build", "lock"):
            outcome = bench.hatch(command, project=project)
            refused(outcome, *said, "it is sys_platform == 'darwin'")
            assert "delete" not in outcome.err
        assert not list(project.rglob("pylock*"))

    def test_in_the_lock(self, bench: CommandBench) -> None:
        project = requiring(bench)
        self.restrict(project)
        (project / "uv.lock").write_text(
            "version = 1\nrevision = 3\nrequires-python = '>=3.10'\n"
            "supported-markers = [\"sys_platform == 'darwin'\"]\n"
            "[[package]]\nname = 'shop'\nversion = '1.0'\nsource = { editable = '.' }\n"
        )
        refused(bench.hatch("build", project=project), "does not cover CPython 3.13", self.ADVICE, "then run uv lock")

    def test_of_a_project_that_requires_nothing(self, bench: CommandBench) -> None:
        project = requiring(bench)
        self.restrict(project)
        succeeded(bench.hatch("build", project=project))
