from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.errors import LockError, ResolveError
from hatch_docker.index.access import FileFinder, Indexes, ResolverSettings
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.uv_config import uv_files
from hatch_docker.locks import InstallRequest, read_lock, select
from hatch_docker.locks.build_requirements import BuildResolver
from hatch_docker.locks.commands import refresh_pylock, refresh_requirements, uv_platform
from hatch_docker.locks.inputs import changed_inputs
from hatch_docker.locks.locked import LockSource, read_artifacts
from hatch_docker.locks.model import OWN_LOCK
from hatch_docker.locks.pyproject import whole_project
from hatch_docker.locks.resolve import moved, resolution_scope, resolve, resolve_for_target
from hatch_docker.locks.uv import find_uv
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress


def target(platform: str = "linux/amd64", kind: str = "glibc", version: tuple[int, int] = (2, 36)) -> TargetPython:
    return TargetPython(
        version="3.13.5",
        interpreter="/usr/local/bin/python3.13",
        platform=Platform.parse(platform),
        libc=Libc(kind=kind, version=version),
    )


SLIM = target()
ALPINE_ARM = target("linux/arm64", "musl", (1, 2))

posix_only = pytest.mark.skipif(os.name == "nt", reason="the fake uv is a script with a shebang")


# What a fake uv writes, unless its body says otherwise.
EMPTY = 'lock-version = "1.0"\ncreated-by = "uv"\npackages = []\n'


def fake_uv(folder: Path, body: str = "", *, text: str = EMPTY) -> str:
    """A program in place of uv; `body` is Python, `text` is its output file."""
    path = folder / "uv"
    output = f"open(sys.argv[sys.argv.index('--output-file') + 1], 'w').write({text!r})"
    path.write_text(f"#!{sys.executable}\nimport os, sys\n{output}\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def asked(root: Path, *requirements: str, to: TargetPython = SLIM, **more: Any) -> InstallRequest:
    parsed = tuple(map(Requirement, requirements))
    return InstallRequest(project="demo", target=to, root=root, requirements=parsed, **more)


def run(
    uv: str,
    requirements: Sequence[str] = ("six",),
    *,
    root: Path,
    to: TargetPython = SLIM,
    environ: Mapping[str, str] = {},
) -> str:
    return resolve(asked(root, *requirements, to=to), settings(uv, environ), directory=root)


def settings(uv: str, environ: Mapping[str, str] = {}, **more: Any) -> ResolverSettings:
    environ = {**os.environ, "HATCH_UV": uv, **environ}
    return ResolverSettings(**{"environ": environ, "configured": (), **more})


@pytest.mark.parametrize(
    ("to", "platform"),
    [
        (SLIM, "x86_64-manylinux_2_36"),
        (target(version=(2, 41)), "x86_64-manylinux_2_40"),
        (target(version=(2, 30)), "x86_64-manylinux_2_28"),
        (target("linux/arm64", version=(2, 17)), "aarch64-manylinux_2_17"),
        (target(version=(2, 5)), ""),
        (ALPINE_ARM, "aarch64-unknown-linux-musl"),
        (target("linux/riscv64"), "riscv64-unknown-linux"),
        (target("linux/s390x"), ""),
    ],
)
def test_platform_for_uv_is_not_newer_than_the_base(to: TargetPython, platform: str) -> None:
    assert uv_platform(to) == platform


def test_hints_are_commands_for_the_request(tmp_path: Path) -> None:
    request = asked(tmp_path, to=ALPINE_ARM, extras=frozenset({"web"}), groups=frozenset({"ops"}))
    assert refresh_pylock(tmp_path / "locks" / "pylock.toml", request) == (
        "uv pip compile pyproject.toml --extra web --group ops --python-platform aarch64-unknown-linux-musl"
        f" --python-version 3.13 -o {Path('locks', 'pylock.toml')}"
    )
    assert refresh_pylock(tmp_path / "pylock.toml", replace(request, universal=True)) == (
        "uv pip compile pyproject.toml --extra web --group ops --universal --python-version 3.13 -o pylock.toml"
    )
    request = replace(request, target=target("linux/s390x"))
    assert "pyproject.toml --generate-hashes --extra web --group ops" in refresh_requirements(
        tmp_path / "r.txt", request
    )
    (tmp_path / "r.in").write_text("six")
    assert "compile r.in --generate-hashes --python-version 3.13" in refresh_requirements(tmp_path / "r.txt", request)
    (tmp_path / OWN_LOCK).write_text(run(fake_uv(tmp_path), root=tmp_path))
    assert refresh_pylock(tmp_path / OWN_LOCK, request) == "hatch-docker lock"


@posix_only
def test_uv_that_runs_us_goes_before_the_one_on_path(tmp_path: Path) -> None:
    for name in ("hatch", "running", "path"):
        (tmp_path / name).mkdir()
    of_hatch, running, on_path = (fake_uv(tmp_path / name) for name in ("hatch", "running", "path"))
    environ = {"PATH": str(tmp_path / "path")}
    assert find_uv({"HATCH_UV": of_hatch, "UV": running, **environ}) == of_hatch
    assert find_uv({"UV": running, "PATH": ""}) == running
    assert find_uv({"HATCH_UV": str(tmp_path / "gone"), "UV": running, **environ}) == running
    assert find_uv(environ) == on_path


@posix_only
def test_running_uv_that_is_no_program_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "path").mkdir()
    on_path = fake_uv(tmp_path / "path")
    (tmp_path / "plain").write_text("")
    monkeypatch.chdir(tmp_path / "path")  # uv runs elsewhere, where a relative path is another file
    for wrong in ("", str(tmp_path / "gone"), str(tmp_path), str(tmp_path / "plain"), "uv", "./uv", "1"):
        assert find_uv({"UV": wrong, "PATH": str(tmp_path / "path")}) == on_path


