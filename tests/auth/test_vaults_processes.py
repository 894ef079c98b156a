"""What may be used once is used once, by however many processes at the same moment, on every vault that they share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sessile.auth.passkeys import Proved as KeyProved
from sessile.auth.vault import Item, Write, settle
from sessile.auth.vaults import open_vault
from sessile.core.bridge import drive
from tests.auth.factor_bench import FactorBench
from tests.auth.passkey_bench import ORIGIN, PasskeyBench
from tests.auth.racers import Line, race, shared_vault
from tests.core.rig import facts
from tests.support.authenticator import Authenticator
from tests.support.requirements import requirement

TURNS = 5
STEP = 60.0  # seconds between turns: each has a code of its own
pytestmark = pytest.mark.slow
kinds = pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])


def take_and_count(line: Line, url: str, keys: list[str]) -> None:
    """Take what can be had, and count with everybody else; tell how many it were."""
    vault = open_vault(url, blocking=True)
    drive(vault.get("k"))
    line.wait()
    taken = 0
    for key in keys:
        item = drive(vault.get(key))
        taken += item is not None and drive(vault.write(Write(key, None, item.version)))
        drive(settle(vault, "count", _one_more, now=0.0))
    line.tell(taken)
    drive(vault.close())


def _one_more(found: Item | None) -> tuple[None, Write]:
    return None, Write("count", str(int(found.value if found else b"0") + 1).encode(), 0)


@requirement("R91")
@kinds
def test_of_several_processes_one_takes_each_item(kind: str, tmp_path: Path) -> None:
    """Fifty items, three takers: fifty successes; and what they count together loses no step."""
    keys = [f"k{number}" for number in range(50)]
    with shared_vault(kind, tmp_path) as url:
        vault = open_vault(url, blocking=True)
        assert drive(vault.write(*(Write(key, b"", 0) for key in keys)))
        with race(take_and_count, *[(url, keys)] * 3) as running:
            assert sum(running.turn()) == 50
        counted = drive(vault.get("count"))
        assert counted is not None
        assert counted.value == b"150"
        drive(vault.close())


def use_codes(line: Line, url: str, codes: list[tuple[str, str]]) -> None:
    """Use each code for a pending sign-in; tell each time whether it was proved."""
    bench = FactorBench(vault=url)
    drive(bench.ground.vault.get("k"))
    for door, code in codes:
        bench.clock.advance(STEP)
        session = bench.sessions.open(facts(None))
        session.login("ada", pending=True)
        verb = bench.totp.verify if door == "totp" else bench.recovery.use
        line.wait()
        line.tell((type(verb(session, code)).__name__, session.is_authenticated))


@requirement("R91", "R92")
@kinds
async def test_of_processes_with_one_code_one_is_let_in(kind: str, tmp_path: Path) -> None:
    """With the code of an app, and with a recovery code; every time, and the others are signed in nowhere."""
    with shared_vault(kind, tmp_path) as url:
        bench = FactorBench(vault=url)
        browser = bench.browser()
        await browser.login()
        key = await bench.enrol(browser)
        saved = list(await browser.run(bench.recovery.generate))
        bench.clock.advance(-STEP)  # what enrolling took: the racers' clocks begin where this one began
        codes = []
        for turn in range(TURNS):
            codes += [("totp", bench.code(key, 2 * (2 * turn + 1))), ("recovery", saved[turn])]
        with race(use_codes, *[(url, codes)] * 3) as running:
            for turn in range(2 * TURNS):
                assert sorted(running.turn()) == [("Proved", True), *[("Refused", False)] * 2], codes[turn][0]
                for flow in (bench.totp.flow, bench.recovery.flow):
                    await flow.throttle.clear("ada")  # who lost does not have to wait in the next turn
        assert (await browser.run(_stock, bench)).left == 10 - TURNS
        await bench.close()


async def _stock(_session: Any, bench: FactorBench) -> Any:
    return bench.recovery.count("ada")


def finish(line: Line, url: str, folder: str, cookie: str, answers: list[str]) -> None:
    """Finish a sign-in with each answer; tell each time whether it was proved. No session is committed."""
    bench = PasskeyBench(f"sqlite:///{folder}/s.db?wait=60", url)
    browser = bench.browser()
    browser.cookie = cookie
    drive(bench.ground.vault.get("k"))
    for answer in answers:
        session = asyncio.run(browser.open())
        line.wait()
        line.tell(isinstance(bench.door.finish_sign_in(session, answer), KeyProved))


@requirement("R93")
@kinds
async def test_of_processes_with_one_challenge_one_is_let_in(kind: str, tmp_path: Path) -> None:
    """The same answer of the same key, of the same session: the vault alone decides, and one wins every time."""
    with shared_vault(kind, tmp_path) as url:
        bench = PasskeyBench(f"sqlite:///{tmp_path}/s.db?wait=60", url)
        key, owner, browser = Authenticator(step=0), bench.browser(), bench.browser()
        await owner.login()
        await owner.register(key)
        answers = [key.get(await browser.run("begin_sign_in"), origin=ORIGIN) for _ in range(4)]
        with race(finish, *[(url, str(tmp_path), browser.cookie, answers)] * 2) as running:
            for _ in answers:
                assert sorted(running.turn()) == [False, True]
        await bench.close()
