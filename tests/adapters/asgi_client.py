"""A server for ASGI applications and a world with a store that fails: what the ASGI adapters' tests share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sessile import AsyncSessions
from sessile.core.events import Event
from sessile.stores import open_store
from tests.invariants.harness import COOKIE, Clock, Switch, switch

Headers = Iterable[tuple[str, str]]


def make_scope(
    path: str = "/",
    method: str = "GET",
    *,
    kind: str = "http",
    scheme: str | None = None,
    headers: Headers = (),
    root_path: str = "",
    **more: Any,
) -> dict[str, Any]:
    """Return what a server tells of a request or a socket."""
    scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": scheme or ("https" if kind == "http" else "wss"),
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": root_path,
        "headers": [
            (b"host", b"app.example"),
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers),
        ],
        "client": ("198.51.100.7", 50_000),
        "server": ("app.example", 443),
        "extensions": {},
        "state": {},
    }
    if kind == "http":
        scope["method"] = method
    return {**scope, **more}


@dataclass
class Got:
    """Hold what an application sent, message by message."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def start(self) -> dict[str, Any]:
        """Return the one message that starts the response."""
        [start] = [one for one in self.messages if one["type"].endswith("http.response.start")]
        return start

    @property
    def status(self) -> int:
        return int(self.start["status"])

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.messages)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.start["headers"] if key.lower() == name.encode()]

    def header(self, name: str) -> str | None:
        found = self.all(name)
        assert len(found) < 2, found
        return found[0] if found else None


async def call(application: Any, scope: dict[str, Any], got: Got | None = None) -> Got:
    """Serve one request; an exception of the application is raised."""
    got = Got() if got is None else got

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        got.messages.append(message)

    await application(scope, receive, send)
    return got


class Client:
    """Send requests and keep the session cookie."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.token: str | None = None

    async def request(self, path: str = "/", method: str = "GET", headers: Headers = (), **more: Any) -> Got:
        """Send one request."""
        cookie = [("cookie", f"a=b; {COOKIE}={self.token}")] if self.token else []
        got = await call(self.application, make_scope(path, method, headers=[*cookie, *headers], **more))
        for line in got.all("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if name == COOKIE:
                self.token = value or None
        return got


class Socket:
    """Be the server's side of one WebSocket."""

    def __init__(self, application: Any, scope: dict[str, Any]) -> None:
        self.sent: list[dict[str, Any]] = []
        self._to: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._news = asyncio.Event()
        self.push({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(application(scope, self._to.get, self._send))

    def push(self, message: dict[str, Any]) -> None:
        """Hand the application a message."""
        self._to.put_nowait(message)

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self._news.set()

    async def until(self, kind: str) -> dict[str, Any]:
        """Wait for a message of this kind, and return it."""
        async with asyncio.timeout(5):
            while True:
                found = [one for one in self.sent if one["type"] == kind]
                if found:
                    return found[-1]
                self._news.clear()
                await self._news.wait()

    async def finish_quietly(self) -> None:
        """Let the client go, and wait for the application, whatever it raises then."""
        self.push({"type": "websocket.disconnect", "code": 1000, "reason": ""})
        await asyncio.wait([self.task], timeout=5)
        assert self.task.done()
        self.task.exception()


@dataclass
class World:
    """Hold sessions on a store that can fail, with a clock that stands still, and the events told."""

    sessions: AsyncSessions
    store: Switch
    clock: Clock
    events: list[Event]

    def codes(self) -> list[str]:
        return [event.code for event in self.events]

    def calls(self) -> list[str]:
        """Return the verbs that were called; sweeping happens by itself now and then."""
        return [verb for verb in self.store.calls if verb != "sweep"]


def make_world(**options: Any) -> World:
    """Return a world of its own."""
    store, clock, events = switch(open_store("memory://", blocking=False)), Clock(), list[Event]()
    return World(AsyncSessions(store, clock=clock, sinks=(events.append,), **options), store, clock, events)
