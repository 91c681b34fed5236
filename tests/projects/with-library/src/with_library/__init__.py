"""Has libyaml read a text, and says in JSON what came of it and which file that library is."""

from __future__ import annotations

import json
from pathlib import Path

from with_library import _yaml


def main() -> None:
    """The script."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    loaded = sorted({line.split()[-1] for line in lines if "libyaml" in line})
    print(json.dumps({"scalars": _yaml.scalars(b"{a: [1, b]}"), "version": _yaml.version(), "loaded": loaded}))
