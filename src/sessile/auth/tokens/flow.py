"""Issue, check, introspect and revoke access tokens, and publish what has ended: one `async def` a verb."""

from __future__ import annotations

import secrets
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ...core.ids import is_session_id
from ...core.network import is_loopback_host
from ...core.ports import InCookies
from ...core.record import Record
from ...core.session import Session, user_name
from ...errors import ConfigurationError, NotByToken, SessileError, SessionGone, StepUpRequired
from ..events import AccessTokenIssued, AccessTokenRefused, AccessTokenRevoked, ProofRefused
from ..ground import Ground, name_of
from ..stored import Stored, read, written
from ..vault import Item, Write, living, settle, version_of
from . import access, dpop, ended
from .access import AccessToken, Unknown, Why
from .dpop import Nonces, Proved, WhyProof
from .jose import is_thumbprint
from .keys import NOBODY, KeyRules, SigningKeys

SCHEMA: Final = 1
MARGIN: Final = 60.0
LIST_ITEM: Final = "tokens:ended"


class NotCommitted(SessileError):
    """Say that the session has an intent that its commit has not carried out, so that nobody knows its id yet."""

    code = "not-committed"


class TokenRules(NamedTuple):
    """Say how tokens are made and judged. All times are seconds.

    `lifetime` is how long an access token lives, `tolerance` by how much clocks may differ, `interval` how often the
    list of what has ended is made.
    """

    issuer: str
    lifetime: float = 300.0
    tolerance: float = 5.0
    interval: float = 30.0

    def check(self) -> None:
        """Refuse what no verifier could rely on.

        Raises:
            ConfigurationError: the issuer is no https URL, or a time is no sensible one.
        """
        try:
            parts = urlsplit(self.issuer)
        except ValueError:
            parts = urlsplit("")
        is_local = parts.scheme == "http" and parts.hostname is not None and is_loopback_host(parts.hostname)
        plain = self.issuer.isascii() and self.issuer.isprintable() and not set(self.issuer) & set("?# ")
        if not plain or not (is_local or (parts.scheme == "https" and parts.hostname)):
            raise ConfigurationError("the issuer is an https URL without query and fragment")
        if not 10 <= self.lifetime <= 3600:
            raise ConfigurationError(
                "an access token lives between 10 s and one hour; for longer there are refresh tokens"
            )
        if not 0 <= self.tolerance <= 60:
            raise ConfigurationError("clocks may differ by 60 s at most")
        if not 1 <= self.interval <= 300:
            raise ConfigurationError("the list of what has ended is made every 1 to 300 s")


class Admitted(NamedTuple):
    """Hold a token that passed every question, and the record of its session, which is alive and signed in."""

    token: AccessToken
    record: Record


class Published(NamedTuple):
    """Hold a signed list of what has ended, and as of when (seconds since 1970)."""

    text: str
    at: float


class Unproved(NamedTuple):
    """Say that a proof shows nothing. `nonce`: the one that the next proof must carry, if only that was missing."""

    nonce: str | None = None


