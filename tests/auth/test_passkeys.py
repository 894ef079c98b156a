"""Passkeys as an application uses them: registered, listed, renamed, removed; the only factor and a further one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.auth.passkeys import SCRIPT, AsyncPasskeys, Passkeys, Proved, Refused, rules
from sessile.auth.passkeys.rules import Rules
from sessile.errors import ConfigurationError, NotByToken, StepUpRequired, StoreSchema, StoreUnavailable
from tests.auth.passkey_bench import ORIGIN, OTHER_ORIGIN, RP, PasskeyBench
from tests.auth.token_bench import done
from tests.support.authenticator import (
    BE,
    BS,
    EDDSA,
    ES256,
    ML_DSA_44,
    RS256,
    UP,
    UV,
    Authenticator,
    bytes_of,
    text_of,
)
from tests.support.requirements import requirement

DOORS = [(kind, blocking) for kind in ("memory", "sqlite") for blocking in (True, False)]


@pytest.fixture(params=DOORS, ids=lambda one: f"{one[0]}-{'blocking' if one[1] else 'async'}")
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PasskeyBench]:
    """Return a bench on each vault and store, behind each door."""
    kind, blocking = request.param
    if kind == "memory":
        made = PasskeyBench(blocking=blocking)
    else:
        made = PasskeyBench(f"sqlite:///{tmp_path}/s.db", f"sqlite:///{tmp_path}/v.db", blocking=blocking)
    yield made
    await made.close()


def small(**options: Any) -> PasskeyBench:
    """Return a bench in memory, behind the blocking door."""
    return PasskeyBench(**options)


async def enrolled(bench: PasskeyBench, key: Authenticator, user: str = "ada") -> Any:
    """Sign a user in, register a key, and return the browser."""
    browser = bench.browser()
    await browser.login(user)
    assert not isinstance(await browser.register(key), Refused)
    bench.events.clear()
    return browser


# -- the only factor ---------------------------------------------------------------------------------------------------


@requirement("R93")
@pytest.mark.parametrize("algorithm", [ML_DSA_44, EDDSA, ES256, RS256])
async def test_a_key_is_registered_and_signs_in(bench: PasskeyBench, algorithm: int) -> None:
    """Without a name, and with one; its time of last use is kept."""
    browser, key = bench.browser(), Authenticator(algorithm)
    await browser.login()
    made = await browser.register(key, label="  My\n laptop ")
    assert (made.label, made.kind, made.algorithm, made.used_at) == ("My laptop", "passkey", algorithm, None)
    [added] = bench.told("passkey-added")
    assert (added.user, added.kind, added.algorithm, added.synced) == ("ada", "passkey", algorithm, False)
    for user in (None, "ada"):
        bench.clock.advance(10)
        other = bench.browser()
        proved = await other.sign_in(key, user=user)
        assert isinstance(proved, Proved)
        assert (proved.user, proved.factor, proved.complete) == ("ada", "passkey", True)
        assert proved.passkey.used_at == bench.clock()
        session = await other.open()
        assert (session.user_id, session.aal) == ("ada", 2)
        assert "_sessile_passkeys" not in session
    [listed] = await bench.keys()
    assert (listed.id, listed.used_at, listed.created_at) == (made.id, bench.clock(), bench.clock() - 20)
    assert bench.told("passkey-refused") == []


@requirement("R89")
async def test_a_hardware_key_reaches_aal3(bench: PasskeyBench) -> None:
    """If it is one device, outside of the computer, and verified its user; a synchronised one is not."""
    key = Authenticator(attachment="cross-platform")
    await enrolled(bench, key)
    browser = bench.browser()
    assert (await browser.sign_in(key)).factor == "security-key"
    assert (await browser.open()).aal == 3
    synced = Authenticator(attachment="cross-platform", flags=UP | UV | BE | BS)
    await enrolled(bench, synced, "bob")
    browser = bench.browser()
    assert (await browser.sign_in(synced)).factor == "passkey"
    assert (await browser.open()).aal == 2


@requirement("R89")
async def test_a_touch_without_verification_is_one_factor() -> None:
    """It leaves the session pending, and touching it again, or another key, changes nothing."""
    bench = small(verification="preferred")
    key = Authenticator(flags=UP, attachment="cross-platform")
    await enrolled(bench, key)
    browser = bench.browser()
    proved = await browser.sign_in(key)
    assert (proved.factor, proved.complete) == ("touch", False)
    session = await browser.open()
    assert (session.user_id, session.pending_user_id, session.aal) == (None, "ada", 0)
    again = await browser.step_up(key)
    assert (again.factor, again.complete) == ("touch", False)
    assert await browser.user() is None
    session = await browser.open()
    session.add_factor("password")
    await browser.commit(session)
    assert (await browser.open()).aal == 2


@requirement("R90")
async def test_a_key_completes_a_pending_sign_in(bench: PasskeyBench) -> None:
    """As the second factor after a password; the session gets another token."""
    key = Authenticator()
    await enrolled(bench, key)
    browser = bench.browser()
    await browser.login(pending=True)
    before = browser.cookie
    proved = await browser.step_up(key)
    assert (proved.user, proved.factor, proved.complete) == ("ada", "passkey", True)
    assert browser.cookie != before
    session = await browser.open()
    assert (session.user_id, session.aal, [one.name for one in session.factors]) == ("ada", 2, ["password", "passkey"])


async def test_a_key_steps_up_after_its_time_is_over(bench: PasskeyBench) -> None:
    """What asks for a fresh proof opens again."""
    key = Authenticator()
    browser = await enrolled(bench, key)
    bench.clock.advance(600)
    with pytest.raises(StepUpRequired):
        (await browser.open()).require(max_age=300)
    await browser.step_up(key)
    assert (await browser.open()).require(factor="passkey", max_age=300) == "ada"


async def test_nobody_steps_up_who_is_nobody(bench: PasskeyBench) -> None:
    """Who has not begun to sign in is told to."""
    for verb, arguments in (("begin_step_up", ()), ("finish_step_up", ("{}",))):
        with pytest.raises(StepUpRequired, match="login"):
            await bench.browser().run(verb, *arguments)


# -- what pages are given ----------------------------------------------------------------------------------------------


@requirement("R93")
async def test_the_options_of_a_new_key(bench: PasskeyBench) -> None:
    """Algorithms in order, the best first; a random handle; the keys there are, excluded."""
    key = Authenticator()
    browser = await enrolled(bench, key)
    options = json.loads(await browser.run("begin_registration", name="ada@example", display_name="Ada"))
    assert [one["alg"] for one in options["pubKeyCredParams"]] == [ML_DSA_44, EDDSA, ES256, RS256]
    assert options["rp"] == {"id": RP, "name": "Example"}
    assert (options["user"]["name"], options["user"]["displayName"]) == ("ada@example", "Ada")
    assert bytes_of(options["user"]["id"]) == key.handle
    assert len(bytes_of(options["user"]["id"])) == len(bytes_of(options["challenge"])) == 32
    [excluded] = options["excludeCredentials"]
    assert excluded == {"type": "public-key", "id": text_of(key.credential), "transports": ["internal"]}
    chosen = options["authenticatorSelection"]
    assert chosen == {"residentKey": "required", "requireResidentKey": True, "userVerification": "required"}
    assert (options["attestation"], options["timeout"]) == ("none", 300_000)


@requirement("R93")
async def test_the_handle_stays_and_tells_nothing(bench: PasskeyBench) -> None:
    """One for each user, random, the same for all keys."""
    browser = await enrolled(bench, first := Authenticator())
    await browser.register(second := Authenticator())
    await enrolled(bench, third := Authenticator(), "bob")
    assert first.handle == second.handle != third.handle
    assert b"ada" not in first.handle


@requirement("R93")
async def test_the_options_of_a_sign_in(bench: PasskeyBench) -> None:
    """Nobody is named: any key. Somebody is: their keys, and of who has none, options that look alike and stay."""
    key = Authenticator()
    await enrolled(bench, key)
    browser = bench.browser()
    free = json.loads(await browser.run("begin_sign_in"))
    assert (free["allowCredentials"], free["rpId"], free["userVerification"]) == ([], RP, "required")
    [known] = json.loads(await browser.run("begin_sign_in", user="ada"))["allowCredentials"]
    assert bytes_of(known["id"]) == key.credential
    strange = [json.loads(await browser.run("begin_sign_in", user="eve"))["allowCredentials"] for _ in range(2)]
    other = json.loads(await browser.run("begin_sign_in", user="mallory"))["allowCredentials"]
    assert strange[0] == strange[1] != other
    assert strange[0][0].keys() == known.keys()
    assert len(bytes_of(strange[0][0]["id"])) == 32


async def test_a_session_holds_few_challenges(bench: PasskeyBench) -> None:
    """Several tabs work, and asking on and on does not fill the session."""
    key = Authenticator()
    await enrolled(bench, key)
    browser = bench.browser()
    asked = [await browser.run("begin_sign_in") for _ in range(6)]
    assert len((await browser.open())["_sessile_passkeys"]) == 4
    assert await browser.run("finish_sign_in", key.get(asked[0], origin=ORIGIN)) is Refused.STALE
    assert isinstance(await browser.run("finish_sign_in", key.get(asked[3], origin=ORIGIN)), Proved)


async def test_several_origins_are_exact(bench: PasskeyBench) -> None:
    """Each of those that are allowed, and none beside."""
    key = Authenticator()
    await enrolled(bench, key)
    assert isinstance(await bench.browser().sign_in(key, origin=OTHER_ORIGIN), Proved)
    for wrong in ("https://id.example:8443", "http://id.example", "https://shop.id.example", "https://id.example/"):
        assert await bench.browser().sign_in(key, origin=wrong) is Refused.REFUSED
        assert bench.why() == "response"


# -- a user's keys -----------------------------------------------------------------------------------------------------


@requirement("R90")
async def test_keys_are_added_and_removed_by_who_proved_it_just_now(bench: PasskeyBench) -> None:
    """Five minutes later, the session must prove more first; renaming needs a session."""
    key = Authenticator()
    browser = await enrolled(bench, key)
    [kept] = await bench.keys()
    bench.clock.advance(301)
    for verb, arguments in (("begin_registration", {"name": "ada"}), ("remove", {"key": kept.id})):
        with pytest.raises(StepUpRequired, match="age"):
            await browser.run(verb, **arguments)
    assert await browser.run("rename", kept.id, "Old laptop")
    assert [one.label for one in await bench.keys()] == ["Old laptop"]
    stranger = bench.browser()
    pending = bench.browser()
    await pending.login(pending=True)
    for one in (stranger, pending):
        for verb, arguments in (("begin_registration", {"name": "x"}), ("rename", {"key": kept.id, "label": "x"})):
            with pytest.raises(StepUpRequired):
                await one.run(verb, **arguments)
        with pytest.raises(StepUpRequired):
            await one.run("finish_registration", "{}")


@requirement("R90")
async def test_who_has_a_key_proves_it_before_there_is_another(bench: PasskeyBench) -> None:
    """A password alone neither adds one nor removes one; it did while there was nothing else."""
    browser, key = bench.browser(), Authenticator()
    await browser.login(factor="password")
    options = await browser.run("begin_registration", name="ada")
    made = await browser.run("finish_registration", key.create(options, origin=ORIGIN))
    for verb, arguments in (("begin_registration", {"name": "ada"}), ("remove", {"key": made.id})):
        with pytest.raises(StepUpRequired, match="aal"):
            await browser.run(verb, **arguments)
    with pytest.raises(StepUpRequired, match="aal"):
        await browser.run("finish_registration", Authenticator().create(options, origin=ORIGIN))
    await browser.step_up(key)
    assert await browser.run("remove", made.id)


async def test_who_began_in_time_may_take_the_challenges_time(bench: PasskeyBench) -> None:
    """Four minutes after a proof of four minutes ago."""
    browser, key = bench.browser(), Authenticator()
    await browser.login()
    bench.clock.advance(290)
    options = await browser.run("begin_registration", name="ada")
    bench.clock.advance(290)
    assert not isinstance(await browser.run("finish_registration", key.create(options, origin=ORIGIN)), Refused)


@requirement("R63")
async def test_adding_or_removing_a_key_ends_the_other_sessions(bench: PasskeyBench) -> None:
    """Of this user, not of others, and not the one that did it; renaming ends none."""
    key = Authenticator()
    await enrolled(bench, Authenticator(), "bob")
    bob, mine = bench.browser(), bench.browser()
    await bob.login("bob")
    await mine.login()

    async def other_lives_after(verb: str, *given: Any, **named: Any) -> bool:
        other = bench.browser()
        await other.login()
        await getattr(mine, verb)(*given, **named)
        assert (await mine.user(), await bob.user()) == ("ada", "bob")
        return await other.user() == "ada"

    assert not await other_lives_after("register", key)
    [kept] = await bench.keys()
    assert await other_lives_after("run", "rename", kept.id, "x")
    assert not await other_lives_after("run", "remove", kept.id)
    assert [event.user for event in bench.told("passkey-removed")] == ["ada"]
    changed = [(event.user, event.factor, event.what) for event in bench.told("factor-changed")]
    assert changed[-2:] == [("ada", "passkey", "added"), ("ada", "passkey", "removed")]
    assert await bench.browser().sign_in(key) is Refused.REFUSED
    assert bench.why() == "unknown"


async def test_nobody_touches_another_users_keys(bench: PasskeyBench) -> None:
    """Nor what is no name of a key."""
    await enrolled(bench, Authenticator())
    [kept] = await bench.keys()
    eve = bench.browser()
    await eve.login("eve")
    for name in (kept.id, "0" * 40, "", "x" * 40, kept.id.upper(), kept.id + "\n"):
        assert not await eve.run("rename", name, "mine")
        assert not await eve.run("remove", name)
    assert await bench.keys() == (kept,)


async def test_a_user_has_twenty_keys_at_most(bench: PasskeyBench) -> None:
    """The twenty-first is told so."""
    browser = bench.browser()
    await browser.login()
    for _ in range(rules.MAX_KEYS):
        assert not isinstance(await browser.register(Authenticator()), Refused)
    assert await browser.register(Authenticator()) is Refused.FULL
    assert bench.why() == "full"
    assert len(await bench.keys()) == rules.MAX_KEYS


@requirement("R99")
async def test_forgetting_a_user_forgets_the_keys(bench: PasskeyBench) -> None:
    """Nothing of the user stays in the vault."""
    key = Authenticator()
    await enrolled(bench, key)
    assert await bench.ground.vault.forget_user("ada") == 2
    assert await bench.browser().sign_in(key) is Refused.REFUSED
    assert await bench.keys() == ()


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"rp_id": ""},
        {"rp_id": "https://id.example"},
        {"rp_id": "id.example:443"},
        {"rp_id": "Id.example"},
        {"rp_id": "127.0.0.1"},
        {"rp_id": "-id.example"},
        {"rp_name": ""},
        {"origins": []},
        {"origins": ORIGIN},
        {"origins": ["http://id.example"]},
        {"origins": ["https://id.example/"]},
        {"origins": ["https://evil.example"]},
        {"origins": ["https://evilid.example"]},
        {"origins": ["https://user@id.example"]},
        {"origins": ["https://id.example:port"]},
        {"verification": "maybe"},
        {"discoverable": "never"},
    ],
)
async def test_wrong_settings_are_told_at_start(wrong: dict[str, Any]) -> None:
    """Before anybody makes a key that works nowhere, or that another site can ask for."""
    with pytest.raises(ConfigurationError):
        small(**wrong)


async def test_a_door_is_for_its_own_sessions() -> None:
    """The other one would block, or wait for nobody."""
    for blocking, other in ((True, AsyncPasskeys), (False, Passkeys)):
        bench = small(blocking=blocking)
        with pytest.raises(ConfigurationError, match="other door"):
            other(bench.ground, rp_id=RP, rp_name="x", origins=[ORIGIN])


async def test_localhost_needs_no_tls() -> None:
    """For development; no other host."""
    Rules("localhost", "x", ("http://localhost:8000",)).check()


# -- rules -------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=400), st.sampled_from(["passkey", "security-key"]))
def test_any_name_is_one_line_of_its_bound(label: str, kind: Any) -> None:
    """And is the same when it is cleaned again."""
    found = rules.clean(label, kind)
    assert 0 < len(found) <= rules.MAX_LABEL
    assert found.isprintable()
    assert rules.clean(found, kind) == found


@requirement("R93")
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_counter_grows_or_does_not_count(stored: int, came: int) -> None:
    """Zero after zero is an authenticator without one."""
    assert rules.is_clone(stored, came) == (came <= stored and (stored, came) != (0, 0))


@given(st.recursive(st.none() | st.text() | st.integers() | st.floats(), st.lists, max_leaves=20))
def test_what_is_no_challenge_is_none(stored: Any) -> None:
    """Whatever stands in the session's data."""
    assert rules.pending(stored, 1000.0) == []


