"""What is chosen from a lock is cached: the answer is the same as without a cache, whatever changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_index import Notes
from mutations import many, mutated, rounds
from packaging.requirements import Requirement

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.errors import HatchDockerError, LockError
from hatch_docker.index.access import FileFinder, Indexes, ResolverSettings
from hatch_docker.locks import InstallRequest, locked, read_lock
from hatch_docker.locks.locked import Locked, LockSource, read_artifacts
from hatch_docker.oci.spec import Platform
from hatch_docker.support import toml
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace

HOST = "https://files.example"
TAGS = (
    "py3-none-any",
    "cp313-cp313-manylinux_2_17_x86_64",
    "cp313-cp313-musllinux_1_1_x86_64",
    "cp312-abi3-linux_armv7l",
)
MARKERS = (
    "",
    "platform_machine == 'x86_64'",
    "python_full_version < '3.13.2'",
    "sys_platform == 'win32'",
)
TARGET = TargetPython(
    version="3.13.5",
    interpreter="/usr/local/bin/python3",
    platform=Platform.parse("linux/amd64"),
    libc=Libc(kind="glibc", version=(2, 36)),
)
REQUEST = InstallRequest(project="demo", target=TARGET, requirements=(Requirement("a"),))

NOTHING = replace(REQUEST, requirements=())


def text_of(document: dict[str, Any]) -> str:
    return "".join(f"{key} = {toml.inline(value)}\n" for key, value in document.items() if value is not None)


def uv_lock(random: Random) -> dict[str, Any]:
    """A lock with edges that depend on the target, extras and groups."""

    def edges(names: str) -> list[dict[str, Any]]:
        chosen = [{"name": name, "marker": random.choice(MARKERS) or None} for name in names if random.random() < 0.6]
        return [each | ({"extra": ["fast"]} if random.random() < 0.2 else {}) for each in chosen]

    def package(name: str) -> dict[str, Any]:
        version = random.choice("123")
        files = [
            {"url": f"{HOST}/{name}-{version}-{tag}.whl", "hash": f"sha256:{random.randrange(10**9):064}", "size": 7}
            for tag in TAGS
            if random.random() < 0.9
        ]
        sdist = {"url": f"{HOST}/{name}-{version}.tar.gz", "hash": f"sha256:{random.randrange(10**9):064}"}
        local = {"source": {"directory": f"lib/{name}"}} if random.random() < 0.02 else {}
        return {
            "name": name,
            "version": version,
            "source": {"registry": "https://index.example/simple"},
            "dependencies": edges("abcd"),
            "optional-dependencies": {"fast": edges("e")},
            "wheels": files,
            "sdist": sdist if random.random() < 0.8 else None,
        } | local

    root = {
        "name": "demo",
        "source": {"editable": "."},
        "dependencies": [{"name": "a"}, *edges("bcd")],
        "optional-dependencies": {"more": edges("bde")},
        "dev-dependencies": {"dev": edges("ce")},
        "metadata": {"requires-dist": [{"name": "a", "specifier": random.choice(("", "", "", ">=1"))}]},
    }
    overrides = [{"name": "c", "specifier": "==1"}] if random.random() < 0.2 else []
    packages = [package(name) for name in "abcde" if random.random() < 0.99]
    bound = random.choice((">=3.10", ">=3.10", ">=3.10", "<3.13.4"))
    return {
        "version": 1,
        "revision": 3,
        "requires-python": bound,
        "manifest": {"overrides": overrides},
        "package": [root, *packages],
    }


def pylock(random: Random) -> dict[str, Any]:
    def package(name: str) -> dict[str, Any]:
        files = [
            {"url": f"{HOST}/{name}-1-{tag}.whl", "hashes": {"sha256": f"{random.randrange(10**9):064}"}}
            for tag in TAGS
            if random.random() < 0.9
        ]
        sdist = {"url": f"{HOST}/{name}-1.tar.gz", "hashes": {"sha256": "0" * 64}}
        markers = (*MARKERS, "'more' in extras", "'dev' in dependency_groups")
        return {
            "name": name,
            "version": "1",
            "marker": None if name == "a" else random.choice(markers) or None,
            "wheels": files,
            "sdist": sdist if random.random() < 0.8 else None,
        }

    packages = [package(name) for name in "abcde"]
    own = {"tool": {"hatch-docker": {"python": "3.13", "universal": True}}} if random.random() < 0.3 else {}
    return {
        "lock-version": "1.0",
        "created-by": "test",
        "extras": ["more"],
        "dependency-groups": ["dev"],
        "packages": packages,
    } | own


LOCKS: dict[str, Callable[[Random], dict[str, Any]]] = {"uv.lock": uv_lock, "pylock.toml": pylock}


class Bench:
    """A project with a lock, whose choices are cached."""

    def __init__(self, root: Path, name: str = "uv.lock") -> None:
        self.root = root
        self.lock = root / name
        self.cache = Cache(root / "cache")
        self.notes = Notes()

    @property
    def entries(self) -> list[Path]:
        return sorted((self.root / "cache" / "choices").glob("*"))

    def run(self, request: InstallRequest = REQUEST, *no_binary: str, cached: bool = True) -> Locked:
        finder = FileFinder(files=lambda _: [], cache=self.cache if cached else None)
        indexes = Indexes(finder=finder, resolver=ResolverSettings(environ={}, configured=()), locate=lambda _: [])
        self.notes = Notes()
        source = LockSource(
            root=self.root,
            configured=self.lock.name,
            earlier=self.root / "dist/pylock.demo.toml",
            indexes=lambda _: indexes,
            no_binary=frozenset(no_binary),
            progress=self.notes,
        )
        return read_artifacts(replace(request, root=self.root), source)

    def said(self, request: InstallRequest, *no_binary: str, cached: bool) -> object:
        """The artifacts and notes, or the error."""
        try:
            found: object = self.run(request, *no_binary, cached=cached)
        except HatchDockerError as error:
            found = (type(error), str(error), error.place, error.hint)
        return found, self.notes.notes


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to fail the test if a lock is read from then on."""
    return lambda: monkeypatch.setattr(locked, "read_lock", lambda *_: pytest.fail("read again"))


