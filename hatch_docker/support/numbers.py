"""Numbers in texts of others, as in versions: int() takes quadratic time, and raises ValueError for 4300 digits.

packaging does not translate that, so texts with such numbers are refused where they are read. It imports nothing of
ours.
"""

from __future__ import annotations

import re

# Python may be configured to accept no more (sys.int_info.str_digits_check_threshold).
_MOST = 640
# A run of digits is looked at once.
_TEXT, _BYTES = re.compile(rf"(?<![0-9])[0-9]{{{_MOST}}}"), re.compile(rb"(?<![0-9])[0-9]{%d}" % _MOST)


def has_long_number(text: str | bytes) -> bool:
    """Whether a text has a number of so many digits that nothing but an attack has them."""
    if len(text) < _MOST:
        return False
    return bool(_TEXT.search(text) if isinstance(text, str) else _BYTES.search(text))
