"""Builds and plans with `prune-base`, `init` and `ca-certificates`: what images get on top of their bases."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.util import source_hash
from pathlib import Path
from typing import Any

import pytest
from base_maker import FakeBase
from builds import Made, archive_of, read, result_of
from command_bench import CommandBench, whole_debian
from debian_bench import FakeDebian, program
from dpkg_maker import file
from fake_index import serving

from hatch_docker.dpkg.lockfile import find_pins
from hatch_docker.dpkg.tini import init_request
from hatch_docker.errors import BaseError
from hatch_docker.image.runtime import with_init
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.spec import Platform

pytestmark = pytest.mark.usefixtures("no_waiting")

DATA = Path(__file__).parent / "data" / "certificates"
ONE, TWO = ((DATA / name).read_text() for name in ("one.pem", "two.pem"))
# Of the Python that runs the tests, which compiles.
LIBRARY = f"usr/local/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
SITE = "usr/local/lib/python3.13/site-packages"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
TINI = "usr/bin/tini-static"
PIP = {
    f"{SITE}/pip/__init__.py": b"",
    f"{SITE}/pip-25.1.dist-info/RECORD": b"../../../bin/pip3,,\npip/__init__.py,,\npip-25.1.dist-info/RECORD,,\n",
    f"{SITE}/setuptools/__init__.py": b"",
    f"{SITE}/setuptools-79.dist-info/METADATA": b"",
    "usr/local/bin/pip3": b"#!",
    "usr/local/lib/python3.13/ensurepip/__init__.py": b"",
    "usr/lib/os-release": b"ID=debian\nVERSION_CODENAME=trixie\n",
    "var/lib/dpkg/status": b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-12\n",
}
ALPINE = {"usr/lib/os-release": b"ID=alpine\nVERSION_ID=3.22\n"}
PACKAGES = 'runtime-packages = ["libpq5"]\n'
STARTED = [f"/{TINI}", "--"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeDebian:
    archive = whole_debian(tmp_path_factory.mktemp("debian"))
    for each, cpu in (("amd64", "x86_64"), ("arm64", "aarch64")):
        items = {
            "usr/bin/tini": program(cpu=cpu),
            TINI: file(b"\x7fELF static", mode=0o755),
            "usr/share/doc/tini/copyright": file(b"MIT\n"),
            "usr/share/doc/tini/changelog.gz": file(b"x"),
        }
        archive.put("tini", items, version="0.19.0-3", architecture=each, Depends="libc6 (>= 2.34)")
    archive.put("json", {f"{LIBRARY}/json/__init__.py": file(b"loads = 2\n")}, version="1.0")
    archive.put("openssl", {"usr/bin/openssl": program()}, version="3.5-1")
    archive.put("debconf", {"usr/share/debconf/x": file()}, version="1.5")
    archive.release()
    return archive


@pytest.fixture
def bench(made: FakeDebian, tmp_path: Path) -> Iterator[CommandBench]:
    with made.copy() as archive, serving() as index:
        yield CommandBench(tmp_path, archive, index)


def project(bench: CommandBench, docker: str = "", files: Mapping[str, bytes] = PIP, **options: Any) -> Path:
    """A project on an image with Python in /usr/local, and a file company.pem."""
    config = options.pop("config", {})
    base = bench.base(FakeBase(files=files, libc=options.pop("libc", "glibc"), config=config))
    found = bench.project(base=f"oci:{base}", docker=docker, **options)
    (found / "company.pem").write_text(ONE)
    return found


def built(bench: CommandBench, found: Path, **env: str) -> Made:
    outcome = bench.build(found, **env)
    assert outcome.code == 0, outcome.err
    return read(archive_of(found))


def contents(found: Path) -> list[str]:
    return [" · ".join(layer["contents"]) for layer in result_of(found)["layers"]]


def planned(bench: CommandBench, found: Path, **env: str) -> dict[str, Any]:
    outcome = bench.hatch("plan", "--json", project=found, **env)
    assert outcome.code == 0, outcome.err
    (image,) = json.loads(outcome.out)["images"]
    assert isinstance(image, dict)
    return image


class TestPruning:
    def test_the_base_loses_pip_and_setuptools(self, bench: CommandBench) -> None:
        found = project(bench)
        image = built(bench, found)
        assert not [path for path in image.members if "pip" in path.replace("ensurepip", "") or "setuptools" in path]
        assert "usr/local/lib/python3.13/ensurepip/__init__.py" in image.members
        assert contents(found) == ["without the base's pip, setuptools", "shop 1.0"]

    def test_the_layer_has_whiteouts_only_and_is_below_the_packages(self, bench: CommandBench) -> None:
        found = project(bench, PACKAGES)
        image = built(bench, found)
        assert "libldap2" in contents(found)[1]
        (*_, whiteouts, _, _) = image.layers
        assert set(whiteouts) == {
            *(f"{SITE}/.wh.{name}" for name in ("pip", "pip-25.1.dist-info", "setuptools", "setuptools-79.dist-info")),
            "usr/local/bin/.wh.pip3",
        }

    def test_directories_that_lose_files_keep_their_mode(self, bench: CommandBench) -> None:
        base = bench.base(FakeBase(files=PIP, folders={SITE: 0o775, "usr/local": 0o711}))
        image = built(bench, bench.project(base=f"oci:{base}"))
        (*_, whiteouts, _) = image.layers
        assert {SITE, "usr/local"} <= set(whiteouts)
        assert "usr/local/bin" not in whiteouts
        assert (image.members[SITE].mode, image.members["usr/local"].mode) == (0o775, 0o711)

    def test_a_base_without_any_has_no_such_layer(self, bench: CommandBench) -> None:
        found = project(bench, files={"etc/x": b""})
        built(bench, found)
        assert contents(found) == ["shop 1.0"]

    def test_what_the_project_or_a_dependency_requires_stays(self, bench: CommandBench) -> None:
        bench.offer("setuptools")
        bench.offer("alpha", requires=["setuptools"])
        found = project(bench, dependencies=["alpha"])
        assert f"{SITE}/setuptools/__init__.py" in built(bench, found).members
        assert planned(bench, found)["pruned"] == ["pip"]

    def test_an_empty_list_prunes_nothing(self, bench: CommandBench) -> None:
        found = project(bench, "prune-base = []")
        assert f"{SITE}/pip/__init__.py" in built(bench, found).members

    def test_a_list_is_taken_as_it_is(self, bench: CommandBench) -> None:
        found = project(bench, 'prune-base = ["ensurepip", "wheel"]')
        outcome = bench.build(found)
        assert "prune-base: " in outcome.err
        assert "has no wheel, or only of its OS packages" in outcome.err
        image = read(archive_of(found))
        assert f"{SITE}/pip/__init__.py" in image.members
        assert not [path for path in image.members if "ensurepip" in path]

    def test_a_mistake_names_the_members(self, bench: CommandBench) -> None:
        outcome = bench.build(project(bench, 'prune-base = ["pipp"]'))
        assert outcome.code == 1
        assert "prune-base[0]: " in outcome.err
        assert "did you mean 'pip'" in outcome.err


def test_bytecode_is_that_of_modules_that_os_packages_replace(bench: CommandBench) -> None:
    names = {"os": b"name = 1\n", "json/__init__": b"loads = 1\n"}
    files = {**PIP, **{f"{LIBRARY}/{name}.py": text for name, text in names.items()}}
    base = bench.base(FakeBase(python=platform.python_version(), files=files))
    found = bench.project(base=f"oci:{base}", docker='runtime-packages = ["json"]')
    image = built(bench, found, HATCH_DOCKER_BYTECODE="true")
    (path,) = (path for path in image.contents if path.startswith(f"{LIBRARY}/json/__pycache__/"))
    assert image.text(f"{LIBRARY}/json/__init__.py") == "loads = 2\n"
    assert image.contents[path][8:16] == source_hash(b"loads = 2\n")


class TestInit:
    def test_starts_the_command(self, bench: CommandBench) -> None:
        found = project(bench, "init = true\nprune-base = []")
        image = built(bench, found)
        assert image.config["Entrypoint"] == [*STARTED, "/app/.venv/bin/shop"]
        assert image.members[TINI].mode == 0o755
        assert image.contents[TINI] == b"\x7fELF static"
        assert image.text("usr/share/doc/tini/copyright") == "MIT\n"
        assert "usr/bin/tini" not in image.members
        assert "usr/share/doc/tini/changelog.gz" not in image.members
        assert "Package: tini\n" in image.text("var/lib/dpkg/status.d/tini")
        assert contents(found) == ["tini 0.19.0-3", "shop 1.0"]
        assert [each["name"] for each in result_of(found)["os-packages"]] == ["tini"]

    def test_on_any_distribution(self, bench: CommandBench) -> None:
        image = built(bench, project(bench, "init = true", ALPINE, libc="musl"))
        assert TINI in image.members
        assert not [path for path in image.members if "status.d" in path]

    def test_on_the_base_debian(self, bench: CommandBench) -> None:
        found = bench.project(docker="init = true")
        assert built(bench, found).config["Entrypoint"][:2] == STARTED
        assert {each.purpose for each in find_pins_of(found)} == {"base", "init"}

    def test_not_if_the_base_has_it(self, bench: CommandBench) -> None:
        found = project(bench, "init = true\nprune-base = []", {TINI: b"\x7fELF", **ALPINE}, libc="musl")
        assert built(bench, found).config["Entrypoint"] == [*STARTED, "/app/.venv/bin/shop"]
        assert contents(found) == ["shop 1.0"]
        assert planned(bench, found)["init"] is None

    def test_not_if_the_packages_have_it(self, bench: CommandBench) -> None:
        found = project(bench, 'init = true\nprune-base = []\nruntime-packages = ["tini"]')
        assert built(bench, found).config["Entrypoint"][:2] == STARTED
        assert contents(found) == ["tini 0.19.0-3", "shop 1.0"]

    def test_links_of_directories_are_followed(self, bench: CommandBench) -> None:
        base = FakeBase(files=ALPINE, links={"usr/bin": "local/bin"}, libc="musl")
        found = bench.project(base=f"oci:{bench.base(base)}", docker="init = true")
        image = built(bench, found)
        assert "usr/local/bin/tini-static" in image.members
        assert image.members["usr/bin"].issym()

    def test_the_layer_does_not_change_with_the_project(self, bench: CommandBench) -> None:
        found = project(bench, "init = true")
        built(bench, found)
        before = result_of(found)["layers"]
        (found / "src" / "shop" / "more.py").write_text("x = 1\n")
        built(bench, found)
        after = result_of(found)["layers"]
        assert [each["digest"] for each in before[:2]] == [each["digest"] for each in after[:2]]
        assert before[2]["digest"] != after[2]["digest"]
        assert [each["reused"] for each in after] == [True, True, False]

    def test_without_a_mirror_says_what_to_do(self, bench: CommandBench, tmp_path: Path) -> None:
        found = project(bench, "init = true", ALPINE, libc="musl")
        outcome = bench.build(found, HATCH_DOCKER_DEBIAN_MIRROR="http://127.0.0.1:1/debian")
        assert outcome.code == 1
        assert "127.0.0.1:1" in outcome.err
        assert "without init, there is: docker run --init" in outcome.err
        assert "Traceback" not in outcome.err

    def test_a_package_without_the_program_is_an_error(self, bench: CommandBench) -> None:
        bench.archive.put("tini", {"usr/bin/tini": program()}, version="0.20-1")
        bench.archive.release()
        outcome = bench.build(project(bench, "init = true"))
        assert outcome.code == 1
        assert "has no /usr/bin/tini-static\n  hint: leave init out" in outcome.err

    def test_of_a_release_that_is_not_known_comes_from_stable(self, bench: CommandBench) -> None:
        files = {**ALPINE, "usr/lib/os-release": b"ID=debian\nVERSION_CODENAME=zurg\n"}
        found = project(bench, "init = true", files)
        assert TINI in built(bench, found).members
        assert result_of(found)["os-packages"][0]["suite"] == "trixie"

    def test_for_a_cpu_that_debian_lacks_says_what_to_do(self) -> None:
        with pytest.raises(BaseError, match=r"no tini for linux/sparc64") as error:
            init_request("trixie", Platform(architecture="sparc64"), snapshot="", apt_sources=None)
        assert (error.value.place, "docker run --init" in error.value.hint) == ("init", True)

    @pytest.mark.parametrize(
        ("entrypoint", "cmd", "expected"),
        [
            (("python",), None, (*STARTED, "python")),
            (("python",), ("-m", "x"), (*STARTED, "python")),
            (None, ("python3",), tuple(STARTED)),
            ((), ("python3",), tuple(STARTED)),
            (None, None, tuple(STARTED)),
            (("/usr/bin/tini", "--", "x"), None, ("/usr/bin/tini", "--", "x")),
            (None, ("dumb-init", "x"), None),
        ],
    )
    def test_wraps_what_is_kept_of_the_base_too(
        self, entrypoint: tuple[str, ...] | None, cmd: tuple[str, ...] | None, expected: tuple[str, ...] | None
    ) -> None:
        config = ImageConfig(platform=Platform(architecture="amd64"), entrypoint=entrypoint, cmd=cmd)
        found = with_init(config)
        assert (found.entrypoint, found.cmd) == (expected, cmd)

    def test_of_a_base_whose_command_is_kept(self, bench: CommandBench) -> None:
        found = project(bench, "init = true", scripts={}, config={"Cmd": ["python3", "-i"]})
        image = built(bench, found)
        assert (image.config["Entrypoint"], image.config["Cmd"]) == (STARTED, ["python3", "-i"])


def find_pins_of(found: Path) -> list[Any]:
    """The Debian packages that a build names for debian.lock."""
    (path,) = (found / "dist").glob("debian.*.lock")
    path.rename(found / "debian.lock")
    return list(find_pins(found).selections)


class TestLocks:
    def test_lock_pins_the_package_beside_others(self, bench: CommandBench) -> None:
        found = bench.project(docker=f"init = true\n{PACKAGES}")
        outcome = bench.hatch("lock", project=found)
        assert outcome.code == 0, outcome.err
        assert "init: 1 package of Debian trixie (amd64)" in outcome.err
        pins = {each.purpose: each for each in find_pins(found).selections}
        assert set(pins) == {"base", "runtime-packages", "init", "builder"}
        assert [str(each.version) for each in pins["init"].packages] == ["0.19.0-3"]
        before = built(bench, found).contents[TINI]
        items = {TINI: file(b"\x7fELF newer", mode=0o755)}
        pinned = bench.archive.copy()
        bench.archive.put("tini", items, version="0.20.0-1")
        bench.archive.files |= {path: data for path, data in pinned.files.items() if path not in bench.archive.files}
        bench.archive.release()
        assert built(bench, found).contents[TINI] == before
        assert bench.hatch("lock", "--check", project=found).code == 0
        listed = bench.hatch("outdated", project=found)
        assert "tini" in listed.out
        assert "0.20.0-1" in listed.out
        assert bench.hatch("lock", "--upgrade", "base", project=found).code == 0
        assert built(bench, found).contents[TINI] == b"\x7fELF newer"

    def test_pins_of_an_image_from_elsewhere(self, bench: CommandBench) -> None:
        found = project(bench, "init = true", ALPINE, libc="musl")
        assert bench.hatch("lock", project=found).code == 0
        assert [each.purpose for each in find_pins(found).selections] == ["init"]
        built(bench, found)
        assert bench.hatch("outdated", project=found).code == 0

    def test_a_lock_without_it_is_stale(self, bench: CommandBench) -> None:
        found = project(bench, PACKAGES)
        assert bench.hatch("lock", project=found).code == 0
        outcome = bench.build(found, HATCH_DOCKER_INIT="true")
        assert outcome.code == 1
        assert "no packages of amd64 for 'init'" in outcome.err
        assert "hatch-docker lock" in outcome.err

    def test_for_two_platforms(self, bench: CommandBench) -> None:
        found = bench.project(docker="init = true")
        env = {"HATCH_DOCKER_PLATFORMS": "linux/amd64,linux/arm64"}
        assert bench.hatch("lock", project=found, **env).code == 0
        pins = [each for each in find_pins(found).selections if each.purpose == "init"]
        assert [each.architecture for each in pins] == ["amd64", "arm64"]


class TestCertificates:
    def test_the_image_trusts_them(self, bench: CommandBench) -> None:
        found = project(bench, 'ca-certificates = "company.pem"', {**PIP, BUNDLE: TWO.encode()})
        image = built(bench, found)
        assert image.text(BUNDLE) == TWO + ONE
        assert image.text("usr/local/share/ca-certificates/company.crt") == ONE
        assert contents(found)[1:] == ["1 certificate of company", "shop 1.0"]

    def test_the_bundle_may_come_with_the_packages(self, bench: CommandBench) -> None:
        docker = 'ca-certificates = "company.pem"\nruntime-packages = ["ca-certificates"]'
        image = built(bench, project(bench, docker))
        assert image.text(BUNDLE).startswith("-----BEGIN CERTIFICATE-----\n-----BEGIN")
        assert image.text(BUNDLE).endswith(ONE)

    def test_the_digest_depends_on_the_content(self, bench: CommandBench) -> None:
        found = project(bench, 'ca-certificates = "company.pem"')
        built(bench, found)
        before = result_of(found)["digest"]
        (found / "company.pem").write_text(f"a comment\n{ONE}")
        built(bench, found)
        assert result_of(found)["digest"] == before
        (found / "company.pem").write_text(ONE + TWO)
        built(bench, found)
        assert result_of(found)["digest"] != before

    @pytest.mark.parametrize("command", ["plan", "build"])
    def test_a_bad_file_is_an_error_before_anything_else(self, bench: CommandBench, command: str) -> None:
        found = bench.project(docker='ca-certificates = "company.pem"')
        (found / "company.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
        outcome = bench.hatch(command, project=found)
        assert outcome.code == 1
        assert "ca-certificates: " in outcome.err
        assert "private key" in outcome.err
        assert not bench.archive.requests

    def test_share_a_layer_with_the_init_process(self, bench: CommandBench) -> None:
        found = project(bench, 'init = true\nca-certificates = "company.pem"')
        built(bench, found)
        assert contents(found)[1] == "tini 0.19.0-3 · 1 certificate of company"


def test_variables_override_the_keys(bench: CommandBench) -> None:
    found = project(bench)
    env = {"PRUNE_BASE": "ensurepip", "INIT": "true", "CA_CERTIFICATES": "company.pem"}
    built(bench, found, **{f"HATCH_DOCKER_{name}": value for name, value in env.items()})
    assert contents(found)[:2] == ["without the base's ensurepip", "tini 0.19.0-3 · 1 certificate of company"]


class TestPlans:
    def test_agree_with_builds(self, bench: CommandBench) -> None:
        found = project(bench, f'init = true\nca-certificates = "company.pem"\n{PACKAGES}')
        before = planned(bench, found)
        assert before["pruned"] == ["pip", "setuptools"]
        assert (before["init"]["name"], before["init"]["version"]) == ("tini", "0.19.0-3")
        assert before["ca-certificates"] == 1
        assert before["start"]["entrypoint"] == [*STARTED, "/app/.venv/bin/shop"]
        assert [each["cached"] for each in before["layers"]] == [True, False, False, "unknown"]
        image = built(bench, found)
        assert image.config["Entrypoint"] == before["start"]["entrypoint"]
        assert [" · ".join(each["contents"]) for each in before["layers"]] == contents(found)
        after = planned(bench, found)["layers"]
        assert [each["cached"] for each in after] == [True, True, True, "unknown"]
        assert [each["size"] for each in after[:3]] == [each["size"] for each in result_of(found)["layers"][:3]]

    def test_show_them_as_text(self, bench: CommandBench) -> None:
        found = project(bench, 'init = true\nca-certificates = "company.pem"')
        shown = bench.hatch("plan", project=found).out
        assert "the base's pip, setuptools" in shown
        assert "tini 0.19.0-3" in shown
        assert "1 more certificate\n" in shown

    def test_their_layers_count(self, bench: CommandBench) -> None:
        wheels = [f"big{number}" for number in range(5)]
        for name in wheels:
            bench.offer(name)
        docker = f"init = true\nmax-layers = 6\nbytecode = false\n{PACKAGES}"
        found = project(bench, docker, dependencies=wheels)
        built(bench, found)
        assert len(contents(found)) <= 6
