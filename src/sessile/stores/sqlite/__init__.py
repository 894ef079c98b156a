"""Sessions in an SQLite file: for one machine, any number of processes and threads, and either door.

What it promises
- A load is one SELECT on the calling thread. WAL readers wait for nobody; the event loop never waits for a lock.
- Every write is one transaction with its index. Writes that meet are committed together (`writer`).
- An acknowledged write survives `kill -9`. Ends survive a power cut as well: `end`, `end_user`, `end_everything`, and a
  `create` that replaces a session of a user, because the token left behind is a credential. Other writes (saves,
  touches, a sign-in that replaces an anonymous session) may be lost by a power cut within the last seconds before it,
  newest first, never in part: the old session is then back as it was, and belongs to nobody.
- `end` erases what the session held in its row. Copies in the WAL last until SQLite reuses its pages.
- When the database stays locked for `wait` seconds, or fails, `StoreUnavailable` is raised. A write that was already
  being committed then has an unknown outcome, as with any database.
- After a fork, parent and child go on with connections of their own.

Use asyncio (any number of loops) or the blocking door; a file on a network share is none that SQLite can lock.
"""

from __future__ import annotations

import os
import sqlite3
from functools import partial

from ...core.ports import AtLimit, Clash, Created, Ending, Gone, Loaded, Page, Replaces, Stale, Stats, Taken
from ...core.record import PLAIN, Change, Codec, EndReason, Record, Tombstone
from ...errors import ConfigurationError
from ..url import StoreUrl, seconds
from . import rows
from .database import Database


def open_url(url: StoreUrl, *, blocking: bool, codec: Codec = PLAIN) -> SqliteStore:
    """Open `sqlite:///relative.db` or `sqlite:////absolute.db`, with `?wait=seconds` if five do not suit.

    Raises:
        ConfigurationError: the URL names no file, or an unknown option.
    """
    if ":memory:" in (url.authority, url.path[1:]) or not (url.authority or url.path[1:]):
        raise ConfigurationError("sqlite:// needs a file: sqlite:///sessions.db; for sessions in memory, use memory://")
    if url.authority:
        raise ConfigurationError("sqlite:// takes three slashes before a relative path and four before an absolute one")
    return SqliteStore(url.path[1:], blocking=blocking, codec=codec, **url.options({"wait": seconds}))


class SqliteStore(Database):
    """Keep sessions in the file `path`, for the blocking door or for the asynchronous one.

    `wait` is how many seconds a verb may wait for other processes; `codec` encodes what the rows hold.

    Raises:
        ConfigurationError: the path names no file, or a folder that does not exist.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, blocking: bool, wait: float = 5.0, codec: Codec = PLAIN
    ) -> None:
        super().__init__(path, blocking=blocking, wait=wait)
        self._codec = codec

    async def load(self, session_id: str) -> Loaded:
        """Read the session with one SELECT."""
        readers = self._readers
        try:
            connection = readers.idle.pop()
        except IndexError:
            return await self._read(partial(rows.load, codec=self._codec, session_id=session_id))
        try:
            row = connection.execute(rows.LOAD, (rows.key_of(session_id), session_id)).fetchone()
            return rows.decode(connection, self._codec, session_id, row)
        except sqlite3.Error:
            pass
        finally:
            readers.returned.append(connection)
        return await self._read(partial(rows.load, codec=self._codec, session_id=session_id))

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session in one transaction with the end of the one it replaces."""
        work = partial(
            rows.create, codec=self._codec, session_id=session_id, record=record, replaces=replaces, limit=limit
        )
        return await self._write(work, durable=replaces is not None and replaces.tombstone.user is not None)

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Merge the change into the row as it is now; `base` is not needed."""
        return await self._write(partial(rows.save, codec=self._codec, session_id=session_id, change=change))

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        """Move the times forward."""
        await self._write(partial(rows.touch, session_id=session_id, seen_at=seen_at, expires_at=expires_at))

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """Put the tombstone in the record's place, durably."""
        return await self._write(partial(rows.end, session_id=session_id, tombstone=tombstone), durable=True)

    async def retire(
        self, session_id: str, tombstone: Tombstone, *, revision: int, version: int
    ) -> Ending | Stale | Gone:
        """End the session, durably, if nobody wrote to it."""
        mark = revision, version
        work = partial(rows.retire, codec=self._codec, session_id=session_id, tombstone=tombstone, mark=mark)
        return await self._write(work, durable=True)

    async def of_user(self, user: str) -> tuple[tuple[str, Record], ...]:
        """Return the user's sessions, oldest first."""
        return await self._read(partial(rows.of_user, codec=self._codec, user=user))

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`, durably and in one transaction."""
        return await self._write(partial(rows.end_user, user=user, tombstone=tombstone, keep=keep), durable=True)

    async def end_everything(self, at: float) -> Ending:
        """Begin a new epoch, durably: one row, whatever the number of sessions."""
        await self._write(partial(rows.end_everything, at=at), durable=True)
        return Ending(())

    async def sweep(self, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
        """Remove what has ended or expired; takes the write lock only if there is something to remove."""
        if not await self._read(partial(rows.anything_due, now=now)):
            return ()
        return await self._write(partial(rows.sweep, now=now, limit=limit), inline=False)

    async def stats(self, now: float) -> Stats:
        """Count all rows, away from the event loop."""
        return await self._read(partial(rows.stats, now=now), inline=False)

    async def scan(self, cursor: str | None, limit: int) -> Page:
        """Return live sessions in the order of their ids, away from the event loop."""
        return await self._read(partial(rows.scan, codec=self._codec, cursor=cursor, limit=limit), inline=False)
