"""`sessile move`, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")

from sessile import Sessions
from sessile.core.bridge import drive
from sessile.core.keys import KeyRing, generate
from sessile.core.record import Record
from sessile.core.sealing import SealedCodec
from sessile.legacy import FlaskCookie
from sessile.stores import open_store
from sessile.testing.store_contract import new_id, new_record
from tests.cli.conftest import Call


def filled(path: Path, count: int) -> list[str]:
    """Make a store with sessions in it and return their ids."""

    async def work() -> list[str]:
        store = open_store(f"sqlite:///{path}", blocking=False)
        ids = [new_id() for _ in range(count)]
        for number, sid in enumerate(ids):
            await store.create(sid, new_record(f"user{number}", note="swordfish"))
        await store.close()
        return ids

    return asyncio.run(work())


def alive(url: str, ids: list[str], **options: Any) -> int:
    """Return how many of them are alive in a store."""

    async def work() -> int:
        store = open_store(url, blocking=False, **options)
        found = sum([isinstance(await store.load(sid), Record) for sid in ids])
        await store.close()
        return found

    return asyncio.run(work())


def test_all_sessions_move_and_a_second_run_has_nothing_to_do(sessile: Call, tmp_path: Path) -> None:
    ids = filled(tmp_path / "old.db", 30)
    old, new = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    said = sessile("move", old, new)
    assert (said.code, said.err) == (0, "")
    assert dict(said.rows[:2]) == {"moved": "30", "verified in the new store": "30"}
    assert "Nothing is left" in said.out
    assert (alive(old, ids), alive(new, ids)) == (0, 30)

    again = sessile("move", old, new, "--json")
    assert again.code == 0
    counted = json.loads(again.out)
    assert (counted["moved"], counted["wrong"], counted["left"]) == (0, 0, 0)


def test_what_arrives_may_be_sealed(sessile: Call, tmp_path: Path) -> None:
    """And go back; without the keys it is refused before anything moves."""
    keys = generate()
    ids = filled(tmp_path / "old.db", 3)
    old, new = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    refused = sessile("move", old, new, "--to-sealed", env={"SESSILE_KEYS": ""})
    assert (refused.code, refused.out) == (2, "")
    assert "SESSILE_KEYS" in refused.err
    assert sessile("move", old, new, "--to-sealed", env={"SESSILE_KEYS": keys}).code == 0
    assert alive(new, ids, codec=SealedCodec(KeyRing.parse(keys))) == 3
    assert alive(new, ids) == 0
    back = sessile("move", new, f"sqlite:///{tmp_path}/back.db", "--from-sealed", env={"SESSILE_KEYS": keys})
    assert back.code == 0
    assert alive(f"sqlite:///{tmp_path}/back.db", ids) == 3


def test_a_store_that_cannot_be_read_is_not_said_to_be_empty(sessile: Call, tmp_path: Path) -> None:
    """Who forgets --from-sealed would drop a store with everybody in it."""
    keys, old, new = generate(), f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    ids = filled(tmp_path / "plain.db", 3)
    assert sessile("move", f"sqlite:///{tmp_path}/plain.db", old, "--to-sealed", env={"SESSILE_KEYS": keys}).code == 0
    said = sessile("move", old, new)
    assert said.code == 1
    assert ["not readable", "3"] in said.rows
    assert ["still alive in the old store", "3"] in said.rows
    assert "--from-sealed" in said.err
    assert "Nothing is left" not in said.out + said.err
    assert sessile("move", old, new, "--from-sealed", env={"SESSILE_KEYS": generate()}).code == 1
    assert sessile("move", old, new, "--from-sealed", env={"SESSILE_KEYS": keys}).code == 0
    assert alive(new, ids) == 3


def test_a_move_onto_itself_is_refused_however_the_store_is_spelled(sessile: Call, tmp_path: Path) -> None:
    """In one line, and before anything moves."""
    ids = filled(tmp_path / "old.db", 3)
    said = sessile("move", f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/./old.db")
    assert (said.code, said.out) == (2, "")
    assert "the same store" in said.err
    assert alive(f"sqlite:///{tmp_path}/old.db", ids) == 3


def test_a_move_back_says_what_it_held_back(sessile: Call, tmp_path: Path) -> None:
    """A fresh place takes them all."""
    ids = filled(tmp_path / "old.db", 3)
    old, new = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    assert sessile("move", old, new).code == 0
    said = sessile("move", new, old)
    assert said.code == 1
    assert ["held back: they left the new store before", "3"] in said.rows
    assert alive(new, ids) == 3
    assert sessile("move", new, f"sqlite:///{tmp_path}/fresh.db").code == 0
    assert alive(f"sqlite:///{tmp_path}/fresh.db", ids) == 3


def test_a_store_before_which_bridges_stand_is_not_left_by_accident(sessile: Call, tmp_path: Path) -> None:
    """What was adopted is remembered by marks that do not move: a stolen old cookie would open a session again."""
    bridge = FlaskCookie(secret_key="an old key", until="2099-01-01")
    shop = Sessions(f"sqlite:///{tmp_path}/old.db", legacy=[bridge], sinks=())
    assert shop.engine.adoption is not None
    drive(shop.engine.adoption.shutouts.say_that_bridges_stand())
    shop.close()
    ids = filled(tmp_path / "old.db", 2)
    old, new = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    said = sessile("move", old, new)
    assert (said.code, said.out) == (2, "")
    assert "bridges" in said.err
    assert alive(old, ids) == 2
    assert sessile("move", old, new, "--old-cookies-may-be-adopted-again").code == 0
    assert alive(new, ids) == 2


@pytest.mark.parametrize(
    "source", ["memcached://127.0.0.1:1", "cookie://", "moving://?from=sqlite:///x&to=sqlite:///y"]
)
def test_what_cannot_take_part_is_told_so_and_not_asked(sessile: Call, tmp_path: Path, source: str) -> None:
    """Whether or not its servers answer."""
    said = sessile("move", source, f"sqlite:///{tmp_path}/a.db")
    assert said.code == 2
    assert "cannot take part in a move" in said.err or "between stores that list theirs" in said.err


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite:///{0}/a.db", "sqlite:///{0}/a.db"),
        ("memory://", "sqlite:///{0}/a.db"),
        ("sqlite:///{0}/a.db", "cookie://"),
        ("nonsense", "sqlite:///{0}/a.db"),
        ("sqlite:///{0}/a.db", "redis://user:hunter2@127.0.0.1:1/0"),
    ],
)
def test_what_cannot_be_moved_is_said_in_one_line(sessile: Call, tmp_path: Path, source: str, target: str) -> None:
    started = time.monotonic()
    said = sessile("move", source.format(tmp_path), target.format(tmp_path))
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("sessile: ")
    assert said.err.count("\n") == 1
    assert "hunter2" not in said.err
    assert time.monotonic() - started < 30
    assert not (tmp_path / "a.db").exists()
