"""What `prune-base` removes of a base's Python, read from listings of bases."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from dpkg_maker import listing
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.base.additions import leftovers_to_prune
from hatch_docker.base.facts import BaseFacts
from hatch_docker.base.image import Base
from hatch_docker.base.leftovers import leftovers_of, needed_leftovers, needs_record
from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.image import Image
from hatch_docker.oci.spec import Platform

AMD64 = Platform(architecture="amd64")
LIB = "usr/local/lib/python3.13"
SITE = f"{LIB}/site-packages"
BIN = "usr/local/bin"
INFO = f"{SITE}/pip-25.1.dist-info"
PIP = {
    f"{SITE}/pip/__init__.py": b"",
    f"{SITE}/pip/_vendor/rich/text.py": b"",
    f"{INFO}/METADATA": b"Name: pip\n",
    f"{BIN}/pip3": b"#!",
    f"{BIN}/pip3.13": b"#!",
}
RECORD = (
    "../../../bin/pip3,sha256=x,1\n../../../bin/pip3.13,,\npip/__init__.py,,\npip/_vendor/rich/text.py,,\n"
    "pip-25.1.dist-info/METADATA,,\npip-25.1.dist-info/RECORD,,\n"
)
REST = {
    f"{LIB}/os.py": b"",
    f"{SITE}/README.txt": b"",
    f"{BIN}/python3.13": b"",
    f"{BIN}/pipx": b"",
    "usr/bin/pip3": b"the distribution's",
}
Files = Mapping[str, bytes | str | None]


def target(prefix: str = "/usr/local", *, free_threaded: bool = False) -> TargetPython:
    interpreter = f"{prefix}/bin/python3.13{'t' if free_threaded else ''}"
    libc = Libc(kind="glibc", version=(2, 41))
    return TargetPython(
        version="3.13.5", interpreter=interpreter, platform=AMD64, libc=libc, free_threaded=free_threaded
    )


def found(files: Files, python: TargetPython | None = None) -> dict[str, tuple[str, ...]]:
    return leftovers_of(listing(files), python or target())


def slim(record: str = RECORD, more: Mapping[str, bytes | str | None] = {}) -> dict[str, bytes | str | None]:
    return {**REST, **PIP, f"{INFO}/RECORD": record.encode(), f"{BIN}/pip": "pip3", **more}


PIPS = (f"{BIN}/pip", f"{BIN}/pip3", f"{BIN}/pip3.13", f"{SITE}/pip", INFO)


class TestPip:
    def test_is_removed_whole_with_its_programs_and_links_to_them(self) -> None:
        assert found(slim()) == {"pip": PIPS}

    def test_bytecode_goes_with_its_source(self) -> None:
        cached = f"{SITE}/pip/__pycache__/__init__.cpython-313.pyc"
        assert found(slim(more={cached: b""}))["pip"] == PIPS

    def test_other_files_in_its_directories_stay(self) -> None:
        paths = found(slim(more={f"{SITE}/pip/company.py": b""}))["pip"]
        assert set(paths) == {*PIPS[:3], INFO, f"{SITE}/pip/__init__.py", f"{SITE}/pip/_vendor"}

    def test_without_a_record_its_names_go(self) -> None:
        files = {path: data for path, data in slim().items() if not path.endswith("RECORD")}
        assert found(files) == {"pip": PIPS}

    def test_a_module_of_that_name_without_metadata_stays(self) -> None:
        assert found({**REST, f"{SITE}/wheel/__init__.py": b""}) == {}

    def test_what_another_distribution_has_stays(self) -> None:
        others = {f"{SITE}/tool-1.dist-info/RECORD": b"pip/_vendor/rich/text.py,,\n../../../bin/pip3,,\n"}
        paths = found(slim(more=others))["pip"]
        assert f"{SITE}/pip/__init__.py" in paths
        assert not {f"{SITE}/pip", f"{SITE}/pip/_vendor", f"{BIN}/pip3", f"{BIN}/pip"} & set(paths)

    def test_a_link_to_its_package_is_removed_and_its_target_stays(self) -> None:
        files = {path: data for path, data in slim().items() if not path.startswith(f"{SITE}/pip/")}
        files |= {f"{SITE}/pip": "/opt/pip", "opt/pip/__init__.py": b""}
        assert f"{SITE}/pip" in found(files)["pip"]
        assert not [path for path in found(files)["pip"] if path.startswith("opt")]

    def test_paths_are_those_that_links_lead_to(self) -> None:
        files: Files = {**REST, "usr/local/lib64": "lib", "usr/local/lib": "/opt/lib"}
        files = {path: data for path, data in files.items() if not path.startswith("usr/local/lib/")}
        # The site directory is outside the prefix.
        outside = {path.replace("usr/local/lib", "opt/lib"): data for path, data in slim().items()}
        assert found({**files, **{path: data for path, data in outside.items() if path.startswith("opt")}}) == {}
        inside = {path.replace("usr/local/lib", "usr/local/libs"): data for path, data in slim().items()}
        (*_, package, info) = found({**inside, "usr/local/lib": "libs", "usr/local/lib64": "libs"})["pip"]
        assert (package, info) == (
            "usr/local/libs/python3.13/site-packages/pip",
            INFO.replace("local/lib", "local/libs"),
        )

    def test_loops_of_links_are_no_failure(self) -> None:
        assert "pip" in found(slim(more={f"{BIN}/pip3.99": "pip3.99", f"{SITE}/loop": "loop"}))

    def test_of_a_free_threaded_python(self) -> None:
        files = {path.replace("3.13", "3.13t"): data for path, data in slim(RECORD.replace("3.13", "3.13t")).items()}
        assert f"{BIN}/pip3.13t" in found(files, target(free_threaded=True))["pip"]


class TestHostileRecord:
    @pytest.mark.parametrize(
        "row",
        [
            "/usr/local/lib/python3.13/os.py",
            "../os.py",
            "../../../bin/python3.13",
            "../../../bin/pipx",
            "../../../../../../../etc/passwd",
            "/usr/bin/pip3",
            "README.txt",
            "",
            '"',
            "pip/../../os.py",
        ],
    )
    def test_removes_nothing_else(self, row: str) -> None:
        files = slim(f"{row},,\n{RECORD}")
        assert found(files)["pip"] == PIPS

    @given(st.text(alphabet="../pipsetuwl-x\n,\"'\0", max_size=60))
    def test_never_leaves_what_an_installation_owns(self, record: str) -> None:
        for paths in found(slim(record + "\n../../../bin/python3.13,,\n")).values():
            for path in paths:
                assert path.startswith((f"{SITE}/pip", f"{BIN}/pip")), path
                assert path not in {f"{BIN}/pipx", SITE, BIN}


class TestOwnedByPackages:
    def test_what_dpkg_has_stays(self) -> None:
        dist = "usr/lib/python3/dist-packages"
        files = {
            "usr/bin/python3.13": b"",
            "usr/bin/pip": b"",
            f"{dist}/pip/__init__.py": b"",
            f"{dist}/pip-25.1.dist-info/METADATA": b"",
            "var/lib/dpkg/info/python3-pip.list": f"/.\n/{dist}/pip/__init__.py\n/usr/bin/pip\n".encode()
            + f"/{dist}/pip-25.1.dist-info/METADATA\n".encode(),
        }
        assert found(files, target("/usr")) == {}
        assert set(found({**files, "var/lib/dpkg/info/python3-pip.list": b""}, target("/usr"))) == {"pip"}

    def test_what_status_d_has_stays(self) -> None:
        path = f"{LIB}/ensurepip/__init__.py"
        sums = f"{'0' * 32}  {path}\n".encode()
        assert found({path: b"", "var/lib/dpkg/status.d/python.md5sums": sums}) == {}

    def test_what_apk_has_stays(self) -> None:
        site = "usr/lib/python3.13/site-packages"
        files = {
            f"{site}/pip/__init__.py": b"",
            f"{site}/pip/mine.py": b"",
            f"{site}/pip-25.1.dist-info/METADATA": b"",
            "usr/bin/pip3": b"",
            "lib/apk/db/installed": f"P:py3-pip\nF:{site}/pip\nR:__init__.py\nF:usr/bin\nR:pip3\n".encode(),
        }
        assert found(files, target("/usr"))["pip"] == (f"{site}/pip-25.1.dist-info", f"{site}/pip/mine.py")

    def test_what_another_package_manager_installed_stays(self) -> None:
        assert found(slim(more={f"{INFO}/INSTALLER": b"rpm\n"})) == {}
        assert found(slim(more={f"{INFO}/INSTALLER": b"uv"})) != {}


class TestOthers:
    def test_setuptools_goes_with_all_its_names(self) -> None:
        info = f"{SITE}/setuptools-79.0.dist-info"
        names = ["_distutils_hack", "pkg_resources", "setuptools"]
        files = {f"{SITE}/{name}/__init__.py": b"" for name in names}
        files |= {f"{SITE}/distutils-precedence.pth": b"", f"{info}/METADATA": b"", f"{SITE}/other.pth": b""}
        expected = (f"{SITE}/_distutils_hack", f"{SITE}/distutils-precedence.pth", f"{SITE}/pkg_resources")
        assert found(files) == {"setuptools": (*expected, f"{SITE}/setuptools", info)}

    def test_an_egg_info_counts_as_metadata(self) -> None:
        files = {f"{SITE}/wheel/__init__.py": b"", f"{SITE}/wheel-0.45.egg-info": b"", f"{BIN}/wheel": b""}
        assert found(files) == {"wheel": (f"{BIN}/wheel", f"{SITE}/wheel", f"{SITE}/wheel-0.45.egg-info")}

    def test_ensurepip_is_its_directory(self) -> None:
        files = {f"{LIB}/ensurepip/__init__.py": b"", f"{LIB}/ensurepip/_bundled/pip.whl": b"", f"{LIB}/os.py": b""}
        assert found(files) == {"ensurepip": (f"{LIB}/ensurepip",)}

    def test_contents_that_are_read_are_requested(self) -> None:
        paths = ["var/lib/dpkg/info/a.list", "var/lib/dpkg/status.d/a.md5sums", "lib/apk/db/installed"]
        assert all(map(needs_record, [f"{INFO}/RECORD", f"{INFO}/INSTALLER", f"{INFO}/METADATA", *paths]))
        assert not any(map(needs_record, [f"{SITE}/pip/__init__.py", "etc/passwd", f"{INFO}/LICENSE"]))


class TestMembers:
    def base(self, **facts: object) -> Base:
        leftovers = {name: (name,) for name in ("pip", "setuptools", "ensurepip")}
        values: dict[str, object] = {"leftovers": leftovers, **facts}
        read = BaseFacts(python=target(), links={}, directories=frozenset(), occupied=False, **values)  # type: ignore[arg-type]
        image = Image(config=ImageConfig(platform=AMD64))
        return Base(name="base", image=image, digest="", reference=None, facts=read)

    def test_default_is_what_nothing_requires_without_ensurepip(self) -> None:
        assert leftovers_to_prune(None, self.base(), ()) == ("pip", "setuptools")
        assert leftovers_to_prune(None, self.base(), {"setuptools"}) == ("pip",)
        assert leftovers_to_prune(None, self.base(leftovers_needed=frozenset({"setuptools"})), ()) == ("pip",)

    def test_a_list_is_taken_as_it_is(self) -> None:
        assert leftovers_to_prune((), self.base(), ()) == ()
        assert leftovers_to_prune(("ensurepip", "pip", "wheel"), self.base(), {"pip"}) == ("pip", "ensurepip")

    def test_another_distribution_of_the_base_may_need_one(self) -> None:
        def needed(requirement: bytes) -> frozenset[str]:
            metadata = b"Name: supervisor\nRequires-Dist: " + requirement + b"\n\nRequires-Dist: wheel\n"
            return needed_leftovers(listing({f"{SITE}/supervisor-4.dist-info/METADATA": metadata}), target())

        assert needed(b"Setuptools >=40") == {"setuptools"}
        assert needed(b"setuptools; extra == 'testing'") == frozenset()
        assert needed(b"pip-tools") == frozenset()
