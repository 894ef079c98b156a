"""The sessions of a user: one item a user, changed by cas.

An entry is made before its session and removed after its end, so that a crash leaves an entry without a session and
never the reverse. Entries without a session go when their time is over, at the next change of the item.

Memcached may evict the item, or a node may lose it, while the sessions live on elsewhere. They must not stay alive
then, because nobody could end them by their user's name. So a session of a user is alive only as long as its entry
was seen lately (`lease` seconds): when a load finds that this is too long ago, it looks, and a session that is not
listed is over.

Whoever ends all sessions may not reach one of them, or find nothing where the index says that there is one. What is
written there a moment later must neither live on nor be forgotten. So its entry stays, barred: to those who look
whether a session is listed it is not there, and who ends all again visits it again. It is removed when nothing was
there for the second time: whoever writes a session looks at the index afterwards, and finds the bar, or no entry.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

import msgspec

from ...errors import StoreFull
from . import items
from .cells import Cells, refuse_without_room
from .items import INDEX
from .protocol import Answer, Item

MOST: Final = 2000  # sessions of one user
_MAKING: Final = 10.0  # seconds in which a session should follow its entry


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """List one session until a moment (by this machine's clock, not the policy's); barred, to those only who end it."""

    session_id: str
    created_at: float
    entered_at: float
    until: float
    barred: bool = False

    def may_be_in_the_making(self, now: float) -> bool:
        """Tell whether its session may be expected to follow: it is left alone, and counts."""
        return now - self.entered_at < _MAKING

    def bar(self) -> Entry:
        """Return it barred."""
        return msgspec.structs.replace(self, barred=True)


class Index(msgspec.Struct, frozen=True, array_like=True):
    """List a user's sessions, and say since when the list exists; `lost`: in place of one that nobody could read."""

    born: float
    entries: tuple[Entry, ...] = ()
    lost: bool = False

    def lists(self, session_id: str) -> bool:
        """Tell whether a session is listed, and not barred."""
        return any(entry.session_id == session_id and not entry.barred for entry in self.entries)

    def holding(self, entries: Iterable[Entry]) -> Index:
        """Return the same list with other entries."""
        return msgspec.structs.replace(self, entries=tuple(entries))


_decoder: Final = msgspec.msgpack.Decoder(Index)


class Users:
    """Read and change the users' items."""

    def __init__(self, cells: Cells, *, lease: float) -> None:
        self._cells = cells
        self._lease = lease

    async def read(self, user: str) -> Index | None:
        """Return the user's list, or None if there is none (any more)."""
        item = await self._cells.read_one(self._cells.user_key(user))
        return None if item is None else _decoded(item)[0]

    async def lists(self, user: str, session_id: str) -> bool:
        """Tell whether a session is listed, and not barred."""
        item = await self._cells.read_one(self._cells.user_key(user))
        return item is not None and _decoded(item)[0].lists(session_id)

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

    async def leave(self, user: str, session_id: str) -> None:
        """Take a session off the list that is over for good."""
        await self.revise(user, lambda entry: None if entry.session_id == session_id else entry)

    async def bar(self, user: str, session_id: str) -> None:
        """Bar a session that is over for this user, as far as anybody knows."""
        await self.revise(user, lambda entry: entry.bar() if entry.session_id == session_id else entry)

    async def revise(self, user: str, revised: Callable[[Entry], Entry | None]) -> None:
        """Put what `revised` makes of each entry in its place; None: it goes."""

        async def edited(index: Index) -> Index | None:
            entries = tuple(new for entry in index.entries if (new := revised(entry)) is not None)
            return None if entries == index.entries else index.holding(entries)

        await self.change(user, edited)

    async def vouch(self, user: str, session_id: str, span: float) -> float | None:
        """Return until when a session is listed, extended to outlive `span` seconds; None: it is not listed."""
        now = time.time()
        found: float | None = None

        async def extended(index: Index) -> Index | None:
            nonlocal found
            mine = (entry for entry in index.entries if entry.session_id == session_id and not entry.barred)
            entry = next(mine, None)
            found = None if entry is None else entry.until
            if entry is None or entry.until >= now + span:
                return None
            longer = msgspec.structs.replace(entry, until=until(now, span))
            found = longer.until
            return index.holding(longer if other is entry else other for other in index.entries)

        await self.change(user, extended)
        return found

    async def change(self, user: str, edit: Callable[[Index], Awaitable[Index | None]]) -> None:
        """Put what `edit` makes of the list in its place, as often as somebody else was faster; None: nothing to do.

        A list that nobody can read is replaced in any case. An empty one stays for a lease: its age is of use.

        Raises:
            StoreFull: the node has no room.
        """
        key = self._cells.user_key(user)
        attempts = self._cells.attempts("too many sign-ins and sign-outs of one user at once")
        while True:
            item, now = await self._cells.read_one(key), time.time()
            index, readable = (Index(now), True) if item is None else _decoded(item)
            edited = await edit(_without_the_expired(index, now))
            if edited is None:
                if readable:
                    return
                edited = index
            value = INDEX + msgspec.msgpack.encode(edited)
            lifetime = items.lifetime(max([now + self._lease, *(entry.until for entry in edited.entries)]) - now)
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
    return index.holding((*others, entry))


def _without_the_expired(index: Index, now: float) -> Index:
    return index.holding(entry for entry in index.entries if entry.until > now)


def _decoded(item: Item) -> tuple[Index, bool]:
    """Decode a user's item, and say if it could be. One that could not lists nobody: all are over within the lease."""
    if item.value[:1] == INDEX:
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            index = _decoder.decode(memoryview(item.value)[1:])
            if math.isfinite(index.born):
                return index, True
    return Index(time.time(), lost=True), False
