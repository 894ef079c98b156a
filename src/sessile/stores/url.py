"""Store URLs: how they are read, and the one place that decides what an error may repeat of them.

A URL may carry a password. Errors therefore name the scheme and the options' names, never the host part, the path or a
value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import ConfigurationError

_NUMBER: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,31}(?=://)")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Hold the parts of a store's URL. Its repr shows the scheme alone."""

    scheme: str
    authority: str = field(repr=False)
    path: str = field(repr=False)
    query: tuple[tuple[str, str], ...] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> StoreUrl:
        """Split a URL.

        Raises:
            ConfigurationError: it is none.
        """
        scheme = _SCHEME.match(url)
        if scheme is None:
            raise ConfigurationError("a store is named by a URL such as sqlite:///sessions.db or memory://")
        name = scheme.group()
        try:
            parts = urlsplit(url)
            query = tuple(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:
            raise ConfigurationError(f"the {name}:// URL of the store is malformed") from None
        if parts.fragment:
            raise ConfigurationError(f"the {name}:// URL of the store has a '#'; write it as %23")
        return cls(name, parts.netloc, unquote(parts.path), query)

    def options(self, readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
        """Return the query's options, each read by its reader; a reader raises ValueError for what it refuses.

        Raises:
            ConfigurationError: an option is unknown, given twice or refused.
        """
        found: dict[str, Any] = {}
        for name, value in self.query:
            reader = readers.get(name)
            if reader is None:
                known = ", ".join(sorted(readers)) or "none"
                raise ConfigurationError(f"{self.scheme}:// has no option {name[:32]!r}; it knows {known}")
            if name in found:
                raise ConfigurationError(f"{self.scheme}:// was given the option {name!r} twice")
            try:
                found[name] = reader(value)
            except ValueError as error:
                raise ConfigurationError(f"the option {name!r} of {self.scheme}:// {_sentence(error)}") from None
        return found


def host(value: str, *, bracketed: bool = False) -> str:
    """Read the name of a host, or its address; an IPv6 one stands in brackets, which the caller has taken away.

    What no resolver takes would otherwise be an outage at the first request, and only there.

    Raises:
        ValueError: it is none.
    """
    if bracketed:
        ipaddress.IPv6Address(value)
    elif not _HOST.fullmatch(value.encode("idna").decode()):  # refuses a label that is empty or longer than 63, too
        raise ValueError("must be the name of a host, or its address")
    return value


def is_odd(value: str) -> bool:
    """Tell whether a text holds control characters, which no name or path has."""
    return _CONTROL.search(value) is not None


def text(value: str) -> str:
    """Read a text that is not empty, and holds no control characters.

    Raises:
        ValueError: it is none.
    """
    if not value:
        raise ValueError("must not be empty")
    if is_odd(value):
        raise ValueError("must not hold control characters")
    return value


def whole_number(value: str) -> int:
    """Read a whole number above zero.

    Raises:
        ValueError: it is none.
    """
    if not (value.isascii() and value.isdigit() and len(value) <= 15 and int(value)):
        raise ValueError("must be a whole number above zero")
    return int(value)


def seconds(value: str) -> float:
    """Read a number of seconds above zero and up to an hour.

    Raises:
        ValueError: it is none.
    """
    number = float(value) if _NUMBER.fullmatch(value) else 0.0
    if not 0 < number <= 3600:
        raise ValueError("must be a number of seconds above zero, up to 3600")
    return number


def _sentence(error: ValueError) -> str:
    return str(error) or "is malformed"
