"""One node, for the asynchronous door: one connection an event loop, shared by all requests in flight.

Requests of one tick leave in one write, and replies come back in the order of the questions. A request that is
cancelled leaves its place in that order: its reply is read and thrown away, so nobody else can be given it (aiomcache
0.8 puts such a connection back into its pool). A node that lets one request wait too long loses the connection and
all that wait on it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from ...errors import StoreUnavailable
from .nodes import Address, Login
from .protocol import Answer, Command, Malformed, login


class AsyncNode:
    """Talk to the memcached at `address`, from any number of event loops; an exchange may take `timeout` seconds."""

    def __init__(self, address: Address, *, timeout: float, secret: Login | None, tls: ssl.SSLContext | None) -> None:
        self._address = address
        self._timeout = timeout
        self._secret = secret
        self._tls = tls
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}
        self._closed = False

    async def exchange(self, *commands: Command) -> list[object]:
        """Send the commands and wait for their replies."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        line = self._lines.get(loop)
        if line is None:
            for ended in [other for other in tuple(self._lines) if other.is_closed()]:
                self._lines.pop(ended, None)
            line = self._lines[loop] = _Line()
        talk = line.talk
        if talk is None or talk.lost:
            talk = await self._connected(line, deadline)
        return await talk.ask(commands, deadline)

    async def close(self) -> None:
        """Close this loop's connection; those of loops that have ended are closed already."""
        self._closed = True
        for loop, line in tuple(self._lines.items()):
            if loop is asyncio.get_running_loop():
                await line.close()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(line.hang_up)

    def forget(self) -> list[object]:
        """After a fork, in the child: let go of everything, and return what must not be closed here.

        The parent's loop watches those sockets through a file that both processes share.
        """
        lines, self._lines = self._lines, {}
        return list(lines.values())

    async def _connected(self, line: _Line, deadline: float) -> _Talk:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline), line.connecting:
                if line.talk is not None and not line.talk.lost:
                    return line.talk  # somebody else has connected meanwhile
                await line.close()
                name = None if self._tls is None else self._address.host
                _, talk = await loop.create_connection(_Talk, *self._address, ssl=self._tls, server_hostname=name)
                line.talk = talk
                if self._secret is not None and await talk.ask((login(*self._secret),), deadline) != [Answer.STORED]:
                    talk.hang_up("it refused the login")
                    raise StoreUnavailable("a memcached node refused the login")
                await line.close_with_the_loop()
        except TimeoutError:
            raise StoreUnavailable("a memcached node did not answer in time") from None
        except (OSError, ValueError):  # ValueError: the name is no host's
            raise StoreUnavailable("a memcached node could not be reached") from None
        return talk


class _Line:
    """Hold what one event loop has of one node."""

    __slots__ = ("_guard", "connecting", "talk")

    def __init__(self) -> None:
        self.connecting = asyncio.Lock()
        self.talk: _Talk | None = None
        self._guard: AsyncGenerator[None, None] | None = None

    async def close_with_the_loop(self) -> None:
        # `asyncio.run` ends open asynchronous generators before it closes its loop: the one sign it gives in time.
        self._guard = self._until_the_end()
        await anext(self._guard)

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        talk = self.talk
        try:
            yield
        finally:
            if talk is not None and not talk.lost:
                talk.hang_up("it is closed")
                await talk.gone.wait()

    async def close(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.aclose()
        self.hang_up()

    def hang_up(self) -> None:
        if self.talk is not None:
            self.talk.hang_up("it is closed")


class _Asked(NamedTuple):
    commands: tuple[Command, ...]
    replies: list[object]
    answered: asyncio.Future[list[object]]
    deadline: float


class _Talk(asyncio.Protocol):
    """Be one connection: questions out in batches, replies in matched to them in order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[_Asked] = deque()
        self._out: list[bytes] = []
        self._buffer = bytearray()
        self._watch: asyncio.TimerHandle | None = None
        self.gone = asyncio.Event()
        self.lost = False

    async def ask(self, commands: tuple[Command, ...], deadline: float) -> list[object]:
        if self.lost:
            raise StoreUnavailable("a memcached node hung up")
        answered: asyncio.Future[list[object]] = self._loop.create_future()
        self._waiting.append(_Asked(commands, [], answered, deadline))
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += [command.wire for command in commands]
        if self._watch is None:
            self._watch = self._loop.call_at(deadline, self._look)
        return await answered

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer, position, answered = self._buffer, 0, list[_Asked]()
        buffer += data
        try:
            while self._waiting:
                asked = self._waiting[0]
                parsed = asked.commands[len(asked.replies)].parse(buffer, position)
                if parsed is None:
                    break
                reply, position = parsed
                asked.replies.append(reply)
                if len(asked.replies) == len(asked.commands):
                    answered.append(self._waiting.popleft())
            del buffer[:position]
            if buffer and not self._waiting:
                raise Malformed("more than was asked for")
        except Malformed as error:
            self._waiting.extendleft(reversed(answered))  # what came with nonsense is not believed either
            self.hang_up(f"it does not speak its protocol: {error}")
            return
        for asked in answered:
            if not asked.answered.done():
                asked.answered.set_result(asked.replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self.hang_up("it hung up")
        self.gone.set()

    def hang_up(self, why: str) -> None:
        self.lost = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            if not asked.answered.done():
                asked.answered.set_exception(StoreUnavailable(f"a memcached node failed: {why}"))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self.lost:
            self._transport.write(b"".join(out))

    def _look(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        deadline = self._waiting[0].deadline
        if deadline <= self._loop.time():
            self.hang_up("it did not answer in time")
        else:
            self._watch = self._loop.call_at(deadline, self._look)
