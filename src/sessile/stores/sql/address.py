"""Where the database is, and how its URL says so.

    postgresql://user:password@host:5432/database?sslmode=verify-full&sslrootcert=…
    postgresql://user@first,second:5433/database      several hosts: the one that takes writes is used
    postgresql:///database?host=/run/postgresql       a unix socket
    mariadb://user:password@host:3306/database?ssl_ca=…
    mariadb://user@/database?unix_socket=…

No error repeats a part of the URL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from ...errors import ConfigurationError
from ..url import StoreUrl, host, is_odd, seconds, text, whole_number

POSTGRESQL: Final = "postgresql"
_PLACE: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]\s\x00]+))(?::([0-9]{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """Hold what drivers need to connect. Its repr shows the kind of database alone."""

    kind: str  # postgresql, mysql or mariadb
    hosts: tuple[tuple[str, int], ...] = field(repr=False)
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    database: str = field(repr=False)
    extra: Mapping[str, str] = field(repr=False)


def identifier(value: str) -> str:
    """Read a part of a table's name: letters, digits and underscores.

    Raises:
        ValueError: it is none, or too long.
    """
    if not (value.isascii() and value.isidentifier() and len(value) <= 40):
        raise ValueError("must be up to 40 letters, digits and underscores")
    return value


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader that accepts these words alone."""

    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return value

    return read


def _yes(value: str) -> bool:
    return one_of("yes", "no")(value) == "yes"


_OURS: Final[Mapping[str, Callable[[str], Any]]] = {
    "timeout": seconds,
    "pool": whole_number,
    "prefix": identifier,
    "schema": identifier,
    "migrate": one_of("no", "auto"),
    "confirm": one_of("replicas", "primary"),
    "pgbouncer": _yes,
}
_POSTGRESQL: Final[Mapping[str, Callable[[str], Any]]] = {
    "host": text,
    # Read here and not at the first connection: a slip must not be an outage, and none of them means "verify nothing".
    "sslmode": one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslrootcert": text,
    "sslcert": text,
    "sslkey": text,
    "sslcrl": text,
    "channel_binding": one_of("disable", "prefer", "require"),
    "passfile": text,
}
_MYSQL: Final[Mapping[str, Callable[[str], Any]]] = dict.fromkeys(
    ("unix_socket", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key"), text
)


def read(url: StoreUrl, *, without: tuple[str, ...] = ()) -> tuple[Address, dict[str, Any]]:
    """Return where the database is, and the options that are the store's own; `without` names those it has not.

    Raises:
        ConfigurationError: the URL names no database, a port that is none, or an unknown option.
    """
    postgresql = url.scheme == POSTGRESQL
    theirs = _POSTGRESQL if postgresql else _MYSQL
    missing = without if postgresql else (*without, "pgbouncer")
    ours = {name: reader for name, reader in _OURS.items() if name not in missing}
    options = url.options({**ours, **theirs})
    extra = {name: options.pop(name) for name in theirs if name in options}
    database = url.path.removeprefix("/")
    if not database:
        raise ConfigurationError(f"{url.scheme}:// needs the name of a database: {url.scheme}://user@host/database")
    if "ssl_key" in extra and "ssl_cert" not in extra:
        raise ConfigurationError("the option ssl_key is the key of a certificate: give that as ssl_cert")
    credentials, _, places = url.authority.rpartition("@")
    user, separator, password = credentials.partition(":")
    try:
        hosts = tuple(_host(place, 5432 if postgresql else 3306) for place in places.split(",")) if places else ()
    except ValueError:
        raise ConfigurationError(
            f"the {url.scheme}:// URL of the store names a host or a port that is malformed"
        ) from None
    if len(hosts) > 1 and not postgresql:
        raise ConfigurationError(f"{url.scheme}:// takes one host; put what follows the primary in front of the set")
    if not hosts and not postgresql and "unix_socket" not in extra:
        raise ConfigurationError(f"{url.scheme}:// needs a host, or the option unix_socket")
    if "host" in extra and hosts:
        raise ConfigurationError("the option host stands for a unix socket's folder; the URL names a host already")
    name, secret = unquote(user), unquote(password) if separator else None
    if "/" in database or is_odd(database) or is_odd(name) or "\0" in (secret or ""):
        raise ConfigurationError(f"the {url.scheme}:// URL of the store names a database or a user that is malformed")
    return Address(url.scheme, hosts, name or None, secret, database, extra), options


def _host(place: str, default: int) -> tuple[str, int]:
    match = _PLACE.fullmatch(place)
    if match is None:
        raise ValueError
    number = int(match[3] or default)
    if not 0 < number < 65_536:
        raise ValueError
    return host(match[1] or match[2], bracketed=match[1] is not None), number
