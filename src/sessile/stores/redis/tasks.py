"""The connections of the asynchronous door to one server, and how the commands of one turn of the loop travel together.

A command is not sent where it is awaited: it is queued, and a worker takes all that is queued, writes it at once on one
connection and reads the replies in order. Fifty loads that start in one turn of the loop so cost one write and one
read. Workers are tasks of their own: who stops waiting harms nobody and leaves no reply unread.

Connections belong to a loop. Each loop that is met gets its own, and closes them when it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from ...errors import StoreUnavailable
from .address import Address, Settings
from .failures import is_lost, wrapped
from .greeting import WHO, greet
from .link import Command, LoopedLink, is_stale, looped_link, packed
from .standing import Assurance


class _Call:
    """Hold commands that were sent together by one caller, and who waits for their replies."""

    __slots__ = ("count", "deadline", "payload", "replies")

    def __init__(self, payload: bytes, count: int, deadline: float, replies: asyncio.Future[list[Any]]) -> None:
        self.payload = payload
        self.count = count
        self.deadline = deadline
        self.replies = replies

    def fail(self, error: BaseException) -> None:
        if not self.replies.done():
            self.replies.set_exception(wrapped(error))


class LoopedNode:
    """Send commands to one server. `address` says where it is when a connection is opened.

    Without an `assurance` it is not asked whether it is a primary: a Sentinel is none.
    """

    def __init__(self, settings: Settings, address: Callable[[], Address], assurance: Assurance | None) -> None:
        self.assurance: Final = assurance or Assurance(int)
        self._greeted: Final = assurance is not None
        self._settings: Final = settings
        self._address: Final = address
        self._closed = False
        self._lane: _Lane | None = None
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}

    async def ask(self, command: Command, deadline: float) -> Any:
        """Send one command, with whatever else is asked in this turn of the loop, and return its reply.

        An error that Redis replied is returned, not raised.

        Raises:
            StoreUnavailable: there was no reply before the deadline (seconds of the monotonic clock).
        """
        lane = self._lane
        if lane is None or lane.loop is not asyncio.get_running_loop():
            lane = await self._enter()
        return (await lane.submit(packed(command), deadline))[0]

    async def exchange(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send several commands on a connection that nobody else uses meanwhile, and return their replies."""
        lane = await self._enter()
        return await lane.submit_alone(b"".join(map(packed, commands)), len(commands), deadline)

    def drop(self) -> None:
        """Give up all connections, and what is being read through them."""
        for loop, lane in tuple(self._lanes.items()):
            if loop is _running():
                lane.drop()
            else:
                with suppress(RuntimeError):  # it ended
                    loop.call_soon_threadsafe(lane.drop)

    async def close(self) -> None:
        """Close the connections; later calls raise `StoreUnavailable`."""
        self._closed = True
        self._lane = None
        for loop, lane in tuple(self._lanes.items()):
            if loop is asyncio.get_running_loop():
                await lane.close()
            else:
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(lane.drop)
        self._lanes.clear()

    def forget(self) -> object:
        """Begin anew in a forked child and return what belongs to the parent."""
        abandoned, self._lanes, self._lane = self._lanes, {}, None
        return abandoned

    async def _enter(self) -> _Lane:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            lane = self._lanes[loop] = _Lane(
                loop, self._settings, self._address, self.assurance if self._greeted else None
            )
            lane.guard = self._close_with_loop(loop, lane)
            await anext(lane.guard)
        self._lane = lane
        return lane

    async def _close_with_loop(self, loop: asyncio.AbstractEventLoop, lane: _Lane) -> AsyncGenerator[None]:
        # A loop that ends closes the generators that were begun on it: the one hook there is.
        try:
            yield
        finally:
            self._lanes.pop(loop, None)
            if self._lane is lane:
                self._lane = None
            await lane.close()


