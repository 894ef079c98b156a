"""An event loop in a thread of its own, and a server that speaks ASGI to an application in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from sessile import AsyncSessions
from tests.invariants.harness import Reply, Request

T = TypeVar("T")


class LoopApp:
    """Serve an ASGI application, from any thread."""

    def __init__(self, application: Any, sessions: AsyncSessions) -> None:
        self._application = application
        self._sessions = sessions
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def request(self, request: Request) -> Reply:
        """Serve one request."""
        return self._wait(exchange(self._application, request))

    def door(self, verb: str, *args: Any, **options: Any) -> Any:
        """Call a method of the door, in the loop."""
        return self._wait(getattr(self._sessions, verb)(*args, **options))

    def close(self) -> None:
        """Close the store, stop the loop."""
        self._wait(self._sessions.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def exchange(application: Any, request: Request) -> Reply:
    """Do what a server does with one request; an exception before the response begins is a 500."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": request.query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
        "client": (request.peer, 50_000),
        "server": ("127.0.0.1", 443),
        "state": {},
    }
    messages: list[dict[str, Any]] = []
    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if body:
            return body.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    try:
        await application(scope, receive, send)
    except Exception:
        if not messages:
            return Reply(500, (), b"")
    start, *rest = [message for message in messages if message["type"].startswith("http.response.")]
    assert start["type"] == "http.response.start"
    assert [message["type"] for message in rest] == ["http.response.body"] * len(rest)
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"])
    assert all(name == name.lower() for name, _ in headers)
    return Reply(start["status"], headers, b"".join(message.get("body", b"") for message in rest))
