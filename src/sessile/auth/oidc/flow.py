"""Sign in at a provider: the code flow with PKCE, and what hangs on it afterwards; one `async def` a verb.

    begin    a transaction in the session; where the browser goes
    finish   state, issuer, code, ID token, user info, user; the link for sign-outs; then `login`, like any factor
    check    is the session at the provider still there? asked by the refresh token when that is due

The order of `finish` is that of `links`: what is written down first lets a sign-out find the session, what is asked
last ends a sign-in that a sign-out overtook.
"""

from __future__ import annotations

import base64
import inspect
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64encode

from ...core.session import Session
from ...errors import ConfigurationError, StepUpRequired, StoreError, StoreUnavailable
from ..changes import about, has_second
from ..events import SignOnChecked, SignOnRefused
from ..exchange import local
from ..ground import Ground, opened, sealed
from ..jws import UnknownKey
from ..stored import Stored, read, written
from ..vault import Write, living
from . import id_tokens, links, rules
from .http import Answer
from .id_tokens import Asked, IdToken
from .links import Link, Links
from .providers import Known, Metadata, algorithm_of
from .replays import Replays
from .rules import Coupling, Identity, Refused, Signed, Transaction

Users = Callable[[Identity], "Awaitable[str | None] | str | None"]
Levels = Callable[[IdToken], Iterable[str]]

FACTOR: Final = "sso"
CHECKED: Final = "_sessile_sso_checked"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE: Final = 60
_PROMPTS: Final = frozenset({"none", "login", "consent", "select_account", "create"})
_MAX_TOKEN: Final = 16 * 1024
# They go into headers and forms: visible ASCII (RFC 6749 §A.12 would have spaces, which no header of theirs may hold).
_TOKEN: Final = re.compile(r"[!-~]+")
# So long a request may take to use a refresh token (seconds).
_CLAIM: Final = 60.0
# So far ahead another node's clock may be (seconds).
_SKEW: Final = 60.0
_log: Final = logging.getLogger("sessile.oidc")


class Settings(NamedTuple):
    """Hold what both doors take beside ground and providers."""

    address: str
    users: Users | None
    levels: Levels | None
    coupling: Coupling
    userinfo: bool
    second: bool


class _Kept(Stored, frozen=True, array_like=True, kw_only=True):
    token: bytes
    asked_at: float = 0.0


class Tokens(NamedTuple):
    """Hold what a provider's token endpoint answered."""

    id_token: str | None
    access_token: str | None
    refresh_token: str | None

    def __repr__(self) -> str:
        return "<Tokens>"


