"""`hatch-docker push`: its results, output and errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_registry import FakeRegistry
from image_maker import ARM64, make_image

from hatch_docker.frontends.cli.main import main
from hatch_docker.oci.archive import archive, write_layout
from hatch_docker.oci.image import ImageIndex
from hatch_docker.oci.reference import Reference
from hatch_docker.support.dataclasses import dataclass

INDEX = ImageIndex(images=(make_image("one"), make_image("two", platform=ARM64)))
OTHER = make_image("other")
NAME = Reference.parse("registry.example/app:1.0")


@dataclass(frozen=True)
class Outcome:
    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Bench:
    registry: FakeRegistry
    capsys: pytest.CaptureFixture[str]

    def push(self, *arguments: object) -> Outcome:
        """Run the command; `HOST` in an argument is the registry."""
        status: object = 0
        try:
            main(["push", *(str(each).replace("HOST", self.registry.host) for each in arguments)])
        except SystemExit as ended:
            status = ended.code
        captured = self.capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(int(str(status)), captured.out, captured.err)

    @property
    def tags(self) -> dict[tuple[str, str], bytes]:
        return {(name, tag): data for (name, tag), (_, data) in self.registry.manifests.items() if ":" not in tag}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    """A registry, and a current folder with two archives and a layout, but no project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda _: None)
    (tmp_path / "app.tar").write_bytes(b"".join(archive(INDEX.node, [NAME])))
    write_layout(tmp_path / "layout", INDEX.node, [NAME])
    write_layout(tmp_path / "layout", OTHER.node, [NAME.with_tag("other")])
    with FakeRegistry() as registry:
        yield Bench(registry, capsys)


class TestPush:
    def test_one_line_for_each_reference(self, bench: Bench) -> None:
        result = bench.push("app.tar", "HOST/app:1.0", "HOST/app", "HOST/other:1")
        assert result.status == 0
        digest, host = INDEX.descriptor.digest, bench.registry.host
        assert result.output.splitlines() == [f"{host}/{name}@{digest}" for name in ("app", "app", "other")]
        assert bench.tags == dict.fromkeys([("app", "1.0"), ("app", "latest"), ("other", "1")], INDEX.index_bytes)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("layout:other", OTHER.descriptor.digest), ("layout:1.0", INDEX.descriptor.digest)]
        + [(f"layout:{image.digest}", image.digest) for image in INDEX.images],
    )
    def test_chooses_an_image(self, bench: Bench, name: str, expected: str) -> None:
        assert bench.push("-q", name, "HOST/app") == Outcome(0, f"{bench.registry.host}/app@{expected}\n", "")

    def test_path_with_a_colon(self, bench: Bench) -> None:
        Path("app.tar").rename("app:1.tar")
        assert bench.push("app:1.tar", "HOST/app").status == 0

    def test_same_image_again(self, bench: Bench) -> None:
        bench.registry.immutable = True
        for _ in range(2):
            assert bench.push("app.tar", "HOST/app:1.0").status == 0


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("missing.tar", "No such file"),
            ("layout", "it has several images"),
            ("layout:2.0", "it has no image named '2.0'"),
            ("text.txt", "not an image layout"),
            ("empty", "it is not an image"),
        ],
    )
    def test_files(self, bench: Bench, name: str, says: str) -> None:
        Path("text.txt").write_text("text" * 1000)
        Path("empty").mkdir()
        result = bench.push(name, "HOST/app")
        assert (result.status, result.output) == (1, "")
        assert says in result.errors
        assert "hint" in result.errors
        assert not bench.registry.requests

    def test_all_wrong_references_at_once(self, bench: Bench) -> None:
        wrong = ["HOST/App:1", "app:1", f"HOST/app@{OTHER.digest}", "HOST/app:a:b", "HOST:port/app"]
        result = bench.push("app.tar", "HOST/right:1", *wrong)
        assert (result.status, result.output) == (2, "")
        for each in wrong:
            assert each.replace("HOST", bench.registry.host) in result.errors
        assert "lower case" in result.errors
        assert "names no registry" in result.errors
        assert "not to a digest" in result.errors
        assert not bench.registry.requests

    def test_wrong_settings(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HATCH_DOCKER_THREADS", "many")
        result = bench.push("app.tar", "HOST/app")
        assert (result.status, result.output) == (1, "")
        assert "HATCH_DOCKER_THREADS" in result.errors

    def test_refusal(self, bench: Bench) -> None:
        bench.registry.indexes = False
        result = bench.push("app.tar", "HOST/app")
        assert (result.status, result.output) == (1, "")
        assert "does not accept an index" in result.errors
        assert not bench.tags

    def test_no_reference(self, bench: Bench) -> None:
        assert bench.push("app.tar").status == 2

    def test_empty_name(self, bench: Bench) -> None:
        """As of a variable that is not set."""
        assert "FILE: it is empty" in bench.push("", "HOST/app").errors
