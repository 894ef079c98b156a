"""Signing test clients in: a real session, in the application's own store, in every framework's client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessile import AsyncSessions, ConfigurationError, Facts, Policy, Sessions
from sessile.core.requests import no_headers
from sessile.testing import (
    FrozenClock,
    RecordingSink,
    assert_not_cacheable,
    assert_renewed,
    assert_rotated,
    freeze,
    login,
    mint_session,
    session_token,
)
from tests.support.requirements import requirement


def facts(minted: Any) -> Facts:
    """Describe a request that carries the minted cookie."""
    return Facts("GET", "https", "shop.example", "/", "", f"{minted.name}={minted.token}", no_headers)


# -- minting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory://", "sqlite:///{folder}/shop.db"])
def test_a_session_is_minted_through_either_door(tmp_path: Path, store: str) -> None:
    """What is minted is a record in the store and a token that the engine takes."""
    sessions = Sessions(store.format(folder=tmp_path), sinks=())
    minted = mint_session(sessions, 7, factors=["password", "totp"], data={"cart": [1]})
    session = sessions.open(facts(minted))
    assert (session.id, session.user_id, session.aal, session["cart"]) == (minted.id, "7", 2, [1])
    assert [info.id for info in sessions.of_user(7)] == [minted.id]

    asynchronous = AsyncSessions(store.format(folder=tmp_path), sinks=())
    minted = mint_session(asynchronous, "ann")

    async def user() -> str | None:
        return (await asynchronous.open(facts(minted))).user_id

    assert asyncio.run(user()) == "ann"


@pytest.mark.parametrize("store", ["memory://", "sqlite:///{folder}/shop.db"])
def test_a_session_is_minted_where_a_loop_is_running(tmp_path: Path, store: str) -> None:
    """An async test signs in without awaiting."""
    sessions = AsyncSessions(store.format(folder=tmp_path), sinks=())

    async def scenario() -> str | None:
        minted = mint_session(sessions, "ann")
        return (await sessions.open(facts(minted))).user_id

    assert asyncio.run(scenario()) == "ann"


@requirement("R88")
def test_a_pending_session_is_minted_as_one() -> None:
    """A test of the second factor's page begins where the password was right."""
    sessions = Sessions("memory://", sinks=())
    session = sessions.open(facts(mint_session(sessions, "ann", pending=True)))
    assert (session.kind, session.user_id, session.pending_user_id) == ("pending", None, "ann")
    both = sessions.open(facts(mint_session(sessions, "ann", factors=["password", "totp"], pending=True)))
    assert both.kind == "pending"


def test_an_anonymous_session_needs_data() -> None:
    """Nobody without data is not stored, and so cannot be minted."""
    sessions = Sessions("memory://", sinks=())
    session = sessions.open(facts(mint_session(sessions, data={"lang": "de"})))
    assert (session.kind, session["lang"]) == ("anonymous", "de")
    with pytest.raises(ConfigurationError, match="a user or data"):
        mint_session(sessions)


def test_an_application_that_signs_in_by_a_key_is_served_by_that_key() -> None:
    """`data={"user_id": …}` is the sign-in then, and removing the key the sign-out."""
    sessions = Sessions("memory://", sinks=())
    minted = mint_session(sessions, 7, data={"user_id": 7})
    session = sessions.open(facts(minted))
    assert (session.user_id, session["user_id"]) == ("7", 7)
    del session["user_id"]
    sessions.commit(session)
    assert sessions.open(facts(minted)).user_id is None


@pytest.mark.parametrize("attribute", ["get_id", "pk", "id"])
def test_a_user_object_is_taken_by_its_id(attribute: str) -> None:
    """Flask-Login's, Django's and most other users need no unwrapping."""
    user = type("User", (), {attribute: (lambda _self: "7") if attribute == "get_id" else 7})()
    sessions = Sessions("memory://", sinks=())
    assert sessions.open(facts(mint_session(sessions, user))).user_id == "7"


@requirement("R96")
def test_a_minted_session_does_not_show_its_token() -> None:
    """A failing test prints its variables."""
    minted = mint_session(Sessions("memory://", sinks=()), "ann")
    assert minted.token not in repr(minted)
    assert minted.set_cookie not in repr(minted)


