"""Each old session is adopted once, whatever happens on the way, and never again after its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sessile import AsyncSessions, Sessions
from sessile.core.engine import Engine
from sessile.core.ids import session_id
from sessile.core.keys import KeyRing
from sessile.core.legacy import Found, OldSession, Refusal, mark_id
from sessile.core.policy import Policy
from sessile.core.record import Record, Tombstone
from sessile.core.session import Session
from sessile.errors import ConfigurationError, StoreUnavailable
from sessile.legacy import FlaskCookie
from sessile.stores import open_store
from sessile.stores.memory import MemoryStore
from tests.core.rig import FIREFOX, RING, VERBS, facts
from tests.legacy.bench import Bench
from tests.legacy.own import OwnBridge
from tests.legacy.peers import SECRET, UNTIL
from tests.support.requirements import requirement

ADA = {"user_id": "ada", "cart": ["tea"]}


@pytest.fixture(name="own")
def fixture_own() -> OwnBridge:
    """Return a bridge with two old sessions: one of Ada's, one of nobody's."""
    return OwnBridge({"k1": dict(ADA), "k2": {"cart": ["milk"]}})


@pytest.fixture(name="shop", params=["memory", "sqlite"])
def fixture_shop(request: pytest.FixtureRequest, own: OwnBridge, tmp_path: Path) -> Iterator[Bench]:
    """Return a bench with that bridge, on each store that is always there."""
    store = MemoryStore() if request.param == "memory" else open_store(f"sqlite:///{tmp_path}/s.db", blocking=True)
    bench = Bench(store=store).stand(own)
    yield bench
    bench.close()


class Stopped(StoreUnavailable):
    """Stand for a process that stops: nothing after this point is done."""


class TestAnAdoptionThatStops:
    """A process may stop at any step; the next request goes on where it was."""

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_whichever_step_it_stops_at_the_next_request_ends_well(self, moment: str, tmp_path: Path) -> None:
        """Exactly one session, with everything in it; the old row is gone; the cookie that is handed out works."""
        steps = 0
        for stop_at in count():
            own = OwnBridge({"k1": dict(ADA)})
            bench = Bench(store=open_store(f"sqlite:///{tmp_path}/{stop_at}.db", blocking=True)).stand(own)
            steps = self._stop(bench, own, stop_at, moment)
            if steps <= stop_at:
                bench.close()
                break
            visit = bench.visit("old=k1")
            assert (visit.user, visit.data) == ("ada", ADA), f"after step {stop_at}"
            assert own.rows == {}
            assert bench.run(bench.store.stats(bench.rig.now)).signed_in == 1
            again = bench.visit(bench.ours(visit.token))
            assert (again.user, again.id) == ("ada", visit.id)
            assert bench.visit("old=k1").user == "ada", "still in flight"
            bench.close()
        assert steps >= 7

    def _stop(self, bench: Bench, own: OwnBridge, stop_at: int, moment: str) -> int:
        """Send a request that stops at a step; return how many there were."""
        steps = iter(range(1000))
        taken = 0

        def stopping(method: Callable[..., Any]) -> Callable[..., Any]:
            async def step(*given: Any, **named: Any) -> Any:
                nonlocal taken
                mine = next(steps)
                taken = max(taken, mine + 1)
                if mine == stop_at and moment == "before":
                    raise Stopped
                answer = await method(*given, **named)
                if mine == stop_at:
                    raise Stopped
                return answer

            return step

        kept = [(target, verb, getattr(target, verb)) for target, verb in self._verbs(bench, own)]
        for target, verb, method in kept:
            setattr(target, verb, stopping(method))
        try:
            bench.visit("old=k1")
        except Stopped:
            pass
        finally:
            for target, verb, method in kept:
                setattr(target, verb, method)
        return taken

    def _verbs(self, bench: Bench, own: OwnBridge) -> list[tuple[Any, str]]:
        return [*((bench.store, verb) for verb in VERBS), (own, "find"), (own, "end")]

    def test_a_half_done_adoption_that_nobody_came_back_to_can_still_be_done(self, shop: Bench, own: OwnBridge) -> None:
        """Its mark has expired and was swept, or was not."""
        for key, sweep in (("k1", True), ("k2", False)):
            shop.run(shop.store.create(mark_id(own.kind, key.encode()), _expired(shop.rig.now)))
            if sweep:
                assert shop.run(shop.rig.engine.sweep(10)) == 1
            assert shop.visit(f"old={key}").data["cart"]

    def test_a_mark_that_is_swept_between_two_steps_is_made_again(self, shop: Bench, own: OwnBridge) -> None:
        """Nobody is told that the session was adopted before."""
        shop.run(shop.store.create(mark_id(own.kind, b"k1"), _expired(shop.rig.now)))

        async def sweep() -> None:
            assert await shop.rig.engine.sweep(10) == 1

        own.in_find = sweep
        assert shop.visit("old=k1").user == "ada"


def _expired(now: float) -> Record:
    from sessile.core.session import anonymous

    return Record(anonymous(now - 9000), {}, now - 9000, now - 1)


class TestSeveralAtOnce:
    """Tabs, threads, nodes."""

    def test_many_threads_with_one_old_cookie_make_one_session(self, tmp_path: Path) -> None:
        """On a store that several processes share, with bridges that do not know of each other."""
        path, rows = f"sqlite:///{tmp_path}/s.db", {"k1": dict(ADA)}
        doors = [Sessions(path, keys=RING, legacy=[OwnBridge(rows)], sinks=()) for _ in range(4)]
        barrier = threading.Barrier(16)

        def tab(number: int) -> tuple[str | None, str | None, str | None]:
            door = doors[number % 4]
            barrier.wait()
            session = door.open(facts(cookie="old=k1"))
            user, sid = session.user_id, session.id
            session[f"tab {number}"] = number
            return user, sid, door.commit(session).cookie

        with ThreadPoolExecutor(16) as pool:
            done = list(pool.map(tab, range(16)))
        assert {user for user, _, _ in done} == {"ada"}
        assert len({sid for _, sid, _ in done}) == 1
        assert sum(report.adopted for door in doors for report in door.bridges()) == 1
        last = doors[0].open(facts(cookie=(done[5][2] or "").partition(";")[0]))
        assert {f"tab {number}" for number in range(16)} <= last.keys()
        assert doors[0].stats().live == 1
        for door in doors:
            door.close()

    def test_tasks_that_overtake_each_other_make_one_session(self) -> None:
        """All have read the old row before any has stored."""

        async def run() -> None:
            own = OwnBridge({"k1": dict(ADA)})
            door = AsyncSessions("memory://", keys=RING, legacy=[own], sinks=())
            arrived, all_here = 0, asyncio.Event()

            async def meet() -> None:
                nonlocal arrived
                arrived += 1
                if arrived == 20:
                    all_here.set()
                await all_here.wait()

            own.in_find = meet
            opened = await asyncio.gather(*(door.open(facts(cookie="old=k1")) for _ in range(20)))
            assert {session.user_id for session in opened} == {"ada"}
            assert len({session.id for session in opened}) == 1
            cookies = [(await door.commit(session)).cookie for session in opened]
            assert all(cookies)
            assert len(set(cookies)) == 20
            assert door.bridges()[0].adopted == 1
            assert (await door.stats()).live == 1
            await door.close()
            assert own.closed

        asyncio.run(run())

    def test_who_is_overtaken_between_the_mark_and_the_old_session_is_served(self) -> None:
        """Another request adopts it, and ends the old one, after this one has seen no mark."""
        store = MemoryStore()

        class Overtaken(OwnBridge):
            async def find(self, old: OldSession, now: float) -> Found | Refusal | None:
                if "find" not in self.calls:
                    self.calls.append("find")
                    assert other.open(facts(cookie="old=k1")).user_id == "ada"
                    assert not self.rows
                return await super().find(old, now)

        own = Overtaken({"k1": dict(ADA)})
        slow, other = (Sessions(store, keys=RING, legacy=[own], sinks=()) for _ in range(2))
        session = slow.open(facts(cookie="old=k1"))
        assert session.user_id == "ada"
        assert slow.commit(session).cookie
        assert store_size(store) == 1

    def test_nodes_with_different_newest_keys_find_the_same_session(self) -> None:
        """In the midst of a change of keys."""
        before, after = KeyRing({0: bytes(range(32))}), KeyRing({1: bytes(32), 0: bytes(range(32))})
        own, store = OwnBridge({"k1": dict(ADA), "k2": {"user_id": "grace"}}), MemoryStore()
        old_node = Sessions(store, keys=before, legacy=[own], sinks=())
        new_node = Sessions(store, keys=after, legacy=[own], sinks=())
        first, second = old_node.open(facts(cookie="old=k1")), new_node.open(facts(cookie="old=k1"))
        assert (first.id, first.user_id) == (second.id, second.user_id)
        third = new_node.open(facts(cookie="old=k2"))
        assert third.user_id == "grace"
        with pytest.raises(StoreUnavailable):
            old_node.open(facts(cookie="old=k2"))  # it has not the key: it must not delete the old cookie
        assert store_size(store) == 2


def store_size(store: MemoryStore) -> int:
    """Return how many sessions live."""
    return sum(isinstance(held, Record) for held in store._held.values())


class TestEnds:
    """What has ended stays so, also for sessions that were not adopted yet."""

    @requirement("R49", "R62")
    def test_an_adoption_under_way_does_not_slip_through_an_end_of_all(self, shop: Bench, own: OwnBridge) -> None:
        """The end comes between the old row's reading and the new session's creation."""

        async def end_all() -> None:
            from sessile.core.record import EndReason

            own.in_find = None
            await shop.rig.engine.end_user("ada", EndReason.ADMIN)

        own.in_find = end_all
        visit = shop.visit("old=k1")
        assert (visit.user, visit.token, visit.forgotten) == (None, None, ("old",))
        assert (shop.live(), own.rows.keys()) == (0, {"k2"})
        assert shop.refusals() == ["closed"]

    @requirement("R64")
    def test_an_adoption_under_way_does_not_slip_through_an_end_of_everything(
        self, shop: Bench, own: OwnBridge
    ) -> None:
        """Neither a user's nor a visitor's."""

        async def end_everything() -> None:
            own.in_find = None
            await shop.rig.engine.end_everything()

        for key in ("k1", "k2"):
            own.in_find = end_everything
            assert shop.visit(f"old={key}").data == {}
        assert shop.live() == 0

    @requirement("R64")
    def test_an_adoption_between_an_end_of_everything_and_its_mark_does_not_slip_through(
        self, shop: Bench, own: OwnBridge
    ) -> None:
        """The epoch is new already, and that bridges are closed is not yet said in it."""
        end_everything = shop.store.end_everything
        visits: list[Any] = []

        async def ended(at: float) -> Any:
            ending = await end_everything(at)
            session = await shop.rig.engine.load(facts(cookie="old=k1"))
            visits.append((session.user_id, dict(session)))
            return ending

        shop.store.end_everything = ended
        shop.run(shop.rig.engine.end_everything())
        assert visits == [(None, {})]
        assert shop.live() == 0

    def test_an_end_of_everything_by_an_engine_without_bridges_leaves_the_adopted_ones_dead(
        self, shop: Bench, own: OwnBridge
    ) -> None:
        """What was adopted before is dead, and its old cookie of no use while the end is remembered."""
        shop.visit("old=k1")
        shop.run(shop.store.end_everything(shop.rig.now))
        assert shop.visit("old=k1").user is None

    @requirement("R61")
    def test_a_sign_out_in_the_very_request_that_adopts_ends_both(self, shop: Bench, own: OwnBridge) -> None:
        """No session is left, and no cookie."""
        visit = shop.visit("old=k1", lambda session: session.logout())
        assert (visit.forgotten, shop.live(), own.rows.keys()) == (("old",), 0, {"k2"})
        assert shop.visit("old=k1").user is None

    @requirement("R25")
    def test_a_sign_in_in_the_very_request_that_adopts_makes_a_session_of_its_own(
        self, shop: Bench, own: OwnBridge
    ) -> None:
        """With what the visitor had, under a new id; the old cookie opens nothing."""
        visit = shop.visit("old=k2", lambda session: session.login("grace"))
        assert (visit.user, visit.data, visit.forgotten) == ("grace", {"cart": ["milk"]}, ("old",))
        again = shop.visit(shop.ours(visit.token))
        assert (again.user, again.aal) == ("grace", 1)
        late = shop.visit("old=k2")
        assert (late.user, late.token) == (None, None)
        assert shop.live() == 1

    @requirement("R88", "R89")
    def test_a_step_up_of_an_adopted_session_counts_for_what_it_proves(self, shop: Bench) -> None:
        """One factor is one factor: what the old sign-in was, is not known."""
        token = shop.visit("old=k1").token
        stepped = shop.visit(shop.ours(token), lambda session: session.add_factor("totp"))
        again = shop.visit(shop.ours(stepped.token))
        assert (again.user, again.aal) == ("ada", 1)

    def test_a_mark_is_kept_until_the_cookie_would_be_refused_anyway_and_no_longer(self) -> None:
        """A store does not fill up with them."""
        from tests.legacy.peers import FlaskPeer

        cookie, bench = FlaskPeer().write({"_user_id": "ada"}), Bench()
        bench.stand(FlaskCookie(secret_key=SECRET, until=UNTIL, max_age=1000))
        bench.visit(cookie)
        mark, standing = sorted(held.expires_at for held in bench.store._held.values() if isinstance(held, Tombstone))
        skew = bench.rig.policy.clock_skew  # another node may take the cookie for so much longer
        assert 998 < mark - bench.rig.now - skew < 1002
        bench.advance(1002 + skew)
        bench.run(bench.rig.engine.sweep(100))
        left = [held.expires_at for held in bench.store._held.values() if isinstance(held, Tombstone)]
        assert left == [standing], "one alone, for operators' tools"
        assert bench.refusals() == []
        assert bench.visit(cookie).user is None
        assert bench.refusals() == ["expired"]

    def test_the_mark_of_a_row_outlives_the_bridge(self, shop: Bench, own: OwnBridge) -> None:
        """A library that saves late brings rows back; they are not adopted again."""
        token = shop.visit("old=k1").token
        shop.visit(shop.ours(token), lambda session: session.logout())
        own.rows["k1"] = dict(ADA)
        shop.advance(30 * 86_400)
        shop.run(shop.rig.engine.sweep(100))
        assert shop.visit("old=k1").user is None
        held = shop.run(shop.store.load(mark_id(own.kind, b"k1")))
        assert held.expires_at > own.until


class TestWhoIsAsked:
    """When old cookies count, and what they cost."""

    def test_a_session_of_ours_that_lives_is_all_that_counts(self, shop: Bench, own: OwnBridge) -> None:
        """The old cookie beside it is not even looked at: one round trip, as ever."""
        token = shop.rig.sign_in("grace")
        shop.rig.calls.clear()
        visit = shop.visit(f"{shop.ours(token)}; old=k1")
        assert (visit.user, own.calls, shop.rig.calls) == ("grace", [], ["load"])

    def test_a_visitor_without_an_old_cookie_costs_nothing(self, shop: Bench, own: OwnBridge) -> None:
        """Whatever else the browser sends."""
        visit = shop.visit("theme=dark")
        assert (visit.token, own.calls, shop.rig.calls) == (None, [], [])

    def test_an_adoption_costs_what_is_written_down(self, shop: Bench, own: OwnBridge) -> None:
        """The mark; the mark and the session; what was ended meanwhile; and who is to be handed a token."""
        shop.visit("old=k2")  # the first of a process also says that bridges stand
        shop.rig.calls.clear()
        own.calls.clear()
        shop.visit("old=k1")
        assert shop.rig.calls == ["load", "create", "create", "load", "load", "load", "load"]
        assert own.calls == ["find", "end"]

    @requirement("R42", "R61")
    def test_a_session_of_ours_that_was_ended_is_not_replaced_by_an_old_one(self, shop: Bench, own: OwnBridge) -> None:
        """Who was signed out by somebody is signed out, whatever the browser kept of earlier days."""
        from sessile.core.record import EndReason

        token = shop.rig.sign_in("grace")
        shop.run(shop.rig.engine.end(shop.rig.id_of(token), EndReason.ADMIN))
        assert shop.visit(f"{shop.ours(token)}; old=k1").user is None
        assert own.calls == []

    def test_a_token_that_names_nothing_does_not_keep_an_old_session_from_being_adopted(self, shop: Bench) -> None:
        """Neither one of keys that are gone, nor one whose session is forgotten."""
        forged = "A" * 63
        assert shop.visit(f"__Host-id={forged}; old=k1").user == "ada"
        forgotten = shop.rig.mint.mint(bytes(20), 0, bytes(6))
        assert isinstance(session_id(bytes(20)), str)
        assert shop.visit(f"{shop.ours(forgotten)}; old=k2").data == {"cart": ["milk"]}

    @pytest.mark.parametrize(
        ("mode", "destination", "adopted"),
        [
            ("no-cors", "image", False),
            ("navigate", "iframe", False),
            ("cors", "empty", False),
            ("navigate", "document", True),
        ],
    )
    def test_what_another_site_embeds_adopts_nothing(
        self, shop: Bench, own: OwnBridge, mode: str, destination: str, adopted: bool
    ) -> None:
        """Its browser would drop the new cookie, and might take the deletion of the old one."""
        visit = shop.visit("old=k1", sec_fetch_site="cross-site", sec_fetch_mode=mode, sec_fetch_dest=destination)
        assert (visit.user is not None, bool(visit.forgotten), "k1" not in own.rows) == (adopted,) * 3

    def test_several_bridges_are_asked_in_order_and_each_counts_for_itself(self) -> None:
        """A browser may hold cookies of two libraries; the first that has a session is adopted."""
        first, second = OwnBridge({}, name="first"), OwnBridge({"b": dict(ADA)}, name="second")
        bench = Bench().stand(first, second)
        visit = bench.visit("first=a; second=b")
        assert (visit.user, visit.forgotten) == ("ada", ("second",))
        assert bench.rig.engine.adoption is not None
        reports = bench.rig.engine.adoption.reports()
        assert [(one.name, one.adopted, dict(one.refused)) for one in reports] == [
            ("first", 0, {"unknown": 1}),
            ("second", 1, {}),
        ]

    def test_the_new_session_knows_the_client_from_its_first_request(self, shop: Bench) -> None:
        """Its context is bound at once, as of every session."""
        shop.visit("old=k1", user_agent=FIREFOX)
        ((_, record),) = shop.run(shop.store.of_user("ada"))
        assert record.control.context.agent == "Firefox"
        assert record.control.context.network


class TestLimits:
    """The policy holds for adopted sessions."""

    @requirement("R66")
    def test_the_oldest_session_makes_room(self) -> None:
        """Where the policy says so."""
        own = OwnBridge({"k1": dict(ADA)})
        bench = Bench(policy=Policy(max_sessions=1)).stand(own)
        other = bench.rig.sign_in("ada")
        assert bench.visit("old=k1").user == "ada"
        assert bench.visit(bench.ours(other)).user is None
        assert bench.live() == 1

    @requirement("R66")
    def test_an_old_session_waits_until_there_is_room(self) -> None:
        """Where the policy refuses; it is not ended, and adopted later."""
        own = OwnBridge({"k1": dict(ADA)})
        bench = Bench(policy=Policy(max_sessions=1, on_limit="refuse")).stand(own)
        other = bench.rig.sign_in("ada")
        visit = bench.visit("old=k1")
        assert (visit.user, visit.forgotten, bench.refusals()) == (None, (), ["limit"])
        bench.visit(bench.ours(other), lambda session: session.logout())
        assert bench.visit("old=k1").user == "ada"

    @requirement("R33", "R35")
    def test_our_own_limits_count_from_the_adoption(self, shop: Bench) -> None:
        """Idle and absolute, as of a session that began then."""
        policy = shop.rig.policy
        token = shop.visit("old=k1").token
        shop.advance(policy.idle + policy.tolerance - 1)
        assert shop.visit(shop.ours(token)).user == "ada"
        shop.advance(policy.idle + policy.tolerance)
        assert shop.visit(shop.ours(token)).user is None
        assert shop.visit("old=k1").user is None


class TestOutages:
    """A store that fails is told from one that has nothing."""

    @requirement("R45")
    def test_an_old_session_that_cannot_be_ended_fails_the_request_and_is_ended_by_the_next(
        self, shop: Bench, own: OwnBridge
    ) -> None:
        """No token is handed out before: two sessions would live of one."""
        own.failing = {"end"}
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                shop.visit("old=k1")
        own.failing = set()
        assert shop.visit("old=k1").user == "ada"
        assert own.rows.keys() == {"k2"}
        assert shop.live() == 1

    def test_an_old_session_that_cannot_be_ended_is_served_if_the_bridge_says_so(self) -> None:
        """And counted; the mark keeps it from being adopted twice."""
        own = OwnBridge({"k1": dict(ADA)}, on_outage="ignore")
        bench = Bench().stand(own)
        own.failing = {"end"}
        assert bench.visit("old=k1").user == "ada"
        assert (bench.report.adopted, dict(bench.report.refused)) == (1, {"outage": 1})

    @requirement("R45")
    def test_our_own_store_that_fails_fails_the_request(self, shop: Bench) -> None:
        """Whatever the bridge says of its own."""

        async def down(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("the store is down")

        shop.store.load = down
        with pytest.raises(StoreUnavailable):
            shop.visit("old=k1")
        assert "store-failed" in shop.codes()

    def test_a_sign_in_works_while_the_old_store_is_ignored(self) -> None:
        """Only an anonymous session would stand in the old one's way."""
        own = OwnBridge({"k1": dict(ADA)}, on_outage="ignore")
        bench = Bench().stand(own)
        own.failing = {"find", "end"}
        visit = bench.visit("old=k1", lambda session: session.login("grace"))
        assert bench.visit(bench.ours(visit.token)).user == "grace"


