"""How one session gets from the old store to the new one: park, retire, arrive. Each may be the last step of a process.

What makes it safe, whoever else is at work, another mover included:

- A copy is only ever replaced by one of a later state, and two copies of one state share their nonce. So the copy that
  is there when the old store lets go of state n, is of state n, and the mark names it.
- Once the mark stands, nothing changes the session but its arrival, or an end that finds the copy first.
- A touch of the old record before the mover's second look is seen by it. A later one finds the copy, or the session in
  the new store: who touches does it in this order, old record, copy, and, if the mark stands by now, session.
- A copy arrives if the mark names it. That happens once: the step that creates the session ends the copy.
- What the new store remembers of an id is final there, so a session that once left it cannot arrive. It stays (`Held`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ...core.ports import Created, Ending, Gone, Loaded, Replaces, Stale, Taken
from ...core.record import Change, EndReason, Record, Tombstone, Unreadable
from ...errors import StoreUnavailable
from .parking import KEY, has_moved, moved, names, park, parked_id, parked_in

ROUNDS: Final = 64  # each means that another request wrote to the same session meanwhile
_ASIDE: Final = 300.0  # seconds that the mark of a copy which was put aside is kept
_NONCE_BYTES: Final = 8


class Held(NamedTuple):
    """Say that a session stays in the old store: in the new one its id stands for one that left, or is unreadable."""


class Journey:
    """Move single sessions, and finish what others have begun."""

    def __init__(self, old: Any, new: Any, *, clock: Callable[[], float], entropy: Callable[[int], bytes]) -> None:
        self._old = old
        self._new = new
        self._clock = clock
        self._entropy = entropy

    async def settle(self, session_id: str) -> Loaded:
        """Return what the old store says of a session. If it says that it moved, it has arrived, or it has ended."""
        found: Loaded = await self._old.load(session_id)
        if isinstance(found, Tombstone) and has_moved(found) and await self._new.load(session_id) is None:
            await self.arrive(session_id, found)
        return found

    async def arrive(self, session_id: str, mark: Tombstone) -> bool:
        """Put the session in its copy's place, if the mark names that; tell whether the session is alive there."""
        name = parked_id(session_id)
        for _ in range(ROUNDS):
            present: Loaded = await self._new.load(name)
            parked = parked_in(present)
            if not isinstance(present, Record) or parked is None or not names(mark, parked):
                break
            aside = self.aside(parked.record.control.user)
            replaces = Replaces(name, aside, True, present.revision, present.version)
            answer = await self._new.create(session_id, parked.record, replaces=replaces)
            if isinstance(answer, Created):
                return True
            if isinstance(answer, Taken):  # a store that takes several steps was stopped between them
                await self._new.end(name, aside)
                break
        return isinstance(await self._new.load(session_id), Record)

    async def move(self, session_id: str) -> Record | Gone | Held:
        """Move one session. Return it as it moved, why there was nothing to move, or that it must stay.

        Raises:
            StoreUnavailable: other requests wrote to it faster than it could be moved, or its copy's place is still
                marked as ended; the next run will do.
        """
        found: Loaded = await self._old.load(session_id)
        if isinstance(found, Record) and await self._is_barred(session_id):
            return Held()
        seen: tuple[int, int] | None = None
        for _ in range(ROUNDS):
            if not isinstance(found, Record):
                await self._leave(session_id, found)
                return Gone(found if isinstance(found, Tombstone) else None)
            state = found.revision, found.version
            nonce = await self._park(session_id, found, again=state == seen)
            if nonce is None:
                seen, found = state, await self._old.load(session_id)
                continue
            now: Loaded = await self._old.load(session_id)
            if not isinstance(now, Record) or (now.revision, now.version) != state:
                found = now
                continue
            if now.seen_at > found.seen_at or now.expires_at > found.expires_at:
                await self._new.touch(parked_id(session_id), now.seen_at, now.expires_at)
            found = now
            mark = moved(found, self._clock(), nonce)
            answer = await self._old.retire(session_id, mark, revision=found.revision, version=found.version)
            if isinstance(answer, Ending):
                return found if await self.arrive(session_id, mark) else Gone()
            found = answer.record if isinstance(answer, Stale) else answer.tombstone
        raise StoreUnavailable("a session changed faster than it could be moved")

    async def finish(self, copy: Record) -> bool:
        """Let a copy arrive if its mark says so, and remove it if no mark ever can; tell whether it arrived."""
        parked = parked_in(copy)
        if parked is None:
            return False
        found: Loaded = await self._old.load(parked.session_id)
        if isinstance(found, Tombstone) and names(found, parked):
            return await self.arrive(parked.session_id, found)
        if not isinstance(found, Record):
            await self._leave(parked.session_id, found)
        return False

    def aside(self, user: str | None) -> Tombstone:
        """Return what stays of a copy that has arrived, or of a session that was taken back."""
        now = self._clock()
        return Tombstone(EndReason.MOVED, now, now + _ASIDE, user)

    async def _is_barred(self, session_id: str) -> bool:
        """Tell whether a session could not arrive, and would be lost where it has not ended.

        So it is with one that has moved out of the new store, and is moved back while the mark of that still stands.
        """
        there: Loaded = await self._new.load(session_id)
        return has_moved(there) or isinstance(there, Unreadable)

    async def _park(self, session_id: str, record: Record, *, again: bool) -> str | None:
        """Put a copy of this state there and return its nonce. None: read the session again, for it must have changed.

        `again`: it was read again and had not. Then a copy of a later state is of one that the old store has lost.

        Raises:
            StoreUnavailable: the copy's place is still marked as ended; or it changed faster than it could be written.
        """
        name, nonce = parked_id(session_id), self._entropy(_NONCE_BYTES).hex()
        copy = park(session_id, record, nonce)
        for _ in range(ROUNDS):
            if isinstance(await self._new.create(name, copy), Created):
                return nonce
            present: Loaded = await self._new.load(name)
            if present is None:
                continue
            parked = parked_in(present)
            if not isinstance(present, Record) or parked is None:
                if again:
                    raise StoreUnavailable("the place for a session's copy is still marked as ended")
                return None
            if parked.is_ahead_of(record) and not again:
                return None
            if parked.is_of(record):
                await self._new.touch(name, record.seen_at, record.expires_at)
                return parked.nonce
            change = Change(
                seen_at=copy.seen_at,
                expires_at=copy.expires_at,
                control=copy.control,
                revision=present.revision,
                put={KEY: bytes(copy.data[KEY])},
            )
            if isinstance(await self._new.save(name, change, present), Record):
                return nonce
        raise StoreUnavailable("a session's copy changed faster than it could be written")

    async def _leave(self, session_id: str, found: Loaded) -> None:
        """Finish with a session that lives in the old store no more: it arrives, and a copy that never can goes."""
        if isinstance(found, Tombstone) and has_moved(found):
            await self.arrive(session_id, found)
        name = parked_id(session_id)
        present: Loaded = await self._new.load(name)
        parked = parked_in(present)
        if isinstance(present, Record) and not (parked is not None and names(found, parked)):
            aside = self.aside(present.control.user)
            await self._new.retire(name, aside, revision=present.revision, version=present.version)
