"""Django: what happens at the edges of a request, and what an attacker or an outage makes of them."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import django_project

django_project.configure()

from django.conf import settings  # noqa: E402
from django.contrib.auth import aauthenticate, alogin, authenticate, login  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.checks import run_checks  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.db import connections  # noqa: E402
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.middleware.csrf import get_token  # noqa: E402
from django.test import AsyncClient, Client, RequestFactory  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.cache import cache_control  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from django.views.decorators.vary import vary_on_headers  # noqa: E402

from sessile import CookieRules  # noqa: E402
from sessile.adapters.django import SessionMiddleware, SessionStore, async_sessions, sessions  # noqa: E402
from sessile.core.policy import Policy  # noqa: E402
from sessile.errors import SessionClosed, StoreUnavailable  # noqa: E402
from tests.support.requirements import requirement  # noqa: E402

COOKIE = "__Host-id"


class Clock:
    """Stand still until told."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class File(io.BytesIO):
    """Know whether it was closed."""

    last: File | None = None

    def __init__(self) -> None:
        super().__init__(b"a file")
        File.last = self


# -- views -------------------------------------------------------------------------------------------------------------


def state(request: HttpRequest) -> HttpResponse:
    """Say what the session is."""
    session: Any = request.session
    data = {key: value for key, value in session.items() if key in ("first", "late", "cart")}
    return JsonResponse({"kind": session.kind, "id": session.id, "user": str(request.user), "data": data})


def put(request: HttpRequest) -> HttpResponse:
    """Write one key."""
    request.session["first"] = 1
    return HttpResponse("put")


def nested(request: HttpRequest) -> HttpResponse:
    """Change a value in place."""
    request.session.setdefault("cart", []).append("tea")
    return HttpResponse("nested")


def save(request: HttpRequest, status: int) -> HttpResponse:
    """Save in the midst of the view, write on, and answer with this status."""
    request.session["first"] = request.session.get("first", 0) + 1
    request.session.save()
    request.session["late"] = True
    return HttpResponse("saved", status=status)


def key(request: HttpRequest) -> HttpResponse:
    """Insist on a key, as shops do for their carts."""
    if not request.session.session_key:
        request.session.create()
    return HttpResponse(request.session.session_key)


def anew(request: HttpRequest) -> HttpResponse:
    """Create a session anew."""
    request.session.create()
    return HttpResponse(request.session.session_key)


def sign(request: HttpRequest, how: str) -> HttpResponse:
    """Sign in by one of several ways."""
    user = authenticate(request, username="ada", password="engine")
    session: Any = request.session
    match how:
        case "pending":
            session.login(user, pending=True)
        case "totp":
            session.add_factor("totp")
        case "model":
            session.login(user)
        case "bare":
            login(request, User.objects.get(username="ada"), "django.contrib.auth.backends.ModelBackend")
        case "save":
            login(request, user)
            session.save()
            return HttpResponse("failed later", status=500)
        case _:
            login(request, user)
    return JsonResponse({"user": str(request.user), "factors": [one.name for one in session.factors]})


async def async_sign(request: HttpRequest) -> HttpResponse:
    """Sign in from an async view."""
    await alogin(request, await aauthenticate(request, username="ada", password="engine"))
    return HttpResponse("in")


def expiry(request: HttpRequest, kind: str) -> HttpResponse:
    """Shorten the session's life."""
    kinds: dict[str, Any] = {
        "seconds": 600,
        "browser": 0,
        "delta": dt.timedelta(minutes=10),
        "none": None,
        "garbage": None,
    }
    request.session["first"] = 1
    request.session.set_expiry(kinds[kind])
    if kind == "garbage":
        request.session["_session_expiry"] = "next Tuesday"
    return JsonResponse({"age": request.session.get_expiry_age() if kind != "garbage" else None})


def file(request: HttpRequest) -> FileResponse:
    """Write, and send a file."""
    request.session["first"] = 1
    return FileResponse(File())


