"""The core, attacked: names that name nobody, ids that are none, monitors that fail, limits that lock out."""

from __future__ import annotations

import asyncio
import tracemalloc
import uuid
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import pytest
from msgspec.structs import replace

from sessile import AsyncSessions, Sessions
from sessile.core import events
from sessile.core.bridge import drive
from sessile.core.cookies import uncacheable
from sessile.core.crosssite import CrossSiteGuard
from sessile.core.network import Client, is_loopback_host, parse_address
from sessile.core.policy import Policy
from sessile.core.ports import Page
from sessile.core.record import EndReason, Record, Tombstone, Unreadable
from sessile.core.room import UNFINISHED
from sessile.core.session import Session
from sessile.errors import (
    ConfigurationError,
    SessionGone,
    StoreUnavailable,
    TooManySessions,
    UserInvalid,
    ValueUnsupported,
)
from sessile.stores.memory import MemoryStore
from sessile.stores.sqlite import SqliteStore
from tests.core.rig import Rig, facts
from tests.support.requirements import requirement

LONE = "ada\ud800"


class Role(str, Enum):  # noqa: UP042 - the kind whose text is not its value
    """Be a text that prints as something else."""

    ROOT = "root"


class User:
    """Be a user of some application, as its models are: without a text of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


class Row(NamedTuple):
    """Be a user as a database driver returns it."""

    number: int
    password_hash: str


class Named:
    """Be a user whose text is the name that pages show, which is no id: others may have it, too."""

    def __str__(self) -> str:
        return "Ada"


class TestNames:
    """A user's name must name one user, in every store."""

    @pytest.mark.parametrize(
        "nobody",
        [LONE, "", None, True, False, User(1), Named(), Row(1, "secret"), {"id": 1}, [1], 1.5, b"ada", "a" * 1025],
    )
    @requirement("R26")
    def test_what_names_nobody_for_certain_signs_nobody_in(self, rig: Rig, nobody: Any) -> None:
        """`login(check_password(…))` would sign everybody in as "True", an object as an address that is used again."""
        session = rig.open()
        with pytest.raises(UserInvalid) as caught:
            session.login(nobody)
        assert "secret" not in str(caught.value)
        assert session.user_id is None
        assert rig.close(session) is None

    @pytest.mark.parametrize(
        ("given", "name"),
        [("ada", "ada"), (7, "7"), (uuid.UUID(int=7), str(uuid.UUID(int=7))), (Role.ROOT, "root"), ("é" * 500,) * 2],
    )
    def test_text_whole_numbers_and_uuids_name_a_user(self, rig: Rig, given: Any, name: str) -> None:
        """What identity columns hold; anything else says itself which text it means."""
        session = rig.open()
        session.login(given)
        token = rig.close(session)
        assert rig.user_of(token) == name

    def test_who_is_asked_for_must_be_somebody(self, rig: Rig) -> None:
        """A mistake in the name must not look like a user without sessions."""
        rig.sign_in("ada")
        sessions = Sessions(rig.store, sinks=(), production=False)
        for ask in (sessions.of_user, sessions.end_all, lambda user: sessions.end("0" * 40, user=user)):
            for nobody in (LONE, True, User(1)):
                with pytest.raises(UserInvalid):
                    ask(nobody)  # type: ignore[arg-type]
        assert sessions.end_all("ada") == 1

    @pytest.mark.parametrize("value", [b"ada", 1.5, uuid.UUID(int=5), True, ["ada"], {"id": 1}])
    @requirement("R25")
    def test_a_user_key_of_whatever_type_gives_a_new_token(self, rig: Rig, value: Any) -> None:
        """An application that signs in with `session["user_id"] = <bytes>` is not open to fixation."""
        session = rig.open()
        session["cart"] = 1
        planted = rig.close(session)
        assert planted
        session = rig.open(planted)
        session["user_id"] = value
        fresh = rig.close(session)
        assert fresh
        assert rig.id_of(fresh) != rig.id_of(planted)
        assert isinstance(rig.held(planted), Tombstone)

    def test_a_user_key_that_becomes_false_is_a_sign_out(self, rig: Rig) -> None:
        """As None and the empty text are."""
        session = rig.open()
        session["user_id"] = "ada"
        token = rig.close(session)
        session = rig.open(token)
        session["user_id"] = False
        assert session.user_id is None
        rig.close(session)
        assert isinstance(rig.held(token or ""), Tombstone)


