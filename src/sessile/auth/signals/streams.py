"""Streams: the way to one receiver each, from the configuration or made by the receiver itself (SSF 1.0 §8.1).

A stream of the configuration is there as long as it stands there; its receiver may pause it and ask for verification.
One that a receiver made lies in the vault, with the secret that it gave sealed. What a stream's status is, and which
subjects its receiver does not want, lies beside it in either case.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from ..ground import Ground, opened, sealed
from ..stored import Stored, read, written
from ..vault import Item, Write, settle, version_of
from .outbox import NOBODY, OUT, Target
from .peers import Receiver
from .subjects import matches
from .vocabulary import POLL, PUSH

STREAM: Final = "signals:stream:"
STATUS: Final = "signals:status:"
REMOVED: Final = "signals:removed:"
VERIFIED: Final = "signals:verified:"
MAX_REMOVED: Final = 1000
_CLEARED: Final = 100

State = Literal["enabled", "paused", "disabled"]
STATES: Final[tuple[State, ...]] = ("enabled", "paused", "disabled")


class Kept(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold a stream that a receiver made."""

    receiver: str
    method: str
    endpoint: str
    authorization: bytes
    requested: tuple[str, ...] | None
    description: str
    made_at: float


class Status(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold what a stream's receiver wants to happen."""

    status: State = "enabled"
    reason: str = ""


class Removed(Stored, frozen=True, array_like=True, kw_only=True):
    """Hold a subject that a stream's receiver does not want to hear of, as JSON."""

    subject: bytes


class Stream(NamedTuple):
    """Hold a stream as it is now. Its repr shows no secret."""

    id: str
    receiver: Receiver
    method: str
    endpoint: str
    authorization: str | None
    requested: tuple[str, ...] | None
    description: str
    configured: bool

    @property
    def delivered(self) -> tuple[str, ...]:
        """Return the types of events that the stream carries."""
        if self.requested is None:
            return self.receiver.events
        return tuple(kind for kind in self.receiver.events if kind in self.requested)

    def __repr__(self) -> str:
        return f"<Stream {self.id} to {self.receiver.name}>"


class Streams:
    """Keep the streams to all receivers."""

    def __init__(self, ground: Ground, receivers: Iterable[Receiver]) -> None:
        self._ground = ground
        self._sealer = ground.sealer(b"signal streams")
        self.receivers = {one.name: one for one in receivers}
        self._configured = tuple(_configured(one) for one in self.receivers.values() if one.push or one.poll)
        # Only who has a token can make streams; without one, nobody looks for them.
        self._may_be_made = any(one.token is not None for one in self.receivers.values())

    async def all(self) -> tuple[Stream, ...]:
        """Return every stream.

        Raises:
            StoreError: the vault failed.
        """
        made: list[Stream] = []
        if self._may_be_made:
            for item in await self._ground.vault.of_user(NOBODY, STREAM):
                stream = self._opened(item)
                if stream is not None:
                    made.append(stream)
        return (*self._configured, *made)

    async def of(self, receiver: str) -> tuple[Stream, ...]:
        """Return a receiver's streams."""
        return tuple(one for one in await self.all() if one.receiver.name == receiver)

    async def find(self, receiver: str, stream: object) -> Stream | None:
        """Return a receiver's stream, None if it is another's, or nobody's."""
        return next((one for one in await self.of(receiver) if one.id == stream), None)

    async def targets(self) -> tuple[Target, ...]:
        """Return the streams for which signals are kept: those that are not disabled."""
        streams = await self.all()
        if not streams:
            return ()
        states = await self.statuses()
        return tuple(
            Target(one.id, one.receiver, frozenset(one.delivered))
            for one in streams
            if states.get(one.id, Status()).status != "disabled"
        )

    async def statuses(self) -> dict[str, Status]:
        """Return the status of every stream whose receiver ever changed it."""
        items = await self._ground.vault.of_user(NOBODY, STATUS)
        return {item.key[len(STATUS) :]: read(Status, item.value) for item in items}

    async def status(self, stream: str) -> Status:
        """Return a stream's status."""
        item = await self._ground.vault.get(STATUS + stream)
        return Status() if item is None else read(Status, item.value)

    async def set_status(self, stream: str, status: State, reason: str) -> Status:
        """Change a stream's status; what waits for a stream that is disabled is dropped (SSF 1.0 §8.1.2.1)."""
        wanted = Status(status=status, reason=reason)

        def decide(_: Item | None) -> tuple[Status, Write]:
            return wanted, Write(STATUS + stream, written(wanted), 0, NOBODY)

        await settle(self._ground.vault, STATUS + stream, decide, now=self._ground.now)
        if status == "disabled":
            await self._clear(f"{OUT}{stream}:")
        return wanted

    # -- made by receivers ---------------------------------------------------------------------------------------------

    async def make(
        self,
        receiver: Receiver,
        *,
        method: str,
        endpoint: str,
        authorization: str | None,
        requested: tuple[str, ...] | None,
        description: str,
    ) -> Stream | None:
        """Keep a new stream, None if the receiver has as many as allowed.

        An item beside it is written by whoever makes one, so that two requests at once do not both make the last one.
        """
        count = await self._ground.vault.get(f"signals:made:{receiver.name}")
        if sum(not one.configured for one in await self.of(receiver.name)) >= receiver.streams:
            return None
        ident = secrets.token_hex(16)
        kept = Kept(
            receiver=receiver.name,
            method=method,
            endpoint=endpoint,
            authorization=self._seal(ident, authorization),
            requested=requested,
            description=description,
            made_at=self._ground.now,
        )
        counted = Write(f"signals:made:{receiver.name}", b"", version_of(count), NOBODY)
        if not await self._ground.vault.write(Write(STREAM + ident, written(kept), 0, NOBODY), counted):
            return None
        return await self.find(receiver.name, ident)

    async def change(
        self,
        stream: Stream,
        *,
        method: str,
        endpoint: str,
        authorization: str | None,
        requested: tuple[str, ...] | None,
        description: str,
    ) -> Stream | None:
        """Write a stream anew, None if it is gone meanwhile."""

        def decide(item: Item | None) -> tuple[bool, Write | None]:
            if item is None:
                return False, None
            kept = msgspec.structs.replace(
                read(Kept, item.value),
                method=method,
                endpoint=endpoint,
                authorization=self._seal(stream.id, authorization),
                requested=requested,
                description=description,
            )
            return True, Write(item.key, written(kept), 0, NOBODY)

        done, _ = await settle(self._ground.vault, STREAM + stream.id, decide, now=self._ground.now)
        return await self.find(stream.receiver.name, stream.id) if done else None

    async def remove(self, stream: Stream) -> None:
        """Forget a stream, and what waits for it."""
        item = await self._ground.vault.get(STREAM + stream.id)
        if item is not None:
            await self._ground.vault.write(Write(item.key, None, item.version))
        for prefix in (f"{OUT}{stream.id}:", f"{REMOVED}{stream.id}:", STATUS + stream.id, VERIFIED + stream.id):
            await self._clear(prefix)

    # -- subjects ------------------------------------------------------------------------------------------------------

    async def remove_subject(self, stream: str, subject: Mapping[str, Any]) -> bool:
        """Note that a receiver does not want to hear of a subject; False: it noted too many."""
        prefix = f"{REMOVED}{stream}:"
        if len(await self._ground.vault.of_user(NOBODY, prefix)) >= MAX_REMOVED:
            return False
        raw = _canonical(subject)
        item = written(Removed(subject=raw))
        await self._ground.vault.write(Write(prefix + _hash(raw), item, 0, NOBODY))
        return True

    async def add_subject(self, stream: str, subject: Mapping[str, Any]) -> None:
        """Note that a receiver wants to hear of a subject again."""
        item = await self._ground.vault.get(f"{REMOVED}{stream}:{_hash(_canonical(subject))}")
        if item is not None:
            await self._ground.vault.write(Write(item.key, None, item.version))

    async def unwanted(self, stream: str) -> tuple[dict[str, Any], ...]:
        """Return the subjects that a receiver does not want to hear of."""
        items = await self._ground.vault.of_user(NOBODY, f"{REMOVED}{stream}:")
        return tuple(msgspec.json.decode(read(Removed, item.value).subject) for item in items)

    async def may_verify(self, stream: str, interval: float) -> bool:
        """Tell whether a verification may be asked for now, and note that it was."""

        def decide(item: Item | None) -> tuple[bool, Write | None]:
            if item is not None:
                return False, None
            return True, Write(VERIFIED + stream, b"", 0, NOBODY, self._ground.now + interval)

        may, _ = await settle(self._ground.vault, VERIFIED + stream, decide, now=self._ground.now)
        return may

    # -- small things --------------------------------------------------------------------------------------------------

    async def _clear(self, prefix: str) -> None:
        items = await self._ground.vault.of_user(NOBODY, prefix)
        for start in range(0, len(items), _CLEARED):
            batch = items[start : start + _CLEARED]
            if not await self._ground.vault.write(*(Write(item.key, None, item.version) for item in batch)):
                for item in batch:  # one of them was delivered in this moment
                    await self._ground.vault.write(Write(item.key, None, item.version))

    def _opened(self, item: Item) -> Stream | None:
        kept, ident = read(Kept, item.value), item.key[len(STREAM) :]
        receiver = self.receivers.get(kept.receiver)
        if receiver is None or receiver.token is None:
            return None  # it was taken out of the configuration
        secret = opened(self._sealer, kept.authorization, NOBODY, ident.encode()).decode()
        return Stream(
            ident, receiver, kept.method, kept.endpoint, secret or None, kept.requested, kept.description, False
        )

    def _seal(self, ident: str, authorization: str | None) -> bytes:
        return sealed(self._sealer, (authorization or "").encode(), NOBODY, ident.encode())


def _configured(receiver: Receiver) -> Stream:
    method = PUSH if receiver.push else POLL
    return Stream(
        receiver.name, receiver, method, receiver.push or "", receiver.push_authorization, None, "", configured=True
    )


def is_unwanted(subject: Mapping[str, Any], unwanted: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether a receiver removed the subject that a signal is about."""
    return any(matches(subject, one) for one in unwanted)


def _canonical(subject: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(cast("dict[str, Any]", subject), order="deterministic")


def _hash(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:40]
