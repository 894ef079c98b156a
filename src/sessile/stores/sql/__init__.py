"""Sessions in PostgreSQL, MariaDB or MySQL: for many machines, any number of processes and threads, and either door.

What it promises
- A load is one SELECT by primary key and one round trip; the epoch is compared in the same statement. A touch, a save
  over what was just read and a plain create are one statement and one round trip as well.
- Writes of different keys both win. A save first tries one UPDATE over the version that was read; if somebody was
  faster, it locks the row and merges. Deadlocks and serialization failures are tried again within the verb's budget.
- Each verb is one transaction at most: `create` with the one it replaces and the user's limit, `end_user`, `retire`.
- An end is durable before it is acknowledged: `durability` says what `Ending.confirmed` claims, and what it does not.
- A verb takes `timeout` seconds (5) at most, for waiting in the pool, connecting, locks and statements together, and
  then raises `StoreUnavailable`. A single write that was under way has an unknown outcome then, as with any database;
  a transaction that was not being committed left nothing behind.
- Connections belong to one process and one event loop. Those that broke while they were idle are found before use.
- `within(connection)` carries out verbs in a transaction of the application's own.

The schema is Sessile's (`sessile migrate URL`), or part of the application's Alembic metadata (`tables`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.record import PLAIN, Codec
from ...errors import ExtraMissing
from ..url import StoreUrl

if TYPE_CHECKING:
    from .schema import tables
    from .store import SqlStore

__all__ = ["SqlStore", "open_url", "tables"]


def open_url(url: StoreUrl, *, blocking: bool, codec: Codec = PLAIN) -> SqlStore:
    """Open `postgresql://user:password@host/database`, `mariadb://…` or `mysql://…`; nothing is connected yet.

    Raises:
        ConfigurationError: the URL names no database, or an unknown option.
        ExtraMissing: SQLAlchemy or the driver is not installed.
    """
    extra = "postgresql" if url.scheme == "postgresql" else "mariadb"
    try:
        from .address import read
        from .store import SqlStore
    except ModuleNotFoundError as error:
        raise missing(error, extra) from None
    address, options = read(url)
    try:
        return SqlStore(address, blocking=blocking, codec=codec, **options)
    except ModuleNotFoundError as error:
        raise missing(error, extra) from None


def __getattr__(name: str) -> Any:
    try:
        if name == "SqlStore":
            from .store import SqlStore

            return SqlStore
        if name == "tables":
            from .schema import tables

            return tables
    except ModuleNotFoundError as error:
        raise missing(error, "postgresql") from None
    raise AttributeError(name)


def missing(
    error: ModuleNotFoundError, extra: str, feature: str = "The SQL store"
) -> ModuleNotFoundError | ExtraMissing:
    """Return what to raise if a module is missing: the name of the extra, if it is one of its."""
    package = (error.name or "").partition(".")[0]
    if package in ("sqlalchemy", "greenlet", "psycopg", "pymysql", "aiomysql"):
        return ExtraMissing(feature, extra)
    return error