def test_hint_without_uv_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    with pytest.raises(ResolveError, match="pip install uv"):
        find_uv({"PATH": ""})


def test_threads_find_uv_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock()

    def find_uv_bin() -> str:
        assert lock.acquire(blocking=False)
        time.sleep(0.001)
        lock.release()
        return "/opt/uv"

    monkeypatch.setitem(sys.modules, "uv", SimpleNamespace(find_uv_bin=find_uv_bin))
    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(lambda _: find_uv({"PATH": ""}), range(40))} == {"/opt/uv"}


@posix_only
def test_result_has_its_inputs_and_no_header(tmp_path: Path) -> None:
    uv = fake_uv(tmp_path, text=f"# This file was autogenerated by uv\n#    uv pip compile /tmp/secret\n{EMPTY}")
    text = run(uv, ["b", "a"], root=tmp_path)
    assert text == (
        EMPTY + '\n[tool.hatch-docker]\nuniversal = true\npython = "3.13"\nrequirements = [\n    "b",\n    "a",\n]\n'
    )
    assert not changed_inputs(text, asked(tmp_path, "b", "a"))


@posix_only
def test_paths_are_relative_to_the_lock(tmp_path: Path) -> None:
    for name in ("lib", "app/dist"):
        (tmp_path / name).mkdir(parents=True)
    # uv writes paths relative to its output file.
    body = """
output = sys.argv[sys.argv.index('--output-file') + 1]
lib = os.path.relpath(LIB, os.path.dirname(output))
open(output, 'a').write(f'[[packages]]\\nname = "lib"\\ndirectory = {{ path = "{lib}", editable = true }}\\n')
""".replace("LIB", repr(str(tmp_path.resolve() / "lib")))
    uv = fake_uv(tmp_path, body, text='lock-version = "1.0"\ncreated-by = "uv"\n')
    text = resolve(asked(tmp_path / "app", "lib"), settings(uv), directory=tmp_path / "app" / "dist")
    assert 'directory = { path = "../../lib", editable = true }' in text
    assert 'directories = { "../lib" = ' in text
    assert '"../lib"' in moved(text, tmp_path / "app" / "dist", tmp_path / "app").partition("[tool")[0]


@posix_only
def test_logins_reach_uv_only_through_its_environment(tmp_path: Path) -> None:
    body = """
assert "hunter2" not in " ".join(sys.argv)
with open(sys.argv[sys.argv.index('--output-file') + 1], 'w') as file:
    print(f'# x\\nindex = "{os.environ["UV_DEFAULT_INDEX"]}"\\nmore = "{os.environ["UV_INDEX"]}"', file=file)
    print(f'downloads = "{os.environ["UV_PYTHON_DOWNLOADS"]}"\\nfolder = "{os.getcwd()}"', file=file)
"""
    resolver = settings(
        fake_uv(tmp_path, body),
        configured=["https://index.example/simple"],
        variables=lambda: {
            "UV_DEFAULT_INDEX": "https://me:hunter2@index.example/simple",
            "UV_INDEX": "https://me:hunter2@more.example/simple",
        },
    )
    request = asked(tmp_path, "b", "a @ https://me:hunter2@a.example/a-1.tar.gz")
    text = resolve(request, resolver, directory=tmp_path)
    assert 'index = "https://index.example/simple"\nmore = "https://more.example/simple"' in text
    assert f'downloads = "never"\nfolder = "{tmp_path}"' in text
    assert '"a @ https://a.example/a-1.tar.gz"' in text
    assert "hunter2" not in text
    assert not changed_inputs(text, request)


