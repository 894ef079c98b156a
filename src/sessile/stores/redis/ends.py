"""End sessions, say how certain that is, and leave what is not certain to the keeper."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from ...core.ports import Ending, Gone, Loaded, Replaces, Stale
from ...core.record import Codec, Record, Tombstone
from ...errors import StoreError, StoreUnavailable
from . import layout, scripts
from .ending import surely
from .keeper import End, Keeper
from .layout import Names, is_id
from .spread import Spread
from .wire import MOVED, Node, Wire

OfUser = Callable[[str], Awaitable[tuple[tuple[str, Record], ...]]]

_DONE: Final = 1
_HOPS: Final = 8  # after which a cluster counts as being rebuilt


class _Done(NamedTuple):
    """Hold the replies to several ends, whether all are certain, and which server gave each."""

    replies: list[Any]
    certain: bool
    identities: list[str]


class Ends:
    """End the sessions of one store."""

    def __init__(
        self,
        wire: Wire,
        names: Names,
        codec: Codec,
        keeper: Keeper,
        spread: Spread | None,
        deadline: Callable[[], float],
    ) -> None:
        self._wire: Final = wire
        self._names: Final = names
        self._codec: Final = codec
        self._keeper: Final = keeper
        self._spread: Final = spread
        self._deadline: Final = deadline
        self._prefix: Final = names.prefix if spread is None else b""

    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        """End one session."""
        end = self._end(session_id, tombstone)
        try:
            done = await self._surely((end,), self._deadline())
        except BaseException:  # whoever stops waiting wants it done all the same
            self._keeper.keep((end,), ("",), certain=False)
            raise
        if done.replies[0][0] != _DONE:
            return Ending((), done.certain)
        return await self._ended(session_id, end, done)

    async def retire(self, session_id: str, tombstone: Tombstone, mark: bytes) -> Ending | Stale | Gone:
        """End one session if its mark is still this one."""
        done = await self._surely((self._end(session_id, tombstone, mark),), self._deadline())
        reply = done.replies[0]
        if reply[0] == _DONE:
            return await self._ended(session_id, self._end(session_id, tombstone), done)
        present = layout.decode(self._codec, session_id, *reply[1:3])
        return Stale(present) if type(present) is Record else gone(present)

    async def end_user(self, user: str, tombstone: Tombstone, keep: frozenset[str], of_user: OfUser) -> Ending:
        """End a user's sessions but those in `keep`."""
        owner = layout.owner_of(user)
        try:
            ended, certain, identities = await self._end_user(owner, tombstone, keep)
        except BaseException:
            self._keeper.keep_search(partial(self._meant, user, tombstone, keep, of_user))
            raise
        self._keeper.keep([self._end(each, tombstone) for each in ended], identities, certain=certain)
        return Ending(tuple((session_id, user) for session_id in ended), certain)

    async def end_everything(self, at: float) -> Ending:
        """Begin a new epoch in every bucket."""
        keys, stamp, now = tuple(self._names.epochs.values()), os.urandom(layout.STAMP), layout.time_bytes(at)
        groups = [keys] if self._spread is None else [(key,) for key in keys]
        ends = [(group[0], scripts.END_EVERYTHING.once(group, stamp, now)) for group in groups]
        try:
            done = await self._surely(ends, self._deadline())
        except BaseException:
            self._keeper.keep(ends, [""] * len(ends), certain=False)
            raise
        self._keeper.keep(ends, done.identities, certain=done.certain)
        return Ending((), done.certain)

    async def keep_replaced(self, old: Replaces) -> None:
        """Leave to the keeper a session that a new one has taken the place of."""
        end, identity = self._end(old.session_id, old.tombstone), ""
        with suppress(StoreError):  # the new session is there already: nothing may fail any more
            identity = (await self._wire.home(end[0], self._deadline())).assurance.identity
        self._keeper.keep((end,), (identity,), certain=identity != "")

    def _end(self, session_id: str, tombstone: Tombstone, mark: bytes = b"") -> End:
        key = self._names.session(session_id)
        keys = (key, self._names.epoch(session_id))
        arguments = *tomb(tombstone), mark, session_id, self._prefix
        return key, scripts.END.once(keys, *arguments)

    async def _ended(self, session_id: str, end: End, done: _Done) -> Ending:
        self._keeper.keep((end,), done.identities, certain=done.certain)
        _, owner, control = done.replies[0]
        if self._spread is not None and done.certain:
            await self._spread.leave(owner, (session_id,), self._deadline())
        return Ending(((session_id, layout.user_of(self._codec, session_id, control)),), done.certain)

    async def _end_user(
        self, owner: bytes, tombstone: Tombstone, keep: frozenset[str]
    ) -> tuple[list[str], bool, list[str]]:
        deadline = self._deadline()
        if self._spread is None:
            key = self._names.index(owner)
            command = scripts.END_USER.once((key,), self._prefix, owner, *tomb(tombstone), *filter(is_id, keep))
            done = await self._surely(((key, command),), deadline)
            ended = [raw.decode() for raw in done.replies[0][::2]]
            return ended, done.certain, done.identities * len(ended)
        alive, coming = await self._spread.kills(owner, tombstone, keep, deadline)
        first = await self._surely([(kill.key, kill.command) for kill in alive], deadline)
        # What is not certain stays listed: whoever ends all again must ask its server again.
        left = (*alive, *coming) if first.certain else coming
        await self._spread.leave(owner, [kill.entry for kill in left], deadline)
        coming = await self._spread.coming(coming, tombstone, deadline)
        then = await self._surely([(kill.key, kill.command) for kill in coming], deadline)
        if not then.certain:
            for kill in coming:
                await self._spread.move(owner, kill.session_id, *ends_of(tombstone), deadline)
        replies, identities = [*first.replies, *then.replies], [*first.identities, *then.identities]
        ended_by = {
            kill.session_id: identity
            for kill, reply, identity in zip((*alive, *coming), replies, identities, strict=True)
            if reply[0] == _DONE
        }
        return list(ended_by), first.certain and then.certain, list(ended_by.values())

    async def _meant(self, user: str, tombstone: Tombstone, keep: frozenset[str], of_user: OfUser) -> list[End]:
        """Return the ends that a failed `end_user` meant: sessions that came later are not among them."""
        return [
            self._end(session_id, tombstone)
            for session_id, record in await of_user(user)
            if session_id not in keep and record.control.created_at <= tombstone.at
        ]

    async def _surely(self, ends: Sequence[End], deadline: float) -> _Done:
        """Carry out ends, each on its server, wherever that is now."""
        done = _Done([None] * len(ends), True, [""] * len(ends))
        left = list(range(len(ends)))
        for _ in range(_HOPS):
            certain, failed = await self._send(ends, left, done, deadline)
            done = done._replace(certain=done.certain and certain)
            if failed is not None:
                raise failed
            left = [place for place in left if isinstance(done.replies[place], MOVED)]
            if not left:
                return done
            self._wire.doubt()
        raise StoreUnavailable("the cluster is moving keys, or misses servers")

    async def _send(
        self, ends: Sequence[End], places: list[int], done: _Done, deadline: float
    ) -> tuple[bool, StoreError | None]:
        """Send some of the ends, one pipeline a server; a server that fails keeps the others from nothing."""
        groups: dict[int, tuple[Node, list[int]]] = {}
        for place in places:
            node = await self._wire.home(ends[place][0], deadline)
            groups.setdefault(id(node), (node, []))[1].append(place)
        certain, failed = True, None
        for node, group in groups.values():
            pulse = self._names.pulse(ends[group[0]][0])
            try:
                outcome = await surely(node, pulse, [ends[place][1] for place in group], deadline)
            except StoreError as error:
                self._wire.doubt()
                failed = error
                continue
            certain = certain and outcome.certain
            for place, reply in zip(group, outcome.replies, strict=True):
                done.replies[place], done.identities[place] = reply, outcome.identity
        return certain, failed


def tomb(tombstone: Tombstone) -> tuple[bytes, int]:
    """Return a tombstone's value and for how many milliseconds it is kept."""
    return layout.encode_ended(tombstone), layout.lifetime(tombstone.at, tombstone.expires_at)


def ends_of(tombstone: Tombstone) -> tuple[float, int]:
    """Return when a tombstone ends (seconds since 1970), and for how many milliseconds it is kept."""
    return tombstone.expires_at, layout.lifetime(tombstone.at, tombstone.expires_at)


def gone(present: Loaded) -> Gone:
    """Say that a session is not alive, and why if that is known."""
    return Gone(present if type(present) is Tombstone else None)
