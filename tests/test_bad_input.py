"""Each mistake of a user ends in one message that says what to do, and leaves no partial files."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from base_maker import FakeBase, blob_path, manifest_of, serve
from builds import (
    NOWHERE,
    Bench,
    archive_of,
    check_blobs,
    check_clean,
    entries_below,
    environment,
    files_below,
    start,
    wait_for,
)
from fake_registry import Failure, FakeRegistry
from project_maker import lock_of
from wheel_maker import member_info

pytestmark = pytest.mark.usefixtures("no_waiting")

TABLE = "tool.hatch.build.targets.docker"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def refused(bench: Bench, project: Path, *said: str, target: str = "docker:archive", **env: str) -> str:
    """Run a build that must fail, with a message that contains all of `said`; return the message."""
    before = files_below(project / "dist")
    outcome = bench.build(project, target=target, **env)
    message = check_clean(outcome)
    assert files_below(project / "dist") == before
    check_cache(bench)
    for each in said:
        assert each in message
    return message


def check_cache(bench: Bench) -> None:
    """Check that the cache has no partial files, and if it has entries, that a build with it succeeds."""
    check_blobs(bench.cache)
    if not entries_below(bench.cache):
        return
    good = bench.root / "good"
    if not good.exists():
        bench.project("good", name="good", base=bench.base(FakeBase(folders={"good": 0o755})))
    assert bench.build(good).code == 0


class TestConfiguration:
    def test_reports_all_mistakes_at_once_with_their_places(self, bench: Bench) -> None:
        docker = """\
bass = "slim"
ports = ["http"]
tags = ["a b"]
image = "Shop"
user = "a b"
created = "yesterday"
max-layers = 2
[tool.hatch.build.targets.docker.env]
"1A" = "x"
[[tool.hatch.build.targets.docker.extra-files]]
from = "x"
"""
        refused(
            bench,
            bench.project(docker=docker),
            "9 mistakes in the configuration:\n",
            f"\n  {TABLE}.bass: unknown key; did you mean 'base'?\n",
            f"\n  {TABLE}.ports[0]: 'http' is not a port",
            f"\n  {TABLE}.tags[0]: 'a b' is not a tag",
            f"\n  {TABLE}.image: 'Shop' is not an image reference: a repository is in lower case",
            f"\n  {TABLE}.user: 'a b' is not a user",
            f"\n  {TABLE}.created: 'yesterday' is not a time",
            f"\n  {TABLE}.max-layers: expected an integer from 3 to 100, got 2",
            f"\n  {TABLE}.env.1A: '1A' is not a variable name",
            f"\n  {TABLE}.extra-files[0]: lacks the key 'into'",
        )

    def test_checks_against_the_project_report_all_mistakes_before_the_build(self, bench: Bench) -> None:
        docker = """\
