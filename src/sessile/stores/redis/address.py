"""Read a Redis or Valkey URL: where the servers are, as whom to sign in, and the options.

redis://[user:password@]host[:port][/database]        valkey:// is the same, rediss:// and valkeys:// with TLS
redis+unix:///path/to/socket[?db=database]
redis+sentinel://[user:password@]host[:port],host,host/service[/database]
redis+cluster://[user:password@]host[:port],host

?timeout=1      seconds that a whole verb may take, with its retries
&pool=20        connections to one server at most
&prefix=sessile:    what all keys begin with
&cache=near     keep sessions in the process and be told by Redis when they change (`near`)
&entries=10000  of the near cache, at most
&replicas=2     how many replicas there are, if more than are seen
&lease=0        Sentinel: go on reading from a primary that nobody vouches for
&ca=/path.pem   TLS: the certificates to trust instead of the system's
&sentinel_user=name&sentinel_password=word    if Sentinels ask for it
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import unquote

from ...errors import ConfigurationError
from ..url import StoreUrl, host, seconds, text, whole_number

Topology = Literal["single", "sentinel", "cluster"]

_PLACE: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?")
_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Address:
    """Say where one server listens: a host and port, or a socket's path."""

    host: str
    port: int
    path: str = ""


class Place(NamedTuple):
    """Say where the server of a key is. The mark changes whenever that may be another one, or an old one again."""

    address: Address
    mark: object = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Hold what a URL says. Its repr shows the topology alone: the rest may be secret."""

    topology: Topology
    addresses: tuple[Address, ...] = field(repr=False)
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    database: int = field(default=0, repr=False)
    service: str = field(default="", repr=False)
    tls: bool = False
    ca: str | None = field(default=None, repr=False)
    timeout: float = 1.0
    pool: int = 20
    prefix: str = field(default="sessile:", repr=False)
    replicas: int = 0
    cache: bool = False
    entries: int = 10_000
    lease: bool = True
    sentinel_user: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: StoreUrl) -> Settings:
        """Read the URL.

        Raises:
            ConfigurationError: a part is missing or malformed, or an option is unknown.
        """
        scheme, _, kind = url.scheme.partition("+")
        tls = scheme in ("rediss", "valkeys")
        topology: Topology = "sentinel" if kind == "sentinel" else "cluster" if kind == "cluster" else "single"
        user, password, hosts = _credentials(url)
        options: dict[str, Any] = {"topology": topology, "user": user, "password": password, "tls": tls}
        options |= url.options(_readers(tls=tls, unix=kind == "unix", topology=topology))
        options["database"] = options.pop("db", 0)
        if kind == "unix":
            if hosts or not url.path[1:] or "\0" in url.path:
                raise ConfigurationError(f"{url.scheme}:// takes a path and no host: {url.scheme}:///run/redis.sock")
            return cls(addresses=(Address("", 0, url.path),), **options)
        parts = [part for part in url.path.split("/") if part]
        if topology == "sentinel":
            if not parts or _SERVICE.fullmatch(parts[0]) is None:
                raise ConfigurationError(f"{url.scheme}:// needs the service's name: {url.scheme}://h1,h2,h3/mymaster")
            options["service"] = parts.pop(0)
        if topology == "cluster" and parts not in ([], ["0"]):
            raise ConfigurationError(f"{url.scheme}:// takes no database: a cluster has one")
        options["database"] = _database(url.scheme, parts)
        addresses = _addresses(url.scheme, hosts, 26379 if topology == "sentinel" else 6379)
        if topology == "single" and len(addresses) > 1:
            raise ConfigurationError(
                f"{url.scheme}:// takes one host; several are redis+sentinel://h1,h2,h3/service or redis+cluster://h1,h2"
            )
        return cls(addresses=addresses, **options)


def _credentials(url: StoreUrl) -> tuple[str | None, str | None, str]:
    info, at, hosts = url.authority.rpartition("@")
    if not at:
        return None, None, hosts
    user, _, password = info.partition(":")
    return unquote(user) or None, unquote(password) or None, hosts


def _addresses(scheme: str, hosts: str, port: int) -> tuple[Address, ...]:
    found: list[Address] = []
    for place in hosts.split(",") if hosts else ["localhost"]:
        match = _PLACE.fullmatch(place.strip())
        try:
            if match is None or not 0 < int(match[3] or port) < 65_536:
                raise ValueError
            found.append(Address(host(match[1] or match[2], bracketed=bool(match[1])), int(match[3] or port)))
        except ValueError:
            raise ConfigurationError(
                f"the {scheme}:// URL of the store names a host or a port that is malformed"
            ) from None
    return tuple(found)


def _database(scheme: str, parts: list[str]) -> int:
    if not parts:
        return 0
    if len(parts) > 1 or not (parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 6):
        raise ConfigurationError(f"the path of {scheme}:// is the number of a database, or nothing")
    return int(parts[0])


def _readers(*, tls: bool, unix: bool, topology: Topology) -> Mapping[str, Callable[[str], Any]]:
    readers: dict[str, Callable[[str], Any]] = {
        "timeout": seconds,
        "pool": whole_number,
        "prefix": _prefix,
        "replicas": whole_number,
        "cache": _near,
        "entries": whole_number,
    }
    if tls:
        readers["ca"] = _file
    if unix:
        readers["db"] = lambda value: 0 if value == "0" else whole_number(value)
    if topology != "single":
        readers["lease"] = _switch
    if topology == "sentinel":
        readers |= {"sentinel_user": text, "sentinel_password": text}
    return readers


def _prefix(value: str) -> str:
    if not 0 < len(value) <= 64 or "{" in value or "}" in value or not value.isprintable():
        raise ValueError("must be up to 64 printable characters without { and }")
    return value


def _near(value: str) -> bool:
    if value != "near":
        raise ValueError("must be near, or not be given")
    return True


def _switch(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return value == "1"


def _file(value: str) -> str:
    if not Path(value).is_file():
        raise ValueError("must be the path of a file")
    return value
