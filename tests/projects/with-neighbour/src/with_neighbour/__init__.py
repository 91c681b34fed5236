"""Says in JSON what the extension module of a neighbour answers, and which C library it was compiled against."""

from __future__ import annotations

import json

from speed import _answer


def main() -> None:
    """The script."""
    print(json.dumps({"answer": _answer.answer(), "libc": _answer.libc}))