def late(request: HttpRequest) -> StreamingHttpResponse:
    """Change the session in the midst of a stream."""

    def chunks() -> Iterator[bytes]:
        yield b"one"
        request.session["late"] = True

    return StreamingHttpResponse(chunks())


@vary_on_headers("Accept-Language")
@cache_control(private=True, max_age=60)
def private(request: HttpRequest) -> HttpResponse:
    """Say something of caches."""
    return HttpResponse(str(request.session.get("first")))


def lost(request: HttpRequest) -> HttpResponse:
    """Read, and fail."""
    request.session.get("first")
    return HttpResponse("broken", status=500)


def form(request: HttpRequest) -> HttpResponse:
    """Show, and take, a form with a token."""
    return HttpResponse(get_token(request) if request.method == "GET" else "taken")


urlpatterns = [
    path("", state),
    path("put", put),
    path("nested", nested),
    path("save/<int:status>", save),
    path("key", key),
    path("anew", anew),
    path("sign/<how>", csrf_exempt(sign)),
    path("async-sign", csrf_exempt(async_sign)),
    path("expiry/<kind>", expiry),
    path("file", file),
    path("late", late),
    path("private", private),
    path("lost", lost),
    path("form", form),
]
URLS: ModuleType = sys.modules[__name__]


@pytest.fixture(name="clock", autouse=True, params=["memory", "sqlite"])
def fixture_clock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clock]:
    """Give each test its own store, on each kind of store, and its own time."""
    clock = Clock()
    store = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    django_project.use(store=store, sinks=(), clock=clock, policy=Policy())
    User.objects.all().delete()
    User.objects.create_user("ada", password="engine")
    with override_settings(ROOT_URLCONF=URLS):
        yield clock
    sessions().close()
    connections.close_all()


