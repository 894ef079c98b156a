"""`sessile policy`."""

from __future__ import annotations

import json

import pytest

from sessile import Policy
from tests.cli.conftest import Call
from tests.support.requirements import requirement

PRESETS = {
    "aal1": Policy.aal1(),
    "aal2": Policy.aal2(),
    "aal3": Policy.aal3(),
    "high-value": Policy.high_value(),
}


@requirement("R41")
@pytest.mark.parametrize("preset", PRESETS)
def test_the_report_of_each_preset_is_printed_line_by_line(sessile: Call, preset: str) -> None:
    """What is printed is the policy's own report, for pipes and for machines."""
    report = PRESETS[preset].report()
    rows = sessile("policy", "--preset", preset).rows
    assert [row[1:] for row in rows] == [[one.what, one.value, one.advice, one.source] for one in report.lines]
    assert [row[0] == "ok" for row in rows] == [one.meets for one in report.lines]
    told = json.loads(sessile("policy", "--preset", preset, "--json").out)
    assert told["name"] == report.name
    assert [line["value"] for line in told["lines"]] == [one.value for one in report.lines]


@requirement("R34", "R41")
def test_a_preset_beyond_aal2_is_marked_where_it_departs(sessile: Call) -> None:
    """AAL1's month is no secret: its line carries the mark."""
    marked = {row[1] for row in sessile("policy", "--preset", "aal1").rows if row[0] == "!!"}
    assert {"absolute timeout", "idle timeout"} <= marked
    assert {row[0] for row in sessile("policy").rows} == {"ok"}
