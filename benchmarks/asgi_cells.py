"""The ASGI cells: a bare Starlette route, and what each session layer adds to it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import itsdangerous
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware as StarletteSessions
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starsessions import CookieStore, InMemoryStore, SessionAutoloadMiddleware
from starsessions import SessionMiddleware as Starsessions

from benchmarks import data, floor
from benchmarks.harness import Cell
from sessile import AsyncSessions, Facts, KeyRing, Policy, Sessions
from sessile.adapters.starlette import SessionMiddleware
from sessile.stores import open_store

KEY = KeyRing({0: b"benchmark key, 32 bytes long...."})
# A run takes longer than the minute after which a session that is used is touched: reads are to be reads here.
OPTIONS: Any = {"keys": KEY, "sinks": (), "policy": Policy(touch=1800)}
SECRET = "benchmark-secret"
LOOP = asyncio.new_event_loop()
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def plain(_request: Request) -> PlainTextResponse:
    """Answer without a look at the session."""
    return PlainTextResponse("ok")


async def read(request: Request) -> PlainTextResponse:
    """Answer after reading one key of the session."""
    return PlainTextResponse(request.session.get("user_name", "nobody"))


async def write(request: Request) -> PlainTextResponse:
    """Answer after changing one key of the session."""
    request.session["hits"] = request.session.get("hits", 0) + 1
    return PlainTextResponse("ok")


def starlette() -> Starlette:
    """Return the application that every cell serves."""
    return Starlette(
        routes=[Route("/plain", plain), Route("/read", read), Route("/write", write, methods=["GET", "POST"])]
    )


def requester(app: Any, path: str, cookies: list[str] | None, method: str = "GET") -> Callable[[int], object]:
    """Return what sends requests to the ASGI callable, each with the next cookie; on one loop, without a server."""
    jar: Iterator[str | None] = itertools.cycle(cookies) if cookies else itertools.repeat(None)
    base = [
        (b"host", b"example.org"),
        (b"user-agent", AGENT.encode()),
        (b"accept", b"text/html,application/xhtml+xml"),
        (b"accept-language", b"en-GB,en;q=0.5"),
        (b"accept-encoding", b"gzip, deflate, br"),
        (b"sec-fetch-site", b"same-origin"),
    ]

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise AssertionError(f"{path} answered {message['status']}")

    async def send_all(times: int) -> None:
        for _ in range(times):
            cookie = next(jar)
            headers = list(base) if cookie is None else [*base, (b"cookie", cookie.encode())]
            scope = {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": method,
                "scheme": "https",
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "root_path": "",
                "headers": headers,
                "client": ("198.51.100.7", 4711),
                "server": ("example.org", 443),
            }
            await app(scope, receive, send)

    return lambda times: LOOP.run_until_complete(send_all(times))


def run(coroutine: Any) -> Any:
    """Run a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def sessile_cookies(sessions: Sessions, values: dict[str, Any], count: int, *, sign_in: bool = True) -> list[str]:
    """Create sessions through the blocking door and return their Cookie headers."""
    facts = Facts("GET", "https", "example.org", "/", "198.51.100.7", "", {"user-agent": AGENT}.get)
    cookies: list[str] = []
    for number in range(count):
        session = sessions.open(facts)
        if sign_in:
            session.login(number)
        session.update(values)
        answer = sessions.commit(session)
        lines = [str(answer.cookie), *answer.more]
        cookies.append("; ".join(["lang=en", *(line.partition(";")[0] for line in lines)]))
    return cookies


