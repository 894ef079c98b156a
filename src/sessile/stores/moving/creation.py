"""How a session begins while there are two stores: which ids are taken, which limit holds, what it takes the place of.

A session and the one that it replaces may live in different stores. Then the new one is inserted first, the other is
ended if nobody wrote to it, and the new one is taken back if that fails. A process that stops in between leaves a
session whose token nobody has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...core.ports import AtLimit, Created, Ending, Gone, Loaded, Replaces, Stale, Taken
from ...core.record import Record, Tombstone
from ...errors import StoreUnavailable
from .journey import ROUNDS, Journey
from .parking import has_moved, names, parked_in

Listing = tuple[tuple[str, Record], ...]


class Listings(NamedTuple):
    """Hold a user's sessions as each store lists them, and as they are: each once, under its own id."""

    old: Listing
    new: Listing
    sessions: dict[str, Record]


async def list_user(old: Any, new: Any, user: str) -> Listings:
    """List a user's sessions: the old store first, so that one which moves meanwhile is met once at least."""
    in_old: Listing = await old.of_user(user)
    in_new: Listing = await new.of_user(user)
    found = dict(in_old)
    for session_id, record in in_new:
        parked = parked_in(record)
        if parked is None:
            found.setdefault(session_id, record)
        elif parked.session_id not in found and names(await old.load(parked.session_id), parked):
            found[parked.session_id] = parked.record
    return Listings(in_old, in_new, found)


class Creation:
    """Insert sessions into the new store, or, with `in_old`, into the old one."""

    def __init__(self, old: Any, new: Any, journey: Journey, *, in_old: bool) -> None:
        self._old = old
        self._new = new
        self._target, self._other = (old, new) if in_old else (new, old)
        self._journey = journey

    async def create(
        self, session_id: str, record: Record, replaces: Replaces | None, limit: int | None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session, as the port says.

        Raises:
            StoreUnavailable: too much else happened to the user's sessions at once.
        """
        if await self._other.load(session_id) is not None:
            return Taken()
        for _ in range(ROUNDS):
            room = limit
            if limit is not None and record.control.user is not None:
                found = await self._room(record, replaces, limit)
                if isinstance(found, AtLimit):
                    return found
                room = found
            answer = await self._insert(session_id, record, replaces, room)
            if not isinstance(answer, AtLimit | None):
                return answer
        raise StoreUnavailable("a user's sessions changed faster than one could be added")

    async def _insert(
        self, session_id: str, record: Record, replaces: Replaces | None, limit: int | None
    ) -> Created | Taken | AtLimit | Stale | Gone | None:
        """Insert a session once. None: the one to replace has moved meanwhile."""
        if replaces is None:
            return await self._plainly(session_id, record, limit)
        place, found = await self._place_of(replaces.session_id)
        if place is None:
            if replaces.required:
                return Gone(found if isinstance(found, Tombstone) else None)
            return await self._plainly(session_id, record, limit)
        if place is self._target:
            # It is there: if it is not any more, it has moved or ended, and an end must be seen here as well.
            must = replaces._replace(required=True)
            answer = await self._target.create(session_id, record, replaces=must, limit=limit)
            return None if isinstance(answer, Gone) else answer
        inserted = await self._plainly(session_id, record, limit)
        if not isinstance(inserted, Created):
            return inserted
        ended = await self.retire(replaces)
        if isinstance(ended, Ending) or (isinstance(ended, Gone) and not replaces.required):
            return inserted
        await self._target.end(session_id, self._journey.aside(record.control.user))
        return ended

    async def _plainly(self, session_id: str, record: Record, limit: int | None) -> Created | Taken | AtLimit:
        return await self._target.create(session_id, record, limit=limit)  # type: ignore[no-any-return]

    async def _place_of(self, session_id: str) -> tuple[Any, Loaded]:
        """Return the store where a session is alive, or None and what is left of it."""
        found = await self._journey.settle(session_id)
        if isinstance(found, Record):
            return self._old, found
        if found is not None and not has_moved(found):
            return None, found
        found = await self._new.load(session_id)
        return (self._new if isinstance(found, Record) else None), found

    async def retire(self, replaces: Replaces) -> Ending | Stale | Gone:
        """End a session, wherever it is by now, if nobody wrote to it: it moves with its numbers."""
        mark = {"revision": replaces.revision, "version": replaces.version}
        ended: Ending | Stale | Gone = await self._old.retire(replaces.session_id, replaces.tombstone, **mark)
        if isinstance(ended, Gone) and (ended.tombstone is None or has_moved(ended.tombstone)):
            await self._journey.settle(replaces.session_id)
            ended = await self._new.retire(replaces.session_id, replaces.tombstone, **mark)
        return ended

    async def _room(self, record: Record, replaces: Replaces | None, limit: int) -> int | AtLimit:
        """Return the limit for the store that the session begins in: what it lists, and how many more there may be.

        What a store lists is not what there is: copies that wait, and sessions beside their copies.
        """
        assert record.control.user is not None
        listed = await list_user(self._old, self._new, record.control.user)
        replaced = None if replaces is None else replaces.session_id

        def counts(session_id: str, one: Record) -> bool:
            return one.expires_at > record.seen_at and session_id != replaced

        others = [(sid, one.control.created_at) for sid, one in listed.sessions.items() if counts(sid, one)]
        if len(others) >= limit:
            return AtLimit(tuple(sorted(others, key=lambda entry: entry[1])))
        here = listed.old if self._target is self._old else listed.new
        return sum(counts(sid, one) for sid, one in here) + limit - len(others)
