"""The short form of the failure lab: one run of what breaks, and proof that the lab sees what it looks for."""

from __future__ import annotations

from typing import Any

import pytest

from sessile.core.ports import Ending
from sessile.core.record import Tombstone
from tests.failure.naive import NaiveRedis
from tests.failure.scenarios import SCENARIOS, naive, run, sessile
from tests.support.requirements import requirement

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
SHORT = (
    "kill -9, lag 500 ms",
    "partition of 8 s, clients on the old side",
    "planned failover",
    "primary frozen and thawed",
    "cluster: a shard's primary killed, lag 500 ms",
)
MEMCACHED = "memcached: a node frozen for 3 s (lease 3 s)"


@requirement("R42", "R51", "R61")
@pytest.mark.parametrize("name", [*SHORT, MEMCACHED])
def test_no_session_lives_after_an_end_that_was_reported_as_confirmed(name: str) -> None:
    """And every unconfirmed one is dead within five seconds after all is whole; a stale side is not read after two."""
    outcome = run(BY_NAME[name], sessile)
    assert (outcome.revived, outcome.late, outcome.stale) == (0, 0, 0), outcome
    assert outcome.confirmed >= 200, outcome
    assert outcome.unconfirmed + outcome.failed > 0, outcome
    assert outcome.of_users > 0, outcome
    assert outcome.late_saves > 0, outcome


@requirement("R51")
def test_ends_are_confirmed_while_nothing_breaks() -> None:
    """A store that is never sure would keep every promise. This one is sure, unless the machine stands still."""
    outcome = run(BY_NAME["nothing happens"], sessile)
    assert (outcome.revived, outcome.late) == (0, 0), outcome
    assert outcome.confirmed > 20 * (outcome.unconfirmed + outcome.failed), outcome


def test_the_lab_sees_ends_that_a_dead_primary_took_along() -> None:
    """GET, SET and DEL through the same failover: acknowledged ends come back. A lab that cannot fail shows nothing."""
    outcome = run(BY_NAME["kill -9, lag 500 ms"], naive, slow=False)
    assert outcome.at_stake > 0, outcome
    assert outcome.revived > 0, outcome


def test_the_lab_sees_who_reads_from_a_primary_that_is_one_no_longer() -> None:
    outcome = run(BY_NAME["planned failover"], naive, slow=False)
    assert outcome.stale > 0, outcome
    assert outcome.revived > 0, outcome


# pymemcache's HashClient forgets the clients of servers that it has given up, and closes none of them.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_lab_sees_ends_that_went_to_another_memcached() -> None:
    """A client that leaves out a silent node ends the session where it is not."""
    outcome = run(BY_NAME[MEMCACHED], naive, slow=False)
    assert outcome.revived > 0, outcome


def test_the_lab_sees_a_slow_request_that_brings_its_session_back() -> None:
    """It read before the end and saves after it; nothing breaks."""
    outcome = run(BY_NAME["nothing happens"], naive, slow=True)
    assert outcome.late_saves > 0, outcome
    assert outcome.revived > 0, outcome


class _NeverSure(NaiveRedis):
    async def end(self, session_id: str, tombstone: Tombstone) -> Ending:
        return (await super().end(session_id, tombstone))._replace(confirmed=False)


def test_the_lab_does_not_take_a_store_that_is_never_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_sure(url: str, *, blocking: bool) -> Any:
        return None if blocking else _NeverSure(url)

    monkeypatch.setattr("tests.failure.scenarios.PATIENCE", 5.0)
    with pytest.raises(AssertionError, match="hardly an end is confirmed although nothing is broken"):
        run(BY_NAME["nothing happens"], never_sure)
