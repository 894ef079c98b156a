"""A world of browsers, nodes and thieves around the real engine: one event queue, one true time, clocks that differ.

A request carries the jar's token of the moment it was sent. It arrives (load), its handler runs, it commits, and its
answer sets the jar when, and if, it arrives. Between these moments anything else may happen.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from sessile.core import rotation
from sessile.core.bridge import drive
from sessile.core.cookies import CookieRules
from sessile.core.engine import Engine
from sessile.core.events import Event
from sessile.core.ids import Token, TokenMint, session_id
from sessile.core.keys import KeyRing
from sessile.core.network import Proxies
from sessile.core.policy import DAY, Policy
from sessile.core.ports import Loaded
from sessile.core.record import Record
from sessile.core.requests import Facts, no_headers
from sessile.core.session import Rules, Session
from sessile.errors import SessionGone
from sessile.stores.memory import MemoryStore

NAME = "__Host-id"
Action = Literal["read", "write", "rotate"]


@dataclass(slots=True)
class Served:
    """Hold one request as the application saw it: when it was loaded, whose it was, and whether its session lived."""

    at: float
    who: str
    sid: str
    generation: int
    alive: bool


@dataclass(slots=True)
class Client:
    """Hold one jar, and every token that ever was in it."""

    name: str
    jar: str | None = None
    kept: list[str] = field(default_factory=list)

    def take(self, token: str) -> None:
        """Put a token into the jar."""
        self.jar = token
        self.kept.append(token)


class World:
    """Run requests of several clients against several nodes that share one store."""

    def __init__(self, *, grace: float = 30.0, interval: float = 900.0, skews: tuple[float, ...] = (0.0,)) -> None:
        self.now = 1_700_000_000.0
        self.grace = grace
        self.spread = max(skews) - min(skews)
        self.policy = Policy(grace=grace, rotation=interval, idle=30 * DAY, absolute=60 * DAY)
        self.store = MemoryStore()
        self.events: list[Event] = []
        self.served: list[Served] = []
        self.renewed: dict[str, float] = {}
        self.first_seen: dict[tuple[str, int], float] = {}
        self.ended: set[str] = set()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        ring = KeyRing({0: bytes(range(32))})
        self.mint = TokenMint(ring)
        draw = random.Random(7).randbytes
        self.nodes = [self._node(ring, skew, draw) for skew in skews]

    def _node(self, ring: KeyRing, skew: float, draw: Callable[[int], bytes]) -> Engine:
        def clock() -> float:
            return self.now + skew

        return Engine(
            store=self.store,
            ring=ring,
            policy=self.policy,
            cookie=CookieRules(),
            proxies=Proxies(),
            rules=Rules(self.policy, clock),
            sinks=(self.events.append,),
            clock=clock,
            entropy=draw,
        )

    # -- time ----------------------------------------------------------------------------------------------------------

    def after(self, delay: float, what: Callable[[], None]) -> None:
        """Let something happen later."""
        self._order += 1
        heapq.heappush(self._queue, (self.now + delay, self._order, what))

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that falls into it."""
        until = self.now + seconds
        while self._queue and self._queue[0][0] <= until:
            at, _, what = heapq.heappop(self._queue)
            self.now = at
            what()
        self.now = until

    def settle(self) -> None:
        """Let everything arrive that is still under way."""
        while self._queue:
            self.advance(self._queue[0][0] - self.now)

    # -- requests ------------------------------------------------------------------------------------------------------

    def sign_in(self, client: Client) -> None:
        """Sign the client's user in, and let the answer arrive."""
        session = drive(self.nodes[0].load(self._facts(None)))
        session.login("ada")
        self._take(client, drive(self.nodes[0].commit(session)).cookie)

    def send(
        self,
        client: Client,
        *,
        token: str | None = None,
        node: int = 0,
        up: float = 0.0,
        handler: float = 0.0,
        down: float = 0.0,
        dropped: bool = False,
        action: Action = "read",
        ignores_cookie: bool = False,
    ) -> None:
        """Send a request with the jar's token of now (or another one that the client kept)."""
        carried = client.jar if token is None else token
        engine = self.nodes[node]

        def arrive() -> None:
            session = self._load(engine, client, carried)
            self.after(handler, lambda: leave(session))

        def leave(session: Session) -> None:
            cookie = self._commit(engine, session, action)
            if cookie is not None and not dropped:
                self.after(down, lambda: self._take(client, cookie, keep_only=ignores_cookie))

        self.after(up, arrive)

    def ask(self, client: Client, **how: float) -> bool:
        """Send a request, wait for everything, and tell whether its session lived."""
        self.send(client, **how)  # type: ignore[arg-type]
        self.settle()
        return self.last(client.name).alive

    def last(self, name: str) -> Served:
        """Return a client's last request."""
        return next(one for one in reversed(self.served) if one.who == name)

    def _load(self, engine: Engine, client: Client, carried: str | None) -> Session:
        session = drive(engine.load(self._facts(carried)))
        if carried is not None:
            token = self.read(carried)
            sid = session_id(token.seed)
            alive = session.user_id == "ada"
            assert not (alive and sid in self.ended), "an ended session was revived"
            self.served.append(Served(self.now, client.name, sid, token.generation, alive))
            self._note(sid)
        return session

    def _commit(self, engine: Engine, session: Session, action: Action) -> str | None:
        before = session.id
        if action == "write":
            session["visits"] = session.get("visits", 0) + 1
        elif before is not None and action == "rotate":
            session.rotate()
        try:
            cookie = drive(engine.commit(session)).cookie
        except SessionGone:
            return None
        if before is not None and session.id != before:
            self.renewed[before] = self.now
        return cookie

    def _note(self, sid: str) -> None:
        found = self.held(sid)
        if not isinstance(found, Record):
            self.ended.add(sid)
        elif found.control.line.head:
            self.first_seen.setdefault((sid, found.control.generation), self.now)

    def _take(self, client: Client, cookie: str | None, *, keep_only: bool = False) -> None:
        assert cookie is not None
        token = cookie.partition(";")[0].removeprefix(NAME + "=")
        if keep_only:
            client.kept.append(token)
        else:
            client.take(token)

    @staticmethod
    def _facts(token: str | None) -> Facts:
        cookie = "" if token is None else f"{NAME}={token}"
        return Facts("GET", "https", "app.example", "/", "192.0.2.1", cookie, no_headers)

    # -- what is known -------------------------------------------------------------------------------------------------

    def read(self, text: str) -> Token:
        """Return the parts of a token."""
        token = self.mint.verify(text)
        assert token is not None
        return token

    def held(self, sid: str) -> Loaded:
        """Return what the store holds."""
        return drive(self.store.load(sid))

    def id_of(self, client: Client) -> str:
        """Return the id of the session that the jar names."""
        assert client.jar is not None
        return session_id(self.read(client.jar).seed)

    def generation(self, client: Client) -> int:
        """Return the present generation of the session that the jar names, -1 if it has ended."""
        found = self.held(self.id_of(client))
        return found.control.generation if isinstance(found, Record) else -1

    def standing(self, text: str) -> rotation.Standing | None:
        """Return what a token would be worth now, by true time; None if its session has ended."""
        token = self.read(text)
        found = self.held(session_id(token.seed))
        if not isinstance(found, Record):
            return None
        return rotation.judge(found.control, token, now=self.now, grace=self.grace).standing
