"""How many sessions a user may have at once, and who makes room for one more (R66, R88)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ..errors import TooManySessions
from . import events
from .families import family_of
from .looking import Looking
from .ports import Ending, UserIndex
from .record import Control, EndReason, Record

# A user's sign-ins that wait for a factor take nobody's place, but there are no more of them than this.
UNFINISHED: Final = 16


class Room:
    """Count a user's sessions, and end some for a new one as the policy says."""

    def __init__(self, looking: Looking, end: Callable[[str, EndReason, str | None], Awaitable[Ending]]) -> None:
        self._looking, self._end = looking, end

    def allowed(self, control: Control) -> int | None:
        """Return how many sessions a new one's user may have; None: any number."""
        limit = self._looking.policy.max_sessions if control.user is not None else None
        return limit + UNFINISHED if limit is not None and control.pending else limit

    async def make(self, sessions: tuple[tuple[str, float], ...], control: Control, allowed: int) -> int | None:
        """Make room for one more of a user's sessions; return the limit to try again with, None for none.

        Raises:
            TooManySessions: the policy ends no finished one.
        """
        looking = self._looking
        held = await self._counted([one for one, _ in sessions], control.user or "")
        if len(held) >= allowed:
            at, action = looking.clock(), looking.policy.on_limit
            looking.tell(events.LimitReached(at=at, user=control.user, action=action))
            if not await self._end_some(held, control, allowed):
                return None  # finished ones fill even the room of unfinished ones: this one ends none of them
        return allowed + len(sessions) - len(held)

    async def _counted(self, sessions: list[str], user: str) -> list[str]:
        """Return those of a user's sessions that count: the token families of a session take no place beside it."""
        store = self._looking.store
        if not isinstance(store, UserIndex):
            return sessions
        families = {sid: family_of(record) for sid, record in await store.of_user(user)}
        return [sid for sid in sessions if (family := families.get(sid)) is None or family.parent is None]

    async def _end_some(self, sessions: list[str], control: Control, limit: int) -> bool:
        """End so many of a user's sessions that one more is within the limit: unfinished ones first, then the oldest.

        An unfinished one ends no finished one; return whether there is room.

        Raises:
            TooManySessions: the policy ends no finished one.
        """
        surplus = len(sessions) - limit + 1
        waiting = await self._unfinished(sessions, control.user or "")
        if len(waiting) < surplus and self._looking.policy.on_limit == "refuse" and not control.pending:
            raise TooManySessions(limit)
        finished = [] if control.pending else [one for one in sessions if one not in waiting]
        for one in ([one for one in sessions if one in waiting] + finished)[:surplus]:
            await self._end(one, EndReason.LIMIT, control.user)
        return len(waiting) + len(finished) >= surplus

    async def _unfinished(self, sessions: list[str], user: str) -> frozenset[str]:
        """Return which of a user's sessions wait for a factor."""
        store = self._looking.store
        if isinstance(store, UserIndex):
            held = dict(await store.of_user(user))
            return frozenset(one for one in sessions if one in held and held[one].control.pending)
        found = [(one, await store.load(one)) for one in sessions]
        return frozenset(one for one, record in found if isinstance(record, Record) and record.control.pending)
