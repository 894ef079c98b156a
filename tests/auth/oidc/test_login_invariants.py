"""The seven invariants, for sessions that a provider began: they are sessions like all others, in every framework."""

from __future__ import annotations

from typing import Any

import pytest

from sessile.auth.vault import Write
from sessile.errors import StoreUnavailable
from tests.auth.oidc.login_bench import FROM_ELSEWHERE, ISSUER, Bench, go, who
from tests.support.mounting import FRAMEWORKS, GUARDED, OPEN, PREFIX, served
from tests.support.requirements import requirement

every_framework = pytest.mark.parametrize("framework", FRAMEWORKS)
COOKIE = "__Host-id"
JSON = {"accept": "application/json", "sec-fetch-site": "same-origin"}


def holding(browser: Any, token: str) -> Any:
    """Return another browser with a stolen cookie."""
    thief = browser.another()
    thief.jar.set(COOKIE, token, domain="shop.example", path="/")
    return thief


@requirement("R25")
@every_framework
async def test_1_a_sign_in_is_a_rotation_and_the_old_token_is_dead(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = await browser.get(f"{PREFIX}/login/one")
        planted = browser.jar[COOKIE]
        answer = await browser.get(bench.op.authorize(there.headers["location"]), headers=FROM_ELSEWHERE)
        assert answer.status_code == 303
        assert browser.jar[COOKIE] != planted
        assert await who(browser) == f"{ISSUER}#ada"
        assert await who(holding(browser, planted)) is None


@requirement("R42", "R61")
@every_framework
async def test_2_the_end_is_final(framework: str) -> None:
    """Signed out here: the token that somebody copied before is dead, and so is the answer of the provider."""
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = await browser.get(f"{PREFIX}/login/one")
        answer = bench.op.authorize(there.headers["location"])
        await browser.get(answer)
        copied = browser.jar[COOKIE]
        assert (await browser.post(f"{PREFIX}/logout")).status_code == 303
        for path in (f"{PREFIX}/me", answer):
            await holding(browser, copied).get(path)
        assert await who(holding(browser, copied)) is None
        assert await who(browser) is None


@requirement("R19")
@every_framework
async def test_3_no_answer_of_the_way_may_be_kept(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = await browser.get(f"{PREFIX}/login/one")
        back = await browser.get(bench.op.authorize(there.headers["location"]))
        me = await browser.get(f"{PREFIX}/me")
        for answer in (there, back, me):
            assert "no-store" in answer.headers["cache-control"]


@requirement("R45")
@every_framework
async def test_4_an_outage_of_the_vault_signs_nobody_in(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = await browser.get(f"{PREFIX}/login/one")
        vault = bench.sign_on.ground.vault
        write = vault.write

        async def fail(*_: Write) -> bool:
            raise StoreUnavailable("down")

        vault.write = fail
        assert (await browser.get(bench.op.authorize(there.headers["location"]))).status_code == 503
        vault.write = write
        assert await who(browser) is None


@requirement("R88")
@every_framework
async def test_5_a_sign_in_that_waits_for_a_factor_opens_nothing(framework: str) -> None:
    bench = Bench(second_factor=True)
    async with served(framework, bench.site) as browser:
        user = f"{ISSUER}#ada"
        await bench.sign_on.ground.vault.write(Write("totp:" + "a" * 40, b"an authenticator", 0, user))
        await go(browser, bench.op)
        assert (await browser.get(f"{PREFIX}/me")).json() == {"user": None, "aal": 0, "kind": "pending"}
        refused = await browser.get(GUARDED, headers=JSON)
        assert refused.status_code in (401, 403)
        assert OPEN not in refused.text


@requirement("R53", "R22")
@every_framework
async def test_6_an_answer_belongs_to_the_browser_that_asked(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as browser:
        there = await browser.get(f"{PREFIX}/login/one")
        answer = bench.op.authorize(there.headers["location"])
        other = browser.another()
        assert (await other.get(answer, headers=FROM_ELSEWHERE)).status_code == 400
        assert await who(other) is None
        assert (await browser.get(answer, headers=FROM_ELSEWHERE)).status_code == 303


@every_framework
async def test_7_no_request_sees_another_user(framework: str) -> None:
    bench = Bench()
    async with served(framework, bench.site) as ada:
        eve = ada.another()
        first = await ada.get(f"{PREFIX}/login/one")
        second = await eve.get(f"{PREFIX}/login/one")
        bench.op.changes = {"sub": "eve"}
        await eve.get(bench.op.authorize(second.headers["location"]))
        bench.op.changes = {}
        await ada.get(bench.op.authorize(first.headers["location"]))
        for _ in range(3):
            assert (await who(ada), await who(eve)) == (f"{ISSUER}#ada", f"{ISSUER}#eve")
