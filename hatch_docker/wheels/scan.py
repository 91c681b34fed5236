"""Find what a module uses of folders of tests, which pruning could remove. No I/O.

Paths are relative to site-packages. A test folder is one named `tests`; if they are nested, the outermost. What a use
cannot be told from counts as a use. Time is linear in the source: no pattern repeats before a literal, and looks back
are bounded. The result depends neither on the grammar nor on the Unicode version of the Python that runs this.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator

from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.findings import ANYWHERE, NO_USES, Uses, test_directory
from hatch_docker.wheels.lexer import LETTER, read_module

# PATH_MAX on Linux: a longer path cannot be installed, and a longer text names none.
_LONGEST = 4096

# A module without a match mentions no tests, and is not read further. Most modules have none, though many contain the
# word in prose. The pattern begins with a literal, which makes re fast.
_HINT = regex(
    rb"""tests(?:
          [/\\]|[.:](?=[^\s,;)\]}])                                   # before a path or a module's name
        | (?![LETTERS-])(?:
              (?<=[./\\]tests)                                       # at the end of one
            | (?<=[^\sLETTERS-]tests)(?=[^\s\])=:.\[(]|[)\]]|\Z)      # in a string
            | (?<=[%)\\][A-Za-z]tests)                               # behind a placeholder or an escape
            | (?:(?<=[(,{}"'\r\n\\]tests)|(?<=[\s,(.][ \t\f]tests)   # in a list or an expression
                |(?<=(?:from|port)[ \t\f]tests))                     # after from or import
              [ \t\f\\]*(?:as\b|import\b|\.|[,)\#;\r\n"'{]|\Z)
          )
    )""".replace(b"LETTERS", LETTER.strip(b"[]")),
    re.VERBOSE,
)
# In a string of words, which may be a list: what is before it, backwards, and behind it.
_LONGEST_LIST = 400
_IN_LIST = regex(rb"tests(?=[\w\s,;:|/.*\\-]{0,400}[\"'])")
_IN_LIST_BEFORE = regex(rb"[\w\s,;:|/.*\\-]*[\"']")
_LIST = regex(r"[\s,;:|\\]*(?:[\w./*-]*[\w/*-](?:[\s,;:|\\]+|\Z)){2,}")
# Behind these, a word begins: a placeholder of % and an escape.
_JOINT = regex(r"(?:\\[a-zA-Z0]|%(?:\(\w{0,80}\))?[-#0 +.\d]{0,9}[a-zA-Z])\Z")
# The ways of a module to its own folder, or to that of a package.
_HERE = (
    *(b"__file__", b"__path__", b"resources", b"find_spec", b"getfile", b"getsourcefile"),
    *(b"iter_modules", b"walk_packages"),
)
_LISTING = (b"_modules", b"_packages", b"listdir", b"scandir", b"iterdir", b"walk", b"glob", b"contents")
_LISTS = regex(
    rb"\b(?:iter_modules|walk_packages|find_modules|listdir|f?walk|scandir|iterdir|r?glob|iglob|contents)\b"
    rb"(?=[ ]?\(|[ ]as\b)"
)
# What imports modules by names that it finds, and what finds these.
_IMPORTS = (
    *(b"import_module", b"exec_module", b"load_module", b"run_module"),
    *(b"__import__", b"exec(", b"run_path", b"load_source"),
)
_FINDS = (b"_modules(", b"_packages(", b"dir(", b"walk(", b"glob(", b"contents(")
_FINDS_MODULES = regex(
    rb"\b(?:iter_modules|walk_packages|find_modules|listdir|scandir|iterdir|os\.f?walk|resources\.contents)\("
    rb"|\bfor \w{1,40}, ?\w{1,40}, ?\w{1,40} in [^\n]{0,100}?walk\("
    rb"|\b[ir]?glob\([^\n]{0,200}?(?:\.py|(?<!\.)\*)[\"']"
)
_IMPORT = regex(
    rb"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^()]*\)|[^\n]*)|import[ \t]+([^\n]*))", re.MULTILINE
)
_DOTTED = regex(r"[A-Za-z_][\w.]*")
_COPYING = (b"copy", b"make_archive")
_COPIES = regex(rb"\b(?:copytree|copyfile|copy2|shutil\.copy|make_archive)\b")
_RUNS = regex(rb"\b(?:TestLoader|defaultTestLoader|TextTestRunner|loadTestsFrom\w+)\b|\.discover\(|[\"']unittest[\"']")
# In a script: a program that finds and runs tests by itself.
_RUNNER = regex(rb"\b(?:unittest|pytest|py\.test|nose2?)\b")
_TEST_MODULE = regex(r"test_|\w*_tests?\Z|conftest\Z")
_PATTERNS = (b"test_*", b"test*", b"_test.py", b"_tests.py")
_BINARY = regex(rb"(?<=[./\\])tests")
# The folder in front of a folder of tests, in a path.
_PARENT = regex(r"([\w-]{1,100})[/\\]+\Z")
_TEST_FILES = regex(r"(?:^|[/\\])(?:test_?\*|\*_tests?\.py)")
_NAMES_TEST = regex(r"(?:^|[./\\])(?:test_\w{1,80}|\w{1,80}_test)\.py\Z")
_UP = regex(rb"\.parents?\b[ ]?[.\[]|dirname\([ \w.]{0,40}dirname|[\"']\.\.|\bpardir\b|_UP\b")
_OF_PACKAGE = regex(rb"(?<![\w.])([A-Za-z_]\w{0,80})\.__(?:file|path)__")
_ALIAS = regex(rb"import[ \t]+([\w.]{1,255})[ \t]+as[ \t]+(\w{1,80})")
_PACKAGE = regex(
    rb"\b(?:files|contents|import_module|__import__|find_spec|get_data|PackageLoader|resource_\w{1,20})\("
    rb"\s{0,40}[\"']([\w.]{1,255})[\"']"
)
_FOLDER = regex(r"[A-Za-z_][\w/-]{0,100}")
_WORDS = regex(r"\w+")
_NAME_PART = regex(r"[\w.]*")
# What ends the literal part of a path: a placeholder, a wildcard, white space, or a delimiter of some other syntax.
_PATH_END = regex(r"[*?\[{%<$\s\"'|;,()]")


def uses(source: bytes, path: str) -> Uses:
    """What the module at `path` uses: its imports and strings count, its docstrings and comments do not."""
    if len(path) > _LONGEST:
        return NO_USES
    mentioned = bool(_HINT.search(source)) or _has_list(source)
    here, finds = _has(source, _HERE), _has(source, _PATTERNS)
    lists = (mentioned or here or finds) and _has(source, _LISTING) and bool(_LISTS.search(source))
    finds = finds and lists
    copies = here and _has(source, _COPYING) and bool(_COPIES.search(source))
    runs = b"unittest" in source and bool(_RUNS.search(source))
    # Those in a folder of tests keep its tests (`suites`).
    loads = loads_modules(source) and not test_directory(path)
    if not (mentioned or finds or runs or copies or loads or (here and lists)):
        return NO_USES
    scan, packages = _Scan(path), _packages(source)
    scan.read(source if mentioned or finds or copies or loads else b"")
    around = scan.top if _UP.search(source) else scan.folder
    if runs or (finds and scan.runs) or scan.parts:
        scan.holds |= {ANYWHERE, scan.top, *packages}
    elif copies:
        scan.holds |= {f"{folder}/{name}" for folder in {around, scan.folder} for name in scan.folders()}
    if loads:
        scan.holds |= {scan.top, *packages}
        scan.loads |= {f"{name.partition('/')[0]}/" for name in scan.imports}
    if lists and (here or scan.alone):
        scan.touches |= {around}
    if lists or scan.alone or scan.below:
        scan.touches |= {*packages, *map(_path, _PACKAGE.findall(source))}
    return Uses(
        holds=frozenset(scan.holds - {""}),
        touches=frozenset(scan.touches - {""}),
        names=frozenset(scan.names),
        loads=frozenset(scan.loads),
    )


def loads_modules(source: bytes) -> bool:
    """Whether a module lists folders or modules, and imports by names that it finds."""
    return _has(source, _FINDS) and _has(source, _IMPORTS) and bool(_FINDS_MODULES.search(source))


def _has(source: bytes, words: Iterable[bytes]) -> bool:
    """Whether any word occurs. This is much faster than a pattern of alternatives."""
    return any(word in source for word in words)


def _has_list(source: bytes) -> bool:
    """Whether `tests` is in a string of words, which the module may split."""
    found = _IN_LIST.finditer(source) if b"split" in source else ()
    return any(
        _IN_LIST_BEFORE.match(source[max(0, match.start() - _LONGEST_LIST) : match.start()][::-1]) for match in found
    )


def uses_by_import(names: Iterable[str], path: str) -> Uses:
    """The test folders that the module at `path` uses by its imports (`names`): their tests, or their other modules."""
    holds: set[str] = set()
    touches: set[str] = set()
    for name in names:
        base, rest = _Scan(path).resolved(name)
        full = f"{base}/{rest}" if base else rest
        if folder := test_directory(f"{full}/"):
            of_a_test = any(map(_TEST_MODULE.match, full[len(folder) :].split("/")))
            (holds if of_a_test else touches).add(folder)
    return Uses(holds=frozenset(holds), touches=frozenset(touches))


def imported_names(source: bytes) -> Iterator[str]:
    """The names that a module imports, with leading dots if they are relative; those in its strings count, too."""
    for match in _IMPORT.finditer(source):
        module, several, single = (each.decode("utf-8", "replace") if each else "" for each in match.groups())
        if module:
            yield module
        base = module if module.endswith(".") or not module else f"{module}."
        for name in _DOTTED.findall(several or single):
            yield base + name


def packages_of(source: bytes) -> Iterator[str]:
    """The names that a module imports, and the packages that it opens files of."""
    yield from imported_names(source)
    yield from (name.decode() for name in _PACKAGE.findall(source))


def uses_of_text(text: bytes) -> Uses:
    """What a file that is no module, such as a configuration, names: modules of tests, and paths in folders of them."""
    if b"tests" not in text:
        return NO_USES
    scan = _Scan("")
    scan.text(text.decode("utf-8", "replace"))
    return Uses(holds=frozenset(scan.holds - {""}))


def uses_of_script(text: bytes) -> Uses:
    """What commands name; all tests if they run a program that finds these by itself."""
    found = uses_of_text(text)
    return Uses(holds=found.holds | {ANYWHERE}) if _RUNNER.search(text) else found


def uses_of_binary(words: Iterable[bytes], path: str) -> Uses:
    """What a compiled module names in its `words`. Anything may follow a name there, such as the type of a value.

    A word that begins with the byte in front of it is a whole string.
    """
    found = [uses_of_text(b"\n".join(sorted(words)))]
    for word in words:
        names = [word[: match.end()] for match in _BINARY.finditer(word)]
        found += [uses_of_text(name) for name in names if name.strip(b".") != b"tests"]
        if word.startswith((b"\0", b"\5", b".tests", b"..tests")) and "/" in path:
            found.append(Uses(holds=frozenset({path.partition("/")[0]})))
    return Uses.joined(found)


@dataclass(slots=True)
class _Scan:
    """What the module at `path` mentions.

    `alone`: `tests` without more; `listed`: among other words; `below`: a path in it; `parts`: the end of a dotted
    name, without its beginning; `runs`: a pattern of the names of test modules; `tests`: the name of one.
    """

    path: str
    holds: set[str] = field(default_factory=set)
    touches: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    alone: bool = False
    listed: bool = False
    below: bool = False
    parts: bool = False
    runs: bool = False
    tests: bool = False

    @property
    def folder(self) -> str:
        return posixpath.dirname(self.path)

    @property
    def top(self) -> str:
        return self.path.partition("/")[0] if "/" in self.path else ""

    def read(self, source: bytes) -> None:
        """Take the imports and strings of a module."""
        for kind, value in read_module(source):
            text = value.decode("utf-8", "replace")
            if kind == "text":
                self.text(text)
            elif len(value) <= _LONGEST:
                self.imported(text)
        if self.alone or (self.listed and b"split" in source):
            self.names = set(_WORDS.findall(" ".join([*self.texts, *self.imports, self.folder])))
        if self.alone and (self.tests or _has(source, _IMPORTS)):
            self.loads |= self.names
        self.alone = bool(self.names)

    def imported(self, name: str) -> None:
        """An import: `a.b`, or with leading dots."""
        base, rest = self.resolved(name)
        full = f"{base}/{rest}" if base else rest
        self.imports.add(full)
        if "tests" in full:
            self.holds.add(test_directory(f"{full}/"))

    def text(self, text: str) -> None:
        """A string, or a whole file that is not Python."""
        if len(text) <= 255:
            self.texts.append(text)
        self.runs = self.runs or bool(_TEST_FILES.search(text))
        self.tests = self.tests or bool(_NAMES_TEST.search(text))
        at = text.find("tests")
        spaced = False
        while at >= 0:
            end = at + len("tests")
            spaced = spaced or text[at - 1 : at].isspace() or text[end : end + 1].isspace()
            at = text.find("tests", self._mention(text, at, end))
        self.listed = self.listed or (spaced and bool(_LIST.fullmatch(text)))

    def _mention(self, text: str, at: int, end: int) -> int:
        """Take the word `tests` at this place; returns the position behind what was taken."""
        joined = bool(_JOINT.search(text, max(0, at - 100), at)) or text[at - 1 : at] == "}"
        before, after = "" if joined else text[at - 1 : at], text[end : end + 1]
        within = after.isalnum() or after in {"_", "-"}
        if before.isalnum() or before in {"_", "-"}:
            return end
        if before == "." and not within:
            self._dotted(text, at, end)
        elif after and after in "/\\":
            self.alone = self.alone or after == "\\"
            return self._below(text, end + 1)
        elif after and after in ".:" and (not before or text[end + 1 : end + 2].isalpha()):
            if not (before and before in "/\\"):
                self._dotted(text, at, end)
            self.parts = self.parts or joined
            self.alone = self.alone or not before
        elif not within and after != ".":
            self._folder(text, at)
            self.alone = self.alone or not (before.isspace() or after.isspace())
        return end

    def _folder(self, text: str, at: int) -> None:
        """The path of a test folder itself: of any that is in a folder of the same name as this one."""
        if match := _PARENT.search(text, max(0, at - 101), at):
            self.holds.add(f"{ANYWHERE}{match[1]}/tests")

    def _dotted(self, text: str, at: int, end: int) -> None:
        """A module's name that ends or goes on behind `tests`; without its beginning, that of any package."""
        match = _NAME_PART.match(text[max(0, at - 255) : at][::-1])
        name = (match[0][::-1] if match else "") + text[at:end]
        base, rest = self.resolved(name)
        self.holds.add(test_directory(f"{base}/{rest}/" if base else f"{rest}/"))
        self.parts = self.parts or name.startswith(".")

    def _below(self, text: str, start: int) -> int:
        """A path in a test folder, up to what is not literal; returns its end."""
        match = _PATH_END.search(text, start, start + _LONGEST)
        end = match.start() if match else min(start + _LONGEST, len(text))
        inner = re.sub(r"[/\\]+", "/", text[start:end]).lstrip("/")
        if match and match[0] in "*?[{%<$":
            inner = inner.rpartition("/")[0]
        inner = inner.rstrip("/")
        if inner:
            self.holds.add(f"{ANYWHERE}tests/{inner}")
            self.below = True
        else:
            self._folder(text, start - len("tests/"))
            self.alone = True
        return end

    def resolved(self, name: str) -> tuple[str, str]:
        """The package that a dotted name is relative to, empty if it is absolute; and the rest, both as paths."""
        rest = name.lstrip(".")
        level = len(name) - len(rest)
        package = self.path.split("/")[:-1]
        base = package[: max(0, len(package) - level + 1)] if level else []
        return "/".join(base), rest.replace(".", "/")

    def folders(self) -> set[str]:
        """The strings that may be the path of a folder."""
        return {text.strip("/") for text in self.texts if _FOLDER.fullmatch(text)}


def _packages(source: bytes) -> set[str]:
    """The imported packages of which a module asks for the folder."""
    if b".__file__" not in source and b".__path__" not in source:
        return set()
    variables = _OF_PACKAGE.findall(source)
    aliases = {alias: name for name, alias in _ALIAS.findall(source)}
    meant = {aliases.get(variable, variable).decode().rpartition(".")[2] for variable in variables}
    names = (name for name in imported_names(source) if not name.startswith("."))
    return {name.replace(".", "/") for name in names if name.rpartition(".")[2] in meant}


def _path(name: bytes) -> str:
    return name.decode("utf-8", "replace").replace(".", "/")
