"""Session traffic through a store, which remembers every answer.

Each client has users of its own, with several sessions each, so it knows which sessions an end of a user must end.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Final

from sessile.core.bridge import drive
from sessile.core.ports import Created, Ending, UserIndex
from sessile.core.record import SCHEMA, Change, Control, EndReason, Record, Tombstone
from sessile.errors import StoreError

IDLE: Final = 3600.0
USERS: Final = 8  # of each client
HELD: Final = 30  # records that slow requests of a client still hold


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
    confirmed: int = 0  # ends that were reported as confirmed
    errors: int = 0
    longest: float = 0.0
    ends: dict[str, Ended] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    created: dict[str, str] = field(default_factory=dict)  # id to user, of what was not ended
    of_users: int = 0  # how many sessions were ended by the end of a user with others
    late_saves: int = 0  # saves of what had been read before its end
    revived: set[str] = field(default_factory=set)  # confirmed as ended, and read alive afterwards
    lock: threading.Condition = field(default_factory=threading.Condition)

    def await_confirmed(self, count: int, seconds: float) -> bool:
        """Wait until so many more ends were reported as confirmed; tell whether they were in time."""
        with self.lock:
            goal = self.confirmed + count
            return self.lock.wait_for(lambda: self.confirmed >= goal, seconds)

    def unconfirmed(self) -> list[str]:
        """Return the sessions whose ends were reported as unconfirmed."""
        with self.lock:
            return [end.session_id for end in self.ends.values() if not end.confirmed]

    def confirmed_between(self, since: float, until: float) -> list[float]:
        """Return when ends were reported as confirmed in that time, in order."""
        with self.lock:
            return sorted(end.at for end in self.ends.values() if end.confirmed and since <= end.at <= until)


def new_record(user: str | None) -> Record:
    """Return a small session."""
    now = time.time()
    return Record(Control(SCHEMA, now, now, now, user=user), {"cart": b"\x93\x01\x02\x03"}, now, now + IDLE)


def tombstone() -> Tombstone:
    """Return what an end leaves, kept longer than any run."""
    now = time.time()
    return Tombstone(EndReason.LOGOUT, now, now + 300)


class Client:
    """Work on the store as applications do: sign in, read, write, sign out, sign out everywhere.

    `slow`: some requests save, after the end, what they had read before it.
    """

    def __init__(self, store: Any, memory: Memory, seed: int, *, slow: bool) -> None:
        self._store = store
        self._memory = memory
        self._random = random.Random(seed)
        self._slow = slow
        self._users = [f"user-{secrets.token_hex(8)}" for _ in range(USERS)]
        self._mine: list[str] = []
        self._ended: list[str] = []
        self._read: dict[str, Record] = {}  # the last record read of each live session
        self._held: deque[tuple[str, Record]] = deque(maxlen=HELD)  # of ended ones: what slow requests hold

    async def step(self) -> None:
        """Do one operation and remember how it went."""
        started = time.monotonic()
        try:
            await self._operate()
        except StoreError:
            with self._memory.lock:
                self._memory.errors += 1
        else:
            with self._memory.lock:
                self._memory.acknowledged += 1
        with self._memory.lock:
            self._memory.longest = max(self._memory.longest, time.monotonic() - started)

    async def _operate(self) -> None:
        chance = self._random.random()
        if len(self._mine) < 20 or chance < 0.2:
            await self._create()
        elif chance < 0.5:
            await self._look(self._random.choice(self._mine))
        elif chance < 0.65 and self._ended:
            await self._look(self._random.choice(self._ended[-200:]))
        elif chance < 0.78:
            await self._write(self._random.choice(self._mine))
        elif chance < 0.81 and self._slow and self._held:
            await self._save(*self._held.popleft())
            with self._memory.lock:
                self._memory.late_saves += 1
        elif chance < 0.98 or not isinstance(self._store, UserIndex):
            await self._end()
        else:
            await self._end_user()

    async def _create(self) -> None:
        session_id, user = secrets.token_hex(20), self._random.choice(self._users)
        if isinstance(await self._store.create(session_id, new_record(user)), Created):
            self._mine.append(session_id)
            with self._memory.lock:
                self._memory.created[session_id] = user

    async def _look(self, session_id: str) -> None:
        began = time.monotonic()
        found = await self._store.load(session_id)
        end = self._memory.ends.get(session_id)
        if isinstance(found, Record) and end is not None and end.confirmed and end.at < began:
            with self._memory.lock:
                self._memory.revived.add(session_id)

    async def _write(self, session_id: str) -> None:
        found = await self._store.load(session_id)
        if isinstance(found, Record):
            self._read[session_id] = found
            await self._save(session_id, found)

    async def _save(self, session_id: str, base: Record) -> None:
        now = time.time()
        put = {f"k{self._random.randrange(5)}": b"\xa3abc"}
        await self._store.save(session_id, Change(seen_at=now, expires_at=now + IDLE, put=put), base)

    async def _end(self) -> None:
        session_id = self._random.choice(self._mine)
        await self._ending((session_id,), self._store.end(session_id, tombstone()))

    async def _end_user(self) -> None:
        user = self._memory.created[self._random.choice(self._mine)]
        sessions = tuple(one for one in self._mine if self._memory.created[one] == user)
        await self._ending(sessions, self._store.end_user(user, tombstone()))
        if len(sessions) > 1:
            with self._memory.lock:
                self._memory.of_users += len(sessions)

    async def _ending(self, sessions: tuple[str, ...], work: Awaitable[Ending]) -> None:
        """Await the answer of an end, and remember it for each of the sessions that it must have ended."""
        self._mine = [one for one in self._mine if one not in sessions]
        try:
            ending = await work
        except StoreError:
            with self._memory.lock:
                self._memory.failed.update(sessions)
                for session_id in sessions:
                    del self._memory.created[session_id]
            raise
        at = time.monotonic()
        for session_id in sessions:
            with self._memory.lock:
                self._memory.ends[session_id] = Ended(session_id, at, ending.confirmed)
                del self._memory.created[session_id]
                self._memory.confirmed += ending.confirmed
                self._memory.lock.notify_all()
            self._ended.append(session_id)
            if (held := self._read.pop(session_id, None)) is not None:
                self._held.append((session_id, held))


async def run_async(
    store: Any, memory: Memory, over: threading.Event, *, clients: int, pause: float, slow: bool
) -> None:
    """Let clients work at once on one event loop until `over`."""

    async def work(seed: int) -> None:
        client = Client(store, memory, seed, slow=slow)
        while not over.is_set():
            await client.step()
            await asyncio.sleep(pause)

    await asyncio.gather(*(work(seed) for seed in range(clients)))


def run_blocking(store: Any, memory: Memory, over: threading.Event, *, seed: int, pause: float, slow: bool) -> None:
    """Let one client work in this thread until `over`."""
    client = Client(store, memory, seed, slow=slow)
    while not over.is_set():
        drive(client.step())
        over.wait(pause)
