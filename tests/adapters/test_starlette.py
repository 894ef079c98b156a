"""Starlette: what a developer does with `request.session` today goes on working; the differences are stated."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    SimpleUser,
    UnauthenticatedUser,
)
from starlette.authentication import requires as starlette_requires
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.templating import Jinja2Templates
from starlette.testclient import TestClient

from sessile import AsyncSessions, ConfigurationError, CookieRules, Policy, Session, StepUpRequired
from sessile.adapters.starlette import SessionMiddleware, requires, session_of
from tests.adapters.asgi_client import World, make_world
from tests.invariants.harness import COOKIE
from tests.support.requirements import requirement

Act = Callable[[Any], Any]


async def view_session(request: Request) -> Response:
    """Answer with the whole session."""
    return JSONResponse({"session": dict(request.session)})


async def update_session(request: Request) -> Response:
    """Merge the body into the session."""
    request.session.update(await request.json())
    return JSONResponse({"session": dict(request.session)})


async def clear_session(request: Request) -> Response:
    """Empty the session."""
    request.session.clear()
    return JSONResponse({"session": dict(request.session)})


async def untouched(_request: Request) -> Response:
    """Answer without a look at the session."""
    return PlainTextResponse("ok")


ROUTES = [
    Route("/view_session", view_session),
    Route("/update_session", update_session, methods=["POST"]),
    Route("/clear_session", clear_session, methods=["POST"]),
    Route("/untouched", untouched),
]


@pytest.fixture(name="world")
def fixture_world() -> World:
    """Return sessions on a store that can fail."""
    return make_world()


def client_of(world: World, routes: list[Any] | None = None, *more: Middleware, **options: Any) -> TestClient:
    """Return a client of an application with sessions, and with `more` inside of them."""
    sessions = Middleware(SessionMiddleware, sessions=world.sessions, **options)
    app = Starlette(routes=ROUTES if routes is None else routes, middleware=[sessions, *more])
    return TestClient(app, base_url="https://testserver")


def acting(world: World, *acts: Act) -> list[Any]:
    """Let each act do something to `request.session`, one request each; return what they answered."""
    waiting = list(acts)

    async def act(request: Request) -> Response:
        return JSONResponse({"value": waiting.pop(0)(request.session)})

    client = client_of(world, [Route("/", act)])
    return [client.get("/").json()["value"] for _ in acts]


# -- what Starlette's own middleware promises --------------------------------------------------------------------------


def test_a_session_is_read_changed_and_cleared(world: World) -> None:
    """The life of a session as Starlette's documentation tells it."""
    client = client_of(world)
    assert client.get("/view_session").json() == {"session": {}}
    assert client.post("/update_session", json={"some": "data"}).json() == {"session": {"some": "data"}}
    assert client.get("/view_session").json() == {"session": {"some": "data"}}
    assert client.post("/clear_session").json() == {"session": {}}
    assert client.get("/view_session").json() == {"session": {}}


def test_the_cookie_is_set_when_something_changed_and_only_then(world: World) -> None:
    """Reading sets none, and clearing deletes it."""
    client = client_of(world)
    assert "set-cookie" not in client.get("/view_session").headers
    assert COOKIE in client.post("/update_session", json={"some": "data"}).headers["set-cookie"]
    assert "set-cookie" not in client.get("/view_session").headers
    assert "set-cookie" not in client.post("/update_session", json={"some": "other"}).headers
    assert "Max-Age=0" in client.post("/clear_session").headers["set-cookie"]
    assert "set-cookie" not in client.post("/clear_session").headers


def test_a_response_varies_on_the_cookie_if_the_session_was_looked_at(world: World) -> None:
    """And only then."""
    client = client_of(world)
    assert client.get("/view_session").headers["vary"] == "Cookie"
    assert "vary" not in client.get("/untouched").headers
    client.post("/update_session", json={"some": "data"})
    assert client.get("/view_session").headers["vary"] == "Cookie"
    assert "vary" not in client.get("/untouched").headers


