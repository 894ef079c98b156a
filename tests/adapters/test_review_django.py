"""Django, attacked: early saves that race with sign-outs, the project's own cache, tokens that outlive a sign-in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import django_project

django_project.configure()

from django.contrib.auth import login, logout  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.db import connections  # noqa: E402
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.test import Client, RequestFactory  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from sessile.adapters.django import SessionMiddleware, sessions  # noqa: E402
from sessile.errors import SessionClosed, StoreUnavailable  # noqa: E402
from tests.support.requirements import requirement  # noqa: E402

COOKIE = "__Host-id"
BACKEND = "django.contrib.auth.backends.ModelBackend"
View = Callable[[HttpRequest], Any]
VIEWS: dict[str, View] = {}


@csrf_exempt
def run(request: HttpRequest, name: str) -> HttpResponse:
    """Do what the test asks for."""
    return VIEWS[name](request) or HttpResponse(name)


def sign_in(request: HttpRequest) -> None:
    """Sign in with contrib.auth."""
    login(request, User.objects.get(username="ada"), BACKEND)


def look(request: HttpRequest) -> HttpResponse:
    """Say who this is, and what is remembered."""
    return JsonResponse({"user": str(request.user), "csrf": request.session.get("_csrftoken")})


urlpatterns = [path("<name>", run)]
URLS: ModuleType = sys.modules[__name__]


@pytest.fixture(autouse=True, params=["memory", "sqlite"])
def fixture_project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Give each test its own store, on each kind of store."""
    store = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    django_project.use(store=store, sinks=())
    User.objects.all().delete()
    User.objects.create_user("ada", password="engine")
    VIEWS.clear()
    VIEWS.update({"in": sign_in, "out": logout, "look": look})
    with override_settings(ROOT_URLCONF=URLS):
        yield
    sessions().close()
    connections.close_all()


def signed_in() -> Client:
    """Return a browser that is signed in."""
    client = Client()
    client.post("/in")
    return client


def with_token(token: str) -> Client:
    """Return a request that was sent with this token."""
    client = Client()
    client.cookies[COOKIE] = token
    return client


def save_twice(request: HttpRequest) -> None:
    """Write and save, as packages do that need a key, and write again."""
    request.session["first"] = 1
    request.session.save()
    request.session["second"] = 2


@requirement("R42")
@requirement("R61")
def test_a_late_request_that_saves_early_gets_no_cookie_either() -> None:
    """A request in flight with an ended token must not overwrite the cookie of a newer sign-in by way of `save()`."""
    VIEWS["twice"] = save_twice
    browser = signed_in()
    old = browser.cookies[COOKIE].value
    browser.post("/out")
    late = with_token(old).post("/twice")
    assert late.status_code == 200
    assert COOKIE not in late.cookies


@requirement("R42")
def test_a_flush_that_came_second_neither_deletes_nor_replaces_the_newer_cookie() -> None:
    """Who flushes, saves and writes after another request has ended the session leaves the browser's cookie alone."""
    browser = signed_in()
    token = browser.cookies[COOKIE].value

    def flush_late(request: HttpRequest) -> None:
        with_token(token).post("/out")
        request.session.flush()
        request.session.save()
        request.session["farewell"] = True

    VIEWS["late"] = flush_late
    late = with_token(token).post("/late")
    assert COOKIE not in late.cookies
    assert '"cookies"' not in late.get("Clear-Site-Data", "")


@requirement("R68")
def test_a_new_session_after_a_saved_sign_out_is_not_cleared_with_the_old_one() -> None:
    """`Clear-Site-Data` names no cookies when the same response sets the one of what began after the sign-out."""

    def begin_anew(request: HttpRequest) -> None:
        request.session.flush()
        request.session.save()
        request.session["farewell"] = True

    VIEWS["anew"] = begin_anew
    response = signed_in().post("/anew")
    assert response.cookies[COOKIE].value
    assert response["Clear-Site-Data"] == '"cache", "storage"'

    def end_twice(request: HttpRequest) -> None:
        request.session.flush()
        request.session.save()

    VIEWS["twice"] = end_twice
    assert signed_in().post("/twice")["Clear-Site-Data"] == '"cache", "cookies", "storage"'


@requirement("R45")
def test_a_token_that_was_stored_is_told_although_the_store_fails_right_after() -> None:
    """If `save()` signs in and the look at the result fails, the 503 still brings the only token of that session."""

    def outage(request: HttpRequest) -> None:
        async def down(*_: Any) -> Any:
            raise StoreUnavailable("down")

        sign_in(request)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(sessions().engine.store), "load", down)
            request.session.save()

    VIEWS["outage"] = outage
    browser = Client()
    response = browser.post("/outage")
    assert response.status_code == 503
    assert browser.get("/look").json()["user"] == "ada"


def test_a_save_after_the_response_began_says_that_it_is_too_late() -> None:
    """`save()` in the midst of a stream raises `SessionClosed`, not an accident of the inside."""

    def stream(request: HttpRequest) -> StreamingHttpResponse:
        def chunks() -> Iterator[bytes]:
            with pytest.raises(SessionClosed):
                request.session.save()
            yield b"told"

        request.session["first"] = 1
        return StreamingHttpResponse(chunks())

    VIEWS["stream"] = stream
    assert b"".join(Client().get("/stream").streaming_content) == b"told"


@requirement("R23")
@pytest.mark.parametrize("pending", [False, True])
def test_a_sign_in_by_the_session_leaves_the_visitors_csrf_token_behind(pending: bool) -> None:
    """Who knew the CSRF token of the anonymous session does not know the user's."""

    def plant(request: HttpRequest) -> None:
        request.session["_csrftoken"] = "A" * 32

    def enter(request: HttpRequest) -> None:
        request.session.login(User.objects.get(username="ada"), pending=pending)

    VIEWS.update({"plant": plant, "enter": enter})
    browser = Client()
    browser.post("/plant")
    assert browser.get("/look").json()["csrf"] == "A" * 32
    browser.post("/enter")
    assert browser.get("/look").json()["csrf"] is None


@requirement("R19")
@pytest.mark.parametrize("status", [200, 500])
def test_the_projects_own_cache_is_told_to_leave_a_sessions_page_alone(status: int) -> None:
    """Django's cache middlewares, which do not all know `no-store`, keep no page that was made with a session."""

    def page(request: HttpRequest) -> HttpResponse:
        request._cache_update_cache = True  # as FetchFromCacheMiddleware does
        return HttpResponse(str(dict(request.session)), status=status)

    token = signed_in().cookies[COOKIE].value
    for cookie, may_be_kept in ((f"{COOKIE}={token}", False), ("", True)):
        request = RequestFactory().get("/page", headers={"cookie": cookie} if cookie else {})
        SessionMiddleware(page)(request)
        assert request._cache_update_cache is may_be_kept  # type: ignore[attr-defined]


@requirement("R19")
def test_a_stream_that_looks_at_the_session_late_is_kept_out_of_caches() -> None:
    """A generator may show the session when the headers are gone; a file may not, and stays cacheable."""

    def stream(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(str(request.session.get("_auth_user_id") is not None) for _ in range(1))

    VIEWS.update({"stream": stream, "file": lambda _request: FileResponse(BytesIO(b"file"))})
    assert "Cache-Control" not in Client().get("/stream").headers
    browser = signed_in()
    late = browser.get("/stream")
    assert b"".join(late.streaming_content) == b"True"
    assert (late["Cache-Control"], late["Vary"]) == ("no-store", "Cookie")
    assert "Cache-Control" not in browser.get("/file").headers
