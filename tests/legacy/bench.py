"""One engine with bridges on a bench: through either door, with a store whose calls are counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from sessile.core.answers import Answer
from sessile.core.bridge import drive
from sessile.core.legacy import BridgeReport
from sessile.core.policy import Policy
from sessile.core.ports import Store
from sessile.core.session import Session
from tests.core.rig import Rig, facts, token_of


class Visit:
    """Hold one request: what its session was, and what its answer said."""

    def __init__(self, session: Session, answer: Answer) -> None:
        self.user = session.user_id
        self.data = dict(session)
        self.aal = session.aal
        self.id = session.id
        self.answer = answer

    @property
    def token(self) -> str | None:
        """Return the token that the answer sets, "" if it deletes ours, None if it leaves it alone."""
        return token_of(self.answer)

    @property
    def forgotten(self) -> tuple[str, ...]:
        """Return the names of the cookies that the answer deletes."""
        assert all("; Max-Age=0;" in line for line in self.answer.more)
        return tuple(line.partition("=")[0] for line in self.answer.more)


class Bench:
    """Drive an engine with bridges, request by request."""

    def __init__(self, *, blocking: bool = True, store: Store | None = None, policy: Policy | None = None) -> None:
        self.blocking = blocking
        self._loop = None if blocking else asyncio.new_event_loop()
        self.rig = Rig(store, policy)
        self.rig.now = time.time() + 1  # no earlier than the second in which a test's cookie is signed
        self.store = self.rig.store
        self.events = self.rig.events

    def stand(self, *bridges: Any) -> Bench:
        """Let the engine adopt by these bridges."""
        self.rig.engine.take_over(tuple(bridge.open(blocking=self.blocking) for bridge in bridges))
        return self

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run what the engine does, as the door does it."""
        return drive(coroutine) if self._loop is None else self._loop.run_until_complete(coroutine)

    def close(self) -> None:
        """Release what is open."""
        self.run(self.rig.engine.close())
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.rig.now += seconds

    def open(self, cookie: str, **how: Any) -> Session:
        """Load the session of a request with this Cookie header."""
        session: Session = self.run(self.rig.engine.load(facts(cookie=cookie, **how)))
        return session

    def commit(self, session: Session) -> Visit:
        """Commit, and return what the request was."""
        session.get("anything")
        return Visit(session, self.run(self.rig.engine.commit(session)))

    def visit(self, cookie: str, act: Callable[[Session], Any] = lambda _: None, **how: Any) -> Visit:
        """Send one request; `act` is its view."""
        session = self.open(cookie, **how)
        act(session)
        return self.commit(session)

    def ours(self, token: str | None) -> str:
        """Return the Cookie header of a browser that holds this token."""
        assert token
        return f"__Host-id={token}"

    @property
    def report(self) -> BridgeReport:
        """Return what the first bridge says of itself."""
        assert self.rig.engine.adoption is not None
        return self.rig.engine.adoption.reports()[0]

    def codes(self) -> list[str]:
        """Return the codes of the events so far."""
        return [event.code for event in self.events]

    def refusals(self) -> list[str]:
        """Return why old sessions were refused, so far."""
        return [event.why for event in self.events if event.code == "legacy-refused"]  # type: ignore[attr-defined]

    def live(self) -> int:
        """Return how many sessions live."""
        stats = self.run(self.store.stats(self.rig.now))
        live: int = stats.live
        return live
