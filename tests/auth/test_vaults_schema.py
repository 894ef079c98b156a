"""The tables of a vault in SQL: made once by whoever comes first, or the application's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

from sessile.auth.vault import Write
from sessile.auth.vaults import SqlVault, vault_table
from sessile.core.bridge import drive
from sessile.errors import ConfigurationError, StoreSchema, StoreUnavailable
from sessile.stores.sql import tables
from sessile.testing.vault_contract import put, there
from tests.auth.vault_bench import lent, opened, run
from tests.stores.sql_databases import Database, Kind, doors, kinds
from tests.support.servers import shared


@pytest.fixture
def bare(kind: Kind) -> Iterator[Database]:
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
