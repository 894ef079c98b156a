"""The rows: what each verb does to them, step by step, on a link that somebody else opened.

    a row is      tombstone   epoch      owner
    alive         NULL        current    the hash of its user's name, or NULL
    ended         set         any        NULL (control and data are erased)
    ended by      NULL        earlier    still set; reads compare the epoch, sweeps remove the row
    "everything"

The functions are correct at READ COMMITTED and above. Those that write more than one row, or read before they write,
need a transaction around them. Nothing here begins, commits or tries again.

Locks are taken in this order: the user's, then rows by their ids.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ...core.ports import AtLimit, Clash, Created, Ending, Gone, Loaded, Page, Replaces, Stale, Stats, Taken
from ...core.record import (
    Change,
    Codec,
    EndReason,
    Record,
    Tombstone,
    Undecodable,
    Unreadable,
    apply,
    clashes,
    decode_tombstone,
    encode_tombstone,
)
from .faults import Fault, fault_of
from .link import Link

_BUCKETS: Final = 256  # rows that sign-ins with a limit lock on MariaDB: as many users may sign in side by side
_LOOKED_AT: Final = 4  # a sweep looks at this many rows for each one that it may remove
KEY_BYTES: Final = 20


def key_of(session_id: str) -> bytes | None:
    """Return the key of a session id; None: it is none, and nothing is stored under it."""
    try:
        key = bytes.fromhex(session_id)
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES and key.hex() == session_id else None


def owner_of(user: str | None) -> bytes | None:
    """Return what stands for a user in the index."""
    if user is None:
        return None
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


def load(link: Link, session_id: str) -> Loaded:
    """Read one session."""
    key = key_of(session_id)
    if key is None:
        return None
    rows = link.fetch(link.queries.load, {"id": key})
    return decode(link.queries.codec, session_id, rows[0]) if rows else None


def decode(codec: Codec, session_id: str, row: Sequence[Any]) -> Loaded:
    """Turn a row into a record, or into what stands for none. Nothing in a row makes this fail (R46)."""
    control, data, seen_at, expires_at, revision, version, tombstone, epoch, present, ended_at = row
    if not (math.isfinite(seen_at) and math.isfinite(expires_at)):
        return Unreadable("row")
    try:
        if tombstone is not None:
            return decode_tombstone(tombstone)
        if control is None or data is None:
            return Unreadable("row")
        halves = codec.decode_control(session_id, control), codec.decode_data(session_id, data)
    except Undecodable as error:
        return Unreadable(str(error))
    if epoch != present:
        user = halves[0].user
        return Tombstone(EndReason.EVERYTHING, expires_at if ended_at is None else ended_at, expires_at, user)
    return Record(*halves, seen_at, expires_at, revision, version, etag=present)


def insert(link: Link, session_id: str, record: Record) -> Created | Taken:
    """Insert a session that replaces none and is not counted."""
    control = record.control
    values = {
        "id": _key(session_id),
        "seen_at": record.seen_at,
        "expires_at": record.expires_at,
        "due": record.expires_at,
        "revision": record.revision,
        "version": record.version,
        "owner": owner_of(control.user),
        "control": link.queries.codec.encode_control(session_id, control),
        "data": link.queries.codec.encode_data(session_id, record.data),
    }
    try:
        return Created() if link.change(link.queries.insert, values) else Taken()
    except Exception as error:
        # MariaDB says it so, and undoes the statement alone; PostgreSQL was asked not to.
        if fault_of(error) is Fault.TAKEN:
            return Taken()
        raise


def create(
    link: Link, session_id: str, record: Record, replaces: Replaces | None, limit: int | None
) -> Created | Taken | AtLimit | Stale | Gone:
    """Insert a session and end the one it replaces, or say why not; needs a transaction."""
    user = record.control.user
    if limit is not None and user is not None:
        lock_user(link, user)
    # An id is never given out twice, so nobody else can be inserting this one unless by an attack that fails anyway.
    if link.fetch(link.queries.taken, {"id": _key(session_id)}):
        return Taken()
    old = None
    if replaces is not None:
        old = _locked(link, replaces.session_id)
        if isinstance(old, Record):
            if (old.revision, old.version) != (replaces.revision, replaces.version):
                return Stale(old)
        elif replaces.required:
            return Gone(old if isinstance(old, Tombstone) else None)
    if limit is not None and user is not None:
        replaced = None if replaces is None else replaces.session_id
        others = tuple(
            (other_id, other.control.created_at)
            for other_id, other in _records(link, link.fetch(link.queries.of_user_now, {"owner": owner_of(user)}))
            if other.expires_at > record.seen_at and other_id != replaced
        )
        if len(others) >= limit:
            return AtLimit(others)
    answer = insert(link, session_id, record)
    if isinstance(answer, Created) and replaces is not None and isinstance(old, Record):
        _entomb(link, _key(replaces.session_id), replaces.tombstone)
    return answer


def lock_user(link: Link, user: str) -> None:
    """Hold back everybody else who counts this user's sessions, until the transaction ends."""
    digest = hashlib.sha256(b"sessile limit\0" + link.queries.tables.session.fullname.encode() + b"\0")
    digest.update(user.encode("utf-8", "surrogatepass"))
    mark = digest.digest()
    if link.queries.postgresql:
        high, low = (int.from_bytes(part, "big", signed=True) for part in (mark[:4], mark[4:8]))
        link.fetch(link.queries.lock_user, {"high": high, "low": low})
    else:
        link.change(link.queries.lock_user, {"name": f"limit {mark[0] % _BUCKETS}"})


