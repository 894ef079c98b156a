"""Sessions that live in cookies, on a bench: browsers with jars, a clock that stands still, every event kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from sessile import AsyncSessions, Session, Sessions
from sessile.core.answers import Answer
from sessile.core.cookieengine import CookieEngine
from sessile.core.events import Event
from sessile.core.keys import KeyRing
from sessile.core.ports import Revocations
from sessile.core.requests import Facts
from sessile.stores.cookie import CookieStore

RING: Final = KeyRing({0: bytes(range(32))})
NAME: Final = "__Host-id"
FIREFOX: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI: Final = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Safari/604.1"


class Rig:
    """Drive a door request by request."""

    def __init__(
        self,
        ends: Revocations | None,
        *,
        blocking: bool = True,
        limit: int = 7_168,
        compress: bool = False,
        runner: asyncio.Runner | None = None,
        **options: Any,
    ) -> None:
        self.now = 1_800_000_000.0
        self.events: list[Event] = []
        self.ends: Any = ends
        settings: Any = {"keys": RING, "clock": lambda: self.now, "sinks": (self.events.append,), **options}
        store = CookieStore(ends, limit=limit, compress=compress)
        self.door: Any = Sessions(store, **settings) if blocking else AsyncSessions(store, **settings)
        self.runner = None if blocking else runner or asyncio.Runner()

    @property
    def engine(self) -> CookieEngine:
        """Return the engine."""
        engine = self.door.engine
        assert isinstance(engine, CookieEngine)
        return engine

    def call(self, verb: str, *given: Any, **named: Any) -> Any:
        """Call a method of the door."""
        result = getattr(self.door, verb)(*given, **named)
        return result if self.runner is None else self.runner.run(_awaited(result))

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine of the ends."""
        from sessile.core.bridge import drive

        return drive(coroutine) if self.runner is None else self.runner.run(coroutine)

    def browser(self, jar: dict[str, str] | None = None, agent: str = FIREFOX) -> Browser:
        """Return a browser."""
        return Browser(self, {} if jar is None else dict(jar), agent)

    def codes(self) -> list[str]:
        """Return the codes of the events so far, and forget them."""
        found = [event.code for event in self.events]
        self.events.clear()
        return found

    def close(self) -> None:
        """Close the door."""
        self.call("close")
        if self.runner is not None:
            self.runner.close()


class Browser:
    """Keep cookies as browsers do."""

    def __init__(self, rig: Rig, jar: dict[str, str], agent: str) -> None:
        self.rig = rig
        self.jar = jar
        self.agent = agent

    @property
    def header(self) -> str:
        """Return the Cookie header."""
        return "; ".join(f"{name}={value}" for name, value in self.jar.items())

    def facts(self, *, passive: bool = False, peer: str = "198.51.100.7") -> Facts:
        """Return the facts of a request."""
        headers = {"user-agent": self.agent}
        return Facts("GET", "https", "app.example", "/", peer, self.header, headers.get, passive)

    def open(self, **facts: Any) -> Session:
        """Begin a request."""
        session: Session = self.rig.call("open", self.facts(**facts))
        return session

    def answer(self, session: Session) -> Answer:
        """End it, and keep the cookies."""
        answer: Answer = self.rig.call("commit", session)
        self.take(answer)
        return answer

    def take(self, answer: Answer) -> None:
        """Keep the cookies of an answer."""
        for line in filter(None, (answer.cookie, *answer.more)):
            pair, *attributes = line.split("; ")
            name, _, value = pair.partition("=")
            assert len(name) + len(value) <= 4096
            assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
            if "Max-Age=0" in attributes:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value

    def do(self, act: Callable[[Session], Any] = lambda _session: None, **facts: Any) -> Answer:
        """Make a request in which `act` acts on the session."""
        session = self.open(**facts)
        act(session)
        return self.answer(session)

    def look(self, **facts: Any) -> tuple[str | None, dict[str, Any]]:
        """Make a request that reads; return who is signed in, and the data."""
        session = self.open(**facts)
        found = session.user_id, dict(session)
        self.answer(session)
        return found

    def sign_in(self, user: str = "ada", **data: Any) -> Browser:
        """Sign in, and write."""

        def act(session: Session) -> None:
            session.login(user)
            session.update(data)

        self.do(act)
        return self

    def copy(self) -> Browser:
        """Return a thief: the same cookies, in another jar."""
        return Browser(self.rig, dict(self.jar), self.agent)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
