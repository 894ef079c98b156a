"""A vault in PostgreSQL or MariaDB: its schema, what two writers see of each other, and what happens when it breaks."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, text

from sessile.auth.vault import Item, Vault, Write
from sessile.auth.vaults import SqlVault, open_vault, vault_table
from sessile.core.bridge import drive
from sessile.errors import ConfigurationError, StoreSchema, StoreUnavailable
from sessile.stores.sql import tables
from sessile.testing.vault_contract import put, there
from tests.stores.sql_databases import Database, Kind, doors, frozen, kinds
from tests.stores.test_sql_failures import Cutting, await_waiter, end_backends
from tests.support.requirements import requirement
from tests.support.servers import Server, mariadb, postgres, shared


def run(blocking: bool, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine through the door that is tested."""
    return drive(coroutine) if blocking else asyncio.run(coroutine)


def opened(made: Database, options: str = "timeout=30", *, blocking: bool = True, **how: Any) -> Any:
    """Open a vault in a database."""
    return open_vault(made.url(options=options, **how), blocking=blocking)


def migrated(made: Database) -> None:
    """Make the vault's tables."""
    vault = opened(made)
    drive(vault.migrate())
    drive(vault.close())


@pytest.fixture
def bare(kind: Kind) -> Iterator[Database]:
    """Lend a database without tables."""
    made = Database(shared(kind))
    yield made
    made.drop()


@contextmanager
def lent(kind: Kind) -> Iterator[Database]:
    """Lend a database with the vault's tables."""
    made = Database(shared(kind))
    try:
        migrated(made)
        yield made
    finally:
        made.drop()


def tables_of(made: Database) -> set[str]:
    """Return the names of the tables that are there."""
    schema = "current_schema()" if made.kind == "postgresql" else "database()"
    return {
        row[0] for row in made.run(f"SELECT table_name FROM information_schema.tables WHERE table_schema = {schema}")
    }


# -- the schema


@kinds
@doors
def test_missing_tables_are_an_error_that_names_the_command(bare: Database, blocking: bool) -> None:
    """Nothing is created behind anybody's back, nobody passes; once they are made, the same vault goes on."""

    async def main() -> None:
        vault = opened(bare, blocking=blocking)
        for verb in (lambda: vault.get("k"), lambda: vault.write(Write("k", b"", 0)), lambda: vault.forget_user("ada")):
            with pytest.raises(StoreSchema, match="sessile migrate --vault URL"):
                await verb()
        assert tables_of(bare) == set()
        assert await vault.migrate() == (0, 1)
        await put(vault, "k")
        assert await vault.migrate() == (1, 1)
        assert tables_of(bare) == {"sessile_vault", "sessile_meta"}
        await vault.close()

    run(blocking, main())


@kinds
@doors
def test_auto_makes_them_at_first_use(bare: Database, blocking: bool) -> None:
    """Under the names that the URL says."""

    async def main() -> None:
        vault = opened(bare, "migrate=auto&prefix=shop_", blocking=blocking)
        await put(vault, "k")
        assert tables_of(bare) == {"shop_vault", "shop_meta"}
        await vault.close()

    run(blocking, main())


@kinds
@pytest.mark.parametrize("first", ["store", "vault"])
def test_a_store_and_a_vault_share_a_database(bare: Database, first: str) -> None:
    """Whoever comes first: each has its own number, and neither takes the other's tables for its own."""
    store, vault = bare.open(), opened(bare)
    order = (store, vault) if first == "store" else (vault, store)
    assert drive(order[0].migrate()) == (0, 1)
    with pytest.raises(StoreSchema):
        drive(order[1].load("0" * 40) if order[1] is store else order[1].get("k"))
    assert drive(order[1].migrate()) == (0, 1)
    assert (drive(store.load("0" * 40)), drive(vault.get("k"))) == (None, None)
    assert sorted(bare.run("SELECT name, value FROM sessile_meta")) == [("schema", 1), ("vault", 1)]
    drive(store.close())
    drive(vault.close())


