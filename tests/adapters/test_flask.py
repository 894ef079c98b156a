"""Flask: all that is documented of `flask.session`, what Sessile adds, and what an attacker or an outage finds."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any, cast

import flask
import pytest
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect, FlaskForm
from markupsafe import Markup
from werkzeug.test import TestResponse
from wtforms import StringField

from sessile import AsyncSessions, ConfigurationError, CookieRules, KeyRing, Policy, Sessions, StepUpRequired
from sessile.adapters import replies
from sessile.adapters.flask import FlaskSession, Sessile, current_sessions, requires
from sessile.adapters.wsgi import SessionMiddleware
from sessile.core.keys import generate
from sessile.errors import SessionClosed, StoreError, StoreUnavailable, TooManySessions, ValueUnsupported
from sessile.stores import open_store
from tests.adapters.wsgi_client import COOKIE, World, call, make_environ, make_world
from tests.support.requirements import requirement


def mine() -> FlaskSession:
    """Return `flask.session` under its own type."""
    return cast("FlaskSession", flask.session)


@pytest.fixture(name="world")
def fixture_world() -> World:
    """Return sessions on a store that can fail."""
    return make_world()


@pytest.fixture(name="app")
def fixture_app(world: World) -> flask.Flask:
    """Return an application with sessions and no SECRET_KEY."""
    return make_app(world)


def make_app(world: World, **options: Any) -> flask.Flask:
    """Return an application with a few views."""
    app = flask.Flask(__name__)
    app.testing = True
    Sessile(app, sessions=world.sessions, **options)

    @app.post("/set")
    def set_value() -> str:
        flask.session["value"] = flask.request.form["value"]
        return "value set"

    @app.get("/get")
    def get_value() -> str:
        return str(flask.session.get("value", "None"))

    @app.route("/login/<user>", methods=["GET", "POST"])
    def login(user: str) -> str:
        mine().login(user)
        return "in"

    @app.route("/logout")
    def logout() -> str:
        mine().logout()
        return "out"

    @app.get("/who")
    def who() -> str:
        return str(mine().user_id)

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    return app


def token(client: FlaskClient) -> str | None:
    """Return the token that the client holds."""
    cookie = client.get_cookie(COOKIE)
    return cookie.value if cookie else None


def carry(client: FlaskClient, value: str | None) -> FlaskClient:
    """Give the client a token."""
    client.set_cookie(COOKIE, str(value))
    return client


# -- what Flask documents ----------------------------------------------------------------------------------------------


def test_a_session_says_whether_it_was_looked_at_changed_and_new(app: flask.Flask) -> None:
    """`accessed`, `modified` and `new` tell the truth at every moment."""
    seen: list[tuple[bool, bool, bool]] = []

    @app.before_request
    def before() -> None:
        session = flask.request.environ["sessile.session"]
        seen.append((session.accessed, session.modified, session.new))

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        session = flask.request.environ["sessile.session"]
        seen.append((session.accessed, session.modified, session.new))
        return response

    client = app.test_client()
    assert client.post("/set", data={"value": "42"}).text == "value set"
    assert client.get("/get").text == "42"
    client.get("/plain")
    client.get("/login/ada")
    assert seen == [
        *[(False, False, True), (True, True, True)],
        *[(False, False, False), (True, False, False)],
        *[(False, False, False), (False, False, False)],
        *[(False, False, False), (True, True, False)],
    ]


def test_a_nested_change_is_noticed_without_any_flag(app: flask.Flask) -> None:
    """Flask asks for `session.modified = True`; forgetting it costs nothing here, setting it does no harm."""

    @app.get("/append")
    def append() -> str:
        before = mine().modified
        flask.session.setdefault("cart", []).append("book")
        flask.session.modified = flask.session.modified
        return f"{before} {flask.session.modified} {len(flask.session['cart'])}"

    @app.get("/look")
    def look() -> str:
        return f"{len(flask.session['cart'])} {flask.session.modified}"

    client = app.test_client()
    assert [client.get("/append").text for _ in range(3)] == ["False True 1", "False True 2", "False True 3"]
    assert client.get("/look").text == "3 False"


def test_a_session_with_a_value_that_cannot_be_stored_counts_as_changed(app: flask.Flask) -> None:
    """`modified` never raises; the commit does."""
    with app.test_request_context():
        flask.session["bad"] = object()
        assert flask.session.modified


def test_values_come_back_as_the_types_that_flask_promises(app: flask.Flask) -> None:
    """Tuples, bytes, markup, UUIDs, dates and what is nested in them."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    values: dict[str, Any] = {
        "t": (1, 2, 3),
        "b": b"\xff",
        "m": Markup("<b>safe</b>"),
        "u": uuid.uuid4(),
        "d": now,
        "di": {" t": "a dict that looks like a tag"},
        "list": [(1, (b"x", Markup("&"))), {"when": now}],
        "none": None,
    }

    @app.get("/dump")
    def dump() -> str:
        flask.session.update(values)
        return ""

    @app.get("/load")
    def load() -> str:
        assert dict(flask.session) == values
        assert {key: type(value) for key, value in flask.session.items()} == {k: type(v) for k, v in values.items()}
        assert isinstance(flask.session["list"][0][1][1], Markup)
        return ""

    client = app.test_client()
    assert client.get("/dump").status_code == 200
    assert client.get("/load").status_code == 200


