"""A provider's keys and everything that can be signed with them: logout tokens, good and forged."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import re
from typing import Any

from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from sessile.auth.oidc.logout_tokens import EVENT

ISSUER = "https://login.example"
CLIENT = "shop"
NOW = 1_800_000_000.0
ABSENT = object()
_numbers = itertools.count(1)


def base64url(raw: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Forge:
    """Hold the private keys of a provider, one of each kind; `issuer`, `client` and `now` fill what is not said."""

    def __init__(self, issuer: str = ISSUER, client: str = CLIENT) -> None:
        self.issuer, self.client = issuer, client
        self.keys: dict[str, Key] = {
            "RS256": RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig", "alg": "RS256"}),
            "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
            "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
        }

    @property
    def public(self) -> KeySet:
        """Return what the provider publishes."""
        return KeySet.import_key_set({"keys": [key.as_dict(private=False) for key in self.keys.values()]})

    def claims(self, now: float = NOW, **changes: Any) -> dict[str, Any]:
        """Return good claims with these changes; `ABSENT` leaves one out."""
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.client,
            "sub": "ada",
            "sid": "sid-1",
            "iat": int(now),
            "exp": int(now) + 120,
            "jti": f"jti-{next(_numbers)}",
            "events": {EVENT: {}},
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not ABSENT}

    def token(self, claims: Any = None, *, key: str = "ES256", algorithm: str | None = None, **header: Any) -> str:
        """Return a logout token, signed; the header's changes come last."""
        name = algorithm or key
        head = {"typ": "logout+jwt", "alg": name, "kid": self.keys[key].kid, **header}
        head = {one: value for one, value in head.items() if value is not ABSENT}
        body = self.claims() if claims is None else claims
        return self.raw(json.dumps(head), body if isinstance(body, str) else json.dumps(body), name, self.keys[key])

    def raw(self, head: str | bytes, body: str | bytes, algorithm: str, key: Key) -> str:
        """Sign any two texts."""
        parts = [base64url(part.encode() if isinstance(part, str) else part) for part in (head, body)]
        message = ".".join(parts)
        signature = JWSRegistry.algorithms[algorithm].sign(message.encode(), key)
        return f"{message}.{base64url(signature)}"

    def confused(self) -> str:
        """Return a token whose MAC is keyed with the public key's text, as everybody can make one."""
        public = self.keys["RS256"]
        assert isinstance(public, RSAKey)
        secret = public.as_pem(private=False)
        parts = ({"typ": "logout+jwt", "alg": "HS256", "kid": "rsa"}, self.claims())
        message = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        return f"{message}.{base64url(hmac.digest(secret, message.encode(), 'sha256'))}"

    def id_token(self, **changes: Any) -> str:
        """Return an ID token of the same provider for the same client."""
        claims = self.claims(events=ABSENT, jti=ABSENT, nonce="n-1", auth_time=int(NOW), **changes)
        return self.token(claims, typ="JWT")


def twice(text: str, name: str, value: Any) -> str:
    """Return a JSON object in which a member stands twice."""
    return re.sub(r"^\{", "{" + json.dumps(name) + ": " + json.dumps(value) + ", ", text)
