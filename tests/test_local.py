from __future__ import annotations

import hashlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent

import pytest
from sdist_maker import make_sdist
from test_bytecode_sandbox import refusal
from wheel_maker import make_wheel

from hatch_docker.compiling.jobs import Job
from hatch_docker.compiling.local import build_locally, is_pure
from hatch_docker.compiling.repack import repack
from hatch_docker.compiling.sdist import read_sdist
from hatch_docker.errors import CompileError, OutputError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import Index
from hatch_docker.index.download import FetchedFile, download
from hatch_docker.index.settings import discover
from hatch_docker.index.tool_settings import ca_file_of
from hatch_docker.locks.uv import find_uv
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http, Network

posix_only = pytest.mark.skipif(os.name == "nt", reason="the fake uv is a script with a shebang")

# A build backend that writes a wheel of one file with the environment of the build.
BACKEND = """
import base64, hashlib, json, os, sys, zipfile

EXTRA = {extra!r}

def get_requires_for_build_wheel(config_settings=None):
    return {requires!r}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("building", "noisily")
    seen = {{"environ": dict(os.environ), "path": sys.path}}
    files = {{
        "demo.json": json.dumps(seen),
        "demo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n",
        "demo-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        **EXTRA,
    }}
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{{path}},sha256={{digest}},{{len(text)}}\\n")
    files["demo-1.0.dist-info/RECORD"] = "".join(rows) + "demo-1.0.dist-info/RECORD,,\\n"
    with zipfile.ZipFile(os.path.join(wheel_directory, {wheel!r}), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return {wheel!r}
"""
IN_TREE = '[build-system]\nrequires = {requires}\nbuild-backend = "backend"\n{more}'


def backend(
    *, wheel: str = "demo-1.0-py3-none-any.whl", requires: Sequence[str] = (), extra: Mapping[str, str] = {}
) -> str:
    return BACKEND.format(wheel=wheel, requires=list(requires), extra=dict(extra))


def in_tree(folder: Path, code: str, *, requires: str = "[]", more: str = "", zipped: bool = False) -> Path:
    """An sdist with its own build backend."""
    pyproject = IN_TREE.format(requires=requires, more='backend-path = ["."]\n' + more)
    return make_sdist(folder, files={"backend.py": code}, pyproject=pyproject, zipped=zipped)


