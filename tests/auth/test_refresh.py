"""Refresh tokens: families that rotate, settle and end like sessions, with their parent, and a thief in both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sessile.auth.tokens.apidoor import attach
from sessile.auth.tokens.refresh import RefreshTokens, Refused, TokenPair
from sessile.core.ids import TokenMint, session_id
from sessile.core.policy import Policy
from sessile.core.record import EndReason, Record, Tombstone
from sessile.errors import (
    ConfigurationError,
    NotByToken,
    SessionGone,
    StepUpRequired,
    StoreUnavailable,
    TooManySessions,
)
from sessile.stores.memory import MemoryStore
from sessile.testing.clock import FrozenClock, freeze
from tests.auth.refresh_bench import APP, SETTLED, Client, RefreshBench
from tests.auth.token_bench import ISSUER, RING, asked, done
from tests.core.rig import CHROME, FIREFOX, facts, token_of
from tests.invariants.harness import switch
from tests.support.backends import backend
from tests.support.requirements import requirement

DOORS = [(kind, blocking) for kind in ("memory", "sqlite") for blocking in (True, False)]
SERVERS = [pytest.param((kind, False), marks=pytest.mark.slow) for kind in ("redis", "postgresql", "memcached")]


@pytest.fixture(params=[*DOORS, *SERVERS], ids=lambda one: f"{one[0]}-{'blocking' if one[1] else 'async'}")
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RefreshBench]:
    """Return a bench on each store, behind each door."""
    kind, blocking = request.param
    vault = f"sqlite:///{tmp_path}/vault.db" if kind == "sqlite" else "memory://"
    with backend(kind, tmp_path, blocking=blocking) as opened:
        made = RefreshBench(opened.store, vault, blocking=blocking)
        yield made
        await made.close()


def small(**policy: Any) -> RefreshBench:
    """Return a bench in memory, behind the blocking door."""
    return RefreshBench(sessions={"policy": Policy(**policy)})


# -- one use after the other -------------------------------------------------------------------------------------------


@requirement("R84")
async def test_a_family_rotates_and_its_access_tokens_name_it(bench: RefreshBench) -> None:
    """Once each rotation has settled; an answer without a refresh token says to keep the one there is."""
    session = await bench.sign_in()
    first = await bench.begin(session, scope="read write")
    assert (first.expires_in, first.scope, first.token_type) == (300, "read write", "Bearer")
    family = await bench.sid_of(first.access)
    assert family != session.id
    seen, text = {first.refresh}, first.refresh
    for _ in range(4):
        text = await bench.rotated(str(text))
        assert text not in seen
        seen.add(text)
    again = await bench.refresh(text)
    assert isinstance(again, TokenPair)
    assert again.refresh is None
    assert await bench.sid_of(again.access) == family
    assert await bench.is_active(again.access)


@requirement("R65")
async def test_a_family_is_listed_with_the_devices_of_its_user(bench: RefreshBench) -> None:
    """Beside the session, whichever limits it has; an end from there reaches it."""
    session = await bench.sign_in()
    await bench.begin(session)
    alone = await bench.begin_alone()
    family = await bench.sid_of(alone.access)
    assert len(await done(bench.sessions.of_user("ada"))) == 3
    bench.clock.advance(2 * Policy().idle)
    [listed] = await done(bench.sessions.of_user("ada"))
    assert listed.id == family
    assert listed.expires_at > bench.clock() + 29 * 86_400
    assert await done(bench.sessions.end(listed.id, user="ada")) == 1
    assert await bench.refresh(alone.refresh) is Refused.GRANT


@requirement("R84")
async def test_a_family_has_limits_of_its_own() -> None:
    """Thirty days without a use, ninety in all, whatever sessions have."""
    bench = small()
    day, text = 86_400.0, (await bench.begin_alone()).refresh
    bench.clock.advance(29 * day)
    assert isinstance(await bench.refresh(text), TokenPair)
    bench.clock.advance(30 * day + 100)
    assert await bench.refresh(text) is Refused.GRANT
    client = Client(bench, str((await bench.begin_alone()).refresh))
    for _ in range(8):
        bench.clock.advance(11 * day)
        assert isinstance(await client.use(), TokenPair)
    bench.clock.advance(2 * day)
    assert await client.use() is Refused.GRANT


async def test_wrong_limits_and_settings_are_told_at_start() -> None:
    """Before anybody is served."""
    bench = small()
    with pytest.raises(ConfigurationError, match="already"):
        RefreshTokens(bench.tokens)
    with pytest.raises(ConfigurationError, match="one refresh token"):
        RefreshBench(limits={"per_session": 0})
    session = await bench.sign_in()
    for wrong in ({"audience": ""}, {"client": ""}, {"scope": 'a "b'}):
        with pytest.raises(ConfigurationError):
            await bench.begin(session, **wrong)
    with pytest.raises(ConfigurationError, match="proved"):
        bench.refreshing.sign_in("ada", facts=asked(), **APP)
    with pytest.raises(ConfigurationError, match="facts"):
        bench.refreshing.issue(session, **APP)


# -- the envelope ------------------------------------------------------------------------------------------------------


@requirement("R6", "R84")
async def test_a_token_in_the_wrong_envelope_dies_at_its_tag(bench: RefreshBench) -> None:
    """A refresh token in a cookie, a session cookie at the token endpoint, and what was never a token."""
    session = await bench.sign_in()
    cookie, text = bench.cookie, str((await bench.begin(session)).refresh)
    bench.codes()
    assert (await bench.open(text)).base is None
    assert bench.codes() == ["token-refused"]
    for wrong in (cookie, "", "x", text[:-1], text + "A", text.swapcase(), f"{text}; a=b", None, 7, "é" * 63):
        assert await bench.refresh(wrong) is Refused.GRANT
        assert not await bench.revoke(wrong)
        assert bench.codes() == ["token-refused"]
    assert await bench.is_alive(session.id)
    assert isinstance(await bench.refresh(text), TokenPair)
    assert (TokenMint(RING).verify(text), TokenMint(RING, b"refresh token").verify(str(cookie))) == (None, None)


@requirement("R20")
async def test_no_refresh_token_travels_in_the_clear() -> None:
    """Plain http elsewhere than on loopback opens nothing, and ends nothing."""
    bench = small()
    text = (await bench.begin_alone()).refresh
    assert await bench.refresh(text, facts=facts(method="POST", scheme="http")) is Refused.GRANT
    with pytest.raises(SessionGone):
        await bench.begin_alone(facts=facts(method="POST", scheme="http"))
    assert isinstance(await bench.refresh(text), TokenPair)


# -- the parent --------------------------------------------------------------------------------------------------------


async def sign_out(bench: RefreshBench, _session: Any) -> None:
    """Sign the browser out."""
    session = await bench.open(bench.cookie)
    session.logout()
    await done(bench.sessions.commit(session))


async def step_up(bench: RefreshBench) -> None:
    """Give the browser's session another id."""
    session = await bench.open(bench.cookie)
    session.add_factor("totp")
    bench.cookie = token_of(await done(bench.sessions.commit(session)))


