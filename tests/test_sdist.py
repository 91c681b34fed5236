from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from sdist_maker import make_compiled_sdist, make_sdist, tar_member

from hatch_docker.compiling import sdist as module
from hatch_docker.compiling.build_system import DEFAULT_BACKEND, DEFAULT_REQUIRES
from hatch_docker.compiling.sdist import Sdist, looks_compiled, read_sdist
from hatch_docker.errors import CompileError

FLIT = '[build-system]\nrequires = ["flit_core >=3,<4"]\nbuild-backend = "flit_core.buildapi"\n'
REQUIRES = '[build-system]\nrequires = ["{}"]\n'


def read(path: Path) -> Sdist:
    return read_sdist(path, path.name)


def refused(path: Path) -> str:
    with pytest.raises(CompileError) as caught:
        read(path)
    assert caught.value.place == path.name
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("zipped", [False, True])
def test_build_system_of_an_sdist(tmp_path: Path, zipped: bool) -> None:
    pyproject = (
        '[build-system]\nrequires = ["flit-core>=3", "tomli; python_version<\'3.11\'"]\n'
        'build-backend = "backend:object.hooks"\nbackend-path = ["tools", "."]\n'
    )
    path = make_sdist(
        tmp_path, "my-demo", "1.0.post1", {"src/my_demo/__init__.py": ""}, pyproject=pyproject, zipped=zipped
    )
    assert read(path) == Sdist(
        filename=path.name,
        name="my-demo",
        version="1.0.post1",
        root="my_demo-1.0.post1",
        requires=("flit-core>=3", "tomli; python_version<'3.11'"),
        backend="backend:object.hooks",
        backend_path=("tools", "."),
        compiled="",
    )


@pytest.mark.parametrize("pyproject", [None, "[tool.black]\n"])
def test_setuptools_is_the_default(tmp_path: Path, pyproject: str | None) -> None:
    found = read(make_sdist(tmp_path, pyproject=pyproject))
    assert (found.requires, found.backend, found.backend_path) == (DEFAULT_REQUIRES, DEFAULT_BACKEND, ())


def test_setuptools_is_the_default_backend(tmp_path: Path) -> None:
    assert read(make_sdist(tmp_path, pyproject=REQUIRES.format("setuptools==60"))).backend == DEFAULT_BACKEND


def test_file_name_may_differ_from_that_of_the_path(tmp_path: Path) -> None:
    path = make_sdist(tmp_path, filename="abcdef")
    assert read_sdist(path, "Demo-1.0.tar.gz").name == "demo"


@pytest.mark.parametrize("zipped", [False, True])
def test_first_source_of_a_compiler_is_named(tmp_path: Path, zipped: bool) -> None:
    assert read(make_compiled_sdist(tmp_path, zipped=zipped)).compiled == "src/_demo.c"
    assert read(make_sdist(tmp_path, zipped=zipped)).compiled == ""


@pytest.mark.parametrize(
    "path",
    ["a.c", "src/A.CPP", "a.cc", "a.cxx", "a.c++", "a.pyx", "a.f", "a.f90", "a.F77", "rust/src/lib.rs", "a.go", "a.m",
     "a.mm", "a.S", "a.asm", "a.cu", "a.d", "a.zig", "a.swg", "a.i", "Cargo.toml", "meson.build", "CMakeLists.txt",
     "attests/a.c", "docs.c"],
)  # fmt: skip
def test_sources_of_compilers(path: str) -> None:
    assert looks_compiled(["demo.py", path], (), "") == path


@pytest.mark.parametrize(
    "path",
    ["a.py", ".ctags.d", "a.h", "include/a.hpp", "a.pxd", "a.pyi", "a.rst", "c", ".c", "notcargo.toml", "a.cfg",
     "tests/a.c", "src/demo/test/a.c", "demo/testing/a.pyx", "docs/a.c", "Doc/a.c", "Examples/a/b.rs",
     "example/Cargo.toml", "benchmarks/a.go"],
)  # fmt: skip
def test_headers_tests_and_documentation_look_pure(path: str) -> None:
    assert looks_compiled([path], ["setuptools"], DEFAULT_BACKEND) == ""


