"""What two writers of a vault in SQL see of each other: never both, never neither, and nothing by halves."""

from __future__ import annotations

import multiprocessing
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from sessile.auth.vault import Item, Vault, Write
from sessile.auth.vaults import SqlVault, open_vault
from sessile.core.bridge import drive
from sessile.testing.vault_contract import put, there
from tests.auth.vault_bench import lent, migrated, opened, run
from tests.stores.sql_databases import Database, Kind, doors, kinds
from tests.stores.test_sql_failures import await_waiter
from tests.support.requirements import requirement
from tests.support.servers import shared


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