@posix_only
def test_index_without_a_login_is_not_reported_as_a_conflict(tmp_path: Path) -> None:
    body = """
print("error: No solution found when resolving dependencies", file=sys.stderr)
print("hint: An index URL could not be queried due to a lack of valid authentication credentials", file=sys.stderr)
sys.exit(1)
"""
    with pytest.raises(ResolveError) as caught:
        run(fake_uv(tmp_path, body), root=tmp_path)
    assert "netrc" in caught.value.hint


@posix_only
@pytest.mark.parametrize("failed", ["Failed to build", "Failed to download and build"])
def test_failed_build_of_uv_keeps_its_end_and_gets_a_hint(tmp_path: Path, failed: str) -> None:
    body = f"""
print("error: {failed} `ext==1.0`", file=sys.stderr)
for n in range(99): print(f"  frame {{n}}", file=sys.stderr)
print("  Error: pg_config executable not found", file=sys.stderr)
sys.exit(1)
"""
    with pytest.raises(ResolveError) as caught:
        run(fake_uv(tmp_path, body), root=tmp_path)
    assert f"{failed} `ext==1.0`" in caught.value.message
    assert caught.value.message.endswith("Error: pg_config executable not found")
    assert "tool.uv.dependency-metadata" in caught.value.hint


@posix_only
def test_error_of_uv_is_shortened_and_has_no_login(tmp_path: Path) -> None:
    body = """
print("warning: the requested Python is not here", file=sys.stderr)
print("error: No solution found when resolving dependencies", file=sys.stderr)
for n in range(99): print(f"  cause: https://me:hunter2@index.example/{n}?token=hunter2#x", file=sys.stderr)
sys.exit(1)
"""
    with pytest.raises(ResolveError) as caught:
        run(fake_uv(tmp_path, body), root=tmp_path)
    text = str(caught.value)
    assert "cannot be resolved for CPython 3.13.5 on linux/amd64 (glibc 2.36)" in text
    assert "No solution found" in text
    assert "more lines" in text
    assert "https://index.example/3" in text
    assert "hunter2" not in text
    assert "warning" not in text
    assert "loosen the requirements" in caught.value.hint


def test_broken_uv_and_unsupported_platform_are_errors(tmp_path: Path) -> None:
    (tmp_path / "no-program").touch()
    with pytest.raises(ResolveError, match="uv cannot be run"):
        run(str(tmp_path / "no-program"), root=tmp_path)
    with pytest.raises(ResolveError, match=r"uv cannot resolve for CPython 3\.13\.5 on linux/s390x"):
        resolve_for_target(asked(tmp_path, "six", to=target("linux/s390x")), settings("uv"))


