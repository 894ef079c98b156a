"""Proofs of possession: a token that was stolen without its key opens nothing (RFC 9449).

    header   typ=dpop+jwt  alg  jwk (the public key itself)
    claims   jti  htm  htu  iat        and  ath (a token's hash)  where a token is sent,  nonce  where we ask for one

What is decided from the proof alone is decided here; that no proof is taken twice, the vault decides: its `jti` is
inserted there for as long as `iat` lets it pass. The server's nonce is a keyed hash of a stretch of time, so nothing is
kept for it, on any node: a proof cannot be made in store for later.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
import secrets
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from ...core.keys import KeyRing
from .access import Text, Time
from .jose import (
    ALGORITHMS,
    ED25519,
    SECRET_BYTES,
    Algorithm,
    PrivateKey,
    base64url,
    payload_of,
    private_key,
    public_key,
    segments,
    signed,
    unbase64url,
)

TYP: Final = "dpop+jwt"
PROOF_ALGORITHMS: Final = (*ALGORITHMS, ED25519)
MAX_PROOF_CHARS: Final = 8 * 1024
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_PORTS: Final = {"http": 80, "https": 443}


class WhyProof(StrEnum):
    """Name why a proof was refused, for the event sinks; the client is told of `NONCE` alone."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    KEY = "key"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    REQUEST = "request"
    TIME = "time"
    TOKEN = "token"  # noqa: S105 - the word, not one
    NONCE = "nonce"
    REPLAY = "replay"


class _Header(msgspec.Struct, frozen=True):
    typ: str
    alg: str
    jwk: dict[str, Any]
    crit: Any = None
    b64: Any = None


class _Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    jti: Text
    htm: str
    htu: Text
    iat: Time
    ath: str | None = None
    nonce: str | None = None


class Proved(NamedTuple):
    """Hold what a proof shows: the thumbprint of its key, and the id and time by which it is taken once."""

    jkt: str
    proof_id: str
    made_at: float


_header = msgspec.json.Decoder(_Header)
_claims = msgspec.json.Decoder(_Claims)


def judged(
    text: object,
    *,
    method: str,
    url: str,
    now: float,
    token: str | None = None,
    is_nonce: Callable[[str], bool] | None = None,
    max_age: float = 60.0,
    tolerance: float = 5.0,
    algorithms: tuple[str, ...] = PROOF_ALGORITHMS,
) -> Proved | WhyProof:
    """Return what a proof shows for this request, or why it shows nothing; `is_nonce` None asks for no nonce.

    `max_age` and `tolerance` are seconds: how long ago and how far ahead it may have been made.
    """
    opened = _opened(text, algorithms)
    if isinstance(opened, WhyProof):
        return opened
    claims, jkt = opened
    asked = normal_url(url)
    if claims.htm != method or asked is None or normal_url(claims.htu) != asked:
        return WhyProof.REQUEST
    if not (now - max_age <= claims.iat <= now + tolerance):
        return WhyProof.TIME
    if token is not None and not hmac.compare_digest((claims.ath or "").encode(), token_hash(token).encode()):
        return WhyProof.TOKEN
    if is_nonce is not None and (claims.nonce is None or not is_nonce(claims.nonce)):
        return WhyProof.NONCE
    return Proved(jkt, claims.jti, claims.iat)


def _opened(text: object, algorithms: tuple[str, ...]) -> tuple[_Claims, str] | WhyProof:
    parts = segments(text, MAX_PROOF_CHARS)
    if parts is None:
        return WhyProof.MALFORMED
    assert isinstance(text, str)
    try:
        header = _header.decode(unbase64url(parts[0]))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return WhyProof.MALFORMED
    if header.typ != TYP or header.crit is not None or header.b64 is not None:
        return WhyProof.MALFORMED
    if header.alg not in algorithms:
        return WhyProof.ALGORITHM
    key = public_key(header.jwk, algorithm=header.alg)
    if key is None:
        return WhyProof.KEY
    payload = payload_of(text, key)
    if payload is None:
        return WhyProof.SIGNATURE
    try:
        return _claims.decode(payload), key.thumbprint
    except (msgspec.DecodeError, ValueError, RecursionError):
        return WhyProof.CLAIMS


def token_hash(token: str) -> str:
    """Return the `ath` of a token."""
    return base64url(hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest())


def normal_url(url: str) -> str | None:
    """Return a URL in the one form in which `htu` is compared: without query and fragment (RFC 9449 §4.3, RFC 3986 §6).

    None if it is no http or https URL with a host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc or not url.isascii() or not url.isprintable():
        return None
    place = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[parts.scheme]:
        place += f":{port}"
    return f"{parts.scheme}://{place}{_normal_path(parts)}"


def _normal_path(parts: SplitResult) -> str:
    def unescaped(found: re.Match[str]) -> str:
        char = chr(int(found[1], 16))
        return char if char in _UNRESERVED else found[0].upper()

    kept: list[str] = []
    names = _ESCAPED.sub(unescaped, parts.path).split("/")[1:]
    for name in names:
        if name == "..":
            del kept[-1:]
        elif name != ".":
            kept.append(name)
    if names and names[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


class Nonces:
    """Make and check the server's nonces. `window` (seconds) is how long one is given out; it passes twice as long."""

    __slots__ = ("_keys", "_newest", "_window")

    def __init__(self, ring: KeyRing, *, window: float = 60.0) -> None:
        self._keys = ring.derive(b"dpop nonce")
        self._newest = ring.newest
        self._window = window

    def __repr__(self) -> str:
        return "<Nonces>"

    def current(self, now: float) -> str:
        """Return the nonce to give out now."""
        return self._made(self._newest, self._step(now))

    def is_valid(self, text: str, now: float) -> bool:
        """Tell whether a nonce is ours and of this window or the one before; or of the next, from a faster clock."""
        try:
            key_id = unbase64url(text)[0]
        except (ValueError, IndexError):
            return False
        if key_id not in self._keys:
            return False
        step, given = self._step(now), text.encode()
        return any(hmac.compare_digest(given, self._made(key_id, step + by).encode()) for by in (-1, 0, 1))

    def _step(self, now: float) -> int:
        return math.floor(now / self._window)

    def _made(self, key_id: int, step: int) -> str:
        mac = hmac.digest(self._keys[key_id], step.to_bytes(8, "big", signed=True), hashlib.sha256)
        return base64url(bytes([key_id]) + mac[:17])


class ProofMaker:
    """Make proofs with a key of its own, as a client does. `secret` (32 bytes) is the key, by default a new one."""

    def __init__(self, algorithm: Algorithm = "ES256", *, secret: bytes | None = None) -> None:
        self._key: PrivateKey = private_key(algorithm, os.urandom(SECRET_BYTES) if secret is None else secret)

    def __repr__(self) -> str:
        return f"<ProofMaker {self._key!r}>"

    @property
    def jkt(self) -> str:
        """Return the thumbprint by which tokens are bound to the key."""
        return self._key.public.thumbprint

    def proof(
        self,
        method: str,
        url: str,
        *,
        now: float,
        token: str | None = None,
        nonce: str | None = None,
        proof_id: str | None = None,
    ) -> str:
        """Return a proof for one request, and for the token that goes with it."""
        claims = _Claims(
            jti=proof_id or secrets.token_urlsafe(16),
            htm=method,
            htu=url.partition("#")[0].partition("?")[0],
            iat=int(now),
            ath=None if token is None else token_hash(token),
            nonce=nonce,
        )
        return signed(msgspec.json.encode(claims), self._key, TYP, jwk=dict(self._key.jwk))