extras = ["fats"]
dependency-groups = ["server"]
tags = ["{git-sha}"]
lock = "nowhere.txt"
extra-files = [{from = "nothing", into = "/x"}]
"""
        project = bench.project(
            docker=docker,
            scripts={"sell": "shop:sell", "buy": "shop:buy"},
            project="optional-dependencies = {fast = []}",
            base="nowhere",
        )
        refused(
            bench,
            project,
            "7 mistakes in the configuration:\n",
            f"{TABLE}.lock: {project / 'nowhere.txt'}: there is no such lock",
            f"{TABLE}.extras[0]: the project has no extra 'fats'; did you mean 'fast'?",
            f"{TABLE}.dependency-groups[0]: the project has no dependency groups: remove 'server'",
            f"{TABLE}.tags[0]: {{git-sha}} needs a commit",
            f"{TABLE}.extra-files[0].from: 'nothing' does not exist in {project}",
            f"{TABLE}.entrypoint: the project has several scripts, set the one to start: 'buy', 'sell'",
            f"{TABLE}.image: 'shop' cannot be pushed, since it names no registry",
            target="docker:archive,push",
        )

    def test_checks_against_the_project_run_even_if_some_keys_are_invalid(self, bench: Bench) -> None:
        project = bench.project(
            docker='ports = ["x"]\nextras = ["fast"]\nimage = "Shop"\nentrypoint = 1',
            scripts={"sell": "shop:sell", "buy": "shop:buy"},
        )
        refused(
            bench,
            project,
            "4 mistakes in the configuration:\n",
            f"{TABLE}.ports[0]: 'x' is not a port",
            f"{TABLE}.image: 'Shop' is not an image reference",
            f"{TABLE}.entrypoint: expected a list of strings or the name of a script, got an integer",
            f"{TABLE}.extras[0]: the project has no extras: remove 'fast'",
            target="docker:push",
        )

    @pytest.mark.parametrize(
        ("variables", "said"),
        [
            (
                {"BASE": "slimm"},
                "HATCH_DOCKER_BASE: 'slimm' is not a base family ('debian', 'alpine', 'slim'); did you mean 'slim'?",
            ),
            ({"BASE": "Foo/bar:1"}, "HATCH_DOCKER_BASE: 'Foo/bar:1' is not an image reference"),
            ({"BASE": "oci:"}, "HATCH_DOCKER_BASE: oci: needs a path, like 'oci:some/path'"),
            ({"BASE": "a/b@sha256:12"}, "HATCH_DOCKER_BASE: 'sha256:12' is not a digest"),
            ({"TAGS": "x,-y"}, "HATCH_DOCKER_TAGS[1]: '-y' is not a tag"),
            ({"BSAE": "slim"}, "HATCH_DOCKER_BSAE: unknown variable; did you mean 'HATCH_DOCKER_BASE'?"),
            ({"THREADS": "0"}, "HATCH_DOCKER_THREADS: expected an integer from 1 to 1024, got 0"),
            ({"PLATFORMS": "windows/amd64"}, "HATCH_DOCKER_PLATFORMS[0]: 'windows/amd64' is not a Linux platform"),
            ({"TAGS": "{version}-" + "x" * 128}, "HATCH_DOCKER_TAGS[0]: "),
            (
                {"BASE": "https://rosa:s3cret@a.example/b:1"},
                "write it without its scheme, like 'a.example/b:1'",
            ),
            (
                {"REGISTRY_MIRRORS": "docker.io=rosa:s3cret@a.example"},
                "a registry's host must not include a login",
            ),
            ({"INSECURE_REGISTRIES": "rosa:s3cret@a.example"}, "a registry's host must not include a login"),
            ({"IMAGE": "rosa:s3cret@a.example/b"}, "HATCH_DOCKER_IMAGE: "),
            ({"INDEX_URL": "index.example/s3cret"}, "HATCH_DOCKER_INDEX_URL: expected the URL of an index"),
        ],
    )
    def test_mistakes_in_variables(self, bench: Bench, variables: dict[str, str], said: str) -> None:
        refused(bench, bench.project(), said, **{f"HATCH_DOCKER_{key}": text for key, text in variables.items()})

    def test_invalid_source_date_epoch(self, bench: Bench) -> None:
        refused(
            bench, bench.project(), "SOURCE_DATE_EPOCH: expected whole seconds since 1970", SOURCE_DATE_EPOCH="today"
        )

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("{table}", '{table}\nversions = ["x"]', "Unknown versions in field `{table}.versions`: x"),
            ('version = "1.0"', "version = 1", "Field `project.version` must be a string"),
            ('version = "1.0"', 'version = "one"', "Invalid version `one`"),
            ('version = "1.0"', 'version = "1.0', "pyproject.toml: "),
            ("{table}", "[tool.hatch.build]\ndirectory = 1\n[tool.x]", "`tool.hatch.build.directory`"),
            ("{table}", "[tool.hatch.build.targets]\ndocker = 1\n[tool.x]", "must be a table"),
            ("{table}", "[tool.hatch.build.hooks.nope]\n[tool.x]", "Unknown build hook: nope"),
            ("dependencies = []", 'dependencies = ["a b"]', "pyproject.toml: "),
        ],
    )
    def test_invalid_pyproject_gives_no_traceback(self, bench: Bench, old: str, new: str, said: str) -> None:
        project = bench.project()
        text = (project / "pyproject.toml").read_text()
        old, new = (each.replace("{table}", f"[{TABLE}]") for each in (old, new))
        assert old in text
        (project / "pyproject.toml").write_text(text.replace(old, new, 1))
        refused(bench, project, said.replace("{table}", TABLE), target="docker")

    @pytest.mark.parametrize(
        "groups",
        [
            'server = [{include-group = "x"}]',
            'server = ["a b"]',
            "server = 1",
            'server = [{include-group = "server"}]',
        ],
    )
    def test_invalid_dependency_groups(self, bench: Bench, groups: str) -> None:
        project = bench.project(docker='dependency-groups = ["server"]', more=f"[dependency-groups]\n{groups}")
        refused(bench, project, "dependency-groups: ")

    def test_reports_mistakes_with_hatch_quiet(self, bench: Bench) -> None:
        outcome = bench.build(bench.project(docker="port = 1"), HATCH_QUIET="1")
        assert outcome.err == f"{TABLE}.port: unknown key; did you mean 'ports'?\n"
        assert (outcome.code, outcome.out) == (1, "")

    def test_cleans_despite_mistakes(self, bench: Bench) -> None:
        project = bench.project()
        bench.made(project)
        outcome = bench.build(project, "--clean-only", target="docker:load", HATCH_DOCKER_TAGS="{git-sha}")
        assert outcome.code == 0, outcome.err
        assert files_below(project / "dist") == set()

    def test_unknown_output(self, bench: Bench) -> None:
        refused(
            bench, bench.project(), "unknown output archve; known are archive, oci, load, push", target="docker:archve"
        )

    def test_script_that_no_package_installs(self, bench: Bench) -> None:
        project = bench.project(docker='entrypoint = "shpo"\ncmd = "nothing"')
        refused(
            bench,
            project,
            f"{TABLE}.entrypoint: no package of the image installs a script 'shpo'; did you mean 'shop'?",
            f"{TABLE}.cmd: no package of the image installs a script 'nothing'; it has shop",
        )


class TestExtraFiles:
    @pytest.mark.parametrize(
        ("table", "said"),
        [
            ('{from = "pyproject.toml", into = "/srv"}', "].into: /srv is a directory of the base image"),
            ('{from = "pyproject.toml", into = "/lib"}', "].into: /usr/lib is a directory of the base image"),
            ('{from = "pyproject.toml", into = "/"}', "].into: / is a directory of the base image"),
            (
                '{from = "src", into = "/x", include = ["*.toml"]}',
                "].from: no file below 'src' matches include and exclude",
            ),
        ],
    )
    def test_invalid_tables(self, bench: Bench, table: str, said: str) -> None:
        refused(bench, bench.project(docker=f"extra-files = [{table}]"), f"{TABLE}.extra-files[0{said}")

    def test_path_is_both_a_file_and_a_directory(self, bench: Bench) -> None:
        tables = '{from = "pyproject.toml", into = "/x"}, {from = "src", into = "/x"}'
        refused(
            bench,
            bench.project(docker=f"extra-files = [{tables}]"),
            "'x' would be in one layer as a file and as the directory",
        )

    def test_unreadable_source(self, bench: Bench) -> None:
        project = bench.project(docker='extra-files = [{from = "conf", into = "/x"}]', files={"conf/a": ""})
        (project / "conf/secret").symlink_to("nowhere")
        refused(bench, project, f"{TABLE}.extra-files[0].from: {project / 'conf/secret'} cannot be read: No such file")


class TestBase:
    def test_lacks_the_platform(self, bench: Bench) -> None:
        both = bench.base(FakeBase(), FakeBase(architecture="arm64"))
        for base, platforms in ((both, "linux/amd64, linux/arm64"), (bench.base(), "linux/amd64")):
            project = bench.project(platforms.replace("/", "-"), base=base)
            refused(
                bench,
                project,
                f"has nothing for linux/s390x; it has {platforms}",
                'hint: set platforms = ["linux/amd64"], or use another base',
                HATCH_DOCKER_PLATFORMS="linux/s390x",
            )

    def test_has_another_python_than_configured(self, bench: Bench) -> None:
        project = bench.project(docker='python = "3.12"')
        refused(bench, project, f"{TABLE}.python", "has Python 3.13.5, not 3.12", 'hint: set python = "3.13"')

    def test_has_a_python_that_the_project_excludes(self, bench: Bench) -> None:
        project = bench.project(project='requires-python = ">=3.14"')
        refused(
            bench, project, 'has Python 3.13.5, which requires-python = ">=3.14" excludes', "hint: set another base"
        )

    @pytest.mark.parametrize(
        ("python", "requires", "said", "hint"),
        [
            (
                "",
                "<3.9",
                'requires-python = "<3.9" admits no Python that the base families have',
                "they have 3.14, 3.13",
            ),
            ("3.13", ">=3.14", 'Python 3.13 is excluded by requires-python = ">=3.14"', "set one of 3.14"),
            ("3.9", ">=3.8", "the base families have no Python 3.9; they have 3.14, 3.13", "set one of 3.14"),
        ],
    )
    def test_family_has_no_such_python(self, bench: Bench, python: str, requires: str, said: str, hint: str) -> None:
        docker = 'base = "slim"\n' + (f'python = "{python}"' if python else "")
        project = bench.project(base="", docker=docker, project=f'requires-python = "{requires}"')
        refused(bench, project, f"{TABLE}.python: {said}", f"; {hint}")

    def test_has_no_python(self, bench: Bench) -> None:
        base = bench.base(FakeBase(python=""))
        refused(
            bench, bench.project(base=base), "no Python", "/usr/local/bin", "hint: use a base with CPython", str(base)
        )

    def test_has_no_libc(self, bench: Bench) -> None:
        base = bench.base(FakeBase(libc=""))
        refused(bench, bench.project(base=base), "neither glibc nor musl", "hint: use a base such as", str(base))

    def test_has_the_path_of_the_venv_already(self, bench: Bench) -> None:
        base = bench.base(FakeBase(files={"app/.venv/pyvenv.cfg": b""}))
        refused(
            bench, bench.project(base=base), "already has something at /app/.venv", "hint: set a base without a venv"
        )

    def test_is_an_image_of_hatch_docker(self, bench: Bench) -> None:
        bench.made(first := bench.project("first"))
        for transport in ("oci-archive", "docker-archive"):
            project = bench.project(transport, base="", docker=f'base = "{transport}:{archive_of(first)}"')
            refused(
                bench, project, "already has something at /app/.venv", "an image made by hatch-docker cannot be a base"
            )

    def test_does_not_exist(self, bench: Bench) -> None:
        for transport in ("oci", "oci-archive", "docker-archive"):
            project = bench.project(transport, base="", docker=f'base = "{transport}:none/such"')
            refused(bench, project, f"{project / 'none/such'}: ", "o such file", "hint: ")

    def test_has_a_truncated_layer(self, bench: Bench) -> None:
        layer = blob_path(base := bench.base(), manifest_of(base)["layers"][0]["digest"])
        layer.write_bytes(layer.read_bytes()[:-9])
        refused(
            bench,
            bench.project(base=base),
            "wrong content: expected sha256:",
            str(base),
            "hint: ",
            "nothing of it was kept",
        )
        assert not (bench.cache / "blobs" / "sha256" / layer.name).exists()

    def test_has_a_blob_with_another_digest(self, bench: Bench) -> None:
        for part in ("config", "layer"):
            base = bench.base(FakeBase(folders={part: 0o755}))
            manifest = manifest_of(base)
            blob = blob_path(
                base, manifest["config"]["digest"] if part == "config" else manifest["layers"][0]["digest"]
            )
            blob.write_bytes(bytes(reversed(blob.read_bytes())))
            refused(bench, bench.project(part, base=base), "wrong content: expected sha256:", blob.name, "hint: ")

    def test_lacks_a_blob(self, bench: Bench) -> None:
        for part in ("config", "layer"):
            base = bench.base(FakeBase(folders={part: 0o755}))
            manifest = manifest_of(base)
            blob = blob_path(
                base, manifest["config"]["digest"] if part == "config" else manifest["layers"][0]["digest"]
            )
            blob.unlink()
            refused(bench, bench.project(part, base=base), str(base), blob.name, "hint: ")

    @pytest.mark.parametrize(
        "index", ["{", "[]", "{}", '{"manifests": 1}', '{"manifests": [{"digest": "sha256:x"}]}', "\x00"]
    )
    def test_has_an_invalid_index(self, bench: Bench, index: str) -> None:
        (bench.base() / "index.json").write_text(index)
        refused(bench, bench.project(), str(bench.base()), "hint: ")

    def test_has_an_invalid_layer(self, bench: Bench) -> None:
        project = bench.project(base=_with_layer(bench, b"not a tar at all" * 100))
        refused(bench, project, "layer sha256:", "cannot be read", "hint: ")

    def test_is_a_truncated_archive(self, bench: Bench) -> None:
        bench.made(first := bench.project("first"))
        data = archive_of(first).read_bytes()
        for transport in ("oci-archive", "docker-archive"):
            for kept in (0, 100, len(data) // 2):
                (bench.root / "cut.tar").write_bytes(data[:kept])
                project = bench.project(f"{transport}-{kept}", base="", docker=f'base = "{transport}:../cut.tar"')
                refused(
                    bench, project, "cut.tar", "hint: ", HATCH_DOCKER_CACHE_DIR=str(bench.root / f"{transport}-cache")
                )


class TestLock:
    def lock(self, bench: Bench, change: Callable[[str], str]) -> Path:
        project = bench.project(wheels=[bench.wheel("alpha")])
        (project / "pylock.toml").write_text(change((project / "pylock.toml").read_text()))
        return project

    def test_is_stale(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")], dependencies=["alpha>=2", "beta"])
        refused(
            bench,
            project,
            f"{project / 'pylock.toml'}: the lock is stale, the project requires alpha>=2 (the lock has 1.0); beta",
            "hint: refresh it: ",
        )

    def test_lacks_a_hash(self, bench: Bench) -> None:
        wheels = [bench.wheel("alpha"), bench.wheel("beta")]
        project = bench.project(wheels=wheels)
        (project / "pylock.toml").write_text(lock_of(*wheels, hashes={path.name: "" for path in wheels}))
        refused(bench, project, f"{project / 'pylock.toml'}: alpha 1.0 has no SHA-2 hash of alpha-1.0-", "hint: ")

    def test_has_some_requirements_without_hashes(self, bench: Bench) -> None:
        pinned = f"alpha==1.0 --hash=sha256:{'0' * 64}\nbeta==1.0\n"
        project = bench.project(
            dependencies=["alpha"], files={"requirements.txt": pinned}, docker='lock = "requirements.txt"'
        )
        refused(bench, project, "missing hashes for beta")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "x = [",
            "\x00",
            "lock-version = 1",
            'lock-version = "9.0"\ncreated-by = "x"\npackages = []',
            "packages = 3",
        ],
    )
    def test_is_broken(self, bench: Bench, text: str) -> None:
        project = self.lock(bench, lambda _: text)
        refused(bench, project, f"{project / 'pylock.toml'}: ", "hint: ")

    def test_does_not_exist(self, bench: Bench) -> None:
        project = bench.project(docker='lock = "none.toml"')
        refused(bench, project, f"{TABLE}.lock: {project / 'none.toml'}: there is no such lock; name an existing file")

    def test_has_only_wheels_of_another_libc(self, bench: Bench) -> None:
        project = self.only(bench, "cp313-cp313-manylinux_2_17_x86_64", base=bench.base(FakeBase(libc="musl")))
        refused(
            bench,
            project,
            "no wheel for CPython 3.13.5 on linux/amd64 (musl 1.2): "
            "alpha 1.0 has wheels for cp313-cp313 on manylinux_2_17_x86_64",
            'hint: there are wheels for glibc: use base = "slim"',
        )

    @pytest.mark.parametrize(
        "tag",
        [
            "cp312-cp312-manylinux_2_17_x86_64",
            "cp313-cp313t-manylinux_2_17_x86_64",
            "cp313-cp313-manylinux_2_99_x86_64",
            "cp313-cp313-win_amd64",
        ],
    )
    def test_has_only_wheels_of_another_abi_or_system(self, bench: Bench, tag: str) -> None:
        kind, _, system = tag.rpartition("-")
        project = self.only(bench, tag)
        refused(
            bench,
            project,
            f"no wheel for CPython 3.13.5 on linux/amd64 (glibc 2.41): alpha 1.0 has wheels for {kind} on {system}",
            "hint: the lock may have been made for another platform; lock for this one: uv pip compile",
        )

    def test_has_only_an_sdist(self, bench: Bench) -> None:
        project = self.lock(
            bench,
            lambda text: text.replace("[[packages.wheels]]", "[packages.sdist]").replace(
                "1.0-py3-none-any.whl", "1.0.tar.gz"
            ),
        )
        refused(bench, project, "alpha-1.0.tar.gz", "hint: ")

    def only(self, bench: Bench, tag: str, **options: Any) -> Path:
        wheel = bench.wheel("alpha", filename=f"alpha-1.0-{tag}.whl", wheel=f"Wheel-Version: 1.0\nTag: {tag}\n")
        return bench.project(wheels=[wheel], **options)


class TestArtifacts:
    def test_wrong_hash_is_reported_and_the_file_not_kept(self, bench: Bench) -> None:
        wheels = [bench.wheel(name) for name in ("alpha", "beta", "gamma")]
        project = bench.project(wheels=wheels)
        (project / "pylock.toml").write_text(
            lock_of(*wheels, hashes={path.name: path.name[0] * 64 for path in wheels[:2]})
        )
        refused(
            bench,
            project,
            "alpha-1.0-py3-none-any.whl from file:",
            "beta-1.0-py3-none-any.whl from file:",
            f"expected sha256:{'a' * 64}, got sha256:{hashlib.sha256(wheels[0].read_bytes()).hexdigest()}",
            "hint: ",
            "nothing of it was kept",
        )
        kept = {path.name for path in files_below(bench.cache / "blobs")}
        assert not kept & {hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels[:2]}

    def test_wrong_size(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")])
        lock = project / "pylock.toml"
        lock.write_text(lock.read_text().replace("size = ", "size = 1"))
        refused(bench, project, "alpha-1.0-py3-none-any.whl", "has the wrong size: expected 1", "hint: ")

    def test_file_does_not_exist(self, bench: Bench) -> None:
        project = bench.project(wheels=[wheel := bench.wheel("alpha")])
        wheel.unlink()
        refused(bench, project, f"{wheel}: alpha-1.0-py3-none-any.whl cannot be read: No such file", "hint: ")

    def test_host_cannot_be_reached(self, bench: Bench) -> None:
        wheel = bench.wheel("alpha")
        project = bench.project(wheels=[wheel])
        (project / "pylock.toml").write_text(lock_of(wheel, url="http://rosa:s3cret@127.0.0.1:1/x"))
        refused(bench, project, "127.0.0.1:1 cannot be reached", "hint: check its name and port")


def _link() -> zipfile.ZipInfo:
    info = member_info("alpha_link.py")
    info.external_attr = 0o120777 << 16
    return info


WHEELS: dict[str, tuple[dict[str, Any], str]] = {
    "leaves its directory": ({"members": [(member_info("../evil.py"), b"x")]}, "unsafe path: '../evil.py'"),
    "leaves it later": ({"members": [(member_info("alpha/../../evil.py"), b"x")]}, "unsafe path: "),
    "is absolute": ({"members": [(member_info("/etc/passwd"), b"x")]}, "unsafe path: '/etc/passwd'"),
    "has a drive": ({"members": [(member_info("C:/evil.py"), b"x")]}, "unsafe path: 'C:/evil.py'"),
    "has backslashes": ({"members": [(member_info("..\\evil.py"), b"x")]}, "unsafe path: "),
    "has a whiteout": ({"members": [(member_info("alpha/.wh.x"), b"x")]}, "unsafe path: 'alpha/.wh.x'"),
    "has a file twice": ({"members": [(member_info("alpha.py"), b"x")]}, "has 'alpha.py' twice"),
    "has a link": ({"members": [(_link(), b"/etc/passwd")]}, "'alpha_link.py' is a symbolic link"),
    "has no RECORD": ({"without": ["RECORD"]}, "has no RECORD"),
    "has no METADATA": ({"without": ["METADATA"]}, "has no METADATA"),
    "is misnamed": ({"metadata": "Metadata-Version: 2.1\nName: omega\nVersion: 1.0\n"}, "METADATA names omega 1.0"),
    "has no versions": ({"wheel": "Wheel-Version: 9.0\n"}, "9.0"),
    "has a script that leaves": ({"entry_points": "[console_scripts]\n../evil = alpha:x\n"}, "../evil"),
    "would replace the venv's Python": ({"files": {"alpha-1.0.data/scripts/python": "x"}}, "'app/.venv/bin/python'"),
}  # fmt: skip


class TestWheels:
    @pytest.mark.parametrize("what", WHEELS)
    def test_invalid_wheels(self, bench: Bench, what: str) -> None:
        options, said = WHEELS[what]
        message = refused(
            bench, bench.project(wheels=[bench.wheel("alpha", **options)]), "alpha-1.0-py3-none-any.whl: ", said
        )
        assert re.search(
            r"\n  hint: (the wheel is broken: lock another version, or report it to its authors|lock an older)", message
        )

    @pytest.mark.parametrize("kept", [0, 10, 300])
    def test_truncated(self, bench: Bench, kept: int) -> None:
        wheel = bench.wheel("alpha")
        wheel.write_bytes(wheel.read_bytes()[:kept])
        refused(bench, bench.project(wheels=[wheel]), "alpha-1.0-py3-none-any.whl: ", "hint: the wheel is broken")

    def test_damaged_content(self, bench: Bench) -> None:
        wheel = bench.wheel("alpha", files={"alpha_data.bin": os.urandom(100_000)})
        data = bytearray(wheel.read_bytes())
        data[50_000] ^= 0xFF
        wheel.write_bytes(data)
        refused(
            bench,
            bench.project(wheels=[wheel]),
            "alpha-1.0-py3-none-any.whl: ",
            "/alpha_data.bin' is damaged",
            "hint: ",
        )


class TestRegistry:
    def project(self, bench: Bench, registry: FakeRegistry) -> Path:
        serve(bench.base(), registry, "team/base", "1")
        return bench.project(base="", docker=f'base = "{registry.host}/team/base:1"')

    def test_cannot_be_reached(self, bench: Bench) -> None:
        project = bench.project(base="", docker='base = "127.0.0.1:1/team/base:1"')
        refused(
            bench, project, "127.0.0.1:1/team/base:1: 127.0.0.1:1 cannot be reached", "hint: check its name and port"
        )

    @pytest.mark.parametrize(
        ("status", "said", "hint"),
        [
            (401, "asks for credentials, and there are none for it", "log in with 'docker login "),
            (403, "does not let us pull from team/base anonymously", "check the repository's name and permissions"),
            (404, "has no image team/base:1", "check its name and its tag or digest"),
            (429, "has had too many requests from here", "wait, log in (docker login "),
            (503, "failed: HTTP 503", "try again later"),
        ],
    )
    def test_refuses_a_pull(self, bench: Bench, registry: FakeRegistry, status: int, said: str, hint: str) -> None:
        project = self.project(bench, registry)
        registry.failures = [Failure("GET", "/manifests/", status, times=99)]
        refused(bench, project, f"{registry.host}/team/base:1: {registry.host} {said}", f"hint: {hint}")
        registry.failures = []
        bench.made(project)

    @pytest.mark.parametrize(
        ("status", "said", "hint"),
        [
            (401, "asks for credentials, and there are none for it", "log in with 'docker login "),
            (403, "does not let us push to team/shop anonymously", "check the repository's name and permissions"),
            (404, "has no repository team/shop", "create the repository first"),
            (429, "has had too many requests from here", "wait, or log in (docker login "),
        ],
    )
    def test_refuses_a_push(self, bench: Bench, registry: FakeRegistry, status: int, said: str, hint: str) -> None:
        registry.failures = [Failure("POST", "/uploads/", status, times=99)]
        image = f"{registry.host}/team/shop"
        project = bench.project(wheels=[bench.wheel("alpha")])
        refused(
            bench,
            project,
            f"{image}: {registry.host} {said}",
            f"hint: {hint}",
            target="docker:push",
            HATCH_DOCKER_IMAGE=image,
        )
        assert not registry.manifests
        registry.failures = []
        assert bench.build(project, target="docker:push", HATCH_DOCKER_IMAGE=image).code == 0

    def test_refuses_the_password(self, bench: Bench, registry: FakeRegistry) -> None:
        registry.auth = "basic"
        auth = bench.root / "auth.json"
        auth.write_text(f'{{"auths": {{"{registry.host}": {{"auth": "cm9zYTpzM2NyZXQ="}}}}}}')  # rosa:s3cret
        refused(
            bench,
            self.project(bench, registry),
            f"{registry.host} does not accept the credentials from {auth}",
            f"hint: log in again (docker login {registry.host})",
            REGISTRY_AUTH_FILE=str(auth),
        )

    def test_sends_wrong_content(self, bench: Bench, registry: FakeRegistry) -> None:
        project = self.project(bench, registry)
        digest = manifest_of(bench.base())["layers"][0]["digest"]
        good = registry.blobs["team/base", digest]
        registry.blobs["team/base", digest] = bytes(len(good))
        refused(bench, project, f"expected {digest}", "hint: ", "nothing of it was kept")
        registry.blobs["team/base", digest] = good
        bench.made(project)

    def test_breaks_every_connection(self, bench: Bench, registry: FakeRegistry) -> None:
        project = self.project(bench, registry)
        registry.cut_downloads = 99
        refused(bench, project, f"the connection to {registry.host} broke", "hint: try again")
        registry.cut_downloads = 0
        bench.made(project)


class TestEngine:
    def test_does_not_answer(self, bench: Bench) -> None:
        said = (
            f"{NOWHERE}: no container engine answers",
            "hint: start Docker, or name another engine with DOCKER_HOST",
        )
        message = refused(bench, bench.project(), *said, target="docker:archive,load")
        assert "Max retries" not in message
        project = bench.project("other", base="", docker='base = "docker-daemon:python:3.13"')
        refused(bench, project, *said)


class TestDisk:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_is_full_for_the_archive(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        project = bench.project()
        bench.made(project)
        with monkeypatch.context() as patch:

            def archive(*_: object) -> Iterator[bytes]:
                patch.setattr("hatch_docker.support.atomic._Writable.write", _refusing(number))
                yield b"half"

            patch.setattr("hatch_docker.image.outputs.archive", archive)
            outcome = bench.build(project)
        message = check_clean(outcome)
        assert f"{archive_of(project)}: cannot write: {os.strerror(number)}" in message
        assert "hint: " in message
        assert "free some space" in message
        assert {path.name for path in files_below(project / "dist")} == {"shop-1.0.docker.tar", "shop-1.0.docker.json"}
        bench.made(project)

    def test_is_full_for_a_layer(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def write_layer(_entries: object, out: Any, *_options: object, **_more: object) -> None:
            out.write(b"half")
            out.flush()

        project = bench.project(wheels=[bench.wheel("alpha"), bench.wheel("delta")])
        with monkeypatch.context() as patch:
            patch.setattr("hatch_docker.oci.layercache.write_layer", write_layer)
            patch.setattr("hatch_docker.support.atomic._Writable.write", _refusing(errno.ENOSPC))
            message = check_clean(bench.build(project))
        assert message.startswith(f"{bench.cache / 'tmp'}: cannot write: No space left on device")
        assert "hint: the disk is full: free some space, or name another directory in HATCH_DOCKER_CACHE_DIR" in message
        check_cache(bench)
        bench.made(project)

    @pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk")
    @pytest.mark.parametrize("what", ["cache", "dist", "TMPDIR"])
    def test_file_system_is_full(self, bench: Bench, what: str) -> None:
        noise = os.urandom(200_000)
        wheel = '[tool.hatch.build.targets.wheel.force-include]\nnoise = "shop/noise"'
        project = bench.project(wheel=wheel, wheels=[bench.wheel("alpha", files={"alpha_data.bin": noise})])
        (project / "noise").write_bytes(noise)
        small = bench.root / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", small], capture_output=True)
        if mounted.returncode:
            pytest.skip("no tmpfs can be mounted here")
        try:
            env = {"cache": {"HATCH_DOCKER_CACHE_DIR": str(small)}, "TMPDIR": {"TMPDIR": str(small)}}.get(what, {})
            arguments = ["-d", str(small)] if what == "dist" else []
            outcome = wait_for(start(project, *arguments, env=environment(bench.cache, **env)))
            assert "No space left on device" in check_clean(outcome)
            # hatchling leaves its partial wheel in TMPDIR.
            assert what == "TMPDIR" or list(small.glob("tmp/*")) == list(small.glob(".*")) == []
        finally:
            subprocess.run(["umount", "-l", small], check=True)
        bench.made(project)

    def test_has_a_file_instead_of_a_directory(self, bench: Bench) -> None:
        (bench.root / "file").touch()
        path = bench.root / "file" / "cache"
        project = bench.project()
        message = refused(
            bench,
            project,
            f"{path}",
            "Not a directory",
            "hint: name another directory",
            HATCH_DOCKER_CACHE_DIR=str(path),
        )
        assert "cannot write" in message
        (project / "dist").rmdir()
        (project / "dist").touch()
        assert str(project / "dist") in check_clean(bench.build(project))


class TestInterruptions:
    """Builds that the user or the system interrupts."""

    @pytest.fixture
    def stalled(self, bench: Bench, registry: FakeRegistry) -> Iterator[subprocess.Popen[str]]:
        """A build whose registry stalls in the middle of a layer of the base."""
        serve(bench.base(), registry, "team/base", "1")
        project = bench.project(base="", docker=f'base = "{registry.host}/team/base:1"')
        assert bench.build(project).code == 0
        layer = bench.cache / "blobs" / "sha256" / manifest_of(bench.base())["layers"][0]["digest"].partition(":")[2]
        layer.unlink()
        registry.gate = gate = threading.Event()
        registry.requests.clear()
        with start(project, env=environment(bench.cache), start_new_session=True) as process:
            try:
                while not (registry.sent("GET", layer.name) and files_below(bench.cache / "tmp")):
                    assert process.poll() is None
                    time.sleep(0.02)
                yield process
            finally:
                process.kill()
                gate.set()

    def test_ctrl_c_ends_the_build_at_once_without_partial_files(
        self, bench: Bench, registry: FakeRegistry, stalled: subprocess.Popen[str]
    ) -> None:
        stalled.send_signal(signal.SIGINT)
        message = check_clean(wait_for(stalled), code=130)
        assert message == "interrupted"
        self.check(bench, registry)
        assert files_below(bench.cache / "tmp") == set()
        assert len(files_below(bench.root / "project" / "dist")) == 2

    def test_kill_during_a_download_does_not_break_the_next_build(
        self, bench: Bench, registry: FakeRegistry, stalled: subprocess.Popen[str]
    ) -> None:
        stalled.kill()
        assert wait_for(stalled).code == -signal.SIGKILL
        self.check(bench, registry)

    def check(self, bench: Bench, registry: FakeRegistry) -> None:
        project = bench.root / "project"
        assert {path.name for path in (project / "dist").glob("[!.]*")} == {
            "shop-1.0.docker.tar",
            "shop-1.0.docker.json",
        }
        registry.gate = None
        bench.made(project)

    @pytest.mark.parametrize("where", ["image.outputs.archive", "oci.layercache.write_layer"])
    def test_kill_during_a_write_does_not_break_the_next_build(self, bench: Bench, where: str) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")])
        module, _, name = where.rpartition(".")
        code = _DYING.format(module=module, name=name)
        command = [sys.executable, "-c", code, "build", "-t", "docker:archive"]
        done = subprocess.run(command, cwd=project, env=environment(bench.cache), capture_output=True)
        assert done.returncode == -signal.SIGKILL
        assert not list((project / "dist").glob("[!.]*"))
        bench.made(project)
        assert bench.build(project, "-c").code == 0
        assert len(files_below(project / "dist")) == 2

    def test_ctrl_c_while_the_archive_is_written(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        project = bench.project()
        with monkeypatch.context() as patch:
            patch.setattr("hatch_docker.image.outputs.archive", lambda *_: _failing(KeyboardInterrupt()))
            assert check_clean(bench.build(project), code=130) == "interrupted"
        assert files_below(project / "dist") == set()
        bench.made(project)

    def test_concurrent_builds_share_cache_and_dist(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel(name) for name in ("alpha", "beta", "delta")])
        outcomes = [wait_for(each) for each in [start(project, env=environment(bench.cache)) for _ in range(2)]]
        assert {(outcome.code, outcome.out) for outcome in outcomes} == {(0, outcomes[0].out)}
        assert bench.build(project).out == outcomes[0].out
        assert len(files_below(project / "dist")) == 2
        check_cache(bench)


_DYING = """\
import os, signal, sys
import hatchling.cli, hatch_docker.build
import importlib
module = importlib.import_module("hatch_docker.{module}")
whole = module.{name}
def half(*arguments, **options):
    if "{name}" == "write_layer":
        arguments[1].write(b"half")
        arguments[1].flush()
        os.kill(os.getpid(), signal.SIGKILL)
    yield next(whole(*arguments, **options))
    os.kill(os.getpid(), signal.SIGKILL)
