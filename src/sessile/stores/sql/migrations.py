"""The schema: who makes it, how it is brought up to date, and what is refused.

A migration is safe to run twice and from several nodes at once: it holds a lock, and each step is done once. Steps only
ever add: the code before a step goes on working after it, so that nodes are replaced one by one. The number of the last
step is a row of the table `meta`. Without that row, tables that are there belong to somebody else's migrations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from ...errors import StoreSchema
from . import faults
from .faults import Fault, Names, fault_of
from .link import AnyLink, Rows
from .statements import Sql

Steps: TypeAlias = tuple[tuple[str, ...], ...]

_LOCK: Final = 0x53455353  # "SESS"

# {p} is the prefix with the schema before it, {i} the prefix alone.
_POSTGRESQL: Final[Steps] = (
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
TABLE_MYSQL: Final = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4"
# MariaDB and MySQL commit after each of these, so each must be safe to repeat.
_MYSQL: Final[Steps] = (
    (
        """CREATE TABLE IF NOT EXISTS {p}session (
            id BINARY(20) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL,
            seen_at DOUBLE NOT NULL, expires_at DOUBLE NOT NULL, due DOUBLE NOT NULL,
            revision BIGINT NOT NULL, version BIGINT NOT NULL,
            owner BINARY(20), tombstone MEDIUMBLOB, control MEDIUMBLOB, data MEDIUMBLOB,
            INDEX {i}session_owner (owner), INDEX {i}session_due (epoch, due)) """
        + TABLE_MYSQL,
        "CREATE TABLE IF NOT EXISTS {p}epoch (number BIGINT NOT NULL PRIMARY KEY, started_at DOUBLE NOT NULL) "
        + TABLE_MYSQL,
    ),
)
_META_MYSQL: Final = (
    "CREATE TABLE IF NOT EXISTS {p}meta (name VARCHAR(40) PRIMARY KEY, value BIGINT NOT NULL) " + TABLE_MYSQL
)


class Plan(NamedTuple):
    """Say how tables are made: what they are called in errors, and the statements of each step."""

    names: Names
    postgresql: Steps
    mysql: Steps

    @property
    def latest(self) -> int:
        """Return the number of the last step."""
        return len(self.postgresql)


SESSIONS: Final = Plan(faults.SESSIONS, _POSTGRESQL, _MYSQL)
LATEST: Final = SESSIONS.latest


class Outdated(StoreSchema):
    """Say that the schema is missing or older: what a migration mends."""

    code = "store-outdated"


def check(link: AnyLink[Any], plan: Plan) -> None:
    """Look at the schema once.

    Raises:
        Outdated: it is missing or older.
        StoreSchema: it is of a later version of Sessile.
    """
    version, names = installed(link, plan), plan.names
    if version is None:
        raise Outdated(f"the {names.tables} are not there; {names.mend}")
    if version < plan.latest:
        raise Outdated(f"the {names.tables} have schema {version}, this version needs {plan.latest}; {names.mend}")
    _refuse_later(version, plan)


def installed(link: AnyLink[Any], plan: Plan) -> int | None:
    """Return the schema's number; None: there is none. Tables that others maintain are looked at and count as ours."""
    rows = _asked(link, link.queries.schema, {})
    if rows:
        return int(rows[0][0])
    there = all(_asked(link, sql, values) is not None for sql, values in link.queries.probes)
    return plan.latest if there else None


def migrate(link: AnyLink[Any], plan: Plan) -> tuple[int, int]:
    """Bring the schema up to date; return the numbers before and after (0: there was none). Needs a transaction.

    Raises:
        StoreSchema: it is of a later version.
    """
    if link.queries.postgresql:
        return _migrate_postgresql(link, plan)
    return _migrate_mysql(link, plan)


def _asked(link: AnyLink[Any], sql: Sql, values: Mapping[str, Any]) -> Rows | None:
    """Return a statement's rows, None if its tables are not there."""
    try:
        return link.fetch(sql, values)
    except Exception as error:
        if fault_of(error) is Fault.MISSING:
            return None
        raise


def _migrate_postgresql(link: AnyLink[Any], plan: Plan) -> tuple[int, int]:
    """Needs a transaction: PostgreSQL takes back a step that failed."""
    link.fetch_text(f"SELECT pg_advisory_xact_lock({_LOCK})")
    link.change_text(_named(link, _META_POSTGRESQL))
    before = _before(link, plan)
    for step in plan.postgresql[before:]:
        for statement in step:
            link.change_text(_named(link, statement))
    _record(link, plan)
    return before, plan.latest


def _migrate_mysql(link: AnyLink[Any], plan: Plan) -> tuple[int, int]:
    name = f"sessile migrate {_named(link, '{p}')}"[-60:]  # of identifiers: nothing in it needs quoting
    if not link.fetch_text(f"SELECT GET_LOCK('{name}', {max(link.seconds_left(), 0):f})")[0][0]:
        raise TimeoutError
    try:
        link.change_text(_named(link, _META_MYSQL))
        before = _before(link, plan)
        for step in plan.mysql[before:]:
            for statement in step:
                link.change_text(_named(link, statement))
        _record(link, plan)
    finally:
        link.fetch_text(f"SELECT RELEASE_LOCK('{name}')")
    return before, plan.latest


def _before(link: AnyLink[Any], plan: Plan) -> int:
    rows = link.fetch(link.queries.schema, {})
    before = int(rows[0][0]) if rows else 0
    _refuse_later(before, plan)
    return before


def _refuse_later(version: int, plan: Plan) -> None:
    if version > plan.latest:
        names = plan.names
        raise StoreSchema(
            f"the {names.tables} have schema {version}; this version of Sessile knows up to {plan.latest}"
        )


def _record(link: AnyLink[Any], plan: Plan) -> None:
    if not link.change(link.queries.set_schema, {"new_value": plan.latest}):
        link.change(link.queries.add_schema, {"value": plan.latest})


def _named(link: AnyLink[Any], text: str) -> str:
    """Put the tables' names into a statement; both parts were read as identifiers."""
    return text.format(p=link.queries.qualified, i=link.queries.prefix)