@pytest.mark.parametrize(
    "requirement",
    ["setuptools-rust", "setuptools_rust>=1", "maturin>=1,<2", "Cython", "cython~=3.0", "mypy", "mypy[mypyc]",
     "scikit-build-core", "scikit_build_core[pyproject]", "meson-python", "pybind11", "nanobind", "cffi>=1.12",
     "cmake", "ninja", "hatch-mypyc", "hatch-cython", "py-build-cmake", "sip >=6", "PyQt-builder", "swig"],
)  # fmt: skip
def test_requirement_for_compiling_is_named(tmp_path: Path, requirement: str) -> None:
    name = requirement.partition("[")[0].rstrip("0123456789.,~<>= ") if requirement != "pybind11" else requirement
    assert looks_compiled((), ["wheel", requirement], "") == f"build-system.requires: {name}"
    found = read(make_sdist(tmp_path, pyproject=REQUIRES.format(requirement)))
    assert found.compiled == f"build-system.requires: {name}"


@pytest.mark.parametrize(
    ("backend", "module"),
    [("maturin", "maturin"), ("mesonpy", "mesonpy"), ("scikit_build_core.build", "scikit_build_core"),
     ("sipbuild.api", "sipbuild"), ("py_build_cmake.build", "py_build_cmake"), ("sipbuild:api", "sipbuild")],
)  # fmt: skip
def test_backend_that_compiles_is_named(backend: str, module: str) -> None:
    assert looks_compiled((), (), backend) == f"build-system.build-backend: {module}"


@pytest.mark.parametrize("requires", [["hatchling"], ["cmakelang"], ["mypy-extensions"], ["???"], [""]])
def test_other_requirements_look_pure(requires: list[str]) -> None:
    assert looks_compiled((), requires, "hatchling.build") == ""


def test_unprintable_name_is_escaped(tmp_path: Path) -> None:
    assert read(make_sdist(tmp_path, files={"a\x1b[2J.c": "", "setup.py": ""})).compiled == r"'a\x1b[2J.c'"


def test_links_that_stay_inside_and_unusual_paths_are_accepted(tmp_path: Path) -> None:
    members = [
        (tar_member("pax_global_header", tarfile.XGLTYPE), b""),
        (tar_member(".", tarfile.DIRTYPE), b""),
        (tar_member("./demo-1.0/", tarfile.DIRTYPE), b""),
        (tar_member("./demo-1.0/a/b", tarfile.DIRTYPE), b""),
        (tar_member("demo-1.0/a/b/link", tarfile.SYMTYPE, "../../setup.py"), b""),
        (tar_member("demo-1.0/up", tarfile.SYMTYPE, "a/./b"), b""),
        (tar_member("demo-1.0/hard", tarfile.LNKTYPE, "demo-1.0/setup.py"), b""),
    ]
    found = read(make_sdist(tmp_path, members=members))
    assert (found.root, found.compiled) == ("demo-1.0", "")