def test_what_an_after_request_function_writes_is_stored(app: flask.Flask) -> None:
    """The session is saved last."""

    @app.after_request
    def modify(response: flask.Response) -> flask.Response:
        flask.session["value"] = "late"
        return response

    client = app.test_client()
    client.get("/plain")
    assert client.get("/get").text == "late"


@requirement("R19")
def test_vary_says_cookie_whenever_the_session_was_looked_at_and_only_then(app: flask.Flask) -> None:
    """Reading, testing, changing, clearing: each is a look; headers of the application are kept."""
    looks: dict[str, Any] = {
        "/getitem": lambda: flask.session.get("value"),
        "/contains": lambda: "value" in flask.session,
        "/length": lambda: len(flask.session),
        "/iterate": lambda: list(flask.session),
        "/setdefault": lambda: flask.session.setdefault("value", "x"),
        "/clear": lambda: (flask.session.clear(), None),
        "/user": lambda: mine().user_id,
    }

    @app.get("/look/<name>")
    def look(name: str) -> flask.Response:
        looks[f"/{name}"]()
        response = flask.Response()
        response.vary.update(("Accept-Encoding", "Accept-Language"))
        return response

    client = app.test_client()
    for path in looks:
        assert client.get(f"/look{path}").headers.getlist("Vary") == ["Accept-Encoding, Accept-Language, Cookie"]
    assert "Vary" not in client.get("/plain").headers


@requirement("R19")
def test_a_response_that_read_a_session_is_not_cacheable(app: flask.Flask) -> None:
    """What Flask leaves to the application is decided here."""

    @app.get("/public")
    def public() -> flask.Response:
        response = flask.Response(str(flask.session.get("value")))
        response.cache_control.public = True
        return response

    @app.get("/private")
    def private() -> flask.Response:
        response = flask.Response(str(flask.session.get("value")))
        response.cache_control.private = True
        return response

    client = app.test_client()
    assert client.get("/public").headers["Cache-Control"] == "public"
    client.post("/set", data={"value": "42"})
    assert client.get("/public").headers.getlist("Cache-Control") == ["no-store"]
    assert client.get("/private").headers["Cache-Control"] == "private"


@requirement("R27")
def test_a_session_sets_no_cookie_unless_it_begins_signs_in_or_rotates(world: World, app: flask.Flask) -> None:
    """Reading and changing a stored session needs no header; nobody's session needs neither header nor store."""
    client = app.test_client()
    assert "Set-Cookie" not in client.get("/get").headers
    assert world.store.calls == []
    assert "Set-Cookie" in client.post("/set", data={"value": "1"}).headers
    assert "Set-Cookie" not in client.post("/set", data={"value": "2"}).headers
    assert "Set-Cookie" not in client.get("/get").headers


def test_emptying_a_session_deletes_its_cookie(app: flask.Flask) -> None:
    """`clear()` ends the session, as Flask's deletes the cookie."""

    @app.get("/clear")
    def clear() -> str:
        flask.session.clear()
        return ""

    client = app.test_client()
    client.post("/set", data={"value": "1"})
    kept = token(client)
    client.get("/clear")
    assert token(client) is None
    assert carry(app.test_client(), kept).get("/get").text == "None"


def test_permanent_is_kept_and_alone_not_worth_a_record(world: World, app: flask.Flask) -> None:
    """Applications that mark every session permanent do not fill the store with visitors."""

    @app.before_request
    def mark() -> None:
        flask.session.permanent = True

    @app.get("/permanent")
    def permanent() -> str:
        return str(flask.session.permanent)

    client = app.test_client()
    assert client.get("/permanent").text == "True"
    assert (token(client), world.store.calls) == (None, [])
    client.post("/set", data={"value": "1"})
    assert token(client)
    with client.session_transaction() as session:
        assert session.permanent is True
        assert session["_permanent"] is True