ENDS: dict[str, Any] = {
    "sign-out": sign_out,
    "by an operator": lambda bench, session: done(bench.sessions.end(session.id)),
    "everywhere": lambda bench, _: done(bench.sessions.end_all("ada")),
    "everything": lambda bench, _: done(bench.sessions.end_everything()),
    "idle": lambda bench, _: done(bench.clock.advance(Policy().idle + Policy().tolerance)),
    "step-up": lambda bench, _: step_up(bench),
}


@requirement("R62", "R61", "R83")
@pytest.mark.parametrize("end", list(ENDS))
async def test_a_family_ends_with_its_parent(bench: RefreshBench, end: str) -> None:
    """At once, whoever asks first: the token endpoint, introspection, or a list of devices."""
    session = await bench.sign_in()
    first, second = await bench.begin(session), await bench.begin(session)
    families = [await bench.sid_of(one.access) for one in (first, second)]
    await ENDS[end](bench, session)
    assert not await bench.is_active(first.access)
    assert await bench.admit(second.access) is None
    assert not await bench.is_alive(families[0])
    listed = [one.id for one in await done(bench.sessions.of_user("ada"))]
    assert not set(listed) & set(families)
    assert await bench.refresh(first.refresh) is Refused.GRANT
    assert not isinstance(await bench.sessions.engine.store.load(families[0]), Record)
    assert await bench.refresh(first.refresh) is Refused.GRANT
    assert await bench.refresh(second.refresh) is Refused.GRANT


