"""Items in an SQLite file: for one machine, any number of processes and threads, and either door.

Every write survives a power cut when it returns. The file is one of its own, mode 0600.
"""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from typing import Final

from ...stores.sqlite.database import Database
from ...stores.sqlite.file import Schema
from ..vault import Item, Write, check_writes, is_key, is_user, may_have, new_version

APPLICATION_ID: Final = 0x53455356  # "SESV"
_SCHEMA: Final = Schema(
    APPLICATION_ID,
    (
        (
            """CREATE TABLE item (
                key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL,
                user TEXT, expires_at REAL) WITHOUT ROWID""",
            "CREATE INDEX item_user ON item (user, key) WHERE user IS NOT NULL",
            "CREATE INDEX item_due ON item (expires_at) WHERE expires_at IS NOT NULL",
        ),
    ),
    "vault",
)
_COLUMNS: Final = "key, value, version, user, expires_at"
_GET: Final = f"SELECT {_COLUMNS} FROM item WHERE key = ?"
_VERSION: Final = "SELECT version FROM item WHERE key = ?"
_PUT: Final = f"INSERT OR REPLACE INTO item ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
_REMOVE: Final = "DELETE FROM item WHERE key = ?"
_OF_USER: Final = f"SELECT {_COLUMNS} FROM item WHERE user = ? AND substr(key, 1, length(?)) = ? ORDER BY key"
_FORGET: Final = "DELETE FROM item WHERE user = ?"
_SWEEP: Final = "DELETE FROM item WHERE key IN (SELECT key FROM item WHERE expires_at <= ? LIMIT ?)"
_DUE: Final = "SELECT EXISTS (SELECT 1 FROM item WHERE expires_at <= ?)"


class SqliteVault(Database):
    """Keep items in the file `path`, for the blocking door or for the asynchronous one.

    `wait` is how many seconds a verb may wait for other processes.

    Raises:
        ConfigurationError: the path names no file, or a folder that does not exist.
    """

    def __init__(self, path: str | os.PathLike[str], *, blocking: bool, wait: float = 5.0) -> None:
        super().__init__(path, blocking=blocking, wait=wait, schema=_SCHEMA)

    async def get(self, key: str) -> Item | None:
        """Return the item, expired or not, by one SELECT."""
        return await self._read(partial(_get, key=key)) if is_key(key) else None

    async def write(self, *writes: Write) -> bool:
        """Carry out all writes, or none, in one durable transaction."""
        check_writes(writes)
        return await self._write(partial(_write, writes=writes), durable=True)

    async def of_user(self, user: str, prefix: str = "") -> tuple[Item, ...]:
        """Return the user's items."""
        return await self._read(partial(_of_user, user=user, prefix=prefix)) if may_have(user, prefix) else ()

    async def forget_user(self, user: str) -> int:
        """Remove all of a user's items."""
        return await self._write(partial(_forget, user=user), durable=True) if is_user(user) else 0

    async def sweep(self, now: float, limit: int) -> int:
        """Remove items that have expired; takes the write lock only if there are any."""
        if not await self._read(partial(_is_due, now=now)):
            return 0
        return await self._write(partial(_sweep, now=now, limit=limit), inline=False)


def _get(connection: sqlite3.Connection, *, key: str) -> Item | None:
    row = connection.execute(_GET, (key,)).fetchone()
    return None if row is None else Item(*row)


def _write(connection: sqlite3.Connection, *, writes: tuple[Write, ...]) -> bool:
    for write in writes:
        row = connection.execute(_VERSION, (write.key,)).fetchone()
        if write.version != (0 if row is None else row[0]):
            return False
    for write in writes:
        if write.value is None:
            connection.execute(_REMOVE, (write.key,))
        else:
            connection.execute(_PUT, (write.key, write.value, new_version(), write.user, write.expires_at))
    return True


def _of_user(connection: sqlite3.Connection, *, user: str, prefix: str) -> tuple[Item, ...]:
    return tuple(Item(*row) for row in connection.execute(_OF_USER, (user, prefix, prefix)))


def _forget(connection: sqlite3.Connection, *, user: str) -> int:
    return connection.execute(_FORGET, (user,)).rowcount


def _is_due(connection: sqlite3.Connection, *, now: float) -> bool:
    return bool(connection.execute(_DUE, (now,)).fetchone()[0])


def _sweep(connection: sqlite3.Connection, *, now: float, limit: int) -> int:
    return connection.execute(_SWEEP, (now, limit)).rowcount
