"""Flask-Login unchanged: what it calls signing in and out is what Sessile calls it."""

from __future__ import annotations

import warnings
from typing import Any, cast

import flask
import flask_login
import pytest
from flask.testing import FlaskClient

from sessile import Policy
from sessile.adapters.flask import FlaskSession, Sessile, current_sessions, requires
from tests.adapters.wsgi_client import COOKIE, World, make_world
from tests.support.requirements import requirement

HERE = {"REMOTE_ADDR": "198.51.100.7", "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux) Firefox/140"}
THERE = {"REMOTE_ADDR": "203.0.113.9", "HTTP_USER_AGENT": "curl/8"}

# Flask-Login 0.6 still calls datetime.utcnow(), which Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


class User(flask_login.UserMixin):  # type: ignore[misc]
    """Be a user by name."""

    def __init__(self, name: str) -> None:
        self.id = name


@pytest.fixture(name="world")
def fixture_world() -> World:
    """Return sessions on a store that can fail."""
    return make_world()


@pytest.fixture(name="app")
def fixture_app(world: World) -> flask.Flask:
    """Return an application with sessions on a store that can fail."""
    return make_app(world)


def make_app(world: World) -> flask.Flask:
    """Return an application as Flask-Login's documentation writes it; one line of it is Sessile's."""
    app = flask.Flask(__name__)
    app.testing = True
    app.secret_key = "Flask-Login signs its remember cookie with it"
    Sessile(app, sessions=world.sessions)
    manager = flask_login.LoginManager(app)
    manager.user_loader(User)

    @app.get("/login/<name>")
    def login(name: str) -> str:
        arguments = {key: True for key in ("remember",) if key in flask.request.args}
        flask_login.login_user(User(name), fresh="stale" not in flask.request.args, **arguments)
        return "in"

    @app.get("/logout")
    def logout() -> str:
        flask_login.logout_user()
        flask.flash("good bye")
        return "out"

    @app.get("/confirm")
    def confirm() -> str:
        flask_login.confirm_login()
        return "confirmed"

    @app.get("/write/<value>")
    def write(value: str) -> str:
        flask.session["value"] = value
        return "written"

    @app.get("/me")
    def me() -> str:
        user = flask_login.current_user
        name = user.id if user.is_authenticated else "nobody"
        return f"{name} {cast('FlaskSession', flask.session).user_id} {flask.session.get('value')}"

    @app.get("/members")
    @flask_login.login_required
    def members() -> str:
        return "members"

    @app.get("/fresh")
    @flask_login.fresh_login_required
    def fresh() -> str:
        return "fresh"

    @app.get("/recent")
    @requires(max_age=300)
    def recent() -> str:
        return "recent"

    return app


def get(client: FlaskClient, path: str, *, from_: dict[str, str] = HERE) -> Any:
    """Send a request from one of two places."""
    return client.get(path, environ_overrides=from_)


def token(client: FlaskClient) -> str:
    """Return the token that the client holds."""
    cookie = client.get_cookie(COOKIE)
    assert cookie is not None
    return cookie.value


def holding(app: flask.Flask, value: str) -> FlaskClient:
    """Return another client that holds this token."""
    client = app.test_client()
    client.set_cookie(COOKIE, value)
    return client


@requirement("R25", "R65")
def test_login_user_rotates_the_token_ends_the_old_one_and_enters_the_list_of_devices(app: flask.Flask) -> None:
    """Flask-Login alone leaves the session as it was: a planted one is a signed-in one."""
    client = app.test_client()
    get(client, "/write/cart")
    planted = token(client)
    get(client, "/login/ada")
    assert token(client) != planted
    assert get(client, "/me").text == "ada ada cart"
    assert get(client, "/members").status_code == 200
    assert get(holding(app, planted), "/me").text == "nobody None None"
    [device] = current_sessions(app).of_user("ada")
    assert (device.label, device.kind) == ("Firefox on Linux", "authenticated")