def test_the_cookie_is_persistent_where_the_rules_say_so() -> None:
    """The life of the cookie is stated once, for all sessions, and the interface tells it."""
    world = make_world(cookie=CookieRules(max_age=3600, samesite="Strict"))
    app = make_app(world)
    line = app.test_client().post("/set", data={"value": "1"}).headers["Set-Cookie"]
    assert line.endswith("; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=3600")
    interface = app.session_interface
    with app.test_request_context():
        expires = interface.get_expiration_time(app, flask.session)
    assert expires is not None
    assert 3500 < (expires - dt.datetime.now(dt.UTC)).total_seconds() <= 3600


def test_the_interface_tells_extensions_about_the_cookie(app: flask.Flask) -> None:
    """The documented methods answer for the cookie that is set."""
    interface = app.session_interface
    with app.test_request_context():
        assert interface.get_expiration_time(app, flask.session) is None
        assert interface.should_set_cookie(app, flask.session) is False
    told = (
        interface.get_cookie_name(app),
        interface.get_cookie_domain(app),
        interface.get_cookie_path(app),
        interface.get_cookie_secure(app),
        interface.get_cookie_httponly(app),
        interface.get_cookie_samesite(app),
        interface.get_cookie_partitioned(app),
        interface.pickle_based,
    )
    assert told == (COOKIE, None, "/", True, True, "Lax", False, False)


def test_flashed_messages_are_shown_once_with_their_categories(app: flask.Flask) -> None:
    """`flash()` works as ever, across a redirect."""

    @app.get("/flash")
    def flash() -> Any:
        flask.flash("saved")
        flask.flash(Markup("<em>careful</em>"), "warning")
        return flask.redirect("/show")

    @app.get("/show")
    def show() -> str:
        return repr(flask.get_flashed_messages(with_categories=True))

    client = app.test_client()
    shown = client.get("/flash", follow_redirects=True).text
    assert shown == "[('message', 'saved'), ('warning', Markup('<em>careful</em>'))]"
    assert client.get("/show").text == "[]"


def test_no_secret_key_is_needed_and_keys_are_replaced_without_signing_anybody_out() -> None:
    """What `SECRET_KEY_FALLBACKS` is for Flask's cookie, the key ring is here."""
    store, old, new = open_store("memory://", blocking=True), generate(0), generate(1)

    def serve(keys: str) -> FlaskClient:
        app = make_app(World(cast("Any", store), Sessions(store, keys=keys, sinks=()), []))
        assert app.secret_key is None
        return app.test_client()

    before = serve(old)
    before.get("/login/ada")
    assert carry(serve(f"{new} {old}"), token(before)).get("/who").text == "ada"
    assert carry(serve(new), token(before)).get("/who").text == "None"
    assert KeyRing.parse(f"{new} {old}").newest == 1


def test_a_session_is_readable_in_error_handlers_and_teardown_and_stored_with_error_pages(app: flask.Flask) -> None:
    """Flask saves the session with every response, a 404 and a 500 included."""
    torn: list[object] = []

    @app.errorhandler(404)
    def missing(_error: Exception) -> tuple[str, int]:
        flask.session["missed"] = flask.session.get("missed", 0) + 1
        return f"missed {flask.session['missed']}", 404

    @app.errorhandler(500)
    def broken(_error: Exception) -> tuple[str, int]:
        flask.session["value"] = "after the crash"
        return "sorry", 500

    @app.get("/crash")
    def crash() -> str:
        raise ZeroDivisionError

    @app.teardown_request
    def teardown(_error: BaseException | None) -> None:
        torn.append(flask.session.get("missed"))

    app.config["PROPAGATE_EXCEPTIONS"] = False
    client = app.test_client()
    assert [client.get("/nowhere").text for _ in range(2)] == ["missed 1", "missed 2"]
    assert client.get("/crash").text == "sorry"
    assert client.get("/get").text == "after the crash"
    assert torn == [1, 2, 2, 2]


def test_blueprints_signals_and_url_converters_see_the_session(app: flask.Flask) -> None:
    """It is there from the moment that the context is pushed, and complete when the request is finished."""
    from werkzeug.routing import BaseConverter

    class Stored(BaseConverter):
        def to_python(self, value: str) -> str:
            return f"{value}={flask.session.get(value)}"

    finished: list[bool] = []

    def note(_app: flask.Flask, response: flask.Response, **_said: object) -> None:
        finished.append("Set-Cookie" in response.headers)

    app.url_map.converters["stored"] = Stored
    blueprint = flask.Blueprint("shop", __name__, url_prefix="/shop")

    @blueprint.before_request
    def count() -> None:
        flask.session["visits"] = flask.session.get("visits", 0) + 1

    @blueprint.get("/<stored:what>")
    def show(what: str) -> str:
        return what

    app.register_blueprint(blueprint)
    client = app.test_client()
    with flask.request_finished.connected_to(note, app):
        assert client.get("/shop/visits").text == "visits=None"
        assert client.get("/shop/visits").text == "visits=1"
    assert finished == [True, False]


