"""The ASGI middleware: nothing leaves before the commit, and what is not its business passes untouched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sessile import AsyncSessions, ConfigurationError, CookieRules, Policy, Proxies, Session, Sessions, StepUpRequired
from sessile.adapters.asgi import SessionMiddleware
from sessile.errors import ConflictError, SessionClosed, StoreUnavailable, ValueUnsupported
from tests.adapters.asgi_client import Client, Got, World, call, make_scope, make_world
from tests.invariants.harness import COOKIE
from tests.support.requirements import requirement

View = Callable[[Session], object]
Send = Callable[[dict[str, Any]], Awaitable[None]]
TEXT = (b"content-type", b"text/plain")


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """Return the message that starts a response."""
    return {"type": "http.response.start", "status": status, "headers": [TEXT, *headers]}


def body(text: str = "", *, more: bool = False) -> dict[str, Any]:
    """Return a message with a part of the body."""
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


def serving(view: View, *headers: tuple[bytes, bytes], status: int = 200) -> Any:
    """Return an application whose only page answers with what the view returns."""

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        text = str(view(scope["session"]))
        await send(start(status, *headers))
        await send(body(text))

    return application


def write(session: Session) -> None:
    """Change the session."""
    session["n"] = session.get("n", 0) + 1


@pytest.fixture(name="world")
def fixture_world() -> World:
    """Return sessions on a store that can fail."""
    return make_world()


def client_of(world: World, view: View | Any, *headers: tuple[bytes, bytes], **options: Any) -> Client:
    """Return a client of an application with sessions."""
    application = view if asyncio.iscoroutinefunction(view) else serving(view, *headers)
    return Client(SessionMiddleware(application, sessions=world.sessions, **options))


# -- what it costs -----------------------------------------------------------------------------------------------------


@requirement("R27")
async def test_a_request_costs_as_many_store_calls_as_it_must(world: World) -> None:
    """Nothing for a visitor, one for a read, two for a write, none for a forgery."""
    client = client_of(world, lambda session: session.get("n"))
    await client.request()
    assert (world.calls(), client.token) == ([], None)
    writing = client_of(world, write)
    await writing.request()
    assert world.calls() == ["create"]
    client.token = writing.token
    world.store.calls.clear()
    assert (await client.request()).body == b"1"
    assert world.calls() == ["load"]
    world.store.calls.clear()
    await writing.request()
    assert world.calls() == ["load", "save"]
    world.store.calls.clear()
    client.token = "A" * 63
    assert (await client.request()).body == b"None"
    assert world.calls() == []


async def test_a_visitor_who_is_signed_in_by_a_safe_request_gets_a_session(world: World) -> None:
    """A request without any cookie takes the short way; whatever it does to the session is carried out all the same."""
    client = client_of(world, lambda session: session.login("ada"))
    got = await client.request(headers=[("user-agent", "Mozilla/5.0 Firefox/140.0 (Linux)")])
    assert got.header("vary") == "Cookie"
    [listed] = await world.sessions.of_user("ada")
    assert (listed.agent, listed.platform) == ("Firefox", "Linux")


# -- facts -------------------------------------------------------------------------------------------------------------


@requirement("R21")
async def test_a_cookie_header_in_parts_is_put_together(world: World) -> None:
    """HTTP/2 sends one field a cookie; the session's may stand in any of them, but only once."""
    client = client_of(world, write)
    await client.request()
    pair = f"{COOKIE}={client.token}"
    app = client_of(world, lambda session: session.get("n")).application
    for parts, seen in (
        (["a=b", pair], b"1"),
        ([pair, "a=b"], b"1"),
        (["a=b", "c=d"], b"None"),
        ([pair, pair], b"None"),
        ([pair, "a=b", f"{COOKIE}=planted"], b"None"),
    ):
        got = await call(app, make_scope(headers=[("cookie", part) for part in parts]))
        assert got.body == seen, parts


