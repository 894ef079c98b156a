"""What stands in memcached under a key, byte by byte.

    r  a session that is alive      53 bytes of header, control, data
    p  one that is being made       the session it replaces, then what will stand here; to readers it is no session
    t  a tombstone                  the id that took its place (or none), then the tombstone
    u  the sessions of one user     MessagePack (`index`)
    e  the epoch of a node          8 random bytes, and when each of the last ones ended

Times stand in the header, so that a touch need not encode anything anew. Lifetimes are given to memcached as seconds
from now, from the record's own span: app servers' clocks play no part, and the record carries its real deadline anyway.
"""

from __future__ import annotations

import math
import secrets
import time
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

import msgspec

from ...core.ports import Loaded
from ...core.record import (
    Codec,
    EndReason,
    Record,
    Tombstone,
    Undecodable,
    Unreadable,
    decode_tombstone,
    encode_tombstone,
)
from .protocol import Item

ALIVE: Final = b"r"
MAKING: Final = b"p"
TOMBSTONE: Final = b"t"
INDEX: Final = b"u"
EPOCH: Final = b"e"

# kind, epoch, seen at, expires at, revision, version, vouched at, vouched until, length of the control
_HEADER: Final = Struct(">c8sddIIddI")
_MAKING: Final = Struct(">c?H")
_MONTH: Final = 30 * 24 * 3600  # memcached takes a longer lifetime for a moment since 1970
_MARGIN: Final = 60  # seconds that an item outlives its deadline
_LAST_MOMENT: Final = 2**31 - 1  # memcached 1.6 keeps moments in 32 bits
_ENDED_EPOCHS: Final = 64


def lifetime(span: float) -> int:
    """Return memcached's exptime for an item that is needed for `span` seconds: never 0, which is "for ever" (R39)."""
    if not span > 0:  # NaN as well
        return 1
    whole = math.ceil(min(span, _LAST_MOMENT)) + _MARGIN
    return whole if whole <= _MONTH else min(int(time.time()) + whole, _LAST_MOMENT)


def lifetime_of(tombstone: Tombstone) -> int:
    """Return how long memcached shall keep a tombstone."""
    return lifetime(tombstone.expires_at - tombstone.at)


class Header(NamedTuple):
    """Hold what is said of a session before its two halves.

    The user's index was seen to list it at `vouched_at` (0: not yet, or it has no user), and lists it until
    `vouched_until` (0: it has no user).
    """

    epoch: bytes
    seen_at: float
    expires_at: float
    revision: int
    version: int
    vouched_at: float
    vouched_until: float

    @property
    def lifetime(self) -> int:
        """Return how long memcached shall keep the item."""
        return lifetime(self.expires_at - self.seen_at)


def encode_record(session_id: str, record: Record, header: Header, codec: Codec) -> bytes:
    """Encode a session that is alive; times and counts are the header's."""
    control = codec.encode_control(session_id, record.control)
    return _HEADER.pack(ALIVE, *header, len(control)) + control + codec.encode_data(session_id, record.data)


def decode_header(value: bytes) -> tuple[Header, int]:
    """Decode the header, and say where the data begins.

    Raises:
        Undecodable: it is none.
    """
    try:
        _, *fields, length = _HEADER.unpack_from(value)
    except StructError as error:
        raise Undecodable("row") from error
    header = Header._make(fields)
    if not all(map(math.isfinite, (header.seen_at, header.expires_at, header.vouched_at, header.vouched_until))):
        raise Undecodable("row")
    return header, _HEADER.size + length


def decode_record(session_id: str, value: bytes, codec: Codec) -> tuple[Record, Header]:
    """Decode a session that is alive.

    Raises:
        Undecodable: it is none, or not this one (a sealing codec knows).
    """
    header, end = decode_header(value)
    view = memoryview(value)
    record = Record(
        codec.decode_control(session_id, view[_HEADER.size : end]),
        codec.decode_data(session_id, view[end:]),
        header.seen_at,
        header.expires_at,
        header.revision,
        header.version,
    )
    return record, header


