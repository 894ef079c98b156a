"""WSGI: one middleware that opens the session before the application and commits it before the first byte leaves.

    step                what happens                                           if it fails
    guard               an unsafe request from another site is refused         403
    load                the cookie's session is opened, once; or the token's   503, 401: the application is never called
    own endpoints       <prefix>/session.js, status, extend, logout            -
    application         `environ["sessile.session"]` is the `Session`          StepUpRequired: commit, 303, 401 or 403
    commit              at the first chunk that is not empty, or at the end    503, 403, 409 in place of the response

The application's status and headers are held back until the commit is done, so a sign-in that was not stored was never
told. An error of the application before that point commits nothing. After it the session is frozen: a change in the
midst of a stream raises `SessionClosed`. An iterable that the server sends by itself (`wsgi.file_wrapper`) is committed
when it is returned. Whatever is not sent is still closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ..core.answers import NOTHING, Answer
from ..core.requests import Facts
from ..core.session import Session
from ..core.sessions import Sessions
from ..errors import AccessRefused, SessileError, StepUpRequired, StoreError
from . import replies
from .environ import ENVIRON_KEY, check_door, is_refused, merged, read_request
from .replies import PREFIX, WITHOUT_BODY, Pages, Reply, is_inside

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

_OWNERS: Final = "sessile.sessions"
_BODILESS: Final = frozenset(map(str, WITHOUT_BODY))


class SessionMiddleware:
    """Give a WSGI application sessions.

    `sessions` is the blocking door; middlewares that are nested with the same one work as one, with another one they
    need another cookie, and another `environ_key` if both sessions are to be reached. `prefix` is where Sessile's own
    endpoints are, below where the application is mounted (None: nowhere). `login_url` and `step_up_url` are where
    pages are sent that need more than the session proves, `after_logout` is where a sign-out form lands. Requests whose
    path begins with one of `passive_paths`, or that carry `Sessile-Passive: 1`, are no activity of the user (R40).

    Raises:
        ConfigurationError: `sessions` is not the blocking door.
    """

    def __init__(
        self,
        app: WSGIApplication,
        sessions: Sessions,
        *,
        prefix: str | None = PREFIX,
        login_url: str | None = None,
        step_up_url: str | None = None,
        after_logout: str = "/",
        passive_paths: Iterable[str] = (),
        environ_key: str = ENVIRON_KEY,
    ) -> None:
        check_door(sessions)
        self._app = app
        self._sessions = sessions
        self._prefix = prefix
        self._pages = Pages(login_url, step_up_url, after_logout)
        self._passive_paths = tuple(passive_paths)
        self._key = environ_key

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        owners: tuple[Sessions, ...] = environ.get(_OWNERS, ())
        if owners and is_inside(self._sessions, owners):
            return self._app(environ, start_response)
        facts, which = read_request(environ, self._prefix, self._passive_paths)
        if is_refused(self._sessions, facts):
            return _send(replies.cross_site(), facts, start_response)
        if which == "session.js":
            # The same for everybody: no session is opened for it.
            nobody = Session(self._sessions.engine.rules)
            return _send(replies.serve(which, facts, nobody, self._pages), facts, start_response)
        try:
            session = self._sessions.open(facts)
        except (StoreError, AccessRefused) as error:
            return _refuse(error, facts, self._pages, start_response)
        if which is not None:
            reply = replies.serve(which, facts, session, self._pages)
            try:
                answer = self._sessions.commit(session)
            except SessileError as error:
                return _refuse(error, facts, self._pages, start_response)
            return _send(reply, facts, start_response, answer)
        environ[self._key] = session
        environ[_OWNERS] = (*owners, self._sessions)
        return _Exchange(self, environ, session, facts, start_response).run()

    def commit(self, session: Session, environ: WSGIEnvironment) -> Answer:
        """Commit the session, unless an adapter inside has put its own in its place and this one is as it was."""
        if environ.get(self._key) is not session and session.is_untouched:
            return NOTHING
        return self._sessions.commit(session)

    @property
    def app(self) -> WSGIApplication:
        """Return the application inside."""
        return self._app

    @property
    def pages(self) -> Pages:
        """Return where the application's own pages are."""
        return self._pages


