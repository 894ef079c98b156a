"""Attempts that are limited: per user and factor, and per source, in the vault, so across processes and restarts (R91).

    reserve     before the check: the attempt is counted as failed, in one write with its source's
    succeed     after a right one: the user's count begins anew, the source gets this one attempt back

Two processes cannot both take the last attempt: the second one's write meets another version, reads again, and waits.
Whoever crashes between the two has failed.

    failures of one user's factor    wait until the next          100 in a row (NIST SP 800-63B-4 §3.2.2)
    1 … 4                            nothing                      locked: only `clear` opens it, when its user
    5, 6, 7 …                        1 s, 2 s, 4 s … 1 h          proved themselves otherwise

Each factor counts for itself: who hammers on a password does not lock the passkey or the codes of its user. A source
counts what failed for anybody within a quarter of an hour; there a success gives back one attempt and no more, for
attackers have accounts as well.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..core.session import Session
from ..errors import ConfigurationError, StoreUnavailable
from .changes import about
from .events import AttemptsLimited
from .ground import Ground, name_of
from .stored import Stored, read, written
from .vault import MAX_ROUNDS, Item, Write, living, settle, version_of

MOST_FAILURES: Final = 100
# Counts of names that nobody has must not stay for ever, and must look like those of users for long.
FORGET_UNKNOWN: Final = 30 * 86400.0


class Limits(NamedTuple):
    """Say how many attempts there are; times in seconds.

    The first `free` failures cost nothing, then waiting grows from `first`, doubling, to `longest`. At `cap` in a row
    the factor is locked. `forget` after the last failure begins anew; None: never. `source` failures are allowed to one
    network within `window`.
    """

    free: int = 4
    first: float = 1.0
    longest: float = 3600.0
    cap: int = MOST_FAILURES
    forget: float | None = None
    source: int = 100
    window: float = 900.0

    def check(self) -> None:
        """Refuse limits that are none.

        Raises:
            ConfigurationError: they are.
        """
        if not (0 <= self.free < self.cap <= MOST_FAILURES and self.source > 0):
            raise ConfigurationError(f"free is below cap, which is {MOST_FAILURES} at most; source is one at least")
        if not (0 < self.first <= self.longest < 1e9 and 0 < self.window < 1e9):
            raise ConfigurationError("first, longest and window are seconds, first not above longest")


class Count(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold what failed: how often, since when, and until when nothing is looked at (seconds since 1970)."""

    failures: int
    since: float
    until: float


class Attempt(NamedTuple):
    """Hold an attempt that was reserved."""

    place: str
    source: str


class Held(NamedTuple):
    """Say that an attempt was not looked at: `retry_after` seconds, None: it is locked and waiting does not help."""

    retry_after: float | None


def wait_after(failures: int, limits: Limits) -> float:
    """Return how many seconds the next attempt waits after so many failures in a row."""
    if failures <= limits.free:
        return 0.0
    return min(limits.longest, limits.first * 2.0 ** min(failures - limits.free - 1, 60))


def held(count: Count | None, now: float, limits: Limits) -> Held | None:
    """Return why a user's next attempt is not looked at, None if it is."""
    if count is None:
        return None
    if count.failures >= limits.cap and limits.forget is None:
        return Held(None)
    return Held(count.until - now) if now < count.until else None


def held_source(count: Count | None, now: float, limits: Limits) -> Held | None:
    """Return why a source's next attempt is not looked at, None if it is."""
    if count is None or count.failures < limits.source:
        return None
    return Held(max(0.0, count.since + limits.window - now))


class Throttle:
    """Limit attempts at one factor.

    Raises:
        ConfigurationError: the limits are none.
    """

    def __init__(self, ground: Ground, factor: str, limits: Limits | None = None) -> None:
        self.ground = ground
        self.factor = factor
        self.limits = limits or Limits()
        self.limits.check()

    async def reserve(self, session: Session, subject: str, *, user: str | None) -> Attempt | Held:
        """Count an attempt before it is looked at. `subject` is whom it is about, `user` the same if that user exists.

        Raises:
            StoreError: the vault failed: nothing may be looked at.
        """
        await self.ground.housekeep()
        attempt = Attempt(self._place(subject), f"throttle-source:{self.factor}:{self.ground.source(session)}")
        for _ in range(MAX_ROUNDS):
            now = self.ground.now
            mine, theirs = await self.ground.vault.get(attempt.place), await self.ground.vault.get(attempt.source)
            own, others = _count(living(mine, now)), _count(living(theirs, now))
            why = held(own, now, self.limits) or held_source(others, now, self.limits)
            if why is not None:
                locked = why.retry_after is None
                self.ground.tell(
                    AttemptsLimited(**about(self.ground, session, user), factor=self.factor, locked=locked)
                )
                return why
            if await self.ground.vault.write(
                self._one_more(attempt.place, mine, own, user, now),
                self._one_more_of_source(attempt.source, theirs, others, now),
            ):
                return attempt
        raise StoreUnavailable("attempts came faster than they could be counted")

    async def succeed(self, attempt: Attempt) -> None:
        """Begin the user's count anew, and give the source its attempt back."""
        await self._remove(attempt.place)

        def given_back(item: Item | None) -> tuple[None, Write | None]:
            count = _count(item)
            if item is None or count is None:
                return None, None
            fewer = Count(failures=max(0, count.failures - 1), since=count.since, until=0.0)
            return None, Write(item.key, written(fewer), item.version, None, item.expires_at)

        await settle(self.ground.vault, attempt.source, given_back, now=self.ground.now)

    async def clear(self, subject: str) -> None:
        """Open a factor again whose user has proved who they are otherwise, or has set it anew."""
        await self._remove(self._place(subject))

    async def _remove(self, place: str) -> None:
        def removed(item: Item | None) -> tuple[None, Write | None]:
            return None, None if item is None else Write(place, None, item.version)

        await settle(self.ground.vault, place, removed, now=self.ground.now)

    def _place(self, subject: str) -> str:
        return f"throttle:{self.factor}:{name_of(subject)}"

    def _one_more(self, place: str, item: Item | None, count: Count | None, user: str | None, now: float) -> Write:
        failures = 1 if count is None else count.failures + 1
        since = now if count is None else count.since
        until = now + wait_after(failures, self.limits)
        forget = self.limits.forget if user is not None or self.limits.forget is not None else FORGET_UNKNOWN
        expires = None if forget is None else until + forget
        counted = Count(failures=failures, since=since, until=until)
        return Write(place, written(counted), version_of(item), user, expires)

    def _one_more_of_source(self, place: str, item: Item | None, count: Count | None, now: float) -> Write:
        since = now if count is None else count.since
        counted = Count(failures=1 if count is None else count.failures + 1, since=since, until=0.0)
        return Write(place, written(counted), version_of(item), None, since + self.limits.window)


def _count(item: Item | None) -> Count | None:
    return None if item is None else read(Count, item.value)
