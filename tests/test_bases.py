from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from base_maker import FakeBase, make_base, serve
from fake_engine import FakeEngine
from fake_registry import FakeRegistry
from image_maker import AMD64, ARM64
from packaging.specifiers import SpecifierSet
from services_maker import make_services

from hatch_docker.base.families import BASES, PYTHONS, admitted_of, family_pythons
from hatch_docker.base.image import Base, facts_of, open_base
from hatch_docker.base.transports import BaseRequest, PulledBase, pull
from hatch_docker.compiling.builder import builder_spec
from hatch_docker.config import BaseSpec
from hatch_docker.engine.client import Engine
from hatch_docker.errors import BaseError, ImageError, RegistryError
from hatch_docker.oci.archive import archive
from hatch_docker.oci.image import Image, validate
from hatch_docker.oci.layout import open_files
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import layout_source
from hatch_docker.oci.source import pull as pull_from
from hatch_docker.oci.spec import Platform
from hatch_docker.services import Services
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.http import Http, Network
from hatch_docker.support.progress import Progress

SLIM = BaseSpec(transport="family", value="slim")


@dataclass
class Notes(Progress):
    texts: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.texts.append(text)


@dataclass
class Hub:
    """A mirror of Docker Hub, which itself cannot be reached; and no engine, unless `engine` is set."""

    registry: FakeRegistry
    folder: Path
    notes: Notes = field(default_factory=Notes)
    engine: Engine | None = None

    def serve(self, tag: str, base: FakeBase) -> str:
        return serve(make_base(self.folder / tag, base), self.registry, "library/python", tag)

    def open(
        self, base: BaseSpec = SLIM, *, python: str = "", requires_python: str = "", platform: Platform = AMD64
    ) -> Base:
        request = BaseRequest(spec=base, platform=platform, python=python, requires_python=requires_python)
        return open_base(request, self.services)

    def pull(self, base: BaseSpec, python: str = "3.13") -> PulledBase:
        return pull(BaseRequest(spec=base, platform=AMD64, python=python), self.services)

    @property
    def services(self) -> Services:
        http, mirrors = Http(Network(proxies={"https": "http://127.0.0.1:1"})), {"docker.io": self.registry.host}
        made = make_services(self.folder, progress=self.notes)
        return replace(
            made,
            registry=Registry(http, credentials=Credentials(), mirrors=mirrors),
            engine=lambda: self.engine or pytest.fail("an engine was used"),
            archives=replace(made.archives, http=http, root=self.folder),
        )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # between retries of Docker Hub
    with FakeRegistry() as registry:
        yield Hub(registry, tmp_path)


def from_registry(text: str) -> BaseSpec:
    return BaseSpec(transport="registry", value=text, reference=Reference.parse(text))


class TestAdmittedPythons:
    @pytest.mark.parametrize(
        ("requires", "newest"),
        [
            ("", "3.14"),
            (">=3.10", "3.14"),
            (">=3.11,<3.14", "3.13"),
            ("<3.13", "3.12"),
            ("~=3.12.3", "3.12"),
            ("==3.12.*", "3.12"),
            ("==3.12.4", "3.12"),
            (">=3.12.4,<3.12.8", "3.12"),
            (">3.11.5,<3.12", "3.11"),
            ("!=3.14.0,!=3.14.1", "3.14"),
            ("!=3.14.*", "3.13"),
        ],
    )
    def test_newest_first(self, requires: str, newest: str) -> None:
        assert family_pythons(requires)[0] == newest
        assert any(SpecifierSet(requires).contains(f"{newest}.{patch}") for patch in range(30))

    def test_all_in_order(self) -> None:
        assert family_pythons("") == list(PYTHONS)
        assert family_pythons(">=3.12") == ["3.14", "3.13", "3.12"]
        assert family_pythons(">=3.12", "3.12") == ["3.12"]

    def test_newer_ones_are_tried_if_they_are_named_or_nothing_else_is_admitted(self) -> None:
        assert family_pythons("", "3.15") == family_pythons(">=3.15", "3.15") == ["3.15"]
        assert family_pythons(">=3.10", "3.99") == ["3.99"]
        assert family_pythons(">=3.15") == ["3.16", "3.15"]
        assert family_pythons(">=3.15,<3.16") == ["3.15"]
        with pytest.raises(BaseError, match="admits no Python"):
            family_pythons(">=3.17")
        with pytest.raises(BaseError, match=r"Python 3\.15 is excluded by requires-python"):
            family_pythons("<3.15", "3.15")

    def test_no_admitted_python(self) -> None:
        with pytest.raises(BaseError, match=r'requires-python = "<3\.8" admits no Python') as caught:
            family_pythons("<3.8")
        assert "3.14, 3.13" in caught.value.hint

    @pytest.mark.parametrize(
        ("requires", "admitted"),
        [
            ("", ["3.13", "3.12", "3.9"]),
            (">=3.10", ["3.13", "3.12"]),
            # The patch release is not known yet.
            ("==3.12.4", ["3.12"]),
            (">=3.12.4,<3.13", ["3.12"]),
            ("!=3.13.*", ["3.12", "3.9"]),
            (">3.12,<3.13", ["3.12"]),
            (">=3.14", []),
            ("<3.9", []),
        ],
    )
    def test_of_other_pythons(self, requires: str, admitted: list[str]) -> None:
        assert admitted_of(["3.13", "3.12", "3.9"], requires) == admitted

    @pytest.mark.parametrize(
        ("python", "message", "hint"),
        [
            ("3.11", 'Python 3.11 is excluded by requires-python = ">=3.13"', "set one of 3.14, 3.13"),
            ("3.9", "the base families have no Python 3.9", "set one of 3.14, 3.13"),
        ],
    )
    def test_configured_python_is_not_admitted(self, python: str, message: str, hint: str) -> None:
        with pytest.raises(BaseError, match=message) as caught:
            family_pythons(">=3.13", python)
        assert caught.value.hint == hint


