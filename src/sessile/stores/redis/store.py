"""The verbs of the Redis store: the same for every topology and both doors.

`layout` and `scripts` decide what is sent and what a reply means, a `wire` sends it.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from ...core.ports import AtLimit, Clash, Created, Diagnosis, Ending, Gone, Loaded, Page, Replaces, Stale, Stats, Taken
from ...core.record import Change, Codec, EndReason, Record, Tombstone, apply, clashes
from ...errors import StoreError, StoreUnavailable
from . import layout, scripts
from .address import Settings
from .census import Census
from .doctor import judge, look
from .ending import surely
from .keeper import End, Keeper
from .layout import Names, is_id
from .spread import Spread
from .wire import MOVED, Node, Wire

_ABSENT, _DONE, _CHANGED, _TAKEN, _LIMIT = range(5)
_HOPS: Final = 8  # after which a cluster counts as being rebuilt
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
        self._spread = None if wire.together else Spread(wire, self._names, codec)
        self._timeout = settings.timeout
        self._keeper = Keeper(wire, self._names, blocking=blocking, patience=settings.timeout)
        _stores.add(self)
        self._census = Census(wire, self._names, patience=settings.timeout)

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
        names, old, deadline = self._names, replaces, self._deadline()
        if self._spread is not None:
            answer = await self._spread.create(session_id, record, replaces, limit, deadline)
            if type(answer) is Created and old is not None and is_id(old.session_id):
                await self._keep_replaced(old, deadline)
            return answer
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
        reply = await self._wire.ask(key, scripts.CREATE.once(keys, *arguments), deadline)
        if reply[0] == _DONE:
            if old is not None and is_id(old.session_id):
                await self._keep_replaced(old, deadline)
            return Created()
        if reply[0] == _TAKEN:
            return Taken()
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
        if not is_id(session_id):
            return Ending(())
        end = self._end(session_id, tombstone)
        try:
            (reply,), certain, identity = await self._surely((end,))
        except BaseException:  # whoever stops waiting wants it done all the same
            self._keeper.keep((end,), ("",), certain=False)
            raise
        if reply[0] != _DONE:
            return Ending((), certain)
        self._keeper.keep((end,), identity, certain=certain)
        await self._leave(reply[1], session_id)
        return Ending(((session_id, layout.user_of(self._codec, session_id, reply[2])),), certain)

    async def retire(
        self, session_id: str, tombstone: Tombstone, *, revision: int, version: int
    ) -> Ending | Stale | Gone:
        """End the session if nobody wrote to it."""
        if not is_id(session_id):
            return Gone()
        mark = layout.mark_bytes(revision, version)
        (reply,), certain, identity = await self._surely((self._end(session_id, tombstone, mark),))
        if reply[0] == _DONE:
            await self._leave(reply[1], session_id)
            self._keeper.keep((self._end(session_id, tombstone),), identity, certain=certain)
            return Ending(((session_id, layout.user_of(self._codec, session_id, reply[2])),), certain)
        present = layout.decode(self._codec, session_id, *reply[1:3])
        return Stale(present) if type(present) is Record else _gone(present)

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
        owner = layout.owner_of(user)
        try:
            ended, certain, identities = await self._end_user(owner, tombstone, keep)
        except BaseException:
            self._keeper.keep_search(partial(self._ends_of_user, user, tombstone, keep))
            raise
        ends = [self._end(session_id, tombstone) for session_id in ended]
        self._keeper.keep(ends, identities, certain=certain)
        return Ending(tuple((session_id, user) for session_id in ended), certain)

    async def end_everything(self, at: float) -> Ending:
        """Give every bucket a new epoch: 256 keys, whatever the number of sessions."""
        keys, stamp, now = tuple(self._names.epochs.values()), os.urandom(layout.STAMP), layout.time_bytes(at)
        groups = [keys] if self._spread is None else [(key,) for key in keys]
        ends = [(group[0], scripts.END_EVERYTHING.once(group, stamp, now)) for group in groups]
        try:
            _, certain, identities = await self._surely(ends)
        except BaseException:
            self._keeper.keep(ends, [""] * len(ends), certain=False)
            raise
        self._keeper.keep(ends, identities, certain=certain)
        return Ending((), certain)

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

    async def _keep_replaced(self, old: Replaces, deadline: float) -> None:
        end = self._end(old.session_id, old.tombstone)
        node = await self._wire.home(end[0], deadline)
        self._keeper.keep((end,), (node.assurance.identity,), certain=True)

    def _end(self, session_id: str, tombstone: Tombstone, mark: bytes = b"") -> End:
        key = self._names.session(session_id)
        keys = (key, self._names.epoch(session_id))
        arguments = *_tomb(tombstone), mark, session_id, self._prefix
        return key, scripts.END.once(keys, *arguments)

    async def _end_user(
        self, owner: bytes, tombstone: Tombstone, keep: frozenset[str]
    ) -> tuple[list[str], bool, Sequence[str]]:
        """Return which sessions were ended, whether that is certain, and on which server each was."""
        if self._spread is None:
            key = self._names.index(owner)
            command = scripts.END_USER.once((key,), self._prefix, owner, *_tomb(tombstone), *filter(is_id, keep))
            (reply,), certain, identity = await self._surely(((key, command),))
            ended = [raw.decode() for raw in reply[::2]]
            return ended, certain, list(identity) * len(ended)
        deadline = self._deadline()
        alive, coming = await self._spread.kills(owner, tombstone, keep, deadline)
        replies, certain, identities = await self._surely([(kill.key, kill.command) for kill in alive])
        await self._spread.leave(owner, [kill.entry for kill in (*alive, *coming)], deadline)
        coming = await self._spread.coming(coming, tombstone, deadline)
        more, also_certain, more_identities = await self._surely([(kill.key, kill.command) for kill in coming])
        done = [
            (kill.session_id, identity)
            for kill, reply, identity in zip(
                (*alive, *coming), (*replies, *more), (*identities, *more_identities), strict=True
            )
            if reply[0] == _DONE
        ]
        return [each for each, _ in done], certain and also_certain, [identity for _, identity in done]

    async def _leave(self, owner: bytes, session_id: str) -> None:
        if self._spread is not None:
            await self._spread.leave(owner, (session_id,), self._deadline())

    async def _surely(self, ends: Sequence[End]) -> tuple[list[Any], bool, list[str]]:
        """Carry out ends, each on its server; return the replies, whether all are certain, and who gave them."""
        deadline, certain = self._deadline(), True
        replies: list[Any] = [None] * len(ends)
        identities = [""] * len(ends)
        left = list(range(len(ends)))
        for _ in range(_HOPS):
            groups: dict[int, tuple[Node, list[int]]] = {}
            for place in left:
                node = await self._wire.home(ends[place][0], deadline)
                groups.setdefault(id(node), (node, []))[1].append(place)
            failed: StoreError | None = None
            for node, places in groups.values():
                try:
                    pulse = self._names.pulse(ends[places[0]][0])
                    outcome = await surely(node, pulse, [ends[place][1] for place in places], deadline)
                except StoreError as error:
                    self._wire.doubt()
                    failed = error
                    continue
                certain = certain and outcome.certain
                for place, reply in zip(places, outcome.replies, strict=True):
                    replies[place], identities[place] = reply, outcome.identity
            if failed is not None:
                raise failed
            left = [place for place in left if isinstance(replies[place], MOVED)]
            if not left:
                return replies, certain, identities
            self._wire.doubt()
        raise StoreUnavailable("the cluster is moving keys, or misses servers")

    async def _ends_of_user(self, user: str, tombstone: Tombstone, keep: frozenset[str], deadline: float) -> list[End]:
        """Return the ends that a failed `end_user` meant: sessions that came later are not among them."""
        return [
            self._end(session_id, tombstone)
            for session_id, record in await self.of_user(user)
            if session_id not in keep and record.control.created_at <= tombstone.at
        ]

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


def _tomb(tombstone: Tombstone) -> tuple[bytes, int]:
    return layout.encode_ended(tombstone), layout.lifetime(tombstone.at, tombstone.expires_at)


def _gone(present: Loaded) -> Gone:
    return Gone(present if type(present) is Tombstone else None)


def _fits(base: Record, change: Change) -> bool:
    if change.control is not None and change.revision != base.revision:
        return False
    return not clashes(base.data, change)
