"""The demo's pages and what they do with the session: read this to see how little an application needs to do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..adapters.sites import asgi
from ..adapters.starlette import SessionMiddleware, requires, session_of
from ..auth.accounts import AsyncAccounts
from ..auth.ground import Ground
from ..auth.pages import AccountPages
from ..auth.vaults import open_vault
from ..core.policy import Policy
from ..core.session import Session
from ..core.sessions import AsyncSessions
from ..monitor import LogSink
from ..stores import open_store
from . import attacks, panel
from .catalogue import BY_SKU
from .counting import CountingStore
from .pages import Pages, SecurityHeaders
from .tokens import TokenPages
from .users import Users, seed

# Short enough to watch. The defaults are 15 minutes, 30 s, an hour, a day.
POLICY: Final = Policy(name="demo", rotation=20, grace=5, idle=600, absolute=4 * 3600, touch=5, clock_skew=1)
_HERE: Final = Path(__file__).parent


class Demo:
    """Hold the demo's parts, and answer its routes."""

    def __init__(self, directory: Path, attack_address: tuple[str, int]) -> None:
        self.visitors = panel.Visitors()
        self.store = CountingStore(open_store(f"sqlite:///{directory / 'sessions.db'}", blocking=False))
        store: Any = self.store
        self.sessions = AsyncSessions(store, policy=POLICY, sinks=(self.visitors, LogSink()))
        self.pages = Pages(self.visitors)
        origin = f"http://localhost:{attack_address[1]}"
        vault = open_vault(f"sqlite:///{directory / 'accounts.db'}", blocking=False)
        self.users = Users(Ground(self.sessions, vault))
        self.accounts = AsyncAccounts(self.sessions, vault, name="Sessile demo", origin=origin, users=self.users)
        self.account_pages = AccountPages(self.accounts, home="/account/", templates=_HERE / "templates" / "account")
        self.tokens = TokenPages(self.accounts.ground, self.pages, attack_address, origin)
        self._address = attack_address

    # -- the shop ------------------------------------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        """Show the shop."""
        return self.pages.show(request, "home.html")

    async def add_to_cart(self, request: Request) -> Response:
        """Put something into the cart; a nested change needs no `modified = True`."""
        sku = str((await request.form()).get("sku", ""))
        if sku in BY_SKU:
            cart: dict[str, int] = session_of(request).setdefault("cart", {})
            cart[sku] = min(cart.get(sku, 0) + 1, 99)
        return RedirectResponse("/#goods", 303)

    async def empty_cart(self, request: Request) -> Response:
        """Empty the cart."""
        session_of(request).pop("cart", None)
        return RedirectResponse("/", 303)

    # -- signing out ---------------------------------------------------------------------------------------------------

    async def sign_out(self, request: Request) -> Response:
        """Sign out."""
        session_of(request).logout()
        return RedirectResponse("/?signed-out", 303)

    # -- what needs a user ---------------------------------------------------------------------------------------------

    @requires(max_age=60)
    async def vault(self, request: Request) -> Response:
        """Show the page that asks for a proof again after a minute."""
        return self.pages.show(request, "vault.html")

    # -- the panel and the attacks -------------------------------------------------------------------------------------

    async def whoami(self, request: Request) -> Response:
        """Say who the shop thinks this is."""
        return JSONResponse({"user": session_of(request).user_id})

    async def show_panel(self, request: Request) -> Response:
        """Return the session's state and the visitor's new events."""
        since = request.query_params.get("since", "0")
        number = int(since) if since.isascii() and since.isdigit() and len(since) < 12 else 0
        events = self.visitors.since(request.scope["visitor"], number)
        return JSONResponse({"state": panel.state(session_of(request), POLICY), "events": events})

    async def show_attacks(self, request: Request) -> Response:
        """Show the page of attacks."""
        return self.pages.show(request, "attacks.html", attacks=attacks.ATTACKS)

    async def attack(self, request: Request) -> Response:
        """Run an attack against this server, and tell it step by step."""
        found = attacks.BY_NAME.get(request.path_params["name"])
        if found is None:
            return JSONResponse({"error": "no such attack"}, 404)
        ground = attacks.Ground(self._address, self.sessions, lambda: self.store.calls, request.scope["visitor"])

        async def told() -> AsyncIterator[bytes]:
            try:
                async for step in found.run(ground):
                    yield step.line()
            except OSError:
                yield attacks.Step("verdict", "The attacker could not reach the shop.", good=False).line()

        return StreamingResponse(told(), media_type="application/x-ndjson", headers={"cache-control": "no-store"})


class _Held:
    """Remember which visitor holds which session; inside the session middleware, so that ids are known."""

    def __init__(self, app: Any, *, visitors: panel.Visitors) -> None:
        self._app = app
        self._visitors = visitors

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        session = scope.get("session")
        if isinstance(session, Session):
            self._visitors.held(scope.get("visitor", ""), session.id)
        await self._app(scope, receive, send)
        if isinstance(session, Session):
            self._visitors.held(scope.get("visitor", ""), session.id)


def application(directory: Path, *, attack_address: tuple[str, int]) -> Starlette:
    """Return the demo's application; its databases live in `directory`."""
    demo = Demo(directory, attack_address)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        await seed(demo.accounts, demo.users)
        yield
        await demo.accounts.close()
        await demo.sessions.close()

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", demo.home),
            Route("/cart", demo.add_to_cart, methods=["POST"]),
            Route("/cart/empty", demo.empty_cart, methods=["POST"]),
            Route("/sign-out", demo.sign_out, methods=["POST"]),
            Mount("/account", asgi(demo.account_pages)),
            Route("/vault", demo.vault),
            *demo.tokens.routes(),
            Route("/whoami", demo.whoami),
            Route("/panel", demo.show_panel),
            Route("/attacks", demo.show_attacks),
            Route("/attacks/{name}", demo.attack, methods=["POST"]),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(panel.VisitorMiddleware),
            Middleware(
                SessionMiddleware,
                sessions=demo.sessions,
                login_url="/account/sign-in",
                step_up_url="/account/step-up",
                after_logout="/?signed-out",
            ),
            Middleware(_Held, visitors=demo.visitors),
        ],
    )
    app.state.demo = demo
    return app
