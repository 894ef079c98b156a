"""Move every session of the old store, many at a time; it may be stopped anywhere and run again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from ...core.ports import Census
from ...core.record import Record, same_value
from ...errors import StoreUnavailable, Unsupported
from . import Moving
from .parking import is_parked

PAGE: Final = 200


@dataclass
class Moved:
    """Count what a run met.

    `moved` and, of those, `verified`: read back from the new store, equal in every byte or written to since. `arrived`:
    copies that an earlier run had left waiting. `ended`: sessions that ended before they could move. `busy`: written
    to faster than they could be moved; the next run takes them. `wrong`: not what was sent; there must be none.
    """

    moved: int = 0
    verified: int = 0
    arrived: int = 0
    ended: int = 0
    busy: int = 0
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
        """Move until a pass over the old store finds nothing more to move; return what was met."""
        await self._each(_all(self._moving.new), self._arrive)
        while True:
            before = self.counted.moved
            await self._each(_all(self._moving.old), self._move)
            if self.counted.moved == before:
                break
        # Copies of sessions that ended in the old store: what lists the new one alone must not find them.
        await self._each(_all(self._moving.new), self._arrive)
        return self.counted

    async def _each(
        self, names: AsyncIterator[tuple[str, Record]], work: Callable[[str, Record], Coroutine[Any, Any, None]]
    ) -> None:
        waiting: set[asyncio.Task[None]] = set()
        try:
            async for name, record in names:
                waiting.add(asyncio.create_task(work(name, record)))
                if len(waiting) >= self._at_once:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for one in done:
                        one.result()
            for one in waiting:
                await one
            waiting = set()
        finally:
            for one in waiting:
                one.cancel()

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
        if not isinstance(sent, Record):
            self.counted.ended += 1
            return
        self.counted.moved += 1
        self._progress(1)
        found = await self._moving.new.load(session_id)
        # Ended since, which is no loss, or equal, or written to since.
        if found is not None and (not isinstance(found, Record) or _is_at_least(found, sent)):
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