def test_other_middleware_s_vary_is_kept(world: World) -> None:
    """GZip's and ours stand together."""
    client = client_of(world, None, Middleware(GZipMiddleware, minimum_size=1))
    client.post("/update_session", json={"some": "data"})
    assert client.get("/view_session").headers["vary"] == "Accept-Encoding, Cookie"


def test_a_session_expires(world: World) -> None:
    """By the policy, on the server."""
    client = client_of(world)
    client.post("/update_session", json={"some": "data"})
    world.clock.advance(Policy().idle + Policy().tolerance)
    assert client.get("/view_session").json() == {"session": {}}


def test_a_broken_cookie_is_an_empty_session(world: World) -> None:
    """Not an error."""
    client = client_of(world)
    assert client.get("/view_session", headers={"cookie": f"{COOKIE}=invalid"}).json() == {"session": {}}
    assert client.get("/view_session", headers={"cookie": "=; ;;=;" + COOKIE}).json() == {"session": {}}


def test_a_mounted_application_can_have_a_cookie_of_its_own_path() -> None:
    """Two applications on one host, and neither sees the other's session (R12: such a cookie is named `__Secure-`)."""
    first = make_world(cookie=CookieRules(name="__Secure-a", path="/first"))
    second = make_world(cookie=CookieRules(name="__Secure-b", path="/second"))
    mounts = [
        Mount(path, Starlette(routes=ROUTES, middleware=[Middleware(SessionMiddleware, sessions=world.sessions)]))
        for path, world in (("/first", first), ("/second", second))
    ]
    client = TestClient(Starlette(routes=mounts), base_url="https://testserver")
    reply = client.post("/second/update_session", json={"some": "data"})
    assert "Path=/second;" in reply.headers["set-cookie"]
    assert client.get("/first/view_session").json() == {"session": {}}
    assert client.get("/second/view_session").json() == {"session": {"some": "data"}}
    assert client.get("/second/.sessile/status").json()["authenticated"] is False


def test_a_session_can_be_shared_with_subdomains_and_last_longer_than_the_browser() -> None:
    """By saying so in the rules of the cookie."""
    world = make_world(cookie=CookieRules(name="__Secure-id", domain="example.com", max_age=3600))
    line = client_of(world).post("/update_session", json={"some": "data"}).headers["set-cookie"]
    assert "Domain=example.com" in line
    assert "Max-Age=3600" in line


def test_a_session_does_not_travel_over_plain_http(world: World) -> None:
    """`https_only` is not an option here."""
    client = client_of(world)
    client.post("/update_session", json={"some": "data"})
    clear = TestClient(client.app, base_url="http://shop.example")
    clear.cookies = client.cookies
    assert clear.get("/view_session").json() == {"session": {}}
    assert "set-cookie" not in clear.post("/update_session", json={"some": "data"}).headers


def test_the_test_client_s_default_address_counts_as_development(world: World) -> None:
    """A cookie is set on http://testserver; the client, as a browser would, sends it back over https alone."""
    client = TestClient(client_of(world).app)
    assert COOKIE in client.post("/update_session", json={"some": "data"}).headers["set-cookie"]
    assert client.get("/view_session").json() == {"session": {}}
    client.base_url = "https://testserver"
    assert client.get("/view_session").json() == {"session": {"some": "data"}}


# -- idioms ------------------------------------------------------------------------------------------------------------


