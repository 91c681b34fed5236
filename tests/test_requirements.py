"""Requirements files: read as pip reads them, and as locks."""

from __future__ import annotations

import codecs
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from packaging.pylock import Package
from pip._internal.exceptions import PipError
from pip._internal.models.format_control import FormatControl
from pip._internal.network.session import PipSession
from pip._internal.req.req_file import parse_requirements
from services_maker import make_services
from test_locks import HASH, HOST, SLIM, index_file, nothing, request_for, serving

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder, NamedIndexes
from hatch_docker.index.client import IndexFile
from hatch_docker.locks import InstallRequest, named_indexes, read_lock, select
from hatch_docker.locks.readers.requirements_file import is_lock, read_constraints
from hatch_docker.locks.readers.requirements_lines import read_lines

# pip imports an old pkg_resources.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
EMPTY = hashlib.sha256(b"").hexdigest()


def write(folder: Path, text: str | bytes, name: str = "requirements.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---------------------------------------------------------------- compared with pip's own parser


class Session(PipSession):
    """pip's client, for `file:` URLs."""

    def update_index_urls(self, new_index_urls: list[str]) -> None:
        """Ignored: it is no part of reading."""

    def add_trusted_host(self, *args: object, **kwargs: object) -> None:
        """Ignored: it raises ValueError for an invalid host."""


class Finder:
    """What pip's parser sets of a PackageFinder."""

    def __init__(self) -> None:
        self.search_scope: Any = SimpleNamespace(find_links=[], index_urls=[], no_index=False)
        self.format_control, self.release_control = FormatControl(), None

    find_links = property(lambda self: self.search_scope.find_links)
    index_urls = property(lambda self: self.search_scope.index_urls)

    def set_allow_all_prereleases(self) -> None:
        """Ignored, as by hash."""

    def set_release_control(self, release_control: object) -> None:
        """Ignored, as by hash."""

    def set_prefer_binary(self) -> None:
        """Ignored, as by hash."""


@functools.cache
def session() -> Session:
    return Session()


def pips(path: Path) -> Any:
    """What pip reads: requirements, index URLs, `--find-links`, `--no-index`; None if it refuses the file."""
    finder: Any = Finder()
    try:
        found = list(parse_requirements(str(path), session=session(), finder=finder))
    except (PipError, UnicodeDecodeError, LookupError):
        return None
    requirements = [
        (
            each.requirement.strip(),
            each.is_editable,
            each.constraint,
            sorted(
                f"{algorithm}:{value}".lower()
                for algorithm, values in ((each.options or {}).get("hashes") or {}).items()
                for value in set(map(str.lower, values))
            ),
        )
        for each in found
    ]
    links = [Path(each).as_uri() if Path(each).is_absolute() else each for each in finder.find_links]
    return requirements, finder.index_urls, links, finder.search_scope.no_index


def ours(path: Path) -> Any:
    """What we read, in the same form."""
    try:
        lines = list(read_lines(path))
    except LockError:
        return None
    requirements = [
        (
            # pip drops what follows the value of -e; we read a marker there, as uv does.
            (line.text.partition(" ;")[0] if line.editable else line.text).strip(),
            line.editable,
            line.constraint,
            [] if line.editable else sorted(line.hashes),
        )
        for line in lines
        if line.text
    ]
    named = named_indexes(path)
    indexes = [each for each in (named.url, *named.extra_urls) if each]
    return requirements, indexes, [*named.find_links], named.no_index


WORDS = st.sampled_from(
    [
        "six==1",
        "idna>=2,<3",
        "a[b]",
        "; python_version < '3'",
        ";python_version<'3'",
        "foo @ https://files.example/foo-1.whl#sha256=00&x=${TOKEN}",
        "./local.whl",
        "git+https://git.example/x@main#egg=x",
        "--hash=sha256:AA",
        "--hash sha512:bb",
        "--hash=md5:cc",
        "--hash=sha256",
        "--hash",
        "--has=sha384:dd",
        "\\\n",
        " \\\n    ",
        "\\",
        "\n",
        "\n",
        "\r\n",
        "\x0c",
        "# comment",
        " # comment\n",
        "#x",
        "-r other.txt",
        "-rother.txt",
        "-r=other.txt",
        "--requirement=other.txt",
        "-c other.txt",
        "--constraint 'other.txt'",
        "-r missing.txt",
        "\n\n-e .",
        "\n\n-e ./lib[x]",
        "\n\n--editable='./a b'",
        # A newer pip takes a requirement before -e for editable, too.
        "\n\n-e",
        "-i https://user:cGFzcw==@index.example/?key=abc",
        "--index-url=https://user:cGFzcw==@index.example/?key=abc",
        '--index-url "https://index.example"',
        "--pypi-url https://pypi.example",
        "--extra-index-url https://${TOKEN}:${UNSET}@more.example/${lower}",
        "--extra-index-url='https://more.example/'",
        "-f links",
        "-flinks -f ./more",
        "--find-links=https://links.example",
        "--no-index",
        "--no-index=1",
        "--pre",
        "--prefer-binary",
        "--require-hashes",
        "--trusted-host index.example",
        "--no-binary :all:",
        "--only-binary=six",
        "--config-settings=a=b",
        "--config-settings a",
        "--config-settings",
        "--unknown",
        "--unknown=x",
        "-x",
        "-",
        "--",
        "'",
        '"',
        "é",
        "${TOKEN}",
        "$TOKEN",
        " ",
        "\t",
    ]
)
FUZZ = settings(max_examples=many(150))


@given(words=st.lists(st.tuples(WORDS, st.sampled_from(["", " ", "\n", "\n"])), max_size=12))
@FUZZ
def test_files_are_read_as_pip_reads_them(tmp_path: Path, words: Sequence[tuple[str, str]]) -> None:
    os.environ["TOKEN"] = "pass==word"
    write(tmp_path, "other==2 --hash=sha256:EE\n--extra-index-url https://other.example\n", "other.txt")
    (tmp_path / "links").mkdir(exist_ok=True)
    path = write(tmp_path, "".join(word + separator for word, separator in words))
    assert ours(path) == pips(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\\",
        "\\\n\\\n",
        "a==1 \\\n# comment\n--hash=sha256:aa\n",
        "a==1 \\\n  --hash=sha256:aa \\\n  --hash=sha256:bb  # via b\nc\n",
        "a==1 --hash=sha256:aa --hash=sha512:bb --hash=sha256:AA\n",
        "a==1 --hash='sha256:aa'\n",
        "a==1 --config-settings=x=y\n--pre --no-index\n",
        "a#b\nc #d\n#e\n",
        "\ufeffa==1\n",
        "--index-url https://one.example\n--extra-index-url https://two.example\n-i https://three.example\n",
        "--no-index\n--extra-index-url https://two.example\n",
        "-r sub/a.txt\nlast\n",
        pytest.param(
            "-r FILE/sub/a.txt\n",
            # pip does not close the file.
            marks=pytest.mark.filterwarnings(
                "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
            ),
        ),
        "-c sub/a.txt\n",
        "-r sub/a.txt -r sub/b.txt\n",
        "-r sub/a.txt\n-r sub/a.txt\n",
        "a ; platform_release == '--x'\n",
        "a ; platform_release == ' --x'\n",
        "-e ./x ; python_version < '3'\n",
        "--pre a\n",
        "a --pre --no-index\n",
    ],
)
def test_lines_are_read_as_pip_reads_them(tmp_path: Path, text: str) -> None:
    write(tmp_path, "-r ../b.txt\none\n", "sub/a.txt")
    write(tmp_path, "two\n", "b.txt")
    path = write(tmp_path, text.replace("FILE", tmp_path.as_uri()))
    found = pips(path)
    assert found is not None or "--x" in text
    assert ours(path) == found


