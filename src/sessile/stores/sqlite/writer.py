"""Group commit: how the writes of many threads and tasks become few transactions, and who waits for whom.

SQLite lets one connection write at a time, in all processes together. A caller therefore never writes alone: it queues
its job, and whoever gets the lock runs everything that is queued in one transaction, each job behind its own savepoint.

    blocking door      the caller that gets the lock runs the queue; the others find their job done
    event loop         if nothing is queued and nobody writes, the job runs at once on the loop: a WAL commit without
                       fsync takes less than a thread hop. Otherwise, and for whatever must be fsynced, one daemon
                       thread runs the queue and the task waits for a future. The loop never waits for a lock.
                       (Grouping the writes of one turn of the loop was measured: it slows single ones by half.)

Ends go through a connection with `synchronous=FULL` and survive a power cut; everything else goes through one with
`NORMAL`, survives `kill -9`, and after a power cut the file holds an earlier, consistent state.

Checkpoints run on the daemon thread, on a connection of their own. A job whose caller was cancelled is carried out all
the same: an end that was begun is not taken back.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final, TypeVar, cast

from ...errors import StoreUnavailable
from .file import File, is_busy, naps, unavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

COMMITS_PER_CHECKPOINT: Final = 256
WAL_PAGES_AT_MOST: Final = (
    2_000  # beyond this, writers wait for the checkpoint's last step, so that the WAL starts over
)
_BATCH: Final = 200  # jobs a transaction: bounds how long the first one waits for its commit
_THREAD_IDLE: Final = 10.0  # seconds after which the daemon thread ends


class _Job:
    """Hold one write from its queueing to its outcome."""

    __slots__ = ("deadline", "done", "durable", "error", "future", "loop", "result", "work")

    def __init__(self, work: Work[Any], *, durable: bool, deadline: float) -> None:
        self.work = work
        self.durable = durable
        self.deadline = deadline
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: asyncio.Future[None] | None = None

    def finish(self) -> None:
        self.done = True
        if self.loop is not None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self.loop.call_soon_threadsafe(self._wake)

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.finish()

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result

    def _wake(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Writer:
    """Carry out writes for one store. `wait` is how many seconds a job may wait for the database."""

    def __init__(self, file: File, *, wait: float) -> None:
        self._file = file
        self._wait = wait
        self._closed = False
        self._queue: list[_Job] = []
        self._thread: threading.Thread | None = None
        self._normal: sqlite3.Connection | None = None
        self._full: sqlite3.Connection | None = None
        self._reset()

    def run(self, work: Work[T], *, durable: bool) -> T:
        """Carry out a job and block until it is committed.

        Raises:
            StoreUnavailable: it was not, in time or at all.
        """
        job = self._enter(work, durable=durable)
        with self._turnstile:
            pass
        while not job.done:
            now = time.monotonic()
            if self._lock.acquire(timeout=max(job.deadline - now, 0.05)):
                try:
                    if not job.done:
                        self._combine(job)
                finally:
                    self._lock.release()
            elif self._withdraw(job) or now > job.deadline + self._wait:
                raise StoreUnavailable(f"the {self._file.what} did not answer in time")
        if self._commits >= COMMITS_PER_CHECKPOINT:
            self._rouse()
        return cast("T", job.outcome())

    async def submit(self, work: Work[T], *, durable: bool, inline: bool = True) -> T:
        """Carry out a job without ever blocking the loop; `inline` says that it is short enough to run on it.

        Raises:
            StoreUnavailable: it was not committed, in time or at all.
        """
        loop = asyncio.get_running_loop()
        if inline and not durable and not self._queue and self._lock.acquire(blocking=False):
            job = _Job(work, durable=durable, deadline=0.0)
            try:
                done = self._at_once(job)
            finally:
                self._lock.release()
            if self._commits >= COMMITS_PER_CHECKPOINT:
                self._rouse()
            if done:
                return cast("T", job.outcome())
        future = loop.create_future()
        job = self._enter(work, durable=durable, loop=loop, future=future)
        self._rouse()
        try:
            async with asyncio.timeout(2 * self._wait):
                await future
        except TimeoutError:
            self._withdraw(job)
            raise StoreUnavailable(f"the {self._file.what} did not answer in time") from None
        return cast("T", job.outcome())

    def close(self) -> None:
        """Fail what is queued, wait for what runs, and close the connections. It may be called twice."""
        with self._gate:
            self._closed = True
            thread, queued, self._queue = self._thread, self._queue, []
        for job in queued:
            job.fail(StoreUnavailable(f"the {self._file.what} is closed"))
        self._wake.set()
        if thread is not None:
            thread.join()
        with self._lock:
            self._close_connections()

    def pause(self, patience: float) -> bool:
        """Take the locks and close the connections before a fork; tell whether that succeeded in `patience` seconds."""
        deadline = time.monotonic() + patience
        if not self._lock.acquire(timeout=patience):
            return False
        if not self._checkpointing.acquire(timeout=max(deadline - time.monotonic(), 0)):
            self._lock.release()
            return False
        self._close_connections()
        return True

    def resume(self) -> None:
        """Go on in the parent after a fork that `pause` prepared."""
        self._checkpointing.release()
        self._lock.release()

    def forget(self) -> tuple[object, ...]:
        """Begin anew in a forked child, and return what must never be closed there."""
        abandoned = (self._normal, self._full)
        self._reset()
        return abandoned

    def _reset(self) -> None:
        self._lock = threading.Lock()  # held by whoever uses one of the two connections
        self._turnstile = (
            threading.Lock()
        )  # held by a checkpoint that wants the lock next: busy writers would starve it
        self._gate = threading.Lock()  # held for a moment to change the queue or the thread
        self._checkpointing = threading.Lock()
        self._wake = threading.Event()
        self._queue = []
        self._thread = None
        self._normal = self._full = None
        self._commits = 0

    def _enter(
        self,
        work: Work[Any],
        *,
        durable: bool,
        loop: asyncio.AbstractEventLoop | None = None,
        future: asyncio.Future[None] | None = None,
    ) -> _Job:
        job = _Job(work, durable=durable, deadline=time.monotonic() + self._wait)
        job.loop, job.future = loop, future
        with self._gate:
            if self._closed:
                raise StoreUnavailable(f"the {self._file.what} is closed")
            self._queue.append(job)
        return job

    def _withdraw(self, job: _Job) -> bool:
        with self._gate:
            if job not in self._queue:
                return False
            self._queue.remove(job)
            return True

    def _take(self, *, durable: bool) -> list[_Job]:
        with self._gate:
            batch = self._queue[:_BATCH]
            if not durable:
                batch = [job for job in batch if not job.durable]
            taken = set(map(id, batch))
            self._queue = [job for job in self._queue if id(job) not in taken]
            return batch

    def _give_up(self, error: StoreUnavailable, *, before: float) -> None:
        with self._gate:
            late = [job for job in self._queue if job.deadline <= before]
            self._queue = [job for job in self._queue if job.deadline > before]
        for job in late:
            job.fail(error)

    def _connection(self, *, durable: bool) -> sqlite3.Connection:
        if durable:
            if self._full is None:
                self._full = self._file.connect(synchronous="FULL")
            return self._full
        if self._normal is None:
            self._normal = self._file.connect(synchronous="NORMAL")
        return self._normal

    def _close_connections(self) -> None:
        for connection in (self._normal, self._full):
            if connection is not None:
                connection.close()
        self._normal = self._full = None

    def _at_once(self, job: _Job) -> bool:
        """Run one job now, unless the database is in use (the lock is held)."""
        if self._normal is None or self._closed:
            return False
        try:
            self._normal.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            return False  # in use, or broken: the thread waits, or finds out
        self._commit(self._normal, [job])
        return True

    def _combine(self, own: _Job | None = None) -> None:
        """Run what is queued in one transaction; wait for other processes while a job may (the lock is held)."""
        for nap in naps():
            with self._gate:
                durable = any(job.durable for job in self._queue[:_BATCH])
                if not self._queue:
                    return
            try:
                connection = self._connection(durable=durable)
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                before = time.monotonic() + nap if is_busy(error) else float("inf")
                self._give_up(unavailable(error, self._file.what), before=before)
                if own is not None and own.done:
                    return
                time.sleep(nap)
            else:
                self._commit(connection, self._take(durable=durable))
                return

    def _commit(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        try:
            if len(batch) == 1:
                self._attempt(connection, batch[0])
            else:
                for job in batch:
                    connection.execute("SAVEPOINT job")
                    if not self._attempt(connection, job):
                        connection.execute("ROLLBACK TO job")
                    connection.execute("RELEASE job")
            if batch and (len(batch) > 1 or batch[0].error is None):
                connection.execute("COMMIT")
                self._commits += 1
        except sqlite3.Error as error:
            for job in batch:
                job.error = unavailable(error, self._file.what)
        except BaseException:
            for job in batch:
                job.error = StoreUnavailable("the write was interrupted")
            raise
        finally:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            for job in batch:
                job.finish()

    def _attempt(self, connection: sqlite3.Connection, job: _Job) -> bool:
        try:
            job.result = job.work(connection)
        except Exception as error:
            if not connection.in_transaction:  # SQLite has rolled back the work of the others as well
                raise
            job.error = unavailable(error, self._file.what) if isinstance(error, sqlite3.Error) else error
            return False
        return True

    def _rouse(self) -> None:
        with self._gate:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._serve, name="sessile-sqlite", daemon=True)
                self._thread.start()
            self._wake.set()

    def _serve(self) -> None:
        while not self._closed:
            woken = self._wake.wait(_THREAD_IDLE)
            with self._gate:
                if not woken and not self._queue:
                    self._thread = None
                    return
                self._wake.clear()
            while self._queue:
                with self._lock, suppress(Exception):  # whatever it is, the jobs carry it to those who wait
                    self._combine()
            if self._commits >= COMMITS_PER_CHECKPOINT:
                self._checkpoint()

    def _checkpoint(self) -> None:
        self._commits = 0
        with (
            suppress(sqlite3.Error),  # the next one makes up for it
            self._checkpointing,
            closing(self._file.connect(synchronous="FULL")) as connection,
        ):
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            connection.execute("PRAGMA busy_timeout=100")
            with self._turnstile, self._lock:
                if pages > WAL_PAGES_AT_MOST:
                    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
                # The first write after a complete checkpoint fsyncs the WAL's header: be it this one, not the loop's.
                if self._file.touch is not None:
                    connection.execute(self._file.touch)
