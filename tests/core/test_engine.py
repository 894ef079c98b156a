"""The engine on real stores: what a request may cost, what sign-in and end mean, and what limits do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sessile.core.answers import Answer
from sessile.core.bridge import drive
from sessile.core.events import (
    EndedTokenUsed,
    InsecureChannel,
    LimitReached,
    RecordRefused,
    ReplayDetected,
    SessionCreated,
    SessionEnded,
    SessionRenewed,
    StoreFailed,
    StoreRolledBack,
    TokenRefused,
    TokenRotated,
    UnknownSession,
    WriteDiscarded,
)
from sessile.core.policy import DAY, HOUR, MINUTE, Policy
from sessile.core.record import EndReason, Record, Tombstone, Unreadable
from sessile.errors import ConflictError, SessionClosed, SessionGone, StoreUnavailable, TooManySessions
from tests.core.rig import Rig, facts, token_of
from tests.support.requirements import requirement

Make = Callable[..., Rig]


class TestBudget:
    """A request costs the store no more than the design says."""

    @requirement("R27")
    def test_a_visitor_who_stores_nothing_costs_nothing_and_gets_nothing(self, rig: Rig) -> None:
        """No cookie, no store call, no header."""
        session = rig.open()
        assert rig.commit(session) == Answer()
        assert session.id is None
        assert rig.calls == []

    @requirement("R27")
    def test_looking_into_an_empty_session_costs_nothing(self, rig: Rig) -> None:
        """Reading without a session sets no cookie, and only says that the answer depends on one."""
        session = rig.open()
        assert session.get("cart") is None
        assert rig.commit(session) == Answer(vary=True)
        assert rig.calls == []

    @requirement("R6")
    @pytest.mark.parametrize("token", ["x", "A" * 63, "A" * 5000, "é" * 63, "..", "' OR 1=1 --"])
    def test_a_forged_token_costs_no_store_call(self, rig: Rig, token: str) -> None:
        """It dies at the tag; nothing of it is told."""
        assert rig.counted(lambda: rig.visit(token)) == []
        [event] = rig.told(TokenRefused)
        assert event.why == "forged"
        assert token not in repr(event) or token in "..x"

    @requirement("R21")
    def test_two_cookies_of_the_name_cost_no_store_call_and_are_both_refused(self, rig: Rig) -> None:
        """One of them was planted; the good one does not count either."""
        token = rig.sign_in()
        assert rig.counted(lambda: rig.open(cookie=f"__Host-id={token}; __Host-id={token}")) == []
        assert rig.told(TokenRefused)[0].why == "duplicate"

    def test_a_read_costs_one_call(self, rig: Rig) -> None:
        """Load, and nothing else."""
        token = rig.sign_in()
        assert rig.counted(lambda: rig.visit(token)) == ["load"]

    def test_a_write_costs_two_calls(self, rig: Rig) -> None:
        """Load and save."""
        token = rig.sign_in()

        def write() -> None:
            session = rig.open(token)
            session["cart"] = [1]
            rig.commit(session)

        assert rig.counted(write) == ["load", "save"]

    def test_writing_what_stands_there_already_costs_no_save(self, rig: Rig) -> None:
        """Values are compared as they are encoded."""
        token = rig.sign_in()
        for expected in (["load", "save"], ["load"]):

            def write() -> None:
                session = rig.open(token)
                session["cart"] = {"apples": 3}
                rig.commit(session)

            assert rig.counted(write) == expected

    def test_a_first_write_is_one_call(self, rig: Rig) -> None:
        """An anonymous session begins with a single insert (and, now and then, a step of the sweep)."""
        rig.engine._next_sweep = rig.now + HOUR

        def write() -> None:
            session = rig.open()
            session["cart"] = [1]
            assert token_of(rig.commit(session))

        assert rig.counted(write) == ["create"]
        assert rig.told(SessionCreated)


class TestFixation:
    """Sign-in is rotation: new seed, new id, and the old token is dead in the same step."""

    @requirement("R25")
    def test_signing_in_kills_the_token_from_before(self, rig: Rig) -> None:
        """Who planted or knew the anonymous token has nothing."""
        session = rig.open()
        session["cart"] = ["tea"]
        planted = rig.close(session)
        assert planted
        token = rig.sign_in(token=planted)
        assert rig.id_of(token) != rig.id_of(planted)
        assert rig.user_of(token) == "ada"
        assert rig.open(token)["cart"] == ["tea"]
        attacker = rig.open(planted)
        assert attacker.user_id is None
        assert dict(attacker) == {}
        assert rig.told(SessionRenewed)[0].old == rig.id_of(planted)

    @requirement("R5", "R25")
    def test_an_id_that_is_not_there_is_never_adopted(self, rig: Rig) -> None:
        """An authentic token of an unknown session is nobody's, and what is written goes to a fresh id."""
        stranger = rig.mint.mint(b"s" * 20, 0, b"branch")
        session = rig.open(stranger)
        session["cart"] = 1
        token = rig.close(session)
        assert token
        assert rig.id_of(token) != rig.id_of(stranger)
        assert rig.told(UnknownSession)[0].session == rig.id_of(stranger)
        assert rig.held(stranger) is None

    @requirement("R25")
    @pytest.mark.parametrize("act", ["login", "add_factor", "rotate"])
    def test_every_change_of_privilege_makes_a_new_token(self, rig: Rig, act: str) -> None:
        """Re-authentication, a further factor and an explicit rotation end the old token as well."""
        token = rig.sign_in()
        session = rig.open(token)
        session["kept"] = 1
        {
            "login": lambda: session.login("ada"),
            "add_factor": lambda: session.add_factor("totp"),
            "rotate": session.rotate,
        }[act]()
        fresh = rig.close(session)
        assert fresh
        assert rig.user_of(fresh) == "ada"
        assert rig.open(fresh)["kept"] == 1
        assert rig.user_of(token) is None
        assert isinstance(rig.held(token), Tombstone)

    @requirement("R26")
    @pytest.mark.parametrize(
        ("keep", "kept"),
        [("all", {"cart", "locale"}), ("none", set()), (["locale"], {"locale"}), (None, {"cart", "locale"})],
    )
    def test_sign_in_carries_over_what_was_chosen(self, rig: Rig, keep: Any, kept: set[str]) -> None:
        """All, nothing or the named keys come along; the default is the policy's."""
        session = rig.open()
        session.update(cart=1, locale="de")
        token = rig.close(session)
        session = rig.open(token)
        session.login("ada", keep=keep)
        session["new"] = 1
        fresh = rig.close(session)
        assert set(rig.open(fresh)) == kept | {"new"}

    @requirement("R26")
    @pytest.mark.parametrize("keep", ["all", ["secret"]])
    def test_another_users_data_never_comes_along(self, rig: Rig, keep: Any) -> None:
        """Whoever signs in over another user's session starts with nothing of theirs, whatever `keep` says."""
        token = rig.sign_in("ada")
        session = rig.open(token)
        session["secret"] = "ada's"
        rig.close(session)
        session = rig.open(token)
        session.login("bob", keep=keep)
        assert dict(session) == {}
        session["mine"] = 1
        fresh = rig.close(session)
        assert dict(rig.open(fresh)) == {"mine": 1}
        assert rig.user_of(fresh) == "bob"
        assert rig.user_of(token) is None

    @requirement("R26", "R43")
    def test_what_another_request_wrote_meanwhile_comes_along_at_sign_in(self, rig: Rig) -> None:
        """A slow sign-in carries over the cart as it is then, not as it was at its load."""
        session = rig.open()
        session["cart"] = ["tea"]
        token = rig.close(session)
        slow, quick = rig.open(token), rig.open(token)
        slow.login("ada")
        quick["cart"].append("milk")
        rig.commit(quick)
        fresh = rig.close(slow)
        assert rig.open(fresh)["cart"] == ["tea", "milk"]

    @requirement("R25")
    def test_the_application_signs_in_through_its_key(self, rig: Rig) -> None:
        """Setting the configured key is a sign-in with all that it means; removing it is a sign-out."""
        session = rig.open()
        session["cart"] = 1
        before = rig.close(session)
        session = rig.open(before)
        session["user_id"] = 42
        token = rig.close(session)
        assert token
        assert rig.user_of(token) == "42"
        assert rig.user_of(before) is None
        session = rig.open(token)
        del session["user_id"]
        assert rig.close(session) == ""
        assert rig.user_of(token) is None


