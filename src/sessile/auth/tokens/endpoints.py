"""The four documents and forms of tokens: facts and body in, status, headers and body out (`site` mounts them).

    GET  jwks         the public keys                                     RFC 7517
    GET  ended        the signed list of what has ended                   (ours)
    POST introspect   is this token good? for resource servers only       RFC 7662
    POST revoke       this token is over                                  RFC 7009

A failing store is 503, never "active" and never "inactive" (R45).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec

from ...core.bridge import drive
from ...core.requests import Facts
from ...errors import StoreError
from ..exchange import Reply
from .clients import Client, Clients
from .doors import AsyncTokens, Tokens
from .flow import TokenFlow
from .keys import MAX_AGE

MAX_BODY_BYTES: Final = 64 * 1024
_FORM: Final = "application/x-www-form-urlencoded"
NO_STORE: Final = (("cache-control", "no-store"), ("pragma", "no-cache"))


class AlsoRevokes(Protocol):
    """Know other tokens than access tokens, and end one of a client; tell whether it was one (RFC 7009 §2.1)."""

    async def revoke(self, text: str, client: str) -> bool:
        """End the token if it is one, and this client's."""
        ...


class EndpointFlow:
    """Answer for both doors."""

    def __init__(self, flow: TokenFlow, clients: Clients, also: AlsoRevokes | None) -> None:
        self._flow, self._clients, self._also = flow, clients, also

    async def jwks(self, facts: Facts) -> Reply:
        """Answer with the public keys."""
        return await guarded(facts, ("GET", "HEAD"), self._jwks)

    async def ended(self, facts: Facts) -> Reply:
        """Answer with the list of what has ended."""
        return await guarded(facts, ("GET", "HEAD"), self._ended)

    async def introspect(self, facts: Facts, body: bytes) -> Reply:
        """Answer whether a token is good, to a client that proves itself."""

        async def answer() -> Reply:
            form = form_of(facts, body)
            if isinstance(form, Reply):
                return form
            client = self._clients.authenticated(facts.header("authorization"))
            if client is None:
                return unauthorized()
            return json_response(200, await self._introspected(form["token"], client), NO_STORE)

        return await guarded(facts, ("POST",), answer)

    async def revoke(self, facts: Facts, body: bytes) -> Reply:
        """End a token of the client that asks."""

        async def answer() -> Reply:
            form = form_of(facts, body)
            if isinstance(form, Reply):
                return form
            client = self._clients.of(facts, form)
            if client is None:
                return unauthorized()
            if not await self._flow.revoke(form["token"], client.client_id) and self._also is not None:
                await self._also.revoke(form["token"], client.client_id)
            return Reply(200, NO_STORE, b"")  # of a token that nobody knows too: it is over (§2.2)

        return await guarded(facts, ("POST",), answer)

    async def _introspected(self, text: str, client: Client) -> dict[str, Any]:
        answer = await self._flow.introspect(text, None)
        return answer if answer.get("aud") in client.audiences else {"active": False}

    async def _jwks(self) -> Reply:
        keys = await self._flow.keys.current()
        headers = (("content-type", "application/jwk-set+json"), ("cache-control", f"public, max-age={MAX_AGE}"))
        return Reply(200, headers, keys.jwks)

    async def _ended(self) -> Reply:
        made = await self._flow.ended_list()
        left = math.floor(made.at + self._flow.rules.interval - self._flow.ground.now)
        headers = (("content-type", "application/jwt"), ("cache-control", f"public, max-age={max(0, left)}"))
        return Reply(200, headers, made.text.encode())


async def guarded(facts: Facts, methods: tuple[str, ...], answer: Callable[[], Awaitable[Reply]]) -> Reply:
    """Return an answer for these methods alone; a store that fails is 503 (R45)."""
    if facts.method not in methods:
        return Reply(405, (("allow", ", ".join(methods)),), b"")
    try:
        made = await answer()
    except StoreError:
        return json_response(503, {"error": "temporarily_unavailable"}, (*NO_STORE, ("retry-after", "5")))
    made = made._replace(headers=(*made.headers, ("x-content-type-options", "nosniff")))
    return made._replace(body=b"") if facts.method == "HEAD" else made


def form_of(facts: Facts, body: bytes, needed: str = "token") -> dict[str, str] | Reply:
    """Return the fields of a form of which one is needed, or the refusal of what is none."""
    kind = (facts.header("content-type") or "").partition(";")[0].strip().lower()
    if len(body) > MAX_BODY_BYTES:
        return json_response(413, {"error": "invalid_request"}, NO_STORE)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20) if kind == _FORM else []
    except ValueError:
        pairs = []
    form = dict(pairs)
    # RFC 6749 §3.1: no parameter twice; which of them counted would be a matter of taste.
    if len(form) != len(pairs) or not form.get(needed):
        return json_response(400, {"error": "invalid_request"}, NO_STORE)
    return form


def unauthorized() -> Reply:
    """Return the refusal of a client that proves nothing."""
    headers = (*NO_STORE, ("www-authenticate", 'Basic realm="tokens", charset="UTF-8"'))
    return json_response(401, {"error": "invalid_client"}, headers)


def json_response(status: int, content: Mapping[str, Any], headers: tuple[tuple[str, str], ...]) -> Reply:
    """Return a JSON response."""
    return Reply(status, (("content-type", "application/json"), *headers), msgspec.json.encode(content))


class AsyncEndpoints:
    """Answer requests about tokens from an event loop; `also` revokes other tokens, such as refresh tokens."""

    def __init__(self, tokens: AsyncTokens, clients: Clients, *, also: AlsoRevokes | None = None) -> None:
        self._flow = EndpointFlow(tokens.flow, clients, also)

    async def jwks(self, facts: Facts) -> Reply:
        """Answer with the public keys."""
        return await self._flow.jwks(facts)

    async def ended(self, facts: Facts) -> Reply:
        """Answer with the signed list of what has ended."""
        return await self._flow.ended(facts)

    async def introspect(self, facts: Facts, body: bytes) -> Reply:
        """Answer whether a token is good, to a client that proves itself (RFC 7662)."""
        return await self._flow.introspect(facts, body)

    async def revoke(self, facts: Facts, body: bytes) -> Reply:
        """End a token of the client that asks (RFC 7009)."""
        return await self._flow.revoke(facts, body)


class Endpoints:
    """Answer requests about tokens from code that blocks; `also` revokes other tokens, such as refresh tokens."""

    def __init__(self, tokens: Tokens, clients: Clients, *, also: AlsoRevokes | None = None) -> None:
        self._flow = EndpointFlow(tokens.flow, clients, also)

    def jwks(self, facts: Facts) -> Reply:
        """Answer with the public keys."""
        return drive(self._flow.jwks(facts))

    def ended(self, facts: Facts) -> Reply:
        """Answer with the signed list of what has ended."""
        return drive(self._flow.ended(facts))

    def introspect(self, facts: Facts, body: bytes) -> Reply:
        """Answer whether a token is good, to a client that proves itself (RFC 7662)."""
        return drive(self._flow.introspect(facts, body))

    def revoke(self, facts: Facts, body: bytes) -> Reply:
        """End a token of the client that asks (RFC 7009)."""
        return drive(self._flow.revoke(facts, body))
