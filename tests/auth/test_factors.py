"""Passwords, TOTP, recovery codes and the throttle, as an application uses them and as attackers do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.auth.factors import AsyncFactors, Factors
from sessile.auth.passwords import Proved, Refused, Settings, Weak, common
from sessile.auth.passwords.rules import weakness
from sessile.auth.recovery import rules as recovery_rules
from sessile.auth.throttle import MOST_FAILURES, Held, Limits, wait_after
from sessile.auth.totp import codes
from sessile.auth.totp import rules as totp_rules
from sessile.auth.users import Account, Unusable, normal
from sessile.core.bearers import Grant
from sessile.errors import ConfigurationError, NotByToken, StepUpRequired, StoreSchema
from tests.auth.factor_bench import GOOD, FactorBench
from tests.auth.token_bench import done
from tests.support.requirements import requirement

DOORS = [(kind, blocking) for kind in ("memory", "sqlite") for blocking in (True, False)]
WRONG = "three mild herons over Kiel"
OTHER = "seven brisk otters below Ghent"


@pytest.fixture(params=DOORS, ids=lambda one: f"{one[0]}-{'blocking' if one[1] else 'async'}")
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FactorBench]:
    """Return a bench on each vault and store, behind each door."""
    kind, blocking = request.param
    if kind == "memory":
        made = FactorBench(blocking=blocking)
    else:
        made = FactorBench(f"sqlite:///{tmp_path}/s.db", f"sqlite:///{tmp_path}/v.db", blocking=blocking)
    yield made
    await made.close()


# -- passwords ---------------------------------------------------------------------------------------------------------


async def test_a_password_signs_in_and_another_does_not(bench: FactorBench) -> None:
    """By the login in any form of it; who is nobody gets the same answer."""
    user = await bench.account()
    browser = bench.browser()
    for login, password in (("ada@site.example", WRONG), ("nobody@site.example", GOOD), ("", GOOD), ("ada", "")):
        assert await browser.run(bench.passwords.sign_in, login, password) == Refused.REFUSED
    assert await browser.user() is None
    assert await browser.run(bench.passwords.sign_in, " ＡDA@site.example", GOOD) == Proved(user, True)
    assert await browser.user() == user
    assert [event.user for event in bench.told("proof-failed")] == [user, None, None, None]


async def test_unknown_names_cost_one_hash_as_known_ones_do(
    bench: FactorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same parameters: the time says nothing."""
    await bench.account()
    seen: list[str] = []
    flow = bench.passwords.flow
    real = flow._is
    monkeypatch.setattr(
        flow, "_is", lambda hashed, text: (seen.append(hashed.rsplit("$", 2)[0]), real(hashed, text))[1]
    )
    for login, password in (("ada@site.example", WRONG), ("nobody", WRONG), ("nobody", "x" * 5000)):
        await bench.browser().run(bench.passwords.sign_in, login, password)
    assert len(seen) == 3
    assert len(set(seen)) == 1


async def test_a_hash_is_renewed_when_its_parameters_change(tmp_path: Path) -> None:
    """At the next sign-in, and it goes on working."""
    vault = f"sqlite:///{tmp_path}/v.db"
    old = FactorBench(vault=vault)
    user = await old.account()
    new = FactorBench(vault=vault, settings=Settings(time=6, memory=7168, lanes=1))
    for _ in range(2):
        assert isinstance(await new.browser().run(new.passwords.sign_in, "ada@site.example", GOOD), Proved)
        [item] = await new.ground.vault.of_user(user, "password:")
        assert b"t=6" in item.value
    await old.close()
    await new.close()