def break_store(patch: pytest.MonkeyPatch, verb: str) -> None:
    """Let one verb of the store fail."""

    async def down(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("down")

    patch.setattr(type(sessions().engine.store), verb, down)


async def close_async_door() -> None:
    """Close what this loop opened; a memory is the same for both doors, and stays."""
    if async_sessions().engine.store is not sessions().engine.store:
        await async_sessions().close()


def data(client: Client) -> Any:
    """Return what the session holds."""
    return client.get("/").json()["data"]


class TestSavingEarly:
    """`save()` and `create()` in the midst of a view."""

    def test_what_was_saved_is_told_although_the_view_fails_afterwards(self) -> None:
        """The token of a session that exists must reach its browser; what came later is not stored."""
        client = Client(raise_request_exception=False)
        response = client.get("/save/500")
        assert response.status_code == 500
        assert response.cookies[COOKIE].value
        assert data(client) == {"first": 1}

    @requirement("R25")
    def test_a_saved_sign_in_is_told_although_the_view_fails_afterwards(self) -> None:
        """Otherwise its user would stand there with a dead token."""
        client = Client(raise_request_exception=False)
        client.get("/put")
        assert client.post("/sign/save").status_code == 500
        assert client.get("/").json()["user"] == "ada"

    @requirement("R29", "R31")
    def test_saving_when_a_rotation_is_due_logs_nobody_out_if_the_response_is_lost(self, clock: Clock) -> None:
        """The successor counts as used when the browser uses it, not when the view goes on."""
        client = Client()
        client.get("/put")
        token = client.cookies[COOKIE].value
        clock.now += 3000
        assert client.get("/save/200").cookies[COOKIE].value != token
        client.cookies[COOKIE] = token
        clock.now += 600
        assert data(client) == {"first": 2, "late": True}

    def test_a_view_that_insists_on_a_key_gets_the_one_that_the_next_request_has(self) -> None:
        """An empty session is stored if it is asked for."""
        client = Client()
        key = client.get("/key").content.decode()
        assert len(key) == 40
        assert client.get("/key").content.decode() == key == client.get("/").json()["id"]

    def test_creating_anew_leaves_no_old_session_behind(self) -> None:
        """Another key, the same data, the old token dead."""
        client = Client()
        client.get("/put")
        old = client.cookies[COOKIE].value
        client.get("/anew")
        assert data(client) == {"first": 1}
        assert sessions().stats().live == 1
        assert SessionStore(old).load() == {}


class TestFailing:
    """Outages, errors, streams."""

    @requirement("R45")
    def test_a_response_that_must_not_leave_is_cleaned_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file of a response whose session could not be stored is closed."""
        client = Client()
        with monkeypatch.context() as patch:
            break_store(patch, "create")
            response = client.get("/file")
        assert response.status_code == 503
        assert COOKIE not in response.cookies
        assert File.last is not None
        assert File.last.closed

    @requirement("R45")
    def test_an_outage_under_asgi_is_a_503_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither a failing load nor a failing commit lets the view's answer out."""

        async def visit() -> list[int]:
            client = AsyncClient()
            await client.get("/put")
            statuses: list[int] = []
            for verb, page in (("load", "/"), ("save", "/nested")):
                with monkeypatch.context() as patch:
                    break_store(patch, verb)
                    statuses.append((await client.get(page)).status_code)
            assert (await client.get("/")).json()["data"] == {"first": 1}
            await close_async_door()
            return statuses

        assert asyncio.run(visit()) == [503, 503]

    @requirement("R19")
    def test_an_error_page_made_with_a_session_in_view_is_not_cacheable(self) -> None:
        """It commits nothing, and still says what it depends on."""
        client = Client()
        client.get("/put")
        response = client.get("/lost")
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Vary"] == "Cookie"

    def test_a_change_in_the_midst_of_a_stream_is_an_error(self) -> None:
        """The response has begun: nothing can be promised any more."""
        response = Client().get("/late")
        assert response.streaming
        with pytest.raises(SessionClosed):
            b"".join(response.streaming_content)  # type: ignore[attr-defined]

    @requirement("R19")
    def test_what_the_view_says_of_caches_stands_if_it_keeps_shared_ones_out(self) -> None:
        """`private` and the other Vary stay; Cookie is added."""
        client = Client()
        client.get("/put")
        response = client.get("/private")
        assert "private" in response.headers["Cache-Control"]
        assert "max-age=60" in response.headers["Cache-Control"]
        assert response.headers["Vary"] == "Accept-Language, Cookie"

    def test_nested_changes_are_noticed(self) -> None:
        """No `modified = True` is needed."""
        client = Client()
        client.get("/nested")
        client.get("/nested")
        assert data(client) == {"cart": ["tea", "tea"]}


class TestWhoProvedWhat:
    """contrib.auth and Sessile's own sign-in."""

    @requirement("R88")
    def test_a_user_whose_factor_is_due_is_nobody_to_contrib_auth(self) -> None:
        """Not in the request that begins the sign-in, not in the next; with the factor, they are."""
        client = Client()
        assert client.post("/sign/pending").json()["user"] == "AnonymousUser"
        found = client.get("/").json()
        assert (found["kind"], found["user"]) == ("pending", "AnonymousUser")
        assert client.post("/sign/totp").json() == {"user": "ada", "factors": ["password", "totp"]}
        assert client.get("/").json()["user"] == "ada"

    @requirement("R88")
    def test_contrib_auths_login_does_not_complete_a_sign_in_that_waits_for_a_factor(self) -> None:
        """Only the factor does."""
        client = Client()
        client.post("/sign/pending")
        client.post("/sign/again")
        assert client.get("/").json()["kind"] == "pending"

    @requirement("R88")
    def test_a_proof_that_contrib_auth_tells_of_leaves_a_due_factor_due(self) -> None:
        """Whatever an application's own keys make of it."""
        begun = SessionStore()
        begun.login("ada", pending=True)
        begun.save()
        session = SessionStore(begun.session_key)
        assert session.kind == "pending"
        session.proved("password")
        session.save()
        assert SessionStore(session.session_key).kind == "pending"

    def test_a_sign_in_with_the_model_is_one_for_contrib_auth(self) -> None:
        """`request.session.login(user)` makes `request.user`."""
        client = Client()
        assert client.post("/sign/model").json()["user"] == "ada"
        assert client.get("/").json()["user"] == "ada"

    @requirement("R89")
    def test_only_a_checked_password_counts_as_one(self) -> None:
        """`login(request, user, backend=…)` proves something unnamed."""
        assert Client().post("/sign/in").json()["factors"] == ["password"]
        assert Client().post("/sign/bare").json()["factors"] == ["application"]


class TestExpiry:
    """`set_expiry` can only shorten."""

    @requirement("R33")
    @pytest.mark.parametrize("kind", ["seconds", "delta"])
    def test_a_shorter_life_is_enforced_late_by_the_tolerance_and_never_early(self, clock: Clock, kind: str) -> None:
        """Ten minutes, for seconds and for dates; the end is an end for every copy."""
        clock.now = dt.datetime.now(dt.UTC).timestamp()
        client = Client()
        assert 598 <= client.get(f"/expiry/{kind}").json()["age"] <= 600
        clock.now += 590
        probe = SessionStore(client.cookies[COOKIE].value)
        assert probe["first"] == 1
        clock.now += 80
        assert data(client) == {}
        assert SessionStore(client.cookies[COOKIE].value).load() == {}
        assert sessions().stats().live == 0

    @pytest.mark.parametrize("kind", ["browser", "none", "garbage"])
    def test_what_shortens_nothing_leaves_the_policy(self, clock: Clock, kind: str) -> None:
        """Zero is for the browser, None takes it back, and garbage harms nobody."""
        client = Client()
        client.get(f"/expiry/{kind}")
        clock.now += 3000
        assert data(client) == {"first": 1}
        clock.now += 3600 + 66
        assert data(client) == {}


class TestServers:
    """What the server and its proxy say."""

    def test_both_doors_open_the_same_sessions(self) -> None:
        """A cookie that WSGI set is good under ASGI, whatever the store, and an end on one side is one on the other."""
        client = Client()
        client.get("/put")

        async def visit() -> None:
            other = AsyncClient()
            other.cookies[COOKIE] = client.cookies[COOKIE].value
            assert (await other.get("/")).json()["data"] == {"first": 1}
            await other.post("/async-sign")
            ada = await User.objects.aget(username="ada")
            assert await async_sessions().end_all(ada.pk) == 1
            await close_async_door()

        asyncio.run(visit())
        assert data(client) == {}

    @requirement("R21")
    def test_a_cookie_header_that_http_2_split_is_joined_as_cookies_are(self) -> None:
        """A comma between them would hide the session; two session cookies are still refused."""
        client = Client()
        client.get("/put")
        token = f"{COOKIE}={client.cookies[COOKIE].value}".encode()
        one = asyncio.run(ask([(b"cookie", b"theme=dark"), (b"cookie", token)]))
        two = asyncio.run(ask([(b"cookie", token), (b"cookie", token)]))
        assert b'"first": 1' in one
        assert b'"first"' not in two

    @requirement("R20")
    def test_a_proxy_is_believed_only_where_the_project_says_so(self) -> None:
        """SECURE_PROXY_SSL_HEADER makes https of http; without it, plain http gets no cookie."""
        headers = {"host": "shop.example", "x-forwarded-proto": "https"}
        assert COOKIE not in Client().get("/put", headers=headers).cookies
        with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
            assert COOKIE in Client().get("/put", headers=headers).cookies
            assert COOKIE not in Client().get("/put", headers={"host": "shop.example"}).cookies

    @requirement("R22")
    def test_the_projects_trusted_origins_pass_the_guard(self) -> None:
        """CSRF_TRUSTED_ORIGINS is said once."""
        headers = {"origin": "https://admin.example", "sec-fetch-site": "cross-site"}
        assert Client().post("/sign/in", headers=headers).status_code == 403
        with override_settings(CSRF_TRUSTED_ORIGINS=["https://admin.example", "https://*.example.org"]):
            django_project.use(store="memory://", sinks=())
            assert Client().post("/sign/in", headers=headers).status_code == 200
            assert "sessile.W004" in {one.id for one in run_checks(tags=["security"])}

    @requirement("R22")
    def test_csrf_tokens_may_live_in_the_session(self) -> None:
        """CSRF_USE_SESSIONS: a form with the token passes, one without does not."""
        with override_settings(CSRF_USE_SESSIONS=True):
            client = Client(enforce_csrf_checks=True)
            token = client.get("/form").content.decode()
            assert client.post("/form", {"csrfmiddlewaretoken": token}).content == b"taken"
            assert client.post("/form", {"csrfmiddlewaretoken": "x" * 32}).status_code == 403

    def test_a_head_of_our_own_pages_has_no_body(self) -> None:
        """But its length."""
        response = Client().head("/.sessile/session.js")
        assert response.content == b""
        assert int(response.headers["Content-Length"]) > 100

    def test_requests_from_the_factory_get_sessions_by_hand(self) -> None:
        """As tests do it: `process_request`, then `save`."""
        request = RequestFactory().get("/")
        SessionMiddleware(lambda _request: HttpResponse()).process_request(request)
        assert request.session
        assert request.session.session_key is None
        request.session.save()
        assert request.session.session_key is not None


class TestCookie:
    """The cookie's name and attributes."""

    def test_the_jars_cookie_is_the_rules_to_the_letter(self) -> None:
        """Set and deleted with every attribute of `CookieRules`."""
        rules = CookieRules(name="__Secure-shop", path="/shop", domain="example.org", samesite="Strict", max_age=600)
        django_project.use(store="memory://", sinks=(), cookie=rules)
        client = Client()
        made = client.get("/put").cookies[rules.name]
        assert attributes(made.OutputString()) == attributes(rules.set(made.value))
        client.post("/sign/in")
        gone = client.post("/.sessile/logout").cookies[rules.name]
        assert attributes(gone.OutputString()) == attributes(rules.delete())

    def test_a_name_that_is_not_the_cookies_fails_the_checks(self) -> None:
        """The test client would look for a cookie that nobody sets."""
        with override_settings(SESSION_COOKIE_NAME="__Host-other"):
            django_project.use(store="memory://", sinks=(), cookie=CookieRules())
            assert "sessile.E003" in {one.id for one in run_checks(tags=["security"])}

    def test_a_name_of_the_projects_own_is_used(self) -> None:
        """SESSION_COOKIE_NAME with a prefix says it once, and the test client finds it."""
        with override_settings(SESSION_COOKIE_NAME="__Host-shop"):
            django_project.use(store="memory://", sinks=())
            client = Client()
            client.force_login(User.objects.get(username="ada"))
            assert "__Host-shop" in client.cookies
            assert client.get("/").json()["user"] == "ada"

    def test_the_cookie_of_another_engine_keeps_its_name(self) -> None:
        """Tests that switch engines and back do not rename Django's own cookie."""
        sessions()
        with override_settings(
            SESSION_ENGINE="django.contrib.sessions.backends.cache", SESSION_COOKIE_NAME="sessionid"
        ):
            with override_settings(DEBUG=False):
                assert settings.SESSION_COOKIE_NAME == "sessionid"
            assert settings.SESSION_COOKIE_NAME == "sessionid"
        assert settings.SESSION_COOKIE_NAME == COOKIE

    def test_a_project_without_our_middleware_fails_the_checks(self) -> None:
        """The engine alone is a session that nobody opens."""
        with override_settings(MIDDLEWARE=["missing.Middleware"]):
            assert "sessile.E001" in {one.id for one in run_checks(tags=["security"])}


def attributes(line: str) -> set[str]:
    """Return the parts of a Set-Cookie value."""
    return {part.strip().lower() for part in line.split(";")}


async def ask(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Send one request by ASGI, as a server would, and return the body."""
    sent: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "https",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", b"testserver"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 443),
    }
    await ASGIHandler()(scope, receive, send)  # type: ignore[arg-type]
    await close_async_door()
    return b"".join(message.get("body", b"") for message in sent)
