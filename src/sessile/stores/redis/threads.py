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
        # Who finds a connection in this list may use it: only whoever finds none has to count, and maybe to wait.
        self._idle: list[_Pipe] = []
        self._returned = threading.Condition()
        self._open = 0
        self._waiting = 0

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
        generation = self._generation
        pipe = self._take(deadline)
        try:
            replies = pipe.talk(commands, deadline)
        except BaseException as error:
            self._discard(pipe)
            if isinstance(error, _FAILURES):
                self._empty()
                raise wrapped(error) from None
            raise
        if generation != self._generation:
            self._discard(pipe)
            raise StoreUnavailable("Redis moved to another server meanwhile")
        for reply in replies:
            if isinstance(reply, Exception) and is_lost(reply):
                self._empty()
        if pipe.era != self._era:
            self._discard(pipe)
            return replies
        self._idle.append(pipe)
        if self._waiting:
            with self._returned:
                self._returned.notify()
        return replies

    def drop(self) -> None:
        """Give up all connections, and what is being read through them."""
        # In this order: who sees the new generation takes no connection of an old era.
        self._empty()
        with self._returned:
            self._generation += 1

    async def close(self) -> None:
        """Close the connections; later calls raise `StoreUnavailable`."""
        self._closed = True
        self.drop()

    def forget(self) -> object:
        """Begin anew in a forked child and return what belongs to the parent."""
        abandoned, self._idle = self._idle, []
        self._returned, self._open, self._waiting = threading.Condition(), 0, 0
        self._era += 1
        return abandoned

    def _empty(self) -> None:
        """Give up the connections, but not what others are reading: each will see for itself."""
        with self._returned:
            self._era += 1
        with suppress(IndexError):
            while True:
                self._discard(self._idle.pop())

    def _discard(self, pipe: _Pipe) -> None:
        """Close a connection that nobody else holds; another may be opened for it."""
        try:
            with suppress(OSError):
                pipe.disconnect()
        finally:
            self._release()

    def _release(self) -> None:
        with self._returned:
            self._open -= 1
            self._returned.notify()

    def _take(self, deadline: float) -> _Pipe:
        """Return a connection that nobody else uses until it is put back among the idle ones or discarded."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        while True:
            try:
                pipe = self._idle.pop()
            except IndexError:
                waited = self._wait(deadline)
                if waited is None:
                    return self._connect(deadline)
                pipe = waited
            usable = False
            try:
                usable = pipe.era == self._era and not pipe.is_stale()
            finally:
                if not usable:
                    self._discard(pipe)
            if usable:
                return pipe

    def _wait(self, deadline: float) -> _Pipe | None:
        """Return a connection as soon as there is one, or None, counted as open, if one more may be."""
        with self._returned:
            # It counts as waiting before it looks: whoever returns a connection after that look will see that.
            self._waiting += 1
            try:
                while True:
                    with suppress(IndexError):
                        return self._idle.pop()
                    if self._open < self._settings.pool:
                        self._open += 1
                        return None
                    if not self._returned.wait(max(deadline - time.monotonic(), 0)):
                        raise StoreUnavailable("all connections to Redis are in use")
            finally:
                self._waiting -= 1

    def _connect(self, deadline: float) -> _Pipe:
        """Open a connection, which counts as open already."""
        link: BlockingLink | None = None
        era = self._era
        try:
            if self._closed:  # while we waited
                raise StoreUnavailable("the store is closed")
            link = blocking_link(self._settings, self._address(), deadline - time.monotonic())
            link.connect()
            pipe = _Pipe(link, era)
            if self._greeted:
                greet(self.assurance, pipe.talk((WHO,), deadline)[0])
        except BaseException as error:
            try:
                if link is not None:
                    link.disconnect()
            finally:
                self._release()
            if isinstance(error, _FAILURES):
                self._empty()
                raise wrapped(error) from None
            raise
        return pipe


class _Pipe:
    """Be one connection, in the hands of redis-py until it is signed in, and then in ours: fewer steps a command."""

    __slots__ = ("_has_more", "_limit", "_link", "_reader", "_socket", "era")

    def __init__(self, link: BlockingLink, era: int) -> None:
        self.era: Final = era
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
        feed(self._receive())
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
            feed(self._receive())

    def _receive(self) -> bytes:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data

    def disconnect(self) -> None:
        """Close the socket."""
        self._link.disconnect()

    def _keep_to(self, deadline: float) -> None:
        """Let the socket wait for what is left of the verb's time; a little more is not worth a call of the kernel."""
        left = max(deadline - time.monotonic(), 0.001)
        if not left <= self._limit <= left * _SLACK:
            self._limit = left * _SLACK
            self._socket.settimeout(self._limit)