def in_cache(path: Path) -> FetchedFile:
    """A wheel as in the cache: named by its hash."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    cached = path.with_name(digest)
    path.rename(cached)
    name, version = path.name.split("-")[:2]
    artifact = Artifact(name=name, version=version, filename=path.name, url="", hashes={"sha256": digest})
    return FetchedFile.at(cached, artifact, f"sha256:{digest}")


def build(
    path: Path,
    folder: Path,
    wheels: Sequence[FetchedFile] = (),
    *,
    uv: str = "",
    environ: Mapping[str, str] = {},
    filename: str = "",
) -> Path | None:
    folder.mkdir()
    job = job_of(path, filename)
    with folder.with_suffix(".log").open("wb") as log:
        uv = uv or find_uv(os.environ)
        wheel = build_locally(job, wheels, folder=folder, uv=uv, environ={**os.environ, **environ}, write=log.write)
    return wheel if wheel and is_pure(wheel, job.sdist) else None


def job_of(path: Path, filename: str = "") -> Job:
    sdist = read_sdist(path, filename or path.name)
    artifact = Artifact(name=sdist.name, version=sdist.version, filename=sdist.filename, url="", hashes={})
    return Job(sdist=sdist, file=FetchedFile.at(path, artifact, ""), reason="")


def seen(wheel: Path) -> dict[str, object]:
    with zipfile.ZipFile(wheel) as archive:
        return dict(json.loads(archive.read("demo.json")))


@pytest.mark.parametrize("zipped", [False, True])
def test_pure_sdist_is_built_without_an_index(tmp_path: Path, zipped: bool) -> None:
    path = in_tree(tmp_path, backend(), zipped=zipped)
    cached = path.rename(tmp_path / "0123abcd")
    wheel = build(cached, tmp_path / "work", filename=path.name)
    assert wheel is not None
    assert wheel.name == "demo-1.0-py3-none-any.whl"
    assert wheel.is_relative_to(tmp_path / "work")
    assert "building noisily" in (tmp_path / "work.log").read_text()


def test_build_gets_only_the_environment_that_programs_need(tmp_path: Path) -> None:
    secret = "https://me:hunter2@index.example/simple/"
    names = "UV_INDEX UV_DEFAULT_INDEX UV_CACHE_DIR UV_BUILD_CONSTRAINT PIP_INDEX_URL HTTPS_PROXY PYTHONPATH AWS_SECRET"
    environ_of_user = dict.fromkeys(names.split(), secret) | {"UV_NO_BUILD_ISOLATION": "1"}
    wheel = build(in_tree(tmp_path, backend()), tmp_path / "work", environ=environ_of_user)
    assert wheel is not None
    environ = seen(wheel)["environ"]
    assert isinstance(environ, dict)
    assert "hunter2" not in json.dumps(seen(wheel))
    assert "hunter2" not in (tmp_path / "work.log").read_text()
    assert environ["SOURCE_DATE_EPOCH"] == "315619200"
    assert (environ["PYTHONHASHSEED"], environ["TZ"]) == ("0", "UTC")
    assert environ["HOME"].startswith(str(tmp_path / "work"))
    assert environ["TMPDIR"].startswith(str(tmp_path / "work"))


def test_build_gets_proxies_without_logins(tmp_path: Path) -> None:
    proxies = {"https_proxy": "http://proxy.example:3128", "HTTP_PROXY": "http://me:hunter2@proxy.example"}
    wheel = build(in_tree(tmp_path, backend()), tmp_path / "work", environ={**proxies, "no_proxy": "internal.example"})
    assert wheel is not None
    environ = seen(wheel)["environ"]
    assert isinstance(environ, dict)
    assert environ["https_proxy"] == "http://proxy.example:3128"
    assert environ["no_proxy"] == "internal.example"
    assert "hunter2" not in json.dumps(environ)


# All that a build may read of the environments of processes, and the processes that it may send signals to.
SPY = """
import glob
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/task/*/environ"):
    try:
        EXTRA["seen" + path] = ascii(open(path, errors="replace").read())
    except OSError:
        pass
for number in PROCESSES:
    try:
        os.kill(number, 0)
    except OSError:
        continue
    EXTRA["alive"] = f"{number}"
"""


@pytest.mark.skipif(bool(refusal()), reason=f"no namespaces here: {refusal()}")
def test_build_reaches_no_other_process(tmp_path: Path) -> None:
    secret = "hunter2-of-the-parent"
    parent = {**os.environ, "SECRET": secret}
    with subprocess.Popen(["sleep", "600"], env=parent) as other:
        try:
            spy = SPY.replace("PROCESSES", repr([other.pid, os.getpid()]))
            code = backend().replace("    files = {\n", indent(spy, "    ") + "    files = {\n")
            wheel = build(in_tree(tmp_path, code), tmp_path / "work", environ={"SECRET": secret})
        finally:
            other.kill()
    assert wheel is not None
    with zipfile.ZipFile(wheel) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert [name for name in texts if name.endswith("/environ")]
    assert not [name for name, text in texts.items() if secret in text]
    assert "alive" not in texts


@pytest.mark.skipif(bool(refusal()), reason=f"no namespaces here: {refusal()}")
def test_what_a_backend_leaves_running_ends_with_the_build(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    code = f"""
import subprocess
subprocess.Popen(["sh", "-c", "exec sleep 600 > {alive}"], start_new_session=True, stdout=-3, stderr=-3)
"""
    with os.fdopen(os.open(alive, os.O_RDONLY | os.O_NONBLOCK)) as pipe:
        assert build(in_tree(tmp_path, code + backend()), tmp_path / "work") is not None
        assert select.select([pipe], [], [], 30)[0]
        assert pipe.read() == ""


def test_configuration_of_uv_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text("no-build = true\n")
    home = tmp_path / "home"
    (home / "uv").mkdir(parents=True)
    (home / "uv" / "uv.toml").write_text("no-build = true\n")
    more = (
        "[tool.uv]\nno-build-isolation = true\n"
        '[[tool.uv.index]]\nurl = "https://index.invalid/simple"\ndefault = true\n'
        '[tool.uv.sources]\ntinybackend = { path = "/nonexistent" }\n'
    )
    wheels = [in_cache(make_wheel(tmp_path, "tinybackend", files={"tinybackend.py": ""}))]
    path = in_tree(tmp_path, "import tinybackend\n" + backend(), requires='["tinybackend"]', more=more)
    assert build(path, tmp_path / "work", wheels, environ={"XDG_CONFIG_HOME": str(home)}) is not None


# Its backend is in a wheel, and requires another one.
WITH_BACKEND = '[build-system]\nrequires = ["tinybackend>=1"]\nbuild-backend = "tinybackend"\n'


def tiny(folder: Path) -> FetchedFile:
    return in_cache(make_wheel(folder, "tinybackend", files={"tinybackend.py": backend(requires=["later"])}))


def test_build_requirements_are_the_given_wheels(tmp_path: Path) -> None:
    path = make_sdist(tmp_path, pyproject=WITH_BACKEND)
    wheels = [tiny(tmp_path), in_cache(make_wheel(tmp_path, "later", files={"later.py": ""}))]
    assert build(path, tmp_path / "all", wheels) is not None
    assert build(path, tmp_path / "without", wheels[:1]) is None
    assert "later" in (tmp_path / "without.log").read_text()
    assert build(path, tmp_path / "none") is None


def test_build_requirement_with_another_hash_is_refused(tmp_path: Path) -> None:
    path = make_sdist(tmp_path, pyproject=WITH_BACKEND)
    wheels = [tiny(tmp_path), in_cache(make_wheel(tmp_path, "later", files={"later.py": ""}))]
    make_wheel(tmp_path, "tinybackend", files={"tinybackend.py": backend() + "# other\n"}).rename(wheels[0].path)
    assert build(path, tmp_path / "work", wheels) is None
    assert wheels[0].digest in (tmp_path / "work.log").read_text()


@pytest.mark.parametrize(
    "wheel",
    ["demo-1.0-cp311-cp311-linux_x86_64.whl", "demo-1.0-py3-none-linux_x86_64.whl", "demo-1.0-py311-none-any.whl",
     "demo-1.0-py2-none-any.whl"],
)  # fmt: skip
def test_wheel_for_one_platform_is_not_pure(tmp_path: Path, wheel: str) -> None:
    assert build(in_tree(tmp_path, backend(wheel=wheel)), tmp_path / "work") is None


def test_wheel_for_python_2_and_3_is_pure(tmp_path: Path) -> None:
    wheel = build(in_tree(tmp_path, backend(wheel="demo-1.0-py2.py3-none-any.whl")), tmp_path / "work")
    assert wheel is not None
    assert wheel.name == "demo-1.0-py2.py3-none-any.whl"


@pytest.mark.parametrize("module", ["demo/_speed.cpython-311-x86_64-linux-gnu.so", "_demo.pyd", "libdemo.so.1.2"])
def test_wheel_with_an_extension_module_is_not_pure(tmp_path: Path, module: str) -> None:
    assert build(in_tree(tmp_path, backend(extra={module: "ELF"})), tmp_path / "work") is None


def test_error_of_the_backend_is_in_the_log(tmp_path: Path) -> None:
    code = "def build_wheel(*args):\n    raise SystemExit('no ' + 'luck')\n"
    assert build(in_tree(tmp_path, code), tmp_path / "work") is None
    assert "no luck" in (tmp_path / "work.log").read_text()


@pytest.mark.parametrize("wheel", ["other-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl", "demo.whl"])
def test_wheel_of_another_package_is_refused(tmp_path: Path, wheel: str) -> None:
    assert build(in_tree(tmp_path, backend(wheel=wheel)), tmp_path / "work") is None


def test_missing_uv_and_missing_folder_are_errors(tmp_path: Path) -> None:
    path = in_tree(tmp_path, backend())
    with pytest.raises(CompileError, match="uv cannot be run") as caught:
        build(path, tmp_path / "work", uv=str(tmp_path / "gone"))
    assert "pip install uv" in caught.value.hint
    with pytest.raises(OutputError):
        build_locally(job_of(path), (), folder=tmp_path / "nowhere", uv="uv", environ={}, write=print)


@posix_only
@pytest.mark.parametrize("end", ["kill -9 $$", "exit 130", "exit 137"])
def test_killed_uv_is_an_error(tmp_path: Path, end: str) -> None:
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\n{end}\n")
    uv.chmod(0o755)
    with pytest.raises(CompileError, match=r"the build of demo 1\.0 on this machine was killed"):
        build(in_tree(tmp_path, backend()), tmp_path / "work", uv=str(uv))


SCRIPT = """
import os, sys
from pathlib import Path
sys.path.insert(0, "tests")
from hatch_docker.support.threads import together
from test_local import build_locally, job_of
path, uv, folder = map(Path, sys.argv[1:])
def build(_item):
    build_locally(job_of(path), (), folder=folder, uv=str(uv), environ={}, write=lambda chunk: os.write(1, chunk))
try:
    together(build, [1], threads=1) if THREAD else build(1)
except KeyboardInterrupt:
    sys.exit(7)
"""


@posix_only
@pytest.mark.parametrize("thread", [False, True])
def test_interrupt_ends_uv_and_the_backend(tmp_path: Path, thread: bool) -> None:
    path, uv, alive = in_tree(tmp_path, backend()), tmp_path / "uv", tmp_path / "alive"
    os.mkfifo(alive)
    opened = f"alive = open({str(alive)!r}, 'w')\nprint('started', flush=True)\n"
    wait = "import os, time\nif backend := os.fork():\n    os.waitpid(backend, 0)\n    sys.exit()\n"
    uv.write_text(f"#!{sys.executable}\nimport sys\n{wait}{opened}time.sleep(600)\n")
    uv.chmod(0o755)
    (tmp_path / "work").mkdir()
    command = [sys.executable, "-c", SCRIPT.replace("THREAD", str(thread)), str(path), str(uv), str(tmp_path / "work")]
    # Opened before there is a writer, which waits for a reader.
    pipe = os.fdopen(os.open(alive, os.O_RDONLY | os.O_NONBLOCK))
    with pipe, subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        # What uv prints is passed on once an interrupt would end it.
        assert select.select([process.stdout], [], [], 60)[0]
        assert b"started" in process.stdout.readline()
        os.set_blocking(pipe.fileno(), True)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 7
        # The pipe ends when the process that writes to it ends.
        assert pipe.read() == ""


# A setup.py of 2014, flit, Poetry and hatchling with a plugin.
REAL_SDISTS = ("docopt-0.6.2.tar.gz", "tomli-2.0.1.tar.gz", "rich-13.9.4.tar.gz", "termcolor-2.4.0.tar.gz")


@pytest.fixture(scope="session")
def index() -> Index:
    found = discover(root=Path.cwd(), environ=os.environ, home=Path.home())
    return Index(found, Http(Network(ca_file=found.ca_file or ca_file_of(os.environ))))


def fetched(index: Index, filename: str, cache: Path) -> FetchedFile:
    name, _, version = filename.removesuffix(".tar.gz").rpartition("-")
    (file,) = [file for file in index.files(name) if file.filename == filename]
    artifact = Artifact(name=name, version=version, filename=filename, url=file.url, hashes=file.hashes)
    return download([artifact], cache=Cache(cache), http=Http(Network(ca_file=ca_file_of(os.environ))))[0]


def downloaded(requires: Sequence[str], folder: Path) -> list[FetchedFile]:
    """Wheels of build requirements and of what these require."""
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "-d", str(folder)]
    subprocess.run([*command, *requires], check=True)
    return [in_cache(path) for path in sorted(folder.iterdir())]


def repacked(wheel: Path | None) -> bytes:
    assert wheel is not None
    out = io.BytesIO()
    repack(wheel, out, wheel.name)
    return out.getvalue()


@pytest.mark.network
@pytest.mark.parametrize("filename", REAL_SDISTS)
def test_real_sdists_give_the_same_bytes_anywhere(index: Index, tmp_path: Path, filename: str) -> None:
    file = fetched(index, filename, tmp_path / "cache")
    sdist = read_sdist(file.path, filename)
    assert sdist.compiled == ""
    wheels = downloaded(sdist.requires, tmp_path / "wheels")
    first = repacked(build(file.path, tmp_path / "first", wheels, filename=filename))
    before = os.umask(0o077)
    try:
        elsewhere = tmp_path / "quite" / "another directory"
        elsewhere.parent.mkdir()
        environ = {"TZ": "Pacific/Kiritimati", "LANG": "de_DE.UTF-8", "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"}
        second = repacked(build(file.path, elsewhere, wheels, environ=environ, filename=filename))
    finally:
        os.umask(before)
    assert first == second


@pytest.mark.network
def test_real_sdist_with_a_c_extension_looks_compiled(index: Index, tmp_path: Path) -> None:
    file = fetched(index, "MarkupSafe-2.1.5.tar.gz", tmp_path / "cache")
    assert read_sdist(file.path, file.artifact.filename).compiled == "src/markupsafe/_speedups.c"