async def test_headers_may_be_any_iterable(world: World) -> None:
    """The specification promises no list."""
    client = client_of(world, write)
    await client.request()
    scope = make_scope(headers=[("cookie", f"{COOKIE}={client.token}")])
    scope["headers"] = iter(scope["headers"])
    got = await call(client.application, scope)
    assert got.status == 200
    assert world.calls()[-1] == "save"


@pytest.mark.parametrize(
    ("changes", "origin", "passes"),
    [
        ({}, "https://app.example", True),
        ({"scheme": "http"}, "https://app.example", False),
        ({"headers": []}, "https://app.example", True),
        ({"headers": [], "server": ("app.example", 8443)}, "https://app.example:8443", True),
        ({"headers": [], "server": None}, "https://app.example", False),
        ({"client": None}, "https://app.example", True),
    ],
)
async def test_the_origin_is_compared_with_where_the_request_went(
    world: World, changes: dict[str, Any], origin: str, *, passes: bool
) -> None:
    """Scheme and host come from the request, the host from the server itself where the client named none."""
    scope = {**make_scope(method="POST"), **changes}
    scope["headers"] = [*scope["headers"], (b"origin", origin.encode())]
    got = await call(client_of(world, write).application, scope)
    assert got.status == (200 if passes else 403)


async def test_a_trusted_proxy_s_word_on_scheme_and_host_is_taken() -> None:
    """Behind a proxy that ends TLS, the cookie is set."""
    world = make_world(proxies=Proxies(["10.0.0.0/8"]))
    client = client_of(world, write)
    forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-for", "203.0.113.9")]
    await client.request(scheme="http", headers=forwarded)
    assert client.token is None
    await client.request(scheme="http", headers=forwarded, client=("10.1.2.3", 1))
    assert client.token is not None


@requirement("R40")
@pytest.mark.parametrize(
    ("path", "headers", "is_activity"),
    [
        ("/", [], True),
        ("/", [("sessile-passive", "1")], False),
        ("/", [("sessile-passive", "0")], True),
        ("/poll/news", [], False),
        ("/.sessile/status", [], False),
    ],
)
async def test_requests_that_are_no_activity_do_not_extend_a_session(
    world: World, path: str, headers: list[tuple[str, str]], *, is_activity: bool
) -> None:
    """By a header, by their path, or because they only ask for the status."""
    client = client_of(world, lambda session: session.setdefault("n", 1), passive_paths=("/poll/",))
    await client.request()
    policy = Policy()
    world.clock.advance(policy.idle / 2)
    await client.request(path, headers=headers)
    world.clock.advance(policy.idle / 2 + policy.tolerance)
    world.store.calls.clear()
    await client.request("/.sessile/status")
    assert ("session-ended" in world.codes()) is not is_activity


# -- the guard ---------------------------------------------------------------------------------------------------------


@requirement("R22")
async def test_a_cross_site_request_reaches_neither_store_nor_application(world: World) -> None:
    """It is refused first; the operator hears of it."""
    called: list[Session] = []
    client = client_of(world, called.append)
    client.token = "A" * 63
    got = await client.request("/login", "POST", headers=[("sec-fetch-site", "cross-site")])
    assert (got.status, got.json["error"]) == (403, "cross-site-request")
    assert (called, world.calls(), world.codes()) == ([], [], ["cross-site-refused"])


# -- the commit --------------------------------------------------------------------------------------------------------


async def test_the_session_is_committed_when_the_response_starts(world: World) -> None:
    """Not a byte leaves before, and what is streamed afterwards can change nothing any more."""
    sent_at_commit: list[int] = []
    got = Got()

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        session = scope["session"]
        session["n"] = 1
        await send(start())
        sent_at_commit.append(len(world.calls()))
        with pytest.raises(SessionClosed):
            session["n"] = 2
        with pytest.raises(SessionClosed):
            session.logout()
        await send(body("one", more=True))
        await send(body("two"))

    await call(SessionMiddleware(application, sessions=world.sessions), make_scope(), got)
    assert sent_at_commit == [1]
    assert [one["type"] for one in got.messages] == ["http.response.start", *["http.response.body"] * 2]
    assert got.body == b"onetwo"