@kinds
def test_a_later_schema_is_refused_and_left_as_it_is(kind: Kind) -> None:
    """By verbs and by migrations: old code must not write what it does not understand."""
    with lent(kind) as made:
        made.run("UPDATE sessile_meta SET value = 2 WHERE name = 'vault'")
        vault = opened(made, "migrate=auto")
        for verb in (vault.get("k"), vault.migrate()):
            with pytest.raises(StoreSchema, match="vault's tables have schema 2"):
                drive(verb)
        assert made.run("SELECT value FROM sessile_meta WHERE name = 'vault'")[0][0] == 2
        drive(vault.close())


@kinds
def test_a_migration_that_was_interrupted_is_taken_up_again(kind: Kind) -> None:
    """MariaDB commits after each statement: what is there already is no obstacle, and stays."""
    with lent(kind) as made:
        vault = opened(made)
        drive(put(vault, "k", b"1"))
        made.run("DELETE FROM sessile_meta")
        assert drive(vault.migrate()) == (0, 1)
        assert drive(there(vault, "k")).value == b"1"
        drive(vault.close())


@kinds
@pytest.mark.parametrize("prefix", ["sessile_", "shop_"])
def test_alembic_sees_no_difference_between_the_table_and_the_migration(bare: Database, prefix: str) -> None:
    """What `sessile migrate --vault` makes is what `vault_table` declares beside the sessions' tables, by index."""
    for one in (bare.open(f"prefix={prefix}"), opened(bare, f"prefix={prefix}")):
        drive(one.migrate())
        drive(one.close())
    metadata = MetaData()
    tables(metadata, prefix=prefix)
    vault_table(metadata, prefix=prefix)
    own = bare.engine()
    with own.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    own.dispose()


@kinds
def test_a_table_that_the_application_makes_serves_as_well(bare: Database) -> None:
    """In its metadata beside its own; no other table and no row has to be there."""
    metadata = MetaData()
    Table("shop", metadata, Column("id", Integer, primary_key=True))
    assert vault_table(metadata, prefix="web_").name == "web_vault"
    own = bare.engine()
    metadata.create_all(own)
    with own.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    vault = SqlVault(own, prefix="web_")
    drive(put(vault, "k", user="ada"))
    assert drive(vault.forget_user("ada")) == 1
    drive(vault.close())
    assert own.connect().closed is False  # it is the application's
    own.dispose()


def test_a_schema_of_its_own_is_found_and_named() -> None:
    """On PostgreSQL, by the URL and in the metadata."""
    made = Database(shared("postgresql"))
    made.run("CREATE SCHEMA private")
    vault = opened(made, "migrate=auto&schema=private")
    drive(put(vault, "k"))
    assert tables_of(made) == set()
    assert made.run("SELECT count(*) FROM private.sessile_vault")[0][0] == 1
    assert vault_table(MetaData(schema="private")).fullname == "private.sessile_vault"
    drive(vault.close())
    made.drop()


