"""The frozen clock and the recording sink."""

from __future__ import annotations

import math
import time

import pytest

from sessile import EndReason, Facts, Policy, Sessions
from sessile.core.events import SessionEnded, SignedIn, TokenRefused
from sessile.core.requests import no_headers
from sessile.testing import FrozenClock, RecordingSink, freeze, mint_session, record
from tests.support.requirements import requirement


def facts(cookie: str = "") -> Facts:
    """Describe a request."""
    return Facts("GET", "https", "shop.example", "/", "", cookie, no_headers)


def test_a_frozen_clock_moves_only_when_told() -> None:
    """Real time passes, its own does not."""
    clock = FrozenClock(1000)
    before = clock()
    time.sleep(0.002)
    assert clock() == before == 1000
    assert clock.advance(5) == clock() == 1005
    clock.advance(-6)
    assert clock() == 999


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf])
def test_a_clock_never_shows_what_is_no_time(seconds: float) -> None:
    """A NaN would make every deadline pass silently."""
    with pytest.raises(ValueError, match="finite"):
        FrozenClock().advance(seconds)
    with pytest.raises(ValueError, match="finite"):
        FrozenClock(seconds)


@requirement("R33")
def test_a_session_ages_by_the_clock_it_was_given() -> None:
    """A test of the idle timeout takes no hour."""
    clock, events = FrozenClock(), RecordingSink()
    sessions = Sessions("memory://", clock=clock, sinks=[events])
    minted = mint_session(sessions, "ann")
    cookie = f"{minted.name}={minted.token}"
    clock.advance(3600)
    assert sessions.open(facts(cookie)).user_id == "ann"
    clock.advance(3600 + Policy().tolerance + 1)
    assert sessions.open(facts(cookie)).user_id is None
    assert [event.reason for event in events.of(SessionEnded)] == [EndReason.IDLE]


def test_freezing_reaches_sessions_that_exist_and_lets_them_go_again() -> None:
    """An application that makes its sessions when it is imported can be aged, too."""
    sessions = Sessions("memory://", sinks=())
    minted = mint_session(sessions, "ann")
    cookie = f"{minted.name}={minted.token}"
    with freeze(sessions) as clock:
        session = sessions.open(facts(cookie))
        assert session.user_id == "ann"
        assert session.now == clock() == pytest.approx(time.time(), abs=60)
        clock.advance(90_000)
        assert session.now == clock()
        assert sessions.open(facts(cookie)).ended is EndReason.ABSOLUTE
    assert sessions.engine.clock is time.time
    assert sessions.open(facts()).now == pytest.approx(time.time(), abs=60)


def test_freezing_lets_go_when_the_test_fails() -> None:
    """One failing test does not freeze the next."""
    sessions = Sessions("memory://", sinks=())
    with pytest.raises(ZeroDivisionError), freeze(sessions), record(sessions):
        _ = 1 / 0
    assert sessions.engine.clock is time.time
    assert sessions.engine.sinks == ()


def test_a_sink_remembers_in_order_finds_by_kind_and_forgets() -> None:
    """A test asks what happened, not what was logged."""
    sessions = Sessions("memory://", sinks=())
    with record(sessions) as events:
        mint_session(sessions, "ann", factors=["password"])
        sessions.open(facts("__Host-id=" + "A" * 63))
        sessions.end_all("ann")
    sessions.open(facts("__Host-id=" + "A" * 63))
    assert events.codes == ["signed-in", "token-refused", "session-ended"]
    assert [event.user for event in events.of(SignedIn)] == ["ann"]
    assert [event.why for event in events.of(TokenRefused)] == ["forged"]
    assert len(events) == len(list(events)) == 3
    assert "signed-in" in repr(events)
    events.clear()
    assert events.events == []