@requirement("R93")
@given(st.floats(allow_nan=True), st.floats(allow_nan=True))
def test_a_challenge_lives_five_minutes_at_most(deadline: float, now: float) -> None:
    """Whatever its deadline says."""
    for one in rules.pending([["register", "x", deadline, ""]], now):
        assert now < one.deadline <= now + rules.LIFETIME


# -- what fails --------------------------------------------------------------------------------------------------------


class _Failing:
    def __init__(self, vault: Any) -> None:
        self.vault, self.fails = vault, ""

    def __getattr__(self, name: str) -> Any:
        if name == self.fails:
            raise StoreUnavailable("the vault is down")
        return getattr(self.vault, name)


@requirement("R45")
@pytest.mark.parametrize("verb", ["get", "write"])
async def test_a_vault_that_fails_signs_nobody_in(verb: str) -> None:
    """It is an error, never a refusal and never a success."""
    bench, key = small(), Authenticator()
    await enrolled(bench, key)
    failing = _Failing(bench.ground.vault)
    bench.ground.vault = failing  # type: ignore[assignment]
    browser = bench.browser()
    options = await browser.run("begin_sign_in")
    failing.fails = verb
    with pytest.raises(StoreUnavailable):
        await browser.run("finish_sign_in", key.get(options, origin=ORIGIN))
    assert await browser.user() is None