@requirement("R89")
async def test_a_family_is_never_proved_better_than_its_parent() -> None:
    """It takes over what was proved, gains nothing by a later step-up, and loses what the parent has lost."""
    bench = small()
    session = await bench.sign_in()
    weak = await bench.begin(session)
    assert (await bench.verify(weak.access)).acr == "aal1"
    await step_up(bench)
    assert await bench.refresh(weak.refresh) is Refused.GRANT
    session = await bench.open(bench.cookie)
    strong = await bench.begin(session)
    assert (await bench.verify(strong.access)).acr == "aal2"
    store, sid = bench.sessions.engine.store, session.id
    record = await store.load(sid)
    store._held[sid] = replace(record, control=replace(record.control, factors=record.control.factors[:1]))
    pair = await bench.later(strong.refresh)
    assert (await bench.verify(pair.access)).acr == "aal1"
    admitted = await bench.admit(pair.access)
    assert [one.name for one in admitted.record.control.factors] == ["password"]


@requirement("R53", "R88")
async def test_a_parent_that_must_prove_more_stops_its_families_and_ends_none() -> None:
    """What a challenge is for; when it is answered, by a step-up, the family is gone with the old id."""
    bench = small()
    session = bench.sessions.open(facts(user_agent=FIREFOX))
    session.login("ada")
    cookie = token_of(bench.sessions.commit(session))
    pair = await bench.begin(session)
    challenged = facts(cookie, user_agent=CHROME, peer="203.0.113.200")
    met = bench.sessions.open(challenged)
    bench.sessions.commit(met)
    assert met.pending_user_id == "ada"
    assert await bench.refresh(pair.refresh) is Refused.GRANT
    assert not await bench.is_active(pair.access)
    assert "session-ended" not in bench.codes()


@requirement("R88", "R90")
async def test_only_who_is_signed_in_gets_a_refresh_token(bench: RefreshBench) -> None:
    """Nobody, a pending session, one whose sign-in is not stored, one that has ended: none of them (invariant 5)."""
    for session in (await bench.open(), await bench.sign_in(pending=True)):
        with pytest.raises(StepUpRequired):
            await bench.begin(session)
    session = await bench.sign_in()
    await done(bench.sessions.end(session.id))
    with pytest.raises(SessionGone):
        await bench.begin(session)
    assert await done(bench.sessions.of_user("ada")) == [] or all(
        one.kind == "pending" for one in await done(bench.sessions.of_user("ada"))
    )


@requirement("R30", "R84")
@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_session_token_that_was_left_behind_becomes_no_refresh_token(is_committed: bool) -> None:
    """It is served for a moment, as any request under way; what it got would be a thief's for months."""
    bench = small()
    await bench.sign_in()
    old = bench.cookie
    bench.clock.advance(Policy().rotation)
    newer = token_of(bench.sessions.commit(bench.sessions.open(facts(old))))
    assert newer
    bench.sessions.commit(bench.sessions.open(facts(newer)))
    bench.clock.advance(1)
    late = bench.sessions.open(facts(old))
    assert late.user_id == "ada"
    if is_committed:
        bench.sessions.commit(late)
    with pytest.raises(SessionGone, match="left behind"):
        await bench.begin(late)
    assert len(bench.sessions.of_user("ada")) == 1
    assert isinstance(await bench.begin(bench.sessions.open(facts(newer))), TokenPair)


