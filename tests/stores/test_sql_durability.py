"""What a confirmed end is: looked at on servers with and without replicas, and told to operators by `doctor`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessile.core.bridge import drive
from sessile.core.ports import Diagnosis
from sessile.core.record import Record
from sessile.stores import open_store
from sessile.testing.store_contract import new_id, new_record, new_tombstone
from tests.stores.sql_databases import Database, connect, database, doors, execute, frozen, kinds, opened
from tests.support.ports import free_port
from tests.support.requirements import requirement
from tests.support.servers import Server, mariadb, postgres
from tests.support.servers.process import program

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    """Start a PostgreSQL that keeps what it says it keeps."""
    with postgres("wal_sender_timeout=60s", durable=True) as server:
        yield server


@contextmanager
def standby(primary: Server) -> Iterator[Server]:
    """Attach a streaming standby."""
    folder = primary.folder / f"standby-{new_id()[:8]}"
    prefix = primary.command[: -_words(primary.command)]
    copy = program("pg_basebackup", folders=("/usr/lib/postgresql/*/bin",))
    done = subprocess.run(
        [*prefix, copy, "-h", "127.0.0.1", "-p", str(primary.port), "-U", "sessile", "-D", str(folder), "-R",
         "--checkpoint=fast", "--no-sync"],
        cwd=primary.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    port = free_port()
    postgres_program = primary.command[-_words(primary.command)]
    command = [*prefix, postgres_program, "-D", str(folder)]
    for setting in (f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={primary.folder}",
                    "max_connections=200", "wal_receiver_status_interval=1s"):  # fmt: skip
        command += ["-c", setting]
    url = f"postgresql://sessile@127.0.0.1:{port}/sessile"
    server = Server(command, port=port, folder=folder, url=url, ready=lambda: _is_streaming(primary))
    server.start()
    try:
        yield server
    finally:
        server.stop(2)
        server.kill()


def _words(command: list[str]) -> int:
    """Return how many words of a command are the program and its arguments."""
    return len(command) - next(place for place, word in enumerate(command) if Path(word).name == "postgres")


def _is_streaming(primary: Server) -> bool:
    return bool(execute(primary, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")[0][0])


async def ended(store: Any) -> Any:
    """Create a session and end it."""
    session_id = new_id()
    await store.create(session_id, new_record("ann"))
    ending = await store.end(session_id, new_tombstone())
    assert [found for found, _ in ending.ended] == [session_id]
    assert not isinstance(await store.load(session_id), Record)
    return ending.confirmed


def confirmed(made: Database, options: str = "", *, blocking: bool = True, user: str | None = None) -> bool:
    """End a session through a store of its own; tell whether that was confirmed."""

    async def main() -> Any:
        store = open_store(made.url(options=options, user=user), blocking=blocking)
        try:
            return await ended(store)
        finally:
            await store.close()

    return bool(drive(main()) if blocking else asyncio.run(main()))


@requirement("R51")
@doors
def test_an_end_is_confirmed_when_it_is_on_the_primarys_disk(primary: Server, blocking: bool) -> None:
    """No replica is attached; a role that made commits lazy is overruled, for ends alone."""
    with database("postgresql", primary) as made:
        assert confirmed(made, blocking=blocking)
        for lazy in ("off", "local", "remote_write"):
            made.run(f"ALTER DATABASE {made.name} SET synchronous_commit = {lazy}")
            assert confirmed(made, blocking=blocking)


@requirement("R51")
def test_every_end_raises_synchronous_commit_and_only_ends_do(primary: Server) -> None:
    """The server's own log of settings, asked inside each transaction by a trigger."""
    with database("postgresql", primary) as made:
        made.run(
            "CREATE TABLE seen (what text, level text)",
            """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO seen VALUES (CASE WHEN TG_TABLE_NAME = 'sessile_epoch' THEN 'everything'
                    WHEN NEW.tombstone IS NULL THEN 'save' ELSE 'end' END, current_setting('synchronous_commit'));
                RETURN NEW; END $$""".replace("NEW.tombstone IS NULL", "to_jsonb(NEW) ->> 'tombstone' IS NULL"),
            "CREATE TRIGGER note AFTER UPDATE ON sessile_session FOR EACH ROW EXECUTE FUNCTION note()",
            "CREATE TRIGGER note AFTER INSERT ON sessile_epoch FOR EACH ROW EXECUTE FUNCTION note()",
            f"ALTER DATABASE {made.name} SET synchronous_commit = off",
        )
        store = made.open()
        one, two, record = new_id(), new_id(), new_record("ann", a=0)
        for session_id in (one, two):
            drive(store.create(session_id, record))
        drive(store.touch(one, record.seen_at + 1, record.expires_at + 1))
        drive(store.end(one, new_tombstone()))
        drive(store.end_user("ann", new_tombstone()))
        drive(store.end_everything(time.time()))
        drive(store.close())
        assert made.run("SELECT what, level FROM seen ORDER BY what, level") == [
            ("end", "on"), ("end", "on"), ("everything", "on"), ("save", "off"),
        ]  # fmt: skip