def test_options_that_only_some_versions_of_pip_have_are_accepted(tmp_path: Path) -> None:
    text = "six==1 --global-option=x\n--all-releases :all: --only-final=six --no-require-hashes\n"
    assert [line.text for line in read_lines(write(tmp_path, text))] == ["six==1", ""]


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + "é==1".encode(),
        codecs.BOM_UTF16_LE + "é==1".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "é==1".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "é==1".encode("utf-32-le"),
        codecs.BOM_UTF32_BE + "é==1".encode("utf-32-be"),
        "# -*- coding: latin-1 -*-\né==1".encode("latin-1"),
        "\n# vim: set fileencoding=cp1252 :\n€".encode("cp1252"),
        "é==1\n".encode(),
    ],
)
def test_encodings_are_those_of_pip(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, data)
    read = ours(path)
    assert read[0] in ([("é==1", False, False, [])], [("€", False, False, [])])
    # An old pip takes the byte order mark of UTF-32 for that of UTF-16.
    assert read == pips(path) or data.startswith(codecs.BOM_UTF32_LE)


@pytest.mark.parametrize(
    "data", [b"\xe9==1", b"# coding: klingon\na", b"# coding: base64\na", codecs.BOM_UTF16_LE + b"\x00\xd8a"]
)
def test_text_without_a_known_encoding_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(LockError, match=r"is not (.|\n)*hint: save it as UTF-8, or name its encoding"):
        list(read_lines(write(tmp_path, data)))
    with pytest.raises(LockError, match="hint: save it as UTF-8"):
        is_lock(write(tmp_path, data))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-r requirements.txt\n", r"requirements\.txt:1: the file includes itself"),
        ("a\n-r sub/a.txt\n", r"sub/a\.txt:1: the file includes itself"),
        ("-r https://user:secret@files.example/r.txt\n", "by URL"),
        ("--index-url https://user:secret@x.example --nope=secret\n", "1: no such option: --nope"),
        ("a --hash=sha1:secret\n", "sha256, sha384, sha512 are allowed"),
        ("--index-url 'https://user:secret@x.example\n", "unclosed quote"),
    ],
)
def test_refused_lines_are_named_without_their_values(tmp_path: Path, text: str, problem: str) -> None:
    write(tmp_path, "-r ../requirements.txt\n", "sub/a.txt")
    with pytest.raises(LockError, match=problem) as caught:
        list(read_lines(write(tmp_path, text)))
    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------- locks


