"""A link: one connection, as verbs see it. They are plain functions; the asynchronous door runs them in a greenlet.

PooledLink       a connection of the store's own pool, spoken to through the driver. It is in autocommit mode, so that a
                 single statement is a single round trip; transactions are begun by hand
BorrowedLink     a SQLAlchemy connection: of an engine that the application gave (in autocommit mode as well), or the
                 application's own with its transaction open, which is neither committed nor rolled back here
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeAlias, TypeVar

from sqlalchemy import ClauseElement, Connection
from sqlalchemy.pool import PoolProxiedConnection

from .faults import Fault, fault_of
from .queries import Queries
from .statements import Sql, Statements

Q = TypeVar("Q", bound=Statements)

_BEGIN_POSTGRESQL: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
# Never less than durable on this server and on every synchronous standby; what is stronger stays.
_DURABLE_POSTGRESQL: Final = """SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"""
_ISOLATION_MYSQL: Final = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

Rows = Sequence[Sequence[Any]]


class AnyLink(ABC, Generic[Q]):
    """Carry statements to the database; hold what verbs need beside: the statements and the deadline."""

    def __init__(self, queries: Q, deadline: float) -> None:
        self.queries = queries
        self.deadline = deadline  # of time.monotonic()
        self.committing = False  # once COMMIT was sent, a failure leaves the outcome unknown
        self.limit: float | None = None  # seconds; for transactions on connections that keep no limit of their own
        self.settled = False  # after a failure: the server answered, and nothing is left open

    @abstractmethod
    def fetch_text(self, text: str, values: Any = None) -> Rows:
        """Run a statement of the driver's own form, and return its rows."""

    @abstractmethod
    def change_text(self, text: str, values: Any = None) -> int:
        """Run a statement of the driver's own form, and return how many rows it met."""

    @abstractmethod
    def backend(self) -> int | None:
        """Return the number of the server's process, as PostgreSQL's driver was told."""

    def fetch(self, sql: Sql, values: Mapping[str, Any]) -> Rows:
        """Run a SELECT."""
        return self.fetch_text(*self._arranged(sql, values))

    def change(self, sql: Sql, values: Mapping[str, Any]) -> int:
        """Run a statement that writes, and return how many rows it met."""
        return self.change_text(*self._arranged(sql, values))

    def change_built(self, statement: ClauseElement) -> int:
        """Run a statement that holds its own values."""
        sql, values = self.queries.built(statement)
        return self.change(sql, values)

    def _arranged(self, sql: Sql, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
        if self.queries.postgresql:
            return sql.text, values
        if sql.order is None:
            return sql.text % {name: _literal(value) for name, value in values.items()}, None
        return sql.text % tuple([_literal(values[name]) for name in sql.order]), None

    def begin(self, *, durable: bool, patience: float | None = None) -> None:
        """Begin a READ COMMITTED transaction; `durable`: its commit is to survive a power cut.

        `patience` replaces the server's own limit for a statement, in seconds, until the transaction ends.
        """
        if self.queries.postgresql:
            self.change_text(_BEGIN_POSTGRESQL)
            if durable:
                self.harden()
            limit = patience or self.limit
            if limit is not None:
                self.change_text(f"SET LOCAL statement_timeout = {round(limit * 1000)}")
        else:
            self.isolate()
            self.change_text("START TRANSACTION")

    def harden(self) -> None:
        """Let the open transaction's commit survive a power cut, where that is the transaction's choice."""
        if self.queries.postgresql:
            self.fetch_text(_DURABLE_POSTGRESQL)

    def isolate(self) -> None:
        """Make the next transaction READ COMMITTED, on MariaDB and MySQL."""
        self.change_text(_ISOLATION_MYSQL)

    def commit(self) -> None:
        """Commit what `begin` began."""
        self.committing = True
        self.change_text("COMMIT")
        self.committing = False

    def settle(self, error: BaseException, *, begun: bool) -> None:
        """Undo what `begin` began after a failure, if the server still listens; else the connection is thrown away."""
        if isinstance(error, Exception) and not isinstance(error, TimeoutError) and fault_of(error) is not Fault.LOST:
            if begun:
                with suppress(Exception):
                    self.change_text("ROLLBACK")
                    self.settled = True
            else:
                self.settled = True

    def seconds_left(self) -> float:
        """Return how much of the verb's budget is left."""
        return self.deadline - time.monotonic()


Link: TypeAlias = AnyLink[Queries]


def _backend(driver_connection: Any) -> int | None:
    info = getattr(driver_connection, "info", None)
    return getattr(info, "backend_pid", None)


def _literal(value: bytes | str | float | None) -> str:
    """Write a value into a statement for MariaDB or MySQL, whose drivers do the same: they send no parameters.

    Text and bytes are written in hexadecimal, so that nothing in them can mean anything. (aiomysql 0.3 cannot write
    bytes at all beside PyMySQL 1.2.)
    """
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, str):
        return f"_utf8mb4 X'{value.encode().hex()}'"
    if isinstance(value, int):
        return str(value)
    number = repr(float(value))  # the shortest that reads back as the same number
    if not math.isfinite(value):
        raise ValueError("a time must be a finite number")
    return number if "e" in number else f"{number}e0"


class PooledLink(AnyLink[Q]):
    """Speak to a connection of the store's own engine through its driver."""

    def __init__(self, queries: Q, deadline: float, pooled: PoolProxiedConnection) -> None:
        super().__init__(queries, deadline)
        self._pooled = pooled
        connection: Any = pooled.dbapi_connection
        self._cursor: Any = connection.cursor

    def backend(self) -> int | None:
        """Return the number of the server's process."""
        return _backend(self._pooled.driver_connection)

    def fetch_text(self, text: str, values: Any = None) -> Rows:
        """Run a statement and return its rows."""
        cursor = self._cursor()
        try:
            cursor.execute(text, values)
            rows: Rows = cursor.fetchall()
            return rows
        finally:
            cursor.close()

    def change_text(self, text: str, values: Any = None) -> int:
        """Run a statement and return how many rows it met."""
        cursor = self._cursor()
        try:
            cursor.execute(text, values)
            met: int = cursor.rowcount
            return met
        finally:
            cursor.close()

    def isolate(self) -> None:
        """Do nothing: the store's own connections were set when they were opened."""


class BorrowedLink(AnyLink[Q]):
    """Speak through a SQLAlchemy connection."""

    def __init__(self, queries: Q, deadline: float, connection: Connection) -> None:
        super().__init__(queries, deadline)
        self._connection = connection

    def backend(self) -> int | None:
        """Return the number of the server's process."""
        return _backend(self._connection.connection.driver_connection)

    def fetch_text(self, text: str, values: Any = None) -> Rows:
        """Run a statement and return its rows."""
        return self._connection.exec_driver_sql(text, values).fetchall()

    def change_text(self, text: str, values: Any = None) -> int:
        """Run a statement and return how many rows it met."""
        with self._connection.exec_driver_sql(text, values) as result:
            return result.rowcount