async def test_families_go_by_the_clock_that_tests_freeze() -> None:
    """The sessions' clock is one, also when it is replaced."""
    bench = small()
    text = (await bench.begin_alone()).refresh
    with freeze(bench.sessions, FrozenClock(bench.clock() + 31 * 86_400)):
        assert await bench.refresh(text) is Refused.GRANT


# -- binding -----------------------------------------------------------------------------------------------------------


@requirement("R60", "R84")
async def test_a_bound_token_without_its_key_is_refused_and_ends_nothing(bench: RefreshBench) -> None:
    """A thief without the key gets nothing, not even the owner's session ended: not with an old token either."""
    session = await bench.sign_in()
    first = await bench.begin(session, jkt="key-of-ada")
    assert first.token_type == "DPoP"
    bench.clock.advance(SETTLED)
    second = await bench.refresh(first.refresh, jkt="key-of-ada")
    assert isinstance(second, TokenPair)
    assert second.refresh is not None
    for _ in range(2):
        bench.clock.advance(SETTLED)
        assert isinstance(await bench.refresh(second.refresh, jkt="key-of-ada"), TokenPair)
    for text in (first.refresh, second.refresh):
        for key in (None, "key-of-eve", ""):
            assert await bench.refresh(text, jkt=key) is Refused.GRANT
    assert {one.why for one in bench.told("refresh-refused")} == {"key"}
    assert isinstance(await bench.refresh(second.refresh, jkt="key-of-ada"), TokenPair)
    unbound = await bench.begin(session)
    assert await bench.refresh(unbound.refresh, jkt="key-of-eve") is Refused.GRANT


@requirement("R84")
async def test_a_token_is_its_clients_alone_and_only_ever_grants_less(bench: RefreshBench) -> None:
    """Another client is refused; a scope may be narrowed for one answer, and not be widened."""
    pair = await bench.begin(await bench.sign_in(), scope="read write")
    assert await bench.refresh(pair.refresh, client="other") is Refused.GRANT
    narrow = await bench.refresh(pair.refresh, scope="read")
    assert isinstance(narrow, TokenPair)
    assert (narrow.scope, (await bench.verify(narrow.access)).scopes) == ("read", {"read"})
    for wide in ("read admin", "admin", 'read "', " read", "x" * 5000):
        assert await bench.refresh(pair.refresh, scope=wide) is Refused.SCOPE
    whole = await bench.refresh(pair.refresh)
    assert isinstance(whole, TokenPair)
    assert whole.scope == "read write"


@requirement("R86")
async def test_revoking_ends_the_family_and_not_the_parent(bench: RefreshBench) -> None:
    """By any token of it, once, and only by its own client."""
    session = await bench.sign_in()
    pair = await bench.begin(session)
    newer = await bench.rotated(str(pair.refresh))
    assert not await bench.revoke(newer, "other")
    assert await bench.revoke(pair.refresh)
    assert not await bench.revoke(newer)
    assert await bench.refresh(newer) is Refused.GRANT
    assert not await bench.is_active(pair.access)
    assert await bench.is_alive(session.id)


@requirement("R81")
async def test_an_access_token_does_not_become_a_refresh_token() -> None:
    """What lives for minutes must not be made into what lives for months."""
    bench = small()
    attach(bench.tokens, audience="https://api.example")
    pair = await bench.begin(await bench.sign_in())
    session = bench.sessions.open(asked(authorization=f"Bearer {pair.access}"))
    with pytest.raises(NotByToken):
        await bench.begin(session)
    with pytest.raises(NotByToken):
        await bench.issue(session)


# -- replays and races -------------------------------------------------------------------------------------------------


