"""What a security event token must be (RFC 8417, SSF 1.0 §4, CAEP interoperability profile; R77), and how one is made.

    form     three canonical base64url parts, at most 16 KiB; no member of an object stands twice
    header   typ secevent+jwt; an algorithm of the list; no crit; a key is found by `kid` and by nothing else in it
    claims   iss aud iat jti sub_id, exactly one event, txn if there is one; neither `sub` nor `exp`, which belong to
             other tokens (SSF 1.0 §4.1.3)

A SET has no deadline of its own: one older than `max_age` is refused, and so long its `jti` is remembered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeGuard, cast

import msgspec

from ...errors import ExtraMissing
from .subjects import Subject, is_name
from .subjects import read as read_subject
from .vocabulary import STREAM_UPDATED, TYP, VERIFICATION

try:
    from joserfc import jws
    from joserfc.errors import JoseError
    from joserfc.jwk import Key, KeySet
    from joserfc.jws import JWSRegistry
    from joserfc.util import urlsafe_b64decode
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("shared signals", "signals") from error

ALGORITHMS: Final = ("RS256", "ES256", "Ed25519", "EdDSA")
MAX_CHARS: Final = 16 * 1024
DAY: Final = 86400.0
MAX_AGE: Final = 7 * DAY
TOLERANCE: Final = 60.0

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LAST: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
_MISSING: Final = object()


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


class UnknownKey(NamedTuple):
    """Say that the header names a key that is not here: the transmitter may have published it just now."""

    kid: str


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
    payload = _payload(text, keys, expected)
    if not isinstance(payload, bytes):
        return payload
    claims = _object(payload)
    return Why.CLAIMS if claims is None else _judged(claims, expected, now)


def _payload(text: object, keys: KeySet, expected: Expected) -> bytes | Why | UnknownKey:
    # Length comes first: nothing large is looked at. Five parts would be an encrypted token, which nobody asked for.
    if not isinstance(text, str) or len(text) > MAX_CHARS or _COMPACT.fullmatch(text) is None:
        return Why.MALFORMED
    parts = text.split(".")
    if not all(map(_is_canonical, parts)):
        return Why.MALFORMED
    head, body, signature = (urlsafe_b64decode(part.encode()) for part in parts)
    header = _object(head)
    if header is None or "crit" in header or "b64" in header:
        return Why.MALFORMED  # it asks for what is not understood here (RFC 7515 §4.1.11)
    typ = header.get("typ")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") != TYP:
        return Why.TYPE
    algorithm = header.get("alg")
    if algorithm not in ALGORITHMS or algorithm not in expected.algorithms:
        return Why.ALGORITHM
    key = _key(header.get("kid", _MISSING), algorithm, keys)
    if isinstance(key, (Why, UnknownKey)):
        return key
    message = f"{parts[0]}.{parts[1]}".encode()
    try:
        genuine = JWSRegistry.algorithms[algorithm].verify(message, signature, key)
    except (JoseError, ValueError, TypeError):
        genuine = False
    return body if genuine else Why.SIGNATURE


def _is_canonical(text: str) -> bool:
    rest = len(text) % 4
    return rest == 0 or (rest != 1 and text[-1] in _LAST[rest])


def _object(raw: bytes) -> dict[str, Any] | None:
    """Read a JSON object in which no name stands twice; parsers differ on which of two counts."""
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse(name: str) -> None:
    raise ValueError(name)  # NaN, Infinity


def _key(kid: object, algorithm: str, keys: KeySet) -> Key | Why | UnknownKey:
    if kid is _MISSING:
        fitting = [key for key in keys if _fits(key, algorithm)]
        return fitting[0] if len(fitting) == 1 else Why.KEY
    if not isinstance(kid, str):
        return Why.MALFORMED
    named = [key for key in keys if key.kid == kid]
    if not named:
        return UnknownKey(kid)
    fitting = [key for key in named if _fits(key, algorithm)]
    return fitting[0] if len(fitting) == 1 else Why.KEY


def _fits(key: Key, algorithm: str) -> bool:
    """Tell whether a key is one for signatures by this algorithm: its type, curve, use and own `alg` say so."""
    try:
        key.check_use("sig")
        key.check_alg(algorithm)
        JWSRegistry.algorithms[algorithm].check_key(key)
    except (JoseError, ValueError):
        return False
    return True


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


def signed(claims: Mapping[str, Any], key: Key, algorithm: str) -> str:
    """Return a SET."""
    header = {"alg": algorithm, "typ": TYP, "kid": key.kid}
    return jws.serialize_compact(header, msgspec.json.encode(claims), key, [algorithm])
