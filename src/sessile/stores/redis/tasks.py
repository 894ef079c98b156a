"""The connections of the asynchronous door to one server, and how the commands of one turn of the loop travel together.

A command that finds all connections idle is sent where it is awaited: nothing would be gained by waiting. Any other is
queued, and in the next turn all that is queued is written at once, behind that first one if it is still under way and
else on a connection of its own. Fifty loads that start in one turn of the loop so cost two writes on one connection.
Replies are handed over by the connection itself, in order: who stops waiting harms nobody and leaves no reply unread,
and no task is needed but to open a connection.

Connections belong to a loop. Each loop that is met gets its own, and closes them when it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from redis.exceptions import ConnectionError, RedisError, ResponseError  # noqa: A004

from ...errors import StoreUnavailable
from .address import Address, Settings
from .failures import is_lost, wrapped
from .greeting import WHO, greet
from .link import MORE, Command, LoopedLink, looped_link, packed, probe, reader, taken_over_by_loop
from .standing import Assurance

_TOGETHER: Final = 0.02  # seconds: what is asked within them may wait for the same replies


class _Call:
    """Hold commands that were sent together by one caller, and who waits: for a reply, or for the list of several."""

    __slots__ = ("answer", "count", "deadline", "payload", "waits")

    def __init__(self, payload: bytes, count: int, deadline: float, answer: asyncio.Future[Any]) -> None:
        self.payload = payload
        self.count = count
        self.deadline = deadline
        self.answer = answer
        self.waits = False

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(wrapped(error))


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

    def ask(self, command: Command, deadline: float) -> Awaitable[Any]:
        """Send one command, with whatever else is asked in this turn of the loop, and return its reply.

        An error that Redis replied is returned, not raised.

        Raises:
            StoreUnavailable: there was no reply before the deadline (seconds of the monotonic clock).
        """
        lane = self._lane
        if lane is None or lane.loop is not asyncio.get_running_loop():
            return self._enter_and_ask(command, deadline)
        return lane.submit(packed(command), deadline)

    async def exchange(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send several commands on a connection that nobody else uses meanwhile, and return their replies."""
        lane = await self._enter()
        answer = await lane.submit_alone(b"".join(map(packed, commands)), len(commands), deadline)
        return cast("list[Any]", answer) if len(commands) > 1 else [answer]

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

    async def _enter_and_ask(self, command: Command, deadline: float) -> Any:
        return await (await self._enter()).submit(packed(command), deadline)

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


