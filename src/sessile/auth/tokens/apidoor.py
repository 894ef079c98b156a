"""The API door: `Authorization: Bearer|DPoP` opens the same session objects as the cookie, in every adapter.

    the request                                            the answer
    two headers, no token in it, more than a token         400  Bearer error="invalid_request"
    a token that is none, is over, is for others, ended    401  error="invalid_token"
    a bound token as Bearer, a proof that shows nothing    401  DPoP error="invalid_token", "invalid_dpop_proof"
    a proof without our nonce                              401  DPoP error="use_dpop_nonce", DPoP-Nonce
    a scope is missing (`require_scope`)                   403  error="insufficient_scope"
    no header at all, where `session.require()` asks       401  Bearer, or DPoP algs="…", Bearer

Who is refused learns the standard's word and nothing else; the sinks are told why. A token in the query string is never
read: addresses end up in logs (RFC 6750 §5.3).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from msgspec.structs import replace

from ...core.bearers import Grant
from ...core.engine import Engine
from ...core.requests import Facts
from ...core.session import Session
from ...errors import AccessRefused, ConfigurationError
from .access import Why
from .doors import AsyncProofs, AsyncTokens, Proofs, Tokens
from .dpop import PROOF_ALGORITHMS, Proved
from .flow import ProofFlow, TokenFlow

_CHALLENGE: Final = "www-authenticate"
_ALGS: Final = f'algs="{" ".join(PROOF_ALGORITHMS)}"'
# What RFC 3986 lets stand in a path as it is.
_IN_PATHS: Final = "/:@!$&'()*+,;=~"


class ApiDoor:
    """Judge the access tokens of requests: be the `Bearer` of an engine."""

    def __init__(self, flow: TokenFlow, audience: str, proofs: ProofFlow | None) -> None:
        self._flow, self._audience, self._proofs = flow, audience, proofs

    async def judge(self, facts: Facts, scheme: str, token: str) -> Grant:
        """Return what a request's token grants.

        Raises:
            AccessRefused: it grants nothing.
            StoreError: a store failed; nobody passes.
        """
        flow = self._flow
        read = await flow.read(token, self._audience)
        # A token that is none costs nobody's vault a proof.
        proved = await self._proved(facts, token) if scheme == "dpop" and not isinstance(read, Why) else None
        bound = flow.bound(read, proved)
        admitted = None if bound is None else await flow.admitted(bound)
        if admitted is None:
            raise _refusal(401, "invalid_token", scheme)
        known = admitted.token
        return Grant(known.session_id, admitted.record, known.audience, known.client, known.scopes)

    async def _proved(self, facts: Facts, token: str) -> Proved:
        proofs = self._proofs
        if proofs is None:
            raise _refusal(401, "invalid_token", "bearer")
        url = url_of(self._flow.ground.engine, facts)
        shown = await proofs.prove(facts.header("dpop"), method=facts.method, url=url, token=token)
        if isinstance(shown, Proved):
            return shown
        if shown.nonce is None:
            raise _refusal(401, "invalid_dpop_proof", "dpop")
        raise _refusal(401, "use_dpop_nonce", "dpop", ("dpop-nonce", shown.nonce))


def url_of(engine: Engine, facts: Facts) -> str:
    """Return the address of a request as its client wrote it, without the query: what a proof names."""
    client = engine.client(facts)
    return f"{client.scheme}://{client.host}{quote(facts.path, safe=_IN_PATHS)}"


def attach(tokens: AsyncTokens | Tokens, *, audience: str, proofs: AsyncProofs | Proofs | None = None) -> None:
    """Open these tokens' sessions by `Authorization` header from now on, in every adapter of the same door.

    `audience` is this API: tokens for another one open nothing here. Without `proofs`, no DPoP token is taken. Requests
    with such a header are judged by it alone: their cookie is not looked at.

    Raises:
        ConfigurationError: there is no audience, or another judge is attached already.
    """
    engine = tokens.flow.ground.engine
    if not audience:
        raise ConfigurationError("say which audience this API is")
    if engine.bearer is not None:
        raise ConfigurationError("these sessions have an API door already")
    engine.bearer = ApiDoor(tokens.flow, audience, None if proofs is None else proofs.flow)
    # One value for both: two headers of one name are more than some frameworks can say.
    engine.rules = replace(engine.rules, challenge="Bearer" if proofs is None else f"DPoP {_ALGS}, Bearer")


def require_scope(session: Session, *scopes: str) -> None:
    """Let a request pass that may do this; who came with a cookie is the user, and needs no scope.

    Raises:
        AccessRefused: the access token does not grant all of them; adapters answer 403.
    """
    grant = session.grant
    if grant is not None and not grant.scopes.issuperset(scopes):
        named = " ".join(scopes)
        challenge = f'Bearer error="insufficient_scope", scope="{named}"'
        raise AccessRefused(403, "insufficient_scope", ((_CHALLENGE, challenge),))


def _refusal(status: int, error: str, scheme: str, *more: tuple[str, str]) -> AccessRefused:
    challenge = f'DPoP error="{error}", {_ALGS}' if scheme == "dpop" else f'Bearer error="{error}"'
    return AccessRefused(status, error, ((_CHALLENGE, challenge), *more))