def locked(
    folder: Path, text: str, finder: FileFinder | None = None, root: Path | None = None, name: str = "requirements.txt"
) -> dict[str, Package]:
    """The packages that a requirements file locks, by name."""
    request = InstallRequest(project="demo", root=root or folder, target=SLIM)
    found = read_lock(write(folder, text, name), request, finder or nothing())
    return {each.name: each for each in found.packages}


def project(folder: Path, name: str = "lib", text: str = "") -> Path:
    write(folder, text or f"[project]\nname = {name!r}\nversion = '1'\n", "pyproject.toml")
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("six==1 --hash=sha256:aa\n", True),
        ("-r base.txt\n", True),
        ("six==1 --hash=sha256:aa\nidna==1\n", True),
        ("--require-hashes\nsix==1\n", True),
        ("-e .\nsix==1 --hash=sha256:aa\n", True),
        ("foo @ https://files.example/foo-1.zip#sha256=aa\n./lib\n", True),
        ("foo @ https://files.example/foo-1.zip#sha256=aa\nsix==1\n", False),
        ("foo @ https://files.example/foo-1.zip\n", False),
        ("-c base.txt\nsix\n", False),
        ("six==1\n", False),
        ("six==1  # --hash=sha256:aa\n", False),
        ("-e .\n", False),
        ("", False),
        ("numpy=1.0=py37\n", False),
        ("-r https://files.example/more.txt\n", False),
        ("-r requirements.txt\nsix==1 --hash=sha256:aa\n", True),
    ],
)
def test_file_with_hashes_is_a_lock(tmp_path: Path, text: str, expected: bool) -> None:
    write(tmp_path, "idna==1 --hash=sha256:aa\n", "base.txt")
    assert is_lock(write(tmp_path, text)) is expected


def test_constraints_have_names(tmp_path: Path) -> None:
    text = f"six==1 --hash=sha256:{HASH} --hash=sha512:11\nSIX==1 --hash=sha256:{EMPTY}\n-r more.txt\n"
    write(tmp_path, "idna<4\n", "more.txt")
    hashes = {f"sha256:{HASH}", "sha512:11", f"sha256:{EMPTY}"}
    assert read_constraints(write(tmp_path, text)) == {"six": hashes, "idna": frozenset()}
    with pytest.raises(LockError, match=r"txt:1: foo is a path or URL(.|\n)*hint: constrain it by its version"):
        read_constraints(write(tmp_path, "foo @ https://files.example/foo.zip\n"))


