"""The connections of the blocking door to one server: a pool that many threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from ...errors import StoreUnavailable
from .address import Address, Settings
from .failures import is_lost, wrapped
from .greeting import WHO, greet
from .link import BlockingLink, Command, blocking_link, packed
from .standing import Assurance


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
        self._idle: list[BlockingLink] = []
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
            link = None
            try:
                link = self._take(deadline)
                replies = _talk(link, commands, deadline)
            except BaseException as error:
                if link is not None:
                    link.disconnect()
                if isinstance(
                    error, RedisError | OSError | UnicodeError | StoreUnavailable
                ):  # a name that is no host's
                    self._empty()
                    raise wrapped(error) from None
                raise
            if generation != self._generation:
                link.disconnect()
                raise StoreUnavailable("Redis moved to another server meanwhile")
            if any(isinstance(reply, Exception) and is_lost(reply) for reply in replies):
                self._empty()
            if era == self._era:
                self._idle.append(link)
            else:
                link.disconnect()
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
        for link in idle:
            with suppress(OSError):
                link.disconnect()

    def _take(self, deadline: float) -> BlockingLink:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                break
            try:
                if not link.can_read():  # else the server has closed it
                    return link
            except (RedisError, OSError):
                pass
            link.disconnect()
        link = blocking_link(self._settings, self._address(), deadline - time.monotonic())
        try:
            link.connect()
            if self._greeted:
                greet(self.assurance, _talk(link, (WHO,), deadline)[0])
        except BaseException:
            link.disconnect()
            raise
        return link


def _talk(link: BlockingLink, commands: Sequence[Command], deadline: float) -> list[Any]:
    _limit(link, deadline)
    link.send_packed_command([b"".join(map(packed, commands))], check_health=False)
    replies: list[Any] = []
    for _ in commands:
        if replies:
            _limit(link, deadline)
        try:
            replies.append(link.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


def _limit(link: BlockingLink, deadline: float) -> None:
    # redis-py sets a socket's timeout once; of the verb's budget a part may be spent.
    link._sock.settimeout(max(deadline - time.monotonic(), 0.001))  # pyright: ignore[reportPrivateUsage]
