"""What a session that lives in cookies is worth to the marks of those that ended: decided here, for every backend.

    everything's number    another one, or none kept     ended with everything
    mark under its id      there                         ended, as the mark says
    its user's number      none kept, or the same        lives
                           another one                   ended, unless that end kept it and it was alive then

Numbers only have to differ from all that were in use while a session of before may still be alive. Those of users are
counted up from the time in milliseconds; that of everything begins at random, because it is kept for good, and goes on
in steps at random, because a server may lose one: what was issued under that must not fit the next.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from .ports import Claim
from .record import EndReason, Tombstone

_BITS: Final = 52  # exact in every language that a backend may count in: 2^53 is
_STEP_BITS: Final = 20


class UserMark(msgspec.Struct, frozen=True, array_like=True):
    """Hold how a user's sessions ended together: the number from then on, why, and which ones were kept.

    `keep` maps the id of a session that was kept to the lowest number that it may have been issued under.
    """

    number: int
    tombstone: Tombstone
    keep: Mapping[str, int] = {}


def verdict(claim: Claim, everything: int | None, ended: Tombstone | None, user: UserMark | None) -> Tombstone | None:
    """Return why a session has ended, None if it lives. `everything` is None where that number was lost."""
    if everything != claim.everything:
        return Tombstone(EndReason.EVERYTHING, 0.0, float("inf"), claim.user)
    if ended is not None:
        return ended
    if user is None or claim.number == user.number:
        return None
    lowest = user.keep.get(claim.session_id)
    return None if lowest is not None and claim.number >= lowest else user.tombstone


def next_mark(before: UserMark | None, tombstone: Tombstone, keep: frozenset[str]) -> UserMark:
    """Return the mark that ends a user's sessions together; one that had ended before is not brought back by `keep`."""
    number = 0 if before is None else before.number
    lowest = {sid: number if before is None else before.keep.get(sid, number) for sid in keep}
    return UserMark(max(number + 1, int(tombstone.at * 1000)), tombstone, lowest)


def first_number() -> int:
    """Draw the number of everything where none is kept."""
    return int.from_bytes(os.urandom(8), "big") >> (64 - _BITS) | 1


def next_number(number: int) -> int:
    """Draw the number of everything after this one: a higher one, that nobody has drawn before."""
    return number + 1 + (int.from_bytes(os.urandom(4), "big") >> (32 - _STEP_BITS))
