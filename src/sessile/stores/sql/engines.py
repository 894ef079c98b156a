"""Engines: which pool of connections the running thread, process and event loop may use.

Own     made from an address: one engine a process for the blocking door, one an event loop for the other. A forked
        child leaves its parent's connections alone; those of a loop that was closed are closed with the next one
Given   the application's own Engine or AsyncEngine; its pool, its settings, its loop
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final, Protocol

from sqlalchemy import URL, AsyncAdaptedQueuePool, Dialect, Engine, QueuePool, create_engine, event, exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from . import drivers
from .address import POSTGRESQL, Address
from .link import AnyLink, BorrowedLink, PooledLink, Q

_RECYCLED: Final = 1800.0  # seconds after which an idle connection is replaced: less than what firewalls forget


class Engines(Protocol):
    """Offer links."""

    @property
    def dialect_of(self) -> Dialect:
        """Return the dialect that statements are compiled for."""
        ...

    def current(self) -> Engine:
        """Return the engine for here and now."""
        ...

    def link(self, engine: Engine, queries: Q, deadline: float) -> AbstractContextManager[AnyLink[Q]]:
        """Lend a link, in a `with`; one that is left by an exception in the middle of its work is thrown away."""
        ...

    def closing(self) -> tuple[Engine, ...]:
        """Return the engines to dispose of, and forget them."""
        ...


class Own:
    """Make engines from an address, when they are needed."""

    def __init__(self, address: Address, *, blocking: bool, timeout: float, pool: int, pgbouncer: bool) -> None:
        self._address = address
        self._blocking = blocking
        self._timeout = timeout
        self._pool = pool
        self._limit = timeout if pgbouncer else None
        self._name = drivers.driver_name(address, blocking=blocking)
        self._arguments = drivers.arguments(address, blocking=blocking, timeout=timeout, pgbouncer=pgbouncer)
        self._lock = threading.Lock()
        self._engines: dict[asyncio.AbstractEventLoop | None, Engine] = {}
        self._opened: weakref.WeakKeyDictionary[Engine, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()
        self._last: tuple[asyncio.AbstractEventLoop | None, Engine] | None = None
        self.dialect_of: Dialect = self._make().dialect
        _all.add(self)

    def current(self) -> Engine:
        """Return this process's engine, or this event loop's."""
        loop = None if self._blocking else asyncio.get_running_loop()
        last = self._last
        if last is not None and last[0] is loop:
            return last[1]
        with self._lock:
            engine = self._engines.get(loop)
            if engine is None:
                for old in [old for old in self._engines if old is not None and old.is_closed()]:
                    self._abandon(self._engines.pop(old))
                engine = self._engines[loop] = self._make()
            self._last = loop, engine
            return engine

    @contextmanager
    def link(self, engine: Engine, queries: Q, deadline: float) -> Generator[AnyLink[Q]]:
        """Lend a connection of the pool."""
        pooled = engine.raw_connection()
        drivers.limit(pooled.dbapi_connection, deadline)
        link = PooledLink(queries, deadline, pooled)
        link.limit = self._limit
        try:
            yield link
        except BaseException:
            if not link.settled:
                pooled.invalidate()
            raise
        finally:
            pooled.close()

    def closing(self) -> tuple[Engine, ...]:
        """Forget all engines; return those whose loop is this one, the others are closed here."""
        loop = None if self._blocking else asyncio.get_running_loop()
        with self._lock:
            engines, self._engines, self._last = self._engines, {}, None
        for other in [other for other in engines if other is not loop]:
            self._abandon(engines.pop(other))
        return tuple(engines.values())

    def forget(self) -> None:
        """Begin anew in a forked child; the parent's connections are never closed there."""
        _abandoned.append((self._engines, self._opened))
        self._lock = threading.Lock()
        self._engines, self._opened, self._last = {}, weakref.WeakKeyDictionary(), None

    def _make(self) -> Engine:
        options: dict[str, Any] = {
            "connect_args": self._arguments,
            "isolation_level": "AUTOCOMMIT",
            "pool_size": self._pool,
            "max_overflow": 0,
            "pool_timeout": self._timeout,
            "pool_recycle": _RECYCLED,
            "pool_use_lifo": True,
            "pool_reset_on_return": None,  # nothing is open when a link is returned; saves a round trip on MariaDB
            "hide_parameters": True,
        }
        if self._address.kind == POSTGRESQL:
            options["use_native_hstore"] = False  # saves a query on the first connection
        url = URL.create(self._name)
        if self._blocking:
            engine = create_engine(url, poolclass=QueuePool, **options)
        else:
            engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool, **options).sync_engine
        opened = self._opened[engine] = weakref.WeakSet()
        if self._blocking and self._address.kind == POSTGRESQL:
            event.listen(engine, "do_connect", partial(_connect_bounded, drivers.bounded(), self._timeout))
        event.listen(engine, "connect", partial(self._set, opened))
        event.listen(engine, "checkout", _look)
        return engine

    def _set(self, opened: weakref.WeakSet[Any], connection: Any, _record: Any) -> None:
        opened.add(_driver_connection(connection))
        if self._address.kind != POSTGRESQL:
            cursor = connection.cursor()
            try:
                cursor.execute(drivers.settings(self._timeout))
            finally:
                cursor.close()

    def _abandon(self, engine: Engine) -> None:
        left = [one for one in self._opened.pop(engine, ()) if not drivers.kill(one)]
        engine.dispose(close=False)
        _abandoned.append(left)


class Given:
    """Use the application's engine."""

    def __init__(self, engine: Engine | AsyncEngine) -> None:
        self._engine: Engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        self.dialect_of: Dialect = self._engine.dialect
        _all.add(self)

    def forget(self) -> None:
        """Give the engine a new pool in a forked child; the parent's connections are never closed there."""
        _abandoned.append(self._engine.pool)
        self._engine.dispose(close=False)

    def current(self) -> Engine:
        """Return the one engine there is."""
        return self._engine

    @contextmanager
    def link(self, engine: Engine, queries: Q, deadline: float) -> Generator[AnyLink[Q]]:
        """Lend a connection of the application's pool, in autocommit mode."""
        with engine.connect() as connection:
            borrowed = connection.execution_options(isolation_level="AUTOCOMMIT")
            link = BorrowedLink(queries, deadline, borrowed)
            with drivers.limited(borrowed.connection.dbapi_connection, deadline):
                try:
                    yield link
                except BaseException:
                    if not link.settled and not connection.invalidated:
                        connection.invalidate()
                    raise

    def closing(self) -> tuple[Engine, ...]:
        """Return nothing: who made the engine disposes of it."""
        return ()


def _connect_bounded(connect: Any, timeout: float, _dialect: Any, _record: Any, arguments: Any, keywords: Any) -> Any:
    connection = connect(*arguments, **keywords)
    drivers.limit(connection, time.monotonic() + timeout)  # SQLAlchemy asks a server some things when it first meets it
    return connection


def _driver_connection(connection: Any) -> Any:
    return getattr(connection, "driver_connection", None) or getattr(connection, "_connection", connection)


def _look(connection: Any, _record: Any, _proxy: Any) -> None:
    """Refuse a pooled connection that its server has closed; the pool then opens another."""
    if not drivers.is_silent(_driver_connection(connection)):
        raise exc.DisconnectionError


_all: weakref.WeakSet[Own | Given] = weakref.WeakSet()
_abandoned: list[Any] = []


def _after_fork() -> None:
    for engines in tuple(_all):
        engines.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
