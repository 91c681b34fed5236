"""Make small Hatch projects whose dependencies are local wheels, locked in a pylock.toml."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "{version}"
dependencies = {dependencies}
{project}

[tool.hatch.build.targets.wheel]
packages = ["src/{module}"]
{wheel}

[tool.hatch.build.targets.docker]
platforms = ["linux/amd64"]
{docker}

{more}
"""


def make_project(
    root: Path,
    *,
    name: str = "shop",
    version: str = "1.0",
    base: Path | str = "",
    wheels: Iterable[Path] = (),
    dependencies: Iterable[str] | None = None,
    scripts: Mapping[str, str] | None = None,
    project: str = "",
    wheel: str = "",
    docker: str = "",
    more: str = "",
    files: Mapping[str, str] = {},
) -> Path:
    """Write a project and return its root.

    `wheels` are locked, and required by name unless `dependencies` is given. `base` is an OCI layout. `project`,
    `wheel` and `docker` are TOML for the end of these tables, `more` for the end of the file.
    """
    module = name.replace("-", "_")
    wheels = list(wheels)
    if dependencies is None:
        dependencies = sorted(path.name.partition("-")[0] for path in wheels)
    if scripts is None:
        scripts = {name: f"{module}:main"}
    table = "".join(f'"{key}" = "{value}"\n' for key, value in scripts.items())
    text = _PYPROJECT.format(
        name=name,
        version=version,
        module=module,
        dependencies=[*dependencies],
        project=project,
        wheel=wheel,
        docker="\n".join([f'base = "oci:{base}"' if base else "", docker]),
        more=more + (f"\n[project.scripts]\n{table}" if scripts else ""),
    )
    source = root / "src" / module
    source.mkdir(parents=True)
    (root / "pyproject.toml").write_text(text)
    (source / "__init__.py").write_text("def main() -> None:\n    print('hello')\n")
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    if wheels:
        (root / "pylock.toml").write_text(lock_of(*wheels))
    return root


def lock_of(*wheels: Path, url: str = "", hashes: Mapping[str, str] = {}) -> str:
    """A pylock.toml of `wheels`, by their paths or below `url`. `hashes` overrides the hashes of some file names."""
    lines = ['lock-version = "1.0"', 'created-by = "tests"', ""]
    for path in wheels:
        name, version = path.name.split("-")[:2]
        source = f"{url}/{path.name}" if url else path.as_uri()
        digest = hashes.get(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        lines += [
            "[[packages]]",
            f'name = "{name.lower().replace("_", "-")}"',
            f'version = "{version}"',
            "[[packages.wheels]]",
            f'url = "{source}"',
            f"size = {path.stat().st_size}",
            f'hashes = {{sha256 = "{digest}"}}' if digest else "hashes = {}",
            "",
        ]
    return "\n".join(lines)
