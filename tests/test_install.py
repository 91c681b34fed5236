from __future__ import annotations

import csv
import hashlib
import posixpath
import subprocess
import sys
import venv
import warnings
from collections.abc import Iterator
from pathlib import Path

import installer
import pytest
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile as InstallerWheel
from wheel_maker import make_wheel, member_info

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.errors import WheelError
from hatch_docker.oci.content import Plain, plain_chunks
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.spec import Platform
from hatch_docker.wheels.distinfo import checksum_of
from hatch_docker.wheels.facts import read_facts
from hatch_docker.wheels.install import installed, lay_out, venv_skeleton
from hatch_docker.wheels.wheelfile import WheelFile

TARGET = TargetPython(
    version="3.13.5",
    interpreter="/usr/local/bin/python3.13",
    platform=Platform.parse("linux/amd64"),
    libc=Libc(kind="glibc", version=(2, 41)),
)
SITE = "app/.venv/lib/python3.13/site-packages"
INFO = f"{SITE}/demo-1.0.dist-info"


def content_of(entry: Entry) -> bytes:
    """An entry's content, verified as in a layer."""
    assert entry.content is not None
    return b"".join(plain_chunks(entry.path, entry.content, entry.checksum))


def laid_out(path: Path) -> dict[str, Entry]:
    with WheelFile(path) as wheel:
        entries = lay_out(wheel, TARGET)
        for entry in entries:
            content_of(entry)
        assert [entry.path for entry in entries] == sorted({entry.path for entry in entries})
        return {entry.path: entry for entry in entries}


def files_of(path: Path) -> dict[str, tuple[bytes, bool]]:
    with WheelFile(path) as wheel:
        # installer skips bytecode, and so do builds by default.
        pruned = [member for member in wheel.members if "__pycache__/" in member]
        entries = lay_out(wheel, TARGET, pruned=pruned)
        return {entry.path: (content_of(entry), entry.mode == 0o755) for entry in entries}


def installed_by_oracle(path: Path, root: Path) -> dict[str, tuple[bytes, bool]]:
    """The files that `installer` writes for a wheel: content, and whether it is executable."""
    name = path.name.partition("-")[0]
    with WheelFile(path) as wheel:
        name = wheel.metadata.name
    schemes = {
        "purelib": f"/{SITE}",
        "platlib": f"/{SITE}",
        "scripts": "/app/.venv/bin",
        "headers": f"/app/.venv/include/site/python3.13/{name}",
        "data": "/app/.venv",
    }
    destination = SchemeDictionaryDestination(schemes, "/app/.venv/bin/python", "posix", destdir=str(root))
    with InstallerWheel.open(path) as source, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        installer.install(source, destination, {"INSTALLER": b"hatch-docker\n"})
    return {
        file.relative_to(root).as_posix(): (file.read_bytes(), bool(file.stat().st_mode & 0o111))
        for file in root.rglob("*")
        if file.is_file()
    }


def assert_same_as_oracle(path: Path, root: Path) -> None:
    ours, theirs = files_of(path), installed_by_oracle(path, root)
    # Scripts are executable, as in pip; installer copies their mode from the wheel.
    for place, (content, _) in theirs.items():
        if place.startswith("app/.venv/bin/"):
            theirs[place] = (content, True)
    record = next(place for place in theirs if place.endswith(".dist-info/RECORD"))
    assert sorted(rows_of(ours.pop(record)[0])) == sorted(rows_of(theirs.pop(record)[0]))
    assert {place: mode for place, (_, mode) in ours.items()} == {place: mode for place, (_, mode) in theirs.items()}
    assert not [place for place in ours if ours[place] != theirs[place]]


def rows_of(record: bytes) -> Iterator[tuple[str, ...]]:
    for path, *rest in csv.reader(record.decode().splitlines()):
        yield posixpath.normpath(path), *rest


COMPLEX: dict[str, str | bytes] = {
    "demo/__init__.py": "",
    "demo/tool": "#!/bin/sh\n",
    "demo/ünïcode, with a comma.txt": "ü",
    "namespace/demo/module.py": "x = 1\n",
    "demo-1.0.data/purelib/pure.py": "",
    "demo-1.0.data/platlib/plat.so": b"\x7fELF",
    "demo-1.0.data/scripts/shell": "#!/bin/sh\necho\n",
    "demo-1.0.data/scripts/run": "#!python -E\nprint()\n",
    "demo-1.0.data/scripts/window": b"#!pythonw\r\nprint()\r\n",
    "demo-1.0.data/scripts/only-shebang": "#!python",
    "demo-1.0.data/scripts/binary": b"\x7fELF\0",
    "demo-1.0.data/headers/demo.h": "int x;",
    "demo-1.0.data/data/share/jupyter/labextensions/demo/package.json": "{}",
    "demo-1.0.data/data/etc/demo.conf": "",
    "demo-1.0.dist-info/licenses/LICENSE": "MIT",
    "demo-1.0.dist-info/sboms/demo.cdx.json": "{}",
}
SCRIPTS = """
[console_scripts]
demo = demo:main
demo-fast=demo.fast : App.run [fast]
with.dots_ = demo._x:y

[gui_scripts]
demo-gui = demo.gui:main

[demo.plugins]
one = demo.tests.one
"""


