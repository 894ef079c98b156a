"""What travels: the options that pages get, and answers that come back, bounded and read before anything is believed.

Answers are what `PublicKeyCredential.toJSON()` makes. Their JSON, their base64url and their sizes are checked here, so
that webauthn (py_webauthn), which judges signatures and CBOR, is given small bytes only. What it raises on bytes that
an attacker chose is of many types; here that is one: `Unfit`.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from ...errors import ExtraMissing
from .items import Key
from .rules import LIFETIME, Rules, Why

try:
    import webauthn
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import mldsa
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from webauthn.helpers import (
        decode_credential_public_key,
        decoded_public_key_to_cryptography,
        parse_attestation_object,
        parse_authenticator_data,
    )
    from webauthn.helpers.cose import COSECRV, COSEKTY, COSEAlgorithmIdentifier
    from webauthn.helpers.exceptions import WebAuthnException
except ImportError as error:  # pragma: no cover - shown by a test in another process
    raise ExtraMissing("passkeys", "passkeys") from error

MAX_CHARS: Final = 64 * 1024
MAX_CLIENT_DATA: Final = 4 * 1024
MAX_ATTESTATION: Final = 16 * 1024
MAX_AUTHENTICATOR_DATA: Final = 8 * 1024
MAX_SIGNATURE: Final = 8 * 1024
MAX_CREDENTIAL_ID: Final = 1023  # WebAuthn L3 §7.1
TRANSPORTS: Final = frozenset({"usb", "nfc", "ble", "smart-card", "hybrid", "internal"})
_RSA_BITS: Final = range(2048, 4097)


class Unfit(Exception):
    """Say why an answer is refused."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why: Why = why


def algorithms() -> tuple[int, ...]:
    """Return the COSE algorithms that keys may have, the best first: ML-DSA-44, Ed25519, ES256, RS256."""
    classic = (COSEAlgorithmIdentifier.EDDSA, COSEAlgorithmIdentifier.ECDSA_SHA_256)
    last = COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256
    first = (COSEAlgorithmIdentifier.ML_DSA_44,) if _has_mldsa() else ()
    return tuple(int(one) for one in (*first, *classic, last))


def _has_mldsa() -> bool:
    """Tell whether the installed `cryptography` was built with a library that knows ML-DSA."""
    try:
        mldsa.MLDSA44PrivateKey.generate()
    except UnsupportedAlgorithm:  # pragma: no cover - depends on how it was built
        return False
    return True


# -- out ---------------------------------------------------------------------------------------------------------------


