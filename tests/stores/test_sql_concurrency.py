"""The SQL store when many write at once: nothing is lost, nobody is revived, whatever isolation the server prefers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest

from sessile.core.bridge import drive
from sessile.core.ports import AtLimit, Created, Gone
from sessile.core.record import EndReason, Record
from sessile.errors import StoreUnavailable
from sessile.stores.sql import SqlStore
from sessile.testing.store_contract import (
    IDLE,
    StoreContract,
    changing,
    new_id,
    new_record,
    new_tombstone,
    replacing,
    values,
)
from tests.stores.sql_databases import Database, Kind, database, doors, kinds
from tests.support.requirements import requirement

LEVELS = {
    "postgresql": ("read committed", "repeatable read", "serializable"),
    "mariadb": ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"),
}
levels = pytest.mark.parametrize(("kind", "level"), [(kind, level) for kind in LEVELS for level in LEVELS[kind]])


def run(blocking: bool, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine through the door that is tested."""
    return drive(coroutine) if blocking else asyncio.run(coroutine)


async def together(blocking: bool, *starts: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run several things at once: in threads for the blocking door, in tasks for the other."""
    contract = StoreContract()
    type(contract).blocking, before = blocking, type(contract).blocking
    try:
        return await contract.together(*starts)
    finally:
        type(contract).blocking = before


@contextmanager
def preferring(made: Database, level: str) -> Iterator[None]:
    """Let the database give new connections another isolation level."""
    if made.kind == "postgresql":
        made.run(f"ALTER DATABASE {made.name} SET default_transaction_isolation = '{level}'")
        yield
    else:
        before = made.run("SELECT @@global.tx_isolation")[0][0]
        made.run(f"SET GLOBAL TRANSACTION ISOLATION LEVEL {level}")
        try:
            yield
        finally:
            made.run(f"SET GLOBAL tx_isolation = '{before}'")


async def write(store: Any, session_id: str, number: int, turns: int, *, hinted: bool) -> None:
    """Put a key a turn, over what was read or without a hint."""
    for turn in range(turns):
        read = await store.load(session_id)
        base = read if hinted else msgspec.structs.replace(read, etag=None)
        saved = await store.save(session_id, changing(read, **{f"{number}.{turn}": turn}), base)
        assert isinstance(saved, Record)


@requirement("R43")
@levels
@doors
def test_twenty_five_writers_of_one_session_all_win(kind: Kind, level: str, blocking: bool) -> None:
    """T2, T11: each acknowledged key is there, at every isolation level that the server may prefer, hint or not."""
    turns = 4

    async def main() -> None:
        store = made.open(blocking=blocking)
        session_id = new_id()
        await store.create(session_id, new_record())
        writers = [
            lambda number=number: write(store, session_id, number, turns, hinted=bool(number % 2))
            for number in range(25)
        ]
        await together(blocking, *writers)
        expected = {f"{number}.{turn}": turn for number in range(25) for turn in range(turns)}
        loaded = await store.load(session_id)
        assert values(loaded) == expected
        assert loaded.version == len(expected)
        await store.close()

    with database(kind) as made, preferring(made, level):
        run(blocking, main())


@requirement("R43")
@levels
def test_writers_through_an_engine_of_the_applications_all_win(kind: Kind, level: str) -> None:
    """T11: its connections come with whatever isolation the application chose; the store's transactions have theirs."""
    with database(kind) as made, preferring(made, level):
        own = made.engine(isolation_level=level.upper(), pool_size=10, pool_timeout=20)
        store = SqlStore(own, timeout=20)
        session_id = new_id()
        drive(store.create(session_id, new_record()))
        writers = [
            lambda number=number: write(store, session_id, number, 2, hinted=bool(number % 2)) for number in range(12)
        ]
        drive(together(True, *writers))
        expected = {f"{number}.{turn}": turn for number in range(12) for turn in range(2)}
        assert values(drive(store.load(session_id))) == expected
        with own.connect() as connection:
            assert connection.get_isolation_level() == level.upper()
        own.dispose()


@pytest.mark.slow
@requirement("R42")
@kinds
@doors
def test_an_end_that_races_a_save_wins_a_thousand_times(kind: Kind, blocking: bool) -> None:
    """T1: a request reads, a logout runs, the request writes what it read. No round revives it."""

    async def main() -> None:
        store = made.open(blocking=blocking)
        for number in range(1000):
            session_id, record, tombstone = new_id(), new_record("ann", a=0), new_tombstone()
            await store.create(session_id, record)

            async def slow(session_id: str = session_id) -> None:
                read: Any = await store.load(session_id)
                if isinstance(read, Record):
                    newer = msgspec.structs.replace(read.control, generation=9)
                    await store.save(session_id, changing(read, newer, a=1), read)
                    await store.touch(session_id, read.seen_at + 1, read.expires_at + 1)

            async def logout(session_id: str = session_id, tombstone: Any = tombstone) -> None:
                assert (await store.end(session_id, tombstone)).ended == ((session_id, "ann"),)

            await together(blocking, *((slow, logout) if number % 2 else (logout, slow)))
            assert await store.load(session_id) == tombstone
        assert await store.of_user("ann") == ()
        await store.close()

    with database(kind) as made:
        run(blocking, main())


@requirement("R66")
@levels
@doors
def test_eight_sign_ins_at_once_keep_to_the_limit(kind: Kind, level: str, blocking: bool) -> None:
    """Each replaces a session of its own; three are let in, five are told who is there, and lose nothing."""

    async def main() -> None:
        store = made.open(blocking=blocking)
        for turn in range(5):
            user = f"user {turn}"
            visitors = [(new_id(), new_record(cart=number)) for number in range(8)]
            for session_id, record in visitors:
                await store.create(session_id, record)

            async def sign_in(visitor: tuple[str, Record], user: str = user) -> Any:
                return await store.create(new_id(), new_record(user), replaces=replacing(*visitor), limit=3)

            answers = await together(blocking, *(lambda visitor=visitor: sign_in(visitor) for visitor in visitors))
            assert sum(isinstance(answer, Created) for answer in answers) == 3
            assert sum(isinstance(answer, AtLimit) and len(answer.sessions) == 3 for answer in answers) == 5
            assert len(await store.of_user(user)) == 3
            alive = [isinstance(await store.load(session_id), Record) for session_id, _ in visitors]
            assert alive == [isinstance(answer, AtLimit) for answer in answers]
        await store.close()

    with database(kind) as made, preferring(made, level):
        run(blocking, main())


@requirement("R49")
@levels
def test_a_renewal_under_way_does_not_escape_an_end_of_everything_of_a_user(kind: Kind, level: str) -> None:
    """`end_user` waits for the row that a renewal holds; the successor it finds then is ended as well."""
    with database(kind) as made, preferring(made, level):
        store = made.open()
        old_id, old, successor = new_id(), new_record("ann"), "00" * 20  # before the old one in every index
        drive(store.create(old_id, old))
        own = made.engine(isolation_level="READ COMMITTED")
        ending: list[Any] = []
        with own.connect() as connection, connection.begin() as transaction:
            within = SqlStore(own).within(connection)
            answer = drive(within.create(successor, new_record("ann"), replaces=replacing(old_id, old, required=True)))
            assert answer == Created()
            thread = threading.Thread(target=lambda: ending.append(drive(store.end_user("ann", new_tombstone()))))
            thread.start()
            await_lock_wait(made)
            transaction.commit()
        thread.join()
        assert ending[0].ended == ((successor, "ann"),)
        assert drive(store.of_user("ann")) == ()
        drive(store.close())
        own.dispose()


def await_lock_wait(made: Database) -> None:
    """Wait until somebody waits for a lock."""
    if made.kind == "postgresql":
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    else:
        query = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    deadline = time.monotonic() + 10
    while not made.run(query)[0][0]:
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.15)  # InnoDB shows the same picture again to whoever looks more often than every 0.1 s


