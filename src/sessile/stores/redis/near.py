"""`?cache=near`: sessions that were read are kept in the process, and Redis says when they change.

A read of a session that is kept costs no round trip and no decoding. Before each such read everything that has
arrived from the server is taken in, without waiting: nothing is trusted that the server has reported as changed. What
is left is the way of the report through the network; `tests/stores/test_near_cache.py` and `benchmarks` measure it.

- Connections: one an event loop, up to four for the threads of the blocking door, beside those of the store.
- If the connection breaks, everything that was read through it is forgotten, and reads go to the server at once.
- If a network swallows reports and closes nothing, entries are trusted for two seconds after the last sign of life.
- A write of this process forgets the session before and after. Absent sessions and values over 64 KB are not kept.
- What is kept is kept decoded, and unsealed if the store seals (R48): in the memory of the process that serves it.
- The user of Redis needs `+hello` and `+client|tracking`, too. Without them nothing is kept; `sessile doctor` tells.

The server holds a row for each key that some process keeps (`tracking-table-max-keys`, a million); when it runs out of
rows it reports keys as changed that have not.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

from ...core.ports import AtLimit, Clash, Created, Diagnosis, Ending, Gone, Loaded, Replaces, Stale, Taken
from ...core.record import Change, Codec, EndReason, Record, Tombstone
from ...errors import ConfigurationError, StoreError
from .address import Place, Settings
from .layout import is_id
from .near_channel import open_channel
from .near_doors import Door, LoopDoor, ThreadDoor
from .store import RedisStore
from .wire import Wire

_FIT: Final = Diagnosis("ok", "redis-near", "R45", "Redis reports changes to the near cache")
_UNFIT: Final = Diagnosis(
    "warn",
    "redis-near",
    "R45",
    "Redis does not report changes to the near cache",
    "Every read goes to the server, as if cache=near had not been asked for.",
    "Allow the user +hello and +client|tracking, and let no proxy stand between that does not speak RESP3.",
)


@runtime_checkable
class Placing(Protocol):
    """Be a wire that says where its servers are, without waiting."""

    def place(self, key: bytes) -> Place | None:
        """Return where the server of `key` is; None if that is not known, or nobody vouches for it now."""
        ...


class NearStore(RedisStore):
    """Keep sessions in Redis, and some of them near.

    Raises:
        ConfigurationError: the wire does not say where its servers are.
    """

    def __init__(self, settings: Settings, wire: Wire, *, codec: Codec, blocking: bool) -> None:
        if not isinstance(wire, Placing):
            raise ConfigurationError("cache=near is not to be had for this kind of Redis URL")
        super().__init__(settings, wire, codec=codec, blocking=blocking)
        self._place: Final = wire.place
        self._near: Final[Door] = (ThreadDoor if blocking else LoopDoor)(settings, codec)
        _near_stores.add(self)

    async def load(self, session_id: str) -> Loaded:
        """Return what is kept, else read it and keep it."""
        if not is_id(session_id):
            return None
        key = self._names.session(session_id)
        place = self._place(key)
        if place is not None:
            read = self._near.hit(key, place)
            if read is not None:
                return read.loaded
            deadline = time.monotonic() + self._timeout
            read = await self._near.read(place, session_id, key, self._names.epoch(session_id), deadline)
            if read is not None and self._place(key) == place:
                return read.loaded
        return await super().load(session_id)

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session, and forget the one it replaces."""
        try:
            return await super().create(session_id, record, replaces=replaces, limit=limit)
        finally:
            self._forget(session_id)
            if replaces is not None:
                self._forget(replaces.session_id)

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Save, and forget what was kept."""
        self._forget(session_id)
        try:
            return await super().save(session_id, change, base)
        finally:
            self._forget(session_id)

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        """Move the times forward, and forget what was kept."""
        try:
            await super().touch(session_id, seen_at, expires_at)
        finally:
            self._forget(session_id)

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """End the session, and forget what was kept."""
        self._forget(session_id)
        try:
            return await super().end(session_id, tombstone)
        finally:
            self._forget(session_id)

    async def retire(
        self, session_id: str, tombstone: Tombstone, *, revision: int, version: int
    ) -> Ending | Stale | Gone:
        """End the session if nobody wrote to it, and forget what was kept."""
        try:
            return await super().retire(session_id, tombstone, revision=revision, version=version)
        finally:
            self._forget(session_id)

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions, and forget everything that was kept."""
        try:
            return await super().end_user(user, tombstone, keep)
        finally:
            self._near.clear()

    async def end_everything(self, at: float) -> Ending:
        """End everything, and forget everything."""
        try:
            return await super().end_everything(at)
        finally:
            self._near.clear()

    async def sweep(self, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
        """Remove what is over, and forget it."""
        removed = await super().sweep(now, limit)
        for session_id, _ in removed:
            self._forget(session_id)
        return removed

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Look at the server, and whether it reports changes to this user."""
        found = await super().diagnose()
        place = self._place(self._names.epochs["00"])
        if place is None:
            return found
        work = partial(open_channel, self._settings, place.address, time.monotonic() + self._timeout)
        try:
            (work() if self._blocking else await asyncio.to_thread(work)).close()
        except StoreError:
            return (*found, _UNFIT)
        return (*found, _FIT)

    async def close(self) -> None:
        """Close the connections; later verbs raise `StoreUnavailable`."""
        await self._near.close()
        await super().close()

    def _forget(self, session_id: str) -> None:
        if is_id(session_id):
            self._near.drop(self._names.session(session_id))


_near_stores: weakref.WeakSet[NearStore] = weakref.WeakSet()
_abandoned: list[Any] = []


def _begin_anew() -> None:
    for store in tuple(_near_stores):
        _abandoned.append(store._near.forget())  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
