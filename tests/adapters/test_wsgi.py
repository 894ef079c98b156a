"""The WSGI middleware: nothing leaves before the commit, whatever way an application answers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest

from sessile import AsyncSessions, ConfigurationError, Session, Sessions, StepUpRequired
from sessile.adapters import replies
from sessile.adapters.wsgi import SessionMiddleware
from sessile.errors import SessionClosed, ValueUnsupported
from tests.adapters.wsgi_client import COOKIE, Body, Browser, World, call, make_environ, make_world
from tests.support.requirements import requirement

View = Callable[[Session], object]
PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture(name="world")
def fixture_world() -> World:
    """Return sessions on a store that can fail."""
    return make_world()


def application(views: dict[str, View]) -> WSGIApplication:
    """Return an application that answers each path with what its view returns."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        view = views.get(environ["PATH_INFO"])
        text = "not found" if view is None else str(view(environ["sessile.session"]))
        start_response("404 Not Found" if view is None else "200 OK", [*PLAIN])
        return [text.encode()]

    return app


VIEWS: dict[str, View] = {
    "/plain": lambda _session: "plain",
    "/read": lambda session: session.get("name"),
    "/write": lambda session: session.update(name="Ada"),
    "/who": lambda session: session.user_id,
    "/login": lambda session: session.login("ada"),
    "/logout": lambda session: session.logout(),
    "/private": lambda session: session.require(),
    "/high": lambda session: session.require(factor="totp"),
    "/bad": lambda session: session.update(name=object()),
}


def browser_of(world: World, app: WSGIApplication | None = None, **options: Any) -> Browser:
    """Return a browser in front of the middleware."""
    return Browser(SessionMiddleware(app or application(VIEWS), world.sessions, **options))


def one(answer: Callable[[WSGIEnvironment, StartResponse], Any]) -> WSGIApplication:
    """Name what this file is about: one application, answering in its own way."""
    return answer


# -- a request ---------------------------------------------------------------------------------------------------------


@requirement("R27")
def test_a_visitor_who_stores_nothing_costs_no_store_call_and_gets_no_header(world: World) -> None:
    """Nothing is stored for a visitor until there is something to remember."""
    got = browser_of(world).get("/plain")
    assert (got.code, got.headers, world.store.calls) == (200, PLAIN, [])


@requirement("R11", "R19")
def test_the_first_write_sets_a_host_cookie_on_a_response_that_nobody_caches(world: World) -> None:
    """The response that begins a session carries the whole set of headers."""
    browser = browser_of(world)
    got = browser.get("/write")
    assert (got.header("set-cookie") or "").startswith(f"{COOKIE}=")
    assert (got.header("set-cookie") or "").endswith("; Path=/; Secure; HttpOnly; SameSite=Lax")
    assert (got.header("cache-control"), got.header("vary")) == ("no-store", "Cookie")
    read = browser.get("/read")
    assert (read.text, read.header("set-cookie"), read.header("cache-control")) == ("Ada", None, "no-store")


def test_a_request_that_only_reads_costs_one_store_call_and_one_that_writes_two(world: World) -> None:
    """The budget of the design holds through the adapter."""
    browser = browser_of(world)
    browser.get("/write")
    world.store.calls.clear()
    browser.get("/read")
    assert world.store.calls == ["load"]
    world.store.calls.clear()
    browser.app = SessionMiddleware(application({"/": lambda session: session.update(name="Eve")}), world.sessions)
    browser.get("/")
    assert world.store.calls == ["load", "save"]


@requirement("R25", "R61", "R68")
def test_a_login_leaves_the_old_token_dead_and_a_logout_the_new_one(world: World) -> None:
    """Whoever planted or kept an earlier cookie has nothing."""
    browser = browser_of(world)
    browser.get("/write")
    planted = browser.token
    browser.get("/login")
    assert browser.token != planted
    assert browser.get("/who").text == "ada"
    thief = browser_of(world)
    thief.jar[COOKIE] = str(planted)
    assert thief.get("/who").text == "None"
    kept = browser.token
    got = browser.get("/logout")
    assert browser.token is None
    assert got.header("clear-site-data") == '"cache", "cookies", "storage"'
    thief.jar[COOKIE] = str(kept)
    assert thief.get("/who").text == "None"


@requirement("R6")
@pytest.mark.parametrize("cookie", ["x", "A" * 75, "A" * 100_000, "é" * 75, "\x00", '"; drop', f"a; {COOKIE}=b"])
def test_a_forged_cookie_reaches_no_store_and_is_not_echoed(world: World, cookie: str) -> None:
    """Guessing cannot load the store."""
    got = call(browser_of(world).app, make_environ("/read", cookie=f"{COOKIE}={cookie}"))
    assert (got.code, got.text, got.all("set-cookie"), world.store.calls) == (200, "None", [], [])


