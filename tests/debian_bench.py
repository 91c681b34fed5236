"""A signed Debian archive on loopback, with tiny packages for a base with Python, and for images."""

from __future__ import annotations

import functools
import hashlib
import lzma
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from builds import Bench, Outcome, check_blobs, check_clean, files_below
from debian_maker import DebianArchive, clearsigned, keyring, release_text, written
from dpkg_maker import Item, directory, file, link, make_deb
from elf_maker import make_library

from hatch_docker.support.dataclasses import dataclass, field, replace

ARCHITECTURES = ("amd64", "arm64")
CPUS = {"amd64": "x86_64", "arm64": "aarch64"}
PYTHON = "3.13.5"
_GLIBC = b"GNU C Library (Debian GLIBC 2.41-12) stable release version 2.41.\n"
# The additional packages of `debian:…-debug`, and the programs of a toolchain.
_DEBUG = ("bash", "coreutils", "findutils", "grep", "hostname", "less", "procps", "sed")
_TOOLCHAIN = ("diffutils", "file", "g++", "gcc", "gzip", "make", "patch", "perl-base", "pkgconf", "tar", "xz-utils")


def library(name: str, *needed: str, cpu: str = "x86_64", more: bytes = b"") -> Item:
    """A shared library with soname `name`, with the bytes `more` appended."""
    return file(make_library(needed, soname=name, machine=cpu) + more, mode=0o755)


def program(*needed: str, cpu: str = "x86_64", more: bytes = b"") -> Item:
    """A program, with the bytes `more` appended."""
    return file(make_library(needed or ("libc.so.6",), machine=cpu) + more, mode=0o755)


@dataclass(frozen=True, kw_only=True)
class Deb:
    """A package in the archive: `path` of its file on the mirror, `stanza` is its paragraph in Packages."""

    name: str
    version: str
    architecture: str
    suite: str
    path: str
    stanza: str


