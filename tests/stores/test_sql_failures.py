"""The SQL store when something breaks: it fails closed and in time, says nothing of what it held, and comes back."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from sessile.core.bridge import drive
from sessile.core.ports import Created
from sessile.core.record import Record
from sessile.errors import StoreError, StoreFull, StoreUnavailable
from sessile.stores import open_store
from sessile.stores.sql import SqlStore
from sessile.stores.sql.faults import Fault, fault_of, store_error
from sessile.testing.store_contract import changing, new_id, new_record, new_tombstone, values
from tests.stores.sql_databases import Database, Kind, database, doors, frozen, kinds
from tests.support.requirements import requirement
from tests.support.servers import Server, mariadb, postgres


def run(blocking: bool, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine through the door that is tested."""
    return drive(coroutine) if blocking else asyncio.run(coroutine)


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Start a server that may be stopped."""
    with (postgres if request.param == "postgresql" else mariadb)() as server:
        yield server


@pytest.fixture
def own(own_server: Server) -> Iterator[Database]:
    """Lend a database of that server, which runs again when the test begins."""
    if not own_server.is_running:
        own_server.start()
    kind: Kind = "postgresql" if own_server.url.startswith("postgresql") else "mariadb"
    with database(kind, own_server) as made:
        yield made


async def all_fail(store: Any, session_id: str, record: Record, *, within: float) -> None:
    """Ask every verb; each must fail as the store's own error, in time, and name nothing."""
    for verb in (
        lambda: store.load(session_id),
        lambda: store.create(new_id(), record),
        lambda: store.save(session_id, changing(record, a=1), record),
        lambda: store.touch(session_id, 1.0, 1.0),
        lambda: store.end(session_id, new_tombstone()),
        lambda: store.of_user("ann"),
        lambda: store.end_user("ann", new_tombstone()),
        lambda: store.end_everything(1.0),
        lambda: store.sweep(time.time() + 9e9, 10),
        lambda: store.scan(None, 10),
        store.diagnose,
    ):
        start = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            await verb()
        assert time.monotonic() - start < within
        said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
        assert session_id not in said
        assert "127.0.0.1" not in said
        assert "ann" not in said


@requirement("R45")
@doors
def test_a_server_that_is_gone_fails_every_verb_and_is_found_again(own: Database, blocking: bool) -> None:
    """T8: killed, and started again: the store recovers by itself, with what had been acknowledged."""

    async def main() -> None:
        store = own.open("timeout=2", blocking=blocking)
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        own.server.stop(signal.SIGINT if own.kind == "postgresql" else signal.SIGTERM)
        await all_fail(store, session_id, record, within=15)
        own.server.start()
        assert values(await store.load(session_id)) == {"a": 0}
        assert values(await store.save(session_id, changing(record, a=1), record)) == {"a": 1}
        await store.close()

    run(blocking, main())


@requirement("R45")
@doors
def test_a_server_that_hangs_costs_each_verb_its_budget(own: Database, blocking: bool) -> None:
    """T8: all its processes are stopped; connections stay open and nothing answers. Thawed, it is used again."""

    async def main() -> None:
        store = own.open("timeout=0.5", blocking=blocking)
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        with frozen(own.server):
            # The pooled connection hangs in use; what follows hangs while it connects, where libpq takes two seconds.
            start = time.monotonic()
            with pytest.raises(StoreUnavailable, match="did not answer in time"):
                await store.load(session_id)
            assert time.monotonic() - start < 10
            start = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.end(session_id, new_tombstone())
            assert time.monotonic() - start < 12
        assert values(await store.load(session_id)) == {"a": 0}
        assert [found for found, _ in (await store.end(session_id, new_tombstone())).ended] == [session_id]
        await store.close()

    run(blocking, main())


@kinds
@doors
def test_connections_that_were_ended_while_idle_fail_no_request(kind: Kind, blocking: bool) -> None:
    """Whatever verb comes next finds out before it begins, without a round trip, and uses another connection."""

    async def main() -> None:
        store = made.open(blocking=blocking)
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        read = await store.load(session_id)
        other = new_id()
        for verb in (
            lambda: store.load(session_id),
            lambda: store.create(other, record),
            lambda: store.save(session_id, changing(read, a=1), read),
            lambda: store.touch(session_id, 1.0, 1.0),
            lambda: store.save(session_id, changing(record, b=1), record),
            lambda: store.end_user("nobody", new_tombstone()),
            lambda: store.end(session_id, new_tombstone()),
        ):
            assert end_backends(made) >= 1
            answer = await verb()
        assert [found for found, _ in answer.ended] == [session_id]
        assert isinstance(await store.load(other), Record)
        await store.close()

    with database(kind) as made:
        run(blocking, main())


