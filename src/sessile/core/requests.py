"""What an adapter tells the engine about a request: facts, nothing decided."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Facts(msgspec.Struct, frozen=True):
    """Hold the facts of one request, as the adapter's own server saw them.

    `cookie` is the Cookie header as text, "" without one. `header` looks a header up by its lower-case name and joins
    repeated ones with ", ". `peer` is the address that connected, "" where it has none. `scheme` is http or https (ws
    and wss count as those). `passive` marks a request that is no activity of the user (R40).
    """

    method: str
    scheme: str
    host: str
    path: str
    peer: str
    cookie: str
    header: Callable[[str], str | None]
    passive: bool = False

    def __repr__(self) -> str:
        return f"<Facts {self.method} {self.path!r}>"


def no_headers(_name: str) -> str | None:
    """Stand for a request without headers."""
    return None