def test_a_minted_session_fits_any_client_whatever_the_binding() -> None:
    """Its context is unknown, so the strictest policy does not end it at the first request."""
    sessions = Sessions("memory://", policy=Policy.high_value(), sinks=())
    minted = mint_session(sessions, "ann")
    agent = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}.get
    request = Facts("GET", "https", "h", "/", "192.0.2.7", f"{minted.name}={minted.token}", agent)
    assert sessions.open(request).user_id == "ann"


# -- clients -----------------------------------------------------------------------------------------------------------


class App:
    """Be one framework's application under test, with its client."""

    def __init__(self, client: Any, sessions: Sessions | AsyncSessions, events: RecordingSink) -> None:
        self.client = client
        self.sessions = sessions
        self.events = events

    def get(self, path: str) -> Any:
        return self.client.get(path)

    def post(self, path: str) -> Any:
        return self.client.post(path)

    def json(self, response: Any) -> Any:
        return response.json() if callable(getattr(response, "json", None)) else response.get_json()


def starlette_app() -> App:
    """Make a Starlette application with its test client."""
    pytest.importorskip("starlette")
    pytest.importorskip("httpx2")
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from sessile.adapters.starlette import SessionMiddleware

    events = RecordingSink()
    sessions = AsyncSessions("memory://", sinks=[events])

    async def me(request: Request) -> JSONResponse:
        return JSONResponse({"user": request.session.user_id, "cart": request.session.get("cart")})  # type: ignore[attr-defined]

    async def sign_in(request: Request) -> JSONResponse:
        request.session.login("bob")  # type: ignore[attr-defined]
        return JSONResponse({})

    app = Starlette(routes=[Route("/me", me), Route("/sign-in", sign_in, methods=["POST"])])
    app.add_middleware(SessionMiddleware, sessions=sessions)
    return App(TestClient(app, base_url="https://testserver"), sessions, events)


def httpx_app() -> App:
    """Make a WSGI application with a plain httpx client, whose sessions are found through its transport."""
    httpx = pytest.importorskip("httpx")
    import json

    from sessile.adapters.wsgi import ENVIRON_KEY, SessionMiddleware

    events = RecordingSink()
    sessions = Sessions("memory://", sinks=[events])

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        session = environ[ENVIRON_KEY]
        if environ["REQUEST_METHOD"] == "POST":
            session.login("bob")
        body = json.dumps({"user": session.user_id, "cart": session.get("cart")}).encode()
        start_response("200 OK", [("content-type", "application/json")])
        return [body]

    transport = httpx.WSGITransport(app=SessionMiddleware(application, sessions))
    return App(httpx.Client(transport=transport, base_url="https://shop.example"), sessions, events)


def flask_app() -> App:
    """Make a Flask application with its test client."""
    flask = pytest.importorskip("flask")
    from sessile.adapters.flask import Sessile

    events = RecordingSink()
    app = flask.Flask(__name__)
    extension = Sessile(app, "memory://", sinks=[events])

    @app.get("/me")
    def me() -> Any:
        return {"user": flask.session.user_id, "cart": flask.session.get("cart")}

    @app.post("/sign-in")
    def sign_in() -> Any:
        flask.session.login("bob")
        return {}

    return App(app.test_client(), extension.sessions, events)


APPS = {"starlette": starlette_app, "httpx": httpx_app, "flask": flask_app}


@pytest.fixture(params=APPS)
def app(request: pytest.FixtureRequest) -> App:
    """Make the application of each framework."""
    return APPS[request.param]()


def test_a_client_is_signed_in_through_the_applications_own_store(app: App) -> None:
    """The application sees the user, her data, and the session in her list of devices."""
    assert app.json(app.get("/me"))["user"] is None
    sid = login(app.client, "ann", data={"cart": [1, 2]})
    response = app.get("/me")
    assert app.json(response) == {"user": "ann", "cart": [1, 2]}
    assert_not_cacheable(response)
    listed = app.sessions.of_user("ann")
    found = asyncio.run(listed) if asyncio.iscoroutine(listed) else listed
    assert [info.id for info in found] == [sid]


def test_the_cookie_is_replaced_by_those_that_follow(app: App) -> None:
    """A rotation and a sign-in find the minted cookie and leave one cookie in the jar, not two."""
    with freeze(app.sessions, FrozenClock()) as clock:
        login(app.client, "ann")
        before = session_token(app.client)
        clock.advance(901)
        response = app.get("/me")
        assert_rotated(before, response)
        assert_rotated(before, app.client)
        assert app.json(app.get("/me"))["user"] == "ann"
        before = session_token(app.client)
        assert_renewed(before, app.post("/sign-in"))
        assert app.json(app.get("/me"))["user"] == "bob"
    assert "token-refused" not in app.events.codes
    assert "replay-detected" not in app.events.codes


