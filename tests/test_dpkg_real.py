"""Real Debian packages in a new base, and on top of images, run in an engine."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest
from conftest import mirrors
from containers import output, running
from docker import DockerClient

from hatch_docker.base.interpreter import read_facts
from hatch_docker.debian.archive import Archive, Trust
from hatch_docker.debian.deb import open_deb
from hatch_docker.debian.packages import Package, PackageIndex, read_index
from hatch_docker.debian.resolve import resolve
from hatch_docker.debian.sources import find_mirrors, suites_of
from hatch_docker.dpkg import database
from hatch_docker.dpkg.assemble import Assembled, added_files, needs_content, root_files
from hatch_docker.dpkg.generated import BUNDLE
from hatch_docker.dpkg.ldcache import FLAGS, read_ld_so_cache
from hatch_docker.dpkg.package_sets import base_assume_installed, base_packages, toolchain
from hatch_docker.engine.client import Engine
from hatch_docker.errors import PackageError
from hatch_docker.index.settings import discover
from hatch_docker.oci import source
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image, append, validate
from hatch_docker.oci.layer import Entry, Layer, WriteOptions, write_layer
from hatch_docker.oci.merging import merge
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.elf import MAGIC
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress

REQUESTED, ASSUME_INSTALLED = base_packages("3.13"), base_assume_installed()
ENVIRON = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin", "LANG": "C.UTF-8"}

pytestmark = [pytest.mark.debian, pytest.mark.engine]


@dataclass(frozen=True, kw_only=True)
class Trixie:
    """Trixie in the real archive, for one architecture."""

    archive: Archive
    indexes: list[PackageIndex]
    architecture: str

    def assembled(
        self,
        names: Sequence[str],
        make: Callable[..., Assembled],
        folder: Path,
        *,
        installed: Sequence[Package] = (),
        assume_installed: Sequence[str] = (),
        present: Sequence[str] = (),
        threads: int = 2,
    ) -> Layer:
        """A layer of packages and their dependencies."""
        found = resolve(
            names, self.indexes, architecture=self.architecture, installed=installed, assume_installed=assume_installed
        )
        debs = [open_deb(path, place=each.name) for each, path in zip(found, self.archive.fetch(found), strict=True)]
        with tempfile.TemporaryFile() as spool:
            made = make(debs=debs, spool=spool, architecture=self.architecture, threads=threads)
            return layer_of(made.entries, folder, present)


def layer_of(entries: Sequence[Entry], folder: Path, present: Sequence[str] = ()) -> Layer:
    path = folder / f"layer-{secrets.token_hex(4)}"
    with path.open("wb") as out:
        written = write_layer(entries, out, WriteOptions(splice=False), present=present)
    return Layer(descriptor=written.descriptor, diff_id=written.diff_id, open=lambda: path.open("rb"))


@pytest.fixture(scope="module")
def trixie(shared_cache: Path) -> Callable[[str], Trixie]:
    def of(architecture: str) -> Trixie:
        setting = os.environ.get("HATCH_DOCKER_DEBIAN_MIRROR", "")
        found = find_mirrors(setting, suite="trixie", architecture=architecture)
        archive = Archive(found, Trust(now=datetime.now(timezone.utc)), http=Http(), cache=Cache(shared_cache))
        files = archive.indexes(suites_of("trixie"), architecture=architecture)
        indexes = [read_index(each.path, suite=each.suite) for each in files]
        return Trixie(archive=archive, indexes=indexes, architecture=architecture)

    return of


def image_of(layer: Layer, architecture: str = "amd64") -> Image:
    config = ImageConfig(platform=Platform(architecture=architecture), env=ENVIRON, user="65532")
    return Image(config=config, layers=(layer,), history=(History(created_by="test"),))


@pytest.fixture(scope="module")
def base(trixie: Callable[[str], Trixie], tmp_path_factory: pytest.TempPathFactory) -> Image:
    layer = trixie("amd64").assembled(
        REQUESTED, root_files, tmp_path_factory.mktemp("base"), assume_installed=ASSUME_INSTALLED
    )
    made = image_of(layer)
    assert validate(made) == []
    return made


@pytest.fixture
def load(image: str) -> Callable[[Image], str]:
    def loaded(made: Image) -> str:
        Engine.connect(os.environ).load(made, [Reference.parse(f"{image}:latest")], progress=Progress())
        return image

    return loaded


PROGRAM = """
import bz2, ctypes.util, grp, hashlib, locale, lzma, os, pwd, readline
import socket, sqlite3, ssl, tempfile, time, uuid, zoneinfo
print(ctypes.util.find_library("c"), ctypes.util.find_library("ssl"), ctypes.util.find_library("stdc++"))
print(zoneinfo.ZoneInfo("Europe/Berlin"), time.tzname)
print(os.getuid(), pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name, os.path.expanduser("~"))
print(locale.setlocale(locale.LC_ALL, ""), socket.getservbyname("https"))
print(sqlite3.connect(":memory:").execute("select 'x' || json('[1]')").fetchone()[0])
print(len(ssl.create_default_context().get_ca_certs()) > 100)
print(lzma.decompress(lzma.compress(b"lzma")), bz2.decompress(bz2.compress(b"bz2")))
"""


_SHELL = ("bash", "coreutils", "dash", "debianutils", "findutils", "grep", "mawk", "perl-base", "sed", "util-linux")
_PICTURE = """
from gi.repository import GdkPixbuf as it
it.Pixbuf.new(it.Colorspace.RGB, False, 8, 3, 2).savev("picture", "png", [], [])
read = it.Pixbuf.new_from_file("picture")
print((read.get_width(), read.get_height()))
"""
# The order of most lines is that of a hash table, and some are there twice.
_MAKE_FILE_TYPES = """
cp -r /usr/share/mime made && update-mime-database made
for name in aliases generic-icons icons globs2 magic subclasses types; do
  [ "$(sort -u made/$name | md5sum)" = "$(sort -u /usr/share/mime/$name | md5sum)" ] || exit