@kinds
@doors
def test_a_deadlock_is_tried_again_and_nobody_sees_it(kind: Kind, blocking: bool) -> None:
    """T11: two transactions take two rows in opposite orders; the store's own is the victim or waits, and succeeds."""

    async def main() -> None:
        store = made.open(blocking=blocking)
        low, high = sorted((new_id(), new_id()))
        for session_id in (low, high):
            await store.create(session_id, new_record("ann"))
        # The other takes the high row first; the store's end_user takes the low one and waits for the high.
        with closing(made.connect()) as other:
            cursor = other.cursor()
            lock = "SELECT 1 FROM sessile_session WHERE id = {} FOR UPDATE"
            spelled = "'\\x{}'" if kind == "postgresql" else "X'{}'"
            cursor.execute("BEGIN")
            cursor.execute(lock.format(spelled.format(high)))

            def cross() -> None:
                await_lock_wait(made)
                try:
                    cursor.execute(lock.format(spelled.format(low)))
                except Exception as error:  # whichever the server chose as its victim
                    victims.append(type(error).__name__)
                cursor.execute("ROLLBACK")

            victims: list[str] = []
            thread = threading.Thread(target=cross)
            thread.start()
            ending = await store.end_user("ann", new_tombstone())
            thread.join()
        assert {session_id for session_id, _ in ending.ended} == {low, high}
        assert await store.of_user("ann") == ()
        await store.close()

    with database(kind) as made:
        for _ in range(3):
            run(blocking, main())


