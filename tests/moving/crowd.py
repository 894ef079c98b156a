"""The sessions that are there before the move: made by number, so that every process knows their tokens."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any, Final

from sessile.core.ids import session_id
from sessile.core.record import SCHEMA, Context, Control, Line, Record
from sessile.stores import open_store

AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
BRANCH: Final = b"drill!"


def seed_of(number: int) -> bytes:
    """Return the seed of a session's token."""
    return hashlib.sha256(b"drill %d" % number).digest()[:20]


def user_of(number: int) -> str:
    """Return whose session it is."""
    return f"user-{number}"


def record_of(number: int) -> Record:
    """Return the session."""
    now = time.time()
    line = Line(BRANCH, now, (BRANCH,))
    control = Control(SCHEMA, now, now, now, 0, line, user=user_of(number), context=Context())
    return Record(control, {"name": b"\xa3Ada"}, now, now + 3600)


async def fill(url: str, count: int) -> None:
    """Put the sessions into a store."""
    store: Any = open_store(url, blocking=False)
    for start in range(0, count, 200):
        part = range(start, min(start + 200, count))
        await asyncio.gather(*(store.create(session_id(seed_of(n)), record_of(n)) for n in part))
    await store.close()
