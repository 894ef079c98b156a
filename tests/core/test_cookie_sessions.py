"""Sessions that live in cookies: what they hold, that they end, and what an attacker gets who alters them."""

from __future__ import annotations

import asyncio
import base64
import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile import AsyncSessions, Sessions
from sessile.core.answers import Answer
from sessile.core.cookies import CookieRules
from sessile.core.events import TokenRefused
from sessile.core.keys import KeyRing
from sessile.core.lately import REMEMBERED
from sessile.core.policy import HOUR, Policy
from sessile.core.ports import Claim, Diagnosable
from sessile.core.record import SCHEMA, encode_control, encode_data
from sessile.core.sealedcookies import LIMIT, MAX_COOKIES, MOST, Found, Kept, SessionCookies, applied
from sessile.core.sealing import Sealer
from sessile.core.session import Session, anonymous
from sessile.errors import (
    ConfigurationError,
    KeyMissing,
    SessionGone,
    SessionTooLarge,
    StoreUnavailable,
    Unsupported,
)
from sessile.stores import open_store
from sessile.stores.cookie import CookieStore, EmbeddedCookieStore, open_revocations
from sessile.stores.memory_revocations import MemoryRevocations
from sessile.testing.store_contract import new_id
from tests.core.cookie_rig import NAME, RING, SAFARI, Browser, Rig
from tests.support.requirements import requirement
from tests.support.servers import shared

Make = Callable[..., Rig]


class Switch:
    """Be ends that can be made to fail, and that count what they are asked."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.down = False

    def __getattr__(self, verb: str) -> Any:
        if verb not in ("check", "begin", "end", "end_user", "end_everything", "sweep", "close"):
            raise AttributeError(verb)

        async def call(*given: Any, **named: Any) -> Any:
            self.calls.append(verb)
            if self.down:
                raise StoreUnavailable("down")
            return await getattr(self.inner, verb)(*given, **named)

        return call


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    """Name what remembers the ends."""
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def blocking(request: pytest.FixtureRequest) -> bool:
    """Name the door."""
    return bool(request.param)


@pytest.fixture
def make(kind: str, blocking: bool, tmp_path: Path) -> Iterator[Make]:
    """Return what starts a rig."""
    rigs: list[Rig] = []

    def start(**options: Any) -> Rig:
        url = {
            "memory": "memory://",
            "sqlite": f"sqlite:///{tmp_path / 'ends.db'}",
            "redis": f"redis://127.0.0.1:{shared('redis').port}?prefix={new_id()}:" if kind == "redis" else "",
        }[kind]
        rigs.append(Rig(Switch(open_revocations(url, blocking=blocking)), blocking=blocking, **options))
        return rigs[-1]

    yield start
    for rig in rigs:
        if isinstance(rig.ends, Switch):
            rig.ends.down = False
        rig.close()


@pytest.fixture
def rig(make: Make) -> Rig:
    """Return a rig with its defaults."""
    return make()


@pytest.fixture
def plain() -> Iterator[Rig]:
    """Return a rig on the memory's ends, for what does not depend on them."""
    one = Rig(Switch(MemoryRevocations()))
    yield one
    one.close()


@pytest.fixture
def endless() -> Iterator[Rig]:
    """Return a rig that remembers no ends."""
    one = Rig(None)
    yield one
    one.close()


def nobody(browser: Browser) -> bool:
    """Tell whether a browser's request is served as nobody's."""
    return browser.look() == (None, {})


# -- the life of a session ---------------------------------------------------------------------------------------------


