"""Move every session of the old store, many at a time; it may be stopped anywhere and run again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from ...core.ports import Census, Gone
from ...core.record import SCHEMA, Control, EndReason, Record, Tombstone, same_value
from ...errors import ConfigurationError, StoreUnavailable, Unsupported
from . import Moving
from .journey import Held
from .parking import is_parked

PAGE: Final = 200
_PROBE: Final = 60.0  # seconds


@dataclass
class Moved:
    """Count what a run met.

    `moved` and, of those, `verified`: read back from the new store, equal in every byte or written to since. `arrived`:
    copies that an earlier run had left waiting. `ended`: sessions that ended before they could move. `busy`: written
    to faster than they could be moved; the next run takes them. `held`: they left the new store before, and that still
    remembers it. `unreadable`: alive in the old store, and not to be read. `left`: alive there, for whatever reason.
    `wrong`: not what was sent; there must be none.
    """

    moved: int = 0
    verified: int = 0
    arrived: int = 0
    ended: int = 0
    busy: int = 0
    held: int = 0
    unreadable: int = 0
    left: int = 0
    wrong: int = 0


class Mover:
    """Move what the old store of `moving` holds, `at_once` sessions at a time; `progress` hears how many were done.

    Raises:
        Unsupported: the old or the new store cannot list its sessions.
    """

    def __init__(self, moving: Moving, *, at_once: int = 16, progress: Callable[[int], None] = lambda _: None) -> None:
        for store in (moving.old, moving.new):
            if not isinstance(store, Census):
                raise Unsupported("sessions can only be moved between stores that list theirs")
        self._moving = moving
        self._at_once = at_once
        self._progress = progress
        self.counted = Moved()

    async def run(self) -> Moved:
        """Move until a pass over the old store finds nothing more to move; return what was met.

        Raises:
            ConfigurationError: both are one store; or the new one's sessions cannot be read as these are written.
        """
        await self._look_whether_they_are_two()
        before = await _live(self._moving.new)
        readable = await self._each(_all(self._moving.new), self._arrive)
        # A few may be damaged. Most of them means that the application has other keys, or none, and would not be able
        # to read what is written here: everybody would be signed out.
        if min(before, await _live(self._moving.new)) > 2 * readable:
            raise ConfigurationError("the new store holds sessions that these keys do not open; nothing was moved")
        before = await _live(self._moving.old)
        while True:
            moved, self.counted.busy, self.counted.held = self.counted.moved, 0, 0
            readable = await self._each(_all(self._moving.old), self._move)
            self.counted.left = await _live(self._moving.old)
            if self.counted.moved == moved:
                break
            before = self.counted.left
        # What began or ended meanwhile is in one of the two numbers only.
        self.counted.unreadable = max(0, min(before, self.counted.left) - readable)
        # Copies of sessions that ended in the old store: what lists the new one alone must not find them.
        await self._each(_all(self._moving.new), self._arrive)
        return self.counted

    async def _look_whether_they_are_two(self) -> None:
        """Put something into the new store and look for it in the old one: their URLs may differ, and say the same.

        Moved onto itself, every session would be replaced by the mark that it has moved, for which it has no place.
        """
        now, probe = time.time(), os.urandom(20).hex()
        control = Control(schema=SCHEMA, created_at=now, authenticated_at=now, rotated_at=now)
        await self._moving.new.create(probe, Record(control, {}, now, now + _PROBE))
        try:
            if await self._moving.old.load(probe) is not None:
                raise ConfigurationError("FROM and TO are the same store")
        finally:
            await self._moving.new.end(probe, Tombstone(EndReason.MOVED, now, now + _PROBE))

    async def _each(
        self, names: AsyncIterator[tuple[str, Record]], work: Callable[[str, Record], Coroutine[Any, Any, None]]
    ) -> int:
        """Do the work for each, several at a time; return how many of them were within their time."""
        waiting: set[asyncio.Task[None]] = set()
        alive = 0
        try:
            async for name, record in names:
                alive += record.expires_at > time.time()
                waiting.add(asyncio.create_task(work(name, record)))
                if len(waiting) >= self._at_once:
                    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for one in done:
                        one.result()
                    waiting = pending
            for one in waiting:
                await one
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(
                *waiting, return_exceptions=True
            )  # the first failure is told, and all of them are seen
        return alive

    async def _arrive(self, _name: str, record: Record) -> None:
        if is_parked(record) and await self._moving.arrive(record):
            self.counted.arrived += 1

    async def _move(self, session_id: str, _record: Record) -> None:
        try:
            sent = await self._moving.move(session_id)
        except StoreUnavailable:
            if isinstance(await self._moving.old.load(session_id), Record):
                self.counted.busy += 1
                return
            raise
        if isinstance(sent, Held):
            self.counted.held += 1
            return
        if isinstance(sent, Gone):
            self.counted.ended += 1
            return
        self.counted.moved += 1
        self._progress(1)
        found = await self._moving.new.load(session_id)
        # Ended since, which is no loss, or equal, or written to since.
        if isinstance(found, Tombstone) or (isinstance(found, Record) and _is_at_least(found, sent)):
            self.counted.verified += 1
        else:
            self.counted.wrong += 1


async def _all(store: Census) -> AsyncIterator[tuple[str, Record]]:
    cursor: str | None = None
    while True:
        page = await store.scan(cursor, PAGE)
        for entry in page.sessions:
            yield entry
        cursor = page.cursor
        if cursor is None:
            return


async def _live(store: Census) -> int:
    return (await store.stats(time.time())).live


def _is_at_least(found: Record, sent: Record) -> bool:
    if found.revision < sent.revision or found.version < sent.version:
        return False
    if found.revision == sent.revision and found.control != sent.control:
        return False
    if found.version > sent.version:
        return True
    return found.data.keys() == sent.data.keys() and all(
        same_value(found.data[key], value) for key, value in sent.data.items()
    )
