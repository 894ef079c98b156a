"""Sessions that live in several cookies, through every adapter: all of them arrive, and all of them go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.invariants.harness import ADAPTERS, COOKIE, Browser, World, world
from tests.support.requirements import requirement

BIG = "x" * 4_500


@pytest.fixture(name="world", params=ADAPTERS)
def fixture_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Return a world whose sessions live in cookies."""
    with world(str(request.param), "cookie", tmp_path) as made:
        yield made


def signed_in(world: World) -> Browser:
    """Return a browser whose session takes two cookies."""
    browser = world.browser()
    browser.post("/login", user="ada")
    assert browser.post("/set", key="big", value=BIG).status == 200
    assert set(browser.jar) == {COOKIE, f"{COOKIE}.1"}
    return browser


@requirement("R14", "R18")
def test_all_cookies_arrive_with_their_attributes_and_all_are_deleted(world: World) -> None:
    """Two are set, read back, kept out of caches, and deleted at the sign-out, each as it was set."""
    browser = signed_in(world)
    assert browser.get("/").json["data"] == {"big": BIG}
    reply = browser.post("/set", key="more", value="y")
    for line in reply.all("set-cookie"):
        pair, *attributes = line.split("; ")
        assert len(pair) <= 4097
        assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]
    assert reply.is_kept_out_of_caches
    assert browser.post("/logout").cookies == {COOKIE: None, f"{COOKIE}.1": None}
    assert browser.jar == {}


@requirement("R14")
def test_what_is_no_longer_needed_is_deleted_when_it_shrinks(world: World) -> None:
    """And grows again, and a renewal carries all of it over."""
    browser = signed_in(world)
    browser.post("/set", key="big", value="small")
    assert set(browser.jar) == {COOKIE}
    browser.post("/set", key="big", value=BIG)
    thief = browser.copy()
    browser.post("/login", user="ada")
    found = browser.get("/").json
    assert (found["user"], found["data"]) == ("ada", {"big": BIG})
    assert thief.get("/private").status == 401


@requirement("R14")
def test_past_the_limit_the_answer_is_an_error_and_nothing_is_lost(world: World) -> None:
    """No silent drop: the response that would say "done" is replaced, and the session is as it was."""
    browser = signed_in(world)
    before = dict(browser.jar)
    reply = browser.post("/set", key="more", value="y" * 3_000)
    assert reply.status == 500
    assert b"done" not in reply.body
    assert reply.cookies == {}
    assert browser.jar == before
    assert browser.get("/").json["data"] == {"big": BIG}


@requirement("R44")
def test_the_time_of_use_has_a_cookie_of_its_own(world: World) -> None:
    """A page that only reads sends a few bytes, not the session again; the sign-out deletes that one, too."""
    browser = signed_in(world)
    world.clock.advance(61)
    reply = browser.get("/")
    assert list(reply.cookies) == [f"{COOKIE}.t"]
    assert reply.is_kept_out_of_caches
    assert browser.get("/").cookies == {}
    assert browser.post("/logout").cookies == {COOKIE: None, f"{COOKIE}.1": None, f"{COOKIE}.t": None}