@requirement("R25", "R26")
class TestItsLife:
    """It is a session like any other."""

    def test_data_and_user_live_in_the_browser(self, rig: Rig) -> None:
        """What is written is read again, nested changes too; the cookie shows none of it."""
        browser = rig.browser()
        browser.do(lambda session: session.update(cart=["book"], note="a private matter"))
        browser.do(lambda session: session["cart"].append("pen"))
        browser.sign_in("ada")
        assert browser.look() == ("ada", {"cart": ["book", "pen"], "note": "a private matter"})
        text = browser.jar[NAME]
        raw = base64.urlsafe_b64decode(text[1:])
        assert b"private" not in raw
        assert b"ada" not in raw
        assert [*browser.jar] == [NAME]

    def test_a_visitor_who_stores_nothing_costs_nothing(self, rig: Rig) -> None:
        """No cookie, no question."""
        assert rig.browser().do(lambda session: session.get("cart")).cookie is None
        assert rig.ends.calls == []

    def test_a_read_costs_one_question_and_a_write_two(self, rig: Rig) -> None:
        """One round trip for a request that carries a session; one more to write, or to renew."""
        browser = rig.browser().sign_in()
        rig.ends.calls.clear()
        browser.look()
        assert rig.ends.calls == ["check"]
        rig.ends.calls.clear()
        browser.do(lambda session: session.update(a=1))
        assert rig.ends.calls == ["check", "check"]
        rig.ends.calls.clear()
        rig.now += Policy().touch
        browser.look()
        assert rig.ends.calls == ["check", "check"]
        rig.ends.calls.clear()
        browser.do(lambda session: session.login("ada"))
        assert [call for call in rig.ends.calls if call != "sweep"] == ["check", "begin"]

    @requirement("R44")
    def test_the_time_of_use_is_moved_without_the_data(self, rig: Rig) -> None:
        """A slow request that only reads cannot undo what another one wrote: it writes the time, and nothing else."""
        browser = rig.browser().sign_in()
        rig.now += Policy().touch
        slow = browser.open()
        slow.get("cart")
        browser.do(lambda session: session.update(cart=["book"]))
        answer = rig.call("commit", slow)
        assert answer.cookie is None
        assert [line.partition("=")[0] for line in answer.more] == [f"{NAME}.t"]
        browser.take(answer)
        assert browser.look() == ("ada", {"cart": ["book"]})

    @requirement("R36", "R37")
    def test_use_keeps_it_alive_and_disuse_ends_it(self, rig: Rig) -> None:
        """Idle time counts from the last use, which is sealed; an old copy of the cookies is as old as they are."""
        browser = rig.browser().sign_in()
        old = browser.copy()
        for _ in range(4):
            rig.now += 0.9 * Policy().idle
            assert browser.look()[0] == "ada"
        assert nobody(old)
        assert "session-ended" in rig.codes()
        assert nobody(browser)

    @requirement("R35", "R36")
    def test_its_absolute_age_ends_it_whatever_is_used(self, rig: Rig) -> None:
        """24 hours after the sign-in; a later policy that grants more does not prolong what was sealed."""
        browser = rig.browser().sign_in()
        for _ in range(26):
            rig.now += 0.9 * HOUR
            assert browser.look()[0] == "ada"
        longer = replace(Policy(), absolute=100 * HOUR)
        rig.engine.policy = longer
        rig.now += HOUR
        assert nobody(browser)

    @requirement("R40")
    def test_a_passive_request_is_no_use(self, rig: Rig) -> None:
        """Polling keeps nothing alive."""
        browser = rig.browser().sign_in()
        rig.now += 1800
        assert browser.open(passive=True).user_id == "ada"
        answer = browser.do(lambda session: session.get("a"), passive=True)
        assert not answer.sets_cookie
        rig.now += 1900
        assert nobody(browser)

    @requirement("R15", "R17")
    def test_a_persistent_cookie_is_written_anew_before_its_browser_forgets_it(self, make: Make) -> None:
        """Half of Max-Age after it was written; without a Max-Age it never has to be."""
        rig = make(cookie=CookieRules(max_age=2 * 3600), policy=Policy(idle=3 * HOUR))
        browser = rig.browser()
        browser.do(lambda session: session.login("ada"))
        before = browser.jar[NAME]
        rig.now += 3500
        browser.look()
        assert browser.jar[NAME] == before
        rig.now += 200
        browser.look()
        assert browser.jar[NAME] != before
        rig.now += 200
        before = browser.jar[NAME]
        browser.look()
        assert browser.jar[NAME] == before

    @requirement("R53")
    def test_another_client_is_challenged_and_stays_so(self, rig: Rig) -> None:
        """The thief's browser and network differ: the session grants nothing there, and is itself at home."""
        browser = rig.browser().sign_in()
        thief = rig.browser(browser.jar, SAFARI)
        session = thief.open(peer="203.0.113.9")
        assert (session.user_id, session.kind) == (None, "pending")
        thief.answer(session)
        assert thief.open(peer="203.0.113.9").user_id is None
        assert browser.look()[0] == "ada"
        assert "context-changed" in rig.codes()

    @requirement("R25")
    def test_a_renewal_ends_what_it_replaces(self, rig: Rig) -> None:
        """Sign-in, factor and rotation: new id, and every copy of the old cookie is out at once."""
        browser = rig.browser()
        browser.do(lambda session: session.update(cart=["book"]))
        for act in (
            lambda session: session.login("ada"),
            lambda session: session.add_factor("totp"),
            lambda session: session.rotate(),
            lambda session: session.login("ada"),
        ):
            old, before = browser.copy(), browser.open().id
            browser.do(act)
            assert browser.look() == ("ada", {"cart": ["book"]})
            assert browser.open().id != before
            assert nobody(old)

    @requirement("R42")
    def test_of_two_renewals_at_once_one_succeeds(self, rig: Rig) -> None:
        """The other is told that its session is gone."""
        browser = rig.browser().sign_in()
        one, two = browser.open(), browser.open()
        one.rotate()
        two.add_factor("totp")
        browser.answer(one)
        with pytest.raises(SessionGone):
            rig.call("commit", two)
        assert browser.look()[0] == "ada"

    @requirement("R10")
    def test_a_new_key_signs_nobody_out(self) -> None:
        """The old one opens until it is dropped; the next write seals with the new one."""
        ends = MemoryRevocations()
        browser = Rig(ends).browser().sign_in(note="text")
        both = Rig(ends, keys=KeyRing({1: bytes(32), 0: bytes(range(32))})).browser(browser.jar)
        assert both.look() == ("ada", {"note": "text"})
        both.do(lambda session: session.update(more=1))
        new = Rig(ends, keys=KeyRing({1: bytes(32)}))
        assert new.browser(both.jar).look() == ("ada", {"note": "text", "more": 1})
        assert nobody(new.browser(browser.jar))
        assert "token-refused" in new.codes()

    @requirement("R43")
    def test_two_writers_at_once_do_not_merge_and_who_must_know_is_told(self, plain: Rig) -> None:
        """The later answer wins as a whole: the documented limit. Who asks for conflicts gets an error, not silence."""
        browser = plain.browser().sign_in()
        one, two = browser.open(), browser.open()
        one["a"], two["b"] = 1, 2
        browser.answer(one)
        browser.answer(two)
        assert browser.look() == ("ada", {"b": 2})
        session = browser.open()
        session.raise_on_conflict = True
        session["c"] = 3
        with pytest.raises(Unsupported, match="same keys"):
            plain.call("commit", session)


# -- ends --------------------------------------------------------------------------------------------------------------


