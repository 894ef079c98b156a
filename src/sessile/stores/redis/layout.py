"""What lies where in Redis: the names of keys, and the bytes of a value. Pure functions.

Every key carries a hash tag of one of 256 buckets, so that one server and a cluster hold the same names:

    sessile:{3f}s…   a session or its tombstone: a string; the bucket is the id's first two digits, the rest follows
    sessile:{3f}e    the bucket's epoch: a string
    sessile:{3f}w    written when replicas are waited for, and gone after a second
    sessile:{a1}u…   a user's sessions: a sorted set of ids by deadline; named by a hash, never by the user's name

A value begins with a header that scripts compare and change in place:

    offset  0  format (1)           18  revision, version (4 + 4, big-endian)
            1  kind (R or T)        26  stamp of the epoch that it was created in (8)
            2  seen at (8)          34  owner: hash of the user, or zeros (16)
           10  expires at (8)       50  length of control (4), control, data

Times are seconds since 1970 as big-endian doubles. Data that becomes shorter by it is deflated, and begins with a zero.

A tombstone's header ends after the times; the encoded tombstone follows. An epoch's value is its stamp (8), then,
newest first, the stamps of the last ended epochs and when each ended (8 + 8).
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
import zlib
from collections.abc import Iterable
from typing import Final

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

FORMAT: Final = 1
HEAD: Final = 54
STAMP: Final = 8
NOBODY: Final = bytes(16)
BUCKETS: Final = tuple(f"{number:02x}" for number in range(256))

_RECORD: Final = struct.Struct(">BcddII8s16sI")
_TOMB: Final = struct.Struct(">Bcdd")
_TIME: Final = struct.Struct(">d")
_MARK: Final = struct.Struct(">II")
_LENGTH: Final = struct.Struct(">I")
_BEFORE_STAMP: Final = struct.Struct(">BcddII")
_ID: Final = re.compile(r"[0-9a-f]{2,128}")
_SHORT: Final = 96  # bytes: below, deflating gains nothing
_LARGEST: Final = 64 * 2**20  # bytes: no session is as large, whatever the policy allows
_IN_USE: Final = bytes((FORMAT,)) + b"R"
_NOT_YET: Final = (b"\x01P", b"\x01K")  # on a cluster: prepared, and a barrier (`spread_scripts`)
_LATEST: Final = 2**53  # seconds: what is later is no time
_COUNTED: Final = 2**32 - 1


class Names:
    """Name the keys under one prefix."""

    __slots__ = ("_prefix", "_session", "epochs", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix: Final = prefix.encode()
        self._session: Final = {bucket: f"{prefix}{{{bucket}}}s" for bucket in BUCKETS}
        self.epochs: Final = {bucket: f"{prefix}{{{bucket}}}e".encode() for bucket in BUCKETS}

    def session(self, session_id: str) -> bytes:
        """Return a session's key.

        Raises:
            KeyError: it is no id (`is_id` tells beforehand).
        """
        return (self._session[session_id[:2]] + session_id[2:]).encode()

    def pair(self, session_id: str) -> tuple[bytes, bytes]:
        """Return the keys of a session and of its bucket's epoch.

        Raises:
            ValueError: no session has such an id.
        """
        bucket = session_id[:2]
        try:
            return (self._session[bucket] + session_id[2:]).encode("ascii"), self.epochs[bucket]
        except KeyError:
            raise ValueError("no session has such an id") from None

    def epoch(self, session_id: str) -> bytes:
        """Return the key of the epoch that a session belongs to."""
        return self.epochs[session_id[:2]]

    def index(self, owner: bytes) -> bytes:
        """Return the key of a user's sessions."""
        digits = owner.hex()
        return b"%s{%s}u%s" % (self.prefix, digits[:2].encode(), digits[2:].encode())

    def pulse(self, key: bytes) -> bytes:
        """Return the key beside `key` that is written when replicas are waited for."""
        return key[: len(self.prefix) + 4] + b"w"

    def pattern(self, kind: str) -> bytes:
        """Return the SCAN pattern of all keys of a kind (`s` or `u`)."""
        return re.sub(rb"([*?\[\]\\])", rb"\\\1", self.prefix) + b"{??}" + kind.encode() + b"*"

    def id_of(self, key: bytes) -> str | None:
        """Return the id in a session's key, or None if it is no such key."""
        digits = self._digits(key)
        return digits if is_id(digits) and self.session(digits) == key else None

    def is_index(self, key: bytes) -> bool:
        """Tell whether this is the key of a user's sessions."""
        digits = self._digits(key)
        return re.fullmatch(r"[0-9a-f]{32}", digits) is not None and key == self.index(bytes.fromhex(digits))

    def owner(self, index: bytes) -> bytes:
        """Return the hash that the key of a user's sessions was made of."""
        return bytes.fromhex(self._digits(index))

    def _digits(self, key: bytes) -> str:
        start = len(self.prefix)
        return (key[start + 1 : start + 3] + key[start + 5 :]).decode("ascii", "replace")


def is_id(session_id: str) -> bool:
    """Tell whether this can be a session's id; anything else is nobody's, and costs no trip."""
    return _ID.fullmatch(session_id) is not None


def owner_of(user: str | None) -> bytes:
    """Return the hash by which a user is indexed; zeros for nobody."""
    if user is None:
        return NOBODY
    return hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=16, person=b"sessile:user").digest()