@kinds
@doors
def test_a_lock_that_stays_ends_in_time_and_changes_nothing(kind: Kind, blocking: bool) -> None:
    """T8: a row that somebody holds costs a writer its budget and no more; readers do not notice (R45)."""

    async def main() -> None:
        store = made.open("timeout=1", blocking=blocking)
        session_id, record = new_id(), new_record(a=0)
        await store.create(session_id, record)
        with closing(made.connect()) as other:
            cursor = other.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT id FROM sessile_session FOR UPDATE")
            assert isinstance(await store.load(session_id), Record)
            for verb in (
                lambda: store.save(session_id, changing(record, a=1), record),
                lambda: store.touch(session_id, record.seen_at + 9, record.expires_at + 9),
                lambda: store.end(session_id, new_tombstone()),
            ):
                start = time.monotonic()
                with pytest.raises(StoreUnavailable, match="did not answer in time"):
                    await verb()
                assert time.monotonic() - start < 10
            cursor.execute("ROLLBACK")
        assert values(await store.load(session_id)) == {"a": 0}
        assert values(await store.save(session_id, changing(record, a=1), record)) == {"a": 1}
        await store.close()

    with database(kind) as made:
        run(blocking, main())


@kinds
def test_two_ends_of_everything_at_once_are_both_done(kind: Kind) -> None:
    """Eight at once: each begins an epoch of its own, or one after another's; none fails (R64)."""
    with database(kind) as made:
        store = made.open()
        session_id = new_id()
        drive(store.create(session_id, new_record("ann")))
        at = time.time()
        drive(together(True, *(lambda number=number: store.end_everything(at + number) for number in range(8))))
        assert made.run("SELECT count(*), max(number) FROM sessile_epoch")[0] == (8, 8)
        assert not isinstance(drive(store.load(session_id)), Record)
        drive(store.close())


# -- sweeping


@requirement("R50")
@kinds
@doors
def test_nodes_that_sweep_at_once_share_the_work(kind: Kind, blocking: bool) -> None:
    """Each row is removed and reported by one of them; nobody waits for another, nobody fails."""

    async def main() -> None:
        stores = [made.open(blocking=blocking) for _ in range(4)]
        now = time.time()
        ids = [new_id() for _ in range(400)]
        fill(made, ids, now)
        reports = await together(blocking, *(lambda store=store: sweep_all(store, now + 2 * IDLE) for store in stores))
        removed = [session_id for report in reports for session_id, _ in report]
        assert len(removed) == len(ids)
        assert set(removed) == set(ids)
        assert made.run("SELECT count(*) FROM sessile_session")[0][0] == 0
        for store in stores:
            await store.close()

    async def sweep_all(store: Any, now: float) -> list[tuple[str, EndReason | None]]:
        report: list[tuple[str, EndReason | None]] = []
        while True:
            step = await store.sweep(now, 40)
            assert len(step) <= 40
            report += step
            if not step and not made.run("SELECT count(*) FROM sessile_session")[0][0]:
                return report

    with database(kind) as made:
        run(blocking, main())


def fill(made: Database, ids: list[str], now: float) -> None:
    """Put sessions into the table, quickly."""
    spelled = "'\\x{}'" if made.kind == "postgresql" else "X'{}'"
    rows = ", ".join(f"({spelled.format(one)}, 0, {now!r}, {now + IDLE!r}, {now + IDLE!r}, 0, 0)" for one in ids)
    made.run(f"INSERT INTO sessile_session (id, epoch, seen_at, expires_at, due, revision, version) VALUES {rows}")


