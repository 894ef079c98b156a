"""Siblings that settle: which tokens of a session live, which are handed a successor, which one is a replay.

Every response that hands out a successor mints its own sibling: same generation, its own branch. A browser keeps one
of them, a thief's client another, and that is how the two are told apart. For an authentic token (p, b) of a session at
generation g (R29-R31; simulated and property-tested, see docs/explanation/rotation.md):

    p    branch b                               answer
    g    none seen yet                          live; g is confirmed, b is head and first candidate
    g    within grace of the first              live; b joins the candidates, nothing is decided
    g    first request after that window        live; b is the head, all other candidates are superseded now
    g    the head                               live
    g    never seen                             live; b is the head, the old head is superseded now
    g    superseded                             live for grace after that (in flight), then replay
    g-1  while g is unconfirmed: the head       live, and handed a sibling (a dropped response logs nobody out)
    g-1  while g is unconfirmed: never seen     replay: its holder kept it back until the other line had moved on
    g-1  once g is confirmed                    live for grace, handed nothing; then replay
    g-1  superseded within g-1                  live for grace after that, handed nothing; then replay
    <g-1                                        replay
    >g   the store lost writes                  live; adopted as the state of the session, reported

Only a request that arrived after the window may begin the next generation, so that every generation settles first. An
honest browser's jar has come to rest by then, if a request's way there and back, the store's answer and the difference
between clocks take less than `grace` together.

Pure functions: the state comes in, the next state goes out, time is an argument.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from msgspec.structs import replace

from .ids import Token
from .record import Control, Line, Superseded

# Bounds what a record can grow by (3 KB). In the window, a storm's further branches are served without being noted;
# only who hoards successors and shows them one by one after the window meets the second limit.
MAX_CANDIDATES: Final = 64
MAX_SUPERSEDED: Final = 128


class Standing(Enum):
    """Name what a token is worth."""

    LIVE = "live"
    IN_FLIGHT = "in flight"  # left behind a moment ago: served, handed nothing
    SUCCEEDED = "succeeded"  # its successor is not confirmed yet: served, handed a sibling
    REPLAY = "replay"
    ROLLED_BACK = "rolled back"


class Verdict(NamedTuple):
    """Hold what a token is worth and the state after it was seen (the same object: nothing changed)."""

    standing: Standing
    control: Control


def judge(control: Control, token: Token, *, now: float, grace: float) -> Verdict:
    """Return the verdict on an authentic token of this session.

    `grace` is in seconds. Nothing is written here; the caller stores `verdict.control` if it is another object.
    """
    line = control.line
    if token.generation == control.generation:
        if token.branch == line.head and len(line.candidates) < 2:
            return Verdict(Standing.LIVE, control)
        return _judge_present(control, token.branch, now, grace)
    if token.generation > control.generation:
        adopted = Line(head=token.branch, first_seen=now, candidates=(token.branch,))
        return Verdict(
            Standing.ROLLED_BACK,
            replace(control, generation=token.generation, rotated_at=now, line=adopted, previous=None),
        )
    if token.generation == control.generation - 1:
        return _judge_previous(control, token.branch, now, grace)
    return Verdict(Standing.REPLAY, control)


def _judge_present(control: Control, branch: bytes, now: float, grace: float) -> Verdict:
    line = control.line
    if not line.head:
        line = Line(head=branch, first_seen=now, candidates=(branch,))
        return Verdict(Standing.LIVE, replace(control, line=line))
    left = _superseded_at(line, branch)
    if left is not None:
        return Verdict(Standing.IN_FLIGHT if now - left <= grace else Standing.REPLAY, control)
    if line.candidates and now - line.first_seen <= grace:
        if branch in line.candidates or len(line.candidates) >= MAX_CANDIDATES:
            return Verdict(Standing.LIVE, control)
        return Verdict(Standing.LIVE, replace(control, line=replace(line, candidates=(*line.candidates, branch))))
    if len(line.superseded) >= MAX_SUPERSEDED:
        return Verdict(Standing.LIVE if branch == line.head else Standing.REPLAY, control)
    return Verdict(Standing.LIVE, replace(control, line=_settle(line, branch, now)))


def _judge_previous(control: Control, branch: bytes, now: float, grace: float) -> Verdict:
    previous, line = control.previous, control.line
    left = None if previous is None else _superseded_at(previous, branch)
    if left is None and line.head:
        left = line.first_seen
    if left is not None:
        return Verdict(Standing.IN_FLIGHT if now - left <= grace else Standing.REPLAY, control)
    if previous is not None and branch == previous.head:
        return Verdict(Standing.SUCCEEDED, control)
    return Verdict(Standing.REPLAY, control)


def _superseded_at(line: Line, branch: bytes) -> float | None:
    for left in line.superseded:
        if left.branch == branch:
            return left.at
    return None


def _settle(line: Line, branch: bytes, now: float) -> Line:
    """Make `branch` the head; every other branch that was seen is superseded now."""
    others = dict.fromkeys((line.head, *line.candidates))
    others.pop(branch, None)
    others.pop(b"", None)
    left = tuple(Superseded(other, now) for other in others)
    return Line(head=branch, first_seen=line.first_seen, superseded=(*line.superseded, *left))


def is_due(control: Control, *, loaded_at: float, interval: float, grace: float) -> bool:
    """Tell whether a request that was loaded at `loaded_at` should begin the next generation.

    The present one is `interval` seconds old, confirmed, and its window had passed at the load, which settled it. The
    time of the commit does not count: a slow request that arrived in the window may carry a branch that its browser has
    left since.
    """
    line = control.line
    confirmed = bool(line.head) and loaded_at - line.first_seen > grace
    return confirmed and loaded_at - control.rotated_at >= interval


def rotated(control: Control, *, now: float) -> Control:
    """Return the state with the next generation begun: same record, same id, nobody has seen its tokens yet.

    What was superseded is kept: pruned, a thief's old branch would look like one that was never seen.
    """
    return replace(control, generation=control.generation + 1, rotated_at=now, line=Line(), previous=control.line)


def begun(branch: bytes, *, now: float) -> Line:
    """Return the line of a new session: the one response that creates it hands out the one branch there is."""
    return Line(head=branch, first_seen=now, candidates=(branch,))
