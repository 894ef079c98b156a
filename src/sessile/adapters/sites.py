"""Sites as applications: what Sessile brings (account pages, endpoints) mounted in any ASGI or WSGI application.

    app.mount("/account", asgi(site))                       Starlette, FastAPI
    DispatcherMiddleware(app, {"/account": wsgi(site)})     any WSGI application

`SessionMiddleware` must be around them: a site reads the session that it opened. Flask and Django open theirs inside;
see `sessile.adapters.flask.sites` and `sessile.adapters.django.sites`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ..auth.exchange import MAX_BODY_BYTES, TOO_LARGE, Ask, Reply, Site, read_pairs
from ..core.bridge import drive
from ..core.session import Session
from ..errors import ConfigurationError
from .environ import ENVIRON_KEY
from .messages import Receive, Scope, Send, encoded

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_BARE: Final = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


def asgi(site: Site, *, scope_key: str = "session") -> Callable[[Scope, Receive, Send], Any]:
    """Return a site as an ASGI application; `scope_key` is the session middleware's.

    Raises:
        ConfigurationError: the site was made for code that blocks.
    """
    check_site(site, blocking=False)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            raise ConfigurationError(f"a site serves HTTP, not {scope['type']}")
        session = session_in(scope.get(scope_key))
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES or not message.get("more_body", False):
                break
        root, path = mounted(scope.get("root_path", ""), scope["path"])
        headers: dict[str, str] = {}
        for raw, value in scope["headers"]:
            name = raw.decode("latin-1").lower()
            text = value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        query: bytes = scope.get("query_string", b"")
        method: str = scope["method"]
        if len(body) > MAX_BODY_BYTES:
            reply = TOO_LARGE
        else:
            reply = await site.answer(
                Ask(method, root, path, session, read_pairs(query.decode("latin-1")), headers, bytes(body))
            )
        lines = [*reply.headers, ("content-length", str(len(reply.body)))]
        await send({"type": "http.response.start", "status": reply.status, "headers": encoded(lines)})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else reply.body})

    return serve


def wsgi(site: Site, *, environ_key: str = ENVIRON_KEY) -> WSGIApplication:
    """Return a site as a WSGI application; `environ_key` is the session middleware's.

    Raises:
        ConfigurationError: the site was made for an event loop.
    """
    check_site(site, blocking=True)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session = session_in(environ.get(environ_key))
        root, path = text_of(environ.get("SCRIPT_NAME", "")), text_of(environ.get("PATH_INFO", ""))
        reply = answered(site, environ, session, root.rstrip("/"), path)
        lines = [*reply.headers, ("content-length", str(len(reply.body)))]
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", lines)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else reply.body]

    return serve


def answered(site: Site, environ: WSGIEnvironment, session: Session, root: str, path: str) -> Reply:
    """Return the answer of a site that blocks to the request of a WSGI environment."""
    ask = ask_of(environ, session, root, path, read_body(environ))
    return TOO_LARGE if ask is None else drive(site.answer(ask))


def ask_of(environ: WSGIEnvironment, session: Session, root: str, path: str, body: bytes | None) -> Ask | None:
    """Return what a WSGI environment asks, None if its body is too long."""
    if body is None:
        return None
    headers = {
        _BARE.get(name) or name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        # Some servers write a header with underscores as if it were the one with hyphens.
        if (name in _BARE and value) or (name.startswith("HTTP_") and name[5:] not in _BARE)
    }
    query = read_pairs(environ.get("QUERY_STRING", ""))
    return Ask(environ["REQUEST_METHOD"], root, path or "/", session, query, headers, body)


def read_body(environ: WSGIEnvironment) -> bytes | None:
    """Return the body of a request, None if it is longer than a site reads; what breaks off counts as empty."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or -1)
    except ValueError:
        return b""
    if length > MAX_BODY_BYTES:
        return None
    if length < 0:  # sent in chunks, of which only some servers tell the end
        data: bytes = environ["wsgi.input"].read(MAX_BODY_BYTES + 1) if environ.get("wsgi.input_terminated") else b""
        return None if len(data) > MAX_BODY_BYTES else data
    data = environ["wsgi.input"].read(length)
    return data if len(data) == length else b""


def mounted(root: str, path: str) -> tuple[str, str]:
    """Return where a site is mounted, and the path below; servers differ on whether a path names its mount."""
    root = root.rstrip("/")
    below = (
        path[len(root) :] if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/") else path
    )
    return root, below or "/"


def text_of(native: str) -> str:
    """Return what a WSGI string means: its bytes, read as UTF-8."""
    return native.encode("latin-1", "replace").decode("utf-8", "replace")


def check_site(site: Site, *, blocking: bool) -> None:
    """Refuse a site of the other door.

    Raises:
        ConfigurationError: it is one.
    """
    if site.blocking != blocking:
        raise ConfigurationError(
            "this site blocks, and here is an event loop: make it from AsyncSessions"
            if site.blocking
            else "this site needs an event loop, and here is none: make it from Sessions"
        )


def session_in(found: object) -> Session:
    """Return the session that the middleware opened.

    Raises:
        ConfigurationError: there is none.
    """
    if not isinstance(found, Session):
        raise ConfigurationError("a site needs Sessile's SessionMiddleware around it")
    return found
