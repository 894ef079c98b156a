"""Sessions in the memory of one process: for tests, for one-process applications, and as the measure of speed.

Other processes do not see them and a restart forgets them. Records are immutable, so a load is one dictionary lookup
without a lock; writes take a lock for the microseconds they need, which is why the event loop may use them too.

The store is bounded. When it is full, a new session takes the place of, in this order:

    1. a session of an ended epoch, or one past its deadline (the next sweep reports it)
    2. the oldest tombstone
    3. the anonymous session that was idle longest (reported as evicted)

A signed-in session never makes room: when nothing else is left, `StoreFull` is raised and nothing is written.

Each epoch is an object of its own, so "end everything" exchanges one reference; sweeps take the old one apart.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, Final

from ..core.ports import AtLimit, Clash, Created, Ending, Gone, Loaded, Page, Replaces, Stale, Stats, Taken
from ..core.record import PLAIN, Change, Codec, EndReason, Record, Tombstone, apply, clashes
from ..errors import ConfigurationError, StoreFull, StoreUnavailable
from .url import StoreUrl, whole_number

CAPACITY: Final = 100_000
_SPARE_DEADLINES: Final = 10_000
_UNREPORTED: Final = 10_000  # how many early removals are remembered for the next sweep's report


def open_url(url: StoreUrl, *, blocking: bool, codec: Codec = PLAIN) -> MemoryStore:
    """Open `memory://` or `memory://?capacity=100000`. There is nothing at rest, so the codec has nothing to do.

    Raises:
        ConfigurationError: the URL names a host, a path or an unknown option.
    """
    if url.authority or url.path not in ("", "/"):
        raise ConfigurationError("memory:// takes neither a host nor a path")
    return MemoryStore(**url.options({"capacity": whole_number}))


class MemoryStore:
    """Keep up to `capacity` sessions and tombstones in this process; safe for threads and event loops at once."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        if capacity < 1:
            raise ConfigurationError("the capacity of a memory store must be at least 1")
        self._capacity = capacity
        self._lock = threading.Lock()
        self._ended: tuple[_Epoch, ...] = ()
        self._unreported: deque[tuple[str, EndReason]] = deque(maxlen=_UNREPORTED)
        self._epoch = _Epoch()
        self._held: Mapping[str, Record | Tombstone] = self._epoch.held

    @property
    def key_file(self) -> None:
        """Return None: a development key dies with the process, as the sessions do."""
        return

    async def load(self, session_id: str) -> Loaded:
        """Return what is held under the id."""
        held = self._held.get(session_id)
        if held is None and self._ended:
            return self._of_ended_epoch(session_id)
        return held

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session, and make room for it if the store is full.

        Raises:
            StoreFull: every session held is signed in.
        """
        with self._lock:
            epoch = self._opened()
            if session_id in epoch.held or self._of_ended_epoch(session_id) is not None:
                return Taken()
            old = None
            if replaces is not None:
                old = epoch.alive(replaces.session_id)
                if old is None and replaces.required:
                    return self._gone(replaces.session_id)
                if old is not None and (old.revision, old.version) != (replaces.revision, replaces.version):
                    return Stale(old)
            user = record.control.user
            if limit is not None and user is not None:
                others = [
                    (other_id, other.control.created_at)
                    for other_id, other in epoch.of_user(user)
                    if other.expires_at > record.seen_at and (replaces is None or other_id != replaces.session_id)
                ]
                if len(others) >= limit:
                    return AtLimit(tuple(others))
            if old is not None and replaces is not None:
                epoch.end(replaces.session_id, replaces.tombstone)
            evicted = self._make_room(record.seen_at)
            # The mapping is copied once, so that nobody who holds the caller's can reach into the store.
            epoch.insert(
                session_id,
                Record(
                    record.control,
                    dict(record.data),
                    record.seen_at,
                    record.expires_at,
                    record.revision,
                    record.version,
                ),
            )
            return Created(evicted)

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Merge the change into the record as it is now; `base` is not needed."""
        with self._lock:
            stored = self._opened().alive(session_id)
            if stored is None:
                return self._gone(session_id)
            if change.control is not None and change.revision != stored.revision:
                return Stale(stored)
            if clashing := clashes(stored.data, change):
                return Clash(clashing, stored)
            saved = apply(stored, change)
            self._epoch.replace(session_id, stored, saved)
            return saved

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        """Move the times forward."""
        with self._lock:
            stored = self._opened().alive(session_id)
            if stored is not None:
                self._epoch.replace(session_id, stored, apply(stored, Change(seen_at=seen_at, expires_at=expires_at)))

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """Put the tombstone in the record's place."""
        with self._lock:
            stored = self._opened().alive(session_id)
            if stored is None:
                return Ending(())
            self._epoch.end(session_id, tombstone)
            return Ending(((session_id, stored.control.user),))

    async def retire(
        self, session_id: str, tombstone: Tombstone, *, revision: int, version: int
    ) -> Ending | Stale | Gone:
        """End the session if nobody wrote to it."""
        with self._lock:
            stored = self._opened().alive(session_id)
            if stored is None:
                return self._gone(session_id)
            if (stored.revision, stored.version) != (revision, version):
                return Stale(stored)
            self._epoch.end(session_id, tombstone)
            return Ending(((session_id, stored.control.user),))

    async def close(self) -> None:
        """Forget everything; later verbs raise `StoreUnavailable`."""
        with self._lock:
            self._held = _Closed()
            self._epoch, self._ended = _Epoch(), ()

    async def of_user(self, user: str) -> tuple[tuple[str, Record], ...]:
        """Return the user's sessions, oldest first."""
        with self._lock:
            return tuple(self._opened().of_user(user))

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`."""
        with self._lock:
            epoch = self._opened()
            ended = tuple((session_id, user) for session_id, _ in epoch.of_user(user) if session_id not in keep)
            for session_id, _ in ended:
                epoch.end(session_id, tombstone)
            return Ending(ended)

    async def end_everything(self, at: float) -> Ending:
        """Begin a new epoch: what the old one holds is dead from here on."""
        with self._lock:
            epoch = self._opened()
            epoch.ended_at = at
            # In this order: a load between the two lines still sees one of them.
            self._ended = (*self._ended, epoch)
            self._epoch = _Epoch()
            self._held = self._epoch.held
            return Ending(())

    async def sweep(self, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
        """Remove up to `limit` of what has ended or expired, and report what made room earlier."""
        removed: list[tuple[str, EndReason | None]] = []
        with self._lock:
            epoch = self._opened()
            while self._unreported and len(removed) < limit:
                removed.append(self._unreported.popleft())
            while self._ended and len(removed) < limit:
                if (dead := self._pop_ended()) is not None:
                    removed.append(dead)
            while len(removed) < limit and (due := epoch.pop_due(now)) is not None:
                removed.append(due)
        return tuple(removed)

    async def stats(self, now: float) -> Stats:
        """Count what is held, one by one."""
        with self._lock:
            held = tuple(self._opened().held.values())
            tombstones = len(self._epoch.tombstones) + sum(len(epoch.tombstones) for epoch in self._ended)
        live = [value for value in held if isinstance(value, Record) and value.expires_at > now]
        users = [record.control.user for record in live if record.control.user is not None]
        return Stats(len(live), len(users), len(set(users)), tombstones)

    async def scan(self, cursor: str | None, limit: int) -> Page:
        """Return live sessions in the order they were created; the cursor is a position in it."""
        start = 0 if cursor is None else int(cursor) if cursor.isascii() and cursor.isdigit() else -1
        if start < 0 or len(cursor or "") > 15:
            return Page((), None)
        with self._lock:
            held = self._opened().held
            page: list[tuple[str, Record]] = []
            for position, (session_id, value) in enumerate(islice(held.items(), start, None), start):
                if len(page) == limit:
                    return Page(tuple(page), str(position))
                if type(value) is Record:
                    page.append((session_id, value))
            return Page(tuple(page), None)

    def _opened(self) -> _Epoch:
        if type(self._held) is _Closed:
            raise StoreUnavailable("the store is closed")
        return self._epoch

    def _of_ended_epoch(self, session_id: str) -> Tombstone | None:
        for epoch in self._ended:
            held = epoch.held.get(session_id)
            if held is not None:
                if isinstance(held, Tombstone):
                    return held
                return Tombstone(EndReason.EVERYTHING, epoch.ended_at, held.expires_at, held.control.user)
        return None

    def _gone(self, session_id: str) -> Gone:
        held = self._held.get(session_id)
        return Gone(held if type(held) is Tombstone else self._of_ended_epoch(session_id))

    def _make_room(self, now: float) -> tuple[str, ...]:
        if len(self._held) + sum(len(epoch.held) for epoch in self._ended) < self._capacity:
            return ()
        removed = None
        while self._ended and removed is None:
            removed = self._pop_ended()
        removed = removed or self._epoch.pop_due(now)
        if removed is not None:
            session_id, reason = removed
            if reason is not None:
                self._unreported.append((session_id, reason))
            return ()
        if self._epoch.tombstones:
            self._epoch.remove(next(iter(self._epoch.tombstones)))
            return ()
        if self._epoch.anonymous:
            session_id = next(iter(self._epoch.anonymous))
            self._epoch.remove(session_id)
            return (session_id,)
        raise StoreFull(f"all {self._capacity:,} sessions that this memory store may hold are signed in")

    def _pop_ended(self) -> tuple[str, EndReason | None] | None:
        epoch = self._ended[0]
        if not epoch.held:
            self._ended = self._ended[1:]
            return None
        session_id = next(reversed(epoch.held))
        held = epoch.remove(session_id)
        if epoch.due:
            epoch.due.pop()  # freed one by one as well: dropping a million at once would stop the process
        return session_id, EndReason.EVERYTHING if type(held) is Record else None


class _Epoch:
    """Hold what lives between two calls of `end_everything`, and its four indexes. The store's lock guards it.

    `anonymous` and `tombstones` are ordered, longest idle and longest ended first. `due` is a heap of deadlines as they
    were when the entry was made: later ones are looked up when an entry comes up, so that a touch costs no heap.
    """

    __slots__ = ("anonymous", "due", "ended_at", "held", "tombstones", "users")

    def __init__(self) -> None:
        self.held: dict[str, Record | Tombstone] = {}
        self.users: dict[str, dict[str, None]] = {}
        self.anonymous: OrderedDict[str, None] = OrderedDict()
        self.tombstones: OrderedDict[str, None] = OrderedDict()
        self.due: list[tuple[float, str]] = []
        self.ended_at = 0.0

    def alive(self, session_id: str) -> Record | None:
        held = self.held.get(session_id)
        return held if type(held) is Record else None

    def of_user(self, user: str) -> Iterator[tuple[str, Record]]:
        held = ((session_id, self.alive(session_id)) for session_id in self.users.get(user, ()))
        sessions = [(session_id, record) for session_id, record in held if record is not None]
        sessions.sort(key=lambda entry: entry[1].control.created_at)
        return iter(sessions)

    def insert(self, session_id: str, record: Record) -> None:
        self.held[session_id] = record
        self._enter(session_id, record.control.user)
        self._schedule(session_id, record.expires_at)

    def replace(self, session_id: str, old: Record, new: Record) -> None:
        self.held[session_id] = new
        if old.control.user != new.control.user:
            self._leave(session_id, old.control.user)
            self._enter(session_id, new.control.user)
        elif new.control.user is None:
            self.anonymous.move_to_end(session_id)

    def end(self, session_id: str, tombstone: Tombstone) -> None:
        held = self.held[session_id]
        assert type(held) is Record
        self._leave(session_id, held.control.user)
        self.held[session_id] = tombstone
        self.tombstones[session_id] = None
        self._schedule(session_id, tombstone.expires_at)

    def remove(self, session_id: str) -> Record | Tombstone:
        held = self.held.pop(session_id)
        if type(held) is Record:
            self._leave(session_id, held.control.user)
        else:
            self.tombstones.pop(session_id, None)
        return held

    def pop_due(self, now: float) -> tuple[str, EndReason | None] | None:
        while self.due and self.due[0][0] <= now:
            _, session_id = heappop(self.due)
            held = self.held.get(session_id)
            if held is None:
                continue
            if held.expires_at > now:
                heappush(self.due, (held.expires_at, session_id))
                continue
            self.remove(session_id)
            return session_id, EndReason.IDLE if type(held) is Record else None
        return None

    def _schedule(self, session_id: str, deadline: float) -> None:
        heappush(self.due, (deadline, session_id))
        if len(self.due) > 3 * len(self.held) + _SPARE_DEADLINES:
            # A flood of sessions that are evicted long before their deadline must not make the heap grow without bound.
            self.due = [(held.expires_at, held_id) for held_id, held in self.held.items()]
            heapify(self.due)

    def _enter(self, session_id: str, user: str | None) -> None:
        if user is None:
            self.anonymous[session_id] = None
        else:
            self.users.setdefault(user, {})[session_id] = None

    def _leave(self, session_id: str, user: str | None) -> None:
        if user is None:
            self.anonymous.pop(session_id, None)
            return
        sessions = self.users[user]
        del sessions[session_id]
        if not sessions:
            del self.users[user]


class _Closed(dict[str, Any]):
    """Stand where the sessions were, so that an open store need not ask whether it is closed."""

    def get(self, key: str, default: Any = None, /) -> Any:
        raise StoreUnavailable("the store is closed")
