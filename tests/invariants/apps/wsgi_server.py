"""A server that speaks WSGI to an application, from any thread."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

from sessile import Sessions
from tests.invariants.harness import Reply, Request


class ThreadApp:
    """Serve a WSGI application in the thread that asks, as threaded servers do."""

    def __init__(self, application: WSGIApplication, sessions: Sessions) -> None:
        self._application = application
        self._sessions = sessions

    def request(self, request: Request) -> Reply:
        """Serve one request."""
        return exchange(self._application, request)

    def door(self, verb: str, *args: Any, **options: Any) -> Any:
        """Call a method of the door."""
        return getattr(self._sessions, verb)(*args, **options)

    def close(self) -> None:
        """Close the store."""
        self._sessions.close()


def environ_of(request: Request) -> WSGIEnvironment:
    """Return what a server tells of a request; repeated headers are joined."""
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.peer,
        "CONTENT_LENGTH": "0",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in request.headers:
        key = "HTTP_" + name.upper().replace("-", "_")
        joiner = "; " if name == "cookie" else ", "
        environ[key] = value if key not in environ else environ[key] + joiner + value
    return environ


def exchange(application: WSGIApplication, request: Request) -> Reply:
    """Do what a server does with one request; an exception before the response begins is a 500."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], None]:
        assert exc_info is not None or not started
        started.append((status, headers))
        return written.append

    body: Any = ()
    try:
        body = application(environ_of(request), start_response)
        chunks = list(body)
    except Exception:
        if not started:
            return Reply(500, (), b"")
        raise
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
    status, headers = started[-1]
    lowered = tuple((name.lower(), value.strip()) for name, value in headers)
    return Reply(int(status[:3]), lowered, b"".join([*written, *chunks]))
