"""WebSockets: who may open one, and how each ends with its session (R24)."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from sessile import AsyncSessions, Policy, Session, StepUpRequired
from sessile.adapters.asgi import SessionMiddleware
from sessile.adapters.starlette import SessionMiddleware as StarletteMiddleware
from sessile.adapters.starlette import requires
from sessile.core.record import EndReason, Tombstone
from sessile.errors import StoreUnavailable, ValueUnsupported
from tests.adapters.asgi_client import Client, Socket, World, make_scope, make_world
from tests.invariants.harness import COOKIE
from tests.support.requirements import requirement

pytestmark = requirement("R24")
CHECK = 0.05
DENIAL = {"websocket.http.response": {}}
ACCEPT = {"type": "websocket.accept"}


class Echo:
    """Be an application that accepts, says back what it hears, and notes how it ended."""

    def __init__(self, before: Any = None) -> None:
        self.before = before
        self.called = 0
        self.heard: list[Any] = []
        self.failed: list[BaseException] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["session"].login("ada")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        self.called += 1
        await receive()
        if self.before is not None:
            self.before(scope["session"])
        try:
            await send(dict(ACCEPT))
            while True:
                message = await receive()
                self.heard.append(message)
                if message["type"] == "websocket.disconnect":
                    break
                await send({"type": "websocket.send", "text": message["text"]})
            await send({"type": "websocket.send", "text": "too late"})
        except Exception as error:
            self.failed.append(error)
            raise


@pytest.fixture(name="world")
def fixture_world() -> World:
    """Return sessions on a store that can fail."""
    return make_world()


async def signed_in(world: World, echo: Echo) -> str:
    """Return the token of somebody who signed in."""
    client = Client(SessionMiddleware(echo, sessions=world.sessions))
    await client.request()
    assert client.token is not None
    world.store.calls.clear()
    return client.token


def connect(world: World, echo: Any, token: str | None = None, **more: Any) -> Socket:
    """Open a socket with this token."""
    headers = [*more.pop("headers", [("origin", "https://app.example")])]
    if token is not None:
        headers.append(("cookie", f"{COOKIE}={token}"))
    middleware = SessionMiddleware(echo, sessions=world.sessions, socket_check=CHECK)
    return Socket(middleware, make_scope(kind="websocket", headers=headers, **more))


async def ended(socket: Socket) -> None:
    """Wait until the application is done, whatever it raised."""
    await asyncio.wait([socket.task], timeout=5)
    assert socket.task.done()
    socket.task.exception()


def guards() -> list[str]:
    """Return the tasks of ours that run in this loop."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if "guard" in name or "Echo" in name]


def assert_nothing_is_left(world: World) -> None:
    """Say that neither a task nor a watcher outlives its socket."""
    assert world.sessions.engine._watchers == {}
    assert guards() == []


# -- the handshake -----------------------------------------------------------------------------------------------------


@requirement("R22")
@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ([("origin", "https://app.example")], True),
        ([("origin", "https://app.example"), ("sec-fetch-site", "same-origin")], True),
        ([], True),
        ([("origin", "https://evil.example")], False),
        ([("origin", "http://app.example")], False),
        ([("origin", "null")], False),
        ([("origin", "https://app.example"), ("sec-fetch-site", "cross-site")], False),
        ([("sec-fetch-site", "same-site")], False),
    ],
)
async def test_another_site_opens_no_socket(world: World, headers: list[tuple[str, str]], *, passes: bool) -> None:
    """Cross-site WebSocket hijacking: a handshake carries cookies and knows no preflight, so its origin is judged."""
    echo = Echo()
    token = await signed_in(world, echo)
    socket = connect(world, echo, token, headers=headers)
    if passes:
        await socket.until("websocket.accept")
        await socket.finish_quietly()
    else:
        await asyncio.wait_for(socket.task, 5)
        assert [one["type"] for one in socket.sent] == ["websocket.close"]
        assert world.codes()[-1] == "cross-site-refused"
        assert world.calls() == []
    assert echo.called == int(passes)
    assert_nothing_is_left(world)


