"""`SessionStore`: a session outside of any request, as scripts and `django.test.Client` use it.

What Django's own tests of session stores ask and is answered otherwise here, by design:

    Django's tests ask                                  here                              because
    an age of SESSION_COOKIE_AGE                        the policy's idle limit           Sessile decides expiry (R33)
    SESSION_EXPIRE_AT_BROWSER_CLOSE                     `CookieRules(max_age=…)`          said once (R16)
    a key of eight characters, set to `_session_key`    AttributeError: nobody sets it    it would be fixation (R25)
"""

from __future__ import annotations

from typing import Any

from ...core.bridge import drive
from ...core.requests import Facts
from ...core.session import Session
from .doors import async_sessions, sessions
from .session import DjangoSession, no_request, open_token


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
        self.opened = no_request
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
            self._become(drive(open_token(sessions().engine, self._token)))
        self._was_accessed = value

    async def _aget_session(self, no_load: bool = False) -> Any:  # noqa: FBT001, FBT002 - the base class's
        if not self._is_loaded:
            self._become(await open_token(async_sessions().engine, self._token))
        self.accessed = True
        return self

    def _become(self, other: Session) -> None:
        facts: Facts = other.opened.facts
        super()._become(other)
        if other.base is None:
            # What ended a moment ago must not keep a script from beginning anew: no newer cookie is at stake.
            self.opened = no_request
        else:
            self._token = facts.cookie.partition("=")[2]
