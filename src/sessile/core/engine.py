"""The engine: the I/O of a request, in the one order it may happen in, for every door, store and adapter.

    load     cookie ─► tag (no I/O) ─► store.load ─► limits ─► siblings ─► context ─► Session
    commit   sign-out │ renewal (sign-in, step-up, rotate) │ first write │ delta, rotation, touch ─► Answer

A request without a cookie that stores nothing costs no store call. One that only reads costs one, one that writes two.
What was decided on a record that another request changed meanwhile is decided again on the record as it is now.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from ..errors import (
    ConfigurationError,
    ConflictError,
    SessionGone,
    StoreError,
    StoreUnavailable,
    Unsupported,
)
from . import answers, binding, cookies, events, rotation
from .answers import Answer
from .bearers import Bearer, Grant, is_by_token
from .cookies import CookieRules
from .factors import aal
from .families import FAMILY
from .granted import judged, parent_of, session_of
from .ids import Token, TokenMint, is_session_id, new_branch, new_seed, session_id
from .keys import KeyRing
from .looking import Looking
from .network import Client, Proxies, is_loopback_host
from .policy import Policy
from .ports import (
    AtLimit,
    Clash,
    Created,
    Ending,
    Epochs,
    Gone,
    InCookies,
    Loaded,
    Parting,
    Replaces,
    Stale,
    Store,
    Sweeping,
    Taken,
    Witness,
)
from .record import Change, Context, Control, EndReason, Record, Tombstone, Unreadable
from .requests import Facts
from .room import Room
from .rotation import Standing
from .session import Rules, Session, anonymous

if TYPE_CHECKING:
    from .adoption import Adoption
    from .legacy import OpenBridge

# Each retry means that another request got through; more than this on one session is no longer a browser.
MAX_RETRIES: Final = 64
SWEEP_EVERY: Final = 60.0
SWEEP_STEP: Final = 100
_log: Final = logging.getLogger("sessile")
_OWN_ENDS: Final = frozenset({EndReason.LOGOUT, EndReason.RENEWED})


class Opened(msgspec.Struct):
    """Hold what load learned and commit needs.

    `storable`: an anonymous session may begin in this request. `ending`: its session was ended before the commit.
    `unread`: the id of a record that could not be read, which a sign-out or sign-in ends. `forget`: Set-Cookie values
    that delete cookies of other libraries, whose sessions were adopted.
    """

    facts: Facts
    loaded_at: float
    token: Token | None = None
    standing: Standing = Standing.LIVE
    storable: bool = True
    kind: type[Session] = Session
    ending: Ending | None = None
    unread: str | None = None
    forget: tuple[str, ...] = ()


class Engine(Looking):
    """Do the I/O of sessions, through ports only."""

    def __init__(
        self,
        *,
        store: Store,
        ring: KeyRing,
        policy: Policy,
        cookie: CookieRules,
        proxies: Proxies,
        rules: Rules,
        sinks: tuple[events.Sink, ...] = (),
        places: Callable[[str], str] | None = None,
        clear_site_data: tuple[str, ...] = ("cache", "cookies", "storage"),
        development_hosts: frozenset[str] = frozenset(),
        clock: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(store, policy, sinks, clock)
        self.cookie = cookie
        self.proxies = proxies
        self.rules = rules
        self.ring = ring
        self._mint = TokenMint(ring)
        self._pseudonyms = binding.Pseudonyms(ring)
        self._places = places
        self._clear_site_data = clear_site_data
        self._development_hosts = development_hosts
        self._entropy = entropy
        self._observed = lru_cache(maxsize=4096)(self._observe)
        self._room = Room(self, self._end_one)
        self._next_sweep = 0.0
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        self._warned_hosts: set[str] = set()
        self.adoption: Adoption | None = None
        # Who judges Authorization headers: set by `sessile.auth.tokens`.
        self.bearer: Bearer | None = None
        # Who is told of ends before and after: set by `sessile.auth.signals`.
        self.witness: Witness | None = None

    def take_over(self, bridges: tuple[OpenBridge, ...]) -> None:
        """Adopt the sessions of other libraries from now on.

        Raises:
            ConfigurationError: sessions live in cookies here, so nothing would remember which old ones were adopted.
        """
        from .adoption import Adoption  # who has no old sessions does not load it

        if isinstance(self.store, InCookies):
            raise ConfigurationError("bridges to old sessions need a store; cookie:// remembers nothing")
        self.adoption = Adoption(
            bridges,
            store=self.store,
            ring=self.ring,
            policy=self.policy,
            tell=self.tell,
            clock=self.clock,
            room=self._room.make,
        )

    async def close(self) -> None:
        """Release the store, and what the bridges hold."""
        if self.adoption is not None:
            await self.adoption.close()
        await self.store.close()

    # -- load ----------------------------------------------------------------------------------------------------------

    async def load(self, facts: Facts, kind: type[Session] = Session) -> Session:
        """Open the session that the request's cookie names; what is not a live session of ours is nobody's.

        `kind` is the class that the framework's own idiom needs.

        Raises:
            StoreError: the store failed. The request must be refused (503), never treated as nobody's (R45).
            AccessRefused: it speaks with an access token that opens nothing; its cookie is not looked at.
        """
        if self.bearer is not None and is_by_token(facts):
            return await self._load_granted(facts, kind)
        now = self.clock()
        opened = Opened(facts, now, kind=kind)
        text = cookies.read(facts.cookie, self.cookie.name) if facts.cookie else None
        if text is None or not self._is_secure(facts):
            return self._nobody(opened) if self.adoption is None else await self._adopt(opened)
        read = self._mint.read(text) if isinstance(text, str) else None
        if read is None:
            if self.sinks:
                why: Literal["forged", "duplicate"] = "forged" if isinstance(text, str) else "duplicate"
                self.tell(events.TokenRefused(at=now, why=why, source=self._source(facts)))
            return self._nobody(opened) if self.adoption is None else await self._adopt(opened)
        token, sid = read
        opened.token = token
        try:
            found = await self.store.load(sid)
            if type(found) is Record:
                if self._is_quiet(opened, token, found):
                    return self._live(opened, sid, found, Standing.LIVE)
                return await self._meet(opened, sid, found)
            if type(found) is Tombstone and found.successor and now - found.at > self.policy.grace:
                await self._end_successor(opened, found)
        except StoreError as error:
            self.tell(events.StoreFailed(at=now, error=error.code, session=sid))
            raise
        session = self._without(opened, sid, found)
        return session if found is not None or self.adoption is None else await self._adopt(opened)

    def _without(self, opened: Opened, sid: str, found: Loaded) -> Session:
        """Serve as nobody's the request of a token that names no live session, and say why."""
        now, session = opened.loaded_at, self._nobody(opened)
        if isinstance(found, Tombstone):
            self._meet_tombstone(session, opened, sid, found)
        elif found is None:
            self.tell(events.UnknownSession(at=now, session=sid, source=self._source(opened.facts)))
        elif isinstance(found, Unreadable):
            opened.unread = sid
            self.tell(events.RecordRefused(at=now, session=sid, why=found.why))
        return session

    async def _load_granted(self, facts: Facts, kind: type[Session]) -> Session:
        """Open the session that an access token grants, for this request alone."""
        assert self.bearer is not None
        opened = Opened(facts, self.clock(), kind=kind)
        return self._granted(opened, await judged(self.bearer, facts, is_secure=self._is_secure(facts)))

    def _granted(self, opened: Opened, grant: Grant) -> Session:
        session = session_of(grant, opened.kind, replace(self.rules, policy=self.policy_of(grant.record.control)))
        opened.standing = Standing.IN_FLIGHT  # served, and handed nothing
        session.opened = opened
        return session

    async def load_again(self, session: Session, facts: Facts, kind: type[Session] = Session) -> Session:
        """Open the session of a request anew, in its midst; a token's proof was taken, and is not asked for again."""
        grant = session.grant
        if grant is None:
            return await self.load(facts, kind)
        opened = Opened(facts, self.clock(), kind=kind)
        record = await self.living(grant.session_id)
        return self._nobody(opened) if record is None else self._granted(opened, replace(grant, record=record))

    async def _adopt(self, opened: Opened) -> Session:
        """Open the session that an old cookie stands for, if the request has one and its browser will keep a new one.

        Who holds a token of a session that has ended is not asked: an end is final, whatever else the browser kept.
        """
        facts, now = opened.facts, opened.loaded_at
        if self.adoption is None or not self._is_secure(facts) or not self._is_kept(facts):
            return self._nobody(opened)

        def visitor() -> tuple[Context, str, str]:
            return self._context(facts), self._place(facts), self._source(facts)

        try:
            outcome = await self.adoption.open(facts, visitor, now)
            opened.forget, opened.storable = outcome.forget, not outcome.blocked
            if outcome.adopted is None:
                return self._nobody(opened)
            opened.token, sid, found = outcome.adopted
            if isinstance(found, Record):
                return await self._meet(opened, sid, found)
            if isinstance(found, Tombstone) and found.successor and now - found.at > self.policy.grace:
                await self._end_successor(opened, found)
        except StoreError as error:
            self.tell(events.StoreFailed(at=now, error=error.code))
            raise
        return self._without(opened, sid, found)

    def visitor(self, read: Callable[[], Facts], kind: type[Session] = Session) -> Session:
        """Open the session of a request without any cookie: nobody's. Its facts are read if they are ever needed."""
        session = kind(self.rules)
        session.opened = read
        return session

    def _opened(self, session: Session) -> Opened:
        if not isinstance(session.opened, Opened):
            session.opened = Opened(session.opened(), self.clock(), kind=type(session))
        return session.opened

    def _nobody(self, opened: Opened) -> Session:
        session = opened.kind(self.rules)
        session.opened = opened
        return session

    def _is_quiet(self, opened: Opened, token: Token, record: Record) -> bool:
        """Tell, in the fewest steps, that nothing is new: the head of the generation, well within all limits."""
        control = record.control
        return (
            token.branch == control.line.head
            and token.generation == control.generation
            and len(control.line.candidates) < 2
            and opened.loaded_at - record.seen_at <= self.policy.idle / 2
            and opened.loaded_at < control.authenticated_at + self.policy.absolute
            and control.context == self._context(opened.facts)
        )

    async def _meet(self, opened: Opened, sid: str, record: Record) -> Session:
        """Decide what a token is worth to its record, and store what that changed."""
        now, token, facts = opened.loaded_at, opened.token, opened.facts
        assert token is not None
        seen = self._context(facts)
        for _ in range(MAX_RETRIES):
            control = record.control
            reason = self.policy.expired(control, record.seen_at, now)
            if reason is not None:
                return await self._refuse(self._nobody(opened), sid, control, reason)
            standing, after = rotation.judge(control, token, now=now, grace=self.policy.grace)
            if standing is Standing.REPLAY:
                behind = control.generation - token.generation
                return await self._replayed(self._nobody(opened), sid, control, token, behind=behind)
            changes: tuple[str, ...] = ()
            answer: binding.Rung = "ignore"
            if control.context != seen:
                changes = binding.changed(control.context, seen)
                if changes:
                    answer = binding.rung(self.policy.binding, changes)
                    if answer == "end":
                        self._tell_changed(now, sid, control, facts, changes, answer)
                        return await self._refuse(self._nobody(opened), sid, control, EndReason.BINDING)
                    challenged = control.challenged or (answer == "challenge" and control.user is not None)
                    context = binding.remembered(control.context, seen)
                    after = replace(after, context=context, challenged=challenged)
            if after is control:
                if now - record.seen_at > self.policy.idle / 2 and not facts.passive:
                    # Near its idle limit it is touched before the view: the next request must not end a slow one.
                    await self.store.touch(sid, now, self.policy.deadline(control, now))
                    record = replace(record, seen_at=now)
                return self._met(opened, sid, record, standing)
            change = self._change(record, opened, control=after)
            saved = await self.store.save(sid, change, record)
            if isinstance(saved, Record):
                if changes:
                    self._tell_changed(now, sid, control, facts, changes, answer)
                if standing is Standing.ROLLED_BACK:
                    lost = token.generation - control.generation
                    self.tell(events.StoreRolledBack(at=now, session=sid, user=control.user, lost=lost))
                return self._met(opened, sid, saved, standing)
            if isinstance(saved, Gone):
                nobody = self._nobody(opened)
                if saved.tombstone is not None:
                    self._meet_tombstone(nobody, opened, sid, saved.tombstone)
                return nobody
            record = saved.record
        raise StoreUnavailable("a session changed faster than it could be read")

    def _met(self, opened: Opened, sid: str, record: Record, standing: Standing) -> Session:
        session = self._live(opened, sid, record, standing)
        session.left_behind = standing is Standing.IN_FLIGHT
        return session

    def _live(self, opened: Opened, sid: str, record: Record, standing: Standing) -> Session:
        session = opened.kind(self.rules, record, sid)
        opened.standing = standing
        session.opened = opened
        return session

    def _meet_tombstone(self, session: Session, opened: Opened, sid: str, tombstone: Tombstone) -> None:
        """Serve a late request as nobody. What its own browser ended a moment ago may hold a newer cookie: set none.

        Nor where a session lives on in another store, which this node was not told of: its token is what others know.
        """
        now = opened.loaded_at
        if now >= tombstone.expires_at:
            self.tell(events.UnknownSession(at=now, session=sid, source=self._source(opened.facts)))
            return
        in_flight = tombstone.reason in _OWN_ENDS and now - tombstone.at <= self.policy.grace
        session.ended = tombstone.reason
        opened.storable = not in_flight and tombstone.reason is not EndReason.MOVED
        self.tell(
            events.EndedTokenUsed(
                at=now,
                session=sid,
                user=tombstone.user,
                source=self._source(opened.facts),
                reason=tombstone.reason,
                in_flight=in_flight,
            )
        )

    async def _refuse(self, nobody: Session, sid: str, control: Control, reason: EndReason) -> Session:
        """End a session for good, the moment that it is met dead (R36)."""
        nobody.ended = reason
        await self._end_one(sid, reason, control.user)
        return nobody

    async def _replayed(self, nobody: Session, sid: str, control: Control, token: Token, *, behind: int) -> Session:
        now = self.clock()
        source = self._source(nobody.opened.facts)
        replay = events.ReplayDetected(
            at=now, session=sid, user=control.user, source=source, generation=token.generation, behind=behind
        )
        self.tell(replay)
        await self._refuse(nobody, sid, control, EndReason.REPLAY)
        if self.policy.on_replay == "end-all" and control.user is not None:
            await self.end_user(control.user, EndReason.REPLAY)
        return nobody

    async def _end_successor(self, opened: Opened, tombstone: Tombstone) -> None:
        """End what a session became, when the token that it left behind is used again later: somebody holds a copy.

        Whoever renews a stolen token would otherwise be rid of its owner, who holds the one left behind. An owner who
        never got the new token loses nothing: nobody has it.
        """
        token, sid = opened.token, tombstone.successor
        assert token is not None
        for behind in range(1, MAX_RETRIES):
            found = await self.store.load(sid)
            if isinstance(found, Tombstone) and found.successor:
                sid = found.successor
                continue
            if isinstance(found, Record) and found.control.user == tombstone.user:
                await self._replayed(self._nobody(opened), sid, found.control, token, behind=behind)
            return

    # -- commit --------------------------------------------------------------------------------------------------------

    async def commit(self, session: Session) -> Answer:
        """Carry out what the request intended, freeze the session and say what the response must carry.

        A second commit does nothing.

        Raises:
            StoreError: the store failed: nothing is promised, the response must become 503.
            DataError: data cannot be stored; the response must become an error.
            ConflictError: another request changed the same keys, and the session asked to be told.
            SessionGone: a step-up or rotation of a session that was ended meanwhile.
            TooManySessions: the limit refused the sign-in.
        """
        unchanged = self.commit_unchanged(session)
        if unchanged is not None:
            return unchanged
        opened = self._opened(session)
        now = self.clock()
        try:
            answer, sid = await self._commit(session, opened, now)
            if session.confirm is not None and sid is not None and session.intent == "sign-in":
                await self._confirm(session, sid)
            if self.adoption is not None and session.grant is None:
                answer = await self._without_old(session, opened, answer, now)
        except StoreError as error:
            self.tell(events.StoreFailed(at=now, error=error.code, session=session.id))
            raise
        if now >= self._next_sweep and (sid != session.id or not session.is_untouched):
            await self._sweep_step(now)
        if session.damaged:
            self.tell(events.RecordRefused(at=now, session=session.id, why="value"))
        session.close(sid)
        return answer

    async def _confirm(self, session: Session, sid: str) -> None:
        """Ask whether a sign-in that has just been stored may stand, and end it if not, or if nobody can tell."""
        assert session.confirm is not None
        try:
            stands = await session.confirm()
        except BaseException:
            await self.store.end(sid, self._tombstone(EndReason.PROVIDER, session.user_id or session.pending_user_id))
            raise
        if not stands:
            await self.end(sid, EndReason.PROVIDER)
            raise SessionGone(EndReason.PROVIDER)

    def commit_unchanged(self, session: Session) -> Answer | None:
        """Freeze a session of which nothing is to be stored, and return its answer; None: it needs a commit.

        Most requests go this way, and without I/O it needs no coroutine.
        """
        base = session.base
        if self.adoption is not None and type(session.opened) is Opened and session.opened.forget:
            return None
        if session.ended is not None:
            session.accessed = True  # a page may say that it has ended, which is nobody else's (R19)
        if session.closed or (base is None and not session.accessed):
            session.closed = True
            return answers.NOTHING
        if not session.is_untouched or session.damaged:
            return None
        if base is not None:
            opened: Opened = session.opened
            now = self.clock()
            if (
                opened.standing is not Standing.LIVE
                or now - base.control.rotated_at >= self.policy.rotation
                or (now - base.seen_at >= self.policy.touch and not opened.facts.passive)
            ):
                return None
        session.close(session.id)
        if not session.accessed:
            return answers.NOTHING
        return answers.LOOKED if base is None else answers.READ

    async def _commit(self, session: Session, opened: Opened, now: float) -> tuple[Answer, str | None]:
        if session.grant is not None:
            return await self._commit_granted(session, opened, now)
        if opened.unread is not None and session.intent is not None:
            await self._end_own(session)  # it cannot be replaced, and must not outlive the sign-in elsewhere
        if session.signed_out:
            return await self._sign_out(session, opened, now)
        if session.intent is not None:
            return await self._renew(session, opened, now)
        if session.base is None:
            return await self._begin(session, opened, now)
        return await self._save(session, opened, now)

    async def _commit_granted(self, session: Session, opened: Opened, now: float) -> tuple[Answer, str | None]:
        """Store what a request with an access token changed, or end its session; the answer sets no cookie."""
        answer, sid = Answer(vary=True, carries=True, by_token=True), None
        if not session.signed_out:
            _, sid = await self._save(session, opened, now)
        elif opened.ending is None or session.everywhere:
            await self._end_own(session)
        return answer, sid

    async def _without_old(self, session: Session, opened: Opened, answer: Answer, now: float) -> Answer:
        """Delete the old cookies that are spent; a sign-in or a sign-out leaves no older session in the browser."""
        forget, signed = opened.forget, session.signed_out or session.intent == "sign-in"
        if self.adoption is not None and signed and self._is_secure(opened.facts):
            try:
                forget = (*forget, *await self.adoption.retire(opened.facts, now, forget))
            except StoreError as error:
                # After a sign-out the old session would sign the user in again. After a sign-in the new one is stored:
                # its only token must reach the browser, which shows the old cookie no more while it has that.
                if session.intent is None:
                    raise
                self.tell(events.StoreFailed(at=now, error=error.code, session=session.id))
        return answer._replace(vary=True, more=(*answer.more, *forget)) if forget else answer

    async def _begin(self, session: Session, opened: Opened, now: float) -> tuple[Answer, str | None]:
        """Create an anonymous session if there is something to remember (R27)."""
        nothing = answers.LOOKED if session.accessed else answers.NOTHING
        if session.is_untouched:
            return nothing, None
        data = session.whole()
        if not (data or session.insist) or not self._may_set_cookie(opened.facts):
            return nothing, None
        if not opened.storable:
            self.tell(events.WriteDiscarded(at=now, session=None, reason=str(session.ended or "outage")))
            return nothing, None
        lines, sid, _ = await self._create(session, anonymous(now), data, opened, now)
        self.tell(events.SessionCreated(at=now, session=sid, source=self._source(opened.facts)))
        return _setting(lines), sid

    async def _save(self, session: Session, opened: Opened, now: float) -> tuple[Answer, str | None]:
        """Store the delta, rotate when due, move the times when due; hand out a sibling where one is owed."""
        record, sid, token = session.base, session.id, opened.token
        assert record is not None
        assert sid is not None
        put, drop = session.changes()
        if session.grant is not None:
            put.pop(FAMILY, None)  # what its tokens are good for is not the application's to say
        expect = None
        if session.raise_on_conflict and (put or drop):
            expect = {key: _bytes(record.data.get(key)) for key in (*put, *drop)}
        standing = opened.standing
        may_hand = now - opened.loaded_at <= self.policy.grace and self._may_set_cookie(opened.facts)
        cookie: str | None = None
        for _ in range(MAX_RETRIES):
            limits = self.policy_of(record.control)
            due = may_hand and standing is Standing.LIVE
            due = due and rotation.is_due(
                record.control, loaded_at=opened.loaded_at, interval=limits.rotation, grace=limits.grace
            )
            control = rotation.rotated(record.control, now=now) if due else None
            if not put and not drop and control is None:
                cookie = (
                    await self._hand_sibling(sid, token, opened)
                    if standing is Standing.SUCCEEDED and may_hand and token is not None
                    else None
                )
                if not opened.facts.passive and now - record.seen_at >= limits.touch:
                    await self.store.touch(sid, now, limits.deadline(record.control, now))
                break
            change = self._change(record, opened, control=control, put=put, drop=drop, expect=expect, now=now)
            saved = await self.store.save(sid, change, record)
            if isinstance(saved, Record):
                if control is not None and token is not None:
                    cookie = self._successor(token, control.generation)
                    rotated = events.TokenRotated(at=now, session=sid, user=control.user, generation=control.generation)
                    self.tell(rotated)
                elif standing is Standing.SUCCEEDED and may_hand and token is not None:
                    cookie = self._sibling(saved, token, opened)
                break
            if isinstance(saved, Clash):
                raise ConflictError(saved.keys)
            if isinstance(saved, Gone):
                self._discarded(session, sid, saved.tombstone, now)
                return (answers.LOOKED if session.accessed else answers.NOTHING), sid
            record = saved.record
            if token is not None:
                standing = rotation.judge(record.control, token, now=now, grace=limits.grace).standing
        else:
            raise StoreUnavailable("a session changed faster than it could be saved")
        return Answer(cookie, vary=session.accessed or cookie is not None, carries=session.accessed), sid

    async def _hand_sibling(self, sid: str, token: Token, opened: Opened) -> str | None:
        """Mint a sibling of a successor that nobody has confirmed yet, if the session is still there to use it.

        The look costs a round trip around rotations only. Without it, a slow response could overwrite the cookie that a
        sign-in has set meanwhile with the token of a session that is dead.
        """
        found = await self.store.load(sid)
        return self._sibling(found, token, opened) if isinstance(found, Record) else None

    def _sibling(self, record: Record, token: Token, opened: Opened) -> str | None:
        """Mint a sibling if the record, as it is now, still waits for its successor to be used."""
        standing = rotation.judge(record.control, token, now=opened.loaded_at, grace=self.policy.grace).standing
        return self._successor(token, record.control.generation) if standing is Standing.SUCCEEDED else None

    async def _renew(self, session: Session, opened: Opened, now: float) -> tuple[Answer, str | None]:
        """Sign in, record a factor or rotate: a new seed in place of the old session, in one step (R25)."""
        if not self._may_set_cookie(opened.facts):
            return answers.LOOKED, session.id
        old, intent, control = session.id, session.intent, session.control
        assert control is not None
        if intent == "rotate" and opened.standing is Standing.IN_FLIGHT:
            # It proves nothing, and would give whoever kept an old token a session that no sibling tells from it.
            raise SessionGone("its token was left behind; ask again")
        try:
            lines, sid, ended = await self._create(session, control, None, opened, now)
        except SessionGone:
            session.close(None)
            raise
        if old is not None and ended:
            self._notify(old)
            self.tell(events.SessionRenewed(at=now, session=sid, user=control.user, old=old))
        factor = session.factor
        if factor is not None and intent == "sign-in":
            source = self._source(opened.facts)
            signed_in = events.SignedIn(
                at=now, session=sid, user=control.user, source=source, factor=factor.name, pending=control.pending
            )
            self.tell(signed_in)
        elif factor is not None:
            level = 0 if control.pending else aal(one.name for one in control.factors)
            self.tell(events.FactorAdded(at=now, session=sid, user=control.user, factor=factor.name, aal=level))
        return _setting(lines), sid

    async def _create(
        self, session: Session, control: Control, data: dict[str, Any] | None, opened: Opened, now: float
    ) -> tuple[tuple[str, ...], str, bool]:
        """Insert a session, with `data` None in place of the present one.

        Return the Set-Cookie values that hand it out, its id, and whether it replaced one.
        """
        allowed = self._allowed(session, control)
        limit = allowed
        context = self._context(opened.facts)
        place = control.place or self._place(opened.facts)
        for _ in range(MAX_RETRIES):
            takes_over = data is None
            if takes_over and session.control is not None:
                control = session.control
            seed, branch = new_seed(self._entropy), new_branch(self._entropy)
            begun = replace(
                control,
                rotated_at=now,
                generation=0,
                line=rotation.begun(branch, now=now),
                previous=None,
                context=context,
                place=place,
            )
            record = Record(begun, session.whole() if data is None else data, now, self.policy.deadline(begun, now))
            sid = session_id(seed)
            replaces = self._replaces(session, sid, now) if takes_over else None
            answer = await self._insert(sid, record, replaces, limit)
            match answer:
                case Created(evicted):
                    for one in evicted:
                        self._ended(one, None, EndReason.EVICTED)
                    return (self._handed(self._mint.mint(seed, 0, branch)),), sid, replaces is not None
                case Taken():
                    continue
                case Stale(present):
                    session.rebase(present)
                case AtLimit(sessions):
                    assert allowed is not None
                    limit = await self._room.make(sessions, control, allowed)
                case Gone(tombstone):
                    raise SessionGone(str(tombstone.reason) if tombstone else "gone")
        raise StoreUnavailable("a session changed faster than it could be renewed")

    async def _insert(
        self, sid: str, record: Record, replaces: Replaces | None, limit: int | None
    ) -> Created | Taken | AtLimit | Stale | Gone:
        """Insert a session; that it ends another one, and not only renews it, the witness is told."""
        noted, parting = None, None if replaces is None else _parting(replaces)
        if self.witness is not None and parting is not None:
            noted = await self.witness.before(parting)
        answer = await self.store.create(sid, record, replaces=replaces, limit=limit)
        if noted is not None and self.witness is not None and parting is not None and parting.session is not None:
            ended = Ending(((parting.session, parting.user),)) if isinstance(answer, Created) else None
            await self.witness.after(noted, ended)
        return answer

    def _allowed(self, session: Session, control: Control) -> int | None:
        return self._room.allowed(control)

    def _replaces(self, session: Session, successor: str, now: float) -> Replaces | None:
        base, sid = session.base, session.id
        if base is None or sid is None:
            return None
        reason = EndReason.LOGOUT if session.signed_out else EndReason.RENEWED
        user = base.control.user
        if reason is EndReason.LOGOUT or user is None or session.control is None or session.control.user != user:
            successor = ""  # what a visitor's token, or another user's, is good for ends with its session
        tombstone = Tombstone(reason, now, now + self.policy.tombstone, user, successor)
        return Replaces(sid, tombstone, session.intent != "sign-in", base.revision, base.version)

    async def _sign_out(self, session: Session, opened: Opened, now: float) -> tuple[Answer, str | None]:
        """End the session, and begin a new one if the request signed someone in or wrote something afterwards."""
        base, sid = session.base, session.id or opened.unread
        user = None if base is None else base.control.user
        if session.intent is not None:
            if session.everywhere and user is not None:
                await self.end_user(user, EndReason.LOGOUT)
            return await self._renew(session, opened, now)
        ended = () if opened.ending is None else opened.ending.ended
        if opened.ending is None or session.everywhere:
            ended += (await self._end_own(session)).ended
        was_live = any(one == sid for one, _ in ended)
        data = session.whole()
        if data and opened.storable and (was_live or base is None) and self._may_set_cookie(opened.facts):
            lines, new, _ = await self._create(session, anonymous(now), data, opened, now)
            self.tell(events.SessionCreated(at=now, session=new, source=self._source(opened.facts)))
            clear = self._clearing(opened, base, cookies_too=False)
            return _setting(lines, clear), new
        # Was it ended by another request meanwhile, a sign-in may have set a newer cookie: this one must not delete
        # that.
        clear = self._clearing(opened, base, cookies_too=was_live)
        return _setting(self._deletion(opened) if was_live else (), clear), None

    def _deletion(self, opened: Opened) -> tuple[str, ...]:
        """Return the Set-Cookie values that delete what the request's browser holds of a session."""
        return (self.cookie.delete(),)

    async def _end_own(self, session: Session) -> Ending:
        """End the session that stands behind the request, or all of its user's."""
        base, opened = session.base, self._opened(session)
        sid = session.id or opened.unread
        if sid is None:
            return Ending(())
        user = None if base is None else base.control.user
        if session.everywhere and user is not None:
            return await self.end_user(user, EndReason.LOGOUT)
        ending = await self._end_one(sid, EndReason.LOGOUT, user)
        parent = parent_of(base)
        if parent is not None:
            above = await self._end_one(parent, EndReason.LOGOUT, user)
            ending = Ending((*ending.ended, *above.ended), ending.confirmed and above.confirmed)
        return ending

    async def sign_out(self, session: Session, *, everywhere: bool = False) -> Ending:
        """End a request's session now instead of at its commit, and say how surely, so that the page can tell (R51).

        The commit then deletes the cookie.

        Raises:
            SessionClosed: the response has begun.
            StoreError: the store failed; the session is marked as signed out, and the commit tries again.
        """
        session.logout(everywhere=everywhere)
        opened = self._opened(session)
        opened.ending = await self._end_own(session)
        session.everywhere = False  # carried out
        return opened.ending

    def after(self, facts: Facts, answer: Answer, *, renewed: bool) -> Facts:
        """Return a request's facts as they would be after this answer, for a further look in the same request.

        Only what is renewed counts at once. Otherwise what the browser has is what counts: a successor is not confirmed
        until it comes back.
        """
        if not renewed or answer.cookie is None:
            return facts
        return replace(facts, cookie=answer.cookie.partition(";")[0])

    async def expire(self, session: Session) -> None:
        """End a session for good that the application's own limit has ended."""
        if session.id is not None:
            await self.end(session.id, EndReason.IDLE)

    def _clearing(self, opened: Opened, base: Record | None, *, cookies_too: bool) -> str | None:
        if base is None or base.control.user is None or not self._is_secure(opened.facts):
            return None
        wanted = [kind for kind in self._clear_site_data if cookies_too or kind != "cookies"]
        return ", ".join(f'"{kind}"' for kind in wanted) or None

    # -- beyond the one session ----------------------------------------------------------------------------------------

    async def end(self, sid: str, reason: EndReason, user: str | None = None) -> Ending:
        """End one session; with `user`, only if it is theirs. A text that is no id ends nothing."""
        if not is_session_id(sid):
            return Ending(())
        if user is not None:
            found = await self.store.load(sid)
            if not isinstance(found, Record) or found.control.user != user:
                return Ending(())
        return await self._end_one(sid, reason, user)

    async def _end_one(self, sid: str, reason: EndReason, user: str | None) -> Ending:
        return await self._witnessed(
            Parting(reason, sid, user), lambda: self.store.end(sid, self._tombstone(reason, user))
        )

    async def _witnessed(self, parting: Parting, end: Callable[[], Coroutine[Any, Any, Ending]]) -> Ending:
        """End sessions before the witness, if there is one; what it noted stands if the store fails, it looks later."""
        noted = None if self.witness is None else await self.witness.before(parting)
        ending = await end()
        self._told_ended(ending, parting.reason)
        if noted is not None and self.witness is not None:
            await self.witness.after(noted, ending)
        return ending

    async def end_user(self, user: str, reason: EndReason, keep: frozenset[str] = frozenset()) -> Ending:
        """End all sessions of a user but those in `keep`."""
        index = self.index
        if self.adoption is not None:
            await self.adoption.shutouts.close_user(user)
        return await self._witnessed(
            Parting(reason, None, user, keep), lambda: index.end_user(user, self._tombstone(reason, user), keep)
        )

    async def end_everything(self) -> Ending:
        """End every session that exists now, in one step (R64)."""
        now = self.clock()
        if not isinstance(self.store, Epochs):
            raise Unsupported("this store cannot end every session at once")
        if self.adoption is not None:
            await self.adoption.shutouts.close_before_everything()
        ending = await self.store.end_everything(now)
        if self.adoption is not None:
            await self.adoption.shutouts.close_everything()
        self.tell(events.SessionsEnded(at=now, confirmed=ending.confirmed))
        for watched in tuple(self._watchers):
            self._notify(watched)
        return ending

    def is_ours(self, text: str) -> bool:
        """Tell whether a text is a token that this ring of keys has made; it says nothing of its session."""
        return self._mint.read(text) is not None

    async def sweep(self, limit: int) -> int:
        """Remove up to `limit` expired records; return how many were removed."""
        if not isinstance(self.store, Sweeping):
            return 0
        swept = await self.store.sweep(self.clock(), limit)
        for sid, reason in swept:
            if reason is not None:
                self._ended(sid, None, reason)
        return len(swept)

    async def _sweep_step(self, now: float) -> None:
        """Remove a few of what has expired. What the commit has stored stands, whether or not this succeeds."""
        self._next_sweep = now + SWEEP_EVERY
        try:
            if await self.sweep(SWEEP_STEP) >= SWEEP_STEP:
                self._next_sweep = now
        except StoreError as error:
            _log.warning("expired sessions could not be removed (%s)", error.code)

    def watch(self, sid: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when this process ends the session; return what stops watching."""
        self._watchers.setdefault(sid, set()).add(callback)

        def unwatch() -> None:
            callbacks = self._watchers.get(sid)
            if callbacks is not None:
                callbacks.discard(callback)
                if not callbacks:
                    self._watchers.pop(sid, None)

        return unwatch

    # -- small decisions -----------------------------------------------------------------------------------------------

    def client(self, facts: Facts) -> Client:
        """Return who is really asking."""
        return self.proxies.client(facts) if self.proxies else Client(facts.peer, facts.scheme, facts.host)

    def is_by_token(self, facts: Facts) -> bool:
        """Tell whether a request is judged by its access token alone, so that no cookie of it counts (R22)."""
        return self.bearer is not None and is_by_token(facts)

    def tell_cross_site(self, facts: Facts) -> None:
        """Tell the sinks that the guard refused a request."""
        self.tell(events.CrossSiteRefused(at=self.clock(), source=self._source(facts), method=facts.method))

    def facts(self, session: Session) -> Facts:
        """Return the facts of the request that a session is of."""
        return self._opened(session).facts

    def source(self, session: Session) -> str:
        """Return a keyed hash of the network that a session's request came from, in hex."""
        return self._source(self._opened(session).facts)

    def _is_secure(self, facts: Facts) -> bool:
        if facts.scheme == "https":
            return True
        client = self.client(facts)
        return client.scheme == "https" or is_loopback_host(client.host) or client.host in self._development_hosts

    def _is_kept(self, facts: Facts) -> bool:
        """Tell whether the browser keeps a cookie that this response sets: not what another site has embedded."""
        if self.cookie.samesite == "None" or facts.header("sec-fetch-site") != "cross-site":
            return True
        return facts.header("sec-fetch-mode") == "navigate" and facts.header("sec-fetch-dest") == "document"

    def _may_set_cookie(self, facts: Facts) -> bool:
        if self.is_by_token(facts):
            return False
        if self._is_secure(facts):
            return True
        host = self.client(facts).host[:128]
        if host not in self._warned_hosts and len(self._warned_hosts) < 64:
            self._warned_hosts.add(host)
            self.tell(events.InsecureChannel(at=self.clock(), host=host))
        return False

    def _context(self, facts: Facts) -> Context:
        address = self.client(facts).address if self.proxies else facts.peer
        agent, hint = facts.header("user-agent") or "", facts.header("sec-ch-ua-platform") or ""
        return self._observed(address, agent[:256], hint[:32])

    def _observe(self, address: str, agent: str, hint: str) -> Context:
        browser, platform = binding.family(agent, hint)
        return Context(self._pseudonyms.of(address), browser, platform)

    def _place(self, facts: Facts) -> str:
        return self._places(self.client(facts).address) if self._places is not None else ""

    def _source(self, facts: Facts) -> str:
        return self._pseudonyms.of(self.client(facts).address if self.proxies else facts.peer).hex()

    def _successor(self, token: Token, generation: int) -> str:
        return self._handed(self._mint.mint(token.seed, generation, new_branch(self._entropy)))

    def _handed(self, text: str) -> str:
        """Return a new token as the answer hands it out: in a cookie."""
        return self.cookie.set(text)

    def _tombstone(self, reason: EndReason, user: str | None) -> Tombstone:
        now = self.clock()
        return Tombstone(reason, now, now + self.policy.tombstone, user)

    def _change(self, record: Record, opened: Opened, *, now: float | None = None, **parts: Any) -> Change:
        at = record.seen_at if opened.facts.passive else (opened.loaded_at if now is None else now)
        control: Control = parts.get("control") or record.control
        expires_at = self.policy_of(control).deadline(control, at)
        return Change(seen_at=at, expires_at=expires_at, revision=record.revision, **parts)

    def _discarded(self, session: Session, sid: str, tombstone: Tombstone | None, now: float) -> None:
        session.ended = tombstone.reason if tombstone else None
        user = tombstone.user if tombstone else None
        reason = str(tombstone.reason) if tombstone else "gone"
        self.tell(events.WriteDiscarded(at=now, session=sid, user=user, reason=reason))

    # -- telling -------------------------------------------------------------------------------------------------------

    def _told_ended(self, ending: Ending, reason: EndReason) -> None:
        for sid, user in ending.ended:
            self._ended(sid, user, reason, confirmed=ending.confirmed)

    def _ended(self, sid: str, user: str | None, reason: EndReason, *, confirmed: bool = True) -> None:
        self.tell(events.SessionEnded(at=self.clock(), session=sid, user=user, reason=reason, confirmed=confirmed))
        self._notify(sid)

    def _notify(self, sid: str) -> None:
        for callback in tuple(self._watchers.get(sid, ())):
            try:
                callback()
            except Exception:  # noqa: BLE001 - whatever a watcher raises, the session has ended
                _log.exception("a watcher of sessions failed")

    def _tell_changed(
        self, now: float, sid: str, control: Control, facts: Facts, changes: tuple[str, ...], action: str
    ) -> None:
        source = self._source(facts)
        self.tell(
            events.ContextChanged(at=now, session=sid, user=control.user, source=source, changed=changes, action=action)
        )


def _parting(replaces: Replaces) -> Parting | None:
    """Return the end of a session that is replaced, None if nobody's or if the same user goes on in the new one."""
    left = replaces.tombstone
    if left.user is None or left.successor:
        return None
    return Parting(left.reason, replaces.session_id, left.user)


def _bytes(raw: msgspec.Raw | bytes | None) -> bytes | None:
    return None if raw is None else bytes(raw)


def _setting(lines: tuple[str, ...], clear: str | None = None) -> Answer:
    """Answer with these Set-Cookie values, if any."""
    return Answer(lines[0] if lines else None, vary=True, carries=True, clear_site_data=clear, more=lines[1:])