@requirement("R61", "R62", "R64")
class TestItEnds:
    """What no other cookie session does: a copy is dead."""

    ENDS: tuple[tuple[str, Callable[[Rig, Browser], Any]], ...] = (
        ("sign-out", lambda _rig, browser: browser.do(lambda session: session.logout())),
        ("everywhere", lambda _rig, browser: browser.do(lambda session: session.logout(everywhere=True))),
        ("clear", lambda _rig, browser: browser.do(lambda session: session.clear())),
        ("from elsewhere", lambda rig, browser: rig.call("end", browser.open().id)),
        ("all of the user's", lambda rig, _browser: rig.call("end_all", "ada")),
        ("everything", lambda rig, _browser: rig.call("end_everything")),
    )

    @pytest.mark.parametrize("how", [how for _, how in ENDS], ids=[name for name, _ in ENDS])
    def test_a_copy_is_refused_after_the_end(self, rig: Rig, how: Callable[[Rig, Browser], Any]) -> None:
        """Replayed at once, later, and by clocks that go backwards: nobody's."""
        browser = rig.browser().sign_in(cart=["book"])
        rig.now += 61
        browser.look()  # the time of use has a cookie of its own by now
        thief = browser.copy()
        assert f"{NAME}.t" in thief.jar
        how(rig, browser)
        for _ in range(2):
            assert nobody(thief.copy())
            assert "ended-token-used" in rig.codes()
        thief.do(lambda session: session.update(revived="yes"))
        assert thief.open().user_id is None
        rig.now -= 10 * HOUR
        assert nobody(rig.browser(browser.jar))

    @requirement("R18", "R68")
    def test_a_sign_out_deletes_every_cookie_of_it(self, rig: Rig) -> None:
        """All chunks and the time of use, under the attributes that they were set with."""
        browser = rig.browser().sign_in(big="x" * 4500)
        rig.now += 61
        browser.look()
        assert set(browser.jar) == {NAME, f"{NAME}.1", f"{NAME}.t"}
        answer = browser.do(lambda session: session.logout())
        assert browser.jar == {}
        assert answer.clear_site_data == '"cache", "cookies", "storage"'

    @requirement("R67")
    def test_a_second_sign_out_deletes_no_newer_cookie(self, rig: Rig) -> None:
        """It changes nothing: what its browser holds by now may be another session."""
        browser = rig.browser().sign_in()
        late = browser.open()
        browser.do(lambda session: session.logout())
        late.logout()
        answer = rig.call("commit", late)
        assert not answer.sets_cookie
        assert '"cookies"' not in (answer.clear_site_data or "")

    @requirement("R42")
    @pytest.mark.parametrize("end", ["logout", "everywhere", "everything", "renewed"])
    def test_a_request_that_ran_across_the_end_writes_nothing(self, rig: Rig, end: str) -> None:
        """T1: it read before and answers after; no cookie, and nobody's cookie is overwritten."""
        browser = rig.browser().sign_in()
        rig.now += 61
        writer, reader, out = browser.open(), browser.open(), browser.open()
        writer["late"] = True
        reader.get("cart")
        out.logout()
        if end == "renewed":
            browser.do(lambda session: session.rotate())
        elif end == "everything":
            rig.call("end_everything")
        else:
            browser.do(lambda session: session.logout(everywhere=end == "everywhere"))
        for late in (writer, reader, out):
            assert not rig.call("commit", late).sets_cookie
        assert "write-discarded" in rig.codes()

    def test_who_signs_in_again_in_the_same_instant_is_in_and_the_copy_is_out(self, rig: Rig) -> None:
        """The clock stands still from the first sign-in to the last."""
        browser = rig.browser()
        for _ in range(4):
            browser.sign_in()
            copy = browser.copy()
            browser.do(lambda session: session.logout(everywhere=True))
            assert nobody(copy)
        browser.sign_in()
        assert browser.look()[0] == "ada"
        thief = browser.copy()

        def again(session: Session) -> None:
            session.logout(everywhere=True)
            session.login("ada")

        browser.do(again)
        assert browser.look()[0] == "ada"
        assert nobody(thief)

    def test_the_others_can_be_ended_and_this_one_kept(self, rig: Rig) -> None:
        """`keep` spares the session that asks."""
        mine, other = rig.browser().sign_in(), rig.browser().sign_in()
        rig.call("end_all", "ada", keep=mine.open())
        assert mine.look()[0] == "ada"
        assert nobody(other)
        rig.call("end_all", "ada")
        assert nobody(mine)

    def test_an_end_at_another_door_counts_here(self, blocking: bool, rig: Rig) -> None:
        """Two doors that share what remembers the ends: a sign-out at one is a sign-out at the other."""
        second = Rig(rig.ends, blocking=blocking, runner=rig.runner)
        browser = rig.browser().sign_in()
        there = second.browser(browser.jar)
        assert there.look()[0] == "ada"
        browser.do(lambda session: session.logout())
        assert nobody(second.browser(there.jar))

    def test_a_session_that_has_outlived_its_limits_stays_dead_when_the_clock_goes_back(self, rig: Rig) -> None:
        """It was met dead once (R36)."""
        browser = rig.browser().sign_in()
        rig.now += 2 * HOUR
        assert nobody(browser.copy())
        rig.now -= 2 * HOUR
        assert nobody(browser.copy())

    def test_an_open_socket_hears_of_the_end(self, rig: Rig) -> None:
        """Who watches is called for its own session's end, its user's and everybody's, and for nobody else's."""
        mine, bob = rig.browser().sign_in(), rig.browser().sign_in("bob")
        ids = [mine.open().id, bob.open().id]
        heard: list[int] = []
        for number, sid in enumerate(ids):
            assert sid is not None
            rig.engine.watch(sid, lambda number=number: heard.append(number))  # type: ignore[misc]
        rig.call("end_all", "ada")
        assert heard == [0]
        rig.call("end", ids[1])
        assert heard == [0, 1]
        rig.call("end_everything")
        assert heard == [0, 1, 0, 1]

    @requirement("R24")
    def test_what_stays_open_can_be_checked(self, rig: Rig) -> None:
        """A session seen lately is alive, or is not; one that nobody here has seen is no yes."""
        browser = rig.browser().sign_in()
        sid = browser.open().id
        assert rig.call("is_alive", sid)
        rig.now += 2 * HOUR
        assert not rig.call("is_alive", sid)
        rig.now -= 2 * HOUR
        rig.call("end_all", "ada")
        assert not rig.call("is_alive", sid)
        with pytest.raises(Unsupported):
            rig.call("is_alive", new_id())

    @requirement("R45")
    def test_when_the_ends_cannot_be_asked_nobody_is_let_in(self, rig: Rig) -> None:
        """Neither a read, a write, a sign-in nor a sign-out pretends; all is as it was afterwards."""
        browser = rig.browser().sign_in()
        writing, leaving, renewing = browser.open(), browser.open(), browser.open()
        writing["a"] = 1
        leaving.logout()
        renewing.rotate()
        rig.ends.down = True
        with pytest.raises(StoreUnavailable):
            browser.open()
        for session in (writing, leaving, renewing):
            with pytest.raises(StoreUnavailable):
                rig.call("commit", session)
        with pytest.raises(StoreUnavailable):
            rig.browser().sign_in()
        with pytest.raises(StoreUnavailable):
            rig.call("is_alive", browser_id(browser))
        assert "store-failed" in rig.codes()
        rig.ends.down = False
        assert browser.look() == ("ada", {})

    def test_a_session_is_kept_marked_until_its_own_deadline(self) -> None:
        """The mark outlives what it ends, also where sessions live for a month and tombstones for a day."""
        ends = MemoryRevocations()
        rig = Rig(ends, policy=Policy.aal1())
        browser = rig.browser().sign_in()
        deadline = rig.now + Policy.aal1().absolute
        thief, user = browser.copy(), rig.browser().sign_in()
        user_thief = user.copy()
        browser.do(lambda session: session.logout())
        rig.call("end_all", "ada")
        while rig.now < deadline + 7200:
            rig.now += HOUR * 13
            rig.call("sweep")
            if rig.now < deadline:
                assert rig.run(ends.check(claim_of(rig, thief))) is not None
                assert rig.run(ends.check(claim_of(rig, user_thief))) is not None
        assert not ends._ended
        assert not ends._users