BROKEN_MEMBERS = {
    "absolute": ([tar_member("/etc/passwd")], "unsafe path"),
    "up and out": ([tar_member("demo-1.0/../../evil")], "unsafe path"),
    "a drive": ([tar_member("C:/evil")], "unsafe path"),
    "two directories": ([tar_member("other/a")], "'demo-1.0' and 'other'"),
    "a file beside": ([tar_member("evil.py")], "beside its one directory"),
    "an absolute link": ([tar_member("demo-1.0/l", tarfile.SYMTYPE, "/etc")], "leaves it"),
    "a link up": ([tar_member("demo-1.0/l", tarfile.SYMTYPE, "..")], "leaves it"),
    "a link far up": ([tar_member("demo-1.0/a/l", tarfile.SYMTYPE, "../../x")], "leaves it"),
    "a link through another": ([tar_member("demo-1.0/l", tarfile.SYMTYPE, "a/../x")], "leaves it"),
    "a hard link out": ([tar_member("demo-1.0/l", tarfile.LNKTYPE, "etc/passwd")], "leaves it"),
    "a hard link up": ([tar_member("demo-1.0/l", tarfile.LNKTYPE, "demo-1.0/../x")], "leaves it"),
    "below a link": ([tar_member("demo-1.0/l", tarfile.SYMTYPE, "a"), tar_member("demo-1.0/l/x")], "which is a link"),
    "a link below": ([tar_member("demo-1.0/l/x"), tar_member("demo-1.0/l", tarfile.SYMTYPE, "a")], "which is a link"),
    "a device": ([tar_member("demo-1.0/null", tarfile.CHRTYPE)], "neither a file"),
    "a fifo": ([tar_member("demo-1.0/pipe", tarfile.FIFOTYPE)], "neither a file"),
    "a linked pyproject.toml": (
        [tar_member("demo-1.0/pyproject.toml", tarfile.SYMTYPE, "setup.py")],
        "pyproject.toml is a link",
    ),
}


@pytest.mark.parametrize("name", BROKEN_MEMBERS)
def test_hostile_member_is_refused(tmp_path: Path, name: str) -> None:
    members, message = BROKEN_MEMBERS[name]
    assert message in refused(make_sdist(tmp_path, members=[(member, b"") for member in members]))


PYPROJECTS = {
    "no TOML": ("[build-system", "cannot be read"),
    "no table": ("build-system = 1", "not a table"),
    "no requires": ("[build-system]\nbuild-backend = 'x'", "build-system.requires is missing"),
    "requires is text": ("[build-system]\nrequires = 'x'", "not a list of strings"),
    "a number required": ("[build-system]\nrequires = [1]", "not a list of strings"),
    "no requirement": ("[build-system]\nrequires = ['=1']", "cannot be read"),
    "no backend": ("[build-system]\nrequires = []\nbuild-backend = '; rm'", "not the name of an object"),
    "a backend's number": ("[build-system]\nrequires = []\nbuild-backend = 1", "not the name of an object"),
    "a path outside": ("[build-system]\nrequires = []\nbackend-path = ['a/../..']", "not in the sources"),
    "an absolute path": ("[build-system]\nrequires = []\nbackend-path = ['/a']", "not in the sources"),
    "too large": ("#" * (1 << 20) + "\n", "too large"),
    "deep": ("a = " + "[" * 5000, "cannot be read"),
}


