"""What a security event token must be (RFC 8417, SSF 1.0 §4, CAEP interoperability profile; R77), and how one is made.

    form     three canonical base64url parts, at most 16 KiB; no member of an object stands twice
    header   typ secevent+jwt; an algorithm of the list; no crit; a key is found by `kid` and by nothing else in it
    claims   iss aud iat jti sub_id, exactly one event, txn if there is one; neither `sub` nor `exp`, which belong to
             other tokens (SSF 1.0 §4.1.3)

A SET has no deadline of its own: one older than `max_age` is refused, and so long its `jti` is remembered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard, cast

import msgspec

from ..jws import Flaw, UnknownKey, verified
from .subjects import Subject, is_name
from .subjects import read as read_subject
from .vocabulary import STREAM_UPDATED, TYP, VERIFICATION

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

    from .keys import SigningKey

ALGORITHMS: Final = ("RS256", "ES256", "Ed25519", "EdDSA")
DAY: Final = 86400.0
MAX_AGE: Final = 7 * DAY
TOLERANCE: Final = 60.0


class Why(StrEnum):
    """Name why a SET was refused."""

    REQUEST = "request"
    AUTHORIZATION = "authorization"
    MALFORMED = "malformed"
    TYPE = "type"
    ALGORITHM = "algorithm"
    KEY = "key"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    TIME = "time"
    EVENT = "event"
    SUBJECT = "subject"
    STATE = "state"


# The error codes of RFC 8935 §2.4; everything else is `invalid_request`.
CODES: Final[Mapping[Why, str]] = {
    Why.AUTHORIZATION: "authentication_failed",
    Why.ALGORITHM: "invalid_key",
    Why.KEY: "invalid_key",
    Why.SIGNATURE: "invalid_key",
    Why.ISSUER: "invalid_issuer",
    Why.AUDIENCE: "invalid_audience",
    Why.STATE: "invalid_state",
}


class Expected(NamedTuple):
    """Say what the SETs of one transmitter for this receiver must be; times are seconds."""

    issuer: str
    audience: str
    algorithms: Collection[str] = ALGORITHMS
    max_age: float = MAX_AGE
    tolerance: float = TOLERANCE


class Set(msgspec.Struct, frozen=True):
    """Hold what an authentic SET says. `at` is when it happened, `until` when the SET is too old for anybody."""

    issuer: str
    token_id: str
    kind: str
    event: dict[str, Any]
    subject: Subject
    issued_at: float
    at: float | None
    until: float
    txn: str | None


def judge(text: object, keys: KeySet, *, expected: Expected, now: float) -> Set | Why | UnknownKey:
    """Return what a SET says if this transmitter made it for this receiver, or why not."""
    read = verified(text, keys, [one for one in expected.algorithms if one in ALGORITHMS], _is_typed)
    if isinstance(read, Flaw):
        return Why(read.value)
    return read if isinstance(read, UnknownKey) else _judged(read.claims, expected, now)


def _is_typed(typ: object) -> bool:
    return isinstance(typ, str) and typ.lower().removeprefix("application/") == TYP


def _judged(claims: Mapping[str, Any], expected: Expected, now: float) -> Set | Why:
    if claims.get("iss") != expected.issuer:
        return Why.ISSUER
    audience = claims.get("aud")
    if expected.audience not in (cast("list[object]", audience) if isinstance(audience, list) else [audience]):
        return Why.AUDIENCE
    if "sub" in claims or "exp" in claims:
        return Why.CLAIMS
    issued_at, token_id, txn = claims.get("iat"), claims.get("jti"), claims.get("txn")
    if not is_time(issued_at) or not now - expected.max_age < issued_at <= now + expected.tolerance:
        return Why.TIME
    if not is_name(token_id) or (txn is not None and not is_name(txn)):
        return Why.CLAIMS
    events = claims.get("events")
    if not isinstance(events, dict) or len(cast("dict[str, Any]", events)) != 1:
        return Why.EVENT
    ((kind, event),) = cast("dict[str, Any]", events).items()
    if not is_name(kind) or not isinstance(event, dict):
        return Why.EVENT
    said = cast("dict[str, Any]", event)
    at = said.get("event_timestamp")
    if at is not None and not is_time(at):
        return Why.EVENT
    subject = read_subject(claims.get("sub_id"))
    if subject is None or (kind in (VERIFICATION, STREAM_UPDATED) and not subject.sessions):
        return Why.SUBJECT
    until = issued_at + expected.max_age
    return Set(expected.issuer, token_id, kind, said, subject, issued_at, at, until, txn)


def is_time(value: object) -> TypeGuard[float]:
    """Tell whether a value is a time in seconds: no NaN, and not True, which is a number to Python."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12


def signed(claims: Mapping[str, Any], key: SigningKey, algorithm: str) -> str:
    """Return a SET."""
    from joserfc import jws

    header = {"alg": algorithm, "typ": TYP, "kid": key.kid}
    return jws.serialize_compact(header, msgspec.json.encode(claims), key, [algorithm])
