"""Adopt old sessions: each once, whatever happens on the way, and never again after its end.

An old cookie counts as generation -1 of the session that it becomes, so the rules of `rotation` hold for it as they
stand: until the browser shows a token of generation 0, every response to the old cookie hands one out (two tabs, a lost
response); for `grace` after that it is served; later it is a replay, and the session ends (R30).

    step    store                                                    if the process stops right after it
    1       load the mark: a tombstone says "adopted", go to 5       -
    2       read the old session                                     -
    3       create the mark                                          the next request goes on with step 4
    4       create the session, which ends the mark: one step        the next request goes on with step 5
    5       ended all at once since? then end it                     the next request does it, before step 6
    6       end the old session                                      the next request does it
    7       the session is served, the old cookie deleted            as with a lost response

The mark's id is a hash of the old session's identity. It is an ordinary tombstone, kept until the old library would
refuse the cookie by itself or, where it never does, a month beyond the bridge's deadline. The session's seed is derived
from the ring of keys and the old identity, so that whoever meets the mark finds the session without any pointer in the
store. Neither a copy of the old store nor the ring alone gives a token.

Step 5 asks the marks of `shutouts`, which are left before a user's sessions, or all, are ended: an adoption that was
under way then is seen by the one or by the other.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple, NoReturn

from ..errors import StoreError, StoreUnavailable, TooManySessions
from . import events
from .ids import SEED_BYTES, Token, session_id
from .keys import KeyRing
from .legacy import (
    BridgeReport,
    Found,
    OldSession,
    OpenBridge,
    Refusal,
    Tally,
    Why,
    mark_id,
    named,
    storable,
)
from .policy import Policy
from .ports import AtLimit, Created, Gone, Loaded, Replaces, Stale, Store, Taken
from .record import SCHEMA, Context, Control, EndReason, Line, Record, Tombstone
from .requests import Facts
from .shutouts import MONTH, Shutouts, pending_mark, put_mark

# The branch of generation -1: what stands for the old cookie itself.
OLD_BRANCH: Final = b"legacy"
_ROUNDS: Final = 32
# What stands under an old id and is no session of the old library's, so that it is not ours to remove.
_NO_SESSION: Final = frozenset[Why]({"undecodable", "forged", "oversized"})

# What makes room for a user's session where there are as many as the policy allows; see `Room`.
Room = Callable[[tuple[tuple[str, float], ...], Control, int], Awaitable[int | None]]


class Adopted(NamedTuple):
    """Hold the session that an old cookie stands for, as the store holds it, and the token that the cookie is worth."""

    token: Token
    session_id: str
    loaded: Loaded


class Outcome(NamedTuple):
    """Hold what became of the old cookies of one request.

    `forget`: Set-Cookie values that delete the ones that are spent. `blocked`: the request may begin no anonymous
    session, because its old one could not be asked for.
    """

    adopted: Adopted | None = None
    forget: tuple[str, ...] = ()
    blocked: bool = False


class Visitor(NamedTuple):
    """Hold what a new record needs to know of the client, and what events may say of it."""

    context: Context
    place: str
    source: str


class Adoption:
    """Do the I/O of adopting, in the one order it may happen in."""

    def __init__(
        self,
        bridges: Iterable[OpenBridge],
        *,
        store: Store,
        ring: KeyRing,
        policy: Policy,
        tell: Callable[[events.Event], None],
        clock: Callable[[], float],
        room: Room,
    ) -> None:
        self.bridges = tuple(bridges)
        self.room = room
        self.shutouts = Shutouts(self.bridges, store=store, clock=clock)
        self._tallies = tuple(Tally() for _ in self.bridges)
        self._store = store
        self._policy = policy
        self._tell = tell
        self._keys = tuple(ring.derive(b"legacy adoption").values())

    def reports(self) -> tuple[BridgeReport, ...]:
        """Return what each bridge did in this process."""
        return tuple(
            BridgeReport(bridge.name, bridge.until, tally.adopted, dict(tally.refused))
            for bridge, tally in zip(self.bridges, self._tallies, strict=True)
        )

    async def close(self) -> None:
        """Release what the bridges hold open."""
        for bridge in self.bridges:
            await bridge.close()

    # -- a request without a session of ours ---------------------------------------------------------------------------

    async def open(self, facts: Facts, visitor: Callable[[], tuple[Context, str, str]], now: float) -> Outcome:
        """Find the session that the request's old cookies stand for, and adopt it if it was not yet.

        Raises:
            StoreError: our store failed, or the old one, and its bridge fails closed.
        """
        forget: tuple[str, ...] = ()
        for bridge, tally in zip(self.bridges, self._tallies, strict=True):
            old = bridge.recognise(facts, now) if now < bridge.until else None
            if old is None:
                continue
            case = _Case(self, bridge, tally, Visitor(*visitor()), facts, now)
            if isinstance(old, Refusal):
                case.refuse(old.why)
                continue
            try:
                adopted = await case.adopt(old)
            except _Refused as refused:
                case.refuse(refused.why)
                if refused.why == "outage":
                    return Outcome(None, forget, blocked=True)
                if refused.spent:
                    forget = (*forget, bridge.cookie.delete())
                continue
            return Outcome(adopted, (*forget, bridge.cookie.delete()))
        return Outcome(None, forget)

    # -- ends ----------------------------------------------------------------------------------------------------------

    async def retire(self, facts: Facts, now: float, done: tuple[str, ...]) -> tuple[str, ...]:
        """End what the browser still holds of the old libraries; return the Set-Cookie values that delete it.

        `done` holds those of cookies that were dealt with.

        A sign-in or a sign-out leaves no older session behind that could come up when the present one is over. Of an id
        that stands for no session nothing is remembered: whoever invents them would fill the store for months. Nor is
        what is no session removed: whoever names it would.

        Raises:
            StoreError: a store failed.
        """
        forget: tuple[str, ...] = ()
        for bridge in self.bridges:
            delete = bridge.cookie.delete()
            old = bridge.recognise(facts, now) if now < bridge.until and delete not in done else None
            if old is None or isinstance(old, Refusal):
                continue
            forget = (*forget, delete)
            try:
                found = await bridge.find(old, now)
            except StoreError:
                if bridge.on_outage == "refuse":
                    raise
                found = Refusal("outage")
            if found is None:
                continue
            mark, until = mark_id(bridge.kind, old.identity), self.horizon(bridge, old, facts, now)
            await put_mark(self._store, mark, until, now, EndReason.LOGOUT)
            if isinstance(found, Refusal) and found.why in _NO_SESSION:
                continue
            try:
                await bridge.end(old)
            except StoreError:
                if bridge.on_outage == "refuse":
                    raise
        return forget

    # -- what a case asks ----------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """Return the store."""
        return self._store

    @property
    def policy(self) -> Policy:
        """Return the limits."""
        return self._policy

    def tell(self, event: events.Event) -> None:
        """Tell the sinks."""
        self._tell(event)

    def horizon(self, bridge: OpenBridge, old: OldSession, facts: Facts, now: float) -> float:
        """Return until when a mark is kept: every bridge that could read the cookie refuses it by then, or is gone.

        A node whose clock is behind refuses it later than the others.
        """
        last = 0.0
        for one in self.bridges:
            same = one.recognise(facts, now) if one is not bridge and one.kind == bridge.kind else old
            if isinstance(same, OldSession) and same.identity == old.identity:
                refused = one.until + MONTH if same.expires_at is None else same.expires_at + 1.0
                last = max(last, refused + self._policy.clock_skew)
        return last

    def tokens(self, bridge: OpenBridge, old: OldSession) -> tuple[Token, ...]:
        """Return the token that the old cookie is worth, under each key of the ring, newest first."""
        what = bridge.kind + b"\0" + old.identity
        return tuple(Token(hmac.digest(key, what, hashlib.sha256)[:SEED_BYTES], -1, OLD_BRANCH) for key in self._keys)


class _Refused(Exception):
    """Say that an old session is not adopted; `spent`: its cookie is of no use any more, and may be deleted."""

    def __init__(self, why: Why, *, spent: bool = False) -> None:
        super().__init__(why)
        self.why: Why = why
        self.spent = spent


class _Case:
    """Adopt the session of one old cookie."""

    __slots__ = ("_adoption", "_bridge", "_facts", "_now", "_tally", "_visitor")

    def __init__(
        self, adoption: Adoption, bridge: OpenBridge, tally: Tally, visitor: Visitor, facts: Facts, now: float
    ) -> None:
        self._adoption = adoption
        self._bridge = bridge
        self._tally = tally
        self._visitor = visitor
        self._facts = facts
        self._now = now

    def refuse(self, why: Why) -> None:
        """Count and tell a refusal."""
        self._tally.count(why)
        self._adoption.tell(
            events.LegacyRefused(at=self._now, source=self._visitor.source, bridge=self._bridge.name, why=why)
        )

    async def adopt(self, old: OldSession) -> Adopted:
        """Return the session that the cookie stands for.

        Raises:
            _Refused: there is none.
            StoreError: a store failed.
        """
        store, now, bridge = self._adoption.store, self._now, self._bridge
        mark = mark_id(bridge.kind, old.identity)
        held = await store.load(mark)
        if isinstance(held, Tombstone):
            return await self._resume(old, _adopted_at(held))
        try:
            found = await self._find(old)
        except _Refused as refused:
            # Between our looks at the mark and at the old session another request may have taken it over.
            held = await store.load(mark) if refused.why == "unknown" else None
            if not isinstance(held, Tombstone):
                raise
            return await self._resume(old, _adopted_at(held))
        data, dropped = storable(found.data, self._adoption.policy.max_bytes)
        record = self._record(found, data)
        token = self._adoption.tokens(bridge, old)[0]
        sid = session_id(token.seed)
        if held is None:
            await store.create(mark, pending_mark(now))
        if not await self._create(sid, record, mark, Tombstone(EndReason.RENEWED, now, self._horizon(old), found.user)):
            return await self._resume(old, now)
        if await self._adoption.shutouts.is_closed(found.user):
            await self._shut_out(old, sid, found.user)
        await self._adoption.shutouts.say_that_bridges_stand()
        self._tally.adopted += 1
        self._adoption.tell(
            events.SessionAdopted(
                at=now,
                session=sid,
                user=found.user,
                source=self._visitor.source,
                bridge=bridge.name,
                dropped=tuple(sorted({named(key) for key in (*dropped, *found.dropped)})),
            )
        )
        await self._end(old)
        return Adopted(token, sid, record)

    async def _resume(self, old: OldSession, at: float) -> Adopted:
        """Return the session that the old one became at that time, under whichever key of the ring that was.

        The old session is ended once more: whoever has adopted it may not have come to that. A store that takes several
        steps may show the mark before the session; a session so young that is not there is on its way, not over.
        """
        is_young = self._now - at <= self._adoption.policy.grace
        for _ in range(_ROUNDS if is_young else 1):
            for token in self._adoption.tokens(self._bridge, old):
                sid = session_id(token.seed)
                loaded = await self._adoption.store.load(sid)
                if loaded is not None:
                    if isinstance(loaded, Record):
                        await self._check(old, sid, loaded.control)
                    await self._end(old)
                    if not isinstance(loaded, Record):
                        self._tally.count("spent")  # the engine tells why
                    return Adopted(token, sid, loaded)
        if is_young:
            raise StoreUnavailable("an old session is being adopted by another request")
        raise _Refused("spent", spent=True)

    async def _check(self, old: OldSession, sid: str, control: Control) -> None:
        """Do step 5 again: whoever has adopted it may have stopped before, or is not there yet.

        What was ended at once later than that has met the session itself, and may have kept it.
        """
        at = await self._adoption.shutouts.closed_at(control.user)
        if at is not None and at <= control.created_at + self._adoption.policy.clock_skew:
            await self._shut_out(old, sid, control.user)

    async def _shut_out(self, old: OldSession, sid: str, user: str | None) -> NoReturn:
        now = self._now
        tombstone = Tombstone(EndReason.USER, now, now + self._adoption.policy.tombstone, user)
        await self._adoption.store.end(sid, tombstone)
        await self._end(old)
        raise _Refused("closed", spent=True)

    def _horizon(self, old: OldSession) -> float:
        return self._adoption.horizon(self._bridge, old, self._facts, self._now)

    async def _find(self, old: OldSession) -> Found:
        try:
            found = await self._bridge.find(old, self._now)
        except StoreError as error:
            if self._bridge.on_outage == "refuse":
                raise
            raise _Refused("outage") from error
        if found is None:
            raise _Refused("unknown")
        if isinstance(found, Refusal):
            raise _Refused(found.why)
        return found

    async def _end(self, old: OldSession) -> None:
        """End the old session. If that fails the request fails, and the next one with the old cookie tries again."""
        try:
            await self._bridge.end(old)
        except StoreError:
            if self._bridge.on_outage == "refuse":
                raise
            self.refuse("outage")

    async def _create(self, sid: str, record: Record, mark: str, tombstone: Tombstone) -> bool:
        """Create the session in place of its mark; False: another request has done it meanwhile."""
        adoption, now, user = self._adoption, self._now, record.control.user
        policy, store = adoption.policy, adoption.store
        replaces = Replaces(mark, tombstone, True, 0, 0)
        allowed = limit = policy.max_sessions if user is not None else None
        for _ in range(_ROUNDS):
            match await store.create(sid, record, replaces=replaces, limit=limit):
                case Created(evicted):
                    for one in evicted:
                        adoption.tell(events.SessionEnded(at=now, session=one, reason=EndReason.EVICTED))
                    return True
                case Taken():
                    # On a store that takes several steps, another request may have begun this one and not finished.
                    if await store.load(sid) is not None:
                        return False
                case Stale():
                    return False
                case Gone(left):
                    if left is not None:
                        return False
                    # A mark that nobody came back to in time.
                    await store.create(mark, pending_mark(now))
                case AtLimit(sessions):
                    assert allowed is not None
                    try:
                        limit = await adoption.room(sessions, record.control, allowed)
                    except TooManySessions:
                        raise _Refused("limit") from None
        raise StoreUnavailable("an old session could not be adopted")

    def _record(self, found: Found, data: dict[str, bytes]) -> Record:
        """Return the new session: our own limits from now on, and no factor, for none is known (R89).

        Nobody has seen a token of it: its line is empty, and the old cookie is what came before.
        """
        now, visitor = self._now, self._visitor
        control = Control(
            schema=SCHEMA,
            created_at=now,
            authenticated_at=now,
            rotated_at=now,
            line=Line(),
            previous=Line(head=OLD_BRANCH, first_seen=now, candidates=(OLD_BRANCH,)),
            user=found.user,
            context=visitor.context,
            place=visitor.place,
        )
        return Record(control, data, now, self._adoption.policy.deadline(control, now))


def _adopted_at(mark: Tombstone) -> float:
    """Return when an old session became one of ours; one that was retired became none, so there is none to wait for."""
    return mark.at if mark.reason is EndReason.RENEWED else 0.0
