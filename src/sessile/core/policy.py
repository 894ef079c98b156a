"""The limits of a session's life, and what they decide (R33-R41, R66).

    time since                     limit        who moves it
    creation or authentication     absolute     only a successful (re-)authentication resets it
    last activity                  idle         activity; passive requests do not count (R40)
    last rotation                  rotation     the engine, at the next request
    what left a token behind       grace        nobody

Activity is written at most every `touch` seconds, and clocks of nodes differ; so that neither expires an active session
early, idle is enforced at `idle + tolerance` where tolerance = touch + clock_skew (R38). Absolute has no tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..errors import ConfigurationError
from .binding import Binding
from .record import Control, EndReason

DAY = 86_400.0
HOUR = 3_600.0
MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Hold the limits; all times are seconds.

    `max_sessions` limits a user's concurrent sessions, `on_limit` says what a further sign-in does. `on_replay` ends
    the one session or all of its user's. `keep` is what a sign-in carries over from the anonymous session: all,
    nothing, or the named keys (R26). `tombstone` is how long an end is remembered by name. `max_bytes` bounds the
    encoded data of one session.

    Raises:
        ConfigurationError: the limits contradict each other.
    """

    name: str = "AAL2"
    idle: float = HOUR
    absolute: float = DAY
    rotation: float = 15 * MINUTE
    grace: float = 30.0
    touch: float = MINUTE
    clock_skew: float = 5.0
    max_sessions: int | None = None
    on_limit: Literal["refuse", "end-oldest"] = "end-oldest"
    on_replay: Literal["end", "end-all"] = "end"
    keep: Literal["all", "none"] | frozenset[str] = "all"
    binding: Binding = field(default_factory=Binding)
    tombstone: float = DAY
    max_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        """Refuse limits that contradict each other."""
        for name in ("idle", "absolute", "rotation", "grace", "touch", "tombstone"):
            value = getattr(self, name)
            # A NaN is neither positive nor anything else, and would never expire.
            if not 0 < value < float("inf"):
                raise ConfigurationError(f"policy: {name} must be a positive, finite number of seconds")
        # It is what idle is enforced late by, and what a rotation must settle in spite of.
        if not 0 <= self.clock_skew < self.grace:
            raise ConfigurationError("policy: clock_skew must be zero or more seconds, and less than grace")
        if self.grace > 300:
            raise ConfigurationError(
                "policy: grace is for requests in flight; more than 300 s gives thieves time (R29)"
            )
        if self.rotation < 2 * self.grace:
            raise ConfigurationError(
                "policy: rotation must be at least twice the grace, so that a generation can settle"
            )
        if self.idle > self.absolute:
            raise ConfigurationError("policy: idle cannot exceed absolute")
        if self.touch > self.idle / 2:
            raise ConfigurationError("policy: touch must be at most half of idle")
        if self.max_sessions is not None and self.max_sessions < 1:
            raise ConfigurationError("policy: max_sessions is at least 1")
        if self.max_bytes < 1024:
            raise ConfigurationError("policy: max_bytes is at least 1024")
        if self.on_limit not in ("refuse", "end-oldest"):
            raise ConfigurationError("policy: on_limit is refuse or end-oldest")
        if self.on_replay not in ("end", "end-all"):
            raise ConfigurationError("policy: on_replay is end or end-all")
        if isinstance(self.keep, str) and self.keep not in ("all", "none"):
            raise ConfigurationError("policy: keep is all, none, or a set of keys")

    @property
    def tolerance(self) -> float:
        """Return by how many seconds the idle limit is enforced late, so that it is never early (R38)."""
        return self.touch + self.clock_skew

    @classmethod
    def aal1(cls) -> Policy:
        """Return the limits of NIST AAL1: 30 days at most; idle a week (R34)."""
        return cls(name="AAL1", idle=7 * DAY, absolute=30 * DAY, rotation=HOUR, touch=5 * MINUTE)

    @classmethod
    def aal2(cls) -> Policy:
        """Return the limits of NIST AAL2: 24 hours, idle one hour (R34). The default."""
        return cls()

    @classmethod
    def aal3(cls) -> Policy:
        """Return the limits of NIST AAL3: 12 hours, idle 15 minutes (R34)."""
        return cls(
            name="AAL3",
            idle=15 * MINUTE,
            absolute=12 * HOUR,
            rotation=10 * MINUTE,
            touch=15.0,
            on_replay="end-all",
            binding=Binding(network="log", agent="challenge", both="end"),
        )

    @classmethod
    def high_value(cls) -> Policy:
        """Return limits for banking and administration: 4 hours, idle 5 minutes, one session (OWASP)."""
        return cls(
            name="high value",
            idle=5 * MINUTE,
            absolute=4 * HOUR,
            rotation=5 * MINUTE,
            touch=10.0,
            max_sessions=1,
            on_replay="end-all",
            keep="none",
            binding=Binding(network="challenge", agent="end", both="end"),
        )

    def deadline(self, control: Control, seen_at: float) -> float:
        """Return when the session ends if nothing more happens (seconds since 1970)."""
        return min(seen_at + self.idle + self.tolerance, control.authenticated_at + self.absolute)

    def expired(self, control: Control, seen_at: float, now: float) -> EndReason | None:
        """Return which limit has passed, if any; at the limit itself the session is over."""
        # Written so that a NaN, which a damaged record may hold, has passed: compared the other way it never would.
        if not now < control.authenticated_at + self.absolute:
            return EndReason.ABSOLUTE
        if not now < seen_at + self.idle + self.tolerance:
            return EndReason.IDLE
        return None

    def report(self) -> PolicyReport:
        """Return the policy in words, with where it departs from the standards (R41)."""
        return _report(self)


