"""What Flask calls: load when the context is pushed, answer or pass before all functions, commit as the last.

moment                       Flask's hook                 what happens
the context is pushed        `open_session`               guard, own endpoints without a session, load
before anything of the app   `preprocess_request`         a request that must not pass ends here, through Flask; so
                                                          do Sessile's own endpoints
after all `after_request`    `save_session`               commit; a failed one takes the response's place
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Request, Response, request
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import HTTPException

from ...core.answers import NOTHING, Answer
from ...core.bridge import drive
from ...core.cookies import TARGETED
from ...core.sessions import Sessions
from ...errors import (
    AccessRefused,
    ConflictError,
    SessileError,
    SessionGone,
    StepUpRequired,
    StoreError,
    TooManySessions,
)
from .. import replies
from ..environ import ENVIRON_KEY, headers_of, is_refused, read_request, said_of_caches
from ..replies import Pages, Reply
from .session import FlaskSession, Unopened

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIEnvironment

    from flask.typing import ResponseReturnValue
    from werkzeug.datastructures import Headers
    from werkzeug.local import LocalProxy

# Answered by an error handler that the application may replace with its own.
HANDLED = (AccessRefused, StepUpRequired, StoreError, TooManySessions, ConflictError, SessionGone)


class Answered(HTTPException):
    """Carry a response past everything of the application: Flask sends what has a response and no status code."""

    def __init__(self, response: Response) -> None:
        super().__init__(response=response)


class SessileInterface(SessionInterface):
    """Put sessions behind `flask.session`."""

    def __init__(self, sessions: Sessions, *, pages: Pages, prefix: str | None, passive_paths: tuple[str, ...]) -> None:
        self.sessions = sessions
        self._pages = pages
        self._prefix = prefix
        self._passive_paths = passive_paths

    # -- the request ---------------------------------------------------------------------------------------------------

    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        """Open the request's session; what must not pass gets a stand-in, which the first function refuses."""
        environ = request.environ
        environ[ENVIRON_KEY] = session = self._open(environ)
        return session

    def _open(self, environ: WSGIEnvironment) -> FlaskSession:
        sessions = self.sessions
        facts, which = read_request(environ, self._prefix, self._passive_paths)
        rules = sessions.engine.rules
        if is_refused(sessions, facts):
            return Unopened.because(rules, replies.cross_site())
        if which == "session.js":
            return Unopened.because(rules, replies.serve(which, facts, FlaskSession(rules), self._pages))
        try:
            session = cast("FlaskSession", drive(sessions.engine.load(facts, FlaskSession)))
        except StoreError as error:
            return Unopened.because(rules, error)
        except AccessRefused as error:
            reply = replies.refusal(error, facts, self._pages)
            assert reply is not None
            return Unopened.because(rules, reply)
        if which is not None:
            session.asks_for = which
        return session

    def first(self, preprocess: Callable[..., ResponseReturnValue | None]) -> Callable[..., ResponseReturnValue | None]:
        """Return Flask's `preprocess_request` with what must come before anything of the application.

        One step in front, and no hook: Flask looks at each hook again in every request, which costs more than all else
        that is done here.
        """

        def preprocess_request(*context: Any) -> ResponseReturnValue | None:
            # Not `flask.session`: looking through the proxy counts as access, and would add Vary to every response.
            session = present().get(ENVIRON_KEY)
            if type(session) is FlaskSession:
                session.served = True
                if session.asks_for is not None:
                    return respond(replies.serve(session.asks_for, session.opened.facts, session, self._pages))
            elif type(session) is Unopened:
                raise Answered(respond(session.refuse()))
            return preprocess(*context)

        return preprocess_request

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Commit, and put the headers on the response; if the commit fails, the response is replaced in place."""
        if not isinstance(session, FlaskSession):
            return
        if session.base is not None and response.is_streamed and not response.direct_passthrough:
            session.accessed = True  # what makes the rest may look at it when the headers are gone (R19)
        try:
            answer = self.sessions.engine.commit_unchanged(session) or self.sessions.commit(session)
        except SessileError as error:
            session.forsake()
            if not session.served or not isinstance(error, HANDLED):
                raise
            become(response, app.make_response(app.handle_user_exception(error)))
            return
        # The request outlives its response until the collector finds it; the session need not.
        present().pop(ENVIRON_KEY, None)
        if answer is not NOTHING:
            add_headers(response.headers, answer)

    def handle(self, error: Exception) -> Response:
        """Answer one of `HANDLED`; an application registers its own handler to answer otherwise."""
        session = request.environ.get(ENVIRON_KEY)
        opened = session.opened if isinstance(session, FlaskSession) else None
        facts = read_request(request.environ, None, ())[0] if opened is None else opened.facts
        reply = replies.refusal(error, facts, self._pages) if isinstance(error, SessileError) else None
        if reply is None:
            raise error
        return respond(reply)

    def is_null_session(self, obj: object) -> bool:
        """Tell whether there is no session to commit: none was opened."""
        return obj is None or type(obj) is Unopened

    # -- what extensions ask -------------------------------------------------------------------------------------------

    def get_cookie_name(self, app: Flask) -> str:
        """Return the cookie's name."""
        return self.sessions.engine.cookie.name

    def get_cookie_domain(self, app: Flask) -> str | None:
        """Return the cookie's Domain, None for this host alone."""
        return self.sessions.engine.cookie.domain

    def get_cookie_path(self, app: Flask) -> str:
        """Return the cookie's Path."""
        return self.sessions.engine.cookie.path

    def get_cookie_httponly(self, app: Flask) -> bool:
        """Return True: no script reads the cookie."""
        return True

    def get_cookie_secure(self, app: Flask) -> bool:
        """Return True: the cookie travels encrypted."""
        return True

    def get_cookie_samesite(self, app: Flask) -> str | None:
        """Return the cookie's SameSite."""
        return self.sessions.engine.cookie.samesite

    def get_cookie_partitioned(self, app: Flask) -> bool:
        """Return False: the cookie is not partitioned."""
        return False

    def get_expiration_time(self, app: Flask, session: SessionMixin) -> dt.datetime | None:
        """Return when the browser drops the cookie, None when it closes: `CookieRules(max_age=…)` says so."""
        max_age = self.sessions.engine.cookie.max_age
        return None if max_age is None else dt.datetime.now(dt.UTC) + dt.timedelta(seconds=max_age)

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        """Return False: a cookie is set when a session begins, signs in or rotates, and by the commit alone."""
        return False