class _Lane:
    """Hold the connections of one loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        address: Callable[[], Address],
        assurance: Assurance | None,
    ) -> None:
        self.loop: Final = loop
        self.guard: AsyncGenerator[None] | None = None
        self._settings: Final = settings
        self._address: Final = address
        self._assurance: Final = assurance
        self._idle: list[LoopedLink] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._queue: list[_Call] = []
        self._alone: deque[_Call] = deque()
        self._generation = 0  # replies to older ones do not count
        self._era = 0  # connections of older ones are not used again
        self._closed = False

    def submit(self, payload: bytes, deadline: float) -> asyncio.Future[list[Any]]:
        call = _Call(payload, 1, deadline, self.loop.create_future())
        self._queue.append(call)
        if len(self._queue) == 1:
            self._hire(call)
        return call.replies

    def submit_alone(self, payload: bytes, count: int, deadline: float) -> asyncio.Future[list[Any]]:
        call = _Call(payload, count, deadline, self.loop.create_future())
        self._alone.append(call)
        self._hire(call)
        return call.replies

    def drop(self) -> None:
        self._generation += 1
        self._empty()

    def _empty(self) -> None:
        self._era += 1
        idle, self._idle = self._idle, []
        for link in idle:
            _abort(link)

    async def close(self) -> None:
        self._closed = True
        workers = tuple(self._workers)
        for worker in workers:
            worker.cancel()
        if workers:
            await asyncio.wait(workers)
        for call in (*self._queue, *self._alone):
            call.fail(StoreUnavailable("the store is closed"))
        self._generation, self._era = self._generation + 1, self._era + 1
        idle, self._idle = self._idle, []
        for link in idle:
            with suppress(RedisError, OSError):
                await link.disconnect()
        guard, self.guard = self.guard, None
        if guard is not None:
            with suppress(RuntimeError):  # it is what calls us
                await guard.aclose()

    def _hire(self, call: _Call) -> None:
        if len(self._workers) < self._settings.pool:
            self._workers.add(self.loop.create_task(self._work()))
        else:  # those at work will take it, but perhaps too late
            self.loop.call_later(max(call.deadline - time.monotonic(), 0), self._expire)

    def _expire(self) -> None:
        now = time.monotonic()
        for queue in (self._queue, self._alone):
            late = [call for call in queue if call.deadline <= now]
            for call in late:
                queue.remove(call)
                call.fail(StoreUnavailable("all connections to Redis are in use"))

    async def _work(self) -> None:
        try:
            while self._alone or self._queue:
                if self._alone:
                    calls = [self._alone.popleft()]
                else:
                    calls, self._queue = self._queue, []
                await self._serve(calls)
        finally:
            # Here and not in a callback: who calls next must see that this worker takes no more.
            self._workers.discard(asyncio.current_task())

    async def _serve(self, calls: list[_Call]) -> None:
        link, generation, era = None, self._generation, self._era
        patience = max(call.deadline for call in calls) - time.monotonic()
        try:
            async with asyncio.timeout(patience):
                link = await self._take()
                await link.send_packed_command([call.payload for call in calls], check_health=False)
                lost = False
                for call in calls:
                    replies = [await _reply(link) for _ in range(call.count)]
                    if generation != self._generation:
                        raise StoreUnavailable("Redis moved to another server meanwhile")
                    if not call.replies.done():
                        call.replies.set_result(replies)
                    lost = lost or any(isinstance(reply, Exception) and is_lost(reply) for reply in replies)
        except BaseException as error:
            if link is not None:
                _abort(link)
            if isinstance(error, asyncio.CancelledError):
                for call in calls:
                    call.fail(StoreUnavailable("the store is closed"))
                raise
            self._empty()
            for call in calls:
                call.fail(error)
            if not isinstance(error, Exception):
                raise
            return
        if lost:
            self._empty()
        if era == self._era:
            self._idle.append(link)
        else:
            _abort(link)

    async def _take(self) -> LoopedLink:
        while self._idle:
            link = self._idle.pop()
            with suppress(RedisError, OSError):
                if not await is_stale(link):
                    return link
            _abort(link)
        link = looped_link(self._settings, self._address())
        try:
            await link.connect()
            if self._assurance is not None:
                await link.send_packed_command([packed(WHO)], check_health=False)
                greet(self._assurance, await _reply(link))
        except BaseException:
            _abort(link)
            raise
        return link


async def _reply(link: LoopedLink) -> Any:
    try:
        return await link.read_response()
    except ResponseError as error:
        return error


def _abort(link: LoopedLink) -> None:
    # `disconnect` would have to be awaited, and this is called where nobody can.
    link._close()  # pyright: ignore[reportPrivateUsage]


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
