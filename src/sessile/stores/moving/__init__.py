"""Two stores as one, while sessions move from the old to the new: nobody is signed out, nothing comes back.

    moving://?from=sqlite:///sessions.db&to=redis://host/0        in each URL, write "&" as %26 and "#" as %23
    &create=old        new sessions begin in the old store still: while nodes are running that know that one alone

A session lives in one of the two, and the old one is asked first: a record there is the session, a mark `moved` there
means the new store. One session moves in three steps, and each may be the last that a process does:

    1  park     a copy goes to the new store under an id that no token leads to (`parking`)
    2  retire   the old store puts the mark in the record's place, if nobody wrote to it since; else back to 1
    3  arrive   the new store puts the session in the place of the parked copy, if that is alive: one atomic step

    stopped after    the session is                             who goes on
    1                in the old store, as before                a later move; the copy is written over
    2                marked as moved, its copy is waiting       whoever asks for it next, or the next run of the mover
    3                in the new store

An end meets a session wherever it is. In the old store before step 2, it makes step 2 fail. After it, the end finds the
copy and ends that, so that step 3 finds it dead; or it finds the session itself. A copy left behind by step 1 never
arrives, because that takes the mark, and what was ended in the old store never gets one.

Until the old store is empty, a session that has moved costs one more trip to read and one more to write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, cast

from ...core.ports import (
    AtLimit,
    Census,
    Clash,
    Created,
    Ending,
    Epochs,
    Gone,
    Loaded,
    Page,
    Replaces,
    Retiring,
    Stale,
    Stats,
    Store,
    Sweeping,
    Taken,
    UserIndex,
)
from ...core.record import PLAIN, Change, Codec, EndReason, Record, Tombstone, Undecodable, same_value
from ...errors import ConfigurationError, StoreUnavailable
from ..url import StoreUrl
from .parking import has_moved, is_parked, moved, park, parked_id, unpark

_ROUNDS: Final = 64  # each means that another request wrote to the same session meanwhile
_ASIDE: Final = 300.0  # seconds that the mark of a copy which was put aside is kept


def open_url(url: StoreUrl, *, blocking: bool, codec: Codec = PLAIN) -> Moving:
    """Open `moving://?from=<URL>&to=<URL>`. The codec is the new store's; the old one is read as it was written.

    Raises:
        ConfigurationError: a URL is missing or refused, or a store cannot take part.
    """
    from .. import open_store

    if url.authority or url.path not in ("", "/"):
        raise ConfigurationError("moving:// takes neither a host nor a path: moving://?from=<URL>&to=<URL>")
    found = url.options({"from": str, "to": str, "create": _side, "from_sealed": _yes})
    if "from" not in found or "to" not in found:
        raise ConfigurationError("moving:// needs two stores: moving://?from=<URL>&to=<URL>")
    old = open_store(found["from"], blocking=blocking, codec=codec if found.get("from_sealed", False) else PLAIN)
    new = open_store(found["to"], blocking=blocking, codec=codec)
    return Moving(old, new, create_in_old=found.get("create") == "old")


class Moving:
    """Be two stores, of the same door. `create_in_old`: new sessions begin in the old one.

    Raises:
        ConfigurationError: a store lacks what a move needs.
    """

    def __init__(
        self, old: Store, new: Store, *, create_in_old: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        for store, needs in ((old, (Retiring, UserIndex, Epochs)), (new, (Retiring, UserIndex, Epochs))):
            for need in needs:
                if not isinstance(store, need):
                    raise ConfigurationError(f"{type(store).__name__} cannot take part in a move: no {need.__name__}")
        self.old: Any = old
        self.new: Any = new
        self._create_in_old = create_in_old
        self._clock = clock

    async def load(self, session_id: str) -> Loaded:
        """Return the session from the store that it lives in; let it arrive, if it was on its way."""
        found: Loaded = await self.old.load(session_id)
        if found is not None and not has_moved(found):
            return found
        here: Loaded = await self.new.load(session_id)
        if here is None and found is not None and await self._arrive(session_id):
            here = await self.new.load(session_id)
        return here

    async def create(
        self, session_id: str, record: Record, *, replaces: Replaces | None = None, limit: int | None = None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session; the one that it replaces may live in the other store.

        Then the new one is inserted first and taken back if the other cannot be ended: a crash in between leaves a
        session whose token nobody has.
        """
        target, other = (self.old, self.new) if self._create_in_old else (self.new, self.old)
        user = record.control.user
        elsewhere: tuple[tuple[str, float], ...] = ()
        if limit is not None and user is not None:
            replaced_id = None if replaces is None else replaces.session_id
            elsewhere = tuple(
                (sid, one.control.created_at)
                for sid, one in await other.of_user(user)
                if one.expires_at > record.seen_at and sid != replaced_id
            )
            limit -= len(elsewhere)
            if limit < 1:
                return AtLimit(tuple(sorted(elsewhere, key=lambda entry: entry[1])))
        if replaces is None or await self._lives_in(replaces.session_id) is target:
            answer = await target.create(session_id, record, replaces=replaces, limit=limit)
            return _at_limit(answer, elsewhere)
        answer = await target.create(session_id, record, limit=limit)
        if not isinstance(answer, Created):
            return _at_limit(answer, elsewhere)
        mark = {"revision": replaces.revision, "version": replaces.version}
        ended: Ending | Stale | Gone = await other.retire(replaces.session_id, replaces.tombstone, **mark)
        if isinstance(ended, Gone) and _may_be_elsewhere(ended):
            present = await self.load(replaces.session_id)  # it moved between the look and now
            ended = Stale(present) if isinstance(present, Record) else _gone(present)
        if isinstance(ended, Ending) or (isinstance(ended, Gone) and not replaces.required):
            return answer
        await target.end(session_id, self._aside(user))
        return ended

    async def save(self, session_id: str, change: Change, base: Record) -> Record | Stale | Clash | Gone:
        """Change the session where it lives; it may move between the look and the write, and once only."""
        answer = await self.old.save(session_id, change, base)
        if not isinstance(answer, Gone) or not _may_be_elsewhere(answer):
            return cast("Record | Stale | Clash | Gone", answer)
        here = await self.new.save(session_id, change, base)
        if _is_unknown(here) and answer.tombstone is not None and await self._arrive(session_id):
            here = await self.new.save(session_id, change, base)
        return cast("Record | Stale | Clash | Gone", here)

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        """Move the times forward where the session lives."""
        await self.old.touch(session_id, seen_at, expires_at)
        await self.new.touch(session_id, seen_at, expires_at)

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """End the session wherever it is: in the old store, on its way, or in the new one.

        In this order: what is not found in one place can only have moved on to the next.
        """
        places = ((self.old, session_id), (self.new, parked_id(session_id)), (self.new, session_id))
        ended: dict[str, str | None] = {}
        confirmed = True
        for number, (store, name) in enumerate(places):
            if number == 1 and session_id in ended:
                break  # it never got the mark, so nothing can arrive
            ending: Ending = await store.end(name, tombstone)
            if ending.ended:
                ended[session_id] = ending.ended[0][1]
            confirmed = confirmed and ending.confirmed
        return Ending(tuple(ended.items()), confirmed)

    async def of_user(self, user: str) -> tuple[tuple[str, Record], ...]:
        """Return the user's sessions of both stores, oldest first."""
        found: dict[str, Record] = dict(await self.old.of_user(user))
        for session_id, record in await self.new.of_user(user):
            if not is_parked(record):
                found.setdefault(session_id, record)
                continue
            try:
                parked, as_it_was = unpark(record)
            except Undecodable:
                continue
            if parked not in found and has_moved(await self.old.load(parked)):
                found[parked] = as_it_was
        return tuple(sorted(found.items(), key=lambda entry: entry[1].control.created_at))

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str] = frozenset()) -> Ending:
        """End the user's sessions in the old store, then in the new one, those on their way among them."""
        first: Ending = await self.old.end_user(user, tombstone, keep)
        waiting = frozenset(parked_id(session_id) for session_id in keep)
        listed = {sid: record for sid, record in await self.new.of_user(user) if is_parked(record)}
        second: Ending = await self.new.end_user(user, tombstone, keep | waiting)
        ended = dict(first.ended)
        for session_id, _ in second.ended:
            record = listed.get(session_id)
            name = session_id if record is None else _name_of(record)
            if name is not None:
                ended.setdefault(name, user)
        return Ending(tuple(ended.items()), first.confirmed and second.confirmed)

    async def end_everything(self, at: float) -> Ending:
        """Begin a new epoch in both stores."""
        first: Ending = await self.old.end_everything(at)
        second: Ending = await self.new.end_everything(at)
        return Ending((), first.confirmed and second.confirmed)

    async def sweep(self, now: float, limit: int) -> tuple[tuple[str, EndReason | None], ...]:
        """Remove what has expired from both stores."""
        removed: list[tuple[str, EndReason | None]] = []
        for store in (self.old, self.new):
            if isinstance(store, Sweeping) and len(removed) < limit:
                removed += await store.sweep(now, limit - len(removed))
        return tuple(removed)

    async def stats(self, now: float) -> Stats:
        """Count what both stores hold; a session that is on its way, or a user of both, may count twice."""
        counted = [await store.stats(now) for store in (self.old, self.new) if isinstance(store, Census)]
        return Stats(*(sum(numbers) for numbers in zip(*counted, strict=True))) if counted else Stats(0, 0, 0, 0)

    async def scan(self, cursor: str | None, limit: int) -> Page:
        """Return the sessions of the old store, then those of the new one."""
        side, _, rest = (cursor or "old:").partition(":")
        if side == "old" and isinstance(self.old, Census):
            page = await self.old.scan(rest or None, limit)
            return Page(page.sessions, "new:" if page.cursor is None else f"old:{page.cursor}")
        if side not in ("old", "new") or not isinstance(self.new, Census):
            return Page((), None)
        page = await self.new.scan(rest if side == "new" and rest else None, limit)
        sessions = tuple((sid, record) for sid, record in page.sessions if not is_parked(record))
        return Page(sessions, None if page.cursor is None else f"new:{page.cursor}")

    async def close(self) -> None:
        """Close both stores."""
        await self.old.close()
        await self.new.close()

    async def move(self, session_id: str) -> Record | Gone:
        """Move one session. Returns it as it moved, or why there was nothing to move.

        Raises:
            StoreUnavailable: other requests wrote to it faster than it could be moved.
        """
        for _ in range(_ROUNDS):
            found: Loaded = await self.old.load(session_id)
            if not isinstance(found, Record):
                if has_moved(found):
                    await self._arrive(session_id)
                return _gone(found)
            if not await self._park(session_id, found):
                return Gone()
            mark = moved(found, self._clock())
            answer = await self.old.retire(session_id, mark, revision=found.revision, version=found.version)
            if isinstance(answer, Ending):
                return found if await self._arrive(session_id) else Gone()
            if isinstance(answer, Gone):
                await self.new.end(parked_id(session_id), self._aside(found.control.user))
                return answer
        raise StoreUnavailable("a session changed faster than it could be moved")

    async def arrive(self, record: Record) -> bool:
        """Let a parked session arrive if the old store says that it moved; tell whether it did."""
        session_id = _name_of(record)
        return session_id is not None and has_moved(await self.old.load(session_id)) and await self._arrive(session_id)

    async def _park(self, session_id: str, record: Record) -> bool:
        """Put the copy there, or bring one up to date that an earlier attempt has left; tell whether it stands."""
        name, copy = parked_id(session_id), park(session_id, record)
        for _ in range(_ROUNDS):
            if isinstance(await self.new.create(name, copy), Created):
                return True
            present: Loaded = await self.new.load(name)
            if not isinstance(present, Record):
                # Put aside by an end that met it here: then the old store has no such session any more.
                return present is None
            (key, value), *_ = copy.data.items()
            if present.control == copy.control and same_value(present.data.get(key), value):
                return True
            change = Change(
                seen_at=copy.seen_at,
                expires_at=copy.expires_at,
                control=copy.control,
                revision=present.revision,
                put={key: bytes(value)},
            )
            if isinstance(await self.new.save(name, change, present), Record):
                return True
        return False

    async def _arrive(self, session_id: str) -> bool:
        """Put the session in its copy's place, if that is alive; tell whether the session stands there."""
        name = parked_id(session_id)
        for _ in range(_ROUNDS):
            present: Loaded = await self.new.load(name)
            if not isinstance(present, Record):
                return isinstance(await self.new.load(session_id), Record)
            try:
                _, record = unpark(present)
            except Undecodable:
                return False
            tombstone = self._aside(record.control.user)
            replaces = Replaces(name, tombstone, True, present.revision, present.version)
            answer = await self.new.create(session_id, record, replaces=replaces)
            if isinstance(answer, Taken):
                await self.new.end(name, tombstone)
                return isinstance(await self.new.load(session_id), Record)
            if isinstance(answer, Created):
                return True
            if isinstance(answer, Gone):
                return isinstance(await self.new.load(session_id), Record)
        return False

    async def _lives_in(self, session_id: str) -> Any:
        return self.old if isinstance(await self.old.load(session_id), Record) else self.new

    def _aside(self, user: str | None) -> Tombstone:
        now = self._clock()
        return Tombstone(EndReason.MOVED, now, now + _ASIDE, user)


def _name_of(record: Record) -> str | None:
    try:
        return unpark(record)[0]
    except Undecodable:
        return None


def _gone(found: Loaded) -> Gone:
    return Gone(found if isinstance(found, Tombstone) else None)


def _may_be_elsewhere(gone: Gone) -> bool:
    return gone.tombstone is None or has_moved(gone.tombstone)


def _is_unknown(answer: object) -> bool:
    return isinstance(answer, Gone) and answer.tombstone is None


def _at_limit(
    answer: Created | Taken | AtLimit | Stale | Gone, elsewhere: tuple[tuple[str, float], ...]
) -> Created | Taken | AtLimit | Stale | Gone:
    if not isinstance(answer, AtLimit):
        return answer
    return AtLimit(tuple(sorted((*answer.sessions, *elsewhere), key=lambda entry: entry[1])))


def _side(value: str) -> str:
    if value not in ("old", "new"):
        raise ValueError("must be old or new")
    return value


def _yes(value: str) -> bool:
    if value not in ("yes", "no"):
        raise ValueError("must be yes or no")
    return value == "yes"
