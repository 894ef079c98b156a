"""A session as lists of devices show it: who, what, where and when, never a secret (R65)."""

from __future__ import annotations

import msgspec

from .factors import Factor, aal
from .record import Record


class Ended(int):
    """Be the number of sessions that were ended, and say how surely (R51).

    `confirmed`: every copy of the store that could take over knows of it. Not confirmed: they are dead where they were
    ended, the store goes on telling the others, and a failover before that could bring them back for a moment. An end
    that failed is neither: it raises `StoreError`.
    """

    confirmed: bool

    def __new__(cls, count: int, *, confirmed: bool = True) -> Ended:
        """Count ended sessions."""
        self = super().__new__(cls, count)
        self.confirmed = confirmed
        return self

    @property
    def outcome(self) -> str:
        """Return "confirmed" or "unconfirmed"."""
        return "confirmed" if self.confirmed else "unconfirmed"

    __str__ = int.__repr__

    def __repr__(self) -> str:
        return f"<Ended {int(self)} {self.outcome}>"


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one session. Times are seconds since 1970; `current` marks the one that asks."""

    id: str
    user: str | None
    kind: str
    agent: str
    platform: str
    place: str
    created_at: float
    seen_at: float
    expires_at: float
    factors: tuple[Factor, ...]
    aal: int
    current: bool = False

    @property
    def label(self) -> str:
        """Return the device in words, as in "Firefox on Linux"."""
        if self.agent and self.platform:
            return f"{self.agent} on {self.platform}"
        return self.agent or self.platform or "Unknown device"


def describe(session_id: str, record: Record, *, deadline: float, current: bool = False) -> SessionInfo:
    """Return the description of a stored session; `deadline` is when it ends by policy."""
    control = record.control
    complete = control.user is not None and not control.pending and not control.challenged
    return SessionInfo(
        id=session_id,
        user=control.user,
        kind="anonymous" if control.user is None else "authenticated" if complete else "pending",
        agent=control.context.agent,
        platform=control.context.platform,
        place=control.place,
        created_at=control.created_at,
        seen_at=record.seen_at,
        expires_at=deadline,
        factors=control.factors,
        aal=aal(factor.name for factor in control.factors) if complete else 0,
        current=current,
    )
