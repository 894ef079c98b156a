"""The policy: limits, presets, contradictions, and the report."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sessile.core.binding import Binding
from sessile.core.policy import DAY, HOUR, MINUTE, Policy, duration
from sessile.core.record import EndReason
from sessile.core.session import anonymous
from sessile.errors import ConfigurationError
from tests.support.requirements import requirement

CONTROL = anonymous(1000.0)
LIMITS = ("idle", "absolute", "rotation", "grace", "touch", "tombstone")


@requirement("R33", "R34")
@pytest.mark.parametrize(
    ("policy", "idle", "absolute"),
    [
        (Policy(), HOUR, DAY),
        (Policy.aal1(), 7 * DAY, 30 * DAY),
        (Policy.aal2(), HOUR, DAY),
        (Policy.aal3(), 15 * MINUTE, 12 * HOUR),
        (Policy.high_value(), 5 * MINUTE, 4 * HOUR),
    ],
)
def test_presets_keep_the_limits_of_their_standard(policy: Policy, idle: float, absolute: float) -> None:
    """NIST 63B-4 and OWASP; both limits are on by default, and grace is at most 30 s."""
    assert (policy.idle, policy.absolute) == (idle, absolute)
    assert policy.grace <= 30
    assert policy.rotation <= HOUR


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: value} for name in LIMITS for value in (0, -1, math.nan, math.inf)),
        {"clock_skew": -1},
        {"clock_skew": math.nan},
        {"clock_skew": 30.0},
        {"grace": 301.0, "rotation": 900.0},
        {"rotation": 59.0},
        {"idle": 2 * DAY},
        {"touch": 31 * MINUTE},
        {"max_sessions": 0},
        {"max_bytes": 10},
        {"on_replay": "nothing"},
        {"on_limit": "ask"},
        {"keep": "some"},
    ],
    ids=str,
)
def test_contradictions_are_errors_at_start(wrong: dict[str, Any]) -> None:
    """Nothing that would switch a limit off silently is accepted."""
    with pytest.raises(ConfigurationError, match="policy: "):
        Policy(**wrong)


def test_a_misspelled_rung_is_an_error_at_start() -> None:
    """Not when the first client moves."""
    with pytest.raises(ConfigurationError, match="rungs"):
        Binding(network="logg")  # type: ignore[arg-type]


@requirement("R33", "R36", "R38")
@pytest.mark.parametrize(
    ("seen_at", "now", "reason"),
    [
        (1000.0, 1000.0 + HOUR, None),
        (1000.0, 1000.0 + HOUR + 64.9, None),
        (1000.0, 1000.0 + HOUR + 65.0, EndReason.IDLE),
        (1000.0 + DAY - 1, 1000.0 + DAY - 0.1, None),
        (1000.0 + DAY - 1, 1000.0 + DAY, EndReason.ABSOLUTE),
        (2000.0, 1500.0, None),  # a clock that went back
        (math.nan, 1500.0, EndReason.IDLE),
    ],
)
def test_limits_pass_when_they_are_said_to(seen_at: float, now: float, reason: EndReason | None) -> None:
    """Idle late by its tolerance, never early; absolute at once; a NaN has passed."""
    assert Policy().expired(CONTROL, seen_at, now) is reason


def test_a_record_without_a_time_has_expired() -> None:
    """A NaN never compares, and must not mean "for ever"."""
    assert Policy().expired(anonymous(math.nan), 1000.0, 1000.0) is EndReason.ABSOLUTE


@requirement("R39")
def test_the_deadline_is_the_nearer_limit() -> None:
    """It is what stores clean up by, and never "no expiry"."""
    policy = Policy()
    assert policy.deadline(CONTROL, 1000.0) == 1000.0 + HOUR + policy.tolerance
    assert policy.deadline(CONTROL, 1000.0 + DAY) == 1000.0 + DAY


@requirement("R41", "R66")
def test_the_report_names_every_limit_and_every_departure() -> None:
    """Each line has its value, its advice and its source; what departs from AAL2 is marked."""
    fine, loose = Policy().report(), Policy.aal1().report()
    assert all(line.meets for line in fine.lines)
    assert {line.what for line in loose.lines if not line.meets} == {"absolute timeout", "idle timeout"}
    printed = str(loose)
    assert printed.startswith("Session policy: AAL1\n")
    assert "!!  absolute timeout" in printed
    assert "R34, NIST 63B-4 2.2.3" in printed
    for word in ("concurrent sessions", "single sign-on", "kept at sign-in", "after a replay", "binding"):
        assert word in printed
    named = Policy(keep=frozenset({"cart", "b"}), max_sessions=2).report()
    assert "b, cart" in str(named)
    assert "2, then end-oldest" in str(named)


@pytest.mark.parametrize(
    ("seconds", "said"), [(30.0, "30 s"), (900.0, "15 min"), (3600.0, "1 h"), (86400.0 * 30, "30 d"), (0.5, "0.5 s")]
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    """The largest unit that fits."""
    assert duration(seconds) == said
