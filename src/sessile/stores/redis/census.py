"""Walk through all keys: to count, to list, and to remove what Redis does not remove by itself.

A walk is a SCAN of each server in turn; its place is kept as `server.cursor.id`: the id is the last one that was dealt
with among those of the cursor's batch, in their order, so that a page may end within a batch.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from ...core.ports import Page, Stats
from ...core.record import Codec, EndReason, Record
from . import layout, scripts
from .layout import STAMP, Head, Names
from .link import Command
from .spread import id_in
from .wire import MOVED, Node, Wire, checked

_BATCH: Final = 1000
_AT_ONCE: Final = 200  # records that are read in one go
_LOOKED_AT: Final = 10  # a sweep looks at this many sessions for each one that it may remove, and at a batch at least
_STEPS: Final = 20  # batches of a sweep: a server may hold much that is not ours
_LATE: Final = 3600.0  # seconds by which the clocks of application servers may differ
_PLACE: Final = re.compile(r"(\d{1,4})\.(\d{1,20})\.([0-9a-f]{0,128})")


Removed = tuple[tuple[str, EndReason | None], ...]


class _Place(NamedTuple):
    server: int = 0
    cursor: int = 0
    after: str = ""

    def __str__(self) -> str:
        return f"{self.server}.{self.cursor}.{self.after}"


class _Batch(NamedTuple):
    node: Node
    place: _Place
    following: _Place | None
    keys: dict[str, bytes]  # of sessions, in the order of their ids
    indexes: list[bytes]


class Census:
    """Walk through the keys of one store. `patience` is how many seconds one step may take."""

    def __init__(self, wire: Wire, names: Names, *, patience: float) -> None:
        self._wire: Final = wire
        self._names: Final = names
        self._patience: Final = patience
        self._next: _Place | None = None  # where the next step of a sweep begins
        self._left: list[tuple[str, bytes]] = []  # of its last batch

    async def count(self, now: float) -> Stats:
        """Count what is held; users are told apart by their hashes."""
        live = signed_in = tombstones = 0
        users: set[bytes] = set()
        met: set[str] = set()
        async with aclosing(self._walk(_Place())) as walk:
            async for batch in walk:
                fresh = {session_id: key for session_id, key in batch.keys.items() if session_id not in met}
                met = set(batch.keys)
                for head, epoch in (await self._heads(batch.node, fresh)).values():
                    if head.kind == b"T":
                        tombstones += 1
                    elif head.kind == b"R" and head.stamp == epoch and head.expires_at > now:
                        live += 1
                        if head.owner != layout.NOBODY:
                            signed_in += 1
                            users.add(head.owner)
        return Stats(live, signed_in, len(users), tombstones)

    async def page(self, codec: Codec, cursor: str | None, limit: int) -> Page:
        """Return up to `limit` live sessions from the cursor on."""
        match = _PLACE.fullmatch(cursor) if cursor is not None else None
        if cursor is not None and match is None:
            return Page((), None)
        start = _Place(int(match[1]), int(match[2]), match[3]) if match else _Place()
        found: list[tuple[str, Record]] = []
        async with aclosing(self._walk(start)) as walk:
            async for batch in walk:
                before = batch.place.after
                ids = list(batch.keys)
                while ids:
                    now, ids = ids[:_AT_ONCE], ids[_AT_ONCE:]
                    commands = [(b"MGET", batch.keys[each], self._names.epoch(each)) for each in now]
                    for session_id, reply in zip(now, await self._ask_all(batch.node, commands), strict=True):
                        if len(found) == limit:
                            return Page(tuple(found), str(batch.place._replace(after=before)))
                        before = session_id
                        loaded = layout.decode(codec, session_id, *(reply or (None, None)))
                        if type(loaded) is Record:
                            found.append((session_id, loaded))
                if len(found) == limit:
                    return Page(tuple(found), None if batch.following is None else str(batch.following))
        return Page(tuple(found), None)

    async def sweep(self, now: float, limit: int) -> Removed:
        """Remove up to `limit` of what is past its deadline or of an ended epoch, going on where the last step ended.

        A batch is remembered until it is dealt with: were it asked for again, keys that went meanwhile would let others
        take their places in it.
        """
        removed: list[tuple[str, EndReason | None]] = []
        looked_at = steps = 0
        while looked_at < max(limit * _LOOKED_AT, 1) and steps < _STEPS:
            if not self._left:
                if steps and self._next is None:
                    break
                async with aclosing(self._walk(self._next or _Place(), indexes=True)) as walk:
                    batch = await anext(walk, None)
                if batch is None:  # there are fewer servers than there were
                    self._next = None
                    break
                steps, self._next = steps + 1, batch.following
                self._left = list(batch.keys.items())
                for index in batch.indexes:
                    await self._prune(index, now)
            some, self._left = self._left[:_AT_ONCE], self._left[_AT_ONCE:]
            looked_at += len(some)
            node = await self._wire.home(some[0][1], self._deadline()) if some else None
            heads = await self._heads(node, dict(some)) if node is not None else {}
            for place, (session_id, key) in enumerate(some):
                if len(removed) == limit:
                    self._left = some[place:] + self._left
                    return tuple(removed)
                due, reason = _due(*heads[session_id], now) if session_id in heads else (False, None)
                if due and await self._remove(session_id, key, heads[session_id][0]):
                    removed.append((session_id, reason))
            if len(removed) == limit:
                break
        return tuple(removed)

    async def _remove(self, session_id: str, key: bytes, head: Head) -> bool:
        prefix = self._names.prefix if self._wire.together else b""
        command = scripts.SWEEP.once((key,), head.raw, head.owner, session_id, prefix)
        return bool(await self._wire.ask(key, command, self._deadline()))

    async def _prune(self, index: bytes, now: float) -> None:
        """Drop entries that are long past their deadline and stand for no session of this user."""
        deadline = self._deadline()
        late = (b"ZRANGE", index, b"-inf", repr(now - _LATE), b"BYSCORE", b"LIMIT", 0, _AT_ONCE)
        entries = [raw.decode() for raw in await self._wire.ask(index, late, deadline)]
        if not entries:
            return
        owner = self._names.owner(index)
        keys = [self._names.session(id_in(entry)) for entry in entries]
        heads = await self._wire.many([(key, (b"GETRANGE", key, 0, layout.HEAD - 1)) for key in keys], deadline)
        dead = [
            entry
            for entry, raw in zip(entries, heads, strict=True)
            if (head := Head(raw)).kind != b"R" or head.owner != owner
        ]
        if dead:
            await self._wire.ask(index, (b"ZREM", index, *dead), deadline)

    async def _walk(self, start: _Place, *, indexes: bool = False) -> AsyncGenerator[_Batch]:
        nodes = await self._wire.primaries(self._deadline())
        place: _Place | None = start
        while place is not None and place.server < len(nodes):
            node = nodes[place.server]
            command = (
                b"SCAN",
                place.cursor,
                b"MATCH",
                self._names.pattern("[su]" if indexes else "s"),
                b"COUNT",
                _BATCH,
            )
            following, keys = checked(await node.ask(command, self._deadline()))
            cursor = int(following)
            upcoming = _Place(place.server, cursor) if cursor else _Place(place.server + 1)
            upcoming_or_end = upcoming if upcoming.server < len(nodes) else None
            ids = {session_id: key for key in keys if (session_id := self._names.id_of(key)) is not None}
            rest = {session_id: ids[session_id] for session_id in sorted(ids) if session_id > place.after}
            yield _Batch(node, place, upcoming_or_end, rest, [key for key in keys if self._names.is_index(key)])
            place = upcoming_or_end

    async def _heads(self, node: Node, keys: dict[str, bytes]) -> dict[str, tuple[Head, bytes]]:
        if not keys:
            return {}
        commands: list[Command] = []
        buckets = sorted({session_id[:2] for session_id in keys})
        commands += [(b"GET", self._names.epochs[bucket]) for bucket in buckets]
        commands += [(b"GETRANGE", key, 0, layout.HEAD - 1) for key in keys.values()]
        replies = await self._ask_all(node, commands)
        stamps = {bucket: (raw or b"")[:STAMP] for bucket, raw in zip(buckets, replies, strict=False)}
        heads = replies[len(buckets) :]
        return {
            session_id: (Head(raw), stamps[session_id[:2]]) for session_id, raw in zip(keys, heads, strict=True) if raw
        }

    async def _ask_all(self, node: Node, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        # A key that has moved meanwhile is found on its new server.
        replies = await node.exchange(commands, self._deadline())
        return [None if isinstance(reply, MOVED) else checked(reply) for reply in replies]

    def _deadline(self) -> float:
        return time.monotonic() + self._patience


def _due(head: Head, epoch: bytes, now: float) -> tuple[bool, EndReason | None]:
    if head.kind == b"T":
        return head.expires_at <= now, None
    if head.kind == b"R" and head.stamp != epoch:
        return True, EndReason.EVERYTHING
    return head.kind == b"R" and head.expires_at <= now, EndReason.IDLE
