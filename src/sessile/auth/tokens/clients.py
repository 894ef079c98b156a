"""Who may ask about tokens: clients with a secret that is kept as a hash (RFC 6749 §2.3.1).

A client's secret is drawn by `new_secret` (256 bits), so one SHA-256 is all the hashing that it needs: there is nothing
to guess. An unknown client takes the same work as a wrong secret.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
from base64 import b64decode
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from ...core.requests import Facts
from ...errors import ConfigurationError

_MAX_HEADER: Final = 2048
_NOBODY: Final = hashlib.sha256(b"").hexdigest()


class Client(NamedTuple):
    """Hold a client: its id, the hash of its secret (None: a public client, which has none), what it may ask about.

    `audiences` are those whose tokens it may introspect; it learns nothing of others.
    """

    client_id: str
    secret_hash: str | None
    audiences: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Client {self.client_id!r}>"


def new_secret() -> tuple[str, str]:
    """Draw a client's secret; return it and its hash. Only the hash is kept."""
    secret = secrets.token_urlsafe(32)
    return secret, hash_of(secret)


def hash_of(secret: str) -> str:
    """Return a secret's hash, in hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Clients:
    """Know the clients.

    Raises:
        ConfigurationError: two have one id, or a hash is none.
    """

    def __init__(self, *clients: Client) -> None:
        self._clients = {client.client_id: client for client in clients}
        if len(self._clients) != len(clients):
            raise ConfigurationError("two clients have the same id")
        for client in clients:
            digest = client.secret_hash
            if digest is not None and (len(digest) != 64 or digest.strip("0123456789abcdef")):
                raise ConfigurationError(f"the secret of {client.client_id!r} is given as `hash_of` returns it")

    def __repr__(self) -> str:
        return f"<Clients {sorted(self._clients)}>"

    def authenticated(self, authorization: str | None) -> Client | None:
        """Return the client that a Basic header proves, in constant time; None if it proves none."""
        client_id, secret = _basic(authorization)
        client = self._clients.get(client_id)
        kept = None if client is None else client.secret_hash
        is_right = hmac.compare_digest(hash_of(secret), _NOBODY if kept is None else kept)
        return client if is_right and kept is not None else None

    def of(self, facts: Facts, form: Mapping[str, str]) -> Client | None:
        """Return the client that a form comes from: one that proves itself, or one that has no secret."""
        proves = facts.header("authorization")
        return self.public(form.get("client_id")) if proves is None else self.authenticated(proves)

    def public(self, client_id: str | None) -> Client | None:
        """Return the client of this id if it is one that has no secret."""
        client = None if client_id is None else self._clients.get(client_id)
        return client if client is not None and client.secret_hash is None else None


def _basic(authorization: str | None) -> tuple[str, str]:
    scheme, _, encoded = (authorization or "")[:_MAX_HEADER].partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, colon, secret = b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return (unquote_plus(name), unquote_plus(secret)) if colon else ("", "")
