"""The invariants' application on Flask."""

from __future__ import annotations

from typing import Any

import flask

from sessile import Sessions
from sessile.adapters.flask import Sessile
from tests.invariants.apps.wsgi_server import ThreadApp
from tests.invariants.harness import App, Gates
from tests.invariants.views import answer

BLOCKING = True


def start(store: Any, gates: Gates, options: dict[str, Any]) -> App:
    """Return the application, ready to take requests."""
    app = flask.Flask("invariants")
    app.logger.disabled = True
    sessions = Sessions(store, **options)
    Sessile(app, sessions=sessions)

    @app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @app.route("/<path:path>", methods=["GET", "POST"])
    def serve(path: str) -> flask.Response:
        query = flask.request.args.to_dict()
        if path == "slow":
            flask.session.get("cart")
            gates.hold(query["gate"])
        status, body, headers = answer(flask.request.method, f"/{path}", query, lambda: flask.session)
        return flask.Response(body, status, dict(headers))

    return ThreadApp(app, sessions)