def test_nothing_that_is_told_holds_the_old_cookie(shop: Bench, own: OwnBridge) -> None:
    """Neither events nor what is printed of the values on the way, nor the ids in the store."""
    own.rows["secret-key-of-a-row"] = dict(ADA)
    shop.visit("old=secret-key-of-a-row")
    shop.visit("old=no-such-key")
    told = "".join(f"{event!r}{event.sentence()}" for event in shop.events)
    assert "secret-key" not in told
    assert "no-such-key" not in told
    printed = repr(own.recognise(facts(cookie="old=secret-key-of-a-row"), 0.0))
    assert printed == "<OldSession>"
    assert len(mark_id(b"own", b"secret-key-of-a-row")) == 40


def test_sessions_that_live_in_cookies_take_no_bridges() -> None:
    """Nothing there would remember which old ones were adopted."""
    from sessile.core.ports import InCookies

    class InCookie:
        revocations = None
        limit = 1
        compress = True

    assert isinstance(InCookie(), InCookies)
    engine = Bench().rig.engine
    engine.store = InCookie()  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="need a store"):
        engine.take_over((OwnBridge({}),))


def test_a_view_may_use_an_adopted_session_like_any_other(shop: Bench) -> None:
    """It writes, and what it wrote is there."""

    def act(session: Session) -> None:
        session["cart"].append("honey")
        session["seen"] = True

    token = shop.visit("old=k1", act).token
    assert shop.visit(shop.ours(token)).data == {"user_id": "ada", "cart": ["tea", "honey"], "seen": True}


def test_an_engine_without_bridges_loads_nothing_of_them() -> None:
    """Who has no old sessions pays nothing."""
    assert isinstance(Bench().rig.engine, Engine)
    assert Bench().rig.engine.adoption is None
    assert Sessions("memory://", keys=RING, sinks=()).bridges() == ()
