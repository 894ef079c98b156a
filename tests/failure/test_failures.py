"""The short form of the failure lab: one run of what breaks, and proof that the lab sees what it looks for."""

from __future__ import annotations

import pytest

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


@requirement("R42", "R51", "R61")
@pytest.mark.parametrize("name", SHORT)
def test_no_session_lives_after_an_end_that_was_reported_as_confirmed(name: str) -> None:
    """And every unconfirmed one is dead within five seconds after all is whole; a stale side is not read after two."""
    outcome = run(BY_NAME[name], sessile)
    assert (outcome.revived, outcome.late, outcome.stale) == (0, 0, 0), outcome
    assert outcome.confirmed > 100, outcome
    assert outcome.unconfirmed + outcome.failed > 0, outcome


def test_the_lab_sees_what_other_libraries_do() -> None:
    """GET, SET and DEL through the same failover: acknowledged ends come back. A lab that cannot fail shows nothing."""
    outcome = run(BY_NAME["kill -9, lag 500 ms"], naive)
    assert outcome.revived > 0, outcome
