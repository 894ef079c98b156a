"""The runner that refuses: how the blocking door uses the one `async def` engine.

A coroutine that never waits needs no event loop: sending once runs it to its end. If it does wait, it is closed and the
caller is told. It must never return `None` then: in a session library that would read "not revoked".
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from ..errors import WouldBlock

T = TypeVar("T")


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that does not wait, and return its result.

    Raises:
        WouldBlock: it waited. It was closed; nothing after the point where it waited was done.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise WouldBlock