@kinds
def test_the_role_needs_no_more_than_rows(kind: Kind) -> None:
    """Nothing beyond SELECT, INSERT, UPDATE and DELETE; what is denied fails closed and names nobody."""
    with lent(kind) as made:
        who = f"u{made.name[:20]}"
        host = "" if kind == "postgresql" else "@'127.0.0.1'"
        password = "PASSWORD 'hunter2'" if kind == "postgresql" else "IDENTIFIED BY 'hunter2'"
        made.run(f"CREATE USER {who}{host} {password}")
        denied = opened(made, "timeout=5", user=f"{who}:hunter2")
        with pytest.raises(StoreUnavailable, match="refuses") as caught:
            drive(denied.get("k"))
        assert who not in str(caught.value)
        place = "" if kind == "postgresql" else f"{made.name}."
        made.run(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {place}sessile_vault TO {who}{host}",
            f"GRANT SELECT ON {place}sessile_meta TO {who}{host}",
        )
        drive(put(denied, "k", user="ada", at=1.0))
        assert drive(denied.sweep(2.0, 5)) == 1
        drive(put(denied, "k", user="ada"))
        assert drive(denied.forget_user("ada")) == 1
        drive(denied.close())
        made.run(*([f"DROP OWNED BY {who}"] if kind == "postgresql" else []), f"DROP USER {who}{host}")


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
    """It says what it did; machines get the numbers; the sessions' tables are another command."""
    code, out, err = call("migrate", "--vault", bare.url())
    assert (code, err) == (0, "")
    assert "made the vault's tables" in out
    code, out, _ = call("migrate", bare.url(), "--vault")
    assert (code, "the vault's tables are up to date" in out) == (0, True)
    code, out, _ = call("migrate", "--vault", bare.url(), "--json")
    assert json.loads(out) == {"before": 1, "after": 1}
    assert tables_of(bare) == {"sessile_vault", "sessile_meta"}


def test_the_command_fails_in_one_sentence(call: Any) -> None:
    """Whatever is wrong: a vault without tables, a server that is not there; never a secret."""
    for url in ("sqlite:///vault.db", "memory://"):
        code, _, err = call("migrate", "--vault", url)
        assert (code, err.count("\n")) == (2, 1)
        assert "have tables to migrate" in err
    for url in ("postgresql://hunter1:hunter2@127.0.0.1:1/hunter3", "mariadb://hunter1:hunter2@127.0.0.1:1/hunter3"):
        code, _, err = call("migrate", "--vault", url)
        assert (code, err.count("\n")) == (2, 1)
        assert "hunter" not in err


@pytest.mark.slow
@kinds
def test_four_nodes_may_migrate_at_once(bare: Database) -> None:
    """As they are deployed: each runs the command, for the sessions and for the vault, and none fails."""
    commands = [[], ["--vault"], ["--vault"], []]
    nodes = [
        subprocess.Popen([sys.executable, "-m", "sessile", "migrate", *more, bare.url()], stderr=subprocess.PIPE)
        for more in commands
    ]
    for node in nodes:
        _, said = node.communicate(timeout=120)
        assert node.returncode == 0, said
    assert sorted(bare.run("SELECT name, value FROM sessile_meta")) == [("schema", 1), ("vault", 1)]


@kinds
def test_threads_may_migrate_at_once(bare: Database) -> None:
    """One vault each, again and again on tables that vanish."""
    from tests.stores.test_sql_concurrency import together

    for _ in range(3):
        vaults = [opened(bare, "migrate=auto&timeout=30") for _ in range(6)]
        assert drive(together(True, *(lambda one=one: one.get("k") for one in vaults))) == [None] * 6
        for vault in vaults:
            drive(vault.close())
        bare.run("DROP TABLE sessile_vault, sessile_meta")


