"""What an ID token must be (OpenID Connect Core 1.0 §3.1.3.7), and how much of a proof it is (decide).

header   an allowed algorithm; typ JWT or none: a logout token or an access token says another
claims   iss aud azp exp iat sub; nonce of this very transaction; no `events`
asked    auth_time not older than max_age; acr one of those asked for; at_hash of the access token that came along
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard, cast

import msgspec

from ..jws import MISSING, Flaw, UnknownKey, verified

if TYPE_CHECKING:
    from collections.abc import Collection

    from joserfc.jwk import KeySet

_HASHES: Final = {"256": "sha256", "384": "sha384", "512": "sha512"}
# OpenID Connect Core §2.
MAX_SUBJECT_CHARS: Final = 255
_MAX_NAME: Final = 1024
_MAX_METHODS: Final = 16


class Why(StrEnum):
    """Name why an ID token was refused."""

    MALFORMED = "malformed"
    TYPE = "type"
    ALGORITHM = "algorithm"
    KEY = "key"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    TIME = "time"
    SUBJECT = "subject"
    NONCE = "nonce"
    AGE = "age"
    LEVEL = "level"
    HASH = "hash"


class Asked(NamedTuple):
    """Say what was asked for, and of whom; times are seconds. `nonce` None: a refresh, whose token may have none.

    `max_age` counts from when the browser was sent there (`asked_at`), not from when it came back: what somebody reads
    and clicks in between makes no sign-in older (§3.1.2.1).
    """

    issuer: str
    client: str
    algorithms: Collection[str]
    tolerance: float
    nonce: str | None = None
    max_age: float | None = None
    acr_values: tuple[str, ...] = ()
    asked_at: float = 0.0


class IdToken(msgspec.Struct, frozen=True):
    """Hold what an ID token says; times are seconds since 1970 by the provider's clock."""

    issuer: str
    subject: str
    sid: str | None
    issued_at: float
    expires_at: float
    authenticated_at: float | None
    acr: str | None
    amr: tuple[str, ...]
    claims: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<IdToken of {self.issuer}>"


def judge(
    text: object, keys: KeySet, asked: Asked, *, now: float, access_token: str | None = None
) -> IdToken | Why | UnknownKey:
    """Return what an ID token says if the provider made it for this client and this transaction, or why not."""
    read = verified(text, keys, asked.algorithms, _is_typed)
    if isinstance(read, UnknownKey):
        return read
    if isinstance(read, Flaw):
        return Why(read.value)
    found = _judged(read.claims, asked, now)
    if isinstance(found, IdToken) and access_token is not None and "at_hash" in read.claims:
        expected = half_hash(access_token, read.algorithm)
        given = read.claims["at_hash"]
        if not isinstance(given, str) or not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
            return Why.HASH
    return found


def half_hash(text: str, algorithm: str) -> str:
    """Return the left half of a token's hash as `at_hash` has it (§3.1.3.6)."""
    name = _HASHES.get(algorithm[-3:], "sha512")  # Ed25519 hashes with SHA-512
    digest = hashlib.new(name, text.encode("ascii", "replace")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _is_typed(typ: object) -> bool:
    return typ is MISSING or (isinstance(typ, str) and typ.lower().removeprefix("application/") == "jwt")


def _judged(claims: Mapping[str, Any], asked: Asked, now: float) -> IdToken | Why:
    if claims.get("iss") != asked.issuer:
        return Why.ISSUER
    if not _is_for(claims, asked.client):
        return Why.AUDIENCE
    if "events" in claims:
        return Why.TYPE  # a logout token, or another security event
    subject = claims.get("sub")
    if not is_name(subject, MAX_SUBJECT_CHARS):
        return Why.SUBJECT
    issued_at, expires_at = claims.get("iat"), claims.get("exp")
    if not (is_time(issued_at) and is_time(expires_at)):
        return Why.TIME
    not_before = claims.get("nbf", 0)
    if not is_time(not_before) or max(issued_at, not_before) > now + asked.tolerance:
        return Why.TIME
    if expires_at + asked.tolerance <= now:
        return Why.TIME
    if not _has_nonce(claims.get("nonce", MISSING), asked.nonce):
        return Why.NONCE
    why = _too_little(claims, asked, now)
    if why is not None:
        return why
    sid, acr = claims.get("sid"), claims.get("acr")
    if not (sid is None or is_name(sid)):
        return Why.CLAIMS
    return IdToken(
        asked.issuer,
        subject,
        sid,
        issued_at,
        expires_at,
        claims.get("auth_time"),
        acr if is_name(acr) else None,
        _methods(claims.get("amr")),
        claims,
    )


def _is_for(claims: Mapping[str, Any], client: str) -> bool:
    """Tell whether this client is meant, and nobody else, who could pass it on."""
    audience = claims.get("aud")
    named = cast("list[object]", audience) if isinstance(audience, list) else [audience]
    return bool(named) and all(one == client for one in named) and claims.get("azp", client) == client


def _has_nonce(given: object, asked: str | None) -> bool:
    if asked is None:
        return True
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), asked.encode())


def _too_little(claims: Mapping[str, Any], asked: Asked, now: float) -> Why | None:
    """Return what the sign-in at the provider lacks (R75), None if nothing."""
    authenticated_at = claims.get("auth_time")
    if authenticated_at is not None and (not is_time(authenticated_at) or authenticated_at > now + asked.tolerance):
        return Why.TIME
    if asked.max_age is not None and (
        authenticated_at is None or asked.asked_at - authenticated_at > asked.max_age + asked.tolerance
    ):
        return Why.AGE
    if asked.acr_values and claims.get("acr") not in asked.acr_values:
        return Why.LEVEL
    return None


def _methods(given: object) -> tuple[str, ...]:
    listed = cast("list[object]", given) if isinstance(given, list) else []
    return tuple(one for one in listed[:_MAX_METHODS] if is_name(one))


def is_time(value: object) -> TypeGuard[float]:
    """Tell whether a value is a time: True is a number to Python, and so is infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12


def is_name(value: object, most: int = _MAX_NAME) -> TypeGuard[str]:
    """Tell whether a value can name a user, a session or a level."""
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()
