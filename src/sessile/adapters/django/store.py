"""Django's session object around Sessile's: the whole API of `SessionBase`, and Sessile's additions.

made by             it stands for                         `session_key`     `save()`
the middleware      the request's session                 the public id     commits now; the cookie goes out later
anybody else        what the token names, or a new one    the token         commits now
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.base import CreateError, SessionBase
from msgspec.structs import replace

from ...core.answers import Answer
from ...core.factors import Factor
from ...core.ids import is_session_id
from ...core.requests import Facts, no_headers
from ...core.session import Session
from .doors import doors

if TYPE_CHECKING:
    from ...core.session import Keep

_SWEEP: Final = 1000


class DjangoSession(Session):
    """Be a session whose keys may be whole numbers, which become text as they did in JSON."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(str(key) if type(key) is int else key, value)

    def proved(self, factor: str) -> None:
        """Take `contrib.auth.login()` as a proof of who the user is; of the same user again, it renews the token (R25)."""
        control = self.control
        if control is None or control.user is None:
            return
        if self.intent == "sign-in":
            self.factor = Factor(factor, self.now)
            self._control = replace(control, factors=(self.factor,))
        elif self.intent is None or self.intent == "rotate":
            self.add_factor(factor, complete=False)


class SessionStore(SessionBase):
    """Be `request.session`, or a session that is opened by its token."""

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._core: Session | None = None
        self._token: str | None = session_key if isinstance(session_key, str) else None
        self._request_facts: Facts | None = None
        self.answers: list[Answer] = []

    @classmethod
    def of_request(cls, core: Session, facts: Facts) -> Self:
        """Return the store of a request whose session is open."""
        made = cls()
        made._core, made._request_facts = core, facts
        return made

    # -- the session behind it -----------------------------------------------------------------------------------------

    @property
    def core(self) -> Session:
        """Return Sessile's session."""
        if self._core is None:
            self._core = doors().blocking.open(self._facts(), kind=DjangoSession)
        return self._core

    def _get_session(self, no_load: bool = False) -> Any:  # noqa: FBT001, FBT002
        self.accessed = True
        return self.core

    async def _aget_session(self, no_load: bool = False) -> Any:  # noqa: FBT001, FBT002
        self.accessed = True
        if self._core is None:
            await sync_to_async(lambda: self.core)()
        return self._core

    _session = property(_get_session)
    _session_cache = property(_get_session)

    @property
    def session_key(self) -> str | None:
        """Return the public id; outside a request, the token."""
        return self.core.id if self._request_facts is not None else self._token

    @property
    def _session_key(self) -> str | None:
        return self.session_key if "_core" in self.__dict__ else None

    @_session_key.setter
    def _session_key(self, value: str | None) -> None:
        """Take no notice: only a commit gives a session another key."""

    def _facts(self) -> Facts:
        name = doors().blocking.engine.cookie.name
        cookie = "" if self._token is None else f"{name}={self._token}"
        if self._request_facts is None:
            return Facts("GET", "https", "localhost", "/", "", cookie, no_headers)
        seen = self._request_facts
        return Facts(
            seen.method, seen.scheme, seen.host, seen.path, seen.peer, cookie or seen.cookie, seen.header, seen.passive
        )

    def _commit(self) -> None:
        """Commit what was done so far, and go on with the session as it is stored then."""
        answer = doors().blocking.commit(self.core)
        self.answers.append(answer)
        if answer.cookie is not None:
            value = answer.cookie.partition(";")[0].partition("=")[2]
            self._token = value or None
        self._core = None

    # -- what Django's engines implement -------------------------------------------------------------------------------

    def exists(self, session_key: str) -> bool:
        """Tell whether a session lives: by its id within the application, by its token otherwise."""
        if is_session_id(session_key):
            page = doors().blocking
            return page.is_alive(session_key)
        return SessionStore(session_key).core.base is not None

    def create(self) -> None:
        """Begin a new, empty session that is stored at once."""
        self._token = None
        self._core = doors().blocking.open(
            Facts("GET", "https", "localhost", "/", "", "", no_headers), kind=DjangoSession
        )
        self.save(must_create=True)

    def save(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002
        """Store the session now.

        Raises:
            CreateError: `must_create`, and it is stored already.
        """
        core = self.core
        if must_create and core.base is not None:
            raise CreateError
        core.accessed = True
        core.insist = core.base is None and not core.signed_out
        self._commit()
        self.modified = False

    def delete(self, session_key: str | None = None) -> None:
        """End the session, or the one of that id or token."""
        if session_key is None or session_key == self.session_key:
            self.flush()
        elif is_session_id(session_key):
            doors().blocking.end(session_key)
        else:
            SessionStore(session_key).flush()

    def load(self) -> dict[str, Any]:
        """Return the data as a dict."""
        return dict(self.core)

    def clear(self) -> None:
        """Remove all data; who was signed in no longer is."""
        self.core.clear()
        self.accessed = self.modified = True

    def flush(self) -> None:
        """End the session: at the end of the request, or at once outside of one."""
        self.core.logout()
        self.modified = True
        if self._request_facts is None:
            self._commit()
            self._token = None

    def cycle_key(self) -> None:
        """Give the session a new token and id, and keep its data."""
        self.core.rotate()
        self.modified = True
        if self._request_facts is None and self.core.base is not None:
            self._commit()

    def is_empty(self) -> bool:
        """Tell whether there is neither a stored session nor data."""
        return self.core.base is None and not len(self.core)

    def get_session_cookie_age(self) -> int:
        """Return the policy's absolute limit in seconds: nothing lives longer."""
        return int(doors().blocking.engine.policy.absolute)

    @classmethod
    def clear_expired(cls) -> None:
        """Remove what has expired; it also happens by itself."""
        while doors().blocking.sweep(_SWEEP) >= _SWEEP:
            pass

    async def aexists(self, session_key: str) -> bool:
        """See `exists`."""
        return await _thread(self.exists, session_key)

    async def acreate(self) -> None:
        """See `create`."""
        await _thread(self.create)

    async def asave(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002
        """See `save`."""
        await _thread(self.save, must_create)

    async def adelete(self, session_key: str | None = None) -> None:
        """See `delete`."""
        await _thread(self.delete, session_key)

    async def aload(self) -> dict[str, Any]:
        """See `load`."""
        return await _thread(self.load)

    async def aflush(self) -> None:
        """See `flush`."""
        await _thread(self.flush)

    async def acycle_key(self) -> None:
        """See `cycle_key`."""
        await _thread(self.cycle_key)

    @classmethod
    async def aclear_expired(cls) -> None:
        """See `clear_expired`."""
        await _thread(cls.clear_expired)

    # -- Sessile's additions -------------------------------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        """Return the public id."""
        return self.core.id

    @property
    def kind(self) -> str:
        """Tell what the session is: anonymous, pending or authenticated."""
        return self.core.kind

    @property
    def user_id(self) -> str | None:
        """Return the user who is signed in completely."""
        return self.core.user_id

    @property
    def pending_user_id(self) -> str | None:
        """Return the user whose sign-in waits for another factor."""
        return self.core.pending_user_id

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Return what was proved, with times."""
        return self.core.factors

    @property
    def aal(self) -> int:
        """Return the assurance level."""
        return self.core.aal

    def login(self, user_id: Any, *, factor: str = "password", keep: Keep | None = None, pending: bool = False) -> None:
        """Sign a user in without `contrib.auth`; see `Session.login`."""
        self.core.login(user_id, factor=factor, keep=keep, pending=pending)

    def add_factor(self, factor: str, *, complete: bool = True) -> None:
        """Record a further factor; see `Session.add_factor`."""
        self.core.add_factor(factor, complete=complete)

    def rotate(self) -> None:
        """Give the session a new token and id."""
        self.cycle_key()

    def logout(self, *, everywhere: bool = False) -> None:
        """End the session, or all of its user's; see `Session.logout`."""
        self.core.logout(everywhere=everywhere)

    def require(self, *, factor: str | None = None, max_age: float | None = None, aal: int | None = None) -> str:
        """Return the user id if the session proves enough; see `Session.require`."""
        return self.core.require(factor=factor, max_age=max_age, aal=aal)


async def _thread(work: Callable[..., Any], *arguments: Any) -> Any:
    return await sync_to_async(work)(*arguments)
