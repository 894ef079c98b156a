"""The connection through which Redis says what changed: RESP3 with CLIENT TRACKING, read without waiting.

The near cache reads through the same connection that its invalidations come on. So what a reply says and what was
changed after it arrive in the order in which they happened, and the server that is read is the one that reports.

redis-py's own cache is of no use here: it refuses Redis before 7.4 and every Valkey, has no asynchronous door, and
looks through all its entries for each invalidation.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any, Final

import hiredis

from ...errors import StoreUnavailable
from .address import Address, Settings
from .failures import wrapped
from .greeting import WHO
from .link import Command, packed
from .standing import Standing

_CHUNK: Final = 1 << 16
_NOTHING_YET: Final = object()
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Broken(Exception):
    """Say that the connection is lost, or brought what is no reply: nobody vouches for what was read through it."""


class Channel:
    """Hold one connection. Sending and receiving never wait; `wait` does. Not for two threads at once."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection: Final = connection
        self._reader: Final[Any] = hiredis.Reader(notEnoughData=_NOTHING_YET)
        self._in: Final = _Ready(connection, "in")
        self._out: Final = _Ready(connection, "out")

    def send(self, payload: bytes) -> int:
        """Send what can be sent now, and return how many bytes that was.

        Raises:
            Broken: the connection is lost.
        """
        try:
            return self.connection.send(payload)
        except _NOT_NOW:
            return 0
        except OSError as error:
            raise Broken from error

    def send_all(self, payload: bytes, deadline: float) -> None:
        """Send everything.

        Raises:
            TimeoutError: it could not be sent before the deadline (seconds of the monotonic clock).
            Broken: the connection is lost.
        """
        while payload := payload[self.send(payload) :]:
            if not self._out.within(deadline - time.monotonic()):
                raise TimeoutError

    def receive(self) -> bool:
        """Take in what has arrived, without waiting; tell whether there was anything.

        Raises:
            Broken: the connection is lost.
        """
        any_came = False
        while self._in.now() or self._pending():
            try:
                data = self.connection.recv(_CHUNK)
            except _NOT_NOW:
                break
            except OSError as error:
                raise Broken from error
            if not data:
                raise Broken
            self._reader.feed(data)
            any_came = True
        return any_came

    def wait(self, deadline: float) -> None:
        """Wait until something arrives.

        Raises:
            TimeoutError: nothing did before the deadline (seconds of the monotonic clock).
        """
        if not self._pending() and not self._in.within(deadline - time.monotonic()):
            raise TimeoutError

    def replies(self) -> Iterator[Any]:
        """Return what has arrived whole, in order. An error that Redis replied is among it as an exception.

        Raises:
            Broken: what arrived is no RESP.
        """
        while True:
            try:
                reply = self._reader.gets()
            except hiredis.HiredisError as error:
                raise Broken from error
            if reply is _NOTHING_YET:
                return
            yield reply

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _pending(self) -> bool:
        return isinstance(self.connection, ssl.SSLSocket) and self.connection.pending() > 0


class _Ready:
    """Ask the system whether a socket is ready; where there is `poll`, for less than a microsecond."""

    __slots__ = ("_connection", "_poll", "_way")

    def __init__(self, connection: socket.socket, way: str) -> None:
        self._connection = connection
        self._way = way
        self._poll = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(connection, select.POLLIN if way == "in" else select.POLLOUT)

    def now(self) -> bool:
        return bool(self._poll.poll(0)) if self._poll is not None else self._select(0)

    def within(self, seconds: float) -> bool:
        seconds = max(seconds, 0)
        return bool(self._poll.poll(seconds * 1000)) if self._poll is not None else self._select(seconds)

    def _select(self, seconds: float) -> bool:
        one = [self._connection]
        readable, writable, _ = select.select(
            one if self._way == "in" else [], one if self._way == "out" else [], [], seconds
        )
        return bool(readable or writable)


def open_channel(settings: Settings, address: Address, deadline: float) -> Channel:
    """Connect, sign in and ask to be told of changes. This waits: the asynchronous door does it in a thread.

    Raises:
        StoreError: the server could not be reached, is a replica, or refuses (old, or the user may not do it).
    """
    try:
        connection = _connected(settings, address, deadline)
    except OSError as error:
        raise wrapped(error) from None
    channel = Channel(connection)
    try:
        login = (b"AUTH", settings.user or "default", settings.password) if settings.password else ()
        commands: list[Command] = [(b"HELLO", b"3", *login)]
        if settings.database:
            commands.append((b"SELECT", settings.database))
        commands += [(b"CLIENT", b"TRACKING", b"ON"), WHO]
        replies = _ask(channel, commands, deadline)
        for reply in replies[:-1]:
            if isinstance(reply, Exception):
                raise wrapped(reply)
        # What it may not say counts for it: then it vouches for nothing in the other connections either.
        if isinstance(replies[-1], bytes) and not Standing.of(replies[-1]).primary:
            raise StoreUnavailable("this Redis is a replica: the primary is elsewhere")
    except (Broken, OSError) as error:
        channel.close()
        raise wrapped(error if isinstance(error, OSError) else ConnectionError()) from None
    except BaseException:
        channel.close()
        raise
    return channel


def _connected(settings: Settings, address: Address, deadline: float) -> socket.socket:
    left = max(deadline - time.monotonic(), 0.001)
    if address.path:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(left)
            connection.connect(address.path)
        except BaseException:
            connection.close()
            raise
        return connection
    connection = socket.create_connection((address.host, address.port), left)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if settings.tls:
            context = ssl.create_default_context(cafile=settings.ca)
            connection = context.wrap_socket(connection, server_hostname=address.host)
    except BaseException:
        connection.close()
        raise
    return connection


def _ask(channel: Channel, commands: list[Command], deadline: float) -> list[Any]:
    channel.send_all(b"".join(map(packed, commands)), deadline)
    replies: list[Any] = []
    while len(replies) < len(commands):
        channel.wait(deadline)
        channel.receive()
        replies += [reply for reply in channel.replies() if not isinstance(reply, hiredis.PushNotification)]
    return replies
