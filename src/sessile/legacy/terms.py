"""What every bridge is told in the same words, and what every open bridge does in the same way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypedDict

from ..core.legacy import Found, OldCookie, UserOf, deadline, who
from ..errors import ConfigurationError
from .formats import split


class Terms(TypedDict, total=False):
    """List what all bridges take.

    `cookie`, `path`, `domain`, `samesite` are those of the old cookie, which is deleted by them. `user` is who is
    signed in: a key of the old data, several in order of preference, or a function of the data. `on_outage` says what
    happens when the old store fails: `refuse` the request (503), or `ignore` the old session for its duration. `name`
    is what events call the bridge.
    """

    cookie: str
    path: str
    domain: str | None
    samesite: Literal["Lax", "Strict", "None"]
    user: UserOf
    on_outage: Literal["refuse", "ignore"]
    name: str


Until = dt.date | dt.datetime | str


class Settled(NamedTuple):
    """Hold the terms of one bridge, checked."""

    name: str
    kind: bytes
    until: float
    cookie: OldCookie
    user: UserOf
    on_outage: Literal["refuse", "ignore"]

    def found(
        self, data: dict[str, Any], *, drop: frozenset[str] = frozenset(), demote: Callable[[Any], Any] | None = None
    ) -> Found:
        """Return the old session that this data was; keys in `drop` are the old library's own."""
        kept, lost = split({key: value for key, value in data.items() if key not in drop})
        return Found(data=kept if demote is None else demote(kept), user=who(kept, self.user), dropped=lost)


def settle(terms: Terms, until: Until, *, name: str, cookie: str, user: UserOf, kind: bytes | None = None) -> Settled:
    """Check the terms of a bridge; the keywords are its own defaults.

    Raises:
        ConfigurationError: one of them is unknown or wrong.
    """
    unknown = terms.keys() - Terms.__annotations__.keys()
    if unknown:
        raise ConfigurationError(f"unknown option {sorted(unknown)[0]!r}; there are {', '.join(Terms.__annotations__)}")
    on_outage = terms.get("on_outage", "refuse")
    if on_outage not in ("refuse", "ignore"):
        raise ConfigurationError("on_outage is refuse or ignore")
    old = OldCookie(
        terms.get("cookie", cookie), terms.get("path", "/"), terms.get("domain"), terms.get("samesite", "Lax")
    )
    return Settled(
        terms.get("name", name),
        kind or name.encode(),
        deadline(until),
        old.checked(),
        terms.get("user", user),
        on_outage,
    )


def lifetime(max_age: float | dt.timedelta, what: str) -> float:
    """Return a lifetime in seconds.

    Raises:
        ConfigurationError: it is none.
    """
    seconds = max_age.total_seconds() if isinstance(max_age, dt.timedelta) else max_age
    if isinstance(seconds, bool) or not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{what} is a positive number of seconds, as the old application had it")
    return float(seconds)


def is_within(signed_at: int | None, max_age: float, now: float) -> bool:
    """Tell whether a signature is within its time, neither too old nor of the future, as the old libraries judge it."""
    return signed_at is not None and 0 <= int(now) - signed_at <= max_age


def stale_login(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data with Flask-Login's word on how fresh the sign-in is taken back: nobody knows any more (R89)."""
    return {**data, "_fresh": False} if data.get("_fresh") else data