@requirement("R20")
def test_plain_http_gets_no_cookie_and_a_loud_event(world: World) -> None:
    """What travels in clear is not worth a session; loopback is the exception, for development."""
    middleware = browser_of(world).app
    clear = Browser(middleware, scheme="http")
    assert clear.get("/write").all("set-cookie") == []
    assert "insecure-channel" in world.codes()
    local = Browser(middleware, scheme="http", host="localhost:8000")
    assert local.get("/write").all("set-cookie")


@requirement("R19")
def test_the_application_s_own_headers_are_merged_and_not_doubled(world: World) -> None:
    """A public response becomes private, what varies varies further, other cookies stay."""

    @one
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        environ["sessile.session"]["name"] = "Ada"
        own = [("Cache-Control", "public, max-age=60"), ("Vary", "Accept"), ("Set-Cookie", "theme=dark"), *PLAIN]
        start_response("200 OK", own)
        return [b"ok"]

    got = browser_of(world, app).get()
    assert (got.header("cache-control"), got.header("vary")) == ("no-store", "Accept, Cookie")
    assert [line.partition("=")[0] for line in got.all("set-cookie")] == ["theme", COOKIE]


# -- ways to answer ----------------------------------------------------------------------------------------------------


def late_generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Begin the response, and change the session, when the first chunk is asked for."""
    start_response("200 OK", [*PLAIN])
    yield b""
    environ["sessile.session"]["name"] = "Ada"
    yield b"first"
    yield b" second"


def empty_generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Send no body at all."""
    environ["sessile.session"]["name"] = "Ada"
    start_response("200 OK", [*PLAIN])
    yield from ()


def old_writer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Send the body by the callable that `start_response` returns."""
    write = start_response("200 OK", [*PLAIN])
    write(b"")
    environ["sessile.session"]["name"] = "Ada"
    write(b"first")
    return [b" second"]


def plain_list(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Return everything at once."""
    start_response("200 OK", [*PLAIN])
    environ["sessile.session"]["name"] = "Ada"
    return [b"first", b" second"]


ANSWERS = [late_generator, empty_generator, old_writer, plain_list]


@pytest.mark.parametrize("app", ANSWERS, ids=lambda app: app.__name__)
def test_what_is_written_before_the_first_byte_is_stored_and_both_sides_keep_to_the_protocol(
    world: World, app: WSGIApplication
) -> None:
    """The session is committed when the first byte is due, not when the application returns."""
    middleware = validator(SessionMiddleware(validator(app), world.sessions))  # type: ignore[arg-type]
    browser = Browser(middleware)  # type: ignore[arg-type]
    got = browser.get()
    assert (got.code, got.starts) == (200, 1)
    assert got.text in ("first second", "")
    assert browser.token
    reader = Browser(SessionMiddleware(application(VIEWS), world.sessions))
    reader.jar = browser.jar
    assert reader.get("/read").text == "Ada"


@requirement("R45")
@pytest.mark.parametrize("app", ANSWERS, ids=lambda app: app.__name__)
def test_a_failed_commit_takes_the_place_of_the_response(world: World, app: WSGIApplication) -> None:
    """What was not stored was not done, and no byte said that it was."""
    world.store.failing = {"create"}
    got = browser_of(world, app).get()
    assert (got.code, got.header("retry-after"), got.header("cache-control")) == (503, "2", "no-store")
    assert b"first" not in got.body
    assert b"second" not in got.body
    assert (got.starts, got.all("set-cookie")) == (1, [])


@requirement("R45")
def test_a_store_that_fails_at_load_never_reaches_the_application(world: World) -> None:
    """An outage is not an anonymous visitor."""
    browser = browser_of(world)
    browser.get("/login")
    world.store.failing = {"load"}
    called: list[str] = []
    browser.app = SessionMiddleware(one(lambda environ, _start: called.append(environ["PATH_INFO"])), world.sessions)
    got = browser.get("/private")
    assert (got.code, called, got.all("set-cookie")) == (503, [], [])
    assert "store-failed" in world.codes()