async def test_messages_of_other_kinds_pass_as_they_are_and_in_order(world: World) -> None:
    """Early hints, debug information, pushed files and trailers are the server's and the application's business."""
    messages = [
        {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]},
        {"type": "http.response.debug", "info": {}},
        {**start(200), "trailers": True},
        {"type": "http.response.zerocopysend", "file": 3},
        {"type": "http.response.pathsend", "path": "file"},
        {"type": "http.response.trailers", "headers": []},
    ]

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        write(scope["session"])
        for message in messages:
            await send(message)

    got = await call(SessionMiddleware(application, sessions=world.sessions), make_scope())
    assert [one["type"] for one in got.messages] == [one["type"] for one in messages]
    assert all(mine is theirs for mine, theirs in zip(got.messages, messages, strict=True) if mine is not got.start)
    assert got.start["trailers"] is True
    assert got.all("set-cookie")


@requirement("R19")
@pytest.mark.parametrize(
    ("own", "merged"),
    [
        ([], {"vary": "Cookie", "cache-control": "no-store"}),
        ([(b"vary", b"Accept")], {"vary": "Accept, Cookie", "cache-control": "no-store"}),
        ([(b"Vary", b"Accept"), (b"vary", b"X")], {"vary": "Accept, X, Cookie", "cache-control": "no-store"}),
        ([(b"vary", b"cookie")], {"vary": "cookie", "cache-control": "no-store"}),
        ([(b"Cache-Control", b"public, max-age=60")], {"vary": "Cookie", "cache-control": "no-store"}),
        ([(b"cache-control", b"public"), (b"cache-control", b"max-age=9")], {"cache-control": "no-store"}),
        ([(b"cache-control", b"private, max-age=9")], {"cache-control": "private, max-age=9"}),
    ],
)
async def test_the_application_s_own_headers_are_merged_and_not_doubled(
    world: World, own: list[tuple[bytes, bytes]], merged: dict[str, str]
) -> None:
    """Whatever their case; other headers, other cookies among them, stay where they are."""
    client = client_of(world, write)
    await client.request()
    reading = client_of(world, lambda session: session["n"], (b"set-cookie", b"theme=dark"), *own)
    reading.token = client.token
    got = await reading.request()
    assert {name: got.header(name) for name in merged} == merged
    assert got.all("set-cookie") == ["theme=dark"]
    assert got.header("content-type") == "text/plain"


@requirement("R32")
async def test_a_response_that_is_sent_to_everybody_keeps_no_cookie_of_anybody(world: World) -> None:
    """An application may send the very same message, with the very same list of headers, again and again."""
    message, shown = start(), []

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        if scope["path"] == "/write":
            write(scope["session"])
        shown.append(list(message["headers"]))
        await send(message)
        await send(body())

    app = SessionMiddleware(application, sessions=world.sessions)
    first, second = Client(app), Client(app)
    await first.request("/write")
    await second.request("/write")
    assert first.token != second.token
    assert shown == [[TEXT]] * 2
    assert (await call(app, make_scope("/plain"))).start is message


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 302, 304, 404, 500, 503])
async def test_a_response_of_any_status_is_committed(world: World, status: int, method: str) -> None:
    """An error that the application answers itself is a response like any other."""
    client = Client(SessionMiddleware(serving(write, status=status), sessions=world.sessions))
    got = await client.request(method=method)
    assert got.status == status
    assert client.token is not None
    assert got.header("cache-control") == "no-store"


async def test_an_error_before_the_response_commits_nothing_and_goes_its_way(world: World) -> None:
    """The server, or the framework around, answers it as it always did."""

    def view(session: Session) -> None:
        write(session)
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        await client_of(world, view).request()
    assert world.calls() == []


async def test_an_error_after_the_start_goes_its_way_whatever_it_is(world: World) -> None:
    """The response has begun: nobody can put another one in its place."""

    async def application(_scope: Any, _receive: Any, send: Send) -> None:
        await send(start())
        raise StepUpRequired("login")

    with pytest.raises(StepUpRequired):
        await client_of(world, application).request()


