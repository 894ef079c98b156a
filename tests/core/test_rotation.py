"""The rotation rule, row by row of the table in its docstring."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sessile.core import rotation
from sessile.core.ids import Token
from sessile.core.record import SCHEMA, Control, Line, Superseded
from sessile.core.rotation import MAX_CANDIDATES, MAX_SUPERSEDED, Standing, begun, is_due, judge, rotated
from tests.support.requirements import requirement

GRACE = 30.0
A, B, C, D = b"aaaaaa", b"bbbbbb", b"cccccc", b"dddddd"
T = 1000.0


def at(generation: int, line: Line, previous: Line | None = None) -> Control:
    """Return the state of a session at this generation."""
    return Control(SCHEMA, 0.0, 0.0, 500.0, generation, line, previous)


def ask(control: Control, generation: int, branch: bytes, now: float = T) -> tuple[Standing, Control]:
    """Judge a token."""
    return judge(control, Token(b"s" * 20, generation, branch), now=now, grace=GRACE)


FRESH = at(5, Line(), Line(A, 100.0))
WINDOW = at(5, Line(B, T - 10, (B,)), Line(A, 100.0))
SETTLED = at(
    5,
    Line(B, T - 100, (), (Superseded(C, T - 20), Superseded(D, T - 60))),
    Line(A, 100.0, (), (Superseded(D, T - 10),)),
)


class TestPresentGeneration:
    """Tokens of generation g."""

    def test_the_first_one_seen_confirms_the_generation(self) -> None:
        """It is head and first candidate, and the time is noted."""
        standing, after = ask(FRESH, 5, B)
        assert standing is Standing.LIVE
        assert after.line == Line(B, T, (B,))
        assert after.previous == FRESH.previous

    def test_within_the_window_another_one_joins(self) -> None:
        """Nothing is decided, nobody is superseded."""
        standing, after = ask(WINDOW, 5, C)
        assert standing is Standing.LIVE
        assert after.line == Line(B, T - 10, (B, C))

    def test_within_the_window_known_ones_change_nothing(self) -> None:
        """The state is the very same object, so nothing is written."""
        both = replace(WINDOW, line=Line(B, T - 10, (B, C)))
        for branch in (B, C):
            assert ask(both, 5, branch) == (Standing.LIVE, both)
            assert ask(both, 5, branch)[1] is both

    @pytest.mark.parametrize("winner", [B, C, D])
    def test_the_first_request_after_the_window_settles_it(self, winner: bytes) -> None:
        """Its branch is the head, be it the first, another candidate or one never seen; the others are superseded."""
        both = replace(WINDOW, line=Line(B, T - 30.1, (B, C)))
        standing, after = ask(both, 5, winner)
        assert standing is Standing.LIVE
        assert after.line.head == winner
        assert after.line.candidates == ()
        assert {left.branch for left in after.line.superseded} == {B, C} - {winner}
        assert {left.at for left in after.line.superseded} == {T}

    def test_the_window_includes_its_last_moment(self) -> None:
        """At exactly the grace a newcomer still joins."""
        edge = replace(WINDOW, line=Line(B, T - GRACE, (B,)))
        assert ask(edge, 5, C)[1].line.candidates == (B, C)

    def test_the_head_lives_and_changes_nothing(self) -> None:
        """For as long as the session does."""
        for state in (SETTLED, replace(WINDOW, line=Line(B, T - 9999, (B,)))):
            assert ask(state, 5, B)[0] is Standing.LIVE
            assert ask(state, 5, B)[1] is state

    def test_one_never_seen_takes_over_and_the_old_head_is_superseded_now(self) -> None:
        """A sibling that waited in an idle jar; or a thief, which the next request of the other shows."""
        standing, after = ask(SETTLED, 5, A)
        assert standing is Standing.LIVE
        assert after.line.head == A
        assert after.line.superseded == (*SETTLED.line.superseded, Superseded(B, T))
        assert ask(after, 5, B, T + 30)[0] is Standing.IN_FLIGHT
        assert ask(after, 5, B, T + 30.1)[0] is Standing.REPLAY

    @requirement("R30")
    def test_a_superseded_one_lives_for_the_grace_and_is_a_replay_after(self) -> None:
        """C was left 20 s ago, D 60 s ago."""
        assert ask(SETTLED, 5, C) == (Standing.IN_FLIGHT, SETTLED)
        assert ask(SETTLED, 5, D) == (Standing.REPLAY, SETTLED)

    def test_in_the_window_more_branches_than_are_noted_live_on(self) -> None:
        """A storm does not end a session, nor make its record grow."""
        state = FRESH
        for number in range(MAX_CANDIDATES + 50):
            standing, state = ask(state, 5, number.to_bytes(6, "big"))
            assert standing is Standing.LIVE
        assert len(state.line.candidates) == MAX_CANDIDATES

    @requirement("R30")
    def test_hoarded_siblings_cannot_make_the_record_grow_without_end(self) -> None:
        """Shown one by one after the window, they are a replay at last; the head itself stays."""
        state, seen = WINDOW, []
        for number in range(MAX_SUPERSEDED + 10):
            standing, state = ask(state, 5, number.to_bytes(6, "big"), T + 100)
            seen.append(standing)
        assert len(state.line.superseded) == MAX_SUPERSEDED
        assert seen.count(Standing.REPLAY) == 10
        assert ask(state, 5, state.line.head, T + 100)[0] is Standing.LIVE


class TestPreviousGeneration:
    """Tokens of generation g-1, and older ones."""

    @requirement("R31")
    @pytest.mark.parametrize("later", [0.0, 100_000.0])
    def test_while_the_new_one_is_unconfirmed_its_head_lives_and_is_owed_a_sibling(self, later: float) -> None:
        """A dropped answer logs nobody out, however long ago it was."""
        assert ask(FRESH, 4, A, T + later) == (Standing.SUCCEEDED, FRESH)

    @requirement("R30")
    def test_one_never_seen_is_a_replay(self) -> None:
        """Its holder kept it back until the other line had moved on: nobody honest does."""
        assert ask(FRESH, 4, C)[0] is Standing.REPLAY

    def test_once_confirmed_it_is_in_flight_for_the_grace_and_then_a_replay(self) -> None:
        """Whether it was head or never seen."""
        for branch in (A, C):
            assert ask(WINDOW, 4, branch, T + 20)[0] is Standing.IN_FLIGHT
            assert ask(WINDOW, 4, branch, T + 20.1)[0] is Standing.REPLAY

    def test_what_was_superseded_within_it_keeps_its_own_time(self) -> None:
        """D was left 10 s ago, though the present generation was confirmed long since."""
        assert ask(SETTLED, 4, D)[0] is Standing.IN_FLIGHT
        assert ask(SETTLED, 4, D, T + 20.1)[0] is Standing.REPLAY
        assert ask(SETTLED, 4, A)[0] is Standing.REPLAY

    @requirement("R30")
    @pytest.mark.parametrize("generation", [0, 1, 3])
    @pytest.mark.parametrize("state", [FRESH, WINDOW, SETTLED])
    def test_older_ones_are_replays(self, generation: int, state: Control) -> None:
        """Two generations behind is never in flight."""
        assert ask(state, generation, A)[0] is Standing.REPLAY


@requirement("R51")
def test_a_newer_one_is_adopted_because_the_store_lost_writes() -> None:
    """Its generation and branch are the state now; the one from before lives for the grace."""
    standing, after = ask(SETTLED, 8, C)
    assert standing is Standing.ROLLED_BACK
    assert (after.generation, after.line, after.previous, after.rotated_at) == (8, Line(C, T, (C,)), None, T)
    assert ask(after, 7, A, T + 29)[0] is Standing.IN_FLIGHT
    assert ask(after, 7, A, T + 31)[0] is Standing.REPLAY
    assert ask(after, 5, B)[0] is Standing.REPLAY


@pytest.mark.parametrize(
    ("control", "loaded_at", "due"),
    [
        (at(0, Line(A, 500.0, (A,))), 1399.9, False),  # too young
        (at(0, Line(A, 500.0, (A,))), 1400.0, True),
        (at(1, Line(), Line(A, 1.0)), 9999.0, False),  # unconfirmed
        (at(1, Line(B, 1390.0, (B,)), Line(A, 1.0)), 1420.0, False),  # in its window, whatever the commit's time
        (at(1, Line(B, 1390.0, (B,)), Line(A, 1.0)), 1420.1, True),
    ],
)
def test_a_generation_begins_when_the_last_one_is_old_confirmed_and_settled(
    control: Control, loaded_at: float, due: bool
) -> None:
    """All three, by the time of the load."""
    assert is_due(control, loaded_at=loaded_at, interval=900.0, grace=GRACE) is due


def test_a_rotation_keeps_what_was_left_behind() -> None:
    """The next generation has been seen by nobody; the last one's line, superseded branches and all, is remembered."""
    after = rotated(SETTLED, now=T)
    assert (after.generation, after.rotated_at, after.line, after.previous) == (6, T, Line(), SETTLED.line)
    assert ask(after, 5, B)[0] is Standing.SUCCEEDED
    assert ask(after, 5, C)[0] is Standing.IN_FLIGHT
    assert ask(after, 5, D)[0] is Standing.REPLAY


def test_a_new_session_has_one_branch_and_it_is_confirmed() -> None:
    """The one answer that creates it hands out the only token there is."""
    assert begun(A, now=T) == Line(A, T, (A,))
    assert rotation.MAX_CANDIDATES < rotation.MAX_SUPERSEDED
