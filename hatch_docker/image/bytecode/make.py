"""Layers of bytecode are made: sources are read and verified, compiled in chunks, and written with their RECORD."""

from __future__ import annotations

import hashlib
import posixpath
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import groupby, pairwise

from hatch_docker.base.image import Base, files_of
from hatch_docker.base.target import VENV
from hatch_docker.errors import ImageError
from hatch_docker.image.bytecode.compiler import Compiler, Source
from hatch_docker.image.bytecode.parts import CodeOptions, CodePart, code_key, code_kind, library_code, wheel_key
from hatch_docker.image.bytecode.select import Modules, cache_name
from hatch_docker.image.bytecode.stdlib import standard_library
from hatch_docker.image.extra_files import through
from hatch_docker.image.layers import SHARED, Part, corrected, digest_of
from hatch_docker.oci.content import plain_chunks
from hatch_docker.oci.layer import Entry, Layer, WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, make_once, recall, remember
from hatch_docker.services import Services
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.memory import return_memory
from hatch_docker.support.paths import parents
from hatch_docker.support.threads import begun, once, together
from hatch_docker.wheels.install import lay_out
from hatch_docker.wheels.prepare import fetch_wheels
from hatch_docker.wheels.wheelfile import WheelFile
from hatch_docker.wheels.zipmembers import READ_LIMIT

