"""A real threaded server, many browsers at once: nobody ever sees anybody else's session (invariant 7)."""

from __future__ import annotations

import http.client
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import flask
import pytest
from waitress import wasyncore
from waitress.server import create_server

from sessile import Sessions
from sessile.adapters.flask import Sessile
from sessile.adapters.wsgi import SessionMiddleware
from tests.support.requirements import requirement

CLIENTS = 20
ROUNDS = 15


def wsgi_app(sessions: Sessions) -> WSGIApplication:
    """Return a plain application that says who is there and how often."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        session = environ["sessile.session"]
        start_response("200 OK", [("Content-Type", "text/plain")])
        verb, _, name = environ["PATH_INFO"].strip("/").partition("/")
        if verb == "login":
            session.login(name)
            session["name"] = name
        session["count"] = session.get("count", 0) + 1
        yield f"{session.user_id} {session.get('name')} {session['count']}".encode()

    return SessionMiddleware(app, sessions)


def flask_app(sessions: Sessions) -> WSGIApplication:
    """Return a Flask application that does the same."""
    app = flask.Flask(__name__)
    Sessile(app, sessions=sessions)

    @app.get("/<verb>", defaults={"name": ""})
    @app.get("/<verb>/<name>")
    def view(verb: str, name: str) -> str:
        session: Any = flask.session
        if verb == "login":
            session["user_id"] = name
            session["name"] = name
        session["count"] = session.get("count", 0) + 1
        return f"{session.user_id} {session.get('name')} {session['count']}"

    return app


SERVED = {"wsgi": (wsgi_app, "memory"), "flask": (flask_app, "memory"), "flask-sqlite": (flask_app, "sqlite")}


@pytest.fixture(name="port", params=SERVED)
def fixture_port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """Serve an application with threads, on a free port of loopback."""
    make, store = SERVED[request.param]
    sessions = Sessions("memory://" if store == "memory" else f"sqlite:///{tmp_path}/sessions.db", sinks=())
    server: Any = create_server(
        make(sessions), host="127.0.0.1", port=0, threads=12, clear_untrusted_proxy_headers=True
    )
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            wasyncore.loop(timeout=0.02, map=server._map, count=1)
        server.task_dispatcher.shutdown()
        wasyncore.close_all(server._map)

    thread = threading.Thread(target=serve)
    thread.start()
    yield int(server.effective_port)
    stop.set()
    thread.join(10)
    sessions.close()


def visit(port: int, name: str, barrier: threading.Barrier) -> list[str]:
    """Sign in, come back many times, and return every answer that was not one's own."""
    connection, cookie, wrong = http.client.HTTPConnection("127.0.0.1", port, timeout=30), "", []
    barrier.wait(30)
    for number in range(ROUNDS):
        path = f"/login/{name}" if number == 0 else "/who"
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        response = connection.getresponse()
        text = response.read().decode()
        if text != f"{name} {name} {number + 1}":
            wrong.append(text)
        set_cookie = response.getheader("set-cookie")
        cookie = set_cookie.partition(";")[0] if set_cookie else cookie
    connection.close()
    return wrong


@requirement("R32")
def test_twenty_users_at_once_each_see_their_own_session_and_no_other(port: int) -> None:
    """Threads switch as often as they can, and no answer belongs to anybody else."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        barrier = threading.Barrier(CLIENTS)
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(lambda number: visit(port, f"user{number}", barrier), range(CLIENTS)))
    finally:
        sys.setswitchinterval(interval)
    assert answers == [[] for _ in range(CLIENTS)]
