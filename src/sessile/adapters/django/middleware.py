"""The middleware: opens the session before the view, commits it when the response is there, sync and async.

    step             what happens                                            if it fails
    guard            an unsafe request from another site is refused          403
    load             the cookie's session is opened, once                    503: the view is never called
    own endpoints    <prefix>/session.js, status, extend, logout             -
    view             `request.session`                                       StepUpRequired: redirect, 401 or 403
    commit           unless the status is 500 or more                        503, 403, 409 in place of the response

A streaming response is committed before its first chunk; the session is frozen from then on. What `save()` stored
before is told in any case, so that a new token reaches its browser.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from msgspec.structs import replace

from ...core.answers import NOTHING, Answer
from ...core.bridge import drive
from ...core.cookies import TARGETED
from ...core.crosssite import SAFE_METHODS
from ...core.requests import Facts
from ...core.session import Session
from ...core.sessions import AsyncSessions, Sessions
from ...errors import AccessRefused, SessileError, StoreError
from .. import replies
from ..environ import headers_of, is_refused, read_request
from ..messages import by_name
from .doors import Doors, doors
from .expiry import EXPIRY
from .session import DjangoSession, expired, open_session
from .told import joined

_SERVER_ERROR: Final = 500
_SCHEME: Final = "wsgi.url_scheme"
_OPENED: Final = "_sessile"


class SessionMiddleware(DjangosMiddleware):
    """Give Django's requests their sessions; the base class is there for the checks of others, the admin's for one."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        self._doors: Doors = doors()  # wrong settings fail at start
        self._engine = self._doors.blocking.engine
        self._mark = self._doors.prefix and self._doors.prefix + "/"
        self._trusts_proxy = bool(settings.SECURE_PROXY_SSL_HEADER or settings.USE_X_FORWARDED_HOST)

    def __call__(self, request: HttpRequest) -> Any:
        """Serve one request."""
        if self.async_mode:
            return self.__acall__(request)
        response = self.process_request(request)
        if response is None:
            return self.process_response(request, cast("HttpResponseBase", self.get_response(request)))
        return self.process_response(request, response)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """Serve one request on an event loop."""
        door = self._doors.asynchronous
        response: HttpResponseBase | None = None
        if not self._is_plain_visit(request):
            facts, which = self._read(request)
            response = self._unopened(door, facts, which)
            if response is None:
                try:
                    self._enter(request, await open_session(door.engine, facts))
                except (StoreError, AccessRefused) as error:
                    return self._refusal(error, facts)
                response = self._own(request, facts, which)
        if response is None:
            response = await cast("Awaitable[HttpResponseBase]", self.get_response(request))
        session = self._left(request)
        if session is None:
            return response
        if session.base is not None and response.streaming and not isinstance(response, FileResponse):
            session.accessed = True  # what makes the rest may look at it when the headers are gone (R19)
        if response.status_code >= _SERVER_ERROR:
            return _kept_out(request, _untold(session, response))
        try:
            answer = door.engine.commit_unchanged(session) or await door.commit(session)
        except SessileError as error:
            return self._replaced(request, session, response, error)
        return _kept_out(request, _told(session, response, answer))

    def process_request(self, request: HttpRequest) -> HttpResponse | None:  # type: ignore[override]
        """Open the session; return a response for what must not pass, and for Sessile's own endpoints."""
        if self._is_plain_visit(request):
            return None
        facts, which = self._read(request)
        response = self._unopened(self._doors.blocking, facts, which)
        if response is not None:
            return response
        try:
            session = cast("DjangoSession", drive(self._engine.load(facts, DjangoSession)))
            if session.base is not None and EXPIRY in session.base.data and session.outlived():
                session = drive(expired(self._engine, session))
        except (StoreError, AccessRefused) as error:
            return self._refusal(error, facts)
        self._enter(request, session)
        return self._own(request, facts, which)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:  # type: ignore[override]
        """Commit the session, and tell the browser; if the commit fails, its error takes the response's place."""
        session = self._left(request)
        if session is None:
            return response
        if session.base is not None and response.streaming and not isinstance(response, FileResponse):
            session.accessed = True  # what makes the rest may look at it when the headers are gone (R19)
        if response.status_code >= _SERVER_ERROR:
            return _kept_out(request, _untold(session, response))
        try:
            answer = self._engine.commit_unchanged(session) or self._doors.blocking.commit(session)
        except SessileError as error:
            return self._replaced(request, session, response, error)
        return _kept_out(request, _told(session, response, answer))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer what a view raises: a session that proves too little, or a store that failed."""
        if not isinstance(exception, SessileError):
            return None
        reply = replies.refusal(exception, self._read(request)[0], self._doors.pages)
        return None if reply is None else respond(reply, request.method)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _is_plain_visit(self, request: HttpRequest) -> bool:
        """Open the session of a visitor without a cookie, if that is all: nothing to judge, nothing to ask."""
        meta = request.META
        if (
            "HTTP_COOKIE" in meta
            or "HTTP_AUTHORIZATION" in meta
            or meta["REQUEST_METHOD"] not in SAFE_METHODS
            or (self._mark and self._mark in meta["PATH_INFO"])
        ):
            return False
        read = partial(_first, self._read, request)
        self._enter(request, cast("DjangoSession", self._engine.visitor(read, DjangoSession)))
        return True

    def _read(self, request: HttpRequest) -> tuple[Facts, replies.Endpoint | None]:
        environ: dict[str, Any] = request.META
        if _SCHEME not in environ:
            environ = _as_environ(request)
        elif not (environ["PATH_INFO"].isascii() and environ["SCRIPT_NAME"].isascii()):
            # Django has decoded them in the server's own dictionary.
            environ = {**environ, **{name: _as_wsgi(environ[name]) for name in ("PATH_INFO", "SCRIPT_NAME")}}
        facts, which = read_request(environ, self._doors.prefix, self._doors.passive_paths)
        if self._trusts_proxy:
            # The project says what its proxy may be believed.
            host = environ.get("HTTP_X_FORWARDED_HOST") if settings.USE_X_FORWARDED_HOST else None
            facts = replace(facts, scheme=request.scheme or facts.scheme, host=host or facts.host)
        return facts, which

    def _unopened(
        self, door: Sessions | AsyncSessions, facts: Facts, which: replies.Endpoint | None
    ) -> HttpResponse | None:
        """Answer what needs no session: a request that must not pass, and the script."""
        if is_refused(door, facts):
            return respond(replies.cross_site(), facts.method)
        if which == "session.js":
            return respond(replies.serve(which, facts, Session(self._engine.rules), self._doors.pages), facts.method)
        return None

    def _enter(self, request: HttpRequest, session: DjangoSession) -> None:
        request.session = session
        setattr(request, _OPENED, session)

    def _left(self, request: HttpRequest) -> DjangoSession | None:
        """Return the session to commit, once."""
        return cast("DjangoSession | None", vars(request).pop(_OPENED, None))

    def _own(self, request: HttpRequest, facts: Facts, which: replies.Endpoint | None) -> HttpResponse | None:
        if which is None:
            return None
        reply = replies.serve(which, facts, cast("DjangoSession", request.session), self._doors.pages)
        return respond(reply, facts.method)

    def _refusal(self, error: SessileError, facts: Facts) -> HttpResponse:
        reply = replies.refusal(error, facts, self._doors.pages)
        if reply is None:
            raise error
        return respond(reply, facts.method)

    def _replaced(
        self, request: HttpRequest, session: DjangoSession, response: HttpResponseBase, error: SessileError
    ) -> HttpResponseBase:
        """Answer a failed commit; the response that must not leave is still cleaned up."""
        refusal = self._refusal(error, self._read(request)[0])
        refusal._resource_closers += response._resource_closers  # type: ignore[attr-defined]
        return _untold(session, refusal)


def respond(reply: replies.Reply, method: str | None) -> HttpResponse:
    """Make Django's response of a reply."""
    response = HttpResponse(b"" if method == "HEAD" else reply.body, status=reply.status)
    del response.headers["Content-Type"]
    for name, value in reply.headers:
        response.headers[name.title()] = value
    return response