def test_a_stream_with_context_reads_the_session_and_cannot_change_it(app: flask.Flask) -> None:
    """Flask loses such a change in silence; here it is an error."""

    @app.get("/stream")
    def stream() -> flask.Response:
        flask.session["value"] = "streamed"

        @flask.stream_with_context
        def chunks() -> Iterator[str]:
            yield flask.session["value"]

        return flask.Response(chunks())

    @app.get("/late")
    def late() -> flask.Response:
        def chunks() -> Iterator[str]:
            yield "first"
            flask.session["value"] = "late"

        return flask.Response(flask.stream_with_context(chunks()))

    client = app.test_client()
    assert client.get("/stream").text == "streamed"
    with pytest.raises(SessionClosed):
        client.get("/late", buffered=True)
    assert client.get("/get").text == "streamed"


def test_async_views_share_the_session_of_their_request(app: flask.Flask) -> None:
    """What a coroutine changes is committed with its response."""
    pytest.importorskip("asgiref")

    @app.get("/async/<value>")
    @requires()
    async def view(value: str) -> str:
        flask.session["value"] = value
        return str(mine().user_id)

    client = app.test_client()
    assert client.get("/async/1").status_code == 401
    client.get("/login/ada")
    assert client.get("/async/2").text == "ada"
    assert client.get("/get").text == "2"


def test_a_request_context_without_a_response_stores_nothing(world: World, app: flask.Flask) -> None:
    """`test_request_context()` is for looking."""
    with app.test_request_context():
        flask.session["value"] = 1
        assert flask.session["value"] == 1
        assert mine().new
    assert world.store.calls == []


def test_a_copied_context_keeps_the_session_object(app: flask.Flask) -> None:
    """`copy_current_request_context` hands the same session on, as Flask documents."""
    with app.test_request_context():
        flask.session["value"] = 1
        copied = flask.copy_current_request_context(lambda: flask.session["value"])
    assert copied() == 1


def test_a_host_header_that_is_no_host_is_a_bad_request_and_no_crash(app: flask.Flask) -> None:
    """What Flask answers to nonsense it still answers."""
    got = call(app, make_environ("/get", scheme="http", host="\x8a"))
    assert got.code in (200, 400)
    assert got.all("set-cookie") == []


# -- session_transaction() ---------------------------------------------------------------------------------------------


def test_a_transaction_of_the_test_client_reads_and_changes_the_session(app: flask.Flask) -> None:
    """Tests prepare and inspect sessions as ever."""
    client = app.test_client()
    with client.session_transaction() as session:
        assert len(session) == 0
        session["value"] = ["a"]
        cast("FlaskSession", session).login("ada")
    assert (client.get("/get").text, client.get("/who").text) == ("['a']", "ada")
    with client.session_transaction() as session:
        assert session["value"] == ["a"]
        session["value"].append("b")
    assert client.get("/get").text == "['a', 'b']"


def test_a_transaction_keeps_the_context_of_the_last_request(app: flask.Flask) -> None:
    """`flask.request` and `flask.session` are the request's while the client is a context."""
    with app.test_client() as client:
        client.post("/set", data={"value": "42"})
        request = flask.request._get_current_object()
        assert flask.session["value"] == "42"
        with client.session_transaction() as session:
            assert session["value"] == "42"
            assert request is flask.request._get_current_object()


def test_a_transaction_needs_cookies(app: flask.Flask) -> None:
    """Flask says so, and still does."""
    with (
        pytest.raises(TypeError, match="Cookies are disabled"),
        app.test_client(use_cookies=False).session_transaction(),
    ):
        pass


@pytest.mark.parametrize("verb", ["load", "create"])
def test_a_transaction_on_a_failing_store_raises(world: World, app: flask.Flask, verb: str) -> None:
    """A test must not go on as if its session had been prepared."""
    client = app.test_client()
    client.get("/login/ada")
    if verb == "create":
        client = app.test_client()
    world.store.failing = {verb}
    with pytest.raises(StoreUnavailable), client.session_transaction() as session:
        session["value"] = 1


# -- sign-in and sign-out ----------------------------------------------------------------------------------------------


