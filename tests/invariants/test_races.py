"""Requests that overlap: at a rotation, across a sign-in, across a sign-out, across an end of everything."""

from __future__ import annotations

import random

import pytest

from sessile.core.policy import Policy
from tests.invariants.harness import COOKIE, Browser, Reply, World
from tests.support.requirements import requirement

ROTATION, GRACE = Policy().rotation, Policy().grace


def sign_in(world: World, user: str = "ada") -> Browser:
    """Return a browser in which somebody signed in, and whose token was used once."""
    browser = world.browser()
    browser.post("/login", user=user)
    browser.get("/plain")
    return browser


def storm(world: World, browser: Browser, count: int, gate: str) -> list[Reply]:
    """Send requests that all have read their session before the first of them is answered."""
    running = [world.start(browser, "GET", "/slow", gate=gate) for _ in range(count)]
    world.gates.wait_for(gate, count)
    world.gates.open(gate)
    return [one.result() for one in running]


def assert_signed_in(reply: Reply, user: str = "ada") -> None:
    """Say that a request was served as this user's."""
    assert (reply.status, reply.json["user"]) == (200, user)


@requirement("R29", "R31")
class TestRotationStorm:
    """T6: the moment at which the token is rotated."""

    @pytest.mark.parametrize("seed", range(3))
    def test_fifty_requests_at_the_rotation_all_succeed_in_any_order(self, world: World, seed: int) -> None:
        """Three tabs share a jar; answers come in any order, some never: nobody is signed out, one line settles."""
        chance = random.Random(seed)
        browser = sign_in(world)
        tabs = [browser.tab(), browser.tab(), browser.tab()]
        world.clock.advance(ROTATION + 1)
        replies = storm(world, browser, 50, "storm")
        chance.shuffle(replies)
        handed = {reply.cookies[COOKIE] for reply in replies if reply.cookies}
        assert handed, {(reply.status, str(reply.json)[:200]) for reply in replies}
        for number, reply in enumerate(replies):
            assert_signed_in(reply)
            if chance.random() < 0.8 or number == 49:
                chance.choice(tabs).take(reply)
            if chance.random() < 0.2:
                assert_signed_in(chance.choice(tabs).get("/"))
                world.clock.advance(chance.random())
        for _ in range(4):
            for tab in tabs:
                assert_signed_in(tab.get("/"))
            world.clock.advance(GRACE + 1)
        settled = browser.token
        assert_signed_in(browser.get("/"))
        # Only the token in the jar lives on: every other successor that was seen is a replay by now.
        assert "replay-detected" not in world.codes()
        [listed] = world.app.door("of_user", "ada")
        assert listed.user == "ada"
        assert browser.token == settled

    def test_the_old_token_dies_when_its_grace_is_over(self, world: World) -> None:
        """In flight it is served; afterwards it gives a thief away."""
        browser = sign_in(world)
        old = browser.copy()
        world.clock.advance(ROTATION + 1)
        browser.get("/")
        assert_signed_in(browser.get("/"))
        world.clock.advance(GRACE - 1)
        in_flight = old.get("/")
        assert_signed_in(in_flight)
        assert in_flight.cookies == {}
        world.clock.advance(2)
        assert old.get("/").json["user"] is None
        assert "replay-detected" in world.codes()

    def test_a_dropped_cookie_logs_nobody_out(self, world: World) -> None:
        """Whose response was lost comes with the old token and is handed another successor, as often as it takes."""
        browser = sign_in(world)
        world.clock.advance(ROTATION + 1)
        seen = set()
        for _ in range(3):
            lost = world.start(browser, "GET", "/").result()
            assert_signed_in(lost)
            seen.add(lost.cookies[COOKIE])
            world.clock.advance(GRACE * 4)
        assert len(seen) == 3
        old = browser.token
        assert_signed_in(browser.get("/"))
        assert browser.token != old
        assert_signed_in(browser.get("/"))
        assert "replay-detected" not in world.codes()

    def test_rotation_after_rotation_under_load_loses_nobody_and_nothing(self, world: World) -> None:
        """Ten rotations, each in a burst that also writes: the user stays, and so does what was written."""
        browser = sign_in(world)
        first = browser.token
        for number in range(10):
            world.clock.advance(ROTATION + 1)
            gate = f"burst {number}"
            running = [
                world.start(browser, "POST", "/slow", gate=gate, key=f"{number}-{part}", value="x") for part in range(4)
            ]
            world.gates.wait_for(gate, 4)
            world.gates.open(gate)
            for one in running:
                assert_signed_in(browser.take(one.result()))
            assert_signed_in(browser.get("/"))
            world.clock.advance(GRACE + 1)
            assert_signed_in(browser.get("/"))
        assert len(browser.get("/").json["data"]) == 40
        assert browser.token != first
        assert "replay-detected" not in world.codes()


