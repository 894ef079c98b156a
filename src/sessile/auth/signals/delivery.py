"""Delivery: what is due goes out, at least once, in order for each session, with patience (RFC 8935, RFC 8936).

    one process at a time serves a stream, by a lease in the vault; a dead one's lease runs out
    202                           delivered: the item goes
    400, 401, 403, … (refused)    this item is tried again later, and all that follow of the same sessions wait
    429, 5xx, nothing at all      the stream rests; each time twice as long, `LONGEST` at most
    `give_up` seconds old         the item goes, and `SignalGivenUp` says so

A SET is signed anew each time, by the key that signs then; its `jti` stays, so who has it already knows it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ...errors import StoreError, StoreUnavailable
from ..events import SignalDelayed, SignalGivenUp, SignalSent
from ..ground import Ground, name_of
from ..stored import Stored, read, written
from ..vault import Item, Write, settle
from . import subjects
from .http import Http
from .keys import SignalKeys
from .outbox import NOBODY, OUT, Due, Noted, Outbox, blocks, due_of
from .peers import Addresses, awaited
from .sets import signed
from .streams import Status, Stream, Streams, is_unwanted
from .vocabulary import MEDIA, PUSH, STREAM_UPDATED, VERIFICATION, short

LEASE: Final = "signals:lease:"
FIRST: Final = 1.0
LONGEST: Final = 300.0
GIVE_UP: Final = 3 * 86400.0
LEASED: Final = 15.0
ROUND: Final = 500
FORGET_EVERY: Final = 60.0
_REST: Final = (408, 425, 429)


class Lease(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold who serves a stream until when, and until when it rests after how many failures."""

    holder: str = ""
    until: float = 0.0
    failures: int = 0
    rests_until: float = 0.0


class Delivered(NamedTuple):
    """Count what one round did: how many were delivered, wait on, and were given up."""

    delivered: int = 0
    waiting: int = 0
    given_up: int = 0


class Sendable(NamedTuple):
    """Hold an item that is due, its name in its stream, and its name in its SET."""

    item: Item
    name: str
    due: Due
    jti: str


