from __future__ import annotations

import io
import random
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from wheel_maker import Rows, make_wheel, member_info, row

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.compiling.repack import repack, without_local_urls
from hatch_docker.errors import WheelError
from hatch_docker.oci.layer import write_layer
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import replace
from hatch_docker.wheels.facts import read_facts
from hatch_docker.wheels.install import lay_out
from hatch_docker.wheels.wheelfile import WheelFile

TARGET = TargetPython(
    version="3.13.5",
    interpreter="/usr/local/bin/python3.13",
    platform=Platform.parse("linux/amd64"),
    libc=Libc(kind="glibc", version=(2, 41)),
)
NAME = "demo-1.0-py3-none-any.whl"
INFO = "demo-1.0.dist-info"
FILES = {
    "zeta.py": "z = 1\n" * 9000,
    "demo/__init__.py": "",
    "Demo.txt": "upper\n",
    "demo-1.0.data/scripts/run": "#!python\n",
    "éclair.py": "e\n",
}


def repacked(path: Path) -> bytes:
    out = io.BytesIO()
    repack(path, out, NAME)
    return out.getvalue()


def diff_id(path: Path) -> str:
    with WheelFile(path, NAME) as wheel:
        return write_layer(lay_out(wheel, TARGET), io.BytesIO()).diff_id


def zipped_anew(path: Path, folder: Path, seed: int) -> Path:
    """The same wheel with another order, times, methods, system, directories and comments."""
    by_chance = random.Random(seed)
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, info.external_attr, archive.read(info)) for info in archive.infolist()]
    by_chance.shuffle(members)
    other = folder / f"{seed}.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.comment = b"zipped at random"
        archive.writestr(zipfile.ZipInfo("demo/"), b"")
        for name, attributes, data in members:
            info = zipfile.ZipInfo(name, (by_chance.randint(1980, 2100), 2, 3, 4, 5, 6))
            modes = (0o755, 0o700, 0o575) if attributes >> 16 & 0o111 else (0o644, 0o600, 0o664)
            info.external_attr = (stat.S_IFREG | by_chance.choice(modes)) << 16
            info.create_system = by_chance.choice([0, 3])
            info.compress_type = by_chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
            info.comment, info.extra = b"member", b"\xfe\xca\x02\x00xx"
            archive.writestr(info, data, compresslevel=by_chance.randint(1, 9))
    return other


def test_members_are_sorted_stored_and_have_one_date(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files=FILES, entry_points="[a]\nb = c\n", executable=["demo-1.0.data/scripts/run"])
    with zipfile.ZipFile(io.BytesIO(repacked(path))) as archive:
        infos = archive.infolist()
        assert archive.testzip() is None
        assert archive.comment == b""
    assert [info.filename for info in infos] == [
        *sorted(FILES),
        f"{INFO}/METADATA",
        f"{INFO}/WHEEL",
        f"{INFO}/entry_points.txt",
        f"{INFO}/RECORD",
    ]
    assert {(info.date_time, info.compress_type, info.create_system) for info in infos} == {
        ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED, 3)
    }
    assert {info.extra + info.comment for info in infos} == {b""}
    modes = {info.filename: info.external_attr >> 16 for info in infos}
    assert modes.pop("demo-1.0.data/scripts/run") == stat.S_IFREG | 0o755
    assert set(modes.values()) == {stat.S_IFREG | 0o644}


def test_content_and_layer_stay_the_same(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files=FILES, executable=["zeta.py"])
    again = tmp_path / "again.whl"
    again.write_bytes(repacked(path))
    with WheelFile(path) as before, WheelFile(again, NAME) as after:
        assert before.records == after.records
        assert {name: before.read(name) for name in before.records if "RECORD" not in name} == {
            name: after.read(name) for name in after.records if "RECORD" not in name
        }
        # Its size is another: it is stored, not compressed.
        assert replace(read_facts(before), zipped=0) == replace(read_facts(after), zipped=0)
    assert diff_id(path) == diff_id(again)