def save_over(link: Link, session_id: str, change: Change, base: Record) -> Record | None:
    """Save in one statement if the row still is as it was read; None: it is not, and nothing was written."""
    if clashes(base.data, change) or (change.control is not None and change.revision != base.revision):
        return None
    saved = apply(base, change)
    values = _changed(link, session_id, change, base, saved)
    values |= {f"read_{name}": getattr(base, name) for name in ("revision", "version", "seen_at", "expires_at")}
    columns = frozenset(name for name in values if not name.startswith("read_"))
    sql = link.queries.save(columns, over=True)
    return saved if link.change(sql, values | {"key": _key(session_id)}) else None


def save(link: Link, session_id: str, change: Change) -> Record | Stale | Clash | Gone:
    """Merge a change into a session that is alive; needs a transaction."""
    stored = _locked(link, session_id)
    if not isinstance(stored, Record):
        return Gone(stored if isinstance(stored, Tombstone) else None)
    if change.control is not None and change.revision != stored.revision:
        return Stale(stored)
    if clashing := clashes(stored.data, change):
        return Clash(clashing, stored)
    saved = apply(stored, change)
    values = _changed(link, session_id, change, stored, saved)
    link.change(link.queries.save(frozenset(values), over=False), values | {"key": _key(session_id)})
    return saved


def touch(link: Link, session_id: str, seen_at: float, expires_at: float) -> None:
    """Move the times of a session that is alive."""
    key = key_of(session_id)
    if key is not None:
        link.change(link.queries.touch, {"key": key, "new_seen_at": seen_at, "new_expires_at": expires_at})


def end(link: Link, session_id: str, tombstone: Tombstone) -> Ending:
    """Put a tombstone in the place of a session that is alive, readable or not; needs a transaction."""
    key = key_of(session_id)
    rows = link.fetch(link.queries.lock_alive, {"id": key}) if key is not None else ()
    if key is None or not rows:
        return Ending(())
    _entomb(link, key, tombstone)
    return Ending(((session_id, _user(link.queries.codec, session_id, rows[0][0], tombstone)),))


def retire(link: Link, session_id: str, tombstone: Tombstone, revision: int, version: int) -> Ending | Stale | Gone:
    """End a session if nobody wrote to it since it was read; needs a transaction."""
    stored = _locked(link, session_id)
    if not isinstance(stored, Record):
        return Gone(stored if isinstance(stored, Tombstone) else None)
    if (stored.revision, stored.version) != (revision, version):
        return Stale(stored)
    _entomb(link, _key(session_id), tombstone)
    return Ending(((session_id, stored.control.user),))


def of_user(link: Link, user: str) -> tuple[tuple[str, Record], ...]:
    """Read a user's sessions that are alive, oldest first."""
    return _records(link, link.fetch(link.queries.of_user, {"owner": owner_of(user)}))


def end_user(link: Link, user: str, tombstone: Tombstone, keep: frozenset[str]) -> Ending:
    """End a user's sessions that are alive, readable or not, but those to keep; needs a transaction.

    A renewal may have given a session a successor while its row was waited for, which the statement that waited does
    not see. So the index is read again, until there is nothing left to end (R49).
    """
    owner = {"owner": owner_of(user)}
    kept = {key for session_id in keep if (key := key_of(session_id)) is not None}
    ended: list[tuple[str, str | None]] = []
    while True:
        rows = link.fetch(link.queries.lock_of_user, owner)
        keys = [key for row in rows if (key := bytes(row[0])) not in kept]
        if keys:
            encoded = encode_tombstone(tombstone)
            link.change_built(link.queries.entomb_all(keys, tombstone=encoded, expires_at=tombstone.expires_at))
            ended += ((key.hex(), user) for key in keys)
        if all(bytes(row[0]) in kept for row in link.fetch(link.queries.left_of_user, owner)):
            return Ending(tuple(ended))