@requirement("R63")
async def test_a_change_of_password_ends_the_other_sessions(bench: FactorBench) -> None:
    """And gives this one another token; the old password opens nothing."""
    user = await bench.account()
    here, there = bench.browser(), bench.browser()
    for browser in (here, there):
        await browser.run(bench.passwords.sign_in, "ada@site.example", GOOD)
    before = here.cookie
    assert await here.run(bench.passwords.change, "another long phrase indeed") is None
    assert here.cookie != before
    assert (await here.user(), await there.user()) == (user, None)
    assert await there.run(bench.passwords.sign_in, "ada@site.example", GOOD) == Refused.REFUSED
    [event] = bench.told("factor-changed")
    assert (event.user, event.factor, event.what) == (user, "password", "changed")


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", Weak.SHORT),
        ("a" * 14, Weak.SHORT),
        ("x" * 1025, Weak.LONG),
        ("a" * 40, Weak.COMMON),
        ("12345678901234567", Weak.COMMON),
        ("abcdefghijklmnopqr", Weak.COMMON),
        ("Passw0rd!!!!2024", Weak.COMMON),
        ("passwordpassword", Weak.COMMON),
        ("correct horse battery staple", Weak.COMMON),
        ("homelesspahomelesspa", Weak.COMMON),
        ("1G2w3e4r1g2w3e4r!!", Weak.COMMON),
        ("пароль-пароль-пароль", Weak.COMMON),
        ("liverpoolfc2024!!!", Weak.COMMON),
        ("liverpoolfc20241999!", None),
        ("ada@site.example", Weak.OBVIOUS),
        ("lovelace-ada@site.example", None),
        (GOOD, None),
        ("пароль из восьми слов", None),
    ],
)
def test_what_guessing_begins_with_is_no_password(password: str, why: Weak | None) -> None:
    """Length is what counts otherwise."""
    assert weakness(password, Settings(), ("ada@site.example", "Example")) == why


def test_the_ten_thousand_most_common_passwords_are_refused() -> None:
    """Each of them that is long enough to be one, whatever its case; they are those that Django distributes."""
    least = Settings(minimum=8)
    judged = {word: weakness(word.upper(), least) for word in common.listed()}
    assert len(judged) > 9_900
    assert sum(why is Weak.COMMON for why in judged.values()) > 3_000
    assert set(judged.values()) == {Weak.COMMON, Weak.SHORT}
    assert all(why is Weak.COMMON for word, why in judged.items() if len(word.upper()) >= 8)


def test_the_list_of_passwords_is_what_its_source_holds() -> None:
    """The tool makes the very file: nobody edited it by hand."""
    tool = pytest.importorskip("tools.common_passwords")
    assert frozenset(tool.chosen()) == common.listed()


@given(st.text(max_size=40), st.text(max_size=20))
def test_any_text_is_judged(password: str, context: str) -> None:
    """Without an error, and the same each time."""
    assert weakness(password, Settings(), (context,)) == weakness(password, Settings(), (context,))


# -- the throttle ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@requirement("R91")
async def test_brute_force_stops_within_the_limit_and_not_across_users(bench: FactorBench) -> None:
    """A hundred failures in a row lock the password, however patient the attacker and however many their networks."""
    user = await bench.account()
    other = await bench.account("bob@site.example")
    looked_at = 0
    for attempt in range(130):
        attacker = bench.browser(f"198.51.{attempt}.7")
        answer = await attacker.run(bench.passwords.sign_in, "ada@site.example", WRONG)
        if isinstance(answer, Held):
            assert answer.retry_after is None
            continue
        looked_at += 1
        held = await attacker.run(bench.passwords.sign_in, "ada@site.example", GOOD) if looked_at > 4 else None
        if looked_at in range(5, MOST_FAILURES):
            assert isinstance(held, Held)
            assert held.retry_after is not None
            bench.clock.advance(held.retry_after)
    assert looked_at == MOST_FAILURES
    assert await bench.browser().run(bench.passwords.sign_in, "ada@site.example", GOOD) == Held(None)
    assert await bench.browser().run(bench.passwords.sign_in, "bob@site.example", GOOD) == Proved(other, True)
    # Another factor of the locked user is open, and resets the password.
    browser = bench.browser()
    await browser.login(user, factor="passkey")
    assert await browser.run(bench.passwords.change, "another long phrase indeed") is None
    assert isinstance(await browser.run(bench.passwords.verify, "another long phrase indeed"), Proved)


