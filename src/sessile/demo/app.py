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

from ..adapters.starlette import SessionMiddleware, requires, session_of
from ..auth.ground import Ground
from ..core.policy import Policy
from ..core.record import EndReason
from ..core.session import Session
from ..core.sessions import AsyncSessions
from ..monitor import LogSink
from ..stores import open_store
from . import attacks, panel
from .catalogue import BY_SKU
from .counting import CountingStore
from .pages import Pages, SecurityHeaders
from .tokens import TokenPages
from .users import Users

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
        self.users = Users(directory / "users.db")
        self.pages = Pages(self.visitors)
        self.ground = Ground(self.sessions, f"sqlite:///{directory / 'accounts.db'}")
        self.tokens = TokenPages(self.ground, self.pages, attack_address, f"http://localhost:{attack_address[1]}")
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

    # -- signing in and out --------------------------------------------------------------------------------------------

    async def sign_in(self, request: Request) -> Response:
        """Sign in; the cart comes along, the old token does not."""
        target = _local(request.query_params.get("next", "/account"))
        if request.method == "GET":
            return self.pages.show(request, "sign_in.html", next=target, reason=request.query_params.get("reason", ""))
        form = await request.form()
        name, password = str(form.get("name", "")).strip().lower(), str(form.get("password", ""))
        if not await self.users.check(name, password):
            wrong = "That name and password do not belong together."
            return self.pages.show(request, "sign_in.html", 401, next=target, name=name, wrong=wrong)
        session_of(request).login(name, factor="password")
        return RedirectResponse(target, 303)

    async def sign_up(self, request: Request) -> Response:
        """Make an account and sign in."""
        if request.method == "GET":
            return self.pages.show(request, "sign_up.html")
        form = await request.form()
        name, password = str(form.get("name", "")).strip().lower(), str(form.get("password", ""))
        wrong = await self.users.add(name, password)
        if wrong is not None:
            return self.pages.show(request, "sign_up.html", 400, name=name, wrong=wrong)
        session_of(request).login(name, factor="password")
        return RedirectResponse("/account", 303)

    async def sign_out(self, request: Request) -> Response:
        """Sign out, here or everywhere."""
        form = await request.form()
        session_of(request).logout(everywhere=form.get("where") == "everywhere")
        return RedirectResponse("/?signed-out", 303)

    # -- what needs a user ---------------------------------------------------------------------------------------------

    @requires()
    async def account(self, request: Request) -> Response:
        """Show the private page."""
        return self.pages.show(request, "account.html")

    @requires(factor="password", max_age=60)
    async def vault(self, request: Request) -> Response:
        """Show the page that asks for the password again after a minute."""
        return self.pages.show(request, "vault.html")

    async def step_up(self, request: Request) -> Response:
        """Ask for the password again; the answer renews the token and the absolute timeout."""
        user = session_of(request).require()
        target = _local(request.query_params.get("next", "/vault"))
        if request.method == "GET":
            return self.pages.show(request, "step_up.html", next=target)
        if not await self.users.check(user, str((await request.form()).get("password", ""))):
            return self.pages.show(request, "step_up.html", 401, next=target, wrong="That is not your password.")
        session_of(request).add_factor("password")
        return RedirectResponse(target, 303)

    async def devices(self, request: Request) -> Response:
        """List the user's sessions."""
        session = session_of(request)
        listed = await self.sessions.of_user(session.require(), current=session)
        return self.pages.show(request, "devices.html", devices=listed)

    async def end_device(self, request: Request) -> Response:
        """End one of the user's sessions, and nobody else's."""
        user = session_of(request).require()
        await self.sessions.end(str((await request.form()).get("id", "")), user=user, reason=EndReason.USER)
        return RedirectResponse("/devices", 303)

    async def end_others(self, request: Request) -> Response:
        """End all of the user's sessions but this one."""
        await self.sessions.end_all(session_of(request).require(), keep=session_of(request))
        return RedirectResponse("/devices", 303)

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


def _local(target: str) -> str:
    """Return the target if it is a path of this very site, else the start page."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain and "\\" not in target else "/"


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
        yield
        await demo.ground.close()
        await demo.sessions.close()

    both = ["GET", "POST"]
    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", demo.home),
            Route("/cart", demo.add_to_cart, methods=["POST"]),
            Route("/cart/empty", demo.empty_cart, methods=["POST"]),
            Route("/sign-in", demo.sign_in, methods=both),
            Route("/sign-up", demo.sign_up, methods=both),
            Route("/sign-out", demo.sign_out, methods=["POST"]),
            Route("/account", demo.account),
            Route("/vault", demo.vault),
            Route("/step-up", demo.step_up, methods=both),
            Route("/devices", demo.devices),
            Route("/devices/end", demo.end_device, methods=["POST"]),
            Route("/devices/end-others", demo.end_others, methods=["POST"]),
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
                login_url="/sign-in",
                step_up_url="/step-up",
                after_logout="/?signed-out",
            ),
            Middleware(_Held, visitors=demo.visitors),
        ],
    )
    app.state.demo = demo
    return app
