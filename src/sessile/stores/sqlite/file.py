"""The SQLite file: how it is created, opened and migrated, and what its errors mean.

It is created with mode 0600, in WAL mode, and SQLite gives the files beside it the same mode. A file that holds another
application's tables, or a schema of a later version of Sessile, is refused and left as it is.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeVar

from ...errors import ConfigurationError, StoreError, StoreSchema, StoreUnavailable

T = TypeVar("T")

APPLICATION_ID: Final = 0x53455353  # "SESS"
WAL_BYTES_KEPT: Final = 16 * 2**20

# `key` is the first 60 bits of the session id: one integer B-tree is searched instead of two. Ids are hashes, nobody
# can choose one, and a row is always asked for by `id` as well.
# `due` is a lower bound of `expires_at`. A sweep moves it on, saves and touches do not: they change one page, not
# three, which halves what a commit costs.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE session (
            key INTEGER PRIMARY KEY, id TEXT NOT NULL, epoch INTEGER NOT NULL,
            seen_at REAL NOT NULL, expires_at REAL NOT NULL, due REAL NOT NULL,
            revision INTEGER NOT NULL, version INTEGER NOT NULL,
            user TEXT, tombstone BLOB, control BLOB, data BLOB)""",
        "CREATE INDEX session_user ON session (user) WHERE user IS NOT NULL",
        "CREATE INDEX session_due ON session (epoch, due)",
        "CREATE TABLE epoch (number INTEGER PRIMARY KEY, started_at REAL NOT NULL)",
        "INSERT INTO epoch VALUES (1, 0)",
    ),
)


class Schema(NamedTuple):
    """Name what a file holds: its mark in the file's header, the statements of each version, and words for it.

    `touch` is a write that changes nothing; none is needed if every write is durable.
    """

    application_id: int
    migrations: tuple[tuple[str, ...], ...]
    what: str
    touch: str | None = None


SESSIONS: Final = Schema(
    APPLICATION_ID, MIGRATIONS, "session database", "UPDATE epoch SET number = number WHERE number = 1"
)

_WHY: Final = {
    sqlite3.SQLITE_BUSY: "the {} stayed locked by another process",
    sqlite3.SQLITE_LOCKED: "the {} stayed locked",
    sqlite3.SQLITE_FULL: "the disk of the {} is full",
    sqlite3.SQLITE_READONLY: "the {} cannot be written",
    sqlite3.SQLITE_PERM: "the {} may not be accessed",
    sqlite3.SQLITE_CANTOPEN: "the {} cannot be opened",
    sqlite3.SQLITE_CORRUPT: "the {} is damaged",
    sqlite3.SQLITE_NOTADB: "the {} is no SQLite file",
    sqlite3.SQLITE_IOERR: "the disk of the {} failed",
}


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether the database was merely in use, so that trying again makes sense."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def unavailable(error: sqlite3.Error, what: str = SESSIONS.what) -> StoreUnavailable:
    """Return what Sessile raises for an error of SQLite's; its message holds no value."""
    return StoreUnavailable(_WHY.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "the {} failed").format(what))


def naps() -> Iterator[float]:
    """Yield how long to wait between attempts, in seconds; random, so that processes do not march in step."""
    longest = 0.001
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        longest = min(longest * 2, 0.025)


def patiently(work: Callable[[], T], *, wait: float, what: str = SESSIONS.what) -> T:
    """Do something until the database is free; blocks for up to `wait` seconds.

    Raises:
        StoreUnavailable: it stayed locked, or failed.
    """
    deadline = time.monotonic() + wait
    for nap in naps():
        try:
            return work()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() + nap > deadline:
                raise unavailable(error, what) from error
        time.sleep(nap)
    raise AssertionError("unreachable")


def _is_a_path(path: Path) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


class File:
    """Name one database file and open connections to it. Nothing is opened before `prepare`."""

    def __init__(self, path: str | os.PathLike[str], schema: Schema = SESSIONS) -> None:
        if os.fspath(path) in ("", ":memory:"):
            raise ConfigurationError("SQLite in memory is private to one connection; use memory:// instead")
        # Absolute from the start: a server may change its folder later.
        self.path = Path(path).absolute()
        if not _is_a_path(self.path):
            raise ConfigurationError(f"the path of the {schema.what} is none")
        if not self.path.parent.is_dir():
            raise ConfigurationError(f"the folder of the {schema.what} does not exist: {self.path.parent}")
        self.prepared = False
        self.what = schema.what
        self.touch = schema.touch
        self._schema = schema
        self._preparing = threading.Lock()

    def prepare(self, wait: float) -> None:
        """Create and migrate the file unless this process did so before. Several processes may do this at once.

        Raises:
            StoreSchema: the file is of a later version, or not a session database.
            StoreUnavailable: it cannot be opened, or stayed locked for `wait` seconds.
        """
        with self._preparing:
            if not self.prepared:
                self._create()
                patiently(self._migrate, wait=wait, what=self.what)
                self.prepared = True

    def connect(
        self, *, synchronous: Literal["NORMAL", "FULL"] = "NORMAL", read_only: bool = False
    ) -> sqlite3.Connection:
        """Open a connection that never waits for a lock and never checkpoints by itself."""
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        # Damaged text is data like any other; strict decoding would make an exception of it.
        connection.text_factory = _lenient
        try:
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}")
            # What an ended session held is overwritten in place, where that costs no further page.
            connection.execute("PRAGMA secure_delete=FAST")
            if read_only:
                connection.execute("PRAGMA query_only=ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def forget(self) -> None:
        """Replace the lock in a forked child: its owner may not exist here."""
        self._preparing = threading.Lock()

    def _create(self) -> None:
        # Only a file that is new is opened here: closing a descriptor of one that SQLite has open would drop its locks.
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
        except FileExistsError:
            return
        except OSError as error:
            raise StoreUnavailable(f"the {self.what} cannot be created") from error

    def _migrate(self) -> None:
        migrations = self._schema.migrations
        with closing(self.connect()) as connection:
            # One transaction, hence one view: another process may be migrating between any two statements.
            connection.execute("BEGIN")
            version = self._version(connection)
            connection.execute("COMMIT")
            if version == len(migrations) and _pragma(connection, "journal_mode") == "wal":
                return
            if _pragma(connection, "journal_mode=WAL") != "wal":
                raise StoreUnavailable(f"the file system of the {self.what} does not support SQLite's WAL mode")
            connection.execute("BEGIN EXCLUSIVE")
            try:
                for statements in migrations[self._version(connection) :]:
                    for statement in statements:
                        connection.execute(statement)
                connection.execute(f"PRAGMA application_id={self._schema.application_id}")
                connection.execute(f"PRAGMA user_version={len(migrations)}")
                connection.execute("COMMIT")
            except (sqlite3.Error, StoreError):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(_pragma(connection, "user_version"))
        ours = _pragma(connection, "application_id") == self._schema.application_id
        if not ours and (version or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()):
            raise StoreSchema(
                f"the file holds tables that are not of a {self._schema.what}; give them a database file of their own"
            )
        if version > len(self._schema.migrations):
            raise StoreSchema(
                f"the {self._schema.what} has schema {version}; "
                f"this version of Sessile knows up to {len(self._schema.migrations)}"
            )
        return version


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _pragma(connection: sqlite3.Connection, pragma: str) -> str | int:
    value: str | int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return value
