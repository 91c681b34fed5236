"""OS packages by an engine: layers of a container's changes, and real installations."""

from __future__ import annotations

import io
import os
import random
import re
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from apk_repository import ALPINE, Apk, derived, installable
from conftest import mirrors
from containers import output, remove
from docker import DockerClient
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from podman import podman

from hatch_docker.engine.client import Engine
from hatch_docker.engine.container import Change
from hatch_docker.engine.limits import Limits
from hatch_docker.errors import EngineError, PackageError
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.image import Image, decompressed, validate
from hatch_docker.oci.layer import Entry, write_layer
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import pull, registry_source
from hatch_docker.oci.spec import Platform
from hatch_docker.os_packages.difference import Difference, difference
from hatch_docker.os_packages.install import Installed, Installer, InstallOptions, install
from hatch_docker.os_packages.managers import MANAGERS, arrived, hint
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress

APT, APK = MANAGERS
PLATFORM = Platform(architecture="amd64")
CAPABLE = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}


@dataclass(frozen=True)
class Member:
    """A member of a container's tar."""

    name: str
    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    link: str = ""
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    headers: tuple[tuple[str, str], ...] = ()


def directory(name: str, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> Member:
    return Member(name, tarfile.DIRTYPE, mode=mode, owner=owner)


def tar_of(members: Sequence[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.linkname, info.mode, info.size = member.kind, member.link, member.mode, len(member.data)
            (info.uid, info.gid), info.pax_headers = member.owner, dict(member.headers)
            info.mtime = random.randrange(2**31)
            made.addfile(info, io.BytesIO(member.data))
    return buffer.getvalue()


def found(members: Sequence[Member] | bytes, changes: Mapping[str, str], **options: Any) -> tuple[Difference, bytes]:
    """The difference, and the layer as a plain tar."""
    data = members if isinstance(members, bytes) else tar_of(members)
    reported: list[Any] = [Change(path=path, kind=kind) for path, kind in changes.items()]  # type: ignore[arg-type]
    chunks = [data[start : start + 700] for start in range(0, len(data), 700)]
    spool, out = io.BytesIO(), io.BytesIO()
    result = difference(reported, lambda: iter(chunks), spool, **options)
    written = write_layer(result.entries, out)
    return result, b"".join(decompressed(iter([out.getvalue()]), written.descriptor.media_type))


def layer(members: Sequence[Member], changes: Mapping[str, str], **options: Any) -> dict[str, Any]:
    """The members of the layer: the content of files, the target of links, the mode and owner of directories."""
    _, plain = found(members, changes, **options)
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        return {
            member.name: (member.mode, member.uid, member.gid)
            if member.isdir()
            else f"-> {member.linkname}"
            if member.issym()
            else tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar
        }


class TestDifference:
    def test_new_and_changed_files_with_mode_and_owner(self) -> None:
        members = [
            directory("etc"),
            Member("etc/old", data=b"old"),
            Member("etc/new", data=b"new" * 500, mode=0o4711, owner=(7, 8)),
            Member("etc/changed", data=b"changed"),
            Member("etc/link", tarfile.SYMTYPE, link="../usr/x", mode=0o777),
            directory("etc/made", 0o2750, (5, 6)),
        ]
        changes = {"etc": "modified", "etc/changed": "modified"}
        result, _ = found(members, changes | dict.fromkeys(("etc/new", "etc/link", "etc/made"), "added"))
        assert {(entry.path, entry.mode, entry.uid, entry.gid) for entry in result.entries} == {
            ("etc", 0o755, 0, 0),
            ("etc/new", 0o4711, 7, 8),
            ("etc/changed", 0o644, 0, 0),
            ("etc/link", 0o777, 0, 0),
            ("etc/made", 0o2750, 5, 6),
        }

    def test_parent_directories_keep_their_mode_and_owner(self) -> None:
        members = [directory("var", 0o711), directory("var/mail", 0o2775, (0, 8)), Member("var/mail/x", data=b"x")]
        assert layer(members, {"var/mail/x": "added"}) == {
            "var": (0o711, 0, 0),
            "var/mail": (0o2775, 0, 8),
            "var/mail/x": b"x",
        }

    def test_removes_a_directory_with_one_whiteout(self) -> None:
        members = [directory("etc", 0o711), directory("opt")]
        changes = dict.fromkeys(("etc/a", "opt/lib", "opt/lib/x", "var/cache/apt/archives/lock"), "removed")
        assert layer(members, changes) == {
            "etc": (0o711, 0, 0),
            "etc/.wh.a": b"",
            "opt": (0o755, 0, 0),
            "opt/.wh.lib": b"",
        }

    def test_a_link_replaces_a_directory_with_its_files(self) -> None:
        members = [directory("usr"), Member("usr/lib64", tarfile.SYMTYPE, link="lib")]
        changes = {"usr": "modified", "usr/lib64": "modified", "usr/lib64/x": "removed"}
        assert layer(members, changes) == {"usr": (0o755, 0, 0), "usr/lib64": "-> lib"}

    @pytest.mark.parametrize(
        "path",
        [
            "dev/null",
            "tmp/x",
            "var/tmp/x",
            "run/x.pid",
            "var/log/dpkg.log",
            "var/cache/debconf/config.dat",
            "var/cache/ldconfig/aux-cache",
            "var/cache/fontconfig/x",
            "var/lib/apt/lists/x_InRelease",
            "var/lib/dpkg/status-old",
            "var/lib/dpkg/lock-frontend",
            "var/lib/dpkg/triggers/Lock",
            "lib/apk/db/lock",
            "usr/lib/apk/db/lock",
            "etc/passwd-",
            "etc/.pwd.lock",
            "etc/hostname",
            "etc/hosts",
            "etc/resolv.conf",
            "etc/machine-id",
            "root/.cache/pip/x",
            "usr/lib/python3/dist-packages/__pycache__/a.cpython-313.pyc",
            ".dockerenv",
        ],
    )
    def test_leaves_out_files_that_depend_on_the_time_or_the_container(self, path: str) -> None:
        assert layer([Member(path, data=b"x")], {path: "added"}) == {}
        assert layer([], {path: "removed"}) == {}

    @pytest.mark.parametrize(
        "path",
        [
            "etc/ld.so.cache",
            "etc/hosts.allow",
            "etc/passwd",
            "var/lib/dpkg/status",
            "var/lib/dpkg/info/libx-old.list",
            "lib/apk/db/installed",
            "usr/share/tmp/x",
            "device",
            "runtime",
            "opt/app/__pycache__.txt",
        ],
    )
    def test_keeps_similar_paths(self, path: str) -> None:
        assert layer([Member(path, data=b"x")], {path: "added"})[path] == b"x"

    def test_keeps_new_directories_for_logs_and_those_of_the_base(self) -> None:
        members = [
            *(directory("var"), directory("var/log", 0o2755, (0, 4)), directory("var/log/x", 0o750, (9, 9))),
            *(directory("run"), directory("run/x"), Member("run/x/pid", data=b"1")),
            *(directory("tmp", 0o1777), directory("tmp/x")),
        ]
        changes = {"var": "modified", "var/log": "modified", "run": "modified", "tmp": "modified"}
        changes |= dict.fromkeys(("var/log/x", "run/x", "run/x/pid", "tmp/x"), "added")
        assert layer(members, changes) == {
            "run": (0o755, 0, 0),
            "run/x": (0o755, 0, 0),
            "var": (0o755, 0, 0),
            "var/log": (0o2755, 0, 4),
            "var/log/x": (0o750, 9, 9),
        }

    def test_keeps_bytecode_of_packages(self) -> None:
        path = "usr/lib/python3.13/__pycache__/a.cpython-313.pyc"
        members = [directory("usr/lib/python3.13/__pycache__", 0o700), Member(path, data=b"x")]
        changes = {"usr/lib/python3.13/__pycache__": "added", path: "added"}
        assert layer(members, changes) == {}
        kept = layer(members, changes, owned={path})
        assert kept[path] == b"x"
        assert kept["usr/lib/python3.13/__pycache__"] == (0o700, 0, 0)

    def test_hard_links_become_files(self) -> None:
        members = [
            Member("bin/a", data=b"a" * 2000, mode=0o755, owner=(1, 2)),
            Member("bin/b", tarfile.LNKTYPE, link="bin/a"),
        ]
        both, _ = found(members, {"bin/a": "added", "bin/b": "added"})
        assert {(entry.path, entry.size, entry.mode, entry.uid) for entry in both.entries} == {
            ("bin/a", 2000, 0o755, 1),
            ("bin/b", 2000, 0o755, 1),
        }
        assert layer(members, {"bin/b": "added"})["bin/b"] == b"a" * 2000
        assert layer([*members, Member("tmp/x", data=b"x"), Member("d", tarfile.LNKTYPE, link="tmp/x")], {"d": "added"})

    def test_leaves_out_devices_and_pipes(self) -> None:
        members = [Member("a", tarfile.CHRTYPE), Member("b", tarfile.FIFOTYPE), Member("c", tarfile.BLKTYPE)]
        assert layer(members, dict.fromkeys("abc", "added")) == {}

    def test_reports_files_with_capabilities(self) -> None:
        headers = tuple(CAPABLE.items())
        members = [Member("bin/ping", data=b"x", headers=headers), Member("bin/other", data=b"x", headers=headers)]
        assert found(members, {"bin/ping": "added"})[0].capable == ("bin/ping",)

    def test_rewrites_small_files(self) -> None:
        members = [Member("etc/shadow", data=b"a"), Member("etc/other", data=b"a")]
        rewritten = layer(
            members, dict.fromkeys(("etc/shadow", "etc/other"), "added"), rewrite={"etc/shadow": bytes.upper}
        )
        assert (rewritten["etc/shadow"], rewritten["etc/other"]) == (b"A", b"a")

    @pytest.mark.parametrize("name", ["/etc/passwd", "../x", "etc/../../x", "a//b", "./../x"])
    def test_rejects_invalid_paths(self, name: str) -> None:
        with pytest.raises(EngineError, match="tar of the container's files is invalid"):
            layer([Member(name, data=b"x")], {"etc/passwd": "added"})

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"not a tar" * 100,
            tar_of([Member("a", data=b"x" * 3000)])[:2048],
            tar_of([Member("a", data=b"x")])[:1024],
            tar_of([Member("a", data=b"x"), Member("a", data=b"y")]),
            tar_of([Member("a", tarfile.LNKTYPE, link="b")]),
            tar_of([Member("a", tarfile.LNKTYPE, link="a")]),
            tar_of([Member("a", tarfile.LNKTYPE, link="/etc/passwd")]),
        ],
        ids=["nothing", "no tar", "cut in a file", "cut after one", "twice", "dangling", "circle", "absolute"],
    )
    def test_rejects_invalid_tars(self, data: bytes) -> None:
        with pytest.raises(EngineError, match="tar of the container's files is invalid"):
            found(data, {"a": "added"})

    def test_uses_bounded_memory(self, tmp_path: Path) -> None:
        import tracemalloc

        size = 64 << 20
        header = tarfile.TarInfo("big")
        header.size = size

        def export() -> Iterator[bytes]:
            yield header.tobuf()
            for _ in range(size >> 16):
                yield bytes(1 << 16)
            yield bytes(1024)

        with (tmp_path / "spool").open("w+b") as spool:
            tracemalloc.start()
            try:
                result = difference([Change(path="big", kind="added")], export, spool)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert [entry.size for entry in result.entries] == [size]
        assert peak < 8 << 20


NAMES = st.sampled_from(["a", "b", "etc", "tmp", "run", "lib"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
KINDS = st.sampled_from(["added", "modified", "removed"])


@settings(max_examples=many(60))
@given(
    files=st.dictionaries(PATHS, st.tuples(st.binary(max_size=900), st.integers(0, 0o7777), KINDS), max_size=8),
    gone=st.sets(PATHS, max_size=3),
    data=st.data(),
)
def test_layer_does_not_depend_on_the_order_of_tar_and_changes(
    files: dict[str, tuple[bytes, int, str]], gone: set[str], data: st.DataObject
) -> None:
    parents = {path.rsplit("/", depth)[0] for path in files for depth in (1, 2) if path.count("/") >= depth}
    members = [directory(path, 0o711) for path in sorted(parents)]
    members += [Member(path, data=each, mode=mode) for path, (each, mode, _) in files.items() if path not in parents]
    changes = dict.fromkeys(gone, "removed") | {path: kind for path, (_, _, kind) in files.items()}
    shuffled = data.draw(st.permutations(members))
    reordered = dict(data.draw(st.permutations(list(changes.items()))))
    assert found(members, changes)[1] == found(shuffled, reordered)[1]


STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12
Description: GNU C Library
 Package: not a field

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.41-12

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: half
Status: install ok half-configured
Version: 2
"""
INSTALLED = """\
P:.python-rundeps
V:20260101

C:Q1x=
P:musl
V:1.2.5-r0
F:usr/lib/python3.13/__pycache__
R:a.pyc
a:0:0:755
F:usr/lib
R:a.py
"""


class TestManagers:
    def test_dpkg_status(self) -> None:
        assert APT.installed(STATUS) == {"libc6": "2.41-12", "libc6:i386": "2.41-12"}
        assert APT.installed("") == {}

    def test_apk_database(self) -> None:
        assert APK.installed(INSTALLED) == {"musl": "1.2.5-r0"}
        assert APK.owned(INSTALLED) == {"usr/lib/python3.13/__pycache__/a.pyc"}

    def test_arrived(self) -> None:
        assert arrived({"a": "1", "b": "1"}, {"b": "2", "a": "1", "c": "3"}) == ("b 2", "c 3")

    @pytest.mark.parametrize(
        ("manager", "output", "expected"),
        [
            (APT, "E: Unable to locate package libpq-devv\n", "'libpq-devv'; similar are libpq-dev"),
            (APT, "E: Package 'libpq' has no installation candidate\n", "no package 'libpq'"),
            (APT, "E: Version '9' for 'libpq5' was not found\n", "not have this version of libpq5"),
            (
                APT,
                "Err:1 http://x\n  Temporary failure resolving 'x'\nE: Unable to locate package x\n",
                "is unreachable",
            ),
            (APT, "E: You don't have enough free space in /var/cache/apt/archives/.\n", "disk is full"),
            (APK, "ERROR: x-1-r0: No space left on device\n", "disk is full"),
            (APK, "ERROR: unable to select packages:\n  libpq-devv (no such package):\n", "libpq-dev"),
            (APK, "  libpq5-17-r0:\n    breaks: world[libpq5=9]\n", "not have this version of libpq5"),
            (
                APK,
                "WARNING: fetching https://x/APKINDEX.tar.gz: DNS: name does not exist\n  a (no such package):\n",
                "is unreachable",
            ),
            (APK, "ERROR: Unable to lock database: Permission denied\n", "lack permission"),
            (APT, "dpkg: error processing package x (--configure):\n", ""),
        ],
    )
    def test_hints(self, manager: Any, output: str, expected: str) -> None:
        advice = hint(manager, output, lambda: ["libpq5", "libpq-dev", "zlib"])
        assert expected in advice
        assert bool(advice) == bool(expected)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-y",
        "--allow-untrusted",
        "libc6-",
        "lib*",
        "a b",
        "./x.apk",
        "x.apk",
        "so:libpq.so.5",
        "a/stable",
        "a=",
        "!a",
    ],
)
def test_rejects_invalid_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="not the name of an OS package"):
        packages(Image(config=ImageConfig(platform=PLATFORM)), ["libpq5", name], tmp_path, engine=no_engine)


def test_names_the_purpose_if_no_engine_answers(tmp_path: Path) -> None:
    def nowhere() -> Engine:
        return Engine.connect({"DOCKER_HOST": "tcp://127.0.0.1:1"})

    with pytest.raises(EngineError, match=r"no container engine answers: .*; it is needed to install libpq5 in base:1"):
        packages(Image(config=ImageConfig(platform=PLATFORM)), ["libpq5"], tmp_path, engine=nowhere)


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def no_engine() -> Engine:
    raise AssertionError("the engine is asked")


def connect() -> Engine:
    return Engine.connect(os.environ)


def packages(
    image: Image,
    names: Sequence[str],
    directory: Path,
    *,
    engine: Callable[[], Engine] = connect,
    progress: Progress | None = None,
    **options: Any,
) -> Installed:
    """Install with a cache in `directory`."""
    chosen = InstallOptions(names=tuple(names), label="base:1", log="packages", **options)
    cache = Cache(directory / "cache")
    installer = Installer(engine=engine, limits=Limits(), cache=cache, progress=progress or Progress())
    return install(image, chosen, installer)


def members(made: Installed) -> dict[str, tarfile.TarInfo]:
    with made.made.layer.open() as blob, tarfile.open(fileobj=blob) as tar:
        return {member.name: member for member in tar}


def prints(client: DockerClient, image: Image, script: str) -> str:
    """The output of a shell script in a container of the image."""
    reference = Reference.parse(f"{REPOSITORY}:{secrets.token_hex(4)}")
    connect().load(image, [reference], progress=Progress())
    return output(client, reference.familiar, "sh", "-c", script)


def pulled(name: str, cache: Path) -> Image:
    registry = Registry(Http(), credentials=Credentials(), mirrors=mirrors())
    found = registry_source(registry, Reference.parse(name), Cache(cache))
    return pull(found, PLATFORM, Cache(cache), progress=Progress()).image


REPOSITORY = f"hatch-docker-test-{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def _clean(client: DockerClient) -> Iterator[None]:
    """Remove the images that tests loaded into the engine."""
    yield
    remove(client, REPOSITORY)


POSTINSTALL = """\
#!/bin/sh
adduser -S -H mini
rm /etc/motd
mkdir -p /var/log/mini /run/mini /opt/lib/__pycache__
date +%s.%N | tee /var/log/mini/log /run/mini/pid /tmp/mini /opt/lib/__pycache__/x.pyc
ln /usr/share/mini/data /usr/share/mini/again
/usr/local/bin/python3 /usr/share/mini/setcap.py
"""
# CAP_NET_RAW.
SETCAP = b"""\
import os
os.setxattr("/usr/bin/mini", "security.capability", bytes.fromhex("01000002 00200000" + " 00" * 12))
"""
MINI = {
    "mini": Apk(
        version="1.2-r0",
        files={
            "usr/share/mini/setcap.py": SETCAP,
            "usr/bin/mini": b"#!/bin/sh\necho mini\n",
            "usr/bin/small": "mini",
            "usr/share/mini/data": b"data" * 1000,
            "etc/mini.conf": b"mini\n",
        },
        depends=("mini-libs",),
        scripts={"post-install": POSTINSTALL},
    ),
    "mini-libs": Apk(version="1.2-r0", files={"usr/lib/libmini.txt": b"lib\n"}),
    "mini-dev": Apk(version="1.2-r0", files={"usr/include/mini.h": b"\n"}),
    "build-base": Apk(depends=("mini-dev",)),
    "linux-headers": Apk(files={"usr/include/linux.h": b"\n"}),
    "python3-dev": Apk(files={"usr/include/python3.13/Python.h": b"\n"}),
}


@pytest.fixture(scope="module")
def alpine(shared_cache: Path) -> Image:
    """Alpine, with packages to install."""
    return installable(connect(), pulled(ALPINE, shared_cache), MINI)


@pytest.fixture(scope="module")
def mini(alpine: Image, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return packages(alpine, ["mini"], tmp_path_factory.mktemp("mini"))


@pytest.mark.engine
@pytest.mark.base
@pytest.mark.usefixtures("_clean")
class TestApk:
    def test_packages_work(self, alpine: Image, mini: Installed, client: DockerClient) -> None:
        assert validate(mini.image) == []
        assert mini.made.contents == ("mini 1.2-r0", "mini-libs 1.2-r0")
        assert mini.image.layers[:-1] == alpine.layers
        assert mini.image.config == alpine.config
        assert mini.image.history[-1].created_by == "hatch-docker: mini"
        printed = prints(
            client,
            mini.image,
            "mini; small; cat /usr/lib/libmini.txt; cmp /usr/share/mini/data /usr/share/mini/again; id -un mini",
        )
        assert printed == "mini\nmini\nlib\nmini\n"

    def test_database_is_consistent(self, alpine: Image, mini: Installed, client: DockerClient) -> None:
        assert prints(client, mini.image, "apk info -e mini mini-libs") == "mini\nmini-libs\n"
        audit = "apk audit --system | sort"
        # The script removes a file of another package.
        assert prints(client, mini.image, audit) == prints(client, alpine, audit) + "X etc/motd\n"
        assert "mini" not in prints(client, mini.image, "apk del mini >&2; ls /usr/bin /usr/lib /etc")

    def test_layer_has_nothing_of_the_time_or_the_container(self, mini: Installed) -> None:
        found = members(mini)
        assert {path for path in found if path.startswith(("run", "tmp", "var/log", "var/cache", "opt"))} == {
            *("opt", "opt/lib", "run", "run/mini", "var/log", "var/log/mini")
        }
        assert not [path for path in found if path.endswith(("-", "lock", ".pyc", "hosts", "resolv.conf"))]
        assert "etc/.wh.motd" in found
        assert {"lib/apk/db/installed", "lib/apk/db/scripts.tar.gz", "etc/apk/world", "etc/shadow"} <= found.keys()

    def test_layer_is_reproducible_with_an_empty_cache(self, alpine: Image, mini: Installed, tmp_path: Path) -> None:
        progress = Notes()
        again = packages(alpine, ["mini", "mini"], tmp_path, progress=progress)
        assert again.image.digest == mini.image.digest
        assert not again.made.reused
        assert progress.notes[0] == "file capabilities are dropped: usr/bin/mini in base:1"

    @pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")
    def test_podman_makes_the_same_layer(self, alpine: Image, mini: Installed, tmp_path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="podman-") as directory, podman(Path(directory)) as environ:
            try:
                made = packages(alpine, ["mini"], tmp_path, engine=lambda: Engine.connect(environ))
            except EngineError as error:
                pytest.skip(f"podman cannot run containers here: {error}")
        assert made.image.digest == mini.image.digest

    def test_new_users_have_no_date(self, mini: Installed, client: DockerClient) -> None:
        assert prints(client, mini.image, "tail -n 1 /etc/shadow") == "mini:!:3653:0:99999:7:::\n"

    def test_needs_no_engine_the_second_time(self, alpine: Image, tmp_path: Path) -> None:
        first = packages(alpine, ["mini-libs", "mini-dev"], tmp_path)
        again = packages(alpine, ["mini-dev", "mini-libs"], tmp_path, engine=no_engine)
        assert again.image.digest == first.image.digest
        assert again.made.contents == first.made.contents
        assert again.made.reused

    def test_makes_a_damaged_cached_layer_again(self, alpine: Image, tmp_path: Path) -> None:
        first = packages(alpine, ["mini-libs"], tmp_path)
        algorithm, _, name = first.made.layer.descriptor.digest.partition(":")
        (tmp_path / "cache" / "blobs" / algorithm / name).write_bytes(b"damaged")
        again = packages(alpine, ["mini-libs"], tmp_path)
        assert again.image.digest == first.image.digest
        assert validate(again.image) == []

    def test_a_toolchain(self, alpine: Image, tmp_path: Path) -> None:
        made = packages(alpine, [], tmp_path, toolchain=True)
        assert made.made.contents == ("build-base 1.0-r0", "linux-headers 1.0-r0", "mini-dev 1.2-r0")
        python = Entry(path="usr/bin/python3", link="/usr/local/bin/python3")
        distribution = derived(alpine, python, env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})
        assert "python3-dev 1.0-r0" in packages(distribution, [], tmp_path, toolchain=True).made.contents

    def test_installed_packages(self, mini: Installed, tmp_path: Path) -> None:
        assert packages(mini.image, ["mini-libs"], tmp_path).made.contents == ("mini-libs (already installed)",)

    def test_unknown_packages(self, alpine: Image, tmp_path: Path) -> None:
        with pytest.raises(PackageError) as caught:
            packages(alpine, ["mini-lib"], tmp_path)
        assert caught.value.place == "base:1"
        assert "apk cannot install mini-lib:" in caught.value.message
        assert "mini-lib (no such package)" in caught.value.message
        assert "similar are mini-libs" in caught.value.hint
        assert f"its complete output is in {tmp_path / 'cache' / 'logs' / 'packages.log'}" in caught.value.hint
        assert "no such package" in (tmp_path / "cache" / "logs" / "packages.log").read_text()

    def test_missing_version(self, alpine: Image, tmp_path: Path) -> None:
        assert packages(alpine, ["mini-libs=1.2-r0"], tmp_path).made.contents == ("mini-libs 1.2-r0",)
        with pytest.raises(PackageError, match="not have this version of mini-libs"):
            packages(alpine, ["mini-libs=9"], tmp_path)

    def test_unreachable_archive(self, alpine: Image, tmp_path: Path) -> None:
        nowhere = Entry(path="etc/apk/repositories", content=b"http://me:secret@127.0.0.1:9/x\n")
        with pytest.raises(PackageError, match="is unreachable from a container") as caught:
            packages(derived(alpine, nowhere), ["mini"], tmp_path)
        assert "secret" not in str(caught.value)

    def test_failing_script(self, alpine: Image, tmp_path: Path) -> None:
        broken = Apk(scripts={"post-install": "#!/bin/sh\necho it broke\nexit 3\n"})
        with pytest.raises(PackageError, match="it broke"):
            packages(installable(connect(), alpine, {"broken": broken}), ["broken"], tmp_path)

    def test_an_image_without_a_package_manager(self, alpine: Image, tmp_path: Path) -> None:
        bare = derived(alpine, Entry(path="sbin/apk", removed=True))
        with pytest.raises(PackageError, match="the image base:1 has neither apt nor apk") as caught:
            packages(bare, ["mini"], tmp_path)
        assert "omit packages that it has already" in caught.value.hint
        with pytest.raises(PackageError, match="the image base:1 has neither apt nor apk") as caught:
            packages(bare, [], tmp_path, toolchain=True)
        assert "that has a compiler" in caught.value.hint


@pytest.fixture(scope="module")
def slim(shared_cache: Path) -> Image:
    return pulled("python:3.13-slim", shared_cache)


@pytest.mark.engine
@pytest.mark.base
@pytest.mark.network
@pytest.mark.usefixtures("_clean")
class TestApt:
    def test_libraries_and_a_user(self, slim: Image, tmp_path: Path, client: DockerClient) -> None:
        names = ["libpq5", "dbus"]
        made = packages(slim, names, tmp_path)
        assert validate(made.image) == []
        assert {"dbus", "libpq5"} <= {each.partition(" ")[0] for each in made.made.contents}
        found = [path for path, member in members(made).items() if not member.isdir()]
        assert not [path for path in found if path.startswith(("var/cache/", "var/lib/apt/lists/", "tmp/", "run/"))]
        assert not [path for path in found if path.endswith(("machine-id", "-old", "-", "lock", ".log"))]
        program = "import ctypes; ctypes.CDLL('libpq.so.5')"
        printed = prints(client, made.image, f'python3 -c "{program}"; getent shadow messagebus; dpkg --audit; dpkg -V')
        user, *complaints = printed.splitlines()
        assert re.fullmatch(r"messagebus:!\*?:3653:.*", user)
        # The image excludes documentation and lists.
        left_out = ("/usr/share/", "/var/lib/apt/lists/")
        assert [line for line in complaints if not line.split()[-1].startswith(left_out)] == []
        again = packages(slim, names, tmp_path / "again")
        assert (again.image.digest, again.made.reused) == (made.image.digest, False)
        assert packages(slim, names[::-1], tmp_path, engine=no_engine).image.digest == made.image.digest

    def test_unknown_packages(self, slim: Image, tmp_path: Path) -> None:
        with pytest.raises(PackageError) as caught:
            packages(slim, ["libpq.5"], tmp_path)
        assert "E: Unable to locate package libpq.5" in caught.value.message
        assert "libpq5" in caught.value.hint

    def test_without_a_network(self, slim: Image, tmp_path: Path) -> None:
        sources = Entry(path="nowhere.list", content=b"deb [trusted=yes] http://127.0.0.1:9/debian trixie main\n")
        settings = b'Dir::Etc::sourcelist "/nowhere.list"; Dir::Etc::sourceparts "-";\n'
        nowhere = derived(slim, sources, Entry(path="etc/apt/apt.conf.d/99nowhere", content=settings))
        with pytest.raises(PackageError, match="is unreachable from a container"):
            packages(nowhere, ["libpq5"], tmp_path)
