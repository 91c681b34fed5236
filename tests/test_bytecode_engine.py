"""Bytecode in containers: every import uses it, none is written, and a changed source of the project counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from containers import built, environment, output
from docker import DockerClient
from project_maker import make_project
from wheel_maker import make_wheel

pytestmark = pytest.mark.engine
BASES = [
    *(pytest.param(base, marks=pytest.mark.base) for base in ("slim", "alpine")),
    pytest.param("debian", marks=pytest.mark.debian),
]
# Debian's sitecustomize.py is a link to a configuration file in /etc, which users may change.
_WITHOUT = re.compile(
    r"# code object from '?((?!\S*/sitecustomize\.py)[^\s']*\.py)'?$|# (wrote .*)|# (could not create .*)", re.MULTILINE
)
_CHANGE = """
import shop.greeting, sys
path = shop.greeting.__file__
before, cached = shop.greeting.TEXT, shop.greeting.__cached__
open(path, "w").write("TEXT = 'changed'")
stamp = open(cached, "rb").read()
del sys.modules["shop.greeting"]
import shop.greeting
print(before, shop.greeting.TEXT, open(cached, "rb").read() == stamp)
"""
_LISTED = """
import base64, hashlib
from importlib.metadata import distributions
for each in distributions():
    for file in each.files:
        if file.hash:
            found = hashlib.new(file.hash.mode, file.read_binary()).digest()
            assert base64.urlsafe_b64encode(found).rstrip(b"=").decode() == file.hash.value, file
        print(file.suffix)
"""


@pytest.mark.parametrize("base", BASES)
def test_every_import_uses_bytecode(
    base: str, tmp_path: Path, shared_cache: Path, client: DockerClient, image: str
) -> None:
    wheel = make_wheel(tmp_path, "alpha", files={"alpha/__init__.py": "from alpha import core", "alpha/core.py": ""})
    files = {"src/shop/greeting.py": "TEXT = 'hello'\n"}
    docker = f'base = "{base}"\nimage = "{image}"\nbytecode = true'
    project = make_project(tmp_path / "project", wheels=[wheel], files=files, docker=docker, base="")
    built(project, environment(shared_cache), target="docker:load")

    def python(*arguments: str) -> str:
        return output(client, f"{image}:1.0", "python", *arguments)

    modules = "alpha, shop, json, asyncio, sysconfig, email, http.client, xml.dom, ctypes, logging.config"
    said = client.containers.run(
        f"{image}:1.0",
        ["-v", "-c", f"import {modules}; import sysconfig; sysconfig.get_config_vars()"],
        entrypoint=["python"],
        remove=True,
        stderr=True,
    ).decode()
    assert said.count(".pyc") > 100
    assert _WITHOUT.findall(said) == []
    assert python("-c", _LISTED).split().count(".pyc") == 4
    changed = client.containers.run(f"{image}:1.0", ["-c", _CHANGE], entrypoint=["python"], user="0", remove=True)
    assert changed.decode().split() == ["hello", "changed", "True"]