def test_included_files_are_part_of_the_lock(tmp_path: Path) -> None:
    write(tmp_path, f"six==1 --hash=sha256:{HASH}\n", "base.txt")
    finder = FileFinder(files=serving(six=[index_file("six-1-py3-none-any.whl")]))
    assert list(locked(tmp_path, "-r base.txt\n", finder)) == ["six"]


def test_all_hashes_of_a_requirement_are_searched(tmp_path: Path) -> None:
    hashes = {"sha256": HASH, "sha512": "1" * 128}
    file = IndexFile(filename="six-1-py3-none-any.whl", url=f"{HOST}/six-1-py3-none-any.whl", hashes=hashes)
    text = "six==1 " + " ".join(f"--hash={algorithm}:{value}" for algorithm, value in hashes.items())
    (wheel,) = locked(tmp_path, text, FileFinder(files=serving(six=[file])))["six"].wheels or ()
    assert wheel.hashes == hashes


def test_indexes_are_read_with_their_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "pass==word")
    text = (
        "-r more.txt\n-i 'https://user:cGFzcw==@index.example/?key=abc'\n--extra-index-url https://${TOKEN}@b.example\n"
    )
    write(tmp_path, "--extra-index-url https://lost.example\n", "more.txt")
    found = named_indexes(write(tmp_path, text))
    assert found == NamedIndexes("https://user:cGFzcw==@index.example/?key=abc", ("https://pass==word@b.example",))


def test_find_links_are_used_alone_without_an_index(tmp_path: Path) -> None:
    write(tmp_path / "sub" / "links", "", "six-1-py3-none-any.whl")
    write(tmp_path, "--no-index\n-f links\n--find-links=./missing\n", "sub/base.txt")
    path = write(tmp_path, f"-r sub/base.txt\n-f https://files.example/\nsix==1 --hash=sha256:{EMPTY}\n")
    services = make_services(tmp_path, index_url="https://index.example/simple")
    found = services.indexes(named_indexes(path)).resolver
    links = [(tmp_path / place).as_uri() for place in ("sub/links", "missing")]
    assert found.variables()["UV_FIND_LINKS"].split(",") == [*links, "https://files.example/"]
    assert found.arguments() == ("--no-index",)


def test_file_is_found_by_its_hash_in_find_links(tmp_path: Path) -> None:
    file = write(tmp_path / "links", "", "six-1-py3-none-any.whl")
    text = f"--no-index\n--find-links links\nsix==1 --hash=sha256:{EMPTY}\n"
    finder = make_services(tmp_path).indexes(named_indexes(write(tmp_path, text))).finder
    (wheel,) = locked(tmp_path, text, finder)["six"].wheels or ()
    assert wheel.url == file.as_uri()


WHEEL = "foo-1.0+cpu-py3-none-any.whl"


@pytest.mark.parametrize(
    ("line", "version", "expected"),
    [
        (f"https://files.example/{WHEEL}#sha256={HASH}", "1.0+cpu", {"url": f"https://files.example/{WHEEL}"}),
        (f"foo @ https://files.example/{WHEEL} --hash=sha256:{HASH}", "1.0+cpu", {}),
        (f"Foo[x] @ https://files.example/{WHEEL}#sha256={HASH} ; python_version > '3'", "1.0+cpu", {}),
        (f"foo @ https://files.example/foo-2.tar.gz#sha256={HASH}&subdirectory=a/b", "2", {"subdirectory": "a/b"}),
        (f"foo @ https://files.example/main.zip?x=1 --hash=sha256:{HASH.upper()}", None, {}),
        (f"https://files.example/main.zip#egg=foo&sha256={HASH}", None, {}),
        (f"foo @ https://files.example/a%2Bb/foo-1%2Bcpu.zip --hash=sha256:{HASH} --hash=sha256:{HASH}", "1+cpu", {}),
    ],
)
def test_url_with_a_hash_needs_no_index(tmp_path: Path, line: str, version: str | None, expected: Any) -> None:
    (package,) = locked(tmp_path, line).values()
    assert package.name == "foo"
    assert str(package.version or "") == (version or "")
    assert package.archive
    assert package.archive.hashes == {"sha256": HASH}
    assert {key: getattr(package.archive, key) for key in expected} == expected