@requirement("R25", "R26")
@pytest.mark.parametrize("key", ["user_id", "_user_id"])
def test_setting_the_key_that_names_the_user_is_a_sign_in_and_removing_it_a_sign_out(
    world: World, app: flask.Flask, key: str
) -> None:
    """Code that never heard of Sessile rotates the token, ends the old one and keeps the list of devices."""

    @app.get("/in")
    def sign_in() -> str:
        flask.session[key] = 7
        return ""

    @app.get("/out")
    def sign_out() -> str:
        flask.session.pop(key, None)
        flask.flash("good bye")
        return ""

    client = app.test_client()
    client.post("/set", data={"value": "cart"})
    planted = token(client)
    client.get("/in")
    assert (client.get("/who").text, client.get("/get").text) == ("7", "cart")
    assert carry(app.test_client(), planted).get("/get").text == "None"
    assert [one.user for one in current_sessions(app).of_user(7)] == ["7"]
    kept = token(client)
    client.get("/out")
    assert (client.get("/who").text, client.get("/get").text) == ("None", "None")
    assert carry(app.test_client(), kept).get("/who").text == "None"
    with client.session_transaction() as session:
        assert session["_flashes"] == [("message", "good bye")]
    assert current_sessions(app).of_user(7) == []


@requirement("R64")
def test_signing_out_everywhere_reaches_every_client_of_the_user(app: flask.Flask) -> None:
    """Another user's session lives on."""
    phone, laptop, other = app.test_client(), app.test_client(), app.test_client()
    for client, user in ((phone, "ada"), (laptop, "ada"), (other, "eve")):
        client.get(f"/login/{user}")
    assert current_sessions(app).end_all("ada") == 2
    assert [client.get("/who").text for client in (phone, laptop, other)] == ["None", "None", "eve"]


@requirement("R53", "R88")
def test_a_challenged_session_is_nobody_to_code_that_goes_by_its_key(world: World, app: flask.Flask) -> None:
    """A stolen cookie, used from elsewhere, does not open what it opened; signing in again does."""

    @app.get("/in")
    def sign_in() -> str:
        flask.session["user_id"] = 7
        return ""

    @app.get("/me")
    def me() -> str:
        return f"{flask.session.get('user_id')} {'user_id' in flask.session} {flask.session.get('value')}"

    there = {"REMOTE_ADDR": "203.0.113.9", "HTTP_USER_AGENT": "curl/8"}
    here = {"REMOTE_ADDR": "198.51.100.7", "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux) Firefox/140"}
    client = app.test_client()
    client.post("/set", data={"value": "cart"}, environ_base=here)
    client.get("/in", environ_base=here)
    assert client.get("/me", environ_base=here).text == "7 True cart"
    thief = carry(app.test_client(), token(client))
    assert thief.get("/me", environ_base=there).text == "None False cart"
    assert client.get("/me", environ_base=here).text == "None False cart"
    client.get("/in", environ_base=here)
    assert client.get("/me", environ_base=here).text == "7 True cart"
    assert thief.get("/me", environ_base=there).text == "None False None"
    assert "context-changed" in world.codes()


def test_a_challenged_session_can_still_be_signed_out_by_its_key(app: flask.Flask) -> None:
    """The key is out of sight; taking it away ends the session all the same."""

    @app.get("/in")
    def sign_in() -> str:
        flask.session["user_id"] = 7
        return ""

    @app.get("/out")
    def sign_out() -> str:
        flask.session.pop("user_id", None)
        return ""

    client = app.test_client()
    client.get("/in", environ_base={"REMOTE_ADDR": "198.51.100.7", "HTTP_USER_AGENT": "Firefox Linux"})
    client.get("/out", environ_base={"REMOTE_ADDR": "203.0.113.9", "HTTP_USER_AGENT": "curl/8"})
    assert current_sessions(app).of_user(7) == []


# -- guards ------------------------------------------------------------------------------------------------------------


@requirement("R90")
def test_requires_opens_a_view_to_sessions_that_prove_enough(world: World) -> None:
    """Nobody is sent to sign in, somebody to step up; programs get JSON."""
    app = make_app(world, login_url="/sign-in", step_up_url="/step-up")

    @app.get("/account")
    @requires()
    def account() -> str:
        return "account"

    @app.get("/transfer")
    @requires(factor="totp", max_age=60)
    def transfer() -> str:
        return "transfer"

    @app.get("/totp")
    def totp() -> str:
        mine().add_factor("totp")
        return ""

    client, page = app.test_client(), {"Accept": "text/html"}
    assert client.get("/account").status_code == 401
    assert client.get("/account", headers=page).location == "/sign-in?next=/account&reason=login"
    client.get("/login/ada")
    assert client.get("/account").text == "account"
    assert client.get("/transfer", headers=page).location == "/step-up?next=/transfer&reason=factor"
    client.get("/totp")
    assert client.get("/transfer").text == "transfer"
    world.now += 61
    told = client.get("/transfer")
    assert (told.status_code, told.get_json()["reason"]) == (403, "age")


