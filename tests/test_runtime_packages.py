"""Builds with `runtime-packages` through Hatch: unpacked on Debian images, installed by an engine on others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from base_maker import FakeBase
from builds import Made, result_of
from debian_bench import DebianBench, FakeDebian, fake_debian, library, program
from dpkg_maker import file
from fake_containers import FakeContainer
from fake_engine import FakeEngine
from project_maker import lock_of
from wheel_maker import WHEEL

from hatch_docker.dpkg.ldcache import read_ld_so_cache

TABLE = "tool.hatch.build.targets.docker"
LIB = "usr/lib/x86_64-linux-gnu"
RELEASE = b"ID=debian\nVERSION_CODENAME=trixie\n"
ALPINE = b"ID=alpine\nVERSION_ID=3.22\n"
UBUNTU = b"ID=ubuntu\nVERSION_CODENAME=noble\n"
STATUS = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-12\n"
HAS_PQ = f"{STATUS}\nPackage: libpq5\nStatus: install ok installed\nArchitecture: amd64\nVersion: 17.6-1\n"
ENGINE = 'runtime-installer = "engine"'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeDebian:
    return fake_debian(tmp_path_factory.mktemp("debian"))


@pytest.fixture
def bench(made: FakeDebian, tmp_path: Path) -> Iterator[DebianBench]:
    with made.copy() as archive:
        yield DebianBench(tmp_path, archive)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine whose containers have a package manager that installs any package."""

    def run(container: FakeContainer, command: list[str]) -> tuple[bytes, int]:
        if command[0] == "cat":
            found = container.files.get(command[1].lstrip("/"))
            return (b"", 1) if found is None else (found, 0)
        if command[0] == "sh":
            return b"", 0 if command[-1].endswith("apt-get") else 1
        if "install" in command:
            name = command[-1]
            status = STATUS.replace("libc6", name)
            container.files |= {f"usr/share/{name}": b"by apt", "var/lib/dpkg/status": status.encode()}
        return b"", 0

    monkeypatch.setattr(FakeContainer, "run", run)
    with FakeEngine() as engine:
        yield engine


def on_image(
    bench: DebianBench,
    names: str,
    docker: str = "",
    *,
    status: str = STATUS,
    release: bytes = RELEASE,
    files: Mapping[str, bytes] | None = None,
    folder: str = "project",
    libc: str = "glibc",
) -> Path:
    """A project with these packages on an image that has dpkg."""
    there = {"usr/lib/os-release": release, "var/lib/dpkg/status": status.encode(), **(files or {})}
    base = bench.base(FakeBase(files={path: data for path, data in there.items() if data}, libc=libc))
    packages = [name for name in names.split(" ") if name]
    return bench.project(folder, base=f"oci:{base}", docker=f"runtime-packages = {packages}\n{docker}")


def libraries(made: Made) -> set[str]:
    """The libraries in the dynamic loader's cache."""
    return {each.name for each in read_ld_so_cache(made.contents["etc/ld.so.cache"])}


