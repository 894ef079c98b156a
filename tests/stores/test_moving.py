"""Two stores as one: the contract holds, and no crash at any step loses a session or brings one back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from sessile.core.bridge import drive
from sessile.core.keys import KeyRing, generate
from sessile.core.ports import AtLimit, Created, Gone, Replaces, Stale, Store
from sessile.core.record import Change, EndReason, Record, Tombstone
from sessile.core.sealing import SealedCodec
from sessile.errors import ConfigurationError
from sessile.stores import open_store
from sessile.stores.memory import MemoryStore
from sessile.stores.moving import Moving
from sessile.stores.moving.mover import Mover
from sessile.stores.moving.parking import is_parked, park, parked_id
from sessile.testing.store_contract import (
    StoreContract,
    assert_same,
    changing,
    new_id,
    new_record,
    new_tombstone,
    replacing,
    values,
)
from tests.support.requirements import requirement


class TestBlocking(StoreContract):
    blocking = True

    def open_store(self) -> Store:
        return Moving(MemoryStore(), MemoryStore())


class TestAsync(StoreContract):
    def open_store(self) -> Store:
        return Moving(MemoryStore(), MemoryStore())


class TestNewSessionsInTheOldStore(StoreContract):
    blocking = True

    def open_store(self) -> Store:
        return Moving(MemoryStore(), MemoryStore(), create_in_old=True)


class TestByUrl(StoreContract):
    blocking = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def open_store(self) -> Store:
        old, new = (quote(f"sqlite:///{self.folder}/{name}.db", safe="") for name in ("old", "new"))
        return open_store(f"moving://?from={old}&to={new}", blocking=True)


class Crash(BaseException):
    """Stand for the end of a process."""


def watched(store: MemoryStore, before: Callable[[str], None]) -> MemoryStore:
    """Return the store, which calls `before` in front of each verb."""
    kind = type("Watched", (MemoryStore,), {})
    made = kind()
    made.__dict__.update(store.__dict__)
    for verb in ("load", "create", "save", "touch", "end", "retire", "of_user", "end_user", "end_everything"):

        def call(*args: Any, verb: str = verb, **options: Any) -> Coroutine[Any, Any, Any]:
            async def work() -> Any:
                before(verb)
                return await getattr(MemoryStore, verb)(store, *args, **options)

            return work()

        setattr(made, verb, call)
    return made


class Scene:
    """Hold two stores, a session in the old one, and a second process that may act between any two steps of a move."""

    def __init__(self) -> None:
        self.old, self.new = MemoryStore(), MemoryStore()
        self.other = Moving(self.old, self.new)
        self.sid, self.record = new_id(), new_record("ann", cart=1)
        drive(self.other.old.create(self.sid, self.record))

    def move(self, at: int, act: Callable[[], None]) -> int:
        """Move the session and act in front of the step of that number; return how many steps there were."""
        steps = 0

        def before(_: str) -> None:
            nonlocal steps
            if steps == at:
                steps += 1
                act()
            else:
                steps += 1

        moving = Moving(watched(self.old, before), watched(self.new, before))
        drive(moving.move(self.sid))
        return steps

    def alive(self) -> Record | None:
        """Return the session as an application sees it."""
        found = drive(self.other.load(self.sid))
        return found if isinstance(found, Record) else None


def nothing() -> None:
    """Do nothing."""


def crash() -> None:
    """End the process."""
    raise Crash


STEPS = Scene().move(-1, nothing)


def test_a_session_moves_as_it_is_and_its_id_stays() -> None:
    scene = Scene()
    scene.move(-1, nothing)
    found = drive(scene.new.load(scene.sid))
    assert_same(found, scene.record)
    left = drive(scene.old.load(scene.sid))
    assert isinstance(left, Tombstone)
    assert left.reason is EndReason.MOVED
    assert [sid for sid, _ in drive(scene.other.of_user("ann"))] == [scene.sid]
    assert [sid for sid, _ in drive(scene.new.of_user("ann"))] == [scene.sid]


@pytest.mark.parametrize("at", range(STEPS))
def test_a_move_that_was_killed_at_any_step_loses_nothing(at: int) -> None:
    """The application goes on with the session, it is listed once, and the next run finishes."""
    scene = Scene()
    with pytest.raises(Crash):
        scene.move(at, crash)
    assert [sid for sid, _ in drive(scene.other.of_user("ann"))] == [scene.sid]
    found = scene.alive()
    assert found is not None
    saved = drive(scene.other.save(scene.sid, changing(found, cart=2), found))
    assert isinstance(saved, Record)
    counted = asyncio.run(Mover(scene.other).run())
    assert (counted.wrong, counted.busy) == (0, 0)
    assert values(drive(scene.new.load(scene.sid))) == {"cart": 2}
    assert not isinstance(drive(scene.old.load(scene.sid)), Record)
    assert [sid for sid, _ in drive(scene.new.of_user("ann"))] == [scene.sid]


def test_a_copy_that_waits_arrives_with_the_next_run() -> None:
    """Nobody asked for it meanwhile."""
    for at in range(STEPS):
        scene = Scene()
        with pytest.raises(Crash):
            scene.move(at, crash)
        asyncio.run(Mover(scene.other).run())
        assert_same(drive(scene.new.load(scene.sid)), scene.record)
        assert not [record for _, record in drive(scene.new.of_user("ann")) if is_parked(record)]


ENDS: dict[str, Callable[[Moving, str], Any]] = {
    "end": lambda moving, sid: drive(moving.end(sid, new_tombstone())),
    "end_user": lambda moving, _: drive(moving.end_user("ann", new_tombstone())),
    "end_everything": lambda moving, _: drive(moving.end_everything(1.0)),
}


@requirement("R42", "R49", "R61")
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("at", range(STEPS + 1))
def test_an_end_in_the_middle_of_a_move_is_final(at: int, how: str) -> None:
    """Whichever step it meets, with the mover going on, killed afterwards, and run again."""
    scene = Scene()
    if at == STEPS:
        scene.move(-1, nothing)
        ENDS[how](scene.other, scene.sid)
    else:
        scene.move(at, lambda: ENDS[how](scene.other, scene.sid))
    assert scene.alive() is None
    assert drive(scene.other.of_user("ann")) == ()
    asyncio.run(Mover(scene.other).run())
    assert scene.alive() is None


@requirement("R42", "R61")
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize(("dies", "again"), list(itertools.product(range(STEPS), range(STEPS))))
def test_an_end_between_a_killed_move_and_its_second_run_is_final(dies: int, again: int, how: str) -> None:
    """The mover dies at one step, somebody ends the session at any step of the second run."""
    scene = Scene()
    with pytest.raises(Crash):
        scene.move(dies, crash)
    done = False

    def act() -> None:
        nonlocal done
        done = True
        ENDS[how](scene.other, scene.sid)

    scene.move(again, act)
    if not done:
        ENDS[how](scene.other, scene.sid)
    assert scene.alive() is None
    asyncio.run(Mover(scene.other).run())
    assert scene.alive() is None
    # And when the old store has forgotten how the session ended:
    drive(scene.old.sweep(scene.record.expires_at + 10_000_000, 1000))
    assert scene.alive() is None


@requirement("R43")
@pytest.mark.parametrize("at", range(STEPS))
def test_a_write_in_the_middle_of_a_move_is_kept(at: int) -> None:
    scene = Scene()

    def write() -> None:
        saved = drive(scene.other.save(scene.sid, changing(scene.record, added=7), scene.record))
        assert isinstance(saved, Record)

    scene.move(at, write)
    found = scene.alive()
    assert found is not None
    assert values(found) == {"cart": 1, "added": 7}


@requirement("R25")
@pytest.mark.parametrize("at", range(STEPS + 1))
def test_a_sign_in_in_the_middle_of_a_move_ends_the_old_session(at: int) -> None:
    """It replaces what it read, or is told that this is old news and tries again; never are both alive."""
    scene, fresh = Scene(), new_id()

    def sign_in() -> None:
        for _ in range(5):
            found = drive(scene.other.load(scene.sid))
            assert isinstance(found, Record)
            answer = drive(scene.other.create(fresh, new_record("ann"), replaces=replacing(scene.sid, found)))
            if isinstance(answer, Created):
                return
            assert isinstance(answer, Stale)
        raise AssertionError(answer)

    scene.move(at if at < STEPS else -1, sign_in)
    if at == STEPS:
        sign_in()
    assert scene.alive() is None
    assert [sid for sid, _ in drive(scene.other.of_user("ann"))] == [fresh]
    asyncio.run(Mover(scene.other).run())
    assert scene.alive() is None


def test_a_session_that_changes_under_a_sign_in_is_not_replaced_blindly() -> None:
    scene = Scene()
    stale = Replaces(scene.sid, new_tombstone(EndReason.RENEWED), True, 7, 7)
    fresh = new_id()
    answer = drive(scene.other.create(fresh, new_record("ann"), replaces=stale))
    assert isinstance(answer, Stale)
    assert not isinstance(drive(scene.other.load(fresh)), Record)
    assert scene.alive() is not None
    drive(scene.other.end(scene.sid, new_tombstone()))
    gone = drive(scene.other.create(new_id(), new_record("ann"), replaces=stale))
    assert isinstance(gone, Gone)
    assert drive(scene.other.of_user("ann")) == ()


@requirement("R66")
def test_a_limit_counts_both_stores() -> None:
    scene = Scene()
    assert drive(scene.other.create(new_id(), new_record("ann"), limit=2)) == Created()
    answer = drive(scene.other.create(new_id(), new_record("ann"), limit=2))
    assert isinstance(answer, AtLimit)
    assert len(answer.sessions) == 2
    assert answer.sessions[0][0] == scene.sid


def test_a_parked_copy_is_no_session_of_anybody() -> None:
    """It is not listed beside the session it is a copy of, and its id comes from no token."""
    scene = Scene()
    drive(scene.new.create(parked_id(scene.sid), park(scene.sid, scene.record, "once")))
    assert [sid for sid, _ in drive(scene.other.of_user("ann"))] == [scene.sid]
    page = drive(scene.other.scan("new:", 10))
    assert page.sessions == ()
    assert parked_id(scene.sid) != scene.sid


def test_many_sessions_move_and_are_verified(tmp_path: Path) -> None:
    """From one file to another that is sealed; what lies there is readable with the keys alone."""

    async def work() -> None:
        ring = KeyRing.parse(generate())
        old = open_store(f"sqlite:///{tmp_path}/old.db", blocking=False)
        new: Any = open_store(f"sqlite:///{tmp_path}/new.db", blocking=False, codec=SealedCodec(ring))
        ids = [new_id() for _ in range(450)]
        for number, sid in enumerate(ids):
            await old.create(sid, new_record(f"user{number % 7}", secret="swordfish"))
        seen = 0

        def progress(count: int) -> None:
            nonlocal seen
            seen += count

        counted = await Mover(Moving(old, new), progress=progress).run()
        assert (counted.moved, counted.verified, counted.wrong, seen) == (450, 450, 0, 450)
        assert all([isinstance(await new.load(sid), Record) for sid in ids])
        await old.close()
        await new.close()

    asyncio.run(work())
    assert b"swordfish" not in (tmp_path / "new.db").read_bytes()


def test_stores_that_cannot_take_part_are_refused() -> None:
    class Small:
        """Have the five verbs and no more."""

    with pytest.raises(ConfigurationError, match="cannot take part"):
        Moving(Small(), MemoryStore())  # type: ignore[arg-type]
    for url in ("moving://", "moving://?from=memory://", "moving://host?from=memory://&to=memory://"):
        with pytest.raises(ConfigurationError):
            open_store(url, blocking=True)


def test_a_change_while_it_moves_is_merged_by_key() -> None:
    """Two writers, one before and one after the move: both keys are there."""
    scene = Scene()
    before = drive(scene.other.load(scene.sid))
    scene.move(-1, nothing)
    change = Change(seen_at=1.0, expires_at=1.0, put={"late": msgspec.msgpack.encode(1)})
    saved = drive(scene.other.save(scene.sid, change, before))
    assert isinstance(saved, Record)
    assert values(saved) == {"cart": 1, "late": 1}
