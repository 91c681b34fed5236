"""Real sdists, compiled in containers on both families, and used in images without a compiler."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import builds
import pytest
from alpine_packages import libffi, libyaml_and_toolchain
from apk_repository import ALPINE, BUILDER
from compilations import Build, Case, building, check_again, copied, installing
from containers import built, output
from docker import DockerClient
from real_sdists import sdist

from hatch_docker.engine.client import Engine
from hatch_docker.support.dataclasses import dataclass

BASES = ("slim", "alpine")
# It contains the sources of libyaml.
CLIB = "ruamel_yaml_clib-0.2.15.tar.gz"
COMPILERS = {"as", "c++", "cc", "cc1", "clang", "collect2", "g++", "gcc", "ld", "make", "tcc"}
SITE = "app/.venv/lib/python3.13/site-packages"
PACKAGES = ("cffi", "markupsafe", "psutil", "pyyaml")


@dataclass(frozen=True, kw_only=True)
class Library:
    """The settings by which a build gets a C library, and the package that has it for images."""

    settings: dict[str, str]
    package: str


pytestmark = [pytest.mark.base, pytest.mark.engine, pytest.mark.network]


@pytest.fixture(scope="module")
def build(client: DockerClient, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    with building(client, shared_cache, tmp_path_factory.mktemp("projects")) as build:
        yield build


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.connect(os.environ)


@pytest.fixture(scope="module", params=BASES)
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def libffi_builder(engine: Engine, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("libffi") / "builder.tar"
    return installing(BUILDER, libffi(engine), shared_cache, path)


@pytest.fixture(scope="module")
def libyaml_base(engine: Engine, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Alpine whose repository has libyaml and a toolchain, so that no builder is configured."""
    path = tmp_path_factory.mktemp("libyaml") / "base.tar"
    return installing(ALPINE, libyaml_and_toolchain(engine, sources(shared_cache)), shared_cache, path)


def sources(cache: Path) -> dict[str, bytes]:
    """The sources of libyaml, by file name."""
    with tarfile.open(sdist(CLIB, cache)) as tar:
        members = [member for member in tar if member.name.endswith((".c", ".h"))]
        return {Path(member.name).name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def needs_compiling(base: str, build: Build, request: pytest.FixtureRequest) -> Case:
    builder = {"builder": request.getfixturevalue("libffi_builder")} if base == "alpine" else {}
    return build("needs-compiling", base=base, **builder)


@pytest.fixture(scope="module")
def own_extension(base: str, build: Build) -> Case:
    return build("own-extension", base=base, **({"builder": BUILDER} if base == "alpine" else {}))


@pytest.fixture(scope="module")
def with_neighbour(base: str, build: Build) -> Case:
    return build("with-neighbour", base=base, **({"builder": BUILDER} if base == "alpine" else {}))


@pytest.fixture(scope="module")
def libyaml(base: str, request: pytest.FixtureRequest) -> Library:
    """The settings by which a base gets libyaml, and the package that has it."""
    if base == "slim":
        return Library(settings={"base": base, "build_packages": "libyaml-dev"}, package="libyaml-0-2")
    # Without a configured builder, the builder is the base with a toolchain.
    name = request.getfixturevalue("libyaml_base")
    return Library(settings={"base": name, "build_packages": "yaml-dev"}, package="yaml")


@pytest.fixture(scope="module")
def grafted(libyaml: Library, build: Build) -> Case:
    return build("with-library", **libyaml.settings)


@pytest.fixture(scope="module")
def installed(libyaml: Library, build: Build) -> Case:
    return build("with-library", **libyaml.settings, runtime_packages=libyaml.package, runtime_installer="engine")


class TestNeedsCompiling:
    def test_everything_is_compiled_and_the_reason_is_printed(self, base: str, needs_compiling: Case) -> None:
        compiled = needs_compiling.compiled
        assert compiled.keys() == {*PACKAGES}
        builder = "python:3.13" if base == "slim" else r"\S*builder.tar"
        for name, each in compiled.items():
            line = rf"^  {name} {each['version']}: named in no-binary, compiling in {builder} \+ libffi-dev$"
            assert re.search(line, needs_compiling.output, re.MULTILINE)
            assert each["sdist"] == f"{name}-{each['version']}.tar.gz"
            assert re.search(r"@sha256:[0-9a-f]{64}$", each["builder"])
            assert [line for line in each["build-requirements"] if line.startswith("auditwheel==")]
        compiling = [what for what in needs_compiling.containers if what.startswith("compiling")]
        assert sorted(compiling) == [f"compiling {name} {compiled[name]['version']}" for name in PACKAGES]

    def test_arbitrary_user_uses_it_in_a_read_only_image(self, needs_compiling: Case, client: DockerClient) -> None:
        printed = needs_compiling.prints(client)
        assert printed.pop("uid") == 65532
        assert all(path.startswith(f"/{SITE}/") for _, path in printed.values())
        assert {name: answer for name, (answer, _) in printed.items()} == {
            "cffi": 4,
            "markupsafe": "&lt;b&gt;",
            "psutil": True,
            "pyyaml": {"a": [1, 2]},
        }
        modules = {name for name, (_, path) in printed.items() if path.endswith(".so")}
        assert modules == {"cffi", "markupsafe", "psutil"}

    def test_image_has_no_compiler(self, needs_compiling: Case) -> None:
        files = {path for path, member in needs_compiling.archive.members.items() if not member.isdir()}
        assert [path for path in files if path.rpartition("/")[2] in COMPILERS] == []
        assert [path for path in files if path.startswith("app/") and path.endswith((".a", ".o", "ffi.h"))] == []

    def test_libffi_is_bundled_in_the_wheel(self, needs_compiling: Case) -> None:
        (library,) = libraries(needs_compiling)
        assert re.fullmatch(rf"{SITE}/cffi\.libs/libffi-[0-9a-f]{{8}}\.so\.8[.\d]*", library)

    def test_image_is_not_larger_than_with_ready_wheels(self, base: str, needs_compiling: Case, build: Build) -> None:
        ready = build("needs-compiling", base=base, target="docker:archive", no_binary=":none:")
        assert (ready.containers, ready.compiled) == ([], {})
        # The ready wheel of cffi bundles libffi, too. Wheels that are compiled have no debug information.
        for size in ("size", "unpacked"):
            assert total(needs_compiling, size) <= total(ready, size)

    def test_second_build_creates_no_container(self, needs_compiling: Case, tmp_path: Path) -> None:
        check_again(needs_compiling, tmp_path)


def libraries(case: Case) -> list[str]:
    """The libraries that wheels bundle."""
    return [path for path, member in case.archive.members.items() if ".libs/" in path and member.isfile()]


def total(case: Case, size: str) -> int:
    """The size of all layers above the base, in bytes."""
    return sum(layer[size] for layer in case.result["layers"])


class TestOwnExtension:
    def test_project_is_compiled_in_a_container(self, base: str, own_extension: Case, client: DockerClient) -> None:
        code = "import os; print(os.confstr('CS_GNU_LIBC_VERSION'))"
        libc = output(client, f"{own_extension.image}:1.0", "python", "-c", code).strip() if base == "slim" else "musl"
        assert own_extension.prints(client) == {"answer": 42, "libc": libc}
        assert own_extension.containers == ["compiling own-extension 1.0"]
        assert own_extension.compiled["own-extension"]["reason"].startswith("its build on this machine failed (")

    def test_empty_cache_gives_the_same_image(self, base: str, own_extension: Case, tmp_path: Path) -> None:
        other = copied(own_extension.project, tmp_path / "other")
        again = built(other, {**own_extension.environ, "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")})
        assert "compiled package own-extension 1.0" in again.err
        assert builds.result_of(other)["digest"] == own_extension.result["digest"]

    def test_second_build_creates_no_container(self, own_extension: Case, tmp_path: Path) -> None:
        check_again(own_extension, tmp_path)


