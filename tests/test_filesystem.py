from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many

from hatch_docker.errors import ImageError
from hatch_docker.oci import filesystem, members, merging, spec
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.layer import Entry, Layer
from hatch_docker.oci.merging import merge
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.paths import resolve
from hatch_docker.support.streams import digest_of

Member = tuple[str, str, str]  # name, kind, content or target


def layer_of(data: bytes, media_type: str = spec.LAYER_TAR) -> Layer:
    digest = digest_of(data)
    descriptor = Descriptor(media_type=media_type, digest=digest, size=len(data))
    return Layer(descriptor=descriptor, diff_id=digest, open=lambda: io.BytesIO(data))


def tar_of(*members: Member) -> bytes:
    types = {"dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "other": tarfile.FIFOTYPE}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = types.get(kind, tarfile.REGTYPE)
            info.linkname = text if kind in ("link", "hard") else ""
            info.size = len(text.encode()) if kind == "file" else 0
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def file(name: str, text: str = "") -> Member:
    return (name, "file", text)


def folder(name: str) -> Member:
    return (name, "dir", "")


def link(name: str, target: str) -> Member:
    return (name, "link", target)


# Entries of few names, so that links lead to each other, and are replaced.
_PATHS = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3).map("/".join)
_PLACES = (
    st.builds(file, _PATHS)
    | st.builds(folder, _PATHS)
    | st.builds(link, _PATHS, st.sampled_from(["a", "b", "a/b", "../b", "/", "/b/a", "."]))
    | st.builds(lambda path: file(f"{path}/.wh.a"), _PATHS)
)


def merged(*layers: list[Member], wanted: Callable[[str], bool] = lambda _path: True) -> Filesystem:
    return merge([layer_of(tar_of(*layer)) for layer in layers], wanted)


@pytest.mark.parametrize("time", ["9" * 18, "-" + "9" * 18, "-1.5"])
def test_impossible_times_are_read(time: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"mtime": time}
        archive.addfile(info)
    assert merge([layer_of(buffer.getvalue())], lambda _path: False).nodes["a"].mtime == (-1 if time == "-1.5" else 0)


def test_little_is_kept_of_executable_files_that_are_no_programs() -> None:
    buffer = io.BytesIO()
    contents = {"script": b"#!/bin/sh\n" + b"x" * 9000, "other": b"x" * 9000}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.mode, info.size = 0o755, len(content)
            archive.addfile(info, io.BytesIO(content))
    nodes = merge([layer_of(buffer.getvalue())], lambda _path: False).nodes
    assert {name: len(node.head) for name, node in nodes.items()} == {"script": filesystem.HEAD, "other": 4}


def listing(files: Filesystem) -> dict[str, str]:
    return {path: node.kind for path, node in files.nodes.items()}


def content(files: Filesystem, path: str) -> bytes | None:
    node = files.get(path)
    assert node is not None
    return node.data