@requirement("R45")
async def test_an_item_that_cannot_be_read_signs_nobody_in() -> None:
    """Nor does one of another version."""
    bench, key = small(), Authenticator()
    await enrolled(bench, key)
    held: Any = bench.ground.vault
    [name] = [name for name in held._items if name.startswith("passkey:")]
    for spoiled in (b"\xc1", b"\x90", b"\x9e\x02" + held._items[name].value[2:]):
        held._items[name] = held._items[name]._replace(value=spoiled)
        with pytest.raises(StoreSchema):
            await bench.browser().sign_in(key)


async def test_an_access_token_signs_nobody_in(bench: PasskeyBench) -> None:
    """A session that one opened cannot become another one."""
    key = Authenticator()
    browser = await enrolled(bench, key)
    options = await browser.run("begin_step_up")
    session = await browser.open()
    session.grant = object()
    with pytest.raises(NotByToken):
        await done(bench.door.finish_step_up(session, key.get(options, origin=ORIGIN)))


def test_without_its_package_the_door_says_what_to_install() -> None:
    """Nothing else of Sessile needs it."""
    program = """
import sys
sys.modules["webauthn"] = None
import sessile, sessile.auth.ground
assert not any(name.startswith("sessile.auth.passkeys") for name in sys.modules)
try:
    import sessile.auth.passkeys
except sessile.errors.ExtraMissing as error:
    assert "sessile[passkeys]" in str(error), error
    print(error.extra)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "passkeys\n"


def test_the_page_script_comes_with_the_package() -> None:
    """It runs under a policy without inline code, and makes none."""
    text = SCRIPT.read_text(encoding="utf-8")
    assert not re.search(r"eval|innerHTML|new Function|setAttribute|document\.write|import\(", text)