# -- when the commit fails ---------------------------------------------------------------------------------------------


@requirement("R45")
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_commit_that_fails_puts_503_in_place_of_the_response(world: World, *, swallows: bool) -> None:
    """What waits for the response does not run, and whatever the application still sends is dropped."""
    after: list[str] = []

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        scope["session"].login("ada")
        try:
            await send(start())
            after.append("background task")
        except StoreUnavailable:
            if not swallows:
                raise
            await send(start(500))
        await send(body("welcome"))

    world.store.failing.add("create")
    got = await client_of(world, application).request()
    assert (got.status, got.header("retry-after")) == (503, "2")
    assert got.all("set-cookie") == []
    assert b"welcome" not in got.body
    assert after == []


async def test_what_a_framework_makes_of_a_failed_commit_is_not_raised_again(world: World) -> None:
    """Wrapped in groups or as the cause of another error, the client has its answer already."""

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        write(scope["session"])
        try:
            await send(start())
        except StoreUnavailable as error:
            raise ExceptionGroup("tasks", [RuntimeError("response already started"), error]) from error

    world.store.failing.add("create")
    assert (await client_of(world, application).request()).status == 503


async def test_a_mistake_that_has_nothing_to_do_with_the_failed_commit_is_raised(world: World) -> None:
    """It must not vanish behind the 503."""

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        write(scope["session"])
        failed = False
        try:
            await send(start())
        except StoreUnavailable:
            failed = True
        if failed:
            raise RuntimeError("another mistake")

    world.store.failing.add("create")
    got = Got()
    with pytest.raises(RuntimeError, match="another mistake"):
        await call(client_of(world, application).application, make_scope(), got)
    assert got.status == 503


async def test_data_that_cannot_be_stored_is_the_application_s_error_and_names_the_key(world: World) -> None:
    """Nothing is sent, so that the framework can answer 500."""
    got = Got()

    def view(session: Session) -> None:
        session["odd"] = object()

    with pytest.raises(ValueUnsupported, match="odd"):
        await call(client_of(world, view).application, make_scope(), got)
    assert got.messages == []


async def test_conflicts_and_limits_have_answers_of_their_own() -> None:
    """409 where another request changed the same key, 403 where the limit refuses a sign-in."""
    world = make_world(policy=Policy(max_sessions=1, on_limit="refuse"))
    client = client_of(world, write)
    await client.request()

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        session = scope["session"]
        session.raise_on_conflict = True
        session["n"] = 5
        other = client_of(world, write)
        other.token = client.token
        await other.request()
        await send(start())

    conflicting = client_of(world, application)
    conflicting.token = client.token
    got = await conflicting.request()
    assert (got.status, got.json["error"]) == (409, ConflictError.code)
    signing_in = client_of(world, lambda session: session.login("ada"))
    assert (await signing_in.request()).status == 200
    signing_in.token = None
    got = await signing_in.request()
    assert (got.status, got.json["error"]) == (403, "too-many-sessions")


# -- step-up -----------------------------------------------------------------------------------------------------------


@requirement("R90")
@pytest.mark.parametrize(
    ("user", "accept", "status", "location"),
    [
        (None, "text/html,*/*", 303, "/sign-in?next=/app/private&reason=login"),
        ("ada", "text/html,*/*", 303, "/prove?next=/app/private&reason=factor"),
        (None, "application/json", 401, None),
        ("ada", "application/json", 403, None),
    ],
)
async def test_a_route_that_needs_more_sends_pages_to_get_it_and_tells_programs_why(
    world: World, user: str | None, accept: str, status: int, location: str | None
) -> None:
    """Where the application is mounted below a path, `next` is the whole path."""

    def view(session: Session) -> object:
        if user is not None and session.user_id is None:
            return session.login(user)
        return session.require(factor="totp")

    client = client_of(world, view, login_url="/sign-in", step_up_url="/prove")
    if user is not None:
        await client.request()
    got = await client.request("/private", headers=[("accept", accept)], root_path="/app")
    assert (got.status, got.header("location")) == (status, location)
    assert got.header("cache-control") == "no-store"


