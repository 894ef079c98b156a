"""The SQLite store: the contract through both doors, one file under many processes, and what a damaged file does."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessile.core.bridge import drive
from sessile.core.ports import Created, Gone, Store, Taken
from sessile.core.record import (
    PLAIN,
    EndReason,
    Record,
    Tombstone,
    Unreadable,
    encode_control,
    encode_data,
    encode_tombstone,
)
from sessile.errors import ConfigurationError, StoreError, StoreSchema, StoreUnavailable
from sessile.stores.sqlite import SqliteStore, rows, writer
from sessile.stores.sqlite.file import MIGRATIONS, File
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
from tests.support.requirements import requirement

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX processes")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file that does not exist yet."""
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """Open a store for the blocking door."""
    opened = SqliteStore(path, blocking=True)
    yield opened
    drive(opened.close())


@pytest.fixture
def raw(path: Path, store: SqliteStore) -> Iterator[sqlite3.Connection]:
    """Open the same file behind the store's back."""
    drive(store.load(new_id()))
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        yield connection


class _OnOneFile(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def open_store(self) -> Store:
        return SqliteStore(self.folder / f"{new_id()}.db", blocking=self.blocking)


class TestBlocking(_OnOneFile):
    """The contract, driven by threads."""

    blocking = True
    rounds = 1000


class TestAsync(_OnOneFile):
    """The contract, driven by an event loop."""

    rounds = 1000


# -- several processes

_PREAMBLE = """
import asyncio, os, sys, time
from sessile.core.bridge import drive
from sessile.core.ports import *
from sessile.core.record import *
from sessile.stores.sqlite import SqliteStore
from sessile.testing.store_contract import *
path = sys.argv[1]
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another process on the same code."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    command = [sys.executable, "-W", "error", "-u", "-c", _PREAMBLE + code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def output(process: subprocess.Popen[str]) -> list[str]:
    """Wait for a process that must succeed, and return its lines."""
    try:
        lines, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()  # its children too
        raise
    assert process.returncode == 0
    return lines.split()


@requirement("R43")
@pytest.mark.parametrize("door", ["blocking", "async"])
def test_four_processes_write_one_session_and_lose_nothing(path: Path, store: SqliteStore, door: str) -> None:
    """T2 and T10 across processes: all keys of all writers are there; nobody is turned away."""
    session_id = new_id()
    drive(store.create(session_id, new_record()))
    code = """
async def main():
    store = SqliteStore(path, blocking=sys.argv[4] == "blocking")
    for turn in range(50):
        read = await store.load(sys.argv[2])
        change = changing(read, **{f"{sys.argv[3]}.{turn}": turn})
        assert isinstance(await store.save(sys.argv[2], change, read), Record)
    await store.close()
drive(main()) if sys.argv[4] == "blocking" else asyncio.run(main())
"""
    for process in [python(code, path, session_id, number, door) for number in range(4)]:
        output(process)
    assert values(drive(store.load(session_id))) == {
        f"{number}.{turn}": turn for number in range(4) for turn in range(50)
    }


def test_four_processes_may_create_the_file_at_once(path: Path) -> None:
    """Each finds or makes the schema, thirty files long; none fails, and each sees what the others stored."""
    code = """
print("ready")
sys.stdin.readline()
for number in range(30):
    store, session_id = SqliteStore(f"{path}.{number}", blocking=True), new_id()
    assert drive(store.create(session_id, new_record())) == Created()
    print(number, session_id)
    drive(store.close())
"""
    processes = [python(code, path) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    words = [word for process in processes for word in output(process)]
    created = list(zip(words[::2], words[1::2], strict=True))
    assert len(created) == 4 * 30
    for number, session_id in created:
        opened = SqliteStore(f"{path}.{number}", blocking=True)
        assert isinstance(drive(opened.load(session_id)), Record)
        drive(opened.close())


_HOLD = """
import sqlite3
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held")
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
connection.close()
"""


@contextmanager
def held(path: Path, seconds: float) -> Iterator[None]:
    """Let another process hold the write lock, and wait for its end on the way out."""
    process = python(_HOLD, path, seconds)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield
    output(process)


@pytest.mark.slow
def test_the_loop_does_not_stand_still_behind_another_process(path: Path, store: SqliteStore) -> None:
    """While the write lock is held for four seconds reads answer, the loop ticks, and then all writes succeed."""

    async def main() -> None:
        opened, record = SqliteStore(path, blocking=False), new_record(a=0)
        ids = [new_id() for _ in range(20)]
        for session_id in ids:
            await opened.create(session_id, record)
        with held(path, 4.0):
            started = time.monotonic()
            writes = [
                asyncio.ensure_future(opened.save(session_id, changing(record, a=1), record)) for session_id in ids
            ]
            writes.append(asyncio.ensure_future(opened.end(ids[0], new_tombstone())))  # type: ignore[arg-type]
            longest, last = 0.0, started
            while not all(write.done() for write in writes):
                assert await opened.load(ids[1]) is not None
                await asyncio.sleep(0.002)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            assert last - started > 1.0
            assert longest < 2, f"the loop stood still for {longest:.3f} s"
            assert all(isinstance(write.result(), Record) for write in writes[1:-1])
        assert isinstance(await opened.load(ids[0]), Tombstone)
        await opened.close()

    asyncio.run(main())


def test_the_loop_does_not_wait_for_another_thread(path: Path) -> None:
    """While a thread of this process is in a transaction, the loop's writes wait in the queue and the loop ticks."""

    async def main() -> None:
        store, record, session_id = SqliteStore(path, blocking=False), new_record(a=0), new_id()
        await store.create(session_id, record)
        with store._writer._lock:
            write = asyncio.ensure_future(store.save(session_id, changing(record, a=1), record))
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert not write.done()
        assert isinstance(await write, Record)
        await store.close()

    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.slow
@pytest.mark.parametrize("blocking", [True, False])
@requirement("R45")
def test_a_lock_held_beyond_the_budget_is_an_outage(path: Path, store: SqliteStore, blocking: bool) -> None:
    """T11: StoreUnavailable, not an answer, after `wait` seconds; afterwards the store works again without help."""
    drive(store.load(new_id()))

    async def main() -> None:
        opened, record = SqliteStore(path, blocking=blocking, wait=0.3), new_record()
        session_id = new_id()
        await opened.create(session_id, record)
        with held(path, 4.0):  # who waited beyond the budget would succeed
            for write in (
                opened.save(session_id, changing(record, a=1), record),
                opened.end(session_id, new_tombstone()),
            ):
                with pytest.raises(StoreUnavailable, match="locked by another process"):
                    await write
            assert values(await opened.load(session_id)) == {}
        assert isinstance(await opened.save(session_id, changing(record, a=1), record), Record)
        await opened.close()

    drive(main()) if blocking else asyncio.run(main())


@posix
@pytest.mark.slow
@requirement("R42")
@pytest.mark.parametrize("door", ["blocking", "async"])
def test_what_was_acknowledged_survives_kill_9(path: Path, door: str) -> None:
    """T10: killed mid-write again and again: the file is sound, ended sessions are ended, created ones are there."""
    code = """
async def main():
    store = SqliteStore(path, blocking=sys.argv[2] == "blocking")
    while True:
        session_id, record = new_id(), new_record("ann", cart="x" * 500)
        await store.create(session_id, record)
        print("created", session_id)
        await store.save(session_id, changing(record, cart="y" * 900), record)
        await store.end(session_id, new_tombstone())
        print("ended", session_id)
        await store.sweep(time.time() - 1, 10)
drive(main()) if sys.argv[2] == "blocking" else asyncio.run(main())
"""
    acknowledged: dict[str, str] = {}
    survivor = SqliteStore(path, blocking=True)
    for _ in range(4):
        processes = [python(code, path, door) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline()
        time.sleep(random.uniform(0.05, 0.2))
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for process in processes:
            lines = process.communicate(timeout=30)[0].splitlines()
            acknowledged |= {
                line.split()[1]: line.split()[0]
                for line in lines
                if len(line.split()) == 2 and len(line.split()[1]) == 40
            }
        drive(survivor.create(new_id(), new_record()))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert list(acknowledged.values()).count("ended") > 10
    for session_id, state in acknowledged.items():
        loaded = drive(survivor.load(session_id))
        # "created" was the last line read: its end may have been committed and not said.
        assert isinstance(loaded, Tombstone if state == "ended" else (Record, Tombstone))
    drive(survivor.close())


@posix
@pytest.mark.parametrize("door", ["blocking", "async"])
def test_parent_and_child_go_on_after_a_fork(path: Path, door: str) -> None:
    """Forked in the middle of work, with threads and connections open, both read and write; the file stays sound."""
    code = """
import threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
blocking = sys.argv[2] == "blocking"
run = drive if blocking else asyncio.run
store, ids = SqliteStore(path, blocking=blocking), [new_id() for _ in range(50)]
async def create():
    for session_id in ids:
        await store.create(session_id, new_record(a=0))
    await store.end(ids[0], new_tombstone())
run(create())
stop = threading.Event()
def hammer():
    while not stop.is_set():
        for session_id in ids[1:]:
            run(store.load(session_id))
threads = [threading.Thread(target=hammer) for _ in range(3)]
for thread in threads:
    thread.start()
async def work(name):
    for session_id in ids[1:]:
        read = await store.load(session_id)
        if isinstance(read, Record):  # else another child has ended it
            assert isinstance(await store.save(session_id, changing(read, **{name: 1}), read), Record | Gone)
    await store.end(ids[int(name) + 1], new_tombstone())
children = []
for number in range(4):
    child = os.fork()
    if not child:
        try:
            folder = "/proc/self/fd/" if os.path.isdir("/proc/self/fd") else ""
            files = [folder + name for name in os.listdir(folder)] if folder else []
            open_ones = [os.readlink(file) for file in files if os.path.lexists(file)]
            assert not any(target.startswith(path) for target in open_ones), "a connection crossed the fork"
            run(work(str(number)))
            run(store.close())
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
stop.set()
for thread in threads:
    thread.join()
async def check():
    for session_id in ids[5:]:
        assert set(values(await store.load(session_id))) == {"a", "0", "1", "2", "3"}
    assert [type(await store.load(session_id)) for session_id in ids[:5]] == [Tombstone] * 5
    await store.end(ids[9], new_tombstone())
    await store.close()
run(check())
"""
    output(python(code, path, door))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# -- group commit, durability, loops


def test_writes_that_meet_share_a_transaction_and_not_their_failures(path: Path, store: SqliteStore) -> None:
    """Queued behind a lock, twenty jobs commit together; the one that fails takes nobody along and leaves nothing."""
    drive(store.load(new_id()))
    group = writer.Writer(File(path), wait=5.0)
    good = [new_id() for _ in range(20)]
    failed, outcomes = new_id(), list[object]()

    def work(session_id: str) -> Callable[[sqlite3.Connection], object]:
        def insert(connection: sqlite3.Connection) -> object:
            rows.create(connection, PLAIN, session_id, new_record(), None, None)
            if session_id == failed:
                raise ZeroDivisionError
            return session_id

        return insert

    def run(session_id: str) -> None:
        try:
            outcomes.append(group.run(work(session_id), durable=False))
        except ZeroDivisionError:
            outcomes.append("failed")

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        threads = [threading.Thread(target=run, args=(session_id,)) for session_id in [*good[:10], failed, *good[10:]]]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        other.execute("COMMIT")
        for thread in threads:
            thread.join()
    assert sorted(map(str, outcomes)) == sorted([*good, "failed"])
    assert all(isinstance(drive(store.load(session_id)), Record) for session_id in good)
    assert drive(store.load(failed)) is None
    assert group._commits <= 2
    group.close()


@requirement("R51")
@pytest.mark.parametrize("blocking", [True, False])
def test_ends_are_committed_through_fsync(path: Path, monkeypatch: pytest.MonkeyPatch, blocking: bool) -> None:
    """FULL for every end and for a create that replaces a user's session; NORMAL for what a power cut may take."""
    used: list[tuple[str, int]] = []

    def watch(name: str) -> None:
        original: Callable[..., Any] = getattr(rows, name)

        def watched(connection: sqlite3.Connection, **arguments: Any) -> Any:
            used.append((name, connection.execute("PRAGMA synchronous").fetchone()[0]))
            return original(connection, **arguments)

        monkeypatch.setattr(rows, name, watched)

    for name in ("create", "save", "touch", "end", "end_user", "end_everything", "sweep"):
        watch(name)

    async def main() -> None:
        store, record, user = SqliteStore(path, blocking=blocking), new_record(), new_record("ann")
        first, second, third = new_id(), new_id(), new_id()
        await store.create(first, record)
        await store.save(first, changing(record, record.control), record)
        await store.touch(first, record.seen_at, record.expires_at)
        present = await store.load(first)
        assert isinstance(present, Record)
        await store.create(second, user, replaces=replacing(first, present))
        await store.create(third, user, replaces=replacing(second, user))
        await store.end(third, new_tombstone())
        await store.end_user("ann", new_tombstone())
        await store.end_everything(time.time())
        await store.sweep(time.time(), 1)
        await store.close()

    drive(main()) if blocking else asyncio.run(main())
    normal, full = 1, 2
    assert used == [
        ("create", normal),
        ("save", normal),
        ("touch", normal),
        ("create", normal),
        ("create", full),
        ("end", full),
        ("end_user", full),
        ("end_everything", full),
        ("sweep", normal),
    ]


def test_one_store_serves_several_loops(path: Path) -> None:
    """One after the other, and two at once in two threads."""
    store, ids = SqliteStore(path, blocking=False), [new_id() for _ in range(40)]

    async def work(mine: list[str]) -> None:
        for session_id in mine:
            await store.create(session_id, new_record())
            await store.end(session_id, new_tombstone())

    asyncio.run(work(ids[:10]))
    asyncio.run(work(ids[10:20]))
    threads = [threading.Thread(target=asyncio.run, args=(work(mine),)) for mine in (ids[20:30], ids[30:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def check() -> None:
        assert [type(await store.load(session_id)) for session_id in ids] == [Tombstone] * 40
        await store.close()

    asyncio.run(check())


def test_an_end_whose_caller_was_cancelled_is_carried_out(path: Path) -> None:
    """The client hung up: the logout that it asked for happens all the same."""

    async def main() -> None:
        store, session_id = SqliteStore(path, blocking=False), new_id()
        await store.create(session_id, new_record())
        task = asyncio.ensure_future(store.end(session_id, new_tombstone()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(500):
            if isinstance(await store.load(session_id), Tombstone):
                break
            await asyncio.sleep(0.01)
        assert isinstance(await store.load(session_id), Tombstone)
        await store.close()

    asyncio.run(main())


def test_closing_fails_what_is_queued(path: Path) -> None:
    """Nobody waits for a store that is closed."""

    async def main() -> None:
        store, session_id, record = SqliteStore(path, blocking=False), new_id(), new_record()
        await store.create(session_id, record)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            write = asyncio.ensure_future(store.save(session_id, changing(record, a=1), record))
            await asyncio.sleep(0.05)
            await store.close()
            with pytest.raises(StoreUnavailable, match="closed"):
                await write

    asyncio.run(main())


@pytest.mark.parametrize("blocking", [True, False])
def test_the_wal_starts_over_under_constant_writing(path: Path, *, blocking: bool) -> None:
    """Checkpoints complete while writes go on without a pause, so that the WAL's size is bounded."""
    wal = path.with_name("sessions.db-wal")

    async def main() -> None:
        store, record = SqliteStore(path, blocking=blocking), new_record()
        ids = [new_id() for _ in range(100)]
        for session_id in ids:
            await store.create(session_id, record)
        deadline = time.monotonic() + 60
        salts: set[bytes] = set()  # the header's, new each time that the WAL starts over
        while len(salts) < 4:
            salts.add(wal.read_bytes()[16:24])
            assert time.monotonic() < deadline
            for number in range(500):
                await store.save(ids[number % 100], changing(record, text=str(number) * 500), record)
            await asyncio.sleep(0) if not blocking else None
        await store.close()
        assert not wal.exists()

    drive(main()) if blocking else asyncio.run(main())


# -- the plan


@pytest.mark.parametrize(
    ("statement", "arguments", "plan"),
    [
        (rows.LOAD, (1, ""), "SEARCH session USING INTEGER PRIMARY KEY"),
        (rows._OF_USER, ("ann",), "SEARCH session USING INDEX session_user (user=?)"),
        (rows._ALIVE_OF_USER, ("ann",), "SEARCH session USING INDEX session_user (user=?)"),
        (rows._DUE, (0.0, 1), "SEARCH session USING INDEX session_due (epoch=? AND due<?)"),
        (rows._ENDED_EPOCHS, (1,), "SEARCH session USING INDEX session_due (epoch<?)"),
        (rows._SCAN, (0, 1), "SEARCH session USING INTEGER PRIMARY KEY (rowid>?)"),
        (rows._TOUCH, (0.0, 0.0, 1, ""), "SEARCH session USING INTEGER PRIMARY KEY"),
    ],
)
def test_no_verb_walks_through_the_table(
    raw: sqlite3.Connection, statement: str, arguments: tuple[Any, ...], plan: str
) -> None:
    """Each statement searches by an index, sorts nothing, and costs what it touches."""
    steps = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", arguments)]
    assert any(step.startswith(plan) for step in steps), steps
    assert not any("SCAN session" in step or "TEMP B-TREE" in step for step in steps), steps


@requirement("R64")
def test_ending_everything_writes_one_row(store: SqliteStore, raw: sqlite3.Connection) -> None:
    """A thousand sessions are ended without being touched."""
    for _ in range(1000):
        drive(store.create(new_id(), new_record("ann")))
    before = raw.execute("SELECT * FROM session ORDER BY key").fetchall()
    drive(store.end_everything(time.time()))
    assert raw.execute("SELECT * FROM session ORDER BY key").fetchall() == before
    assert drive(store.of_user("ann")) == ()


def test_a_touch_or_save_leaves_the_index_alone(store: SqliteStore, raw: sqlite3.Connection) -> None:
    """Only a sweep moves `due` on, which keeps writes to one page."""
    session_id, record = new_id(), new_record(a=0)
    drive(store.create(session_id, record))
    drive(store.touch(session_id, record.seen_at + 9, record.expires_at + 9))
    drive(store.save(session_id, changing(record, a=1), record))
    assert raw.execute("SELECT due, expires_at FROM session").fetchone() == (record.expires_at, record.expires_at + 9)
    assert drive(store.sweep(record.expires_at + 5, 10)) == ()
    assert raw.execute("SELECT due, expires_at FROM session").fetchone() == (
        record.expires_at + 9,
        record.expires_at + 9,
    )


def test_an_end_erases_what_the_session_held(path: Path, store: SqliteStore, raw: sqlite3.Connection) -> None:
    """After a checkpoint neither the data nor the user's name is found in the file's bytes."""
    session_id = new_id()
    drive(store.create(session_id, new_record("ann-of-green-gables", card="4111-1111-1111-1111")))
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"4111-1111" in path.read_bytes()
    drive(store.end(session_id, new_tombstone()))
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"4111-1111" not in path.read_bytes()
    assert b"green-gables" not in path.read_bytes()


def test_two_ids_with_one_key_do_not_meet(store: SqliteStore) -> None:
    """The key is a part of the id: a row is found by the whole id alone, and the second create is Taken."""
    first, second = "a" * 15 + "0" * 25, "a" * 15 + "1" * 25
    drive(store.create(first, new_record("ann")))
    assert drive(store.load(second)) is None
    assert drive(store.create(second, new_record())) == Taken()
    assert drive(store.end(second, new_tombstone())).ended == ()
    assert drive(store.save(second, changing(new_record(), a=1), new_record())) == Gone()
    assert isinstance(drive(store.load(first)), Record)


# -- the file


@posix
def test_only_its_owner_reads_the_file(path: Path) -> None:
    """The database and the files beside it have mode 0600 whatever the umask."""
    before = os.umask(0)
    try:
        store = SqliteStore(path, blocking=True)
        drive(store.create(new_id(), new_record()))
        modes = {entry.name: oct(entry.stat().st_mode & 0o777) for entry in path.parent.iterdir()}
        drive(store.close())
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("sessions.db", "sessions.db-wal", "sessions.db-shm"), "0o600")


def test_a_missing_folder_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    """It is said at start, not at the first request; nor is there SQLite in memory."""
    for wrong in (tmp_path / "no" / "such.db", ":memory:", ""):
        with pytest.raises(ConfigurationError):
            SqliteStore(wrong, blocking=True)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_later_schema_is_refused_and_left_alone(path: Path, store: SqliteStore, blocking: bool) -> None:
    """A rollback of the application does not damage what the newer version wrote."""
    drive(store.create(new_id(), new_record()))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")

    async def main() -> None:
        older = SqliteStore(path, blocking=blocking)
        with pytest.raises(StoreSchema, match=f"schema {len(MIGRATIONS) + 1}"):
            await older.load(new_id())
        with pytest.raises(StoreSchema):
            await older.create(new_id(), new_record())
        await older.close()

    drive(main()) if blocking else asyncio.run(main())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (1,)


def test_another_applications_database_is_refused_and_left_alone(path: Path) -> None:
    """Sessions get a file of their own."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE session (mine TEXT)")
    before = path.read_bytes()
    store = SqliteStore(path, blocking=True)
    with pytest.raises(StoreSchema, match="a database file of their own"):
        drive(store.load(new_id()))
    drive(store.close())
    assert path.read_bytes() == before


@requirement("R45")
@pytest.mark.parametrize("content", [b"no database at all, only text. " * 200, b"\0" * 5000])
def test_a_file_that_is_no_database_is_an_outage(path: Path, content: bytes) -> None:
    """StoreUnavailable, without a word of what the file holds."""
    path.write_bytes(content)
    store = SqliteStore(path, blocking=True)
    for verb in (store.load(new_id()), store.create(new_id(), new_record()), store.end(new_id(), new_tombstone())):
        with pytest.raises(StoreUnavailable) as caught:
            drive(verb)
        assert "text" not in str(caught.value)
    drive(store.close())


def test_a_read_only_file_is_an_outage_for_writes(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be stored was not done."""
    session_id, record = new_id(), new_record()
    drive(store.create(session_id, record))
    connect = File.connect
    monkeypatch.setattr(File, "connect", lambda self, **_: connect(self, read_only=True))
    other = SqliteStore(path, blocking=True)
    for verb in (other.save(session_id, changing(record, a=1), record), other.end(session_id, new_tombstone())):
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            drive(verb)
    assert isinstance(drive(other.load(session_id)), Record)
    drive(other.close())


# -- garbage

_RECORD = new_record("ann", cart=[1, 2, 3], name="Ann")
_COLUMNS = {
    "control": encode_control(_RECORD.control),
    "data": encode_data(_RECORD.data),
    "tombstone": encode_tombstone(new_tombstone(EndReason.ADMIN, "ann")),
}
_bytes = st.sampled_from(list(_COLUMNS.values()))
_damaged = st.one_of(
    _bytes,
    st.builds(lambda value, cut: value[: cut % len(value)], _bytes, st.integers(0)),
    st.builds(
        lambda value, bit: (
            value[: bit // 8 % len(value)]
            + bytes([value[bit // 8 % len(value)] ^ 1 << bit % 8])
            + value[bit // 8 % len(value) + 1 :]
        ),
        _bytes,
        st.integers(0, 10_000),
    ),
    st.binary(max_size=64),
    st.just(b"\x91" * 5000),
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
_numbers = st.one_of(
    st.just(_RECORD.seen_at), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.just("x"), st.just(b"x")
)


@requirement("R46")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    control=_damaged,
    data=_damaged,
    tombstone=st.one_of(st.none(), _damaged),
    numbers=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("seen_at", "expires_at", "due", "revision", "version", "epoch"), _numbers)
    ),
    user=st.one_of(st.none(), st.just("ann"), st.binary(max_size=9), st.integers(-9, 9)),
)
def test_no_row_makes_a_verb_fail(
    store: SqliteStore,
    raw: sqlite3.Connection,
    control: object,
    data: object,
    tombstone: object,
    numbers: dict[str, object],
    user: object,
) -> None:
    """Truncated, swapped, bit-flipped or of another type: it is no session, and the rest of the store goes on."""
    session_id, intact = new_id(), new_id()
    drive(store.create(session_id, _RECORD))
    drive(store.create(intact, _RECORD))
    columns = {"control": control, "data": data, "tombstone": tombstone, "user": user, **numbers}
    assignments = ", ".join(f"{name} = ?" for name in columns)
    raw.execute(f"UPDATE session SET {assignments} WHERE id = ?", (*columns.values(), session_id))
    if isinstance(user, bytes):
        raw.execute("UPDATE session SET user = CAST(user AS TEXT) WHERE id = ?", (session_id,))

    loaded = drive(store.load(session_id))
    assert isinstance(loaded, Record | Tombstone | Unreadable)
    if not isinstance(loaded, Record):
        assert isinstance(drive(store.save(session_id, changing(_RECORD, a=1), _RECORD)), Gone)
    drive(store.touch(session_id, _RECORD.seen_at, _RECORD.expires_at))
    assert drive(store.create(session_id, _RECORD)) == Taken()
    assert intact in dict(drive(store.of_user("ann")))
    assert intact in dict(drive(store.scan(None, 100)).sessions)
    drive(store.stats(time.time()))
    drive(store.create(new_id(), new_record("ann"), replaces=replacing(session_id, _RECORD), limit=5))
    drive(store.end(session_id, new_tombstone()))
    assert not isinstance(drive(store.load(session_id)), Record)
    assert isinstance(drive(store.load(intact)), Record)
    drive(store.end_user("ann", new_tombstone()))
    for _ in range(3):
        drive(store.sweep(time.time() + 9 * IDLE, 100))
    raw.execute("DELETE FROM session")


@requirement("R45")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.one_of(st.none(), st.integers(0, 20_000)), flips=st.lists(st.integers(0, 8 * 28_000), max_size=40))
def test_no_damage_to_the_file_lets_another_exception_escape(tmp_path: Path, cut: int | None, flips: list[int]) -> None:
    """Truncated or bit-flipped pages are an outage or an answer, never a raw error."""
    file = tmp_path / f"{new_id()}.db"
    store, ids = SqliteStore(file, blocking=True), [new_id() for _ in range(10)]
    for number, session_id in enumerate(ids):
        drive(store.create(session_id, new_record(f"user {number}", owner=number)))
    drive(store.close())
    content = bytearray(file.read_bytes()[:cut])
    for flip in flips:
        if flip // 8 < len(content):
            content[flip // 8] ^= 1 << flip % 8
    file.write_bytes(content)
    store = SqliteStore(file, blocking=True, wait=0.2)
    for session_id in ids:
        with suppress(StoreError):
            drive(store.load(session_id))
        with suppress(StoreError):
            drive(store.save(session_id, changing(_RECORD, a=1), _RECORD))
        with suppress(StoreError):
            drive(store.end(session_id, new_tombstone()))
    for verb in (
        store.of_user("user 1"),
        store.stats(0.0),
        store.scan(None, 5),
        store.sweep(time.time() + 9 * IDLE, 5),
    ):
        with suppress(StoreError):
            drive(verb)
    with suppress(StoreError):
        drive(store.close())


def test_a_created_session_answers_the_same_through_both_doors(path: Path, store: SqliteStore) -> None:
    """The file knows nothing of doors."""
    session_id, record = new_id(), new_record("ann", a=0)
    assert drive(store.create(session_id, record)) == Created()
    other = SqliteStore(path, blocking=False)

    async def main() -> None:
        loaded = await other.load(session_id)
        assert isinstance(loaded, Record)
        assert msgspec.structs.replace(loaded, data={}) == msgspec.structs.replace(record, data={})
        await other.close()

    asyncio.run(main())
