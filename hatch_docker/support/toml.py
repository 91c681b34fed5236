"""The standard library's TOML reader, or its backport before Python 3.11. `loads` raises ValueError."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from tomllib import loads
else:
    from tomli import loads

__all__ = ["loads"]