done
[ "$(md5sum <made/magic)" = "$(md5sum </usr/share/mime/magic)" ] && echo the same
"""
# Packages, a command, and what it prints.
PROGRAMS = [
    ("acl", "touch f && setfacl -m u:nonroot:r f && getfacl -c f", "user:nonroot:r--"),
    ("alsa-utils", "aplay --version", "aplay: version"),
    ("default-mysql-client", "mysql --version && cat /etc/mysql/my.cnf", "!includedir /etc/mysql/mariadb.conf.d/"),
    ("dbus", "dbus-run-session -- sh -c 'echo $DBUS_SESSION_BUS_ADDRESS'", "unix:path="),
    ("fish", "fish -c 'echo (string upper fish)'", "FISH"),
    ("fonts-ipafont fontconfig", "fc-match IPAGothic", '"IPAGothic"'),
    ("freetds-bin", "tsql -C", "freetds v1"),
    ("gdb", "gdb --version", "GNU gdb"),
    ("gir1.2-gdkpixbuf-2.0 python3-gi", f"python3 -c '{_PICTURE}'", "(3, 2)"),
    ("mercurial", "hg --version && cat /etc/mercurial/hgrc.d/hgext.rc", "[extensions]"),
    ("msmtp", "msmtp --version", "msmtp version"),
    ("nmap", "nmap --version", "Nmap version"),
    ("odbc-postgresql unixodbc", "odbcinst -q -d", "[PostgreSQL Unicode]"),
    ("python3-tk", "python3 -c 'import tkinter; print(tkinter.TkVersion)'", "8.6"),
    ("python3-venv", "python3 -m venv v && v/bin/python -m pip --version", "pip 2"),
    ("shared-mime-info", _MAKE_FILE_TYPES, "the same"),
    ("snmp", "snmpget -V", "NET-SNMP version"),
    ("sudo", "sudo -n id -un", "root"),
    ("tdsodbc", "odbcinst -q -d", "[FreeTDS]"),
    ("util-linux", "su nobody -s /bin/sh -c 'id -un'", "nobody"),
    ("uuid-runtime", "uuidgen --namespace @dns --name x.org --sha1", "-5"),
    ("whiptail", "whiptail --version", "whiptail (newt)"),
    ("zsh", "zsh -c 'autoload -U +X compinit && echo found'", "found"),
]


class TestBase:
    def test_python_works(self, base: Image, load: Callable[[Image], str], client: DockerClient) -> None:
        name = load(base)
        command = ["/usr/bin/python3.13", "-c", PROGRAM]
        printed = client.containers.run(name, command, remove=True, read_only=True)
        assert isinstance(printed, bytes)
        assert printed.decode().splitlines() == [
            "libc.so.6 libssl.so.3 libstdc++.so.6",
            "Europe/Berlin ('UTC', 'UTC')",
            "65532 nonroot nonroot /home/nonroot",
            "C.UTF-8 443",
            "x[1]",
            "True",
            "b'lzma' b'bz2'",
        ]

    @pytest.mark.parametrize("trusted", [True, False])
    def test_tls_is_verified(
        self, base: Image, load: Callable[[Image], str], client: DockerClient, tmp_path: Path, trusted: bool
    ) -> None:
        """With the certificates of this machine instead of the image's, as a network may have its own."""
        settings = discover(root=Path.cwd(), environ=os.environ, home=Path.home())
        url, authorities = settings.urls()[0], Path(settings.ca_file or f"/{BUNDLE}")
        if not authorities.is_file() or not url.startswith("https://"):
            pytest.skip("this machine has no file of authorities, or its index no TLS")
        bundle = Entry(path=BUNDLE, content=authorities.read_bytes() if trusted else b"")
        made = append(base, (layer_of([bundle], tmp_path),), (History(created_by="test"),), base.config)
        program = (
            "import sys, urllib.request\n"
            "try: print(urllib.request.urlopen(sys.argv[1]).status)\n"
            "except urllib.error.URLError as error: print(type(error.reason).__name__)"
        )
        command = ["/usr/bin/python3.13", "-c", program, f"{url.rstrip('/')}/packaging/"]
        printed = client.containers.run(load(made), command, remove=True, read_only=True)
        assert printed == (b"200\n" if trusted else b"SSLCertVerificationError\n")

    def test_ldconfig_makes_the_same_cache(
        self, base: Image, load: Callable[[Image], str], client: DockerClient
    ) -> None:
        program = (
            "import subprocess\n"
            "def print_cache():\n"
            "    printed = subprocess.check_output(['ldconfig', '-p'], text=True)\n"
            "    return [line for line in printed.splitlines() if not line.startswith('Cache')]\n"
            "ours = print_cache()\n"
            "subprocess.run(['ldconfig'], check=True, stderr=subprocess.DEVNULL)\n"
            "print(ours == print_cache(), ours)"
        )
        printed = client.containers.run(load(base), ["python3", "-c", program], user="0", remove=True)
        assert printed.startswith(b"True ")
        assert b"libssl.so.3" in printed

    def test_is_reproducible(self, base: Image, trixie: Callable[[str], Trixie], tmp_path: Path) -> None:
        again = trixie("amd64").assembled(REQUESTED, root_files, tmp_path, assume_installed=ASSUME_INSTALLED, threads=1)
        assert again.descriptor == base.layers[0].descriptor

    def test_another_architecture(self, trixie: Callable[[str], Trixie], tmp_path: Path) -> None:
        layer = trixie("arm64").assembled(REQUESTED, root_files, tmp_path, assume_installed=ASSUME_INSTALLED)
        made = image_of(layer, "arm64")
        assert validate(made) == []
        files = merge([layer], lambda _: True)
        programs = [node.data for node in files.nodes.values() if node.data and node.data.startswith(MAGIC)]
        # The field e_machine of ELF is 183 for AArch64.
        assert {data[18:20] for data in programs} == {b"\xb7\x00"}
        facts = read_facts(files, made.config, venv="app")
        assert (facts.python.minor, facts.python.machine, facts.suite) == ("3.13", "aarch64", "trixie")
        # The loader in PT_INTERP.
        loader = "lib/ld-linux-aarch64.so.1"
        assert f"/{loader}".encode() in (files.nodes[facts.python.interpreter.lstrip("/")].data or b"")
        assert files.get(loader) is not None
        cache = read_ld_so_cache(files.nodes["etc/ld.so.cache"].data or b"")
        assert {entry.flags for entry in cache} == {FLAGS["aarch64"]}
        assert "/lib/aarch64-linux-gnu/libssl.so.3" in {entry.path for entry in cache}

    def test_more_packages_on_it(
        self,
        base: Image,
        trixie: Callable[[str], Trixie],
        load: Callable[[Image], str],
        client: DockerClient,
        tmp_path: Path,
    ) -> None:
        made = with_packages(base, ["curl", "libpq5"], trixie("amd64"), tmp_path)
        name = load(made)
        assert output(client, name, "curl", "--version").startswith("curl 8.")
        program = "import ctypes; print(ctypes.CDLL(ctypes.util.find_library('pq')).PQlibVersion() // 10000)"
        assert output(client, name, "python3.13", "-c", f"import ctypes.util; {program}") == "17\n"

    def test_packages_that_work_without_their_scripts(
        self,
        base: Image,
        trixie: Callable[[str], Trixie],
        load: Callable[[Image], str],
        client: DockerClient,
        tmp_path: Path,
    ) -> None:
        """What scripts would do is needless, or done: conffiles, drivers, alternatives, settings of PAM."""
        names = [*_SHELL, *dict.fromkeys(name for names, _, _ in PROGRAMS for name in names.split())]
        name = load(with_packages(base, names, trixie("amd64"), tmp_path))
        with running(client, name, command=["sleep", "600"], user="0", environment={"HOME": "/tmp"}) as container:
            for _, command, expected in PROGRAMS:
                _, printed = container.exec_run(["sh", "-c", command], workdir="/tmp")
                assert isinstance(printed, bytes)
                assert expected in printed.decode(), (command, printed)

    def test_reports_packages_that_need_a_shell(
        self, base: Image, trixie: Callable[[str], Trixie], tmp_path: Path
    ) -> None:
        with pytest.raises(PackageError, match="is a script of /bin/sh") as caught:
            with_packages(base, ["git"], trixie("amd64"), tmp_path)
        assert "dash" in caught.value.hint