class TestKeys:
    """A key that no store can hold is named, before any store is asked."""

    def test_a_key_with_a_lone_surrogate_is_an_error_that_names_it(self, rig: Rig) -> None:
        """JSON and forms of some frameworks let visitors choose such texts."""
        session = rig.open()
        session[LONE] = 1
        calls: list[str] = []
        with pytest.raises(ValueUnsupported, match=r"ada.ud800"):
            calls = rig.counted(lambda: rig.close(session))
        assert calls == []


class TestIds:
    """What a visitor sends as a session's id goes to the store only if it can be one."""

    @pytest.mark.parametrize(
        "text", ["", LONE, "x" * 40, "A" * 40, "0" * 39, "0" * 4_000_000, "id\r\nflush_all", "{a}:b"]
    )
    def test_a_text_that_is_no_id_ends_nothing_and_asks_no_store(self, rig: Rig, text: str) -> None:
        """Stores put ids into keys of protocols of their own."""
        calls = rig.counted(
            lambda: drive(rig.engine.end(text, EndReason.USER, "ada")),
            lambda: drive(rig.engine.end(text, EndReason.ADMIN)),
            lambda: drive(rig.engine.is_alive(text)),
        )
        assert calls == []

    def test_a_real_id_still_ends_its_session(self, rig: Rig) -> None:
        """And only once."""
        token = rig.sign_in("ada")
        assert len(drive(rig.engine.end(rig.id_of(token), EndReason.ADMIN)).ended) == 1
        assert len(drive(rig.engine.end(rig.id_of(token), EndReason.ADMIN)).ended) == 0

    @pytest.mark.parametrize("cursor", [LONE, "", "x" * 100, "-1", "9" * 400])
    def test_a_cursor_of_somebodys_making_breaks_no_listing(self, rig: Rig, cursor: str) -> None:
        """Dashboards put cursors into links."""
        rig.sign_in("ada")
        assert isinstance(drive(rig.store.scan(cursor, 10)), Page)