class Notes(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def resolved(
    folder: Path, uv: str, requirement: str, *, to: TargetPython = SLIM, no_binary: Set[str] = frozenset()
) -> tuple[dict[str, Artifact], list[str]]:
    """The artifacts of a project without a lock, by name, and the notes."""
    notes = Notes()
    indexes = Indexes(finder=unused(), resolver=settings(uv), locate=lambda _: [])
    source = LockSource(
        root=folder,
        configured="",
        earlier=folder / "dist" / "pylock.demo.toml",
        indexes=lambda _named: indexes,
        no_binary=no_binary,
        progress=notes,
    )
    locked = read_artifacts(asked(folder, requirement, to=to), source)
    assert locked.resolved
    if locked.text:
        source.earlier.parent.mkdir(exist_ok=True)
        source.earlier.write_text(locked.text)
    return {each.name: each for each in locked.artifacts}, notes.texts


def listed(name: str, tag: str) -> str:
    """A package with a wheel and an sdist, as uv writes it."""
    wheel, sdist = (
        f'{{url = "https://files.example/{name}-1{end}", hashes = {{sha256 = "{"0" * 64}"}}}}'
        for end in (f"-{tag}.whl", ".tar.gz")
    )
    return f'[[packages]]\nname = "{name}"\nversion = "1"\nwheels = [{wheel}]\nsdist = {sdist}\n'


RESOLUTION = (
    'lock-version = "1.0"\ncreated-by = "uv"\n' + listed("ext", "cp313-cp313-win32") + listed("pure", "py3-none-any")
)


@posix_only
def test_resolution_lists_all_files_for_the_target(tmp_path: Path) -> None:
    found, _ = resolved(tmp_path, fake_uv(tmp_path, text=RESOLUTION), "ext")
    assert {name: each.reason for name, each in found.items()} == {"ext": "no manylinux wheel", "pure": ""}


@posix_only
def test_no_binary_does_not_resolve_again(tmp_path: Path) -> None:
    uv = fake_uv(tmp_path, text=RESOLUTION)
    resolved(tmp_path, uv, "ext")
    Path(uv).unlink()
    found, notes = resolved(tmp_path, uv, "ext", no_binary={"pure", "purr", ":all:"})
    assert found["pure"].reason == found["ext"].reason == "named in no-binary"
    assert [each for each in notes if "no-binary" in each] == ["no-binary names purr, which is not a dependency"]


@posix_only
@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("evil @ https://me:secret@evil.example/evil-1.tar.gz", "by URL ('https://evil.example/evil-1.tar.gz')"),
        ("evil @ file:///etc/passwd", "by URL ('file:///etc/passwd')"),
        # By URL for packaging before 26.4, which accepts any text in a URL; invalid for later ones.
        ("evil @ https://evil.example/evil-1.tar.gz\n--index-url=https://evil.example/", "build requirement"),
        ("evil @ https://evil.example/\n-r /etc/passwd", "a build requirement is not valid"),
        ("evil; " + "(" * 20000, "a build requirement is not valid"),
    ],
)
def test_build_requirements_by_url_are_refused_before_uv_runs(tmp_path: Path, requirement: str, problem: str) -> None:
    uv = fake_uv(tmp_path, "open('ran', 'w')")
    indexes = Indexes(finder=unused(), resolver=settings(uv), locate=lambda _: [])
    with pytest.raises(LockError) as caught:
        BuildResolver(target=SLIM, root=tmp_path, indexes=indexes)(["six", requirement])
    assert problem in caught.value.message
    assert caught.value.message.isprintable()
    assert not (tmp_path / "ran").exists()


@posix_only
def test_uv_gets_what_it_needs_of_the_environment(tmp_path: Path) -> None:
    seen = tmp_path / "environ"
    uv = fake_uv(tmp_path, f"import json\njson.dump(dict(os.environ), open({str(seen)!r}, 'w'))")
    more = {"UV_OFFLINE": "1", "GIT_SSH": "ssh", "HTTPS_PROXY": "http://me:pass@proxy.example", "DEPLOY_KEY": "hunter2"}
    resolve(asked(tmp_path, "six"), settings(uv, more), directory=tmp_path)
    environ = json.loads(seen.read_text())
    assert {name: environ.get(name) for name in more} == {**more, "DEPLOY_KEY": None}
    assert environ["HOME"] == os.environ["HOME"]


@posix_only
@pytest.mark.parametrize("builds", [False, True])
def test_uv_builds_nothing_if_it_may_not(tmp_path: Path, builds: bool) -> None:
    uv = fake_uv(tmp_path, f"open({str(tmp_path / 'arguments')!r}, 'w').write(' '.join(sys.argv))")
    resolver = settings(uv, builds=builds)
    resolve(asked(tmp_path, "six"), resolver, directory=tmp_path)
    assert ("--no-build" in (tmp_path / "arguments").read_text()) is not builds
    # uv refuses an option that is given twice.
    resolve_for_target(asked(tmp_path, "six"), resolver, build=False)
    assert (tmp_path / "arguments").read_text().count("--no-build") == 1
    assert (resolution_scope(resolver, "") == resolution_scope(settings(uv), "")) is builds


