"""Items in this process's memory: for tests and demonstrations. Everything is gone when it ends."""

from __future__ import annotations

import threading

from ...errors import StoreUnavailable
from ..vault import Item, Write, new_version


class MemoryVault:
    """Keep items in a dictionary; for either door, any number of threads and loops."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._lock = threading.Lock()
        self._closed = False

    async def get(self, key: str) -> Item | None:
        """Return the item, expired or not."""
        self._check()
        return self._items.get(key)

    async def write(self, *writes: Write) -> bool:
        """Carry out all writes, or none."""
        self._check()
        with self._lock:
            for write in writes:
                present = self._items.get(write.key)
                if write.version != (0 if present is None else present.version):
                    return False
            for write in writes:
                if write.value is None:
                    self._items.pop(write.key, None)
                else:
                    self._items[write.key] = Item(write.key, write.value, new_version(), write.user, write.expires_at)
        return True

    async def of_user(self, user: str, prefix: str = "") -> tuple[Item, ...]:
        """Return the user's items."""
        self._check()
        with self._lock:
            mine = [item for item in self._items.values() if item.user == user and item.key.startswith(prefix)]
        return tuple(sorted(mine))

    async def forget_user(self, user: str) -> int:
        """Remove all of a user's items."""
        self._check()
        with self._lock:
            mine = [item.key for item in self._items.values() if item.user == user]
            for key in mine:
                del self._items[key]
        return len(mine)

    async def sweep(self, now: float, limit: int) -> int:
        """Remove items that have expired."""
        self._check()
        with self._lock:
            due = [item.key for item in self._items.values() if item.expires_at is not None and item.expires_at <= now][
                :limit
            ]
            for key in due:
                del self._items[key]
        return len(due)

    async def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._items = {}

    def _check(self) -> None:
        if self._closed:
            raise StoreUnavailable("the vault is closed")
