"""Django behind a real threaded server: browsers at once, each with its own session and no other (invariant 7)."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import django_project

django_project.configure()

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from waitress import wasyncore  # noqa: E402
from waitress.server import create_server  # noqa: E402

from sessile.adapters.django import sessions  # noqa: E402
from tests.support.requirements import requirement  # noqa: E402

ROUNDS = 15


def who(request: HttpRequest, name: str = "") -> HttpResponse:
    """Sign in if a name is given, count, and say who is there."""
    session: Any = request.session
    if name:
        session["_auth_user_id"] = name
    session["count"] = session.get("count", 0) + 1
    return HttpResponse(f"{session.user_id} {session['count']}")


def end(request: HttpRequest) -> HttpResponse:
    """Sign out."""
    request.session.flush()
    return HttpResponse("ended")


@pytest.fixture(name="port", params=["memory", "sqlite"])
def fixture_port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """Serve the project with threads, on a free port of loopback."""
    store = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    django_project.use(store=store, sinks=())
    with override_settings(ROOT_URLCONF=_Pages(), MIDDLEWARE=[django_project.OURS]):
        server: Any = create_server(
            WSGIHandler(), host="127.0.0.1", port=0, threads=8, clear_untrusted_proxy_headers=True
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
    sessions().close()


class _Pages:
    """Be a module of URL patterns."""

    urlpatterns = [path("in/<name>", who), path("who", who), path("out", end)]


class Browser:
    """Send requests over one connection, and keep the cookie."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.cookie = ""

    def get(self, page: str) -> str:
        self._connection.request("GET", page, headers={"Cookie": self.cookie} if self.cookie else {})
        response = self._connection.getresponse()
        found = response.getheader("set-cookie")
        if found is not None:
            assert "Secure" in found
            assert "HttpOnly" in found
            assert "SameSite=Lax" in found
            self.cookie = found.strip().partition(";")[0]
        return response.read().decode()

    def close(self) -> None:
        self._connection.close()


def visit(port: int, name: str) -> list[str]:
    """Sign in, come back many times, and return what was answered."""
    browser = Browser(port)
    answers = [browser.get(f"/in/{name}"), *(browser.get("/who") for _ in range(ROUNDS))]
    browser.close()
    return answers


@requirement("R32")
def test_browsers_at_once_each_see_their_own_session(port: int) -> None:
    """Threads take turns, and no answer belongs to anybody else."""
    names = [f"user{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        answers = dict(zip(names, pool.map(lambda name: visit(port, name), names), strict=True))
    assert answers == {name: [f"{name} {count + 1}" for count in range(ROUNDS + 1)] for name in names}


@requirement("R61")
def test_a_sign_out_in_one_browser_kills_the_copy_in_the_other_and_leaves_others_alone(port: int) -> None:
    """The thief's copy is nobody's from then on."""
    ada, grace, thief = Browser(port), Browser(port), Browser(port)
    ada.get("/in/ada")
    grace.get("/in/grace")
    thief.cookie = ada.cookie
    assert thief.get("/who") == "ada 2"
    assert ada.get("/out") == "ended"
    assert ada.cookie == "__Host-id="
    assert thief.get("/who").startswith("None ")
    assert grace.get("/who") == "grace 2"
    for browser in (ada, grace, thief):
        browser.close()