@pytest.mark.parametrize("fails", [False, True])
def test_the_application_s_iterable_is_closed_once_whether_it_is_sent_or_replaced(world: World, fails: bool) -> None:
    """Files and database cursors behind a response are let go."""
    body = Body([b"", b"first", b"second"])

    @one
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        environ["sessile.session"]["name"] = "Ada"
        start_response("200 OK", [*PLAIN])
        return body

    world.store.failing = {"create"} if fails else set()
    got = browser_of(world, app).get()
    assert (got.code, body.closed) == (503 if fails else 200, 1)


def test_a_server_that_stops_early_closes_the_application_s_iterable(world: World) -> None:
    """A browser that hangs up leaks nothing."""
    body = Body([b"first", b"second"])

    @one
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response("200 OK", [*PLAIN])
        return body

    answer = SessionMiddleware(app, world.sessions)(make_environ(), lambda *_args: lambda _data: None)
    assert next(iter(answer)) == b"first"
    answer.close()  # type: ignore[attr-defined]
    assert body.closed == 1


def test_an_iterable_that_breaks_before_its_first_byte_is_closed_and_commits_nothing(world: World) -> None:
    """An error before the start leaves the session as it was."""

    def chunks(session: Session) -> Iterator[bytes]:
        session["name"] = "Ada"
        raise ZeroDivisionError
        yield b""

    bodies: list[Body] = []

    @one
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        start_response("200 OK", [*PLAIN])
        bodies.append(Body(chunks(environ["sessile.session"])))
        return bodies[0]

    with pytest.raises(ZeroDivisionError):
        browser_of(world, app).get()
    assert (bodies[0].closed, world.store.calls) == (1, [])


def test_an_error_of_the_application_reaches_the_server_and_commits_nothing(world: World) -> None:
    """A sign-in that was followed by a crash did not happen."""

    def crash(session: Session) -> None:
        session.login("ada")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        browser_of(world, application({"/": crash})).get()
    assert world.store.calls == []


def test_data_that_cannot_be_stored_is_the_application_s_own_error(world: World) -> None:
    """It reaches the server's error page and log with the key's name, and nothing is half stored."""
    with pytest.raises(ValueUnsupported, match="name"):
        browser_of(world).get("/bad")
    assert world.store.calls == []


def test_an_error_page_may_take_the_place_of_a_response_that_was_not_sent(world: World) -> None:
    """`start_response` with `exc_info` replaces what was said, as long as nothing left."""

    @one
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [*PLAIN])
        environ["sessile.session"]["name"] = "Ada"
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            start_response("500 Oops", [*PLAIN], (type(error), error, error.__traceback__))
        yield b"sorry"

    got = browser_of(world, app).get()
    assert (got.status, got.text, len(got.all("set-cookie"))) == ("500 Oops", "sorry", 1)


def test_an_error_after_the_first_byte_is_raised_by_the_server(world: World) -> None:
    """What has left cannot be taken back; the server cuts the connection."""

    @one
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [*PLAIN])
        yield b"first"
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            start_response("500 Oops", [*PLAIN], (type(error), error, error.__traceback__))

    with pytest.raises(ZeroDivisionError):
        browser_of(world, app).get()


@pytest.mark.parametrize("starts", [0, 2])
def test_an_application_that_breaks_the_protocol_is_told(world: World, starts: int) -> None:
    """No start, or a second one without an error, is a programming error."""

    @one
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        for _ in range(starts):
            start_response("200 OK", [*PLAIN])
        return [b"ok"]

    with pytest.raises(RuntimeError, match="start_response"):
        browser_of(world, app).get()


def test_a_change_in_the_midst_of_a_stream_is_an_error_and_not_lost_in_silence(world: World) -> None:
    """The response has begun, so nothing can be promised any more."""

    @one
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [*PLAIN])
        yield b"first"
        environ["sessile.session"].login("ada")

    with pytest.raises(SessionClosed):
        browser_of(world, app).get()


@pytest.mark.parametrize("wrapper", [FileWrapper, lambda file, _size=8192: file], ids=["class", "function"])
def test_a_file_reaches_the_server_as_the_object_that_it_knows(world: World, wrapper: Any) -> None:
    """`sendfile` still works: the server looks for its own wrapper, or for the file itself."""
    sent: list[object] = []

    @one
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        environ["sessile.session"]["name"] = "Ada"
        start_response("200 OK", [*PLAIN])
        sent.append(environ["wsgi.file_wrapper"](io.BytesIO(b"content")))
        return sent[0]

    headers: list[list[tuple[str, str]]] = []
    environ = {**make_environ(), "wsgi.file_wrapper": wrapper}
    answer = SessionMiddleware(app, world.sessions)(environ, lambda _status, said, *_: headers.append(said) or len)  # type: ignore[func-returns-value]
    assert answer is sent[0]
    assert "set-cookie" in dict(headers[0])


