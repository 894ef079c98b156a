"""The signatures of the old libraries, checked with the standard library, in constant time.

    library             text                          key                                         MAC
    itsdangerous        value.timestamp.signature     HMAC-SHA1(secret, salt), or                 SHA-1
      (Flask, Starlette)                              SHA-1(salt ‖ "signer" ‖ secret)
    django.signing      value:timestamp:signature     SHA-256(salt ‖ "signer" ‖ secret)           SHA-256
    cookie-signature    s:value.signature             secret                                      SHA-256
      (express-session)

A signature may be spelled in several ways that decode to the same bytes, so what names an old session is the bytes of
the signature, never its text. SHA-1 is theirs; as an HMAC it is not broken, and nothing is signed with it here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ..errors import ConfigurationError

Secrets = str | bytes | Sequence[str | bytes]

_BASE62: Final = {
    digit: value for value, digit in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
}
_URLSAFE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_MAX_TIMESTAMP: Final = 12  # characters


class Signed(NamedTuple):
    """Hold what was signed, when (seconds since 1970; None: no time was signed), and the signature's bytes."""

    value: str
    at: int | None
    signature: bytes

    def __repr__(self) -> str:
        return "<Signed>"


def secrets_of(given: Secrets) -> tuple[bytes, ...]:
    """Return the secrets as bytes, in the order given.

    Raises:
        ConfigurationError: there is none, or one is empty.
    """
    listed = (given,) if isinstance(given, (str, bytes)) else tuple(given)
    secrets = tuple(one.encode() if isinstance(one, str) else bytes(one) for one in listed)
    if not secrets or not all(secrets):
        raise ConfigurationError("a bridge to signed cookies needs the old secret key")
    return secrets


def itsdangerous_keys(secrets: Iterable[bytes], *, salt: bytes, derivation: str) -> tuple[bytes, ...]:
    """Return the signing keys that itsdangerous derives: `hmac` (Flask) or `django-concat` (its own default)."""
    if derivation == "hmac":
        return tuple(hmac.digest(secret, salt, hashlib.sha1) for secret in secrets)
    return tuple(hashlib.sha1(salt + b"signer" + secret, usedforsecurity=False).digest() for secret in secrets)


def unsign_itsdangerous(text: str, keys: Iterable[bytes], *, timed: bool) -> Signed | None:
    """Check what `itsdangerous.Signer` or, `timed`, its `TimestampSigner` made."""
    value, dot, tail = text.rpartition(".")
    signature = b64_urlsafe(tail)
    if not dot or signature is None or not _is_one_of(signature, value, keys, "sha1"):
        return None
    if not timed:
        return Signed(value, None, signature)
    value, dot, tail = value.rpartition(".")
    at = b64_urlsafe(tail) if len(tail) <= _MAX_TIMESTAMP else None
    return Signed(value, int.from_bytes(at, "big"), signature) if dot and at else None


def django_keys(secrets: Iterable[bytes], *, salt: bytes) -> tuple[bytes, ...]:
    """Return the signing keys that `django.core.signing` derives."""
    return tuple(hashlib.sha256(salt + b"signer" + secret).digest() for secret in secrets)


def unsign_django(text: str, keys: Iterable[bytes]) -> Signed | None:
    """Check what `django.core.signing.dumps` made."""
    value, colon, tail = text.rpartition(":")
    signature = b64_urlsafe(tail)
    if not colon or signature is None or not _is_one_of(signature, value, keys, "sha256"):
        return None
    value, colon, tail = value.rpartition(":")
    at = _base62(tail)
    return Signed(value, at, signature) if colon and at is not None else None


def unsign_express(text: str, secrets: Iterable[bytes]) -> Signed | None:
    """Check what cookie-signature made, after the `s:` that express-session puts in front."""
    value, dot, tail = text.rpartition(".")
    try:
        signature = binascii.a2b_base64(tail.encode("ascii") + b"=" * (-len(tail) % 4), strict_mode=True)
    except ValueError:
        return None
    if not dot or not _is_one_of(signature, value, secrets, "sha256"):
        return None
    return Signed(value, None, signature)


def _is_one_of(signature: bytes, value: str, keys: Iterable[bytes], digest: str) -> bool:
    raw = value.encode("utf-8", "surrogatepass")
    fits = False
    for key in keys:  # all are compared, whichever fits
        fits |= hmac.compare_digest(signature, hmac.digest(key, raw, digest))
    return fits


def b64_urlsafe(text: str) -> bytes | None:
    """Decode base64url without padding, None for anything else."""
    try:
        raw = text.encode("ascii")
        if not _URLSAFE.issuperset(raw):
            return None
        return base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    except ValueError:
        return None


def _base62(text: str) -> int | None:
    if not text or len(text) > _MAX_TIMESTAMP:
        return None
    number = 0
    for digit in text:
        value = _BASE62.get(digit)
        if value is None:
            return None
        number = number * 62 + value
    return number
