"""Builds with `base = "debian"` through Hatch, from a small archive, with no registry and no engine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from builds import archive_of, environment, files_below, read, result_of, start, wait_for
from debian_bench import DebianBench, FakeDebian, fake_debian, program
from debian_maker import NOW, WEEK, signer, written
from dpkg_maker import file
from fake_registry import FakeRegistry
from urllib3 import BaseHTTPResponse

from hatch_docker.support.dataclasses import replace
from hatch_docker.support.http import Http

pytestmark = pytest.mark.usefixtures("no_waiting")

TABLE = "tool.hatch.build.targets.docker"
SYSTEM = (
    *("base-files", "ca-certificates", "libc-bin", "libc6", "libgcc-s1", "libpython3.13-minimal"),
    *("libpython3.13-stdlib", "libstdc++6", "ncurses-base", "netbase", "python3.13-minimal", "tzdata"),
)
RELEASE = "debian/dists/trixie/InRelease"
INDEX = "debian/dists/trixie/main/binary-amd64/Packages.xz"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeDebian:
    return fake_debian(tmp_path_factory.mktemp("debian"), architectures=("amd64", "arm64"), debug=True)


@pytest.fixture
def bench(made: FakeDebian, tmp_path: Path) -> Iterator[DebianBench]:
    with made.copy() as archive:
        yield DebianBench(tmp_path, archive)


def test_a_fresh_machine_with_a_registry_cache_fetches_no_package_and_no_index(bench: DebianBench) -> None:
    with FakeRegistry() as registry:
        project = bench.project(docker='runtime-packages = ["libpq5"]', scripts={})
        cache = f"{registry.host}/team/cache"
        bench.made(project, HATCH_DOCKER_CACHE=cache)
        first = result_of(project)
        bench.archive.requests.clear()
        fresh = replace(bench, root=bench.root / "fresh")
        (fresh.root / "scratch").mkdir(parents=True)
        fresh.made(project, HATCH_DOCKER_CACHE=cache)
    assert result_of(project)["digest"] == first["digest"]
    assert {path.rpartition("/")[2] for path in bench.archive.requests} == {"InRelease"}


class TestTheImage:
    def test_needs_neither_a_registry_nor_an_engine(self, bench: DebianBench, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []
        request = Http.request

        def recording(http: Http, method: str, url: str, **options: Any) -> BaseHTTPResponse:
            asked.append(url)
            return request(http, method, url, **options)

        monkeypatch.setattr(Http, "request", recording)
        made = bench.made(project := bench.project(scripts={}))
        assert {url.split("/")[2] for url in asked} == {bench.archive.host}
        assert made.env["PATH"].split(":")[1:] == [
            *("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"),
        ]
        assert made.env["LANG"] == "C.UTF-8"
        assert made.config["Cmd"] == ["python3"]
        assert made.members["usr/bin/python3"].linkname == "python3.13"
        assert made.text("etc/passwd").splitlines()[-1].startswith("nonroot:x:65532:65532:")
        assert made.contents["etc/ssl/certs/ca-certificates.crt"]
        first, *_ = made.document["history"]
        assert first["created_by"] == "hatch-docker: Debian trixie, Python 3.13, 12 packages"
        result = result_of(project)
        assert result["base"]["name"] == "debian:trixie"
        assert result["base"]["layers"] == 1
        assert sorted(each["name"] for each in result["os-packages"]) == sorted(SYSTEM)
        assert {each["suite"] for each in result["os-packages"]} == {"trixie"}

    def test_sends_no_request_the_second_time(self, bench: DebianBench) -> None:
        first = bench.made(project := bench.project())
        asked = len(bench.archive.requests)
        # Three Release files, one index (the two others are empty), and the packages.
        assert asked == 3 + 1 + len(SYSTEM)
        bench.archive.put("base-files", {"etc/new": file()}, version="2")
        bench.archive.release()
        second = bench.made(project)
        assert second.document["rootfs"] == first.document["rootfs"]
        assert len(bench.archive.requests) == asked

    def test_has_the_newest_version_of_all_suites(self, bench: DebianBench) -> None:
        bench.archive.put("tzdata", {"usr/share/zoneinfo/Etc/UTC": file(b"TZif3")}, version="2", suite="trixie-updates")
        bench.archive.put("netbase", {"etc/services": file(b"new\n")}, version="1.0-1+deb13u1", suite="trixie-security")
        bench.archive.release()
        made = bench.made(project := bench.project())
        assert made.contents["usr/share/zoneinfo/Etc/UTC"] == b"TZif3"
        assert made.text("etc/services") == "new\n"
        suites = {each["name"]: each["suite"] for each in result_of(project)["os-packages"]}
        assert (suites["tzdata"], suites["netbase"]) == ("trixie-updates", "trixie-security")

    def test_debug_variant_has_a_shell(self, bench: DebianBench) -> None:
        plain = bench.made(bench.project("plain"))
        debug = bench.made(project := bench.project("debug", base="debian:trixie-debug"))
        assert "usr/bin/sh" not in plain.members
        assert {"usr/bin/sh", "usr/bin/bash", "usr/bin/less", "usr/bin/mawk"} <= debug.members.keys()
        assert result_of(project)["base"]["name"] == "debian:trixie-debug"

    def test_is_of_the_requested_day(self, bench: DebianBench) -> None:
        day = NOW - timedelta(days=1)
        bench.archive.snapshot(day)
        bench.archive.files = {path: data for path, data in bench.archive.files.items() if path.startswith("2")}
        project = bench.project(base=f"debian:trixie@{day:%Y-%m-%d}")
        mirror = bench.archive.settings(dated=True)
        made = bench.made(project, **mirror)
        assert result_of(project)["base"]["name"] == f"debian:trixie@{day:%Y-%m-%d}"
        assert {path.partition("/")[0] for path in bench.archive.requests} == {f"{day:%Y%m%d}T000000Z"}
        asked = len(bench.archive.requests)
        assert bench.made(project, **mirror).document == made.document
        assert len(bench.archive.requests) == asked
        bench.refused(
            project, "this mirror has no snapshots", "hint: set debian-mirror", "to a URL that contains {date}"
        )
        bench.refused(bench.project("now"), "T000000Z/debian: the mirror has no suite 'trixie'", **mirror)

    def test_is_for_the_requested_platform(self, bench: DebianBench) -> None:
        made = bench.made(project := bench.project(), HATCH_DOCKER_PLATFORMS="linux/arm64")
        assert made.document["architecture"] == "arm64"
        assert result_of(project)["platform"] == "linux/arm64"
        assert "FOR=arm64" in made.text("usr/lib/os-release")
        bench.archive.requests.clear()
        bench.refused(
            project,
            "debian:trixie: Debian packages are supported for linux/amd64, linux/arm64, linux/arm/v7,",
            "not for linux/mips64le",
            'hint: try base = "slim"',
            HATCH_DOCKER_PLATFORMS="linux/mips64le",
        )
        assert not bench.archive.requests
        bench.refused(
            project,
            "debian:trixie: Debian trixie has nothing for linux/riscv64, or no security updates; "
            "it has linux/amd64, linux/arm64",
            HATCH_DOCKER_PLATFORMS="linux/riscv64",
        )

    def test_has_the_newest_python_that_the_project_admits(self, bench: DebianBench) -> None:
        bench.archive.base("3.9.18")
        bench.archive.base("3.12.7")
        bench.archive.release()
        for number, (options, python) in enumerate(
            {
                "": "3.13.5",
                'python = "3.12"': "3.12.7",
            }.items()
        ):
            made = bench.made(bench.project(f"python{number}", docker=options))
            assert f"app/.venv/lib/python{python.rpartition('.')[0]}" in made.members
        made = bench.made(bench.project("requires", project='requires-python = "<3.13"'))
        assert "app/.venv/lib/python3.12" in made.members

    def test_of_unstable(self, bench: DebianBench) -> None:
        """Its os-release has the codename of testing."""
        release = b"ID=debian\nVERSION_CODENAME=forky\n"
        bench.archive.files = {path: data for path, data in bench.archive.files.items() if "/dists/" not in path}
        bench.archive.debs = [replace(deb, suite="sid") for deb in bench.archive.debs]
        bench.archive.put("base-files", {"usr/lib/os-release": file(release)}, suite="sid")
        bench.archive.release("sid", Suite="unstable")
        made = bench.made(bench.project(base="debian:sid", docker='runtime-packages = ["libldap2"]'))
        assert "usr/lib/x86_64-linux-gnu/libldap.so.2.0" in made.members
        assert {path.split("/")[2] for path in bench.archive.requests if "/dists/" in path} == {"sid"}


class TestTheSameDigest:
    def test_on_a_different_machine(self, bench: DebianBench) -> None:
        packages = ["libpq5-tools", "libldap2", "libpq5"]
        project = bench.project(docker=f"runtime-packages = {packages}")
        env = {"SOURCE_DATE_EPOCH": "1700000000"}
        cold = bench.made(project, **env).manifest
        assert bench.made(project, **env).manifest == cold
        turned = bench.project("turned", docker=f"runtime-packages = {packages[::-1]}")
        assert bench.made(turned, **env).manifest == cold
        settings = {
            **bench.archive.settings(),
            **env,
            "LC_ALL": "tr_TR.UTF-8",
            "PYTHONHASHSEED": "7",
            "TZ": "Asia/Tokyo",
        }
        settings["HATCH_DOCKER_THREADS"] = "1"
        other = environment(bench.root / "other" / "cache", **settings)
        before = os.umask(0o077)
        try:
            outcome = wait_for(start(turned, env=other))
        finally:
            os.umask(before)
        assert outcome.code == 0, outcome.err
        assert read(archive_of(turned)).manifest == cold


class TestTheArchive:
    """Faults of mirrors, and attacks on connections."""

    def test_is_signed_by_an_unknown_key(self, bench: DebianBench) -> None:
        bench.archive.key = signer("somebody else")
        bench.archive.release()
        bench.refused(bench.project(), f"{RELEASE[:-9]}Release: is signed by unknown keys", "debian-keyring")

    def test_does_not_match_its_signature(self, bench: DebianBench) -> None:
        bench.archive.files[RELEASE] = bench.archive.files[RELEASE].replace(b"Components: main", b"Components: mine")
        bench.refused(bench.project(), "Release: ", "does not match its signature", "nothing was kept")

    @pytest.mark.parametrize(
        "release",
        [
            b"",
            b"Codename: trixie\n",
            b"<html>Welcome to the hotel</html>",
            b"-----BEGIN PGP SIGNED MESSAGE-----\n\nx\n",
        ],
    )
    def test_is_not_signed(self, bench: DebianBench, release: bytes) -> None:
        bench.archive.files[RELEASE] = release
        bench.refused(bench.project(), "/debian/dists/trixie/Release: ", "hint: ")

    def test_has_expired(self, bench: DebianBench) -> None:
        bench.archive.release(Date=written(NOW - 2 * WEEK), Valid_Until=written(NOW - WEEK))
        bench.refused(bench.project(), "has expired: it was valid until", "try another mirror")

    def test_is_rolled_back(self, bench: DebianBench, monkeypatch: pytest.MonkeyPatch) -> None:
        project = bench.project()
        bench.made(project)
        monkeypatch.setattr("hatch_docker.services.FRESH", timedelta(0))
        bench.archive.release(Date=written(NOW - timedelta(days=1)))
        # Without a change, the archive is not asked within an hour.
        (project / "src" / "shop" / "more.py").write_text("")
        bench.refused(project, "older than an earlier one", "someone withholds updates")

    def test_is_of_another_suite(self, bench: DebianBench) -> None:
        bench.archive.release("trixie", Codename="bookworm")
        bench.refused(bench.project(), "is the Release of bookworm, not of trixie")

    @pytest.mark.parametrize("base", ["debian:forky", "debian:bookworm-debug", "debian:buster"])
    def test_lacks_the_suite(self, bench: DebianBench, base: str) -> None:
        suite = base.partition(":")[2].partition("-")[0]
        bench.refused(
            bench.project(base=base), f"/debian: the mirror has no suite '{suite}'", "hint: set debian-mirror"
        )

    def test_sends_another_index(self, bench: DebianBench) -> None:
        data = bench.archive.files[INDEX]
        for other in (data[:-1] + b"\0", data + b"\0", data[:-1]):
            bench.archive.files[INDEX] = other
            bench.refused(bench.project(f"p{len(other)}{other[-1]}"), INDEX, "nothing was kept")

    def test_sends_another_package(self, bench: DebianBench) -> None:
        bench.archive.alter(deb := bench.archive.deb("libc6"))
        bench.refused(bench.project(), f"{deb.path}: is not the right file", "nothing was kept")

    def test_lacks_the_file_of_a_package(self, bench: DebianBench) -> None:
        deb = bench.archive.deb("libc6")
        del bench.archive.files[deb.path]
        bench.refused(bench.project(), "the mirror no longer has libc6 2.41-12", "lock again", deb.path)

    def test_has_an_invalid_package(self, bench: DebianBench) -> None:
        bench.archive.replace(bench.archive.deb("libc6"), b"!<arch>\nnot a package")
        bench.archive.release()
        bench.refused(bench.project(), "libc6 2.41-12: is truncated or damaged", "hint: ")

    def test_has_an_invalid_index(self, bench: DebianBench) -> None:
        deb = bench.archive.deb("libc6")
        bench.archive.debs.remove(deb)
        bench.archive.debs.append(replace(deb, stanza=deb.stanza.replace("Size: ", "Size: x")))
        bench.archive.release()
        bench.refused(bench.project(), "trixie: Packages: libc6: has an invalid Size")

    @pytest.mark.parametrize(
        ("status", "expected", "hint"),
        [
            (401, "requires a login (HTTP 401)", "http://USER:PASSWORD@HOST/debian"),
            (403, "denies access (HTTP 403)", "check the login in the mirror's URL"),
            (404, "the mirror has no suite 'trixie'", "to a mirror that has it"),
            (429, "limits the rate of requests (HTTP 429)", "wait a little"),
            (500, "sent an unexpected response (HTTP 500)", "try again later"),
        ],
    )
    def test_responds_with_an_error(self, bench: DebianBench, status: int, expected: str, hint: str) -> None:
        bench.archive.statuses = {RELEASE: [status] * 9, f"{RELEASE[:-9]}Release": [status] * 9}
        bench.refused(bench.project(), expected, "hint: ", hint, "HATCH_DOCKER_DEBIAN_MIRROR")

    @pytest.mark.parametrize("status", [403, 429, 500])
    def test_responds_with_an_error_for_a_package(self, bench: DebianBench, status: int) -> None:
        deb = bench.archive.deb("netbase")
        bench.archive.statuses = {deb.path: [status] * 9}
        bench.refused(project := bench.project(), deb.path, f"(HTTP {status})")
        bench.archive.statuses = {}
        bench.made(project)
        # Files downloaded earlier are kept.
        assert bench.archive.requests.count(RELEASE) == 1

    def test_cannot_be_reached(self, bench: DebianBench) -> None:
        for mirror in ("http://127.0.0.1:1/debian", "http://nowhere.invalid/debian"):
            bench.refused(
                bench.project(mirror.rpartition("//")[2].partition("/")[0].replace(":", "-")),
                f"{mirror}/dists/trixie/InRelease: the Debian mirror: ",
                "hint: ",
                "set debian-mirror, or HATCH_DOCKER_DEBIAN_MIRROR, to another mirror",
                HATCH_DOCKER_DEBIAN_MIRROR=mirror,
            )

    @pytest.mark.parametrize("what", [RELEASE, INDEX, "package"])
    def test_is_interrupted(self, bench: DebianBench, what: str) -> None:
        path = bench.archive.deb("libc6").path if what == "package" else what
        project = bench.project()
        bench.archive.broken = {path: 1}
        assert bench.build(project).code == 0
        other = DebianBench(bench.root / "other", bench.archive)
        bench.archive.broken = {path: 99}
        other.refused(other.project(), f"{path}: the Debian mirror: ", "to another mirror")

    def test_lacks_a_package(self, bench: DebianBench) -> None:
        bench.archive.remove("netbase")
        bench.archive.release()
        bench.refused(bench.project(), "there is no package 'netbase' in trixie")

    def test_lacks_a_dependency(self, bench: DebianBench) -> None:
        bench.archive.put("netbase", {}, Depends="services (>= 2)")
        bench.archive.put("services", {}, Depends="lost-package")
        bench.archive.release()
        message = bench.refused(bench.project(), "netbase → services (>= 2): ")
        assert "1.0-1" in message

    def test_has_packages_that_cannot_start(self, bench: DebianBench) -> None:
        bench.archive.put("python3.13-minimal", {"usr/bin/python3.13": program("libexpat.so.1", more=b"\0003.13.5\0")})
        bench.archive.release()
        bench.refused(bench.project(), "python3.13-minimal: /usr/bin/python3.13 needs libexpat.so.1")


class TestThePython:
    def test_missing_from_the_suite(self, bench: DebianBench) -> None:
        bench.refused(
            bench.project(docker='python = "3.12"'),
            "debian:trixie: Debian trixie has no Python 3.12; it has 3.13",
            'hint: set python = "3.13", or leave it out; or set another base, such as "slim"',
        )

    def test_excluded_by_the_project(self, bench: DebianBench) -> None:
        bench.archive.base("3.12.7")
        bench.archive.release()
        for number, specifier in enumerate((">=3.14", "<3.12")):
            bench.refused(
                bench.project(f"p{number}", project=f'requires-python = "{specifier}"'),
                f'Debian trixie has no Python that requires-python = "{specifier}" admits; it has 3.13 and 3.12',
                'hint: set another base, such as "slim"',
            )
        bench.refused(
            bench.project(docker='python = "3.12"', project='requires-python = ">=3.13"'),
            'Debian trixie has no Python that requires-python = ">=3.13" admits',
        )

    def test_patch_release_excluded_by_the_project(self, bench: DebianBench) -> None:
        bench.refused(
            bench.project(project='requires-python = ">=3.13.6"'),
            'debian:trixie: the base image has Python 3.13.5, which requires-python = ">=3.13.6" excludes',
        )

    def test_suite_without_python(self, bench: DebianBench) -> None:
        bench.archive.remove("python3.13-minimal")
        bench.archive.release()
        bench.refused(bench.project(), "Debian trixie has no Python 3\n", 'set another base, such as "slim"')


class TestTheSettings:
    def test_name_the_archive(self, bench: DebianBench) -> None:
        (mirror, keyring) = bench.archive.settings().values()
        key = Path(keyring).read_text()
        project = bench.project(
            docker=f'debian-mirror = "{mirror}"\ndebian-keyring = "keys/it.asc"', files={"keys/it.asc": key}
        )
        made = bench.made(project, HATCH_DOCKER_DEBIAN_MIRROR="", HATCH_DOCKER_DEBIAN_KEYRING="")
        assert made.members["usr/bin/python3"]

    def test_are_required_without_apt_sources(self, bench: DebianBench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hatch_docker.debian.sources.read_sources", lambda _folder: [])
        bench.refused(
            bench.project(),
            "no mirror of Debian is configured",
            "hint: set debian-mirror, or HATCH_DOCKER_DEBIAN_MIRROR, to the URL of a mirror, such as http://HOST/debian",
            HATCH_DOCKER_DEBIAN_MIRROR="",
        )

    @pytest.mark.parametrize(
        "mirror",
        [
            "ftp://rosa:s3cret@a.example/debian",
            "a.example/debian",
            "http://",
            "http://rosa:s3cret@a.example:port/debian",
            "http://rosa:s3cret@a.example/mirror",
            "http://a.example/debian http://b.example/debian http://rosa:s3cret@c.example/debian",
            "http://rosa:s3cret@a.example/debian?x=1",
            "http://rosa:s3cret@[/debian",
            "s3cret",
        ],
    )
    def test_name_an_invalid_mirror(self, bench: DebianBench, mirror: str) -> None:
        bench.refused(bench.project(), "HATCH_DOCKER_DEBIAN_MIRROR: ", HATCH_DOCKER_DEBIAN_MIRROR=mirror)
        bench.refused(
            bench.project("key", docker=f'debian-mirror = "{mirror}"'),
            f"{TABLE}.debian-mirror: ",
            HATCH_DOCKER_DEBIAN_MIRROR="",
        )

    def test_name_an_invalid_keyring(self, bench: DebianBench) -> None:
        project = bench.project(files={"text.asc": "a key"})
        for name, expected in {
            "no.asc": "the keyring cannot be read: No such file",
            "text.asc": "the keyring has no OpenPGP key",
            "src": "the keyring cannot be read: Is a directory",
        }.items():
            bench.refused(project, f"{project / name}: {expected}", HATCH_DOCKER_DEBIAN_KEYRING=name)

    def test_have_a_login_that_is_never_shown(self, bench: DebianBench, capsys: pytest.CaptureFixture[str]) -> None:
        login = bench.archive.settings(login="rosa:s3cret@")
        project = bench.project(docker='runtime-packages = ["libpq5"]')
        outcome = bench.build(project, **login)
        assert outcome.code == 0, outcome.err
        authorized = {headers.get("Authorization") or headers.get("authorization") for headers in bench.archive.headers}
        assert authorized == {"Basic cm9zYTpzM2NyZXQ="}
        texts = [outcome.out, outcome.err, *capsys.readouterr(), json.dumps(read(archive_of(project)).document)]
        texts += [path.read_text("latin-1") for path in files_below(project / "dist") | files_below(bench.cache)]
        assert not [text for text in texts if any(secret in text for secret in ("s3cret", "rosa", "cm9zYTpzM2NyZXQ="))]
        other = DebianBench(bench.root / "other", bench.archive)
        for status in (401, 403, 500):
            bench.archive.statuses = {RELEASE: [status] * 9}
            message = other.refused(other.project(str(status)), f"http://{bench.archive.host}/debian/", **login)
            assert "rosa" not in message


def test_needs_no_registry(bench: DebianBench) -> None:
    hint = 'hint: base = "debian" needs no registry: it is made from Debian\'s archive'
    bench.refused(bench.project(base="127.0.0.1:1/python:3.13-slim"), "127.0.0.1:1/python:3.13-slim: ", hint)
