"""What adapters send, attacked: caches of other names, late writers, doors in doors, answers that forget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, request, session

from sessile import AsyncSessions, ConfigurationError, CookieRules, Sessions
from sessile.adapters import asgi, wsgi
from sessile.adapters.flask import Sessile
from sessile.errors import StepUpRequired
from tests.adapters.asgi_client import Client as AsgiClient
from tests.adapters.asgi_client import make_scope
from tests.adapters.wsgi_client import COOKIE, Browser, call, make_environ
from tests.support.requirements import requirement

Do = Callable[[Any], None]
Heads = list[tuple[str, str]]
FOR_A_CDN = (
    "CDN-Cache-Control",
    "Cloudflare-CDN-Cache-Control",
    "Surrogate-Control",
    "X-Accel-Expires",
    "Edge-Control",
)


class Site:
    """Be one application in one framework: each path does what the test says, with the session."""

    def __init__(self, kind: str, views: dict[str, Do], said: Heads) -> None:
        self.kind = kind
        self.views = views
        self.said = said
        self.alive: Callable[[str], int] = lambda _user: 0
        self.send = getattr(self, f"_{kind}")()

    def _asgi(self) -> Callable[[str], Any]:
        sessions = AsyncSessions(sinks=())

        async def app(scope: Any, _receive: Any, send: Any) -> None:
            self.views[scope["path"]](scope["session"])
            headers = [(name.lower().encode(), value.encode()) for name, value in self.said]
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2"), *headers]})
            await send({"type": "http.response.body", "body": b"ok"})

        client = AsgiClient(asgi.SessionMiddleware(app, sessions))
        self.alive = lambda user: len(asyncio.run(sessions.of_user(user)))
        return lambda path: asyncio.run(client.request(path, "POST"))

    def _wsgi(self) -> Callable[[str], Any]:
        sessions = Sessions(sinks=())

        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            self.views[environ["PATH_INFO"]](environ["sessile.session"])
            start_response("200 OK", [("Content-Length", "2"), *self.said])
            return [b"ok"]

        self.alive = lambda user: len(sessions.of_user(user))
        return Browser(wsgi.SessionMiddleware(app, sessions)).post

    def _flask(self) -> Callable[[str], Any]:
        sessions = Sessions(sinks=())
        app = Flask("site")
        Sessile(app, sessions=sessions)

        @app.post("/<name>")
        def view(name: str) -> Response:
            self.views[f"/{name}"](session)
            return Response("ok", headers=self.said)

        self.alive = lambda user: len(sessions.of_user(user))
        return Browser(app).post


@pytest.fixture(params=["asgi", "wsgi", "flask"])
def site(request: pytest.FixtureRequest) -> Site:
    """Return an application in each framework; a test fills in what it does."""
    return Site(request.param, {}, [])


def status_of(got: Any) -> int:
    """Return the status of a response of either kind."""
    return int(got.status) if isinstance(got.status, int) else int(got.code)


def cached_elsewhere(got: Any) -> list[str]:
    """Return what a response still says to caches of other names."""
    return [name for name in FOR_A_CDN if got.all(name.lower())]


@requirement("R19")
def test_caches_that_listen_to_headers_of_their_own_are_told_nothing_else(site: Site) -> None:
    """CDNs and nginx take these before Cache-Control: a page of one user would be everybody's."""
    site.said[:] = [(name, "max-age=600") for name in FOR_A_CDN]
    site.views.update(
        {"/in": lambda one: one.login("ada"), "/look": lambda one: one.get("x"), "/plain": lambda _one: None}
    )
    for path in ("/in", "/look"):
        got = site.send(path)
        assert got.header("cache-control") == "no-store"
        assert cached_elsewhere(got) == []
    assert cached_elsewhere(site.send("/plain")) == list(FOR_A_CDN)


class TestStepUp:
    """A page that asks for a proof is a response like any other: what was done before it is done."""

    @requirement("R61")
    def test_a_sign_out_before_the_question_who_it_is_ends_the_session(self, site: Site) -> None:
        """Who is sent to the sign-in page believes to be signed out: the token must be dead."""

        def leave(one: Any) -> None:
            one.logout()
            one.require()

        site.views.update({"/in": lambda one: one.login("ada"), "/leave": leave})
        site.send("/in")
        assert site.alive("ada") == 1
        got = site.send("/leave")
        assert status_of(got) == 401
        assert site.alive("ada") == 0
        [line] = got.all("set-cookie")
        assert "Max-Age=0" in line
        assert got.header("cache-control") == "no-store"

    @requirement("R88")
    def test_a_sign_in_that_waits_for_a_factor_survives_the_question_for_it(self, site: Site) -> None:
        """Else the page for the second factor would not know whose it is."""
        seen: list[str | None] = []

        def begin(one: Any) -> None:
            one.login("ada", pending=True)
            one.require()

        site.views.update({"/begin": begin, "/second": lambda one: seen.append(one.pending_user_id)})
        assert status_of(site.send("/begin")) == 401
        site.send("/second")
        assert seen == ["ada"]

    @requirement("R45")
    def test_other_errors_of_the_view_still_store_nothing(self) -> None:
        """A crash is no response: what it did is not done."""
        site = Site("asgi", {}, [])

        def crash(one: Any) -> None:
            one.login("ada")
            raise RuntimeError("in the midst of it")

        site.views["/crash"] = crash
        with pytest.raises(RuntimeError):
            site.send("/crash")
        assert site.alive("ada") == 0


