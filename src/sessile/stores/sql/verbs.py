"""The verbs, written once: for a store that owns its connections, and for one inside the application's transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ...core.ports import AtLimit, Clash, Created, Ending, Gone, Loaded, Replaces, Stale, Taken
from ...core.record import Change, Record, Tombstone
from . import rows
from .link import Link

T = TypeVar("T")


class Verbs(ABC):
    """Turn each verb into work on a link, and say what the work needs."""

    @abstractmethod
    async def _read(self, work: Callable[[Link], T]) -> T:
        """Do work that writes nothing."""

    @abstractmethod
    async def _write(self, work: Callable[[Link], T], *, repeatable: bool = False) -> T:
        """Do work that is one statement; `repeatable`: doing it twice is doing it once."""

    @abstractmethod
    async def _transact(self, work: Callable[[Link], T], *, durable: bool = False) -> T:
        """Do work in one transaction."""

    @abstractmethod
    async def _confirm(self, ending: Ending) -> Ending:
        """Say of an ending how sure it is."""

    async def load(self, session_id: str) -> Loaded:
        """Read the session with one SELECT."""
        return await self._read(partial(rows.load, session_id=session_id))

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session: one statement, or one transaction with the end of the one it replaces and the limit.

        Raises:
            ValueError: the id is none of Sessile's.
        """
        if replaces is None and (limit is None or record.control.user is None):
            return await self._write(partial(rows.insert, session_id=session_id, record=record))
        work = partial(rows.create, session_id=session_id, record=record, replaces=replaces, limit=limit)
        return await self._transact(work, durable=replaces is not None and replaces.tombstone.user is not None)

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Merge the change into the row as it is now."""
        return await self._transact(partial(rows.save, session_id=session_id, change=change))

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        """Move the times forward."""
        work = partial(rows.touch, session_id=session_id, seen_at=seen_at, expires_at=expires_at)
        await self._write(work, repeatable=True)

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """Put the tombstone in the record's place, durably."""
        work = partial(rows.end, session_id=session_id, tombstone=tombstone)
        return await self._confirm(await self._transact(work, durable=True))

    async def retire(
        self, session_id: str, tombstone: Tombstone, *, revision: int, version: int
    ) -> Ending | Stale | Gone:
        """End the session, durably, if nobody wrote to it."""
        work = partial(rows.retire, session_id=session_id, tombstone=tombstone, revision=revision, version=version)
        answer = await self._transact(work, durable=True)
        return await self._confirm(answer) if isinstance(answer, Ending) else answer

    async def of_user(self, user: str) -> tuple[tuple[str, Record], ...]:
        """Return the user's sessions, oldest first."""
        return await self._read(partial(rows.of_user, user=user))

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`, durably and in one transaction."""
        work = partial(rows.end_user, user=user, tombstone=tombstone, keep=keep)
        return await self._confirm(await self._transact(work, durable=True))

    async def end_everything(self, at: float) -> Ending:
        """Begin a new epoch, durably: one row, whatever the number of sessions."""
        await self._transact(partial(rows.end_everything, at=at), durable=True)
        return await self._confirm(Ending(()))