class TestEnds:
    """The end is final."""

    @requirement("R61")
    def test_signing_out_ends_every_copy_of_the_token(self, rig: Rig) -> None:
        """The cookie is deleted, the token is dead, and its later use is told."""
        token = rig.sign_in()
        session = rig.open(token)
        session.logout()
        answer = rig.commit(session)
        assert token_of(answer) == ""
        assert answer.clear_site_data == '"cache", "cookies", "storage"'
        rig.now += 60
        assert rig.user_of(token) is None
        [event] = rig.told(EndedTokenUsed)
        assert (event.reason, event.in_flight) == (EndReason.LOGOUT, False)

    @requirement("R42")
    def test_a_slow_request_revives_nothing(self, rig: Rig) -> None:
        """What was under way when its session ended stores nothing and sets no cookie."""
        token = rig.sign_in()
        slow = rig.open(token)
        slow["late"] = True
        session = rig.open(token)
        session.logout()
        rig.commit(session)
        assert rig.close(slow) is None
        assert rig.user_of(token) is None
        assert rig.told(WriteDiscarded)[0].reason == "logout"

    @requirement("R25", "R42")
    def test_a_late_answer_neither_overwrites_nor_deletes_the_cookie_of_a_sign_in(self, rig: Rig) -> None:
        """Reads, writes, rotations and sign-outs of the old session, in flight across a sign-in, set nothing."""
        old = rig.sign_in()
        rig.now += 901
        late = {name: rig.open(old) for name in ("read", "write", "logout", "loaded")}
        late["write"]["x"] = 1
        late["logout"].logout()
        rig.sign_in("ada", token=old)
        arrived_later = rig.open(old)
        arrived_later["cart"] = 1
        for name, session in [*late.items(), ("later", arrived_later)]:
            assert rig.close(session) is None, name
        assert rig.told(EndedTokenUsed)[0].in_flight

    @requirement("R42")
    def test_a_late_renewal_of_an_ended_session_fails(self, rig: Rig) -> None:
        """A rotation or step-up of a session that was ended meanwhile creates nothing, and says so."""
        for act in ("rotate", "add_factor"):
            token = rig.sign_in()
            late = rig.open(token)
            late.rotate() if act == "rotate" else late.add_factor("totp")
            drive(rig.engine.end_user("ada", EndReason.ADMIN))
            with pytest.raises(SessionGone, match="admin"):
                rig.commit(late)
            assert drive(rig.engine.index.of_user("ada")) == ()

    @requirement("R61", "R67")
    def test_signing_out_twice_is_signing_out(self, rig: Rig) -> None:
        """A second sign-out finds nobody, and is no error."""
        token = rig.sign_in()
        for expected in ("", None):
            session = rig.open(token)
            session.logout()
            assert rig.close(session) == expected

    def test_what_is_written_after_a_sign_out_begins_a_new_anonymous_session(self, rig: Rig) -> None:
        """A farewell message survives in a session of nobody's, and the new cookie is not cleared away."""
        token = rig.sign_in()
        session = rig.open(token)
        session.logout()
        session["message"] = "Bye"
        answer = rig.commit(session)
        fresh = token_of(answer)
        assert fresh
        assert answer.clear_site_data == '"cache", "storage"'
        assert dict(rig.open(fresh)) == {"message": "Bye"}
        assert rig.user_of(fresh) is None

    @requirement("R61")
    def test_sign_out_everywhere_ends_all_sessions_of_the_user_and_no_others(self, rig: Rig) -> None:
        """Every device of the user is out; other users stay."""
        tokens = [rig.sign_in() for _ in range(3)]
        other = rig.sign_in("bob")
        session = rig.open(tokens[0])
        session.logout(everywhere=True)
        assert rig.close(session) == ""
        assert [rig.user_of(token) for token in tokens] == [None] * 3
        assert rig.user_of(other) == "bob"

    @requirement("R64")
    def test_ending_everything_ends_what_exists_and_nothing_later(self, rig: Rig) -> None:
        """One step, by epoch; sessions that begin afterwards live."""
        before = [rig.sign_in(name) for name in ("ada", "bob")]
        assert rig.counted(lambda: drive(rig.engine.end_everything())) == ["end_everything"]
        assert [rig.user_of(token) for token in before] == [None, None]
        assert rig.user_of(rig.sign_in()) == "ada"

    @requirement("R65")
    def test_nobody_ends_a_session_that_is_not_theirs(self, rig: Rig) -> None:
        """With `user`, another user's id, an anonymous one and an unknown one end nothing."""
        adas, bobs = rig.sign_in("ada"), rig.sign_in("bob")
        session = rig.open()
        session["x"] = 1
        anonymous = rig.close(session)
        assert anonymous
        for target in (rig.id_of(adas), rig.id_of(anonymous), "0" * 40, "../../etc"):
            assert drive(rig.engine.end(target, EndReason.USER, user="bob")).ended == ()
        assert rig.user_of(adas) == "ada"
        assert drive(rig.engine.end(rig.id_of(bobs), EndReason.USER, user="bob")).ended
        assert rig.user_of(bobs) is None

    @requirement("R25")
    def test_a_second_commit_does_nothing_and_later_changes_raise(self, rig: Rig) -> None:
        """After the commit the session is frozen."""
        session = rig.open()
        session["x"] = 1
        assert rig.close(session)
        assert rig.counted(lambda: rig.commit(session)) == []
        for change in (lambda: session.update(x=2), session.logout, session.rotate, lambda: session.login("ada")):
            with pytest.raises(SessionClosed):
                change()


