"""`sessile doctor` sees the bridges of an application, and reminds of those that are over."""

from __future__ import annotations

import datetime as dt

import pytest

pytest.importorskip("typer")

from sessile import Sessions
from sessile.cli import targets
from sessile.cli.checks import examine
from sessile.legacy import FlaskCookie
from tests.core.rig import RING
from tests.legacy.peers import SECRET


def test_a_bridge_whose_deadline_has_passed_is_to_be_removed() -> None:
    """One that stands is in order, one that stands for long is looked at; the old secret is shown nowhere."""
    today = dt.datetime.now(dt.UTC).date()
    ends = {"over": -1, "stands": 30, "long": 400}
    bridges = [
        FlaskCookie(secret_key=SECRET, until=today + dt.timedelta(days=days), name=name) for name, days in ends.items()
    ]
    door = Sessions("memory://", keys=RING, legacy=bridges)
    found = {one.code: one for one in examine(targets.of_door(door)) if one.code.startswith("bridge")}
    assert {code: one.severity for code, one in found.items()} == {
        "bridge-over": "warn",
        "bridge-long": "warn",
        "bridge": "ok",
    }
    assert "over" in found["bridge-over"].found
    assert "Remove it" in found["bridge-over"].mend
    assert SECRET not in repr(found)
    door.close()
