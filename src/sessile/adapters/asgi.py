"""ASGI: one middleware that opens the session before the application and commits it before the first byte leaves.

    step                what happens                                           if it fails
    guard               an unsafe request from another site is refused         403
    load                the cookie's session is opened, once; or the token's   503, 401: the application is never called
    own endpoints       <prefix>/session.js, status, extend, logout            -
    application         `scope["session"]` is the `Session`                    StepUpRequired: commit, 303, 401 or 403
    commit              at http.response.start                                 503, 403, 409 in place of the response

An error of the application before its response starts commits nothing; an error that it answers itself (a 4xx, a 5xx)
is a response like any other, and so is `StepUpRequired`. After the start the session is frozen: a change in the midst
of a stream raises `SessionClosed`. A stream may still look, so one whose length is not known counts as having looked if
there is a session. If the commit fails, the application's `send` raises what failed, so that nothing that waits for the
response (a background task) runs, and the client has its answer already. Messages of another kind pass untouched.

WebSockets: see `sockets`. Lifespan: passes; with `close_on_shutdown=True` the store is closed when the application has
shut down. (Not by default: tests start and stop one application many times.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Final

from msgspec.structs import replace

from ..core.answers import NOTHING, Answer
from ..core.crosssite import SAFE_METHODS
from ..core.requests import Facts
from ..core.session import Session
from ..core.sessions import AsyncSessions
from ..errors import AccessRefused, ConfigurationError, SessileError, StepUpRequired, StoreError
from . import replies
from .messages import (
    Application,
    Message,
    RawHeaders,
    Receive,
    Scope,
    Send,
    by_name,
    encoded,
    foreseen,
    header,
    with_answer,
)
from .replies import PREFIX, Pages, Reply

SCOPE_KEY: Final = "session"
_OWNERS: Final = "sessile.sessions"
_PASSIVE: Final = replies.PASSIVE_HEADER.encode()
_SCHEMES: Final = {"ws": "http", "wss": "https"}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class SessionMiddleware:
    """Give an ASGI application sessions.

    `sessions` is the asynchronous door; middlewares that are nested with the same one work as one, with another one
    they need another cookie, and another `scope_key` if both sessions are to be reached. `prefix` is where Sessile's
    own endpoints are, below where the application is mounted (None: nowhere). `login_url` and `step_up_url` are where
    pages are sent that need more than the session proves, `after_logout` is where a sign-out form lands. Requests whose
    path begins with one of `passive_paths`, or that carry `Sessile-Passive: 1`, are no activity of the user (R40).
    `socket_check` is how often an open WebSocket looks whether its session still lives (seconds; R24).

    Raises:
        ConfigurationError: `sessions` is not the asynchronous door, or `socket_check` is no time.
    """

    def __init__(
        self,
        app: Application,
        sessions: AsyncSessions,
        *,
        prefix: str | None = PREFIX,
        login_url: str | None = None,
        step_up_url: str | None = None,
        after_logout: str = "/",
        passive_paths: Iterable[str] = (),
        scope_key: str = SCOPE_KEY,
        socket_check: float = 5.0,
        close_on_shutdown: bool = False,
    ) -> None:
        if not isinstance(sessions, AsyncSessions):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"ASGI must not block: give it an AsyncSessions, not {type(sessions).__name__}")
        if not 0 < socket_check < float("inf"):
            raise ConfigurationError("socket_check must be a positive, finite number of seconds")
        self.app = app
        self.sessions = sessions
        self.pages = Pages(login_url, step_up_url, after_logout)
        self.scope_key = scope_key
        self.socket_check = socket_check
        self._engine = sessions.engine
        self._owners = (sessions,)
        self._prefix = prefix
        self._mark = prefix and prefix + "/"
        self._passive_paths = tuple(passive_paths)
        self._close_on_shutdown = close_on_shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, socket or lifespan."""
        if scope["type"] != "http":
            return await self._serve_other(scope, receive, send)
        if _OWNERS not in scope:
            scope[_OWNERS] = self._owners
        elif self._is_inside_itself(scope):
            return await self.app(scope, receive, send)
        session: Session | None
        known: Facts | None = None
        if self._is_plain_visit(scope):
            # Most requests of a public page: nothing to judge, nothing to ask; the facts are read if it is touched.
            session = self._engine.visitor(lambda: self.read_facts(scope))
        else:
            known = self.read_facts(scope)
            session = await self._open(scope, known, send)
            if session is None:
                return None
        scope[self.scope_key] = session
        begun = False
        failed: list[SessileError] = []

        def send_on(message: Message) -> Awaitable[None]:
            """Pass a message on; commit when the response starts. What needs no waiting costs no coroutine of ours."""
            nonlocal begun
            if begun or message["type"] != "http.response.start":
                return _unsent() if failed else send(message)
            begun = True
            if known is None and not session.accessed:
                session.closed = True  # nobody's, and nobody has looked: there is nothing to say
                return send(message)
            if session.base is not None:
                message = foreseen(session, message)
            answer = self._engine.commit_unchanged(session)
            if answer is None:
                return self._send_committed(message, session, known or self.read_facts(scope), send, failed)
            return send(message if answer is NOTHING else with_answer(message, answer))

        try:
            await self.app(scope, receive, send_on)
        except Exception as error:
            if begun and not failed:
                raise
            facts = known or self.read_facts(scope)
            await self._answer_error(error, failed[0] if failed else None, session, facts, send)

    def _is_plain_visit(self, scope: Scope) -> bool:
        """Tell whether a request has neither a cookie nor anything that must be judged."""
        headers: RawHeaders = scope["headers"]
        if type(headers) is not list:
            headers = scope["headers"] = list(headers)
        for name, _ in headers:
            if name == b"cookie":
                return False
        if self._engine.bearer is not None and any(name == b"authorization" for name, _ in headers):
            return False
        return scope["method"] in SAFE_METHODS and not (self._mark and self._mark in scope["path"])

    async def _send_committed(
        self, message: Message, session: Session, facts: Facts, send: Send, failed: list[SessileError]
    ) -> None:
        """Commit, and start the response; if the commit fails, its answer takes the response's place."""
        try:
            answer = await self._engine.commit(session)
        except SessileError as error:
            failed.append(error)
            await self._refuse(error, facts, send)
            raise
        await send(message if answer is NOTHING else with_answer(message, answer))

    async def _open(self, scope: Scope, facts: Facts, send: Send) -> Session | None:
        """Open the request's session; None: it has been answered, and the application is not called."""
        if facts.method not in SAFE_METHODS and self.is_refused(facts):
            await _send_reply(replies.cross_site(), facts, send)
            return None
        which = replies.endpoint(_below_mount(scope), self._prefix) if self._mark and self._mark in facts.path else None
        if which == "status":
            facts = replace(facts, passive=True)
        elif which == "session.js":
            # The same for everybody: no session is opened for it.
            nobody = Session(self._engine.rules)
            await _send_reply(replies.serve(which, facts, nobody, self.pages), facts, send)
            return None
        try:
            session = await self._engine.load(facts)
        except (StoreError, AccessRefused) as error:
            await self._refuse(error, facts, send)
            return None
        if which is None:
            return session
        await self._serve_own(which, facts, session, send)
        return None

    async def _ask(self, error: StepUpRequired, session: Session, facts: Facts, send: Send) -> None:
        """Ask for a proof: a response like any other, so what was done before is done (a sign-out, above all)."""
        try:
            answer = await self._engine.commit(session)
        except SessileError as failed:
            return await self._refuse(failed, facts, send, unanswered=True)
        reply = replies.refusal(error, facts, self.pages)
        assert reply is not None
        return await _send_reply(reply, facts, send, answer)

    async def _answer_error(
        self, error: Exception, failed: SessileError | None, session: Session, facts: Facts, send: Send
    ) -> None:
        """Answer what the application raised before its response began, or because its commit failed; or raise it."""
        if failed is None:
            if isinstance(error, StepUpRequired):
                return await self._ask(error, session, facts, send)
            if not isinstance(error, SessileError):
                raise error
            await self._refuse(error, facts, send, unanswered=True)
        # The client has its answer, unless the mistake is the application's own: that one goes its way.
        elif replies.refusal(failed, facts, self.pages) is None or not _comes_from(error, failed):
            raise error
        return None

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            if _OWNERS not in scope:
                scope[_OWNERS] = self._owners
            elif self._is_inside_itself(scope):
                return await self.app(scope, receive, send)
            from .sockets import serve_socket  # who serves no sockets does not load it

            return await serve_socket(self, scope, receive, send)
        if scope["type"] == "lifespan" and self._close_on_shutdown:
            send = partial(self._send_lifespan, send)
        return await self.app(scope, receive, send)

    def _is_inside_itself(self, scope: Scope) -> bool:
        """Tell whether a middleware outside has this request in its care already, with the same door."""
        owners: tuple[AsyncSessions, ...] = scope[_OWNERS]
        if replies.is_inside(self.sessions, owners):
            return True
        scope[_OWNERS] = (*owners, self.sessions)
        return False

    def is_refused(self, facts: Facts) -> bool:
        """Tell whether another site sent this request and it must not pass; the sinks are told (R22)."""
        if self._engine.is_by_token(facts) or not self.sessions.guard.refuses(facts, self._engine.client(facts)):
            return False
        self._engine.tell_cross_site(facts)
        return True

    async def _serve_own(self, which: replies.Endpoint, facts: Facts, session: Session, send: Send) -> None:
        reply = replies.serve(which, facts, session, self.pages)
        try:
            answer = await self._engine.commit(session)
        except SessileError as error:
            return await self._refuse(error, facts, send, unanswered=True)
        return await _send_reply(reply, facts, send, answer)

    async def _refuse(self, error: SessileError, facts: Facts, send: Send, *, unanswered: bool = False) -> None:
        """Answer an error in place of the application; `unanswered`: one that has no answer is raised."""
        reply = replies.refusal(error, facts, self.pages)
        if reply is not None:
            await _send_reply(reply, facts, send)
        elif unanswered:
            raise error

    async def _send_lifespan(self, send: Send, message: Message) -> None:
        if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            await self.sessions.close()
        await send(message)

    def read_facts(self, scope: Scope) -> Facts:
        """Read the facts of a request."""
        headers = by_name(scope["headers"])
        scheme: str = scope.get("scheme", "http")
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        peer, cookie, host = scope.get("client"), headers.get(b"cookie"), headers.get(b"host")
        passive = headers.get(_PASSIVE) == b"1" or (
            bool(self._passive_paths) and _below_mount(scope).startswith(self._passive_paths)
        )
        return Facts(
            scope.get("method", "GET"),
            _SCHEMES.get(scheme, scheme),
            _server(scope, scheme) if host is None else host.decode("latin-1"),
            path if not root or _is_below(path, root) else root + path,
            peer[0] if peer else "",
            "" if cookie is None else cookie.decode("latin-1"),
            partial(header, headers),
            passive,
        )


def _below_mount(scope: Scope) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and _is_below(path, root) else path


def _is_below(path: str, root: str) -> bool:
    """Tell whether a path names its mount already; servers differ. A mount ends at a segment."""
    return path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/")


async def _unsent() -> None:
    """Stand for what an application sends after its response was replaced."""


async def _send_reply(reply: Reply, facts: Facts, send: Send, answer: Answer = NOTHING) -> None:
    start: Message = {"type": "http.response.start", "status": reply.status, "headers": encoded(reply.headers)}
    await send(with_answer(start, answer))
    await send({"type": "http.response.body", "body": b"" if facts.method == "HEAD" else reply.body})


def _comes_from(error: BaseException | None, source: BaseException) -> bool:
    """Tell whether an exception is `source`, or was raised because of it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is source:
            return True
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return False


def _server(scope: Scope, scheme: str) -> str:
    """Return the server's own name, for requests without a Host header."""
    name, port = scope.get("server") or ("", None)
    plain = _DEFAULT_PORTS.get(_SCHEMES.get(scheme, scheme))
    return str(name) if port is None or port == plain else f"{name}:{port}"