@requirement("R84", "R30")
async def test_a_replay_ends_family_and_parent(bench: RefreshBench) -> None:
    """In the store, for both doors, and the sinks are told what happened."""
    session = await bench.sign_in()
    other = await bench.sign_in()
    pair = await bench.begin(session)
    newer = await bench.rotated(str(pair.refresh))
    assert isinstance(await bench.later(newer), TokenPair)
    bench.clock.advance(SETTLED)
    bench.codes()
    assert await bench.refresh(pair.refresh) is Refused.GRANT
    assert bench.codes() == ["replay-detected", "session-ended", "session-ended"]
    assert await bench.refresh(newer) is Refused.GRANT
    assert not await bench.is_alive(session.id)
    assert await bench.is_alive(other.id)


@requirement("R84")
async def test_after_a_replay_the_policy_may_end_everything_of_the_user() -> None:
    """As it does for sessions."""
    bench = small(on_replay="end-all")
    other = await bench.sign_in()
    pair = await bench.begin_alone()
    newer = await bench.rotated(str(pair.refresh))
    await bench.later(newer)
    bench.clock.advance(SETTLED)
    assert await bench.refresh(pair.refresh) is Refused.GRANT
    assert not await bench.is_alive(other.id)


@requirement("R85")
async def test_fifty_parallel_uses_leave_one_living_family_and_no_alarm(bench: RefreshBench) -> None:
    """From threads or tasks; every answer opens the API, and any of the successors goes on."""
    session = await bench.sign_in()
    pair = await bench.begin(session)
    bench.clock.advance(SETTLED)
    answers: list[Any]
    if bench.blocking:
        start = threading.Barrier(8)

        def use(_: int) -> Any:
            with suppress(threading.BrokenBarrierError):
                start.wait(0.2)  # the last two of fifty are alone
            return bench.refreshing.refresh(pair.refresh, facts=asked("POST"), client="app")

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(use, range(50)))
    else:
        answers = await asyncio.gather(*(bench.refresh(pair.refresh) for _ in range(50)))
    assert all(isinstance(one, TokenPair) for one in answers)
    assert len({await bench.sid_of(one.access) for one in answers}) == 1
    successors = {one.refresh for one in answers if one.refresh is not None}
    assert len(successors) == len([one for one in answers if one.refresh is not None]) >= 1
    kept = sorted(successors)[0]
    assert isinstance(await bench.later(kept), TokenPair)
    newest = await bench.rotated(kept)
    assert isinstance(await bench.later(newest), TokenPair)
    assert not {"replay-detected", "session-ended"} & set(bench.codes())
    assert await bench.is_alive(session.id)


async def test_what_a_use_costs_is_what_the_page_says() -> None:
    """Round trips to the session store: one look at the family, one at its parent, one write if it rotates."""
    store = switch(MemoryStore())
    bench = RefreshBench(store)
    for is_child, looks in ((True, ["load", "load"]), (False, ["load"])):
        pair = await bench.begin(await bench.sign_in()) if is_child else await bench.begin_alone()
        store.calls.clear()
        await bench.refresh(pair.refresh)
        assert store.calls == looks
        bench.clock.advance(SETTLED)
        store.calls.clear()
        await bench.refresh(pair.refresh)
        assert [verb for verb in store.calls if verb != "sweep"] == [*looks, "save"]
        store.calls.clear()
        await bench.admit(pair.access)
        assert store.calls == looks


async def test_a_store_that_fails_refuses_nobody() -> None:
    """The client keeps its token and asks again; the sinks are told once."""
    bench = small()
    pair = await bench.begin(await bench.sign_in())
    bench.clock.advance(SETTLED)
    store = bench.sessions.engine.store
    for verb in ("load", "save"):
        whole = getattr(store, verb)

        async def fail(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("down")

        setattr(store, verb, fail)
        bench.codes()
        with pytest.raises(StoreUnavailable):
            await bench.refresh(pair.refresh)
        assert bench.codes() == ["store-failed"]
        setattr(store, verb, whole)
    assert isinstance(await bench.refresh(pair.refresh), TokenPair)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.booleans()),
        st.tuples(st.just("storm"), st.permutations(range(3)), st.integers(0, 7)),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 10.0, 31.0, 65.0, 3600.0, 40_000.0])),
    ),
    min_size=1,
    max_size=40,
)