class _Revoked(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold what the vault keeps of a revoked token until it expires."""

    token_id: str


class _Kept(NamedTuple):
    """Hold the present list as the vault does: as of when, when the next one is made, and its text."""

    schema: int
    at: float
    made_again_at: float
    text: str


_encoder = msgspec.msgpack.Encoder()
_list = msgspec.msgpack.Decoder(_Kept)


class TokenFlow:
    """Carry out the verbs of both doors."""

    def __init__(self, ground: Ground, rules: TokenRules, key_rules: KeyRules) -> None:
        rules.check()
        if isinstance(ground.engine.store, InCookies):
            raise ConfigurationError(
                "tokens need sessions in a store: of one that lives in cookies, nobody else can tell whether it lives"
            )
        self.ground = ground
        self.rules = rules
        self.keys = SigningKeys(ground, rules=key_rules, lifetime=rules.lifetime)

    # -- issue ---------------------------------------------------------------------------------------------------------

    async def issue(
        self, session: Session | str, *, user: str | int | None, audience: str, client: str, scope: str, jkt: str | None
    ) -> str:
        """Return an access token for a session that lives and is signed in."""
        sid, owner = named(session, user)
        check_grant(audience, client, scope, jkt)
        record = await self.living(sid)
        if record is None or record.control.user != owner:
            raise SessionGone("not signed in")
        return await self.minted(sid, record, audience=audience, client=client, scope=scope, jkt=jkt)

    async def minted(self, sid: str, record: Record, *, audience: str, client: str, scope: str, jkt: str | None) -> str:
        """Return an access token for a session that was found to live and to be signed in."""
        now = self.ground.now
        # Before the token leaves: whenever the session ends, or has ended by now, who makes the list looks at it.
        await self._note(sid, now)
        expires_at = now + self.left(record)
        claims = access.claims_of(
            record.control,
            session_id=sid,
            issuer=self.rules.issuer,
            audience=audience,
            client=client,
            scope=scope,
            jkt=jkt,
            token_id=secrets.token_urlsafe(16),
            now=now,
            expires_at=expires_at,
        )
        text = access.written(claims, (await self.keys.current()).signer(now))
        user = record.control.user
        self.ground.tell(AccessTokenIssued(at=now, session=sid, user=user, audience=audience, client=client))
        await self.ground.housekeep()
        return text

    def left(self, record: Record) -> float:
        """Return how long a token of this session lives, in seconds: never longer than the session."""
        return max(0.0, min(self.rules.lifetime, self.ground.engine.deadline(record) - self.ground.now))

    async def _note(self, sid: str, now: float) -> None:
        """Note that tokens of the session live: for one and a half lifetimes, so not with every one of them."""
        rules = self.rules
        needed, until = now + rules.lifetime + MARGIN, now + 1.5 * rules.lifetime + MARGIN
        key = f"issued:{sid}"

        def decide(item: Item | None) -> tuple[None, Write | None]:
            if item is not None and item.expires_at is not None and item.expires_at >= needed:
                return None, None
            return None, Write(key, _encoder.encode((SCHEMA,)), 0, NOBODY, until)

        await settle(self.ground.vault, key, decide, now=now)

    async def living(self, sid: str) -> Record | None:
        """Return the record of a session that is signed in now, completely; nothing is touched.

        A session that was renewed (a step-up, a sign-in) is not followed to its successor: whoever held the old token
        of the session loses with it all that grew from it (R25). A token family is alive while its parent is, too.

        Raises:
            StoreError: the store failed.
        """
        found = await self.ground.engine.living(sid)
        if found is None or found.control.user is None or found.control.pending or found.control.challenged:
            return None
        return found

    # -- check ---------------------------------------------------------------------------------------------------------

    async def read(self, text: object, audience: str | None) -> AccessToken | Why:
        """Return what an authentic token says; its session, its revocation and its key's proof are not asked here."""
        payload = await self._payload(text, access.TYP)
        if isinstance(payload, Why):
            return payload
        rules = self.rules
        return access.judged(
            payload, issuer=rules.issuer, audience=audience, now=self.ground.now, tolerance=rules.tolerance
        )

    async def _payload(self, text: object, typ: str) -> bytes | Why:
        keys = self.keys.at_hand or await self.keys.current()
        payload = access.verified(text, keys.public, typ)
        if isinstance(payload, Unknown):
            payload = access.verified(text, (await self.keys.again()).public, typ)
        return Why.KEY if isinstance(payload, Unknown) else payload

    async def verify(self, text: object, audience: str, proved: Proved | None) -> AccessToken | None:
        """Return what a token says if it passes without asking any store; None otherwise."""
        return self.bound(await self.read(text, audience), proved)

    def bound(self, token: AccessToken | Why, proved: Proved | None) -> AccessToken | None:
        """Return an authentic token if its sender proved what it asks for; the sinks are told of what does not pass."""
        if isinstance(token, Why):
            self._tell_refused(token)
            return None
        if not access.is_bound_to(token, None if proved is None else proved.jkt):
            self._tell_refused(Why.PROOF, token)
            return None
        return token

    async def admit(self, text: object, audience: str, proved: Proved | None) -> Admitted | None:
        """Return a token with its session if the token passes, was not revoked, and its session is signed in now."""
        token = await self.verify(text, audience, proved)
        return None if token is None else await self.admitted(token)

    async def admitted(self, token: AccessToken) -> Admitted | None:
        """Return a token that passed with its session, unless it was revoked or the session is signed in no more."""
        standing = await self._standing(token)
        if isinstance(standing, Why):
            self._tell_refused(standing, token)
            return None
        return Admitted(token, standing)

    async def _standing(self, token: AccessToken) -> Record | Why:
        record = await self.living(token.session_id)
        if record is None or record.control.user != token.user:
            return Why.ENDED
        revoked = living(await self.ground.vault.get(_revoked_key(token)), self.ground.now)
        return record if revoked is None else Why.REVOKED

    def _tell_refused(self, why: Why, token: AccessToken | None = None) -> None:
        sid = None if token is None else token.session_id
        self.ground.tell(AccessTokenRefused(at=self.ground.now, session=sid, why=str(why)))

    async def introspect(self, text: object, audience: str | None) -> dict[str, Any]:
        """Return the answer of RFC 7662 §2.2; of whatever does not pass it says `active: false` and nothing else."""
        token = await self.read(text, audience)
        standing = token if isinstance(token, Why) else await self._standing(token)
        if isinstance(token, Why) or isinstance(standing, Why):
            return {"active": False}
        answer: dict[str, Any] = {
            "active": True,
            "iss": self.rules.issuer,
            "sub": token.user,
            "aud": token.audience,
            "client_id": token.client,
            "exp": int(token.expires_at),
            "iat": int(token.issued_at),
            "jti": token.token_id,
            "sid": token.session_id,
            "token_type": "Bearer" if token.jkt is None else "DPoP",
            "acr": token.acr,
            "amr": list(token.amr),
            "auth_time": int(token.authenticated_at),
        }
        if token.scopes:
            answer["scope"] = " ".join(sorted(token.scopes))
        if token.jkt is not None:
            answer["cnf"] = {"jkt": token.jkt}
        return answer

    # -- end -----------------------------------------------------------------------------------------------------------

    async def revoke(self, text: object, client: str) -> bool:
        """Note that a token of this client is over; tell whether it was one that lived. The session goes on."""
        token = await self.read(text, None)
        if isinstance(token, Why) or token.client != client:
            return False
        until = token.expires_at + self.rules.tolerance + MARGIN
        write = Write(_revoked_key(token), written(_Revoked(token_id=token.token_id)), 0, NOBODY, until)
        if await self.ground.vault.write(write):  # or it was there already
            self.ground.tell(
                AccessTokenRevoked(at=self.ground.now, session=token.session_id, user=token.user, client=client)
            )
        await self.ground.housekeep()
        return True

    async def ended_list(self) -> Published:
        """Return the signed list of what has ended, never older than the interval.

        Who asks when two thirds of it have passed makes the next one, alone; the others are served the present one
        meanwhile. Only where there is none that is young enough, everybody makes one.
        """
        now, interval = self.ground.now, self.rules.interval
        found = await self.ground.vault.get(LIST_ITEM)
        present = None if found is None else _kept_list(found.value)
        version = version_of(found)
        if present is not None and -self.rules.tolerance < now - present.at < interval:
            if now < present.made_again_at:
                return Published(present.text, present.at)
            if not await self._keep_list(present._replace(made_again_at=present.at + interval), version):
                return Published(present.text, present.at)
            version = version_of(await self.ground.vault.get(LIST_ITEM))
        marks = [*await self._ended_sessions(now), *await self._revoked_tokens(now)]
        key = (await self.keys.current()).signer(now)
        text = ended.list_of(marks, key, issuer=self.rules.issuer, at=now, interval=interval)
        # If another node came first, its list is as good: both were looked up in this interval.
        await self._keep_list(_Kept(SCHEMA, now, now + interval * 2 / 3, text), version)
        await self.ground.housekeep()
        return Published(text, now)

    async def _keep_list(self, kept: _Kept, version: int) -> bool:
        return await self.ground.vault.write(Write(LIST_ITEM, _encoder.encode(kept), version, NOBODY))

    async def _ended_sessions(self, now: float) -> list[bytes]:
        noted = await self.ground.vault.of_user(NOBODY, "issued:")
        listed = [item.key.partition(":")[2] for item in noted if living(item, now) is not None]
        return [ended.session_mark(sid) for sid in listed if await self.living(sid) is None]

    async def _revoked_tokens(self, now: float) -> list[bytes]:
        noted = await self.ground.vault.of_user(NOBODY, "revoked:")
        current = [item.value for item in noted if living(item, now) is not None]
        return [ended.token_mark(read(_Revoked, value).token_id) for value in current]


def _kept_list(value: bytes) -> _Kept | None:
    try:
        kept = _list.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return kept if kept.schema == SCHEMA else None


class ProofFlow:
    """Check proofs of possession, each once. `nonces` None asks for none."""

    def __init__(self, ground: Ground, nonces: Nonces | None, *, max_age: float, tolerance: float) -> None:
        self.ground = ground
        self.nonces = nonces
        self.max_age = max_age
        self.tolerance = tolerance

    def nonce(self) -> str | None:
        """Return the nonce that the next proof must carry, None if none is asked for."""
        return None if self.nonces is None else self.nonces.current(self.ground.now)

    async def prove(self, proof: object, *, method: str, url: str, token: str | None) -> Proved | Unproved:
        """Return what a proof shows for this request, and take it out of circulation."""
        now, nonces = self.ground.now, self.nonces
        shown = dpop.judged(
            proof,
            method=method,
            url=url,
            now=now,
            token=token,
            is_nonce=None if nonces is None else lambda text: nonces.is_valid(text, now),
            max_age=self.max_age,
            tolerance=self.tolerance,
        )
        if isinstance(shown, Proved) and not await self._is_first(shown):
            shown = WhyProof.REPLAY
        if isinstance(shown, Proved):
            await self.ground.housekeep()
            return shown
        if shown is not WhyProof.NONCE:
            self.ground.tell(ProofRefused(at=now, why=str(shown)))
            return Unproved()
        return Unproved(self.nonce())

    async def _is_first(self, proved: Proved) -> bool:
        until = proved.made_at + self.max_age + self.tolerance
        key = f"dpop:{name_of(f'{proved.jkt}.{proved.proof_id}')}"
        return await self.ground.vault.write(Write(key, _encoder.encode((SCHEMA,)), 0, None, until))


def _revoked_key(token: AccessToken) -> str:
    return f"revoked:{name_of(token.token_id)}"


def check_grant(audience: str, client: str, scope: str, jkt: str | None = None) -> None:
    """Refuse what no token can say.

    Raises:
        ConfigurationError: there is no audience or no client, the scope is none of RFC 6749, or the thumbprint none.
    """
    if not audience or not client or max(len(audience), len(client)) > 2048 or not access.is_scope(scope):
        raise ConfigurationError("a token has one audience, a client, and scopes of RFC 6749")
    if jkt is not None and not is_thumbprint(jkt):
        raise ConfigurationError("jkt is the thumbprint of a key, as a proof shows it: 43 characters")


def named(session: Session | str, user: str | int | None) -> tuple[str, str]:
    """Return the session's id and its user.

    Raises:
        StepUpRequired: nobody is signed in with it, or not completely.
        NotByToken: an access token opened it, which must not become another one that lives longer.
        NotCommitted: what it intends has not been carried out.
        ConfigurationError: it is an id, and nobody said whose.
    """
    if isinstance(session, str):
        if user is None:
            raise ConfigurationError("say whose session it is: issue(session_id, user=…)")
        if not is_session_id(session):
            raise SessionGone("no session id")
        return session, user_name(user)
    owner = session.require()
    if session.grant is not None:
        raise NotByToken("issue")
    if user is not None and user_name(user) != owner:
        raise StepUpRequired("login")
    if session.id is None or not (session.closed or (session.intent is None and not session.signed_out)):
        raise NotCommitted("commit the session first: a sign-in or a step-up gives it another id")
    return session.id, owner
