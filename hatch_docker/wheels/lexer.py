"""Find the imports and string literals of a Python module by lexical analysis alone. No I/O.

Unlike that of a parser, the result does not depend on the Python that runs this: the lexical rules (Python Language
Reference, chapter 2) hardly change between versions. f-strings (PEP 701) and t-strings (PEP 750) are read as in the
newest version. Python 2, templates, broken modules, and encodings in which an ASCII byte may be part of another
character (Shift JIS, GBK), are read as well as the rules allow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Literal, NamedTuple

from hatch_docker.support.patterns import regex

# In bytes, since the letters beyond ASCII depend on the version of Unicode.
LETTER = rb"[0-9A-Za-z_\x80-\xff]"
# `lazy` is new in Python 3.15 (PEP 810).
_KEYWORD = rb"[ \t\f]*(?:lazy[ \t\f]+)?(?:from|import)(?!" + LETTER + rb")"
# A search stops at these. Every alternative begins with another character, which makes re fast.
_TOKEN = rb"#|\"|'|\(|\[|\{|\)|\]|\}|\n" + _KEYWORD + rb"|\r" + _KEYWORD + rb"|;" + _KEYWORD
_CODE = regex(_TOKEN + rb"|:" + _KEYWORD)
# In a replacement field, a colon begins the format specifier.
_FIELD = regex(_TOKEN + rb"|:")

_COMMENT = regex(rb"#[^\r\n]*")
_PREFIX = regex(rb"(?<!" + LETTER + rb")(?:[bBfFtT][rR]?|[rR][bBfFtT]?|[uU])\Z")
_ENDED = regex(rb"[ \t\f]*(?:[#\r\n;]|\Z)")
# Limits on memory, far above real modules: bytes of indentation and of a name, adjacent literals, nested fields.
_INDENTED, _LONGEST, _ADJACENT, _DEEPEST = 200, 4096, 1000, 150

# `a.b import` after `from`: unbounded, it would take quadratic time for a line of `from from from`.
_MODULE = regex(rb"((?:[. \t\f]|" + LETTER + rb"|\\\r?\n){0,255}?)\bimport(?!" + LETTER + rb")")
_PARENTHESIS = regex(rb"(?:[ \t\f]|\\\r?\n){0,1000}\(")

# Each matches the end of an item, or a part that `_first` skips: unlike repetition in re, a loop needs no memory. A
# backslash in a literal, raw or not, escapes the next character.
_NAMES_END = regex(rb"[\r\n;#]|\\\r?\n")
_PARENTHESIS_END = regex(rb"\)|#[^\r\n]*")
_QUOTES = (b'"', b"'", b'"""', b"'''")
_LITERAL_END = {each: each + (rb"|\r|\n" if len(each) == 1 else rb"") for each in _QUOTES}
_PLAIN_END = {quote: regex(rb"\\(?:\r\n|[\s\S])|" + end) for quote, end in _LITERAL_END.items()}
_FORMATTED_END = {quote: regex(rb"\\(?:\r\n|[^{}])|\{|\}|" + end) for quote, end in _LITERAL_END.items()}


class Found(NamedTuple):
    """The dotted name of an import, or the text of a string literal with its escapes as written."""

    kind: Literal["import", "text"]
    value: bytes


class _Field(NamedTuple):
    """An open replacement field: the quotes of its string, the number of brackets and format specifiers around it."""

    quote: bytes
    depth: int
    specifiers: int


def read_module(source: bytes) -> Iterator[Found]:
    """The imports and string literals of a module, in order, without literals that are statements, such as docstrings.

    `from .a import b, c` gives the imports `.a.b` and `.a.c`. Adjacent literals are one literal; each piece of an
    f-string between its fields is a literal. Time and memory are linear in the source.
    """
    return _Lexer(source).found()


