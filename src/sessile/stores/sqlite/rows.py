"""The rows: all the SQL of the verbs. Each function is one step inside a transaction that somebody else began.

    a row is      tombstone   epoch      user
    alive         NULL        current    its user's name, or NULL
    ended         set         any        NULL (control and data are erased)
    ended by      NULL        earlier    still set; reads compare the epoch, sweeps remove the row
    "everything"

Nothing here waits, commits or retries.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from ...core.ports import AtLimit, Clash, Created, Ending, Gone, Loaded, Page, Replaces, Stale, Stats, Taken
from ...core.record import (
    Change,
    Codec,
    EndReason,
    Record,
    Tombstone,
    Undecodable,
    Unreadable,
    apply,
    clashes,
    decode_tombstone,
    encode_tombstone,
)

_EPOCH: Final = "(SELECT max(number) FROM epoch)"
_COLUMNS: Final = f"control, data, seen_at, expires_at, revision, version, tombstone, epoch, {_EPOCH}"
_ALIVE: Final = f"tombstone IS NULL AND epoch = {_EPOCH}"

LOAD: Final = f"SELECT {_COLUMNS} FROM session WHERE key = ? AND id = ?"
_TAKEN: Final = "SELECT 1 FROM session WHERE key = ?"
_INSERT: Final = f"""INSERT INTO session
    (key, id, epoch, seen_at, expires_at, due, revision, version, user, control, data)
    VALUES (?, ?, {_EPOCH}, ?, ?, ?, ?, ?, ?, ?, ?)"""
_SAVE: Final = "UPDATE session SET seen_at = ?, expires_at = ?, version = ?, data = ? WHERE key = ?"
_SAVE_CONTROL: Final = "UPDATE session SET revision = ?, control = ? WHERE key = ?"
_SAVE_USER: Final = "UPDATE session SET user = ? WHERE key = ?"
_TOUCH: Final = f"""UPDATE session SET seen_at = max(seen_at, ?), expires_at = max(expires_at, ?)
    WHERE key = ? AND id = ? AND {_ALIVE}"""
_END: Final = f"""UPDATE session SET tombstone = ?, expires_at = ?, due = ?, epoch = {_EPOCH},
    user = NULL, control = NULL, data = NULL WHERE key = ?"""
_USER: Final = f"SELECT user FROM session WHERE key = ? AND id = ? AND {_ALIVE}"
_OF_USER: Final = f"SELECT id, {_COLUMNS} FROM session WHERE user = ?"
# "+epoch": through the index of users, whatever the number of sessions of the epoch.
_ALIVE_OF_USER: Final = f"SELECT id, key FROM session WHERE user = ? AND tombstone IS NULL AND +epoch = {_EPOCH}"
_NEW_EPOCH: Final = f"INSERT INTO epoch (number, started_at) VALUES ({_EPOCH} + 1, ?)"
_ENDED_AT: Final = "SELECT started_at FROM epoch WHERE number = ? + 1"
_ENDED_EPOCHS: Final = f"SELECT key, id, 0, tombstone IS NULL FROM session WHERE epoch < {_EPOCH} LIMIT ?"
_DUE: Final = f"""SELECT key, id, expires_at, tombstone IS NULL FROM session
    WHERE epoch = {_EPOCH} AND due <= ? ORDER BY due LIMIT ?"""
_POSTPONE: Final = "UPDATE session SET due = expires_at WHERE key = ?"
_DELETE: Final = "DELETE FROM session WHERE key = ?"
_STATS: Final = f"""SELECT count(CASE WHEN alive THEN 1 END), count(CASE WHEN alive THEN user END),
    count(DISTINCT CASE WHEN alive THEN user END), count(CASE WHEN ended THEN 1 END)
    FROM (SELECT user, {_ALIVE} AND expires_at > ? AS alive, tombstone IS NOT NULL AS ended FROM session)"""
# "+epoch": in the order of the keys, not through the index on epochs.
_SCAN: Final = f"""SELECT id, {_COLUMNS} FROM session
    WHERE key > ? AND tombstone IS NULL AND +epoch = {_EPOCH} ORDER BY key LIMIT ?"""

_KEY_BITS: Final = 2**60 - 1

# A sweep looks at this many rows for each one that it may remove; the others only have their `due` moved on.
_LOOKED_AT: Final = 4


def key_of(session_id: str) -> int:
    """Return the integer key of a session id: its first 60 bits, or those of a hash if it is not hexadecimal."""
    try:
        return int(session_id[:15], 16) & _KEY_BITS
    except ValueError:
        return int.from_bytes(hashlib.sha256(session_id.encode("utf-8", "replace")).digest()[:8], "big") & _KEY_BITS


def decode(connection: sqlite3.Connection, codec: Codec, session_id: str, row: tuple[Any, ...] | None) -> Loaded:
    """Turn a row of `LOAD` into a record, or into what stands for none. Nothing in a row makes this fail (R46)."""
    if row is None:
        return None
    control, data, seen_at, expires_at, revision, version, tombstone, epoch, current = row
    # SQLite's column types are advice: a damaged file may hold anything anywhere.
    if (
        type(seen_at) is not float
        or type(expires_at) is not float
        or type(revision) is not int
        or type(version) is not int
    ):
        return Unreadable("row")
    try:
        if tombstone is not None:
            return decode_tombstone(tombstone)
        halves = codec.decode_control(session_id, control), codec.decode_data(session_id, data)
        record = Record(*halves, seen_at, expires_at, revision, version)
    except Undecodable as error:
        return Unreadable(str(error))
    except TypeError:
        return Unreadable("row")
    if epoch != current:
        started = connection.execute(_ENDED_AT, (epoch,)).fetchone()
        return Tombstone(EndReason.EVERYTHING, started[0] if started else expires_at, expires_at, record.control.user)
    return record


def load(connection: sqlite3.Connection, codec: Codec, session_id: str) -> Loaded:
    """Read one session."""
    return decode(connection, codec, session_id, connection.execute(LOAD, (key_of(session_id), session_id)).fetchone())


def create(
    connection: sqlite3.Connection,
    codec: Codec,
    session_id: str,
    record: Record,
    replaces: Replaces | None,
    limit: int | None,
) -> Created | Taken | AtLimit | Stale | Gone:
    """Insert a session and end the one it replaces, or say why not."""
    key = key_of(session_id)
    if connection.execute(_TAKEN, (key,)).fetchone():
        return Taken()
    old = None
    if replaces is not None:
        old = load(connection, codec, replaces.session_id)
        if type(old) is Record:
            if (old.revision, old.version) != (replaces.revision, replaces.version):
                return Stale(old)
        elif replaces.required:
            return Gone(old if type(old) is Tombstone else None)
    user = record.control.user
    if limit is not None and user is not None:
        replaced = None if replaces is None else replaces.session_id
        others = tuple(
            (other_id, other.control.created_at)
            for other_id, other in of_user(connection, codec, user)
            if other.expires_at > record.seen_at and other_id != replaced
        )
        if len(others) >= limit:
            return AtLimit(others)
    if replaces is not None and type(old) is Record:
        _entomb(connection, key_of(replaces.session_id), replaces.tombstone)
    times = (record.seen_at, record.expires_at, record.expires_at)
    halves = (codec.encode_control(session_id, record.control), codec.encode_data(session_id, record.data))
    connection.execute(_INSERT, (key, session_id, *times, record.revision, record.version, user, *halves))
    return Created()


def save(
    connection: sqlite3.Connection, codec: Codec, session_id: str, change: Change
) -> Record | Stale | Clash | Gone:
    """Merge a change into a session that is alive."""
    stored = load(connection, codec, session_id)
    if type(stored) is not Record:
        return Gone(stored if type(stored) is Tombstone else None)
    if change.control is not None and change.revision != stored.revision:
        return Stale(stored)
    if clashing := clashes(stored.data, change):
        return Clash(clashing, stored)
    saved = apply(stored, change)
    key = key_of(session_id)
    data = codec.encode_data(session_id, saved.data)
    connection.execute(_SAVE, (saved.seen_at, saved.expires_at, saved.version, data, key))
    if change.control is not None:
        connection.execute(_SAVE_CONTROL, (saved.revision, codec.encode_control(session_id, saved.control), key))
        if saved.control.user != stored.control.user:
            connection.execute(_SAVE_USER, (saved.control.user, key))
    return saved


def touch(connection: sqlite3.Connection, session_id: str, seen_at: float, expires_at: float) -> None:
    """Move the times of a session that is alive."""
    connection.execute(_TOUCH, (seen_at, expires_at, key_of(session_id), session_id))


def end(connection: sqlite3.Connection, session_id: str, tombstone: Tombstone) -> Ending:
    """Put a tombstone in the place of a session that is alive, readable or not."""
    key = key_of(session_id)
    row = connection.execute(_USER, (key, session_id)).fetchone()
    if row is None:
        return Ending(())
    _entomb(connection, key, tombstone)
    return Ending(((session_id, row[0]),))


def retire(
    connection: sqlite3.Connection, codec: Codec, session_id: str, tombstone: Tombstone, mark: tuple[int, int]
) -> Ending | Stale | Gone:
    """Put a tombstone in the place of a session that is alive and has this revision and version still."""
    stored = load(connection, codec, session_id)
    if type(stored) is not Record:
        return Gone(stored if type(stored) is Tombstone else None)
    if (stored.revision, stored.version) != mark:
        return Stale(stored)
    _entomb(connection, key_of(session_id), tombstone)
    return Ending(((session_id, stored.control.user),))


def of_user(connection: sqlite3.Connection, codec: Codec, user: str) -> tuple[tuple[str, Record], ...]:
    """Read a user's sessions that are alive, oldest first."""
    rows = ((row[0], decode(connection, codec, row[0], row[1:])) for row in _fetch(connection, _OF_USER, user))
    return tuple(sorted(_records(rows), key=lambda entry: entry[1].control.created_at))


