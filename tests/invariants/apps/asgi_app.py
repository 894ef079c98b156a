"""The invariants' application as bare ASGI, without any framework."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from sessile import AsyncSessions
from sessile.adapters.asgi import SessionMiddleware
from tests.invariants.apps.asgi_loop import LoopApp
from tests.invariants.harness import App, Gates
from tests.invariants.views import answer

BLOCKING = False


def start(store: Any, gates: Gates, options: dict[str, Any]) -> App:
    """Return the application, ready to take requests."""

    async def application(scope: Any, _receive: Any, send: Any) -> None:
        query = dict(parse_qsl(scope["query_string"].decode()))
        if scope["path"] == "/slow":
            scope["session"].get("cart")
            await gates.hold_async(query["gate"])
        status, body, headers = answer(scope["method"], scope["path"], query, lambda: scope["session"])
        raw = [(name.encode(), value.encode()) for name, value in (*headers, ("content-length", str(len(body))))]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    sessions = AsyncSessions(store, **options)
    return LoopApp(SessionMiddleware(application, sessions=sessions), sessions)