class TestFamilies:
    def test_newest_python_in_the_registry(self, hub: Hub) -> None:
        hub.serve("3.12-slim", FakeBase(python="3.12.9"))
        digest = hub.serve("3.13-slim", FakeBase(python="3.13.5"))
        base = hub.open()
        assert base.name == "python:3.13-slim"
        assert base.digest == digest
        assert str(base.facts.python) == "CPython 3.13.5 on linux/amd64 (glibc 2.41)"
        assert base.reference == Reference.parse("python:3.13-slim")
        assert hub.notes.texts == ["the base is python:3.13-slim: the registry has no python:3.14-slim"]
        assert validate(base.image) == []

    def test_python_of_the_project(self, hub: Hub) -> None:
        hub.serve("3.12-alpine", FakeBase(python="3.12.9", libc="musl"))
        hub.serve("3.13-alpine", FakeBase(python="3.13.5", libc="musl"))
        alpine = replace(SLIM, value="alpine")
        assert hub.open(alpine, python="3.12").facts.python.version == "3.12.9"
        assert hub.open(alpine, requires_python="<3.13").facts.python.version == "3.12.9"
        assert str(hub.open(alpine).facts.python.libc) == "musl 1.2"

    def test_python_newer_than_the_known_ones(self, hub: Hub) -> None:
        hub.serve("3.13-slim", FakeBase(python="3.13.5"))
        hub.serve("3.15-slim", FakeBase(python="3.15.1"))
        for python, requires_python in (("3.15", ""), ("", ">=3.15")):
            found = hub.open(python=python, requires_python=requires_python).facts.python
            assert (found.version, found.environment["python_version"]) == ("3.15.1", "3.15")
            assert str(found.tags[0]).startswith("cp315-cp315-")
        with pytest.raises(BaseError, match=r"python:3\.16-slim") as caught:
            hub.open(python="3.16")
        assert "it has 3.13: set python" in caught.value.hint

    def test_registry_has_only_excluded_pythons(self, hub: Hub) -> None:
        hub.serve("3.11-slim", FakeBase(python="3.11.9"))
        with pytest.raises(BaseError, match="the base 'slim' has no Python that fits") as caught:
            hub.open(requires_python=">=3.12")
        assert "it has 3.11: set python, or widen requires-python" in caught.value.hint

    def test_other_errors_of_the_registry_end_the_search(self, hub: Hub) -> None:
        hub.registry.auth = "basic"
        hub.serve("3.13-slim", FakeBase())
        with pytest.raises(RegistryError) as caught:
            hub.open()
        assert caught.value.status == 401
        assert hub.notes.texts == []


