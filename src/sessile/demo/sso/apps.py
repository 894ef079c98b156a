"""The two applications: as little as single sign-on takes, each with an address and sessions of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ...adapters.sites import asgi
from ...adapters.starlette import SessionMiddleware, session_of
from ...auth.ground import Ground
from ...auth.oidc import AsyncSignOn, Identity, Provider
from ...auth.oidc.logout import SignedOut
from ...core.sessions import AsyncSessions
from ...monitor import LogSink
from .story import Place, Story
from .views import Views

STATIC = Path(__file__).parents[1] / "static"
GOODS: dict[str, tuple[str, str]] = {
    "a": ("Tide Tables", "When the water comes and goes."),
    "b": ("Harbour Post", "Letters between those who stay."),
}


class Application:
    """Hold one application."""

    def __init__(self, place: Place, url: str, provider: Provider, *, hub: str, story: Story, views: Views) -> None:
        self.place, self.url = place, url
        self._views, self._hub, self._issuer = views, hub, provider.issuer
        self.name, self.line = GOODS[place]
        self.down = False
        self.sessions = AsyncSessions("memory://", sinks=(story.sink(place), LogSink()))
        self.sign_on = AsyncSignOn(
            Ground(self.sessions, "memory://"),
            [provider],
            address=f"{url}/sso",
            users=self._user,
            signed_out=self._signed_out,
        )
        self.app = Starlette(
            routes=[
                Route("/", self.home),
                Route("/leave", self.leave, methods=["POST"]),
                Mount("/sso", _Switch(self, asgi(self.sign_on.site))),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            middleware=[Middleware(SessionMiddleware, sessions=self.sessions, after_logout="/")],
        )

    async def _user(self, identity: Identity) -> str:
        return identity.subject

    def _signed_out(self, done: SignedOut) -> str:
        return self._views.render("signed_out.html", app=self, done=done, hub=self._hub)

    async def home(self, request: Request) -> Response:
        """Show who is signed in."""
        session = session_of(request)
        page = self._views.render(
            "app.html", app=self, user=session.user_id, session=session, hub=self._hub, path=request.url.path
        )
        return HTMLResponse(page, headers=self._views.policy(self._issuer))

    async def leave(self, request: Request) -> Response:
        """End the session here and tell nobody: the other application, and the provider, go on."""
        session_of(request).logout()
        return Response(status_code=303, headers={"location": "/"})

    async def listed(self) -> list[dict[str, Any]]:
        """Return who has sessions here, for the page that shows both."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = await self.sessions.scan(cursor)
            found += [
                {"id": sid[:8], "user": record.control.user} for sid, record in page.sessions if record.control.user
            ]
            cursor = page.cursor
            if cursor is None:
                return found

    async def close(self) -> None:
        """Release all that is held."""
        await self.sign_on.close()
        await self.sign_on.ground.close()
        await self.sessions.close()


class _Switch:
    """Let the receiver of sign-outs be down when the page says so: 503, as a deployment in the wrong moment."""

    def __init__(self, owner: Application, inner: Any) -> None:
        self._owner, self._inner = owner, inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if self._owner.down and "/backchannel/" in scope["path"]:
            await JSONResponse({"error": "down"}, 503)(scope, receive, send)
            return
        await self._inner(scope, receive, send)


def registration(place: str, url: str, secret: str) -> dict[str, Any]:
    """Return what the provider must know of an application."""
    return {
        "client_id": place,
        "client_secret": secret,
        "client_name": GOODS[place][0],
        "redirect_uris": [f"{url}/sso/callback/op"],
        "post_logout_redirect_uris": [f"{url}/sso/logged-out"],
        "backchannel_logout_uri": f"{url}/sso/backchannel/op",
        "backchannel_logout_session_required": True,
        "grant_types": ["authorization_code"],
    }