class TestOnADebianImage:
    def test_are_one_layer(self, bench: DebianBench) -> None:
        made = bench.made(project := on_image(bench, "libpq5"))
        assert len(made.layers) == 3
        assert f"{LIB}/libpq.so.5.17" in made.layers[1]
        assert made.members[f"{LIB}/libpq.so.5"].linkname == "libpq.so.5.17"
        assert libraries(made) == {"libldap.so.2", "libpq.so.5"}
        status = made.text("var/lib/dpkg/status")
        assert [line for line in status.splitlines() if line.startswith("Package: ")] == [
            *("Package: libc6", "Package: libldap2", "Package: libpq5"),
        ]
        assert status.count("Status: install ok installed") == 3
        assert made.document["history"][1]["created_by"] == "hatch-docker: libpq5 17.6-1, libldap2 1.0-1"
        result = result_of(project)
        assert [each["name"] for each in result["os-packages"]] == ["libldap2", "libpq5"]
        assert result["layers"][0]["contents"] == ["libpq5 17.6-1", "libldap2 1.0-1"]
        assert not [path for path in bench.archive.requests if "libc6_" in path]

    def test_that_are_installed_already(self, bench: DebianBench) -> None:
        outcome = bench.build(project := on_image(bench, "libpq5", status=HAS_PQ))
        assert outcome.code == 0, outcome.err
        assert "has libpq5 already" in outcome.err
        assert len(result_of(project)["layers"]) == 1
        assert result_of(project)["os-packages"] == []

    def test_that_are_installed_in_an_older_version_are_upgraded(self, bench: DebianBench) -> None:
        made = bench.made(on_image(bench, "libpq5", status=HAS_PQ.replace("17.6", "17.4")))
        assert "Version: 17.6-1" in made.text("var/lib/dpkg/status")
        assert made.text("var/lib/dpkg/status").count("Package: libpq5\n") == 1

    def test_of_a_version(self, bench: DebianBench) -> None:
        bench.made(on_image(bench, "libpq5=17.6-1"))
        other = on_image(bench, "libpq5=18-1", folder="other")
        bench.refused(other, "there is no version 18-1 of 'libpq5'; ", "has 17.6-1")

    def test_are_the_same_in_any_order(self, bench: DebianBench) -> None:
        one = bench.made(on_image(bench, "libpq5 libldap2"))
        other = bench.made(on_image(bench, "libldap2 libpq5 libldap2", folder="other"))
        assert one.manifest["layers"] == other.manifest["layers"]

    def test_are_not_requested_twice(self, bench: DebianBench) -> None:
        bench.made(on_image(bench, "libpq5"))
        asked = len(bench.archive.requests)
        bench.made(on_image(bench, "libpq5", folder="other"))
        assert len(bench.archive.requests) == asked

    def test_provide_libraries_of_the_project(self, bench: DebianBench) -> None:
        wheel = bench.wheel(
            "pq",
            files={"pq.cpython-313-x86_64-linux-gnu.so": library("pq", "libpq.so.5", "libc.so.6").data or b""},
            filename="pq-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
            wheel=WHEEL.replace("py3-none-any", "cp313-cp313-manylinux_2_28_x86_64"),
        )
        project = on_image(bench, "libpq5")
        (project / "pylock.toml").write_text(lock_of(wheel))
        pyproject = project / "pyproject.toml"
        pyproject.write_text(pyproject.read_text().replace("dependencies = []", 'dependencies = ["pq"]'))
        lacks = "pq needs libpq.so.5, which the image lacks"
        assert lacks not in bench.build(project).err
        pyproject.write_text(pyproject.read_text().replace("'libpq5'", "'libldap2'"))
        assert lacks in bench.build(project).err

    def test_come_from_the_sources_of_the_image(self, bench: DebianBench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hatch_docker.debian.sources.read_sources", lambda _folder: [])
        nowhere = {"HATCH_DOCKER_DEBIAN_MIRROR": ""}
        bench.refused(
            on_image(bench, "libpq5"),
            "no mirror of Debian is configured",
            "hint: set debian-mirror, or HATCH_DOCKER_DEBIAN_MIRROR",
            **nowhere,
        )
        sources = f"Types: deb\nURIs: {bench.archive.url}\nSuites: trixie trixie-updates\nComponents: main\n\n"
        sources += sources.replace("/debian\n", "/debian-security\n").replace(
            "trixie trixie-updates", "trixie-security"
        )
        files = {"etc/apt/sources.list.d/debian.sources": sources.encode()}
        made = bench.made(on_image(bench, "libpq5", files=files, folder="other"), **nowhere)
        assert f"{LIB}/libpq.so.5" in made.members


class TestOnOurBase:
    def test_are_one_layer(self, bench: DebianBench) -> None:
        made = bench.made(project := bench.project(docker='runtime-packages = ["libpq5-tools"]'))
        assert "usr/bin/pqtool" in made.layers[1]
        assert "var/lib/dpkg/status.d/libpq5" in made.layers[1]
        assert {"libc.so.6", "libldap.so.2", "libpq.so.5"} <= libraries(made)
        result = result_of(project)
        assert result["base"]["layers"] == 1
        assert [each["name"] for each in result["os-packages"]][-3:] == ["libldap2", "libpq5", "libpq5-tools"]

    def test_may_be_packages_that_the_base_omits(self, bench: DebianBench) -> None:
        bench.archive.put("openssl", {"usr/bin/openssl": program()}, version="3.5-1")
        bench.archive.release()
        assert "usr/bin/openssl" not in bench.made(bench.project("without")).members
        made = bench.made(bench.project(docker='runtime-packages = ["openssl"]'))
        assert "usr/bin/openssl" in made.layers[1]

    def test_that_are_installed_already(self, bench: DebianBench) -> None:
        outcome = bench.build(project := bench.project(docker='runtime-packages = ["libc6", "tzdata"]'))
        assert outcome.code == 0, outcome.err
        assert "debian:trixie has libc6, tzdata already" in outcome.err
        assert len(result_of(project)["layers"]) == 1

    def test_cannot_be_installed_by_an_engine(self, bench: DebianBench) -> None:
        bench.refused(
            bench.project(docker=f'runtime-packages = ["libpq5"]\n{ENGINE}'),
            f"{TABLE}.runtime-installer: debian:trixie has no package manager that an engine could run",
            'hint: remove it: then packages are unpacked without an engine; or set base = "slim"',
        )


class TestPackagesThatCannotBe:
    @pytest.mark.parametrize("image", [True, False])
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("daemon", "daemon does not work without its script: its postinst runs make-the-database"),
            ("halved", "halved: /usr/bin/halved needs libnowhere.so.9"),
        ],
    )
    def test_unpacked_may_be_installed_by_an_engine(
        self, bench: DebianBench, image: bool, name: str, expected: str
    ) -> None:
        project = on_image(bench, name) if image else bench.project(docker=f'runtime-packages = ["{name}"]')
        message = bench.refused(project, expected, 'runtime-installer = "engine": the base\'s own apt installs them')
        assert ('base = "slim" has a shell' in message) is not image

    @pytest.mark.parametrize("image", [True, False])
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ("libpq", "there is no package 'libpq' in trixie, trixie-updates, trixie-security; similar are libpq5"),
            ("lipbq5 libldap", "there is no package 'lipbq5' in "),
            ("adrift", "adrift → buoy → anchor (>= 2): "),
        ],
    )
    def test_found_in_the_archive(self, bench: DebianBench, image: bool, names: str, expected: str) -> None:
        project = on_image(bench, names) if image else bench.project(docker=f"runtime-packages = {names.split()}")
        message = bench.refused(project, expected)
        # An engine's apt would not find it either.
        assert "runtime-installer" not in message

    def test_combined(self, bench: DebianBench) -> None:
        bench.archive.put("one", {"usr/bin/tool": file(b"1")})
        bench.archive.put("two", {"usr/bin/tool": file(b"2")})
        bench.archive.release()
        bench.refused(on_image(bench, "one two"), "/usr/bin/tool is both in one and in two", "leave one of them out")

    def test_downloaded(self, bench: DebianBench) -> None:
        bench.archive.alter(deb := bench.archive.deb("libldap2"))
        bench.refused(on_image(bench, "libpq5"), f"{deb.path}: is not the right file", "hint: ")

    def test_added_to_an_image_without_a_database(self, bench: DebianBench) -> None:
        bench.refused(
            on_image(bench, "libpq5", status=""), "the image has no Debian packages", "hint: use a Debian base"
        )

    def test_added_to_an_image_with_a_damaged_database(self, bench: DebianBench) -> None:
        bench.refused(on_image(bench, "libpq5", status=STATUS.replace("Version: ", "Version: x y")), "status: libc6: ")