IDIOMS: dict[str, tuple[list[Act], list[Any]]] = {
    "item": ([lambda s: s.__setitem__("a", 1), lambda s: s["a"]], [None, 1]),
    "in": ([lambda s: "a" in s, lambda s: s.update(a=1), lambda s: "a" in s], [False, None, True]),
    "not in": ([lambda s: "a" not in s], [True]),
    "get": ([lambda s: s.get("a"), lambda s: s.get("a", 2)], [None, 2]),
    "pop": ([lambda s: s.update(a=1), lambda s: s.pop("a"), lambda s: s.pop("a", 2)], [None, 1, 2]),
    "popitem": ([lambda s: s.update(a=1, b=2), lambda s: s.popitem(), dict], [None, ["b", 2], {"a": 1}]),
    "setdefault": ([lambda s: s.setdefault("a", []), lambda s: s.setdefault("a", 1)], [[], []]),
    "update": ([lambda s: s.update({"a": 1}, b=2), dict], [None, {"a": 1, "b": 2}]),
    "in place or": ([lambda s: s.__ior__({"a": 1}) and None, lambda s: s | {"b": 2}], [None, {"a": 1, "b": 2}]),
    "delete": ([lambda s: s.update(a=1, b=2), lambda s: s.__delitem__("a"), list], [None, None, ["b"]]),
    "clear": ([lambda s: s.update(a=1), lambda s: s.clear(), len], [None, None, 0]),
    "iteration": (
        [lambda s: s.update(a=1, b=2), lambda s: [list(s), list(s.keys()), list(s.values()), list(s.items())]],
        [None, [["a", "b"], ["a", "b"], [1, 2], [["a", 1], ["b", 2]]]],
    ),
    "length and truth": ([lambda s: [len(s), bool(s)], lambda s: s.update(a=1), lambda s: [len(s), bool(s)]],
                         [[0, False], None, [1, True]]),
    "equality": ([lambda s: s.update(a=1), lambda s: [s == {"a": 1}, s == {"a": 2}]], [None, [True, False]]),
    "unpacking": ([lambda s: s.update(a=1), lambda s: {**s, "b": 2}], [None, {"a": 1, "b": 2}]),
    "copy": ([lambda s: s.update(a=1), lambda s: s.copy()], [None, {"a": 1}]),
    "json": ([lambda s: s.update(a=1), lambda s: json.dumps(dict(s))], [None, '{"a": 1}']),
    "nested change": (
        [lambda s: s.update(cart={"items": []}), lambda s: s["cart"]["items"].append(1), lambda s: s["cart"]],
        [None, None, {"items": [1]}],
    ),
    "counter": ([lambda s: s.update(n=s.get("n", 0) + 1) or s["n"]] * 3, [1, 2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("idiom", IDIOMS)
def test_everything_that_is_done_with_a_dict_works(world: World, idiom: str) -> None:
    """Each step is a request of its own, so what the one did the next one sees."""
    acts, expected = IDIOMS[idiom]
    assert acting(world, *acts) == expected


@pytest.mark.parametrize(
    "act", [lambda s: s["a"], lambda s: s.__delitem__("a"), lambda s: s.pop("a"), lambda s: s.popitem()]
)
def test_what_is_not_there_is_a_key_error(world: World, act: Act) -> None:
    """As in a dict."""
    with pytest.raises(KeyError):
        acting(world, act)


def test_templates_see_the_session(world: World) -> None:
    """Jinja2, through the request, by attribute and by item."""
    source = "{{ request.session.name }} {{ request.session['name'] }} {{ request.session.missing or 'nobody' }}"
    environment = jinja2.Environment(loader=jinja2.DictLoader({"page": source}), autoescape=True)
    templates = Jinja2Templates(env=environment)

    async def page(request: Request) -> Response:
        request.session["name"] = "Ada"
        return templates.TemplateResponse(request, "page")

    assert client_of(world, [Route("/", page)]).get("/").text == "Ada Ada nobody"


def test_authentication_middleware_works_on_top(world: World) -> None:
    """A backend that goes by the session sees it, and Starlette's own `requires` guards by it."""

    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, Any]:
            user = conn.session.get("user_id")
            return (AuthCredentials(["in"]), SimpleUser(user)) if user else (AuthCredentials(), UnauthenticatedUser())

    @starlette_requires("in")
    async def private(request: Request) -> Response:
        return PlainTextResponse(request.user.display_name)

    async def login(request: Request) -> Response:
        request.session["user_id"] = "ada"
        return RedirectResponse("/private", 303)

    client = client_of(
        world,
        [Route("/private", private), Route("/login", login)],
        Middleware(AuthenticationMiddleware, backend=Backend()),
    )
    assert client.get("/private").status_code == 403
    assert client.get("/login").text == "ada"


@requirement("R25")
def test_what_an_application_does_already_to_sign_in_counts(world: World) -> None:
    """Setting `user_id` renews the token and lists the device; removing it signs out."""
    values = acting(
        world,
        lambda s: s.update(a=1),
        lambda s: s.__setitem__("user_id", 7),
        lambda s: [s.user_id, s.is_authenticated, s["a"]],
        lambda s: s.pop("user_id"),
        lambda s: [s.user_id, dict(s)],
    )
    assert values == [None, None, ["7", True, 1], 7, [None, {}]]
    assert [code for code in world.codes() if code != "session-created"] == [
        "session-renewed",
        "signed-in",
        "session-ended",
    ]


def test_middleware_inside_can_use_the_session_too(world: World) -> None:
    """BaseHTTPMiddleware, before and after the endpoint; after it, before the response starts."""

    class Counting(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            request.session["before"] = request.session.get("before", 0) + 1
            response = await call_next(request)
            request.session["after"] = request.session.get("after", 0) + 1
            return response

    client = client_of(world, None, Middleware(Counting))
    client.get("/untouched")
    assert client.get("/view_session").json()["session"] == {"before": 2, "after": 1}


# -- responses ---------------------------------------------------------------------------------------------------------


def test_a_stream_carries_the_session_and_cannot_change_it_any_more(world: World) -> None:
    """What the generator writes would be lost, so it raises."""

    async def stream(request: Request) -> Response:
        request.session["n"] = 1

        async def chunks() -> AsyncIterator[bytes]:
            yield str(request.session["n"]).encode()
            request.session["n"] = 2

        return StreamingResponse(chunks())

    client = client_of(world, [Route("/", stream), *ROUTES])
    with pytest.raises(Exception, match="the response has begun"):
        client.get("/")


@requirement("R45")
def test_a_background_task_does_not_run_for_a_response_that_was_replaced(world: World) -> None:
    """No welcome mail for a sign-in that was not stored, whatever middleware stands between."""
    ran: list[str] = []

    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            return await call_next(request)

    async def login(request: Request) -> Response:
        request.session.login("ada")
        return PlainTextResponse("welcome", background=BackgroundTask(ran.append, "mail"))

    world.store.failing.add("create")
    for more in ((), (Middleware(Passing),), (Middleware(GZipMiddleware),)):
        reply = client_of(world, [Route("/", login)], *more).get("/")
        assert reply.status_code == 503
        assert "set-cookie" not in reply.headers
    assert ran == []
    world.store.failing.clear()
    assert client_of(world, [Route("/", login)]).get("/").text == "welcome"
    assert ran == ["mail"]


def test_errors_are_the_application_s_own_as_ever(world: World) -> None:
    """Nothing of the session is stored, and the debugger or the 500 page come as they do."""

    async def boom(request: Request) -> Response:
        request.session["n"] = 1
        raise RuntimeError("boom")

    client = client_of(world, [Route("/", boom), *ROUTES])
    with pytest.raises(RuntimeError, match="boom"):
        client.get("/")
    silent = TestClient(client.app, base_url="https://testserver", raise_server_exceptions=False)
    assert silent.get("/").status_code == 500
    assert world.calls() == []


# -- guards ------------------------------------------------------------------------------------------------------------


@requirement("R90")
def test_requires_guards_functions_methods_and_plain_functions(world: World) -> None:
    """Each is called only for who proves enough."""

    @requires()
    async def private(request: Request) -> Response:
        return PlainTextResponse(session_of(request).require())

    @requires(factor="totp", max_age=60)
    def plain(request: Request) -> Response:
        return PlainTextResponse("proved")

    class Page(HTTPEndpoint):
        @requires(aal=2)
        async def get(self, request: Request) -> Response:
            return PlainTextResponse("level 2")

    async def login(request: Request) -> Response:
        request.session.login("ada")
        return Response()

    async def factor(request: Request) -> Response:
        request.session.add_factor("totp")
        return Response()

    routes = [
        Route("/private", private),
        Route("/plain", plain),
        Route("/page", Page),
        Route("/login", login),
        Route("/factor", factor),
    ]
    client = client_of(world, routes, login_url="/sign-in")
    paths = ("/private", "/plain", "/page")
    assert [client.get(path).status_code for path in paths] == [401, 401, 401]
    page = client.get("/private", headers={"accept": "text/html"}, follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/sign-in?next=/private&reason=login")
    client.get("/login")
    assert [client.get(path).status_code for path in paths] == [200, 403, 403]
    client.get("/factor")
    assert [client.get(path).text for path in paths] == ["ada", "proved", "level 2"]
    world.clock.advance(61)
    assert client.get("/plain").json()["reason"] == "age"


def test_an_application_s_own_handler_for_step_up_comes_first(world: World) -> None:
    """Starlette's exception handlers stand inside of the middleware."""

    async def private(request: Request) -> Response:
        return PlainTextResponse(request.session.require())

    async def handler(_request: Request, error: Exception) -> Response:
        assert isinstance(error, StepUpRequired)
        return PlainTextResponse(error.reason, 418)

    app = Starlette(routes=[Route("/", private)], exception_handlers={StepUpRequired: handler})
    app.add_middleware(SessionMiddleware, sessions=world.sessions)
    reply = TestClient(app, base_url="https://testserver").get("/")
    assert (reply.status_code, reply.text) == (418, "login")


def test_a_missing_middleware_is_named(world: World) -> None:
    """And so is an endpoint that cannot be guarded."""

    @requires()
    async def private(_request: Request) -> Response:
        return Response()

    @requires()
    def nothing() -> None: ...

    with pytest.raises(ConfigurationError, match="add_middleware"):
        TestClient(Starlette(routes=[Route("/", private)])).get("/")
    with pytest.raises(ConfigurationError, match="neither"):
        nothing()


def test_many_lifespans_of_one_application_share_its_sessions() -> None:
    """As in test suites that open the client anew for every test."""
    app = Starlette(routes=ROUTES)
    app.add_middleware(SessionMiddleware, sessions=AsyncSessions("memory://", sinks=()))
    for number in range(3):
        with TestClient(app, base_url="https://testserver") as client:
            client.post("/update_session", json={"n": number})
            assert client.get("/view_session").json() == {"session": {"n": number}}


def test_a_file_of_sessions_serves_one_event_loop_after_another(tmp_path: Path) -> None:
    """The same on SQLite."""
    app = Starlette(routes=ROUTES)
    app.add_middleware(SessionMiddleware, sessions=AsyncSessions(f"sqlite:///{tmp_path / 'sessions.db'}", sinks=()))
    cookies: Any = None
    for number in range(3):
        with TestClient(app, base_url="https://testserver") as client:
            client.cookies = cookies or client.cookies
            client.post("/update_session", json={str(number): number})
            assert len(client.get("/view_session").json()["session"]) == number + 1
            cookies = client.cookies


def test_the_session_is_typed_as_ours(world: World) -> None:
    """`session_of` returns what `request.session` returns, under its own type."""
    found: list[Session] = []

    async def page(request: Request) -> Response:
        found.extend((session_of(request), request.session))  # type: ignore[arg-type]
        return Response()

    client_of(world, [Route("/", page)]).get("/")
    assert type(found[0]) is Session
    assert found[0] is found[1]


@pytest.mark.parametrize(
    ("module", "missing", "extra"), [("starlette", "starlette", "starlette"), ("fastapi", "fastapi", "fastapi")]
)
def test_a_missing_package_is_one_sentence_with_the_line_that_installs_it(
    module: str, missing: str, extra: str
) -> None:
    """Not a traceback about somebody else's module."""
    code = f"import sys; sys.modules[{missing!r}] = None; import sessile.adapters.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'sessile[{extra}]'" in done.stderr.strip().splitlines()[-1]