def end_backends(made: Database) -> int:
    """End every other connection to the database, and wait until they are gone; return how many there were."""
    if made.kind == "postgresql":
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ended = made.run(f"SELECT pg_terminate_backend(pid, 5000) {others}")
        return len(ended)
    ids = [row[0] for row in made.run("SELECT id FROM information_schema.processlist WHERE db = database()")]
    with closing(made.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{made.name}'"
                       " AND id <> connection_id()")  # fmt: skip
        ids = [row[0] for row in cursor.fetchall()]
        for one in ids:
            cursor.execute(f"KILL {one}")
        deadline = time.monotonic() + 5
        while ids:
            cursor.execute(
                f"SELECT count(*) FROM information_schema.processlist WHERE id IN ({', '.join(map(str, ids))})"
            )
            if not cursor.fetchone()[0]:
                break
            assert time.monotonic() < deadline
            time.sleep(0.01)
    return len(ids)


@kinds
@doors
def test_a_transaction_that_loses_its_connection_is_done_once_on_another(kind: Kind, blocking: bool) -> None:
    """The backend is ended while it waits for a row: nothing was committed, so the whole is done again."""

    async def main() -> None:
        store = made.open(blocking=blocking)
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        with closing(made.connect()) as other:
            cursor = other.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT id FROM sessile_session FOR UPDATE")

            def interrupt() -> None:
                waiter = await_waiter(made)
                made.run(f"SELECT pg_terminate_backend({waiter})" if kind == "postgresql" else f"KILL {waiter}")
                await_waiter(made, other_than=waiter)
                cursor.execute("ROLLBACK")

            thread = threading.Thread(target=interrupt)
            thread.start()
            saved = await store.save(session_id, changing(record, a=1), record)
            thread.join()
        assert values(saved) == {"a": 1}
        assert saved.version == 1
        await store.close()

    with database(kind) as made:
        run(blocking, main())


def await_waiter(made: Database, *, other_than: int = 0) -> int:
    """Wait until a connection waits for a lock; return its number."""
    if made.kind == "postgresql":
        query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    else:
        query = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    deadline = time.monotonic() + 10
    while True:
        for row in made.run(query):
            if row[0] != other_than:
                return int(row[0])
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.15)  # InnoDB shows the same picture again to whoever looks more often than every 0.1 s


class Cutting:
    """Stand before a server, and cut the line when the client sends some words: before they arrive, or after."""

    def __init__(self, port: int) -> None:
        self.words = b""
        self.deliver = False
        self.cut = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._up, args=(client, upstream), daemon=True).start()
            threading.Thread(target=self._down, args=(upstream, client), daemon=True).start()

    def _up(self, client: socket.socket, upstream: socket.socket) -> None:
        while chunk := _received(client):
            if self.words and self.words in chunk:
                self.words = b""
                self.cut += 1
                client.shutdown(socket.SHUT_RDWR)
                if self.deliver:
                    upstream.sendall(chunk)
                break
            upstream.sendall(chunk)
        with suppress(OSError):
            upstream.shutdown(socket.SHUT_WR)  # the server reads what was sent before it sees the end
        client.close()

    def _down(self, upstream: socket.socket, client: socket.socket) -> None:
        while chunk := _received(upstream):
            with suppress(OSError):  # nobody listens any more
                client.sendall(chunk)
        upstream.close()


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 20)
    except OSError:
        return b""


@kinds
@doors
@pytest.mark.parametrize("deliver", [False, True], ids=["lost", "delivered"])
def test_a_commit_whose_answer_is_lost_is_an_error_and_never_half_done(
    kind: Kind, blocking: bool, deliver: bool
) -> None:
    """Nobody can know what became of it: the caller is told, and finds all of it or nothing."""

    async def main(cutting: Cutting) -> None:
        store = open_store(made.url(port=cutting.port, options="timeout=2"), blocking=blocking)
        old_id, old, successor = new_id(), new_record("ann"), new_id()
        await store.create(old_id, old)
        cutting.deliver, cutting.words = deliver, b"COMMIT\0" if kind == "postgresql" else b"\x03COMMIT"
        from sessile.testing.store_contract import replacing

        with pytest.raises(StoreUnavailable):
            await store.create(successor, new_record("ann"), replaces=replacing(old_id, old, required=True))
        assert cutting.cut == 1
        deadline = time.monotonic() + 5
        while True:  # the server may still be busy with what it was sent
            alive = [isinstance(await store.load(one), Record) for one in (old_id, successor)]
            if alive == ([False, True] if deliver else [True, False]):
                break
            assert time.monotonic() < deadline, alive
        await store.close()

    with database(kind) as made:
        cutting = Cutting(made.server.port)
        try:
            run(blocking, main(cutting))
        finally:
            cutting.close()