def test_an_application_answers_a_step_up_in_its_own_way_if_it_likes(app: flask.Flask) -> None:
    """`errorhandler` takes precedence over Sessile's own."""

    @app.errorhandler(StepUpRequired)
    def ask(error: StepUpRequired) -> tuple[str, int]:
        return f"please: {error.reason}", 401

    @app.get("/account")
    @requires()
    def account() -> str:
        return "account"

    assert app.test_client().get("/account").text == "please: login"


@requirement("R22")
def test_a_cross_site_post_is_refused_before_anything_is_loaded_or_run(world: World, app: flask.Flask) -> None:
    """A page elsewhere cannot sign a browser in or out, nor act for it."""
    client = app.test_client()
    client.get("/login/ada")
    world.store.calls.clear()
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        got = client.post("/login/eve", headers=headers)
        assert (got.status_code, "Set-Cookie" in got.headers, world.store.calls) == (403, False, [])
    assert client.get("/who").text == "ada"
    assert client.post("/login/ada", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_the_guard_goes_before_functions_that_were_registered_earlier(world: World) -> None:
    """An extension that came first does not run for a refused request."""
    app = flask.Flask(__name__)
    ran: list[str] = []
    app.before_request(lambda: ran.append("ran"))
    Sessile(app, sessions=world.sessions)
    assert app.test_client().post("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert ran == []


def test_own_endpoints_answer_below_where_the_application_is_mounted(app: flask.Flask) -> None:
    """They need no route, and the session's headers are on them."""
    client = app.test_client()
    client.get("/login/ada")
    assert client.get("/.sessile/status").get_json()["authenticated"] is True
    assert client.get("/.sessile/nothing").status_code == 404
    got = client.post("/.sessile/logout", environ_overrides={"SCRIPT_NAME": "/shop"})
    assert (got.status_code, got.data, "Content-Type" in got.headers) == (204, b"", False)
    assert got.headers["Clear-Site-Data"]
    assert token(client) is None


def test_the_script_is_the_same_for_everybody_and_opens_no_session(
    world: World, app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be kept by caches, costs no store call, and is served during an outage too."""
    monkeypatch.setattr(replies, "script", lambda: replies.Reply(200, [("cache-control", "public")], b"js"))
    client = app.test_client()
    client.get("/login/ada")
    world.store.calls.clear()
    world.store.failing = {"load"}
    got = client.get("/.sessile/session.js")
    assert (got.status_code, got.data, got.headers["Cache-Control"]) == (200, b"js", "public")
    assert ("Vary" in got.headers, world.store.calls) == (False, [])


@requirement("R23")
def test_a_form_s_csrf_token_belongs_to_its_session_and_changes_at_sign_in(app: flask.Flask) -> None:
    """Flask-WTF works unchanged, and what was known before the sign-in is worth nothing after it."""
    app.secret_key = "only Flask-WTF signs with it"
    app.config["WTF_CSRF_CHECK_DEFAULT"] = True
    CSRFProtect(app)

    class Form(FlaskForm):  # type: ignore[misc]
        name = StringField()

    @app.route("/form", methods=["GET", "POST"])
    def form() -> Any:
        shown = Form()
        if shown.validate_on_submit():
            return f"hello {shown.name.data}"
        return flask.render_template_string("{{ form.hidden_tag() }}", form=shown)

    def hidden(client: FlaskClient) -> str:
        return client.get("/form").text.split('value="')[1].split('"')[0]

    client, other = app.test_client(), app.test_client()
    field = hidden(client)
    post = {"name": "Ada", "csrf_token": field}
    assert client.post("/form", data=post).text == "hello Ada"
    assert client.post("/form", data={"name": "Ada"}).status_code == 400
    hidden(other)
    assert other.post("/form", data=post).status_code == 400
    client.get("/login/ada")
    assert client.post("/form", data=post).status_code == 400
    assert client.post("/form", data={**post, "csrf_token": hidden(client)}).text == "hello Ada"


# -- when the store fails ----------------------------------------------------------------------------------------------


@requirement("R45")
@pytest.mark.parametrize("path", ["/who", "/nowhere", "/.sessile/status"])
def test_a_failed_load_is_a_503_and_no_view_runs(world: World, app: flask.Flask, path: str) -> None:
    """An outage never passes for nobody, whatever was asked for."""
    client = app.test_client()
    client.get("/login/ada")
    world.store.failing = {"load"}
    got = client.get(path)
    assert (got.status_code, got.headers["Retry-After"], "Set-Cookie" in got.headers) == (503, "2", False)
    world.store.failing = set()
    assert client.get("/who").text == "ada"


@requirement("R45")
def test_what_runs_before_the_refusal_cannot_mistake_an_outage_for_nobody(world: World, app: flask.Flask) -> None:
    """URL processors and converters come before any function; looking at the session fails there already."""
    looked: list[object] = []

    @app.url_value_preprocessor
    def look(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
        looked.append(mine().user_id)

    client = app.test_client()
    client.get("/login/ada")
    world.store.failing = {"load"}
    assert (client.get("/who").status_code, looked) == (503, [None])


@requirement("R45")
def test_error_handlers_see_the_outage_and_after_request_functions_survive_it(world: World, app: flask.Flask) -> None:
    """The application may answer with a page of its own, which may look at the session and write to it in vain."""

    @app.errorhandler(StoreError)
    def page(_error: StoreError) -> tuple[str, int]:
        flask.session["value"] = "lost"
        return f"back soon, {mine().user_id}", 503

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        flask.session["seen"] = "value" in flask.session
        return response

    client = app.test_client()
    client.get("/login/ada")
    world.store.failing = {"load"}
    got = client.get("/who")
    assert (got.status_code, got.text, "Set-Cookie" in got.headers) == (503, "back soon, None", False)
    assert world.store.calls[-1] == "load"


@requirement("R45")
@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_commit_takes_the_response_s_place_cookies_and_all(
    world: World, app: flask.Flask, stream: bool
) -> None:
    """A sign-in that was not stored was not done: no cookie of any extension says otherwise."""
    closed: list[str] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            yield b"welcome"

        def close(self) -> None:
            closed.append("iterable")

    @app.get("/sign-in")
    def sign_in() -> flask.Response:
        mine().login("ada")
        response = flask.Response(cast("Any", Chunks()) if stream else "welcome", direct_passthrough=stream)
        response.set_cookie("remember_token", "ada")
        response.call_on_close(lambda: closed.append("response"))
        return response

    world.store.failing = {"create"}
    got = app.test_client().get("/sign-in", buffered=True)
    assert (got.status_code, got.headers.getlist("Set-Cookie")) == (503, [])
    assert got.get_json()["error"] == "session-store-unavailable"
    assert closed == (["iterable", "response"] if stream else ["response"])


def test_a_failed_commit_reaches_the_application_s_handlers_as_if_nothing_had_happened(world: World) -> None:
    """The page that they make greets nobody: the session reads as it is stored."""
    limited = make_world(policy=Policy(max_sessions=1, on_limit="refuse"))
    app = make_app(limited)

    @app.errorhandler(TooManySessions)
    def full(error: TooManySessions) -> tuple[str, int]:
        return f"{error.limit} is the limit, {mine().user_id}", 409

    app.test_client().get("/login/ada")
    got = app.test_client().get("/login/ada")
    assert (got.status_code, got.text, "Set-Cookie" in got.headers) == (409, "1 is the limit, None", False)


def test_a_limit_without_a_handler_is_answered_by_sessile() -> None:
    """403, and the reason."""
    app = make_app(make_world(policy=Policy(max_sessions=1, on_limit="refuse")))
    app.test_client().get("/login/ada")
    got = app.test_client().get("/login/ada")
    assert (got.status_code, got.get_json()["error"]) == (403, "too-many-sessions")


def test_a_value_that_cannot_be_stored_is_an_error_of_the_application(world: World, app: flask.Flask) -> None:
    """A 500 as for any bug, with the key's name in the log, and the session as it was."""

    @app.get("/bad")
    def bad() -> str:
        flask.session["value"] = "new"
        flask.session["bad"] = object()
        return "stored"

    client = app.test_client()
    client.post("/set", data={"value": "old"})
    with pytest.raises(ValueUnsupported, match="bad"):
        client.get("/bad")
    app.testing = False
    app.config["PROPAGATE_EXCEPTIONS"] = False
    assert client.get("/bad").status_code == 500
    assert client.get("/get").text == "old"


def test_a_store_error_in_a_view_is_a_503(world: World, app: flask.Flask) -> None:
    """Listing devices during an outage is an outage, not a bug."""

    @app.get("/devices")
    def devices() -> str:
        return str(len(current_sessions().of_user("ada")))

    assert app.test_client().get("/devices").text == "0"
    world.store.failing = {"of_user"}
    assert app.test_client().get("/devices").status_code == 503


# -- setting up --------------------------------------------------------------------------------------------------------


def test_an_application_factory_configures_sessions_by_its_config(tmp_path: Any) -> None:
    """One extension, several applications, each with sessions of its own unless they are handed over."""
    extension = Sessile(login_url="/in")
    apps = []
    for name in ("one", "two"):
        app = flask.Flask(name)
        app.config.update(SESSILE_STORE=f"sqlite:///{tmp_path}/{name}.db", SESSILE_KEYS=generate(), SESSILE_PREFIX="/s")
        extension.init_app(app)
        app.get("/in")(lambda: mine().login("ada") or "in")  # type: ignore[func-returns-value]
        apps.append(app)
    client = apps[0].test_client()
    client.get("/in")
    assert client.get("/s/status").get_json()["authenticated"] is True
    assert [len(current_sessions(app).of_user("ada")) for app in apps] == [1, 0]
    with apps[0].app_context():
        assert extension.sessions is current_sessions(apps[0])
    for app in apps:
        current_sessions(app).close()


def test_one_line_is_enough() -> None:
    """`Sessile(app)` keeps sessions in memory."""
    app = flask.Flask(__name__)
    extension = Sessile(app)
    assert extension.sessions.stats().live == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sessions": AsyncSessions("memory://")}, "AsyncSessions"),
        ({"sessions": Sessions("memory://"), "policy": Policy()}, "policy"),
        ({"nonsense": 1}, "nonsense"),
        ({"store": "postgres://"}, "postgres"),
    ],
)
def test_wrong_settings_are_refused_at_start(options: dict[str, Any], said: str) -> None:
    """Not at the first request."""
    with pytest.raises(ConfigurationError, match=said):
        Sessile(flask.Flask(__name__), **options)


def test_without_flask_installed_the_adapter_says_what_to_install() -> None:
    """An optional part fails at its own door, in one sentence."""
    code = "import sys; sys.modules['flask'] = None; import sessile.adapters.flask"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'sessile[flask]'")


def test_sessions_are_set_up_once(app: flask.Flask) -> None:
    """A second guard and a second cookie would be worse than an error."""
    with pytest.raises(ConfigurationError, match="twice"):
        Sessile(app)
    with pytest.raises(ConfigurationError, match="no sessions"):
        current_sessions(flask.Flask(__name__))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SESSION_COOKIE_NAME", "sid"),
        ("SESSION_COOKIE_DOMAIN", ".example.org"),
        ("SESSION_COOKIE_PATH", "/app"),
        ("PERMANENT_SESSION_LIFETIME", dt.timedelta(minutes=5)),
    ],
)
def test_a_setting_of_flask_s_cookie_that_has_no_effect_is_said_aloud(name: str, value: object) -> None:
    """A limit that somebody believes in must not be ignored in silence."""
    app = flask.Flask(__name__)
    app.config[name] = value
    with pytest.warns(UserWarning, match=name):
        Sessile(app)


