"""A move as a model: any number of processes, any order of their steps, each of which may be the last that one does.

Every verb of a store is one step. Hypothesis says whose step is next, who dies, how much time passes. What was promised
is written down when an answer comes, and held against all that anybody is shown later:

- a session that nobody has begun to end is alive, for everyone, at every moment, with all that was saved and touched
- a session whose end was answered, or that was seen dead, is dead, for everyone, for ever
- a user's list names all of the former, none of the latter, nothing else, and nothing twice
- a limit counts each session once
- when the mover is done, the new store alone holds all of that, and the old one nothing that is alive

HYPOTHESIS_PROFILE=thorough python -m pytest --timeout=0 tests/stores/test_moving_model.py
"""

from __future__ import annotations

import os
import random
import types
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sessile.core.bridge import drive
from sessile.core.ports import AtLimit, Created, Gone, Page, Replaces, Stale, Taken
from sessile.core.record import SCHEMA, Change, Control, EndReason, Record, Tombstone
from sessile.errors import StoreUnavailable
from sessile.stores.memory import MemoryStore
from sessile.stores.moving import Moving
from sessile.stores.moving.parking import is_parked
from tests.support.requirements import requirement

START = 1_000_000.0
IDLE = 5_000.0
KEPT = 60.0
USERS = ("ann", "bob", None)
AT_ONCE = 4


@types.coroutine
def step() -> Generator[None]:
    """Let others act, or die here."""
    yield


class Stepped:
    """Be one process's way to a store: each verb waits for its turn, and is then done at once."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def _do(self, verb: str, *args: Any, **options: Any) -> Any:
        await step()
        return await getattr(self._store, verb)(*args, **options)

    async def load(self, *args: Any) -> Any:
        return await self._do("load", *args)

    async def create(self, *args: Any, **options: Any) -> Any:
        return await self._do("create", *args, **options)

    async def save(self, *args: Any) -> Any:
        return await self._do("save", *args)

    async def touch(self, *args: Any) -> None:
        await self._do("touch", *args)

    async def end(self, *args: Any) -> Any:
        return await self._do("end", *args)

    async def retire(self, *args: Any, **options: Any) -> Any:
        return await self._do("retire", *args, **options)

    async def of_user(self, *args: Any) -> Any:
        return await self._do("of_user", *args)

    async def end_user(self, *args: Any) -> Any:
        return await self._do("end_user", *args)

    async def end_everything(self, *args: Any) -> Any:
        return await self._do("end_everything", *args)

    async def sweep(self, *args: Any) -> Any:
        return await self._do("sweep", *args)

    async def stats(self, *args: Any) -> Any:
        return await self._do("stats", *args)

    async def scan(self, *args: Any) -> Page:
        return await self._do("scan", *args)  # type: ignore[no-any-return]

    async def close(self) -> None:
        await self._do("close")


@dataclass
class Promise:
    """Hold what was promised of one session. `ends`: how many ends of it were begun and may take effect."""

    user: str | None
    keys: set[str] = field(default_factory=set)
    seen_at: float = START
    generation: int = 0
    ends: int = 0
    dead: bool = False

    @property
    def is_certain(self) -> bool:
        """Tell whether it must be alive."""
        return not self.ends and not self.dead

    def copy(self) -> Promise:
        """Return what holds now."""
        return Promise(self.user, set(self.keys), self.seen_at, self.generation, self.ends, self.dead)


@dataclass
class EndOfMany:
    """Hold one end of a user's sessions (of everyone's: `everything`), and whether it is under way."""

    user: str | None
    everything: bool
    finished_at: int | None = None

    def meets(self, user: str | None) -> bool:
        """Tell whether it is about a user's sessions."""
        return self.everything or (user is not None and self.user == user)