class TestChecks:
    def test_another_python_than_configured(self, hub: Hub) -> None:
        hub.serve("latest", FakeBase(python="3.12.9"))
        with pytest.raises(BaseError, match=r"python:latest has Python 3\.12\.9, not 3\.13") as caught:
            hub.open(from_registry("python:latest"), python="3.13")
        assert 'set python = "3.12"' in caught.value.hint

    def test_a_patch_release_that_requires_python_excludes(self, hub: Hub) -> None:
        hub.serve("3.13-slim", FakeBase(python="3.13.5"))
        with pytest.raises(BaseError, match=r'has Python 3\.13\.5, which requires-python = ">=3\.13\.6" excludes'):
            hub.open(python="3.13", requires_python=">=3.13.6")

    def test_accepts_a_prerelease(self, hub: Hub) -> None:
        hub.serve("rc", FakeBase(python="3.14.0rc1"))
        assert hub.open(from_registry("python:rc"), requires_python=">=3.13").facts.python.minor == "3.14"

    def test_path_of_the_venv_exists_already(self, hub: Hub) -> None:
        hub.serve("ours", FakeBase(files={"app/.venv/pyvenv.cfg": b""}))
        with pytest.raises(BaseError, match=r"python:ours: the base image already has something at /app/\.venv"):
            hub.open(from_registry("python:ours"))

    def test_parent_of_the_venv_is_a_link(self, hub: Hub) -> None:
        hub.serve("linked", FakeBase(links={"app": "/srv"}))
        with pytest.raises(BaseError, match="python:linked: in the base image /app is a symbolic link"):
            hub.open(from_registry("python:linked"))

    def test_no_python(self, hub: Hub) -> None:
        hub.serve("none", FakeBase(python=""))
        with pytest.raises(BaseError, match="has no Python"):
            hub.open(from_registry("python:none"))

    def test_another_platform(self, hub: Hub) -> None:
        make_base(hub.folder / "layout", FakeBase(), FakeBase(architecture="arm64"))
        layout = BaseSpec(transport="oci", value="layout")
        assert hub.open(layout, platform=ARM64).facts.python.machine == "aarch64"
        with pytest.raises(BaseError, match=r"nothing for linux/s390x; it has linux/amd64, linux/arm64"):
            hub.open(layout, platform=Platform(architecture="s390x"))


class TestBuilders:
    ALPINE = BaseSpec(transport="family", value="alpine")

    def test_family_with_a_builder(self) -> None:
        assert builder_spec(SLIM, None, "3.12") == (from_registry("python:3.12"), False)

    @pytest.mark.parametrize("base", [ALPINE, from_registry("python:3.13-slim"), BaseSpec(transport="oci", value="x")])
    def test_other_bases_get_a_toolchain(self, base: BaseSpec) -> None:
        chosen, toolchain = builder_spec(base, None, "3.13")
        assert chosen is base
        assert toolchain

    def test_configured_image_gets_no_toolchain(self) -> None:
        named = from_registry("registry.example/team/builder:3.13")
        assert builder_spec(SLIM, named, "3.13") == (named, False)
        base = from_registry("python:3.13-slim")
        assert builder_spec(base, base, "3.13") == (base, False)

    def test_configured_family_means_its_builder(self) -> None:
        base = from_registry("registry.example/team/base:1")
        assert builder_spec(base, SLIM, "3.13") == (from_registry("python:3.13"), False)
        assert builder_spec(base, self.ALPINE, "3.13") == (self.ALPINE, True)
        # The same family is the opened base: its tag is not resolved again.
        assert builder_spec(self.ALPINE, replace(self.ALPINE), "3.13")[0] is self.ALPINE

    @pytest.mark.parametrize("family", BASES)
    @pytest.mark.parametrize("python", PYTHONS)
    def test_pulls_the_builder_of_every_family(self, hub: Hub, family: str, python: str) -> None:
        chosen, _ = builder_spec(BaseSpec(transport="family", value=family), None, python)
        tag = {"slim": python, "alpine": f"{python}-alpine"}[family]
        digest = hub.serve(tag, FakeBase(python=f"{python}.1"))
        base = hub.pull(chosen, python)
        assert (base.reference, base.pulled.digest) == (Reference.parse(f"python:{tag}"), digest)

    def test_pull_does_not_check_contents(self, hub: Hub) -> None:
        hub.serve("none", FakeBase(python=""))
        pulled = hub.pull(from_registry("python:none")).pulled
        assert validate(pulled.image) == []
        with pytest.raises(BaseError, match="has no Python"):
            facts_of(pulled.image, hub.services.cache, 2)

    def test_errors_name_the_image(self, hub: Hub) -> None:
        hub.serve("3.13", FakeBase(architecture="arm64"))
        with pytest.raises(BaseError) as caught:
            hub.pull(from_registry("python:3.13"))
        assert "python:3.13" in str(caught.value)
        assert caught.value.hint


