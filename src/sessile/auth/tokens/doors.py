"""The two doors of tokens and of proofs: `AsyncTokens` and `AsyncProofs` for event loops, `Tokens` and `Proofs`."""

from __future__ import annotations

from typing import Any, TypedDict, Unpack

from ...core.bridge import drive
from ...core.session import Session
from ...errors import ConfigurationError
from ..ground import Ground
from .access import AccessToken
from .dpop import Nonces, Proved
from .flow import Admitted, ProofFlow, Published, TokenFlow, TokenRules, Unproved
from .jose import Algorithm
from .keys import KeyRules


class TokenOptions(TypedDict, total=False):
    """List what both doors take beside the ground and the issuer; all times are seconds.

    `lifetime` of an access token (300), `tolerance` between clocks (5), `interval` of the list of what has ended (30);
    `algorithm` of the keys that are made from now on, ES256, EdDSA, ML-DSA-44 or ML-DSA-65; `period` for which a key
    signs (90 days), `lead` for which it is published before (1 day), `overlap` for which it verifies after (1 day).
    """

    lifetime: float
    tolerance: float
    interval: float
    algorithm: Algorithm
    period: float
    lead: float
    overlap: float


def _flow(ground: Ground, issuer: str, options: TokenOptions, *, blocking: bool) -> TokenFlow:
    _check_door(ground, blocking=blocking)
    given: dict[str, Any] = dict(options)
    unknown = given.keys() - TokenOptions.__annotations__.keys()
    if unknown:
        raise ConfigurationError(
            f"unknown option {sorted(unknown)[0]!r}; there are {', '.join(sorted(TokenOptions.__annotations__))}"
        )
    rules = TokenRules(issuer, **{name: value for name, value in given.items() if name in TokenRules._fields})
    return TokenFlow(
        ground, rules, KeyRules(**{name: value for name, value in given.items() if name in KeyRules._fields})
    )


def _check_door(ground: Ground, *, blocking: bool) -> None:
    if ground.blocking != blocking:
        raise ConfigurationError("these sessions are for the other door")


class AsyncTokens:
    """Issue access tokens that end with their session, and judge them, from an event loop.

    `issuer` is the https URL by which verifiers know this application; see `TokenOptions` for the rest.

    Raises:
        ConfigurationError: the settings are wrong, or sessions live in cookies.
        ExtraMissing: PyJWT or `cryptography` is not installed.
    """

    def __init__(self, ground: Ground, *, issuer: str, **options: Unpack[TokenOptions]) -> None:
        self.flow = _flow(ground, issuer, options, blocking=False)

    async def issue(
        self,
        session: Session | str,
        *,
        audience: str,
        client: str,
        scope: str = "",
        user: str | int | None = None,
        jkt: str | None = None,
    ) -> str:
        """Return an access token of the session (or of a session id and its `user`) for one audience.

        `jkt` binds it to the key that a proof showed (RFC 9449).

        Raises:
            StepUpRequired: nobody is signed in, or a factor is due.
            NotCommitted: the session's sign-in or step-up has not been committed.
            SessionGone: it has ended.
            StoreError: a store failed.
        """
        return await self.flow.issue(session, user=user, audience=audience, client=client, scope=scope, jkt=jkt)

    async def verify(self, text: str, audience: str, *, proved: Proved | None = None) -> AccessToken | None:
        """Return what a token says if its signature, claims and proof are right. No session is asked: see `admit`."""
        return await self.flow.verify(text, audience, proved)

    async def admit(self, text: str, audience: str, *, proved: Proved | None = None) -> Admitted | None:
        """Return a token with its session if the token is right, not revoked, and the session signed in now.

        Raises:
            StoreError: a store failed; nobody passes.
        """
        return await self.flow.admit(text, audience, proved)

    async def introspect(self, text: str, audience: str | None = None) -> dict[str, Any]:
        """Return the answer of RFC 7662; an ended session's token is not active, at once (R86).

        `audience` is the one of the client that asks: it learns nothing of tokens for others. Who asks must have been
        authenticated.
        """
        return await self.flow.introspect(text, audience)

    async def revoke(self, text: str, client: str) -> bool:
        """End one token of a client before its time (RFC 7009), not its session; tell whether it was one."""
        return await self.flow.revoke(text, client)

    async def ended(self) -> Published:
        """Return the signed list of what has ended, for those who verify offline."""
        return await self.flow.ended_list()

    async def jwks(self) -> bytes:
        """Return the public keys as a JWKS."""
        return (await self.flow.keys.current()).jwks

    async def rotate(self, *, at_once: bool = False) -> str:
        """Publish a next key before its time and return its kid; with `at_once` it signs now."""
        return await self.flow.keys.rotate(at_once=at_once)

    async def discard(self, kid: str) -> bool:
        """Take a key out at once, because somebody else has it; what it signed is refused from now on."""
        return await self.flow.keys.discard(kid)


