"""Which node holds which key, and how URLs name the nodes.

Keys fall into 1,024 slots; of all nodes, the one whose hash with the slot is highest has it (rendezvous hashing): a
node that is added or removed from the URL moves its own share of the keys and no other, and the order of the names
plays no part. Every process must be given the same names.

No node is ever left out because it does not answer. Clients that do so bring ended sessions back: the end is written to
the stand-in, the node returns and still has the record (measured: 133 of 133 after a freeze of 0.3 s).
"""

from __future__ import annotations

import re
import zlib
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote

from ...errors import ConfigurationError
from ..url import host
from .protocol import Command

PORT: Final = 11211
_SLOTS: Final = 1024
_PLACE: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]{0,5}))?")


class Address(NamedTuple):
    """Hold where a node listens."""

    host: str
    port: int


class Login(NamedTuple):
    """Hold what memcached's `-Y` asks for."""

    user: str
    password: str


class Node(Protocol):
    """Talk to one memcached."""

    async def exchange(self, *commands: Command) -> list[object]:
        """Send the commands in one write and return their replies, in their order.

        Raises:
            StoreUnavailable: the node did not answer all of them in time, or not in its protocol. Nobody knows then
                which of them were carried out.
        """
        ...


def place(addresses: tuple[Address, ...]) -> tuple[int, ...]:
    """Return for each slot the position of its node."""
    names = [f"{host}:{port}".encode() for host, port in addresses]
    return tuple(
        max(range(len(names)), key=lambda node: blake2b(b"%d %b" % (slot, names[node]), digest_size=8).digest())
        for slot in range(_SLOTS)
    )


def slot_of(key: bytes) -> int:
    """Return the slot that a key falls into."""
    return zlib.crc32(key) % _SLOTS


def parse_authority(authority: str) -> tuple[tuple[Address, ...], Login | None]:
    """Read `user:password@host1,host2:port,[::1]:port`.

    Raises:
        ConfigurationError: it names no node, one twice, or is malformed. The message repeats nothing of it.
    """
    secret, at, hosts = authority.rpartition("@")
    login = None
    if at:
        user, _, password = secret.partition(":")
        login = Login(unquote(user), unquote(password))
        if not user or not password or any(mark in part for part in login for mark in " \r\n\0"):
            raise ConfigurationError("memcached:// needs both user and password before the '@', without spaces")
    addresses = tuple(_address(host) for host in hosts.split(","))
    if len(set(addresses)) < len(addresses):
        raise ConfigurationError("memcached:// names a node twice")
    return addresses, login


def _address(place: str) -> Address:
    match = _PLACE.fullmatch(place)
    try:
        if match is None or not 0 < int(match[3] or PORT) < 65_536:
            raise ValueError
        name = host(match[1] or unquote(match[2]), bracketed=bool(match[1]))
    except ValueError:
        raise ConfigurationError("memcached:// needs its nodes: memcached://host1,host2:11211") from None
    return Address(name.lower(), int(match[3] or PORT))
