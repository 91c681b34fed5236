from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_maker import make_image
from prepared_maker import TARGET

from hatch_docker.base.facts import BaseFacts
from hatch_docker.base.image import Base
from hatch_docker.errors import EngineError
from hatch_docker.image.outputs import check_loadable
from hatch_docker.image.report import Built, BuiltImage, document, how_to_run, table, tables
from hatch_docker.oci.image import append
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import replace

FACTS = BaseFacts(python=TARGET, links={}, directories=frozenset(), occupied=False)
BASE = make_image("base", "more")
IMAGE = append(BASE, make_image("a", "b").layers, make_image("a", "b").history, BASE.config)
BUILT_IMAGE = BuiltImage(
    version="1.0",
    image=IMAGE,
    base=Base(name="python:3.13-slim", image=BASE, digest="sha256:" + "0" * 64, reference=None, facts=FACTS),
    layers=(
        MadeLayer(layer=replace(IMAGE.layers[2], unpacked=5_000_000), contents=("numpy 2.0",), reused=True),
        MadeLayer(
            layer=replace(IMAGE.layers[3], unpacked=999), contents=tuple(f"p{n} 1.{n}" for n in range(9)), reused=False
        ),
    ),
    lock="uv.lock",
)
BUILT = Built(
    name="my-app",
    version="1.0",
    references=(Reference.parse("registry.example/my-app:1.0"), Reference.parse("registry.example/my-app:latest")),
    images=(BUILT_IMAGE,),
)


def with_config(**changes: Any) -> Built:
    image = replace(IMAGE, config=replace(IMAGE.config, **changes))
    return replace(BUILT, images=(replace(BUILT_IMAGE, image=image),))


class TestResultFile:
    def test_describes_the_image(self) -> None:
        made = json.loads(json.dumps(document(BUILT, {"push": ["x"], "archive": ["y"]})))
        assert made["reference"] == f"registry.example/my-app@{IMAGE.digest}"
        assert made["references"] == ["registry.example/my-app:1.0", "registry.example/my-app:latest"]
        assert made["digest"] == IMAGE.digest
        (image,) = made["images"]
        assert (image["digest"], image["image-id"]) == (IMAGE.digest, IMAGE.config_descriptor.digest)
        assert image["platform"] == "linux/amd64"
        assert image["base"] == {"name": "python:3.13-slim", "digest": BUILT_IMAGE.base.digest, "layers": 2}
        assert image["size"] == sum(layer.descriptor.size for layer in IMAGE.layers)
        assert [layer["contents"] for layer in image["layers"]] == [
            list(layer.contents) for layer in BUILT_IMAGE.layers
        ]
        assert image["layers"][0]["digest"] == IMAGE.layers[2].descriptor.digest
        assert made["outputs"] == {"archive": "y", "push": "x"}


class TestTable:
    def test_lists_layers_with_contents_and_sizes(self) -> None:
        head, rule, base, numpy, small, total = table(BUILT_IMAGE)
        assert head.split() == ["layer", "size", "unpacked"]
        assert set(rule.strip()) == {"─"}
        assert base.startswith("  python:3.13-slim (base, 2 layers)")
        assert numpy.split()[-3:] == ["5.0", "MB", "reused"]
        assert small.startswith("  p0 1.0 · p1 1.1 · p2 1.2 · 6 more")
        assert small.split()[-1] == "made"
        size = sum(layer.descriptor.size for layer in IMAGE.layers[2:])
        assert total.startswith(f"  total, {size} B above the base")

    def test_layers_of_bytecode_are_one_row(self) -> None:
        numpy, small = BUILT_IMAGE.layers
        library = replace(small, contents=("bytecode of the standard library",))
        code = replace(numpy, contents=("bytecode of numpy",))
        named = replace(small, contents=("bytecode 1.0",))
        layers = (library, numpy, code, replace(code, contents=("bytecode of p0, p1 and 7 others",)), small, named)
        mixed = (code, replace(library, contents=("bytecode",)))
        rows = [line.split("  ")[1] for line in table(replace(BUILT_IMAGE, layers=layers))[3:-1]]
        assert rows[:3] == ["bytecode of the standard library", "numpy 2.0", "bytecode of the above (2 layers)"]
        assert rows[4:] == ["bytecode 1.0"], "a package of that name"
        (line,) = table(replace(BUILT_IMAGE, layers=mixed))[3:-1]
        assert line.endswith("5.0 MB  1 made, 1 reused")

    def test_shortens_digests(self) -> None:
        base = f"python:3.13-slim@sha256:{'0123456789abcdef' * 4}"
        named = replace(BUILT_IMAGE, base=replace(BUILT_IMAGE.base, name=base))
        assert table(named)[2].startswith("  python:3.13-slim@sha256:0123456789ab… (base")

    @given(st.lists(st.text("abcdefg-", min_size=1, max_size=90), min_size=1, max_size=6))
    def test_limits_the_length_of_lines(self, names: list[str]) -> None:
        long = replace(BUILT_IMAGE.layers[0], contents=tuple(f"{name} 1.0" for name in names))
        lines = table(replace(BUILT_IMAGE, layers=(long, BUILT_IMAGE.layers[1])))
        assert max(map(len, lines)) <= 110
        shown = lines[3].partition("  5.0 MB")[0]
        assert names[0][:50] in lines[3]
        more = len(names) - shown.count(" · ") - 1 + (" more" in shown)
        assert (f" · {more} more" in lines[3]) == (more > 0)


