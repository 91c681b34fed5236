"""Judge the maintainer scripts of packages that Python services name: `python tests/debian_scripts.py`.

It writes which of them are refused, and why, to the file that tests compare with, and prints figures. Names are those
that public Dockerfiles of Python projects install. Only the beginning of each package is downloaded.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from conftest import mirrors

from hatch_docker.debian.archive import Archive, Trust
from hatch_docker.debian.deb import Deb, open_deb
from hatch_docker.debian.packages import Package, PackageIndex, read_index
from hatch_docker.debian.resolve import resolve
from hatch_docker.debian.sources import Mirrors, find_mirrors, suites_of
from hatch_docker.debian.transfer import url_of
from hatch_docker.dpkg import database
from hatch_docker.dpkg.assemble import needs_content
from hatch_docker.dpkg.package_sets import base_assume_installed, base_packages
from hatch_docker.dpkg.scripts import why_needed
from hatch_docker.oci import source
from hatch_docker.oci.merging import merge
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import together

DATA = Path(__file__).parent / "data"
NAMES = tuple((DATA / "debian-packages.txt").read_text().split())
REFUSED = DATA / "debian-refused.txt"
_SCRIPTS = ("preinst", "postinst")
_FIRST_BYTES = 1 << 14
# The header of the second member of a package, which is control.tar, follows `debian-binary`.
_CONTROL = re.compile(rb".{8}.{60}2\.0\n(.{48})(\d{1,10}) *`\n", re.DOTALL)
_REASON = re.compile(r"its (?:preinst|postinst) (\S+(?: to)? \S+)")


def refused_before() -> dict[str, str]:
    """The packages that are refused, with the reason."""
    return dict(line.split(": ", 1) for line in REFUSED.read_text().splitlines())


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Trixie for amd64; `folder` keeps the beginnings of packages."""

    indexes: Sequence[PackageIndex]
    places: Mirrors
    http: Http
    folder: Path

    @classmethod
    def of(cls, cache: Path, folder: Path) -> Trial:
        places = find_mirrors(os.environ.get("HATCH_DOCKER_DEBIAN_MIRROR", ""), suite="trixie", architecture="amd64")
        http = Http()
        archive = Archive(places, Trust(now=datetime.now(timezone.utc)), http=http, cache=Cache(cache))
        files = archive.indexes(suites_of("trixie"), architecture="amd64")
        return cls(
            indexes=[read_index(each.path, suite=each.suite) for each in files],
            places=places,
            http=http,
            folder=folder,
        )

    def base(self) -> list[Package]:
        """The packages of our base."""
        return resolve(
            base_packages("3.13"), self.indexes, architecture="amd64", assume_installed=base_assume_installed()
        )

    def closures(self, names: Iterable[str], installed: Sequence[Package]) -> Mapping[str, Sequence[Package]]:
        """What is installed for each of some packages."""
        return {
            name: resolve([name], self.indexes, architecture="amd64", installed=installed, assume_installed=["debconf"])
            for name in names
        }

    def debs(self, packages: Iterable[Package]) -> dict[str, Deb]:
        """The control files of packages, by name."""
        each = list({package.sha256: package for package in packages}.values())
        paths = together(self._beginning, each, threads=4)
        return {package.name: open_deb(path, place=package.name) for package, path in zip(each, paths, strict=True)}

    def _beginning(self, package: Package) -> Path:
        """A file of the size of a package, with its control files; the rest are zeros."""
        path = self.folder / package.sha256
        if not path.exists():
            data = self._bytes(package, 0, min(package.size, _FIRST_BYTES))
            match = _CONTROL.match(data)
            assert match, package.name
            # The header of the next member, too.
            end = match.end() + int(match[2]) + int(match[2]) % 2 + 60
            if end > len(data):
                data += self._bytes(package, len(data), min(package.size, end))
            with path.open("wb") as file:
                file.write(data)
                file.truncate(package.size)
        return path

    def _bytes(self, package: Package, start: int, stop: int) -> bytes:
        mirror = (self.places.security if package.suite.endswith("-security") else self.places.main)[0]
        headers = {**mirror.headers, "Range": f"bytes={start}-{stop - 1}"}
        with contextlib.closing(self.http.request("GET", url_of(mirror, package.filename), headers=headers)) as answer:
            assert answer.status == 206, (package.filename, answer.status)
            return answer.read()


def slim_packages(cache: Path) -> list[Package]:
    """The packages of python:3.13-slim."""
    registry = Registry(Http(), credentials=Credentials(), mirrors=mirrors())
    places = source.registry_source(registry, Reference.parse("python:3.13-slim"), Cache(cache))
    image = source.pull(places, Platform(architecture="amd64"), Cache(cache), progress=Progress()).image
    source.fetch(image, threads=2)
    return list(database.read(merge(image.layers, needs_content)).packages())


def judged(debs: Mapping[str, Deb]) -> dict[str, str]:
    """The packages that are refused, with the reason."""
    return {name: reason for name, deb in sorted(debs.items()) if (reason := why_needed(deb))}


def figures(closures: Mapping[str, Sequence[Package]], debs: Mapping[str, Deb]) -> Iterator[str]:
    refused = judged(debs)
    bad = [name for name, closure in closures.items() if any(each.name in refused for each in closure)]
    scripts = [name for deb in debs.values() for name in _SCRIPTS if name in deb.scripts]
    with_scripts = sum(any(name in deb.scripts for name in _SCRIPTS) for deb in debs.values())
    yield f"{len(closures)} named, {len(bad)} of them refused, {len(debs)} with dependencies"
    yield f"{len(scripts)} scripts of {with_scripts} packages, {len(refused)} packages refused"
    reasons = Counter(match[1] for reason in refused.values() if (match := _REASON.match(reason)))
    yield ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(12))


def main() -> None:
    debs: dict[str, Deb] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        trial = Trial.of(root / "cache", root)
        places: dict[str, Callable[[], list[Package]]] = {
            "debian": trial.base,
            "slim": lambda: slim_packages(root / "cache"),
        }
        for name, installed in places.items():
            closures = trial.closures(NAMES, installed())
            found = trial.debs(package for closure in closures.values() for package in closure)
            debs |= found
            sys.stdout.write("".join(f"{line}\n" for line in (name, *figures(closures, found))))
        REFUSED.write_text("".join(f"{name}: {reason}\n" for name, reason in judged(debs).items()))


if __name__ == "__main__":
    main()