def end_everything(link: Link, at: float) -> None:
    """Begin a new epoch."""
    link.change(link.queries.new_epoch, {"started_at": at})


def anything_due(link: Link, now: float) -> bool:
    """Tell whether a sweep would find a row, without a lock."""
    queries = link.queries
    values = {"now": now, "limit": 1}
    return bool(link.fetch(queries.anything_ended, {"limit": 1}) or link.fetch(queries.anything_due, values))


def sweep(link: Link, now: float, limit: int) -> tuple[tuple[tuple[str, EndReason | None], ...], int]:
    """Remove rows of ended epochs, then rows past their deadline; return them and how many were looked at.

    `due` is moved on for those that were used since. Rows that another node holds are skipped; needs a transaction.
    """
    queries = link.queries
    rows = link.fetch(queries.lock_ended, {"limit": limit})
    keys = [bytes(row[0]) for row in rows]
    removed = [(bytes(row[0]).hex(), EndReason.EVERYTHING if row[2] else None) for row in rows]
    looked_at = len(rows)
    if len(rows) < limit:
        rows = link.fetch(queries.lock_due, {"now": now, "limit": limit - len(rows)})
        looked_at += len(rows)
        used = [bytes(row[0]) for row in rows if row[1] > now]
        dead = [row for row in rows if not row[1] > now]
        keys += [bytes(row[0]) for row in dead]
        removed += [(bytes(row[0]).hex(), EndReason.IDLE if row[2] else None) for row in dead]
        if used:
            link.change_built(queries.postpone_all(used))
    if keys:
        link.change_built(queries.delete_all(keys))
    return tuple(removed), looked_at


def stats(link: Link, now: float) -> Stats:
    """Count rows; reads them all."""
    live, signed_in, users, tombstones = link.fetch(link.queries.stats, {"now": now})[0]
    return Stats(live, signed_in, users, tombstones)


def scan(link: Link, cursor: str | None, limit: int) -> Page:
    """Read a page in the order of the keys; those that are not alive leave gaps in it.

    So a page takes the same time whatever it meets: after the end of everything, a million dead rows in a row.
    """
    after = b"" if cursor is None else key_of(cursor)
    if after is None:
        return Page((), None)
    rows = link.fetch(link.queries.scan, {"after": after, "limit": limit})
    records = ((bytes(row[0]).hex(), decode(link.queries.codec, bytes(row[0]).hex(), row[1:])) for row in rows)
    found = tuple((session_id, loaded) for session_id, loaded in records if isinstance(loaded, Record))
    return Page(found, bytes(rows[-1][0]).hex() if len(rows) == limit else None)


def _key(session_id: str) -> bytes:
    key = key_of(session_id)
    if key is None:
        raise ValueError("a session id is 40 hexadecimal digits")
    return key


def _locked(link: Link, session_id: str) -> Loaded:
    key = key_of(session_id)
    rows = link.fetch(link.queries.lock, {"id": key}) if key is not None else ()
    return decode(link.queries.codec, session_id, rows[0]) if rows else None


def _changed(link: Link, session_id: str, change: Change, before: Record, after: Record) -> dict[str, Any]:
    values: dict[str, Any] = {"seen_at": after.seen_at, "expires_at": after.expires_at}
    if after.version != before.version:
        values["version"] = after.version
        values["data"] = link.queries.codec.encode_data(session_id, after.data)
    if change.control is not None:
        values["revision"] = after.revision
        values["control"] = link.queries.codec.encode_control(session_id, change.control)
        if change.control.user != before.control.user:
            values["owner"] = owner_of(change.control.user)
    return values


def _entomb(link: Link, key: bytes, tombstone: Tombstone) -> None:
    values = {"id": key, "new_tombstone": encode_tombstone(tombstone), "new_expires_at": tombstone.expires_at}
    link.change(link.queries.entomb, values)


def _user(codec: Codec, session_id: str, control: bytes | None, tombstone: Tombstone) -> str | None:
    try:
        return tombstone.user if control is None else codec.decode_control(session_id, control).user
    except Undecodable:
        return tombstone.user


def _records(link: Link, rows: Iterable[Sequence[Any]]) -> tuple[tuple[str, Record], ...]:
    loaded = ((bytes(row[0]).hex(), decode(link.queries.codec, bytes(row[0]).hex(), row[1:])) for row in rows)
    found = ((session_id, record) for session_id, record in loaded if isinstance(record, Record))
    return tuple(sorted(found, key=lambda entry: entry[1].control.created_at))
