"""How a session stands in the new store while it is moved: parked, under an id that no token leads to. Pure functions.

A session's id is a hash of its token's seed. A parked one's id is a hash of that id, so nobody can present it. Its
control is the session's own, so that whatever ends a user's sessions finds it. Its data is one value: all the rest.

Every copy has a nonce, and the mark that a move leaves in the old store names it: no other copy of that session can
ever arrive, however late some mover makes one.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import msgspec

from ...core.record import EndReason, Record, Tombstone, Undecodable, decode_data, encode_data

KEY: Final = "sessile.parked"
_MARGIN: Final = 3600.0  # seconds that a mark of a move outlives the session as it was moved

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, str, int, int, bytes])


class Parked(NamedTuple):
    """Hold what a copy stands for: which session, as it was, and the copy's nonce."""

    session_id: str
    nonce: str
    record: Record

    def is_of(self, record: Record) -> bool:
        """Tell whether the copy holds what the record does; its times may be behind."""
        return (self.record.revision, self.record.version) == (record.revision, record.version)

    def is_ahead_of(self, record: Record) -> bool:
        """Tell whether the copy was made of a later state than the record: neither number ever goes back."""
        return self.record.revision > record.revision or self.record.version > record.version


def parked_id(session_id: str) -> str:
    """Return the id under which a session is parked."""
    return hashlib.sha256(b"sessile moving v1\0" + session_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def park(session_id: str, record: Record, nonce: str) -> Record:
    """Return a session as it is parked. Its times are the copy's own, so that a touch of the copy moves them."""
    rest = session_id, nonce, record.revision, record.version, encode_data(record.data)
    return Record(record.control, {KEY: _encoder.encode(rest)}, record.seen_at, record.expires_at)


def is_parked(record: Record) -> bool:
    """Tell whether a record is a parked session."""
    return len(record.data) == 1 and KEY in record.data


def unpark(record: Record) -> Parked:
    """Return what a copy stands for.

    Raises:
        Undecodable: it is none.
    """
    try:
        session_id, nonce, revision, version, data = _decoder.decode(record.data[KEY])
        entries = decode_data(data)
    except (KeyError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Undecodable("parked") from error
    session = Record(record.control, entries, record.seen_at, record.expires_at, revision, version)
    return Parked(session_id, nonce, session)


def parked_in(found: object) -> Parked | None:
    """Return what a copy stands for, None for whatever is no copy."""
    try:
        return unpark(found) if isinstance(found, Record) else None
    except Undecodable:
        return None


def moved(record: Record, at: float, nonce: str) -> Tombstone:
    """Return what stays in the old store of a session that moved, for as long as its copy can be waiting to arrive."""
    return Tombstone(EndReason.MOVED, at, max(record.expires_at, at) + _MARGIN, record.control.user, nonce)


def has_moved(found: object) -> bool:
    """Tell whether the old store says that a session lives in the new one."""
    return isinstance(found, Tombstone) and found.reason is EndReason.MOVED


def names(mark: object, parked: Parked) -> bool:
    """Tell whether what the old store says of a session lets this copy of it arrive."""
    return isinstance(mark, Tombstone) and has_moved(mark) and mark.successor == parked.nonce