class TestWsgi:
    """Old and unusual applications behind the WSGI middleware."""

    @requirement("R19")
    def test_an_application_that_writes_its_body_may_look_late_and_is_not_cached(self) -> None:
        """`write` sends the headers with the first piece; what looks at the session afterwards is part of the page."""

        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            one = environ["sessile.session"]
            if environ["PATH_INFO"] == "/in":
                one.login("ada")
                start_response("200 OK", [])
                return []
            write = start_response("200 OK", [("Cache-Control", "public, max-age=600")])
            write(b"hello ")
            write(str(one.user_id).encode())
            return []

        browser = Browser(wsgi.SessionMiddleware(app, Sessions(sinks=())))
        browser.get("/in")
        page = browser.get("/page")
        assert page.text == "hello ada"
        assert page.header("cache-control") == "no-store"

    def test_two_doors_with_one_cookie_are_refused(self) -> None:
        """The inner one would not know the tokens of the outer one, and both would set the same cookie."""
        inner = wsgi.SessionMiddleware(lambda _environ, _start: [], Sessions(sinks=()))
        outer = wsgi.SessionMiddleware(inner, Sessions(sinks=()))
        with pytest.raises(ConfigurationError, match=COOKIE):
            call(outer, make_environ())

    def test_two_doors_with_two_cookies_work_side_by_side(self) -> None:
        """And the same door twice is one."""

        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            environ["outer"]["a"] = 1
            environ["inner"]["b"] = 2
            start_response("200 OK", [])
            return [b"ok"]

        first, second = Sessions(sinks=()), Sessions(sinks=(), cookie=CookieRules("__Host-two"))
        nested = wsgi.SessionMiddleware(app, second, environ_key="inner")
        nested = wsgi.SessionMiddleware(nested, first, environ_key="unused")
        got = call(wsgi.SessionMiddleware(nested, first, environ_key="outer"), make_environ())
        assert sorted(line.partition("=")[0] for line in got.all("set-cookie")) == ["__Host-id", "__Host-two"]


class TestAsgi:
    """Servers and applications that read the specification closely."""

    @pytest.mark.parametrize("path", ["/in", "/look"])
    def test_headers_that_can_be_read_only_once_all_arrive(self, path: str) -> None:
        """The specification asks for an iterable, not for a list."""

        def headers() -> Iterator[tuple[bytes, bytes]]:
            yield b"content-security-policy", b"default-src 'self'"

        async def app(scope: Any, _receive: Any, send: Any) -> None:
            if scope["path"] == "/in":
                scope["session"].login("ada")
            await send({"type": "http.response.start", "status": 200, "headers": headers()})
            await send({"type": "http.response.body", "body": b""})

        client = AsgiClient(asgi.SessionMiddleware(app, AsyncSessions(sinks=())))

        async def visit() -> Any:
            await client.request("/in")
            return await client.request(path)

        got = asyncio.run(visit())
        assert got.header("content-security-policy") == "default-src 'self'"
        assert got.header("cache-control") == "no-store"

    @pytest.mark.parametrize(
        ("path", "whole", "below"),
        [
            ("/app/hook", "/app/hook", "/hook"),
            ("/app", "/app", ""),
            ("/application", "/app/application", "/application"),
            ("/hook", "/app/hook", "/hook"),
        ],
    )
    @requirement("R22")
    def test_a_mount_ends_at_a_segment(self, path: str, whole: str, below: str) -> None:
        """`/application` is not below `/app`: neither an exempt path nor a passive one may be read into it."""
        passive = asgi.SessionMiddleware(_nothing, AsyncSessions(sinks=()), passive_paths=[below or "/"])
        facts = passive.read_facts(make_scope(path, root_path="/app"))
        assert facts.path == whole
        assert facts.passive is bool(below)


async def _nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    """Be an application that is never asked."""


class TestFlask:
    """What runs in Flask before a view does."""

    @requirement("R22")
    def test_nothing_of_the_application_runs_for_a_request_from_another_site(self) -> None:
        """`url_value_preprocessor` functions come before those of `before_request`, and load users in some projects."""
        app = Flask("guarded")
        ran: list[str] = []
        app.config["TRAP_HTTP_EXCEPTIONS"] = True
        Sessile(app, sessions=Sessions(sinks=()))
        app.url_value_preprocessor(lambda _endpoint, _values: ran.append("preprocessor"))
        app.before_request(lambda: ran.append("before"))
        app.errorhandler(Exception)(lambda error: ran.append("handler") or (str(error), 500))
        app.add_url_rule("/act", view_func=lambda: ran.append("view") or "done", methods=["POST"])
        got = Browser(app).post("/act", sec_fetch_site="cross-site")
        assert got.code == 403
        assert ran == []
        assert Browser(app).post("/act").text == "done"
        assert ran == ["preprocessor", "before", "view"]

    @requirement("R22")
    def test_an_unknown_path_from_another_site_is_refused_before_it_is_unknown(self) -> None:
        """The answer tells other sites nothing of the paths there are."""
        app = Flask("guarded")
        Sessile(app, sessions=Sessions(sinks=()))
        assert Browser(app).post("/nowhere", sec_fetch_site="cross-site").code == 403
        assert Browser(app).post("/nowhere").code == 404

    def test_the_applications_own_handler_still_answers_a_question_for_a_proof(self) -> None:
        """Whoever registers a handler answers otherwise."""
        app = Flask("own")
        Sessile(app, sessions=Sessions(sinks=()))

        @app.get("/private")
        def private() -> str:
            session["before"] = request.path
            raise StepUpRequired("login")

        @app.errorhandler(StepUpRequired)
        def ask(_error: StepUpRequired) -> tuple[str, int]:
            return "who are you?", 418

        browser = Browser(app)
        assert browser.get("/private").code == 418
        assert browser.token
