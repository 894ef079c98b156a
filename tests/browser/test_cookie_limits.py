"""What a real Chromium keeps of cookies, and that sessions which live in them stay within it, to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from sessile import AsyncSessions
from sessile.adapters.asgi import SessionMiddleware
from sessile.core.cookies import MAX_COOKIE_BYTES
from sessile.core.keys import generate
from sessile.core.sealedcookies import LIMIT, MAX_COOKIES, MOST
from tests.browser.conftest import Serve
from tests.support.requirements import requirement

COOKIE = "__Host-id"
TAIL = "; Path=/; Secure; HttpOnly; SameSite=Lax"


def plain(lines: list[str], received: list[str]) -> Any:
    """Return an application that sets these cookies and notes what comes back."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] in ("http", "lifespan")
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        received.append(dict(scope["headers"]).get(b"cookie", b"").decode())
        headers = [(b"content-type", b"text/plain")]
        if scope["path"] == "/set":
            headers += [(b"set-cookie", line.encode()) for line in lines]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    return application


@requirement("R14")
def test_chromium_keeps_4096_bytes_of_name_and_value_and_drops_one_more(page: Page, serve: Serve) -> None:
    """The number that everything here rests on, for the name of the session and for those of its further parts."""
    names = [COOKIE, f"{COOKIE}.1", f"{COOKIE}.8", f"{COOKIE}.t"]
    for more, kept in ((0, True), (1, False)):
        lines = [f"{name}={'v' * (MAX_COOKIE_BYTES - len(name) + more)}{TAIL}" for name in names]
        received: list[str] = []
        address = serve(plain(lines, received))
        page.context.clear_cookies()
        page.goto(f"{address}/set")
        page.goto(f"{address}/")
        back = dict(pair.split("=") for pair in received[-1].split("; ") if pair)
        assert {name: len(value) for name, value in back.items()} == (
            {name: MAX_COOKIE_BYTES - len(name) for name in names} if kept else {}
        )


def application(**options: Any) -> tuple[Any, list[int]]:
    """Return an application whose session holds as much as it is told to, and the lengths of the Cookie headers."""
    lengths: list[int] = []

    async def view(scope: Any, _receive: Any, send: Any) -> None:
        session = scope["session"]
        path = scope["path"].strip("/")
        if path == "in":
            session.login("ada")
        elif path == "out":
            session.logout()
        elif path.isdigit():
            session["big"] = "x" * int(path)
        lengths.append(len(dict(scope["headers"]).get(b"cookie", b"")))
        found = json.dumps({"user": session.user_id, "big": len(session.get("big", ""))}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": found})

    limit = options.pop("limit", LIMIT)
    url = f"cookie://?revocations=memory://&bytes={limit}"
    return SessionMiddleware(view, sessions=AsyncSessions(url, keys=generate(), **options)), lengths


Seen = Callable[[str], dict[str, Any]]


@pytest.fixture
def see(page: Page) -> Seen:
    """Return what opens an address and reads its JSON; a response that is an error reads as {}."""

    def open_(address: str) -> dict[str, Any]:
        response = page.goto(address)
        assert response is not None
        return response.json() if response.ok else {}  # type: ignore[no-any-return]

    return open_


def jar(context: BrowserContext) -> dict[str, int]:
    """Return the names of the cookies that the browser holds, with the bytes of name and value."""
    return {one["name"]: len(one["name"]) + len(one["value"]) for one in context.cookies()}


@requirement("R14")
@pytest.mark.parametrize("limit", [LIMIT, 15_000, MOST])
def test_the_largest_session_comes_back_whole_and_a_larger_one_changes_nothing(
    context: BrowserContext, see: Seen, serve: Serve, limit: int
) -> None:
    """To the byte: the largest that is let through is held and sent back by the browser; one more is refused aloud."""
    app, lengths = application(limit=limit)
    address = serve(app)
    see(f"{address}/in")
    low, high = 0, limit
    while low < high:
        size = (low + high + 1) // 2
        if see(f"{address}/{size}"):
            low = size
            assert see(address) == {"user": "ada", "big": size}
        else:
            high = size - 1
            assert see(address) == {"user": "ada", "big": low}
    assert see(f"{address}/{low}") == {"user": "ada", "big": low}
    assert see(address) == {"user": "ada", "big": low}
    assert limit - 4 < lengths[-1] <= limit
    cookies = jar(context)
    assert len(cookies) == -(-limit // (MAX_COOKIE_BYTES + 3))
    assert max(cookies.values()) == MAX_COOKIE_BYTES
    if limit == MOST:
        assert len(cookies) == MAX_COOKIES


@requirement("R14", "R18", "R61")
def test_parts_that_are_no_longer_needed_are_gone_and_after_the_sign_out_all_are(
    context: BrowserContext, see: Seen, serve: Serve
) -> None:
    """Grown to four, shrunk to two and to one; a copy of the largest jar is worth nothing after the sign-out."""
    app, _ = application(limit=16_000)
    address = serve(app)
    see(f"{address}/in")
    for size, parts in ((11_000, 4), (4_500, 2), (11_000, 4), (10, 1), (11_000, 4)):
        see(f"{address}/{size}")
        assert set(jar(context)) == {COOKIE, *(f"{COOKIE}.{part}" for part in range(1, parts))}
        assert see(address) == {"user": "ada", "big": size}
    stolen = context.cookies()
    see(f"{address}/out")
    assert jar(context) == {}
    context.add_cookies(stolen)  # type: ignore[arg-type]
    assert see(address) == {"user": None, "big": 0}


@requirement("R44")
def test_a_page_that_only_reads_leaves_the_large_cookies_alone(
    context: BrowserContext, see: Seen, serve: Serve
) -> None:
    """The time of the last use is a small cookie of its own."""
    now = [1_800_000_000.0]
    app, _ = application(clock=lambda: now[0])
    address = serve(app)
    see(f"{address}/in")
    see(f"{address}/4500")
    before = {one["name"]: one["value"] for one in context.cookies()}
    now[0] += 120
    assert see(address)["user"] == "ada"
    after = {one["name"]: one["value"] for one in context.cookies()}
    assert set(after) - set(before) == {f"{COOKIE}.t"}
    assert {name: after[name] for name in before} == before
