"""A browser for WSGI applications, and a store that fails when it is told to: what the WSGI adapters' tests share."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sessile import Sessions
from sessile.core.events import Event
from sessile.errors import StoreUnavailable
from sessile.stores import open_store

COOKIE = "__Host-id"


def make_environ(
    path: str = "/",
    method: str = "GET",
    *,
    cookie: str = "",
    scheme: str = "https",
    host: str = "example.org",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> WSGIEnvironment:
    """Return what a server tells of a request."""
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "example.org",
        "SERVER_PORT": "443" if scheme == "https" else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "198.51.100.7",
        "HTTP_HOST": host,
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    if cookie:
        environ["HTTP_COOKIE"] = cookie
    for name, value in (headers or {}).items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    return environ


@dataclass
class Got:
    """Hold a response as the server had it, and in which order things were sent."""

    status: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    written: list[bytes] = field(default_factory=list)
    starts: int = 0

    @property
    def code(self) -> int:
        return int(self.status[:3])

    @property
    def text(self) -> str:
        return self.body.decode()

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def header(self, name: str) -> str | None:
        found = self.all(name)
        assert len(found) <= 1, found
        return found[0] if found else None


def call(app: WSGIApplication, environ: WSGIEnvironment) -> Got:
    """Do what a server does: start, iterate, close."""
    got = Got()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], None]:
        if exc_info is not None and (got.body or got.written):
            raise exc_info[1]
        got.status, got.headers = status, headers
        got.starts += 1
        return got.written.append

    answer = app(environ, start_response)
    try:
        for chunk in answer:
            assert got.starts or not chunk
            got.body += chunk
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    got.body = b"".join(got.written) + got.body
    return got


class Browser:
    """Send requests and keep the session cookie, as browsers do."""

    def __init__(self, app: WSGIApplication, *, scheme: str = "https", host: str = "example.org") -> None:
        self.app = app
        self.scheme = scheme
        self.host = host
        self.jar: dict[str, str] = {}

    @property
    def token(self) -> str | None:
        return self.jar.get(COOKIE)

    def get(self, path: str = "/", method: str = "GET", *, body: bytes = b"", **headers: str) -> Got:
        cookie = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        environ = make_environ(
            path, method, cookie=cookie, scheme=self.scheme, host=self.host, body=body, headers=named
        )
        got = call(self.app, environ)
        for line in got.all("set-cookie"):
            pair, _, attributes = line.partition(";")
            name, _, value = pair.partition("=")
            self.jar[name] = value
            if "Max-Age=0" in attributes:
                del self.jar[name]
        return got

    def post(self, path: str = "/", **headers: str) -> Got:
        return self.get(path, "POST", **headers)


class SwitchedStore:
    """Be a memory store that fails while a verb is in `failing`, and counts its calls."""

    embedded = True

    def __init__(self) -> None:
        self._store = open_store("memory://", blocking=True)
        self.failing: set[str] = set()
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        if name not in {"load", "create", "save", "touch", "end", "end_user", "of_user"}:
            return verb

        async def watched(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if name in self.failing:
                raise StoreUnavailable("the store is down")
            return await verb(*args, **kwargs)

        return watched


@dataclass
class World:
    """Hold sessions with a store that can be made to fail, a clock that can be moved, and the events told."""

    store: SwitchedStore
    sessions: Sessions
    events: list[Event]
    now: float = 1_800_000_000.0

    def codes(self) -> list[str]:
        return [event.code for event in self.events]


def make_world(**options: Any) -> World:
    """Return a world of its own."""
    store, events = SwitchedStore(), []  # type: ignore[var-annotated]
    sessions = Sessions(store, sinks=(events.append,), clock=lambda: world.now, **options)  # type: ignore[arg-type]
    world = World(store, sessions, events)
    return world


class Body:
    """Be an application's iterable that knows whether it was closed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        self.closed += 1


__all__ = [
    "COOKIE",
    "Body",
    "Browser",
    "Got",
    "StartResponse",
    "SwitchedStore",
    "World",
    "call",
    "make_environ",
    "make_world",
]