class TestRotation:
    """The token's generations, through the engine."""

    @requirement("R29")
    def test_a_token_is_rotated_when_it_is_due_and_not_before(self, rig: Rig) -> None:
        """Every 15 minutes, in place: the id stays."""
        token = rig.sign_in()
        rig.now += 899
        assert rig.visit(token) is None
        rig.now += 1
        fresh = rig.visit(token)
        assert fresh
        assert fresh != token
        assert rig.id_of(fresh) == rig.id_of(token)
        assert [event.generation for event in rig.told(TokenRotated)] == [1]

    @requirement("R30")
    @pytest.mark.parametrize("on_replay", ["end", "end-all"])
    def test_a_replay_ends_the_session_or_all_of_its_users(self, make: Make, on_replay: Any) -> None:
        """A token that was left behind ends the session for both holders; by policy, all of the user's."""
        rig = make(policy=Policy(on_replay=on_replay))
        stolen, elsewhere, other = rig.sign_in(), rig.sign_in(), rig.sign_in("bob")
        rig.now += 901
        fresh = rig.visit(stolen)
        assert rig.user_of(fresh) == "ada"
        rig.now += 31
        assert rig.user_of(stolen) is None
        assert rig.user_of(fresh) is None
        assert rig.user_of(elsewhere) == ("ada" if on_replay == "end" else None)
        assert rig.user_of(other) == "bob"
        [alarm] = rig.told(ReplayDetected)
        assert (alarm.user, alarm.generation, alarm.behind) == ("ada", 0, 1)

    @requirement("R29")
    def test_the_old_token_works_within_the_grace_and_is_given_nothing(self, rig: Rig) -> None:
        """In flight is served, and gets no cookie."""
        token = rig.sign_in()
        rig.now += 901
        fresh = rig.visit(token)
        rig.user_of(fresh)
        rig.now += 29
        session = rig.open(token)
        assert session.user_id == "ada"
        session["written"] = 1
        assert rig.close(session) is None
        assert rig.open(fresh)["written"] == 1

    @requirement("R31")
    def test_a_lost_answer_costs_nobody_the_session(self, rig: Rig) -> None:
        """While nobody has used the successor, the old token works as long as the session lives, and gets another."""
        token = rig.sign_in()
        rig.now += 901
        lost = rig.visit(token)
        rig.now += 1200
        again = rig.visit(token)
        assert again
        assert again != lost
        assert rig.user_of(again) == "ada"

    @requirement("R31")
    def test_fifty_parallel_requests_at_the_rotation_all_succeed(self, rig: Rig) -> None:
        """All are served, one generation begins, each answer hands out a sibling of its own, any of which works."""
        token = rig.sign_in()
        rig.now += 901
        sessions = [rig.open(token) for _ in range(50)]
        for index, session in enumerate(sessions):
            assert session.user_id == "ada"
            if index % 2:
                session[f"key {index}"] = index
        fresh = [rig.close(session) for session in sessions]
        assert len(set(fresh)) == 50
        assert None not in fresh
        assert len(rig.told(TokenRotated)) == 1
        assert all(rig.user_of(one) == "ada" for one in fresh)
        rig.now += 31
        assert rig.user_of(fresh[7]) == "ada"
        assert len(rig.open(fresh[7])) == 25
        rig.now += 31
        assert rig.user_of(fresh[8]) is None

    def test_a_slow_request_hands_out_no_token(self, rig: Rig) -> None:
        """An answer that begins later than the grace after its load could overtake too much."""
        token = rig.sign_in()
        rig.now += 901
        slow = rig.open(token)
        rig.now += 31
        slow["x"] = 1
        assert rig.close(slow) is None
        assert rig.open(token)["x"] == 1

    @requirement("R51")
    def test_a_store_that_lost_writes_is_noticed_and_the_user_stays(self, make: Make) -> None:
        """The token is newer than the record: it is adopted, and told as an alert."""
        rig = make()
        token = rig.sign_in()
        read = rig.mint.verify(token)
        assert read is not None
        newer = rig.mint.mint(read.seed, 3, b"newest")
        assert rig.user_of(newer) == "ada"
        [event] = rig.told(StoreRolledBack)
        assert (event.lost, event.severity) == (3, "alert")
        assert rig.held(newer).control.generation == 3
        assert rig.user_of(newer) == "ada"
        rig.now += 31
        assert rig.user_of(token) is None


