"""What the vault keeps of TOTP: `totp:<hash of user>:<id>`, one authenticator; `totps:<hash of user>`, its lock.

Until it is confirmed, a secret lives in the session that asked for it, sealed; what is here counts.
"""

from __future__ import annotations

from typing import Final

from ..ground import name_of
from ..stored import Stored
from .rules import Algorithm

PREFIX: Final = "totp:"


class Kept(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold one authenticator: its sealed secret, and the last step whose code was taken. Times: seconds since 1970."""

    id: str
    label: str
    sealed: bytes
    algorithm: Algorithm
    digits: int
    step: int
    created_at: float
    used_at: float | None = None


class Lock(Stored, frozen=True, array_like=True, kw_only=True):
    """Stand where two additions meet."""


def key(user: str, name: str) -> str:
    """Return under which key an authenticator stands."""
    return f"{PREFIX}{name_of(user)}:{name}"


def lock_key(user: str) -> str:
    """Return under which key the lock of a user's authenticators stands."""
    return "totps:" + name_of(user)