async def test_a_refusal_is_an_answer_where_the_server_can_give_one(world: World) -> None:
    """With the extension the client reads 403 and why; without it every refusal is a 403."""
    socket = connect(world, Echo(), headers=[("origin", "https://evil.example")], extensions=DENIAL)
    await asyncio.wait_for(socket.task, 5)
    assert [one["type"] for one in socket.sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert socket.sent[0]["status"] == 403
    assert b"cross-site-request" in socket.sent[1]["body"]


async def test_the_handshake_opens_the_session_and_carries_what_it_asks_for(world: World) -> None:
    """Written before the acceptance, a session gets its cookie with the 101 response."""
    echo = Echo(lambda session: session.update(n=1))
    socket = connect(world, echo)
    accepted = await socket.until("websocket.accept")
    names = [name for name, _ in accepted["headers"]]
    assert names == [b"vary", b"cache-control", b"set-cookie"]
    await socket.finish_quietly()
    assert_nothing_is_left(world)


async def test_a_session_cannot_change_once_the_socket_is_open(world: World) -> None:
    """There is no response any more that could carry a cookie."""
    kept: list[Session] = []
    socket = connect(world, Echo(kept.append))
    await socket.until("websocket.accept")
    with pytest.raises(Exception, match="the response has begun"):
        kept[0]["n"] = 1
    await socket.finish_quietly()


@requirement("R45")
@pytest.mark.parametrize("extensions", [{}, DENIAL])
async def test_a_handshake_during_an_outage_fails_closed(world: World, extensions: dict[str, Any]) -> None:
    """The application is not called, and nobody is taken for a visitor."""
    echo = Echo()
    token = await signed_in(world, echo)
    world.store.failing.add("load")
    socket = connect(world, echo, token, extensions=extensions)
    await asyncio.wait_for(socket.task, 5)
    assert echo.called == 0
    if extensions:
        assert socket.sent[0]["status"] == 503
    else:
        assert [one["type"] for one in socket.sent] == ["websocket.close"]


@requirement("R45")
async def test_a_commit_that_fails_refuses_the_handshake(world: World) -> None:
    """The acceptance is never sent, and the application learns it from its own call."""
    echo = Echo(lambda session: session.login("ada"))
    world.store.failing.add("create")
    socket = connect(world, echo, extensions=DENIAL)
    await asyncio.wait_for(socket.task, 5)
    assert socket.sent[0]["status"] == 503
    assert [type(error) for error in echo.failed] == [StoreUnavailable]
    assert_nothing_is_left(world)


async def test_data_that_cannot_be_stored_is_the_application_s_error_at_a_handshake_too(world: World) -> None:
    """It is refused, and the error that names the key reaches the server's log."""
    socket = connect(world, Echo(lambda session: session.update(odd=object())))
    with pytest.raises(ValueUnsupported, match="odd"):
        await asyncio.wait_for(socket.task, 5)
    assert [one["type"] for one in socket.sent] == ["websocket.close"]


@requirement("R90")
@pytest.mark.parametrize(("extensions", "said"), [({}, "websocket.close"), (DENIAL, "websocket.http.response.start")])
async def test_a_socket_that_needs_a_user_is_refused_to_everybody_else(
    world: World, extensions: dict[str, Any], said: str
) -> None:
    """`session.require()` before the acceptance answers 401."""
    socket = connect(world, Echo(lambda session: session.require()), extensions=extensions)
    await asyncio.wait_for(socket.task, 5)
    assert socket.sent[0]["type"] == said
    assert socket.sent[0].get("status", 401) == 401


async def test_what_is_refused_by_the_application_itself_commits_nothing(world: World) -> None:
    """A close before the acceptance has no headers that a cookie could travel in."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["session"]["n"] = 1
        await send({"type": "websocket.close", "code": 4000})

    socket = connect(world, application)
    await asyncio.wait_for(socket.task, 5)
    assert socket.sent == [{"type": "websocket.close", "code": 4000}]
    assert world.calls() == []


# -- an open socket ----------------------------------------------------------------------------------------------------


async def end_here(world: World, sid: str) -> None:
    """End the session through this process's door."""
    await world.sessions.end(sid)


async def end_elsewhere(world: World, sid: str) -> None:
    """End the session as another process would: this one's watchers are not told."""
    await world.store.inner.end(sid, Tombstone(EndReason.ADMIN, world.clock.now, world.clock.now + 60))


async def run_out(world: World, _sid: str) -> None:
    """Let the session reach its idle limit."""
    world.clock.advance(Policy().idle + Policy().tolerance)


async def end_everything(world: World, _sid: str) -> None:
    """End every session."""
    await world.sessions.end_everything()


async def sign_out(world: World, _sid: str) -> None:
    """End all of the user's sessions."""
    await world.sessions.end_all("ada")


@requirement("R61")
@pytest.mark.parametrize("end", [end_here, end_elsewhere, run_out, end_everything, sign_out])
async def test_an_open_socket_is_closed_when_its_session_ends(world: World, end: Any) -> None:
    """However it ended: the client gets 1008, the application a disconnection, and what it still sends fails."""
    echo = Echo()
    token = await signed_in(world, echo)
    socket = connect(world, echo, token)
    await socket.until("websocket.accept")
    socket.push({"type": "websocket.receive", "text": "hello"})
    assert (await socket.until("websocket.send"))["text"] == "hello"
    [listed] = await world.sessions.of_user("ada")
    await end(world, listed.id)
    closed = await socket.until("websocket.close")
    assert (closed["code"], closed["reason"]) == (1008, "session ended")
    await ended(socket)
    assert echo.heard[-1] == {"type": "websocket.disconnect", "code": 1008, "reason": "session ended"}
    assert [type(error) for error in echo.failed] == [ConnectionAbortedError]
    assert socket.sent[-1] is closed
    assert_nothing_is_left(world)


async def test_an_end_in_this_process_closes_at_once_even_if_checks_are_rare(world: World) -> None:
    """No check is needed for it."""
    echo = Echo()
    token = await signed_in(world, echo)
    headers = [("cookie", f"{COOKIE}={token}")]
    middleware = SessionMiddleware(echo, sessions=world.sessions, socket_check=3600)
    socket = Socket(middleware, make_scope(kind="websocket", headers=headers))
    await socket.until("websocket.accept")
    await world.sessions.end_all("ada")
    assert (await socket.until("websocket.close"))["code"] == 1008
    await ended(socket)


async def test_an_end_on_another_thread_closes_the_socket_too(world: World) -> None:
    """Operators' tools run where they like."""
    echo = Echo()
    token = await signed_in(world, echo)
    headers = [("cookie", f"{COOKIE}={token}")]
    middleware = SessionMiddleware(echo, sessions=world.sessions, socket_check=3600)
    socket = Socket(middleware, make_scope(kind="websocket", headers=headers))
    await socket.until("websocket.accept")
    thread = threading.Thread(target=lambda: asyncio.run(world.sessions.end_all("ada")))
    thread.start()
    assert (await socket.until("websocket.close"))["code"] == 1008
    thread.join()
    await ended(socket)


@requirement("R45")
async def test_a_socket_that_cannot_be_checked_is_not_left_open(world: World) -> None:
    """Nobody can say whether its session lives: it is closed with "try again later"."""
    echo = Echo()
    token = await signed_in(world, echo)
    socket = connect(world, echo, token)
    await socket.until("websocket.accept")
    world.store.failing.add("load")
    assert (await socket.until("websocket.close"))["code"] == 1013
    await ended(socket)
    assert "store-failed" in world.codes()
    assert_nothing_is_left(world)


async def test_an_application_that_only_sends_is_stopped_as_well(world: World) -> None:
    """A ticker that never listens finds out by its next send."""

    async def ticker(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            return await Echo()(scope, receive, send)
        await receive()
        await send(dict(ACCEPT))
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0.001)

    token = await signed_in(world, ticker)  # type: ignore[arg-type]
    socket = connect(world, ticker, token)
    await socket.until("websocket.send")
    await world.sessions.end_all("ada")
    with pytest.raises(ConnectionAbortedError, match="session ended"):
        await asyncio.wait_for(socket.task, 5)
    assert socket.sent[-1]["type"] == "websocket.close"


@requirement("R25")
async def test_a_new_token_closes_the_socket_of_the_old_one(world: World) -> None:
    """Who steps up or signs in again is another session; the page opens its socket anew."""
    echo = Echo()
    token = await signed_in(world, echo)
    socket = connect(world, echo, token)
    await socket.until("websocket.accept")
    client = Client(SessionMiddleware(echo, sessions=world.sessions))
    client.token = token
    await client.request("/login")
    assert (await socket.until("websocket.close"))["code"] == 1008
    await ended(socket)


async def test_a_session_that_ends_during_the_handshake_opens_no_socket(world: World) -> None:
    """Between the load and the acceptance an application may wait for long."""
    gate = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            return await Echo()(scope, receive, send)
        await receive()
        await gate.wait()
        return await send(dict(ACCEPT))

    token = await signed_in(world, slow)  # type: ignore[arg-type]
    socket = connect(world, slow, token, extensions=DENIAL)
    await asyncio.sleep(0)
    await world.sessions.end_all("ada")
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait_for(socket.task, 5)
    assert [one["type"] for one in socket.sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert socket.sent[0]["status"] == 401


async def test_a_session_that_begins_with_the_handshake_is_watched_under_its_new_id(world: World) -> None:
    """A sign-in at the acceptance is a session like any other."""
    echo = Echo(lambda session: session.login("ada"))
    socket = connect(world, echo)
    await socket.until("websocket.accept")
    await world.sessions.end_all("ada")
    assert (await socket.until("websocket.close"))["code"] == 1008
    await ended(socket)
    assert_nothing_is_left(world)


async def test_a_visitor_s_socket_is_left_alone(world: World) -> None:
    """There is nothing that could end: no store call, no task, no watcher."""
    socket = connect(world, Echo())
    await socket.until("websocket.accept")
    await asyncio.sleep(CHECK * 3)
    assert world.calls() == []
    assert [name for name in guards() if "guard" in name] == []
    await socket.finish_quietly()
    assert [one["type"] for one in socket.sent] == ["websocket.accept", "websocket.send"]


@requirement("R40")
async def test_checks_and_messages_are_no_activity_of_the_user(world: World) -> None:
    """Neither moves a session's times, and a check costs one read."""
    echo = Echo()
    token = await signed_in(world, echo)
    socket = connect(world, echo, token)
    await socket.until("websocket.accept")
    world.clock.advance(Policy().touch + 1)
    socket.push({"type": "websocket.receive", "text": "hello"})
    await asyncio.sleep(CHECK * 3)
    assert set(world.calls()) == {"load"}
    assert len(world.calls()) >= 3
    await socket.finish_quietly()
    assert_nothing_is_left(world)


async def test_ordinary_ends_leave_nothing_behind(world: World) -> None:
    """The client goes, the application closes, the application fails: no task and no watcher stays."""
    echo = Echo()
    token = await signed_in(world, echo)

    async def closing(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(dict(ACCEPT))
        await send({"type": "websocket.close", "code": 1000})

    async def failing(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(dict(ACCEPT))
        raise RuntimeError("boom")

    socket = connect(world, echo, token)
    await socket.until("websocket.accept")
    await socket.finish_quietly()
    socket = connect(world, closing, token)
    await asyncio.wait_for(socket.task, 5)
    assert [one["type"] for one in socket.sent] == ["websocket.accept", "websocket.close"]
    socket = connect(world, failing, token)
    with pytest.raises(RuntimeError, match="boom"):
        await asyncio.wait_for(socket.task, 5)
    assert_nothing_is_left(world)


async def test_a_cancelled_server_takes_the_guard_along(world: World) -> None:
    """At shutdown a server cancels what runs."""
    echo = Echo()
    token = await signed_in(world, echo)
    socket = connect(world, echo, token)
    await socket.until("websocket.accept")
    socket.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await socket.task
    assert_nothing_is_left(world)


async def test_a_timeout_of_the_server_s_own_is_not_taken_for_ours(world: World) -> None:
    """Only the guard's word turns a timeout into a disconnection."""

    async def application(_scope: Any, receive: Any, send: Any) -> None:
        await send(dict(ACCEPT))
        await receive()

    async def receive() -> Any:
        raise TimeoutError("the server's own")

    async def send(_message: Any) -> None: ...

    middleware = SessionMiddleware(application, sessions=world.sessions)
    with pytest.raises(TimeoutError, match="the server's own"):
        await middleware(make_scope(kind="websocket"), receive, send)


# -- as a Starlette developer sees it ----------------------------------------------------------------------------------


def starlette_application(sessions: AsyncSessions, codes: list[int]) -> Starlette:
    """Return an application with a socket for users, and one for everybody; `codes` notes how the former ended."""

    async def login(request: Request) -> Response:
        request.session.login("ada")
        return Response()

    async def logout(request: Request) -> Response:
        request.session.logout()
        return Response()

    @requires()
    async def private(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(f"{websocket.session.user_id}: {await websocket.receive_text()}")
        except WebSocketDisconnect as error:
            codes.append(error.code)

    async def public(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json({"user": websocket.session.user_id})
        await websocket.close()

    routes = [
        Route("/login", login),
        Route("/logout", logout, methods=["POST"]),
        WebSocketRoute("/private", private),
        WebSocketRoute("/public", public),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(StarletteMiddleware, sessions=sessions, socket_check=CHECK)
    return app


def test_starlette_s_sockets_end_with_a_disconnection() -> None:
    """`receive_text` raises WebSocketDisconnect with our code; the client reads it too."""
    codes: list[int] = []
    application = starlette_application(AsyncSessions("memory://", sinks=()), codes)
    with TestClient(application, base_url="https://testserver") as client:
        with client.websocket_connect("wss://testserver/public") as socket:
            assert socket.receive_json() == {"user": None}
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("wss://testserver/private"):
            pass
        client.get("/login")
        with client.websocket_connect("wss://testserver/private") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "ada: hello"
            client.post("/logout")
            with pytest.raises(WebSocketDisconnect) as caught:
                socket.receive_text()
        assert caught.value.code == 1008
    assert codes == [1008]


def test_a_step_up_after_the_acceptance_is_the_application_s_error() -> None:
    """The socket is open: there is no answer any more that could ask for a factor."""

    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        websocket.session.require()

    app = Starlette(routes=[WebSocketRoute("/", late)])
    app.add_middleware(StarletteMiddleware, sessions=AsyncSessions("memory://", sinks=()))
    with (
        TestClient(app, base_url="https://testserver") as client,
        pytest.raises(StepUpRequired),
        client.websocket_connect("wss://testserver/") as socket,
    ):
        socket.receive_text()
