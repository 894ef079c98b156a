"""ASGI: one middleware that opens the session before the application and commits it before the first byte leaves.

    step             what happens                                            if it fails
    guard            an unsafe request from another site is refused          403
    load             the cookie's session is opened, once                    503: the application is never called
    own endpoints    <prefix>/session.js, status, extend, logout             -
    application      `scope["session"]` is the `Session`                     StepUpRequired: 303, 401 or 403
    commit           at `http.response.start`                                503, 403, 409 in place of the response

An error of the application before the response starts commits nothing; a 5xx that it returns is a response like any other.
After the start the session is frozen: a change in the midst of a stream raises `SessionClosed`. A middleware that is
nested with the same sessions passes through; one with other sessions has its own scope key. Lifespan passes through.

A WebSocket handshake is judged as an unsafe request and its session is loaded and committed with the acceptance. A socket
whose session ends is closed with 1008: at once if this process ended it, within `socket_check` seconds otherwise (R24).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from ..core.answers import NOTHING, Answer
from ..core.crosssite import SAFE_METHODS
from ..core.requests import Facts
from ..core.session import Session
from ..core.sessions import AsyncSessions
from ..errors import ConfigurationError, SessileError, StoreError
from . import replies
from .replies import PREFIX, Pages, Reply

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

SCOPE_KEY: Final = "session"
SOCKET_CHECK: Final = 5.0
_OWNERS: Final = "sessile.sessions"
_PASSIVE: Final = replies.PASSIVE_HEADER.encode()
_SCHEMES: Final = {"ws": "http", "wss": "https"}
_POLICY_VIOLATION: Final = 1008
_TRY_AGAIN_LATER: Final = 1013


class SessionMiddleware:
    """Give an ASGI application sessions.

    `sessions` is the asynchronous door. `prefix` is where Sessile's own endpoints are (None: nowhere). `login_url` and
    `step_up_url` are where pages are sent that need more than the session proves, `after_logout` is where a sign-out form
    lands. Requests whose path begins with one of `passive_paths`, or that carry `Sessile-Passive: 1`, are no activity of the
    user (R40). `socket_check` is how often, in seconds, an open WebSocket asks whether its session still lives.

    Raises:
        ConfigurationError: `sessions` is not the asynchronous door, or `socket_check` is not positive.
    """

    def __init__(
        self,
        app: App,
        *,
        sessions: AsyncSessions,
        prefix: str | None = PREFIX,
        login_url: str | None = None,
        step_up_url: str | None = None,
        after_logout: str = "/",
        passive_paths: Iterable[str] = (),
        scope_key: str = SCOPE_KEY,
        socket_check: float = SOCKET_CHECK,
    ) -> None:
        if not isinstance(sessions, AsyncSessions):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"ASGI must not block: give it an AsyncSessions, not {type(sessions).__name__}")
        if not 0 < socket_check < float("inf"):
            raise ConfigurationError("socket_check is a positive number of seconds")
        self.app = app
        self.sessions = sessions
        self._engine = sessions.engine
        self._guard = sessions.guard
        self._prefix = prefix
        self._pages = Pages(login_url, step_up_url, after_logout)
        self._passive_paths = tuple(passive_paths)
        self._key = scope_key
        self._socket_check = socket_check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, socket or lifespan."""
        kind = scope["type"]
        if kind == "lifespan":
            await self.app(scope, receive, self._closing(send))
            return
        owners = scope.get(_OWNERS, ())
        if kind not in ("http", "websocket") or self.sessions in owners:
            await self.app(scope, receive, send)
            return
        scope[_OWNERS] = (*owners, self.sessions)
        facts, which = self._read(scope)
        if kind == "http":
            await self._serve(scope, receive, send, facts, which)
        else:
            await self._socket(scope, receive, send, facts)

    @property
    def pages(self) -> Pages:
        """Return where the application's own pages are."""
        return self._pages

    @property
    def socket_check(self) -> float:
        """Return how often an open socket asks whether its session still lives (seconds)."""
        return self._socket_check

    # -- http ----------------------------------------------------------------------------------------------------------

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, facts: Facts, which: replies.Endpoint | None
    ) -> None:
        if facts.method not in SAFE_METHODS and self._guard.refuses(facts, self._engine.client(facts)):
            self._engine.tell_cross_site(facts)
            await _reply(replies.cross_site(), facts, send)
            return
        if which == "session.js":
            # The same for everybody: no session is opened for it.
            await _reply(replies.serve(which, facts, Session(self._engine.rules), self._pages), facts, send)
            return
        try:
            session = await self._engine.load(facts)
        except StoreError as error:
            await self._refuse(error, facts, send)
            return
        if which is not None:
            await self._endpoint(which, facts, session, send)
            return
        scope[self._key] = session
        replaced = False

        async def committing(message: Message) -> None:
            nonlocal replaced
            if replaced:
                return
            if message["type"] == "http.response.start" and not session.closed:
                try:
                    answer = await self._engine.commit(session)
                except SessileError as error:
                    reply = replies.refusal(error, facts, self._pages)
                    if reply is None:
                        raise
                    replaced = True
                    await _reply(reply, facts, send)
                    return
                if answer is not NOTHING:
                    message["headers"] = merged(message.get("headers", ()), answer)
            await send(message)

        try:
            await self.app(scope, receive, committing)
        except SessileError as error:
            if session.closed or replaced:
                raise
            await self._refuse(error, facts, send)

    async def _endpoint(self, which: replies.Endpoint, facts: Facts, session: Session, send: Send) -> None:
        reply = replies.serve(which, facts, session, self._pages)
        try:
            answer = await self._engine.commit(session)
        except SessileError as error:
            await self._refuse(error, facts, send)
            return
        await _reply(reply, facts, send, answer)

    async def _refuse(self, error: SessileError, facts: Facts, send: Send) -> None:
        reply = replies.refusal(error, facts, self._pages)
        if reply is None:
            raise error
        await _reply(reply, facts, send)

    # -- sockets -------------------------------------------------------------------------------------------------------

    async def _socket(self, scope: Scope, receive: Receive, send: Send, facts: Facts) -> None:
        if self._guard.refuses_handshake(facts, self._engine.client(facts)):
            self._engine.tell_cross_site(facts)
            await _deny(scope, receive, send, replies.cross_site())
            return
        try:
            session = await self._engine.load(facts)
        except StoreError as error:
            reply = replies.refusal(error, facts, self._pages)
            await _deny(scope, receive, send, reply or replies.cross_site())
            return
        scope[self._key] = session
        await _Socket(self, session, facts, scope, receive, send).run()

    # -- facts ---------------------------------------------------------------------------------------------------------

    def _read(self, scope: Scope) -> tuple[Facts, replies.Endpoint | None]:
        raw = scope["headers"]
        headers: dict[bytes, bytes] = dict(raw)
        if len(headers) != len(raw):
            headers = _joined(raw)
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        local = path[len(root) :] if root and path.startswith(root) else path
        which = replies.endpoint(local, self._prefix)
        passive = which == "status" or headers.get(_PASSIVE) == b"1"
        if self._passive_paths and not passive:
            passive = local.startswith(self._passive_paths)
        client = scope.get("client")
        scheme: str = scope.get("scheme", "http")

        def header(name: str) -> str | None:
            value = headers.get(name.encode("latin-1"))
            return None if value is None else value.decode("latin-1")

        facts = Facts(
            scope.get("method", "GET"),
            _SCHEMES.get(scheme, scheme),
            headers.get(b"host", b"").decode("latin-1"),
            path,
            client[0] if client else "",
            headers[b"cookie"].decode("latin-1") if b"cookie" in headers else "",
            header,
            passive,
        )
        return facts, which

    def _closing(self, send: Send) -> Send:
        async def closing(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.sessions.close()
            await send(message)

        return closing


class _Socket:
    """Hold one WebSocket to the life of its session."""

    def __init__(
        self, door: SessionMiddleware, session: Session, facts: Facts, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._door = door
        self._session = session
        self._facts = facts
        self._scope = scope
        self._receive = receive
        self._send = send
        self._ended = asyncio.Event()
        self._code = _POLICY_VIOLATION
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] | None = None

    async def run(self) -> None:
        """Serve the socket until the application, the client or the end of the session closes it."""
        try:
            await self._door.app(self._scope, self._receiving, self._sending)
        except SessileError as error:
            reply = replies.refusal(error, self._facts, self._door.pages)
            if self._session.closed or reply is None:
                raise
            await _deny(self._scope, self._receive, self._send, reply)
        finally:
            if self._unwatch is not None:
                self._unwatch()
            if self._watch is not None:
                self._watch.cancel()

    async def _sending(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("websocket.accept", "websocket.http.response.start") and not self._session.closed:
            try:
                answer = await self._door.sessions.engine.commit(self._session)
            except SessileError as error:
                reply = replies.refusal(error, self._facts, self._door.pages)
                if reply is None:
                    raise
                self._over = True
                await _deny(self._scope, None, self._send, reply)
                return
            if answer is not NOTHING:
                message["headers"] = merged(message.get("headers", ()), answer)
            if kind == "websocket.accept" and self._session.id is not None:
                self._begin_watch(self._session.id)
        if self._over:
            return
        if kind == "websocket.close":
            self._over = True
        await self._send(message)

    async def _receiving(self) -> Message:
        """Receive what comes first: the client's next message, or the end of the session."""
        if self._watch is None:
            return await self._receive()
        message = asyncio.ensure_future(self._receive())
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((message, ended), return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.is_set():
                return message.result()
        finally:
            for waiting in (message, ended):
                waiting.cancel()
        return {"type": "websocket.disconnect", "code": self._code, "reason": "session ended"}

    def _begin_watch(self, session_id: str) -> None:
        # Whoever ends the session may do so on another thread's loop.
        def end() -> None:
            self._loop.call_soon_threadsafe(self._wake.set)

        self._unwatch = self._door.sessions.engine.watch(session_id, end)
        self._watch = asyncio.create_task(self._watching(session_id))

    async def _watching(self, session_id: str) -> None:
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), self._door.socket_check)
            except TimeoutError:
                try:
                    if await self._door.sessions.engine.is_alive(session_id):
                        continue
                except StoreError:
                    # Nobody can say whether it lives: fail closed, and let the client come again.
                    self._code = _TRY_AGAIN_LATER
            break
        await self._close()

    async def _close(self) -> None:
        if not self._over:
            self._over = True
            reason = "session ended" if self._code == _POLICY_VIOLATION else "try again later"
            await self._send({"type": "websocket.close", "code": self._code, "reason": reason})
        self._ended.set()


async def _deny(scope: Scope, receive: Receive | None, send: Send, reply: Reply) -> None:
    """Refuse a handshake before it is accepted: with the whole reply where the server can send one, else with 403."""
    if receive is not None:
        await receive()  # websocket.connect
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "refused"})
        return
    await send({"type": "websocket.http.response.start", "status": reply.status, "headers": _raw(reply.headers)})
    await send({"type": "websocket.http.response.body", "body": reply.body})


async def _reply(reply: Reply, facts: Facts, send: Send, answer: Answer = NOTHING) -> None:
    headers = merged(_raw(reply.headers), answer)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if facts.method == "HEAD" else reply.body})


def merged(headers: Iterable[tuple[bytes, bytes]], answer: Answer) -> RawHeaders:
    """Return the application's headers with those of the session."""
    listed = list(headers)
    cache = _value(listed, b"cache-control")
    vary = _value(listed, b"vary")
    ours = _raw(answer.headers(cache, vary))
    if cache is not None or vary is not None:
        replaced = {name for name, _ in ours if name != b"set-cookie"}
        listed = [pair for pair in listed if pair[0].lower() not in replaced]
    return listed + ours


def _value(headers: RawHeaders, wanted: bytes) -> str | None:
    values = [value.decode("latin-1") for name, value in headers if name.lower() == wanted]
    return ", ".join(values) if values else None


def _raw(headers: list[tuple[str, str]]) -> RawHeaders:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _joined(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        separator = b"; " if name == b"cookie" else b", "
        headers[name] = headers[name] + separator + value if name in headers else value
    return headers