class TestLayers:
    def test_higher_layers_take_precedence(self) -> None:
        files = merged([file("etc/a", "old"), file("etc/b", "old")], [file("etc/a", "new")])
        assert content(files, "etc/a") == b"new"
        assert content(files, "/etc/b") == b"old"

    def test_reads_only_requested_files(self) -> None:
        files = merged([file("a", "1"), file("b", "2")], wanted=lambda path: path == "a")
        assert content(files, "a") == b"1"
        assert content(files, "b") is None

    def test_whiteout_removes_a_path_and_everything_below_it(self) -> None:
        files = merged(
            [folder("a"), file("a/x"), file("a/b/y"), file("ab/z")], [file("a/.wh.x"), file(".wh.ab"), file("a/.wh.no")]
        )
        assert listing(files) == {"a": "dir", "a/b": "dir", "a/b/y": "file"}

    def test_opaque_directory_hides_the_entries_of_lower_layers(self) -> None:
        files = merged([file("a/x"), file("a/b/y"), file("c")], [file("a/new"), file("a/.wh..wh..opq")])
        assert listing(files) == {"a": "dir", "a/new": "file", "c": "file"}

    def test_opaque_root_hides_everything(self) -> None:
        assert listing(merged([file("a/x"), file("b")], [file(".wh..wh..opq"), file("c")])) == {"c": "file"}

    def test_whiteout_affects_lower_layers_only(self) -> None:
        files = merged([file("a/x", "old")], [file("a/.wh.x"), file("a/x", "new")])
        assert content(files, "a/x") == b"new"

    def test_removed_path_can_be_added_again(self) -> None:
        files = merged([file("a", "1")], [file(".wh.a")], [file("a", "2")])
        assert content(files, "a") == b"2"

    def test_directory_becomes_a_file_and_a_directory_again(self) -> None:
        layers = [[folder("a"), file("a/x")], [file("a", "file")], [folder("a"), file("a/y")]]
        assert listing(merged(*layers[:2])) == {"a": "file"}
        assert listing(merged(*layers)) == {"a": "dir", "a/y": "file"}

    def test_directory_becomes_a_link(self) -> None:
        files = merged([file("lib/x"), folder("usr/lib")], [link("lib", "usr/lib")])
        assert listing(files) == {"usr": "dir", "usr/lib": "dir", "lib": "link"}

    def test_entries_below_a_link_are_where_it_leads(self) -> None:
        # kaniko, Bazel and apko write so on a base whose /lib is a link.
        base = [folder("usr/lib"), link("lib", "usr/lib"), link("usr/lib64", "/lib"), file("usr/lib/old")]
        higher = [file("lib/x/libc.so", "1"), file("usr/lib64/libz.so", "2"), ("bin", "hard", "lib/x/libc.so")]
        files = merged(base, [*higher, file("lib/.wh.old")], wanted=lambda path: path.startswith("usr/lib/"))
        assert content(files, "usr/lib/x/libc.so") == content(files, "lib/x/libc.so") == b"1"
        assert content(files, "usr/lib/libz.so") == b"2"
        assert files.get("usr/lib/old") is None
        assert content(files, "bin") == b"1"
        assert files.nodes["lib"].kind == "link"
        assert listing(merged(base, [file("lib/.wh..wh..opq")])) == {
            "lib": "link", "usr": "dir", "usr/lib": "dir", "usr/lib64": "link"}  # fmt: skip

    def test_links_of_the_same_layer_and_links_that_lead_nowhere_are_followed(self) -> None:
        files = merged([link("a", "b"), file("a/x", "1")])
        assert listing(files) == {"a": "link", "b": "dir", "b/x": "file"}
        assert content(files, "a/x") == b"1"

    @pytest.mark.parametrize("gone", [[folder("lib")], [file(".wh.lib")], [file(".wh..wh..opq")]])
    def test_link_that_is_replaced_or_removed_is_not_followed(self, gone: list[Member]) -> None:
        files = merged([folder("usr/lib"), link("lib", "usr/lib")], [*gone, file("lib/x")])
        assert (files.nodes["lib"].kind, files.nodes["lib/x"].kind) == ("dir", "file")

    @given(st.lists(st.lists(_PLACES, max_size=8), min_size=1, max_size=3))
    def test_what_is_known_of_directories_is_right(self, layers: list[list[Member]]) -> None:
        def directory(changes: Any, path: str) -> str:
            return resolve(path, changes._target_of)

        def attempt() -> dict[str, str] | None:
            try:
                return listing(merged(*layers))
            except ImageError:
                return None

        found = attempt()
        with mock.patch.object(merging._Changes, "directory", directory):
            assert attempt() == found

    def test_writing_through_a_loop_is_an_error(self) -> None:
        with pytest.raises(ImageError, match="too many levels of symbolic links"):
            merged([link("a", "b"), link("b", "a")], [file("a/x")])

    def test_lists_directories_without_an_entry(self) -> None:
        # Not every builder writes them. A file in the venv's directory is enough to refuse the base.
        assert listing(merged([file("app/.venv/bin/x")]))["app/.venv"] == "dir"
        assert listing(merged([file("a", "1")], [file("a/b")])) == {"a": "dir", "a/b": "file"}

    @pytest.mark.parametrize("name", ["./a/x", "/a/x", "a//x", "../../a/x", "a/../a/./x", "b/../../a/x"])
    def test_names_do_not_leave_the_root(self, name: str) -> None:
        assert listing(merged([file(name)])) == {"a": "dir", "a/x": "file"}
        assert listing(merged([file("a/x"), file("c")], [file(posixpath.dirname(name) + "/.wh.x")])) == {
            "a": "dir",
            "c": "file",
        }

    def test_hard_link_is_the_file(self) -> None:
        files = merged([file("bin/python3.13", "binary"), ("bin/python3", "hard", "./bin/python3.13")])
        assert content(files, "bin/python3") == b"binary"
        with pytest.raises(ImageError, match="it has a hard link to no file of it: 'not/there'"):
            merged([("a", "hard", "not/there")])

    def test_lists_devices_and_pipes(self) -> None:
        assert listing(merged([("dev/null", "other", "")])) == {"dev": "dir", "dev/null": "other"}

    def test_many_whiteouts_in_a_large_image_are_fast(self) -> None:
        names = [f"d{number % 50}/f{number}" for number in range(4000)]
        gone = [file(posixpath.join(posixpath.dirname(name), ".wh." + posixpath.basename(name))) for name in names]
        assert "file" not in listing(merged([file(name) for name in names], gone)).values()


