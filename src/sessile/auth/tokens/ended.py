"""The list of what has ended, for those who verify tokens offline: signed, compact, with its age stated.

    typ      sessile-ended+jwt
    iat      when the sessions were looked up: what ended later is not in it
    interval how often a new one is made (s);  lag: how late an end is known to who fetches as often (s)
    ended    base64url of 8-byte hashes, sorted: of sessions, and of single revoked tokens

It is made from the truth: every session that tokens were issued to is looked up in the session store, and those that
are not signed in any more are listed, as long as a token of theirs may live. So it does not matter how a session
ended: sign-out, timeout, an operator, everything at once, or a lost database.

Two of 2^64 hashes are the same by accident about never, and who receives a token chooses neither its session's id nor
its own: a session that has not ended is not listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from .access import Text, Time, Unknown, Why, verified
from .jose import PrivateKey, PublicKeys, base64url, signed, unbase64url

TYP: Final = "sessile-ended+jwt"
HASH_BYTES: Final = 8
# A million and a half of ended sessions.
MAX_LIST_CHARS: Final = 16 * 1024 * 1024

WhenStale = Literal["refuse", "pass"]
_DAY = msgspec.Meta(gt=0, le=86400)
Seconds = Annotated[int, _DAY] | Annotated[float, _DAY]


class Listed(msgspec.Struct, frozen=True):
    """Hold the claims of a list."""

    iss: Text
    iat: Time
    interval: Seconds
    lag: Seconds
    ended: str


_decoder = msgspec.json.Decoder(Listed)


def session_mark(session_id: str) -> bytes:
    """Return the 8 bytes that stand for a session in a list."""
    return hashlib.sha256(b"sessile ended session v1\0" + session_id.encode()).digest()[:HASH_BYTES]


def token_mark(token_id: str) -> bytes:
    """Return the 8 bytes that stand for a single revoked token in a list."""
    return hashlib.sha256(b"sessile ended token v1\0" + token_id.encode()).digest()[:HASH_BYTES]


def lag_of(interval: float) -> float:
    """Return how late an end is known to who fetches every `interval` seconds."""
    return 2 * interval


def list_of(marks: Iterable[bytes], key: PrivateKey, *, issuer: str, at: float, interval: float) -> str:
    """Return the signed list."""
    ended = base64url(b"".join(sorted(set(marks))))
    listed = Listed(issuer, at, interval, lag_of(interval), ended)
    return signed(msgspec.json.encode(listed), key, TYP)


class Ends(msgspec.Struct, frozen=True):
    """Hold a list that was verified: as of when (seconds since 1970), and the marks."""

    at: float
    marks: frozenset[bytes]

    def __repr__(self) -> str:
        return f"<Ends at {self.at:.0f}, {len(self.marks)}>"


def read(text: object, keys: PublicKeys, *, issuer: str, now: float, tolerance: float) -> Ends | Why | Unknown:
    """Return what a list says if the issuer signed it, or why not."""
    payload = verified(text, keys, TYP, limit=MAX_LIST_CHARS)
    if not isinstance(payload, bytes):
        return payload
    try:
        listed = _decoder.decode(payload)
        raw = unbase64url(listed.ended)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Why.CLAIMS
    if listed.iss != issuer:
        return Why.ISSUER
    if not listed.iat <= now + tolerance:
        return Why.TIME  # one from the future would stay fresh, and no later one could replace it
    if len(raw) % HASH_BYTES:
        return Why.CLAIMS
    return Ends(listed.iat, frozenset(raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)))


class EndedList:
    """Keep the newest list and say whether it may be relied on.

    `max_age` (seconds) is how old a list may be. After that, what `when_stale` says: "refuse" every token, as who
    holds the list back could let an ended session live on, or "pass" them until they expire.
    """

    __slots__ = ("_ends", "max_age", "when_stale")

    def __init__(self, *, max_age: float = 90.0, when_stale: WhenStale = "refuse") -> None:
        self.max_age = max_age
        self.when_stale = when_stale
        self._ends: Ends | None = None

    def __repr__(self) -> str:
        return f"<EndedList {self._ends!r}>"

    def take(self, ends: Ends) -> bool:
        """Take a newer list in; an older one does not bring anybody back."""
        if self._ends is not None and ends.at < self._ends.at:
            return False
        self._ends = ends
        return True

    def is_fresh(self, now: float) -> bool:
        """Tell whether the list is young enough."""
        return self._ends is not None and now - self._ends.at <= self.max_age

    def holds(self, session_id: str, token_id: str) -> bool:
        """Tell whether the session, or this single token, has ended."""
        if self._ends is None:
            return False
        return session_mark(session_id) in self._ends.marks or token_mark(token_id) in self._ends.marks
