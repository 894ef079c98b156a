"""The contract of vaults on real servers, through both doors, on engines of the vault's own and the application's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from sessile.auth.vault import Vault
from sessile.auth.vaults import SqlVault, open_vault
from sessile.core.bridge import drive
from sessile.testing import VaultContract
from tests.stores.sql_databases import Database, Kind
from tests.support.servers import shared


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
