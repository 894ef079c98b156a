"""The simulation that the documentation shows runs, and the page shows what it computed."""

from __future__ import annotations

import json
import random

import pytest

from tests.support.requirements import requirement
from tools.rotation_simulation import BEGIN, END, PAGE, SCHEMES, THIEVES, Round, as_markdown, browses, simulate

pytestmark = pytest.mark.tree


@requirement("R29", "R30", "R31")
def test_the_engines_rule_ends_no_honest_session_and_every_theft() -> None:
    """A small run of the simulation has zeros in our row, and not in the others'."""
    table = simulate(20, 10, seed=3)
    assert set(table["settling"].values()) == {0}
    assert table["previous"]["honest, 15% lost"] > 10
    assert table["repeated"]["both poll in step"] == 10


def test_a_round_is_repeatable() -> None:
    """The same seed gives the same story, under every scheme."""
    for _, make in SCHEMES.values():
        told = [Round(make(), random.Random("x"), 0.15).run(browses("victim")) for _ in range(2)]
        assert told[0] == told[1]


def test_the_page_shows_the_numbers_that_were_computed() -> None:
    """The table in the page is the one in the data beside it."""
    numbers = json.loads(PAGE.with_suffix(".json").read_text())
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == as_markdown(numbers["table"], numbers["rounds"], numbers["thefts"])
    assert set(numbers["table"]["settling"].values()) == {0}
    assert len(numbers["table"]["settling"]) == len(THIEVES) + 3
