"""Items in PostgreSQL, MariaDB or MySQL: for many machines, any number of processes and threads, and either door.

    vault   one row an item; the index of users and the index of deadlines are all there is beside the primary key
    meta    shared with the sessions' tables, if they are there: the number of this table's schema

Each write is one transaction at READ COMMITTED, durable when it returns. A statement writes only over the version that
was read, so that of two at once the second one waits for the first, and finds another version. Rows are taken in the
order of their keys: writers do not wait for each other in a circle. "Nothing stands there" is said by an insert, which
the next insert waits for.

Keys and users are kept as UTF-8 in columns of bytes: a collation would take "a", "A" and "a " for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    Engine,
    Index,
    Insert,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import TypeEngine

from ...core.ports import Diagnosis
from ...core.session import MAX_USER_BYTES
from ...stores.sql.address import Address, read
from ...stores.sql.database import LOST, Database, alone
from ...stores.sql.diagnosis import Subject, look
from ...stores.sql.faults import Fault, Names, fault_of
from ...stores.sql.link import AnyLink
from ...stores.sql.migrations import TABLE_MYSQL, Plan
from ...stores.sql.schema import MYSQL, OPTIONS, PREFIX, meta_table
from ...stores.sql.statements import Sql, Statements
from ...stores.url import StoreUrl
from ..vault import MAX_KEY_CHARS, Item, Write, check_writes, is_key, is_user, may_have, new_version

_MAX_KEY_BYTES: Final = 4 * MAX_KEY_CHARS
_BATCH: Final = 500  # rows that one transaction of a sweep removes

_POSTGRESQL: Final = (
    (
        """CREATE TABLE IF NOT EXISTS {p}vault (
            name BYTEA NOT NULL PRIMARY KEY, value BYTEA NOT NULL, version BIGINT NOT NULL,
            owner BYTEA, expires_at DOUBLE PRECISION)""",
        "CREATE INDEX IF NOT EXISTS {i}vault_owner ON {p}vault (owner, name) WHERE owner IS NOT NULL",
        "CREATE INDEX IF NOT EXISTS {i}vault_due ON {p}vault (expires_at) WHERE expires_at IS NOT NULL",
    ),
)
_MYSQL: Final = (
    (
        f"""CREATE TABLE IF NOT EXISTS {{p}}vault (
            name VARBINARY({_MAX_KEY_BYTES}) NOT NULL PRIMARY KEY, value MEDIUMBLOB NOT NULL, version BIGINT NOT NULL,
            owner VARBINARY({MAX_USER_BYTES}), expires_at DOUBLE,
            INDEX {{i}}vault_owner (owner, name), INDEX {{i}}vault_due (expires_at)) """
        + TABLE_MYSQL,
    ),
)
PLAN: Final = Plan(
    Names("vault", "vault's database", "vault's tables", "sessile migrate --vault URL"), _POSTGRESQL, _MYSQL
)
_SUBJECT: Final = Subject(
    plan=PLAN,
    table="the vault's table",
    one="An item",
    held="who has an account",
    lost="writes",
    then=" Codes that were used are good again.",
    emptied="all passwords, keys and codes are gone",
    unreadable="Nobody can sign in.",
    confirmed=None,
)


def vault_table(metadata: MetaData, *, prefix: str = PREFIX) -> Table:
    """Add the vault's table to `metadata`, in its schema if it has one, and return it: for Alembic."""
    table = Table(
        f"{prefix}vault",
        metadata,
        Column("name", _bytes(_MAX_KEY_BYTES), primary_key=True),
        Column("value", LargeBinary().with_variant(mysql.MEDIUMBLOB(), *MYSQL), nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("owner", _bytes(MAX_USER_BYTES)),
        Column("expires_at", Double),
        **OPTIONS,
    )
    owner, due = table.c.owner, table.c.expires_at
    Index(f"{prefix}vault_owner", owner, table.c.name, postgresql_where=owner.is_not(None))
    Index(f"{prefix}vault_due", due, postgresql_where=due.is_not(None))
    return table


def _bytes(most: int) -> TypeEngine[bytes]:
    return LargeBinary(most).with_variant(mysql.VARBINARY(most), *MYSQL)


class Queries(Statements):
    """Hold the statements of a vault."""

    def __init__(self, dialect: Dialect, prefix: str, schema: str | None) -> None:
        metadata = MetaData(schema=schema)
        table = vault_table(metadata, prefix=prefix)
        super().__init__(dialect, table, meta_table(metadata, prefix=prefix), "vault")
        by_key, columns = table.c.name == bindparam("key"), (table.c.name, *_contents(table))
        same = table.c.version == bindparam("read_version")
        owned = table.c.owner == bindparam("by")
        due = select(table.c.name).where(table.c.expires_at <= bindparam("now")).limit(bindparam("limit"))
        self.get = self.compiled(select(*columns).where(by_key))
        self.insert = self.compiled(self._insert())
        self.replace = self.compiled(update(table).values(_values(_CONTENTS)).where(by_key, same))
        self.remove = self.compiled(delete(table).where(by_key, same))
        self.of_user = self.compiled(
            select(*columns)
            .where(owned, table.c.name >= bindparam("low"), table.c.name < bindparam("high"))
            .order_by(table.c.name)
        )
        self.lock_owned = self.compiled(select(table.c.name).where(owned).order_by(table.c.name).with_for_update())
        self.forget = self.compiled(delete(table).where(owned))
        self.due = self.compiled(due)
        self.lock_due = self.compiled(due.with_for_update(skip_locked=True))

    @property
    def probes(self) -> tuple[tuple[Sql, Mapping[str, Any]], ...]:
        """Return what asks for the table. `meta` need not be there: an application's own migrations make the table."""
        return ((self.get, {"key": b""}),)

    def delete_all(self, keys: list[bytes]) -> Any:
        """Return the DELETE of rows."""
        return delete(self.main).where(self.main.c.name.in_(keys))

    def _insert(self) -> Insert:
        values = _values(("name", *_CONTENTS))
        if self.postgresql:
            return postgresql.insert(self.main).values(values).on_conflict_do_nothing()
        return insert(self.main).values(values)


_CONTENTS: Final = ("value", "version", "owner", "expires_at")


def _contents(table: Table) -> list[Any]:
    return [table.c[name] for name in _CONTENTS]


def _values(names: Sequence[str]) -> dict[str, Any]:
    return {name: bindparam(f"new_{name}") for name in names}


class SqlVault(Database[Queries]):
    """Keep items in PostgreSQL, MariaDB or MySQL.

    `engine` is the application's own SQLAlchemy Engine or AsyncEngine, which it goes on owning, or an address (from a
    URL); then `blocking` says for which door. `timeout` is the budget of a verb in seconds, `pool` how many connections
    a process (or event loop) may have. `prefix` and `schema` say what the tables are called. `migrate` "auto" makes
    them at first use. `pgbouncer` leaves out what a pooler that lends connections by the transaction does not keep.

    Raises:
        ConfigurationError: `blocking` is missing or does not fit the engine, or the engine is of another database.
    """

    def __init__(
        self,
        engine: Address | Engine | AsyncEngine,
        *,
        blocking: bool | None = None,
        timeout: float = 5.0,
        pool: int = 10,
        prefix: str = PREFIX,
        schema: str | None = None,
        migrate: Literal["no", "auto"] = "no",
        pgbouncer: bool = False,
    ) -> None:
        super().__init__(
            engine,
            partial(Queries, prefix=prefix, schema=schema),
            PLAN,
            blocking=blocking,
            timeout=timeout,
            pool=pool,
            migrate=migrate == "auto",
            pgbouncer=pgbouncer,
        )
        self._pgbouncer = pgbouncer

    async def get(self, key: str) -> Item | None:
        """Return the item, expired or not, by one SELECT."""
        return await self._read(partial(_get, key=key)) if is_key(key) else None

    async def write(self, *writes: Write) -> bool:
        """Carry out all writes, or none, in one durable transaction."""
        check_writes(writes)
        # UTF-8 keeps the order of the characters, so all writers go the same way.
        ordered = tuple(sorted(writes, key=lambda write: write.key))
        try:
            await self._transact(partial(_write, writes=ordered), durable=True)
        except _Beaten:
            return False
        return True

    async def of_user(self, user: str, prefix: str = "") -> tuple[Item, ...]:
        """Return the user's items, by one SELECT."""
        return await self._read(partial(_of_user, user=user, prefix=prefix)) if may_have(user, prefix) else ()

    async def forget_user(self, user: str) -> int:
        """Remove all of a user's items, durably."""
        return await self._transact(partial(_forget, user=user), durable=True) if is_user(user) else 0

    async def sweep(self, now: float, limit: int) -> int:
        """Remove items that have expired, in batches; what another node is removing or writing is left to it."""
        removed = 0
        while removed < limit and await self._read(partial(_is_due, now=now)):
            size = min(limit - removed, _BATCH)
            batch = await self._transact(partial(_sweep, now=now, limit=size))
            removed += batch
            if not batch:
                break
        return removed

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Look at the server: its durability, its limits, its clock, the way to it, and the schema."""
        work = partial(look, subject=_SUBJECT, pgbouncer=self._pgbouncer)
        return await self._attempt(partial(alone, work), lost=LOST)


def open_url(url: StoreUrl, *, blocking: bool) -> SqlVault:
    """Open `postgresql://user:password@host/database`, `mariadb://…` or `mysql://…`; nothing is connected yet.

    Raises:
        ConfigurationError: the URL names no database, or an unknown option.
    """
    address, options = read(url, without=("confirm",))
    return SqlVault(address, blocking=blocking, **options)


class _Beaten(Exception):
    """Roll a transaction back: another version stands there than the one that was read."""


_Link = AnyLink[Queries]


def _get(link: _Link, *, key: str) -> Item | None:
    rows = link.fetch(link.queries.get, {"key": key.encode()})
    return _item(rows[0]) if rows else None


def _item(row: Sequence[Any]) -> Item:
    name, value, version, owner, expires_at = row
    return Item(_text(name), bytes(value), int(version), None if owner is None else _text(owner), expires_at)


def _text(raw: Any) -> str:
    return bytes(raw).decode("utf-8", "replace")


def _write(link: _Link, *, writes: tuple[Write, ...]) -> None:
    for write in writes:
        over = _insert if write.version == 0 else _replace
        if not over(link, write):
            raise _Beaten
        if write.version == 0 and write.value is None:
            # It stood there for as long as this transaction: nobody else puts anything before it is committed.
            link.change_built(link.queries.delete_all([write.key.encode()]))


def _insert(link: _Link, write: Write) -> bool:
    try:
        return link.change(link.queries.insert, {"new_name": write.key.encode(), **_changed(write)}) > 0
    except Exception as error:
        if fault_of(error) is Fault.TAKEN:  # MariaDB says it so, PostgreSQL was asked not to
            return False
        raise


def _replace(link: _Link, write: Write) -> bool:
    over = {"key": write.key.encode(), "read_version": write.version}
    if write.value is None:
        return link.change(link.queries.remove, over) > 0
    return link.change(link.queries.replace, {**over, **_changed(write)}) > 0


def _changed(write: Write) -> dict[str, Any]:
    return {
        "new_value": write.value or b"",
        "new_version": new_version(),
        "new_owner": None if write.user is None else write.user.encode(),
        "new_expires_at": write.expires_at,
    }


def _of_user(link: _Link, *, user: str, prefix: str) -> tuple[Item, ...]:
    low = prefix.encode()
    # No byte of UTF-8 is the last one there is.
    high = low[:-1] + bytes((low[-1] + 1,)) if low else b"\xff"
    rows = link.fetch(link.queries.of_user, {"by": user.encode(), "low": low, "high": high})
    return tuple(map(_item, rows))


def _forget(link: _Link, *, user: str) -> int:
    """Take the rows in the order of their keys, as writers do; until a row that was put meanwhile is gone as well."""
    removed, by = 0, {"by": user.encode()}
    while link.fetch(link.queries.lock_owned, by):
        removed += link.change(link.queries.forget, by)
    return removed


def _is_due(link: _Link, *, now: float) -> bool:
    return bool(link.fetch(link.queries.due, {"now": now, "limit": 1}))


def _sweep(link: _Link, *, now: float, limit: int) -> int:
    keys = [bytes(row[0]) for row in link.fetch(link.queries.lock_due, {"now": now, "limit": limit})]
    return link.change_built(link.queries.delete_all(keys)) if keys else 0