def with_packages(image: Image, names: Sequence[str], trixie: Trixie, folder: Path) -> Image:
    below = merge(image.layers, needs_content)

    def make(**options: object) -> Assembled:
        return added_files(below, **options)  # type: ignore[arg-type]

    directories = [path for path, node in below.nodes.items() if node.kind == "dir"]
    installed = database.read(below).packages()
    layer = trixie.assembled(
        names, make, folder, installed=installed, assume_installed=["debconf"], present=directories
    )
    made = append(image, (layer,), (History(created_by="test"),), image.config)
    assert validate(made) == []
    return made


DEBUGGING = r"""
set -e
awk 'BEGIN { print 6 * 7 }'
find /etc -maxdepth 1 -name passwd | xargs grep nonroot | sed 's/:.*//'
ps -o comm= -p $$
env | grep LANG
id -un
echo paged | less
bash -c 'echo $((1 + 1))'
cd && pwd
"""


def test_debug_variant_has_a_shell_and_tools(
    trixie: Callable[[str], Trixie], load: Callable[[Image], str], client: DockerClient, tmp_path: Path
) -> None:
    requested, assume_installed = base_packages("3.13", debug=True), base_assume_installed(debug=True)
    name = load(image_of(trixie("amd64").assembled(requested, root_files, tmp_path, assume_installed=assume_installed)))
    printed = output(client, name, "sh", "-c", DEBUGGING)
    assert printed.split() == ["42", "nonroot", "sh", "LANG=C.UTF-8", "nonroot", "paged", "2", "/home/nonroot"]
    terminal = "import curses; curses.setupterm('xterm'); print(curses.tigetnum('colors'))"
    assert output(client, name, "python3", "-c", terminal) == "8\n"