class TestTheEngine:
    def test_installs_if_it_is_configured(self, bench: DebianBench, engine: FakeEngine) -> None:
        project = on_image(bench, "libpq5", ENGINE)
        made = bench.made(project, DOCKER_HOST=engine.address)
        assert made.contents["usr/share/libpq5"] == b"by apt"
        assert len(engine.containers.made) == 1
        assert bench.archive.requests == []
        assert result_of(project)["os-packages"] == []
        assert not (project / "dist/debian.shop.lock").exists()

    def test_is_required_then(self, bench: DebianBench) -> None:
        bench.refused(on_image(bench, "libpq5", ENGINE), "no container engine answers", "install libpq5")

    @pytest.mark.parametrize(("release", "libc"), [(ALPINE, "musl"), (UBUNTU, "glibc"), (b"", "glibc")])
    def test_installs_on_other_distributions(
        self, bench: DebianBench, engine: FakeEngine, release: bytes, libc: str
    ) -> None:
        made = bench.made(on_image(bench, "libpq5", release=release, libc=libc), DOCKER_HOST=engine.address)
        assert made.contents["usr/share/libpq5"] == b"by apt"
        assert bench.archive.requests == []
        bench.refused(
            on_image(bench, "libpq5", 'runtime-installer = "archive"', release=release, libc=libc, folder="other"),
            f"{TABLE}.runtime-installer: ",
            "is not a Debian release, and has no packages in Debian's archive",
            "hint: remove it",
            DOCKER_HOST=engine.address,
        )
