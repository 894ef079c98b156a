"""The token endpoints, to be mounted anywhere: `sessile.adapters.sites`, Flask's and Django's.

POST  token         a refresh token in, new tokens out                     RFC 6749 §6, RFC 9449 §5
POST  revoke        this token is over                                     RFC 7009
POST  introspect    is this token good? for resource servers only          RFC 7662
GET   jwks          the public keys                                        RFC 7517
GET   ended         the signed list of what has ended                      (ours)
GET   metadata      where all of that is                                   RFC 8414

RFC 8414 wants the metadata at `/.well-known/oauth-authorization-server` of the issuer's host, followed by the issuer's
path: there is no place for it below a prefix. Mount `site.metadata` at that path, or at `/.well-known`; a site that is
mounted at the root of its host answers there by itself. `metadata` below the prefix is the same document.

No page of another origin reads an answer, but for the two public documents `jwks` and the metadata, and those only
where `cors` names the origin. No token is granted here from a browser's session: its pages would hold what scripts
can steal (R87). The application's own server calls `issue`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ...core.requests import Facts
from ...errors import ConfigurationError
from ..exchange import NOT_FOUND, Ask, Reply
from .clients import Clients
from .doors import AsyncProofs, AsyncTokens, Proofs, Tokens
from .dpop import PROOF_ALGORITHMS
from .endpoints import EndpointFlow, guarded
from .granting import GrantFlow
from .keys import MAX_AGE
from .refresh import AsyncRefreshTokens, RefreshTokens

WELL_KNOWN: Final = "/.well-known/oauth-authorization-server"
_PUBLIC: Final = frozenset({"/jwks", "/metadata", WELL_KNOWN})
_READ: Final = ("GET", "HEAD")


class TokenSite:
    """Answer requests about tokens below one path, for either door.

    `refreshing` makes refresh tokens usable here, `proofs` takes DPoP proofs. `base` is the address that the site is
    mounted at, by default the issuer itself. `cors` names origins whose pages may read keys and metadata, `*` for all.

    Raises:
        ConfigurationError: tokens, refresh tokens and proofs are of different doors, or `base` or an origin is none.
    """

    def __init__(
        self,
        tokens: AsyncTokens | Tokens,
        clients: Clients,
        *,
        refreshing: AsyncRefreshTokens | RefreshTokens | None = None,
        proofs: AsyncProofs | Proofs | None = None,
        base: str | None = None,
        cors: tuple[str, ...] = (),
    ) -> None:
        flow = tokens.flow
        if refreshing is not None and refreshing.flow.tokens is not flow:
            raise ConfigurationError("these refresh tokens are of other tokens")
        if refreshing is None and proofs is not None:
            raise ConfigurationError("proofs are shown with refresh tokens: give `refreshing`, too")
        self._ground = flow.ground
        self._issuer = flow.rules.issuer
        self._base = _checked_base(self._issuer if base is None else base)
        self._cors = tuple(_checked_origin(origin) for origin in cors)
        self._about = EndpointFlow(flow, clients, None if refreshing is None else refreshing.flow)
        self._grants = (
            None if refreshing is None else GrantFlow(refreshing.flow, clients, None if proofs is None else proofs.flow)
        )
        self._document = self._described(takes_proofs=proofs is not None)
        self.metadata = MetadataSite(self)

    @property
    def blocking(self) -> bool:
        """Tell for which door it was made."""
        return self._ground.blocking

    @property
    def well_known(self) -> str:
        """Return the path of the issuer's host at which RFC 8414 §3.1 wants the metadata."""
        return WELL_KNOWN + urlsplit(self._issuer).path.rstrip("/")

    async def answer(self, ask: Ask) -> Reply:
        """Return the reply to one request."""
        path = WELL_KNOWN if ask.root + ask.path == self.well_known else ask.path
        if path not in _PUBLIC:
            return await self._answered(path, ask)
        if ask.method == "OPTIONS" and self._cors:
            reply = Reply(204, (("allow", ", ".join(_READ)), ("access-control-max-age", "600")))
        else:
            reply = await self._answered(path, ask)
        return reply._replace(headers=(*reply.headers, *self._shared_with(ask.headers.get("origin"))))

    async def _answered(self, path: str, ask: Ask) -> Reply:
        facts = self._ground.engine.facts(ask.session)
        match path:
            case "/token" if self._grants is not None:
                return await self._grants.token(facts, ask.body)
            case "/revoke":
                return await self._about.revoke(facts, ask.body)
            case "/introspect":
                return await self._about.introspect(facts, ask.body)
            case "/jwks":
                return await self._about.jwks(facts)
            case "/ended":
                return await self._about.ended(facts)
            case "/metadata" | "/.well-known/oauth-authorization-server":
                return await self._described_to(facts)
            case _:
                return NOT_FOUND

    async def _described_to(self, facts: Facts) -> Reply:
        async def answer() -> Reply:
            headers = (("content-type", "application/json"), ("cache-control", f"public, max-age={MAX_AGE}"))
            return Reply(200, headers, self._document)

        return await guarded(facts, _READ, answer)

    def _shared_with(self, origin: str | None) -> tuple[tuple[str, str], ...]:
        """Return the headers that let a page of another origin read, if it may."""
        if not self._cors:
            return ()
        if "*" in self._cors:
            return (("access-control-allow-origin", "*"),)
        vary = ("vary", "Origin")
        return (("access-control-allow-origin", origin), vary) if origin in self._cors and origin else (vary,)

    def _described(self, *, takes_proofs: bool) -> bytes:
        secret = ["client_secret_basic"]
        document: dict[str, Any] = {
            "issuer": self._issuer,
            "jwks_uri": f"{self._base}/jwks",
            "revocation_endpoint": f"{self._base}/revoke",
            "revocation_endpoint_auth_methods_supported": [*secret, "none"],
            "introspection_endpoint": f"{self._base}/introspect",
            "introspection_endpoint_auth_methods_supported": secret,
            # There is no authorization endpoint. The member is required all the same (§2).
            "response_types_supported": [],
            "sessile_ended_uri": f"{self._base}/ended",
        }
        if self._grants is not None:
            document["token_endpoint"] = f"{self._base}/token"
            document["token_endpoint_auth_methods_supported"] = [*secret, "none"]
            document["grant_types_supported"] = ["refresh_token"]
        if takes_proofs:
            document["dpop_signing_alg_values_supported"] = list(PROOF_ALGORITHMS)
        return msgspec.json.encode(document)


class MetadataSite:
    """Answer at the path that RFC 8414 wants, for a token site that is mounted below a prefix."""

    def __init__(self, site: TokenSite) -> None:
        self._site = site

    @property
    def blocking(self) -> bool:
        """Tell for which door it was made."""
        return self._site.blocking

    async def answer(self, ask: Ask) -> Reply:
        """Return the metadata to who asks for them at their one path."""
        asked = (ask.root + ask.path).rstrip("/")
        return (
            NOT_FOUND if asked != self._site.well_known else await self._site.answer(replace(ask, root="", path=asked))
        )


def _checked_base(base: str) -> str:
    parts = urlsplit(base)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError("base is the address that the token endpoints are mounted at: https://host/path")
    return base.rstrip("/")


def _checked_origin(origin: str) -> str:
    parts = urlsplit(origin)
    if origin != "*" and (not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}"):
        raise ConfigurationError(f"{origin!r} is no origin: https://host, or `*` for all of them")
    return origin