@kinds
@doors
def test_a_single_write_whose_line_is_cut_is_not_repeated(kind: Kind, blocking: bool) -> None:
    """A save in one statement may have been done: it is not done twice; a touch is, because twice is once."""

    async def main(cutting: Cutting) -> None:
        store = open_store(made.url(port=cutting.port, options="timeout=2"), blocking=blocking)
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        read: Any = await store.load(session_id)
        cutting.words = b"UPDATE sessile_session"
        with pytest.raises(StoreUnavailable, match="lost"):
            await store.save(session_id, changing(read, a=1), read)
        assert values(await store.load(session_id)) == {"a": 0}
        cutting.words = b"UPDATE sessile_session"
        await store.touch(session_id, read.seen_at + 7, read.expires_at)
        touched: Any = await store.load(session_id)
        assert touched.seen_at == read.seen_at + 7
        cutting.words = b"SELECT sessile_session"
        assert isinstance(await store.load(session_id), Record)
        assert cutting.cut == 3
        await store.close()

    with database(kind) as made:
        cutting = Cutting(made.server.port)
        try:
            run(blocking, main(cutting))
        finally:
            cutting.close()


@requirement("R45")
@doors
def test_a_server_that_takes_no_writes_is_unavailable(own: Database, blocking: bool) -> None:
    """A primary that was demoted: PostgreSQL is not even read, MariaDB's writes fail; afterwards all is well."""

    async def main() -> None:
        store = own.open("timeout=2", blocking=blocking)
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        if own.kind == "postgresql":
            own.run(f"ALTER DATABASE {own.name} SET default_transaction_read_only = on")
            end_backends(own)
            with pytest.raises(StoreUnavailable):
                await store.load(session_id)
        else:
            own.run("CREATE USER IF NOT EXISTS app@'127.0.0.1' IDENTIFIED BY 'app'",
                    f"GRANT SELECT, INSERT, UPDATE, DELETE ON {own.name}.* TO app@'127.0.0.1'",
                    "SET GLOBAL read_only = ON")  # fmt: skip
            await store.close()
            store = open_store(own.url(user="app:app", options="timeout=2"), blocking=blocking)
        for verb in (
            lambda: store.create(new_id(), record),
            lambda: store.save(session_id, changing(record, a=1), record),
            lambda: store.end(session_id, new_tombstone()),
        ):
            with pytest.raises(StoreUnavailable):
                await verb()
        if own.kind == "postgresql":
            with closing(own.connect()) as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute(f"ALTER DATABASE {own.name} RESET default_transaction_read_only")
        else:
            own.run("SET GLOBAL read_only = OFF")
        assert values(await store.save(session_id, changing(record, a=1), record)) == {"a": 1}
        await store.close()

    run(blocking, main())


def test_a_full_disk_is_said_to_be_full_and_leaves_what_was() -> None:
    """T8: the tablespace's file system has no room left; reads go on, writes come back when there is room."""
    if os.geteuid() != 0:
        pytest.skip("needs to mount a small file system")
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0777", "tmpfs", place], check=False, capture_output=True
        )
        if mounted.returncode:
            pytest.skip("mounting is not allowed here")
        try:
            with postgres() as server, database("postgresql", server) as made:
                target = os.path.join(place, "space")
                os.mkdir(target)
                os.chown(target, os.stat(server.folder).st_uid, -1)
                os.chmod(target, 0o700)
                made.run(
                    f"CREATE TABLESPACE small LOCATION '{target}'", "ALTER TABLE sessile_session SET TABLESPACE small"
                )
                ballast = Path(place, "ballast")
                ballast.write_bytes(bytes(2**20))
                store = made.open()
                first, record = new_id(), new_record("ann", a="x" * 1000)
                drive(store.create(first, record))
                big = new_record("ann", **{f"k{n}": os.urandom(4000).hex() for n in range(20)})
                ids: list[str] = []
                with pytest.raises(StoreFull):  # noqa: PT012 - which write is the last is not ours to know
                    for _ in range(500):
                        ids.append(new_id())
                        drive(store.create(ids[-1], big))
                assert drive(store.load(ids[-1])) is None
                assert isinstance(drive(store.load(first)), Record)
                ballast.unlink()
                assert drive(store.create(new_id(), big)) == Created()
                drive(store.close())
        finally:
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


# -- processes, threads, loops


