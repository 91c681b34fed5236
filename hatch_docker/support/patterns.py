"""Regular expressions of modules, which are compiled when they are first used.

A build uses few of the 350 that its modules have (benchmarks/imports.py).
"""

from __future__ import annotations

__all__ = ["regex"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import compile as regex
else:
    import re

    class regex:  # noqa: N801 (it stands for `re.compile`)
        """What `re.compile` returns for these arguments, to its users. Raises re.error when it is used."""

        def __init__(self, text, flags=0):
            self.pattern, self._flags = text, flags

        def __getattr__(self, name):
            value = getattr(re.compile(self.pattern, self._flags), name)
            # From now on, it is found without this function.
            setattr(self, name, value)
            return value
