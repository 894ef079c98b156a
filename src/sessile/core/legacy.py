"""What a bridge to another session library must do: the port through which old sessions are adopted.

    what the request carries               `recognise` (no I/O)   `find`       what becomes of it
    no cookie of the old library           None                   -            nobody's request, as ever
    a cookie that proves nothing           Refusal                -            refused, told to the sinks
    a cookie that the old library made     OldSession             None         it is over: nobody's request
    the same, its data cannot be read      OldSession             Refusal      refused, told to the sinks
    the same                               OldSession             Found        adopted once (`adoption`), then ended

A bridge decides whether an old session is real and what it holds. That each is adopted once, and never again after a
sign-out, is decided here for all of them. Decoders of bridges read JSON, MessagePack and texts; none can run code
(R47), so what was pickled is refused.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from ..errors import ConfigurationError, DataError, UserInvalid
from . import cookies, values
from .requests import Facts
from .session import user_name

# What a browser sends of one cookie is 4096 bytes; some libraries set more, and some servers let it through.
MAX_COOKIE_CHARS: Final = 16_384
_NAME: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_MARK_CONTEXT: Final = b"sessile legacy mark v1\0"
_NAME_PARTS: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ATTRIBUTE: Final = re.compile(r"[!-+\--:<-~]*")  # printable ASCII but space, comma and semicolon

Why = Literal[
    "forged",  # not signed with the key that was given, or malformed
    "duplicate",  # two cookies of the name: one of them was planted
    "oversized",  # longer than the bound, or inflating beyond it
    "expired",  # the old library itself would refuse it
    "unknown",  # the old store holds no such session
    "pickle",  # reading it could run code
    "undecodable",  # none of the formats that are read
    "spent",  # adopted before, and what became of it is over
    "closed",  # the user's sessions, or all, were ended at once since
    "limit",  # the user has as many sessions as the policy allows
    "outage",  # the old store failed, and the bridge was told to go on without it
]
UserOf = str | tuple[str, ...] | Callable[[Mapping[str, Any]], str | int | None]


class Refusal(NamedTuple):
    """Say that what came is not adopted, and why."""

    why: Why


class OldSession(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a cookie of the old library proves by itself.

    `identity` names the old session and nothing else may spell it otherwise: its id, or the bytes of its signature.
    `expires_at` (seconds since 1970) is when the old library itself refuses the cookie, None if it never does.
    `held` is what `find` and `end` need.
    """

    identity: bytes
    expires_at: float | None = None
    held: Any = None

    def __repr__(self) -> str:
        return "<OldSession>"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Hold an old session: its data, who is signed in, and the keys that were not readable."""

    data: Mapping[str, Any]
    user: str | None = None
    dropped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Found {len(self.data)} values>"


class OpenBridge(Protocol):
    """Be a bridge that is in use, by one door."""

    @property
    def name(self) -> str:
        """Return what events and counts call it."""
        ...

    @property
    def kind(self) -> bytes:
        """Return what tells its identities from those of other kinds; it must not change while the bridge stands."""
        ...

    @property
    def until(self) -> float:
        """Return when it stops (seconds since 1970)."""
        ...

    @property
    def on_outage(self) -> Literal["refuse", "ignore"]:
        """Return what happens when the old store fails: refuse the request (503), or serve it as nobody's."""
        ...

    @property
    def cookie(self) -> OldCookie:
        """Return the cookie that is deleted once its session was adopted."""
        ...

    def recognise(self, facts: Facts, now: float) -> OldSession | Refusal | None:
        """Return what the request's cookie proves, None without one. No I/O."""
        ...

    async def find(self, old: OldSession, now: float) -> Found | Refusal | None:
        """Read the old session, None if there is none any more.

        Raises:
            StoreError: the old store failed.
        """
        ...

    async def end(self, old: OldSession) -> None:
        """End the old session where it lives. Idempotent; of a session that lives in its cookie nothing is left to end.

        Raises:
            StoreError: the old store failed.
        """
        ...

    async def close(self) -> None:
        """Release what the bridge holds open."""
        ...


class Bridge(Protocol):
    """Describe a bridge; one description may serve both doors."""

    def open(self, *, blocking: bool) -> OpenBridge:
        """Return the bridge ready for use. With `blocking`, its verbs must not suspend.

        Raises:
            ConfigurationError: it cannot be used so.
        """
        ...


