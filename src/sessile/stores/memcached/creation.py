"""How a session is made, and how one takes the place of another although the two lie on different nodes.

Memcached changes one key at a time, so the whole hangs on one of them:

    1. the user's index lists the new session
    2. the new session is stored as one in the making: to every reader it is none
    3. the user's index is read, for somebody may have ended all between 1 and 2, and found nothing
    4. the old one becomes a tombstone that names the new one, by cas over what was read    here it is decided
    5. the new one comes alive, by cas over 2
    6. the old one leaves the index

A crash before 4 leaves entries that lead nowhere; after 4 the user is signed out, and nobody holds the new token.
Whoever ends the user's sessions meanwhile meets the new one through the index or through the tombstone of 4, and ends
it (`ending`). Step 5 then fails, and the session is over that was made. Whoever did so before there was anything to
meet has barred the new one or removed its entry: step 3 finds that, 2 is undone, and the id counts as taken.

One that replaces nothing comes alive at step 2, and is removed there if step 3 finds it not listed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from ...core.ports import AtLimit, Created, Gone, Replaces, Stale, Taken
from ...core.record import Codec, Record, Tombstone, Unreadable
from ...errors import SessionTooLarge, StoreFull, StoreUnavailable
from . import items
from .cells import Cells
from .index import MOST, Entry, Index, Users, new_entry, with_entry
from .items import MAKING, TOMBSTONE, Header, Making, Mark, judge
from .protocol import Answer

Refusal = Stale | Gone


class _Refused(Exception):
    def __init__(self, answer: AtLimit | Gone) -> None:
        super().__init__()
        self.answer = answer


class Creation:
    """Make sessions."""

    def __init__(self, cells: Cells, users: Users, codec: Codec) -> None:
        self._cells = cells
        self._users = users
        self._codec = codec

    async def create(
        self, session_id: str, record: Record, replaces: Replaces | None, limit: int | None
    ) -> Created | Taken | AtLimit | Refusal:
        """Insert a session and end the one it replaces, or say why not."""
        key, user = self._cells.session_key(session_id), record.control.user
        cell = await self._cells.read(key)
        if cell.item is not None:
            return Taken()
        old = None if replaces is None else await self._old(replaces)
        if isinstance(old, Refusal):
            return old
        epoch = cell.epoch or await self._cells.begin_epoch(key)
        times = (record.seen_at, record.expires_at, record.revision, record.version)
        header = Header(epoch.current, *times, 0.0, 0.0)
        entry = new_entry(session_id, record.control.created_at, record.expires_at - record.seen_at)
        if user is not None:
            try:
                await self._enter(user, entry, record, replaces, old, limit)
            except _Refused as refused:
                return refused.answer
            header = header._replace(vouched_at=entry.entered_at, vouched_until=entry.until)
        value = items.encode_record(session_id, record, header, self._codec)
        made: Created | Taken | Refusal
        try:
            if replaces is None or old is None:
                answer = await self._cells.add(key, value, header.lifetime)
                await self._cells.refuse(answer, key, value, record.data)
                made = Created() if answer is Answer.STORED and await self._is_listed(user, session_id) else Taken()
            else:
                made = await self._replace(session_id, value, header, record, replaces, old)
        except (StoreFull, SessionTooLarge):
            await self._withdraw(user, entry)
            raise
        if isinstance(made, Taken) and replaces is not None and replaces.required:
            # Whoever ended all sessions of the user meanwhile took the new one's place too: what it replaces is gone.
            found = await self._old(replaces)
            made = found if isinstance(found, Gone) else made
        if isinstance(made, Refusal):
            await self._withdraw(user, entry)
        return made

    async def _replace(
        self, session_id: str, value: bytes, header: Header, record: Record, replaces: Replaces, old: Record
    ) -> Created | Taken | Refusal:
        key = self._cells.session_key(session_id)
        making = items.encode_making(Making(replaces.required, replaces.session_id, value))
        answer, item = await self._cells.add_and_read(key, making, header.lifetime)
        await self._cells.refuse(answer, key, making, record.data)
        if answer is not Answer.STORED:
            return Taken()
        if item is None or item.value != making:
            raise StoreFull("a memcached node evicts what it was just given")
        if not await self._is_listed(record.control.user, session_id):
            return Taken()
        try:
            refusal = await self._end(replaces, old, session_id)
        except StoreFull:
            await self._cells.delete(key)
            raise
        if refusal is not None:
            await self._cells.delete(key)
            return refusal
        # This fails only if the session was ended or evicted already: it was made all the same.
        await self._cells.cas(key, value, header.lifetime, item.token)
        await self._leave(old.control.user, replaces.session_id)
        return Created()

    async def _end(self, replaces: Replaces, old: Record | None, successor: str) -> Refusal | None:
        key = self._cells.session_key(replaces.session_id)
        value, lifetime = items.encode_end(replaces.tombstone, successor), items.lifetime_of(replaces.tombstone)
        attempts = self._cells.attempts("too many others write to the session that is replaced")
        while old is not None:
            mark = old.etag
            assert isinstance(mark, Mark)
            answer = await self._cells.cas(key, value, lifetime, mark.token)
            if answer is Answer.STORED:
                return None
            await self._cells.refuse(answer, key, value, {})
            await attempts.pause()
            found = await self._old(replaces)
            if isinstance(found, Refusal):
                return found
            old = found
        return None

    async def _old(self, replaces: Replaces) -> Record | Refusal | None:
        cell = await self._cells.read(self._cells.session_key(replaces.session_id))
        found = judge(replaces.session_id, cell.item, cell.epoch, self._codec)
        if isinstance(found, Record):
            same = (found.revision, found.version) == (replaces.revision, replaces.version)
            return found if same else Stale(found)
        if replaces.required:
            return Gone(found if isinstance(found, Tombstone) else None)
        return None

    async def _enter(
        self,
        user: str,
        entry: Entry,
        record: Record,
        replaces: Replaces | None,
        old: Record | None,
        limit: int | None,
    ) -> None:
        replaced = None if replaces is None else replaces.session_id
        most = MOST if limit is None else min(limit, MOST)
        renewed = replaced if replaces is not None and replaces.required and _is_of(user, old) else None

        async def entered(index: Index) -> Index:
            if renewed is not None and not index.lists(renewed):
                raise _Refused(Gone())  # it is over within the lease: nothing may take it beyond that
            others = [other for other in index.entries if other.session_id not in (entry.session_id, replaced)]
            if sum(not other.barred for other in others) >= most or len(others) >= MOST:
                index, living = await self._reviewed(user, index, record.seen_at)
                counted = tuple((name, at) for name, at in living if name not in (entry.session_id, replaced))
                if limit is not None and len(counted) >= limit:
                    raise _Refused(AtLimit(tuple(sorted(counted, key=lambda session: session[1]))))
            return with_entry(index, entry)

        await self._users.change(user, entered)

    async def _reviewed(self, user: str, index: Index, at: float) -> tuple[Index, Sequence[tuple[str, float]]]:
        """Return the list without those that are over, and who of it counts against a limit.

        Who is barred does not count, and is not asked after if there is room: it may be so because its node is silent.
        """
        full = len(index.entries) >= MOST
        asked = {
            entry.session_id: self._cells.session_key(entry.session_id)
            for entry in index.entries
            if full or not entry.barred
        }
        cells = await self._cells.read_many(list(asked.values()))
        kept: list[Entry] = []
        living: list[tuple[str, float]] = []
        now = time.time()
        for entry in index.entries:
            if entry.session_id not in asked:
                kept.append(entry)
                continue
            stays = entry
            cell = cells[asked[entry.session_id]]
            kind = None if cell.item is None else cell.item.value[:1]
            loaded = judge(entry.session_id, cell.item, cell.epoch, self._codec)
            created_at = entry.created_at
            if isinstance(loaded, Record) and loaded.control.user == user:
                created_at, counts = loaded.control.created_at, loaded.expires_at > at
            elif kind is None or isinstance(loaded, Record):  # nothing is there, or another user's: it may yet come
                counts = entry.may_be_in_the_making(now)
                if not counts and entry.barred:
                    continue
                stays = entry if counts else entry.bar()
            elif kind == MAKING:
                counts = True
            elif kind != TOMBSTONE and isinstance(loaded, Unreadable):  # others may be able to read it
                counts = False
            else:
                continue
            kept.append(stays)
            if counts and not entry.barred:
                living.append((entry.session_id, created_at))
        return index.holding(kept), living

    async def _is_listed(self, user: str | None, session_id: str) -> bool:
        """Tell whether the user's index lists a session that was just written; if not, remove it."""
        if user is None or await self._users.lists(user, session_id):
            return True
        await self._cells.delete(self._cells.session_key(session_id))
        return False

    async def _leave(self, user: str | None, session_id: str) -> None:
        """Tidy the index; if that fails, an entry without a session stays until its time is over."""
        if user is not None:
            with suppress(StoreUnavailable, StoreFull):
                await self._users.leave(user, session_id)

    async def _withdraw(self, user: str | None, entry: Entry) -> None:
        """Do the same for a session that was not made, but not if somebody has listed its id anew."""
        if user is not None:
            with suppress(StoreUnavailable, StoreFull):
                await self._users.revise(user, lambda other: None if other == entry else other)


def _is_of(user: str, old: Record | None) -> bool:
    return old is not None and old.control.user == user