def test_a_head_request_commits_like_any_other(world: World) -> None:
    """HEAD has the headers of GET."""
    got = browser_of(world).get("/write", "HEAD")
    assert (got.code, len(got.all("set-cookie"))) == (200, 1)


def test_nested_middlewares_with_the_same_sessions_work_as_one(world: World) -> None:
    """There is one session, one load, one commit, one cookie."""
    inner = SessionMiddleware(application(VIEWS), world.sessions)
    browser = browser_of(world, inner)
    assert len(browser.get("/write").all("set-cookie")) == 1
    assert (browser.get("/read").text, world.store.calls) == ("Ada", ["create", "load"])


def test_two_middlewares_with_sessions_of_their_own_do_not_see_each_other(world: World) -> None:
    """Each has its cookie, its store and its place in the environment."""
    from sessile import CookieRules

    other = make_world(cookie=CookieRules(name="__Host-other"))

    @one
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        environ["sessile.session"]["name"] = "outer"
        environ["other.session"]["name"] = "inner"
        start_response("200 OK", [*PLAIN])
        return []

    inner = SessionMiddleware(app, other.sessions, environ_key="other.session")
    browser = browser_of(world, inner)
    browser.get()
    assert set(browser.jar) == {COOKIE, "__Host-other"}
    assert (world.store.calls, other.store.calls) == (["create"], ["create"])


# -- refusals ----------------------------------------------------------------------------------------------------------


@requirement("R22")
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_an_unsafe_request_from_another_site_is_refused_before_anything_is_loaded(
    world: World, headers: dict[str, str]
) -> None:
    """Signing in is covered: no cookie is needed to be refused."""
    browser = browser_of(world)
    browser.get("/write")
    world.store.calls.clear()
    got = browser.post("/login", **headers)
    assert (got.code, world.store.calls, got.all("set-cookie")) == (403, [], [])
    assert "cross-site-refused" in world.codes()
    assert browser.post("/login", Sec_Fetch_Site="same-origin").code == 200


@requirement("R90")
def test_a_route_that_needs_more_sends_pages_to_sign_in_and_tells_programs_why(world: World) -> None:
    """Nobody: 401 or the sign-in page. Somebody without the factor: 403 or the step-up page."""
    browser = browser_of(world, login_url="/sign-in", step_up_url="/step-up")
    told = browser.get("/private")
    assert (told.code, told.header("content-type")) == (401, "application/json")
    page = browser.get("/private", Accept="text/html")
    assert (page.code, page.header("location")) == (303, "/sign-in?next=/private&reason=login")
    browser.get("/login")
    assert browser.get("/private").text == "ada"
    assert browser.get("/high").code == 403
    assert browser.get("/high", Accept="text/html").header("location") == "/step-up?next=/high&reason=factor"


def test_a_stream_that_finds_out_late_that_more_is_needed_is_still_refused(world: World) -> None:
    """The guard works in a generator too, up to the first byte."""

    @one
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [*PLAIN])
        yield b""
        environ["sessile.session"].require()
        yield b"secret"

    got = browser_of(world, app).get()
    assert (got.code, b"secret" in got.body) == (401, False)


def test_after_the_first_byte_a_refusal_can_only_break_the_stream(world: World) -> None:
    """It must not be swallowed: the stream ends with an error."""

    @one
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [*PLAIN])(b"first")
        environ["sessile.session"].require()
        return []

    with pytest.raises(StepUpRequired):
        browser_of(world, app).get()


def test_the_asynchronous_door_is_refused_at_start() -> None:
    """A wrong door is a configuration error, not a failure of the first request."""
    with pytest.raises(ConfigurationError, match="AsyncSessions"):
        SessionMiddleware(application({}), AsyncSessions("memory://"))  # type: ignore[arg-type]


# -- own endpoints -----------------------------------------------------------------------------------------------------


@requirement("R67")
def test_the_sign_out_endpoint_takes_posts_of_our_own_pages_alone_and_is_idempotent(world: World) -> None:
    """A link or another site cannot sign anybody out."""
    browser = browser_of(world, after_logout="/bye")
    browser.get("/login")
    assert browser.get("/.sessile/logout").code == 405
    assert browser.post("/.sessile/logout", Sec_Fetch_Site="cross-site").code == 403
    assert browser.get("/who").text == "ada"
    got = browser.post("/.sessile/logout", Sec_Fetch_Site="same-origin", Accept="text/html")
    assert (got.code, got.header("location"), browser.token) == (303, "/bye", None)
    assert browser.post("/.sessile/logout").code == 204