@requirement("R85")
@settings(max_examples=150, deadline=None)
@given(STEPS)
async def test_an_honest_client_is_never_taken_for_a_thief(steps: list[Any]) -> None:
    """Whatever answers are lost, doubled or overtaken: it goes on, and the family is one."""
    bench = RefreshBench(limits={"idle": 80 * 86_400.0})
    first = await bench.begin_alone()
    client = Client(bench, str(first.refresh))
    for step in steps:
        match step:
            case ("use", is_lost):
                assert isinstance(await client.use(is_lost=is_lost), TokenPair)
            case ("storm", order, lost):
                answers = [await bench.refresh(client.kept) for _ in order]
                assert all(isinstance(one, TokenPair) for one in answers)
                for at in order:
                    if not lost >> at & 1:
                        client.take(answers[at])
                bench.clock.advance(Policy().grace + 1)  # an honest jar comes to rest
            case ("wait", seconds):
                bench.clock.advance(seconds)
    assert isinstance(await client.use(), TokenPair)
    assert not {"replay-detected", "session-ended"} & set(bench.codes())
    assert len(bench.sessions.of_user("ada")) == 1


@requirement("R84", "R30")
@settings(max_examples=100, deadline=None)
@given(STEPS, st.lists(st.sampled_from(["owner", "thief"]), max_size=8), st.booleans())
async def test_a_thiefs_branch_is_found_when_both_use_it(before: list[Any], order: list[str], lost: bool) -> None:
    """Whoever comes first, whatever was lost before: family and parent are dead soon after both have come again."""
    bench = RefreshBench(sessions={"policy": Policy(idle=86_400.0 * 29, absolute=86_400.0 * 30)})
    session = await bench.sign_in()
    owner = Client(bench, str((await bench.begin(session)).refresh))
    for step in before[:8]:
        if step[0] == "use":
            await owner.use(is_lost=step[1])
        bench.clock.advance(SETTLED)
    thief = Client(bench, owner.kept)
    if lost:
        await owner.use(is_lost=True)
    used = {"owner": owner, "thief": thief}
    for name in (*order, *["owner", "thief"] * 4):
        bench.clock.advance(SETTLED)
        await used[name].use()
    assert await owner.use() is Refused.GRANT
    assert await thief.use() is Refused.GRANT
    assert "replay-detected" in bench.codes()
    assert not await bench.is_alive(session.id)


# -- the limit ---------------------------------------------------------------------------------------------------------


@requirement("R84")
async def test_a_session_has_so_many_families_and_the_oldest_ends(bench: RefreshBench) -> None:
    """Its own alone: neither another session's nor a native client's; the event tells whose ended."""
    bench.refreshing.flow.per_session = 2
    session, other = await bench.sign_in(), await bench.sign_in()
    beside, alone = await bench.begin(other), await bench.begin_alone()
    pairs = []
    for client in ("first", "second", "third"):
        bench.clock.advance(1)
        pairs.append((client, await bench.begin(session, client=client)))
    answers = [await bench.refresh(pair.refresh, client=client) for client, pair in pairs]
    assert [answer is Refused.GRANT for answer in answers] == [True, False, False]
    assert not await bench.is_active(pairs[0][1].access)
    [told] = bench.told("token-family-displaced")
    assert (told.client, told.parent, told.allowed) == ("first", session.id, 2)
    [ended] = [event for event in bench.told("session-ended") if event.session == told.session]
    assert ended.reason == EndReason.LIMIT
    assert isinstance(await bench.refresh(beside.refresh), TokenPair)
    assert isinstance(await bench.refresh(alone.refresh), TokenPair)
    assert await bench.is_alive(session.id)


