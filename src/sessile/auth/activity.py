"""What happened to a user's account, for that user: a sink that keeps the last events in the vault, and sends notices.

Kept are fifty entries. What happens again within a day is the same entry, counted: who fails on purpose, all day long,
fills it with a few lines and pushes nothing out. No entry holds an address; the device is in words, as its session had
it. A user is told by mail when how they sign in has changed (R63, R98).

Nothing waits for it: behind an event loop it is done in a task of its own, and if the vault fails, the sign-in stands.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from ..core.bridge import drive
from ..core.events import (
    ContextChanged,
    Event,
    FactorAdded,
    ReplayDetected,
    SessionEnded,
    SignedIn,
    UserSessionsEnded,
)
from ..core.info import describe
from ..core.record import EndReason
from ..core.session import user_name
from ..errors import SessileError, StoreError
from .events import AttemptsLimited, CloneSuspected, FactorChanged, PasskeyRefused, ProofFailed, RecoveryCodeUsed
from .ground import Ground, name_of
from .stored import Stored, read, written
from .texts import Texts
from .users import Users
from .vault import Item, Write, settle

if TYPE_CHECKING:
    from .codes.mail import Mailer

KEPT: Final = 50
SAME: Final = 86400.0
_MOST_TASKS: Final = 1000
_ENDS: Final = frozenset(
    {
        EndReason.LOGOUT,
        EndReason.USER,
        EndReason.REPLAY,
        EndReason.BINDING,
        EndReason.ADMIN,
        EndReason.PROVIDER,
        EndReason.SIGNAL,
    }
)
_FACTORS: Final = frozenset({"password", "totp", "recovery", "passkey", "security-key", "touch", "email"})


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Hold one line: what (a text's id), which factor, on which device, when (seconds since 1970), how often."""

    code: str
    about: str
    device: str
    at: float
    times: int = 1


class Kept(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold a user's entries, the newest first."""

    entries: tuple[Entry, ...]


class Note(NamedTuple):
    """Say what an event is to its user; `mailed`: they are told by mail, too."""

    code: str
    about: str = ""
    mailed: bool = False


_NOTES: Final[dict[type[Event], Note]] = {
    RecoveryCodeUsed: Note("recovery-used", mailed=True),
    CloneSuspected: Note("clone", mailed=True),
    ReplayDetected: Note("replay", mailed=True),
    ContextChanged: Note("moved"),
    UserSessionsEnded: Note("ended-all"),
}


def noted(event: Event) -> Note | None:
    """Return what an event is to the user it is about, None if it is nothing to them."""
    match event:
        case SignedIn(factor=factor, pending=pending):
            return Note("begun" if pending else "signed-in", _factor(factor))
        case FactorAdded(factor=factor) if factor != "recovery":  # which has an event of its own
            return Note("proved", _factor(factor))
        case FactorChanged(factor=factor, what=what):
            return Note(what, _factor(factor), mailed=True)
        case ProofFailed(factor=factor):
            return Note("failed", _factor(factor))
        case PasskeyRefused(why=why) if why not in ("challenge", "replay", "full", "known"):
            return Note("failed", "passkey")
        case AttemptsLimited(factor=factor):
            return Note("limited", _factor(factor))
        case SessionEnded(reason=reason) if reason in _ENDS:
            return Note(f"ended-{reason.value}")
        case _:
            return _NOTES.get(type(event))


def _factor(name: str) -> str:
    return name if name in _FACTORS else "other"


def after(entries: tuple[Entry, ...], new: Entry) -> tuple[Entry, ...]:
    """Return the entries with a new one; what happened in the last day already is counted, not repeated."""
    for place, one in enumerate(entries):
        same = (one.code, one.about, one.device) == (new.code, new.about, new.device)
        if same and new.at - one.at < SAME:
            return (replace(new, times=one.times + 1), *entries[:place], *entries[place + 1 :])
    return (new, *entries)[:KEPT]


class Activity:
    """Keep what happened to users' accounts, and tell them of what is serious (a sink)."""

    def __init__(
        self, ground: Ground, users: Users, *, mailer: Mailer | None, site: str, home: str, texts: Texts
    ) -> None:
        self.ground = ground
        self.users = users
        self._mailer = mailer
        self._site = site
        self._home = home
        self._texts = texts
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        note = noted(event)
        if note is not None and event.user is not None:
            self._do(self._keep(event.user, event, note))

    async def of(self, user: str | int) -> tuple[Entry, ...]:
        """Return a user's entries, the newest first.

        Raises:
            StoreError: the vault failed.
        """
        await self.settled()
        item = await self.ground.vault.get(_key(user_name(user)))
        return () if item is None else read(Kept, item.value).entries

    async def settled(self) -> None:
        """Wait until what happened so far is kept."""
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        if self.ground.blocking:
            drive(work)
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        # The limit: a vault that hangs must not make every event a task that waits for it.
        if loop is None or len(self._tasks) >= _MOST_TASKS:
            work.close()
            return
        task = loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, user: str, event: Event, note: Note) -> None:
        with suppress(StoreError):
            if await self.users.get(user) is None:
                return  # removed: nothing of them may come back (R99)
            new = Entry(note.code, note.about, await self._device(event), event.at)

            def added(item: Item | None) -> tuple[None, Write | None]:
                entries = () if item is None else read(Kept, item.value).entries
                return None, Write(_key(user), written(Kept(entries=after(entries, new))), 0, user)

            await settle(self.ground.vault, _key(user), added, now=event.at)
            if note.mailed:
                await self._notify(user, note)

    async def _device(self, event: Event) -> str:
        """Return the device of a session that lives."""
        if event.session is None or not isinstance(event, SignedIn | FactorAdded | FactorChanged):
            return ""
        try:
            record = await self.ground.engine.living(event.session)
        except SessileError:
            return ""
        return "" if record is None else describe(event.session, record, deadline=0.0).label

    async def _notify(self, user: str, note: Note) -> None:
        if self._mailer is None:
            return
        account = await self.users.get(user)
        if account is None or not account.email:
            return
        what = self._texts.line(note.code, note.about)
        text = self._texts("mail.changed.text", what=what, name=self._site, url=f"{self._home}/devices")
        subject = self._texts("mail.changed.subject", name=self._site)
        mail = (account.email, subject, text)
        threading.Thread(target=_send, args=(self._mailer, *mail), daemon=True).start()


def _send(mailer: Mailer, to: str, subject: str, text: str) -> None:
    with suppress(Exception):  # whatever a sender raises: nobody waits for it, and its text may hold the message
        mailer.send(to, subject, text)


def _key(user: str) -> str:
    return "activity:" + name_of(user)