def browser_id(browser: Browser) -> str:
    """Return a session's id as the cookie shows it."""
    return base64.urlsafe_b64decode(browser.jar[NAME][1:])[:20].hex()


def claim_of(rig: Rig, browser: Browser) -> Claim:
    """Return what a browser's cookies claim."""
    found = rig.engine._cookies.read(browser.header)
    assert isinstance(found, Found)
    return Claim(found.raw_id.hex(), found.kept.control.user, *found.numbers)


class TestWithoutRevocations:
    """What cannot be done is said, and not pretended."""

    def test_limits_still_end_it_and_the_browser_forgets(self, endless: Rig) -> None:
        """A sign-out deletes the cookies; a copy lives until a limit ends it. That is what the warning says."""
        browser = endless.browser().sign_in()
        thief = browser.copy()
        browser.do(lambda session: session.logout())
        assert browser.jar == {}
        assert thief.look()[0] == "ada"
        endless.now += 2 * HOUR
        assert nobody(thief)

    @requirement("R51")
    def test_a_sign_out_is_reported_as_unconfirmed(self, endless: Rig) -> None:
        """`sign_out` and the event tell the truth."""
        browser = endless.browser().sign_in()
        endless.codes()
        ended = endless.call("sign_out", browser.open())
        assert (int(ended), ended.confirmed) == (1, False)
        assert endless.codes() == ["session-forgotten"]

    @pytest.mark.parametrize(
        ("verb", "given"),
        [("end", (new_id(),)), ("end_all", ("ada",)), ("end_everything", ()), ("of_user", ("ada",)), ("stats", ())],
    )
    def test_what_needs_a_memory_says_so(self, endless: Rig, verb: str, given: tuple[Any, ...]) -> None:
        """No silent nothing."""
        with pytest.raises(Unsupported):
            endless.call(verb, *given)

    def test_a_sign_out_everywhere_is_an_error(self, endless: Rig) -> None:
        """It would not be one."""
        session = endless.browser().sign_in().open()
        session.logout(everywhere=True)
        with pytest.raises(Unsupported, match="revocations"):
            endless.call("commit", session)

    def test_it_is_said_once_at_the_start_and_by_the_doctor(self, caplog: pytest.LogCaptureFixture) -> None:
        """One line in the log; one finding."""
        with caplog.at_level(logging.WARNING, "sessile.cookies"):
            Rig(None)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "a copy still works" in caplog.text
        store = CookieStore()
        assert isinstance(store, Diagnosable)
        found = {finding.code: finding.severity for finding in asyncio.run(store.diagnose())}
        assert found == {"cookie-limit": "ok", "cookie-revocations": "warn"}

    def test_with_them_nothing_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        """Neither log nor doctor."""
        Rig(MemoryRevocations())
        assert not caplog.records
        assert {finding.severity for finding in asyncio.run(CookieStore(MemoryRevocations()).diagnose())} == {"ok"}


