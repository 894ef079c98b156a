"""The middleware: opens the session before the view, commits it when the response is there, sync and async.

    step             what happens                                            if it fails
    guard            an unsafe request from another site is refused          403
    load             the cookie's session is opened, once                    503: the view is never called
    own endpoints    <prefix>/session.js, status, extend, logout             -
    view             `request.session`                                       StepUpRequired: redirect, 401 or 403
    commit           unless the status is 500 or more                        503, 403, 409 in place of the response

A streaming response is committed before its first chunk; the session is frozen from then on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from asgiref.sync import iscoroutinefunction
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ...core.answers import Answer
from ...core.crosssite import SAFE_METHODS
from ...core.requests import Facts
from ...core.session import Session
from ...errors import SessileError, StoreError
from .. import replies
from ..environ import read_request
from .doors import doors
from .store import DjangoSession, SessionStore

_SERVER_ERROR: Final = 500
_SCHEME: Final = "wsgi.url_scheme"


class SessionMiddleware(DjangosMiddleware):
    """Give Django's requests their sessions; the base class is there for the checks of others, the admin's for one."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        doors()  # wrong settings are to fail at start
        self._is_async = iscoroutinefunction(get_response)

    def __call__(self, request: HttpRequest) -> Any:
        """Serve one request."""
        return self._serve_async(request) if self._is_async else self._serve(request)

    def _serve(self, request: HttpRequest) -> HttpResponseBase:
        facts, which, early = self._judge(request)
        if early is not None:
            return early
        try:
            core = doors().blocking.open(facts, kind=DjangoSession)
        except StoreError as error:
            return self._refusal(error, facts)
        store = self._enter(request, core, facts)
        response = self._own(which, facts, core) if which else cast(HttpResponseBase, self.get_response(request))
        if response.status_code >= _SERVER_ERROR:
            return response
        try:
            answer = doors().blocking.commit(store.core)
        except SessileError as error:
            return self._refusal(error, facts)
        return _finish(response, [*store.answers, answer])

    async def _serve_async(self, request: HttpRequest) -> HttpResponseBase:
        facts, which, early = self._judge(request)
        if early is not None:
            return early
        try:
            core = await doors().asynchronous.open(facts, kind=DjangoSession)
        except StoreError as error:
            return self._refusal(error, facts)
        store = self._enter(request, core, facts)
        if which:
            response = self._own(which, facts, core)
        else:
            response = await cast(Awaitable[HttpResponseBase], self.get_response(request))
        if response.status_code >= _SERVER_ERROR:
            return response
        try:
            core = cast(Session, await store._aget_session())  # noqa: SLF001
            answer = await doors().asynchronous.commit(core)
        except SessileError as error:
            return self._refusal(error, facts)
        return _finish(response, [*store.answers, answer])

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer what a view raises to refuse a session."""
        if not isinstance(exception, SessileError):
            return None
        facts, _ = self._facts(request)
        reply = replies.refusal(exception, facts, doors().pages)
        return None if reply is None else _response(reply)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _facts(self, request: HttpRequest) -> tuple[Facts, replies.Endpoint | None]:
        meta: dict[str, Any] = request.META
        scheme = request.scheme or "http"
        if meta.get(_SCHEME) != scheme:
            meta = {**meta, _SCHEME: scheme}
        opened = doors()
        return read_request(meta, opened.prefix, opened.passive_paths)

    def _judge(self, request: HttpRequest) -> tuple[Facts, replies.Endpoint | None, HttpResponse | None]:
        facts, which = self._facts(request)
        door = doors().blocking
        if facts.method not in SAFE_METHODS and door.guard.refuses(facts, door.engine.client(facts)):
            door.engine.tell_cross_site(facts)
            return facts, which, _response(replies.cross_site())
        if which == "session.js":
            return facts, which, _response(replies.serve(which, facts, Session(door.engine.rules), doors().pages))
        return facts, which, None

    def _enter(self, request: HttpRequest, core: Session, facts: Facts) -> SessionStore:
        store = SessionStore.of_request(core, facts)
        if core.base is not None and "_session_expiry" in core and store.get_expiry_age(modification=None) <= 0:
            core.logout()
        core.accessed = False
        request.session = store
        return store

    def _own(self, which: replies.Endpoint, facts: Facts, core: Session) -> HttpResponse:
        return _response(replies.serve(which, facts, core, doors().pages))

    def _refusal(self, error: SessileError, facts: Facts) -> HttpResponse:
        reply = replies.refusal(error, facts, doors().pages)
        if reply is None:
            raise error
        return _response(reply)


def _response(reply: replies.Reply) -> HttpResponse:
    response = HttpResponse(reply.body, status=reply.status)
    del response.headers["Content-Type"]
    for name, value in reply.headers:
        response.headers[name] = value
    return response


def _finish(response: HttpResponseBase, answers: list[Answer]) -> HttpResponseBase:
    """Put the headers of all commits of this request on the response; of cookies, the last one counts."""
    for answer in answers:
        for name, value in answer.headers(response.headers.get("Cache-Control"), response.headers.get("Vary")):
            if name == "set-cookie":
                response.cookies.load(value)
            else:
                response.headers[name] = value
    return response
