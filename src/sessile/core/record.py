"""What a store holds of one session, and the changes it may be asked to make.

A record has two halves. `Control` is Sessile's own: who, since when, which tokens were seen. It is replaced as a whole,
and only over the revision that was read. `data` is the application's: a map of encoded values, changed key by key, so
that two requests that change different keys both win (R43). The times beside them move by themselves (a touch, R44).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from ..errors import SessileError
from .factors import Factor

SCHEMA: Final = 1


class EndReason(StrEnum):
    """Name why a session ended."""

    LOGOUT = "logout"  # its own user signed out with it
    RENEWED = "renewed"  # sign-in or a privilege change gave it a new token and id
    IDLE = "idle"
    ABSOLUTE = "absolute"
    REPLAY = "replay"  # a token that was left behind was used
    BINDING = "binding"  # the client's context changed and the policy says end
    USER = "user"  # the user ended it from another device
    ADMIN = "admin"
    PROVIDER = "provider"  # where its user signs in said that it is over
    SIGNAL = "signal"  # an application that shares its signals said so
    LIMIT = "limit"  # the concurrent-session limit made room
    EVERYTHING = "everything"  # all sessions of the application were ended
    EVICTED = "evicted"  # a bounded store made room
    MOVED = "moved"  # it lives on in another store; nobody was signed out


class Superseded(msgspec.Struct, frozen=True, array_like=True):
    """Hold a branch that was left behind, and since when."""

    branch: bytes
    at: float


class Line(msgspec.Struct, frozen=True, array_like=True):
    """Hold which branches of one generation were seen.

    `head` is the branch that lives on (empty: none was seen yet, the generation is unconfirmed). While the generation
    settles, `candidates` holds all branches seen; afterwards it has one entry at most.
    """

    head: bytes = b""
    first_seen: float = 0.0
    candidates: tuple[bytes, ...] = ()
    superseded: tuple[Superseded, ...] = ()


class Context(msgspec.Struct, frozen=True, array_like=True):
    """Hold what was observed of the client, minimised (R99): a keyed hash of the network prefix, and family names."""

    network: bytes = b""
    agent: str = ""
    platform: str = ""


class Control(msgspec.Struct, frozen=True, array_like=True):
    """Hold Sessile's half of a record. Times are seconds since 1970.

    `authenticated_at` is where the absolute timeout counts from: creation, or the last successful authentication (R35).
    `place` is where it began, if known. `user_key` names the data key through which the application itself signs in,
    if it does.
    """

    schema: int
    created_at: float
    authenticated_at: float
    rotated_at: float
    generation: int = 0
    line: Line = Line()
    previous: Line | None = None
    user: str | None = None
    factors: tuple[Factor, ...] = ()
    pending: bool = False
    challenged: bool = False
    user_key: str | None = None
    context: Context = Context()
    place: str = ""


class Record(msgspec.Struct, frozen=True):
    """Hold one session as a store returns it.

    `data` maps keys to encoded values. `seen_at` and `expires_at` are seconds since 1970; `expires_at` is the store's
    housekeeping deadline, the policy's own answer comes from `control`. `revision` counts changes of `control`,
    `version` changes of `data`. `etag` is the store's own mark, opaque to everyone else.
    """

    control: Control
    data: Mapping[str, msgspec.Raw | bytes]
    seen_at: float
    expires_at: float
    revision: int = 0
    version: int = 0
    etag: Any = None


class Tombstone(msgspec.Struct, frozen=True, array_like=True):
    """Hold what is left of an ended session: why and when it ended, whose it was, until when this is kept.

    `successor` is the id of the session that took a signed-in one's place, if the same user renewed it.
    """

    reason: EndReason
    at: float
    expires_at: float
    user: str | None = None
    successor: str = ""


class Unreadable(msgspec.Struct, frozen=True):
    """Stand for a record that is there and cannot be decoded: to everyone but the event sinks, no session (R46)."""

    why: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a save changes; what it does not name stays.

    `control` replaces the stored one if its revision still is `revision`. `put` and `drop` change single keys. `expect`
    makes the change conditional: key to the encoded value that must still stand there, or None for "absent".
    `seen_at` and `expires_at` only ever move forward.
    """

    seen_at: float
    expires_at: float
    control: Control | None = None
    revision: int = 0
    put: Mapping[str, bytes] = msgspec.field(default_factory=dict[str, bytes])
    drop: frozenset[str] = frozenset()
    expect: Mapping[str, bytes | None] | None = None


