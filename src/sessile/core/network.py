"""Who is really asking: the client's address and scheme behind proxies, and the network that is remembered of it.

Nothing a header says is believed until the address that connected is a configured proxy. From there the list of
forwarded addresses is walked from the right, and the first address that is not a trusted proxy is the client: what
stands left of it was written by the client itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from ..errors import ConfigurationError
from .requests import Facts

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_HOPS: Final = 32
# Longer texts are neither an address with zone and port nor a host: headers of kilobytes must not be remembered.
_MAX_ADDRESS_CHARS: Final = 128
_MAX_HOST_CHARS: Final = 264


class Client(NamedTuple):
    """Hold what is believed of the client: address ("" unknown), scheme and host."""

    address: str
    scheme: str
    host: str


class Proxies:
    """Hold which proxies are trusted, and which header they write.

    `trusted` lists addresses or networks, or "unix" for peers without an address. `header` is the one kind of header
    that the proxies set and overwrite: `x-forwarded` (X-Forwarded-For, -Proto, -Host) or `forwarded` (RFC 7239).
    """

    __slots__ = ("_unix", "header", "networks")

    def __init__(
        self, trusted: Iterable[str] = (), *, header: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    ) -> None:
        networks: list[Network] = []
        self._unix = False
        for entry in trusted:
            if entry == "unix":
                self._unix = True
                continue
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError as error:
                raise ConfigurationError(f"trusted proxy {entry!r} is neither an address nor a network") from error
        if header not in ("x-forwarded", "forwarded"):
            raise ConfigurationError("the proxies' header is 'x-forwarded' or 'forwarded'")
        self.networks = tuple(networks)
        self.header = header

    def __bool__(self) -> bool:
        return bool(self.networks) or self._unix

    def trusts(self, address: str) -> bool:
        """Tell whether `address` is a trusted proxy."""
        if not address:
            return self._unix
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self.networks)

    def client(self, facts: Facts) -> Client:
        """Return the client of this request."""
        if not self or not self.trusts(facts.peer):
            return Client(facts.peer, facts.scheme, facts.host)
        hops = self._forwarded(facts) if self.header == "forwarded" else self._x_forwarded(facts)
        found = Client(facts.peer, facts.scheme, facts.host)
        for hop in reversed(hops[-MAX_HOPS:]):
            address = parse_address(hop.address)
            # An unreadable hop was not written by a proxy that we trust; whoever forwarded it is the last one known.
            if address is None:
                return Client(found.address, hop.scheme or found.scheme, hop.host or found.host)
            found = Client(str(address), hop.scheme or found.scheme, hop.host or found.host)
            if not self.trusts(found.address):
                break
        return found

    @staticmethod
    def _x_forwarded(facts: Facts) -> list[Client]:
        addresses = _split(facts.header("x-forwarded-for"))
        protos = _split(facts.header("x-forwarded-proto"))
        hosts = _split(facts.header("x-forwarded-host"))
        hops = addresses or ([facts.peer] if protos or hosts else [])
        # Proxies either append to every list or overwrite it with one value: the last entry is the nearest proxy's.
        return [
            Client(address, _scheme(_aligned(protos, index, len(hops))), _aligned(hosts, index, len(hops)))
            for index, address in enumerate(hops)
        ]

    @staticmethod
    def _forwarded(facts: Facts) -> list[Client]:
        hops: list[Client] = []
        for element in _split(facts.header("forwarded")):
            pairs: dict[str, str] = {}
            for pair in element.split(";"):
                name, _, value = pair.partition("=")
                pairs[name.strip().lower()] = value.strip().strip('"')
            hops.append(Client(pairs.get("for", ""), _scheme(pairs.get("proto", "")), pairs.get("host", "")))
        return hops


def _split(value: str | None) -> list[str]:
    return [part.strip() for part in value.split(",")] if value else []


def _aligned(values: list[str], index: int, count: int) -> str:
    if not values:
        return ""
    position = index - (count - len(values))
    return values[position] if position >= 0 else ""


def _scheme(value: str) -> str:
    lowered = value.lower()
    return lowered if lowered in ("http", "https") else ""


def parse_address(text: str) -> Address | None:
    """Read an address as servers and proxies write it: with a port, in brackets, or IPv4 mapped into IPv6."""
    return _parse_address(text) if len(text) <= _MAX_ADDRESS_CHARS else None


@lru_cache(maxsize=4096)
def _parse_address(text: str) -> Address | None:
    bare = text.strip().strip('"')
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def prefix(address: str) -> bytes:
    """Return the network that is remembered of an address: /24 of IPv4, /64 of IPv6; b"" for anything else (R99)."""
    parsed = parse_address(address)
    if parsed is None:
        return b""
    return b"4" + parsed.packed[:3] if parsed.version == 4 else b"6" + parsed.packed[:8]


def is_loopback_host(host: str) -> bool:
    """Tell whether browsers treat this host as trustworthy on plain http: localhost, *.localhost, 127/8, [::1]."""
    return len(host) <= _MAX_HOST_CHARS and _is_loopback_host(host)


@lru_cache(maxsize=1024)
def _is_loopback_host(host: str) -> bool:
    name = host.lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = parse_address(name)
    return address is not None and address.is_loopback