def test_repacking_twice_changes_nothing(tmp_path: Path) -> None:
    once = tmp_path / "once.whl"
    once.write_bytes(repacked(make_wheel(tmp_path, files=FILES)))
    assert repacked(once) == once.read_bytes()


PATHS = st.sampled_from(["a.py", "b/é.py", "b/a.py", "A/z", "_.so", f"{INFO}/a", f"{INFO}/z/a", f"{INFO[:-1]}/a",
                         "demo-1.0.data/data/a", "demo-1.0.data/scripts/b", "demo-1.0.data/headers/c.h"])  # fmt: skip
CONTENTS = st.dictionaries(PATHS, st.binary(max_size=50) | st.just(b"x" * 100_000), max_size=6)


@settings(max_examples=many(24))
@given(files=CONTENTS, chance=st.integers(0, 2**32), executable=st.booleans())
def test_bytes_depend_only_on_the_content(
    tmp_path: Path, files: Mapping[str, bytes], chance: int, executable: bool
) -> None:
    def shuffled(rows: Rows) -> Rows:
        random.Random(chance).shuffle(rows)
        return rows

    path = make_wheel(tmp_path, files=files, executable=files if executable else ())
    expected = repacked(path)
    other = zipped_anew(path, tmp_path, chance)
    assert repacked(other) == expected
    assert diff_id(other) == diff_id(path)
    make_wheel(
        tmp_path,
        files=dict(sorted(files.items(), reverse=True)),
        executable=files if executable else (),
        record=shuffled,
    )
    assert repacked(path) == expected


def test_direct_url_and_signatures_are_omitted_with_their_rows(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path,
        files={"demo.py": "", f"{INFO}/direct_url.json": '{"url": "file:///home/me"}'},
        members=[(member_info(f"{INFO}/RECORD.jws"), b"signed"), (member_info(f"{INFO}/RECORD.p7s"), b"signed")],
    )
    again = tmp_path / "again.whl"
    again.write_bytes(repacked(path))
    with WheelFile(again, NAME) as wheel:
        assert set(wheel.members) == set(wheel.records)
        assert set(wheel.members) == {"demo.py", f"{INFO}/METADATA", f"{INFO}/WHEEL", f"{INFO}/RECORD"}
    assert repacked(make_wheel(tmp_path, files={"demo.py": ""})) == again.read_bytes()


def test_sizes_that_record_lacks_are_added(tmp_path: Path) -> None:
    def without_sizes(rows: Rows) -> Rows:
        return [(path, digest, "") for path, digest, _ in rows]

    expected = repacked(make_wheel(tmp_path, files=FILES))
    assert repacked(make_wheel(tmp_path, files=FILES, record=without_sizes)) == expected


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_record_is_that_of_the_content(tmp_path: Path, method: int) -> None:
    def other(rows: Rows) -> Rows:
        return [row("demo.py", b"two") if path == "demo.py" else (path, *rest) for path, *rest in rows]  # type: ignore[misc]

    right = repacked(make_wheel(tmp_path, files={"demo.py": "one"}, method=method))
    assert repacked(make_wheel(tmp_path, files={"demo.py": "one"}, record=other, method=method)) == right


def test_broken_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="has no RECORD"):
        repacked(make_wheel(tmp_path, without=["RECORD"]))
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(WheelError, match="not a zip"):
        repacked(tmp_path / NAME)


METADATA = b"""\
Metadata-Version: 2.4
Name: app
Requires-Dist: lib @ file:///home/me/lib
Requires-Dist: other[x,y]@ file:///home/me/other ; python_version < "4"
Requires-Dist: remote @ https://files.example/remote-1.0.tar.gz
Requires-Dist: idna>=3

Requires-Dist: lib @ file:///home/me/lib
"""


def test_metadata_has_no_path_of_this_machine() -> None:
    assert without_local_urls(METADATA).decode().splitlines()[2:] == [
        "Requires-Dist: lib",
        'Requires-Dist: other[x,y] ; python_version < "4"',
        "Requires-Dist: remote @ https://files.example/remote-1.0.tar.gz",
        "Requires-Dist: idna>=3",
        "",
        "Requires-Dist: lib @ file:///home/me/lib",
    ]