class TestTimes:
    """Idle and absolute, touches, and clocks that jump."""

    @requirement("R38", "R44")
    def test_a_touch_is_throttled_and_moves_times_alone(self, rig: Rig) -> None:
        """Reads within a minute write nothing; after that one touch does."""
        token = rig.sign_in()
        rig.now += 59
        assert rig.counted(lambda: rig.visit(token)) == ["load"]
        rig.now += 2
        before = rig.held(token)
        assert rig.counted(lambda: rig.visit(token)) == ["load", "touch"]
        after = rig.held(token)
        assert after.seen_at == rig.now
        assert (after.control, after.revision, after.version) == (before.control, before.revision, before.version)

    @requirement("R40")
    def test_a_passive_request_is_no_activity(self, rig: Rig) -> None:
        """Polling reads and writes, and does not move the idle limit."""
        token = rig.sign_in()
        seen = rig.held(token).seen_at
        for _ in range(10):
            rig.now += 300
            session = rig.open(token, passive=True)
            session["polls"] = session.get("polls", 0) + 1
            token = rig.close(session) or token
        assert rig.held(token).seen_at == seen
        rig.now += 700
        assert rig.user_of(token, passive=True) is None
        assert rig.told(SessionEnded)[0].reason is EndReason.IDLE

    @requirement("R33", "R35", "R36", "R38")
    def test_idle_ends_for_good_after_its_limit_and_never_before(self, rig: Rig) -> None:
        """Up to the limit it lives, past limit and tolerance it is dead, and stays so if the clock goes back."""
        token = rig.sign_in()
        rig.now += rig.policy.idle
        assert rig.user_of(token) == "ada"
        rig.now += rig.policy.idle + rig.policy.tolerance
        assert rig.open(token).ended is EndReason.IDLE
        assert isinstance(rig.held(token), Tombstone)
        rig.now -= HOUR
        assert rig.user_of(token) is None

    @requirement("R33", "R35")
    def test_activity_does_not_move_the_absolute_limit_and_a_factor_does(self, rig: Rig) -> None:
        """Only a successful authentication resets it."""
        token = rig.sign_in()
        began = rig.now
        while rig.now < began + DAY - 1800:
            rig.now += 1700
            token = rig.visit(token) or token
        assert rig.user_of(token) == "ada"
        session = rig.open(token)
        session.add_factor("totp")
        longer = rig.close(session)
        rig.now = began + DAY + 1
        assert rig.user_of(longer) == "ada"
        again = rig.sign_in("bob")
        born = rig.now
        while rig.now < born + DAY - 1000:
            rig.now += 1000
            again = rig.visit(again) or again
        rig.now = born + DAY
        assert rig.open(again).ended is EndReason.ABSOLUTE

    @requirement("R36", "R38")
    @pytest.mark.parametrize("jump", [-120.0, 120.0])
    def test_a_clock_that_jumps_by_two_minutes_ends_nothing_and_revives_nothing(self, rig: Rig, jump: float) -> None:
        """Live sessions stay, ended ones stay ended, writes land, and the next rotation happens (T9)."""
        token, gone = rig.sign_in(), rig.sign_in()
        session = rig.open(gone)
        session.logout()
        rig.commit(session)
        rig.now += 300
        waiting = rig.open(token)
        rig.now += jump
        waiting["x"] = 1
        rig.commit(waiting)
        assert rig.open(token)["x"] == 1
        assert rig.user_of(gone) is None
        rig.now += 901 + abs(jump)
        fresh = rig.visit(token)
        assert fresh
        assert rig.user_of(fresh) == "ada"
        assert not rig.told(ReplayDetected)

    def test_a_session_near_its_idle_limit_is_touched_before_a_slow_view(self, rig: Rig) -> None:
        """A slow request does not let the next one find the session dead."""
        token = rig.sign_in()
        rig.now += 59 * MINUTE
        rig.open(token)
        rig.now += 10 * MINUTE
        assert rig.user_of(token) == "ada"


