"""Applications of one provider, each in a framework and on an address of its own, and browsers that visit them.

    with applications({"a": ("starlette", "127.0.0.2"), "b": ("flask", "127.0.0.3")}) as shops:
        ada = shops.browser()
        ada.sign_in("a", "ada")
        ada.who("a")

Nothing is simulated: the provider is npm oidc-provider, every application has a server, and all of them talk HTTP.
"""

from __future__ import annotations

import html
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx
import uvicorn
import waitress

from sessile import AsyncSessions, Sessions
from sessile.auth.exchange import Ask, Reply
from sessile.auth.ground import Ground
from sessile.auth.oidc.doors import AsyncSignOn, SignOn
from sessile.auth.oidc.providers import Provider
from tests.browser.conftest import _listen
from tests.support import mounting
from tests.support.oidc_provider import OidcProvider, client, provider

OP: Final = "op"
SSO: Final = mounting.PREFIX
HOME: Final = SSO + "/home"
PROVIDER_AT: Final = "127.0.0.9"
PATIENCE: Final = 30.0
_FIELD: Final = re.compile(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"')
_ACTION: Final = re.compile(r'action="([^"]+)"')


class Application:
    """Be one application: the site of a sign-on, and a page that says who is signed in."""

    def __init__(self, name: str, framework: str, listening: socket.socket) -> None:
        self.name, self.framework, self.listening = name, framework, listening
        address, port = listening.getsockname()
        self.origin = f"http://{address}:{port}"
        self.registered = client(
            name,
            self.origin,
            callback=f"{SSO}/callback/{OP}",
            logged_out=f"{SSO}/logged-out",
            backchannel=f"{SSO}/backchannel/{OP}",
        )
        self.blocking = framework in mounting.BLOCKING
        self.events: list[Any] = []
        self.broken: int | None = None
        self.sessions: Any = None
        self.sign_on: Any = None

    def know(self, issuer: str, door: Any) -> Application:
        """Open the sign-on on the sessions of the framework; return this as the site to be mounted."""
        registered = self.registered
        known = Provider(OP, issuer, registered["client_id"], registered["client_secret"], title="The provider")
        self.sessions = door
        kind: Any = SignOn if self.blocking else AsyncSignOn
        self.sign_on = kind(Ground(door, "memory://"), [known], address=self.origin + SSO, home=HOME)
        return self

    async def answer(self, ask: Ask) -> Reply:
        """Answer for the sign-on; say who is signed in, with a button; or be broken."""
        if self.broken is not None and ask.path.startswith("/backchannel/"):
            return Reply(self.broken, ())
        if ask.path != "/home":
            return await self.sign_on.site.answer(ask)  # type: ignore[no-any-return]
        user = ask.session.user_id
        text = f"<!doctype html><title>{self.name}</title><p id=who>{html.escape(user or 'nobody')}</p>"
        form = f'<form method=post action="{SSO}/logout"><button>Sign out</button></form>'
        link = f'<a href="{SSO}/login/{OP}">Sign in</a>'
        return Reply(200, (("content-type", "text/html"),), (text + (form if user else link)).encode())

    @contextmanager
    def serving(self, issuer: str) -> Iterator[None]:
        """Serve it, by the framework and a server that goes with it."""
        if self.framework == "django":
            from tests.support import mounting_django

            made = mounting_django.project(False, lambda door: self.know(issuer, door), "memory://", {})
            with made as (app, _, _), _waitress(app, self.listening):
                yield
        elif self.blocking:
            door: Any = Sessions("memory://", sinks=(self.events.append,))
            with _waitress(mounting._application(self.framework, door, self.know(issuer, door)), self.listening):
                yield
        else:
            door = AsyncSessions("memory://", sinks=(self.events.append,))
            with _uvicorn(mounting._application(self.framework, door, self.know(issuer, door)), self):
                yield
        if self.blocking:
            self.sign_on.close()

    def told(self, code: str) -> list[Any]:
        """Return the events of that code."""
        return [event for event in self.events if event.code == code]


@contextmanager
def _waitress(app: Any, listening: socket.socket) -> Iterator[None]:
    server = waitress.create_server(app, sockets=[listening], threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.close()
        thread.join(PATIENCE)


@contextmanager
def _uvicorn(app: Any, application: Application) -> Iterator[None]:
    async def closing(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await application.sign_on.close()
        await send({"type": "lifespan.shutdown.complete"})

    server = uvicorn.Server(uvicorn.Config(closing, log_level="error", lifespan="on", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [application.listening]}, daemon=True)
    thread.start()
    limit = time.monotonic() + PATIENCE
    while not server.started and thread.is_alive() and time.monotonic() < limit:
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


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
        page = self.client.get(self.shops.apps[name].origin + HOME)
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
def applications(addresses: Mapping[str, tuple[str, str]], *, without_sid: tuple[str, ...] = ()) -> Iterator[Shops]:
    """Serve applications, by framework and address, and their provider; it tells those of `without_sid` no sid."""
    with ExitStack() as stack:
        apps: dict[str, Application] = {}
        for name, (framework, address) in addresses.items():
            listening = stack.enter_context(_listen(address))
            apps[name] = Application(name, framework, listening)
            if name in without_sid:
                apps[name].registered["backchannel_logout_session_required"] = False
        op = stack.enter_context(provider([app.registered for app in apps.values()], PROVIDER_AT))
        for app in apps.values():
            stack.enter_context(app.serving(op.issuer))
        shops = Shops(apps, op)
        stack.callback(shops.close)
        yield shops
