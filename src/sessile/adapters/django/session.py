"""`request.session`: Sessile's session, with the whole API of Django's `SessionBase`, blocking and asynchronous.

    Django's word             in a request                          on a `SessionStore` of one's own (`store`)
    session_key               the public id; it opens nothing       the token, which `django.test.Client` needs
    flush(), delete()         sign out with the response            sign out now
    cycle_key()               new token and id with the response    now
    save(), create()          now; the response has the cookie      now
    load()                    reads what is stored now              the same
    exists(k), delete(k)      of a public id or a token             the same
    modified                  True after any change, also of        the same
                              what is nested; `= False` is said
                              of what was done so far, and
                              nothing of that is dropped

`set_expiry` is kept as Django keeps it, and can only shorten what the policy grants: see `expiry`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar, Final, cast

from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.utils.module_loading import import_string
from msgspec.structs import replace

from ...core.answers import NOTHING, Answer
from ...core.bridge import drive
from ...core.engine import Engine, Opened
from ...core.ids import is_session_id
from ...core.record import EndReason
from ...core.requests import Facts, no_headers
from ...core.session import Session
from ...errors import DataError, SessionClosed
from .doors import async_sessions, sessions
from .expiry import EXPIRY, is_over
from .signin import SignsIn
from .told import joined

_SWEEP: Final = 1000
# There is no browser: nothing that is done here is activity of a user, or the context of one.
_NO_REQUEST: Final = Facts("GET", "https", "localhost", "/", "", "", no_headers, True)


class DjangoSession(SignsIn, SessionBase):  # type: ignore[misc]  # the stubs take SessionBase for a dict
    """Be one request's session: Sessile's, with Django's methods."""

    # What `save()` stored in the midst of the request, for the response to tell.
    told: Answer = NOTHING
    # Whether `flush` and `cycle_key` are carried out at once, because no response follows.
    _at_once: ClassVar[bool] = False
    # What was said of `modified`, or follows from a call; and what `modified = False` was said of.
    _said_modified = False
    _unsaid: tuple[dict[str, bytes], frozenset[str]] = ({}, frozenset())

    def __bool__(self) -> bool:
        # `if request.session` asks whether there is one: Django's have no length.
        return True

    def __setitem__(self, key: Any, value: Any) -> None:
        # As JSON did.
        super().__setitem__(str(key) if type(key) is int else key, value)
        self._said_modified = True

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._said_modified = True

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
        """Tell whether something changed, nested changes included; what is stored does not depend on it."""
        if self._said_modified or self.intent is not None or self.signed_out:
            return True
        if self.is_untouched:
            return False
        try:
            return self.changes() != self._unsaid
        except DataError:
            return True

    @modified.setter
    def modified(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._said_modified = bool(value)
        if not value and not self.is_untouched:
            # A value that cannot be stored is named by the commit.
            with suppress(DataError):
                self._unsaid = self.changes()

    def is_empty(self) -> bool:
        """Tell whether nothing is stored and there is nothing to store."""
        return self.session_key is None and not self._live and not self._raw

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
        tolerance = self._rules.policy.tolerance
        return is_over(self._decoded(EXPIRY), seen_at=self.base.seen_at, now=self.now, tolerance=tolerance)

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
            self._said_modified = True

    async def aflush(self) -> None:
        """See `flush`."""
        await self._aget_session()
        self.logout()
        if self._at_once:
            await self.settle(async_sessions().engine)
            self._said_modified = True

    def cycle_key(self) -> None:
        """Give the session a new token and id, and keep its data; one that is not stored has neither."""
        self.rotate()
        if self._at_once and self.intent is not None:
            drive(self.settle(sessions().engine))
            self._said_modified = True

    async def acycle_key(self) -> None:
        """See `cycle_key`."""
        await self._aget_session()
        self.rotate()
        if self._at_once and self.intent is not None:
            await self.settle(async_sessions().engine)
            self._said_modified = True

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
        self._said_modified = True

    async def acreate(self) -> None:
        """See `create`."""
        await self._aget_session()
        self.rotate()
        await self.asave()
        self._said_modified = True

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
        renewed = self.id != before
        facts = replace(facts, cookie="") if self.id is None else engine.after(facts, answer, renewed=renewed)
        now = await engine.load_again(self, facts, DjangoSession)
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
        """Return the data as it is stored now, without what was not stored yet; {} if nothing is."""
        self.accessed = True
        return drive(self._stored(sessions().engine))

    async def aload(self) -> dict[str, Any]:
        """See `load`."""
        await self._aget_session()
        return await self._stored(async_sessions().engine)

    async def _stored(self, engine: Engine) -> dict[str, Any]:
        if self.closed:
            raise SessionClosed
        if self.base is None:
            return {}
        if self.grant is not None:
            return dict(await engine.load_again(self, self.opened.facts, DjangoSession))
        return dict(await open_session(engine, self.opened.facts))

    def exists(self, session_key: str | None) -> bool:
        """Tell whether a session lives, by its public id or its token; under no key, there is none."""
        return drive(_is_stored(sessions().engine, session_key))

    async def aexists(self, session_key: str | None) -> bool:
        """See `exists`."""
        return await _is_stored(async_sessions().engine, session_key)

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


async def open_session(engine: Engine, facts: Facts) -> DjangoSession:
    """Open a session, and end it if `set_expiry` has."""
    session = cast("DjangoSession", await engine.load(facts, DjangoSession))
    return await expired(engine, session) if session.outlived() else session


async def expired(engine: Engine, session: DjangoSession) -> DjangoSession:
    """End a session that is over, for good, and return what takes its place."""
    await engine.expire(session)
    return session.nobody(EndReason.IDLE)


async def open_token(engine: Engine, token: str | None) -> DjangoSession:
    """Open the session of a token, outside of any request."""
    return await open_session(engine, replace(_NO_REQUEST, cookie=f"{engine.cookie.name}={token}"))


async def _is_stored(engine: Engine, key: str | None) -> bool:
    if not key:
        return False
    return await engine.is_alive(key) if is_session_id(key) else (await open_token(engine, key)).base is not None


async def _end(engine: Engine, key: str) -> None:
    found = key if is_session_id(key) else (await open_token(engine, key)).id
    if found is not None:
        await engine.end(found, EndReason.ADMIN)


def no_request() -> Facts:
    """Return the facts of no request."""
    return _NO_REQUEST