def test_complex_wheel_is_laid_out_as_by_installer(tmp_path: Path) -> None:
    executable = ["demo/tool", "demo-1.0.data/scripts/binary"]
    path = make_wheel(tmp_path, files=COMPLEX, entry_points=SCRIPTS, executable=executable)
    assert_same_as_oracle(path, tmp_path / "root")
    with WheelFile(path) as wheel:
        record = next(content_of(entry) for entry in lay_out(wheel, TARGET) if entry.path == f"{INFO}/RECORD")
    # Order and quoting are equal, too, except that installer writes paths of the other scheme in site-packages as ./.
    assert record == (tmp_path / "root" / INFO / "RECORD").read_bytes().replace(b"\n./", b"\n")


def test_content_is_lazy_and_has_its_checksum(tmp_path: Path) -> None:
    entry = laid_out(make_wheel(tmp_path, files={"demo.py": "x" * 99}))[f"{SITE}/demo.py"]
    assert not isinstance(entry.content, bytes)
    assert entry.checksum == ("sha256", hashlib.sha256(b"x" * 99).digest())


def test_modes_owners_and_links_are_normalized(tmp_path: Path) -> None:
    members = {"demo/a.py": 0o4777, "demo/b.py": 0o000, "demo/c.py": 0o640}
    path = make_wheel(tmp_path, files=dict.fromkeys([*members, "demo-1.0.data/scripts/run"], "#!python\n"))
    data = path.read_bytes()
    for member, mode in members.items():
        place = data.rindex(member.encode()) - 46 + 38
        data = data[:place] + (member_info(member, mode).external_attr).to_bytes(4, "little") + data[place + 4 :]
    path.write_bytes(data)
    entries = laid_out(path)
    assert [entries[f"{SITE}/{member}"].mode for member in members] == [0o755, 0o644, 0o644]
    assert entries["app/.venv/bin/run"].mode == 0o755
    assert {(entry.uid, entry.gid, entry.link) for entry in entries.values()} == {(0, 0, "")}


def test_pruned_files_are_neither_laid_out_nor_recorded(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"demo/__init__.py": "", "demo/tests/__init__.py": ""})
    with WheelFile(path) as wheel:
        entries = {entry.path: entry for entry in lay_out(wheel, TARGET, pruned={"demo/tests/__init__.py"})}
        assert f"{SITE}/demo/tests/__init__.py" not in entries
        assert b"tests" not in content_of(entries[f"{INFO}/RECORD"])
        assert b"demo/__init__.py,sha256=" in content_of(entries[f"{INFO}/RECORD"])


def test_installer_file_of_the_wheel_is_replaced(tmp_path: Path) -> None:
    entries = laid_out(make_wheel(tmp_path, files={"demo-1.0.dist-info/INSTALLER": "pip"}))
    assert entries[f"{INFO}/INSTALLER"].content == b"hatch-docker\n"


def test_free_threaded_python_and_another_prefix(tmp_path: Path) -> None:
    target = TargetPython(
        version="3.14.0",
        interpreter="/usr/bin/python3.14t",
        platform=TARGET.platform,
        libc=TARGET.libc,
        free_threaded=True,
    )
    path = make_wheel(tmp_path, files={"demo.py": ""}, entry_points="[console_scripts]\ndemo = demo:main")
    with WheelFile(path) as wheel:
        entries = {entry.path: entry for entry in lay_out(wheel, target, prefix="opt/venv")}
    assert "opt/venv/lib/python3.14t/site-packages/demo.py" in entries
    assert content_of(entries["opt/venv/bin/demo"]).startswith(b"#!/opt/venv/bin/python\n")


def test_files_in_lib64_go_to_lib(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"demo-1.0.data/data/lib64/libdemo.so": ""})
    assert "app/.venv/lib/libdemo.so" in laid_out(path)


