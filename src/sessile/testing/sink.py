"""A sink that remembers what happened, so that a test can ask."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..core.events import Event
from ..core.sessions import AsyncSessions, Sessions

E = TypeVar("E", bound=Event)


class RecordingSink:
    """Be a sink of sessions under test: `Sessions(…, sinks=[RecordingSink()])`. Iterate over it for the events."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Remember one event."""
        with self._lock:
            self._events.append(event)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f"<RecordingSink {self.codes}>"

    @property
    def events(self) -> list[Event]:
        """Return what happened so far, oldest first."""
        with self._lock:
            return list(self._events)

    @property
    def codes(self) -> list[str]:
        """Return the codes of what happened so far, as in ["session-created", "signed-in"]."""
        return [event.code for event in self.events]

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def clear(self) -> None:
        """Forget what happened so far."""
        with self._lock:
            self._events.clear()


@contextmanager
def record(sessions: Sessions | AsyncSessions, sink: RecordingSink | None = None) -> Generator[RecordingSink]:
    """Let a sink hear, beside their own, what happens to sessions that exist already, for a while."""
    heard = RecordingSink() if sink is None else sink
    engine = sessions.engine
    before = engine.sinks
    engine.sinks = (*before, heard)
    try:
        yield heard
    finally:
        engine.sinks = before