@requirement("R61")
def test_logout_user_ends_the_session_and_its_farewell_survives(app: flask.Flask) -> None:
    """The token is dead for every copy; the flashed message begins a session of nobody's."""
    client = app.test_client()
    get(client, "/write/secret")
    get(client, "/login/ada")
    kept = token(client)
    get(client, "/logout")
    assert get(client, "/me").text == "nobody None None"
    assert get(holding(app, kept), "/me").text == "nobody None None"
    assert current_sessions(app).of_user("ada") == []
    with client.session_transaction() as session:
        assert session["_flashes"] == [("message", "good bye")]
        assert "value" not in session


@requirement("R26")
def test_another_user_s_sign_in_inherits_nothing(app: flask.Flask) -> None:
    """A shared computer hands over no data."""
    client = app.test_client()
    get(client, "/login/ada")
    get(client, "/write/secret")
    get(client, "/login/eve")
    assert get(client, "/me").text == "eve eve None"
    assert current_sessions(app).of_user("ada") == []


@requirement("R25", "R35")
@pytest.mark.parametrize("path", ["/login/ada", "/confirm"])
def test_proving_it_again_renews_token_and_times(world: World, app: flask.Flask, path: str) -> None:
    """A second sign-in of the same user is a re-authentication, `confirm_login()` too."""
    client = app.test_client()
    get(client, "/login/ada")
    get(client, "/write/cart")
    world.now += 1000
    assert get(client, "/recent").status_code == 403
    before = token(client)
    get(client, path)
    assert token(client) != before
    assert (get(client, "/recent").text, get(client, "/me").text) == ("recent", "ada ada cart")
    assert get(holding(app, before), "/me").text == "nobody None None"
    assert len(current_sessions(app).of_user("ada")) == 1


def test_confirming_nobody_changes_nothing(world: World, app: flask.Flask) -> None:
    """`confirm_login()` without a user is no sign-in."""
    client = app.test_client()
    get(client, "/confirm")
    assert get(client, "/me").text == "nobody None None"
    assert get(client, "/recent").status_code == 401


@requirement("R89", "R94")
def test_a_remembered_user_is_signed_in_and_has_proved_nothing(world: World, app: flask.Flask) -> None:
    """A cookie that lives for a year opens what needs a user, never what needs a proof."""
    client = app.test_client()
    get(client, "/login/ada?remember=1")
    client.delete_cookie(COOKIE)
    assert get(client, "/members").text == "members"
    assert get(client, "/me").text == "ada ada None"
    assert get(client, "/fresh").status_code == 401
    told = get(client, "/recent")
    assert (told.status_code, told.get_json()["reason"]) == (403, "age")
    assert [one.aal for one in current_sessions(app).of_user("ada") if not one.factors] == [0]
    assert "signed-in" in world.codes()
    get(client, "/confirm")
    assert (get(client, "/fresh").text, get(client, "/recent").text) == ("fresh", "recent")


def test_a_sign_in_that_is_not_fresh_proves_nothing_either(app: flask.Flask) -> None:
    """`login_user(fresh=False)` says so itself."""
    client = app.test_client()
    get(client, "/login/ada?stale=1")
    assert (get(client, "/members").status_code, get(client, "/recent").status_code) == (200, 403)


def test_logging_out_clears_the_remember_cookie_too(app: flask.Flask) -> None:
    """Nobody is signed in again by what was left in the browser."""
    client = app.test_client()
    get(client, "/login/ada?remember=1")
    assert client.get_cookie("remember_token")
    get(client, "/logout")
    assert client.get_cookie("remember_token") is None
    assert get(client, "/me").text == "nobody None None"


@requirement("R45")
def test_a_sign_in_that_was_not_stored_leaves_no_remember_cookie(world: World, app: flask.Flask) -> None:
    """The response is replaced with all its cookies."""
    world.store.failing = {"create"}
    got = get(app.test_client(), "/login/ada?remember=1")
    assert (got.status_code, got.headers.getlist("Set-Cookie")) == (503, [])


