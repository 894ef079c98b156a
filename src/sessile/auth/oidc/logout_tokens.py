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

from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard, cast

import msgspec

from ..jws import ALGORITHMS, MAX_CHARS, MISSING, Flaw, UnknownKey, verified

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

__all__ = ["ALGORITHMS", "MAX_CHARS", "Expected", "LogoutToken", "UnknownKey", "Why", "is_name", "judge"]

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
TYP: Final = "logout+jwt"
LIFETIME: Final = 120.0
TOLERANCE: Final = 5.0

_OFFLINE: Final = "revoke_offline_access"
_MAX_NAME: Final = 1024


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
    read = verified(text, keys, expected.algorithms, partial(_is_typed, expected))
    if isinstance(read, Flaw):
        return Why(read.value)
    return read if isinstance(read, UnknownKey) else _judged(read.claims, expected, now)


def _is_typed(expected: Expected, typ: object) -> bool:
    name = typ.lower().removeprefix("application/") if isinstance(typ, str) else typ
    return name == TYP or (not expected.typed and (typ is MISSING or name == "jwt"))


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
    issued_at, expires_at = claims.get("iat"), claims.get("exp", MISSING)
    if not _is_time(issued_at) or issued_at > now + expected.tolerance:
        return None
    until = issued_at + expected.lifetime + expected.tolerance
    if expires_at is MISSING:
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