@requirement("R42")
class TestInFlight:
    """Answers that come late neither overwrite nor delete the cookie that a sign-in has set meanwhile."""

    LATE = (
        {},
        {"key": "late", "value": "yes"},
        {"then": "/cart", "item": "late"},
        {"then": "/logout"},
        {"then": "/drop-userkey"},
    )

    @pytest.mark.parametrize("query", LATE)
    def test_across_a_sign_in(self, world: World, query: dict[str, str]) -> None:
        """The visitor's request ends after the sign-in; its answer leaves the user's cookie alone."""
        browser = world.browser()
        browser.post("/cart", item="book")
        late = world.start(browser, "POST", "/slow", gate="late", **query)
        world.gates.wait_for("late")
        browser.post("/login", user="ada")
        token = browser.token
        world.gates.open("late")
        reply = browser.take(late.result())
        assert reply.cookies == {}
        assert browser.token == token
        assert "cookies" not in (reply.header("clear-site-data") or "")
        assert_signed_in(browser.get("/"))

    @pytest.mark.parametrize("query", LATE)
    def test_across_a_sign_out_that_is_followed_by_a_sign_in(self, world: World, query: dict[str, str]) -> None:
        """The first user's request ends when the second one is there; the second one notices nothing."""
        browser = sign_in(world)
        late = world.start(browser, "POST", "/slow", gate="late", **query)
        world.gates.wait_for("late")
        browser.post("/logout")
        browser.post("/login", user="bob")
        token = browser.token
        world.gates.open("late")
        reply = browser.take(late.result())
        assert reply.cookies == {}
        assert browser.token == token
        assert "cookies" not in (reply.header("clear-site-data") or "")
        found = browser.get("/").json
        assert (found["user"], found["cart"]) == ("bob", [])

    @pytest.mark.parametrize("query", LATE)
    def test_a_request_that_only_arrives_after_the_sign_in_is_no_different(
        self, world: World, query: dict[str, str]
    ) -> None:
        """It was sent with the old cookie and overtaken on the way."""
        browser = sign_in(world)
        overtaken = browser.copy()
        browser.post("/logout")
        browser.post("/login", user="bob")
        world.gates.open("open")
        reply = overtaken.post("/slow", gate="open", **query)
        assert reply.cookies == {}
        assert "cookies" not in (reply.header("clear-site-data") or "")
        assert_signed_in(browser.get("/"), "bob")

    def test_across_a_rotation_and_a_sign_in(self, world: World) -> None:
        """A slow request that is owed a successor gets none once its session was renewed."""
        browser = sign_in(world)
        world.clock.advance(ROTATION + 1)
        running = [world.start(browser, "GET", "/slow", gate=f"late {number}") for number in range(2)]
        world.gates.wait_for("late 0")
        world.gates.wait_for("late 1")
        world.gates.open("late 0")
        browser.take(running[0].result())
        browser.post("/login", user="ada")
        token = browser.token
        world.gates.open("late 1")
        assert running[1].result().cookies == {}
        assert browser.token == token
        assert_signed_in(browser.get("/"))


@requirement("R43")
def test_concurrent_writers_of_different_keys_all_win(world: World) -> None:
    """T2: twenty-five requests read the same state, each writes its own key, and every key is there."""
    browser = sign_in(world)
    running = [
        world.start(browser, "POST", "/slow", gate="writers", key=f"key{number}", value=str(number))
        for number in range(25)
    ]
    world.gates.wait_for("writers", 25)
    world.gates.open("writers")
    assert {one.result().status for one in running} == {200}
    assert browser.get("/").json["data"] == {f"key{number}": str(number) for number in range(25)}


@requirement("R49", "R50")
def test_ending_all_misses_no_session_that_is_being_renewed(world: World) -> None:
    """T7: renewals, writes and rotations run while everything of the user ends; no survivor, and an empty index."""
    for turn in range(5):
        browsers = [sign_in(world) for _ in range(6)]
        other = sign_in(world, "bob")
        world.clock.advance(ROTATION + 1)
        gate = f"turn {turn}"
        actions = [
            {"then": "/rotate"},
            {"then": "/factor", "name": "totp"},
            {"then": "/login", "user": "ada"},
            {"key": "late", "value": "yes"},
            {"then": "/cart", "item": "late"},
            {},
        ]
        running = [
            world.start(browser, "POST", "/slow", gate=gate, **action)
            for browser, action in zip(browsers, actions, strict=True)
        ]
        world.gates.wait_for(gate, len(running))
        assert world.app.door("end_all", "ada") == len(browsers)
        world.gates.open(gate)
        for browser, one, action in zip(browsers, running, actions, strict=True):
            reply = one.result()
            if action.get("then") != "/login":
                # Signing in again is a new proof of who they are; everything else died with the session.
                assert reply.cookies == {}
                assert browser.get("/private").status == 401
            else:
                browser.take(reply)
                assert browser.get("/private").status == 200
                browser.post("/logout")
        assert world.app.door("of_user", "ada") == []
        assert_signed_in(other.get("/"), "bob")
        other.post("/logout")
    assert [record for record in world.live() if record.control.user is not None] == []
