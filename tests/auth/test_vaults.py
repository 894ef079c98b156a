"""Every vault on both doors, held to one contract; what is a vault's own; which URLs name one."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sessile.auth.vault import Vault, Write
from sessile.auth.vaults import SqlVault, open_vault
from sessile.core.bridge import drive
from sessile.errors import ConfigurationError, StoreError, StoreSchema, StoreUnavailable
from sessile.testing import VaultContract
from tests.stores.sql_databases import Database, Kind
from tests.support.requirements import requirement
from tests.support.servers import shared


class TestMemoryBlocking(VaultContract):
    """The contract in memory, driven by threads."""

    blocking = True

    def open_vault(self) -> Vault:
        """Open an empty one."""
        return open_vault("memory://", blocking=self.blocking)


class TestMemoryAsync(TestMemoryBlocking):
    """The contract in memory, driven by an event loop."""

    blocking = False


class TestSqliteBlocking(VaultContract):
    """The contract on SQLite, driven by threads."""

    blocking = True

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.place = tmp_path

    def open_vault(self) -> Vault:
        """Open an empty one."""
        return open_vault(f"sqlite:///{self.place}/v.db?wait=30", blocking=self.blocking)


class TestSqliteAsync(TestSqliteBlocking):
    """The contract on SQLite, driven by an event loop."""

    blocking = False


class _OnDatabase(VaultContract):
    kind: ClassVar[Kind]
    made: ClassVar[Database]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _database(cls) -> Iterator[None]:
        cls.made = Database(shared(cls.kind))
        vault: Any = open_vault(cls.made.url(), blocking=True)
        drive(vault.migrate())
        drive(vault.close())
        yield
        cls.made.drop()

    def open_vault(self) -> Vault:
        """Empty the tables, and open a vault on them."""
        self.made.run("DELETE FROM sessile_vault")
        return self.opened()

    def opened(self) -> Vault:
        """Open a vault as its door wants it; a busy machine takes its time."""
        return open_vault(self.made.url(options="timeout=30"), blocking=self.blocking)


class TestPostgresqlBlocking(_OnDatabase):
    """The contract on PostgreSQL, driven by threads."""

    kind = "postgresql"
    blocking = True


class TestPostgresqlAsync(_OnDatabase):
    """The contract on PostgreSQL, driven by an event loop."""

    kind = "postgresql"


class TestMariadbBlocking(_OnDatabase):
    """The contract on MariaDB, driven by threads."""

    kind = "mariadb"
    blocking = True


class TestMariadbAsync(_OnDatabase):
    """The contract on MariaDB, driven by an event loop."""

    kind = "mariadb"


class _OnGivenEngine(_OnDatabase):
    rounds = 20
    isolation: ClassVar[str]

    def opened(self) -> Vault:
        """Use an engine of the application's, which wants another isolation than the vault needs."""
        return SqlVault(self.made.engine(blocking=self.blocking, isolation_level=self.isolation), timeout=30)

    @pytest.fixture(autouse=True)
    def _closed_by_its_owner(self, monkeypatch: pytest.MonkeyPatch) -> None:
        closed = SqlVault.close

        async def close(vault: Any) -> None:
            await closed(vault)
            engine = vault._engines._engine
            if self.blocking:
                engine.dispose()
            else:
                from sqlalchemy.ext.asyncio import AsyncEngine

                await AsyncEngine(engine).dispose()

        monkeypatch.setattr(SqlVault, "close", close)


class TestGivenAsyncEnginePostgresql(_OnGivenEngine):
    """The contract on an application's own AsyncEngine."""

    kind = "postgresql"
    isolation = "SERIALIZABLE"


class TestGivenEngineMariadb(_OnGivenEngine):
    """The contract on an application's own Engine."""

    kind = "mariadb"
    blocking = True
    isolation = "SERIALIZABLE"


# -- files and memory


@requirement("R45")
def test_a_file_that_is_damaged_fails(tmp_path: Path) -> None:
    """Never "there is no such item"."""
    (tmp_path / "other.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreError):
        drive(open_vault(f"sqlite:///{tmp_path}/other.db", blocking=True).get("k"))


def test_a_file_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    """Of sessions, too."""
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE users (name TEXT)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises((StoreSchema, ConfigurationError)):
        drive(open_vault(f"sqlite:///{path}", blocking=True).get("k"))
    assert path.read_bytes() == before


@requirement("R45", "R91")
def test_a_forked_child_does_not_take_its_copy_of_the_memory_for_the_vault() -> None:
    """A code that its parent has taken would be good there: every verb fails, and the parent goes on."""
    vault = open_vault("memory://", blocking=True)
    drive(vault.write(Write("k", b"", 0)))

    def child() -> None:
        for verb in (vault.get("k"), vault.write(Write("k", None, 1)), vault.of_user("ada"), vault.forget_user("ada")):
            with pytest.raises(StoreUnavailable, match="of one process"):
                drive(verb)

    one = multiprocessing.get_context("fork").Process(target=child)
    one.start()
    one.join(30)
    assert one.exitcode == 0
    assert drive(vault.get("k")) is not None


# -- URLs

WRONG = [
    *("redis://host", "no url", "postgres://host/db", "postgresql+psycopg://host/db"),
    *("memory://?a=b", "memory://host", "memory:///path"),
    *("sqlite://", "sqlite://host/x", "sqlite:///v.db?nothing=1", "sqlite:///:memory:", "sqlite:///"),
    *("postgresql://host", "postgresql://host/", "mariadb:///db", "mysql://a,b/db", "postgresql://host:0/db"),
    *("postgresql://host/db?confirm=primary", "postgresql://host/db?timeout=0", "mariadb://host/db?pgbouncer=yes"),
    *("postgresql://host/db?prefix=a;b", "mariadb://host/db?sslmode=require", "postgresql://host/db?ssl_ca=x"),
]


@pytest.mark.parametrize("url", WRONG)
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
def test_wrong_urls_are_refused(url: str, blocking: bool) -> None:
    """When the vault is opened, and not when somebody signs in."""
    with pytest.raises(ConfigurationError):
        open_vault(url, blocking=blocking)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hunter1:hunter2@host:hunter3/db",
        "mariadb://hunter1:hunter2@host/hunter3?nothing=hunter4",
        "mysql://hunter1:hunter2@host/",
        "nothing://hunter1:hunter2@host/hunter3",
    ],
)
def test_an_error_shows_nothing_of_the_url(url: str) -> None:
    """Passwords are in it."""
    with pytest.raises(ConfigurationError) as caught:
        open_vault(url, blocking=True)
    assert "hunter" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


@pytest.mark.parametrize("scheme", ["postgresql", "mariadb", "mysql"])
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
@requirement("R45")
def test_opening_waits_for_nobody_and_the_first_verb_says_who_is_missing(scheme: str, blocking: bool) -> None:
    """Of the vault, and without its address."""
    import asyncio

    vault = open_vault(f"{scheme}://hunter1:hunter2@127.0.0.1:1/hunter3?timeout=2", blocking=blocking)
    assert getattr(vault, "blocking", None) is blocking
    with pytest.raises(StoreUnavailable, match="vault's database") as caught:
        drive(vault.get("k")) if blocking else asyncio.run(vault.get("k"))  # type: ignore[func-returns-value]
    said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "hunter" not in said
    assert "127.0.0.1" not in said
