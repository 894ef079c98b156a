"""What a store must do: the ports that the engine awaits.

Five verbs make a store; what else it can do is a further interface, never a method that raises "unsupported".

Not an error: a session that is missing, expired, ended or undecodable. Those are answers (`None`, `Tombstone`,
`Unreadable`). An error (`StoreError`) means that the store itself failed, and the request fails closed (R45).

Every verb is `async def`. A store that was opened for the blocking door never suspends: it blocks, or it answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from .record import Change, EndReason, Record, Tombstone, Unreadable

Loaded = Record | Tombstone | Unreadable | None


class Replaces(NamedTuple):
    """Name the session that a new one takes the place of; both steps are one.

    `required`: the old one must be alive, else nothing is created (a renewal). Not required: it is ended if alive (a
    sign-in). If it is alive and its revision or version is not the one given, nothing is created and `Stale` says so:
    somebody wrote to it meanwhile, and what they wrote must come along.
    """

    session_id: str
    tombstone: Tombstone
    required: bool
    revision: int
    version: int


class Created(NamedTuple):
    """Say that the session was inserted, and which ones a bounded store evicted to make room."""

    evicted: tuple[str, ...] = ()


class Taken(NamedTuple):
    """Say that the id exists already, alive or as a tombstone; nothing was written (R4)."""


class AtLimit(NamedTuple):
    """Say that the user has `limit` sessions already; nothing was written. `sessions`: id, created at, oldest first."""

    sessions: tuple[tuple[str, float], ...]


class Stale(NamedTuple):
    """Say that the record changed since it was read; nothing was written. `record` is the present one."""

    record: Record


class Clash(NamedTuple):
    """Say which keys no longer hold what the change expected; nothing was written."""

    keys: tuple[str, ...]
    record: Record


class Gone(NamedTuple):
    """Say that the session is not alive; nothing was written. `tombstone` says why, if that is still known."""

    tombstone: Tombstone | None = None


class Ending(NamedTuple):
    """Say which sessions were alive and are ended now (id, user), and whether the store confirmed it for good (R51)."""

    ended: tuple[tuple[str, str | None], ...]
    confirmed: bool = True


class Stats(NamedTuple):
    """Count what a store holds: live sessions, those of a user, distinct users, tombstones."""

    live: int
    signed_in: int
    users: int
    tombstones: int


class Page(NamedTuple):
    """Hold a part of a listing and the cursor that continues it (None: the end)."""

    sessions: tuple[tuple[str, Record], ...]
    cursor: str | None


class Store(Protocol):
    """Keep sessions: the five verbs that every store has."""

    async def load(self, session_id: str) -> Loaded:
        """Return the record in one round trip. A record of an ended epoch answers as a tombstone (`EVERYTHING`).

        Raises:
            StoreError: the store failed.
        """
        ...

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session under a new id, enter it in its user's index and end the one it replaces, all or nothing.

        `limit` is how many live sessions `record.control.user` may have, this one included and the replaced one not.
        """
        ...

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Change a session that is alive, atomically; never bring one back (R42).

        `base` is the record as it was read: a hint for optimistic stores. The stored record after the change is
        returned. A change that carries `control` and another `revision` than the stored one answers `Stale`.
        """
        ...

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        """Move the times of a live session forward; write nothing else (R44). Silent if it is gone."""
        ...

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """Put the tombstone in the record's place. Idempotent: a second end changes nothing, the first reason stays."""
        ...

    async def close(self) -> None:
        """Release what the store holds open. It may be called twice."""
        ...


@runtime_checkable
class Embedded(Protocol):
    """Live on this machine alone, so that a development key may be made for it.

    `key_file` is where that key lives; None: it dies with the process, as the sessions do.
    """

    @property
    def key_file(self) -> Path | None:
        """Return the development key's path."""
        ...


@runtime_checkable
class OneDoor(Protocol):
    """Be opened for one kind of door, and wrong behind the other: it would stop the event loop, or wait without one."""

    @property
    def blocking(self) -> bool:
        """Tell whether this store is for the blocking door."""
        ...


@runtime_checkable
class UserIndex(Protocol):
    """Find and end the sessions of a user; atomic with create, save and end (R49)."""

    async def of_user(self, user: str) -> tuple[tuple[str, Record], ...]:
        """Return the user's sessions that are alive in the store, oldest first."""
        ...

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End all of the user's sessions but those in `keep`; proportional to their number."""
        ...


@runtime_checkable
class Epochs(Protocol):
    """End everything at once."""

    async def end_everything(self, at: float) -> Ending:
        """End every session that exists now in O(1), by starting a new epoch (R64); the answer names no session."""
        ...