def present() -> WSGIEnvironment:
    """Return the environment of the request that is served, by the shortest way."""
    return cast("LocalProxy[Request]", request)._get_current_object().environ  # pyright: ignore[reportPrivateUsage]


def respond(reply: Reply) -> Response:
    """Make Flask's response of a reply."""
    response = Response(reply.body, reply.status, list(reply.headers))
    if not any(name == "content-type" for name, _ in reply.headers):
        del response.headers["content-type"]
    return response


def become(response: Response, other: Response) -> None:
    """Put `other` in the place of a response that must not leave, cookies and all; its own clean-ups still run."""
    close = getattr(response.response, "close", None)
    if close is not None:
        close()
    response.status = other.status
    response.headers = other.headers
    response.response = other.response
    response.direct_passthrough = other.direct_passthrough
    response.call_on_close(other.close)


def add_headers(headers: Headers, answer: Answer) -> None:
    """Put the session's headers among the application's."""
    cache, vary, targeted = said_of_caches(headers)
    if targeted and answer.is_private:
        for name in TARGETED:
            headers.remove(name)
    for name, value in headers_of(answer, cache, vary):
        if (name == "vary" and vary is not None) or (name == "cache-control" and cache is not None):
            headers.set(name, value)
        else:
            headers.add(name, value)