def _untold(session: DjangoSession, response: HttpResponseBase) -> HttpResponseBase:
    """Return a response that commits nothing but was made with the session in view."""
    carries = session.accessed and session.base is not None
    session.close(session.id)
    return _told(session, response, Answer(vary=session.accessed, carries=carries, by_token=session.grant is not None))


def _kept_out(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Keep what carries a session out of the project's own cache, which in older Djangos knows no `no-store` (R19)."""
    if "no-store" in response.headers.get("Cache-Control", "") and hasattr(request, "_cache_update_cache"):
        vars(request)["_cache_update_cache"] = False
    return response


def _told(session: DjangoSession, response: HttpResponseBase, answer: Answer) -> HttpResponseBase:
    """Put the session's headers among the application's."""
    if session.told is not NOTHING:
        answer = joined(session.told, answer)
    if answer is NOTHING:
        return response
    headers = response.headers
    if answer.is_private:
        for name in [name for name in headers if name.lower() in TARGETED]:
            del headers[name]
    for name, value in headers_of(answer, headers.get("Cache-Control"), headers.get("Vary")):
        if name == "set-cookie":
            _set_cookie(response, value)
        else:
            headers[name.title()] = value
    return response


def _set_cookie(response: HttpResponseBase, line: str) -> None:
    """Set a cookie with exactly the attributes of this Set-Cookie value: the jar of a response has no raw ones."""
    pair, *attributes = line.split("; ")
    name, _, value = pair.partition("=")
    response.cookies.pop(name, None)
    response.cookies[name] = value
    morsel = response.cookies[name]
    morsel.set(name, value, value)
    for attribute in attributes:
        word, _, given = attribute.partition("=")
        morsel[word.lower()] = given or True


def _as_environ(request: HttpRequest) -> dict[str, Any]:
    """Return the environment of a request that came by ASGI, as WSGI servers tell it."""
    scope: dict[str, Any] = getattr(request, "scope", {})
    environ: dict[str, Any] = {**request.META, _SCHEME: scope.get("scheme", "http")}
    environ["PATH_INFO"] = _as_wsgi(environ["PATH_INFO"])
    cookie = by_name(scope.get("headers", ())).get(b"cookie")
    if cookie is not None:
        environ["HTTP_COOKIE"] = cookie.decode("latin-1")
    return environ


def _as_wsgi(text: str) -> str:
    """Return a path as WSGI servers tell it: its bytes, read as Latin-1."""
    return text.encode("utf-8", "replace").decode("latin-1")


def _first(read: Callable[[HttpRequest], tuple[Facts, Any]], request: HttpRequest) -> Facts:
    return read(request)[0]
