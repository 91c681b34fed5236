"""Make prepared wheels from small wheels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wheel_maker import make_wheel

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.oci.spec import Platform
from hatch_docker.support.streams import file_digest
from hatch_docker.wheels.facts import read_facts
from hatch_docker.wheels.prepare import PreparedWheel
from hatch_docker.wheels.wheelfile import WheelFile

TARGET = TargetPython(
    version="3.13.5",
    interpreter="/usr/local/bin/python3.13",
    platform=Platform(architecture="amd64"),
    libc=Libc(kind="glibc", version=(2, 36)),
)


def make_prepared(
    folder: Path, name: str = "demo", files: Mapping[str, str | bytes] = {}, **more: Any
) -> PreparedWheel:
    """Make a wheel in `folder`, and prepare it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = make_wheel(folder, name, files=files or {f"{name}.py": f"# {name}"}, **more)
    with WheelFile(path, path.name) as wheel, path.open("rb") as file:
        digest = file_digest(file)
        return PreparedWheel(facts=read_facts(wheel), filename=path.name, digest=digest, get=lambda _stop: path)