@dataclass(kw_only=True)
class FakeDebian(DebianArchive):
    """The archive; `folder` is for temporary files. Packages are visible after `release`."""

    folder: Path
    debs: list[Deb] = field(default_factory=list)

    def copy(self) -> FakeDebian:
        """An independent copy without recorded requests."""
        return replace(
            self,
            files=dict(self.files),
            statuses={},
            broken={},
            requests=[],
            headers=[],
            lock=threading.Lock(),
            gate=threading.Event(),
            debs=list(self.debs),
        )

    def settings(self, *, login: str = "", dated: bool = False) -> dict[str, str]:
        """Environment variables that name this archive and its key; `dated` if it has snapshots."""
        path = self.folder / "keyring.asc"
        if not path.exists():
            path.write_bytes(keyring(self.key)[0])
        mirror = f"http://{login}{self.host}/{'{date}/' if dated else ''}debian"
        return {"HATCH_DOCKER_DEBIAN_MIRROR": mirror, "HATCH_DOCKER_DEBIAN_KEYRING": str(path)}

    def put(
        self,
        name: str,
        items: Mapping[str, Item],
        *,
        version: str = "1.0-1",
        suite: str = "trixie",
        architecture: str = "amd64",
        scripts: Mapping[str, str] | None = None,
        conffiles: Iterable[str] = (),
        **fields: str,
    ) -> Deb:
        """Add or replace a package; `fields` are those of its control file.

        `Depends="libc6 (>= 2.36)"`; `_` in their names stands for a hyphen.
        """
        made = make_deb(
            self.folder,
            name,
            items,
            version=version,
            scripts=scripts,
            conffiles=conffiles,
            **{"Architecture": architecture, **fields},
        )
        data = made.path.read_bytes()
        updates = suite.endswith("-security")
        filename = f"pool/{'updates/' if updates else ''}main/{name[0]}/{name}/{name}_{version}_{architecture}.deb"
        facts = {"Filename": filename, **_facts(data)}
        stanza = made.files["control"].decode() + "".join(f"{key}: {value}\n" for key, value in facts.items())
        deb = Deb(
            name=name,
            version=version,
            architecture=architecture,
            suite=suite,
            path=f"{_root(suite)}/{filename}",
            stanza=stanza,
        )
        self.files[deb.path] = data
        self.debs = [each for each in self.debs if _place(each) != _place(deb)] + [deb]
        return deb

    def alter(self, deb: Deb) -> None:
        """Change one byte of a package's file."""
        data = self.files[deb.path]
        self.files[deb.path] = data[:-1] + bytes([data[-1] ^ 1])

    def replace(self, deb: Deb, data: bytes) -> None:
        """Replace a package's file by `data`, also in its paragraph."""
        self.files[deb.path] = data
        head = deb.stanza[: deb.stanza.index("Filename: ")]
        facts = {"Filename": deb.path.partition("/")[2], **_facts(data)}
        stanza = head + "".join(f"{key}: {value}\n" for key, value in facts.items())
        self.debs[self.debs.index(deb)] = replace(deb, stanza=stanza)

    def remove(self, name: str) -> None:
        """Remove the packages of that name."""
        removed = [each for each in self.debs if each.name == name]
        self.debs = [each for each in self.debs if each.name != name]
        for each in removed:
            del self.files[each.path]

    def deb(self, name: str, architecture: str = "amd64") -> Deb:
        """The package of that name."""
        (found,) = (each for each in self.debs if (each.name, each.architecture) == (name, architecture))
        return found

    def release(self, *suites: str, architectures: Sequence[str] = ARCHITECTURES, **fields: str) -> None:
        """Publish suites, by default trixie with its updates; `fields` are those of the Release files."""
        for suite in suites or ("trixie", "trixie-updates", "trixie-security"):
            listed: dict[str, bytes] = {}
            for each in architectures:
                debs = [deb for deb in self.debs if (deb.suite, deb.architecture) == (suite, each)]
                text = "\n".join(deb.stanza for deb in debs).encode()
                listed |= {f"main/binary-{each}/Packages": text, f"main/binary-{each}/Packages.xz": lzma.compress(text)}
            folder = f"{_root(suite)}/dists/{suite}"
            self.files |= {f"{folder}/{path}": data for path, data in listed.items()}
            usual = {"Suite": "", "Codename": suite, "Acquire-By-Hash": "no", "Architectures": " ".join(architectures)}
            self.files[f"{folder}/InRelease"] = clearsigned(release_text(listed, **{**usual, **fields}), self.key)

    def snapshot(self, day: datetime) -> None:
        """Publish trixie as the snapshot of midnight of a day too."""
        before = self.files
        self.files = {path: data for path, data in before.items() if "/dists/" not in path}
        self.release(Date=written(day), Valid_Until="")
        stamp = f"{day:%Y%m%d}T000000Z"
        self.files = before | {f"{stamp}/{path}": data for path, data in self.files.items()}

    def base(self, python: str = PYTHON, *, architecture: str = "amd64", debug: bool = False) -> None:
        """Add the packages of a base; `python` is its full version."""
        cpu = CPUS[architecture]
        minor = python.rpartition(".")[0]
        lib, stdlib = f"usr/lib/{cpu}-linux-gnu", f"usr/lib/python{minor}"
        conf = {"etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n"}
        module = f"{stdlib}/lib-dynload/_json.cpython-{minor.replace('.', '')}-{cpu}-linux-gnu.so"
        release = f'PRETTY_NAME="Debian"\nID=debian\nVERSION_CODENAME=trixie\nFOR={architecture}\n'.encode()
        packages: dict[str, tuple[dict[str, Item], dict[str, str]]] = {
            "base-files": ({"usr/lib/os-release": file(release), "var/log": directory()}, {"Essential": "yes"}),
            "libc6": (
                {
                    f"{lib}/libc.so.6": library("libc.so.6", cpu=cpu, more=_GLIBC),
                    f"etc/ld.so.conf.d/{cpu}-linux-gnu.conf": file(f"/lib/{cpu}-linux-gnu\n".encode()),
                },
                {"Depends": "libgcc-s1"},
            ),
            "libgcc-s1": ({f"{lib}/libgcc_s.so.1": library("libgcc_s.so.1", "libc.so.6", cpu=cpu)}, {}),
            "libstdc++6": (
                {
                    f"{lib}/libstdc++.so.6.0.33": library("libstdc++.so.6", "libc.so.6", "libgcc_s.so.1", cpu=cpu),
                    f"{lib}/libstdc++.so.6": link("libstdc++.so.6.0.33"),
                },
                {"Depends": "libc6 (>= 2.41), libgcc-s1"},
            ),
            "libc-bin": ({path: file(text.encode()) for path, text in conf.items()}, {"Depends": "libc6 (>> 2.41)"}),
            "ca-certificates": (
                {"usr/share/ca-certificates/mozilla/A.crt": file(b"-----BEGIN CERTIFICATE-----\n")},
                {"Depends": "openssl (>= 1.1.1), debconf (>= 0.5) | debconf-2.0"},
            ),
            "ncurses-base": ({"usr/share/terminfo/x/xterm": file(b"")}, {}),
            "netbase": ({"etc/services": file(b"http 80/tcp\n"), "etc/protocols": file(b"tcp 6 TCP\n")}, {}),
            "tzdata": ({"usr/share/zoneinfo/Etc/UTC": file(b"TZif2")}, {"Depends": "debconf (>= 0.5) | debconf-2.0"}),
            f"libpython{minor}-minimal": ({f"{stdlib}/os.py": file(b"")}, {}),
            f"python{minor}-minimal": (
                {f"usr/bin/python{minor}": program(cpu=cpu, more=b"\0" + python.encode() + b"\0")},
                {"Depends": f"libpython{minor}-minimal (= 1.0-1), libc6 (>= 2.38)"},
            ),
            f"libpython{minor}-stdlib": (
                {module: program(cpu=cpu)},
                {"Depends": f"libpython{minor}-minimal (= 1.0-1), netbase"},
            ),
        }
        for name, (items, fields) in packages.items():
            version = "2.41-12" if name == "libc6" else "1.0-1"
            self.put(name, items, version=version, architecture=architecture, **fields)  # type: ignore[arg-type]
        if debug:
            self._programs(_DEBUG, architecture)
            self.put("dash", {"usr/bin/dash": program(cpu=cpu), "usr/bin/sh": link("dash")}, architecture=architecture)
            self.put("mawk", {"usr/bin/mawk": program(cpu=cpu)}, architecture=architecture, Provides="awk")

    def toolchain(self, python: str = PYTHON, *, architecture: str = "amd64") -> None:
        """Add the packages of a toolchain that `base(debug=True)` lacks."""
        self._programs(_TOOLCHAIN, architecture)
        self.put("libc6-dev", {"usr/include/stdio.h": file(b"")}, architecture=architecture)
        minor = python.rpartition(".")[0]
        items = {f"usr/include/python{minor}/Python.h": file(b"")}
        self.put(f"python{minor}-dev", items, architecture=architecture)

    def _programs(self, names: Iterable[str], architecture: str) -> None:
        for name in names:
            items = {f"usr/bin/{name}": program(cpu=CPUS[architecture])}
            self.put(name, items, architecture=architecture, Depends="libc6 (>= 2.34)")

    def more(self, architecture: str = "amd64") -> None:
        """Add packages for `runtime-packages`: some work, some do not.

        `libpq5` works and brings `libldap2`; `libpq5-tools` brings the two. `daemon` needs its script, `halved` lacks a
        library, `adrift` depends on a missing package through `buoy`.
        """
        cpu = CPUS[architecture]
        lib = f"usr/lib/{cpu}-linux-gnu"
        self.put(
            "libldap2",
            {f"{lib}/libldap.so.2.0": library("libldap.so.2", "libc.so.6", cpu=cpu)},
            architecture=architecture,
        )
        self.put(
            "libpq5",
            {
                f"{lib}/libpq.so.5.17": library("libpq.so.5", "libldap.so.2", "libc.so.6", cpu=cpu),
                "usr/share/doc/libpq5/copyright": file(b"free\n"),
            },
            architecture=architecture,
            version="17.6-1",
            Depends="libc6 (>= 2.38), libldap2 (>= 1.0)",
            Source="postgresql-17",
        )
        self.put(
            "libpq5-tools",
            {"usr/bin/pqtool": program("libpq.so.5", "libc.so.6", cpu=cpu)},
            architecture=architecture,
            Depends="libpq5",
        )
        script = "#!/bin/sh\nset -e\nmake-the-database --now\n"
        self.put(
            "daemon",
            {"usr/sbin/daemon": program(cpu=cpu)},
            architecture=architecture,
            scripts={"postinst": script},
        )
        self.put("halved", {"usr/bin/halved": program("libnowhere.so.9", cpu=cpu)}, architecture=architecture)
        self.put("adrift", {}, architecture=architecture, Depends="buoy")
        self.put("buoy", {}, architecture=architecture, Depends="anchor (>= 2)")


