"""Access tokens: what stands in one, and every question that it must answer (RFC 9068, RFC 8725bis).

    header   typ=at+jwt  alg  kid                                         and no other member: jku, jwk, x5u, crit …
    claims   iss sub aud exp iat nbf jti sid client_id                    each required but nbf
             scope acr amr auth_time cnf                                  what the session proved, what the client has

`aud` is one text: a token for two audiences could be passed on by either to the other. `sid` is the plain id of the
session: introspection and the API door must find the session by it, and the id is a one-way hash of the secret that
grants nothing (R3, R96). It does let two audiences see that two tokens come from one session; `sub` tells them
more than that already. A pairwise id would have to be opened, or kept in a table, for every check.

The keys decide which algorithm it is, the header only which of our keys (R79, R80). Why a token was refused is for the
event sinks; who sent it learns nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from ...core.factors import aal, amr
from ...core.ids import is_session_id
from ...core.record import Control
from .jose import MAX_CHARS, PrivateKey, PublicKey, PublicKeys, payload_of, segments, signed, unbase64url

TYP: Final = "at+jwt"
_PROVED: Final = 64
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")

# Until the year 9999; a number without end would make every sum with it an error.
_UNTIL = msgspec.Meta(ge=0, le=253_402_300_799)
Time = Annotated[int, _UNTIL] | Annotated[float, _UNTIL]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]


class Why(StrEnum):
    """Name why a token was refused, for the event sinks."""

    MALFORMED = "malformed"
    KEY = "key"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    TIME = "time"
    PROOF = "proof"
    ENDED = "ended"
    REVOKED = "revoked"


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a header of ours; one with any other member is refused, whatever it asks for."""

    alg: str
    kid: str
    typ: str


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold the claims of an access token."""

    iss: Text
    sub: Text
    aud: Text
    exp: Time
    iat: Time
    jti: Text
    sid: Text
    client_id: Text
    nbf: Time = 0
    scope: str = ""
    acr: str = ""
    amr: tuple[str, ...] = ()
    auth_time: Time = 0
    cnf: Mapping[str, Any] | None = None


class AccessToken(msgspec.Struct, frozen=True):
    """Hold what an authentic token says. Times are seconds since 1970.

    `jkt` is the thumbprint of the key that its sender must prove (RFC 9449), None if whoever has the token may use it.
    """

    user: str
    session_id: str
    audience: str
    client: str
    scopes: frozenset[str]
    issued_at: float
    expires_at: float
    token_id: str
    acr: str
    amr: tuple[str, ...]
    authenticated_at: float
    jkt: str | None


class Unknown(NamedTuple):
    """Say that the header names a key that is not here: the issuer may have published it just now."""

    kid: str


_header = msgspec.json.Decoder(Header)
_claims = msgspec.json.Decoder(Claims)
_encoder = msgspec.json.Encoder()


def is_scope(text: str) -> bool:
    """Tell whether a text is a list of scopes (RFC 6749 §3.3), or empty."""
    return not text or _SCOPE.fullmatch(text) is not None


def claims_of(
    control: Control,
    *,
    session_id: str,
    issuer: str,
    audience: str,
    client: str,
    scope: str,
    jkt: str | None,
    token_id: str,
    now: float,
    expires_at: float,
) -> Claims:
    """Say what a session proved, for one audience."""
    names = [factor.name for factor in control.factors]
    return Claims(
        iss=issuer,
        sub=control.user or "",
        aud=audience,
        exp=int(expires_at),
        iat=int(now),
        nbf=int(now),
        jti=token_id,
        sid=session_id,
        client_id=client,
        scope=scope,
        acr=f"aal{aal(names)}",
        amr=amr(names),
        auth_time=int(control.authenticated_at),
        cnf=None if jkt is None else {"jkt": jkt},
    )


def written(claims: Claims, key: PrivateKey) -> str:
    """Return the token."""
    return signed(_encoder.encode(claims), key, TYP)


def verified(text: object, keys: PublicKeys, typ: str, *, limit: int = MAX_CHARS) -> bytes | Why | Unknown:
    """Return the payload of a JWS of this type that one of these keys signed, or why not."""
    parts = segments(text, limit)
    if parts is None:
        return Why.MALFORMED
    assert isinstance(text, str)
    head = parts[0]
    found = keys.proved.get(head)
    key = _key_named(head, keys) if found is None else found
    if isinstance(key, (Why, Unknown)):
        return key
    if key[0] != typ:
        return Why.CLAIMS
    payload = payload_of(text, key[1])
    if payload is None:
        return Why.SIGNATURE
    if found is None and len(keys.proved) < _PROVED:
        keys.proved[head] = key
    return payload


def _key_named(head: str, keys: PublicKeys) -> tuple[str, PublicKey] | Why | Unknown:
    try:
        header = _header.decode(unbase64url(head))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Why.MALFORMED
    key = keys.by_kid.get(header.kid)
    if key is None:
        return Unknown(header.kid)
    return (header.typ, key) if header.alg == key.algorithm else Why.KEY


def judged(payload: bytes, *, issuer: str, audience: str | None, now: float, tolerance: float) -> AccessToken | Why:
    """Return what an authentic token says if it says it here and now; `audience` None takes any of the issuer's."""
    try:
        claims = _claims.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Why.CLAIMS
    if claims.iss != issuer:
        return Why.ISSUER
    if audience is not None and claims.aud != audience:
        return Why.AUDIENCE
    if not is_session_id(claims.sid):
        return Why.CLAIMS
    if not (now < claims.exp + tolerance and claims.nbf <= now + tolerance and claims.iat <= now + tolerance):
        return Why.TIME
    jkt = None
    if claims.cnf is not None:
        jkt = claims.cnf.get("jkt")
        if not isinstance(jkt, str) or not jkt or len(claims.cnf) != 1:
            return Why.CLAIMS  # bound in a way that nobody here can check is not the same as not bound
    return AccessToken(
        claims.sub,
        claims.sid,
        claims.aud,
        claims.client_id,
        frozenset(claims.scope.split()),
        claims.iat,
        claims.exp,
        claims.jti,
        claims.acr,
        claims.amr,
        claims.auth_time,
        jkt,
    )


def is_bound_to(token: AccessToken, jkt: str | None) -> bool:
    """Tell whether the sender proved the token's key, or the token has none and nothing was proved (RFC 9449 §7.1).

    A bound token as `Bearer` is a stolen one; a proof beside a token without a key shows nothing and is refused too.
    """
    return token.jkt == jkt
