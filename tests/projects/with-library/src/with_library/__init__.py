"""Parse a text with libyaml, and print the result, the library's version and its path as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from with_library import _yaml


def main() -> None:
    """Run the script."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    loaded = sorted({line.split()[-1] for line in lines if "libyaml" in line})
    print(json.dumps({"scalars": _yaml.scalars(b"{a: [1, b]}"), "version": _yaml.version(), "loaded": loaded}))