class TestBrokenLayers:
    @given(st.data())
    @settings(max_examples=many(60))
    def test_are_read_or_raise_image_error(self, data: st.DataObject) -> None:
        blob = bytearray(tar_of(folder("a"), file("a/b", "text"), link("c", "a"), file("long" * 50, "x")))
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, len(blob) - 1))
            blob[position] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(blob)))
        try:
            merge([layer_of(bytes(blob[:cut]))], lambda _path: True)
        except ImageError as error:
            assert "cannot be read" in error.message  # noqa: PT017 (either outcome is fine)

    @pytest.mark.parametrize("media_type", [spec.LAYER_GZIP, spec.LAYER_ZSTD, spec.LAYER_TAR])
    def test_error_names_the_layer(self, media_type: str) -> None:
        with pytest.raises(ImageError) as caught:
            merge([layer_of(b"nonsense" * 100, media_type)], lambda _path: True)
        assert "cannot be" in caught.value.message


class TestLinks:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("bin/sh", "usr/bin/dash"),
            ("/bin/../bin//./sh", "usr/bin/dash"),
            ("deep/link/sh", "usr/bin/dash"),
            ("up/etc", "etc"),
            ("../../etc", "etc"),
            ("bin/new/file", "usr/bin/new/file"),
            ("dangling", "nowhere"),
            ("", ""),
            ("/..", ""),
        ],
    )
    def test_are_followed_in_all_components(self, path: str, expected: str) -> None:
        files = merged(
            [
                file("usr/bin/dash"),
                link("bin", "usr/bin"),
                link("usr/bin/sh", "dash"),
                link("deep/link", "/bin"),
                link("up", "usr/../../.."),
                link("dangling", "/nowhere"),
                folder("etc"),
            ]
        )
        assert files.resolve(path) == expected

    @pytest.mark.parametrize("links", [{"a": "a"}, {"a": "b", "b": "/a"}, {"a": "b/x", "b": "a"}, {"a": "./a/a"}])
    def test_loop_is_an_error(self, links: dict[str, str]) -> None:
        files = Filesystem({name: Node(kind="link", link=target) for name, target in links.items()})
        with pytest.raises(ImageError, match="too many levels of symbolic links"):
            files.resolve("a/file")

    def test_root_is_a_directory(self) -> None:
        files = merged([link("root", "/")])
        assert (files.get("") or files.nodes["root"]).kind == "dir"
        assert (files.get("root") or files.nodes["root"]).kind == "dir"
        assert files.get("nothing") is None

    def test_lists_entries_through_a_link_to_a_directory(self) -> None:
        files = merged([file("usr/lib/x"), file("usr/lib/sub/y"), file("usr/library"), link("lib", "usr/lib")])
        assert sorted(files.below("lib")) == ["sub", "x"]
        assert sorted(files.below("/")) == ["lib", "usr"]