class Delivery:
    """Bring what is due to its receivers. `give_up` and `leased` are seconds."""

    def __init__(
        self,
        ground: Ground,
        *,
        issuer: str,
        streams: Streams,
        outbox: Outbox,
        keys: SignalKeys,
        http: Http,
        addresses: Addresses | None = None,
        give_up: float = GIVE_UP,
        leased: float = LEASED,
    ) -> None:
        self._ground = ground
        self._issuer = issuer
        self._streams = streams
        self._outbox = outbox
        self._keys = keys
        self._http = http
        self._addresses = addresses
        self._give_up = give_up
        self._leased = leased
        self._next_forgetting = 0.0

    # -- rounds --------------------------------------------------------------------------------------------------------

    async def round(self) -> Delivered:
        """Deliver what is due now to every receiver that is pushed to.

        Raises:
            StoreError: the vault failed; what is due stays due.
        """
        await self._ground.housekeep()
        still = await self._outbox.reconcile()
        states = await self._streams.statuses()
        streams = await self._streams.all()
        pushed = [one for one in streams if one.method == PUSH and states.get(one.id, Status()).status == "enabled"]
        forgotten = await self._forget([one for one in streams if one not in pushed])
        if self._ground.blocking:
            done = [await self._serve(one, still) for one in pushed]
        else:  # who is slow keeps nobody else waiting
            served = await asyncio.gather(*(self._serve(one, still) for one in pushed), return_exceptions=True)
            done = [one for one in served if isinstance(one, Delivered)]
            for failed in served:
                if isinstance(failed, BaseException):
                    raise failed
        return Delivered(
            sum(one.delivered for one in done),
            sum(one.waiting for one in done),
            sum(one.given_up for one in done) + forgotten,
        )

    async def _forget(self, streams: list[Stream]) -> int:
        """Give up what is too old for receivers that do not come: those that poll, and those that paused."""
        if not 0 <= self._next_forgetting - self._ground.now <= FORGET_EVERY:
            self._next_forgetting = self._ground.now + FORGET_EVERY
            return sum(
                [
                    await self._is_over(stream, _sendable(stream, item))
                    for stream in streams
                    for item in await self._ground.vault.of_user(NOBODY, f"{OUT}{stream.id}:")
                ]
            )
        return 0

    async def _serve(self, stream: Stream, still: list[Noted]) -> Delivered:
        items = await self._ground.vault.of_user(NOBODY, f"{OUT}{stream.id}:")
        if not items:
            return Delivered()
        holder = secrets.token_hex(8)
        if not await self._take(stream, holder):
            return Delivered(waiting=len(items))
        delivered = given_up = 0
        failed: str | None = None
        try:
            # Read again: whoever held the lease before may have delivered some.
            items = await self._ground.vault.of_user(NOBODY, f"{OUT}{stream.id}:")
            unwanted = await self._streams.unwanted(stream.id)
            asleep: list[Due] = []
            for one in [_sendable(stream, item) for item in items[:ROUND]]:
                if await self._is_over(stream, one):
                    given_up += 1
                    continue
                if _waits(one, asleep, still, self._ground.now):
                    asleep.append(one.due)
                    continue
                if not await self._hold(stream, holder):
                    break
                sent = await self._send(stream, one, unwanted)
                if sent is True:
                    delivered += 1
                elif sent is False:
                    asleep.append(one.due)
                else:
                    failed = sent
                    break
        finally:
            await self._leave(stream, holder, failed=failed)
        return Delivered(delivered, max(0, len(items) - delivered - given_up), given_up)

    async def _send(self, stream: Stream, one: Sendable, unwanted: tuple[dict[str, Any], ...]) -> bool | str:
        """Deliver one item: True if it is done with, False if it was refused, why the stream must rest otherwise."""
        text = await self._set(stream, one, unwanted)
        if text is None:
            await self._done(one)
            return True
        headers = {"content-type": MEDIA}
        if stream.authorization is not None:
            headers["authorization"] = stream.authorization
        try:
            answer = await self._http.send("POST", stream.endpoint, headers, text.encode())
        except StoreUnavailable as error:
            return str(error)
        if 200 <= answer.status < 300:
            await self._done(one)
            self._ground.tell(
                SignalSent(
                    at=self._ground.now,
                    user=one.due.user or None,
                    receiver=stream.receiver.name,
                    kind=short(one.due.kind),
                )
            )
            return True
        if answer.status in _REST or answer.status >= 500:
            return f"it answered {answer.status}"
        said = answer.json() or {}
        await self.refused(stream, one, f"{answer.status} {_word(said.get('err'))}".strip())
        return False

    async def refused(self, stream: Stream, one: Sendable, why: str) -> None:
        """Try an item again later, because its receiver refused it."""
        due = one.due
        tries = due.tries + 1
        later = msgspec.structs.replace(due, tries=tries, next_at=self._ground.now + pause(tries))
        await self._ground.vault.write(Write(one.item.key, written(later), one.item.version, NOBODY))
        self._tell_delayed(stream, why, tries)

    async def _is_over(self, stream: Stream, one: Sendable) -> bool:
        if self._ground.now - one.due.at < self._give_up:
            return False
        await self._done(one)
        self._ground.tell(
            SignalGivenUp(
                at=self._ground.now,
                user=one.due.user or None,
                receiver=stream.receiver.name,
                kind=short(one.due.kind),
                tries=one.due.tries,
            )
        )
        return True

    async def _done(self, one: Sendable) -> None:
        await self._ground.vault.write(Write(one.item.key, None, one.item.version))

    async def waiting(self, stream: Stream) -> list[Due]:
        """Return what waits for a stream, oldest first.

        Raises:
            StoreError: the vault failed.
        """
        items = await self._ground.vault.of_user(NOBODY, f"{OUT}{stream.id}:")
        return [due_of(item) for item in items]

    # -- polled --------------------------------------------------------------------------------------------------------

    async def ready(self, stream: Stream, most: int) -> tuple[dict[str, str], bool]:
        """Return what a receiver that polls gets now, and whether there is more.

        Of each session the oldest alone, because nothing orders what one answer holds.
        """
        still = await self._outbox.reconcile()
        items = await self._ground.vault.of_user(NOBODY, f"{OUT}{stream.id}:")
        unwanted = await self._streams.unwanted(stream.id)
        found: dict[str, str] = {}
        asleep: list[Due] = []
        for one in [_sendable(stream, item) for item in items[:ROUND]]:
            if await self._is_over(stream, one):
                continue
            if _waits(one, asleep, still, self._ground.now):
                asleep.append(one.due)
                continue
            if len(found) >= most:
                return found, True
            text = await self._set(stream, one, unwanted)
            if text is None:
                await self._done(one)
                continue
            found[one.jti] = text
            asleep.append(one.due)
        return found, bool(found) and len(items) > len(found)

    async def acknowledge(self, stream: Stream, taken: frozenset[str], errors: Mapping[str, str]) -> None:
        """Take away what a receiver has acknowledged, and try again later what it could not use."""
        items = await self._ground.vault.of_user(NOBODY, f"{OUT}{stream.id}:") if taken or errors else ()
        for one in [_sendable(stream, item) for item in items]:
            if one.jti in taken:
                await self._done(one)
                self._ground.tell(
                    SignalSent(
                        at=self._ground.now,
                        user=one.due.user or None,
                        receiver=stream.receiver.name,
                        kind=short(one.due.kind),
                    )
                )
            elif one.jti in errors:
                await self.refused(stream, one, errors[one.jti])

    # -- writing -------------------------------------------------------------------------------------------------------

    async def _set(self, stream: Stream, one: Sendable, unwanted: tuple[dict[str, Any], ...]) -> str | None:
        """Return the SET of an item, None if its receiver is not to be told."""
        due = one.due
        if due.kind in (VERIFICATION, STREAM_UPDATED):
            sub_id: dict[str, Any] | None = subjects.opaque(due.session)
        else:
            sub_id = await self._subject(stream, due)
            if sub_id is None or is_unwanted(sub_id, unwanted):
                return None
        claims = {
            "iss": self._issuer,
            "jti": one.jti,
            "iat": int(self._ground.now),
            "aud": stream.receiver.audience,
            "txn": due.txn,
            "sub_id": sub_id,
            "events": {due.kind: msgspec.json.decode(due.event)},
        }
        algorithm = stream.receiver.algorithm
        key = await self._keys.signer(algorithm)
        return signed(claims, key, algorithm)

    async def _subject(self, stream: Stream, due: Due) -> dict[str, Any] | None:
        user = subjects.iss_sub(self._issuer, due.user)
        if stream.receiver.naming == "email":
            address = None if self._addresses is None else await awaited(self._addresses(due.user))
            if address is None:
                return None
            user = subjects.email(address)
        if due.session and stream.receiver.about == "session":
            return subjects.complex_of(user=user, session=subjects.opaque(due.session))
        return user

    # -- leases --------------------------------------------------------------------------------------------------------

    async def _take(self, stream: Stream, holder: str) -> bool:
        """Become the one who serves a stream, unless somebody does, or it rests."""
        now = self._ground.now

        def decide(item: Item | None) -> tuple[bool, Write | None]:
            lease = Lease() if item is None else read(Lease, item.value)
            if now < lease.until or now < lease.rests_until:
                return False, None
            taken = msgspec.structs.replace(lease, holder=holder, until=now + self._leased)
            return True, Write(LEASE + stream.id, written(taken), 0, NOBODY)

        taken, _ = await settle(self._ground.vault, LEASE + stream.id, decide, now=now)
        return taken

    async def _hold(self, stream: Stream, holder: str) -> bool:
        """Tell whether the lease is still ours, and lengthen it if it is half over."""
        now = self._ground.now

        def decide(item: Item | None) -> tuple[bool, Write | None]:
            lease = Lease() if item is None else read(Lease, item.value)
            if lease.holder != holder:
                return False, None
            if lease.until - now > self._leased / 2:
                return True, None
            longer = msgspec.structs.replace(lease, until=now + self._leased)
            return True, Write(LEASE + stream.id, written(longer), 0, NOBODY)

        ours, _ = await settle(self._ground.vault, LEASE + stream.id, decide, now=now)
        return ours

    async def _leave(self, stream: Stream, holder: str, *, failed: str | None) -> None:
        now = self._ground.now

        def decide(item: Item | None) -> tuple[int, Write | None]:
            lease = Lease() if item is None else read(Lease, item.value)
            if lease.holder != holder:
                return 0, None
            failures = 0 if failed is None else lease.failures + 1
            left = Lease(failures=failures, rests_until=now + pause(failures) if failures else 0.0)
            return failures, Write(LEASE + stream.id, written(left), 0, NOBODY)

        try:
            failures, _ = await settle(self._ground.vault, LEASE + stream.id, decide, now=now)
        except StoreError:
            return  # it runs out by itself
        if failed is not None and failures:
            self._tell_delayed(stream, failed, failures)

    def _tell_delayed(self, stream: Stream, why: str, tries: int) -> None:
        self._ground.tell(SignalDelayed(at=self._ground.now, receiver=stream.receiver.name, why=why, tries=tries))


def pause(tries: int) -> float:
    """Return how long to wait after so many failures in a row, in seconds."""
    return min(FIRST * 2.0 ** min(max(tries - 1, 0), 30), LONGEST)


def _sendable(stream: Stream, item: Item) -> Sendable:
    name = item.key[len(OUT) + len(stream.id) + 1 :]
    return Sendable(item, name, due_of(item), name_of(f"{stream.id}\n{name}"))


def _waits(one: Sendable, asleep: list[Due], still: list[Noted], now: float) -> bool:
    """Tell whether an item is not to be sent now: it was refused lately, or something older comes first."""
    due = one.due
    return now < due.next_at or any(_same(due, other) for other in asleep) or blocks(still, one.name, due)


def _same(due: Due, other: Due) -> bool:
    return due.user == other.user and (due.session == other.session or not due.session or not other.session)


def _word(value: object) -> str:
    return value[:64] if isinstance(value, str) and value.isprintable() else ""