@requirement("R91")
async def test_names_that_nobody_has_are_limited_alike(bench: FactorBench) -> None:
    """So that the limit does not tell who has an account."""
    await bench.account()
    for login in ("ada@site.example", "nobody@site.example"):
        got = [await bench.browser().run(bench.passwords.sign_in, login, WRONG) for _ in range(7)]
        assert got == [Refused.REFUSED] * 5 + [Held(1.0)] * 2


@requirement("R91")
async def test_one_network_tries_a_password_on_many_names_in_vain(tmp_path: Path) -> None:
    """Its own account does not buy it more; other networks go on, and time is what ends it."""
    bench = FactorBench(limits=Limits(source=10))
    await bench.account()
    attacker = bench.browser("198.51.100.7")
    for number in range(10):
        assert await attacker.run(bench.passwords.sign_in, f"user{number}", WRONG) == Refused.REFUSED
    held = await attacker.run(bench.passwords.sign_in, "ada@site.example", GOOD)
    assert isinstance(held, Held)
    assert isinstance(await bench.browser().run(bench.passwords.sign_in, "ada@site.example", GOOD), Proved)
    bench.clock.advance(held.retry_after or 0)
    for number in range(9):
        await attacker.run(bench.passwords.sign_in, f"user{number}", WRONG)
    assert isinstance(await attacker.run(bench.passwords.sign_in, "ada@site.example", GOOD), Proved)
    assert await attacker.run(bench.passwords.sign_in, "user20", WRONG) == Refused.REFUSED
    assert isinstance(await attacker.run(bench.passwords.sign_in, "user21", WRONG), Held)
    await bench.close()


def test_waiting_grows_and_is_bounded() -> None:
    """And limits that are none are refused."""
    waits = [wait_after(number, Limits()) for number in range(101)]
    assert waits[:8] == [0, 0, 0, 0, 0, 1, 2, 4]
    assert waits == sorted(waits)
    assert waits[-1] == 3600
    for wrong in (Limits(cap=101), Limits(cap=0), Limits(source=0), Limits(first=0), Limits(longest=float("nan"))):
        with pytest.raises(ConfigurationError):
            wrong.check()


# -- TOTP --------------------------------------------------------------------------------------------------------------

VECTORS = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]


