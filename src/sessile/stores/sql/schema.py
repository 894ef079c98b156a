"""The tables, as SQLAlchemy knows them: `tables(metadata)` puts them into the application's own metadata.

    session   one row a session; the index of users and the index of deadlines are all there is beside the primary key
    epoch     one row each time that everything was ended; none: it never was
    meta      the schema's version; on MariaDB and MySQL also the rows that sign-ins with a limit lock

No row needs to be there at the start, so that a migration tool that only makes tables makes all that is needed.

`id` is the session id's 20 bytes and `owner` the first 20 bytes of the SHA-256 of the user's name: fixed length, and
compared byte for byte, where collations would take "a", "A" and "a " for one user. The name itself is in `control`.

`due` is a lower bound of `expires_at`. Sweeps move it on, saves and touches do not: they change no indexed column, so
PostgreSQL writes no index at all for them (heap-only tuples), and MariaDB one page.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Column, Double, Index, LargeBinary, MetaData, String, Table
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

PREFIX: Final = "sessile_"
MYSQL: Final = ("mysql", "mariadb")
OPTIONS: Final[dict[str, Any]] = {
    f"{name}_{option}": value
    for name in MYSQL
    for option, value in (("engine", "InnoDB"), ("row_format", "DYNAMIC"), ("default_charset", "utf8mb4"))
}


class Tables(NamedTuple):
    """Hold the three tables."""

    session: Table
    epoch: Table
    meta: Table


def tables(metadata: MetaData, *, prefix: str = PREFIX) -> Tables:
    """Add Sessile's tables to `metadata`, in its schema if it has one, and return them."""
    session = Table(
        f"{prefix}session",
        metadata,
        Column("id", _fixed(20), primary_key=True),
        Column("epoch", BigInteger, nullable=False),
        Column("seen_at", Double, nullable=False),
        Column("expires_at", Double, nullable=False),
        Column("due", Double, nullable=False),
        Column("revision", BigInteger, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("owner", _fixed(20)),
        Column("tombstone", _blob()),
        Column("control", _blob()),
        Column("data", _blob()),
        postgresql_with={"fillfactor": 85},  # room on the page for heap-only updates
        **OPTIONS,
    )
    owner = session.c.owner
    Index(f"{prefix}session_owner", owner, postgresql_where=owner.is_not(None))
    Index(f"{prefix}session_due", session.c.epoch, session.c.due)
    epoch = Table(
        f"{prefix}epoch",
        metadata,
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        Column("started_at", Double, nullable=False),
        **OPTIONS,
    )
    return Tables(session, epoch, meta_table(metadata, prefix=prefix))


def meta_table(metadata: MetaData, *, prefix: str) -> Table:
    """Add the table that holds numbers by their names."""
    return Table(
        f"{prefix}meta",
        metadata,
        Column("name", String(40), primary_key=True),
        Column("value", BigInteger, nullable=False),
        **OPTIONS,
    )


def _fixed(size: int) -> TypeEngine[bytes]:
    return LargeBinary(size).with_variant(mysql.BINARY(size), *MYSQL)


def _blob() -> TypeEngine[bytes]:
    return LargeBinary().with_variant(mysql.MEDIUMBLOB(), *MYSQL)