# What build backends and configure scripts do.
COMPILING = r"""
set -e
cd /tmp
echo 'int main(void) { return 0; }' >a.c
cc a.c -o a && ./a
cat >b.cc <<'END'
#include <iostream>
int main() { std::cout << "C++" << std::endl; }
END
c++ b.cc -o b && ./b
printf 'all:\n\t@echo made\n' >Makefile
make
python3 -m venv --without-pip v
cat >m.c <<'END'
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "m"};
PyMODINIT_FUNC PyInit_m(void) { return PyModule_Create(&module); }
END
variable() { v/bin/python -c "import sysconfig; print(sysconfig.get_config_var('$1'))"; }
$(variable CC) $(variable CCSHARED) $(python3.13-config --includes) -c m.c
$(variable LDSHARED) m.o -o m$(variable EXT_SUFFIX)
v/bin/python -c 'import m; print(m.__name__)'
pkg-config --libs libffi
cat >f.c <<'END'
#include <ffi.h>
int main(void) { ffi_cif call; return ffi_prep_cif(&call, FFI_DEFAULT_ABI, 0, &ffi_type_void, 0); }
END
cc f.c -lffi -o f && ./f
awk 'BEGIN { print "awk" }'
tar czf a.tar.gz a && tar cJf a.tar.xz a && perl -e 'print "perl\n"'
"""


