"""The sessions of a user: one item a user, changed by cas.

An entry is made before its session and removed after its end, so that a crash leaves an entry without a session and
never the reverse. Entries without a session go when their time is over, at the next change of the item.

Memcached may evict the item, or a node may lose it, while the sessions live on elsewhere. They must not stay alive
then, because nobody could end them by their user's name. So a session of a user is alive only as long as its entry
was seen lately (`lease` seconds): when a load finds that this is too long ago, it looks, and a session that is not
listed is over.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec

from ...errors import StoreFull
from . import items
from .cells import Cells, refuse_without_room
from .items import INDEX
from .protocol import Answer, Item

MOST: Final = 2000  # sessions of one user
_MAKING: Final = 10.0  # seconds that a session may take to follow its entry; longer than any verb


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """List one session until a moment (by this machine's clock, not the policy's)."""

    session_id: str
    created_at: float
    entered_at: float
    until: float

    def may_be_in_the_making(self, now: float) -> bool:
        """Tell whether its session may still follow."""
        return now - self.entered_at < _MAKING


class Index(msgspec.Struct, frozen=True, array_like=True):
    """List a user's sessions, and say since when the list exists."""

    born: float
    entries: tuple[Entry, ...] = ()


_decoder: Final = msgspec.msgpack.Decoder(Index)


class Users:
    """Read and change the users' items."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    async def read(self, user: str) -> Index | None:
        """Return the user's list, or None if there is none (any more)."""
        return _decoded(await self._cells.read_one(self._cells.user_key(user)))

    async def enter(self, user: str, session_id: str, created_at: float, span: float) -> float:
        """List a session, and return until when.

        Raises:
            StoreFull: the user has too many, or the node has no room.
        """
        entry = new_entry(session_id, created_at, span)

        async def entered(index: Index) -> Index:
            return with_entry(index, entry)

        await self.change(user, entered)
        return entry.until

    async def leave(self, user: str, session_ids: Collection[str]) -> None:
        """Take sessions off the list."""

        async def left(index: Index) -> Index | None:
            entries = tuple(entry for entry in index.entries if entry.session_id not in session_ids)
            return None if len(entries) == len(index.entries) else Index(index.born, entries)

        await self.change(user, left)

    async def vouch(self, user: str, session_id: str, span: float) -> float | None:
        """Return until when a session is listed, extended to outlive `span` seconds; None: it is not listed."""
        now = time.time()
        found: float | None = None

        async def extended(index: Index) -> Index | None:
            nonlocal found
            entry = next((entry for entry in index.entries if entry.session_id == session_id), None)
            found = None if entry is None else entry.until
            if entry is None or entry.until >= now + span:
                return None
            longer = msgspec.structs.replace(entry, until=until(now, span))
            found = longer.until
            return Index(index.born, tuple(longer if other is entry else other for other in index.entries))

        await self.change(user, extended)
        return found

    async def change(self, user: str, edit: Callable[[Index], Awaitable[Index | None]]) -> None:
        """Put what `edit` makes of the list in its place, as often as somebody else was faster; None: nothing to do.

        Raises:
            StoreFull: the node has no room.
        """
        key = self._cells.user_key(user)
        attempts = self._cells.attempts("too many sign-ins and sign-outs of one user at once")
        while True:
            item, now = await self._cells.read_one(key), time.time()
            index = _decoded(item)
            edited = await edit(_without_the_expired(index, now) if index is not None else Index(now))
            if edited is None:
                return
            value = INDEX + msgspec.msgpack.encode(edited)
            lifetime = items.lifetime(max((entry.until for entry in edited.entries), default=now) - now)
            if item is None:
                answer = await self._cells.add(key, value, lifetime)
            else:
                answer = await self._cells.cas(key, value, lifetime, item.token)
            if answer is Answer.STORED:
                return
            refuse_without_room(answer)
            await attempts.pause()


def new_entry(session_id: str, created_at: float, span: float) -> Entry:
    """Return an entry for a session that may be idle for `span` seconds."""
    now = time.time()
    return Entry(session_id, created_at, now, until(now, span))


def until(now: float, span: float) -> float:
    """Return how long an entry is good for: two spans, so that a session in use extends it now and then only."""
    return now + 2 * max(span, 0.0)


def with_entry(index: Index, entry: Entry) -> Index:
    """Return the list with one more session.

    Raises:
        StoreFull: it is long enough.
    """
    others = tuple(other for other in index.entries if other.session_id != entry.session_id)
    if len(others) >= MOST:
        raise StoreFull(f"this user has {MOST:,} sessions")
    return Index(index.born, (*others, entry))


def _without_the_expired(index: Index, now: float) -> Index:
    return Index(index.born, tuple(entry for entry in index.entries if entry.until > now))


def _decoded(item: Item | None) -> Index | None:
    """Decode a user's item. One that nobody can read lists nobody: its sessions are over within the lease."""
    if item is None or item.value[:1] != INDEX:
        return None
    try:
        return _decoder.decode(memoryview(item.value)[1:])
    except msgspec.DecodeError:
        return None