@pytest.mark.parametrize(
    ("files", "entry_points"),
    [
        ({"demo-1.0.data/scripts/demo": "#!python\n"}, "[console_scripts]\ndemo = demo:main"),
        ({"demo-1.0.data/data/bin/demo": ""}, "[console_scripts]\ndemo = demo:main"),
        ({"demo.py": "", "demo-1.0.data/purelib/demo.py": ""}, ""),
        ({"demo.py": "", "demo-1.0.data/platlib/demo.py/x": ""}, ""),
        ({"demo-1.0.data/scripts/python3": ""}, ""),
        ({}, "[console_scripts]\npython = demo:main"),
        ({"demo-1.0.data/data/pyvenv.cfg": ""}, ""),
        ({"demo-1.0.data/data/lib64": ""}, ""),
        ({"demo-1.0.data/data/lib": ""}, ""),
        ({"demo-1.0.data/data/bin": ""}, ""),
        ({"demo-1.0.data/data/pyvenv.cfg/x": ""}, ""),
    ],
)
def test_conflicting_files_are_refused(tmp_path: Path, files: dict[str, str], entry_points: str) -> None:
    path = make_wheel(tmp_path, files=files, entry_points=entry_points)
    with WheelFile(path) as wheel, pytest.raises(WheelError, match=r"would (install|replace)"):
        lay_out(wheel, TARGET)


def test_installed_paths_and_hashes_from_facts(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files=COMPLEX, entry_points=SCRIPTS)
    with WheelFile(path) as wheel:
        entries = {entry.path: content_of(entry) for entry in lay_out(wheel, TARGET, pruned={"demo/__init__.py"})}
        expected = installed(read_facts(wheel), TARGET, pruned={"demo/__init__.py"})
    assert expected.keys() == entries.keys()
    rewritten = {"app/.venv/bin/run", "app/.venv/bin/window", "app/.venv/bin/only-shebang"}
    for place, digest in expected.items():
        if digest and place not in rewritten:
            assert hashlib.new(checksum_of(digest)[0], entries[place]).digest() == checksum_of(digest)[1]


def test_skeleton_equals_that_of_venv(tmp_path: Path) -> None:
    venv.EnvBuilder(symlinks=True).create(tmp_path / "venv")
    theirs = dict(line.split(" = ", 1) for line in (tmp_path / "venv/pyvenv.cfg").read_text().splitlines())
    target = TargetPython(
        version="{}.{}.{}".format(*sys.version_info[:3]),
        interpreter=str(Path(theirs["home"]) / f"python3.{sys.version_info[1]}"),
        platform=TARGET.platform,
        libc=TARGET.libc,
    )
    skeleton = {entry.path: entry for entry in venv_skeleton(target, "venv")}
    ours = dict(line.split(" = ", 1) for line in content_of(skeleton["venv/pyvenv.cfg"]).decode().splitlines())
    same = {"home", "include-system-site-packages", "version"}
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert skeleton["venv/bin/python"].link == target.interpreter
    for place, entry in skeleton.items():
        if entry.link:
            assert (tmp_path / place).is_symlink()
    assert skeleton["venv/lib64"].link == str((tmp_path / "venv/lib64").readlink())


def test_environment_runs(tmp_path: Path) -> None:
    """Write the entries to disk, and run the scripts of the environment."""
    prefix = str(tmp_path / "venv").lstrip("/")
    target = TargetPython(
        version="{}.{}.{}".format(*sys.version_info[:3]),
        interpreter=getattr(sys, "_base_executable", sys.executable),
        platform=TARGET.platform,
        libc=TARGET.libc,
    )
    module = "import sys\ndef main(): print(sys.prefix, __file__)\n"
    files = {"demo.py": module, "demo-1.0.data/scripts/run": "#!python\nimport demo\ndemo.main()\n"}
    path = make_wheel(tmp_path, files=files, entry_points="[console_scripts]\ndemo = demo:main")
    with WheelFile(path) as wheel:
        for entry in [*venv_skeleton(target, prefix), *lay_out(wheel, target, prefix=prefix)]:
            place = Path("/", entry.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if entry.link:
                place.symlink_to(entry.link)
            else:
                place.write_bytes(content_of(entry))
                place.chmod(entry.mode)
    for script in ("demo", "run"):
        output = subprocess.run([f"/{prefix}/bin/{script}"], check=True, capture_output=True, text=True).stdout
        assert output.split() == [f"/{prefix}", f"/{prefix}/lib/{target.lib_name}/site-packages/demo.py"]


@pytest.fixture(scope="session")
def real_wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    names = ["numpy", "greenlet", "ruff", "zope.interface", "protobuf", "jupyterlab-widgets", "h5py", "jsonschema"]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    subprocess.run([*command, *names], check=True)
    return sorted(folder.iterdir())


@pytest.mark.network
def test_real_wheels_are_laid_out_as_by_installer(real_wheels: list[Path], tmp_path: Path) -> None:
    for path in real_wheels:
        assert_same_as_oracle(path, tmp_path / path.stem)


@pytest.mark.network
def test_content_of_real_wheels_stays_compressed(real_wheels: list[Path]) -> None:
    for path in real_wheels:
        with WheelFile(path) as wheel:
            plain = [entry.path for entry in lay_out(wheel, TARGET) if isinstance(entry.content, Plain)]
            assert len(plain) < len(wheel.members) / 10