class _Lexer:
    def __init__(self, source: bytes) -> None:
        # The keywords of statements are found after a line's end.
        self._source = b"\n" + source.removeprefix(b"\xef\xbb\xbf")
        self._at = 0
        self._depth = 0
        self._fields: list[_Field] = []
        # The literal so far, which adjacent ones continue, the position of its end, and whether it begins a statement.
        self._pieces: list[bytes] = []
        self._end = 0
        self._begins = False

    def found(self) -> Iterator[Found]:
        while match := (_FIELD if self._fields else _CODE).search(self._source, self._at):
            token, start = match[0], match.start()
            self._at = match.end()
            if token in b"\"'":
                yield from self._string(start)
            elif token == b"#":
                yield from self._comment(start)
            else:
                yield from self._flush()
                yield from self._code(token)
        yield from self._flush()

    def _code(self, token: bytes) -> Iterator[Found]:
        if token in b"([{":
            self._depth += 1
        elif self._fields and self._depth == self._fields[-1].depth and token in b"}:":
            field = self._fields.pop()
            yield from self._formatted(field.quote, field.specifiers + (token == b":"))
        elif token in b")]}":
            self._depth = max(self._depth - 1, self._fields[-1].depth if self._fields else 0)
        elif token != b":":
            yield from self._imports(token)

    def _comment(self, start: int) -> Iterator[Found]:
        comment = _COMMENT.match(self._source, start)
        self._at = comment.end() if comment else self._at
        if self._pieces and self._adjacent(start) and (self._depth or self._fields):
            self._end = self._at
        else:
            yield from self._flush()

    def _string(self, start: int) -> Iterator[Found]:
        source = self._source
        prefix = _PREFIX.search(source[max(0, start - 3) : start])
        opening = start - len(prefix[0]) if prefix else start
        quote = source[start : start + 1]
        if source.startswith(quote * 3, start):
            quote *= 3
        self._at = start + len(quote)
        if not (0 < len(self._pieces) < _ADJACENT and self._adjacent(opening)):
            yield from self._flush()
            self._begins = not self._depth and not self._fields and _begins_statement(source, opening)
        if prefix and not set(prefix[0]).isdisjoint(b"fFtT"):
            self._begins = False
            yield from self._formatted(quote, 0)
        else:
            self._take(_PLAIN_END[quote], quote)

    def _adjacent(self, start: int) -> bool:
        """Whether only white space is between the literal and `start`; in brackets, also ends of lines."""
        between = self._source[self._end : start]
        if self._depth or self._fields:
            return not between.strip(b" \t\f\r\n\\")
        return not _joined(between).strip(b" \t\f")

    def _flush(self) -> Iterator[Found]:
        """End the literal: yield it unless it is a statement."""
        if self._pieces:
            text, self._pieces = b"".join(self._pieces), []
            if not (self._begins and _ENDED.match(self._source, self._end)):
                yield Found("text", _joined(text))

    def _take(self, end: re.Pattern[bytes], quote: bytes) -> bool:
        """Read a piece of a literal, and the closing quotes if they follow; returns whether they do."""
        start, self._at = self._at, _first(end, self._source, self._at, beyond=b"\\")
        self._pieces.append(self._source[start : self._at])
        ended = self._source.startswith(quote, self._at)
        self._at += len(quote) if ended else 0
        self._end = self._at
        return ended

    def _formatted(self, quote: bytes, specifiers: int) -> Iterator[Found]:
        """Read an f-string up to its end or its next field; `specifiers` is the number of format specifiers around."""
        while not self._take(_FORMATTED_END[quote], quote):
            brace = self._source[self._at : self._at + 1]
            if not brace or brace not in b"{}":
                return
            self._at += 1
            if not specifiers and self._source.startswith(brace, self._at):
                self._at += 1
            elif brace == b"{" and len(self._fields) < _DEEPEST:
                yield from self._flush()
                self._fields.append(_Field(quote, self._depth, specifiers))
                return
            elif brace == b"}":
                specifiers = max(specifiers - 1, 0)
            yield from self._flush()

    def _imports(self, statement: bytes) -> Iterator[Found]:
        base = b""
        if statement.endswith(b"from"):
            module = _MODULE.match(self._source, self._at)
            if not module:
                return
            self._at = module.end()
            base = b"".join(module[1].replace(b"\\", b"").split())
            base += b"" if base.endswith(b".") else b"."
        parenthesis = _PARENTHESIS.match(self._source, self._at)
        start = parenthesis.end() if parenthesis else self._at
        end, beyond = (_PARENTHESIS_END, b"#") if parenthesis else (_NAMES_END, b"\\")
        self._at = _first(end, self._source, start, beyond=beyond)
        names = _COMMENT.sub(b"", self._source[start : self._at]).replace(b"\\", b" ")
        for name in re.finditer(rb"[^,]+", names):
            # `a . b as c`
            if dotted := b"".join(takewhile(lambda word: word != b"as", name[0][:_LONGEST].split())):
                yield Found("import", base + dotted)


def _first(end: re.Pattern[bytes], source: bytes, start: int, *, beyond: bytes) -> int:
    """The position of the first match of `end` that does not begin with `beyond`, else the end of the source."""
    while match := end.search(source, start):
        if not match[0].startswith(beyond):
            return match.start()
        start = match.end()
    return len(source)


def _begins_statement(source: bytes, start: int) -> bool:
    """Whether a statement begins at `start`, which is not in brackets; False for excessive indentation."""
    before = source[max(0, start - _INDENTED) : start].rstrip(b" \t\f")
    return before.endswith((b"\n", b"\r", b";")) and not before.endswith((b"\\\n", b"\\\r\n", b"\\\r"))


def _joined(text: bytes) -> bytes:
    """Text without escaped ends of lines."""
    return text.replace(b"\\\r\n", b"").replace(b"\\\n", b"")