class TestWithNeighbour:
    def test_directory_is_compiled_in_the_builder(self, base: str, with_neighbour: Case, client: DockerClient) -> None:
        printed = with_neighbour.prints(client)
        assert (printed["answer"], printed["libc"].partition(" ")[0]) == (42, "glibc" if base == "slim" else "musl")
        assert with_neighbour.containers == ["compiling speed 1.0"]
        reason = with_neighbour.compiled["speed"]["reason"]
        assert reason.startswith(("its wheel is not pure (cp3", "its build on this machine failed ("))
        (source,) = with_neighbour.result["sources"]
        assert (source["name"], source["kind"], source["url"]) == ("speed", "directory", "speed")
        contents = [" ".join(layer["contents"]) for layer in with_neighbour.result["layers"]]
        packages = [each for each in contents if not each.startswith(("bytecode of ", "without "))]
        assert packages == ["speed 1.0", "with-neighbour 1.0"]

    def test_second_build_creates_no_container(self, with_neighbour: Case, tmp_path: Path) -> None:
        check_again(with_neighbour, tmp_path)


class TestWithLibrary:
    def test_library_is_bundled_in_the_wheel(self, grafted: Case, client: DockerClient) -> None:
        (library,) = libraries(grafted)
        assert re.fullmatch(rf"{SITE}/with_library\.libs/libyaml-0-[0-9a-f]{{8}}\.so\.2[.\d]*", library)
        printed = grafted.prints(client)
        assert re.fullmatch(r"\d+\.\d+\.\d+", printed["version"])
        assert (printed["scalars"], printed["loaded"]) == (["a", "1", "b"], [f"/{library}"])

    def test_library_comes_with_an_os_package(self, base: str, installed: Case, client: DockerClient) -> None:
        printed = installed.prints(client)
        assert libraries(installed) == []
        (library,) = printed["loaded"]
        assert re.fullmatch(r"/usr/lib/(x86_64-linux-gnu/)?libyaml-0\.so\.2[.\d]*", library)
        assert printed["scalars"] == ["a", "1", "b"]
        audit = ("dpkg", "--audit") if base == "slim" else ("apk", "audit", "--packages")
        assert "yaml" not in output(client, f"{installed.image}:1.0", *audit)

    def test_packages_are_recorded(self, base: str, libyaml: Library, grafted: Case, installed: Case) -> None:
        for case in (grafted, installed):
            names = {each.partition(" ")[0] for each in case.compiled["with-library"]["build-packages"]}
            assert {libyaml.settings["build_packages"], libyaml.package} <= names
            assert ("build-base" in names) == (base == "alpine")
        (layer,) = [layer for layer in installed.result["layers"] if "yaml" in layer["contents"][0].partition(" ")[0]]
        assert [each.partition(" ")[0] for each in layer["contents"]] == [libyaml.package]

    # test_os_packages.py checks the same for Debian's packages, whose download takes long.
    @pytest.mark.parametrize("base", ["alpine"], indirect=True)
    def test_empty_cache_gives_the_same_image(self, grafted: Case, tmp_path: Path) -> None:
        other = copied(grafted.project, tmp_path / "other")
        built(other, {**grafted.environ, "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")})
        assert builds.result_of(other)["digest"] == grafted.result["digest"]

    def test_second_build_creates_no_container(self, grafted: Case, installed: Case, tmp_path: Path) -> None:
        for number, case in enumerate((grafted, installed)):
            check_again(case, tmp_path / str(number))
