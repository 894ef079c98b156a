"""Django's session object, which is Sessile's: the whole API of `SessionBase`, blocking and asynchronous.

    Django's word             in a request                          on a `SessionStore` of one's own
    session_key               the public id; it opens nothing       the token, which `django.test.Client` needs
    flush(), delete()         sign out with the response            sign out now
    cycle_key()               new token and id with the response    now
    save(), create()          now; the response has the cookie      now
    exists(k), delete(k)      of a public id or a token             the same

`set_expiry` is kept as Django keeps it, and can only shorten what the policy grants: seconds count from the last use
that was stored, a date counts as it is, and both are enforced late by `Policy.tolerance`, never early. 0 changes
nothing: the cookie ends with the browser, unless `CookieRules(max_age=…)` says otherwise.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar, Final, cast

from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.middleware.csrf import CSRF_SESSION_KEY
from django.utils.module_loading import import_string
from msgspec.structs import replace

from ...core.answers import NOTHING, Answer
from ...core.bridge import drive
from ...core.engine import Engine, Opened
from ...core.factors import Factor
from ...core.ids import is_session_id
from ...core.record import EndReason
from ...core.requests import Facts, no_headers
from ...core.session import Keep, Session
from ...errors import DataError, SessionClosed
from .doors import async_sessions, sessions

EXPIRY: Final = "_session_expiry"
_CLAIM: Final = "_sessile_claim"
_SWEEP: Final = 1000
# There is no browser: nothing that is done here is activity of a user, or the context of one.
_NO_REQUEST: Final = Facts("GET", "https", "localhost", "/", "", "", no_headers, True)


class DjangoSession(Session, SessionBase):  # type: ignore[misc]  # the stubs take SessionBase for a dict
    """Be one request's session: Sessile's, with Django's methods."""

    # What `save()` stored in the midst of the request, for the response to tell.
    told: Answer = NOTHING
    # Whether `flush` and `cycle_key` are carried out at once, because no response follows.
    _at_once: ClassVar[bool] = False
    _said_modified = False

    def __bool__(self) -> bool:
        # `if request.session` asks whether there is one: Django's have no length.
        return True

    def __setitem__(self, key: Any, value: Any) -> None:
        # As JSON did.
        super().__setitem__(str(key) if type(key) is int else key, value)

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def session_key(self) -> str | None:
        """Return the public id, None while nothing is stored."""
        return self.id

    @property  # type: ignore[misc]
    def _session_key(self) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.session_key

    @property
    def _session(self) -> DjangoSession:
        return self

    async def _aget_session(self, no_load: bool = False) -> Any:  # noqa: FBT001, FBT002 - the base class's
        self.accessed = True
        return self

    @property
    def serializer(self) -> Any:
        """Return Django's serializer, for `encode` and `decode`; what is stored needs none."""
        return import_string(settings.SESSION_SERIALIZER)

    @property
    def modified(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Tell whether something changed, nested changes included; setting it is never needed."""
        if self._said_modified or self.intent is not None or self.signed_out:
            return True
        if self.is_untouched:
            return False
        try:
            return any(self.changes())
        except DataError:
            return True

    @modified.setter
    def modified(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._said_modified = value

    def is_empty(self) -> bool:
        """Tell whether nothing is stored and there is nothing to store."""
        return self.session_key is None and not self._live and not self._raw

    # -- who -----------------------------------------------------------------------------------------------------------

    def login(
        self, user_id: str | int | object, *, factor: str = "password", keep: Keep | None = None, pending: bool = False
    ) -> None:
        """Sign a user in: new token, new id, the old ones dead (R25).

        `user_id` may be a user of the project's model: then `request.user` is that user, as soon as no factor is due.
        """
        user: Any = user_id
        is_model = hasattr(user, "_meta")
        name = user._meta.pk.value_to_string(user) if is_model else user
        super().login(name, factor=factor, keep=keep, pending=pending)
        self.pop(_CLAIM, None)
        # Whoever knew the CSRF token of the visitor must not know the user's (R23).
        self.pop(CSRF_SESSION_KEY, None)
        if is_model:
            self[_CLAIM] = {
                "_auth_user_id": name,
                "_auth_user_backend": getattr(user, "backend", None) or settings.AUTHENTICATION_BACKENDS[0],
                "_auth_user_hash": user.get_session_auth_hash(),
            }
            self._claim()

    def add_factor(self, factor: str, *, complete: bool = True) -> None:
        """Record that the session's user proved a further factor: new token, absolute timeout reset (R35, R88)."""
        super().add_factor(factor, complete=complete)
        self._claim()

    def _claim(self) -> None:
        """Let `contrib.auth` see who signed in, as soon as no factor is due (invariant 5)."""
        if _CLAIM in self and self.is_authenticated:
            self.update(self.pop(_CLAIM))

    def proved(self, factor: str) -> None:
        """Take `contrib.auth.login` for a proof; of the same user again, it gives a new token (R25, R35)."""
        control = self.control
        if control is None or control.user is None:
            return
        if self.intent == "sign-in":
            if self.factor is not None and self.factor.name == "application":
                self.factor = Factor(factor, self.now)
                self._control = replace(control, factors=(self.factor,))
        elif self.intent is None:
            # A factor that is still due stays due: only `add_factor` completes a sign-in (invariant 5).
            self.add_factor(factor, complete=False)

    # -- how long ------------------------------------------------------------------------------------------------------

    def get_session_cookie_age(self) -> int:
        """Return for how many seconds the policy lets an unused session live."""
        return int(self._rules.policy.idle)

    def get_expire_at_browser_close(self) -> bool:
        """Tell whether the session ends when the browser closes."""
        expiry = self.get(EXPIRY)
        return sessions().engine.cookie.max_age is None if expiry is None else bool(expiry == 0)

    async def aget_expire_at_browser_close(self) -> bool:
        """Tell whether the session ends when the browser closes."""
        await self._aget_session()
        return self.get_expire_at_browser_close()

    def outlived(self) -> bool:
        """Tell whether `set_expiry` has ended this session; to ask is no access."""
        if self.base is None or EXPIRY not in self._raw:
            return False
        expiry = self._decoded(EXPIRY)
        late = self.now - self._rules.policy.tolerance
        if isinstance(expiry, str):
            try:
                return late > dt.datetime.fromisoformat(expiry).timestamp()
            except (ValueError, OverflowError):
                return False
        return isinstance(expiry, int | float) and expiry != 0 and late > self.base.seen_at + expiry

    def nobody(self, reason: EndReason) -> DjangoSession:
        """Return what the request has in place of this session, which is over."""
        nobody = DjangoSession(self._rules)
        nobody.opened, nobody.ended = self.opened, reason
        return nobody

    # -- ending and renewing -------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """End the session: its data is gone, its token dead for every copy (R61)."""
        self.logout()
        if self._at_once:
            drive(self.settle(sessions().engine))

    async def aflush(self) -> None:
        """See `flush`."""
        await self._aget_session()
        self.logout()
        if self._at_once:
            await self.settle(async_sessions().engine)

    def cycle_key(self) -> None:
        """Give the session a new token and id, and keep its data; one that is not stored has neither."""
        self.rotate()
        if self._at_once and self.intent is not None:
            drive(self.settle(sessions().engine))

    async def acycle_key(self) -> None:
        """See `cycle_key`."""
        await self._aget_session()
        self.rotate()
        if self._at_once and self.intent is not None:
            await self.settle(async_sessions().engine)

    def delete(self, session_key: str | None = None) -> None:
        """End this session, or the one of that public id or token."""
        if session_key is None or session_key == self.session_key:
            self.flush()
        else:
            drive(_end(sessions().engine, session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        """See `delete`."""
        if session_key is None or session_key == self.session_key:
            await self.aflush()
        else:
            await _end(async_sessions().engine, session_key)

    # -- storing -------------------------------------------------------------------------------------------------------

    def save(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's
        """Store the session now, even an empty one.

        Raises:
            CreateError: `must_create`, and it is stored already.
            UpdateError: it was ended meanwhile.
            StoreError: the store failed.
        """
        self.accessed = True
        self._insist(must_create=must_create)
        drive(self.settle(sessions().engine))

    async def asave(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's
        """See `save`."""
        await self._aget_session()
        self._insist(must_create=must_create)
        await self.settle(async_sessions().engine)

    def create(self) -> None:
        """Store the session now under a new key; one that was stored before leaves its old one behind, dead."""
        self.rotate()
        self.save()

    async def acreate(self) -> None:
        """See `create`."""
        await self._aget_session()
        self.rotate()
        await self.asave()

    def _insist(self, *, must_create: bool) -> None:
        if must_create and self.base is not None:
            raise CreateError
        self.insist = self.base is None

    async def settle(self, engine: Engine) -> None:
        """Commit what was done so far, and go on with the session as it is stored then."""
        if self.closed:
            raise SessionClosed
        opened, before, was_stored = self.opened, self.id, self.base is not None and not self.signed_out
        facts: Facts = opened.facts if isinstance(opened, Opened) else opened()
        is_late = isinstance(opened, Opened) and not opened.storable
        answer = await engine.commit(self)
        told = self.told = joined(self.told, answer)
        # Ended by another request before this one could: that one's browser may hold a newer cookie by now.
        is_late = is_late or (self.signed_out and self.base is not None and answer.cookie is None)
        if self.id is None:
            facts = replace(facts, cookie="")
        elif self.id != before and answer.cookie is not None:
            facts = replace(facts, cookie=answer.cookie.partition(";")[0])
        # With the same id, what the browser has is what counts: a successor is not confirmed until it comes back.
        now = await engine.load(facts, DjangoSession)
        if is_late and now.base is None:
            now.opened.storable, now.ended = False, self.ended
        self._become(now)
        self.told = told
        if was_stored and now.base is None:
            raise UpdateError

    def _become(self, other: Session) -> None:
        vars(self).clear()
        vars(self).update(vars(other))
        self.accessed = True

    # -- looking -------------------------------------------------------------------------------------------------------

    def load(self) -> dict[str, Any]:
        """Return the data as a dict."""
        return dict(self)

    async def aload(self) -> dict[str, Any]:
        """See `load`."""
        return dict(await self._aget_session())

    def exists(self, session_key: str) -> bool:
        """Tell whether a session lives, by its public id or its token."""
        return drive(_exists(sessions().engine, session_key))

    async def aexists(self, session_key: str) -> bool:
        """See `exists`."""
        return await _exists(async_sessions().engine, session_key)

    @classmethod
    def clear_expired(cls) -> None:
        """Remove what has expired; it also happens by itself."""
        while sessions().sweep(_SWEEP) >= _SWEEP:
            pass

    @classmethod
    async def aclear_expired(cls) -> None:
        """See `clear_expired`."""
        while await async_sessions().sweep(_SWEEP) >= _SWEEP:
            pass


class SessionStore(DjangoSession):
    """Be a session outside of any request: the one that `session_key`, a token, opens, or a new one.

    It is loaded when it is first looked at. A public id opens nothing: it is no credential.
    """

    _at_once = True
    _is_loaded = True
    _token: str | None = None
    _was_accessed = False

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(sessions().engine.rules)
        self.opened = _no_request
        if session_key is not None:
            self._token, self._is_loaded = session_key, False

    @property
    def session_key(self) -> str | None:
        """Return the token: outside a request there is no cookie that could hold it."""
        return self._token if self.base is not None or not self._is_loaded else None

    @property
    def id(self) -> str | None:
        """Return the public id, None while nothing is stored."""
        self.accessed = True
        found: str | None = vars(self)["id"]
        return found

    @id.setter  # noqa: A003 - the name of Session's
    def id(self, value: str | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        vars(self)["id"] = value

    @property
    def is_new(self) -> bool:
        """Tell whether nothing is stored yet."""
        self.accessed = True
        return self.base is None

    @property
    def accessed(self) -> bool:
        """Tell whether it was looked at."""
        return self._was_accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if value and not self._is_loaded:
            self._become(drive(_open(sessions().engine, self._token)))
        self._was_accessed = value

    async def _aget_session(self, no_load: bool = False) -> Any:  # noqa: FBT001, FBT002 - the base class's
        if not self._is_loaded:
            self._become(await _open(async_sessions().engine, self._token))
        self.accessed = True
        return self

    def _become(self, other: Session) -> None:
        facts: Facts = other.opened.facts
        super()._become(other)
        if other.base is None:
            # What ended a moment ago must not keep a script from beginning anew: no newer cookie is at stake.
            self.opened = _no_request
        else:
            self._token = facts.cookie.partition("=")[2]


async def open_session(engine: Engine, facts: Facts) -> DjangoSession:
    """Open a session, and end it if `set_expiry` has."""
    session = cast("DjangoSession", await engine.load(facts, DjangoSession))
    return await expired(engine, session) if session.outlived() else session


async def expired(engine: Engine, session: DjangoSession) -> DjangoSession:
    """End a session that is over, for good, and return what takes its place."""
    if session.id is not None:
        await engine.end(session.id, EndReason.IDLE)
    return session.nobody(EndReason.IDLE)


async def _open(engine: Engine, token: str | None) -> DjangoSession:
    return await open_session(engine, replace(_NO_REQUEST, cookie=f"{engine.cookie.name}={token}"))


async def _exists(engine: Engine, key: str) -> bool:
    return await engine.is_alive(key) if is_session_id(key) else (await _open(engine, key)).base is not None


async def _end(engine: Engine, key: str) -> None:
    found = key if is_session_id(key) else (await _open(engine, key)).id
    if found is not None:
        await engine.end(found, EndReason.ADMIN)


def _no_request() -> Facts:
    return _NO_REQUEST


def joined(first: Answer, second: Answer) -> Answer:
    """Return what a response must carry that tells of two commits; of their cookies, the later one is valid."""
    clear = first.clear_site_data or second.clear_site_data
    if second.cookie is not None and second.clear_site_data is None and clear is not None:
        # The first signed out, the second began anew: its cookie must not be cleared with the old one.
        clear = ", ".join(kind for kind in clear.split(", ") if kind != '"cookies"') or None
    return Answer(
        cookie=second.cookie or first.cookie,
        vary=first.vary or second.vary,
        carries=first.carries or second.carries,
        clear_site_data=clear,
    )
