"""One SQLite file behind one door: how its reads and writes are carried out, and how it crosses a fork.

    read     on the calling thread; where that would wait, on the event loop's behalf in another one
    write    in the writer's queue (`writer`)

Connections must not cross a fork: SQLite in the child would believe that it holds the parent's locks, and another
process could then delete the WAL under it. They are closed before; those in use beyond our patience are never touched
again in the child.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from ...errors import ConfigurationError
from .file import SESSIONS, File, Schema, patiently
from .readers import Readers
from .writer import Writer

T = TypeVar("T")

_FORK_PATIENCE: Final = 1.0  # seconds


class Database:
    """Read and write the file `path`, for the blocking door or for the asynchronous one.

    `wait` is how many seconds a verb may wait for other processes.

    Raises:
        ConfigurationError: the path names no file, or a folder that does not exist.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, blocking: bool, wait: float = 5.0, schema: Schema = SESSIONS
    ) -> None:
        if not wait > 0:
            raise ConfigurationError("wait must be a number of seconds above zero")
        self._blocking = blocking
        self._wait = wait
        self._file = File(path, schema)
        self._readers = Readers(self._file)
        self._writer = Writer(self._file, wait=wait)
        self._paused: list[Readers | Writer] = []
        _databases.add(self)

    @property
    def blocking(self) -> bool:
        """Tell which door this store was opened for."""
        return self._blocking

    @property
    def path(self) -> Path:
        """Return where the database is."""
        return self._file.path

    @property
    def key_file(self) -> Path:
        """Return where a development key lives: beside the database."""
        return self._file.path.with_name(f"{self._file.path.name}.key")

    async def close(self) -> None:
        """Close the file; later verbs raise `StoreUnavailable`."""
        if self._blocking:
            self._close()
        else:
            await asyncio.to_thread(self._close)

    async def _read(self, work: Callable[[sqlite3.Connection], T], *, inline: bool = True) -> T:
        if not self._blocking:
            if inline and self._file.prepared:
                try:
                    return self._borrow(work)
                except sqlite3.Error:
                    pass  # in use for a moment, or broken: the thread below waits, or finds out
            return await asyncio.to_thread(self._read_patiently, work)
        return self._read_patiently(work)

    def _read_patiently(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._prepare()
        return patiently(partial(self._borrow, work), wait=self._wait, what=self._file.what)

    def _borrow(self, work: Callable[[sqlite3.Connection], T]) -> T:
        readers = self._readers
        try:
            connection = readers.idle.pop()
        except IndexError:
            connection = readers.open()
        try:
            return work(connection)
        finally:
            readers.returned.append(connection)

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False, inline: bool = True) -> T:
        if self._blocking:
            self._prepare()
            return self._writer.run(work, durable=durable)
        if not self._file.prepared:
            await asyncio.to_thread(self._prepare)
        return await self._writer.submit(work, durable=durable, inline=inline)

    def _prepare(self) -> None:
        if not self._file.prepared:
            self._file.prepare(self._wait)

    def _close(self) -> None:
        self._readers.close()
        self._writer.close()

    def _before_fork(self) -> None:
        self._paused = [part for part in (self._writer, self._readers) if part.pause(_FORK_PATIENCE)]

    def _after_fork_in_parent(self) -> None:
        for part in self._paused:
            part.resume()
        self._paused = []

    def _after_fork_in_child(self) -> None:
        _abandoned.append((self._writer.forget(), self._readers.forget()))
        self._file.forget()
        self._paused = []


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_abandoned: list[Any] = []


def _each(step: Callable[[Database], None]) -> None:
    for database in tuple(_databases):
        step(database)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=partial(_each, Database._before_fork),  # pyright: ignore[reportPrivateUsage]
        after_in_parent=partial(_each, Database._after_fork_in_parent),  # pyright: ignore[reportPrivateUsage]
        after_in_child=partial(_each, Database._after_fork_in_child),  # pyright: ignore[reportPrivateUsage]
    )
