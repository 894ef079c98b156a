"""Session traffic through a store, which remembers every answer; and the audit that holds the store to them."""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sessile.core.bridge import drive
from sessile.core.ports import Created, Ending, UserIndex
from sessile.core.record import SCHEMA, Change, Control, EndReason, Record, Tombstone
from sessile.errors import StoreError

IDLE: Final = 3600.0
PATIENCE: Final = 5.0  # seconds in which an unconfirmed end must be carried out, once all is whole again


@dataclass
class Ended:
    """Hold one end that was acknowledged; times are of the monotonic clock."""

    session_id: str
    at: float
    confirmed: bool


@dataclass
class Memory:
    """Hold all that was acknowledged and all that went wrong."""

    acknowledged: int = 0
    errors: int = 0
    longest: float = 0.0
    ends: dict[str, Ended] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    created: dict[str, str | None] = field(default_factory=dict)  # id to user, of what was not ended
    revived: set[str] = field(default_factory=set)  # confirmed as ended, and read alive afterwards
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def confirmed(self) -> int:
        """Return how many ends were reported as confirmed."""
        return sum(end.confirmed for end in self.ends.values())


def new_record(user: str | None) -> Record:
    """Return a small session."""
    now = time.time()
    return Record(Control(SCHEMA, now, now, now, user=user), {"cart": b"\x93\x01\x02\x03"}, now, now + IDLE)


def tombstone() -> Tombstone:
    """Return what an end leaves, kept longer than any run."""
    now = time.time()
    return Tombstone(EndReason.LOGOUT, now, now + 300)


class Client:
    """Work on the store as applications do: sign in, read, write, sign out, sign out everywhere."""

    def __init__(self, store: Any, memory: Memory, seed: int) -> None:
        self._store = store
        self._memory = memory
        self._random = random.Random(seed)
        self._mine: list[str] = []
        self._ended: list[str] = []

    async def step(self) -> None:
        """Do one operation and remember how it went."""
        started = time.monotonic()
        try:
            await self._operate()
            self._memory.acknowledged += 1
        except StoreError:
            self._memory.errors += 1
        self._memory.longest = max(self._memory.longest, time.monotonic() - started)

    async def _operate(self) -> None:
        chance = self._random.random()
        if len(self._mine) < 20 or chance < 0.2:
            await self._create()
        elif chance < 0.5:
            await self._look(self._random.choice(self._mine))
        elif chance < 0.65 and self._ended:
            await self._look(self._random.choice(self._ended[-200:]))
        elif chance < 0.8:
            await self._write(self._random.choice(self._mine))
        elif chance < 0.97 or not isinstance(self._store, UserIndex):
            await self._end()
        else:
            await self._end_user()

    async def _create(self) -> None:
        session_id, user = secrets.token_hex(20), f"user-{secrets.token_hex(3)}"
        if isinstance(await self._store.create(session_id, new_record(user)), Created):
            self._mine.append(session_id)
            self._memory.created[session_id] = user

    async def _look(self, session_id: str) -> None:
        began = time.monotonic()
        found = await self._store.load(session_id)
        end = self._memory.ends.get(session_id)
        if isinstance(found, Record) and end is not None and end.confirmed and end.at < began:
            self._memory.revived.add(session_id)

    async def _write(self, session_id: str) -> None:
        found = await self._store.load(session_id)
        if isinstance(found, Record):
            now = time.time()
            put = {f"k{self._random.randrange(5)}": b"\xa3abc"}
            await self._store.save(session_id, Change(seen_at=now, expires_at=now + IDLE, put=put), found)

    async def _end(self) -> None:
        session_id = self._mine.pop(self._random.randrange(len(self._mine)))
        try:
            ending = await self._store.end(session_id, tombstone())
        except StoreError:
            self._memory.failed.add(session_id)
            self._memory.created.pop(session_id, None)
            raise
        self._remember(ending, (session_id,))

    async def _end_user(self) -> None:
        session_id = self._mine.pop(self._random.randrange(len(self._mine)))
        user = self._memory.created.get(session_id)
        if user is None:
            return
        try:
            ending = await self._store.end_user(user, tombstone())
        except StoreError:
            self._memory.failed.add(session_id)
            self._memory.created.pop(session_id, None)
            raise
        self._remember(ending, (session_id,))

    def _remember(self, ending: Ending, session_ids: tuple[str, ...]) -> None:
        at = time.monotonic()
        for session_id in session_ids:
            with self._memory.lock:
                self._memory.ends[session_id] = Ended(session_id, at, ending.confirmed)
                self._memory.created.pop(session_id, None)
            self._ended.append(session_id)


async def run_async(store: Any, memory: Memory, over: threading.Event, *, clients: int, pause: float) -> None:
    """Let clients work at once on one event loop until `over`."""

    async def work(seed: int) -> None:
        client = Client(store, memory, seed)
        while not over.is_set():
            await client.step()
            await asyncio.sleep(pause)

    await asyncio.gather(*(work(seed) for seed in range(clients)))


def run_blocking(store: Any, memory: Memory, over: threading.Event, *, seed: int, pause: float) -> None:
    """Let one client work in this thread until `over`."""
    client = Client(store, memory, seed)
    while not over.is_set():
        drive(client.step())
        over.wait(pause)


async def alive(store: Any, session_ids: list[str]) -> set[str]:
    """Return which of them are alive, by a store that ended none of them itself."""

    async def load(session_id: str) -> Any:
        for patience in range(50):
            try:
                return await store.load(session_id)
            except StoreError:
                await asyncio.sleep(0.02 * patience)
        raise AssertionError("the store does not answer although all is whole again")

    found: set[str] = set()
    for start in range(0, len(session_ids), 50):
        part = session_ids[start : start + 50]
        loaded = await asyncio.gather(*(load(session_id) for session_id in part))
        found |= {session_id for session_id, one in zip(part, loaded, strict=True) if isinstance(one, Record)}
    return found


async def until_dead(store: Any, session_ids: list[str], seconds: float = PATIENCE) -> tuple[set[str], float]:
    """Wait until none of them is alive; return those that still are, and how long it took."""
    started = time.monotonic()
    left = await alive(store, session_ids)
    while left and time.monotonic() - started < seconds:
        await asyncio.sleep(0.05)
        left = await alive(store, sorted(left))
    return left, time.monotonic() - started


Heal = Callable[[], None]