class TestLimit:
    """Concurrent sessions."""

    @requirement("R66")
    def test_the_oldest_makes_room(self, make: Make) -> None:
        """A further sign-in ends the oldest session, and says so."""
        rig = make(policy=Policy(max_sessions=2, on_limit="end-oldest"))
        tokens = []
        for _ in range(3):
            rig.now += 1
            tokens.append(rig.sign_in())
        assert [rig.user_of(token) for token in tokens] == [None, "ada", "ada"]
        assert rig.told(LimitReached)[0].action == "end-oldest"
        assert rig.told(SessionEnded)[0].reason is EndReason.LIMIT

    @requirement("R66")
    def test_a_further_sign_in_is_refused(self, make: Make) -> None:
        """The sign-in fails as an error, nothing is created, and the session from before stays as it was."""
        rig = make(policy=Policy(max_sessions=1, on_limit="refuse"))
        token = rig.sign_in()
        session = rig.open()
        session.login("ada")
        with pytest.raises(TooManySessions, match="1 sessions"):
            rig.commit(session)
        assert rig.user_of(token) == "ada"
        assert len(drive(rig.engine.index.of_user("ada"))) == 1
        assert rig.sign_in("bob")

    @requirement("R66")
    def test_signing_in_again_in_the_same_session_counts_once(self, make: Make) -> None:
        """The session that is replaced does not count against the limit."""
        rig = make(policy=Policy(max_sessions=1, on_limit="refuse"))
        token = rig.sign_in()
        for _ in range(3):
            token = rig.sign_in(token=token)
        assert rig.user_of(token) == "ada"

    @requirement("R49", "R66")
    @pytest.mark.parametrize("on_limit", ["refuse", "end-oldest"])
    def test_parallel_sign_ins_never_exceed_the_limit(self, make: Make, on_limit: Any) -> None:
        """However loads and commits interleave, there are never more sessions than allowed."""
        rig = make(policy=Policy(max_sessions=3, on_limit=on_limit))
        waiting = []
        for _ in range(12):
            session = rig.open()
            session.login("ada")
            waiting.append(session)
        for session in waiting:
            rig.now += 0.001
            try:
                rig.commit(session)
            except TooManySessions:
                assert on_limit == "refuse"
            assert len(drive(rig.engine.index.of_user("ada"))) <= 3
        assert len(drive(rig.engine.index.of_user("ada"))) == 3