class TestWhatCannotBe:
    """What only a store can do is an error with a sentence, at the start where that is possible."""

    @pytest.mark.parametrize(("verb", "given"), [("of_user", ("ada",)), ("stats", ()), ("scan", ())])
    def test_nothing_can_be_listed(self, plain: Rig, verb: str, given: tuple[Any, ...]) -> None:
        """Only the browsers have the sessions."""
        with pytest.raises(Unsupported):
            plain.call(verb, *given)

    def test_a_session_of_a_user_cannot_be_ended_by_both(self, plain: Rig) -> None:
        """Whose it is, only its cookie says."""
        with pytest.raises(Unsupported):
            plain.call("end", new_id(), user="ada")

    def test_a_text_that_is_no_id_ends_nothing_and_is_not_alive(self, plain: Rig) -> None:
        """And is not remembered."""
        for text in ("", "x" * 40, "A" * 40, "é"):
            assert plain.call("end", text) == 0
            assert not plain.call("is_alive", text)
        assert plain.ends.calls == []

    def test_what_was_opened_for_the_other_door_is_refused(self, tmp_path: Path) -> None:
        """It would stop the event loop, or wait without one."""
        for blocking in (True, False):
            ends = open_revocations(f"sqlite:///{tmp_path / 'ends.db'}", blocking=blocking)
            with pytest.raises(ConfigurationError, match="was opened for"):
                Rig(ends, blocking=not blocking)

    def test_a_limit_on_sessions_is_refused_at_the_start(self) -> None:
        """Nobody could count."""
        with pytest.raises(ConfigurationError, match="max_sessions"):
            Rig(None, policy=Policy(max_sessions=3))

    def test_the_store_itself_answers_nothing(self) -> None:
        """Who asks it directly hears why."""

        async def run() -> None:
            store: Any = CookieStore()
            for asked in (
                store.load("id"),
                store.create("id", None),
                store.save("id", None, None),
                store.touch("id", 1.0, 1.0),
                store.end("id", None),
            ):
                with pytest.raises(Unsupported):
                    await asked
            await store.close()

        asyncio.run(run())


# -- attacks -----------------------------------------------------------------------------------------------------------


def refused(rig: Rig, jar: dict[str, str], why: str = "forged") -> None:
    """Say that a jar is nobody's, quietly, with an event and without a question to the ends."""
    rig.events.clear()
    rig.ends.calls.clear()
    browser = rig.browser(jar)
    assert browser.look() == (None, {})
    assert browser.jar == jar
    assert rig.ends.calls == []
    [event] = rig.events
    assert isinstance(event, TokenRefused)
    assert event.why == why


@requirement("R5", "R6", "R46")
class TestForgeries:
    """What was not sealed by us for this very session is no session, by one decoder, quietly."""

    def test_every_character_counts(self, plain: Rig) -> None:
        """Each one changed to its neighbour, each cut, each doubled."""
        text = plain.browser().sign_in().jar[NAME]
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for place, letter in enumerate(text):
            other = letters[(letters.index(letter) + 1) % 64]
            for changed in (
                text[:place] + other + text[place + 1 :],
                text[:place] + text[place + 1 :],
                text[:place] + letter + text[place:],
                text[:place],
            ):
                if changed == text or not changed:
                    continue
                why = "incomplete" if changed[0] in "23456789" else "forged"
                refused(plain, {NAME: changed}, why)

    @pytest.mark.parametrize(
        "text",
        [
            "1",
            "0",
            "x",
            "1x",
            "1====",
            "1AAAA",
            "1" + "A" * 400,
            "1" + "A" * 8000,
            "é" * 40,
            '1"AAAA"',
            "1AA A",
            "1+/+/",
        ],
    )
    def test_nonsense_is_no_session(self, plain: Rig, text: str) -> None:
        """Whatever is sent."""
        refused(plain, {NAME: text})

    def test_the_id_of_another_session_does_not_open_mine(self, plain: Rig) -> None:
        """Swapping the ids of two cookies, or their bodies, gives nobody anything."""
        mine, admin = plain.browser().sign_in("mallory").jar[NAME], plain.browser().sign_in("admin").jar[NAME]
        raw, other = (base64.urlsafe_b64decode(text[1:]) for text in (mine, admin))
        for mixed in (raw[:20] + other[20:], other[:20] + raw[20:], raw[:34] + other[34:], raw[:-16] + other[-16:]):
            refused(plain, {NAME: "1" + base64.urlsafe_b64encode(mixed).decode()})

    @pytest.mark.parametrize("suite", [0, 2, 255])
    def test_no_other_suite_is_tried(self, plain: Rig, suite: int) -> None:
        """The byte that names the suite cannot ask for a weaker one."""
        raw = bytearray(base64.urlsafe_b64decode(plain.browser().sign_in().jar[NAME][1:]))
        raw[20] = suite
        refused(plain, {NAME: "1" + base64.urlsafe_b64encode(raw).decode()})

    def test_what_is_not_sealed_is_not_read(self, plain: Rig) -> None:
        """The very record in the clear, in our layout or as a store has it."""
        control = msgspec.structs.replace(anonymous(plain.now), user="admin")
        kept = Kept(control, {}, plain.now, plain.now + 9999)
        for body in (msgspec.msgpack.encode(kept), encode_control(control) + encode_data({})):
            for text in (body, bytes(20) + body, bytes(20) + b"\x01\x00" + bytes(12) + body + bytes(16)):
                padded = text + bytes(-len(text) % 3)
                refused(plain, {NAME: "1" + base64.urlsafe_b64encode(padded).decode()})

    def test_another_ring_purpose_or_cookie_does_not_fit(self, plain: Rig) -> None:
        """Sealed with our key for something else, or by others: refused."""
        other = Rig(MemoryRevocations(), keys=KeyRing({0: bytes(32)})).browser().sign_in()
        refused(plain, other.jar)
        renamed = Rig(MemoryRevocations(), cookie=CookieRules(name="__Host-other")).browser().sign_in()
        refused(plain, {NAME: renamed.jar["__Host-other"]})
        kept = msgspec.msgpack.encode(Kept(anonymous(plain.now), {}, plain.now, plain.now + 9999))
        sid = bytes(20)
        for purpose in (b"record", b"session token"):
            text = bytes(17) + kept
            text = bytes([-(50 + len(text)) % 3]) + text[1:] + bytes(-(50 + len(text)) % 3)
            sealed = Sealer(RING, purpose, feature="test").seal(
                text, sid, SCHEMA.to_bytes(2, "big") + b"session " + NAME.encode()
            )
            refused(plain, {NAME: "1" + base64.urlsafe_b64encode(sid + sealed).decode()})

    @requirement("R21")
    def test_two_cookies_of_one_name_are_refused(self, plain: Rig) -> None:
        """One was planted; of a chunk as well."""
        browser = plain.browser().sign_in(big="x" * 4500)
        for name in browser.jar:
            header = f"{browser.header}; {name}={browser.jar[name]}"
            facts = msgspec.structs.replace(browser.facts(), cookie=header)
            plain.events.clear()
            assert plain.call("open", facts).user_id is None
            [event] = plain.events
            assert isinstance(event, TokenRefused)
            assert event.why == "duplicate"

    def test_the_time_of_use_cannot_be_forged_or_borrowed(self, plain: Rig) -> None:
        """A later one of another session, of another ring, or nonsense: the session's own counts."""
        mine, other = plain.browser().sign_in(), plain.browser().sign_in()
        for _ in range(3):
            plain.now += 0.5 * Policy().idle
            other.look()
        thief = mine.copy()
        for stolen in (other.jar[f"{NAME}.t"], "AAAA", "A" * 52, "", other.jar[NAME]):
            thief.jar = {**mine.jar, f"{NAME}.t": stolen}
            assert nobody(thief)

    def test_a_cookie_on_plain_http_is_not_believed(self, plain: Rig) -> None:
        """Anybody can write there."""
        browser = plain.browser().sign_in()
        facts = msgspec.structs.replace(browser.facts(), scheme="http")
        assert plain.call("open", facts).user_id is None


