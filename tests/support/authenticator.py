"""An authenticator in software, and the browser around it: what it signs is right unless a test says otherwise.

    key = Authenticator().create(options, origin=…)      the JSON that a page would send
    Authenticator().get(options, origin=…)

Every part can be forged by name, so that an attack is one argument.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa

ES256: Final = -7
EDDSA: Final = -8
ML_DSA_44: Final = -48
RS256: Final = -257
UP, UV, BE, BS, AT = 1, 4, 8, 16, 64


def text_of(data: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def bytes_of(text: str) -> bytes:
    """Return what base64url holds."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Authenticator:
    """Hold one key: `algorithm` by its COSE number; `step` is what its counter grows by (0: it has none)."""

    def __init__(self, algorithm: int = ES256, *, step: int = 1, flags: int = UP | UV, attachment: str = "platform"):
        self.algorithm, self.step, self.flags, self.attachment = algorithm, step, flags, attachment
        self.credential = secrets.token_bytes(32)
        self.counter = 0
        self.handle: bytes | None = None
        self.transports = ["internal"] if attachment == "platform" else ["usb"]
        self.secret: Any = _MAKE[algorithm]()

    def clone(self) -> Authenticator:
        """Return a copy that counts for itself."""
        copy = Authenticator(self.algorithm, step=self.step, flags=self.flags, attachment=self.attachment)
        copy.__dict__.update(self.__dict__)
        return copy

    def cose(self) -> dict[int, Any]:
        """Return the public key as COSE has it."""
        public = self.secret.public_key()
        if self.algorithm == ES256:
            numbers = public.public_numbers()
            size = (public.key_size + 7) // 8
            return {1: 2, 3: ES256, -1: 1, -2: numbers.x.to_bytes(size, "big"), -3: numbers.y.to_bytes(size, "big")}
        if self.algorithm == EDDSA:
            return {1: 1, 3: EDDSA, -1: 6, -2: public.public_bytes_raw()}
        if self.algorithm == ML_DSA_44:
            return {1: 7, 3: ML_DSA_44, -1: public.public_bytes_raw()}
        numbers = public.public_numbers()
        return {1: 3, 3: RS256, -1: numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"), -2: b"\x01\x00\x01"}

    def sign(self, data: bytes) -> bytes:
        """Sign."""
        if self.algorithm == ES256:
            return self.secret.sign(data, ec.ECDSA(hashes.SHA256()))
        if self.algorithm == RS256:
            return self.secret.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.secret.sign(data)

    def create(self, options: str | dict[str, Any], *, origin: str, **forged: Any) -> str:
        """Return the answer of `navigator.credentials.create`, in JSON."""
        asked = json.loads(options) if isinstance(options, str) else options
        self.handle = bytes_of(asked["user"]["id"])
        client = _client(forged.pop("type", "webauthn.create"), asked["challenge"], origin, forged)
        cose = forged.pop("cose", None) or self.cose()
        credential = forged.pop("credential", self.credential)
        attested = bytes(16) + len(credential).to_bytes(2, "big") + credential + cbor2.dumps(cose)
        data = self._data(asked["rp"]["id"], forged, AT) + attested
        if forged.pop("signs_itself", False):
            signature = self.sign(data + hashlib.sha256(client).digest())
            forged["attestation"] = {"fmt": "packed", "attStmt": {"alg": self.algorithm, "sig": signature}}
        attestation = {"fmt": "none", "attStmt": {}, "authData": data, **forged.pop("attestation", {})}
        answer = _answer(credential, client, attestationObject=text_of(cbor2.dumps(attestation)))
        answer["response"]["transports"] = forged.pop("transports", self.transports)
        answer["authenticatorAttachment"] = self.attachment
        assert not forged, forged
        return json.dumps(answer)

    def get(self, options: str | dict[str, Any], *, origin: str, **forged: Any) -> str:
        """Return the answer of `navigator.credentials.get`, in JSON."""
        asked = json.loads(options) if isinstance(options, str) else options
        client = _client(forged.pop("type", "webauthn.get"), asked["challenge"], origin, forged)
        data = self._data(asked["rpId"], forged, 0)
        signature = self.sign(data + hashlib.sha256(client).digest())
        signature = forged.pop("signature", lambda right: right)(signature)
        credential = forged.pop("credential", self.credential)
        answer = _answer(credential, client, authenticatorData=text_of(data), signature=text_of(signature))
        handle = forged.pop("handle", self.handle)
        if handle is not None:
            answer["response"]["userHandle"] = text_of(handle)
        assert not forged, forged
        return json.dumps(answer)

    def _data(self, rp_id: str, forged: dict[str, Any], more: int) -> bytes:
        self.counter = forged.pop("counter", self.counter + self.step)
        flags = forged.pop("flags", self.flags) | more
        rp_id = forged.pop("rp_id", rp_id)
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + self.counter.to_bytes(4, "big")


def _client(kind: str, challenge: str, origin: str, forged: dict[str, Any]) -> bytes:
    said = {"type": kind, "challenge": forged.pop("challenge", challenge), "origin": origin, "crossOrigin": False}
    return json.dumps({**said, **forged.pop("client", {})}).encode()


def _answer(credential: bytes, client: bytes, **response: str) -> dict[str, Any]:
    return {
        "id": text_of(credential),
        "rawId": text_of(credential),
        "type": "public-key",
        "clientExtensionResults": {},
        "response": {"clientDataJSON": text_of(client), **response},
    }


_MAKE: Final = {
    ES256: lambda: ec.generate_private_key(ec.SECP256R1()),
    EDDSA: ed25519.Ed25519PrivateKey.generate,
    ML_DSA_44: mldsa.MLDSA44PrivateKey.generate,
    RS256: lambda: rsa.generate_private_key(65537, 2048),
}
