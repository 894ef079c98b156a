"""What the tests of the command line share: a store with people in it, and the command line called in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from sessile import Sessions
from sessile.testing import Minted, mint_session


class Said(NamedTuple):
    """Hold what a command said, and how it exited."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """Return the cells of each line."""
        return [line.split("\t") for line in self.out.splitlines()]


Call = Callable[..., Said]

# A name that an attacker may choose when signing up: it drives terminals, forges rows and turns the text's direction.
HOSTILE = "mallory\x1b[2J\n0123456789\tadmin\u202e"


@pytest.fixture
def sessile(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call a command in this process."""
    pytest.importorskip("typer")
    from sessile.cli import main

    for name in ("SESSILE_STORE", "SESSILE_KEYS", "SESSILE_PRODUCTION", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str, env: Mapping[str, str] | None = None) -> Said:
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        code = stopped.value.code
        assert code is None or isinstance(code, int)
        return Said(code or 0, *capsys.readouterr())

    return call


class Shop(NamedTuple):
    """Hold an application's store and the sessions in it."""

    url: str
    folder: Path
    sessions: Sessions
    ann: Minted
    ann_again: Minted
    bob: Minted
    nobody: Minted


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Make a database with four sessions: two of Ann's, one of Bob's, one that is nobody's."""
    url = f"sqlite:///{tmp_path}/shop.db"
    sessions = Sessions(url, sinks=())
    ann = mint_session(sessions, "ann", factors=("password", "totp"), data={"cart": ["secret present"]})
    ann_again = mint_session(sessions, "ann")
    bob = mint_session(sessions, "bob")
    nobody = mint_session(sessions, data={"lang": "de"})
    return Shop(url, tmp_path, sessions, ann, ann_again, bob, nobody)
