"""Projects of every build backend, as `uv init`, `poetry new` and others lay them out: files by path.

Each has one dependency, and a script `backapp` that prints `ok`, and for a compiled one what its extension module says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, str]

_MAIN = 'def main():\n    print("ok")\n'
_COMPILED_MAIN = 'from backapp._native import answer\n\n\ndef main():\n    print("ok", answer())\n'
_PURE = {"src/backapp/__init__.py": _MAIN}
_C = """\
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, methods};
PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&module); }
"""
_EXTENSION = {"src/backapp/__init__.py": _COMPILED_MAIN, "src/native.c": _C}
_VERSION = 'version = "1.0"'


def _pyproject(requires: str, backend: str, more: str = "", version: str = _VERSION) -> str:
    dependencies = "" if '"dependencies"' in version else 'dependencies = ["idna"]\n'
    return (
        f'[build-system]\nrequires = [{requires}]\nbuild-backend = "{backend}"\n\n'
        f'[project]\nname = "backapp"\n{version}\nrequires-python = ">=3.10"\n{dependencies}\n'
        f'[project.scripts]\nbackapp = "backapp:main"\n\n{more}'
    )


PURE: Mapping[str, Files] = {
    "hatchling": {**_PURE, "pyproject.toml": _pyproject('"hatchling"', "hatchling.build")},
    "hatch-vcs": {
        **_PURE,
        "pyproject.toml": _pyproject(
            '"hatchling", "hatch-vcs"',
            "hatchling.build",
            '[tool.hatch.version]\nsource = "vcs"\n',
            'dynamic = ["version"]',
        ),
    },
    "setuptools": {
        **_PURE,
        "pyproject.toml": _pyproject(
            '"setuptools>=77"',
            "setuptools.build_meta",
            '[tool.setuptools.dynamic]\ndependencies = { file = "requirements.in" }\n',
            f'{_VERSION}\ndynamic = ["dependencies"]',
        ),
        "requirements.in": "idna\n",
    },
    "setup.py": {
        **_PURE,
        "setup.py": """\
from setuptools import find_packages, setup

setup(
    name="backapp",
    version="1.0",
    packages=find_packages("src"),
    package_dir={"": "src"},
    install_requires=["idna"],
    python_requires=">=3.10",
    entry_points={"console_scripts": ["backapp = backapp:main"]},
)
""",
    },
    "poetry-core": {**_PURE, "pyproject.toml": _pyproject('"poetry-core>=2"', "poetry.core.masonry.api")},
    "poetry-1": {
        **_PURE,
        "pyproject.toml": """\
[build-system]
requires = ["poetry-core>=1.0"]
build-backend = "poetry.core.masonry.api"

[tool.poetry]
name = "backapp"
version = "1.0"
description = "an application"
authors = ["Someone <someone@example.org>"]
packages = [{ include = "backapp", from = "src" }]

[tool.poetry.dependencies]
python = "^3.10"
idna = "*"

[tool.poetry.scripts]
backapp = "backapp:main"
""",
    },
    "pdm-backend": {**_PURE, "pyproject.toml": _pyproject('"pdm-backend"', "pdm.backend")},
    "flit-core": {
        "src/backapp/__init__.py": f'"""An application."""\n\n__version__ = "1.0"\n\n\n{_MAIN}',
        "pyproject.toml": _pyproject(
            '"flit-core>=3.11"', "flit_core.buildapi", version='dynamic = ["version", "description"]'
        ),
    },
    "flit-legacy": {
        "backapp.py": f'"""An application."""\n\n__version__ = "1.0"\n\n\n{_MAIN}',
        "pyproject.toml": """\
[build-system]
requires = ["flit-core>=3.2,<4"]
build-backend = "flit_core.buildapi"

[tool.flit.metadata]
module = "backapp"
author = "Someone"
requires = ["idna"]

[tool.flit.scripts]
backapp = "backapp:main"
""",
    },
    "uv_build": {**_PURE, "pyproject.toml": _pyproject('"uv_build"', "uv_build")},
}
COMPILED: Mapping[str, Files] = {
    "scikit-build-core": {
        **_EXTENSION,
        "pyproject.toml": _pyproject('"scikit-build-core>=0.10"', "scikit_build_core.build"),
        "CMakeLists.txt": """\
cmake_minimum_required(VERSION 3.20)
project(backapp LANGUAGES C)
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
python_add_library(_native MODULE src/native.c WITH_SOABI)
install(TARGETS _native DESTINATION backapp)
""",
    },
    "meson-python": {
        **_EXTENSION,
        "pyproject.toml": _pyproject('"meson-python>=0.17"', "mesonpy", version='dynamic = ["version"]'),
        "meson.build": """\
project('backapp', 'c', version: '1.0')
py = import('python').find_installation(pure: false)
py.install_sources('src/backapp/__init__.py', subdir: 'backapp')
py.extension_module('_native', 'src/native.c', install: true, subdir: 'backapp')
""",
    },
    "setuptools-extension": {
        **_EXTENSION,
        "pyproject.toml": _pyproject('"setuptools>=77"', "setuptools.build_meta"),
        "setup.py": """\
from setuptools import Extension, setup

setup(ext_modules=[Extension("backapp._native", ["src/native.c"])])
""",
    },
}
# By Debian's Rust and its crates, since the build has no network.
MATURIN: Files = {
    "python/backapp/__init__.py": _COMPILED_MAIN,
    "pyproject.toml": _pyproject(
        '"maturin>=1.5,<2"',
        "maturin",
        '[tool.maturin]\npython-source = "python"\nmodule-name = "backapp._native"\n\n'
        '[tool.hatch-docker]\nbuild-packages = ["cargo", "librust-pyo3-ffi-dev"]\n',
        'dynamic = ["version"]',
    ),
    "Cargo.toml": """\
[package]
name = "backapp"
version = "1.0.0"
edition = "2021"

[lib]
name = "_native"
crate-type = ["cdylib"]

[dependencies]
pyo3-ffi = { version = "*", features = ["extension-module"] }

[profile.release]
opt-level = 0
""",
    # Without macros, whose compilation takes minutes.
    "src/lib.rs": """\
use pyo3_ffi::*;
use std::ptr::{addr_of_mut, null, null_mut};

unsafe extern "C" fn answer(_module: *mut PyObject, _nothing: *mut PyObject) -> *mut PyObject {
    PyLong_FromLong(42)
}

static mut METHODS: [PyMethodDef; 2] = [
    PyMethodDef {
        ml_name: c"answer".as_ptr(),
        ml_meth: PyMethodDefPointer { PyCFunction: answer },
        ml_flags: METH_NOARGS,
        ml_doc: null(),
    },
    PyMethodDef::zeroed(),
];

static mut MODULE: PyModuleDef = PyModuleDef {
    m_base: PyModuleDef_HEAD_INIT,
    m_name: c"_native".as_ptr(),
    m_doc: null(),
    m_size: 0,
    m_methods: unsafe { METHODS.as_mut_ptr() },
    m_slots: null_mut(),
    m_traverse: None,
    m_clear: None,
    m_free: None,
};

#[no_mangle]
pub unsafe extern "C" fn PyInit__native() -> *mut PyObject {
    PyModule_Create(addr_of_mut!(MODULE))
}
""",
    ".cargo/config.toml": """\
[source.crates-io]
replace-with = "debian"

[source.debian]
directory = "/usr/share/cargo/registry"
""",
}
EVERY: Mapping[str, Files] = {**PURE, **COMPILED, "maturin": MATURIN}


def write(files: Files, folder: Path) -> Path:
    """Write a project into `folder`."""
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder
