"""The Flask cells: a bare Flask route, and what each session layer adds to it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cachelib import SimpleCache
from flask import Flask, session
from flask_session import Session as FlaskSession

from benchmarks import data
from benchmarks.asgi_cells import AGENT, OPTIONS, sessile_cookies
from benchmarks.harness import Cell
from sessile import Sessions
from sessile.adapters.flask import Sessile


def flask_app() -> Flask:
    """Return the application that every cell serves."""
    app = Flask("benchmark")

    @app.get("/plain")
    def plain() -> str:
        return "ok"

    @app.get("/read")
    def read() -> str:
        return str(session.get("user_name", "nobody"))

    @app.get("/write")
    def write() -> str:
        session["hits"] = session.get("hits", 0) + 1
        return "ok"

    @app.get("/fill/<size>")
    def fill(size: str) -> str:
        session.update(data.SMALL if size == "small" else data.LARGE)
        return "ok"

    return app


def environ(path: str, cookie: str | None) -> dict[str, Any]:
    """Return a fresh WSGI environment."""
    made: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "example.org",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "198.51.100.7",
        "HTTP_HOST": "example.org",
        "HTTP_USER_AGENT": AGENT,
        "HTTP_ACCEPT": "text/html,application/xhtml+xml",
        "HTTP_ACCEPT_LANGUAGE": "en-GB,en;q=0.5",
        "HTTP_SEC_FETCH_SITE": "same-origin",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if cookie is not None:
        made["HTTP_COOKIE"] = cookie
    return made


def requester(app: Any, path: str, cookies: list[str] | None) -> Callable[[int], object]:
    """Return what sends requests to the WSGI callable, each with the next of the cookies."""
    jar: Iterator[str | None] = itertools.cycle(cookies) if cookies else itertools.repeat(None)

    def start(status: str, _headers: Any, _info: Any = None) -> Any:
        if not status.startswith("200"):
            raise AssertionError(f"{path} answered {status}")

    def send_all(times: int) -> None:
        for _ in range(times):
            answer = app(environ(path, next(jar)), start)
            for _chunk in answer:
                pass
            close = getattr(answer, "close", None)
            if close is not None:
                close()

    return send_all


def filled(app: Any, size: str, count: int) -> list[str]:
    """Let the application itself fill `count` sessions, and return the cookies that it set."""
    cookies: list[str] = []

    def start(_status: str, headers: Any, _info: Any = None) -> Any:
        cookies.extend("lang=en; " + value.partition(";")[0] for name, value in headers if name.lower() == "set-cookie")

    for _ in range(count):
        list(app(environ(f"/fill/{size}", None), start))
    return cookies


def cells(directory: Path) -> list[Cell]:
    """Return all Flask cells."""
    found = [Cell("flask", "bare", "read", requester(flask_app(), "/plain", None))]

    def add(name: str, app: Any, small: list[str], large: list[str]) -> None:
        forged = [small[0][:-4] + "AAAA"]
        found.extend(
            (
                Cell("flask", name, "read", requester(app, "/read", small)),
                Cell("flask", name, "large", requester(app, "/read", large)),
                Cell("flask", name, "anonymous", requester(app, "/plain", None)),
                Cell("flask", name, "forged", requester(app, "/plain", forged)),
                Cell("flask", name, "write", requester(app, "/write", small)),
            )
        )

    cookie_app = flask_app()
    cookie_app.secret_key = "benchmark-secret"
    add("flask cookie", cookie_app, filled(cookie_app, "small", 50), filled(cookie_app, "large", 10))

    peer = flask_app()
    peer.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache(threshold=10_000), SESSION_PERMANENT=False)
    FlaskSession(peer)
    add("flask-session memory", peer, filled(peer, "small", data.COUNT), filled(peer, "large", data.COUNT))

    for store in ("memory", "sqlite"):
        sessions = Sessions("memory://" if store == "memory" else f"sqlite:///{directory}/flask.db", **OPTIONS)
        ours = flask_app()
        Sessile(ours, sessions=sessions)
        small, large = (
            sessile_cookies(sessions, data.SMALL, data.COUNT),
            sessile_cookies(sessions, data.LARGE, data.COUNT),
        )
        add(f"sessile {store}", ours, small, large)
    return found
