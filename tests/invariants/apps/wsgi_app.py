"""The invariants' application as bare WSGI, without any framework."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIEnvironment

from sessile import Sessions
from sessile.adapters.wsgi import SessionMiddleware
from tests.invariants.apps.wsgi_server import ThreadApp
from tests.invariants.harness import App, Gates
from tests.invariants.views import answer

BLOCKING = True


def start(store: Any, gates: Gates, options: dict[str, Any]) -> App:
    """Return the application, ready to take requests."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        query = dict(parse_qsl(environ["QUERY_STRING"]))
        if environ["PATH_INFO"] == "/slow":
            environ["sessile.session"].get("cart")
            gates.hold(query["gate"])
        status, body, headers = answer(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], query, lambda: environ["sessile.session"]
        )
        start_response(f"{status} {HTTPStatus(status).phrase}", list(headers))
        return [body]

    sessions = Sessions(store, **options)
    return ThreadApp(SessionMiddleware(application, sessions), sessions)