def jar_of(lines: tuple[str, ...]) -> dict[str, str]:
    """Return what a browser holds after these Set-Cookie values."""
    pairs = [pair.partition("=") for pair in applied("", lines).split("; ")]
    return {name: value for name, _, value in pairs}


class TestAnything:
    """Whatever a header holds, reading it ends, and in no session."""

    COOKIES = SessionCookies(RING, CookieRules(), max_bytes=10_000)
    REAL = jar_of(COOKIES.write(bytes(20), COOKIES.body(Kept(anonymous(1.0), {}, 1.0, 2.0), ""), (1, 1), ""))[NAME]

    @given(st.text(max_size=300), st.integers(0, 9), st.text(max_size=50))
    def test_text(self, text: str, count: int, part: str) -> None:
        """As the session, as a part of it, as the time of use; with any characters."""
        header = f"{NAME}={count}{text}; {NAME}.1={part}; {NAME}.t={text}"
        assert not isinstance(self.COOKIES.read(header), Found)

    @given(st.binary(max_size=200))
    def test_bytes_in_base64(self, raw: bytes) -> None:
        """Of every length."""
        text = base64.urlsafe_b64encode(raw).decode()
        assert self.COOKIES.read(f"{NAME}=1{text}") == "forged"

    @given(st.integers(0, 10_000), st.integers(0, 127), st.integers(0, 20))
    def test_an_altered_one(self, place: int, letter: int, cut: int) -> None:
        """One character another one, and a few cut off."""
        place %= len(self.REAL)
        altered = (self.REAL[:place] + chr(letter) + self.REAL[place + 1 :])[: len(self.REAL) - cut]
        found = self.COOKIES.read(f"{NAME}={altered}")
        assert isinstance(found, Found) is (altered.rstrip(" \t") == self.REAL)


@requirement("R46", "R47")
class TestBombs:
    """Who holds a key can seal a bomb; it goes off nowhere."""

    @pytest.mark.parametrize(
        "body",
        [
            zlib.compress(bytes(20_000_000), 9),
            zlib.compress(b"x" * 1_000_000)[:-4],
            zlib.compress(b"\x94") + b"more",
            b"no zlib at all",
            b"",
        ],
        ids=["bomb", "cut", "trailing", "garbage", "empty"],
    )
    def test_decompression_is_bounded(self, body: bytes) -> None:
        """What is larger than any session may be is no session, and is not unpacked to find out."""
        import tracemalloc

        rules = CookieRules()
        cookies = SessionCookies(RING, rules, limit=MOST, max_bytes=10_000)
        padding = -(50 + 1 + 16 + len(body)) % 3
        text = bytes([4 | padding]) + body + bytes(padding)
        lines = cookies.write(bytes(20), text[:1] + text[1:], (1, 1), "")
        header = applied("", lines)
        tracemalloc.start()
        assert cookies.read(header) == "forged"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()

    def test_nesting_and_types_are_refused(self, plain: Rig) -> None:
        """Sealed by a key of ours: depth without end, a wrong schema, a number for a map."""
        cookies = plain.engine._cookies
        good = Kept(anonymous(plain.now), {}, plain.now, plain.now + 99)
        bodies = [
            b"\x91" * 100_000,
            msgspec.msgpack.encode([1, 2, 3, 4]),
            msgspec.msgpack.encode(msgspec.structs.replace(good, control=replace_schema(good))),
            msgspec.msgpack.encode([good.control, {1: 2}, 1.0, 1.0]),
        ]
        for body in bodies:
            padding = -(50 + 1 + 16 + len(body)) % 3
            text = bytes([padding]) + body + bytes(padding)
            if len(text) > 30_000:
                text = bytes([4 | (-(50 + 17 + len(zlib.compress(body))) % 3)]) + zlib.compress(body)
                text += bytes(text[0] & 3)
            refused(plain, jar_of(cookies.write(bytes(20), text, (1, 1), "")))


