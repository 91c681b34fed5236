"""Ask an engine whether it runs containers of a platform: on a CPU of that kind, or in an emulation of one.

The container's only file is a program of a few instructions, so nothing is downloaded for the question.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import struct
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from hatch_docker.engine.translate import text, translated
from hatch_docker.errors import EngineError
from hatch_docker.oci.archive import archive
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Entry, Layer, write_layer
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass

if TYPE_CHECKING:
    from docker import APIClient

_ADDRESS = 0x10000
_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """A kind of CPU: `number` is its e_machine, `code` the instructions of exit(0) on Linux, in its byte order."""

    number: int
    code: str
    bits: int = 64
    order: str = "<"
    flags: int = 0


# By GOARCH.
_MACHINES: Mapping[str, _Machine] = {
    "386": _Machine(number=3, code="b801000000 31db cd80", bits=32),
    "amd64": _Machine(number=62, code="b83c000000 31ff 0f05"),
    "arm": _Machine(number=40, code="0170a0e3 0000a0e3 000000ef", bits=32, flags=0x5000400),
    "arm64": _Machine(number=183, code="a80b80d2 000080d2 010000d4"),
    "loong64": _Machine(number=258, code="0b748103 04008003 00002b00", flags=0x43),
    "ppc64le": _Machine(number=21, code="01000038 00006038 02000044", flags=2),
    "riscv64": _Machine(number=243, code="9308d005 13050000 73000000", flags=4),
    "s390x": _Machine(number=22, code="a7290000 0a01", order=">"),
}


def program(architecture: str) -> bytes:
    """A static ELF program that ends at once with status 0 (System V ABI, chapter 4). Raises KeyError."""
    machine = _MACHINES[architecture]
    code = bytes.fromhex(machine.code)
    wide = machine.bits == 64
    header, segment = (64, 56) if wide else (52, 32)
    start = header + segment
    size = start + len(code)
    word = "Q" if wide else "L"
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1 if machine.order == "<" else 2, 1])
    head = struct.pack(
        f"{machine.order}16sHHL{word * 3}L6H",
        *(identity, 2, machine.number, 1),
        *(_ADDRESS + start, header, 0, machine.flags),
        *(header, segment, 1, 0, 0, 0),
    )
    # In 32-bit files the flags of a segment, 5 for reading and executing, come after its sizes.
    values = (1, 5, 0, _ADDRESS, _ADDRESS, size, size, _ADDRESS)
    form = "LL6Q" if wide else "8L"
    load = struct.pack(f"{machine.order}{form}", *(values if wide else (1, *values[2:7], 5, _ADDRESS)))
    return head + load + code


def refusal(api: APIClient, platform: Platform) -> str:
    """Why the engine does not run containers of a platform; empty if it does. Raises EngineError."""
    if platform.architecture not in _MACHINES:
        return "hatch-docker has no program for this CPU to try it with"
    image, name = _image(platform), Reference.parse(f"hatch-docker/probe:{secrets.token_hex(8)}")
    with translated("the engine does not load an image of a few bytes"):
        for _ in api.load_image(archive(image.node, [name])):  # type: ignore[no-untyped-call]
            pass
    try:
        return _run(api, name.familiar, platform)
    finally:
        with contextlib.suppress(EngineError), translated("the image is not removed"):
            api.remove_image(name.familiar, force=True)


def _run(api: APIClient, image: str, platform: Platform) -> str:
    from docker.errors import APIError

    container = ""
    try:
        with translated("the engine does not answer"):
            try:
                name = f"hatch-docker-{secrets.token_hex(8)}"
                api.create_container(
                    image, name=name, command=["/probe"], platform=str(platform), network_disabled=True
                )
                container = name
                api.start(container)
            except APIError as error:
                return text(error)
            status = int(api.wait(container, timeout=_SECONDS)["StatusCode"])
            said = bytes(api.logs(container)).decode(errors="replace").strip()
        return "" if status == 0 else said or f"a program for it ends with status {status}"
    finally:
        if container:
            with contextlib.suppress(EngineError), translated("the container is not removed"):
                api.remove_container(container, v=True, force=True)


def _image(platform: Platform) -> Image:
    data = io.BytesIO()
    written = write_layer([Entry(path="probe", mode=0o755, content=program(platform.architecture))], data)
    layer = Layer(descriptor=written.descriptor, diff_id=written.diff_id, open=partial(io.BytesIO, data.getvalue()))
    history = (History.of_layer("does it run?"),)
    return Image(config=ImageConfig(platform=platform), layers=(layer,), history=history)
