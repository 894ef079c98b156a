"""The schema: who makes it, how it is brought up to date, and what is refused.

A migration is safe to run twice and from several nodes at once: it holds a lock, and each step is done once. Steps only
ever add: the code before a step goes on working after it, so that nodes are replaced one by one. The number of the last
step is a row of the table `meta`. Without that row, tables that are there belong to somebody else's migrations.
"""

from __future__ import annotations

from typing import Final

from ...errors import StoreSchema
from .faults import MIGRATE, Fault, fault_of
from .link import Link

_LOCK: Final = 0x53455353  # "SESS"

# {p} is the prefix with the schema before it, {i} the prefix alone.
_POSTGRESQL: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE IF NOT EXISTS {p}session (
            id BYTEA NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL,
            seen_at DOUBLE PRECISION NOT NULL, expires_at DOUBLE PRECISION NOT NULL, due DOUBLE PRECISION NOT NULL,
            revision BIGINT NOT NULL, version BIGINT NOT NULL,
            owner BYTEA, tombstone BYTEA, control BYTEA, data BYTEA) WITH (fillfactor = 85)""",
        "CREATE INDEX IF NOT EXISTS {i}session_owner ON {p}session (owner) WHERE owner IS NOT NULL",
        "CREATE INDEX IF NOT EXISTS {i}session_due ON {p}session (epoch, due)",
        "CREATE TABLE IF NOT EXISTS {p}epoch (number BIGINT PRIMARY KEY, started_at DOUBLE PRECISION NOT NULL)",
    ),
)
_META_POSTGRESQL: Final = "CREATE TABLE IF NOT EXISTS {p}meta (name VARCHAR(40) PRIMARY KEY, value BIGINT NOT NULL)"
_TABLE_MYSQL: Final = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4"
# MariaDB and MySQL commit after each of these, so each must be safe to repeat.
_MYSQL: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE IF NOT EXISTS {p}session (
            id BINARY(20) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL,
            seen_at DOUBLE NOT NULL, expires_at DOUBLE NOT NULL, due DOUBLE NOT NULL,
            revision BIGINT NOT NULL, version BIGINT NOT NULL,
            owner BINARY(20), tombstone MEDIUMBLOB, control MEDIUMBLOB, data MEDIUMBLOB,
            INDEX {i}session_owner (owner), INDEX {i}session_due (epoch, due)) """
        + _TABLE_MYSQL,
        "CREATE TABLE IF NOT EXISTS {p}epoch (number BIGINT NOT NULL PRIMARY KEY, started_at DOUBLE NOT NULL) "
        + _TABLE_MYSQL,
    ),
)
_META_MYSQL: Final = (
    "CREATE TABLE IF NOT EXISTS {p}meta (name VARCHAR(40) PRIMARY KEY, value BIGINT NOT NULL) " + _TABLE_MYSQL
)

LATEST: Final = len(_POSTGRESQL)


class Outdated(StoreSchema):
    """Say that the schema is missing or older: what a migration mends."""

    code = "store-outdated"


def check(link: Link) -> None:
    """Look at the schema once.

    Raises:
        Outdated: it is missing or older.
        StoreSchema: it is of a later version of Sessile.
    """
    version = installed(link)
    if version is None:
        raise Outdated(f"the session tables are not there; {MIGRATE}")
    if version < LATEST:
        raise Outdated(f"the session tables have schema {version}, this version needs {LATEST}; {MIGRATE}")
    if version > LATEST:
        raise StoreSchema(f"the session tables have schema {version}; this version of Sessile knows up to {LATEST}")


def installed(link: Link) -> int | None:
    """Return the schema's number; None: there is none. Tables that others maintain are looked at and count as ours."""
    queries = link.queries
    try:
        rows = link.fetch(queries.schema, {})
        if rows:
            return int(rows[0][0])
        link.fetch(queries.load, {"id": b""})
    except Exception as error:
        if fault_of(error) is Fault.MISSING:
            return None
        raise
    return LATEST


def migrate(link: Link) -> tuple[int, int]:
    """Bring the schema up to date; return the numbers before and after (0: there was none). Needs a transaction.

    Raises:
        StoreSchema: it is of a later version.
    """
    if link.queries.postgresql:
        return _migrate_postgresql(link)
    return _migrate_mysql(link)


def _migrate_postgresql(link: Link) -> tuple[int, int]:
    """Needs a transaction: PostgreSQL takes back a step that failed."""
    link.fetch_text(f"SELECT pg_advisory_xact_lock({_LOCK})")
    link.change_text(_named(link, _META_POSTGRESQL))
    before = _before(link)
    for step in _POSTGRESQL[before:]:
        for statement in step:
            link.change_text(_named(link, statement))
    _record(link)
    return before, LATEST


def _migrate_mysql(link: Link) -> tuple[int, int]:
    name = f"sessile migrate {_named(link, '{p}')}"[-60:]  # of identifiers: nothing in it needs quoting
    if not link.fetch_text(f"SELECT GET_LOCK('{name}', {max(link.seconds_left(), 0):f})")[0][0]:
        raise TimeoutError
    try:
        link.change_text(_named(link, _META_MYSQL))
        before = _before(link)
        for step in _MYSQL[before:]:
            for statement in step:
                link.change_text(_named(link, statement))
        _record(link)
    finally:
        link.fetch_text(f"SELECT RELEASE_LOCK('{name}')")
    return before, LATEST


def _before(link: Link) -> int:
    rows = link.fetch(link.queries.schema, {})
    before = int(rows[0][0]) if rows else 0
    if before > LATEST:
        raise StoreSchema(f"the session tables have schema {before}; this version of Sessile knows up to {LATEST}")
    return before


def _record(link: Link) -> None:
    if not link.change(link.queries.set_schema, {"new_value": LATEST}):
        link.change(link.queries.add_schema, {"value": LATEST})


def _named(link: Link, text: str) -> str:
    """Put the tables' names into a statement; both parts were read as identifiers."""
    session = link.queries.tables.session
    prefix = session.name.removesuffix("session")
    return text.format(p=f"{session.schema}.{prefix}" if session.schema else prefix, i=prefix)