@pytest.mark.parametrize("scheme", ["postgresql", "mariadb"])
def test_what_is_not_installed_is_named(scheme: str) -> None:
    """The error is the line that installs it; importing loads no driver."""
    program = f"""
import sys
import sessile.auth.vaults as vaults
assert not [name for name in sys.modules if "sqlalchemy" in name], "loaded too early"
from sessile.errors import ExtraMissing
for missing in ("sqlalchemy", {"psycopg" if scheme == "postgresql" else "pymysql"!r}):
    kept, sys.modules[missing] = sys.modules.get(missing), None
    try:
        vaults.open_vault("{scheme}://host/database", blocking=True)
    except ExtraMissing as error:
        print(error)
    if missing == "sqlalchemy":
        try:
            vaults.SqlVault
        except ExtraMissing as error:
            print("also", error)
    del sys.modules[missing]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd())
    lines = done.stdout.splitlines()
    assert [f"pip install 'sessile[{scheme}]'" in line for line in (lines[0], lines[2])] == [True, True]
    assert "A vault in SQL needs a package that is not installed" in lines[1]


def test_an_engine_of_another_database_or_door_is_refused() -> None:
    """And a text, which is for `open_vault`."""
    engine: Any = create_engine("sqlite://")
    for given, how in ((engine, {}), (create_engine("postgresql+psycopg://h/d"), {"blocking": False})):
        with pytest.raises(ConfigurationError):
            SqlVault(given, **how)
    with pytest.raises(ConfigurationError, match="open_vault"):
        SqlVault("postgresql://host/db")  # type: ignore[arg-type]


# -- what two writers see of each other


@kinds
@doors
@pytest.mark.parametrize("commit", [True, False], ids=["committed", "rolled back"])
@pytest.mark.parametrize("other", ["changes", "removes", "puts", "forgets"])
@requirement("R91", "R92")
def test_who_comes_second_waits_and_finds_what_the_first_one_left(
    kind: Kind, blocking: bool, other: str, commit: bool
) -> None:
    """Whether the first one's transaction comes to be or not: never both, and never neither."""
    statements = {
        "changes": "UPDATE sessile_vault SET version = 7 WHERE name = %s",
        "removes": "DELETE FROM sessile_vault WHERE name = %s",
        "puts": "INSERT INTO sessile_vault (name, value, version) VALUES (%s, '', 7)",
        "forgets": "DELETE FROM sessile_vault WHERE owner = 'ada' AND name = %s",
    }

    async def main(made: Database) -> None:
        vault = opened(made, blocking=blocking)
        item = None if other == "puts" else await put(vault, "k", b"old", "ada")
        write = Write("k", b"new", 0 if item is None else item.version, "ada")
        with closing(made.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            cursor.execute(statements[other], (b"k",))

            def finish() -> None:
                await_waiter(made)
                cursor.execute("COMMIT" if commit else "ROLLBACK")

            thread = threading.Thread(target=finish)
            thread.start()
            assert await vault.write(write) is not commit
            thread.join()
        found = await vault.get("k")
        if not commit:
            assert found is not None
            assert found.value == b"new"
        elif other in ("changes", "puts"):
            assert found is not None
            assert found.version == 7
        else:
            assert found is None
        await vault.close()

    with lent(kind) as made:
        run(blocking, main(made))


@kinds
@doors
def test_who_forgets_waits_for_who_writes(kind: Kind, blocking: bool) -> None:
    """What was put while the forgetting waited is forgotten as well: an account that is erased is erased."""

    async def main(made: Database) -> None:
        vault = opened(made, blocking=blocking)
        await put(vault, "k", user="ada")
        with closing(made.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            cursor.execute("UPDATE sessile_vault SET version = 7")
            cursor.execute(
                "INSERT INTO sessile_vault (name, value, version, owner) VALUES (%s, '', 7, %s)", (b"a", b"ada")
            )

            def finish() -> None:
                await_waiter(made)
                cursor.execute("COMMIT")

            thread = threading.Thread(target=finish)
            thread.start()
            assert await vault.forget_user("ada") == 2
            thread.join()
        assert await vault.of_user("ada") == ()
        await vault.close()

    with lent(kind) as made:
        run(blocking, main(made))


@kinds
@doors
def test_a_deadlock_with_somebody_else_is_tried_again(kind: Kind, blocking: bool) -> None:
    """Our own writers go in one order; who goes the other way round may make us the victim, and then it is repeated."""

    async def main(made: Database) -> None:
        if kind == "postgresql":  # ours looks whether there is a circle after this time, the other one never does
            made.run(f"ALTER DATABASE {made.name} SET deadlock_timeout = '1500ms'")
        vault = opened(made, blocking=blocking)
        first, second = await put(vault, "a"), await put(vault, "b")
        for number in range(20):
            await put(vault, f"heavy:{number}")
        naps: list[float] = []
        nap = vault._nap

        async def counted(seconds: float) -> None:
            naps.append(seconds)
            await nap(seconds)

        vault._nap = counted
        beaten: list[Exception] = []
        with closing(made.connect()) as connection:
            cursor = connection.cursor()
            if kind == "postgresql":
                cursor.execute("SET deadlock_timeout = '20s'")
            cursor.execute("BEGIN")
            cursor.execute("UPDATE sessile_vault SET value = 'x' WHERE name >= 'h'")  # InnoDB takes the lighter one
            cursor.execute("SELECT version FROM sessile_vault WHERE name = 'b' FOR UPDATE")

            def cross() -> None:
                await_waiter(made)
                try:
                    cursor.execute("SELECT version FROM sessile_vault WHERE name = 'a' FOR UPDATE")
                    cursor.execute("COMMIT")
                except Exception as error:
                    beaten.append(error)
                    cursor.execute("ROLLBACK")

            thread = threading.Thread(target=cross)
            thread.start()
            assert await vault.write(Write("b", b"2", second.version), Write("a", b"1", first.version))
            thread.join()
        assert bool(naps) or beaten
        assert [(await there(vault, key)).value for key in "ab"] == [b"1", b"2"]
        await vault.close()

    with lent(kind) as made:
        run(blocking, main(made))


def test_a_database_that_prefers_another_isolation_is_none_the_worse() -> None:
    """The second writer is told that it was beaten, at once: it meets no serialization failure and repeats nothing."""
    made = Database(shared("postgresql"))
    made.run(f"ALTER DATABASE {made.name} SET default_transaction_isolation = 'serializable'")
    migrated(made)
    vault = opened(made)
    item = drive(put(vault, "k"))
    vault._nap = None  # nothing is tried again
    with closing(made.connect()) as connection:
        connection.execute("BEGIN")
        connection.execute("UPDATE sessile_vault SET version = 7")
        thread = threading.Thread(target=lambda: (await_waiter(made), connection.execute("COMMIT")))
        thread.start()
        assert drive(vault.write(Write("k", b"", item.version))) is False
        thread.join()
    drive(vault.close())
    made.drop()


@kinds
def test_a_sweep_leaves_what_somebody_is_writing(kind: Kind) -> None:
    """It neither waits for the writer nor removes what was renewed; the others go."""
    with lent(kind) as made:
        vault = opened(made)
        for key in "abc":
            drive(put(vault, key, at=1.0))
        with closing(made.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            cursor.execute("UPDATE sessile_vault SET expires_at = 9 WHERE name = 'b'")
            assert drive(vault.sweep(2.0, 10)) == 2
            cursor.execute("COMMIT")
        assert drive(vault.sweep(2.0, 10)) == 0
        assert drive(there(vault, "b")).expires_at == 9.0
        drive(vault.close())


@kinds
def test_a_long_sweep_goes_in_batches(kind: Kind) -> None:
    """No transaction holds more rows than a batch; all that are due go, up to the limit."""
    with lent(kind) as made:
        vault = opened(made)
        for start in range(0, 1200, 400):
            drive(vault.write(*(Write(f"k{start + number}", b"", 0, None, 1.0) for number in range(400))))
        assert drive(vault.sweep(2.0, 1100)) == 1100
        assert drive(vault.sweep(2.0, 1100)) == 100
        drive(vault.close())


# -- when it breaks


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Start a server that may be stopped, and that keeps what it acknowledged (PostgreSQL only if it is asked to)."""
    with postgres() if request.param == "postgresql" else mariadb(durable=True) as server:
        yield server


@pytest.fixture
def own(own_server: Server) -> Iterator[Database]:
    """Lend a database of that server, which runs again when the test begins."""
    if not own_server.is_running:
        own_server.start()
    made = Database(own_server)
    migrated(made)
    yield made
    if own_server.is_running:
        made.drop()


@requirement("R45", "R91")
@doors
def test_a_server_that_is_gone_fails_every_verb_and_is_found_again(own: Database, blocking: bool) -> None:
    """Killed right after a code was used up: it stays used, although the server acknowledges sooner by default."""

    async def main() -> None:
        vault = opened(own, "timeout=2", blocking=blocking)
        code, count = await put(vault, "code", b"secret", "ada", 5.0), await put(vault, "count", b"1", "ada")
        assert await vault.write(Write("code", None, code.version), Write("count", b"2", count.version, "ada"))
        # At once, as a crash would: PostgreSQL's children end by themselves then.
        own.server.stop(signal.SIGQUIT if own.kind == "postgresql" else signal.SIGKILL)
        for verb in (
            lambda: vault.get("code"),
            lambda: vault.write(Write("code", None, code.version)),
            lambda: vault.of_user("ada"),
            lambda: vault.forget_user("ada"),
            lambda: vault.sweep(9.0, 1),
        ):
            with pytest.raises(StoreUnavailable) as caught:
                await verb()
            said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
            assert not [word for word in ("ada", "127.0.0.1", "secret", "code") if word in said]
        own.server.start()
        assert await vault.get("code") is None
        assert [(item.key, item.value) for item in await vault.of_user("ada")] == [("count", b"2")]
        await put(vault, "code")
        await vault.close()

    run(blocking, main())


@requirement("R45")
@doors
def test_a_server_that_hangs_costs_each_verb_its_budget(own: Database, blocking: bool) -> None:
    """All its processes are stopped; connections stay open and nothing answers. Thawed, all or nothing was done."""

    async def main() -> None:
        vault = opened(own, "timeout=0.5", blocking=blocking)
        one, two = await put(vault, "one", b"old"), await put(vault, "two", b"old")
        with frozen(own.server):
            for verb in (
                lambda: vault.write(Write("one", b"new", one.version), Write("two", b"new", two.version)),
                lambda: vault.get("one"),
            ):
                start = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await verb()
                assert time.monotonic() - start < 20
        await vault.close()
        again = opened(own, blocking=blocking)
        found = [(await there(again, key)).value for key in ("one", "two")]
        assert found in ([b"old"] * 2, [b"new"] * 2)
        await again.close()

    run(blocking, main())


@kinds
@doors
@pytest.mark.parametrize("deliver", [False, True], ids=["lost", "delivered"])
@requirement("R45")
def test_a_commit_whose_answer_is_lost_is_an_error_and_never_half_done(
    kind: Kind, blocking: bool, deliver: bool
) -> None:
    """Nobody passes, and the write is not repeated: if it was done, the code is used up, and all else with it."""

    async def main(made: Database, cutting: Cutting) -> None:
        vault = opened(made, "timeout=5", blocking=blocking, port=cutting.port)
        code, count = await put(vault, "code"), await put(vault, "count", b"1")
        cutting.deliver, cutting.words = deliver, b"COMMIT\0" if kind == "postgresql" else b"\x03COMMIT"
        with pytest.raises(StoreUnavailable):
            await vault.write(Write("code", None, code.version), Write("count", b"2", count.version))
        assert cutting.cut == 1
        expected = (None, b"2") if deliver else (code, b"1")
        deadline = time.monotonic() + 30
        while True:  # the server may still be busy with what it was sent
            seen = await vault.get("code"), (await there(vault, "count")).value
            if seen == expected:
                break
            assert time.monotonic() < deadline, seen
        await vault.close()

    with lent(kind) as made, closing(Cutting(made.server.port)) as cutting:
        run(blocking, main(made, cutting))


@kinds
@doors
def test_a_write_that_loses_its_connection_before_its_commit_is_done_once(kind: Kind, blocking: bool) -> None:
    """The backend is ended while it waits for a row: nothing was committed, so the whole is done again."""

    async def main(made: Database) -> None:
        vault = opened(made, blocking=blocking)
        first, second = await put(vault, "a", b"0"), await put(vault, "b", b"0")
        with closing(made.connect()) as other:
            cursor = other.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT name FROM sessile_vault WHERE name = 'b' FOR UPDATE")

            def interrupt() -> None:
                waiter = await_waiter(made)
                made.run(f"SELECT pg_terminate_backend({waiter})" if kind == "postgresql" else f"KILL {waiter}")
                await_waiter(made, other_than=waiter)
                cursor.execute("ROLLBACK")

            thread = threading.Thread(target=interrupt)
            thread.start()
            assert await vault.write(Write("a", b"1", first.version), Write("b", b"1", second.version))
            thread.join()
        assert [(await there(vault, key)).value for key in "ab"] == [b"1", b"1"]
        assert end_backends(made) >= 1
        assert (await there(vault, "a")).value == b"1"  # found out before use
        await vault.close()

    with lent(kind) as made:
        run(blocking, main(made))


@kinds
def test_a_request_that_is_cancelled_leaves_nothing_of_its_write(kind: Kind) -> None:
    """The client went away while it waited for a row; what it had written by then is taken back."""

    async def main(made: Database) -> None:
        vault = opened(made, "pool=1&timeout=30", blocking=False)
        first, second = await put(vault, "a", b"0"), await put(vault, "b", b"0")
        with closing(made.connect()) as other:
            cursor = other.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT name FROM sessile_vault WHERE name = 'b' FOR UPDATE")
            writes = Write("a", b"1", first.version), Write("b", b"1", second.version)
            task = asyncio.create_task(vault.write(*writes))
            await asyncio.to_thread(await_waiter, made)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cursor.execute("ROLLBACK")
        assert await there(vault, "a") == first
        assert await vault.write(*writes)
        await vault.close()

    with lent(kind) as made:
        asyncio.run(main(made))


# -- after a fork


def take(vault: Vault, items: list[Item]) -> int:
    """Take as many of the items as are to be had; return how many."""
    return sum(drive(vault.write(Write(item.key, None, item.version))) for item in items)


@requirement("R91")
def test_parent_and_children_take_each_item_of_a_file_once(tmp_path: Path) -> None:
    """After a fork, with connections of their own."""
    race_after_fork(open_vault(f"sqlite:///{tmp_path}/v.db?wait=30", blocking=True))


@requirement("R91")
@kinds
@pytest.mark.parametrize("given", [False, True], ids=["own engine", "given engine"])
def test_parent_and_children_take_each_item_once(kind: Kind, given: bool) -> None:
    """After a fork, with connections of their own; an engine of the application's as well."""
    with lent(kind) as made:
        engine = made.engine()
        race_after_fork(SqlVault(engine, timeout=30) if given else opened(made))
        engine.dispose()


def race_after_fork(vault: Vault) -> None:
    """Let two children and their parent take the same items."""
    items = [drive(put(vault, f"k{number}")) for number in range(60)]
    context = multiprocessing.get_context("fork")
    taken = context.Queue()

    def child() -> None:
        taken.put(take(vault, items))
        drive(vault.close())

    children = [context.Process(target=child) for _ in range(2)]
    for one in children:
        one.start()
    mine = take(vault, items)
    for one in children:
        one.join(60)
        assert one.exitcode == 0
    assert mine + taken.get(timeout=10) + taken.get(timeout=10) == 60
    assert drive(vault.get("k0")) is None
    drive(vault.close())


def test_the_applications_own_transaction_is_left_alone() -> None:
    """A connection that it holds open sees its own rows, and the vault's writes are none of them."""
    with lent("postgresql") as made:
        engine = made.engine()
        vault = SqlVault(engine)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE shop (name TEXT)"))
            drive(put(vault, "k"))
        drive(there(vault, "k"))
        engine.dispose()
