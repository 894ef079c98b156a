"""Create, find and end a user's sessions on a cluster, where no script can use a session and its index together.

The steps are ordered so that a crash between two of them leaves an entry of the index without a session, never the
reverse, and so that of a sign-in and an end of all sessions that meet, either the one is ended or it comes after.
`spread_scripts` says what an entry, a prepared record and a barrier are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from ...core.ports import AtLimit, Created, Gone, Loaded, Replaces, Stale, Taken
from ...core.record import Codec, EndReason, Record, Tombstone
from ...errors import StoreError, StoreUnavailable
from . import layout, scripts
from . import spread_scripts as spread
from .ending import surely
from .keeper import Keeper
from .layout import Names, is_id
from .link import Command
from .wire import MOVED, Wire

_PENDING: Final = 30.0  # seconds for which a session may be about to be created
_ROUNDS: Final = 20
_SLACK: Final = 300.0  # seconds by which an entry outlives its session, so that few touches need to move it
_DONE, _LIMIT, _TAKEN, _BARRIER = 1, 4, 3, 5


def id_in(entry: str) -> str:
    """Return the id of the session that an entry of the index stands for."""
    return entry.removeprefix("+").partition(":")[0]


class Kill(NamedTuple):
    """Hold how one session of a user is to be ended: its key, the command, and which entry then goes."""

    session_id: str
    key: bytes
    command: Command
    entry: str


class Spread:
    """Do for one store on a cluster what takes several steps there."""

    def __init__(self, wire: Wire, names: Names, codec: Codec, keeper: Keeper) -> None:
        self._wire: Final = wire
        self._keeper: Final = keeper
        self._names: Final = names
        self._codec: Final = codec

    async def create(
        self, session_id: str, record: Record, replaces: Replaces | None, limit: int | None, deadline: float
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Enter the session in the index, write its record, end the one it replaces, and make it alive."""
        owner = layout.owner_of(record.control.user)
        entry = f"+{session_id}" if replaces is None else f"+{session_id}:{replaces.session_id}"
        kind = "R" if replaces is None else "P"
        for attempt in range(_ROUNDS):
            if owner != layout.NOBODY and (full := await self._enter(owner, entry, record, replaces, limit, deadline)):
                return full
            put = await self._put(session_id, record, kind, over_barrier=attempt > 0, deadline=deadline)
            if put == _BARRIER:
                continue
            if put == _TAKEN:
                await self._index(owner, entry, "", record, deadline)
                return Taken()
            if replaces is not None and kind == "P":
                refused = await self._end_replaced(replaces, deadline)
                if refused is not None:
                    await self._wire.ask(
                        self._names.session(session_id),
                        spread.PUBLISH.once((self._names.session(session_id),), ""),
                        deadline,
                    )
                    await self._index(owner, entry, "", record, deadline)
                    return refused
                key = self._names.session(session_id)
                ttl = layout.lifetime(record.seen_at, record.expires_at)
                (published,) = await self._wire.ask(key, spread.PUBLISH.once((key,), ttl), deadline)
                if published == _BARRIER:
                    kind = "R"  # the old one is ended: what is left is to write the new one, after the others' end
                    continue
                if published != _DONE:  # it was ended meanwhile, with all others
                    await self._index(owner, entry, "", record, deadline)
                    return Created()
            await self._index(owner, entry, session_id, record, deadline)
            return Created()
        raise StoreUnavailable("the user's sessions were ended again and again meanwhile")

    async def of_user(self, owner: bytes, deadline: float) -> list[tuple[str, Record]]:
        """Return the user's sessions that are alive, and drop the entries of which nothing is left.

        One that has ended stays listed until its end is certain, or forgotten: who ends all asks its server as well.
        """
        entries = await self._entries(owner, deadline)
        ids = [id_in(entry) for entry in entries]
        found: dict[str, Record] = {}
        dead: list[str] = []
        for entry, loaded in zip(entries, await self._load_all(ids, deadline), strict=True):
            session_id = id_in(entry)
            if type(loaded) is Record and layout.owner_of(loaded.control.user) == owner:
                found[session_id] = loaded
                if entry != session_id:  # whoever created it is not done yet, or died
                    await self._index(owner, entry, session_id, loaded, deadline)
            elif entry == session_id and type(loaded) is not Tombstone:
                dead.append(entry)
        if dead:
            await self._remove(owner, dead, deadline)
        return list(found.items())

    async def kills(
        self, owner: bytes, tombstone: Tombstone, keep: frozenset[str], deadline: float
    ) -> tuple[list[Kill], list[Kill]]:
        """Return how the user's sessions are ended: first those that are alive, then those about to be created."""
        alive: list[Kill] = []
        coming: list[Kill] = []
        for entry in await self._entries(owner, deadline):
            session_id = id_in(entry)
            if session_id not in keep and is_id(session_id):
                (coming if entry.startswith("+") else alive).append(self._kill(session_id, entry, tombstone, ""))
        return alive, coming

    async def coming(self, kills: list[Kill], tombstone: Tombstone, deadline: float) -> list[Kill]:
        """Return the kills of what is about to be created, now that it is certain which of them count as alive.

        A renewal counts from the moment at which it ended the old session; that cannot happen any more for one that
        was ended before.
        """
        replaced = [kill.entry.partition(":")[2] for kill in kills]
        loaded = await self._load_all(
            [each or kill.session_id for each, kill in zip(replaced, kills, strict=True)], deadline
        )
        return [
            self._kill(
                kill.session_id,
                kill.entry,
                tombstone,
                "1" if old and type(state) is Tombstone and state.reason is EndReason.RENEWED else "",
            )
            for kill, old, state in zip(kills, replaced, loaded, strict=True)
        ]

    async def leave(self, owner: bytes, entries: Sequence[str], deadline: float) -> None:
        """Drop entries of sessions that have ended; those that stay behind stand for none, and are dropped later."""
        if owner != layout.NOBODY and entries:
            with suppress(StoreError):
                await self._remove(owner, entries, deadline)

    async def move(self, owner: bytes, session_id: str, expires_at: float, ttl: int, deadline: float) -> None:
        """Enter a session whose user has changed; before its record says so."""
        if owner != layout.NOBODY:
            key, command = self._entry(owner, session_id, expires_at, ttl)
            _, identity, certain = await self._on_all(key, command, deadline)
            self._keep(owner, session_id, expires_at, ttl, identity, certain=certain)

    async def extend(
        self, owner: bytes, session_id: str, before: float, expires_at: float, ttl: int, deadline: float
    ) -> None:
        """Let an entry live as long as its session. It has slack, so that most extensions need no step."""
        if owner != layout.NOBODY and before // _SLACK != expires_at // _SLACK:
            key = self._names.index(owner)
            score = repr(expires_at + _SLACK)
            await self._wire.ask(key, spread.ENTRY.once((key,), "", session_id, score, ttl, "1"), deadline)

    async def _enter(
        self,
        owner: bytes,
        entry: str,
        record: Record,
        replaces: Replaces | None,
        limit: int | None,
        deadline: float,
    ) -> AtLimit | None:
        key = self._names.index(owner)
        ignored: set[str] = set() if replaces is None else {replaces.session_id}
        ttl = layout.lifetime(record.seen_at, record.expires_at)
        for _ in range(_ROUNDS):
            command = spread.ENTER.once(
                (key,),
                entry,
                repr(record.seen_at + _PENDING),
                repr(record.seen_at),
                "" if limit is None else limit,
                ttl,
                *ignored,
            )
            reply, identity, certain = await self._on_all(key, command, deadline)
            if reply[0] != _LIMIT:
                session_id = id_in(entry)
                self._keep(owner, session_id, record.expires_at, ttl, identity, certain=certain)
                return None
            entries = [raw.decode() for raw in reply[1:]]
            ids = [each for each in entries if not each.startswith("+")]
            alive = [
                (session_id, loaded)
                for session_id, loaded in zip(ids, await self._load_all(ids, deadline), strict=True)
                if type(loaded) is Record
                and layout.owner_of(loaded.control.user) == owner
                and loaded.expires_at > record.seen_at
            ]
            dead = set(ids) - {session_id for session_id, _ in alive}
            if not dead:
                return AtLimit(tuple((each, one.control.created_at) for each, one in layout.oldest_first(alive)))
            ignored |= dead
        raise StoreUnavailable("the user's sessions changed again and again meanwhile")

    async def _on_all(self, key: bytes, command: Command, deadline: float) -> tuple[Any, str, bool]:
        """Write to the index and wait for its replicas.

        A session that the index has lost in a change of its server would outlive an end of all, on a server of its own.
        """
        for _ in range(_ROUNDS):
            node = await self._wire.home(key, deadline)
            (reply,), certain, identity = await surely(node, self._names.pulse(key), (command,), deadline)
            if not isinstance(reply, MOVED):
                return reply, identity, certain
            self._wire.doubt()
        raise StoreUnavailable("the cluster is moving keys, or misses servers")

    def _entry(self, owner: bytes, session_id: str, expires_at: float, ttl: int) -> tuple[bytes, Command]:
        key = self._names.index(owner)
        return key, spread.ENTRY.once((key,), "", session_id, repr(expires_at + _SLACK), ttl, "")

    def _keep(
        self, owner: bytes, session_id: str, expires_at: float, ttl: int, identity: str, *, certain: bool
    ) -> None:
        # An entry that is made again for a session that has ended meanwhile stands for none, and is dropped when read.
        self._keeper.keep((self._entry(owner, session_id, expires_at, ttl),), (identity,), certain=certain)

    async def _put(self, session_id: str, record: Record, kind: str, *, over_barrier: bool, deadline: float) -> int:
        key = self._names.session(session_id)
        before, after = layout.encode_record(self._codec, session_id, record)
        ttl = layout.lifetime(record.seen_at, record.expires_at)
        command = spread.PUT.once(
            (key, self._names.epoch(session_id)),
            before,
            after,
            ttl if kind == "R" else min(ttl, int(_PENDING * 1000)),
            os.urandom(layout.STAMP),
            kind,
            "1" if over_barrier else "",
        )
        return int((await self._wire.ask(key, command, deadline))[0])

    async def _end_replaced(self, replaces: Replaces, deadline: float) -> Stale | Gone | None:
        """End the session that is replaced if it is as it was read; return why the new one must not be."""
        if not is_id(replaces.session_id):
            return Gone() if replaces.required else None
        key = self._names.session(replaces.session_id)
        keys = key, self._names.epoch(replaces.session_id)
        tombstone = replaces.tombstone
        mark = layout.mark_bytes(replaces.revision, replaces.version)
        ttl = layout.lifetime(tombstone.at, tombstone.expires_at)
        arguments = layout.encode_ended(tombstone), ttl, mark, replaces.session_id, b""
        reply = await self._wire.ask(key, scripts.END.once(keys, *arguments), deadline)
        if reply[0] == _DONE:
            return None  # it stays listed: nobody has waited for the replicas of its server
        present = layout.decode(self._codec, replaces.session_id, *reply[1:3])
        if type(present) is Record:
            return Stale(present)
        if not replaces.required:
            return None
        return Gone(present if type(present) is Tombstone else None)

    async def _index(self, owner: bytes, drop: str, add: str, record: Record, deadline: float) -> None:
        if owner != layout.NOBODY:
            key = self._names.index(owner)
            ttl = layout.lifetime(record.seen_at, record.expires_at)
            command = spread.ENTRY.once((key,), drop, add, repr(record.expires_at + _SLACK), ttl, "")
            await self._wire.ask(key, command, deadline)

    async def _entries(self, owner: bytes, deadline: float) -> list[str]:
        key = self._names.index(owner)
        return [raw.decode() for raw in await self._wire.ask(key, (b"ZRANGE", key, 0, -1), deadline)]

    async def _remove(self, owner: bytes, entries: Sequence[str], deadline: float) -> None:
        key = self._names.index(owner)
        await self._wire.ask(key, (b"ZREM", key, *entries), deadline)

    async def _load_all(self, ids: Sequence[str], deadline: float) -> list[Loaded]:
        keys = [self._names.session(session_id) for session_id in ids]
        commands = [(key, (b"MGET", key, self._names.epoch(each))) for key, each in zip(keys, ids, strict=True)]
        replies: list[Any] = await self._wire.many(commands, deadline) if commands else []
        return [layout.decode(self._codec, each, *reply) for each, reply in zip(ids, replies, strict=True)]

    def _kill(self, session_id: str, entry: str, tombstone: Tombstone, committed: str) -> Kill:
        key = self._names.session(session_id)
        ttl = layout.lifetime(tombstone.at, tombstone.expires_at)
        keys = key, self._names.epoch(session_id)
        if entry.startswith("+"):
            barrier = b"\x01K" + layout.time_bytes(tombstone.at) + layout.time_bytes(tombstone.at + _PENDING)
            arguments = layout.encode_ended(tombstone), ttl, barrier, int(_PENDING * 1000), committed
            return Kill(session_id, key, spread.KILL.once(keys, *arguments), entry)
        command = scripts.END.once(keys, layout.encode_ended(tombstone), ttl, b"", session_id, b"")
        return Kill(session_id, key, command, entry)