def end_user(connection: sqlite3.Connection, user: str, tombstone: Tombstone, keep: frozenset[str]) -> Ending:
    """End a user's sessions that are alive, readable or not, but those to keep."""
    rows = _fetch(connection, _ALIVE_OF_USER, user)
    ended = [(session_id, key) for session_id, key in rows if session_id not in keep]
    for _, key in ended:
        _entomb(connection, key, tombstone)
    return Ending(tuple((session_id, user) for session_id, _ in ended))


def end_everything(connection: sqlite3.Connection, at: float) -> None:
    """Begin a new epoch."""
    connection.execute(_NEW_EPOCH, (at,))


def anything_due(connection: sqlite3.Connection, now: float) -> bool:
    """Tell whether a sweep would find a row, without taking the write lock."""
    return bool(_fetch(connection, _ENDED_EPOCHS, 1) or _fetch(connection, _DUE, now, 1))


def sweep(connection: sqlite3.Connection, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
    """Remove rows of ended epochs, then rows past their deadline; move `due` on for those that were used since."""
    removed: list[tuple[str, EndReason | None]] = []
    looked_at = 0
    for statement, arguments, reason in ((_ENDED_EPOCHS, (), EndReason.EVERYTHING), (_DUE, (now,), EndReason.IDLE)):
        while len(removed) < limit and looked_at < _LOOKED_AT * limit:
            rows = _fetch(connection, statement, *arguments, limit - len(removed))
            if not rows:
                break
            looked_at += len(rows)
            for key, session_id, expires_at, alive in rows:
                if type(expires_at) is float and expires_at > now:
                    connection.execute(_POSTPONE, (key,))
                else:
                    connection.execute(_DELETE, (key,))
                    removed.append((session_id, reason if alive else None))
    return tuple(removed)


def stats(connection: sqlite3.Connection, now: float) -> Stats:
    """Count rows; reads them all."""
    return Stats(*connection.execute(_STATS, (now,)).fetchone())


def scan(connection: sqlite3.Connection, codec: Codec, cursor: str | None, limit: int) -> Page:
    """Read a page of sessions that are alive, in the order of their keys."""
    rows = _fetch(connection, _SCAN, -1 if cursor is None else key_of(cursor), limit)
    records = _records((row[0], decode(connection, codec, row[0], row[1:])) for row in rows)
    return Page(tuple(records), rows[-1][0] if len(rows) == limit else None)


def _entomb(connection: sqlite3.Connection, key: int, tombstone: Tombstone) -> None:
    connection.execute(_END, (encode_tombstone(tombstone), tombstone.expires_at, tombstone.expires_at, key))


def _fetch(connection: sqlite3.Connection, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
    return connection.execute(statement, arguments).fetchall()


def _records(rows: Iterator[tuple[str, Loaded]]) -> Iterator[tuple[str, Record]]:
    return ((session_id, loaded) for session_id, loaded in rows if type(loaded) is Record)