@pytest.mark.parametrize(
    "line",
    [
        "./a b/foo-1-py3-none-any.whl",
        "./a b/foo-1-py3-none-any.whl[x,y] ; python_version > '3'",
        "a b/foo-1-py3-none-any.whl;python_version>'3'",
        "file:./a%20b/foo-1-py3-none-any.whl",
        "FILE/a%20b/foo-1-py3-none-any.whl",
        "foo @ FILE/a%20b/foo-1-py3-none-any.whl",
        "foo[x] @ ./a b/foo-1-py3-none-any.whl",
        f"./a b/foo-1-py3-none-any.whl --hash=sha256:{EMPTY}",
        f"./a b/foo-1-py3-none-any.whl --hash=sha256:{HASH} --hash=sha256:{EMPTY.upper()}",
        f"FILE/a%20b/foo-1-py3-none-any.whl#sha256={EMPTY}",
    ],
)
def test_local_file_is_hashed(tmp_path: Path, line: str) -> None:
    file = write(tmp_path, "", "a b/foo-1-py3-none-any.whl")
    finder = FileFinder(files=serving(six=[index_file("six-1-py3-none-any.whl")]))
    text = f"six==1 --hash=sha256:{HASH}\n{line.replace('FILE', tmp_path.as_uri())}\n"
    package = locked(tmp_path, text, finder)["foo"]
    assert package.archive
    assert package.archive.hashes == {"sha256": EMPTY}
    request = InstallRequest(project="demo", root=tmp_path, target=SLIM)
    found = read_lock(tmp_path / "requirements.txt", request, finder)
    artifact = select(found, request_for(SLIM), lock=tmp_path / "requirements.txt")[0]
    assert (artifact.url, artifact.version) == (file.as_uri(), "1")


@pytest.mark.parametrize(
    "line",
    [
        "./lib",
        "-e ./lib",
        "lib/",
        "./lib[x]",
        "-e ./lib[x,y]",
        "file:lib",
        "-e FILE/lib",
        "lib @ FILE/lib",
        "-e ./lib ; python_version > '3'",
        "./lib ; sys_platform == 'linux'",
        "lib @ ./lib",
        "./lib#egg=lib",
        "./repository#subdirectory=lib",
        "-e FILE/repository#subdirectory=lib",
        ".//x/../lib",
    ],
)
def test_directory_is_a_package_of_its_own_name(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "repository" / "lib" if "repository" in line else tmp_path / "lib"
    project(folder, "Lib")
    package = locked(tmp_path, line.replace("FILE", tmp_path.as_uri()))["lib"]
    assert package.directory
    assert Path(package.directory.path or "") == folder


@pytest.mark.parametrize("line", [".", "-e .", "./", "-e .[x,y]", "-e FILE", "demo @ FILE", "../PROJECT", "file:."])
def test_the_project_itself_is_left_out(tmp_path: Path, line: str) -> None:
    line = line.replace("FILE", tmp_path.as_uri()).replace("PROJECT", tmp_path.name)
    finder = FileFinder(files=serving(six=[index_file("six-1-py3-none-any.whl")]))
    assert list(locked(tmp_path, f"{line}\nsix==1 --hash=sha256:{HASH}\n", finder)) == ["six"]


def test_requirements_for_another_platform_are_left_out(tmp_path: Path) -> None:
    text = "./gone ; sys_platform == 'win32'\n-e ./gone ; python_version < '3'\nfoo @ ./gone.whl ; os_name == 'nt'\n"
    assert locked(tmp_path, text) == {}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", "[tool.poetry]\nname = 'L.i-b'\n"),
        ("pyproject.toml", "[project]\ndynamic = ['name']\n[tool.poetry]\nname = 'L.i-b'\n"),
        ("setup.cfg", "[metadata]\nname = L_i-b\nversion = %(x)s\n"),
    ],
)
def test_names_of_directories_are_read_from_their_own_files(tmp_path: Path, file: str, text: str) -> None:
    write(tmp_path / "x", text, file)
    assert list(locked(tmp_path, "./x")) == ["l-i-b"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"git+https://git.example/o/foo.git@{COMMIT}#egg=foo&subdirectory=x", ("https://git.example/o/foo.git", "x")),
        (f"foo @ git+ssh://git@git.example/o/foo@{COMMIT.upper()}", ("ssh://git@git.example/o/foo", None)),
        (f"-e git+https://git.example/a@b/foo@{COMMIT}#egg=foo[x]", ("https://git.example/a@b/foo", None)),
        (f"foo[x] @ git+file:///srv/foo@{COMMIT}#subdirectory=a/b ; os_name == 'posix'", ("file:///srv/foo", "a/b")),
    ],
)
def test_git_commit_is_a_package(tmp_path: Path, url: str, expected: tuple[str, str | None]) -> None:
    package = locked(tmp_path, url)["foo"]
    assert package.vcs
    assert (package.vcs.type, package.vcs.commit_id) == ("git", COMMIT)
    assert (package.vcs.url, package.vcs.subdirectory) == expected


