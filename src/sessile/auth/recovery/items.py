"""What the vault keeps of recovery codes: `recovery:<hash of user>`, keyed hashes of those that are left."""

from __future__ import annotations

from typing import Final

from ..ground import name_of
from ..stored import Stored

PREFIX: Final = "recovery:"


class Kept(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold the hashes of one set, the id of the ring's key that keyed them, and times (seconds since 1970)."""

    key: int
    hashes: tuple[bytes, ...]
    created_at: float
    used_at: float | None = None

    def __repr__(self) -> str:
        return f"<Kept {len(self.hashes)} recovery codes>"


def key(user: str) -> str:
    """Return under which key a user's codes stand."""
    return PREFIX + name_of(user)
