"""Real projects from the package index: their sdists, downloaded and unpacked."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from packaging.utils import parse_sdist_filename

from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import Index
from hatch_docker.index.download import download
from hatch_docker.index.settings import discover
from hatch_docker.index.tool_settings import ca_file_of
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http, Network


def sdist(filename: str, cache: Path) -> Path:
    """An sdist of the index that this machine is configured with."""
    found = discover(root=Path.cwd(), environ=os.environ, home=Path.home())
    http = Http(Network(ca_file=found.ca_file or ca_file_of(os.environ)))
    name, version = parse_sdist_filename(filename)
    (listed,) = [file for file in Index(found, http).files(name) if file.filename == filename]
    artifact = Artifact(
        name=name, version=str(version), filename=filename, url=listed.url, hashes=listed.hashes, size=listed.size
    )
    (file,) = download([artifact], cache=Cache(cache), http=http)
    return file.path


def unpacked(filename: str, into: Path, cache: Path) -> Path:
    """Unpack an sdist into the new directory `into`."""
    parts = into.with_name(f"{into.name}-unpacked")
    with tarfile.open(sdist(filename, cache)) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(parts)
    (root,) = parts.iterdir()
    return root.rename(into)
