from __future__ import annotations

import platform
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import default_environment
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from hatch_docker.base.target import MACHINES, Libc, TargetPython
from hatch_docker.oci.spec import Platform

GLIBC, MUSL = Libc(kind="glibc", version=(2, 41)), Libc(kind="musl", version=(1, 2))


def target(
    version: str = "3.13.5", architecture: str = "amd64", libc: Libc = GLIBC, *, free_threaded: bool = False
) -> TargetPython:
    return TargetPython(
        version=version,
        interpreter="/usr/local/bin/python3",
        platform=Platform(architecture=architecture),
        libc=libc,
        free_threaded=free_threaded,
    )


def supports(python: TargetPython, wheel: str) -> bool:
    return not parse_wheel_filename(f"a-1-{wheel}.whl")[3].isdisjoint(python.tags)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc" or sys.implementation.name != "cpython",
    reason="the oracle is packaging's view of a glibc host",
)
class TestHostAsTarget:
    """The target of the Python that runs the tests is equal to what packaging reads from the host."""

    @staticmethod
    def host() -> TargetPython:
        major, minor = platform.libc_ver()[1].split(".")[:2]
        return target(
            platform.python_version(),
            Platform.parse(platform.machine()).architecture,
            Libc(kind="glibc", version=(int(major), int(minor))),
            free_threaded=hasattr(sys, "_is_gil_enabled") and "t" in sys.abiflags,
        )

    def test_same_tags_in_the_same_order(self) -> None:
        tags, expected = ([tag for tag in tags if "-linux_" not in str(tag)] for tags in (self.host().tags, sys_tags()))
        assert tags == expected
        # packaging 26.3 moved the tags of `linux_*` platforms.
        assert set(self.host().tags) == set(sys_tags())

    def test_same_markers(self) -> None:
        expected = dict(default_environment())
        assert dict(self.host().environment) == expected | {"platform_release": "", "platform_version": ""}


@pytest.mark.parametrize(
    ("wheel", "python", "supported"),
    [
        ("py3-none-any", target(), True),
        ("cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64", target(), True),
        ("cp313-cp313-manylinux2014_x86_64", target(), True),
        ("cp313-cp313-manylinux1_x86_64", target(), True),
        ("cp313-cp313-manylinux_2_41_x86_64", target(), True),
        ("cp313-cp313-manylinux_2_42_x86_64", target(), False),
        ("cp313-cp313-linux_x86_64", target(), True),
        ("cp39-abi3-manylinux_2_28_x86_64", target(), True),
        ("cp314-abi3-manylinux_2_28_x86_64", target(), False),
        ("cp312-cp312-manylinux_2_28_x86_64", target(), False),
        ("cp313-cp313-manylinux_2_28_aarch64", target(), False),
        ("cp313-cp313-manylinux_2_28_aarch64", target(architecture="arm64"), True),
        ("cp313-cp313-musllinux_1_2_x86_64", target(), False),
        ("cp313-cp313-musllinux_1_2_x86_64", target(libc=MUSL), True),
        ("cp313-cp313-musllinux_1_0_x86_64", target(libc=MUSL), True),
        ("cp313-cp313-musllinux_1_3_x86_64", target(libc=MUSL), False),
        ("cp313-cp313-manylinux_2_17_x86_64", target(libc=MUSL), False),
        ("cp314-cp314t-manylinux_2_28_x86_64", target("3.14.0", free_threaded=True), True),
        ("cp314-cp314-manylinux_2_28_x86_64", target("3.14.0", free_threaded=True), False),
        ("cp314-cp314t-manylinux_2_28_x86_64", target("3.14.0"), False),
        ("cp39-abi3-manylinux_2_28_x86_64", target("3.14.0", free_threaded=True), False),
        ("cp313-cp313-macosx_11_0_arm64", target(architecture="arm64"), False),
        ("cp313-cp313-win_amd64", target(), False),
    ],
)
def test_supported_wheels(wheel: str, python: TargetPython, supported: bool) -> None:
    assert supports(python, wheel) is supported


def test_prefers_wheels_for_the_newest_libc() -> None:
    tags = target().tags
    order = [
        next(position for position, tag in enumerate(tags) if tag.platform == name and tag.abi == "cp313")
        for name in ("linux_x86_64", "manylinux_2_41_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
    ]
    assert order == sorted(order)


@given(
    st.integers(10, 14),
    st.sampled_from([*MACHINES]),
    st.builds(Libc, kind=st.just("glibc"), version=st.tuples(st.just(2), st.integers(17, 50)))
    | st.builds(Libc, kind=st.just("musl"), version=st.tuples(st.just(1), st.integers(0, 9))),
    st.booleans(),
)
def test_tags_and_markers_are_complete_and_independent_of_the_host(
    minor: int, architecture: str, libc: Libc, free_threaded: bool
) -> None:
    python = target(f"3.{minor}.1", architecture, libc, free_threaded=free_threaded)
    assert len(python.tags) == len(set(python.tags))
    assert all(tag.platform == "any" or tag.platform.endswith(f"_{MACHINES[architecture]}") for tag in python.tags)
    assert set(python.environment) >= set(default_environment())
    assert python.environment["python_version"] == python.minor == f"3.{minor}"
    assert python.environment["platform_machine"] == MACHINES[architecture]
    assert supports(python, "py2.py3-none-any")


def test_names() -> None:
    assert str(target(architecture="arm64", libc=MUSL)) == "CPython 3.13.5 on linux/arm64 (musl 1.2)"
    assert target().lib_name == "python3.13"
    assert target("3.14.0", free_threaded=True).lib_name == "python3.14t"
    assert target(architecture="mips64").machine == "mips64"