class TestWrites:
    """Deltas by key."""

    @requirement("R43")
    def test_two_requests_that_change_different_keys_both_win(self, rig: Rig) -> None:
        """Twenty-five interleaved writers keep twenty-five keys."""
        token = rig.sign_in()
        sessions = [rig.open(token) for _ in range(25)]
        for index, session in enumerate(sessions):
            session[f"k{index}"] = index
        for session in sessions:
            rig.commit(session)
        assert dict(rig.open(token)) == {f"k{index}": index for index in range(25)}

    @requirement("R43")
    def test_the_same_key_is_last_wins_or_a_conflict_where_asked_for(self, rig: Rig) -> None:
        """With `raise_on_conflict` the second writer is told which key, and nothing is written."""
        token = rig.sign_in()
        first, second, third = (rig.open(token) for _ in range(3))
        third.raise_on_conflict = True
        first["n"], second["n"], third["n"] = 1, 2, 3
        rig.commit(first)
        rig.commit(second)
        assert rig.open(token)["n"] == 2
        with pytest.raises(ConflictError) as caught:
            rig.commit(third)
        assert caught.value.keys == ("n",)
        assert rig.open(token)["n"] == 2

    def test_nested_changes_and_removals_are_noticed(self, rig: Rig) -> None:
        """No `modified = True` is needed, at any depth."""
        token = rig.sign_in()
        session = rig.open(token)
        session.update(cart={"items": [1]}, gone=1, same=[1])
        rig.commit(session)
        session = rig.open(token)
        session["cart"]["items"].append(2)
        del session["gone"]
        assert session["same"] == [1]
        put, drop = session.changes()
        assert (set(put), set(drop)) == ({"cart"}, {"gone"})
        rig.commit(session)
        assert dict(rig.open(token)) == {"cart": {"items": [1, 2]}, "same": [1]}


