"""Signing out where the user stands: this session first, then the provider's, then the page that says what is true.

    POST logout        this session ends, or all of the user's; its tokens too; then the browser goes to the provider
    GET  logged-out    the provider sent it back: `state` is checked, and used up

If the sessions' store fails, nothing has ended and the answer is an error. Whatever fails after that leaves the session
ended: the page says what is known of the provider's session, and what is not. A provider tells nobody whether the user
chose to stay signed in there (RP-Initiated Logout 1.0 §4), not even by the back channel: oidc-provider sends the
application that asked a logout token in both cases.
"""

from __future__ import annotations

import base64
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

import msgspec

from ...core.session import Session
from ...errors import StoreError
from ..exchange import POLICY, Ask, Reply, html, redirect, wrong_method
from ..ground import Ground, same
from . import logout_pages
from .links import Link, Links, kept

DATA: Final = "_sessile_sign_out"
LIFETIME: Final = 600.0
# Servers refuse longer addresses; without the hint the provider asks the user, and that is all.
MAX_URL: Final = 6000
_MAX_HINT: Final = 512
_log: Final = logging.getLogger("sessile.oidc")


class AtProvider(StrEnum):
    """Say what is known of the session at the provider."""

    RETURNED = "returned"
    UNREACHED = "unreached"
    UNSUPPORTED = "unsupported"
    NONE = "none"


class SignedOut(NamedTuple):
    """Hold what a page says: whether the store confirmed the end here, of one session or all, and of the provider's."""

    confirmed: bool
    everywhere: bool
    provider: str
    there: AtProvider


class Leaving(Protocol):
    """Be one provider, as far as signing out must know it."""

    @property
    def title(self) -> str:
        """Return its name for people."""
        ...

    @property
    def client_id(self) -> str:
        """Return our name there."""
        ...

    async def end_session_endpoint(self) -> str | None:
        """Return where sessions end there, None if nowhere; asks whether the provider answers at all.

        Raises:
            StoreUnavailable: it does not.
        """
        ...


class Intent(msgspec.Struct, frozen=True, array_like=True):
    """Hold what a browser was sent to the provider with; in its new anonymous session."""

    state: str
    at: float
    confirmed: bool
    everywhere: bool
    provider: str


class _Hinted(msgspec.Struct):
    login_hint: str = ""


