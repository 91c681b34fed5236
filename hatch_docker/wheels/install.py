"""Lay out a wheel in a virtual environment, as entries of a layer, without running Python or extracting anything.

The result equals that of PyPA's `installer` (Binary distribution format, "Installing a wheel"; Recording installed
projects), without the pruned files.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from hatch_docker.base.target import TargetPython
from hatch_docker.oci.layer import Entry
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.distinfo import Script, hash_text, write_record
from hatch_docker.wheels.facts import WheelFacts
from hatch_docker.wheels.wheelfile import WheelFile, scripts_of
from hatch_docker.wheels.zipmembers import file_below_file

PREFIX = "app/.venv"
# How many paths a warning names.
_MAX_PATHS = 5
INSTALLER = b"hatch-docker\n"

_SHEBANG = b"#!python"
_SCRIPT = """\
#!/{prefix}/bin/python
# -*- coding: utf-8 -*-
import re
import sys
from {module} import {imported}
if __name__ == "__main__":
    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])
    sys.exit({attribute}())
"""

_CONFIG = """\
home = {home}
implementation = CPython
include-system-site-packages = false
version = {version}
"""


class _File(NamedTuple):
    """A file to install: its scheme, its path in that, and its row in RECORD."""

    scheme: str
    path: str
    entry: Entry
    hash: str
    size: int


def lay_out(
    wheel: WheelFile,
    target: TargetPython,
    *,
    prefix: str = PREFIX,
    pruned: Collection[str] = frozenset(),
    compiled: Mapping[str, bytes] = MappingProxyType({}),
) -> list[Entry]:
    """The entries of a wheel's files in the environment at `prefix`, sorted; `pruned` are members to omit.

    `compiled` are files to add, by their paths in site-packages, such as bytecode.

    The content of members is not read here: the wheel must stay open until the layer is written, which verifies the
    checksums. Raises WheelError if two files have the same path, or one that belongs to the environment.
    """
    schemes = _schemes(target, wheel.metadata.name, prefix)
    files = [*_generated(wheel, schemes, prefix), *_members(wheel, schemes, prefix, pruned)]
    files += [_written("purelib", path, content, schemes) for path, content in compiled.items()]
    record = f"{wheel.dist_info}/RECORD"
    rows = [(file.path, (_record_path(file.scheme, file.path, schemes), file.hash, str(file.size))) for file in files]
    rows.append((record, (record, "", "")))
    text = write_record(row for _, row in sorted(rows, key=lambda each: each[0]))
    entries = [*(file.entry for file in files), _written("purelib", record, text, schemes).entry]
    _check(wheel, entries, venv_skeleton(target, prefix))
    return sorted(entries, key=lambda entry: entry.path)


def correct_records(wheels: Iterable[WheelFile], progress: Progress, *, every: bool = False) -> bool:
    """Correct the RECORD of wheels where it is doubtful, or in `every` one, with a warning for each that was wrong.

    Returns whether any was. pip and uv install these wheels, too: the hash of the whole wheel is verified.
    """
    corrected = False
    for wheel in wheels:
        if (every or wheel.doubtful) and (paths := wheel.correct()):
            corrected = True
            more = f" and {len(paths) - _MAX_PATHS} more" if len(paths) > _MAX_PATHS else ""
            progress.warn(
                f"{wheel.filename} has a wrong RECORD for {', '.join(paths[:_MAX_PATHS])}{more}: "
                "the files are installed as they are in the wheel"
            )
    return corrected


def installed(
    facts: WheelFacts, target: TargetPython, *, prefix: str = PREFIX, pruned: Collection[str] = frozenset()
) -> dict[str, str]:
    """The paths that `lay_out` returns, with the hash of each file as RECORD writes it, from facts alone.

    Two wheels with the same path and hash install the same file. The hash is empty for files that RECORD lacks. That of
    a script whose shebang is rewritten is the original's.
    """
    schemes = _schemes(target, facts.name, prefix)
    paths = {_place(*facts.split(path), schemes): digest for path, digest in facts.files.items() if path not in pruned}
    for name, reference in facts.scripts.items():
        module, _, attribute = reference.partition(":")
        paths[_place("scripts", name, schemes)] = _hash(_script_text(Script(name, module, attribute), prefix))
    dist_info = facts.data.removesuffix(".data") + ".dist-info"
    return paths | {_place("purelib", f"{dist_info}/INSTALLER", schemes): _hash(INSTALLER)}


def venv_skeleton(target: TargetPython, prefix: str = PREFIX) -> list[Entry]:
    """The interpreter's links, `pyvenv.cfg`, and `lib64`, as entries below `prefix`.

    `include-system-site-packages = false` hides the base's own packages. `lib64` links to `lib`, as in `venv`, since
    the Python of some distributions imports compiled modules from there.
    """
    threads = "t" if target.free_threaded else ""
    names = ["python3", f"python{target.minor}", *([f"python{target.minor}t"] if threads else [])]
    config = _CONFIG.format(home=posixpath.dirname(target.interpreter), version=target.version)
    return [
        _link(f"{prefix}/bin/python", target.interpreter),
        *(_link(f"{prefix}/bin/{name}", "python") for name in names),
        _link(f"{prefix}/lib64", "lib"),
        Entry(path=f"{prefix}/pyvenv.cfg", content=config.encode()),
    ]


def _schemes(target: TargetPython, name: str, prefix: str) -> dict[str, str]:
    """The directory of each scheme, as in sysconfig's `venv` scheme; that of headers as in pip."""
    site = f"{prefix}/lib/{target.lib_name}/site-packages"
    return {
        "purelib": site,
        "platlib": site,
        "scripts": f"{prefix}/bin",
        "headers": f"{prefix}/include/site/{target.lib_name}/{name}",
        "data": prefix,
    }


