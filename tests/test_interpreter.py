from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import mirrors
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.base.facts import BaseFacts
from hatch_docker.base.interpreter import needs_content, read_facts
from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.dpkg.ldcache import CacheEntry, ld_so_cache
from hatch_docker.errors import BaseError, ImageError
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.merging import merge
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import pull, registry_source
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress

VENV = "app/.venv"
GLIBC = b"\x7fELF...GNU C Library (Debian GLIBC 2.41-12+deb13u1) stable release version 2.41.\nCopyright"
MUSL = b"\x7fELF\x00\x00musl libc (%s)\nVersion %s\0" + b"1.2.5\0..."


def binary(version: str) -> bytes:
    return b"\x7fELF\0%d.%d\0" + version.encode() + b"\0more"


def filesystem(files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> Filesystem:
    """A file system as `merge` returns it: with every directory, and the content of needed files only."""
    nodes = {path: Node(kind="file", data=data if needs_content(path) else None) for path, data in files.items()}
    nodes |= {path: Node(kind="link", link=target) for path, target in links.items()}
    for path in list(nodes):
        while path := path.rpartition("/")[0]:
            nodes.setdefault(path, Node(kind="dir"))
    return Filesystem(nodes)


def config(path: str | None = None, platform: str = "linux/amd64") -> ImageConfig:
    return ImageConfig(platform=Platform.parse(platform), env={} if path is None else {"PATH": path})


def facts(
    files: Mapping[str, bytes], links: Mapping[str, str] = {}, *, path: str | None = None, platform: str = "linux/amd64"
) -> BaseFacts:
    return read_facts(filesystem(files, links), config(path, platform), venv=VENV)


SLIM = {
    "usr/local/bin/python3.13": b"\x7fELF a stub",
    "usr/local/lib/libpython3.13.so.1.0": binary("3.13.5"),
    "usr/local/lib/python3.13/lib-dynload/_json.cpython-313-x86_64-linux-gnu.so": b"",
    "usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC,
}
SLIM_LINKS = {
    "usr/local/bin/python3": "python3.13",
    "usr/local/bin/python": "python3",
    "usr/local/lib/libpython3.13.so": "libpython3.13.so.1.0",
    "lib": "usr/lib",
    "bin": "usr/bin",
    "etc/alternatives/x": "/usr/local/bin/python3.13",
}
ALPINE = {
    "usr/local/bin/python3.13": binary("3.13.2"),
    "usr/local/lib/python3.13/lib-dynload/_json.cpython-313-x86_64-linux-musl.so": b"",
    "lib/ld-musl-x86_64.so.1": MUSL,
}
ALPINE_LINKS = {"usr/local/bin/python3": "python3.13", "lib/libc.musl-x86_64.so.1": "ld-musl-x86_64.so.1"}


class TestPython:
    def test_official_slim_image(self) -> None:
        assert facts(SLIM, SLIM_LINKS).python == TargetPython(
            version="3.13.5",
            interpreter="/usr/local/bin/python3.13",
            platform=Platform(architecture="amd64"),
            libc=Libc(kind="glibc", version=(2, 41)),
        )

    def test_official_alpine_image(self) -> None:
        found = facts(ALPINE, ALPINE_LINKS).python
        assert (found.version, str(found.libc)) == ("3.13.2", "musl 1.2")

    def test_python_of_debian(self) -> None:
        files = {
            "usr/bin/python3.13": binary("3.13.5"),
            "usr/lib/python3.13/lib-dynload/_json.cpython-313-x86_64-linux-gnu.so": b"",
            "usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC,
        }
        found = facts(
            files, {"usr/bin/python3": "python3.13", "bin": "usr/bin", "lib": "usr/lib"}, path="/bin:/usr/bin"
        )
        assert found.python.interpreter == "/usr/bin/python3.13"
        assert found.python.version == "3.13.5"
        assert found.links["lib"] == "usr/lib"

    def test_glibc_before_2_34_is_a_link_to_the_library(self) -> None:
        files = {path: data for path, data in SLIM.items() if "libc.so" not in path}
        files["lib/x86_64-linux-gnu/libc-2.31.so"] = GLIBC.replace(b"2.41", b"2.31")
        links = {path: target for path, target in SLIM_LINKS.items() if path != "lib"}
        found = facts(files, {**links, "lib/x86_64-linux-gnu/libc.so.6": "libc-2.31.so"})
        assert found.python.libc == Libc(kind="glibc", version=(2, 31))

    def test_lib64_of_red_hat(self) -> None:
        files = {"usr/bin/python3.12": b"", "usr/lib64/libpython3.12.so.1.0": binary("3.12.9")}
        files["usr/lib64/libc.so.6"] = b"GNU C Library (GNU libc) stable release version 2.39.\n"
        found = facts(files, {"usr/bin/python3": "python3.12", "lib64": "usr/lib64"}).python
        assert (found.version, found.libc.version) == ("3.12.9", (2, 39))

    @pytest.mark.parametrize("version", ["3.14.0", "3.14.0rc1", "3.14.0a7", "3.14.0b2+", "3.14.10"])
    def test_full_version(self, version: str) -> None:
        files = {"opt/python/bin/python3.14": binary(version), "lib/libc.so.6": GLIBC}
        found = facts(files, {"usr/bin/python3": "/opt/python/bin/python3.14"}).python
        assert found.version == version.rstrip("+")
        assert found.interpreter == "/opt/python/bin/python3.14"

    def test_without_the_gil(self) -> None:
        files = {"usr/local/bin/python3.14t": binary("3.14.1"), "lib/libc.so.6": GLIBC}
        found = facts(files, {"usr/local/bin/python3": "python3.14t"}).python
        assert found.free_threaded
        assert found.lib_name == "python3.14t"

    def test_first_on_the_path(self) -> None:
        files = {"a/bin/python3.12": binary("3.12.1"), "b/bin/python3.13": binary("3.13.1"), "lib/libc.so.6": GLIBC}
        links = {"a/bin/python3": "python3.12", "b/bin/python3": "python3.13"}
        assert facts(files, links, path="/none:b/bin:/b/bin:/a/bin").python.minor == "3.13"
        assert facts(files, links, path="/a/bin:/b/bin").python.minor == "3.12"

    def test_newest_without_python3(self) -> None:
        files = {f"usr/bin/python{minor}": binary(f"{minor}.1") for minor in ("3.9", "3.13", "3.13t", "3.12")}
        files |= {"usr/bin/python3.14-config": b"", "usr/bin/python2.7": b"", "lib/libc.so.6": GLIBC}
        assert facts(files).python.interpreter == "/usr/bin/python3.13"

    def test_follows_a_versioned_link_to_the_directory_of_the_library(self) -> None:
        files = {"opt/py/bin/python3.13": b"", "opt/py/lib/libpython3.13.so.1.0": binary("3.13.1")}
        files["lib/libc.so.6"] = GLIBC
        found = facts(files, {"usr/local/bin/python3.13": "/opt/py/bin/python3.13"}).python
        assert (found.interpreter, found.version) == ("/opt/py/bin/python3.13", "3.13.1")

    def test_ignores_other_versions_of_the_library(self) -> None:
        files = {**SLIM, "usr/lib/libpython3.11.so.1.0": binary("3.11.2"), "usr/lib/libpython3.1.so": binary("3.13.9")}
        assert facts(files, SLIM_LINKS).python.version == "3.13.5"


class TestRefusals:
    @pytest.mark.parametrize(
        ("files", "links"),
        [
            ({}, {}),
            ({"usr/bin/pypy3.11": b""}, {"usr/bin/python3": "pypy3.11"}),
            ({}, {"usr/bin/python3": "python3.13"}),
            ({"usr/bin/python2.7": b""}, {"usr/bin/python": "python2.7"}),
            ({"usr/bin/python3.13/file": b""}, {}),
        ],
    )
    def test_no_python(self, files: dict[str, bytes], links: dict[str, str]) -> None:
        with pytest.raises(BaseError, match="has no Python") as caught:
            facts(files, links)
        assert caught.value.hint

    def test_python_without_a_version(self) -> None:
        with pytest.raises(BaseError, match=r"version of /usr/local/bin/python3\.13 .* is unknown"):
            facts({**SLIM, "usr/local/lib/libpython3.13.so.1.0": binary("3.12.1")}, SLIM_LINKS)

    def test_no_supported_c_library(self) -> None:
        files = {path: data for path, data in SLIM.items() if "libc" not in path}
        with pytest.raises(BaseError, match="neither glibc nor musl"):
            facts(files, SLIM_LINKS)

    def test_c_library_that_takes_forever_to_search(self) -> None:
        endless = b"GNU C Library " * 300_000
        with pytest.raises(BaseError, match="neither glibc nor musl"):
            facts({"usr/local/bin/python3.13": binary("3.13.5"), "usr/lib/x86_64-linux-gnu/libc.so.6": endless})

    def test_image_for_another_machine_than_its_config_says(self) -> None:
        with pytest.raises(BaseError, match=r"linux/arm64.*another machine: _json\.cpython-313-x86_64-linux-gnu\.so"):
            facts(SLIM, SLIM_LINKS, platform="linux/arm64")

    @pytest.mark.parametrize(
        ("platform", "triplet"),
        [
            ("linux/arm64", "aarch64-linux-gnu"),
            ("linux/arm64/v9", "aarch64-linux-gnu"),
            ("linux/386", "i386-linux-gnu"),
            ("linux/arm/v7", "arm-linux-gnueabihf"),
            ("linux/arm/v7", "arm-linux-musleabihf"),
            ("linux/ppc64le", "powerpc64le-linux-gnu"),
            ("linux/s390x", "s390x-linux-gnu"),
            ("linux/riscv64", "riscv64-linux-gnu"),
        ],
    )
    def test_image_for_the_machine_in_its_config(self, platform: str, triplet: str) -> None:
        files = {path: data for path, data in SLIM.items() if "lib-dynload" not in path}
        files[f"usr/local/lib/python3.13/lib-dynload/_json.cpython-313-{triplet}.so"] = b""
        assert facts(files, SLIM_LINKS, platform=platform).python.platform == Platform.parse(platform)

    def test_platform_without_wheels(self) -> None:
        files = {path: data for path, data in SLIM.items() if "lib-dynload" not in path}
        for platform in ("linux/mips64le", "windows/amd64", "linux/arm/v6"):
            with pytest.raises(BaseError, match=f"wheels do not exist for the platform {platform}"):
                facts(files, SLIM_LINKS, platform=platform)


class TestSurroundings:
    def test_links_through_which_files_could_be_written(self) -> None:
        found = facts(SLIM, SLIM_LINKS)
        assert found.links["lib"] == "usr/lib"
        assert {"usr/local/lib", "usr/lib/x86_64-linux-gnu"} <= found.directories
        assert "lib" not in found.directories

    def test_ignores_a_link_to_itself(self) -> None:
        loops = {"loop": "loop", "srv/deep/loop": "../deep/loop"}
        assert facts(SLIM, {**SLIM_LINKS, **loops}).links.keys() == facts(SLIM, SLIM_LINKS).links.keys() | {"loop"}

    @pytest.mark.parametrize(
        ("files", "links", "occupied"),
        [
            ({}, {}, False),
            ({"app/main.py": b""}, {}, False),
            ({"app/.venv/bin/x": b""}, {}, True),
            ({"srv/.venv/x": b""}, {"app": "/srv"}, True),
            ({}, {"app/.venv": "/opt/venv"}, False),
        ],
    )
    def test_occupied(self, files: dict[str, bytes], links: dict[str, str], occupied: bool) -> None:
        assert facts({**SLIM, **files}, {**SLIM_LINKS, **links}).occupied is occupied


class TestLibraries:
    def found(
        self,
        base: Mapping[str, bytes],
        links: Mapping[str, str],
        *paths: str,
        more: Mapping[str, bytes] = {},
        env: Mapping[str, str] = {},
    ) -> set[str]:
        """The names of the libraries at `paths` that the loader of a base finds."""
        files = {**base, **dict.fromkeys(paths, b""), **more}
        image = ImageConfig(platform=Platform.parse("linux/amd64"), env=dict(env))
        names = {path.rpartition("/")[2] for path in paths}
        return names & read_facts(filesystem(files, links), image, venv=VENV).libraries

    def test_built_in_directories_of_glibc(self) -> None:
        paths = ["usr/lib/liba.so.1", "usr/lib/x86_64-linux-gnu/libb.so.2", "usr/local/lib/libc1.so", "lib64/libd.so"]
        assert self.found(SLIM, SLIM_LINKS, *paths) == {"liba.so.1", "libb.so.2", "libc1.so", "libd.so"}
        assert self.found(SLIM, SLIM_LINKS, "usr/lib/i386-linux-gnu/libx.so", "opt/liby.so", "libz.so") == set()
        assert self.found(SLIM, SLIM_LINKS, "usr/lib/git-core/libx.so.1", "usr/lib/liba.txt") == set()

    def test_directories_in_ld_so_conf(self) -> None:
        more = {
            "etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n  /opt/one/lib # ours\n",
            "etc/ld.so.conf.d/two.conf": b"# two\n/opt/two/lib\n",
            "etc/ld.so.conf.d/three.conf.off": b"/opt/three/lib\n",
        }
        paths = [f"opt/{each}/lib/lib{each}.so.1" for each in ("one", "two", "three")]
        assert self.found(SLIM, SLIM_LINKS, *paths, more=more) == {"libone.so.1", "libtwo.so.1"}

    def test_files_that_ld_so_conf_does_not_include_are_ignored(self) -> None:
        more = {"etc/ld.so.conf": b"include sub/*.conf\n", "etc/ld.so.conf.d/two.conf": b"/opt/two/lib\n"}
        assert self.found(SLIM, SLIM_LINKS, "opt/two/lib/libtwo.so.1", more=more) == set()

    def test_libraries_in_the_cache_that_exist_and_are_for_the_cpu(self) -> None:
        entries = [
            CacheEntry(name=name, path=f"/opt/{name}", flags=flags)
            for name, flags in (("liba.so", 0x0303), ("libgone.so", 0x0303), ("libarm.so", 0x0A03))
        ]
        more = {"etc/ld.so.cache": ld_so_cache(entries)}
        assert self.found(SLIM, SLIM_LINKS, "opt/liba.so", "opt/libarm.so", more=more) == {"liba.so"}
        assert self.found(SLIM, SLIM_LINKS, "opt/liba.so", more={"etc/ld.so.cache": b"damaged"}) == set()

    def test_directories_in_the_environment_of_the_image(self) -> None:
        env = {"LD_LIBRARY_PATH": "/opt/one/lib:relative:;/opt/two/lib", "PATH": "/usr/local/bin"}
        paths = [f"opt/{each}/lib/lib{each}.so.1" for each in ("one", "two", "three")]
        assert self.found(SLIM, SLIM_LINKS, *paths, "root.so", env=env) == {"libone.so.1", "libtwo.so.1"}

    def test_built_in_directories_of_musl_or_those_in_its_file(self) -> None:
        paths = ["usr/lib/liba.so.1", "usr/local/lib/libb.so.2", "opt/lib/libc1.so"]
        assert self.found(ALPINE, ALPINE_LINKS, *paths) == {"liba.so.1", "libb.so.2"}
        more = {"etc/ld-musl-x86_64.path": b"/opt/lib:/usr/lib\n/none\n"}
        assert self.found(ALPINE, ALPINE_LINKS, "usr/lib/liba.so.1", "lib/libx.so", "opt/lib/libc1.so", more=more) == {
            "liba.so.1",
            "libc1.so",
        }

    def test_links_to_files_count(self) -> None:
        links = {"usr/lib/liba.so": "liba.so.1", "usr/lib/libgone.so": "gone", "usr/lib/libloop.so": "libloop.so"}
        known = read_facts(filesystem({**SLIM, "usr/lib/liba.so.1": b""}, {**SLIM_LINKS, **links}), config(), venv=VENV)
        assert {"liba.so", "liba.so.1", "libc.so.6", "libpython3.13.so.1.0"} <= known.libraries
        assert known.libraries.isdisjoint({"libgone.so", "libloop.so"})


_names = st.text(min_size=1, max_size=8)
_facts = st.builds(
    BaseFacts,
    python=st.builds(
        TargetPython,
        version=st.sampled_from(["3.13.5", "3.14.0rc1"]),
        interpreter=_names,
        platform=st.sampled_from(["linux/amd64", "linux/arm/v7"]).map(Platform.parse),
        libc=st.builds(
            Libc, kind=st.sampled_from(["glibc", "musl"]), version=st.tuples(st.integers(0, 9), st.integers(0, 99))
        ),
        free_threaded=st.booleans(),
    ),
    links=st.dictionaries(_names, _names, max_size=3),
    directories=st.frozensets(_names, max_size=3),
    occupied=st.booleans(),
    libraries=st.frozensets(_names, max_size=3),
)


@given(_facts)
def test_round_trip_of_facts(known: BaseFacts) -> None:
    assert BaseFacts.from_json(json.loads(json.dumps(known.to_json()))) == known


@given(st.dictionaries(_names, st.binary(max_size=40), max_size=4), st.dictionaries(_names, _names, max_size=4))
def test_reads_or_rejects_any_image(files: dict[str, bytes], links: dict[str, str]) -> None:
    there = {f"usr/bin/python3.13{name}": data for name, data in files.items()} | SLIM
    # Links may form loops.
    with contextlib.suppress(ImageError):
        read_facts(filesystem(there, {**SLIM_LINKS, **links}), config(), venv="nowhere/at/all")


@pytest.mark.base
@pytest.mark.parametrize(("name", "libc"), [("python:3.13-slim", "glibc"), ("python:3.13-alpine", "musl")])
def test_real_bases(name: str, libc: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = Cache(tmp_path_factory.getbasetemp() / "bases")
    registry = Registry(Http(), credentials=Credentials.from_environment(os.environ, Path.home()), mirrors=mirrors())
    source = registry_source(registry, Reference.parse(name), cache)
    image = pull(source, Platform(architecture="amd64"), cache, progress=Progress()).image
    found = read_facts(merge(image.layers, needs_content), image.config, venv=VENV)
    # The official images have their version in a variable.
    assert found.python.version == image.config.env["PYTHON_VERSION"]
    assert found.python.interpreter == "/usr/local/bin/python3.13"
    assert found.python.libc.kind == libc
    assert found.python.libc.version >= {"glibc": (2, 36), "musl": (1, 2)}[libc]
    assert not found.occupied
    assert {"usr/local/bin", "tmp", "etc"} <= found.directories
    assert {"libpython3.13.so.1.0", "libz.so.1", "libssl.so.3", "libuuid.so.1"} <= found.libraries
    assert "libGL.so.1" not in found.libraries
