"""The read connections: a stack, so that few stay warm and a thread that ends leaves none behind.

A reader in WAL mode does not wait for writers. For moments it can meet a lock, while another process
opens, recovers or closes the file.
"""

from __future__ import annotations

import sqlite3
import threading
import time

from ...errors import StoreUnavailable
from .file import File


class Readers:
    """Lend connections: `idle.pop()`, and when that raises `IndexError`, `open()`; then `returned.append()`.

    Both are the same list, but while all connections are called back: then they are returned and not lent again.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        self._closed = False
        self.idle: list[sqlite3.Connection] = []
        self.returned = self.idle
        self._opening = threading.Lock()
        self._opened = 0

    def open(self) -> sqlite3.Connection:
        """Open one more connection.

        Raises:
            StoreUnavailable: the store is closed.
            sqlite3.Error: it failed.
        """
        with self._opening:
            if self._closed:
                raise StoreUnavailable(f"the {self._file.what} is closed")
            connection = self._file.connect(read_only=True)
            self._opened += 1
            return connection

    def close(self, patience: float = 5.0) -> None:
        """Close all connections, and lend no more. It may be called twice."""
        self._closed = True
        if self.pause(patience):
            self.resume()

    def pause(self, patience: float) -> bool:
        """Close all connections once they are back and hold off new ones; tell whether `patience` seconds sufficed."""
        deadline = time.monotonic() + patience
        if not self._opening.acquire(timeout=patience):
            return False
        self.idle = []
        while self._opened:
            while self.returned:
                self.returned.pop().close()
                self._opened -= 1
            if self._opened:
                if time.monotonic() > deadline:
                    self.resume()
                    return False
                time.sleep(0.0005)
        return True

    def resume(self) -> None:
        """Lend connections again."""
        self.idle = self.returned
        self._opening.release()

    def forget(self) -> tuple[object, ...]:
        """Begin anew in a forked child, and return what must never be closed there."""
        abandoned = (self.returned,)
        self.idle = self.returned = []
        self._opening = threading.Lock()
        self._opened = 0
        return abandoned
