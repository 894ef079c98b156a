"""The store: what verbs do when the database does not answer as hoped, and how long they may take."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Literal, TypeVar

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.util import greenlet_spawn

from ...core.ports import Clash, Diagnosis, Ending, Gone, Page, Stale, Stats
from ...core.record import PLAIN, Change, Codec, EndReason, Record
from ...errors import ConfigurationError, StoreUnavailable
from . import address, diagnosis, durability, migrations, rows
from .engines import Engines, Given, Own
from .faults import Fault, fault_of, store_error
from .link import Link
from .queries import Queries
from .schema import PREFIX, tables
from .verbs import Verbs
from .within import Within

T = TypeVar("T")

_BATCH: Final = 500  # rows that one transaction of a sweep removes
_LOOKED_AT: Final = 4  # a sweep looks at this many rows for each one that it may remove
_OPERATORS: Final = 60.0  # seconds that counting, migrating and the like may take, if a verb's budget is less
_LOST: Final = 3  # attempts on connections that turn out to be gone


class _Failure(Exception):
    """Carry what went wrong out of the link; it holds nothing of the original."""

    def __init__(self, fault: Fault, *, connected: bool, committing: bool) -> None:
        super().__init__(fault.name)
        self.fault = fault
        self.connected = connected
        self.committing = committing


class SqlStore(Verbs):
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
        if not timeout > 0:
            raise ConfigurationError("timeout must be a number of seconds above zero")
        if isinstance(database, str):
            raise ConfigurationError("open a URL with sessile.stores.open_store, or give SqlStore an engine")
        self._engines: Engines
        if isinstance(database, address.Address):
            if blocking is None:
                raise ConfigurationError("say for which door the store is: blocking=True or blocking=False")
            self._engines = Own(database, blocking=blocking, timeout=timeout, pool=pool, pgbouncer=pgbouncer)
            self._blocking = blocking
        else:
            self._blocking = isinstance(database, Engine)
            if blocking not in (None, self._blocking):
                raise ConfigurationError("the blocking door needs an Engine, the asynchronous one an AsyncEngine")
            self._engines = Given(database)
        self._codec = codec
        self._timeout = timeout
        self._migrating = migrate == "auto"
        self._pgbouncer = pgbouncer
        self._replicas = confirm == "replicas"
        self._queries = Queries(self._engines.dialect_of, tables(MetaData(schema=schema), prefix=prefix))
        self._prepared = False
        self._closed = False

    @property
    def blocking(self) -> bool:
        """Tell for which door the store was opened."""
        return self._blocking

    def within(self, connection: Connection | AsyncConnection) -> Within:
        """Return a store whose verbs belong to the transaction that is open on `connection`.

        They neither commit nor roll back: what they did is done when the application commits.

        Raises:
            ConfigurationError: the connection is for the other door.
        """
        sync = connection.sync_connection if isinstance(connection, AsyncConnection) else connection
        if isinstance(connection, Connection) != self._blocking or sync is None:
            raise ConfigurationError("the blocking door needs an open Connection, the asynchronous one AsyncConnection")
        return Within(sync, self._queries, self._codec, blocking=self._blocking)

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
        return await self._transact(partial(rows.stats, now=now), patience=_OPERATORS)

    async def scan(self, cursor: str | None, limit: int) -> Page:
        """Return live sessions in the order of their ids."""
        return await self._read(partial(rows.scan, cursor=cursor, limit=limit))

    async def migrate(self) -> tuple[int, int]:
        """Bring the schema up to date; return its numbers before and after.

        Raises:
            StoreSchema: it is of a later version of Sessile.
        """
        return await self._attempt(partial(_transaction, migrations.migrate, True, _OPERATORS), patience=_OPERATORS)

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Look at the server: its durability, its limits, its clock, the way to it, and the schema."""
        work = partial(diagnosis.look, pgbouncer=self._pgbouncer, replicas=self._replicas)
        return await self._attempt(partial(_alone, work), lost=_LOST)

    async def close(self) -> None:
        """Close the connections that are the store's own; later verbs raise `StoreUnavailable`."""
        self._closed = True
        for engine in self._engines.closing():
            if self._blocking:
                engine.dispose()
            else:
                await greenlet_spawn(engine.dispose)

    async def _read(self, work: Callable[[Link], T]) -> T:
        if not self._prepared:
            await self._prepare()
        return await self._attempt(partial(_alone, work), lost=_LOST)

    async def _write(self, work: Callable[[Link], T], *, repeatable: bool = False) -> T:
        if not self._prepared:
            await self._prepare()
        return await self._attempt(partial(_alone, work), lost=_LOST if repeatable else 0)

    async def _transact(self, work: Callable[[Link], T], *, durable: bool = False, patience: float | None = None) -> T:
        if not self._prepared:
            await self._prepare()
        return await self._attempt(partial(_transaction, work, durable, patience), lost=_LOST, patience=patience)

    async def _confirm(self, ending: Ending) -> Ending:
        # Also if nothing was left to end: whoever asks again must not hear more than is known of the first time.
        until = time.monotonic() + min(durability.PATIENCE, self._timeout)
        target: str | None = None
        for nap in _naps():
            try:
                sure, target = await self._attempt(
                    partial(_alone, partial(durability.look, target=target, replicas=self._replicas))
                )
            except StoreUnavailable:
                sure = False  # it is committed; how surely can no longer be found out
            if sure is not None or time.monotonic() > until:
                return ending._replace(confirmed=bool(sure))
            await self._nap(nap)
        raise AssertionError("unreachable")

    async def _prepare(self) -> None:
        try:
            await self._attempt(partial(_alone, migrations.check), lost=_LOST)
        except migrations.Outdated:
            if not self._migrating:
                raise
            await self.migrate()
        self._prepared = True

    async def _attempt(self, step: Callable[[Link], T], *, lost: int = 0, patience: float | None = None) -> T:
        """Do a step within the budget: again if transactions met, and on another connection where that is safe."""
        deadline = time.monotonic() + max(self._timeout, patience or 0)
        for nap in _naps():
            if self._closed:
                break
            try:
                return await self._run(partial(self._linked, step, deadline), deadline)
            except _Failure as caught:
                failure = caught
            if time.monotonic() + nap > deadline:
                raise store_error(Fault.LATE)
            if failure.fault is Fault.LOST and failure.connected and not failure.committing and lost:
                lost -= 1
            elif failure.fault not in (Fault.AGAIN, Fault.TAKEN):
                raise store_error(failure.fault)
            await self._nap(nap)
        raise StoreUnavailable("the store is closed")

    async def _run(self, step: Callable[[], T], deadline: float) -> T:
        if self._blocking:
            return step()
        late = False
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await greenlet_spawn(step)
        except TimeoutError:
            late = True
        raise _Failure(Fault.LATE, connected=late, committing=False)

    def _linked(self, step: Callable[[Link], T], deadline: float) -> T:
        link: Link | None = None
        try:
            with self._engines.link(self._engines.current(), self._queries, self._codec, deadline) as lent:
                link = lent
                return step(lent)
        except Exception as error:
            if not _is_databases(error):
                raise
            fault = fault_of(error)
        committing = link is not None and link.committing
        raise _Failure(fault, connected=link is not None, committing=committing)

    async def _nap(self, seconds: float) -> None:
        if self._blocking:
            time.sleep(seconds)  # noqa: ASYNC251 - the blocking door blocks
        else:
            await asyncio.sleep(seconds)


def _alone(work: Callable[[Link], T], link: Link) -> T:
    """Do work that is one statement, or none that must hold together."""
    try:
        return work(link)
    except BaseException as error:
        link.settle(error, begun=False)
        raise


def _transaction(work: Callable[[Link], T], durable: bool, patience: float | None, link: Link) -> T:  # noqa: FBT001
    """Do work in a transaction."""
    try:
        link.begin(durable=durable, patience=patience)
        result = work(link)
        link.commit()
    except BaseException as error:
        link.settle(error, begun=True)
        raise
    return result


def _is_databases(error: Exception) -> bool:
    """Tell whether an error came from the database, its driver or the way to it."""
    if isinstance(error, SQLAlchemyError | OSError | TimeoutError):
        return True
    return type(error).__module__.partition(".")[0] in ("psycopg", "pymysql", "aiomysql", "MySQLdb")


def _naps() -> Iterator[float]:
    """Yield how long to wait between attempts, in seconds; random, so that nodes do not march in step."""
    longest = 0.002
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        longest = min(longest * 2, 0.05)
