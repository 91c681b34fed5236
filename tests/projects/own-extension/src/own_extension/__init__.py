"""Says in JSON what the extension module answers, and which C library it was compiled against."""

from __future__ import annotations

import json

from own_extension import _answer


def main() -> None:
    """The script."""
    print(json.dumps({"answer": _answer.answer(), "libc": _answer.libc}))
