"""The store: its verbs on its own connections or the application's, and what it can say of its ends and its server."""

from __future__ import annotations

import time
from functools import partial
from typing import Final, Literal

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ...core.ports import Clash, Diagnosis, Ending, Gone, Page, Stale, Stats
from ...core.record import PLAIN, Change, Codec, EndReason, Record
from ...errors import ConfigurationError, StoreUnavailable
from . import address, diagnosis, durability, migrations, rows
from .database import LOST, OPERATORS, Database, alone, naps
from .queries import Queries
from .schema import PREFIX, tables
from .verbs import Verbs
from .within import Within

_BATCH: Final = 500  # rows that one transaction of a sweep removes
_LOOKED_AT: Final = 4  # a sweep looks at this many rows for each one that it may remove


class SqlStore(Database[Queries], Verbs):
    """Keep sessions in PostgreSQL, MariaDB or MySQL.

    `database` is an address (from a URL), or the application's own SQLAlchemy Engine or AsyncEngine, which it goes on
    owning; then `blocking` follows from its kind. `timeout` is the budget of a verb in seconds, `pool` how many
    connections a process (or event loop) may have. `prefix` and `schema` say what the tables are called. `migrate`
    "auto" makes the tables at first use. `confirm` says what a confirmed end is (see `durability`). `pgbouncer` leaves
    out what a pooler that lends connections by the transaction does not keep.

    Raises:
        ConfigurationError: `blocking` is missing, or does not fit the engine.
    """

    def __init__(
        self,
        database: address.Address | Engine | AsyncEngine | str,
        *,
        blocking: bool | None = None,
        codec: Codec = PLAIN,
        timeout: float = 5.0,
        pool: int = 10,
        prefix: str = PREFIX,
        schema: str | None = None,
        migrate: Literal["no", "auto"] = "no",
        confirm: Literal["replicas", "primary"] = "replicas",
        pgbouncer: bool = False,
    ) -> None:
        super().__init__(
            database,
            partial(Queries, tables=tables(MetaData(schema=schema), prefix=prefix), codec=codec),
            migrations.SESSIONS,
            blocking=blocking,
            timeout=timeout,
            pool=pool,
            migrate=migrate == "auto",
            pgbouncer=pgbouncer,
        )
        self._pgbouncer = pgbouncer
        self._replicas = confirm == "replicas"

    def within(self, connection: Connection | AsyncConnection) -> Within:
        """Return a store whose verbs belong to the transaction that is open on `connection`.

        They neither commit nor roll back: what they did is done when the application commits.

        Raises:
            ConfigurationError: the connection is for the other door.
        """
        sync = connection.sync_connection if isinstance(connection, AsyncConnection) else connection
        if isinstance(connection, Connection) != self._blocking or sync is None:
            raise ConfigurationError("the blocking door needs an open Connection, the asynchronous one AsyncConnection")
        return Within(sync, self._queries, blocking=self._blocking)

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Merge the change into the row: in one statement if it is as `base` was read, else behind a row lock."""
        if base.etag is not None:
            work = partial(rows.save_over, session_id=session_id, change=change, base=base)
            saved = await self._write(work)
            if saved is not None:
                return saved
        return await super().save(session_id, change, base)

    async def sweep(self, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
        """Remove what has ended or expired, in batches; what another node is removing is left to it."""
        if not await self._read(partial(rows.anything_due, now=now)):
            return ()
        removed: list[tuple[str, EndReason | None]] = []
        looked_at = 0
        while len(removed) < limit and looked_at < _LOOKED_AT * limit:
            size = min(limit - len(removed), _BATCH)
            batch, looked = await self._transact(partial(rows.sweep, now=now, limit=size))
            if not looked:
                break
            removed += batch
            looked_at += looked
        return tuple(removed)

    async def stats(self, now: float) -> Stats:
        """Count all rows."""
        return await self._transact(partial(rows.stats, now=now), patience=OPERATORS)

    async def scan(self, cursor: str | None, limit: int) -> Page:
        """Return live sessions in the order of their ids."""
        return await self._read(partial(rows.scan, cursor=cursor, limit=limit))

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Look at the server: its durability, its limits, its clock, the way to it, and the schema."""
        work = partial(diagnosis.look, subject=diagnosis.sessions(replicas=self._replicas), pgbouncer=self._pgbouncer)
        return await self._attempt(partial(alone, work), lost=LOST)

    async def _confirm(self, ending: Ending) -> Ending:
        # Also if nothing was left to end: whoever asks again must not hear more than is known of the first time.
        until = time.monotonic() + min(durability.PATIENCE, self._timeout)
        target: str | None = None
        for nap in naps():
            try:
                sure, target = await self._attempt(
                    partial(alone, partial(durability.look, target=target, replicas=self._replicas))
                )
            except StoreUnavailable:
                sure = False  # it is committed; how surely can no longer be found out
            if sure is not None or time.monotonic() > until:
                return ending._replace(confirmed=bool(sure))
            await self._nap(nap)
        raise AssertionError("unreachable")
