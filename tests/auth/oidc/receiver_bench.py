"""One application with the routes of a sign-on, in any framework, and what a fetch at its provider finds."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from sessile.auth.exchange import FORM
from sessile.auth.ground import Ground
from sessile.auth.oidc.doors import AsyncSignOn, SignOn
from sessile.auth.oidc.http import Answer
from sessile.auth.oidc.links import Link, keep
from sessile.auth.oidc.providers import Provider
from sessile.errors import StoreUnavailable
from sessile.testing.clock import FrozenClock
from tests.auth.oidc.logout_forge import CLIENT, ISSUER, NOW, Forge
from tests.core.rig import facts, token_of
from tests.support.mounting import ORIGIN, PREFIX, Browser, served

NAME: Final = "login"
ENDPOINT: Final = f"{ISSUER}/end?tenant=1"


class Published:
    """Be the HTTP client of the sign-on: what a fetch at the provider finds, and how often its keys were fetched."""

    def __init__(self, forge: Forge) -> None:
        self.keys = forge.public
        self.endpoint: str | None = ENDPOINT
        self.fetched = 0
        self.down = False
        self.posted: list[dict[str, str]] = []
        self.revoking = 200

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Fetch a document."""
        if self.down:
            raise StoreUnavailable("no answer")
        if url == f"{ISSUER}/jwks":
            self.fetched += 1
            return Answer(200, "application/json", json.dumps(self.keys.as_dict(private=False)).encode())
        assert url == f"{ISSUER}/.well-known/openid-configuration"
        addresses = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/jwks"}
        addresses["revocation_endpoint"] = "/revoke"
        metadata = {"issuer": ISSUER, **{name: ISSUER + path for name, path in addresses.items()}}
        if self.endpoint is not None:
            metadata["end_session_endpoint"] = self.endpoint
        return Answer(200, "application/json", json.dumps(metadata).encode())

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form: the only one is a token that is given back."""
        assert url == f"{ISSUER}/revoke"
        self.posted.append(dict(form))
        if self.revoking == 0:
            raise StoreUnavailable("no answer")
        return Answer(self.revoking, "", b"")

    async def close(self) -> None:
        """Close nothing."""


def sign_on(door: Any, published: Published, *, vault: str = "memory://", patience: float | None = None) -> Any:
    """Return the site of a sign-on whose provider is `published`, with what tests look at beside it."""
    ground = Ground(door, vault)
    kind: Any = SignOn if ground.blocking else AsyncSignOn
    made = kind(ground, [Provider(NAME, ISSUER, CLIENT, title="Login")], address=ORIGIN + PREFIX, http=published)
    site = made.site
    site.ground, site.links, site.published, site.flow = ground, made.flow.links, published, made.flow
    if patience is not None:
        site._receivers._patience = patience
    return site


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
        self,
        user: str = "ada",
        sid: str | None = "sid-1",
        id_token: str = "e30.e30.e30",
        *,
        issuer: str = ISSUER,
        issued_at: float | None = None,
    ) -> tuple[str, str]:
        """Sign a user in as the provider's; return the session's id and its cookie."""
        at = self.site.ground.now - 1 if issued_at is None else issued_at
        link = await self.site.links.begin(Link(NAME, issuer, user, sid, at, user), id_token)
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
    published = Published(forge)
    async with served(
        framework,
        lambda door: sign_on(door, published, **options),
        store=store,
        clock=clock,
        sinks=(events.append,),
    ) as browser:
        yield Bench(browser, forge, events, clock)