def encoded(data: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _descriptor(credential: bytes, transports: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "public-key", "id": encoded(credential)}
    listed = list(transports)
    if listed:
        found["transports"] = listed
    return found


def creation_options(
    rules: Rules,
    listed: tuple[int, ...],
    *,
    challenge: str,
    handle: bytes,
    name: str,
    display_name: str,
    keys: Iterable[Key],
) -> dict[str, Any]:
    """Return what `parseCreationOptionsFromJSON` reads; the user's own keys are excluded."""
    return {
        "rp": {"id": rules.rp_id, "name": rules.rp_name},
        "user": {"id": encoded(handle), "name": name, "displayName": display_name},
        "challenge": challenge,
        "pubKeyCredParams": [{"type": "public-key", "alg": one} for one in listed],
        "timeout": int(LIFETIME * 1000),
        "excludeCredentials": [_descriptor(key.credential, key.transports) for key in keys],
        "authenticatorSelection": {
            "residentKey": rules.discoverable,
            "requireResidentKey": rules.discoverable == "required",
            "userVerification": rules.verification,
        },
        "attestation": "none",
    }


def request_options(
    rules: Rules, *, challenge: str, allowed: Iterable[tuple[bytes, tuple[str, ...]]]
) -> dict[str, Any]:
    """Return what `parseRequestOptionsFromJSON` reads; nothing allowed: any key of this site that is discoverable."""
    return {
        "challenge": challenge,
        "rpId": rules.rp_id,
        "timeout": int(LIFETIME * 1000),
        "allowCredentials": [_descriptor(credential, transports) for credential, transports in allowed],
        "userVerification": rules.verification,
    }


def decoy(key: bytes, user: str) -> bytes:
    """Return a credential id for a user who has none: always the same, so that nobody learns who has (§14.6.2)."""
    return hmac.digest(key, user.encode("utf-8", "surrogatepass"), hashlib.sha256)


# -- in ----------------------------------------------------------------------------------------------------------------


class _Response(msgspec.Struct, rename={"client_data": "clientDataJSON", "attestation": "attestationObject"}):
    client_data: str
    attestation: str
    transports: list[str] = []


class _Attested(msgspec.Struct, rename="camel"):
    id: str
    raw_id: str
    type: str
    response: _Response
    authenticator_attachment: str | None = None


class _Asserting(msgspec.Struct, rename="camel"):
    client_data: str = msgspec.field(name="clientDataJSON")
    authenticator_data: str
    signature: str
    user_handle: str | None = None


class _Asserted(msgspec.Struct, rename="camel"):
    id: str
    raw_id: str
    type: str
    response: _Asserting


class _ClientData(msgspec.Struct, rename="camel"):
    type: str
    challenge: str
    origin: str
    cross_origin: bool = False
    top_origin: str | None = None


class Attestation(NamedTuple):
    """Hold a new key's answer as it came, decoded, not believed."""

    challenge: str
    credential: bytes
    client_data: bytes
    attestation: bytes
    transports: tuple[str, ...]
    attachment: str


class Assertion(NamedTuple):
    """Hold a known key's answer as it came, decoded, not believed."""

    challenge: str
    credential: bytes
    client_data: bytes
    authenticator_data: bytes
    signature: bytes
    handle: bytes | None


class Enrolled(NamedTuple):
    """Hold what a verified new key is."""

    credential: bytes
    public: bytes
    algorithm: int
    counter: int
    eligible: bool
    backed_up: bool
    verified: bool
    aaguid: str


class Shown(NamedTuple):
    """Hold what a verified answer of a known key says."""

    counter: int
    eligible: bool
    backed_up: bool
    verified: bool


def read_attestation(text: object, rules: Rules) -> Attestation:
    """Read what a page sent after `navigator.credentials.create`.

    Raises:
        Unfit: it is none.
    """
    came = _json(text, _Attested)
    credential = _credential(came.id, came.raw_id, came.type)
    client_data, challenge = _client_data(came.response.client_data, "webauthn.create", rules)
    return Attestation(
        challenge,
        credential,
        client_data,
        _decoded(came.response.attestation, MAX_ATTESTATION),
        tuple(sorted(TRANSPORTS.intersection(came.response.transports))),
        came.authenticator_attachment or "",
    )


def read_assertion(text: object, rules: Rules) -> Assertion:
    """Read what a page sent after `navigator.credentials.get`.

    Raises:
        Unfit: it is none.
    """
    came = _json(text, _Asserted)
    credential = _credential(came.id, came.raw_id, came.type)
    response = came.response
    client_data, challenge = _client_data(response.client_data, "webauthn.get", rules)
    return Assertion(
        challenge,
        credential,
        client_data,
        _decoded(response.authenticator_data, MAX_AUTHENTICATOR_DATA),
        _decoded(response.signature, MAX_SIGNATURE),
        _decoded(response.user_handle, 64) if response.user_handle else None,
    )


def _json(text: object, kind: type[Any]) -> Any:
    if not isinstance(text, (str, bytes)) or len(text) > MAX_CHARS:
        raise Unfit("malformed")
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Unfit("malformed") from None


def _decoded(text: str, limit: int) -> bytes:
    """Return what a base64url text holds: one spelling only, not empty, at most `limit` bytes."""
    if not 0 < len(text) <= limit * 4 // 3 + 3:
        raise Unfit("malformed")
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise Unfit("malformed") from None
    if encoded(data) != text or len(data) > limit:
        raise Unfit("malformed")
    return data


def _credential(name: str, raw: str, kind: str) -> bytes:
    if name != raw or kind != "public-key":
        raise Unfit("malformed")
    return _decoded(raw, MAX_CREDENTIAL_ID)


def _client_data(text: str, kind: str, rules: Rules) -> tuple[bytes, str]:
    """Return the client data and the challenge in it, if a page of ours made it for this kind of ceremony."""
    data = _decoded(text, MAX_CLIENT_DATA)
    try:
        said = msgspec.json.decode(data, type=_ClientData)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Unfit("malformed") from None
    # A page of ours in a frame of another site's: who clicked there did not see whom they signed in to (§13.4.9).
    if said.type != kind or said.origin not in rules.origins or said.cross_origin or said.top_origin is not None:
        raise Unfit("response")
    return data, said.challenge


# -- judged by webauthn ------------------------------------------------------------------------------------------------


def verify_attestation(came: Attestation, rules: Rules, listed: tuple[int, ...]) -> Enrolled:
    """Return the new key if its answer is right.

    Raises:
        Unfit: it is not.
    """
    try:
        attestation = parse_attestation_object(came.attestation)
        # "none" was asked for; a browser may leave a key's own signature in place. Formats with certificates are never
        # parsed: nobody needs them, and they are most of the code that an attacker could reach.
        if attestation.fmt not in ("none", "packed") or attestation.att_stmt.x5c:
            raise Unfit("response")
        if rules.verification == "required" and not attestation.auth_data.flags.uv:
            raise Unfit("verification")
        found = webauthn.verify_registration_response(
            credential=_raw(
                came.credential,
                clientDataJSON=encoded(came.client_data),
                attestationObject=encoded(came.attestation),
            ),
            expected_challenge=_decoded(came.challenge, 64),
            expected_rp_id=rules.rp_id,
            expected_origin=list(rules.origins),
            supported_pub_key_algs=[COSEAlgorithmIdentifier(one) for one in listed],
        )
        algorithm = _algorithm(found.credential_public_key)
    except Unfit:
        raise
    except WebAuthnException:
        raise Unfit("response") from None
    except Exception:  # noqa: BLE001 - KeyError, TypeError, ValueError, …: whatever bytes that someone chose set off
        raise Unfit("malformed") from None
    if found.credential_id != came.credential or algorithm not in listed:
        raise Unfit("response")
    return Enrolled(
        found.credential_id,
        found.credential_public_key,
        algorithm,
        found.sign_count,
        attestation.auth_data.flags.be,
        found.credential_backed_up,
        found.user_verified,
        found.aaguid,
    )


def _algorithm(public: bytes) -> int:
    """Return the one algorithm that a public key is for, if the key is fit for it.

    Raises:
        Unfit: type, curve or size are not those of its algorithm.
    """
    decoded: Any = decode_credential_public_key(public)
    fits = {
        COSEAlgorithmIdentifier.ML_DSA_44: (COSEKTY.ML_DSA, None),
        COSEAlgorithmIdentifier.EDDSA: (COSEKTY.OKP, COSECRV.ED25519),
        COSEAlgorithmIdentifier.ECDSA_SHA_256: (COSEKTY.EC2, COSECRV.P256),
        COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256: (COSEKTY.RSA, None),
    }
    if fits.get(decoded.alg) != (decoded.kty, getattr(decoded, "crv", None)):
        raise Unfit("algorithm")
    loaded = decoded_public_key_to_cryptography(decoded)
    # A huge modulus costs time at every sign-in, a small one is none.
    if isinstance(loaded, RSAPublicKey) and (
        loaded.key_size not in _RSA_BITS or loaded.public_numbers().e not in (3, 65537)
    ):
        raise Unfit("algorithm")
    return int(decoded.alg)


def verify_assertion(came: Assertion, rules: Rules, key: Key) -> Shown:
    """Return what a known key's answer says if it is right. The counter is not judged here.

    Raises:
        Unfit: it is not.
    """
    try:
        flags = parse_authenticator_data(came.authenticator_data).flags
        if rules.verification == "required" and not flags.uv:
            raise Unfit("verification")
        found = webauthn.verify_authentication_response(
            credential=_raw(
                came.credential,
                clientDataJSON=encoded(came.client_data),
                authenticatorData=encoded(came.authenticator_data),
                signature=encoded(came.signature),
            ),
            expected_challenge=_decoded(came.challenge, 64),
            expected_rp_id=rules.rp_id,
            expected_origin=list(rules.origins),
            credential_public_key=key.public,
            # Zero: the library looks at the counter before the signature, so anybody who knows a key's id could cry
            # wolf. The rule is ours, on what is signed.
            credential_current_sign_count=0,
        )
    except Unfit:
        raise
    except WebAuthnException:
        raise Unfit("signature") from None
    except Exception:  # noqa: BLE001 - as above
        raise Unfit("malformed") from None
    return Shown(found.new_sign_count, flags.be, found.credential_backed_up, found.user_verified)


def _raw(credential: bytes, **response: str) -> dict[str, Any]:
    return {"id": encoded(credential), "rawId": encoded(credential), "type": "public-key", "response": response}
