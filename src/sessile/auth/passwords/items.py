"""What the vault keeps of passwords: `password:<hash of user>`, the argon2id hash with its salt and parameters."""

from __future__ import annotations

from typing import Final

from ..ground import name_of
from ..stored import Stored

PREFIX: Final = "password:"


class Kept(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold a password's hash; times are seconds since 1970."""

    hash: str
    created_at: float
    used_at: float | None = None

    def __repr__(self) -> str:
        return "<Kept password>"


def key(user: str) -> str:
    """Return under which key a user's password stands."""
    return PREFIX + name_of(user)