module.{name} = (lambda *a, **o: list(half(*a, **o))) if "{name}" == "write_layer" else half
sys.exit(hatchling.cli.hatchling())
"""


def _refusing(number: int) -> Callable[[Any, object], int]:
    """The `write` of a file whose disk refuses it."""

    def write(self: Any, _data: object) -> int:
        with self._refusals():
            raise OSError(number, os.strerror(number))

    return write


def _failing(error: BaseException) -> Iterator[bytes]:
    yield b"half of it"
    raise error


def _with_layer(bench: Bench, data: bytes) -> Path:
    """A base with valid documents and a layer that is not a tar file."""
    import gzip
    import json

    base = bench.base(FakeBase(folders={"broken": 0o755}))
    manifest = manifest_of(base)
    blob = gzip.compress(data)
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    blob_path(base, digest).write_bytes(blob)
    manifest["layers"][0] |= {"digest": digest, "size": len(blob)}
    text = json.dumps(manifest).encode()
    blob_path(base, "sha256:" + hashlib.sha256(text).hexdigest()).write_bytes(text)
    index = json.loads((base / "index.json").read_text())
    index["manifests"][0] |= {"digest": "sha256:" + hashlib.sha256(text).hexdigest(), "size": len(text)}
    (base / "index.json").write_text(json.dumps(index))
    return base
