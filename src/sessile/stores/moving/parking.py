"""How a session stands in the new store while it is moved: parked, under an id that no token leads to. Pure functions.

A session's id is a hash of its token's seed. A parked one's id is a hash of that id, so nobody can present it. Its
control is the session's own, so that whatever ends a user's sessions finds it. Its data is one value: all the rest.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from ...core.record import EndReason, Record, Tombstone, Undecodable, decode_data, encode_data

KEY: Final = "sessile.parked"
_MARGIN: Final = 3600.0  # seconds that a mark of a move outlives the session as it was moved

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, float, float, int, int, bytes])


def parked_id(session_id: str) -> str:
    """Return the id under which a session is parked."""
    return hashlib.sha256(b"sessile moving v1\0" + session_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def park(session_id: str, record: Record) -> Record:
    """Return a session as it is parked; it keeps its deadline."""
    rest = session_id, record.seen_at, record.expires_at, record.revision, record.version, encode_data(record.data)
    return Record(record.control, {KEY: _encoder.encode(rest)}, record.seen_at, record.expires_at)


def is_parked(record: Record) -> bool:
    """Tell whether a record is a parked session."""
    return len(record.data) == 1 and KEY in record.data


def unpark(record: Record) -> tuple[str, Record]:
    """Return the id of a parked session, and the session as it was.

    Raises:
        Undecodable: it is none.
    """
    try:
        session_id, seen_at, expires_at, revision, version, data = _decoder.decode(record.data[KEY])
    except (KeyError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Undecodable("parked") from error
    return session_id, Record(record.control, decode_data(data), seen_at, expires_at, revision, version)


def moved(record: Record, at: float) -> Tombstone:
    """Return what stays in the old store of a session that moved, for as long as its copy can be waiting to arrive."""
    return Tombstone(EndReason.MOVED, at, max(record.expires_at, at) + _MARGIN, record.control.user)


def has_moved(found: object) -> bool:
    """Tell whether the old store says that a session lives in the new one."""
    return isinstance(found, Tombstone) and found.reason is EndReason.MOVED
