"""Django with sessions that live in cookies: saves in the midst of a view, both doors, the admin's own idioms."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import django_project

django_project.configure()

from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.test import AsyncClient, Client  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.urls import path  # noqa: E402

from sessile.adapters.django import async_sessions, sessions  # noqa: E402
from sessile.core.cookieengine import CookieEngine  # noqa: E402
from sessile.core.keys import generate  # noqa: E402
from tests.support.requirements import requirement  # noqa: E402

COOKIE = "__Host-id"
KEYS = generate()


def state(request: HttpRequest) -> HttpResponse:
    """Say what the session is."""
    session: Any = request.session
    return JsonResponse({"user": session.user_id, "data": {key: len(str(session[key])) for key in session}})


def put(request: HttpRequest, key: str, size: int) -> HttpResponse:
    """Write one key."""
    request.session[key] = "x" * size
    return HttpResponse("put")


def save(request: HttpRequest, first: int, second: int) -> HttpResponse:
    """Save, look, change, save again, write on: three commits, one response."""
    session: Any = request.session
    session["a"] = "x" * first
    session.save()
    assert len(session["a"]) == first
    assert len(session.load()["a"]) == first
    session["a"] = "x" * second
    session.save()
    session["late"] = "x"
    return HttpResponse("saved")


def enter(request: HttpRequest) -> HttpResponse:
    """Save, sign in, save."""
    session: Any = request.session
    session["before"] = "x"
    session.save()
    session.login("ada")
    session.save()
    session["after"] = "x"
    return HttpResponse("in")


def leave(request: HttpRequest) -> HttpResponse:
    """Sign out in the midst, and write a farewell."""
    session: Any = request.session
    session.flush()
    session.save()
    session["farewell"] = "x"
    return HttpResponse("out")


def short(request: HttpRequest) -> HttpResponse:
    """Let the session end a minute after its last use."""
    request.session.set_expiry(60)
    return HttpResponse("short")


urlpatterns = [
    path("", state),
    path("put/<str:key>/<int:size>/", put),
    path("save/<int:first>/<int:second>/", save),
    path("enter/", enter),
    path("leave/", leave),
    path("short/", short),
]


class Clock:
    """Stand still until told."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock", params=["cookie://?revocations=memory://", "cookie://"], ids=["ends", "no ends"])
def fixture_clock(request: pytest.FixtureRequest) -> Iterator[Clock]:
    """Use sessions that live in cookies."""
    clock = Clock()
    django_project.use(store=request.param, keys=KEYS, clock=clock)
    with override_settings(ROOT_URLCONF=__name__):
        yield clock
    sessions().close()
    django_project.use(store="memory://")


def data(client: Client) -> dict[str, int]:
    """Return the keys and the sizes of what the session holds."""
    found: dict[str, int] = client.get("/", secure=True).json()["data"]
    return found


@requirement("R14", "R42")
class TestSaves:
    """`save()` stores in the midst of a request: what follows sees it, and the response tells it once."""

    @pytest.mark.usefixtures("clock")
    @pytest.mark.parametrize(("first", "second"), [(10, 20), (10, 4_500), (4_500, 10), (4_500, 4_600)])
    def test_the_last_one_is_what_the_browser_gets(self, first: int, second: int) -> None:
        """Grown or shrunk between two saves, all cookies of the response belong to the last write."""
        client = Client()
        for _ in range(2):
            response = client.get(f"/save/{first}/{second}/", secure=True)
            assert response.status_code == 200
            assert data(client) == {"a": second, "late": 1}
        live = {name: morsel.value for name, morsel in client.cookies.items() if morsel.value}
        assert set(live) == ({COOKIE} if second < 3_000 else {COOKIE, f"{COOKIE}.1"})

    @pytest.mark.usefixtures("clock")
    def test_a_sign_in_between_two_saves_is_kept(self) -> None:
        """What was written before, and after, under the new id."""
        client = Client()
        client.get("/put/big/4500/", secure=True)
        client.get("/enter/", secure=True)
        found = client.get("/", secure=True).json()
        assert found == {"user": "ada", "data": {"big": 4_500, "before": 1, "after": 1}}

    @pytest.mark.usefixtures("clock")
    def test_a_sign_out_between_two_saves_leaves_the_farewell_alone(self) -> None:
        """The old cookies go, all of them; the new session is nobody's."""
        client = Client()
        client.get("/put/big/4500/", secure=True)
        client.get("/enter/", secure=True)
        client.get("/leave/", secure=True)
        assert client.get("/", secure=True).json() == {"user": None, "data": {"farewell": 1}}
        assert [name for name, morsel in client.cookies.items() if morsel.value] == [COOKIE]

    def test_an_expiry_of_the_application_s_own_ends_it(self, clock: Clock) -> None:
        """`set_expiry` works without a store, and without anything that remembers ends."""
        client = Client()
        client.get("/enter/", secure=True)
        client.get("/short/", secure=True)
        assert client.get("/", secure=True).json()["user"] == "ada"
        clock.now += 600
        assert client.get("/", secure=True).json() == {"user": None, "data": {}}


@pytest.mark.usefixtures("clock")
def test_both_doors_know_the_same_sessions() -> None:
    """Signed in under WSGI, read and signed out under ASGI."""
    client = Client()
    client.get("/enter/", secure=True)

    async def run() -> tuple[Any, Any]:
        other = AsyncClient()
        other.handler._middleware_chain = None
        other.cookies = client.cookies
        read = (await other.get("/", secure=True)).json()
        await other.get("/leave/", secure=True)
        return read, (await other.get("/", secure=True)).json()

    before, after = asyncio.run(run())
    assert before["user"] == "ada"
    assert after["user"] is None
    assert isinstance(sessions().engine, CookieEngine)
    assert isinstance(async_sessions().engine, CookieEngine)
