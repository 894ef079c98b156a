"""The cells of stores behind a socket: Redis beside its peers and beside one bare GET of the same bytes.

All of them talk to one redis-server of this run's own, over one unix-free loopback port. A bare GET is measured as its
own family, whose "bare" cell is an empty loop: what a session adds may then be compared with the command itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
from flask_session import Session as FlaskSession
from starsessions.stores.redis import RedisStore as StarsessionsRedis

from benchmarks import data
from benchmarks.asgi_cells import LOOP, OPTIONS, requester, run, sessile_cookies, starlette, starsessions_app
from benchmarks.harness import Cell
from benchmarks.wsgi_cells import filled, flask_app
from benchmarks.wsgi_cells import requester as wsgi_requester
from sessile import AsyncSessions, Sessions
from sessile.adapters.flask import Sessile
from sessile.adapters.starlette import SessionMiddleware
from sessile.adapters.wsgi import SessionMiddleware as WsgiMiddleware
from sessile.core.ids import session_id
from sessile.stores import open_store

TOGETHER = 50


def plain_wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with a name of the session's, if there is one."""
    session = environ.get("sessile.session")
    if environ["PATH_INFO"] == "/write":
        session["hits"] = session.get("hits", 0) + 1
    name = session.get("user_name", "nobody") if session is not None and environ["PATH_INFO"] == "/read" else "ok"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(name).encode()]


def cells(port: int) -> list[Cell]:
    """Return the cells that need the redis-server on `port`."""
    url = f"redis://127.0.0.1:{port}/0?timeout=5"
    found: list[Cell] = []
    found += _blocking(url, port)
    found += _asynchronous(url, port)
    return found


def _blocking(url: str, port: int) -> list[Cell]:
    sessions = Sessions(url, **OPTIONS)
    small = sessile_cookies(sessions, data.SMALL, data.COUNT)
    large = sessile_cookies(sessions, data.LARGE, data.COUNT)
    ours = WsgiMiddleware(plain_wsgi, sessions)
    near = WsgiMiddleware(plain_wsgi, Sessions(url + "&cache=near", **OPTIONS))
    forged = ["lang=en; __Host-id=" + "A" * 63]
    client = redis.Redis(port=port)
    keys = _copies(client, data.COUNT)

    def get(times: int) -> None:
        for _ in range(times):
            client.get(next(keys))

    near_requests = wsgi_requester(near, "/read", small[:200])
    near_requests(200)
    stores = {name: open_store(url + more, blocking=True) for name, more in (("", ""), (", near cache", "&cache=near"))}
    ids = itertools.cycle([_sid(cookie) for cookie in small[:200]])

    def loads(name: str) -> Callable[[int], object]:
        load = stores[name].load

        def some(times: int) -> None:
            for _ in range(times):
                run(load(next(ids)))

        some(200)
        return some

    found = [
        Cell("wsgi", "bare", "read", wsgi_requester(plain_wsgi, "/plain", None)),
        Cell("wsgi", "sessile redis", "read", wsgi_requester(ours, "/read", small)),
        Cell("wsgi", "sessile redis", "write", wsgi_requester(ours, "/write", small)),
        Cell("wsgi", "sessile redis", "large", wsgi_requester(ours, "/read", large)),
        Cell("wsgi", "sessile redis", "anonymous", wsgi_requester(ours, "/plain", None)),
        Cell("wsgi", "sessile redis", "forged", wsgi_requester(ours, "/plain", forged)),
        Cell("wsgi", "sessile redis, near cache", "read", near_requests, warm=200),
        Cell("redis", "bare", "read", _nothing),
        Cell("redis", "redis-py GET", "read", get),
        *(Cell("redis", f"load of sessile{name}", "read", loads(name), warm=200) for name in stores),
    ]
    flask_ours = flask_app()
    Sessile(flask_ours, sessions=sessions)
    peer = flask_app()
    peer.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis(port=port), SESSION_PERMANENT=False)
    FlaskSession(peer)
    for name, app, cookies in (
        ("sessile redis", flask_ours, small),
        ("flask-session redis", peer, filled(peer, "small", data.COUNT)),
    ):
        found += [
            Cell("flask", name, "read", wsgi_requester(app, "/read", cookies)),
            Cell("flask", name, "write", wsgi_requester(app, "/write", cookies)),
            Cell("flask", name, "forged", wsgi_requester(app, "/plain", [cookies[0][:-4] + "AAAA"])),
        ]
    return found


