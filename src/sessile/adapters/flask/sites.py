"""Sites below a Flask application's own sessions: `register(app, "/account", site)`."""

from __future__ import annotations

from typing import Any, Final

from flask import Flask, Response, request

from ...auth.exchange import Site
from ..environ import ENVIRON_KEY
from ..sites import answered, check_site, session_in

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def register(app: Flask, prefix: str, site: Site, *, name: str | None = None) -> None:
    """Serve a site below `prefix`; its endpoint is called `name`, by default after the prefix.

    Sessile's guard has judged where each request comes from, so Flask-WTF's `CSRFProtect` need not: if it is there
    already, the site is exempt from it.

    Raises:
        ConfigurationError: the site was made for an event loop.
    """
    check_site(site, blocking=True)
    root = prefix.rstrip("/")

    def serve(path: str = "") -> Response:
        environ = request.environ
        reply = answered(
            site, environ, session_in(environ.get(ENVIRON_KEY)), request.script_root.rstrip("/") + root, "/" + path
        )
        response = Response(reply.body, reply.status)
        del response.headers["Content-Type"]
        response.headers.extend(list(reply.headers))
        return response

    endpoint = name or "sessile" + root.replace("/", "-").replace(".", "_")
    rules = (root or "/", f"{root}/<path:path>") if root else ("/", "/<path:path>")
    for rule in dict.fromkeys(rules):
        app.add_url_rule(rule, endpoint, serve, methods=_METHODS, provide_automatic_options=False, strict_slashes=False)
    csrf: Any = app.extensions.get("csrf")
    if csrf is not None:
        csrf.exempt(serve)