class SignOut:
    """Answer requests to sign out. `pages` writes them; `address` is the site's own, as providers know it."""

    def __init__(
        self,
        ground: Ground,
        providers: Mapping[str, Leaving],
        links: Links,
        *,
        address: str,
        pages: Callable[[SignedOut], str] = logout_pages.signed_out,
        revoke: Callable[[Link], Awaitable[None]] | None = None,
    ) -> None:
        self._ground = ground
        self._providers = providers
        self._links = links
        self._address = address
        self._pages = pages
        self._revoke = revoke

    async def page(self, ask: Ask) -> Reply:
        """Ask whether to sign out: a page that posts, for applications without a button of their own."""
        if ask.method not in ("GET", "HEAD"):
            return wrong_method("GET", "POST")
        session = ask.session
        reply = html(logout_pages.question(ask.url("/logout"), signed_in=session.user_id is not None))
        # Browsers hold the address that a form's answer redirects to against the page's form-action, too.
        link = kept(session)
        leaving = None if link is None else self._providers.get(link.provider)
        endpoint = None if leaving is None else await self._endpoint(leaving)
        return reply if endpoint is None else _with_form_action(reply, _origin(endpoint))

    async def leave(self, ask: Ask) -> Reply:
        """End the session, and send the browser to the provider if there is one.

        Raises:
            StoreError: the sessions' store failed; nothing has ended for certain.
        """
        session, everywhere = ask.session, ask.form.get("everywhere") == "1"
        link = kept(session)
        ending = await self._ground.engine.sign_out(session, everywhere=everywhere)
        done = SignedOut(ending.confirmed, everywhere, "", AtProvider.NONE)
        leaving = None if link is None else self._providers.get(link.provider)
        if link is None or leaving is None:
            return html(self._pages(done))
        done = done._replace(provider=leaving.title)
        endpoint = await self._endpoint(leaving)
        id_token = await self._dropped(link, everywhere=everywhere, reachable=endpoint is not None)
        if endpoint is None:
            return html(self._pages(done._replace(there=AtProvider.UNREACHED)))
        if not endpoint:
            return html(self._pages(done._replace(there=AtProvider.UNSUPPORTED)))
        return redirect(self._intended(session, id_token, endpoint, leaving.client_id, done, link.provider))

    async def back(self, ask: Ask) -> Reply:
        """Say what is known, to the browser that the provider sent back."""
        if ask.method not in ("GET", "HEAD"):
            return wrong_method("GET")
        session, now = ask.session, self._ground.now
        intent = _read(session.get(DATA))
        if intent is None or ask.method == "HEAD":
            # A browser that sends no cookie along with a link from another site (SameSite=Strict) ends here, too.
            return html(logout_pages.nothing(signed_in=session.user_id is not None))
        if not same(intent.state.encode(), ask.query.get("state", "").encode("utf-8", "replace")):
            return html(logout_pages.nothing(signed_in=session.user_id is not None), 400)
        del session[DATA]
        if session.user_id is None and not session.keys():
            session.logout()  # it began with the sign-out, for nothing else
        if not now < intent.at + LIFETIME:
            return html(logout_pages.nothing(signed_in=session.user_id is not None))
        leaving = self._providers.get(intent.provider)
        title = intent.provider if leaving is None else leaving.title
        return html(self._pages(SignedOut(intent.confirmed, intent.everywhere, title, AtProvider.RETURNED)))

    def _intended(
        self, session: Session, id_token: str | None, endpoint: str, client: str, done: SignedOut, provider: str
    ) -> str:
        """Return where the browser goes, and keep in its new session what it is sent with."""
        state = secrets.token_urlsafe(24)
        intent = Intent(state, self._ground.now, done.confirmed, done.everywhere, provider)
        session[DATA] = msgspec.to_builtins(intent)
        query = {"client_id": client, "post_logout_redirect_uri": self._address + "/logged-out", "state": state}
        if id_token is not None:
            query["id_token_hint"] = id_token
            hint = _login_hint(id_token)
            if hint is not None:
                query["logout_hint"] = hint
        target = _with_query(endpoint, query)
        if len(target) > MAX_URL:
            query.pop("id_token_hint", None)
            target = _with_query(endpoint, query)
        return target

    async def _dropped(self, link: Link, *, everywhere: bool, reachable: bool) -> str | None:
        """Drop what was kept for a session that has ended, its refresh token at the provider, too; return its ID token.

        What fails here leaves the session ended.
        """
        id_token: str | None = None
        try:
            id_token = await self._links.id_token(link)
            if self._revoke is not None and reachable:
                await self._revoke(link)
        except StoreError as error:
            _log.warning("what a session got from %s could not be given back (%s)", link.provider, error.code)
        try:
            await (self._links.forget_user(link.user) if everywhere else self._links.forget(link))
        except StoreError as error:
            _log.warning("what a session got from %s is still kept (%s)", link.provider, error.code)
        return id_token

    async def _endpoint(self, leaving: Leaving) -> str | None:
        """Return where sessions end at a provider, "" if nowhere, None if the provider does not answer."""
        try:
            return await leaving.end_session_endpoint() or ""
        except StoreError as error:
            _log.warning("the provider %s could not be asked (%s)", leaving.client_id, error.code)
            return None


def _read(kept: object) -> Intent | None:
    try:
        return msgspec.convert(kept, Intent)
    except (msgspec.ValidationError, TypeError):
        return None


def _login_hint(id_token: str) -> str | None:
    """Return the claim that Entra ID wants back as `logout_hint`; the token was verified when it came."""
    try:
        body = id_token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Hinted)
    except (IndexError, ValueError, msgspec.DecodeError):
        return None
    hint = claims.login_hint
    return hint if hint and len(hint) <= _MAX_HINT else None


def _with_query(endpoint: str, query: Mapping[str, str]) -> str:
    return endpoint + ("&" if urlsplit(endpoint).query else "?") + urlencode(query)


def _with_form_action(reply: Reply, origin: str) -> Reply:
    policy = POLICY.replace("form-action 'self'", f"form-action 'self' {origin}")
    return reply._replace(headers=(("content-security-policy", policy), *reply.headers[1:]))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