def cells(directory: Path) -> list[Cell]:
    """Return all ASGI cells."""
    found = [Cell("asgi", "bare", "read", requester(starlette(), "/plain", None))]

    def add(name: str, app: Any, small: list[str], large: list[str], forged: list[str], large_app: Any = None) -> None:
        found.extend(
            (
                Cell("asgi", name, "read", requester(app, "/read", small)),
                Cell("asgi", name, "large", requester(large_app or app, "/read", large)),
                Cell("asgi", name, "anonymous", requester(app, "/plain", None)),
                Cell("asgi", name, "forged", requester(app, "/plain", forged)),
            )
        )
        found.append(Cell("asgi", name, "write", requester(app, "/write", small)))

    forged_token = ["lang=en; __Host-id=" + "A" * 63]
    jars: dict[str, list[str]] = {}
    for store in ("memory", "sqlite"):
        apps: dict[str, Any] = {}
        # Small and large sessions in stores of their own, as the floor has them: what is read stays in SQLite's cache.
        for size, values in (("small", data.SMALL), ("large", data.LARGE)):
            path = f"sqlite:///{directory}/asgi-{size}.db"
            held: Any = open_store("memory://", blocking=True) if store == "memory" else path
            filling = Sessions(held, **OPTIONS)
            jars[size] = sessile_cookies(filling, values, data.COUNT)
            if store == "sqlite":
                filling.close()  # as the floor's file: what was filled in is no longer in the write-ahead log
            sessions = AsyncSessions(held, **OPTIONS)
            LOOP.run_until_complete(sessions.stats())  # opens the file, which an event loop does on a thread
            apps[size] = SessionMiddleware(starlette(), sessions=sessions)
        add(f"sessile {store}", apps["small"], jars["small"], jars["large"], forged_token, apps["large"])

    for name, ends, count in (
        ("no ends", "", data.COUNT),
        ("ends in memory", "&revocations=memory://", data.COUNT),
        ("ends in SQLite", f"&revocations=sqlite:///{directory}/ends.db", data.COUNT),
        ("ends in memory, many sessions", "&revocations=memory://", 8 * data.COUNT),
    ):
        filling = Sessions(f"cookie://?bytes=20000{ends}", **OPTIONS)
        own = filling.engine.store if "memory" in ends else f"cookie://?bytes=20000{ends}"
        small = sessile_cookies(filling, data.SMALL, count)
        large = sessile_cookies(filling, data.LARGE, data.COUNT)
        app = SessionMiddleware(starlette(), sessions=AsyncSessions(own, **OPTIONS))
        add(f"sessile cookie, {name}", app, small, large, [_altered(small[0])])

    signed = [_starlette_cookie(data.SMALL)] * data.COUNT
    signed_large = [_starlette_cookie(data.LARGE)] * data.COUNT
    app = StarletteSessions(starlette(), secret_key=SECRET, https_only=True)
    add("starlette cookie", app, signed, signed_large, [signed[0][:-3] + "AAA"])

    for name, store_object in (
        ("starsessions memory", InMemoryStore()),
        ("starsessions cookie", CookieStore(secret_key=SECRET)),
    ):
        add(name, *starsessions_app(store_object))

    *small_store, tokens = floor.memory(data.SMALL, data.COUNT)
    *large_store, tokens_large = floor.memory(data.LARGE, data.COUNT)
    floors = [("memory", small_store, large_store, _floor(tokens), _floor(tokens_large))]
    files = [floor.sqlite(directory / f"asgi-{size}.db") for size in ("small", "large")]
    floors.append(("sqlite", list(files[0]), list(files[1]), jars["small"], jars["large"]))
    for name, small_parts, large_parts, small, large in floors:
        small_app = floor.FloorMiddleware(starlette(), *small_parts)
        large_app = floor.FloorMiddleware(starlette(), *large_parts)
        found.extend(
            (
                Cell("asgi", f"floor {name}", "read", requester(small_app, "/read", small)),
                Cell("asgi", f"floor {name}", "write", requester(small_app, "/write", small)),
                Cell("asgi", f"floor {name}", "large", requester(large_app, "/read", large)),
                Cell("asgi", f"floor {name}", "anonymous", requester(small_app, "/plain", None)),
                Cell("asgi", f"floor {name}", "forged", requester(small_app, "/plain", forged_token)),
            )
        )
    return found


def _altered(header: str) -> str:
    return header[:-6] + ("AAAAAA" if header[-6:] != "AAAAAA" else "BBBBBB")


def _floor(tokens: list[str]) -> list[str]:
    return [f"lang=en; __Host-id={token}" for token in tokens]


def _starlette_cookie(values: dict[str, Any]) -> str:
    signer = itsdangerous.TimestampSigner(SECRET)
    return "lang=en; session=" + signer.sign(base64.b64encode(json.dumps(values).encode())).decode()


def starsessions_app(
    store: Any, write: Callable[[str, bytes], str] | None = None
) -> tuple[Any, list[str], list[str], list[str]]:
    """Return the application, and cookies for the small and the large session, and a forged one.

    `write` fills a store that waits.
    """
    inner = SessionAutoloadMiddleware(starlette())
    app = Starsessions(inner, store=store, lifetime=3600, rolling=False, cookie_https_only=True)
    cookies: dict[str, list[str]] = {}
    for name, values in (("small", data.SMALL), ("large", data.LARGE)):
        listed: list[str] = []
        for number in range(10 if isinstance(store, CookieStore) else data.COUNT):
            raw = json.dumps(values).encode()
            key = f"{name}{number:028}"
            key = run(store.write(key, raw, 3600, 3600)) if write is None else write(key, raw)
            listed.append(f"lang=en; session={key}")
        cookies[name] = listed
    return app, cookies["small"], cookies["large"], ["lang=en; session=" + "A" * 32]
