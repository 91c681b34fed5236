from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from base_maker import FakeBase, make_base, serve
from fake_engine import FakeEngine
from fake_registry import FakeRegistry
from image_maker import AMD64, ARM64
from packaging.specifiers import SpecifierSet

from hatch_docker.base.families import BASES, PYTHONS, admitted, fit
from hatch_docker.base.image import Base, builder_spec, facts_of, open_base
from hatch_docker.base.transports import Found, Places, pull
from hatch_docker.config import BaseSpec
from hatch_docker.dpkg.archives import Archives
from hatch_docker.engine import Engine
from hatch_docker.errors import BaseError, ImageError, RegistryError
from hatch_docker.oci.archive import archive, open_files
from hatch_docker.oci.image import Image, validate
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import layout_source
from hatch_docker.oci.source import pull as pull_from
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http, Network
from hatch_docker.support.progress import Progress

SLIM = BaseSpec(transport="family", value="slim")


@dataclass
class Notes(Progress):
    texts: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.texts.append(text)


@dataclass
class Machine:
    """Where bases come from in these tests: a mirror of Docker Hub, which itself cannot be reached, and no engine."""

    hub: FakeRegistry
    folder: Path
    notes: Notes = field(default_factory=Notes)
    engine: Engine | None = None

    def serve(self, tag: str, base: FakeBase) -> str:
        return serve(make_base(self.folder / tag, base), self.hub, "library/python", tag)

    def open(
        self, base: BaseSpec = SLIM, *, python: str = "", requires_python: str = "", platform: Platform = AMD64
    ) -> Base:
        return open_base(
            base,
            python=python,
            requires_python=requires_python,
            platform=platform,
            venv="app/.venv",
            places=self.places,
            threads=2,
            progress=self.notes,
        )

    def pull(self, base: BaseSpec, python: str = "3.13") -> Found:
        return pull(base, python=python, requires_python="", platform=AMD64, places=self.places, progress=self.notes)

    @property
    def places(self) -> Places:
        http, cache = Http(Network(proxies={"https": "http://127.0.0.1:1"})), Cache(self.folder / "cache")
        return Places(
            registry=Registry(http, credentials=Credentials(), mirrors={"docker.io": self.hub.host}),
            engine=lambda: self.engine or pytest.fail("no engine is needed for that"),
            archives=Archives(http=http, cache=cache, now=datetime.now(timezone.utc), root=self.folder),
            cache=cache,
            root=self.folder,
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # before Docker Hub is tried again
    with FakeRegistry() as hub:
        yield Machine(hub, tmp_path)


def from_registry(text: str) -> BaseSpec:
    return BaseSpec(transport="registry", value=text, reference=Reference.parse(text))


class TestAdmitted:
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
    def test_the_newest_comes_first(self, requires: str, newest: str) -> None:
        assert admitted(requires)[0] == newest
        assert any(SpecifierSet(requires).contains(f"{newest}.{patch}") for patch in range(30))

    def test_all_of_them_in_order(self) -> None:
        assert admitted("") == list(PYTHONS)
        assert admitted(">=3.12") == ["3.14", "3.13", "3.12"]
        assert admitted(">=3.12", "3.12") == ["3.12"]

    def test_none_is_admitted(self) -> None:
        with pytest.raises(BaseError, match=r'requires-python = "<3\.8" admits no Python') as caught:
            admitted("<3.8")
        assert "3.14, 3.13" in caught.value.hint

    @pytest.mark.parametrize(
        ("requires", "fitting"),
        [
            ("", ["3.13", "3.12", "3.9"]),
            (">=3.10", ["3.13", "3.12"]),
            # What patch release there is will be seen.
            ("==3.12.4", ["3.12"]),
            (">=3.12.4,<3.13", ["3.12"]),
            ("!=3.13.*", ["3.12", "3.9"]),
            (">3.12,<3.13", ["3.12"]),
            (">=3.14", []),
            ("<3.9", []),
        ],
    )
    def test_those_of_some(self, requires: str, fitting: list[str]) -> None:
        assert fit(requires, ["3.13", "3.12", "3.9"]) == fitting

    @pytest.mark.parametrize(
        ("python", "message", "hint"),
        [
            ("3.11", 'Python 3.11 is excluded by requires-python = ">=3.13"', "take one of 3.14, 3.13"),
            ("3.9", "the base families have no Python 3.9", "take one of 3.14, 3.13"),
        ],
    )
    def test_another_was_asked_for(self, python: str, message: str, hint: str) -> None:
        with pytest.raises(BaseError, match=message) as caught:
            admitted(">=3.13", python)
        assert caught.value.hint == hint


class TestFamilies:
    def test_the_newest_python_that_the_registry_has(self, machine: Machine) -> None:
        machine.serve("3.12-slim", FakeBase(python="3.12.9"))
        digest = machine.serve("3.13-slim", FakeBase(python="3.13.5"))
        base = machine.open()
        assert base.name == "python:3.13-slim"
        assert base.digest == digest
        assert str(base.facts.python) == "CPython 3.13.5 on linux/amd64 (glibc 2.41)"
        assert base.reference == Reference.parse("python:3.13-slim")
        assert machine.notes.texts == ["python:3.14-slim is not in the registry"]
        assert validate(base.image) == []

    def test_the_python_that_the_project_asks_for(self, machine: Machine) -> None:
        machine.serve("3.12-alpine", FakeBase(python="3.12.9", libc="musl"))
        machine.serve("3.13-alpine", FakeBase(python="3.13.5", libc="musl"))
        alpine = replace(SLIM, value="alpine")
        assert machine.open(alpine, python="3.12").facts.python.version == "3.12.9"
        assert machine.open(alpine, requires_python="<3.13").facts.python.version == "3.12.9"
        assert str(machine.open(alpine).facts.python.libc) == "musl 1.2"

    def test_none_that_fits_is_there_but_others_are(self, machine: Machine) -> None:
        machine.serve("3.11-slim", FakeBase(python="3.11.9"))
        with pytest.raises(BaseError, match="the base 'slim' has no Python that fits") as caught:
            machine.open(requires_python=">=3.12")
        assert "it has 3.11: set python, or widen requires-python" in caught.value.hint

    def test_a_registry_that_refuses_is_not_asked_for_another(self, machine: Machine) -> None:
        machine.hub.auth = "basic"
        machine.serve("3.13-slim", FakeBase())
        with pytest.raises(RegistryError) as caught:
            machine.open()
        assert caught.value.status == 401
        assert machine.notes.texts == []


class TestChecks:
    def test_another_python_than_asked_for(self, machine: Machine) -> None:
        machine.serve("latest", FakeBase(python="3.12.9"))
        with pytest.raises(BaseError, match=r"python:latest has Python 3\.12\.9, not 3\.13") as caught:
            machine.open(from_registry("python:latest"), python="3.13")
        assert 'set python = "3.12"' in caught.value.hint

    def test_a_patch_release_that_requires_python_excludes(self, machine: Machine) -> None:
        machine.serve("3.13-slim", FakeBase(python="3.13.5"))
        with pytest.raises(BaseError, match=r'has Python 3\.13\.5, which requires-python = ">=3\.13\.6" excludes'):
            machine.open(python="3.13", requires_python=">=3.13.6")

    def test_a_prerelease_is_a_python_of_its_own_minor(self, machine: Machine) -> None:
        machine.serve("rc", FakeBase(python="3.14.0rc1"))
        assert machine.open(from_registry("python:rc"), requires_python=">=3.13").facts.python.minor == "3.14"

    def test_something_in_the_venvs_place(self, machine: Machine) -> None:
        machine.serve("ours", FakeBase(files={"app/.venv/pyvenv.cfg": b""}))
        with pytest.raises(BaseError, match=r"python:ours: the base image already has something at /app/\.venv"):
            machine.open(from_registry("python:ours"))

    def test_a_link_on_the_way_to_the_venv(self, machine: Machine) -> None:
        machine.serve("linked", FakeBase(links={"app": "/srv"}))
        with pytest.raises(BaseError, match="python:linked: in the base image /app is a symbolic link"):
            machine.open(from_registry("python:linked"))

    def test_no_python(self, machine: Machine) -> None:
        machine.serve("none", FakeBase(python=""))
        with pytest.raises(BaseError, match="has no Python"):
            machine.open(from_registry("python:none"))

    def test_another_platform(self, machine: Machine) -> None:
        make_base(machine.folder / "layout", FakeBase(), FakeBase(architecture="arm64"))
        layout = BaseSpec(transport="oci", value="layout")
        assert machine.open(layout, platform=ARM64).facts.python.machine == "aarch64"
        with pytest.raises(BaseError, match=r"nothing for linux/s390x; it has linux/amd64, linux/arm64"):
            machine.open(layout, platform=Platform(architecture="s390x"))


class TestBuilders:
    ALPINE = BaseSpec(transport="family", value="alpine")

    def test_the_familys_own_where_it_has_one(self) -> None:
        assert builder_spec(SLIM, None, "3.12") == (from_registry("python:3.12"), False)

    @pytest.mark.parametrize("base", [ALPINE, from_registry("python:3.13-slim"), BaseSpec(transport="oci", value="x")])
    def test_else_the_base_itself_with_a_toolchain(self, base: BaseSpec) -> None:
        chosen, toolchain = builder_spec(base, None, "3.13")
        assert chosen is base
        assert toolchain

    def test_an_image_that_is_named_is_complete(self) -> None:
        named = from_registry("registry.example/team/builder:3.13")
        assert builder_spec(SLIM, named, "3.13") == (named, False)
        base = from_registry("python:3.13-slim")
        assert builder_spec(base, base, "3.13") == (base, False)

    def test_a_family_that_is_named_means_its_own_builder(self) -> None:
        base = from_registry("registry.example/team/base:1")
        assert builder_spec(base, SLIM, "3.13") == (from_registry("python:3.13"), False)
        assert builder_spec(base, self.ALPINE, "3.13") == (self.ALPINE, True)
        # The same family is the base as it was opened, and not its tag looked up once more.
        assert builder_spec(self.ALPINE, replace(self.ALPINE), "3.13")[0] is self.ALPINE

    @pytest.mark.parametrize("family", BASES)
    @pytest.mark.parametrize("python", PYTHONS)
    def test_every_familys_builder_can_be_pulled(self, machine: Machine, family: str, python: str) -> None:
        chosen, _ = builder_spec(BaseSpec(transport="family", value=family), None, python)
        tag = {"slim": python, "alpine": f"{python}-alpine"}[family]
        digest = machine.serve(tag, FakeBase(python=f"{python}.1"))
        found = machine.pull(chosen, python)
        reference, pulled = found.reference, found.pulled
        assert (reference, pulled.digest) == (Reference.parse(f"python:{tag}"), digest)

    def test_an_image_is_pulled_whatever_is_in_it(self, machine: Machine) -> None:
        machine.serve("none", FakeBase(python=""))
        pulled = machine.pull(from_registry("python:none")).pulled
        assert validate(pulled.image) == []
        with pytest.raises(BaseError, match="has no Python"):
            facts_of(pulled.image, "app/.venv", machine.places.cache, 2)

    def test_an_error_of_an_image_names_it(self, machine: Machine) -> None:
        machine.serve("3.13", FakeBase(architecture="arm64"))
        with pytest.raises(BaseError) as caught:
            machine.pull(from_registry("python:3.13"))
        assert "python:3.13" in str(caught.value)
        assert caught.value.hint


class TestOffline:
    def test_by_digest_a_known_base_needs_no_registry(self, machine: Machine) -> None:
        digest = machine.serve("3.13-slim", FakeBase())
        named = from_registry(f"python:3.13-slim@{digest}")
        first = machine.open(named)
        machine.hub.manifests.clear()
        machine.hub.blobs.clear()
        again = machine.open(named)
        assert again.image.config_bytes == first.image.config_bytes
        assert again.facts == first.facts
        assert validate(again.image) == []

    @pytest.mark.parametrize("base", [from_registry("python:3.13-slim"), SLIM])
    def test_by_tag_the_digest_that_it_last_had_is_told(self, machine: Machine, base: BaseSpec) -> None:
        digest = machine.serve("3.13-slim", FakeBase())
        machine.open(base, python="3.13")
        machine.hub.auth = "basic"
        with pytest.raises(RegistryError) as caught:
            machine.open(base, python="3.13")
        assert f'base = "python:3.13-slim@{digest}"' in caught.value.hint

    def test_what_was_never_reached_has_no_such_hint(self, machine: Machine) -> None:
        with pytest.raises(RegistryError) as caught:
            machine.open(from_registry("python:3.13-slim"))
        assert "by digest" not in caught.value.hint

    def test_facts_are_read_once(self, machine: Machine) -> None:
        digest = machine.serve("3.13-slim", FakeBase())
        named = from_registry(f"python@{digest}")
        first = machine.open(named)
        for path in (machine.folder / "cache" / "blobs").rglob("*"):
            if path.is_file() and path.stat().st_size > 0 and path.read_bytes()[:2] == b"\x1f\x8b":
                path.unlink()
        machine.hub.requests.clear()
        assert machine.open(named).facts == first.facts
        assert machine.hub.requests == []

    def test_damaged_facts_are_read_again(self, machine: Machine) -> None:
        machine.serve("3.13-slim", FakeBase())
        first = machine.open()
        cache = Cache(machine.folder / "cache")
        for path in (cache.root / "bases").iterdir():
            path.write_text(path.read_text().replace("linux/amd64", "a/b/c/d"))
        assert machine.open().facts == first.facts


class TestTransports:
    @pytest.fixture
    def image(self, machine: Machine) -> Image:
        files = open_files(make_base(machine.folder / "layout", FakeBase()))
        cache = Cache(machine.folder / "layout-cache")
        return pull_from(layout_source(files, ""), AMD64, cache, progress=Progress()).image

    @staticmethod
    def write(path: Path, image: Image) -> bytes:
        data = b"".join(archive(image, [Reference.parse("team/base:1")]))
        path.write_bytes(data)
        return data

    def test_a_layout(self, machine: Machine, image: Image) -> None:
        base = machine.open(BaseSpec(transport="oci", value="layout"))
        assert (base.name, base.reference) == ("oci:layout", None)
        assert base.facts.python.version == "3.13.5"

    @pytest.mark.parametrize(("transport", "name"), [("oci-archive", "1"), ("docker-archive", "team/base:1")])
    def test_archives(self, machine: Machine, image: Image, transport: str, name: str) -> None:
        self.write(machine.folder / "base.tar", image)
        for each in ("", name):
            base = machine.open(BaseSpec(transport=transport, value="base.tar", name=each))
            assert base.facts.python.version == "3.13.5"
            assert validate(base.image) == []
        with pytest.raises(ImageError, match="it has no image named 'other'"):
            machine.open(BaseSpec(transport=transport, value="base.tar", name="other"))

    @pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive"])
    def test_a_path_that_leads_nowhere(self, machine: Machine, transport: str) -> None:
        with pytest.raises(ImageError) as caught:
            machine.open(BaseSpec(transport=transport, value="nothing"))
        assert caught.value.place == str(machine.folder / "nothing")

    @pytest.fixture
    def engine(self, machine: Machine, image: Image) -> Iterator[FakeEngine]:
        with FakeEngine(saved=self.write(machine.folder / "base.tar", image)) as engine:
            engine.images["team/base:1"] = {"Id": image.config_descriptor.digest}
            machine.engine = Engine.connect({"DOCKER_HOST": engine.address})
            yield engine

    def test_an_engine_is_asked_for_the_image_once(self, machine: Machine, engine: FakeEngine) -> None:
        daemon = BaseSpec(transport="docker-daemon", value="team/base:1")
        first = machine.open(daemon)
        assert first.facts.python.version == "3.13.5"
        assert validate(first.image) == []
        engine.saved = b"gone"
        assert machine.open(daemon).image.config_bytes == first.image.config_bytes
        engine.images["team/base:1"] = {"Id": "sha256:" + "1" * 64}
        with pytest.raises(ImageError):
            machine.open(daemon)

    def test_a_name_that_moves_meanwhile_is_not_remembered_as_what_it_was(
        self, machine: Machine, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = BaseSpec(transport="docker-daemon", value="team/base:1")
        before, save = {"Id": "sha256:" + "1" * 64}, Engine.save
        engine.images["team/base:1"], after = before, engine.images["team/base:1"]

        def saved_after_a_move(self: Engine, name: str) -> Iterator[bytes]:
            engine.images[name] = after
            return save(self, name)

        monkeypatch.setattr(Engine, "save", saved_after_a_move)
        machine.open(daemon)
        engine.images["team/base:1"], engine.saved = before, b"another image"
        with pytest.raises(ImageError):
            machine.open(daemon)

    def test_an_engines_image_for_another_platform(self, machine: Machine, engine: FakeEngine) -> None:
        with pytest.raises(BaseError, match="docker-daemon:team/base:1: the base image has nothing for linux/arm64"):
            machine.open(BaseSpec(transport="docker-daemon", value="team/base:1"), platform=ARM64)
