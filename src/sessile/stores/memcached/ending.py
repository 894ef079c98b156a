"""How sessions end: by cas over the record, so that nothing that was in flight brings one back (R42)."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from enum import Enum, auto
from typing import NamedTuple

from ...core.ports import Ending, Gone, Stale
from ...core.record import Codec, Record, Tombstone, Undecodable, Unreadable
from ...errors import StoreFull, StoreUnavailable
from . import items
from .cells import Cell, Cells, refuse_without_room
from .index import Entry, Index, Users
from .items import MAKING, TOMBSTONE, judge
from .protocol import Answer, Item


class _Entry(Enum):
    """Say what becomes of the entry of a session that was looked for."""

    LEAVES = auto()  # the session is over for good
    BARRED = auto()  # nobody knows, or nothing was there: it may yet be written
    STAYS = auto()  # it comes after, or is kept


class _Outcome(NamedTuple):
    """Say what became of one session: whether it was alive, what its entry does, if it was reached, who follows it."""

    ended: bool = False
    entry: _Entry = _Entry.LEAVES
    reached: bool = True
    successor: str = ""


_KEPT = _Outcome(entry=_Entry.STAYS)


class Endings:
    """End sessions."""

    def __init__(self, cells: Cells, users: Users, codec: Codec, *, lease: float) -> None:
        self._cells = cells
        self._users = users
        self._codec = codec
        self._lease = lease

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """Put the tombstone in the place of a session that is alive, readable or not."""
        ended = await self._end(session_id, tombstone, None)
        return ended if isinstance(ended, Ending) else Ending(())

    async def retire(self, session_id: str, tombstone: Tombstone, revision: int, version: int) -> Ending | Stale | Gone:
        """End a session if nobody wrote to it since."""
        return await self._end(session_id, tombstone, (revision, version))

    async def _end(
        self, session_id: str, tombstone: Tombstone, expected: tuple[int, int] | None
    ) -> Ending | Stale | Gone:
        key = self._cells.session_key(session_id)
        attempts = self._cells.attempts("too many others write to the session that is ended")
        while True:
            cell = await self._cells.read(key)
            loaded = judge(session_id, cell.item, cell.epoch, self._codec)
            if cell.item is None or loaded is None or isinstance(loaded, Tombstone):
                return Gone(loaded if isinstance(loaded, Tombstone) else None)
            if isinstance(loaded, Unreadable) and (expected is not None or cell.item.value[:1] == TOMBSTONE):
                return Gone()
            if expected is not None and isinstance(loaded, Record) and (loaded.revision, loaded.version) != expected:
                return Stale(loaded)
            if await self._entomb(key, cell.item, tombstone, surely=expected is None):
                user = loaded.control.user if isinstance(loaded, Record) else tombstone.user
                await self.leave(user, session_id)
                return Ending(((session_id, user),))
            try:
                await attempts.pause()
            except StoreUnavailable:
                if expected is not None:
                    raise
                # An end does not lose against writers, however many: what is removed cannot be saved either.
                gone = await self._cells.delete(key) is Answer.DELETED
                return Ending(((session_id, tombstone.user),) if gone else ())

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str]) -> Ending:
        """End a user's sessions but those to keep; unconfirmed if one may be out of reach for a lease (see `index`).

        One whose node does not answer stays listed, barred. It dies of that within a lease, also on a node that comes
        back later, and whoever ends all again, in any process, asks that node again.
        """
        index = await self._users.read(user)
        confirmed = await self._is_whole(user, index)
        entries = {entry.session_id: entry for entry in (index.entries if index is not None else ())}
        open_ids, met = list(entries), set(keep)
        ended: list[str] = []
        outcomes: dict[str, _Outcome] = {}
        while open_ids:
            session_id = open_ids.pop(0)
            if session_id in met:
                continue
            met.add(session_id)
            outcome = await self._end_listed(session_id, entries.get(session_id), user, tombstone, keep)
            confirmed = confirmed and outcome.reached
            if outcome.ended:
                ended.append(session_id)
            outcomes[session_id] = outcome
            if outcome.successor:
                open_ids.append(outcome.successor)

        def settled(entry: Entry) -> Entry | None:
            seen, outcome = entries.get(entry.session_id), outcomes.get(entry.session_id, _KEPT)
            if seen is not None and seen.entered_at != entry.entered_at:
                return entry  # somebody has listed it anew since: that comes after
            if outcome.entry is _Entry.LEAVES:
                return None
            return entry.bar() if outcome.entry is _Entry.BARRED else entry

        if index is not None:
            await self._users.revise(user, settled)
        return Ending(tuple((session_id, user) for session_id in ended), confirmed)

    async def _end_listed(
        self, session_id: str, entry: Entry | None, user: str, tombstone: Tombstone, keep: Collection[str]
    ) -> _Outcome:
        key = self._cells.session_key(session_id)
        attempts = self._cells.attempts("too many others write to a session that is ended")
        try:
            while True:
                cell = await self._cells.read(key)
                if cell.item is None:
                    return _Outcome(entry=_of_nothing(entry))
                if cell.item.value[:1] == MAKING:
                    write, outcome = await self._of_making(session_id, cell.item, keep)
                else:
                    write, outcome = self._of_made(session_id, cell, user, entry)
                if not write or await self._entomb(key, cell.item, tombstone, surely=True):
                    return outcome
                await attempts.pause()
        except StoreUnavailable:
            return _Outcome(entry=_Entry.BARRED, reached=False)

    def _of_made(self, session_id: str, cell: Cell, user: str, entry: Entry | None) -> tuple[bool, _Outcome]:
        assert cell.item is not None
        loaded = judge(session_id, cell.item, cell.epoch, self._codec)
        if isinstance(loaded, Tombstone) and cell.item.value[:1] == TOMBSTONE:
            return False, _Outcome(successor=items.decode_end(cell.item.value)[1])
        if isinstance(loaded, Record) and loaded.control.user != user:
            return False, _Outcome(entry=_of_nothing(entry))
        alive = isinstance(loaded, (Record, Unreadable)) and cell.item.value[:1] != TOMBSTONE
        return alive, _Outcome(ended=alive)

    async def _of_making(self, session_id: str, item: Item, keep: Collection[str]) -> tuple[bool, _Outcome]:
        """Decide about a session that takes the place of another: it is alive if the other's tombstone names it.

        Before that, a sign-in comes after us and is left alone, and so is the renewal of one that is kept; any other
        renewal goes on what we are ending, and ends with it.
        """
        try:
            making = items.decode_making(item.value)
        except Undecodable:
            return True, _Outcome()
        if making.replaces in keep:
            return False, _KEPT
        old = (await self._cells.read(self._cells.session_key(making.replaces))).item
        try:
            made = old is not None and old.value[:1] == TOMBSTONE and items.decode_end(old.value)[1] == session_id
        except Undecodable:
            made = False
        if made or making.required:
            return True, _Outcome(ended=made)
        return False, _KEPT

    async def _entomb(self, key: bytes, item: Item, tombstone: Tombstone, *, surely: bool) -> bool:
        """Put a tombstone over what was read; say whether it, or nothing, stands there now.

        `surely`: a node without memory for a tombstone removes the session instead.
        """
        answer = await self._cells.cas(key, items.encode_end(tombstone), items.lifetime_of(tombstone), item.token)
        if answer in (Answer.NO_MEMORY, Answer.TOO_LARGE) and surely:
            return await self._cells.delete(key) is Answer.DELETED
        refuse_without_room(answer)
        return answer is Answer.STORED

    async def _is_whole(self, user: str, index: Index | None) -> bool:
        """Tell whether the user's list holds all sessions: it is older than a lease, or was never lost."""
        if index is not None and index.born <= time.time() - self._lease:
            return True
        if index is not None and index.lost:
            return False
        figures = await self._cells.figures(self._cells.user_key(user))
        untouched = figures.get("evictions") == "0" and figures.get("cmd_flush") == "0"
        uptime = figures.get("uptime", "")
        return untouched and uptime.isascii() and uptime.isdigit() and int(uptime) > self._lease

    async def leave(self, user: str | None, session_id: str) -> None:
        """Tidy the index; if that fails, an entry without a session stays until its time is over."""
        if user is not None:
            with suppress(StoreUnavailable, StoreFull):
                await self._users.leave(user, session_id)


def _of_nothing(entry: Entry | None) -> _Entry:
    """Decide about the entry of a session that is not there, or is another user's."""
    if entry is None or entry.barred:
        return _Entry.LEAVES
    return _Entry.STAYS if entry.may_be_in_the_making(time.time()) else _Entry.BARRED
