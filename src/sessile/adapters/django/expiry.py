"""When `set_expiry` ends a session: what is stored, and whether that moment has passed.

    stored        means                               enforced
    a number      seconds since the stored last use   late by `Policy.tolerance`, as the idle limit is (R38)
    below zero    the past                            at once
    0             nothing here                        the cookie ends with the browser anyway
    text          a date, as ISO 8601                 at that moment, as the absolute limit is

What is none of these changes nothing: the policy's limits hold in any case, and `set_expiry` can only shorten them.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

EXPIRY: Final = "_session_expiry"


def is_over(expiry: Any, *, seen_at: float, now: float, tolerance: float) -> bool:
    """Tell whether a session that was last used at `seen_at` is over; all times are seconds since 1970."""
    if isinstance(expiry, str):
        try:
            return now >= dt.datetime.fromisoformat(expiry).timestamp()
        except (ValueError, OverflowError):
            return False
    if not isinstance(expiry, int | float) or expiry == 0:
        return False
    return expiry < 0 or now > seen_at + expiry + tolerance