# -- own endpoints -----------------------------------------------------------------------------------------------------


async def test_the_client_script_is_the_same_for_everybody_and_opens_no_session(world: World) -> None:
    """It may be cached, and whoever asks with a cookie costs no store call."""
    client = client_of(world, write)
    await client.request()
    world.store.calls.clear()
    got = await client.request("/.sessile/session.js")
    assert (got.status, got.header("content-type")) == (200, "text/javascript; charset=utf-8")
    assert "public" in (got.header("cache-control") or "")
    assert b"serviceWorker" not in got.body
    assert got.body.startswith(b"// Sessile")
    head = await client.request("/.sessile/session.js", "HEAD")
    assert (head.body, head.header("content-length")) == (b"", str(len(got.body)))
    assert (await client.request("/.sessile/session.js", "POST")).status == 405
    assert world.calls() == []


@requirement("R67")
async def test_signing_out_is_a_post_and_works_with_and_without_script(world: World) -> None:
    """A form lands on a page, a script gets 204; a link, or another site, signs nobody out."""
    client = client_of(world, lambda session: session.login("ada"), after_logout="/bye")
    await client.request()
    assert (await client.request("/.sessile/logout")).status == 405
    assert (
        await client.request("/.sessile/logout", "POST", headers=[("origin", "https://evil.example")])
    ).status == 403
    assert len(await world.sessions.of_user("ada")) == 1
    got = await client.request("/.sessile/logout", "POST", headers=[("accept", "text/html")])
    assert (got.status, got.header("location")) == (303, "/bye")
    assert got.header("clear-site-data") == '"cache", "cookies", "storage"'
    assert (client.token, await world.sessions.of_user("ada")) == (None, [])
    assert (await client.request("/.sessile/logout", "POST")).status == 204


async def test_the_status_says_how_long_a_session_lives_and_extending_prolongs_it(world: World) -> None:
    """The status counts from the last activity; extending is one."""
    client = client_of(world, lambda session: session.login("ada"))
    assert (await client.request("/.sessile/status")).json == {"authenticated": False, "expires_in": None}
    await client.request()
    world.clock.advance(3000)
    assert (await client.request("/.sessile/status")).json == {"authenticated": True, "expires_in": 600.0}
    got = await client.request("/.sessile/extend", "POST")
    assert (got.json["expires_in"], got.header("cache-control")) == (3600.0, "no-store")
    assert (await client.request("/.sessile/status")).json["expires_in"] == 3600.0


@requirement("R45")
async def test_the_endpoints_fail_closed_too(world: World) -> None:
    """A status that cannot be known and a sign-out that was not stored are 503."""
    client = client_of(world, lambda session: session.login("ada"))
    await client.request()
    world.store.failing.update(("load", "end"))
    assert (await client.request("/.sessile/status")).status == 503
    world.store.failing.discard("load")
    assert (await client.request("/.sessile/logout", "POST")).status == 503
    assert client.token is not None


@pytest.mark.parametrize(
    ("prefix", "path", "root", "is_ours"),
    [
        ("/.sessile", "/.sessile/status", "", True),
        ("/.sessile", "/app/.sessile/status", "/app", True),
        ("/.sessile", "/.sessile/status", "/app", True),
        ("/.sessile", "/app/.sessile/status", "", False),
        ("/.sessile", "/.sessile/other", "", False),
        ("/.sessile", "/.sessile", "", False),
        ("/s", "/s/status", "", True),
        ("/s", "/.sessile/status", "", False),
        (None, "/.sessile/status", "", False),
        (None, "/None/status", "", False),
    ],
)
async def test_the_endpoints_are_where_they_were_put(
    world: World, prefix: str | None, path: str, root: str, *, is_ours: bool
) -> None:
    """Below where the application is mounted, under another prefix, or nowhere."""
    client = client_of(world, lambda _session: "application", prefix=prefix)
    got = await client.request(path, root_path=root)
    assert (got.body != b"application") is is_ours


# -- nested, other scopes, mistakes ------------------------------------------------------------------------------------


