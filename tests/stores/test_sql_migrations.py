"""The schema: made once by whoever comes first, refused when it is of a later version, or the application's own."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table

from sessile.core.bridge import drive
from sessile.core.ports import AtLimit, Created
from sessile.core.record import Record
from sessile.errors import ConfigurationError, StoreSchema
from sessile.stores import open_store
from sessile.stores.sql import SqlStore, tables
from sessile.stores.sql.migrations import LATEST
from sessile.testing.store_contract import new_id, new_record
from tests.stores.sql_databases import Database, Kind, database, doors, kinds
from tests.support.servers import shared


@pytest.fixture
def bare(kind: Kind) -> Any:
    """Lend a database without tables."""
    made = Database(shared(kind))
    yield made
    made.drop()


def tables_of(made: Database) -> set[str]:
    """Return the names of the tables that are there."""
    schema = "current_schema()" if made.kind == "postgresql" else "database()"
    return {
        row[0] for row in made.run(f"SELECT table_name FROM information_schema.tables WHERE table_schema = {schema}")
    }


@kinds
@doors
def test_missing_tables_are_an_error_that_names_the_command(bare: Database, blocking: bool) -> None:
    """Nothing is created behind anybody's back; once they are made, the same store goes on."""

    async def main() -> None:
        store = bare.open(blocking=blocking)
        for _ in range(2):
            with pytest.raises(StoreSchema, match="sessile migrate URL"):
                await store.load(new_id())
        assert tables_of(bare) == set()
        assert await store.migrate() == (0, LATEST)
        assert await store.create(new_id(), new_record()) == Created()
        assert await store.migrate() == (LATEST, LATEST)
        await store.close()

    drive(main()) if blocking else asyncio.run(main())


@kinds
@doors
def test_auto_makes_them_at_first_use(bare: Database, blocking: bool) -> None:
    """And at no other time."""

    async def main() -> None:
        store = bare.open("migrate=auto", blocking=blocking)
        assert await store.load(new_id()) is None
        assert tables_of(bare) == {"sessile_session", "sessile_epoch", "sessile_meta"}
        await store.close()

    drive(main()) if blocking else asyncio.run(main())


def _migrate(url: str, gate: Any, failures: Any) -> None:
    store: Any = open_store(url, blocking=True)
    gate.wait(30)
    try:
        assert drive(store.load(new_id())) is None
        drive(store.create(new_id(), new_record("ann")))
    except BaseException as error:
        failures.put(repr(error))
    drive(store.close())


@kinds
def test_eight_nodes_may_migrate_at_once(bare: Database) -> None:
    """Each finds or makes the schema, none fails, and each sees what the others stored; five times over."""
    context = multiprocessing.get_context("spawn")
    gate, failures = context.Barrier(8), context.Queue()
    nodes = [
        context.Process(target=_migrate, args=(bare.url(options="migrate=auto"), gate, failures)) for _ in range(8)
    ]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join(60)
        assert node.exitcode == 0
    assert failures.empty(), failures.get()
    store = bare.open()
    assert len(drive(store.of_user("ann"))) == 8
    drive(store.close())
    assert bare.run("SELECT value FROM sessile_meta WHERE name = 'schema'")[0][0] == LATEST


@kinds
def test_threads_may_migrate_at_once(bare: Database) -> None:
    """One store each, in one process, again and again on tables that vanish."""
    from tests.stores.test_sql_concurrency import together

    for _ in range(5):
        stores = [bare.open("migrate=auto") for _ in range(6)]
        assert drive(together(True, *(lambda store=store: store.load(new_id()) for store in stores))) == [None] * 6
        for store in stores:
            drive(store.close())
        bare.run("DROP TABLE sessile_session, sessile_epoch, sessile_meta")


@kinds
def test_a_migration_that_was_interrupted_is_taken_up_again(bare: Database) -> None:
    """MariaDB commits after each statement: what is there already is no obstacle."""
    store = bare.open()
    drive(store.migrate())
    bare.run("DROP TABLE sessile_epoch", "DELETE FROM sessile_meta WHERE name = 'schema'")
    assert drive(store.migrate()) == (0, LATEST)
    assert drive(store.create(new_id(), new_record())) == Created()
    drive(store.close())


