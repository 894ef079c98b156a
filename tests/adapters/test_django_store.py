"""`SessionStore` and `request.session` as Django's own tests of session stores ask them to be."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import django_project

django_project.configure()

from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from sessile.adapters.django import SessionStore, sessions  # noqa: E402
from sessile.adapters.django.expiry import is_over  # noqa: E402
from sessile.adapters.django.told import joined  # noqa: E402
from sessile.core.answers import Answer  # noqa: E402
from sessile.core.record import EndReason  # noqa: E402
from sessile.errors import SessionClosed  # noqa: E402
from sessile.testing import FrozenClock  # noqa: E402
from tests.support.requirements import requirement  # noqa: E402

SEEN: list[Any] = []


def look_behind(request: HttpRequest) -> HttpResponse:
    """Say what is stored, while something else is about to be."""
    request.session["cart"] = ["unsaved"]
    SEEN.append(request.session.load())
    return HttpResponse("seen")


@csrf_exempt
def hand_out(request: HttpRequest) -> HttpResponse:
    """Store something, and keep the session for later."""
    request.session["cart"] = ["book"]
    SEEN.append(request.session)
    return HttpResponse("kept")


urlpatterns = [path("behind", look_behind), path("keep", hand_out)]


@pytest.fixture(autouse=True, params=["memory", "sqlite"])
def fixture_clock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FrozenClock]:
    """Give each test a store of its own, on each kind of store, and its time."""
    clock = FrozenClock(dt.datetime.now(dt.UTC).timestamp())
    store = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    django_project.use(store=store, sinks=(), clock=clock)
    SEEN.clear()
    with override_settings(ROOT_URLCONF=__name__):
        yield clock
    sessions().close()


def stored(**data: Any) -> SessionStore:
    """Return a session that is stored."""
    session = SessionStore()
    session.update(data)
    session.save()
    return session


@pytest.mark.parametrize("key", [None, "", "someunknownkey", "0" * 40])
def test_under_no_key_and_under_an_unknown_one_no_session_exists(key: str | None) -> None:
    """`exists` answers, whatever a project asks it."""
    session = SessionStore()
    assert not session.exists(key)
    assert not asyncio.run(session.aexists(key))


def test_after_delete_the_session_has_no_key_and_does_not_exist() -> None:
    """`exists(session_key)` is the idiom to look whether it worked."""
    session = stored(cart=1)
    token = session.session_key
    session.delete(token)
    assert session.session_key is None
    assert not session.exists(session.session_key)
    assert not session.exists(token)


@pytest.mark.parametrize("renewing", ["flush", "cycle_key", "create"])
def test_a_session_counts_as_modified_after_it_was_ended_or_renewed(renewing: str) -> None:
    """Packages look at `modified` after `flush()`."""
    session = stored(cart=1)
    session.modified = False
    getattr(session, renewing)()
    assert session.modified
    session = stored(cart=1)
    session.modified = False
    asyncio.run(getattr(session, f"a{renewing}")())
    assert session.modified


class TestModified:
    """`modified` is what Django says it is, and decides nothing."""

    def test_what_is_set_and_taken_back_counts(self) -> None:
        """A change that ends where it began is a change."""
        session = SessionStore()
        session["cart"] = 1
        assert session.pop("cart") == 1
        assert session.modified
        same = SessionStore(stored(cart=1).session_key)
        assert same["cart"] == 1
        assert not same.modified
        same["cart"] = 1
        assert same.modified

    def test_looking_after_it_was_denied_changes_nothing(self) -> None:
        """`modified = False`, then reading in every way: it stays False."""
        session = SessionStore()
        session["cart"] = [1]
        session.modified = False
        assert "cart" in session
        assert list(session.keys()) == ["cart"]
        assert list(session.items()) == [("cart", [1])]
        assert session.get("cart") == [1]
        assert not session.modified

    def test_a_nested_change_after_it_was_denied_counts(self) -> None:
        """What was said holds for what was done so far, not for what comes."""
        session = SessionStore()
        session["cart"] = [1]
        session.modified = False
        session["cart"].append(2)
        assert session.modified

    @pytest.mark.parametrize("doing", ["clear", "flush", "cycle_key"])
    def test_what_ends_or_renews_the_session_counts_after_it_was_denied(self, doing: str) -> None:
        """A sign-out cannot be talked away."""
        session = stored(cart=1)
        session["cart"] = 2
        session.modified = False
        getattr(session, doing)()
        assert session.modified

    def test_a_value_that_cannot_be_stored_counts(self) -> None:
        """To ask and to deny raise nothing: the commit names the key."""
        session = SessionStore()
        session["cart"] = object()
        session.modified = False
        assert session.modified

    @requirement("R43")
    def test_denying_it_drops_nothing(self) -> None:
        """What was done is stored, whatever is said of it."""
        session = stored(cart=1)
        session["cart"] = 2
        session.modified = False
        session.save()
        assert SessionStore(session.session_key)["cart"] == 2


class TestLoad:
    """`load` reads what is stored."""

    def test_load_reads_what_another_process_stored_and_not_what_is_unsaved(self) -> None:
        """And it changes nothing of what is at hand."""
        mine = stored(cart=["book"])
        assert mine["cart"] == ["book"]
        theirs = SessionStore(mine.session_key)
        theirs["cart"] = ["lamp"]
        theirs.save()
        mine["note"] = "unsaved"
        assert mine.load() == {"cart": ["lamp"]}
        assert asyncio.run(mine.aload()) == {"cart": ["lamp"]}
        assert mine["note"] == "unsaved"
        assert mine["cart"] == ["book"]

    def test_load_of_an_unknown_key_is_empty_and_creates_nothing(self) -> None:
        """Guessing keys must not fill the store."""
        session = SessionStore("someunknownkey")
        assert session.load() == {}
        assert session.session_key is None
        assert sessions().stats().live == 0

    @requirement("R42")
    def test_load_of_an_ended_session_is_empty(self) -> None:
        """The end is final."""
        session = stored(cart=1)
        assert session["cart"] == 1
        assert session.id is not None
        sessions().end(session.id, reason=EndReason.ADMIN)
        assert session.load() == {}

    def test_load_in_a_request_reads_what_is_stored(self) -> None:
        """`request.session.load()` is no copy of what the view has just written."""
        browser = Client()
        browser.get("/behind")
        browser.get("/behind")
        assert SEEN == [{}, {"cart": ["unsaved"]}]

    def test_load_after_the_response_says_that_it_is_too_late(self) -> None:
        """The session is closed, and says so, as for every other verb."""
        browser = Client()
        browser.get("/keep")
        with pytest.raises(SessionClosed):
            SEEN[0].load()


class TestExpiry:
    """A moment that has passed ends the session, at once."""

    @pytest.mark.parametrize("expiry", [dt.timedelta(seconds=-10), dt.datetime(2020, 1, 1, tzinfo=dt.UTC), -10])
    @requirement("R36")
    def test_a_session_whose_expiry_lies_in_the_past_is_over(self, expiry: Any) -> None:
        """What was stored to be over opens nothing, not for a second."""
        session = stored(cart=1)
        session.set_expiry(expiry)
        session.save()
        again = SessionStore(session.session_key)
        assert "cart" not in again
        assert again.session_key is None
        assert not session.exists(session.session_key)

    def test_a_date_is_enforced_at_its_moment_and_seconds_are_enforced_late(self, fixture_clock: FrozenClock) -> None:
        """A date is like the absolute limit, seconds are like the idle limit (R38)."""
        at = dt.datetime.fromtimestamp(fixture_clock() + 100, dt.UTC)
        dated, counted = stored(cart=1), stored(cart=1)
        dated.set_expiry(at)
        dated.save()
        counted.set_expiry(100)
        counted.save()
        fixture_clock.advance(99)
        assert "cart" in SessionStore(dated.session_key)
        fixture_clock.advance(2)
        assert "cart" not in SessionStore(dated.session_key)
        assert "cart" in SessionStore(counted.session_key)

    @pytest.mark.parametrize("expiry", [0, None, "next Tuesday", "9999-12-31T23:59:59-23:59", float("nan"), [1], b"1"])
    def test_what_says_no_moment_ends_nothing(self, expiry: Any) -> None:
        """The policy's limits hold in any case."""
        assert not is_over(expiry, seen_at=1000.0, now=2000.0, tolerance=5.0)


def test_nobody_sets_a_key() -> None:
    """A key that somebody else has chosen is a fixated one (R25)."""
    session: Any = SessionStore()
    with pytest.raises(AttributeError):
        session._session_key = "12345678"


def test_two_commits_are_told_with_all_their_cookies_and_the_later_one_wins() -> None:
    """A session that lives in several cookies changes single ones of them."""
    first = Answer("__Host-id=1; Path=/", more=("__Host-id.1=a; Path=/", "__Host-id.2=b; Path=/"))
    second = Answer("__Host-id=2; Path=/", more=("__Host-id.2=c; Path=/",))
    both = joined(first, second)
    assert both.cookie == "__Host-id=2; Path=/"
    assert both.more == ("__Host-id.1=a; Path=/", "__Host-id.2=c; Path=/")
