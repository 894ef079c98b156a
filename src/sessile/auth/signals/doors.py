"""The two doors of shared signals: `AsyncSignals` for event loops, `Signals` for what blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypedDict, Unpack

from ...core.bridge import drive
from ...core.record import EndReason
from ...core.session import user_name
from ...core.sessions import AsyncSessions, Sessions
from ...errors import ConfigurationError
from ..ground import Ground
from .delivery import Delivered
from .flow import EVERY, Limits, SignalFlow, StreamState
from .management import Authorize
from .peers import Addresses, Receiver, Transmitter
from .receiver import Polled, ReceiverPolicy
from .site import MetadataSite, SignalSite
from .vocabulary import Changed, Entity


class SignalOptions(TypedDict, total=False):
    """List what both doors take beside the ground and the site's address; all times are seconds.

    `issuer` is the name under which our signals are signed (default: the site's address). `receivers` are told,
    `transmitters` are listened to; `policy` says what their signals do here. `addresses` knows the address of a user,
    `authorize` judges tokens of an authorization server (asynchronous at either door). `timeout` of a request (5),
    `give_up` after which a signal is sent no more (3 days), `leased` for which a process serves a stream (15),
    `interval` between two verifications of a stream (30), `hold` for which a poll waits (10; 0 at the blocking door).
    """

    issuer: str | None
    receivers: Iterable[Receiver]
    transmitters: Iterable[Transmitter]
    policy: ReceiverPolicy
    addresses: Addresses | None
    authorize: Authorize | None
    timeout: float
    give_up: float
    leased: float
    interval: int
    hold: float | None


def _flow(ground: Ground, url: str, options: SignalOptions, *, blocking: bool) -> SignalFlow:
    unknown = options.keys() - SignalOptions.__annotations__.keys()
    if unknown:
        raise ConfigurationError(
            f"unknown option {sorted(unknown)[0]!r}; there are {', '.join(sorted(SignalOptions.__annotations__))}"
        )
    if ground.blocking != blocking:
        raise ConfigurationError("these sessions are for the other door")
    given: dict[str, Any] = dict(options)
    limits = Limits(**{name: given.pop(name) for name in Limits._fields if name in given})
    return SignalFlow(ground, url=url, limits=limits, **given)


class AsyncSignals:
    """Tell other applications of our ends, and do what theirs tell, from an event loop.

    `url` is the public address at which `site` is mounted; see `SignalOptions` for the rest. From now on every end of
    these sessions is noted for the receivers.

    Raises:
        ConfigurationError: the settings are wrong, sessions live in cookies, or share signals already.
        ExtraMissing: httpx, joserfc or `cryptography` is not installed.
    """

    def __init__(self, ground: Ground, *, url: str, **options: Unpack[SignalOptions]) -> None:
        self.flow = _flow(ground, url, options, blocking=False)
        self.site = SignalSite(self.flow)
        self.metadata_site = MetadataSite(self.flow)

    async def deliver(self) -> Delivered:
        """Deliver what is due now, once; any number of processes may do so at once.

        Raises:
            StoreError: the vault failed; what is due stays due.
        """
        return await self.flow.delivery.round()

    async def poll(self) -> Polled:
        """Fetch once from every transmitter that is polled, and do what it told."""
        return await self.flow.poll_all()

    @asynccontextmanager
    async def running(self, *, every: float = EVERY) -> AsyncGenerator[None]:
        """Deliver and poll beside the block: at once when something becomes due in this process, else every second."""
        task = asyncio.create_task(self.flow.forever(every))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def status(self) -> tuple[StreamState, ...]:
        """Return how every stream stands."""
        return await self.flow.status()

    async def revoked(self, user: str | int, *, reason: EndReason = EndReason.ADMIN) -> int:
        """Tell the receivers to sign a user out, whether or not a session of theirs ended here; return how many."""
        return await self.flow.revoked(user_name(user), reason)

    def watch(self, sessions: AsyncSessions) -> AsyncSessions:
        """Let ends through another door of the same store be told, too, and return that door.

        With `store.within(connection)` behind that door, sessions end in a transaction of the application's own. Who
        delivers asks the store what became of it, for ten minutes: told is what was committed.
        """
        sessions.engine.witness = self.flow.outbox
        return sessions

    async def credential_changed(
        self, user: str | int, *, credential: str, change: Changed, entity: Entity = "user", why: str = ""
    ) -> int:
        """Tell the receivers that a user's credential changed; return how many streams that concerns."""
        return await self.flow.credential_changed(
            user_name(user), credential=credential, change=change, entity=entity, why=why
        )

    async def level_changed(self, user: str | int, *, level: int, before: int, session: str = "", why: str = "") -> int:
        """Tell the receivers that what a user has proved counts for less, or for more (NIST AAL)."""
        return await self.flow.level_changed(user_name(user), level=level, before=before, session=session, why=why)

    async def verify(self, transmitter: str, state: str) -> bool:
        """Ask a transmitter to prove that its stream works; the event `StreamChanged` says that it did."""
        return await self.flow.reception.verify(transmitter, state)

    async def rotate(self, algorithm: str = "ES256", *, at_once: bool = False) -> None:
        """Publish a next signing key before its time; with `at_once` it signs now."""
        await self.flow.keys.rotate(algorithm, at_once=at_once)

    async def close(self) -> None:
        """Stop telling of ends, and close the connections; ground and sessions stay open."""
        await self.flow.close()


class Signals:
    """Tell other applications of our ends, and do what theirs tell, from code that blocks.

    `url` is the public address at which `site` is mounted; see `SignalOptions` for the rest. From now on every end of
    these sessions is noted for the receivers.

    Raises:
        ConfigurationError: the settings are wrong, sessions live in cookies, or share signals already.
        ExtraMissing: httpx, joserfc or `cryptography` is not installed.
    """

    def __init__(self, ground: Ground, *, url: str, **options: Unpack[SignalOptions]) -> None:
        self.flow = _flow(ground, url, options, blocking=True)
        self.site = SignalSite(self.flow)
        self.metadata_site = MetadataSite(self.flow)

    def deliver(self) -> Delivered:
        """Deliver what is due now, once; any number of processes may do so at once.

        Raises:
            StoreError: the vault failed; what is due stays due.
        """
        return drive(self.flow.delivery.round())

    def poll(self) -> Polled:
        """Fetch once from every transmitter that is polled, and do what it told."""
        return drive(self.flow.poll_all())

    def start(self, *, every: float = EVERY) -> Callable[[], None]:
        """Deliver and poll in a thread, at once when something becomes due in this process; return what stops it.

        Start it in each process that serves, after it was forked.
        """
        return self.flow.beside(lambda: drive(self.flow.once()), every)

    @contextmanager
    def running(self, *, every: float = EVERY) -> Generator[None]:
        """Deliver and poll in a thread beside the block."""
        stop = self.start(every=every)
        try:
            yield
        finally:
            stop()

    def status(self) -> tuple[StreamState, ...]:
        """Return how every stream stands."""
        return drive(self.flow.status())

    def revoked(self, user: str | int, *, reason: EndReason = EndReason.ADMIN) -> int:
        """Tell the receivers to sign a user out, whether or not a session of theirs ended here; return how many."""
        return drive(self.flow.revoked(user_name(user), reason))

    def watch(self, sessions: Sessions) -> Sessions:
        """Let ends through another door of the same store be told, too, and return that door.

        With `store.within(connection)` behind that door, sessions end in a transaction of the application's own. Who
        delivers asks the store what became of it, for ten minutes: told is what was committed.
        """
        sessions.engine.witness = self.flow.outbox
        return sessions

    def credential_changed(
        self, user: str | int, *, credential: str, change: Changed, entity: Entity = "user", why: str = ""
    ) -> int:
        """Tell the receivers that a user's credential changed; return how many streams that concerns."""
        return drive(
            self.flow.credential_changed(user_name(user), credential=credential, change=change, entity=entity, why=why)
        )

    def level_changed(self, user: str | int, *, level: int, before: int, session: str = "", why: str = "") -> int:
        """Tell the receivers that what a user has proved counts for less, or for more (NIST AAL)."""
        return drive(self.flow.level_changed(user_name(user), level=level, before=before, session=session, why=why))

    def verify(self, transmitter: str, state: str) -> bool:
        """Ask a transmitter to prove that its stream works; the event `StreamChanged` says that it did."""
        return drive(self.flow.reception.verify(transmitter, state))

    def rotate(self, algorithm: str = "ES256", *, at_once: bool = False) -> None:
        """Publish a next signing key before its time; with `at_once` it signs now."""
        drive(self.flow.keys.rotate(algorithm, at_once=at_once))

    def close(self) -> None:
        """Stop telling of ends, and close the connections; ground and sessions stay open."""
        drive(self.flow.close())
