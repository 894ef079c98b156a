"""The command line sees the bridges: doctor those of an application, operators' verbs those of the store's."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

from sessile import Sessions
from sessile.cli import targets
from sessile.cli.app import app
from sessile.cli.checks import examine
from sessile.legacy import FlaskCookie
from tests.core.rig import RING, facts
from tests.legacy.own import OwnBridge
from tests.legacy.peers import SECRET
from tests.support.requirements import requirement


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


@requirement("R62", "R64")
@pytest.mark.parametrize("verb", [["end-user", "ada"], ["end-all", "--yes"]], ids=["user", "everybody"])
def test_an_operator_who_knows_the_store_alone_ends_what_was_not_adopted_yet(verb: list[str], tmp_path: Path) -> None:
    """The store says that bridges stand: a telephone that still holds an old cookie is not signed in by it."""
    own = OwnBridge({"laptop": {"user_id": "ada"}, "telephone": {"user_id": "ada"}, "other": {"user_id": "grace"}})
    url = f"sqlite:///{tmp_path}/sessions.db"
    door = Sessions(url, keys=RING, legacy=[own], sinks=())
    door.commit(door.open(facts(cookie="old=laptop")))
    done = CliRunner().invoke(app, ["sessions", *verb, "--store", url])
    assert done.exit_code == 0, done.output
    assert door.open(facts(cookie="old=telephone")).user_id is None
    assert door.open(facts(cookie="old=laptop")).user_id is None
    assert door.open(facts(cookie="old=other")).user_id == ("grace" if verb[0] == "end-user" else None)
    door.close()
