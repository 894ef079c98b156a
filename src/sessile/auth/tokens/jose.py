"""What is taken from JOSE, and nothing more: four signature algorithms, their public keys, strict base64url.

    alg          key (JWK)            private key       source
    ES256        EC, P-256            32-byte scalar    RFC 7518
    EdDSA        OKP, Ed25519         32-byte seed      RFC 8037
    ML-DSA-44    AKP, alg ML-DSA-44   32-byte seed      RFC 9964
    ML-DSA-65    AKP, alg ML-DSA-65   32-byte seed      RFC 9964

PyJWT signs and verifies, in an instance of its own that knows these algorithms only: `none` and every MAC are not
refused here, they do not exist (R79). An algorithm belongs to a key, never to what a header says, so keys cannot be
taken for those of another algorithm. JWKs are read here and not by PyJWT: the text of its `PyJWKError` holds the whole
key, the private part too.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from ...errors import ConfigurationError, ExtraMissing

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
    from jwt import PyJWS, PyJWTError
    from jwt.algorithms import Algorithm as PyAlgorithm
    from jwt.algorithms import OKPAlgorithm
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("tokens", "tokens") from error

Algorithm = Literal["ES256", "EdDSA", "ML-DSA-44", "ML-DSA-65"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)
SECRET_BYTES: Final = 32
# The name that RFC 9864 gives to EdDSA with Ed25519. Clients' proofs may carry it; our own tokens say EdDSA.
ED25519: Final = "Ed25519"

MAX_CHARS: Final = 16 * 1024
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_FROM_URLSAFE: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
# The unused bits of a last character must be zero: one value has one spelling.
_LAST: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
_MLDSA: Final[Mapping[str, tuple[Any, Any, int]]] = {
    "ML-DSA-44": (mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PublicKey, 1312),
    "ML-DSA-65": (mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey, 1952),
}
_PRIVATE_MEMBERS: Final = frozenset({"d", "k", "p", "q", "dp", "dq", "qi", "oth", "priv"})


class _Akp(PyAlgorithm):
    """Sign and verify with one ML-DSA parameter set, for PyJWT, which has none; the context is empty (RFC 9964 §4)."""

    def __init__(self, private: Any, public: Any) -> None:
        self._private, self._public = private, public

    def prepare_key(self, key: Any) -> Any:
        if not isinstance(key, (self._private, self._public)):
            raise TypeError("a key of another algorithm")
        return key

    def sign(self, msg: bytes, key: Any) -> bytes:
        return key.sign(msg)  # type: ignore[no-any-return]

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
        try:
            key.verify(sig, msg)
        except InvalidSignature:
            return False
        return True

    @staticmethod
    def to_jwk(key_obj: Any, as_dict: bool = False) -> Any:  # noqa: FBT001, FBT002 - PyJWT's own signature
        raise TypeError("AKP keys are read and written by this module")

    @staticmethod
    def from_jwk(jwk: str | dict[str, Any]) -> Any:
        raise TypeError("AKP keys are read and written by this module")


def _jws() -> PyJWS:
    made = PyJWS(algorithms=["ES256", "EdDSA"])
    made.register_algorithm(ED25519, OKPAlgorithm())
    for name, (private, public, _) in _MLDSA.items():
        made.register_algorithm(name, _Akp(private, public))
    return made


_JWS: Final = _jws()


class PublicKey(NamedTuple):
    """Hold a key that verifies, the one algorithm it is for, and its RFC 7638 thumbprint."""

    algorithm: str
    key: Any
    thumbprint: str


class PublicKeys:
    """Hold the keys of one issuer by their `kid`, and which headers proved to be theirs.

    Of a key there is one header, or a few: reading it again tells nothing, so the key is found by the header's text. A
    header enters only with a signature that was right, so nobody else can fill the table.
    """

    __slots__ = ("by_kid", "proved")

    def __init__(self, keys: Mapping[str, PublicKey]) -> None:
        self.by_kid = dict(keys)
        self.proved: dict[str, tuple[str, PublicKey]] = {}

    def __repr__(self) -> str:
        return f"<PublicKeys {list(self.by_kid)}>"


class PrivateKey(NamedTuple):
    """Hold a key that signs. Its repr shows nothing of it."""

    algorithm: Algorithm
    secret: bytes
    key: Any
    public: PublicKey
    jwk: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<PrivateKey {self.algorithm} {self.public.thumbprint}>"


def private_key(algorithm: str, secret: bytes) -> PrivateKey:
    """Make a key that signs from its 32 secret bytes.

    Raises:
        ConfigurationError: there is no such algorithm, here or in the OpenSSL that `cryptography` was built with, or
            the bytes are no key of it. Nothing of the bytes is repeated, neither here nor in a cause.
    """
    if algorithm not in ALGORITHMS:
        raise ConfigurationError(f"tokens are signed with {', '.join(ALGORITHMS)}, not with {str(algorithm)[:20]!r}")
    try:
        key = _MAKE[algorithm](secret)
    except UnsupportedAlgorithm:
        raise ConfigurationError(f"{algorithm} is not in the OpenSSL that cryptography brought along") from None
    except (ValueError, TypeError):
        raise ConfigurationError(f"these are no secret bytes of an {algorithm} key") from None
    jwk = _jwk_of(algorithm, key.public_key())
    return PrivateKey(algorithm, secret, key, PublicKey(algorithm, key.public_key(), thumbprint(jwk)), jwk)


def _ec_private(secret: bytes) -> Any:
    if len(secret) != SECRET_BYTES:
        raise ValueError("length")
    return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())


_MAKE: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "ES256": _ec_private,
    "EdDSA": ed25519.Ed25519PrivateKey.from_private_bytes,
    **{name: private.from_seed_bytes for name, (private, _, _) in _MLDSA.items()},
}


def _jwk_of(algorithm: str, public: Any) -> dict[str, str]:
    if algorithm == "ES256":
        numbers = public.public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        return {"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)}
    raw = base64url(public.public_bytes_raw())
    if algorithm == "EdDSA":
        return {"kty": "OKP", "crv": "Ed25519", "x": raw}
    return {"kty": "AKP", "alg": algorithm, "pub": raw}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of a public key (RFC 7638; AKP: RFC 9964 §6)."""
    members = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "AKP": ("alg", "kty", "pub")}[jwk["kty"]]
    return base64url(hashlib.sha256(msgspec.json.encode({name: jwk[name] for name in members})).digest())


