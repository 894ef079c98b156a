"""The statements: built with SQLAlchemy Core, compiled once a store into what the driver takes.

A session is alive if it has no tombstone and its epoch is the current one. Every statement that asks this asks it in
one round trip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Delete,
    Dialect,
    Insert,
    Integer,
    ScalarSelect,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.sql.selectable import GenerativeSelect

from ...core.record import Codec
from .schema import Tables
from .statements import Sql, Statements

_ZERO: Final[ColumnClause[int]] = literal_column("0", Integer)
_ONE: Final[ColumnClause[int]] = literal_column("1", Integer)


class Queries(Statements):
    """Hold the statements of sessions, and what encodes their records."""

    def __init__(self, dialect: Dialect, tables: Tables, codec: Codec) -> None:
        super().__init__(dialect, tables.session, tables.meta, "schema")
        self.tables = tables
        self.codec = codec
        self._session, self._epoch = session, epoch = tables.session, tables.epoch
        self._saves: dict[tuple[frozenset[str], bool], Sql] = {}

        earlier = epoch.alias("later")
        self._current: ScalarSelect[int] = select(func.coalesce(func.max(epoch.c.number), _ZERO)).scalar_subquery()
        ended_at = select(earlier.c.started_at).where(earlier.c.number == session.c.epoch + _ONE)
        self._columns = (
            session.c.control,
            session.c.data,
            session.c.seen_at,
            session.c.expires_at,
            session.c.revision,
            session.c.version,
            session.c.tombstone,
            session.c.epoch,
            self._current.label("present"),
            ended_at.scalar_subquery().label("ended_at"),
        )
        self.alive: ColumnElement[bool] = and_(session.c.tombstone.is_(None), session.c.epoch == self._current)
        by_id = session.c.id == bindparam("id")
        load = select(*self._columns).where(by_id)
        self.load = self.compiled(load)
        self.lock = self.compiled(load.with_for_update())
        self.taken = self.compiled(select(_ONE).select_from(session).where(by_id))
        self.insert = self.compiled(self._insert())
        self.touch = self.compiled(self._touch())
        dying = self._entomb(tombstone=bindparam("new_tombstone"), expires_at=bindparam("new_expires_at"))
        self.entomb = self.compiled(dying.where(by_id))
        self.lock_alive = self.compiled(select(session.c.control).where(by_id, self.alive).with_for_update())
        self.new_epoch = self.compiled(self._new_epoch())
        # One row lock or advisory lock a user, held until the transaction ends.
        self.lock_user = self._text_of_lock()

        of_user = select(session.c.id, *self._columns).where(session.c.owner == bindparam("owner"), self.alive)
        self.of_user = self.compiled(of_user)
        self.of_user_now = self.compiled(of_user.order_by(session.c.id).with_for_update(read=True))
        self.lock_of_user = self.compiled(
            select(session.c.id)
            .where(session.c.owner == bindparam("owner"), self.alive)
            .order_by(session.c.id)
            .with_for_update()
        )
        self.left_of_user = self.compiled(select(session.c.id).where(session.c.owner == bindparam("owner"), self.alive))
        ended, due = self.ended_epochs(), self.due()
        self.anything_ended = self.compiled(ended)
        self.anything_due = self.compiled(due)
        self.lock_ended = self.compiled(ended.with_for_update(skip_locked=True))
        self.lock_due = self.compiled(due.with_for_update(skip_locked=True))
        self.stats = self.compiled(self._stats())
        self.scan = self.compiled(
            select(session.c.id, *self._columns)
            .where(session.c.id > bindparam("after"))
            .order_by(session.c.id)
            .limit(bindparam("limit"))
        )

    @property
    def probes(self) -> tuple[tuple[Sql, Mapping[str, Any]], ...]:
        """Return what asks for each table."""
        return (self.load, {"id": b""}), (self.schema, {})

    def save(self, columns: frozenset[str], *, over: bool) -> Sql:
        """Return the UPDATE of these columns; `over`: only if nobody wrote to the row since it was read."""
        found = self._saves.get((columns, over))
        if found is None:
            session = self._session
            statement = update(session).values({name: bindparam(name) for name in sorted(columns)})
            statement = statement.where(session.c.id == bindparam("key"))
            if over:
                read = ("revision", "version", "seen_at", "expires_at")
                statement = statement.where(*(session.c[name] == bindparam(f"read_{name}") for name in read))
                statement = statement.where(self.alive)
            found = self._saves[columns, over] = self.compiled(statement)
        return found

    def entomb_all(self, keys: list[bytes], *, tombstone: bytes, expires_at: float) -> Update:
        """Return the UPDATE that puts one tombstone in the place of many sessions."""
        return self._entomb(tombstone=tombstone, expires_at=expires_at).where(self._session.c.id.in_(keys))

    def delete_all(self, keys: list[bytes]) -> Delete:
        """Return the DELETE of rows."""
        return delete(self._session).where(self._session.c.id.in_(keys))

    def postpone_all(self, keys: list[bytes]) -> Update:
        """Return the UPDATE that brings `due` up to date."""
        return update(self._session).values(due=self._session.c.expires_at).where(self._session.c.id.in_(keys))

    def ended_epochs(self) -> GenerativeSelect:
        """Return what finds rows of ended epochs, through the index of deadlines."""
        session = self._session
        return (
            select(session.c.id, session.c.expires_at, session.c.tombstone.is_(None))
            .where(session.c.epoch < self._current)
            .order_by(
                session.c.epoch, session.c.due
            )  # else PostgreSQL takes a third of all rows for ended, and reads them
            .limit(bindparam("limit"))
        )

    def due(self) -> GenerativeSelect:
        """Return what finds rows that may be past their deadline, through the index of deadlines."""
        session = self._session
        return (
            select(session.c.id, session.c.expires_at, session.c.tombstone.is_(None))
            .where(session.c.epoch == self._current, session.c.due <= bindparam("now"))
            .order_by(session.c.due)
            .limit(bindparam("limit"))
        )

    def _insert(self) -> Insert:
        names = ("id", "seen_at", "expires_at", "due", "revision", "version", "owner", "control", "data")
        values: dict[str, Any] = {name: bindparam(name) for name in names}
        statement: Insert = insert(self._session).values(epoch=self._current, **values)
        if self.postgresql:
            statement = postgresql.insert(self._session).values(epoch=self._current, **values).on_conflict_do_nothing()
        return statement

    def _touch(self) -> Update:
        session = self._session
        later = {name: func.greatest(session.c[name], bindparam(f"new_{name}")) for name in ("seen_at", "expires_at")}
        return update(session).values(later).where(session.c.id == bindparam("key"), self.alive)

    def _entomb(self, *, tombstone: Any, expires_at: Any) -> Update:
        return update(self._session).values(
            tombstone=tombstone,
            expires_at=expires_at,
            due=expires_at,
            epoch=self._current,
            owner=null(),
            control=null(),
            data=null(),
        )

    def _new_epoch(self) -> Insert:
        number = func.coalesce(func.max(self._epoch.c.number), _ZERO) + _ONE
        at = bindparam("started_at", type_=self._epoch.c.started_at.type)
        return insert(self._epoch).from_select(["number", "started_at"], select(number, at))

    def _text_of_lock(self) -> Sql:
        if self.postgresql:
            high, low = (bindparam(name, type_=Integer()) for name in ("high", "low"))
            return self.compiled(select(func.pg_advisory_xact_lock(high, low)))
        meta = self.tables.meta
        statement = mysql.insert(meta).values(name=bindparam("name"), value=_ZERO)
        return self.compiled(statement.on_duplicate_key_update(value=_ZERO))

    def _stats(self) -> GenerativeSelect:
        session = self._session
        live = and_(self.alive, session.c.expires_at > bindparam("now"))
        owner = case((live, session.c.owner))
        return select(
            func.count(case((live, _ONE))),
            func.count(owner),
            func.count(owner.distinct()),
            func.count(session.c.tombstone),
        )
