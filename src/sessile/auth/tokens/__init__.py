"""Tokens that end with their session: RFC 9068 access tokens, their keys, introspection, revocation, DPoP.

    jose        four algorithms, public keys, strict base64url
    keys        the keys that sign, shared by all nodes through the vault
    access      what stands in a token, and every question that it must answer
    dpop        proofs of possession
    ended       the published list of what has ended
    flow doors  the verbs, and their two doors
    families    the sessions behind refresh tokens
    refresh     refresh tokens: issue, sign in, refresh, revoke
    apidoor     access tokens in the Authorization header of any adapter's request

A token says who and which session; whether that session still lives is asked of the session store (`introspect`,
`admit`), or of the list. `verifier` is for other services, which have neither; `site` is what servers mount, made of
`endpoints`, `granting` and `clients`.
"""

from __future__ import annotations

from ..exchange import Reply as Response
from .access import AccessToken
from .apidoor import attach, require_scope
from .clients import Client, Clients, new_secret
from .doors import AsyncProofs, AsyncTokens, Proofs, Tokens
from .dpop import ProofMaker, Proved
from .ended import EndedList
from .endpoints import AsyncEndpoints, Endpoints
from .flow import Admitted, NotCommitted, Published, Unproved
from .granting import AsyncTokenEndpoint, TokenEndpoint
from .refresh import AsyncRefreshTokens, RefreshTokens, Refused, TokenPair
from .site import TokenSite
from .verifier import AsyncVerifier, Verifier

__all__ = [
    "AccessToken",
    "Admitted",
    "AsyncEndpoints",
    "AsyncProofs",
    "AsyncRefreshTokens",
    "AsyncTokenEndpoint",
    "AsyncTokens",
    "AsyncVerifier",
    "Client",
    "Clients",
    "EndedList",
    "Endpoints",
    "NotCommitted",
    "ProofMaker",
    "Proofs",
    "Proved",
    "Published",
    "RefreshTokens",
    "Refused",
    "Response",
    "TokenEndpoint",
    "TokenPair",
    "TokenSite",
    "Tokens",
    "Unproved",
    "Verifier",
    "attach",
    "new_secret",
    "require_scope",
]
