"""The sessions in cookies that this process served lately, for what stays open longer than a request (R24).

No store can be asked what such a session is. What is remembered is what its end is looked up by, and its times; never
its data. The last few thousand are, and those that somebody watches for as long as that.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .ports import Claim

REMEMBERED: Final = 4096


class Known(NamedTuple):
    """Hold what is remembered of a session; times are seconds since 1970."""

    claim: Claim
    authenticated_at: float
    seen_at: float
    until: float


class Lately:
    """Remember sessions: up to twice `REMEMBERED`, in two generations, and the watched."""

    __slots__ = ("_newer", "_older", "_watched")

    def __init__(self) -> None:
        self._newer: dict[str, Known] = {}
        self._older: dict[str, Known] = {}
        self._watched: dict[str, Known] = {}

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def remember(self, claim: Claim, authenticated_at: float, seen_at: float, until: float) -> None:
        """Remember a session, or how it is now."""
        newer, sid = self._newer, claim.session_id
        newer[sid] = known = Known(claim, authenticated_at, seen_at, until)
        if sid in self._watched:
            self._watched[sid] = known
        if len(newer) >= REMEMBERED:
            self._older, self._newer = newer, {}

    def get(self, sid: str) -> Known | None:
        """Return what is known of a session, if anything."""
        return self._watched.get(sid) or self._newer.get(sid) or self._older.get(sid)

    def hold(self, sid: str) -> None:
        """Keep a session known until it is let go."""
        known = self.get(sid)
        if known is not None:
            self._watched[sid] = known

    def let_go(self, sid: str) -> None:
        """Keep it no longer than others."""
        self._watched.pop(sid, None)
