"""Django: what its developers do with sessions today works, and what Sessile promises holds under it."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import django_project

django_project.configure()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.backends.base import CreateError, UpdateError  # noqa: E402
from django.core.checks import run_checks  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import AsyncClient, Client  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from sessile.adapters.django import SessionStore, async_sessions, sessions  # noqa: E402
from sessile.core.events import Event  # noqa: E402
from sessile.errors import StoreUnavailable  # noqa: E402
from tests.support.requirements import requirement  # noqa: E402

COOKIE = "__Host-id"


@pytest.fixture(autouse=True, params=["memory", "sqlite"])
def fixture_doors(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[list[Event]]:
    """Give each test a store of its own, and the two users."""
    events: list[Event] = []
    store = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    django_project.use(store=store, sinks=(events.append,), step_up_url="/step-up/")
    User.objects.all().delete()
    User.objects.create_superuser("ada", "ada@example.org", "engine")
    User.objects.create_user("grace", password="compiler")
    yield events
    sessions().close()
    connections.close_all()


def signed_in(name: str = "ada", password: str = "engine") -> Client:
    """Return a client that has signed in through the view."""
    client = Client()
    assert client.post("/sign-in", {"name": name, "password": password}).status_code == 200
    return client


def devices(name: str = "ada") -> list[Any]:
    """Return the user's sessions."""
    return sessions().of_user(User.objects.get(username=name).pk)


