from __future__ import annotations

import re

import pytest
from docker import DockerClient

from hatch_docker.os_packages.headers import TO_BUILD
from hatch_docker.os_packages.knowledge import HEADERS, LIBRARIES, package_of
from hatch_docker.os_packages.libraries import TO_RUN


@pytest.mark.parametrize(
    ("name", "apk", "apt"),
    [
        ("ffi.h", "libffi-dev", "libffi-dev"),
        ("openssl/ssl.h", "openssl-dev", "libssl-dev"),
        ("libxml/xmlversion.h", "libxml2-dev", "libxml2-dev"),
        ("X11/extensions/Xrandr.h", "libxext-dev", "libxext-dev"),
        ("X11/Xlib.h", "libx11-dev", "libx11-dev"),
        ("pg_config", "libpq-dev", "libpq-dev"),
        ("libxml-2.0", "libxml2-dev", "libxml2-dev"),
        ("-lpq", "libpq-dev", "libpq-dev"),
        ("jpeglib.h", "libjpeg-turbo-dev", "libjpeg62-turbo-dev"),
        ("linux/if.h", "linux-headers", "linux-libc-dev"),
        ("cc1plus", "build-base", "build-essential"),
        ("libpq.so.5", "libpq", "libpq5"),
        ("libGL.so.1", "mesa-gl", "libgl1"),
        ("libstdc++.so.6", "libstdc++", "libstdc++6"),
        # Only one distribution has it under this name.
        ("ibase.h", "", "firebird-dev"),
        ("libjpeg.so.62", "", "libjpeg62-turbo"),
        # The version in a soname matters.
        ("libpq.so.4", "", ""),
        ("libffi.so.7", "", ""),
        ("nobody-knows.h", "", ""),
        ("openssl-nonsense/ssl.h", "", ""),
        ("", "", ""),
        ("/", "", ""),
        ("/ffi.h", "", ""),
    ],
)
def test_package_of(name: str, apk: str, apt: str) -> None:
    assert (package_of(name, "apk"), package_of(name, "apt")) == (apk, apt)
    assert package_of(name, "") == package_of(name, "dnf") == ""


def test_tables_have_no_duplicates() -> None:
    assert len(HEADERS) == sum(len(names.split()) for _, _, names in TO_BUILD)
    assert len(LIBRARIES) == len(TO_RUN)


def test_names_are_valid() -> None:
    for packages in (*HEADERS.values(), *LIBRARIES.values()):
        assert packages.apk or packages.apt
        assert all(re.fullmatch(r"[a-z0-9][a-z0-9+._-]+|", name) for name in packages)


@pytest.mark.engine
@pytest.mark.base
@pytest.mark.network
def test_debian_has_every_package(client: DockerClient) -> None:
    names = sorted({packages.apt for packages in (*HEADERS.values(), *LIBRARIES.values()) if packages.apt})
    script = f"apt-get update -qq >&2 && apt-cache show --no-all-versions {' '.join(names)}"
    shown = client.containers.run(
        "python:3.13-slim", ["sh", "-c", f"{script} | sed -n 's/^Package: //p'"], remove=True, stderr=False
    )
    assert isinstance(shown, bytes)
    assert set(names) - set(shown.decode().split()) == set()
