"""Django's table of sessions: read a row, delete a row, by SQLAlchemy or by a connection of the Django project itself.

Both block, so for an event loop they work in a thread. That happens once for each old session.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from ..errors import ConfigurationError, ExtraMissing, StoreUnavailable
from .opened import Rows

T = TypeVar("T")
Row = tuple[str, float | None]  # text and expiry (seconds since 1970, None if it cannot be read)
_DAMAGED: Final[Row] = "", None

_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")
_DJANGO: Final = "django:"
_WAIT: Final = 5  # seconds, for a connection; for an answer where the driver can


class Database(NamedTuple):
    """Say where the table is."""

    address: str
    table: str

    def __repr__(self) -> str:
        return f"<Database {self.table}>"  # the address may hold a password


def table_of(database: Database, *, blocking: bool) -> Rows:
    """Return the rows of the table.

    Raises:
        ConfigurationError: the address or the table's name is none.
        ExtraMissing: SQLAlchemy, or the database's driver, is not installed.
    """
    if not _TABLE.fullmatch(database.table):
        raise ConfigurationError("the old table's name is not a name")
    address = database.address
    rows = (
        _DjangosOwn(address[len(_DJANGO) :], database.table)
        if address.startswith(_DJANGO)
        else _BySqlAlchemy(address, database.table)
    )
    return rows if blocking else _InThreads(rows)


class _BySqlAlchemy:
    def __init__(self, url: str, table: str) -> None:
        try:
            import sqlalchemy as sa
            from sqlalchemy import exc
        except ImportError as error:
            raise ExtraMissing("a bridge to sessions in a database", "postgresql") from error
        try:
            parsed = sa.make_url(url)
            limits = {name: value for name, value in _limits(parsed.drivername).items() if name not in parsed.query}
            self._engine = sa.create_engine(parsed, pool_pre_ping=True, pool_timeout=_WAIT, connect_args=limits)
        except exc.ArgumentError:
            raise ConfigurationError("the old database's address is no URL that SQLAlchemy knows") from None
        except ImportError as error:
            raise ConfigurationError(f"the old database's driver is not installed: {error.name}") from None
        schema, _, name = table.rpartition(".")
        self._table = sa.Table(
            name,
            sa.MetaData(),
            sa.Column("session_key", sa.String(40), primary_key=True),
            sa.Column("session_data", sa.Text),
            sa.Column("expire_date", sa.DateTime(timezone=True)),
            schema=schema or None,
        )
        self._failures: tuple[type[Exception], ...] = (exc.SQLAlchemyError, OSError)
        self._damages = exc.DataError

    async def get(self, key: str) -> Row | None:
        """Return text and expiry of a row."""
        table = self._table

        def work(connection: Any) -> Row | None:
            columns = (table.c.session_data, table.c.expire_date)
            query = table.select().with_only_columns(*columns).where(table.c.session_key == key)
            try:
                return _row(connection.execute(query).first)
            except self._damages:  # psycopg's word for a date like "infinity"
                return _DAMAGED

        return self._try(work)

    async def delete(self, key: str) -> None:
        """Remove a row."""
        self._try(lambda connection: connection.execute(self._table.delete().where(self._table.c.session_key == key)))

    async def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    def _try(self, work: Callable[[Any], T]) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except self._failures:
            raise StoreUnavailable("the old database did not answer") from None


def _limits(driver: str) -> dict[str, Any]:
    """Return what bounds a driver's waits: by themselves they wait for minutes, or for good, and so would a request."""
    if driver in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        # No limit of the server's own: it is set by `options`, which PgBouncer refuses.
        return {"connect_timeout": _WAIT, "tcp_user_timeout": _WAIT * 1000}
    if driver.partition("+")[0] in ("mysql", "mariadb") and driver.endswith(("+pymysql", "+mysqldb", "mysql")):
        return {"connect_timeout": _WAIT, "read_timeout": _WAIT, "write_timeout": _WAIT}
    return {}


class _DjangosOwn:
    def __init__(self, alias: str, table: str) -> None:
        try:
            import django.db as _  # noqa: F401
        except ImportError as error:
            raise ExtraMissing("a bridge by Django's own connections", "django") from error
        self._alias = alias or "default"
        self._table = table

    async def get(self, key: str) -> Row | None:
        """Return text and expiry of a row."""
        statement = "SELECT session_data, expire_date FROM {} WHERE session_key = %s"
        return self._try(statement, key, lambda cursor: _row(cursor.fetchone))

    async def delete(self, key: str) -> None:
        """Remove a row."""
        self._try("DELETE FROM {} WHERE session_key = %s", key, lambda _: None)

    async def close(self) -> None:
        """Do nothing: the connections are the project's."""

    def _try(self, statement: str, key: str, result: Callable[[Any], T]) -> T:
        from django.db import Error, connections
        from django.utils.connection import ConnectionDoesNotExist

        try:
            connection = connections[self._alias]
        except ConnectionDoesNotExist:
            raise ConfigurationError("the old database is none of the project's DATABASES") from None
        quoted = ".".join(connection.ops.quote_name(part) for part in self._table.split("."))
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement.format(quoted), [key])
                return result(cursor)
        except Error:
            raise StoreUnavailable("the old database did not answer") from None


class _InThreads:
    """Let an event loop wait for rows that block."""

    def __init__(self, rows: _BySqlAlchemy | _DjangosOwn) -> None:
        self._rows = rows

    async def get(self, key: str) -> Any | None:
        """Return a row."""
        return await asyncio.to_thread(_run, self._rows, "get", key)

    async def delete(self, key: str) -> None:
        """Remove a row."""
        await asyncio.to_thread(_run, self._rows, "delete", key)

    async def close(self) -> None:
        """Release what is held open."""
        await self._rows.close()


def _run(rows: _BySqlAlchemy | _DjangosOwn, verb: str, key: str) -> Any:
    from ..core.bridge import drive

    try:
        return drive(getattr(rows, verb)(key))
    finally:
        if isinstance(rows, _DjangosOwn):
            # The thread is the loop's, and Django would never close what it opened in it.
            from django.db import connections

            connections.close_all()


def _row(fetch: Callable[[], Any]) -> Row | None:
    """Return a row as the bridge takes it; drivers raise what they like for a date or a text that is none."""
    try:
        row = fetch()
        return None if row is None else (str(row[0]), _seconds(row[1]))
    except (ValueError, TypeError, OverflowError):
        return _DAMAGED


def _seconds(value: Any) -> float | None:
    """Return a time in seconds since 1970, None for what is none.

    A database that keeps no zones keeps Django's times in UTC.
    """
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if not isinstance(value, dt.datetime):
        return None
    return (value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)).timestamp()