def time_bytes(seconds: float) -> bytes:
    """Return a time as eight bytes; what is no time counts as 1970."""
    return _TIME.pack(seconds if 0 < seconds < _LATEST else 0.0)


def time_of(raw: bytes) -> float:
    """Return the time that `time_bytes` wrote."""
    return float(_TIME.unpack(raw)[0])


def mark_bytes(revision: int, version: int) -> bytes:
    """Return revision and version as they stand in a header."""
    return _MARK.pack(revision & _COUNTED, version & _COUNTED)


def lifetime(seen_at: float, expires_at: float) -> int:
    """Return for how many milliseconds a value is kept, at least one.

    Relative, not a date: the application's clock decides when a session is over, and need not agree with the server's.
    """
    span = expires_at - seen_at
    return max(1, math.ceil(span * 1000)) if 0 < span < _LATEST else 1


def encode_record(codec: Codec, session_id: str, record: Record) -> tuple[bytes, bytes]:
    """Return what stands before the epoch's stamp and what stands after it; the stamp is the server's to set."""
    control = codec.encode_control(session_id, record.control)
    before = (
        b"\x01R"
        + time_bytes(record.seen_at)
        + time_bytes(record.expires_at)
        + mark_bytes(record.revision, record.version)
    )
    owner = owner_of(record.control.user)
    return before, owner + _LENGTH.pack(len(control)) + control + deflated(codec.encode_data(session_id, record.data))


def deflated(data: bytes) -> bytes:
    """Return encoded data, deflated behind a zero if that is shorter; neither a map nor what is sealed begins so."""
    if len(data) < _SHORT:
        return data
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    shorter = b"\0" + deflate.compress(data) + deflate.flush()
    return shorter if len(shorter) < len(data) else data


def inflated(data: memoryview) -> memoryview | bytes:
    """Return encoded data as it was.

    Raises:
        Undecodable: it is no deflated data, or more than any session may hold (a bomb).
    """
    if not data or data[0]:
        return data
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        whole = inflate.decompress(data[1:], _LARGEST)
    except zlib.error as error:
        raise Undecodable("data") from error
    if not inflate.eof or inflate.unused_data:
        raise Undecodable("data")
    return whole


def encode_ended(tombstone: Tombstone) -> bytes:
    """Return a tombstone's value."""
    times = time_bytes(tombstone.at) + time_bytes(tombstone.expires_at)
    return b"\x01T" + times + encode_tombstone(tombstone)


def decode(codec: Codec, session_id: str, raw: bytes | None, epoch: bytes | None) -> Loaded:
    """Turn a value and its bucket's epoch into what they stand for. No bytes make this fail (R46)."""
    if raw is None:
        return None
    try:
        if raw[:2] != _IN_USE:
            if raw[1:2] == b"T":
                return _decode_ended(raw)
            return None if raw[:2] in _NOT_YET else Unreadable("header")
        _, _, seen_at, expires_at, revision, version, stamp, _, length = _RECORD.unpack_from(raw)
        if HEAD + length > len(raw):
            return Unreadable("header")
        if not (0 <= seen_at < _LATEST and 0 <= expires_at < _LATEST):  # NaN is not between them either
            return Unreadable("header")
        view = memoryview(raw)
        control = codec.decode_control(session_id, view[HEAD : HEAD + length])
        if epoch is None or stamp != epoch[:STAMP]:
            ended_at = ended(epoch, stamp)
            user = control.user
            return Tombstone(EndReason.EVERYTHING, seen_at if ended_at is None else ended_at, expires_at, user)
        data = codec.decode_data(session_id, inflated(view[HEAD + length :]))
        return Record(control, data, seen_at, expires_at, revision, version)
    except struct.error:
        return Unreadable("header")
    except Undecodable as error:
        return Unreadable(str(error))


def ended(epoch: bytes | None, stamp: bytes) -> float | None:
    """Return when the epoch of this stamp ended; None: it has not, or it is too long ago to be known."""
    if epoch is not None:
        for start in range(STAMP, len(epoch) - 15, 16):
            if epoch[start : start + STAMP] == stamp:
                return time_of(epoch[start + STAMP : start + 16])
    return None


def user_of(codec: Codec, session_id: str, control: bytes) -> str | None:
    """Return whose session it was; None as well if its control cannot be read."""
    try:
        return codec.decode_control(session_id, control).user
    except Undecodable:
        return None


def oldest_first(sessions: Iterable[tuple[str, Record]]) -> tuple[tuple[str, Record], ...]:
    """Return sessions in the order in which they were created."""
    return tuple(sorted(sessions, key=lambda entry: (entry[1].control.created_at, entry[0])))


class Head:
    """Read the header of a value, as far as the census and the sweep need it."""

    __slots__ = ("expires_at", "kind", "owner", "raw", "stamp")

    def __init__(self, raw: bytes) -> None:
        self.raw: Final = raw
        self.kind: Final = raw[1:2] if raw[:1] == b"\x01" and len(raw) >= _TOMB.size else b""
        self.expires_at: Final = time_of(raw[10:18]) if self.kind else 0.0
        whole = len(raw) >= HEAD
        self.stamp: Final = raw[26:34] if whole else b""
        self.owner: Final = raw[34:50] if whole else NOBODY


def _decode_ended(raw: bytes) -> Loaded:
    form, _, at, expires_at = _TOMB.unpack_from(raw)
    if form != FORMAT or not (at >= 0 and expires_at >= 0):
        return Unreadable("header")
    return decode_tombstone(memoryview(raw)[_TOMB.size :])
