"""A transmitter of other people's: it signs whatever a test asks for, well or badly."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import warnings
from typing import Any, Final

import msgspec
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sessile.auth.exchange import Reply, json
from sessile.auth.signals.vocabulary import SESSION_REVOKED
from tests.auth.signals.signal_bench import App, Network, transmitter

ISSUER: Final = "https://idp.example/signals"
AUDIENCE: Final = "https://b.example"
RSA: Final = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig", "alg": "RS256"})
EC: Final = ECKey.generate_key("P-256", {"kid": "ec", "use": "sig", "alg": "ES256"})
ED: Final = OKPKey.generate_key("Ed25519", {"kid": "ed", "use": "sig"})
STRANGER: Final = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig", "alg": "RS256"})


class Idp:
    """Publish keys, as a site on the network."""

    blocking = False

    def __init__(self, network: Network) -> None:
        self.keys: list[Any] = [RSA, EC, ED]
        self.asked = 0
        network.sites["idp.example"] = self

    async def answer(self, ask: Any) -> Reply:
        """Answer with metadata or keys."""
        if ask.path == "/.well-known/ssf-configuration":
            return json({"issuer": ISSUER, "jwks_uri": "https://idp.example/signals/jwks.json"})
        self.asked += 1
        return json({"keys": [{**key.as_dict(private=False), "kid": key.kid} for key in self.keys]})


def hearing(door: str, **more: Any) -> tuple[App, Idp]:
    """Return an application that listens to the provider."""
    network = Network()
    idp = Idp(network)
    app = App("b", network, door=door, transmitters=(transmitter("idp", "b", **more),))
    return app, idp


def claims(app: App, **more: Any) -> dict[str, Any]:
    """Return the claims of a good SET that signs Ada out; None takes one away."""
    given = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": int(app.clock()),
        "jti": secrets.token_hex(8),
        "txn": secrets.token_hex(8),
        "sub_id": {"format": "iss_sub", "iss": ISSUER, "sub": "ada"},
        "events": {SESSION_REVOKED: {"reason_admin": {"en": "Policy"}}},
        **more,
    }
    return {name: value for name, value in given.items() if value is not None}


def signed(body: dict[str, Any] | bytes, key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    """Return a SET."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    head = {"alg": algorithm, "typ": "secevent+jwt", "kid": key.kid, **header}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # EdDSA is an old name for Ed25519, and some still use it
        return jws.serialize_compact(
            {name: value for name, value in head.items() if value is not None}, raw, key, [algorithm]
        )


def bare(header: dict[str, Any], body: dict[str, Any], signature: bytes = b"") -> str:
    """Return what looks like a SET."""
    return f"{_part(header)}.{_part(body)}.{_b64(signature) or 'AA'}"


def maced(body: dict[str, Any]) -> str:
    """Return a SET whose MAC is made with the public key: what confused verifiers take."""
    text = f"{_part({'alg': 'HS256', 'typ': 'secevent+jwt', 'kid': 'rsa'})}.{_part(body)}"
    mac = hmac.new(RSA.as_pem(private=False), text.encode(), hashlib.sha256).digest()
    return f"{text}.{_b64(mac)}"


def _part(value: Any) -> str:
    return _b64(msgspec.json.encode(value))


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