def simple(**package: Any) -> dict[str, Any]:
    """A uv.lock with one package."""
    file = {"url": f"{HOST}/a-1-py3-none-any.whl", "hash": f"sha256:{'0' * 64}", "size": 7}
    root = {
        "name": "demo",
        "source": {"virtual": "."},
        "dependencies": [{"name": "a"}],
        "metadata": {"requires-dist": [{"name": "a"}]},
    }
    common = {"name": "a", "version": "1", "source": {"registry": "https://index.example/simple"}, "wheels": [file]}
    return {"version": 1, "revision": 3, "requires-python": ">=3.10", "package": [root, common | package]}


@pytest.mark.parametrize("name", LOCKS)
def test_any_change_of_the_inputs_is_noticed(tmp_path: Path, name: str) -> None:
    """Few values for each input, so that most requests are for what was asked before, or for something near it."""
    bench = Bench(tmp_path, name)
    for random in rounds(6, f"choice {name}"):
        texts = [text_of(LOCKS[name](random)) for _ in range(2)]
        texts += [mutated(texts[0].encode(), random).decode(errors="replace"), texts[0]]
        for _ in range(20):
            bench.lock.write_text(random.choice(texts), encoding="utf-8")
            target = replace(
                TARGET,
                version=random.choice(("3.13.5", "3.13.1")),
                platform=Platform.parse(random.choice(("linux/amd64", "linux/arm64"))),
                libc=random.choice(
                    (TARGET.libc, Libc(kind="glibc", version=(2, 12)), Libc(kind="musl", version=(1, 2)))
                ),
                free_threaded=random.random() < 0.1,
            )
            request = replace(
                REQUEST,
                target=target,
                extras=frozenset(random.choice(([], ["more"]))),
                groups=frozenset(random.choice(([], ["dev"]))),
                requirements=(Requirement(random.choice(("a", "a", "a", "a>=1", "a>=3"))),),
            )
            no_binary = random.choice(((), (), (), ("a",), ("zzz",), (":all:",)))
            expected = bench.said(request, *no_binary, cached=False)
            for _ in range(2):
                assert bench.said(request, *no_binary, cached=True) == expected
    assert len(bench.entries) >= 3 * many(6)


