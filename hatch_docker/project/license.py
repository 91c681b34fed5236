"""The name of a project's licence, from its metadata: an SPDX expression if there is one, else a short name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from hatch_docker.support.patterns import regex

# Names of metadata and of trove classifiers that stand for one licence, by SPDX identifier; as words, in any order,
# without those in _FILLING. "BSD", "GPLv3" or "Apache Software License" stand for several.
SPDX: Mapping[str, tuple[str, ...]] = {
    "0BSD": ("zero clause bsd", "zero clause bsd 0bsd"),
    "AGPL-3.0-or-later": ("agplv3+", "gnu affero general public 3 or later agplv3+"),
    "Apache-2.0": ("apache 2.0", "apache 2", "apache2", "apache2.0", "asl 2.0"),
    "BSD-2-Clause": ("bsd 2 clause", "simplified bsd"),
    "BSD-3-Clause": ("bsd 3 clause", "new bsd", "modified bsd"),
    "BSL-1.0": ("boost 1.0", "boost 1.0 bsl"),
    "CC0-1.0": ("cc0", "cc0 1.0", "cc0 1.0 universal public domain dedication"),
    "EPL-2.0": ("eclipse public 2.0", "eclipse public 2.0 epl"),
    "EUPL-1.2": ("eupl 1.2", "european union public 1.2 eupl"),
    "GPL-2.0-or-later": ("gplv2+", "gnu general public 2 or later gplv2+"),
    "GPL-3.0-or-later": ("gplv3+", "gnu general public 3 or later gplv3+"),
    "ISC": ("isc", "isc iscl"),
    "LGPL-3.0-or-later": ("lgplv3+", "gnu lesser general public 3 or later lgplv3+"),
    "MIT": ("mit",),
    "MIT-0": ("mit no attribution mit 0", "mit no attribution"),
    "MPL-2.0": ("mpl 2.0", "mpl2", "mozilla public 2.0", "mozilla public 2.0 mpl"),
    "Unlicense": ("unlicense",),
    "Zlib": ("zlib", "zlib libpng"),
}
_FILLING = frozenset(("the", "license", "licence", "version", "software"))
_CLASSIFIER = "License :: "
_APPROVED = "License :: OSI Approved"
_LONGEST_NAME = 64
_LINES = regex(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def license_name(expression: str, text: str, classifiers: Iterable[str]) -> str:
    """The name of a licence, for `org.opencontainers.image.licenses`; empty if the metadata has none.

    In this order: `expression` (License-Expression, PEP 639); the SPDX expression or name in `text` (the old field
    License); the licence that all classifiers name; `text`, unless it is long or has several lines: then it is that of
    the licence itself.
    """
    text = text.strip()
    return _expression(expression) or _expression(text) or _spdx(text) or _classified(classifiers) or _short(text)


def _expression(text: str) -> str:
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return ""


def _classified(classifiers: Iterable[str]) -> str:
    named = {each for each in classifiers if each.startswith(_CLASSIFIER) and each != _APPROVED}
    found = {_spdx(each.rpartition(" :: ")[2]) for each in named}
    return found.pop() if len(found) == 1 else ""


def _spdx(name: str) -> str:
    return _BY_WORDS.get(frozenset(_words(name)), "") if len(name) <= _LONGEST_NAME * 2 else ""


def _words(name: str) -> Iterator[str]:
    for word in re.findall(r"[a-z0-9.+]+", name.casefold()):
        plain = re.sub(r"^v(?=[0-9])", "", word.rstrip("."))
        if plain and plain not in _FILLING:
            yield plain


def _short(text: str) -> str:
    # setuptools before 67 wrote UNKNOWN for a field without a value.
    return text if len(text) <= _LONGEST_NAME and text != "UNKNOWN" and not _LINES.search(text) else ""


_BY_WORDS = {frozenset(name.split()): identifier for identifier, names in SPDX.items() for name in names}