class TestChannel:
    """Plain http outside loopback has no session."""

    @requirement("R20")
    def test_plain_http_neither_sets_nor_accepts_a_cookie_and_says_so_once(self, rig: Rig) -> None:
        """One loud line a host, no store call, no cookie, and the sign-in did not happen."""
        token = rig.sign_in()

        def over_http() -> None:
            assert rig.user_of(token, scheme="http") is None
            session = rig.open(scheme="http")
            session.login("ada")
            assert rig.commit(session).cookie is None

        assert rig.counted(over_http, over_http) == []
        [line] = rig.told(InsecureChannel)
        assert line.host == "app.example"
        assert "https" in line.sentence()

    @requirement("R20")
    @pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:5000", "[::1]:80", "shop.localhost"])
    def test_loopback_works_on_plain_http(self, rig: Rig, host: str) -> None:
        """Browsers trust these hosts, so development works."""
        token = rig.sign_in(scheme="http", host=host)
        assert rig.user_of(token, scheme="http", host=host) == "ada"

    @requirement("R20")
    @pytest.mark.parametrize(
        "host", ["localhost.evil.example", "127.0.0.1.nip.io", "evil-localhost", "localhost@evil", "", "0.0.0.0"]
    )
    def test_hosts_that_only_look_like_loopback_do_not(self, rig: Rig, host: str) -> None:
        """A name that contains localhost is not localhost."""
        session = rig.open(scheme="http", host=host)
        session.login("ada")
        assert rig.commit(session).cookie is None