# How many modules a process compiles before another may take the next ones: that takes about a second.
_CHUNK = 100
# How many layers are made at once: some are compressed while others are compiled.
_AT_ONCE = 4
# The kind of documents that name a layer with the bytecode of a wheel, which shares it with others.
_OF_WHEEL = "bytecode"
# In seconds: nothing is written while modules compile, and one of them may take a minute.
_PATIENCE = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    """A module to compile; its bytecode goes to `path` in the image, or in the site-packages of the wheel `owner`."""

    source: Source
    path: str
    owner: str = ""
    checked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeMaker:
    """Makes layers of bytecode for a base. `compiler` is called when something is to be compiled.

    `ahead` has the parts whose layers were begun, which `layers` waits for; those have `turns`, so that the sources and
    bytecode of few are in memory. `read` is set when no standard library is being read, `opened` begins to open the
    compiler.
    """

    base: Base
    options: CodeOptions
    compiler: Callable[[], Compiler]
    services: Services
    turns: threading.Semaphore
    opened: Callable[[], object]
    read: threading.Event = field(default_factory=threading.Event)
    ahead: list[tuple[CodePart, Callable[[], MadeLayer]]] = field(default_factory=list)

    @classmethod
    def of(cls, base: Base, options: CodeOptions, compiler: Callable[[], Compiler], services: Services) -> CodeMaker:
        """A maker that has begun nothing."""
        turns = threading.Semaphore(_at_once(services))
        opened = once(partial(begun, compiler))
        maker = cls(base=base, options=options, compiler=compiler, services=services, turns=turns, opened=opened)
        maker.read.set()
        return maker

    def begin_library(self) -> None:
        """Begin the layer of the standard library, which needs no wheel."""
        part = library_code()

        def make() -> MadeLayer:
            try:
                with self.turns:
                    return self._made_or_cached(part)
            finally:
                self.services.kept.drop()

        self.ahead.append((part, begun(make)))

    def expect(self) -> None:
        """Open the compiler in another thread, for modules that are known soon, after the standard library was read.

        Reading wheels would slow down reading that, whose modules other processes compile meanwhile. Nothing is opened
        unless the standard library's layer was begun.
        """
        self.read.wait()
        if self.ahead:
            self.opened()

    def following(self, parts: Sequence[Part | CodePart]) -> Callable[[Part], None]:
        """What begins the bytecode above a part of wheels, when the layer of these is there.

        That is nothing unless the standard library's was begun: then this is not the time for it.
        """
        above = {id(below): part for below, part in pairwise(parts) if isinstance(part, CodePart) and not part.library}
        if not self.ahead:
            return lambda _below: None
        self._expect([*above.values()])
        errors: list[BaseException] = []

        def make(part: CodePart) -> MadeLayer:
            with self.turns:
                # Where one cannot be made, the others are not tried.
                if errors:
                    raise errors[0]
                try:
                    return self._made_or_cached(part)
                except BaseException as error:
                    errors.append(error)
                    raise

        def begin(below: Part) -> None:
            if part := above.get(id(below)):
                self.ahead.append((part, begun(partial(make, part))))

        return begin

    def layers(self, parts: Sequence[CodePart]) -> list[MadeLayer]:
        """The layers of `parts`, in their order: from the cache, or made.

        The layers of their wheels must have been made, which finds out whether RECORD is right. Raises
        BytecodeUnavailableError if something is to be compiled and nothing can, and what reading raises.
        """
        if not self.ahead:
            self._expect(parts)
        # Each compiles several chunks at once itself.
        return together(self._layer, parts, threads=_at_once(self.services))

    def _expect(self, parts: Sequence[CodePart]) -> None:
        shared = [part for part in parts if code_kind(part) == SHARED and not part.library]
        self.services.cache.expect(SHARED, [code_key(part, self.options) for part in shared])

    def _layer(self, part: CodePart) -> MadeLayer:
        result = next((result for begun_part, result in self.ahead if part == begun_part), None)
        return result() if result else self._made_or_cached(part)

    def _made_or_cached(self, part: CodePart) -> MadeLayer:
        cache, options = self.services.cache, self.options
        files = [_of_file(entry, options) for entry in part.files]
        texts = _digest(files)
        key = code_key(part, options, library=options.library if part.library else "", texts=texts)
        make = partial(self._of_library, part, texts, files) if part.library else partial(self._made, part, files)
        made = make_once(cache, code_kind(part), key, make, patience=_PATIENCE)
        return replace(made, contents=part.contents)

    def _of_library(self, part: CodePart, texts: str, files: list[_Module]) -> MadeLayer:
        """The layer with the standard library, which other bases may have, too."""
        # Sources and bytecode of the standard library come in blocks of some megabytes.
        return_memory()
        self.read.clear()
        try:
            library = [*self._library(part.replaced)]
        finally:
            self.read.set()
        part = self._on_base(part, library)
        key = code_key(part, self.options, library=_digest(library), texts=texts)
        library += files
        make = partial(self._made, part, library)
        return make_once(self.services.cache, code_kind(part), key, make, patience=_PATIENCE)

    def _on_base(self, part: CodePart, library: Sequence[_Module]) -> CodePart:
        """A part with what matters of the base for the standard library, of which many bases have the same."""
        listing = files_of(self.base.merged, self.services.cache, self.services.threads)
        written = listing.with_directories(Entry(path=each.path, content=b"") for each in library)
        owned = {entry.path: entry for entry in (*written, *part.directories) if entry.is_directory}
        above = {parent for each in library for parent in parents(each.path)}
        present = part.present | (self.base.facts.directories & above)
        return replace(part, replaced=frozenset(), present=present, directories=tuple(owned.values()))

    def _library(self, replaced: Collection[str]) -> Iterator[_Module]:
        """The standard library without files that are replaced, at its real paths: links of the base stay links."""
        python, level, links = self.options.target, self.options.optimization, self.base.facts.links
        sources = standard_library(self.base, self.services, optimization=level)
        for folder, group in groupby(sources, key=lambda each: posixpath.dirname(each.path)):
            place = through(folder, links)
            for source in group:
                path = posixpath.join(place, posixpath.basename(source.path))
                bytecode = cache_name(path, python, level)
                if path not in replaced and bytecode not in replaced:
                    yield _Module(source=source, path=bytecode)

    def _made(self, part: CodePart, modules: list[_Module]) -> MadeLayer:
        """Compile and write a part, with `modules` besides those of wheels; the list is emptied, for its memory.

        What an earlier layer has of a wheel is not compiled again.
        """
        entries: list[Entry] = []
        fetch_wheels(each.wheel for each in part.modules)
        with ExitStack() as opened:
            files = [opened.enter_context(WheelFile(each.wheel.path, each.wheel.filename)) for each in part.modules]
            owned = self._earlier(part)
            for each, file in zip(part.modules, files, strict=True):
                corrected(file, each.wheel, self.services.cache)
                if each.wheel.digest not in owned:
                    modules += self._of_wheel(each, file)
            compiled = self._compiled(part, modules) if modules else {}
            modules.clear()
            for (owner, path), code in compiled.items():
                owned.setdefault(owner, {})[path] = code
            for each, file in zip(part.modules, files, strict=True):
                entries += self._with_record(each, file, owned.get(each.wheel.digest, {}))
        entries += [Entry(path=path, content=code) for (owner, path), code in compiled.items() if not owner]
        above = {parent for entry in entries for parent in parents(entry.path)}
        entries += [entry for entry in part.directories if entry.path in above]
        made = make_layer(
            {entry.path: entry for entry in entries}.values(),
            self.services.cache,
            WriteOptions(compression=self.options.compression),
            contents=part.contents,
            present=part.present,
        )
        for each in _sharing(part):
            remember(self.services.cache, _OF_WHEEL, wheel_key(each, self.options), made)
        return made

    def _compiled(self, part: CodePart, modules: Sequence[_Module]) -> dict[tuple[str, str], bytes]:
        """The bytecode of those modules that compile, by owner and path."""
        compiler = self.compiler()
        # The cache has the interpreter now, and this thread the modules.
        self.services.kept.drop()
        with self.services.progress.task("bytecode", ", ".join(part.contents)):
            return dict(_compiled(compiler, modules))

    def _earlier(self, part: CodePart) -> dict[str, dict[str, bytes]]:
        """The bytecode that layers in the cache have of the part's wheels, by the wheel's digest and path.

        It has all of a wheel's, without modules that do not compile, or nothing.
        """
        options, cache = self.options, self.services.cache
        layers: dict[str, tuple[Layer, list[Modules]]] = {}
        for each in _sharing(part):
            if made := recall(cache, _OF_WHEEL, wheel_key(each, options)):
                layers.setdefault(made.layer.diff_id, (made.layer, []))[1].append(each)
        found: dict[str, dict[str, bytes]] = {}
        if layers:
            from hatch_docker.oci.merging import merge
        for layer, wheels in layers.values():
            paths = {
                each.wheel.digest: [cache_name(path, options.target, options.optimization) for path in each.members]
                for each in wheels
            }
            places = {path: f"{options.target.site_packages}/{path}" for names in paths.values() for path in names}
            with suppress(ImageError):
                nodes = merge((layer,), frozenset(places.values()).__contains__).nodes
                for digest, names in paths.items():
                    codes = {path: nodes[places[path]].data for path in names if places[path] in nodes}
                    read = {path: code for path, code in codes.items() if code is not None}
                    # What is too large has no content.
                    if len(read) == len(codes):
                        found[digest] = read
        return found

    def _of_wheel(self, modules: Modules, file: WheelFile) -> Iterator[_Module]:
        wheel, options = modules.wheel, self.options
        site = options.target.site_packages
        for path, member in modules.members.items():
            if file.members[member].file_size > READ_LIMIT:
                continue
            text = b"".join(plain_chunks(member, file.content(member), file.checksum(member)))
            yield _Module(
                source=Source(f"/{site}/{path}", text),
                path=cache_name(path, options.target, options.optimization),
                owner=wheel.digest,
                checked=modules.checked,
            )

    def _with_record(self, modules: Modules, file: WheelFile, compiled: Mapping[str, bytes]) -> list[Entry]:
        """The entries of a wheel's bytecode, and its RECORD, which lists it; none without any bytecode."""
        wheel, target = modules.wheel, self.options.target
        site = target.site_packages
        entries = lay_out(file, target, prefix=VENV, pruned=wheel.pruned, compiled=compiled) if compiled else []
        wanted = {f"{site}/{file.dist_info}/RECORD", *(f"{site}/{path}" for path in compiled)}
        return [entry for entry in entries if entry.path in wanted]


