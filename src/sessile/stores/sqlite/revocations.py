"""Ends of sessions that live in cookies, remembered in an SQLite file: for one machine, any number of processes.

Every end survives a power cut when it returns. The file is one of its own, not the one of stored sessions. If it is
removed or replaced while it is open, every verb fails: by then another process may remember ends in another file.

    number      one row: the number of everything, kept for good
    ended       sessions that ended by themselves
    user        users whose sessions ended together
"""

from __future__ import annotations

import os
import sqlite3
import time
from functools import partial
from typing import Final

import msgspec

from ...core.marks import UserMark, first_number, next_mark, verdict
from ...core.ports import Claim, Ending, Gone, Marks
from ...core.record import Tombstone, Undecodable, decode_tombstone, encode_tombstone
from ...errors import ConfigurationError, StoreSchema, StoreUnavailable
from ..url import StoreUrl, seconds
from .database import Database
from .file import Schema

APPLICATION_ID: Final = 0x53455345  # "SESE"
_SCHEMA: Final = Schema(
    APPLICATION_ID,
    (
        (
            "CREATE TABLE number (everything INTEGER NOT NULL)",
            "INSERT INTO number VALUES (0)",
            "CREATE TABLE ended (id TEXT PRIMARY KEY, tombstone BLOB NOT NULL, due REAL NOT NULL) WITHOUT ROWID",
            "CREATE INDEX ended_due ON ended (due)",
            "CREATE TABLE user (name TEXT PRIMARY KEY, mark BLOB NOT NULL, due REAL NOT NULL) WITHOUT ROWID",
            "CREATE INDEX user_due ON user (due)",
        ),
    ),
    "database of ended sessions",
)
_CHECK: Final = """SELECT (SELECT everything FROM number),
    (SELECT tombstone FROM ended WHERE id = ?), (SELECT mark FROM user WHERE name = ?)"""
_END: Final = "INSERT INTO ended VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_END_USER: Final = "INSERT OR REPLACE INTO user VALUES (?, ?, ?)"
_NUMBER: Final = "UPDATE number SET everything = ?"
_SWEEP: Final = (
    "DELETE FROM ended WHERE id IN (SELECT id FROM ended WHERE due <= ? ORDER BY due LIMIT ?)",
    "DELETE FROM user WHERE name IN (SELECT name FROM user WHERE due <= ? ORDER BY due LIMIT ?)",
)
_DUE: Final = "SELECT EXISTS (SELECT 1 FROM ended WHERE due <= ?) OR EXISTS (SELECT 1 FROM user WHERE due <= ?)"

_LOOK_EVERY: Final = 1.0  # seconds

_marks: Final = msgspec.msgpack.Decoder(UserMark)


def open_revocations_url(url: StoreUrl, *, blocking: bool) -> SqliteRevocations:
    """Open `sqlite:///relative.db` or `sqlite:////absolute.db`, with `?wait=seconds` if five do not suit.

    Raises:
        ConfigurationError: the URL names no file, or an unknown option.
    """
    if url.authority or ":memory:" in url.path or not url.path[1:]:
        raise ConfigurationError(
            "revocations in sqlite:// need a file: sqlite:///ends.db, four slashes if it is absolute"
        )
    return SqliteRevocations(url.path[1:], blocking=blocking, **url.options({"wait": seconds}))


