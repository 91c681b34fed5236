"""The layers of the zoo that are read, in images that an engine loads: none is accepted that it refuses."""

from __future__ import annotations

import pytest
from docker import DockerClient
from tars import layer_of
from test_zoo_layers import ZOO
from zoo import is_read

from hatch_docker.oci.archive import archive
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform

# The first two depend on the file system. Engines that apply a layer to the lower ones take the others.
_DIFFER = {
    "pax SCHILY.xattr.user.x=b'yyyyyyyyyyyy'…",
    "pax SCHILY.xattr.security.capability=b'x'",
    "a file below a link that dangles",
    "a whiteout below a link",
}
# overlay2 has at most 128 layers.
_MOST = 100


@pytest.mark.engine
def test_an_engine_loads_the_layers_that_are_read(client: DockerClient, image: str) -> None:
    names = [name for name in ZOO if is_read("layers", name) and name not in _DIFFER]
    assert len(names) > _MOST
    for start in range(0, len(names), _MOST):
        layers = tuple(layer_of(ZOO[name]) for name in names[start : start + _MOST])
        config = ImageConfig(platform=Platform(architecture="amd64"))
        made = Image(config=config, layers=layers, history=tuple(History(comment="x") for _ in layers))
        answers = client.api.load_image(b"".join(archive(made.node, [Reference.parse(f"{image}:{start}")])))  # type: ignore[no-untyped-call]
        assert [each["error"] for each in answers if "error" in each] == []