class _Pipe(asyncio.Protocol):
    """Be one connection, in the hands of redis-py until it is signed in, and then in ours.

    It carries one batch of calls at a time, or a lone call and the batch behind it, and hands their replies over in the
    turn of the loop that they come in.
    """

    def __init__(self, lane: _Lane, link: LoopedLink) -> None:
        transport, parse = taken_over_by_loop(link)
        self._lane = lane
        self._link = link
        self._transport = transport
        self._before = transport.get_protocol()
        self._reader = reader(parse)
        self._calls: deque[_Call] = deque()
        self._replies: list[Any] = []
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = 0.0
        self._generation = 0
        self.era = lane.era
        self._lost = False
        self._closed = False
        self._has_more = probe(transport.get_extra_info("socket").fileno())
        transport.set_protocol(self)

    def is_stale(self) -> bool:
        """Tell whether the server has closed the connection, or said something that nobody asked for."""
        return self._closed or self._transport.is_closing() or self._has_more()

    def takes_more(self, deadline: float) -> bool:
        """Tell whether a batch may go behind what is under way: not behind what began long ago and may be stuck."""
        lane = self._lane
        begun_lately = bool(self._calls) and deadline - self._deadline <= _TOGETHER
        return begun_lately and self._generation == lane.generation and self.era == lane.era

    def send(self, calls: list[_Call], generation: int) -> None:
        """Write the commands of a batch at once."""
        if len(calls) == 1:
            call = calls[0]
            deadline, payload = call.deadline, call.payload
        else:
            deadline = max([call.deadline for call in calls])
            payload = b"".join([call.payload for call in calls])
        if self._calls:
            deadline = max(deadline, self._deadline)
        else:
            self._generation, self._lost = generation, False
        self._calls.extend(calls)
        self._deadline = deadline
        # A timer outlives its batch: it then looks at the one that is under way, and most need none of their own.
        if self._timer is None or deadline < self._looks_at:
            self._watch()
        self._transport.write(payload)

    def abort(self, error: BaseException | None = None) -> None:
        """Close the connection; what it carries fails."""
        if self._closed:
            return
        self._closed = True
        self._lane.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        calls, self._calls = self._calls, deque()
        for call in calls:
            call.fail(error or StoreUnavailable("the connection to Redis failed"))
        self._transport.abort()
        _abort(self._link)

    def data_received(self, data: bytes) -> None:
        """Take what the server replied."""
        calls, replies, gets = self._calls, self._replies, self._reader.gets
        if not calls:
            self.abort()
            return
        try:
            self._reader.feed(data)
            while calls:
                reply = gets()
                if reply is MORE:
                    return
                if isinstance(reply, Exception):
                    if isinstance(reply, ConnectionError):
                        raise reply
                    self._lost = self._lost or is_lost(reply)
                call = calls[0]
                if call.count > 1:
                    replies.append(reply)
                    if len(replies) < call.count:
                        continue
                    reply, replies = replies, []
                    self._replies = replies
                if self._generation != self._lane.generation:
                    raise StoreUnavailable("Redis moved to another server meanwhile")
                calls.popleft()
                if not call.answer.done():
                    call.answer.set_result(reply)
        except RedisError as error:
            self._fail(error)
            return
        except StoreUnavailable as error:
            self._fail(error)
            return
        if self._lost:
            self._lane.empty()
        self._lane.free(self, fresh=self.era == self._lane.era)

    def eof_received(self) -> None:
        """Close what the server has closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Let what it carries fail."""
        carried = bool(self._calls)
        self._before.connection_lost(exc)
        if carried and not self._closed:
            self._fail(exc or ConnectionError("the server closed the connection"))
        else:
            self.abort()

    def _watch(self) -> None:
        """See to it that the batch is given up when it is late."""
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = self._deadline
        self._timer = self._lane.loop.call_later(max(self._deadline - time.monotonic(), 0), self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._calls:
            return
        if self._deadline <= time.monotonic():
            self._fail(TimeoutError())
        else:
            self._watch()

    def _fail(self, error: BaseException) -> None:
        self.abort(error)
        self._lane.empty()


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
        self.generation = 0  # replies to older ones do not count
        self.era = 0  # connections of older ones are not used again
        self._settings: Final = settings
        self._address: Final = address
        self._assurance: Final = assurance
        self._idle: list[_Pipe] = []
        self._pipes: set[_Pipe] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._queue: list[_Call] = []
        self._alone: deque[_Call] = deque()
        self._flushing = False
        self._leader: _Pipe | None = None  # carries a lone call, maybe
        self._closed = False

    def submit(self, payload: bytes, deadline: float) -> asyncio.Future[Any]:
        """Send a command if nothing else is under way, or queue it: all that are queued in a turn are sent together."""
        call = _Call(payload, 1, deadline, self.loop.create_future())
        idle = self._idle
        if idle and not self._flushing and not self._opening and len(idle) == len(self._pipes):
            pipe = self._take()
            if pipe is not None:
                self._leader = pipe
                pipe.send([call], self.generation)
                return call.answer
        self._queue.append(call)
        self._flush_soon()
        return call.answer

    def submit_alone(self, payload: bytes, count: int, deadline: float) -> asyncio.Future[Any]:
        """Queue commands that must have a connection to themselves."""
        call = _Call(payload, count, deadline, self.loop.create_future())
        self._alone.append(call)
        self._flush_soon()
        return call.answer

    def drop(self) -> None:
        """Use no connection again, and take no reply to what was asked before."""
        self.generation += 1
        self.empty()

    def empty(self) -> None:
        """Use no connection again that is open now."""
        self.era += 1
        for pipe in tuple(self._idle):
            pipe.abort()

    def forget(self, pipe: _Pipe) -> None:
        """Take note that a connection is closed; who waits for one may open another."""
        self._pipes.discard(pipe)
        if pipe in self._idle:
            self._idle.remove(pipe)
        if not self._closed and (self._queue or self._alone):
            self._flush()

    def free(self, pipe: _Pipe, *, fresh: bool) -> None:
        """Take back a connection that has carried its batch."""
        if fresh and not self._closed:
            self._idle.append(pipe)
            if self._queue or self._alone:
                self._flush()
        else:
            pipe.abort()

    async def close(self) -> None:
        """Close all connections; what is under way fails."""
        self._closed = True
        error = StoreUnavailable("the store is closed")
        opening = tuple(self._opening)
        for task in opening:
            task.cancel()
        if opening:
            await asyncio.wait(opening)
        calls, self._queue = [*self._queue, *self._alone], []
        self._alone.clear()
        for call in calls:
            call.fail(error)
        self.generation, self.era = self.generation + 1, self.era + 1
        for pipe in tuple(self._pipes):
            pipe.abort(error)
        await asyncio.sleep(0)  # so that the sockets are closed by then
        guard, self.guard = self.guard, None
        if guard is not None:
            with suppress(RuntimeError):  # it is what calls us
                await guard.aclose()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Give what is queued to connections, as far as there are any or may be."""
        self._flushing = False
        leader, self._leader = self._leader, None
        if self._queue and leader is not None and leader.takes_more(max([call.deadline for call in self._queue])):
            calls, self._queue = self._queue, []
            leader.send(calls, self.generation)
        while self._queue or self._alone:
            if self._closed:
                for call in (*self._queue, *self._alone):
                    call.fail(StoreUnavailable("the store is closed"))
                return
            pipe = self._take()
            if pipe is None and len(self._pipes) + len(self._opening) >= self._settings.pool:
                for call in (*self._queue, *self._alone):
                    self._expect(call)
                return
            if self._alone:
                calls = [self._alone.popleft()]
            else:
                calls, self._queue = self._queue, []
            if pipe is None:
                self._opening.add(self.loop.create_task(self._open(calls)))
            else:
                pipe.send(calls, self.generation)

    def _take(self) -> _Pipe | None:
        while self._idle:
            pipe = self._idle.pop()
            if not pipe.is_stale():
                return pipe
            pipe.abort()
        return None

    def _expect(self, call: _Call) -> None:
        """Let a call that finds all connections in use wait for one, but not for longer than it may take."""
        if not call.waits:
            call.waits = True
            self.loop.call_later(max(call.deadline - time.monotonic(), 0), self._expire)

    def _expire(self) -> None:
        now = time.monotonic()
        for queue in (self._queue, self._alone):
            late = [call for call in queue if call.deadline <= now]
            for call in late:
                queue.remove(call)
                call.fail(StoreUnavailable("all connections to Redis are in use"))

    async def _open(self, calls: list[_Call]) -> None:
        """Open a connection and send a batch on it."""
        link, generation, era = None, self.generation, self.era
        try:
            async with asyncio.timeout(max(call.deadline for call in calls) - time.monotonic()):
                link = looped_link(self._settings, self._address())
                await link.connect()
                if self._assurance is not None:
                    await link.send_packed_command([packed(WHO)], check_health=False)
                    greet(self._assurance, await _reply(link))
            pipe = _Pipe(self, link)
        except BaseException as error:
            if link is not None:
                _abort(link)
            failed = StoreUnavailable("the store is closed") if isinstance(error, asyncio.CancelledError) else error
            if not isinstance(error, asyncio.CancelledError):
                self.empty()
            for call in calls:
                call.fail(failed)
            if not isinstance(error, Exception):
                raise
            return
        finally:
            # Here and not in a callback: who is queued next must see that this one takes no more.
            self._opening.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            if self._queue or self._alone:
                self.loop.call_soon(self._flush)
        self._pipes.add(pipe)
        pipe.era = era
        pipe.send(calls, generation)


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
