"""What the statements for all our tables have in common: how they are compiled, and where the schema's number is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ClauseElement,
    ColumnClause,
    Dialect,
    String,
    Table,
    bindparam,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.engine import Compiled

from ...errors import ConfigurationError

POSTGRESQL: Final = "postgresql"
_KINDS: Final = (POSTGRESQL, "mysql", "mariadb")
# How the drivers want values; asyncpg and pg8000 want them in another way than what is sent here.
_STYLES: Final = ("pyformat", "format")


class Sql(NamedTuple):
    """Hold a compiled statement: its text, and in which order its places take the values (None: by name)."""

    text: str
    order: tuple[str, ...] | None


class Statements(ABC):
    """Hold the statements of one store for one kind of database.

    `main` is its table of which most is asked; `row` of `meta` has the number of its schema.

    Raises:
        ConfigurationError: the database or its driver is none that is known.
    """

    def __init__(self, dialect: Dialect, main: Table, meta: Table, row: str) -> None:
        if dialect.name not in _KINDS or dialect.paramstyle not in _STYLES:
            raise ConfigurationError("the engine must be one of PostgreSQL (psycopg) or of MariaDB or MySQL (PyMySQL)")
        self._dialect = dialect
        self.main = main
        self.postgresql = dialect.name == POSTGRESQL
        self.prefix = meta.name.removesuffix("meta")
        self.qualified = f"{meta.schema}.{self.prefix}" if meta.schema else self.prefix
        name: ColumnClause[str] = literal_column(f"'{row}'", String)
        self.schema = self.compiled(select(meta.c.value).where(meta.c.name == name))
        self.set_schema = self.compiled(update(meta).values(value=bindparam("new_value")).where(meta.c.name == name))
        self.add_schema = self.compiled(insert(meta).values(name=name, value=bindparam("value")))

    @property
    @abstractmethod
    def probes(self) -> tuple[tuple[Sql, Mapping[str, Any]], ...]:
        """Return what can be asked, and finds nothing, if the tables are there."""

    def compiled(self, statement: ClauseElement) -> Sql:
        """Compile a statement whose values are given later."""
        return _sql(statement.compile(dialect=self._dialect))

    def built(self, statement: ClauseElement) -> tuple[Sql, Mapping[str, Any]]:
        """Compile a statement that holds its values, lists of any length among them."""
        compiled: Compiled = statement.compile(dialect=self._dialect, compile_kwargs={"render_postcompile": True})
        return _sql(compiled), compiled.params or {}


def _sql(compiled: Compiled) -> Sql:
    order: list[str] | None = getattr(compiled, "positiontup", None)
    return Sql(str(compiled), None if order is None else tuple(order))
