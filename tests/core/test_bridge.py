"""The runner that refuses: both halves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessile.core.bridge import drive
from sessile.errors import WouldBlock


async def answers(value: Any) -> Any:
    """Return without waiting, through one more coroutine."""

    async def inner() -> Any:
        return value

    return await inner()


@pytest.mark.parametrize("value", [None, 0, "x", [1]])
def test_a_coroutine_that_does_not_wait_gives_its_result(value: Any) -> None:
    """Whatever it is, None included."""
    assert drive(answers(value)) is value


def test_its_errors_pass_through() -> None:
    """With their own type and traceback."""

    async def fails() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        drive(fails())


def test_a_coroutine_that_waits_raises_and_is_closed() -> None:
    """It never returns None, its cleanup runs, and nothing behind the wait does."""
    done: list[str] = []

    async def waits() -> str:
        try:
            done.append("before")
            await asyncio.sleep(0)
            done.append("after")
        finally:
            done.append("closed")
        return "revoked"

    coroutine = waits()
    with pytest.raises(WouldBlock, match="open this store for `Sessions`"):
        drive(coroutine)
    assert done == ["before", "closed"]
    assert coroutine.cr_frame is None


def test_a_stop_iteration_inside_is_not_taken_for_a_result() -> None:
    """Python turns it into a RuntimeError; so does the door."""

    async def stops() -> None:
        raise StopIteration("forged")

    with pytest.raises(RuntimeError):
        drive(stops())