def _place(scheme: str, path: str, schemes: Mapping[str, str]) -> str:
    # The environment's lib64 is a link to lib: a layer must not replace it by a directory.
    if scheme == "data" and path.startswith("lib64/"):
        path = f"lib/{path.removeprefix('lib64/')}"
    return f"{schemes[scheme]}/{path}"


def _record_path(scheme: str, path: str, schemes: Mapping[str, str]) -> str:
    """A path as RECORD has it: relative to site-packages."""
    if scheme in {"purelib", "platlib"}:
        return path
    return f"{posixpath.relpath(schemes[scheme], schemes['purelib'])}/{path}"


def _generated(wheel: WheelFile, schemes: Mapping[str, str], prefix: str) -> Iterator[_File]:
    for script in scripts_of(wheel):
        yield _written("scripts", script.name, _script_text(script, prefix), schemes, mode=0o755)
    yield _written("purelib", f"{wheel.dist_info}/INSTALLER", INSTALLER, schemes)


def _members(wheel: WheelFile, schemes: Mapping[str, str], prefix: str, pruned: Collection[str]) -> Iterator[_File]:
    ours = {f"{wheel.dist_info}/RECORD", f"{wheel.dist_info}/INSTALLER"}
    for member, info in wheel.members.items():
        if member in pruned or member in ours:
            continue
        scheme, path = wheel.split(member)
        mode = 0o755 if scheme == "scripts" or wheel.executable(member) else 0o644
        checksum = wheel.checksum(member)
        if checksum is None:
            yield _written(scheme, path, wheel.read(member), schemes, mode)
        elif scheme == "scripts" and wheel.head(member, len(_SHEBANG)) == _SHEBANG:
            yield _written(scheme, path, _with_shebang(wheel.read(member), prefix), schemes, mode)
        else:
            entry = Entry(
                path=_place(scheme, path, schemes), mode=mode, content=wheel.content(member), checksum=checksum
            )
            yield _File(scheme, path, entry, wheel.records[member].hash, info.file_size)


def _written(scheme: str, path: str, content: bytes, schemes: Mapping[str, str], mode: int = 0o644) -> _File:
    entry = Entry(path=_place(scheme, path, schemes), mode=mode, content=content)
    return _File(scheme, path, entry, _hash(content), len(content))


def _hash(content: bytes) -> str:
    return hash_text("sha256", hashlib.sha256(content).digest())


def _script_text(script: Script, prefix: str) -> bytes:
    imported = script.attribute.partition(".")[0]
    text = _SCRIPT.format(prefix=prefix, module=script.module, imported=imported, attribute=script.attribute)
    return text.encode()


def _with_shebang(content: bytes, prefix: str) -> bytes:
    """A script whose first line, which begins with `#!python`, is replaced by the environment's Python."""
    return f"#!/{prefix}/bin/python\n".encode() + content.partition(b"\n")[2]


def _check(wheel: WheelFile, entries: list[Entry], skeleton: list[Entry]) -> None:
    own = {entry.path for entry in skeleton}
    seen: set[str] = set()
    for entry in entries:
        if entry.path in own:
            raise wheel.error(f"would replace the environment's own {entry.path!r}")
        if entry.path in seen:
            raise wheel.error(f"would install {entry.path!r} twice, from two of its files, scripts and generated files")
        seen.add(entry.path)
    if clash := file_below_file(seen | own):
        raise wheel.error(f"would install {clash!r} as a file and as a directory")


def _link(path: str, to: str) -> Entry:
    return Entry(path=path, mode=0o777, link=to)
