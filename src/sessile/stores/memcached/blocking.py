"""One node, for the blocking door: a pool of sockets that any thread may use. Nothing here ever suspends."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from typing import Final

from ...errors import StoreUnavailable
from .nodes import Address, Login
from .protocol import Answer, Command, Malformed, login

_CHUNK: Final = 1 << 16


class BlockingNode:
    """Talk to the memcached at `address`; each exchange may take `timeout` seconds in all, connecting included."""

    def __init__(self, address: Address, *, timeout: float, secret: Login | None, tls: ssl.SSLContext | None) -> None:
        self._address = address
        self._timeout = timeout
        self._secret = secret
        self._tls = tls
        self._idle: deque[socket.socket] = deque()
        self._closed = False

    async def exchange(self, *commands: Command) -> list[object]:
        """Send the commands and wait for their replies."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        deadline = time.monotonic() + self._timeout
        connection = None
        try:
            connection = self._take() or self._connect(deadline)
            replies = _converse(connection, commands, deadline)
        except (OSError, ValueError, Malformed) as error:  # ValueError: the name is no host's
            # What the error says may hold addresses or stored bytes: only its kind goes on.
            if connection is not None:
                connection.close()
            raise StoreUnavailable(_why(error)) from None
        except BaseException:  # an interrupt: its reply would be the next request's
            if connection is not None:
                connection.close()
            raise
        self._idle.append(connection)
        self._close_late()
        return replies

    def close(self) -> None:
        """Close the connections that are not in use; the others close when their exchange ends."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _close_late(self) -> None:
        if self._closed:  # by another thread, meanwhile
            self.close()

    def forget(self) -> None:
        """After a fork, in the child: what is open belongs to the parent. Closing our copies does not disturb it."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                socket.socket(fileno=connection.detach()).close()  # of a TLS socket, too, without a farewell

    def _take(self) -> socket.socket | None:
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if not _speaks(connection):
                    return connection
                connection.close()  # the server hung up, or sent what nobody asked for
        return None

    def _connect(self, deadline: float) -> socket.socket:
        connection = socket.create_connection(self._address, _left(deadline))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection.settimeout(_left(deadline))
                connection = self._tls.wrap_socket(connection, server_hostname=self._address.host)
            if self._secret is not None and _converse(connection, (login(*self._secret),), deadline) != [Answer.STORED]:
                raise Malformed("the login was refused")
        except BaseException:
            connection.close()
            raise
        return connection


def _converse(connection: socket.socket, commands: tuple[Command, ...], deadline: float) -> list[object]:
    connection.settimeout(_left(deadline))
    connection.sendall(b"".join([command.wire for command in commands]))
    buffer, position, replies = bytearray(), 0, list[object]()
    for command in commands:
        while position == len(buffer) or (parsed := command.parse(buffer, position)) is None:
            connection.settimeout(_left(deadline))
            received = connection.recv(_CHUNK)
            if not received:
                raise ConnectionResetError
            buffer += received
        reply, position = parsed
        replies.append(reply)
    if position != len(buffer):
        raise Malformed("more than was asked for")
    return replies


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _speaks(connection: socket.socket) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([connection], [], [], 0)[0])


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "a memcached node did not answer in time"
    if isinstance(error, Malformed):
        return f"a memcached node does not speak its protocol: {error}"
    return "a memcached node could not be reached, or hung up"