class Moves(RuleBasedStateMachine):
    """Let processes act on two stores, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.old, self.new = MemoryStore(), MemoryStore()
        self.now = START
        self.turn = 0
        self.serial = 0
        self.known: dict[str, Promise] = {}
        self.attempted: dict[str, str | None] = {}
        self.refused: set[str] = set()
        self.acts: list[tuple[str, Coroutine[Any, Any, None]]] = []
        self.enders: list[EndOfMany] = []
        self.mixed = False

    # -- what the processes are

    def process(self, *, in_old: bool = False) -> Moving:
        """Return a process's own view of both stores."""
        self.mixed = self.mixed or in_old
        old: Any = Stepped(self.old)
        new: Any = Stepped(self.new)
        return Moving(old, new, create_in_old=in_old, clock=lambda: self.now, entropy=self.entropy)

    def process_at_once(self) -> Moving:
        """Return a process that nobody comes between."""
        return Moving(self.old, self.new, clock=lambda: self.now, entropy=self.entropy)

    def entropy(self, count: int) -> bytes:
        """Return bytes that nobody else gets."""
        self.serial += 1
        return self.serial.to_bytes(count, "big")

    def begin(self, name: str, act: Coroutine[Any, Any, None]) -> None:
        """Start an act; it waits in front of its first step."""
        self.acts.append((name, act))
        self.go(len(self.acts) - 1)

    def go(self, place: int) -> bool:
        """Let an act do one step; tell whether it goes on."""
        self.turn += 1
        name, act = self.acts.pop(place)
        try:
            act.send(None)
        except StopIteration:
            return False
        self.acts.insert(place, (name, act))
        return True

    def fresh(self, user: str | None) -> str:
        """Return an id that was never used."""
        self.serial += 1
        session_id = f"{self.serial:040x}"
        self.attempted[session_id] = user
        return session_id

    def pick(self, number: int) -> str:
        """Return one of the sessions that were promised to somebody, rather a late one."""
        return list(self.known)[-1 - number % len(self.known)]

    def tombstone(self, reason: EndReason, user: str | None = None) -> Tombstone:
        """Return what stays of a session."""
        return Tombstone(reason, self.now, self.now + KEPT, user)

    def record(self, user: str | None, data: dict[str, Any]) -> Record:
        """Return a session that begins."""
        control = Control(SCHEMA, self.now, self.now, self.now, user=user)
        return Record(control, data, self.now, self.now + IDLE)

    def promise(self, session_id: str, user: str | None, since: int, record: Record) -> None:
        """Write down that somebody has this session's token."""
        overtaken = any(
            one.meets(user) and (one.finished_at is None or one.finished_at >= since) for one in self.enders
        )
        expired = record.seen_at + IDLE <= self.now
        self.known[session_id] = Promise(user, set(record.data), record.seen_at, ends=int(overtaken or expired))

    def expire(self) -> None:
        """Promise nothing more of what nobody used for long."""
        for promise in self.known.values():
            if promise.seen_at + IDLE <= self.now:
                promise.ends += 1

    def check(self, session_id: str, before: Promise, found: object) -> None:
        """Hold what a load returned against what was promised when it began, and what is promised now."""
        promise = self.known[session_id]
        if not isinstance(found, Record):
            assert not promise.is_certain, "signed out of nowhere"
            promise.dead = True
            return
        assert not before.dead, "revived"
        assert found.control.user == promise.user
        assert before.keys <= set(found.data), "a write was lost"
        assert found.seen_at >= before.seen_at, "a touch was lost"
        assert found.expires_at >= before.seen_at + IDLE, "a touch was lost"
        assert found.control.generation >= before.generation, "a rotation was lost"

    # -- what they do

    async def create(self, user: str | None, limit: int | None, *, in_old: bool) -> None:
        """Begin a session."""
        since, session_id, record = self.turn, self.fresh(user), self.record(user, {"first": b"\x01"})
        before = {sid for sid, one in self.known.items() if one.user == user and one.is_certain}
        answer = await self.process(in_old=in_old).create(session_id, record, limit=limit)
        if isinstance(answer, AtLimit):
            self.check_limit(answer, user, limit)
            self.refused.add(session_id)
            return
        assert isinstance(answer, Created)
        if limit is not None and user is not None and not self.mixed:
            held = {sid for sid in before if self.known[sid].is_certain}
            assert len(held) < limit, "more than the limit"
        self.promise(session_id, user, since, record)

    def check_limit(self, answer: AtLimit, user: str | None, limit: int | None) -> None:
        """Hold a refusal against all that may be alive."""
        assert limit is not None
        named = [session_id for session_id, _ in answer.sessions]
        assert len(named) == len(set(named)) >= limit
        assert all(self.attempted.get(session_id, "nobody") == user for session_id in named), "no session of theirs"

    async def renew(self, session_id: str, *, required: bool, limit: int | None, in_old: bool) -> None:
        """Sign in, or step up: a new session in place of this one."""
        moving, promise = self.process(in_old=in_old), self.known[session_id]
        user = promise.user if required or promise.user is not None else "ann"
        for _ in range(20):
            before = promise.copy()
            found = await moving.load(session_id)
            self.check(session_id, before, found)
            if not isinstance(found, Record):
                return
            since, successor = self.turn, self.fresh(user)
            record = self.record(user, dict(found.data))
            ends = self.tombstone(EndReason.RENEWED, promise.user)
            replaces = Replaces(session_id, ends, required, found.revision, found.version)
            promise.ends += 1
            answer = await moving.create(successor, record, replaces=replaces, limit=limit)
            if isinstance(answer, Created):
                if promise.ends == 1 and not promise.dead:
                    assert promise.keys <= set(record.data), "a write was left behind"
                promise.dead = True
                self.promise(successor, user, since, record)
                return
            promise.ends -= 1
            self.refused.add(successor)
            if isinstance(answer, AtLimit):
                self.check_limit(answer, user, limit)
                return
            if isinstance(answer, Gone):
                assert not promise.is_certain, "gone out of nowhere"
                promise.dead = True
                return
            assert isinstance(answer, Stale), answer

    async def write(self, session_id: str, key: str, *, rotating: bool) -> None:
        """Save a key, or the control."""
        moving, promise = self.process(), self.known[session_id]
        found = await moving.load(session_id)
        for _ in range(20):
            if not isinstance(found, Record):
                return
            at = self.now
            generation = found.control.generation + 1
            change = Change(
                seen_at=at,
                expires_at=at + IDLE,
                control=msgspec.structs.replace(found.control, generation=generation) if rotating else None,
                revision=found.revision,
                put={} if rotating else {key: b"\x01"},
            )
            answer = await moving.save(session_id, change, found)
            if isinstance(answer, Record):
                promise.seen_at = max(promise.seen_at, at)
                if rotating:
                    promise.generation = max(promise.generation, generation)
                else:
                    promise.keys.add(key)
                return
            if isinstance(answer, Gone):
                assert not promise.is_certain, "gone out of nowhere"
                promise.dead = True
                return
            assert isinstance(answer, Stale), answer
            found = answer.record

    async def write_at_once(self, session_id: str) -> None:
        """Save a key, with nobody in between."""
        found = await self.process_at_once().load(session_id)
        assert isinstance(found, Record)
        change = Change(seen_at=self.now, expires_at=self.now + IDLE, put={"late": b"\x01"})
        assert isinstance(await self.process_at_once().save(session_id, change, found), Record)
        self.known[session_id].keys.add("late")

    async def touch(self, session_id: str) -> None:
        """Move the times."""
        at = self.now
        await self.process().touch(session_id, at, at + IDLE)
        self.known[session_id].seen_at = max(self.known[session_id].seen_at, at)

    async def look(self, session_id: str) -> None:
        """Use a session."""
        before = self.known[session_id].copy()
        self.check(session_id, before, await self.process().load(session_id))

    async def list_user(self, user: str) -> None:
        """List a user's sessions."""
        before = {sid: one.copy() for sid, one in self.known.items() if one.user == user}
        refused = set(self.refused)
        listed = await self.process().of_user(user)
        self.check_list(user, before, refused, listed)

    def check_list(
        self, user: str, before: dict[str, Promise], refused: set[str], listed: tuple[tuple[str, Record], ...]
    ) -> None:
        """Hold a list against the promises."""
        names = [session_id for session_id, _ in listed]
        assert len(names) == len(set(names)), "listed twice"
        assert all(self.attempted.get(session_id, "nobody") == user for session_id in names), "no session of theirs"
        assert not refused & set(names), "refused, and alive"
        for session_id, then in before.items():
            if then.dead:
                assert session_id not in names, "revived"
            elif self.known[session_id].is_certain:
                assert session_id in names, "missing from the list"

    async def end(self, session_id: str) -> None:
        """End a session."""
        promise = self.known[session_id]
        promise.ends += 1
        await self.process().end(session_id, self.tombstone(EndReason.ADMIN))
        promise.dead = True

    async def end_many(self, user: str | None, keep: str | None) -> None:
        """End a user's sessions but one, or everybody's."""
        ender = EndOfMany(user, everything=user is None)
        self.enders.append(ender)
        ending = [one for sid, one in self.known.items() if ender.meets(one.user) and sid != keep]
        for promise in ending:
            promise.ends += 1
        try:
            if user is None:
                await self.process().end_everything(self.now)
            else:
                kept = frozenset({keep} if keep is not None else ())
                await self.process().end_user(user, self.tombstone(EndReason.USER), kept)
            for promise in ending:
                promise.dead = True
        finally:
            ender.finished_at = self.turn

    async def move(self, session_id: str) -> None:
        """Move a session, as the mover does."""
        try:
            await self.process().move(session_id)
        except StoreUnavailable:
            return

    async def bring(self) -> None:
        """Finish what an earlier mover has begun, as the mover does first and last."""
        page = await self.process().new.scan(None, 1000)
        for _, record in page.sessions:
            if is_parked(record):
                await self.process().arrive(record)

    # -- who does what next

    @initialize(users=st.lists(st.sampled_from(USERS), min_size=1, max_size=3))
    def sessions_in_the_old_store(self, users: list[str | None]) -> None:
        """Begin with what was there before."""
        for user in users:
            session_id, record = self.fresh(user), self.record(user, {"first": b"\x01"})
            assert drive(self.old.create(session_id, record)) == Created()
            self.known[session_id] = Promise(user, {"first"})

    def _may_begin(self) -> bool:
        return len(self.acts) < AT_ONCE

    @precondition(_may_begin)
    @rule(user=st.sampled_from(USERS), limit=st.sampled_from((None, None, 2)), in_old=st.sampled_from((False, True)))
    def somebody_begins(self, user: str | None, limit: int | None, in_old: bool) -> None:
        self.begin("create", self.create(user, limit, in_old=in_old and limit is None))

    @precondition(_may_begin)
    @rule(number=st.integers(0, 3), required=st.booleans(), limit=st.sampled_from((None, 2)), in_old=st.booleans())
    def somebody_renews(self, number: int, required: bool, limit: int | None, in_old: bool) -> None:
        self.begin("renew", self.renew(self.pick(number), required=required, limit=limit, in_old=in_old))

    @precondition(_may_begin)
    @rule(number=st.integers(0, 3), key=st.sampled_from("abcdef"), rotating=st.booleans())
    def somebody_writes(self, number: int, key: str, rotating: bool) -> None:
        self.begin("write", self.write(self.pick(number), key, rotating=rotating))

    @precondition(_may_begin)
    @rule(number=st.integers(0, 3))
    def somebody_touches(self, number: int) -> None:
        self.begin("touch", self.touch(self.pick(number)))

    @precondition(_may_begin)
    @rule(number=st.integers(0, 3))
    def somebody_looks(self, number: int) -> None:
        self.begin("look", self.look(self.pick(number)))

    @precondition(_may_begin)
    @rule(user=st.sampled_from(("ann", "bob")))
    def somebody_lists(self, user: str) -> None:
        self.begin("list", self.list_user(user))

    @precondition(_may_begin)
    @rule(number=st.integers(0, 3))
    def somebody_ends_one(self, number: int) -> None:
        self.begin("end", self.end(self.pick(number)))

    @precondition(_may_begin)
    @rule(user=st.sampled_from(("ann", "bob", None)), keep=st.sampled_from((None, 0, 1)))
    def somebody_ends_many(self, user: str | None, keep: int | None) -> None:
        self.begin("end many", self.end_many(user, None if keep is None or user is None else self.pick(keep)))

    @precondition(_may_begin)
    @rule(number=st.integers(0, 3))
    def the_mover_moves(self, number: int) -> None:
        self.begin("move", self.move(self.pick(number)))

    @precondition(_may_begin)
    @rule(number=st.integers(0, 3))
    def another_mover_moves(self, number: int) -> None:
        self.begin("move", self.move(self.pick(number)))

    @precondition(_may_begin)
    @rule()
    def the_mover_finishes(self) -> None:
        self.begin("bring", self.bring())

    @precondition(lambda self: self.acts)
    @rule(place=st.integers(0, AT_ONCE - 1), steps=st.integers(1, 6))
    def somebody_goes_on(self, place: int, steps: int) -> None:
        place %= len(self.acts)
        for _ in range(steps):
            if not self.go(place):
                return

    @precondition(lambda self: self.acts)
    @rule(place=st.integers(0, AT_ONCE - 1))
    def somebody_finishes(self, place: int) -> None:
        place %= len(self.acts)
        while self.go(place):
            pass

    @precondition(lambda self: self.acts)
    @rule(place=st.integers(0, AT_ONCE - 1))
    def somebody_dies(self, place: int) -> None:
        _, act = self.acts.pop(place % len(self.acts))
        act.close()

    @rule(seconds=st.sampled_from((10.0, 400.0, 3_000.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.expire()

    @rule()
    def somebody_sweeps(self) -> None:
        drive(self.old.sweep(self.now, 1000))
        drive(self.new.sweep(self.now, 1000))

    # -- and in the end

    def teardown(self) -> None:
        """Let all finish, run the mover to its end, and look into the new store alone."""
        while self.acts:
            self.go(0)
        for _ in range(3):
            self._run_the_mover()
            self.now += 400.0  # a copy's place may have been marked as ended
            self.expire()
            drive(self.new.sweep(self.now, 1000))
        left = drive(self.old.scan(None, 1000)).sessions
        assert not [sid for sid, _ in left if self._is_promised(sid)], "left in the old store"
        for session_id, promise in self.known.items():
            self.check(session_id, promise.copy(), drive(self.new.load(session_id)))
        for session_id in self.refused:
            assert not isinstance(drive(self.new.load(session_id)), Record)
        for user in ("ann", "bob"):
            of_user = {sid: one.copy() for sid, one in self.known.items() if one.user == user}
            self.check_list(user, of_user, self.refused, drive(self.new.of_user(user)))

    def _is_promised(self, session_id: str) -> bool:
        return session_id in self.known and self.known[session_id].is_certain

    def _run_the_mover(self) -> None:
        moving = self.process_at_once()

        def finish() -> None:
            for _, record in drive(self.new.scan(None, 1000)).sessions:
                if is_parked(record):
                    drive(moving.arrive(record))

        finish()
        for session_id, _ in drive(self.old.scan(None, 1000)).sessions:
            try:
                drive(moving.move(session_id))
            except StoreUnavailable:
                continue
        finish()


Act = Callable[[Moves, random.Random], Coroutine[Any, Any, None]]
MOVERS: tuple[Act, ...] = (lambda one, dice: one.move(one.pick(dice.randrange(2))), lambda one, _: one.bring())
OTHERS: tuple[Act, ...] = (
    lambda one, dice: one.touch(one.pick(dice.randrange(2))),
    lambda one, dice: one.write(one.pick(dice.randrange(2)), dice.choice("abc"), rotating=False),
    lambda one, dice: one.write(one.pick(dice.randrange(2)), "", rotating=True),
    lambda one, dice: one.look(one.pick(dice.randrange(2))),
    lambda one, dice: one.end(one.pick(dice.randrange(2))),
    lambda one, dice: one.end_many("ann", one.pick(dice.randrange(2)) if dice.random() < 0.6 else None),
    lambda one, _: one.end_many(None, None),
    lambda one, _: one.list_user("ann"),
    lambda one, dice: one.create("ann", dice.choice((None, 2, 3)), in_old=False),
    lambda one, dice: one.renew(
        one.pick(dice.randrange(2)), required=dice.random() < 0.5, limit=dice.choice((None, 2)), in_old=False
    ),
    lambda one, dice: one.renew(one.pick(dice.randrange(2)), required=False, limit=None, in_old=True),
)


def meet(seed: int) -> None:
    """Let a few acts on one or two sessions meet, with few changes of turn: where most races are, they are short."""
    dice = random.Random(seed)
    one = Moves()
    one.sessions_in_the_old_store(["ann"] * dice.choice((1, 1, 2)))
    waiting = [
        dice.choice(MOVERS[:1]),
        *(dice.choice((*MOVERS, *OTHERS, *OTHERS)) for _ in range(dice.choice((1, 2, 3)))),
    ]
    if dice.random() < 0.3:
        waiting.append(MOVERS[0])
    if dice.random() < 0.8:
        dice.shuffle(waiting)
    while waiting or one.acts:
        if waiting and (not one.acts or dice.random() < 0.5):
            one.begin("act", waiting.pop()(one, dice))
        chosen = dice.randrange(len(one.acts)) if one.acts else None
        if chosen is not None:
            steps = dice.choice((1, 2, 3, 4, 5, 6, 8, 99))
            alive = all(one.go(chosen) for _ in range(steps))
            if alive and dice.random() < 0.12:
                one.somebody_dies(chosen)
        if dice.random() < 0.1:
            one.time_passes(dice.choice((10.0, 400.0)))
            one.somebody_sweeps()
        elif dice.random() < 0.05:
            one.now += 1.0
    one.teardown()


@requirement("R25", "R42", "R43", "R44", "R49", "R61", "R64", "R66")
def test_whatever_meets_a_move_keeps_every_promise() -> None:
    """Many short meetings, by number: `meet(number)` shows one again."""
    for seed in range(int(os.environ.get("MEETINGS", "6000"))):
        try:
            meet(seed)
        except AssertionError as error:
            raise AssertionError(f"meeting {seed}: {error}") from error


@requirement("R42", "R61")
@pytest.mark.parametrize("dies", [True, False])
def test_a_copy_made_long_after_the_move_never_arrives(*, dies: bool) -> None:
    """A mover hangs with a session in its hand; another moves it, it is ended, and everyone has forgotten that."""
    one = Moves()
    one.sessions_in_the_old_store(["ann"])
    session_id = one.pick(0)
    one.begin("hangs", one.move(session_id))
    one.go(0)  # it has read the session
    one.go(0)  # and found nothing in the new store that bars it
    drive(one.process_at_once().move(session_id))
    drive(one.process_at_once().end(session_id, one.tombstone(EndReason.ADMIN)))
    one.now += 400.0
    one.somebody_sweeps()
    assert drive(one.new.load(session_id)) is None
    one.go(0)  # it leaves its copy
    assert [is_parked(record) for _, record in drive(one.new.of_user("ann"))] == [True]
    if dies:
        one.somebody_dies(0)
    assert drive(one.process_at_once().load(session_id)) is None
    assert drive(one.process_at_once().of_user("ann")) == ()
    while one.acts:
        one.go(0)
    one._run_the_mover()
    assert drive(one.process_at_once().load(session_id)) is None
    assert drive(one.new.of_user("ann")) == ()


@requirement("R43")
def test_an_older_copy_never_takes_the_place_of_a_newer_one() -> None:
    """One mover hangs with what it has read; another has parked what was saved since, and goes on after it."""
    one = Moves()
    one.sessions_in_the_old_store(["ann"])
    session_id = one.pick(0)
    one.begin("leaves a copy and dies", one.move(session_id))
    for _ in range(3):
        one.go(0)
    one.somebody_dies(0)
    one.begin("hangs", one.move(session_id))
    one.go(0)  # it has read the session
    one.go(0)  # and found nothing in the new store that bars it
    drive(one.write_at_once(session_id))
    one.begin("moves", one.move(session_id))
    for _ in range(6):
        one.go(1)  # it has read the session, written over the copy, and looked once more
    for _ in range(3):
        one.go(0)  # create, load, and now it knows that its own is older
    while len(one.acts) > 1:
        one.go(1)
    one.teardown()


@requirement("R66")
@pytest.mark.parametrize("steps", range(9))
def test_a_limit_counts_a_session_once_wherever_a_mover_stopped(steps: int) -> None:
    one = Moves()
    one.sessions_in_the_old_store(["ann"])
    session_id = one.pick(0)
    one.begin("dies", one.move(session_id))
    for _ in range(steps):
        if one.acts:
            one.go(0)
    if one.acts:
        one.somebody_dies(0)
    second, third = one.fresh("ann"), one.fresh("ann")
    assert drive(one.process_at_once().create(second, one.record("ann", {}), limit=2)) == Created()
    answer = drive(one.process_at_once().create(third, one.record("ann", {}), limit=2))
    assert isinstance(answer, AtLimit)
    assert sorted(sid for sid, _ in answer.sessions) == sorted((session_id, second))


@requirement("R66")
@pytest.mark.parametrize("steps", range(4))
def test_two_sign_ins_at_once_keep_the_limit_beside_a_session_in_the_old_store(steps: int) -> None:
    one = Moves()
    one.sessions_in_the_old_store(["ann"])
    for _ in range(2):
        one.begin("creates", one.create("ann", 2, in_old=False))
        for _ in range(steps):
            one.go(len(one.acts) - 1)
    while one.acts:
        one.go(0)
    assert len(drive(one.process_at_once().of_user("ann"))) == 2


@requirement("R4")
@pytest.mark.parametrize("in_old", [True, False])
def test_an_id_that_the_other_store_holds_is_taken(*, in_old: bool) -> None:
    one = Moves()
    session_id = one.fresh("ann")
    elsewhere = one.new if in_old else one.old
    assert drive(elsewhere.create(session_id, one.record("ann", {}))) == Created()
    moving = Moving(one.old, one.new, create_in_old=in_old)
    assert drive(moving.create(session_id, one.record("ann", {}))) == Taken()
    drive(elsewhere.end(session_id, one.tombstone(EndReason.ADMIN)))
    assert drive(moving.create(session_id, one.record("ann", {}))) == Taken()


Moves.TestCase.settings = settings(
    max_examples=int(os.environ.get("MOVES", "5000" if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else "40")),
    stateful_step_count=60,
    deadline=None,
    derandomize=os.environ.get("HYPOTHESIS_PROFILE") != "thorough",
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    print_blob=False,
    report_multiple_bugs=False,
)


@requirement("R25", "R42", "R43", "R44", "R49", "R61", "R64", "R66")
class TestMoves(Moves.TestCase):  # type: ignore[misc,valid-type]
    """Whatever happens in whatever order, nobody is signed out, nothing is lost, nothing comes back."""
