"""Items in this process's memory: for tests and demonstrations. Everything is gone when it ends.

A forked child has a copy, in which a code that was used elsewhere is still good: there, every verb fails.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

from ...errors import StoreUnavailable
from ..vault import Item, Write, check_writes, new_version


class MemoryVault:
    """Keep items in a dictionary; for either door, any number of threads and loops of one process."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._closed = False

    async def get(self, key: str) -> Item | None:
        """Return the item, expired or not."""
        with self._opened() as items:
            return items.get(key)

    async def write(self, *writes: Write) -> bool:
        """Carry out all writes, or none."""
        check_writes(writes)
        with self._opened() as items:
            for write in writes:
                present = items.get(write.key)
                if write.version != (0 if present is None else present.version):
                    return False
            for write in writes:
                if write.value is None:
                    items.pop(write.key, None)
                else:
                    items[write.key] = Item(write.key, write.value, new_version(), write.user, write.expires_at)
        return True

    async def of_user(self, user: str, prefix: str = "") -> tuple[Item, ...]:
        """Return the user's items."""
        with self._opened() as items:
            mine = [item for item in items.values() if item.user == user and item.key.startswith(prefix)]
        return tuple(sorted(mine))

    async def forget_user(self, user: str) -> int:
        """Remove all of a user's items."""
        with self._opened() as items:
            mine = [item.key for item in items.values() if item.user == user]
            for key in mine:
                del items[key]
        return len(mine)

    async def sweep(self, now: float, limit: int) -> int:
        """Remove items that have expired."""
        with self._opened() as items:
            due = [item.key for item in items.values() if item.expires_at is not None and item.expires_at <= now]
            for key in due[:limit]:
                del items[key]
        return len(due[:limit])

    async def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._items = {}

    @contextmanager
    def _opened(self) -> Generator[dict[str, Item]]:
        if os.getpid() != self._process:  # nor could the lock be taken, if another thread had it when this one forked
            raise StoreUnavailable("a vault in memory is of one process; name a file or a database")
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the vault is closed")
            yield self._items
