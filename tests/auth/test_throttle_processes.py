"""Brute force from several processes at once: what they try together stays within the limit, also after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessile.auth.outcomes import Refused
from sessile.auth.throttle import Held, Limits
from tests.auth.factor_bench import FactorBench
from tests.auth.racers import Line, race, shared_vault
from tests.core.rig import facts
from tests.support.requirements import requirement

LIMITS = Limits(cap=9, source=1000)
SOURCE = Limits(source=12)
# After so many seconds each: five attempts are free, then one each time that the waiting is over, until it is locked.
PHASES = [(0.0, 5), (0.5, 0), (0.5, 1), (2.0, 1), (3.9, 0), (0.1, 1), (8.0, 1), (1e8, 0)]
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("kind", ["sqlite", "postgresql"])]


def guess(line: Line, url: str, peer: str) -> None:
    """Try wrong codes on one user as fast as it goes; tell in each phase how many were looked at."""
    bench = FactorBench(vault=url, limits=LIMITS)
    for seconds, _ in PHASES:
        bench.clock.advance(seconds)
        line.wait()
        line.tell(sum(_try(bench, "ada", peer) is Refused.REFUSED for _ in range(8)))


def _try(bench: FactorBench, user: str, peer: str, code: str = "0000-0000") -> object:
    session = bench.sessions.open(facts(None, peer=peer))
    session.login(user, pending=True)
    answer = bench.recovery.use(session, code)
    assert session.is_authenticated is not isinstance(answer, Held | Refused)
    return answer


@requirement("R91")
async def test_four_processes_try_no_more_than_one_may(kind: str, tmp_path: Path) -> None:
    """From four networks at the same moment: exactly as many guesses are looked at as one guesser has, in each phase.

    When it is locked, it stays locked: after a restart, after years, and for the right code; other users go on.
    """
    with shared_vault(kind, tmp_path) as url:
        owner = FactorBench(vault=url, limits=LIMITS)
        saved = {}
        for user in ("ada", "bob"):
            browser = owner.browser()
            await browser.login(user)
            saved[user] = await browser.run(owner.recovery.generate)
        with race(guess, *[(url, f"198.51.{network}.7") for network in range(4)]) as running:
            looked_at = [sum(running.turn()) for _ in PHASES]
        assert looked_at == [expected for _, expected in PHASES]
        assert sum(looked_at) == LIMITS.cap
        await owner.close()
        restarted = FactorBench(vault=url, limits=LIMITS)
        restarted.clock.advance(1e9)
        assert _try(restarted, "ada", "203.0.113.9", saved["ada"][0]) == Held(None)
        assert not isinstance(_try(restarted, "bob", "203.0.113.9", saved["bob"][0]), Held | Refused)
        await restarted.recovery.flow.throttle.clear("ada")
        assert not isinstance(_try(restarted, "ada", "203.0.113.9", saved["ada"][0]), Held | Refused)
        await restarted.close()


def spray(line: Line, url: str, first: int) -> None:
    """Try one wrong code on each of many users from one network; tell how many were looked at."""
    bench = FactorBench(vault=url, limits=SOURCE)
    bench.sessions.open(facts(None))
    line.wait()
    users = range(first, first + 10)
    line.tell(sum(_try(bench, f"user{user}", "198.51.100.7") is Refused.REFUSED for user in users))


@requirement("R91")
async def test_four_processes_of_one_network_share_its_limit(kind: str, tmp_path: Path) -> None:
    """Forty names, and as many guesses as the network has; others are not held, and a quarter of an hour ends it."""
    with shared_vault(kind, tmp_path) as url:
        with race(spray, *[(url, 10 * number) for number in range(4)]) as running:
            assert sum(running.turn()) == SOURCE.source
        bench = FactorBench(vault=url, limits=SOURCE)
        assert isinstance(_try(bench, "user99", "198.51.100.200"), Held)
        assert _try(bench, "user99", "203.0.113.9") is Refused.REFUSED
        bench.clock.advance(SOURCE.window)
        assert _try(bench, "user98", "198.51.100.7") is Refused.REFUSED
        await bench.close()
