"""Make one connection of redis-py, for either door, from the settings.

The store uses redis-py's connections and not its clients: a client takes a connection from its pool for every command,
decodes what need not be decoded and repeats commands that must not be repeated.
"""

from __future__ import annotations

import asyncio
import inspect
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

import hiredis
import redis.asyncio.connection as looped
import redis.connection as blocking
from redis.exceptions import InvalidResponse

from .address import Address, Settings

_pack: Final = cast("Callable[[Command], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]

# redis-py introduces itself on each connection, with a command that an ACL of Redis 7.0 cannot even name.
_SILENT: Final[dict[str, None]] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(blocking.AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)

MORE: Final = object()

Parse = Callable[[str], Exception]
Word = bytes | str | int | float
Command = tuple[Word, ...]


class BlockingLink(Protocol):
    """Be the part of `redis.connection.Connection` that is used."""

    def connect(self) -> None:
        """Connect and sign in."""
        ...

    def disconnect(self) -> None:
        """Close the socket."""
        ...

    def can_read(self, timeout: float = 0) -> bool:
        """Tell whether something has come that nobody asked for: the server has closed it, mostly."""
        ...

    def send_packed_command(self, command: Sequence[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        """Write."""
        ...

    def read_response(self) -> Any:
        """Read one reply; raise it if it is an error."""
        ...


class LoopedLink(Protocol):
    """Be the part of `redis.asyncio.connection.Connection` that is used."""

    async def connect(self) -> None:
        """Connect and sign in."""
        ...

    async def disconnect(self) -> None:
        """Close the socket and wait for that."""
        ...

    def _close(self) -> None: ...

    async def send_packed_command(self, command: Sequence[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        """Write."""
        ...

    async def read_response(self) -> Any:
        """Read one reply; raise it if it is an error."""
        ...


def packed(command: Command) -> bytes:
    """Return a command as it is sent."""
    return _pack(command)


def blocking_link(settings: Settings, address: Address, patience: float | None = None) -> BlockingLink:
    """Return a connection for the blocking door; it connects when it is told to, within `patience` seconds."""
    options = _options(settings, address)
    options["socket_timeout"] = settings.timeout if patience is None else max(patience, 0.001)
    if not address.path:
        options["socket_connect_timeout"] = options["socket_timeout"]
    if address.path:
        kind: Any = blocking.UnixDomainSocketConnection
    else:
        kind = blocking.SSLConnection if settings.tls else blocking.Connection
    return cast("BlockingLink", kind(**options))


def looped_link(settings: Settings, address: Address) -> LoopedLink:
    """Return a connection for the running loop. Its reads have no timeout: whoever awaits them has one."""
    options = _options(settings, address)
    options["socket_timeout"] = None
    if address.path:
        kind: Any = looped.UnixDomainSocketConnection
    else:
        kind = looped.SSLConnection if settings.tls else looped.Connection
    return cast("LoopedLink", kind(**options))


def taken_over(link: BlockingLink) -> tuple[socket.socket, Parse]:
    """Return the socket of a link that is signed in, and what makes an exception of an error's text."""
    inside = cast("Any", link)
    return inside._sock, inside._parser.parse_error


def taken_over_by_loop(link: LoopedLink) -> tuple[asyncio.Transport, Parse]:
    """Return the transport of a link that is signed in, and what makes an exception of an error's text."""
    inside = cast("Any", link)
    return inside._writer.transport, inside._parser.parse_error


def reader(parse: Parse) -> hiredis.Reader:
    """Return what cuts replies out of the bytes that come; `MORE` stands for one that is not whole yet."""
    return hiredis.Reader(protocolError=InvalidResponse, replyError=parse, notEnoughData=MORE)


def probe(descriptor: int) -> Callable[[], bool]:
    """Return what tells whether a socket has something to read, its end among it."""
    if not hasattr(select, "poll"):  # on Windows
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: bool(poll.poll(0))


def _options(settings: Settings, address: Address) -> dict[str, Any]:
    options: dict[str, Any] = {
        **_SILENT,
        "db": settings.database,
        "username": settings.user,
        "password": settings.password,
        "protocol": 2,
    }
    if address.path:
        return options | {"path": address.path}
    options |= {
        "host": address.host,
        "port": address.port,
        "socket_connect_timeout": settings.timeout,
        "socket_keepalive": True,
    }
    if settings.tls:
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": settings.ca}
    return options