class SqliteRevocations(Database):
    """Remember ends in the file `path`. `wait` is how many seconds a verb may wait for other processes."""

    def __init__(self, path: str | os.PathLike[str], *, blocking: bool, wait: float = 5.0) -> None:
        super().__init__(path, blocking=blocking, wait=wait, schema=_SCHEMA)
        self._identity: tuple[int, int] | None = None  # of the file that is open
        self._next_look = 0.0

    async def check(self, claim: Claim) -> Tombstone | None:
        """Return why the session has ended, None if it lives: one SELECT."""
        self._look()
        readers = self._readers
        try:
            connection = readers.idle.pop()
        except IndexError:
            return await self._read(partial(_check, claim=claim))
        try:
            return _check(connection, claim)
        except sqlite3.Error:
            pass
        finally:
            readers.returned.append(connection)
        return await self._read(partial(_check, claim=claim))

    async def begin(
        self,
        user: str | None,
        replaces: Claim | None = None,
        tombstone: Tombstone | None = None,
        *,
        required: bool = False,
    ) -> Marks | Gone:
        """Return the numbers to issue a session under, and end the one that it replaces, durably."""
        self._look()
        if replaces is None or tombstone is None:
            marks = await self._read(partial(_numbers, user=user))
            if marks.everything:
                return marks
        work = partial(_begin, user=user, replaces=replaces, tombstone=tombstone, required=required)
        return await self._write(work, durable=True)

    async def end(self, session_id: str, tombstone: Tombstone, claim: Claim | None = None) -> Ending:
        """End a session by its id, durably."""
        self._look()
        work = partial(_end, session_id=session_id, tombstone=tombstone, claim=claim)
        return await self._write(work, durable=True)

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`, durably."""
        self._look()
        await self._write(partial(_end_user, user=user, tombstone=tombstone, keep=keep), durable=True)
        return Ending(())

    async def end_everything(self, at: float) -> Ending:
        """End every session that was issued so far, durably."""
        self._look()
        await self._write(_end_everything, durable=True)
        return Ending(())

    async def sweep(self, now: float, limit: int) -> int:
        """Forget up to `limit` marks; takes the write lock only if there is one to forget."""
        if not await self._read(partial(_due, now=now)):
            return 0
        return await self._write(partial(_sweep, now=now, limit=limit), inline=False)

    def _look(self) -> None:
        """Look, once a second, whether the file that is open is still the one that other processes would open.

        Raises:
            StoreUnavailable: it is not. The process must be started anew.
        """
        now = time.monotonic()
        if not self._file.prepared:  # not opened yet, or not since the fork
            self._identity = None
            return
        if now < self._next_look:
            return
        try:
            found = os.stat(self._file.path)
        except OSError:
            found = None
        identity = None if found is None else (found.st_dev, found.st_ino)
        if self._identity is None:
            self._identity = identity
        if identity is None or identity != self._identity:
            raise StoreUnavailable("the database of ended sessions was removed or replaced while it was open")
        self._next_look = now + _LOOK_EVERY


def _state(
    connection: sqlite3.Connection, session_id: str, user: str | None
) -> tuple[int, Tombstone | None, UserMark | None]:
    everything, tombstone, mark = connection.execute(_CHECK, (session_id, user)).fetchone() or (0, None, None)
    try:
        ended = None if tombstone is None else decode_tombstone(tombstone)
        of_user = None if mark is None else _marks.decode(mark)
    except (Undecodable, msgspec.DecodeError, ValueError, TypeError, RecursionError):
        # What cannot be read may be the end that is asked for: nobody passes (R45).
        raise StoreSchema("a mark of an ended session cannot be read") from None
    return (everything if type(everything) is int else 0), ended, of_user


def _check(connection: sqlite3.Connection, claim: Claim) -> Tombstone | None:
    everything, ended, mark = _state(connection, claim.session_id, claim.user)
    return verdict(claim, everything or None, ended, mark)


def _numbers(connection: sqlite3.Connection, user: str | None) -> Marks:
    everything, _, mark = _state(connection, "", user)
    return Marks(everything, 0 if mark is None else mark.number)


def _begin(
    connection: sqlite3.Connection,
    user: str | None,
    replaces: Claim | None,
    tombstone: Tombstone | None,
    required: bool,  # noqa: FBT001 - of a partial
) -> Marks | Gone:
    if replaces is not None and tombstone is not None:
        ended = _check(connection, replaces)
        if ended is not None and required:
            return Gone(ended)
        _mark(connection, replaces.session_id, tombstone)
    marks = _numbers(connection, user)
    if not marks.everything:
        _end_everything(connection)
        marks = _numbers(connection, user)
    return marks


def _end(connection: sqlite3.Connection, session_id: str, tombstone: Tombstone, claim: Claim | None) -> Ending:
    was_alive = claim is None or _check(connection, claim) is None
    is_new = _mark(connection, session_id, tombstone)
    return Ending(((session_id, tombstone.user),) if was_alive and is_new else ())


def _mark(connection: sqlite3.Connection, session_id: str, tombstone: Tombstone) -> bool:
    marked = connection.execute(_END, (session_id, encode_tombstone(tombstone), tombstone.expires_at))
    return bool(marked.rowcount)


def _end_user(connection: sqlite3.Connection, user: str, tombstone: Tombstone, keep: frozenset[str]) -> None:
    _, _, before = _state(connection, "", user)
    mark = next_mark(before, tombstone, keep)
    connection.execute(_END_USER, (user, msgspec.msgpack.encode(mark), tombstone.expires_at))


def _end_everything(connection: sqlite3.Connection) -> None:
    connection.execute(_NUMBER, (first_number(),))


def _due(connection: sqlite3.Connection, now: float) -> bool:
    return bool(connection.execute(_DUE, (now, now)).fetchone()[0])


def _sweep(connection: sqlite3.Connection, now: float, limit: int) -> int:
    removed = 0
    for statement in _SWEEP:
        removed += connection.execute(statement, (now, limit - removed)).rowcount
    return removed
