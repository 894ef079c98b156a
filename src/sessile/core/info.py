"""A session as lists of devices show it: who, what, where and when, never a secret (R65)."""

from __future__ import annotations

import msgspec

from .factors import Factor, aal
from .record import Record


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