class PolicyLine(NamedTuple):
    """Hold one line of the report: what, its value, what the standards say, whether it meets AAL2, its source."""

    what: str
    value: str
    advice: str
    meets: bool
    source: str


class PolicyReport(NamedTuple):
    """Hold the whole report; `str()` prints it."""

    name: str
    lines: tuple[PolicyLine, ...]

    def __str__(self) -> str:
        width = max(len(line.what) for line in self.lines)
        values = max(len(line.value) for line in self.lines)
        rows = [
            f"  {'ok' if one.meets else '!!'}  {one.what:<{width}}  {one.value:<{values}}  {one.advice} ({one.source})"
            for one in self.lines
        ]
        return "\n".join([f"Session policy: {self.name}", *rows])


def duration(seconds: float) -> str:
    """Write a number of seconds as people say it."""
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        # In quarters at most: 65 s is nobody's 1.08333 min.
        if seconds >= size and (seconds / size * 4).is_integer():
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _report(policy: Policy) -> PolicyReport:
    limit = "unlimited" if policy.max_sessions is None else f"{policy.max_sessions}, then {policy.on_limit}"
    keep = policy.keep if isinstance(policy.keep, str) else ", ".join(sorted(policy.keep))
    binding = f"network {policy.binding.network}, agent {policy.binding.agent}, both {policy.binding.both}"
    return PolicyReport(
        policy.name,
        (
            PolicyLine(
                "absolute timeout",
                duration(policy.absolute),
                "at most 24 h for AAL2",
                policy.absolute <= DAY,
                "R34, NIST 63B-4 2.2.3",
            ),
            PolicyLine(
                "idle timeout",
                duration(policy.idle),
                "at most 1 h for AAL2",
                policy.idle <= HOUR,
                "R34, NIST 63B-4 2.2.3",
            ),
            PolicyLine(
                "idle tolerance",
                duration(policy.tolerance),
                "enforced late by this, never early",
                policy.tolerance <= policy.idle / 4,
                "R38",
            ),
            PolicyLine(
                "rotation interval",
                duration(policy.rotation),
                "some hours at most",
                policy.rotation <= 4 * HOUR,
                "R29, OWASP renewal",
            ),
            PolicyLine("grace", duration(policy.grace), "at most 30 s", policy.grace <= 30, "R29"),
            PolicyLine("after a replay", policy.on_replay, "at least the session ends", True, "R30"),
            PolicyLine("concurrent sessions", limit, "a stated number or a stated choice", True, "R66, ASVS 7.1.2"),
            PolicyLine("kept at sign-in", keep, "a stated choice; another user's data never", True, "R26"),
            PolicyLine(
                "binding", binding, "an address alone ends nothing", policy.binding.network != "end", "R53, R54"
            ),
            PolicyLine("single sign-on", "not coordinated", "state how it is coordinated", True, "R41, ASVS 7.1.3"),
        ),
    )
