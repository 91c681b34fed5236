"""Compiles the extension module with setuptools whenever a wheel is built."""

from __future__ import annotations

import os
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Compile(BuildHookInterface[Any]):
    """Puts `with_library/_yaml.*.so` into the wheel, which is then for one Python and one platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile."""
        from setuptools import Distribution, Extension

        extension = Extension("with_library._yaml", ["src/with_library/yaml.c"], libraries=["yaml"])
        command: Any = Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = mkdtemp()
        command.ensure_finalized()
        command.run()
        for path in command.get_outputs():
            build_data["force_include"][path] = os.path.relpath(path, command.build_lib)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
