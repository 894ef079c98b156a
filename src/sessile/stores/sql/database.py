"""One SQL database behind one door: what verbs do when it does not answer as hoped, and how long they may take."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Generic, TypeVar

from sqlalchemy import Dialect, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from ...errors import ConfigurationError, StoreUnavailable
from . import address, migrations
from .engines import Engines, Given, Own
from .faults import Fault, fault_of, store_error
from .link import AnyLink, Q
from .migrations import Plan

T = TypeVar("T")

OPERATORS: Final = 60.0  # seconds that counting, migrating and the like may take, if a verb's budget is less
LOST: Final = 3  # attempts on connections that turn out to be gone


class _Failure(Exception):
    """Carry what went wrong out of the link; it holds nothing of the original."""

    def __init__(self, fault: Fault, *, connected: bool, committing: bool) -> None:
        super().__init__(fault.name)
        self.fault = fault
        self.connected = connected
        self.committing = committing


class Database(Generic[Q]):
    """Do work on the database that an address names, or on that of the application's own Engine or AsyncEngine.

    `queries` makes the statements for a dialect; `plan` says how the tables are made.

    Raises:
        ConfigurationError: `blocking` is missing or does not fit the engine, or the engine is of another database.
    """

    def __init__(
        self,
        database: address.Address | Engine | AsyncEngine | str,
        queries: Callable[[Dialect], Q],
        plan: Plan,
        *,
        blocking: bool | None,
        timeout: float,
        pool: int,
        migrate: bool,
        pgbouncer: bool,
    ) -> None:
        if not timeout > 0:
            raise ConfigurationError("timeout must be a number of seconds above zero")
        if isinstance(database, str):
            raise ConfigurationError(f"a URL is opened by open_{plan.names.thing}; this takes an engine")
        self._engines: Engines
        if isinstance(database, address.Address):
            if blocking is None:
                raise ConfigurationError(f"say for which door the {plan.names.thing} is: blocking=True or False")
            self._engines = Own(database, blocking=blocking, timeout=timeout, pool=pool, pgbouncer=pgbouncer)
            self._blocking = blocking
        else:
            self._blocking = isinstance(database, Engine)
            if blocking not in (None, self._blocking):
                raise ConfigurationError("the blocking door needs an Engine, the asynchronous one an AsyncEngine")
            self._engines = Given(database)
        self._timeout = timeout
        self._migrating = migrate
        self._plan = plan
        self._queries = queries(self._engines.dialect_of)
        self._prepared = False
        self._closed = False

    @property
    def blocking(self) -> bool:
        """Tell for which door it was opened."""
        return self._blocking

    async def migrate(self) -> tuple[int, int]:
        """Bring the schema up to date; return its numbers before and after.

        Raises:
            StoreSchema: it is of a later version of Sessile.
        """
        return await self._attempt(
            partial(_transaction, partial(migrations.migrate, plan=self._plan), True, OPERATORS), patience=OPERATORS
        )

    async def close(self) -> None:
        """Close the connections that are the store's own; later verbs raise `StoreUnavailable`."""
        self._closed = True
        for engine in self._engines.closing():
            if self._blocking:
                engine.dispose()
            else:
                await greenlet_spawn(engine.dispose)

    async def _read(self, work: Callable[[AnyLink[Q]], T]) -> T:
        if not self._prepared:
            await self._prepare()
        return await self._attempt(partial(alone, work), lost=LOST)

    async def _write(self, work: Callable[[AnyLink[Q]], T], *, repeatable: bool = False) -> T:
        if not self._prepared:
            await self._prepare()
        return await self._attempt(partial(alone, work), lost=LOST if repeatable else 0)

    async def _transact(
        self, work: Callable[[AnyLink[Q]], T], *, durable: bool = False, patience: float | None = None
    ) -> T:
        if not self._prepared:
            await self._prepare()
        return await self._attempt(partial(_transaction, work, durable, patience), lost=LOST, patience=patience)

    async def _prepare(self) -> None:
        try:
            await self._attempt(partial(alone, partial(migrations.check, plan=self._plan)), lost=LOST)
        except migrations.Outdated:
            if not self._migrating:
                raise
            await self.migrate()
        self._prepared = True

    async def _attempt(self, step: Callable[[AnyLink[Q]], T], *, lost: int = 0, patience: float | None = None) -> T:
        """Do a step within the budget: again if transactions met, and on another connection where that is safe."""
        deadline = time.monotonic() + max(self._timeout, patience or 0)
        for nap in naps():
            if self._closed:
                break
            try:
                return await self._run(partial(self._linked, step, deadline), deadline)
            except _Failure as caught:
                failure = caught
            if time.monotonic() + nap > deadline:
                raise store_error(Fault.LATE, self._plan.names)
            if failure.fault is Fault.LOST and failure.connected and not failure.committing and lost:
                lost -= 1
            elif failure.fault not in (Fault.AGAIN, Fault.TAKEN):
                raise store_error(failure.fault, self._plan.names)
            await self._nap(nap)
        raise StoreUnavailable(f"the {self._plan.names.thing} is closed")

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

    def _linked(self, step: Callable[[AnyLink[Q]], T], deadline: float) -> T:
        link: AnyLink[Q] | None = None
        try:
            with self._engines.link(self._engines.current(), self._queries, deadline) as lent:
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


def alone(work: Callable[[AnyLink[Q]], T], link: AnyLink[Q]) -> T:
    """Do work that is one statement, or none that must hold together."""
    try:
        return work(link)
    except BaseException as error:
        link.settle(error, begun=False)
        raise


def _transaction(work: Callable[[AnyLink[Q]], T], durable: bool, patience: float | None, link: AnyLink[Q]) -> T:  # noqa: FBT001
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


def naps() -> Iterator[float]:
    """Yield how long to wait between attempts, in seconds; random, so that nodes do not march in step."""
    longest = 0.002
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        longest = min(longest * 2, 0.05)
