"""The name of a project's licence in labels, from each kind of metadata that names one."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.licenses import canonicalize_license_expression

from hatch_docker.compiling.dist_info import BuiltMetadata
from hatch_docker.project.core import built_project, project_of, read_core
from hatch_docker.project.files import FilesProject
from hatch_docker.project.license import SPDX, license_name

TEXT = "MIT License\n\nCopyright (c) Somebody\n\nPermission is hereby granted, and so on,\nfor many lines.\n"
MIT = "License :: OSI Approved :: MIT License"
ISC = "License :: OSI Approved :: ISC License (ISCL)"
BSD = "License :: OSI Approved :: BSD License"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mit", "MIT"),
        ("MIT License", "MIT"),
        ("The MIT License (MIT)", "MIT"),
        ("apache-2.0 or mit", "Apache-2.0 OR MIT"),
        ("Apache 2.0", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("Apache Software License v2.0", "Apache-2.0"),
        ("BSD 3-Clause", "BSD-3-Clause"),
        ("3-Clause BSD License", "BSD-3-Clause"),
        ("New BSD", "BSD-3-Clause"),
        ("ISC license", "ISC"),
        ("MPL 2.0", "MPL-2.0"),
        ("GPLv3+", "GPL-3.0-or-later"),
        ("Public-Domain-ish", "Public-Domain-ish"),
        # Names that stand for several licences stay as they are.
        ("BSD", "BSD"),
        ("BSD License", "BSD License"),
        ("GPLv3", "GPLv3"),
        ("Apache", "Apache"),
        ("MIT and Apache 2.0", "MIT and Apache 2.0"),
        ("Proprietary", "Proprietary"),
        ("  Proprietary \n", "Proprietary"),
        ("ünïcode 🐍 v1", "ünïcode 🐍 v1"),
        # These are not names.
        ("", ""),
        ("UNKNOWN", ""),
        (TEXT, ""),
        (TEXT.replace("\n", "\r"), ""),
        (TEXT.replace("\n", " "), ""),
        ("x" * 65, ""),
        ("a\x00b", ""),
        ("a\u2028b", ""),
        ("(" * 9000, ""),
        ("MIT OR " * 9000 + "MIT", "MIT OR " * 9000 + "MIT"),
    ],
)
def test_text_that_names_a_licence(text: str, name: str) -> None:
    assert license_name("", text, ()) == name


def test_expression_goes_before_text_and_text_before_classifiers() -> None:
    assert license_name("isc", "MIT", (BSD,)) == "ISC"
    assert license_name("not valid", "MIT", (ISC,)) == "MIT"
    assert license_name("", TEXT, (ISC,)) == "ISC"
    assert license_name("", "see the file", (ISC,)) == "ISC"
    assert license_name("", "see the file", ("Topic :: Software Development",)) == "see the file"


@pytest.mark.parametrize(
    ("classifiers", "name"),
    [
        ((MIT,), "MIT"),
        (("License :: OSI Approved", MIT, MIT), "MIT"),
        (("License :: CC0 1.0 Universal (CC0 1.0) Public Domain Dedication",), "CC0-1.0"),
        (("License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)",), "GPL-3.0-or-later"),
        (("License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)",), "MPL-2.0"),
        ((MIT, ISC), ""),
        ((MIT, BSD), ""),
        ((BSD,), ""),
        (("License :: OSI Approved :: Apache Software License",), ""),
        (("License :: OSI Approved :: GNU General Public License v3 (GPLv3)",), ""),
        (("License :: OSI Approved",), ""),
        (("License",), ""),
    ],
)
def test_classifier_names_a_licence_if_it_stands_for_one(classifiers: tuple[str, ...], name: str) -> None:
    assert license_name("", "", classifiers) == name


def test_table_has_valid_identifiers_and_each_name_once() -> None:
    assert all(canonicalize_license_expression(name) == name for name in SPDX)
    names = [frozenset(name.split()) for names in SPDX.values() for name in names]
    assert len(names) == len(set(names))


def static(root: Path, **fields: object) -> str:
    return project_of(read_core(root, {"name": "app", "version": "1", **fields}), root, {}, "1").license


def test_table_project(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text(TEXT)
    (tmp_path / "LATIN").write_bytes("© J. Müller".encode("latin-1"))
    (tmp_path / "SHORT").write_text("The short text of a licence")
    assert static(tmp_path, license="mit or isc") == "MIT OR ISC"
    assert static(tmp_path, license={"file": "LICENSE"}) == ""
    assert static(tmp_path, license={"file": "LICENSE"}, classifiers=[MIT]) == "MIT"
    assert static(tmp_path, license={"file": "LATIN"}) == ""
    assert static(tmp_path, license={"file": "SHORT"}) == ""
    assert static(tmp_path, license={"file": "gone"}) == ""
    assert static(tmp_path, license={"text": "Apache 2.0"}) == "Apache-2.0"
    assert static(tmp_path, license={"text": TEXT}) == ""
    # Backends may admit names that are no expression (Poetry), and classifiers that hatchling does not know.
    assert static(tmp_path, license="Proprietary") == "Proprietary"
    assert static(tmp_path, license="MIT License", classifiers=["Nothing :: Known", "License :: Nothing"]) == "MIT"


def test_poetry_s_table(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    for text, name in (("mit", "MIT"), ("Proprietary", "Proprietary"), ("Apache License 2.0", "Apache-2.0")):
        document = f'[tool.poetry]\nname = "app"\nversion = "1"\nlicense = "{text}"\n'
        (tmp_path / "pyproject.toml").write_text(document)
        assert FilesProject(tmp_path).read("1").license == name


def test_metadata_of_a_wheel(tmp_path: Path) -> None:
    def built(*lines: str) -> str:
        metadata = "\n".join(["Metadata-Version: 2.4", "Name: app", "Version: 1.0", *lines, "", "the readme"])
        return built_project(BuiltMetadata(metadata=metadata, entry_points=""), tmp_path, {}).license

    folded = [f"       |{line}" for line in TEXT.splitlines()]
    assert built("License-Expression: mit OR isc", "License: BSD") == "MIT OR ISC"
    assert built("License: MIT License", *folded) == ""
    assert built("License: MIT License", *folded, f"Classifier: {ISC}") == "ISC"
    assert built(f"Classifier: {MIT}", "Classifier: Typing :: Typed") == "MIT"
    assert built("License: Apache License 2.0") == "Apache-2.0"