def replace_schema(kept: Kept) -> Any:
    """Return the control of a version to come."""
    return msgspec.structs.replace(kept.control, schema=SCHEMA + 1)


# -- several cookies ---------------------------------------------------------------------------------------------------


@requirement("R14")
class TestChunks:
    """A session that is larger than one cookie, and the limit that it meets."""

    def test_it_grows_over_several_and_shrinks_again(self) -> None:
        """Each within 4096 bytes; what is no longer needed is deleted in the same answer."""
        rig = Rig(MemoryRevocations(), limit=MOST)
        browser = rig.browser().sign_in()
        for size in (100, 4_000, 8_000, 20_000, 26_000, 9_000, 3_000, 10):
            browser.do(lambda session, size=size: session.update(big="x" * size))
            assert browser.look() == ("ada", {"big": "x" * size})
            expected = 1 + (size > 2_800) + (size > 5_900) + (size > 9_000)
            count = int(browser.jar[NAME][0])
            assert len(browser.jar) == count
            assert count >= expected
            assert all(len(name) + len(value) <= 4096 for name, value in browser.jar.items())
            assert [*sorted(browser.jar)] == [NAME, *(f"{NAME}.{part}" for part in range(1, count))]

    def test_the_limit_is_exact_and_past_it_is_an_error_before_the_answer(self, plain: Rig) -> None:
        """One byte more than the limit raises, names the key, and leaves browser and session as they were."""
        browser = plain.browser().sign_in(small=1)

        def fits(size: int) -> Answer | None:
            session = browser.open()
            session["big"] = "x" * size
            try:
                answer: Answer = plain.call("commit", session)
            except SessionTooLarge as error:
                errors.append(error)
                return None
            return answer

        errors: list[SessionTooLarge] = []
        sizes: list[int] = []
        low, high = 0, 10_000
        while low < high:
            size = (low + high + 1) // 2
            answer = fits(size)
            if answer is None:
                high = size - 1
            else:
                low = size
                other = plain.browser(browser.jar)
                other.take(answer)
                sizes.append(len(other.header))
        assert {(error.key, error.limit) for error in errors} == {("big", LIMIT)}
        assert LIMIT < min(error.size for error in errors) <= LIMIT + 4
        assert LIMIT - 4 < max(sizes) <= LIMIT
        assert browser.look() == ("ada", {"small": 1})

    def test_a_sign_in_that_is_too_large_ends_nothing(self, plain: Rig) -> None:
        """The old session is as it was: what cannot be handed out replaces nothing."""
        browser = plain.browser()
        browser.do(lambda session: session.update(cart=["book"]))

        def too_much(session: Session) -> None:
            session["big"] = "x" * 10_000
            session.login("ada")

        with pytest.raises(SessionTooLarge):
            browser.do(too_much)
        assert browser.look() == (None, {"cart": ["book"]})

    def test_chunks_of_two_writes_do_not_mix(self, plain: Rig) -> None:
        """Whichever part is older: no session, whatever mix, and an event that says so."""
        browser = plain.browser().sign_in(big="x" * 4500)
        old = dict(browser.jar)
        browser.do(lambda session: session.update(big="y" * 4500))
        new = dict(browser.jar)
        assert set(old) == set(new) == {NAME, f"{NAME}.1"}
        refused(plain, {NAME: old[NAME], f"{NAME}.1": new[f"{NAME}.1"]}, "incomplete")
        refused(plain, {NAME: new[NAME], f"{NAME}.1": old[f"{NAME}.1"]}, "incomplete")
        refused(plain, {NAME: new[NAME]}, "incomplete")
        graft = old[f"{NAME}.1"][:12] + new[f"{NAME}.1"][12:]
        refused(plain, {NAME: old[NAME], f"{NAME}.1": graft})
        assert plain.browser({f"{NAME}.1": new[f"{NAME}.1"]}).look() == (None, {})

    def test_the_order_of_the_header_does_not_matter(self, plain: Rig) -> None:
        """Browsers sort as they like."""
        browser = plain.browser().sign_in(big="x" * 4500)
        assert plain.browser(dict(reversed(browser.jar.items()))).look()[0] == "ada"

    def test_a_stale_part_is_ignored_and_deleted_at_the_next_write(self, plain: Rig) -> None:
        """What another answer left behind is no part of it."""
        browser = plain.browser().sign_in()
        browser.jar[f"{NAME}.3"] = "left behind"
        assert browser.look()[0] == "ada"
        browser.do(lambda session: session.update(a=1))
        assert set(browser.jar) == {NAME}

    @pytest.mark.parametrize("limit", [0, 1023, MOST + 1])
    def test_a_limit_that_no_browser_keeps_is_refused(self, limit: int) -> None:
        """At the start."""
        with pytest.raises(ConfigurationError):
            CookieStore(limit=limit)
        with pytest.raises(ConfigurationError):
            open_store(f"cookie://?bytes={limit}", blocking=True)

    def test_at_the_largest_limit_nine_cookies_hold_it(self) -> None:
        """To the last byte, and one more is refused."""
        cookies = SessionCookies(RING, CookieRules(), limit=MOST, max_bytes=10**6)
        kept = Kept(anonymous(1.0), {}, 1.0, 2.0)
        low, high = 0, 40_000
        while low < high:
            size = (low + high + 1) // 2
            data = {"big": msgspec.Raw(msgspec.msgpack.encode("x" * size))}
            try:
                cookies.body(msgspec.structs.replace(kept, data=data), "big")
            except SessionTooLarge:
                high = size - 1
            else:
                low = size
        data = {"big": msgspec.Raw(msgspec.msgpack.encode("x" * low))}
        lines = cookies.write(bytes(20), cookies.body(msgspec.structs.replace(kept, data=data), "big"), (1, 1), "")
        assert len(lines) == MAX_COOKIES
        assert MOST - 4 < len(applied("", lines)) <= MOST
        assert isinstance(cookies.read(applied("", lines)), Found)


