"""The page that shows both applications side by side, and what each sign-out did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .apps import STATIC, Application
from .story import Story
from .views import Views

_HERE = Path(__file__).parent


class Hub:
    """Answer the routes of the page."""

    def __init__(self, apps: Mapping[str, Application], issuer: str, story: Story, views: Views) -> None:
        self._apps, self._issuer, self._story, self._views = apps, issuer, story, views
        self.app = Starlette(
            routes=[
                Route("/", self.page),
                Route("/state", self.state),
                Route("/down/{name}", self.toggle, methods=["POST"]),
                Mount("/sso", StaticFiles(directory=_HERE / "static")),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )

    async def page(self, _request: Request) -> Response:
        """Show the page."""
        page = self._views.render("hub.html", apps=self._apps, issuer=self._issuer)
        return HTMLResponse(page, headers=self._views.policy())

    async def state(self, request: Request) -> Response:
        """Return who is signed in where, and what has happened since."""
        since = request.query_params.get("since", "0")
        number = int(since) if since.isascii() and since.isdigit() and len(since) < 12 else 0
        apps = {name: {"sessions": await app.listed(), "down": app.down} for name, app in self._apps.items()}
        told = {"apps": apps, "arrows": self._story.since(number)}
        return JSONResponse(told, headers={"cache-control": "no-store"})

    async def toggle(self, request: Request) -> Response:
        """Let the receiver of an application be down, or up again; only from this very page."""
        app = self._apps.get(request.path_params["name"])
        if app is None or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return JSONResponse({"error": "no"}, 404)
        app.down = not app.down
        return JSONResponse({"down": app.down})
