"""The two doors: the same methods, and what they may show and end."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import msgspec
import pytest

from sessile import AsyncSessions, ConfigurationError, EndReason, Sessions
from sessile.core.answers import Answer
from sessile.core.events import Event
from sessile.core.ports import Ending
from sessile.core.record import Tombstone
from sessile.core.session import Session
from sessile.errors import StoreUnavailable
from sessile.stores.memory import MemoryStore
from tests.core.rig import FIREFOX, facts, token_of
from tests.support.requirements import requirement

KEYS = "k0." + "A" * 43


def blocking(**options: Any) -> Sessions:
    """Return the blocking door on a fresh store."""
    return Sessions("memory://", keys=KEYS, sinks=(), **options)


def sign_in(door: Sessions, user: str = "ada", **how: Any) -> tuple[Session, str]:
    """Sign in, and return the committed session and its token."""
    session = door.open(facts(**how))
    session.login(user)
    token = token_of(door.commit(session))
    assert token
    return session, token


def test_both_doors_have_the_same_methods() -> None:
    """With the same parameters; only `async` differs."""
    mine = {name: method for name, method in vars(Sessions).items() if not name.startswith("_")}
    theirs = {name: method for name, method in vars(AsyncSessions).items() if not name.startswith("_")}
    assert mine.keys() == theirs.keys()
    for name, method in mine.items():
        if inspect.isfunction(method):
            assert list(inspect.signature(method).parameters) == list(inspect.signature(theirs[name]).parameters), name
            assert method.__doc__ == theirs[name].__doc__, name


@requirement("R65")
def test_a_list_of_devices_shows_who_what_and_when_and_no_secret() -> None:
    """Agent, platform, times, "this one" first; neither token nor data."""
    door = blocking(places=lambda _address: "Oslo", clock=lambda: 1000.0)
    sign_in(door)
    session, token = sign_in(door, user_agent=FIREFOX)
    here = door.open(facts(token, user_agent=FIREFOX))
    here["secret"] = "the data"
    door.commit(here)
    listed = door.of_user("ada", current=here)
    assert [info.current for info in listed] == [True, False]
    assert (listed[0].label, listed[0].place, listed[0].kind) == ("Firefox on Linux", "Oslo", "authenticated")
    assert listed[1].label == "Unknown device"
    shown = repr(listed) + repr(msgspec.to_builtins(listed))
    assert token not in shown
    assert token[2:20] not in shown
    assert "the data" not in shown
    assert "192.0.2" not in shown
    assert door.describe(here) == door.describe(door.open(facts(token, user_agent=FIREFOX)))
    assert door.describe(door.open(facts())) is None
    assert session.id == listed[0].id


@requirement("R65")
def test_ending_is_bounded_by_the_user_it_is_done_for() -> None:
    """A user ends their own; another one's id answers "it was not alive"."""
    door = blocking()
    adas, token = sign_in(door, "ada")
    sign_in(door, "bob")
    assert adas.id is not None
    assert not door.end(adas.id, user="bob")
    assert door.open(facts(token)).user_id == "ada"
    ended = door.end(adas.id, user="ada", reason=EndReason.USER)
    assert (ended, ended.outcome, str(ended)) == (1, "confirmed", "1")
    assert not door.end(adas.id, user="ada")
    assert door.open(facts(token)).user_id is None


@requirement("R61", "R62", "R63")
def test_ending_all_keeps_the_one_that_asks() -> None:
    """By session or by id; without `keep`, none stays."""
    door = blocking()
    kept, token = sign_in(door)
    others = [sign_in(door)[1] for _ in range(3)]
    assert door.end_all("ada", keep=kept) == 3
    assert door.open(facts(token)).user_id == "ada"
    assert [door.open(facts(other)).user_id for other in others] == [None] * 3
    assert door.end_all("ada", keep=kept.id) == 0
    assert door.end_all("ada") == 1
    assert door.of_user("ada") == []