@requirement("R40")
def test_asking_for_the_status_is_no_activity_and_extending_is(world: World) -> None:
    """A page that polls does not keep an abandoned session alive."""
    browser = browser_of(world)
    browser.get("/login")
    world.now += 3000
    for _ in range(2):
        assert browser.get("/.sessile/status").text == '{"authenticated":true,"expires_in":600.0}'
    assert browser.post("/.sessile/extend").code == 200
    assert browser.get("/.sessile/status").text == '{"authenticated":true,"expires_in":3600.0}'


@requirement("R40")
@pytest.mark.parametrize(("path", "headers"), [("/poll/news", {}), ("/who", {"Sessile_Passive": "1"})])
def test_requests_may_be_marked_as_no_activity(world: World, path: str, headers: dict[str, str]) -> None:
    """By a list of paths, or by the request itself."""
    app = application({**VIEWS, "/poll/news": lambda session: session.user_id})
    browser = browser_of(world, app, passive_paths=["/poll/"])
    browser.get("/login")
    for _ in range(6):
        world.now += 700
        last = browser.get(path, **headers).text
    assert last == "None"


def test_the_script_is_the_same_for_everybody_and_opens_no_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be kept by caches, costs no store call, and is served during an outage too."""
    monkeypatch.setattr(replies, "script", lambda: replies.Reply(200, [("cache-control", "public")], b"js"))
    browser = browser_of(world)
    browser.get("/login")
    world.store.calls.clear()
    world.store.failing = {"load"}
    got = browser.get("/.sessile/session.js")
    assert (got.code, got.body, got.headers, world.store.calls) == (200, b"js", [("cache-control", "public")], [])
    head = browser.get("/.sessile/session.js", "HEAD")
    assert (head.code, head.body) == (200, b"")


def test_the_endpoints_can_be_moved_or_switched_off(world: World) -> None:
    """The prefix is the application's to choose."""
    assert browser_of(world).get("/.sessile/status").code == 200
    assert browser_of(world, prefix="/session").get("/session/status").code == 200
    assert browser_of(world, prefix=None).get("/.sessile/status").code == 404


@pytest.mark.parametrize("verb", ["load", "end"])
def test_a_sign_out_that_was_not_stored_does_not_claim_to_be_done(world: World, verb: str) -> None:
    """The endpoint fails closed like every view."""
    browser = browser_of(world)
    browser.get("/login")
    world.store.failing = {verb}
    got = browser.post("/.sessile/logout")
    assert (got.code, got.all("set-cookie"), got.all("clear-site-data")) == (503, [], [])


# -- facts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"SCRIPT_NAME": "/shop", "PATH_INFO": "/private"}, "/shop/private"),
        ({"PATH_INFO": "/caf\u00c3\u00a9"}, "/caf%C3%A9"),
        ({"PATH_INFO": "//evil.example/x"}, "/"),
    ],
)
def test_the_way_back_is_a_path_of_this_host(world: World, changes: dict[str, str], path: str) -> None:
    """Mounted applications and names beyond ASCII come back right, and nothing leads elsewhere."""

    @one
    def app(environ: WSGIEnvironment, _start: StartResponse) -> Any:
        environ["sessile.session"].require()

    environ = {**make_environ(headers={"Accept": "text/html"}), **changes}
    got = call(SessionMiddleware(app, world.sessions, login_url="/in"), environ)
    assert got.header("location") == f"/in?next={path}&reason=login"


def test_a_bare_environment_is_enough(world: World) -> None:
    """Host, address and cookies may be missing, as in HTTP/1.0 or behind a unix socket."""
    environ = make_environ("/write")
    for name in ("HTTP_HOST", "REMOTE_ADDR", "HTTP_USER_AGENT"):
        del environ[name]
    environ["SERVER_NAME"], environ["SERVER_PORT"], environ["wsgi.url_scheme"] = "127.0.0.1", "8000", "http"
    assert call(browser_of(world).app, environ).all("set-cookie")


def test_the_device_list_knows_the_browser(world: World) -> None:
    """Headers reach the engine under their names."""
    browser = browser_of(world)
    browser.get("/login")
    assert [one.label for one in world.sessions.of_user("ada")] == ["Firefox on Linux"]


def test_sessions_is_the_blocking_door_for_everything_else(world: World) -> None:
    """Ending a session from outside is seen by the next request."""
    browser = browser_of(world)
    browser.get("/login")
    assert isinstance(world.sessions, Sessions)
    assert world.sessions.end_all("ada") == 1
    assert browser.get("/who").text == "None"
