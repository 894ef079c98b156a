"""What old sessions are shut out by: marks in the store that a user's sessions, or all, were ended at once.

A session that was not adopted yet is in no index and in no epoch. Without these marks it would come back to life after
everything of its user's was ended. One mark more says that bridges stand at all, for operators' tools, which know the
store alone. All are ordinary tombstones, kept until a month beyond the last bridge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from ..errors import StoreUnavailable
from .legacy import OldCookie, OldSession, OpenBridge, mark_id
from .ports import Created, Store, Sweeping
from .record import SCHEMA, Control, EndReason, Record, Tombstone
from .requests import Facts

MONTH: Final = 30 * 86_400.0
_PENDING: Final = 3_600.0  # how long a half-done adoption may wait for its next request (seconds)
_USER: Final = b"user"
_EVERYTHING: Final = b"everything"
# Two: a mark made just before an epoch ends is still held under its id when the next one needs its own.
_SLOTS: Final = (b"0", b"1")
_STANDING: Final = mark_id(b"standing", b"")
_SWEEP: Final = 1_000
_MAX_SWEEPS: Final = 10_000


class Shutouts:
    """Leave these marks, and look for them."""

    def __init__(self, bridges: tuple[OpenBridge, ...], *, store: Store, clock: Callable[[], float]) -> None:
        self._bridges = bridges
        self._store = store
        self._clock = clock
        self._said = False

    async def close_user(self, user: str) -> None:
        """Remember that all of a user's sessions were ended at once: those not adopted yet are not adopted any more.

        Call it before the store is told to end them, so that no adoption under way slips through between.
        """
        now = self._clock()
        if self._stands(now):
            await self.say_that_bridges_stand()  # nobody may have been adopted yet, and this must not be left behind
            await put_mark(self._store, _user_mark(user), self._last(), now)

    async def close_before_everything(self) -> None:
        """Remember that every session is about to be ended; see `close_everything`."""
        now = self._clock()
        if self._stands(now) and not await self.is_closed(None):
            await put_mark(self._store, mark_id(_EVERYTHING, _SLOTS[0]), self._last(), now)

    async def close_everything(self) -> None:
        """Remember that every session was ended, in the new epoch: a mark of the one that ended is swept with it."""
        now = self._clock()
        if not self._stands(now):
            return
        for _ in range(_MAX_SWEEPS):
            for slot in _SLOTS:
                mark = mark_id(_EVERYTHING, slot)
                if isinstance(await self._store.create(mark, pending_mark(now)), Created):
                    await self._store.end(mark, Tombstone(EndReason.EVERYTHING, now, self._last()))
                    return
            # Two ends of everything within the time that the sweep needs: both marks are of epochs that ended.
            if not isinstance(self._store, Sweeping) or not await self._store.sweep(now, _SWEEP):
                break
        raise StoreUnavailable("the old sessions could not be shut out")

    async def is_closed(self, user: str | None) -> bool:
        """Tell whether all sessions, or all of this user's, were ended at once while bridges stood."""
        return await self.closed_at(user) is not None

    async def closed_at(self, user: str | None) -> float | None:
        """Return when that first was (seconds since 1970), None if it never was."""
        marks = [mark_id(_EVERYTHING, slot) for slot in _SLOTS]
        if user is not None:
            marks.append(_user_mark(user))
        first: float | None = None
        for mark in marks:
            held = await self._store.load(mark)
            if held is not None:
                # A mark that is being made, or is not readable, says when it was begun, or nothing: then it was always.
                at = held.at if isinstance(held, Tombstone) else held.seen_at if isinstance(held, Record) else 0.0
                first = at if first is None else min(first, at)
        return first

    async def say_that_bridges_stand(self) -> None:
        """Leave a mark that says so, once a process; see `standing_until`."""
        if not self._said:
            await put_mark(self._store, _STANDING, self._last(), self._clock())
            self._said = True

    def _stands(self, now: float) -> bool:
        return any(now < bridge.until for bridge in self._bridges)

    def _last(self) -> float:
        return max(bridge.until for bridge in self._bridges) + MONTH


def pending_mark(now: float) -> Record:
    """Return what stands under a mark until it is a tombstone: nobody's, empty."""
    control = Control(schema=SCHEMA, created_at=now, authenticated_at=now, rotated_at=now)
    return Record(control, {}, now, now + _PENDING)


async def put_mark(store: Store, mark: str, until: float, now: float, reason: EndReason = EndReason.RENEWED) -> None:
    """Leave a tombstone under an id where nothing has lived."""
    await store.create(mark, pending_mark(now))
    await store.end(mark, Tombstone(reason, now, until))


def _user_mark(user: str) -> str:
    return mark_id(_USER, user.encode("utf-8", "surrogatepass"))


class Elsewhere:
    """Stand for the bridges of an application, in a tool that shares its store: it adopts nothing."""

    def __init__(self, until: float) -> None:
        self.name = "elsewhere"
        self.kind = b"elsewhere"
        self.until = until
        self.on_outage: Literal["refuse", "ignore"] = "refuse"
        self.cookie = OldCookie("")

    def recognise(self, facts: Facts, now: float) -> None:
        """Recognise nothing."""

    async def find(self, old: OldSession, now: float) -> None:
        """Find nothing."""

    async def end(self, old: OldSession) -> None:
        """End nothing."""

    async def close(self) -> None:
        """Release nothing."""


async def standing_until(store: Store) -> float | None:
    """Return until when bridges of some application stand before this store (seconds since 1970), None if none do.

    The mark that says so goes with the epoch in which it was left; the one of the end of everything is in the new one.
    """
    for mark in (_STANDING, *(mark_id(_EVERYTHING, slot) for slot in _SLOTS)):
        held = await store.load(mark)
        if isinstance(held, Tombstone):
            return held.expires_at - MONTH
    return None