class TestRefusals:
    """Records that cannot be read, and stores that fail."""

    @requirement("R46")
    def test_an_unreadable_record_is_nobodys(self, rig: Rig) -> None:
        """It is told, and the request goes on without a session."""
        token = rig.sign_in()

        async def unreadable(_sid: str) -> Unreadable:
            return Unreadable("control")

        rig.store.load = unreadable
        session = rig.open(token)
        assert session.user_id is None
        assert dict(session) == {}
        [event] = rig.told(RecordRefused)
        assert event.why == "control"

    @requirement("R45")
    @pytest.mark.parametrize("verb", ["load", "save"])
    def test_a_store_that_fails_is_an_error_and_never_nobody(self, rig: Rig, verb: str) -> None:
        """Load and commit raise, and the sinks hear of it."""
        token = rig.sign_in()

        async def fails(*_: object, **__: object) -> None:
            raise StoreUnavailable("down")

        setattr(rig.store, verb, fails)

        def request() -> None:
            session = rig.open(token)
            session["x"] = 1
            rig.commit(session)

        with pytest.raises(StoreUnavailable):
            request()
        assert rig.told(StoreFailed)[0].error == "store-unavailable"

    @requirement("R45")
    def test_a_sign_in_that_was_not_stored_was_not_done(self, rig: Rig) -> None:
        """If create fails, commit raises, and there is no session of the user."""
        session = rig.open()
        session.login("ada")
        real = rig.store.create

        async def fails(*_: object, **__: object) -> None:
            raise StoreUnavailable("down")

        rig.store.create = fails
        with pytest.raises(StoreUnavailable):
            rig.commit(session)
        rig.store.create = real
        assert drive(rig.engine.index.of_user("ada")) == ()

    @requirement("R4")
    def test_a_seed_that_is_taken_is_drawn_again(self, make: Make) -> None:
        """Creating on an existing id never overwrites: another seed is drawn."""
        draws = [b"s" * 20, b"b" * 6, b"s" * 20, b"c" * 6, b"t" * 20, b"d" * 6]
        rig = make(entropy=lambda _size: draws.pop(0))
        first = rig.sign_in("ada")
        second = rig.sign_in("bob")
        assert rig.id_of(first) != rig.id_of(second)
        assert (rig.user_of(first), rig.user_of(second)) == ("ada", "bob")
        assert draws == []


def test_engine_interleaves_at_every_await() -> None:
    """Fifty tasks at the rotation, on a store that yields around every verb: all live, one generation begins."""

    async def story() -> None:
        rig = Rig()
        token = rig.sign_in()
        rig.now += 901
        for verb in ("load", "save", "create", "touch", "end"):
            setattr(rig.store, verb, _yielding(getattr(rig.store, verb)))

        async def request(index: int, carried: str) -> str | None:
            session = await rig.engine.load(facts(carried))
            assert session.user_id == "ada"
            await asyncio.sleep(0)
            session[f"k{index}"] = index
            return token_of(await rig.engine.commit(session))

        fresh = await asyncio.gather(*(request(index, token) for index in range(50)))
        handed = [one for one in fresh if one]
        assert len(set(handed)) == len(handed) > 0
        await asyncio.gather(*(request(index + 50, one) for index, one in enumerate(handed)))
        rig.now += 31
        session = await rig.engine.load(facts(handed[-1]))
        assert len(session) == 50 + len(handed)
        assert isinstance(await rig.store.load(rig.id_of(token)), Record)
        assert len(rig.told(TokenRotated)) == 1

    asyncio.run(story())


def _yielding(verb: Callable[..., Any]) -> Callable[..., Any]:
    async def slow(*given: Any, **named: Any) -> Any:
        await asyncio.sleep(0)
        answer = await verb(*given, **named)
        await asyncio.sleep(0)
        return answer

    return slow
