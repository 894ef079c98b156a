"""Ends of sessions that live in cookies, remembered in this process: for development and tests.

When the process ends, every session ends with it: what was forgotten cannot bring one back, because the number of
everything begins anew. So it does in a forked child: it never hears of what ends in its parent, or in another child.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final

from ..core.marks import UserMark, first_number, next_mark, verdict
from ..core.ports import Claim, Ending, Gone, Marks
from ..core.record import Tombstone
from ..errors import ConfigurationError, StoreUnavailable
from .url import StoreUrl


def open_revocations_url(url: StoreUrl, *, blocking: bool) -> MemoryRevocations:
    """Open `memory://`.

    Raises:
        ConfigurationError: the URL names a host, a path or an option.
    """
    if url.authority or url.path not in ("", "/"):
        raise ConfigurationError("memory:// takes neither a host nor a path")
    return MemoryRevocations(**url.options({}))


class MemoryRevocations:
    """Remember ends in this process; safe for threads and event loops at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._everything = first_number()
        self._ended: dict[str, Tombstone] = {}
        self._users: dict[str, UserMark] = {}
        self._closed = False
        _kept.add(self)

    @property
    def key_file(self) -> None:
        """Return None: the key dies with the process, as the marks do."""
        return

    async def check(self, claim: Claim) -> Tombstone | None:
        """Return why the session has ended, None if it lives."""
        # Without the lock: each end is one assignment, and is seen or comes after.
        return self._verdict(claim)

    async def begin(
        self,
        user: str | None,
        replaces: Claim | None = None,
        tombstone: Tombstone | None = None,
        *,
        required: bool = False,
    ) -> Marks | Gone:
        """Return the numbers to issue a session under, and end the one that it replaces."""
        with self._lock:
            self._opened()
            if replaces is not None and tombstone is not None:
                ended = self._verdict(replaces)
                if ended is not None and required:
                    return Gone(ended)
                self._ended.setdefault(replaces.session_id, tombstone)
            mark = None if user is None else self._users.get(user)
            return Marks(self._everything, 0 if mark is None else mark.number)

    async def end(self, session_id: str, tombstone: Tombstone, claim: Claim | None = None) -> Ending:
        """End a session by its id."""
        with self._lock:
            self._opened()
            was_alive = session_id not in self._ended and (claim is None or self._verdict(claim) is None)
            self._ended.setdefault(session_id, tombstone)
            return Ending(((session_id, tombstone.user),) if was_alive else ())

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`."""
        with self._lock:
            self._opened()
            self._users[user] = next_mark(self._users.get(user), tombstone, keep)
            return Ending(())

    async def end_everything(self, at: float) -> Ending:
        """End every session that was issued so far."""
        with self._lock:
            self._opened()
            self._everything = first_number()
            return Ending(())

    async def sweep(self, now: float, limit: int) -> int:
        """Forget up to `limit` marks that are past their time."""
        with self._lock:
            over: list[str] = [sid for sid, mark in self._ended.items() if mark.expires_at <= now][:limit]
            for sid in over:
                del self._ended[sid]
            users = [user for user, mark in self._users.items() if mark.tombstone.expires_at <= now]
            for user in users[: limit - len(over)]:
                del self._users[user]
            return len(over) + len(users[: limit - len(over)])

    async def close(self) -> None:
        """Forget everything; later verbs raise `StoreUnavailable`."""
        with self._lock:
            self._closed = True
            self._ended.clear()
            self._users.clear()

    def begin_anew(self) -> None:
        """Let no session of before live here: for a forked child."""
        self._lock = threading.Lock()  # another thread of the parent may hold the other one for good
        self._everything = first_number()

    def _opened(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def _verdict(self, claim: Claim) -> Tombstone | None:
        self._opened()
        mark = None if claim.user is None else self._users.get(claim.user)
        return verdict(claim, self._everything, self._ended.get(claim.session_id), mark)


_kept: Final[weakref.WeakSet[MemoryRevocations]] = weakref.WeakSet()


def _after_fork() -> None:
    for one in tuple(_kept):
        one.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
