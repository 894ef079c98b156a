"""Real PostgreSQL and MariaDB for the tests of the SQL store: a shared server each, a fresh database for each test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pymysql
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from sessile.core.bridge import drive
from sessile.stores import open_store
from tests.support.servers import Server, shared

Kind = Literal["postgresql", "mariadb"]
KINDS: tuple[Kind, ...] = ("postgresql", "mariadb")
kinds = pytest.mark.parametrize("kind", KINDS)
doors = pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])


def connect(server: Server, database: str | None = None) -> Any:
    """Connect as the administrator, in autocommit mode."""
    parts = urlsplit(server.url)
    if parts.scheme == "postgresql":
        return psycopg.connect(
            host="127.0.0.1", port=parts.port, user=parts.username, dbname=database or "postgres", autocommit=True
        )
    return pymysql.connect(
        host="127.0.0.1",
        port=parts.port or 0,
        user="root",
        database=database,
        autocommit=True,
    )


def execute(server: Server, *statements: str, database: str | None = None) -> Sequence[Sequence[Any]]:
    """Run statements as the administrator, each by itself; return the rows of the last."""
    rows: Sequence[Sequence[Any]] = ()
    with closing(connect(server, database)) as connection, closing(connection.cursor()) as cursor:
        for statement in statements:
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else ()
    return rows


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Stop all of a server's processes for a while: connections stay open and nothing answers."""
    family = [server.pid, *_children(server.pid)]  # the one that starts others first
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    while not all(_is_stopped(pid) for pid in family):
        time.sleep(0.001)
    try:
        yield
    finally:
        for pid in reversed(family):
            os.kill(pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").iterdir()
        for child in (tasks / "children").read_text().split()
    ]


class Database:
    """Hold one database of a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.kind: Any = urlsplit(server.url).scheme
        self.name = f"s{uuid4().hex}"
        execute(server, f"CREATE DATABASE {self.name}")

    def url(self, *, port: int | None = None, user: str | None = None, options: str = "") -> str:
        """Return its URL, perhaps by another way or for another user."""
        parts = urlsplit(self.server.url)
        who = user or (f"{parts.username}:{parts.password}" if parts.password else f"{parts.username}")
        return f"{self.kind}://{who}@127.0.0.1:{port or parts.port}/{self.name}" + (f"?{options}" if options else "")

    def open(self, options: str = "", *, blocking: bool = True) -> Any:
        """Open a store in it."""
        return open_store(self.url(options=options), blocking=blocking)

    def engine(self, *, blocking: bool = True, **options: Any) -> Any:
        """Make a SQLAlchemy engine as an application would."""
        driver = "psycopg" if self.kind == "postgresql" else "pymysql" if blocking else "aiomysql"
        url = self.url().replace("://", f"+{driver}://", 1)
        return create_engine(url, **options) if blocking else create_async_engine(url, **options)

    def connect(self) -> Any:
        """Connect to it behind the store's back."""
        return connect(self.server, self.name)

    def run(self, *statements: str) -> Sequence[Sequence[Any]]:
        """Run statements in it."""
        return execute(self.server, *statements, database=self.name)

    def make(self) -> None:
        """Make the session tables."""
        store = self.open()
        drive(store.migrate())
        drive(store.close())

    def drop(self) -> None:
        """Remove it, whoever is connected."""
        execute(self.server, f"DROP DATABASE {self.name}" + (" WITH (FORCE)" if self.kind == "postgresql" else ""))


@contextmanager
def database(kind: Kind, server: Server | None = None) -> Iterator[Database]:
    """Lend a fresh database, of the shared server if none is given, with the session tables in it."""
    made = Database(server or shared(kind))
    try:
        made.make()
        yield made
    finally:
        if made.server.is_running:
            made.drop()


@contextmanager
def opened(kind: Kind, options: str = "") -> Iterator[tuple[Database, Any]]:
    """Lend a fresh database and a store in it for the blocking door, closed at the end."""
    with database(kind) as made:
        store = made.open(options)
        try:
            yield made, store
        finally:
            drive(store.close())
