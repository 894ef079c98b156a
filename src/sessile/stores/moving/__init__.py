"""Two stores as one, while sessions move from the old to the new: nobody is signed out, nothing comes back.

    moving://?from=sqlite:///sessions.db&to=redis://host/0        in each URL, write "&" as %26 and "#" as %23
    &create=old        new sessions begin in the old store still: while nodes are running that know that one alone
    &from_sealed=yes   the old store is encrypted at rest as well, with the same ring of keys

A session lives in one of the two, and the old one is asked first: a record there is the session, a mark `moved` there
means the new store. One session moves in three steps (`journey`), and each may be the last that a process does:

    1  park     a copy goes to the new store under an id that no token leads to (`parking`)
    2  retire   the old store puts the mark in the record's place, if nobody wrote to it since; else back to 1
    3  arrive   the new store puts the session in the place of the copy, if the mark names that: one atomic step

    stopped after    the session is                             who goes on
    1                in the old store, as before                a later move; the copy is written over
    2                marked as moved, its copy is waiting       whoever asks for it next, or the next run of the mover
    3                in the new store

An end meets a session wherever it is. In the old store before step 2, it makes step 2 fail. After it, the end finds the
copy and ends that, so that step 3 finds it dead; or it finds the session itself. A copy left behind by step 1 never
arrives, because that takes the mark, and what was ended in the old store never gets one.

A touch changes no number, so step 2 does not see it. Therefore who touches moves the times of the old record first and
those of the copy next, and the mover looks at the old record once more after step 1: one of them sees the other.

On a Redis cluster step 3 takes several commands: whoever is killed between them signs out that one session.

Until the old store is empty, a session that has moved costs one more trip to read and one more to write.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from ...core.ports import (
    AtLimit,
    Census,
    Clash,
    Created,
    Diagnosable,
    Diagnosis,
    Ending,
    Epochs,
    Gone,
    Loaded,
    OneDoor,
    Page,
    Replaces,
    Retiring,
    Stale,
    Stats,
    Store,
    Sweeping,
    Taken,
    UserIndex,
)
from ...core.record import PLAIN, Change, Codec, EndReason, Record, Tombstone
from ...errors import ConfigurationError
from ..url import StoreUrl
from .creation import Creation, list_user
from .journey import Held, Journey
from .parking import has_moved, names, parked_id, parked_in


def open_url(url: StoreUrl, *, blocking: bool, codec: Codec = PLAIN) -> Moving:
    """Open `moving://?from=<URL>&to=<URL>`. The codec is the new store's; the old one is read as it was written.

    Raises:
        ConfigurationError: a URL is missing or refused, or a store cannot take part.
    """
    from .. import open_store

    if url.authority or url.path not in ("", "/"):
        raise ConfigurationError("moving:// takes neither a host nor a path: moving://?from=<URL>&to=<URL>")
    found = url.options({"from": str, "to": str, "create": _side, "from_sealed": _yes})
    if "from" not in found or "to" not in found:
        raise ConfigurationError("moving:// needs two stores: moving://?from=<URL>&to=<URL>")
    if found["from"] == found["to"]:
        raise ConfigurationError("moving:// was given the same store twice")
    old = open_store(found["from"], blocking=blocking, codec=codec if found.get("from_sealed", False) else PLAIN)
    new = open_store(found["to"], blocking=blocking, codec=codec)
    return Moving(old, new, create_in_old=found.get("create") == "old")


class Moving:
    """Be two stores, of the same door. `create_in_old`: new sessions begin in the old one.

    Raises:
        ConfigurationError: a store lacks what a move needs.
    """

    def __init__(
        self,
        old: Store,
        new: Store,
        *,
        create_in_old: bool = False,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        for store in (old, new):
            for need in (Retiring, UserIndex, Epochs):
                if not isinstance(store, need):
                    raise ConfigurationError(f"{type(store).__name__} cannot take part in a move: no {need.__name__}")
        doors = {store.blocking for store in (old, new) if isinstance(store, OneDoor)}
        if len(doors) > 1:
            raise ConfigurationError("both stores of a move must be opened for the same door")
        if doors:
            self.blocking = doors.pop()  # `OneDoor`; two stores in memory serve either
        self.old: Any = old
        self.new: Any = new
        self._journey = Journey(old, new, clock=clock, entropy=entropy)
        self._creation = Creation(old, new, self._journey, in_old=create_in_old)

    async def load(self, session_id: str) -> Loaded:
        """Return the session from the store that it lives in; let it arrive, if it was on its way."""
        found: Loaded = await self.old.load(session_id)
        if found is not None and not has_moved(found):
            return found
        here: Loaded = await self.new.load(session_id)
        if here is None and isinstance(found, Tombstone):
            await self._journey.arrive(session_id, found)
            here = await self.new.load(session_id)
        return here

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session; the one that it replaces may live in the other store (`creation`)."""
        return await self._creation.create(session_id, record, replaces, limit)

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Change the session where it lives; it may move between the look and the write, and once only."""
        answer: Record | Stale | Clash | Gone = await self.old.save(session_id, change, base)
        if not isinstance(answer, Gone) or not (answer.tombstone is None or has_moved(answer.tombstone)):
            if isinstance(answer, Record) and change.control is None and not (change.put or change.drop):
                await self.touch(session_id, change.seen_at, change.expires_at)  # it was no more than that
            return answer
        here: Record | Stale | Clash | Gone = await self.new.save(session_id, change, base)
        if isinstance(here, Gone) and here.tombstone is None and answer.tombstone is not None:
            await self._journey.arrive(session_id, answer.tombstone)
            here = await self.new.save(session_id, change, base)
        return here

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        """Move the times forward where the session lives, and on its copy; look again whether it moved meanwhile."""
        if isinstance(await self.old.load(session_id), Record):
            await self.old.touch(session_id, seen_at, expires_at)
            await self.new.touch(parked_id(session_id), seen_at, expires_at)
        if not isinstance(await self._journey.settle(session_id), Record):
            await self.new.touch(session_id, seen_at, expires_at)

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """End the session wherever it is: in the old store, on its way, or in the new one.

        In this order: what is not found in one place can only have moved on to the next.
        """
        ending: Ending = await self.old.end(session_id, tombstone)
        if ending.ended:
            return ending  # it never got the mark, so nothing can arrive
        on_its_way: Ending = await self.new.end(parked_id(session_id), tombstone)
        there: Ending = await self.new.end(session_id, tombstone)
        users = [user for _, user in (*on_its_way.ended, *there.ended)]
        confirmed = ending.confirmed and on_its_way.confirmed and there.confirmed
        return Ending(((session_id, users[0]),) if users else (), confirmed)

    async def of_user(self, user: str) -> tuple[tuple[str, Record], ...]:
        """Return the user's sessions of both stores, oldest first."""
        found = (await list_user(self.old, self.new, user)).sessions
        return tuple(sorted(found.items(), key=lambda entry: entry[1].control.created_at))

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions in the old store, then in the new one, those on their way among them."""
        first: Ending = await self.old.end_user(user, tombstone, keep)
        waiting = frozenset(parked_id(session_id) for session_id in keep)
        listed = {sid: parked for sid, record in await self.new.of_user(user) if (parked := parked_in(record))}
        second: Ending = await self.new.end_user(user, tombstone, keep | waiting)
        ended = dict(first.ended)
        for session_id, _ in second.ended:
            parked = listed.get(session_id)
            if parked is None:
                ended.setdefault(session_id, user)
            elif parked.session_id not in ended and names(await self.old.load(parked.session_id), parked):
                ended[parked.session_id] = user
        return Ending(tuple(ended.items()), first.confirmed and second.confirmed)

    async def end_everything(self, at: float) -> Ending:
        """Begin a new epoch in both stores."""
        first: Ending = await self.old.end_everything(at)
        second: Ending = await self.new.end_everything(at)
        return Ending((), first.confirmed and second.confirmed)

    async def sweep(self, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
        """Remove what has expired from both stores."""
        removed: list[tuple[str, EndReason | None]] = []
        for store in (self.old, self.new):
            if isinstance(store, Sweeping) and len(removed) < limit:
                removed += await store.sweep(now, limit - len(removed))
        return tuple(removed)

    async def stats(self, now: float) -> Stats:
        """Count what both stores hold; a session that is on its way, or a user of both, may count twice."""
        counted = [await store.stats(now) for store in (self.old, self.new) if isinstance(store, Census)]
        return Stats(*(sum(numbers) for numbers in zip(*counted, strict=True))) if counted else Stats(0, 0, 0, 0)

    async def scan(self, cursor: str | None, limit: int) -> Page:
        """Return the sessions of the old store, then those of the new one and those on their way there."""
        side, _, rest = (cursor or "old:").partition(":")
        if side == "old" and isinstance(self.old, Census):
            page = await self.old.scan(rest or None, limit)
            return Page(page.sessions, "new:" if page.cursor is None else f"old:{page.cursor}")
        if side not in ("old", "new") or not isinstance(self.new, Census):
            return Page((), None)
        page = await self.new.scan(rest if side == "new" and rest else None, limit)
        sessions: list[tuple[str, Record]] = []
        for session_id, record in page.sessions:
            parked = parked_in(record)
            if parked is None:
                sessions.append((session_id, record))
            elif names(await self.old.load(parked.session_id), parked):
                sessions.append((parked.session_id, parked.record))
        return Page(tuple(sessions), None if page.cursor is None else f"new:{page.cursor}")

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Look at the servers behind both stores."""
        found: dict[Diagnosis, None] = {}
        for store in (self.old, self.new):
            if isinstance(store, Diagnosable):
                found |= dict.fromkeys(await store.diagnose())
        return tuple(found)

    async def close(self) -> None:
        """Close both stores."""
        try:
            await self.old.close()
        finally:
            await self.new.close()

    async def move(self, session_id: str) -> Record | Gone | Held:
        """Move one session. Return it as it moved, why there was nothing to move, or that it must stay.

        Raises:
            StoreUnavailable: it could not be moved now: others wrote to it too fast, or its copy's place is taken.
        """
        return await self._journey.move(session_id)

    async def arrive(self, copy: Record) -> bool:
        """Let a copy in the new store arrive, or remove it if it never can; tell whether it arrived."""
        return await self._journey.finish(copy)


def _side(value: str) -> str:
    if value not in ("old", "new"):
        raise ValueError("must be old or new")
    return value


def _yes(value: str) -> bool:
    if value not in ("yes", "no"):
        raise ValueError("must be yes or no")
    return value == "yes"
