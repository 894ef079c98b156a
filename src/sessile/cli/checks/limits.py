"""Checks of time: how long sessions live, and by which clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...core.policy import DAY, HOUR, MINUTE, duration
from ..deployment import Deployment
from .finding import Finding

_SKEW_IS_LONG: Final = 15.0


def limits(deployment: Deployment) -> Iterator[Finding]:
    """Look at how long sessions live, and at the rest of the policy."""
    policy = deployment.policy
    limits = f"{duration(policy.absolute)} at most, {duration(policy.idle)} idle"
    claims = {"AAL3": (12 * HOUR, 15 * MINUTE), "AAL2": (DAY, HOUR)}.get(policy.name)
    if claims is not None and (policy.absolute > claims[0] or policy.idle > claims[1]):
        yield Finding(
            "fail",
            "limits-claimed",
            "R34",
            f"the policy calls itself {policy.name} and allows {limits}",
            f"{policy.name} allows {duration(claims[0])} at most, {duration(claims[1])} idle.",
            f"Use Policy.{policy.name.lower()}(), or another name.",
        )
    elif policy.absolute > 30 * DAY:
        yield Finding(
            "fail",
            "limits",
            "R34",
            f"sessions live {limits}",
            "No assurance level of NIST's allows more than 30 days: a stolen session stays stolen.",
            "Use Policy.aal1() or a stricter one.",
        )
    elif policy.absolute > DAY or policy.idle > HOUR:
        yield Finding(
            "warn",
            "limits",
            "R34",
            f"sessions live {limits}",
            "That is AAL1; where a second factor protects anything, NIST asks for 24 h and 1 h (AAL2).",
            "Use Policy.aal2(), unless what is behind the sign-in is worth little.",
        )
    else:
        yield Finding("ok", "limits", "R34", f"sessions live {limits}")
    timed = {"absolute timeout", "idle timeout"}
    for line in policy.report().lines:
        if not line.meets and line.what not in timed:
            yield Finding(
                "warn",
                f"policy-{line.what.replace(' ', '-')}",
                line.source.partition(",")[0],
                f"{line.what}: {line.value}",
                f"Advised: {line.advice} ({line.source}).",
                "Change it in the policy, or write down why not.",
            )


def clock(deployment: Deployment) -> Iterator[Finding]:
    """Look at the clock."""
    if not deployment.real_clock:
        yield Finding(
            "fail" if deployment.production else "warn",
            "clock",
            "R33",
            "the clock is not time.time",
            "A clock that stands still never ends a session.",
            "Leave `clock` out; it is for tests.",
        )
    if deployment.policy.clock_skew > _SKEW_IS_LONG:
        yield Finding(
            "warn",
            "clock-skew",
            "R38",
            f"clocks may differ by {duration(deployment.policy.clock_skew)}",
            "Every session lives that much longer than its idle timeout says.",
            "Let NTP set the clocks, and keep clock_skew at a few seconds.",
        )