class TestCompression:
    """Off by default: lengths tell of what is sealed."""

    def test_it_is_off_unless_it_is_asked_for(self) -> None:
        """What compresses well takes its full length."""
        for compress, most in ((False, 4_096 * 2), (True, 600)):
            rig = Rig(MemoryRevocations(), compress=compress)
            browser = rig.browser().sign_in(big="x" * 3_000)
            assert (len(browser.header) > 3_000) is not compress
            assert len(browser.header) < most
            assert browser.look() == ("ada", {"big": "x" * 3_000})

    def test_it_is_left_away_where_it_does_not_help(self) -> None:
        """Random data does not grow."""
        import os

        rig, other = Rig(MemoryRevocations(), compress=True), Rig(MemoryRevocations())
        noise = os.urandom(2_000)
        sizes = [len(one.browser().sign_in(big=noise).header) for one in (rig, other)]
        assert sizes[0] <= sizes[1]

    def test_what_was_sealed_before_the_switch_still_opens(self) -> None:
        """The flag is in what is sealed, not in the settings."""
        ends = MemoryRevocations()
        squeezed = Rig(ends, compress=True).browser().sign_in(big="x" * 3_000)
        assert Rig(ends).browser(squeezed.jar).look() == ("ada", {"big": "x" * 3_000})


# -- the URL -----------------------------------------------------------------------------------------------------------


class TestTheUrl:
    """`cookie://` and its options."""

    def test_it_opens_with_ends_and_without(self, tmp_path: Path) -> None:
        """Both doors; what lives on one machine may have a development key there."""
        with pytest.raises(KeyMissing):
            Sessions("cookie://")
        Sessions("cookie://", keys=RING).close()
        Sessions("cookie://?revocations=memory://").close()
        url = f"cookie://?revocations=sqlite:///{tmp_path / 'ends.db'}&bytes=15000&compress=yes"
        sessions = Sessions(url)
        assert (tmp_path / "ends.db.key").exists()
        store = sessions.engine.store
        assert isinstance(store, EmbeddedCookieStore)
        assert (store.limit, store.compress) == (15_000, True)
        sessions.close()
        with pytest.raises(KeyMissing):
            Sessions(url, production=True)

        async def run() -> None:
            await AsyncSessions(url).close()

        asyncio.run(run())

    @pytest.mark.parametrize(
        "url",
        [
            "cookie://host",
            "cookie:///path",
            "cookie://?unknown=1",
            "cookie://?bytes=many",
            "cookie://?compress=maybe",
            "cookie://?revocations=",
            "cookie://?revocations=memcached://host",
            "cookie://?revocations=memory://&revocations=memory://",
        ],
    )
    def test_what_is_no_option_is_refused(self, url: str) -> None:
        """At the start, in words."""
        with pytest.raises(ConfigurationError):
            Sessions(url, keys=RING)

    def test_a_second_encryption_is_refused(self) -> None:
        """They are sealed anyway, and with which keys must not be a guess."""
        with pytest.raises(ConfigurationError, match="sealed always"):
            Sessions("cookie://", keys=RING, encrypt=True)

    def test_what_is_remembered_of_sessions_is_bounded(self, plain: Rig) -> None:
        """A process that serves everybody knows the last few thousand only, and those that somebody watches."""
        engine, watched = plain.engine, browser_id(plain.browser().sign_in())
        stop = engine.watch(watched, lambda: None)
        known = engine._lately.get(watched)
        assert known is not None
        for number in range(5 * REMEMBERED):
            engine._lately.remember(known.claim._replace(session_id=f"{number:040x}"), 1.0, 1.0, 2.0)
        assert len(engine._lately) <= 2 * REMEMBERED
        assert engine._lately.get(watched) is known
        assert engine._lately.get(f"{5 * REMEMBERED - 1:040x}") is not None
        assert engine._lately.get(f"{0:040x}") is None
        stop()
        assert engine._lately.get(watched) is None


def test_a_mark_of_everything_lost_is_an_end_and_not_a_yes() -> None:
    """A process that begins anew knows no session of before."""
    browser = Rig(MemoryRevocations()).browser().sign_in()
    assert nobody(Rig(MemoryRevocations()).browser(browser.jar))
