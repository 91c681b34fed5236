"""Print the extension module's result and the C library that it was compiled for, as JSON."""

from __future__ import annotations

import json

from own_extension import _answer


def main() -> None:
    """Run the script."""
    print(json.dumps({"answer": _answer.answer(), "libc": _answer.libc}))