@kinds
@pytest.mark.parametrize("given", [False, True], ids=["own engine", "given engine"])
def test_a_forked_child_uses_connections_of_its_own(kind: Kind, given: bool) -> None:
    """Parent and children go on, none of them reads another's answers; an engine of the application's as well."""
    with database(kind) as made:
        engine = made.engine()
        store: Any = SqlStore(engine) if given else made.open()
        ids = {number: new_id() for number in range(3)}
        for number, session_id in ids.items():
            drive(store.create(session_id, new_record(number=number)))
        context = multiprocessing.get_context("fork")

        def child(number: int) -> None:
            for _ in range(100):
                assert values(drive(store.load(ids[number]))) == {"number": number}
            drive(store.close())

        children = [context.Process(target=child, args=(number,)) for number in (1, 2)]
        for one in children:
            one.start()
        for _ in range(100):
            assert values(drive(store.load(ids[0]))) == {"number": 0}
        for one in children:
            one.join(30)
            assert one.exitcode == 0
        assert values(drive(store.load(ids[0]))) == {"number": 0}
        drive(store.close())
        engine.dispose()


@kinds
def test_event_loops_one_after_the_other_each_have_their_own_connections(kind: Kind) -> None:
    """What a closed loop left is closed with the next one; no warning, no connection too many."""
    with database(kind) as made:
        store = made.open(blocking=False)
        session_id = new_id()
        asyncio.run(store.create(session_id, new_record("ann")))
        for _ in range(10):
            assert isinstance(asyncio.run(store.load(session_id)), Record)
        gc.collect()
        assert connections(made) <= 1
        asyncio.run(store.close())
        gc.collect()
        assert connections(made) == 0


def connections(made: Database) -> int:
    """Count the store's connections, when those that were closed are gone."""
    if made.kind == "postgresql":
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    else:
        query = "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
    deadline, count = time.monotonic() + 2, 99
    while time.monotonic() < deadline:
        count = int(made.run(query)[0][0])
        if count == 0:
            break
        time.sleep(0.02)
    return count


@kinds
@doors
def test_a_pool_that_is_empty_makes_others_wait_and_then_fail(kind: Kind, blocking: bool) -> None:
    """More requests than connections wait for their turn; one that waits for longer than its budget is told."""

    async def main() -> None:
        store = made.open("pool=2&timeout=3", blocking=blocking)
        session_id, record = new_id(), new_record(a=0)
        await store.create(session_id, record)
        from tests.stores.test_sql_concurrency import together

        loads = await together(blocking, *(lambda: store.load(session_id) for _ in range(30)))
        assert all(isinstance(loaded, Record) for loaded in loads)
        with closing(made.connect()) as other:
            cursor = other.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT id FROM sessile_session FOR UPDATE")

            async def save() -> Any:
                try:
                    return await store.save(session_id, changing(record, a=1), record)
                except StoreError as error:
                    return error

            start = time.monotonic()
            answers = await together(blocking, *(save for _ in range(6)))
            assert time.monotonic() - start < 8
            assert all(isinstance(answer, StoreUnavailable) for answer in answers)
            cursor.execute("ROLLBACK")
        assert values(await store.load(session_id)) == {"a": 0}
        await store.close()

    with database(kind) as made:
        run(blocking, main())


@kinds
def test_a_request_that_is_cancelled_leaves_no_connection_in_a_strange_state(kind: Kind) -> None:
    """The client went away in the middle of a statement: the connection is thrown away, nothing of it is committed."""

    async def main() -> None:
        store = made.open("pool=1", blocking=False)
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        with closing(made.connect()) as other:
            cursor = other.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT id FROM sessile_session FOR UPDATE")
            task = asyncio.create_task(store.end(session_id, new_tombstone()))
            await asyncio.to_thread(await_waiter, made)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cursor.execute("ROLLBACK")
        for turn in range(20):
            task = asyncio.create_task(store.load(session_id))
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert values(await store.load(session_id)) == {"a": 0}
        await store.close()

    with database(kind) as made:
        asyncio.run(main())


# -- what errors mean


def test_errors_are_told_apart_and_say_nothing() -> None:
    """By SQLSTATE, by number, by kind; an error that nobody has seen is a failure of the store."""

    class Odd(Exception):
        sqlstate = "40001"

    from pymysql.err import OperationalError

    assert fault_of(Odd("DETAIL: key (id)=(secret)")) is Fault.AGAIN
    assert fault_of(OperationalError(1213, "secret")) is Fault.AGAIN
    assert fault_of(OperationalError(2006, "secret")) is Fault.LOST
    assert fault_of(OperationalError(1021, "secret")) is Fault.FULL
    assert fault_of(ConnectionResetError("secret")) is Fault.LOST
    assert fault_of(TimeoutError()) is Fault.LATE
    assert fault_of(RuntimeError("secret")) is Fault.FAILED
    for fault in Fault:
        assert "secret" not in str(store_error(fault))
