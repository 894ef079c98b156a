"""The connections of the blocking door to one server: a pool that many threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import ConnectionError, RedisError  # noqa: A004

from ...errors import StoreUnavailable
from .address import Address, Settings
from .failures import is_lost, wrapped
from .greeting import WHO, greet
from .link import MORE, BlockingLink, Command, blocking_link, packed, probe, reader, taken_over
from .standing import Assurance

_CHUNK: Final = 1 << 16
_SLACK: Final = 1.05
# The third: a name that cannot be a host's.
_FAILURES: Final = (RedisError, OSError, UnicodeError, StoreUnavailable)


class BlockingNode:
    """Send commands to one server. `address` says where it is when a connection is opened.

    Without an `assurance` it is not asked whether it is a primary: a Sentinel is none.
    """

    def __init__(self, settings: Settings, address: Callable[[], Address], assurance: Assurance | None) -> None:
        self.assurance: Final = assurance or Assurance(int)
        self._greeted: Final = assurance is not None
        self._settings: Final = settings
        self._address: Final = address
        self._closed = False
        self._generation = 0  # replies to older ones do not count
        self._era = 0  # connections of older ones are not used again
        self._idle: list[_Pipe] = []
        self._slots = threading.Semaphore(settings.pool)

    async def ask(self, command: Command, deadline: float) -> Any:
        """Send one command and return its reply; an error that Redis replied is returned, not raised.

        Raises:
            StoreUnavailable: there was no reply before the deadline (seconds of the monotonic clock).
        """
        return self.talk((command,), deadline)[0]

    async def exchange(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send several commands on one connection and return their replies."""
        return self.talk(commands, deadline)

    def talk(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Do what `exchange` does, without a coroutine."""
        slots, generation, era = self._slots, self._generation, self._era
        if not slots.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise StoreUnavailable("all connections to Redis are in use")
        try:
            pipe = None
            try:
                pipe = self._take(deadline)
                replies = pipe.talk(commands, deadline)
            except BaseException as error:
                if pipe is not None:
                    pipe.disconnect()
                if isinstance(error, _FAILURES):
                    self._empty()
                    raise wrapped(error) from None
                raise
            if generation != self._generation:
                pipe.disconnect()
                raise StoreUnavailable("Redis moved to another server meanwhile")
            if any(isinstance(reply, Exception) and is_lost(reply) for reply in replies):
                self._empty()
            if era == self._era:
                self._idle.append(pipe)
            else:
                pipe.disconnect()
            return replies
        finally:
            slots.release()

    def drop(self) -> None:
        """Give up all connections, and what is being read through them."""
        self._generation += 1
        self._empty()

    async def close(self) -> None:
        """Close the connections; later calls raise `StoreUnavailable`."""
        self._closed = True
        self.drop()

    def forget(self) -> object:
        """Begin anew in a forked child and return what belongs to the parent."""
        abandoned, self._idle = self._idle, []
        self._slots = threading.Semaphore(self._settings.pool)
        return abandoned

    def _empty(self) -> None:
        """Give up the connections, but not what others are reading: each will see for itself."""
        self._era += 1
        idle, self._idle = self._idle, []
        for pipe in idle:
            with suppress(OSError):
                pipe.disconnect()

    def _take(self, deadline: float) -> _Pipe:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        while True:
            try:
                pipe = self._idle.pop()
            except IndexError:
                break
            if not pipe.is_stale():
                return pipe
            pipe.disconnect()
        link = blocking_link(self._settings, self._address(), deadline - time.monotonic())
        try:
            link.connect()
            pipe = _Pipe(link)
            if self._greeted:
                greet(self.assurance, pipe.talk((WHO,), deadline)[0])
        except BaseException:
            link.disconnect()
            raise
        return pipe


class _Pipe:
    """Be one connection, in the hands of redis-py until it is signed in, and then in ours: fewer steps a command."""

    __slots__ = ("_has_more", "_limit", "_link", "_reader", "_socket")

    def __init__(self, link: BlockingLink) -> None:
        self._link = link
        self._socket, parse = taken_over(link)
        self._reader = reader(parse)
        self._has_more = probe(self._socket.fileno())
        self._limit = 0.0

    def is_stale(self) -> bool:
        """Tell whether the server has closed the connection, or said something that nobody asked for."""
        return self._has_more()

    def talk(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send commands and return their replies; what the server refused stands among them."""
        replies: list[Any] = []
        feed, gets = self._reader.feed, self._reader.gets
        self._keep_to(deadline)
        self._socket.sendall(packed(commands[0]) if len(commands) == 1 else b"".join(map(packed, commands)))
        while True:
            reply = gets()
            if reply is not MORE:
                if isinstance(reply, ConnectionError):
                    raise reply
                replies.append(reply)
                if len(replies) == len(commands):
                    return replies
                continue
            self._keep_to(deadline)
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionError("the server closed the connection")
            feed(data)

    def disconnect(self) -> None:
        """Close the socket."""
        self._link.disconnect()

    def _keep_to(self, deadline: float) -> None:
        """Let the socket wait for what is left of the verb's time; a little more is not worth a call of the kernel."""
        left = max(deadline - time.monotonic(), 0.001)
        if not left <= self._limit <= left * _SLACK:
            self._limit = left * _SLACK
            self._socket.settimeout(self._limit)
