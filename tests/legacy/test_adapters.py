"""An application changes over, adapter by adapter: its users come with old cookies, and stay signed in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import flask
import flask_login
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from sessile import AsyncSessions, Sessions
from sessile.adapters.asgi import SessionMiddleware as AsgiMiddleware
from sessile.adapters.flask import Sessile
from sessile.adapters.starlette import SessionMiddleware
from sessile.adapters.wsgi import SessionMiddleware as WsgiMiddleware
from sessile.core.events import Event
from sessile.legacy import DjangoDatabase, FlaskCookie
from tests.adapters.asgi_client import Client, call, make_scope
from tests.adapters.wsgi_client import make_environ
from tests.legacy import peers
from tests.legacy.peers import HTTPS, SECRET, UNTIL, DjangoCookiePeer, DjangoDatabasePeer, ExpressPeer, StarlettePeer
from tests.support import django_project
from tests.support.requirements import requirement

django_project.configure()

from django.contrib.auth.models import User  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.test import Client as DjangoClient  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

COOKIE = "__Host-id"
# Flask-Login 0.6 still calls datetime.utcnow(), which Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


def names_of(lines: list[str]) -> dict[str, bool]:
    """Return which cookies were set, and whether they were deleted."""
    return {line.partition("=")[0]: "Max-Age=0" in line for line in lines}


class TestStarlette:
    """ASGI, through Starlette and bare."""

    def application(self, **options: Any) -> Any:
        """Return an application with a page and a socket."""

        async def who(request: Request) -> JSONResponse:
            return JSONResponse({"user": request.session.user_id, "cart": request.session.get("cart")})

        async def leave(request: Request) -> JSONResponse:
            request.session.logout()
            return JSONResponse({})

        async def fail(request: Request) -> JSONResponse:
            raise RuntimeError(request.session.user_id)

        async def talk(socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_json(socket.session.user_id)
            await socket.close()

        routes = [
            Route("/", who),
            Route("/leave", leave, methods=["POST"]),
            Route("/fail", fail),
            WebSocketRoute("/talk", talk),
        ]
        app = Starlette(routes=routes)
        app.add_middleware(SessionMiddleware, sessions=AsyncSessions("memory://", sinks=(), **options))
        return app

    @requirement("R19")
    def test_a_user_of_the_old_middleware_stays_signed_in(self) -> None:
        """A real jar of cookies: the old one goes, ours comes, and nothing of it may be cached."""
        old = StarlettePeer()
        name, _, value = old.write({"user_id": "ada", "cart": ["tea"]}).partition("=")
        with TestClient(self.application(legacy=[old.bridge()]), base_url=HTTPS) as client:
            client.cookies.set(name, value, domain="app.example")
            answer = client.get("/")
            assert answer.json() == {"user": "ada", "cart": ["tea"]}
            assert names_of(answer.headers.get_list("set-cookie")) == {COOKIE: False, "session": True}
            assert answer.headers["cache-control"] == "no-store"
            assert [one.name for one in client.cookies.jar] == [COOKIE]
            assert client.get("/").json()["user"] == "ada"
            client.post("/leave", headers={"sec-fetch-site": "same-origin"})
            assert client.get("/", headers={"cookie": f"{name}={value}"}).json()["user"] is None

    def test_a_view_that_fails_logs_nobody_out(self) -> None:
        """Its response told no cookie; the next request has the session nevertheless."""
        old = StarlettePeer()
        cookie = old.write({"user_id": "ada"})
        with TestClient(
            self.application(legacy=[old.bridge()]), base_url=HTTPS, raise_server_exceptions=False
        ) as client:
            assert client.get("/fail", headers={"cookie": cookie}).status_code == 500
            answer = client.get("/", headers={"cookie": cookie})
            assert answer.json()["user"] == "ada"
            assert names_of(answer.headers.get_list("set-cookie"))[COOKIE] is False

    def test_a_handshake_may_be_the_first_request(self) -> None:
        """A page that was open before the change opens its socket again."""
        old = StarlettePeer()
        cookie = old.write({"user_id": "ada"})
        app = self.application(legacy=[old.bridge()])
        with (
            TestClient(app, base_url=HTTPS) as client,
            client.websocket_connect("wss://app.example/talk", headers={"cookie": cookie, "origin": HTTPS}) as socket,
        ):
            assert socket.receive_json() == "ada"
            lines = [value.decode() for name, value in socket.extra_headers or () if name == b"set-cookie"]
        assert names_of(lines) == {COOKIE: False, "session": True}

    @requirement("R45")
    def test_an_old_store_that_is_down_is_answered_with_503(self) -> None:
        """The application is never called."""
        cookie = "session=" + "a" * 32
        app = self.application(legacy=[peers.StarsessionsRedisPeer().unreachable()])
        with TestClient(app, base_url=HTTPS) as client:
            assert client.get("/", headers={"cookie": cookie}).status_code == 503

    async def test_bare_asgi_adopts_what_node_wrote(self, express: ExpressPeer) -> None:
        """An application that leaves Node behind."""

        async def who(scope: Any, _receive: Any, send: Any) -> None:
            body = str(scope["session"].user_id).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

        sessions = AsyncSessions("memory://", sinks=(), legacy=[express.bridge()])
        app = AsgiMiddleware(who, sessions)
        cookie = await asyncio.to_thread(express.write, {"passport": {"user": "ada"}})
        got = await call(app, make_scope(headers=[("cookie", cookie)]))
        assert got.body == b"ada"
        assert names_of(got.all("set-cookie")) == {COOKIE: False, "connect.sid": True}
        client = Client(app)
        client.token = next(
            line.partition(";")[0].partition("=")[2] for line in got.all("set-cookie") if COOKIE in line
        )
        assert (await client.request()).body == b"ada"
        assert await asyncio.to_thread(express.read, cookie) == {}
        await sessions.close()


class TestFlask:
    """Flask with Flask-Login, and bare WSGI."""

    def application(self, **legacy: Any) -> flask.Flask:
        """Return an application as Flask-Login's documentation writes it."""
        app = flask.Flask(__name__)
        app.secret_key = SECRET
        manager = flask_login.LoginManager(app)

        @manager.user_loader
        def load(name: str) -> Any:
            user = flask_login.UserMixin()
            user.id = name
            return user

        @app.get("/in/<name>")
        def sign_in(name: str) -> str:
            flask_login.login_user(load(name))
            flask.session["cart"] = ("tea", 2)
            return "in"

        @app.get("/")
        def who() -> dict[str, Any]:
            user = flask_login.current_user
            return {"user": getattr(user, "id", None), "cart": flask.session.get("cart")}

        @app.get("/fresh")
        @flask_login.fresh_login_required
        def fresh() -> str:
            return "fresh"

        @app.post("/out")
        def sign_out() -> str:
            flask_login.logout_user()
            return "out"

        if legacy:
            Sessile(app, "memory://", sinks=(), **legacy)
        return app

    def test_a_user_of_flask_login_stays_signed_in(self) -> None:
        """By Flask's own cookie and back out again; a page for fresh sign-ins asks once more."""
        before = self.application().test_client()
        before.get("/in/ada", base_url=HTTPS)
        cookie = before.get_cookie("session", domain="app.example")
        assert cookie is not None
        assert before.get("/fresh", base_url=HTTPS).status_code == 200
        after = self.application(legacy=[FlaskCookie(secret_key=SECRET, until=UNTIL)]).test_client()
        after.set_cookie("session", cookie.value, domain="app.example", secure=True)
        answer = after.get("/", base_url=HTTPS)
        assert answer.get_json() == {"user": "ada", "cart": ["tea", 2]}
        assert names_of(answer.headers.getlist("Set-Cookie")) == {COOKIE: False, "session": True}
        assert after.get_cookie("session", domain="app.example") is None
        assert after.get("/", base_url=HTTPS).get_json()["user"] == "ada"
        assert after.get("/fresh", base_url=HTTPS).status_code == 401
        after.post("/out", base_url=HTTPS, headers={"Sec-Fetch-Site": "same-origin"})
        after.set_cookie("session", cookie.value, domain="app.example", secure=True)
        assert after.get("/", base_url=HTTPS).get_json()["user"] is None

    def test_bare_wsgi_adopts_what_flask_session_wrote(self) -> None:
        """One middleware line, for any framework."""
        old = peers.FlaskSessionPeer()
        cookie = old.write({"_user_id": "ada"})

        def who(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [str(environ["sessile.session"].user_id).encode()]

        sessions = Sessions("memory://", sinks=(), legacy=[old.bridge()])
        headers: list[tuple[str, str]] = []

        def start(_status: str, sent: list[tuple[str, str]], _exc_info: Any = None) -> Any:
            headers.extend(sent)

        assert b"".join(WsgiMiddleware(who, sessions)(make_environ(cookie=cookie), start)) == b"ada"
        assert names_of([value for name, value in headers if name == "set-cookie"]) == {COOKIE: False, "session": True}
        sessions.close()


class TestDjango:
    """A Django project changes its SESSION_ENGINE, and keeps its users."""

    @pytest.fixture(params=[DjangoDatabasePeer, DjangoCookiePeer], ids=["db", "signed_cookies"], name="old")
    def fixture_old(self, request: pytest.FixtureRequest) -> Iterator[Any]:
        """Return the old project, with Ada in it."""
        User.objects.all().delete()
        User.objects.create_user("ada", password="engine", pk=1)
        with override_settings(SECRET_KEY=SECRET):
            yield request.param()
        from sessile.adapters.django import sessions

        sessions().close()
        connections.close_all()

    def change_over(self, old: Any, **options: Any) -> list[Event]:
        """Let the project use Sessile, with a bridge to what it had."""
        events: list[Event] = []
        bridge = (
            DjangoDatabase("django:default", secret_key=SECRET, until=UNTIL)
            if isinstance(old, DjangoDatabasePeer)
            else old.bridge()
        )
        django_project.use(store="memory://", sinks=(events.append,), legacy=[bridge], **options)
        return events

    def test_a_user_of_contrib_auth_stays_signed_in(self, old: Any) -> None:
        """`request.user` is who it was; signing out by contrib.auth ends it, and the old cookie with it."""
        cookie = old.write({"_auth_user_id": "1", "visits": 4})
        events = self.change_over(old)
        client = DjangoClient()
        client.cookies["sessionid"] = cookie.partition("=")[2]
        answer = client.get("/", secure=True)
        assert (answer.json()["user"], answer.json()["visits"]) == ("ada", 5)
        assert answer.cookies["sessionid"]["max-age"] == "0"
        assert answer.cookies[COOKIE].value
        assert answer["Cache-Control"] == "no-store"
        assert [event.code for event in events] == ["session-adopted"]
        assert client.get("/", secure=True).json()["visits"] == 6
        client.post("/sign-out", secure=True)
        assert DjangoClient(headers={"cookie": cookie}).get("/", secure=True).json()["user"] == "AnonymousUser"

    def test_a_view_that_saves_in_its_midst_keeps_the_adopted_session(self, old: Any) -> None:
        """As some packages do, to get a key."""
        cookie = old.write({"_auth_user_id": "1"})
        self.change_over(old)
        answer = DjangoClient(headers={"cookie": cookie}).get("/save", secure=True)
        assert answer.status_code == 200
        ours = f"{COOKIE}={answer.cookies[COOKIE].value}"
        assert answer.cookies["sessionid"]["max-age"] == "0"
        assert DjangoClient(headers={"cookie": ours}).get("/", secure=True).json()["user"] == "ada"

    def test_a_session_of_before_a_change_of_password_is_nobodys(self, old: Any) -> None:
        """contrib.auth compares its hash, as it always did."""
        cookie = old.write({"_auth_user_id": "1"})
        user = User.objects.get(pk=1)
        user.set_password("another")
        user.save()
        self.change_over(old)
        assert DjangoClient(headers={"cookie": cookie}).get("/", secure=True).json()["user"] == "AnonymousUser"

    async def test_an_async_view_finds_the_user_too(self, old: Any) -> None:
        """Through the asynchronous door, which shares the bridge's description and opens its own."""

        def before() -> str:
            written: str = old.write({"_auth_user_id": "1", "visits": 4})
            self.change_over(old)
            connections.close_all()
            return written

        cookie = await asyncio.to_thread(before)
        client = AsyncClient()
        client.cookies["sessionid"] = cookie.partition("=")[2]
        answer = await client.get("/async", secure=True)
        assert answer.json() == {"visits": 5, "user": "ada"}
        assert answer.cookies[COOKIE].value