@requirement("R50")
@kinds
def test_what_is_locked_is_left_for_the_next_sweep(kind: Kind) -> None:
    """A sweep waits for nobody: a row that a request holds is skipped."""
    with database(kind) as made:
        store, now = made.open("timeout=20"), time.time()
        ids = sorted(new_id() for _ in range(3))
        fill(made, ids, now)
        with closing(made.connect()) as other:
            cursor = other.cursor()
            cursor.execute("BEGIN")
            spelled = f"'\\x{ids[1]}'" if kind == "postgresql" else f"X'{ids[1]}'"
            cursor.execute(f"SELECT 1 FROM sessile_session WHERE id = {spelled} FOR UPDATE")
            start = time.monotonic()
            assert {one for one, _ in drive(store.sweep(now + 2 * IDLE, 10))} == {ids[0], ids[2]}
            assert time.monotonic() - start < 10
            cursor.execute("ROLLBACK")
        assert drive(store.sweep(now + 2 * IDLE, 10)) == ((ids[1], EndReason.IDLE),)
        drive(store.close())


@requirement("R50")
@kinds
def test_every_statement_finds_its_rows_through_an_index(kind: Kind) -> None:
    """Asked of the server's own planner, with twenty thousand sessions there: no statement of a verb reads them all."""
    with database(kind) as made:
        now = time.time()
        for _ in range(10):
            fill(made, [new_id() for _ in range(2000)], now)
        made.run("UPDATE sessile_session SET owner = id")
        made.run("ANALYZE sessile_session" if kind == "postgresql" else "ANALYZE TABLE sessile_session")
        store = made.open()
        queries, explained = store._queries, {}
        there = made.run("SELECT id FROM sessile_session LIMIT 1")[0][0]
        with closing(made.connect()) as connection:
            cursor = connection.cursor()
            for name in ("load", "lock", "touch", "of_user", "lock_of_user", "lock_ended", "lock_due", "scan"):
                explained[name] = plan(cursor, kind, getattr(queries, name), there)
        drive(store.close())
    wanted = {"load": 0, "lock": 0, "touch": 0, "scan": 0, "of_user": 1, "lock_of_user": 1, "lock_ended": 2}
    indexes = ("sessile_session_pkey" if kind == "postgresql" else "PRIMARY", "sessile_session_owner",
               "sessile_session_due")  # fmt: skip
    for name, index in (wanted | {"lock_due": 2}).items():
        assert indexes[index] in explained[name], (name, explained[name])
        assert "Seq Scan on sessile_session" not in explained[name], (name, explained[name])


def plan(cursor: Any, kind: Kind, sql: Any, there: bytes) -> str:
    """Ask the planner; `there` is the id and owner of a row, for MariaDB looks while it plans."""
    given = {"id": there, "key": there, "owner": there, "after": there, "limit": 10, "now": 5.0}
    given |= {"new_seen_at": 1.0, "new_expires_at": 1.0}
    if kind == "postgresql":
        cursor.execute(f"EXPLAIN {sql.text}", given)
        return "\n".join(row[0] for row in cursor.fetchall())
    cursor.execute(f"EXPLAIN {sql.text}", given)
    return "\n".join(f"{row[2]} {row[5]}" for row in cursor.fetchall() if row[2] == "sessile_session")


@kinds
def test_a_save_writes_no_index(kind: Kind) -> None:
    """`due` lags behind `expires_at`: on PostgreSQL, saves and touches are heap-only updates."""
    if kind == "mariadb":
        pytest.skip("InnoDB does not count them")
    with database(kind) as made:
        store = made.open()
        ids = [new_id() for _ in range(20)]
        for session_id in ids:
            record = new_record("ann", a=0)
            drive(store.create(session_id, record))
            for turn in range(5):
                drive(store.save(session_id, changing(record, a=turn), record))
                drive(store.touch(session_id, record.seen_at + turn, record.expires_at + turn))
        drive(store.close())
        deadline = time.monotonic() + 10
        while True:
            updates, hot = made.run(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessile_session'"
            )[0]
            if updates == 200:
                break
            assert time.monotonic() < deadline, updates
            time.sleep(0.05)
        assert hot > 0.9 * updates


@kinds
def test_an_end_of_everything_takes_one_row_whatever_there_is(kind: Kind) -> None:
    """Ten thousand sessions end without one of them being written (R64)."""
    with database(kind) as made:
        store = made.open()
        ids = [new_id() for _ in range(2000)]
        fill(made, ids, time.time())
        before = made.run("SELECT count(*) FROM sessile_session WHERE epoch = 0")[0][0]
        drive(store.end_everything(time.time()))
        assert made.run("SELECT count(*) FROM sessile_session WHERE epoch = 0")[0][0] == before == len(ids)
        assert not isinstance(drive(store.load(ids[0])), Record)
        assert drive(store.save(ids[0], changing(new_record(), a=1), new_record())) != Created()
        assert isinstance(drive(store.save(ids[0], changing(new_record(), a=1), new_record())), Gone)
        drive(store.close())