@requirement("R84")
async def test_families_that_begin_at_once_leave_as_many_as_are_allowed(bench: RefreshBench) -> None:
    """Neither more nor fewer, whoever looks first: racing clients do not end each other."""
    bench.refreshing.flow.per_session = 3
    session = await bench.sign_in()
    if bench.blocking:
        start = threading.Barrier(8)

        def begin(_: int) -> TokenPair:
            start.wait(60)
            return bench.refreshing.issue(session, **APP, facts=asked("POST"))  # type: ignore[no-any-return]

        with ThreadPoolExecutor(8) as pool:
            pairs = list(pool.map(begin, range(8)))
    else:
        pairs = list(await asyncio.gather(*(bench.begin(session) for _ in range(8))))
    living = [pair for pair in pairs if await bench.is_active(pair.access)]
    assert len(living) == 3
    assert len(bench.told("token-family-displaced")) == 5
    assert await bench.is_alive(session.id)


@requirement("R66")
@pytest.mark.parametrize("on_limit", ["refuse", "end-oldest"])
async def test_families_of_a_session_take_no_place_beside_it(on_limit: str) -> None:
    """Its user may step up and sign in as before; a client that signed in by itself counts."""
    bench = small(max_sessions=2, on_limit=on_limit)
    session = await bench.sign_in()
    pairs = [await bench.begin(session) for _ in range(3)]
    second = await bench.sign_in()
    assert all([isinstance(await bench.refresh(one.refresh), TokenPair) for one in pairs])
    assert await bench.is_alive(session.id)
    assert await bench.is_alive(second.id)
    if on_limit == "refuse":
        with pytest.raises(TooManySessions):
            await bench.begin_alone()
        with pytest.raises(TooManySessions):
            await bench.sign_in()
        await step_up(bench)
        assert await bench.is_alive(session.id)
    else:
        alone = await bench.begin_alone()
        assert not await bench.is_alive(session.id)
        assert all([await bench.refresh(one.refresh) is Refused.GRANT for one in pairs])
        assert isinstance(await bench.refresh(alone.refresh), TokenPair)


# -- what is left ------------------------------------------------------------------------------------------------------


async def test_a_damaged_family_opens_nothing() -> None:
    """What it remembered is gone, so nobody knows what it hangs on."""
    bench = small()
    pair = await bench.begin(await bench.sign_in())
    sid = await bench.sid_of(pair.access)
    store = bench.sessions.engine.store
    record = await store.load(sid)
    for data in ({}, {"_sessile_family": b"\xc1"}, {"_sessile_family": b"\x96\x02\xc0\xa1a\xa1b\xa1c\xc0"}):
        store._held[sid] = replace(record, data=data)
        assert await bench.refresh(pair.refresh) is Refused.GRANT
        assert not await bench.is_active(pair.access)
    store._held[sid] = record
    assert isinstance(await bench.refresh(pair.refresh), TokenPair)


async def test_an_application_cannot_make_a_session_into_a_family() -> None:
    """What marks one is in Sessile's half; data of that name is data."""
    bench = small()
    session = await bench.open()
    session.login("ada")
    session["_sessile_family"] = [1, None, "a", "b", "", None]
    await done(bench.sessions.commit(session))
    bench.clock.advance(Policy().idle + Policy().tolerance)
    assert not await bench.is_alive(session.id)
    assert bench.sessions.of_user("ada") == []


async def test_ends_say_why_and_a_tombstone_stays() -> None:
    """For the security log."""
    bench = small()
    session = await bench.sign_in()
    pair = await bench.begin(session)
    bench.sessions.end(session.id, reason=EndReason.ADMIN)
    assert await bench.refresh(pair.refresh) is Refused.GRANT
    mint = TokenMint(RING, b"refresh token")
    read = mint.verify(str(pair.refresh))
    assert read is not None
    tombstone = await bench.sessions.engine.store.load(session_id(read.seed))
    assert isinstance(tombstone, Tombstone)
    assert tombstone.reason == EndReason.ADMIN
    assert [one.why for one in bench.told("refresh-refused")] == ["parent"]
    assert ISSUER not in repr(pair)
    assert str(pair.refresh) not in repr(pair)
    assert str(pair.refresh) not in repr(bench.events)
