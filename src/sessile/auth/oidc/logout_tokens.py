"""What a logout token must be (OpenID Connect Back-Channel Logout 1.0, §2.4-2.6; R70, R71).

    form     three canonical base64url parts, at most 16 KiB; no member of an object stands twice
    header   typ logout+jwt; an algorithm of the list; no crit; a key is found by `kid` and by nothing else in it
    claims   iss aud iat exp jti events, sub or sid, and no nonce

`events` holds the back-channel event as an empty object and nothing else, but for `revoke_offline_access`, which
Keycloak puts beside it. Members of the claims that are not named here are ignored (§2.4).

Some providers send `typ` JWT or none, or no `exp` (docs/explanation/single-sign-out.md names them): each has a switch,
and what is left still tells an ID token apart: it has no `events`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeGuard, cast

import msgspec

from ...errors import ExtraMissing

try:
    from joserfc.errors import JoseError
    from joserfc.jwk import Key, KeySet
    from joserfc.jws import JWSRegistry
    from joserfc.util import urlsafe_b64decode
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("OpenID Connect", "oidc") from error

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
TYP: Final = "logout+jwt"
# Public keys only: with a MAC, whoever can check a token can make one.
ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
)
MAX_CHARS: Final = 16 * 1024
LIFETIME: Final = 120.0
TOLERANCE: Final = 5.0

_OFFLINE: Final = "revoke_offline_access"
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LAST: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
_MAX_NAME: Final = 1024
_MISSING: Final = object()


class Why(StrEnum):
    """Name why a logout token was refused."""

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
    NONCE = "nonce"
    SUBJECT = "subject"
    REPLAY = "replay"


class UnknownKey(NamedTuple):
    """Say that the header names a key that is not here: the provider may have published it just now."""

    kid: str


class LogoutToken(msgspec.Struct, frozen=True):
    """Hold what an authentic logout token says; at least one of `subject` and `sid` is there.

    `until` is when it stops being accepted (seconds since 1970): so long its `token_id` must be remembered. `offline`:
    the provider has withdrawn offline access, too (Keycloak).
    """

    issuer: str
    subject: str | None
    sid: str | None
    token_id: str
    issued_at: float
    until: float
    offline: bool = False


class Expected(NamedTuple):
    """Say what the tokens of one provider for one client must be; times are seconds.

    `lifetime` is how old a token may be, `tolerance` by how much clocks may differ. `typed` and `expiring` False take
    those of providers that send no `typ` of their own, or no `exp`.
    """

    issuer: str
    client: str
    algorithms: Collection[str] = ("RS256", "PS256", "ES256", "Ed25519", "EdDSA")
    typed: bool = True
    expiring: bool = True
    lifetime: float = LIFETIME
    tolerance: float = TOLERANCE


def judge(text: object, keys: KeySet, *, expected: Expected, now: float) -> LogoutToken | Why | UnknownKey:
    """Return what a logout token says if the provider made it for this client just now, or why not."""
    payload = _payload(text, keys, expected)
    if not isinstance(payload, bytes):
        return payload
    claims = _object(payload)
    if claims is None:
        return Why.CLAIMS
    return _judged(claims, expected, now)


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
    if not _is_typed(header.get("typ", _MISSING), expected):
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
    """Tell whether base64url ends as an encoder ends it: one value has one spelling (RFC 8725bis §3.13)."""
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


def _is_typed(typ: object, expected: Expected) -> bool:
    name = typ.lower().removeprefix("application/") if isinstance(typ, str) else typ
    return name == TYP or (not expected.typed and (typ is _MISSING or name == "jwt"))


def _key(kid: object, algorithm: str, keys: KeySet) -> Key | Why | UnknownKey:
    """Return the one key that a header names; without `kid`, the only one that fits (OpenID Connect Core §10.1)."""
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


def _judged(claims: Mapping[str, Any], expected: Expected, now: float) -> LogoutToken | Why:
    if claims.get("iss") != expected.issuer:
        return Why.ISSUER
    if not _is_for(claims.get("aud"), expected.client):
        return Why.AUDIENCE
    if "nonce" in claims:
        return Why.NONCE  # so that no logout token is taken for an ID token (§2.4)
    offline = _event(claims.get("events"))
    if offline is None:
        return Why.EVENT
    until = _until(claims, expected, now)
    if until is None:
        return Why.TIME
    token_id = claims.get("jti")
    if not is_name(token_id):
        return Why.CLAIMS
    subject, sid = claims.get("sub"), claims.get("sid")
    if subject is None and sid is None:
        return Why.SUBJECT
    if not ((subject is None or is_name(subject)) and (sid is None or is_name(sid))):
        return Why.SUBJECT
    return LogoutToken(expected.issuer, subject, sid, token_id, claims["iat"], until, offline)


def _is_for(audience: object, client: str) -> bool:
    """Tell whether this client is meant, and nobody else, who could pass it on (OpenID Connect Core §3.1.3.7)."""
    named = cast("list[object]", audience) if isinstance(audience, list) else [audience]
    return bool(named) and all(one == client for one in named)


def _event(events: object) -> bool | None:
    """Tell whether offline access is withdrawn, too; None if this is not the event of a logout."""
    named = cast("dict[str, object]", events) if isinstance(events, dict) else {}
    if named.get(EVENT) != {} or not named.keys() <= {EVENT, _OFFLINE}:
        return None
    offline = named.get(_OFFLINE, False)
    return offline if isinstance(offline, bool) else None


def _until(claims: Mapping[str, Any], expected: Expected, now: float) -> float | None:
    """Return when a token stops being accepted, None if that is over or its times are none."""
    issued_at, expires_at = claims.get("iat"), claims.get("exp", _MISSING)
    if not _is_time(issued_at) or issued_at > now + expected.tolerance:
        return None
    until = issued_at + expected.lifetime + expected.tolerance
    if expires_at is _MISSING:
        if expected.expiring:
            return None
    elif not _is_time(expires_at):
        return None
    else:
        until = min(until, expires_at + expected.tolerance)
    return until if now < until else None


def _is_time(value: object) -> TypeGuard[float]:
    # An infinite one is larger, and True is a number to Python.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12


def is_name(value: object) -> TypeGuard[str]:
    """Tell whether a value can name a user, a session or a token."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()
