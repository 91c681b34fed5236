"""Numbers in texts of others, as in versions: int() takes quadratic time, and raises ValueError for 4300 digits.

packaging does not translate that, so texts with such numbers are refused where they are read. It imports nothing of
ours.
"""

from __future__ import annotations

# Python may be configured to accept no more (sys.int_info.str_digits_check_threshold).
_MOST = 640
# Whole locks are searched: a pattern would take thirty times as long.
_DIGITS, _LONG = bytes.maketrans(b"123456789", b"0" * 9), b"0" * _MOST


def has_long_number(text: str | bytes) -> bool:
    """Whether a text has a number of so many digits that nothing but an attack has them."""
    if len(text) < _MOST:
        return False
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return _LONG in data.translate(_DIGITS)