class TestHostileLayers:
    """Layers that inflate to a huge size."""

    @staticmethod
    def header(kind: bytes, size: int) -> bytes:
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, size
        return info.tobuf(tarfile.GNU_FORMAT)

    @pytest.mark.parametrize(
        "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
    )
    def test_refuses_huge_extended_headers(self, kind: bytes) -> None:
        with pytest.raises(ImageError, match="it has a header of 1073741824 bytes"):
            merge([layer_of(self.header(kind, 1 << 30) + bytes(1 << 20))], lambda _path: True)

    @pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.REGTYPE])
    def test_tarfile_passes_every_header_to_our_hook(self, kind: bytes) -> None:
        seen = []

        class Recorder(members.Member):
            def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
                seen.append(self.type)
                return super()._proc_member(tar)

        data = self.header(kind, 0) + tar_of(file("a"))
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|", tarinfo=Recorder) as tar:
            list(members.members(tar, most=9))
        problem = "tarfile does not call TarInfo._proc_member any more: see oci/members.py"
        assert seen == [kind, tarfile.REGTYPE], problem

    def test_skips_global_headers_as_engines_do(self) -> None:
        text = b"12 path=odd\n"
        named = self.header(tarfile.XGLTYPE, len(text)) + text.ljust(512, b"\0")
        assert listing(merge([layer_of(named + tar_of(file("a")))], lambda _path: True)) == {"a": "file"}

    def test_refuses_paths_longer_than_linux_opens(self) -> None:
        assert merged([file("a/" * 2000 + "b")]).nodes
        with pytest.raises(ImageError, match="too long a path"):
            merged([file("a/" * 50_000 + "b")])

    def test_refuses_too_many_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(merging, "_MAX_MEMBERS", 5)
        assert len(merged([file("a"), file("b")], [file("c/d/e")]).nodes) == 5
        for layers in ([[file(each) for each in "abcdef"]], [[file("a"), file("b")], [file("c/d/e/f")]]):
            with pytest.raises(ImageError, match="too many files"):
                merged(*layers)

    def test_keeps_a_limited_amount_of_content(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(merging, "_MAX_CONTENT", 10)
        files = merged([file("a", "123456"), file("b", "12345"), file("c", "1234")], [file("d", "1")])
        assert [content(files, name) for name in "abcd"] == [b"123456", None, b"1234", None]


_NAMES = st.sampled_from(["a", "b", "c"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_CHANGES = st.lists(
    st.tuples(st.sampled_from(["file", "dir", "link", "remove", "empty"]), _PATHS), min_size=1, max_size=6
)

Tree = dict[str, "Tree | str"]


@given(st.lists(_CHANGES, min_size=1, max_size=4))
@settings(max_examples=many(60))
def test_merging_equals_unpacking_one_over_the_other(layers: list[list[tuple[str, str]]]) -> None:
    root: Tree = {}
    members: list[list[Member]] = []
    for changes in layers:
        # A layer has each path once, and only directories have entries below them.
        paths = {path: kind for kind, path in changes}
        solid = {path for path, kind in paths.items() if kind in ("file", "link")}
        layer = {p: k for p, k in paths.items() if not any(p.startswith(s + "/") for s in solid)}
        links = _links(root)
        layer = {p: k for p, k in layer.items() if not any(p.startswith(each + "/") for each in links)}
        members.append([_member(path, kind) for path, kind in layer.items()])
        _unpack(root, layer)
    assert listing(merged(*members)) == _flat(root)


def _member(path: str, kind: str) -> Member:
    parent, name = posixpath.split(path)
    if kind == "remove":
        return file(posixpath.join(parent, f".wh.{name}"))
    if kind == "empty":
        return file(f"{path}/.wh..wh..opq")
    return (path, kind, "nowhere" if kind == "link" else "")


def _unpack(root: Tree, layer: dict[str, str]) -> None:
    """Unpack a layer as an engine does, into nested dicts: whiteouts first, then the entries."""
    for path, kind in layer.items():
        parent = _walk(root, path.split("/")[:-1], make=False)
        name = path.rpartition("/")[2]
        if parent is None or name not in parent:
            continue
        if kind == "remove":
            del parent[name]
        elif kind == "empty" and isinstance(parent[name], dict):
            parent[name] = {}
    for path, kind in layer.items():
        if kind not in ("file", "dir", "link"):
            continue
        parent = _walk(root, path.split("/")[:-1], make=True)
        assert parent is not None
        name = path.rpartition("/")[2]
        if kind == "dir":
            existing = parent.get(name)
            parent[name] = existing if isinstance(existing, dict) else {}
        else:
            parent[name] = kind


def _walk(tree: Tree, parts: list[str], *, make: bool) -> Tree | None:
    for part in parts:
        inner = tree.get(part)
        if not isinstance(inner, dict):
            if not make:
                return None
            inner = tree[part] = {}
        tree = inner
    return tree


def _links(tree: Tree, prefix: str = "") -> set[str]:
    return {path for path, kind in _flat(tree, prefix).items() if kind == "link"}


def _flat(tree: Tree, prefix: str = "") -> dict[str, str]:
    flat = {}
    for name, inner in tree.items():
        flat[prefix + name] = "dir" if isinstance(inner, dict) else inner
        if isinstance(inner, dict):
            flat |= _flat(inner, f"{prefix}{name}/")
    return flat


@pytest.mark.parametrize("after", [b"", b"more", bytes(3 * tarfile.RECORDSIZE)])
def test_refuses_a_layer_with_another_diff_id(after: bytes) -> None:
    # Engines refuse such a base, too. The diff ID covers bytes after the end of the tar.
    layer = layer_of(tar_of(file("a")) + after)
    assert listing(merge([layer], lambda _path: False)) == {"a": "file"}
    with pytest.raises(ImageError, match="which the config names"):
        merge([replace(layer, diff_id=digest_of(b"another"))], lambda _path: False)


def test_directories_with_another_mode_or_owner_are_written_again() -> None:
    directories = {
        "a": Node(kind="dir"),
        "a/own": Node(kind="dir", uid=7, gid=8),
        "tmp": Node(kind="dir", mode=0o1777),
        "f": Node(kind="file", mode=0o600),
        "l": Node(kind="link", link="tmp"),
    }
    own = Entry(path="a/own/own", mode=0o700)
    entries = [Entry(path=path, content=b"") for path in ("a/own/own/x", "tmp/new/x", "f/x", "l/x", "y")]
    written = {entry.path: entry for entry in Filesystem(directories).with_directories([own, *entries])}
    assert written.keys() == {"a/own", "a/own/own", "tmp", *(entry.path for entry in entries)}
    assert written["a/own"] == Entry(path="a/own", mode=0o755, uid=7, gid=8)
    assert (written["tmp"].mode, written["a/own/own"]) == (0o1777, own)
