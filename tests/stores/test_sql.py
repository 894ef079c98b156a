"""The SQL store: the contract through both doors on both databases, what rows may hold, how often the wire is used."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine

from sessile.core.bridge import drive
from sessile.core.ports import (
    AtLimit,
    Census,
    Created,
    Diagnosable,
    Epochs,
    Gone,
    Retiring,
    Stale,
    Store,
    Sweeping,
    Taken,
    UserIndex,
)
from sessile.core.record import EndReason, Record, Unreadable, encode_control, encode_data
from sessile.errors import ConfigurationError, StoreUnavailable
from sessile.stores import open_store
from sessile.stores.sql import SqlStore
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
from tests.stores.sql_databases import Database, Kind, database, doors, kinds, opened
from tests.support.requirements import requirement


class _OnDatabase(StoreContract):
    kind: Kind
    rounds = 100

    @pytest.fixture(autouse=True)
    def _database(self) -> Iterator[None]:
        with database(self.kind) as made:
            self.database = made
            yield

    def open_store(self) -> Store:
        return self.database.open(blocking=self.blocking)


class TestPostgresqlBlocking(_OnDatabase):
    """The contract, driven by threads, on PostgreSQL."""

    kind = "postgresql"
    blocking = True


class TestPostgresqlAsync(_OnDatabase):
    """The contract, driven by an event loop, on PostgreSQL."""

    kind = "postgresql"


class TestMariadbBlocking(_OnDatabase):
    """The contract, driven by threads, on MariaDB."""

    kind = "mariadb"
    blocking = True


class TestMariadbAsync(_OnDatabase):
    """The contract, driven by an event loop, on MariaDB."""

    kind = "mariadb"


class _OnGivenEngine(_OnDatabase):
    rounds = 20

    def open_store(self) -> Store:
        self.store = SqlStore(self.database.engine(blocking=self.blocking))
        return self.store


class TestGivenEnginePostgresql(_OnGivenEngine):
    """The contract on the application's own Engine."""

    kind = "postgresql"
    blocking = True

    @pytest.fixture(autouse=True)
    def _dispose(self, _database: None) -> Iterator[None]:
        yield
        if hasattr(self, "store"):
            self.store._engines.current().dispose()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_borrowed_connection_is_given_back_as_it_was(kind: Kind) -> None:
    """The application's own queries may take longer than a verb of ours."""
    with opened(kind) as (made, _):
        engine = made.engine(blocking=True)
        names = ("deadline", "_read_timeout", "_write_timeout")

        def limits() -> dict[str, Any]:
            with engine.connect() as connection:
                raw = connection.connection.dbapi_connection
                return {name: getattr(raw, name) for name in names if hasattr(raw, name)}

        before = limits()
        store = SqlStore(engine, timeout=1.0)
        assert drive(store.load(new_id())) is None
        assert limits() == before
        engine.dispose()


class TestGivenEngineMariadb(TestGivenEnginePostgresql):
    """The contract on the application's own Engine."""

    kind = "mariadb"


