"""The audit: what is alive when all is whole again, asked through a store that ended none of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

from sessile.core.record import Record
from sessile.errors import StoreError
from tests.failure.traffic import Memory

PATIENCE: Final = 5.0  # seconds in which an unconfirmed end must be carried out, once all is whole again
AT_ONCE: Final = 50
ANSWERS_WITHIN: Final = 20.0  # seconds in which a whole set must answer a read


@dataclass
class Findings:
    """Hold what the audit found."""

    late: set[str]  # unconfirmed, and alive when their time was over or afterwards
    lost: int  # sessions that nobody ended and that are gone


async def audit(store: Any, memory: Memory, over_at: float) -> Findings:
    """Ask about every session with an answer; what was confirmed and is alive is added to `memory.revived`.

    `over_at` is when the traffic was over, by the monotonic clock: the time for ends that were still unconfirmed then.
    What is dead is asked about once more at last, for nothing may come back later.
    """
    confirmed = [one.session_id for one in memory.ends.values() if one.confirmed]
    late, _ = await until_dead(store, memory.unconfirmed(), over_at)
    memory.revived |= await alive(store, confirmed)
    kept = list(memory.created)
    lost = len(kept) - len(await alive(store, kept))
    await asyncio.sleep(max(0.0, over_at + PATIENCE - time.monotonic()))
    memory.revived |= await alive(store, confirmed)
    return Findings(late | await alive(store, memory.unconfirmed()), lost)


async def until_dead(store: Any, session_ids: list[str], since: float) -> tuple[set[str], float]:
    """Wait until none of them is alive, for `PATIENCE` from `since` on.

    Returned are those that a read found alive which began when that time was over, and how long it took otherwise.
    """
    left = set(session_ids)
    while True:
        began = time.monotonic()
        left = await alive(store, sorted(left))
        if not left or began > since + PATIENCE:
            return left, (time.monotonic() - since if session_ids else 0.0)
        await asyncio.sleep(0.05)


async def alive(store: Any, session_ids: list[str]) -> set[str]:
    """Return which of them are alive.

    Raises:
        AssertionError: the store does not answer, although all is whole.
    """

    async def load(session_id: str) -> Any:
        deadline = time.monotonic() + ANSWERS_WITHIN
        while True:
            try:
                return await store.load(session_id)
            except StoreError as error:
                if time.monotonic() > deadline:
                    raise AssertionError("the store does not answer although all is whole again") from error
                await asyncio.sleep(0.05)

    found: set[str] = set()
    for start in range(0, len(session_ids), AT_ONCE):
        part = session_ids[start : start + AT_ONCE]
        loaded = await asyncio.gather(*(load(session_id) for session_id in part))
        found |= {session_id for session_id, one in zip(part, loaded, strict=True) if isinstance(one, Record)}
    return found