async def test_nested_middlewares_with_the_same_door_are_one(world: World) -> None:
    """A mounted application that brings its own finds the session opened already."""
    inner = SessionMiddleware(serving(write), sessions=world.sessions)
    client = Client(SessionMiddleware(inner, sessions=world.sessions))
    got = await client.request()
    assert world.calls() == ["create"]
    assert len(got.all("set-cookie")) == 1


async def test_nested_middlewares_with_doors_of_their_own_have_a_session_each() -> None:
    """Another cookie and another place in the scope, and neither knows of the other."""
    outer, inner = make_world(), make_world(cookie=CookieRules(name="__Host-admin"))

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        scope["session"]["who"] = "outer"
        scope["admin"]["who"] = "inner"
        await send(start())
        await send(body())

    app = SessionMiddleware(application, sessions=inner.sessions, scope_key="admin")
    got = await call(SessionMiddleware(app, sessions=outer.sessions), make_scope())
    names = sorted(line.partition("=")[0] for line in got.all("set-cookie"))
    assert names == ["__Host-admin", "__Host-id"]
    assert got.all("vary") == ["Cookie"]
    assert got.all("cache-control") == ["no-store"]


async def test_nested_doors_that_share_a_cookie_are_a_mistake_and_are_told_so(world: World) -> None:
    """Each would refuse the other's token and replace it, at every request."""
    inner = SessionMiddleware(serving(write), sessions=make_world().sessions)
    with pytest.raises(ConfigurationError, match="__Host-id"):
        await Client(SessionMiddleware(inner, sessions=world.sessions)).request()


@pytest.mark.parametrize("closes", [False, True])
async def test_lifespan_passes_and_closes_the_store_if_it_is_asked_to(world: World, *, closes: bool) -> None:
    """By default the store stays open: tests start one application many times."""

    async def application(_scope: Any, receive: Any, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await client_of(world, write).request()
        await send({"type": "lifespan.shutdown.complete"})

    middleware = SessionMiddleware(application, sessions=world.sessions, close_on_shutdown=closes)
    got = await call(middleware, {"type": "lifespan"})
    assert [one["type"] for one in got.messages] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    client = client_of(world, write)
    assert (await client.request()).status == (503 if closes else 200)


async def test_what_is_neither_http_nor_a_socket_passes(world: World) -> None:
    """Extensions of servers are not ours to judge."""

    async def application(scope: Any, _receive: Any, send: Send) -> None:
        assert "session" not in scope
        await send({"type": "webtransport.accept"})

    got = await call(SessionMiddleware(application, sessions=world.sessions), {"type": "webtransport"})
    assert got.messages == [{"type": "webtransport.accept"}]


def test_the_blocking_door_and_impossible_checks_are_refused_at_start(world: World) -> None:
    """A wrong setting is an error when the application is put together, not at a request."""
    with pytest.raises(ConfigurationError, match="AsyncSessions"):
        SessionMiddleware(serving(write), sessions=Sessions("memory://"))  # type: ignore[arg-type]
    for seconds in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ConfigurationError, match="socket_check"):
            SessionMiddleware(serving(write), sessions=world.sessions, socket_check=seconds)


@requirement("R32")
async def test_a_task_that_outlives_its_request_can_change_nothing(world: World) -> None:
    """It still reads what its request read; a write is refused, and no other request sees its session object."""
    kept: list[Session] = []

    def view(session: Session) -> object:
        write(session)
        kept.append(session)
        return session["n"]

    client = client_of(world, view)
    assert [(await client.request()).body for _ in range(2)] == [b"1", b"2"]
    first, second = kept
    assert first is not second
    assert first["n"] == 1
    with pytest.raises(SessionClosed):
        first["n"] = 9


async def test_the_middleware_is_seen_as_an_asynchronous_application() -> None:
    """Servers tell ASGI 3 from ASGI 2 by this."""
    middleware = SessionMiddleware(serving(write), sessions=AsyncSessions("memory://", sinks=()))
    assert asyncio.iscoroutinefunction(type(middleware).__call__)
