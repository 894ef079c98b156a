"""Reach the primary that Sentinels name, and stop using it when nobody vouches for it any more.

Each Sentinel is watched by a thread of its own (blocking door) or by a task: it is asked every half second, and at once
when it announces that another server takes over. When the primary changes, all connections to the old one are given
up, so that a server that was frozen or cut off is not read when it comes back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from redis.exceptions import NoScriptError, RedisError

from ...core.bridge import drive
from ...errors import StoreError, StoreUnavailable
from .address import Address, Place, Settings
from .layout import Names
from .link import Command, blocking_link, looped_link, packed
from .standing import Assurance
from .tasks import LoopedNode
from .threads import BlockingNode
from .vouching import LEASE, Vouching, vote
from .wire import Node, ask, checked, whole

_EVERY: Final = 0.5
_PATIENCE: Final = 0.4  # seconds for one Sentinel's answer
_NEWS: Final = (b"SUBSCRIBE", b"+switch-master", b"+promoted-slave")


class SentinelWire:
    """Reach the primary of one service."""

    def __init__(self, settings: Settings, *, blocking: bool) -> None:
        self._settings: Final = settings
        self._blocking: Final = blocking
        self._vouching = Vouching(len(settings.addresses))
        kind = BlockingNode if blocking else LoopedNode
        assurance = Assurance(lambda: max(settings.replicas, self._vouching.replicas))
        self._node: Final[Node] = kind(settings, self._primary, assurance)
        self._theirs: Final = replace(
            settings,
            user=settings.sentinel_user,
            password=settings.sentinel_password,
            database=0,
            timeout=_PATIENCE,
            pool=2,
        )
        self._sentinels: Final[list[Node]] = [kind(self._theirs, _at(address), None) for address in settings.addresses]
        names = Names(settings.prefix)
        self._pulse: Final = names.pulse(names.epochs["00"])
        self._stop = threading.Event()
        self._gate = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def together(self) -> bool:
        """Return True: there is one primary."""
        return True

    @property
    def vouching(self) -> Vouching:
        """Return who vouches for the primary."""
        return self._vouching

    async def ask(self, key: bytes, command: Command, deadline: float) -> Any:
        """Send a command to the primary; an answer that comes when nobody vouches for it any more does not count."""
        node = await self.home(key, deadline)
        reply = await ask(node, command, deadline)
        self._check()
        return reply

    async def many(self, commands: Sequence[tuple[bytes, Command]], deadline: float) -> list[Any]:
        """Send commands in one write."""
        node = await self.home(b"", deadline)
        replies = await node.exchange([command for _, command in commands], deadline)
        for place, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                replies[place] = await node.ask(whole(commands[place][1]), deadline)
        self._check()
        return [checked(reply) for reply in replies]

    def place(self, key: bytes) -> Place | None:
        """Return where the primary is, or None if nobody vouches for one. The mark is another one after each change."""
        primary = self._vouching.primary
        if primary is None or (self._settings.lease and not self._vouching.holds(time.monotonic())):
            return None
        return Place(primary, (id(self._vouching), self._vouching.changes))

    async def primaries(self, deadline: float) -> Sequence[Node]:
        """Return the primary."""
        return (await self.home(b"", deadline),)

    async def home(self, key: bytes, deadline: float) -> Node:
        """Return the primary.

        Raises:
            StoreUnavailable: nobody vouches for one.
        """
        if not self._watched():
            await self._begin(deadline)
        self._check()
        return self._node

    def doubt(self) -> None:
        """Do nothing: the Sentinels are asked all the time."""

    async def close(self) -> None:
        """Stop watching and close the connections."""
        self._closed = True
        self._stop.set()
        tasks, self._tasks = self._tasks, []
        if tasks and self._loop is asyncio.get_running_loop():
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(2 * _EVERY)
        for sentinel in self._sentinels:
            await sentinel.close()
        await self._node.close()

    def forget(self) -> object:
        """Begin anew in a forked child."""
        abandoned = self._threads, self._tasks, self._node.forget(), [each.forget() for each in self._sentinels]
        self._threads, self._tasks, self._loop = [], [], None
        self._stop, self._gate = threading.Event(), threading.Lock()
        self._vouching = Vouching(len(self._settings.addresses))
        return abandoned

    def _primary(self) -> Address:
        primary = self._vouching.primary
        if primary is None:
            raise StoreUnavailable("no Sentinel names a primary")
        return primary

    def _check(self) -> None:
        if self._vouching.primary is None or (self._settings.lease and not self._vouching.holds(time.monotonic())):
            raise StoreUnavailable("neither the Sentinels nor its replicas vouch for the primary of Redis")

    def _watched(self) -> bool:
        if self._blocking:
            return bool(self._threads)
        return self._loop is asyncio.get_running_loop() and bool(self._tasks)

    async def _begin(self, deadline: float) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        now = time.monotonic()
        if not self._vouching.holds(now):
            for place in range(len(self._sentinels)):
                await self._poll(place)
                if self._vouching.holds(time.monotonic()) or time.monotonic() > deadline:
                    break
        if self._blocking:
            with self._gate:
                if not self._threads and not self._closed:
                    self._threads = [
                        threading.Thread(
                            target=self._watch, args=(place,), name=f"sessile-sentinel-{place}", daemon=True
                        )
                        for place in range(len(self._sentinels))
                    ]
                    for thread in self._threads:
                        thread.start()
        elif not self._watched():
            self._loop = asyncio.get_running_loop()
            self._tasks = [self._loop.create_task(self._attend(place)) for place in range(len(self._sentinels))]

    async def _poll(self, place: int) -> None:
        """Ask one Sentinel; where they are too few to vouch for the primary, ask that as well."""
        service = self._settings.service
        questions: tuple[Command, ...] = (
            (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service),
            (b"SENTINEL", b"MASTER", service),
        )
        with suppress(StoreError):
            asked_at = time.monotonic()
            address, state = await self._sentinels[place].exchange(questions, asked_at + _PATIENCE)
            if self._vouching.heard(place, vote(address, state, asked_at)):
                self._node.drop()
        now = time.monotonic()
        expected = self._node.assurance.expected
        if self._vouching.primary is not None and expected and now - self._vouching.vouched_at > LEASE / 3:
            with suppress(StoreError):
                written, have = await self._node.exchange(
                    ((b"SET", self._pulse, b"", b"PX", 1000), (b"WAIT", expected, int(_PATIENCE * 500))),
                    now + _PATIENCE,
                )
                if written == b"OK" and isinstance(have, int):
                    self._vouching.followed(have, expected, now)

    def _watch(self, place: int) -> None:
        stop, news = self._stop, None
        while not stop.is_set():
            with suppress(Exception):
                drive(self._poll(place))
            try:
                if news is None:
                    news = blocking_link(self._theirs, self._settings.addresses[place])
                    news.connect()
                    news.send_packed_command([packed(_NEWS)], check_health=False)
                elif news.can_read(_EVERY):
                    news.read_response()
            except (RedisError, OSError):
                if news is not None:
                    news.disconnect()
                news = None
                stop.wait(_EVERY)
        if news is not None:
            news.disconnect()

    async def _attend(self, place: int) -> None:
        news, reading = None, None
        try:
            while not self._closed:
                await self._poll(place)
                try:
                    if news is None:
                        news = looped_link(self._theirs, self._settings.addresses[place])
                        async with asyncio.timeout(_PATIENCE):
                            await news.connect()
                            await news.send_packed_command([packed(_NEWS)], check_health=False)
                    if reading is None:
                        reading = asyncio.ensure_future(news.read_response())
                    await asyncio.wait({reading}, timeout=_EVERY)
                    if reading.done():
                        finished, reading = reading, None
                        finished.result()
                except (RedisError, OSError, TimeoutError):
                    await _abandon(news, reading)
                    news = reading = None
                    await asyncio.sleep(_EVERY)
        finally:
            await _abandon(news, reading)


def _at(address: Address) -> Callable[[], Address]:
    return lambda: address


async def _abandon(news: Any, reading: asyncio.Future[Any] | None) -> None:
    if reading is not None:
        reading.cancel()
        with suppress(asyncio.CancelledError, RedisError, OSError):
            await reading
    if news is not None:
        with suppress(RedisError, OSError):
            await news.disconnect()