def test_signing_in_again_replaces_the_user_on_the_client(app: App) -> None:
    """One client may be several people, one after the other."""
    login(app.client, "ann")
    login(app.client, "bob")
    assert app.json(app.get("/me"))["user"] == "bob"


def test_a_client_that_would_never_send_the_cookie_is_named() -> None:
    """A Secure cookie does not travel on plain http: better a sentence than a test that is signed out."""
    httpx = pytest.importorskip("httpx")
    sessions = Sessions("memory://", sinks=())
    with httpx.Client(base_url="http://testserver") as client, pytest.raises(ConfigurationError, match="base_url"):
        login(client, "ann", sessions=sessions)


def test_a_client_without_sessions_is_named() -> None:
    """There is no guess where the session should be stored."""
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url="https://testserver") as client, pytest.raises(ConfigurationError, match="sessions=…"):
        login(client, "ann")
    with pytest.raises(ConfigurationError, match="no test client"):
        login(object(), "ann", sessions=Sessions("memory://", sinks=()))


async def test_an_asynchronous_client_is_signed_in_in_its_loop() -> None:
    """httpx's own client over ASGI, inside a running loop."""
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("starlette")
    app = starlette_app().client.app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://testserver") as client:
        login(client, "ann")
        assert (await client.get("/me")).json()["user"] == "ann"


def test_flask_login_knows_the_user_and_holds_her_for_fresh() -> None:
    """`current_user` and `fresh_login_required` work as after `login_user()`."""
    flask = pytest.importorskip("flask")
    flask_login = pytest.importorskip("flask_login")
    from sessile.adapters.flask import Sessile

    app = flask.Flask(__name__)
    app.secret_key = "extensions want one"
    extension = Sessile(app, "memory://", sinks=())
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):
        def __init__(self, name: str) -> None:
            self.id = name

    manager.user_loader(User)

    @app.get("/me")
    @flask_login.fresh_login_required
    def me() -> Any:
        return {"user": flask_login.current_user.id}

    @app.post("/out")
    def out() -> Any:
        flask_login.logout_user()
        return {}

    client = app.test_client()
    assert client.get("/me").status_code == 401
    login(client, User("ann"))
    assert client.get("/me").get_json() == {"user": "ann"}
    client.post("/out")
    assert client.get("/me").status_code == 401
    assert extension.sessions.of_user("ann") == []


DJANGO = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="for the user's session hash",
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    MIDDLEWARE=[
        "sessile.adapters.django.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    SESSION_ENGINE="sessile.adapters.django",
    SESSILE={"store": "memory://"},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

from django.contrib.auth import get_user_model, logout
from django.core.management import call_command
from django.http import JsonResponse
from django.test import Client
from django.urls import path

from sessile.adapters.django import sessions
from sessile.testing import assert_not_cacheable, assert_rotated, freeze, login, session_token


def me(request):
    return JsonResponse({"user": request.user.get_username(), "cart": request.session.get("cart")})


def out(request):
    logout(request)
    return JsonResponse({})


urlpatterns = [path("me", me), path("out", out)]
call_command("migrate", verbosity=0)
ann = get_user_model().objects.create_user("ann", password="x")
client = Client()
assert client.get("/me").json()["user"] == ""
for user in (ann, ann.pk):
    sid = login(client, user, data={"cart": [1]})
    response = client.get("/me")
    assert response.json() == {"user": "ann", "cart": [1]}, response.json()
    assert_not_cacheable(response)
    assert sid in {info.id for info in sessions().of_user(ann.pk)}
with freeze(sessions()) as clock:
    before = session_token(client)
    clock.advance(901)
    assert_rotated(before, client.get("/me"))
    assert_rotated(before, client)
    assert client.get("/me").json()["user"] == "ann"
client.post("/out")
assert client.get("/me").json()["user"] == ""
assert session_token(client) is None
print("passed")
"""


def test_djangos_client_is_signed_in_for_contrib_auth() -> None:
    """`request.user` is there, by object and by key, and `logout()` ends what was minted."""
    pytest.importorskip("django")
    done = subprocess.run([sys.executable, "-W", "error", "-c", DJANGO], capture_output=True, text=True, check=False)
    assert done.stdout == "passed\n", done.stderr