class OldCookie(NamedTuple):
    """Name the old library's cookie, with the attributes that find it again in the browser (R18)."""

    name: str
    path: str = "/"
    domain: str | None = None
    samesite: Literal["Lax", "Strict", "None"] = "Lax"

    def checked(self) -> OldCookie:
        """Return itself.

        Raises:
            ConfigurationError: a browser would not take these attributes.
        """
        if not _NAME_PARTS.fullmatch(self.name):
            raise ConfigurationError("the old cookie's name holds characters that RFC 6265 does not allow")
        if not self.path.startswith("/") or not _ATTRIBUTE.fullmatch(self.path + (self.domain or "")):
            raise ConfigurationError(
                "the old cookie's path begins with /, and neither it nor the domain has separators"
            )
        if self.samesite not in ("Lax", "Strict", "None"):
            raise ConfigurationError("the old cookie's samesite is Lax, Strict or None")
        return self

    def read(self, facts: Facts) -> str | Refusal | None:
        """Return the cookie's text as it came, None without one."""
        found = cookies.read(facts.cookie, self.name)
        if found is None or not found:
            return None
        if not isinstance(found, str):
            return Refusal("duplicate")
        if len(found) > MAX_COOKIE_CHARS:
            return Refusal("oversized")
        return found[1:-1] if len(found) > 1 and found[0] == found[-1] == '"' else found

    def delete(self) -> str:
        """Return the Set-Cookie value that deletes it; Secure, as all that is sent here."""
        domain = f"; Domain={self.domain}" if self.domain else ""
        return (
            f"{self.name}=; Path={self.path}{domain}; Secure; HttpOnly; SameSite={self.samesite}"
            "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        )


class Tally:
    """Count, in this process, what one bridge did."""

    __slots__ = ("adopted", "refused")

    def __init__(self) -> None:
        self.adopted = 0
        self.refused: dict[str, int] = {}

    def count(self, why: Why) -> None:
        """Count a refusal."""
        self.refused[why] = self.refused.get(why, 0) + 1


class BridgeReport(NamedTuple):
    """Say of one bridge what it did in this process, and when it stops (seconds since 1970)."""

    name: str
    until: float
    adopted: int
    refused: Mapping[str, int]


def deadline(until: dt.date | dt.datetime | str) -> float:
    """Return a bridge's deadline in seconds since 1970; a date alone is its first moment in UTC.

    Raises:
        ConfigurationError: it is no date, or a time without its zone.
    """
    if isinstance(until, str):
        try:
            until = dt.datetime.fromisoformat(until) if "T" in until else dt.date.fromisoformat(until)
        except ValueError as error:
            raise ConfigurationError("until is a date, as in 2027-03-31") from error
    if not isinstance(until, dt.datetime):
        if not isinstance(until, dt.date):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("until is a date, as in 2027-03-31")
        until = dt.datetime.combine(until, dt.time(), dt.UTC)
    if until.tzinfo is None:
        raise ConfigurationError("until is a time without its zone; give one, or a date alone")
    return until.timestamp()


def mark_id(kind: bytes, identity: bytes) -> str:
    """Return the id under which the store remembers that an old session was adopted: a one-way hash, as all ids are."""
    return hashlib.sha256(_MARK_CONTEXT + kind + b"\0" + identity).hexdigest()[:40]


def who(data: Mapping[str, Any], user: UserOf) -> str | None:
    """Return who is signed in; `user` is a key, several in order, or a function.

    A function that does not find what it looks for has found nobody: most old sessions are visitors'.
    """
    if callable(user):
        try:
            return _as_user(user(data))
        except (LookupError, TypeError, ValueError, AttributeError):
            return None
    for key in (user,) if isinstance(user, str) else user:
        found = _as_user(data.get(key))
        if found is not None:
            return found
    return None


def _as_user(value: Any) -> str | None:
    try:
        return user_name(value)
    except UserInvalid:
        return None


def storable(data: Mapping[str, Any], limit: int) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the data as a record holds it, and the keys that cannot be stored; over `limit` bytes, the largest go."""
    kept: dict[str, bytes] = {}
    dropped: list[str] = []
    for key, value in data.items():
        try:
            key.encode()
            kept[key] = values.encode(key, value)
        except (DataError, ValueError, RecursionError):
            dropped.append(key)
    size = sum(len(key) + len(value) for key, value in kept.items())
    for largest in sorted(kept, key=lambda key: len(kept[key]), reverse=True):
        if size <= limit:
            break
        size -= len(largest) + len(kept.pop(largest))
        dropped.append(largest)
    return kept, tuple(dropped)


def named(key: str) -> str:
    """Return a key as an event may show it: a plain name, or "?" for what may itself be data."""
    return key if _NAME.fullmatch(key) else "?"