def _asynchronous(url: str, port: int) -> list[Cell]:
    filling = Sessions(url, **OPTIONS)
    cookies = sessile_cookies(filling, data.SMALL, data.COUNT)
    large = sessile_cookies(filling, data.LARGE, data.COUNT)
    ours = SessionMiddleware(starlette(), sessions=AsyncSessions(url, **OPTIONS))
    near = SessionMiddleware(starlette(), sessions=AsyncSessions(url + "&cache=near", **OPTIONS))
    forged = ["lang=en; __Host-id=" + "A" * 63]
    found = [
        Cell("asgi", "sessile redis", "read", requester(ours, "/read", cookies)),
        Cell("asgi", "sessile redis", "write", requester(ours, "/write", cookies)),
        Cell("asgi", "sessile redis", "large", requester(ours, "/read", large)),
        Cell("asgi", "sessile redis", "anonymous", requester(ours, "/plain", None)),
        Cell("asgi", "sessile redis", "forged", requester(ours, "/plain", forged)),
    ]
    for number in (100, data.COUNT):
        name = f"sessile redis, near cache of {number:,}"
        requests = requester(near, "/read", cookies[:number])
        requests(number)  # what is measured is a hit
        found.append(Cell("asgi", name, "read", requests, warm=number))
    peer = StarsessionsRedis(f"redis://127.0.0.1:{port}/0")
    app, small, _, refused = starsessions_app(
        peer, lambda key, raw: str(LOOP.run_until_complete(peer.write(key, raw, 3600, 3600)))
    )
    found += [
        Cell("asgi", "starsessions redis", "read", requester(app, "/read", small)),
        Cell("asgi", "starsessions redis", "write", requester(app, "/write", small)),
        Cell("asgi", "starsessions redis", "forged", requester(app, "/plain", refused)),
    ]
    client = redis.asyncio.Redis(port=port)
    keys = _copies(redis.Redis(port=port), data.COUNT)
    ids = itertools.cycle([_sid(cookie) for cookie in cookies])
    store = open_store(url, blocking=False)
    some_ids = {number: itertools.cycle([_sid(cookie) for cookie in cookies[:number]]) for number in (100, data.COUNT)}
    stores = {
        "": (store, some_ids[data.COUNT]),
        **{
            f", near cache of {number:,}": (open_store(url + "&cache=near", blocking=False), some_ids[number])
            for number in some_ids
        },
    }

    def loads(name: str) -> Callable[[int], object]:
        load, cycle = stores[name][0].load, stores[name][1]

        async def some(times: int) -> None:
            for _ in range(times):
                await load(next(cycle))

        LOOP.run_until_complete(some(data.COUNT))
        return lambda times: LOOP.run_until_complete(some(times))

    async def get(times: int) -> None:
        for _ in range(times):
            await client.get(next(keys))

    async def gets_together(times: int) -> None:
        for _ in range(max(1, times // TOGETHER)):
            await asyncio.gather(*(client.get(next(keys)) for _ in range(TOGETHER)))

    async def loads_together(times: int) -> None:
        for _ in range(max(1, times // TOGETHER)):
            await asyncio.gather(*(store.load(next(ids)) for _ in range(TOGETHER)))

    def rounded(step: Callable[[int], Any]) -> Callable[[int], object]:
        """Serve whole groups, so that the time of one is that of a fiftieth."""
        return lambda times: LOOP.run_until_complete(step(-(-times // TOGETHER) * TOGETHER))

    return [
        *found,
        Cell("redis", "redis.asyncio GET", "read", lambda times: LOOP.run_until_complete(get(times))),
        *(Cell("redis", f"load of sessile on the loop{name}", "read", loads(name), warm=1000) for name in stores),
        Cell("redis together", "bare", "read", _nothing),
        Cell("redis together", "50 redis.asyncio GETs", "read", rounded(gets_together)),
        Cell("redis together", "50 loads of sessile", "read", rounded(loads_together)),
    ]


def _nothing(times: int) -> None:
    for _ in range(times):
        pass


def _sid(cookie: str) -> str:
    from base64 import urlsafe_b64decode

    return session_id(urlsafe_b64decode(cookie.rpartition("=")[2] + "=")[1:21])


def _copies(client: Any, count: int) -> itertools.cycle[str]:
    """Copy sessions of ours under names of their own, so that a bare GET fetches the same bytes."""
    names: list[str] = []
    for number, key in enumerate(client.scan_iter("sessile:*}s*", count=1000)):
        if number == count:
            break
        name = f"copy:{number}"
        client.set(name, client.get(key))
        names.append(name)
    return itertools.cycle(names)


def memory_per_session(port: int, count: int = 10_000) -> dict[str, float]:
    """Return bytes a session takes in Redis: ours, ours with a user, and Flask-Session's with the same data."""
    client = redis.Redis(port=port)
    taken: dict[str, float] = {}

    def used() -> int:
        return int(client.info("memory")["used_memory"])

    def measured(name: str, fill: Callable[[], object]) -> None:
        client.flushall()
        before = used()
        fill()
        taken[name] = (used() - before) / count

    sessions = Sessions(f"redis://127.0.0.1:{port}/0", **OPTIONS)
    peer = flask_app()
    peer.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis(port=port), SESSION_PERMANENT=False)
    FlaskSession(peer)
    filled(peer, "small", 1)
    sessile_cookies(sessions, data.SMALL, 1)
    measured("flask-session redis", lambda: filled(peer, "small", count))
    measured("sessile redis", lambda: sessile_cookies(sessions, data.SMALL, count, sign_in=False))
    measured("sessile redis, signed in", lambda: sessile_cookies(sessions, data.SMALL, count))
    sessions.close()
    client.flushall()
    return taken
