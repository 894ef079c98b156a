"""What an end is the effect of: a signal that came, or nothing but ourselves. It travels beside the call, not in it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Cause(NamedTuple):
    """Name the application that a signal came from, and the transaction that it told of."""

    sender: str
    txn: str


_present: ContextVar[Cause | None] = ContextVar("sessile_signal_cause", default=None)


def present() -> Cause | None:
    """Return what the ends of this moment are the effect of."""
    return _present.get()


@contextmanager
def causing(cause: Cause) -> Generator[None]:
    """Let what is done inside be the effect of a signal."""
    token = _present.set(cause)
    try:
        yield
    finally:
        _present.reset(token)
