"""Coverage-guided fuzzing by atheris of all that reads bytes of others: `hatch run fuzz --help`.

Each input gives a result or one of our errors. Anything else ends the run, as does an input that takes more than ten
seconds or a gigabyte; libFuzzer leaves it in a file, whose content becomes a test. Needs Linux, the test dependencies
and atheris.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import atheris

from hatch_docker.support.dataclasses import dataclass

sys.path.insert(0, str(Path(__file__).parent.parent))

with atheris.instrument_imports(include=["hatch_docker"]):
    import test_locks
    from deb_maker import PACK, deb_of, entry
    from elf_maker import CPUS, make_library
    from test_debian_fuzz import PACKAGES, TEXT
    from test_wheelfile import TARGET

    from hatch_docker.debian.control import paragraphs, relations
    from hatch_docker.debian.deb import open_deb
    from hatch_docker.debian.packages import PackageIndex
    from hatch_docker.debian.release import parse_release
    from hatch_docker.debian.resolve import resolve
    from hatch_docker.errors import HatchDockerError
    from hatch_docker.index.access import FileFinder
    from hatch_docker.oci import spec
    from hatch_docker.oci.config import ImageConfig
    from hatch_docker.oci.layer import Layer
    from hatch_docker.oci.merging import merge
    from hatch_docker.oci.reference import Reference
    from hatch_docker.oci.registry import challenge
    from hatch_docker.oci.spec import Descriptor
    from hatch_docker.support.elf import program_interpreter, read_library_at
    from hatch_docker.support.streams import digest_of
    from hatch_docker.wheels import distinfo
    from hatch_docker.wheels.facts import read_facts
    from hatch_docker.wheels.install import lay_out
    from hatch_docker.wheels.texts import uses_of_file
    from hatch_docker.wheels.wheelfile import WheelFile


_FOLDER = Path(tempfile.mkdtemp(prefix="hatch-docker-fuzz-"))
# Of libFuzzer: seconds for an input, and megabytes of the whole process.
_LIMITS = ("-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=0", "-verbosity=0")


@dataclass(frozen=True)
class Target:
    """What reads an input, examples of inputs, and words that they are made of."""

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def _wheel(data: bytes) -> None:
    with WheelFile(_file("demo-1.0-py3-none-any.whl", data)) as wheel:
        read_facts(wheel)
        for made in lay_out(wheel, TARGET):
            assert not {"", ".", ".."} & {*made.path.split("/")}


def _layer(data: bytes) -> None:
    descriptor = Descriptor(media_type=spec.LAYER_TAR, digest=digest_of(data), size=len(data))
    layer = Layer(descriptor=descriptor, diff_id=descriptor.digest, open=lambda: io.BytesIO(data))
    for path in merge([layer], lambda path: path.startswith("etc/")).nodes:
        assert not {"", ".", ".."} & {*path.split("/")}


def _elf(data: bytes) -> None:
    read_library_at(lambda start, length: data[start : start + length])
    program_interpreter(data)


def _metadata(data: bytes) -> None:
    for read in (distinfo.parse_metadata, distinfo.parse_record, distinfo.check_wheel, distinfo.parse_entry_points):
        try:
            read(data, "x")
        except HatchDockerError:
            continue


def _module(data: bytes) -> None:
    for name in ("a/b.py", "a.sh", "a.toml"):
        uses_of_file(name, data)


def _lock(name: str) -> Callable[[bytes], None]:
    finder = FileFinder(files=test_locks.serving(six=[test_locks.index_file("six-1-py3-none-any.whl")]))
    return lambda data: test_locks.attempt(_file(name, data), finder)


def _deb(data: bytes) -> None:
    deb = open_deb(_file("a.deb", data))
    for _, content in deb.members():
        for _chunk in content:
            pass


def _index(data: bytes) -> None:
    index = PackageIndex([data], suite="trixie")
    resolve(["git", "tar"], [index], architecture="amd64")


def _control(data: bytes) -> None:
    text = data.decode(errors="replace")
    for found in paragraphs(text):
        for field in found.values():
            relations(field)


def _document(data: bytes) -> None:
    document = spec.load(data, "x")
    for read in (spec.Manifest.from_json, spec.Index.from_json, spec.Descriptor.from_json, ImageConfig.from_json):
        try:
            read(document)
        except HatchDockerError:
            continue


def _names(data: bytes) -> None:
    text = data.decode(errors="replace")
    challenge.parse(text)
    Reference.parse(text)


def _zip(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return out.getvalue()


def _tar(kind: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name in ("etc", "etc/passwd", "etc/" + "long/" * 30 + "x", "etc/.wh.a", "usr/lib/é"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name == "etc" else tarfile.REGTYPE
            info.size = 0 if name == "etc" else 3
            archive.addfile(info, io.BytesIO(b"abc"))
        for name, kind_of in (("lib", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind_of, "etc/passwd"
            archive.addfile(info)
    return out.getvalue()


_METADATA = (
    b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Dist: a>=1; extra == 'x'\nLicense-File: L\n\ntext\n"
)
_WHEEL = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_SCRIPTS = b"[console_scripts]\ndemo = demo:main [x]\n[gui_scripts]\nb = a.b:c.d\n"
_FILES = {
    "demo/__init__.py": b"import os\n",
    "demo/lib.so": make_library(("libc.so.6",), soname="liba.so"),
    "demo-1.0.data/scripts/run": b"#!python\n",
    "demo-1.0.dist-info/METADATA": _METADATA,
    "demo-1.0.dist-info/WHEEL": _WHEEL,
    "demo-1.0.dist-info/entry_points.txt": _SCRIPTS,
    "demo-1.0.dist-info/RECORD": b"demo/__init__.py,,\ndemo-1.0.dist-info/RECORD,,\n",
}
_MANIFEST = {
    "schemaVersion": 2,
    "mediaType": spec.MANIFEST,
    "config": {"mediaType": spec.CONFIG, "digest": digest_of(b""), "size": 0},
    "layers": [{"mediaType": spec.LAYER_TAR, "digest": digest_of(b"a"), "size": 1}],
}
_CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=b"], "User": "1:2", "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Interval": 1}},
    "rootfs": {"type": "layers", "diff_ids": [digest_of(b"a")]},
    "history": [{"created_by": "x", "empty_layer": True}],
}
_REQUIREMENTS = b"six==1 --hash=sha256:" + b"0" * 64 + b"\n-r other.txt\na>=1 ; python_version<'4' # b\n"


def _toml(document: Mapping[str, object], name: str) -> bytes:
    return test_locks.write(_FOLDER / name, document).read_bytes()


_UV_LOCK = _toml(test_locks.VALID_UV, "uv.lock")
_PYLOCK = _toml(test_locks.VALID_PYLOCK, "pylock.toml")
_MODULE = Path(test_locks.__file__).read_bytes()[:4000]
_NAMES = [b"registry.example:5000/team/app:1@sha256:" + b"0" * 64, b'Bearer realm="https://a", scope="b"']
_TARS = [_tar(kind) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]
_ZIPS = [_zip(_FILES), _zip(_FILES, zipfile.ZIP_STORED)]

TARGETS: Mapping[str, Target] = {
    "zip": Target(_wheel, _ZIPS, [b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"]),
    "tar": Target(_layer, _TARS, [b"ustar  \0", b"././@"]),
    "elf": Target(_elf, [make_library(machine=each, runpath="$ORIGIN") for each in CPUS]),
    "metadata": Target(_metadata, [_METADATA, _WHEEL, _SCRIPTS, _FILES["demo-1.0.dist-info/RECORD"]]),
    "modules": Target(_module, [_MODULE, b"#!/bin/sh\nexec a $B\n", b'f"{a!r:{b}}"']),
    "requirements": Target(_lock("requirements.txt"), [_REQUIREMENTS], [b"--hash=sha256:", b" ; ", b"${A}", b"-c "]),
    "uv.lock": Target(_lock("uv.lock"), [_UV_LOCK], [b"[[package]]\n", b'source = { git = "']),
    "pylock": Target(_lock("pylock.toml"), [_PYLOCK], [b"[[packages]]\n"]),
    "deb": Target(_deb, [deb_of(entry("./a", b"b"), suffix=each) for each in PACK], [b"debian-binary   ", b"`\n"]),
    "packages": Target(_index, [PACKAGES], [b"Provides: ", b"Depends: ", b" (>= 1)", b" | "]),
    "release": Target(lambda data: parse_release(data, place="x"), [TEXT], [b"SHA256:\n", b"Date: "]),
    "control": Target(_control, [PACKAGES, b"A: b (>= 1) [amd64] <x>, c | d:any\n"]),
    "manifests": Target(_document, [json.dumps(each).encode() for each in (_MANIFEST, _CONFIG)], [b'"layers"']),
    "names": Target(_names, _NAMES),
}


def fuzz(name: str, runs: int, corpus: Path) -> None:
    """Read `runs` inputs of a target, starting from those in a directory, which gets all that reach new code."""
    target = TARGETS[name]
    (corpus / name).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / name / f"seed-{number}").write_bytes(seed)
    # libFuzzer refuses an empty file.
    words = _FOLDER / "words"
    escaped = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.words or [b"\0"]]
    words.write_text("".join(f'"{word}"\n' for word in escaped), encoding="ascii")

    def read(data: bytes) -> None:
        try:
            target.read(data)
        except HatchDockerError:
            return

    atheris.Setup([name, f"-runs={runs}", f"-dict={words}", *_LIMITS, str(corpus / name)], read)
    atheris.Fuzz()


def main() -> None:
    """Fuzz some targets, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--runs", type=int, default=10_000, metavar="NUMBER", help="inputs of each target")
    parser.add_argument("--corpus", type=Path, default=_FOLDER / "corpus", help="a directory to keep inputs in")
    options = parser.parse_args()
    if len(options.targets) == 1:
        fuzz(options.targets[0], options.runs, options.corpus)
    failed = []
    for name in options.targets:
        command = [sys.executable, __file__, name, f"--runs={options.runs}", f"--corpus={options.corpus}"]
        status = subprocess.run(command, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}).returncode
        sys.stdout.write(f"{name}: {options.runs} inputs, {'as expected' if not status else f'status {status}'}\n")
        sys.stdout.flush()
        failed += [name] if status else []
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