def with_header(value: bytes, header: Header) -> bytes:
    """Return the same session under another header."""
    length = _HEADER.unpack_from(value)[-1]
    return _HEADER.pack(ALIVE, *header, length) + value[_HEADER.size :]


class Making(NamedTuple):
    """Hold a session that is being made: whom it replaces, and whether it may not live unless it does."""

    required: bool
    replaces: str
    value: bytes


def encode_making(making: Making) -> bytes:
    """Encode a session that is being made."""
    replaces = making.replaces.encode("utf-8", "surrogatepass")
    return _MAKING.pack(MAKING, making.required, len(replaces)) + replaces + making.value


def decode_making(value: bytes) -> Making:
    """Decode a session that is being made.

    Raises:
        Undecodable: it is none.
    """
    try:
        _, required, length = _MAKING.unpack_from(value)
        end = _MAKING.size + length
        return Making(required, value[_MAKING.size : end].decode("utf-8", "surrogatepass"), value[end:])
    except (StructError, ValueError) as error:
        raise Undecodable("row") from error


def encode_end(tombstone: Tombstone, successor: str = "") -> bytes:
    """Encode a tombstone and the id of the session that took the place of this one."""
    name = successor.encode("utf-8", "surrogatepass")
    return TOMBSTONE + len(name).to_bytes(2, "big") + name + encode_tombstone(tombstone)


def decode_end(value: bytes) -> tuple[Tombstone, str]:
    """Decode a tombstone and the successor's id.

    Raises:
        Undecodable: it is none.
    """
    end = 3 + int.from_bytes(value[1:3], "big")
    try:
        return decode_tombstone(value[end:]), value[3:end].decode("utf-8", "surrogatepass")
    except ValueError as error:
        raise Undecodable("tombstone") from error


class Epoch(msgspec.Struct, frozen=True, array_like=True):
    """Hold a node's epoch, and when the ones before it ended. A lost one never comes back by chance: it is random."""

    current: bytes
    ended: tuple[tuple[bytes, float], ...] = ()

    def after(self, at: float) -> Epoch:
        """Return the epoch that follows."""
        return Epoch(secrets.token_bytes(8), (*self.ended[1 - _ENDED_EPOCHS :], (self.current, at)))

    def ended_at(self, epoch: bytes) -> float | None:
        """Return when an epoch ended, if that is still known."""
        return dict(self.ended).get(epoch)


_epoch_decoder: Final = msgspec.msgpack.Decoder(Epoch)


def new_epoch() -> Epoch:
    """Begin on a node that knows none."""
    return Epoch(secrets.token_bytes(8))


def encode_epoch(epoch: Epoch) -> bytes:
    """Encode a node's epoch."""
    return EPOCH + msgspec.msgpack.encode(epoch)


def decode_epoch(value: bytes | None) -> Epoch | None:
    """Decode a node's epoch. None (absent, or not one) means that no session of this node is alive: fail closed."""
    if value is None or value[:1] != EPOCH:
        return None
    try:
        epoch = _epoch_decoder.decode(memoryview(value)[1:])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return epoch if len(epoch.current) == 8 else None


class Mark(NamedTuple):
    """Be the etag of a record that was read: with it, a save is one round trip. Somebody else's etag is no `Mark`."""

    session_id: str
    token: int
    header: Header


def judge(session_id: str, item: Item | None, epoch: Epoch | None, codec: Codec) -> Loaded:
    """Say what an item and its node's epoch amount to. Nothing in an item makes this fail (R46)."""
    if item is None:
        return None
    kind = item.value[:1]
    try:
        if kind == TOMBSTONE:
            return decode_end(item.value)[0]
        if kind == MAKING:
            return None
        if kind != ALIVE:
            return Unreadable("row")
        record, header = decode_record(session_id, item.value, codec)
    except Undecodable as error:
        return Unreadable(str(error))
    if epoch is None:
        return None
    if header.epoch != epoch.current:
        ended_at = epoch.ended_at(header.epoch)
        at = record.expires_at if ended_at is None else ended_at
        return Tombstone(EndReason.EVERYTHING, at, record.expires_at, record.control.user)
    return msgspec.structs.replace(record, etag=Mark(session_id, item.token, header))
