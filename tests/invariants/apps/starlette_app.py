"""The invariants' application on Starlette."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessile import AsyncSessions
from sessile.adapters.starlette import SessionMiddleware
from tests.invariants.apps.asgi_loop import LoopApp
from tests.invariants.harness import App, Gates
from tests.invariants.views import answer

BLOCKING = False


def start(store: Any, gates: Gates, options: dict[str, Any]) -> App:
    """Return the application, ready to take requests."""

    async def serve(request: Request) -> Response:
        query = dict(request.query_params)
        if request.url.path == "/slow":
            request.session.get("cart")
            await gates.hold_async(query["gate"])
        status, body, headers = answer(request.method, request.url.path, query, lambda: request.session)
        return Response(body, status, dict(headers))

    sessions = AsyncSessions(store, **options)
    application = Starlette(routes=[Route("/{path:path}", serve, methods=["GET", "POST"])])
    application.add_middleware(SessionMiddleware, sessions=sessions)
    return LoopApp(application, sessions)
