"""The page that shows a token's life, and its death at sign-out: to the issuer, to an API, and to a service elsewhere.

The tokens stay on the server; the page sees what stands in one, and what three judges say of it every second. Whoever
was given them may go on watching after the sign-out: that is when it gets interesting.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ..adapters.starlette import requires, session_of
from ..auth.ground import Ground
from ..auth.tokens import (
    AsyncRefreshTokens,
    AsyncTokens,
    AsyncVerifier,
    EndedList,
    Refused,
    TokenPair,
    attach,
    require_scope,
)
from .attacks import CLIENTS
from .pages import Pages

if TYPE_CHECKING:
    from ..core.requests import Facts

CLIENT: Final = "demo-app"
SCOPE: Final = "orders:read"
LIFETIME: Final = 120
# The list of what has ended is made, and fetched, this often (seconds): short enough to watch.
INTERVAL: Final = 3
_MAX_WATCHED: Final = 200


@dataclass
class Watched:
    """Hold the tokens that were given once, and when each judge first said no (seconds since 1970)."""

    pair: TokenPair
    refresh: str
    since: float
    refreshed: int = 0
    refused_at: dict[str, float] = field(default_factory=dict[str, float])
    ended_at: float | None = None


class TokenPages:
    """Answer the routes of tokens, and of the small API that takes them."""

    def __init__(self, ground: Ground, pages: Pages, address: tuple[str, int], issuer: str) -> None:
        self._audience = f"{issuer}/api"
        self.tokens = AsyncTokens(ground, issuer=issuer, lifetime=LIFETIME, interval=INTERVAL)
        self._refresh = AsyncRefreshTokens(self.tokens)
        self._elsewhere = AsyncVerifier(
            jwks=self.tokens.jwks,
            issuer=issuer,
            audience=self._audience,
            ended=self._fetch_ended,
            ends=EndedList(max_age=4 * INTERVAL),
            ended_every=INTERVAL,
            clock=ground.engine.clock,
        )
        self._ground, self._pages, self._address = ground, pages, address
        self._watched: OrderedDict[str, Watched] = OrderedDict()
        attach(self.tokens, audience=self._audience)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/tokens", self.start),
            Route("/tokens", self.give, methods=["POST"]),
            Route("/tokens/{name}", self.watch),
            Route("/tokens/{name}/state", self.state),
            Route("/tokens/{name}/refresh", self.use_refresh, methods=["POST"]),
            Route("/tokens/{name}/sign-out", self.sign_out, methods=["POST"]),
            Route("/api/orders", self.orders),
        ]

    # -- the API -------------------------------------------------------------------------------------------------------

    async def orders(self, request: Request) -> Response:
        """Be an API: the same session object, opened by an access token."""
        session = session_of(request)
        user = session.require()
        require_scope(session, SCOPE)
        return JSONResponse({"user": user, "orders": ["a barnacle, shipped"]})

    # -- the pages -----------------------------------------------------------------------------------------------------

    @requires()
    async def start(self, request: Request) -> Response:
        """Offer tokens."""
        return self._pages.show(request, "tokens.html", watched=None)

    @requires()
    async def give(self, request: Request) -> Response:
        """Give an application tokens that act for this session."""
        session = session_of(request)
        pair = await self._refresh.issue(session, audience=self._audience, client=CLIENT, scope=SCOPE)
        assert pair.refresh is not None
        name = secrets.token_urlsafe(12)
        self._watched[name] = Watched(pair, pair.refresh, session.now)
        while len(self._watched) > _MAX_WATCHED:
            self._watched.popitem(last=False)
        return RedirectResponse(f"/tokens/{name}", 303)

    async def watch(self, request: Request) -> Response:
        """Show the tokens' life."""
        watched = self._of(request)
        if watched is None:
            return RedirectResponse("/tokens", 303)
        name = request.path_params["name"]
        access = watched.pair.access
        shown = {
            "name": name,
            "header": _shown(_part(access, 0)),
            "claims": _shown(_claims(access)),
            "interval": INTERVAL,
        }
        return self._pages.show(request, "tokens.html", watched=shown)

    async def state(self, request: Request) -> Response:
        """Return what each judge says now."""
        watched = self._of(request)
        if watched is None:
            return JSONResponse({"error": "nobody watches this"}, 404)
        access, now = watched.pair.access, self._ground.now
        lives = await self._ground.engine.living(_claims(access)["sid"]) is not None
        if not lives and watched.ended_at is None:
            watched.ended_at = now
        status, said = await self._call(access)
        active = bool((await self.tokens.introspect(access)).get("active"))
        offline = await self._elsewhere.verify(access) is not None
        judged = {
            "introspection": (active, '{"active": true, …}' if active else '{"active": false}'),
            "api": (status == 200, said),
            "offline": (offline, "accepted" if offline else "refused"),
        }
        for judge, (accepts, _) in judged.items():
            if not accepts:
                watched.refused_at.setdefault(judge, now)
        after = {
            judge: None if watched.ended_at is None else max(0.0, at - watched.ended_at)
            for judge, at in watched.refused_at.items()
        }
        told = {
            judge: {"accepts": accepts, "says": says, "after": after.get(judge)}
            for judge, (accepts, says) in judged.items()
        }
        expires = watched.since + watched.pair.expires_in - now
        return JSONResponse(
            {"judges": told, "expires": max(0, expires), "session": lives, "refreshed": watched.refreshed},
            headers={"cache-control": "no-store"},
        )

    async def use_refresh(self, request: Request) -> Response:
        """Use the refresh token, as the application would."""
        watched = self._of(request)
        if watched is None:
            return JSONResponse({"error": "nobody watches this"}, 404)
        opened: Any = session_of(request).opened
        facts = cast("Facts", opened() if callable(opened) else opened.facts)
        pair = await self._refresh.refresh(watched.refresh, facts=facts, client=CLIENT)
        if isinstance(pair, Refused):
            return JSONResponse({"ok": False, "says": f'400 {{"error": "{pair.value}"}}'})
        watched.pair, watched.since = pair, self._ground.now
        watched.refresh = pair.refresh or watched.refresh
        watched.refreshed += 1
        said = "200: a new access token, and the next refresh token"
        return JSONResponse({"ok": True, "says": said, "claims": _shown(_claims(pair.access))})

    async def sign_out(self, request: Request) -> Response:
        """Sign out and go on watching."""
        session_of(request).logout()
        return RedirectResponse(f"/tokens/{request.path_params['name']}", 303)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _of(self, request: Request) -> Watched | None:
        # The name in the address is the secret: a sign-out clears the cookies by which anybody could be known.
        return self._watched.get(request.path_params["name"])

    async def _fetch_ended(self) -> str:
        return (await self.tokens.ended()).text

    async def _call(self, access: str) -> tuple[int, str]:
        """Ask the API over HTTP, as any application does; return its status, and what it said."""
        try:
            return await asyncio.get_running_loop().run_in_executor(CLIENTS, _get, self._address, access)
        except OSError:
            return 0, "The API does not answer."


def _get(address: tuple[str, int], access: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        headers = {"Authorization": f"Bearer {access}", "Accept": "application/json"}
        connection.request("GET", "/api/orders", headers=headers)
        answer = connection.getresponse()
        body = answer.read(2000).decode("utf-8", "replace")
        said = body if answer.status == 200 else answer.getheader("WWW-Authenticate") or body
        return answer.status, f"{answer.status} {said}"
    finally:
        connection.close()


def _part(token: str, number: int) -> dict[str, Any]:
    part = token.split(".")[number]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


def _claims(token: str) -> dict[str, Any]:
    return _part(token, 1)


def _shown(part: dict[str, Any]) -> str:
    """Return a part of a token as people read it."""
    return json.dumps(part, indent=2)
