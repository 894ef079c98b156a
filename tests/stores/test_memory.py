"""The memory store: the contract through both doors, and its bound."""

from __future__ import annotations

import threading
import time
from typing import cast

import msgspec
import pytest

from sessile.core.bridge import drive
from sessile.core.ports import Created, Store
from sessile.core.record import EndReason, Record, Tombstone
from sessile.errors import ConfigurationError, StoreFull
from sessile.stores.memory import MemoryStore
from sessile.testing.store_contract import (
    IDLE,
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
    """The contract, driven by threads."""

    blocking = True
    rounds = 1000

    def open_store(self) -> Store:
        """Open an empty store."""
        return MemoryStore()


class TestAsync(StoreContract):
    """The contract, driven by an event loop."""

    rounds = 1000

    def open_store(self) -> Store:
        """Open an empty store."""
        return MemoryStore()


def full(*records: Record, capacity: int | None = None) -> tuple[MemoryStore, list[str]]:
    """Return a store that holds these and has no room for more."""
    store, ids = MemoryStore(capacity=capacity or len(records)), [new_id() for _ in records]
    for session_id, record in zip(ids, records, strict=True):
        assert drive(store.create(session_id, record)) == Created()
    return store, ids


def alive(store: MemoryStore, ids: list[str]) -> list[bool]:
    """Tell which of the sessions are alive."""
    return [isinstance(drive(store.load(session_id)), Record) for session_id in ids]


def test_a_capacity_below_one_is_refused() -> None:
    """A store that can hold nothing is a mistake in the settings."""
    with pytest.raises(ConfigurationError):
        MemoryStore(capacity=0)


def test_the_expired_make_room_first() -> None:
    """Before tombstones and anonymous sessions; nothing counts as evicted, and the next sweep reports the expiry."""
    now = time.time()
    store, ids = full(new_record("ann", at=now - IDLE - 1), new_record(at=now), new_record(at=now))
    drive(store.end(ids[1], new_tombstone()))
    assert drive(store.create(new_id(), new_record(at=now))) == Created()
    assert drive(store.load(ids[0])) is None
    assert isinstance(drive(store.load(ids[1])), Tombstone)
    assert alive(store, ids) == [False, False, True]
    assert drive(store.of_user("ann")) == ()
    assert drive(store.sweep(now, 10)) == ((ids[0], EndReason.IDLE),)


def test_a_session_that_was_extended_is_not_expired() -> None:
    """The deadline that counts is the present one."""
    now = time.time()
    store, ids = full(new_record("ann", at=now - IDLE - 1), new_record(at=now))
    drive(store.touch(ids[0], now, now + IDLE))
    assert cast("Created", drive(store.create(new_id(), new_record(at=now)))).evicted == (ids[1],)
    assert alive(store, ids) == [True, False]


def test_tombstones_make_room_before_anonymous_sessions() -> None:
    """The oldest tombstone first; its id is then unknown."""
    store, ids = full(new_record(), new_record("ann"), new_record())
    drive(store.end(ids[2], new_tombstone()))
    drive(store.end(ids[1], new_tombstone()))
    assert drive(store.create(new_id(), new_record())) == Created()
    assert drive(store.load(ids[2])) is None
    assert isinstance(drive(store.load(ids[1])), Tombstone)
    assert alive(store, ids) == [True, False, False]


def test_the_anonymous_session_that_was_idle_longest_is_evicted() -> None:
    """Being saved or touched counts as use, being read does not; the answer names who was evicted."""
    store, ids = full(new_record(), new_record(), new_record("ann"), new_record())
    touched = drive(store.load(ids[0]))
    assert isinstance(touched, Record)
    drive(store.touch(ids[0], touched.seen_at + 1, touched.expires_at + 1))
    drive(store.load(ids[1]))
    assert drive(store.create(new_id(), new_record())) == Created((ids[1],))
    assert drive(store.load(ids[1])) is None
    saved = drive(store.load(ids[3]))
    assert isinstance(saved, Record)
    drive(store.save(ids[3], changing(saved, a=1), saved))
    assert drive(store.create(new_id(), new_record())) == Created((ids[0],))
    assert alive(store, ids) == [False, False, True, True]


@requirement("R45")
def test_a_signed_in_session_is_never_evicted() -> None:
    """A flood of ten thousand anonymous visitors costs no user the session; full of users, the store says so."""
    users = [new_record(f"user {number}") for number in range(50)]
    store, ids = full(*users, capacity=60)
    for _ in range(10_000):
        assert isinstance(drive(store.create(new_id(), new_record())), Created)
    assert all(alive(store, ids))
    for number in range(10):
        drive(store.create(new_id(), new_record(f"late {number}")))
    for user in (None, "eve"):
        refused = new_id()
        with pytest.raises(StoreFull):
            drive(store.create(refused, new_record(user)))
        assert drive(store.load(refused)) is None
    assert all(alive(store, ids))


def test_signing_in_needs_no_room_of_its_own() -> None:
    """In a full store the anonymous session that signs in makes the room itself."""
    anonymous = new_record()
    store, ids = full(new_record("ann"), new_record("bob"), anonymous)
    session_id = new_id()
    assert drive(store.create(session_id, new_record("eve"), replaces=replacing(ids[2], anonymous))) == Created()
    assert alive(store, [*ids, session_id]) == [True, True, False, True]


def test_a_session_that_signs_out_in_place_may_be_evicted() -> None:
    """Who is anonymous is decided by the present control."""
    store, ids = full(new_record("ann"))
    record = drive(store.load(ids[0]))
    assert isinstance(record, Record)
    drive(store.save(ids[0], changing(record, msgspec.structs.replace(record.control, user=None)), record))
    assert drive(store.create(new_id(), new_record())) == Created((ids[0],))


def test_ended_epochs_make_room_first() -> None:
    """What "end everything" left behind is the first to go."""
    store, ids = full(new_record("ann"), new_record("bob"))
    drive(store.end_everything(time.time()))
    assert [drive(store.create(new_id(), new_record())) for _ in range(2)] == [Created(), Created()]
    assert [drive(store.load(session_id)) for session_id in ids] == [None, None]
    assert {reason for _, reason in drive(store.sweep(time.time(), 10))} == {EndReason.EVERYTHING}


def test_a_flood_leaves_nothing_behind() -> None:
    """Deadlines of sessions that were evicted long before do not pile up."""
    store = MemoryStore(capacity=10)
    for _ in range(30_000):
        drive(store.create(new_id(), new_record()))
    assert len(store._epoch.due) <= 3 * 10 + 10_000


@requirement("R50")
def test_the_indexes_hold_the_living_alone() -> None:
    """However sessions went - ended, renewed, swept, evicted - no index remembers them."""
    now, store = time.time(), MemoryStore(capacity=15)
    for number in range(40):
        user, session_id = (f"user {number % 3}", None)[number % 2], new_id()
        record = new_record(user, at=now)
        drive(store.create(session_id, record))
        if number % 4 == 0:
            drive(store.create(new_id(), record, replaces=replacing(session_id, record, required=True)))
        if number % 3 == 0:
            drive(store.end(session_id, new_tombstone()))
        if number % 5 == 0:
            drive(store.end_user(f"user {number // 5 % 3}", new_tombstone()))
    indexes = store._epoch
    indexed = set(indexes.anonymous).union(*indexes.users.values()) | set(indexes.tombstones)
    assert indexed == set(indexes.held)
    while drive(store.sweep(now + 2 * IDLE, 4)):
        pass
    for index in (indexes.held, indexes.users, indexes.anonymous, indexes.tombstones, indexes.due):
        assert not index


def test_a_loaded_record_does_not_change_under_its_reader() -> None:
    """Records are immutable: a save makes a new one (R32)."""
    store, ids = full(new_record(a=0))
    read = drive(store.load(ids[0]))
    assert isinstance(read, Record)
    saved = drive(store.save(ids[0], changing(read, a=1), read))
    assert values(read) == {"a": 0}
    assert isinstance(saved, Record)
    assert_same(drive(store.load(ids[0])), saved)


@requirement("R32")
def test_threads_read_while_others_write_sweep_and_end_everything() -> None:
    """Lock-free reads meet only whole records of the session they asked for."""
    store, stop = MemoryStore(capacity=500), threading.Event()
    ids = [new_id() for _ in range(100)]
    failures: list[BaseException] = []

    def guard(work: object) -> None:
        try:
            while not stop.is_set():
                work()  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)
            stop.set()

    def read() -> None:
        for number, session_id in enumerate(ids):
            loaded = drive(store.load(session_id))
            assert loaded is None or isinstance(loaded, Tombstone) or values(loaded)["owner"] == number

    def write() -> None:
        for number, session_id in enumerate(ids):
            drive(store.create(session_id, new_record(f"user {number % 7}", owner=number)))

    def end() -> None:
        drive(store.end_user("user 3", new_tombstone()))
        drive(store.end_everything(time.time()))
        drive(store.sweep(time.time() + 2 * IDLE, 50))
        drive(store.scan(None, 10))
        drive(store.stats(time.time()))

    threads = [threading.Thread(target=guard, args=(work,)) for work in (read, read, write, write, end)]
    for thread in threads:
        thread.start()
    stop.wait(1.0)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