@requirement("R91")
@pytest.mark.parametrize("vector", VECTORS)
def test_codes_are_those_of_rfc_6238(vector: tuple[int, str, str, str]) -> None:
    """Appendix B, with its three secrets."""
    at, *expected = vector
    digits = b"1234567890" * 7
    for algorithm, length, code in zip(("SHA1", "SHA256", "SHA512"), (20, 32, 64), expected, strict=True):
        assert codes.coder(digits[:length], algorithm, 8)(at // 30) == code  # type: ignore[arg-type]


@requirement("R91")
async def test_an_app_is_enrolled_and_completes_a_sign_in(bench: FactorBench) -> None:
    """What is not confirmed counts nothing; what is makes every later sign-in wait for a code."""
    user = await bench.account()
    browser = bench.browser()
    await browser.run(bench.passwords.sign_in, "ada@site.example", GOOD)
    shown = await browser.run(bench.totp.begin, account="ada: x@site")
    assert shown.key.replace(" ", "") not in repr(shown) + repr(await browser.open())
    parts = urlsplit(shown.uri)
    assert (parts.scheme, parts.netloc, parse_qs(parts.query)["issuer"]) == ("otpauth", "totp", ["Example"])
    parsed: Any = pyotp.parse_uri(shown.uri)
    assert (parsed.secret, len(parsed.byte_secret()), parsed.issuer) == (shown.key.replace(" ", ""), 20, "Example")
    assert shown.svg.startswith("<svg")
    assert await done(bench.totp.authenticators(user)) == ()
    assert await browser.run(bench.totp.confirm, "000000") == totp_rules.Refused.REFUSED
    made = await browser.run(bench.totp.confirm, bench.code(shown.key), label=" My\nphone ")
    assert made.label == "My phone"
    assert (await browser.open()).aal == 2
    other = bench.browser()
    assert await other.run(bench.passwords.sign_in, "ada@site.example", GOOD) == Proved(user, False)
    assert await other.user() is None
    assert await other.run(bench.totp.verify, bench.code(shown.key)) == totp_rules.Refused.REFUSED  # it confirmed
    assert (
        await other.run(bench.totp.verify, f" {bench.code(shown.key, 1)[:3]} {bench.code(shown.key, 1)[3:]}")
    ).complete
    assert ((await other.open()).user_id, (await other.open()).aal) == (user, 2)
    assert (await other.run(bench.totp.remove, made.id), await browser.user()) == (True, None)
    assert await done(bench.totp.authenticators(user)) == ()


@requirement("R91")
async def test_a_code_works_once_in_its_window_and_never_after(bench: FactorBench) -> None:
    """Of the step before, this one and the next; a later one taken kills the earlier."""
    browser = bench.browser()
    await browser.login()
    key = await bench.enrol(browser)
    for steps, right in ((-2, False), (2, False), (-1, True), (-1, False), (1, True), (0, False), (1, False)):
        answer = await browser.run(bench.totp.verify, bench.code(key, steps))
        assert (answer != totp_rules.Refused.REFUSED) is right, steps


@given(st.floats(0, 4e9), st.integers(-3, 3), st.integers(-1, 200_000_000))
def test_no_code_is_taken_twice(now: float, steps: int, last: int) -> None:
    """Whatever the clock: a step that was taken is not taken again, nor one outside of the window."""
    at = codes.coder(b"12345678901234567890", "SHA1", 6)
    step = int(now // 30) + steps
    if step >= 0:
        taken = totp_rules.taken_step(at(step), now, last, at)
        assert taken is None or (taken > last and abs(taken - now // 30) <= 1 and at(taken) == at(step))
        assert taken is None or totp_rules.taken_step(at(step), now, taken, at) in (None, *range(taken + 1, taken + 3))


async def test_another_users_app_and_a_changed_secret_open_nothing(bench: FactorBench) -> None:
    """A secret that was moved to another user in the vault fails closed (R45)."""
    ada, eve = bench.browser(), bench.browser()
    await ada.login("ada")
    await eve.login("eve")
    key = await bench.enrol(eve)
    assert await ada.run(bench.totp.verify, bench.code(key)) == totp_rules.Refused.REFUSED
    [item] = await bench.ground.vault.of_user("eve", "totp:")
    from sessile.auth.vault import Write

    await bench.ground.vault.write(Write("totp:moved:1", item.value, 0, "ada"))
    with pytest.raises(StoreSchema):
        await ada.run(bench.totp.verify, bench.code(key))


# -- recovery codes ----------------------------------------------------------------------------------------------------


@requirement("R92")
async def test_a_recovery_code_works_once_and_new_ones_replace_all(bench: FactorBench) -> None:
    """However it is typed; another user's opens nothing; few left are told."""
    user = await bench.account()
    browser = bench.browser()
    await browser.login(user)
    first = await browser.run(bench.recovery.generate)
    assert (len(set(first)), await done(bench.recovery.count(user))) == (10, (10, False))
    eve = bench.browser()
    await eve.login("eve", pending=True)
    assert await eve.run(bench.recovery.use, first[0]) == Refused.REFUSED
    other = bench.browser()
    await other.login(user, pending=True)
    used = await other.run(bench.recovery.use, first[0].lower().replace("-", " ").replace("0", "o").replace("1", "l"))
    assert (used.complete, used.left, used.low, await other.user()) == (True, 9, False, user)
    assert await other.run(bench.recovery.use, first[0]) == Refused.REFUSED
    for code in first[1:7]:
        used = await other.run(bench.recovery.use, code)
    assert (used.left, used.low, (await done(bench.recovery.count(user))).low) == (3, True, True)
    assert [(event.user, event.left) for event in bench.told("recovery-codes-low")] == [(user, 3)]
    second = await other.run(bench.recovery.generate)
    assert await browser.user() is None
    assert await other.run(bench.recovery.use, first[9]) == Refused.REFUSED
    assert (await other.run(bench.recovery.use, second[0])).left == 9


@given(st.binary(min_size=10, max_size=10))
def test_a_code_is_read_as_it_was_written(entropy: bytes) -> None:
    """With all its 80 bits."""
    plain = recovery_rules.typed(recovery_rules.code_of(entropy))
    assert plain is not None
    assert sum(
        recovery_rules.ALPHABET.index(one) << 5 * place for place, one in enumerate(reversed(plain))
    ) == int.from_bytes(entropy, "big")


# -- who may change factors --------------------------------------------------------------------------------------------


@requirement("R88", "R90")
@pytest.mark.parametrize("state", ["nobody", "pending", "old", "low"])
async def test_who_has_not_proved_enough_changes_no_factor(bench: FactorBench, state: str) -> None:
    """A pending session, an old one, one of a lower level than its user can reach, and nobody's."""
    owner = bench.browser()
    await owner.login()
    await bench.enrol(owner)
    browser = bench.browser()
    if state != "nobody":
        await browser.login(pending=state == "pending")
    if state == "old":
        session = await browser.open()
        session.add_factor("totp")
        await done(bench.sessions.commit(session))
        bench.clock.advance(301)
    before = [(item.key, item.version) for item in await bench.ground.vault.of_user("ada")]
    [app] = await done(bench.totp.authenticators("ada"))
    tried: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (bench.totp.begin, (), {"account": "ada"}),
        (bench.totp.remove, (app.id,), {}),
        (bench.recovery.generate, (), {}),
        (bench.recovery.remove, (), {}),
        (bench.passwords.change, ("another long phrase indeed",), {}),
        (bench.passwords.remove, (), {}),
        (bench.passwords.reset, ("another long phrase indeed",), {}),
    ]
    for verb, given_, named in tried:
        with pytest.raises(StepUpRequired):
            await browser.run(verb, *given_, **named)
    assert [(item.key, item.version) for item in await bench.ground.vault.of_user("ada")] == before


@requirement("R90")
async def test_an_access_token_changes_no_factor(bench: FactorBench) -> None:
    """However fresh the session is that gave it; and nothing is stored before it is refused."""
    owner = bench.browser()
    await owner.login()
    await bench.enrol(owner)
    await owner.run(_proved, "email")
    await owner.run(bench.totp.begin, account="ada")
    session = await owner.open()
    session.grant = Grant(session.id, session.base, "https://api.example", "app", frozenset())
    before = [(item.key, item.version) for item in await bench.ground.vault.of_user("ada")]
    tried: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (bench.totp.begin, (), {"account": "ada"}),
        (bench.totp.resume, (), {"account": "ada"}),
        (bench.totp.confirm, ("000000",), {}),
        (bench.recovery.generate, (), {}),
        (bench.recovery.remove, (), {}),
        (bench.passwords.change, ("another long phrase indeed",), {}),
        (bench.passwords.remove, (), {}),
        (bench.passwords.reset, ("another long phrase indeed",), {}),
    ]
    for verb, given_, named in tried:
        with pytest.raises(NotByToken):
            await done(verb(session, *given_, **named))
        assert [(item.key, item.version) for item in await bench.ground.vault.of_user("ada")] == before


async def _proved(session: Any, *names: str) -> None:
    for name in names:
        session.add_factor(name)


@requirement("R90")
async def test_a_forgotten_password_needs_the_mail_and_the_second_factor(bench: FactorBench) -> None:
    """Each proved in the last five minutes; the other sessions end."""
    user = await bench.account()
    owner = bench.browser()
    await owner.login(user)
    await bench.enrol(owner)
    for names in ((), ("email",), ("totp",), ("email", "password")):
        browser = bench.browser()
        await browser.login(user)
        await browser.run(_proved, *names)
        with pytest.raises(StepUpRequired):
            await browser.run(bench.passwords.reset, OTHER)
    browser = bench.browser()
    await browser.login(user, factor="email", pending=True)
    with pytest.raises(StepUpRequired):
        await browser.run(bench.passwords.reset, OTHER)
    await browser.run(_proved, "totp")
    bench.clock.advance(200)
    await browser.run(_proved, "email")
    bench.clock.advance(200)
    with pytest.raises(StepUpRequired):
        await browser.run(bench.passwords.reset, OTHER)
    await browser.run(_proved, "totp")
    assert await browser.run(bench.passwords.reset, "short") is Weak.SHORT
    assert await browser.run(bench.passwords.reset, OTHER) is None
    assert await browser.user() == user
    assert await owner.user() is None
    assert await bench.browser().run(bench.passwords.sign_in, "ada@site.example", OTHER) == Proved(user, False)


@requirement("R91")
async def test_an_enrolment_is_shown_again_until_it_is_confirmed(bench: FactorBench) -> None:
    """To the session that began it, and its user, while it can be confirmed."""
    browser = bench.browser()
    await browser.login()
    assert await browser.run(bench.totp.resume, account="ada") is None
    begun = await browser.run(bench.totp.begin, account="ada")
    assert await browser.run(bench.totp.resume, account="ada") == begun
    other = bench.browser()
    await other.login()
    assert await other.run(bench.totp.resume, account="ada") is None
    bench.clock.advance(901)
    assert await browser.run(bench.totp.resume, account="ada") is None


@requirement("R88")
async def test_the_first_factor_proved_again_completes_nothing(bench: FactorBench) -> None:
    """A pending sign-in waits for another one."""
    user = await bench.account()
    browser = bench.browser()
    await browser.login(user, pending=True)
    assert await browser.run(bench.passwords.verify, GOOD) == Proved(user, False)
    assert await browser.user() is None


@requirement("R96")
async def test_nothing_secret_is_told_or_kept_readable(bench: FactorBench) -> None:
    """In no event, no representation and no item of the vault."""
    user = await bench.account()
    browser = bench.browser()
    await browser.run(bench.passwords.sign_in, "ada@site.example", GOOD)
    key = await bench.enrol(browser)
    saved = await browser.run(bench.recovery.generate)
    await browser.run(bench.totp.verify, bench.code(key))
    await browser.run(bench.recovery.use, saved[0])
    await browser.run(bench.passwords.verify, WRONG)
    items = [item for item in await bench.ground.vault.of_user(user) if item.key.split(":")[0] not in ("user", "login")]
    kept = repr([tuple(item) for item in items])
    text = repr(bench.events) + " ".join(event.sentence() for event in bench.events) + kept
    secrets = [GOOD, WRONG, "ada@site.example", key.replace(" ", ""), bench.code(key), *saved]
    secrets += [one.replace("-", "") for one in saved]
    assert [one for one in secrets if one in text] == []


async def test_the_account_page_lists_what_a_user_has(bench: FactorBench) -> None:
    """Of this user only, with the time of last use."""
    user = await bench.account()
    browser = bench.browser()
    await browser.run(bench.passwords.sign_in, "ada@site.example", GOOD)
    await bench.enrol(browser)
    saved = await browser.run(bench.recovery.generate)
    await browser.run(bench.recovery.use, saved[0])
    door: Any = (Factors if bench.ground.blocking else AsyncFactors)(bench.ground)
    listed = await done(door.of(user))
    assert sorted(one.kind for one in listed) == ["password", "recovery", "totp"]
    assert {one.kind: one.name for one in listed}["recovery"] == "9 recovery codes"
    assert [one.kind for one in listed if one.used_at is None] == ["totp"]
    assert await done(door.of("eve")) == ()


# -- users -------------------------------------------------------------------------------------------------------------


async def test_a_login_is_one_users(bench: FactorBench) -> None:
    """In every form of it; removing a user removes what the vault holds of them."""
    made = await bench.users.create("Straße@site.example")
    assert isinstance(made, Account)
    assert await bench.users.create("STRASSE@site.example") == Unusable.TAKEN
    assert await bench.users.find("strasse@SITE.example") == made == await bench.users.get(made.id)
    for malformed in ("", " ", "a b", "a\u200bb", "\ud800", "x" * 255):
        assert await bench.users.create(malformed) == Unusable.MALFORMED
    assert await bench.users.remove(made.id)
    assert await bench.users.find("strasse@site.example") is None
    assert not await bench.users.remove(made.id)


@given(st.text())
def test_the_normal_form_is_one(login: str) -> None:
    """It is its own normal form."""
    text = normal(login)
    assert text is None or normal(text) == text
