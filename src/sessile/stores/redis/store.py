"""The verbs of the Redis store: the same for every topology and both doors.

`layout` and `scripts` decide what is sent and what a reply means, a `wire` sends it.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final, cast

from ...core.ports import AtLimit, Clash, Created, Ending, Gone, Loaded, Page, Replaces, Stale, Stats, Taken
from ...core.record import Change, Codec, EndReason, Record, Tombstone, apply, clashes
from ...errors import StoreError, StoreUnavailable
from . import layout, scripts
from .address import Settings
from .census import Census
from .layout import Names, is_id
from .wire import Wire

_ABSENT, _DONE, _CHANGED, _TAKEN, _LIMIT = range(5)
_ROUNDS: Final = 200  # in which a save may lose against other writers; the time that a verb may take ends it earlier


class RedisStore:
    """Keep sessions in Redis or Valkey, through a wire for the blocking door or for the asynchronous one."""

    def __init__(self, settings: Settings, wire: Wire, *, codec: Codec, blocking: bool) -> None:
        self._settings = settings
        self._blocking = blocking
        self._wire = wire
        self._codec = codec
        self._names = Names(settings.prefix)
        self._prefix = self._names.prefix if wire.together else b""
        self._timeout = settings.timeout
        self._census = Census(wire, self._names, patience=settings.timeout)
        self._cursor: str | None = None  # of the next step of a sweep

    @property
    def blocking(self) -> bool:
        """Tell which door this store was opened for."""
        return self._blocking

    async def load(self, session_id: str) -> Loaded:
        """Read the session and its bucket's epoch with one MGET."""
        if not is_id(session_id):
            return None
        names = self._names
        key = names.session(session_id)
        command = (b"MGET", key, names.epoch(session_id))
        raw, epoch = await self._wire.ask(key, command, time.monotonic() + self._timeout)
        return layout.decode(self._codec, session_id, raw, epoch)

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session by one script, with its index entry and the end of the one it replaces."""
        if not is_id(session_id):
            raise StoreError("a session's id is written in lower-case hexadecimal digits")
        names, old = self._names, replaces
        before, after = layout.encode_record(self._codec, session_id, record)
        key = names.session(session_id)
        keys: tuple[bytes, ...] = (key, names.epoch(session_id))
        ttl = layout.lifetime(record.seen_at, record.expires_at)
        arguments: tuple[Any, ...] = (before, after, ttl, os.urandom(layout.STAMP), session_id, self._prefix)
        arguments += ("" if limit is None else limit,)
        if old is not None and is_id(old.session_id):
            keys += (names.session(old.session_id), names.epoch(old.session_id))
            arguments += (old.session_id, layout.mark_bytes(old.revision, old.version), *_tomb(old.tombstone))
            arguments += ("1" if old.required else "",)
        elif old is not None and old.required:
            return Gone()
        else:
            arguments += ("",)
        reply = await self._wire.ask(key, scripts.CREATE.once(keys, *arguments), self._deadline())
        if reply[0] == _DONE or reply[0] == _TAKEN:
            return Created() if reply[0] == _DONE else Taken()
        if reply[0] == _LIMIT:
            found = layout.oldest_first(self._decode_all(reply[1:]))
            return AtLimit(tuple((other_id, other.control.created_at) for other_id, other in found))
        assert old is not None
        present = layout.decode(self._codec, old.session_id, *reply[1:3])
        return Stale(present) if type(present) is Record else _gone(present)

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Write the whole record over the version it was made from; if that is not the present one, merge again."""
        if not is_id(session_id):
            return Gone()
        deadline, names = self._deadline(), self._names
        key = names.session(session_id)
        keys = (key, names.epoch(session_id))
        present: Loaded = base
        if not _fits(base, change):  # what the caller read may be old
            present = await self.load(session_id)
        for _ in range(_ROUNDS):
            if type(present) is not Record:
                return _gone(present)
            if change.control is not None and change.revision != present.revision:
                return Stale(present)
            if clashing := clashes(present.data, change):
                return Clash(clashing, present)
            saved = apply(present, change)
            before, after = layout.encode_record(self._codec, session_id, saved)
            mark = layout.mark_bytes(present.revision, present.version)
            ttl = layout.lifetime(saved.seen_at, saved.expires_at)
            command = scripts.SAVE.once(keys, mark, before, after, ttl, session_id, self._prefix)
            reply = await self._wire.ask(key, command, deadline)
            if reply[0] == _DONE:
                return Record(
                    saved.control,
                    saved.data,
                    layout.time_of(reply[1]),
                    layout.time_of(reply[2]),
                    saved.revision,
                    saved.version,
                )
            present = layout.decode(self._codec, session_id, *reply[1:3])
        raise StoreUnavailable("too many others wrote to the same session at once")

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        """Move the times forward, in place."""
        if not is_id(session_id):
            return
        key = self._names.session(session_id)
        times = layout.time_bytes(seen_at), layout.time_bytes(expires_at), layout.lifetime(seen_at, expires_at)
        command = scripts.TOUCH.once((key, self._names.epoch(session_id)), *times, session_id, self._prefix)
        await self._wire.ask(key, command, self._deadline())

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """Put the tombstone in the record's place."""
        if not is_id(session_id):
            return Ending(())
        reply = await self._end(session_id, tombstone, b"")
        if reply[0] != _DONE:
            return Ending(())
        return Ending(((session_id, layout.user_of(self._codec, session_id, reply[2])),))

    async def retire(
        self, session_id: str, tombstone: Tombstone, *, revision: int, version: int
    ) -> Ending | Stale | Gone:
        """End the session if nobody wrote to it."""
        if not is_id(session_id):
            return Gone()
        reply = await self._end(session_id, tombstone, layout.mark_bytes(revision, version))
        if reply[0] == _DONE:
            return Ending(((session_id, layout.user_of(self._codec, session_id, reply[2])),))
        present = layout.decode(self._codec, session_id, *reply[1:3])
        return Stale(present) if type(present) is Record else _gone(present)

    async def of_user(self, user: str) -> tuple[tuple[str, Record], ...]:
        """Return the user's sessions, oldest first, and drop from the index what is no longer one."""
        owner = layout.owner_of(user)
        key = self._names.index(owner)
        reply = await self._wire.ask(key, scripts.OF_USER.once((key,), self._prefix, owner), self._deadline())
        return layout.oldest_first(self._decode_all(reply))

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`, by one script."""
        owner = layout.owner_of(user)
        key = self._names.index(owner)
        command = scripts.END_USER.once((key,), self._prefix, owner, *_tomb(tombstone), *filter(is_id, keep))
        reply = await self._wire.ask(key, command, self._deadline())
        return Ending(tuple((raw.decode(), user) for raw in reply[::2]))

    async def end_everything(self, at: float) -> Ending:
        """Give every bucket a new epoch: 256 keys, whatever the number of sessions."""
        keys = tuple(self._names.epochs.values())
        command = scripts.END_EVERYTHING.once(keys, os.urandom(layout.STAMP), layout.time_bytes(at))
        await self._wire.ask(keys[0], command, self._deadline())
        return Ending(())

    async def sweep(self, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
        """Take a step through all keys and remove what is past its deadline; Redis itself removes most of it."""
        removed, self._cursor = await self._census.sweep(self._cursor, now, limit)
        return removed

    async def stats(self, now: float) -> Stats:
        """Count all keys, one by one."""
        return await self._census.count(now)

    async def scan(self, cursor: str | None, limit: int) -> Page:
        """Return live sessions in the order in which Redis keeps them."""
        return await self._census.page(self._codec, cursor, limit)

    async def close(self) -> None:
        """Close the connections; later verbs raise `StoreUnavailable`."""
        await self._wire.close()

    async def _end(self, session_id: str, tombstone: Tombstone, mark: bytes) -> list[Any]:
        key = self._names.session(session_id)
        keys = (key, self._names.epoch(session_id))
        command = scripts.END.once(keys, *_tomb(tombstone), mark, session_id, self._prefix, "")
        return cast("list[Any]", await self._wire.ask(key, command, self._deadline()))

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    def _decode_all(self, reply: list[bytes]) -> list[tuple[str, Record]]:
        found: list[tuple[str, Record]] = []
        for place in range(0, len(reply), 3):
            session_id = reply[place].decode()
            loaded = layout.decode(self._codec, session_id, reply[place + 1], reply[place + 2])
            if type(loaded) is Record:
                found.append((session_id, loaded))
        return found


def _tomb(tombstone: Tombstone) -> tuple[bytes, int]:
    return layout.encode_ended(tombstone), layout.lifetime(tombstone.at, tombstone.expires_at)


def _gone(present: Loaded) -> Gone:
    return Gone(present if type(present) is Tombstone else None)


def _fits(base: Record, change: Change) -> bool:
    if change.control is not None and change.revision != base.revision:
        return False
    return not clashes(base.data, change)
