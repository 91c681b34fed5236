from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine
from services_maker import make_services

from hatch_docker.config import Settings
from hatch_docker.errors import EngineError
from hatch_docker.index import settings as settings_module
from hatch_docker.index.settings import IndexSettings, discover
from hatch_docker.locks import named_indexes
from hatch_docker.oci.reference import Reference
from hatch_docker.support.threads import together


@pytest.fixture
def discoveries(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record the arguments of each discovery of index settings, which runs pip in another process."""
    recorded: list[dict[str, Any]] = []

    def record(**options: Any) -> IndexSettings:
        recorded.append(options)
        return discover(**options)

    monkeypatch.setattr(settings_module, "discover", record)
    return recorded


class TestSettings:
    def test_settings_override_the_host(self, tmp_path: Path) -> None:
        assert make_services(tmp_path).cache.root == tmp_path / "cache"
        assert make_services(tmp_path).threads == 3
        given = make_services(tmp_path, Settings(cache_dir=str(tmp_path / "given"), threads=7))
        assert given.cache.root == tmp_path / "given"
        assert given.threads == 7

    def test_services_are_made_when_they_are_used(self, tmp_path: Path, discoveries: list[dict[str, Any]]) -> None:
        make_services(tmp_path).indexes(named_indexes(None))
        assert discoveries == []
        assert list(tmp_path.iterdir()) == []

    def test_connects_to_the_engine_once(self, tmp_path: Path) -> None:
        with FakeEngine() as fake:
            services = make_services(tmp_path, environ={"DOCKER_HOST": fake.address})
            assert len(set(map(id, together(lambda _: services.engine(), range(8), threads=8)))) == 1

    def test_no_engine(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="no container engine answers"):
            make_services(tmp_path).engine()

    def test_registries_use_the_settings(self, tmp_path: Path) -> None:
        settings = Settings(registry_mirrors={"docker.io": "127.0.0.1:1"}, insecure_registries=frozenset({"127.0.0.1"}))
        registry = make_services(tmp_path, settings).registry
        assert registry._mirror(Reference.parse("python:3")) == Reference.parse("127.0.0.1:1/library/python:3")


class TestIndexes:
    def test_discovers_indexes_once_for_all_threads(self, tmp_path: Path, discoveries: list[dict[str, Any]]) -> None:
        indexes = make_services(tmp_path, index_url="https://me:secret@index.example/simple").indexes(
            named_indexes(None)
        )
        found = together(lambda _: indexes.resolver.variables(), range(8), threads=8)
        assert len(discoveries) == 1
        assert found == [{"UV_DEFAULT_INDEX": "https://me:secret@index.example/simple"}] * 8

    def test_index_of_the_project_overrides_the_lock_s(self, tmp_path: Path) -> None:
        lock = tmp_path / "requirements.txt"
        lock.write_text("--index-url https://lock.example/simple\n--extra-index-url https://extra.example/simple\n")
        urls = {
            "": ["https://lock.example/simple", "https://extra.example/simple"],
            "https://project.example/simple": ["https://project.example/simple", "https://extra.example/simple"],
        }
        for configured, expected in urls.items():
            indexes = make_services(tmp_path, index_url=configured).indexes(named_indexes(lock))
            assert indexes.finder.indexes() == expected
            assert list(indexes.resolver.configured) == expected

    def test_indexes_of_the_environment_need_no_discovery(
        self, tmp_path: Path, discoveries: list[dict[str, Any]]
    ) -> None:
        indexes = make_services(tmp_path, environ={"UV_DEFAULT_INDEX": "https://uv.example/simple"}).indexes(
            named_indexes(None)
        )
        assert indexes.finder.indexes() == ["https://uv.example/simple"]
        assert indexes.resolver.configured == []
        assert discoveries == []


class TestOneRun:
    def test_pull_requests_cached_files_again(self, tmp_path: Path) -> None:
        assert make_services(tmp_path).archives.fresh > timedelta(0)
        assert make_services(tmp_path, Settings(pull=True)).archives.fresh == timedelta(0)

    def test_no_cache_keeps_what_protects_and_explains(self, tmp_path: Path) -> None:
        before = make_services(tmp_path).cache
        kinds = {"debian-release": True, "tags": True, "layers": False, "compiled": False, "bases": False}
        for kind in kinds:
            before.put(kind, "key", {})
        cache = make_services(tmp_path, Settings(no_cache=True)).cache
        assert {kind: cache.get(kind, "key") is not None for kind in kinds} == kinds
