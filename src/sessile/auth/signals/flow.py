"""Shared signals as a whole: the outbox that witnesses ends, the streams, the deliveries, and what comes in."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ...core.ports import InCookies
from ...core.record import EndReason
from ...errors import ConfigurationError, StoreError
from ..ground import Ground
from .delivery import GIVE_UP, LEASED, Delivered, Delivery
from .http import TIMEOUT, check_url, open_http
from .keys import SignalKeys
from .management import MIN_INTERVAL, Authorize, Management
from .outbox import Outbox
from .peers import Addresses, Receiver, Transmitter
from .receiver import Polled, ReceiverPolicy, Reception
from .streams import Status, Streams
from .vocabulary import (
    ASSURANCE_LEVEL_CHANGE,
    CREDENTIAL_CHANGE,
    ENDS,
    SESSION_REVOKED,
    Changed,
    Entity,
    credential_event,
)

HOLD: Final = 10.0
EVERY: Final = 1.0
_log: Final = logging.getLogger("sessile.signals")


class StreamState(NamedTuple):
    """Say how a stream stands: how many signals wait, since when (seconds since 1970), after how many tries."""

    stream: str
    receiver: str
    method: str
    status: str
    waiting: int
    oldest: float | None
    tries: int


class Limits(NamedTuple):
    """Hold the times of shared signals, in seconds; `hold` None is what suits the door."""

    timeout: float = TIMEOUT
    give_up: float = GIVE_UP
    leased: float = LEASED
    interval: int = MIN_INTERVAL
    hold: float | None = None

    def check(self) -> None:
        """Refuse what would let two processes serve a stream at once, or nobody be told.

        Raises:
            ConfigurationError: it would.
        """
        if not 0 < self.timeout < self.leased / 2:
            raise ConfigurationError("a lease lasts longer than two requests: timeout is less than half of leased")
        if not self.give_up >= 60 or self.interval < 0:
            raise ConfigurationError("give_up is a minute at least")


class SignalFlow:
    """Do for both doors what shared signals do."""

    def __init__(
        self,
        ground: Ground,
        *,
        url: str,
        issuer: str | None = None,
        receivers: Iterable[Receiver] = (),
        transmitters: Iterable[Transmitter] = (),
        policy: ReceiverPolicy = ReceiverPolicy(),  # noqa: B008 - a frozen value
        addresses: Addresses | None = None,
        authorize: Authorize | None = None,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
    ) -> None:
        limits.check()
        self.ground = ground
        told, heard = tuple(receivers), tuple(transmitters)
        self.url = check_url(url, "the address of the site").rstrip("/")
        self.issuer = check_url(issuer or self.url, "the issuer")
        if urlsplit(self.issuer).query:
            raise ConfigurationError("an issuer has no query")
        _check(ground, told, heard, addresses)
        self._wakers: set[Callable[[], None]] = set()
        self.http = open_http(blocking=ground.blocking, timeout=limits.timeout)
        self.keys = SignalKeys(ground)
        self.streams = Streams(ground, told)
        self.outbox = Outbox(ground, self.streams.targets, wake=self._wake)
        self.delivery = Delivery(
            ground,
            issuer=self.issuer,
            streams=self.streams,
            outbox=self.outbox,
            keys=self.keys,
            http=self.http,
            addresses=addresses,
            give_up=limits.give_up,
            leased=limits.leased,
        )
        by_name = {one.name: one for one in heard}
        self.reception = Reception(ground, by_name, self.outbox, self.http, policy)
        self.management = Management(
            ground,
            issuer=self.issuer,
            url=self.url,
            streams=self.streams,
            outbox=self.outbox,
            delivery=self.delivery,
            keys=self.keys,
            authorize=authorize,
            interval=limits.interval,
            hold=limits.hold if limits.hold is not None else 0.0 if ground.blocking else HOLD,
        )
        ground.engine.witness = self.outbox

    @property
    def issuer_path(self) -> str:
        """Return the path of the issuer, without a slash at its end."""
        return urlsplit(self.issuer).path.rstrip("/")

    # -- telling -------------------------------------------------------------------------------------------------------

    async def credential_changed(
        self, user: str, *, credential: str, change: Changed, entity: Entity = "user", why: str = ""
    ) -> int:
        """Tell that a user's credential changed."""
        event = credential_event(credential, change, at=self.ground.now, entity=entity, why=why)
        return await self.outbox.tell(CREDENTIAL_CHANGE, user, event)

    async def level_changed(self, user: str, *, level: int, before: int, session: str, why: str) -> int:
        """Tell that what a user has proved counts for less, or for more."""
        event: dict[str, object] = {
            "namespace": "NIST-AAL",
            "current_level": f"nist-aal{level}",
            "previous_level": f"nist-aal{before}",
            "change_direction": "decrease" if level < before else "increase",
            "event_timestamp": int(self.ground.now),
            "initiating_entity": "policy",
            "reason_admin": {"en": why or "The assurance level changed."},
        }
        return await self.outbox.tell(ASSURANCE_LEVEL_CHANGE, user, event, session)

    async def revoked(self, user: str, reason: EndReason) -> int:
        """Tell that a user is to be signed out everywhere, although no session of theirs ended here."""
        told = ENDS[reason]
        event: dict[str, object] = {
            "event_timestamp": int(self.ground.now),
            "initiating_entity": told.entity,
            "reason_admin": {"en": told.admin},
            "reason_user": {"en": told.user},
        }
        return await self.outbox.tell(SESSION_REVOKED, user, event)

    # -- rounds --------------------------------------------------------------------------------------------------------

    async def status(self) -> tuple[StreamState, ...]:
        """Return how every stream stands."""
        states = await self.streams.statuses()
        found: list[StreamState] = []
        for one in await self.streams.all():
            waiting = await self.delivery.waiting(one)
            status = states.get(one.id, Status()).status
            oldest, tries = (waiting[0].at, max(due.tries for due in waiting)) if waiting else (None, 0)
            method = one.method.rpartition(":")[2]
            found.append(StreamState(one.id, one.receiver.name, method, status, len(waiting), oldest, tries))
        return tuple(found)

    async def poll_all(self) -> Polled:
        """Fetch from every transmitter that is polled; one that cannot be asked keeps no other one waiting."""
        taken = refused = 0
        for name, known in self.reception.known.items():
            if known.settings.poll is None:
                continue
            try:
                polled = await self.reception.poll(name)
            except StoreError as error:
                _log.warning("%s could not be polled (%s)", name, error)
                continue
            taken, refused = taken + polled.taken, refused + polled.refused
        return Polled(taken, refused)

    async def once(self) -> Delivered:
        """Do one round of both, whatever fails."""
        try:
            await self.poll_all()
            return await self.delivery.round()
        except StoreError as error:
            _log.warning("signals wait for the vault (%s)", error.code)
            return Delivered()

    async def forever(self, every: float = EVERY) -> None:
        """Do rounds until it is cancelled: at once when something becomes due here, else every so many seconds."""
        loop, due = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(due.set)

        self._wakers.add(wake)
        try:
            while True:
                due.clear()
                await self._guarded()
                try:
                    await asyncio.wait_for(due.wait(), every)
                except TimeoutError:
                    continue
        finally:
            self._wakers.discard(wake)

    async def _guarded(self) -> None:
        try:
            await self.once()
        except Exception:  # noqa: BLE001 - a round that failed must not be the last one
            _log.exception("a round of signals failed")

    def beside(self, once: Callable[[], Any], every: float = EVERY) -> Callable[[], None]:
        """Do rounds in a thread of its own; return what stops it."""
        due, over = threading.Event(), threading.Event()

        def run() -> None:
            while not over.is_set():
                due.clear()
                try:
                    once()
                except Exception:  # noqa: BLE001 - as above
                    _log.exception("a round of signals failed")
                due.wait(every)

        thread = threading.Thread(target=run, name="sessile-signals", daemon=True)
        self._wakers.add(due.set)
        thread.start()

        def stop() -> None:
            self._wakers.discard(due.set)
            over.set()
            due.set()
            thread.join(30)

        return stop

    async def close(self) -> None:
        """Stop witnessing, and close the connections."""
        if self.ground.engine.witness is self.outbox:
            self.ground.engine.witness = None
        await self.http.close()

    def _wake(self) -> None:
        for wake in tuple(self._wakers):
            wake()


def _check(
    ground: Ground, told: tuple[Receiver, ...], heard: tuple[Transmitter, ...], addresses: Addresses | None
) -> None:
    if isinstance(ground.engine.store, InCookies):
        raise ConfigurationError("sessions in cookies cannot be asked whether they have ended: signals need a store")
    if ground.engine.witness is not None:
        raise ConfigurationError("these sessions share signals already")
    for names in ([one.name for one in told], [one.name for one in heard]):
        if len(set(names)) != len(names):
            raise ConfigurationError("two receivers, or two transmitters, have one name")
    tokens = [one.token for one in told if one.token is not None]
    if len(set(tokens)) != len(tokens):
        raise ConfigurationError("two receivers have one token")
    if addresses is None and any(one.naming == "email" for one in told):
        raise ConfigurationError('naming="email" needs addresses, which knows the address of a user')
    if heard:
        _ = ground.engine.index  # raises: who is listened to names users