class _Exchange:
    """Hold back one response until its session is committed."""

    __slots__ = (
        "_answer",
        "_door",
        "_environ",
        "_exc_info",
        "_facts",
        "_headers",
        "_replaced",
        "_session",
        "_start_response",
        "_status",
        "_write",
    )

    def __init__(
        self,
        door: SessionMiddleware,
        environ: WSGIEnvironment,
        session: Session,
        facts: Facts,
        start_response: StartResponse,
    ) -> None:
        self._door = door
        self._environ = environ
        self._session = session
        self._facts = facts
        self._start_response = start_response
        self._status: str | None = None
        self._headers: list[tuple[str, str]] = []
        self._exc_info: ExcInfo | None = None
        self._answer: Answer | None = None
        self._write: Callable[[bytes], object] | None = None
        self._replaced: Iterable[bytes] | None = None

    def run(self) -> Iterable[bytes]:
        body: Iterable[bytes] = ()
        try:
            body = self._door.app(self._environ, self.start)
            chunks = self._begun(body)
        except SessileError as error:
            _close(body)
            if self._answer is not None or self._replaced is not None:
                raise
            if isinstance(error, StepUpRequired):
                return self._ask(error)
            return _refuse(error, self._facts, self._door.pages, self._start_response)
        except BaseException:
            _close(body)
            raise
        if self._replaced is not None:
            _close(body)
            return self._replaced
        return chunks

    def _ask(self, error: StepUpRequired) -> Iterable[bytes]:
        """Ask for a proof: a response like any other, so what was done before is done (a sign-out, above all)."""
        try:
            answer = self._door.commit(self._session, self._environ)
        except SessileError as failed:
            return _refuse(failed, self._facts, self._door.pages, self._start_response)
        return _refuse(error, self._facts, self._door.pages, self._start_response, answer)

    def _begun(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Commit as soon as there is something to send; return what is to be sent."""
        if self._has_begun:
            return body
        if type(body) in (list, tuple) or _is_file(body, self._environ):
            self._begin()
            return body
        chunks = iter(body)
        first = next((chunk for chunk in chunks if chunk), None)
        if not self._has_begun:
            self._foresee()
            self._begin()
        return _Rest(first, chunks, body)

    # -- what the application calls ------------------------------------------------------------------------------------

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Take the place of `start_response`."""
        if exc_info is None and self._status is not None:
            raise RuntimeError("start_response was called twice")
        if self._replaced is not None:
            return self.write
        if self._answer is not None:
            try:
                # The server raises exc_info here if it has sent the headers, and takes the new ones if not.
                return self._start_response(status, merged(headers, self._answer), exc_info)
            finally:
                exc_info = None
        self._status, self._headers, self._exc_info = status, headers, exc_info
        return self.write

    def write(self, data: bytes) -> None:
        """Take the place of what `start_response` returns, which old applications send their body with."""
        if not data:
            return
        if not self._has_begun:
            self._foresee()
            try:
                self._begin()
            except SessileError as error:
                # The application goes on; what it writes from here on is not sent.
                self._replaced = _refuse(error, self._facts, self._door.pages, self._start_response)
        if self._replaced is None:
            assert self._write is not None
            self._write(data)

    @property
    def _has_begun(self) -> bool:
        return self._answer is not None or self._replaced is not None

    def _foresee(self) -> None:
        """Count a response of unknown length as one that looks: the rest is made when the headers are gone (R19)."""
        if self._session.base is None or (self._status or "")[:3] in _BODILESS:
            return
        if not any(name.lower() == "content-length" for name, _ in self._headers):
            self._session.accessed = True

    def _begin(self) -> None:
        if self._status is None:
            raise RuntimeError("the application sent a body before it called start_response")
        answer = self._door.commit(self._session, self._environ)
        headers = merged(self._headers, answer)
        self._answer = answer
        if self._exc_info is None:
            self._write = self._start_response(self._status, headers)
        else:
            try:
                self._write = self._start_response(self._status, headers, self._exc_info)
            finally:
                self._exc_info = None


class _Rest:
    """Be the application's iterable, of which the first chunk was taken already."""

    __slots__ = ("_body", "_chunks", "_first")

    def __init__(self, first: bytes | None, chunks: Iterator[bytes], body: Iterable[bytes]) -> None:
        self._first = first
        self._chunks = chunks
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, None
        return next(self._chunks) if first is None else first

    def close(self) -> None:
        _close(self._body)


def _send(reply: Reply, facts: Facts, start_response: StartResponse, answer: Answer = NOTHING) -> Iterable[bytes]:
    start_response(f"{reply.status} {reply.phrase}", merged(reply.headers, answer))
    return [] if facts.method == "HEAD" or not reply.body else [reply.body]


def _refuse(
    error: SessileError, facts: Facts, pages: Pages, start_response: StartResponse, answer: Answer = NOTHING
) -> Iterable[bytes]:
    reply = replies.refusal(error, facts, pages)
    if reply is None:
        raise error
    return _send(reply, facts, start_response, answer)


def _is_file(body: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Tell whether the server knows this iterable as a file and wants to see it as it is."""
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is None:
        return False
    return isinstance(body, wrapper) if isinstance(wrapper, type) else hasattr(body, "read")


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()