class TestMonitors:
    """Who watches must not break what is watched."""

    @requirement("R45")
    def test_a_sink_that_raises_loses_no_sign_in(self, rig: Rig) -> None:
        """The session was stored: its only token must reach the browser, whatever the monitor does."""

        def broken(_event: events.Event) -> None:
            raise RuntimeError("the monitor is down")

        heard: list[events.Event] = []
        rig.engine.sinks = (broken, heard.append)
        session = rig.open()
        session.login("ada")
        token = rig.close(session)
        assert rig.user_of(token) == "ada"
        assert [type(event) for event in heard] == [events.SignedIn]

    @requirement("R24")
    def test_a_watcher_that_raises_keeps_no_other_from_hearing_and_undoes_no_end(self, rig: Rig) -> None:
        """One broken socket leaves no other one open."""
        token = rig.sign_in("ada")
        heard: list[str] = []

        def broken() -> None:
            raise RuntimeError("this loop is closed")

        rig.engine.watch(rig.id_of(token), broken)
        rig.engine.watch(rig.id_of(token), lambda: heard.append("ended"))
        session = rig.open(token)
        session.logout()
        assert rig.close(session) == ""
        assert heard == ["ended"]

    @requirement("R45")
    def test_a_sweep_that_fails_after_a_sign_in_takes_nothing_back(
        self, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The old session is dead by then; without the new cookie the user would have none."""

        async def failing(_now: float, _limit: int) -> None:
            raise StoreUnavailable("busy")

        rig.store.sweep = failing
        session = rig.open()
        session.login("ada")
        assert rig.user_of(rig.close(session)) == "ada"
        assert "store-unavailable" in caplog.text
        # Nor does every request from here on sweep in vain.
        caplog.clear()
        rig.sign_in("grace")
        assert caplog.text == ""


class TestLimits:
    """The concurrent-session limit locks nobody out who should come in."""

    @requirement("R66")
    def test_a_limit_that_was_lowered_far_makes_room_in_one_sign_in(self, make: Callable[..., Rig]) -> None:
        """A user with two hundred sessions can sign in after the limit became two."""
        rig = make()
        tokens: list[str] = []
        for _ in range(200):
            rig.now += 1
            tokens.append(rig.sign_in("ada"))
        rig.engine.policy = Policy(max_sessions=2)
        newest = rig.sign_in("ada")
        alive = [token for token in [*tokens, newest] if isinstance(rig.held(token), Record)]
        assert alive == [tokens[-1], newest]

    @requirement("R66")
    @requirement("R88")
    def test_who_has_not_finished_signing_in_ends_nobodys_session(self, make: Callable[..., Rig]) -> None:
        """A stolen password alone neither ends the user's session nor keeps the user out."""
        rig = make(policy=Policy(max_sessions=1))
        users = rig.sign_in("ada")
        thief = rig.open()
        thief.login("ada", pending=True)
        half = rig.close(thief)
        assert half
        assert rig.user_of(users) == "ada"
        finished = rig.open(half)
        finished.add_factor("totp")
        whole = rig.close(finished)
        assert rig.user_of(whole) == "ada"
        assert rig.user_of(users) is None

    @requirement("R66")
    @requirement("R88")
    def test_unfinished_sign_ins_do_not_use_up_a_limit_that_refuses(self, make: Callable[..., Rig]) -> None:
        """The limit counts who is signed in."""
        rig = make(policy=Policy(max_sessions=2, on_limit="refuse"))
        for _ in range(5):
            thief = rig.open()
            thief.login("ada", pending=True)
            assert rig.close(thief)
        assert rig.user_of(rig.sign_in("ada")) == "ada"
        assert rig.user_of(rig.sign_in("ada")) == "ada"
        with pytest.raises(TooManySessions):
            rig.sign_in("ada")

    @requirement("R66")
    @pytest.mark.parametrize("on_limit", ["refuse", "end-oldest"])
    def test_a_stolen_password_cannot_pile_up_unfinished_sign_ins(
        self, make: Callable[..., Rig], on_limit: Literal["refuse", "end-oldest"]
    ) -> None:
        """They make room for each other, and for nobody else."""
        rig = make(policy=Policy(max_sessions=1, on_limit=on_limit))
        users = rig.sign_in("ada")
        for _ in range(60):
            rig.now += 1
            thief = rig.open()
            thief.login("ada", pending=True)
            rig.close(thief)
        assert len(drive(rig.store.of_user("ada"))) <= 1 + UNFINISHED
        assert rig.user_of(users) == "ada"

    @requirement("R66")
    @requirement("R88")
    def test_an_unfinished_sign_in_ends_no_finished_one_however_many_there_are(self, make: Callable[..., Rig]) -> None:
        """Also where the limit was lowered since: who finishes it makes room, not who begins it."""
        rig = make()
        tokens = [rig.sign_in("ada") for _ in range(UNFINISHED + 10)]
        rig.engine.policy = Policy(max_sessions=1)
        beginning = rig.open()
        beginning.login("ada", pending=True)
        assert rig.close(beginning)
        assert all(isinstance(rig.held(token), Record) for token in tokens)


class TestReplay:
    """A token that was left behind is served for a moment, and never becomes a new one."""

    @requirement("R29")
    @requirement("R30")
    @requirement("R25")
    def test_a_token_in_flight_cannot_be_renewed_past_the_sibling_rule(self, rig: Rig) -> None:
        """Any page that rotates would make a fresh session of a stolen token, and sign the user out in silence."""
        stolen = rig.sign_in("ada")
        rig.now += 60
        rig.visit(stolen)
        rig.now += rig.policy.rotation
        present = rig.visit(stolen)
        assert present
        assert rig.user_of(present) == "ada"  # confirms it; the stolen one is left behind
        rig.now += 5
        thief = rig.open(stolen)
        assert thief.user_id == "ada"
        thief.rotate()
        with pytest.raises(SessionGone):
            rig.commit(thief)
        assert rig.user_of(present) == "ada"
        rig.now += rig.policy.grace
        assert rig.user_of(stolen) is None
        assert rig.told(events.ReplayDetected)

    @pytest.mark.parametrize("renewals", [1, 3])
    @requirement("R30")
    def test_a_thief_who_renews_a_stolen_token_is_ended_when_its_owner_comes_back(
        self, rig: Rig, renewals: int
    ) -> None:
        """The owner holds the token left behind; its use tells that there are two, as after a rotation."""
        owners = rig.sign_in("ada")
        other = rig.sign_in("ada")
        thiefs: str | None = owners
        for _ in range(renewals):
            rig.now += 60
            session = rig.open(thiefs)
            session.rotate()
            thiefs = rig.close(session)
        assert rig.user_of(thiefs) == "ada"
        rig.now += rig.policy.grace + 1
        assert rig.user_of(owners) is None
        assert rig.user_of(thiefs) is None
        assert rig.user_of(other) == "ada"
        [replay] = rig.told(events.ReplayDetected)
        assert (replay.user, replay.behind) == ("ada", renewals)

    @requirement("R30")
    @pytest.mark.parametrize("how", ["in flight", "visitor", "another user", "signed out"])
    def test_what_is_left_behind_for_another_reason_ends_nothing_else(self, rig: Rig, how: str) -> None:
        """A late request, a visitor's token, and what another user signed in over are no copies of this session."""
        if how == "visitor":
            session = rig.open()
            session["cart"] = 1
            old = rig.close(session)
        else:
            old = rig.sign_in("grace" if how == "another user" else "ada")
        session = rig.open(old)
        if how == "in flight":
            session.rotate()
        else:
            if how == "signed out":
                session.logout()
            session.login("ada")
        present = rig.close(session)
        rig.now += rig.policy.grace if how == "in flight" else rig.policy.grace + 60
        assert rig.user_of(old) is None
        assert rig.user_of(present) == "ada"
        assert rig.told(events.ReplayDetected) == []

    @requirement("R25")
    def test_a_factor_that_is_proved_in_flight_still_counts(self, rig: Rig) -> None:
        """A proof is the user's own; it gives a new token, whichever one came along."""
        first = rig.sign_in("ada")
        rig.now += 60 + rig.policy.rotation
        present = rig.visit(first)
        rig.user_of(present)
        proving = rig.open(first)
        proving.add_factor("totp")
        assert rig.user_of(rig.close(proving)) == "ada"


class TestOldSessions:
    """A bridge to another library's sessions that fails in the midst of a commit."""

    @staticmethod
    def failing(rig: Rig) -> None:
        """Let the old store be down when the old session should be ended."""

        async def opened(*_given: Any) -> Any:
            return SimpleNamespace(forget=(), blocked=False, adopted=None)

        async def retire(*_given: Any) -> None:
            raise StoreUnavailable("the old store is down")

        rig.engine.adoption = SimpleNamespace(open=opened, retire=retire)  # type: ignore[assignment]

    @requirement("R45")
    def test_a_sign_in_that_was_stored_reaches_its_browser(self, rig: Rig) -> None:
        """The session before it is dead by then; a 503 would leave the user with none."""
        self.failing(rig)
        session = rig.open()
        session.login("ada")
        token = rig.close(session)
        rig.engine.adoption = None
        assert rig.user_of(token) == "ada"
        assert [event.error for event in rig.told(events.StoreFailed)] == ["store-unavailable"]

    @requirement("R61")
    @requirement("R45")
    def test_a_sign_out_that_leaves_an_old_session_alive_is_not_told_as_done(self, rig: Rig) -> None:
        """The next request would be signed in by it again."""
        token = rig.sign_in("ada")
        self.failing(rig)
        session = rig.open(token)
        session.logout()
        with pytest.raises(StoreUnavailable):
            rig.close(session)


class TestSigningOutNow:
    """`sign_out` ends at once; what follows in the same request is carried out as well."""

    @requirement("R61")
    @pytest.mark.parametrize("first", [True, False])
    def test_signing_out_everywhere_after_signing_out_here_ends_the_others(self, rig: Rig, first: bool) -> None:
        """And the cookie is deleted either way."""
        here, elsewhere = rig.sign_in("ada"), rig.sign_in("ada")
        session = rig.open(here)
        drive(rig.engine.sign_out(session, everywhere=first))
        assert isinstance(rig.held(here), Tombstone)
        session.logout(everywhere=not first)
        assert rig.close(session) == ""
        assert isinstance(rig.held(elsewhere), Tombstone)

    @requirement("R61")
    def test_a_plain_sign_out_is_asked_of_the_store_once(self, rig: Rig) -> None:
        """What was ended is not ended again by the commit."""
        session = rig.open(rig.sign_in("ada"))
        assert rig.counted(lambda: drive(rig.engine.sign_out(session)), lambda: rig.commit(session)) == ["end"]


class TestUnreadable:
    """A record that this version cannot read is nobody's session here, and can still be ended."""

    @staticmethod
    def unreadable(rig: Rig, token: str) -> None:
        """Let the store answer as it does for a record of a later version."""
        load, sid = rig.store.load, rig.id_of(token)

        async def loads(session_id: str) -> Any:
            found = await load(session_id)
            return Unreadable("schema") if session_id == sid and isinstance(found, Record) else found

        rig.store.load = loads

    @pytest.mark.parametrize("doing", [Session.logout, lambda session: session.login("grace")])
    @requirement("R61")
    @requirement("R46")
    def test_signing_out_or_in_ends_what_cannot_be_read(self, rig: Rig, doing: Callable[[Session], None]) -> None:
        """Else a node of the old version would say goodbye while the nodes of the new one keep the session alive."""
        token = rig.sign_in("ada")
        self.unreadable(rig, token)
        session = rig.open(token)
        assert session.user_id is None
        doing(session)
        assert rig.close(session) is not None
        assert isinstance(rig.held(token), Tombstone)

    def test_a_visit_leaves_what_cannot_be_read_as_it_is(self, rig: Rig) -> None:
        """A node of the old version must not sign out the users of the new one by being asked."""
        token = rig.sign_in("ada")
        held = rig.held(token)
        self.unreadable(rig, token)
        assert rig.visit(token) is None
        del rig.store.load
        assert drive(rig.store.load(rig.id_of(token))) == held


class TestCaches:
    """What keeps a shared cache out must do so in full."""

    @pytest.mark.parametrize("said", ['private="Set-Cookie"', 'private="a,b", max-age=60', 'no-store="x"', "no-cache"])
    @requirement("R19")
    def test_private_for_single_headers_is_not_private(self, said: str) -> None:
        """`private="Set-Cookie"` lets shared caches keep the page."""
        assert uncacheable(said, sets_cookie=False) == "no-store"

    @pytest.mark.parametrize("said", ["private", "Private, max-age=60", "no-store", "max-age=1,no-store"])
    @requirement("R19")
    def test_what_keeps_shared_caches_out_stands(self, said: str) -> None:
        """The application's own word, where it suffices."""
        assert uncacheable(said, sets_cookie=False) == said

    @requirement("R19")
    def test_a_page_that_says_that_the_session_has_ended_is_this_visitors_own(self, rig: Rig) -> None:
        """Else everybody would be told so, out of a cache."""
        token = rig.sign_in("ada")
        drive(rig.engine.end(rig.id_of(token), EndReason.ADMIN))
        session = rig.open(token)
        assert session.ended is EndReason.ADMIN
        answer = rig.commit(session)
        assert answer.vary
        assert not answer.carries

    @requirement("R19")
    def test_describing_the_session_is_looking_at_it(self) -> None:
        """A page about "this device" is this visitor's own."""
        sessions = Sessions(sinks=())
        session = sessions.open(facts())
        session.login("ada")
        token = (sessions.commit(session).cookie or "").partition(";")[0].partition("=")[2]
        for look in (
            sessions.describe,
            lambda one: sessions.of_user("ada", current=one),
            lambda one: one.is_new,
        ):
            session = sessions.open(facts(token))
            look(session)
            assert sessions.commit(session).carries


class TestGuard:
    """An exempt path is that path and what lies below it."""

    @pytest.mark.parametrize(
        ("path", "passes"),
        [
            ("/saml", True),
            ("/saml/acs", True),
            ("/samlogout", False),
            ("/hooks/x", True),
            ("/hooks", False),
            ("/", False),
        ],
    )
    @requirement("R22")
    def test_an_exempt_path_does_not_exempt_its_neighbours(self, path: str, passes: bool) -> None:
        """`/saml` is not `/samlogout`."""
        guard = CrossSiteGuard(exempt_paths=["/saml", "/hooks/"])
        asked = replace(facts(method="POST", sec_fetch_site="cross-site"), path=path)
        assert guard.refuses(asked, Client("", "https", "app.example")) is not passes

    def test_everything_may_be_exempt(self) -> None:
        """It is said aloud by the doctor, and honoured."""
        guard = CrossSiteGuard(exempt_paths=["/"])
        asked = replace(facts(method="POST", sec_fetch_site="cross-site"), path="/anything")
        assert not guard.refuses(asked, Client("", "https", "app.example"))


class TestMemory:
    """What strangers send is not kept."""

    @pytest.mark.parametrize("reader", [parse_address, is_loopback_host])
    def test_a_host_or_address_of_kilobytes_is_not_remembered(self, reader: Any) -> None:
        """Thousands of remembered headers of 60 KB each would be hundreds of megabytes."""
        tracemalloc.start()
        try:
            for number in range(64):
                assert not reader(f"{number}".rjust(60_000, "a"))
                assert not reader("[" + f"{number}".rjust(60_000, "a"))
            assert tracemalloc.get_traced_memory()[0] < 500_000
        finally:
            tracemalloc.stop()

    def test_addresses_with_zones_and_ports_are_still_read(self) -> None:
        """What servers and proxies write."""
        assert str(parse_address("[fe80::1%eth0.100]:8443")) == "fe80::1"
        assert str(parse_address("192.0.2.7:443")) == "192.0.2.7"
        assert is_loopback_host("a.localhost:8000")


class TestDoors:
    """A store that was opened for one door is refused by the other."""

    def test_a_store_of_the_blocking_door_would_stop_the_event_loop(self, tmp_path: Path) -> None:
        """It waits for locks on the thread that it was called on."""
        with pytest.raises(ConfigurationError, match="event loop"):
            AsyncSessions(SqliteStore(tmp_path / "s.db", blocking=True), sinks=())

    def test_a_store_of_the_event_loop_would_fail_under_load_behind_the_blocking_door(self, tmp_path: Path) -> None:
        """It answers at once while it is alone, and waits when others write: too late to find out."""
        with pytest.raises(ConfigurationError, match="block"):
            Sessions(SqliteStore(tmp_path / "s.db", blocking=False), sinks=())

    def test_a_store_in_memory_may_stand_behind_both(self) -> None:
        """It never waits."""
        store = MemoryStore()
        blocking, asynchronous = Sessions(store, sinks=()), AsyncSessions(store, sinks=())
        session = blocking.open(facts())
        session.login("ada")
        blocking.commit(session)
        assert len(asyncio.run(asynchronous.of_user("ada"))) == 1
