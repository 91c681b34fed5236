"""Regular expressions of modules, which are compiled when they are first used.

A build uses few of those that its modules have, and compiling all 350 takes longer than Python takes to start.
"""

from __future__ import annotations

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


__all__ = ["regex"]
