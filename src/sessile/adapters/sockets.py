"""WebSockets: the handshake is judged like an unsafe request, and a socket does not outlive its session (R24).

    when                                        what happens
    handshake from another site                 403, the application is never called
    the store fails at the handshake            503, the application is never called
    accept                                      the session is committed; its headers travel with the 101 response
    accept, and the commit failed               403, 409 or 503 in place of it
    close before accept                         nothing is committed
    this process ends the session               closed at once, code 1008
    another process ends it, or a limit does    closed within `socket_check` seconds, code 1008
    the store fails when it is asked            closed, code 1013: what cannot be checked is not left open

A server without the extension `websocket.http.response` answers 403 to each refused handshake. The application sees
websocket.disconnect with the same code; what it sends afterwards raises `ConnectionAbortedError`, which Starlette turns
into WebSocketDisconnect. A new token ends the old session, so the socket of a visitor who signs in or steps up is
closed, and opened again as somebody else. A message is no activity of the user: a page that lives by its socket alone
asks to stay signed in with POST <prefix>/extend. The socket of a visitor without a session is left alone.

Needs asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..core.answers import NOTHING, Answer
from ..core.requests import Facts
from ..core.session import Session
from ..errors import AccessRefused, SessileError, StepUpRequired, StoreError
from . import replies
from .messages import Message, Receive, Scope, Send, with_answer
from .replies import Reply

if TYPE_CHECKING:
    from .asgi import SessionMiddleware

POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013
_EXTENSION: Final = "websocket.http.response"
_ENDED: Final = "session ended"
_UNCHECKED: Final = "session cannot be checked"


async def serve_socket(middleware: SessionMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket."""
    sessions = middleware.sessions
    facts = middleware.read_facts(scope)
    if sessions.guard.refuses_handshake(facts, sessions.engine.client(facts)):
        sessions.engine.tell_cross_site(facts)
        return await _deny(replies.cross_site(), scope, receive, send)
    try:
        session = await sessions.engine.load(facts)
    except (StoreError, AccessRefused) as error:
        return await _deny(replies.refusal(error, facts, middleware.pages), scope, receive, send)
    scope[middleware.scope_key] = session
    socket = _Socket(middleware, scope, receive, send, session, facts)
    try:
        await middleware.app(scope, socket.receive, socket.send)
    except SessileError as error:
        if replies.refusal(error, facts, middleware.pages) is None:
            raise
        if not socket.begun:
            await socket.refuse(error)
        elif error is not socket.failed:
            raise
    finally:
        await socket.leave()
    return None


class _Socket:
    """Stand between a server's socket and the application, and close it when the session ends."""

    def __init__(
        self,
        middleware: SessionMiddleware,
        scope: Scope,
        receive: Receive,
        send: Send,
        session: Session,
        facts: Facts,
    ) -> None:
        self.begun = False
        self.failed: SessileError | None = None
        self._middleware = middleware
        self._engine = middleware.sessions.engine
        self._scope = scope
        self._receive = receive
        self._send = send
        self._session = session
        self._facts = facts
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._over: Message | None = None
        self._reading: asyncio.Timeout | None = None
        self._guard: asyncio.Task[None] | None = None
        self._closed = False
        self._unwatch: Callable[[], None] = self._watch(session.id)

    def _watch(self, session_id: str | None) -> Callable[[], None]:
        if session_id is None:
            return lambda: None
        return self._engine.watch(session_id, self._end_soon)

    def _end_soon(self) -> None:
        """Wake the guard; called from whichever thread ended the session."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)

    # -- what the application calls ------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """Return the server's next message, or the disconnection if the session ended first."""
        if self._over is None:
            try:
                async with asyncio.timeout(None) as self._reading:
                    message = await self._receive()
            except TimeoutError:
                if self._over is None:
                    raise
            else:
                self._closed = self._closed or message["type"] == "websocket.disconnect"
                return message
            finally:
                self._reading = None
        return self._over

    async def send(self, message: Message) -> None:
        """Pass a message on; commit before the handshake is answered."""
        if self._over is not None:
            raise ConnectionAbortedError(self._over["reason"])
        if not self.begun:
            message = await self._begin(message)
        self._closed = self._closed or message["type"] == "websocket.close"
        await self._send(message)

    async def _begin(self, message: Message) -> Message:
        self.begun = True
        if message["type"] == "websocket.close":
            return message
        before = self._session.id
        try:
            if self._ended.is_set():
                raise StepUpRequired("login")  # it ended between its load and here
            answer = await self._engine.commit(self._session)
        except SessileError as error:
            self.failed = error
            await self.refuse(error)
            raise
        if message["type"] == "websocket.accept" and self._session.id is not None:
            if self._session.id != before:
                self._ended.clear()
                self._unwatch()
                self._unwatch = self._watch(self._session.id)
            self._guard = asyncio.create_task(self._stand_guard(self._session.id))
        return message if answer is NOTHING else with_answer(message, answer)

    async def refuse(self, error: SessileError) -> None:
        """Answer the handshake with what an error is answered with."""
        self.begun = True
        reply = replies.refusal(error, self._facts, self._middleware.pages)
        self._over = {"type": "websocket.disconnect", "code": POLICY_VIOLATION, "reason": error.code}
        self._closed = True
        await _send_denial(reply, self._scope, self._send)

    # -- the guard -----------------------------------------------------------------------------------------------------

    async def _stand_guard(self, session_id: str) -> None:
        """Wait until the session ends, then close the socket."""
        code, reason = POLICY_VIOLATION, _ENDED
        while True:
            try:
                async with asyncio.timeout(self._middleware.socket_check):
                    await self._ended.wait()
                break
            except TimeoutError:
                pass
            try:
                if not await self._engine.is_alive(session_id):
                    break
            except StoreError:
                code, reason = TRY_AGAIN_LATER, _UNCHECKED
                break
        if self._closed:
            return
        self._over = {"type": "websocket.disconnect", "code": code, "reason": reason}
        if self._reading is not None:
            # The application first: a client that reads nothing more can hold up the closing handshake.
            self._reading.reschedule(self._loop.time())
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def leave(self) -> None:
        """Stop watching; let a close that has begun reach the client."""
        self._unwatch()
        if self._guard is None:
            return
        if self._over is None:
            self._guard.cancel()
        # Its outcome is nobody's any more: the client may have gone before the close reached it.
        await asyncio.gather(self._guard, return_exceptions=True)


async def _deny(reply: Reply | None, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    await _send_denial(reply, scope, send)


async def _send_denial(reply: Reply | None, scope: Scope, send: Send) -> None:
    if reply is None or _EXTENSION not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    start: Message = {"type": "websocket.http.response.start", "status": reply.status, "headers": headers}
    await send(with_answer(start, Answer()))
    await send({"type": "websocket.http.response.body", "body": reply.body})