def test_a_strict_cookie_stays_strict() -> None:
    """The one setting of Flask's that makes the cookie stricter is honoured."""
    app = flask.Flask(__name__)
    app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    Sessile(app)
    assert app.session_interface.get_cookie_samesite(app) == "Strict"


def test_flask_inside_the_wsgi_middleware_has_one_session(world: World, app: flask.Flask) -> None:
    """Flask's own takes the place of the outer one: one commit, one cookie."""
    outer = SessionMiddleware(app.wsgi_app, world.sessions)
    got = call(outer, make_environ("/login/ada"))
    assert (got.code, len(got.all("set-cookie")), world.store.calls) == (200, 1, ["create"])
    cookie = got.all("set-cookie")[0].partition(";")[0]
    assert call(outer, make_environ("/who", cookie=cookie)).text == "ada"
    world.now += 1000
    rotated = call(outer, make_environ("/who", cookie=cookie))
    assert (rotated.text, len(rotated.all("set-cookie"))) == ("ada", 1)


def test_two_applications_in_one_process_share_nothing_but_what_they_are_given(world: World) -> None:
    """A session of one is no session of the other."""
    first, second, shared = make_app(world), make_app(make_world()), make_app(world)
    client = first.test_client()
    client.get("/login/ada")
    assert carry(second.test_client(), token(client)).get("/who").text == "None"
    assert carry(shared.test_client(), token(client)).get("/who").text == "ada"


def test_a_response_is_the_test_client_s_own(app: flask.Flask) -> None:
    """Refusals and own endpoints are ordinary Flask responses."""
    got = app.test_client().post("/set", headers={"Sec-Fetch-Site": "cross-site"})
    assert isinstance(got, TestResponse)
    assert got.get_json()["error"] == "cross-site-request"


@requirement("R32")
def test_a_slow_request_never_sees_what_another_did_meanwhile(app: flask.Flask) -> None:
    """Each request has a session object of its own, also when they overlap in threads."""
    from concurrent.futures import ThreadPoolExecutor

    @app.get("/slow/<name>")
    def slow(name: str) -> str:
        session = mine()
        session["name"] = name
        time.sleep(0.02)
        return f"{session['name']} {id(flask.request.environ['sessile.session'])}"

    def visit(number: int) -> tuple[str, str]:
        name, _, identity = app.test_client().get(f"/slow/{number}").text.partition(" ")
        assert name == str(number)
        return name, identity

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(visit, range(8)))
    assert len({name for name, _ in seen}) == 8