def test_paths_of_a_workspace_member_may_be_those_of_the_root(tmp_path: Path) -> None:
    # `uv export` of a member writes paths that are relative to the workspace's root.
    write(tmp_path, "[tool.uv.workspace]\nmembers = ['packages/*']\n", "pyproject.toml")
    member = project(tmp_path / "packages" / "app", "app")
    project(tmp_path / "packages" / "lib", "lib")
    found = locked(member, "-e ./packages/app\n./packages/lib\n", root=member)
    assert list(found) == ["lib"]


def test_paths_of_a_file_outside_the_project_are_relative_to_it(tmp_path: Path) -> None:
    project(tmp_path, "outer")
    member = project(tmp_path / "app", "app")
    assert list(locked(tmp_path, "-e .\n./app\n", root=member)) == ["outer"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("./gone\n", r"requirements\.txt:1: there is no './gone' in "),
        ("-e file:///gone/project\n", "there is no '/gone/project'(.|\\n)*hint: if it was locked in another directory"),
        ("./gone-1-py3-none-any.whl\n", "there is no './gone-1"),
        ("./nameless\n", "./nameless has no name: (.|\n)*hint: write `name @ ./nameless`"),
        ("./a.whl\n", "./a.whl has no name: 'a.whl' is not the name of a wheel or sdist"),
        (f"./foo-1.zip --hash=sha256:{HASH}\n", "foo-1.zip has another hash than the locked one: sha256:e3b0c442"),
        (f"./foo-1.zip --hash=sha512:{HASH}\n", "foo-1.zip has another hash than the locked one: sha512:"),
        ("foo @ https://u:secret@files.example/foo-1.zip\nbar==1 --hash=sha256:aa\n", "missing hashes for foo"),
        ("https://u:secret@files.example/foo-1.zip\n", r"missing hashes for https://files\.example/foo-1\.zip"),
        ("https://files.example/foo-1.zip#md5=00\n", "missing hashes"),
        (f"https://u:secret@x.example/main.zip#sha256={HASH}\n", "https://x.example/main.zip has no name"),
        ("foo @ https://x.example/foo-1.zip --hash=sha256:aa --hash=sha256:bb\n", "foo has several sha256 hashes"),
        (
            "foo @ git+https://git.example/foo@main\n",
            "foo comes from Git at 'main', (.|\n)*the full hash of the commit",
        ),
        ("foo @ git+https://git.example/foo\n", "foo comes from Git without a revision"),
        ("foo @ git+https://git.example/foo@0123456\n", "foo comes from Git at '0123456'"),
        (f"git+https://u:secret@git.example/foo@{COMMIT}\n", "has no name: nothing in the URL does"),
        (f"foo @ hg+https://hg.example/foo@{COMMIT}\n", "foo comes from hg, and only Git is supported"),
        ("./foo-1.zip ; python_version ~ 3\n", "1: the marker is not valid"),
        ("./lib\nlib @ ./other\n", "lib is required twice, from different places"),
        ("./gone\n./nameless\n", "txt:1: there is no (.|\n)*txt:2: ./nameless has no name"),
    ],
)
def test_what_cannot_be_locked_is_an_error(tmp_path: Path, text: str, problem: str) -> None:
    write(tmp_path, "", "foo-1.zip")
    write(tmp_path, "", "a.whl")
    write(tmp_path / "nameless", "[project]\ndynamic = ['name']\n", "pyproject.toml")
    project(tmp_path / "lib")
    project(tmp_path / "other")
    with pytest.raises(LockError, match=problem) as caught:
        locked(tmp_path, text)
    assert "secret" not in str(caught.value)
