"""The engine of sessions that live in their browsers' cookies: nothing is stored, but which of them have ended.

    load     cookies ─► open (no I/O) ─► has it ended? (one round trip) ─► limits ─► context ─► Session
    commit   as the engine's, and what it would store is sealed into the answer's cookies

What differs from sessions in a store, because no state is shared between the copies of a cookie:

- No siblings and no replay detection. Two copies of one cookie are told apart by nothing; both live until the end.
- Two responses that write at once do not merge: the browser keeps the one that came last (R43 cannot hold).
- A write that comes after the end is refused, as everywhere; it costs the second round trip.
- Without `Revocations`, an end is a request to the browser to forget. A copy lives on until a limit ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from ..errors import ConfigurationError, SessionGone, StoreError, Unsupported
from . import answers, binding, events
from .answers import Answer
from .engine import Engine, Opened
from .ids import is_session_id
from .lately import Lately
from .ports import Claim, Ending, Gone, InCookies, Marks, Revocations, Store, UserIndex
from .record import Control, EndReason, Line, Record, Tombstone
from .requests import Facts
from .rotation import Standing
from .sealedcookies import ID_BYTES, Found, Kept, SessionCookies, applied, raws
from .session import Session

_NO_MARKS: Final = Marks()
_log: Final = logging.getLogger("sessile.cookies")


class FromCookies(Opened):
    """Hold what load learned from the cookies; `due` says that they must be written anew whatever the view does."""

    found: Found | None = None
    due: bool = False


class CookieEngine(Engine):
    """Do the I/O of sessions that live in cookies: ask and mark their ends, through `Revocations` only.

    Raises:
        ConfigurationError: the policy asks for what only a store can do.
        ExtraMissing: `cryptography` is not installed.
    """

    def __init__(self, *, store: Store, **options: Any) -> None:
        super().__init__(store=store, **options)
        if not isinstance(store, InCookies):
            raise ConfigurationError("this engine is for sessions that live in cookies")
        if self.policy.max_sessions is not None:
            raise ConfigurationError(
                "max_sessions needs a store: of sessions that live in cookies nobody knows how many"
            )
        self._revocations = store.revocations
        self._cookies = SessionCookies(
            self.ring,
            self.cookie,
            limit=store.limit,
            compress=store.compress,
            max_bytes=self.policy.max_bytes,
            entropy=self._entropy,
        )
        self._lately = Lately()
        # Browsers forget a cookie with a Max-Age: it is written anew before that, at half of it.
        self._renew_after = None if self.cookie.max_age is None else self.cookie.max_age / 2
        if self._revocations is None:
            _log.warning(
                "sessions live in cookies and nothing remembers their ends: after a sign-out a copy still works, and "
                "nobody can be signed out from elsewhere; add ?revocations=… to the URL"
            )

    # -- load ----------------------------------------------------------------------------------------------------------

    async def load(self, facts: Facts, kind: type[Session] = Session) -> Session:
        """Open the session that the request's cookies hold; what has ended, or is none of ours, is nobody's.

        Raises:
            StoreError: the ends could not be asked. The request must be refused (503), never treated as nobody's (R45).
        """
        now = self.clock()
        opened = FromCookies(facts, now, kind=kind)
        found = self._cookies.read(facts.cookie) if facts.cookie else None
        if found is None or not self._is_secure(facts):
            return self._nobody(opened)
        if not isinstance(found, Found):
            self.tell(events.TokenRefused(at=now, why=found, source=self._source(facts)))
            return self._nobody(opened)
        opened.found = found
        if self._renew_after is not None:
            opened.due = now - found.kept.control.rotated_at >= self._renew_after
        kept, sid = found.kept, found.raw_id.hex()
        control = kept.control
        try:
            claim, tombstone = Claim(sid, control.user, *found.numbers), None
            if self._revocations is not None:
                tombstone = await self._revocations.check(claim)
            is_within = self._is_within(control.authenticated_at, found.seen_at, kept.until, now)
            if tombstone is None and is_within and control.context == self._context(facts):
                self._lately.remember(claim, control.authenticated_at, found.seen_at, kept.until)
                return self._live(opened, sid, Record(control, kept.data, found.seen_at, kept.until), Standing.LIVE)
            return await self._judge(opened, found, tombstone)
        except StoreError as error:
            self.tell(events.StoreFailed(at=now, error=error.code, session=sid))
            raise

    def _is_within(self, authenticated_at: float, seen_at: float, until: float, now: float) -> bool:
        """Tell, in the fewest steps, that no limit has passed."""
        policy = self.policy
        return (
            now < until and now < seen_at + policy.idle + policy.tolerance and now < authenticated_at + policy.absolute
        )

    async def _judge(self, opened: FromCookies, found: Found, tombstone: Tombstone | None) -> Session:
        """Decide what a session is worth that has ended, met a limit, or came from another client."""
        now, kept, sid = opened.loaded_at, found.kept, found.raw_id.hex()
        control = kept.control
        reason = self._expired(found, now)
        if tombstone is None and reason is not None:
            if self._revocations is not None:
                return await self._refuse(self._nobody(opened), sid, control, reason)
            tombstone = Tombstone(reason, now, float("inf"), control.user)
        if tombstone is not None:
            nobody = self._nobody(opened)
            self._meet_tombstone(nobody, opened, sid, tombstone)
            return nobody
        seen = self._context(opened.facts)
        changes = binding.changed(control.context, seen)
        if changes:
            answer = binding.rung(self.policy.binding, changes)
            self._tell_changed(now, sid, control, opened.facts, changes, answer)
            if answer == "end":
                return await self._refuse(self._nobody(opened), sid, control, EndReason.BINDING)
            challenged = control.challenged or (answer == "challenge" and control.user is not None)
            control = replace(control, context=binding.remembered(control.context, seen), challenged=challenged)
            opened.due = opened.due or control != kept.control
        self._lately.remember(_claim(found), control.authenticated_at, found.seen_at, kept.until)
        return self._live(opened, sid, Record(control, kept.data, found.seen_at, kept.until), Standing.LIVE)

    def _expired(self, found: Found, now: float) -> EndReason | None:
        if not now < found.kept.until:
            return EndReason.ABSOLUTE
        return self.policy.expired(found.kept.control, found.seen_at, now)

    async def _refuse(self, nobody: Session, sid: str, control: Control, reason: EndReason) -> Session:
        """End a session for good, the moment that it is met dead (R36)."""
        nobody.ended = reason
        if self._revocations is not None:
            opened: FromCookies = nobody.opened
            tombstone = self._mark(reason, control.user, None if opened.found is None else opened.found.kept.until)
            self._told_ended(_named(await self._revocations.end(sid, tombstone), control.user), reason)
        return nobody

    def _opened(self, session: Session) -> FromCookies:
        if not isinstance(session.opened, FromCookies):
            session.opened = FromCookies(session.opened(), self.clock(), kind=type(session))
        return session.opened

    # -- commit --------------------------------------------------------------------------------------------------------

    def commit_unchanged(self, session: Session) -> Answer | None:
        """Freeze a session that nothing is to be written of, and return its answer; None: it needs a commit."""
        base = session.base
        if session.ended is not None:
            session.accessed = True  # a page may say that it has ended, which is nobody else's (R19)
        if session.closed or (base is None and not session.accessed):
            session.closed = True
            return answers.NOTHING
        if not session.is_untouched or session.damaged:
            return None
        if base is not None:
            opened: FromCookies = session.opened
            if opened.due or self._is_touch_due(opened, base, self.clock()):
                return None
        session.close(session.id)
        if not session.accessed:
            return answers.NOTHING
        return answers.LOOKED if base is None else answers.READ

    def _is_touch_due(self, opened: Opened, base: Record, now: float) -> bool:
        return now - base.seen_at >= self.policy.touch and not opened.facts.passive

    async def _save(self, session: Session, opened: Opened, now: float) -> tuple[Answer, str | None]:
        """Seal what changed into the cookies, or the time of use alone; what has ended meanwhile gets neither."""
        base, sid = session.base, session.id
        assert base is not None
        assert sid is not None
        assert isinstance(opened, FromCookies)
        found = opened.found
        assert found is not None
        put, drop = session.changes()
        if session.raise_on_conflict and (put or drop):
            raise Unsupported("sessions that live in cookies cannot tell whether two requests changed the same keys")
        writes = bool(put or drop or opened.due)
        carries = session.accessed
        if not writes and not self._is_touch_due(opened, base, now):
            return Answer(vary=carries, carries=carries), sid
        data = {**{key: value for key, value in base.data.items() if key not in drop}, **put}
        seen_at = base.seen_at if opened.facts.passive else max(now, base.seen_at)
        kept = Kept(replace(base.control, rotated_at=now), raws(data), seen_at, found.kept.until)
        body = self._cookies.body(kept, _largest(put or data)) if writes else b""
        if self._revocations is not None:
            tombstone = await self._revocations.check(_claim(found))
            if tombstone is not None:
                self._discarded(session, sid, tombstone, now)
                return (answers.LOOKED if carries else answers.NOTHING), sid
        if not writes:
            return Answer(vary=True, carries=carries, more=(self._cookies.touch(found.raw_id, seen_at),)), sid
        lines = self._cookies.write(found.raw_id, body, found.numbers, opened.facts.cookie)
        return Answer(lines[0], vary=True, carries=carries, more=lines[1:]), sid

    async def _create(
        self, session: Session, control: Control, data: dict[str, Any] | None, opened: Opened, now: float
    ) -> tuple[tuple[str, ...], str, bool]:
        """Seal a session under a new id, with `data` None in place of the present one.

        Return the Set-Cookie values that hand it out, its id, and whether it replaced one.
        """
        assert isinstance(opened, FromCookies)
        takes_over = data is None and session.base is not None
        begun = replace(
            control,
            rotated_at=now,
            generation=0,
            line=Line(),
            previous=None,
            context=self._context(opened.facts),
            place=control.place or self._place(opened.facts),
        )
        values = session.whole() if data is None else data
        until = begun.authenticated_at + self.policy.absolute
        # Before anything ends: it must not be found too large when the old one is gone.
        kept = Kept(begun, raws(values), now, until)
        body = self._cookies.body(kept, _largest(values))
        marks = _NO_MARKS
        if self._revocations is not None:
            marks = await self._begin_anew(self._revocations, session, opened, begun.user, takes_over=takes_over)
        raw_id = self._entropy(ID_BYTES)
        claim = Claim(raw_id.hex(), begun.user, *marks)
        self._lately.remember(claim, begun.authenticated_at, now, until)
        return self._cookies.write(raw_id, body, marks, opened.facts.cookie), claim.session_id, takes_over

    async def _begin_anew(
        self,
        revocations: Revocations,
        session: Session,
        opened: FromCookies,
        user: str | None,
        *,
        takes_over: bool,
    ) -> Marks:
        """Ask for the numbers to issue a session under; end the one that it takes over from in the same step."""
        base, found = session.base, opened.found
        if not takes_over or base is None or found is None:
            begun = await revocations.begin(user)
        else:
            reason = EndReason.LOGOUT if session.signed_out else EndReason.RENEWED
            tombstone = self._mark(reason, base.control.user, found.kept.until)
            required = session.intent != "sign-in"
            begun = await revocations.begin(user, _claim(found), tombstone, required=required)
        if isinstance(begun, Gone):
            raise SessionGone(str(begun.tombstone.reason) if begun.tombstone else "gone")
        return begun

    async def _end_own(self, session: Session) -> Ending:
        base, sid = session.base, session.id
        if base is None or sid is None:
            return Ending(())
        user = base.control.user
        everywhere = session.everywhere and user is not None
        if self._revocations is None:
            if everywhere:
                raise _without("signs a user out everywhere")
            self.tell(events.SessionForgotten(at=self.clock(), session=sid, user=user))
            self._notify(sid)
            return Ending(((sid, user),), confirmed=False)
        opened: FromCookies = session.opened
        found = opened.found
        tombstone = self._mark(EndReason.LOGOUT, user, None if found is None else found.kept.until)
        claim = None if found is None else _claim(found)
        ending = _named(await self._revocations.end(sid, tombstone, claim), user)
        if everywhere and user is not None:
            both = await self.end_user(user, EndReason.LOGOUT)
            ending = Ending(ending.ended, confirmed=ending.confirmed and both.confirmed)
        self._told_ended(ending, EndReason.LOGOUT)
        return ending

    def _deletion(self, opened: Opened) -> tuple[str, ...]:
        return self._cookies.delete(opened.facts.cookie)

    def after(self, facts: Facts, answer: Answer, *, renewed: bool) -> Facts:
        """Return a request's facts as they would be after this answer: with its cookies in the place of older ones."""
        lines = answer.more if answer.cookie is None else (answer.cookie, *answer.more)
        return replace(facts, cookie=applied(facts.cookie, lines)) if lines else facts

    # -- beyond the one session ----------------------------------------------------------------------------------------

    async def end(self, sid: str, reason: EndReason, user: str | None = None) -> Ending:
        """End one session by its id, known or not.

        Raises:
            Unsupported: nothing remembers ends; or `user` is given, and nobody can tell whose it is.
        """
        if self._revocations is None:
            raise _without("ends a session from elsewhere")
        if not is_session_id(sid):
            return Ending(())
        if user is not None:
            raise Unsupported(
                "sessions that live in cookies are not known by user: end one by its id, or all of a user's"
            )
        known = self._lately.get(sid)
        owner = None if known is None else known.claim.user
        mark = self._mark(reason, owner, None if known is None else known.until)
        ending = _named(await self._revocations.end(sid, mark), owner)
        self._told_ended(ending, reason)
        return ending

    async def expire(self, session: Session) -> None:
        """End a session for good that the application's own limit has ended; without marks, it is refused each time."""
        if session.id is not None and self._revocations is not None:
            await self.end(session.id, EndReason.IDLE)

    @property
    def index(self) -> UserIndex:
        """Raise: there is none.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("sessions that live in cookies cannot be listed: only their browsers have them")

    async def end_user(self, user: str, reason: EndReason, keep: frozenset[str] = frozenset()) -> Ending:
        """End all sessions of a user but those in `keep`. They cannot be named or counted.

        Raises:
            Unsupported: nothing remembers ends.
        """
        if self._revocations is None:
            raise _without("signs a user out everywhere")
        ending = await self._revocations.end_user(user, self._mark(reason, user, None), keep)
        self.tell(events.UserSessionsEnded(at=self.clock(), user=user, reason=reason, confirmed=ending.confirmed))
        for sid in tuple(self._watchers):
            known = self._lately.get(sid)
            if sid not in keep and (known is None or known.claim.user == user):
                self._notify(sid)
        return ending

    async def end_everything(self) -> Ending:
        """End every session that was issued so far (R64).

        Raises:
            Unsupported: nothing remembers ends.
        """
        if self._revocations is None:
            raise _without("ends every session")
        now = self.clock()
        ending = await self._revocations.end_everything(now)
        self.tell(events.SessionsEnded(at=now, confirmed=ending.confirmed))
        for watched in tuple(self._watchers):
            self._notify(watched)
        return ending

    def is_ours(self, text: str) -> bool:
        """Tell whether a cookie's value is a whole session that this ring of keys has sealed."""
        return isinstance(self._cookies.read(f"{self.cookie.name}={text}"), Found)

    async def is_alive(self, sid: str) -> bool:
        """Tell whether a session that this process served lately lives now.

        Raises:
            Unsupported: this process has not seen it: what it is, only its cookies say.
            StoreError: the ends could not be asked; what cannot be checked must not stay open.
        """
        if not is_session_id(sid):
            return False
        known = self._lately.get(sid)
        if known is None:
            raise Unsupported(
                "only a session that this process has served lately can be looked up: it lives in cookies"
            )
        if not self._is_within(known.authenticated_at, known.seen_at, known.until, self.clock()):
            return False
        if self._revocations is None:
            return True
        try:
            return await self._revocations.check(known.claim) is None
        except StoreError as error:
            self.tell(events.StoreFailed(at=self.clock(), error=error.code, session=sid))
            raise

    async def sweep(self, limit: int) -> int:
        """Forget up to `limit` marks that nobody needs any more; return how many."""
        return 0 if self._revocations is None else await self._revocations.sweep(self.clock(), limit)

    # -- small decisions -----------------------------------------------------------------------------------------------

    def _mark(self, reason: EndReason, user: str | None, until: float | None) -> Tombstone:
        """Return a mark that is kept until what it ends has met its absolute deadline, whatever the clocks say."""
        now, margin = self.clock(), self.policy.tolerance
        last = now + self.policy.absolute if until is None else until
        return Tombstone(reason, now, max(last + margin, now + self.policy.tombstone), user)

    def watch(self, sid: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when this process ends the session; return what stops watching. What is watched stays known."""
        self._lately.hold(sid)
        unwatch = super().watch(sid, callback)

        def stop() -> None:
            unwatch()
            if sid not in self._watchers:
                self._lately.let_go(sid)

        return stop


def _claim(found: Found) -> Claim:
    return Claim(found.raw_id.hex(), found.kept.control.user, *found.numbers)


def _named(ending: Ending, user: str | None) -> Ending:
    """Return the ending with the user of its session, which the marks do not know."""
    return Ending(tuple((sid, user) for sid, _ in ending.ended), ending.confirmed)


def _largest(values: Any) -> str:
    """Name the key that takes most, for `SessionTooLarge`."""
    return max(values, key=lambda key: len(bytes(values[key])), default="")


def _without(power: str) -> Unsupported:
    return Unsupported(f"without revocations nothing {power}: write cookie://?revocations=… (memory, sqlite or redis)")