@requirement("R45")
def test_an_outage_is_a_503_although_flask_login_writes_after_every_request(world: World, app: flask.Flask) -> None:
    """A remembered user during an outage is not signed in by the side door."""
    app.config["REMEMBER_COOKIE_REFRESH_EACH_REQUEST"] = True
    client = app.test_client()
    get(client, "/login/ada?remember=1")
    world.store.failing = {"load"}
    got = get(client, "/members")
    assert (got.status_code, [line for line in got.headers.getlist("Set-Cookie") if COOKIE in line]) == (503, [])


@requirement("R53")
def test_a_stolen_cookie_that_is_challenged_opens_nothing_and_signing_in_again_does(app: flask.Flask) -> None:
    """`current_user` is nobody until the user proves it is them."""
    app.config["SESSION_PROTECTION"] = None
    client = app.test_client()
    get(client, "/login/ada")
    get(client, "/write/cart")
    thief = holding(app, token(client))
    assert get(thief, "/members", from_=THERE).status_code == 401
    assert get(thief, "/me", from_=THERE).text == "nobody None cart"
    get(client, "/login/ada")
    assert (get(client, "/me").text, get(client, "/recent").text) == ("ada ada cart", "recent")
    assert get(thief, "/me", from_=THERE).text == "nobody None None"


@requirement("R61")
def test_a_challenged_session_ends_at_logout_all_the_same(app: flask.Flask) -> None:
    """Flask-Login sees no user to log out; the session ends nevertheless."""
    app.config["SESSION_PROTECTION"] = None
    client = app.test_client()
    get(client, "/login/ada")
    get(client, "/logout", from_=THERE)
    assert current_sessions(app).of_user("ada") == []


def test_strong_session_protection_signs_out_for_certain(app: flask.Flask) -> None:
    """Flask-Login takes its keys away when address or browser change; that ends the session everywhere."""
    app.config["SESSION_PROTECTION"] = "strong"
    client = app.test_client()
    get(client, "/login/ada")
    kept = token(client)
    moved = {**HERE, "REMOTE_ADDR": "198.51.100.200"}
    assert get(client, "/members", from_=moved).status_code == 401
    assert get(holding(app, kept), "/members").status_code == 401
    assert current_sessions(app).of_user("ada") == []


@requirement("R64", "R66")
def test_device_lists_limits_and_signing_out_everywhere_need_no_further_code() -> None:
    """The policy counts the sessions that Flask-Login began."""
    world = make_world(policy=Policy(max_sessions=2))
    app = make_app(world)
    clients = [app.test_client() for _ in range(3)]
    for client in clients:
        get(client, "/login/ada")
        world.now += 1
    assert [get(client, "/me").text.split()[0] for client in clients] == ["nobody", "ada", "ada"]
    assert current_sessions(app).end_all("ada") == 2
    assert {get(client, "/me").text.split()[0] for client in clients} == {"nobody"}


@requirement("R88")
def test_a_partial_sign_in_is_completed_by_its_factor_and_not_by_login_user(app: flask.Flask) -> None:
    """Who begins with `session.login(pending=True)` ends with `add_factor`: nothing else opens the session."""

    @app.get("/password")
    def password() -> str:
        cast("FlaskSession", flask.session).login("ada", pending=True)
        return ""

    @app.get("/totp")
    def totp() -> str:
        cast("FlaskSession", flask.session).add_factor("totp")
        return ""

    @app.get("/email")
    def email() -> str:
        cast("FlaskSession", flask.session).add_factor("email", complete=False)
        return str(flask.session.get("_user_id"))

    client = app.test_client()
    get(client, "/password")
    get(client, "/login/ada")
    assert get(client, "/email").text == "None"
    assert get(client, "/me").text == "nobody None None"
    assert get(client, "/members").status_code == 401
    get(client, "/totp")
    assert get(client, "/me").text == "ada ada None"
    assert get(client, "/members").text == "members"


def test_applications_without_sessile_are_left_alone() -> None:
    """The signals are followed for the applications that asked for it, and for no other in the process."""
    plain = flask.Flask(__name__)
    plain.secret_key = "its own"
    flask_login.LoginManager(plain).user_loader(User)

    @plain.get("/")
    def index() -> str:
        flask_login.login_user(User("ada"))
        return type(flask.session._get_current_object()).__name__

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plain.test_client().get("/").text == "SecureCookieSession"