def is_thumbprint(text: str) -> bool:
    """Tell whether a text has the form of a SHA-256 thumbprint."""
    return _THUMBPRINT.fullmatch(text) is not None and is_canonical(text)


def public_key(jwk: Mapping[str, Any], *, algorithm: str | None = None) -> PublicKey | None:
    """Read somebody's public JWK; None if it is none of ours: another type, not on its curve, or not public at all.

    `algorithm` is the one that it is wanted for; a key that names another is refused (R79).
    """
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        return None
    named = jwk.get("alg")
    if named is not None and not isinstance(named, str):
        return None
    kind = jwk.get("kty")
    try:
        if kind == "EC" and jwk.get("crv") == "P-256":
            own, key = "ES256", _ec_public(jwk["x"], jwk["y"])
        elif kind == "OKP" and jwk.get("crv") == "Ed25519":
            own, key = "EdDSA", ed25519.Ed25519PublicKey.from_public_bytes(unbase64url(jwk["x"]))
        elif kind == "AKP" and named is not None and named in _MLDSA:
            own, key = named, _MLDSA[named][1].from_public_bytes(unbase64url(jwk["pub"]))
        else:
            return None
    except (KeyError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    names = {own, ED25519} if own == "EdDSA" else {own}
    if (named is not None and named not in names) or (algorithm is not None and algorithm not in names):
        return None
    return PublicKey(algorithm or own, key, thumbprint(jwk))


def _ec_public(x: str, y: str) -> Any:
    left, right = unbase64url(x), unbase64url(y)
    if len(left) != 32 or len(right) != 32:
        raise ValueError("coordinates")
    # Raises unless the point is on the curve: no invalid-curve key.
    return ec.EllipticCurvePublicNumbers(
        int.from_bytes(left, "big"), int.from_bytes(right, "big"), ec.SECP256R1()
    ).public_key()


def base64url(raw: bytes) -> str:
    """Write bytes as base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def is_canonical(text: str) -> bool:
    """Tell whether base64url characters end as an encoder ends them."""
    rest = len(text) % 4
    return rest == 0 or (rest != 1 and text[-1] in _LAST[rest])


def unbase64url(text: str) -> bytes:
    """Read base64url: no padding, no other character, no second spelling (RFC 8725bis §3.13).

    Raises:
        ValueError: it is not what `base64url` writes.
    """
    if not isinstance(text, str) or not text.isascii() or not is_canonical(text):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError("base64url")
    try:
        return binascii.a2b_base64(text.encode().translate(_FROM_URLSAFE) + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        raise ValueError("base64url") from None


def segments(text: object, limit: int = MAX_CHARS) -> tuple[str, str, str] | None:
    """Return the three parts of a compact JWS, None if it is none. Length comes first: nothing large is looked at."""
    if not isinstance(text, str) or len(text) > limit or _COMPACT.fullmatch(text) is None:
        return None
    head, body, signature = text.split(".")
    return (head, body, signature) if is_canonical(head) and is_canonical(body) and is_canonical(signature) else None


def signed(payload: bytes, key: PrivateKey, typ: str, **header: Any) -> str:
    """Return a compact JWS; `kid` names the key unless the header says otherwise."""
    return _JWS.encode(payload, key.key, key.algorithm, {"typ": typ, **(header or {"kid": key.public.thumbprint})})


def payload_of(text: str, key: PublicKey) -> bytes | None:
    """Return the payload of a compact JWS if this key signed it, None if it did not.

    `text` has passed `segments`, and whoever chose the key has read the header: it holds no more than it may.
    """
    try:
        return _JWS.decode(text, key.key, algorithms=[key.algorithm])  # type: ignore[no-any-return]
    except (PyJWTError, ValueError, TypeError):
        return None