class TestViews:
    """Requests through the middleware."""

    def test_data_survives_between_requests(self) -> None:
        """What a view stores is there in the next request."""
        client = Client()
        assert [client.get("/").json()["visits"] for _ in range(3)] == [1, 2, 3]

    @requirement("R27")
    def test_a_view_that_looks_at_no_session_sets_no_cookie_and_no_vary(self) -> None:
        """No session, no header."""
        response = Client().get("/plain")
        assert not response.cookies
        assert "Vary" not in response.headers
        assert "Cache-Control" not in response.headers

    @requirement("R11", "R19")
    def test_the_cookie_is_what_the_rules_say(self) -> None:
        """`__Host-`, Secure, HttpOnly, Lax, no-store, Vary."""
        response = Client().get("/")
        morsel = response.cookies[COOKIE]
        assert morsel["secure"]
        assert morsel["httponly"]
        assert morsel["samesite"] == "Lax"
        assert morsel["path"] == "/"
        assert not morsel["domain"]
        assert not morsel["max-age"]
        assert response.headers["Cache-Control"] == "no-store"
        assert "Cookie" in response.headers["Vary"]

    def test_a_5xx_response_stores_nothing(self) -> None:
        """As with Django's own middleware."""
        client = Client()
        client.get("/")
        assert client.get("/broken").status_code == 503
        assert "broken" not in client.get("/data").json()

    def test_a_streaming_response_is_committed_before_it_streams(self) -> None:
        """The cookie is there, and so is the data."""
        client = Client()
        response = client.get("/stream")
        assert b"".join(response.streaming_content) == b"ab"
        assert COOKIE in response.cookies
        assert client.get("/data").json() == {"streamed": True}

    def test_saving_in_the_midst_of_a_view_gives_a_key_and_loses_nothing(self) -> None:
        """Both halves are stored, in one session, with one cookie."""
        client = Client()
        key = client.get("/save").json()["key"]
        assert client.get("/data").json() == {"first": 1, "second": 2}
        assert client.get("/").json()["id"] == key
        assert sessions().stats().live == 1

    @requirement("R45")
    def test_an_outage_is_a_503_and_never_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither a failing load nor a failing commit lets the view's answer out."""

        async def down(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("down")

        client = signed_in()
        with monkeypatch.context() as patch:
            patch.setattr(type(sessions().engine.store), "load", down)
            assert client.get("/").status_code == 503
        with monkeypatch.context() as patch:
            patch.setattr(type(sessions().engine.store), "save", down)
            response = client.get("/")
            assert response.status_code == 503
            assert b"visits" not in response.content
        assert client.get("/").json()["user"] == "ada"

    @requirement("R22")
    def test_posts_from_other_sites_are_refused(self) -> None:
        """Signing in is covered, although the view is exempt from CSRF."""
        form = {"name": "ada", "password": "engine"}
        assert Client().post("/sign-in", form, headers={"sec-fetch-site": "cross-site"}).status_code == 403

    def test_sessiles_own_endpoints_are_served(self) -> None:
        """The script, the status and the sign-out."""
        client = signed_in()
        assert client.get("/.sessile/session.js").headers["Content-Type"].startswith("text/javascript")
        assert client.get("/.sessile/status").json()["authenticated"] is True
        assert client.post("/.sessile/logout").status_code == 204
        assert client.get("/.sessile/status").json()["authenticated"] is False

    def test_threads_never_see_another_users_session(self) -> None:
        """Twenty clients at once, each its own counter."""
        wrong: list[Any] = []

        def visit(number: int) -> None:
            client = Client()
            client.cookies[COOKIE] = ""
            for turn in range(1, 6):
                found = client.get("/data").json() if turn > 1 else {}
                if found.get("mine", number) != number:
                    wrong.append(found)
                session = client.session
                session["mine"] = number
                session.save()
                client.cookies[COOKIE] = session.session_key
            connections.close_all()

        threads = [threading.Thread(target=visit, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class TestAuth:
    """contrib.auth, unchanged."""

    @requirement("R25", "R26")
    def test_login_renews_the_token_kills_the_old_one_and_keeps_the_data(self) -> None:
        """The planted anonymous token is worth nothing afterwards."""
        client = Client()
        client.get("/")
        planted = client.cookies[COOKIE].value
        client.post("/sign-in", {"name": "ada", "password": "engine"})
        assert client.get("/").json() | {"id": ""} == {"visits": 2, "user": "ada", "id": ""}
        thief = Client()
        thief.cookies[COOKIE] = planted
        assert thief.get("/").json()["user"] == "AnonymousUser"

    @requirement("R25")
    def test_login_of_the_same_user_again_renews_too(self) -> None:
        """Another token, and still one device."""
        client = signed_in()
        before = client.cookies[COOKIE].value
        client.post("/sign-in", {"name": "ada", "password": "engine"})
        assert client.cookies[COOKIE].value != before
        assert len(devices()) == 1

    @requirement("R26")
    def test_login_of_another_user_leaves_the_firsts_data_behind(self) -> None:
        """Nothing crosses."""
        client = signed_in()
        client.get("/")
        client.post("/sign-in", {"name": "grace", "password": "compiler"})
        assert client.get("/").json()["visits"] == 1
        assert devices("ada") == []
        assert len(devices("grace")) == 1

    @requirement("R61", "R68")
    def test_logout_ends_the_session_for_every_copy(self) -> None:
        """The kept cookie is nobody's, and the browser is told to clear."""
        client = signed_in()
        kept = client.cookies[COOKIE].value
        response = client.post("/sign-out")
        assert response.cookies[COOKIE].value == ""
        assert "cookies" in response.headers["Clear-Site-Data"]
        thief = Client()
        thief.cookies[COOKIE] = kept
        assert thief.get("/").json()["user"] == "AnonymousUser"
        assert devices() == []

    def test_a_changed_password_keeps_this_session_and_ends_the_others(self) -> None:
        """As Django's auth hash has it."""
        here, there = signed_in(), signed_in()
        here.post("/password", {"password": "difference"})
        assert here.get("/").json()["user"] == "ada"
        assert there.get("/").json()["user"] == "AnonymousUser"

    @requirement("R62", "R64")
    def test_sign_out_everywhere_needs_no_further_code(self) -> None:
        """The index knows the user by Django's own key."""
        clients = [signed_in() for _ in range(3)]
        assert sessions().end_all(User.objects.get(username="ada").pk) == 3
        assert {client.get("/").json()["user"] for client in clients} == {"AnonymousUser"}

    def test_messages_live_in_the_session(self) -> None:
        """The welcome is shown once."""
        client = signed_in()
        assert client.get("/said").json() == {"messages": ["welcome"]}
        assert client.get("/said").json() == {"messages": []}

    def test_the_admin_works_from_sign_in_to_sign_out(self) -> None:
        """A model is changed between them."""
        client = Client()
        assert client.post("/admin/login/?next=/admin/", {"username": "ada", "password": "engine"}).status_code == 302
        grace = User.objects.get(username="grace")
        assert client.get("/admin/").status_code == 200
        response = client.post(
            f"/admin/auth/user/{grace.pk}/password/", {"password1": "cobol-1959", "password2": "cobol-1959"}
        )
        assert response.status_code in (200, 302)
        assert client.post("/admin/logout/").status_code == 200
        assert client.get("/admin/").status_code == 302

    @requirement("R90")
    def test_guards_redirect_pages_and_refuse_programs(self) -> None:
        """Decorator and mixin, sync and async."""
        nobody, client = Client(), signed_in()
        assert client.get("/vault").content == str(User.objects.get(username="ada").pk).encode()
        assert nobody.get("/vault").status_code == 401
        page = nobody.get("/vault", headers={"accept": "text/html"})
        assert page.status_code == 303
        assert page.headers["Location"].startswith("/sign-in/?next=/vault")
        assert client.get("/async-vault").status_code == 403
        assert client.get("/async-vault", headers={"accept": "text/html"}).headers["Location"].startswith("/step-up/")
        assert nobody.get("/members").status_code == 401
        assert client.get("/members").content == b"members"


class TestAsync:
    """The same under ASGI's handler."""

    def test_async_views_count_sign_in_save_and_sign_out(self) -> None:
        """One client through all of it."""

        async def visit() -> None:
            client = AsyncClient()
            assert (await client.get("/async")).json() == {"visits": 1, "user": "AnonymousUser"}
            await client.post("/async/in")
            assert (await client.get("/async")).json() == {"visits": 2, "user": "ada"}
            assert (await client.get("/asave")).json()["key"] is not None
            assert (await client.get("/data")).json() == {"visits": 2, "first": 1, "second": 2}
            assert len(await async_sessions().of_user(str((await User.objects.aget(username="ada")).pk))) == 1
            await client.post("/async/out")
            assert (await client.get("/async")).json() == {"visits": 1, "user": "AnonymousUser"}
            await async_sessions().close()

        asyncio.run(visit())

    def test_the_async_api_answers_as_the_sync_one(self) -> None:
        """Every `a…` method, outside of a request."""

        async def use() -> None:
            session = SessionStore()
            await session.aset("a", 1)
            await session.aupdate({"b": 2})
            assert await session.aget("a") == 1
            assert await session.ahas_key("b")
            assert await session.asetdefault("c", 3) == 3
            assert await session.apop("c") == 3
            assert set(await session.akeys()) == {"a", "b"}
            assert set(await session.avalues()) == {1, 2}
            await session.asave()
            again = SessionStore(session.session_key)
            assert dict(await again.aitems()) == {"a": 1, "b": 2} == await again.aload()
            await again.acycle_key()
            assert await SessionStore(session.session_key).aget("a") is None
            await again.aflush()
            assert again.session_key is None

        asyncio.run(use())


class TestSessionBase:
    """`SessionStore` by itself, as Django's own tests use it."""

    def test_a_new_session_is_empty_and_has_no_key(self) -> None:
        """Nothing is stored for nothing."""
        session = SessionStore()
        assert session.is_empty()
        assert session.session_key is None
        assert session.get("cat") is None

    def test_the_dict_methods_work_and_say_modified(self) -> None:
        """get, set, pop, setdefault, update, has_key, keys, values, items, in, del."""
        session = SessionStore()
        session["cat"] = "dog"
        assert session.modified
        assert session.accessed
        assert session.pop("cat") == "dog"
        assert session.pop("cat", None) is None
        assert session.setdefault("foo", "bar") == "bar"
        session.update({"update key": 1})
        assert session.has_key("foo")
        assert "update key" in session
        assert list(session.keys()) == ["foo", "update key"] == list(session)
        assert list(session.values()) == ["bar", 1]
        assert next(iter(session.items())) == ("foo", "bar")
        del session["foo"]
        with pytest.raises(KeyError):
            session["foo"]

    def test_whole_numbers_as_keys_become_text(self) -> None:
        """As they did in JSON."""
        session = SessionStore()
        session[0] = "zero"
        session.save()
        assert SessionStore(session.session_key)["0"] == "zero"

    def test_save_and_open_by_token(self) -> None:
        """What was saved is there, and `exists` says so."""
        session = SessionStore()
        session["a"] = [1, 2]
        session.save()
        token = session.session_key
        assert token is not None
        assert len(token) == 63
        assert session.exists(token)
        again = SessionStore(token)
        again["a"].append(3)
        again.save()
        assert SessionStore(token).load() == {"a": [1, 2, 3]}

    @requirement("R3")
    def test_a_public_id_opens_nothing(self) -> None:
        """The id that stands in logs and lists is no credential, neither here nor in a cookie."""
        session = SessionStore()
        session["a"] = 1
        session.save()
        public = SessionStore(session.session_key).id
        assert public is not None
        assert SessionStore(public).load() == {}
        client = Client()
        client.cookies[COOKIE] = public
        assert client.get("/data").json() == {}
        assert session.exists(public)

    def test_create_makes_a_stored_empty_session_once(self) -> None:
        """`save(must_create=True)` on a stored one is refused."""
        session = SessionStore()
        session.create()
        assert session.session_key is not None
        assert session.exists(session.session_key)
        with pytest.raises(CreateError):
            session.save(must_create=True)

    def test_delete_flush_and_clear_end_the_session(self) -> None:
        """By itself, by token, by id."""
        made = []
        for _ in range(4):
            session = SessionStore()
            session["a"] = 1
            session.save()
            made.append(session)
        made[0].delete()
        SessionStore().delete(made[1].session_key)
        SessionStore().delete(made[2].id)
        made[3].flush()
        assert sessions().stats().live == 0
        assert made[3].session_key is None
        assert made[3].is_empty()

    @requirement("R42")
    def test_a_late_save_does_not_bring_a_deleted_session_back(self) -> None:
        """The slow worker writes into nothing, and is told as by Django's own engines."""
        session = SessionStore()
        session["a"] = 1
        session.save()
        slow = SessionStore(session.session_key)
        slow["b"] = 2
        session.delete()
        with pytest.raises(UpdateError):
            slow.save()
        assert sessions().stats().live == 0

    def test_cycle_key_keeps_the_data_under_a_new_key(self) -> None:
        """The old token is dead."""
        session = SessionStore()
        session["a"] = 1
        session.save()
        old = session.session_key
        session.cycle_key()
        assert session.session_key != old
        assert session["a"] == 1
        assert SessionStore(old).load() == {}

    def test_expiry_may_be_shortened(self) -> None:
        """`set_expiry` and its readers; a session past it is ended at its next request."""
        client = Client()
        client.get("/")
        session = client.session
        session.set_expiry(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        session.save()
        assert session.get_expiry_date() == dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        assert client.get("/").json()["visits"] == 1
        fresh = SessionStore()
        assert fresh.get_expiry_age() == 3600
        fresh.set_expiry(60)
        assert fresh.get_expiry_age() == 60
        assert not fresh.get_expire_at_browser_close()
        fresh.set_expiry(0)
        assert fresh.get_expire_at_browser_close()

    def test_the_test_cookie_works(self) -> None:
        """Set, worked, delete."""
        session = SessionStore()
        session.set_test_cookie()
        assert session.test_cookie_worked()
        session.delete_test_cookie()
        assert not session.test_cookie_worked()

    def test_encode_and_decode_are_inverse(self) -> None:
        """The signed text of Django's own kind."""
        session = SessionStore()
        assert session.decode(session.encode({"a": 1})) == {"a": 1}
        assert session.decode("bad") == {}


class TestTools:
    """The test client, commands, checks."""

    def test_the_test_client_signs_in_and_out(self) -> None:
        """login, force_login, session, logout."""
        client = Client()
        assert client.login(username="ada", password="engine")
        assert client.get("/").json()["user"] == "ada"
        assert client.session["visits"] == 1
        client.logout()
        client.force_login(User.objects.get(username="grace"))
        assert client.get("/").json()["user"] == "grace"
        assert devices("ada") == []

    def test_clearsessions_sweeps(self) -> None:
        """The management command runs."""
        call_command("clearsessions")

    def test_contradicting_settings_fail_the_checks(self) -> None:
        """A plain cookie name, Django's own middleware, settings that do nothing."""
        assert [one.id for one in run_checks() if one.id and one.id.startswith("sessile")] == []
        middleware = ["django.contrib.sessions.middleware.SessionMiddleware"]
        with override_settings(MIDDLEWARE=middleware, SESSION_COOKIE_NAME="plain"):
            assert {"sessile.E001", "sessile.E002"} <= {one.id for one in run_checks(tags=["security"])}
        with override_settings(
            SESSION_COOKIE_HTTPONLY=False, SESSION_SAVE_EVERY_REQUEST=True, SESSION_COOKIE_SAMESITE="None"
        ):
            found = {one.id for one in run_checks(tags=["security"])}
            assert {"sessile.W001", "sessile.W002", "sessile.W003"} <= found