class SignOnFlow:
    """Carry out the verbs of both doors."""

    def __init__(self, ground: Ground, known: Mapping[str, Known], links_: Links, settings: Settings) -> None:
        settings.coupling.check()
        self.ground = ground
        self.known = known
        self.links = links_
        self.settings = settings
        self._used = Replays(ground, "oidc-state")
        self._sealer = ground.sealer(b"oidc refresh")

    # -- there -----------------------------------------------------------------------------------------------------

    async def begin(
        self,
        session: Session,
        provider: str,
        *,
        target: str,
        max_age: float | None,
        acr_values: tuple[str, ...],
        prompt: str | None,
        login_hint: str | None,
    ) -> str:
        """Return where the browser goes."""
        known = self._provider(provider)
        settings, metadata = known.provider, await known.metadata()
        if prompt is not None and not _PROMPTS.issuperset(prompt.split()):
            raise ConfigurationError(f"prompt is some of {', '.join(sorted(_PROMPTS))}")
        ages = [age for age in (max_age, settings.max_age) if age is not None]
        wanted = Transaction(
            provider,
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(48),
            local(target, "/"),
            self.ground.now,
            min(ages) if ages else None,
            acr_values or settings.acr_values,
            session.user_id,
        )
        state = secrets.token_urlsafe(24)
        rules.put(session, state, wanted)
        query = {
            "response_type": "code",
            "client_id": settings.client_id,
            "redirect_uri": self._callback(provider),
            "scope": " ".join(settings.scopes),
            "state": state,
            "nonce": wanted.nonce,
            "code_challenge": rules.challenge_of(wanted.verifier),
            "code_challenge_method": "S256",
        }
        if wanted.max_age is not None:
            query["max_age"] = str(int(wanted.max_age))
        if wanted.acr_values:
            query["acr_values"] = " ".join(wanted.acr_values)
        query |= {name: value for name, value in (("prompt", prompt), ("login_hint", login_hint)) if value}
        return _with_query(metadata.authorization_endpoint, await self._pushed(known, metadata, query))

    async def _pushed(self, known: Known, metadata: Metadata, query: dict[str, str]) -> dict[str, str]:
        """Return the query itself, or its name at a provider that wants it by the back channel first (RFC 9126)."""
        endpoint = metadata.pushed_authorization_request_endpoint
        if not metadata.pushes or endpoint is None:
            return query
        answer = await self._post(known, endpoint, query)
        told = answer.json() or {}
        name = told.get("request_uri")
        if answer.status != 201 or not isinstance(name, str) or not 0 < len(name) <= 1024:
            raise StoreUnavailable("the provider did not take the request for a sign-in")
        return {"client_id": known.client_id, "request_uri": name}

    # -- and back ------------------------------------------------------------------------------------------------------

    async def finish(self, session: Session, provider: str, query: Mapping[str, str]) -> Signed | Refused:
        """Sign in whom the provider vouches for."""
        known = self._provider(provider)
        transaction = rules.take(session, query.get("state"))
        if transaction is None:
            return self._refuse(session, provider, Refused.UNKNOWN, "")
        if transaction.provider != provider:
            return self._refuse(session, provider, Refused.PROVIDER, "")
        metadata = await known.metadata()
        now = self.ground.now
        code = rules.answered(query, transaction, known.provider.issuer, names=metadata.names_issuer, now=now)
        if isinstance(code, Refused):
            return self._refuse(session, provider, code, rules.error_of(query))
        # Once, on all nodes: two answers that come at the same moment both find it in the session.
        until = transaction.at + rules.LIFETIME
        if not await self._used.use(provider, "state", query["state"], until=until):
            return self._refuse(session, provider, Refused.UNKNOWN, "used")
        tokens = await self._exchange(known, metadata, code, transaction)
        if isinstance(tokens, str) or tokens.id_token is None:
            return self._refuse(session, provider, Refused.CODE, tokens if isinstance(tokens, str) else "no ID token")
        identity_token = await self._judged(known, tokens, transaction)
        if isinstance(identity_token, id_tokens.Why):
            low = identity_token in (id_tokens.Why.AGE, id_tokens.Why.LEVEL)
            return self._refuse(session, provider, Refused.LEVEL if low else Refused.TOKEN, identity_token)
        return await self._enter(session, known, transaction, tokens, identity_token)

    async def _enter(
        self, session: Session, known: Known, transaction: Transaction, tokens: Tokens, token: IdToken
    ) -> Signed | Refused:
        """Find who it is here, write the link down, and sign in."""
        name = known.provider.name
        claims = await self._claims(known, tokens, token)
        if claims is None:
            return self._refuse(session, name, Refused.TOKEN, "userinfo")
        identity = Identity(name, token.issuer, token.subject, claims)
        user = await self._user(identity)
        if user is None:
            return self._refuse(session, name, Refused.USER, "")
        if transaction.user is not None and session.user_id == transaction.user != user:
            return self._refuse(session, name, Refused.USER, "another")
        assert tokens.id_token is not None
        link = Link(name, token.issuer, token.subject, token.sid, token.issued_at, user)
        written_down = await self.links.begin(link, tokens.id_token)
        if written_down is None:
            return self._refuse(session, name, Refused.SIGNED_OUT, "")
        if tokens.refresh_token is not None:
            await self._keep_refresh(written_down, tokens.refresh_token, new=True)
        waiting, before = rules.others(session, user), links.kept(session)
        self._login(session, user, token, due=self.settings.second and await has_second(self.ground, user))
        for key, value in waiting.items():
            session[key] = value
        links.keep(session, written_down)
        session[CHECKED] = self.ground.now
        session.confirm = partial(self._stands, written_down, before)
        return Signed(user, identity, transaction.target)

    def _login(self, session: Session, user: str, token: IdToken, *, due: bool) -> None:
        # What the application reads out of `amr` and `acr` is its own word; by itself an ID token is one factor.
        names = () if self.settings.levels is None else tuple(self.settings.levels(token))
        first, *more = names or (FACTOR,)
        session.login(user, factor=first, pending=due)
        for factor in more:
            session.add_factor(factor, complete=False)

    async def _stands(self, link: Link, before: Link | None) -> bool:
        """Tell whether a sign-in was not overtaken; then drop what the session had from the one before."""
        stands = not await self.links.is_out(link)
        if stands and before is not None:
            await self._drop(before)
        return stands

    async def _drop(self, link: Link) -> None:
        """Drop what hung on a session that is no more. Nobody can use it; if this fails, it goes when it is too old.

        It is not given back to the provider, to which it may be one with what the new sign-in got.
        """
        try:
            await self.links.forget(link)
        except StoreError as error:
            _log.warning("what a session got from %s is still kept (%s)", link.provider, error.code)

    async def _exchange(self, known: Known, metadata: Metadata, code: str, transaction: Transaction) -> Tokens | str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback(transaction.provider),
            "code_verifier": transaction.verifier,
        }
        return _tokens(await self._post(known, metadata.token_endpoint, form))

    async def _judged(self, known: Known, tokens: Tokens, transaction: Transaction | None) -> IdToken | id_tokens.Why:
        provider = known.provider
        asked = Asked(provider.issuer, provider.client_id, provider.algorithms, provider.tolerance)
        if transaction is not None:
            asked = asked._replace(
                nonce=transaction.nonce,
                max_age=transaction.max_age,
                acr_values=transaction.acr_values,
                asked_at=transaction.at,
            )
        judge = partial(
            id_tokens.judge, tokens.id_token, asked=asked, now=self.ground.now, access_token=tokens.access_token
        )
        found = judge(await known.keys())
        if isinstance(found, UnknownKey):
            found = judge(await known.keys(again=True))
        return id_tokens.Why.KEY if isinstance(found, UnknownKey) else found

    async def _claims(self, known: Known, tokens: Tokens, token: IdToken) -> Mapping[str, Any] | None:
        """Return what is known of the user; None: the user info is of somebody else (Core §5.3.2)."""
        endpoint = (await known.metadata()).userinfo_endpoint
        if not self.settings.userinfo or endpoint is None or tokens.access_token is None:
            return token.claims
        answer = await known.http.get(endpoint, {"authorization": f"Bearer {tokens.access_token}"})
        told = answer.json() if answer.status == 200 and answer.kind == "application/json" else None
        if told is None:
            raise StoreUnavailable(f"the provider answered {answer.status} for what it knows of the user")
        if told.get("sub") != token.subject:
            return None
        return {**told, **token.claims}

    async def _user(self, identity: Identity) -> str | None:
        if self.settings.users is None:
            return identity.key
        found = self.settings.users(identity)
        if inspect.isawaitable(found):
            found = await found
        return found

    # -- the provider's session ----------------------------------------------------------------------------------------

    async def check(self, session: Session) -> None:
        """Ask the provider whether its session is still there, if that is due (R75)."""
        coupling = self.settings.coupling
        link = links.kept(session)
        if coupling.recheck is None or link is None or session.user_id is None:
            return
        checked, now = session.get(CHECKED), self.ground.now
        age = max(0.0, now - checked) if isinstance(checked, float) and checked <= now + _SKEW else float("inf")
        if age < coupling.recheck:
            return
        known = self.known.get(link.provider)
        kept = None if known is None else await self._claim(link)
        if known is None or kept is None:
            raise StepUpRequired("login")  # the user is sent there, and comes back unasked if the session is there
        if not kept:
            return  # another request is asking
        try:
            fresh = await self._refreshed(known, link, kept)
        except StoreUnavailable:
            if age < coupling.recheck + coupling.patience:
                return
            raise
        self.ground.tell(SignOnChecked(**about(self.ground, session, link.user), provider=link.provider, stands=fresh))
        if not fresh:
            session.logout()
            await self._drop(link)
            raise StepUpRequired("login")
        session[CHECKED] = now

    async def _refreshed(self, known: Known, link: Link, kept: str) -> bool:
        """Use the refresh token; tell whether the provider still vouches for the user."""
        form = {"grant_type": "refresh_token", "refresh_token": kept}
        answer = await self._post(known, (await known.metadata()).token_endpoint, form)
        if answer.status in (400, 401) and (answer.json() or {}).get("error") == "invalid_grant":
            return False
        tokens = _tokens(answer)
        if isinstance(tokens, str):
            raise StoreUnavailable(f"the provider answered {answer.status} to a refresh")
        # First of all: the used one is worth nothing now, and what follows may fail.
        if tokens.refresh_token is not None and tokens.refresh_token != kept:
            await self._keep_refresh(link, tokens.refresh_token, new=False)
        if tokens.id_token is not None:
            token = await self._judged(known, tokens, None)
            if isinstance(token, id_tokens.Why) or token.subject != link.subject:
                return False
        return True

    async def _claim(self, link: Link) -> str | None:
        """Return the refresh token to the one request that may use it now, "" to others, None if there is none.

        Used twice, it would look stolen to the provider, and end everything that hangs on it.
        """
        key, now = links.refresh_key(link), self.ground.now
        item = living(await self.ground.vault.get(key), now)
        if item is None:
            return None
        kept = read(_Kept, item.value)
        if abs(now - kept.asked_at) < _CLAIM:  # another node's clock may be ahead
            return ""
        claimed = written(_Kept(token=kept.token, asked_at=now))
        if not await self.ground.vault.write(Write(key, claimed, item.version, item.user, item.expires_at)):
            return ""
        return opened(self._sealer, kept.token, link.user, link.hint.encode()).decode()

    async def revoke(self, link: Link) -> None:
        """Give the refresh token of a session that has ended back, at a provider that takes it (RFC 7009).

        Raises:
            StoreError: the vault failed, or the provider could not be asked.
        """
        known = self.known.get(link.provider)
        item = living(await self.ground.vault.get(links.refresh_key(link)), self.ground.now)
        if known is None or item is None:
            return
        endpoint = (await known.metadata()).revocation_endpoint
        if endpoint is None:
            return
        token = opened(self._sealer, read(_Kept, item.value).token, link.user, link.hint.encode()).decode()
        answer = await self._post(known, endpoint, {"token": token, "token_type_hint": "refresh_token"})
        if answer.status != 200:
            raise StoreUnavailable(f"the provider answered {answer.status} to a refresh token that was given back")

    async def _keep_refresh(self, link: Link, token: str, *, new: bool) -> None:
        secret = sealed(self._sealer, token.encode(), link.user, link.hint.encode())
        until = self.ground.now + self.ground.engine.policy.absolute
        key = links.refresh_key(link)
        found = await self.ground.vault.get(key)
        if found is None and not new:
            return  # the session has ended meanwhile, and what hung on it
        version = 0 if found is None else found.version
        await self.ground.vault.write(Write(key, written(_Kept(token=secret)), version, link.user, until))

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _provider(self, name: str) -> Known:
        try:
            return self.known[name]
        except KeyError:
            raise ConfigurationError(f"there is no provider {name!r}") from None

    def _callback(self, provider: str) -> str:
        return f"{self.settings.address}/callback/{provider}"

    def _refuse(self, session: Session, provider: str, why: Refused, more: str) -> Refused:
        self.ground.tell(
            SignOnRefused(**about(self.ground, session, session.user_id), provider=provider, why=why, more=str(more))
        )
        return why

    async def _post(self, known: Known, endpoint: str, form: dict[str, str]) -> Answer:
        """Send a form as the client that we are there."""
        provider, headers = known.provider, dict[str, str]()
        if provider.way == "client_secret_basic":
            pair = f"{quote(provider.client_id, safe='')}:{quote(provider.client_secret or '', safe='')}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form = {**form, "client_id": provider.client_id}
        if provider.way == "client_secret_post":
            form = {**form, "client_secret": provider.client_secret or ""}
        elif provider.way == "private_key_jwt":
            form = {**form, "client_assertion_type": _ASSERTION, "client_assertion": self._assertion(known)}
        return await known.http.post(endpoint, form, headers)

    def _assertion(self, known: Known) -> str:
        """Return the proof of who we are, signed (RFC 7523 §3); for the issuer alone, so that no other can use it."""
        provider, key = known.provider, known.signing_key
        assert key is not None
        now, algorithm = int(self.ground.now), algorithm_of(key)
        assert algorithm is not None
        header = {"alg": algorithm, "typ": "JWT", **({"kid": key.kid} if key.kid else {})}
        claims = {
            "iss": provider.client_id,
            "sub": provider.client_id,
            "aud": provider.issuer,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + _ASSERTION_LIFE,
        }
        message = b".".join(urlsafe_b64encode(msgspec.json.encode(part)) for part in (header, claims))
        # By its own name: joserfc warns of "EdDSA", which most providers know it by, each time.
        signature = JWSRegistry.algorithms[algorithm].sign(message, key)
        return (message + b"." + urlsafe_b64encode(signature)).decode()


def _tokens(answer: Answer) -> Tokens | str:
    """Return the tokens of an answer, or the provider's word for why there are none.

    Raises:
        StoreUnavailable: the provider failed.
    """
    if answer.status >= 500 or answer.status == 429:
        raise StoreUnavailable(f"the provider answered {answer.status}")
    told = answer.json() if answer.status == 200 else None
    if told is None:
        return rules.error_of(_texts(answer.json())) or str(answer.status)

    def text(name: str) -> str | None:
        value = told.get(name)
        return value if isinstance(value, str) and len(value) <= _MAX_TOKEN and _TOKEN.fullmatch(value) else None

    return Tokens(text("id_token"), text("access_token"), text("refresh_token"))


def _texts(told: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: value for name, value in (told or {}).items() if isinstance(value, str)}


def _with_query(endpoint: str, query: Mapping[str, str]) -> str:
    return endpoint + ("&" if urlsplit(endpoint).query else "?") + urlencode(query)