def _sharing(part: CodePart) -> tuple[Modules, ...]:
    """The wheels of a part that other images may have in other company; none if it has one, or the project's own."""
    return part.modules if len(part.modules) > 1 and code_kind(part) == SHARED else ()


def _at_once(services: Services) -> int:
    return min(services.threads, _AT_ONCE)


def _of_file(entry: Entry, options: CodeOptions) -> _Module:
    """A module of the project's own files."""
    path = cache_name(entry.path, options.target, options.optimization)
    return _Module(source=Source(f"/{entry.path}", entry.read()), path=path, checked=True)


def _compiled(compiler: Compiler, modules: Sequence[_Module]) -> Iterator[tuple[tuple[str, str], bytes]]:
    """The bytecode of those modules that compile, by owner and path."""
    for checked in (False, True):
        chosen = sorted((each for each in modules if each.checked == checked), key=lambda each: each.source.path)
        chunks = [chosen[start : start + _CHUNK] for start in range(0, len(chosen), _CHUNK)]
        if not chunks:
            continue
        results = compiler.compile([[each.source for each in chunk] for chunk in chunks], checked=checked)
        for chunk, codes in zip(chunks, results, strict=True):
            yield from (
                ((each.owner, each.path), code) for each, code in zip(chunk, codes, strict=True) if code is not None
            )


def _digest(modules: Sequence[_Module]) -> str:
    """One digest for the paths and texts of modules; empty without any."""
    texts = (f"{each.path} {each.source.path} {hashlib.sha256(each.source.text).hexdigest()}" for each in modules)
    return digest_of(texts) if modules else ""