@kinds
def test_a_later_schema_is_refused_and_left_as_it_is(kind: Kind) -> None:
    """By verbs and by migrations: old code must not write what it does not understand."""
    with database(kind) as made:
        made.run(f"UPDATE sessile_meta SET value = {LATEST + 1} WHERE name = 'schema'")
        store = made.open("migrate=auto")
        with pytest.raises(StoreSchema, match="knows up to"):
            drive(store.load(new_id()))
        with pytest.raises(StoreSchema, match="knows up to"):
            drive(store.migrate())
        assert made.run("SELECT value FROM sessile_meta WHERE name = 'schema'")[0][0] == LATEST + 1
        drive(store.close())


@kinds
def test_an_older_schema_asks_for_the_command(kind: Kind) -> None:
    """Code that needs more than is there does not try its luck."""
    with database(kind) as made:
        made.run("UPDATE sessile_meta SET value = 0 WHERE name = 'schema'")
        store = made.open()
        with pytest.raises(StoreSchema, match="sessile migrate URL"):
            drive(store.load(new_id()))
        assert drive(store.migrate()) == (0, LATEST)
        assert drive(store.load(new_id())) is None
        drive(store.close())


# -- the application's own metadata


@kinds
@pytest.mark.parametrize("prefix", ["sessile_", "shop_"])
def test_alembic_sees_no_difference_between_tables_and_migrations(bare: Database, prefix: str) -> None:
    """What `sessile migrate` makes is what `tables` declares, index by index."""
    store = bare.open(f"prefix={prefix}")
    drive(store.migrate())
    drive(store.close())
    metadata = MetaData()
    tables(metadata, prefix=prefix)
    own = bare.engine()
    with own.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    own.dispose()


@kinds
def test_tables_that_the_application_makes_serve_as_well(bare: Database) -> None:
    """In its metadata beside its own: every power works, no row has to be there first."""
    metadata = MetaData()
    Table("shop", metadata, Column("id", Integer, primary_key=True))
    made = tables(metadata, prefix="web_")
    assert {table.name for table in made} == {"web_session", "web_epoch", "web_meta"}
    own = bare.engine()
    metadata.create_all(own)
    with own.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    store = SqlStore(own, prefix="web_")
    session_id = new_id()
    assert drive(store.create(session_id, new_record("ann"), limit=1)) == Created()
    assert isinstance(drive(store.create(new_id(), new_record("ann"), limit=1)), AtLimit)
    drive(store.end_everything(time.time()))
    assert not isinstance(drive(store.load(session_id)), Record)
    assert drive(store.create(new_id(), new_record("ann"), limit=1)) == Created()
    assert len(drive(store.sweep(time.time(), 10))) == 1
    own.dispose()


# -- the command


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call the command line in this process."""
    from sessile.cli import main

    def called(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        code = stopped.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return called


@kinds
def test_the_command_makes_the_tables_and_may_be_repeated(bare: Database, call: Any) -> None:
    """It says what it did; machines get the numbers."""
    code, out, err = call("migrate", bare.url())
    assert (code, err) == (0, "")
    assert "made the session tables" in out
    code, out, _ = call("migrate", bare.url())
    assert (code, "up to date" in out) == (0, True)
    code, out, _ = call("migrate", bare.url(), "--json")
    assert json.loads(out) == {"before": LATEST, "after": LATEST}
    assert tables_of(bare) == {"sessile_session", "sessile_epoch", "sessile_meta"}


def test_the_command_fails_in_one_sentence(call: Any) -> None:
    """Whatever is wrong: a store without tables, a server that is not there; never a secret."""
    code, _, err = call("migrate", "sqlite:///sessions.db")
    assert (code, err.count("\n")) == (2, 1)
    assert "have tables to migrate" in err
    code, _, err = call("migrate", "postgresql://hunter1:hunter2@127.0.0.1:1/hunter3")
    assert (code, err.count("\n")) == (2, 1)
    assert "hunter" not in err


@pytest.mark.parametrize("scheme", ["postgresql", "mariadb"])
def test_what_is_not_installed_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the line that installs it."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("sqlalchemy", "psycopg", "pymysql")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("sessile.stores.sql")]:
        monkeypatch.delitem(sys.modules, name)
    for missing in ("sqlalchemy", "psycopg" if scheme == "postgresql" else "pymysql"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            with pytest.raises(ConfigurationError, match=rf"pip install 'sessile\[{scheme}\]'"):
                open_store(f"{scheme}://host/database", blocking=True)


def test_importing_sessile_imports_no_driver() -> None:
    """SQLAlchemy is loaded when a SQL store is opened, not before."""
    import subprocess

    code = (
        "import sys, sessile, sessile.stores, sessile.stores.sql; print([m for m in sys.modules if 'sqlalchemy' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"