def test_scope_changes_with_the_settings_that_decide_a_resolution(tmp_path: Path) -> None:
    def scope(constraints: str = "", *, configured: Sequence[str] = (), **environ: str) -> str:
        tables = partial(uv_files, tmp_path / "demo", environ, home=tmp_path)
        resolver = ResolverSettings(environ=environ, configured=configured, uv_files=tables)
        return resolution_scope(resolver, constraints)

    (tmp_path / "demo").mkdir()
    scopes = [scope(), scope("six<2"), scope(configured=["https://a.example/"]), scope(UV_INDEX="https://b.example/")]
    for path in ("demo/pyproject.toml", ".config/uv/uv.toml", "demo/uv.toml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("[tool.uv]\nresolution = 'lowest'" if "pyproject" in path else f"# {path}\nx = 1")
        scopes.append(scope())
    assert len(set(scopes)) == len(scopes)
    assert scope(UV_LINK_MODE="copy", UV_CONCURRENT_DOWNLOADS="1", UV_HTTP_TIMEOUT="9") == scopes[-1]
    assert scope(configured=["https://me:secret@a.example/"]) == scope(configured=["https://a.example/"])
    assert scope(UV_CACHE_DIR="/x", UV_INDEX_CORP_PASSWORD="x", PATH="/bin") == scope()


@pytest.mark.network
@pytest.mark.parametrize("to", [SLIM, ALPINE_ARM], ids=str)
def test_uv_resolves_for_a_foreign_target(tmp_path: Path, to: TargetPython) -> None:
    text = run(find_uv(os.environ), ["uvicorn[standard]", "colorama; sys_platform == 'win32'"], root=tmp_path, to=to)
    assert str(tmp_path) not in text
    lock = tmp_path / "pylock.toml"
    lock.write_text(text)
    request = InstallRequest(project="demo", target=to)
    found = select(read_lock(lock, request, unused()), request, lock=lock)
    by_name = {artifact.name: artifact for artifact in found}
    assert {"uvicorn", "uvloop", "httptools"} <= by_name.keys()
    assert "colorama" not in by_name
    assert to.machine in by_name["uvloop"].filename
    assert ("musllinux" in by_name["uvloop"].filename) == (to.libc.kind == "musl")


@pytest.mark.network
def test_sdist_of_a_package_without_a_wheel_for_the_target(tmp_path: Path) -> None:
    # psutil before 7 has no musllinux wheel, and static metadata.
    musl = target(kind="musl", version=(1, 2))
    found, _ = resolved(tmp_path, find_uv(os.environ), "psutil==5.9.8", to=musl)
    assert found["psutil"].filename == "psutil-5.9.8.tar.gz"
    assert found["psutil"].reason == "no musllinux wheel"
    found, _ = resolved(tmp_path, find_uv(os.environ), "psutil==5.9.8", to=SLIM)
    assert found["psutil"].is_wheel
    found, _ = resolved(tmp_path, find_uv(os.environ), "psutil==5.9.8", to=SLIM, no_binary={"psutil"})
    assert (found["psutil"].filename, found["psutil"].reason) == ("psutil-5.9.8.tar.gz", "named in no-binary")


@pytest.mark.network
@pytest.mark.parametrize(
    ("requirement", "environ", "problem"),
    [
        ("six>9999", {}, "loosen the requirements"),
        (
            "six",
            {"UV_DEFAULT_INDEX": "http://me:hunter2@127.0.0.1:1/simple", "UV_HTTP_RETRIES": "0"},
            "check the network",
        ),
    ],
)
def test_errors_of_the_real_uv(tmp_path: Path, requirement: str, environ: Mapping[str, str], problem: str) -> None:
    with pytest.raises(ResolveError) as caught:
        run(find_uv(os.environ), [requirement], root=tmp_path, environ=environ)
    assert problem in caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_a_folder_of_files_cannot_be_required(tmp_path: Path) -> None:
    with pytest.raises(ResolveError) as caught:
        run(find_uv(os.environ), [f"app @ {tmp_path.as_uri()}"], root=tmp_path)
    assert "remove the requirement" in caught.value.hint


def test_messages_that_uv_wraps_have_their_hints(tmp_path: Path) -> None:
    program = tmp_path / "uv"
    text = "error: Failed to build `app`\n  cause: `/app` does not\n         appear to be a Python\n         project"
    program.write_text(f"#!/bin/sh\ncat >&2 <<END\n{text}\nEND\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(ResolveError) as caught:
        run(str(program), ["app"], root=tmp_path)
    assert "remove the requirement" in caught.value.hint


def unused() -> FileFinder:
    return FileFinder(files=lambda _name: [])


def test_whole_project_is_resolved_if_the_request_has_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[project]\nname = "demo"\nversion = "1"\n[dependency-groups]\nDev_Tools = ["six"]\n[tool.uv.workspace]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    file = str(tmp_path / "pyproject.toml")
    # The commands may get a relative directory.
    assert whole_project(asked(Path())) == (file, "--group", f"{file}:Dev_Tools", "--all-extras")
    assert whole_project(asked(Path(), groups=frozenset({"dev-tools"}))) == ()