@requirement("R51")
def test_an_end_on_a_server_that_forgets_is_not_confirmed() -> None:
    """fsync off; and on MariaDB a log that is flushed once a second, or a binary log that is not."""
    with opened("postgresql") as (made, store):
        assert made.run("SHOW fsync")[0][0] == "off"
        assert not drive(ended(store))
    with opened("mariadb") as (made, store):
        assert made.run("SELECT @@innodb_flush_log_at_trx_commit")[0][0] == 0
        assert not drive(ended(store))
    with (
        mariadb("--log-bin=changes", "--server-id=1", "--sync-binlog=0", durable=True) as server,
        database("mariadb", server) as made,
    ):
        assert not confirmed(made)
        made.run("SET GLOBAL sync_binlog = 1")
        assert confirmed(made)
        made.run("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        assert not confirmed(made)
        assert not confirmed(made, "confirm=primary")


@requirement("R51")
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_who_asks_again_hears_no_more_than_is_known(kind: Any) -> None:
    """Nothing is left to end the second time, and the server has not learned to keep things meanwhile."""
    with opened(kind) as (_, store):
        for session_id in (first := new_id(), new_id()):
            drive(store.create(session_id, new_record("ann")))
        for _ in range(2):
            assert not drive(store.end(first, new_tombstone())).confirmed
        for _ in range(2):
            assert not drive(store.end_user("ann", new_tombstone())).confirmed
        assert not drive(store.end_everything(time.time())).confirmed


@requirement("R51")
@doors
def test_an_end_is_confirmed_when_every_standby_has_it(primary: Server, blocking: bool) -> None:
    """An asynchronous standby is waited for; one that hangs makes ends unconfirmed, and they are ended all the same."""
    with database("postgresql", primary) as made, standby(primary) as follower:
        assert confirmed(made, blocking=blocking)
        with frozen(follower):
            start = time.monotonic()
            assert not confirmed(made, blocking=blocking)
            assert 0.9 < time.monotonic() - start < 15
            assert confirmed(made, "confirm=primary", blocking=blocking)
        assert confirmed(made, blocking=blocking)


@requirement("R51")
def test_what_a_role_may_not_see_is_not_claimed(primary: Server) -> None:
    """Without pg_monitor nobody knows how far a standby is: unconfirmed, until the role is granted it."""
    with database("postgresql", primary) as made, standby(primary):
        execute(primary, "DROP ROLE IF EXISTS plain", "CREATE ROLE plain LOGIN")
        made.run("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO plain")
        assert not confirmed(made, "timeout=1", user="plain")
        store: Any = open_store(made.url(user="plain"), blocking=True)
        assert found(store, "sql-replicas").severity == "warn"
        drive(store.close())
        execute(primary, "GRANT pg_monitor TO plain")
        assert confirmed(made, user="plain")
        made.run("DROP OWNED BY plain", "DROP ROLE plain")


@requirement("R51")
def test_mariadb_confirms_with_replicas_only_when_one_acknowledged() -> None:
    """An asynchronous replica makes ends unconfirmed; a semi-synchronous one confirms them."""
    options = ("--log-bin=changes", "--sync-binlog=1")
    with (
        mariadb(*options, "--server-id=1", "--rpl-semi-sync-master-enabled=OFF", durable=True) as server,
        mariadb(*options, "--server-id=2", "--rpl-semi-sync-slave-enabled=ON") as follower,
        database("mariadb", server) as made,
    ):
        assert confirmed(made)
        execute(
            follower,
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={server.port}, MASTER_USER='root',"
            " MASTER_USE_GTID=slave_pos",
            "START SLAVE",
        )
        await_status(server, "Slaves_connected", "1")
        assert not confirmed(made)
        assert confirmed(made, "confirm=primary")
        made.run("SET GLOBAL rpl_semi_sync_master_enabled = ON")
        execute(follower, "STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD")
        await_status(server, "Rpl_semi_sync_master_clients", "1")
        assert confirmed(made)
        execute(follower, "STOP SLAVE")


def await_status(server: Server, name: str, value: str) -> None:
    """Wait until a status has a value."""
    deadline = time.monotonic() + 20
    while execute(server, f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1] != value:
        assert time.monotonic() < deadline, execute(server, f"SHOW GLOBAL STATUS LIKE '{name}'")
        time.sleep(0.05)


@pytest.mark.slow
@requirement("R51")
def test_no_confirmed_end_is_undone_by_a_failover() -> None:
    """The standby hangs, the primary is killed: on the survivor, every end that was confirmed is an end."""
    with (
        postgres("wal_sender_timeout=60s", durable=True) as first,
        standby(first) as second,
        database("postgresql", first) as made,
    ):
        store = made.open("timeout=1")
        ids = [new_id() for _ in range(120)]
        for session_id in ids:
            drive(store.create(session_id, new_record("ann")))
        outcome: dict[str, bool] = {}
        for place, session_id in enumerate(ids):
            if place == 100:
                with frozen(second):
                    for last in ids[100:103]:
                        outcome[last] = drive(store.end(last, new_tombstone())).confirmed
                    first.kill()
                break
            outcome[session_id] = drive(store.end(session_id, new_tombstone())).confirmed
        drive(store.close())
        execute(second, "SELECT pg_promote()")
        survivor = open_store(made.url(port=second.port), blocking=True)
        alive = {one for one in outcome if isinstance(drive(survivor.load(one)), Record)}
        assert not [one for one in alive if outcome[one]]
        assert sum(outcome.values()) >= 100
        assert not any(outcome[one] for one in ids[100:103])
        drive(survivor.close())


# -- doctor


def findings(store: Any) -> dict[str, Diagnosis]:
    """Return what the store says of its server, by code."""
    return {one.code: one for one in drive(store.diagnose())}


def found(store: Any, code: str) -> Diagnosis:
    """Return one finding."""
    return findings(store)[code]


def test_doctor_is_content_with_a_server_as_it_should_be(primary: Server) -> None:
    """All is ok but that the application is a superuser; no finding names a host or a database."""
    with database("postgresql", primary) as made:
        store = made.open()
        said = findings(store)
        assert {one.code for one in said.values() if one.severity != "ok"} == {"sql-rights"}
        assert made.name not in repr(said)
        drive(store.close())
    with mariadb(durable=True) as server, database("mariadb", server) as made:
        store = made.open()
        assert {one.code for one in findings(store).values() if one.severity != "ok"} == set()
        drive(store.close())


@kinds
def test_doctor_finds_what_forgets(kind: Any) -> None:
    """fsync off, or a log that is not flushed, fails."""
    with opened(kind) as (_, store):
        assert found(store, "sql-durability").severity == "fail"


def test_doctor_finds_tables_that_are_missing_unlogged_or_of_another_engine() -> None:
    """Each of them costs ends, sooner or later."""
    with opened("postgresql") as (made, store):
        made.run("ALTER TABLE sessile_session SET UNLOGGED")
        assert found(store, "sql-unlogged").severity == "fail"
        made.run("DROP TABLE sessile_meta")
        assert "sessile migrate" in found(store, "sql-schema").found
    with opened("mariadb") as (made, store):
        made.run("ALTER TABLE sessile_session ENGINE = Aria")
        assert found(store, "sql-engine").severity == "fail"
        made.run("ALTER TABLE sessile_session ENGINE = InnoDB ROW_FORMAT = COMPACT")
        assert found(store, "sql-row-format").severity == "warn"
        made.run("ALTER TABLE sessile_session CONVERT TO CHARACTER SET latin1")
        assert found(store, "sql-charset").severity == "warn"


def test_doctor_finds_a_server_that_takes_no_writes_and_a_clock_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are seen before anybody is signed out by them."""
    with mariadb() as server, database("mariadb", server) as made:
        store = made.open()
        made.run("SET GLOBAL read_only = ON")
        assert found(store, "sql-read-only").severity == "fail"
        from sessile.stores.sql import diagnosis

        now = time.time
        monkeypatch.setattr(diagnosis.time, "time", lambda: now() + 120)
        assert "120 s apart" in found(store, "sql-clock").found
        drive(store.close())


def test_doctor_finds_a_network_without_tls(primary: Server) -> None:
    """Loopback is this machine; any other address without TLS is a warning."""
    from sessile.stores.sql.diagnosis import _is_loopback

    assert _is_loopback("127.0.0.1")
    assert _is_loopback("::1")
    assert _is_loopback(None)
    assert not _is_loopback("10.0.0.7")
    with database("postgresql", primary) as made, connect(primary):
        store = made.open()
        assert found(store, "sql-transport").severity == "ok"
        drive(store.close())


def test_a_pooler_is_guessed_from_the_servers_process(primary: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is not the one that the driver was told; with ?pgbouncer=yes that is as it should be."""
    from sessile.stores.sql import link

    with database("postgresql", primary) as made:
        plain, told = made.open(), made.open("pgbouncer=yes")
        assert "sql-pooler" not in findings(plain)
        monkeypatch.setattr(link, "_backend", lambda _: os.getpid())
        assert found(plain, "sql-pooler").severity == "warn"
        assert "sql-pooler" not in findings(told)
        drive(plain.close())
        drive(told.close())