class Undecodable(SessileError):
    """Say that stored bytes are no record (internal to stores; the engine treats it as no session)."""

    code = "undecodable"


_encoder = msgspec.msgpack.Encoder()
_control_decoder = msgspec.msgpack.Decoder(Control)
_data_decoder = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_tombstone_decoder = msgspec.msgpack.Decoder(Tombstone)


def encode_control(control: Control) -> bytes:
    """Encode Sessile's half."""
    return _encoder.encode(control)


def decode_control(raw: bytes | memoryview) -> Control:
    """Decode Sessile's half by the one decoder there is (R46).

    Raises:
        Undecodable: the bytes are not a control of a schema that this version knows.
    """
    try:
        control = _control_decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Undecodable("control") from error
    if control.schema != SCHEMA:
        raise Undecodable("schema")
    return control


def encode_data(data: Mapping[str, msgspec.Raw | bytes]) -> bytes:
    """Encode the application's half: a MessagePack map whose values are already encoded."""
    return _encoder.encode(
        {key: value if type(value) is msgspec.Raw else msgspec.Raw(value) for key, value in data.items()}
    )


def decode_data(raw: bytes | memoryview) -> dict[str, msgspec.Raw]:
    """Decode the map and leave its values encoded.

    Raises:
        Undecodable: the bytes are not such a map.
    """
    try:
        return _data_decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Undecodable("data") from error


def encode_tombstone(tombstone: Tombstone) -> bytes:
    """Encode a tombstone."""
    return _encoder.encode(tombstone)


def decode_tombstone(raw: bytes | memoryview) -> Tombstone:
    """Decode a tombstone.

    Raises:
        Undecodable: the bytes are no tombstone.
    """
    try:
        return _tombstone_decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Undecodable("tombstone") from error


class Codec(Protocol):
    """Turn the halves of a record into what a store keeps, and back: as they are, or sealed (R48).

    Decoders raise `Undecodable` for everything that their encoder did not make for this very session.
    """

    def encode_control(self, session_id: str, control: Control) -> bytes:
        """Encode Sessile's half."""
        ...

    def decode_control(self, session_id: str, raw: bytes | memoryview) -> Control:
        """Decode Sessile's half."""
        ...

    def encode_data(self, session_id: str, data: Mapping[str, msgspec.Raw | bytes]) -> bytes:
        """Encode the application's half."""
        ...

    def decode_data(self, session_id: str, raw: bytes | memoryview) -> dict[str, msgspec.Raw]:
        """Decode the application's half; its values stay encoded."""
        ...


class Plain:
    """Be the codec that seals nothing; the session's id plays no part."""

    def encode_control(self, session_id: str, control: Control) -> bytes:
        """Encode Sessile's half."""
        return _encoder.encode(control)

    def decode_control(self, session_id: str, raw: bytes | memoryview) -> Control:
        """Decode Sessile's half."""
        return decode_control(raw)

    def encode_data(self, session_id: str, data: Mapping[str, msgspec.Raw | bytes]) -> bytes:
        """Encode the application's half."""
        return encode_data(data)

    def decode_data(self, session_id: str, raw: bytes | memoryview) -> dict[str, msgspec.Raw]:
        """Decode the application's half."""
        return decode_data(raw)


PLAIN: Final = Plain()


def same_value(left: msgspec.Raw | bytes | None, right: msgspec.Raw | bytes | None) -> bool:
    """Tell whether two encoded values are the same bytes, or both absent."""
    if left is None or right is None:
        return left is right
    return bytes(left) == bytes(right)


def clashes(data: Mapping[str, msgspec.Raw | bytes], change: Change) -> tuple[str, ...]:
    """Return the keys whose stored value is not the one that `change` expects."""
    if not change.expect:
        return ()
    return tuple(key for key, value in change.expect.items() if not same_value(data.get(key), value))


def apply(record: Record, change: Change) -> Record:
    """Return the record after `change`: the one place where a delta is merged."""
    data = record.data
    version = record.version
    if change.put or change.drop:
        data = {key: value for key, value in data.items() if key not in change.drop}
        data.update(change.put)
        version += 1
    return Record(
        control=record.control if change.control is None else change.control,
        data=data,
        seen_at=max(record.seen_at, change.seen_at),
        expires_at=max(record.expires_at, change.expires_at),
        revision=record.revision + (change.control is not None),
        version=version,
        etag=record.etag,
    )
