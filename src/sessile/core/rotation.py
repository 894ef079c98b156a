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
    g-1  while g is unconfirmed: head/candidate live, and handed a sibling (a dropped response logs nobody out)
    g-1  while g is unconfirmed: never seen     the same, and it becomes the head of g-1
    g-1  once g is confirmed                    live for grace, handed nothing; then replay
    g-1  superseded within g-1                  live for grace after that, handed nothing; then replay
    <g-1                                        replay
    >g   the store lost writes                  live; adopted as the state of the session, reported

Pure functions: the state comes in, the next state goes out, time is an argument.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from msgspec.structs import replace

from .ids import Token
from .record import Control, Line, Superseded

# A browser's burst uses a handful; 64 leaves room for every honest storm and bounds what a record can grow by (1 KB).
MAX_BRANCHES: Final = 64


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
    known = branch == line.head or branch in line.candidates
    if not known and len(line.candidates) + len(line.superseded) >= MAX_BRANCHES:
        return Verdict(Standing.REPLAY, control)
    if line.candidates and now - line.first_seen <= grace:
        if known:
            return Verdict(Standing.LIVE, control)
        return Verdict(Standing.LIVE, replace(control, line=replace(line, candidates=(*line.candidates, branch))))
    return Verdict(Standing.LIVE, replace(control, line=_settle(line, branch, now)))


def _judge_previous(control: Control, branch: bytes, now: float, grace: float) -> Verdict:
    previous = control.previous
    confirmed = bool(control.line.head)
    if previous is not None:
        left = _superseded_at(previous, branch)
        if left is not None:
            return Verdict(Standing.IN_FLIGHT if now - left <= grace else Standing.REPLAY, control)
    if confirmed:
        return Verdict(Standing.IN_FLIGHT if now - control.line.first_seen <= grace else Standing.REPLAY, control)
    if previous is None:
        return Verdict(Standing.REPLAY, control)
    if branch == previous.head or branch in previous.candidates:
        return Verdict(Standing.SUCCEEDED, control)
    if len(previous.candidates) + len(previous.superseded) >= MAX_BRANCHES:
        return Verdict(Standing.REPLAY, control)
    return Verdict(Standing.SUCCEEDED, replace(control, previous=_settle(previous, branch, now)))


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


def is_due(control: Control, *, now: float, interval: float, grace: float) -> bool:
    """Tell whether the session's token should be rotated now: it is confirmed, settled, and `interval` seconds old."""
    return now - control.rotated_at >= interval and bool(control.line.head) and now - control.line.first_seen > grace


def rotated(control: Control, *, now: float) -> Control:
    """Return the state with the next generation begun: same record, same id, nobody has seen its tokens yet.

    What was superseded is kept: pruned, a thief's old branch would look like one that was never seen.
    """
    return replace(control, generation=control.generation + 1, rotated_at=now, line=Line(), previous=control.line)


def begun(branch: bytes, *, now: float) -> Line:
    """Return the line of a new session: the one response that creates it hands out the one branch there is."""
    return Line(head=branch, first_seen=now, candidates=(branch,))
