"""One site in every framework, and one browser for all of them: what the tests of sites share.

    async with served("flask", make_site) as browser:
        answer = await browser.post("/account/sign-in", data={...})

`make_site` gets the door whose sessions the framework has. The browser is httpx, on https, with a jar of cookies and
the headers of a page of the same origin.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Final

import httpx

from sessile import AsyncSessions, Sessions
from sessile.adapters import sites
from sessile.auth import exchange
from sessile.auth.exchange import Ask, Reply, Site

ORIGIN: Final = "https://shop.example"
PREFIX: Final = "/account"
# A page of the application itself, behind the adapter's own guard; starlette has one of FastAPI's below /fast, too.
GUARDED: Final = "/guarded"
OPEN: Final = "open sesame"
BLOCKING: Final = ("wsgi", "flask", "django")
FRAMEWORKS: Final = ("asgi", "starlette", "wsgi", "flask", "django", "django-async")

Door = AsyncSessions | Sessions
MakeSite = Callable[[Any], Site]


class Browser:
    """Ask as a page of the same origin does, whatever answers."""

    def __init__(self, client: httpx.Client | httpx.AsyncClient, door: Door, site: Site) -> None:
        self._client = client
        self.door = door
        self.site = site
        self.agent = "a test"

    @property
    def jar(self) -> httpx.Cookies:
        """Return this browser's cookies."""
        return self._client.cookies

    def another(self) -> Browser:
        """Return another browser before the same application, with no cookies yet."""
        transport: Any = self._client._transport
        kind = httpx.Client if isinstance(self._client, httpx.Client) else httpx.AsyncClient
        return Browser(kind(transport=transport, base_url=ORIGIN), self.door, self.site)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        """Follow a link."""
        return await self.request("GET", path, **more)

    async def post(self, path: str, **more: Any) -> httpx.Response:
        """Send a form."""
        return await self.request("POST", path, **more)

    async def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send any request; `headers` replace those of a page."""
        page = {"sec-fetch-site": "same-origin", "origin": ORIGIN, "accept": "text/html", "user-agent": self.agent}
        headers = more.pop("headers", page)
        if isinstance(self._client, httpx.Client):
            return await asyncio.to_thread(self._client.request, method, path, headers=headers, **more)
        return await self._client.request(method, path, headers=headers, **more)


class _Guarded:
    """Be a page behind `Session.require`, where the adapter has no decorator of its own."""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking

    async def answer(self, ask: Ask) -> Reply:
        """Let through who is signed in."""
        ask.session.require()
        return exchange.plain(200, OPEN)


@asynccontextmanager
async def served(
    framework: str, make_site: MakeSite, *, store: str = "memory://", **options: Any
) -> AsyncIterator[Browser]:
    """Serve a site below `PREFIX` by a framework of `FRAMEWORKS`; `options` are the sessions'."""
    if framework.startswith("django"):
        # In a thread: it makes Django's tables, which Django does not do beside an event loop.
        django = await asyncio.to_thread(importlib.import_module, "tests.support.mounting_django")
        with django.project(framework == "django-async", make_site, store, options) as (app, door, site):
            async with _browsing(app, door, site, blocking=framework == "django") as browser:
                yield browser
        return
    door: Door = Sessions(store, **options) if framework in BLOCKING else AsyncSessions(store, **options)
    site = make_site(door)
    async with _browsing(_application(framework, door, site), door, site, blocking=framework in BLOCKING) as browser:
        yield browser
    if isinstance(door, Sessions):
        door.close()
    else:
        await door.close()


def _application(framework: str, door: Any, site: Site) -> Any:
    if framework == "flask":
        import flask

        from sessile.adapters.flask import Sessile
        from sessile.adapters.flask import requires as guard
        from sessile.adapters.flask.sites import register

        app = flask.Flask("shop")
        Sessile(app, sessions=door)
        register(app, PREFIX, site)
        app.add_url_rule(GUARDED, "guarded", guard()(lambda: OPEN))
        return app
    if framework == "starlette":
        from fastapi import FastAPI  # a Starlette, with guards of its own
        from starlette.middleware import Middleware
        from starlette.responses import PlainTextResponse

        from sessile.adapters.fastapi import Require
        from sessile.adapters.starlette import SessionMiddleware, requires

        both = FastAPI(middleware=[Middleware(SessionMiddleware, sessions=door)])
        both.mount(PREFIX, sites.asgi(site))
        both.add_route(GUARDED, requires()(lambda _request: PlainTextResponse(OPEN)))
        both.get("/fast" + GUARDED, dependencies=[Require()])(lambda: OPEN)
        return both
    if framework == "wsgi":
        from werkzeug.exceptions import NotFound
        from werkzeug.middleware.dispatcher import DispatcherMiddleware

        from sessile.adapters.wsgi import SessionMiddleware as WsgiMiddleware

        mounts = {PREFIX: sites.wsgi(site), GUARDED: sites.wsgi(_Guarded(blocking=True))}
        return WsgiMiddleware(DispatcherMiddleware(NotFound(), mounts), door)
    from sessile.adapters.asgi import SessionMiddleware as AsgiMiddleware

    inner, guarded_site = sites.asgi(site), sites.asgi(_Guarded(blocking=False))

    async def mount(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == GUARDED:
            await guarded_site(scope, receive, send)
        else:
            await inner({**scope, "root_path": PREFIX}, receive, send)

    return AsgiMiddleware(mount, door)


@asynccontextmanager
async def _browsing(app: Any, door: Door, site: Site, *, blocking: bool) -> AsyncIterator[Browser]:
    if blocking:
        with httpx.Client(transport=httpx.WSGITransport(app), base_url=ORIGIN) as client:
            yield Browser(client, door, site)
    else:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as asking:
            yield Browser(asking, door, site)


def module(name: str, **contents: Any) -> ModuleType:
    """Return a module that exists in memory alone."""
    made = ModuleType(name)
    vars(made).update(contents)
    sys.modules[name] = made
    return made
