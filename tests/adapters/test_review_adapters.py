"""What adapters share, attacked: where a redirect may lead, and what a long header may cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, Response, session, stream_with_context

from sessile import AsyncSessions, Sessions
from sessile.adapters import asgi, wsgi
from sessile.adapters.flask import Sessile
from sessile.adapters.replies import Pages, refusal
from sessile.core import cookies
from sessile.core.requests import Facts
from sessile.errors import StepUpRequired
from tests.adapters.asgi_client import Client as AsgiClient
from tests.adapters.wsgi_client import Browser
from tests.support.requirements import requirement


def target(path: str) -> str:
    """Return where the sign-in page is told to go afterwards, for a guarded page at this path."""
    facts = Facts("GET", "https", "app.example", path, "", "", lambda name: "text/html" if name == "accept" else None)
    reply = refusal(StepUpRequired("login"), facts, Pages(login_url="/sign-in"))
    assert reply is not None
    return parse_qs(urlsplit(dict(reply.headers)["location"]).query)["next"][0]


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil.example", "/\r\\evil.example", "/a\\..\\b", ""],
)
def test_a_guarded_path_that_browsers_read_as_another_host_is_not_returned_to(path: str) -> None:
    """`next` is a path of this very host, also as browsers read it: they take a backslash for a slash and drop tabs."""
    assert target(path) == "/"


@pytest.mark.parametrize("path", ["/", "/private", "/a b/ü", "/x/https://evil.example", "/%2f/evil"])
def test_a_path_of_this_host_is_returned_to_as_it_is(path: str) -> None:
    """What names a page of ours survives the way through the sign-in page."""
    assert target(path) == path


@requirement("R6")
def test_a_long_cookie_header_full_of_names_costs_time_in_proportion() -> None:
    """A header that repeats the cookie's name in the midst of other values is refused in one pass over it."""

    def seconds(count: int) -> float:
        header = "x__Host-id=" * count
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            assert cookies.read(header, "__Host-id") is None
            best = min(best, time.perf_counter() - start)
        return best

    # Sixteen times as long: some 16 times as slow, and 256 times if each name copies what stands before it.
    assert seconds(64_000) < 64 * seconds(4_000)


@requirement("R19")
@pytest.mark.parametrize(("length", "cache"), [(None, "no-store"), (b"3", None)])
def test_an_asgi_stream_that_looks_at_the_session_late_is_kept_out_of_caches(
    length: bytes | None, cache: str | None
) -> None:
    """What is made while it is sent may show the session after the headers; what has a length is made already."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            scope["session"].login("ada")
        headers = [] if length is None else [(b"Content-Length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        late = "" if length else str(scope["session"].user_id)
        await send({"type": "http.response.body", "body": late.encode()})

    async def not_modified(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 304, "headers": []})
        await send({"type": "http.response.body"})

    async def check() -> None:
        sessions = AsyncSessions("memory://", sinks=())
        client = AsgiClient(asgi.SessionMiddleware(app, sessions))
        assert (await client.request()).header("cache-control") is None
        await client.request(method="POST")
        got = await client.request()
        assert got.header("cache-control") == cache
        assert got.body == (b"" if length else b"ada")
        client.application = asgi.SessionMiddleware(not_modified, sessions)
        assert (await client.request()).header("cache-control") is None

    asyncio.run(check())


@requirement("R19")
def test_a_wsgi_stream_that_looks_at_the_session_late_is_kept_out_of_caches() -> None:
    """A generator may show the session after its first chunk, when the headers are gone."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["REQUEST_METHOD"] == "POST":
            environ["sessile.session"].login("ada")
            return [b"in"]

        def chunks() -> Iterator[bytes]:
            yield b"hello "
            yield str(environ["sessile.session"].user_id).encode()

        return chunks()

    browser = Browser(wsgi.SessionMiddleware(app, Sessions("memory://", sinks=())))
    assert browser.get("/").header("cache-control") is None
    browser.post("/")
    got = browser.get("/")
    assert (got.text, got.header("cache-control")) == ("hello ada", "no-store")


@requirement("R19")
def test_a_flask_stream_that_looks_at_the_session_late_is_kept_out_of_caches() -> None:
    """`stream_with_context` may show the session when the headers are gone; a page that is made already may not."""
    app = Flask(__name__)
    Sessile(app, "memory://", sinks=())

    def chunks() -> Iterator[str]:
        yield "hello "
        yield str(session.get("user_id"))

    app.add_url_rule("/in", view_func=lambda: session.update(user_id="ada") or "in", methods=["POST"], endpoint="in")
    app.add_url_rule("/stream", view_func=lambda: Response(stream_with_context(chunks())), endpoint="stream")
    app.add_url_rule("/made", view_func=lambda: "made", endpoint="made")
    client, base = app.test_client(), "https://localhost"
    assert "Cache-Control" not in client.get("/stream", base_url=base).headers
    client.post("/in", base_url=base)
    got = client.get("/stream", base_url=base)
    assert (got.text, got.headers["Cache-Control"]) == ("hello ada", "no-store")
    assert "Cache-Control" not in client.get("/made", base_url=base).headers
