"""Makes small sdists, valid ones and ones that are broken in one place. Equal arguments give equal bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

MTIME = 1_600_000_000

SETUP = """\
from setuptools import setup

setup(name="{name}", version="{version}", py_modules=["{module}"])
"""

SETUP_C = """\
from setuptools import Extension, setup

setup(
    name="{name}",
    version="{version}",
    py_modules=["{module}"],
    ext_modules=[Extension("_{module}", ["src/_{module}.c"])],
)
"""

SETUPTOOLS = """\
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"
"""

# `_demo.answer()` is 42.
EXTENSION = """\
#include <Python.h>

static PyObject *answer(PyObject *self, PyObject *unused) {{ return PyLong_FromLong(42); }}

static PyMethodDef methods[] = {{{{"answer", answer, METH_NOARGS, ""}}, {{NULL, NULL, 0, NULL}}}};

static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "_{module}", NULL, -1, methods}};

PyMODINIT_FUNC PyInit__{module}(void) {{ return PyModule_Create(&module); }}
"""


def make_sdist(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    files: Mapping[str, str | bytes] | None = None,
    *,
    pyproject: str | None = SETUPTOOLS,
    zipped: bool = False,
    filename: str = "",
    root: str | None = None,
    members: Iterable[tuple[tarfile.TarInfo, bytes]] = (),
) -> Path:
    """Write an sdist into `folder`: of `files`, or of one pure module and its setup.py.

    `pyproject` is its pyproject.toml, None for an sdist without one. `members` are added to a tar unchanged.
    """
    module = name.replace("-", "_")
    root = f"{module}-{version}" if root is None else root
    if files is None:
        values = {"name": name, "version": version, "module": module}
        files = {"setup.py": SETUP.format(**values), f"{module}.py": "ANSWER = 42\n"}
    content = {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", **files}
    if pyproject is not None:
        content["pyproject.toml"] = pyproject
    data = {
        f"{root}/{path}": text.encode() if isinstance(text, str) else text for path, text in sorted(content.items())
    }
    path = folder / (filename or f"{module}-{version}.{'zip' if zipped else 'tar.gz'}")
    path.write_bytes(_zip(data) if zipped else _tar(data, members))
    return path


def make_compiled_sdist(folder: Path, name: str = "demo", version: str = "1.0", *, zipped: bool = False) -> Path:
    """An sdist with a C extension: `demo.answer()`, which is `_demo.answer()`, gives 42."""
    values = {"name": name, "version": version, "module": name.replace("-", "_")}
    files = {
        "setup.py": SETUP_C.format(**values),
        "{module}.py".format(**values): "from _{module} import answer\n".format(**values),
        "src/_{module}.c".format(**values): EXTENSION.format(**values),
    }
    return make_sdist(folder, name, version, files, zipped=zipped)


def tar_member(path: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    """A member of a tar, of any type."""
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.size, info.mtime = kind, link, size, MTIME
    return info


def _tar(data: Mapping[str, bytes], members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=MTIME) as plain,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, content in data.items():
            tar.addfile(tar_member(path, size=len(content)), io.BytesIO(content))
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _zip(data: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in data.items():
            info = zipfile.ZipInfo(path, (2020, 9, 13, 12, 26, 40))
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    return out.getvalue()
