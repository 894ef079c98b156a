"""The outbox: what other applications must be told, written down before it happens (R78).

    before    an intent in the vault: who, which sessions, why         nothing has ended yet
    the end   in the session store, whichever that is
    after     the intent becomes due: one item for each stream          in one write, all or none

Whatever dies in between leaves the intent, and whoever looks next asks the store what became of the sessions:

    a tombstone of this end, or nothing at all      it happened: due
    it lives                                        wait; after `PATIENCE` it did not happen: the intent goes
    a tombstone of another end                      this one came too late: the intent goes

So no end is untold and none is invented, with every store, and no transaction need span store and vault. A due item
keeps its name until it is delivered or given up, and its SET carries that name (`jti`): what is sent twice is known.

An end does not wait for the outbox to succeed: if the vault fails, the session ends all the same, and `SignalNotKept`
says that nobody will be told.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from ...core.families import is_family
from ...core.ports import Ending, Parting
from ...core.record import EndReason, Record, Tombstone
from ...errors import StoreError
from ..events import SignalNotKept
from ..ground import Ground, name_of
from ..stored import Stored, read, written
from ..vault import Item, Write
from .cause import present
from .peers import Receiver
from .vocabulary import CREDENTIAL_CHANGE, ENDS, SESSION_REVOKED, credential_event, short

NOBODY: Final = ""
INTENT: Final = "signals:intent:"
OUT: Final = "signals:out:"
TXN: Final = "signals:txn:"
# So long an end may take, an application's own transaction around it included.
PATIENCE: Final = 600.0
# So long whoever began an end is left alone with it.
SETTLE: Final = 5.0
REMEMBERED: Final = 7 * 86400.0

_log: Final = logging.getLogger("sessile.signals")


class Intent(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold an end that is about to happen. `sessions` are those of `user` that live; `all`: the whole user is meant."""

    at: float
    reason: str
    user: str
    sessions: tuple[str, ...]
    all: bool
    partly: bool
    txn: str
    sender: str


