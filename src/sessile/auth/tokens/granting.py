"""The token endpoint: a refresh token in, new tokens out (RFC 6749 §6, RFC 9449 §5), for any server.

    POST token   grant_type=refresh_token, refresh_token, [scope], client_id or Basic, [DPoP]
    200          access_token, token_type, expires_in, scope, and refresh_token if the client must keep a new one
    400          invalid_request, unsupported_grant_type, invalid_grant, invalid_scope, invalid_dpop_proof,
                 use_dpop_nonce
    401          invalid_client

Where a browser's pages must not see tokens (R87), call `refresh` in your own server instead.
"""

from __future__ import annotations

from typing import Any

from ...core.bridge import drive
from ...core.requests import Facts
from ...errors import ConfigurationError
from ..exchange import Reply
from .apidoor import url_of
from .clients import Clients
from .doors import AsyncProofs, Proofs
from .endpoints import NO_STORE, form_of, guarded, json_response, unauthorized
from .flow import ProofFlow, Unproved
from .refresh import AsyncRefreshTokens, RefreshFlow, RefreshTokens, Refused


class GrantFlow:
    """Answer for both doors."""

    def __init__(self, flow: RefreshFlow, clients: Clients, proofs: ProofFlow | None) -> None:
        if proofs is not None and proofs.ground.engine is not flow.main:
            raise ConfigurationError("tokens and proofs are of different sessions")
        self._flow, self._clients, self._proofs = flow, clients, proofs

    async def token(self, facts: Facts, body: bytes) -> Reply:
        """Answer a client that has a refresh token."""

        async def answer() -> Reply:
            form = form_of(facts, body, "grant_type")
            if isinstance(form, Reply):
                return form
            client = self._clients.of(facts, form)
            if client is None:
                return unauthorized()
            if form["grant_type"] != "refresh_token":
                return _refused("unsupported_grant_type")
            if not form.get("refresh_token"):
                return _refused("invalid_request")
            proved = await self._proved(facts)
            if isinstance(proved, Reply):
                return proved
            given = await self._flow.refresh(
                form["refresh_token"], facts=facts, client=client.client_id, scope=form.get("scope"), jkt=proved
            )
            if isinstance(given, Refused):
                return _refused(str(given))
            answer: dict[str, Any] = {
                "access_token": given.access,
                "token_type": given.token_type,
                "expires_in": given.expires_in,
                "scope": given.scope,
            }
            if given.refresh is not None:
                answer["refresh_token"] = given.refresh
            return json_response(200, answer, (*NO_STORE, *self._next_nonce(proved)))

        return await guarded(facts, ("POST",), answer)

    async def _proved(self, facts: Facts) -> str | Reply | None:
        """Return the thumbprint of the key that a request proves, None if it shows no proof, or the refusal."""
        proof = facts.header("dpop")
        if proof is None:
            return None
        if self._proofs is None:
            return _refused("invalid_dpop_proof")
        url = url_of(self._flow.main, facts)
        shown = await self._proofs.prove(proof, method=facts.method, url=url, token=None)
        if not isinstance(shown, Unproved):
            return shown.jkt
        if shown.nonce is None:
            return _refused("invalid_dpop_proof")
        return _refused("use_dpop_nonce", ("dpop-nonce", shown.nonce))

    def _next_nonce(self, proved: str | None) -> tuple[tuple[str, str], ...]:
        """Return the nonce for the next proof, so that its sender need not be refused first (RFC 9449 §8.2)."""
        nonce = None if proved is None or self._proofs is None else self._proofs.nonce()
        return () if nonce is None else (("dpop-nonce", nonce),)


def _refused(error: str, *more: tuple[str, str]) -> Reply:
    return json_response(400, {"error": error}, (*NO_STORE, *more))


class AsyncTokenEndpoint:
    """Answer clients that have a refresh token, from an event loop. Without `proofs`, no DPoP proof is taken."""

    def __init__(self, refreshing: AsyncRefreshTokens, clients: Clients, *, proofs: AsyncProofs | None = None) -> None:
        self._flow = GrantFlow(refreshing.flow, clients, None if proofs is None else proofs.flow)

    async def token(self, facts: Facts, body: bytes) -> Reply:
        """Answer `POST token` (RFC 6749 §6)."""
        return await self._flow.token(facts, body)


class TokenEndpoint:
    """Answer clients that have a refresh token, from code that blocks. Without `proofs`, no DPoP proof is taken."""

    def __init__(self, refreshing: RefreshTokens, clients: Clients, *, proofs: Proofs | None = None) -> None:
        self._flow = GrantFlow(refreshing.flow, clients, None if proofs is None else proofs.flow)

    def token(self, facts: Facts, body: bytes) -> Reply:
        """Answer `POST token` (RFC 6749 §6)."""
        return drive(self._flow.token(facts, body))
