"""What the invariants need of an adapter, whichever it is: one application, browsers, a clock, a store that can fail.

An adapter takes part by one module, `tests/invariants/apps/<name>_app.py`, with

    BLOCKING: bool                                    which way its store is opened
    start(store, gates, options) -> App               the application behind the adapter, ready to take requests

`options` are the keyword arguments for `Sessions`/`AsyncSessions`. The application has the routes of `views.py`, and
serves them by `views.answer`; `/slow` is held in a gate between reading and answering. `start` is called for every
test, with a store of its own. `App.request` is called from several threads at once and returns when the response is
complete.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, cast
from urllib.parse import urlencode

from sessile.core.bridge import drive
from sessile.core.events import Event
from sessile.core.keys import generate
from sessile.core.policy import Policy
from sessile.core.record import Record
from sessile.errors import StoreUnavailable
from tests.invariants.in_cookies import CookieSwitch, Unlisted
from tests.support.backends import backend

ADAPTERS: Final = ("asgi", "starlette", "wsgi", "flask", "django")
STORES: Final = (
    "memory",
    "sqlite",
    "sealed",
    "redis",
    "valkey",
    "cluster",
    "postgresql",
    "mariadb",
    "memcached",
    "cookie",
)
KEYS: Final = generate()
COOKIE: Final = "__Host-id"
HOST: Final = "app.example"
ADDRESS: Final = "198.51.100.7"
FIREFOX: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI: Final = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Safari/604.1"
PATIENCE: Final = 20.0
PAUSE: Final = 2.0  # in which a cluster on a busy machine elects


class Request(NamedTuple):
    """Hold one request as the wire has it; `headers` holds Host, User-Agent and Cookie too, names in lower case."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    scheme: str = "https"
    peer: str = ADDRESS


class Reply(NamedTuple):
    """Hold one whole response as the wire has it; header names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @property
    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        """Return every header of this name."""
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        """Return the one header of this name; two of them are a mistake of the adapter."""
        found = self.all(name)
        assert len(found) < 2, f"{name} came {len(found)} times: {found}"
        return found[0] if found else None

    @property
    def cookies(self) -> dict[str, str | None]:
        """Return the cookies that are set, and None for those that are deleted."""
        found: dict[str, str | None] = {}
        for line in self.all("set-cookie"):
            pair, *attributes = (part.strip() for part in line.split(";"))
            name, _, value = pair.partition("=")
            assert name not in found, f"{name} is set twice"
            found[name] = None if "max-age=0" in (one.lower() for one in attributes) else value
        return found

    @property
    def is_kept_out_of_caches(self) -> bool:
        """Tell whether no cache may keep this response."""
        return self.header("cache-control") == "no-store"

    @property
    def varies_on_cookie(self) -> bool:
        """Tell whether a cache must tell browsers apart by their cookies."""
        return "cookie" in [part.strip().lower() for part in (self.header("vary") or "").split(",")]


class App(Protocol):
    """Be an application behind the adapter that is under test."""

    def request(self, request: Request) -> Reply:
        """Serve one request; several threads call it at once. An exception of the application is a 500."""
        ...

    def door(self, verb: str, *args: Any, **options: Any) -> Any:
        """Call a method of the sessions' door (`of_user`, `end`, `end_all`, `end_everything`, `sweep`) and wait."""
        ...

    def close(self) -> None:
        """Stop; the store is closed too."""
        ...


class Clock:
    """Stand still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Gates:
    """Hold requests in the middle of their view until the test opens the gate."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._arrived: dict[str, int] = {}
        self._open: set[str] = set()

    def hold(self, name: str) -> None:
        """Hold the calling thread; for views that block."""
        with self._lock:
            self._arrived[name] = self._arrived.get(name, 0) + 1
            self._lock.notify_all()
            if not self._lock.wait_for(lambda: name in self._open, PATIENCE):
                raise TimeoutError(name)

    async def hold_async(self, name: str) -> None:
        """Hold the calling task; for views on an event loop."""
        with self._lock:
            self._arrived[name] = self._arrived.get(name, 0) + 1
            self._lock.notify_all()
        limit = time.monotonic() + PATIENCE
        while name not in self._open:
            if time.monotonic() > limit:
                raise TimeoutError(name)
            await asyncio.sleep(0.001)

    def wait_for(self, name: str, count: int = 1) -> None:
        """Wait until `count` requests are held."""
        with self._lock:
            assert self._lock.wait_for(lambda: self._arrived.get(name, 0) >= count, PATIENCE), f"nobody came to {name}"

    def open(self, name: str) -> None:
        """Let all who are held go on, and everyone who comes later."""
        with self._lock:
            self._open.add(name)
            self._lock.notify_all()


class Switch:
    """Be a store that can be made to fail, and that tells which of its verbs were called."""

    def __init__(self, store: Any) -> None:
        self.inner = store
        self.failing: set[str] = set()
        self.calls: list[str] = []
        self.created: list[str] = []

    async def _call(self, verb: str, *args: Any, **options: Any) -> Any:
        self.calls.append(verb)
        if verb in self.failing:
            raise StoreUnavailable("the store is down")
        return await getattr(self.inner, verb)(*args, **options)

    async def load(self, session_id: str) -> Any:
        return await self._call("load", session_id)

    async def create(self, session_id: str, record: Record, **options: Any) -> Any:
        self.created.append(session_id)
        return await self._call("create", session_id, record, **options)

    async def save(self, session_id: str, change: Any, base: Record) -> Any:
        return await self._call("save", session_id, change, base)

    async def touch(self, session_id: str, seen_at: float, expires_at: float) -> None:
        await self._call("touch", session_id, seen_at, expires_at)

    async def end(self, session_id: str, tombstone: Any) -> Any:
        return await self._call("end", session_id, tombstone)

    async def close(self) -> None:
        await self.inner.close()

    @property
    def key_file(self) -> Path | None:
        return self.inner.key_file  # type: ignore[no-any-return]