def test_lock_is_not_read_again(tmp_path: Path, unread: Callable[[], None]) -> None:
    bench = Bench(tmp_path)
    bench.lock.write_text(text_of(simple()))
    first = bench.run()
    unread()
    assert bench.run() == first
    assert [each.filename for each in first.artifacts] == ["a-1-py3-none-any.whl"]


def test_what_the_project_says_is_compared_again(tmp_path: Path, unread: Callable[[], None]) -> None:
    bench = Bench(tmp_path)
    bench.lock.write_text(text_of(simple()))
    bench.run()
    unread()
    with pytest.raises(LockError, match="the lock is stale: requires b, which is not locked"):
        bench.run(replace(REQUEST, requirements=(Requirement("a"), Requirement("b"))))
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "demo"\n[tool.uv]\noverride-dependencies = ["a==1"]\n')
    with pytest.raises(LockError, match=r"has another tool\.uv\.override-dependencies"):
        bench.run()


def test_notes_are_repeated(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.lock.write_text(text_of(simple()))
    for _ in range(2):
        bench.run(REQUEST, "zzz")
        assert bench.notes.notes == ["lock: uv.lock", "no-binary names zzz, which is not a dependency"]
    assert len(bench.entries) == 1


def test_damaged_entries_are_replaced(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.lock.write_text(text_of(simple()))
    expected = bench.run()
    (entry,) = bench.entries
    whole = entry.read_bytes()
    for random in rounds(25, "choice entries"):
        entry.write_bytes(mutated(whole, random))
        assert bench.run() == expected
        assert entry.read_bytes() == whole


@pytest.mark.parametrize(
    "package",
    [
        {"source": {"directory": "lib"}, "wheels": []},
        {"source": {"registry": "wheels"}, "wheels": [{"path": "a-1-py3-none-any.whl", "hash": f"sha256:{'0' * 64}"}]},
        {"wheels": [{"url": f"{HOST}/a-1-py3-none-any.whl?token=x", "hash": f"sha256:{'0' * 64}"}]},
        {"wheels": [{"url": "https://ann:x@files.example/a-1-py3-none-any.whl", "hash": f"sha256:{'0' * 64}"}]},
    ],
)
def test_files_of_this_machine_and_secrets_are_not_cached(tmp_path: Path, package: dict[str, Any]) -> None:
    bench = Bench(tmp_path)
    bench.lock.write_text(text_of(simple(**package)))
    assert bench.run().artifacts
    assert bench.entries == []


def test_date_in_the_record_is_not_cached(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "pylock.toml")
    bench.lock.write_text(
        text_of(pylock(Random(0)) | {"tool": {"hatch-docker": {"made": "DATE"}}}).replace('"DATE"', "2026-01-02")
    )
    assert bench.run(NOTHING)
    assert bench.entries == []


def test_lock_that_changes_while_it_is_read_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.lock.write_text(text_of(simple()))
    newer = text_of(simple(version="2", wheels=[{"url": f"{HOST}/a-2-py3-none-any.whl", "hash": f"sha256:{'1' * 64}"}]))

    def read_after_a_change(path: Path, request: InstallRequest, finder: FileFinder) -> Any:
        path.write_text(newer)
        return read_lock(path, request, finder)

    monkeypatch.setattr(locked, "read_lock", read_after_a_change)
    assert [each.version for each in bench.run().artifacts] == ["2"]
    assert bench.entries == []


def test_what_uv_reads_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of uv may read it in another way."""
    bench = Bench(tmp_path)
    bench.lock.write_text(text_of(simple() | {"version": 2}))
    exported = text_of(pylock(Random(0)) | {"extras": None, "dependency-groups": None, "default-groups": None})
    monkeypatch.setattr("hatch_docker.locks.readers.uv_lock.run_uv", lambda *_, **__: exported)
    monkeypatch.setattr("hatch_docker.locks.readers.uv_lock.find_uv", lambda _: "uv")
    assert bench.run(NOTHING)
    assert bench.entries == []
