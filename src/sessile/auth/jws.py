"""Signed tokens of others, before anything in them is believed: their keys, form, header, signature (decide).

keys     the public keys of a JWKS that verify signatures; RSA of 2048 bits at least
form     three canonical base64url parts, at most `MAX_CHARS`; no member of an object stands twice
header   a type that the caller expects; an algorithm of the list; no crit; a key is found by `kid` and by nothing
         else in it
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Any, Final, NamedTuple, cast

from ..errors import ExtraMissing, StoreUnavailable

try:
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey
    from joserfc.jws import JWSRegistry
    from joserfc.util import urlsafe_b64decode
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("reading signed tokens of others", "oidc") from error

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
MAX_KEYS: Final = 64
MISSING: Final = object()

_SIGNING_CURVES: Final = frozenset({"Ed25519", "Ed448"})
_KINDS: Final[dict[str, Any]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LAST: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}


class Flaw(StrEnum):
    """Name why a token was not even read."""

    MALFORMED = "malformed"
    TYPE = "type"
    ALGORITHM = "algorithm"
    KEY = "key"
    SIGNATURE = "signature"
    CLAIMS = "claims"


class UnknownKey(NamedTuple):
    """Say that the header names a key that is not here: its owner may have published it just now."""

    kid: str


class Signed(NamedTuple):
    """Hold what somebody has signed, and how."""

    claims: dict[str, Any]
    algorithm: str


def verified(
    text: object,
    keys: KeySet,
    algorithms: Collection[str],
    is_typed: Callable[[object], bool],
    *,
    max_chars: int = MAX_CHARS,
) -> Signed | Flaw | UnknownKey:
    """Return the claims of a token that one of the keys has signed; `is_typed` judges its `typ`, `MISSING` without."""
    # Length comes first: nothing large is looked at. Five parts would be an encrypted token, which nobody asked for.
    if not isinstance(text, str) or len(text) > max_chars or _COMPACT.fullmatch(text) is None:
        return Flaw.MALFORMED
    parts = text.split(".")
    if not all(map(_is_canonical, parts)):
        return Flaw.MALFORMED
    head, body, signature = (urlsafe_b64decode(part.encode()) for part in parts)
    header = _object(head)
    if header is None or "crit" in header or "b64" in header:
        return Flaw.MALFORMED  # it asks for what is not understood here (RFC 7515 §4.1.11)
    if not is_typed(header.get("typ", MISSING)):
        return Flaw.TYPE
    algorithm = header.get("alg")
    if algorithm not in ALGORITHMS or algorithm not in algorithms:
        return Flaw.ALGORITHM
    key = _key(header.get("kid", MISSING), algorithm, keys)
    if isinstance(key, (Flaw, UnknownKey)):
        return key
    message = f"{parts[0]}.{parts[1]}".encode()
    try:
        genuine = JWSRegistry.algorithms[algorithm].verify(message, signature, key)
    except (JoseError, ValueError, TypeError):
        genuine = False
    if not genuine:
        return Flaw.SIGNATURE
    claims = _object(body)
    return Flaw.CLAIMS if claims is None else Signed(claims, algorithm)


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


def _key(kid: object, algorithm: str, keys: KeySet) -> Key | Flaw | UnknownKey:
    """Return the one key that a header names; without `kid`, the only one that fits (OpenID Connect Core §10.1)."""
    if kid is MISSING:
        fitting = [key for key in keys if _fits(key, algorithm)]
        return fitting[0] if len(fitting) == 1 else Flaw.KEY
    if not isinstance(kid, str):
        return Flaw.MALFORMED
    named = [key for key in keys if key.kid == kid]
    if not named:
        return UnknownKey(kid)
    fitting = [key for key in named if _fits(key, algorithm)]
    return fitting[0] if len(fitting) == 1 else Flaw.KEY


def _fits(key: Key, algorithm: str) -> bool:
    """Tell whether a key is one for signatures by this algorithm: its type, curve, use and own `alg` say so."""
    try:
        key.check_use("sig")
        key.check_alg(algorithm)
        JWSRegistry.algorithms[algorithm].check_key(key)
    except (JoseError, ValueError):
        return False
    return True


def read_keys(document: dict[str, Any] | None) -> KeySet:
    """Return the public keys of a JWKS that can verify signatures; others are passed over.

    Raises:
        StoreUnavailable: it is no JWKS, or holds no such key.
    """
    listed: Any = None if document is None else document.get("keys")
    if not isinstance(listed, list):
        raise StoreUnavailable("the keys that were fetched cannot be read")
    found = [_read_key(one) for one in listed[:MAX_KEYS]]  # pyright: ignore[reportUnknownVariableType]
    keys: list[Any] = [key for key in found if key is not None]
    if not keys:
        raise StoreUnavailable("no keys that verify signatures were published")
    return KeySet(keys)


def _read_key(one: Any) -> RSAKey | ECKey | OKPKey | None:
    if not isinstance(one, dict) or one.get("use", "sig") != "sig":  # pyright: ignore[reportUnknownMemberType]
        return None
    kind: object = one.get("kty")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(kind, str) or kind not in _KINDS:
        return None
    try:
        key: RSAKey | ECKey | OKPKey = _KINDS[kind].import_key(one)
        if key.is_private:
            return None  # whoever publishes that, we do not make it worse
        if isinstance(key, RSAKey) and key.raw_value.key_size < 2048:
            return None
        if isinstance(key, OKPKey) and key.curve_name not in _SIGNING_CURVES:
            return None  # X25519 agrees on keys, and signs nothing
    except (JoseError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return key