def run(blocking: bool, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine through the door that is tested."""
    return drive(coroutine) if blocking else asyncio.run(coroutine)


@kinds
def test_the_applications_async_engine_serves_as_well(kind: Kind) -> None:
    """Its connections are lent and given back; closing the store leaves the engine to its owner."""

    async def main(made: Database) -> None:
        own = made.engine(blocking=False)
        store = SqlStore(own)
        session_id, record = new_id(), new_record("ann", a=0)
        assert await store.create(session_id, record) == Created()
        read = await store.load(session_id)
        assert isinstance(read, Record)
        assert values(await store.save(session_id, changing(read, a=1), read)) == {"a": 1}
        assert (await store.end(session_id, new_tombstone())).ended == ((session_id, "ann"),)
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.load(session_id)
        async with own.connect() as connection:
            assert (await connection.exec_driver_sql("SELECT 1")).scalar() == 1
        await own.dispose()

    with database(kind) as made:
        asyncio.run(main(made))


def test_the_store_has_every_power() -> None:
    """What further interfaces ask for is there."""
    store = open_store("postgresql://127.0.0.1/nowhere", blocking=True)
    for power in (UserIndex, Epochs, Sweeping, Census, Retiring, Diagnosable):
        assert isinstance(store, power)


# -- saves that hope


@kinds
@doors
def test_a_save_over_what_was_read_keeps_what_others_wrote(kind: Kind, blocking: bool) -> None:
    """The hopeful UPDATE misses a row that somebody wrote to or touched; then the row is locked and merged (R43)."""

    async def main() -> None:
        store = made.open(blocking=blocking)
        session_id, record = new_id(), new_record(a=0, b=0)
        await store.create(session_id, record)
        read: Any = await store.load(session_id)
        first = await store.save(session_id, changing(read, a=1), read)
        second = await store.save(session_id, changing(read, b=2), read)
        assert values(first) == {"a": 1, "b": 0}
        assert values(second) == {"a": 1, "b": 2}
        assert_same(await store.load(session_id), second)
        await store.touch(session_id, read.seen_at + 5, read.expires_at + 5)
        third = await store.save(session_id, changing(second, c=3), second)
        assert (third.seen_at, third.expires_at) == (read.seen_at + 5, read.expires_at + 5)
        assert_same(await store.load(session_id), third)
        fourth = await store.save(session_id, changing(third, d=4), third)
        assert_same(await store.load(session_id), fourth)
        await store.end_everything(time.time())
        assert isinstance(await store.save(session_id, changing(fourth, e=5), fourth), Gone)
        await store.close()

    with database(kind) as made:
        run(blocking, main())


@kinds
def test_a_session_is_let_go_only_if_nobody_wrote_to_it(kind: Kind) -> None:
    """`retire` ends it over the revision and version that were read, answers Stale else, and Gone when it is ended."""
    with opened(kind) as (_, opened_store):
        store: Any = opened_store
        session_id, record, moved = new_id(), new_record("ann", a=0), new_tombstone(EndReason.MOVED, "ann")
        drive(store.create(session_id, record))
        saved = drive(store.save(session_id, changing(record, a=1), record))
        answer = drive(store.retire(session_id, moved, revision=record.revision, version=record.version))
        assert isinstance(answer, Stale)
        assert_same(answer.record, saved)
        assert_same(drive(store.load(session_id)), saved)
        ending = drive(store.retire(session_id, moved, revision=saved.revision, version=saved.version))
        assert ending.ended == ((session_id, "ann"),)
        assert drive(store.load(session_id)) == moved
        assert drive(store.retire(session_id, moved, revision=0, version=0)) == Gone(moved)
        assert drive(store.retire(new_id(), moved, revision=0, version=0)) == Gone()


@kinds
def test_what_is_no_id_is_no_session_and_cannot_become_one(kind: Kind) -> None:
    """Other spellings of an id find nothing; creating under what is none is a programming error."""
    with opened(kind) as (_, store):
        session_id = "ab" * 20
        drive(store.create(session_id, new_record("ann")))
        for other in (session_id.upper(), f" {session_id}", session_id[:-1], session_id + "00", "ab " * 20):
            assert drive(store.load(other)) is None
            assert drive(store.end(other, new_tombstone())).ended == ()
            with pytest.raises(ValueError, match="40 hexadecimal"):
                drive(store.create(other, new_record()))
        assert drive(store.create(session_id, new_record())) == Taken()


# -- rows that others wrote

_GARBAGE: dict[str, list[bytes | None]] = {
    "control": [b"", b"\xff" * 40, b"\x80", b"\xc1", None],
    "data": [b"", b"\xff\x00", b"\x93\x01\x02\x03", b"\xdf\xff\xff\xff\xff", None],
    "tombstone": [b"", b"\x00", b"\xff" * 3],
}


def write(made: Database, column: str, value: str) -> None:
    """Write behind the store's back."""
    made.run(f"UPDATE sessile_session SET {column} = {value}")


def literal(kind: Kind, value: bytes | None) -> str:
    """Write bytes as the database reads them."""
    if value is None:
        return "NULL"
    return f"'\\x{value.hex()}'" if kind == "postgresql" else f"X'{value.hex()}'"


@requirement("R46")
@kinds
def test_garbage_in_a_column_is_no_session_and_no_error(kind: Kind) -> None:
    """Bytes that are none of ours read as unreadable in every verb; the session can still be ended and swept."""
    with opened(kind) as (made, opened_store):
        store: Any = opened_store
        for column, garbage in _GARBAGE.items():
            for value in garbage:
                session_id, record = new_id(), new_record("ann", a=0)
                made.run("DELETE FROM sessile_session")
                drive(store.create(session_id, record))
                write(made, column, literal(kind, value))
                assert isinstance(drive(store.load(session_id)), Unreadable), (column, value)
                assert drive(store.save(session_id, changing(record, a=1), record)) == Gone()
                drive(store.touch(session_id, 1.0, 1.0))
                assert drive(store.of_user("ann")) == ()
                assert drive(store.scan(None, 10)).sessions == ()
                assert isinstance(drive(store.stats(time.time())).live, int)
                assert drive(store.create(session_id, new_record())) == Taken()
                replaces = replacing(session_id, record)
                assert drive(store.create(new_id(), new_record(), replaces=replaces)) == Created()
                if column != "tombstone":
                    assert [found for found, _ in drive(store.end(session_id, new_tombstone())).ended] == [session_id]
                assert session_id in {found for found, _ in drive(store.sweep(time.time() + 9e9, 50))}


@requirement("R46")
@kinds
def test_numbers_that_make_no_sense_are_no_session(kind: Kind) -> None:
    """Not-a-number and infinite times, where the database has them; epochs that never were."""
    times = ["'NaN'", "'Infinity'", "'-Infinity'"] if kind == "postgresql" else []
    with opened(kind) as (made, store):
        session_id = new_id()
        drive(store.create(session_id, new_record("ann")))
        for column in ("seen_at", "expires_at"):
            for value in times:
                write(made, column, value)
                assert isinstance(drive(store.load(session_id)), Unreadable)
                write(made, column, "1")
        for epoch in ("99", "-99"):
            write(made, "epoch", epoch)
            assert not isinstance(drive(store.load(session_id)), Record)
        write(made, "epoch", "0")
        write(made, "revision", "-1")
        assert isinstance(drive(store.load(session_id)), Record)


@kinds
def test_users_of_any_name_can_be_ended_even_if_their_sessions_cannot_be_read(kind: Kind) -> None:
    """The index is a column of its own."""
    with opened(kind) as (made, opened_store):
        store: Any = opened_store
        names = ["ann", "Ann", "ann ", "änn", "\0", "\ud800", "x" * 5000, ""]
        ids = {name: new_id() for name in names}
        record = new_record()
        for name, session_id in ids.items():
            control = msgspec.structs.replace(record.control, user=name if name != "\ud800" else "ok")
            drive(store.create(session_id, msgspec.structs.replace(record, control=control)))
        write(made, "control", literal(kind, b"\xff"))
        for name, session_id in ids.items():
            if name != "\ud800":
                assert drive(store.end_user(name, new_tombstone())).ended == ((session_id, name),)
        assert drive(store.end_user("\ud800", new_tombstone())).ended == ()


def test_the_halves_are_stored_by_the_codec() -> None:
    """Both go through it with the session's id; what it refuses is unreadable."""

    class Reversing:
        def encode_control(self, session_id: str, control: Any) -> bytes:
            return session_id.encode() + encode_control(control)

        def decode_control(self, session_id: str, raw: Any) -> Any:
            from sessile.core.record import Undecodable, decode_control

            if not bytes(raw).startswith(session_id.encode()):
                raise Undecodable("sealed for another")
            return decode_control(bytes(raw)[40:])

        def encode_data(self, session_id: str, data: Any) -> bytes:
            return encode_data(data)[::-1]

        def decode_data(self, session_id: str, raw: Any) -> Any:
            from sessile.core.record import decode_data

            return decode_data(bytes(raw)[::-1])

    with database("postgresql") as made:
        store: Any = open_store(made.url(), blocking=True, codec=Reversing())
        session_id, record = new_id(), new_record("ann", a=1)
        drive(store.create(session_id, record))
        assert_same(drive(store.load(session_id)), record)
        assert values(drive(store.save(session_id, changing(record, b=2), record))) == {"a": 1, "b": 2}
        assert [found for found, _ in drive(store.of_user("ann"))] == [session_id]
        made.run(f"UPDATE sessile_session SET id = '\\x{'00' * 20}'")
        assert drive(store.load("00" * 20)) == Unreadable("sealed for another")
        drive(store.close())


# -- the wire


class Wire:
    """Stand between the store and a server, and count how often the client waits for an answer."""

    def __init__(self, port: int) -> None:
        self.trips = 0
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
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked = threading.Event()
            threading.Thread(target=self._pump, args=(client, upstream, asked, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(upstream, client, asked, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, asked: threading.Event, asking: bool) -> None:
        with closing(source):
            while True:
                try:
                    chunk = source.recv(1 << 20)
                    if not chunk:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    if asking and not asked.is_set():
                        self.trips += 1  # the first words after an answer
                        asked.set()
                    elif not asking:
                        asked.clear()
                    sink.sendall(chunk)
                except OSError:
                    return


@contextmanager
def wired(made: Database) -> Iterator[Wire]:
    wire = Wire(made.server.port)
    try:
        yield wire
    finally:
        wire.close()


@kinds
@doors
def test_a_read_is_one_round_trip_and_so_is_a_write(kind: Kind, blocking: bool) -> None:
    """Load, touch, plain create, and a save over what was read; what must hold together pays for its transaction."""

    async def main(wire: Wire) -> dict[str, int]:
        store: Any = open_store(made.url(port=wire.port), blocking=blocking)
        session_id, record = new_id(), new_record("ann", a=0)
        await store.create(session_id, record)
        for _ in range(8):  # psycopg prepares what it has seen five times
            await store.load(session_id)

        async def trips(verb: Callable[[], Coroutine[Any, Any, Any]]) -> int:
            before = wire.trips
            await verb()
            return wire.trips - before

        read = await store.load(session_id)
        counted = {
            "load": await trips(lambda: store.load(session_id)),
            "nothing": await trips(lambda: store.load(new_id())),
            "nonsense": await trips(lambda: store.load("../..")),
            "create": await trips(lambda: store.create(new_id(), record)),
            "save": await trips(lambda: store.save(session_id, changing(read, a=1), read)),
            "touch": await trips(lambda: store.touch(session_id, 1.0, 1.0)),
            "save again": await trips(lambda: store.save(session_id, changing(read, b=1), record)),
            "end": await trips(lambda: store.end(session_id, new_tombstone())),
        }
        await store.close()
        return counted

    with database(kind) as made, wired(made) as wire:
        counted = run(blocking, main(wire))
    ends = 6 if kind == "postgresql" else 5  # begin, durable, read, write, commit, and a look at what that means
    assert counted == {
        "load": 1, "nothing": 1, "nonsense": 0, "create": 1, "save": 1, "touch": 1, "save again": 4, "end": ends,
    }  # fmt: skip


# -- URLs


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("postgresql://host", "needs the name of a database"),
        ("mariadb://host/", "needs the name of a database"),
        ("mariadb:///sessions", "needs a host, or the option unix_socket"),
        ("mysql://a,b/sessions", "takes one host"),
        ("postgresql://host:port/sessions", "host or a port that is malformed"),
        ("postgresql://host:70000/sessions", "host or a port that is malformed"),
        ("postgresql://host:5_432/sessions", "host or a port that is malformed"),
        ("postgresql://host:+5432/sessions", "host or a port that is malformed"),
        ("postgresql://[::1]5432/sessions", "host or a port that is malformed"),
        ("mariadb://a..b/sessions", "host or a port that is malformed"),
        (f"mariadb://{'a' * 70}/sessions", "host or a port that is malformed"),
        ("postgresql://ho%00st/sessions", "host or a port that is malformed"),
        ("postgresql://host,a b/sessions", "host or a port that is malformed"),
        ("postgresql://host/sess/ions", "a database or a user that is malformed"),
        ("postgresql://host/sess%2Fions", "a database or a user that is malformed"),
        ("mariadb://host/sess%00ions", "a database or a user that is malformed"),
        ("postgresql://host/sess%0Aions", "a database or a user that is malformed"),
        ("mariadb://hunter2%00@host/sessions", "a database or a user that is malformed"),
        ("mariadb://u:hunter2%00@host/sessions", "a database or a user that is malformed"),
        ("postgresql://host/sessions?sslmode=junk", "verify-full"),
        ("postgresql://host/sessions?sslmode=verify_full", "verify-full"),
        ("postgresql://host/sessions?channel_binding=no", "disable or prefer or require"),
        ("postgresql://host/sessions?sslrootcert=a%00b", "'sslrootcert'"),
        ("mariadb://host/sessions?ssl_key=/no/such/file", "ssl_cert"),
        ("mariadb://host/sessions?ssl_key=/no/such/file&ssl_ca=/no/such/file", "ssl_cert"),
        ("mariadb://host/sessions?ssl_cert=/no/such/file", "cannot be read"),
        ("postgresql://host/sessions?timeout=1_0", "'timeout'"),
        ("postgresql://host/sessions?timeout=%201", "'timeout'"),
        ("postgresql://host/sessions?timeout=nan", "'timeout'"),
        ("postgresql://host/sessions?host=/run", "unix socket"),
        ("postgresql://host/sessions?timeout=0", "'timeout'"),
        ("postgresql://host/sessions?prefix=a%3Bb", "'prefix'"),
        ("postgresql://host/sessions?migrate=please", "no or auto"),
        ("postgresql://host/sessions?confirm=maybe", "replicas or primary"),
        ("postgresql://host/sessions?unix_socket=x", "it knows channel_binding"),
        ("mariadb://host/sessions?pgbouncer=yes", "no option 'pgbouncer'"),
        ("mariadb://host/sessions?ssl_ca=/no/such/file", "cannot be read"),
    ],
)
def test_a_wrong_url_is_refused_with_a_hint(url: str, hint: str) -> None:
    """At start, as a ConfigurationError that says what is missing."""
    with pytest.raises(ConfigurationError, match=re.escape(hint)):
        open_store(url, blocking=True)


@pytest.mark.parametrize("scheme", ["postgresql", "mariadb", "mysql"])
@doors
def test_opening_a_url_connects_to_nothing(scheme: str, blocking: bool) -> None:
    """The first verb does, and names neither host, user nor password when it fails (R45)."""
    url = f"{scheme}://hunter1:hunter2@127.0.0.1:1/hunter3"
    store = open_store(url, blocking=blocking)
    assert "hunter" not in repr(store)

    async def main() -> None:
        with pytest.raises(StoreUnavailable) as caught:
            await store.load(new_id())
        assert "hunter" not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        await store.close()

    run(blocking, main())


def test_an_engine_decides_the_door() -> None:
    """An Engine is for the blocking one, an AsyncEngine for the other; a plain URL goes through open_store."""
    own = create_engine("postgresql+psycopg://127.0.0.1/nowhere")
    with pytest.raises(ConfigurationError, match="AsyncEngine"):
        SqlStore(own, blocking=False)
    with pytest.raises(ConfigurationError, match="open_store"):
        SqlStore("postgresql://127.0.0.1/nowhere")
    with pytest.raises(ConfigurationError, match="seconds"):
        SqlStore(own, timeout=0)


def test_several_hosts_mean_the_one_that_takes_writes() -> None:
    """A host where nobody listens is passed over."""
    with database("postgresql") as made:
        port = made.server.port
        store = open_store(f"postgresql://sessile@127.0.0.1:1,127.0.0.1:{port}/{made.name}", blocking=True)
        assert drive(store.create(new_id(), new_record())) == Created()
        drive(store.close())


def test_a_unix_socket_is_reached_by_its_path() -> None:
    """As MariaDB's clients want it."""
    with database("mariadb") as made:
        path = made.server.folder / "s"
        store = open_store(f"mariadb://root@/{made.name}?unix_socket={path}", blocking=True)
        assert drive(store.create(new_id(), new_record())) == Created()
        drive(store.close())


def test_a_unix_socket_is_reached_by_its_folder() -> None:
    """As libpq wants it, the port in the socket's name."""
    with database("postgresql") as made:
        folder, port = made.server.folder, made.server.port
        (folder / ".s.PGSQL.5432").symlink_to(folder / f".s.PGSQL.{port}")
        try:
            store = open_store(f"postgresql://sessile@/{made.name}?host={folder}", blocking=True)
            assert drive(store.create(new_id(), new_record())) == Created()
            drive(store.close())
        finally:
            (folder / ".s.PGSQL.5432").unlink()


@kinds
def test_prefix_and_schema_name_the_tables(kind: Kind) -> None:
    """Two sets of sessions in one database know nothing of each other."""
    with database(kind) as made:
        if kind == "postgresql":
            made.run("CREATE SCHEMA apart")
        options = "prefix=other_" + ("&schema=apart" if kind == "postgresql" else "")
        one, other = made.open(), made.open(f"{options}&migrate=auto")
        session_id = new_id()
        drive(one.create(session_id, new_record("ann")))
        assert drive(other.load(session_id)) is None
        assert drive(other.create(session_id, new_record("bob"), limit=1)) == Created()
        assert isinstance(drive(other.create(new_id(), new_record("bob"), limit=1)), AtLimit)
        assert len(drive(one.of_user("ann"))) == 1
        drive(one.close())
        drive(other.close())
