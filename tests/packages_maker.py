"""Makes paragraphs of Packages files and indexes of them."""

from __future__ import annotations

import hashlib

from hatch_docker.debian.packages import Package, PackageIndex, read_status


def paragraph_of(name: str, version: str = "1", /, **fields: str) -> str:
    """A package's paragraph; `fields` replace the defaults (`_` for a hyphen), empty ones are omitted."""
    usual = {
        "Package": name,
        "Version": version,
        "Architecture": "amd64",
        "Priority": "optional",
        "Filename": f"pool/main/{name}/{name}_{version}_amd64.deb",
        "Size": "1000",
        "SHA256": hashlib.sha256(f"{name} {version}".encode()).hexdigest(),
    }
    usual |= {field.replace("_", "-"): value for field, value in fields.items()}
    return "".join(f"{field}: {value}\n" for field, value in usual.items() if value)


def index_of(*paragraphs: str, suite: str = "trixie") -> PackageIndex:
    """An index with these paragraphs."""
    return PackageIndex(["\n".join(paragraphs).encode()], suite=suite)


def installed_of(*paragraphs: str) -> list[Package]:
    """The installed packages in these paragraphs of a status file."""
    return read_status("\n".join(paragraphs), place="status")