@runtime_checkable
class Sweeping(Protocol):
    """Remove what has expired."""

    async def sweep(self, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
        """Remove up to `limit` records and tombstones past `expires_at` or of an ended epoch, from the index too (R50).

        Returns each removed id with None for a tombstone, or the reason for a record: IDLE (past its deadline) or
        EVERYTHING.
        """
        ...


@runtime_checkable
class Census(Protocol):
    """Count and list sessions for operators."""

    async def stats(self, now: float) -> Stats:
        """Count what is held."""
        ...

    async def scan(self, cursor: str | None, limit: int) -> Page:
        """Return live sessions page by page, each exactly once while nothing changes."""
        ...


@runtime_checkable
class Retiring(Protocol):
    """Let go of a session only if nobody wrote to it: how a session moves to another store."""

    async def retire(
        self, session_id: str, tombstone: Tombstone, *, revision: int, version: int
    ) -> Ending | Stale | Gone:
        """End the session if its revision and version are still these; else answer `Stale` and change nothing."""
        ...


class Diagnosis(NamedTuple):
    """Hold what a store found when it looked at its own server: what it is, what that means, and how to mend it."""

    severity: Literal["fail", "warn", "ok"]
    code: str
    requirement: str
    found: str
    means: str = ""
    mend: str = ""


@runtime_checkable
class Diagnosable(Protocol):
    """Look at the server behind the store, for `sessile doctor`."""

    async def diagnose(self) -> tuple[Diagnosis, ...]:
        """Return what was found: persistence, eviction, replication, transport, rights. Never a secret.

        Raises:
            StoreError: the server could not be reached.
        """
        ...


class Claim(NamedTuple):
    """Name a session that lives in cookies, as sealed there: its id, its user, the numbers of when it was issued."""

    session_id: str
    user: str | None
    everything: int
    number: int


class Marks(NamedTuple):
    """Hold the numbers that a session is issued under now: of everything, and of its user (0: none yet)."""

    everything: int = 0
    number: int = 0


class Revocations(Protocol):
    """Remember which sessions that live in cookies have ended: all that must be kept of them anywhere.

    What ends by itself has a mark under its id. What ends together has a number: a session lives only while the
    numbers of everything and of its user are those that it was issued under. No clock is compared with another one, so
    who signs in right after an end is in, and a copy from right before is out.

    A mark or a user's number is kept until `expires_at` of its tombstone, past the deadline of what it ended. The
    number of everything begins anew, as another one, if all was lost: then no session lives, rather than ended ones.
    """

    async def check(self, claim: Claim) -> Tombstone | None:
        """Return why the session has ended, None if it lives; in one round trip.

        Raises:
            StoreError: it could not be asked.
        """
        ...

    async def begin(
        self,
        user: str | None,
        replaces: Claim | None = None,
        tombstone: Tombstone | None = None,
        *,
        required: bool = False,
    ) -> Marks | Gone:
        """Return the numbers to issue a session under, and end the one that it replaces, in one step.

        `required`: that one must live, else the answer is `Gone` (a renewal).
        """
        ...

    async def end(self, session_id: str, tombstone: Tombstone, claim: Claim | None = None) -> Ending:
        """End a session by its id. The answer names it unless it has ended before, as far as `claim` tells."""
        ...

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions but those in `keep`, by a new number; the answer cannot name them."""
        ...

    async def end_everything(self, at: float) -> Ending:
        """End every session that was issued so far, by a new number."""
        ...

    async def sweep(self, now: float, limit: int) -> int:
        """Forget up to `limit` marks that nobody needs any more; return how many."""
        ...

    async def close(self) -> None:
        """Release what is held open. It may be called twice."""
        ...


class Parting(NamedTuple):
    """Say which sessions are about to end: one by its id, or, if `session` is None, all of `user` but those in `keep`.

    `user` is None if whoever ends one session does not know whose it is.
    """

    reason: EndReason
    session: str | None
    user: str | None
    keep: frozenset[str] = frozenset()


class Witness(Protocol):
    """Be told of ends, before and after: how other applications learn of them although a process may die in between.

    No end waits for a witness to succeed: it raises nothing.
    """

    async def before(self, parting: Parting) -> object:
        """Note what is about to end; return what `after` needs, None if nothing was noted."""
        ...

    async def after(self, noted: object, ending: Ending | None) -> None:
        """Say what became of it; None: the store failed, or nothing was ended. Not called for what was not noted."""
        ...


@runtime_checkable
class InCookies(Protocol):
    """Be the store that keeps nothing: sessions live in their browsers' cookies, sealed.

    `limit` is how many bytes they may take of a Cookie header. Without `revocations`, nothing can end them early.
    """

    @property
    def revocations(self) -> Revocations | None:
        """Return where ends are remembered."""
        ...

    @property
    def limit(self) -> int:
        """Return the limit in bytes."""
        ...

    @property
    def compress(self) -> bool:
        """Tell whether what is sealed is compressed."""
        ...
