"""One engine on a bench: a clock that stands still, a store whose calls are counted, and every event kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sessile.core.answers import Answer
from sessile.core.bridge import drive
from sessile.core.cookies import CookieRules
from sessile.core.engine import Engine
from sessile.core.events import Event
from sessile.core.ids import TokenMint, session_id
from sessile.core.keys import KeyRing
from sessile.core.network import Proxies
from sessile.core.policy import Policy
from sessile.core.ports import Store
from sessile.core.requests import Facts
from sessile.core.session import Rules, Session
from sessile.stores.memory import MemoryStore

RING = KeyRing({0: bytes(range(32))})
VERBS = ("load", "create", "save", "touch", "end", "of_user", "end_user", "end_everything", "sweep")
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"


class Rig:
    """Drive an engine request by request."""

    def __init__(self, store: Store | None = None, policy: Policy | None = None, **options: Any) -> None:
        self.now = 1_700_000_000.0
        self.store: Any = MemoryStore() if store is None else store
        self.calls: list[str] = []
        self.events: list[Event] = []
        self.policy = policy or Policy()
        for verb in VERBS:
            setattr(self.store, verb, self._counted(verb, getattr(self.store, verb)))
        self.engine = Engine(
            store=self.store,
            ring=options.pop("ring", RING),
            policy=self.policy,
            cookie=options.pop("cookie", CookieRules()),
            proxies=options.pop("proxies", Proxies()),
            rules=Rules(self.policy, self.clock, frozenset({"user_id", "_user_id"})),
            sinks=(self.events.append,),
            clock=self.clock,
            **options,
        )
        self.mint = TokenMint(RING)

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def _counted(self, verb: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(*given: Any, **named: Any) -> Any:
            self.calls.append(verb)
            return await method(*given, **named)

        return counted

    def open(self, token: str | None = None, **how: Any) -> Session:
        """Load the session of a request that carries this token."""
        return drive(self.engine.load(facts(token, **how)))

    def commit(self, session: Session) -> Answer:
        """Commit, and return the answer."""
        return drive(self.engine.commit(session))

    def close(self, session: Session) -> str | None:
        """Commit, and return the token that the answer sets; "" if it deletes the cookie."""
        return token_of(self.commit(session))

    def sign_in(self, user: str = "ada", token: str | None = None, **how: Any) -> str:
        """Sign a user in, and return the token."""
        session = self.open(token, **how)
        session.login(user)
        fresh = self.close(session)
        assert fresh
        return fresh

    def visit(self, token: str | None, **how: Any) -> str | None:
        """Read the session in one request, and return what its answer sets."""
        session = self.open(token, **how)
        session.get("anything")
        return self.close(session)

    def user_of(self, token: str | None, **how: Any) -> str | None:
        """Return who the token's request is served as; commits nothing."""
        return self.open(token, **how).user_id

    def id_of(self, token: str) -> str:
        """Return the id of the session that a token names."""
        read = self.mint.verify(token)
        assert read is not None
        return session_id(read.seed)

    def held(self, token: str) -> Any:
        """Return what the store holds under a token's session."""
        return drive(self.store.load(self.id_of(token)))

    def counted(self, *requests: Callable[[], Any]) -> list[str]:
        """Return the calls of the store that these requests make."""
        self.calls.clear()
        for request in requests:
            request()
        return list(self.calls)

    def told(self, kind: type[Event]) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.events if type(event) is kind]


def token_of(answer: Answer) -> str | None:
    """Return the token that an answer sets, "" if it deletes the cookie, None if it leaves it alone."""
    if answer.cookie is None:
        return None
    return answer.cookie.partition(";")[0].partition("=")[2]


def facts(
    token: str | None = None,
    *,
    cookie: str | None = None,
    method: str = "GET",
    scheme: str = "https",
    host: str = "app.example",
    peer: str = "192.0.2.7",
    passive: bool = False,
    **headers: str,
) -> Facts:
    """Return the facts of a request; other keywords are headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if cookie is None:
        cookie = "" if token is None else f"__Host-id={token}"
    return Facts(method, scheme, host, "/", peer, cookie, named.get, passive)