class Tokens:
    """Issue access tokens that end with their session, and judge them, from code that blocks.

    `issuer` is the https URL by which verifiers know this application; see `TokenOptions` for the rest.

    Raises:
        ConfigurationError: the settings are wrong, or sessions live in cookies.
        ExtraMissing: PyJWT or `cryptography` is not installed.
    """

    def __init__(self, ground: Ground, *, issuer: str, **options: Unpack[TokenOptions]) -> None:
        self.flow = _flow(ground, issuer, options, blocking=True)

    def issue(
        self,
        session: Session | str,
        *,
        audience: str,
        client: str,
        scope: str = "",
        user: str | int | None = None,
        jkt: str | None = None,
    ) -> str:
        """Return an access token of the session (or of a session id and its `user`) for one audience.

        `jkt` binds it to the key that a proof showed (RFC 9449).

        Raises:
            StepUpRequired: nobody is signed in, or a factor is due.
            NotCommitted: the session's sign-in or step-up has not been committed.
            SessionGone: it has ended.
            StoreError: a store failed.
        """
        return drive(self.flow.issue(session, user=user, audience=audience, client=client, scope=scope, jkt=jkt))

    def verify(self, text: str, audience: str, *, proved: Proved | None = None) -> AccessToken | None:
        """Return what a token says if its signature, claims and proof are right. No session is asked: see `admit`."""
        return drive(self.flow.verify(text, audience, proved))

    def admit(self, text: str, audience: str, *, proved: Proved | None = None) -> Admitted | None:
        """Return a token with its session if the token is right, not revoked, and the session signed in now.

        Raises:
            StoreError: a store failed; nobody passes.
        """
        return drive(self.flow.admit(text, audience, proved))

    def introspect(self, text: str, audience: str | None = None) -> dict[str, Any]:
        """Return the answer of RFC 7662; an ended session's token is not active, at once (R86).

        `audience` is the one of the client that asks: it learns nothing of tokens for others. Who asks must have been
        authenticated.
        """
        return drive(self.flow.introspect(text, audience))

    def revoke(self, text: str, client: str) -> bool:
        """End one token of a client before its time (RFC 7009), not its session; tell whether it was one."""
        return drive(self.flow.revoke(text, client))

    def ended(self) -> Published:
        """Return the signed list of what has ended, for those who verify offline."""
        return drive(self.flow.ended_list())

    def jwks(self) -> bytes:
        """Return the public keys as a JWKS."""
        return drive(self.flow.keys.current()).jwks

    def rotate(self, *, at_once: bool = False) -> str:
        """Publish a next key before its time and return its kid; with `at_once` it signs now."""
        return drive(self.flow.keys.rotate(at_once=at_once))

    def discard(self, kid: str) -> bool:
        """Take a key out at once, because somebody else has it; what it signed is refused from now on."""
        return drive(self.flow.keys.discard(kid))


def _proofs(ground: Ground, *, nonce: bool, max_age: float, tolerance: float, blocking: bool) -> ProofFlow:
    _check_door(ground, blocking=blocking)
    if not (0 < max_age <= 600 and 0 <= tolerance <= 60):
        raise ConfigurationError("a proof is at most 600 s old, and clocks differ by 60 s at most")
    nonces = Nonces(ground.engine.ring, window=max_age) if nonce else None
    return ProofFlow(ground, nonces, max_age=max_age, tolerance=tolerance)


class AsyncProofs:
    """Check DPoP proofs from an event loop, each once on all nodes (R60).

    `nonce=True` asks for the server's nonce in each. `max_age` and `tolerance` are seconds: how long ago and how far
    ahead a proof may have been made.
    """

    def __init__(self, ground: Ground, *, nonce: bool = False, max_age: float = 60.0, tolerance: float = 5.0) -> None:
        self.flow = _proofs(ground, nonce=nonce, max_age=max_age, tolerance=tolerance, blocking=False)

    async def prove(self, proof: str | None, *, method: str, url: str, token: str | None = None) -> Proved | Unproved:
        """Return what the one DPoP header of a request shows, for the token that came with it.

        Raises:
            StoreError: the vault failed; no proof is taken.
        """
        return await self.flow.prove(proof, method=method, url=url, token=token)

    def nonce(self) -> str | None:
        """Return what to send as DPoP-Nonce, None if no nonce is asked for."""
        return self.flow.nonce()


class Proofs:
    """Check DPoP proofs from code that blocks, each once on all nodes (R60).

    `nonce=True` asks for the server's nonce in each. `max_age` and `tolerance` are seconds: how long ago and how far
    ahead a proof may have been made.
    """

    def __init__(self, ground: Ground, *, nonce: bool = False, max_age: float = 60.0, tolerance: float = 5.0) -> None:
        self.flow = _proofs(ground, nonce=nonce, max_age=max_age, tolerance=tolerance, blocking=True)

    def prove(self, proof: str | None, *, method: str, url: str, token: str | None = None) -> Proved | Unproved:
        """Return what the one DPoP header of a request shows, for the token that came with it.

        Raises:
            StoreError: the vault failed; no proof is taken.
        """
        return drive(self.flow.prove(proof, method=method, url=url, token=token))

    def nonce(self) -> str | None:
        """Return what to send as DPoP-Nonce, None if no nonce is asked for."""
        return self.flow.nonce()
