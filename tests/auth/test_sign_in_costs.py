"""Signing in costs no more than the page says; and a password's hash stops no event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessile.auth.passwords import Proved, Refused
from tests.auth.factor_bench import GOOD, FactorBench

ADA = "ada@site.example"
TURNS = 100
# It is reached only by a loop that stands still.
DEADLINE = 60.0


def test_nothing_costs_more_than_the_page_says() -> None:
    """Cell by cell; `python -m benchmarks.sign_in_costs --write` writes the page again for what costs less."""
    costs = pytest.importorskip("benchmarks.sign_in_costs")
    rows = [line.strip("| ").split(" | ") for line in costs.PAGE.read_text().splitlines() if line.startswith("| ")]
    said = {name: [int(cell.replace("–", "0")) for cell in cells] for name, *cells in rows if cells[0].isdecimal()}
    counted = [*costs.signing_in(), *costs.using_tokens()]
    assert {cost.flow for cost in counted} == said.keys()
    for cost in counted:
        assert sum(cost[1:]) > 0
        for took, most in zip(cost[1:], said[cost.flow], strict=False):
            assert took <= most, (cost, said[cost.flow])


class Waits:
    """Stand before a hasher: each hash waits until the event loop has turned a hundred times since it began."""

    def __init__(self, hasher: Any) -> None:
        self.real, self._turned = hasher, threading.Condition()
        self.turns, self.begun, self.stood_still = 0, 0, 0

    async def turn(self) -> None:
        """Count the loop's turns, for as long as somebody lets it."""
        while True:
            await asyncio.sleep(0)
            with self._turned:
                self.turns += 1
                self._turned.notify_all()

    def _wait(self) -> None:
        with self._turned:
            self.begun += 1
            until = self.turns + TURNS
            self.stood_still += not self._turned.wait_for(lambda: self.turns >= until, DEADLINE)

    def hash(self, password: str) -> Any:
        """Hash, when the loop has turned."""
        self._wait()
        return self.real.hash(password)

    def verify(self, hashed: str, password: str) -> Any:
        """Verify, when the loop has turned."""
        self._wait()
        return self.real.verify(hashed, password)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
async def waits() -> AsyncIterator[tuple[FactorBench, Waits]]:
    """Return an application on an event loop, whose hashes wait for it."""
    bench = FactorBench(blocking=False)
    flow = bench.passwords.flow
    found = flow._hasher = Waits(flow._hasher)
    turning = asyncio.create_task(found.turn())
    yield bench, found
    turning.cancel()
    await bench.close()


async def test_no_hash_of_a_password_stops_the_event_loop(waits: tuple[FactorBench, Waits]) -> None:
    """The first one, a check that is right, wrong, or of nobody, a change, and the hash that is made anew."""
    bench, hasher = waits
    user = await bench.account(ADA)
    browser = bench.browser()
    assert await browser.run(bench.passwords.sign_in, ADA, "wrong") is Refused.REFUSED
    assert await browser.run(bench.passwords.sign_in, "nobody", GOOD) is Refused.REFUSED
    assert await browser.run(bench.passwords.sign_in, ADA, GOOD) == Proved(user, True)
    assert await browser.run(bench.passwords.verify, GOOD) == Proved(user, True)
    assert await browser.run(bench.passwords.change, "seven brisk otters below Ghent") is None
    hasher.real = type(hasher.real)(6, 7168, 1)
    again = bench.browser()
    assert await again.run(bench.passwords.sign_in, ADA, "seven brisk otters below Ghent") == Proved(user, True)
    assert (hasher.begun, hasher.stood_still) == (8, 0)


async def test_a_hash_in_place_would_be_found(
    waits: tuple[FactorBench, Waits], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: one that is computed on the loop itself waits in vain."""
    bench, hasher = waits
    await bench.account(ADA)

    async def in_place(work: Any, *given: Any) -> Any:
        return work(*given)

    monkeypatch.setattr(bench.ground, "compute", in_place)
    monkeypatch.setattr("tests.auth.test_sign_in_costs.DEADLINE", 0.2)
    await bench.browser().run(bench.passwords.sign_in, ADA, GOOD)
    assert hasher.stood_still == 1