class Due(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold what one stream must be told: what, of whom, since when; and how often that was tried.

    `session` is "" if the whole user is meant. `event` is the event's JSON. Times are seconds since 1970.
    """

    kind: str
    event: bytes
    user: str
    session: str
    at: float
    txn: str
    tries: int = 0
    next_at: float = 0.0


class Target(NamedTuple):
    """Name a stream that signals may go to; `held`: they are kept until it is enabled again."""

    id: str
    receiver: Receiver
    kinds: frozenset[str]


class Noted(NamedTuple):
    """Hold an intent and its name."""

    name: str
    intent: Intent


def txn_key(txn: str, kind: str, user: str, session: str = "") -> str:
    """Return where it is remembered that a transaction was told of, or heard of."""
    return TXN + name_of(f"{txn}\n{kind}\n{user}\n{session}")


class Outbox:
    """Be the witness of an engine: note ends, and make them due. `targets` returns the streams that take signals."""

    def __init__(
        self, ground: Ground, targets: Callable[[], Awaitable[tuple[Target, ...]]], *, wake: Callable[[], None]
    ) -> None:
        self._ground = ground
        self._targets = targets
        self._wake = wake
        self._last = 0

    # -- the witness ---------------------------------------------------------------------------------------------------

    async def before(self, parting: Parting) -> object:
        """Note an end, if somebody must be told of it."""
        if parting.reason not in ENDS:
            return None
        try:
            if not await self._targets():
                return None
            found = await self._meant(parting)
        except StoreError as error:
            self._not_kept(parting.session, parting.user, error)
            return None
        if found is None:
            return None
        user, sessions = found
        cause = present()
        intent = Intent(
            at=self._ground.now,
            reason=str(parting.reason),
            user=user,
            sessions=sessions,
            all=parting.session is None,
            partly=bool(parting.keep),
            txn=secrets.token_urlsafe(16) if cause is None else cause.txn,
            sender="" if cause is None else cause.sender,
        )
        noted = Noted(self._name(), intent)
        try:
            await self._ground.vault.write(Write(INTENT + noted.name, written(intent), 0, NOBODY))
        except StoreError as error:
            self._not_kept(parting.session, user, error)
            return None
        return noted

    async def after(self, noted: object, ending: Ending | None) -> None:
        """Make an end due if it happened for sure; what the store did not confirm is looked at later."""
        assert isinstance(noted, Noted)
        try:
            if ending is None or not ending.ended:
                await self._settle(noted, None)
            elif ending.confirmed:
                gone = {sid for sid, _ in ending.ended}
                await self._settle(noted, tuple(sid for sid in noted.intent.sessions if sid in gone))
        except StoreError as error:
            # The intent stands, and whoever delivers next asks the store.
            _log.warning("a signal waits for the vault (%s)", error.code)

    async def changed(self, user: str, factor: str, what: str) -> None:
        """Tell of a factor that was added, changed or removed; if the vault fails, the sinks are told instead."""
        try:
            await self.tell(CREDENTIAL_CHANGE, user, credential_event(factor, what, at=self._ground.now))
        except StoreError as error:
            self._not_kept(None, user, error, CREDENTIAL_CHANGE)

    # -- what is not an end --------------------------------------------------------------------------------------------

    async def tell(self, kind: str, user: str, event: dict[str, object], session: str = "") -> int:
        """Make something due that has happened already; return for how many streams.

        Raises:
            StoreError: the vault failed.
        """
        cause = present()
        txn = secrets.token_urlsafe(16) if cause is None else cause.txn
        sender = "" if cause is None else cause.sender
        at = self._ground.now
        due = Due(kind=kind, event=msgspec.json.encode(event), user=user, session=session, at=at, txn=txn)
        writes = [
            self._put(target, self._name(), due)
            for target in await self._targets()
            if kind in target.kinds and target.receiver.name != sender
        ]
        if writes:
            await self._ground.vault.write(*writes, *self._remembered(due, sender))
            self._wake()
        return len(writes)

    async def tell_stream(self, stream: str, kind: str, event: dict[str, object]) -> None:
        """Make something due that is about a stream itself.

        Raises:
            StoreError: the vault failed.
        """
        at, txn = self._ground.now, secrets.token_urlsafe(16)
        due = Due(kind=kind, event=msgspec.json.encode(event), user="", session=stream, at=at, txn=txn)
        key = f"{OUT}{stream}:{self._name()}"
        await self._ground.vault.write(Write(key, written(due), 0, NOBODY))
        self._wake()

    # -- what was left behind ------------------------------------------------------------------------------------------

    async def waiting(self) -> list[Noted]:
        """Return the intents of which nobody knows yet what became of them, oldest first.

        Raises:
            StoreError: the vault failed.
        """
        items = await self._ground.vault.of_user(NOBODY, INTENT)
        return [Noted(item.key[len(INTENT) :], read(Intent, item.value)) for item in items]

    async def reconcile(self) -> list[Noted]:
        """Ask the store what became of intents that were left behind; return those that are still open.

        Raises:
            StoreError: the vault failed.
        """
        still: list[Noted] = []
        for noted in await self.waiting():
            if 0 <= self._ground.now - noted.intent.at < SETTLE or not await self._reconciled(noted):
                still.append(noted)
        return still

    async def _reconciled(self, noted: Noted) -> bool:
        intent = noted.intent
        try:
            found = {sid: await self._ground.engine.store.load(sid) for sid in intent.sessions}
        except StoreError:
            return False
        engine = self._ground.engine
        lives = [sid for sid, one in found.items() if isinstance(one, Record) and engine.expired(one) is None]
        over = 0 <= self._ground.now - intent.at < PATIENCE
        if lives and over:
            return False
        gone = tuple(sid for sid, one in found.items() if sid not in lives and _is_end(one, intent))
        await self._settle(noted, gone)
        return True

    # -- steps ---------------------------------------------------------------------------------------------------------

    async def _meant(self, parting: Parting) -> tuple[str, tuple[str, ...]] | None:
        """Return whose sessions are about to end, and which: those of people who are signed in, no token families."""
        engine = self._ground.engine
        if parting.session is not None:
            found = await engine.store.load(parting.session)
            if not isinstance(found, Record) or not self._is_somebody(found):
                return None
            return found.control.user or "", (parting.session,)
        assert parting.user is not None
        held = await engine.index.of_user(parting.user)
        ids = tuple(sid for sid, record in held if sid not in parting.keep and self._is_somebody(record))
        return (parting.user, ids) if ids else None

    def _is_somebody(self, record: Record) -> bool:
        """Tell whether somebody is signed in with a session; what a limit has ended is told to nobody."""
        control = record.control
        signed_in = control.user is not None and not control.pending and not is_family(control)
        return signed_in and self._ground.engine.expired(record) is None

    async def _settle(self, noted: Noted, gone: tuple[str, ...] | None) -> None:
        """Take an intent away and make due what it said of the sessions that are gone; whoever comes second does not.

        Raises:
            StoreError: the vault failed.
        """
        vault, key = self._ground.vault, INTENT + noted.name
        for _ in range(4):
            item = await vault.get(key)
            if item is None:
                return
            writes = await self._due(noted, gone) if gone else []
            if await vault.write(Write(key, None, item.version), *writes):
                if writes:
                    self._wake()
                return

    async def _due(self, noted: Noted, gone: tuple[str, ...]) -> list[Write]:
        intent = noted.intent
        told = ENDS[EndReason(intent.reason)]
        event = msgspec.json.encode(
            {
                "event_timestamp": int(intent.at),
                "initiating_entity": told.entity,
                "reason_admin": {"en": told.admin},
                "reason_user": {"en": told.user},
            }
        )
        writes: list[Write] = []
        last: Due | None = None
        for target in await self._targets():
            if SESSION_REVOKED not in target.kinds or target.receiver.name == intent.sender:
                continue
            whole = target.receiver.about == "user" or (intent.all and not intent.partly)
            for number, session in enumerate(("",) if whole else gone):
                last = Due(
                    kind=SESSION_REVOKED, event=event, user=intent.user, session=session, at=intent.at, txn=intent.txn
                )
                writes.append(self._put(target, f"{noted.name}-{number}", last))
        return writes if last is None else [*writes, *self._remembered(last, intent.sender)]

    def _remembered(self, due: Due, sender: str) -> list[Write]:
        """Remember a transaction of our own, so that it ends here when others pass it round."""
        if sender:
            return []  # it is remembered since it came
        key = txn_key(due.txn, due.kind, due.user)
        return [Write(key, b"", 0, NOBODY, self._ground.now + REMEMBERED)]

    @staticmethod
    def _put(target: Target, name: str, due: Due) -> Write:
        return Write(f"{OUT}{target.id}:{name}", written(due), 0, NOBODY)

    def _name(self) -> str:
        """Return a name that sorts by time."""
        self._last = max(self._last + 1, int(self._ground.now * 1e6))
        return f"{self._last:020d}-{secrets.token_hex(8)}"

    def _not_kept(self, session: str | None, user: str | None, error: StoreError, kind: str = SESSION_REVOKED) -> None:
        self._ground.tell(
            SignalNotKept(at=self._ground.now, session=session, user=user, kind=short(kind), why=error.code)
        )


def _is_end(found: object, intent: Intent) -> bool:
    """Tell whether what is left of a session is what this end leaves: its tombstone, or nothing any more."""
    if isinstance(found, Tombstone):
        return found.reason == intent.reason and not found.successor
    return found is None


def blocks(noted: Iterable[Noted], name: str, due: Due) -> bool:
    """Tell whether an older intent about the same sessions is open: what is due must wait for it."""
    return any(
        one.name < name
        and one.intent.user == due.user
        and (not due.session or one.intent.all or due.session in one.intent.sessions)
        for one in noted
    )


def due_of(item: Item) -> Due:
    """Return what an item says is due."""
    return read(Due, item.value)