@pytest.mark.parametrize("name", PYPROJECTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_invalid_pyproject_is_refused(tmp_path: Path, name: str, zipped: bool) -> None:
    pyproject, message = PYPROJECTS[name]
    assert message in refused(make_sdist(tmp_path, pyproject=pyproject, zipped=zipped))


@pytest.mark.parametrize("zipped", [False, True])
def test_sdist_without_a_build_system_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = make_sdist(tmp_path, files={"demo.py": "", "sub/setup.py": ""}, pyproject=None, zipped=zipped)
    assert "neither a pyproject.toml nor a setup.py" in refused(path)


@pytest.mark.parametrize("filename", ["demo.tar.gz", "demo-1.0.tar.bz2", "demo-one.tar.gz", "demo-1.0.whl"])
def test_file_name_of_another_format_is_refused(tmp_path: Path, filename: str) -> None:
    assert filename in refused(make_sdist(tmp_path, filename=filename))


@pytest.mark.parametrize("filename", ["../demo-1.0.tar.gz", "/demo-1.0.tar.gz", "a b-1.0.zip", "\x1b[2J-1.0.tar.gz"])
def test_file_name_with_special_characters_is_refused(tmp_path: Path, filename: str) -> None:
    with pytest.raises(CompileError, match="characters"):
        read_sdist(make_sdist(tmp_path), filename)


@pytest.mark.parametrize("filename", ["demo-1.0.tar.gz", "demo-1.0.zip"])
def test_missing_file_and_other_content_are_refused(tmp_path: Path, filename: str) -> None:
    path = tmp_path / filename
    assert "cannot be read: No such file" in refused(path)
    path.write_bytes(b"")
    refused(path)
    path.write_bytes(b"<html>404</html>")
    refused(path)


def test_damage_after_the_last_member_is_reported(tmp_path: Path) -> None:
    path = make_sdist(tmp_path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert "CRC" in refused(path)


@pytest.mark.parametrize(("limit", "value"), [("_MOST_MEMBERS", 3), ("_MOST_NAMES", 40), ("_MOST_UNPACKED", 5000)])
def test_sdist_beyond_a_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    path = make_sdist(tmp_path, files={"setup.py": "", "a" * 200: "", "c": "", "d": ""})
    assert read(path).compiled == ""
    monkeypatch.setattr(module, limit, value)
    refused(path)


def test_zip_bomb_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_UNPACKED", 1 << 20)
    path = make_sdist(tmp_path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(4 << 20)))
    assert "unpacks to more" in refused(path)


def _check_outcome(path: Path) -> None:
    """Reading any file gives an Sdist, or a CompileError with a place and a hint."""
    error: CompileError | None = None
    try:
        read(path)
    except CompileError as raised:
        error = raised
    assert error is None or (error.place == path.name and error.hint)


@pytest.mark.parametrize("zipped", [False, True])
@settings(max_examples=many(60))
@given(changes=st.lists(st.tuples(st.integers(0, 9000), st.binary(max_size=8)), max_size=4), cut=st.integers(0, 20000))
def test_any_damage_gives_an_sdist_or_a_compile_error(
    tmp_path: Path, zipped: bool, changes: list[tuple[int, bytes]], cut: int
) -> None:
    path = make_sdist(tmp_path, zipped=zipped)
    _damage(path, changes, cut, plain=lambda data: data, packed=lambda data: data)
    _check_outcome(path)


@settings(max_examples=many(80))
@given(changes=st.lists(st.tuples(st.integers(0, 9000), st.binary(max_size=8)), max_size=4), cut=st.integers(0, 20000))
def test_any_damage_of_the_tar_gives_an_sdist_or_a_compile_error(
    tmp_path: Path, changes: list[tuple[int, bytes]], cut: int
) -> None:
    long = tar_member("demo-1.0/" + "x" * 300)
    path = make_sdist(tmp_path, members=[(long, b""), (tar_member("demo-1.0/l", tarfile.SYMTYPE, "setup.py"), b"")])
    _damage(path, changes, cut, plain=gzip.decompress, packed=lambda data: gzip.compress(data, 1))
    _check_outcome(path)


def _damage(
    path: Path,
    changes: list[tuple[int, bytes]],
    cut: int,
    *,
    plain: Callable[[bytes], bytes],
    packed: Callable[[bytes], bytes],
) -> None:
    data = bytearray(plain(path.read_bytes()))
    for at, new in changes:
        at %= len(data)
        data[at : at + len(new)] = new
    path.write_bytes(packed(bytes(data if cut > len(data) else data[:cut])))


@settings(max_examples=many(60))
@given(
    text=st.text(max_size=200) | st.sampled_from(["[build-system]\n", REQUIRES.format("x")]), more=st.text(max_size=60)
)
def test_any_pyproject_gives_an_sdist_or_a_compile_error(tmp_path: Path, text: str, more: str) -> None:
    pyproject = (text + more).encode("utf-8", "replace").decode()
    _check_outcome(make_sdist(tmp_path, pyproject=pyproject))
