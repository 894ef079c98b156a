"""Applications of one provider, each on an address of its own, and browsers that visit them: nothing is simulated.

with applications({"a": "127.0.0.2", "b": "127.0.0.3"}) as shops:
    ada = shops.browser()
    ada.sign_in("a", "ada")
    ada.who("a")
"""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from sessile import AsyncSessions
from sessile.adapters.sites import asgi
from sessile.adapters.starlette import SessionMiddleware
from sessile.auth.ground import Ground
from sessile.auth.oidc.doors import AsyncSignOn
from sessile.auth.oidc.providers import Provider
from tests.browser.conftest import serving
from tests.support.oidc_provider import OidcProvider, client, provider

OP: Final = "op"
SSO: Final = "/sso"
PROVIDER_AT: Final = "127.0.0.9"
_FIELD: Final = re.compile(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"')
_ACTION: Final = re.compile(r'action="([^"]+)"')


class Application:
    """Be one application; its routes work once the provider is known."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.origin = ""
        self.events: list[Any] = []
        self.sessions = AsyncSessions("memory://", sinks=(self.events.append,))
        self.ground = Ground(self.sessions, "memory://")
        self.sign_on: AsyncSignOn | None = None
        self.broken: int | None = None
        self._site: Any = None
        self.app = Starlette(
            routes=[Route("/", self.home), Mount(SSO, self.mounted)],
            middleware=[Middleware(SessionMiddleware, sessions=self.sessions)],
            lifespan=self._living,
        )

    @asynccontextmanager
    async def _living(self, _: Starlette) -> AsyncIterator[None]:
        yield
        if self.sign_on is not None:
            await self.sign_on.close()

    def know(self, issuer: str, registered: Mapping[str, Any]) -> None:
        """Open the routes of the sign-on."""
        known = Provider(OP, issuer, registered["client_id"], registered["client_secret"], title="The provider")
        self.sign_on = AsyncSignOn(self.ground, [known], address=self.origin + SSO)
        self._site = asgi(self.sign_on.site)

    async def mounted(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the routes of the sign-on, unless the application is broken there."""
        if self.broken is not None and "backchannel" in scope["path"]:
            await Response(status_code=self.broken)(scope, receive, send)
            return
        await self._site(scope, receive, send)

    async def home(self, request: Request) -> Response:
        """Say who is signed in, with a button to sign out."""
        user = request.session.user_id
        text = f"<!doctype html><title>{self.name}</title><p id=who>{html.escape(user or 'nobody')}</p>"
        form = f'<form method=post action="{SSO}/logout"><button>Sign out</button></form>'
        return HTMLResponse(text + (form if user else f'<a href="{SSO}/login/{OP}">Sign in</a>'))

    def told(self, code: str) -> list[Any]:
        """Return the events of that code."""
        return [event for event in self.events if event.code == code]


class Browser:
    """Follow links and send forms by hand, with one jar of cookies."""

    def __init__(self, shops: Shops) -> None:
        self.shops = shops
        # The loopback counts as secure, as it does to browsers; httpx's own jar thinks otherwise.
        self.jar = httpx.Cookies(CookieJar(DefaultCookiePolicy(secure_protocols=("http", "https"))))
        hooks: Any = {"request": [self._add_cookies], "response": [self.jar.extract_cookies]}
        self.client = httpx.Client(timeout=30, trust_env=False, event_hooks=hooks)

    def _add_cookies(self, request: httpx.Request) -> None:
        request.headers.pop("cookie", None)
        self.jar.set_cookie_header(request)

    def close(self) -> None:
        """Close the window."""
        self.client.close()

    def follow(self, response: httpx.Response) -> httpx.Response:
        """Follow redirects until there is a page."""
        while response.is_redirect:
            response = self.client.get(urljoin(str(response.url), response.headers["location"]))
        return response

    def visit(self, address: str) -> httpx.Response:
        """Open an address."""
        return self.follow(self.client.get(address))

    def send(self, page: httpx.Response, **fields: str) -> httpx.Response:
        """Send the form of a page."""
        action = _ACTION.search(page.text)
        assert action is not None, page.text
        hidden = {name: html.unescape(value) for name, value in _FIELD.findall(page.text)}
        target = urljoin(str(page.url), html.unescape(action[1]))
        return self.follow(self.client.post(target, data={**hidden, **fields}))

    def sign_in(self, name: str, user: str | None = None) -> None:
        """Sign in at an application; without a user, the provider must know already who it is."""
        page = self.visit(f"{self.shops.apps[name].origin}{SSO}/login/{OP}")
        if user is not None:
            assert "password" in page.text, "the provider did not ask"
            page = self.send(page, login=user, password="anything")
        assert str(page.url).startswith(self.shops.apps[name].origin), page.text
        assert self.who(name) not in ("nobody", ""), page.text

    def who(self, name: str) -> str:
        """Return who is signed in at an application."""
        page = self.client.get(self.shops.apps[name].origin + "/")
        found = re.search(r"<p id=who>([^<]*)", page.text)
        assert found is not None, page.text
        return html.unescape(found[1])

    def is_in(self, *names: str) -> list[bool]:
        """Tell at which applications somebody is signed in."""
        return [self.who(name) != "nobody" for name in names]

    def knows(self, name: str) -> bool:
        """Tell whether the provider signs this browser in without asking."""
        page = self.visit(f"{self.shops.apps[name].origin}{SSO}/login/{OP}")
        return urlsplit(str(page.url)).hostname != PROVIDER_AT

    def press(self, name: str, **fields: str) -> httpx.Response:
        """Press the button to sign out, and return the page that comes: the provider's, or the application's."""
        return self.follow(self.client.post(f"{self.shops.apps[name].origin}{SSO}/logout", data=fields))


class Shops:
    """Hold the applications and their provider."""

    def __init__(self, apps: dict[str, Application], op: OidcProvider) -> None:
        self.apps, self.op = apps, op
        self._open: list[Browser] = []

    def browser(self) -> Browser:
        """Open a browser without cookies."""
        self._open.append(Browser(self))
        return self._open[-1]

    def close(self) -> None:
        """Close all browsers."""
        for browser in self._open:
            browser.close()


@contextmanager
def applications(addresses: Mapping[str, str], *, without_sid: tuple[str, ...] = ()) -> Iterator[Shops]:
    """Serve applications and their provider; `without_sid` names those that the provider tells no sid."""
    with ExitStack() as stack:
        apps = {name: Application(name) for name in addresses}
        for name, app in apps.items():
            app.origin = stack.enter_context(serving(app.app, addresses[name]))
        registered = {
            name: client(
                name,
                app.origin,
                callback=f"{SSO}/callback/{OP}",
                logged_out=f"{SSO}/logged-out",
                backchannel=f"{SSO}/backchannel/{OP}",
                by_session=name not in without_sid,
            )
            for name, app in apps.items()
        }
        op = stack.enter_context(provider(list(registered.values()), PROVIDER_AT))
        for name, app in apps.items():
            app.know(op.issuer, registered[name])
        shops = Shops(apps, op)
        stack.callback(shops.close)
        yield shops
