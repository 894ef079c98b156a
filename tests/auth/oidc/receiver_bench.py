"""One application with the routes of signing out, in any framework, and the keys of a provider that exists on paper."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlencode

import httpx
from joserfc.jwk import KeySet

from sessile.auth.exchange import FORM, NOT_FOUND, Ask, Reply
from sessile.auth.ground import Ground
from sessile.auth.oidc.links import Link, Links, keep
from sessile.auth.oidc.logout import SignOut
from sessile.auth.oidc.logout_tokens import Expected
from sessile.auth.oidc.receivers import Receivers
from sessile.testing.clock import FrozenClock
from tests.auth.oidc.logout_forge import CLIENT, ISSUER, NOW, Forge
from tests.core.rig import facts, token_of
from tests.support.mounting import ORIGIN, PREFIX, Browser, served

NAME: Final = "login"
ENDPOINT: Final = f"{ISSUER}/end?tenant=1"


class Provider:
    """Be the provider as receivers and signing out know it; `published` are the keys that a fetch finds."""

    title = "Login"
    client_id = CLIENT
    origins = (ISSUER,)

    def __init__(self, forge: Forge) -> None:
        self.expected = Expected(forge.issuer, forge.client)
        self.published = self.known = forge.public
        self.endpoint: str | None = ENDPOINT
        self.fetched = 0
        self.down: Exception | None = None

    async def keys(self, *, again: bool = False) -> KeySet:
        """Return its keys."""
        if self.down is not None:
            raise self.down
        if again:
            self.fetched += 1
            self.known = self.published
        return self.known

    async def end_session_endpoint(self) -> str | None:
        """Return where sessions end."""
        if self.down is not None:
            raise self.down
        return self.endpoint


class SignOutSite:
    """Serve the four routes."""

    def __init__(self, door: Any, forge: Forge, **options: Any) -> None:
        self.ground = Ground(door, options.pop("vault", "memory://"))
        self.blocking = self.ground.blocking
        self.links = Links(self.ground)
        self.provider = Provider(forge)
        known = {NAME: self.provider}
        self.receivers = Receivers(self.ground, known, self.links, **options)
        self.leaving = SignOut(self.ground, known, self.links, address=ORIGIN + PREFIX)

    async def answer(self, ask: Ask) -> Reply:
        """Answer one request."""
        way, _, name = ask.path.strip("/").partition("/")
        match way:
            case "backchannel":
                return await self.receivers.back(ask, name)
            case "frontchannel":
                return await self.receivers.front(ask, name)
            case "logout":
                return await (self.leaving.leave(ask) if ask.method == "POST" else self.leaving.page(ask))
            case "logged-out":
                return await self.leaving.back(ask)
            case "who":
                return Reply(200, (), (ask.session.user_id or "nobody").encode())
            case _:
                return NOT_FOUND


async def done(result: Any) -> Any:
    """Return what a verb of either door returns."""
    return await result if inspect.isawaitable(result) else result


class Bench:
    """Hold the browser, the site and what was told."""

    def __init__(self, browser: Browser, forge: Forge, events: list[Any], clock: FrozenClock) -> None:
        self.browser, self.forge, self.events, self.clock = browser, forge, events, clock
        self.site: Any = browser.site
        self.door: Any = browser.door

    async def sign_in(
        self, user: str = "ada", sid: str | None = "sid-1", id_token: str = "e30.e30.e30", **at: float
    ) -> tuple[str, str]:
        """Sign a user in as the provider's; return the session's id and its cookie."""
        issued_at = at.get("issued_at", self.site.ground.now - 1)
        link = await self.site.links.begin(Link(NAME, ISSUER, user, sid, issued_at, user), id_token)
        assert link is not None
        session = await done(self.door.open(facts()))
        session.login(user, factor="sso")
        keep(session, link)
        cookie = token_of(await done(self.door.commit(session)))
        return session.id, f"__Host-id={cookie}"

    async def alive(self, *sessions: str) -> list[bool]:
        """Tell which sessions live."""
        return [await done(self.door.is_alive(one)) for one in sessions]

    async def post(self, token: str | None, *, name: str = NAME, **more: Any) -> httpx.Response:
        """Post a logout token as a provider does: no browser, no cookie."""
        if token is not None:
            more.setdefault("content", urlencode({"logout_token": token}))
        headers = {"content-type": FORM, **more.pop("headers", {})}
        return await self.browser.post(f"{PREFIX}/backchannel/{name}", headers=headers, **more)

    def token(self, **changes: Any) -> str:
        """Return a good logout token with these changes, made now by the clock of the framework."""
        return self.forge.token(self.forge.claims(self.site.ground.now, **changes))

    def told(self, code: str) -> list[Any]:
        """Return the events of that code."""
        return [event for event in self.events if event.code == code]


@asynccontextmanager
async def bench(
    framework: str = "asgi", *, forge: Forge, store: str = "memory://", **options: Any
) -> AsyncIterator[Bench]:
    """Serve the site by a framework."""
    events: list[Any] = []
    clock = FrozenClock(NOW)
    async with served(
        framework,
        lambda door: SignOutSite(door, forge, **options),
        store=store,
        clock=clock,
        sinks=(events.append,),
    ) as browser:
        yield Bench(browser, forge, events, clock)
