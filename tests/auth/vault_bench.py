"""Vaults in databases of real servers, for tests: a fresh database each."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from sessile.auth.vaults import open_vault
from sessile.core.bridge import drive
from tests.stores.sql_databases import Database, Kind
from tests.support.servers import shared


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


@contextmanager
def lent(kind: Kind) -> Iterator[Database]:
    """Lend a database with the vault's tables."""
    made = Database(shared(kind))
    try:
        migrated(made)
        yield made
    finally:
        made.drop()