def fake_debian(folder: Path, *, architectures: Sequence[str] = ("amd64",), debug: bool = False) -> FakeDebian:
    """An archive with a base and more packages, published; a `with` block serves it.

    `debug` adds the packages of debug bases and toolchains.
    """
    archive = _archive(tuple(architectures), debug).copy()
    archive.folder = folder
    return archive


@functools.cache
def _archive(architectures: Sequence[str], debug: bool) -> FakeDebian:
    with tempfile.TemporaryDirectory() as folder:
        archive = FakeDebian(folder=Path(folder))
        for each in architectures:
            archive.base(architecture=each, debug=debug)
            archive.more(each)
            if debug:
                archive.toolchain(architecture=each)
        archive.release()
    return archive


def _facts(data: bytes) -> dict[str, str]:
    return {"Size": str(len(data)), "SHA256": hashlib.sha256(data).hexdigest()}


def _root(suite: str) -> str:
    return "debian-security" if suite.endswith("-security") else "debian"


def _place(deb: Deb) -> tuple[str, str, str]:
    return deb.name, deb.suite, deb.architecture


@dataclass(frozen=True)
class DebianBench(Bench):
    """A bench whose projects use the archive's base, without a registry and an engine."""

    archive: FakeDebian

    def project(self, folder: str = "project", *, base: str = "debian", docker: str = "", **options: Any) -> Path:
        """Make a project; `base` is the value of the key."""
        return super().project(folder, base="", docker=f'base = "{base}"\n{docker}', **options)

    def build(self, project: Path, *arguments: str, target: str = "docker:archive", **env: str) -> Outcome:
        """Build a project; empty variables are not set."""
        nowhere = {"HATCH_DOCKER_REGISTRY_MIRRORS": "docker.io=127.0.0.1:1"}
        variables = {**nowhere, **self.archive.settings(), **env}
        there = {name: value for name, value in variables.items() if value}
        return super().build(project, *arguments, target=target, **there)

    def refused(self, project: Path, *expected: str, **env: str) -> str:
        """The message of a build that must fail: it contains all of `expected`, and no partial result is kept."""
        before = files_below(project / "dist")
        message = check_clean(self.build(project, **env))
        assert files_below(project / "dist") == before
        check_blobs(self.cache)
        missing = [each for each in expected if each not in message]
        assert not missing, message
        return message
