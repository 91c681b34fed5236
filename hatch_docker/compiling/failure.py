"""Explain a failed build by its log: the lines that matter, and a hint at what is missing. No I/O."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hatch_docker.os_packages.knowledge import package_of
from hatch_docker.support.patterns import regex

# The number of characters of a long line, such as a compiler's command, that are shown, and that are searched.
_SHOWN, _READ = 200, 2000

_ESCAPES = regex(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
_WARNING = regex(r"^[^\n]{0,400}?Warning: .*\n\s*!!\n(?:.*\n){0,40}?\s*!!\n(?:\s*self\.\w+\(.*\n)?", re.MULTILINE)
_FRAME = regex(r'( *)File ".+", line \d+')
# What setuptools, meson and pip print around a compiler's output, and what merely repeats it.
_CHATTER = regex(
    r"[\s│|~^*!=━─]*"
    r"|(?:(?:INFO|DEBUG):[\w.]+:)?"
    r"(?:copying|creating|running|adding|writing|reading|removing|byte-compiling|installing|hard linking)\s.+"
    r"|Running `.+` gave .*|The following exception\(s\) were encountered:|A full log can be found at .*"
    r"|(?:[\w-]+\| )?Compiler for \w+ supports arguments .*|compilation terminated\."
    r"|(?:WARNING:root:)?(?:warning: )?no (?:previously-included )?(?:files|directories) (?:matching|found matching) .*"
    r"|(?:WARNING:.+: )?(?:error: )?Command '\[.*|error: command '.+' failed with exit (?:code|status) \d+"
    r"|Traceback \(most recent call last\):|During handling of the above.*|The above exception was the direct.*"
    r"|[×│╰].*|\[(?:end of output|notice).*|hint: See above.*"
    r"|note: This (?:error originates from a subprocess|is an issue with the package).*"
    r"|error: (?:subprocess-exited-with-error|metadata-generation-failed)"
    r"|(?:ERROR: )?Failed (?:building wheel for|to build) .*"
    r"|(?:Building wheels? for|Preparing metadata|Getting requirements|Collecting) .*"
    r"|Installing \w+ dependencies: .*|Downloading .+|━.*"
)
_ERROR = regex(r"\berror\b|\w(?:Error|Exception)\b|\bnot found\b", re.IGNORECASE)


class _Rule(NamedTuple):
    """A pattern of a line that says what is missing.

    `name` is the missing item's name in the tables of packages, with `{}` for each group of the pattern. A match of a
    `loose` rule counts only if the tables have its name.
    """

    pattern: re.Pattern[str]
    name: str = "{}"
    loose: bool = False


def _rule(pattern: str, name: str = "{}", *, loose: bool = False) -> _Rule:
    return _Rule(re.compile(pattern, re.MULTILINE), name, loose)


_WORD = r"(?<![\w.+-])([\w.+-]{1,64})"
_MISSING: Sequence[_Rule] = (
    # Headers: gcc, clang, and build scripts
    _rule(r"fatal error: '?([\w./+-]+)'?(?:: No such file or directory| file not found)"),
    _rule(r"header '?([\w./+-]+\.h(?:pp)?)\b", loose=True),
    # The linker
    _rule(r"(?:cannot find|unable to find library) -l([\w.+-]+)", "-l{}"),
    # pkg-config and its callers
    _rule(r"^Package '?([\w.+-]+?)'?(?:, required by '[^']+',)? (?:was )?not found"),
    _rule(r"No package '([\w.+-]+)' found"),
    _rule(r"Dependency \"([\w.+-]+)\" not found"),
    _rule(r"pkg-config --exists '?([\w.+-]+)'? returned", loose=True),
    _rule(r"system library `([\w.+-]+)` required by crate"),
    # CMake, and scripts with a search of their own
    _rule(r"Could NOT find (\w+)", loose=True),
    _rule(r"(?:library files could not be found for|load dependency) (\w+)", loose=True),
    _rule(rf"{_WORD}(?: and ([\w.+-]+))? development packages are installed", loose=True),
    _rule(r"A GDAL API version must be specified", "gdal-config"),
    _rule(r"Could not find directory of OpenSSL installation", "openssl"),
    # Programs: shells, Python, compilers, meson
    _rule(r"^(?:/bin/)?\w*sh: (?:line )?(?:\d+: )?([\w.+-]+): (?:command )?not found"),
    _rule(r"^(?!Running `).*\[Errno 2\] No such file or directory: '([\w.+-]+)'"),
    _rule(r"(?:command|execute) '([\w.+-]+)'(?: failed)?: No such file or directory"),
    _rule(r"(?:cannot execute|trying to exec) '(\w+)'"),
    _rule(r"linker `([\w.+-]+)` not found"),
    _rule(r"Program '([\w.+-]+)(?: [^']*)?' not found"),
    _rule(rf"{_WORD} (?:executable not found|is not installed)", loose=True),
    _rule(r"Could not (?:find|detect) [`'\"]?(\w+)", loose=True),
    # Compilers
    _rule(r"Unknown compiler\(s\): \[\['([\w.+-]+)'"),
    _rule(r"No CMAKE_CXX_COMPILER could be found|no acceptable C\+\+ compiler", "c++"),
    _rule(r"No CMAKE_C_COMPILER could be found|no acceptable C compiler", "cc"),
    _rule(r"No CMAKE_Fortran_COMPILER could be found|no acceptable Fortran compiler", "gfortran"),
    _rule(r"can't find Rust compiler|Rust not found|Cargo, the Rust package manager, is not installed", "cargo"),
    _rule(r"CMake (?:must be|is) (?:installed|required)|Problem with the CMake installation", "cmake"),
    _rule(r"unable to find a build program corresponding to \"Ninja\"", "ninja"),
    _rule(r"unable to find a build program corresponding to \"Unix Makefiles\"", "make"),
)
_NO_SPACE = regex(r"No space left on device")
_NO_MEMORY = regex(
    r"Killed signal terminated program|Killed \(program |virtual memory exhausted|out of memory allocating"
    r"|Cannot allocate memory|signal: 9, SIGKILL|^Killed$|std::bad_alloc|LLVM ERROR: out of memory",
    re.MULTILINE,
)
# The exit status of a process that the kernel killed: 128 and the signal's number.
_KILLED = 137
_OLD_RUST = regex(r"requires rustc (\d[\d.]*\d) or newer|rustc \S+ is not supported|feature `edition20\d\d`")
_NO_NETWORK = regex(
    r"[Tt]emporary failure in name resolution|Name or service not known|Could not resolve host|Name does not resolve"
    r"|failed to lookup address|bad address '|Network is unreachable|unable to resolve host|spurious network error"
    r"|failed to download (?:from|replaced source)"
)
_NO_MODULE = regex(
    r"^(?:ModuleNotFoundError|ImportError): No module named '?([\w.]+)"
    r"|fatal error: '?(numpy|pybind11|nanobind)/[\w./]+'?(?:: No such file| file not found)",
    re.MULTILINE,
)
# Modules that Python or setuptools removed.
_REMOVED = ("distutils", "imp", "pkg_resources")


def last_lines(log: str, count: int = 15) -> list[str]:
    """The lines of a log that show why a build failed, at most `count`, without the chatter of pip and setuptools.

    They are the last lines, unless the last error is before them. Long lines are cut.
    """
    lines = _without_chatter(_plain(log))
    errors = [number for number, line in enumerate(lines) if _ERROR.search(line)]
    start = max(0, len(lines) - count)
    if errors and errors[-1] < start:
        start = max(0, errors[-1] - count // 3)
    shown = textwrap.dedent("\n".join(lines[start : start + count])).splitlines()
    return [line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…" for line in shown]


def guess(log: str, manager: str, *, status: int = 0, own: bool = False) -> str:
    """A hint how to fix a failed build, by its log; empty if there is none.

    `manager` is the builder's package manager (`apk`, `apt`), `status` the exit status, 0 if it is unknown. `own` says
    that the user can change the sources.
    """
    text = "\n".join(line.strip() for line in _plain(log))
    if _NO_SPACE.search(text):
        return "free some space where the engine keeps its containers"
    if status == _KILLED or _NO_MEMORY.search(text):
        return "the compiler ran out of memory: raise HATCH_DOCKER_BUILD_MEMORY, or the engine's limit"
    if match := _OLD_RUST.search(text):
        needed = f", {match[1]} or newer is needed" if match[1] else ""
        return f"the builder's Rust is too old{needed}: set builder to an image that has a newer one"
    return _packages(text, manager) or _offline(text) or _module(text, own) or _unknown(text)


def _packages(text: str, manager: str) -> str:
    """The `build-packages` line for the last missing item that the tables have."""
    for names, loose in _missing(text):
        packages = {name: package for name in names if (package := _package(name, manager, loose))}
        if packages:
            line = json.dumps([*dict.fromkeys(packages.values())])
            return f"add build-packages = {line}: {_are_missing(packages)}"
    return ""


def _offline(text: str) -> str:
    if not _NO_NETWORK.search(text):
        return ""
    return "its build needs the network, which builds do not have: add it to build-network to allow that"


def _module(text: str, own: bool) -> str:
    found = [python or header for python, header in _NO_MODULE.findall(text)]
    if not found:
        return ""
    module = found[-1].partition(".")[0]
    if module in _REMOVED:
        return f"its build imports {module}, which newer Pythons lack: use a newer version of it, or an older Python"
    if own:
        return f"add the package that has the module {module} to build-system.requires"
    return (
        f"its build needs {module}, which its build-system.requires does not list: use a version that has a wheel, "
        "and report it to its authors"
    )


def _unknown(text: str) -> str:
    for names, loose in _missing(text):
        if not loose:
            return f"{_are_missing(names)}: add the OS package that has it to build-packages"
    return ""


def _missing(text: str) -> list[tuple[tuple[str, ...], bool]]:
    """The names that match each rule, the last match first, and whether the rule is loose."""
    found = [
        (match.start(), tuple(rule.name.format(group) for group in match.groups() if group) or (rule.name,), rule.loose)
        for rule in _MISSING
        for match in rule.pattern.finditer(text)
    ]
    return [(names, loose) for _, names, loose in sorted(found, reverse=True)]


def _package(name: str, manager: str, loose: bool) -> str:
    # CMake and others use other names: ZLIB, PNG.
    names = (name, name.lower(), f"lib{name.lower()}") if loose else (name,)
    return next((package for each in names if (package := package_of(each, manager))), "")


def _are_missing(names: Iterable[str]) -> str:
    names = [*names]
    return f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} missing"


def _plain(log: str) -> list[str]:
    """The lines of a log as a terminal shows them, without colours. Very long lines are cut."""
    text = _WARNING.sub("", _ESCAPES.sub("", log).replace("\r\n", "\n"))
    lines = (line.rstrip("\r").rpartition("\r")[2][:_READ].expandtabs() for line in text.split("\n"))
    return ["".join(each for each in line if each.isprintable()).rstrip() for line in lines]


def _without_chatter(lines: Sequence[str]) -> list[str]:
    """The lines without chatter and frames of tracebacks, of which only the last line is kept."""
    kept: list[str] = []
    frame = -1
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if frame >= 0 and line and indent > frame:
            continue
        match = _FRAME.match(line)
        frame = len(match[1]) if match else -1
        if not match and not _CHATTER.fullmatch(line.strip()):
            kept.append(line)
    return kept