_FURTHER: Final = ("of_user", "end_user", "end_everything", "sweep", "stats", "scan", "retire")


def switch(store: Any) -> Switch:
    """Return a switch with the powers that the store has, and no others."""

    def passing(verb: str) -> Callable[..., Any]:
        async def call(self: Switch, *args: Any, **options: Any) -> Any:
            return await self._call(verb, *args, **options)

        return call

    powers = {verb: passing(verb) for verb in _FURTHER if hasattr(store, verb)}
    return cast("Switch", type("Switch", (Switch,), powers)(store))


@dataclass
class World:
    """Hold everything that one test of the invariants acts on."""

    app: App
    store: Switch
    clock: Clock
    gates: Gates
    events: list[Event]
    damage: Callable[[str], None]
    pool: ThreadPoolExecutor
    blocking: bool

    def browser(self, **options: Any) -> Browser:
        """Return a new browser, with an empty jar."""
        return Browser(self, **options)

    def live(self) -> list[Record]:
        """Return the records of all sessions that are alive in the store."""

        if isinstance(self.store, CookieSwitch):
            return []  # nobody can list them

        async def look() -> list[Record]:
            found = [await self.store.inner.load(session_id) for session_id in dict.fromkeys(self.store.created)]
            return [record for record in found if isinstance(record, Record)]

        return drive(look()) if self.blocking else asyncio.run(look())

    def codes(self) -> list[str]:
        """Return the codes of the events so far."""
        return [event.code for event in self.events]

    def start(self, browser: Browser, method: str, path: str, **query: str) -> Future[Reply]:
        """Send a request that is under way until its reply is taken, with the cookies of this moment."""
        return self.pool.submit(self.app.request, browser.compose(method, path, query))


@dataclass
class Browser:
    """Send requests, keep cookies. Two browsers with one jar are two tabs; a copy of the jar is a thief."""

    world: World
    jar: dict[str, str] = field(default_factory=dict)
    agent: str = FIREFOX
    peer: str = ADDRESS
    scheme: str = "https"
    host: str = HOST

    def get(self, path: str = "/", /, headers: Mapping[str, str] | None = None, **query: str) -> Reply:
        """Send a GET and keep the cookies of the answer."""
        return self._send(self.compose("GET", path, query, headers))

    def post(self, path: str, /, headers: Mapping[str, str] | None = None, **query: str) -> Reply:
        """Send a POST from one of the site's own pages, and keep the cookies of the answer."""
        ours = {"sec-fetch-site": "same-origin", **(headers or {})}
        return self._send(self.compose("POST", path, query, ours))

    def _send(self, request: Request) -> Reply:
        """Send a request; again, once, if a store that no test has made fail is away for a moment, as people do."""
        reply = self.world.app.request(request)
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE and not self.world.store.failing:
            time.sleep(PAUSE)
            reply = self.world.app.request(request)
        return self.take(reply)

    def compose(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Request:
        """Return the request as it would be sent now. A `cookie` among `headers` takes the place of the jar."""
        sent = {"host": self.host, "user-agent": self.agent}
        if self.jar:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        sent.update(headers or {})
        return Request(method, path, urlencode(query), tuple(sent.items()), self.scheme, self.peer)

    def take(self, reply: Reply) -> Reply:
        """Keep the cookies of an answer, as browsers do when it arrives."""
        for name, value in reply.cookies.items():
            if value is None:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value
        return reply

    @property
    def token(self) -> str | None:
        """Return the session token in the jar."""
        return self.jar.get(COOKIE)

    def copy(self, **changes: Any) -> Browser:
        """Return a thief: the same cookies in another jar; `changes` may give it another agent or address."""
        return Browser(
            self.world,
            dict(self.jar),
            **{"agent": self.agent, "peer": self.peer, "scheme": self.scheme, "host": self.host, **changes},
        )

    def tab(self) -> Browser:
        """Return another tab: the same jar."""
        return Browser(self.world, self.jar, self.agent, self.peer, self.scheme, self.host)


def is_present(adapter: str) -> bool:
    """Tell whether the adapter's application exists."""
    return (Path(__file__).parent / "apps" / f"{adapter}_app.py").is_file()


@contextmanager
def world(adapter: str, store: str, directory: Path, **options: Any) -> Iterator[World]:
    """Start an application behind the adapter, on the store."""
    module = importlib.import_module(f"tests.invariants.apps.{adapter}_app")
    clock, gates, events = Clock(), Gates(), list[Event]()
    settings = {"clock": clock, "sinks": (events.append,), "policy": Policy(), "keys": KEYS, **options}

    blocking = bool(module.BLOCKING)
    with ExitStack() as stack:
        if store == "cookie":
            switched: Any = CookieSwitch(directory, blocking=blocking)
            damage: Callable[[str], None] = switched.damage
        else:
            opened = stack.enter_context(backend(store, directory, blocking=blocking))
            switched, damage = switch(opened.store), opened.damage
        pool = stack.enter_context(ThreadPoolExecutor(64))
        app: App = module.start(switched, gates, settings)
        if store == "cookie":
            app = Unlisted(app)
        try:
            yield World(app, switched, clock, gates, events, damage, pool, blocking)
        finally:
            app.close()
