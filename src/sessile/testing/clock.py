"""A clock that stands still until it is told to move, so that no test of a timeout sleeps."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace

from ..core.sessions import AsyncSessions, Sessions

START: Final = 1_800_000_000.0  # 2027-01-15 08:00 UTC


class FrozenClock:
    """Be the `clock` of sessions under test: `Sessions(…, clock=FrozenClock())`.

    `start` is seconds since 1970.
    """

    def __init__(self, start: float = START) -> None:
        self._now = _finite(start)

    def __call__(self) -> float:
        """Return the time (seconds since 1970)."""
        return self._now

    def __repr__(self) -> str:
        return f"<FrozenClock at {self._now:.3f}>"

    def advance(self, seconds: float) -> float:
        """Move on by `seconds` and return the time; a negative number is a clock that jumps back."""
        self._now = _finite(self._now + seconds)
        return self._now


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a clock shows a finite number of seconds")
    return value


@contextmanager
def freeze(sessions: Sessions | AsyncSessions, clock: FrozenClock | None = None) -> Generator[FrozenClock]:
    """Let sessions that exist already go by `clock` (default: one that starts at their present time), for a while.

    For applications that make their sessions when they are imported. What is stored meanwhile carries the frozen times.
    """
    engine = sessions.engine
    before, rules = engine.clock, engine.rules
    frozen = FrozenClock(before()) if clock is None else clock
    engine.clock, engine.rules = frozen, replace(rules, clock=frozen)
    try:
        yield frozen
    finally:
        engine.clock, engine.rules = before, rules