class Lagging(MemoryStore):
    """Be a store with a copy that has not answered yet."""

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """End it here; nobody confirms."""
        return (await super().end(session_id, tombstone))._replace(confirmed=False)

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End them here; nobody confirms."""
        return (await super().end_user(user, tombstone, keep))._replace(confirmed=False)

    async def end_everything(self, at: float) -> Ending:
        """End them here; nobody confirms."""
        return (await super().end_everything(at))._replace(confirmed=False)


@requirement("R51", "R61")
def test_an_end_that_is_not_confirmed_says_so() -> None:
    """To the caller, in the middle of the request too, and in the event."""
    told: list[Event] = []
    door = Sessions(Lagging(), sinks=(told.append,))
    ids = [sign_in(door)[0].id for _ in range(2)]
    assert ids[0] is not None
    assert door.end(ids[0]).outcome == "unconfirmed"
    assert door.end_all("ada").outcome == "unconfirmed"
    assert door.end_everything().outcome == "unconfirmed"
    assert [event.sentence().count("Not every copy") for event in told if "ended" in event.code] == [1, 1, 1]

    _, token = sign_in(door)
    session = door.open(facts(token))
    assert door.sign_out(session).outcome == "unconfirmed"
    assert session.user_id is None
    assert door.open(facts(token)).user_id is None
    answer = door.commit(session)
    assert "Max-Age=0" in (answer.cookie or "")


@requirement("R45", "R61")
def test_a_sign_out_that_failed_is_tried_again_at_the_commit() -> None:
    """The view may catch the error; the response is no success unless the commit ended the session."""

    class Once(MemoryStore):
        failures = 1

        async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("down")
            return await super().end(session_id, tombstone)

    door = Sessions(Once(), sinks=())
    _, token = sign_in(door)
    session = door.open(facts(token))
    with pytest.raises(StoreUnavailable):
        door.sign_out(session)
    assert door.open(facts(token)).user_id == "ada"
    assert "Max-Age=0" in (door.commit(session).cookie or "")
    assert door.open(facts(token)).user_id is None


def test_the_rest_of_the_door_works() -> None:
    """Counting, listing, sweeping, reporting, closing twice."""
    now = [1000.0]
    door = blocking(clock=lambda: now[0])
    for user in ("ada", "ada", "bob"):
        sign_in(door, user)
    stats = door.stats()
    assert (stats.live, stats.signed_in, stats.users) == (3, 3, 2)
    assert len(door.scan(limit=2).sessions) == 2
    assert "Session policy: AAL2" in str(door.report())
    now[0] += 100_000
    assert door.of_user("ada") == []
    assert door.sweep() == 3
    assert door.stats().live == 0
    sign_in(door)
    door.end_everything()
    assert door.of_user("ada") == []
    door.close()
    door.close()


def test_the_asynchronous_door_does_the_same() -> None:
    """Every method once, on a loop."""

    async def story() -> None:
        door = AsyncSessions("memory://", keys=KEYS, sinks=())
        session = await door.open(facts())
        session.login("ada")
        answer: Answer = await door.commit(session)
        again = await door.open(facts(token_of(answer)))
        assert again.user_id == "ada"
        assert (await door.of_user("ada", current=again))[0].current
        assert (await door.describe(again)) is not None
        assert (await door.stats()).live == 1
        assert len((await door.scan()).sessions) == 1
        assert await door.sweep() == 0
        assert again.id is not None
        assert await door.end(again.id, user="ada")
        assert await door.end_all("ada") == 0
        await door.end_everything()
        assert door.report().name == "AAL2"
        await door.close()

    asyncio.run(story())


def test_an_unknown_option_is_an_error_that_names_the_known_ones() -> None:
    """A typing error does not switch a protection off silently."""
    with pytest.raises(ConfigurationError, match=r"unknown option 'polcy'; there are .*policy"):
        blocking(polcy=1)


def test_an_event_sink_that_is_given_hears_and_the_log_is_the_default(caplog: pytest.LogCaptureFixture) -> None:
    """Without `sinks`, events go to the log."""
    heard: list[str] = []
    door = Sessions("memory://", keys=KEYS, sinks=[lambda event: heard.append(event.code)])
    sign_in(door)
    assert heard == ["signed-in"]
    assert caplog.records == []
    with caplog.at_level("INFO", "sessile.events"):
        sign_in(Sessions("memory://", keys=KEYS))
    assert [record.message.split()[0] for record in caplog.records] == ["signed-in"]