def test_toolchain_compiles(
    base: Image,
    trixie: Callable[[str], Trixie],
    load: Callable[[Image], str],
    client: DockerClient,
    tmp_path: Path,
) -> None:
    made = with_packages(base, [*toolchain("3.13"), "libffi-dev"], trixie("amd64"), tmp_path)
    printed = client.containers.run(load(made), ["sh", "-c", COMPILING], user="0", network_mode="none", remove=True)
    assert printed.split() == [b"C++", b"made", b"m", b"-lffi", b"awk", b"perl"]


@pytest.fixture(scope="module")
def slim(shared_cache: Path) -> Image:
    registry = Registry(Http(), credentials=Credentials(), mirrors=mirrors())
    reference, cache = Reference.parse("python:3.13-slim"), Cache(shared_cache)
    places = source.registry_source(registry, reference, cache)
    pulled = source.pull(places, Platform(architecture="amd64"), cache, progress=Progress())
    source.fetch(pulled.image, threads=2)
    return pulled.image


@pytest.mark.base
class TestOnSlim:
    def test_git_curl_and_libpq(
        self,
        slim: Image,
        trixie: Callable[[str], Trixie],
        load: Callable[[Image], str],
        client: DockerClient,
        tmp_path: Path,
    ) -> None:
        made = with_packages(slim, ["libpq5", "curl", "git"], trixie("amd64"), tmp_path)
        assert with_packages(slim, ["git", "libpq5", "curl"], trixie("amd64"), tmp_path).digest == made.digest
        with running(client, load(made), command=["sleep", "600"], user="0") as container:

            def run(script: str) -> tuple[int, str]:
                code, printed = container.exec_run(["bash", "-c", script])
                assert isinstance(printed, bytes)
                return code or 0, printed.decode()

            assert run("git --version")[1].startswith("git version 2.")
            assert run("cd /tmp && git init -q a && cd a && git submodule status && perl -MError -e 'print 7'") == (
                0,
                "7",
            )
            assert run("curl --version")[1].startswith("curl 8.")
            assert run("""python3 -c 'import ctypes; print(ctypes.CDLL("libpq.so.5").PQlibVersion() // 10000)'""") == (
                0,
                "17\n",
            )
            assert run("dpkg --audit") == (0, "")
            assert run("apt-get check -qq") == (0, "")
            packages = "$(dpkg-query -W -f '${Package} ' git curl libpq5 perl libexpat1 libldap2)"
            assert run(f"dpkg -V {packages}") == (0, "")
            assert "libpq.so.5" in run("ldconfig -p")[1]
            # ldconfig makes the same cache.
            print_cache = "ldconfig -p | grep -v '^Cache'"
            assert run(f"{print_cache} >/tmp/1; ldconfig; {print_cache} >/tmp/2; cmp /tmp/1 /tmp/2") == (0, "")
            # dpkg works with the database.
            assert run("dpkg --remove curl git && dpkg --audit")[0] == 0
            assert run("test ! -e /usr/bin/git")[0] == 0

    def test_alternatives_provide_libraries(
        self,
        slim: Image,
        trixie: Callable[[str], Trixie],
        load: Callable[[Image], str],
        client: DockerClient,
        tmp_path: Path,
    ) -> None:
        made = with_packages(slim, ["libblas3", "liblapack3"], trixie("amd64"), tmp_path)
        assert (
            output(client, load(made), "python3", "-c", "import ctypes; print(ctypes.CDLL('liblapack.so.3')._name)")
            == "liblapack.so.3\n"
        )

    def test_rejects_a_package_that_needs_its_script(
        self, slim: Image, trixie: Callable[[str], Trixie], tmp_path: Path
    ) -> None:
        with pytest.raises(
            PackageError, match=r"libgvc6 does not work without its script: its postinst runs libgvc6-config"
        ):
            with_packages(slim, ["graphviz"], trixie("amd64"), tmp_path)

    def test_certificates_are_those_of_debian(self, slim: Image, base: Image) -> None:
        ours, theirs = (merge(image.layers, needs_content) for image in (base, slim))
        versions = {
            package.version
            for files in (ours, theirs)
            for package in database.read(files).packages()
            if package.name == "ca-certificates"
        }
        if len(versions) > 1:
            pytest.skip("the image has another version of ca-certificates")
        # Certificates of the image itself come last.
        bundles = [files.nodes[BUNDLE].data or b"" for files in (ours, theirs)]
        assert len(bundles[0]) > 100_000
        assert bundles[1].startswith(bundles[0])
