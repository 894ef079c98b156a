"""The verbs of the Redis store: the same for every topology and both doors.

`layout` and `scripts` decide what is sent and what a reply means, a `wire` sends it.
"""

from __future__ import annotations

import os
import time
import weakref
from typing import Any, Final

from ...core.ports import AtLimit, Clash, Created, Diagnosis, Ending, Gone, Loaded, Page, Replaces, Stale, Stats, Taken
from ...core.record import Change, Codec, EndReason, Record, Tombstone, apply, clashes
from ...errors import StoreError, StoreUnavailable
from . import layout, scripts
from .address import Settings
from .census import Census
from .doctor import judge, look
from .ends import Ends, gone, tomb
from .keeper import Keeper
from .layout import Names, is_id
from .spread import Spread
from .wire import Node, Wire

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
        self._keeper = Keeper(wire, self._names, blocking=blocking, patience=settings.timeout)
        self._spread = None if wire.together else Spread(wire, self._names, codec, self._keeper)
        self._ends = Ends(wire, self._names, codec, self._keeper, self._spread, self._deadline)
        _stores.add(self)
        self._census = Census(wire, self._names, patience=settings.timeout)

    @property
    def blocking(self) -> bool:
        """Tell which door this store was opened for."""
        return self._blocking

    async def load(self, session_id: str) -> Loaded:
        """Read the session and its bucket's epoch with one MGET."""
        try:
            key, epoch_key = self._names.pair(session_id)
        except ValueError:
            return None  # nobody's, and it costs no trip
        command = (b"MGET", key, epoch_key)
        reply = await self._wire.ask(key, command, time.monotonic() + self._timeout)
        try:
            raw, epoch = reply
        except (TypeError, ValueError):
            raise StoreError("what answers there is no Redis") from None
        return layout.decode(self._codec, session_id, raw, epoch)

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session by one script, with its index entry and the end of the one it replaces."""
        if not is_id(session_id):
            raise StoreError("a session's id is written in lower-case hexadecimal digits")
        names, old, deadline = self._names, replaces, self._deadline()
        if self._spread is not None:
            answer = await self._spread.create(session_id, record, replaces, limit, deadline)
            if type(answer) is Created and old is not None and is_id(old.session_id):
                await self._ends.keep_replaced(old)
            return answer
        before, after = layout.encode_record(self._codec, session_id, record)
        key = names.session(session_id)
        keys: tuple[bytes, ...] = (key, names.epoch(session_id))
        ttl = layout.lifetime(record.seen_at, record.expires_at)
        arguments: tuple[Any, ...] = (before, after, ttl, os.urandom(layout.STAMP), session_id, self._prefix)
        arguments += ("" if limit is None else limit,)
        if old is not None and is_id(old.session_id):
            keys += (names.session(old.session_id), names.epoch(old.session_id))
            arguments += (old.session_id, layout.mark_bytes(old.revision, old.version), *tomb(old.tombstone))
            arguments += ("1" if old.required else "",)
        elif old is not None and old.required:
            return Gone()
        else:
            arguments += ("",)
        reply = await self._wire.ask(key, scripts.CREATE.once(keys, *arguments), deadline)
        if reply[0] == _DONE:
            if old is not None and is_id(old.session_id):
                await self._ends.keep_replaced(old)
            return Created()
        if reply[0] == _TAKEN:
            return Taken()
        if reply[0] == _LIMIT:
            found = layout.oldest_first(self._decode_all(reply[1:]))
            return AtLimit(tuple((other_id, other.control.created_at) for other_id, other in found))
        assert old is not None
        present = layout.decode(self._codec, old.session_id, *reply[1:3])
        return Stale(present) if type(present) is Record else gone(present)

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
                return gone(present)
            if change.control is not None and change.revision != present.revision:
                return Stale(present)
            if clashing := clashes(present.data, change):
                return Clash(clashing, present)
            saved = apply(present, change)
            before, after = layout.encode_record(self._codec, session_id, saved)
            mark = layout.mark_bytes(present.revision, present.version)
            ttl = layout.lifetime(saved.seen_at, saved.expires_at)
            owner, spread = layout.owner_of(saved.control.user), self._spread
            if spread is not None and saved.control.user != present.control.user:
                await spread.move(owner, session_id, saved.expires_at, ttl, deadline)
            command = scripts.SAVE.once(keys, mark, before, after, ttl, session_id, self._prefix)
            reply = await self._wire.ask(key, command, deadline)
            if reply[0] == _DONE:
                if spread is not None and reply[3] != owner:
                    await spread.leave(reply[3], (session_id,), deadline)
                elif spread is not None:
                    await spread.extend(owner, session_id, present.expires_at, saved.expires_at, ttl, deadline)
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
        deadline = self._deadline()
        reply = await self._wire.ask(key, command, deadline)
        if self._spread is not None and reply[0] == _DONE:
            moved = layout.time_of(reply[3]), layout.time_of(reply[2])
            await self._spread.extend(reply[1], session_id, *moved, times[2], deadline)

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """Put the tombstone in the record's place, on every replica."""
        return await self._ends.end(session_id, tombstone) if is_id(session_id) else Ending(())

    async def retire(
        self, session_id: str, tombstone: Tombstone, *, revision: int, version: int
    ) -> Ending | Stale | Gone:
        """End the session if nobody wrote to it."""
        if not is_id(session_id):
            return Gone()
        return await self._ends.retire(session_id, tombstone, layout.mark_bytes(revision, version))

    async def of_user(self, user: str) -> tuple[tuple[str, Record], ...]:
        """Return the user's sessions, oldest first, and drop from the index what is no longer one."""
        owner = layout.owner_of(user)
        if self._spread is not None:
            return layout.oldest_first(await self._spread.of_user(owner, self._deadline()))
        key = self._names.index(owner)
        reply = await self._wire.ask(key, scripts.OF_USER.once((key,), self._prefix, owner), self._deadline())
        return layout.oldest_first(self._decode_all(reply))

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`, by one script; on a cluster, one by one."""
        return await self._ends.end_user(user, tombstone, keep, self.of_user)

    async def end_everything(self, at: float) -> Ending:
        """Give every bucket a new epoch: 256 keys, whatever the number of sessions."""
        return await self._ends.end_everything(at)

    async def sweep(self, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
        """Take a step through all keys and remove what is past its deadline; Redis itself removes most of it."""
        return await self._census.sweep(now, limit)

    async def stats(self, now: float) -> Stats:
        """Count all keys, one by one."""
        return await self._census.count(now)

    async def scan(self, cursor: str | None, limit: int) -> Page:
        """Return live sessions in the order in which Redis keeps them."""
        return await self._census.page(self._codec, cursor, limit)

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Look at every server that holds sessions, and at how it is reached."""
        found: dict[Diagnosis, None] = {}
        for node in await self._wire.primaries(self._deadline()):
            key = await self._key_on(node)
            found |= dict.fromkeys(judge(self._settings, await look(node, self._names, key, self._deadline())))
        return tuple(found)

    async def close(self) -> None:
        """Try once more what is not certain, and close the connections; later verbs raise `StoreUnavailable`."""
        await self._keeper.close()
        await self._wire.close()

    def forget(self) -> object:
        """Begin anew in a forked child and return what belongs to the parent."""
        return self._keeper.forget(), self._wire.forget()

    async def _key_on(self, node: Node) -> bytes:
        """Return the key of no session, on this server."""
        for bucket in layout.BUCKETS:
            key = self._names.session(bucket + os.urandom(19).hex())
            if await self._wire.home(key, self._deadline()) is node:
                return key
        raise StoreUnavailable("a server of the cluster holds no bucket")

    def _deadline(self) -> float:
        if self._keeper.idle:
            self._keeper.follow()
        return time.monotonic() + self._timeout

    def _decode_all(self, reply: list[bytes]) -> list[tuple[str, Record]]:
        found: list[tuple[str, Record]] = []
        for place in range(0, len(reply), 3):
            session_id = reply[place].decode()
            loaded = layout.decode(self._codec, session_id, reply[place + 1], reply[place + 2])
            if type(loaded) is Record:
                found.append((session_id, loaded))
        return found


_stores: weakref.WeakSet[RedisStore] = weakref.WeakSet()
_abandoned: list[object] = []


def _after_fork_in_child() -> None:
    # The parent's sockets are shared with it: they are neither used nor closed here.
    for store in tuple(_stores):
        _abandoned.append(store.forget())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _fits(base: Record, change: Change) -> bool:
    if change.control is not None and change.revision != base.revision:
        return False
    return not clashes(base.data, change)