class TestOffline:
    def test_cached_base_by_digest_needs_no_registry(self, hub: Hub) -> None:
        digest = hub.serve("3.13-slim", FakeBase())
        named = from_registry(f"python:3.13-slim@{digest}")
        first = hub.open(named)
        hub.registry.manifests.clear()
        hub.registry.blobs.clear()
        again = hub.open(named)
        assert again.image.config_bytes == first.image.config_bytes
        assert again.facts == first.facts
        assert validate(again.image) == []

    @pytest.mark.parametrize("base", [from_registry("python:3.13-slim"), SLIM])
    def test_error_for_a_tag_has_its_last_digest(self, hub: Hub, base: BaseSpec) -> None:
        digest = hub.serve("3.13-slim", FakeBase())
        hub.open(base, python="3.13")
        hub.registry.auth = "basic"
        with pytest.raises(RegistryError) as caught:
            hub.open(base, python="3.13")
        assert f'base = "python:3.13-slim@{digest}"' in caught.value.hint

    def test_error_for_a_tag_that_was_never_pulled_has_no_digest(self, hub: Hub) -> None:
        with pytest.raises(RegistryError) as caught:
            hub.open(from_registry("python:3.13-slim"))
        assert "by digest" not in caught.value.hint

    def test_facts_are_read_once(self, hub: Hub) -> None:
        digest = hub.serve("3.13-slim", FakeBase())
        named = from_registry(f"python@{digest}")
        first = hub.open(named)
        for path in (hub.folder / "cache" / "blobs").rglob("*"):
            if path.is_file() and path.stat().st_size > 0 and path.read_bytes()[:2] == b"\x1f\x8b":
                path.unlink()
        hub.registry.requests.clear()
        assert hub.open(named).facts == first.facts
        assert hub.registry.requests == []

    def test_damaged_facts_are_read_again(self, hub: Hub) -> None:
        hub.serve("3.13-slim", FakeBase())
        first = hub.open()
        cache = Cache(hub.folder / "cache")
        for path in (cache.root / "bases").iterdir():
            path.write_text(path.read_text().replace("linux/amd64", "a/b/c/d"))
        assert hub.open().facts == first.facts


class TestTransports:
    @pytest.fixture
    def image(self, hub: Hub) -> Image:
        files = open_files(make_base(hub.folder / "layout", FakeBase()))
        cache = Cache(hub.folder / "layout-cache")
        return pull_from(layout_source(files, ""), AMD64, cache, progress=Progress()).image

    @staticmethod
    def write(path: Path, image: Image) -> bytes:
        data = b"".join(archive(image.node, [Reference.parse("team/base:1")]))
        path.write_bytes(data)
        return data

    def test_layout(self, hub: Hub, image: Image) -> None:
        base = hub.open(BaseSpec(transport="oci", value="layout"))
        assert (base.name, base.reference) == ("oci:layout", None)
        assert base.facts.python.version == "3.13.5"

    @pytest.mark.parametrize(("transport", "name"), [("oci-archive", "1"), ("docker-archive", "team/base:1")])
    def test_archives(self, hub: Hub, image: Image, transport: str, name: str) -> None:
        self.write(hub.folder / "base.tar", image)
        for each in ("", name):
            base = hub.open(BaseSpec(transport=transport, value="base.tar", name=each))
            assert base.facts.python.version == "3.13.5"
            assert validate(base.image) == []
        with pytest.raises(ImageError, match="it has no image named 'other'"):
            hub.open(BaseSpec(transport=transport, value="base.tar", name="other"))

    @pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive"])
    def test_path_does_not_exist(self, hub: Hub, transport: str) -> None:
        with pytest.raises(ImageError) as caught:
            hub.open(BaseSpec(transport=transport, value="nothing"))
        assert caught.value.place == str(hub.folder / "nothing")

    @pytest.fixture
    def engine(self, hub: Hub, image: Image) -> Iterator[FakeEngine]:
        with FakeEngine(saved=self.write(hub.folder / "base.tar", image)) as engine:
            engine.images["team/base:1"] = {"Id": image.config_descriptor.digest}
            hub.engine = Engine.connect({"DOCKER_HOST": engine.address})
            yield engine

    def test_engine_saves_the_image_once(self, hub: Hub, engine: FakeEngine) -> None:
        daemon = BaseSpec(transport="docker-daemon", value="team/base:1")
        first = hub.open(daemon)
        assert first.facts.python.version == "3.13.5"
        assert validate(first.image) == []
        engine.saved = b"gone"
        assert hub.open(daemon).image.config_bytes == first.image.config_bytes
        engine.images["team/base:1"] = {"Id": "sha256:" + "1" * 64}
        with pytest.raises(ImageError):
            hub.open(daemon)

    def test_image_is_not_cached_if_its_name_moves_while_it_is_saved(
        self, hub: Hub, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = BaseSpec(transport="docker-daemon", value="team/base:1")
        before, save = {"Id": "sha256:" + "1" * 64}, Engine.save
        engine.images["team/base:1"], after = before, engine.images["team/base:1"]

        def move_and_save(self: Engine, name: str) -> Iterator[bytes]:
            engine.images[name] = after
            return save(self, name)

        monkeypatch.setattr(Engine, "save", move_and_save)
        hub.open(daemon)
        engine.images["team/base:1"], engine.saved = before, b"another image"
        with pytest.raises(ImageError):
            hub.open(daemon)

    def test_image_of_the_engine_for_another_platform(self, hub: Hub, engine: FakeEngine) -> None:
        with pytest.raises(BaseError, match="docker-daemon:team/base:1: the base image has nothing for linux/arm64"):
            hub.open(BaseSpec(transport="docker-daemon", value="team/base:1"), platform=ARM64)