class TestTables:
    ARM = Platform.parse("linux/arm64")

    def of_two(self, *layers: MadeLayer) -> Built:
        image = replace(IMAGE, config=replace(IMAGE.config, platform=self.ARM))
        other = replace(BUILT_IMAGE, image=image, layers=layers or BUILT_IMAGE.layers)
        return replace(BUILT, images=(BUILT_IMAGE, other))

    def test_one_image_has_no_heading(self) -> None:
        assert tables(BUILT) == table(BUILT_IMAGE)

    def test_shared_layers_are_one_row(self) -> None:
        first, second = "\n".join(tables(self.of_two())).split("\n\n")
        assert first.splitlines() == ["  linux/amd64", *table(BUILT_IMAGE)]
        head, _, _, base, shared, total = second.splitlines()
        assert head == "  linux/arm64"
        assert base.startswith("  python:3.13-slim (base, 2 layers)")
        size = sum(made.layer.descriptor.size for made in BUILT_IMAGE.layers)
        assert shared.startswith("  2 layers of linux/amd64  ")
        assert shared.split()[-5:] == [str(size), "B", "5.0", "MB", "shared"]
        assert total.startswith("  total, ")

    def test_other_layers_have_their_rows(self) -> None:
        own = replace(BUILT_IMAGE.layers[1], layer=make_image("c").layers[0], contents=("own 1.0",))
        second = "\n".join(tables(self.of_two(BUILT_IMAGE.layers[0], own))).partition("\n\n")[2].splitlines()
        assert [line.split("  ")[1] for line in second[4:6]] == ["1 layer of linux/amd64", "own 1.0"]


class TestSeveralPlatforms:
    """The result file of an index."""

    def test_has_no_digest_of_a_config(self) -> None:
        built = TestTables().of_two()
        made = document(built, {"push": ["a", "b"]})
        assert "containerimage.config.digest" not in made
        assert made["containerimage.digest"] == built.digest
        assert made["containerimage.descriptor"]["mediaType"] == "application/vnd.oci.image.index.v1+json"
        assert [image["platform"] for image in made["images"]] == ["linux/amd64", "linux/arm64"]
        assert built.image_id == built.digest
        assert made["outputs"] == {"push": ["a", "b"]}

    def test_engine_gets_the_image_of_its_platform(self) -> None:
        platforms = [Platform.parse("linux/amd64"), TestTables.ARM]
        check_loadable(platforms, TestTables.ARM)
        with pytest.raises(
            EngineError, match="is for linux/amd64, linux/arm64, and the engine for linux/s390x"
        ) as caught:
            check_loadable(platforms, Platform.parse("linux/s390x"))
        assert "add linux/s390x to the platforms" in caught.value.hint


class TestHowToRun:
    def test_publishes_tcp_ports(self) -> None:
        made = with_config(exposed_ports=("53/udp", "8000/tcp", "9000"))
        assert how_to_run(made) == "docker run --rm -p 8000:8000 -p 9000:9000 registry.example/my-app:1.0"

    @pytest.mark.parametrize(("entrypoint", "interactive"), [(("/app",), False), (None, True), ((), True)])
    def test_is_interactive_without_an_entrypoint(self, entrypoint: tuple[str, ...] | None, interactive: bool) -> None:
        assert (" -it " in how_to_run(with_config(entrypoint=entrypoint))) is interactive
